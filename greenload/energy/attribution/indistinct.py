"""Which neighbouring steps the windows can't tell apart."""

from __future__ import annotations

from collections.abc import Sequence

from greenload.energy.attribution.costs import Indistinct
from greenload.energy.attribution.quantity import Quantity
from greenload.energy.figures import Figure

TRADING = 0.5
"""Two steps trade cost where their sum is known better than this share of what either is known to."""
COARSE = 0.05
"""Trading matters where a step's half-width exceeds this share of the sum."""


def indistinct_steps(name: str, quantity: Quantity, steps: Sequence[str]) -> list[Indistinct]:
    """The groups of adjacent steps that can't be told apart in one quantity.

    Two adjacent steps are indistinguishable

    - where both are unresolved: each one's interval holds zero and is wider than 1 % of the whole, so that the windows
      can't say which of them costs anything; or
    - where they trade cost: their sum is known at least twice as well as either of them, and one of them worse than to
      5 % of the sum, as when one prefix is subtracted from the next.

    Args:
        name: of the quantity.
        quantity: of these steps.
        steps: their names, in order.
    """
    figures = [quantity.figure(index) for index in range(len(steps))]
    if quantity.figure(-1).unresolved or any(figure.value is None for figure in figures):
        return []
    groups: list[list[int]] = [[index] for index in range(min(1, len(steps)))]
    for index in range(1, len(steps)):
        before, after = figures[index - 1], figures[index]
        if (before.unresolved and after.unresolved) or _trade(before, after, quantity.sum([index - 1, index])):
            groups[-1].append(index)
        else:
            groups.append([index])
    return [
        Indistinct(tuple(steps[index] for index in group), name, quantity.sum(group))
        for group in groups
        if len(group) > 1
    ]


def _trade(before: Figure, after: Figure, both: Figure) -> bool:
    halves = before.half_width or 0.0, after.half_width or 0.0
    return (both.half_width or 0.0) < TRADING * min(halves) and max(halves) > COARSE * abs(both.value or 0.0)
