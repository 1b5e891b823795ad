"""An optimization as a page: what to use, what that saves and holds, then every plan and why it lost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from greenload.energy.figures import scale
from greenload.optimization import views
from greenload.optimization.chart import cost_chart, part_charts
from greenload.optimization.coefficients import Coefficient
from greenload.optimization.outcome import Outcome
from greenload.optimization.records import Candidate
from greenload.plans.plan import Plan
from greenload.report.html import render
from greenload.report.page import machine_rows
from greenload.report.rows import band
from greenload.report.sortable import figure_cell, text_cell
from greenload.text import DASH, amount, bytes_text, number_text, one_line, percent


def optimization_html(found: Outcome) -> str:
    """The page of an optimization.

    Raises:
        ReportError: jinja2 is missing.
    """
    return render("optimization.html", page_values(found))


def page_values(found: Outcome) -> dict[str, Any]:
    """Everything that the page's template shows."""
    machine = found.machine
    return {
        "title": _title(found),
        "subject": views.epochs_text(found),
        "machine_line": f"{machine.cpu_model}, {machine.cpus} CPUs, {machine.os}",
        "warning": _warning(found),
        "cards": list(_headlines(found)),
        "sentences": [f"{text[0].upper()}{text[1:]}" for text in _sentences(found)],
        "chart": cost_chart(found),
        "part_charts": part_charts(found),
        "lost": [
            {"name": one.name, "text": views.lost_text(found, one)}
            for one in views.measured(found)
            if one.lost and one.name != found.winner
        ],
        "heads": heads(found),
        "body": [{"name": one.name, "cells": list(_cells(found, one))} for one in views.measured(found)],
        "priced": [_priced(candidate) for candidate in views.priced(found)],
        "steps": list(_steps(found.planned)),
        "held_out": [
            {"kind": "good" if run.inside else "doubt", "text": views.held_out_text(run)} for run in found.held_out
        ],
        "others": all(run.other for run in found.held_out),
        "moved": [views.moved_text(moved) for moved in found.moved],
        "pace": views.pace_text(found.pace),
        "coefficients": [_coefficient(found, each) for each in found.coefficients.each().values()],
        "notes": [note.rstrip(".") for note in (*found.coefficients.left_out, *found.notes)],
        "meters": found.meters,
        "facts": [*_settings(found), *machine_rows(machine), ("greenload", found.greenload), ("found", found.created)],
    }


def _title(found: Outcome) -> str:
    named = found.settings.details.get("pipeline")
    return one_line(named) if isinstance(named, str) and named else "The plan that costs least"


def _warning(found: Outcome) -> str:
    said = f"{views.verdict(found)}" if found.unmet else ""
    return said[:1].upper() + said[1:]


def _sentences(found: Outcome) -> Iterator[str]:
    for text in (views.pays_off(found.best), views.tie_text(found)):
        if text:
            yield text


def _headlines(found: Outcome) -> Iterator[dict[str, str]]:
    """What to use, what it saves, what it holds, how fast it is."""
    best = found.best
    label = "Nearest to the demand" if found.unmet else "Keep" if best.today else "Use"
    yield _headline(label, best.name, _does(best)) | {"wide": "on a telephone"}
    for quantity in views.quantities(found):
        yield from _saved(found, quantity)
    memory = views.held_text(best.ram_bytes) if best.ram_bytes else "nothing"
    disk = f"; {bytes_text(best.disk_bytes)} on disk" if best.disk_bytes else ""
    yield _headline("Held in memory", memory, f"{bytes_text(found.training.ram)} allowed{disk}")
    rate = best.rates.later_samples_per_s
    if rate.value is not None:
        demand = f"{number_text(found.training.demand)} demanded, " if found.training.demand is not None else ""
        yield _headline("Images per second", amount(rate, resolve=False), f"{demand}{views.threads_text(best.threads)}")


def _does(candidate: Candidate) -> str:
    kept = f"{candidate.kept}, {percent(candidate.share)} of the set" if candidate.kept else "keeps nothing"
    return f"steps on {candidate.backends}; {kept}"


def _saved(found: Outcome, quantity: views.Quantity) -> Iterator[dict[str, str]]:
    """The saving against today's plan; where that is the winner, or unknown, what the winner spends."""
    best, today = found.best.outlay, found.today
    if best is None or quantity.of(best).value is None:
        return
    spent, noun = quantity.of(best), quantity.noun
    model = f", {band([spent])}" if spent.provenance == "modelled" else ""
    share = views.saved_share(found, quantity)
    if share is not None and today is not None and today.outlay is not None:
        before = quantity.unit.text(quantity.of(today.outlay))
        less = quantity.unit.text(views.saving(found, quantity))
        yield _headline(f"Saves, of today's {noun}", percent(share), f"{less} of {before}{model}")
        return
    against = "" if found.best.today or today is None else "; not told from today's plan"
    value = quantity.unit.text(spent)
    yield _headline(
        f"{noun[0].upper()}{noun[1:]} of the training", value, f"{views.epochs_text(found)}{model}{against}"
    )


def _headline(label: str, value: str, note: str) -> dict[str, str]:
    return {"label": label, "value": value, "note": note}


def heads(found: Outcome) -> list[str]:
    """The table's columns."""
    outlays = [candidate.outlay for candidate in found.candidates if candidate.outlay is not None]
    joules = _joules(found)
    columns = ["plan", ""]
    for quantity in views.quantities(found):
        said = views.marked_modelled(map(quantity.of, outlays))
        columns.append(f"{quantity.unit.name} in all{f', {said}' if said else ''}")
    columns += [f"{joules.unit.name} an epoch", "CPU ms/image, first epoch", "CPU ms/image, later", "images/s, later"]
    columns += ["held in memory", *(["held on disk"] if _has_disk(found) else []), "threads", "pays off in epoch"]
    return columns


def _joules(found: Outcome) -> views.Quantity:
    return next(quantity for quantity in views.quantities(found) if quantity.noun == "joules")


def _has_disk(found: Outcome) -> bool:
    return any(candidate.disk_bytes for candidate in found.candidates)


def _cells(found: Outcome, candidate: Candidate) -> Iterator[dict[str, str]]:
    outlay, rates = candidate.outlay, candidate.rates
    assert outlay is not None  # it was measured
    marks = [views.role(found, candidate), *(["Pareto"] if candidate.name in found.pareto else []), *candidate.changes]
    yield text_cell(", ".join(mark for mark in marks if mark), kind="role")
    for quantity in views.quantities(found):
        yield figure_cell(quantity.unit.of(quantity.of(outlay)))
    yield figure_cell(_joules(found).unit.of(outlay.per_epoch_j))
    yield figure_cell(scale(rates.first_cpu_s, 1e3))
    yield figure_cell(scale(rates.later_cpu_s, 1e3))
    yield figure_cell(rates.later_samples_per_s)
    yield _bytes_cell(candidate.ram_bytes)
    if _has_disk(found):
        yield _bytes_cell(candidate.disk_bytes)
    yield text_cell(str(candidate.threads))
    epoch = candidate.break_even_epoch
    yield text_cell(str(epoch) if epoch is not None else DASH, "" if epoch is None else epoch)


def _bytes_cell(count: float) -> dict[str, str]:
    return text_cell(
        bytes_text(count) if count and math.isfinite(count) else DASH, count if math.isfinite(count) else None
    )


def _priced(candidate: Candidate) -> str:
    expected = candidate.expected_cpu_s
    said = f"{expected * 1e3:.3g} ms of CPU an image expected" if expected is not None else "no price is known"
    return f"{candidate.name}: {said}"


def _coefficient(found: Outcome, each: Coefficient) -> dict[str, str]:
    """What is modelled and how, and where the choice would be another."""
    flip = next((flip for flip in found.flips if flip.coefficient == each.name), None)
    band = f" ±{percent(each.band)}" if each.band else ""
    said = views.flip_text(flip) if flip is not None else f"{each.name}, {each.value:.3g}{band} here"
    kind = "doubt" if flip is not None and flip.within else "good"
    return {"kind": kind, "text": said, "source": f"{each.provenance}: {each.source}"}


def _steps(planned: Plan | Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The plan's steps and where they run, as far as its file tells them."""
    if isinstance(planned, Plan):
        for step in planned.steps:
            yield _step(step.name, step.backend, step.keeps.form if step.keeps else "")
        return
    steps = planned.get("steps")
    for each in steps if isinstance(steps, list | tuple) else ():
        if isinstance(each, Mapping):
            keeps = each.get("keeps")
            form = keeps.get("form") if isinstance(keeps, Mapping) else ""
            yield _step(each.get("name"), each.get("backend"), form)


def _step(name: object, backend: object, form: object) -> dict[str, str]:
    return {"name": one_line(name), "backend": one_line(backend), "keeps": one_line(form)}


def _settings(found: Outcome) -> Iterator[tuple[str, str]]:
    """What was asked for, line by line."""
    training, settings = found.training, found.settings
    yield "epochs", f"{training.epochs:,}, {training.samples:,} images each"
    yield "memory allowed", bytes_text(training.ram)
    if training.folder is not None:
        yield "disk allowed", f"{bytes_text(training.disk)} in {one_line(training.folder)}"
    if training.demand is not None:
        yield "demand", f"{number_text(training.demand)} images per second"
    yield "processors", f"{training.threads} at most"
    yield "objective", training.objective
    yield "changes of pixels allowed", ", ".join(training.allow) or "none"
    yield "search", f"{number_text(settings.seconds)} s at most, {settings.records:,} images, seed {settings.seed}"
    for name, value in settings.details.items():
        if value not in (None, "", []) and not isinstance(value, Mapping):
            yield str(name).replace("_", " "), one_line(value)
