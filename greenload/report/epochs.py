"""What epochs cost that differ: the first one, which fills caches, and what starting each one takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from greenload.energy.attribution.costs import Cost, Indistinct
from greenload.energy.figures import Figure
from greenload.report.costs import FullRun, Idle, Step, cost, cost_to_dict, domains, domains_to_dict


@dataclass(frozen=True)
class CacheState:
    """A cache of the pipeline as it was found."""

    name: str
    """Of its step."""
    path: str = ""
    """The file, or folder, that keeps it; empty for one in memory."""
    filled: bool = False
    """Whether it was there already, so that the first epoch reads it, too."""

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CacheState:
        """The inverse of `to_dict`."""
        return cls(data["name"], data.get("path", ""), data.get("filled", False))


@dataclass(frozen=True)
class FirstEpoch:
    """The epoch that fills the caches. Its fields are as those of `Report`, which are of later epochs.

    A cache's row is what writing it costs. A row behind it is the same as in later epochs.
    """

    steps: tuple[Step, ...]
    full: FullRun
    """The whole pipeline in such an epoch, held out from the steps."""
    idle: Idle
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
            "unattributed": cost_to_dict(self.unattributed),
            "total": cost_to_dict(self.total),
            **({"together": [one.to_dict() for one in self.together]} if self.together else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FirstEpoch:
        """The inverse of `to_dict`."""
        return cls(
            steps=tuple(map(Step.from_dict, data["steps"])),
            full=FullRun.from_dict(data["full"]),
            idle=Idle.from_dict(data["idle"]),
            unattributed=Cost(**cost(data["unattributed"])),
            total=Cost(**cost(data["total"])),
            together=tuple(map(Indistinct.from_dict, data.get("together", ()))),
        )


@dataclass(frozen=True)
class IteratorStart:
    """What starting an iterator costs, beyond what its samples do: once an epoch."""

    cpu_s: Figure
    """CPU seconds of one start."""
    wall_s: Figure
    """Seconds by which one start makes an epoch longer."""
    samples: float
    """Samples in an epoch."""
    energy_j: Mapping[str, Figure] = field(default_factory=dict)
    """Joules by domain, without the idle floor."""

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        return {
            "cpu_s": self.cpu_s.to_dict(),
            "wall_s": self.wall_s.to_dict(),
            "samples": self.samples,
            "energy_j": domains_to_dict(self.energy_j),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IteratorStart:
        """The inverse of `to_dict`."""
        return cls(
            Figure.from_dict(data["cpu_s"]),
            Figure.from_dict(data["wall_s"]),
            data["samples"],
            domains(data.get("energy_j", {})),
        )
