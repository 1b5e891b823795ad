"""One quantity in all windows of a profile: what each step adds to it, sums of steps, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from greenload.energy.attribution.idle_floor import IdleFloor
from greenload.energy.attribution.intervals import BuildTable, Pool, Variance, half_width
from greenload.energy.attribution.observation import Metering, Observation, counted_ns, read_quantity
from greenload.energy.figures import Figure, cannot_resolve

NEGLIGIBLE = 0.01
"""Share of the full pipeline's cost that counts as nothing: a step pinned to zero within it is resolved."""

ISOLATION_BIAS = 0.005
"""Standard deviation, as a share of what replayed steps cost, of what the same work costs more or less in its place in
the pipeline, where other steps use caches and cores beside it. A choice, after steps of a known cost: in ten profiles
the whole took 0.3 to 0.8 % more CPU time than their replays, which no number of windows shows."""
ISOLATION_BIAS_ON_BATCHES = 0.02
"""The same where backends other than tf.data work on whole batches, which are replayed one after another while the
pipeline has two on their way. A choice, after photographs on DALI and Pillow: in eleven profiles the whole took 2 to
9 % (median 4 %) less CPU time than their replays, hand-over included; why isn't known."""

WindowGroup = tuple[str, str]
"""Like windows: a step's name and a kind."""
ReadValue = Callable[[Observation], float | None]
"""Reads a quantity of a window; None where void or absent."""
FULL: WindowGroup = ("", "full")


@dataclass(frozen=True, slots=True)
class WindowDifference:
    """What is measured: windows of one kind, less those of another in the same round."""

    present: WindowGroup
    absent: WindowGroup | None = None
    """None compares with nothing."""
    isolation_bias: float = 0.0
    """As `ISOLATION_BIAS`, for a step that is replayed."""


class WindowIndex:
    """The working windows of a profile, by step and kind."""

    def __init__(self, windows: Iterable[Observation]) -> None:
        self._windows: dict[WindowGroup, list[Observation]] = {}
        for one in windows:
            self._windows.setdefault((one.step, one.kind), []).append(one)

    def __getitem__(self, group: WindowGroup) -> Sequence[Observation]:
        return self._windows.get(group, ())

    def per_sample(self, group: WindowGroup, read_value: ReadValue) -> dict[tuple[int, int], float]:
        """``{(build, round): per-sample value}``; several windows of one round are pooled, void ones left out."""
        sums: dict[tuple[int, int], tuple[float, int]] = {}
        for window in self[group]:
            value = read_value(window)
            if value is not None:
                total, samples = sums.get((window.build, window.round), (0.0, 0))
                sums[window.build, window.round] = (total + value, samples + window.samples)
        return {key: total / samples for key, (total, samples) in sums.items()}

    def table(self, difference: WindowDifference, read_value: ReadValue) -> BuildTable:
        """Values per sample by build, one for each round that has all it needs."""
        values = self.per_sample(difference.present, read_value)
        less = None if difference.absent is None else self.per_sample(difference.absent, read_value)
        table: dict[int, list[float]] = {}
        for key in sorted(values):
            if less is None:
                table.setdefault(key[0], []).append(values[key])
            elif key in less:
                table.setdefault(key[0], []).append(values[key] - less[key])
        return table


def value_reader(quantity: str) -> ReadValue:
    """Reads ``"cpu_s"``, ``"device_bytes"``, ``"reads"``, ``"work_ns"``, or a domain's joules."""
    return lambda window: read_quantity(window, quantity)


@dataclass(frozen=True, slots=True)
class Term:
    """A cost per sample with its scatter, and how much of it hangs on the floor."""

    value: float
    variance: Variance
    wall_s: float = 0.0
    """Seconds per sample whose floor was taken out."""
    other_cpu_s: float = 0.0
    """Neighbours' CPU seconds per sample that were taken out."""
    isolation_bias: float = 0.0
    """Standard deviation, with the value's sign, that it has for being measured out of its place."""


class Quantity:
    """One quantity of a profile's costs.

    Args:
        index: the working windows, own joules alone.
        costs: of the steps, and last of the full pipeline, which sets what is negligible.
        read_value: reads the quantity.
        domain: provenance and band of its figures.
        floor: what was taken out of it, for a domain.
        name: the domain, whose windows may be longer than the work.
        counts: whether it counts what is the same in every place, as bytes.
    """

    def __init__(
        self,
        index: WindowIndex,
        costs: Sequence[WindowDifference],
        read_value: ReadValue,
        domain: Metering,
        floor: IdleFloor | None = None,
        name: str = "",
        *,
        counts: bool = False,
    ) -> None:
        self._counts = counts
        self._index = index
        self._column = read_value
        self._domain = domain
        self._floor = floor
        self._name = name
        self._costs = costs
        tables = [index.table(cost, read_value) for cost in costs]
        levels = [self._level(cost) for cost in costs]
        self._pool = Pool(tables, levels)
        self._terms = [
            self._term(cost, table, level, {place})
            for place, (cost, table, level) in enumerate(zip(costs, tables, levels, strict=True))
        ]
        whole = self._terms[-1] if self._terms else None
        self.resolution = NEGLIGIBLE * abs(whole.value) if whole is not None else 0.0
        """What counts as nothing, per sample."""

    def _level(self, cost: WindowDifference) -> float:
        values = self._index.per_sample(cost.present, self._column)
        return sum(values.values()) / len(values) if values else 0.0

    def _term(self, cost: WindowDifference, table: BuildTable, level: float, places: Collection[int]) -> Term | None:
        """A cost with its scatter; ``places`` are those of this quantity's costs that it consists of."""
        found = self._pool.estimate(table, level=level, without=places)
        if found is None:
            return None
        isolation_bias = 0.0 if self._counts else cost.isolation_bias * found.value
        if self._floor is None:
            return Term(found.value, found.variance, isolation_bias=isolation_bias)

        def wall_s(window: Observation) -> float | None:
            return None if self._column(window) is None else counted_ns(window, self._name) / 1e9

        def other_cpu_s(window: Observation) -> float | None:
            return None if self._column(window) is None else window.other_cpu_s

        wall, other = self._mean(cost, wall_s), self._mean(cost, other_cpu_s)
        return Term(found.value, found.variance, wall, other, isolation_bias)

    def _mean(self, cost: WindowDifference, read_value: ReadValue) -> float:
        builds = self._index.table(cost, read_value).values()
        return sum(sum(values) / len(values) for values in builds) / len(builds)

    def figure(self, place: int, resolution: float | None = None) -> Figure:
        """Of one cost; the last is the full pipeline's.

        Args:
            place: among the costs.
            resolution: what counts as nothing; if None, 1 % of the full pipeline's, and 0 for that one itself.
        """
        if resolution is None:
            resolution = 0.0 if place in (-1, len(self._terms) - 1) else self.resolution
        return self._figure([(1, self._terms[place])], resolution)

    def total(self, watts: float) -> Figure:
        """The full pipeline's with an idle floor of so many watts back in, for as long as its work takes.

        The counters saw that, and the floor of the settling: so little of the floor's own error is left in it. The
        neighbours' is.
        """
        term = self._terms[-1]
        if term is None:
            return self._figure([(1, None)], 0.0)

        def with_floor(window: Observation) -> float | None:
            value = self._column(window)
            return None if value is None else value + watts * window.work_ns / 1e9

        def worked_s(window: Observation) -> float | None:
            return None if self._column(window) is None else window.work_ns / 1e9

        whole = self._costs[-1]
        values = self._index.per_sample(whole.present, with_floor)
        level = sum(values.values()) / len(values)
        found = self._pool.estimate(self._index.table(whole, with_floor), level=level, without={len(self._costs) - 1})
        assert found is not None
        settling_s = term.wall_s - self._mean(whole, worked_s)
        return self._figure([(1, Term(found.value, found.variance, settling_s, term.other_cpu_s))], 0.0)

    def sum(self, places: Collection[int]) -> Figure:
        """Of several costs together."""
        return self._figure([(1, term) for term in self._joined(sorted(places))], self.resolution)

    def rest(self) -> Figure:
        """The full pipeline's less the sum of the steps. What of the floor is in both cancels."""
        steps = self._joined(range(len(self._costs) - 1))
        return self._figure([(1, self._terms[-1]), *((-1, term) for term in steps)], self.resolution)

    def _joined(self, places: Iterable[int]) -> list[Term | None]:
        """The terms of costs; where one is subtracted from the next, as in prefixes, both as a single difference."""
        runs: list[list[int]] = []
        for place in places:
            if runs and self._costs[place].absent == self._costs[runs[-1][-1]].present:
                runs[-1].append(place)
            else:
                runs.append([place])
        return [self._terms[run[0]] if len(run) == 1 else self._run(run) for run in runs]

    def _run(self, places: Sequence[int]) -> Term | None:
        # Prefixes alone share windows, so nothing here is replayed.
        cost = WindowDifference(self._costs[places[-1]].present, self._costs[places[0]].absent)
        return self._term(cost, self._index.table(cost, self._column), self._level(cost), places)

    def _figure(self, terms: Sequence[tuple[int, Term | None]], resolution: float) -> Figure:
        known = [(sign, term) for sign, term in terms if term is not None]
        if len(known) < len(terms):
            return Figure.missing(self._domain.provenance, self._domain.systematic)
        value = sum(sign * term.value for sign, term in known)
        parts = [term.variance for _, term in known]
        # Common to all steps: what one machine's caches do to one they do to the others.
        parts.append(Variance(sum(sign * term.isolation_bias for sign, term in known) ** 2, math.inf))
        if self._floor is not None:
            wall_s = sum(sign * term.wall_s for sign, term in known)
            parts += self._floor.variances(wall_s, sum(sign * term.other_cpu_s for sign, term in known))
        half = half_width(parts)
        unresolved = cannot_resolve(value - half, value + half, resolution)
        return Figure(value, value - half, value + half, self._domain.provenance, self._domain.systematic, unresolved)


def step_differences(
    steps: Sequence[str], methods: Sequence[str], isolation_bias: Mapping[str, float]
) -> list[WindowDifference]:
    """What is measured of each step, by its method, and last the full pipeline; arguments as for `attribute`."""
    found = []
    for place, (name, method) in enumerate(zip(steps, methods, strict=True)):
        if method == "replay":
            found.append(WindowDifference((name, "with"), (name, "without"), isolation_bias.get(name, ISOLATION_BIAS)))
        else:
            found.append(WindowDifference((name, "prefix"), (steps[place - 1], "prefix") if place else None))
    return [*found, WindowDifference(FULL)]
