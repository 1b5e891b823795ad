"""The costs that a report holds as frozen data with the JSON's own shape: of a step, of the whole, of epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from greenload.energy.attribution.costs import Attribution, ClockFigures, Cost, Indistinct
from greenload.energy.figures import Figure
from greenload.report.record import Record


@dataclass(frozen=True)
class OwnCount(Record):
    """What a step counted itself, by the clocks of its backend, while the whole pipeline ran."""

    cpu_s_per_sample: Figure
    """CPU seconds. Zero where another step does its work in the same pass: the time is that step's."""


@dataclass(frozen=True)
class ClockRecord(Record):
    """What the clock around a step's function saw while the whole ran, beside its CPU seconds."""

    waiting_s_per_sample: Figure
    """Seconds in which its calls had no processor: reads, locks, the interpreter, other processes. Those of calls side
    by side are added up."""
    calls_per_sample: float
    crossed_share: float = 0.0
    """Of its calls, those that ended on another thread than they began on: they are taken to cost what others do."""
    replay_cpu_s_per_sample: Figure | None = None
    """CPU seconds of its replay, where it was replayed too: beside itself, not beside the other steps."""

    @classmethod
    def of(cls, figures: ClockFigures) -> ClockRecord:
        """As a report shows what attribution found."""
        crossed = min(1.0, figures.crossed_share)
        return cls(figures.waiting_s_per_sample, figures.calls_per_sample, crossed, figures.replay_cpu_s_per_sample)

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        return {name: value for name, value in super().to_dict().items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class ReportStep(Cost, Record):
    """One step of the plan and its cost."""

    name: str
    stages: tuple[str, ...]
    """The pipeline's stages that it holds: several where they are fused."""
    backend: str
    method: str
    """``"in place"``: by the clock around its function while the whole ran. ``"replay"`` or ``"prefix"``: by what it
    adds to others."""
    branch: str = ""
    """The side branch that it belongs to, where a dataset has several inputs; empty on the main chain."""
    where: str = ""
    """Where the user wrote it, ``"train.py:31"``; empty where that isn't known."""
    runs: str = "every epoch"
    """When it runs: ``"first epoch"`` in front of a cache that the first epoch fills, ``"no epoch"`` in front of one
    that was filled already. Where it doesn't run in every epoch its cost here is zero: that of later epochs."""
    in_place: OwnCount | None = None
    """What it counted itself in the held-out runs, in reports made before pipelines had `clock`: sums, budgets and
    comparisons are of the costs beside it. Else None. Not what ``method`` calls ``"in place"``."""
    clock: ClockRecord | None = None
    """What its clock saw beside CPU seconds; None where it was measured otherwise."""

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        shown = super().to_dict()
        costs = {fact.name: shown.pop(fact.name) for fact in fields(Cost)}
        if self.runs == "every epoch":
            del shown["runs"]
        optional = {name: part for name in ("in_place", "clock") if (part := shown.pop(name))}
        return shown | costs | optional


@dataclass(frozen=True, kw_only=True)
class FullRun(Cost, Record):
    """The whole pipeline at full speed, held out from the steps' costs. Joules without idle power."""

    samples_per_s: Figure


@dataclass(frozen=True)
class IdleCost(Record):
    """The idle machine: its power, and its energy while one sample passes."""

    power_w: Mapping[str, Figure] = field(default_factory=dict)
    """Watts by domain."""
    energy_j_per_sample: Mapping[str, Figure] = field(default_factory=dict)
    """Joules by domain while one sample passes at full speed."""


@dataclass(frozen=True)
class CacheState(Record):
    """A cache of the pipeline before the profile."""

    name: str
    """The name of its step."""
    path: str = ""
    """The file, or folder, that keeps it; empty for one in memory."""
    filled: bool = False
    """Whether it was there already, so that the first epoch reads it, too."""


@dataclass(frozen=True)
class FirstEpoch(Record):
    """The epoch that fills the caches. Its fields mean what those of `Report` mean, which describe later epochs.

    A cache's row is what writing it costs. A row behind it is the same as in later epochs.
    """

    steps: tuple[ReportStep, ...]
    full: FullRun
    """The whole pipeline in such an epoch, held out from the steps."""
    idle: IdleCost
    unattributed: Cost
    """``full`` less the sum of ``steps``."""
    total: Cost
    """``full`` with idle power."""
    together: tuple[Indistinct, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        shown = super().to_dict()
        if not self.together:
            del shown["together"]
        return shown


@dataclass(frozen=True)
class IteratorStart(Record):
    """What starting an iterator costs beside its samples; it starts once an epoch."""

    cpu_s: Figure
    """CPU seconds of one start."""
    wall_s: Figure
    """Seconds by which one start makes an epoch longer."""
    samples: float
    """Samples in an epoch."""
    energy_j: Mapping[str, Figure] = field(default_factory=dict)
    """Joules by domain, without idle power."""


def figures_of(cost: Cost) -> dict[str, Any]:
    """A cost's figures by the names of their fields."""
    return {fact.name: getattr(cost, fact.name) for fact in fields(Cost) if fact.name != "bytes_out_per_sample"}


def whole_costs(attribution: Attribution) -> dict[str, Any]:
    """The costs of the whole pipeline, by the names of a report's fields."""
    return {
        "full": FullRun(**figures_of(attribution.full), samples_per_s=attribution.samples_per_s),
        "idle": IdleCost(attribution.idle_power_w, attribution.idle_energy_j_per_sample),
        "unattributed": attribution.unattributed,
        "total": attribution.total,
        "together": attribution.indistinct,
    }
