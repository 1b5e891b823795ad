"""From windows under meters to costs of steps: paired replay, prefixes, the idle floor, and what stays unattributed.

Everything here is arithmetic on numbers already read; nothing touches a meter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from greenload.energy.figures import Figure, cannot_resolve, scale, sum_figures
from greenload.energy.floor import own_energy
from greenload.energy.intervals import Spread, Table, between_builds, interval
from greenload.energy.windows import Domain, Observation, read
from greenload.errors import UsageError

__all__ = [
    "Attribution",
    "Cost",
    "Domain",
    "Figure",
    "Observation",
    "StepCost",
    "attribute",
    "own_energy",
    "paired_cost",
    "prefix_cost",
    "scale",
    "sum_figures",
]

NEGLIGIBLE = 0.01
"""Share of the full pipeline's cost that counts as nothing: a step
pinned to zero within it is resolved."""


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
    """The held-out run at full speed. The error of the floor taken out of measured joules is in the interval."""
    samples_per_s: Figure
    """Throughput of the held-out run."""
    idle_power_w: Mapping[str, Figure]
    """The machine's floor by domain."""
    idle_energy_j_per_sample: Mapping[str, Figure]
    """The floor's joules while one sample passes at full speed."""
    unattributed: Cost
    """``full`` less the sum of ``steps``. Interval in quadrature: rather too wide where drift is shared."""
    total: Cost
    """``full`` with the idle floor: what the counters saw, so the floor's own error isn't in its interval."""


def unattributed_shares(full: Cost, unattributed: Cost) -> dict[str, float]:
    """What no step explains, as a share of the full run: for ``cpu_s`` and each domain that is not modelled.

    Modelled joules follow CPU seconds and bytes, so they add nothing. A domain counts only where its meter can tell the
    rest from zero: of an idle GPU's joules above its floor, which are noise, any share may be left over.
    """
    pairs = {"cpu_s": (full.cpu_s_per_sample, unattributed.cpu_s_per_sample)}
    for domain, figure in full.energy_j_per_sample.items():
        rest = unattributed.energy_j_per_sample.get(domain)
        if rest is None or rest.low is None or rest.high is None or figure.provenance == "modelled":
            continue
        if not rest.low <= 0 <= rest.high:
            pairs[domain] = (figure, rest)
    return {
        name: rest.value / whole.value
        for name, (whole, rest) in pairs.items()
        if whole.value and rest.value is not None
    }


def _per_sample(windows: Iterable[Observation], quantity: str) -> dict[tuple[int, int], float]:
    """``{(build, round): per-sample value}``; several windows of one round are pooled, void ones left out."""
    sums: dict[tuple[int, int], tuple[float, int]] = {}
    for window in windows:
        value = read(window, quantity)
        if value is not None:
            total, samples = sums.get((window.build, window.round), (0.0, 0))
            sums[window.build, window.round] = (total + value, samples + window.samples)
    return {key: total / samples for key, (total, samples) in sums.items()}


def _table(values: Mapping[tuple[int, int], float], less: Mapping[tuple[int, int], float] | None = None) -> Table:
    table: dict[int, list[float]] = {}
    for key in sorted(values):
        if less is None:
            table.setdefault(key[0], []).append(values[key])
        elif key in less:
            table.setdefault(key[0], []).append(values[key] - less[key])
    return table


def _select(windows: Iterable[Observation], step: str, kind: str) -> list[Observation]:
    return [window for window in windows if window.step == step and window.kind == kind]


def _replay_table(windows: Sequence[Observation], step: str, quantity: str) -> Table:
    present = _per_sample(_select(windows, step, "with"), quantity)
    return _table(present, _per_sample(_select(windows, step, "without"), quantity))


def _prefix_table(windows: Sequence[Observation], step: str, previous: str | None, quantity: str) -> Table:
    upto = _per_sample(_select(windows, step, "prefix"), quantity)
    return _table(upto, None if previous is None else _per_sample(_select(windows, previous, "prefix"), quantity))


def _figure(table: Table, spread: Spread | None, domain: Domain, resolution: float = 0.0) -> Figure:
    found = interval(table, spread)
    if found is None:
        return Figure.missing(domain.provenance, domain.systematic)
    value, low, high = found
    unresolved = cannot_resolve(low, high, resolution)
    return Figure(value, low, high, domain.provenance, domain.systematic, unresolved)


_MEASURED = Domain("measured")


def paired_cost(
    observations: Sequence[Observation],
    quantity: str,
    *,
    step: str,
    domain: Domain = _MEASURED,
    spread: Spread | None = None,
    resolution: float = 0.0,
) -> Figure:
    """Cost of a step per sample by paired replay: within each build and round, the window with it less the one without.

    Args:
        observations: windows; this step's kinds "with" and "without" are used, rounds that lack either left out.
        quantity: ``"cpu_s"``, ``"device_bytes"``, ``"reads"``, ``"wall_ns"``, or a domain of ``energy_j``.
        step: the step's name.
        domain: provenance and band of the figure.
        spread: between builds, from all costs of the profile; None judges by this step alone, which is wider.
        resolution: half-width below which a zero is a finding (see `figures.cannot_resolve`).

    Returns:
        A figure with the interval of `intervals.interval`; missing with fewer than two rounds.
    """
    return _figure(_replay_table(observations, step, quantity), spread, domain, resolution)


def prefix_cost(
    observations: Sequence[Observation],
    quantity: str,
    *,
    step: str,
    previous: str | None,
    domain: Domain = _MEASURED,
    spread: Spread | None = None,
    resolution: float = 0.0,
) -> Figure:
    """Cost of a step per sample by prefixes: the pipeline up to it, less the pipeline up to the step before.

    Negative where a step spares the ones before it, as a cache does. ``previous`` None compares with nothing (the
    source). Other arguments as for `paired_cost`; windows of kind "prefix" are used.
    """
    return _figure(_prefix_table(observations, step, previous, quantity), spread, domain, resolution)


def _figures(tables: Sequence[Table], domain: Domain) -> list[Figure]:
    """Figures of tables of one quantity, the last the full run's, which sets what is negligible."""
    *parts, whole = tables
    spread = between_builds(tables)
    full = _figure(whole, spread, domain)
    resolution = NEGLIGIBLE * abs(full.value or 0.0)
    return [*(_figure(table, spread, domain, resolution) for table in parts), full]


def _with_floor_error(figures: Sequence[Figure], watts: Figure | None, walls_s: Sequence[Figure]) -> list[Figure]:
    """Figures of joules less ``watts`` times wall seconds: the floor's error is common to all windows, so rounds don't
    show it. It is independent of their scatter, so it adds in quadrature; a modelled or given floor has none."""
    error_w = watts.half_width if watts is not None else None
    if not error_w:
        return list(figures)
    resolution = NEGLIGIBLE * abs(figures[-1].value or 0.0)
    found = []
    for figure, wall_s in zip(figures, walls_s, strict=True):
        if figure.value is not None and wall_s.value is not None:
            half = math.hypot(figure.half_width or 0.0, error_w * wall_s.value)
            low, high = figure.value - half, figure.value + half
            figure = replace(figure, low=low, high=high, unresolved=cannot_resolve(low, high, resolution))
        found.append(figure)
    return found


def _with_floor(window: Observation, power: Mapping[str, Figure]) -> Observation:
    """The window with the idle floor back in its joules."""
    wall_s = window.wall_ns / 1e9
    floor = {name: (watts.value or 0.0) * wall_s for name, watts in power.items()}
    return replace(window, energy_j={name: joules + floor.get(name, 0.0) for name, joules in window.energy_j.items()})


def _product(left: Figure, right: Figure) -> Figure:
    """Product of independent figures; half-widths in quadrature to first order, the left one's provenance."""
    if left.value is None or right.value is None:
        return Figure.missing(left.provenance, left.systematic)
    value = left.value * right.value
    half = math.hypot((left.half_width or 0.0) * right.value, (right.half_width or 0.0) * left.value)
    return Figure(value, value - half, value + half, left.provenance, left.systematic)


def attribute(
    observations: Sequence[Observation],
    *,
    steps: Sequence[str],
    domains: Mapping[str, Domain],
    idle_power_w: Mapping[str, float] | None = None,
) -> Attribution:
    """Costs of every step, the held-out full run, the idle floor, and what no step explains.

    A step with windows "with" and "without" is measured by replay, one with windows "prefix" by prefixes.

    Args:
        observations: all windows of a profile.
        steps: names in the pipeline's order; a prefix is compared with the prefix of the name before it.
        domains: the energy domains to report.
        idle_power_w: floor in watts by domain, where known otherwise than by idle windows.

    Raises:
        UsageError: a step, or the full pipeline, has no windows.
    """
    work, power = own_energy(observations, domains, idle_power_w)
    full_windows = [window for window in work if window.kind == "full"]
    if not full_windows:
        raise UsageError('an attribution is checked against the full pipeline, found no window of kind "full": run it')
    methods = [_method(work, steps, index) for index in range(len(steps))]

    def tables(quantity: str) -> list[Table]:
        """The steps' tables and, last, the full run's."""
        found = [
            _replay_table(work, name, quantity)
            if method == "replay"
            else _prefix_table(work, name, steps[index - 1] if index else None, quantity)
            for index, (name, method) in enumerate(zip(steps, methods, strict=True))
        ]
        return [*found, _table(_per_sample(full_windows, quantity))]

    cpu = _figures(tables("cpu_s"), _MEASURED)
    device = _figures(tables("device_bytes"), _MEASURED)
    reads = _figures(tables("reads"), _MEASURED)
    walls_s = [scale(figure, 1e-9) for figure in _figures(tables("wall_ns"), _MEASURED)]
    energy = {
        name: _with_floor_error(_figures(tables(name), domain), power.get(name), walls_s)
        for name, domain in domains.items()
    }
    counted = [_with_floor(window, power) for window in full_windows]

    def total(name: str, domain: Domain) -> Figure:
        # From joules with the floor still inside: full + idle would count an error that cancels.
        return _figure(_table(_per_sample(counted, name)), between_builds(tables(name)), domain)

    def cost(index: int) -> Cost:
        joules = {name: energy[name][index] for name in energy}
        return Cost(cpu[index], joules, device[index], reads_per_sample=reads[index])

    full = cost(-1)
    wall_s = scale(_figure(_table(_per_sample(full_windows, "wall_ns")), None, _MEASURED), 1e-9)
    idle = {name: _product(watts, wall_s) for name, watts in power.items()}
    return Attribution(
        steps=tuple(StepCost(name, methods[index], cost(index)) for index, name in enumerate(steps)),
        full=full,
        samples_per_s=_inverse(wall_s),
        idle_power_w=power,
        idle_energy_j_per_sample=idle,
        unattributed=Cost(
            _rest(cpu), {name: _rest(energy[name]) for name in energy}, _rest(device), reads_per_sample=_rest(reads)
        ),
        total=replace(full, energy_j_per_sample={name: total(name, domain) for name, domain in domains.items()}),
    )


def _method(work: Sequence[Observation], steps: Sequence[str], index: int) -> str:
    step, previous = steps[index], steps[index - 1] if index else None
    if _select(work, step, "with") and _select(work, step, "without"):
        return "replay"
    if not _select(work, step, "prefix"):
        raise UsageError(f"every step needs windows, found none for {step!r}: replay it, or run its prefix")
    if previous is not None and not _select(work, previous, "prefix"):
        raise UsageError(f"step {step!r} is measured by prefixes, found none ending in {previous!r}: run that one too")
    return "prefix"


def _rest(figures: Sequence[Figure]) -> Figure:
    *parts, full = figures
    return sum_figures([full, *(scale(part, -1) for part in parts)], resolution=NEGLIGIBLE * abs(full.value or 0.0))


def _inverse(wall_s: Figure) -> Figure:
    if wall_s.value is None or wall_s.low is None or wall_s.high is None:
        return Figure.missing()
    # First-order: 1/low would be unbounded where few windows give an interval that reaches zero.
    half = (wall_s.half_width or 0.0) / wall_s.value**2
    return Figure(1 / wall_s.value, 1 / wall_s.value - half, 1 / wall_s.value + half, wall_s.provenance)
