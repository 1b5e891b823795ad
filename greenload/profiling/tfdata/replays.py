"""Makes runs of a dataset with and without a node: on captured elements where that can be, else as prefixes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from greenload.profiling.runs import DatasetRun, ReadWork, divisor, group_size, no_clocks
from greenload.profiling.tfdata.caches import Stores, on_disk
from greenload.profiling.tfdata.counting import Counts, cut_caches, leave_out_order
from greenload.profiling.tfdata.graph import FILE_READERS, NESTING, PASSIVE, STORES, Node
from greenload.profiling.tfdata.passes import ClockedCopy, ClockedCopyOf
from greenload.profiling.tfdata.rebuild import Builder, Functions
from greenload.system.frameworks import tf
from greenload.system.work import Work

CAPTURE_BYTES = 1 << 29
"""Bytes of one capture, at most; two are held at a time."""
REPLAYED = frozenset(
    {
        "map", "filter", "take_while", "scan", "batch", "padded_batch", "dense_to_ragged", "dense_to_sparse_batch",
        "unbatch", "rebatch", "shuffle", "prefetch", "window", "group_by_window",
    }
)  # fmt: skip
"""Kinds whose work on captured elements is their work in the dataset."""
PREDICATES = frozenset({"filter", "take_while"})
"""Kinds whose function says which elements pass: it is replayed with every element passed."""
_LEAST = 8  # captured elements, where there are as many
_HELD = 2  # captures at a time: what enters a step, and what enters the one before it


_Parts = tuple[tuple["tf.data.Dataset", float], tuple["tf.data.Dataset", float]]
"""A dataset with a node and one without it, and the samples behind each of their elements."""


@dataclass(frozen=True)
class RunPair:
    """A node's two runs, and by which method they tell its cost."""

    present: DatasetRun
    absent: DatasetRun
    method: str
    """``"replay"`` or ``"prefix"``."""

    def runs(self) -> dict[str, DatasetRun]:
        """By the kinds of their windows."""
        return {"with": self.present, "without": self.absent}


class DatasetReplays:
    """Makes the runs of one dataset's nodes.

    Args:
        root: the dataset.
        counts: what flows through it.
        builder: makes the copies that steps run on, AUTOTUNE replaced.
        samples: different samples to work on, at most.
        told: called whenever elements have passed.
    """

    def __init__(self, root: Node, counts: Counts, builder: Builder, samples: int, told: Callable[[], None]) -> None:
        self.root = root
        self._counts = counts
        self._builder = builder
        self.samples = samples
        """Different samples to work on, at most."""
        self._cut = samples  # what caches hold that were cut: as many as were counted
        self._told = told
        self.options = step_options(root.dataset.options())
        """Of every run but the whole's."""
        self._whole_options = whole_options(root.dataset.options())
        self._captures: dict[Node, tf.data.Dataset] = {}
        self._stores = Stores.of(root, counts.unfilled)
        self._filled: dict[int, tf.data.Dataset] = {}
        self._outer: Mapping[Node, tuple[Node, int]] = {
            inner: (node, index) for node in root.nodes() for index, inner in enumerate(node.looked)
        }
        self._copy_of: ClockedCopyOf | None = None
        self._clocked: frozenset[str] = frozenset()

    def clock(self, copy_of: ClockedCopyOf, names: Collection[str]) -> None:
        """Put clocks around functions in the runs of some steps from now on, and of what runs before them.

        A replay also passes elements on, and its joules are those of both: the clocks tell how much is the function's.

        Args:
            copy_of: makes copies with clocks.
            names: of the steps.
        """
        self._copy_of, self._clocked = copy_of, frozenset(names)

    def full(self) -> DatasetRun:
        """The whole dataset, endlessly, with the user's own options."""
        return self.whole(self.copy(self.root))

    def whole(self, dataset: tf.data.Dataset, read_work: ReadWork = no_clocks) -> DatasetRun:
        """A dataset in place of the whole one, of the same batches; ``read_work`` reads its clocks, if any."""
        counts = self._counts
        per_element = counts.samples_per_element
        group = self._group(per_element)
        if counts.epoch_elements is not None:
            group = divisor(counts.epoch_elements, group)
        elif any(self._ends_by_turns(node) for node in self.root.nodes()):
            # What was counted stands for the whole: going on would meet branches in other shares.
            dataset = dataset.take(math.ceil(counts.samples / per_element))
        options = whole_options(self._whole_options)
        if read_work is not no_clocks:
            options.threading.max_intra_op_parallelism = 1  # clocks see the thread that calls
        # Also where it has no end: which of a join's branches ends it can't be told before.
        repeated = dataset.repeat().with_options(options)
        return DatasetRun(repeated, per_element, group, self._told, read_work=read_work)

    def _ends_by_turns(self, node: Node) -> bool:
        """Whether a join gives its branches in other shares later, once one of them has ended."""
        return node.kind in ("concatenate", "choose") and any(
            int(branch.dataset.cardinality()) != -1 for branch in node.inputs if branch.kind != "selector"
        )

    def pair(self, node: Node, context: str = "alone") -> RunPair:
        """A node's runs.

        Args:
            node: whose.
            context: what else runs in both: nothing (``"alone"``), the step ``"before"`` it, or ``"all"`` before it.
        """
        if context == "all" and self._counts.silent(node):
            context = "alone"  # a filter that passes none: behind it a prefix has nothing to be counted by
        if node.kind in REPLAYED and not self._is_inner_source(node) and context != "all":
            try:
                return self._pair(node, "replay", lambda builder: self._replay(node, context == "before", builder))
            except ValueError:  # inside an interleave, what needs more of its argument than the dataset before it
                pass
        return self._pair(node, "prefix", lambda builder: self._prefixes(node, builder))

    def _pair(self, node: Node, method: str, make: Callable[[Builder], _Parts]) -> RunPair:
        """A node's runs, with clocks around functions where its own has one: not inside another's function."""
        parts, read_work = None, no_clocks
        if self._copy_of is not None and node.name in self._clocked and node.inner is None:
            made: list[_Parts] = []

            def build(functions: Functions) -> tf.data.Dataset:
                made.append(make(self._builder.with_functions(functions)))
                return made[0][0][0]

            with suppress(tf.errors.OpError, ValueError, TypeError, KeyError):
                copy, unseen = self._copy_of(self.root, build), dict.fromkeys(self._clocked, Work())
                parts, read_work = made[0], lambda: unseen | dict(copy.read())
        present, absent = parts or make(self._builder)
        return RunPair(self._run(*present, read_work), self._run(*absent, read_work), method)

    def before(self, node: Node) -> Node | None:
        """The node whose elements a node works on; None for a source."""
        if node in self._outer:
            outer, index = self._outer[node]
            return outer.looked[index - 1] if index else outer.inputs[0]
        return node.inputs[0] if node.inputs else None

    def unreached(self, rows: Sequence[Node]) -> dict[str, str]:
        """By name, why nodes can't be measured of which nothing was seen while elements were counted."""
        reasons, counts = {}, self._counts
        for node in rows:
            before = self.before(node)
            if before is not None and node.known and counts.silent(before):
                reasons[node.name] = f"nothing reached it in the {counts.samples:,} samples that were counted"
            elif counts.silent(node) and (node.inner is not None or node.kind not in PREDICATES):
                reasons[node.name] = f"gave no element in the {counts.samples:,} samples that were counted"
        return reasons

    def step_before(self, node: Node) -> Node | None:
        """The node before a node that does work: those that only pass, order or hold elements are left out."""
        before = self.before(node)
        while before is not None and before.inner is None and len(before.inputs) == 1:
            if before.kind not in PASSIVE and before.kind not in ("shuffle", "prefetch"):
                break
            before = before.inputs[0]
        return before.looked[-1] if before is not None and before.looked else before

    def _is_inner_source(self, node: Node) -> bool:
        return node in self._outer and self._outer[node][1] == 0

    def _replay(self, node: Node, behind: bool, builder: Builder) -> _Parts:
        before = self.before(node)
        assert before is not None
        step = self.step_before(node) if behind else None
        context = None if step is None else self._behind(step, builder)
        captured = self.captured(before) if context is None else context
        into = self._counts.flows[before].elements_per_sample
        absent = captured
        if node.kind == "batch" and before.kind == "map" and before.inner is None:
            # In the dataset, too, batching becomes one with the map before it, and passes on a batch in place of its
            # elements one by one. The map's own row includes passing those on, and the batch saves that.
            absent = self._emptied(before, captured)
        present = self._on(node, absent, builder)
        ratio = into / max(1e-12, self._counts.flows[node].elements_per_sample)
        inputs = _inputs_per_output(node, ratio)
        return (present, inputs / into), (absent, 1 / into)

    def _on(self, node: Node, dataset: tf.data.Dataset, builder: Builder) -> tf.data.Dataset:
        return _predicate(node, dataset, builder) if node.kind in PREDICATES else builder.on(node, [dataset])

    def _emptied(self, node: Node, dataset: tf.data.Dataset) -> tf.data.Dataset:
        calls = getattr(node.dataset, "_num_parallel_calls", None)
        deterministic = {"true": True, "false": False}.get(getattr(node.dataset, "_deterministic", "default"))
        return through_empty_map(dataset, None if calls is None else self._builder.parallelism(calls), deterministic)

    def _behind(self, before: Node, builder: Builder) -> tf.data.Dataset | None:
        """What a step gives when it works on captured elements; None where it can't be replayed or read again."""
        if before.kind == "map" and before.inner is None:
            return self._on(before, self.captured(before.inputs[0]), builder)
        reads = not before.inputs or before.kind in FILE_READERS
        return (
            self._bare(before, builder).repeat() if before.inner is not None or (reads and not before.hidden) else None
        )

    def captured(self, node: Node) -> tf.data.Dataset:
        """Elements that leave a node, held in memory, over and over. Filled by its first pass.

        The runs of a step share them, and the step after it may use them again.
        """
        if node not in self._captures:
            flow = self._counts.flows[node]
            wanted = max(_LEAST, math.ceil(min(self.samples, self._counts.samples) * flow.elements_per_sample))
            held = int(CAPTURE_BYTES / max(1.0, flow.bytes_per_element))
            while len(self._captures) >= _HELD:
                del self._captures[next(iter(self._captures))]
            self._captures[node] = self._bare(node, self._builder).take(max(1, min(wanted, held))).cache().repeat()
        return self._captures[node]

    def forget(self) -> None:
        """Let go of what is captured and cached, so that the next build captures and fills anew."""
        self._captures.clear()
        self._filled.clear()

    def _bare(self, node: Node, builder: Builder) -> tf.data.Dataset:
        """The dataset up to a node without what only orders, keeps or repeats elements."""
        if node in self._outer:
            outer, _ = self._outer[node]
            return node.inner.prefix(builder.build(outer.inputs[0], leave_out_order))
        return builder.build(node, leave_out_order)

    def clocked(self, copy_of: ClockedCopyOf) -> ClockedCopy:
        """The whole dataset with clocks around its functions, but not around those before a filled cache in memory."""

        def build(functions: Functions) -> tf.data.Dataset:
            return self.copy(self.root, self._builder.with_functions(functions))

        return copy_of(self.root, build)

    def copy(self, node: Node, builder: Builder | None = None) -> tf.data.Dataset:
        """The dataset up to a node, as it is. All copies of a build read the same caches in memory."""
        builder = builder or self._builder
        cut = cut_caches(builder, self._counts, self._cut)

        def alter(below: Node, inputs: Sequence[tf.data.Dataset]) -> tf.data.Dataset | None:
            if below not in self._stores or on_disk(below):
                return cut(below, inputs)
            if id(below.dataset) not in self._filled:
                self._filled[id(below.dataset)] = cut(below, inputs) or builder.on(below, inputs)
            return self._filled[id(below.dataset)]

        if node in self._outer:
            outer, _ = self._outer[node]
            return node.inner.prefix(builder.build(outer.inputs[0], alter))
        return builder.build(node, alter)

    def _prefixes(self, node: Node, builder: Builder) -> _Parts:
        """The dataset up to a node, and up to the one before it; for a source or a cache, one that does nothing."""
        before = self.before(node)
        per_sample = self._counts.flows[node].elements_per_sample
        nothing = not node.known or (before is not None and before.hidden and not before.looked and not before.inputs)
        if before is None or nothing or node.kind == "selector" or node in self._stores:
            absent = tf.data.Dataset.range(1 << 62), 1 / per_sample
        else:
            absent = self._prefix(before, builder)
        return self._prefix(node, builder), absent

    def _prefix(self, node: Node, builder: Builder) -> tuple[tf.data.Dataset, float]:
        """The dataset up to a node, over and over; no further than an epoch goes where that leaves a cache unfilled."""
        dataset, per_sample = self.copy(node, builder), self._counts.flows[node].elements_per_sample
        if any(cache in self._counts.unfilled and cache not in self._stores for cache in node.nodes()):
            dataset = dataset.take(max(1, round(per_sample * self._counts.samples)))
        return dataset.repeat(), 1 / per_sample

    def _run(self, dataset: tf.data.Dataset, samples_per_element: float, read_work: ReadWork) -> DatasetRun:
        options = self.options
        if read_work is not no_clocks:
            options = step_options(options)
            options.threading.max_intra_op_parallelism = 1  # clocks see the thread that calls
        group = self._group(samples_per_element)
        return DatasetRun(dataset.with_options(options), samples_per_element, group, self._told, read_work=read_work)

    def _group(self, samples_per_element: float) -> int:
        group = group_size(samples_per_element, self._counts.s_per_sample)
        if self._counts.bounded:  # a pass is over so many samples, and some groups
            group = max(1, min(group, int(self.samples / samples_per_element / 4)))
        return group


def _inputs_per_output(node: Node, ratio: float) -> float:
    """Elements that a replayed node takes in for each that it gives; ``ratio`` is what was counted."""
    if node.kind in ("batch", "padded_batch") and "batch_size" in node.parameters:
        return float(node.parameters["batch_size"])  # counted ones hold an epoch's smaller last batch
    if node.kind in ("map", "scan", "shuffle", "prefetch", "dense_to_ragged") or node.kind in PREDICATES:
        return 1.0
    return float(node.parameters["shift"]) if node.kind == "window" else ratio


def _predicate(node: Node, dataset: tf.data.Dataset, builder: Builder) -> tf.data.Dataset:
    """A filter's predicate as a map: its work, with every element passed."""
    from tensorflow.python.ops import gen_dataset_ops

    if node.inner is not None:
        raise ValueError("a predicate inside a function is measured by prefixes")
    function = builder.function(node.dataset, "_predicate")
    variant = gen_dataset_ops.map_dataset(
        dataset._variant_tensor,
        function.captured_inputs,
        f=function,
        output_types=[tf.bool],
        output_shapes=[[]],
        force_synchronous=True,  # as in a filter: TensorFlow makes other maps parallel
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec((), tf.bool))


def replayed(node: Node) -> bool:
    """Whether a node is of a kind that keeps nothing and works on what is before it."""
    return node.kind in REPLAYED and node.kind not in STORES and node.kind not in NESTING


def whole_options(given: Any) -> Any:
    """The user's ``tf.data.Options``, but no buffer that TensorFlow adds and lets grow from window to window."""
    fixed = tf.data.Options()
    fixed._from_proto(given._to_proto())  # a copy: the user's can't be changed any more
    fixed.experimental_optimization.inject_prefetch = False
    return fixed


def step_options(given: Any) -> Any:
    """The same, but maps that do nothing stay."""
    fixed = whole_options(given)
    fixed.experimental_optimization.noop_elimination = False
    return fixed


def through_empty_map(
    dataset: tf.data.Dataset, calls: Any = None, deterministic: bool | None = None
) -> tf.data.Dataset:
    """The dataset behind a map that does nothing, of the same parallelism as a step's map."""
    spec = dataset.element_spec

    def same(*element: Any) -> Any:
        return element if type(spec) is tuple else element[0]

    function = tf.autograph.experimental.do_not_convert(same)
    return dataset.map(function, num_parallel_calls=calls, deterministic=deterministic)
