"""Optional parts of a report: the precision that was asked for, and reading from cold files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Precision:
    """How narrow the intervals were to be, what that took, and how narrow they are."""

    wanted: float
    """As a share: 0.05 asks that each step's interval is within ±5 % of the step, or ±1 % of the whole."""
    found: float | None
    """The same of the widest interval: at most ``wanted`` where it was reached; None where ``widest`` has no figure."""
    widest: str
    """Which interval is the widest: the step, or the whole, and the quantity."""
    builds: int
    """Independent builds that were measured."""
    rounds: int
    """Rounds of windows on each."""
    planned_s: float
    """Wall seconds that were announced as the longest."""
    took_s: float
    """Wall seconds that it took."""

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Precision:
        """The inverse of `to_dict`."""
        return cls(**data)

    @property
    def reached(self) -> bool:
        """Whether the widest interval is as narrow as was asked."""
        return self.found is not None and self.found <= self.wanted


@dataclass(frozen=True)
class ColdRun:
    """What was done so that files are read from their device, not from the page cache."""

    files: int
    """Files whose pages were dropped before each window that reads."""
    bytes: int
    """Their size."""
    resident_bytes: int | None
    """Bytes that were still in the page cache after dropping, at most; None where that can't be told."""
    problem: str = ""
    """Why some could not be dropped; empty where all were."""

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ColdRun:
        """The inverse of `to_dict`."""
        return cls(**data)
