"""Runs batches through a segment with Pillow and NumPy, on threads of its own."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import Images, Records, empty
from greenload.backends.clocks import StepClock, intake_name
from greenload.backends.image_sizes import BatchSizes, decode_of, plain, sizes_of
from greenload.backends.pillow.base import Apply, Lowering, as_array, written
from greenload.backends.pillow.choice import built
from greenload.backends.pillow.clocks import LapClock
from greenload.backends.pillow.table import TABLE
from greenload.backends.readers import Readers
from greenload.errors import RecordError, UsageError
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step, reads_params
from greenload.sources.formats import FormatError
from greenload.system.work import WorkClock
from greenload.system.workers import Workers

TASKS_A_THREAD = 4
"""Images differ in cost: with one task for each thread, threads would wait for the last. Each task costs 30 µs."""

ALONE_PIXELS = 128 * 128
"""Images that are decoded already and smaller than this are worked on by one thread at a time: each of Pillow's calls
is so short that threads would mostly hand each other the interpreter's lock. Two took twice the CPU time, and a third
longer, from 32 to 128 pixels a side."""

Columns = dict[str, list[Any]]
"""A step's arguments by name, one value an image."""


@dataclass(frozen=True)
class _Lowered:
    step: Step
    lowering: Lowering
    apply: Apply


class PillowRunner:
    """Runs batches of records through a segment. Safe in threads: batches share the runner's own.

    Args:
        plan: that the segment belongs to; its ``threads`` are how many work on images.
        segment: on backend ``"pillow"``.
        readers: of the plan; closed with the runner.

    Example:
        >>> runner = PillowRunner(plan, plan.segments[0], readers)
        >>> images = runner.run(records)
    """

    def __init__(self, plan: Plan, segment: Segment, readers: Readers) -> None:
        self._segment = segment
        self._threads = plan.threads
        self._numbers = DrawLayout.of(plan.pipeline)
        self._decode = decode_of(segment.steps)
        self._steps = [_lowered(step) for step in segment.steps]
        self._places = tuple({step.stage for step in segment.steps if step.stage is not None and reads_params(step)})
        self._pool = Workers(plan.threads, "pillow")
        self._readers = readers
        self._turn = threading.Lock()
        self._intake, self._laps = WorkClock(), LapClock(len(self._steps))

    @property
    def clocks(self) -> Sequence[StepClock]:
        """Thread time of its steps."""
        backend, laps = self._segment.backend, self._laps
        others = "" if self._segment.spec_in.encoded is False else "files that another backend decodes aren't seen"
        first = StepClock(intake_name(backend), backend, self._intake.read, others)
        steps = [
            StepClock(lowered.step.name, backend, functools.partial(laps.read, index), estimates=True)
            for index, lowered in enumerate(self._steps)
        ]
        return [first, *steps]

    def run(self, records: Records) -> Images:
        """A batch of records through the segment.

        Args:
            records: any number of them.

        Returns:
            ``[n, height, width, channels]`` where images have one size, else an array each.

        Raises:
            RecordError: a record is bad; names the first. The runner stays usable.
            BackendUnavailable: no threads can be started; names the limit. The runner stays usable.
            UsageError: the runner is closed.
        """
        if self._pool.closed:
            raise UsageError("this PillowRunner is closed: make another")
        with self._intake.timing(len(records.images)):
            sizes = sizes_of(records.images, records.names, self._segment.backend, self._readers, self._decode)
            too_small = self._numbers.first_too_small(sizes.height, sizes.width, self._segment.first, self._segment.end)
            if too_small is not None:
                raise RecordError(records.names[too_small[0]], too_small[1])
            records = replace(records, images=plain(records.images, sizes))
            columns = self._columns(records.numbers, sizes)
        count, spec = len(records.images), self._segment.spec_out
        done: Any = empty((count, *spec.image_shape), spec.dtype) if spec.static else [None] * count
        images: Images = done
        if not self._segment.spec_in.encoded and float(np.mean(sizes.height * sizes.width)) < ALONE_PIXELS:
            with self._turn:
                self._some(range(count), records, columns, done)
            return images
        size = max(1, count // (self._threads * TASKS_A_THREAD))
        tasks: list[Future[None]] = []
        try:
            for at in range(0, count, size):
                rows = range(at, min(at + size, count))
                tasks.append(self._pool.submit(self._some, rows, records, columns, done))
        finally:
            wait(tasks)  # all of them, before the batch's memory goes back to its owner
        for task in tasks:
            task.result()
        return images

    def _columns(self, numbers: NDArray[np.float64], sizes: BatchSizes) -> list[Columns]:
        """What each step is given, for all images of a batch."""
        params = self._numbers.params(numbers, sizes.height, sizes.width, self._places, first=self._segment.first)
        columns = []
        for lowered in self._steps:
            own = {**sizes.params(), **(params.get(lowered.step.stage, {}) if lowered.step.stage is not None else {})}
            wanted = lowered.lowering.params(lowered.step.primitive, lowered.step.spec_in, own)
            columns.append({name: np.asarray(values).tolist() for name, values in wanted.items()})
        return columns

    def _some(self, rows: Sequence[int], records: Records, columns: Sequence[Columns], done: Any) -> None:
        """Some images of a batch through all steps, into their places."""
        last, static, laps = len(self._steps) - 1, isinstance(done, np.ndarray), self._laps.laps()
        for row in rows:
            pixels: Any = records.images[row]
            out = done[row] if static else None
            timed = laps.begin()
            try:
                for index, (lowered, given) in enumerate(zip(self._steps, columns, strict=True)):
                    own = {name: values[row] for name, values in given.items()}
                    pixels = lowered.apply(pixels, own, out if index == last else None)
                    if timed and index < last:
                        laps.lap()
            except FormatError as error:
                raise RecordError(records.names[row], str(error)) from None
            if static:
                written(pixels, out)
            else:
                done[row] = as_array(pixels)
            if timed:
                laps.lap()
            laps.end()
        self._laps.add(laps)

    def close(self) -> None:
        """Wait for batches on their way and end the threads. Calling it twice is harmless."""
        self._pool.close()
        self._readers.close()


def _lowered(step: Step) -> _Lowered:
    assert step.primitive is not None  # what makes a step one of pixels
    lowering = TABLE.lowering(step.primitive)
    return _Lowered(step, lowering, built(lowering, step.primitive, step.spec_in, step.spec_out))
