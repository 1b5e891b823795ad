"""The idle power of a fit, from windows before its first batch."""

from __future__ import annotations

import pytest

from greenload.energy.attribution.observation import Observation
from greenload.training.idle import measured_idle_power

PACKAGE, GPU = "cpu:package-0", "gpu:0"


def idle(number: int, watts: float, *, other_cpu_s: float = 0.0, **more: object) -> Observation:
    energy = {"energy_j": {PACKAGE: 2 * watts}, **more}
    return Observation("", "idle", number, 0, 0, 2 * 10**9, 0.0, other_cpu_s, **energy)  # type: ignore[arg-type]


def test_idle_power_is_the_mean_of_the_windows_and_its_error_is_students() -> None:
    windows = [idle(number, watts, other_cpu_s=0.5) for number, watts in enumerate((9.0, 10.0, 10.0, 11.0))]
    power = measured_idle_power(windows, [PACKAGE])[PACKAGE]
    assert power.watts.value == pytest.approx(10.0) and power.watts.provenance == "measured"
    assert power.watts.half_width == pytest.approx(3.1824 * (2 / 3 / 4) ** 0.5, rel=1e-4)
    assert power.others_per_s == pytest.approx(0.25), "their joules are in the idle power"


def test_a_slow_counter_s_joules_are_of_its_own_time() -> None:
    windows = [
        idle(number, 10.0, energy_j={GPU: 25.0}, energy_wall_ns={GPU: 25 * 10**8}, other_cpu_s=1.0)
        for number in range(3)
    ]
    power = measured_idle_power(windows, [GPU])[GPU]
    assert power.watts.value == pytest.approx(10.0) and power.others_per_s == pytest.approx(0.5)


def test_invalid_windows_are_left_out_and_one_window_is_no_measurement() -> None:
    reset = {PACKAGE: "the counter was reset"}
    windows = [idle(0, 10.0), idle(1, 12.0), idle(2, 1e6, energy_j={}, void=reset, other_cpu_s=9.0)]
    power = measured_idle_power(windows, [PACKAGE, GPU])
    assert set(power) == {PACKAGE} and power[PACKAGE].watts.value == pytest.approx(11.0)
    assert power[PACKAGE].others_per_s == 0.0
    assert measured_idle_power(windows[1:], [PACKAGE]) == {}
