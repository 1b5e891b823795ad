"""The charts of an optimization as numbers: cost against memory held, and what each plan's cost consists of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from greenload.energy.figures import Figure, scale
from greenload.optimization import views
from greenload.optimization.outcome import Outcome
from greenload.optimization.records import PARTS, Candidate
from greenload.report.charts import Axis, BarChart, BarPart, axis_of, bar, described
from greenload.report.rows import band
from greenload.report.scatter import Point, close_axis, ends, figure_point, joined, spread
from greenload.text import bytes_text

_BARS_SHOWN = 12
_MEMORY = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes"))
_FROM_ZERO = 0.7
"""The costs' axis begins at zero where the least is below this share of the most: then a saving has its true length."""
_CPU_PARTS = PARTS[:3]
"""Those that CPU seconds are counted of."""


@dataclass(frozen=True)
class CostChart:
    """A point for each measured plan: what it costs against the memory that it holds."""

    up: str
    """What the y axis has, with its unit."""
    on: str
    """What the x axis has."""
    x: Axis
    y: Axis
    points: tuple[Point, ...]
    front: str
    """The Pareto set as an SVG path."""
    has_today: bool
    has_front: bool
    chosen: str
    """What the winner is called."""


def cost_chart(found: Outcome) -> CostChart | None:
    """The chart; None where no plan holds anything in memory, so that memory tells nothing."""
    quantity = views.decisive(found)
    costs = {
        candidate.name: quantity.unit.of(quantity.of(candidate.outlay))
        for candidate in views.measured(found)
        if candidate.outlay is not None
        and quantity.of(candidate.outlay).value is not None
        and math.isfinite(candidate.ram_bytes)
    }
    shown = [candidate for candidate in views.measured(found) if candidate.name in costs]
    most = max((candidate.ram_bytes for candidate in shown), default=0.0)
    if not most:
        return None
    size, unit = next((each for each in _MEMORY if most >= each[0]), _MEMORY[-1])
    held = {candidate.name: _exact(candidate.ram_bytes / size) for candidate in shown}
    values = [end for figure in costs.values() for end in ends(figure)]
    y = Axis.around(values) if min(values) < _FROM_ZERO * max(values) else close_axis(values)
    axes = (Axis.around([figure.value or 0.0 for figure in held.values()], 5), y)
    points = spread(
        [_point(found, each, held[each.name], costs[each.name], axes, quantity.unit.name) for each in shown]
    )
    places = {point.name: point for point in points}
    return CostChart(
        up=f"{quantity.unit.name} in {views.epochs_text(found).partition(' of ')[0]}",
        on=f"{unit} held in memory",
        x=axes[0],
        y=y,
        points=points,
        front=joined(places[name] for name in found.pareto if name in places),
        has_today=any(candidate.today for candidate in shown),
        has_front=any(name in places for name in found.pareto),
        chosen="nearest to the demand" if found.unmet else "to keep" if found.best.today else "to use",
    )


def _exact(value: float) -> Figure:
    return Figure(value, value, value, "measured")


def _point(
    found: Outcome, candidate: Candidate, held: Figure, cost: Figure, axes: tuple[Axis, Axis], unit: str
) -> Point:
    in_front = candidate.name in found.pareto
    role = views.role(found, candidate)
    classes = [*(["good"] if in_front else []), *(["chosen"] if candidate.name == found.winner else [])]
    classes += ["today"] if candidate.today else []
    kept = candidate.kept or "nothing kept"
    named = in_front or role not in ("", "tied")
    lines = [candidate.name, f"{described(cost, unit)}", f"{bytes_text(candidate.ram_bytes)} in memory"]
    lines += [f"not chosen: {views.lost_text(found, candidate)}"] if candidate.lost else []
    return figure_point(
        candidate.name,
        held,
        cost,
        axes,
        classes=" ".join(classes),
        tag=(f"{role}: {kept}" if role not in ("", "tied") else kept) if named else "",
        tip="\n".join(lines),
    )


def part_charts(found: Outcome) -> list[BarChart]:
    """What a whole training costs, by part: a bar for each measured plan; first what leads."""
    shown = views.measured(found)[:_BARS_SHOWN]
    labels = [_label(found, candidate) for candidate in shown]
    made = {
        "joules": _chart("energy-chart", "joules", found, labels, [_joules(candidate) for candidate in shown]),
        "CPU seconds": _chart("cpu-chart", "CPU seconds", found, labels, [_cpu_s(found, each) for each in shown]),
    }
    return [chart for quantity in views.quantities(found) if (chart := made[quantity.noun]) is not None]


def _label(found: Outcome, candidate: Candidate) -> tuple[str, str]:
    return candidate.name, views.role(found, candidate)


def _joules(candidate: Candidate) -> dict[str, Figure]:
    return dict(candidate.outlay.parts_j) if candidate.outlay is not None else {}


def _cpu_s(found: Outcome, candidate: Candidate) -> dict[str, Figure]:
    """CPU seconds by part. What wasn't measured in one kind of epoch is as in the other, as the whole is counted."""
    rates, samples = candidate.rates, found.training.samples
    first = rates.first_cpu_s if rates.first_cpu_s.value is not None else rates.later_cpu_s
    later = rates.later_cpu_s if rates.later_cpu_s.value is not None else rates.first_cpu_s
    times = (1.0, float(samples), float(samples) * (found.training.epochs - 1))
    figures = [scale(figure, many) for figure, many in zip((rates.start_cpu_s, first, later), times, strict=True)]
    return dict(zip(_CPU_PARTS, figures, strict=True))


def _chart(
    name: str,
    noun: str,
    found: Outcome,
    labels: Sequence[tuple[str, str]],
    costs: Sequence[Mapping[str, Figure]],
) -> BarChart | None:
    """The chart of one quantity; None where nothing of it is known."""
    quantity = next(each for each in views.quantities(found) if each.noun == noun)
    used = [part for part in PARTS if any(cost[part].value for cost in costs if part in cost)]
    if not used:
        return None
    stacks = [
        [
            BarPart(part, f"{cost[part].provenance} s{PARTS.index(part)}", quantity.unit.of(cost[part]))
            for part in used
            if part in cost
        ]
        for cost in costs
    ]
    axis = axis_of([[part.figure for part in parts] for parts in stacks])
    bars = tuple(
        bar(label, parts, axis, quantity.unit.name, "sum", where=role)
        for (label, role), parts in zip(labels, stacks, strict=True)
    )
    legend = {(part.classes, part.name) for parts in stacks for part in parts if part.figure.value}
    bands = sorted({band([part.figure]) for parts in stacks for part in parts if part.figure.systematic})
    unit = f"{quantity.unit.name} in {views.epochs_text(found)}"
    return BarChart(
        name, noun[0].upper() + noun[1:], unit, axis, bars, tuple(sorted(legend, key=_place)), "; ".join(bands)
    )


def _place(entry: tuple[str, str]) -> tuple[int, str]:
    """The order of a legend: as `PARTS` are; what is measured before what is modelled."""
    return PARTS.index(entry[1]), entry[0]
