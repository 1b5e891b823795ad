"""Joules of steps whose CPU seconds are measured in place: those, times what a CPU second of the step takes.

A counter sees the whole machine, so it can't tell steps apart while all of them run. The replay of a step tells the
joules of its CPU seconds, which differ between kinds of work; how many CPU seconds it takes, its clock knows better.
The hand-over's joules of a CPU second are those of the windows without steps: what is left there only passes elements.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from greenload.energy.attribution.background import Background
from greenload.energy.attribution.intervals import Variance
from greenload.energy.attribution.observation import Metering, Observation
from greenload.energy.attribution.quantity import (
    FULL,
    Quantity,
    Term,
    WindowDifference,
    WindowIndex,
    value_reader,
)
from greenload.energy.figures import Figure

PASSING = ("", "without")
"""The windows without steps, as if all were of one step."""
_read_cpu_s = value_reader("cpu_s")


def with_passing(windows: Sequence[Observation], clocked: Mapping[str, object]) -> WindowIndex:
    """The windows, and those of replays without a step with a clock once more, together.

    Args:
        windows: of a profile.
        clocked: steps with clocks, by name.
    """
    passing = [replace(window, step="") for window in windows if window.kind == "without" and window.step in clocked]
    return WindowIndex([*windows, *passing])


class JoulesInPlace(Quantity):
    """The joules of a measured domain, of steps of which some have clocks.

    Args:
        windows: as `with_passing` gives.
        differences: what each step's joules of a CPU second are taken from, and last the whole.
        domain: its name.
        metering: how it is measured.
        background: what was taken out of its joules.
        in_place: CPU seconds per sample in place, by the index of the step.
    """

    def __init__(
        self,
        windows: WindowIndex,
        differences: Sequence[WindowDifference],
        domain: str,
        metering: Metering,
        background: Background | None,
        in_place: Mapping[int, Figure],
    ) -> None:
        super().__init__(windows, differences, value_reader(domain), metering, background, domain)
        for index, cpu_s in in_place.items():
            self._terms[index] = self._scaled(index, cpu_s)

    def _scaled(self, index: int, cpu_s: Figure) -> Term | None:
        """A step's joules: its CPU seconds, times the joules of one in its windows."""
        cost, term = self._costs[index], self._terms[index]
        replayed = self._mean(cost, lambda window: _read_cpu_s(window) or 0.0) if term is not None else 0.0
        if replayed <= 0 and cost.present != FULL:  # no work that windows tell from none: a CPU second is like others
            self._costs = [*self._costs[:index], WindowDifference(FULL), *self._costs[index + 1 :]]
            self._terms[index] = self._term(WindowDifference(FULL), {index})
            return self._scaled(index, cpu_s)
        if term is None or cpu_s.value is None or replayed <= 0:
            return None
        each_j, times = term.value / replayed, cpu_s.value / replayed
        # What a window took more or less, its joules did too: only what they differ by is an error of their ratio.
        ratio = self._pool.estimate(self._residuals(cost, each_j), level=self._level(cost), without={index})
        variance = term.variance if ratio is None else ratio.variance
        return Term(
            each_j * cpu_s.value,
            Variance(variance.value * times**2, variance.df),
            term.wall_s * times,
            term.other_cpu_s * times,
            further=(_variance(cpu_s, each_j),),
        )

    def _residuals(self, cost: WindowDifference, each_j: float) -> Mapping[int, Sequence[float]]:
        def read(window: Observation) -> float | None:
            joules, cpu_s = self._read_value(window), _read_cpu_s(window)
            return None if joules is None or cpu_s is None else joules - each_j * cpu_s

        return self._windows.table(cost, read)


def joule_differences(
    windows: WindowIndex, replays: Sequence[WindowDifference], in_place: Collection[int]
) -> list[WindowDifference]:
    """What each step's joules of a CPU second are taken from.

    Args:
        windows: as `with_passing` gives.
        replays: of each step, of the hand-over, and last of the whole; of steps that weren't replayed their clocks.
        in_place: the indices of the steps whose CPU seconds are measured in place.
    """
    passing = WindowDifference(PASSING if windows[PASSING] else FULL)
    return [
        (passing if cost.less is not None else WindowDifference(FULL))
        if cost.of or cost.less is not None
        else replace(cost, isolation_bias=0.0 if index in in_place else cost.isolation_bias)
        for index, cost in enumerate(replays)
    ]


def _variance(figure: Figure, times: float) -> Variance:
    """The variance of a figure's multiple; its interval is taken for one of many degrees of freedom."""
    half = (figure.half_width or 0.0) * abs(times)
    return Variance((half / 1.96) ** 2, float("inf"))
