"""The page that compares two reports, as plain data for its template."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from greenload.energy.figures import Figure
from greenload.report import charts, notes, rows
from greenload.report.comparison import SEPARATE, Change, Comparison, times, verdict
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
        "charts": [_chart(comparison, "CPU", "ms")] + ([_energy(comparison, groups)] if groups else []),
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


def _chart(comparison: Comparison, name: str, unit: str) -> charts.BarChart:
    """Two bars a step: report A's over report B's."""
    stacks = [
        [(letter, [(name, figure)] if figure else []) for letter, figure in _both(pair.changes.get(name))]
        for pair in _shown(comparison)
    ]
    return _pairs(comparison, "cpu-chart", "CPU seconds", f"CPU {unit} per {rows.noun(comparison.a)}", unit, stacks)


def _energy(comparison: Comparison, groups: list[str]) -> charts.BarChart:
    stacks = []
    for pair in _shown(comparison):
        parts: dict[str, list[tuple[str, Figure]]] = {"A": [], "B": []}
        for group in groups:
            for letter, figure in _both(pair.changes.get(group)):
                parts[letter] += [(group, figure)] if figure is not None else []
        stacks.append(list(parts.items()))
    return _pairs(
        comparison, "energy-chart", "Joules", f"mJ per {rows.noun(comparison.a)}, without the idle floor", "mJ", stacks
    )


def _shown(comparison: Comparison) -> list[Any]:
    return [pair for pair in comparison.pairs if pair.kind == "step"]


def _both(change: Change | None) -> list[tuple[str, Figure | None]]:
    return [("A", change.a if change else None), ("B", change.b if change else None)]


def _pairs(
    comparison: Comparison,
    name: str,
    title: str,
    unit: str,
    short: str,
    stacks: list[list[tuple[str, list[tuple[str, Figure]]]]],
) -> charts.BarChart:
    axis = charts.axis_of([[figure for _, figure in figures] for pair in stacks for _, figures in pair])
    bars: list[charts.Bar] = []
    used: dict[str, str] = {}
    for pair, stack in zip(_shown(comparison), stacks, strict=True):
        present = [(letter, figures) for letter, figures in stack if pair.only in ("", letter)]
        for letter, figures in present:
            parts = []
            for group, figure in figures:
                group = "cpu" if group == "CPU" else group
                label = "CPU time" if name == "cpu-chart" else group
                classes = f"{group} {figure.provenance}"
                used.setdefault(classes, f"{label}, {rows.band([figure])}")
                parts.append(charts.BarPart(label, f"{classes} {letter.lower()}", figure))
            made = charts.bar(f"{letter}: {pair.label}", parts, axis, short)
            if pair.only:
                made = replace(made, label=f"{made.label} (not in {'B' if letter == 'A' else 'A'})", kind="step end")
            elif letter == "B":
                made = replace(made, label="B", kind="step end")
            bars.append(made)
    return charts.BarChart(name, title, unit, axis, tuple(bars), tuple(used.items()))
