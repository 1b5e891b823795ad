"""From a plan to a ``tf.data.Dataset``: order, epochs, positions, shards, and batches that lose no record in
silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from greenload import backends, draws
from greenload.backends.tf_stream import Stream, options
from greenload.errors import BackendUnavailable, PipelineError, SourceError, UsageError
from greenload.pipeline import Pipeline
from greenload.plan import Plan
from greenload.planning import make_plan
from greenload.prepared import Numbers
from greenload.verifying import MARK, REMEDY, good_records, naming

if TYPE_CHECKING:
    import tensorflow as tf

_NOTHING = np.int64(-1)  # a position that no sample has
_ENDLESS = 1 << 40


@dataclass(frozen=True)
class Position:
    """A place in the endless stream of a pipeline: where to start or to resume. It costs nothing to reach.

    Keep a batch boundary: a stream begun at ``sample`` cuts its batches from there.
    """

    epoch: int = 0
    """Which epoch, from 0."""
    sample: int = 0
    """How many samples of that epoch (and of this shard) to leave out."""

    def __post_init__(self) -> None:
        for name in ("epoch", "sample"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UsageError(f"Position: {name} must be a whole number from 0, not {value!r}")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` equal parts of every epoch: the positions that leave ``index`` over when divided by ``count``.

    All shards together are the unsharded epoch; each sample's augmentation is the same in whichever shard it falls.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        for name in ("index", "count"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), int):
                raise UsageError(f"Shard: {name} must be an integer, not {getattr(self, name)!r}")
        if not 0 <= self.index < self.count:
            raise UsageError(f"Shard: index must be in 0 … count − 1, not {self.index} of {self.count}")

    def size(self, samples: int) -> int:
        """How many of ``samples`` positions are this shard's."""
        return (samples - self.index + self.count - 1) // self.count


@dataclass(frozen=True)
class Order:
    """Which sample stands at which position of an epoch, and the numbers it brings along."""

    pipeline: Pipeline
    valid: NDArray[np.int64] | None
    """The indices of good records, where bad ones are left out; ``None`` for all."""
    shard: Shard = Shard()
    endless: bool = False
    """Whether an epoch starts over, with the same order and draws, instead of ending: for measuring."""

    @property
    def total(self) -> int:
        """Samples in an epoch of all shards."""
        return len(self.pipeline.source) if self.valid is None else len(self.valid)

    @property
    def samples(self) -> int:
        """Samples in an epoch of this shard."""
        return _ENDLESS if self.endless else self.shard.size(self.total)

    @property
    def group(self) -> int | None:
        """How many positions of this shard, from 0 on, have samples that lie together; ``None`` if none do."""
        shuffle = self.pipeline.shuffle
        if shuffle is None or shuffle.block is None:
            return None
        return -(-draws.Blocks.of(self.total, shuffle.block).group // self.shard.count)

    def indices(self, epoch: Any, position: Any, ops: draws.Ops = draws.NUMPY, valid: Any = None) -> Any:
        """The samples at positions of this shard's epoch: int64 of the shape of ``position``, which has a dimension.

        ``valid`` is the order's own as ``ops`` has it, where it shall not become part of a graph.
        """
        index = ops.i64(position) * self.shard.count + self.shard.index
        if self.endless:
            index = index % self.total
        if self.pipeline.shuffle:
            index = draws.permute(index, self.total, self.pipeline.seed, epoch, ops, self.pipeline.shuffle.block)
        return index if self.valid is None else ops.take(ops.i64(self.valid if valid is None else valid), index)


def load(
    pipeline: Pipeline | Plan,
    backend: str = "auto",
    *,
    epochs: int | None = None,
    start: Position | None = None,
    shard: Shard | None = None,
    threads: int | None = None,
    prefetch: int = 2,
    on_error: Literal["raise", "skip"] = "raise",
) -> tf.data.Dataset:
    """A pipeline as an ordinary ``tf.data.Dataset`` of ``(image, label)``.

    Two forms. With ``epochs`` the dataset is **pure**: that many epochs in one stream, the same each time it is
    iterated, on any machine, at any thread count. Without, it is **auto-advancing**, made for ``model.fit(ds,
    epochs=…)``: each new iteration is the next epoch, with its own order and augmentation. That form keeps a counter
    in the dataset, hence:

    - a peek (``next(iter(ds))``, ``ds.take(1)``) and an iterator given up halfway each use up an epoch; with
      ``steps_per_epoch`` below the epoch's length, the rest of each epoch is never seen;
    - ``.cache()`` behind it freezes its first epoch (use the stage ``Cache``), and tf.data service sees only the first;
    - two iterators at a time share the counter; iterator checkpoints can't store it.

    For any of these, and to resume in the middle of an epoch, use the pure form with ``start``.

    Args:
        pipeline: what to load, or a plan of it (then ``backend``, ``threads`` and ``prefetch`` are the plan's).
        backend: ``"auto"``, ``"tf"`` or ``"dali-cpu"``.
        epochs: how many epochs the pure form holds, counted from epoch 0: with ``start`` at epoch 3, ``epochs=90``
            gives 87.
        start: where to begin. In the auto-advancing form an epoch only.
        shard: which part of every epoch.
        threads: threads that work on samples, at most; all processors of this process if not given.
        prefetch: batches held ready, at most.
        on_error: ``"raise"`` stops at a bad record with an error that names it; ``"skip"`` verifies the whole set
            first (once; remembered until a file changes), leaves bad records out before epoch 0, and warns with their
            names.

    Returns:
        Images ``[batch, height, width, channels]`` of the pipeline's dtype and labels int64 ``[batch]``, or
        ``[batch, classes]`` behind ``OneHot`` (without the batch dimension where the pipeline has no ``Batch``). The
        number of batches is known (``len(ds)``). Iterating from Python raises ``RecordError`` for a bad record; inside
        ``fit`` it is TensorFlow's ``InvalidArgumentError``, which names the same file.

    Raises:
        PipelineError: the backend can't hold the pipeline.
        SourceError: the source holds nothing to load, or the shard would be empty.
        RecordError: a label is outside ``OneHot``'s classes; names its sample.
        BackendUnavailable: the backend can't run here; names the remedy.
        UsageError: an argument is out of range.

    Example:
        >>> ds = load(train)
        >>> model.fit(ds, epochs=3)                                   # three different augmentations
        >>> load(train, epochs=90, start=Position(epoch=3, sample=51200))
    """
    chosen = (
        pipeline if isinstance(pipeline, Plan) else make_plan(pipeline, backend, threads=threads, prefetch=prefetch)
    )
    require(chosen)
    if on_error not in ("raise", "skip"):
        raise UsageError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
    if epochs is not None and (isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1):
        raise UsageError(f"epochs must be a positive integer or None, not {epochs!r}")
    for name, value, kind in (("start", start, Position), ("shard", shard, Shard)):
        if value is not None and not isinstance(value, kind):
            raise UsageError(f"{name} must be a {kind.__name__}, not {value!r}")
    valid = good_records(chosen.pipeline.source, chosen.threads, chosen.decoder) if on_error == "skip" else None
    order = Order(chosen.pipeline, valid, shard or Shard())
    if order.samples == 0:
        raise SourceError(f"{order.shard} of {len(chosen.pipeline.source)} samples is empty: use fewer shards")
    begin = start or Position()
    if begin.sample >= order.samples:
        raise UsageError(f"start: sample {begin.sample} is beyond the epoch's {order.samples} samples")
    _check_batch(chosen.pipeline, order.samples)
    return Build(chosen, order).dataset(epochs, begin)


def require(plan: Plan) -> None:
    """Make sure that a plan can be loaded into tf.data here.

    Raises:
        BackendUnavailable: it can't; names the remedy.
    """
    if "dali" in plan.backends:
        raise BackendUnavailable(
            "backend 'dali' keeps its output on the GPU and is not loaded into tf.data yet: use backend='dali-cpu' "
            "or 'tf', or greenload.backends.dali.stream without TensorFlow"
        )
    for name in dict.fromkeys(["tf", *plan.backends]):
        found = backends.get(name).availability()
        if not found.usable:
            raise BackendUnavailable(f"backend {name!r}: {found.detail}; {found.remedy}")


def _check_batch(pipeline: Pipeline, samples: int) -> None:
    batch = pipeline.batch
    if batch and batch.drop_remainder and batch.size > samples:
        raise PipelineError(
            f"{batch} drops the remainder, and its size is above the epoch's {samples} samples: nothing would be left; "
            f"use a size of at most {samples}"
        )


class Build:
    """Puts one dataset together. Holds what its functions share: tables of paths or pixels, the caches."""

    def __init__(self, plan: Plan, order: Order) -> None:
        import tensorflow as tf

        self.plan = plan
        self.order = order
        self.numbers = Numbers.of(plan.pipeline)
        self.stream = Stream(plan, order.group)
        # Made within an epoch's functions, tables would be part of the graph, and copied at each start.
        self._labels = tf.constant(plan.pipeline.source.labels)
        self._valid = None if order.valid is None else tf.constant(order.valid)
        batch = plan.pipeline.batch
        self.batch = batch.size if batch else 1
        self.drop_remainder = bool(batch and batch.drop_remainder)

    def dataset(self, epochs: int | None, start: Position) -> tf.data.Dataset:
        """The dataset that ``load`` returns: pure for a number of ``epochs``, auto-advancing for ``None``."""
        import tensorflow as tf

        plain = tf.autograph.experimental.do_not_convert  # nothing in here is Python control flow to be traced
        if epochs is None:
            if start.sample:
                raise UsageError(
                    "start: the auto-advancing form begins at an epoch, so sample must be 0; "
                    "pass epochs= to begin within one"
                )
            counter = tf.Variable(start.epoch, dtype=tf.int64, trainable=False)
            begin_next = plain(lambda _: self.epoch(counter.assign_add(1) - 1, tf.constant(0, tf.int64)))
            epochs_in_turn = tf.data.Dataset.from_tensors(0).flat_map(begin_next)
            length = self.batches(0)
        else:
            if start.epoch >= epochs:
                raise UsageError(f"start: epoch {start.epoch} is not among the {epochs} epochs 0 … {epochs - 1}")
            begin = plain(
                lambda epoch: self.epoch(epoch, tf.where(epoch == start.epoch, np.int64(start.sample), np.int64(0)))
            )
            epochs_in_turn = tf.data.Dataset.range(start.epoch, epochs).flat_map(begin)
            length = self.batches(start.sample) + (epochs - start.epoch - 1) * self.batches(0)
        bounded = epochs_in_turn.apply(tf.data.experimental.assert_cardinality(length)).prefetch(self.plan.prefetch)
        return naming(bounded.with_options(options(self.plan)), self.plan.pipeline)

    def endless(self) -> tf.data.Dataset:
        """Epoch 0 over and over in one stream, for an order that is endless: for measuring."""
        import tensorflow as tf

        zero = tf.constant(0, tf.int64)
        return self.epoch(zero, zero).prefetch(self.plan.prefetch)

    def endless_roots(self) -> tf.data.Dataset:
        """The samples of ``endless()`` before anything is read."""
        import tensorflow as tf

        zero = tf.constant(0, tf.int64)
        return self.roots(zero, zero)

    def batches(self, first: int) -> int:
        """How many batches an epoch begun at position ``first`` has."""
        samples = self.order.samples - first
        return samples // self.batch if self.drop_remainder else -(-samples // self.batch)

    def epoch(self, epoch: Any, first: Any) -> tf.data.Dataset:
        """One epoch from position ``first`` on; both int64 scalars."""
        import tensorflow as tf

        samples = self.stream.samples(self.roots(epoch, first))
        # Directly behind its map, batching becomes one with it: samples are stacked while the processor still has them
        # cached, which saves 3 to 5 %. A record that fails takes its batch along, and is looked for below.
        batches = samples.batch(self.batch, drop_remainder=self.drop_remainder).ignore_errors()
        # Stands for a last batch all of whose records failed: the stream would otherwise just end.
        nothing = tf.data.Dataset.from_tensors({key: _empty(key, spec) for key, spec in batches.element_spec.items()})
        expected = tf.data.Dataset.range(first, self.order.samples).batch(
            self.batch, drop_remainder=self.drop_remainder
        )
        checked = tf.data.Dataset.zip(expected, batches.concatenate(nothing)).map(
            lambda positions, state: self.checked(epoch, positions, state)
        )
        finished = self.stream.finish(checked)
        return finished if self.plan.pipeline.batch else finished.unbatch()

    def checked(self, epoch: Any, positions: Any, state: dict[str, Any]) -> dict[str, Any]:
        """The batch as it is, or an error naming the first record that should be in it and isn't."""
        import tensorflow as tf

        found = state.pop("position")
        count = tf.minimum(tf.size(positions), tf.size(found))
        differs = tf.concat([positions[:count] != found[:count], tf.ones_like(positions[count:], tf.bool)], 0)

        def missing() -> Any:
            again = self.stream.samples(self.roots(epoch, positions[0]).take(tf.size(positions, tf.int64)))
            # Counts on from the first position as long as none is missing.
            position = again.ignore_errors().reduce(
                positions[0], lambda next_one, state: next_one + tf.cast(state["position"] == next_one, tf.int64)
            )
            position = tf.minimum(position, positions[-1])
            index = self.order.indices(epoch, position[tf.newaxis], draws.tensorflow_ops(), self._valid)[0]
            return tf.debugging.Assert(False, [MARK, self.stream.reading.name(index), index, REMEDY])

        with tf.control_dependencies([tf.cond(tf.reduce_any(differs), missing, tf.no_op)]):
            passed: dict[str, Any] = tf.nest.map_structure(tf.identity, state, expand_composites=True)
            return passed

    def roots(self, epoch: Any, first: Any) -> tf.data.Dataset:
        """The samples of an epoch: position, index, label, prepared numbers, and what reading them one by one needs."""
        import tensorflow as tf

        ops = draws.tensorflow_ops()
        size, end = self.stream.reading.samples, self.order.samples

        def chunk(number: Any) -> dict[str, Any]:
            # Where an epoch is begun doesn't move its chunks: what lies together stays together.
            position = tf.range(tf.maximum(first, number * size), tf.minimum((number + 1) * size, end))
            index = self.order.indices(epoch, position, ops, self._valid)
            root = {"position": position, "index": index, "label": tf.gather(self._labels, index)}
            if self.numbers.count:
                root["numbers"] = self.numbers.prepare(self.plan.pipeline.seed, epoch, index, ops)
                root["numbers"].set_shape((None, self.numbers.count))
            return root

        return self.stream.roots(tf.data.Dataset.range(first // size, -(-end // size)).map(chunk))


def _empty(key: str, spec: Any) -> Any:
    """A tensor that fits a batch's spec and holds no sample."""
    import tensorflow as tf

    if isinstance(spec, tf.RaggedTensorSpec):
        return tf.RaggedTensor.from_tensor(tf.zeros([0, 1, 0], spec.dtype), ragged_rank=spec.ragged_rank)
    value = _NOTHING if key == "position" else tf.zeros([], spec.dtype)
    return tf.fill([n or 0 for n in spec.shape], value)
