"""The costs that a report holds, of one step and of the whole, as frozen data with the JSON's own shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from greenload.energy.attribution.costs import Attribution, Cost
from greenload.energy.figures import Figure


@dataclass(frozen=True, kw_only=True)
class Step(Cost):
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
        return {
            "name": self.name,
            "stages": list(self.stages),
            "backend": self.backend,
            "method": self.method,
            "branch": self.branch,
            "where": self.where,
            **({"runs": self.runs} if self.runs != "every epoch" else {}),
            **cost_to_dict(self),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Step:
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
class FullRun(Cost):
    """The whole pipeline at full speed, held out from the steps' costs. Joules without the idle floor."""

    samples_per_s: Figure

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        return {**cost_to_dict(self), "samples_per_s": self.samples_per_s.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FullRun:
        """The inverse of `to_dict`."""
        return cls(**cost(data), samples_per_s=Figure.from_dict(data["samples_per_s"]))


@dataclass(frozen=True)
class Idle:
    """The machine's floor."""

    power_w: Mapping[str, Figure] = field(default_factory=dict)
    """Watts by domain."""
    energy_j_per_sample: Mapping[str, Figure] = field(default_factory=dict)
    """Joules by domain while one sample passes at full speed."""

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        return {
            "power_w": domains_to_dict(self.power_w),
            "energy_j_per_sample": domains_to_dict(self.energy_j_per_sample),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Idle:
        """The inverse of `to_dict`."""
        return cls(domains(data.get("power_w", {})), domains(data.get("energy_j_per_sample", {})))


def domains(data: Mapping[str, Any]) -> dict[str, Figure]:
    """Figures by domain, of JSON."""
    return {name: Figure.from_dict(figure) for name, figure in data.items()}


def domains_to_dict(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """The inverse of `domains`."""
    return {name: figure.to_dict() for name, figure in figures.items()}


def cost_to_dict(cost: Cost) -> dict[str, Any]:
    """A cost's own fields in the report's JSON shape."""
    return {
        "cpu_s_per_sample": cost.cpu_s_per_sample.to_dict(),
        "energy_j_per_sample": domains_to_dict(cost.energy_j_per_sample),
        "device_bytes_per_sample": cost.device_bytes_per_sample.to_dict(),
        "bytes_out_per_sample": cost.bytes_out_per_sample,
        "reads_per_sample": cost.reads_per_sample.to_dict(),
    }


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


def whole(found: Attribution) -> dict[str, Any]:
    """What an attribution says of the whole, by the names of a report's fields."""
    full = FullRun(
        cpu_s_per_sample=found.full.cpu_s_per_sample,
        energy_j_per_sample=found.full.energy_j_per_sample,
        device_bytes_per_sample=found.full.device_bytes_per_sample,
        reads_per_sample=found.full.reads_per_sample,
        samples_per_s=found.samples_per_s,
    )
    return {
        "full": full,
        "idle": Idle(found.idle_power_w, found.idle_energy_j_per_sample),
        "unattributed": found.unattributed,
        "total": found.total,
        "together": found.indistinct,
    }
