"""What the steps of watched datasets took in a span of a fit, as parts of the loader's cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from scipy.special import stdtrit

from greenload.energy.attribution.costs import HAND_OVER
from greenload.energy.figures import Figure, scale, sum_figures
from greenload.profiling.in_place.live import LiveDataset, LiveStep, live
from greenload.profiling.in_place.watched import Moment, Watched
from greenload.report.data import Report
from greenload.system.work import Work
from greenload.training.spent import EnergyPart, WatchedPart

_LEAST_SPANS = 4
"""Spans from which it is seen how much a step's cost varies. With fewer, calls are taken to vary by four times what
they cost, as where one in ten takes the most, and readings to be as few as they may be."""
_VARIES = 4.0
_STANDS_FOR, _READ_EACH_S = 64, 0.002
"""Calls that one which is timed stands for at most, and the CPU time of those that it stands for: clocks are read less
often only where reading them would take more than a small part of what they time."""
Uses = Sequence[Mapping[Watched, Moment]]
"""What was done in spans, one after the other."""


def watched_parts(
    used: Mapping[Watched, Moment], apart: Uses = (), only: Sequence[Watched] = (), profile: Report | None = None
) -> list[WatchedPart]:
    """The steps of all watched datasets that did anything in a span. Where none did, as behind a cache that is filled,
    those of ``only``, which then took nothing; none where that is left out.

    Args:
        used: what was done in the span.
        apart: the same by shorter spans, which show how much costs vary.
        only: the datasets that count; all if left out.
        profile: whose joules of a CPU second a step's are; without them its joules are left to whoever knows the sum.
    """
    shown = _shown(used, only)
    names = _names([dataset for _, dataset in shown])
    return [
        _part(step, key, dataset, name, apart, profile)
        for (key, dataset), name in zip(shown, names, strict=True)
        for step in dataset.steps
    ]


def watched_in(dataset: Any) -> tuple[Watched, ...]:
    """The watched datasets that a dataset is, or is made of; none of what is something else."""
    own = getattr(dataset, "watched", None)
    if isinstance(own, Watched):
        return (own,)
    inputs = getattr(dataset, "_inputs", None)
    if not callable(inputs):
        return ()
    return tuple(dict.fromkeys(watched for before in inputs() for watched in watched_in(before)))


def unwatched(used: Mapping[Watched, Moment], only: Sequence[Watched] = ()) -> dict[str, str]:
    """What has no clock in the datasets whose steps `watched_parts` gives, and why, by name."""
    return {name: why for watched, _ in _shown(used, only) for name, why in watched.unwatched.items()}


def _shown(used: Mapping[Watched, Moment], only: Sequence[Watched]) -> list[tuple[Watched, LiveDataset]]:
    """The datasets that did anything in a span. Where none did, as behind a cache that is filled, those of ``only``."""
    spans = sorted(used.items(), key=lambda item: item[0].number)
    spans = [(watched, moment) for watched, moment in spans if _counts(watched, only)]
    seen = list(zip([watched for watched, _ in spans], live(spans).datasets, strict=True))
    busy = [(watched, dataset) for watched, dataset in seen if any(step.work.calls for step in dataset.steps)]
    return busy or [(watched, dataset) for watched, dataset in seen if watched in only and dataset.steps]


def _counts(watched: Watched, only: Sequence[Watched]) -> bool:
    """Whether it is one of those that count, or is watched again as a part of it."""
    return not only or bool({watched, *watched.includes} & set(only))


def _names(datasets: Sequence[LiveDataset]) -> list[str]:
    """Names in front of their steps': none where there is one dataset."""
    if len(datasets) == 1:
        return [""]
    names = [dataset.name or "dataset" for dataset in datasets]
    return [name if names.count(name) == 1 else f"{name} ({names[:k].count(name) + 1})" for k, name in enumerate(names)]


def _part(
    step: LiveStep, watched: Watched, dataset: LiveDataset, prefix: str, apart: Uses, profile: Report | None
) -> WatchedPart:
    name, work = step.step.name, step.work
    each = _per_call(step, [moments[watched].steps for moments in apart if watched in moments])
    sure = not step.step.estimates and work.timed >= work.calls
    cpu_s = step.cpu_s
    figure = Figure.missing() if cpu_s is None else Figure(cpu_s, cpu_s, cpu_s, "measured")
    return WatchedPart(
        name=f"{prefix}: {name}" if prefix else name,
        energy_j=_joules(profile, name, figure),
        cpu_s=figure if sure or cpu_s is None else _estimated(each, cpu_s, work.calls),
        step=name,
        dataset=dataset.name,
        where=step.step.where,
        calls=work.calls,
        samples=dataset.samples,
        sample_unit=dataset.sample_unit,
        waiting_s=step.waiting_s,
        cpu_s_per_call=each,
        note=step.note,
    )


def _estimated(each: Figure, cpu_s: float, calls: int) -> Figure:
    half = (each.half_width or 0.0) * calls
    return Figure(cpu_s, max(0.0, cpu_s - half), cpu_s + half, "measured")


def _per_call(step: LiveStep, spans: Sequence[Mapping[str, Work]]) -> Figure:
    """CPU seconds of a call: a ratio of sums over spans, and how that varied from span to span. With fewer than
    `_LEAST_SPANS` the interval is a wide one."""
    work, name = step.work, step.step.name
    if work.timed <= 0:  # of a short span a call may be known to have crossed threads only after it was counted
        return Figure.missing()
    mean = work.cpu_s / work.timed
    seen = [done for span in spans if (done := span.get(name)) is not None and done.timed > 0]
    if len(seen) < _LEAST_SPANS:
        readings = min(work.timed, max(work.timed / _STANDS_FOR, work.cpu_s / _READ_EACH_S, 1.0))
        half = _t(readings) * _VARIES * mean / math.sqrt(readings)
    else:
        calls = math.fsum(done.timed for done in seen)
        ratio = math.fsum(done.cpu_s for done in seen) / calls
        off = math.fsum((done.cpu_s - ratio * done.timed) ** 2 for done in seen)
        half = _t(len(seen)) * math.sqrt(off * len(seen) / (len(seen) - 1)) / calls
    return Figure(mean, max(0.0, mean - half), mean + half, "measured")


def _t(count: float) -> float:
    """How many standard errors from a mean of so many values 95 % lie within."""
    return float(stdtrit(max(1.0, count - 1), 0.975))


def _joules(profile: Report | None, name: str, cpu_s: Figure) -> dict[str, Figure]:
    """A step's joules where a profile has a step of its name: by what a CPU second of that one draws."""
    step = None if profile is None else next((step for step in profile.steps if step.name == name), None)
    if step is None or cpu_s.value is None or not step.cpu_s_per_sample.value or step.cpu_s_per_sample.unresolved:
        return {}
    return {
        domain: scale(figure, cpu_s.value / step.cpu_s_per_sample.value)
        for domain, figure in step.energy_j_per_sample.items()
        if figure.value is not None and not figure.unresolved
    }


def hand_over(fed: Sequence[tuple[Report, float | None]]) -> list[EnergyPart]:
    """tf.data's own work for what passed, where it was profiled in place and so is told apart; empty where it isn't.

    Args:
        fed: what a sample costs and how many of the profile's samples passed, for each kind of epoch; None where that
            isn't known.
    """
    kinds = [_hand_over(profile, samples) for profile, samples in fed]
    known = [part for part in kinds if part is not None]
    if not known or len(known) < len(kinds):
        return []
    domains = [domain for domain in known[0].energy_j if all(domain in part.energy_j for part in known)]
    joules = {domain: sum_figures(part.energy_j[domain] for part in known) for domain in domains}
    return [EnergyPart(HAND_OVER, joules, sum_figures(part.cpu_s for part in known if part.cpu_s is not None))]


def _hand_over(profile: Report, samples: float | None) -> EnergyPart | None:
    step = next((step for step in profile.steps if step.name == HAND_OVER), None)
    if step is None or samples is None:
        return None
    joules = {domain: scale(figure, samples) for domain, figure in step.energy_j_per_sample.items()}
    return EnergyPart(HAND_OVER, joules, scale(step.cpu_s_per_sample, samples))


def samples_in(used: Mapping[Watched, Moment], only: Sequence[Watched] = ()) -> float | None:
    """Samples that left the watched datasets that did anything in a span; None where that can't be seen."""
    seen = [
        moment.samples
        for watched, moment in used.items()
        if _counts(watched, only) and any(work.calls for work in moment.steps.values())
    ]
    return None if None in seen else math.fsum(samples for samples in seen if samples is not None)


def spread(part: EnergyPart | None, samples: Sequence[float | None]) -> list[tuple[EnergyPart, ...]]:
    """A part of a fit over its spans, by the samples of each: nothing in any, where those of one aren't known."""
    known = [count for count in samples if count is not None]
    total = math.fsum(known)
    if part is None or len(known) < len(samples) or total <= 0:
        return [()] * len(samples)
    return [(_scaled(part, count / total),) for count in known]


def _scaled(part: EnergyPart, by: float) -> EnergyPart:
    joules = {domain: scale(figure, by) for domain, figure in part.energy_j.items()}
    return replace(part, energy_j=joules, cpu_s=None if part.cpu_s is None else scale(part.cpu_s, by))


def whole(parts: Sequence[EnergyPart]) -> list[EnergyPart]:
    """The loader as a whole, and its steps; empty where there are none. What isn't known of a step isn't in the sum."""
    if not parts:
        return []
    known = [part.cpu_s for part in parts if part.cpu_s is not None and part.cpu_s.value is not None]
    domains = [domain for domain in parts[0].energy_j if all(domain in part.energy_j for part in parts)]
    energy = {domain: sum_figures(part.energy_j[domain] for part in parts) for domain in domains}
    loader = EnergyPart("loader", energy, sum_figures(known) if known else Figure.missing())
    return [loader, *(replace(part, energy_j={domain: part.energy_j[domain] for domain in domains}) for part in parts)]
