"""What can be told apart: paired differences of strategies over seeds, with intervals that hold together.

Every strategy is run with the same seeds, so a pair is compared by its differences, seed by seed: what a seed does to
all strategies cancels. Few seeds tell a spread badly. So the variance of a pair's difference is the mean of two: the
pair's own, and that of all strategies together, twice the residual mean square of the layout

    y[k, s] = strategy[k] + seed[s] + noise[k, s]

(Searle, Casella & McCulloch, *Variance Components*, 1992, chapter 4). The own half keeps a pair honest whose strategies
spread more than the others. Where all spread alike, the pooled estimate is the best unbiased one, so its covariance
with the own one is its own variance, and matching moments (Satterthwaite, *Biometrics Bulletin* 2, 1946) gives the mean

    4 (n − 1) (K − 1) / (K + 2)

degrees of freedom with ``K`` strategies and ``n`` seeds: the pair's own ``n − 1`` with two strategies, twice as many
with four. A score is rounded, as an accuracy on 100 images is to 0.01: no variance is taken for less than what rounding
to the smallest difference ``q`` among the scores adds, ``q²/12`` for each of two scores.

*Many pairs*: the intervals of all ``K (K − 1) / 2`` pairs hold together (Bonferroni). So the best strategy is never
called worse than another, as in multiple comparisons with the best (Hsu, *Simultaneous confidence intervals for all
distances from the "best"*, Ann. Stat. 9 (1981) 1026), and no other two are ranked wrongly either.

*Many looks*: a race looks at the scores again and again, and each look may err. Look ``j`` gets ``e / (j (j + 1))`` of
the error ``e``; all looks together ``e``, however many there are (Bonferroni with a convergent series, as in Robbins,
*Statistical methods related to the law of the iterated logarithm*, Ann. Math. Stat. 41 (1970) 1397). Looks are few:
each waits for half as many seeds again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from greenload.energy.figures import Figure

Table = NDArray[np.float64]
"""Values ``[strategies, seeds]``; NaN where there is none."""
MOST_SEEDS = 1000
"""No more further seeds are spoken of."""
_GROWTH = 1.5  # from look to look, in seeds


@dataclass(frozen=True, slots=True)
class Looks:
    """When scores are looked at, and how much error each look may take.

    Example:
        >>> looks = Looks(3, alpha=0.05)
        >>> [seeds for seeds in range(1, 20) if looks.is_look(seeds)]
        [3, 5, 8, 12, 18]
    """

    first: int
    """Seeds at the first look."""
    alpha: float
    """The error of all looks together: 0.05 for 95 % intervals."""
    repeated: bool = True
    """Whether there are further looks; else the first takes all of the error."""

    def number(self, seeds: int) -> int:
        """The number of the look at so many seeds, from 1; of the next one where they are between two."""
        look, at = 1, self.first
        while at < seeds:
            look, at = look + 1, math.ceil(at * _GROWTH)
        return look

    def is_look(self, seeds: int) -> bool:
        """Whether the race looks at the scores now."""
        at = self.first
        while at < seeds:
            at = math.ceil(at * _GROWTH)
        return at == seeds

    def error(self, seeds: int) -> float:
        """The error that intervals at so many seeds may take."""
        look = self.number(seeds)
        return self.alpha / (look * (look + 1)) if self.repeated else self.alpha


@dataclass(frozen=True, slots=True)
class Gaps:
    """Differences of all pairs of strategies, row less column, with intervals that hold together."""

    value: Table
    """Mean over common seeds; NaN where there are none."""
    half: Table
    """Half-widths; infinite below two common seeds."""
    seeds: NDArray[np.int64]
    """Common seeds."""
    variance: Table
    """Of one seed's difference."""

    @property
    def above(self) -> NDArray[np.bool_]:
        """Where the row's strategy is above the column's for certain."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.value - self.half > 0)

    def figure(self, row: int, column: int) -> Figure:
        """One pair's difference; missing below two common seeds."""
        value, half = float(self.value[row, column]), float(self.half[row, column])
        if not math.isfinite(value) or not math.isfinite(half):
            return Figure.missing()
        return Figure(value, value - half, value + half, "measured", unresolved=abs(value) <= half)


def gaps(values: Table, looks: Looks) -> Gaps:
    """The differences of all pairs.

    Args:
        values: ``[strategies, seeds]``, NaN where a strategy has none.
        looks: how much error the intervals may take.

    Example:
        >>> gaps(np.array([[0.9, 0.92, 0.91], [0.8, 0.82, 0.81]]), Looks(3, 0.05)).above[0, 1]
        np.True_
    """
    count = len(values)
    shape = (count, count)
    value, half, variance = np.full(shape, np.nan), np.full(shape, np.inf), np.full(shape, np.nan)
    seeds = np.zeros(shape, np.int64)
    known = np.isfinite(values)
    least = quantum(values) ** 2 / 6
    pooled: dict[bytes, tuple[float, int]] = {}
    for row in range(count):
        for column in range(row):
            common = known[row] & known[column]
            number = int(common.sum())
            seeds[row, column] = seeds[column, row] = number
            if not number:
                continue
            difference = values[row, common] - values[column, common]
            mean = float(difference.mean())
            value[row, column], value[column, row] = mean, -mean
            if number < 2:
                continue
            key = common.tobytes()
            if key not in pooled:
                pooled[key] = _pooled(values[known[:, common].all(axis=1)][:, common])
            square, strategies = pooled[key]
            own = float(difference.var(ddof=1))
            spread = max((own + 2 * square) / 2, least)
            width = quantile(number, strategies, looks.error(number), pairs(count)) * math.sqrt(spread / number)
            variance[row, column] = variance[column, row] = spread
            half[row, column] = half[column, row] = width
    return Gaps(value, half, seeds, variance)


def _pooled(values: Table) -> tuple[float, int]:
    """The residual mean square of strategies that share all of their seeds, and how many they are."""
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    strategies, seeds = values.shape
    return float((rest**2).sum() / ((strategies - 1) * (seeds - 1))), strategies


def pairs(strategies: int) -> int:
    """How many pairs there are."""
    return max(1, strategies * (strategies - 1) // 2)


def quantile(seeds: int, strategies: int, error: float, of_pairs: int) -> float:
    """How many standard errors an interval reaches to either side.

    Args:
        seeds: of the pair.
        strategies: that the variance is pooled over, the pair included.
        error: of all intervals together.
        of_pairs: how many intervals.
    """
    df = 4 * (seeds - 1) * (strategies - 1) / (strategies + 2)
    return -float(stdtrit(df, error / (2 * of_pairs)))


def quantum(values: Table) -> float:
    """The smallest difference between two values that differ: what they may be rounded to. 0 where none differ."""
    known = np.unique(values[np.isfinite(values)])
    if len(known) < 2:
        return 0.0
    steps = np.diff(known)
    apart = steps[steps > 1e-9 * max(float(np.abs(known).max()), 1e-300)]  # less is the rounding of floats
    return float(apart.min()) if len(apart) else 0.0


def more_seeds(value: float, variance: float, seeds: int, strategies: int, looks: Looks) -> int | None:
    """How many more seeds would part a pair, if its difference and variance stay as they are.

    Args:
        value: the mean difference so far.
        variance: of one seed's difference.
        seeds: that the pair has in common.
        strategies: that are compared.
        looks: the race's.

    Returns:
        0 where they are parted; None for more than `MOST_SEEDS`.
    """

    def parted(number: int) -> bool:
        if number < 2:
            return False
        width = quantile(number, strategies, looks.error(number), pairs(strategies)) * math.sqrt(variance / number)
        return abs(value) > width

    if not math.isfinite(variance) or not parted(seeds + MOST_SEEDS):
        return None
    low, high = seeds, seeds + MOST_SEEDS  # the least that parts them is between: widths fall but at looks' edges
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if parted(middle) else (middle + 1, high)
    return high - seeds


def mean_figure(values: Table, alpha: float) -> Figure:
    """The mean of one strategy's values, with Student's interval; unresolved, without an interval, for a single value.

    Args:
        values: any shape; NaN are left out.
        alpha: 0.05 for a 95 % interval.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return Figure.missing()
    mean = float(known.mean())
    if len(known) == 1:
        return Figure(mean, mean, mean, "measured", unresolved=True)
    half = -float(stdtrit(len(known) - 1, alpha / 2)) * float(known.std(ddof=1)) / math.sqrt(len(known))
    return Figure(mean, mean - half, mean + half, "measured")


def adjusted_means(values: Table) -> Table:
    """Each strategy's mean as if all had run with the same seeds: least squares of ``strategy + seed``.

    Strategies that left a race early have only its first seeds, which may have been easy ones.

    Returns:
        ``[strategies]``; NaN where a strategy has no value.
    """
    known = np.isfinite(values)
    if known.all():
        return np.asarray(values.mean(axis=1))
    used = known.any(axis=0)
    means = np.full(len(values), np.nan)
    rows, columns = np.nonzero(known[:, used])
    if not len(rows):
        return means
    strategies, seeds = len(values), int(used.sum())
    design = np.zeros((len(rows), strategies + seeds))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), strategies + columns] = 1
    effects = np.linalg.lstsq(design, values[:, used][rows, columns], rcond=None)[0]
    has = known.any(axis=1)
    means[has] = effects[:strategies][has] + effects[strategies:].mean()
    return means


def undominated(scores: Gaps, costs: Gaps) -> NDArray[np.bool_]:
    """The Pareto set: strategies that no other makes needless.

    One makes another needless if it is better beyond the intervals in score or in cost, and not worse beyond them in
    the other. Where such statements go in a circle, which intervals of unlike widths allow, all are kept.

    Returns:
        ``[strategies]``.
    """
    better, dearer = scores.above, costs.above
    needless = ((better & ~dearer) | (dearer.T & ~better.T)).any(axis=0)
    return np.asarray(needless.all() | ~needless)
