"""A timeline as a stacked chart: paths, ticks and legend as numbers, which the page's style draws at any width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from greenload.energy.attribution.costs import HAND_OVER
from greenload.report.charts import STEP_COLOURS, Axis
from greenload.text import DASH, bytes_text, percent
from greenload.training.fit_table import WATCHED, explained
from greenload.training.instants import LEAST_S
from greenload.training.spent import Spent
from greenload.training.timeline import Timeline, TimelineRow

_WIDTH, _HEIGHT = 1000.0, 100.0
_TICKS = range(6, 13)
_EPOCHS_MARKED = 24
_NAME_WIDTH = 8.0
"""Per cent of the width that an epoch's name takes."""
Path = tuple[str, str]
"""Class and SVG path, in a box 1000 wide and 100 high."""


@dataclass(frozen=True)
class StackLane:
    """One quantity over time, in layers that add up."""

    name: str
    unit: str
    axis: Axis
    paths: tuple[Path, ...]
    tall: bool = False


@dataclass(frozen=True)
class StackChart:
    """Watts by step over a fit, and what the training waited for beside it."""

    title: str
    axis: Axis
    """Seconds since the fit began."""
    lanes: tuple[StackLane, ...]
    legend: tuple[tuple[str, str], ...]
    """Class of a swatch, and what it stands for; the highest layer first."""
    epochs: tuple[tuple[float, str], ...]
    """Where each epoch begins, in per cent of the axis, and its name; empty where it has no room."""
    validation: tuple[tuple[float, float], ...]
    """Left and width of each validation, in per cent."""
    tips: tuple[tuple[float, float, str], ...]
    """Start and end of each span, in per cent, and what hovering says."""
    note: str


def stack_chart(timeline: Timeline, fit: Spent, epochs: Sequence[Spent]) -> StackChart:
    """The chart of a fit's timeline."""
    axis = min((Axis.around(timeline.end_s, count) for count in _TICKS), key=lambda axis: axis.high)
    rows = timeline.rows
    drawn = any(any(row.watts) for row in rows)
    layers = [row.watts if drawn else row.cpus for row in rows]
    classes = _classes(rows)
    lanes = [_stacked(timeline, axis, layers, classes, drawn)]
    lanes += _shares(timeline, axis)
    apart = any(row.name == HAND_OVER for row in rows)
    names = [_name(row, fit, apart) for row in rows]
    return StackChart(
        "Watts by step, over time" if drawn else "Processors busy by step, over time",
        axis,
        tuple(lanes),
        tuple(reversed(list(zip(classes, names, strict=True)))),
        tuple(_begins(axis, fit, epochs)),
        tuple(_validations(timeline, axis)),
        tuple(_tips(timeline, axis, names, layers, fit, epochs, "W" if drawn else "CPUs")),
        _note(timeline, drawn, apart, fit),
    )


def _classes(rows: Sequence[TimelineRow]) -> list[str]:
    steps = [row.name for row in rows if row.kind == "step"]
    return [f"s{steps.index(row.name) % STEP_COLOURS}" if row.kind == "step" else f"of-{row.kind}" for row in rows]


def _name(row: TimelineRow, fit: Spent, apart: bool) -> str:
    """What a layer is called.

    Args:
        row: the layer.
        fit: whose it is.
        apart: whether the hand-over is a layer of its own.
    """
    if row.kind == "step":
        return row.name
    return (None if apart else WATCHED.get(row.kind)) or explained(fit)[row.kind]


def _stacked(
    timeline: Timeline, time: Axis, layers: Sequence[Sequence[float | None]], classes: Sequence[str], drawn: bool
) -> StackLane:
    sums = [sum(layer[k] or 0.0 for layer in layers) for k in range(len(timeline.end_s))]
    long = [total for k, total in enumerate(sums) if timeline.end_s[k] - timeline.start_s[k] >= LEAST_S]
    axis = Axis.around(long or sums, 4)  # a counter's figure of a very short span is no power
    base = [0.0] * len(sums)
    paths = []
    for layer, kind in zip(layers, classes, strict=True):
        top = [min(axis.high, low + (value or 0.0)) for low, value in zip(base, layer, strict=True)]
        paths.append((kind, _area(timeline, time, axis, base, top)))
        base = top
    name, unit = ("watts", "W") if drawn else ("processors", "busy")
    return StackLane(name, unit, axis, tuple(paths), tall=True)


def _shares(timeline: Timeline, time: Axis) -> Iterator[StackLane]:
    if any(share is not None for share in timeline.waiting):
        values = [None if share is None else 100 * share for share in timeline.waiting]
        yield _plain("waiting", "for data, %", "wait", timeline, time, values, Axis(0.0, 100.0, 50.0))
    known = [held for held in timeline.buffered_bytes if held is not None]
    if known and max(known) > 0:
        power, unit = next(((size, name) for size, name in _UNITS if max(known) >= size), _UNITS[-1])
        values = [None if held is None else held / power for held in timeline.buffered_bytes]
        axis = Axis.around([value for value in values if value is not None], 2)
        yield _plain("buffers", f"RAM, {unit}", "held", timeline, time, values, axis)


_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


def _plain(
    name: str, unit: str, kind: str, timeline: Timeline, time: Axis, values: Sequence[float | None], axis: Axis
) -> StackLane:
    path = _area(timeline, time, axis, [0.0] * len(values), values)
    return StackLane(name, unit, axis, ((kind, path),))


def _area(timeline: Timeline, time: Axis, axis: Axis, base: Sequence[float], top: Sequence[float | None]) -> str:
    """The area between two lines of steps, in one path for spans that follow each other, so that no seam is seen."""

    def x(seconds: float) -> str:
        return f"{time.percent(seconds) * _WIDTH / 100:.1f}"

    def y(value: float) -> str:
        return f"{_HEIGHT * (1 - axis.percent(value) / 100):.2f}"

    parts, run = [], []
    for k, (start_s, end_s, low, high) in enumerate(zip(timeline.start_s, timeline.end_s, base, top, strict=True)):
        if high is not None:
            run.append((x(start_s), x(end_s), y(low), y(high)))
        if run and (high is None or k == len(top) - 1):
            upper = "".join(f"V{above}H{right}" for _, right, _, above in run)
            lower = "".join(f"V{below}H{left}" for left, _, below, _ in reversed(run))
            parts.append(f"M{run[0][0]} {run[0][2]}{upper}{lower}z")
            run = []
    return "".join(parts)


def _begins(axis: Axis, fit: Spent, epochs: Sequence[Spent]) -> Iterator[tuple[float, str]]:
    every, named = -(-len(epochs) // _EPOCHS_MARKED) or 1, -_NAME_WIDTH
    for spent in epochs[::every]:
        left = axis.percent((spent.start_ns - fit.start_ns) / 1e9)
        fits = left - named >= _NAME_WIDTH
        named = left if fits else named
        yield left, spent.name if fits else ""


def _validations(timeline: Timeline, axis: Axis) -> Iterator[tuple[float, float]]:
    begun: float | None = None
    for k, testing in enumerate((*timeline.testing, False)):
        if testing and begun is None:
            begun = timeline.start_s[k]
        if not testing and begun is not None:
            left = axis.percent(begun)
            yield left, round(axis.percent(timeline.end_s[k - 1]) - left, 3)
            begun = None


def _tips(
    timeline: Timeline,
    axis: Axis,
    names: Sequence[str],
    layers: Sequence[Sequence[float | None]],
    fit: Spent,
    epochs: Sequence[Spent],
    unit: str,
) -> Iterator[tuple[float, float, str]]:
    for k, (start_s, end_s) in enumerate(zip(timeline.start_s, timeline.end_s, strict=True)):
        values = [layer[k] for layer in layers]
        total = sum(value for value in values if value is not None)
        lines = [f"{start_s:.1f} to {end_s:.1f} s{_epoch_at((start_s + end_s) / 2, fit, epochs)}: {total:.3g} {unit}"]
        shown = [(name, value) for name, value in zip(names, values, strict=True) if value is None or value > 0]
        lines += [f"{name} {DASH if value is None else f'{value:.3g} {unit}'}" for name, value in reversed(shown)]
        if (share := timeline.waiting[k]) is not None:
            lines.append(f"waiting for data {percent(share)} of the time")
        if (held := timeline.buffered_bytes[k]) is not None:
            lines.append(f"{bytes_text(held)} in buffers")
        yield axis.percent(start_s), axis.percent(end_s), "\n".join(lines)


def _epoch_at(seconds: float, fit: Spent, epochs: Sequence[Spent]) -> str:
    at_ns = fit.start_ns + seconds * 1e9
    found = next((e.name for e in epochs if e.start_ns <= at_ns <= e.start_ns + e.wall_s * 1e9), "")
    return f", {found}" if found else ""


def _note(timeline: Timeline, drawn: bool, apart: bool, fit: Spent) -> str:
    if not drawn:
        return "No meter gave joules: what is stacked is processors busy"
    known = timeline.provenance + (f" ±{percent(timeline.systematic)}" if timeline.systematic else "")
    return (
        f"All watts together are {known}. A step's are the process's, without the idle floor, times its function's "
        f"share of the CPU seconds; {_hand_over(apart, fit)}"
    )


def _hand_over(apart: bool, fit: Spent) -> str:
    if apart:
        return "tf.data's hand-over is what the profile says, spread by the samples of each span"
    if fit.hand_over is not None:
        return "tf.data's hand-over is in the model's layer here, as the samples of each span aren't known"
    return "tf.data's hand-over can't be told from the model"
