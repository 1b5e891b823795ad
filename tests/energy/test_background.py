"""The idle power and other processes, taken out of a counter's joules, and what that leaves unsure."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from greenload.energy.attribution.attribute import attribute
from greenload.energy.attribution.background import find_background
from greenload.energy.attribution.intervals import half_width
from greenload.energy.attribution.observation import Metering, Observation


def window(step: str, kind: str, round_: int, build: int, cpu_s: float, **more: object) -> Observation:
    fields = {"samples": 100, "wall_ns": 10**9, **more}
    return Observation(step, kind, round_, build, cpu_s=cpu_s, **fields)  # type: ignore[arg-type]


def beside(
    other_cpu_s: tuple[float, ...], wall_s: tuple[float, ...], idle_other: tuple[float, ...], other_j: float = 40.0
) -> list[Observation]:
    """Windows of 1 CPU second each on a counter of 10 W, 20 J per own CPU second, and so many per other one."""
    rng = np.random.default_rng(4)

    def joules(wall: float, own: float, other: float) -> dict[str, float]:
        return {"cpu:package-0": 10 * wall + 20 * own + other_j * other + 0.01 * rng.standard_normal()}

    return [
        *(
            window("", "full", r, 0, 1.0, wall_ns=int(w * 1e9), other_cpu_s=o, energy_j=joules(w, 1.0, o))
            for r, (w, o) in enumerate(zip(wall_s, other_cpu_s, strict=True))
        ),
        *(
            window("", "idle", r, 0, 0.0, samples=0, other_cpu_s=o, energy_j=joules(1.0, 0.0, o))
            for r, o in enumerate(idle_other)
        ),
    ]


def test_what_varying_processes_cost_is_told_by_the_windows_whatever_our_own_joules_are() -> None:
    found = find_background(beside((0.1, 1.0, 0.4, 0.8, 0.2, 0.6), (1.0,) * 6, (0.5, 0.1, 0.9, 0.3)), "cpu:package-0")
    assert found is not None
    assert (found.watts, found.other_j_per_cpu_s) == pytest.approx((10.0, 40.0), rel=0.01)


def test_a_steady_process_cancels_against_the_idle_windows_that_hold_it_too() -> None:
    """What its CPU seconds cost can't be seen, and needn't be: one and the same power is in all windows."""
    windows = beside((0.5,) * 6, (1.0,) * 6, (0.5,) * 4)
    found = find_background(windows, "cpu:package-0")
    assert found is not None
    assert found.other_j_per_cpu_s == pytest.approx(20 + 10 / 3, rel=0.5), "the assumption decides"
    assert found.own_j(10 + 20 + 20, 1.0, 0.5) == pytest.approx(20.0, rel=0.01)
    together, idle = half_width(found.variances(1.0, 0.5)), half_width(found.variances(1.0, 0.0))
    assert idle > 10, "idle power alone is not known"
    # What is left: half a core may draw more while all others are quiet, by the power of 0.15.
    bend, waking = 0.15 * 20 * 0.5 * math.log(1.5 / 0.5), 0.3 * 20 * 0.5
    assert together == pytest.approx(1.96 * math.hypot(bend, waking), rel=0.05)


def test_what_other_processes_cost_is_in_the_interval_where_they_give_way_to_us() -> None:
    """Half a CPU second a second while idle, a quarter beside us: the rest hangs on the assumption, and says so."""
    windows = beside((0.25,) * 6, (1.0,) * 6, (0.5,) * 4, other_j=30.0)
    own = attribute(windows, steps=[], domains={"cpu:package-0": Metering("measured")}).full
    figure = own.energy_j_per_sample["cpu:package-0"]
    assert figure.low is not None and figure.high is not None
    assert figure.low < 0.2 < figure.high and figure.high - figure.low > 0.05


def test_ticks_are_not_taken_for_another_process() -> None:
    """CPU seconds of others that move by less than their clock's ticks tell nothing of their joules."""
    rng = np.random.default_rng(1)
    noisy = [
        dataclasses.replace(one, other_cpu_s=0.5 + 0.004 * rng.standard_normal())
        for one in beside((0.5,) * 12, (1.0,) * 12, (0.5,) * 4)
    ]
    found, even = (
        find_background(windows, "cpu:package-0") for windows in (noisy, beside((0.5,) * 12, (1.0,) * 12, (0.5,) * 4))
    )
    assert found is not None and even is not None
    assert found.other_j_per_cpu_s == pytest.approx(even.other_j_per_cpu_s, rel=0.05)


def test_neither_an_idle_machine_nor_another_process_gives_energy_back() -> None:
    """Another process that never rests, at a third of what our CPU seconds cost: that they are alike would leave less
    than nothing to an idle machine."""
    rng = np.random.default_rng(1)

    def at(kind: str, round_: int, own: float, other: float) -> Observation:
        joules = {"cpu:package-0": 10 + 15 * own + 5 * other + 0.01 * rng.standard_normal()}
        return window("", kind, round_, 0, own, samples=100 * (own > 0), other_cpu_s=other, energy_j=joules)

    seen = [*(at("full", r, 1.0, 3.0) for r in range(6)), *(at("idle", r, 0.0, 3.0) for r in range(4))]
    found = find_background(seen, "cpu:package-0")
    assert found is not None and found.watts == 0.0 and found.other_j_per_cpu_s > 0
    own = attribute(seen, steps=[], domains={"cpu:package-0": Metering("measured")}).full
    joules = own.energy_j_per_sample["cpu:package-0"]
    assert joules.value is not None and joules.low is not None and joules.high is not None
    assert joules.low <= 0.15 <= joules.high

    giving = [
        dataclasses.replace(one, energy_j={"cpu:package-0": 10 + 15 * one.cpu_s - 4 * one.other_cpu_s})
        for one in beside((0.1, 1.0, 0.4, 0.8, 0.2, 0.6), (1.0,) * 6, (0.5, 0.1, 0.9, 0.3))
    ]
    found = find_background(giving, "cpu:package-0")
    assert found is not None and found.other_j_per_cpu_s == 0.0 and found.watts > 0
    given = find_background(giving, "cpu:package-0", watts=10.0)
    assert given is not None and (given.watts, given.other_j_per_cpu_s) == (10.0, 0.0)


def test_windows_that_are_fitted_exactly_are_not_known_exactly() -> None:
    """Two idle windows fix the idle power and another process to the last digit, and say nothing of their error."""
    windows = beside((0.5,) * 6, (1.0,) * 6, (0.1, 0.9))
    few = find_background(windows, "cpu:package-0")
    many = find_background(beside((0.5,) * 6, (1.0,) * 6, (0.1, 0.9) * 4), "cpu:package-0")
    assert few is not None and many is not None
    assert half_width(few.variances(1.0, 0.0)) > 3 * half_width(many.variances(1.0, 0.0))


def test_where_nothing_of_ours_ran_idle_windows_alone_decide() -> None:
    resting = [dataclasses.replace(one, cpu_s=0.0) for one in beside((0.5,) * 6, (1.0,) * 6, (0.5,) * 4)]
    found = find_background(resting, "cpu:package-0")
    assert found is not None and found.other_j_per_cpu_s == 0.0
    assert found.watts == pytest.approx(30.0, rel=0.01)


def test_many_busy_cores_have_many_ticks() -> None:
    """What a core's time is billed by adds up over cores: 256 of them vary by tens of ms that no other process took."""
    rng = np.random.default_rng(2)
    other = 0.5 + 0.05 * rng.standard_normal(8)
    busy = [
        window("", "full", r, 0, 255.5, other_cpu_s=o, energy_j={"cpu:package-0": 10 + 2 * 256.0})
        for r, o in enumerate(other)
    ]
    idle = [window("", "idle", r, 0, 0.0, samples=0, energy_j={"cpu:package-0": 10.0}) for r in range(4)]
    found = find_background([*busy, *idle], "cpu:package-0")
    assert found is not None and found.other_j_per_cpu_s == pytest.approx(2.0, rel=0.2)


def test_a_background_needs_two_idle_windows() -> None:
    windows = beside((0.5,) * 6, (1.0,) * 6, (0.5,))
    assert find_background(windows, "cpu:package-0") is None
    assert find_background(windows, "cpu:package-0", watts=10.0) is not None


def test_idle_power_is_taken_out_over_the_time_in_which_joules_were_counted() -> None:
    """A slow counter's window ends at its refresh, later than the work."""
    idle = [window("", "idle", r, 0, 0.0, samples=0, energy_j={"gpu:0": 50.0}) for r in range(3)]
    longer = {"gpu:0": 1_500_000_000}
    full = [window("", "full", r, 0, 1.0, energy_j={"gpu:0": 85.0}, energy_wall_ns=longer) for r in range(4)]
    found = attribute([*idle, *full], steps=[], domains={"gpu:0": Metering("measured")})
    assert found.full.energy_j_per_sample["gpu:0"].value == pytest.approx(0.10)
    total = found.total.energy_j_per_sample["gpu:0"].value
    assert total == pytest.approx(0.60), "of idle power only what belongs to the work"
    scattered = [dataclasses.replace(one, energy_j={"gpu:0": 48.0 + 2 * one.round}) for one in idle]
    unsure = attribute([*scattered, *full], steps=[], domains={"gpu:0": Metering("measured")})
    error_w = unsure.idle_power_w["gpu:0"].half_width
    assert error_w is not None and error_w > 1
    assert unsure.full.energy_j_per_sample["gpu:0"].half_width == pytest.approx(error_w * 0.015)


def test_power_that_grows_more_slowly_than_busy_cores_is_within_the_interval() -> None:
    """Few busy cores draw more each: a straight line through the idle windows would put idle power too high."""
    full = [
        window(
            "", "full", r, 0, 8 / 3, other_cpu_s=4 / 3 + 0.001 * r, energy_j={"cpu:package-0": 10 + 20 * 4 + 0.02 * r}
        )
        for r in range(6)
    ]
    idle = [
        window("", "idle", r, 0, 0.0, samples=0, other_cpu_s=o, energy_j={"cpu:package-0": 10 + 20 * 4**0.15 * o**0.85})
        for r, o in enumerate((0.5, 1.0, 2.0, 3.0, 1.5, 3.5, 2.5, 0.8))
    ]
    line = np.polyfit([one.other_cpu_s for one in idle], [one.energy_j["cpu:package-0"] for one in idle], 1)
    assert line[1] > 13
    own = attribute([*full, *idle], steps=[], domains={"cpu:package-0": Metering("measured")}).full
    figure = own.energy_j_per_sample["cpu:package-0"]
    assert figure.value == pytest.approx(20 * 8 / 3 / 100, rel=0.02)
    found = find_background([*full, *idle], "cpu:package-0")
    assert found is not None and found.watts == pytest.approx(10.0, abs=1.0)


def test_what_long_windows_tell_of_other_processes_is_not_drowned_by_the_ticks_of_short_ones() -> None:
    """A package that wakes for a lone process: idle windows would put 26 J on its CPU second, not 20."""
    long = [
        window(
            "",
            "full",
            r,
            0,
            2.0,
            # Both cores are busy: what the other process takes, we wait for.
            wall_ns=round((2.0 + o) / 2 * 1e9),
            other_cpu_s=o,
            energy_j={"cpu:package-0": 10 * (2.0 + o) / 2 + 20 * 2.0 + 20 * o},
        )
        for r, o in enumerate((0.4, 0.9, 0.6, 1.1, 0.5, 1.0, 0.7, 0.8))
    ]
    short = [
        window(
            "a", "without", r, 0, 0.02, wall_ns=20_000_000, other_cpu_s=0.01 * (r % 2), energy_j={"cpu:package-0": 0.6}
        )
        for r in range(20)
    ]
    idle = [
        window("", "idle", r, 0, 0.0, samples=0, other_cpu_s=o, energy_j={"cpu:package-0": 10 + 26 * o})
        for r, o in enumerate((0.3, 0.7, 0.5, 0.8, 0.4, 0.9, 0.6, 0.2))
    ]
    found = find_background([*long, *short, *idle], "cpu:package-0")
    assert found is not None
    assert found.other_j_per_cpu_s == pytest.approx(20.0, abs=1.0)
    assert found.watts == pytest.approx(10.0, abs=1.0)
