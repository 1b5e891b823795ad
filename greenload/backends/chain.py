"""Runs the segments of a plan one after another: each batch goes from backend to backend."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import Images, Records, Runner, empty
from greenload.backends.clocks import StepClock
from greenload.backends.registry import make_runner
from greenload.errors import UsageError
from greenload.plans.plan import Plan, Segment
from greenload.system import forking, shutdown
from greenload.system.workers import in_worker


class Chain:
    """Runs batches of records through neighbouring segments, each on its own backend.

    Args:
        plan: that the segments belong to.
        batch_size: the most records of one call.
        segments: in order; all of the plan's if not given.

    Raises:
        BackendUnavailable: one can't run here.
    """

    def __init__(self, plan: Plan, batch_size: int, segments: Sequence[Segment] | None = None) -> None:
        segments = plan.segments if segments is None else segments
        self._made_in = os.getpid()
        self._runners: list[Runner] = []
        self._gate = shutdown.Gate()
        self._end = forking.close_when_dropped(self, functools.partial(_close, self._runners))
        self._once = [segment.once for segment in segments]
        self._spec = segments[-1].spec_out if segments else plan.out_spec
        try:
            for segment in segments:
                self._runners.append(make_runner(plan, segment, batch_size))
        except BaseException:
            self.close()
            raise
        self.clocks: Sequence[StepClock] = [clock for runner in self._runners for clock in runner.clocks]
        """Of all segments' steps, in the order of the data."""
        # Behind the runners, which have imported DALI: its graphs must be gone before its own end.
        shutdown.close_at_end(self)

    def run(self, records: Records) -> NDArray[Any]:
        """A batch through all segments.

        Args:
            records: at most ``batch_size`` of them.

        Returns:
            ``[n, height, width, channels]``.

        Raises:
            RecordError: a record is bad; names it. The chain stays usable.
            BackendUnavailable: a backend failed on the batch, but on none of its records alone.
            UsageError: it is closed, or this is a fork of the process that made it.
        """
        images = self.images(records)
        return images if isinstance(images, np.ndarray) else stacked([np.asarray(image) for image in images])

    def images(self, records: Records) -> Images:
        """As ``run``, but images are stacked only where the last segment does so: they may have several sizes."""
        forking.check(self._made_in, "a pipeline's chain of backends")
        if not len(records.images):
            height, width, channels = self._spec.image_shape
            return np.empty((0, height or 0, width or 0, channels or 0), self._spec.dtype)
        if not self._gate.enter():
            raise UsageError("this pipeline's chain of backends is closed: make another")
        try:
            for runner, once in zip(self._runners, self._once, strict=True):
                records = records.through(runner.run, once=once)
            return records.each().images
        finally:
            self._gate.leave()

    def close(self) -> None:
        """Give back what the segments hold, once no thread is inside. Calling it twice is harmless."""
        if os.getpid() != self._made_in:
            return
        if in_worker():  # garbage is collected where who is inside may wait for: the last reference to go closes
            self._gate.shut(timeout=0)
            return
        self._gate.shut()
        self._end()

    def __enter__(self) -> Chain:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(runners: Sequence[Runner]) -> None:
    for runner in runners:
        runner.close()


def stacked(images: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Images of one size as one array."""
    return np.stack(images, out=empty((len(images), *images[0].shape), str(images[0].dtype)))


def run_plan(plan: Plan, records: Records) -> NDArray[Any]:
    """A batch of records through all steps on pixels: what loading must give, and what conformance tests call.

    Returns:
        ``[n, height, width, channels]``, stacked as ``Batch`` stacks them.

    Raises:
        RecordError: a record is bad; names it.
        BackendUnavailable: a backend can't run here.
    """
    with Chain(plan, max(1, len(records.images))) as chain:
        return chain.run(records)
