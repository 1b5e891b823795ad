"""The one thread that polls counters, and the windows between marks.

Counters wrap, are reset, and vanish; a window that only reads its two edges can't tell. So one sampler polls them often
enough that no wrap passes unseen, keeps unwrapped totals, and gives marks; a window is the difference of two marks.
Windows may overlap, nest, and be marked from several threads.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from greenload.energy.meters.base import Channel, CounterMeter, Meter, Reading, channels_by_domain
from greenload.energy.meters.model import ModelMeter
from greenload.energy.meters.process import Clocks, ProcessMeter, ProcessReading, Usage, read_clocks, suspended_s
from greenload.energy.meters.tracks import Edge, Track, joules_between
from greenload.errors import MeterError, UsageError

PERIOD_S = 0.5
"""Default time between polls: resident memory is integrated from them; each costs 0.1–0.4 ms of CPU time."""
POLLS_PER_WRAP = 4
"""Polls within the shortest time in which a counter can wrap: one or two may come late."""
SUSPENDED_S = 0.001
"""A window in which the machine was suspended for longer than this is invalid."""
ALIGN_MAX_S = 1.0
"""No aligned mark waits longer for one counter, but once, when it learns how often the counter is refreshed."""
_ALIGN_STEP_S = 0.001  # time between polls while it waits: the edge is known to this
_DRAIN_STEP_S = 0.02  # time between polls while summed power is waited for
_LEARNING = 8  # declared refresh times, in which a counter's real one is learned
_SAMPLERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Mark:
    """One edge of windows: totals since the sampler started. Opaque: make windows of it with :meth:`Sampler.window`."""

    clocks: Clocks
    process: ProcessReading
    sampler_cpu_s: float
    rss_byte_s: float
    edges: Mapping[str, Edge]
    began: Clocks
    ended: Clocks
    sampler: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """What was used between two marks. A domain is in ``energy_j`` or in ``void``, never in neither."""

    wall_ns: int
    """Length, of monotonic time, in nanoseconds."""
    cpu_s: float
    """CPU seconds of this process: user and system, children that ended and were waited for included, the sampler's own
    (``sampler_cpu_s``) left out."""
    other_cpu_s: float
    """Busy CPU seconds of the rest of the machine, from 10 ms ticks: at least 0."""
    device_read_bytes: int | None
    """Bytes fetched from storage devices; None where the system doesn't tell."""
    device_written_bytes: int | None
    """Bytes sent to storage devices; None where the system doesn't tell."""
    rss_bytes: int
    """Resident memory in bytes, the mean over the window."""
    energy_j: Mapping[str, float]
    """Joules by domain: a measured counter's whole difference, or a model's figure for this process."""
    void: Mapping[str, str]
    """Domains without a figure for this window, and why."""
    resolution_j: Mapping[str, float] = field(default_factory=dict)
    """How far a counter's figure may be off because its edges are late, in joules: by up to a refresh, or by the time
    between two polls if aligned."""
    reads: int | None = None
    """Read system calls of this process, a dozen of the sampler's own included; None where the system doesn't tell."""
    start_ns: int = 0
    """When it started, on the monotonic clock."""
    aligned: frozenset[str] = frozenset()
    """Domains whose joules were counted from one refresh of their counter to another."""
    energy_wall_ns: Mapping[str, int] = field(default_factory=dict)
    """Monotonic nanoseconds in which a domain's joules were counted, where an edge is a refresh of its counter and so
    isn't the window's own."""
    sampler_cpu_s: float = 0.0
    """CPU seconds that reading the meters took within the window: its own marks, those of windows inside it, and polls.
    They are in its joules, as the counters saw them, but not in ``cpu_s``."""


class Sampler:
    """Polls meters from one thread, and cuts windows.

    Args:
        meters: counters and models, as from :func:`greenload.energy.meters.discover.discover`. The sampler takes them
            over and closes them when it stops.
        process: reads this process's CPU seconds, memory and device bytes.
        period_s: seconds between polls; shortened where a counter could wrap four times as fast.
        clocks: reads the monotonic and suspended time.
        sleep: waits for so many seconds, between the polls of an aligned mark.

    Raises:
        UsageError: ``period_s`` isn't positive.
        MeterError: two meters claim one domain.

    Example:
        >>> from greenload.energy.meters.discover import discover
        >>> meters, statuses = discover()
        >>> with Sampler(meters) as sampler:
        ...     start = sampler.mark()
        ...     total = sum(range(1000))
        ...     window = sampler.window(start, sampler.mark())
        >>> window.cpu_s > 0
        True
    """

    def __init__(
        self,
        meters: Iterable[Meter],
        process: ProcessMeter | None = None,
        *,
        period_s: float = PERIOD_S,
        clocks: Callable[[], Clocks] = read_clocks,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not period_s > 0:
            raise UsageError(f"period_s must be positive, got {period_s}: leave it out for {PERIOD_S} s")
        self._meters = tuple(meters)
        self.channels: Mapping[str, Channel] = channels_by_domain(self._meters)
        """Every domain's provenance, band and resolution."""
        self._counters = [meter for meter in self._meters if isinstance(meter, CounterMeter)]
        self._models = [meter for meter in self._meters if isinstance(meter, ModelMeter)]
        self._tracks = {c.domain: Track(c) for meter in self._counters for c in meter.channels}
        self._slow = [m for m in self._counters if any(self._tracks[c.domain].alignable for c in m.channels)]
        # Slow ones too: what is lost, reset or stuck in the midst of a window is seen only by those who look.
        self._polled = [m for m in self._counters if m in self._slow or any(c.max_gap_s for c in m.channels)]
        self._process = process if process is not None else ProcessMeter()
        self._clocks = clocks
        self._sleep = sleep
        gaps = [gap for channel in self.channels.values() if (gap := channel.max_gap_s) is not None]
        self.period_s = min([period_s, *(gap / POLLS_PER_WRAP for gap in gaps)])
        """Seconds between polls."""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._id = (self._pid, next(_SAMPLERS))
        self._cpu_s = 0.0
        self._rss_byte_s = 0.0
        self._last_rss: tuple[int, int] | None = None

    def start(self) -> Sampler:
        """Start polling. A sampler runs once.

        Raises:
            MeterError: it was started before, or no thread can be started.
        """
        if self._thread is not None:
            raise MeterError("a sampler runs once, and this one was already started: make another")
        self._pid = os.getpid()
        with self._lock:
            self._read(self._counters)
        thread = threading.Thread(target=self._poll, name="greenload-sampler", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise MeterError(
                f"meters are polled by a thread, but none can be started ({error}): raise the limit of threads "
                "(ulimit -u, or the container's pids limit)"
            ) from None
        self._thread = thread
        return self

    def stop(self) -> None:
        """Stop polling and close the meters. Harmless if repeated. Marks already taken still make windows."""
        self._stop.set()
        if self._thread is not None and os.getpid() == self._pid:
            self._thread.join()
        for meter in self._meters:
            meter.close()

    def __enter__(self) -> Sampler:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def idle_power_w(self) -> dict[str, float]:
        """Modelled idle watts by domain; a measured domain's idle power has to be measured."""
        return {domain: watts for model in self._models for domain, watts in model.idle_power_w().items()}

    def refresh_s(self, domain: str) -> float:
        """How often a counter is refreshed, in seconds: as its meter declares it, until an aligned mark watched it.

        Raises:
            KeyError: the domain has no counter.
        """
        return self._tracks[domain].refresh_s

    def mark(self, *, aligned: bool = False, closing: bool = False) -> Mark:
        """Read everything now (0.02 ms of CPU time, counters apart): one edge of any number of windows.

        Args:
            aligned: wait until each slow counter (a GPU's) was seen to be refreshed, up to twice its refresh time: that
                refresh is then the edge of its joules (``Window.energy_wall_ns``), known to the milliseconds between
                two polls. The first such mark takes longer: it learns how often each is refreshed. Where there is no
                counter and power is summed up, wait as long as it is a mean of: then it tells of no time before.
            closing: of an aligned mark, wait after everything else was read, not before. With both, a window opened by
                an aligned mark and closed by an aligned, closing one has only what was done between the two calls.

        Raises:
            MeterError: the sampler isn't running, or was started in another process.
        """
        if os.getpid() != self._pid:
            raise MeterError(
                f"a sampler works only in the process that started it ({self._pid}), not in its fork {os.getpid()}: "
                "start another there"
            )
        if self._thread is None or self._stop.is_set():
            raise MeterError("a sampler gives marks only while it runs: use it in a with statement")
        began_cpu_s = time.thread_time()
        began = self._clocks()
        refreshed = self._align() if aligned and not closing else {}
        with self._lock:
            clocks = self._clocks()
            process = self._process.read()
            sampler_cpu_s = self._cpu_s + time.thread_time() - began_cpu_s
            self._integrate_rss(clocks.monotonic_ns, process.rss_bytes)
            self._read(self._counters)
            edges = {domain: track.edge(clocks.monotonic_ns) for domain, track in self._tracks.items()}
            rss_byte_s = self._rss_byte_s
            counted_s = time.thread_time()  # before another thread's mark sees what this one took
            self._cpu_s += counted_s - began_cpu_s
        if aligned and closing:
            refreshed = self._align()
            with self._lock:
                self._cpu_s += time.thread_time() - counted_s
        ended = self._clocks()
        return Mark(
            clocks=clocks,
            process=process,
            sampler_cpu_s=sampler_cpu_s,
            rss_byte_s=rss_byte_s,
            edges=edges | refreshed,
            began=began,
            ended=ended,
            sampler=self._id,
        )

    def window(self, start: Mark, end: Mark) -> Window:
        """The window between two marks of this sampler. Pure: any two marks, in any order of calls.

        Raises:
            UsageError: ``end`` is before ``start``, or a mark is another sampler's.
        """
        if start.sampler != self._id or end.sampler != self._id:
            raise UsageError("a window needs two marks of the sampler that cuts it, got another's: use one sampler")
        wall_ns = end.clocks.monotonic_ns - start.clocks.monotonic_ns
        if wall_ns < 0:
            raise UsageError(f"a window must end after it starts, got {wall_ns / 1e9:.6f} s: swap the marks")
        usage = _usage(start, end)
        energy_j, void, resolution_j = self._energies(start, end, usage)
        sampler_cpu_s = end.sampler_cpu_s - start.sampler_cpu_s
        machine_cpu_s = end.process.machine_cpu_s - start.process.machine_cpu_s
        refreshed = [d for d in self._tracks if start.edges[d].aligned or end.edges[d].aligned]
        return Window(
            wall_ns=wall_ns,
            cpu_s=usage.cpu_s,
            sampler_cpu_s=sampler_cpu_s,
            # Ticks and this process's clock differ by some 10 ms, which on a quiet machine would go below 0.
            other_cpu_s=max(0.0, machine_cpu_s - usage.cpu_s - sampler_cpu_s),
            device_read_bytes=usage.device_read_bytes,
            device_written_bytes=usage.device_written_bytes,
            rss_bytes=round(usage.rss_byte_s / usage.wall_s) if wall_ns else end.process.rss_bytes,
            energy_j=energy_j,
            void=void,
            resolution_j=resolution_j,
            reads=_difference(start.process.reads, end.process.reads),
            start_ns=start.clocks.monotonic_ns,
            aligned=frozenset(d for d in refreshed if start.edges[d].aligned and end.edges[d].aligned),
            energy_wall_ns={d: end.edges[d].time_ns - start.edges[d].time_ns for d in refreshed if d in energy_j},
        )

    def _energies(
        self, start: Mark, end: Mark, usage: Usage
    ) -> tuple[dict[str, float], dict[str, str], dict[str, float]]:
        asleep_s = suspended_s(start.began, end.ended)
        if asleep_s > SUSPENDED_S:
            reason = f"the machine was suspended for {asleep_s:.3f} s in this window"
            return {}, dict.fromkeys(self.channels, reason), {}
        energy_j: dict[str, float] = {}
        void: dict[str, str] = {}
        resolution_j: dict[str, float] = {}
        for domain, track in self._tracks.items():
            counted = joules_between(track.channel, start.edges[domain], end.edges[domain])
            if isinstance(counted, str):
                void[domain] = counted
            else:
                energy_j[domain], resolution_j[domain] = counted.energy_j, counted.resolution_j
        for model in self._models:
            modelled = model.energy_j(usage)
            energy_j |= modelled
            for channel in model.channels:
                if channel.domain not in modelled:
                    void[channel.domain] = "what its model needs (device bytes) isn't told by this system"
        return energy_j, void, resolution_j

    def _read(self, meters: Iterable[CounterMeter]) -> None:
        for meter in meters:
            began_ns = self._clocks().monotonic_ns
            try:
                reading = meter.read()
            except Exception as error:  # a meter's bug may cost its figures, but must not end the polling of others
                what = f"{meter.name} failed: {type(error).__name__}: {error}"
                reading = Reading(time.monotonic_ns(), {}, {channel.domain: what for channel in meter.channels})
            for channel in meter.channels:
                self._tracks[channel.domain].update(reading, began_ns)

    def _integrate_rss(self, now_ns: int, rss_bytes: int) -> None:
        if self._last_rss is not None:
            then_ns, then_bytes = self._last_rss
            self._rss_byte_s += (now_ns - then_ns) / 1e9 * (then_bytes + rss_bytes) / 2
        self._last_rss = (now_ns, rss_bytes)

    def _poll(self) -> None:
        counted_s = time.thread_time()
        while not self._stop.wait(self.period_s):
            with self._lock:
                # Where no file can be opened, the next reading of memory stands for this one, and counters go on.
                with suppress(Exception):
                    self._integrate_rss(self._clocks().monotonic_ns, self._process.rss_bytes())
                self._read(self._polled)
                now_s = time.thread_time()
                self._cpu_s += now_s - counted_s
                counted_s = now_s

    def _align(self) -> dict[str, Edge]:
        """Poll the slow counters until each was seen to be refreshed: their edges, but of those that weren't."""
        with self._lock:
            self._read(self._slow)  # what came before now isn't taken for a refresh that was watched
        began_ns = self._clocks().monotonic_ns
        tracks = [self._tracks[c.domain] for m in self._slow for c in m.channels]
        waiting = {t: (t.changes, began_ns + _patience_s(t) * 1e9) for t in tracks if t.alignable}
        edges: dict[str, Edge] = {}
        while waiting:
            self._sleep(_ALIGN_STEP_S)
            with self._lock:
                self._read(self._slow)
                now_ns = self._clocks().monotonic_ns
                for track, (changes, deadline_ns) in list(waiting.items()):
                    if track.changes > changes and not track.failure and (track.learned or now_ns >= deadline_ns):
                        edges[track.channel.domain] = track.refreshed()
                        del waiting[track]
                    elif track.failure or now_ns >= deadline_ns:
                        del waiting[track]
        return edges | self._drain(began_ns)

    def _drain(self, began_ns: int) -> dict[str, Edge]:
        """Poll summed power until it is a mean of the time since then alone, so that all that was drawn is in its sum.

        Without that, joules of a window's end, half of those of a second, are counted in the one after it.
        """
        tracks = [track for track in self._tracks.values() if track.channel.sum_gap_s is not None]
        due_ns = began_ns + max((round(track.channel.update_s * 1e9) for track in tracks), default=0)
        while tracks and (left_ns := due_ns - self._clocks().monotonic_ns) > 0:
            self._sleep(min(_DRAIN_STEP_S, left_ns / 1e9))
            with self._lock:
                self._read(self._polled)
        return {track.channel.domain: track.refreshed() for track in tracks if not track.failure}

    def __reduce__(self) -> NoReturn:
        raise MeterError("a sampler can't be sent to another process: start another there")


def _patience_s(track: Track) -> float:
    """How long an aligned mark waits for a counter."""
    if track.learned:
        return min(2 * track.refresh_s, ALIGN_MAX_S)
    return _LEARNING * track.channel.update_s


def _usage(start: Mark, end: Mark) -> Usage:
    before, after = start.process, end.process
    return Usage(
        wall_s=(end.clocks.monotonic_ns - start.clocks.monotonic_ns) / 1e9,
        cpu_s=max(0.0, after.cpu_s - before.cpu_s - (end.sampler_cpu_s - start.sampler_cpu_s)),
        rss_byte_s=end.rss_byte_s - start.rss_byte_s,
        device_read_bytes=_difference(before.device_read_bytes, after.device_read_bytes),
        device_written_bytes=_difference(before.device_written_bytes, after.device_written_bytes),
    )


def _difference(before: int | None, after: int | None) -> int | None:
    """None rather than a negative count: a disk that was unplugged takes its count along."""
    return None if before is None or after is None or after < before else after - before
