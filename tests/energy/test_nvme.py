"""What an NVMe drive declares of its power, and joules worked out from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from greenload.energy.attribution.attribute import attribute
from greenload.energy.attribution.observation import Metering, Observation
from greenload.energy.emulators.nvme import DeclaredState, EmulatedDrive, identify_bytes
from greenload.energy.meters.base import channels_by_domain
from greenload.energy.meters.discover import discover
from greenload.energy.meters.nvme import (
    Activity,
    DeclaredDriveMeter,
    Drive,
    PowerState,
    find_drive,
    identify,
    parse_identify,
    read_activity,
)
from greenload.energy.meters.storage import NVME, Disk, disk_at
from greenload.energy.sampler import Sampler
from greenload.errors import MeterError

ACTIVE = DeclaredState(mp=850, enlat_us=230, exlat_us=70, idlp=60, ips=2, actp=620, apw=2, aps=2)
ASLEEP = DeclaredState(mp=50, mxps=1, nops=1, enlat_us=2000, exlat_us=5000)


def test_power_states_come_out_as_they_were_laid_out() -> None:
    drive = parse_identify(identify_bytes("Example 2 TB", [ACTIVE, ASLEEP]))
    assert drive.model == "Example 2 TB"
    assert drive.states == (
        PowerState(8.5, pytest.approx(0.6), pytest.approx(6.2)),  # type: ignore[arg-type]
        PowerState(0.005, None, None),
    )
    fine = parse_identify(identify_bytes("fine", [replace(ACTIVE, idlp=6000, ips=1, actp=62000, aps=1)])).states[0]
    assert (fine.idle_w, fine.active_w) == (pytest.approx(0.6), pytest.approx(6.2))


def test_what_work_adds_and_what_the_declaration_leaves_open() -> None:
    watts, band = parse_identify(identify_bytes("x", [ACTIVE])).power_w
    assert watts == pytest.approx(6.2 - 0.6) and watts * (1 + band) == pytest.approx(8.5 - 0.6)
    watts, band = parse_identify(identify_bytes("x", [replace(ACTIVE, aps=0)])).power_w
    assert (watts, band) == (pytest.approx((8.5 - 0.6) / 2), 1.0)
    watts, band = parse_identify(identify_bytes("x", [replace(ACTIVE, actp=200)])).power_w
    assert (watts, band) == (pytest.approx(1.4), 1.0), "no work takes less than nothing"
    with pytest.raises(MeterError, match="power isn't known"):
        _ = parse_identify(identify_bytes("x", [DeclaredState(mp=0)])).power_w


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (ACTIVE, "5.60 W at work (active less idle power), ±41%"),
        (replace(ACTIVE, actp=200), "1.40 W at work (active less idle power), ±100%"),
        (replace(ACTIVE, ips=0), "6.20 W at work (active power, idle not reported), ±37%"),
        (replace(ACTIVE, aps=0), "3.95 W at work (half of the most it may draw above idle), ±100%"),
        (replace(ACTIVE, actp=50), "3.95 W at work (half of the most it may draw above idle), ±100%"),
        (replace(ACTIVE, aps=0, ips=0), "4.25 W at work (half of the most it may draw), ±100%"),
    ],
)
def test_the_status_says_what_the_power_was_worked_out_from(state: DeclaredState, said: str) -> None:
    assert said in declared(iter([]), (state,)).status().reason


def test_a_damaged_answer_is_refused() -> None:
    for data in (b"", bytes(4096), identify_bytes("x", [ACTIVE])[:-1], identify_bytes("x", [ACTIVE] * 33)):
        with pytest.raises(MeterError):
            parse_identify(data)


@pytest.fixture
def drive(tmp_path: Path) -> EmulatedDrive:
    return EmulatedDrive(tmp_path, "Example 2 TB", [ACTIVE, ASLEEP])


def test_identify_asks_as_the_kernel_wants_it(drive: EmulatedDrive) -> None:
    assert identify(drive.device, drive.ioctl).states[0].max_w == 8.5
    drive.status = 0x4002
    with pytest.raises(MeterError, match="NVMe status 0x4002"):
        identify(drive.device, drive.ioctl)
    with pytest.raises(MeterError, match="doesn't identify itself: Inappropriate ioctl"):
        identify(drive.device)  # the system's ioctl, on a file that is no drive
    with pytest.raises(MeterError, match="can't be opened: No such file"):
        identify(drive.device.with_name("nvme9"), drive.ioctl)


def declared(work: Iterator[Activity], states: tuple[DeclaredState, ...] = (ACTIVE,)) -> DeclaredDriveMeter:
    return DeclaredDriveMeter(Disk("nvme0n1", NVME), parse_identify(identify_bytes("x", states)), lambda: next(work))


def test_joules_are_power_while_busy_shared_by_bytes() -> None:
    """5.6 W for 2 s alone; then 3 s of which a third of the bytes are another's; then another's alone; then rest."""
    steps = [Activity(10, 5, 50), Activity(12, 1005, 1050), Activity(15, 4005, 3050), Activity(16, 5005, 3050)]
    meter = declared(iter([*steps, steps[-1]]))
    read = [meter.read().counter_j["storage:nvme0n1"] for _ in range(5)]
    assert read == [0.0, *map(pytest.approx, (5.6 * 2, 5.6 * (2 + 2), 5.6 * 4, 5.6 * 4))]


def test_what_this_process_writes_takes_no_share_of_what_others_read(tmp_path: Path) -> None:
    """1 GB made dirty and 10 MB read, while another process reads 90 MB: a tenth of the drive's time is ours."""
    drive = EmulatedDrive(tmp_path, "x", [ACTIVE])
    own = tmp_path / "io"
    own.write_text("rchar: 1\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n")
    meter = declared(iter(lambda: read_activity(drive.name, drive.sys_root, own), None))
    assert meter.read().counter_j["storage:nvme0n1"] == 0.0
    drive.transfer(100 * 512 * 2000, 2.0)
    own.write_text(f"rchar: 1\nread_bytes: {10 * 512 * 2000}\nwrite_bytes: 1000000000\ncancelled_write_bytes: 0\n")
    assert meter.read().counter_j["storage:nvme0n1"] == pytest.approx(5.6 * 2 * 0.1)


def test_joules_per_byte_follow_the_rate_that_was_reached() -> None:
    slow, fast = (declared(iter([Activity(0, 0, 0), Activity(busy, 10**9, 10**9)])) for busy in (1.0, 0.2))
    joules = [[meter.read().counter_j["storage:nvme0n1"] for _ in range(2)][1] for meter in (slow, fast)]
    assert joules == [pytest.approx(5.6), pytest.approx(1.12)]


def test_activity_that_cannot_be_read_fails_and_is_no_zero() -> None:
    def broken() -> Activity:
        raise OSError("gone")

    meter = DeclaredDriveMeter(Disk("nvme0n1", NVME), Drive("x", (PowerState(8, 1, 5),)), broken)
    reading = meter.read()
    assert not reading.counter_j and "can't be read: gone" in reading.failed["storage:nvme0n1"]


def test_a_drive_that_came_back_voids_the_window_and_is_no_zero() -> None:
    """Its statistics start at 0 again: what it did before and since can't be told from their difference."""
    steps = [Activity(10, 1000, 0), Activity(11, 2000, 1000), Activity(0.5, 500, 2000), Activity(1.5, 1500, 3000)]
    work = iter([*steps, steps[-1]])
    with Sampler([declared(work)], period_s=60) as sampler:
        first, second, third, fourth = (sampler.mark() for _ in range(4))
        lost, after = sampler.window(first, second), sampler.window(second, third)
    assert "began anew" in lost.void["storage:nvme0n1"] and not lost.energy_j
    assert after.energy_j["storage:nvme0n1"] == pytest.approx(5.6)
    assert fourth.edges


def test_a_window_of_the_sampler_has_the_declared_joules(drive: EmulatedDrive, tmp_path: Path) -> None:
    """Bytes are this process's own: it reads a file that isn't in memory; the emulated drive says how long it took."""
    file = tmp_path / "data"
    file.write_bytes(os.urandom(1 << 20))
    meter, status = find_drive(
        disk_at(drive.sys_root / "block" / drive.name),
        sys_root=drive.sys_root,
        dev_root=drive.dev_root,
        ioctl=drive.ioctl,
    )
    assert meter is not None and status is not None and status.usable
    assert status.reason == "Example 2 TB declares 5.60 W at work (active less idle power), ±41%, times its busy time"
    with Sampler([meter]) as sampler:
        start = sampler.mark()
        middle = sampler.mark()
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            handle.read()
        drive.transfer(1 << 20, 0.5)
        end = sampler.mark()
        quiet, busy = sampler.window(start, middle), sampler.window(middle, end)
    assert quiet.void == {} and quiet.energy_j == {"storage:nvme0n1": 0.0}, "a drive may rest"
    if not busy.device_read_bytes:
        pytest.skip("the file's bytes didn't come from a device: a memory file system")
    assert busy.energy_j["storage:nvme0n1"] == pytest.approx(5.6 * 0.5, rel=0.01)
    assert sampler.channels["storage:nvme0n1"].provenance == "vendor-declared"


def test_discover_prefers_the_declaration_and_says_why_not(drive: EmulatedDrive, tmp_path: Path) -> None:
    where = {"block_root": drive.sys_root / "block", "dev_root": drive.dev_root}
    meters, statuses = discover(tmp_path / "none", ioctl=drive.ioctl, **where)  # type: ignore[arg-type]
    assert channels_by_domain(meters)["storage:nvme0n1"].provenance == "vendor-declared"
    assert [s.usable for s in statuses if s.domain == "storage:nvme0n1"] == [True]
    drive.status = 0x4002
    meters, statuses = discover(tmp_path / "none", ioctl=drive.ioctl, **where)  # type: ignore[arg-type]
    assert channels_by_domain(meters)["storage:nvme0n1"].provenance == "modelled"
    refused, modelled = (s for s in statuses if s.domain == "storage:nvme0n1")
    assert not refused.usable and "NVMe status" in refused.reason
    assert "1.75 J per GB moved (NVMe)" in modelled.reason
    drive.device.unlink()
    _, statuses = discover(tmp_path / "none", ioctl=drive.ioctl, **where)  # type: ignore[arg-type]
    refused = next(s for s in statuses if s.provenance == "vendor-declared")
    assert "can't be opened" in refused.reason and refused.remedy == "run as root, or let a group read it"


def test_declared_joules_are_the_steps_own_without_idle_power() -> None:
    def window(step: str, kind: str, round_: int, joules: float) -> Observation:
        energy = {"storage:nvme0n1": joules + 0.001 * round_}
        return Observation(step, kind, round_, 0, samples=100, wall_ns=10**9, cpu_s=0.5, energy_j=energy)

    windows = [window("read", "prefix", k, 2.0) for k in range(4)] + [window("", "full", k, 2.0) for k in range(4)]
    found = attribute(
        windows, steps=["read"], domains={"storage:nvme0n1": Metering("vendor-declared", 0.4)}, idle_power_w=None
    )
    figure = found.full.energy_j_per_sample["storage:nvme0n1"]
    assert figure.value == pytest.approx(0.02, rel=0.01) and figure.provenance == "vendor-declared"
    assert found.total.energy_j_per_sample["storage:nvme0n1"].value == pytest.approx(figure.value)
