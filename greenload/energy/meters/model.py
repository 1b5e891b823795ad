"""Modelled joules, for domains without a counter. A model is a pure, linear function of what a process used.

The constants are public averages over machines, so each has a wide band (``systematic``) that is common to all figures
of its domain: it cancels in ratios between plans on one machine, and must be shown beside absolute joules.

- ``cpu``: (3.5 W − 0.74 W) per busy vCPU second of this process, ±50 %. Source: Cloud Carbon Footprint's methodology,
  0.74 W idle to 3.5 W full per vCPU, averages over the servers of a large cloud.
- ``dram``: 0.392 W per GB resident, ±40 %. Source: Cloud Carbon Footprint's methodology, 0.000392 kWh per GB and hour.
- ``storage:NAME``: joules per GB read or written, by class of device, ±50 % to ±96 %
  (:mod:`greenload.energy.meters.storage` has the ranges and where they are from).

**What the modelled cpu figure means**: what this process's work adds to the machine's draw, not a share of what the
machine draws anyway. The idle power is apart (:meth:`ModelMeter.idle_power_w`), so that the two add up to Cloud Carbon
Footprint's straight line between idle and full. Memory draws nearly the same whether used or not: the dram figure is
the share of the process, and what nobody holds isn't charged to anyone; dram therefore has no idle power here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from greenload.energy.domains import Domain
from greenload.energy.meters.base import Channel, MeterStatus
from greenload.energy.meters.process import Usage
from greenload.energy.meters.storage import DataLocation, Disk

VCPU_IDLE_W = 0.74
"""Watts of an idle vCPU (Cloud Carbon Footprint, average)."""
VCPU_FULL_W = 3.5
"""Watts of a fully busy vCPU (Cloud Carbon Footprint, average)."""
VCPU_ACTIVE_W = VCPU_FULL_W - VCPU_IDLE_W
"""Watts that a busy vCPU adds to its idle power."""
CPU_BAND = 0.5
"""Relative band of the cpu model: per-vCPU averages hide a factor of three between processors."""
DRAM_W_PER_GB = 0.392
"""Watts per 10⁹ resident bytes (Cloud Carbon Footprint)."""
_SOURCE = "Cloud Carbon Footprint"
DRAM_BAND = 0.4
"""Relative band of the dram model."""


class ModelMeter:
    """Modelled domains of the whole machine. It is never read: :meth:`energy_j` turns a window's usage into joules.

    Args:
        kinds: which of ``"cpu"``, ``"dram"``, ``"storage"`` to model: those without a counter.
        cpus: vCPUs that this process may use, for the idle power: a share of a machine is charged its share. May be a
            fraction, where a quota is one.
        disks: where this process's bytes come from: the data's disk, or all the machine has. A process's bytes aren't
            told apart by device, so several disks are one domain, ``storage:all``, with the range of all classes.

    Example:
        >>> meter = ModelMeter(("cpu", "dram"), cpus=2, disks=())
        >>> usage = Usage(wall_s=1.0, cpu_s=1.0, rss_byte_s=1e9, device_read_bytes=0, device_written_bytes=0)
        >>> {domain: round(joules, 3) for domain, joules in meter.energy_j(usage).items()}
        {'cpu': 2.76, 'dram': 0.392}
    """

    name = "model"

    def __init__(self, kinds: Iterable[str], *, cpus: float, disks: Iterable[Disk]) -> None:
        self._kinds = frozenset(kinds)
        self._cpus = cpus
        location = DataLocation(tuple(disks)) if "storage" in self._kinds else DataLocation()
        device = location.storage
        self._storage = (
            (Channel(str(Domain("storage", location.name)), "modelled", systematic=device.systematic), device)
            if device
            else None
        )
        channels = []
        if "cpu" in self._kinds:
            channels.append(Channel("cpu", "modelled", systematic=CPU_BAND))
        if "dram" in self._kinds:
            channels.append(Channel("dram", "modelled", systematic=DRAM_BAND))
        if self._storage is not None:
            channels.append(self._storage[0])
        self.channels: Sequence[Channel] = tuple(channels)

    def energy_j(self, usage: Usage) -> dict[str, float]:
        """Joules per domain of what was used. A domain whose input is unknown is left out, never 0."""
        joules: dict[str, float] = {}
        if "cpu" in self._kinds:
            joules["cpu"] = VCPU_ACTIVE_W * usage.cpu_s
        if "dram" in self._kinds:
            joules["dram"] = DRAM_W_PER_GB * usage.rss_byte_s / 1e9
        moved = (usage.device_read_bytes, usage.device_written_bytes)
        if self._storage is not None and moved[0] is not None and moved[1] is not None:
            channel, device = self._storage
            joules[channel.domain] = device.j_per_byte * (moved[0] + moved[1])
        return joules

    def idle_power_w(self) -> dict[str, float]:
        """Watts drawn with nothing to do: cpu only, 0.74 W for each vCPU that this process may use."""
        return {"cpu": VCPU_IDLE_W * self._cpus} if "cpu" in self._kinds else {}

    def statuses(self) -> list[MeterStatus]:
        """One usable status per modelled domain, naming the model and its band."""
        models = {
            "cpu": f"{VCPU_ACTIVE_W:.2f} W per busy CPU second of this process, and apart from it an idle floor of "
            f"{VCPU_IDLE_W} W for each of the {self._cpus:g} CPUs that it may use, averages of {_SOURCE}",
            "dram": f"{DRAM_W_PER_GB} W per GB resident, of {_SOURCE}",
        }
        if self._storage is not None:
            channel, device = self._storage
            models[channel.domain] = (
                f"{device.j_per_byte * 1e9:.2f} J per GB moved ({device.name}), by data sheets and reviews"
            )
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
