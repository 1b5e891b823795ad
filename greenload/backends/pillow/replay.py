"""Replays of Pillow's steps: images as the step before has left them, with and without a step's work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from greenload.backends.base import Records, empty
from greenload.backends.image_sizes import decode_of
from greenload.backends.interface import Replay
from greenload.backends.pillow.base import Apply, ImageParams, as_array, written
from greenload.backends.pillow.runner import TASKS_A_THREAD, Columns, PillowRunner
from greenload.backends.readers import Readers, Remembered
from greenload.errors import RecordError
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step
from greenload.sources.formats import FormatError
from greenload.stages import primitives as p


@dataclass(frozen=True)
class _Kept:
    """An image on its way, and what its next step is given."""

    pixels: Any
    """``None`` where the last step has put it into its place in the batch."""
    row: ImageParams


def pair(plan: Plan, segment: Segment, step: Step, parts: Sequence[Records], readers: Readers) -> tuple[Replay, Replay]:
    """A step with and without its work: both go through the images, the first works on each and drops the result.

    The arguments are those of ``Replaying.pair``.
    """
    index = segment.steps.index(step)
    runner = _Capturing(plan, segment, readers, index)
    kept = runner.through(parts)
    last = index == len(segment.steps) - 1 and segment.spec_out.static
    out = empty((len(parts[0].images), *segment.spec_out.image_shape), segment.spec_out.dtype) if last else None
    batches = [[kept[name] for name in part.names] for part in parts]
    decodes = isinstance(step.primitive, p.Decoding)
    others = [readers.files(part.images, segment.backend, decode_of([step])) if decodes else [] for part in parts]

    def make(apply: Apply | None) -> Replay:
        pool = ThreadPoolExecutor(plan.threads)
        held = list(batches)

        def some(batch: Sequence[_Kept], rows: Sequence[int]) -> None:
            for row in rows:
                image = batch[row]
                if apply is not None:
                    apply(image.pixels, image.row, None if out is None else out[row])

        def once(i: int) -> None:
            if apply is not None:
                readers.as_pngs(others[i])
            count = len(held[i])
            size = max(1, count // (plan.threads * TASKS_A_THREAD))
            tasks = [pool.submit(some, held[i], range(at, min(at + size, count))) for at in range(0, count, size)]
            for task in tasks:
                task.result()

        def release() -> None:
            pool.shutdown()
            held.clear()

        return Replay(len(held), len(parts[0].images), once, release)

    return make(runner.apply), make(None)


def idle_runner(
    plan: Plan,
    segment: Segment,
    batch_size: int,
    parts: Sequence[Records],
    done: Sequence[Records],
    readers: Readers,
) -> PillowRunner:
    """All that a runner does with a batch, except its steps: headers, params, tasks, arrays from the finished images.

    The arguments are those of ``Replaying.idle_runner``.
    """
    remembered = Remembered.after(readers, segment.backend, decode_of(segment.steps), parts)
    finished = _Capturing(plan, segment, readers, len(segment.steps)).through(parts)
    return _IdlePillowRunner(plan, segment, remembered, finished)


class _Capturing(PillowRunner):
    """Keeps what a segment's first steps, so many, make of each image."""

    def __init__(self, plan: Plan, segment: Segment, readers: Readers, count: int) -> None:
        super().__init__(plan, segment, readers)
        self._count = count
        self._kept: dict[str, _Kept] = {}

    @property
    def apply(self) -> Apply:
        """The step behind those."""
        return self._steps[self._count].apply

    def through(self, parts: Sequence[Records]) -> Mapping[str, _Kept]:
        """What is kept of batches as they enter the segment, by the records' names."""
        try:
            for part in parts:
                self.run(part)
        finally:
            self.close()
        return self._kept

    def _some(self, rows: Sequence[int], records: Records, columns: Sequence[Columns], done: Any) -> None:
        for row in rows:
            pixels: Any = records.images[row]
            out = done[row] if isinstance(done, np.ndarray) else None
            given: list[ImageParams] = [{name: values[row] for name, values in own.items()} for own in columns]
            try:
                for index in range(self._count):
                    last = index == len(self._steps) - 1
                    pixels = self._steps[index].apply(pixels, given[index], out if last else None)
            except FormatError as error:
                raise RecordError(records.names[row], str(error)) from None
            written_there = out is not None and pixels is out
            self._kept[records.names[row]] = _Kept(None if written_there else pixels, [*given, {}][self._count])


class _IdlePillowRunner(PillowRunner):
    """A runner whose images are finished already."""

    def __init__(self, plan: Plan, segment: Segment, readers: Remembered, finished: Mapping[str, _Kept]) -> None:
        super().__init__(plan, segment, readers)
        self._finished = finished

    def _some(self, rows: Sequence[int], records: Records, columns: Sequence[Columns], done: Any) -> None:
        for row in rows:
            pixels = self._finished[records.names[row]].pixels
            if not isinstance(done, np.ndarray):
                done[row] = as_array(pixels)
            elif pixels is not None:
                written(pixels, done[row])

    def close(self) -> None:
        super().close()
        self._finished = {}
