"""Builds of plans that were run on the drawn samples, and the rates that follow from them.

A build of a plan is run as ``load`` runs it: the dataset is built and traced, its first epoch fills what is kept, and
each further epoch has an iterator of its own, as in ``model.fit``. With ``M`` samples drawn of ``N``, windows see

- ``A``: building, and the first epoch;
- ``F``: the first epoch once more, with what was kept forgotten: what fills, without building anything;
- ``L``: a later epoch;
- ``o``: what beginning an epoch takes, whatever its length. Only where fewer samples than all were drawn: there later
  epochs are run without it, by one iterator, and ``L`` is with it.

So starting takes ``A − F``. In a training's own process, whose first pipeline it is, it takes a surcharge, by which the
search's own first build exceeded its later ones. Of an epoch of ``N`` samples each takes ``(F − o) / M + o / N`` in the
first one, ``(L − o) / M + o / N`` in later ones. Where all samples were drawn ``o`` drops out, and the sum is what was
seen: ``A + (E − 1) L`` in ``E`` epochs. A plan that keeps nothing has like epochs: there ``F`` is ``L``.

*Joules* of counters are this process's own, the idle machine and other processes taken out as in a profile; of an
epoch's parts they are shared out by CPU seconds.

*Intervals* are those of one further build (`greenload.optimization.race.further_build`): what the next run of the plan
shows lies in them, 95 of 100 times. Where samples were drawn, other ones could have been: the coefficient of variation
of the files' sizes, over ``√M``, stands for that error, less the share of the set that was drawn (finite population
correction: W. G. Cochran, *Sampling Techniques*, 1977, section 2.6).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from greenload.energy.attribution.background import find_backgrounds, idle_power, with_own_joules
from greenload.energy.attribution.observation import Metering, Observation, read_quantity
from greenload.energy.figures import Figure, sum_figures
from greenload.optimization.race import BuildCost, Differences, further_build
from greenload.optimization.records import Rates
from greenload.report.record import Record

NORMAL_95 = 1.96
"""Half of the 95 % interval of the normal distribution, in standard deviations."""
_LEAST = 0.2  # of a mean: how far down an interval of what can't be below zero goes
_Of = TypeVar("_Of")


@dataclass(frozen=True, kw_only=True)
class Build(Record):
    """One build of a plan, run: what meters saw."""

    name: str
    """The plan's."""
    round: int
    """Of the race."""
    samples: int = 0
    """In an epoch of it."""
    start: Observation | None = None
    """Building, and the first epoch; None where it failed."""
    filling: Observation | None = None
    """The first epoch once more, what was kept being forgotten; None where nothing is kept."""
    later: tuple[Observation, ...] = ()
    """Windows of whole later epochs."""
    begins: bool = True
    """Whether each of these epochs was begun by an iterator of its own."""
    first_batch_cpu_s: float = 0.0
    """CPU seconds of this process until the first batch, building included."""
    begin_cpu_s: float = 0.0
    """CPU seconds that beginning an epoch takes; 0 where it wasn't looked at."""
    kept_bytes: float | None = None
    """Of what was kept of these samples; None where nobody counts."""
    kept_samples: int | None = None
    """How many of them were kept."""
    seconds: float = 0.0
    """Wall seconds that all of it took."""
    failed: str = ""
    """Why it failed, in one sentence."""

    @property
    def windows(self) -> tuple[Observation, ...]:
        """All of them."""
        return tuple(window for window in (self.start, self.filling, *self.later) if window is not None)


@dataclass(frozen=True, kw_only=True)
class Drawn(Record):
    """What of a set was drawn for trials, and what is known of its records."""

    samples: int
    """Of an epoch of the drawn ones."""
    of: int
    """Of an epoch of the whole set."""
    variation: float = 0.0
    """Standard deviation of the records' sizes over their mean: stands for that of what samples cost."""
    file_bytes: float = 0.0
    """Mean bytes of a record on its device; 0 where it is none's."""
    page_cache_bytes: float = math.inf
    """Memory that there is for the page cache: what a plan reads in an epoch stays there until the next one where it
    fits beside what the plan holds."""
    surcharge_cpu_s: float = 0.0
    """CPU seconds that the first pipeline of a process takes beyond any other: modules that are imported, what
    TensorFlow does once."""

    @property
    def share(self) -> float:
        """Of the set."""
        return self.samples / self.of

    @property
    def error(self) -> float:
        """Half-width, relative, of what other samples of the set would have cost."""
        return NORMAL_95 * self.variation * math.sqrt(max(0.0, 1 - self.share) / self.samples)


@dataclass(frozen=True, kw_only=True)
class Scatter(Record):
    """Relative standard deviations between builds of one plan, as all plans together show them."""

    start: float
    first: float
    later: float
    first_wall: float = 0.0
    """Of how long a first epoch takes, beside what CPU seconds it takes."""
    later_wall: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _One:
    """The rates of one build: per sample of an epoch of ``N``."""

    start_cpu_s: float
    first_cpu_s: float
    later_cpu_s: float
    first_wall_s: float
    later_wall_s: float
    first_energy_j: Mapping[str, float] = field(default_factory=dict)
    later_energy_j: Mapping[str, float] = field(default_factory=dict)


def with_net_joules(
    builds: Iterable[Build], idle: Sequence[Observation], domains: Mapping[str, Metering]
) -> tuple[list[Build], dict[str, Figure]]:
    """The builds with this process's own joules of counters alone, and the machine's idle power by domain, in watts.

    Args:
        builds: of all plans: together they tell what other processes' CPU seconds cost.
        idle: windows of the idle machine.
        domains: how each energy domain is measured. Modelled ones are left out: coefficients have them.
    """
    counted = {name: domain for name, domain in domains.items() if domain.provenance == "measured"}
    given = list(builds)
    windows = [*idle, *(window for build in given for window in build.windows)]
    backgrounds = find_backgrounds(windows, counted)

    def net(window: Observation) -> Observation:
        return with_own_joules([window], counted, backgrounds)[0]

    return [
        replace(
            build,
            start=net(build.start) if build.start else None,
            filling=net(build.filling) if build.filling else None,
            later=tuple(map(net, build.later)),
        )
        for build in given
    ], idle_power(backgrounds, counted)


def rates_of(builds: Sequence[Build], drawn: Drawn, scatter: Scatter, samples: int | None = None) -> Rates:
    """What was measured of a plan, with intervals of one further build of it.

    Args:
        builds: of the plan, those that ran; joules net.
        drawn: which samples they are of.
        scatter: between builds, as all plans show it.
        samples: of an epoch that the rates are of; the whole set's if not given.

    Returns:
        Bytes are those of the whole set's files and of what is kept.
    """
    ran = [build for build in builds if build.start is not None]
    if not ran:
        return Rates()
    each = [_one(build, samples or drawn.of) for build in ran]

    surcharge = Figure(drawn.surcharge_cpu_s, 0.0, 2 * drawn.surcharge_cpu_s, "measured")

    def figure(of: Callable[[_One], float], share: float, *, of_samples: bool = True) -> Figure:
        further = further_build([of(one) for one in each], share)
        return _bounded(_widened(further, drawn.error if of_samples else 0.0))

    def joules(of: Callable[[_One], Mapping[str, float]], share: float) -> dict[str, Figure]:
        domains = {domain for one in each for domain in of(one)}
        return {
            domain: _widened(further_build([of(one)[domain] for one in each if domain in of(one)], share), drawn.error)
            for domain in sorted(domains)
        }

    return Rates(
        start_cpu_s=sum_figures([figure(lambda one: one.start_cpu_s, scatter.start, of_samples=False), surcharge]),
        first_cpu_s=figure(lambda one: one.first_cpu_s, scatter.first),
        later_cpu_s=figure(lambda one: one.later_cpu_s, scatter.later),
        first_energy_j=joules(lambda one: one.first_energy_j, scatter.first),
        later_energy_j=joules(lambda one: one.later_energy_j, scatter.later),
        first_samples_per_s=_inverse(figure(lambda one: one.first_wall_s, scatter.first_wall)),
        later_samples_per_s=_inverse(figure(lambda one: one.later_wall_s, scatter.later_wall)),
        builds=len(ran),
        windows=sum(len(build.windows) for build in ran),
    )


def exact_rates(build: Build, drawn: Drawn) -> Rates:
    """The rates of one build without intervals: for the cost of a training all of which went so."""
    one = _one(build, drawn.of)
    return Rates(
        start_cpu_s=_exact(one.start_cpu_s),
        first_cpu_s=_exact(one.first_cpu_s),
        later_cpu_s=_exact(one.later_cpu_s),
        first_energy_j={domain: _exact(joules) for domain, joules in one.first_energy_j.items()},
        later_energy_j={domain: _exact(joules) for domain, joules in one.later_energy_j.items()},
        first_samples_per_s=_exact(1 / one.first_wall_s),
        later_samples_per_s=_exact(1 / one.later_wall_s),
        builds=1,
        windows=len(build.windows),
    )


def _exact(value: float) -> Figure:
    return Figure(value, value, value, "measured")


def scatter_of(builds: Sequence[Build], drawn: Drawn) -> Scatter:
    """How much builds of one plan differ, as those of all plans show it.

    Args:
        builds: of all plans; those that failed are left aside.
        drawn: which samples they are of.
    """
    ran = [(build, _one(build, drawn.of)) for build in builds if build.start is not None and not build.failed]

    def of(value: Callable[[_One], float]) -> float:
        return Differences([BuildCost(name=b.name, round=b.round, cost=value(one)) for b, one in ran]).scatter

    return Scatter(
        start=of(lambda one: one.start_cpu_s),
        first=of(lambda one: one.first_cpu_s),
        later=of(lambda one: one.later_cpu_s),
        first_wall=of(lambda one: one.first_wall_s),
        later_wall=of(lambda one: one.later_wall_s),
    )


def _one(build: Build, samples: int) -> _One:
    """The rates of a build in epochs of so many samples."""
    assert build.start is not None
    count, begin = build.samples, build.begin_cpu_s
    later = _sound(build.later) or [build.start]
    epochs = sum(window.samples for window in later) / count
    first = [build.filling] if build.filling is not None else later

    def own(epoch_s: float, windows: Sequence[Observation]) -> float:
        """What an epoch takes without its beginning: of windows whose epochs had iterators of their own it is part."""
        if windows is later and not build.begins:
            return epoch_s
        return max(epoch_s - begin, 0.1 * epoch_s)  # it can't take less: a tenth stays, where noise says so

    later_s = own(sum(window.cpu_s for window in later) / epochs, later)
    first_s = later_s if first is later else own(first[0].cpu_s, first)

    def a_sample(own_s: float) -> float:
        return own_s / count + begin / samples

    def wall(windows: Sequence[Observation]) -> float:
        # The least disturbed window: what other processes take from it isn't the plan's. Beginning an epoch runs on one
        # processor, so its CPU seconds are wall seconds.
        return a_sample(own(min(window.work_ns / window.samples for window in windows) / 1e9 * count, windows))

    def joules(cpu_s: float, *kinds: Sequence[Observation]) -> dict[str, float]:
        """Of the first kind of windows in which a domain was read: one that misses it isn't one without joules."""
        found: dict[str, float] = {}
        for windows in kinds:
            for name in {name for window in windows for name in window.energy_j}.difference(found):
                read = [window for window in windows if name in window.energy_j]
                seconds = sum(window.cpu_s for window in read)
                found[name] = sum(window.energy_j[name] for window in read) / seconds * cpu_s
        return found

    return _One(
        start_cpu_s=max(0.0, build.start.cpu_s - first_s - begin),
        first_cpu_s=a_sample(first_s),
        later_cpu_s=a_sample(later_s),
        first_wall_s=wall(first),
        later_wall_s=wall(later),
        first_energy_j=joules(a_sample(first_s), first, later),
        later_energy_j=joules(a_sample(later_s), later, first),
    )


def _sound(windows: Sequence[Observation]) -> list[Observation]:
    """Windows whose CPU seconds can be trusted; all where none can."""
    return [window for window in windows if read_quantity(window, "cpu_s") is not None] or list(windows)


def _widened(figure: Figure, share: float) -> Figure:
    """The figure with a further, independent error of a share of its value."""
    if figure.value is None or figure.low is None or figure.high is None:
        return figure
    more = share * abs(figure.value)
    low = figure.value - math.hypot(figure.value - figure.low, more)
    return replace(figure, low=low, high=figure.value + math.hypot(figure.high - figure.value, more))


def _inverse(figure: Figure) -> Figure:
    """One over a figure above zero."""
    if figure.value is None or figure.low is None or figure.high is None:
        return figure
    return replace(figure, value=1 / figure.value, low=1 / figure.high, high=1 / figure.low)


def _bounded(figure: Figure) -> Figure:
    """The figure with an interval of what can't be below zero."""
    if figure.value is None or figure.low is None:
        return figure
    return replace(figure, low=min(figure.value, max(figure.low, _LEAST * figure.value)))
