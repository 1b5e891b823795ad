"""How often 95 % intervals hold the truth: profiles simulated from a known truth, with the windows the command runs.

    python -m bench.coverage [--profiles 2000]

Three noise levels; alone, and with a neighbour that takes a third of the machine, steadily or not; builds that differ
by nothing, as much as a window's noise, and twice that; noise with heavy tails in every other profile. CPU seconds and
measured joules of each step, of the whole, of the counters' total, and of what no step explains. The same with
``--precision 5%``, where a profile ends as soon as it seems precise enough; and, for information, on a machine whose
power grows more slowly than its busy cores do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.contest import Row, Spread, table
from bench.simulator import PACKAGE, Scenario, simulate, simulate_build, typical_scenario
from greenload.energy.attribution.attribute import attribute
from greenload.energy.attribution.costs import Attribution, Cost
from greenload.energy.attribution.observation import Metering, Observation
from greenload.energy.attribution.precision import further, reached
from greenload.energy.figures import Figure

NOISES = (0.01, 0.03, 0.08)
RATIOS = (0.0, 1.0, 2.0)
NEIGHBOURS = {"alone": "", "a varying neighbour": "varying", "a steady neighbour": "steady"}
CONCAVITY = 0.85
"""Power that grows with busy cores to this power breaks what neighbours' joules are told by: shown, not claimed."""
MOST_MISSES = 0.07
"""Intervals cover 93 to 97 %: so many may miss the truth."""
DOMAINS = {PACKAGE: Metering("measured")}
_PICK: dict[str, Callable[[Cost], Figure]] = {
    "CPU s": lambda cost: cost.cpu_s_per_sample,
    "joules": lambda cost: cost.energy_j_per_sample[PACKAGE],
}
PARTS = ("steps", "whole", "total", "unattributed")


@dataclass(frozen=True)
class Cell:
    """Profiles of one kind: shares of intervals that hold the truth, by quantity and part, and half-widths."""

    what: str
    noise: float
    profiles: int
    held: dict[tuple[str, str], float]
    """Share of figures, by quantity (``"CPU s"``, ``"joules"``) and one of `PARTS`."""
    by_ratio: dict[float, dict[tuple[str, str], float]]
    """The same for each size of what builds differ by, over the noise."""
    half_width: dict[str, float]
    """Median half-width of the whole, as a share of it, by quantity."""
    builds: float
    """Mean number of builds."""
    enough: float
    """Share of profiles that were as precise as wanted; 0 where nothing was."""
    judged: bool
    """Whether 93 to 97 % are claimed of it."""


def held(scenario: Scenario, windows: Sequence[Observation], found: Attribution) -> dict[tuple[str, str], list[bool]]:
    """Whether each interval of a profile holds the truth."""
    shown: dict[tuple[str, str], list[bool]] = {}
    full = [window for window in windows if window.kind == "full"]
    # The joules of idle power follow from how long the work really took.
    idle_j = scenario.idle_w[PACKAGE] * np.mean([one.work_ns / 1e9 / one.samples for one in full])
    for name, quantity in (("CPU s", "cpu_s"), ("joules", PACKAGE)):
        pick, truth = _PICK[name], scenario.truth(quantity)
        whole = truth[-1]
        shown[name, "steps"] = [_holds(pick(step.cost), value) for step, value in zip(found.steps, truth, strict=False)]
        shown[name, "whole"] = [_holds(pick(found.full), whole)]
        shown[name, "total"] = [_holds(pick(found.total), whole + (idle_j if name == "joules" else 0.0))]
        shown[name, "unattributed"] = [_holds(pick(found.unattributed), 0.0)]
    return shown


def _holds(figure: Figure, truth: float) -> bool:
    if figure.low is None or figure.high is None:
        raise ValueError(f"every simulated figure has an interval, found {figure}: mend the simulator")
    return figure.low <= truth <= figure.high


def profile(
    scenario: Scenario, rng: np.random.Generator, precision: float | None = None
) -> tuple[list[Observation], Attribution, int]:
    """The windows of a profile as the command runs it, its attribution, and how many builds that took."""
    windows, builds = simulate(scenario, rng), 2
    while True:
        found = attribute(windows, steps=scenario.names, domains=DOMAINS)
        more = 0 if precision is None else further(found, precision, builds=builds)
        if not more:
            return windows, found, builds
        for build in range(builds, builds + more):
            windows += simulate_build(scenario, rng, build)
        builds += more


def cell(what: str, neighbour: str, noise: float, profiles: int, precision: float | None = None, **more: float) -> Cell:
    """Simulate profiles of one kind, a third of them with each of `RATIOS`."""
    shown: dict[float, dict[tuple[str, str], list[bool]]] = {ratio: {} for ratio in RATIOS}
    widths: dict[str, list[float]] = {name: [] for name in _PICK}
    builds, enough = [], []
    for number in range(profiles):
        rng = np.random.default_rng((number, round(1000 * noise)))
        ratio = RATIOS[number % len(RATIOS)]
        scenario = typical_scenario(rng, noise=noise, build_ratio=ratio, other=neighbour, tails=number % 2 == 1, **more)
        windows, found, took = profile(scenario, rng, precision)
        for key, values in held(scenario, windows, found).items():
            shown[ratio].setdefault(key, []).extend(values)
        for name, pick in _PICK.items():
            whole = pick(found.full)
            widths[name].append((whole.half_width or 0.0) / abs(whole.value or 1.0))
        builds.append(took)
        enough.append(precision is not None and reached(found, precision).ok)
    keys = [(name, part) for name in _PICK for part in PARTS]
    return Cell(
        what=what,
        noise=noise,
        profiles=profiles,
        held={key: float(np.mean([one for ratio in RATIOS for one in shown[ratio].get(key, [])])) for key in keys},
        by_ratio={
            ratio: {key: float(np.mean(values)) for key, values in found.items()} for ratio, found in shown.items()
        },
        half_width={name: float(np.median(values)) for name, values in widths.items()},
        builds=float(np.mean(builds)),
        enough=float(np.mean(enough)),
        judged=not more,
    )


def cells(profiles: int = 2000) -> Iterator[Cell]:
    """All kinds of profiles; a quarter as many where the number of builds isn't fixed, which takes longer."""
    for what, neighbour in NEIGHBOURS.items():
        for noise in NOISES:
            yield cell(what, neighbour, noise, profiles)
    for what, neighbour in list(NEIGHBOURS.items())[:2]:
        for noise in NOISES:
            yield cell(f"{what}, --precision 5%", neighbour, noise, max(6, profiles // 4), 0.05)
    for what, neighbour in list(NEIGHBOURS.items())[1:]:
        for noise in NOISES:
            yield cell(f"{what}, concave power", neighbour, noise, max(6, profiles // 4), concavity=CONCAVITY)


def rows(found: Sequence[Cell]) -> list[Row]:
    """A row for each kind and figure: the median and spread over noise levels of how many intervals miss the truth."""
    kinds = {one.what: one.judged for one in found}
    return [
        Row(
            f"95 % intervals that miss the truth: {name} of {part}, {kind}",
            "%",
            Spread.of([100 * (1 - one.held[name, part]) for one in found if one.what == kind]),
            100 * MOST_MISSES if judged else None,
        )
        for kind, judged in kinds.items()
        for name in _PICK
        for part in PARTS
        if not (name == "CPU s" and part == "total")  # CPU seconds know no idle power
    ]


def coverage(profiles: int = 2000) -> list[Row]:
    """What `bench.truth` shows."""
    return rows(list(cells(profiles)))


def line(one: Cell) -> str:
    """A cell as a line of text: shares in per cent, over all and, of the steps, the least and the most by ratio."""
    parts = []
    for name in _PICK:
        shares = " ".join(f"{100 * one.held[name, part]:5.1f}" for part in PARTS)
        by_ratio = [100 * found[name, "steps"] for found in one.by_ratio.values() if (name, "steps") in found]
        parts.append(f"{name}: {shares} ({min(by_ratio):.1f}–{max(by_ratio):.1f}) ±{100 * one.half_width[name]:.1f} %")
    ended = f"{one.builds:.1f} builds" + (f", {one.enough:.0%} reached" if one.enough else "")
    return f"{one.what:36} {100 * one.noise:3.0f} %  {' | '.join(parts)}  {ended}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.coverage", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--profiles", type=int, default=2000, help="of each kind (default 2000)")
    args = parser.parse_args()
    print(f"shares of 95 % intervals that hold the truth, in per cent: {', '.join(PARTS)} (steps by build effect)")
    found = []
    for one in cells(args.profiles):
        print(line(one), flush=True)
        found.append(one)
    print(table(rows(found)))


if __name__ == "__main__":
    main()
