"""The costs that a report holds as frozen data with the JSON's own shape: of a step, of the whole, of epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from greenload.energy.attribution.costs import Attribution, Cost, Indistinct
from greenload.energy.figures import Figure
from greenload.report.record import Record, json_fields


@dataclass(frozen=True, kw_only=True)
class ReportStep(Cost):
    """One step of the plan and its cost."""

    name: str
    stages: tuple[str, ...]
    """The pipeline's stages that it holds: several where they are fused."""
    backend: str
    method: str
    """``"replay"`` or ``"prefix"``."""
    branch: str = ""
    """The side branch that it belongs to, where a dataset has several inputs; empty on the main chain."""
    where: str = ""
    """Where the user wrote it, ``"train.py:31"``; empty where that isn't known."""
    runs: str = "every epoch"
    """When it runs: ``"first epoch"`` in front of a cache that the first epoch fills, ``"no epoch"`` in front of one
    that was filled already. Where it doesn't run in every epoch its cost here is zero: that of later epochs."""

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        own, costs = json_fields(self, ReportStep), json_fields(self, Cost)
        unsaid = {"runs"} if self.runs == "every epoch" else set()
        return {name: value for name, value in own.items() if name not in costs.keys() | unsaid} | costs

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ReportStep:
        """The inverse of `to_dict`."""
        return cls(
            **cost(data),
            name=data["name"],
            stages=tuple(data["stages"]),
            backend=data["backend"],
            method=data["method"],
            branch=data.get("branch", ""),
            where=data.get("where", ""),
            runs=data.get("runs", "every epoch"),
        )


@dataclass(frozen=True, kw_only=True)
class FullRun(Cost, Record):
    """The whole pipeline at full speed, held out from the steps' costs. Joules without the idle floor."""

    samples_per_s: Figure

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FullRun:
        """The inverse of `to_dict`."""
        return cls(**cost(data), samples_per_s=Figure.from_dict(data["samples_per_s"]))


@dataclass(frozen=True)
class IdleCost(Record):
    """The idle machine: its power, and its energy while one sample passes."""

    power_w: Mapping[str, Figure] = field(default_factory=dict)
    """Watts by domain."""
    energy_j_per_sample: Mapping[str, Figure] = field(default_factory=dict)
    """Joules by domain while one sample passes at full speed."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IdleCost:
        """The inverse of `to_dict`."""
        return cls(domains(data.get("power_w", {})), domains(data.get("energy_j_per_sample", {})))


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
class FirstEpoch:
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
    """``full`` with the idle floor."""
    together: tuple[Indistinct, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        return {
            "steps": [step.to_dict() for step in self.steps],
            "full": self.full.to_dict(),
            "idle": self.idle.to_dict(),
            "unattributed": json_fields(self.unattributed, Cost),
            "total": json_fields(self.total, Cost),
            **({"together": [group.to_dict() for group in self.together]} if self.together else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FirstEpoch:
        """The inverse of `to_dict`."""
        return cls(
            steps=tuple(map(ReportStep.from_dict, data["steps"])),
            full=FullRun.from_dict(data["full"]),
            idle=IdleCost.from_dict(data["idle"]),
            unattributed=Cost(**cost(data["unattributed"])),
            total=Cost(**cost(data["total"])),
            together=tuple(map(Indistinct.from_dict, data.get("together", ()))),
        )


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
    """Joules by domain, without the idle floor."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IteratorStart:
        """The inverse of `to_dict`."""
        return cls(
            Figure.from_dict(data["cpu_s"]),
            Figure.from_dict(data["wall_s"]),
            data["samples"],
            domains(data.get("energy_j", {})),
        )


def domains(data: Mapping[str, Any]) -> dict[str, Figure]:
    """Figures by domain, of JSON."""
    return {name: Figure.from_dict(figure) for name, figure in data.items()}


def cost(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a `Cost`, of JSON."""
    device, reads = data.get("device_bytes_per_sample"), data.get("reads_per_sample")
    return {
        "cpu_s_per_sample": Figure.from_dict(data["cpu_s_per_sample"]),
        "energy_j_per_sample": domains(data["energy_j_per_sample"]),
        "device_bytes_per_sample": Figure.missing() if device is None else Figure.from_dict(device),
        "bytes_out_per_sample": data.get("bytes_out_per_sample"),
        "reads_per_sample": Figure.missing() if reads is None else Figure.from_dict(reads),
    }


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
