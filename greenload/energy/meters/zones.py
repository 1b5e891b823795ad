"""Zones of Linux' powercap class: which there are, and which one counts for each domain, so that no joule counts twice.

The tree is enumerated here because its names need care: zone numbers are hexadecimal and may have gaps, multi-die
packages are named ``package-0-die-1``, ``psys`` contains the packages, ``intel-rapl-mmio`` repeats them, ``dram`` is
nested in a package's folder though not part of its figure, and on AMD's first generations all dies mirror one counter.
Intel and AMD use the same names (kernel documentation, ``power/powercap/powercap.rst``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from greenload.energy.domains import Domain
from greenload.energy.meters.base import COUNTS_TWICE, MeterStatus
from greenload.system.json_data import Value
from greenload.system.kernel_files import kernel_count

POWERCAP_ROOT = Path("/sys/class/powercap")
"""Where Linux shows the powercap class."""
RAPL_UPDATE_S = 0.001
"""RAPL counters are refreshed about every millisecond."""
ReadText = Callable[[Path], str]
"""Reads a file: a parameter, so that denied or vanishing files can be had without the hardware."""

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
    folders: dict[str, Path] = {}
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        for entry in entries:
            if _ZONE.match(entry.name):
                if entry.name in folders:
                    continue
                folders[entry.name] = entry
            elif folder != root or entry.name not in ("intel-rapl", "intel-rapl-mmio"):
                continue
            pending.append(entry)
    return folders


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
            broken.append(unusable(_domain_of_id(zone_id), f"{path} can't be identified: {error}", remedy))
            continue
        zones.append(Zone(zone_id, name, path, wrap_j))
    return sorted(zones, key=lambda zone: zone.order), broken


def _part_of_id(zone_id: str) -> str:
    """A domain's part for a zone that has no name of its own, or whose name is taken."""
    return zone_id.replace(":", ".")


def _domain_of_id(zone_id: str) -> str:
    return str(Domain("cpu", _part_of_id(zone_id)))


def unusable(domain: str, reason: str, remedy: str = "") -> MeterStatus:
    """The status of a domain whose energy RAPL can't give, and why."""
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
        of their package and are left out without a word. A zone of another's name that isn't its memory-mapped copy has
        a domain of its own, named by its id: :func:`drop_mirrors` finds out whether both count the same.
    """
    by_id = {zone.zone_id: zone for zone in zones}
    names = _package_names(zones)
    chosen: dict[str, Zone] = {}
    left_out: list[MeterStatus] = []
    for zone in zones:
        parent = by_id.get(zone.parent_id) if zone.parent_id is not None else None
        if zone.parent_id is None and zone.zone_id in names:
            domain = str(Domain("cpu", names[zone.zone_id]))
        elif zone.name == "dram" and parent is not None:
            domain = str(Domain("dram", names.get(parent.zone_id, parent.name)))
        elif zone.parent_id is None:
            reason = f"{zone.path} contains other zones: {COUNTS_TWICE}"
            left_out.append(unusable(str(Domain("cpu", zone.name)), reason))
            continue
        else:
            continue
        first = chosen.get(domain)
        if first is None:
            chosen[domain] = zone
        elif first.zone_id in unreadable and zone.zone_id not in unreadable:
            chosen[domain] = zone
            reason = f"{first.path} can't be read, and {zone.path}, which repeats it, can: {COUNTS_TWICE}"
            left_out.append(unusable(_domain_of_id(first.zone_id), reason))
        else:
            reason = f"{zone.path} repeats {first.path}: {COUNTS_TWICE}"
            left_out.append(unusable(_domain_of_id(zone.zone_id), reason))
    return chosen, left_out


def _package_names(zones: Sequence[Zone]) -> dict[str, str]:
    """What each package's zone is called in domains: by its name, which a memory-mapped copy shares, or by its id where
    another zone of the same interface has that name."""
    names: dict[str, str] = {}
    taken: set[tuple[bool, str]] = set()
    for zone in zones:
        if zone.parent_id is None and _PACKAGE.match(zone.name):
            first = (zone.mmio, zone.name) not in taken
            names[zone.zone_id] = zone.name if first else _part_of_id(zone.zone_id)
            taken.add((zone.mmio, zone.name))
    return names


def drop_mirrors(chosen: dict[str, Zone], read: ReadText) -> list[MeterStatus]:
    """Remove dies, and packages named by their id, that mirror another's counter from ``chosen``, and say so.

    Two counters in microjoules that agree to the last digit, twice, are one counter: dies of AMD's first two Zen
    generations report their whole package. Packages of different names are never compared.
    """
    dropped: list[MeterStatus] = []
    domains = {text: Domain.parse(text) for text in chosen}
    by_id = {text for text, domain in domains.items() if "intel-rapl" in domain.part}
    suspects = [text for text, domain in domains.items() if "-die-" in domain.part or text in by_id]
    for text in suspects:
        for other in list(chosen):
            if other == text:
                break
            if domains[other].kind != domains[text].kind or not (text in by_id or other in suspects):
                continue
            if _same_counter(chosen[other], chosen[text], read):
                dropped.append(unusable(text, f"{chosen[text].path} mirrors {chosen[other].path}: {COUNTS_TWICE}"))
                del chosen[text]
                break
    return dropped


def without_dram(chosen: Mapping[str, Zone]) -> list[MeterStatus]:
    """Packages whose memory has no counter though others' has: the sum of the counters lacks it."""
    domains = {Domain.parse(text): zone for text, zone in chosen.items()}
    packages = {domain.part: zone for domain, zone in domains.items()}
    counted = {domain.part for domain in domains if domain.kind == "dram"}
    return [
        unusable(str(Domain("dram", package)), f"{zone.path} has no dram zone: this package's memory isn't counted")
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
            return False  # its package went offline meanwhile, which the meter will say
        if before == middle == after:
            agreed += 1
            time.sleep(2 * RAPL_UPDATE_S)
        else:
            missed += 1
    return agreed == 2
