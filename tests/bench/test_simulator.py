"""Simulated readings: they hold the truth they were made from, and intervals made of them hold it as often as said."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import binom

from bench.simulator import (
    PACKAGE,
    OtherProcess,
    Scenario,
    TrueStep,
    simulate,
    simulate_build,
    typical_scenario,
)
from greenload.energy.attribution.attribute import attribute
from greenload.energy.attribution.costs import Attribution, Cost
from greenload.energy.attribution.observation import Metering, Observation
from greenload.energy.attribution.precision import further
from greenload.energy.figures import Figure
from greenload.errors import UsageError

DOMAINS = {PACKAGE: Metering("measured")}


def joules(cost: Cost) -> Figure:
    return cost.energy_j_per_sample[PACKAGE]


def cpu_s(cost: Cost) -> Figure:
    return cost.cpu_s_per_sample


def profiles(
    count: int, seed: int, precision: float | None = None, **kind: object
) -> list[tuple[Scenario, Attribution]]:
    found = []
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        scenario = typical_scenario(rng, **kind)  # type: ignore[arg-type]
        windows, builds, more = [], 0, 2
        while more:
            for build in range(builds, builds + more):
                windows += simulate_build(scenario, rng, build)
            builds += more
            one = attribute(windows, steps=scenario.names, domains=DOMAINS)
            more = further(one, precision, builds=builds) if precision else 0
        found.append((scenario, one))
    return found


def holds(figure: Figure, truth: float) -> bool:
    assert figure.low is not None and figure.high is not None
    return figure.low <= truth <= figure.high


def misses(found: Sequence[tuple[Scenario, Attribution]], quantity: str) -> dict[str, list[bool]]:
    pick = cpu_s if quantity == "cpu_s" else joules
    shown: dict[str, list[bool]] = {"steps": [], "whole": [], "unattributed": []}
    for scenario, one in found:
        truth = scenario.truth(quantity)
        # One step of each profile: five of one profile err together.
        place = len(shown["whole"]) % len(scenario.steps)
        shown["steps"].append(not holds(pick(one.steps[place].cost), truth[place]))
        shown["whole"].append(not holds(pick(one.full), truth[-1]))
        shown["unattributed"].append(not holds(pick(one.unattributed), 0.0))
    return shown


def at_most(count: int, share: float = 0.05) -> int:
    """So many misses are exceeded once in a thousand times if each happens with ``share``."""
    return int(binom.ppf(0.999, count, share))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "other"),
    [
        (0.01, "varying"),
        *(pytest.param(*one, marks=pytest.mark.long) for one in ((0.01, ""), (0.01, "steady"), (0.08, ""))),
        *(pytest.param(*one, marks=pytest.mark.long) for one in ((0.08, "varying"), (0.08, "steady"))),
    ],
)
def test_intervals_hold_the_truth(other: str, noise: float) -> None:
    found = [
        one
        for ratio in (0.0, 2.0)
        for one in profiles(100, 1, noise=noise, other=other, build_ratio=ratio, tails=ratio > 0)
    ]
    for quantity in ("cpu_s", PACKAGE):
        for part, missed in misses(found, quantity).items():
            assert sum(missed) <= at_most(200, 0.06), f"{part} of {quantity}"


@pytest.mark.long
def test_intervals_hold_the_truth_where_a_profile_ends_as_soon_as_it_is_precise() -> None:
    found = profiles(120, 2, precision=0.05, noise=0.03, build_ratio=0.5)
    for quantity in ("cpu_s", PACKAGE):
        for part, missed in misses(found, quantity).items():
            assert sum(missed) <= at_most(120, 0.06), f"{part} of {quantity}"


@pytest.mark.slow
def test_intervals_are_no_wider_than_they_need_be() -> None:
    """An interval that always holds the truth says too little: 95 % of them are to, not all."""
    found = profiles(100, 3, noise=0.05, build_ratio=1.0)
    every = [
        not holds(cpu_s(step.cost), truth)
        for scenario, one in found
        for step, truth in zip(one.steps, scenario.truth("cpu_s"), strict=False)
    ]
    assert 0.01 < np.mean(every) < 0.09
    halves = [joules(one.full).half_width or math.inf for _, one in found]
    truths = [scenario.truth(PACKAGE)[-1] for scenario, _ in found]
    assert np.median(np.array(halves) / truths) < 0.12


def test_means_are_the_truth() -> None:
    rng = np.random.default_rng(0)
    scenario = dataclasses.replace(typical_scenario(rng, noise=0.02), rounds=40)
    found = attribute(simulate(scenario, rng), steps=scenario.names, domains=DOMAINS)
    for quantity, pick in (("cpu_s", cpu_s), (PACKAGE, joules)):
        truth = scenario.truth(quantity)
        assert [pick(step.cost).value for step in found.steps] == pytest.approx(truth[:-1], rel=0.1)
        assert pick(found.full).value == pytest.approx(truth[-1], rel=0.02)


def test_shares_of_cpu_seconds_would_be_wrong_for_joules_and_the_counter_shows_it() -> None:
    steps = (
        TrueStep("parse", 5e-4, {PACKAGE: 8.0}, "prefix"),
        TrueStep("vector", 5e-4, {PACKAGE: 24.0}, "replay", 5e-5),
    )
    rng = np.random.default_rng(1)
    found = attribute(simulate(Scenario(steps, noise=0.01), rng), steps=["parse", "vector"], domains=DOMAINS)
    parse, vector = (joules(step.cost).value or 0.0 for step in found.steps)
    assert vector / parse == pytest.approx(3.0, rel=0.05)


def windows_of(kind: str, seen: Sequence[Observation]) -> list[Observation]:
    return [one for one in seen if one.kind == kind]


def test_windows_are_those_of_a_campaign() -> None:
    rng = np.random.default_rng(0)
    scenario = typical_scenario(rng)
    seen = simulate(scenario, rng, builds=3)
    for build in range(3):
        mine = [one for one in seen if one.build == build]
        assert len(windows_of("idle", mine)) == 4 and len(windows_of("full", mine)) == 2 * scenario.rounds
        assert len(windows_of("prefix", mine)) == 5 and len(windows_of("with", mine)) == 4 * 5
        full = [place for place, one in enumerate(mine) if one.kind == "full"]
        assert full[0] < len(mine) / 2 < full[-1] and np.diff(full).max() > 5, "spread over the steps'"
    for with_, without in zip(windows_of("with", seen), windows_of("without", seen), strict=True):
        assert (with_.step, with_.round, with_.samples) == (without.step, without.round, without.samples)


def test_another_process_takes_a_third_beside_us_and_slows_us_down() -> None:
    alone, beside = (typical_scenario(np.random.default_rng(0), other=kind) for kind in ("", "steady"))
    seen = {kind: simulate(one, np.random.default_rng(0)) for kind, one in (("alone", alone), ("beside", beside))}
    full = windows_of("full", seen["beside"])
    assert sum(w.other_cpu_s for w in full) / sum(w.wall_ns / 1e9 for w in full) == pytest.approx(4 / 3, rel=0.1)
    wall = {kind: np.mean([w.wall_ns / w.samples for w in windows_of("full", some)]) for kind, some in seen.items()}
    assert wall["beside"] / wall["alone"] == pytest.approx(1.5, rel=0.1)


def test_where_power_is_concave_few_busy_cores_draw_more_each() -> None:
    step = (TrueStep("a", 1e-3, {PACKAGE: 10.0}, "prefix"),)
    other = OtherProcess(1.0, {PACKAGE: 10.0}, wiggle=0.0)
    watts = {}
    for concavity in (1.0, 0.5):
        scenario = Scenario(step, other=other, noise=0.0, concavity=concavity)
        seen = simulate(scenario, np.random.default_rng(0))
        for kind in ("idle", "full"):
            watts[kind, concavity] = np.mean([w.energy_j[PACKAGE] * 1e9 / w.wall_ns for w in windows_of(kind, seen)])
    assert watts["full", 0.5] == pytest.approx(watts["full", 1.0], rel=0.02), "four cores are busy either way"
    idle = [watts["idle", concavity] - 10.0 for concavity in (0.5, 1.0)]
    assert idle[0] / idle[1] == pytest.approx(2.0, rel=0.1), "one core of four draws twice its share"
    with pytest.raises(UsageError, match="concavity"):
        Scenario(step, concavity=1.2)
    with pytest.raises(UsageError, match="'bare'"):
        Scenario((TrueStep("bare", 1e-3, {PACKAGE: 10.0}),))
    with pytest.raises(UsageError, match="'loud'"):
        typical_scenario(np.random.default_rng(0), other="loud")
