"""The one thread that polls counters, and the windows between marks.

Counters wrap, are reset, and vanish; a window that only reads its two edges can't tell. So one sampler polls them often
enough that no wrap passes unseen, keeps unwrapped totals, and hands out marks; a window is the difference of two marks.
Windows may overlap, nest, and be marked from several threads.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from greenload.energy.meter import Channel, CounterMeter, Meter, Reading, domains
from greenload.energy.model import ModelMeter
from greenload.energy.process import Clocks, ProcessMeter, ProcessReading, Usage, read_clocks, suspended_s
from greenload.energy.unwrap import Reset, unwrap
from greenload.errors import MeterError, UsageError

PERIOD_S = 0.5
"""Default time between polls: resident memory is integrated from them; each costs 0.1–0.4 ms of CPU time."""
POLLS_PER_WRAP = 4
"""Polls within the shortest time in which a counter can wrap: one or two may come late."""
SUSPENDED_S = 0.001
"""Suspended for longer than this, a window is void."""
SLOW_UPDATE_S = 0.01
"""Counters refreshed less often than this are worth aligning to."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One edge of windows: totals since the sampler started. Opaque: make windows of it with :meth:`Sampler.window`."""

    clocks: Clocks
    process: ProcessReading
    rss_byte_s: float
    total_j: Mapping[str, float]
    resets: Mapping[str, int]
    reasons: Mapping[str, str]
    sampler: int


@dataclass(frozen=True, slots=True)
class Window:
    """What was used between two marks. A domain is in ``energy_j`` or in ``void``, never in neither."""

    wall_ns: int
    """Length, of monotonic time, in nanoseconds."""
    cpu_s: float
    """CPU seconds of this process: user and system, children that ended and were waited for included."""
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
    """How far a measured figure may be off because its counter is refreshed only so often, in joules."""
    reads: int | None = None
    """Read system calls of this process, a dozen of the sampler's own included; None where the system doesn't tell."""
    start_ns: int = 0
    """When it started, on the monotonic clock."""


class _Track:
    """The unwrapped total of one counter."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.total_j = 0.0
        self.resets = 0
        self.reason = ""
        self.failure = ""
        self._last: tuple[int, float] | None = None

    def update(self, reading: Reading) -> None:
        counter_j = reading.counter_j.get(self.channel.domain)
        if counter_j is None:
            # The last good value is kept: if the counter goes on from there, nothing was lost.
            self.failure = reading.failed.get(self.channel.domain, "the meter said nothing about it")
            return
        self.failure = ""
        if self._last is not None:
            step = unwrap(self.channel, self._last[1], counter_j, (reading.time_ns - self._last[0]) / 1e9)
            if isinstance(step, Reset):
                self.resets += 1
                self.reason = step.reason
            else:
                self.total_j += step
        self._last = (reading.time_ns, counter_j)


class Sampler:
    """Polls meters from one thread, and cuts windows.

    Args:
        meters: counters and models, as from :func:`greenload.energy.discover.discover`. The sampler takes them over
            and closes them when it stops.
        process: reads this process's CPU seconds, memory and device bytes.
        period_s: seconds between polls; shortened where a counter could wrap four times as fast.
        clocks: reads the monotonic and suspended time.

    Raises:
        UsageError: ``period_s`` isn't positive.
        MeterError: two meters claim one domain.

    Example:
        >>> from greenload.energy.discover import discover
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
    ) -> None:
        if not period_s > 0:
            raise UsageError(f"period_s must be positive, got {period_s}: leave it out for {PERIOD_S} s")
        self._meters = tuple(meters)
        self.channels: Mapping[str, Channel] = domains(self._meters)
        """Every domain's provenance, band and resolution."""
        self._counters = [meter for meter in self._meters if isinstance(meter, CounterMeter)]
        self._models = [meter for meter in self._meters if isinstance(meter, ModelMeter)]
        self._polled = [m for m in self._counters if any(c.wrap_j is not None for c in m.channels)]
        self._tracks = {c.domain: _Track(c) for meter in self._counters for c in meter.channels}
        self._process = process if process is not None else ProcessMeter()
        self._clocks = clocks
        gaps = [gap for channel in self.channels.values() if (gap := channel.max_gap_s) is not None]
        self.period_s = min([period_s, *(gap / POLLS_PER_WRAP for gap in gaps)])
        """Seconds between polls."""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._rss_byte_s = 0.0
        self._last_rss: tuple[int, int] | None = None

    def start(self) -> Sampler:
        """Start polling. A sampler runs once."""
        if self._thread is not None:
            raise MeterError("a sampler runs once, and this one was already started: make another")
        self._pid = os.getpid()
        with self._lock:
            self._read(self._counters)
        self._thread = threading.Thread(target=self._poll, name="greenload-sampler", daemon=True)
        self._thread.start()
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def idle_power_w(self) -> dict[str, float]:
        """Modelled idle watts by domain; a measured domain's idle power has to be measured."""
        return {domain: watts for model in self._models for domain, watts in model.idle_power_w().items()}

    def mark(self, *, aligned: bool = False) -> Mark:
        """Read everything now (0.1–0.3 ms): one edge of any number of windows.

        Args:
            aligned: first wait until each slow counter (a GPU's) has just been refreshed, up to twice its refresh
                time: with both edges aligned, a window of seconds is good to a few per cent less.

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
        if aligned:
            self._align()
        with self._lock:
            clocks = self._clocks()
            process = self._process.read()
            self._integrate_rss(clocks.monotonic_ns, process.rss_bytes)
            self._read(self._counters)
            return Mark(
                clocks=clocks,
                process=process,
                rss_byte_s=self._rss_byte_s,
                total_j={domain: track.total_j for domain, track in self._tracks.items() if not track.failure},
                resets={domain: track.resets for domain, track in self._tracks.items()},
                reasons={domain: track.failure or track.reason for domain, track in self._tracks.items()},
                sampler=id(self),
            )

    def window(self, start: Mark, end: Mark) -> Window:
        """The window between two marks of this sampler. Pure: any two marks, in any order of calls.

        Raises:
            UsageError: ``end`` is before ``start``, or a mark is another sampler's.
        """
        if start.sampler != id(self) or end.sampler != id(self):
            raise UsageError("a window needs two marks of the sampler that cuts it, got another's: use one sampler")
        wall_ns = end.clocks.monotonic_ns - start.clocks.monotonic_ns
        if wall_ns < 0:
            raise UsageError(f"a window must end after it starts, got {wall_ns / 1e9:.6f} s: swap the marks")
        usage = _usage(start, end)
        energy_j, void = self._energies(start, end, wall_ns, usage)
        machine_cpu_s = end.process.machine_cpu_s - start.process.machine_cpu_s
        return Window(
            wall_ns=wall_ns,
            cpu_s=usage.cpu_s,
            # Ticks and this process's clock differ by some 10 ms, which on a quiet machine would go below 0.
            other_cpu_s=max(0.0, machine_cpu_s - usage.cpu_s),
            device_read_bytes=usage.device_read_bytes,
            device_written_bytes=usage.device_written_bytes,
            rss_bytes=round(usage.rss_byte_s / usage.wall_s) if wall_ns else end.process.rss_bytes,
            energy_j=energy_j,
            void=void,
            resolution_j={
                domain: _resolution_j(self.channels[domain], joules, usage.wall_s)
                for domain, joules in energy_j.items()
                if self.channels[domain].provenance == "measured"
            },
            reads=_difference(start.process.reads, end.process.reads),
            start_ns=start.clocks.monotonic_ns,
        )

    def _energies(self, start: Mark, end: Mark, wall_ns: int, usage: Usage) -> tuple[dict[str, float], dict[str, str]]:
        asleep_s = suspended_s(start.clocks, end.clocks)
        if asleep_s > SUSPENDED_S:
            reason = f"the machine was suspended for {asleep_s:.3f} s in this window"
            return {}, dict.fromkeys(self.channels, reason)
        energy_j: dict[str, float] = {}
        void: dict[str, str] = {}
        for domain, track in self._tracks.items():
            reason = _void_reason(track.channel, start, end, wall_ns)
            if reason:
                void[domain] = reason
            else:
                energy_j[domain] = end.total_j[domain] - start.total_j[domain]
        for model in self._models:
            modelled = model.energy_j(usage)
            energy_j |= modelled
            for channel in model.channels:
                if channel.domain not in modelled:
                    void[channel.domain] = "what its model needs (device bytes) isn't told by this system"
        return energy_j, void

    def _read(self, meters: Iterable[CounterMeter]) -> None:
        for meter in meters:
            try:
                reading = meter.read()
            except Exception as error:  # a meter's bug may void its figures, but must not end the polling of the others
                what = f"{meter.name} failed: {type(error).__name__}: {error}"
                reading = Reading(time.monotonic_ns(), {}, {channel.domain: what for channel in meter.channels})
            for channel in meter.channels:
                self._tracks[channel.domain].update(reading)

    def _integrate_rss(self, now_ns: int, rss_bytes: int) -> None:
        if self._last_rss is not None:
            then_ns, then_bytes = self._last_rss
            self._rss_byte_s += (now_ns - then_ns) / 1e9 * (then_bytes + rss_bytes) / 2
        self._last_rss = (now_ns, rss_bytes)

    def _poll(self) -> None:
        while not self._stop.wait(self.period_s):
            with self._lock:
                self._integrate_rss(time.monotonic_ns(), self._process.rss_bytes())
                self._read(self._polled)

    def _align(self) -> None:
        slow = [m for m in self._counters if any(c.update_s >= SLOW_UPDATE_S for c in m.channels)]
        for meter in slow:
            deadline = time.monotonic() + 2 * max(channel.update_s for channel in meter.channels)
            with self._lock:
                first = meter.read().counter_j
            while time.monotonic() < deadline:
                with self._lock:
                    now = meter.read().counter_j
                if all(now.get(domain) != value for domain, value in first.items()):
                    break
                time.sleep(0.001)


def _usage(start: Mark, end: Mark) -> Usage:
    before, after = start.process, end.process
    return Usage(
        wall_s=(end.clocks.monotonic_ns - start.clocks.monotonic_ns) / 1e9,
        cpu_s=max(0.0, after.cpu_s - before.cpu_s),
        rss_byte_s=end.rss_byte_s - start.rss_byte_s,
        device_read_bytes=_difference(before.device_read_bytes, after.device_read_bytes),
        device_written_bytes=_difference(before.device_written_bytes, after.device_written_bytes),
    )


def _difference(before: int | None, after: int | None) -> int | None:
    """None rather than a negative count: a disk that was unplugged takes its count along."""
    return None if before is None or after is None or after < before else after - before


def _void_reason(channel: Channel, start: Mark, end: Mark, wall_ns: int) -> str:
    """Why a counter has no figure between two marks; empty if it has one."""
    domain = channel.domain
    for mark in (start, end):
        if domain not in mark.total_j:
            return mark.reasons[domain]
    if start.resets[domain] != end.resets[domain]:
        return end.reasons[domain]
    if wall_ns < channel.update_s * 1e9:
        return f"the window ({wall_ns / 1e6:.3f} ms) is shorter than the counter's refresh ({channel.update_s:g} s)"
    if end.total_j[domain] == start.total_j[domain]:
        return f"the counter stood still for {wall_ns / 1e9:.3f} s: what can't draw nothing isn't being counted"
    return ""


def _resolution_j(channel: Channel, energy_j: float, wall_s: float) -> float:
    """Each edge is late by up to one refresh, so the difference is off by up to one refresh of mean power."""
    return channel.resolution_j + (channel.update_s * energy_j / wall_s if wall_s > 0 else 0.0)
