"""NVML through a fake with the library's own calls, constants and structures."""

from __future__ import annotations

from typing import Any

import pynvml
import pytest

from greenload.energy.meter import Channel
from greenload.energy.nvml import find_nvml, visible_gpus
from greenload.energy.sampler import Sampler


class FakeNvml:
    """Stands for ``pynvml``: the same names and signatures, with its real exceptions and C structures."""

    NVMLError = pynvml.NVMLError
    NVML_SUCCESS = pynvml.NVML_SUCCESS
    NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION = pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION

    def __init__(self, *, gpus: int = 2, names: tuple[str, ...] = ("NVIDIA H100 80GB HBM3",)) -> None:
        self.gpus = gpus
        self.names = names
        self.energy_mj = [1000 * (index + 1) for index in range(gpus)]
        self.init_error: int | None = None
        self.field_status = pynvml.NVML_SUCCESS
        self.call_error: int | None = None
        self.value_type = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
        self.mig = False
        self.users = 0

    def nvmlInit(self) -> None:
        if self.init_error is not None:
            raise pynvml.NVMLError(self.init_error)
        self.users += 1

    def nvmlShutdown(self) -> None:
        self.users -= 1

    def nvmlDeviceGetCount(self) -> int:
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if not 0 <= index < self.gpus:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}abc-1234"

    def nvmlDeviceGetName(self, handle: int) -> str:
        return self.names[handle % len(self.names)]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != "MIG-55":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuid

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, migDevice: str) -> int:
        assert migDevice == "MIG-55"
        return 1

    def nvmlDeviceGetMigMode(self, device: int) -> list[int]:
        if not self.mig:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [1, 1]

    def nvmlDeviceGetFieldValues(self, handle: int, fieldIds: list[int]) -> Any:
        values = (pynvml.c_nvmlFieldValue_t * len(fieldIds))()
        values[0].fieldId = fieldIds[0]
        values[0].nvmlReturn = self.field_status
        values[0].valueType = self.value_type
        member = "uiVal" if self.value_type == pynvml.NVML_VALUE_TYPE_UNSIGNED_INT else "ullVal"
        setattr(values[0].value, member, self.energy_mj[handle])
        return values

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if self.call_error is not None:
            raise pynvml.NVMLError(self.call_error)
        return self.energy_mj[handle]


def test_the_fake_has_the_real_signatures() -> None:
    """A name that the library lacks would make the fake agree with a mistake."""
    import inspect

    for name in (n for n in vars(FakeNvml) if n.startswith("nvml")):
        real = list(inspect.signature(getattr(pynvml, name)).parameters)
        assert list(inspect.signature(getattr(FakeNvml, name)).parameters)[1:] in (real, ["handle", "fieldIds"]), name
    assert pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION == 83


def test_millijoules_become_joules_by_field_query() -> None:
    nvml = FakeNvml()
    nvml.call_error = pynvml.NVML_ERROR_NOT_SUPPORTED
    meter, statuses = find_nvml(nvml, {})
    assert meter is not None and all(s.usable for s in statuses)
    assert meter.read().counter_j == {"gpu:0": 1.0, "gpu:1": 2.0}


def test_the_value_is_read_from_the_member_that_its_type_names() -> None:
    nvml = FakeNvml(gpus=1)
    nvml.value_type = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    meter, _ = find_nvml(nvml, {})
    assert meter is not None
    assert meter.read().counter_j == {"gpu:0": 1.0}


def test_without_the_field_the_older_call_serves() -> None:
    nvml = FakeNvml(gpus=1)
    nvml.field_status = pynvml.NVML_ERROR_NOT_SUPPORTED
    meter, _ = find_nvml(nvml, {})
    assert meter is not None
    assert meter.read().counter_j == {"gpu:0": 1.0}


def test_not_supported_is_unusable_and_nvml_is_given_back() -> None:
    nvml = FakeNvml(gpus=1)
    nvml.field_status = nvml.call_error = pynvml.NVML_ERROR_NOT_SUPPORTED
    meter, (status,) = find_nvml(nvml, {})
    assert meter is None
    assert not status.usable and "Not Supported" in status.reason and "Volta" in status.remedy
    assert nvml.users == 0


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_no_driver(error: int) -> None:
    nvml = FakeNvml()
    nvml.init_error = error
    meter, (status,) = find_nvml(nvml, {})
    assert meter is None
    assert not status.usable and "driver" in status.remedy


def test_no_gpu() -> None:
    nvml = FakeNvml(gpus=0)
    meter, (status,) = find_nvml(nvml, {})
    assert meter is None and "no GPU" in status.reason and nvml.users == 0


def test_a_gpu_that_is_lost_fails_in_its_window_and_not_as_zero() -> None:
    nvml = FakeNvml(gpus=1)
    meter, _ = find_nvml(nvml, {})
    assert meter is not None
    with Sampler([meter]) as sampler:
        start = sampler.mark()
        nvml.field_status = pynvml.NVML_ERROR_GPU_IS_LOST
        window = sampler.window(start, sampler.mark())
    assert "gpu:0" not in window.energy_j
    assert "lost" in window.void["gpu:0"]
    assert nvml.users == 0


def test_the_meter_is_shut_down_once() -> None:
    nvml = FakeNvml()
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
    ],
)
def test_cuda_visible_devices(selection: str | None, expected: list[int]) -> None:
    assert visible_gpus(selection, ["GPU-0abc-1234", "GPU-1abc-1234", "GPU-2abc-1234"]) == expected


def test_only_visible_gpus_are_metered_under_their_nvml_index() -> None:
    meter, _ = find_nvml(FakeNvml(gpus=3), {"CUDA_VISIBLE_DEVICES": "2"})
    assert meter is not None
    assert [c.domain for c in meter.channels] == ["gpu:2"]
    meter, (status,) = find_nvml(FakeNvml(), {"CUDA_VISIBLE_DEVICES": ""})
    assert meter is None and "CUDA_VISIBLE_DEVICES" in status.reason


def test_a_mig_partition_shows_its_whole_board_and_says_so() -> None:
    nvml = FakeNvml()
    nvml.mig = True
    meter, (status,) = find_nvml(nvml, {"CUDA_VISIBLE_DEVICES": "MIG-55"})
    assert meter is not None
    assert status.domain == "gpu:1" and "all partitions" in status.reason


def test_unlike_gpus_chosen_by_number_are_pointed_out() -> None:
    nvml = FakeNvml(names=("NVIDIA H100", "NVIDIA T4"))
    _, statuses = find_nvml(nvml, {"CUDA_VISIBLE_DEVICES": "0"})
    assert "CUDA_DEVICE_ORDER" in statuses[0].reason
    _, statuses = find_nvml(nvml, {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert "CUDA_DEVICE_ORDER" not in statuses[0].reason


def test_aligned_marks_wait_for_the_refresh() -> None:
    class Ticking(FakeNvml):
        reads = 0

        def nvmlDeviceGetFieldValues(self, handle: int, fieldIds: list[int]) -> Any:
            self.reads += 1
            self.energy_mj[handle] = 1000 + 500 * (self.reads // 10)
            return super().nvmlDeviceGetFieldValues(handle, fieldIds)

    nvml = Ticking(gpus=1)
    meter, _ = find_nvml(nvml, {})
    assert meter is not None and isinstance(meter.channels[0], Channel)
    with Sampler([meter]) as sampler:
        sampler.mark(aligned=True)
        assert nvml.reads % 10 in (0, 1)
