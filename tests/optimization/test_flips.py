"""Where the choice would be another: exact, held against trying values one after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from known_plans import COEFFICIENTS, figure, plan, plans, rates, trainings

from greenload.optimization.coefficients import HELD, IDLE, Coefficients
from greenload.optimization.flips import flips
from greenload.optimization.outlay import outlay
from greenload.optimization.records import Candidate, Rates
from greenload.optimization.training import Training

TRAINING = Training(samples=1000, epochs=10, ram=10**10, threads=2)


def joules(candidate: Candidate, training: Training, coefficients: Coefficients) -> float:
    value = outlay(candidate.rates, candidate, training, coefficients).energy_j.value
    assert value is not None
    return value


def cheapest(candidates: list[Candidate], training: Training, coefficients: Coefficients) -> Candidate:
    return min(candidates, key=lambda one: joules(one, training, coefficients))


def test_a_flip_worked_out_by_hand() -> None:
    streams = plan("streams", rates(0.002, 0.002, first_rate=500.0, later_rate=500.0))
    keeps = plan("keeps", rates(0.001, 0.001, first_rate=500.0, later_rate=500.0), ram_bytes=5e9, kept="planes")
    only = Coefficients(busy_cpu=COEFFICIENTS.busy_cpu, held=COEFFICIENTS.held)
    # 20 s: 20 CPU s × 2 W against 10 CPU s × 2 W and 100 GB s × 0.4 W
    found = {flip.coefficient: flip for flip in flips([streams, keeps], "streams", TRAINING, only)}
    assert found[HELD].at == pytest.approx(20 / 100)
    assert found[HELD].plan == "keeps"
    assert not found[HELD].within, "±40 % of 0.4 ends at 0.24"
    assert found["watts of a busy CPU"].at == pytest.approx(40 / 10)
    assert not flips([streams, keeps], "streams", TRAINING, only, tied=["keeps"])[0].plan


@settings(max_examples=50)
@given(plans(least=1, most=6), trainings)
def test_flips_agree_with_trying_values(candidates: list[Candidate], training: Training) -> None:
    winner = cheapest(candidates, training, COEFFICIENTS)
    for flip in flips(candidates, winner.name, training, COEFFICIENTS):
        reach = 1000.0 * flip.value if flip.at is None else abs(flip.at - flip.value)
        tried = flip.value + reach * np.array([-1, -0.5, -0.1, 0.1, 0.5, 0.9, 1]) * (1 - 1e-6)
        for value in tried[tried >= 0]:
            at = COEFFICIENTS.with_value(flip.coefficient, float(value))
            best = joules(cheapest(candidates, training, at), training, at)
            assert joules(winner, training, at) <= best * (1 + 1e-7), "another plan is cheaper before the flip"
        if flip.at is None:
            continue
        beyond = flip.at + (flip.at - flip.value) * 1e-3 if flip.at != flip.value else flip.at
        at = COEFFICIENTS.with_value(flip.coefficient, max(0.0, beyond))
        other = next(one for one in candidates if one.name == flip.plan)
        own = joules(winner, training, at)
        assert joules(other, training, at) <= own * (1 + 1e-7)


@given(plans(least=2, most=6), trainings)
def test_only_models_are_asked_about_and_only_where_joules_decide(
    candidates: list[Candidate], training: Training
) -> None:
    winner = cheapest(candidates, training, COEFFICIENTS)
    assert COEFFICIENTS.idle is not None
    measured = replace(COEFFICIENTS, idle=replace(COEFFICIENTS.idle, provenance="measured"))
    asked = [flip.coefficient for flip in flips(candidates, winner.name, training, measured)]
    assert IDLE not in asked
    assert len(asked) == 3
    assert flips(candidates, winner.name, replace(training, objective="cpu"), COEFFICIENTS) == ()


def test_a_plan_of_unknown_joules_flips_nothing() -> None:
    known = plan("known", rates(0.002, 0.002, first_rate=500.0, later_rate=500.0))
    unknown = plan("unknown", Rates(later_cpu_s=figure(0.001)))
    assert all(flip.at is None for flip in flips([known, unknown], "known", TRAINING, COEFFICIENTS))
