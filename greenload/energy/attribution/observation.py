"""One window of a profile as data (`Observation`), and how each energy domain is measured (`Metering`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from greenload.energy.figures import PROVENANCES
from greenload.errors import UsageError
from greenload.system.work import Work

IN_PLACE = "in place"
"""Kind of the windows of the whole with clocks around its functions; also the method of the steps that these tell."""
WHOLE = "whole"
"""Kind of the windows beside them of the whole without clocks. Those of kind "full" are others, held out."""
WINDOW_KINDS = ("with", "without", "prefix", "full", WHOLE, IN_PLACE, "idle")
"""What a window ran: a replay with or without its step, a prefix ending in its step, the whole pipeline, held out,
without clocks and with clocks around its functions, or nothing."""
FIRST_EPOCH = "the first epoch"
"""Step of the windows that hold whole first epochs, of kind "with"."""
ITERATOR_START = "starting an iterator"
"""Step of the windows of epochs by iterators of their own ("with"), and by one without an end ("without")."""


def writing_step(cache: str) -> str:
    """Step of the windows in which a cache is written ("with"), and what is written only passes ("without")."""
    return f"{cache}, writing"


@dataclass(frozen=True, slots=True)
class Observation:
    """One settled window: what ran in it, and what the meters said.

    Example:
        >>> Observation("decode", "with", round=0, build=0, samples=256, wall_ns=10**9, cpu_s=1.9).samples
        256
    """

    step: str
    """The step's name; ``""`` for kinds "full" and "idle", and for "whole" and "in place" in epochs that fill no
    cache."""
    kind: str
    """One of `WINDOW_KINDS`."""
    round: int
    """Adjacent windows with and without a step share round and build."""
    build: int
    """Which independent build of the pipeline ran."""
    samples: int
    """Samples that passed; 0 for "idle"."""
    wall_ns: int
    """Monotonic length of the window."""
    cpu_s: float
    """User plus system seconds of this process."""
    other_cpu_s: float = 0.0
    """Busy CPU seconds of everything else on the machine."""
    device_bytes: float = 0.0
    """Bytes that this process read from storage devices."""
    energy_j: Mapping[str, float] = field(default_factory=dict)
    """Joules by domain: of the whole machine where measured, of this process where modelled."""
    void: Mapping[str, str] = field(default_factory=dict)
    """Domains, or names of other fields, that can't be trusted in this window, and why."""
    reads: float | None = None
    """Read system calls of this process; None where they weren't counted."""
    start_ns: int | None = None
    """When it started, monotonic, after the start of the profile's first window; None where that wasn't kept."""
    energy_wall_ns: Mapping[str, int] = field(default_factory=dict)
    """How long a domain's joules were counted, where that isn't ``wall_ns``: up to a slow counter's next refresh."""
    idle_ns: int = 0
    """For how long of ``wall_ns``, at its end, the process had nothing left to do: as long as settling takes to see."""

    counted_s: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds that steps counted in it by clocks of their own, by the steps' names: in reports of greenload before
    it measured pipelines in place."""
    work: Mapping[str, Work] = field(default_factory=dict)
    """What the clocks around steps saw in it, by the steps' names: in windows "in place", and in replays of
    steps whose joules they tell."""

    @property
    def work_ns(self) -> int:
        """How long its work took: all of its own joules and CPU seconds belong to that time."""
        return self.wall_ns - self.idle_ns

    def __post_init__(self) -> None:
        if self.kind not in WINDOW_KINDS:
            raise UsageError(f"a window's kind is one of {WINDOW_KINDS}, found {self.kind!r}: use one of them")
        if self.kind != "idle" and self.samples < 1:
            raise UsageError(f"a working window passes samples, found {self.samples} in {self.step!r}: make it longer")
        if self.wall_ns <= 0:
            raise UsageError(
                f"a window lasts more than 0 ns, found {self.wall_ns} in {self.step!r}: use monotonic time"
            )
        if not 0 <= self.idle_ns < self.wall_ns:
            raise UsageError(
                f"a window idles at its end for less than all of its {self.wall_ns} ns, found {self.idle_ns} in "
                f"{self.step!r}: use the same clock"
            )
        if self.start_ns is not None and self.start_ns < 0:
            raise UsageError(
                f"a window starts at 0 ns or later, found {self.start_ns} in {self.step!r}: count from the first window"
            )

    def to_dict(self) -> dict[str, Any]:
        """The window in the report's JSON shape; what is None is left out."""
        values = {name: value for name in self.__dataclass_fields__ if (value := getattr(self, name)) is not None}
        for name in ("energy_wall_ns", "counted_s", "work"):
            if not values[name]:
                del values[name]
        if self.work:
            values["work"] = {name: asdict(work) for name, work in self.work.items()}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Observation:
        """The inverse of `to_dict`; round, build and later fields may be absent."""
        given = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        if "work" in given:
            given["work"] = {name: Work(**work) for name, work in given["work"].items()}
        return cls(**{"round": 0, "build": 0, **given})


@dataclass(frozen=True, slots=True)
class Metering:
    """How one energy domain's figures are had."""

    provenance: str
    """One of `figures.PROVENANCES`. Measured joules contain the idle power's and those of other processes."""
    systematic: float = 0.0
    """Relative band of its model."""

    def __post_init__(self) -> None:
        if self.provenance not in PROVENANCES:
            raise UsageError(f"a provenance is one of {PROVENANCES}, found {self.provenance!r}: use one of them")


def counted_ns(window: Observation, domain: str) -> int:
    """Monotonic length of the time in which a domain's joules were counted."""
    return window.energy_wall_ns.get(domain, window.wall_ns)


def read_quantity(window: Observation, quantity: str) -> float | None:
    """``"cpu_s"``, ``"device_bytes"``, ``"reads"``, ``"work_ns"`` of a window, or a domain's joules.

    None where invalid or absent.
    """
    if quantity in window.void:
        return None
    if quantity == "reads":
        return window.reads
    if quantity in ("cpu_s", "device_bytes", "work_ns"):
        return float(getattr(window, quantity))
    value = window.energy_j.get(quantity)
    return None if value is None or not math.isfinite(value) else float(value)
