"""Which plan is chosen, and why others aren't: bounds, ties, budgets, break-even epochs."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from known_plans import COEFFICIENTS, figure, plan, plans, rates, spent, trainings

from greenload.optimization.outlay import cost, outlay
from greenload.optimization.race import BuildCost, Differences
from greenload.optimization.records import Candidate, Rates
from greenload.optimization.training import Training
from greenload.optimization.verdict import (
    TIE_MOST,
    Parted,
    break_even,
    breaks,
    choose,
    judge,
    limited_by,
    pareto,
)

TRAINING = Training(samples=1000, epochs=10, ram=4 * 10**9, threads=2)
STREAMS = plan("streams", rates(0.002, 0.002, first_rate=900.0, later_rate=900.0))
KEEPS = plan(
    "keeps",
    rates(0.004, 0.0004, first_rate=450.0, later_rate=4500.0),
    ram_bytes=2e9,
    kept="planes in memory",
)


def always(a: str, b: str) -> bool:
    return a != b


def never(a: str, b: str) -> bool:
    return False


def price(candidate: Candidate, training: Training) -> float:
    value = cost(outlay(candidate.rates, candidate, training, COEFFICIENTS), training).value
    assert value is not None
    return value


@st.composite
def relations(draw: st.DrawFn) -> Parted:
    """Any symmetric relation: intervals needn't be transitive."""
    seed, share = draw(st.integers(0, 10**6)), draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))

    def parted(a: str, b: str) -> bool:
        return a != b and random.Random(f"{seed} {sorted((a, b))}").random() < share

    return parted


@given(plans(most=10), trainings, relations(), st.data())
def test_a_larger_budget_never_gives_a_costlier_choice(
    candidates: list[Candidate], training: Training, parted: Parted, data: st.DataObject
) -> None:
    training = replace(training, demand=None)
    candidates = [spent(tightened(one, data), training) for one in candidates]
    larger = replace(
        training,
        ram=training.ram + data.draw(st.sampled_from([0, 10**9, 10**11])),
        disk=training.disk + data.draw(st.sampled_from([0, 10**9, 10**11])),
    )
    small, large = (
        choose([one for one in candidates if not breaks(one, asked)], asked, parted) for asked in (training, larger)
    )
    assert small is None or large is not None
    if small is not None and large is not None:
        assert price(large, training) <= price(small, training)


def test_a_plan_that_more_memory_allows_does_not_make_a_dearer_one_the_choice() -> None:
    def costing(name: str, cpu_s: float, threads: int, ram: float = 0.0) -> Candidate:
        known = rates(cpu_s, cpu_s, first_rate=900.0, later_rate=900.0)
        return spent(plan(name, known, threads=threads, ram_bytes=ram), asked)

    def parted(a: str, b: str) -> bool:
        return {a, b} == {"cheap", "simple"}

    asked = replace(TRAINING, objective="cpu")
    cheap, simple = costing("cheap", 0.00100, 2), costing("simple", 0.001015, 1)
    keeps = costing("keeps", 0.000998, 2, ram=1e9)
    assert choose([cheap, simple], asked, parted) is cheap
    assert choose([cheap, simple, keeps], asked, parted) is cheap, "the simple one is tied with the new one, but dearer"


def tightened(candidate: Candidate, data: st.DataObject) -> Candidate:
    """With rates that nearly agree with others': ties are then frequent."""
    nearly = 1 + data.draw(st.integers(0, 6)) * TIE_MOST / 4
    return replace(candidate, rates=rates(0.002 * nearly, 0.002 * nearly, first_rate=1e6, later_rate=1e6))


@given(plans(most=8), trainings, relations())
def test_the_choice_keeps_to_the_bounds_and_costs_little_more_than_the_cheapest(
    candidates: list[Candidate], training: Training, parted: Parted
) -> None:
    verdict = judge(candidates, training, COEFFICIENTS)
    assert {one.name for one in verdict.candidates} == {one.name for one in candidates}
    fitting = [spent(one, training) for one in candidates if not breaks(one, training)]
    assert bool(verdict.winner) == bool(fitting)
    chosen = choose(fitting, replace(training, demand=None), parted)
    if not fitting or chosen is None:
        assert all(one.lost for one in verdict.candidates)
        return
    least = min(price(one, training) for one in fitting)
    assert price(chosen, training) <= least * (1 + TIE_MOST) + 1e-12
    assert verdict.candidates[0].name == verdict.winner
    assert [bool(one.lost) for one in verdict.candidates] == [False] + [True] * (len(candidates) - 1)
    assert len(fitting) < 2 or verdict.candidates[1].name == verdict.runner_up
    exact = choose(fitting, training, always)
    assert exact is not None
    assert price(exact, training) == least


SIMPLER: list[Callable[[Candidate], Candidate]] = [
    lambda one: replace(one, changes=("antialias",)),
    lambda one: replace(one, ram_bytes=1e6, kept="planes"),
    lambda one: replace(one, disk_bytes=1e6, kept="planes"),
    lambda one: replace(one, backends="tf reads, native decodes"),
    lambda one: replace(one, threads=3),
    lambda one: replace(one, prefetch=9),
]


@pytest.mark.parametrize("burden", SIMPLER)
def test_of_plans_that_nothing_parts_the_simpler_is_chosen(burden: Callable[[Candidate], Candidate]) -> None:
    training = replace(TRAINING, threads=4, disk=10**9, objective="cpu")
    plain = spent(plan("plain", rates(0.002, 0.002, first_rate=900.0, later_rate=900.0)), training)
    dear = spent(burden(plan("a burden", rates(0.00198, 0.00198, first_rate=900.0, later_rate=900.0))), training)
    tied = choose([dear, plain], training, never)
    told = choose([dear, plain], training, always)
    assert tied is plain
    assert told is dear
    far = spent(replace(dear, rates=rates(0.0019, 0.0019, first_rate=900.0, later_rate=900.0)), training)
    assert choose([far, plain], training, never) is far, "5 % is more than simplicity is worth"


def test_threads_that_a_demand_does_not_need_must_show_that_they_save() -> None:
    training = replace(TRAINING, demand=100.0, objective="cpu")
    few = spent(plan("few", rates(0.0024, 0.0024, first_rate=900.0, later_rate=900.0), threads=1), training)
    many = spent(plan("many", rates(0.0020, 0.0020, first_rate=900.0, later_rate=900.0), threads=2), training)
    other = replace(many, name="other", backends="pillow")
    assert choose([many, few], training, never) is few
    assert choose([many, few], training, always) is many
    assert choose([many, few], replace(training, demand=None), never) is many, "nothing says that fewer suffice"
    assert choose([other, few], training, never) is other, "another plan"
    assert choose([replace(many, ram_bytes=1.0), few], training, never) is few
    assert choose([many, replace(few, ram_bytes=1.0)], training, never) is many, "memory may be all that is given"


def test_the_winner_and_why_the_others_lost() -> None:
    big = replace(KEEPS, name="big", ram_bytes=5e9)
    slow = replace(STREAMS, name="slow", rates=rates(0.003, 0.003, first_rate=600.0, later_rate=600.0))
    untried = plan("untried", Rates(), expected_cpu_s=0.005)
    left = {"slow": "it costs 50 % (40 % to 60 %) more than streams, in 2 builds"}
    verdict = judge([STREAMS, untried, big, slow, KEEPS], TRAINING, COEFFICIENTS, left=left)
    lost = {one.name: one.lost for one in verdict.candidates}
    assert (verdict.winner, verdict.runner_up) == ("keeps", "streams")
    assert [one.name for one in verdict.candidates] == ["keeps", "streams", "slow", "big", "untried"]
    assert lost["streams"].startswith("it costs ")
    assert lost["streams"].endswith(" times as much as keeps; most of it in later epochs")
    assert lost["slow"].startswith(left["slow"])
    assert lost["big"] == "it keeps 5.0 GB in memory, where 4.0 GB may be kept"
    assert lost["untried"] == "it wasn't run: 5 ms of CPU a sample are expected of it"
    assert verdict.candidates[0].outlay is not None
    assert verdict.candidates[-1].outlay is None
    assert verdict.pareto == ("streams", "keeps")


def test_no_break_even_is_claimed_where_later_epochs_are_not_told_apart() -> None:
    def told(share: float) -> int | None:
        later = figure(0.0015, share)
        keeps = replace(KEEPS, rates=replace(KEEPS.rates, later_cpu_s=later))
        verdict = judge([STREAMS, keeps], TRAINING, COEFFICIENTS)
        return next(one for one in verdict.candidates if one.name == "keeps").break_even_epoch

    assert told(0.1) is not None
    assert told(0.5) is None, "they may cost as much as streaming"


def test_memory_that_is_not_known_keeps_to_no_bound_and_is_null_in_json() -> None:
    unknown = replace(KEEPS, ram_bytes=math.inf)
    assert breaks(unknown, TRAINING) == "how much it keeps in memory isn't known, and 4.0 GB may be kept"
    written = json.dumps(unknown.to_dict(), allow_nan=False)
    assert json.loads(written)["ram_bytes"] is None
    assert Candidate.from_dict(json.loads(written)) == unknown


def test_ties_are_told_by_paired_differences_where_there_are_any() -> None:
    nearly = replace(STREAMS, name="nearly", threads=1)
    nearly = replace(nearly, rates=rates(0.00201, 0.00201, first_rate=900.0, later_rate=900.0))
    costs = [
        BuildCost(name=name, round=number, cost=value)
        for number, pair in enumerate([(10.0, 10.4), (11.0, 10.8), (10.5, 10.6)])
        for name, value in zip(("streams", "nearly"), pair, strict=True)
    ]
    verdict = judge([STREAMS, nearly], TRAINING, COEFFICIENTS, Differences(costs))
    assert (verdict.winner, verdict.ties) == ("nearly", ("streams",)), "as cheap, on one thread fewer"
    assert verdict.candidates[1].lost.startswith("nothing tells it from nearly, which uses fewer threads")
    assert judge([STREAMS, nearly], TRAINING, COEFFICIENTS).winner == "streams", "the rates alone have no error"


def test_the_nearest_plan_where_nothing_meets_a_demand() -> None:
    asked = replace(TRAINING, demand=1200.0, ram=0)
    busy = replace(STREAMS, rates=rates(0.002, 0.002, first_rate=1000.0, later_rate=990.0))
    waits = replace(STREAMS, name="waits", rates=rates(0.0002, 0.0002, first_rate=500.0, later_rate=500.0))
    verdict = judge([waits, busy, KEEPS], asked, COEFFICIENTS)
    assert (verdict.winner, verdict.runner_up, verdict.nearest) == ("", "", "streams")
    assert (
        verdict.limit
        == "it gives 990 of 1,200 samples a second: its 2 threads are busy, and 2.4 processors would be needed"
    )
    assert "0.1 of its 2 threads are busy" in limited_by(waits, asked)
    lost = {one.name: one.lost for one in verdict.candidates}
    assert lost["streams"] == "it gives 990 samples a second, where 1,200 are demanded"
    assert "in memory" in lost["keeps"]
    assert judge([waits, busy, KEEPS], replace(asked, ram=4 * 10**9), COEFFICIENTS).winner == "keeps"


def test_a_single_epoch_must_meet_the_demand_itself() -> None:
    asked = replace(TRAINING, demand=1000.0)
    assert not breaks(KEEPS, asked), "only the first epoch is slower"
    assert "450" in breaks(KEEPS, replace(asked, epochs=1))
    assert "unknown" in breaks(plan("untried", Rates()), asked)
    assert "threads" in breaks(replace(STREAMS, threads=3), TRAINING)
    assert "on disk" in breaks(replace(STREAMS, disk_bytes=1.0), TRAINING)


@given(plans(least=2, most=2), trainings)
def test_break_even_is_the_first_epoch_that_a_scan_finds(candidates: list[Candidate], training: Training) -> None:
    def behind(epochs: int) -> float:
        asked = replace(training, epochs=epochs)
        return price(candidates[0], asked) - price(candidates[1], asked)

    found = break_even(candidates[0], candidates[1], training, COEFFICIENTS)
    rounding = 1e-7 * price(candidates[1], replace(training, epochs=2))
    if found is None:
        assert behind(1) > -rounding
        assert behind(10**6) > -rounding * 10**6
        return
    assume(found < 10**9)
    assert behind(found) <= rounding * found
    assert found == 1 or behind(found - 1) > -rounding * found


def test_break_even_by_hand() -> None:
    only_cpu = replace(COEFFICIENTS, idle=None, held=None, moved=None)
    # 4 against 2 in the first epoch, 0.4 against 2 in later ones: even within the third
    assert break_even(KEEPS, STREAMS, TRAINING, only_cpu) == 3
    assert break_even(replace(KEEPS, rates=STREAMS.rates), STREAMS, TRAINING, only_cpu) == 1
    dear = replace(KEEPS, rates=rates(0.004, 0.002, first_rate=900.0, later_rate=900.0))
    assert break_even(dear, STREAMS, TRAINING, only_cpu) is None
    assert break_even(plan("untried", Rates()), STREAMS, TRAINING, only_cpu) is None
    verdict = judge([STREAMS, KEEPS], TRAINING, COEFFICIENTS)
    assert {one.name: one.break_even_epoch for one in verdict.candidates} == {"keeps": 3, "streams": None}


@given(plans(most=8), trainings)
def test_the_front_has_every_plan_that_no_other_makes_needless(candidates: list[Candidate], training: Training) -> None:
    candidates = [spent(one, training) for one in candidates]
    points = {one.name: (price(one, training), one.ram_bytes) for one in candidates}
    front = pareto(candidates, training)
    wanted = {
        points[name]
        for name in points
        if not any(
            other[0] <= points[name][0] and other[1] <= points[name][1] and other != points[name]
            for other in points.values()
        )
    }
    assert {points[name] for name in front} == wanted
    assert [points[name][1] for name in front] == sorted(points[name][1] for name in front)
    assert len(set(front)) == len(wanted)


def test_plans_without_rates_of_cpu_are_never_chosen() -> None:
    unknown = plan("unknown", Rates(later_samples_per_s=figure(1e6)))
    verdict = judge([unknown, STREAMS], TRAINING, COEFFICIENTS)
    assert verdict.winner == "streams"
    assert verdict.candidates[-1].lost == "it wasn't run"
    assert judge([unknown], TRAINING, COEFFICIENTS).winner == ""
