"""The power that an NVMe drive declares, and joules worked out from it.

A drive lists its power states in the Identify Controller data structure (NVM Express Base Specification 2.0, sections
5.17.2.1 and 8.15): a most, and often an idle and an active power each. Joules are the active power less the idle one,
for as long as the drive reads for this process: the drive's busy time (field 10 of ``/sys/block/…/stat``, Linux's
Documentation/block/stat.rst), times the share of the bytes it moved that this process read. So joules per byte are the
declared power over the rate that was really reached. They are the maker's word (``vendor-declared``), not measured.

What is written counts to this process as a page is made dirty, and reaches the drive seconds later if ever: it is left
out, and has no joules here. What this process reads from other drives counts as read from this one, as the system
doesn't tell them apart: beside other processes on this drive its share then comes out too large.

Of the declaration it is known what it leaves open: where a drive gives an active power, its most is the upper end of
the band, up to ±100 %; where it gives the most alone, the centre is half of that, ±100 %.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greenload.energy.domains import Domain
from greenload.energy.meters.base import Channel, MeterStatus, Reading
from greenload.energy.meters.storage import NVME, Disk
from greenload.errors import MeterError
from greenload.system.kernel_files import kernel_count

NVME_IOCTL_ADMIN_CMD = 0xC0484E41
"""``_IOWR('N', 0x41, struct nvme_passthru_cmd)``, 72 bytes (linux/nvme_ioctl.h)."""
IDENTIFY = 0x06
"""The opcode of Identify."""
IDENTIFY_CONTROLLER = 0x01
"""The CNS of the controller's data structure."""
IDENTIFY_BYTES = 4096
COMMAND = struct.Struct("<BBHIIIQQII6III")
"""``struct nvme_passthru_cmd``: opcode, flags, rsvd1, nsid, cdw2, cdw3, metadata, addr, metadata_len, data_len,
cdw10…15, timeout_ms, result."""
MODEL = slice(24, 64)
"""MN, ASCII, padded with blanks."""
NPSS = 263
"""Number of power states, less one."""
STATES = 2048
"""Where the first power state descriptor lies."""
STATE = struct.Struct("<HBBII4BHBBHB9x")
"""MP, reserved, flags, ENLAT, EXLAT, RRT, RRL, RWT, RWL, IDLP, IPS, reserved, ACTP, APW and APS, reserved."""
SCALES_W = {1: 1e-4, 2: 1e-2}
"""IPS and APS: the unit of idle and active power in watts; 0 is "not reported"."""
_MOST_STATES = 32
_SECTOR = 512  # bytes, whatever the drive's own are (Documentation/block/stat.rst)

Ioctl = Callable[[int, int, bytearray], int]
"""ioctl(2): of a file descriptor, a request, and its argument, changed in place."""


@dataclass(frozen=True, slots=True)
class PowerState:
    """One power state of a drive, as declared; powers in watts, None where not reported."""

    max_w: float
    idle_w: float | None
    active_w: float | None


@dataclass(frozen=True, slots=True)
class Drive:
    """What a drive's controller says of itself.

    Example:
        >>> drive = identify("/dev/nvme0")      # doctest: +SKIP
        >>> drive.states[0].active_w            # doctest: +SKIP
        6.2
    """

    model: str
    states: tuple[PowerState, ...]
    """The power states, 0 first, which draws most."""

    @property
    def active_w(self) -> float | None:
        """The active power of state 0 in watts; None where it isn't reported, or isn't more than the idle one."""
        state = self.states[0]
        return None if state.active_w is None or state.active_w <= (state.idle_w or 0.0) else state.active_w

    @property
    def basis(self) -> str:
        """What `power_w` was worked out from."""
        if self.active_w is None:
            above = "" if self.states[0].idle_w is None else " above idle"
            return f"half of the most it may draw{above}"
        return "active less idle power" if self.states[0].idle_w is not None else "active power, idle not reported"

    @property
    def power_w(self) -> tuple[float, float]:
        """What work adds to the idle drive, in watts, and the relative band that the declaration leaves open.

        Raises:
            MeterError: state 0 declares no power.
        """
        state, active_w = self.states[0], self.active_w
        idle = state.idle_w or 0.0
        most = state.max_w - idle
        if most <= 0:
            raise MeterError(
                f"a drive's first power state draws more at work than idle, but {self.model or 'this drive'} declares "
                f"{state.max_w} W and {idle} W: its power isn't known"
            )
        if active_w is None:
            return most / 2, 1.0
        active = active_w - idle
        return active, min(1.0, max(0.0, (most - active) / active))  # no work takes less than nothing


def parse_identify(data: bytes) -> Drive:
    """The model and power states in an Identify Controller data structure of 4096 bytes.

    Raises:
        MeterError: it has another length, more states than may be, or is all zeros.
    """
    if len(data) != IDENTIFY_BYTES or not any(data):
        given = f"{len(data)} bytes" + ("" if any(data) else ", all zero")
        raise MeterError(
            f"Identify Controller gives {IDENTIFY_BYTES} bytes, found {given}: the drive's power isn't known"
        )
    count = data[NPSS] + 1
    if count > _MOST_STATES:
        raise MeterError(f"a drive has up to {_MOST_STATES} power states, found {count}: the drive's power isn't known")
    states = tuple(_state(data[at : at + STATE.size]) for at in range(STATES, STATES + count * STATE.size, STATE.size))
    return Drive(data[MODEL].decode("ascii", "replace").strip(" \0"), states)


def _state(data: bytes) -> PowerState:
    most, _, flags, *_, idle, idle_scale, _, active, active_scale = STATE.unpack(data)
    return PowerState(
        max_w=most * (1e-4 if flags & 1 else 1e-2),
        idle_w=_watts(idle, idle_scale >> 6),
        active_w=_watts(active, active_scale >> 6),
    )


def _watts(value: int, scale: int) -> float | None:
    return value * SCALES_W[scale] if scale in SCALES_W and value else None


def identify(device: str | os.PathLike[str], ioctl: Ioctl | None = None) -> Drive:
    """Ask a drive for its Identify Controller data structure. It changes nothing on the drive.

    Args:
        device: the controller's or namespace's device file, ``/dev/nvme0`` or ``/dev/nvme0n1``.
        ioctl: asks in the system's place.

    Raises:
        MeterError: the device can't be opened or refuses, with the reason, or its answer is damaged.
    """
    ask: Any = ioctl or fcntl.ioctl
    answer = ctypes.create_string_buffer(IDENTIFY_BYTES)
    numbers = (IDENTIFY, 0, 0, 0, 0, 0, 0, ctypes.addressof(answer), 0, IDENTIFY_BYTES, IDENTIFY_CONTROLLER)
    command = bytearray(COMMAND.pack(*numbers, *[0] * 7))
    try:
        handle = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise MeterError(f"{os.fspath(device)}: can't be opened: {error.strerror}") from None
    try:
        status = ask(handle, NVME_IOCTL_ADMIN_CMD, command)
    except OSError as error:
        raise MeterError(f"{os.fspath(device)}: doesn't identify itself: {error.strerror}") from None
    finally:
        os.close(handle)
    if status:
        raise MeterError(f"{os.fspath(device)}: refuses to identify itself: NVMe status {status:#x}")
    return parse_identify(answer.raw)


@dataclass(frozen=True, slots=True)
class Activity:
    """What a disk has done, and this process with it, since they began."""

    busy_s: float
    """Time in which the disk had anything to do."""
    disk_bytes: int
    """Bytes read from it and written to it by all."""
    own_read_bytes: int
    """Bytes that this process read from devices, of whichever drive."""


def read_activity(disk: str, sys_root: Path = Path("/sys"), proc_io: Path = Path("/proc/self/io")) -> Activity:
    """Read a disk's statistics and this process's counts.

    Raises:
        OSError: either can't be read.
        ValueError: either is not what it should be.
    """
    fields = [kernel_count(field) for field in (sys_root / "block" / disk / "stat").read_text().split()]
    own = dict(line.split(": ") for line in proc_io.read_text().splitlines())
    moved = (fields[2] + fields[6]) * _SECTOR
    return Activity(fields[9] / 1e3, moved, kernel_count(own["read_bytes"]))


class DeclaredDriveMeter:
    """Joules of this process at one drive, by the drive's own declaration: a counter made of busy time.

    Busy time counts in the kernel's ticks (1–10 ms), but without bias: a short transfer is counted as often as it meets
    a tick. Where several processes use the drive at once, its time is shared by bytes.

    Args:
        disk: the drive.
        drive: what it declares.
        activity: reads what it has done.

    Raises:
        MeterError: the drive declares no power.
    """

    name = "nvme"

    def __init__(self, disk: Disk, drive: Drive, activity: Callable[[], Activity]) -> None:
        self.drive = drive
        self.power_w, band = drive.power_w
        self.channels: Sequence[Channel] = (
            Channel(str(Domain("storage", disk.name)), "vendor-declared", systematic=band, can_rest=True),
        )
        self._activity = activity
        self._lock = threading.Lock()
        self._last: Activity | None = None
        self._pid = os.getpid()
        self._total_j = 0.0

    def read(self) -> Reading:
        """The joules so far. What it did since the read before is shared by the bytes of that time."""
        domain = self.channels[0].domain
        with self._lock:
            try:
                now = self._activity()
            except (OSError, ValueError, IndexError, KeyError) as error:
                return Reading(time.monotonic_ns(), {}, {domain: f"the drive's activity can't be read: {error}"})
            if self._last is not None and self._pid == os.getpid():
                busy_s, moved = now.busy_s - self._last.busy_s, now.disk_bytes - self._last.disk_bytes
                own = now.own_read_bytes - self._last.own_read_bytes
                if busy_s < 0 or moved < 0:
                    self._last = now
                    why = "the drive's statistics began anew, as when it was taken out and came back"
                    return Reading(time.monotonic_ns(), {domain: self._total_j}, restarted={domain: why})
                if busy_s > 0 and moved > 0 and own > 0:
                    self._total_j += self.power_w * busy_s * min(1.0, own / moved)
            self._last, self._pid = now, os.getpid()
            return Reading(time.monotonic_ns(), {domain: self._total_j})

    def status(self) -> MeterStatus:
        """One line for ``greenload doctor``."""
        domain, band = self.channels[0].domain, self.channels[0].systematic
        reason = (
            f"{self.drive.model} declares {self.power_w:.2f} W at work ({self.drive.basis}), ±{band:.0%}, times its "
            "busy time"
        )
        return MeterStatus(domain, "vendor-declared", True, reason, "", self.name)

    def close(self) -> None:
        """Nothing to give back."""


def find_drive(
    disk: Disk, *, sys_root: Path = Path("/sys"), dev_root: Path = Path("/dev"), ioctl: Ioctl | None = None
) -> tuple[DeclaredDriveMeter | None, MeterStatus | None]:
    """A meter of a disk's declared power, or why there is none; neither for what is no NVMe drive of this machine.

    Args:
        disk: what to look at.
        sys_root: the folder that ``block/NAME/stat`` is below.
        dev_root: the folder of device files.
        ioctl: asks in the system's place.
    """
    if disk.storage is not NVME:
        return None, None
    domain = str(Domain("storage", disk.name))
    try:
        meter = DeclaredDriveMeter(
            disk, identify(dev_root / disk.name, ioctl), lambda: read_activity(disk.name, sys_root)
        )
    except MeterError as error:
        remedy = "run as root, or let a group read it" if not os.access(dev_root / disk.name, os.R_OK) else ""
        return None, MeterStatus(domain, "vendor-declared", False, str(error), remedy, "nvme")
    failed = meter.read().failed.get(domain)
    if failed:
        return None, MeterStatus(domain, "vendor-declared", False, failed, "", "nvme")
    return meter, meter.status()
