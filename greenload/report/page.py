"""A report's page, as plain data for its template: headline, flow, advice, check, table, machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from greenload.energy.attribution.observation import IN_PLACE
from greenload.energy.figures import PROVENANCES, Figure, scale, sum_figures
from greenload.machine import Machine
from greenload.report import charts, notes, rows
from greenload.report.charts import BarChart
from greenload.report.cost_records import ReportStep
from greenload.report.data import UNATTRIBUTED_LIMIT, Report
from greenload.report.rows import ReportRow
from greenload.report.views import View, exceeded, views
from greenload.text import DASH, amount, bytes_text, call_count, percent

_DESCRIBED_LIMIT = 20_000
"""Characters of the pipeline's description that the page shows; a list of files can be far longer."""


_SPEC_LIMIT = 120
_SPEC = re.compile(r"TensorSpec\(shape=(?P<shape>\([^)]*\)|<unknown>), dtype=tf\.(?P<dtype>\w+)(?:, name=[^)]*)?\)")


def page_values(report: Report) -> dict[str, Any]:
    """Everything that the template of one report's page shows."""
    over_time, shown = charts.timeline(report), views(report)
    return {
        "title": rows.title(report),
        "subject": rows.subject(report),
        "machine_line": rows.machine_line(report),
        "warning": rows.warning(report),
        "conditions": notes.conditions(report),
        "epochs": [_epoch(view, number) for number, view in enumerate(shown)],
        "between": [note for note in (notes.epochs(report), notes.iterator_start(report)) if note],
        "checks": notes.checks(report.checks),
        "carbon_missing": notes.carbon_missing(report.carbon) if report.carbon else "",
        "noun": rows.noun(report),
        "cards": cards(report),
        "chips": chips(report),
        "provenance": rows.provenance(report),
        "advice": advice(report),
        "flow": flow(report),
        "rate": rows.throughput(report) + (f", {shown[-1].name.lower()}" if report.first_epoch else ""),
        "timeline": over_time,
        "tips": [list(tip) for tip in over_time.tips] if over_time else [],
        "meters": report.meters,
        "skipped": report.skipped[: rows.RECORDS_SHOWN],
        "more_left_out": rows.more_left_out(report),
        "machine": machine_facts(report),
        "described": description(report),
    }


def _epoch(view: View, number: int) -> dict[str, Any]:
    """What the page shows of one kind of epoch."""
    report = view.report
    suffix = f"-{number}" if number else ""  # names of charts are unique in the page

    def named(chart: BarChart) -> BarChart:
        return replace(chart, name=f"{chart.name}{suffix}")

    check = charts.check_chart(report)
    return {
        "name": view.name,
        "text": view.text,
        "charts": [named(chart) for chart in charts.step_charts(report)],
        "counted": notes.counted(report),
        "clocks": notes.clocks(report),
        "together": notes.indistinguishable(report.together, report),
        "below_zero": rows.below_zero(report),
        "check": None if check is None else named(check),
        "checked": checked(view),
        "heads": heads(report),
        "body": body(view),
        "rate": rows.throughput(report),
    }


def energy_card(report: Report) -> dict[str, str] | None:
    """The joules of one sample over all domains; None where there are no domains."""
    energy = rows.by_group(report.total.energy_j_per_sample)
    known = [figure for figure in energy.values() if figure.value is not None]
    if not energy:
        return None
    # Part of the domains alone would look like a cheaper pipeline, so what isn't in the sum is said.
    summed = [name for name, figure in energy.items() if figure.value is not None]
    unknown = [f"{name} unknown and left out" for name, figure in energy.items() if figure.value is None]
    unknown += [f"{name} {notes.without_parts(parts)}" for name, parts in notes.missing_parts(report).items()]
    return {
        "label": f"Energy per {rows.noun(report)}",
        "value": f"{amount(scale(sum_figures(known, common=True), 1e3) if known else None, resolve=False)} mJ",
        "note": "; ".join([", ".join(summed), "idle floor included", *unknown]),
    }


def cpu_card(report: Report) -> dict[str, str]:
    """The CPU time of one sample."""
    return {
        "label": f"CPU time per {rows.noun(report)}",
        "value": f"{amount(scale(report.total.cpu_s_per_sample, 1e3), resolve=False)} ms",
        "note": "user + system, measured",
    }


def cards(report: Report) -> list[dict[str, str]]:
    """The headline figures, what leads first."""
    shown = views(report)
    leading = (energy_card, cpu_card) if rows.energy_leads(report) else (cpu_card, energy_card)
    headlines = [
        headline | {"label": f"{headline['label']}, {view.name.lower()}" if view.name else headline["label"]}
        for card in leading
        for view in shown
        if (headline := card(view.report))
    ]
    headlines.append(
        {
            "label": f"Full speed, {shown[-1].name.lower()}" if report.first_epoch else "Full speed",
            "value": f"{amount(report.full.samples_per_s, resolve=False)}",
            "note": f"{rows.noun(report)}s per second, held out",
        }
    )
    steps = [row for row in rows.report_rows(shown[0].report) if row.kind == "step" and row.share is not None]
    if steps:
        costliest = max(steps, key=lambda row: row.share or 0.0)
        epoch = f", {shown[0].name.lower()}" if shown[0].name else ""
        label = f"Costliest step{epoch}"
        headlines.append({"label": label, "value": percent(costliest.share), "note": costliest.label})
    if report.carbon:
        headlines.append(
            {
                "label": f"CO₂e per million {rows.noun(report)}s",
                "value": notes.grams(report.carbon),
                "note": notes.carbon_basis(report.carbon),
            }
        )
    return headlines


def chips(report: Report) -> list[dict[str, str]]:
    """What is measured and what is modelled, one chip each, and the sentence that sums it up."""
    shown = [{"kind": "measured", "text": "CPU seconds measured"}]
    for name in rows.groups(report):
        figures = rows.group_figures(report, name)
        kind = sum_figures(figures).provenance
        unknown = bool(figures) and all(figure.value is None for figure in figures)
        text = f"{name} joules unknown" if unknown else f"{name} joules {rows.band(figures)}"
        shown.append({"kind": kind if kind in PROVENANCES else "measured", "text": text})
    return shown


def advice(report: Report) -> list[dict[str, str]]:
    """The changes most worth making."""
    return [
        {
            "title": advice.title,
            "detail": advice.detail,
            "method": advice.method,
            "found_by": "remark" if advice.is_remark else rows.found_by(advice),
            "saves": "" if advice.is_remark else rows.saving(report, advice),
        }
        for advice in report.advice
    ]


def flow(report: Report) -> list[dict[str, Any]]:
    """The plan's boxes in order: ``{"branches": [{"name": …, "boxes": […]}]}``, inputs that are joined together in one.

    The main chain is a part with a single branch without a name.
    """
    first = report.first_epoch
    whole_s = {"first epoch": first.full.cpu_s_per_sample.value if first else None}
    shares = [
        rows.share_of(own.cpu_s_per_sample, whole_s.get(step.runs, report.full.cpu_s_per_sample.value))
        for own, step in zip(report.own_steps, report.steps, strict=True)
    ]
    specs, crossings = _specs(report), dict(rows.crossings(report))
    boxes = [
        _box(step, share, specs.get(step.name), k)
        | {"crosses": crossings.get(step.name, "")}
        | {"runs": "" if report.steps[k].runs == "every epoch" else f"in {report.steps[k].runs} only"}
        for k, (step, share) in enumerate(zip(report.own_steps, shares, strict=True))
    ]
    runs = [
        {"name": name, "boxes": [box for _, box in pairs]}
        for name, pairs in groupby(zip(report.steps, boxes, strict=True), key=lambda pair: pair[0].branch)
    ]
    return [{"branches": list(parts)} for _, parts in groupby(runs, key=lambda run: bool(run["name"]))]


def _specs(report: Report) -> Mapping[str, Any]:
    steps = rows.planned_parts(report, "steps")
    return {step["name"]: step.get("out") for step in steps if isinstance(step.get("name"), str)}


def _box(step: ReportStep, share: float | None, spec: object, number: int) -> dict[str, Any]:
    size = bytes_text(step.bytes_out_per_sample) if step.bytes_out_per_sample is not None else ""
    cost = amount(scale(step.cpu_s_per_sample, 1e3))
    share = None if cost in ("unresolved", DASH) else share  # as in the table
    return {
        "label": step.name,
        "stages": " + ".join(step.stages) if [step.name] != list(step.stages) else "",
        "backend": step.backend,
        "method": step.method if step.method == IN_PLACE else f"by {step.method}",
        "where": step.where,
        "cpu": cost if cost in ("unresolved", DASH) else f"{cost} CPU ms",
        "share": "" if share is None else percent(share),
        "width": round(100 * min(1.0, max(0.0, share or 0.0)), 1),
        "colour": f"s{number % charts.STEP_COLOURS}",
        "out": brief_spec(str(spec)) if spec else "",
        "size": size,
    }


def brief_spec(spec: str) -> str:
    """A spec in few words: TensorFlow's own text names every argument.

    Example:
        >>> brief_spec("(TensorSpec(shape=(None,), dtype=tf.float32, name=None), TensorSpec(shape=(), dtype=tf.int8))")
        '(float32 ?, int8)'
    """

    def short(match: re.Match[str]) -> str:
        sizes = [size.strip().replace("None", "?") for size in match["shape"].strip("()").split(",") if size.strip()]
        return " ".join(part for part in (match["dtype"], "×".join(sizes)) if part)

    text = _SPEC.sub(short, spec)
    return text if len(text) <= _SPEC_LIMIT else f"{text[:_SPEC_LIMIT]} …"


def checked(view: View) -> dict[str, str]:
    """The steps' sum against the held-out run, in words."""
    report = view.report
    full, rest = report.full.cpu_s_per_sample, report.unattributed.cpu_s_per_sample
    if not full.value or rest.value is None:
        return {"kind": "open", "text": rows.warning(report) or "The check could not be made"}
    share = rest.value / full.value
    left = amount(scale(rest, 1e3), resolve=False)
    text = (
        f"The steps, measured apart, sum to {percent(1 - share)} of the held-out run: "
        f"{left} CPU ms per {rows.noun(report)} ({percent(share)}) is in no step"
    )
    over = exceeded(view)
    verdict = (
        "which windows can't tell from nothing"
        if abs(share) > UNATTRIBUTED_LIMIT
        else f"within the limit of {percent(UNATTRIBUTED_LIMIT)}"
    )
    return {"kind": "failed" if over else "held", "text": text if over else f"{text}; {verdict}"}


def heads(report: Report) -> list[str]:
    """The table's columns."""
    columns = ["step", "backend", "CPU ms", "share of CPU"]
    columns += ["CPU ms counted"] if rows.shows_counted(report) else []
    columns += ["ms waiting"] if rows.shows_waiting(report) else []
    lacking = notes.missing_parts(report)
    for name in rows.groups(report):
        parts = f", without {', '.join(lacking[name])}" if name in lacking else ""
        columns.append(f"{name} mJ, {rows.band(rows.group_figures(report, name))}{parts}")
    return [*columns, "read", *(["reads"] if rows.shows_reads(report) else [])]


def body(view: View) -> list[dict[str, Any]]:
    """The table's rows."""
    report = view.report
    return [
        {
            "kind": row.kind,
            "label": row.label,
            "branch": row.branch,
            "where": row.where,
            "cells": list(_cells(report, row)),
        }
        for row in rows.view_rows(view)
    ]


def _cells(report: Report, row: ReportRow) -> Iterator[dict[str, str]]:
    yield _plain(row.backend)
    yield _cell(row.cpu_ms, row)
    yield _plain(percent(row.share) if row.cpu_ms else "")
    if rows.shows_counted(report):
        yield _cell(row.counted_ms, row)
    if rows.shows_waiting(report):
        yield _cell(row.waiting_ms, row)
    for name in rows.groups(report):
        yield _cell(row.energy_mj.get(name, Figure.missing()), row)
    read = row.device_bytes.value if row.device_bytes else None
    yield _plain("" if read is None else bytes_text(read))
    if rows.shows_reads(report):
        yield _plain("") if row.kind == "idle" else _cell(row.reads, row) | {"text": call_count(row.reads), "kind": ""}


def _plain(text: str) -> dict[str, str]:
    return {"text": text, "kind": "", "hint": ""}


def _cell(figure: Figure | None, row: ReportRow) -> dict[str, str]:
    if figure is None:
        return _plain("")
    text = amount(figure, resolve=row.kind == "step")
    kind = "unresolved" if text == "unresolved" else "" if figure.provenance == "measured" else "modelled-cell"
    # What is unresolved is still known to be no more than the end of its interval.
    hint = f"95 %: {figure.low:.3g} to {figure.high:.3g}" if figure.low is not None else "no meter could say"
    return {"text": text, "kind": kind, "hint": hint}


def machine_facts(report: Report) -> list[tuple[str, str]]:
    """What the figures were found on, line by line."""
    return [*machine_rows(report.machine), ("profiled", report.created)]


def machine_rows(machine: Machine) -> list[tuple[str, str]]:
    """A machine, line by line."""
    packages = ", ".join(f"{name} {version}" for name, version in sorted(machine.packages.items()))
    return [
        ("processor", f"{machine.cpu_model}, {machine.cpus} CPUs"),
        ("memory", bytes_text(machine.memory_bytes)),
        ("system", machine.os),
        ("Python", machine.python),
        ("packages", packages),
        *((name, DASH if value is None else str(value)) for name, value in machine.extra.items()),
    ]


def description(report: Report) -> str:
    """The pipeline and its plan as JSON, cut where they are long."""
    text = json.dumps({"pipeline": report.pipeline, "plan": report.plan}, indent=1, default=str)
    return text if len(text) <= _DESCRIBED_LIMIT else f"{text[:_DESCRIBED_LIMIT]}\n… (the rest is in the JSON report)"
