"""What an emulated machine looks like (its zones) and what it draws (its power model). Pure, standard library only.

The power model is deliberately none that a profiler of this library assumes: watts differ by kind of work, further busy
cores add less, any work wakes the package, memory draws by bytes moved, and power follows the load with a lag.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from greenload.energy.domains import Domain
from greenload.errors import UsageError

OTHER = "other"
"""Kind of the CPU seconds that nobody noted in the ledger."""
IDLE = "idle"
"""What the truth calls joules that no kind of work drew."""
PLATFORM_W = 5.0
"""Watts of ``psys`` beside packages and memory."""
SERVER_WRAP_J = 262143.328850
"""``max_energy_range_uj`` of servers in joules: 2³² − 1 units of 61.035 µJ."""
_PSYS = Domain("cpu", "psys")


@dataclass(frozen=True, slots=True)
class PowercapLayout:
    """The zones of the emulated machine.

    Example:
        >>> PowercapLayout(packages=("package-0", "package-1"), dram=("package-0",)).domains
        ('cpu:package-0', 'dram:package-0', 'cpu:package-1')
    """

    packages: Sequence[str] = ("package-0",)
    """Names of the package zones; ``package-0-die-1`` for a multi-die one."""
    numbers: Sequence[int] | None = None
    """Their zone numbers, shown in hexadecimal; 0, 1, … if None. Gaps are allowed: ``(0, 10)`` gives ``:0``, ``:a``."""
    dram: bool | Collection[str] = True
    """Whether packages have a nested ``dram`` zone, after a ``core`` zone; or the names of those that have one."""
    core: bool = True
    """Whether each package has a nested ``core`` zone, which is a part of it."""
    psys: bool = False
    """Whether there is a ``psys`` zone with the sum of all, after the packages."""
    mmio: bool = False
    """Whether ``intel-rapl-mmio`` repeats the packages."""
    mirrored: bool = False
    """Whether all dies of a package show the whole package's counter, as AMD's first two Zen generations do."""
    wrap_j: float | Mapping[str, float] = SERVER_WRAP_J
    """``max_energy_range_uj`` in joules; or by domain, for those that differ from a server's."""
    start_j: float | Mapping[str, float] = 0.0
    """Where counters start, in joules: near ``wrap_j`` to see a wrap soon; or by domain, the others at 0."""

    def __post_init__(self) -> None:
        numbers = self.zone_numbers
        if not self.packages or len(numbers) != len(self.packages) or len(set(numbers)) != len(numbers):
            raise UsageError(
                f"a layout needs one distinct zone number for each package, got {len(self.packages)} packages and "
                f"numbers {tuple(numbers)}: leave numbers out for 0, 1, …"
            )
        known = {zone.domain for zone in self.zones()}
        for name, given in (("wrap_j", self.wrap_j), ("start_j", self.start_j)):
            unknown = set(given) - known if isinstance(given, Mapping) else set()
            if unknown:
                raise UsageError(f"{name} may name {sorted(known)}, got {sorted(unknown)}: name domains of the layout")
        for zone in self.zones():
            if not 0 <= zone.start_j < zone.wrap_j:
                raise UsageError(
                    f"start_j must be in [0, {zone.wrap_j}), got {zone.start_j} for {zone.domain}: choose a smaller one"
                )

    @property
    def zone_numbers(self) -> Sequence[int]:
        """Zone number of each package."""
        return tuple(range(len(self.packages))) if self.numbers is None else tuple(self.numbers)

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains with joules of their own that aren't part of another: packages and memory, in the zones' order."""
        return tuple(dict.fromkeys(zone.column for zone in self.zones() if zone.name not in ("core", "psys")))

    def zones(self) -> tuple[EmulatedZone, ...]:
        """All zones, in the order of their numbers, the memory-mapped copies after the others, ``psys`` last."""
        zones: list[EmulatedZone] = []
        for control in ("intel-rapl", "intel-rapl-mmio") if self.mmio else ("intel-rapl",):
            for number, package in zip(self.zone_numbers, self.packages, strict=True):
                top = f"{control}:{number:x}"
                zones.append(self._zone(top, f"{control}/{top}", package, "cpu", package))
                nested = ["core"] * self.core + ["dram"] * (
                    self.dram if isinstance(self.dram, bool) else package in self.dram
                )
                for index, name in enumerate(nested):
                    zones.append(self._zone(f"{top}:{index}", f"{control}/{top}/{top}:{index}", name, name, package))
        if self.psys:
            top = f"intel-rapl:{max(self.zone_numbers) + 1:x}"
            zones.append(self._zone(top, f"intel-rapl/{top}", "psys", "cpu", "psys"))
        return tuple(zones)

    def _zone(self, zone_id: str, folder: str, name: str, kind: str, package: str) -> EmulatedZone:
        domain, column = str(Domain(kind, package)), str(Domain(kind, self._counted(package)))
        wrap_j = self.wrap_j.get(domain, SERVER_WRAP_J) if isinstance(self.wrap_j, Mapping) else self.wrap_j
        start_j = self.start_j.get(domain, 0.0) if isinstance(self.start_j, Mapping) else self.start_j
        return EmulatedZone(zone_id, folder, name, domain, column, package, wrap_j, start_j)

    def _counted(self, package: str) -> str:
        """The package whose counter a package's zone shows: the first die's, where dies are mirrored."""
        if not self.mirrored:
            return package
        socket = package.partition("-die-")[0]
        return next(name for name in (*self.packages, package) if name.partition("-die-")[0] == socket)


@dataclass(frozen=True, slots=True)
class EmulatedZone:
    """One folder of the tree."""

    zone_id: str
    """``intel-rapl:a:1``."""
    folder: str
    """Where it is, relative to the class folder."""
    name: str
    """What its ``name`` file says."""
    domain: str
    """``cpu:package-0``, ``core:package-0``, ``dram:package-0``, ``cpu:psys``."""
    column: str
    """The domain whose joules it shows: another die's, where dies are mirrored."""
    package: str
    """The package (or ``psys``) that it vanishes with."""
    wrap_j: float
    """Its range, in joules."""
    start_j: float
    """Where it starts, in joules."""


@dataclass(frozen=True, slots=True)
class Power:
    """What the machine draws. The default is linear: ``idle_w`` · seconds + ``busy_core_w`` · CPU seconds.

    With ``c`` busy cores of each kind of work, spread evenly over ``n`` packages, ``b = Σ c / n`` and ``e = Σ weight ·
    c / n``, a package draws ``idle_w + wake_w · min(1, b) + busy_core_w · e / (1 + slowdown · b)``. What any busy core
    brings about, the second term, is split among the kinds by ``c``; the third by ``weight · c``. That split is what
    the truth means by a kind's joules: on busy cores, what the work's absence would save. The figures are made up;
    none is a maker's.
    """

    idle_w: float = 10.0
    """Watts of an idle package."""
    busy_core_w: float = 20.0
    """Watts that a busy core of weight 1 adds, over all packages."""
    wake_w: float = 0.0
    """Watts that a package with a core always busy draws for not sleeping."""
    slowdown: float = 0.0
    """How much less each further busy core adds: at 0.1, the second one of a package adds 1/1.2 of its watts."""
    dram_idle_w: float = 2.0
    """Watts of a package's idle memory."""
    dram_busy_core_w: float = 1.0
    """Watts that a busy core adds in memory, over all packages."""
    dram_j_per_byte: float = 0.0
    """Joules of memory for each byte noted in the ledger as moved."""
    weights: Mapping[str, float] = field(default_factory=lambda: {OTHER: 1.0})
    """Weight of a CPU second by kind of work; ``other`` is what nobody noted."""
    lag_s: float = 0.0
    """How slowly power follows the load: the time constant of an exponential, in seconds; 0 for at once."""
    noise: float = 0.0
    """Relative standard deviation of each of the counters' increments. The truth has none."""
    refresh_s: float = 0.0
    """Counters are refreshed no more often than this, in seconds: every 2 ms at least."""

    def __post_init__(self) -> None:
        numbers = [
            value for name in self.__dataclass_fields__ if isinstance(value := getattr(self, name), (int, float))
        ]
        bad = [value for value in (*numbers, *self.weights.values()) if not (math.isfinite(value) and value >= 0)]
        if bad:
            raise UsageError(f"figures of a power model are finite and not negative, got {bad[0]}: choose another")
        if OTHER not in self.weights or IDLE in self.weights:
            raise UsageError(
                f"weights must hold {OTHER!r} and not {IDLE!r}, got {sorted(self.weights)}: name the kinds otherwise"
            )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of work, in the order of the weights."""
        return tuple(self.weights)


UNEVEN = Power(
    busy_core_w=16.0,
    wake_w=5.0,
    slowdown=0.15,
    dram_busy_core_w=0.0,
    dram_j_per_byte=0.05e-9,
    weights={OTHER: 1.0, "parsing": 1.0, "vector": 2.0, "neighbour": 1.5},
    lag_s=0.005,
)
"""A machine on which a CPU second's joules depend on what it does and on what runs beside it."""


def core_watts(power: Power, cores: Sequence[float]) -> list[float]:
    """Watts that work adds to one package, by kind. Pure.

    Args:
        power: the model.
        cores: busy cores of this package by kind, in the order of ``power.kinds``.

    Example:
        >>> core_watts(Power(busy_core_w=20.0, slowdown=0.5), [2.0])
        [20.0]
    """
    busy = sum(cores)
    weighted = [weight * count for weight, count in zip(power.weights.values(), cores, strict=True)]
    if busy <= 0:
        return [0.0] * len(weighted)
    per_core_w = power.wake_w * min(1.0, busy) / busy
    per_weight_w = power.busy_core_w / (1 + power.slowdown * busy)
    return [per_core_w * count + per_weight_w * share for count, share in zip(cores, weighted, strict=True)]


@dataclass(frozen=True, slots=True)
class TruthColumns:
    """Which joules are kept: one row of idle joules and joules by kind for each domain that has a counter."""

    power: Power
    """The model."""
    names: tuple[str, ...]
    """Domains, each once: mirrored dies share one."""

    @classmethod
    def of(cls, layout: PowercapLayout, power: Power) -> TruthColumns:
        """Columns of a machine."""
        return cls(power, tuple(dict.fromkeys(zone.column for zone in layout.zones())))

    @property
    def width(self) -> int:
        """Numbers in a row: idle, then one per kind."""
        return 1 + len(self.power.kinds)

    def joules(self, seconds: float, cores: Sequence[float], moved_bytes: Sequence[float]) -> list[float]:
        """Joules of a time in which the load stayed the same: rows of all columns, flat. Pure.

        Args:
            seconds: its length.
            cores: busy cores of the machine by kind.
            moved_bytes: bytes moved in this time by kind.
        """
        power = self.power
        domains = [Domain.parse(name) for name in self.names]
        count = sum(domain.kind == "cpu" and domain.part.startswith("package-") for domain in domains)
        core = [watts * seconds for watts in core_watts(power, [value / count for value in cores])]
        package = [power.idle_w * seconds, *core]
        dram = [power.dram_idle_w * seconds] + [
            (power.dram_busy_core_w * busy * seconds + power.dram_j_per_byte * moved) / count
            for busy, moved in zip(cores, moved_bytes, strict=True)
        ]
        drams = sum(domain.kind == "dram" for domain in domains)
        rows: list[float] = []
        for domain in domains:
            if domain == _PSYS:
                total = [
                    count * of_package + drams * of_dram for of_package, of_dram in zip(package, dram, strict=True)
                ]
                rows += [total[0] + PLATFORM_W * seconds, *total[1:]]
            elif domain.kind == "core":
                rows += [0.0, *core]
            else:
                rows += dram if domain.kind == "dram" else package
        return rows
