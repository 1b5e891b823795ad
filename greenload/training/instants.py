"""What a fit's meters and its watched datasets had counted at an instant, and the thread that reads them as it runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from greenload.energy.sampler import Mark, Sampler, Window
from greenload.errors import MeterError
from greenload.profiling.in_place.model import Buffer
from greenload.profiling.in_place.watched import Moment, Watched, all_watched
from greenload.system.shutdown import close_at_end
from greenload.training.train_step import Waits

PERIOD_S = 0.5
"""Seconds between two instants as a fit begins. Reading all takes well below a millisecond of CPU time."""
MOST = 600
"""Instants that are kept; from there on every other one is dropped, and the time between them doubles."""
LEAST_S = 0.1
"""Seconds between two instants that a timeline shows: in shorter ones counters have hardly moved."""
_MOST_EDGES = 4 * MOST


@dataclass(frozen=True)
class Instant:
    """Totals at an instant: the difference of two is a `Span`."""

    mark: Mark
    moments: Mapping[Watched, Moment] = field(default_factory=dict)
    waits: Waits | None = None
    """How long the training step had waited for batches; None where that can't be seen."""
    buffers: tuple[Buffer, ...] = ()
    """What the runtime told at this instant."""
    testing: bool = False
    """Whether what follows is a part of a validation."""


@dataclass(frozen=True)
class Span:
    """What was done between two instants."""

    window: Window
    used: Mapping[Watched, Moment]
    """By watched dataset."""

    def without(self, inner: Sequence[Span]) -> Mapping[Watched, Moment]:
        """What was done outside spans within it."""
        left = dict(self.used)
        for within in inner:
            left |= {watched: left[watched] - moment for watched, moment in within.used.items() if watched in left}
        return left


def span(sampler: Sampler, start: Instant, end: Instant) -> Span:
    """What was done between two instants of a sampler. What was watched only later is counted from its beginning."""
    nothing = Moment(start.mark.clocks.monotonic_ns / 1e9, 0.0, {}, 0.0)
    used = {watched: moment - start.moments.get(watched, nothing) for watched, moment in end.moments.items()}
    return Span(sampler.window(start.mark, end.mark), used)


def spaced(instants: Sequence[Instant], least_s: float = LEAST_S) -> list[Instant]:
    """The instants without those so close to another that what was done in between can't be told. The ends stay, and
    where validations begin and end."""

    def close(one: Instant, other: Instant) -> bool:
        return other.mark.clocks.monotonic_ns - one.mark.clocks.monotonic_ns < least_s * 1e9

    kept = list(instants[:1])
    for instant in instants[1:]:
        if close(kept[-1], instant) and instant.testing == kept[-1].testing and instant is not instants[-1]:
            continue
        if close(kept[-1], instant) and len(kept) > 1 and kept[-2].testing == kept[-1].testing:
            kept.pop()
        kept.append(instant)
    return kept


def joined(spans: Sequence[Span]) -> Mapping[Watched, Moment]:
    """What was done in several spans together."""
    together: dict[Watched, Moment] = {}
    for part in spans:
        for watched, moment in part.used.items():
            together[watched] = together[watched] + moment if watched in together else moment
    return together


class Recorder:
    """Reads meters and watched datasets: when asked, and every now and then by a thread of its own. Safe in threads.

    Args:
        sampler: gives the marks.
        waits: tells how long the training step has waited.
        buffers: tells what the runtime says of its buffers.
        told: is called with each instant.
    """

    def __init__(
        self,
        sampler: Sampler,
        waits: Callable[[], Waits | None],
        buffers: Callable[[], tuple[Buffer, ...]],
        told: Callable[[Instant], None] = lambda instant: None,
    ) -> None:
        self.period_s = PERIOD_S
        """Seconds between two instants of the thread."""
        self._sampler, self._waits, self._buffers, self._told = sampler, waits, buffers, told
        self._lock = threading.Lock()
        self._kept: list[Instant] = []
        self._edges: set[int] = set()
        self._testing = False
        self._stop = threading.Event()
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        """Whether a thread reads, or has read."""
        return self._thread is not None

    def start(self) -> None:
        """Read by a thread as well, until `close`; where none can be started, only when asked."""
        thread = threading.Thread(target=self._run, name="greenload-live", daemon=True)
        with suppress(RuntimeError):
            thread.start()
            self._thread = thread
            close_at_end(self)

    def close(self) -> None:
        """Stop the thread. Harmless if repeated, and in a fork of the process that it runs in."""
        if self._pid != os.getpid():
            return
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def take(self, *, testing: bool = False) -> Instant:
        """Read everything now, as an edge that is kept.

        Args:
            testing: whether a validation begins here.

        Raises:
            MeterError: the sampler doesn't run any more.
        """
        self._testing = testing
        instant = self._read()
        with self._lock:
            if len(self._edges) < _MOST_EDGES:
                self._kept.append(instant)
                self._edges.add(id(instant))
        self._told(instant)
        return instant

    def between(self, start: Instant, end: Instant) -> list[Instant]:
        """The instants from one that was taken to another, both included."""
        with self._lock:
            kept = list(self._kept)
        first, last = (instant.mark.clocks.monotonic_ns for instant in (start, end))
        inside = (one for one in kept if first < one.mark.clocks.monotonic_ns < last)
        return [start, *sorted(inside, key=lambda one: one.mark.clocks.monotonic_ns), end]

    def _read(self) -> Instant:
        # The mark first and the clocks right behind it: what a step did in between counts for it, not against it.
        mark = self._sampler.mark()
        moments = {watched: watched.read() for watched in all_watched()}
        return Instant(mark, moments, self._waits(), self._buffers(), self._testing)

    def _run(self) -> None:
        while not self._stop.wait(self.period_s):
            try:
                instant = self._read()
            except MeterError:  # the sampler was stopped without a word
                return
            with self._lock:
                self._kept.append(instant)
                if len(self._kept) - len(self._edges) > MOST:
                    self._thin()
            self._told(instant)

    def _thin(self) -> None:
        between = [instant for instant in self._kept if id(instant) not in self._edges]
        dropped = set(map(id, between[::2]))
        self._kept = [instant for instant in self._kept if id(instant) not in dropped]
        self.period_s *= 2
