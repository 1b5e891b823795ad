"""Joules of steps whose CPU seconds are measured in place: those, times what a CPU second of the step takes.

A counter sees the whole machine, so it can't tell steps apart while all of them run. The replay of a step tells the
joules of its CPU seconds, which differ between kinds of work; how many CPU seconds it takes, its clock knows better.
A replay also passes elements on, which for a light step is most of its work: clocks in the replay tell how much of its
CPU seconds is the function's, and what is left takes the joules of passing. So does the hand-over. They are those of
the windows without steps in which no function ran: what is left there only passes elements.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

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
from greenload.energy.figures import Figure, scale
from greenload.system.work import Work

PASSING = ("", "without")
"""The windows without steps, as if all were of one step."""
_read_cpu_s = value_reader("cpu_s")
Measure = Callable[[Observation], float]


def with_passing(
    windows: Sequence[Observation], clocked: Collection[str], passing: Collection[str] | None = None
) -> WindowIndex:
    """The windows, and those of replays without a step once more, together, where they only pass elements on.

    Replays of a step are left out in which its clock told nothing, as it did in others: what the function took of them
    isn't known.

    Args:
        windows: of a profile.
        clocked: steps with clocks.
        passing: steps of which that is known. If None, those with clocks: where these saw a step's function in its
            replay they would have seen others beside it. Where none has clocks, as in reports made before, that isn't
            known.
    """
    told = {window.step for window in windows if window.kind == "with" and _seconds(window, window.step)}
    steps = (told or clocked) if passing is None else passing
    together = [
        replace(window, step="")
        for window in windows
        if window.kind == "without" and window.step in steps
        if not any(work.calls for work in window.work.values())
    ]
    known = [
        window
        for window in windows
        if window.kind != "with" or window.step not in told or _seconds(window, window.step)
    ]
    return WindowIndex([*known, *together])


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
        self._each_j: dict[str, float] = {}
        """Joules of a CPU second of functions, by their steps, as far as known."""
        self._passing = self._joules_of_passing()
        for index, cpu_s in in_place.items():
            self._terms[index] = self._scaled(index, cpu_s)

    def _joules_of_passing(self) -> Figure | None:
        """Joules of a CPU second of passing elements on; None where no windows tell them."""
        cost = WindowDifference(PASSING)
        term = self._term(cost, set()) if self._windows[PASSING] else None
        seconds = self._mean(cost, _cpu_s) if term is not None else 0.0
        return scale(self._figure([(1, term)], 0.0), 1 / seconds) if seconds > 0 else None

    def _scaled(self, index: int, cpu_s: Figure) -> Term | None:
        """A step's joules: its CPU seconds, times the joules of one in its windows."""
        cost, term = self._costs[index], self._terms[index]
        name = cost.present[0]
        clocked = self._passing is not None and any(_seconds(window, name) for window in self._windows[cost.present])
        seconds: Measure = partial(_seconds, name=name) if clocked else _cpu_s
        joules: Measure = partial(self._function_j, name=name) if clocked else self._all_j
        taken_s = self._mean(cost, seconds) if term is not None else 0.0
        if taken_s <= 0 and cost.present != FULL:  # no work that windows tell from none: a CPU second is like others
            self._costs = [*self._costs[:index], WindowDifference(FULL), *self._costs[index + 1 :]]
            self._terms[index] = self._term(WindowDifference(FULL), {index})
            return self._scaled(index, cpu_s)
        if term is None or cpu_s.value is None or taken_s <= 0:
            return None
        taken_j, times = self._mean(cost, joules), cpu_s.value / taken_s
        each_j = self._each_j[name] = taken_j / taken_s

        def residual(window: Observation) -> float | None:
            known = self._read_value(window) is not None and _read_cpu_s(window) is not None
            return joules(window) - each_j * seconds(window) if known else None

        # What a window took more or less, its joules did too: only what they differ by is an error of their ratio. Of
        # what else ran in it the builds' differences are known, too.
        level = taken_j if clocked else self._level(cost)
        ratio = self._pool.estimate(self._windows.table(cost, residual), level=level, without={index})
        variance = term.variance if ratio is None else ratio.variance
        further = [_variance(cpu_s, each_j)]
        if clocked and self._passing is not None:
            further.append(_variance(self._passing, (self._mean(cost, _cpu_s) - taken_s) * times))
        return Term(
            each_j * cpu_s.value,
            Variance(variance.value * times**2, variance.df),
            term.wall_s * times,
            term.other_cpu_s * times,
            further=tuple(further),
        )

    def _all_j(self, window: Observation) -> float:
        return self._read_value(window) or 0.0

    def _function_j(self, window: Observation, name: str) -> float:
        """A window's joules without those of passing elements on, and of the functions of other steps."""
        each_j = (self._passing.value if self._passing is not None else None) or 0.0
        left_s = _cpu_s(window) - _seconds(window, name)
        others = {other: _seconds(window, other) for other in window.work if other != name and other in self._each_j}
        joules = sum(self._each_j[other] * seconds for other, seconds in others.items())
        return self._all_j(window) - joules - each_j * (left_s - sum(others.values()))


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


def _cpu_s(window: Observation) -> float:
    return _read_cpu_s(window) or 0.0


def _seconds(window: Observation, name: str) -> float:
    """CPU seconds of a step's function in a window; 0 where its clock saw none."""
    return window.work.get(name, Work()).total_cpu_s or 0.0


def _variance(figure: Figure, times: float) -> Variance:
    """The variance of a figure's multiple; its interval is taken for one of many degrees of freedom."""
    half = (figure.half_width or 0.0) * abs(times)
    return Variance((half / 1.96) ** 2, float("inf"))
