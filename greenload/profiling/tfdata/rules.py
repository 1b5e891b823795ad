"""Rules that look for changes worth trying: each takes a measured dataset and gives a `Proposal`, or None.

No rule has a figure of its own: a proposal is run beside the dataset as it is, and only what that shows is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from greenload.energy.attribution.quantity import NEGLIGIBLE
from greenload.energy.figures import Figure
from greenload.profiling.advice import MEMORY_SHARE
from greenload.profiling.tfdata.calls import made_inside
from greenload.profiling.tfdata.counting import Counts
from greenload.profiling.tfdata.functions import has_operation, repeatable
from greenload.profiling.tfdata.graph import DALI_NODE, GROUPING, PASSIVE, STORES, Node, endless_repeat
from greenload.profiling.tfdata.rebuild import Builder
from greenload.profiling.tfdata.remarks import call_text
from greenload.system.frameworks import tf
from greenload.text import bytes_text

_WITHOUT_BATCHES = ("_dataset_from_directory", "_dataset_from_array")
"""Ends of the names of Keras's functions that give single samples with ``batch_size=None``."""
_AFTER = frozenset({"batch", "padded_batch", "prefetch", "shuffle", "cache", *PASSIVE})


@dataclass(frozen=True)
class MeasuredDataset:
    """What rules look at."""

    root: Node
    counts: Counts
    costs: Mapping[str, Figure]
    """CPU seconds per sample by step."""
    line: Sequence[Node]
    """The nodes from the source to the end, as far as they are one line back from the end."""
    free_bytes: float
    """Memory that is free."""
    drawn: frozenset[Node] = frozenset()
    """Nodes that draw from Python's or NumPy's random while they are traced."""


@dataclass(frozen=True)
class Proposal:
    """A change that may be worth making."""

    title: str
    detail: str
    expected_s: float
    """CPU seconds per sample that it could save at most: which to try first."""
    make: Callable[[Builder], tf.data.Dataset]
    """Builds the changed dataset."""


def main_line(root: Node) -> list[Node]:
    """The nodes back from the end as far as each has one input, in their order."""
    nodes = [root]
    while len(nodes[-1].inputs) == 1:
        nodes.append(nodes[-1].inputs[0])
    return nodes[::-1]


def _cost(dataset: MeasuredDataset, node: Node) -> float:
    """CPU seconds per sample of a node's rows."""
    names = [inner.name for inner in node.looked] or [node.name]
    return sum(dataset.costs[name].value or 0.0 for name in names if name in dataset.costs)


def _steady(dataset: MeasuredDataset, node: Node) -> bool:
    """Whether a node gives the same each time, also if its function is traced again."""
    return repeatable(node) and node not in dataset.drawn


def _made_inside(dataset: MeasuredDataset) -> set[Node]:
    """The nodes of the line that a library's function made on its own, up to the last: nothing can stand between.

    Of a method of ``Dataset`` that made several, all but the last.
    """
    ends = [index for index, node in enumerate(dataset.line) if made_inside(node.call)]
    parts = {before for before, after in pairwise(dataset.line) if before.call and before.call == after.call}
    return {*dataset.line[: ends[-1] + 1 if ends else 0], *parts}


def _keep(dataset: MeasuredDataset) -> Proposal | None:
    """A cache behind the last step that gives the same each time: what is before it then runs in the first epoch only.

    Shuffles before it go behind it, else they would give the same order for ever.
    """
    inside = _made_inside(dataset)
    kept = _cacheable(dataset, inside)
    if (
        not kept
        or any(node.kind in STORES for node in dataset.line[len(kept) :])
        or dataset.counts.epoch_elements is None
    ):
        return None
    after = next((i for i in reversed(range(len(kept))) if kept[i].kind in STORES), -1)
    samples = dataset.counts.epoch_elements * dataset.counts.samples_per_element
    while len(kept) > after + 1:  # a smaller element earlier, where the last one doesn't fit
        flow = dataset.counts.flows[kept[-1]]
        held = flow.bytes_per_element * flow.elements_per_sample * samples
        if held <= MEMORY_SHARE * dataset.free_bytes and _takes_cache(kept[-1], inside):
            break
        kept = kept[:-1]
    else:
        return None
    point = kept[-1]
    shuffles = [node for node in point.nodes() if node.kind == "shuffle"]
    buffer = max((int(node.parameters.get("buffer_size", 1)) for node in shuffles), default=0)
    later = any(node.kind == "shuffle" for node in dataset.line[dataset.line.index(point) :])
    advised = f"write .cache() behind {call_text(point)}{_order(shuffles, buffer, later)}"
    if point in inside:
        again = f".shuffle({buffer}) and .batch()" if shuffles else ".batch()"
        advised = (
            f"call {call_text(point)} with batch_size=None, shuffle=False, and write .cache() behind it, then {again}"
        )
    return Proposal(
        title=f"Cache what {(point.looked or (point,))[-1].row} gives",
        detail=f"{advised}: it holds {bytes_text(held)}, and nothing random is before it; the first epoch costs what it"
        " costs now",
        expected_s=sum(_cost(dataset, node) for node in (kept[after:] if after >= 0 else _all(point))),
        make=partial(_with_cache, dataset.root, point, buffer if shuffles and not later else None),
    )


def _cacheable(dataset: MeasuredDataset, inside: set[Node]) -> Sequence[Node]:
    """The nodes of the line up to the last one behind which a cache may stand; empty where there is none."""
    joined = [node for source in dataset.line[0].inputs for node in source.nodes()]
    # Without its shuffle a branch would pair with another one differently, or have other batches.
    if any(not _stable(dataset, node) or node.kind == "shuffle" or endless_repeat(node) for node in joined):
        return ()
    ends = (
        i
        for i, node in enumerate(dataset.line)
        if node.kind in GROUPING or endless_repeat(node) or not _stable(dataset, node)
    )
    kept = dataset.line[: next(ends, len(dataset.line))]
    while kept and not _takes_cache(kept[-1], inside):
        kept = kept[:-1]
    return kept


def _with_cache(root: Node, point: Node, buffer: int | None, builder: Builder) -> tf.data.Dataset:
    """The dataset with a cache behind a node, in place of the caches and shuffles before it.

    Args:
        root: the dataset.
        point: the node.
        buffer: elements in the buffer of a shuffle behind the cache; None for no shuffle.
        builder: builds it.
    """
    before = {id(node) for node in point.nodes()}

    def alter(node: Node, inputs: Sequence[Any]) -> Any:
        made = None
        if id(node) in before and (node.kind == "shuffle" or node.kind in STORES):
            made = inputs[0]
        if node is point:
            made = (builder.on(node, inputs) if made is None else made).cache()
            return made if buffer is None else made.shuffle(buffer, seed=0)
        return made

    return builder.build(root, alter)


def _order(shuffles: Sequence[Node], buffer: int, later: bool) -> str:
    """What becomes of the shuffles before a new cache: ``later`` where one behind it makes up for them."""
    libraries = dict.fromkeys(node.call.partition(" ")[0] for node in shuffles if node.call)
    if libraries:
        names = " and ".join(libraries)
        behind = "" if later else f", and write .shuffle({buffer}) behind it"
        return f"; {names} shuffles: pass it shuffle=False{behind}"
    if later:
        return ", without the shuffle before it, which the one behind it makes up for" if shuffles else ""
    return f", with shuffle({buffer}) behind it instead of before it" if shuffles else ""


def _takes_cache(node: Node, inside: set[Node]) -> bool:
    """Whether a cache may stand behind a node: one that only passes elements on is no place of its own.

    Nor behind a node inside a library's function, unless that function can leave out its batches.
    """
    if node in inside:
        return node.kind == "map" and node.call.partition(" ")[0].endswith(_WITHOUT_BATCHES)
    return len(node.inputs) > 1 or bool(node.looked) or node.kind not in (*PASSIVE, "shuffle", "prefetch")


def _all(node: Node) -> list[Node]:
    return [before for before in node.nodes() if not before.looked]


def _stable(dataset: MeasuredDataset, node: Node) -> bool:
    """Whether a node gives the same elements each time, in whatever order."""
    if node.looked:
        return all(repeatable(inner) for inner in node.looked) and _steady(dataset, node)
    moving = {"from_generator", "random", DALI_NODE, "data_service", "choose", "selector"}
    return node.known and node.kind not in moving and _steady(dataset, node)


def _vectorise(dataset: MeasuredDataset) -> Proposal | None:
    """A map directly before a batch, run on whole batches: one call a batch, where the numbers stay the same."""
    for before, node, after in zip(dataset.line, dataset.line[1:], dataset.line[2:], strict=False):
        if node.kind != "map" or after.kind != "batch" or node.call or not _steady(dataset, node):
            continue
        if not _slow_enough(dataset, node):
            continue

        def make(builder: Builder, before: Node = before, node: Node = node, after: Node = after) -> tf.data.Dataset:
            def alter(built: Node, inputs: Sequence[Any]) -> Any:
                if built is node:
                    return inputs[0]
                return _mapped(_anew(built, inputs[0]), node) if built is after else None

            _check_equal(builder, before, node, after)
            return builder.build(dataset.root, alter)

        return Proposal(
            title=f"Run {node.row} on batches",
            detail=f"put {call_text(node)} behind the batch: on samples, whole batches gave the same numbers, in one"
            " call a batch",
            expected_s=_cost(dataset, node),
            make=make,
        )
    return None


def _slow_enough(dataset: MeasuredDataset, node: Node) -> bool:
    return _cost(dataset, node) > NEGLIGIBLE * sum(figure.value or 0.0 for figure in dataset.costs.values())


def _mapped(dataset: tf.data.Dataset, node: Node) -> tf.data.Dataset:
    """A map's function, traced anew for batches."""
    calls = getattr(node.dataset, "_num_parallel_calls", None)
    return dataset.map(node.function._func, num_parallel_calls=calls)


def _check_equal(builder: Builder, before: Node, node: Node, after: Node) -> None:
    """Refuse a function that gives other numbers on a batch than on its rows.

    Raises:
        ValueError: it does, or it can't take batches.
    """
    import numpy as np

    rows = builder.build(before).take(2 * min(8, int(after.parameters["batch_size"]))).cache()
    size = min(8, int(after.parameters["batch_size"]))
    single = builder.on(node, [rows]).batch(size)
    whole = _mapped(rows.batch(size), node)
    tf.nest.assert_same_structure(single.element_spec, whole.element_spec)
    for sample, other in zip(single, whole, strict=True):
        pairs = zip(*(tf.nest.flatten(value, expand_composites=True) for value in (sample, other)), strict=True)
        for left, right in pairs:
            same = left.dtype == right.dtype and left.shape == right.shape
            exact = left.dtype == tf.string or not left.dtype.is_floating
            if not same or not (
                np.array_equal(left, right) if exact else np.allclose(left, right, rtol=1e-5, atol=1e-6)
            ):
                raise ValueError(f"{node.name} gives other numbers on a batch than on its rows")


def _normalise_later(dataset: MeasuredDataset) -> Proposal | None:
    """A last map that only turns uint8 into floats of the same shape: it can run on the device, which gets a quarter
    of the bytes."""
    maps = [node for node in dataset.line if node.kind not in _AFTER]
    if not maps or maps[-1].kind != "map" or maps[-1].inner is not None or not maps[-1].inputs or maps[-1].call:
        return None
    node = maps[-1]
    into, out = (tf.nest.flatten(spec) for spec in (node.inputs[0].element_spec, node.element_spec))
    if len(into) != len(out) or not into or not all(isinstance(spec, tf.TensorSpec) for spec in (*into, *out)):
        return None
    turned = into[0].dtype == tf.uint8 and out[0].dtype.is_floating and into[0].shape.is_compatible_with(out[0].shape)
    same = [spec.dtype for spec in into[1:]] == [spec.dtype for spec in out[1:]]
    if not (turned and same and _steady(dataset, node)) or has_operation(
        node, "ResizeBilinear", "ScaleAndTranslate", "ResizeArea"
    ):
        return None

    def make(builder: Builder) -> tf.data.Dataset:
        def alter(built: Node, inputs: Sequence[Any]) -> Any:
            if built is node:
                return inputs[0]
            # Kept structures say what dtype they hold, so what comes after is made anew.
            return _anew(built, inputs[0]) if built in dataset.line[dataset.line.index(node) :] else None

        return builder.build(dataset.root, alter)

    return Proposal(
        title=f"Do {node.row} on the device",
        detail=f"leave {call_text(node)} out and begin the model with it (keras.layers.Rescaling, Normalization): the"
        " device does it in passing, and gets uint8, a quarter of the bytes",
        expected_s=sum(_cost(dataset, later) for later in dataset.line[dataset.line.index(node) :]),
        make=make,
    )


def _anew(node: Node, dataset: tf.data.Dataset) -> Any:
    """A node that keeps its elements' structure, on elements of another dtype."""
    given = node.dataset
    if node.kind == "batch":
        return dataset.batch(given._batch_size, given._drop_remainder)
    if node.kind == "shuffle":
        return dataset.shuffle(given._buffer_size, seed=0)
    if node.kind == "prefetch":
        return dataset.prefetch(2)
    if node.kind == "cache":
        return dataset.cache()
    if node.kind in ("take", "skip", "repeat"):
        return getattr(dataset, node.kind)(given._count)
    return dataset if node.kind in ("options", "assert_cardinality") else None


def _bound_threads(dataset: MeasuredDataset) -> Proposal | None:
    """No autotuning, a pool of the process's processors, and operations that don't split over threads by themselves."""
    from greenload.machine import processors

    given = dataset.root.dataset.options()
    if given.autotune.enabled is False or given.threading.private_threadpool_size:
        return None

    def make(builder: Builder) -> tf.data.Dataset:
        bounded = tf.data.Options()
        bounded.threading.private_threadpool_size = processors()
        bounded.threading.max_intra_op_parallelism = 1
        bounded.autotune.enabled = False
        return builder.build(dataset.root).with_options(bounded)

    work = [node for node in dataset.root.nodes() if node.kind in ("map", "interleave", "filter")]
    return Proposal(
        title="Bound tf.data's threads",
        detail="set options.threading.private_threadpool_size to the number of processors, max_intra_op_parallelism to"
        " 1 and options.autotune.enabled to False: fewer threads wake each other; the elements stay the same",
        expected_s=0.1 * sum(figure.value or 0.0 for figure in dataset.costs.values()) if work else 0.0,
        make=make,
    )


def _fuse_maps(dataset: MeasuredDataset) -> Proposal | None:
    """Maps that follow each other as one: each has its own hand-over from thread to thread."""
    pairs = [
        (first, second)
        for first, second in zip(dataset.line, dataset.line[1:], strict=False)
        if first.kind == second.kind == "map"
        and all(_steady(dataset, each) and not each.call for each in (first, second))
    ]
    if not pairs or dataset.root.dataset.options().experimental_optimization.map_fusion:
        return None

    def make(builder: Builder) -> tf.data.Dataset:
        fused = tf.data.Options()
        fused.experimental_optimization.map_fusion = True
        return builder.build(dataset.root).with_options(fused)

    names = ", ".join(dict.fromkeys(name for pair in pairs for name in (pair[0].name, pair[1].name)))
    return Proposal(
        title="Make one map of several",
        detail=f"call {names} from one function in one map, or set options.experimental_optimization.map_fusion: fewer"
        " hand-overs from thread to thread; the elements stay the same",
        expected_s=min(_cost(dataset, pair[1]) for pair in pairs),
        make=make,
    )


RULES: tuple[Callable[[MeasuredDataset], Proposal | None], ...] = (
    _keep,
    _vectorise,
    _normalise_later,
    _bound_threads,
    _fuse_maps,
)
"""What is looked for."""
