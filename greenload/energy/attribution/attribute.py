"""From windows under meters to costs of steps: paired replay, prefixes, the idle floor, and what stays unattributed.

Everything here is arithmetic on numbers already read; nothing touches a meter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from greenload.energy.attribution.idle_floor import find_floors, idle_power, own_energy, take_out
from greenload.energy.attribution.indistinct import Indistinct, indistinct_steps
from greenload.energy.attribution.observation import Domain, Observation
from greenload.energy.attribution.quantity import FULL, NEGLIGIBLE, Difference, Index, Quantity, column, differences
from greenload.energy.figures import Figure, scale, sum_figures
from greenload.errors import UsageError

__all__ = [
    "NEGLIGIBLE",
    "Attribution",
    "Cost",
    "Domain",
    "Figure",
    "Indistinct",
    "Observation",
    "StepCost",
    "attribute",
    "own_energy",
    "paired_cost",
    "prefix_cost",
    "scale",
    "sum_figures",
    "trial_cost",
]

_UNCOUNTED = Figure.missing()


@dataclass(frozen=True, slots=True)
class Cost:
    """What one sample costs, by kind of cost."""

    cpu_s_per_sample: Figure
    """CPU seconds, user plus system."""
    energy_j_per_sample: Mapping[str, Figure]
    """Joules by domain, without the idle floor."""
    device_bytes_per_sample: Figure
    """Bytes read from storage devices."""
    bytes_out_per_sample: float | None = None
    """Bytes handed on; None where unknown."""
    reads_per_sample: Figure = _UNCOUNTED
    """Read system calls."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """The cost of one step, and how it was found."""

    name: str
    method: str
    """``"replay"`` or ``"prefix"``."""
    cost: Cost


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where the full pipeline's cost goes."""

    steps: tuple[StepCost, ...]
    full: Cost
    """The held-out run at full speed. The error of the floor and neighbours taken out of measured joules is in the
    interval, as in every other figure of them."""
    samples_per_s: Figure
    """Throughput of the held-out run."""
    idle_power_w: Mapping[str, Figure]
    """The machine's floor by domain."""
    idle_energy_j_per_sample: Mapping[str, Figure]
    """The floor's joules while one sample passes at full speed."""
    unattributed: Cost
    """``full`` less the sum of ``steps``. What of the floor's error is in both cancels."""
    total: Cost
    """``full`` with the idle floor for as long as it takes: the counters saw both, so the floor's error is hardly in
    it."""
    indistinct: tuple[Indistinct, ...] = ()
    """Steps that can't be told apart in a quantity, with their sum; empty where all are."""


def unattributed_shares(full: Cost, unattributed: Cost) -> dict[str, float]:
    """What no step explains, as a share of the full run: for ``cpu_s`` and each domain that is not modelled.

    Modelled joules follow CPU seconds and bytes, so they add nothing. A domain counts only where its meter can tell the
    rest from zero: of an idle GPU's joules above its floor, which are noise, any share may be left over.
    """
    pairs = {"cpu_s": (full.cpu_s_per_sample, unattributed.cpu_s_per_sample)}
    for domain, figure in full.energy_j_per_sample.items():
        rest = unattributed.energy_j_per_sample.get(domain)
        if rest is None or rest.low is None or rest.high is None or figure.provenance != "measured":
            continue
        if not rest.low <= 0 <= rest.high:
            pairs[domain] = (figure, rest)
    return {
        name: rest.value / whole.value
        for name, (whole, rest) in pairs.items()
        if whole.value and rest.value is not None
    }


_MEASURED = Domain("measured")
_COUNTS = ("cpu_s", "device_bytes", "reads")


def paired_cost(
    observations: Sequence[Observation],
    quantity: str,
    *,
    step: str,
    domain: Domain = _MEASURED,
    resolution: float = 0.0,
) -> Figure:
    """Cost of a step per sample by paired replay: within each build and round, the window with it less the one without.

    Judged alone: without the other steps' costs, the interval is wider than `attribute` gives it. Joules are taken as
    they are; `trial_cost` takes the floor out.

    Args:
        observations: windows; this step's kinds "with" and "without" are used, rounds that lack either left out.
        quantity: ``"cpu_s"``, ``"device_bytes"``, ``"reads"``, ``"work_ns"``, or a domain of ``energy_j``.
        step: the step's name.
        domain: provenance and band of the figure.
        resolution: half-width below which a zero is a finding (see `figures.cannot_resolve`).

    Returns:
        A figure with the interval of `intervals.interval`; missing with fewer than two rounds.
    """
    return _alone(observations, quantity, Difference((step, "with"), (step, "without")), domain, resolution)


def prefix_cost(
    observations: Sequence[Observation],
    quantity: str,
    *,
    step: str,
    previous: str | None,
    domain: Domain = _MEASURED,
    resolution: float = 0.0,
) -> Figure:
    """Cost of a step per sample by prefixes: the pipeline up to it, less the pipeline up to the step before.

    Negative where a step spares the ones before it, as a cache does. ``previous`` None compares with nothing (the
    source). Other arguments as for `paired_cost`; windows of kind "prefix" are used.
    """
    absent = None if previous is None else (previous, "prefix")
    return _alone(observations, quantity, Difference((step, "prefix"), absent), domain, resolution)


def _alone(
    observations: Sequence[Observation], quantity: str, cost: Difference, domain: Domain, resolution: float = 0.0
) -> Figure:
    return Quantity(Index(observations), [cost], column(quantity), domain).figure(0, resolution)


def trial_cost(observations: Sequence[Observation], *, step: str, domains: Mapping[str, Domain]) -> Cost:
    """Cost of a step per sample by paired replay, judged alone, in own joules, the floor's error included.

    Args:
        observations: all windows of a profile, those of the trial among them.
        step: the trial's name; its windows are of kinds "with" and "without".
        domains: the energy domains to report.
    """
    floors = find_floors(observations, domains)
    index = Index(take_out(observations, domains, floors))
    cost = [Difference((step, "with"), (step, "without"))]
    cpu, device, reads = (Quantity(index, cost, column(name), _MEASURED).figure(0) for name in _COUNTS)
    joules = {
        name: Quantity(index, cost, column(name), domain, floors.get(name), name).figure(0)
        for name, domain in domains.items()
    }
    return Cost(cpu, joules, device, reads_per_sample=reads)


def attribute(
    observations: Sequence[Observation],
    *,
    steps: Sequence[str],
    domains: Mapping[str, Domain],
    idle_power_w: Mapping[str, float] | None = None,
    out_of_place: Mapping[str, float] | None = None,
) -> Attribution:
    """Costs of every step, the held-out full run, the idle floor, and what no step explains.

    A step with windows "with" and "without" is measured by replay, one with windows "prefix" by prefixes.

    Args:
        observations: all windows of a profile.
        steps: names in the pipeline's order; a prefix is compared with the prefix of the name before it.
        domains: the energy domains to report.
        idle_power_w: floor in watts by domain, where known otherwise than by idle windows.
        out_of_place: by step, standard deviation, as a share of its cost, of what a replay has wrong for running out of
            its place; `quantities.OUT_OF_PLACE` for those that aren't named.

    Raises:
        UsageError: a step, or the full pipeline, has no windows.
    """
    floors = find_floors(observations, domains, idle_power_w)
    power = idle_power(floors, domains, idle_power_w)
    index = Index(take_out(observations, domains, floors))
    if not index[FULL]:
        raise UsageError('an attribution is checked against the full pipeline, found no window of kind "full": run it')
    methods = [_method(index, steps, place) for place in range(len(steps))]
    costs = differences(steps, methods, out_of_place or {})
    counts = {name: Quantity(index, costs, column(name), _MEASURED, counts=name != "cpu_s") for name in _COUNTS}
    energy = {
        name: Quantity(index, costs, column(name), domain, floors.get(name), name) for name, domain in domains.items()
    }

    def cost(pick: Callable[[Quantity], Figure]) -> Cost:
        cpu, device, reads = (pick(counts[name]) for name in _COUNTS)
        return Cost(cpu, {name: pick(quantity) for name, quantity in energy.items()}, device, reads_per_sample=reads)

    full = cost(lambda quantity: quantity.figure(-1))
    wall_s = scale(_alone(index[FULL], "work_ns", Difference(FULL), _MEASURED), 1e-9)
    judged = {"cpu_s": counts["cpu_s"]} | {
        name: quantity for name, quantity in energy.items() if domains[name].provenance == "measured"
    }
    given = {name: watts.value or 0.0 for name, watts in power.items()}
    return Attribution(
        steps=tuple(
            StepCost(name, method, cost(partial(Quantity.figure, place=place)))
            for place, (name, method) in enumerate(zip(steps, methods, strict=True))
        ),
        full=full,
        samples_per_s=_inverse(wall_s),
        idle_power_w=power,
        idle_energy_j_per_sample={name: _product(watts, wall_s) for name, watts in power.items()},
        unattributed=cost(Quantity.rest),
        total=replace(
            full,
            energy_j_per_sample={name: quantity.total(given.get(name, 0.0)) for name, quantity in energy.items()},
        ),
        indistinct=tuple(
            group for name, quantity in judged.items() for group in indistinct_steps(name, quantity, steps)
        ),
    )


def _method(index: Index, steps: Sequence[str], place: int) -> str:
    step, previous = steps[place], steps[place - 1] if place else None
    if index[step, "with"] and index[step, "without"]:
        return "replay"
    if not index[step, "prefix"]:
        raise UsageError(f"every step needs windows, found none for {step!r}: replay it, or run its prefix")
    if previous is not None and not index[previous, "prefix"]:
        raise UsageError(f"step {step!r} is measured by prefixes, found none ending in {previous!r}: run that one too")
    return "prefix"


def _product(left: Figure, right: Figure) -> Figure:
    """Product of independent figures; half-widths in quadrature to first order, the left one's provenance."""
    if left.value is None or right.value is None:
        return Figure.missing(left.provenance, left.systematic)
    value = left.value * right.value
    half = math.hypot((left.half_width or 0.0) * right.value, (right.half_width or 0.0) * left.value)
    return Figure(value, value - half, value + half, left.provenance, left.systematic)


def _inverse(wall_s: Figure) -> Figure:
    if wall_s.value is None or wall_s.low is None or wall_s.high is None:
        return Figure.missing()
    # First-order: 1/low would be unbounded where few windows give an interval that reaches zero.
    half = (wall_s.half_width or 0.0) / wall_s.value**2
    return Figure(1 / wall_s.value, 1 / wall_s.value - half, 1 / wall_s.value + half, wall_s.provenance)
