"""Which coefficients apply: those whose domain no counter reads, with the models' own values."""

from __future__ import annotations

import pytest

from greenload.energy.figures import Figure
from greenload.energy.meters.base import Channel
from greenload.energy.meters.model import ModelMeter
from greenload.energy.meters.process import Usage
from greenload.energy.meters.storage import NVME, DataLocation, Disk
from greenload.optimization.coefficients import BUSY_CPU, HELD, IDLE, MOVED, Coefficient, Coefficients, in_use

DRIVE = DataLocation((Disk("nvme0n1", NVME),))
NETWORK = DataLocation((Disk("nbd0", None),))
MEMORY = DataLocation(why="/dev/shm is in memory (tmpfs)")
RAPL = [Channel("cpu:package-0", "measured"), Channel("dram:package-0", "measured")]


def watts(value: float, half: float, provenance: str = "measured") -> Figure:
    return Figure(value, value - half, value + half, provenance)


def test_without_a_counter_joules_are_those_of_the_model_meter() -> None:
    meter = ModelMeter(("cpu", "dram", "storage"), cpus=4, disks=DRIVE.disks)
    found = in_use(meter.channels, cpus=4, location=DRIVE).each()
    usage = Usage(wall_s=10.0, cpu_s=7.0, rss_byte_s=3e10, device_read_bytes=2 * 10**9, device_written_bytes=10**9)
    joules = meter.energy_j(usage)
    assert found[BUSY_CPU].value * 7.0 == pytest.approx(joules["cpu"])
    assert found[HELD].value * 30.0 == pytest.approx(joules["dram"])
    assert found[MOVED].value * 3.0 == pytest.approx(joules["storage:nvme0n1"])
    assert found[IDLE].value == pytest.approx(meter.idle_power_w()["cpu"])
    bands = {channel.domain: channel.systematic for channel in meter.channels}
    assert found[BUSY_CPU].band == found[IDLE].band == bands["cpu"]
    assert found[HELD].band == bands["dram"]
    assert found[MOVED].band == pytest.approx(bands["storage:nvme0n1"])
    assert all(coefficient.modelled for coefficient in found.values())


def test_a_counter_of_the_processor_takes_the_place_of_its_model() -> None:
    idle = {"cpu:package-0": watts(20.0, 1.0), "gpu:0": watts(60.0, 2.0), "dram:package-0": watts(8.0, 0.4)}
    found = in_use(RAPL, cpus=2, location=DRIVE, idle_power_w=idle, memory_bytes=64e9)
    assert found.busy_cpu is None
    assert found.idle is not None
    assert found.idle.value == 80.0
    assert found.idle.band == pytest.approx(3.0 / 80.0)
    assert not found.idle.modelled
    assert found.held is not None
    assert found.held.value == pytest.approx(8.0 / 64)
    assert found.held.band == pytest.approx(0.05)
    assert found.moved is not None


def test_memory_idle_power_of_unknown_size_leaves_the_model() -> None:
    found = in_use(RAPL, cpus=2, location=MEMORY, idle_power_w={"dram:package-0": watts(8.0, 0.4)})
    assert found.held is not None
    assert found.held.modelled
    assert found.idle is None, "the counter's idle power isn't known, and its model isn't of this machine"


def test_a_gpu_idles_beside_a_modelled_processor() -> None:
    found = in_use([Channel("gpu:0", "measured")], cpus=2, location=MEMORY, idle_power_w={"gpu:0": watts(60.0, 2.0)})
    assert found.idle is not None
    assert found.idle.value == pytest.approx(61.48)
    assert found.idle.modelled
    assert found.idle.band == pytest.approx(0.74 / 61.48), "the band is of the modelled part"
    assert found.busy_cpu is not None


def test_idle_power_that_a_model_gave_is_not_taken_for_measured() -> None:
    given = {"cpu": watts(1.48, 0.0, "modelled")}
    assert in_use([], cpus=2, location=MEMORY, idle_power_w=given) == in_use([], cpus=2, location=MEMORY)


@pytest.mark.parametrize(
    ("location", "channels", "why"),
    [
        (DRIVE, [Channel("storage:nvme0n1", "measured")], ""),
        (DRIVE, [Channel("storage:nvme0n1", "vendor-declared")], ""),
        (MEMORY, [], "/dev/shm is in memory"),
        (NETWORK, [], "nbd0 is reached over a network"),
    ],
)
def test_bytes_cost_nothing_that_is_modelled_where_a_counter_or_nobody_here_has_them(
    location: DataLocation, channels: list[Channel], why: str
) -> None:
    found = in_use(channels, cpus=2, location=location)
    assert found.moved is None
    assert why in "".join(found.left_out)
    assert bool(why) == bool(found.left_out)


def test_a_counter_of_another_drive_changes_nothing() -> None:
    found = in_use([Channel("storage:sda", "measured")], cpus=2, location=DRIVE)
    assert found.moved is not None


def test_joules_keep_sampling_error_and_band_apart() -> None:
    model = Coefficient(name=BUSY_CPU, value=2.0, band=0.5, source="a test")
    joules = model.times(Figure(10.0, 9.0, 12.0, "measured"))
    assert (joules.value, joules.low, joules.high) == (20.0, 18.0, 24.0)
    assert (joules.systematic, joules.provenance) == (0.5, "modelled")
    seen = Coefficient(name=IDLE, value=2.0, band=0.1, provenance="measured", source="a test")
    joules = seen.times(Figure(10.0, 9.0, 12.0, "measured"))
    assert (joules.value, joules.low, joules.high) == (20.0, 16.0, 26.0)
    assert (joules.systematic, joules.provenance) == (0.0, "measured")
    assert model.times(Figure.missing()).value is None
    assert model.times(Figure(0.0, 0.0, 0.0, "measured")).provenance == "measured"


def test_coefficients_round_trip_through_json_and_change_one_at_a_time() -> None:
    found = in_use([], cpus=2, location=NETWORK)
    assert Coefficients.from_dict(found.to_dict()) == found
    changed = found.with_value(HELD, 1.0)
    assert changed.held is not None
    assert changed.held.value == 1.0
    assert (changed.busy_cpu, changed.idle) == (found.busy_cpu, found.idle)
    with pytest.raises(KeyError):
        found.with_value(MOVED, 1.0)
