"""Which plan is chosen, and why each other one isn't.

*Bounds*: a plan must give the demanded samples a second (in later epochs; in the only one of a single epoch), and hold
no more in memory, on disk and in threads than is given.

*The choice*: the cheapest plan; among plans that nothing tells from it, and that cost at most `TIE_MOST` more by their
means, the simplest: it changes no pixels, holds fewer bytes, runs on one backend, on fewer threads. A plan that costs
more than that isn't chosen for being simple, even where intervals don't part it: it is named as tied.

*Threads*: where a demand is given, a plan that nothing tells from itself on fewer threads isn't chosen, whatever their
means: threads that the demand doesn't need must show that they save.

*Budgets*: with the same measured rates a larger budget never gives a costlier choice. Simplicity alone doesn't see to
that: with more memory a plan may appear that a simple and dear one is tied with. So the rule is applied to every
smaller budget as well, and the cheapest of what it says is chosen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from greenload.energy.figures import Figure
from greenload.optimization.coefficients import Coefficients
from greenload.optimization.outlay import FIRST, LATER, MEMORY, STARTING, STORAGE, WAITING, cost, outlay
from greenload.optimization.race import Differences
from greenload.optimization.records import Candidate, Outlay
from greenload.optimization.training import Training
from greenload.report.comparison import ratio
from greenload.text import bytes_text, more_text, number_text, percent

TIE_MOST = 0.02
"""By how much, relative, a plan may cost more by its mean and be chosen for being simpler."""
_BUSY = 0.85  # of the threads: a loader that keeps as many busy is limited by them
_ONE_BACKEND = re.compile(r"[\w-]+")
_WHERE = {
    STARTING: "in starting",
    FIRST: "in the first epoch",
    LATER: "in later epochs",
    STORAGE: "in bytes from and to the device",
    MEMORY: "for memory held",
    WAITING: "in idle power while the trainer waits",
}

Parted = Callable[[str, str], bool]
"""Whether two plans, by their names, can be told apart in what they cost."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of each plan."""

    candidates: tuple[Candidate, ...]
    """All, with outlay, why lost, and break-even epoch: the winner, the runner-up, others by what they cost, those that
    can't be chosen, those that weren't measured."""
    winner: str
    """Its name; empty where no plan keeps to the bounds."""
    runner_up: str
    """The cheapest of the others that keep to the bounds; empty where there is none."""
    ties: tuple[str, ...]
    """Plans that nothing tells from the winner."""
    pareto: tuple[str, ...]
    """Plans of which no other is cheaper and holds no more memory, by their means, the least memory first."""
    nearest: str = ""
    """Where no plan keeps to the bounds, the one that gives the most samples a second."""
    limit: str = ""
    """What limits that one, in one sentence."""


def judge(
    candidates: Sequence[Candidate],
    training: Training,
    coefficients: Coefficients,
    differences: Differences | None = None,
    left: Mapping[str, str] | None = None,
) -> Verdict:
    """Which plan is chosen, and why each other one isn't.

    Args:
        candidates: with rates, where they were measured; names differ.
        training: what is asked for.
        coefficients: those that apply.
        differences: of the race, by which plans are told apart; by the outlays' own intervals where it has none.
        left: why plans left the race, by name.

    Example:
        >>> verdict = judge(candidates, training, coefficients, Differences(costs), standing(rules, costs).left)
        >>> verdict.winner
        'native, planes in memory, 2 threads'
    """
    measured = [_with_outlay(candidate, training, coefficients) for candidate in candidates]
    able = [candidate for candidate in measured if _cost(candidate, training) < math.inf]
    fitting = [candidate for candidate in able if not breaks(candidate, training)]
    parted = _parted(fitting, training, differences)
    winner = choose(fitting, training, parted)
    nearest = "" if winner else nearest_plan(able, training)
    ranked = sorted(fitting, key=lambda candidate: (candidate is not winner, *_rank(candidate, training)))
    unfit = sorted((one for one in able if one not in fitting), key=lambda one: _rank(one, training))
    rest = [candidate for candidate in measured if candidate not in able]
    streaming = [candidate for candidate in ranked if not candidate.kept]
    baseline = min(streaming, key=lambda candidate: _cost(candidate, training), default=None)
    return Verdict(
        candidates=tuple(
            replace(
                candidate,
                lost=why_lost(candidate, winner, training, parted, left or {}),
                break_even_epoch=None
                if baseline is None or candidate in rest or not _pays_off(candidate, baseline)
                else break_even(candidate, baseline, training, coefficients),
            )
            for candidate in (*ranked, *unfit, *rest)
        ),
        winner=winner.name if winner else "",
        runner_up=ranked[1].name if len(ranked) > 1 else "",
        ties=tuple(one.name for one in ranked[1:] if winner and not parted(one.name, winner.name)),
        pareto=pareto(ranked, training),
        nearest=nearest,
        limit=next((limited_by(one, training) for one in able if nearest and one.name == nearest), ""),
    )


def breaks(candidate: Candidate, training: Training) -> str:
    """Which bound a plan doesn't keep to, in one sentence; empty where it keeps to all."""
    for held, given, where in (
        (candidate.ram_bytes, training.ram, "in memory"),
        (candidate.disk_bytes, training.disk, "on disk"),
    ):
        if math.isinf(held) and held > given:
            return f"how much it keeps {where} isn't known, and {bytes_text(given)} may be kept"
        if held > given:
            return f"it keeps {bytes_text(held)} {where}, where {bytes_text(given)} may be kept"
    if candidate.threads > training.threads:
        return f"it uses {candidate.threads} threads, where {training.threads} may be used"
    if training.demand is None:
        return ""
    rate = samples_per_s(candidate, training).value
    if rate is None:
        return f"its samples a second are unknown, and {number_text(training.demand)} are demanded"
    if rate < training.demand:
        return f"it gives {number_text(rate)} samples a second, where {number_text(training.demand)} are demanded"
    return ""


def samples_per_s(candidate: Candidate, training: Training) -> Figure:
    """What a demand is held against: the rate of later epochs, of the only one where there are no others."""
    first, later = candidate.rates.first_samples_per_s, candidate.rates.later_samples_per_s
    asked, other = (first, later) if training.epochs == 1 else (later, first)
    return other if asked.value is None else asked


def choose(candidates: Sequence[Candidate], training: Training, parted: Parted) -> Candidate | None:
    """The plan that is chosen (the module's text has the rule); None of none.

    Args:
        candidates: measured, with outlays, all of which keep to the bounds.
        training: says what is to be spent least of.
        parted: whether two of them can be told apart.
    """
    chosen: dict[str, Candidate] = {}
    candidates = candidates if training.demand is None else _without_needless_threads(candidates, parted)
    for ram in {candidate.ram_bytes for candidate in candidates}:
        for disk in {candidate.disk_bytes for candidate in candidates}:
            within = [one for one in candidates if one.ram_bytes <= ram and one.disk_bytes <= disk]
            if within:
                simplest = _simplest(within, training, parted)
                chosen[simplest.name] = simplest
    return min(chosen.values(), key=lambda candidate: _rank(candidate, training), default=None)


def _without_needless_threads(candidates: Sequence[Candidate], parted: Parted) -> list[Candidate]:
    """Without plans that are there on fewer threads too, and hold no more there, where nothing tells the two apart."""

    def needless(candidate: Candidate) -> bool:
        return any(
            _but_for_threads(fewer) == _but_for_threads(candidate)
            and fewer.threads < candidate.threads
            and fewer.ram_bytes <= candidate.ram_bytes
            and fewer.disk_bytes <= candidate.disk_bytes
            and not parted(fewer.name, candidate.name)
            for fewer in candidates
        )

    return [candidate for candidate in candidates if not needless(candidate)]


def _but_for_threads(candidate: Candidate) -> tuple[object, ...]:
    return candidate.backends, candidate.kept, candidate.prefetch, candidate.changes


def _simplest(candidates: Sequence[Candidate], training: Training, parted: Parted) -> Candidate:
    cheapest = min(candidates, key=lambda candidate: _rank(candidate, training))
    least = _cost(cheapest, training)
    most = least + TIE_MOST * abs(least)
    tied = [
        candidate
        for candidate in candidates
        if candidate is cheapest or (_cost(candidate, training) <= most and not parted(candidate.name, cheapest.name))
    ]
    return min(tied, key=lambda candidate: (*_burdens(candidate), *_rank(candidate, training)))


def pareto(candidates: Sequence[Candidate], training: Training) -> tuple[str, ...]:
    """Plans of which no other costs as little and holds as little memory, by their means, the least memory first."""
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (one.ram_bytes, *_rank(one, training))):
        if not front or _cost(candidate, training) < _cost(front[-1], training):
            front.append(candidate)
    return tuple(candidate.name for candidate in front)


def break_even(candidate: Candidate, baseline: Candidate, training: Training, coefficients: Coefficients) -> int | None:
    """The first epoch at whose end a plan has spent no more than another, both from their start.

    It may lie behind the training's last epoch. What is spent is linear in the epochs, from the first on, so two
    trainings tell all.

    Returns:
        From 1; None where it never is, or isn't known.
    """

    def spent(plan: Candidate, epochs: int) -> float:
        asked = replace(training, epochs=epochs)
        value = cost(outlay(plan.rates, plan, asked, coefficients), asked).value
        return math.nan if value is None else value

    own, other = ((spent(plan, 1), spent(plan, 2)) for plan in (candidate, baseline))
    behind, gain = own[0] - other[0], (other[1] - other[0]) - (own[1] - own[0])
    if math.isnan(behind) or math.isnan(gain) or (behind > 0 and gain <= 0):
        return None
    return 1 if behind <= 0 else 1 + math.ceil(behind / gain - 1e-9)


def _pays_off(candidate: Candidate, baseline: Candidate) -> bool:
    """Whether a plan prepares anything, and its later epochs can be told from the other's: else no epoch is known at
    which it has paid off."""
    if not candidate.kept:
        return False
    quotient = ratio(candidate.rates.later_cpu_s, baseline.rates.later_cpu_s)
    return quotient is not None and not (quotient.low or 0.0) <= 1 <= (quotient.high or math.inf)


def nearest_plan(candidates: Sequence[Candidate], training: Training) -> str:
    """The name of the plan that gives the most samples a second, of those that break no other bound; else empty."""
    free = replace(training, demand=None)
    fitting = [candidate for candidate in candidates if not breaks(candidate, free)]
    fastest = max(fitting, key=lambda candidate: samples_per_s(candidate, training).value or 0.0, default=None)
    return fastest.name if fastest else ""


def limited_by(candidate: Candidate, training: Training) -> str:
    """Why a plan gives no more samples a second: its processors are busy, or it waits for something else."""
    rate = samples_per_s(candidate, training).value
    first, later = candidate.rates.first_cpu_s.value, candidate.rates.later_cpu_s.value
    asked, other = (first, later) if training.epochs == 1 else (later, first)
    cpu_s = other if asked is None else asked
    if rate is None or cpu_s is None or training.demand is None:
        return ""
    busy, needed = rate * cpu_s, training.demand * cpu_s
    threads = f"{candidate.threads} thread{'s' if candidate.threads > 1 else ''}"
    gives = f"it gives {number_text(rate)} of {number_text(training.demand)} samples a second"
    if busy >= _BUSY * candidate.threads:
        return f"{gives}: its {threads} are busy, and {needed:.2g} processors would be needed"
    return f"{gives}: {busy:.2g} of its {threads} are busy, so it waits for its data, or for a step on one thread"


def why_lost(
    candidate: Candidate,
    winner: Candidate | None,
    training: Training,
    parted: Parted,
    left: Mapping[str, str],
) -> str:
    """Why a plan wasn't chosen, in one sentence; empty for the winner.

    Args:
        candidate: with its outlay, where it was measured.
        winner: None where no plan keeps to the bounds.
        training: the bounds, and what is to be spent least of.
        parted: whether two plans that keep to the bounds can be told apart.
        left: why plans left the race, by name.
    """
    if candidate is winner:
        return ""
    if _cost(candidate, training) == math.inf:
        return left.get(candidate.name) or _not_run(candidate, winner)
    broken = breaks(candidate, training)
    if broken or winner is None:
        return broken
    if not parted(candidate.name, winner.name):
        return _tied(candidate, winner, training)
    more = _more(candidate, winner, training)
    said = left.get(candidate.name) or f"it costs {more_text(more)} {winner.name}"
    dearest = _dearest_part(candidate.outlay, winner.outlay) if training.objective == "energy" else ""
    return f"{said}; most of it {dearest}" if dearest else said


def _not_run(candidate: Candidate, winner: Candidate | None) -> str:
    expected = candidate.expected_cpu_s
    if expected is None:
        return "it wasn't run"
    said = f"it wasn't run: {expected * 1e3:.3g} ms of CPU a sample are expected of it"
    least = winner.expected_cpu_s if winner else None
    return said if least is None else f"{said}, {least * 1e3:.3g} ms of the one chosen"


def _tied(candidate: Candidate, winner: Candidate, training: Training) -> str:
    more = _more(candidate, winner, training)
    less = f"{percent(abs(more), fine=True)} {'more' if more >= 0 else 'less'}"
    return f"nothing tells it from {winner.name}, which {_advantage(candidate, winner)} ({less} by its mean)"


def _advantage(candidate: Candidate, winner: Candidate) -> str:
    own, best = _burdens(candidate), _burdens(winner)
    simpler = best < own
    which = next((index for index, (a, b) in enumerate(zip(own, best, strict=True)) if a != b), None)
    if not simpler or which is None:
        return "costs less by its mean"
    fewer_bytes = f"holds {bytes_text(own[1] - best[1])} less"
    ways = ("changes fewer pixels", fewer_bytes, "runs on one backend", "uses fewer threads", "prefetches less")
    return ways[which]


def _dearest_part(own: Outlay | None, best: Outlay | None) -> str:
    """Where a plan spends most of what it spends more, in words; empty where that isn't known."""
    if own is None or best is None:
        return ""
    more = {
        part: (figure.value or 0.0) - (best.parts_j[part].value or 0.0)
        for part, figure in own.parts_j.items()
        if part in best.parts_j
    }
    part = max(more, key=lambda name: more[name], default=None)
    return _WHERE.get(part, "") if part is not None and more[part] > 0 else ""


def _burdens(candidate: Candidate) -> tuple[float, ...]:
    """What makes a plan less simple, the weightiest first."""
    several = _ONE_BACKEND.fullmatch(candidate.backends) is None
    return (
        len(candidate.changes),
        candidate.ram_bytes + candidate.disk_bytes,
        several,
        candidate.threads,
        candidate.prefetch,
    )


def _with_outlay(candidate: Candidate, training: Training, coefficients: Coefficients) -> Candidate:
    """With what it spends, where its rates tell."""
    rates = candidate.rates
    if rates.first_cpu_s.value is None and rates.later_cpu_s.value is None:
        return replace(candidate, outlay=None)
    return replace(candidate, outlay=outlay(rates, candidate, training, coefficients))


def _cost(candidate: Candidate, training: Training) -> float:
    """What it spends; infinite where that isn't known."""
    value = None if candidate.outlay is None else cost(candidate.outlay, training).value
    return math.inf if value is None else value


def _rank(candidate: Candidate, training: Training) -> tuple[float | str, ...]:
    return (_cost(candidate, training), *_burdens(candidate), candidate.name)


def _more(candidate: Candidate, winner: Candidate, training: Training) -> float:
    return _cost(candidate, training) / _cost(winner, training) - 1


def _parted(candidates: Sequence[Candidate], training: Training, differences: Differences | None) -> Parted:
    """By the race's paired differences; by the outlays' own intervals, as if independent, where it has none."""
    costs = {one.name: cost(one.outlay, training) for one in candidates if one.outlay is not None}

    def parted(a: str, b: str) -> bool:
        if a == b:
            return False
        paired = differences.figure(a, b) if differences is not None else Figure.missing()
        if paired.value is not None:
            return not paired.unresolved
        quotient = ratio(costs[a], costs[b])
        return quotient is not None and not (quotient.low or 0.0) <= 1 <= (quotient.high or math.inf)

    return parted
