"""A report as one self-contained page: nothing is fetched, everything that came from outside is escaped."""

from __future__ import annotations

import html as escaping
import json
import textwrap
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from greenload.energy.figures import PROVENANCES, Figure, scale, sum_figures
from greenload.errors import ReportError
from greenload.report import table
from greenload.report.data import Report
from greenload.report.table import Row

_LABEL_COLUMNS = 24
"""Longest line of a chart's label: more would leave no room for bars on a telephone."""
_DESCRIBED_LIMIT = 20_000
"""Characters of the pipeline's description that the page shows; a list of files can be far longer."""


def html(report: Report) -> str:
    """The page: headline figures, bars per step, the plan, the table, meters and machine; light, dark and on paper.

    Bars are solid where measured and hatched where modelled. CPU seconds come first unless a counter measures the
    processor's joules.

    Returns:
        HTML of about 5 MB, most of it plotly.js, which is part of the page.

    Raises:
        ReportError: jinja2 or plotly is missing.

    Example:
        >>> pathlib.Path("report.html").write_text(html(report), encoding="utf-8")
    """
    try:
        import jinja2
        import markupsafe
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ReportError(
            f"the page needs jinja2 and plotly, and {error.name} is missing: pip install 'greenload[report]'"
        ) from None
    source = (resources.files("greenload.report") / "page.html").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_finalize)
    page: str = environment.from_string(source).render(
        title=table.title(report),
        subject=table.subject(report),
        machine_line=table.machine(report),
        warning=table.warning(report),
        provenance=table.provenance(report),
        cached=table.cached(report),
        throughput=table.throughput(report),
        cards=_cards(report),
        charts=_charts(report),
        flow=_flow(report),
        heads=_heads(report),
        body=_body(report),
        meters=report.meters,
        skipped=report.skipped[: table.RECORDS_SHOWN],
        more_left_out=table.more_left_out(report),
        machine=_machine(report),
        described=_described(report),
        plotly=markupsafe.Markup(get_plotlyjs()),
    )
    return page


def _finalize(value: Any) -> Any:
    """Every plain string of the page without characters that can't be encoded or shown; line ends stay."""
    if type(value) is not str:
        return value
    return "\n".join(table.printable(line) for line in value.split("\n"))


def _cards(report: Report) -> list[dict[str, str]]:
    total = report.total
    cpu = {
        "label": "CPU time per image",
        "value": f"{table.amount(scale(total.cpu_s_per_sample, 1e3), resolve=False)} ms",
        "note": "user + system, measured",
    }
    cards = [cpu]
    energy = table.by_group(total.energy_j_per_sample)
    known = [one for one in energy.values() if one.value is not None]
    if energy:
        # Part of the domains alone would look like a cheaper pipeline, so what isn't in the sum is said.
        parts = [
            f"{name} {table.band([one])}" if one.value is not None else f"{name} unknown and left out"
            for name, one in energy.items()
        ]
        joules = {
            "label": "Energy per image",
            "value": f"{table.amount(scale(sum_figures(known), 1e3) if known else None, resolve=False)} mJ",
            "note": f"idle floor included; {', '.join(parts)}",
        }
        cards = [joules, cpu] if table.energy_leads(report) else [cpu, joules]
    rate = {
        "label": "Full speed",
        "value": f"{table.amount(report.full.samples_per_s, resolve=False)}",
        "note": "images per second, held out",
    }
    cards.append(rate)
    steps = [row for row in table.rows(report) if row.kind == "step" and row.share is not None]
    if steps:
        costliest = max(steps, key=lambda row: row.share or 0.0)
        cards.append({"label": "Costliest step", "value": table.percent(costliest.share), "note": costliest.label})
    return cards


def _charts(report: Report) -> list[dict[str, Any]]:
    rows = [row for row in table.rows(report) if row.kind in ("step", "unattributed")]
    cpu = _chart("cpu-chart", "CPU time per image", "CPU ms per image", rows, [_cpu_of(row) for row in rows])
    energies = [row.energy_mj for row in rows]
    if not any(energies):
        return [cpu]
    energy = _chart("energy-chart", "Energy per image, without the idle floor", "mJ per image", rows, energies)
    return [energy, cpu] if table.energy_leads(report) else [cpu, energy]


def _cpu_of(row: Row) -> dict[str, Figure]:
    return {"cpu": row.cpu_ms} if row.cpu_ms is not None else {}


def _chart(
    name: str, title: str, unit: str, rows: Sequence[Row], costs: Sequence[Mapping[str, Figure]]
) -> dict[str, Any]:
    """One stacked bar per row, a series per group that has any figure, and a whisker for what the figures sum to."""
    series = []
    for group in table.GROUPS:
        figures = [cost.get(group) for cost in costs]
        present = [figure for figure in figures if figure is not None and figure.value is not None]
        if not any(figure.value for figure in present):
            continue
        series.append(
            {
                "name": f"{group}, {table.band(present)}",
                "group": group,
                "provenance": sum_figures(present).provenance,
                "values": [figure.value if figure else None for figure in figures],
                "texts": [f"{group}: {table.amount(figure)}" for figure in figures],
            }
        )
    sums = [sum_figures(figure for figure in cost.values() if figure.value is not None) for cost in costs]
    shown = {one["provenance"] for one in series}
    bands = [label for label in (str(one["name"]) for one in series) if "±" in label]
    return {
        "id": name,
        "title": title,
        "unit": unit,
        "labels": [_label(row, total) for row, total in zip(rows, sums, strict=True)],
        "series": series,
        "totals": [total.value for total in sums],
        "below": [(total.value or 0.0) - (total.low or 0.0) for total in sums],
        "above": [(total.high or 0.0) - (total.value or 0.0) for total in sums],
        "provenances": [one for one in PROVENANCES if one in shown],
        "bands": "; ".join(bands),
    }


def _label(row: Row, total: Figure) -> str:
    """The row's name in Plotly's own markup, in which everything of ours is escaped."""
    lines = textwrap.wrap(row.label, _LABEL_COLUMNS, max_lines=3, placeholder=" …") or [""]
    text = "<br>".join(escaping.escape(line) for line in lines)
    return f"{text}<br><i>unresolved</i>" if total.unresolved and row.kind == "step" else text


def _flow(report: Report) -> list[dict[str, str]]:
    planned = report.plan.get("steps")
    specs = (
        {one["name"]: one.get("out") for one in planned if isinstance(one, dict) and "name" in one}
        if isinstance(planned, list)
        else {}
    )
    boxes = []
    for step in report.steps:
        size = table.bytes_text(step.bytes_out_per_sample) if step.bytes_out_per_sample is not None else ""
        spec = specs.get(step.name)
        boxes.append(
            {
                "label": table.step_label(step),
                "backend": step.backend,
                "method": step.method,
                "cpu": f"{table.amount(scale(step.cpu_s_per_sample, 1e3))} CPU ms".replace(
                    "unresolved CPU ms", "unresolved"
                ),
                "out": ", ".join(part for part in (str(spec) if spec else "", size) if part),
            }
        )
    return boxes


def _heads(report: Report) -> list[str]:
    heads = ["step", "backend", "CPU ms", "share of CPU"]
    heads += [f"{name} mJ, {table.band(table.group_figures(report, name))}" for name in table.groups(report)]
    return [*heads, "read"]


def _body(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "kind": row.kind,
            "cells": [
                {"text": row.label, "kind": "", "hint": ""},
                {"text": row.backend, "kind": "", "hint": ""},
                _cell(row.cpu_ms, row),
                {"text": table.percent(row.share) if row.cpu_ms else "", "kind": "", "hint": ""},
                *(_cell(row.energy_mj.get(name, Figure.missing()), row) for name in table.groups(report)),
                _read(row),
            ],
        }
        for row in table.rows(report)
    ]


def _cell(figure: Figure | None, row: Row) -> dict[str, str]:
    if figure is None:
        return {"text": "", "kind": "", "hint": ""}
    text = table.amount(figure, resolve=row.kind == "step")
    kind = "unresolved" if text == "unresolved" else "" if figure.provenance == "measured" else "modelled-cell"
    # What is unresolved is still known to be no more than the end of its interval.
    hint = f"95 %: {figure.low:.3g} to {figure.high:.3g}" if figure.low is not None else "no meter could say"
    return {"text": text, "kind": kind, "hint": hint}


def _read(row: Row) -> dict[str, str]:
    known = row.device_bytes is not None and row.device_bytes.value is not None
    text = table.bytes_text(row.device_bytes.value) if known and row.device_bytes else ""  # type: ignore[arg-type]
    return {"text": text, "kind": "", "hint": ""}


def _machine(report: Report) -> list[tuple[str, str]]:
    found = report.machine
    packages = ", ".join(f"{name} {version}" for name, version in sorted(found.packages.items()))
    return [
        ("processor", f"{found.cpu_model}, {found.cpus} CPUs"),
        ("memory", table.bytes_text(found.memory_bytes)),
        ("system", found.os),
        ("Python", found.python),
        ("packages", packages),
        *((name, str(value)) for name, value in found.extra.items()),
        ("profiled", report.created),
    ]


def _described(report: Report) -> str:
    text = json.dumps({"pipeline": report.pipeline, "plan": report.plan}, indent=1, default=str)
    return text if len(text) <= _DESCRIBED_LIMIT else f"{text[:_DESCRIBED_LIMIT]}\n… (the rest is in the JSON report)"
