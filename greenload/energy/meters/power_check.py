"""Compares a GPU's energy counter with its power readings: which boards count wrongly, or not at all. Pure.

NVML gives a GPU's energy counter and, from the same sensor by another way, its power: a mean of the last second on
Ampere (except GA100) and later, the power of the moment before (NVML's reference, ``nvmlDeviceGetPowerUsage``). Watts
times seconds must come near the counter's joules, as near as seconds of averaging and a few samples let them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

AVERAGE_S = 1.0
"""A power reading is a mean of up to so long."""
POWER_TOLERANCE = 0.25
"""Relative difference that isn't remarked: ±5 % of either figure is documented, and boards whose sensor looks only part
of the time are off by more (Yang, Adámek, Armour, Part-time Power Measurements, arXiv:2312.02741)."""
JUDGED_S = 3.0
"""Shorter windows aren't judged: averaging alone could explain most differences."""
_READS = 4  # fewer say nothing of how much they vary
_BRIDGED_S = 2.0  # a pause between power readings, after which their sum says nothing


@dataclass(frozen=True, slots=True)
class PowerSum:
    """Power readings added up; the difference of two sums is that of the readings between them.

    Example:
        >>> PowerSum().add(0, 100.0).add(10**9, 300.0).joules
        200.0
    """

    joules: float = 0.0
    """Watts integrated by the trapezoidal rule, in joules."""
    seconds: float = 0.0
    """Time over which they were."""
    reads: int = 0
    """How many readings there were."""
    watts: float = 0.0
    """Sum of the readings, in watts."""
    squares: float = 0.0
    """Sum of their squares."""
    pauses: int = 0
    """How often readings were too far apart to be integrated."""
    last: tuple[int, float] | None = None
    """Time of the last reading, in monotonic nanoseconds, and its watts."""

    def add(self, time_ns: int, watts: float) -> PowerSum:
        """With one reading more."""
        if not math.isfinite(watts):
            return self
        joules, seconds, pauses = self.joules, self.seconds, self.pauses
        if self.last is not None:
            gap_s = (time_ns - self.last[0]) / 1e9
            if gap_s <= _BRIDGED_S:
                joules += gap_s * (self.last[1] + watts) / 2
                seconds += gap_s
            else:
                pauses += 1
        return PowerSum(
            joules,
            seconds,
            self.reads + 1,
            self.watts + watts,
            self.squares + watts * watts,
            pauses,
            (time_ns, watts),
        )

    def __sub__(self, before: PowerSum) -> PowerSum:
        return replace(
            self,
            joules=self.joules - before.joules,
            seconds=self.seconds - before.seconds,
            reads=self.reads - before.reads,
            watts=self.watts - before.watts,
            squares=self.squares - before.squares,
            pauses=self.pauses - before.pauses,
        )

    @property
    def deviation_w(self) -> float:
        """Standard deviation of the readings, in watts."""
        if self.reads < 2:
            return 0.0
        variance = (self.squares - self.watts * self.watts / self.reads) / (self.reads - 1)
        return math.sqrt(max(0.0, variance))


def sampling_error_j(power: PowerSum, wall_s: float) -> float:
    """Two standard errors of the mean of the readings, times the time, in joules."""
    return 2 * power.deviation_w * wall_s / math.sqrt(power.reads) if power.reads else 0.0


def disagreement(energy_j: float, wall_s: float, power: PowerSum) -> str:
    """Whether a counter's joules can't be those of the power readings of the same time, and how not.

    They differ if ``|energy/wall − joules/seconds|`` is more than ``POWER_TOLERANCE`` of the greater, two standard
    errors of the readings' mean, and what averaging smears over both edges (two standard deviations for ``AVERAGE_S``).

    Args:
        energy_j: the counter's joules.
        wall_s: in so many seconds.
        power: the readings within.

    Returns:
        A sentence, or nothing where they agree or the readings can't tell.

    Example:
        >>> readings = PowerSum()
        >>> for second in range(11):
        ...     readings = readings.add(second * 10**9, 300.0)
        >>> disagreement(20.0, 10.0, readings)
        'the energy counter gives 2 W and the power readings 300 W ± 75 W over 10.0 s: one of them is wrong'
        >>> disagreement(2900.0, 10.0, readings)
        ''
    """
    if wall_s < JUDGED_S or power.reads < _READS or power.pauses or power.seconds < wall_s / 2:
        return ""
    counted_w, read_w = energy_j / wall_s, power.joules / power.seconds
    smeared_w = 2 * power.deviation_w * AVERAGE_S / wall_s
    allowed_w = POWER_TOLERANCE * max(counted_w, read_w) + smeared_w + sampling_error_j(power, wall_s) / wall_s
    if abs(counted_w - read_w) <= allowed_w:
        return ""
    return (
        f"the energy counter gives {counted_w:.0f} W and the power readings {read_w:.0f} W ± {allowed_w:.0f} W over "
        f"{wall_s:.1f} s: one of them is wrong"
    )
