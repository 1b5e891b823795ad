"""From a plan to a ``tf.data.Dataset``: order, epochs, positions, shards, and batches that lose no record in
silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from greenload import backends, scalars
from greenload.array_ops import tensorflow_ops
from greenload.backends.dali import plugin
from greenload.backends.dali.base import Target
from greenload.backends.dali.runner import target_of
from greenload.errors import BackendUnavailable, PipelineError, SourceError, UsageError
from greenload.loading.dali_node import DaliNode
from greenload.loading.survey import warn_of_losses
from greenload.loading.tf_graph import Stream, options, plain
from greenload.loading.verify import MARK, REMEDY, good_records, naming, record_error
from greenload.planning.choose import make_plan
from greenload.plans.order import Order, Position, Shard
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Build", "Order", "Position", "Shard", "assemble", "load", "require"]

_NOTHING = np.int64(-1)  # a position that no sample has


def load(
    pipeline: Pipeline | Plan,
    backend: str | Mapping[str, str] = "auto",
    *,
    epochs: int | None = None,
    start: Position | None = None,
    shard: Shard | None = None,
    threads: int | None = None,
    prefetch: int = 2,
    on_error: Literal["raise", "skip"] = "raise",
    device_id: int | None = None,
    hw_decoder_load: float | None = None,
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

    On backend ``"dali"`` DALI is the last node, and images and labels are on the GPU: put nothing behind it, as most of
    tf.data's nodes want batches on the host. Each iterator builds a DALI pipeline, so the pure form with
    ``steps_per_epoch`` saves one an epoch. A bad record stops the stream, up to ``prefetch`` batches before its own.
    TensorFlow takes a GPU's whole memory, unless ``tf.config.experimental.set_memory_growth`` is set first.

    Args:
        pipeline: what to load, or a plan of it (then ``backend``, ``threads`` and ``prefetch`` are the plan's).
        backend: ``"auto"``, ``"tf"``, ``"dali-cpu"``, ``"dali"`` (on a GPU) or ``"pillow"``; or a backend by the name
            of a step, as ``make_plan`` takes it.
        epochs: how many epochs the pure form holds, counted from epoch 0: with ``start`` at epoch 3, ``epochs=90``
            gives 87.
        start: where to begin. In the auto-advancing form an epoch only.
        shard: which part of every epoch.
        threads: threads that work on samples, at most; all processors of this process if not given.
        prefetch: batches held ready, at most.
        on_error: ``"raise"`` stops at a bad record with an error that names it; ``"skip"`` verifies the whole set
            first (once; remembered until a file changes), leaves bad records out before epoch 0, and warns with their
            names.
        device_id: the GPU's number, for backend ``"dali"``; 0 if not given. ``"auto"`` considers ``"dali"`` only
            where it is given, since batches then stay on the GPU.
        hw_decoder_load: the share of JPEGs for the GPU's fixed-function decoder, for backend ``"dali"``.

    Warns of images whose EXIF orientation isn't applied, of 16-bit PNGs that use only their low bits, and with
    ``backend="auto"`` of files of kinds that no backend here reads, by a look at 16 records, and at one more of each
    extension; ``greenload check`` counts them all.

    Returns:
        Images ``[batch, height, width, channels]`` of the pipeline's dtype and labels int64 ``[batch]``, or
        ``[batch, classes]`` behind ``OneHot`` (without the batch dimension where the pipeline has no ``Batch``). The
        number of batches is known (``len(ds)``). Iterating from Python raises ``RecordError`` for a bad record; inside
        ``fit`` it is TensorFlow's ``InvalidArgumentError``, which names the same file (but for damage that only DALI
        finds on a GPU: there it is DALI's own ``InternalError``; iterate from Python, or run ``greenload check``).

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
    if isinstance(pipeline, Plan):
        chosen = pipeline
    else:
        gpu = device_id is not None and plugin.availability().usable
        chosen = make_plan(pipeline, backend, threads=threads, prefetch=prefetch, gpu=gpu)
        if backend == "auto" and not chosen.on_gpu:
            device_id = hw_decoder_load = None  # it might have been chosen
    target = device_of(chosen, device_id, hw_decoder_load)
    dataset = assemble(chosen, target, epochs=epochs, start=start, shard=shard, on_error=on_error)
    warn_of_losses(chosen, skipped=on_error == "skip")
    return dataset


def assemble(
    chosen: Plan,
    target: Target | None = None,
    *,
    epochs: int | None = None,
    start: Position | None = None,
    shard: Shard | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> tf.data.Dataset:
    """What ``load`` does once it is clear that a plan runs here, and where.

    Args:
        chosen: the plan.
        target: where its part on backend ``"dali"`` runs: a GPU; or the CPU, to rehearse the same there. ``None`` if it
            has no such part.
        epochs: as ``load``, and so are the others.
    """
    if epochs is not None:
        epochs = scalars.positive(UsageError, "epochs", epochs, " or None")
    order, begin = resolve_order(chosen, start, shard, on_error)
    return dataset_of(chosen, order, begin, epochs, target)


def resolve_order(
    plan: Plan, start: Position | None, shard: Shard | None, on_error: Literal["raise", "skip"]
) -> tuple[Order, Position]:
    """The order of a plan's samples, and where in it to begin.

    Args:
        plan: whose samples they are.
        start: as ``load``, and so are the others.

    Raises:
        UsageError, SourceError, PipelineError, BackendUnavailable: as ``load``.
    """
    if on_error not in ("raise", "skip"):
        raise UsageError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
    for name, value, kind in (("start", start, Position), ("shard", shard, Shard)):
        if value is not None and not isinstance(value, kind):
            raise UsageError(f"{name} must be a {kind.__name__}, not {value!r}")
    pipeline, valid = plan.pipeline, None
    if on_error == "skip":
        limit, truncated = pipeline.max_bytes, pipeline.truncated
        valid = good_records(pipeline.source, plan.threads, plan.decoder, limit, truncated, plan.readers)
    order = Order(plan.pipeline, valid, shard or Shard())
    if order.samples == 0:
        raise SourceError(f"{order.shard} of {len(plan.pipeline.source)} samples is empty: use fewer shards")
    begin = start or Position()
    if begin.sample >= order.samples:
        raise UsageError(f"start: sample {begin.sample} is beyond the epoch's {order.samples} samples")
    _check_batch(plan.pipeline, order.samples)
    return order, begin


def dataset_of(
    chosen: Plan, order: Order, begin: Position, epochs: int | None, target: Target | None = None
) -> tf.data.Dataset:
    """The dataset of a plan that runs here, whose order is settled.

    Args:
        chosen: the plan.
        order: of its samples.
        begin: where to begin in it.
        epochs: as ``load``.
        target: as ``assemble``.
    """
    import tensorflow as tf

    if target is None:
        return Build(chosen, order).dataset(epochs, begin)
    with tf.device("/cpu:0"):  # whatever is the default here, as under a strategy: only DALI's node is elsewhere
        return Build(chosen, order, target).dataset(epochs, begin)


def device_of(plan: Plan, device_id: int | None, hw_decoder_load: float | None) -> Target | None:
    """Where a plan's part of backend ``"dali"`` runs; ``None`` if it has none.

    Raises:
        BackendUnavailable: the plan can't be loaded here.
        UsageError: it asks for a device that it doesn't use.
    """
    if not plan.on_gpu:
        if device_id is not None or hw_decoder_load is not None:
            raise UsageError(f"device_id and hw_decoder_load are for backend 'dali', but this is for {plan.backend!r}")
        require(plan)
        return None
    target = target_of("dali", device_id, hw_decoder_load)
    assert target.gpu is not None
    _require(plan.backends)
    plugin.experimental()
    plugin.tensorflow_device(target.gpu)
    return target


def require(plan: Plan) -> None:
    """Make sure that a plan can be loaded here, with its batches in tf.data's hands.

    Raises:
        BackendUnavailable: it can't; names the remedy.
    """
    if plan.on_gpu:
        raise BackendUnavailable(
            "backend 'dali' keeps its output on the GPU, where tf.data's other nodes can't have it: "
            "use backend='dali-cpu' or 'tf'"
        )
    _require(plan.backends)


def _require(names: Sequence[str]) -> None:
    backends.require(dict.fromkeys(["tf", *names]))


def _check_batch(pipeline: Pipeline, samples: int) -> None:
    batch = pipeline.batch
    if batch and batch.drop_remainder and batch.size > samples:
        raise PipelineError(
            f"{batch} drops the remainder, and its size is above the epoch's {samples} samples: nothing would be left; "
            f"use a size of at most {samples}"
        )


class Build:
    """Puts one dataset together. Holds what its functions share: tables of paths or pixels, the caches.

    Args:
        plan: what to build.
        order: of its samples.
        target: where the part on backend ``"dali"`` runs, as the last node; else batches come back to tf.data.
    """

    def __init__(self, plan: Plan, order: Order, target: Target | None = None) -> None:
        import tensorflow as tf

        self.plan = plan
        self.order = order
        self.numbers = DrawLayout.of(plan.pipeline)
        self.stream = Stream(plan, order.group)
        self.node = DaliNode(plan, target) if target else None
        # Made within an epoch's functions, tables would be part of the graph, and copied at each start.
        self._labels = tf.constant(plan.pipeline.source.labels)
        self._valid = None if order.valid is None else tf.constant(order.valid)
        batch = plan.pipeline.batch
        self.batch = batch.size if batch else 1
        self.drop_remainder = bool(batch and batch.drop_remainder)

    def dataset(self, epochs: int | None, start: Position) -> tf.data.Dataset:
        """The dataset that ``load`` returns: pure for a number of ``epochs``, auto-advancing for ``None``."""
        import tensorflow as tf

        if epochs is None:
            if start.sample:
                raise UsageError(
                    "start: the auto-advancing form begins at an epoch, so sample must be 0; "
                    "pass epochs= to begin within one"
                )
            counter = tf.Variable(start.epoch, dtype=tf.int64, trainable=False)
            # DALI's node begins without being asked, and so says itself when the next epoch has come.
            advance = (lambda: counter.assign_add(1).op) if self.node else None
            current = counter.read_value if self.node else lambda: counter.assign_add(1) - 1
            begin_next = plain(lambda _: self.epoch(current(), tf.constant(0, tf.int64)))
            epochs_in_turn = tf.data.Dataset.from_tensors(0).flat_map(begin_next)
            length = self.batches(0)
        else:
            if start.epoch >= epochs:
                raise UsageError(f"start: epoch {start.epoch} is not among the {epochs} epochs 0 … {epochs - 1}")
            begin = plain(
                lambda epoch: self.epoch(epoch, tf.where(epoch == start.epoch, np.int64(start.sample), np.int64(0)))
            )
            epochs_in_turn = tf.data.Dataset.range(start.epoch, epochs).flat_map(begin)
            advance = None
            length = self.batches(start.sample) + (epochs - start.epoch - 1) * self.batches(0)
        if self.node:
            rows = epochs_in_turn.with_options(options(self.plan))
            plan = self.plan
            return self.node.dataset(rows, length, lambda text: record_error(text, plan.pipeline.source, plan), advance)
        bounded = epochs_in_turn.apply(tf.data.experimental.assert_cardinality(length)).prefetch(self.plan.prefetch)
        return naming(bounded.with_options(options(self.plan)), self.plan)

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
            plain(lambda positions, state: self.checked(epoch, positions, state))
        )
        if self.node:
            return self.node.rows(checked)
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
            index = self.order.indices(epoch, position[tf.newaxis], tensorflow_ops(), self._valid)[0]
            return tf.debugging.Assert(False, [MARK, self.stream.reading.name(index), index, REMEDY])

        with tf.control_dependencies([tf.cond(tf.reduce_any(differs), missing, tf.no_op)]):
            passed: dict[str, Any] = tf.nest.map_structure(tf.identity, state, expand_composites=True)
            return passed

    def roots(self, epoch: Any, first: Any) -> tf.data.Dataset:
        """The samples of an epoch: position, index, label, prepared numbers, and what reading them one by one needs."""
        import tensorflow as tf

        ops = tensorflow_ops()
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

        return self.stream.roots(tf.data.Dataset.range(first // size, -(-end // size)).map(plain(chunk)))


def _empty(key: str, spec: Any) -> Any:
    """A tensor that fits a batch's spec and holds no sample."""
    import tensorflow as tf

    if isinstance(spec, tf.RaggedTensorSpec):
        return tf.RaggedTensor.from_tensor(tf.zeros([0, 1, 0], spec.dtype), ragged_rank=spec.ragged_rank)
    value = _NOTHING if key == "position" else tf.zeros([], spec.dtype)
    return tf.fill([n or 0 for n in spec.shape], value)
