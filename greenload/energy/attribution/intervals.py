"""95 % intervals for costs seen in a few rounds of very few builds.

A pipeline built twice does not cost the same twice: builds of one prototype differed by 13 %, far more than rounds of
one build do. With ``b`` builds of ``r`` rounds the model is the one-way random-effects layout

    y[i, j] = cost + build[i] + noise[i, j]

whose mean has variance ``E[MSB] / (b r)``, ``MSB = r var(build means)`` (Searle, Casella & McCulloch, *Variance
Components*, 1992, chapter 3). Two builds leave MSB one degree of freedom: the exact t interval is 12.7 standard errors
wide and says nothing, while studentising over rounds alone covers 57 % of the time where builds differ by twice the
noise of a window.

So a cost's MSB is taken as the mean of two: its own, and what all other costs of the profile let expect,

    expected MSB = MSW (1 + r share² level² / MSW)

with ``MSW`` the cost's own mean square within builds, ``level`` what a sample costs in its windows, and ``share`` by
how much of it builds differ, fitted to the other costs: borrowing strength between like experiments as in
G. K. Smyth, *Linear models and empirical Bayes methods* (2004). The own half keeps a step honest whose builds differ
more than the others' do. Degrees of freedom follow Welch and Satterthwaite (*Biometrics Bulletin* 2, 1946).
``bench/coverage.py`` shows how often such intervals hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

CONFIDENCE = 0.95
"""Coverage of every interval."""
PRIOR_RATIO = 0.3
"""Build variance over noise variance, assumed where the other costs show too little: builds that differ by half of the
noise of a window, a choice between none and all of that noise, as prototypes showed."""
PRIOR_DF = 1.0
"""Degrees of freedom up to which the assumed ratio fills in: as much as two builds of one like cost would tell."""
_LEAST_FACTOR = 0.5  # builds that seem to differ less than their rounds explain do so by chance
_PASSES = 6  # of the fit of the share, which settles in three or four

BuildTable = Mapping[int, Sequence[float]]
"""Values by build: ``{build: [a value per round]}``."""


@dataclass(frozen=True, slots=True)
class Variance:
    """An estimated variance, and the degrees of freedom that it was estimated with."""

    value: float
    """In the square of the figure's unit."""
    df: float
    """``math.inf`` where it is known, or assumed."""


def half_width(parts: Iterable[Variance]) -> float:
    """Half of the 95 % interval of a sum of independent errors.

    Student's t with the degrees of freedom of Welch and Satterthwaite: ``V² / Σ (Vᵢ² / dfᵢ)`` with ``V = Σ Vᵢ``.

    Example:
        >>> round(half_width([Variance(1.0, 3.0)]), 3)
        3.182
    """
    positive = [part for part in parts if part.value > 0]
    total = math.fsum(part.value for part in positive)
    if not total:
        return 0.0
    inverse = sum((part.value / total) ** 2 / part.df for part in positive)
    # Student's t with a huge df is the normal distribution, for which stdtrit has no other name.
    return float(stdtrit(1 / max(inverse, 1e-9), (1 + CONFIDENCE) / 2)) * math.sqrt(total)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean of a cost's builds, and the variance of that mean."""

    value: float
    variance: Variance


@dataclass(frozen=True, slots=True)
class _Squares:
    builds: int
    rounds: float  # harmonic mean over builds
    mean: float
    between: float
    within: float
    df_within: int
    level: float

    @property
    def ratio(self) -> float:
        """``MSB / MSW``, less the excess that an F ratio has over 1 because MSW is uncertain too."""
        return self.between / self.within * (self.df_within - 2) / self.df_within

    @property
    def slope(self) -> float:
        """How the ratio grows with the square of the builds' share."""
        return self.rounds * self.level**2 / self.within


def _squares(table: BuildTable, level: float | None) -> _Squares | None:
    groups = [group for _, group in sorted(table.items()) if len(group)]
    if not groups:
        return None
    means = [math.fsum(group) / len(group) for group in groups]
    mean = math.fsum(means) / len(means)
    df_within = sum(len(group) for group in groups) - len(groups)
    within = math.fsum((y - m) ** 2 for group, m in zip(groups, means, strict=True) for y in group)
    rounds = len(groups) / sum(1 / len(group) for group in groups)
    between = rounds * math.fsum((m - mean) ** 2 for m in means) / (len(groups) - 1) if len(groups) > 1 else 0.0
    return _Squares(
        builds=len(groups),
        rounds=rounds,
        mean=mean,
        between=between,
        within=within / df_within if df_within else 0.0,
        df_within=df_within,
        level=abs(mean if level is None else level),
    )


class Pool:
    """The costs of one quantity in one profile, which tell of each other how much builds differ.

    Args:
        tables: one per cost, in any unit.
        levels: what a sample costs in each one's windows, its other steps included, in the same unit; the tables' own
            means if None.

    Example:
        >>> pool = Pool([{0: [1.0, 1.1], 1: [1.2, 1.1]}])
        >>> round(pool.estimate({0: [1.0, 1.1], 1: [1.2, 1.1]}).value, 3)
        1.1
    """

    def __init__(self, tables: Sequence[BuildTable], levels: Sequence[float] | None = None) -> None:
        given: Sequence[float | None] = [None] * len(tables) if levels is None else levels
        self._all = [_squares(table, level) for table, level in zip(tables, given, strict=True)]

    def _share(self, own: _Squares, without: Collection[int]) -> tuple[float, float]:
        """The square of the share by which builds differ, and the degrees of freedom that it brings to a cost.

        Iteratively weighted least squares of ``MSB / MSW = 1 + slope share²``, whose error is proportional to the ratio
        itself. Another cost brings its own degrees of freedom where it shows the share as well as this one would, and
        less where its windows are noisier.
        """
        known = [
            (other.ratio - 1, other.slope, other.builds - 1)
            for index, other in enumerate(self._all)
            if other is not None and index not in without
            if other.builds > 1 and other.df_within > 2 and other.within > 0
        ]
        known = [(excess, slope, df) for excess, slope, df in known if slope > 0]
        if not known:
            return 0.0, 0.0
        share = 0.0
        for _ in range(_PASSES):
            at = max(0.0, share)
            weights = [df * (slope / (1 + slope * at)) ** 2 for _, slope, df in known]
            share = sum(w * excess / slope for w, (excess, slope, _) in zip(weights, known, strict=True)) / sum(weights)
        at = max(0.0, share)
        asked = own.slope / (1 + own.slope * at) if own.within else math.inf
        return share, sum(df * min(1.0, slope / (1 + slope * at) / max(asked, 1e-300)) for _, slope, df in known)

    def estimate(
        self, table: BuildTable, *, level: float | None = None, without: Collection[int] = ()
    ) -> Estimate | None:
        """Mean of a cost's builds' means, and its variance.

        Args:
            table: values by build; those of one build have no spread between builds, which the interval then lacks.
            level: what a sample costs in its windows, as in the pool's tables.
            without: indices of the pool's tables that are this cost itself, or part of this cost.

        Returns:
            None where there are no values or a single one, which has no interval.
        """
        own = _squares(table, level)
        if own is None or own.builds + own.df_within < 2:
            return None
        count = own.builds * own.rounds
        if own.builds == 1:
            return Estimate(own.mean, Variance(own.within / count, own.df_within))
        df_between = own.builds - 1
        if not own.df_within:
            return Estimate(own.mean, Variance(own.between / count, df_between))
        expected, df_expected = self._expected(own, without)
        square = (expected + df_between * own.between) / (1 + df_between)
        # Welch's and Satterthwaite's df from the squares' expectations, which are one and the same: with their values,
        # an own square that is small by chance would pass for a certain one.
        df_square = (1 + df_between) ** 2 / (1 / df_expected + df_between)
        return Estimate(own.mean, Variance(square / count, df_square))

    def _expected(self, own: _Squares, without: Collection[int]) -> tuple[float, float]:
        """The mean square between builds that the other costs let expect, and its degrees of freedom."""
        share, df_share = self._share(own, without)
        slope = own.rounds * own.level**2
        fitted = max(_LEAST_FACTOR * own.within, own.within + slope * share)
        lacking = max(0.0, PRIOR_DF - df_share)
        assumed = own.within * (1 + PRIOR_RATIO * own.rounds)
        expected = (df_share * fitted + lacking * assumed) / (df_share + lacking)
        if not expected:
            return 0.0, float(own.df_within)
        borrowed = max(0.0, 1 - own.within / expected)
        return expected, 1 / (borrowed / (df_share + lacking) + 1 / own.df_within)
