"""`compare`: which augmentation buys the most accuracy for its joules."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from greenload.energy.attribution.precision import check_precision
from greenload.energy.meters.base import MeterStatus
from greenload.plans.pipeline import Pipeline
from greenload.profiling.options import Options
from greenload.profiling.profile import profile_pipeline
from greenload.public import public
from greenload.report.data import Report
from greenload.strategies.arguments import (
    check_counters,
    checked_confidence,
    checked_demand,
    checked_evaluate,
    checked_limits,
    checked_seconds,
    checked_seeds,
    checked_strategies,
)
from greenload.strategies.augmented import augmented
from greenload.strategies.conclusion import PROFILES_SHARE, Asked, Progress, blank_card, card_of, conclude
from greenload.strategies.data import Comparison
from greenload.strategies.evaluation import Evaluate, evaluated, labels_warning
from greenload.strategies.race import Race, RaceEnd, run_race
from greenload.strategies.records import ENOUGH_RUNS, Run
from greenload.strategies.results import identity, resume
from greenload.strategies.statistics import Looks
from greenload.strategies.verdict import Rules

Profiler = Callable[[str, Pipeline, Callable[[float, str], None]], Report]
"""Profiles a strategy's loader: its name, its pipeline, and what is called with the share done and what runs now."""
Runner = Callable[[str, Pipeline, int], Run]
"""Trains and scores a strategy with a seed."""


@public
def compare(
    strategies: Mapping[str, Pipeline],
    evaluate: Evaluate | None = None,
    *,
    seeds: int = 3,
    first_seed: int = 0,
    budget: str | float | None = None,
    limits: str | Sequence[str] = (),
    at_least: float | None = None,
    demand: float | None = None,
    backend: str | Mapping[str, str] = "auto",
    confidence: float = 0.95,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    precision: float | None = None,
) -> Comparison:
    """Compare strategies of augmentation: what each costs, what it scores, and which to choose.

    Each strategy's loader is profiled, as `profile` does it but without trying changes. Then rounds are run: in each,
    every strategy is trained and scored once, with the round's seed for its pipeline and for the model, so that
    strategies differ by nothing else and are compared pair by pair, seed by seed. What decides between scores that
    can't be told apart is what a whole training costs, loader and model: joules of processors, memory and GPUs while it
    ran, of the whole machine as counters tell them; where none reads, CPU seconds of this process.

    The first run of a process pays once for imports and what else is made ready. So it is run twice, and the first of
    both doesn't count but in the time used. Where a budget has no room for that beside three runs of each, it counts,
    and a note says so.

    Nothing is ranked that the intervals can't part: such strategies are tied, and it is said how many more seeds would
    part them. With the ``confidence`` given hold together: all intervals of differences of scores, all of costs, and
    all verdicts on limits of runs, each of these three by itself, however often a race looked. More ``seeds`` asked
    for after a look at the results are one more look, which isn't counted (`greenload.strategies.statistics` has the
    formulas and their sources). Recommended is, of those that keep to the
    limits and are tied with the best score, the cheapest; where costs can't be told apart either, the best mean, and of
    equal means the cheaper. Nobody is recommended of whom fewer than three runs gave a score.

    With a ``budget`` strategies leave the race once one that costs no more surely scores more, or once they surely
    break a limit, and the rest of the time goes to those still tied. A run is not begun that would not end in time, as
    far as runs before it tell. Profiles take at most a third of the budget: none is begun, but the first, that would
    pass it, and cards of strategies that weren't profiled lack the loader's figures.

    Args:
        strategies: pipelines over the same samples by name, at least two.
        evaluate: trains on a dataset (``gl.load`` of the strategy, which gives the next epoch whenever it is iterated)
            with a seed, and returns a score, of which higher is better, as accuracy on held-out samples. Or what has a
            method ``run`` and does all of it, as ``gl.Proxy``. None for costs of loaders alone.
        seeds: rounds that every strategy runs, from 3; with a budget as far as it allows.
        first_seed: of the first round; each further round's is one more.
        budget: wall time for all, profiles included, ``"15min"`` or seconds; None for ``seeds`` rounds and no more.
        limits: what a strategy must keep to, to be recommended: ``"energy<=1.2*plain"`` (a training's joules, or CPU
            seconds, against a strategy's), ``"images_per_s>=2000"``; quantities are in `greenload.strategies.limits`.
        at_least: the least score; the same as the limit ``score>=…``.
        demand: images a second that a model takes: a card then says whether the strategy would starve it.
        backend: as in `load`.
        confidence: of intervals.
        out: a file that keeps all results as they come, and that a stopped comparison goes on from without repeating a
            run that gave a score; failed ones are run again. An edited ``evaluate``, or one
            that holds other data (defaults, variables of functions around it, fields), is another comparison's; what it
            calls, and variables of its module, aren't looked at. None to keep nothing.
        progress: called with the share done and what runs now.
        precision: of the profiles, as in `profile`.

    Returns:
        The comparison: cards, ties, the Pareto set, what each step up costs, and the recommended strategy.

    Raises:
        UsageError: an argument is out of range, ``evaluate`` can't be called so, sources differ, or a limit names no
            strategy, or is in joules where no counter reads them.
        PipelineError: a strategy doesn't fit its samples, labels or backend; names it.
        ReportError: ``out`` is damaged, is of another comparison, or can't be written.

    Warns:
        UserWarning: strategies' labels differ in form, as with MixUp in one of them, and ``evaluate`` is a function.

    Example:
        >>> choice = compare({"plain": train, "trivial": train_trivial}, evaluate=accuracy, budget="15min")
        >>> choice.recommended, choice.pareto
        ('trivial', ('plain', 'trivial'))
    """
    confidence = checked_confidence(confidence)
    count, first = checked_seeds(seeds, first_seed)
    budget_s, demand = checked_seconds(budget), checked_demand(demand)
    if precision is not None:
        check_precision(precision)
    evaluate = checked_evaluate(evaluate)
    checked = checked_strategies(strategies, backend)
    rules = Rules(
        tuple(checked),
        Looks(count, 1 - confidence, repeated=budget_s is not None),
        checked_limits(limits, at_least, tuple(checked), evaluate is not None),
        confidence,
    )
    check_counters(rules.limits, evaluate)
    if warning := labels_warning(checked, evaluate):
        warnings.warn(warning, stacklevel=2)
    same = identity(checked, evaluate, backend, first)
    asked = Asked(
        strategies=checked,
        rules=rules,
        seeds=count,
        first_seed=first,
        budget_s=budget_s,
        demand=demand,
        evaluates=evaluate is not None,
        settings={
            "seeds": count,
            "budget_s": budget_s,
            "limits": [limit.rule for limit in rules.limits],
            "demand": demand,
            "confidence": confidence,
            "precision": precision,
            "same": same,
        },
        same=same,
        out=None if out is None else os.fspath(out),
        progress=progress or _silent,
        draw=partial(augmented, checked, first),
    )

    def profiled(name: str, pipeline: Pipeline, told: Callable[[float, str], None]) -> Report:
        options = Options(backend=backend, name=name, precision=precision, progress=told, advise=False)
        return profile_pipeline(pipeline, options)

    def run(name: str, pipeline: Pipeline, seed: int) -> Run:
        assert evaluate is not None
        return evaluated(evaluate, name, pipeline, seed, backend)

    return carry_out(asked, profiled, run)


def _silent(share: float, text: str) -> None:
    """Progress that nobody follows."""


def carry_out(asked: Asked, profiled: Profiler, run: Runner) -> Comparison:
    """Profile, race, and judge; every result is kept before the next is begun.

    Args:
        asked: what is compared.
        profiled: profiles a strategy.
        run: trains and scores one.
    """
    before = resume(asked.out, asked.same)
    session = _Session(asked, before)
    session.keep()  # says now, not after an hour, if the file can't be written
    session.draw()
    session.profile_all(profiled)
    end = RaceEnd((), {}, "")
    if asked.evaluates:
        race = Race(
            asked.rules,
            asked.seeds,
            asked.first_seed,
            asked.budget_s,
            sum(card.seconds for card in session.cards.values()),
            session.cards,
        )
        end = run_race(race, lambda name, seed: session.run(run, name, seed), session.runs)
    asked.progress(1.0, "done")
    return session.keep(end)


class _Session:
    """The results so far, and the file that keeps them."""

    def __init__(self, asked: Asked, before: Comparison | None) -> None:
        self.asked = asked
        self.runs: list[Run] = [run for run in before.runs if run.score is not None] if before else []
        """Failed ones are run again: what failed may have been mended."""
        self.cold = True
        """Whether nothing was trained yet in this session."""
        self.began_s: float | None = None
        """When the profile began that goes on; None where none does."""
        self.meters: tuple[MeterStatus, ...] = before.meters if before else ()
        kept = {card.strategy: card for card in before.cards} if before else {}
        self.pictures = before.pictures if before else {}
        self.cards = {name: kept.get(name) or blank_card(name, pipeline) for name, pipeline in asked.strategies.items()}

    def keep(self, end: RaceEnd | None = None) -> Comparison:
        """The comparison as it stands, written to its file where it has one.

        Args:
            end: how the race ended; None while it runs.
        """
        judged = conclude(self.asked, self.runs, self.cards, self.meters, end)
        comparison = replace(judged, pictures=self.pictures)
        if self.asked.out is not None:
            comparison.save(self.asked.out)
        return comparison

    def draw(self) -> None:
        """Make the pictures that the page shows, if there are none."""
        self.pictures = self.pictures or self.asked.draw()

    @property
    def used_s(self) -> float:
        """Wall seconds of all profiles and runs."""
        return sum(card.seconds for card in self.cards.values()) + sum(run.wall_s for run in self.runs)

    def profile_all(self, profiled: Profiler) -> None:
        """Profile each strategy that wasn't yet, while there is budget."""
        for name, pipeline in self.asked.strategies.items():
            if self.cards[name].seconds:
                continue
            if not self._may_profile():
                return
            self.began_s = began_s = time.monotonic()
            report = profiled(name, pipeline, self._told(name))
            self.cards[name] = card_of(name, pipeline, report, time.monotonic() - began_s)
            self.began_s = None
            self.meters = report.meters
            self.keep()

    def _may_profile(self) -> bool:
        """Whether a profile is expected to end within the profiles' part of the budget: one takes what others took."""
        if self.asked.budget_s is None:
            return True
        took = [card.seconds for card in self.cards.values() if card.seconds]
        expected = sum(took) / len(took) if took else 0.0  # nothing tells what the first one takes
        part = PROFILES_SHARE if self.asked.evaluates else 1.0
        fits = sum(took) + expected <= part * self.asked.budget_s
        return fits and (not took or self.used_s + expected <= self.asked.budget_s)

    def run(self, run: Runner, name: str, seed: int) -> Run:
        """Train and score one strategy, and keep the run."""
        self.asked.progress(self._share(), f"{name}: training with seed {seed}")
        found = run(name, self.asked.strategies[name], seed)
        if self.cold and found.score is not None:
            self.cold = False
            if self._may_repeat(found):
                warm_up_s = found.seconds
                self.asked.progress(self._share(), f"{name}: training with seed {seed}, now counted")
                found = replace(run(name, self.asked.strategies[name], seed), warm_up_s=warm_up_s)
        self.runs.append(found)
        self.keep()
        return found

    def _may_repeat(self, first: Run) -> bool:
        """Whether the budget has room for the session's first run once more, beside enough runs of each strategy."""
        if self.asked.budget_s is None:
            return True
        runs = max(1, ENOUGH_RUNS * len(self.cards) - len(self.runs))
        return self.used_s + (1 + runs) * first.seconds <= self.asked.budget_s

    def _told(self, name: str) -> Callable[[float, str], None]:
        def tell(share: float, text: str) -> None:
            self.asked.progress(self._share(share), f"{name}: profiling, {text}")

        return tell

    def _share(self, of_profile: float = 0.0) -> float:
        """The share done: of the budget, or of profiles and runs by their number."""
        if self.asked.budget_s is not None:
            now_s = 0.0 if self.began_s is None else time.monotonic() - self.began_s
            return min(0.99, (self.used_s + now_s) / self.asked.budget_s)
        profiles = sum(card.seconds > 0 for card in self.cards.values())
        total = len(self.cards) * (1 + (self.asked.seeds if self.asked.evaluates else 0))
        return min(0.99, (profiles + of_profile + len(self.runs)) / total)
