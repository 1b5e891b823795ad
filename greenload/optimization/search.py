"""Searches for the cheapest plan: races the candidates, fits threads to the demand, and runs the best held out."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from greenload.energy.attribution.observation import Metering
from greenload.energy.domains import Domain
from greenload.energy.figures import Figure
from greenload.optimization.builds import (
    Build,
    Drawn,
    Scatter,
    exact_rates,
    rates_of,
    scatter_of,
    with_net_joules,
)
from greenload.optimization.coefficients import Coefficients
from greenload.optimization.outlay import cost, outlay
from greenload.optimization.race import BuildCost, Differences, RaceRules, Standing, standing
from greenload.optimization.records import Candidate, Rates
from greenload.optimization.training import OBJECTIVES, Objective, Settings, Training
from greenload.optimization.trials import Trials
from greenload.optimization.verdict import Verdict, breaks, judge
from greenload.plans.plan import Plan
from greenload.text import bytes_text

LOT = 6
"""Plans that are built at the same time, at most."""
FIRST_LOT = 3
"""The same of the first ones, by which it is known how long a build takes here."""
HELD_OUT_SHARE = 0.1
"""Of the time, kept for running the winner and the runner-up once more."""
FITTING_SHARE = 0.15
"""Of the time, kept for fewer threads and for pacing, where a demand is given."""
HEADROOM = 1.05
"""How much more than the demand a plan on fewer threads must be expected to give, to be tried."""
MEMORY_SHARE = 0.9
"""Of the memory that is available, that a plan may be expected to hold."""


class Option(Protocol):
    """A plan that may be chosen, as `greenload.optimization.candidates` gives it."""

    @property
    def plan(self) -> Plan:
        """Ready for ``load``."""

    @property
    def candidate(self) -> Candidate:
        """What is known of it before it runs."""


@dataclass(frozen=True)
class Choice:
    """A plan and its candidate: an `Option`."""

    plan: Plan
    candidate: Candidate


CoefficientsOf = Callable[[Mapping[str, Figure]], Coefficients]
"""Gives the coefficients that apply, where the idle power is so many watts by domain."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What all builds so far say."""

    builds: Sequence[Build]
    """With joules of counters net of the idle machine."""
    scatter: Scatter
    coefficients: Coefficients
    candidates: tuple[Candidate, ...]
    """In the order of the options, with rates where they were measured."""
    by_objective: Mapping[Objective, tuple[BuildCost, ...]]
    """Of each build, joules and CPU seconds of the whole training."""
    idle_power_w: Mapping[str, Figure]


class Search:
    """One search, with all that it has measured.

    Args:
        options: the plans, the cheapest expected first; one of them is today's.
        training: what is asked for.
        settings: how it is done.
        trials: runs the plans.
        drawn: which samples they run on.
        coefficients_of: those that apply.
        available_bytes: memory that there is: what is expected to hold more can't be run in earnest.
        builds: of an earlier search that was stopped.
        keep: called with all builds after each lot.
        began_s: when the search began, on the monotonic clock.
    """

    def __init__(
        self,
        options: Sequence[Option],
        training: Training,
        settings: Settings,
        trials: Trials,
        drawn: Drawn,
        coefficients_of: CoefficientsOf,
        *,
        available_bytes: float,
        builds: Sequence[Build] = (),
        keep: Callable[[Sequence[Build]], None] = lambda builds: None,
        began_s: float | None = None,
    ) -> None:
        self.options: list[Option] = list(options)
        self.training, self.settings, self.drawn = training, settings, drawn
        self.trials = trials
        self.builds: list[Build] = list(builds)
        self.notes: list[str] = []
        self.left: dict[str, str] = {}
        """Why plans left the race, by name."""
        self.excluded: dict[str, str] = {}
        """Plans that aren't chosen for another reason than their cost, and why."""
        self._earlier = len(self.builds)  # builds of an earlier search
        self._coefficients_of = coefficients_of
        self._available_bytes = available_bytes
        self._keep = keep
        self._began_s = time.monotonic() if began_s is None else began_s

    @property
    def used_s(self) -> float:
        """Wall seconds so far."""
        return time.monotonic() - self._began_s

    @property
    def left_s(self) -> float:
        """Wall seconds that are left."""
        return max(0.0, self.settings.seconds - self.used_s)

    @property
    def domains(self) -> dict[str, Metering]:
        """How each energy domain is measured."""
        return {
            name: Metering(channel.provenance, channel.systematic) for name, channel in self.trials.channels.items()
        }

    @property
    def counted(self) -> bool:
        """Whether a counter reads the processor: that of a GPU alone says nothing of what a loader's threads draw."""
        measured = (name for name, domain in self.domains.items() if domain.provenance == "measured")
        return any(Domain.parse(name).kind == "cpu" for name in measured)

    def plan(self, name: str) -> Plan:
        """The plan of a name."""
        return next(option.plan for option in self.options if option.candidate.name == name)

    def run(self, first_batch_cpu_s: float = 0.0) -> Verdict:
        """Race the candidates, then the best on fewer threads where a demand leaves room; what is to be chosen.

        Args:
            first_batch_cpu_s: CPU seconds until the first batch of today's plan, where that was the first pipeline of
                this process; 0 where that isn't known.
        """
        kept_s = HELD_OUT_SHARE * self.settings.seconds
        fitting_s = FITTING_SHARE * self.settings.seconds if self.training.demand else 0.0
        names = tuple(option.candidate.name for option in self.options)
        today = tuple(option.candidate.name for option in self.options if option.candidate.today)
        self._race(names, self.settings.seconds - kept_s - fitting_s, stays=today)
        usual = [build.first_batch_cpu_s for build in self.builds if build.name in today and build.start is not None]
        if usual and first_batch_cpu_s:
            surcharge = max(0.0, first_batch_cpu_s - statistics.median(usual))
            self.drawn = replace(self.drawn, surcharge_cpu_s=surcharge)
        verdict = self.verdict()
        if self.training.demand is not None and verdict.winner:
            slower = self._on_fewer_threads(verdict.winner)
            if slower:
                self._race((verdict.winner, *slower), self.settings.seconds - kept_s, stays=())
                verdict = self.verdict()
        return verdict

    def judged(self) -> Judged:
        """What all builds so far say."""
        builds, idle_power_w = with_net_joules(self.builds, self.trials.idle_windows, self.domains)
        scatter = scatter_of(builds, self.drawn)
        coefficients = self._coefficients_of(idle_power_w)
        by_name: dict[str, list[Build]] = {}
        for build in builds:
            by_name.setdefault(build.name, []).append(build)
        candidates = {
            option.candidate.name: self._measured(option, by_name.get(option.candidate.name, []), scatter)
            for option in self.options
        }
        known = [build for build in builds if build.name in candidates]

        def costs(training: Training) -> tuple[BuildCost, ...]:
            return tuple(self._cost(build, candidates[build.name], training, coefficients) for build in known)

        return Judged(
            builds=known,
            scatter=scatter,
            coefficients=coefficients,
            candidates=tuple(candidates.values()),
            by_objective={each: costs(replace(self.training, objective=each)) for each in OBJECTIVES},
            idle_power_w=idle_power_w,
        )

    def verdict(self) -> Verdict:
        """What is chosen, by all builds so far."""
        judged = self.judged()
        costs = Differences(judged.by_objective[self.training.objective])
        able = [candidate for candidate in judged.candidates if candidate.name not in self.excluded]
        verdict = judge(able, self.training, judged.coefficients, costs, self.left)
        if not self.excluded:
            return verdict
        others = judge(judged.candidates, self.training, judged.coefficients, costs, self.left).candidates
        excluded = tuple(replace(one, lost=self.excluded[one.name]) for one in others if one.name in self.excluded)
        return replace(verdict, candidates=(*verdict.candidates, *excluded))

    def _measured(self, option: Option, builds: Sequence[Build], scatter: Scatter) -> Candidate:
        """A plan's candidate with what was measured of it: nothing of a plan that failed once, which isn't chosen."""
        candidate = option.candidate
        ran = [build for build in builds if build.start is not None]
        if not ran or any(build.failed for build in builds):
            return candidate
        rates = rates_of(ran, self.drawn, scatter)
        held = [build.kept_bytes / self.drawn.share for build in ran if build.kept_bytes is not None]
        counts = [build.kept_samples / len(self.trials.indices) for build in ran if build.kept_samples is not None]
        if held and counts:
            # By the plan's own budget: today's may be larger than what the training gives, and then breaks that bound.
            most = min(max(held), _budget(option.plan))
            in_memory, on_disk = candidate.ram_bytes > 0, candidate.disk_bytes > 0
            candidate = replace(
                candidate,
                share=min(1.0, max(counts)),
                ram_bytes=most if in_memory else candidate.ram_bytes,
                disk_bytes=most if on_disk else candidate.disk_bytes,
            )
        return replace(candidate, rates=self._with_bytes(rates, candidate))

    def _with_bytes(self, rates: Rates, candidate: Candidate) -> Rates:
        """The rates, with the bytes that the whole set moves from and to its device."""
        file, held = self.drawn.file_bytes, candidate.disk_bytes / self.drawn.of
        again = file * (1 - candidate.share if candidate.kept else 1.0) + held
        if again * self.drawn.of <= self.drawn.page_cache_bytes - candidate.ram_bytes:
            again = 0.0
        return replace(rates, first_read_bytes=file, later_read_bytes=again, written_bytes=held)

    def _cost(self, build: Build, candidate: Candidate, training: Training, coefficients: Coefficients) -> BuildCost:
        """What a build says that the whole training costs."""
        spent: float | None = None
        if build.start is not None and not build.failed:
            rates = self._with_bytes(exact_rates(build, self.drawn), candidate)
            spent = cost(outlay(rates, candidate, training, coefficients), training).value
        failed = build.failed or ("" if spent is not None else "what it costs can't be told")
        return BuildCost(name=build.name, round=build.round, cost=spent, seconds=build.seconds, failed=failed)

    def _race(self, names: Sequence[str], until_s: float, stays: tuple[str, ...]) -> Standing:
        """Build plans until the race ends, at so many seconds of the search at the latest."""
        while True:
            judged = self.judged()
            now = standing(self._rules(judged, names, until_s, stays), judged.by_objective[self.training.objective])
            if not now.runs:
                break
            plans = {name: self.plan(name) for name in self._together(now.runs)}
            self.builds += self.trials.lot(plans, now.round, until_s=self._began_s + until_s)
            self._keep(self.builds)
        raced = set(names)
        self.left = {name: why for name, why in self.left.items() if name not in raced} | dict(now.left)
        return now

    def _together(self, names: Sequence[str]) -> list[str]:
        """As many plans, one at least, as may hold at the same time what they keep of the drawn samples."""
        holds = {option.candidate.name: option.candidate.ram_bytes for option in self.options}
        together: list[str] = []
        held = 0.0
        for name in names:
            held += holds[name] * self.drawn.share
            if together and held > MEMORY_SHARE * self._available_bytes:
                break
            together.append(name)
        return together

    def _rules(self, judged: Judged, names: Sequence[str], until_s: float, stays: tuple[str, ...]) -> RaceRules:
        raced = set(names)
        here = sum(build.seconds for build in self.builds[self._earlier :] if build.name in raced)
        barred = {
            candidate.name: why
            for candidate in judged.candidates
            if candidate.name in raced and (why := self._barred(candidate))
        }
        return RaceRules(
            names=tuple(names),
            seconds=until_s,
            used_s=max(0.0, self.used_s - here),
            stays=tuple(name for name in stays if name not in barred),
            lot=LOT if self.builds else FIRST_LOT,
            barred=barred,
        )

    def _barred(self, candidate: Candidate) -> str:
        """Why a plan can't be chosen, whatever it costs; empty where it may be."""
        holds = candidate.ram_bytes
        if holds > MEMORY_SHARE * self._available_bytes:
            return (
                f"it would hold {bytes_text(holds)} in memory, where {bytes_text(self._available_bytes)} are available"
            )
        if candidate.today:
            return ""  # it is what others are held against
        rates = candidate.rates
        if not rates.builds:
            return breaks(candidate, replace(self.training, demand=None))
        best = rates.first_samples_per_s if self.training.epochs == 1 else rates.later_samples_per_s
        if self.training.demand is not None and best.high is not None and best.high < self.training.demand:
            return breaks(candidate, self.training)
        return ""

    def _on_fewer_threads(self, name: str) -> list[str]:
        """The same plan on as few threads as are expected to meet the demand, one fewer and one more; adds them."""
        option = next(option for option in self.options if option.candidate.name == name)
        rates = next(one for one in self.judged().candidates if one.name == name).rates
        rate = rates.first_samples_per_s if self.training.epochs == 1 else rates.later_samples_per_s
        threads = option.candidate.threads
        if rate.value is None or self.training.demand is None:
            return []
        enough = next(
            (count for count in range(1, threads) if rate.value * count / threads >= HEADROOM * self.training.demand),
            threads,
        )
        added = []
        # One fewer too: not all of an epoch runs on all threads, as beginning it doesn't.
        for count in range(max(1, enough - 1), min(threads, enough + 2)):
            changed = on_threads(option, count)
            if all(other.candidate.name != changed.candidate.name for other in self.options):
                self.options.append(changed)
            added.append(changed.candidate.name)
        return added


def _budget(plan: Plan) -> float:
    """Bytes that a plan's cache keeps at most; infinite where it has no budget."""
    budgets = [step.keeps.budget for step in plan.steps if step.keeps is not None]
    return float(budgets[0]) if budgets and budgets[0] is not None else math.inf


def on_threads(option: Option, threads: int) -> Choice:
    """The same plan on another number of threads."""
    old = f"{option.candidate.threads} thread"
    new = f"{threads} thread{'s' if threads > 1 else ''}"
    name = option.candidate.name
    at = name.rfind(old)
    tail = name[at + len(old) :].removeprefix("s") if at >= 0 else ""
    name = f"{name[:at]}{new}{tail}" if at >= 0 else f"{name}, {new}"
    return Choice(
        replace(option.plan, threads=threads),
        replace(option.candidate, name=name, threads=threads, today=False, rates=Rates(), outlay=None),
    )
