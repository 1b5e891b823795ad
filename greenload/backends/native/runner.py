"""Runs batches through a segment in the kernel, on threads of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace

import numpy as np

from greenload.backends.base import Images, Records
from greenload.backends.native.intake import Intake, Taken
from greenload.backends.native.work import KernelSteps, Work
from greenload.backends.readers import Readers
from greenload.errors import BackendUnavailable, RecordError, UsageError
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step
from greenload.system.workers import Workers


class NativeRunner:
    """Runs batches of records through a segment. Safe in threads: batches share the runner's own.

    Args:
        plan: that the segment belongs to; its ``threads`` are how many work on images.
        segment: on backend ``"native"``.
        readers: of the plan; closed with the runner.
        steps: the segment's first ones; all if not given.

    Example:
        >>> runner = NativeRunner(plan, plan.segments[0], readers)
        >>> images = runner.run(records)
    """

    def __init__(self, plan: Plan, segment: Segment, readers: Readers, steps: Sequence[Step] | None = None) -> None:
        self._encoded = segment.spec_in.encoded
        self._threads = plan.threads
        self._intake = Intake.of(plan, segment, readers)
        self._steps = KernelSteps(plan, segment, segment.steps if steps is None else steps)
        self._pool = Workers(plan.threads, "native")

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
            raise UsageError("this NativeRunner is closed: make another")
        taken = self._intake.take(records)
        work = self._steps.work(taken, records.numbers)
        self._through(work)
        if failures := work.failures():
            self._again(records, taken, work, failures)
        return work.done

    def _through(self, work: Work) -> None:
        """All images of a batch through the kernel."""
        jobs = work.parts(self._threads, self._encoded)
        in_threads(self._pool if work.shared(self._encoded) else None, [job.run for job in jobs])

    def _again(self, records: Records, taken: Taken, work: Work, failures: Mapping[int, str]) -> None:
        """Images that the kernel refused, decoded by another backend: that decides whether their records are bad.

        Raises:
            RecordError: one is; names the first.
            BackendUnavailable: the kernel failed on pixels.
        """
        first, reason = next(iter(failures.items()))
        if not self._encoded:
            raise BackendUnavailable(f"the kernel of backend 'native' failed on {records.names[first]}: {reason}")
        again = self._steps.work(self._intake.again(records, taken, list(failures)), records.numbers, done=work.done)
        positions = np.array(list(failures))
        mended = replace(again, jobs=[job.among(positions) for job in again.jobs])
        for job in mended.jobs:
            job.run()
        for position, reason in mended.failures().items():
            raise RecordError(records.names[position], f"can't be decoded: {reason}")

    def close(self) -> None:
        """Wait for batches on their way and end the threads. Calling it twice is harmless."""
        self._pool.close()
        self._intake.readers.close()


def in_threads(pool: Workers | None, calls: Sequence[Callable[[], None]]) -> None:
    """Calls in a pool's threads, or in this one; all have ended when this returns, or raises what one raised."""
    if pool is None:
        for call in calls:
            call()
        return
    tasks: list[Future[None]] = []
    try:
        for call in calls:
            tasks.append(pool.submit(call))
    finally:
        wait(tasks)  # all of them, before the batch's memory goes back to its owner
    for task in tasks:
        task.result()
