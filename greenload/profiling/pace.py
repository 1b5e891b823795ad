"""Decides how long a profile runs: planned from its meters and the wanted precision, ended once that is reached."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from greenload.energy.attribution.costs import Attribution
from greenload.energy.attribution.observation import Observation
from greenload.energy.attribution.precision import Length, expected, further, plan_length, reached
from greenload.profiling.options import Announce
from greenload.profiling.windows import Windows
from greenload.report.data import Precision

Bounded = Callable[[Length], tuple[Length, str]]
"""Gives the length that a profile keeps to, for one that is planned, and what more is announced."""


_CLEARLY = 1.2  # how far beyond what is wanted an expected precision is said to be out of reach


class Pace:
    """Decides how long windows are and how many builds are measured, for one profile.

    Args:
        wanted: half-width of each step's interval as a share of the step, a fifth of it as a share of the whole, as in
            ``energy.precision``; None for as many builds as by default.
        attributed: works out the costs from the windows so far.
        announce: told the planned length.
    """

    def __init__(
        self,
        wanted: float | None,
        attributed: Callable[[Sequence[Observation]], Attribution],
        announce: Announce | None = None,
    ) -> None:
        self._wanted = wanted
        self._attributed = attributed
        self._announce = announce or (lambda text: None)
        self._length: Length | None = None
        self._told_reach = False
        self._begun_s = 0.0
        self._took_s = 0.0

    def plan(self, windows: Windows, steps: int, rounds: int, bounded: Bounded | None = None) -> None:
        """Make windows as long, and as many, as is planned for them, and announce it; the clock starts.

        Args:
            windows: those of the profile.
            steps: how many are measured.
            rounds: of windows in each build.
            bounded: gives the length that the profile really keeps to, and what else is to be announced, if anything.

        Raises:
            UsageError: the precision can't be had.
        """
        self._begun_s = time.monotonic()
        length = plan_length(windows.channels, self._wanted, steps=steps, rounds=rounds)
        more = ""
        if bounded is not None:
            length, more = bounded(length)
        if self._wanted is not None or more:
            self._announce(length.line(self._wanted) + more)
        if self._wanted is not None:
            self._length = length
            windows.keep_to(length)

    def further(self, seen: Sequence[Observation]) -> int:
        """How many more builds are wanted; 0 ends the profile."""
        self._took_s = time.monotonic() - self._begun_s
        if self._wanted is None or self._length is None:
            return 0
        builds = 1 + max(window.build for window in seen)
        attribution = self._attributed(seen)
        wanted = further(attribution, self._wanted, builds=builds, most_builds=self._length.most_builds)
        left_s = self._length.most_seconds - self._took_s
        wanted = max(0, min(wanted, int(left_s * builds / max(self._took_s, 1e-9))))
        if not self._told_reach:
            self._told_reach = True
            within = expected(attribution, self._wanted, builds=builds, most_builds=builds + wanted)
            if within > _CLEARLY * self._wanted:
                ends = f"{wanted} more build{'s' * (wanted > 1)}" if wanted else "no more time"
                self._announce(f"±{100 * self._wanted:g} % is out of reach: about ±{100 * within:.1f} % with {ends}")
        return wanted

    def reached(self, attribution: Attribution, seen: Sequence[Observation]) -> Precision | None:
        """The precision that was reached; None where none was wanted."""
        if self._wanted is None or self._length is None:
            return None
        worst = reached(attribution, self._wanted)
        return Precision(
            wanted=self._wanted,
            found=worst.ratio * self._wanted if math.isfinite(worst.ratio) else None,
            widest=f"{worst.step or 'the whole'}, {worst.quantity}" if worst.quantity else "",
            builds=1 + max(window.build for window in seen),
            rounds=self._length.rounds,
            planned_s=round(self._length.most_seconds, 1),
            took_s=round(self._took_s, 1),
        )
