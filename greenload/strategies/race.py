"""Who runs next: rounds of one seed each for all still in the race, until all are parted or the budget is used up.

Every decision follows from the runs alone, so a race that was stopped goes on as if it never had been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from greenload.strategies.records import Card, Run
from greenload.strategies.statistics import MOST_SEEDS
from greenload.strategies.verdict import Findings, Rules

FAILURES = 2
"""Runs after which a strategy leaves the race, if all of them failed."""

_EARLY = 4  # times everybody's rounds, before anybody is given up as inseparable

PARTED = "all strategies still in the race are parted"
HOPELESS = f"more than {MOST_SEEDS} further seeds would be needed to part those that are tied"
SEEDS = "every strategy had its seeds"
BUDGET = "the budget was used up"
FAILED = "every run failed"


@dataclass(frozen=True)
class Race:
    """How a race is run."""

    rules: Rules
    seeds: int
    """Rounds that everybody runs."""
    first_seed: int = 0
    budget_s: float | None = None
    """Wall seconds for all; None for ``seeds`` rounds and no more."""
    used_s: float = 0.0
    """Of the budget, before any run."""
    cards: Mapping[str, Card] = field(default_factory=dict)


@dataclass(frozen=True)
class RaceEnd:
    """What a race came to."""

    runs: tuple[Run, ...]
    """Those kept, then those run now, in the order in which they ended."""
    left: Mapping[str, str]
    """Who left before the end, and why."""
    ended: str
    """Why it ended."""


def run_race(race: Race, run: Callable[[str, int], Run], kept: Sequence[Run] = ()) -> RaceEnd:
    """Run strategies until the race ends.

    Args:
        race: how.
        run: trains and scores a strategy with a seed.
        kept: runs of an earlier, stopped race, which aren't repeated.
    """
    done = {(one.strategy, one.seed): one for one in kept}
    left = _breaking_loaders(race)
    active = [name for name in race.rules.names if name not in left]
    ended = PARTED if race.budget_s is not None else SEEDS
    for number in range(MOST_SEEDS + race.seeds):
        seed = race.first_seed + number
        for name in _rotated(active, number):
            if (name, seed) in done:
                continue
            if not _affordable(race, name, done):
                return RaceEnd(tuple(done.values()), left, BUDGET)
            done[name, seed] = run(name, seed)
        runs = [one for (_, of_seed), one in done.items() if of_seed <= seed]
        left |= _failing(active, runs)
        active = [name for name in active if name not in left]
        if not active:
            return RaceEnd(
                tuple(done.values()), left, FAILED if not any(one.score is not None for one in runs) else ended
            )
        if number + 1 < race.seeds or (race.budget_s is not None and not race.rules.looks.is_look(number + 1)):
            continue
        if race.budget_s is None:
            break
        found = Findings(race.rules, runs, race.cards)
        left |= {name: why for name, why in _needless(found) if name not in left}
        active, ended = _undecided(found, [name for name in race.rules.names if name not in left], number + 1, race)
        if not active:
            break
    return RaceEnd(tuple(done.values()), left, ended)


def _rotated(names: Sequence[str], number: int) -> list[str]:
    """Another begins in each round, so that what the first run pays for others is shared."""
    start = number % len(names) if names else 0
    return [*names[start:], *names[:start]]


def _affordable(race: Race, name: str, done: Mapping[tuple[str, int], Run]) -> bool:
    """Whether a run is expected to end within the budget: one takes what its strategy's took, else the longest yet."""
    if race.budget_s is None:
        return True
    used = race.used_s + sum(one.wall_s for one in done.values())
    own = [one.seconds for (strategy, _), one in done.items() if strategy == name]
    expected = sum(own) / len(own) if own else max((one.seconds for one in done.values()), default=0.0)
    return used + expected <= race.budget_s


def _references(rules: Rules) -> set[str]:
    """The strategies that others are held against, whose runs are needed anyway."""
    return {limit.reference for limit in rules.limits}


def _breaking_loaders(race: Race) -> dict[str, str]:
    """Strategies that break a limit of the loader for certain: no run can change that. With a budget none is spent."""
    if race.budget_s is None:
        return {}
    found = Findings(race.rules, (), race.cards)
    loaders = {limit.rule for limit in race.rules.limits if not limit.of_runs}
    return {
        one.strategy: f"its loader breaks {one.check.rule}"
        for one in found.limits
        if one.check.rule in loaders and one.check.outcome == "exceeded"
        if one.strategy not in _references(race.rules)
    }


def _failing(names: Sequence[str], runs: Sequence[Run]) -> dict[str, str]:
    """Strategies whose runs all failed."""
    failing = {}
    for name in names:
        own = [one for one in runs if one.strategy == name]
        if len(own) >= FAILURES and all(one.score is None for one in own):
            failing[name] = f"its runs failed: {own[-1].failed}"
    return failing


def _needless(found: Findings) -> Iterator[tuple[str, str]]:
    """Strategies that can be neither recommended nor in the Pareto set, and why."""
    names = found.rules.names
    safe = [
        row
        for row, name in enumerate(names)
        if found.counts[row] and all(one.check.outcome == "met" for one in found.of_limits(name))
    ]
    for row, name in enumerate(names):
        if name in _references(found.rules) or not found.counts[row]:
            continue
        broken = [one.check.rule for one in found.of_limits(name) if one.check.outcome == "exceeded"]
        better = [
            names[other] for other in safe if found.scores.above[other, row] and not found.costs.above[other, row]
        ]
        if broken:
            yield name, f"it breaks {broken[0]}"
        elif better:
            yield name, f"{better[0]} scores more and costs no more"


def _undecided(found: Findings, alive: Sequence[str], rounds: int, race: Race) -> tuple[list[str], str]:
    """Those that further seeds can still part, and why the race ends if there are none."""
    tied = [tie for tie in found.ties if tie.a in alive and tie.b in alive]
    early = rounds < _EARLY * race.seeds  # differences of so few seeds don't tell what would part them
    hopeful = [tie for tie in tied if early or tie.more_seeds is not None]
    wanted = {name for tie in hopeful for name in (tie.a, tie.b)}
    limits = {limit.rule: limit for limit in race.rules.limits}
    for one in found.limits:
        limit = limits[one.check.rule]
        if one.check.outcome == "undecided" and limit.of_runs and one.strategy in alive:
            wanted |= {one.strategy, limit.reference} & set(race.rules.names)
    return [name for name in alive if name in wanted], HOPELESS if tied else PARTED
