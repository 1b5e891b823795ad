"""A training run's energy as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.text import Text

from greenload.energy.figures import Figure
from greenload.energy.meters.base import MeterStatus
from greenload.report.columns import FigureTable, Line, Sentence
from greenload.report.rows import band, by_group, group
from greenload.report.terminal import without_figures
from greenload.text import DASH, amount, percent, printable
from greenload.training.spent import EnergyPart, Spent

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
_STYLES = {"idle": "dim", "others": "dim", "total": "bold"}
_EPOCHS_SHOWN = 20


def render_fit(
    fit: Spent, epochs: Sequence[Spent], meters: Sequence[MeterStatus], *, model: str, profile: str, ended: str
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
    if len(epochs) > 1:
        lines += _epochs(epochs)
    if profile:
        lines.append(Sentence(f"loader: costs a sample as profiled on {printable(profile)}{_band(fit)}", "dim"))
    lines += [Sentence(f"note: {printable(note)}") for note in fit.notes]
    lines += [Sentence(f"no figures for {printable(domain)}: {printable(why)}") for domain, why in fit.void.items()]
    lines += without_figures(meters)
    return Group(*lines)


def _band(spent: Spent) -> str:
    """How far measured joules may be off because they were profiled alone."""
    total, loader = spent.total.energy_j, spent.loader.energy_j
    bands = [figure.systematic for domain, figure in loader.items() if total[domain].provenance == "measured"]
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
    return f"waiting for data: {spent.passed.waiting_s:,.2f} s, {percent(spent.waiting_share)} of the training's time"


def _whole(spent: Spent, groups: Sequence[str]) -> FigureTable:
    bands = [
        band(figure for domain, figure in spent.total.energy_j.items() if group(domain) == name) for name in groups
    ]
    lines = []
    for part in spent.parts:
        lines.append(_line(_EXPLAINED[part.name], part, groups, _STYLES.get(part.name, "")))
        if part.name == "loader":
            lines += [_line(f"  {printable(step.name)}", step, groups, "") for step in spent.steps]
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
