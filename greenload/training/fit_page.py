"""A fit's report as a page: where the joules went, watts by step stacked over time, what the clocks saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from greenload.energy.figures import Figure, scale
from greenload.energy.meters.base import MeterStatus
from greenload.machine import Machine
from greenload.report.charts import BarChart, BarPart, axis_of, bar
from greenload.report.html import render
from greenload.report.rows import GROUPS, band, by_group, group
from greenload.text import DASH, amount, bytes_text, percent
from greenload.training.drift import Drift
from greenload.training.fit_table import PACES, buffers_text, drift_texts, explained
from greenload.training.spent import EnergyPart, Spent, WatchedPart
from greenload.training.stack import stack_chart
from greenload.training.timeline import Timeline, weighty


def fit_html(
    fit: Spent,
    epochs: Sequence[Spent],
    *,
    model: str,
    ended: str,
    machine: Machine,
    meters: Sequence[MeterStatus],
    timeline: Timeline | None,
    drift: Sequence[Drift],
) -> str:
    """The page of a fit. The arguments are what `FitReport` holds.

    Raises:
        ReportError: jinja2 is missing.
    """
    chart = None if timeline is None else stack_chart(timeline, fit, epochs)
    values = {
        "title": model,
        "subject": _subject(fit, len(epochs), ended),
        "machine_line": f"{machine.cpu_model}, {machine.cpus} CPUs, {machine.os}",
        "warning": fit.does_not_fit,
        "cards": list(_cards(fit)),
        "chart": chart,
        "tips": [] if chart is None else [list(tip) for tip in chart.tips],
        "parts_chart": _parts(fit),
        "functions": list(_functions(fit)),
        "drift": drift_texts(drift),
        "buffers": buffers_text(fit),
        "epochs": list(map(_epoch, epochs)),
        "notes": fit.notes,
        "void": [f"no figures for {domain}: {why}" for domain, why in fit.void.items()],
        "meters": meters,
    }
    return render("fit.html", values)


def _subject(fit: Spent, epochs: int, ended: str) -> str:
    passed = fit.passed
    samples = "an unknown number of samples" if passed.samples is None else f"{passed.samples:,} samples"
    ending = f", ended by {ended}" if ended else ""
    return f"{epochs} epoch{'' if epochs == 1 else 's'}, {samples} in {fit.wall_s:,.1f} s{ending}"


def _cards(fit: Spent) -> Iterator[dict[str, str]]:
    total = fit.total.total_j
    yield _card("Energy", f"{_joules(fit.total)} J", f"{band(weighty(fit.total))}, idle floor included")
    if total.value is not None and fit.wall_s > 0:
        yield _card("Power", f"{total.value / fit.wall_s:,.3g} W", "on average, idle floor included")
    if fit.loader.cpu_s is not None and fit.loader.cpu_s.value is not None:
        own = fit.work.cpu_s.value if fit.work.cpu_s is not None else None
        share = fit.loader.cpu_s.value / own if own else None
        only_functions = fit.is_watched and fit.hand_over is None
        what = f"of the training's CPU seconds{', its functions' if only_functions else ''}"
        yield _card("Loader", percent(share), f"{what}; {_joules(fit.loader)} J")
    if fit.passed.waiting_s is not None:
        yield _card("Waiting for data", percent(fit.waiting_share), PACES.get(fit.pace, "of the training's time"))
    if fit.buffered_bytes is not None:
        yield _card("In buffers", bytes_text(fit.buffered_bytes), "RAM, on average, by tf.data's own count")


def _card(label: str, value: str, note: str) -> dict[str, str]:
    return {"label": label, "value": value, "note": note}


def _joules(part: EnergyPart) -> str:
    figure = part.total_j
    return DASH if figure.value is None else f"{figure.value:,.3g}"


def _parts(fit: Spent) -> BarChart:
    """Joules by what they went into, by group of domains."""
    shown = list(_rows(fit))
    whole = by_group(fit.total.energy_j)
    groups = [name for name in GROUPS if name in whole and any(_weighs(part, name) for _, part, _ in shown)]
    stacks = [
        [BarPart(name, _classes(name, figure), figure) for name, figure in _of(part, groups)] for _, part, _ in shown
    ]
    axis = axis_of([[part.figure for part in parts] for parts in stacks])
    bars = tuple(bar(label, parts, axis, "J", kind) for (label, _, kind), parts in zip(shown, stacks, strict=True))
    bands = {name: band(f for domain, f in fit.total.energy_j.items() if group(domain) == name) for name in groups}
    legend = tuple((_classes(name, whole[name]), f"{name}, {bands[name]}") for name in groups)
    return BarChart("parts-chart", "Joules", "joules", axis, bars, legend)


def _rows(fit: Spent) -> Iterator[tuple[str, EnergyPart, str]]:
    """Parts and their steps: label, part, kind of bar."""
    words = explained(fit)
    for part in fit.parts:
        if all(figure.value is None for figure in part.energy_j.values()):
            continue
        rest = part.name in ("others", "idle")
        yield words[part.name], part, "unattributed" if rest else "sum"
        for step in {"loader": fit.steps, "validation": fit.validation_steps}.get(part.name, ()):
            yield step.name, step, "inner"


def _of(part: EnergyPart, groups: Sequence[str]) -> list[tuple[str, Figure]]:
    found: Mapping[str, Figure] = by_group(part.energy_j)
    return [(name, found[name]) for name in groups if name in found]


def _weighs(part: EnergyPart, name: str) -> bool:
    figure = by_group(part.energy_j).get(name)
    return figure is not None and bool(figure.value)


def _classes(name: str, figure: Figure) -> str:
    return f"{name} {figure.provenance}"


def _functions(fit: Spent) -> Iterator[dict[str, str]]:
    steps = [*(("", step) for step in fit.steps), *(("validation: ", step) for step in fit.validation_steps)]
    for where, step in steps:
        if isinstance(step, WatchedPart):
            yield {
                "name": where + step.name,
                "where": step.where,
                "calls": f"{step.calls:,}",
                "each": amount(scale(step.cpu_s_per_call, 1e3), resolve=False),
                "cpu": amount(step.cpu_s, resolve=False),
                "waiting": DASH if step.waiting_s is None else f"{step.waiting_s:,.3g}",
                "joules": _joules(step),
            }


def _epoch(spent: Spent) -> dict[str, Any]:
    joules = (spent.total, spent.loader, spent.waiting, spent.model, spent.validation)
    return {
        "name": spent.name,
        "wall": f"{spent.wall_s:,.1f}",
        "waiting": percent(spent.waiting_share),
        "pace": spent.pace or DASH,
        "cells": [_joules(part) for part in joules],
    }
