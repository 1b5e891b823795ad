"""How many builds, rounds and seconds a profile takes where functions have clocks."""

from __future__ import annotations

from collections.abc import Mapping

from greenload.energy.attribution.precision import Length
from greenload.energy.meters.base import Channel
from greenload.profiling.options import ROUNDS
from greenload.profiling.windows import BUILDS, LEAST_ROUNDS

PASS_BUILDS = 5
"""Builds on which the whole runs with clocks: what differs between builds is most of the scatter."""
WANTED_BUILDS = 3
"""The same, at least, where a precision is wanted: others follow as long as it isn't reached."""
CLOCKED_ROUNDS = 2
"""Rounds of windows on each of them, of the `ROUNDS` that are asked for by default."""
CLOCKED_WINDOW_S = 0.1
"""Wall seconds of a step's window; the whole's is three times as long."""
FILL_S = 0.2
"""Wall seconds that a run without caches takes before its first window."""
AROUND_S = 0.08
"""Wall seconds of settling around a window."""
PREPARING_S = 0.5
"""Wall seconds of building a step's runs."""
TRACING_S = 2.0
"""Wall seconds of tracing and optimising the graphs of a pipeline with clocks and without."""
TRIAL_ROUNDS, TRIAL_WINDOW_S = 3, 0.2
"""Rounds of a trial on each of its builds, and wall seconds of its windows, at least."""
_LEAST_MOST, _MOST = 8, 30  # builds where a precision is wanted
_AT_5 = 8  # builds that 5 % may take


def window_s(length: Length, channels: Mapping[str, Channel]) -> float:
    """Wall seconds of a step's window: as planned where a counter reads, whose edges are then small beside it."""
    counted = any(channel.provenance == "measured" for channel in channels.values())
    return length.window_s if counted else CLOCKED_WINDOW_S


def clocked_rounds(rounds: int) -> int:
    """Rounds on each build, for so many that are asked for: as many more than by default.

    Example:
        >>> clocked_rounds(20)
        8
    """
    return max(LEAST_ROUNDS, round(rounds * CLOCKED_ROUNDS / ROUNDS))


def least_builds(precision: float | None) -> int:
    """How many builds there are at least."""
    return max(BUILDS, PASS_BUILDS if precision is None else min(PASS_BUILDS, WANTED_BUILDS))


def most_builds(precision: float | None) -> int:
    """How many builds there are at most: a half-width shrinks with the root of their number."""
    if precision is None:
        return least_builds(precision)
    return max(least_builds(precision), min(_MOST, max(_LEAST_MOST, round(_AT_5 * (0.05 / precision) ** 2))))


def is_first(build: int) -> bool:
    """Whether a build is one of those on which all is measured: as few as without clocks."""
    return build < BUILDS


def replays_in(build: int, least: int) -> bool:
    """Whether steps without clocks are measured in a build: on the first ones, and on those beyond the least."""
    return is_first(build) or build >= least
