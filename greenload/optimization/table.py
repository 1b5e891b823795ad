"""An optimization for a terminal: what to use, what that saves and holds; then the plans, and why the others lost."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from greenload.energy.figures import scale
from greenload.optimization import views
from greenload.optimization.outcome import Outcome
from greenload.optimization.records import Candidate
from greenload.report.columns import FigureTable, Line, Sentence
from greenload.text import DASH, amount, bytes_text, printable

_PLANS_SHOWN = 8
"""The JSON and the page have all."""


def render_optimization(found: Outcome) -> RenderableType:
    """An optimization for a rich console."""
    lines: list[RenderableType] = [Sentence(printable(views.verdict(found)), "bold red" if found.unmet else "bold")]
    best = found.best
    first = [*views.against_today(found), views.holds(found, best), views.pays_off(best), views.tie_text(found)]
    lines += [Sentence(printable(text), indent=2) for text in first if text]
    lines += ["", _plans(found)]
    for head, texts in (("Why not the others", _lost(found)), ("Checks", _checks(found))):
        said = [Sentence(printable(text), indent=2) for text in texts]
        lines += [Sentence(head, "bold"), *said] if said else []
    lines += [Sentence(printable(f"note: {note}"), "dim") for note in (*found.coefficients.left_out, *found.notes)]
    return Group(*lines)


def _plans(found: Outcome) -> FigureTable:
    shown = views.measured(found)[:_PLANS_SHOWN]
    outlays = [candidate.outlay for candidate in shown if candidate.outlay is not None]
    first, second = views.quantities(found)
    disk = any(candidate.disk_bytes for candidate in shown)
    joules = next(quantity for quantity in (first, second) if quantity.noun == "joules")
    heads = [
        f"{quantity.unit.name}\nin all{_model(views.marked_modelled(map(quantity.of, outlays)))}"
        for quantity in (first, second)
    ]
    of_epoch = _model(views.marked_modelled(outlay.per_epoch_j for outlay in outlays))
    heads += [f"{joules.unit.name}\nan epoch{of_epoch}", "CPU ms an\nimage, later", "images/s", "held in\nmemory"]
    heads += [*(["held on\ndisk"] if disk else []), "threads", "pays off\nin epoch"]
    lines = []
    for candidate in shown:
        outlay = candidate.outlay
        assert outlay is not None  # it was measured
        cells = [amount(quantity.unit.of(quantity.of(outlay)), resolve=False) for quantity in (first, second)]
        cells += [amount(joules.unit.of(outlay.per_epoch_j), resolve=False)]
        cells += [amount(scale(candidate.rates.later_cpu_s, 1e3), resolve=False)]
        cells += [amount(candidate.rates.later_samples_per_s, resolve=False), _bytes(candidate.ram_bytes)]
        cells += [_bytes(candidate.disk_bytes)] if disk else []
        cells += [str(candidate.threads), str(candidate.break_even_epoch or DASH)]
        leads = candidate.name in (found.winner, found.runner_up) or candidate.today
        lines.append(Line((_name(found, candidate), *cells), "" if leads else "dim"))
    return FigureTable("plan", heads, lines)


def _model(said: str) -> str:
    return f"\n{said}" if said else ""


def _bytes(count: float) -> str:
    return bytes_text(count) if count and math.isfinite(count) else DASH


def _name(found: Outcome, candidate: Candidate) -> Text:
    """The name, marked where it is the winner, the runner-up, today's, or in the Pareto set."""
    marks = [mark for mark in (views.role(found, candidate),) if mark]
    marks += ["today"] if candidate.today and "today" not in marks else []
    marks += ["Pareto"] if candidate.name in found.pareto else []
    marks += [f"changes pixels: {', '.join(candidate.changes)}"] if candidate.changes else []
    name = Text(printable(candidate.name))
    return name.append(f" ({printable(', '.join(marks))})", "dim") if marks else name


def _lost(found: Outcome) -> Iterator[str]:
    """Why each shown plan wasn't chosen, and how many aren't shown."""
    run = views.measured(found)
    for candidate in run[:_PLANS_SHOWN]:
        if candidate.lost and candidate.name != found.winner:
            yield f"{candidate.name}: {views.lost_text(found, candidate)}"
    more, left = len(run) - _PLANS_SHOWN, len(views.priced(found))
    if more > 0:
        yield f"{more} more {'plan was' if more == 1 else 'plans were'} run: the JSON and the page have them"
    if left:
        yield f"{left} {'plan was' if left == 1 else 'plans were'} priced by the table of costs, and not run"


def _checks(found: Outcome) -> Iterator[str]:
    for run in found.held_out:
        yield f"held out: {views.held_out_text(run)}"
    yield from map(views.flip_text, found.flips)
    yield from map(views.moved_text, found.moved)
    if text := views.pace_text(found.pace):
        yield text
