"""From windows of builds to rates: the parts add up to what was seen, and intervals hold one further build."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from greenload.energy.attribution.observation import Metering, Observation
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
from greenload.optimization.outlay import outlay
from greenload.optimization.records import Candidate
from greenload.optimization.training import Training

SECOND = 10**9
PLAN = Candidate(name="plan", backends="tf", threads=2, prefetch=2)
QUIET = Scatter(start=0.0, first=0.0, later=0.0)


def window(
    cpu_s: float, samples: int = 100, wall_s: float = 1.0, build: int = 0, energy_j: Mapping[str, float] | None = None,
    step: str = "plan", kind: str = "full",
) -> Observation:  # fmt: skip
    return Observation(
        step, kind, 0, build, samples, round(wall_s * SECOND), cpu_s=cpu_s, energy_j=dict(energy_j or {})
    )


def built(
    start: float = 3.0, filling: float | None = 1.0, later: tuple[float, ...] = (0.4, 0.6), begin: float = 0.0,
    round: int = 0, name: str = "plan",
) -> Build:  # fmt: skip
    return Build(
        name=name,
        round=round,
        samples=100,
        start=window(start),
        filling=None if filling is None else window(filling),
        later=tuple(window(cpu_s) for cpu_s in later),
        begin_cpu_s=begin,
    )


def training(samples: int, epochs: int) -> Training:
    return Training(samples=samples, epochs=epochs, ram=0, threads=2)


@pytest.mark.parametrize("begin", [0.0, 0.2])
@pytest.mark.parametrize("filling", [1.0, None])
def test_a_training_of_the_drawn_samples_takes_what_was_seen(begin: float, filling: float | None) -> None:
    build = built(filling=filling, begin=begin)
    rates = exact_rates(build, Drawn(samples=100, of=100))
    for epochs in (1, 2, 5):
        spent = outlay(rates, PLAN, training(100, epochs), Coefficients())
        assert spent.cpu_s.value == pytest.approx(3.0 + (epochs - 1) * 0.5)


def test_what_beginning_an_epoch_takes_isnt_multiplied_by_the_samples() -> None:
    """An epoch of 100 takes 0.5 s, of which 0.2 s are its beginning: one of 1,000 takes 0.2 + 10 · 0.3."""
    drawn = Drawn(samples=100, of=1000)
    rates = exact_rates(built(filling=1.0, begin=0.2), drawn)
    assert rates.later_cpu_s.value == pytest.approx((0.2 + 10 * 0.3) / 1000)
    assert rates.first_cpu_s.value == pytest.approx((0.2 + 10 * 0.8) / 1000)
    assert rates.start_cpu_s.value == pytest.approx(2.0)


def test_later_epochs_without_their_beginning_get_it_added() -> None:
    drawn = Drawn(samples=100, of=1000)
    with_it = exact_rates(built(filling=1.0, begin=0.2), drawn)
    without = exact_rates(replace(built(filling=1.0, begin=0.2, later=(0.2, 0.4)), begins=False), drawn)
    assert without.later_cpu_s.value == pytest.approx(with_it.later_cpu_s.value)
    assert without.start_cpu_s.value == pytest.approx(with_it.start_cpu_s.value)
    nothing_kept = exact_rates(replace(built(filling=None, begin=0.2, later=(0.2, 0.4)), begins=False), drawn)
    assert nothing_kept.first_cpu_s == nothing_kept.later_cpu_s
    assert nothing_kept.start_cpu_s.value == pytest.approx(3.0 - 0.5)


def test_what_few_samples_take_stays_as_it_was_seen_however_long_an_epoch_takes_to_begin() -> None:
    """A hundred tiny samples take 3 ms, of epochs that take 80 ms to begin."""
    build = replace(built(filling=None, begin=0.08, later=(0.003,)), begins=False)
    rates = exact_rates(build, Drawn(samples=100, of=1000))
    assert rates.later_cpu_s.value == pytest.approx((0.08 + 10 * 0.003) / 1000)
    assert rates.first_cpu_s.value == rates.later_cpu_s.value


def test_windows_of_several_epochs_are_of_one() -> None:
    build = replace(built(), later=(window(1.2, samples=300, wall_s=0.6), window(1.6, samples=400, wall_s=0.8)))
    rates = exact_rates(build, Drawn(samples=100, of=100))
    assert rates.later_cpu_s.value == pytest.approx(0.004)
    assert rates.later_samples_per_s.value == pytest.approx(500)


def test_a_window_that_cant_be_trusted_is_left_aside() -> None:
    bad = replace(window(9.0), void={"cpu_s": "the process was not idle before it"})
    rates = exact_rates(replace(built(), later=(window(0.5), bad)), Drawn(samples=100, of=100))
    assert rates.later_cpu_s.value == pytest.approx(0.005)


def test_other_samples_widen_the_interval_less_the_more_were_drawn() -> None:
    builds = [built(later=(0.5, 0.5), round=k) for k in range(3)]
    half = {}
    for of in (100, 200, 10**6):
        rates = rates_of(builds, Drawn(samples=100, of=of, variation=0.5), QUIET)
        half[of] = rates.later_cpu_s.half_width / rates.later_cpu_s.value
    assert half[100] == pytest.approx(0.0, abs=1e-9)
    assert half[10**6] == pytest.approx(1.96 * 0.5 / 10, rel=1e-3)
    assert half[200] == pytest.approx(half[10**6] / np.sqrt(2), rel=1e-3)


def test_intervals_hold_a_further_build_as_often_as_they_say() -> None:
    """Builds that differ by 8 %, as two plans show them together: 95 % of further ones lie inside."""
    random = np.random.default_rng(3)
    drawn, inside = Drawn(samples=100, of=100), 0
    for _ in range(400):
        scattered = random.normal(1, 0.08, (2, 4))
        builds = [
            built(later=(0.5 * x,) * 2, name=name, round=k)
            for name, row in zip("ab", scattered, strict=True)
            for k, x in enumerate(row[:3])
        ]
        own = [build for build in builds if build.name == "a"]
        rates = rates_of(own, drawn, scatter_of(builds, drawn))
        inside += rates.later_cpu_s.low <= 0.005 * scattered[0, 3] <= rates.later_cpu_s.high
    assert 0.92 <= inside / 400 <= 0.99


def test_joules_are_net_of_the_idle_machine_and_shared_out_by_cpu_seconds() -> None:
    """10 W idle, 20 J a CPU second: an epoch of 0.5 CPU seconds in a second has 20 J on the counter, and 10 of them."""
    counter = "cpu:package-0"

    def seen(cpu_s: float, wall_s: float, **others: int) -> Observation:
        return window(cpu_s, wall_s=wall_s, energy_j={counter: 10 * wall_s + 20 * cpu_s, "dram": 5.0}, **others)

    builds = [
        Build(
            name="plan",
            round=k,
            samples=100,
            start=seen(3.0, 3.0, build=k),
            filling=seen(1.0, 2.0, build=k),
            later=(seen(0.5, 1.0, build=k), seen(0.5, 1.0, build=k)),
        )
        for k in range(2)
    ]
    idle = [
        Observation("", "idle", k, 0, 0, SECOND, cpu_s=0.0, energy_j={counter: 10.0 + 1e-6 * k, "dram": 1.0})
        for k in range(4)
    ]
    domains = {counter: Metering("measured"), "dram": Metering("modelled", 0.4)}
    net, watts = with_net_joules(builds, idle, domains)
    assert watts[counter].value == pytest.approx(10.0, rel=1e-3)
    rates = rates_of(net, Drawn(samples=100, of=100), QUIET)
    assert set(rates.later_energy_j) == {counter}, "modelled joules are a coefficient's"
    assert rates.later_energy_j[counter].value == pytest.approx(0.1, rel=0.02)
    assert rates.first_energy_j[counter].value == pytest.approx(0.2, rel=0.02)


def test_a_window_in_which_a_counter_was_not_read_is_not_one_without_joules() -> None:
    cpu, dram = "cpu:package-0", "dram:package-0"
    read, unread = {cpu: 20.0, dram: 2.0}, {dram: 2.0}
    plain = replace(built(filling=None), later=(window(1.0, energy_j=read), window(1.0, energy_j=unread)))
    filled = replace(plain, filling=window(2.0, energy_j=unread), round=1)
    drawn = Drawn(samples=100, of=100)
    assert exact_rates(plain, drawn).later_energy_j[cpu].value == pytest.approx(20 / 100)
    assert exact_rates(filled, drawn).first_energy_j[cpu].value == pytest.approx(2 * 20 / 100)
    never = replace(plain, later=(window(1.0, energy_j=unread),), round=2)
    rates = rates_of([plain, filled, never], drawn, QUIET)
    assert rates.later_energy_j[cpu].value == pytest.approx(20 / 100)
    assert rates.later_energy_j[dram].value == pytest.approx(2 / 100)


def test_builds_that_failed_have_no_rates() -> None:
    assert rates_of([Build(name="plan", round=0, failed="out of memory")], Drawn(samples=1, of=1), QUIET).builds == 0


def test_a_build_comes_back_from_json() -> None:
    build = built(begin=0.25)
    assert Build.from_dict(build.to_dict()) == build
