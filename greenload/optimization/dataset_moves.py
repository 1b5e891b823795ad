"""Changes to the order of steps: a cache where nothing random is before it; functions on batches or chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from greenload.optimization.dataset_calls import dense_text, mapped_text
from greenload.optimization.dataset_changes import Change, Facts, again, at
from greenload.optimization.dataset_nodes import (
    Made,
    TreeBuilder,
    edited,
    functions_of,
    lines,
    made_node,
    names_of,
    node_operations,
)
from greenload.optimization.dataset_source import call
from greenload.profiling.tfdata.functions import reads_outside, repeatable_operations
from greenload.profiling.tfdata.graph import DALI_NODE, PASSIVE, STORES, Node, endless_repeat
from greenload.profiling.tfdata.remarks import call_text
from greenload.system.frameworks import tf
from greenload.text import bytes_text

_MOVING = frozenset({"from_generator", "random", DALI_NODE, "data_service", "choose", "selector"})
_SOURCES = frozenset({"from_tensor_slices", "from_tensors", "from_list", "range"})
_LIGHT = frozenset({*PASSIVE, *_SOURCES, "shuffle", "prefetch", *STORES})
"""Kinds behind which a cache would save nothing."""
_ONE_TO_ONE = frozenset({"map", "prefetch", "options", "restructure", "assert_cardinality"})
CHUNK = 64
"""Elements that a small map takes at a time."""
SMALL_BYTES = 4096
"""Bytes of an element up to which a call costs more than the copies of a chunk."""
BETWEEN = frozenset({"shuffle", "prefetch", "take", "skip", "repeat", "shard", "options"})


def steady(node: Node, facts: Facts) -> bool:
    """Whether a node gives the same elements each time, in the same order, if what is before it does."""
    if node.name in facts.drawn or node.kind in _MOVING or not node.known:
        return False
    if node.kind == "shuffle":
        return not reshuffles(node)
    if any(not repeatable_operations(node_operations(inner)) for inner in node.looked):
        return False
    return repeatable_operations(node_operations(node))


def _lasting(node: Node, facts: Facts) -> bool:
    """Whether a cache may keep what a node gives: it is steady, and reads no variable that a callback may assign."""
    return steady(node, facts) and not any(reads_outside(node_operations(inner)) for inner in (*node.looked, node))


def reshuffles(node: Node) -> bool:
    """Whether a shuffle gives another order in each epoch."""
    return node.kind == "shuffle" and node.parameters.get("reshuffle_each_iteration") is not False


def caches(root: Node, facts: Facts) -> Iterator[Change]:
    """A cache behind the last step that gives the same each time; shuffles before it then stand behind it.

    A shuffle orders its elements by their number only. So behind maps it gives the order that it gave before them.
    """
    if facts.epochs < 2 or facts.epoch_samples is None:
        return
    for line in lines(root):
        kept, shuffles = _kept(line, facts)
        points = [node for node in kept if _takes_cache(node)]
        last_store = max((line.index(node) for node in line if node.kind in STORES), default=-1)
        for point in reversed(points):
            flow = facts.flows.get(point.name)
            if line.index(point) <= last_store or flow is None or point.name in facts.shared:
                break
            held = flow.bytes_per_element * flow.elements_per_sample * facts.epoch_samples
            if held <= facts.ram:
                yield _cache(point, [node for node in shuffles if line.index(node) < line.index(point)], held, facts)
                return  # what is before it runs in the first epoch only


def _kept(line: Sequence[Node], facts: Facts) -> tuple[list[Node], list[Node]]:
    """The nodes of a line up to the last one behind which a cache may stand, and the shuffles among them."""
    joined = [node for before in line[0].inputs for node in before.nodes()]
    if any(not _lasting(node, facts) or endless_repeat(node) for node in joined):
        return [], []
    kept: list[Node] = []
    shuffles: list[Node] = []
    for node in line:
        if reshuffles(node):
            shuffles.append(node)
        elif (
            endless_repeat(node)
            or not _lasting(node, facts)
            or (shuffles and node.kind not in _ONE_TO_ONE and not (facts.free_order and node.kind == "interleave"))
        ):
            break
        kept.append(node)
    return kept, shuffles


def _takes_cache(node: Node) -> bool:
    """Whether a cache behind a node could save something, and can hold its elements."""
    if node.kind in _LIGHT and not (len(node.inputs) > 1 and node.kind == "zip"):
        return False
    return all(isinstance(spec, tf.TensorSpec | tf.RaggedTensorSpec | tf.SparseTensorSpec) for spec in
               tf.nest.flatten(node.element_spec, expand_composites=False))  # fmt: skip


def _cache(point: Node, shuffles: Sequence[Node], held: float, facts: Facts) -> Change:
    """The change that keeps what a node gives."""
    free = facts.free_order and any(node.kind == "interleave" for node in point.nodes()) and bool(shuffles)
    names = {node.name for node in shuffles}
    count = max(1, round((facts.epoch_samples or 1) * facts.flows[point.name].elements_per_sample))

    def edit(node: Node) -> Node:
        bare = edited(node, partial(_without, names=set() if free else names))
        make: Callable[[TreeBuilder, Sequence[Any]], Any] = lambda _, inputs: inputs[0].cache()  # noqa: E731
        top = made_node("cache", "cache (new)", [bare], Made(make, node.element_spec, "cache()", "new"), node)
        if free:
            made = Made(
                lambda builder, inputs: inputs[0].shuffle(count, seed=1 if builder.serial else None),
                node.element_spec,
                f"shuffle({count})",
                "new: another order of all samples in each epoch",
                again=True,
            )
            return made_node("shuffle", "shuffle (new)", [top], made, node)
        for shuffle in shuffles:
            top = moved(shuffle, top)
        return top

    order = ""
    if free:
        order = f", and .shuffle({count}) behind it: the dataset promises no order, and each epoch draws another one"
    elif shuffles:
        what = " and ".join(call_text(node) for node in shuffles)
        order = f", and move {what} behind it: it gives the order that it gives now"
    return Change(
        "cache",
        f"Cache what {(point.looked or (point,))[-1].row or point.name} gives",
        f"write .cache() behind {call_text(point)}{order}; it holds {bytes_text(held)}, and nothing random is before"
        " it; the first epoch costs what it costs now",
        at(point.name, edit),
        held,
    )


def _without(node: Node, names: set[str]) -> Node | None:
    """What is before a shuffle of one of the names, or before a cache in memory, without either."""
    gone = node.name in names or (node.kind == "cache" and not node.parameters.get("filename"))
    return edited(node.inputs[0], partial(_without, names=names)) if gone else None


def moved(shuffle: Node, before: Node, spec: Any = None) -> Node:
    """A user's shuffle over other elements."""
    size = shuffle.parameters.get("buffer_size", 0)
    make = again(shuffle)
    assert make is not None
    text = getattr(shuffle.inner, "text", "") or f"shuffle({size}{_seed_text(shuffle)})"
    made = Made(make, before.element_spec if spec is None else spec, text, "moved: the same order", again=True)
    return made_node("shuffle", shuffle.name, [before], made, shuffle)


def _seed_text(shuffle: Node) -> str:
    if shuffle.dataset is None:
        return ""
    seed = int(shuffle.dataset._seed2)
    once = ", reshuffle_each_iteration=False" if not reshuffles(shuffle) else ""
    return (f", seed={seed}" if int(shuffle.dataset._seed) or seed else "") + once


def batch_of(node: Node) -> Callable[[TreeBuilder, Sequence[Any]], Any] | None:
    """Builds a batch anew on elements of another structure."""
    if isinstance(node.inner, Made):
        return node.inner.make if node.kind == "batch" else None
    if node.inner is not None or node.kind not in ("batch", "padded_batch"):
        return None
    given = node.dataset
    if node.kind == "padded_batch" and not pads_with_zeros(given):
        return None
    return lambda _, inputs: inputs[0].batch(given._batch_size, given._drop_remainder)


def pads_with_zeros(padded: Any) -> bool:
    """Whether a padded batch fills up with zeros, or empty texts, to the longest of its elements and no further."""
    values = tf.nest.flatten(padded._padding_values)
    shapes = tf.nest.flatten(padded._padded_shapes)
    given = tf.nest.flatten(padded._input_dataset.element_spec)
    free = all(
        spec.shape.rank is not None
        and all(wanted in (-1, size) for wanted, size in zip(shape.numpy().tolist(), spec.shape, strict=True))
        for shape, spec in zip(shapes, given, strict=True)
    )
    return free and not any(value.numpy() for value in values)


def text_of(node: Node) -> str:
    """What stands in tf.data code for a node."""
    if isinstance(node.inner, Made):
        return node.inner.text
    return call(node)


def on_batches(root: Node, facts: Facts) -> Iterator[Change]:
    """Maps before a batch, run on whole batches: one call a batch, where that gives the same numbers."""
    for line in lines(root):
        for index, batch in enumerate(line):
            if batch.kind not in ("batch", "padded_batch") or batch_of(batch) is None or batch.name in facts.shared:
                continue
            run = _run_before(line, index, facts)
            if not run:
                continue
            chosen = [run] if batch.kind == "padded_batch" or len(run) == 1 else [run, run[-1:]]
            for maps in chosen:
                names = [node.name for node in maps]
                called = " and ".join(dict.fromkeys(node.row or node.name for node in maps))
                ragged = batch.kind == "padded_batch"
                how = "; turn ragged results into tensors by .to_tensor()" if ragged else ""
                yield Change(
                    f"batches: {', '.join(names)}",
                    f"Run {called} on batches",
                    f"batch first, and put {' and '.join(call_text(node) for node in maps)} behind it: whole batches"
                    f" give the same numbers, in one call a batch{how}",
                    at(batch.name, partial(_batched, names=names, each=False)),
                    instead=f"batches: {batch.name}",
                )
                if not ragged:
                    yield Change(
                        f"vectorised: {', '.join(names)}",
                        f"Run {called} on batches by tf.vectorized_map",
                        f"batch first, and run {called} by tf.vectorized_map behind it: the same numbers, in one call a"
                        " batch",
                        at(batch.name, partial(_batched, names=names, each=True)),
                        instead=f"batches: {batch.name}",
                    )


def _run_before(line: Sequence[Node], index: int, facts: Facts) -> list[Node]:
    """The maps right before a batch that give the same each time, but for what only orders or counts elements."""
    run: list[Node] = []
    for node in reversed(line[:index]):
        if node.kind == "map" and functions_of(node) and steady(node, facts) and node.name not in facts.shared:
            if any(own for _, own in functions_of(node)):
                break
            run.append(node)
        elif again(node) is None or node.name in facts.shared:
            break
    return run[::-1]


def _batched(batch: Node, names: Sequence[str], each: bool) -> Node | None:
    """A batch with some of the maps before it behind it."""
    line = lines(batch)[0]
    present = [node for node in line if node.name in names and node.kind == "map"]
    if [node.name for node in present] != list(names):
        return None
    first = line.index(present[0])
    top = present[0].inputs[0]
    for node in line[first + 1 : -1]:
        if node in present:
            continue
        make = again(node)
        if make is None:
            return None
        made = Made(make, top.element_spec, text_of(node), again=True)
        top = made_node(node.kind, node.name, [top], made, node)
    make_batch = batch_of(batch)
    if make_batch is None:
        return None
    size = batch.parameters.get("batch_size", getattr(batch.dataset, "_batch_size", ""))
    text = text_of(batch) if batch.kind == "batch" else f"batch({size})"
    top = made_node("batch", f"{batch.name} (first)", [top], Made(make_batch, top.element_spec, text), batch)
    wrappers = [wrapper for node in present for wrapper, _ in functions_of(node)]
    text = mapped_text([name for node in present for name in names_of(node)], wrappers, each)
    text += f".{dense_text(wrappers[-1])}" if batch.kind == "padded_batch" else ""

    def run(_: TreeBuilder, inputs: Sequence[Any]) -> Any:
        dataset = inputs[0]
        for wrapper in wrappers:
            dataset = dataset.map(_for_each(wrapper, dataset) if each else wrapper._func)
        return (
            dataset.map(tf.autograph.experimental.do_not_convert(_dense)) if batch.kind == "padded_batch" else dataset
        )

    made = Made(run, batch.element_spec, text, "on batches")
    return made_node("batched", batch.name, [top], made, batch)


def in_chunks(root: Node, facts: Facts) -> Iterator[Change]:
    """Small maps that no batch follows, run on chunks of elements: the call costs more than what it does."""
    for line in lines(root):
        for index, node in enumerate(line):
            later = line[index + 1] if index + 1 < len(line) else None
            if later is not None and later.kind == "map":
                continue
            run = _run_before(line, index + 1, facts) if node.kind == "map" else []
            if run and all(_is_small(one, facts) for one in run) and _is_small(run[0].inputs[0], facts):
                names = [one.name for one in run]
                called = " and ".join(one.row or one.name for one in run)
                yield Change(
                    f"chunks: {', '.join(names)}",
                    f"Run {called} on {CHUNK} elements at a time",
                    f"write .batch({CHUNK}) before {' and '.join(call_text(one) for one in run)} and .unbatch() behind"
                    f" it: the same numbers, in one call for {CHUNK} elements",
                    at(node.name, partial(_chunked, names=names)),
                )


def _is_small(node: Node, facts: Facts) -> bool:
    """Whether elements are small tensors of known shapes, many of which take one call."""
    flow = facts.flows.get(node.name)
    specs = tf.nest.flatten(node.element_spec)
    known = all(isinstance(spec, tf.TensorSpec) and spec.shape.is_fully_defined() for spec in specs)
    return known and flow is not None and 0 < flow.bytes_per_element <= SMALL_BYTES


def _chunked(last: Node, names: Sequence[str]) -> Node | None:
    """Maps on chunks of elements, which are taken apart again."""
    line = lines(last)[0]
    present = line[-len(names) :]
    if [node.name for node in present] != list(names) or any(not functions_of(node) for node in present):
        return None
    wrappers = [wrapper for node in present for wrapper, _ in functions_of(node)]
    text = mapped_text([name for node in present for name in names_of(node)], wrappers)

    def run(_: TreeBuilder, inputs: Sequence[Any]) -> Any:
        dataset = inputs[0].batch(CHUNK)
        for wrapper in wrappers:
            dataset = dataset.map(wrapper._func)
        return dataset.unbatch()

    made = Made(run, last.element_spec, f"batch({CHUNK}).{text}.unbatch()", "in chunks")
    return made_node("chunks", last.name, present[0].inputs, made, last)


def _for_each(wrapper: Any, dataset: Any) -> Callable[..., Any]:
    """A function that runs another one on every row of a batch, all rows at once."""

    def run(*batch: Any) -> Any:
        single = type(dataset.element_spec) is not tuple
        function = tf.autograph.experimental.do_not_convert(wrapper._func)
        value = batch[0] if single else batch

        def on_row(row: Any) -> Any:
            return function(row) if single else function(*row)

        return tf.vectorized_map(on_row, value, fallback_to_while_loop=False)

    converted: Callable[..., Any] = tf.autograph.experimental.do_not_convert(run)
    return converted


def _dense(*batch: Any) -> Any:
    """Ragged parts of a batch as tensors, filled up with zeros."""
    value = batch if len(batch) > 1 else batch[0]
    return tf.nest.map_structure(
        lambda part: part.to_tensor() if isinstance(part, tf.RaggedTensor) else part, value, expand_composites=False
    )
