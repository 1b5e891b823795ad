"""Where the joules and CPU seconds of a training run went: arithmetic on windows and a profile, no meter touched.

Of a window of ``wall_s`` seconds, of which the training step spent ``waiting_s`` without a batch, in a measured domain
whose idle floor is ``P`` watts, found while the rest of the machine used ``r`` CPU seconds a second::

    total  =  loader + model + waiting + idle + validation + others

    waiting     =  P · waiting_s                        the floor, drawn for nothing while a batch was awaited
    idle        =  P · (wall_s − waiting_s)             the floor of the rest of the time
    others      =  (total − P · wall_s) · x / (cpu_s + x),  x = other_cpu_s − r · wall_s
    validation  =  total − P · wall_s − others          of the windows in which validation ran
    loader      =  samples · joules per sample          as profiled, by step, in the profile's own unit of a sample;
                                                        of the first epoch where that fills a cache
    model       =  what is left

What neighbours do all the time is in the floor, as nothing tells it from idling; ``others`` is what they did beyond, or
less than, that. The joules of models and of data sheets are this process's work only, without floor and neighbours:
there ``total`` is them and the modelled floor. What a validation drew where a counter is too slow for it is in
``model``, which a note says. What the loader's threads do while the step waits is in ``loader`` like the rest of their
work.

The loader's part rests on a profile, whose costs a model that works beside it may change (`BESIDE`); the model's part
is a remainder and inherits every error, which its interval and its band show. Where the profile claims more than was
used, beyond its interval and that band, it is of something else: loader and model are then one figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from greenload.energy.attribution.idle_floor import OTHERS_BAND
from greenload.energy.figures import Figure, scale, sum_figures
from greenload.energy.meters.base import Channel
from greenload.energy.sampler import Window
from greenload.report.data import Report
from greenload.training.costs import BESIDE, does_not_fit, in_no_step, loader_costs, minus, samples_of
from greenload.training.report import EnergyPart, Passed, Spent

_Z = 1.96
"""95 % of a normal distribution lie within so many standard deviations."""


@dataclass(frozen=True, slots=True)
class MeasuredFloor:
    """The idle floor of a domain."""

    watts: Figure
    others_per_s: float = 0.0
    """CPU seconds a second of the rest of the machine, whose joules are in ``watts``."""


@dataclass(frozen=True, slots=True)
class _Own:
    """One domain's joules in a stretch of time: the process's own, and the neighbours'."""

    own: Figure
    others: Figure


def split(
    name: str,
    window: Window,
    validation: Sequence[Window],
    passed: Passed,
    *,
    channels: Mapping[str, Channel],
    floors: Mapping[str, MeasuredFloor],
    profile: Report | None,
    fed: Sequence[tuple[Report, Passed]] | None = None,
    notes: Sequence[str] = (),
) -> Spent:
    """Spent a window of training into loader, waiting, model, validation, the rest of the machine, and the idle floor.

    Args:
        name: of the result.
        window: the whole time.
        validation: windows inside it in which validation ran.
        passed: batches, samples and waiting.
        channels: provenance and band by domain, `Sampler.channels`.
        floors: the idle floor by domain, where known.
        profile: what a sample costs by step; None where nobody profiled the loader.
        fed: what passed by what a sample of it costs, where that differs from epoch to epoch; empty where it isn't
            known. Left out, all of ``passed`` costs what ``profile`` says.
        notes: what else a reader must know.

    Returns:
        Parts that add up to the total. A part that can't be known is missing, with the reason in ``notes``.
    """
    wall_s = window.wall_ns / 1e9
    validation_s = sum(one.wall_ns for one in validation) / 1e9
    rest = _less(window, validation)
    known = [domain for domain in channels if domain not in window.void]
    told = [*notes, *passed.unknown]

    by_bytes = _by_bytes(profile, [channels[domain] for domain in known], window)
    if fed is None:
        fed = [] if profile is None else [(profile, passed)]
    counted_samples = [samples_of(costs, part) for costs, part in fed]
    costs = loader_costs([(of, count) for (of, _), (count, _) in zip(fed, counted_samples, strict=True)], by_bytes)
    samples = sum(count for count, _ in counted_samples if count is not None) if costs else None
    loader_cpu = costs[0].cpu_s if costs else Figure.missing()
    assert loader_cpu is not None
    work_cpu = _exact(rest.cpu_s)
    parts: dict[str, dict[str, Figure]] = {
        part: {} for part in ("total", "loader", "waiting", "model", "work", "validation", "others", "idle")
    }
    steps: list[dict[str, Figure]] = [{} for _ in costs[1:]]
    shared: list[str] = []
    untold: list[str] = []
    left_out: list[str] = []
    for domain in known:
        channel = channels[domain]
        floor = floors.get(domain)
        sound = [one for one in validation if domain not in one.void]
        outside = rest if len(sound) == len(validation) else _less(window, sound)
        trained = _own(outside, channel, floor)
        validated = [_own(one, channel, floor) for one in sound]
        idle = _idle(channel, floor, wall_s)
        counted = _counted(channel, window)
        parts["total"][domain] = counted if channel.provenance == "measured" else sum_figures([counted, idle])
        parts["waiting"][domain] = _idle(channel, floor, passed.waiting_s)
        parts["idle"][domain] = _idle(channel, floor, wall_s - (passed.waiting_s or 0.0))
        if channel.provenance == "measured":
            parts["others"][domain] = sum_figures([trained.others, *(one.others for one in validated)])
        else:  # not in the total: nobody knows what they drew
            parts["others"][domain] = Figure.missing(channel.provenance, channel.systematic)
        if sound or not validation:
            parts["validation"][domain] = sum_figures(one.own for one in validated)
        else:
            parts["validation"][domain] = Figure.missing(channel.provenance, channel.systematic)
        parts["work"][domain] = trained.own
        if profile is None or not costs:
            found = [Figure.missing(channel.provenance, channel.systematic)]
        elif all(domain in cost.energy_j for cost in costs) and costs[0].energy_j[domain].value is not None:
            found = [_beside(channel, cost.energy_j[domain]) for cost in costs]
        elif _follows_cpu(domain):
            shared.append(domain)
            found = [_by_cpu(trained.own, cost.cpu_s, _exact(outside.cpu_s)) for cost in costs]
        elif channel in by_bytes:  # too little to take every sum with it
            left_out.append(domain)
            continue
        else:
            untold.append(domain)
            found = [Figure.missing(channel.provenance, channel.systematic) for _ in costs]
        parts["loader"][domain] = found[0]
        for step, figure in zip(steps, found[1:], strict=True):
            step[domain] = figure
        parts["model"][domain] = _model(channel, trained.own, found[0])
    for domain in window.void:
        if domain in channels and channels[domain].provenance == "measured":  # a sum without it would be no total
            for part in (*parts.values(), *steps):
                part[domain] = Figure.missing("measured", channels[domain].systematic)
    model_cpu = minus(work_cpu, loader_cpu)

    claimed = {"CPU s": (loader_cpu, work_cpu)}
    claimed |= {
        f"J in {domain}": (parts["loader"][domain], parts["total"][domain])  # with the floor, which may be off
        for domain in parts["loader"]
        if channels[domain].provenance == "measured" and _follows_cpu(domain)
    }
    unfit = "" if profile is None else does_not_fit(profile, claimed, samples, passed)
    if unfit:
        for domain in parts["loader"]:
            nobody_s = Figure.missing(channels[domain].provenance, channels[domain].systematic)
            parts["loader"][domain] = parts["model"][domain] = nobody_s
        loader_cpu = model_cpu = Figure.missing()
        costs, steps = [], []
    elif profile is None:
        told.append("nobody profiled the loader, so it isn't told from the model: EnergyCallback(gl.profile(dataset))")
    else:
        counted_bytes = [one.domain for one in by_bytes if costs and one.domain not in left_out]
        told += dict.fromkeys(note for _, of_samples in counted_samples for note in of_samples)
        told += _of_profile([of for of, _ in fed], shared, counted_bytes, left_out, untold)
    told += _unseen(validation, known)
    told += _exceeding(loader_cpu, model_cpu, parts, samples)
    return Spent(
        name=name,
        start_ns=window.start_ns,
        wall_s=wall_s,
        validation_s=validation_s,
        passed=passed,
        total=EnergyPart("total", parts["total"], _exact(window.cpu_s)),
        loader=EnergyPart("loader", parts["loader"], loader_cpu),
        steps=tuple(EnergyPart(cost.name, step, cost.cpu_s) for cost, step in zip(costs[1:], steps, strict=True)),
        waiting=EnergyPart("waiting", parts["waiting"]),
        model=EnergyPart("model", parts["model"], model_cpu),
        work=EnergyPart("loader and model", parts["work"], work_cpu),
        validation=EnergyPart("validation", parts["validation"], _exact(sum(one.cpu_s for one in validation))),
        others=EnergyPart("others", parts["others"], _exact(window.other_cpu_s)),
        idle=EnergyPart("idle", parts["idle"]),
        void=dict(window.void),
        notes=tuple(told),
        does_not_fit=unfit,
    )


def _exact(value: float) -> Figure:
    return Figure(value, value, value, "measured")


def _less(window: Window, inner: Iterable[Window]) -> Window:
    """The time of a window that is in none of the inner ones."""
    parts = list(inner)
    return Window(
        wall_ns=window.wall_ns - sum(one.wall_ns for one in parts),
        cpu_s=max(0.0, window.cpu_s - sum(one.cpu_s for one in parts)),
        # Each window's is cut off at 0, so that the parts' may exceed the whole's by a tick.
        other_cpu_s=max(0.0, window.other_cpu_s - sum(one.other_cpu_s for one in parts)),
        device_read_bytes=None,
        device_written_bytes=None,
        rss_bytes=window.rss_bytes,
        energy_j={
            domain: joules - sum(one.energy_j.get(domain, 0.0) for one in parts)
            for domain, joules in window.energy_j.items()
        },
        void={},
        resolution_j={
            domain: off_j + sum(one.resolution_j.get(domain, 0.0) for one in parts)
            for domain, off_j in window.resolution_j.items()
        },
    )


def _counted(channel: Channel, window: Window) -> Figure:
    """What the meter said of a window, off by as much as its counter may be late."""
    joules, off_j = window.energy_j[channel.domain], window.resolution_j.get(channel.domain, 0.0)
    return Figure(joules, joules - off_j, joules + off_j, channel.provenance, channel.systematic)


def _idle(channel: Channel, floor: MeasuredFloor | None, seconds: float | None) -> Figure:
    """The idle floor's joules in a time."""
    if seconds is None or (floor is None and channel.provenance == "measured"):
        return Figure.missing(channel.provenance, channel.systematic)
    if floor is None:  # its model has none (memory, storage): all of it is someone's use
        return Figure(0.0, 0.0, 0.0, channel.provenance, channel.systematic)
    return scale(floor.watts, seconds)


def _own(window: Window, channel: Channel, floor: MeasuredFloor | None) -> _Own:
    """This process's joules above the floor, and the rest of the machine's."""
    counted = _counted(channel, window)
    none = Figure(0.0, 0.0, 0.0, channel.provenance, channel.systematic)
    if channel.provenance != "measured":
        return _Own(counted, none)
    wall_s = window.wall_ns / 1e9
    above = minus(counted, _idle(channel, floor, wall_s))
    if floor is None or above.value is None or not _follows_cpu(channel.domain):
        return _Own(above, none)
    other_s = window.other_cpu_s - floor.others_per_s * wall_s
    if above.value <= 0 or window.cpu_s + other_s <= window.cpu_s / 2:
        return _Own(above, none)  # neighbours that fell silent: no sharing out would mean anything
    # A neighbour's CPU second may draw half as much or half as much again as ours (energy.floor).
    joules = above.value * other_s / (window.cpu_s + other_s)
    half = _Z * OTHERS_BAND * abs(joules)
    others = Figure(joules, joules - half, joules + half, channel.provenance, channel.systematic)
    return _Own(minus(above, others), others)


def _follows_cpu(domain: str) -> bool:
    """Whether a domain's joules above its floor are spent by CPU time."""
    return domain.split(":")[0] in ("cpu", "dram")


def _by_cpu(work: Figure, part_cpu_s: Figure | None, work_cpu_s: Figure) -> Figure:
    """A part of joules by its part of the CPU seconds: modelled, as kinds of code differ in watts."""
    if part_cpu_s is None or part_cpu_s.value is None or work.value is None or not work_cpu_s.value:
        return Figure.missing("modelled", OTHERS_BAND)
    found = scale(part_cpu_s, work.value / work_cpu_s.value)
    assert found.value is not None and found.low is not None and found.high is not None
    return Figure(found.value, found.low, found.high, "modelled", OTHERS_BAND, found.unresolved)


def _beside(channel: Channel, figure: Figure) -> Figure:
    """What was profiled alone, with the band of running beside a model."""
    if channel.provenance != "measured" or not _follows_cpu(channel.domain):
        return figure
    return replace(figure, systematic=max(figure.systematic, BESIDE))


def _model(channel: Channel, work: Figure, loader: Figure) -> Figure:
    """The remainder: what the loader's band leaves open, in joules, it leaves open here as well."""
    found = minus(work, loader)
    if channel.provenance != "measured" or not found.value or loader.value is None:
        return found
    return replace(found, systematic=loader.systematic * abs(loader.value / found.value))


def _by_bytes(profile: Report | None, channels: Iterable[Channel], window: Window) -> dict[Channel, float]:
    """Joules a byte of modelled storage that the profile doesn't have: it knows the data's disk, the fit may not."""
    moved = (window.device_read_bytes or 0) + (window.device_written_bytes or 0)
    return {
        channel: window.energy_j[channel.domain] / moved if moved else 0.0
        for channel in channels
        if profile is not None
        and channel.provenance == "modelled"
        and channel.domain.split(":")[0] == "storage"
        and channel.domain not in profile.full.energy_j_per_sample
    }


def _of_profile(
    profiles: Sequence[Report],
    shared: Sequence[str],
    by_bytes: Sequence[str],
    left_out: Sequence[str],
    untold: Sequence[str],
) -> list[str]:
    notes = []
    for left in dict.fromkeys(filter(None, map(in_no_step, profiles))):
        notes.append(f"the profile left {left} in no step: the loader's split by step is that uncertain")
    remedy = "profile on this machine, with the same meters"
    if shared:
        notes.append(
            f"the profile has no joules of {', '.join(shared)}: the loader's are its share of the CPU seconds, "
            f"a model; {remedy}"
        )
    if by_bytes:
        notes.append(
            f"the profile has no joules of {', '.join(by_bytes)}: the loader's are the bytes that it read from devices "
            "in the profile, by this fit's model"
        )
    if left_out:
        notes.append(
            f"the profile has neither joules of {', '.join(left_out)} nor bytes read from devices: the sums of loader "
            f"and model go on without it; {remedy}"
        )
    if untold:
        notes.append(
            f"the profile has no joules of {', '.join(untold)}: loader and model aren't told apart there; {remedy}"
        )
    return notes


def _unseen(validation: Sequence[Window], known: Sequence[str]) -> list[str]:
    """Validations without a figure in a domain that has one over all: as those that a counter is too slow for."""
    notes = []
    for domain in known:
        void = [one for one in validation if domain in one.void]
        if void:
            seconds = sum(one.wall_ns for one in void) / 1e9
            notes.append(
                f"the joules in {domain} of {len(void)} of {len(validation)} validations, {seconds:.2g} s, can't be "
                f"told and are in the model's: {void[0].void[domain]}"
            )
    return notes


def _exceeding(
    loader_cpu: Figure, model_cpu: Figure, parts: Mapping[str, Mapping[str, Figure]], samples: float | None
) -> list[str]:
    """Where the loader's estimate is a little more than there was."""
    if samples is None:
        return []
    advice = f"its steps cost less here than in the profile, or fewer than {samples:g} samples were prepared"
    pairs = {"CPU s": (loader_cpu, model_cpu)}
    pairs |= {f"J in {domain}": (parts["loader"][domain], figure) for domain, figure in parts["model"].items()}
    return [
        f"the loader's estimate, {loader.value:.3g} {what}, is {-model.value:.3g} more than loader and model used "
        f"together{', within its interval' if model.high is not None and model.high >= 0 else ''}: {advice}"
        for what, (loader, model) in pairs.items()
        if loader.value is not None and model.value is not None and model.value < 0
    ]
