"""How long a profile must be: planned from the meters' resolution, judged after each build, ended once precise enough.

All functions are pure; :mod:`greenload.profiling.pace` has run what they ask for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from scipy.special import stdtrit

from greenload.energy.attribution.costs import HAND_OVER, Attribution, Cost
from greenload.energy.attribution.intervals import CONFIDENCE
from greenload.energy.domains import Domain
from greenload.energy.figures import Figure
from greenload.energy.meters.base import Channel
from greenload.errors import UsageError

LEAST_BUILDS, MOST_BUILDS = 2, 8
"""Passes over all steps, each on a fresh build. One build has no spread; the eighth narrows an interval by 7 %."""
LEAST_PRECISION = 0.02
"""The narrowest that can be asked for: no window shows what a step costs more or less in its place, up to some 1 %."""
SMALL = 5.0
"""A step below this part of the whole is judged by the whole: at 5 %, steps need not be known better than to 1 % of
it."""
WINDOW_S = 0.25
"""Wall seconds of a step's window, where no counter asks for more."""
IDLE_WINDOWS, IDLE_WINDOW_S = 4, 0.5
"""Windows of the idle machine before each build, and how many wall seconds each lasts where no counter is slow."""
EDGE_S = 0.002
"""How far off an edge is that waits for a slow counter's next update: the sampler looks that often."""
_EDGE_SHARE = 0.5  # of the wanted precision, that both edges of a single window may take
_SETTLING_S = 0.06  # around a window
_PREPARING_S = 1.0  # a step's runs, built and filled
_FULL = 3.0  # the whole's windows are so much longer


@dataclass(frozen=True, slots=True)
class Reached:
    """Whether a profile is as precise as wanted, and what is farthest from it."""

    ok: bool
    """Whether every step is."""
    step: str = ""
    """The worst one; empty where it is the whole."""
    quantity: str = ""
    """In which it is: ``"cpu_s"`` or a domain."""
    ratio: float = 0.0
    """Its half-width over what is allowed; infinite where it has no figure."""


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
        UsageError: below 2 %, as steps that are replayed out of their place aren't known better, or above 100 %.
    """
    if not isinstance(precision, int | float):
        raise UsageError(f"a precision is a share, as 0.05 for 5 %, found {precision!r}: give a number")
    if not LEAST_PRECISION <= precision <= 1:
        least = f"{100 * LEAST_PRECISION:g}"
        raise UsageError(f"a precision is {least} to 100 %, found {100 * precision:g} %: choose 5 %, or leave it out")
    return precision


def least_window_s(channels: Mapping[str, Channel]) -> float:
    """Wall seconds that a window of steady power must last so that every meter tells it; 0 where none asks for that.

    Power that is summed up is a mean over ``update_s``, and shorter windows have no joules unless their edges are
    aligned; of one twice as long half is all its own.

    Args:
        channels: by domain, as in ``Sampler.channels``.

    Example:
        >>> least_window_s({"gpu:0": Channel("gpu:0", "measured", update_s=1.0, sum_gap_s=1.0)})
        2.0
    """
    return max((2 * channel.update_s for channel in channels.values() if channel.sum_gap_s is not None), default=0.0)


def idle_window_s(channels: Mapping[str, Channel]) -> float:
    """Wall seconds of a window of the idle machine: `IDLE_WINDOW_S`, or `least_window_s` where that is longer.

    Example:
        >>> idle_window_s({"cpu:package-0": Channel("cpu:package-0", "measured", update_s=0.001)})
        0.5
    """
    return max(IDLE_WINDOW_S, least_window_s(channels))


def idle_windows_s(channels: Mapping[str, Channel]) -> float:
    """Wall seconds of a build's windows of the idle machine; 0 where no counter contains its power."""
    if all(channel.provenance != "measured" for channel in channels.values()):
        return 0.0
    return IDLE_WINDOWS * (idle_window_s(channels) + least_window_s(channels))


def plan_length(
    channels: Mapping[str, Channel], precision: float | None = None, *, steps: int, rounds: int = 5
) -> Length:
    """How long a profile's windows are, how many, and how long that takes.

    A window is so long that the uncertainty of both its edges in a counter's refreshes stays below half of the wanted
    precision: with updates every ``u`` seconds, spread evenly, an edge errs by ``u / sqrt(12)``; where the sampler
    waits for the update, by 2 ms. Without a wanted precision windows last 0.25 s, and two builds are all. Beside each
    one, power that is summed up is waited for twice.

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
        window_s = max([WINDOW_S, *(math.sqrt(2) * edge / share for edge in edges)])
        most = MOST_BUILDS
    around_s = _SETTLING_S + least_window_s(channels)
    each = 2 * rounds * (steps * (window_s + around_s) + _FULL * window_s + around_s) + steps * _PREPARING_S
    each += idle_windows_s(channels)
    return Length(window_s, rounds, LEAST_BUILDS, most, LEAST_BUILDS * each, most * each)


def _edge_s(channel: Channel) -> float:
    awaited = channel.alignable or channel.sum_gap_s is not None
    return EDGE_S if awaited else channel.update_s / math.sqrt(12)


def reached(attribution: Attribution, precision: float) -> Reached:
    """Whether every step's half-width is at most ``precision`` of the step, or a fifth of that of the whole.

    The hand-over is what the whole takes beside the functions: it is known as well as the whole is, and judged by that.

    CPU seconds are judged, and joules of each measured domain, except a GPU whose whole is unresolved: of an idle
    GPU's noise no precision can be had. What has no figure isn't reached.

    Raises:
        UsageError: the precision can't be.
    """
    check_precision(precision)
    ratio, step, quantity = max(_ratios(attribution, precision), default=(math.inf, "", ""))
    return Reached(ratio <= 1, step, quantity, ratio)


def unreached(attribution: Attribution, precision: float) -> frozenset[str]:
    """The steps whose half-width is more than `reached` allows, or that have no figure, by name.

    Raises:
        UsageError: the precision can't be.
    """
    check_precision(precision)
    return frozenset(step for ratio, step, _ in _ratios(attribution, precision) if ratio > 1)


def _ratios(attribution: Attribution, precision: float) -> Iterator[tuple[float, str, str]]:
    for quantity, pick in _judged(attribution):
        whole = pick(attribution.full)
        if whole.value is None:
            yield math.inf, "", quantity
            continue
        for step in attribution.steps:
            figure = pick(step.cost)
            if figure.value is None or figure.half_width is None:
                yield math.inf, step.name, quantity
                continue
            least = abs(whole.value) if step.name == HAND_OVER else abs(whole.value) / SMALL
            allowed = precision * max(abs(figure.value), least)
            yield (figure.half_width / allowed if allowed else 0.0), step.name, quantity


def _judged(attribution: Attribution) -> Iterator[tuple[str, Callable[[Cost], Figure]]]:
    yield "cpu_s", lambda cost: cost.cpu_s_per_sample
    for name, whole in attribution.full.energy_j_per_sample.items():
        noise = Domain.parse(name).kind == "gpu" and whole.value is not None and whole.unresolved
        if whole.provenance == "measured" and not noise:
            yield name, lambda cost, name=name: cost.energy_j_per_sample[name]  # type: ignore[misc]


def further(attribution: Attribution, precision: float, *, builds: int, most_builds: int = MOST_BUILDS) -> int:
    """How many more builds are needed; 0 where it is precise enough, or no more are to be had.

    What has no figure asks for none: its windows so far are invalid, as those to come would be.

    A half-width shrinks with the root of the builds and with Student's t, which more builds make smaller too. Asking
    for as many as that takes, instead of looking after each, leaves less to chance: a profile that stops at a scatter
    that was small by luck has intervals that are too narrow (C. Stein, *Annals of Mathematical Statistics* 16, 1945).

    Args:
        attribution: of all windows so far.
        precision: wanted half-width, as a share of a step.
        builds: how many there were.
        most_builds: how many there may be.
    """
    ratio = _worst(attribution, precision)
    if ratio <= 1:
        return 0
    for wanted in range(builds + 1, most_builds):
        if ratio * _narrower(builds, wanted) <= 1:
            return wanted - builds
    return max(0, most_builds - builds)


def expected(attribution: Attribution, precision: float, *, builds: int, most_builds: int) -> float:
    """The precision that so many builds will probably reach, judged as in `reached`.

    Args:
        attribution: of all windows so far.
        precision: as wanted.
        builds: how many there were.
        most_builds: how many there will be.
    """
    return precision * _worst(attribution, precision) * _narrower(builds, most_builds)


def _worst(attribution: Attribution, precision: float) -> float:
    check_precision(precision)
    return max((value for value, *_ in _ratios(attribution, precision) if math.isfinite(value)), default=0.0)


def _narrower(builds: int, wanted: int) -> float:
    """What so many builds make of a half-width."""
    return math.sqrt(builds / wanted) * _t(wanted) / _t(builds)


def _t(builds: int) -> float:
    """Student's t of a profile: other costs tell about as much of the spread between builds as a step's own."""
    return float(stdtrit(2 * builds - 1, (1 + CONFIDENCE) / 2))
