"""A report as a table for the terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from greenload.energy.figures import Figure, scale
from greenload.report import table
from greenload.report.data import Report

_UNRESOLVED = "unres."
_STYLES = {"step": "", "unattributed": "italic", "idle": "dim", "total": "bold"}


def render(report: Report) -> RenderableType:
    """The report for a rich console: what was profiled where, what is measured, and a row per step.

    Where more than 5 % of the full run is in no step, that comes first. Fits 100 columns.

    Example:
        >>> rich.print(render(Report.load("report.json")))
    """
    lines: list[RenderableType] = []
    if warning := table.warning(report):
        lines.append(Text(warning, style="bold red"))
    lines.append(Text.assemble((table.title(report), "bold"), ": ", table.subject(report)))
    lines.append(Text(table.machine(report), style="dim"))
    lines.append(Text(table.provenance(report)))
    lines.append(_table(report))
    lines.append(Text(table.throughput(report)))
    if any(one.unresolved for row in table.rows(report) if row.kind == "step" for one in row.energy_mj.values()):
        lines.append(Text(f"{_UNRESOLVED}: unresolved, the meter can't tell it from zero", style="dim"))
    lines += [Text(f"without a cost: {table.printable(f'{one.name}: {one.reason}')}") for one in report.skipped]
    lines += [
        Text(f"no figures for {table.printable(f'{one.domain}: {one.reason}')}", style="dim")
        for one in report.meters
        if not one.usable
    ]
    return Group(*lines)


def text(report: Report, width: int = 100) -> str:
    """What `render` shows as plain text, ``width`` columns wide, without colour."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(render(report))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _table(report: Report) -> Table:
    groups = table.groups(report)
    rows = table.rows(report)
    shown_bytes = any(row.device_bytes is not None and row.device_bytes.value for row in rows)
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)
    found.add_column("step", overflow="fold", min_width=12)
    found.add_column("backend", overflow="fold")
    found.add_column("CPU\nms/image", justify="right", no_wrap=True)
    found.add_column("share", justify="right", no_wrap=True)
    for name in groups:
        modelled = table.band(table.group_figures(report, name))
        suffix = "" if modelled == "measured" else f"\n{modelled.split(' ')[0]}"
        found.add_column(f"{name}\nmJ{suffix}", justify="right", no_wrap=True)
    if shown_bytes:
        found.add_column("read\nkB", justify="right", no_wrap=True)
    for row in rows:
        step = row.kind == "step"
        cells = [row.label, row.backend, _cell(row.cpu_ms, step), table.percent(row.share) if row.cpu_ms else ""]
        cells += [_energy(row.energy_mj, name, step) for name in groups]
        if shown_bytes:
            cells.append(_kilobytes(row.device_bytes, step))
        # The last step and the total are followed by a rule.
        last = row.kind == "step" and rows[rows.index(row) + 1].kind != "step"
        found.add_row(*(Text(cell) for cell in cells), style=_STYLES[row.kind], end_section=last or row.kind == "total")
    return found


def _cell(figure: Figure | None, resolve: bool) -> str:
    return "" if figure is None else table.amount(figure, resolve=resolve)


def _energy(energy: Mapping[str, Figure], name: str, resolve: bool) -> str:
    """The value alone, cut where its interval stops supporting digits: four columns of intervals don't fit."""
    if name not in energy:
        return table.DASH
    shown = table.amount(energy[name], resolve=resolve).split(" ±")[0]
    return _UNRESOLVED if shown == "unresolved" else shown


def _kilobytes(figure: Figure | None, resolve: bool) -> str:
    return "" if figure is None else table.amount(scale(figure, 1e-3), resolve=resolve)
