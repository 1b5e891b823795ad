"""The NVML emulator against the real module, and what is read through it."""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import Any

import pynvml
import pytest

from greenload.energy.emulators.nvml import NvmlEmulator
from greenload.energy.emulators.nvml_boards import Board, CpuWork, ManualClock, Trace
from greenload.energy.meters.nvml import find_nvml, visible_gpus
from greenload.errors import UsageError

pytestmark = pytest.mark.alone


def one(board: Board, **options: Any) -> tuple[ManualClock, NvmlEmulator]:
    clock = ManualClock()
    return clock, NvmlEmulator([board], clock=clock.now_s, sleep=clock.sleep, **options)


def test_the_emulator_has_the_real_signatures_and_names() -> None:
    """A name that the library lacks would make the emulator agree with a mistake."""
    names = [name for name in dir(NvmlEmulator) if name.startswith("nvml")]
    assert len(names) >= 15
    for name in names:
        real = inspect.unwrap(getattr(pynvml, name))
        assert list(inspect.signature(getattr(NvmlEmulator, name)).parameters)[1:] == list(
            inspect.signature(real).parameters
        ), name
    nvml = NvmlEmulator()
    assert nvml.NVMLError is pynvml.NVMLError and nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION == 83
    with pytest.raises(AttributeError):
        nvml.nvmlDeviceGetFanSpeed(0)


def test_the_emulated_counter_moves_only_at_refreshes_and_ends_at_the_truth() -> None:
    clock, nvml = one(Board(Trace([(0.0, 70.0), (3.0, 300.0)]), refresh_s=(0.02, 0.1)))
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    seen: list[tuple[float, int]] = []
    for _ in range(6000):
        clock.sleep(0.001)
        now = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        if not seen or now != seen[-1][1]:
            seen.append((clock.now_s(), now))
    gaps = [after[0] - before[0] for before, after in pairwise(seen[1:])]
    assert 0.019 <= min(gaps) < 0.03 and 0.09 < max(gaps) <= 0.101
    assert nvml.true_energy_j(0) == pytest.approx(210 + 900)
    assert 0 <= nvml.true_energy_j(0) - seen[-1][1] / 1e3 <= 300 * 0.1
    assert nvml.true_energy_j(0, at_s=1.0) == pytest.approx(70)


def test_emulated_power_is_a_mean_of_the_last_second() -> None:
    clock, nvml = one(Board(Trace([(0.0, 100.0), (3.0, 300.0)]), refresh_s=(0.02, 0.02)))
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    for at_s, watts in ((2.0, 100), (3.5, 200), (5.0, 300)):
        clock.sleep(at_s - clock.now_s())
        assert nvml.nvmlDeviceGetPowerUsage(handle) / 1e3 == pytest.approx(watts, abs=10)


def test_a_field_has_its_own_status_type_and_time() -> None:
    clock, nvml = one(Board(Trace([(0.0, 100.0)])))
    nvml.nvmlInit()
    clock.sleep(5.0)
    energy, other = nvml.nvmlDeviceGetFieldValues(
        nvml.nvmlDeviceGetHandleByIndex(0), [pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, 1]
    )
    assert energy.nvmlReturn == pynvml.NVML_SUCCESS and other.nvmlReturn == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert energy.valueType == pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
    assert 490_000 <= energy.value.ullVal <= 500_000
    assert energy.timestamp > 1.7e15, "microseconds since 1970"


def test_an_emulated_gpu_can_follow_this_process_in_real_time(burn: Any) -> None:
    with NvmlEmulator([Board(CpuWork(idle_w=10.0, busy_w=400.0), refresh_s=(0.02, 0.02))]) as nvml:
        meter, _ = find_nvml(nvml, {})
        assert meter is not None
        true, shown = nvml.true_energy_j(0), meter.read().counter_j["gpu:0"]
        burn(0.4)
        true, shown = nvml.true_energy_j(0) - true, meter.read().counter_j["gpu:0"] - shown
    assert true > 160 and shown == pytest.approx(true, rel=0.15)
    with pytest.raises(UsageError, match="only now"):
        nvml.true_energy_j(0, at_s=0.0)


def test_installed_the_emulator_answers_for_the_module_itself() -> None:
    kept = pynvml.nvmlDeviceGetCount
    with NvmlEmulator([Board(), Board()]).installed():
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceGetCount() == 2
        meter, _ = find_nvml(None, {})
        assert meter is not None and len(meter.channels) == 2
        meter.close()
    assert pynvml.nvmlDeviceGetCount is kept


def test_millijoules_become_joules_by_field_query_or_by_the_older_call() -> None:
    for board in (Board(start_mj=1500, energy_call=False), Board(start_mj=1500, energy_field=False)):
        _, nvml = one(board)
        meter, statuses = find_nvml(nvml, {})
        assert meter is not None and all(s.usable for s in statuses)
        assert meter.read().counter_j == {"gpu:0": 1.5}


def test_the_value_is_read_from_the_member_that_its_type_names() -> None:
    class Narrow(NvmlEmulator):
        def nvmlDeviceGetFieldValues(self, handle: Any, fieldIds: Any) -> Any:
            values = super().nvmlDeviceGetFieldValues(handle, fieldIds)
            values[0].valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
            values[0].value.ullVal = (1 << 40) + 1000
            return values

    meter, _ = find_nvml(Narrow(), {})
    assert meter is not None
    assert meter.read().counter_j == {"gpu:0": 1.0}


def test_the_meter_is_shut_down_once() -> None:
    nvml = NvmlEmulator()
    meter, _ = find_nvml(nvml, {})
    assert meter is not None and nvml.users == 1
    meter.close()
    meter.close()
    assert nvml.users == 0


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        ("1,7,0", [1]),
        ("GPU-2abc", [2]),
        ("GPU-2abc-1234,0", [2, 0]),
        ("GPU-", []),
        ("0,0", [0]),
        ("²", []),
    ],
)
def test_cuda_visible_devices(selection: str | None, expected: list[int]) -> None:
    assert visible_gpus(selection, ["GPU-0abc-1234", "GPU-1abc-1234", "GPU-2abc-1234"]) == expected
