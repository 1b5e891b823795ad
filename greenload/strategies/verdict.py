"""What runs say: who is tied, who is in the Pareto set, what each step up costs, and whom to choose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from greenload.energy.figures import Figure, scale
from greenload.report.comparison import ratio
from greenload.strategies.limits import Limit, Measured, judge, shortfall
from greenload.strategies.records import CPU_SECONDS, JOULES, POINT, Card, LimitCheck, Run, StepUp, Tie
from greenload.strategies.statistics import (
    Gaps,
    Looks,
    Table,
    adjusted_means,
    gaps,
    mean_figure,
    more_seeds,
    undominated,
)
from greenload.text import amount

ENOUGH_RUNS = 3
"""Runs of whoever is recommended, at least."""


@dataclass(frozen=True)
class Rules:
    """What a comparison is judged by."""

    names: tuple[str, ...]
    """The strategies, in the order given."""
    looks: Looks
    """When scores are looked at."""
    limits: tuple[Limit, ...] = ()
    confidence: float = 0.95
    """Of the interval of one figure; of all differences of scores together, of all of costs, of all limits of runs."""

    @property
    def alpha(self) -> float:
        """The error that an interval may take."""
        return 1 - self.confidence


class Findings:
    """What runs so far say. Everything is worked out from them when it is asked for.

    Args:
        rules: what is judged by.
        runs: those that have ended, in any order.
        cards: the strategies, as profiled; none where nobody profiled them.
    """

    def __init__(self, rules: Rules, runs: Sequence[Run], cards: Mapping[str, Card]) -> None:
        self.rules = rules
        self.runs = tuple(runs)
        self.cards = cards

    @cached_property
    def unit(self) -> str:
        """What costs are told in: joules where every run has them."""
        scored = [run for run in self.runs if run.score is not None]
        return JOULES if scored and all(run.total_j is not None for run in scored) else CPU_SECONDS

    @cached_property
    def _seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})

    def _table(self, value: Mapping[tuple[str, int], float | None]) -> Table:
        table = np.full((len(self.rules.names), len(self._seeds)), np.nan)
        rows = {name: row for row, name in enumerate(self.rules.names)}
        columns = {seed: column for column, seed in enumerate(self._seeds)}
        for (name, seed), number in value.items():
            table[rows[name], columns[seed]] = math.nan if number is None else number
        return table

    @cached_property
    def tables(self) -> Mapping[str, Table]:
        """Values ``[strategies, seeds]`` of runs that gave a score, by quantity; NaN where there is none."""
        scored = {(run.strategy, run.seed): run for run in self.runs if run.score is not None}
        joules = self.unit == JOULES
        return {
            "score": self._table({key: run.score for key, run in scored.items()}),
            "energy": self._table({key: run.total_j if joules else run.cpu_s for key, run in scored.items()}),
            "cpu_s": self._table({key: run.cpu_s for key, run in scored.items()}),
            "seconds": self._table({key: run.seconds for key, run in scored.items()}),
        }

    @cached_property
    def scores(self) -> Gaps:
        """Differences of scores."""
        return gaps(self.tables["score"], self.rules.looks)

    @cached_property
    def costs(self) -> Gaps:
        """Differences of costs."""
        return gaps(self.tables["energy"], self.rules.looks)

    @cached_property
    def counts(self) -> list[int]:
        """Runs that gave a score, of each strategy."""
        return [int(number) for number in np.isfinite(self.tables["score"]).sum(axis=1)]

    def scores_of(self, name: str) -> set[float]:
        """The different scores of a strategy."""
        return {run.score for run in self.runs if run.strategy == name and run.score is not None}

    @cached_property
    def mean_scores(self) -> Table:
        """As if all had run with the same seeds."""
        return adjusted_means(self.tables["score"])

    @cached_property
    def mean_costs(self) -> Table:
        """As if all had run with the same seeds."""
        return adjusted_means(self.tables["energy"])

    @cached_property
    def limits(self) -> tuple[LimitCheck, ...]:
        """A verdict for each limit and strategy; those of runs hold together, as Bonferroni's inequality has it."""
        verdicts = len(self.rules.names) * sum(limit.of_runs for limit in self.rules.limits)
        measured = Measured(self.rules.names, self.tables, self.cards, self.unit)
        return tuple(
            LimitCheck(
                strategy=name,
                check=judge(limit, name, measured, lambda seeds: self.rules.looks.error(seeds) / verdicts),
            )
            for limit in self.rules.limits
            for name in self.rules.names
            if limit.of_runs or name in self.cards
        )

    def of_limits(self, name: str) -> list[LimitCheck]:
        """The verdicts on one strategy."""
        return [limit for limit in self.limits if limit.strategy == name]

    def parted(self, a: int, b: int) -> bool:
        """Whether two strategies' scores can be told apart."""
        return bool(self.scores.above[a, b] or self.scores.above[b, a])

    def needed(self, a: int, b: int) -> int | None:
        """How many more seeds would part two strategies that are tied, at least one; None for more than can be said."""
        found = self.scores
        needed = more_seeds(
            float(found.value[a, b]),
            float(found.variance[a, b]),
            int(found.seeds[a, b]),
            len(self.rules.names),
            self.rules.looks,
        )
        return None if needed is None else max(1, needed)

    @cached_property
    def ties(self) -> tuple[Tie, ...]:
        """Pairs whose scores can't be told apart, among strategies that have one."""
        names = self.rules.names
        return tuple(
            Tie(a=names[a], b=names[b], difference=self.scores.figure(a, b), more_seeds=self.needed(a, b))
            for a in range(len(names))
            for b in range(a + 1, len(names))
            if self.counts[a] and self.counts[b] and not self.parted(a, b)
        )

    @cached_property
    def front(self) -> list[int]:
        """The Pareto set of strategies that were scored, the cheapest first."""
        scored = [row for row, count in enumerate(self.counts) if count]
        if not scored:
            return []
        kept = undominated(_part(self.scores, scored), _part(self.costs, scored))
        front = [row for row, keep in zip(scored, kept, strict=True) if keep]
        return sorted(front, key=lambda row: float(self.mean_costs[row]))

    @property
    def pareto(self) -> tuple[str, ...]:
        """The Pareto set's names, the cheapest first."""
        return tuple(self.rules.names[row] for row in self.front)

    @cached_property
    def steps_up(self) -> tuple[StepUp, ...]:
        """From the cheapest of the Pareto set to the next that surely scores more, and so on."""
        steps, below = [], self.front[0] if self.front else 0
        for row in self.front[1:]:
            if not self.scores.above[row, below]:
                continue
            points, cost = scale(self.scores.figure(row, below), 1 / POINT), self.costs.figure(row, below)
            each = ratio(points, cost) or Figure.missing()
            names = self.rules.names
            steps.append(StepUp(lower=names[below], upper=names[row], points=points, cost=cost, cost_per_point=each))
            below = row
        return tuple(steps)

    def card(self, card: Card, demand: float | None, left: str) -> Card:
        """A strategy's card with the figures of its runs."""
        name = card.strategy
        row = self.rules.names.index(name)
        own = [run for run in self.runs if run.strategy == name]
        scored = [run for run in own if run.score is not None]
        modelled = {domain for run in scored for domain in run.modelled}
        domains = {domain: None for run in scored for domain in run.energy_j}
        means = {quantity: mean_figure(table[row], self.rules.alpha) for quantity, table in self.tables.items()}
        weak = "modelled" if self.unit == JOULES and modelled else "measured"
        return replace(
            card,
            starves=_starves(card.images_per_s, demand),
            runs=len(scored),
            failed=len(own) - len(scored),
            left=left,
            score=means["score"],
            training_cpu_s=means["cpu_s"],
            training_seconds=means["seconds"],
            training_energy_j={
                domain: _provenance(
                    mean_figure(np.array([run.energy_j.get(domain, np.nan) for run in scored]), self.rules.alpha),
                    "modelled" if domain in modelled else "measured",
                )
                for domain in domains
            },
            cost=_provenance(means["energy"], weak),
        )

    @cached_property
    def choice(self) -> tuple[str | None, str]:
        """Whom to choose, and why; None where nobody keeps to the limits or has enough runs that gave a score."""
        return _choice(self)


def _part(found: Gaps, rows: Sequence[int]) -> Gaps:
    index = np.ix_(rows, rows)
    return Gaps(found.value[index], found.half[index], found.seeds[index], found.variance[index])


def _provenance(figure: Figure, provenance: str) -> Figure:
    return replace(figure, provenance=provenance)


def _starves(images_per_s: Figure, demand: float | None) -> bool | None:
    """Whether a loader is slower than what a model takes; None where the interval holds that."""
    if demand is None or images_per_s.low is None or images_per_s.high is None:
        return None
    return True if images_per_s.high < demand else False if images_per_s.low >= demand else None


def _choice(found: Findings) -> tuple[str | None, str]:
    names = found.rules.names
    scored = [row for row, count in enumerate(found.counts) if count]
    if not scored:
        return None, "no run gave a score, so nothing can be recommended"
    eligible = [row for row in scored if all(limit.kept for limit in found.of_limits(names[row]))]
    if not eligible:
        return None, _unreachable(found, scored)
    best = _best_mean(found, eligible)
    tied = [row for row in eligible if row == best or not found.parted(row, best)]
    cheapest = min(tied, key=lambda row: float(found.mean_costs[row]))
    alike = [row for row in tied if row == cheapest or not found.costs.above[row, cheapest]]
    chosen = _best_mean(found, alike)
    if found.counts[chosen] < ENOUGH_RUNS:
        few = f"{found.counts[chosen]} run{'s' if found.counts[chosen] > 1 else ''}"
        return None, f"{names[chosen]} leads, but with {few} that gave a score, and {ENOUGH_RUNS} are needed"
    return names[chosen], _reason(found, chosen, tied, alike)


def _best_mean(found: Findings, rows: Sequence[int]) -> int:
    """The best mean score; of equal ones, but for the rounding of floats, the cheapest."""
    best = max(float(found.mean_scores[row]) for row in rows)
    equal = [row for row in rows if math.isclose(float(found.mean_scores[row]), best, rel_tol=1e-9, abs_tol=1e-12)]
    return min(equal, key=lambda row: float(found.mean_costs[row]))


def _reason(found: Findings, chosen: int, tied: Sequence[int], alike: Sequence[int]) -> str:
    names = found.rules.names
    score = amount(mean_figure(found.tables["score"][chosen], found.rules.alpha))
    others = ", ".join(names[row] for row in tied if row != chosen)
    among = " of those that keep to the limits" if found.rules.limits else ""
    if len(tied) == 1:
        said = f"{names[chosen]} scores best{among}, {score}"
    elif len(alike) == 1:
        cost = f"{float(found.mean_costs[chosen]):,.4g} {found.unit} a run"
        said = f"{names[chosen]} costs least, {cost}, of those tied with the best score{among}; tied: {others}"
    elif len(alike) < len(tied):
        as_cheap = ", ".join(names[row] for row in alike if row != chosen)
        dearer = ", ".join(names[row] for row in tied if row not in alike)
        said = (
            f"{names[chosen]} has the best mean{among}, {score}, of the cheapest of those tied with the best score; as "
            f"cheap within the intervals: {as_cheap}; tied in score, but dearer: {dearer}"
        )
    else:
        said = f"{names[chosen]} has the best mean{among}, {score}, but is tied with {others} in score and in cost"
    unsure = [limit.check.rule for limit in found.of_limits(names[chosen]) if limit.check.outcome == "undecided"]
    if unsure:
        said += f"; its mean keeps to {', '.join(unsure)}, but the interval holds the limit"
    return said


def _unreachable(found: Findings, scored: Sequence[int]) -> str:
    """Which limit nobody keeps, and who is nearest to it."""
    names = [found.rules.names[row] for row in scored]
    for limit in found.rules.limits:
        checks = {name: one for name in names for one in found.of_limits(name) if one.check.rule == limit.rule}
        if checks and not any(one.kept for one in checks.values()):
            name, one = min(checks.items(), key=lambda item: shortfall(item[1].check))
            if one.check.value is None or one.check.limit is None:
                return f"no strategy can be held against {limit.rule}: {one.check.detail}"
            by = f"with {one.check.value:.4g} where the limit is {one.check.limit:.4g}"
            return f"no strategy keeps to {limit.rule}: nearest is {name} {by}"
    fewest = min(names, key=lambda name: sum(not one.kept for one in found.of_limits(name)))
    broken = ", ".join(one.check.rule for one in found.of_limits(fewest) if not one.kept)
    return f"no strategy keeps to all limits together: nearest is {fewest}, which breaks {broken}"
