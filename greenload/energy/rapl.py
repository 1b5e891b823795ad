"""RAPL counters from Linux' powercap class: enumeration of zones, and a meter over those that count once.

The tree is enumerated here because its names need care: zone numbers are hexadecimal and may have gaps, multi-die
packages are named ``package-0-die-1``, ``psys`` contains the packages, ``intel-rapl-mmio`` repeats them, ``dram`` is
nested in a package's folder though not part of its figure, and on AMD's first generations all dies mirror one counter.
Intel and AMD use the same names (kernel documentation, ``power/powercap/powercap.rst``).

Values are read through pyRAPL where its fixed layout assumptions hold (:mod:`greenload.energy.pyrapl`), from the files
otherwise; both read the same counters.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from greenload.energy.kernel_text import kernel_count
from greenload.energy.meter import COUNTS_TWICE, Channel, MeterStatus, Reading
from greenload.json_data import Value

POWERCAP_ROOT = Path("/sys/class/powercap")
"""Where Linux shows the powercap class."""
UPDATE_S = 0.001
"""RAPL counters are refreshed about every millisecond."""
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

ReadText = Callable[[Path], str]
"""Reads a file: a parameter, so that denied or vanishing files can be had without the hardware."""
ReadEnergies = Callable[[], Mapping[str, float]]
"""Reads all counters at once: microjoules by domain."""

_ZONE = re.compile(r"(intel-rapl(?:-mmio)?)((?::[0-9a-f]+)+)$")
_PACKAGE = re.compile(r"package-\d+(-die-\d+)?$")


@dataclass(frozen=True, slots=True)
class Zone:
    """One powercap zone."""

    zone_id: str
    """``intel-rapl:a:1``: control type, then hexadecimal numbers."""
    name: str
    """What the kernel calls it: ``package-0``, ``dram``, ``psys``."""
    path: Path
    """Its folder."""
    wrap_j: float
    """``max_energy_range_uj`` in joules."""

    @property
    def mmio(self) -> bool:
        """Whether it is the memory-mapped interface's copy."""
        return self.zone_id.startswith("intel-rapl-mmio")

    @property
    def parent_id(self) -> str | None:
        """The id of the zone it is nested in; None for a top zone."""
        head, _, _ = self.zone_id.rpartition(":")
        return head if ":" in head else None

    @property
    def order(self) -> tuple[bool, tuple[int, ...]]:
        """Sorts by number, the memory-mapped copies last."""
        return self.mmio, tuple(int(part, 16) for part in self.zone_id.split(":")[1:])


def read_text(path: Path) -> str:
    """A file's text."""
    return path.read_text(encoding="ascii", errors="replace")


def _zone_folders(root: Path) -> dict[str, Path]:
    """Folders of all zones by zone id: the class folder's flat links, and whatever is nested below them."""
    found: dict[str, Path] = {}
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        for entry in entries:
            if _ZONE.match(entry.name):
                if entry.name in found:
                    continue
                found[entry.name] = entry
            elif folder != root or entry.name not in ("intel-rapl", "intel-rapl-mmio"):
                continue
            pending.append(entry)
    return found


def enumerate_zones(root: Path = POWERCAP_ROOT, read: ReadText = read_text) -> tuple[list[Zone], list[MeterStatus]]:
    """All RAPL zones under a powercap root, in the order of their numbers, and what couldn't be identified.

    Args:
        root: the powercap class folder.
        read: reads a file's text.

    Returns:
        Zones with readable ``name`` and ``max_energy_range_uj``; one unusable status for each of the others.
    """
    zones: list[Zone] = []
    broken: list[MeterStatus] = []
    for zone_id, path in _zone_folders(root).items():
        try:
            name = Value(read(path / "name").strip(), "its name").name()
            wrap_j = kernel_count(read(path / "max_energy_range_uj")) / 1e6
            if wrap_j <= 0:
                raise ValueError(f"max_energy_range_uj is {wrap_j * 1e6:.0f}, so a wrap can't be told from a reset")
        except (OSError, ValueError) as error:
            remedy = "in a container, start it with /sys/class/powercap and /sys/devices/virtual/powercap readable"
            broken.append(_unusable(_raw(zone_id), f"{path} can't be identified: {error}", remedy))
            continue
        zones.append(Zone(zone_id, name, path, wrap_j))
    return sorted(zones, key=lambda zone: zone.order), broken


def _raw(zone_id: str) -> str:
    """A domain's name for a zone that has none of its own, or whose name is taken."""
    return f"cpu:{zone_id.replace(':', '.')}"


def _unusable(domain: str, reason: str, remedy: str = "") -> MeterStatus:
    return MeterStatus(domain, "measured", False, reason, remedy, "rapl")


def assign_domains(
    zones: Sequence[Zone], unreadable: Collection[str] = ()
) -> tuple[dict[str, Zone], list[MeterStatus]]:
    """Which zone counts for which domain, so that no joule counts twice. Pure.

    Args:
        zones: in the order of :func:`enumerate_zones`, which puts memory-mapped copies last.
        unreadable: ids of zones whose counter can't be read: a copy that can be is taken in their place.

    Returns:
        Zones by domain, and a status for each top zone that is left out, saying why. Core and uncore zones are parts
        of their package and are left out without a word.
    """
    by_id = {zone.zone_id: zone for zone in zones}
    chosen: dict[str, Zone] = {}
    left_out: list[MeterStatus] = []
    for zone in zones:
        parent = by_id.get(zone.parent_id) if zone.parent_id is not None else None
        if zone.parent_id is None and _PACKAGE.match(zone.name):
            domain = f"cpu:{zone.name}"
        elif zone.name == "dram" and parent is not None:
            domain = f"dram:{parent.name}"
        elif zone.parent_id is None:
            left_out.append(_unusable(f"cpu:{zone.name}", f"{zone.path} contains other zones: {COUNTS_TWICE}"))
            continue
        else:
            continue
        first = chosen.get(domain)
        if first is None:
            chosen[domain] = zone
        elif first.zone_id in unreadable and zone.zone_id not in unreadable:
            chosen[domain] = zone
            reason = f"{first.path} can't be read, and {zone.path}, which repeats it, can: {COUNTS_TWICE}"
            left_out.append(_unusable(_raw(first.zone_id), reason))
        else:
            left_out.append(_unusable(_raw(zone.zone_id), f"{zone.path} repeats {first.path}: {COUNTS_TWICE}"))
    return chosen, left_out


def _drop_mirrors(chosen: dict[str, Zone], read: ReadText) -> list[MeterStatus]:
    """Remove dies that mirror another die's counter from ``chosen``, and say so.

    Two counters in microjoules that agree to the last digit, twice, are one counter. Only dies are compared: those of
    AMD's first two Zen generations report their whole package.
    """
    dropped: list[MeterStatus] = []
    dies = [domain for domain in chosen if "-die-" in domain]
    for index, domain in enumerate(dies):
        kind = domain.partition(":")[0]
        for other in (die for die in dies[:index] if die in chosen and die.partition(":")[0] == kind):
            if _same_counter(chosen[other], chosen[domain], read):
                dropped.append(_unusable(domain, f"{chosen[domain].path} mirrors {chosen[other].path}: {COUNTS_TWICE}"))
                del chosen[domain]
                break
    return dropped


def _without_dram(chosen: Mapping[str, Zone]) -> list[MeterStatus]:
    """Packages whose memory has no counter though others' has: the sum of the counters lacks it."""
    packages = {domain.partition(":")[2]: zone for domain, zone in chosen.items()}
    counted = {domain.partition(":")[2] for domain in chosen if domain.startswith("dram:")}
    return [
        _unusable(f"dram:{package}", f"{zone.path} has no dram zone: this package's memory isn't counted")
        for package, zone in packages.items()
        if counted and package not in counted
    ]


def _same_counter(first: Zone, second: Zone, read: ReadText) -> bool:
    """Whether two zones agree at two refreshes. One miss is forgiven: a refresh may come between two reads."""
    agreed = missed = 0
    while agreed < 2 and missed < 2:
        try:
            before, middle, after = (read(z.path / "energy_uj") for z in (first, second, first))
        except OSError:
            return False  # its package went offline meanwhile, which the meter will say of it
        if before == middle == after:
            agreed += 1
            time.sleep(2 * UPDATE_S)
        else:
            missed += 1
    return agreed == 2


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
        drams = sum(domain.startswith("dram:") for domain in zones)
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
    channel = Channel(domain, "measured", resolution_j=1e-6, update_s=UPDATE_S, wrap_j=zone.wrap_j)
    if memory_bytes is None or not domain.startswith("dram:"):
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
) -> tuple[RaplMeter | None, list[MeterStatus]]:
    """Find the RAPL counters that can be read now.

    Args:
        root: the powercap class folder.
        read: reads a file's text.
        use_pyrapl: read through pyRAPL where it can (only under the real root, which its paths are fixed to).
        memory_bytes: the machine's memory, shared evenly by its packages; what the system says if None.

    Returns:
        A meter, or None if no counter can be read; and a status for every zone, usable or not.
    """
    zones, statuses = enumerate_zones(root, read)
    if not zones and not statuses:
        where = "has no RAPL zone" if root.is_dir() else "doesn't exist"
        remedy = "on bare metal: sudo modprobe intel_rapl_msr (AMD too); virtual machines have no counter"
        return None, [_unusable("cpu", f"{root} {where}", remedy)]
    problems = {zone.zone_id: problem for zone in zones if (problem := _try(zone, read)) is not None}
    chosen, left_out = assign_domains(zones, problems)
    for domain, zone in list(chosen.items()):
        if zone.zone_id in problems:
            statuses.append(_unusable(domain, *problems[zone.zone_id]))
            del chosen[domain]
    left_out += _drop_mirrors(chosen, read)
    said = {status.domain for status in (*statuses, *left_out)}
    left_out += [status for status in _without_dram(chosen) if status.domain not in said]
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
    from greenload.energy.pyrapl import open_pyrapl

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
