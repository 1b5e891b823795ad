"""Arithmetic of the models, checked against figures worked out by hand."""

from __future__ import annotations

import pytest

from greenload.energy.meters.model import ModelMeter
from greenload.energy.meters.process import Usage
from greenload.energy.meters.storage import DISK, FLASH, NVME, SATA, UNKNOWN, Disk, StorageClass


def usage(**changed: float | None) -> Usage:
    values = {"wall_s": 10.0, "cpu_s": 0.0, "rss_byte_s": 0.0, "device_read_bytes": 0, "device_written_bytes": 0}
    return Usage(**{**values, **changed})  # type: ignore[arg-type]


def meter(**disks: StorageClass | None) -> ModelMeter:
    return ModelMeter(("cpu", "dram", "storage"), cpus=2, disks=[Disk(*one) for one in disks.items()])


def test_two_busy_seconds_are_5_52_joules() -> None:
    assert meter().energy_j(usage(cpu_s=2.0))["cpu"] == pytest.approx(5.52)


def test_idle_and_active_add_up_to_the_full_vcpu() -> None:
    """Two vCPUs, both busy for 10 s: 3.5 W each by the source."""
    model = meter()
    assert model.idle_power_w()["cpu"] * 10 + model.energy_j(usage(cpu_s=20.0))["cpu"] == pytest.approx(70.0)


def test_a_resident_gigabyte_draws_0_392_watts() -> None:
    assert meter().energy_j(usage(rss_byte_s=10e9))["dram"] == pytest.approx(3.92)


def test_storage_by_class_and_band() -> None:
    assert meter(nvme0n1=NVME).energy_j(usage(device_read_bytes=10**9))["storage:nvme0n1"] == pytest.approx(1.75)
    assert meter(sda=DISK).energy_j(usage(device_written_bytes=10**9))["storage:sda"] == pytest.approx(15.0)
    for device in (NVME, SATA, FLASH, DISK, UNKNOWN):
        low, high = (device.j_per_byte * 1e9 * (1 + sign * device.systematic) for sign in (-1, 1))
        assert (low, high) == pytest.approx((device.low_j_per_gb, device.high_j_per_gb))


def test_several_disks_are_one_domain_with_the_range_of_all() -> None:
    model = meter(nvme0n1=NVME, sda=DISK)
    (channel,) = [c for c in model.channels if c.domain.startswith("storage")]
    assert channel.domain == "storage:all"
    assert channel.systematic == pytest.approx(StorageClass("", 0.5, 22.5).systematic)


def test_a_disk_of_unknown_cost_has_no_domain_beside_others_either() -> None:
    assert not [c for c in meter(nvme0n1=NVME, nbd0=None).channels if c.domain.startswith("storage")]


def test_unknown_bytes_give_no_figure() -> None:
    assert "storage:sda" not in meter(sda=DISK).energy_j(usage(device_read_bytes=None))


def test_models_are_additive_over_windows() -> None:
    model = meter(sda=DISK)
    parts = [usage(cpu_s=1.0, rss_byte_s=2e9, device_read_bytes=5), usage(cpu_s=3.0, rss_byte_s=1e9)]
    whole = model.energy_j(usage(wall_s=20.0, cpu_s=4.0, rss_byte_s=3e9, device_read_bytes=5))
    for domain, joules in whole.items():
        assert joules == pytest.approx(sum(model.energy_j(part)[domain] for part in parts))


def test_every_band_is_40_percent_or_worse_and_said() -> None:
    model = meter(nvme0n1=NVME)
    assert all(channel.systematic >= 0.4 and channel.provenance == "modelled" for channel in model.channels)
    assert all("±" in status.reason for status in model.statuses())
