"""Which plans are measured further: rounds of one further build each, halved as intervals and the time allow.

Two builds of one plan don't cost the same: they have been seen 5 to 13 % apart, far more than windows of one build. So
the unit of a race is a build: its cost is that of the whole training, as if all of it went like this build's start,
first epoch and windows of later ones. All plans still in the race are built in each round, with their windows shuffled,
so that what a round does to all cancels in differences: a round is a block. (Of a round that is run in several lots,
what happens between lots isn't taken out.)

*Differences* are those of the costs' logarithms, so that plans that cost unlike amounts scatter alike. A pair's
variance is its own one, drawn towards what all plans together show,

    (d₀ s₀² + d s²) / (d₀ + d)

with ``s²`` of the pair's ``d + 1`` common rounds, ``s₀²`` twice the residual mean square of the layout plans × rounds,
itself drawn towards an assumed scatter while rounds are few, and ``d₀ = 4``: the moderated t statistic of G. K. Smyth
(*Linear models and empirical Bayes methods*, 2004), with ``d₀ + d`` degrees of freedom. So one build of each plan
already parts what is clearly behind.

*Many plans and many looks*: the error of all statements together is at most ``error``. It is shared by the plans that
are held against the leader (Bonferroni), and by rounds: round ``j`` takes ``1 / (j (j + 1))`` of it (as in Robbins,
*Statistical methods related to the law of the iterated logarithm*, Ann. Math. Stat. 41 (1970) 1397).

*Who stays*: plans that are behind the leader for certain leave. Time is limited, and so further ones leave that
are behind by their means: half of them in each of equal shares of the time (sequential halving: Karnin, Koren & Somekh,
*Almost optimal exploration in multi-armed bandits*, ICML 2013), so that most builds are of those that are nearest to
the best. What they are called then is "behind", with the interval that doesn't part them.

Every decision follows from the builds alone, so a race that was stopped goes on as if it never had been.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from greenload.energy.figures import Figure
from greenload.report.record import Record
from greenload.text import DASH, more_text

LEAST_ROUNDS = 2
"""Rounds of the finalists, at least: independent builds of each."""
MOST_ROUNDS = 40
"""Rounds that a race has at most."""
SCATTER = 0.07
"""Standard deviation of builds' costs, relative, that is assumed while rounds are few: builds 10 % apart."""
PRIOR_DF = 4.0
"""Degrees of freedom that the assumed scatter, and that of all plans, counts for."""
FIRST_SHARE = 0.5
"""Of the time, at most, for the first round."""

PARTED = "the leader is parted from all others"
ALIKE = "those that are left cost the same within {share:.0%}"
TIME = "the time was used up"
ROUNDS = f"every plan that is left had its {MOST_ROUNDS} builds"
NONE = "no plan is left"


@dataclass(frozen=True, kw_only=True)
class BuildCost(Record):
    """One build of a plan, run: what the whole training would cost if all of it went so."""

    name: str
    """The plan's."""
    round: int
    """Of the race, from 0; each plan is built once in a round."""
    cost: float | None
    """Joules or CPU seconds of the whole training; None where the run failed. Only what is above 0 can be compared."""
    seconds: float = 0.0
    """Wall seconds that building it and its windows took."""
    failed: str = ""
    """Why it failed, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class RaceRules:
    """How a race is run."""

    names: tuple[str, ...]
    """The plans, the cheapest expected first: in this order they are run first, as long as there is time."""
    seconds: float
    """Wall seconds for all."""
    used_s: float = 0.0
    """Of these, used before any build."""
    stays: tuple[str, ...] = ()
    """Plans that stay to the end, whatever they cost: the one that the user runs today."""
    finalists: int = 2
    """Plans that stay to the end, at least: the winner and the runner-up."""
    lot: int = 8
    """Plans that are built at the same time, at most: their memory counts."""
    alike: float = 0.02
    """Relative difference that further builds aren't worth."""
    error: float = 0.05
    """Of all statements together."""
    barred: Mapping[str, str] = field(default_factory=dict)
    """Plans that can't be chosen, and why. They aren't built, except for those that stay, and nobody is held against
    them: a race goes on as if they never had been in it."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a race stands."""

    order: tuple[str, ...]
    """Plans still in the race that were built, the cheapest first."""
    left: Mapping[str, str]
    """Who left, and why, in one sentence."""
    round: int = 0
    """The round that runs next."""
    runs: tuple[str, ...] = ()
    """The plans to be built next, at once: windows of these are shuffled. Empty where the race has ended."""
    ended: str = ""
    """Why it ended; empty while it goes on."""


class Differences:
    """Relative differences of plans' costs over the rounds that both were built in, with intervals that hold together.

    Args:
        costs: of builds that ran; those that failed are left aside.
        error: of all statements about plans against one of them together.

    Example:
        >>> costs = [BuildCost(name=name, round=at, cost=cost)
        ...          for at, pair in enumerate([(10.0, 15.0), (11.0, 16.5)]) for name, cost in zip("ab", pair)]
        >>> round(Differences(costs).figure("b", "a").value, 3)
        0.5
    """

    def __init__(self, costs: Iterable[BuildCost], error: float = 0.05) -> None:
        self._logs: dict[str, dict[int, float]] = {}
        for build in costs:
            if build.cost is not None and build.cost > 0:
                self._logs.setdefault(build.name, {})[build.round] = math.log(build.cost)
        self._error = error / max(1, len(self._logs) - 1)
        square, df = _residual_square(list(self._logs.values()))
        self._common = 2 * (PRIOR_DF * SCATTER**2 + df * square) / (PRIOR_DF + df)

    @property
    def scatter(self) -> float:
        """Relative standard deviation of a build's cost, round by round, that all plans show together."""
        return math.sqrt(self._common / 2)

    def builds(self, name: str) -> int:
        """Builds of a plan that ran."""
        return len(self._logs.get(name, {}))

    def mean(self, name: str) -> float:
        """The geometric mean of a plan's builds; infinite of a plan without any."""
        logs = self._logs.get(name, {}).values()
        return math.exp(math.fsum(logs) / len(logs)) if logs else math.inf

    def figure(self, a: str, b: str) -> Figure:
        """By how much plan ``a`` costs more than ``b``, relative: 0.1 for 10 %. Missing without a common round."""
        logs, others = self._logs.get(a, {}), self._logs.get(b, {})
        each = [logs[number] - others[number] for number in sorted(logs.keys() & others.keys())]
        if not each:
            return Figure.missing()
        mean = math.fsum(each) / len(each)
        half = self._half_width(each, mean)
        low, high = math.expm1(mean - half), math.expm1(mean + half)
        return Figure(math.expm1(mean), low, high, "measured", unresolved=low <= 0 <= high)

    def parted(self, a: str, b: str) -> bool:
        """Whether two plans can be told apart. One isn't told from itself, nor from what it shares no round with."""
        return a != b and not self.figure(a, b).unresolved

    def _half_width(self, each: Sequence[float], mean: float) -> float:
        number, df = len(each), len(each) - 1
        own = math.fsum((one - mean) ** 2 for one in each)
        square = (PRIOR_DF * self._common + own) / (PRIOR_DF + df)
        error = self._error / (number * (number + 1))
        return -float(stdtrit(PRIOR_DF + df, error / 2)) * math.sqrt(square / number)


def _residual_square(rows: Sequence[Mapping[int, float]]) -> tuple[float, int]:
    """The residual mean square of the layout ``y = row + column + noise``, by least squares, and its df."""
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        return 0.0, 0
    columns = sorted({column for row in rows for column in row})
    values = np.array([[row.get(column, np.nan) for column in columns] for row in rows])
    weights = np.isfinite(values).astype(np.float64)
    counts = weights.sum(axis=1, keepdims=True)

    def less_row_means(table: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((table - (table * weights).sum(axis=1, keepdims=True) / counts) * weights)

    rest = less_row_means(np.nan_to_num(values))
    normal = np.diag(weights.sum(axis=0)) - weights.T @ (weights / counts)
    effects, _, rank, _ = np.linalg.lstsq(normal, rest.sum(axis=0), rcond=1e-9)
    rest = rest - less_row_means(np.broadcast_to(effects, weights.shape))
    df = int(weights.sum()) - len(rows) - int(rank)
    return (float((rest**2).sum()) / df, df) if df > 0 else (0.0, 0)


def standing(rules: RaceRules, costs: Iterable[BuildCost]) -> Standing:
    """How a race stands, and what runs next. The same builds always give the same answer, in any order.

    Args:
        rules: how it is run.
        costs: of all builds so far, those of an earlier, stopped race included.

    Example:
        >>> race = RaceRules(names=("a", "b"), seconds=60)
        >>> standing(race, []).runs
        ('a', 'b')
    """
    race = _Race(rules, costs)
    for number in range(MOST_ROUNDS):
        runs = race.missing(number)
        if runs:
            return race.standing(number, runs=runs)
        ended = race.end_round(number)
        if ended:
            return race.standing(number, ended=ended)
    return race.standing(MOST_ROUNDS, ended=ROUNDS)


class _Race:
    """One race, gone through once more from its start."""

    def __init__(self, rules: RaceRules, costs: Iterable[BuildCost]) -> None:
        self._rules = rules
        names = dict.fromkeys((*rules.stays, *rules.names))
        self._builds: dict[str, dict[int, BuildCost]] = {name: {} for name in names}
        for build in costs:
            if build.name in self._builds:
                self._builds[build.name][build.round] = build
        self._left = {name: why for name, why in rules.barred.items() if name in names}
        self._alive = [name for name in names if name not in self._left or name in rules.stays]
        self._spent_s = rules.used_s
        self._first = 0
        """Plans that the first round ran."""

    def standing(self, number: int, *, runs: Sequence[str] = (), ended: str = "") -> Standing:
        seen = self._differences(number)
        built = [name for name in self._alive if seen.builds(name) and name not in self._left]
        order = sorted(built, key=seen.mean)
        return Standing(order=tuple(order), left=dict(self._left), round=number, runs=tuple(runs), ended=ended)

    def missing(self, number: int) -> list[str]:
        """Who is to be built in a round, at once; nobody where all were, or where the first round's time is over."""
        ran = [name for name in self._alive if number in self._builds[name]]
        missing = [name for name in self._alive if number not in self._builds[name]]
        if number or not missing or len(ran) < self._rules.finalists:
            return missing[: self._rules.lot]
        taken = [self._builds[name][0].seconds for name in ran]
        room = FIRST_SHARE * self._rules.seconds - self._rules.used_s - math.fsum(taken)
        each = math.fsum(taken) / len(taken)
        fits = len(missing) if each <= 0 else int(room / each)
        must = [name for name in missing if name in self._rules.stays]
        runs = missing[: min(self._rules.lot, max(fits, len(must), 0))]
        if not runs:
            self._leave({name: "there was no time to run it, and it was expected to cost more" for name in missing})
        return runs

    def end_round(self, number: int) -> str:
        """Who leaves after a round; why the race ends, empty where it goes on."""
        ran = [self._builds[name][number] for name in self._builds if number in self._builds[name]]
        self._spent_s += math.fsum(build.seconds for build in ran)
        self._leave({build.name: _failure(build) for build in ran if _failure(build)})
        seen = self._differences(number)
        order = sorted((name for name in self._alive if name not in self._left), key=seen.mean)
        if not order:
            return NONE
        self._first = self._first or len(order)
        leader = order[0]
        differences = {name: seen.figure(name, leader) for name in order[1:]}
        kept = self._kept(order)
        behind = [name for name, more in differences.items() if (more.low or 0.0) > 0 and name not in kept]
        self._leave({name: _behind(differences[name], leader, number) for name in behind})
        near = [name for name in order if name not in self._left]
        allowed = self._allowed(number, near)
        late = [name for name in near if name not in allowed]
        self._leave({name: _late(differences[name], leader, number) for name in late})
        if number + 1 < LEAST_ROUNDS:
            return ""
        others = [more for name, more in differences.items() if name not in self._left]
        if all((more.low or 0.0) > 0 for more in others):
            return PARTED
        if all(1 / (1 + (more.low or 0.0)) - 1 <= self._rules.alike for more in others):
            return ALIKE.format(share=self._rules.alike)
        return TIME if self._expected_s(self._alive, number) > self._rules.seconds - self._spent_s else ""

    def _differences(self, number: int) -> Differences:
        """Of all builds up to a round."""
        builds = (build for each in self._builds.values() for build in each.values() if build.round <= number)
        return Differences(builds, self._rules.error)

    def _leave(self, why: Mapping[str, str]) -> None:
        self._left |= {name: reason for name, reason in why.items() if name not in self._left}
        self._alive = [name for name in self._alive if name not in why]

    def _kept(self, order: Sequence[str]) -> set[str]:
        """Those that stay whatever they cost."""
        return {*order[: self._rules.finalists], *(name for name in order if name in self._rules.stays)}

    def _expected_s(self, names: Iterable[str], number: int) -> float:
        """Seconds that a further build of each takes, as its builds up to a round did."""
        seconds = 0.0
        for name in names:
            taken = [build.seconds for build in self._builds[name].values() if build.round <= number]
            seconds += math.fsum(taken) / len(taken)
        return seconds

    def _allowed(self, number: int, order: Sequence[str]) -> set[str]:
        """Those that the time left is for: half as many in each of equal shares of it, no more than it lasts for."""
        kept = self._kept(order)
        halvings = max(0.0, math.log2(self._first / max(1, self._rules.finalists)))
        share = min(1.0, self._spent_s / self._rules.seconds) if self._rules.seconds > 0 else 1.0
        most = math.ceil(self._first * 2 ** (-share * (halvings + 1)) - 1e-9)
        left_s = self._rules.seconds - self._spent_s
        allowed = set(order[: max(most, self._rules.finalists)]) | kept
        barred = [name for name in self._alive if name not in order]
        for name in reversed(order):
            if self._expected_s([*allowed, *barred], number) <= left_s:
                break
            allowed -= {name} - kept
        return allowed


def _failure(build: BuildCost) -> str:
    """Why a build tells no cost; empty where it does."""
    if build.cost is None:
        return f"it failed: {build.failed}"
    return "" if build.cost > 0 else "what it costs can't be told from nothing"


def _behind(more: Figure, leader: str, number: int) -> str:
    return f"it costs {_interval(more)} {leader}, in {_builds(number)}"


def _late(more: Figure, leader: str, number: int) -> str:
    return f"{_behind(more, leader, number)}: the time was kept for those that are nearer to it"


def _interval(more: Figure) -> str:
    if more.value is None or more.low is None or more.high is None:
        return DASH
    return more_text(more.value, more.low, more.high)


def _builds(number: int) -> str:
    return "one build" if not number else f"{number + 1} builds"


def further_build(values: Sequence[float], scatter: float) -> Figure:
    """What one further, independent build is expected to cost: the mean of builds, with a prediction interval.

    Its half-width is ``t √(s² (1 + 1/n))``. The variance ``s²`` of the ``n`` builds is drawn towards the scatter of all
    plans, as a pair's is (the module's text), and has ``4 + n − 1`` degrees of freedom; 95 %.

    Args:
        values: of each build, in any unit.
        scatter: relative standard deviation of builds, `Differences.scatter`.

    Example:
        >>> expected = further_build([1.0, 1.1], 0.07)
        >>> round(expected.value, 2), round(expected.low, 2), round(expected.high, 2)
        (1.05, 0.82, 1.28)
    """
    if not values:
        return Figure.missing()
    number = len(values)
    mean = math.fsum(values) / number
    own = math.fsum((value - mean) ** 2 for value in values)
    square = (PRIOR_DF * (scatter * mean) ** 2 + own) / (PRIOR_DF + number - 1)
    half = float(stdtrit(PRIOR_DF + number - 1, 0.975)) * math.sqrt(square * (1 + 1 / number))
    return Figure(mean, mean - half, mean + half, "measured")
