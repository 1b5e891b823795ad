"""Replays of single steps on batches, for the profiler: the same captured input, with and without the step.

Every backend that takes batches says how one of its steps is run alone (``pair``), and what is left of a segment
without its work on pixels (``idle_runner``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import Images, Records, Runner
from greenload.backends.chain import stacked
from greenload.backends.interface import Replay, Replaying
from greenload.backends.registry import get, make_runner, readers_of
from greenload.errors import UsageError
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step


def of(backend: str) -> Replaying:
    """How a backend's steps are replayed.

    Raises:
        UsageError: it takes no batches of records.
    """
    replaying = get(backend).replays()
    if replaying is None:
        raise UsageError(f"backend {backend!r} takes no batches of records, so its steps are replayed by tf.data")
    return replaying


def pair(plan: Plan, segment: Segment, step: Step, parts: Sequence[Records]) -> tuple[Replay, Replay]:
    """A step with and without its work; the arguments and errors are those of ``Replaying.pair``."""
    entering = [_entering(segment, part) for part in parts]
    runs = of(segment.backend).pair(plan, segment, step, entering, readers_of(plan))
    full, empty = (replace(run, batch_size=run.batch_size * step.serves) for run in runs)
    return full, empty


def idle_runner(
    plan: Plan, segment: Segment, batch_size: int, parts: Sequence[Records], done: Sequence[Records]
) -> Runner:
    """A segment's runner whose work on pixels is left out; the arguments are those of ``Replaying.idle_runner``."""
    return of(segment.backend).idle_runner(plan, segment, batch_size, parts, done, readers_of(plan))


def replay(plan: Plan, step_index: int, records: Records, batch_size: int, threads: int) -> tuple[Replay, Replay]:
    """A step with and without its work, on captured input: the difference of their CPU time is what the step costs.

    Of a ``Batch`` step what is left is the transfer, once a batch: headers, params, feeding, starting a run and taking
    its result, through all segments that batches pass without tf.data. ``with_run`` does that; ``without_run`` nothing.

    Args:
        plan: whose first segment isn't tf.data's.
        step_index: place in ``plan.steps`` of a batch step, or of one on pixels that tf.data has no work before.
        records: what enters the plan's first segment; all full batches of it are captured and held in memory.
        batch_size: samples of one run.
        threads: the backend's.

    Returns:
        ``(with_run, without_run)``; close both.

    Raises:
        UsageError: the step can't be replayed on batches, or there are fewer records than one batch.
        RecordError: a record is bad.
    """
    if not 0 <= step_index < len(plan.steps) or plan.steps[step_index].kind not in ("pixels", "batch"):
        raise UsageError(f"only pixel and batch steps can be replayed, not step {step_index} of {len(plan.steps)}")
    parts = [part for part in records.batches(batch_size) if len(part.images) == batch_size]
    if not parts:
        raise UsageError(f"a replay needs one batch of {batch_size} or more, not {len(records.images)} records")
    plan = replace(plan, threads=threads)
    step = plan.steps[step_index]
    if step.kind == "batch":
        idle = IdleSegments(plan, plan.segments, parts, batch_size)

        def once(i: int) -> None:
            idle.run(parts[i])

        without = Replay(len(parts), batch_size, lambda i: None, lambda: None)
        return Replay(len(parts), batch_size, once, idle.close), without
    for segment in plan.segments:
        if step in segment.steps:
            return pair(plan, segment, step, parts)
        parts = through(plan, segment, parts)
    raise AssertionError(step)  # every step on pixels is in a segment


def _entering(segment: Segment, part: Records) -> Records:
    """A batch as a segment takes it."""
    taken: list[Records] = []

    def take(records: Records) -> Images:
        taken.append(records)
        return records.images

    part.through(take, once=segment.once)
    return taken[0]


def through(plan: Plan, segment: Segment, parts: Sequence[Records]) -> list[Records]:
    """Batches as they leave a segment."""
    runner = make_runner(plan, segment, len(parts[0].images))
    try:
        return [part.through(runner.run, once=segment.once) for part in parts]
    finally:
        runner.close()


class IdleSegments:
    """Segments that batches pass one after another, without their work on pixels.

    Args:
        plan: that they belong to.
        segments: adjacent ones, none of them tf.data's.
        parts: batches as they enter the first, to have the results that stand in for the work.
        batch_size: the most records of a call.
    """

    def __init__(self, plan: Plan, segments: Sequence[Segment], parts: Sequence[Records], batch_size: int) -> None:
        self._runners: list[Runner] = []
        self._once: list[bool] = []
        for segment in segments:
            done = through(plan, segment, parts)
            entering = [_entering(segment, part) for part in parts]
            self._runners.append(idle_runner(plan, segment, batch_size, entering, done))
            self._once.append(segment.once)
            parts = done

    def run(self, records: Records) -> NDArray[Any]:
        """A batch in at the first segment, and out at the last: ``[n, height, width, channels]``, of stand-ins."""
        for runner, once in zip(self._runners, self._once, strict=True):
            records = records.through(runner.run, once=once)
        images = records.each().images
        return images if isinstance(images, np.ndarray) else stacked([np.asarray(image) for image in images])

    def close(self) -> None:
        """Give back what the segments hold."""
        for runner in self._runners:
            runner.close()
