"""Whether the steps of a fit cost what they did: in a profile of their dataset, or in a fit before."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from greenload.energy.figures import Figure, scale
from greenload.report.data import Report
from greenload.report.record import Record
from greenload.training.loader_costs import BESIDE, samples_of
from greenload.training.spent import Spent, WatchedPart

_LARGEST = 1e18
"""The largest number that a report's schemas take."""


@dataclass(frozen=True, slots=True)
class Drift(Record):
    """What a step's function costs now against what it did."""

    name: str
    now_s: Figure
    """CPU seconds a sample in this fit."""
    before_s: Figure
    """CPU seconds a sample in what it is held against."""
    ratio: Figure
    """Now over before."""
    drifted: bool
    """Whether it differs beyond both intervals, and beyond the 15 % that a model, or the machine, may change."""

    def __str__(self) -> str:
        ratio = self.ratio.value
        return f"{self.name} costs {ratio:.2g} of what it did" if ratio is not None else f"{self.name}: unknown"


def drifts(spent: Spent, before: Report | Spent | None) -> tuple[Drift, ...]:
    """The steps that both have, by name; none where nothing was watched. A step is left out where its cost before isn't
    clearly above zero, or is so small that there is no ratio.

    Args:
        spent: of a fit.
        before: a profile, whose steps are held against by what they counted themselves where they did; or a fit before.
    """
    if before is None:
        return ()
    samples: float | None
    if isinstance(before, Spent):
        costs, samples = _of_fit(before, before.passed.samples), spent.passed.samples
    else:
        costs, samples = _of_report(before), samples_of(before, spent.passed)[0]
    found = ((name, now, costs[name]) for name, now in _of_fit(spent, samples).items() if name in costs)
    return tuple(drift for name, now, cost in found if (drift := _drift(name, now, cost)) is not None)


def _of_fit(spent: Spent, samples: float | None) -> dict[str, Figure]:
    """CPU seconds a sample, with the interval by which a call's cost varied."""
    steps = (step for step in spent.steps if isinstance(step, WatchedPart))
    return {step.name: scale(step.cpu_s_per_call, step.calls / samples) for step in steps} if samples else {}


def _of_report(report: Report) -> dict[str, Figure]:
    return {
        step.name: step.in_place.cpu_s_per_sample if step.in_place else step.cpu_s_per_sample for step in report.steps
    }


def _drift(name: str, now: Figure, before: Figure) -> Drift | None:
    if not now.value or not before.value or before.unresolved:
        return None
    assert now.half_width is not None
    assert before.low is not None and before.half_width is not None
    # What a profile subtracts may come out below zero. A clock's costs never do: a fit's intervals are cut off there.
    if now.value < 0 or before.value < 0 or before.low < 0:
        return None
    ratio = now.value / before.value
    half = ratio * math.hypot(now.half_width / now.value, before.half_width / before.value)
    if not ratio + half <= _LARGEST:
        return None
    figure = replace(Figure(ratio, max(0.0, ratio - half), ratio + half, "measured"), systematic=BESIDE)
    drifted = before.low > 0 and (ratio - half > 1 + BESIDE or ratio + half < 1 - BESIDE)
    return Drift(name, now, before, figure, drifted)
