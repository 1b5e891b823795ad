"""One quantity in all windows of a profile: what each step adds to it, sums of steps, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from greenload.energy.attribution.background import Background
from greenload.energy.attribution.in_place import CLOCKED, ShareOf, cpu_share
from greenload.energy.attribution.intervals import BuildTable, Pool, Variance, half_width
from greenload.energy.attribution.observation import IN_PLACE, Metering, Observation, counted_ns, read_quantity
from greenload.energy.figures import Figure, cannot_resolve

NEGLIGIBLE = 0.01
"""Share of the whole pipeline's cost that counts as nothing: a step pinned to zero within it is resolved."""

ISOLATION_BIAS = 0.005
"""Standard deviation, as a share of what replayed steps cost, of what the same work costs more or less in the pipeline,
where other steps use caches and cores beside it. A choice, after steps of a known cost: in ten profiles the whole took
0.3 to 0.8 % more CPU time than their replays, which no number of windows shows."""
ISOLATION_BIAS_ON_BATCHES = 0.02
"""The same where backends other than tf.data work on whole batches, which are replayed one after another while the
pipeline has two on their way. A choice, after photographs on DALI and Pillow: in eleven profiles the whole took 2 to
9 % (median 4 %) less CPU time than their replays, transfers included; why isn't known."""

CALL_ERROR_S, CLOCK_ERROR = 0.8e-6, 0.002
"""Standard deviation of what the clocks around a function say beside what it takes: CPU seconds a call, and a share. A
choice, after functions of a known CPU time: up to 1.6 µs more where they took 5 to 50 µs, 2 µs of 0.3 ms, 4 µs of 1 ms.
No number of windows shows it."""

WindowGroup = tuple[str, str]
"""A step's name and a kind of window: what its windows have in common."""
ReadValue = Callable[[Observation], float | None]
"""Reads a quantity of a window; None where invalid or absent."""
FULL: WindowGroup = ("", "full")


@dataclass(frozen=True, slots=True)
class WindowDifference:
    """What a cost is measured by: windows of one group, less those of another in the same round."""

    present: WindowGroup
    absent: WindowGroup | None = None
    """None compares with nothing."""
    isolation_bias: float = 0.0
    """`ISOLATION_BIAS` of this step; 0 for one that isn't replayed."""
    of: tuple[str, ...] = ()
    """The steps with clocks whose part of the windows is meant, not the whole of it."""
    less: tuple[str, ...] | None = None
    """The steps with clocks whose part of the windows ``absent`` is left out. Where it isn't None, this is the
    hand-over: the cost of all other steps is left out, too."""

    @property
    def of_whole(self) -> bool:
        """Whether it is measured by windows of the whole, not by replays or prefixes."""
        return bool(self.of) or self.less is not None or self.present == FULL


class WindowIndex:
    """The working windows of a profile, by group."""

    def __init__(self, windows: Iterable[Observation]) -> None:
        self._windows: dict[WindowGroup, list[Observation]] = {}
        for window in windows:
            self._windows.setdefault((window.step, window.kind), []).append(window)

    def __getitem__(self, group: WindowGroup) -> Sequence[Observation]:
        return self._windows.get(group, ())

    def per_sample(self, group: WindowGroup, read_value: ReadValue) -> dict[tuple[int, int], float]:
        """``{(build, round): per-sample value}``; windows of one round are pooled, invalid ones left out."""
        sums: dict[tuple[int, int], tuple[float, int]] = {}
        for window in self[group]:
            value = read_value(window)
            if value is not None:
                total, samples = sums.get((window.build, window.round), (0.0, 0))
                sums[window.build, window.round] = (total + value, samples + window.samples)
        return {key: total / samples for key, (total, samples) in sums.items()}

    def table(self, difference: WindowDifference, read_value: ReadValue, share_of: ShareOf = cpu_share) -> BuildTable:
        """Values per sample by build, one for each round that has both groups.

        Args:
            difference: of which windows, and which part of them.
            read_value: reads a window.
            share_of: gives the share of a window that is some steps'.
        """
        present = WindowDifference(difference.present, of=difference.of)
        values = self.per_sample(difference.present, _part(present, read_value, share_of))
        absent = None
        if difference.absent is not None and difference.less != ():
            left_out = WindowDifference(difference.absent, of=difference.less or ())
            absent = self.per_sample(difference.absent, _part(left_out, read_value, share_of))
        table: dict[int, list[float]] = {}
        for key in sorted(values):
            if absent is None:
                table.setdefault(key[0], []).append(values[key])
            elif key in absent:
                table.setdefault(key[0], []).append(values[key] - absent[key])
        return table


def _part(difference: WindowDifference, read_value: ReadValue, share_of: ShareOf) -> ReadValue:
    """Reads what some steps have of the windows ``present``; all of it where none is named."""
    if not difference.of:
        return read_value

    def read(window: Observation) -> float | None:
        value, share = read_value(window), share_of(window, difference.of)
        return None if value is None or share is None else value * share

    return read


def value_reader(quantity: str) -> ReadValue:
    """Reads ``"cpu_s"``, ``"device_bytes"``, ``"reads"``, ``"work_ns"``, or a domain's joules."""
    return lambda window: read_quantity(window, quantity)


@dataclass(frozen=True, slots=True)
class Term:
    """A cost per sample with its scatter, and how much of it depends on the idle power."""

    value: float
    variance: Variance
    wall_s: float = 0.0
    """Seconds per sample whose idle power was taken out."""
    other_cpu_s: float = 0.0
    """CPU seconds of other processes per sample that were taken out."""
    isolation_bias: float = 0.0
    """Standard deviation, with the value's sign, of what the cost is more or less in a replay."""
    further: tuple[Variance, ...] = ()
    """Of errors of other kinds, independent of the scatter."""


class Quantity:
    """One quantity of a profile's costs. A cost's index is its place among ``costs``.

    Args:
        windows: the working windows, with own joules alone.
        costs: of the steps, and last of the whole pipeline, which sets what is negligible.
        read_value: reads the quantity.
        metering: provenance and band of its figures.
        background: what was taken out of the joules of a domain.
        domain: the domain, whose joules may be counted for longer than the work lasts; empty for other quantities.
        counts: whether it counts what is the same in a replay and in the pipeline, as bytes.
        share_of: gives the share of a window with clocks that is some steps'.
        by_clocks: whether it is what the clocks themselves say, CPU seconds.
    """

    def __init__(
        self,
        windows: WindowIndex,
        costs: Sequence[WindowDifference],
        read_value: ReadValue,
        metering: Metering,
        background: Background | None = None,
        domain: str = "",
        *,
        counts: bool = False,
        share_of: ShareOf = cpu_share,
        by_clocks: bool = False,
    ) -> None:
        self._counts = counts
        self._by_clocks = by_clocks
        self._share_of = share_of
        self._windows = windows
        self._read_value = read_value
        self._metering = metering
        self._background = background
        self._domain = domain
        self._costs = costs
        self._levels = [self._level(cost) for cost in costs]
        self._pool = Pool([self._table(cost) for cost in costs], self._levels)
        self._terms = [self._term(cost, {index}) for index, cost in enumerate(costs)]
        whole = self._terms[-1] if self._terms else None
        self.resolution = NEGLIGIBLE * abs(whole.value) if whole is not None else 0.0
        """What counts as nothing, per sample."""

    def _table(self, cost: WindowDifference) -> BuildTable:
        return self._windows.table(cost, self._read_value, self._share_of)

    def _level(self, cost: WindowDifference) -> float:
        read = _part(cost, self._read_value, self._share_of)
        values = self._windows.per_sample(cost.present, read)
        return sum(values.values()) / len(values) if values else 0.0

    def _term(self, cost: WindowDifference, indices: Collection[int]) -> Term | None:
        """A cost with its scatter; ``indices`` are those of this quantity's costs that it consists of."""
        estimate = self._pool.estimate(self._table(cost), level=self._level(cost), without=self._unlike(cost, indices))
        if estimate is None:
            return None
        isolation_bias = 0.0 if self._counts else cost.isolation_bias * estimate.value
        if self._background is None:
            further = (self._clock_error(cost),) if self._by_clocks else ()
            return Term(estimate.value, estimate.variance, isolation_bias=isolation_bias, further=further)

        wall_s = self._mean(cost, lambda window: counted_ns(window, self._domain) / 1e9)
        other_cpu_s = self._mean(cost, lambda window: window.other_cpu_s)
        return Term(estimate.value, estimate.variance, wall_s, other_cpu_s, isolation_bias)

    def _clock_error(self, cost: WindowDifference) -> Variance:
        """Of the clocks that a cost is told by: its own steps', or those of the steps that are left out of it.

        A backend that counts by itself, CPU time alone, has none around each call.
        """
        group, names = (cost.present, cost.of) if cost.of else (cost.absent or cost.present, cost.less or ())
        windows = self._windows[group]
        samples = sum(window.samples for window in windows)
        works = [[window.work[name] for window in windows if name in window.work] for name in names]
        errors = (
            math.hypot(
                CALL_ERROR_S * sum(one.calls for one in work if one.wall_s),
                CLOCK_ERROR * sum(one.total_cpu_s or 0.0 for one in work),
            )
            for work in works
        )
        return Variance(sum((error / samples) ** 2 for error in errors) if samples else 0.0, math.inf)

    def _unlike(self, cost: WindowDifference, indices: Collection[int]) -> set[int]:
        """The costs that don't tell how much another one's builds differ.

        These are its own, those that are next to nothing, of which builds may differ by any share, and where steps are
        measured in place those that are measured otherwise than it: the builds of replays are others.
        """
        least = NEGLIGIBLE * abs(self._levels[-1])
        in_place = any(other.of for other in self._costs)
        return {
            index
            for index, (other, level) in enumerate(zip(self._costs, self._levels, strict=True))
            if index in indices or abs(level) < least or (in_place and other.of_whole != cost.of_whole)
        }

    def _mean(self, cost: WindowDifference, measure: Callable[[Observation], float]) -> float:
        """The mean of another figure over the builds' means, of windows in which the quantity is known."""

        def where_known(window: Observation) -> float | None:
            return None if self._read_value(window) is None else measure(window)

        builds = self._windows.table(cost, where_known, self._share_of).values()
        return sum(sum(values) / len(values) for values in builds) / len(builds)

    def figure(self, index: int, resolution: float | None = None) -> Figure:
        """One cost's figure; the last is the whole pipeline's.

        Args:
            index: of the cost.
            resolution: what counts as nothing; if None, 1 % of the whole pipeline's, and 0 for that one itself.
        """
        if resolution is None:
            resolution = 0.0 if index in (-1, len(self._terms) - 1) else self.resolution
        index %= len(self._costs)
        alone = self._costs[index].less is None
        return self._figure([(1, self._terms[index])] if alone else self._terms_of([index]), resolution)

    def total(self, watts: float) -> Figure:
        """The whole pipeline's with an idle power of so many watts back in, for as long as its work takes.

        The counters saw that, and the idle power of the settling: so little of its error is left in the total. The
        error of what other processes drew is.
        """
        term = self._terms[-1]
        if term is None:
            return self._figure([(1, None)], 0.0)

        def with_idle_power(window: Observation) -> float | None:
            value = self._read_value(window)
            return None if value is None else value + watts * window.work_ns / 1e9

        whole = self._costs[-1]
        values = self._windows.per_sample(whole.present, with_idle_power)
        level = sum(values.values()) / len(values)
        table = self._windows.table(whole, with_idle_power)
        estimate = self._pool.estimate(table, level=level, without=self._unlike(whole, {len(self._costs) - 1}))
        assert estimate is not None
        settling_s = term.wall_s - self._mean(whole, lambda window: window.work_ns / 1e9)
        return self._figure([(1, Term(estimate.value, estimate.variance, settling_s, term.other_cpu_s))], 0.0)

    def sum(self, indices: Collection[int]) -> Figure:
        """The sum of several costs."""
        return self._figure(self._terms_of(sorted(indices)), self.resolution)

    def rest(self) -> Figure:
        """The whole pipeline's less the sum of the steps. The error of the idle power that is in both cancels."""
        steps = range(len(self._costs) - 1)
        hand_over = self._hand_over(steps)
        if hand_over is None:
            return self._figure(
                [(1, self._terms[-1]), *((-sign, term) for sign, term in self._terms_of(steps))], self.resolution
            )
        # With it the steps sum to the whole of its windows: what they and those held out have in common cancels, too.
        apart = WindowDifference(self._costs[-1].present, self._costs[hand_over].present)
        return self._figure([(1, self._term(apart, range(len(self._costs))))], self.resolution)

    def _hand_over(self, indices: Iterable[int]) -> int | None:
        return next((index for index in indices if self._costs[index].less is not None), None)

    def _terms_of(self, indices: Sequence[int]) -> list[tuple[int, Term | None]]:
        """The terms of a sum of costs, with their signs: as few as can be, so that what they share isn't counted."""
        hand_over = self._hand_over(indices)
        if hand_over is None:
            return [*((1, term) for term in self._clocked(indices)), *((1, term) for term in self._chains(indices))]
        # The hand-over is the whole less all other steps: those that are in the sum fall out of it.
        rest = [index for index in range(len(self._costs) - 1) if index not in indices]
        less = tuple(name for index in rest for name in self._costs[index].of)
        whole = replace(self._costs[hand_over], less=less)
        return [(1, self._term(whole, indices)), *((-1, term) for term in self._chains(rest))]

    def _clocked(self, indices: Iterable[int]) -> list[Term | None]:
        """The terms of steps with clocks: one for all that are read in the same windows."""
        groups: dict[WindowGroup, list[int]] = {}
        for index in indices:
            if self._costs[index].of:
                groups.setdefault(self._costs[index].present, []).append(index)
        return [
            self._term(WindowDifference(group, of=tuple(self._costs[index].of[0] for index in found)), found)
            for group, found in groups.items()
        ]

    def _chains(self, indices: Iterable[int]) -> list[Term | None]:
        """The terms of steps without clocks; where one prefix is subtracted from the next, both as one difference."""
        chains: list[list[int]] = []
        for index in indices:
            if self._costs[index].of or self._costs[index].less is not None:
                continue
            if chains and self._costs[index].absent == self._costs[chains[-1][-1]].present:
                chains[-1].append(index)
            else:
                chains.append([index])
        return [self._terms[chain[0]] if len(chain) == 1 else self._term_of_prefixes(chain) for chain in chains]

    def _term_of_prefixes(self, indices: Sequence[int]) -> Term | None:
        # Prefixes alone share windows, so nothing here is replayed.
        cost = WindowDifference(self._costs[indices[-1]].present, self._costs[indices[0]].absent)
        return self._term(cost, indices)

    def _figure(self, terms: Sequence[tuple[int, Term | None]], resolution: float) -> Figure:
        known = [(sign, term) for sign, term in terms if term is not None]
        if len(known) < len(terms):
            return Figure.missing(self._metering.provenance, self._metering.systematic)
        value = sum(sign * term.value for sign, term in known)
        parts = [part for _, term in known for part in (term.variance, *term.further)]
        # Common to all steps: what one machine's caches do to one they do to the others.
        parts.append(Variance(sum(sign * term.isolation_bias for sign, term in known) ** 2, math.inf))
        if self._background is not None:
            wall_s = sum(sign * term.wall_s for sign, term in known)
            parts += self._background.variances(wall_s, sum(sign * term.other_cpu_s for sign, term in known))
        half = half_width(parts)
        unresolved = cannot_resolve(value - half, value + half, resolution)
        return Figure(
            value, value - half, value + half, self._metering.provenance, self._metering.systematic, unresolved
        )


def step_differences(
    steps: Sequence[str],
    methods: Sequence[str],
    isolation_bias: Mapping[str, float],
    clocked: Mapping[str, WindowGroup] | None = None,
    hand_over: WindowGroup | None = None,
) -> list[WindowDifference]:
    """What each step's cost is measured by, and last that of the whole pipeline.

    Args:
        steps: names in the pipeline's order.
        methods: of each, ``"in place"``, ``"replay"`` or ``"prefix"``.
        isolation_bias: by replayed step; `ISOLATION_BIAS` for steps that aren't named.
        clocked: the windows in which a step is measured in place, by its name.
        hand_over: the windows of which what no step has is a cost of its own, behind the steps; None for no such cost.
    """
    differences, clocked = [], clocked or {}
    for index, (name, method) in enumerate(zip(steps, methods, strict=True)):
        if method == IN_PLACE:
            differences.append(WindowDifference(clocked[name], of=(name,)))
        elif method == "replay":
            bias = isolation_bias.get(name, ISOLATION_BIAS)
            differences.append(WindowDifference((name, "with"), (name, "without"), bias))
        else:
            differences.append(WindowDifference((name, "prefix"), (steps[index - 1], "prefix") if index else None))
    if hand_over is not None:
        named = zip(steps, methods, strict=True)
        inside = tuple(name for name, method in named if method == IN_PLACE and clocked[name] == CLOCKED)
        differences.append(WindowDifference(hand_over, CLOCKED, less=inside))
    return [*differences, WindowDifference(FULL)]
