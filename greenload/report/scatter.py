"""Points over two axes as numbers: places in per cent, intervals of both, and names that don't stand on each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from greenload.energy.figures import Figure
from greenload.report.charts import Axis, Span

_HEIGHT_PX = 340
"""Of the chart, as its style has it."""
_LEAST = 1e-300  # below, powers of ten have too few digits left to make steps of
_TAG_PX, _TAG_WIDTH = 18, 24
"""A name's height, and its width in per cent of the chart: closer ones are moved up."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One thing, by two of its figures."""

    name: str
    left: float
    """Its figure of the x axis, in per cent of the axis."""
    bottom: float
    """Its figure of the y axis, in per cent of the axis."""
    across: Span
    """The interval of ``left``."""
    along: Span
    """The interval of ``bottom``: its ``left`` is the lower end."""
    classes: str
    """``"good"`` in the Pareto set, ``"chosen"`` if recommended."""
    tag: str
    """The text beside it; empty for none."""
    tip: str
    """What hovering says, in lines."""
    lift: float = 0.0
    """Pixels by which its text is moved up, off other texts."""

    @property
    def before(self) -> bool:
        """Whether its text stands left of it."""
        return self.left > 50


def figure_point(
    name: str, across: Figure, along: Figure, axes: tuple[Axis, Axis], *, classes: str, tag: str, tip: str
) -> Point:
    """The point of two figures that are known.

    Args:
        name: of the thing.
        across: its figure of the x axis.
        along: its figure of the y axis.
        axes: x and y.
        classes: of `Point`.
        tag: of `Point`.
        tip: of `Point`.
    """
    x, y = axes
    return Point(
        name=name,
        left=x.percent(across.value or 0.0),
        bottom=y.percent(along.value or 0.0),
        across=_interval(across, x),
        along=_interval(along, y),
        classes=classes,
        tag=tag,
        tip=tip,
    )


def joined(points: Iterable[Point]) -> str:
    """A line through points as an SVG path in a box of 100 by 100; empty for fewer than two."""
    parts = [f"{'L' if k else 'M'}{point.left:g} {100 - point.bottom:g}" for k, point in enumerate(points)]
    return " ".join(parts) if len(parts) > 1 else ""


def close_axis(values: Sequence[float]) -> Axis:
    """An axis that holds all values in about five steps, each 1, 2 or 5 times a power of ten; zero only if they do."""
    low, high = min(values), max(values)
    span = high - low if high > low else abs(high) / 10 or 1.0
    rough = max(span / 5, _LEAST)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, max(last, first + 1) * step, step)


def spread(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points with their texts moved up where they would stand on each other."""
    placed: list[tuple[Point, float]] = []
    for point in sorted((point for point in points if point.tag), key=lambda point: point.bottom):
        own = point.bottom * _HEIGHT_PX / 100
        height = own
        for other, taken in placed:
            if abs(other.left - point.left) < _TAG_WIDTH and abs(taken - height) < _TAG_PX:
                height = taken + _TAG_PX
        placed.append((point, height))
    lifts = {point.name: height - point.bottom * _HEIGHT_PX / 100 for point, height in placed}
    return tuple(replace(point, lift=round(lifts.get(point.name, 0.0), 1)) for point in points)


def ends(figure: Figure) -> tuple[float, float]:
    """The interval of a figure that has a value."""
    assert figure.low is not None and figure.high is not None
    return figure.low, figure.high


def _interval(figure: Figure, axis: Axis) -> Span:
    low, high = (axis.percent(end) for end in ends(figure))
    return Span(low, round(high - low, 3))
