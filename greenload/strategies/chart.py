"""The Pareto chart as numbers: each strategy's score against what its training costs, with both intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from greenload.energy.figures import Figure
from greenload.report.charts import Axis, Span, described
from greenload.strategies.records import Card, Compared

_HEIGHT_PX = 340
"""Of the chart, as its style has it."""
_LEAST = 1e-300  # below, powers of ten have too few digits left to make steps of
_TAG_PX, _TAG_WIDTH = 18, 24
"""A name's height, and its width in per cent of the chart: closer ones are moved up."""


@dataclass(frozen=True)
class Point:
    """One strategy."""

    strategy: str
    left: float
    """Its cost, in per cent of the axis."""
    bottom: float
    """Its score, in per cent of the axis."""
    across: Span
    """The cost's interval."""
    along: Span
    """The score's interval: ``left`` is its lower end."""
    classes: str
    """``"good"`` in the Pareto set, ``"chosen"`` if recommended."""
    tied: bool
    """Whether its score can't be told from the best, and isn't the best mean itself."""
    before: bool
    """Whether its name stands left of it."""
    lift: float
    """Pixels by which its name is moved up, off other names."""
    tip: str
    """What hovering says, in lines."""


@dataclass(frozen=True)
class ParetoChart:
    """Points over two axes."""

    unit: str
    """Of the costs, in words."""
    x: Axis
    y: Axis
    points: tuple[Point, ...]
    front: str
    """The Pareto set as an SVG path in a box of 100 by 100; empty for fewer than two strategies."""
    has_choice: bool
    has_ties: bool


def pareto_chart(comparison: Compared) -> ParetoChart | None:
    """The chart; None where no strategy has a score and a cost."""
    shown = [card for card in comparison.cards if card.score.value is not None and card.cost.value is not None]
    if not shown:
        return None
    x, y = (
        close_axis([end for figure in figures for end in _ends(figure)])
        for figures in ([card.cost for card in shown], [card.score for card in shown])
    )
    best = tied_with_best(comparison)
    points = spread([_point(comparison, card, x, y, card.strategy in best[1:]) for card in shown])
    places = {point.strategy: point for point in points}
    front = [places[name] for name in comparison.pareto if name in places]
    path = " ".join(f"{'L' if k else 'M'}{point.left:g} {100 - point.bottom:g}" for k, point in enumerate(front))
    return ParetoChart(
        cost_title(comparison),
        x,
        y,
        tuple(points),
        path if len(front) > 1 else "",
        comparison.recommended in places,
        any(point.tied for point in points),
    )


def cost_title(comparison: Compared) -> str:
    """What the cost of a training is, with its unit: ``"joules of a training"``."""
    return "joules of a training" if comparison.unit == "J" else "CPU seconds of a training"


def tied_with_best(comparison: Compared) -> tuple[str, ...]:
    """The strategy with the best mean score and those tied with it; none where the best is alone."""
    scored = [card for card in comparison.cards if card.score.value is not None]
    if not scored:
        return ()
    best = max(scored, key=lambda card: card.score.value or 0.0).strategy
    tied = comparison.tied_with(best)
    return (best, *tied) if tied else ()


def close_axis(values: Sequence[float]) -> Axis:
    """An axis that holds all values in about five steps, each 1, 2 or 5 times a power of ten; zero only if they do."""
    low, high = min(values), max(values)
    span = high - low if high > low else abs(high) / 10 or 1.0
    rough = max(span / 5, _LEAST)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, max(last, first + 1) * step, step)


def spread(points: Sequence[Point]) -> list[Point]:
    """The points with their names moved up where they would stand on each other."""
    placed: list[tuple[Point, float]] = []
    for point in sorted(points, key=lambda point: point.bottom):
        own = point.bottom * _HEIGHT_PX / 100
        height = own
        for other, taken in placed:
            if abs(other.left - point.left) < _TAG_WIDTH and abs(taken - height) < _TAG_PX:
                height = taken + _TAG_PX
        placed.append((point, height))
    lifts = {point.strategy: height - point.bottom * _HEIGHT_PX / 100 for point, height in placed}
    return [replace(point, lift=round(lifts[point.strategy], 1)) for point in points]


def _point(comparison: Compared, card: Card, x: Axis, y: Axis, tied: bool) -> Point:
    left, bottom = x.percent(card.cost.value or 0.0), y.percent(card.score.value or 0.0)
    classes = ["good"] if card.strategy in comparison.pareto else []
    classes += ["chosen"] if card.strategy == comparison.recommended else []
    score = described(card.score, "").replace("  ", " ")  # a score has no unit
    lines = [card.strategy, f"score {score}", f"cost {described(card.cost, comparison.unit)}"]
    others = comparison.tied_with(card.strategy)
    lines += [f"tied with {', '.join(others)}"] if others else []
    return Point(
        card.strategy,
        left,
        bottom,
        _span(card.cost, x),
        _span(card.score, y),
        " ".join(classes),
        tied,
        left > 50,
        0.0,
        "\n".join(lines),
    )


def _span(figure: Figure, axis: Axis) -> Span:
    low, high = (axis.percent(end) for end in _ends(figure))
    return Span(low, round(high - low, 3))


def _ends(figure: Figure) -> tuple[float, float]:
    assert figure.low is not None and figure.high is not None  # it has a value
    return figure.low, figure.high
