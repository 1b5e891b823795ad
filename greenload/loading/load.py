"""Gives a pipeline's batches as a ``tf.data.Dataset``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from greenload import scalars
from greenload.backends import registry
from greenload.backends.dali import plugin
from greenload.backends.dali.base import Target
from greenload.backends.dali.runner import target_of
from greenload.errors import BackendUnavailable, PipelineError, SourceError, UsageError
from greenload.loading.dataset import build_dataset
from greenload.loading.survey import warn_of_losses
from greenload.loading.verify import good_records
from greenload.planning.choose import make_plan
from greenload.plans.order import Order, Position, Shard
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan, Planned, plan_in
from greenload.plans.steps import TF_DATA
from greenload.public import public
from greenload.system.frameworks import tf


@public
def load(
    pipeline: Pipeline | Plan | Planned,
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

    - a peek (``next(iter(ds))``, ``ds.take(1)``) and an abandoned iterator each use up an epoch; with
      ``steps_per_epoch`` below the epoch's length, the rest of each epoch is never seen;
    - ``.cache()`` behind it repeats its first epoch (use the stage ``Cache``), and tf.data service sees only the first;
    - two iterators at a time share the counter; iterator checkpoints can't store it.

    Where any of these matters, and to resume in the middle of an epoch, use the pure form with ``start``.

    A worker of tf.data service, or another process that runs the dataset's graph, calls ``register_operations`` first
    where the plan has steps on backend ``"native"``.

    On backend ``"dali"`` DALI is the last node, and images and labels are on the GPU: put nothing behind it, as most of
    tf.data's nodes need batches on the host. Each iterator builds a DALI pipeline: the pure form with
    ``steps_per_epoch`` builds one in all, not one per epoch. A bad record stops the stream, up to ``prefetch`` batches
    before its own. TensorFlow takes a GPU's whole memory, unless ``tf.config.experimental.set_memory_growth`` is set
    first.

    Args:
        pipeline: what to load, or a plan of it, or what ``gl.optimize`` found (then ``backend``, ``threads`` and
            ``prefetch`` are the plan's).
        backend: ``"auto"``, ``"tf"``, ``"dali-cpu"``, ``"dali"`` (on a GPU), ``"pillow"`` or ``"native"``; or a backend
            by the name of a step, as ``make_plan`` takes it.
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
    ``backend="auto"`` of files of kinds that no backend here reads. It looks at 16 records, and at one more of each
    extension; ``greenload check`` counts them all.

    Returns:
        Images ``[batch, height, width, channels]`` of the pipeline's dtype and labels int64 ``[batch]``, or
        ``[batch, classes]`` behind ``OneHot`` (without the batch dimension where the pipeline has no ``Batch``). The
        number of batches is known (``len(ds)``). Iterating from Python raises ``RecordError`` for a bad record. Inside
        ``fit`` TensorFlow raises ``InvalidArgumentError``, which names the same file. For damage that only DALI finds
        on a GPU it raises DALI's own ``InternalError``: iterate from Python, or run ``greenload check``.

    Raises:
        PipelineError: the backend can't run the pipeline.
        SourceError: the source holds nothing to load, or the shard would be empty.
        RecordError: a label is outside ``OneHot``'s classes; names its sample.
        BackendUnavailable: the backend can't run here; names the remedy.
        UsageError: an argument is out of range.

    Example:
        >>> ds = load(train)
        >>> model.fit(ds, epochs=3)                                   # three different augmentations
        >>> load(train, epochs=90, start=Position(epoch=3, sample=51200))
    """
    given = plan_in(pipeline)
    if isinstance(given, Plan):
        chosen = given
    else:
        gpu = device_id is not None and plugin.availability().usable
        chosen = make_plan(given, backend, threads=threads, prefetch=prefetch, gpu=gpu)
        if backend == "auto" and not chosen.on_gpu:
            device_id = hw_decoder_load = None  # it might have been chosen
    target = device_of(chosen, device_id, hw_decoder_load)
    if epochs is not None:
        epochs = scalars.positive(UsageError, "epochs", epochs, " or None")
    order, begin = resolve_order(chosen, epochs=epochs, start=start, shard=shard, on_error=on_error)
    dataset = build_dataset(chosen, order, begin, epochs, target)
    warn_of_losses(chosen, skipped=on_error == "skip")
    return dataset


def resolve_order(
    plan: Plan,
    *,
    epochs: int | None = None,
    start: Position | None = None,
    shard: Shard | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> tuple[Order, Position]:
    """The order of a plan's samples, and where in it to begin.

    Args:
        plan: whose samples they are.
        epochs: how many epochs, counted from epoch 0; ``None`` for the auto-advancing form.
        start: where to begin; ``None`` for the beginning.
        shard: which part of every epoch; ``None`` for all of it.
        on_error: whether bad records stay in the order, ``"raise"``, or are left out, ``"skip"``.

    Raises:
        UsageError: an argument is out of range.
        PipelineError: dropping the remainder leaves no batch.
        SourceError: the source holds nothing to load, or the shard would be empty.
        BackendUnavailable: the records can't be verified here.
    """
    scalars.one_of(UsageError, "on_error", on_error, ("raise", "skip"))
    for name, value, kind in (("start", start, Position), ("shard", shard, Shard)):
        if value is not None and not isinstance(value, kind):
            raise UsageError(f"{name} must be a {kind.__name__}, not {value!r}")
    begin = start or Position()
    _check_start(begin, epochs)
    valid = good_records(plan) if on_error == "skip" else None
    order = Order(plan.pipeline, valid, shard or Shard())
    if order.samples == 0:
        raise SourceError(f"{order.shard} of {len(plan.pipeline.source)} samples is empty: use fewer shards")
    if begin.sample >= order.samples:
        raise UsageError(f"start: sample {begin.sample} is beyond the epoch's {order.samples} samples")
    check_batch(plan.pipeline, order.samples)
    return order, begin


def _check_start(start: Position, epochs: int | None) -> None:
    if epochs is None:
        if start.sample:
            raise UsageError(
                "start: the auto-advancing form begins at an epoch, so sample must be 0; "
                "pass epochs= to begin within one"
            )
    elif start.epoch >= epochs:
        raise UsageError(f"start: epoch {start.epoch} is not among the {epochs} epochs 0 … {epochs - 1}")


def gpu_target(plan: Plan, device_id: int | None, hw_decoder_load: float | None) -> Target | None:
    """The GPU for a plan's part on backend ``"dali"``; ``None`` if it has no such part.

    Raises:
        UsageError: an argument is out of range, or given for a plan without such a part.
    """
    on_gpu = [segment.backend for segment in plan.segments if segment.traits.on_gpu]
    if on_gpu:
        return target_of(on_gpu[0], device_id, hw_decoder_load)
    if device_id is not None or hw_decoder_load is not None:
        raise UsageError(f"device_id and hw_decoder_load are for backend 'dali', but this is for {plan.backend!r}")
    return None


def device_of(plan: Plan, device_id: int | None, hw_decoder_load: float | None) -> Target | None:
    """The GPU for a plan's part on backend ``"dali"``, once TensorFlow and its plugin can use it; else ``None``.

    Raises:
        BackendUnavailable: the plan can't be loaded here.
        UsageError: an argument is out of range, or given for a plan without such a part.
    """
    target = gpu_target(plan, device_id, hw_decoder_load)
    if target is None:
        require(plan)
        return None
    assert target.gpu is not None
    _require(plan.backends)
    plugin.experimental()
    plugin.tensorflow_device(target.gpu)
    return target


def require(plan: Plan) -> None:
    """Make sure that a plan can be loaded here, with its batches on the host, in tf.data.

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
    registry.require(dict.fromkeys([TF_DATA, *names]))


def check_batch(pipeline: Pipeline, samples: int) -> None:
    """Make sure that an epoch of so many samples has a batch.

    Raises:
        PipelineError: it has fewer samples than a batch, and the remainder is dropped.
    """
    batch = pipeline.batch
    if batch and batch.drop_remainder and batch.size > samples:
        raise PipelineError(
            f"{batch} drops the remainder, and its size is above the epoch's {samples} samples: nothing would be left; "
            f"use a size of at most {samples}"
        )
