"""A comparison of strategies as a page: pictures, the Pareto chart, a card for each strategy, a table that sorts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from greenload.energy.figures import Figure, scale, sum_figures
from greenload.report import notes
from greenload.report.charts import STEP_COLOURS, Axis, Bar, BarChart, BarPart, axis_of, bar
from greenload.report.html import render
from greenload.report.page import machine_rows
from greenload.report.rows import GROUPS, band, by_group
from greenload.report.sortable import figure_cell, text_cell
from greenload.stages.registry import STAGES
from greenload.strategies.chart import cost_title, pareto_chart, tied_with_best
from greenload.strategies.records import Card, Compared, LimitCheck, StepCard
from greenload.strategies.table import tie_text
from greenload.text import amount, one_line, percent

_STAGES_SHOWN = 160
"""Characters of a strategy's own stages that its card shows."""

_SETTINGS = {"budget_s": "budget, seconds", "demand": "demand, images per second"}


def comparison_html(comparison: Compared) -> str:
    """The page of a comparison.

    Raises:
        ReportError: jinja2 is missing.
    """
    return render("strategies.html", page_values(comparison))


def page_values(comparison: Compared) -> dict[str, Any]:
    """Everything that the page's template shows."""
    machine, cards = comparison.machine, comparison.cards
    unscored = [card.strategy for card in cards if card.score.value is None or card.cost.value is None]
    return {
        "title": f"{len(cards)} augmentation strategies",
        "subject": _subject(comparison),
        "machine_line": f"{machine.cpu_model}, {machine.cpus} CPUs, {machine.os}",
        "warning": "" if comparison.finished else "It was stopped before its end: the same call goes on from its file",
        "cards": list(_headlines(comparison)),
        "reason": _reason(comparison),
        "samples": [
            {"strategy": card.strategy, "images": comparison.pictures[card.strategy]}
            for card in cards
            if comparison.pictures.get(card.strategy)
        ],
        "chart": pareto_chart(comparison),
        "no_point": f"Without a score, so not in the chart: {', '.join(unscored)}" if unscored else "",
        "confidence": confidence(comparison),
        "strategies": [_card(comparison, card) for card in cards],
        "step_charts": list(_step_charts(cards)),
        "below_zero": ", ".join(_below_zero(cards)),
        "heads": heads(comparison),
        "body": [{"name": card.strategy, "cells": list(_cells(comparison, card))} for card in cards],
        "unit": comparison.unit,
        "steps_up": [
            {
                "start": step.lower,
                "end": step.upper,
                "points": amount(step.points, resolve=False),
                "cost": amount(step.cost, resolve=False),
                "each": amount(step.cost_per_point, resolve=False),
            }
            for step in comparison.steps_up
        ],
        "ties": list(map(tie_text, comparison.ties)),
        "limits": list(map(_limit, comparison.limits)),
        "checks": notes.checks(comparison.checks),
        "notes": [note.rstrip(".") for note in comparison.notes],
        "meters": comparison.meters,
        "facts": [
            *_settings(comparison),
            *machine_rows(machine),
            ("greenload", comparison.greenload),
            ("compared", comparison.created),
        ],
    }


def confidence(comparison: Compared) -> str:
    """The share of intervals that hold, as asked for: ``"95 %"``."""
    asked = comparison.settings.get("confidence")
    return percent(asked if isinstance(asked, float) else 0.95, fine=True)


def own_stages(comparison: Compared) -> dict[str, str]:
    """By strategy, the stages that not all strategies have: ``"RandAugment(num_ops=2, magnitude=9)"``."""
    texts = {card.strategy: list(_stage_texts(card.pipeline)) for card in comparison.cards}
    common = set.intersection(*map(set, texts.values())) if texts else set()
    return {name: ", ".join(text for text in stages if text not in common) for name, stages in texts.items()}


def _subject(comparison: Compared) -> str:
    runs = len(comparison.runs)
    seeds = len({run.seed for run in comparison.runs})
    if not runs:
        asked = _asked_of_runs(comparison)
        return f"what each pipeline costs; {'no run has ended' if asked else 'no training was asked for'}"
    took = sum(run.seconds for run in comparison.runs) + sum(card.seconds for card in comparison.cards)
    return f"{runs} runs with {seeds} seed{'' if seeds == 1 else 's'}, {took / 60:,.1f} minutes of measuring"


def _asked_of_runs(comparison: Compared) -> bool:
    """Whether strategies were to be trained and scored."""
    same = comparison.settings.get("same")
    return isinstance(same, Mapping) and bool(same.get("evaluate"))


def _reason(comparison: Compared) -> str:
    reason = comparison.reason.rstrip(".") or "no strategy was scored"
    return reason if comparison.recommended is not None else f"No recommendation: {reason}"


def _headlines(comparison: Compared) -> Iterator[dict[str, str]]:
    name = comparison.recommended
    if name is not None:
        card = comparison.card(name)
        tied = comparison.tied_with(name)
        yield _headline("Recommended", name, f"tied in score with {', '.join(tied)}" if tied else "")
        yield _headline("Its score", amount(card.score, resolve=False), f"mean of {card.runs} runs")
        unit = f"{comparison.unit}, {band([card.cost])}"
        yield _headline("Its training", amount(card.cost, resolve=False), f"{unit}; loader and model")
    if comparison.pareto:
        of_all = f"{len(comparison.pareto)} of {len(comparison.cards)}"
        yield _headline("Pareto set", of_all, f"the cheapest first: {', '.join(comparison.pareto)}")


def _headline(label: str, value: str, note: str) -> dict[str, str]:
    return {"label": label, "value": value, "note": note}


def _card(comparison: Compared, card: Card) -> dict[str, Any]:
    chosen = card.strategy == comparison.recommended
    badges = ["recommended"] if chosen else []
    badges += ["Pareto set"] if card.strategy in comparison.pareto else []
    best = tied_with_best(comparison)
    badges += ["best mean score"] if card.strategy in best[:1] else []
    badges += ["≈ best score"] if card.strategy in best[1:] else []
    own = own_stages(comparison)[card.strategy]
    return {
        "strategy": card.strategy,
        "chosen": chosen,
        "badges": badges,
        "stages": one_line(own, _STAGES_SHOWN) if own else "no stage that the others lack",
        "facts": list(_facts(comparison, card)),
        "doubts": list(_doubts(card)),
    }


def _facts(comparison: Compared, card: Card) -> Iterator[tuple[str, str]]:
    if card.score.value is not None:
        yield "score", amount(card.score, resolve=False)
    if card.cost.value is not None:
        yield cost_title(comparison), amount(card.cost, resolve=False)
    if (share := _loader_share(comparison, card)) is not None:
        yield "loader's part of CPU", percent(share)
    if card.runs:
        yield "runs", f"{card.runs}"
    yield "images per second", amount(card.images_per_s, resolve=False)
    yield "CPU ms per image", amount(scale(card.cpu_s_per_sample, 1e3), resolve=False)
    for group, figure in by_group(card.energy_j_per_sample).items():
        yield f"{group} mJ/image, {band([figure])}", amount(scale(figure, 1e3), resolve=False)


def _loader_share(comparison: Compared, card: Card) -> float | None:
    """The loader's part of the trainings' CPU seconds; None where nothing told it."""
    known = [(run.loader_cpu_s, run.cpu_s) for run in comparison.runs if run.strategy == card.strategy]
    loader = [own for own, _ in known if own is not None]
    whole = math.fsum(cpu_s for own, cpu_s in known if own is not None)
    return math.fsum(loader) / whole if whole else None


def _doubts(card: Card) -> Iterator[str]:
    if card.starves:
        yield "slower than the model asks for: it would starve it"
    if card.left:
        yield f"left the race: {card.left}"
    if card.failed:
        yield f"{card.failed} run{'' if card.failed == 1 else 's'} failed"


def _step_charts(cards: Sequence[Card]) -> Iterator[BarChart]:
    """What loading costs: a bar for each strategy, of its steps one behind the other."""
    names = list(dict.fromkeys(step.name for card in cards for step in card.steps))
    cpu = {card.strategy: [(step, step.cpu_s_per_sample) for step in card.steps] for card in cards}
    energy = {
        card.strategy: [(step, sum_figures(step.energy_j_per_sample.values(), common=True)) for step in card.steps]
        for card in cards
    }
    yield _step_chart("cpu-chart", "CPU seconds", "CPU ms per image", names, cpu)
    if any(step.energy_j_per_sample for card in cards for step in card.steps):
        yield _step_chart("energy-chart", "Joules", "mJ per image, without idle power", names, energy)


def _step_chart(
    name: str, title: str, unit: str, names: Sequence[str], costs: Mapping[str, Sequence[tuple[StepCard, Figure]]]
) -> BarChart:
    stacks = {
        strategy: [
            BarPart(step.name, f"{figure.provenance} s{names.index(step.name) % STEP_COLOURS}", scale(figure, 1e3))
            for step, figure in steps
        ]
        for strategy, steps in costs.items()
    }
    axis = axis_of(
        [[part.figure for part in parts if (part.figure.value or 0.0) >= 0] for parts in stacks.values()], common=False
    )
    short = unit.split(" per ")[0].removeprefix("CPU ")
    bars = tuple(
        _from_zero(bar(strategy, parts, axis, short, "sum", common=False), axis) for strategy, parts in stacks.items()
    )
    used = dict.fromkeys((part.classes, part.name) for parts in stacks.values() for part in parts)
    bands = sorted({band([part.figure]) for parts in stacks.values() for part in parts if part.figure.systematic})
    return BarChart(name, title, unit, axis, bars, tuple(used), "; ".join(bands))


def _below_zero(cards: Sequence[Card]) -> list[str]:
    """Steps whose CPU seconds or joules came out below zero, each with its strategy."""
    return [
        f"{step.name} of {card.strategy}"
        for card in cards
        for step in card.steps
        if any((figure.value or 0.0) < 0 for figure in (step.cpu_s_per_sample, *step.energy_j_per_sample.values()))
    ]


def _from_zero(made: Bar, axis: Axis) -> Bar:
    """The bar without parts below zero: no step costs less than nothing, so its error alone can bring it there."""
    zero = axis.percent(0.0)
    return replace(made, spans=tuple(span for span in made.spans if span.left >= zero))


def heads(comparison: Compared) -> list[str]:
    """The table's columns."""
    groups = _groups(comparison)
    of = {group: [by_group(card.energy_j_per_sample).get(group) for card in comparison.cards] for group in groups}
    joules = [f"{group} mJ/image, {band(f for f in of[group] if f is not None)}" for group in groups]
    return [
        "strategy",
        "score",
        f"{comparison.unit} a training",
        "s a training",
        "runs",
        "images/s",
        "CPU ms/image",
        *joules,
    ]


def _groups(comparison: Compared) -> list[str]:
    there = {group for card in comparison.cards for group in by_group(card.energy_j_per_sample)}
    return [group for group in GROUPS if group in there]


def _cells(comparison: Compared, card: Card) -> Iterator[dict[str, str]]:
    yield figure_cell(card.score)
    yield figure_cell(card.cost)
    yield figure_cell(card.training_seconds)
    yield text_cell(str(card.runs))
    yield figure_cell(card.images_per_s)
    yield figure_cell(scale(card.cpu_s_per_sample, 1e3))
    energy = by_group(card.energy_j_per_sample)
    for group in _groups(comparison):
        yield figure_cell(scale(energy.get(group, Figure.missing()), 1e3))


def _limit(limit: LimitCheck) -> dict[str, str]:
    """A verdict; one that nothing could be said for yet is a doubt."""
    note = notes.checks([limit.check])[0]
    kind = "doubt" if limit.check.outcome == "missing" else note.kind
    return {"kind": kind, "text": f"{limit.strategy}: {note.text}"}


def _settings(comparison: Compared) -> Iterator[tuple[str, str]]:
    """What was asked for, line by line."""
    for name, value in comparison.settings.items():
        facts = value.items() if isinstance(value, Mapping) else [(name, value)]
        for inner, fact in facts:
            # The machine is told apart, and strategies' fingerprints tell a reader nothing.
            if inner != "machine" and fact not in (None, [], "") and not isinstance(fact, Mapping):
                shown = ", ".join(map(str, fact)) if isinstance(fact, list) else str(fact)
                yield _SETTINGS.get(str(inner), str(inner).replace("_", " ")), one_line(shown)


def _stage_texts(pipeline: Mapping[str, Any]) -> Iterator[str]:
    stages = pipeline.get("stages")
    for entry in stages if isinstance(stages, Sequence) else ():
        if isinstance(entry, Mapping):
            yield stage_text(entry)


def stage_text(entry: Mapping[str, Any]) -> str:
    """A stage's description as code, without what it has by default: ``"MixUp(alpha=0.2)"``."""
    name = str(entry.get("stage", "")).rpartition(".")[2]
    kind = STAGES.get(name)
    defaults = {} if kind is None else {fact.name: fact.default for fact in fields(kind)}
    given = {key: value for key, value in entry.items() if key != "stage" and not _same(value, defaults.get(key))}
    return f"{name}({', '.join(f'{key}={_value_text(value)}' for key, value in given.items())})"


def _same(value: Any, default: Any) -> bool:
    return bool((list(default) if isinstance(default, tuple) else default) == value)


def _value_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return stage_text(value)
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_value_text, value))})"
    return repr(value)
