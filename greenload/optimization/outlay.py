"""What a plan spends on a whole training, from what was measured of it.

With ``N`` samples in an epoch, ``E`` epochs, and a demand of ``D`` samples a second:

- CPU seconds: ``start + N first + (E − 1) N later``.
- Wall seconds of an epoch: ``N / rate`` without a demand, ``max(N / rate, N / D)`` with one; ``rate`` is the plan's at
  full speed, in the first epoch or in later ones. Starting runs on one processor: its CPU seconds are wall seconds.
- Seconds that the trainer waits for the loader: all of these without a demand, what they exceed ``N / D`` by with one.
- Joules: of counters where they read, else ``watts of a busy CPU × CPU seconds``; ``watts per GB held × GB × wall
  seconds``; ``joules per GB × GB from and to the device``; ``idle watts × seconds that the trainer waits``. Counters'
  joules are net of the idle machine, so idle power is counted once. A counter doesn't see starting apart: that takes
  the joules of a CPU second of later epochs, or of the first where there are no others.

So joules are linear in every coefficient (`Amounts` are what each multiplies), and linear in the epochs from the first
on. A plan that keeps nothing may have been measured in one kind of epoch only: the other is taken to be like it.

*Intervals*: all parts come from the same builds and windows, so their errors may go together; half-widths are added as
they are, which holds however they are correlated. A model's band is apart, in ``Figure.systematic``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from greenload.energy.domains import Domain
from greenload.energy.figures import Figure, scale, sum_figures
from greenload.optimization.coefficients import BUSY_CPU, HELD, IDLE, MOVED, Coefficients
from greenload.optimization.records import PARTS, Candidate, Outlay, Rates
from greenload.optimization.training import Training

NOTHING = Figure(0.0, 0.0, 0.0, "measured")
STARTING, FIRST, LATER, STORAGE, MEMORY, WAITING = PARTS
_GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """What a plan uses in a whole training: joules that counters saw, and what each coefficient multiplies."""

    counted_j: Mapping[str, Figure]
    """By part, of `greenload.optimization.records.PARTS`."""
    cpu_s: Mapping[str, Figure]
    """CPU seconds by part."""
    waiting_s: Figure
    """Seconds that the trainer waits for the loader."""
    held_gb_s: Figure
    """GB (10⁹ bytes) held in memory, times seconds."""
    moved_gb: Figure
    """GB from and to the device."""
    seconds: Figure
    """Wall seconds."""

    def multiplied_by(self, name: str) -> Figure:
        """What a coefficient multiplies.

        Args:
            name: of `greenload.optimization.coefficients.NAMES`.
        """
        of_each = {
            BUSY_CPU: lambda: sum_figures(self.cpu_s.values(), common=True),
            IDLE: lambda: self.waiting_s,
            HELD: lambda: self.held_gb_s,
            MOVED: lambda: self.moved_gb,
        }
        return of_each[name]()


def outlay(rates: Rates, candidate: Candidate, training: Training, coefficients: Coefficients) -> Outlay:
    """What a plan spends on a whole training; the module's text has the formulas.

    Args:
        rates: measured of the plan, per sample.
        candidate: the plan; its bytes held count.
        training: samples, epochs, demand.
        coefficients: those that apply.

    Returns:
        Figures are missing where what they need is.

    Example:
        >>> each = Figure(0.001, 0.0009, 0.0011, "measured")
        >>> rates = Rates(start_cpu_s=NOTHING, later_cpu_s=each, later_samples_per_s=Figure(2e3, 2e3, 2e3, "measured"))
        >>> plan = Candidate(name="tf", backends="tf", threads=2, prefetch=2)
        >>> training = Training(samples=1000, epochs=10, ram=0, threads=2)
        >>> outlay(rates, plan, training, Coefficients()).cpu_s.value
        10.0
    """
    used = amounts(rates, candidate, training, coefficients)
    parts = _parts(used, coefficients)
    return Outlay(
        energy_j=sum_figures(parts.values(), common=True),
        cpu_s=sum_figures(used.cpu_s.values(), common=True),
        seconds=used.seconds,
        parts_j=parts,
        per_epoch_j=_of_later_epoch(rates, candidate, training, coefficients),
    )


def cost(spent: Outlay, training: Training) -> Figure:
    """What the plan is to spend least of: joules, or CPU seconds."""
    return spent.cpu_s if training.objective == "cpu" else spent.energy_j


def amounts(rates: Rates, candidate: Candidate, training: Training, coefficients: Coefficients) -> Amounts:
    """What a plan uses in a whole training. CPU seconds count always; their joules where no counter has them.

    Args:
        rates: measured of the plan, per sample.
        candidate: the plan.
        training: samples, epochs, demand.
        coefficients: say which joules of counters would count twice: those of a kind that a coefficient has.
    """
    rates = _completed(rates)
    first, later = training.samples, training.samples * (training.epochs - 1)
    starts = rates.start_cpu_s
    wall = [starts, _epoch_s(rates.first_samples_per_s, training, _wall)]
    waiting = [starts, _epoch_s(rates.first_samples_per_s, training, _wait)]
    if later:
        wall.append(scale(_epoch_s(rates.later_samples_per_s, training, _wall), training.epochs - 1))
        waiting.append(scale(_epoch_s(rates.later_samples_per_s, training, _wait), training.epochs - 1))
    seconds = sum_figures(wall, common=True)
    moved = first * (rates.first_read_bytes + rates.written_bytes) + later * rates.later_read_bytes
    return Amounts(
        counted_j=_counted(rates, training, coefficients),
        cpu_s={
            STARTING: starts,
            FIRST: _times(rates.first_cpu_s, first),
            LATER: _times(rates.later_cpu_s, later),
        },
        waiting_s=sum_figures(waiting, common=True),
        held_gb_s=_times(seconds, candidate.ram_bytes / _GB),
        moved_gb=_exactly(moved / _GB),
        seconds=seconds,
    )


def _completed(rates: Rates) -> Rates:
    """The rates, with the first epoch's in place of later ones that weren't measured, and the other way round."""
    changes: dict[str, Figure | Mapping[str, Figure]] = {}
    for name in ("cpu_s", "samples_per_s"):
        first, later = getattr(rates, f"first_{name}"), getattr(rates, f"later_{name}")
        changes[f"first_{name}"] = later if first.value is None else first
        changes[f"later_{name}"] = first if later.value is None else later
    changes["first_energy_j"] = rates.first_energy_j or rates.later_energy_j
    changes["later_energy_j"] = rates.later_energy_j or rates.first_energy_j
    start = NOTHING if rates.start_cpu_s.value is None else rates.start_cpu_s
    return replace(rates, start_cpu_s=start, **changes)  # type: ignore[arg-type]


def _counted(rates: Rates, training: Training, coefficients: Coefficients) -> dict[str, Figure]:
    """Joules of counters, by part. Memory's are those of using it: what is held is a coefficient's."""
    modelled = {
        kind
        for kind, coefficient in (("cpu", coefficients.busy_cpu), ("storage", coefficients.moved))
        if coefficient is not None
    }
    first, later = training.samples, training.samples * (training.epochs - 1)

    def of(energies: Mapping[str, Figure], storage: bool) -> Figure:
        kinds = {domain: Domain.parse(domain).kind for domain in energies}
        return sum_figures(
            [
                figure
                for domain, figure in energies.items()
                if kinds[domain] not in modelled and (kinds[domain] == "storage") == storage
            ],
            common=True,
        )

    parts = {
        STARTING: _joules_of_start(rates, of(rates.later_energy_j, storage=False)),
        FIRST: _times(of(rates.first_energy_j, storage=False), first),
        LATER: _times(of(rates.later_energy_j, storage=False), later),
        STORAGE: sum_figures(
            [
                _times(of(rates.first_energy_j, storage=True), first),
                _times(of(rates.later_energy_j, storage=True), later),
            ],
            common=True,
        ),
    }
    return parts


def _joules_of_start(rates: Rates, later_j: Figure) -> Figure:
    """Of counters: those of a CPU second of later epochs, times the CPU seconds of starting."""
    if later_j.value is None or not rates.later_cpu_s.value or not rates.start_cpu_s.value:
        return NOTHING
    return scale(rates.start_cpu_s, max(0.0, later_j.value / rates.later_cpu_s.value))


def _parts(used: Amounts, coefficients: Coefficients) -> dict[str, Figure]:
    """Joules by part. The sum of each amount times its coefficient, and what counters saw."""
    parts = {part: [used.counted_j[part]] if part in used.counted_j else [] for part in PARTS}
    if coefficients.busy_cpu is not None:
        for part, seconds in used.cpu_s.items():
            parts[part].append(coefficients.busy_cpu.times(seconds))
    others = (
        (STORAGE, coefficients.moved, MOVED),
        (MEMORY, coefficients.held, HELD),
        (WAITING, coefficients.idle, IDLE),
    )
    for part, coefficient, name in others:
        if coefficient is not None:
            parts[part].append(coefficient.times(used.multiplied_by(name)))
    return {part: sum_figures(figures, common=True) for part, figures in parts.items()}


def _of_later_epoch(rates: Rates, candidate: Candidate, training: Training, coefficients: Coefficients) -> Figure:
    """Joules of a later epoch: those of a training of one epoch that neither starts anything nor fills it."""
    rates = _completed(rates)
    like_later = replace(
        rates,
        start_cpu_s=NOTHING,
        first_cpu_s=rates.later_cpu_s,
        first_energy_j=rates.later_energy_j,
        first_samples_per_s=rates.later_samples_per_s,
        first_read_bytes=rates.later_read_bytes,
        written_bytes=0.0,
    )
    used = amounts(like_later, candidate, replace(training, epochs=1), coefficients)
    return sum_figures(_parts(used, coefficients).values(), common=True)


def _wall(seconds: float, at_demand: float) -> float:
    return max(seconds, at_demand)


def _wait(seconds: float, at_demand: float) -> float:
    return max(0.0, seconds - at_demand) if at_demand else seconds


def _epoch_s(samples_per_s: Figure, training: Training, of: Callable[[float, float], float]) -> Figure:
    """Seconds of an epoch, of those that the loader takes at full speed and those that the demand leaves it."""
    at_demand = training.samples / training.demand if training.demand else 0.0
    low, value, high = samples_per_s.low, samples_per_s.value, samples_per_s.high
    if low is None or value is None or high is None or low <= 0:
        return Figure.missing()
    quick, expected, slow = (of(training.samples / rate, at_demand) for rate in (high, value, low))
    return Figure(expected, quick, slow, samples_per_s.provenance)


def _times(figure: Figure, factor: float) -> Figure:
    """The figure times a number; nothing at all of what is never used, whether or not it is known."""
    return scale(figure, factor) if factor else NOTHING


def _exactly(value: float) -> Figure:
    return Figure(value, value, value, "measured")
