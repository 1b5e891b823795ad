"""`Carbon`: what a million samples emit, converted last from their joules by a grid's factor and a data centre's PUE.

    g per million samples = joules per sample × 10⁶ / 3.6 × 10⁶ J per kWh × PUE × g per kWh

PUE, power usage effectiveness, is a facility's energy over its computers' (ISO/IEC 30134-2): 1 is the least. Factor and
PUE are taken as exact: no interval holds their uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from greenload.energy.domains import DOMAIN_KINDS, Domain
from greenload.energy.figures import Figure, scale, sum_figures
from greenload.energy.meters.base import COUNTS_TWICE, MeterStatus
from greenload.errors import UsageError
from greenload.report.record import Record

WORLD_G_PER_KWH = 475.0
"""Grams of CO₂ a kilowatt-hour, the world's average (International Energy Agency, Global Energy & CO₂ Status Report
2019, which CodeCarbon falls back on too). Grids lie between some 20 and 900."""
WORLD = "world average, IEA 2019"
GIVEN = "given"
_J_PER_KWH = 3.6e6
_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Carbon(Record):
    """Grams of CO₂ equivalent, with everything that they rest on.

    Example:
        >>> joules = {"cpu:package-0": Figure(0.036, 0.034, 0.038, "measured")}
        >>> estimate_carbon(joules, (), g_per_kwh=50, pue=1.2).g_per_million_samples.value
        0.6
    """

    g_per_million_samples: Figure
    """Of the domains known, idle power and PUE included; the interval is that of the joules."""
    g_per_kwh: float
    """The grid's factor."""
    factor: str
    """Where the factor is from, with its year; ``"given"`` by the user."""
    pue: float
    domains: tuple[str, ...]
    """What is in the sum."""
    missing: tuple[str, ...]
    """What isn't, and why: ``"gpu: no driver"``. The sum is too low by these."""
    measured_share: float | None = None
    """Share of the grams whose joules a counter measured, 0 to 1: the sum has the weakest provenance of its parts, even
    of a small one. None where nothing is known, or by a report of an earlier version."""

    def __post_init__(self) -> None:
        check_factors(self.g_per_kwh, self.pue)


def check_factors(g_per_kwh: float | None, pue: float) -> None:
    """Refuse a grid factor or a PUE that can't be, before minutes of work are spent.

    Raises:
        UsageError: the factor isn't positive, or the PUE is below 1; either isn't finite.
    """
    if g_per_kwh is not None and not (math.isfinite(g_per_kwh) and g_per_kwh > 0):
        raise UsageError(
            f"a grid factor is a positive number of grams of CO2e a kWh, found {g_per_kwh}: "
            f"give the grid's, or leave it out for the world's average, {WORLD_G_PER_KWH:g}"
        )
    if not (math.isfinite(pue) and pue >= 1):
        raise UsageError(
            f"a PUE is 1 or more, a facility's energy over its computers', found {pue}: give 1 where there is none"
        )


def estimate_carbon(
    energy_j_per_sample: Mapping[str, Figure],
    meters: Sequence[MeterStatus],
    *,
    g_per_kwh: float | None = None,
    pue: float = 1.0,
) -> Carbon:
    """Grams of CO₂ equivalent of a million samples.

    Domains are disjoint, so their joules add; a model of the whole machine's ``cpu`` beside measured packages doesn't.
    They share their errors, so half-widths add as they are. A model's band is common to its domain: bands add up in
    joules, so a small modelled part widens the sum by little; ``measured_share`` says how little.

    Args:
        energy_j_per_sample: joules by domain of the held-out run with idle power, as ``report.total`` has them.
        meters: the meters that were there or are missing, as ``report.meters``.
        g_per_kwh: the grid's factor; the world's average if None.
        pue: the facility's.

    Raises:
        UsageError: a factor is out of range (`check_factors`).
    """
    check_factors(g_per_kwh, pue)
    known = {
        name: figure
        for name, figure in energy_j_per_sample.items()
        if figure.value is not None and not _twice(name, energy_j_per_sample)
    }
    factor = WORLD_G_PER_KWH if g_per_kwh is None else g_per_kwh
    grams = scale(_sum(known), _MILLION / _J_PER_KWH * pue * factor)
    return Carbon(
        grams,
        factor,
        WORLD if g_per_kwh is None else GIVEN,
        pue,
        tuple(known),
        tuple(_missing(energy_j_per_sample, meters)),
        _measured_share(known.values()),
    )


def _measured_share(known: Iterable[Figure]) -> float | None:
    joules = [(figure.provenance, abs(figure.value)) for figure in known if figure.value is not None]
    whole = math.fsum(value for _, value in joules)
    return math.fsum(value for provenance, value in joules if provenance == "measured") / whole if whole else None


def _sum(known: Mapping[str, Figure]) -> Figure:
    total = sum_figures(known.values(), common=True)
    if not known or not total.value:
        return Figure.missing() if not known else total
    band = math.fsum(figure.systematic * abs(figure.value) for figure in known.values() if figure.value is not None)
    return Figure(total.value, total.low, total.high, total.provenance, band / abs(total.value), total.unresolved)


def _twice(name: str, energy: Mapping[str, Figure]) -> bool:
    """Whether a domain is a whole kind, such as ``cpu``, of which parts are there as well."""
    domain = Domain.parse(name)
    parts = [other for other in map(Domain.parse, energy) if other.kind == domain.kind and other.part]
    return not domain.part and bool(parts)


def _missing(energy: Mapping[str, Figure], meters: Sequence[MeterStatus]) -> list[str]:
    reasons = {name: "no figure in this profile" for name, figure in energy.items() if figure.value is None}
    kinds = {Domain.parse(name).kind for name in energy}
    for meter in meters:
        # A kind that is modelled as a whole lacks none of its parts.
        domain = Domain.parse(meter.domain)
        covered = meter.domain in energy or domain.kind in energy
        if meter.usable or covered or COUNTS_TWICE in meter.reason or (not domain.part and domain.kind in kinds):
            continue
        reasons.setdefault(meter.domain, meter.reason)
    for kind in DOMAIN_KINDS:
        if kind not in kinds and not any(Domain.parse(name).kind == kind for name in reasons):
            reasons[kind] = "no meter"
    return [f"{name}: {reason}" for name, reason in reasons.items()]
