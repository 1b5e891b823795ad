"""Makes a `Comparison` of what was measured so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import greenload
from greenload.energy.figures import Figure
from greenload.energy.meters.base import MeterStatus
from greenload.machine import machine
from greenload.plans.pipeline import Pipeline
from greenload.report.data import Report
from greenload.strategies.data import Comparison
from greenload.strategies.race import BUDGET, FAILED, HOPELESS, RaceEnd
from greenload.strategies.records import CPU_SECONDS, ENOUGH_RUNS, JOULES, Card, Run, StepCard
from greenload.strategies.results import described, key_of
from greenload.strategies.verdict import Findings, Rules

PROFILES_SHARE = 1 / 3
"""Of a budget, what profiles may take where there are runs, too."""
Progress = Callable[[float, str], object]
"""Called with the share done and what runs now."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be compared, checked."""

    strategies: Mapping[str, Pipeline]
    rules: Rules
    seeds: int
    first_seed: int
    budget_s: float | None
    demand: float | None
    evaluates: bool
    settings: Mapping[str, Any]
    """As a comparison shows them."""
    same: Mapping[str, Any]
    """What makes another comparison this one."""
    out: str | None
    progress: Progress
    draw: Callable[[], Mapping[str, tuple[str, ...]]] = dict
    """Gives the strategies' pictures (see `greenload.strategies.augmented`)."""


def blank_card(name: str, pipeline: Pipeline) -> Card:
    """A strategy that nobody has profiled."""
    return Card(
        strategy=name,
        pipeline=described(pipeline),
        images_per_s=Figure.missing(),
        cpu_s_per_sample=Figure.missing(),
    )


def card_of(name: str, pipeline: Pipeline, report: Report, seconds: float) -> Card:
    """A strategy's card, as its loader was profiled.

    Args:
        name: the strategy's.
        pipeline: the strategy.
        report: of the profile.
        seconds: that profiling took.
    """
    return Card(
        strategy=name,
        pipeline=described(pipeline),
        images_per_s=report.full.samples_per_s,
        cpu_s_per_sample=report.total.cpu_s_per_sample,
        energy_j_per_sample=dict(report.total.energy_j_per_sample),
        steps=tuple(
            StepCard(
                name=step.name,
                backend=step.backend,
                cpu_s_per_sample=step.cpu_s_per_sample,
                energy_j_per_sample=dict(step.energy_j_per_sample),
            )
            for step in report.own_steps
        ),
        seconds=seconds,
    )


def conclude(
    asked: Asked,
    runs: Sequence[Run],
    cards: Mapping[str, Card],
    meters: Sequence[MeterStatus],
    end: RaceEnd | None,
) -> Comparison:
    """What was measured so far, judged.

    Args:
        asked: what is compared.
        runs: that have ended.
        cards: of all strategies.
        meters: of this machine.
        end: how the race ended; None while it runs.
    """
    found = Findings(asked.rules, runs, cards)
    left = end.left if end is not None else {}
    recommended, reason = found.choice
    if any(found.counts) and recommended is None and (short := _short_budget(asked, found, end)):
        reason = f"{reason}; {short[0]}"
    if not asked.evaluates:
        recommended, reason = None, "nothing was evaluated, so nothing can be recommended: give evaluate"
    return Comparison(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        greenload=greenload.__version__,
        machine=machine(),
        meters=tuple(meters),
        key=key_of(asked.same),
        settings=asked.settings,
        unit=found.unit,
        cards=tuple(found.card(cards[name], asked.demand, left.get(name, "")) for name in asked.rules.names),
        runs=tuple(runs),
        pareto=found.pareto,
        steps_up=found.steps_up,
        ties=found.ties,
        recommended=recommended,
        reason=reason,
        limits=found.limits,
        notes=tuple(_notes(asked, found, end)),
        finished=end is not None,
    )


def _notes(asked: Asked, found: Findings, end: RaceEnd | None) -> list[str]:
    """What a reader must know beside the figures."""
    notes = []
    if end is not None and end.ended in (BUDGET, HOPELESS, FAILED):
        notes.append(f"the comparison ended: {end.ended}")
    notes += _short_budget(asked, found, end)
    unseen = [name for name, card in found.cards.items() if not card.seconds]
    if end is not None and unseen and asked.budget_s is not None:
        part = "a third of the budget" if asked.evaluates else "the budget"
        notes.append(f"{', '.join(unseen)} not profiled: profiles take at most {part} of {asked.budget_s:,.0f} s")
    notes += [f"{name} left the race: {why}" for name, why in (end.left if end is not None else {}).items()]
    notes += failures(found.runs)
    alike = [
        name
        for row, name in enumerate(found.rules.names)
        if found.counts[row] >= ENOUGH_RUNS and len(found.scores_of(name)) == 1
    ]
    if alike:
        notes.append(
            f"{', '.join(alike)} scored the same with every seed: where evaluate doesn't use its seed, intervals of "
            "scores tell nothing"
        )
    first = next((run for run in found.runs if run.score is not None), None)
    if end is not None and first is not None and not first.warm_up_s:
        notes.append(
            f"{first.strategy}'s cost with seed {first.seed} has imports and the like in it, which the first run pays "
            "once: the budget had no room to run it twice"
        )
    if any(found.counts):
        notes.append(_cost_note(found))
    return notes


def failures(runs: Sequence[Run]) -> list[str]:
    """Each way in which runs failed, once: ``"plain, mixup failed (seeds 0, 1): ValueError: … (train.py:12)"``."""
    ways: dict[str, list[Run]] = {}
    for run in runs:
        if run.score is None:
            ways.setdefault(run.failed, []).append(run)
    notes = []
    for why, own in ways.items():
        names, seeds = dict.fromkeys(run.strategy for run in own), sorted({run.seed for run in own})
        told = f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
        notes.append(f"{', '.join(names)} failed ({told}): {why}")
    return notes


def _short_budget(asked: Asked, found: Findings, end: RaceEnd | None) -> list[str]:
    """Where the budget didn't reach for enough runs of everybody: how much would."""
    if end is None or end.ended != BUDGET or asked.budget_s is None:
        return []
    left = set(end.left)
    short = [name for row, name in enumerate(found.rules.names) if found.counts[row] < ENOUGH_RUNS and name not in left]
    if not short:
        return []
    profiles = [card.seconds for card in found.cards.values() if card.seconds]
    longest = max((run.seconds for run in found.runs), default=0.0)
    names = len(found.rules.names)
    needs = f"{(sum(profiles) / max(1, len(profiles)) + asked.seeds * longest) * names:,.0f} s"
    enough = f"about {needs}" if found.runs else f"more than {needs}"
    few = f"too small for {ENOUGH_RUNS} runs of {', '.join(short)}"
    return [f"the budget of {asked.budget_s:,.0f} s was {few}: give {enough}"]


def _cost_note(found: Findings) -> str:
    """What costs are of."""
    if found.unit == CPU_SECONDS:
        return "no counter read joules in every run: costs are CPU seconds, of loader and model together"
    assert found.unit == JOULES
    modelled = sorted({domain for run in found.runs for domain in run.modelled})
    said = "costs are joules of the whole machine while a run trained, idle power and other processes included"
    return f"{said}; {', '.join(modelled)} modelled" if modelled else said
