"""A report as a table for the terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from greenload.energy.figures import Figure, scale
from greenload.report import notes, table
from greenload.report.comparison import SEPARATE, Comparison, Difference, times, verdict
from greenload.report.data import Report

_UNRESOLVED = "unres."
_LONGEST_WORD = 24
"""Columns up to which a word of a name isn't broken where the table fits."""
_SHORTEST_NAME = 12
"""Columns that a name keeps where it doesn't."""
_UNBOUNDED = 10_000
_READ, _READS = "read", "reads"
_MEANT = {"": "", "good": "green", "doubt": "yellow", "failed": "bold red"}
_STYLES = {"step": "", "unattributed": "italic", "idle": "dim", "total": "bold"}


def render(report: Report) -> RenderableType:
    """The report for a rich console: what was profiled where, what is measured, and a row per step.

    Where more than 5 % of the full run is in no step, or that couldn't be checked, it comes first; budgets come last,
    where a log ends. Made for 80 columns or more. Columns that would say nothing are left out (one backend for all,
    next to no joules); the JSON has them.

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
    lines += map(_note, notes.conditions(report))
    lines.append(_Fitted(report))
    lines += [
        Text(f"{name} mJ in part: {notes.without(parts)}", style="yellow")
        for name, parts in notes.lacking(report).items()
        if name in groups
    ]
    lines.append(Text(table.throughput(report)))
    lines += map(_note, notes.together(report.together, report))
    if carbon := notes.carbon(report.carbon, report):
        lines.append(_note(carbon))
    if crossing := "; ".join(text for _, text in table.crossings(report)):
        lines.append(Text(f"crosses, an image: {crossing}", style="dim"))
    steps = [row.energy_mj for row in table.rows(report) if row.kind == "step"]
    if any(
        name in energy and energy[name].value is not None and energy[name].unresolved
        for energy in steps
        for name in groups
    ):
        lines.append(Text(f"{_UNRESOLVED}: unresolved, the meter can't tell it from zero", style="dim"))
    if below := table.below_zero(report):
        lines.append(Text(below, style="dim"))
    lines += _advice(report)
    left_out = report.skipped[: table.RECORDS_SHOWN]
    lines += [Text(f"left out: {table.printable(f'{one.name}: {one.reason}')}") for one in left_out]
    if more := table.more_left_out(report):
        lines.append(Text(more))
    lines += [
        Text(f"no figures for {table.printable(f'{one.domain}: {one.reason}')}", style="dim")
        for one in report.meters
        if not one.usable
    ]
    if report.checks:
        lines.append(Text("Budgets and baseline", style="bold"))
    lines += map(_note, notes.checks(report.checks))
    return Group(*lines)


def _note(note: notes.Note) -> RenderableType:
    return Text(note.text, style=_MEANT[note.kind])


def render_comparison(found: Comparison) -> RenderableType:
    """Two reports for a rich console: how machine and setup differ, then totals and steps, with ratios b / a.

    Example:
        >>> rich.print(render_comparison(compare(Report.load("before.json"), Report.load("after.json"))))
    """
    lines: list[RenderableType] = []
    if found.machines:
        told = "Not the same machine or versions: differences below may be theirs, not the pipeline's"
        lines.append(Text(told, style="bold red"))
        lines.append(_differences(found.machines))
    for letter, report in (("A", found.a), ("B", found.b)):
        lines.append(Text.assemble((f"{letter}  {table.title(report)}", "bold"), ": ", table.subject(report)))
        if warning := table.warning(report):
            lines.append(Text(f"   {warning}", style="bold red"))
    if found.setups:
        lines.append(_differences(found.setups))
    noun = table.noun(found.a)
    both = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)
    both.add_column(f"CPU ms/{noun}", overflow="fold")
    for head in ("A", "B", "B / A (95 %)", "B is"):
        both.add_column(head, justify="left" if head == "B is" else "right", no_wrap=True)
    for pair in found.pairs:
        change = pair.changes["CPU"]
        if change.a is not None or change.b is not None:
            fate = {"A": "removed", "B": "added"}.get(pair.only) or verdict(change)
            resolve = pair.kind == "step"
            cells = (pair.name, _cell(change.a, resolve), _cell(change.b, resolve), times(change.ratio), fate)
            both.add_row(*map(Text, cells), style=_STYLES[pair.kind], end_section=pair.kind == "total")
    for change in found.totals[1:]:
        sides = (_cell(change.a, False), _cell(change.b, False))
        both.add_row(*map(Text, (f"{change.name}, {change.unit}", *sides, times(change.ratio), verdict(change))))
    lines.append(both)
    unclear = "unclear: the interval of B − A holds zero"
    lines += [Text(note, style="dim") for note in (unclear, SEPARATE, found.untold) if note]
    return Group(*lines)


def _differences(found: Iterable[Difference]) -> RenderableType:
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("", "A", "B"):
        shown.add_column(head, overflow="fold")
    for one in found:
        shown.add_row(*(Text(table.printable(part)) for part in (one.name, one.a, one.b)))
    return shown


def _advice(report: Report) -> list[RenderableType]:
    """The changes most worth making; what was tried stands apart from what is only worked out."""
    if not report.advice:
        return []
    lines: list[RenderableType] = [Text("Worth changing first", style="bold")]
    for number, one in enumerate(report.advice, 1):
        lines.append(Text(f"{number}. {table.printable(one.title)}"))
        saved = f"{table.found_by(one)}: saves {table.saving(report, one)}"
        lines.append(Padding(Text(saved, style="green" if one.method == "trial" else "italic"), (0, 0, 0, 3)))
        if one.detail:
            lines.append(Padding(Text(table.printable(one.detail), style="dim"), (0, 0, 0, 3)))
    return lines


def text(report: Report | Comparison, width: int = 100) -> str:
    """What `render` or `render_comparison` shows as plain text, ``width`` columns wide, without colour."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(render(report) if isinstance(report, Report) else render_comparison(report))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


@dataclass(frozen=True)
class _Fitted:
    """The table without the last columns that whole names and numbers leave no room for, and a line that names them."""

    report: Report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = table.notable_groups(self.report) + ([_READ] if table.shows_reading(self.report) else [])
        columns += [_READS] if table.shows_reads(self.report) else []

        def needed(count: int) -> int:
            tight = _table(self.report, columns[:count], max_word=_LONGEST_WORD, tight=True)
            return Measurement.get(console, options.update(width=_UNBOUNDED), tight).maximum

        fitting = next((n for n in range(len(columns), 0, -1) if needed(n) <= options.max_width), 0)
        whole = needed(fitting) <= options.max_width
        yield _table(self.report, columns[:fitting], max_word=_LONGEST_WORD if whole else _SHORTEST_NAME)
        if fitting < len(columns):
            yield Text(f"no room for {', '.join(columns[fitting:])}: in the JSON", style="dim")


def _table(report: Report, columns: Sequence[str], *, max_word: int, tight: bool = False) -> Table:
    """The table with some groups, perhaps `_READ` and `_READS`; ``tight``: with names no wider than they must be."""
    groups = [name for name in columns if name not in (_READ, _READS)]
    noun = table.noun(report)
    rows = table.rows(report)
    lacking = notes.lacking(report)
    one_backend = all(step.backend == report.plan.get("backend") for step in report.steps)
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)

    def add_names(head: str, texts: Iterable[str]) -> None:
        longest = max((len(word) for text in (head, *texts) for word in text.split()), default=1)
        least = min(longest, max_word)
        found.add_column(head, overflow="fold", min_width=least, max_width=least if tight else None)

    add_names("step", (row.label for row in rows))
    if not one_backend:
        add_names("backend", (row.backend for row in rows))
    found.add_column(f"CPU\nms/{noun}", justify="right", no_wrap=True)
    found.add_column("share", justify="right", no_wrap=True)
    for name in groups:
        modelled = table.band(table.group_figures(report, name))
        suffix = "" if modelled == "measured" else f"\n{modelled.split(' ')[0]}"
        suffix += "\nin part" if name in lacking else ""
        found.add_column(f"{name}\nmJ{suffix}", justify="right", no_wrap=True)
    if _READ in columns:
        found.add_column(f"{_READ}\nkB", justify="right", no_wrap=True)
    if _READS in columns:
        found.add_column(f"{_READS}\n/{noun}", justify="right", no_wrap=True)
    branch = ""
    for row in rows:
        if row.branch != branch and row.branch:
            found.add_row(Text(f"input {row.branch}", style="dim italic"))
        branch = row.branch
        step = row.kind == "step"
        cells: list[str | Text] = [_name(row)] if one_backend else [_name(row), row.backend]
        cells += [_cell(row.cpu_ms, step), table.percent(row.share) if row.cpu_ms else ""]
        cells += [_energy(row.energy_mj, name, step) for name in groups]
        if _READ in columns:
            cells.append(_kilobytes(row.device_bytes, step))
        if _READS in columns:
            cells.append("" if row.kind == "idle" else table.count(row.reads))
        # The last step and the total are followed by a rule.
        last = row.kind == "step" and rows[rows.index(row) + 1].kind != "step"
        shown = (cell if isinstance(cell, Text) else Text(cell) for cell in cells)
        found.add_row(*shown, style=_STYLES[row.kind], end_section=last or row.kind == "total")
    return found


def _name(row: table.Row) -> Text:
    """The step's label, set in under its side input, with where it was written below."""
    margin = "  " if row.branch else ""
    where = [(f"\n{margin}{row.where}", "dim")] if row.where else []
    return Text.assemble(margin + row.label, *where)


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
