"""Modelled joules, for domains without a counter. A model is a pure, linear function of what a process used.

The constants are public averages over machines, so each has a wide band (``systematic``) that is common to all figures
of its domain: it cancels in ratios between plans on one machine, and must be shown beside absolute joules.

- ``cpu``: (3.5 W − 0.74 W) per busy vCPU second of this process, ±50 %. Source: Cloud Carbon Footprint's methodology,
  0.74 W idle to 3.5 W full per vCPU, averages over the servers of a large cloud.
- ``dram``: 0.392 W per GB resident, ±40 %. Source: Cloud Carbon Footprint's methodology, 0.000392 kWh per GB and hour.
- ``storage:NAME``: joules per GB read or written, by class of device, ±50 % to ±94 %. Source: data sheets, NVMe
  0.5–3 J/GB, hard disks about 15 J/GB at streaming rates.

**What the modelled cpu figure means**: what this process's work adds to the machine's draw, not a share of what the
machine draws anyway. The idle floor is apart (:meth:`ModelMeter.idle_power_w`), so that the two add up to Cloud Carbon
Footprint's straight line between idle and full. Memory draws nearly the same whether used or not: the dram figure is
the share of the process, and what nobody holds isn't charged to anyone; dram therefore has no idle floor here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from greenload.energy.meter import Channel, MeterStatus
from greenload.energy.process import Usage

VCPU_IDLE_W = 0.74
"""Watts of an idle vCPU (Cloud Carbon Footprint, average)."""
VCPU_FULL_W = 3.5
"""Watts of a fully busy vCPU (Cloud Carbon Footprint, average)."""
VCPU_ACTIVE_W = VCPU_FULL_W - VCPU_IDLE_W
"""Watts that a busy vCPU adds to its idle floor."""
CPU_BAND = 0.5
"""Relative band of the cpu model: per-vCPU averages hide a factor of three between processors."""
DRAM_W_PER_GB = 0.392
"""Watts per 10⁹ resident bytes (Cloud Carbon Footprint)."""
DRAM_BAND = 0.4
"""Relative band of the dram model."""


@dataclass(frozen=True, slots=True)
class StorageClass:
    """Joules per GB (10⁹ bytes) moved, as a centre and the relative band that covers the published range."""

    name: str
    low_j_per_gb: float
    high_j_per_gb: float

    @property
    def j_per_byte(self) -> float:
        """The centre of the range, per byte."""
        return (self.low_j_per_gb + self.high_j_per_gb) / 2 / 1e9

    @property
    def systematic(self) -> float:
        """Half the range over its centre: centre × (1 ± systematic) is the published range."""
        return (self.high_j_per_gb - self.low_j_per_gb) / (self.high_j_per_gb + self.low_j_per_gb)


FLASH = StorageClass("flash", 0.5, 3.0)
"""NVMe and SATA flash: 0.5–3 J/GB."""
DISK = StorageClass("hard disk", 7.5, 22.5)
"""Rotating disks: about 15 J/GB streaming, ±50 %; seeks of small files cost more."""
UNKNOWN = StorageClass("unknown, flash or hard disk", 0.5, 15.0)
"""A virtual machine's disk doesn't tell what is under it: the range of both."""


def storage_class(name: str, rotational: bool) -> StorageClass:
    """The class of a block device. Virtual disks report any ``rotational`` flag, so it isn't believed for them.

    Example:
        >>> storage_class("nvme0n1", False).name, storage_class("vda", True).name
        ('flash', 'unknown, flash or hard disk')
    """
    if name.startswith(("vd", "xvd")):
        return UNKNOWN
    return DISK if rotational else FLASH


def _storage_channel(disks: Mapping[str, bool]) -> tuple[Channel, StorageClass] | None:
    """One channel for all disks: a process's bytes aren't told apart by device."""
    classes = {storage_class(name, rotational) for name, rotational in disks.items()}
    if not classes:
        return None
    merged = (
        next(iter(classes))
        if len(classes) == 1
        else StorageClass("mixed", min(c.low_j_per_gb for c in classes), max(c.high_j_per_gb for c in classes))
    )
    name = next(iter(disks)) if len(disks) == 1 else "all"
    return Channel(f"storage:{name}", "modelled", systematic=merged.systematic), merged


class ModelMeter:
    """Modelled domains of the whole machine. It is never read: :meth:`energy_j` turns a window's usage into joules.

    Args:
        kinds: which of ``"cpu"``, ``"dram"``, ``"storage"`` to model: those without a counter.
        cpus: number of vCPUs, for the idle floor.
        disks: physical disks with their rotational flag, as from :func:`greenload.energy.process.physical_disks`.

    Example:
        >>> meter = ModelMeter(("cpu", "dram"), cpus=2, disks={})
        >>> usage = Usage(wall_s=1.0, cpu_s=1.0, rss_byte_s=1e9, device_read_bytes=0, device_written_bytes=0)
        >>> {domain: round(joules, 3) for domain, joules in meter.energy_j(usage).items()}
        {'cpu': 2.76, 'dram': 0.392}
    """

    name = "model"

    def __init__(self, kinds: Iterable[str], *, cpus: int, disks: Mapping[str, bool]) -> None:
        wanted = set(kinds)
        self._cpus = cpus
        storage = _storage_channel(disks) if "storage" in wanted else None
        self._storage = storage
        channels = []
        if "cpu" in wanted:
            channels.append(Channel("cpu", "modelled", systematic=CPU_BAND))
        if "dram" in wanted:
            channels.append(Channel("dram", "modelled", systematic=DRAM_BAND))
        if storage is not None:
            channels.append(storage[0])
        self.channels: Sequence[Channel] = tuple(channels)

    def energy_j(self, usage: Usage) -> dict[str, float]:
        """Joules per domain of what was used. A domain whose input is unknown is left out, never 0."""
        found: dict[str, float] = {}
        for channel in self.channels:
            if channel.domain == "cpu":
                found["cpu"] = VCPU_ACTIVE_W * usage.cpu_s
            elif channel.domain == "dram":
                found["dram"] = DRAM_W_PER_GB * usage.rss_byte_s / 1e9
        moved = (usage.device_read_bytes, usage.device_written_bytes)
        if self._storage is not None and moved[0] is not None and moved[1] is not None:
            channel, device = self._storage
            found[channel.domain] = device.j_per_byte * (moved[0] + moved[1])
        return found

    def idle_power_w(self) -> dict[str, float]:
        """Watts that the modelled machine draws with nothing to do: cpu only, 0.74 W for each vCPU."""
        return {"cpu": VCPU_IDLE_W * self._cpus} if any(c.domain == "cpu" for c in self.channels) else {}

    def statuses(self) -> list[MeterStatus]:
        """One usable status per modelled domain, naming the model and its band."""
        models = {
            "cpu": f"{VCPU_ACTIVE_W:.2f} W per busy CPU second of this process, idle floor apart",
            "dram": f"{DRAM_W_PER_GB} W per GB resident",
        }
        if self._storage is not None:
            channel, device = self._storage
            models[channel.domain] = f"{device.j_per_byte * 1e9:.2f} J per GB moved ({device.name})"
        return [
            MeterStatus(
                channel.domain,
                "modelled",
                True,
                f"no counter; model: {models[channel.domain]}, ±{channel.systematic:.0%}",
                "",
                self.name,
            )
            for channel in self.channels
        ]

    def close(self) -> None:
        """Nothing to give back."""
