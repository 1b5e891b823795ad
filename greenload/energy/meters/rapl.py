"""Reads RAPL counters from Linux' powercap zones, each joule once.

:mod:`greenload.energy.meters.zones` finds the zones. Values are read through pyRAPL where its fixed layout assumptions
hold (:mod:`greenload.energy.meters.pyrapl`), from the files otherwise; both read the same counters.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from greenload.energy.domains import Domain
from greenload.energy.meters.base import Channel, MeterStatus, Reading
from greenload.energy.meters.surroundings import Surroundings, look
from greenload.energy.meters.zones import (
    POWERCAP_ROOT,
    RAPL_UPDATE_S,
    ReadText,
    Zone,
    assign_domains,
    drop_mirrors,
    enumerate_zones,
    read_text,
    unusable,
    without_dram,
)
from greenload.system.kernel_files import kernel_count

DRAM_W_PER_GIB = 1.0
"""No more watts of memory are believed, for each GiB installed.

Servers since Haswell-EP count memory in units of 15.3 µJ whatever their register of units says (Intel datasheet 330784,
Xeon E5 v3), and a kernel that doesn't know it shows four times the joules: 59 W for idle memory in place of 15 W, with
two Xeon E5-2650 v3 under two kernels (community.intel.com, thread 1144525). Modules draw some 0.4 W per GiB (Cloud
Carbon Footprint's coefficient), small old ones twice that.
"""
DRAM_LEAST_W = 10.0
"""Memory of a socket is always believed to draw this much: a single small module may."""
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO)

ReadEnergies = Callable[[], Mapping[str, float]]
"""Reads all counters at once: microjoules by domain."""


class RaplMeter:
    """Reads the RAPL counters of chosen zones.

    Args:
        zones: by domain, as from :func:`assign_domains`.
        read: reads a file's text.
        through_pyrapl: reads all domains at once, in microjoules; None to read the files.
        memory_bytes: memory of the machine, that bounds what its counters are believed; None if it isn't known.

    A file is opened, read and closed each time, so threads and forks need no care here.
    """

    name = "rapl"

    def __init__(
        self,
        zones: Mapping[str, Zone],
        read: ReadText = read_text,
        through_pyrapl: ReadEnergies | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        self._zones = dict(zones)
        self._read = read
        self._through_pyrapl = through_pyrapl
        self._files: dict[str, int | None] = {}
        drams = sum(Domain.parse(domain).kind == "dram" for domain in zones)
        self.channels: Sequence[Channel] = tuple(
            _channel(domain, zone, None if memory_bytes is None else memory_bytes / max(1, drams))
            for domain, zone in self._zones.items()
        )

    @property
    def reader(self) -> str:
        """``pyRAPL`` or ``files``: what reads the counters."""
        return "files" if self._through_pyrapl is None else "pyRAPL"

    def read(self) -> Reading:
        """All counters now. What pyRAPL can't read (any more) is read from its file, and fails only if that does."""
        before = {domain: _file_number(zone) for domain, zone in self._zones.items()}
        energies: Mapping[str, float] = {}
        if self._through_pyrapl is not None:
            try:
                energies = self._through_pyrapl()
            except (OSError, ValueError, IndexError):
                energies = {}
        counter_j: dict[str, float] = {}
        failed: dict[str, str] = {}
        restarted: dict[str, str] = {}
        for domain, zone in self._zones.items():
            path = zone.path / "energy_uj"
            try:
                value = energies.get(domain)
                joules = (kernel_count(self._read(path)) if value is None else value) / 1e6
            except (OSError, ValueError) as error:
                failed[domain] = f"{path} couldn't be read: {error}"
                if isinstance(error, OSError) and error.errno in _GONE:
                    self._files[domain] = None
                continue
            if before[domain] != _file_number(zone):
                self._files[domain] = None
                failed[domain] = f"{path} was replaced while it was read"
                continue
            if self._files.setdefault(domain, before[domain]) != before[domain]:
                restarted[domain] = f"{zone.path} was removed and came back, as when a package goes offline"
                self._files[domain] = before[domain]
            counter_j[domain] = joules
        return Reading(time.monotonic_ns(), counter_j, failed, restarted=restarted)

    def close(self) -> None:
        """Let go of pyRAPL's open files."""
        self._through_pyrapl = None


def _channel(domain: str, zone: Zone, memory_bytes: float | None) -> Channel:
    channel = Channel(domain, "measured", resolution_j=1e-6, update_s=RAPL_UPDATE_S, wrap_j=zone.wrap_j)
    if memory_bytes is None or Domain.parse(domain).kind != "dram":
        return channel
    gib = memory_bytes / 2**30
    return replace(
        channel,
        max_power_w=min(channel.max_power_w, max(DRAM_LEAST_W, DRAM_W_PER_GIB * gib)),
        limit=f"{DRAM_W_PER_GIB:g} W for each of {gib:.1f} GiB, {DRAM_LEAST_W:g} W at least: the kernel may count "
        "this memory in a wrong energy unit",
    )


def _file_number(zone: Zone) -> int | None:
    """The inode number of a counter's file, which another registration of the zone doesn't get again."""
    try:
        return os.stat(zone.path / "energy_uj").st_ino
    except OSError:
        return None


def _installed_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def find_rapl(
    root: Path = POWERCAP_ROOT,
    read: ReadText = read_text,
    *,
    use_pyrapl: bool = True,
    memory_bytes: int | None = None,
    surroundings: Surroundings | None = None,
) -> tuple[RaplMeter | None, list[MeterStatus]]:
    """Find the RAPL counters that can be read now.

    Args:
        root: the powercap class folder.
        read: reads a file's text.
        use_pyrapl: read through pyRAPL where it can (only under the real root, which its paths are fixed to).
        memory_bytes: the machine's memory, shared evenly by its packages; what the system says if None.
        surroundings: what decides on the remedy where there is no zone; looked at if None.

    Returns:
        A meter, or None if no counter can be read; and a status for every zone, usable or not.
    """
    zones, statuses = enumerate_zones(root, read)
    around = look() if surroundings is None else surroundings
    if not zones and not statuses:
        where = "has no RAPL zone" if root.is_dir() else "doesn't exist"
        return None, [unusable("cpu", f"{root} {where}", around.rapl_remedy(root.is_dir()))]
    problems = {zone.zone_id: problem for zone in zones if (problem := _try(zone, read)) is not None}
    chosen, left_out = assign_domains(zones, problems)
    for domain, zone in list(chosen.items()):
        if zone.zone_id in problems:
            statuses.append(unusable(domain, *problems[zone.zone_id]))
            del chosen[domain]
    left_out += drop_mirrors(chosen, read)
    said = {status.domain for status in (*statuses, *left_out)}
    left_out += [status for status in without_dram(chosen) if status.domain not in said]
    if not chosen:
        return None, statuses + left_out
    through = _through_pyrapl(root, chosen) if use_pyrapl else None
    meter = RaplMeter(chosen, read, through, _installed_bytes() if memory_bytes is None else memory_bytes)
    usable = [
        MeterStatus(domain, "measured", True, f"{zone.path / 'energy_uj'}, read through {meter.reader}", "", "rapl")
        for domain, zone in chosen.items()
    ]
    return meter, usable + statuses + left_out


def _through_pyrapl(root: Path, chosen: Mapping[str, Zone]) -> ReadEnergies | None:
    if root != POWERCAP_ROOT:
        return None
    from greenload.energy.meters.pyrapl import open_pyrapl

    return open_pyrapl({domain: zone.zone_id for domain, zone in chosen.items()})


def _try(zone: Zone, read: ReadText) -> tuple[str, str] | None:
    """Why a zone's counter can't be read, and what helps."""
    path = zone.path / "energy_uj"
    try:
        kernel_count(read(path))
    except PermissionError:
        return (
            f"{path}: permission denied (readable by root only since Linux 5.10)",
            "sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj (until the next boot), or for good a udev rule: "
            'SUBSYSTEM=="powercap", RUN+="/bin/chmod a+r /sys%p/energy_uj"',
        )
    except (OSError, ValueError) as error:
        return f"{path} couldn't be read: {error}", "check the kernel log for intel_rapl"
    return None
