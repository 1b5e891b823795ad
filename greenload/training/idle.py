"""The idle power of a fit: modelled, measured before its first batch, or the profile's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from greenload.energy.attribution.background import find_backgrounds, idle_power
from greenload.energy.attribution.observation import Metering, Observation, read_quantity
from greenload.energy.attribution.precision import least_window_s
from greenload.energy.figures import Figure
from greenload.energy.sampler import Sampler
from greenload.energy.settle import settle
from greenload.report.data import Report
from greenload.training.joules import IdlePower

IDLE_S = 1.0
"""Seconds before the first batch in which the machine's idle power is measured."""
_IDLE_WINDOWS = 4


def find_idle_power(
    sampler: Sampler, profile: Report | None, idle_s: float
) -> tuple[dict[str, IdlePower], tuple[str, ...]]:
    """The idle power by domain, where known, and notes on it.

    Args:
        sampler: gives the windows.
        profile: whose idle power stands in for what can't be measured, if any.
        idle_s: seconds in which it is measured, more where the meters need longer windows; 0 for not at all.
    """
    channels = sampler.channels
    powers = {
        domain: IdlePower(Figure(watts, watts, watts, "modelled", channels[domain].systematic))
        for domain, watts in sampler.idle_power_w.items()
    }
    counted = [domain for domain, channel in channels.items() if channel.provenance == "measured"]
    if not counted:
        return powers, ()
    why = "idle_s is 0"
    if idle_s and settle().idle:
        seconds = max(idle_s / _IDLE_WINDOWS, least_window_s(channels))
        powers |= measured_idle_power(
            [_idle_window(sampler, number, seconds) for number in range(_IDLE_WINDOWS)], counted
        )
        why = "its counter gave no figure"
    elif idle_s:
        why = "the process didn't come to rest before the fit"
    notes = []
    for domain in counted:
        if domain in powers:
            continue
        profiled = None if profile is None else profile.idle.power_w.get(domain)
        if profiled is not None and profiled.value is not None:
            powers[domain] = IdlePower(profiled)
            notes.append(f"the idle floor of {domain} is the profile's: {why}")
        else:
            notes.append(f"the idle floor of {domain} isn't known, and so only its total: {why}")
    return powers, tuple(notes)


def measured_idle_power(windows: Sequence[Observation], domains: Sequence[str]) -> Mapping[str, IdlePower]:
    """The idle power of counters by idle windows, with what other processes used in them.

    Args:
        windows: of kind "idle".
        domains: of counters; one with fewer than two windows that it gave a figure in is left out.
    """
    meterings = {domain: Metering("measured") for domain in domains}
    power = idle_power(find_backgrounds(windows, meterings), meterings)
    return {domain: IdlePower(watts, _others_per_s(windows, domain)) for domain, watts in power.items()}


def _others_per_s(windows: Sequence[Observation], domain: str) -> float:
    sound = [window for window in windows if read_quantity(window, domain) is not None]
    return sum(window.other_cpu_s for window in sound) / sum(window.wall_ns / 1e9 for window in sound)


def _idle_window(sampler: Sampler, number: int, seconds: float) -> Observation:
    start = sampler.mark(aligned=True)
    time.sleep(seconds)
    window = sampler.window(start, sampler.mark(aligned=True, closing=True))
    return Observation(
        step="",
        kind="idle",
        round=number,
        build=0,
        samples=0,
        wall_ns=window.wall_ns,
        cpu_s=window.cpu_s,
        other_cpu_s=window.other_cpu_s,
        energy_j=window.energy_j,
        void=window.void,
        energy_wall_ns=window.energy_wall_ns,
    )
