"""One domain's joules in a stretch of a fit, by what they went into: the formulas are in `greenload.training.split`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from greenload.energy.attribution.background import OTHERS_BAND
from greenload.energy.domains import Domain
from greenload.energy.figures import Figure, scale, sum_figures
from greenload.energy.meters.base import Channel
from greenload.energy.sampler import Window
from greenload.report.data import Report
from greenload.training.loader_costs import BESIDE, minus
from greenload.training.notes import LoaderOrigin
from greenload.training.spent import EnergyPart

_Z = 1.96
"""95 % of a normal distribution lie within so many standard deviations."""


@dataclass(frozen=True, slots=True)
class IdlePower:
    """The idle power of a domain."""

    watts: Figure
    others_per_s: float = 0.0
    """CPU seconds a second of the rest of the machine, whose joules are in ``watts``."""


@dataclass(frozen=True, slots=True)
class SplitBasis:
    """What all windows of a fit are split by."""

    channels: Mapping[str, Channel]
    """Provenance and band by domain: `Sampler.channels`."""
    idle_power: Mapping[str, IdlePower]
    """The idle power by domain, where known."""
    profile: Report | None
    """What a sample costs by step; None where nobody profiled the loader."""
    notes: Sequence[str] = ()
    """What a reader must know of every window."""


@dataclass(frozen=True, slots=True)
class LoaderCosts:
    """What the loader cost by its profile, over all domains that this has; or what its steps took, by their clocks."""

    costs: Sequence[EnergyPart]
    """The whole, then by step, and of a profile in no step; empty where that isn't known."""
    samples: float | None
    """The profile's samples that passed; None where that isn't known."""
    by_bytes: Mapping[Channel, float]
    """Joules a byte of modelled storage that the profile doesn't have."""
    profiles: Sequence[Report]
    notes: Sequence[str]
    """What is to be said of how samples were counted."""
    watched: bool = False
    """Whether clocks saw it, as the functions of watched datasets."""

    @property
    def cpu_s(self) -> Figure:
        """CPU seconds of the whole."""
        cpu_s = self.costs[0].cpu_s if self.costs else Figure.missing()
        assert cpu_s is not None
        return cpu_s


@dataclass(frozen=True, slots=True)
class DomainJoules:
    """One domain's joules by what they went into; fields as in `Spent`."""

    total: Figure
    waiting: Figure
    idle: Figure
    others: Figure
    validation: Figure
    work: Figure
    loader: tuple[Figure, ...]
    """The whole, then by step; empty where the domain is left out of the sums of loader and model."""
    model: Figure
    origin: LoaderOrigin = ""
    validation_steps: tuple[Figure, ...] = ()
    """Watched steps' shares of ``validation``."""

    @classmethod
    def missing(cls, channel: Channel, loader: LoaderCosts) -> DomainJoules:
        """Of a domain without a figure."""
        nothing = _missing(channel)
        whole_and_steps = (nothing,) * max(1, len(loader.costs))
        return cls(nothing, nothing, nothing, nothing, nothing, nothing, loader=whole_and_steps, model=nothing)

    def without_loader(self, channel: Channel) -> DomainJoules:
        """With loader and model as one figure."""
        return replace(self, loader=(_missing(channel),), model=_missing(channel)) if self.loader else self


def split_joules(
    basis: SplitBasis,
    domain: str,
    window: Window,
    validation: Sequence[Window],
    waiting_s: float | None,
    loader: LoaderCosts,
    validation_steps: Sequence[EnergyPart] = (),
) -> DomainJoules:
    """One domain's joules by what they went into; of a domain that has a figure in the whole window."""
    channel, idle_power, wall_s = basis.channels[domain], basis.idle_power.get(domain), window.wall_ns / 1e9
    sound = [inner for inner in validation if domain not in inner.void]
    outside = time_outside(window, sound)
    own, others = _own(outside, channel, idle_power)
    validated = [_own(inner, channel, idle_power) for inner in sound]
    counted = _counted(channel, window)
    if channel.provenance == "measured":
        total = counted
        others = sum_figures([others, *(of_others for _, of_others in validated)])
    else:  # other processes are not in the total: nobody knows what they drew
        total = sum_figures([counted, _idle(channel, idle_power, wall_s)])
        others = _missing(channel)
    origin, loaded = _loaded(basis, channel, own, outside.cpu_s, loader)
    validation_joules = sum_figures(joules for joules, _ in validated) if sound or not validation else _missing(channel)
    validation_cpu = exact(sum(inner.cpu_s for inner in sound))
    return DomainJoules(
        total=total,
        waiting=_idle(channel, idle_power, waiting_s),
        idle=_idle(channel, idle_power, wall_s - (waiting_s or 0.0)),
        others=others,
        validation=validation_joules,
        work=own,
        loader=loaded,
        model=_model(channel, own, loaded[0]) if loaded else _missing(channel),
        origin=origin,
        validation_steps=tuple(
            _in_place(channel, validation_joules, part.cpu_s, validation_cpu) for part in validation_steps
        ),
    )


def _loaded(
    basis: SplitBasis, channel: Channel, work: Figure, work_cpu_s: float, loader: LoaderCosts
) -> tuple[LoaderOrigin, tuple[Figure, ...]]:
    """Where the loader's joules of a domain come from, and the whole and each step's; empty where left out."""
    costs, domain = loader.costs, channel.domain
    if (basis.profile is None and not loader.watched) or not costs:
        return "", (_missing(channel),)
    if all(domain in cost.energy_j for cost in costs) and costs[0].energy_j[domain].value is not None:
        origin: LoaderOrigin = "bytes" if channel in loader.by_bytes else ""
        return origin, tuple(_beside(channel, cost.energy_j[domain]) for cost in costs)
    if loader.watched:
        shares = tuple(_in_place(channel, work, cost.cpu_s, exact(work_cpu_s)) for cost in costs)
        return ("share", shares) if Domain.parse(domain).kind != "storage" else ("bytes unknown", ())
    if Domain.parse(domain).follows_cpu:
        return "cpu", tuple(_by_cpu(work, cost.cpu_s, exact(work_cpu_s)) for cost in costs)
    if channel in loader.by_bytes:  # too little to take every sum with it
        return "left out", ()
    return "unknown", tuple(_missing(channel) for _ in costs)


def _in_place(channel: Channel, work: Figure, part_cpu_s: Figure | None, work_cpu_s: Figure) -> Figure:
    """A watched step's part of joules: by its CPU seconds, and none of a device that its function doesn't run on."""
    if Domain.parse(channel.domain).follows_cpu:
        share = _by_cpu(work, part_cpu_s, work_cpu_s)
        # A model draws the same for each CPU second by itself: its own band says how far that is off.
        return share if channel.provenance == "measured" else replace(share, systematic=channel.systematic)
    return Figure(0.0, 0.0, 0.0, channel.provenance, channel.systematic)


def is_measured_work(channel: Channel) -> bool:
    """Whether a counter's joules above the idle power are spent by CPU time."""
    return channel.provenance == "measured" and Domain.parse(channel.domain).follows_cpu


def _missing(channel: Channel) -> Figure:
    return Figure.missing(channel.provenance, channel.systematic)


def time_outside(window: Window, inner: Sequence[Window]) -> Window:
    """The time of a window that is in none of the inner ones."""
    return Window(
        wall_ns=window.wall_ns - sum(part.wall_ns for part in inner),
        cpu_s=max(0.0, window.cpu_s - sum(part.cpu_s for part in inner)),
        # Each window's is cut off at 0, so that the parts' may exceed the whole's by a tick.
        other_cpu_s=max(0.0, window.other_cpu_s - sum(part.other_cpu_s for part in inner)),
        device_read_bytes=None,
        device_written_bytes=None,
        rss_bytes=window.rss_bytes,
        energy_j={
            domain: joules - sum(part.energy_j.get(domain, 0.0) for part in inner)
            for domain, joules in window.energy_j.items()
        },
        void={},
        resolution_j={
            domain: off_j + sum(part.resolution_j.get(domain, 0.0) for part in inner)
            for domain, off_j in window.resolution_j.items()
        },
    )


def _counted(channel: Channel, window: Window) -> Figure:
    """What the meter said of a window, off by as much as its counter may be late."""
    joules, off_j = window.energy_j[channel.domain], window.resolution_j.get(channel.domain, 0.0)
    return Figure(joules, joules - off_j, joules + off_j, channel.provenance, channel.systematic)


def _idle(channel: Channel, idle_power: IdlePower | None, seconds: float | None) -> Figure:
    """The joules of the idle power in a time."""
    if seconds is None or (idle_power is None and channel.provenance == "measured"):
        return _missing(channel)
    if idle_power is None:  # its model has none (memory, storage): all of it is someone's use
        return Figure(0.0, 0.0, 0.0, channel.provenance, channel.systematic)
    return scale(idle_power.watts, seconds)


def _own(window: Window, channel: Channel, idle_power: IdlePower | None) -> tuple[Figure, Figure]:
    """This process's joules above the idle power, and the rest of the machine's."""
    counted = _counted(channel, window)
    none = Figure(0.0, 0.0, 0.0, channel.provenance, channel.systematic)
    if channel.provenance != "measured":
        return counted, none
    wall_s = window.wall_ns / 1e9
    above = minus(counted, _idle(channel, idle_power, wall_s))
    if idle_power is None or above.value is None or not is_measured_work(channel):
        return above, none
    other_s = window.other_cpu_s - idle_power.others_per_s * wall_s
    if above.value <= 0 or window.cpu_s + other_s <= window.cpu_s / 2:
        return above, none  # other processes that fell silent: no sharing out would mean anything
    joules = above.value * other_s / (window.cpu_s + other_s)
    half = _Z * OTHERS_BAND * abs(joules)
    others = Figure(joules, joules - half, joules + half, channel.provenance, channel.systematic)
    return minus(above, others), others


def _by_cpu(work: Figure, part_cpu_s: Figure | None, work_cpu_s: Figure) -> Figure:
    """A part of joules by its part of the CPU seconds: modelled, as kinds of code differ in watts."""
    if part_cpu_s is None or part_cpu_s.value is None or work.value is None or not work_cpu_s.value:
        return Figure.missing("modelled", OTHERS_BAND)
    share = scale(part_cpu_s, work.value / work_cpu_s.value)
    assert share.value is not None and share.low is not None and share.high is not None
    return Figure(share.value, share.low, share.high, "modelled", OTHERS_BAND, share.unresolved)


def _beside(channel: Channel, figure: Figure) -> Figure:
    """What was profiled alone, with the band of running beside a model."""
    return replace(figure, systematic=max(figure.systematic, BESIDE)) if is_measured_work(channel) else figure


def _model(channel: Channel, work: Figure, loader: Figure) -> Figure:
    """The remainder: what the loader's band leaves open, in joules, it leaves open here as well."""
    rest = minus(work, loader)
    if channel.provenance != "measured" or not rest.value or loader.value is None:
        return rest
    return replace(rest, systematic=loader.systematic * abs(loader.value / rest.value))


def exact(value: float) -> Figure:
    """A measured figure without an error."""
    return Figure(value, value, value, "measured")
