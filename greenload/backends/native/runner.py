"""Runs batches through a segment in the kernel, on threads of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace

from greenload.backends.base import Images, Records
from greenload.backends.clocks import StepClock, intake_name
from greenload.backends.native.abi import Status
from greenload.backends.native.counters import OwnClocks
from greenload.backends.native.intake import Intake, Taken
from greenload.backends.native.work import Failures, KernelSteps, Work
from greenload.backends.readers import Readers
from greenload.errors import BackendUnavailable, UsageError
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step
from greenload.system.work import WorkClock
from greenload.system.workers import Workers


class NativeRunner:
    """Runs batches of records through a segment. Safe in threads: batches share the runner's own.

    Args:
        plan: that the segment belongs to; its ``threads`` are how many work on images.
        segment: on backend ``"native"``.
        readers: of the plan; closed with the runner.
        steps: the segment's first ones; all if not given.

    Raises:
        BackendUnavailable: the kernel doesn't take the steps.

    Example:
        >>> runner = NativeRunner(plan, plan.segments[0], readers)
        >>> images = runner.run(records)
    """

    def __init__(self, plan: Plan, segment: Segment, readers: Readers, steps: Sequence[Step] | None = None) -> None:
        self._threads = plan.threads
        self._intake = Intake.of(plan, segment, readers)
        self._steps = KernelSteps(plan, segment, segment.steps if steps is None else steps)
        self._pool = Workers(plan.threads, "native")
        self._segment, self._intake_clock = segment, WorkClock()

    @property
    def clocks(self) -> Sequence[StepClock]:
        """The kernel's own, and thread time of what is done before."""
        backend = self._segment.backend
        note = "files that another backend decodes aren't seen" if self._segment.spec_in.encoded else ""
        intake = StepClock(intake_name(backend), backend, self._intake_clock.read, note)
        own = OwnClocks(self._segment).clocks()
        return [intake, *(replace(clock, note="other pipelines with the same steps count here too") for clock in own)]

    def run(self, records: Records) -> Images:
        """A batch of records through the segment.

        Args:
            records: any number of them.

        Returns:
            ``[n, height, width, channels]`` where images have one size, else an array each.

        Raises:
            RecordError: a record is bad; names the first. The runner stays usable.
            BackendUnavailable: no threads can be started, or the kernel failed on an image that is decoded; names the
                reason. The runner stays usable.
            UsageError: the runner is closed.
        """
        if self._pool.closed:
            raise UsageError("this NativeRunner is closed: make another")
        with self._intake_clock.timing(len(records.images)):
            taken = self._intake.take(records)
            work = self._steps.work(taken, records.numbers)
        if failures := self._through(work):
            self._again(records, taken, work, failures)
        return work.done

    def _through(self, work: Work) -> Failures:
        """All images of a batch through the kernel; what it failed on."""
        return in_threads(self._pool if work.shared else None, [job.run for job in work.jobs(self._threads)])

    def _again(self, records: Records, taken: Taken, work: Work, failures: Failures) -> None:
        """Files that the kernel refused, decoded by another backend: that decides whether their records are bad.

        Raises:
            RecordError: one is; names the first.
            BackendUnavailable: the kernel failed on pixels, or for want of memory.
        """
        refused = sorted(position for position, (status, _) in failures.items() if status == Status.BAD_FILE)
        rest = {position: why for position, why in failures.items() if position not in refused}
        if refused:
            decoded = self._intake.again(records, taken, refused)
            again = self._steps.work(decoded, records.numbers, done=work.done)
            for job in again.jobs(self._threads, refused):
                rest |= job.run()
        if rest:
            first = min(rest)
            raise BackendUnavailable(f"the kernel failed on {records.names[first]}: {rest[first][1]}")

    def close(self) -> None:
        """Wait for batches on their way and end the threads. Calling it twice is harmless."""
        self._pool.close()
        self._intake.readers.close()


def in_threads(pool: Workers | None, calls: Iterable[Callable[[], Failures]]) -> Failures:
    """The failures of calls in a pool's threads, or in this one where there is none; all have ended when this returns
    or raises."""
    failures: Failures = {}
    if pool is None:
        for call in calls:
            failures |= call()
        return failures
    tasks: list[Future[Failures]] = []
    try:
        for call in calls:
            tasks.append(pool.submit(call))
    finally:
        wait(tasks)  # before the batch's memory goes back to its owner
    for task in tasks:
        failures |= task.result()
    return failures
