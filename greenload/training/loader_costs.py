"""What the loader costs in a fit by its profile: samples in the profile's own unit, and whether the profile fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from greenload import scalars
from greenload.energy.attribution.costs import Cost
from greenload.energy.figures import Figure, scale, sum_figures
from greenload.energy.meters.base import Channel
from greenload.report.data import Report
from greenload.training.spent import EnergyPart, Passed

UNATTRIBUTED = "in no step"
"""The loader's row for what the profile found in no step."""
BESIDE = 0.15
"""Relative band of the loader's measured joules: a CPU second costs less or more beside a model than in a profile, as
cores share what wakes them and draw less each the more are busy. Steps of a fit on an emulated machine that draws so
were up to 13 % off (``bench/training.py``)."""
_IN_THE_MODEL = "keras"
"""Backend of a profiled step that Keras runs on the device: in a fit it is the model's."""


def samples_of(profile: Report | None, passed: Passed) -> tuple[float | None, list[str]]:
    """How many of the profile's samples passed, None where that isn't known; and notes on how they were counted.

    A profile counts rows of batches, or elements of its dataset (``plan["sample_unit"]``). Batches whose tensors have
    as many axes as its elements are those elements; with an axis more they are batches of them.
    """
    if profile is None or profile.plan.get("sample_unit") != "element":
        return passed.samples, []
    per_element = scalars.number(profile.plan.get("samples_per_element")) or 1.0
    same = _are_elements(profile, passed)
    elements = passed.batches if same else passed.samples
    if elements is None:
        return None, []
    samples = per_element * elements
    if passed.samples is None or samples == passed.samples:
        return samples, []
    what = f"{elements:,} batches" if same else f"{elements:,} rows of batches"
    return samples, [
        f"the profile counts elements of its dataset ({per_element:g} of its samples in each): the loader's part is "
        f"that of {what}, which are its elements"
    ]


def _are_elements(profile: Report, passed: Passed) -> bool:
    """Whether a fit's batches are the elements that were profiled, by the axes of their tensors."""
    axes = profile.plan.get("element_ranks")
    profiled = tuple(axes) if isinstance(axes, list | tuple) else ()
    # Keras adds weights behind what the dataset gives.
    return bool(profiled) and None not in profiled and passed.ranks[: len(profiled)] == profiled


def does_not_fit(
    profile: Report, claimed: Mapping[str, tuple[Figure, Figure]], samples: float | None, passed: Passed
) -> str:
    """Why a profile can't be of what a fit loaded: it claims more than was used. Empty where it may be.

    Args:
        profile: what a sample costs.
        claimed: by unit, what the samples cost by the profile, and what was used at most by loader and model.
        samples: the profile's samples that passed.
        passed: what passed.
    """
    if samples is None or not (exceeded := _exceeded(claimed)):
        return ""
    what, loader_value, used_value = exceeded
    return (
        f"the profile doesn't fit: {samples:,.0f} samples cost {loader_value:.3g} {what} by it, and "
        f"{used_value:.3g} were used in all, so loader and model aren't told apart: {_remedy(profile, passed)}"
    )


def outgrows(profile: Report, claimed: Mapping[str, tuple[Figure, Figure]], passed: Passed) -> str:
    """Why a profile can't be of the watched dataset that a fit loaded from: with what it adds to the functions' clocks
    the loader comes to more than was used. Empty where it may be. The arguments are those of `does_not_fit`.
    """
    if not (exceeded := _exceeded(claimed)):
        return ""
    what, loader_value, used_value = exceeded
    return (
        f"the profile doesn't fit: with its hand-over and joules the loader comes to {loader_value:.3g} {what}, and "
        f"{used_value:.3g} were used in all, so they are left out, and the hand-over is in the model's part: "
        f"{_remedy(profile, passed)}"
    )


def _exceeded(claimed: Mapping[str, tuple[Figure, Figure]]) -> tuple[str, float, float] | None:
    """The first claim beyond its interval and the band: unit, claimed, used; None where there is none."""
    for what, (loader, used) in claimed.items():
        if loader.value is None or loader.low is None or used.value is None or used.high is None:
            continue
        if (1 - BESIDE) * loader.low > used.high:
            return what, loader.value, used.value
    return None


def _remedy(profile: Report, passed: Passed) -> str:
    if profile.plan.get("sample_unit") == "element" and not _are_elements(profile, passed):
        return (
            "its sample is one element of the dataset, while rows of batches were counted here; profile the dataset "
            "that is trained on, with samples_per_element= where its elements are batches"
        )
    return "profile the dataset that is trained on, on this machine; its sample must be a row of the batches here"


def loader_costs(fed: Sequence[tuple[Report, float | None]], by_bytes: Mapping[Channel, float]) -> list[EnergyPart]:
    """What the loader cost as a whole, then by step and in no step; empty where that isn't known.

    Args:
        fed: what a sample costs and how many of them passed, for each kind of epoch.
        by_bytes: joules a byte of storage that the profile doesn't have.
    """
    kinds = [_costs(profile, samples, by_bytes) for profile, samples in fed if samples is not None]
    if not kinds or len(kinds) < len(fed):
        return []
    if len(kinds) == 1:
        return kinds[0]
    names = dict.fromkeys(part.name for parts in kinds for part in parts[:-1])
    return [_sum([part for parts in kinds for part in parts if part.name == name]) for name in (*names, UNATTRIBUTED)]


def _sum(parts: Sequence[EnergyPart]) -> EnergyPart:
    domains = [domain for domain in parts[0].energy_j if all(domain in part.energy_j for part in parts)]
    return EnergyPart(
        parts[0].name,
        {domain: sum_figures(part.energy_j[domain] for part in parts) for domain in domains},
        sum_figures(part.cpu_s for part in parts if part.cpu_s is not None),
    )


def _costs(profile: Report, samples: float, by_bytes: Mapping[Channel, float]) -> list[EnergyPart]:
    def times(name: str, cost: Cost) -> EnergyPart:
        joules = {domain: scale(figure, samples) for domain, figure in cost.energy_j_per_sample.items()}
        for channel, j_per_byte in by_bytes.items():
            of_bytes = scale(cost.device_bytes_per_sample, samples * j_per_byte)
            joules[channel.domain] = replace(of_bytes, provenance=channel.provenance, systematic=channel.systematic)
        return EnergyPart(name, joules, scale(cost.cpu_s_per_sample, samples))

    whole = times("loader", profile.full)
    in_model = [times(step.name, step) for step in profile.steps if step.backend == _IN_THE_MODEL]
    assert whole.cpu_s is not None
    loader = EnergyPart(
        "loader",
        {
            domain: minus(figure, *(step.energy_j[domain] for step in in_model))
            for domain, figure in whole.energy_j.items()
            if all(domain in step.energy_j for step in in_model)
        },
        minus(whole.cpu_s, *(step.cpu_s for step in in_model if step.cpu_s is not None)),
    )
    steps = [times(step.name, step) for step in profile.steps if step.backend != _IN_THE_MODEL]
    return [loader, *steps, times(UNATTRIBUTED, profile.unattributed)]


def minus(figure: Figure, *others: Figure) -> Figure:
    """What is left of a figure without others, with the errors of all."""
    return sum_figures([figure, *(scale(other, -1) for other in others)])


def in_no_step(profile: Report) -> str:
    """What the profile found in no step, where that is much and its interval tells it from nothing; else empty."""
    rest, shares = profile.unattributed, []
    for name, share in profile.unattributed_exceeds().items():
        figure = rest.cpu_s_per_sample if name == "cpu_s" else rest.energy_j_per_sample[name]
        if figure.low is None or figure.high is None or not figure.low <= 0 <= figure.high:
            shares.append(f"{share:.0%} of {'CPU seconds' if name == 'cpu_s' else f'the joules in {name}'}")
    return ", ".join(shares)
