"""The Pareto chart as numbers: each strategy's score against what its training costs, with both intervals."""

from __future__ import annotations

from dataclasses import dataclass

from greenload.report.charts import Axis, described
from greenload.report.scatter import Point, close_axis, ends, figure_point, joined, spread
from greenload.strategies.records import Card, Compared


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
        close_axis([end for figure in figures for end in ends(figure)])
        for figures in ([card.cost for card in shown], [card.score for card in shown])
    )
    best = tied_with_best(comparison)
    points = spread([_point(comparison, card, (x, y), card.strategy in best[1:]) for card in shown])
    places = {point.name: point for point in points}
    return ParetoChart(
        cost_title(comparison),
        x,
        y,
        points,
        joined(places[name] for name in comparison.pareto if name in places),
        comparison.recommended in places,
        any(name in places for name in best[1:]),
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


def _point(comparison: Compared, card: Card, axes: tuple[Axis, Axis], tied: bool) -> Point:
    classes = ["good"] if card.strategy in comparison.pareto else []
    classes += ["chosen"] if card.strategy == comparison.recommended else []
    score = described(card.score, "").replace("  ", " ")  # a score has no unit
    lines = [card.strategy, f"score {score}", f"cost {described(card.cost, comparison.unit)}"]
    others = comparison.tied_with(card.strategy)
    lines += [f"tied with {', '.join(others)}"] if others else []
    return figure_point(
        card.strategy,
        card.cost,
        card.score,
        axes,
        classes=" ".join(classes),
        tag=f"{card.strategy} ≈" if tied else card.strategy,
        tip="\n".join(lines),
    )
