"""Charts as numbers: positions in per cent, and paths, which the page's style draws at any width, in any colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from greenload.energy.attribution.observation import (
    FIRST_EPOCH,
    IN_PLACE,
    ITERATOR_START,
    Observation,
    counted_ns,
    read_quantity,
    writing_step,
)
from greenload.energy.figures import Figure, sum_figures
from greenload.report import rows
from greenload.report.data import Report
from greenload.text import DASH, amount, printable

STEP_COLOURS = 8
"""Colours of the steps; more steps take them in turn."""
_HEIGHT = 100.0
_LEAST = 1e-300  # below, powers of ten have too few digits left to make steps of
_WIDTH = 1000.0
_RAN = {
    "with": "with the step",
    "without": "its input alone",
    "whole": "the whole pipeline, without clocks",
    "in place": "the whole pipeline, with clocks around its functions",
    "prefix": "the pipeline up to here",
    "full": "the whole pipeline, held out",
    "idle": "the idle machine",
}
_STARTED = {"with": "epochs by iterators of their own", "without": "epochs by one iterator"}
_WRITTEN = {"with": "into an empty cache", "without": "what is written, passing by"}
_FILLED = {"with": "the whole pipeline"}
_TRIED = {"with": "a trial: as it is", "without": "a trial: with the change"}


@dataclass(frozen=True)
class Axis:
    """A linear axis between two ticks."""

    low: float
    high: float
    step: float
    """Between ticks; ``high − low`` is a whole number of them."""

    @classmethod
    def around(cls, values: Sequence[float], steps: int = 4) -> Axis:
        """The axis that holds zero and all values in about as many steps, each 1, 2, 2.5 or 5 times a power of ten."""
        low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
        rough = (high - low) / steps
        if rough < _LEAST:
            rough = 1.0
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return cls(first * step, max(last, first + 1) * step, step)

    @property
    def ticks(self) -> list[float]:
        """The ticks' values, both ends included."""
        count = round((self.high - self.low) / self.step)
        return [round(self.low / self.step + k) * self.step for k in range(count + 1)]

    def percent(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 100."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)


@dataclass(frozen=True)
class Span:
    """A part of a bar: from ``left`` over ``width`` per cent of the axis, drawn in the style of its classes."""

    left: float
    width: float
    classes: str = ""


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart."""

    label: str
    text: str
    """Its figure, beside the bar."""
    kind: str
    spans: tuple[Span, ...]
    whisker: Span | None
    """The 95 % interval of what the spans sum to."""
    tip: str
    """What hovering says, in lines."""
    where: str = ""
    branch: str = ""


@dataclass(frozen=True)
class BarChart:
    """Bars over one axis."""

    name: str
    title: str
    unit: str
    axis: Axis
    bars: tuple[Bar, ...]
    legend: tuple[tuple[str, str], ...]
    """Classes of a swatch, and what it stands for."""
    bands: str = ""
    """The models' own bands, which no whisker shows."""


@dataclass(frozen=True)
class BarPart:
    """One figure of a stacked bar."""

    name: str
    classes: str
    figure: Figure


def bar(
    label: str, parts: Sequence[BarPart], axis: Axis, unit: str, kind: str = "step", *, common: bool = True, **more: str
) -> Bar:
    """Parts stacked from zero, those below zero to the left, with a whisker around their sum.

    Args:
        label: of the row.
        parts: domains of one step; or steps, whose errors aren't ``common`` (see `sum_figures`).
        axis: `axis_of` all rows.
        unit: of the parts.
        kind: of the row.
        common: whether the parts' errors may go together.
        more: further fields of `Bar`.
    """
    spans, above, below = [], 0.0, 0.0
    for part in parts:
        value = part.figure.value
        if not value:
            continue
        start = above if value > 0 else below + value
        spans.append(
            Span(axis.percent(start), round(axis.percent(start + abs(value)) - axis.percent(start), 3), part.classes)
        )
        above, below = (above + value, below) if value > 0 else (above, below + value)
    known = [part.figure for part in parts if part.figure.value is not None]
    total = sum_figures(known, common=common) if known else Figure.missing()
    whisker = None
    if total.low is not None and total.high is not None and total.high > total.low:
        left = axis.percent(total.low)
        whisker = Span(left, round(axis.percent(total.high) - left, 3))
    resolve = kind == "step"
    text = amount(total, resolve=resolve)
    lines = [label] + [f"{part.name} {described(part.figure, unit)}" for part in parts]
    if len(known) > 1:
        lines.append(f"sum {described(total, unit, model=False)}")
    return Bar(label, text, kind, tuple(spans), whisker, "\n".join(lines), **more)


def described(figure: Figure, unit: str, *, model: bool = True) -> str:
    """A figure with its interval and how it is known: ``"0.710 ±0.019 ms (0.691 to 0.729), measured"``."""
    if figure.value is None or figure.low is None or figure.high is None:
        return "unknown: no meter could say"
    name = f", {rows.band([figure])}" if model else ""
    unresolved = ", not told from zero" if figure.unresolved else ""
    ends = f" ({figure.low:.3g} to {figure.high:.3g})".replace("-", "−") if figure.high > figure.low else ""
    return f"{amount(figure, resolve=False)} {unit}{ends}{name}{unresolved}"


def step_charts(report: Report) -> list[BarChart]:
    """CPU time and, where there are any, joules per step; first what leads."""
    shown = [row for row in rows.report_rows(report) if row.kind in ("step", "unattributed")]
    noun = rows.noun(report)
    cpu = _chart("cpu", f"CPU ms per {noun}", shown, [{"cpu": row.cpu_ms} if row.cpu_ms else {} for row in shown])
    energies = [row.energy_mj for row in shown]
    if not any(energies):
        return [cpu]
    energy = _chart("energy", f"mJ per {noun}, without the idle floor", shown, energies)
    return [energy, cpu] if rows.energy_leads(report) else [cpu, energy]


def _chart(name: str, unit: str, shown: Sequence[rows.ReportRow], costs: Sequence[Mapping[str, Figure]]) -> BarChart:
    groups = [
        group
        for group in rows.GROUPS
        if any(cost[group].value is not None and cost[group].value != 0 for cost in costs if group in cost)
    ]
    label = {group: "CPU time" if name == "cpu" else group for group in groups}
    of = {group: [cost[group] for cost in costs if group in cost and cost[group].value is not None] for group in groups}
    stacks = [
        [BarPart(label[group], f"{group} {cost[group].provenance}", cost[group]) for group in groups if group in cost]
        for cost in costs
    ]
    axis = axis_of([[part.figure for part in parts] for parts in stacks])
    bars = tuple(
        bar(row.label, parts, axis, short_unit(unit), row.kind, where=row.where, branch=row.branch)
        for row, parts in zip(shown, stacks, strict=True)
    )
    bands = {group: rows.band(of[group]) for group in groups}
    legend = tuple(
        (f"{group} {sum_figures(of[group]).provenance}", f"{label[group]}, {bands[group]}") for group in groups
    )
    title = "CPU seconds" if name == "cpu" else "Joules"
    modelled = "; ".join(f"{group} {band}" for group, band in bands.items() if "±" in band)
    return BarChart(f"{name}-chart", title, unit, axis, bars, legend, modelled)


def short_unit(unit: str) -> str:
    """A chart's unit as a bar's tip shows it: ``"ms"`` of ``"CPU ms per image"``."""
    return unit.split(" per ")[0].removeprefix("CPU ")


def axis_of(stacks: Sequence[Sequence[Figure]], *, common: bool = True) -> Axis:
    """An axis that holds every stack and its interval, as `bar` draws them."""
    ends = [0.0]
    for stack in stacks:
        known = [figure for figure in stack if figure.value is not None]
        total = sum_figures(known, common=common)
        ends += [end for end in (total.low, total.high) if end is not None]
        ends += [
            math.fsum(figure.value for figure in known if figure.value and figure.value * sign > 0) for sign in (1, -1)
        ]
    return Axis.around(ends)


def check_chart(report: Report) -> BarChart | None:
    """The steps' sum, stacked, over the held-out run, in CPU time; None where either isn't known."""
    shown = rows.report_rows(report)
    steps = [row for row in shown if row.kind == "step"]
    full = next(row.cpu_ms for row in shown if row.kind == "total")
    if full is None or full.value is None or any(row.cpu_ms is None or row.cpu_ms.value is None for row in steps):
        return None
    parts = [
        BarPart(row.label, f"measured s{k % STEP_COLOURS}", row.cpu_ms) for k, row in enumerate(steps) if row.cpu_ms
    ]
    whole = [BarPart("CPU time", "measured full", full)]
    axis = axis_of([[part.figure for part in parts], [full]], common=False)
    unit = f"CPU ms per {rows.noun(report)}"
    bars = (
        bar("the steps' sum", parts, axis, "ms", "sum", common=False),
        bar("the held-out run", whole, axis, "ms", "sum"),
    )
    legend = tuple((part.classes, part.name) for part in parts)
    return BarChart("check-chart", "CPU seconds", unit, axis, bars, legend)


@dataclass(frozen=True)
class Lane:
    """One quantity over time."""

    name: str
    """``"cpu"``, or ``"CPUs busy"``."""
    unit: str
    provenance: str
    known: str
    """Its provenance with the band of a model."""
    axis: Axis
    paths: tuple[tuple[str, str], ...]
    """Class and SVG path, in a box 1000 wide and 100 high."""
    idle: float | None
    """Height in per cent at which the idle machine would draw; None where that isn't known."""
    idle_text: str


@dataclass(frozen=True)
class Timeline:
    """What the machine drew while a profile ran, window by window."""

    axis: Axis
    """Seconds since the first window."""
    lanes: tuple[Lane, ...]
    legend: tuple[tuple[str, str], ...]
    tips: tuple[tuple[float, float, str], ...]
    """Start and end of each window, per cent of the axis, and what hovering says."""


def timeline(report: Report) -> Timeline | None:
    """Power by group of domains over a profile's windows; None for a report that holds no windows' times.

    A measured counter holds idle power; a model is of this process alone, so its bars stand on it.
    """
    windows = sorted((w for w in report.windows if w.start_ns is not None), key=lambda w: w.start_ns or 0)
    if not windows:
        return None
    ends = [((w.start_ns or 0) / 1e9, ((w.start_ns or 0) + w.wall_ns) / 1e9) for w in windows]
    axis = Axis.around([end for _, end in ends], 8)
    colours = {step.name: k % STEP_COLOURS for k, step in enumerate(report.steps)}
    kinds = {step.name: _RAN for step in report.steps} | {FIRST_EPOCH: _FILLED, ITERATOR_START: _STARTED}
    kinds |= {writing_step(cache.name): _WRITTEN for cache in report.caches}
    classes = [_class(window, colours) for window in windows]
    watts = {group: [_power(report, window, group) for window in windows] for group in rows.groups(report)}
    busy = [None if (cpu := read_quantity(w, "cpu_s")) is None else cpu * 1e9 / w.wall_ns for w in windows]
    most = max((value for values in watts.values() for value in values if value is not None), default=0.0)
    shown = {name: values for name, values in watts.items() if max(_known(values), default=0.0) > most / 200}
    bands = {name: rows.band(rows.group_figures(report, name)) for name in shown}
    lanes = [
        _lane(name, "W", bands[name], values, axis, ends, classes, _idle_power(report, name))
        for name, values in shown.items()
    ]
    if _known(busy):
        busy_lane = _lane("CPUs busy", "CPUs", "measured", busy, axis, ends, classes, None)
        lanes = [*lanes, busy_lane] if rows.energy_leads(report) else [busy_lane, *lanes]
    tips = []
    for k, (window, (start, end)) in enumerate(zip(windows, ends, strict=True)):
        parts = [f"{group} {_digits(values[k])} W" for group, values in shown.items()]
        work = f"{window.samples:,} {rows.noun(report)}s in {window.wall_ns / 1e9:.2f} s"
        what = printable(window.step) or ("idle" if window.kind == "idle" else _RAN[window.kind])
        ran = f", {kinds.get(window.step, _TRIED).get(window.kind, _RAN[window.kind])}" if window.step else ""
        drew = ", ".join([*parts, f"{_digits(busy[k])} CPUs busy"])
        text = f"{what}{ran}\n{drew}\n{work}, {start:.1f} s after the start"
        tips.append((axis.percent(start), axis.percent(end), text))
    return Timeline(axis, tuple(lanes), _legend(report, windows, colours), tuple(tips))


def _class(window: Observation, colours: Mapping[str, int]) -> str:
    if not window.step:
        return "idle" if window.kind == "idle" else "full"
    colour = f"s{colours[window.step]}" if window.step in colours else "other"
    return colour + (" less" if window.kind == "without" else "")


def _power(report: Report, window: Observation, group: str) -> float | None:
    """Watts of a group's domains in a window, idle power included; None where any of them is invalid."""
    domains = [name for name in report.total.energy_j_per_sample if rows.group(name) == group]
    total = 0.0
    for name in domains:
        joules = read_quantity(window, name)
        if joules is None:
            return None
        total += joules * 1e9 / counted_ns(window, name)
        idle = report.idle.power_w.get(name)
        if report.total.energy_j_per_sample[name].provenance != "measured" and idle is not None:
            total += idle.value or 0.0
    return total if domains else None


def _idle_power(report: Report, group: str) -> float | None:
    values = [figure.value for name, figure in report.idle.power_w.items() if rows.group(name) == group]
    return math.fsum(value for value in values if value is not None) if _known(values) else None


def _lane(
    name: str,
    unit: str,
    known: str,
    values: Sequence[float | None],
    time: Axis,
    ends: Sequence[tuple[float, float]],
    classes: Sequence[str],
    idle_power: float | None,
) -> Lane:
    axis = Axis.around([*_known(values), idle_power or 0.0], 2)
    paths: dict[str, list[str]] = {}
    zero = _HEIGHT * (1 - axis.percent(0.0) / 100)
    for value, (start, end), kind in zip(values, ends, classes, strict=True):
        if value is not None:
            left, right = (time.percent(time_s) * _WIDTH / 100 for time_s in (start, end))
            top = _HEIGHT * (1 - axis.percent(value) / 100)
            paths.setdefault(kind, []).append(f"M{left:.1f} {zero:.1f}V{top:.1f}H{right:.1f}V{zero:.1f}z")
    return Lane(
        name,
        unit,
        known.split(" ")[0],
        known,
        axis,
        tuple((kind, "".join(parts)) for kind, parts in sorted(paths.items())),
        None if idle_power is None else axis.percent(idle_power),
        "" if idle_power is None else f"idle floor {_digits(idle_power)} {unit}",
    )


def _legend(report: Report, windows: Sequence[Observation], colours: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    ran = {window.step for window in windows}
    legend = [(f"s{colours[step.name]}", rows.step_label(step)) for step in report.steps if step.name in ran]
    kinds = {window.kind for window in windows}
    seen = {"full": "full" in kinds, "idle": "idle" in kinds, "less": "without" in kinds}
    of_epochs = {FIRST_EPOCH, ITERATOR_START, *(writing_step(cache.name) for cache in report.caches)}
    seen["other"] = bool(ran - set(colours) - of_epochs - {""})
    seen["epochs"] = bool(ran & of_epochs)
    whole = "the whole pipeline, with clocks and without" if IN_PLACE in kinds else "the whole pipeline"
    more = (
        ("full", whole),
        ("other", "a trial, paler with the change"),
        ("epochs", "first epochs, writing, and starts of iterators"),
        ("idle", "the idle machine"),
        ("less", "paler: a step's input alone"),
    )
    legend += [("other" if name == "epochs" else name, text) for name, text in more if seen[name]]
    return tuple(legend)


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _digits(value: float | None) -> str:
    return DASH if value is None else f"{value:.3g}"
