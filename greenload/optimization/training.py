"""What a search is asked for: the training that is to be fed, what it may use, and what may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from greenload.report.record import Record

Objective = Literal["energy", "cpu"]
OBJECTIVES: tuple[Objective, ...] = ("energy", "cpu")
"""What the plan is to spend least of: joules of the whole training, or CPU seconds of this process."""
Relaxation = Literal["antialias", "float16", "shrunk-cache"]
RELAXATIONS: tuple[Relaxation, ...] = ("antialias", "float16", "shrunk-cache")
"""Changes of pixels that a search makes where they are allowed by name: resizing without a low-pass filter; batches of
float16 in place of float32; a cache of images made smaller than they were, larger than what is cut out of them."""


@dataclass(frozen=True, kw_only=True)
class Training(Record):
    """The training that is to be fed, and the bounds that a plan must keep to."""

    samples: int
    """Of the set, in an epoch."""
    epochs: int
    ram: int
    """Bytes that may be held in memory between epochs; 0 for nothing."""
    disk: int = 0
    """Bytes that may be kept in ``folder``; 0 for nothing."""
    folder: str | None = None
    """Where they are kept."""
    demand: float | None = None
    """Samples a second that the trainer takes; None where it takes what it gets, and waits for the rest."""
    threads: int
    """Processors that the loader may use, at most."""
    objective: Objective = "energy"
    allow: tuple[Relaxation, ...] = ()
    """Changes of pixels that are allowed."""

    @property
    def deliveries(self) -> int:
        """Samples of all epochs together."""
        return self.samples * self.epochs


@dataclass(frozen=True, kw_only=True)
class Settings(Record):
    """How a search is done."""

    seconds: float = 180.0
    """Wall seconds that it may take."""
    records: int = 512
    """Different samples that it works on, at most."""
    seed: int = 0
    """Decides which samples are drawn, and the order of windows."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else a user may want to see again: how the pipeline was named on a command line."""
