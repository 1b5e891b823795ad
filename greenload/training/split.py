"""Where the joules and CPU seconds of a training run went: arithmetic on windows and a profile, no meter touched.

Of a window of ``wall_s`` seconds, of which the training step spent ``waiting_s`` without a batch, in a measured domain
whose idle power is ``P`` watts, measured while the rest of the machine used ``r`` CPU seconds a second::

    total  =  loader + model + waiting + idle + validation + others

    waiting     =  P · waiting_s                        idle power, drawn for nothing while a batch was awaited
    idle        =  P · (wall_s − waiting_s)             idle power in the rest of the time
    others      =  (total − P · wall_s) · x / (cpu_s + x),  x = other_cpu_s − r · wall_s
    validation  =  total − P · wall_s − others          of the windows in which validation ran
    loader      =  samples · joules per sample          as profiled, by step, in the profile's own unit of a sample;
                                                        of the first epoch where that fills a cache
    model       =  what is left

Of a watched dataset (`greenload.watch`) the loader's part is that of its steps' functions, whose clocks tell the CPU
seconds ``c`` of each, and needs no profile::

    loader      =  (total − P · wall_s − others) · c / cpu_s

so that a CPU second draws the same in the loader and in the model: modelled, with the band `OTHERS_BAND` where the
total is measured. Where a profile knows all steps by name, its joules of each one's CPU second count instead, with the
band `BESIDE`. A GPU's joules are the model's. tf.data's own work for each element (hand-over) is no function's and is
in ``model``, as nothing tells its threads' time from the model's: the loader's part is at least what is shown. Only a
profile taken in place tells what the hand-over of a sample costs; that, times the samples trained on, is then a step of
the loader. What steps did during a validation, those of the training's dataset included, is shown apart, as shares of
``validation``.

What other processes do all the time is in ``P``, as nothing tells it from idling; ``others`` is what they did beyond,
or less than, that. A profile answers the same question otherwise (`background.find_background`): it has like windows,
which tell by how they differ what another process's CPU second costs, and takes all of what others drew out of the idle
power too. No two epochs of a fit are alike, so here only the assumption that a profile starts from is left: another
process's CPU second costs what ours do, give or take `OTHERS_BAND`.

The joules of models and of data sheets are this process's work only, without idle power and other processes: there
``total`` is them and the modelled idle power. What a validation drew where a counter is too slow for it is in
``model``, which a note says. What the loader's threads do while the step waits is in ``loader`` like the rest of their
work.

The loader's part rests on a profile, whose costs a model that works beside it may change (`BESIDE`); the model's part
is a remainder and inherits every error, which its interval and its band show. Where the profile claims more than was
used, beyond its interval and that band, it is of something else: loader and model are then one figure. Of a watched
dataset the loader is then its functions alone, by their share of the CPU seconds, and nothing of the profile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from greenload.energy.attribution.costs import HAND_OVER
from greenload.energy.domains import Domain
from greenload.energy.figures import Figure
from greenload.energy.meters.base import Channel
from greenload.energy.sampler import Window
from greenload.profiling.in_place.model import Buffer
from greenload.report.data import Report
from greenload.training.joules import (
    DomainJoules,
    LoaderCosts,
    SplitBasis,
    exact,
    is_measured_work,
    split_joules,
    time_outside,
)
from greenload.training.live_steps import whole
from greenload.training.loader_costs import does_not_fit, loader_costs, minus, outgrows, samples_of
from greenload.training.notes import (
    NOT_PROFILED,
    exceeding_notes,
    kind_notes,
    origin_notes,
    profile_notes,
    validation_notes,
    watched_notes,
)
from greenload.training.spent import EnergyPart, Passed, Spent, WatchedPart


@dataclass(frozen=True)
class WatchedSteps:
    """What clocks saw in a window: no step where no watched dataset was used."""

    steps: tuple[WatchedPart, ...] = ()
    """What they took outside validation."""
    hand_over: tuple[EnergyPart, ...] = ()
    """tf.data's own work beside them, where a profile tells it."""
    samples: float | None = None
    """The profile's samples that passed; None where that isn't known, or where nothing was profiled."""
    in_validation: tuple[WatchedPart, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    unwatched: Mapping[str, str] = field(default_factory=dict)
    """What has no clock, and why, by name."""


def split_window(
    name: str,
    window: Window,
    validation: Sequence[Window],
    passed: Passed,
    basis: SplitBasis,
    *,
    fed: Sequence[tuple[Report, Passed]] | None = None,
    watched: WatchedSteps | None = None,
) -> Spent:
    """Splits a window of training into loader, waiting, model, validation, the rest of the machine, and idle power.

    Args:
        name: of the result.
        window: the whole time.
        validation: windows inside it in which validation ran.
        passed: batches, samples and waiting.
        basis: meters, idle power and profile of the fit.
        fed: what passed by what a sample of it costs, where that differs from epoch to epoch; empty where it isn't
            known. Left out, all of ``passed`` costs what the profile says.
        watched: what the steps of watched datasets took in it, which then is the loader's part.

    Returns:
        Parts that add up to the total. A part that can't be known is missing, with the reason in ``notes``.
    """
    known = [domain for domain in basis.channels if domain not in window.void]
    watched = watched or WatchedSteps()
    loader = _watched_loader(watched) if watched.steps else _loader(basis, window, passed, fed, known)
    joules = _joules(basis, window, validation, passed, loader, watched)
    work_cpu = exact(time_outside(window, validation).cpu_s)
    unfit = _why_unfit(basis, joules, loader, work_cpu, passed)
    if unfit and watched.steps:
        steps = tuple(replace(step, energy_j={}) for step in watched.steps)
        watched = replace(watched, steps=steps, hand_over=(), samples=None)
        loader = _watched_loader(watched)
        joules = _joules(basis, window, validation, passed, loader, watched)
    elif unfit:
        joules = {domain: of_domain.without_loader(basis.channels[domain]) for domain, of_domain in joules.items()}
        loader = replace(loader, costs=[])
    model_cpu = minus(work_cpu, loader.cpu_s)
    cpu_s = {
        "total": exact(window.cpu_s),
        "model": model_cpu,
        "work": work_cpu,
        "validation": exact(sum(inner.cpu_s for inner in validation)),
        "others": exact(window.other_cpu_s),
    }
    claims = {f"J in {domain}": (spent.loader[0], spent.model) for domain, spent in joules.items() if spent.loader}
    return Spent(
        name=name,
        start_ns=window.start_ns,
        wall_s=window.wall_ns / 1e9,
        validation_s=sum(inner.wall_ns for inner in validation) / 1e9,
        passed=passed,
        **_parts(joules, loader, cpu_s),
        validation_steps=_shared_out(watched.in_validation, joules),
        buffers=watched.buffers,
        void=dict(window.void),
        notes=(
            *basis.notes,
            *passed.unknown,
            *kind_notes(passed.unknown_kind, basis.profile, bool(watched.steps)),
            *([] if unfit and not watched.steps else _loader_notes(basis.profile, loader, joules)),
            *(watched_notes(watched.steps, watched.unwatched, bool(watched.hand_over)) if watched.steps else []),
            *validation_notes(validation, known),
            *exceeding_notes({"CPU s": (loader.cpu_s, model_cpu), **claims}, loader.samples),
        ),
        does_not_fit=unfit,
    )


def _joules(
    basis: SplitBasis,
    window: Window,
    validation: Sequence[Window],
    passed: Passed,
    loader: LoaderCosts,
    watched: WatchedSteps,
) -> dict[str, DomainJoules]:
    """The joules of each domain; the arguments are those of `split_window`."""
    joules = {
        domain: split_joules(
            basis, domain, window, validation, passed.waiting_s, loader, validation_steps=watched.in_validation
        )
        for domain in basis.channels
        if domain not in window.void
    }
    return joules | _invalid_joules(basis, window, loader)


def _parts(joules: Mapping[str, DomainJoules], loader: LoaderCosts, cpu_s: Mapping[str, Figure]) -> dict[str, Any]:
    """The parts of a `Spent`, by its fields."""

    def part(field: str, name: str = "") -> EnergyPart:
        figures = {domain: getattr(of_domain, field) for domain, of_domain in joules.items()}
        return EnergyPart(name or field, figures, cpu_s.get(field))

    loaded = {domain: of_domain for domain, of_domain in joules.items() if of_domain.loader}
    whole, *steps = (
        {domain: of_domain.loader[number] for domain, of_domain in loaded.items()}
        for number in range(max(1, len(loader.costs)))
    )
    return {
        **{field: part(field) for field in ("total", "waiting", "validation", "others", "idle")},
        "work": part("work", "loader and model"),
        "model": EnergyPart("model", {domain: of_domain.model for domain, of_domain in loaded.items()}, cpu_s["model"]),
        "loader": EnergyPart("loader", whole, loader.cpu_s),
        "steps": tuple(replace(cost, energy_j=step) for cost, step in zip(loader.costs[1:], steps, strict=True)),
    }


def _shared_out(parts: Sequence[WatchedPart], joules: Mapping[str, DomainJoules]) -> tuple[WatchedPart, ...]:
    """Watched steps of validation with their joules."""
    known = {domain: of.validation_steps for domain, of in joules.items() if of.validation_steps}
    return tuple(
        replace(part, energy_j={domain: figures[number] for domain, figures in known.items()})
        for number, part in enumerate(parts)
    )


def _watched_loader(watched: WatchedSteps) -> LoaderCosts:
    costs = whole([*watched.steps, *watched.hand_over])
    return LoaderCosts(costs=costs, samples=watched.samples, by_bytes={}, profiles=[], notes=[], watched=True)


def _loader_notes(profile: Report | None, loader: LoaderCosts, joules: Mapping[str, DomainJoules]) -> list[str]:
    """What is to be said of the loader's part."""
    if profile is None and not loader.watched:
        return [NOT_PROFILED]
    origins = {domain: of_domain.origin for domain, of_domain in joules.items()}
    return [*dict.fromkeys(loader.notes), *profile_notes(loader.profiles), *origin_notes(origins)]


def _loader(
    basis: SplitBasis,
    window: Window,
    passed: Passed,
    fed: Sequence[tuple[Report, Passed]] | None,
    known: Sequence[str],
) -> LoaderCosts:
    """What the loader cost; the arguments are those of `split_window`."""
    by_bytes = _by_bytes(basis.profile, [basis.channels[domain] for domain in known], window)
    if fed is None:
        fed = [] if basis.profile is None else [(basis.profile, passed)]
    counted = [samples_of(profile, of_kind) for profile, of_kind in fed]
    profiles, samples = [profile for profile, _ in fed], [samples for samples, _ in counted]
    costs = loader_costs(list(zip(profiles, samples, strict=True)), by_bytes)
    return LoaderCosts(
        costs=costs,
        samples=sum(count for count in samples if count is not None) if costs else None,
        by_bytes=by_bytes,
        profiles=profiles,
        notes=[note for _, notes in counted for note in notes],
    )


def _invalid_joules(basis: SplitBasis, window: Window, loader: LoaderCosts) -> dict[str, DomainJoules]:
    """Counters without a figure, which are in the sums all the same: a sum without one would be no total."""
    channels = [basis.channels[domain] for domain in window.void if domain in basis.channels]
    return {
        channel.domain: DomainJoules.missing(channel, loader)
        for channel in channels
        if channel.provenance == "measured"
    }


def _why_unfit(
    basis: SplitBasis, joules: Mapping[str, DomainJoules], loader: LoaderCosts, work_cpu: Figure, passed: Passed
) -> str:
    """Why the profile can't be that of what was loaded; empty where it may be."""
    if basis.profile is None:
        return ""
    by_profile = not loader.watched or any(cost.name == HAND_OVER for cost in loader.costs)
    claimed = {"CPU s": (loader.cpu_s, work_cpu)} if by_profile else {}
    claimed |= {
        f"J in {domain}": (of_domain.loader[0], of_domain.total)  # with the idle power, which may be off
        for domain, of_domain in joules.items()
        if of_domain.loader
        and is_measured_work(basis.channels[domain])
        and (not loader.watched or domain in loader.costs[0].energy_j)
    }
    if loader.watched:
        return outgrows(basis.profile, claimed, passed)
    return does_not_fit(basis.profile, claimed, loader.samples, passed)


def _by_bytes(profile: Report | None, channels: Iterable[Channel], window: Window) -> dict[Channel, float]:
    """Joules a byte of modelled storage that the profile doesn't have: it knows the data's disk, the fit may not."""
    moved = (window.device_read_bytes or 0) + (window.device_written_bytes or 0)
    return {
        channel: window.energy_j[channel.domain] / moved if moved else 0.0
        for channel in channels
        if profile is not None
        and channel.provenance == "modelled"
        and Domain.parse(channel.domain).kind == "storage"
        and channel.domain not in profile.full.energy_j_per_sample
    }
