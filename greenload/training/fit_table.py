"""A training run's energy as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.text import Text

from greenload.energy.figures import Figure, scale
from greenload.energy.meters.base import MeterStatus
from greenload.profiling.in_place.model import Buffer
from greenload.report.columns import FigureTable, Line, Sentence
from greenload.report.rows import band, by_group, group
from greenload.report.terminal import without_figures
from greenload.text import DASH, amount, bytes_text, percent, printable
from greenload.training.drift import Drift
from greenload.training.spent import EnergyPart, Spent, WatchedPart

_EXPLAINED = {
    "loader": "loader",
    "loader and model": "loader and model",
    "waiting": "waiting for data (idle floor)",
    "model": "model (the rest)",
    "validation": "validation",
    "others": "the rest of the machine",
    "idle": "idle floor",
    "total": "total",
}
WATCHED = {"loader": "loader, its functions", "model": "model and hand-over (the rest)"}
"""What they are where nothing tells the hand-over."""
_STYLES = {"idle": "dim", "others": "dim", "total": "bold"}
_EPOCHS_SHOWN = 20
PACES = {
    "starved": "the training waits for the loader",
    "saturated": "the loader waits for the training, behind full buffers",
    "balanced": "neither waits much for the other",
}
"""`Spent.pace` in words."""


def render_fit(
    fit: Spent,
    epochs: Sequence[Spent],
    meters: Sequence[MeterStatus],
    *,
    model: str,
    profile: str,
    ended: str,
    drift: Sequence[Drift] = (),
) -> RenderableType:
    """A fit for a rich console: what must be known first, the whole fit by part, a row for each epoch.

    The arguments are what `FitReport` holds.
    """
    groups = [name for name, figure in by_group(fit.total.energy_j).items() if figure.value != 0]
    lines: list[RenderableType] = [Sentence(printable(fit.does_not_fit), "bold red")] if fit.does_not_fit else []
    ending = f", ended by {printable(ended)}" if ended else ""
    lines += [
        Sentence(Text.assemble((f"fit of {printable(model)}", "bold"), f": {_passed(fit, len(epochs))}{ending}")),
        Sentence(_waiting(fit)),
        _whole(fit, groups),
    ]
    if fit.is_watched:
        lines.append(_functions(fit))
    lines += [Sentence(text) for text in (buffers_text(fit), *drift_texts(drift)) if text]
    if len(epochs) > 1:
        lines += _epochs(epochs)
    if profile and not fit.is_watched:
        lines.append(Sentence(f"loader: costs a sample as profiled on {printable(profile)}{_band(fit)}", "dim"))
    lines += [Sentence(f"note: {printable(note)}") for note in fit.notes]
    lines += [Sentence(f"no figures for {printable(domain)}: {printable(why)}") for domain, why in fit.void.items()]
    lines += without_figures(meters)
    return Group(*lines)


def _band(spent: Spent) -> str:
    """How far measured joules may be off because they were profiled alone."""
    total, loader = spent.total.energy_j, spent.loader.energy_j
    counted = {domain for domain, figure in total.items() if figure.provenance == "measured"}
    bands = [figure.systematic for domain, figure in loader.items() if domain in counted]
    return f"; beside a model ±{max(bands):.0%} in joules, the model's by as many" if any(bands) else ""


def _passed(spent: Spent, epochs: int) -> str:
    batches, samples = (
        "an unknown number of" if count is None else f"{count:,}"
        for count in (spent.passed.batches, spent.passed.samples)
    )
    plural = "" if epochs == 1 else "s"
    return f"{epochs} epoch{plural}, {batches} batches, {samples} samples in {spent.wall_s:,.1f} s"


def _waiting(spent: Spent) -> str:
    if spent.passed.waiting_s is None:
        return "waiting for data: unknown"
    waited = f"waiting for data: {spent.passed.waiting_s:,.2f} s, {percent(spent.waiting_share)} of the training's time"
    return f"{waited}{f'; {PACES[spent.pace]}' if spent.is_watched and spent.pace else ''}"


def buffers_text(spent: Spent) -> str:
    """What tf.data's runtime chose, and the RAM that its buffers hold, as a sentence; empty where it tells nothing."""
    nodes = [_node(buffer) for buffer in spent.buffers]
    if not nodes:
        return ""
    held = spent.buffered_bytes
    ram = "RAM unknown, as TensorFlow miscounts it" if held is None else f"{bytes_text(held)}, on average"
    return printable(f"in the loader's buffers: {ram}; {'; '.join(nodes)}")


def _node(buffer: Buffer) -> str:
    said = [] if buffer.parallelism is None else [f"{buffer.parallelism:g} calls beside each other"]
    said += [] if buffer.size is None else [f"a buffer of {buffer.size:g}"]
    by = " by autotune" if buffer.chosen else ""
    held = "an unknown number of" if buffer.elements is None else f"{buffer.elements:,.1f}"
    return f"{buffer.name} {' and '.join(said) or 'working ahead'}{by}, {held} elements in it"


def drift_texts(drift: Sequence[Drift]) -> list[str]:
    """The steps that cost more or less than they did, a sentence each."""
    return [
        printable(
            f"drift: {one}: {amount(scale(one.now_s, 1e3), resolve=False)} CPU ms a sample now, "
            f"{amount(scale(one.before_s, 1e3), resolve=False)} before"
        )
        for one in drift
        if one.drifted
    ]


def _functions(fit: Spent) -> FigureTable:
    """What the clocks of watched steps saw."""
    steps = [*(("", step) for step in fit.steps), *(("validation: ", step) for step in fit.validation_steps)]
    lines = []
    for where, step in steps:
        if not isinstance(step, WatchedPart):
            continue
        label = Text.assemble(
            printable(where + step.name), *([(f"\n{printable(step.where)}", "dim")] if step.where else [])
        )
        waiting = DASH if step.waiting_s is None else f"{step.waiting_s:,.2f}"
        each = amount(scale(step.cpu_s_per_call, 1e3), resolve=False)
        lines.append(Line((label, f"{step.calls:,}", each, waiting)))
    return FigureTable("function", ["calls", "CPU ms\na call", "waiting s"], lines)


def explained(fit: Spent) -> Mapping[str, str]:
    """What each part is, in a few words, by its name."""
    return _EXPLAINED | (WATCHED if fit.is_watched and fit.hand_over is None else {})


def _whole(spent: Spent, groups: Sequence[str]) -> FigureTable:
    bands = [
        band(figure for domain, figure in spent.total.energy_j.items() if group(domain) == name) for name in groups
    ]
    lines = []
    for part in spent.parts:
        lines.append(_line(explained(spent)[part.name], part, groups, _STYLES.get(part.name, "")))
        steps = {"loader": spent.steps, "validation": spent.validation_steps}.get(part.name, ())
        lines += [_line(f"  {printable(step.name)}", step, groups, "") for step in steps]
    lines[-1] = replace(lines[-1], end_section=True)
    lines.append(_line(_EXPLAINED["total"], spent.total, groups, _STYLES["total"]))
    return FigureTable("", ["CPU s", *(f"{name} J\n{said}" for name, said in zip(groups, bands, strict=True))], lines)


def _line(label: str, part: EnergyPart, groups: Sequence[str], style: str) -> Line:
    joules = by_group(part.energy_j)
    cells = [amount(joules.get(name), resolve=False) for name in groups]
    # The rest of the machine's CPU seconds are in no total of this process's.
    cpu_s = None if part.name == "others" else part.cpu_s
    return Line((label, amount(cpu_s, resolve=False), *cells), style)


def _epochs(epochs: Sequence[Spent]) -> list[RenderableType]:
    lines = []
    for spent in epochs[-_EPOCHS_SHOWN:]:
        joules = (spent.total, spent.loader, spent.waiting, spent.model)
        cells = (_plain(part.total_j) for part in joules)
        lines.append(Line((printable(spent.name), f"{spent.wall_s:,.1f}", percent(spent.waiting_share), *cells)))
    shown = FigureTable("", ("s", "waiting", "total J", "loader J", "waiting J", "model J"), lines)
    if len(epochs) <= _EPOCHS_SHOWN:
        return [shown]
    return [Sentence(f"the last {_EPOCHS_SHOWN} of {len(epochs)} epochs:"), shown]


def _plain(figure: Figure) -> str:
    return DASH if figure.value is None else f"{figure.value:,.3g}".replace("-", "−")
