"""Holds a comparison of strategies against budgets and a baseline. Made for continuous integration.

Budgets are of the recommended strategy, or of one that is named: ``energy<=1200``, ``strategies."mixup".score>=0.9``.
Against a baseline costs may grow by a tolerance, and scores may not fall; both are judged beyond their intervals, and
beyond chance, as `greenload.report.baselines` does it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from greenload.energy.figures import Figure, scale
from greenload.report.baselines import BY_CHANCE, LEVEL, TOLERANCE, Compared, changed_beyond, check_tolerance
from greenload.report.budgets import Budget, judge_figure, parse_budget
from greenload.report.checks import Check, interval_text
from greenload.report.comparison import change_between, differing_facts, machine_differences, times
from greenload.report.rows import by_group
from greenload.strategies.changes import OTHER_EVALUATION, identity_of, other_evaluation
from greenload.strategies.data import Comparison
from greenload.strategies.records import ENOUGH_RUNS, JOULES, Card
from greenload.text import percent

OF_CARDS = (
    "cpu_s_per_sample",
    "energy_j_per_sample",
    "images_per_s",
    "samples_per_s",
    "score",
    "energy",
    "cpu_s",
    "seconds",
)
"""Quantities of a strategy. The first four are of its loader, as a profile has them; ``samples_per_s`` is
``images_per_s``. ``energy``, in joules, ``cpu_s`` and ``seconds``, of the wall, are of a whole training."""
_FIELDS = {"samples_per_s": "images_per_s", "cpu_s": "training_cpu_s", "seconds": "training_seconds", "energy": "cost"}
_OF_STRATEGY = re.compile(r"""strategies\.(?P<name>"[^"]*"|'[^']*'|[\w-]+)\.(?P<rest>.*)""", re.DOTALL)
_NARROWER = "its interval holds the limit: more seeds narrow a score's and a training's"


@dataclass(frozen=True)
class StrategyBudget:
    """A budget of one strategy."""

    budget: Budget
    strategy: str
    """Its name; empty for the recommended one."""


def parse_strategy_budget(rule: str) -> StrategyBudget:
    """Read a budget of a strategy.

    Args:
        rule: as `greenload.report.budgets.parse_budget` reads it, with a quantity of `OF_CARDS`; for a strategy that
            isn't the recommended one after ``strategies."NAME".``.

    Raises:
        UsageError: it isn't one.

    Example:
        >>> parse_strategy_budget('strategies."mixup".score>=0.9').strategy
        'mixup'
    """
    named = _OF_STRATEGY.fullmatch(rule.strip())
    budget = parse_budget(named["rest"] if named else rule, OF_CARDS)
    return StrategyBudget(replace(budget, rule=rule.strip()), named["name"].strip("\"'") if named else "")


def judge_comparison(
    comparison: Comparison,
    budgets: Iterable[StrategyBudget],
    baseline: Comparison | None,
    *,
    tolerance: float = TOLERANCE,
    name: str = "baseline",
) -> Comparison:
    """A comparison with what became of each budget, and of the comparison with a baseline; arguments as of `since`."""
    checks = [_check(comparison, budget) for budget in budgets]
    if baseline is not None:
        checks += since(baseline, comparison, tolerance=tolerance, name=name)
    return replace(comparison, checks=tuple(checks))


def since(
    baseline: Comparison, comparison: Comparison, *, tolerance: float = TOLERANCE, name: str = "baseline"
) -> tuple[Check, ...]:
    """What changed since a baseline, in strategies of both.

    Compared are scores, what a training costs, and the loaders' CPU seconds and measured joules. A score may not fall
    at all, since both have an interval over seeds; costs may grow by the tolerance.

    Args:
        baseline: an earlier comparison.
        comparison: the new one.
        tolerance: growth of costs that is allowed, as a share, 0 to 1.
        name: the baseline's, for the checks.

    Returns:
        First one check of the whole; then one for each figure that got worse ("exceeded"), better ("met"), or lies
        beyond its interval as some do by chance ("undecided"). On another processor, or by another
        evaluation, nothing is exceeded: it is "undecided".

    Raises:
        UsageError: the tolerance isn't such a share.
    """
    check_tolerance(tolerance)
    compared = list(_compared(baseline, comparison, tolerance))
    df = (_degrees(baseline), _degrees(comparison))
    worse, perhaps = changed_beyond(compared, df, 1)
    better, _ = changed_beyond(compared, df, -1)
    unlike = _unlike(baseline, comparison)
    checks = [_change_check(change, "undecided" if unlike else "exceeded", _verb(change, 1)) for change in worse]
    checks += [_change_check(change, "undecided", _by_chance(change)) for change in perhaps]
    checks += [_change_check(change, "met", _verb(change, -1)) for change in better]
    checks += _alone(baseline, comparison)
    outcomes = {check.outcome for check in checks}
    overall = next((outcome for outcome in ("exceeded", "undecided") if outcome in outcomes), "met")
    overall = "missing" if not compared else "undecided" if unlike else overall
    parts = [unlike] if unlike else []
    parts.append(
        f"{len(compared)} figures compared, {len(worse)} got worse beyond their intervals (costs by more than "
        f"{percent(tolerance)}), {len(better)} better; {len(compared) * LEVEL:.1f} would lie beyond by chance, which "
        "Holm's correction allows for"
        if compared
        else "nothing that both comparisons hold can be compared"
    )
    if baseline.recommended != comparison.recommended:
        parts.append(f"recommended: {baseline.recommended or 'none'} → {comparison.recommended or 'none'}")
    facts = [
        *machine_differences(baseline.machine, comparison.machine),
        *differing_facts(identity_of(baseline), identity_of(comparison)),
    ]
    differ = [f"{fact.name} ({fact.a} → {fact.b})" for fact in facts]
    parts += [f"differs: {', '.join(differ)}"] if differ else []
    return (Check(name, overall, None, None, None, None, "; ".join(parts)), *checks)


def _check(comparison: Comparison, asked: StrategyBudget) -> Check:
    name = asked.strategy or comparison.recommended
    if name is None:
        why = "no strategy is recommended: name one, as strategies.NAME.score>=0.9"
        return judge_figure(asked.budget, Figure.missing(), why)
    if name not in {card.strategy for card in comparison.cards}:
        names = ", ".join(card.strategy for card in comparison.cards)
        return judge_figure(asked.budget, Figure.missing(), f"there is no strategy {name!r}, only {names}")
    figure = _figure(comparison, comparison.card(name), asked.budget)
    why = f"of {name}" if figure.value is not None else _missing(comparison, asked.budget)
    return judge_figure(asked.budget, figure, why, _NARROWER)


def _figure(comparison: Comparison, card: Card, budget: Budget) -> Figure:
    if budget.field == "energy" and comparison.unit != JOULES:
        return Figure.missing()
    if budget.domain:
        energy = card.energy_j_per_sample
        return energy.get(budget.domain) or by_group(energy).get(budget.domain) or Figure.missing()
    figure: Figure = getattr(card, _FIELDS.get(budget.field, budget.field))
    return figure


def _missing(comparison: Comparison, budget: Budget) -> str:
    if budget.field == "energy" and comparison.unit != JOULES:
        return "no counter reads joules here: give a budget of cpu_s"
    if budget.domain:
        return f"nothing meters {budget.domain}: greenload doctor says why and what helps"
    return "it was not measured"


def _compared(baseline: Comparison, comparison: Comparison, tolerance: float) -> Iterator[Compared]:
    """Every figure that both know, worse if it grows: scores are taken with their sign changed."""
    new = {card.strategy: card for card in comparison.cards}
    for old in baseline.cards:
        card = new.get(old.strategy)
        if card is None:
            continue
        yield from _one(old.strategy, "score>=baseline", scale(old.score, -1), scale(card.score, -1), 0.0)
        if baseline.unit == comparison.unit:
            cost = "energy" if baseline.unit == JOULES else "cpu_s"
            yield from _one(old.strategy, f"{cost}<=baseline", old.cost, card.cost, tolerance)
        yield from _one(
            old.strategy, "cpu_s_per_sample<=baseline", old.cpu_s_per_sample, card.cpu_s_per_sample, tolerance
        )
        energy = by_group(card.energy_j_per_sample)
        for group, figure in by_group(old.energy_j_per_sample).items():
            if group in energy and "modelled" not in (figure.provenance, energy[group].provenance):
                yield from _one(
                    old.strategy, f"energy_j_per_sample.{group}<=baseline", figure, energy[group], tolerance
                )


def _one(strategy: str, rule: str, a: Figure, b: Figure, tolerance: float) -> Iterator[Compared]:
    change = change_between(rule, "", a, b)
    if change.difference is not None and a.value is not None:
        quote = "'" if '"' in strategy else '"'
        yield Compared(f"strategies.{quote}{strategy}{quote}.{rule}", strategy, change, tolerance * abs(a.value))


def _degrees(comparison: Comparison) -> float:
    """Degrees of freedom of the strategy with fewest runs. The loaders' figures have more: so much the safer."""
    return float(min((card.runs - 1 for card in comparison.cards if card.runs > 1), default=ENOUGH_RUNS - 1))


def _is_score(compared: Compared) -> bool:
    return compared.change.name.startswith("score")


def _verb(compared: Compared, sign: int) -> str:
    worse = sign > 0
    return f"{'scores' if _is_score(compared) else 'costs'} {'more' if worse != _is_score(compared) else 'less'}"


def _by_chance(compared: Compared) -> str:
    return "scores less, as some of so many do by chance: more seeds tell" if _is_score(compared) else BY_CHANCE


def _change_check(compared: Compared, outcome: str, what: str) -> Check:
    sign = -1 if _is_score(compared) else 1
    a, b = (scale(figure, sign) for figure in (compared.change.a, compared.change.b) if figure is not None)
    assert a.value is not None
    ratio = f", × {times(compared.change.ratio)}" if sign == 1 and compared.change.ratio is not None else ""
    detail = f"{compared.name} {what}{ratio}; the baseline says {interval_text(a.value, a.low, a.high)}"
    return Check(compared.rule, outcome, b.value, b.low, b.high, a.value + sign * compared.allowed, detail)


def _alone(baseline: Comparison, comparison: Comparison) -> Iterator[Check]:
    """Strategies of one comparison only."""
    old, new = ([card.strategy for card in each.cards] for each in (baseline, comparison))
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            what = "is gone" if name in old else "is new"
            yield Check(f"strategies.{name}", "undecided", None, None, None, None, f"{name} {what}: nothing to compare")


def _unlike(baseline: Comparison, comparison: Comparison) -> str:
    """Why a change need not be the strategies' own; empty where it is."""
    a, b = baseline.machine, comparison.machine
    if (a.cpu_model, a.cpus) != (b.cpu_model, b.cpus):
        return "ANOTHER PROCESSOR, whose a change may be, so none counts: compare the baseline again on this one"
    return OTHER_EVALUATION if other_evaluation(baseline, comparison) else ""
