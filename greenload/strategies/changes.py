"""Two comparisons of strategies side by side: scores and costs of each strategy, what differs, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from greenload.energy.figures import Figure, scale, sum_figures
from greenload.report.comparison import (
    SEPARATE,
    Change,
    Difference,
    change_between,
    differing_facts,
    machine_differences,
    times,
    verdict,
)
from greenload.report.html import render
from greenload.report.record import json_fields
from greenload.report.rows import GROUPS, band, by_group
from greenload.strategies.data import Comparison
from greenload.strategies.records import Card
from greenload.text import DASH, amount

OTHER_EVALUATION = "Another evaluation, or an edited one: scores and trainings may differ by it"
"""What is said first where scores can't be set against each other."""
_NOT_COMPARED = frozenset({"budget_s", "limits", "demand", "same"})
"""Settings that change which strategy is recommended, and no figure; and what `identity_of` tells."""


@dataclass(frozen=True)
class StrategyChange:
    """One strategy in both comparisons."""

    strategy: str
    only: str
    """``"A"`` or ``"B"`` for a strategy that only one of them has; empty for one that both have."""
    changes: tuple[Change, ...]
    """Its score, the cost of its training, and its loader's costs; those that either knows."""


@dataclass(frozen=True)
class Changes:
    """Comparison B against comparison A."""

    a: Comparison
    b: Comparison
    machines: tuple[Difference, ...]
    """How machine and versions differ."""
    settings: tuple[Difference, ...]
    """How what was asked for differs, and what was recommended."""
    strategies: tuple[StrategyChange, ...]

    def to_dict(self) -> dict[str, Any]:
        """The changes as JSON data, without the comparisons themselves."""
        return {
            "machines": [asdict(difference) for difference in self.machines],
            "settings": [asdict(difference) for difference in self.settings],
            "strategies": [
                {
                    "strategy": each.strategy,
                    "only": each.only,
                    "changes": [json_fields(change, Change) for change in each.changes],
                }
                for each in self.strategies
            ],
            "notes": list(notes(self)),
        }


def changes(a: Comparison, b: Comparison) -> Changes:
    """Comparison ``b`` against comparison ``a``, strategies matched by name.

    The two are separate runs, so nothing is paired. Joules that aren't measured in both have a ratio only where one
    model made both, on one machine.

    Example:
        >>> changes(Comparison.load("before.json"), Comparison.load("after.json")).strategies[0].changes[0].name
        'score'
    """
    cards_a, cards_b = ({card.strategy: card for card in each.cards} for each in (a, b))
    names = dict.fromkeys([*cards_a, *cards_b])
    asked = [{k: str(v) for k, v in each.settings.items() if k not in _NOT_COMPARED} for each in (a, b)]
    same = [identity_of(each) for each in (a, b)]
    chosen = [{"recommended": each.recommended or "none"} for each in (a, b)]
    return Changes(
        a,
        b,
        tuple(machine_differences(a.machine, b.machine)),
        (*differing_facts(*asked), *differing_facts(*same), *differing_facts(*chosen)),
        tuple(_changed(name, cards_a.get(name), cards_b.get(name), _Scale(a, b)) for name in names),
    )


def identity_of(comparison: Comparison) -> dict[str, str]:
    """What a comparison is of, by name: evaluation, backend, and a fingerprint of each strategy; not the machine."""
    same = comparison.settings.get("same")
    facts = dict(same) if isinstance(same, Mapping) else {}
    strategies = facts.pop("strategies", {})
    prints = dict(strategies) if isinstance(strategies, Mapping) else {}
    named = {f"pipeline or source of {name}": str(value)[:8] for name, value in prints.items()}
    return named | {str(name): str(value) for name, value in facts.items() if name != "machine"}


def other_evaluation(a: Comparison, b: Comparison) -> bool:
    """Whether two comparisons scored by different functions, or an edited one."""
    return identity_of(a).get("evaluate") != identity_of(b).get("evaluate")


@dataclass(frozen=True)
class _Scale:
    """Which figures of two comparisons can be set against each other."""

    a: Comparison
    b: Comparison

    @property
    def cost(self) -> bool:
        return self.a.unit == self.b.unit

    def joules(self, a: Figure, b: Figure) -> bool:
        """Whether both are measured, or of one model on one machine."""
        if a.provenance == b.provenance == "measured":
            return True
        processors = [(each.machine.cpu_model, each.machine.cpus) for each in (self.a, self.b)]
        return processors[0] == processors[1] and band([a]) == band([b])


def _changed(name: str, a: Card | None, b: Card | None, scaled: _Scale) -> StrategyChange:
    only = "" if a and b else "A" if a else "B"
    rows = (_change(*row) for row in _rows(a, b, scaled))
    return StrategyChange(name, only, tuple(change for change in rows if change is not None))


def _rows(
    a: Card | None, b: Card | None, scaled: _Scale
) -> Iterator[tuple[str, str, Figure | None, Figure | None, bool]]:
    """Name, unit, both figures, and whether they are on one scale."""

    def both(of: Callable[[Card], Figure | None]) -> tuple[Figure | None, Figure | None]:
        return None if a is None else of(a), None if b is None else of(b)

    yield "score", "", *both(lambda card: card.score), True
    if scaled.cost:
        yield "a training", scaled.a.unit, *both(lambda card: card.cost), True
    else:
        yield "a training", "CPU s", *both(lambda card: card.training_cpu_s), True
    yield "full speed", "images per second", *both(lambda card: card.images_per_s), True
    yield "CPU time", "ms per image", *both(lambda card: scale(card.cpu_s_per_sample, 1e3)), True
    energy = [by_group(card.energy_j_per_sample) if card else {} for card in (a, b)]
    for group in GROUPS:
        left, right = (scale(side[group], 1e3) if group in side else None for side in energy)
        comparable = left is None or right is None or scaled.joules(left, right)
        yield f"{group} joules", "mJ per image", left, right, comparable


def _change(name: str, unit: str, a: Figure | None, b: Figure | None, comparable: bool) -> Change | None:
    if all(figure is None or figure.value is None for figure in (a, b)):
        return None
    return change_between(name, unit, a, b, comparable=comparable, divide=name != "score")


def notes(changed: Changes) -> Iterator[str]:
    """What holds for all rows."""
    if other_evaluation(changed.a, changed.b):
        yield OTHER_EVALUATION
    if changed.a.unit != changed.b.unit:
        yield "A training's cost is told in CPU seconds, since only one of the two has its joules measured"
    yield SEPARATE


def change_cells(change: Change) -> tuple[str, str, str, str, str]:
    """A change as text: A, B, B − A, B / A, and what B is."""
    a, b = (DASH if figure is None else amount(figure, resolve=False) for figure in (change.a, change.b))
    difference = DASH if change.difference is None else amount(change.difference, resolve=False)
    return a, b, difference, times(change.ratio), verdict(change)


def change_name(change: Change) -> str:
    """A change's quantity with its unit and, where it isn't measured, its provenance."""
    known = [figure for figure in (change.a, change.b) if figure is not None and figure.value is not None]
    weakest = sum_figures(known).provenance
    parts = [change.name, change.unit, weakest if weakest != "measured" else ""]
    return ", ".join(part for part in parts if part)


def changes_html(changed: Changes) -> str:
    """The changes as one self-contained page.

    Raises:
        ReportError: jinja2 is missing.
    """
    return render("strategies_changes.html", changes_values(changed))


def changes_values(changed: Changes) -> dict[str, Any]:
    """Everything that the page of two comparisons shows."""
    return {
        "title": "Two comparisons of strategies",
        "machines": changed.machines,
        "settings": changed.settings,
        "reports": [
            {
                "letter": letter,
                "title": each.recommended or "nothing recommended",
                "subject": f"{len(each.cards)} strategies, {len(each.runs)} runs",
                "reason": each.reason,
                "created": each.created,
            }
            for letter, each in (("A", changed.a), ("B", changed.b))
        ],
        "strategies": [
            {
                "strategy": each.strategy,
                "only": each.only,
                "rows": [
                    dict(zip(("a", "b", "difference", "times", "verdict"), change_cells(change), strict=True))
                    | {"name": change_name(change)}
                    for change in each.changes
                ],
            }
            for each in changed.strategies
        ],
        "notes": list(notes(changed)),
    }
