"""What both the terminal and the page show of an optimization: units, what leads, savings, and sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from greenload.energy.domains import Domain
from greenload.energy.figures import Figure, scale, sum_figures
from greenload.optimization.outcome import Outcome
from greenload.optimization.records import Candidate, Flip, HeldOut, Moved, Outlay, Pace
from greenload.report.rows import band
from greenload.text import amount, bytes_text, number_text, percent


@dataclass(frozen=True)
class Unit:
    """What figures are shown in."""

    name: str
    factor: float
    """Of a figure in joules, or in seconds."""

    def of(self, figure: Figure) -> Figure:
        """A figure in this unit."""
        return scale(figure, self.factor)

    def text(self, figure: Figure) -> str:
        """A figure with the unit: ``"1.14 ±0.03 kJ"``."""
        return f"{amount(self.of(figure), resolve=False)} {self.name}"


_JOULES = (Unit("J", 1.0), Unit("kJ", 1e-3), Unit("MJ", 1e-6), Unit("GJ", 1e-9))
_CPU = (Unit("CPU s", 1.0), Unit("CPU h", 1 / 3600))


@dataclass(frozen=True)
class Quantity:
    """Joules, or CPU seconds, of a whole training."""

    noun: str
    """``"joules"`` or ``"CPU seconds"``."""
    unit: Unit
    of: Callable[[Outlay], Figure]
    paired: Figure
    """What the winner saves against today's plan, from paired windows."""


def quantities(found: Outcome) -> tuple[Quantity, Quantity]:
    """Joules and CPU seconds; first what leads: joules only where a counter measures the processor's."""
    joules = [candidate.outlay.energy_j for candidate in found.candidates if candidate.outlay is not None]
    cpu = [candidate.outlay.cpu_s for candidate in found.candidates if candidate.outlay is not None]
    both = (
        Quantity("joules", _unit(joules, _JOULES), lambda outlay: outlay.energy_j, found.saves_j),
        Quantity("CPU seconds", _unit(cpu, _CPU), lambda outlay: outlay.cpu_s, found.saves_cpu_s),
    )
    return both if joules_lead(found) else (both[1], both[0])


def decisive(found: Outcome) -> Quantity:
    """What the plan is to spend least of."""
    noun = "joules" if found.training.objective == "energy" else "CPU seconds"
    return next(quantity for quantity in quantities(found) if quantity.noun == noun)


def joules_lead(found: Outcome) -> bool:
    """Whether joules come before CPU seconds: where a counter measures the processor's, and they decide."""
    counted = {
        Domain.parse(domain).kind
        for candidate in found.candidates
        for domain, figure in candidate.rates.later_energy_j.items()
        if figure.value is not None and figure.provenance == "measured"
    }
    return found.training.objective == "energy" and "cpu" in counted


def _unit(figures: Iterable[Figure], units: tuple[Unit, ...]) -> Unit:
    """The largest unit in which the largest figure is 10 or more; else the smallest."""
    most = max((abs(figure.value) for figure in figures if figure.value is not None), default=0.0)
    return next((unit for unit in reversed(units) if most * unit.factor >= 10), units[0])


def measured(found: Outcome) -> tuple[Candidate, ...]:
    """The plans that were run: the winner, the runner-up and today's first, then the others as they stand."""
    first = [found.winner, found.runner_up, *(found.today.name for _ in [0] if found.today)]
    rank = {name: first.index(name) for name in first}
    run = [candidate for candidate in found.candidates if candidate.outlay is not None]
    return tuple(sorted(run, key=lambda candidate: rank.get(candidate.name, len(first))))


def priced(found: Outcome) -> tuple[Candidate, ...]:
    """The plans that were priced by the table of costs, and not run."""
    return tuple(candidate for candidate in found.candidates if candidate.outlay is None)


def role(found: Outcome, candidate: Candidate) -> str:
    """``"use"``, ``"keep"`` (today's is the best), ``"today"``, ``"runner-up"`` or ``"tied"``; else empty."""
    if candidate.name == found.winner:
        return "nearest" if found.unmet else "keep" if candidate.today else "use"
    if candidate.today:
        return "today"
    if candidate.name == found.runner_up:
        return "runner-up"
    return "tied" if candidate.name in found.ties else ""


def saving(found: Outcome, quantity: Quantity) -> Figure:
    """What the winner saves against today's plan in a whole training; missing where either wasn't run."""
    if quantity.paired.value is not None:
        return quantity.paired
    today, best = found.today, found.best
    if today is None or today.outlay is None or best.outlay is None:
        return Figure.missing()
    return sum_figures([quantity.of(today.outlay), scale(quantity.of(best.outlay), -1)])


def saved_share(found: Outcome, quantity: Quantity) -> float | None:
    """The saving as a share of what today's plan spends; None where it isn't known, or not told from zero."""
    figure, today = saving(found, quantity), found.today
    whole = quantity.of(today.outlay).value if today is not None and today.outlay is not None else None
    return None if figure.value is None or not whole or cannot_tell(figure) else figure.value / whole


def verdict(found: Outcome) -> str:
    """What to use, in one sentence without its full stop."""
    if found.unmet:
        return f"no plan meets the demand; nearest is {found.winner}: {found.unmet.rstrip('.')}"
    if found.best.today:
        return f"keep today's plan: {found.winner}"
    return f"use {found.winner}"


def against_today(found: Outcome) -> Iterator[str]:
    """What it saves in a whole training, a sentence a quantity; none where today's plan wasn't run, or wins."""
    today = found.today
    if today is None or today.outlay is None or found.best.today:
        return
    for quantity in quantities(found):
        figure, whole = saving(found, quantity), quantity.of(today.outlay)
        if figure.value is not None and figure.low is not None and figure.high is not None:
            yield _saves(found, quantity, figure, whole)


def _saves(found: Outcome, quantity: Quantity, figure: Figure, whole: Figure) -> str:
    unit, noun = quantity.unit, quantity.noun
    model = f", {band([figure])}" if figure.provenance == "modelled" else ""
    amounts = f"{amount(unit.of(figure), resolve=False)} of {unit.text(whole)} in {epochs_text(found)}{model}"
    if cannot_tell(figure):
        return f"its {noun} aren't told from those of today's plan: saves {amounts}"
    if (figure.value or 0.0) < 0:
        return f"it takes {unit.text(scale(figure, -1))} more than today's plan, {unit.text(whole)}{model}"
    return f"it saves {percent(saved_share(found, quantity))} of today's {noun}: {amounts}"


def cannot_tell(figure: Figure) -> bool:
    """Whether the interval of a difference holds zero."""
    return figure.low is None or figure.high is None or figure.low <= 0 <= figure.high


def epochs_text(found: Outcome) -> str:
    """``"90 epochs of 1,281,167 images"``."""
    training = found.training
    plural = "" if training.epochs == 1 else "s"
    return f"{training.epochs:,} epoch{plural} of {training.samples:,} images"


def holds(found: Outcome, candidate: Candidate) -> str:
    """What a plan keeps and needs, in one sentence: memory, disk, threads, rate."""
    training = found.training
    share = f", {percent(candidate.share)} of the set" if candidate.kept and candidate.share < 1 else ""
    memory = held_text(candidate.ram_bytes) if candidate.ram_bytes else "nothing"
    disk = f", {bytes_text(candidate.disk_bytes)} on disk" if candidate.disk_bytes else ""
    rate = candidate.rates.later_samples_per_s
    speed = f", {amount(rate, resolve=False)} images/s" if rate.value is not None else ""
    demand = f" ({number_text(training.demand)} demanded)" if training.demand is not None and speed else ""
    return (
        f"it holds {memory} in memory ({bytes_text(training.ram)} allowed){disk}{share}; "
        f"{threads_text(candidate.threads)}{speed}{demand}"
    )


def held_text(count: float) -> str:
    """Bytes held, or that nobody knows how many: of images whose size isn't known before they are made."""
    return bytes_text(count) if math.isfinite(count) else "an unknown number of bytes"


def threads_text(threads: int) -> str:
    """``"2 threads"``."""
    return f"{threads} thread{'' if threads == 1 else 's'}"


def lost_text(found: Outcome, candidate: Candidate) -> str:
    """Why a plan wasn't chosen, without the winner's name, which stands above."""
    lost = candidate.lost.replace(f" than {found.winner}", "").replace(f" as much as {found.winner}", " as much")
    return lost.rstrip(".")


def pays_off(candidate: Candidate) -> str:
    """When preparing has paid off, as a sentence; empty where nothing is prepared."""
    if candidate.break_even_epoch is not None:
        return f"what it prepares has paid off by the end of epoch {candidate.break_even_epoch}"
    return ""


def tie_text(found: Outcome) -> str:
    """Which plans can't be told from the winner; empty for none."""
    if not found.ties:
        return ""
    return f"not told from the winner in what they cost: {'; '.join(found.ties)}"


def flip_text(flip: Flip) -> str:
    """``"watts per GB held, 0.392 ±40 % here: from 1.31 up tf would cost less"``."""
    used = f"{flip.coefficient}, {flip.value:.3g}{f' ±{percent(flip.band)}' if flip.band else ''} here"
    if flip.at is None:
        return f"{used}: no value changes the choice"
    way = "up" if flip.at >= flip.value else "down"
    doubt = "; that lies within its band, so the choice hangs on it" if flip.within else ""
    return f"{used}: from {flip.at:.3g} {way} {flip.plan} would cost less{doubt}"


def held_out_text(run: HeldOut) -> str:
    """A run held out in words: predicted, seen, and whether that fits."""
    plural = "" if run.epochs == 1 else "s"
    seen = _seen(run.seen_cpu_s, run.predicted_cpu_s)
    parts = [f"predicted {amount(run.predicted_cpu_s, resolve=False)} CPU s, seen {seen}"]
    if run.seen_energy_j is not None and run.predicted_energy_j.value is not None:
        model = f", {band([run.predicted_energy_j])}" if run.predicted_energy_j.provenance == "modelled" else ""
        predicted = amount(run.predicted_energy_j, resolve=False)
        parts.append(f"predicted {predicted} J{model}, seen {_seen(run.seen_energy_j, run.predicted_energy_j)}")
    fits = "inside the interval" if run.inside else "outside the interval"
    images = f"{run.samples:,} other images" if run.other else f"the same {run.samples:,} images with other draws"
    return f"{run.name}, {run.epochs} epoch{plural} of {images}: {'; '.join(parts)}: {fits}"


def _seen(value: float, predicted: Figure) -> str:
    """What was seen, to the digit to which it was predicted."""
    half = predicted.half_width or 0.0
    return amount(Figure(value, value - half, value + half, "measured"), resolve=False).partition(" ±")[0]


def moved_text(moved: Moved) -> str:
    """How far a change moves pixels, in words."""
    detail = f"; {moved.detail.rstrip('.')}" if moved.detail else ""
    far = f"{moved.mean:.2g} levels of 255 on average, {moved.most:.3g} at most"
    return f"{moved.change} moves pixels by {far} ({moved.images:,} images){detail}"


def pace_text(pace: tuple[Pace, ...]) -> str:
    """Power by threads at the demanded rate; empty where it wasn't measured."""
    each = [f"{threads_text(one.threads)} {amount(one.power_w, resolve=False)} W" for one in pace]
    return f"power of the machine at the demanded rate: {', '.join(each)}" if each else ""


def marked_modelled(figures: Iterable[Figure]) -> str:
    """``"modelled ±40 %"`` where any figure is modelled; empty where all are measured."""
    known = [figure for figure in figures if figure.value is not None]
    said = band(known)
    return said if known and said != "measured" else ""
