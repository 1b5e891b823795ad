"""What turns CPU seconds, memory held, bytes and waiting into joules where no counter does: four coefficients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from greenload.energy.domains import Domain
from greenload.energy.figures import Figure, sum_figures
from greenload.energy.meters.base import Channel
from greenload.energy.meters.model import CPU_BAND, DRAM_BAND, DRAM_W_PER_GB, VCPU_ACTIVE_W, VCPU_IDLE_W
from greenload.energy.meters.storage import DataLocation
from greenload.report.record import Record

BUSY_CPU = "watts of a busy CPU"
IDLE = "idle watts"
HELD = "watts per GB held"
MOVED = "joules per GB from the device"
NAMES = (BUSY_CPU, IDLE, HELD, MOVED)
"""Of all coefficients, in the order of showing."""
_FOOTPRINT = "Cloud Carbon Footprint, average over a large cloud's servers"
_SHEETS = "data sheets and reviews"


@dataclass(frozen=True, kw_only=True)
class Coefficient(Record):
    """One of `NAMES`: what a unit of use draws."""

    name: str
    value: float
    """In the unit that the name says; of idle watts, of the share of the machine that the loader may use."""
    band: float = 0.0
    """Relative band of the model, 0.5 for ±50 %; of what was measured, its 95 % interval."""
    provenance: str = "modelled"
    """One of `greenload.energy.figures.PROVENANCES`."""
    source: str
    """Where the value is from."""

    @property
    def modelled(self) -> bool:
        """Whether nothing on this machine measured it."""
        return self.provenance == "modelled"

    def times(self, amount: Figure) -> Figure:
        """Joules of an amount: its sampling error times the value, beside the model's band.

        Args:
            amount: CPU seconds, seconds, GB (10⁹ bytes) times seconds, or GB moved.

        Example:
            >>> watts = Coefficient(name=BUSY_CPU, value=2.76, band=0.5, source="a model")
            >>> joules = watts.times(Figure(10.0, 9.0, 11.0, "measured"))
            >>> round(joules.value, 2), round(joules.low, 2), joules.systematic
            (27.6, 24.84, 0.5)
        """
        provenance = "modelled" if self.modelled else amount.provenance
        band = self.band if self.modelled else amount.systematic
        if amount.value is None or amount.low is None or amount.high is None:
            return Figure.missing(provenance, band)
        if amount.value == amount.low == amount.high == 0:
            return amount  # nothing of it is used: no model has a part in that
        measured = 0.0 if self.modelled else self.band * self.value * abs(amount.value)
        return Figure(
            self.value * amount.value,
            self.value * amount.low - measured,
            self.value * amount.high + measured,
            provenance,
            band,
        )


@dataclass(frozen=True, kw_only=True)
class Coefficients(Record):
    """Those that apply on a machine. One that is None multiplies nothing: a counter has its joules, or nobody knows."""

    busy_cpu: Coefficient | None = None
    """None where a counter measures the processor."""
    idle: Coefficient | None = None
    """Of what idles while a trainer waits: processors and GPUs. Memory's idle power is in ``held``."""
    held: Coefficient | None = None
    moved: Coefficient | None = None
    """None where a counter measures the device, or bytes cost nothing here: memory, or another machine's device."""
    left_out: tuple[str, ...] = field(default=())
    """What isn't counted, and why: a sentence each."""

    def each(self) -> dict[str, Coefficient]:
        """Those that apply, by name, in the order of showing."""
        known = {BUSY_CPU: self.busy_cpu, IDLE: self.idle, HELD: self.held, MOVED: self.moved}
        return {name: coefficient for name, coefficient in known.items() if coefficient is not None}

    def with_value(self, name: str, value: float) -> Self:
        """The same with another value of one that applies.

        Args:
            name: one of `NAMES`.
            value: in the unit that the name says.

        Raises:
            KeyError: it doesn't apply.
        """
        changed = replace(self.each()[name], value=value)
        return replace(self, **{_FIELDS[name]: changed})  # type: ignore[arg-type]


_FIELDS = {BUSY_CPU: "busy_cpu", IDLE: "idle", HELD: "held", MOVED: "moved"}


def in_use(
    channels: Iterable[Channel],
    *,
    cpus: float,
    location: DataLocation,
    idle_power_w: Mapping[str, Figure] | None = None,
    memory_bytes: float | None = None,
) -> Coefficients:
    """The coefficients that apply where these meters read, and the data lie there.

    - Busy CPU: ``VCPU_ACTIVE_W``, unless a counter of kind ``cpu`` reads; then its joules are counted.
    - Idle: the measured idle power of processors and GPUs, where it was measured; of processors without a counter
      ``VCPU_IDLE_W`` for each CPU that may be used.
    - Held: ``DRAM_W_PER_GB``; where a counter reads memory and its size is known, idle watts of memory by its GB. What
      a counter sees above idle doesn't tell memory that is held from memory that is free.
    - Moved: that of the class of the data's device, unless a counter reads it.

    Args:
        channels: of the meters that read or model, as ``Windows.channels.values()``.
        cpus: processors that the loader may use; may be a fraction, where a quota is one.
        location: of the data, and of the folder in which images are kept, together.
        idle_power_w: watts with nothing to do, by domain; modelled ones are left aside.
        memory_bytes: memory of the whole machine.

    Example:
        >>> found = in_use([], cpus=2, location=DataLocation(why="/dev/shm is in memory (tmpfs)"))
        >>> {name: round(each.value, 3) for name, each in found.each().items()}
        {'watts of a busy CPU': 2.76, 'idle watts': 1.48, 'watts per GB held': 0.392}
    """
    counted = {channel.domain for channel in channels if channel.provenance != "modelled"}
    kinds = {Domain.parse(domain).kind for domain in counted}
    idle = {
        domain: watts
        for domain, watts in (idle_power_w or {}).items()
        if watts.value is not None and watts.provenance != "modelled"
    }
    moved, why = _moved(counted, location)
    return Coefficients(
        busy_cpu=None
        if "cpu" in kinds
        else Coefficient(name=BUSY_CPU, value=VCPU_ACTIVE_W, band=CPU_BAND, source=_FOOTPRINT),
        idle=_idle(kinds, idle, cpus),
        held=_held(idle, memory_bytes),
        moved=moved,
        left_out=(why,) if why else (),
    )


def _idle(kinds: set[str], idle: Mapping[str, Figure], cpus: float) -> Coefficient | None:
    """Of processors and GPUs; a processor that has a counter and no idle power yet is left out, as is a GPU."""
    measured = [watts for domain, watts in idle.items() if Domain.parse(domain).kind in ("cpu", "gpu")]
    has_cpu = any(Domain.parse(domain).kind == "cpu" for domain in idle)
    if not has_cpu and "cpu" not in kinds:
        band = CPU_BAND * VCPU_IDLE_W * cpus
        model = Figure(VCPU_IDLE_W * cpus, VCPU_IDLE_W * cpus, VCPU_IDLE_W * cpus, "modelled", CPU_BAND)
        watts = sum_figures([model, *measured])
        source = f"{VCPU_IDLE_W} W for each of {cpus:g} CPUs: {_FOOTPRINT}"
        if measured:
            source += "; GPUs by their counters"
        value = watts.value or 0.0
        return Coefficient(name=IDLE, value=value, band=band / value if value else 0.0, source=source)
    if not measured:
        return None
    watts = sum_figures(measured, common=True)
    value, half = watts.value or 0.0, watts.half_width or 0.0
    if value <= 0:
        return None
    return Coefficient(
        name=IDLE, value=value, band=half / value, provenance=watts.provenance, source="windows with nothing to do"
    )


def _held(idle: Mapping[str, Figure], memory_bytes: float | None) -> Coefficient:
    measured = [watts for domain, watts in idle.items() if Domain.parse(domain).kind == "dram"]
    watts = sum_figures(measured, common=True)
    if measured and memory_bytes and watts.value is not None and watts.value > 0:
        return Coefficient(
            name=HELD,
            value=watts.value / memory_bytes * 1e9,
            band=(watts.half_width or 0.0) / watts.value,
            provenance=watts.provenance,
            source=f"memory's idle power, {watts.value:.3g} W, by its {memory_bytes / 1e9:.0f} GB",
        )
    return Coefficient(name=HELD, value=DRAM_W_PER_GB, band=DRAM_BAND, source=_FOOTPRINT)


def _moved(counted: set[str], location: DataLocation) -> tuple[Coefficient | None, str]:
    """The coefficient, and why bytes aren't counted where they aren't."""
    devices = {str(Domain("storage", disk.name)) for disk in location.disks}
    if devices and devices <= counted:
        return None, ""
    storage = location.storage
    if storage is None:
        unknown = f"{location.name} is reached over a network: its devices are not this machine's"
        return None, f"Bytes from the device aren't counted in joules: {location.why or unknown}"
    return (
        Coefficient(
            name=MOVED,
            value=storage.j_per_byte * 1e9,
            band=storage.systematic,
            source=f"{storage.name}: {_SHEETS}",
        ),
        "",
    )
