"""One counter over time: its unwrapped total, when it was refreshed, and its joules between two edges.

A counter that is refreshed only now and then shows the joules up to its last refresh. An edge of a window is therefore
*late* by an unknown part of a refresh, unless the counter was watched until it changed: then the edge is that refresh,
known to the time between two polls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from greenload.energy.meters.base import Channel, Reading
from greenload.energy.meters.power_check import PowerSum, disagreement, sampling_error_j
from greenload.energy.meters.unwrap import REFRESH_SLACK_S, Reset, implausible, unwrap

STALE_S = 1.0
"""A counter that hasn't moved for longer is stuck: the slowest that work are refreshed every 0.1 s."""
LEARNED_GAPS = 4
"""Refreshes in a row that are watched, once, to learn how often a slow counter is refreshed."""
_SHORTEST = 0.1  # of a window, what is left of it if its edges are late: beyond that it is unresolved anyway
_GAP_SLACK = 1.5  # the longest of a few gaps is not the longest there is


@dataclass(frozen=True, slots=True)
class Edge:
    """One counter at one edge of windows."""

    time_ns: int
    """What time its total stands for: the mark's, or the refresh's if aligned."""
    late_s: float
    """Joules of up to so many seconds before ``time_ns`` may be missing in the total."""
    refresh_s: float
    """The counter's refresh time, that a window has to be longer than; 0 if aligned."""
    delay_s: float
    """How long after ``time_ns`` it was read."""
    total_j: float
    """Joules since the sampler started."""
    resets: int
    """Resets since the sampler started."""
    failure: str
    """Why it couldn't be read; empty if it could."""
    reason: str
    """What its last reset was."""
    power: PowerSum
    """What its power readings add up to, where it has any."""
    aligned: bool = False
    """Whether the counter was watched until it was refreshed."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Joules of one counter between two edges."""

    energy_j: float
    """The difference of the totals."""
    wall_ns: int
    """Monotonic nanoseconds in which they were counted."""
    resolution_j: float
    """How far they may be off, because edges are late and, where power is summed up, because it was sampled."""


class Track:
    """The unwrapped total of one counter, fed with every reading of its meter.

    Args:
        channel: the counter.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.failure = ""
        """Why the last read failed; empty if it didn't."""
        self.changes = 0
        """How many times it was seen to move."""
        self._total_j = 0.0
        self._resets = 0
        self._reason = ""
        self._last: tuple[int, float] | None = None
        self._began_ns = 0  # when the last good read began
        self._seen_ns: int | None = None  # when the present value was first seen
        self._blur_ns = 0  # by how much it may have come earlier
        self._gaps_s: list[float] = []
        self._still_s = 0.0
        self._power = PowerSum()

    @property
    def alignable(self) -> bool:
        """Whether it is refreshed so seldom that waiting for it pays."""
        return self.channel.alignable

    @property
    def learned(self) -> bool:
        """Whether enough refreshes in a row were watched to know how often it is refreshed."""
        return len(self._gaps_s) >= LEARNED_GAPS

    @property
    def refresh_s(self) -> float:
        """How long it may take to the next refresh, in seconds: as declared, until refreshes were watched."""
        longest = max(self._gaps_s, default=0.0)
        declared = self.channel.update_s
        return max(min(declared, _GAP_SLACK * longest) if self.learned else declared, longest, self._still_s)

    def update(self, reading: Reading, began_ns: int) -> None:
        """Take in a reading.

        Args:
            reading: of this counter's meter.
            began_ns: monotonic time at which the read began.
        """
        domain = self.channel.domain
        counter_j = reading.counter_j.get(domain)
        if domain in reading.power_w:
            self._power = self._power.add(reading.time_ns, reading.power_w[domain])
        if counter_j is None or not math.isfinite(counter_j):
            # The last good value is kept: if the counter goes on from there, nothing was lost.
            silent = "the meter said nothing about it" if counter_j is None else f"the counter reads {counter_j} J"
            self.failure = reading.failed.get(domain, silent)
            return
        self.failure = ""
        if self._last is None:
            self._last, self._seen_ns = (reading.time_ns, counter_j), reading.time_ns
            self._blur_ns = reading.time_ns
        else:
            self._step(counter_j, reading.time_ns, reading.restarted.get(domain, ""))
        self._began_ns = began_ns

    def _step(self, counter_j: float, time_ns: int, restarted: str) -> None:
        assert self._last is not None and self._seen_ns is not None
        step: float | Reset = Reset(restarted)
        if not restarted:
            step = unwrap(self.channel, self._last[1], counter_j, (time_ns - self._last[0]) / 1e9)
        if isinstance(step, Reset):
            self._resets += 1
            self._reason = step.reason
        elif step == 0:
            # Reads that overtook each other: from the lower value the difference would be counted twice.
            self._last = (time_ns, self._last[1])
            if self.alignable and not self.channel.can_rest:
                self._still_s = max(self._still_s, min(STALE_S, (time_ns - self._seen_ns) / 1e9))
            return
        else:
            self._total_j += step
        blur_ns = time_ns - self._began_ns
        gap_ns = time_ns - self._seen_ns
        if self.alignable and not self.learned and 2 * max(blur_ns, self._blur_ns) < gap_ns:
            self._gaps_s.append(gap_ns / 1e9)
        self._last, self._seen_ns, self._blur_ns = (time_ns, counter_j), time_ns, blur_ns
        self.changes += 1

    def edge(self, mark_ns: int) -> Edge:
        """The counter as it is now, for a mark made at ``mark_ns``."""
        read_ns = mark_ns if self._last is None else self._last[0]
        seen_ns = read_ns if self.channel.can_rest or self._seen_ns is None else self._seen_ns
        stale_s = (read_ns - seen_ns) / 1e9
        delay_s = max(0.0, (read_ns - mark_ns) / 1e9)
        return self._edge(mark_ns, max(self.refresh_s, stale_s), self.refresh_s, delay_s, False)

    def refreshed(self) -> Edge:
        """The counter at the change that was just seen, with other polls just before."""
        assert self._seen_ns is not None
        return self._edge(self._seen_ns, self._blur_ns / 1e9, 0.0, 0.0, True)

    def _edge(self, time_ns: int, late_s: float, refresh_s: float, delay_s: float, aligned: bool) -> Edge:
        return Edge(
            time_ns=time_ns,
            late_s=late_s,
            refresh_s=refresh_s,
            delay_s=delay_s,
            total_j=self._total_j,
            resets=self._resets,
            failure=self.failure,
            reason=self._reason,
            power=self._power,
            aligned=aligned,
        )


def joules_between(channel: Channel, start: Edge, end: Edge) -> Counted | str:
    """Joules of a counter between two edges, or why there are none. Pure.

    Each edge is late by up to ``late_s`` and was read up to ``delay_s`` after its time, so their difference may hold
    the joules of so much more or less than ``wall_s``: it is off by ``energy · late / (wall − late)`` at a steady
    power. Power that is summed up adds two standard errors of its mean.

    Example:
        >>> nothing = PowerSum()
        >>> first = Edge(0, 0.2, 0.0, 0.0, 5.0, 0, "", "", nothing, aligned=True)
        >>> last = Edge(10**9, 0.1, 0.0, 0.0, 305.0, 0, "", "", nothing, aligned=True)
        >>> joules_between(Channel("gpu:0", "measured", update_s=0.1), first, last)
        Counted(energy_j=300.0, wall_ns=1000000000, resolution_j=75.0)
    """
    for edge in (start, end):
        if edge.failure:
            return edge.failure
    if start.resets != end.resets:
        return end.reason
    wall_s = (end.time_ns - start.time_ns) / 1e9
    refresh_s = max(start.refresh_s, end.refresh_s)
    for edge in (start, end):
        if edge.late_s > STALE_S >= channel.update_s:
            return f"the counter stood still for {edge.late_s:.3f} s at the window's edge: it is stuck"
    if end.total_j == start.total_j and wall_s >= channel.update_s and not channel.can_rest:
        return f"the counter stood still for {wall_s:.3f} s: what can't draw nothing isn't being counted"
    if wall_s < refresh_s or wall_s <= 0:
        what = "mean power is of" if channel.sum_gap_s is not None else "counter's refresh"
        return f"the window ({wall_s * 1e3:.3f} ms) is shorter than the {what} ({refresh_s:.3g} s)"
    energy_j = end.total_j - start.total_j
    late_s = max(start.late_s + start.delay_s, end.late_s + end.delay_s)
    if reason := implausible(channel, energy_j, wall_s + late_s + REFRESH_SLACK_S):
        return f"the counter showed too much: {reason}"
    power = end.power - start.power
    if channel.sum_gap_s is None and (reason := disagreement(energy_j, wall_s, power)):
        return reason
    resolution_j = channel.resolution_j + energy_j * late_s / max(wall_s - late_s, _SHORTEST * wall_s)
    if channel.sum_gap_s is not None:
        resolution_j += sampling_error_j(power, wall_s)
    return Counted(energy_j, end.time_ns - start.time_ns, resolution_j)
