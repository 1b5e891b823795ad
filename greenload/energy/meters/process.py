"""What this process and the machine used: CPU seconds, resident memory, device bytes. From clocks and psutil.

CPU seconds are what joules fall back on where no counter can be read, and what splits a package's energy between this
process and others.
"""

from __future__ import annotations

import os
import re
import resource
import time
from dataclasses import dataclass
from typing import Literal

import psutil

from greenload.energy.meters.proc_files import ProcFile
from greenload.energy.meters.storage import physical_disks

_IO = ProcFile("/proc/self/io", b"rchar:")
_STATM = ProcFile("/proc/self/statm")
_STAT = ProcFile("/proc/stat", b"cpu ")
_IO_COUNTS = re.compile(rb"^syscr: (\d+)\n.*^read_bytes: (\d+)\nwrite_bytes: (\d+)\n", re.DOTALL | re.MULTILINE)
_PAGE = resource.getpagesize()
_TICKS = os.sysconf("SC_CLK_TCK")

BytesSource = Literal["process", "machine"]


@dataclass(frozen=True, slots=True)
class Clocks:
    """Monotonic time and a bracket of the time the machine has been suspended, in nanoseconds.

    The two clocks can't be read at once, so the suspended time (CLOCK_BOOTTIME − CLOCK_MONOTONIC) is known between
    ``suspended_low_ns`` and ``suspended_high_ns``: a thread that was preempted between the reads widens the bracket
    instead of looking like a suspend.
    """

    monotonic_ns: int
    suspended_low_ns: int
    suspended_high_ns: int


def read_clocks() -> Clocks:
    """Read CLOCK_MONOTONIC around CLOCK_BOOTTIME. Without a CLOCK_BOOTTIME (not Linux), no suspend is ever seen."""
    before = time.monotonic_ns()
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return Clocks(before, 0, 0)
    boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    after = time.monotonic_ns()
    return Clocks(after, boot - after, boot - before)


def suspended_s(start: Clocks, end: Clocks) -> float:
    """Seconds that the machine certainly was suspended between two reads: 0 if it may not have been."""
    return max(0, end.suspended_low_ns - start.suspended_high_ns) / 1e9


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """Cumulative figures of this process, at one time. Differences of two are a window's."""

    cpu_s: float
    """User and system CPU seconds of this process's threads, and of children that ended and were waited for."""
    machine_cpu_s: float
    """Busy CPU seconds of all CPUs, in the kernel's ticks (10 ms). Time stolen by a hypervisor is not in it."""
    rss_bytes: int
    """Resident memory now, in bytes."""
    device_read_bytes: int | None
    """Bytes fetched from storage devices; None where the system doesn't tell."""
    device_written_bytes: int | None
    """Bytes sent to storage devices; None where the system doesn't tell."""
    reads: int | None = None
    """Read system calls, whether or not they went to a device; None where the system doesn't tell."""


class ProcessMeter:
    """Reads what this process used. Safe in threads, and in a forked child, where it reads the child.

    Device bytes are this process's (``/proc/self/io``: what missed the page cache, waited-for children included);
    where those can't be read, the counters of all physical disks, and ``bytes_source`` says ``"machine"``. Read system
    calls are ``syscr`` of ``/proc/self/io`` (proc_pid_io(5): read, pread and the like; a memory map's faults aren't).

    Example:
        >>> meter = ProcessMeter()
        >>> meter.read().cpu_s > 0
        True
    """

    name = "process"

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._process = psutil.Process()
        self.bytes_source: BytesSource | None = self._find_bytes_source()
        """Whose device bytes are read; None if no one's can be."""

    def _find_bytes_source(self) -> BytesSource | None:
        try:
            self._process.io_counters()
            return "process"
        except (AttributeError, psutil.Error, OSError):
            return "machine" if _disk_bytes() is not None else None

    def _self(self) -> psutil.Process:
        if os.getpid() != self._pid:
            self._pid, self._process = os.getpid(), psutil.Process()
        return self._process

    def rss_bytes(self) -> int:
        """Resident memory now, in bytes. Cheap enough to poll."""
        try:
            return int(_STATM.read().split()[1]) * _PAGE  # proc_pid_statm(5)
        except (OSError, ValueError, IndexError):
            return int(self._self().memory_info().rss)

    def read(self) -> ProcessReading:
        """Read everything now (about 0.01 ms on Linux)."""
        read_bytes, written_bytes, reads = self._io()
        machine_s, rss_bytes = machine_cpu_s(), self.rss_bytes()
        # CPU seconds last: what reading the rest takes is then known to the caller, who reads the thread's clock next.
        return ProcessReading(own_cpu_s(), machine_s, rss_bytes, read_bytes, written_bytes, reads)

    def _io(self) -> tuple[int | None, int | None, int | None]:
        """Device bytes read and written, and read system calls, which are known of a process only."""
        if self.bytes_source == "process":
            try:
                return _own_io(_IO.read())
            except (OSError, ValueError):
                pass  # psutil says what is wrong
            counters = self._self().io_counters()
            return int(counters.read_bytes), int(counters.write_bytes), int(counters.read_count)
        moved = _disk_bytes() if self.bytes_source == "machine" else None
        return (*moved, None) if moved is not None else (None, None, None)


def own_cpu_s() -> float:
    """User and system CPU seconds of this process and of its waited-for children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID) + children.ru_utime + children.ru_stime


def machine_cpu_s() -> float:
    """Busy CPU seconds of all CPUs since boot, in the kernel's ticks of 10 ms.

    user + nice + system + irq + softirq: ``user`` already holds ``guest``; idle, iowait and steal aren't work here.
    """
    try:
        fields = _STAT.read().split(b"\n", 1)[0].split()
        user, nice, system, _, _, irq, softirq = map(int, fields[1:8])  # proc_stat(5)
        return (user + nice + system + irq + softirq) / _TICKS
    except (OSError, ValueError):
        times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0))


def _own_io(text: bytes) -> tuple[int, int, int]:
    """Device bytes read and written, and read system calls, of ``/proc/self/io`` (proc_pid_io(5))."""
    counts = _IO_COUNTS.search(text)
    if counts is None:
        raise ValueError(f"/proc/self/io must hold syscr, read_bytes and write_bytes, found {text!r}")
    return int(counts[2]), int(counts[3]), int(counts[1])


def _disk_bytes() -> tuple[int, int] | None:
    disks = {disk.name for disk in physical_disks()}
    try:
        counters = psutil.disk_io_counters(perdisk=True) or {}
    except (OSError, RuntimeError):
        return None
    own = [counter for disk, counter in counters.items() if disk in disks]
    if not own:
        return None
    return sum(int(c.read_bytes) for c in own), sum(int(c.write_bytes) for c in own)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used in a window: all that a model may depend on."""

    wall_s: float
    """Seconds of monotonic time."""
    cpu_s: float
    """The process's CPU seconds."""
    rss_byte_s: float
    """Resident bytes integrated over the window, in byte seconds."""
    device_read_bytes: int | None
    """Bytes fetched from devices, or None."""
    device_written_bytes: int | None
    """Bytes sent to devices, or None."""
