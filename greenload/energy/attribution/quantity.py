"""One quantity in all windows of a profile: what each step adds to it, sums of steps, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from greenload.energy.attribution.background import Background
from greenload.energy.attribution.intervals import BuildTable, Pool, Variance, half_width
from greenload.energy.attribution.observation import Metering, Observation, counted_ns, read_quantity
from greenload.energy.figures import Figure, cannot_resolve

NEGLIGIBLE = 0.01
"""Share of the full pipeline's cost that counts as nothing: a step pinned to zero within it is resolved."""

ISOLATION_BIAS = 0.005
"""Standard deviation, as a share of what replayed steps cost, of what the same work costs more or less in the pipeline,
where other steps use caches and cores beside it. A choice, after steps of a known cost: in ten profiles the whole took
0.3 to 0.8 % more CPU time than their replays, which no number of windows shows."""
ISOLATION_BIAS_ON_BATCHES = 0.02
"""The same where backends other than tf.data work on whole batches, which are replayed one after another while the
pipeline has two on their way. A choice, after photographs on DALI and Pillow: in eleven profiles the whole took 2 to
9 % (median 4 %) less CPU time than their replays, transfers included; why isn't known."""

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

    def table(self, difference: WindowDifference, read_value: ReadValue) -> BuildTable:
        """Values per sample by build, one for each round that has both groups."""
        values = self.per_sample(difference.present, read_value)
        absent = None if difference.absent is None else self.per_sample(difference.absent, read_value)
        table: dict[int, list[float]] = {}
        for key in sorted(values):
            if absent is None:
                table.setdefault(key[0], []).append(values[key])
            elif key in absent:
                table.setdefault(key[0], []).append(values[key] - absent[key])
        return table


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


class Quantity:
    """One quantity of a profile's costs. A cost's index is its place among ``costs``.

    Args:
        windows: the working windows, with own joules alone.
        costs: of the steps, and last of the full pipeline, which sets what is negligible.
        read_value: reads the quantity.
        metering: provenance and band of its figures.
        background: what was taken out of the joules of a domain.
        domain: the domain, whose joules may be counted for longer than the work lasts; empty for other quantities.
        counts: whether it counts what is the same in a replay and in the pipeline, as bytes.
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
    ) -> None:
        self._counts = counts
        self._windows = windows
        self._read_value = read_value
        self._metering = metering
        self._background = background
        self._domain = domain
        self._costs = costs
        tables = [windows.table(cost, read_value) for cost in costs]
        levels = [self._level(cost) for cost in costs]
        self._pool = Pool(tables, levels)
        self._terms = [
            self._term(cost, table, level, {index})
            for index, (cost, table, level) in enumerate(zip(costs, tables, levels, strict=True))
        ]
        whole = self._terms[-1] if self._terms else None
        self.resolution = NEGLIGIBLE * abs(whole.value) if whole is not None else 0.0
        """What counts as nothing, per sample."""

    def _level(self, cost: WindowDifference) -> float:
        values = self._windows.per_sample(cost.present, self._read_value)
        return sum(values.values()) / len(values) if values else 0.0

    def _term(self, cost: WindowDifference, table: BuildTable, level: float, indices: Collection[int]) -> Term | None:
        """A cost with its scatter; ``indices`` are those of this quantity's costs that it consists of."""
        estimate = self._pool.estimate(table, level=level, without=indices)
        if estimate is None:
            return None
        isolation_bias = 0.0 if self._counts else cost.isolation_bias * estimate.value
        if self._background is None:
            return Term(estimate.value, estimate.variance, isolation_bias=isolation_bias)

        wall_s = self._mean(cost, lambda window: counted_ns(window, self._domain) / 1e9)
        other_cpu_s = self._mean(cost, lambda window: window.other_cpu_s)
        return Term(estimate.value, estimate.variance, wall_s, other_cpu_s, isolation_bias)

    def _mean(self, cost: WindowDifference, measure: Callable[[Observation], float]) -> float:
        """The mean of another figure over the builds' means, of windows in which the quantity is known."""

        def where_known(window: Observation) -> float | None:
            return None if self._read_value(window) is None else measure(window)

        builds = self._windows.table(cost, where_known).values()
        return sum(sum(values) / len(values) for values in builds) / len(builds)

    def figure(self, index: int, resolution: float | None = None) -> Figure:
        """One cost's figure; the last is the full pipeline's.

        Args:
            index: of the cost.
            resolution: what counts as nothing; if None, 1 % of the full pipeline's, and 0 for that one itself.
        """
        if resolution is None:
            resolution = 0.0 if index in (-1, len(self._terms) - 1) else self.resolution
        return self._figure([(1, self._terms[index])], resolution)

    def total(self, watts: float) -> Figure:
        """The full pipeline's with an idle power of so many watts back in, for as long as its work takes.

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
        estimate = self._pool.estimate(table, level=level, without={len(self._costs) - 1})
        assert estimate is not None
        settling_s = term.wall_s - self._mean(whole, lambda window: window.work_ns / 1e9)
        return self._figure([(1, Term(estimate.value, estimate.variance, settling_s, term.other_cpu_s))], 0.0)

    def sum(self, indices: Collection[int]) -> Figure:
        """The sum of several costs."""
        return self._figure([(1, term) for term in self._terms_of(sorted(indices))], self.resolution)

    def rest(self) -> Figure:
        """The full pipeline's less the sum of the steps. The error of the idle power that is in both cancels."""
        steps = self._terms_of(range(len(self._costs) - 1))
        return self._figure([(1, self._terms[-1]), *((-1, term) for term in steps)], self.resolution)

    def _terms_of(self, indices: Iterable[int]) -> list[Term | None]:
        """The terms of costs; where one prefix is subtracted from the next, both as a single difference."""
        chains: list[list[int]] = []
        for index in indices:
            if chains and self._costs[index].absent == self._costs[chains[-1][-1]].present:
                chains[-1].append(index)
            else:
                chains.append([index])
        return [self._terms[chain[0]] if len(chain) == 1 else self._term_of_prefixes(chain) for chain in chains]

    def _term_of_prefixes(self, indices: Sequence[int]) -> Term | None:
        # Prefixes alone share windows, so nothing here is replayed.
        cost = WindowDifference(self._costs[indices[-1]].present, self._costs[indices[0]].absent)
        return self._term(cost, self._windows.table(cost, self._read_value), self._level(cost), indices)

    def _figure(self, terms: Sequence[tuple[int, Term | None]], resolution: float) -> Figure:
        known = [(sign, term) for sign, term in terms if term is not None]
        if len(known) < len(terms):
            return Figure.missing(self._metering.provenance, self._metering.systematic)
        value = sum(sign * term.value for sign, term in known)
        parts = [term.variance for _, term in known]
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
    steps: Sequence[str], methods: Sequence[str], isolation_bias: Mapping[str, float]
) -> list[WindowDifference]:
    """What each step's cost is measured by, and last that of the full pipeline.

    Args:
        steps: names in the pipeline's order.
        methods: of each, ``"replay"`` or ``"prefix"``.
        isolation_bias: by replayed step; `ISOLATION_BIAS` for steps that aren't named.
    """
    differences = []
    for index, (name, method) in enumerate(zip(steps, methods, strict=True)):
        if method == "replay":
            bias = isolation_bias.get(name, ISOLATION_BIAS)
            differences.append(WindowDifference((name, "with"), (name, "without"), bias))
        else:
            differences.append(WindowDifference((name, "prefix"), (steps[index - 1], "prefix") if index else None))
    return [*differences, WindowDifference(FULL)]
