"""A report as a table for the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from greenload.energy.figures import Figure, scale
from greenload.energy.meters.base import MeterStatus
from greenload.report import notes, rows
from greenload.report.columns import Facts, FigureTable, Line, Sentence, plain_text
from greenload.report.comparison import SEPARATE, Comparison, Difference, times, verdict
from greenload.report.data import Report
from greenload.report.views import View, views
from greenload.text import DASH, amount, call_count, percent, printable

_UNRESOLVED = "unres."
_MEANT = {"": "", "good": "green", "doubt": "yellow", "failed": "bold red"}
_STYLES = {"step": "", "unattributed": "italic", "idle": "dim", "total": "bold"}


def render_report(report: Report) -> RenderableType:
    """The report for a rich console: what was profiled where, what is measured, and a row per step.

    Where more than 5 % of the held-out run is in no step, or that couldn't be checked, it comes first; budgets come
    last, where a log ends. Columns that have no room stand in a further table below; those that would say nothing are
    left out (one backend for all, next to no joules), and the JSON has them.

    Example:
        >>> rich.print(render_report(Report.load("report.json")))
    """
    lines: list[RenderableType] = []
    if warning := rows.warning(report):
        lines.append(Sentence(warning, "bold red"))
    lines.append(Sentence(Text.assemble((rows.title(report), "bold"), ": ", rows.subject(report))))
    lines.append(Sentence(rows.machine_line(report), "dim"))
    groups = rows.notable_groups(report)
    lines.append(Sentence(rows.provenance(report, groups)))
    lines += map(_note, notes.conditions(report))
    shown = views(report)
    for view in shown:
        lines += _view(view)
    lines += [
        Sentence(f"{name} mJ in part: {notes.without_parts(parts)}", "yellow")
        for name, parts in notes.missing_parts(report).items()
        if name in groups
    ]
    lines += [_note(note) for note in (notes.epochs(report), notes.iterator_start(report)) if note]
    if carbon := notes.carbon(report.carbon, report):
        lines.append(_note(carbon))
    if crossing := "; ".join(text for _, text in rows.crossings(report)):
        lines.append(Sentence(f"crosses, an image: {crossing}", "dim"))
    steps = [row.energy_mj for view in shown for row in rows.report_rows(view.report) if row.kind == "step"]
    if any(
        name in energy and energy[name].value is not None and energy[name].unresolved
        for energy in steps
        for name in groups
    ):
        lines.append(Sentence(f"{_UNRESOLVED}: unresolved, the meter can't tell it from zero", "dim"))
    lines += [Sentence(below, "dim") for view in shown if (below := rows.below_zero(view.report))]
    lines += _advice(report)
    left_out = report.skipped[: rows.RECORDS_SHOWN]
    lines += [Sentence(f"left out: {printable(f'{record.name}: {record.reason}')}") for record in left_out]
    if more := rows.more_left_out(report):
        lines.append(Sentence(more))
    lines += without_figures(report.meters)
    if report.checks:
        lines.append(Sentence("Budgets and baseline", "bold"))
    lines += map(_note, notes.checks(report.checks))
    return Group(*lines)


def without_figures(meters: Iterable[MeterStatus]) -> list[RenderableType]:
    """A line for each meter that gave no figures, and why."""
    return [
        Sentence(f"no figures for {printable(f'{meter.domain}: {meter.reason}')}", "dim")
        for meter in meters
        if not meter.usable
    ]


def _note(note: notes.Note) -> RenderableType:
    return Sentence(note.text, _MEANT[note.kind])


def render_comparison(comparison: Comparison) -> RenderableType:
    """Two reports for a rich console: how machine and setup differ, then totals and steps, with ratios b / a.

    Example:
        >>> rich.print(render_comparison(compare(Report.load("before.json"), Report.load("after.json"))))
    """
    lines: list[RenderableType] = []
    if comparison.machines:
        unlike = "Not the same machine or versions: differences below may be theirs, not the pipeline's"
        lines.append(Sentence(unlike, "bold red"))
        lines.append(render_differences(comparison.machines))
    for letter, report in (("A", comparison.a), ("B", comparison.b)):
        lines.append(Sentence(Text.assemble((f"{letter}  {rows.title(report)}", "bold"), ": ", rows.subject(report))))
        if warning := rows.warning(report):
            lines.append(Sentence(warning, "bold red", indent=3))
    if comparison.setups:
        lines.append(render_differences(comparison.setups))
    table_lines = []
    for pair in comparison.pairs:
        change = pair.changes["CPU"]
        if change.a is not None or change.b is not None:
            fate = {"A": "removed", "B": "added"}.get(pair.only) or verdict(change)
            resolve = pair.kind == "step"
            cells = (pair.name, _cell(change.a, resolve), _cell(change.b, resolve), times(change.ratio), fate)
            table_lines.append(Line(cells, _STYLES[pair.kind], end_section=pair.kind == "total"))
    for change in comparison.totals[1:]:
        sides = (_cell(change.a, False), _cell(change.b, False))
        table_lines.append(Line((f"{change.name}, {change.unit}", *sides, times(change.ratio), verdict(change))))
    heads = ("A", "B", "B / A (95 %)", "B is")
    lines.append(FigureTable(f"CPU ms/{rows.noun(comparison.a)}", heads, table_lines, left=frozenset({"B is"})))
    unclear = "unclear: the interval of B − A holds zero"
    lines += [Sentence(note, "dim") for note in (unclear, SEPARATE, comparison.incomparable) if note]
    return Group(*lines)


def render_differences(differences: Iterable[Difference]) -> RenderableType:
    """What two reports don't share, a row each."""
    return Facts(
        ("", "A", "B"),
        [[printable(part) for part in (difference.name, difference.a, difference.b)] for difference in differences],
    )


def _advice(report: Report) -> list[RenderableType]:
    """The changes most worth making; what was tried stands apart from what is only worked out."""
    if not report.advice:
        return []
    lines: list[RenderableType] = [Sentence("Worth changing first", "bold")]
    for number, advice in enumerate(report.advice, 1):
        lines.append(Sentence(f"{number}. {printable(advice.title)}"))
        if not advice.is_remark:
            saved = f"{rows.found_by(advice)}: saves {rows.saving(report, advice)}"
            lines.append(Sentence(saved, "green" if advice.method == "trial" else "italic", indent=3))
        if advice.detail:
            lines.append(Sentence(printable(advice.detail), "dim", indent=3))
    return lines


def report_text(report: Report | Comparison, width: int = 100) -> str:
    """What `render_report` or `render_comparison` shows as plain text, ``width`` columns wide, without colour."""
    return plain_text(render_report(report) if isinstance(report, Report) else render_comparison(report), width) + "\n"


def _view(view: View) -> list[RenderableType]:
    """The table of one kind of epoch, with its name above it, and notes on its figures below."""
    report = view.report
    shown: list[RenderableType] = []
    if view.name:
        shown += [Text(""), Sentence(Text.assemble((view.name, "bold"), ": ", view.text))]
    shown += [_table(view), Sentence(rows.throughput(report))]
    below = [*notes.indistinguishable(report.together, report), notes.counted(report), notes.clocks(report)]
    return shown + [_note(note) for note in below if note]


def _table(view: View) -> FigureTable:
    """A row for each step, what no step explains, idle power and the total."""
    report = view.report
    groups = rows.notable_groups(report)
    noun, shown, lacking = rows.noun(report), rows.view_rows(view), notes.missing_parts(report)
    one_backend = all(step.backend == report.plan.get("backend") for step in report.steps)
    reading, reads, counted = rows.shows_reading(report), rows.shows_reads(report), rows.shows_counted(report)
    heads = ([] if one_backend else ["backend"]) + [f"CPU\nms/{noun}", "share"] + (["counted\nms"] if counted else [])
    heads += ["waiting\nms"] if (waiting := rows.shows_waiting(report)) else []
    heads += [_group_head(report, name, name in lacking) for name in groups]
    heads += (["read\nkB"] if reading else []) + ([f"reads\n/{noun}"] if reads else [])
    lines, branch = [], ""
    for row, following in itertools.pairwise([*shown, None]):
        assert row is not None  # only the last pair's second is
        if row.branch != branch and row.branch:
            lines.append(Line((Text(f"input {row.branch}", style="dim italic"),)))
        branch = row.branch
        step = row.kind == "step"
        cells: list[str | Text] = [_name(row)] if one_backend else [_name(row), row.backend]
        cells += [_cell(row.cpu_ms, step), percent(row.share) if row.cpu_ms else ""]
        cells += [_cell(row.counted_ms, step)] if counted else []
        cells += [_cell(row.waiting_ms, False)] if waiting else []
        cells += [_energy(row.energy_mj, name, step) for name in groups]
        cells += [_cell(row.device_bytes and scale(row.device_bytes, 1e-3), step)] if reading else []
        cells += ["" if row.kind == "idle" else call_count(row.reads)] if reads else []
        # The last step and the total are followed by a rule.
        last = step and following is not None and following.kind != "step"
        lines.append(Line(tuple(cells), _STYLES[row.kind], end_section=last or row.kind == "total"))
    return FigureTable("step", heads, lines, left=frozenset({"backend"}))


def _group_head(report: Report, name: str, in_part: bool) -> str:
    modelled = rows.band(rows.group_figures(report, name))
    suffix = "" if modelled == "measured" else f"\n{modelled.split(' ')[0]}"
    return f"{name}\nmJ{suffix}" + ("\nin part" if in_part else "")


def _name(row: rows.ReportRow) -> Text:
    """The step's label, set in under its side input, with where it was written below."""
    margin = "  " if row.branch else ""
    where = [(f"\n{margin}{row.where}", "dim")] if row.where else []
    return Text.assemble(margin + row.label, *where)


def _cell(figure: Figure | None, resolve: bool) -> str:
    return "" if figure is None else amount(figure, resolve=resolve)


def _energy(energy: Mapping[str, Figure], name: str, resolve: bool) -> str:
    """The value alone, cut where its interval stops supporting digits: four columns of intervals don't fit."""
    if name not in energy:
        return DASH
    shown = amount(energy[name], resolve=resolve).split(" ±")[0]
    return _UNRESOLVED if shown == "unresolved" else shown
