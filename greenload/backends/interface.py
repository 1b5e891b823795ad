"""What a backend can do: run segments of plans, decode files for other backends, replay steps for the profiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from greenload.backends.base import Availability, BackendTable, GraphSegment, Records, Runner
from greenload.backends.clocks import StepClock
from greenload.backends.readers import Decoder, Readers
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step
from greenload.system.work import Work


@dataclass(frozen=True)
class Replay:
    """Something that can be done to the same samples over and over."""

    batches: int
    """How many captured batches are taken in turn."""
    batch_size: int
    once: Callable[[int], None]
    """Process captured batch ``i``."""
    close: Callable[[], None]
    """Give back threads and captured inputs."""

    def run(self, samples: int) -> int:
        """Process at least ``samples`` samples, in whole batches, from the first captured batch on.

        Returns:
            How many were processed.
        """
        count = -(-samples // self.batch_size)
        for i in range(count):
            self.once(i % self.batches)
        return count * self.batch_size


class OwnClocks(Protocol):
    """Counts what steps really take, wherever they run in this process."""

    def read(self) -> Mapping[str, Work]:
        """What they have done so far, by their names."""

    def clocks(self) -> Sequence[StepClock]:
        """The same, by step."""


class Replaying(Protocol):
    """What a backend's module of replays offers."""

    def pair(
        self, plan: Plan, segment: Segment, step: Step, parts: Sequence[Records], readers: Readers
    ) -> tuple[Replay, Replay]:
        """A step with and without its work. Inside a segment images stay what the backend has made of them, so that
        neither side pays for bringing them in or out.

        Args:
            plan: whose threads it may use.
            segment: the step's.
            step: on this backend.
            parts: batches as they enter the segment; captured and held in memory as they reach the step.
            readers: of the plan.

        Raises:
            RecordError: a record is bad.
        """

    def idle_runner(
        self,
        plan: Plan,
        segment: Segment,
        batch_size: int,
        parts: Sequence[Records],
        done: Sequence[Records],
        readers: Readers,
    ) -> Runner:
        """A segment's runner whose work on pixels is left out: it brings images in, computes params, and passes on
        stand-ins for its results.

        Args:
            plan: whose threads it may use.
            segment: of this backend.
            batch_size: the most records of a call; they are among those of ``parts``.
            parts: batches as they enter the segment.
            done: the same as they leave it.
            readers: of the plan.
        """


class Backend(Protocol):
    """Runs segments of plans on batches. Implementations: ``backends.tf``, ``backends.dali``,
    ``backends.pillow``, ``backends.native``."""

    @property
    def name(self) -> str:
        """What a plan calls it."""

    @property
    def table(self) -> BackendTable:
        """What it does."""

    def availability(self) -> Availability:
        """Whether this backend can run here, found out by loading it."""

    def presence(self) -> Availability:
        """The same as far as it can be told without importing TensorFlow."""

    def runner(self, plan: Plan, segment: Segment, batch_size: int, readers: Readers) -> Runner:
        """Make a segment of a plan ready to run.

        Args:
            plan: whose threads it may use.
            segment: of this backend.
            batch_size: the most records of a call.
            readers: of the plan.

        Raises:
            BackendUnavailable: this backend can't run here; names the remedy.
        """

    def graph_segment(self, plan: Plan, segment: Segment, readers: Readers, counter: str = "") -> GraphSegment | None:
        """A segment of this backend inside TensorFlow's graph; ``None`` where batches have to leave the graph for it,
        or are no part of it. The arguments are those of ``runner``, and ``counter`` the name under which it counts; if
        not given, that of all pipelines with the same steps."""

    def own_clocks(self, segment: Segment, counter: str = "") -> OwnClocks | None:
        """What its own clocks count of a segment of this backend; ``None`` where it has none. With ``counter`` that of
        a ``graph_segment`` alone."""

    def decoder(self) -> Decoder:
        """What decodes single files on the CPU for backends that don't read them."""

    def replays(self) -> Replaying | None:
        """How its steps are replayed on batches, for the profiler; ``None`` where tf.data replays them."""

    def refusal(self, data: bytes) -> str | None:
        """Why it can't decode a file of a kind that it reads; empty if it can. ``None`` where it gives no reason of its
        own, and decodes what TensorFlow decodes of that kind, if that reads it.

        Args:
            data: the whole file, filled where it was cut off.
        """
