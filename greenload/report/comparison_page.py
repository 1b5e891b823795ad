"""The page that compares two reports, as plain data for its template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from greenload.energy.figures import Figure
from greenload.report import charts, notes, rows
from greenload.report.comparison import SEPARATE, Change, Comparison, RowPair, times, verdict
from greenload.report.data import Report
from greenload.text import amount


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """Everything that the template of two reports' page shows."""
    a, b = comparison.a, comparison.b
    lead = "energy" if rows.energy_leads(a) and rows.energy_leads(b) else "cpu"
    groups = [name for name in rows.GROUPS if name in {*rows.notable_groups(a), *rows.notable_groups(b)}]
    return {
        "title": rows.title(a) if rows.title(a) == rows.title(b) else f"{rows.title(a)} and {rows.title(b)}",
        "reports": [_report("A", a), _report("B", b)],
        "machines": comparison.machines,
        "setups": comparison.setups,
        "separate": SEPARATE,
        "incomparable": comparison.incomparable,
        "totals": [_total(change) for change in comparison.totals],
        "cards": [_card(change) for change in comparison.totals if change.ratio is not None],
        "noun": rows.noun(a),
        "charts": _charts(comparison, groups),
        "lead": lead,
        "groups": groups,
        "tables": [{"name": name, "rows": list(_rows(comparison, name))} for name in ("CPU", *groups)],
    }


def _report(letter: str, report: Report) -> dict[str, str]:
    return {
        "letter": letter,
        "title": rows.title(report),
        "subject": rows.subject(report),
        "created": report.created,
        "warning": rows.warning(report) or "",
        "reading": note.text if (note := notes.reading(report)) else "",
    }


def _total(change: Change) -> dict[str, str]:
    return {
        "name": f"{change.name}, {change.unit}",
        "a": amount(change.a, resolve=False),
        "b": amount(change.b, resolve=False),
        "times": times(change.ratio),
        "verdict": verdict(change),
        "provenance": ""
        if change.a is None
        else rows.band([figure for figure in (change.a, change.b) if figure is not None]),
    }


def _card(change: Change) -> dict[str, str]:
    value, _, rest = times(change.ratio).partition(" (")
    return {"label": f"{change.name}, B / A", "value": f"× {value}", "note": f"{rest.rstrip(')')}; {verdict(change)}"}


def _rows(comparison: Comparison, name: str) -> Iterator[dict[str, str]]:
    for pair in comparison.pairs:
        change = pair.changes.get(name)
        if change is None or (change.a is None and change.b is None):
            continue
        resolve = pair.kind == "step"
        yield {
            "label": pair.label,
            "kind": pair.kind,
            "only": {"A": "removed", "B": "added"}.get(pair.only, ""),
            "a": "" if change.a is None else amount(change.a, resolve=resolve),
            "b": "" if change.b is None else amount(change.b, resolve=resolve),
            "difference": "" if change.difference is None else amount(change.difference, resolve=False),
            "times": times(change.ratio),
            "verdict": verdict(change),
        }


def _charts(comparison: Comparison, groups: Sequence[str]) -> list[charts.BarChart]:
    noun = rows.noun(comparison.a)
    cpu = _chart(comparison, "cpu-chart", "CPU seconds", f"CPU ms per {noun}", ["CPU"])
    if not groups:
        return [cpu]
    return [cpu, _chart(comparison, "energy-chart", "Joules", f"mJ per {noun}, without the idle floor", groups)]


def _chart(comparison: Comparison, name: str, title: str, unit: str, groups: Sequence[str]) -> charts.BarChart:
    """Each step's bar in A and, below it, its bar in B."""
    sides = [
        (pair, letter, _figures(pair, letter, groups))
        for pair in comparison.pairs
        if pair.kind == "step"
        for letter in ("A", "B")
        if pair.only in ("", letter)
    ]
    axis = charts.axis_of([list(figures.values()) for _, _, figures in sides])
    bars: list[charts.Bar] = []
    used: dict[str, str] = {}
    for pair, letter, figures in sides:
        parts = []
        for group, figure in figures.items():
            label = "CPU time" if group == "CPU" else group
            classes = f"{'cpu' if group == 'CPU' else group} {figure.provenance}"
            used.setdefault(classes, f"{label}, {rows.band([figure])}")
            parts.append(charts.BarPart(label, f"{classes} {letter.lower()}", figure))
        made = charts.bar(f"{letter}: {pair.label}", parts, axis, charts.short_unit(unit))
        if pair.only:
            made = replace(made, label=f"{made.label} (not in {'B' if letter == 'A' else 'A'})", kind="step end")
        elif letter == "B":
            made = replace(made, label="B", kind="step end")
        bars.append(made)
    return charts.BarChart(name, title, unit, axis, tuple(bars), tuple(used.items()))


def _figures(pair: RowPair, letter: str, groups: Sequence[str]) -> dict[str, Figure]:
    """A row's figures in A or in B, by group, where they are there."""
    changes = {group: pair.changes[group] for group in groups if group in pair.changes}
    figures = {group: change.a if letter == "A" else change.b for group, change in changes.items()}
    return {group: figure for group, figure in figures.items() if figure is not None}
