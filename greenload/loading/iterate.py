"""Gives a pipeline's batches to NumPy, JAX or PyTorch, without TensorFlow where no step needs it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from greenload import scalars
from greenload.backends import registry
from greenload.backends.chain import Chain
from greenload.backends.clocks import StepClock
from greenload.backends.dali.runner import DaliRunner
from greenload.backends.tables import in_tf_data
from greenload.errors import PipelineError, UsageError
from greenload.loading.arrays import Framework, converted, require_framework
from greenload.loading.dataset import Loaded, build_dataset
from greenload.loading.load import device_of, gpu_target, resolve_order
from greenload.loading.read_ahead import ChainEngine, DaliEngine, Engine, ReadAhead, Wanted
from greenload.loading.survey import warn_of_losses
from greenload.machine import processors
from greenload.planning import cost_table
from greenload.planning.cache_form import sized_steps
from greenload.planning.choose import choose, make_plan, usable
from greenload.plans.order import Order, Position, Shard
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan, Planned, plan_in
from greenload.public import public
from greenload.system import forking, shutdown
from greenload.system.frameworks import tf


@public
class Batches(Iterator[tuple[Any, Any]]):
    """Batches of ``(images, labels)`` in order, once: what ``iterate`` returns.

    Several threads may ask for batches: each is given to one of them. Its threads and buffers are given back when it
    ends, is closed or is no longer referred to. It works only in the process that made it, not in a fork of that.
    """

    def __init__(
        self, plan: Plan, source: ReadAhead | tf.data.Dataset, to: Framework, order: Order, first: Position, epochs: int
    ) -> None:
        self.plan = plan
        """What they are made by."""
        self.watched: Any = None
        """What its steps have done so far, once ``watch`` was called; else ``None``."""
        self._dataset: Any = None if isinstance(source, ReadAhead) else source
        self._source: Any = iter(source)
        self._to: Framework = to
        self._order = order
        self._first = first
        self._epochs = epochs
        self._given = 0
        self._over = False
        self._lock = threading.Lock()
        self._made_in = os.getpid()
        for tell in _told:
            tell(self)

    def __next__(self) -> tuple[Any, Any]:
        """The next batch.

        Raises:
            RecordError: it holds a bad record; names it. Iteration is over then: every further call raises it again.
            UsageError: this is a fork of the process that made the iterator.
        """
        forking.check(self._made_in, "an iterator of batches")
        with shutdown.request, self._lock:
            if self._over:
                raise StopIteration
            images, labels = next(self._source)
            self._given += 1
            batch = converted(images, labels, self._to)
            for array in batch:  # its memory may be TensorFlow's or DALI's
                forking.in_child(array, forking.leak)
            return batch

    def __len__(self) -> int:
        """How many batches there are in all, with those already given."""
        return self._order.batches(self._first, self._epochs)

    @property
    def position(self) -> Position:
        """Where the next batch begins. To resume there, pass it on as ``start``; it costs nothing to reach."""
        pipeline, given = self._order.pipeline, self._given
        for epoch in range(self._first.epoch, self._epochs):
            begin = self._first.sample if epoch == self._first.epoch else 0
            batches = self._order.batches_in_epoch(begin)
            if given < batches:
                assert pipeline.batch is not None  # iterate sees to it
                return Position(epoch, begin + given * pipeline.batch.size)
            given -= batches
        return Position(self._epochs)

    @property
    def loaded(self) -> Loaded | None:
        """How its dataset was made, where tf.data works on pixels; else ``None``."""
        return None if self._dataset is None else self._dataset.greenload_loaded

    def close(self) -> None:
        """End it, and give back threads and buffers. Calling it twice is harmless."""
        self._over = True
        if os.getpid() == self._made_in and isinstance(self._source, ReadAhead):
            self._source.close()
        self._source = iter(())

    def step_clocks(self) -> Sequence[StepClock]:
        """Clocks of its plan's steps, in the order of the data. Where tf.data works on pixels they begin now.

        Raises:
            BackendUnavailable: the kernel's operations aren't built, or TensorFlow can't load them.
            UsageError: tf.data works on pixels, and a batch was given already.
        """
        with self._lock:
            if isinstance(self._source, ReadAhead):
                return self._source.clocks
            if self.loaded is not None and self.loaded.builder.has_clocks:
                return self.loaded.step_clocks
            if self._given or self._over:
                raise UsageError("tf.data works on pixels, and gave a batch already: watch batches before the first")
            clocked = self._dataset.greenload_loaded.clocked()
            self._dataset, self._source = clocked, iter(clocked)
            made: Loaded = clocked.greenload_loaded
            return made.step_clocks

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_told: list[Callable[[Batches], None]] = []


def tell_batches(told: Callable[[Batches], None]) -> None:
    """Have a function called with all batches that are made from now on, in a process all of whose are watched.

    Args:
        told: must not raise.
    """
    _told.append(told)


@public
def iterate(
    pipeline: Pipeline | Plan | Planned,
    to: Framework = "numpy",
    *,
    backend: str | Mapping[str, str] = "auto",
    epochs: int = 1,
    start: Position | None = None,
    shard: Shard | None = None,
    threads: int | None = None,
    prefetch: int = 2,
    on_error: Literal["raise", "skip"] = "raise",
    device_id: int | None = None,
    hw_decoder_load: float | None = None,
) -> Batches:
    """A pipeline's batches for NumPy, JAX or PyTorch: in the order, and with the pixels, that ``load`` gives.

    TensorFlow is imported only where a step of the plan is on backend ``"tf"``, or to verify records for
    ``on_error="skip"``, or where it decodes a file that the plan's own backend doesn't read. ``backend="auto"``
    therefore puts a step there only if no other backend can do it.

    What is copied:

    - ``"numpy"``: nothing on the CPU; on backend ``"dali"`` each batch is copied from the GPU to the host. Arrays are
      writable, except those that come from TensorFlow.
    - ``"torch"``: nothing. Tensors are on the device that made them: the GPU for ``"dali"``, else the CPU.
    - ``"jax"``: nothing. Arrays are on the device that made them; all backends align memory to 64 bytes, as JAX needs.
      Labels become int32 unless ``jax_enable_x64`` is set.

    Labels are on the images' device. A batch is complete when it is given, also on a GPU, which works on the next
    batches meanwhile. The iterator works in the process that made it, in any thread, but not in a fork.

    Warns of what decoding drops without an error, as ``load`` does.

    Args:
        pipeline: what to load, or a plan of it, or what ``gl.optimize`` found (then ``backend``, ``threads`` and
            ``prefetch`` are the plan's).
        to: ``"numpy"``, ``"jax"`` or ``"torch"``.
        backend: as ``load`` takes it.
        epochs: how many epochs, counted from epoch 0: with ``start`` at epoch 3, ``epochs=90`` gives 87.
        start: where to begin; a ``Batches.position`` to resume there.
        shard: which part of every epoch.
        threads: threads that work on samples, at most; all processors of this process if not given. Four more read
            files.
        prefetch: batches worked on or held ready, at most; four more are held as they were read.
        on_error: ``"raise"`` or ``"skip"``, as ``load`` takes it.
        device_id: the GPU's number, for backend ``"dali"``; 0 if not given.
        hw_decoder_load: the share of JPEGs for the GPU's fixed-function decoder, for backend ``"dali"``.

    Returns:
        An iterator of ``(images, labels)``: images ``[n, height, width, channels]`` of the pipeline's dtype, labels
        int64 ``[n]``, or ``[n, classes]`` behind ``OneHot``. It can be closed, and be used in ``with``.

    Raises:
        PipelineError: the backend can't run the pipeline, or it has no ``Batch``.
        SourceError: the source holds nothing to load, or the shard would be empty.
        RecordError: a label is outside ``OneHot``'s classes; names its sample. Bad records are found when they are
            reached.
        BackendUnavailable: a backend or a framework can't be used here; names the remedy.
        UsageError: an argument is out of range.

    Example:
        >>> for images, labels in iterate(train, "torch", epochs=90):
        ...     loss = criterion(model(images.permute(0, 3, 1, 2)), labels)
    """
    scalars.one_of(UsageError, "to", to, ("numpy", "jax", "torch"))
    epochs = scalars.positive(UsageError, "epochs", epochs)
    given = plan_in(pipeline)
    plan = given if isinstance(given, Plan) else _plan(given, backend, threads, prefetch)
    if plan.pipeline.batch is None:
        raise PipelineError("iterate gives batches, but the pipeline has no Batch: add Batch(32)")
    require_framework(to)
    if plan.uses_tf_data:
        target = device_of(plan, device_id, hw_decoder_load)
        order, first = resolve_order(plan, epochs=epochs, start=start, shard=shard, on_error=on_error)
        warn_of_losses(plan, skipped=on_error == "skip")
        return Batches(plan, build_dataset(plan, order, first, epochs, target), to, order, first, epochs)
    gpu_target(plan, device_id, hw_decoder_load)  # refuses arguments before anything is read
    registry.require(plan.backends)
    order, first = resolve_order(plan, epochs=epochs, start=start, shard=shard, on_error=on_error)
    plan.pipeline.check_labels()
    warn_of_losses(plan, skipped=on_error == "skip")
    flow = native_batches(plan, order, first, epochs, device_id, hw_decoder_load)
    return Batches(plan, flow, to, order, first, epochs)


def native_batches(
    plan: Plan,
    order: Order,
    first: Position,
    epochs: int,
    device_id: int | None = None,
    hw_decoder_load: float | None = None,
) -> ReadAhead:
    """A plan's batches as its last backend makes them: DALI's tensor lists, on their device, or arrays; and labels.

    Args:
        plan: of which no step is on backend ``"tf"``.
        order: of its samples.
        first: where to begin in it.
        epochs: how many epochs, counted from epoch 0.
        device_id: the GPU's number, for backend ``"dali"``; 0 if not given.
        hw_decoder_load: the share of JPEGs for the GPU's fixed-function decoder, for backend ``"dali"``.

    Raises:
        BackendUnavailable: a backend can't run here; names the remedy.
        UsageError: the plan has no use for the device.
    """
    return ReadAhead(plan, _engine(plan, device_id, hw_decoder_load), _wanted(order, first, epochs))


def _plan(pipeline: Pipeline, backend: str | Mapping[str, str], threads: int | None, prefetch: int) -> Plan:
    chosen = make_plan(pipeline, backend, threads=threads, prefetch=prefetch, gpu=True)
    if backend != "auto" or not chosen.uses_tf_data:
        return chosen
    known = cost_table.in_use(processors())
    able = [name for name in usable(known, gpu=True) if not in_tf_data(name)]
    without = choose(
        pipeline, sized_steps(pipeline, able), known, able, threads=chosen.threads, prefetch=chosen.prefetch
    )
    return chosen if without.uses_tf_data else without


def _engine(plan: Plan, device_id: int | None, hw_decoder_load: float | None) -> Engine:
    batch, segments = plan.pipeline.batch, plan.segments
    assert batch is not None
    if not segments or not segments[-1].traits.queues_batches:
        return ChainEngine(Chain(plan, batch.size), plan.prefetch)
    before = Chain(plan, batch.size, segments[:-1]) if len(segments) > 1 else None
    runner = DaliRunner(
        plan,
        segments[-1],
        batch_size=batch.size,
        threads=plan.threads,
        readers=registry.readers_of(plan),
        device_id=device_id,
        hw_decoder_load=hw_decoder_load,
    )
    return DaliEngine(runner, before)


def _wanted(order: Order, first: Position, epochs: int) -> Iterator[Wanted]:
    batch = order.pipeline.batch
    assert batch is not None
    for epoch in range(first.epoch, epochs):
        begin = first.sample if epoch == first.epoch else 0
        for number in range(order.batches_in_epoch(begin)):
            at = begin + number * batch.size
            positions = np.arange(at, min(at + batch.size, order.samples), dtype=np.int64)
            yield epoch, np.asarray(order.indices(epoch, positions)), order.echoes(positions)
