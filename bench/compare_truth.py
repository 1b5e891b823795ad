"""How often a comparison of strategies is right: simulated scores with a known truth, through the race's own code.

    python -m bench.compare_truth [--comparisons 1000]

Each kind is so many comparisons of two to six strategies, whose true means lie up to three spreads apart, and whose
seeds shift all of them alike; half of them with a budget, raced until all are parted, and half with three seeds each.
Kinds: spreads alike; spreads that differ up to fourfold; heavy tails; scores rounded as on a test set of 100 images;
two or more strategies that are truly equal; all of them equal.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bench.contest import Row, Spread, table
from greenload.strategies.race import Race, RaceEnd, run_race
from greenload.strategies.records import Run
from greenload.strategies.statistics import Looks
from greenload.strategies.verdict import Findings, Rules

SPREAD = 0.005
"""Of a score from seed to seed: half a percentage point of accuracy."""
MOST_WRONG, MOST_PARTED = 0.05, 0.10
"""Recommended strategies that are neither best nor tied with the best; truly equal ones that aren't called tied."""
SEEDS, BUDGET_ROUNDS = 3, 20


@dataclass(frozen=True)
class Truth:
    """Strategies whose scores and costs are known."""

    means: tuple[float, ...]
    spreads: tuple[float, ...]
    costs: tuple[float, ...]
    tails: bool = False
    """Whether noise is Student's t with three degrees of freedom."""
    decimals: int | None = None
    """Digits that scores are rounded to."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the strategies."""
        return tuple(f"strategy {number}" for number in range(len(self.means)))


@dataclass(frozen=True)
class Outcome:
    """What one comparison came to."""

    right: bool
    """The recommended strategy is one of the best, or called tied with one of them."""
    best: bool
    """It is one of the best."""
    equal_tied: bool | None
    """All pairs that are truly equal were called tied; None where there are none."""
    misranked: bool
    """Some pair was parted the wrong way."""
    parted: float | None
    """The share of truly different pairs that were parted; None where there are none."""
    rounds: float
    """Runs of a strategy, on average."""


def typical(rng: np.random.Generator, kind: str) -> Truth:
    """A truth of one of `KINDS`."""
    count = int(rng.integers(2, 7))
    means = 0.9 + SPREAD * 3 * rng.random(count)
    if kind == "some equal":
        means[: max(2, count // 2)] = means.max()
    if kind == "all equal":
        means[:] = 0.9
    spreads = SPREAD * (1 + 3 * rng.random(count) if kind == "unlike spreads" else np.ones(count))
    return Truth(
        tuple(means),
        tuple(spreads),
        tuple(10.0 + 3 * rng.random(count)),
        tails=kind == "heavy tails",
        decimals=2 if kind == "rounded" else None,
    )


KINDS = ("alike spreads", "unlike spreads", "heavy tails", "rounded", "some equal", "all equal")


def evaluation(truth: Truth, rng: np.random.Generator) -> Callable[[str, int], Run]:
    """What trains and scores, simulated: a run takes one second."""
    shifts: dict[int, float] = {}

    def run(strategy: str, seed: int) -> Run:
        index = truth.names.index(strategy)
        shift = shifts.setdefault(seed, float(rng.normal(0, 2 * SPREAD)))
        noise = float(rng.standard_t(3) / np.sqrt(3) if truth.tails else rng.normal())
        score = truth.means[index] + shift + truth.spreads[index] * noise
        score = score if truth.decimals is None else round(score, truth.decimals)
        cost = truth.costs[index] * float(rng.normal(1, 0.01))
        return Run(strategy=strategy, seed=seed, score=score, seconds=1.0, cpu_s=cost)

    return run


def compared(truth: Truth, rng: np.random.Generator, raced: bool) -> tuple[RaceEnd, Findings]:
    """One comparison, by the race's own code."""
    rules = Rules(truth.names, Looks(SEEDS, 0.05, repeated=raced))
    budget_s = float(BUDGET_ROUNDS * len(truth.names)) if raced else None
    end = run_race(Race(rules, SEEDS, budget_s=budget_s), evaluation(truth, rng))
    return end, Findings(rules, end.runs, {})


def outcome(truth: Truth, end: RaceEnd, found: Findings) -> Outcome:
    """One comparison against its truth."""
    means, count = np.array(truth.means), len(truth.means)
    best = np.flatnonzero(means >= means.max() - 1e-12)
    recommended, _ = found.choice
    chosen = truth.names.index(recommended) if recommended is not None else -1
    pairs = [(a, b) for a in range(count) for b in range(a)]
    equal = [pair for pair in pairs if abs(means[pair[0]] - means[pair[1]]) < 1e-12]
    unlike = [pair for pair in pairs if pair not in equal]
    above = found.scores.above
    return Outcome(
        right=chosen in best or any(not found.parted(chosen, int(one)) for one in best),
        best=chosen in best,
        equal_tied=not any(found.parted(a, b) for a, b in equal) if equal else None,
        misranked=any(above[a, b] and means[a] <= means[b] for a in range(count) for b in range(count)),
        parted=float(np.mean([found.parted(a, b) for a, b in unlike])) if unlike else None,
        rounds=len(end.runs) / count,
    )


def outcomes(kind: str, comparisons: int) -> Iterator[tuple[bool, Outcome]]:
    """Comparisons of one kind, every other raced."""
    for number in range(comparisons):
        rng = np.random.default_rng((KINDS.index(kind), number))
        truth, raced = typical(rng, kind), number % 2 == 1
        yield raced, outcome(truth, *compared(truth, rng, raced))


def rows(kind: str, found: list[tuple[bool, Outcome]]) -> list[Row]:
    """A row for each promise and figure, raced or not."""
    shown = []
    for raced in (True, False):
        some = [one for is_raced, one in found if is_raced == raced]
        how = f"{kind}, {'raced' if raced else f'{SEEDS} seeds'}"
        equal = [one for one in some if one.equal_tied is not None]
        unlike = [one.parted for one in some if one.parted is not None]
        shown += [
            _share(f"recommended is neither best nor tied with it: {how}", [not one.right for one in some], MOST_WRONG),
            _share(f"some pair ranked wrongly: {how}", [one.misranked for one in some], MOST_PARTED),
            _share(f"recommended is truly best: {how}", [one.best for one in some]),
            Row(f"runs of a strategy: {how}", "", Spread.of([one.rounds for one in some])),
        ]
        if equal:
            parted = [not one.equal_tied for one in equal]
            shown.append(_share(f"truly equal ones not called tied: {how}", parted, MOST_PARTED))
        if unlike:
            shown.append(Row(f"unlike pairs parted: {how}", "%", Spread.of([100 * float(np.mean(unlike))])))
    return shown


def _share(what: str, happened: list[bool], most: float | None = None) -> Row:
    return Row(what, "%", Spread.of([100 * float(np.mean(happened))]), None if most is None else 100 * most)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare_truth", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--comparisons", type=int, default=1000, help="of each kind (default 1000)")
    args = parser.parse_args()
    print(table([row for kind in KINDS for row in rows(kind, list(outcomes(kind, args.comparisons)))]))


if __name__ == "__main__":
    main()
