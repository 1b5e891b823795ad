"""How many elements and bytes leave every node for each sample that leaves the whole: run once and counted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from greenload.errors import UsageError
from greenload.profiling.tfdata.graph import JOINS, STORES, Node, endless_repeat
from greenload.profiling.tfdata.rebuild import Builder
from greenload.profiling.tfdata.units import SampleUnit, row_count, sample_unit
from greenload.system.frameworks import tf

COUNT_S = 8.0
"""Seconds after which counting ends, where an epoch is longer."""
ENDLESS_S = 2.0
"""Seconds after which it ends where there is no epoch to be counted."""
_ONE_TO_ONE = frozenset({"map", "prefetch", "shuffle", "cache"})
_INNER_ELEMENTS, _INNER_S = 64, 2.0


@dataclass(frozen=True)
class Flow:
    """What leaves one node."""

    elements_per_sample: float
    """Elements for each sample that leaves the whole: 1/32 behind a batch of 32, more than 1 before a filter."""
    bytes_per_element: float
    """Mean bytes of an element's tensors."""


@dataclass(frozen=True)
class Counts:
    """What flows through a dataset. Caches are counted as if empty."""

    flows: Mapping[Node, Flow]
    unit: SampleUnit
    """What was counted as one sample."""
    samples_per_element: float
    """Samples in an element of the whole: what its batches hold on average where rows were counted."""
    epoch_elements: int | None
    """Elements in one epoch; None where it has no end, or wasn't reached in time."""
    samples: int
    """Samples counted."""
    s_per_sample: float
    """Wall seconds per sample while counting, roughly."""
    endless: bool
    """Whether the dataset repeats itself without an end."""
    cut: bool
    """Whether every cache was given a part of its input, since filling it whole would take too long."""
    first_s: float = 0.0
    """Wall seconds until the first element came: what filling buffers takes."""
    unfilled: frozenset[Node] = frozenset()
    """Caches that an epoch ends before the end of their input, so that no epoch reads them: as ``cache().take(9)``."""
    bounded: bool = False
    """Whether it draws from a Python generator that nothing tells the length of: for `samples` samples in each pass."""
    bounded_first: bool = False
    """Whether it does so in an epoch that fills its caches."""

    def silent(self, node: Node) -> bool:
        """Whether no element left a node while it was counted."""
        return self.flows[node].elements_per_sample <= 0


def count_elements(
    root: Node, builder: Builder, samples: int, told: Callable[[], None], sample: SampleUnit | None = None
) -> Counts:
    """Run a dataset for an epoch, or for some seconds, and count what leaves every node.

    Args:
        root: the dataset.
        builder: makes the counted copy.
        samples: how many must leave it at least, where an epoch is too long to be counted whole.
        told: called whenever an element came.
        sample: what is counted as one sample; None: what the dataset's graph shows.

    Raises:
        UsageError: the dataset is empty.
    """
    sample = sample or sample_unit(root)
    counts = _count(root, builder, samples, told, None, sample)
    if counts.epoch_elements is None and any(node.kind in STORES for node in root.nodes()):
        counts = _count(root, builder, samples, told, counts, sample)
    return replace(counts, flows={**counts.flows, **_inside(root, builder, counts, told)})


def cut_caches(builder: Builder, counts: Counts, samples: int) -> Callable[[Node, Sequence[Any]], Any]:
    """Gives caches the part of their input that makes ``samples`` samples, where they were cut for counting."""

    def alter(node: Node, inputs: Sequence[Any]) -> Any:
        if counts.cut and node.kind in STORES:
            wanted = samples * counts.flows[node].elements_per_sample
            return builder.on(node, [inputs[0].take(max(1, round(wanted)))])
        return None

    return alter


@dataclass(frozen=True)
class _Copy:
    """A copy of a dataset that counts what leaves its nodes."""

    dataset: Any
    counters: Mapping[Node, Any]
    """Variables of (elements, samples, bytes)."""
    ends: Mapping[Node, Any]
    """By cache, a variable that is true once the end of its input was reached."""
    endless: bool
    """Whether the dataset itself repeats without an end."""


@dataclass(frozen=True)
class _Seen:
    """What the counters showed, in arrays of (elements, samples, bytes)."""

    first: Mapping[Node, Any]
    """When the first element had come."""
    last: Mapping[Node, Any]
    first_s: float
    """Wall seconds until the first element came."""
    took_s: float
    ended: bool
    """Whether the dataset's end was reached."""


def _count(
    root: Node, builder: Builder, samples: int, told: Callable[[], None], cut: Counts | None, sample: SampleUnit
) -> Counts:
    copy = _counting_copy(root, builder, samples, cut, sample.rows)
    bounded = unbounded_generator(root, cut is not None)
    seen = _run(copy, root, samples, sample.per_element, told, at_once=bounded and cut is None)
    first, last = seen.first, seen.last
    steady = not seen.ended and last[root][1] > first[root][1]
    through = last[root] - first[root] if steady else last[root]  # what filled buffers before the first one is no flow
    passed = sample.per_element * int(through[1])
    flows = (
        _steady(root, first, last, passed) if steady else {node: int(total[0]) / passed for node, total in last.items()}
    )
    stores = [node for node in root.nodes() if node.kind in STORES] if seen.ended and cut is None else []
    return Counts(
        flows={node: Flow(flows[node], float(total[2]) / max(1, int(total[0]))) for node, total in last.items()},
        unit=sample,
        samples_per_element=passed / int(through[0]),
        epoch_elements=int(last[root][0]) if seen.ended else None,
        samples=max(1, round(passed)),
        s_per_sample=(seen.took_s - seen.first_s if steady else seen.took_s) / passed,
        endless=copy.endless,
        cut=cut is not None,
        first_s=seen.first_s,
        unfilled=frozenset(node for node in stores if not (node in copy.ends and bool(copy.ends[node]))),
        bounded=bounded,
        bounded_first=unbounded_generator(root),
    )


def _counting_copy(root: Node, builder: Builder, samples: int, cut: Counts | None, by_row: bool) -> _Copy:
    """The dataset with counters, without its caches and buffers, and without the endless repeats behind an epoch."""
    counters = {node: element_counter() for node in root.nodes() if node.inner is None}
    ends: dict[Node, tf.Variable] = {}
    repeated = epoch_repeats(root)
    cardinality = int(root.dataset.cardinality())
    unroll = bool(repeated) and cardinality in (tf.data.INFINITE_CARDINALITY, tf.data.UNKNOWN_CARDINALITY)

    def alter(node: Node, inputs: Sequence[Any]) -> Any:
        if node.kind in STORES or node.kind == "prefetch" or (unroll and node in repeated):
            made = inputs[0]
            if cut is not None and node.kind in STORES:
                made = made.take(max(1, round(samples * cut.flows[node].elements_per_sample)))
            elif node.kind in STORES and int(made.cardinality()) != tf.data.INFINITE_CARDINALITY:
                ends[node] = tf.Variable(False, trainable=False)
                made = _with_end(made, ends[node])
        else:
            made = builder.on(node, inputs)
        passing = counted(made, counters[node], by_row and node is root)
        if passing.element_spec == made.element_spec:
            return passing
        counters[node] = counters[node.inputs[0]]  # a map would lose what dense_to_ragged says of its elements
        return made

    dataset = builder.build(root, alter, shared=False)
    return _Copy(dataset, counters, ends, unroll or cardinality == tf.data.INFINITE_CARDINALITY)


def _run(
    copy: _Copy, root: Node, samples: int, per_element: float, told: Callable[[], None], *, at_once: bool
) -> _Seen:
    """Run the copy to its end, or until there are enough samples and some seconds are over.

    Args:
        copy: to be run.
        root: its last node.
        samples: how many are enough.
        per_element: how many samples each counted one stands for.
        told: called whenever an element came.
        at_once: whether it ends as soon as there are enough.

    Raises:
        UsageError: it gave no sample.
    """
    no_epoch = int(copy.dataset.cardinality()) == tf.data.INFINITE_CARDINALITY
    limit_s = 0.0 if at_once else ENDLESS_S if no_epoch else COUNT_S
    start, first_s, ended = time.perf_counter(), 0.0, True
    first: dict[Node, Any] | None = None
    for elements, _ in enumerate(copy.dataset, 1):
        told()
        took = time.perf_counter() - start
        if first is None:
            first, first_s = {node: counter.numpy() for node, counter in copy.counters.items()}, took
        enough = per_element * int(copy.counters[root][1]) >= samples
        if (enough and took > limit_s) or (took > COUNT_S and elements > 1):
            ended = False
            break
    took = time.perf_counter() - start
    last = {node: counter.numpy() for node, counter in copy.counters.items()}
    if first is None or last[root][1] == 0:
        raise UsageError("a dataset to profile has elements, this one is empty: check what its source reads")
    return _Seen(first, last, first_s, took, ended)


def element_counter() -> Any:
    """A variable of (elements, samples, bytes)."""
    return tf.Variable(tf.zeros(3, tf.int64), trainable=False)


def _with_end(dataset: tf.data.Dataset, ended: Any) -> tf.data.Dataset:
    """The same elements, and a variable that is true once what comes next has been told that there are no more."""

    def part(number: Any) -> Any:
        ended.assign(number > 0)
        return dataset.take(tf.where(number > 0, tf.constant(0, tf.int64), tf.constant(-1, tf.int64)))

    return tf.data.Dataset.range(2).flat_map(tf.autograph.experimental.do_not_convert(part))


def epoch_repeats(root: Node) -> list[Node]:
    """The endless repeats without which a dataset ends with its epoch: on the one line back from its end.

    Those in a branch of a join, or before something that ends by itself, are part of what the dataset gives.
    """
    repeats, node = [], root
    while node.inputs and node.kind not in ("take", "take_while") and node.kind not in JOINS:
        if endless_repeat(node):
            repeats.append(node)
        node = node.inputs[1 if node.kind == "enumerate" else 0]
    return repeats


def unbounded_generator(node: Node, cut: bool = False) -> bool:
    """Whether a node draws from a Python generator that nothing tells the length of.

    Args:
        node: which.
        cut: whether caches are given a part of their input, and so don't.
    """
    ends = (node.kind == "take" and node.parameters.get("count", -1) >= 0) or (cut and node.kind in STORES)
    if ends or int(node.dataset.cardinality()) >= 0:
        return False
    return node.kind == "from_generator" or any(unbounded_generator(before, cut) for before in node.inputs)


def _steady(root: Node, first: Mapping[Node, Any], last: Mapping[Node, Any], passed: float) -> dict[Node, float]:
    """Elements that leave each node for each of the samples that ``passed``, once buffers are full.

    A shuffle that had taken in its whole input by the first sample takes one for each that it gives, in the long run;
    what was held elsewhere by then is spread over the samples that were counted.
    """
    flows: dict[Node, float] = {}

    def follow(node: Node, held: float) -> None:
        """``held``: flow over all that was counted, of nodes before a shuffle; 0 elsewhere."""
        count, delta = int(last[node][0]), int(last[node][0] - first[node][0])
        flows[node] = held * count if held else (delta or count) / passed
        for before in node.inputs:
            given = int(last[before][0])
            follow(before, flows[node] / given if node.kind == "shuffle" and given else held)

    follow(root, 0.0)
    return flows


def counted(dataset: tf.data.Dataset, counter: Any, by_row: bool = False) -> tf.data.Dataset:
    """The same elements, added up on their way in a variable: (elements, samples, bytes)."""
    spec = dataset.element_spec

    def add(*element: Any) -> Any:
        value = element if type(spec) is tuple else element[0]
        parts = tf.nest.flatten(value, expand_composites=True)
        size = sum((_bytes(part) for part in parts), tf.constant(0, tf.int64))
        samples = row_count(value) if by_row else tf.constant(1, tf.int64)
        counter.assign_add(tf.stack([tf.constant(1, tf.int64), samples, size]))
        return value

    return dataset.map(tf.autograph.experimental.do_not_convert(add))


def _bytes(part: Any) -> Any:
    if part.dtype == tf.string:
        return tf.reduce_sum(tf.cast(tf.strings.length(part), tf.int64))
    if part.dtype in (tf.variant, tf.resource):
        return tf.constant(0, tf.int64)
    return tf.size(part, tf.int64) * part.dtype.size


def _inside(root: Node, builder: Builder, counts: Counts, told: Callable[[], None]) -> dict[Node, Flow]:
    """Flows of the chains inside interleaves, from their ends to their sources."""
    flows: dict[Node, Flow] = {}
    for outer in root.nodes():
        after = counts.flows[outer].elements_per_sample if outer.looked else 0.0
        before = None
        into = counts.flows[outer.inputs[0]].elements_per_sample if outer.looked else 0.0
        for inner in reversed(outer.looked):
            if not into:
                flows[inner] = Flow(0.0, 0.0)
                continue
            sizes, per_input = _measured(outer, inner, builder, math.ceil(counts.samples * into), told)
            elements = after if before is None or before.kind in _ONE_TO_ONE else per_input * into
            flows[inner] = Flow(elements, sizes)
            after, before = elements, inner
    return flows


def _measured(outer: Node, inner: Node, builder: Builder, inputs: int, told: Callable[[], None]) -> tuple[float, float]:
    """Bytes of an element of a node inside an interleave, and its elements for each of the interleave's ``inputs``."""
    into, out = element_counter(), element_counter()
    below = counted(builder.build(outer.inputs[0], leave_out_order).take(max(1, inputs)), into)
    start = time.perf_counter()
    for n, _ in enumerate(counted(inner.inner.prefix(below), out)):
        told()
        took = time.perf_counter() - start
        if took > _INNER_S or (n + 1 >= _INNER_ELEMENTS and inner.kind in _ONE_TO_ONE):
            break
    elements, _, size = (int(number) for number in out.numpy())
    return size / max(1, elements), elements / max(1, int(into[0]))


def leave_out_order(node: Node, inputs: Sequence[Any]) -> Any:
    """Leaves out what only orders or keeps elements: for taking samples of them."""
    return inputs[0] if node.kind in ("shuffle", "prefetch") or node.kind in STORES else None
