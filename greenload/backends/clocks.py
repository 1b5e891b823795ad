"""The clocks of a plan's steps, where what runs them has any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from greenload.plans.plan import Plan, Segment
from greenload.system.work import Work

DRAWS = "draws"
"""The name of the row of orders and prepared random values."""


@dataclass(frozen=True)
class StepClock:
    """The clock of a step, or of several that it can't tell apart."""

    name: str
    """The plan's step's; or that of ``segment_name``, ``intake_name``, or ``DRAWS``."""
    kind: str
    """The backend; of a step that isn't on pixels its own kind."""
    read: Callable[[], Work]
    """Gives what it has done so far. A call is an image."""
    note: str = ""
    """What the clock can't see, as a sentence; empty where it sees all."""
    exact: bool = True
    """Whether it counts images one by one. Else it counts batches, and the last one of an epoch may be smaller."""
    counter: str = ""
    """Names the counter that it reads, where clocks of other plans may read that, too; empty where it is its own."""
    estimates: bool = False
    """Whether it may time a part of the calls only, and take the others for like those."""


def intake_name(backend: str) -> str:
    """The name of what a backend does to a batch before its steps: headers are looked at, params computed."""
    return f"{backend}: intake"


def segment_name(segment: Segment) -> str:
    """The name of a segment's steps together."""
    return " + ".join(step.name for step in segment.steps)


def ordered(plan: Plan, clocks: Iterable[StepClock]) -> list[StepClock]:
    """Clocks of a plan in the order of the data. Those of one name become one."""
    known: dict[str, list[StepClock]] = {}
    for clock in clocks:
        known.setdefault(clock.name, []).append(clock)
    first = {segment.steps[0]: segment for segment in plan.segments}
    names = [DRAWS]
    for step in plan.steps:
        if step in first:
            names += [intake_name(step.backend), segment_name(first[step])]
        names.append(step.name)
    return [_summed(known[name]) for name in dict.fromkeys(names) if name in known]


def _summed(clocks: Sequence[StepClock]) -> StepClock:
    reads, exact = [clock.read for clock in clocks], all(clock.exact for clock in clocks)
    estimates = any(clock.estimates for clock in clocks)
    note = next((clock.note for clock in clocks if clock.note), "")
    if len(clocks) == 1:
        return clocks[0]
    return replace(
        clocks[0],
        read=lambda: sum((read() for read in reads), Work()),
        note=note,
        exact=exact,
        estimates=estimates,
        counter="",
    )
