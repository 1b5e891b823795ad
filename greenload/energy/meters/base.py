"""The vocabulary of meters: what a counter is, what it says, and whether it can be used.

A *domain* names what draws the power: ``cpu:package-0``, ``dram:package-0``, ``gpu:0``; where there is no counter and
the whole machine is modelled, ``cpu``, ``dram``, ``storage:nvme0n1``. A *counter meter* reads raw counters that only
the sampler turns into joules of a window; a model (:mod:`greenload.energy.meters.model`) isn't read, it is a function
of what a process used. Nothing here touches the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from greenload.errors import MeterError

Provenance = Literal["measured", "vendor-declared", "modelled"]
"""Where a figure comes from: a counter, a maker's data sheet, or a model."""

MAX_POWER_W = 1000.0
"""No package or memory of one socket draws more (the largest server packages are rated at 500 W, twice that in bursts).

Counters are polled so that none could wrap unseen at this power, and a fall that would mean more is a reset."""

COUNTS_TWICE = "adding it counts twice"
"""Ends the reason of a counter that is left out because another holds its joules: nothing is missing without it."""


SLOW_UPDATE_S = 0.01
"""Seconds: counters refreshed less often are worth aligning to."""


@dataclass(frozen=True, slots=True)
class MeterStatus:
    """Whether one domain can be metered, and if not, why and what helps. One line of ``greenload doctor``.

    Example:
        >>> MeterStatus("gpu", "measured", False, "no NVIDIA driver is loaded", "install it", "nvml").usable
        False
    """

    domain: str
    """``cpu:package-0``; only the kind (``gpu``) where nothing was found to enumerate."""
    provenance: Provenance
    """What its figures are, or would be."""
    usable: bool
    """Whether the domain has figures."""
    reason: str
    """Why it is usable or not, naming the path or the library."""
    remedy: str
    """What the user can do about it; empty where nothing needs doing or can be done."""
    meter: str
    """``rapl``, ``nvml``, ``model`` or ``process``."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One domain of one meter: what is known of its figures before any is read."""

    domain: str
    """The domain's name."""
    provenance: Provenance
    """What its figures are."""
    systematic: float = 0.0
    """Relative band common to all its figures: 0.4 is ±40 %; 0 for a counter, whose own error isn't published."""
    resolution_j: float = 0.0
    """The counter's smallest step, in joules."""
    update_s: float = 0.0
    """How often the counter is refreshed, in seconds: a window's edges are that uncertain."""
    wrap_j: float | None = None
    """Range after which the counter starts at 0 again, in joules; None if it never does."""
    max_power_w: float = MAX_POWER_W
    """No more power than this is believed, in watts."""
    limit: str = ""
    """Why no more is believed, and what else more may mean; empty for the general bound."""
    sum_gap_s: float | None = None
    """Where there is no counter and power is summed up: the longest time between two reads that is bridged, in seconds.

    ``update_s`` is then the time that the power is a mean of. There is no refresh to align to."""

    can_rest: bool = False
    """Whether it may count nothing for a whole window, as of a drive that isn't read; another that does is stuck."""

    @property
    def alignable(self) -> bool:
        """Whether it is refreshed so seldom that waiting for it pays. Power that is summed up has no refreshes."""
        return self.update_s >= SLOW_UPDATE_S and self.sum_gap_s is None

    @property
    def max_gap_s(self) -> float | None:
        """The longest time between two reads, in seconds, in which no wrap can pass unseen and no power goes uncounted.

        None if a figure doesn't depend on how often it is read.
        """
        wrap_s = None if self.wrap_j is None else self.wrap_j / self.max_power_w
        gaps = [gap for gap in (wrap_s, self.sum_gap_s) if gap is not None]
        return min(gaps) if gaps else None


@dataclass(frozen=True, slots=True)
class Reading:
    """Raw counters at one time. A domain is in ``counter_j`` or in ``failed``, never silently in neither."""

    time_ns: int
    """CLOCK_MONOTONIC of the read, in nanoseconds."""
    counter_j: Mapping[str, float]
    """Each domain's raw counter in joules: not unwrapped, from an arbitrary start."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Domains that couldn't be read now, and why."""
    power_w: Mapping[str, float] = field(default_factory=dict)
    """Watts that the meter gives beside its counter, where it does: what the counter is held against."""
    restarted: Mapping[str, str] = field(default_factory=dict)
    """Domains whose counter isn't the one that was read before, and why: joules can't be told across the two."""


class Meter(Protocol):
    """What every meter has: channels, and an end."""

    @property
    def name(self) -> str:
        """``rapl``, ``nvml``, ``model``."""

    @property
    def channels(self) -> Sequence[Channel]:
        """One per domain; domains differ."""

    def close(self) -> None:
        """Give back handles. Calling it twice is harmless."""


@runtime_checkable
class CounterMeter(Meter, Protocol):
    """A meter that reads counters. Its reads may come from any thread, one at a time.

    To add one: give channels, a ``read`` that says which domains failed instead of raising or returning 0, and a
    function that finds it and returns statuses, called from :func:`greenload.energy.meters.discover.discover`.
    """

    def read(self) -> Reading:
        """Read all counters now."""


def channels_by_domain(meters: Iterable[Meter]) -> dict[str, Channel]:
    """Channels of all meters by domain.

    Raises:
        MeterError: two meters claim one domain, whose joules would be counted twice.
    """
    channels: dict[str, Channel] = {}
    for meter in meters:
        for channel in meter.channels:
            if channel.domain in channels:
                raise MeterError(
                    f"a domain may have one meter only, but {channel.domain} has two: leave out one of them"
                )
            channels[channel.domain] = channel
    return channels
