"""Limits on strategies: ``energy<=1.2*plain``, ``images_per_s>=2000``; parsed, and judged by figures' intervals."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from greenload.energy.figures import Figure, scale, sum_figures
from greenload.errors import UsageError
from greenload.report.checks import Check
from greenload.strategies.records import BROKEN, BROKEN_ONCE, JOULES, KEPT, KEPT_ONCE, Card
from greenload.strategies.statistics import Table, mean_figure

OF_RUNS = ("score", "energy", "cpu_s", "seconds")
"""Quantities of whole runs, compared seed by seed: ``energy`` is a training's joules, or its CPU seconds where no
counter reads; ``seconds`` are of the wall."""
OF_LOADERS = ("images_per_s", "cpu_s_per_sample", "energy_j_per_sample")
"""Quantities of the loader alone, as profiled."""
QUANTITIES = OF_RUNS + OF_LOADERS

_LIMIT = re.compile(r"\s*(?P<quantity>[a-z_]+)\s*(?P<operator><=|>=|<|>)\s*(?P<bound>[^=\s].*?)\s*", re.DOTALL)
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TIMES = re.compile(rf"(?P<factor>{_NUMBER})\s*[*×]\s*(?P<name>\S.*)", re.DOTALL)
_KEEPS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Limit:
    """One limit, as parsed."""

    rule: str
    """The limit's text as it was given."""
    quantity: str
    """One of `QUANTITIES`."""
    operator: str
    """``"<="``, ``"<"``, ``">="`` or ``">"``."""
    factor: float
    """The bound itself, or what the reference's figure is multiplied by."""
    reference: str = ""
    """The strategy that it is relative to; empty for a bound that is a number."""

    @property
    def of_runs(self) -> bool:
        """Whether it is judged by runs; else by the loader's profile, so before any run."""
        return self.quantity in OF_RUNS


def parse_limit(rule: str, strategies: Collection[str]) -> Limit:
    """Read a limit: a quantity, a comparison, and a number, a strategy's name, or a number times one.

    Args:
        rule: ``"energy<=1.2*plain"``.
        strategies: the names that may stand in it.

    Raises:
        UsageError: it isn't one; names the quantities or the strategies.

    Example:
        >>> parse_limit("energy <= 1.2*plain", ["plain"])
        Limit(rule='energy <= 1.2*plain', quantity='energy', operator='<=', factor=1.2, reference='plain')
    """
    match = _LIMIT.fullmatch(rule) if isinstance(rule, str) else None
    if match is None:
        raise UsageError(
            f"a limit is a quantity, <=, <, >= or > and a bound, as energy<=1.2*plain, found {rule!r}: write it so"
        )
    if match["quantity"] not in QUANTITIES:
        raise UsageError(f"a limit is of {', '.join(QUANTITIES)}, found {rule!r}: name one of them")
    bound = match["bound"]
    parsed = Limit(rule.strip(), match["quantity"], match["operator"], 1.0)
    if bound in strategies:
        return replace(parsed, reference=bound)
    if re.fullmatch(_NUMBER, bound):
        return replace(parsed, factor=_factor(rule, match["quantity"], bound))
    times = _TIMES.fullmatch(bound)
    if times is not None and times["name"] in strategies:
        return replace(parsed, factor=_factor(rule, match["quantity"], times["factor"]), reference=times["name"])
    names = ", ".join(strategies)
    raise UsageError(f"a limit's bound is a number, or a multiple of {names}, found {rule!r}: name one of them")


def _factor(rule: str, quantity: str, text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise UsageError(f"a limit's number is one that can be kept, found {rule!r}: give a smaller one")
    if number < 0 and quantity != "score":
        raise UsageError(f"{quantity} is never below 0, but a limit is {rule!r}: give a positive number")
    return number


@dataclass(frozen=True)
class Measured:
    """What limits are judged by."""

    names: Sequence[str]
    """Of the strategies: the tables' rows."""
    tables: Mapping[str, Table]
    """Values ``[strategies, seeds]`` of each quantity of `OF_RUNS`; NaN where there is none."""
    cards: Mapping[str, Card]
    """By strategy."""
    unit: str
    """Of ``energy``."""


def judge(limit: Limit, strategy: str, measured: Measured, error: Callable[[int], float]) -> Check:
    """What one strategy's figures say to a limit.

    The verdict is by the interval of the difference to the bound, paired by seed where the bound is another strategy's
    figure. Then the spread is that of ``own − r other``, with ``r`` the ratio of the means, since a seed changes costs
    in proportion (the ratio estimator: Cochran, *Sampling Techniques*, 1977, chapter 6). ``value``, ``low`` and
    ``high`` are the strategy's figure and that interval around it.

    Args:
        limit: the limit.
        strategy: whose figures.
        measured: the figures.
        error: that an interval at so many seeds may take.
    """
    find = _of_runs if limit.of_runs else _of_loaders
    value, bound, difference, why = find(limit, strategy, measured, error)
    if value is None or bound is None or difference.value is None or difference.low is None or difference.high is None:
        return Check(limit.rule, "missing", None, None, None, None, why)
    keeps = _KEEPS[limit.operator]
    once = difference.unresolved and difference.low == difference.high  # a single run, which has no interval
    ends = {True, False} if once else {keeps(difference.low, 0.0), keeps(difference.high, 0.0)}
    outcome = "undecided" if len(ends) > 1 else "met" if ends == {True} else "exceeded"
    detail = ""
    if outcome == "undecided":
        kept, broken = (KEPT_ONCE, BROKEN_ONCE) if once else (KEPT, BROKEN)
        detail = kept if keeps(difference.value, 0.0) else broken
    return Check(limit.rule, outcome, value, bound + difference.low, bound + difference.high, bound, detail)


_Found = tuple[float | None, float | None, Figure, str]
"""The strategy's figure, the bound, their difference, and why there is none."""


def _of_runs(limit: Limit, strategy: str, measured: Measured, error: Callable[[int], float]) -> _Found:
    if limit.quantity == "energy" and not limit.reference and measured.unit != JOULES:
        why = "no counter reads joules here, so energy is told in CPU seconds: give a multiple of a strategy"
        return None, None, Figure.missing(), why
    table = measured.tables[limit.quantity]
    own = table[measured.names.index(strategy)]
    if limit.reference:
        other = table[measured.names.index(limit.reference)]
        common = np.isfinite(own) & np.isfinite(other)
    else:
        other, common = np.ones_like(own), np.isfinite(own)
    number = int(common.sum())
    if not number:
        return None, None, Figure.missing(), "no run gave it"
    own, other = own[common], other[common]
    value, bound = float(own.mean()), limit.factor * float(other.mean())
    ratio = value / float(other.mean()) if other.any() and limit.reference else 0.0
    half = mean_figure(own - ratio * other, error(number)).half_width or 0.0
    difference = value - bound
    unresolved = number == 1 and limit.reference != strategy  # a figure's multiple of itself is known
    return (
        value,
        bound,
        Figure(difference, difference - half, difference + half, "measured", unresolved=unresolved),
        "",
    )


def _exactly(value: float) -> Figure:
    return Figure(value, value, value, "measured")


def _of_loaders(limit: Limit, strategy: str, measured: Measured, error: Callable[[int], float]) -> _Found:
    own = loader_figure(measured.cards[strategy], limit.quantity)
    if limit.reference:
        other = scale(loader_figure(measured.cards[limit.reference], limit.quantity), limit.factor)
    else:
        other = _exactly(limit.factor)
    if limit.reference == strategy and own.value is not None and other.value is not None:  # its error is common
        difference = scale(own, 1 - limit.factor)
    else:
        difference = sum_figures([own, scale(other, -1)])
    return own.value, other.value, difference, "the loader wasn't profiled, or nothing meters it"


def loader_figure(card: Card, quantity: str) -> Figure:
    """A quantity of `OF_LOADERS`; joules are the sum of all domains."""
    if quantity != "energy_j_per_sample":
        figure: Figure = getattr(card, quantity)
        return figure
    parts = card.energy_j_per_sample.values()
    return sum_figures(parts, common=True) if parts else Figure.missing()


def shortfall(check: Check) -> float:
    """How far a figure is from its limit, as a share of the limit; infinite where there is none."""
    if check.value is None or check.limit is None:
        return math.inf
    return abs(check.value - check.limit) / max(abs(check.limit), 1e-300)
