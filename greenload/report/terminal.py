"""A report as a table for the terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from greenload.energy.figures import Figure, scale
from greenload.report import table
from greenload.report.data import Report

_UNRESOLVED = "unres."
_LONGEST_WORD = 24
"""Columns up to which a word of a name isn't broken where the table fits."""
_SHORTEST_NAME = 12
"""Columns that a name keeps where it doesn't."""
_UNBOUNDED = 10_000
_READ = "read"
_STYLES = {"step": "", "unattributed": "italic", "idle": "dim", "total": "bold"}


def render(report: Report) -> RenderableType:
    """The report for a rich console: what was profiled where, what is measured, and a row per step.

    Where more than 5 % of the full run is in no step, or that couldn't be checked, it comes first. Made for 80 columns
    or more. Columns that would say nothing are left out (one backend for all, next to no joules); the JSON has them.

    Example:
        >>> rich.print(render(Report.load("report.json")))
    """
    lines: list[RenderableType] = []
    if warning := table.warning(report):
        lines.append(Text(warning, style="bold red"))
    lines.append(Text.assemble((table.title(report), "bold"), ": ", table.subject(report)))
    lines.append(Text(table.machine(report), style="dim"))
    groups = table.notable_groups(report)
    lines.append(Text(table.provenance(report, groups)))
    if cached := table.cached(report):
        lines.append(Text(cached))
    lines.append(_Fitted(report))
    lines.append(Text(table.throughput(report)))
    steps = [row.energy_mj for row in table.rows(report) if row.kind == "step"]
    if any(
        name in energy and energy[name].value is not None and energy[name].unresolved
        for energy in steps
        for name in groups
    ):
        lines.append(Text(f"{_UNRESOLVED}: unresolved, the meter can't tell it from zero", style="dim"))
    left_out = report.skipped[: table.RECORDS_SHOWN]
    lines += [Text(f"left out: {table.printable(f'{one.name}: {one.reason}')}") for one in left_out]
    if more := table.more_left_out(report):
        lines.append(Text(more))
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


@dataclass(frozen=True)
class _Fitted:
    """The table without the last columns that whole names and numbers leave no room for, and a line that names them."""

    report: Report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = table.notable_groups(self.report) + ([_READ] if table.shows_reading(self.report) else [])

        def needed(count: int) -> int:
            tight = _table(self.report, columns[:count], max_word=_LONGEST_WORD, tight=True)
            return Measurement.get(console, options.update(width=_UNBOUNDED), tight).maximum

        fitting = next((n for n in range(len(columns), 0, -1) if needed(n) <= options.max_width), 0)
        whole = needed(fitting) <= options.max_width
        yield _table(self.report, columns[:fitting], max_word=_LONGEST_WORD if whole else _SHORTEST_NAME)
        if fitting < len(columns):
            yield Text(f"no room for {', '.join(columns[fitting:])}: in the JSON", style="dim")


def _table(report: Report, columns: Sequence[str], *, max_word: int, tight: bool = False) -> Table:
    """The table with some groups and perhaps `_READ`; ``tight``: with names no wider than they must be."""
    groups = [name for name in columns if name != _READ]
    shown_bytes = _READ in columns
    rows = table.rows(report)
    one_backend = all(step.backend == report.plan.get("backend") for step in report.steps)
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)

    def add_names(head: str, texts: Iterable[str]) -> None:
        longest = max(len(word) for text in (head, *texts) for word in text.split())
        least = min(longest, max_word)
        found.add_column(head, overflow="fold", min_width=least, max_width=least if tight else None)

    add_names("step", (row.label for row in rows))
    if not one_backend:
        add_names("backend", (row.backend for row in rows))
    found.add_column("CPU\nms/image", justify="right", no_wrap=True)
    found.add_column("share", justify="right", no_wrap=True)
    for name in groups:
        modelled = table.band(table.group_figures(report, name))
        suffix = "" if modelled == "measured" else f"\n{modelled.split(' ')[0]}"
        found.add_column(f"{name}\nmJ{suffix}", justify="right", no_wrap=True)
    if shown_bytes:
        found.add_column(f"{_READ}\nkB", justify="right", no_wrap=True)
    for row in rows:
        step = row.kind == "step"
        cells = [row.label] if one_backend else [row.label, row.backend]
        cells += [_cell(row.cpu_ms, step), table.percent(row.share) if row.cpu_ms else ""]
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
