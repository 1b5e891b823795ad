"""What a reader must know before trusting the figures of a fit, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from greenload.energy.attribution.costs import HAND_OVER
from greenload.energy.figures import Figure
from greenload.energy.sampler import Window
from greenload.report.data import Report
from greenload.training.loader_costs import in_no_step
from greenload.training.spent import WatchedPart

LoaderOrigin = Literal["", "bytes", "cpu", "share", "left out", "bytes unknown", "unknown"]
"""Where the loader's joules of a domain come from: the profile (``""``), the bytes that it read, its share of CPU
seconds (``"share"`` of those that clocks saw); or why there are none."""
NOT_PROFILED = (
    "nobody profiled or watched the loader, so it isn't told from the model: fit on gl.watch(dataset), or give "
    "EnergyCallback(gl.profile(dataset))"
)
FUNCTIONS = (
    "the loader's part is its functions, as their clocks saw them, and so at least what it is: tf.data's own work for "
    "each element (hand-over) can't be told from the model's here"
)
_REMEDY = "profile on this machine, with the same meters"


def profile_notes(profiles: Sequence[Report]) -> list[str]:
    """What the profiles themselves left open."""
    return [
        f"the profile left {left} in no step: the loader's split by step is that uncertain"
        for left in dict.fromkeys(filter(None, map(in_no_step, profiles)))
    ]


def origin_notes(origins: Mapping[str, LoaderOrigin]) -> list[str]:
    """Domains of which the profile has no joules, and what the loader's are instead."""

    def named(origin: LoaderOrigin) -> str:
        return ", ".join(domain for domain, of_domain in origins.items() if of_domain == origin)

    notes = []
    if domains := named("cpu"):
        notes.append(
            f"the profile has no joules of {domains}: the loader's are its share of the CPU seconds, a model; {_REMEDY}"
        )
    if domains := named("bytes"):
        notes.append(
            f"the profile has no joules of {domains}: the loader's are the bytes that it read from devices in the "
            "profile, by this fit's model"
        )
    if domains := named("left out"):
        notes.append(
            f"the profile has neither joules of {domains} nor bytes read from devices: the sums of loader and model go "
            f"on without it; {_REMEDY}"
        )
    if domains := named("bytes unknown"):
        notes.append(
            f"who read and wrote what in {domains} isn't seen: the sums of loader and model go on without its joules"
        )
    if domains := named("unknown"):
        notes.append(f"the profile has no joules of {domains}: loader and model aren't told apart there; {_REMEDY}")
    return notes


HAND_OVER_PROFILED = (
    "the loader's part is its functions, as their clocks saw them, and tf.data's own work for each element "
    "(hand-over), as the profile has it"
)


def watched_notes(parts: Sequence[WatchedPart], unwatched: Mapping[str, str], hand_over: bool) -> list[str]:
    """What the clocks of a watched dataset can't see.

    Args:
        parts: its steps.
        unwatched: what has no clock, and why, by name.
        hand_over: whether a profile tells tf.data's own work.
    """
    notes = [HAND_OVER_PROFILED if hand_over else FUNCTIONS]
    notes += [f"{part.name}: {part.note}" for part in parts if part.note]
    for why in dict.fromkeys(unwatched.values()):
        names = ", ".join(name for name, reason in unwatched.items() if reason == why)
        where = "the hand-over" if hand_over else "the model's part"
        notes.append(f"without a clock, and so in {where}: {names} ({why})")
    return notes


def kind_notes(reasons: Sequence[str], profile: Report | None, watched: bool) -> list[str]:
    """What isn't known of epochs that may have filled a cache or read it, whose costs differ.

    Args:
        reasons: why that isn't known, and what helps.
        profile: what a sample costs.
        watched: whether the loader's functions were seen by their clocks, whatever kind of epoch it was.
    """
    if watched and not (profile and any(step.name == HAND_OVER for step in profile.steps)):
        return []  # the profile adds nothing that depends on it
    unknown = "loader and model are one figure"
    if watched:
        unknown = "the loader is its functions alone, and tf.data's hand-over is in the model's part"
    return [f"it isn't known whether an epoch filled the cache, so that there {unknown}: {why}" for why in reasons]


def validation_notes(validation: Sequence[Window], known: Sequence[str]) -> list[str]:
    """Validations without a figure in a domain that has one over all: as those that a counter is too slow for."""
    notes = []
    for domain in known:
        invalid = [window for window in validation if domain in window.void]
        if invalid:
            seconds = sum(window.wall_ns for window in invalid) / 1e9
            notes.append(
                f"the joules in {domain} of {len(invalid)} of {len(validation)} validations, {seconds:.2g} s, can't be "
                f"told and are in the model's: {invalid[0].void[domain]}"
            )
    return notes


def exceeding_notes(claims: Mapping[str, tuple[Figure, Figure]], samples: float | None) -> list[str]:
    """Where the loader's estimate is a little more than there was.

    Args:
        claims: by unit, the loader's estimate and the model's remainder.
        samples: how many the loader's estimate is of; None where that isn't known.
    """
    if samples is None:
        return []
    advice = f"its steps cost less here than in the profile, or fewer than {samples:g} samples were prepared"
    return [
        f"the loader's estimate, {loader.value:.3g} {unit}, is {-model.value:.3g} more than loader and model used "
        f"together{', within its interval' if model.high is not None and model.high >= 0 else ''}: {advice}"
        for unit, (loader, model) in claims.items()
        if loader.value is not None and model.value is not None and model.value < 0
    ]
