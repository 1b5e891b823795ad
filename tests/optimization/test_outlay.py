"""What a plan spends: against sums worked out by hand and epoch by epoch, and linear where it must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from known_plans import COEFFICIENTS, NAMES, all_rates, figure, plan, rates, trainings

from greenload.energy.figures import Figure
from greenload.optimization.coefficients import Coefficients
from greenload.optimization.outlay import amounts, cost, outlay
from greenload.optimization.records import Candidate, Outlay, Rates
from greenload.optimization.training import Training

TRAINING = Training(samples=1000, epochs=5, ram=4 * 10**9, threads=2)
KEEPS = rates(0.004, 0.001, first_rate=250.0, later_rate=1000.0, start_s=2.0)
READS = replace(KEEPS, first_read_bytes=1e6, written_bytes=5e5, later_read_bytes=1e5)
HOLDS = plan("native", READS, ram_bytes=2e9, kept="planes in memory")


def values(spent: Outlay) -> dict[str, float]:
    return {part: number for part, each in spent.parts_j.items() if (number := each.value) is not None}


def test_every_part_of_a_training_without_a_demand() -> None:
    spent = outlay(READS, HOLDS, TRAINING, COEFFICIENTS)
    seconds = 2.0 + 4.0 + 4 * 1.0
    assert spent.cpu_s.value == pytest.approx(2.0 + 4.0 + 4 * 1.0)
    assert spent.seconds.value == pytest.approx(seconds)
    assert values(spent) == pytest.approx(
        {
            "starting": 2.0 * 2.0,
            "first epoch": 2.0 * 4.0,
            "later epochs": 2.0 * 4.0,
            "storage": 3.0 * (1000 * 1.5e6 + 4 * 1000 * 1e5) / 1e9,
            "memory": 0.4 * 2.0 * seconds,
            "idle": 1.5 * seconds,
        }
    )
    assert spent.energy_j.value == pytest.approx(math.fsum(values(spent).values()))
    assert spent.per_epoch_j.value == pytest.approx(2.0 * 1.0 + 3.0 * 0.1 + 0.4 * 2.0 * 1.0 + 1.5 * 1.0)


def test_with_a_demand_the_node_idles_only_where_the_loader_is_slower() -> None:
    asked = replace(TRAINING, demand=500.0)  # 2 s an epoch: the first takes 4, later ones would take 1
    spent = outlay(READS, HOLDS, asked, COEFFICIENTS)
    assert spent.seconds.value == pytest.approx(2.0 + 4.0 + 4 * 2.0)
    assert spent.parts_j["idle"].value == pytest.approx(1.5 * (2.0 + 2.0))
    assert spent.parts_j["memory"].value == pytest.approx(0.4 * 2.0 * 14.0)
    assert spent.per_epoch_j.value == pytest.approx(2.0 * 1.0 + 3.0 * 0.1 + 0.4 * 2.0 * 2.0)


def test_one_epoch_needs_nothing_of_later_ones() -> None:
    once = replace(TRAINING, epochs=1)
    bare = Rates(start_cpu_s=figure(2.0), first_cpu_s=figure(0.004), first_samples_per_s=figure(250.0))
    spent = outlay(bare, HOLDS, once, COEFFICIENTS)
    assert spent.cpu_s.value == pytest.approx(6.0)
    assert spent.parts_j["later epochs"].value == 0.0
    assert spent.energy_j.value == pytest.approx(2.0 * 6.0 + 0.4 * 2.0 * 6.0 + 1.5 * 6.0)
    odd = replace(READS, later_cpu_s=figure(1e9), later_samples_per_s=figure(1e-9), later_read_bytes=1e9)
    assert outlay(odd, HOLDS, once, COEFFICIENTS).energy_j == outlay(READS, HOLDS, once, COEFFICIENTS).energy_j


def test_a_plan_that_was_measured_in_one_kind_of_epoch_spends_the_same_in_the_other() -> None:
    later = Rates(later_cpu_s=figure(0.001), later_samples_per_s=figure(1000.0))
    both = replace(later, first_cpu_s=figure(0.001), first_samples_per_s=figure(1000.0), start_cpu_s=figure(0.0))
    streams = plan("tf", later)
    assert outlay(later, streams, TRAINING, COEFFICIENTS) == outlay(both, streams, TRAINING, COEFFICIENTS)


def test_what_is_not_known_is_missing_and_never_zero() -> None:
    spent = outlay(Rates(), plan("tf", Rates()), TRAINING, COEFFICIENTS)
    assert spent.cpu_s.value is None
    assert spent.energy_j.value is None
    assert spent.per_epoch_j.value is None
    slow = replace(KEEPS, later_samples_per_s=Figure(1.0, -1.0, 3.0, "measured"))
    assert outlay(slow, HOLDS, TRAINING, COEFFICIENTS).seconds.value is None, "the interval holds no rate at all"


COUNTED = replace(
    KEEPS,
    first_energy_j={"cpu:package-0": figure(0.08), "dram:package-0": figure(0.01), "storage:nvme0n1": figure(0.002)},
    later_energy_j={"cpu:package-0": figure(0.02), "dram:package-0": figure(0.005), "storage:nvme0n1": figure(0.001)},
)
ONLY_HELD = Coefficients(held=COEFFICIENTS.held, idle=COEFFICIENTS.idle)


def test_counters_take_the_place_of_models() -> None:
    spent = outlay(COUNTED, HOLDS, TRAINING, ONLY_HELD)
    assert values(spent) == pytest.approx(
        {
            "starting": 2.0 * 0.025 / 0.001,
            "first epoch": 1000 * 0.09,
            "later epochs": 4000 * 0.025,
            "storage": 1000 * 0.002 + 4000 * 0.001,
            "memory": 0.4 * 2.0 * 10.0,
            "idle": 1.5 * 10.0,
        }
    )
    assert spent.energy_j.systematic == 0.4
    assert outlay(COUNTED, plan("tf", COUNTED), TRAINING, Coefficients()).energy_j.provenance == "measured"


def test_a_modelled_domain_is_not_counted_as_well() -> None:
    spent = outlay(COUNTED, HOLDS, TRAINING, COEFFICIENTS)
    assert spent.parts_j["later epochs"].value == pytest.approx(2.0 * 4.0 + 4000 * 0.005), "the model, and memory"
    assert spent.parts_j["storage"].value == 0.0


def test_the_band_is_the_widest_of_the_models_that_count() -> None:
    assert outlay(READS, HOLDS, TRAINING, COEFFICIENTS).energy_j.systematic == 0.9
    assert outlay(KEEPS, HOLDS, TRAINING, COEFFICIENTS).energy_j.systematic == 0.5, "no byte is moved"


def test_the_interval_is_that_of_the_rates() -> None:
    unsure = rates(0.004, 0.001, first_rate=250.0, later_rate=1000.0, start_s=2.0, share=0.1)
    spent = outlay(unsure, plan("tf", unsure), TRAINING, Coefficients(busy_cpu=COEFFICIENTS.busy_cpu))
    assert spent.cpu_s.half_width == pytest.approx(0.1 * 10.0)
    assert spent.energy_j.half_width == pytest.approx(2.0 * 0.1 * 10.0)


def test_the_objective_says_what_costs() -> None:
    spent = outlay(READS, HOLDS, TRAINING, COEFFICIENTS)
    assert cost(spent, TRAINING) == spent.energy_j
    assert cost(spent, replace(TRAINING, objective="cpu")) == spent.cpu_s


def made(drawn: Rates, ram: float) -> Candidate:
    return plan("native", drawn, ram_bytes=ram, kept="planes" if ram else "")


HELD_BYTES = st.sampled_from([0.0, 1e9, 3.3e9])


@given(all_rates(), trainings, HELD_BYTES, st.sampled_from(NAMES), st.floats(0.0, 100.0), st.floats(0.0, 100.0))
def test_joules_are_linear_in_each_coefficient(
    drawn: Rates, training: Training, ram: float, name: str, a: float, b: float
) -> None:
    def at(value: float) -> Figure:
        return outlay(drawn, made(drawn, ram), training, COEFFICIENTS.with_value(name, value)).energy_j

    middle, ends = at((a + b) / 2), (at(a), at(b))
    for end in ("value", "low", "high"):
        mean = (getattr(ends[0], end) + getattr(ends[1], end)) / 2
        assert getattr(middle, end) == pytest.approx(mean, rel=1e-9, abs=1e-9)
    slope = amounts(drawn, made(drawn, ram), training, COEFFICIENTS).multiplied_by(name).value
    assert slope is not None
    zero = at(0.0).value
    assert zero is not None
    assert at(a).value == pytest.approx(zero + slope * a, rel=1e-9, abs=1e-9)


@given(all_rates(), trainings, HELD_BYTES)
def test_an_outlay_is_the_sum_of_its_epochs(drawn: Rates, training: Training, ram: float) -> None:
    assume(training.epochs <= 20)
    spent = outlay(drawn, made(drawn, ram), training, COEFFICIENTS)
    joules, seconds = by_epochs(drawn, training, ram)
    assert spent.energy_j.value == pytest.approx(joules, rel=1e-9)
    assert spent.seconds.value == pytest.approx(seconds, rel=1e-9)


def by_epochs(drawn: Rates, training: Training, ram: float) -> tuple[float, float]:
    """Joules and wall seconds, one epoch after the other, with COEFFICIENTS' values written out."""
    start = drawn.start_cpu_s.value or 0.0
    joules, seconds = start * (2.0 + 1.5 + 0.4 * ram / 1e9), start
    for epoch in range(training.epochs):
        cpu_s, rate, moved = (
            (drawn.first_cpu_s, drawn.first_samples_per_s, drawn.first_read_bytes + drawn.written_bytes)
            if epoch == 0
            else (drawn.later_cpu_s, drawn.later_samples_per_s, drawn.later_read_bytes)
        )
        assert cpu_s.value is not None
        assert rate.value is not None
        loader_s = training.samples / rate.value
        trainer_s = training.samples / training.demand if training.demand else 0.0
        wall_s = max(loader_s, trainer_s)
        waits_s = wall_s - trainer_s
        joules += training.samples * (2.0 * cpu_s.value + 3.0 * moved / 1e9) + 0.4 * ram / 1e9 * wall_s + 1.5 * waits_s
        seconds += wall_s
    return joules, seconds


@given(all_rates(), trainings, HELD_BYTES)
def test_one_epoch_more_costs_what_an_epoch_costs(drawn: Rates, training: Training, ram: float) -> None:
    longer = replace(training, epochs=training.epochs + 1)
    spent, more = (outlay(drawn, made(drawn, ram), asked, COEFFICIENTS) for asked in (training, longer))
    assert spent.energy_j.value is not None
    assert more.energy_j.value is not None
    assert spent.per_epoch_j.value is not None
    assert more.energy_j.value == pytest.approx(spent.energy_j.value + spent.per_epoch_j.value, rel=1e-9)


@given(all_rates(), trainings, st.sampled_from(["first", "later"]), st.floats(1.0, 3.0))
def test_a_slower_or_dearer_plan_never_spends_less(drawn: Rates, training: Training, epoch: str, factor: float) -> None:
    def changed(name: str, change: Callable[[float], float]) -> Rates:
        value = getattr(drawn, f"{epoch}_{name}").value
        return replace(drawn, **{f"{epoch}_{name}": figure(change(value))})  # type: ignore[arg-type]

    base = outlay(drawn, made(drawn, 1e9), training, COEFFICIENTS).energy_j.value
    for worse in (changed("cpu_s", lambda x: x * factor), changed("samples_per_s", lambda x: x / factor)):
        value = outlay(worse, made(worse, 1e9), training, COEFFICIENTS).energy_j.value
        assert value is not None
        assert base is not None
        assert value >= base * (1 - 1e-12)
