"""What a whole process did, as it is told when its program has ended. It imports next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from greenload.profiling.in_place.live import Live

FORMAT = "greenload.watch/1"


@dataclass(frozen=True)
class ProcessSpan:
    """What a process did from the moment when it imported what makes batches."""

    live: Live
    notes: Sequence[str]
    """What couldn't be watched, and why, a sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {"format": FORMAT, **self.live.to_dict(), "notes": list(self.notes)}
