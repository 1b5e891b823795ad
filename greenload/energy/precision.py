"""How long a profile must be: planned from the meters' resolution, judged after each build, ended once precise enough.

All functions are pure; :mod:`greenload.pacing` has run what they ask for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from scipy.special import stdtrit

from greenload.energy.attribution import Attribution, Cost
from greenload.energy.figures import Figure
from greenload.energy.intervals import CONFIDENCE
from greenload.energy.meter import Channel
from greenload.errors import UsageError

LEAST_BUILDS, MOST_BUILDS = 2, 8
"""Passes over all steps, each on a fresh build. One build has no spread; the eighth narrows an interval by 7 %."""
SMALL = 5.0
"""A step below this part of the whole is judged by the whole: at 5 %, steps need not be known better than to 1 % of
it."""
WINDOW_S, LONGEST_S = 0.25, 2.0
"""Wall seconds of a step's window: where no counter is slow, and at most, since rounds average what is left."""
EDGE_S = 0.002
"""How far off an edge is that waits for a slow counter's next update: the sampler looks that often."""
_EDGE_SHARE = 0.5  # of the wanted precision, that both edges of a single window may take
_SETTLING_S = 0.06  # around a window
_PREPARING_S = 1.0  # a step's runs, built and filled
_IDLE_S = 2.0  # the idle machine's windows, before each build
_FULL = 3.0  # the whole's windows are so much longer


@dataclass(frozen=True, slots=True)
class Reached:
    """Whether a profile is as precise as wanted, and what is farthest from it."""

    ok: bool
    """Whether every step is."""
    step: str = ""
    """The worst one; empty where nothing could be judged."""
    quantity: str = ""
    """In which it is: ``"cpu_s"`` or a domain."""
    ratio: float = 0.0
    """Its half-width over what is allowed."""


@dataclass(frozen=True, slots=True)
class Length:
    """How long a profile will be."""

    window_s: float
    """Wall seconds of a step's window; the whole's are three times as long."""
    rounds: int
    """Of windows in each build."""
    builds: int
    """At least."""
    most_builds: int
    """At most."""
    seconds: float
    """Of wall time with the fewest builds, expected."""
    most_seconds: float
    """With the most."""

    def line(self, precision: float | None = None) -> str:
        """What to tell before it starts.

        Example:
            >>> Length(0.25, 5, 2, 6, 58.0, 174.0).line(0.05)
            'planned: 2–6 builds of 5 rounds, 58–174 s, for ±5 %'
        """
        if self.most_builds == self.builds:
            length = f"{self.builds} builds of {self.rounds} rounds, {self.seconds:.0f} s"
        else:
            length = (
                f"{self.builds}–{self.most_builds} builds of {self.rounds} rounds, "
                f"{self.seconds:.0f}–{self.most_seconds:.0f} s"
            )
        return f"planned: {length}" + ("" if precision is None else f", for ±{100 * precision:g} %")


def check_precision(precision: float) -> float:
    """The wanted precision, if it can be: 0.05 is ±5 %.

    Raises:
        UsageError: below 0.5 %, which builds of one pipeline differ by, or above 100 %.
    """
    if not isinstance(precision, int | float):
        raise UsageError(f"a precision is a share, as 0.05 for 5 %, found {precision!r}: give a number")
    if not 0.005 <= precision <= 1:
        raise UsageError(f"a precision is 0.5 to 100 %, found {100 * precision:g} %: choose 5 %, or leave it out")
    return precision


def plan_length(
    channels: Mapping[str, Channel], precision: float | None = None, *, steps: int, rounds: int = 5
) -> Length:
    """How long a profile's windows are, how many, and how long that takes.

    A window is so long that the uncertainty of both its edges in a counter's refreshes stays below half of the wanted
    precision: with updates every ``u`` seconds, spread evenly, an edge errs by ``u / sqrt(12)``; where the sampler
    waits for the update, by 2 ms. Without a wanted precision windows last 0.25 s, and two builds are all.

    Args:
        channels: by domain, as in ``Sampler.channels``; those of models have no edges.
        precision: wanted half-width of every step's interval, as a share of the step: 0.05.
        steps: how many are measured.
        rounds: of windows, in each build.

    Raises:
        UsageError: the precision can't be.
    """
    edges = [_edge_s(channel) for channel in channels.values() if channel.provenance == "measured"]
    window_s, most = WINDOW_S, LEAST_BUILDS
    if precision is not None:
        # Two edges' errors add in quadrature; means over rounds and builds leave room for all else.
        share = _EDGE_SHARE * check_precision(precision)
        window_s = min(LONGEST_S, max([WINDOW_S, *(math.sqrt(2) * edge / share for edge in edges)]))
        most = MOST_BUILDS
    each = 2 * rounds * (steps * (window_s + _SETTLING_S) + _FULL * window_s + _SETTLING_S) + steps * _PREPARING_S
    each += _IDLE_S if edges else 0.0
    return Length(window_s, rounds, LEAST_BUILDS, most, LEAST_BUILDS * each, most * each)


def _edge_s(channel: Channel) -> float:
    return EDGE_S if channel.alignable else channel.update_s / math.sqrt(12)


def reached(attribution: Attribution, precision: float) -> Reached:
    """Whether every step's half-width is at most ``precision`` of the step, or a fifth of that of the whole.

    CPU seconds are judged, and joules of each measured domain whose whole is resolved: of an idle GPU's noise no
    precision can be had. Figures that are missing are left out: no more windows would help.

    Raises:
        UsageError: the precision can't be.
    """
    check_precision(precision)
    found = list(_ratios(attribution, precision))
    if not found:
        return Reached(True)
    ratio, step, quantity = max(found)
    return Reached(ratio <= 1, step, quantity, ratio)


def _ratios(attribution: Attribution, precision: float) -> Iterator[tuple[float, str, str]]:
    for quantity, pick in _judged(attribution):
        whole = pick(attribution.full)
        for step in attribution.steps:
            figure = pick(step.cost)
            if figure.value is None or figure.half_width is None or whole.value is None:
                continue
            allowed = precision * max(abs(figure.value), abs(whole.value) / SMALL)
            yield (figure.half_width / allowed if allowed else 0.0), step.name, quantity


def _judged(attribution: Attribution) -> Iterator[tuple[str, Callable[[Cost], Figure]]]:
    yield "cpu_s", lambda cost: cost.cpu_s_per_sample
    for name, whole in attribution.full.energy_j_per_sample.items():
        if whole.provenance == "measured" and not whole.unresolved:
            yield name, lambda cost, name=name: cost.energy_j_per_sample[name]  # type: ignore[misc]


def further(attribution: Attribution, precision: float, *, builds: int, most_builds: int = MOST_BUILDS) -> int:
    """How many more builds are needed; 0 where it is precise enough, or no more are to be had.

    A half-width shrinks with the root of the builds and with Student's t, which more builds make smaller too. Asking
    for as many as that takes, instead of looking after each, leaves less to chance: a profile that stops at a scatter
    that was small by luck has intervals that are too narrow (C. Stein, *Annals of Mathematical Statistics* 16, 1945).

    Args:
        attribution: of all windows so far.
        precision: as for `reached`.
        builds: how many there were.
        most_builds: how many there may be.
    """
    ratio = reached(attribution, precision).ratio
    if ratio <= 1:
        return 0
    for wanted in range(builds + 1, most_builds):
        if ratio * math.sqrt(builds / wanted) * _t(wanted) / _t(builds) <= 1:
            return wanted - builds
    return max(0, most_builds - builds)


def _t(builds: int) -> float:
    """Student's t of a profile: other costs tell about as much of the spread between builds as a step's own."""
    return float(stdtrit(2 * builds - 1, (1 + CONFIDENCE) / 2))
