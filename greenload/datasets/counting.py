"""How many elements and bytes leave every node for each sample that leaves the whole: run once and counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from greenload.datasets.graph import STORES, Node, endless_repeat
from greenload.datasets.rebuild import Builder
from greenload.datasets.units import Unit, rows, unit
from greenload.errors import UsageError

if TYPE_CHECKING:
    import tensorflow as tf

COUNT_S = 8.0
"""Seconds after which counting ends, where an epoch is longer."""
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
    unit: Unit
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


def count(root: Node, builder: Builder, samples: int, told: Callable[[], None], sample: Unit | None = None) -> Counts:
    """Run a dataset for an epoch, or for some seconds of it, and count at every node.

    Args:
        root: the dataset.
        builder: makes the counted copy.
        samples: how many must leave it at least, where an epoch is too long to be counted whole.
        told: called whenever an element came.
        sample: what is counted as one sample; None: what the dataset's graph shows.

    Raises:
        UsageError: the dataset is empty.
    """
    sample = sample or unit(root)
    counts = _count(root, builder, samples, told, None, sample)
    if counts.epoch_elements is None and any(node.kind in STORES for node in root.nodes()):
        counts = _count(root, builder, samples, told, counts, sample)
    return replace(counts, flows={**counts.flows, **_inside(root, builder, counts.flows, told)})


def cutting(builder: Builder, counts: Counts, samples: int) -> Callable[[Node, Sequence[Any]], Any]:
    """Gives caches the part of their input that makes ``samples`` samples, where they were cut for counting."""

    def alter(node: Node, inputs: Sequence[Any]) -> Any:
        if counts.cut and node.kind in STORES:
            wanted = samples * counts.flows[node].elements_per_sample
            return builder.on(node, [inputs[0].take(max(1, round(wanted)))])
        return None

    return alter


def _count(
    root: Node, builder: Builder, samples: int, told: Callable[[], None], cut: Counts | None, sample: Unit
) -> Counts:
    import tensorflow as tf

    nodes = list(root.nodes())
    counters = {node: tf.Variable(tf.zeros(3, tf.int64), trainable=False) for node in nodes if node.inner is None}
    repeated = [node for node in nodes if endless_repeat(node)]
    cardinality = int(root.dataset.cardinality())
    unroll = bool(repeated) and cardinality in (tf.data.INFINITE_CARDINALITY, tf.data.UNKNOWN_CARDINALITY)

    def alter(node: Node, inputs: Sequence[Any]) -> Any:
        if node.kind in STORES or node.kind == "prefetch" or (unroll and endless_repeat(node)):
            made = inputs[0]
            if cut is not None and node.kind in STORES:
                made = made.take(max(1, round(samples * cut.flows[node].elements_per_sample)))
        else:
            made = builder.on(node, inputs)
        passing = counted(made, counters[node], sample.rows and node is root)
        if passing.element_spec == made.element_spec:
            return passing
        counters[node] = counters[node.inputs[0]]  # a map would lose what dense_to_ragged says of its elements
        return made

    dataset = builder.build(root, alter, shared=False)
    whole = counters[root]
    start = time.perf_counter()
    first: dict[Node, Any] | None = None
    ended = True
    for _ in dataset:
        told()
        if first is None:
            first = {node: counter.numpy() for node, counter in counters.items()}
        took = time.perf_counter() - start
        if took > COUNT_S and (sample.per_element * int(whole[1]) >= samples or took > 3 * COUNT_S):
            ended = False
            break
    took = time.perf_counter() - start
    last = {node: counter.numpy() for node, counter in counters.items()}
    if first is None or last[root][1] == 0:
        raise UsageError("a dataset to profile has elements, this one is empty: check what its source reads")
    through = last[root][1] - first[root][1]
    if not ended and through > 0:  # what filled buffers before the first element is no one's cost in the long run
        last = {node: last[node] - first[node] for node in last}
    passed = sample.per_element * int(last[root][1])
    return Counts(
        flows={
            node: Flow(float(found[0]) / passed, float(found[2]) / max(1, int(found[0])))
            for node, found in last.items()
        },
        unit=sample,
        samples_per_element=passed / int(last[root][0]),
        epoch_elements=int(last[root][0]) if ended else None,
        samples=max(1, round(passed)),
        s_per_sample=took / (sample.per_element * max(1, int(whole[1]))),
        endless=unroll or cardinality == tf.data.INFINITE_CARDINALITY,
        cut=cut is not None,
    )


def counted(dataset: tf.data.Dataset, counter: Any, by_row: bool = False) -> tf.data.Dataset:
    """The same elements, added up on their way in a variable: (elements, samples, bytes)."""
    import tensorflow as tf

    spec = dataset.element_spec

    def add(*element: Any) -> Any:
        value = element if type(spec) is tuple else element[0]
        parts = tf.nest.flatten(value, expand_composites=True)
        size = sum((_bytes(part) for part in parts), tf.constant(0, tf.int64))
        samples = rows(value) if by_row else tf.constant(1, tf.int64)
        counter.assign_add(tf.stack([tf.constant(1, tf.int64), samples, size]))
        return value

    return dataset.map(tf.autograph.experimental.do_not_convert(add))


def _bytes(part: Any) -> Any:
    import tensorflow as tf

    if part.dtype == tf.string:
        return tf.reduce_sum(tf.cast(tf.strings.length(part), tf.int64))
    if part.dtype in (tf.variant, tf.resource):
        return tf.constant(0, tf.int64)
    return tf.size(part, tf.int64) * part.dtype.size


def _inside(root: Node, builder: Builder, flows: Mapping[Node, Flow], told: Callable[[], None]) -> dict[Node, Flow]:
    """Flows of the chains inside interleaves, from their ends to their sources."""
    found: dict[Node, Flow] = {}
    for outer in root.nodes():
        after = flows[outer].elements_per_sample if outer.looked else 0.0
        before = None
        for one in reversed(outer.looked):
            sizes, per_input = _measured(outer, one, builder, told)
            if before is None or before.kind in _ONE_TO_ONE:
                elements = after
            else:
                elements = per_input * flows[outer.inputs[0]].elements_per_sample
            found[one] = Flow(elements, sizes)
            after, before = elements, one
    return found


def _measured(outer: Node, one: Node, builder: Builder, told: Callable[[], None]) -> tuple[float, float]:
    """Bytes of an element of a node inside an interleave, and its elements for each of the interleave's input."""
    import tensorflow as tf

    into, out = (tf.Variable(tf.zeros(3, tf.int64), trainable=False) for _ in range(2))
    below = counted(builder.build(outer.inputs[0], bare), into)
    start = time.perf_counter()
    for n, _ in enumerate(counted(one.inner.prefix(below), out)):
        told()
        took = time.perf_counter() - start
        if took > _INNER_S or (n + 1 >= _INNER_ELEMENTS and one.kind in _ONE_TO_ONE):
            break
    elements, _, size = (int(number) for number in out.numpy())
    return size / max(1, elements), elements / max(1, int(into[0]))


def bare(node: Node, inputs: Sequence[Any]) -> Any:
    """Leaves out what only orders, keeps or repeats elements: for taking samples of them."""
    return inputs[0] if node.kind in ("shuffle", "prefetch") or node.kind in STORES or endless_repeat(node) else None
