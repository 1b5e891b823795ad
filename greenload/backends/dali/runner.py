"""Runs batches through a DALI graph, on the CPU or on a GPU, without TensorFlow."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.backends.base import Images, Records
from greenload.backends.clocks import StepClock, intake_name, segment_name
from greenload.backends.dali.base import Target
from greenload.backends.dali.clocks import DaliClock
from greenload.backends.dali.cut_outs import graph_inputs
from greenload.backends.dali.graph import (
    Feed,
    arguments_of,
    feed,
    feeds_of,
    image_list,
    make_graph,
)
from greenload.backends.image_sizes import BatchSizes, decode_of, sizes_of
from greenload.backends.readers import Readers
from greenload.errors import BackendUnavailable, RecordError, UsageError
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step
from greenload.system import limits
from greenload.system.work import WorkClock


def target_of(backend: str, device_id: int | None = None, hw_decoder_load: float | None = None) -> Target:
    """Where a backend's graphs run.

    Raises:
        UsageError: the plan is not DALI's, or asks for a device that it doesn't use.
    """
    if backend not in ("dali", "dali-cpu"):
        raise UsageError(f"DALI runs segments of backend 'dali' or 'dali-cpu', not of {backend!r}")
    if backend == "dali-cpu":
        if device_id is not None or hw_decoder_load is not None:
            raise UsageError("device_id and hw_decoder_load are for backend 'dali', but this is for 'dali-cpu'")
        return Target()
    share, device = scalars.number(hw_decoder_load), scalars.whole(device_id or 0)
    if hw_decoder_load is not None and (share is None or not 0.0 <= share <= 1.0):
        raise UsageError(f"hw_decoder_load is a share between 0 and 1, not {hw_decoder_load!r}")
    if device is None:
        raise UsageError(f"device_id is a GPU's number, 0 for the first, not {device_id!r}")
    return Target(device, share)


@dataclass(frozen=True)
class Intake:
    """What a segment's graph is given for a batch: everything about it that needs no graph."""

    backend: str
    steps: tuple[Step, ...]
    feeds: tuple[Feed, ...]
    numbers: DrawLayout
    first: int
    end: int | None
    readers: Readers

    @classmethod
    def of(cls, plan: Plan, segment: Segment, readers: Readers) -> Intake:
        """What a segment of a plan is given; ``readers`` are the plan's."""
        feeds, numbers = feeds_of(segment.steps), DrawLayout.of(plan.pipeline)
        return cls(segment.backend, segment.steps, feeds, numbers, segment.first, segment.end, readers)

    def like(self, height: int, width: int) -> dict[str, NDArray[np.generic]]:
        """What the inputs beside the images would be fed for one image of a size: all have these dtypes and shapes."""
        ones = np.ones(1, np.int64)
        upright = ones if decode_of(self.steps).exif else None
        sizes = BatchSizes(ones * height, ones * width, orientation=upright)
        return arguments_of(self.numbers, self.feeds, np.zeros((1, self.numbers.count)), sizes, self.first)

    def take(self, records: Records) -> tuple[Records, dict[str, NDArray[np.generic]]]:
        """The records as DALI shall see them, and what the inputs beside the images are fed, by name.

        Raises:
            RecordError: a header can't be read, a JPEG is cut, or an image is too small for a stage.
        """
        sizes = sizes_of(records.images, records.names, self.backend, self.readers, decode_of(self.steps))
        too_small = self.numbers.first_too_small(sizes.height, sizes.width, self.first, self.end)
        if too_small is not None:
            raise RecordError(records.names[too_small[0]], too_small[1])
        arguments = arguments_of(self.numbers, self.feeds, records.numbers, sizes, self.first)
        images, arguments = graph_inputs(self.steps, records.images, sizes, arguments)
        return replace(records, images=images), arguments


@dataclass(frozen=True)
class Job:
    """One batch on its way through a graph, with all that its inputs refer to."""

    records: Records
    arguments: dict[str, NDArray[np.generic]]
    images: Any
    """The DALI tensor list over the records' memory."""


class DaliRunner:
    """Runs batches of records through a segment of a plan. Safe in threads: batches take turns.

    Args:
        plan: that the segment belongs to.
        segment: on backend ``"dali-cpu"`` or ``"dali"``.
        batch_size: the most records of one call.
        threads: DALI's worker threads.
        readers: of the plan; closed with the runner.
        device_id: the GPU's number, for backend ``"dali"``; 0 if not given.
        hw_decoder_load: the share of JPEGs for the GPU's fixed-function decoder.

    Raises:
        UsageError: an argument doesn't fit the plan.
        BackendUnavailable: DALI can't run here.

    Example:
        >>> with DaliRunner(plan, plan.segments[-1], batch_size=64, threads=2, readers=readers) as runner:
        ...     images = runner.run(records)
    """

    def __init__(
        self,
        plan: Plan,
        segment: Segment,
        *,
        batch_size: int,
        threads: int,
        readers: Readers,
        device_id: int | None = None,
        hw_decoder_load: float | None = None,
    ) -> None:
        if batch_size < 1 or threads < 1:
            raise UsageError(f"batch_size and threads must be at least 1, not {batch_size} and {threads}")
        self.plan = plan
        self.batch_size = batch_size
        self._threads = threads
        self._segment = segment
        self._target = target_of(segment.backend, device_id, hw_decoder_load)
        self._intake = Intake.of(plan, segment, readers)
        self._lock = threading.Lock()
        self._graph: Any = None
        self._closed = False
        self._clock, self._intake_clock = DaliClock(), WorkClock()
        self._build()

    @property
    def clocks(self) -> Sequence[StepClock]:
        """The CPU time of DALI's threads, which tell their steps apart no more than their names do."""
        backend = self._segment.backend
        note = "DALI's threads tell the CPU time of all its steps together, and not how long they wait"
        note += "; what a GPU does isn't CPU time" if self._target.gpu is not None else ""
        return [
            StepClock(intake_name(backend), backend, self._intake_clock.read),
            StepClock(segment_name(self._segment), backend, self._clock.read, note),
        ]

    def _build(self) -> None:
        try:
            with self._clock.building():
                self._graph = make_graph(
                    self._segment.steps,
                    self._segment.spec_in,
                    batch_size=self.batch_size,
                    threads=self._threads,
                    target=self._target,
                )
        except ImportError as error:
            raise BackendUnavailable(f"backend {self._segment.backend!r} needs DALI: {error}; {INSTALL}") from None
        except RuntimeError as error:
            why = lacking(error) or f"{brief(error)}; see greenload doctor"
            raise BackendUnavailable(f"backend {self._segment.backend!r} can't run here: {why}") from None

    def run(self, records: Records) -> Images:
        """A batch of records through the segment.

        On the CPU the result is DALI's own buffer, not a copy: it lives as long as the array does, and no later call
        writes to it.

        Args:
            records: at most ``batch_size`` of them.

        Returns:
            ``[n, height, width, channels]``, or an array each where sizes differ.

        Raises:
            RecordError: a record is bad; names the first that is found. The runner stays usable.
            BackendUnavailable: DALI failed on the batch, but on none of its records alone.
            UsageError: there are more than ``batch_size`` records, or the runner is closed.
        """
        if not len(records.images):
            height, width, channels = self.plan.out_spec.image_shape
            return np.empty((0, height or 0, width or 0, channels or 0), self.plan.out_spec.dtype)
        job = self.prepare(records)
        with self._lock:
            self.submit(job)
            result = self.collect(job)
        there = result if self._target.gpu is None else result.as_cpu()
        if self._segment.spec_out.static or there.is_dense_tensor():
            images: NDArray[Any] = np.asarray(there.as_tensor())
            return images
        return [np.asarray(there[i]) for i in range(len(there))]

    def prepare(self, records: Records) -> Job:
        """Everything about a batch that needs no graph: sizes, params, inputs. Any thread may do it, at any time.

        Raises:
            RecordError: a header can't be read, a JPEG is cut, or an image is too small for a stage.
            UsageError: there are more than ``batch_size`` records.
        """
        if len(records.images) > self.batch_size:
            raise UsageError(f"this runner takes up to {self.batch_size} records, not {len(records.images)}")
        with self._intake_clock.timing(len(records.images)):
            records, arguments = self._intake.take(records)
            return Job(records, arguments, image_list(records.images))

    def submit(self, job: Job) -> None:
        """Start a batch; ``collect`` it later, in order. For one thread at a time, as ``collect``.

        Raises:
            RecordError, BackendUnavailable: as ``run``, where DALI notices at once.
            UsageError: the runner is closed.
        """
        if self._closed:
            raise UsageError("this DaliRunner is closed: make another")
        if self._graph is None:
            self._build()
        try:
            with self._clock.calling.timing(calls=0):
                feed(self._graph, job.images, job.arguments)
                self._graph.schedule_run()
        except RuntimeError as error:
            raise self._blame(job, error) from None

    def collect(self, job: Job) -> Any:
        """Wait for the oldest batch in flight: a DALI ``TensorListCPU`` or ``TensorListGPU``, its owner's for good.

        Raises:
            RecordError, BackendUnavailable: as ``run``. Batches in flight behind it are lost.
        """
        try:
            with self._clock.calling.timing(len(job.records.images)):
                return self._graph.outputs()[0]
        except RuntimeError as error:
            raise self._blame(job, error) from None

    def _blame(self, job: Job, error: RuntimeError) -> Exception:
        """The error to raise for a batch that DALI gave up on: the first record that fails alone, if one does."""
        self._clock.closing()
        self._graph = None  # DALI calls a graph invalid after an error, so the next batch builds another
        record_error = first_failing(self._segment.steps, self._target, job.records, job.arguments, str(error))
        return record_error or BackendUnavailable(no_record(error))

    def close(self) -> None:
        """Give back DALI's threads and buffers. Calling it twice is harmless."""
        with self._lock:
            self._closed = True
            self._clock.closing()
            self._graph = None
        self._intake.readers.close()

    def __enter__(self) -> DaliRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


INSTALL = "pip install nvidia-dali-cuda130"


def brief(error: BaseException) -> str:
    """DALI's message in one line: what it met, without the traceback of the graph's definition."""
    text = str(error)
    met = text.split("encountered:", 1)[-1]
    lines = [line.strip(" :") for line in met.splitlines()]
    kept = [line for line in lines if line and "no longer valid" not in line and "Critical error" not in line]
    kept = [re.sub(r"^\[[^\]]*\.(cc|h|cu):\d+\]\s*", "", line) for line in kept]
    # In a batch of one the sample's number says nothing.
    message = re.sub(r"Failed to decode sample #0\b", "the data is cut or broken", " ".join(kept[:3]))
    return message[:300] or type(error).__name__


def lacking(error: RuntimeError) -> str:
    """What the machine lacked where DALI failed, and the remedy; empty where it failed for another reason."""
    threads = os.strerror(errno.EAGAIN) in str(error)
    return limits.no_thread() if threads else limits.ran_out(error)


def no_record(error: BaseException) -> str:
    """What to say of a failure that no record alone explains."""
    return f"DALI failed on a batch, but on no record of it alone: {brief(error)}; try smaller batches"


def first_failing(
    steps: Sequence[Step],
    target: Target,
    records: Records,
    arguments: Mapping[str, NDArray[np.generic]],
    message: str = "",
) -> RecordError | None:
    """The first record of a batch that DALI can't take through some steps by itself; ``None`` if it can all.

    Args:
        steps: with primitives.
        target: where they run.
        records: as ``Intake.take`` gives them.
        arguments: what the inputs beside the images are fed, by name, as ``Intake.take`` gives them.
        message: what DALI said of the batch: the record it names is looked at first.

    Raises:
        BackendUnavailable: memory or threads ran out, so that it can't be told.
    """
    order = list(range(len(records.images)))
    hint = re.search(r"sample #(\d+)", message)
    if hint and int(hint[1]) < len(order):
        order.insert(0, order.pop(int(hint[1])))
    single: Any = None
    for position in order:
        if single is None:
            single = _single(steps, target)
        try:
            own = {name: values[position : position + 1] for name, values in arguments.items()}
            image = image_list([records.images[position]])
            feed(single, image, own)
            single.run()
        except RuntimeError as reason:
            if why := lacking(reason):
                raise BackendUnavailable(
                    f"DALI failed on {records.names[position]}, for no fault of its own: {why}"
                ) from None
            return RecordError(records.names[position], f"can't be decoded: {brief(reason)}")
    return None


def _single(steps: Sequence[Step], target: Target) -> Any:
    try:
        return make_graph(steps, steps[0].spec_in, batch_size=1, threads=1, target=target)
    except RuntimeError as error:
        raise BackendUnavailable(f"DALI failed on a batch, and can't look for the record: {brief(error)}") from None
