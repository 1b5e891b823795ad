"""What a process says of the datasets that it watches, for another process to read: ``greenload.status/1``, as JSON.

All amounts are counted from the process's or the dataset's beginning. A reader takes the difference of two statuses,
which has its own times in it, so that no figure is of another span than it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from greenload.energy.domains import Domain
from greenload.energy.meters.base import Provenance
from greenload.profiling.in_place.live import Live, live
from greenload.profiling.in_place.model import Buffer
from greenload.profiling.in_place.watched import Moment, WatchedStep
from greenload.system.json_data import DataError, Value
from greenload.system.work import Work

FORMAT = "greenload.status/1"
COUNTED = 0.98
"""Part of a span in which joules must have been counted, to be shown for it."""


@dataclass(frozen=True)
class EnergyCount:
    """Joules of one domain so far."""

    joules: float
    """Of the whole machine where measured, of this process where modelled."""
    seconds: float
    """In which they were counted."""
    provenance: str
    """``"measured"``, ``"vendor-declared"`` or ``"modelled"``."""
    idle_w: float | None = None
    """Power of the idle machine, where known."""


@dataclass(frozen=True)
class DatasetStatus:
    """A watched dataset, and what its steps have done so far."""

    number: int
    """Of what is watched in the process."""
    name: str
    sample_unit: str
    steps: Sequence[WatchedStep]
    moment: Moment
    unwatched: Mapping[str, str] = field(default_factory=dict)
    """What has no clock, and why, by name."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """What the runtime says of its buffers, as `BufferWatch.to_dict`; empty where it says nothing."""
    telling: Sequence[str] = ()
    """The steps whose calls tell how many samples left, by name."""


@dataclass(frozen=True)
class Status:
    """What a process says of itself."""

    pid: int
    identity: str
    """What tells it from another process that has its number later."""
    command: Sequence[str]
    started: float
    """Seconds since 1970."""
    written: float
    """Seconds since 1970."""
    time_s: float
    """By its monotonic clock, when it was written."""
    cpu_s: float
    """Of the process, all threads."""
    other_cpu_s: float
    """Of the machine's other processes, counted while joules are."""
    datasets: Sequence[DatasetStatus]
    energy: Mapping[str, EnergyCount] = field(default_factory=dict)
    """By domain."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    """What a reader must know, a sentence each."""

    @property
    def used(self) -> bool:
        """Whether anything has been done."""
        return any(work.calls or work.crossed for each in self.datasets for work in each.moment.steps.values())

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "format": FORMAT,
            "pid": self.pid,
            "identity": self.identity,
            "command": list(self.command),
            "started": self.started,
            "written": self.written,
            "time_s": self.time_s,
            "cpu_s": self.cpu_s,
            "other_cpu_s": self.other_cpu_s,
            "machine": dict(self.machine),
            "energy": {domain: asdict(count) for domain, count in self.energy.items()},
            "datasets": [_dataset_to_dict(each) for each in self.datasets],
            "notes": list(self.notes),
        }


def span(before: Status, after: Status) -> Live:
    """What a process did between two of its statuses.

    Args:
        before: the earlier one.
        after: the later one, of the same process.
    """
    earlier = {each.number: each.moment for each in before.datasets}
    # What wasn't watched before has done nothing before.
    start = Moment(before.time_s, before.cpu_s, {}, 0.0)
    spans = [(each, each.moment - earlier.get(each.number, start)) for each in after.datasets]
    joules = work_joules(before, after)
    made = live(spans, joules, {domain: after.energy[domain].provenance for domain in joules})
    whole = Live(after.time_s - before.time_s, after.cpu_s - before.cpu_s, (), made.energy_j, made.provenance)
    return made if spans else whole


def work_joules(before: Status, after: Status) -> dict[str, float]:
    """Joules that a process's work took between two of its statuses, by domain, where known: without idle power, and
    without what other processes drew, by CPU time."""
    return {
        domain: joules
        for domain, count in after.energy.items()
        if domain in before.energy
        and (joules := _work(before, after, domain, before.energy[domain], count)) is not None
    }


def _work(before: Status, after: Status, domain: str, first: EnergyCount, last: EnergyCount) -> float | None:
    joules, seconds = last.joules - first.joules, last.seconds - first.seconds
    if seconds <= 0 or seconds < COUNTED * (after.time_s - before.time_s):
        return None
    if last.provenance == "modelled":
        return joules
    if last.idle_w is None:
        return None
    above = max(0.0, joules - last.idle_w * seconds)
    if not Domain.parse(domain).follows_cpu:
        return above
    own, others = after.cpu_s - before.cpu_s, after.other_cpu_s - before.other_cpu_s
    return above * own / (own + others) if own + others > 0 else None


def from_value(document: Value) -> Status:
    """The inverse of `Status.to_dict`.

    Raises:
        DataError: it isn't one.
    """
    version = document.field("format").text()
    if version != FORMAT:
        raise DataError(f"its format must be {FORMAT!r}, and is {version[:60]!r}")
    return Status(
        pid=document.field("pid").integer(1),
        identity=document.field("identity").text(),
        command=[word.text() for word in document.field("command").list()],
        started=document.field("started").number(0),
        written=document.field("written").number(0),
        time_s=document.field("time_s").number(0),
        cpu_s=document.field("cpu_s").number(0),
        other_cpu_s=document.field("other_cpu_s").number(0),
        datasets=[_dataset(each) for each in document.field("datasets").list()],
        energy={
            Value(domain, "a domain").name(): _energy(count)
            for domain, count in document.field("energy").mapping().items()
        },
        machine={name: value.plain() for name, value in document.field("machine").mapping().items()},
        notes=[note.text() for note in document.field("notes").list()],
    )


def _energy(count: Value) -> EnergyCount:
    idle = count.given("idle_w")
    return EnergyCount(
        count.field("joules").number(),
        count.field("seconds").number(0),
        count.field("provenance").text(get_args(Provenance)),
        None if idle is None else idle.number(0),
    )


def _dataset_to_dict(status: DatasetStatus) -> dict[str, Any]:
    moment = status.moment
    return {
        "number": status.number,
        "name": status.name,
        "sample_unit": status.sample_unit,
        "time_s": moment.time_s,
        "cpu_s": moment.cpu_s,
        "samples": moment.samples,
        "unwatched": dict(status.unwatched),
        "steps": [
            {
                "name": step.name,
                "kind": step.kind,
                "where": step.where,
                "branch": step.branch,
                "note": step.note,
                "clocks": sorted(step.clocks),
                "work": asdict(moment.steps.get(step.name, Work())),
            }
            for step in status.steps
        ],
        "model": dict(status.model),
        "telling": list(status.telling),
    }


def _dataset(value: Value) -> DatasetStatus:
    steps = [_step(step) for step in value.field("steps").list()]
    samples = value.given("samples")
    return DatasetStatus(
        number=value.field("number").integer(0),
        name=value.field("name").text(),
        sample_unit=value.field("sample_unit").name(),
        steps=steps,
        moment=Moment(
            value.field("time_s").number(0),
            value.field("cpu_s").number(0),
            {step.name: step.read() for step in steps},
            None if samples is None else samples.number(),
        ),
        unwatched={name: why.text() for name, why in value.field("unwatched").mapping().items()},
        model=_model(value.field("model")),
        telling=[name.text() for name in value.field("telling").list()],
    )


def _model(value: Value) -> dict[str, Any]:
    if not value.mapping():
        return {}
    buffers = [Buffer.from_value(buffer).to_dict() for buffer in value.field("buffers").list()]
    return {"buffers": buffers, "full": value.field("full").number(0), "looks": value.field("looks").integer(0)}


def _step(value: Value) -> WatchedStep:
    counts = value.field("work")
    calls, timed, crossed = (counts.field(name).integer() for name in ("calls", "timed", "crossed"))
    work = Work(calls, timed, counts.field("cpu_s").number(), counts.field("wall_s").number(), crossed)
    name, kind, where, branch, note = (value.field(name).text() for name in ("name", "kind", "where", "branch", "note"))
    clocks = frozenset(clock.integer(0) for clock in value.field("clocks").list())
    return WatchedStep(name, kind, lambda: work, where, branch, note, clocks=clocks)
