"""What watched steps did in a span of time, while they were used: shares of the process's CPU time, waiting, joules.

The process's CPU time is that of all functions with clocks, and a rest: tf.data's own work per element (hand-over),
steps without a clock, and whatever else the process does, as a model's training. Where nothing else works, the rest is
hand-over.

Joules of a step are the process's joules, without idle power, times its share of the process's CPU time: as if a CPU
second drew the same everywhere. A profile can tell how they differ.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from greenload.energy.domains import Domain
from greenload.profiling.in_place.watched import Moment, WatchedStep
from greenload.system.work import CROSSED_FROM, Work


@dataclass(frozen=True)
class LiveStep:
    """What a step did in a span."""

    step: WatchedStep
    work: Work

    @property
    def cpu_s(self) -> float | None:
        """CPU seconds of all its calls; None where none was timed."""
        return self.work.total_cpu_s

    @property
    def waiting_s(self) -> float | None:
        """Seconds in which its calls had no processor, summed over calls; None where none was timed."""
        each = self.work.waiting_s_per_call
        return each if each is None else each * self.work.calls

    @property
    def note(self) -> str:
        """What its clock can't see; empty where it sees all."""
        work = self.work
        if work.calls and work.crossed > CROSSED_FROM * work.calls:  # a call may begin in one span and end in another
            share = min(1.0, work.crossed / work.calls)
            return (
                self.step.note or f"{share:.0%} of its calls changed threads; their CPU time is taken from the others"
            )
        return self.step.note


@dataclass(frozen=True)
class LiveDataset:
    """What the steps of one watched dataset did in a span."""

    name: str
    sample_unit: str
    samples: float | None
    """That left it; None where that can't be seen."""
    steps: tuple[LiveStep, ...]
    """Without those whose work another dataset's row has."""
    unwatched: Mapping[str, str] = field(default_factory=dict)
    counted_in: Mapping[str, str] = field(default_factory=dict)
    """Of its other steps, the dataset whose row has their work, by name."""

    @property
    def cpu_s(self) -> float:
        """CPU seconds of its functions, as far as they are known."""
        return sum(step.cpu_s or 0.0 for step in self.steps)


@dataclass(frozen=True)
class Live:
    """What the process did in a span, by watched dataset."""

    wall_s: float
    cpu_s: float
    """Of the process, all threads."""
    datasets: tuple[LiveDataset, ...]
    energy_j: Mapping[str, float] = field(default_factory=dict)
    """Joules of the process by domain, without idle power."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Of the joules, by domain."""

    @property
    def rest_cpu_s(self) -> float:
        """CPU seconds outside all functions: hand-over, steps without a clock, and whatever else the process does."""
        return max(0.0, self.cpu_s - sum(dataset.cpu_s for dataset in self.datasets))

    def share(self, cpu_s: float | None) -> float | None:
        """The part of the process's CPU time that so many CPU seconds are; None where they aren't known."""
        return None if cpu_s is None or self.cpu_s <= 0 else min(1.0, cpu_s / self.cpu_s)

    def joules(self, cpu_s: float | None) -> dict[str, float]:
        """Joules by domain of so many of its CPU seconds; empty where those aren't known. A GPU's and a drive's aren't
        drawn by CPU time."""
        share = self.share(cpu_s)
        drawn = self.energy_j.items() if share is not None else ()
        return {domain: joules * (share or 0.0) for domain, joules in drawn if Domain.parse(domain).follows_cpu}

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "wall_s": self.wall_s,
            "cpu_s": self.cpu_s,
            "rest_cpu_s": self.rest_cpu_s,
            "energy_j": dict(self.energy_j),
            "provenance": dict(self.provenance),
            "datasets": [
                {
                    "name": dataset.name,
                    "sample_unit": dataset.sample_unit,
                    "samples": dataset.samples,
                    "steps": [self._step_to_dict(step) for step in dataset.steps],
                    "unwatched": dict(dataset.unwatched),
                    "counted_in": dict(dataset.counted_in),
                }
                for dataset in self.datasets
            ],
        }

    def _step_to_dict(self, done: LiveStep) -> dict[str, Any]:
        step = done.step
        return {
            "name": step.name,
            "kind": step.kind,
            "where": step.where,
            "branch": step.branch,
            **asdict(done.work),
            "total_cpu_s": done.cpu_s,
            "total_waiting_s": done.waiting_s,
            "share": self.share(done.cpu_s),
            "energy_j": self.joules(done.cpu_s),
            "note": done.note,
        }


class Named(Protocol):
    """What is watched, here or in another process, without what it has done."""

    @property
    def name(self) -> str:
        """Of the dataset."""

    @property
    def sample_unit(self) -> str:
        """What a sample is."""

    @property
    def steps(self) -> Sequence[WatchedStep]:
        """In the order of the data."""

    @property
    def unwatched(self) -> Mapping[str, str]:
        """What has no clock, and why, by name."""

    @property
    def telling(self) -> Collection[str]:
        """The steps whose calls tell how many samples left, by name."""


def live(
    spans: Sequence[tuple[Named, Moment]],
    energy_j: Mapping[str, float] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Live:
    """The rows of a span of time. Of a step that several datasets have, the first has the row, or the one whose row
    adds up more.

    Args:
        spans: what is watched in one process, and its later moment less its earlier one.
        energy_j: joules of the process in the span by domain, without idle power.
        provenance: of them.

    Example:
        >>> watched, before = dataset.watched, dataset.watched.read()
        >>> for batch in dataset:
        ...     train(batch)
        >>> live([(watched, watched.read() - before)]).datasets[0].steps[0].cpu_s
        1.32
    """
    datasets: list[LiveDataset] = []
    for (watched, span), counted_in in zip(spans, _counted_elsewhere([watched for watched, _ in spans]), strict=True):
        own = [step for step in watched.steps if step.name not in counted_in]
        steps = tuple(LiveStep(step, span.steps.get(step.name, Work())) for step in own)
        others = [(other, done) for other, done in spans if other is not watched]
        unit, unwatched = watched.sample_unit, watched.unwatched
        # Where clocks count for another that worked, too, they don't tell which of the samples left here.
        is_unsure = (counted_in and not own) or any(_shares(watched, other, done) for other, done in others)
        samples = None if is_unsure else span.samples
        datasets.append(LiveDataset(watched.name, unit, samples, steps, unwatched, counted_in))
    longest = max((span for _, span in spans), key=lambda span: span.time_s, default=Moment(0.0, 0.0, {}))
    return Live(longest.time_s, longest.cpu_s, tuple(datasets), dict(energy_j or {}), dict(provenance or {}))


def _shares(watched: Named, other: Named, span: Moment) -> bool:
    """Whether calls that tell the samples of a dataset may be another's, which worked in the span."""
    telling = {clock for step in watched.steps if step.name in watched.telling for clock in step.clocks}
    known = {clock for step in watched.steps for clock in step.clocks}
    own = [step for step in other.steps if known.isdisjoint(step.clocks)]
    worked = not own or any(span.steps.get(step.name, Work()).calls for step in own)
    return worked and any(not telling.isdisjoint(step.clocks) for step in other.steps)


def _counted_elsewhere(datasets: Sequence[Named]) -> list[dict[str, str]]:
    """Of each dataset its steps whose work another row has, by name, and the name of the dataset with that row."""
    rows = [(number, step) for number, dataset in enumerate(datasets) for step in dataset.steps]
    holders: dict[int, str] = {}
    elsewhere: list[dict[str, str]] = [{} for _ in datasets]
    for number, step in sorted(rows, key=lambda row: -len(row[1].clocks)):  # what adds up others, before these
        holder = next((holders[clock] for clock in step.clocks if clock in holders), None)
        if holder is None:
            holders |= dict.fromkeys(step.clocks, datasets[number].name)
        else:
            elsewhere[number][step.name] = holder
    return elsewhere
