"""Which joules are this process's own: the idle floor and the neighbours taken out of a counter's window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from greenload.energy.figures import Figure
from greenload.energy.intervals import interval
from greenload.energy.windows import Domain, Observation, read

NEIGHBOUR_BAND = 0.5
"""Relative standard deviation given to "a neighbour's CPU second costs what ours does" before the windows are asked:
a choice, as kinds of code differ in power per busy core by less; where neighbours vary, the windows outweigh it."""


def _is_shared(domain: str) -> bool:
    """Whether neighbours' CPU time shows in the domain's counter."""
    return domain.split(":")[0] in ("cpu", "dram")


def _neighbour_j_per_cpu_s(work: Sequence[Observation], joules: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Joules of one CPU second of the neighbours, from their variation between windows that ran the same thing.

    Least squares within groups of like windows (analysis of covariance), weighted by precision with the mean joules per
    CPU second of all windows, whose standard deviation is taken as `NEIGHBOUR_BAND` of it.
    """
    other = np.array([window.other_cpu_s for window in work])
    own = np.array([window.cpu_s for window in work])
    busy = float((own + other).sum())
    if not work or busy <= 0 or joules.sum() <= 0:
        return 0.0
    guess = float(joules.sum()) / busy
    samples = np.array([window.samples for window in work], dtype=np.float64)
    labels = [(window.step, window.kind) for window in work]
    x, y = other.copy(), joules.copy()
    groups = set(labels)
    for label in groups:
        mask = np.array([one == label for one in labels])
        for column in (x, y):
            column[mask] -= samples[mask] * column[mask].sum() / samples[mask].sum()
    sxx = float(x @ x)
    df = len(work) - len(groups) - 1
    if sxx <= 0 or df < 1:
        return guess
    slope = float(x @ y) / sxx
    precision = sxx * df / max(float(((y - slope * x) ** 2).sum()), 1e-300)
    prior = (NEIGHBOUR_BAND * guess) ** -2
    return max(0.0, (slope * precision + guess * prior) / (precision + prior))


def own_energy(
    observations: Sequence[Observation], domains: Mapping[str, Domain], idle_power_w: Mapping[str, float] | None = None
) -> tuple[list[Observation], dict[str, Figure]]:
    """Split measured joules into the idle floor, the neighbours, and this process.

    For a domain that isn't modelled: ``own = joules - floor_w * wall - neighbour_j_per_cpu_s * other_cpu_s``, the last
    term for ``cpu`` and ``dram`` only. Modelled joules are this process's as they are. Domains without a floor (not
    given, and no sound idle window) are left out: with the floor inside, joules would not be the steps' own. The floor
    is taken out as if it were exact; its error is common to all windows, and whoever sums them up adds it.

    Returns:
        The windows with their own joules, idle ones dropped, and the idle power in watts by domain.
    """
    work = [window for window in observations if window.kind != "idle"]
    idle = [window for window in observations if window.kind == "idle"]
    given = dict(idle_power_w or {})
    power: dict[str, Figure] = {}
    energies: list[dict[str, float]] = [{} for _ in work]
    for name, domain in domains.items():
        modelled = domain.provenance == "modelled"
        sound = [index for index, window in enumerate(work) if read(window, name) is not None]
        joules = np.array([work[index].energy_j[name] for index in sound], dtype=np.float64)
        wall = np.array([work[index].wall_ns / 1e9 for index in sound])
        quiet = [] if modelled else [window for window in idle if read(window, name) is not None]
        slope = 0.0
        for _ in range(4):  # floor and neighbours depend on each other; the dependence is weak, so few passes settle it
            if name not in given and quiet:
                power[name] = _idle_power(quiet, name, slope, domain)
            elif name in given:
                power[name] = Figure(given[name], given[name], given[name], domain.provenance, domain.systematic)
            floor = power[name].value if name in power and not modelled else 0.0
            if modelled or floor is None or name not in power or not _is_shared(name):
                break
            slope = _neighbour_j_per_cpu_s([work[index] for index in sound], joules - floor * wall)
        if not modelled and name not in power:
            continue
        for index, energy, seconds in zip(sound, joules, wall, strict=True):
            energies[index][name] = float(energy - (floor or 0.0) * seconds - slope * work[index].other_cpu_s)
    return [replace(window, energy_j=energy) for window, energy in zip(work, energies, strict=True)], power


def _idle_power(quiet: Sequence[Observation], name: str, slope: float, domain: Domain) -> Figure:
    neighbours = slope if _is_shared(name) else 0.0
    watts = [(window.energy_j[name] - neighbours * window.other_cpu_s) / (window.wall_ns / 1e9) for window in quiet]
    mean = float(np.mean(watts))
    _, low, high = interval({0: watts}) or (mean, mean, mean)
    return Figure(mean, low, high, domain.provenance, domain.systematic)
