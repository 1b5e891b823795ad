"""Builds a ``tf.data.Dataset`` of a plan: its epochs, each in its order, and batches that lose no record in silence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from greenload.array_ops import TENSORFLOW, Array, Ops
from greenload.backends.clocks import DRAWS, StepClock, ordered
from greenload.backends.dali.base import Target
from greenload.backends.native import op
from greenload.backends.native.array_recorder import computed
from greenload.backends.tf.backend import Element, State
from greenload.loading.bad_records import refuse
from greenload.loading.dali_node import DaliNode
from greenload.loading.elements import ECHOES, plain, traced_once
from greenload.loading.graph_clocks import GraphClocks, clocks_of_new
from greenload.loading.record_errors import naming, record_error
from greenload.loading.tf_graph import PlanGraph, options
from greenload.plans.order import Order, Position
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan
from greenload.system.frameworks import tf

_NOTHING = np.int64(-1)  # a position that no sample has


def build_dataset(
    plan: Plan, order: Order, begin: Position, epochs: int | None, target: Target | None = None
) -> tf.data.Dataset:
    """The dataset that ``load`` returns, of a plan that can run here.

    Args:
        plan: what to build.
        order: of its samples.
        begin: where to begin in it, as ``resolve_order`` checks it.
        epochs: how many epochs the pure form holds, counted from epoch 0; ``None`` for the auto-advancing form.
        target: where the part on backend ``"dali"`` runs: a GPU, or the CPU to rehearse the same there. ``None`` if
            there is no such part.
    """
    # Whatever is the default device, as under a strategy: only DALI's node is elsewhere.
    with tf.device("/cpu:0") if target else contextlib.nullcontext():
        return _loaded(DatasetBuilder(plan, order, target, clocks_of_new()), begin, epochs)


def _loaded(builder: DatasetBuilder, begin: Position, epochs: int | None) -> tf.data.Dataset:
    dataset = builder.advancing(begin) if epochs is None else builder.pure(begin, epochs)
    dataset.greenload_loaded = Loaded(builder, begin, epochs)
    for tell in _told:
        tell(dataset.greenload_loaded)
    return dataset


_told: list[Callable[[Loaded], None]] = []


def tell_loaded(told: Callable[[Loaded], None]) -> None:
    """Have a function called with how each dataset is made from now on, in a process all of whose are watched.

    Args:
        told: must not raise.
    """
    _told.append(told)


@dataclass(frozen=True)
class Loaded:
    """How a dataset of ``load`` was made: in its attribute ``greenload_loaded``."""

    builder: DatasetBuilder
    begin: Position
    epochs: int | None

    @property
    def step_clocks(self) -> Sequence[StepClock]:
        """Of its plan's steps, in the order of the data."""
        builder = self.builder
        return ordered(builder.plan, [*builder.stream.step_clocks, *(builder.node.clocks if builder.node else ())])

    def clocked(self) -> tf.data.Dataset:
        """The same dataset with clocks around its functions. They share what goes on from one iterator to the next: the
        epoch, and what caches keep.

        Raises:
            BackendUnavailable: the kernel's operations aren't built, or TensorFlow can't load them.
        """
        with tf.device("/cpu:0") if self.builder.node else contextlib.nullcontext():
            return _loaded(self.builder.clocked(GraphClocks()), self.begin, self.epochs)


class DatasetBuilder:
    """Builds one dataset. Holds what its functions share: tables of paths or pixels, and caches.

    Args:
        plan: what to build.
        order: of its samples.
        target: where the part on backend ``"dali"`` runs, as the last node; ``None``: batches come back to tf.data.
        clocks: put around its functions; none if not given.
        tables: of caches, as ``PlanGraph`` takes them.
    """

    def __init__(
        self,
        plan: Plan,
        order: Order,
        target: Target | None = None,
        clocks: GraphClocks | None = None,
        tables: Sequence[Any] = (),
    ) -> None:
        self.plan = plan
        self.order = order
        self.stream = PlanGraph(plan, order.group, clocks, tables)
        self.has_clocks = clocks is not None
        self._target = target
        self._counter: Any = None
        self.node = DaliNode(plan, target) if target else None
        labels = tf.constant(plan.pipeline.source.labels)
        leaves = any(group.crosses for group in self.stream.segment_groups)
        chunk = _chunks(plan, order, self.stream.reading.samples, labels, as_one=leaves and op.usable())
        if clocks is not None:
            chunk = clocks.around(DRAWS, DRAWS, chunk, self.stream.reading.samples)
        self._chunk = traced_once(chunk)
        batch = plan.pipeline.batch
        self.batch = batch.size if batch else 1
        self.drop_remainder = bool(batch and batch.drop_remainder)

    def clocked(self, clocks: GraphClocks) -> DatasetBuilder:
        """The same with clocks; it shares what goes on from one iterator to the next."""
        made = DatasetBuilder(self.plan, self.order, self._target, clocks, self.stream.tables)
        made._counter = self._counter
        return made

    def pure(self, begin: Position, epochs: int) -> tf.data.Dataset:
        """The pure form: the epochs from a position on, up to epoch ``epochs`` − 1, in one stream."""

        def epoch(number: Any) -> tf.data.Dataset:
            return self.epoch(number, tf.where(number == begin.epoch, np.int64(begin.sample), np.int64(0)))

        stream = tf.data.Dataset.range(begin.epoch, epochs).flat_map(plain(epoch))
        return self._finished(stream, self.order.batches(begin, epochs))

    def advancing(self, begin: Position) -> tf.data.Dataset:
        """The auto-advancing form: each iteration is the next epoch, from that of a position on."""
        if self._counter is None:
            self._counter = tf.Variable(begin.epoch, dtype=tf.int64, trainable=False)
        counter = self._counter
        # DALI's node begins before it is asked for a batch, and so decides itself when the next epoch begins.
        advance = (lambda: counter.assign_add(1).op) if self.node else None
        current = counter.read_value if self.node else lambda: counter.assign_add(1) - 1
        epoch = plain(lambda _: self.epoch(current(), tf.constant(0, tf.int64)))
        stream = tf.data.Dataset.from_tensors(0).flat_map(epoch)
        return self._finished(stream, self.order.batches_in_epoch(0), advance)

    def _finished(
        self, stream: tf.data.Dataset, length: int, advance: Callable[[], Any] | None = None
    ) -> tf.data.Dataset:
        """The dataset that users get: with its length, its options and its errors.

        Args:
            stream: the batches in order; rows of bytes where DALI is the last node.
            length: how many batches there are.
            advance: begins the next epoch, as ``DaliNode.dataset`` takes it.
        """
        plan = self.plan
        if self.node:
            rows = stream.with_options(options(plan))
            return self.node.dataset(rows, length, lambda text: record_error(text, plan), advance)
        bounded = stream.apply(tf.data.experimental.assert_cardinality(length)).prefetch(plan.prefetch)
        return naming(bounded.with_options(options(plan)), plan, self.stream.tell_trouble)

    def endless(self) -> tf.data.Dataset:
        """Epoch 0 again and again in one stream, for an order that is endless: for measuring."""
        zero = tf.constant(0, tf.int64)
        return self.epoch(zero, zero).prefetch(self.plan.prefetch)

    def endless_roots(self) -> tf.data.Dataset:
        """The samples of ``endless()`` before anything is read."""
        zero = tf.constant(0, tf.int64)
        return self.roots(zero, zero)

    def endless_batches(self) -> tf.data.Dataset:
        """The same in batches, for ``PlanGraph.by_batch``."""
        zero = tf.constant(0, tf.int64)
        return self.batches(zero, zero)

    def epoch(self, epoch: Any, first: Any) -> tf.data.Dataset:
        """One epoch from position ``first`` on; both int64 scalars."""
        if self.stream.by_batch and not self.node:
            return self.stream.finish(self.batches(epoch, first))
        samples = self._samples(epoch, first)
        # Directly behind its map, batching is fused with it: samples are stacked while the processor still has them
        # cached, which saves 3 to 5 %. A record that fails removes its whole batch, and is looked for in `checked`.
        batches = samples.batch(self.batch, drop_remainder=self.drop_remainder).ignore_errors()
        # Stands for a last batch all of whose records failed: the stream would otherwise just end.
        nothing = tf.data.Dataset.from_tensors({key: _empty(key, spec) for key, spec in batches.element_spec.items()})
        expected = tf.data.Dataset.range(first, self.order.samples).batch(
            self.batch, drop_remainder=self.drop_remainder
        )
        checked = tf.data.Dataset.zip(expected, batches.concatenate(nothing)).map(
            plain(lambda positions, state: self.checked(epoch, positions, state))
        )
        if self.node:
            return self.node.rows(checked)
        finished = self.stream.finish(checked)
        return finished if self.plan.pipeline.batch else finished.unbatch()

    def checked(self, epoch: Any, positions: Any, state: dict[str, Any]) -> dict[str, Any]:
        """The batch as it is, or an error naming the first record that should be in it and isn't."""
        present = state.pop("position")
        count = tf.minimum(tf.size(positions), tf.size(present))
        differs = tf.concat([positions[:count] != present[:count], tf.ones_like(positions[count:], tf.bool)], 0)

        def missing() -> Any:
            again = self._samples(epoch, positions[0], tf.size(positions, tf.int64))
            # Counts on from the first position as long as none is missing.
            position = again.ignore_errors().reduce(
                positions[0], lambda next_one, state: next_one + tf.cast(state["position"] == next_one, tf.int64)
            )
            position = tf.minimum(position, positions[-1])
            # Through a dataset too: a function called here would be part of this branch, and optimized at each start.
            index = self._chunks(epoch, position).take(1).get_single_element()["index"][0]
            return refuse(self.stream.reading.name, index)

        with tf.control_dependencies([tf.cond(tf.reduce_any(differs), missing, tf.no_op)]):
            passed: dict[str, Any] = tf.nest.map_structure(tf.identity, state, expand_composites=True)
            return passed

    def _samples(self, epoch: Any, first: Any, count: Any = None) -> tf.data.Dataset:
        """The samples of an epoch with their images, from a position on; ``count`` of them, and maybe further echoes of
        the last, if given."""
        begin = first % self.order.times
        roots = self.roots(epoch, first)
        if count is not None:
            roots = roots.take(-(-(begin + count) // self.order.times))
        return self.stream.samples(roots, begin)

    def batches(self, epoch: Any, first: Any) -> tf.data.Dataset:
        """The samples of an epoch in batches, for ``PlanGraph.by_batch``."""
        return self.stream.batches(self._chunks(epoch, first), self.batch, self.drop_remainder)

    def roots(self, epoch: Any, first: Any) -> tf.data.Dataset:
        """The samples of an epoch: position, index, label, prepared random values, and what reading each needs. With
        ``Echo`` each sample once, with the position of its first echo, and the values of all."""
        return self.stream.roots(self._chunks(epoch, first))

    def _chunks(self, epoch: Any, first: Any) -> tf.data.Dataset:
        """The same by chunk, before anything is read; the first chunk begins at ``first``."""
        size = self.stream.reading.samples
        numbers = tf.data.Dataset.range(first // self.order.times // size, -(-self.order.different // size))
        return numbers.map(plain(lambda number: self._chunk({"number": number, "epoch": epoch, "first": first})))


def _chunks(plan: Plan, order: Order, size: int, labels: Any, as_one: bool) -> Element:
    """A function of a chunk's number, the epoch and the position that it begins at, ``"first"``: position, index, label
    and prepared random values of the chunk's samples.

    Args:
        plan: whose samples they are.
        order: of them.
        size: samples of a chunk.
        labels: the source's, as a tensor.
        as_one: whether the kernel's operation computes indices and random values, in place of many of TensorFlow's.
    """
    layout = DrawLayout.of(plan.pipeline)
    # Made within an epoch's functions, a table would be part of the graph, and copied at each start.
    tables = [] if order.valid is None else [tf.constant(order.valid)]

    def drawn(ops: Ops, epoch: Array, position: Array, *valid: Array) -> list[Array]:
        index = order.indices(epoch, position, ops, *valid)
        values = [index]
        if layout.count:
            values.append(layout.prepare(plan.pipeline.seed, epoch, index, ops))
        if layout.count and order.times > 1:
            each = index[..., None] + ops.i64(np.zeros(order.times))
            echoes = each * 0 + ops.i64(np.arange(order.times))
            values.append(layout.prepare(plan.pipeline.seed, epoch, each, ops, echoes=echoes))
        return values

    def chunk(begin: State) -> State:
        number, epoch, first = begin["number"], begin["epoch"], begin["first"]
        # Where an epoch begins doesn't move its chunks: adjacent records stay in one chunk.
        begins = tf.maximum(first // order.times, number * size)
        position = order.times * tf.range(begins, tf.minimum((number + 1) * size, order.different))
        inputs = epoch, position, *tables
        index, *numbers = computed(drawn, *inputs) if as_one else drawn(TENSORFLOW, *inputs)
        root = {"position": position, "index": index, "label": tf.gather(labels, index)}
        for name, values, sides in zip(("numbers", ECHOES), numbers, ((), (order.times,)), strict=False):
            root[name] = tf.ensure_shape(values, (None, *sides, layout.count))
        return root

    return chunk


def _empty(key: str, spec: Any) -> Any:
    """A tensor that fits a batch's spec and holds no sample."""
    if isinstance(spec, tf.RaggedTensorSpec):
        return tf.RaggedTensor.from_tensor(tf.zeros([0, 1, 0], spec.dtype), ragged_rank=spec.ragged_rank)
    value = _NOTHING if key == "position" else tf.zeros([], spec.dtype)
    return tf.fill([n or 0 for n in spec.shape], value)
