"""95 % intervals for costs seen in a few rounds of very few builds.

A pipeline built twice does not cost the same twice: builds of one prototype differed by 13 %, far more than rounds of
one build do. With ``b`` builds of ``r`` rounds the model is the one-way random-effects layout

    y[i, j] = cost + build[i] + noise[i, j]

whose mean has variance ``E[MSB] / (b r)``, ``MSB = r var(build means)`` (Searle, Casella & McCulloch, *Variance
Components*, 1992, chapter 3). Two builds leave MSB one degree of freedom: the exact t interval is 12.7 standard errors
wide and says nothing, while the range of the two means alone covers half of the time.

So the builds are judged together: the ratio ``MSB / MSW`` (``MSW``: the mean square within builds) has expectation
``1 + r var(build) / var(noise)``, taken as common to the steps: build effects and noise both grow with a window's cost.
The ratio is averaged over all steps of a profile, which gives it one degree of freedom for every step and spare build:
borrowing strength between like experiments as in G. K. Smyth, *Linear models and empirical Bayes methods* (2004).
Simulated with 2 builds of 5 or 8 rounds and four or more steps, such intervals cover 92 to 97 % of the time,
without build effects and with effects up to twice the noise; studentised over rounds alone they cover 57 % in the
latter case.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
"""Coverage of every interval."""
PRIOR_RATIO = 0.6
"""Build variance over noise variance, assumed where too few steps can show it: a choice between no build effect and one
as large as the noise of a window, the most that prototypes showed."""
PRIOR_DF = 3
"""Degrees of freedom up to which the assumed ratio fills in: one cost alone, or two, can't show a
spread between builds."""

Table = Mapping[int, Sequence[float]]
"""Values by build: ``{build: [a value per round]}``."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How much more two builds differ than their rounds explain: the factor on the variance of a mean, and its df."""

    factor: float = 1.0
    df: float = math.inf


@dataclass(frozen=True, slots=True)
class _Squares:
    builds: int
    rounds: float  # harmonic mean over builds
    mean: float
    between: float
    within: float
    df_within: int


def _squares(table: Table) -> _Squares | None:
    groups = [np.asarray(values, dtype=np.float64) for _, values in sorted(table.items()) if len(values)]
    if not groups:
        return None
    means = np.array([group.mean() for group in groups])
    df_within = sum(len(group) - 1 for group in groups)
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    rounds = len(groups) / sum(1 / len(group) for group in groups)
    return _Squares(
        builds=len(groups),
        rounds=rounds,
        mean=float(means.mean()),
        between=rounds * float(means.var(ddof=1)) if len(groups) > 1 else 0.0,
        within=within / df_within if df_within else 0.0,
        df_within=df_within,
    )


def between_builds(tables: Iterable[Table]) -> Spread:
    """The spread between builds, shared by every cost of one profile.

    Args:
        tables: one per cost. Those of a single build, or without any noise, tell nothing and are left out.

    Returns:
        The factor is the mean of ``MSB / MSW``, each times ``(df - 2) / df``, df those of MSW, which makes the F ratio
        unbiased.
    """
    known = [squares for table in tables if (squares := _squares(table)) is not None]
    known = [squares for squares in known if squares.builds > 1 and squares.df_within > 2 and squares.within > 0]
    if not known:
        return Spread()
    weights = [squares.builds - 1 for squares in known]
    ratios = [squares.between / squares.within * (squares.df_within - 2) / squares.df_within for squares in known]
    prior = max(0, PRIOR_DF - sum(weights))
    assumed = 1 + PRIOR_RATIO * float(np.mean([squares.rounds for squares in known]))
    df = sum(weights) + prior
    return Spread((float(np.dot(weights, ratios)) + prior * assumed) / df, df)


def interval(table: Table, spread: Spread | None = None) -> tuple[float, float, float] | None:
    """Mean of the builds' means, and the 95 % interval around it.

    The half-width is the widest of three: studentised over all rounds; the spread between builds, with the degrees of
    freedom of a product of two variances (Satterthwaite 1946; the spread's part weighs in as its factor exceeds 1);
    half of the range of the builds' means, so that no build's own mean is ever excluded.

    Args:
        table: values by build; any unit.
        spread: from `between_builds` over all costs of a profile; None takes this table alone.

    Returns:
        ``(value, low, high)``; None where there are no values or a single one, which has no interval.
    """
    squares = _squares(table)
    values = np.array([value for group in table.values() for value in group], dtype=np.float64)
    if squares is None or len(values) < 2:
        return None
    spread = between_builds([table]) if spread is None else spread
    upper = (1 + CONFIDENCE) / 2
    half = float(stdtrit(len(values) - 1, upper)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    if squares.builds > 1 and squares.df_within:
        factor = max(1.0, spread.factor)
        df = 1 / ((factor - 1) / factor / spread.df + 1 / squares.df_within)
        error = math.sqrt(factor * squares.within / (squares.builds * squares.rounds))
        means = [float(np.mean(group)) for group in table.values() if len(group)]
        half = max(half, float(stdtrit(df, upper)) * error, (max(means) - min(means)) / 2)
    return squares.mean, squares.mean - half, squares.mean + half
