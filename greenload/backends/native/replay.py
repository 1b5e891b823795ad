"""Replays of the kernel's steps: images as the step before has left them, with and without a step's work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from greenload.backends.base import Records
from greenload.backends.interface import Replay
from greenload.backends.native.intake import Intake
from greenload.backends.native.runner import NativeRunner, in_threads
from greenload.backends.native.work import Failures, KernelSteps, Work
from greenload.backends.readers import Readers, Remembered, ppm
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step
from greenload.system.workers import Workers


def pair(plan: Plan, segment: Segment, step: Step, parts: Sequence[Records], readers: Readers) -> tuple[Replay, Replay]:
    """A step with and without its work: both go through the images, the first works on each, into memory that is there.

    The arguments are those of ``Replaying.pair``.
    """
    index = segment.steps.index(step)
    intake, alone = Intake.of(plan, segment, readers), KernelSteps(plan, segment, [step])
    before = NativeRunner(plan, segment, readers, segment.steps[:index]) if index else None
    works, others = [], []
    for part in parts:
        taken = intake.take(part)
        works.append(alone.work(taken, part.numbers, None if before is None else before.run(part)))
        others.append([file for _, file in intake.foreign(part)] if before is None else [])
    if before is not None:
        before.close()

    def make(works_on: bool) -> Replay:
        pool = Workers(plan.threads, "native")
        held = list(works)

        def once(i: int) -> None:
            if works_on:
                readers.as_files(others[i], ppm)
            calls = [job.run if works_on else job.skip for job in held[i].jobs(plan.threads)]
            in_threads(pool if held[i].shared else None, calls)

        def release() -> None:
            pool.close()
            held.clear()

        return Replay(len(held), len(parts[0].images), once, release)

    return make(True), make(False)


def idle_runner(
    plan: Plan,
    segment: Segment,
    batch_size: int,
    parts: Sequence[Records],
    done: Sequence[Records],
    readers: Readers,
) -> NativeRunner:
    """All that a runner does with a batch, except its steps: headers, params, tasks, memory for the results.

    The arguments are those of ``Replaying.idle_runner``.
    """
    remembered = Remembered(readers)
    intake = Intake.of(plan, segment, remembered)
    for part in parts:
        remembered.as_files([file for _, file in intake.foreign(part)], ppm)
    return _IdleNativeRunner(plan, segment, remembered)


class _IdleNativeRunner(NativeRunner):
    """A runner whose results are whatever lay in their memory."""

    def _through(self, work: Work) -> Failures:
        in_threads(self._pool if work.shared else None, [job.skip for job in work.jobs(self._threads)])
        images: Any = work.done
        for image in images:
            # The memory is fresh, and its first use, in the last step, takes time: not where a step is replayed.
            image.reshape(-1).view(np.uint8)[::_PAGE] = 0
        return {}


_PAGE = 4096
