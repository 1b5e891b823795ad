"""What a search found, as frozen records with the JSON's own shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from greenload.energy.figures import Figure
from greenload.report.record import Record

PARTS = ("starting", "first epoch", "later epochs", "storage", "memory", "idle")
"""What a training's cost consists of, in the order of showing: building the pipeline; the first epoch, which fills what
is kept; the others; bytes from and to the device; memory held; the node's idle power while the trainer waits."""


@dataclass(frozen=True, kw_only=True)
class Outlay(Record):
    """What a plan spends on a whole training. A part that isn't counted in a unit is missing there, as CPU seconds of
    memory held."""

    energy_j: Figure
    """Joules of all parts and domains together. ``systematic`` is the widest band among the models that count."""
    cpu_s: Figure
    """CPU seconds of this process."""
    seconds: Figure
    """Wall seconds of the training, as far as the loader decides them."""
    parts_j: Mapping[str, Figure] = field(default_factory=dict)
    """Joules by part, of `PARTS`."""
    per_epoch_j: Figure = field(default_factory=Figure.missing)
    """Joules of a later epoch, all parts that recur in it."""


@dataclass(frozen=True, kw_only=True)
class Rates(Record):
    """What was measured of a plan: per sample where nothing else is said. A sample has its part of what beginning an
    epoch takes, by an iterator of its own, as ``model.fit`` begins each. Intervals are those of one further run of the
    plan: the scatter between builds is in them, and that between samples where not all were drawn."""

    start_cpu_s: Figure = field(default_factory=Figure.missing)
    """CPU seconds once, beyond what the first epoch takes: building and tracing the pipeline, and what the first one of
    a process takes more; loading TensorFlow itself isn't counted."""
    first_cpu_s: Figure = field(default_factory=Figure.missing)
    """CPU seconds of a sample in the first epoch: with filling what is kept, where something is."""
    later_cpu_s: Figure = field(default_factory=Figure.missing)
    """CPU seconds of a sample in later epochs."""
    first_energy_j: Mapping[str, Figure] = field(default_factory=dict)
    """Joules by domain of a sample in the first epoch, net of the idle machine; only of counters."""
    later_energy_j: Mapping[str, Figure] = field(default_factory=dict)
    """The same in later epochs."""
    first_samples_per_s: Figure = field(default_factory=Figure.missing)
    """At full speed, in the first epoch."""
    later_samples_per_s: Figure = field(default_factory=Figure.missing)
    """At full speed, in later epochs."""
    first_read_bytes: float = 0.0
    """Bytes of a sample from the device in the first epoch."""
    later_read_bytes: float = 0.0
    """The same in a later one: 0 where files stay in the page cache, or all is kept in memory."""
    written_bytes: float = 0.0
    """Bytes of a sample to the device in the first epoch."""
    builds: int = 0
    """Independent builds that the figures are of."""
    windows: int = 0


@dataclass(frozen=True, kw_only=True)
class Candidate(Record):
    """One plan that was considered, and what became of it."""

    name: str
    """As a table shows it, unique: ``"native, planes in memory, 2 threads"``."""
    backends: str
    """The backend; of several, which does what."""
    kept: str = ""
    """What is kept between epochs, and where: ``"planes in memory"``; empty for nothing."""
    share: float = 1.0
    """The share of the set that is kept; 1 where nothing is."""
    threads: int
    prefetch: int
    changes: tuple[str, ...] = ()
    """Relaxations of pixels that it makes, of `greenload.optimization.training.RELAXATIONS`."""
    today: bool = False
    """Whether it is the plan of the pipeline as it was given."""
    ram_bytes: float = 0.0
    """Held in memory between epochs; infinite where it isn't known, which JSON says as null."""
    disk_bytes: float = 0.0
    """Kept on disk."""
    expected_cpu_s: float | None = None
    """CPU seconds of a sample in a later epoch, by the table of costs; None where that can't tell."""
    rates: Rates = field(default_factory=Rates)
    """As measured; all missing of a plan that was only priced."""
    outlay: Outlay | None = None
    """Of the whole training; None where it wasn't measured."""
    lost: str = ""
    """Why it wasn't chosen, in one sentence; empty for the winner."""
    break_even_epoch: int | None = None
    """The first epoch at whose end what has to be prepared has paid off against the cheapest plan that keeps nothing;
    None where it never does, where nothing is prepared, or where later epochs of the two can't be told apart."""

    def to_dict(self) -> dict[str, Any]:
        """In the report's JSON shape."""
        data = super().to_dict()
        return data if math.isfinite(self.ram_bytes) else data | {"ram_bytes": None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return super().from_dict({**data, "ram_bytes": math.inf} if data.get("ram_bytes", 0.0) is None else data)


@dataclass(frozen=True, kw_only=True)
class HeldOut(Record):
    """A plan built and run once more, on samples that nothing was decided by where there are enough."""

    name: str
    epochs: int
    samples: int
    predicted_cpu_s: Figure
    """CPU seconds of that run, as the measured rates say: the interval is for one further run."""
    seen_cpu_s: float
    predicted_energy_j: Figure = field(default_factory=Figure.missing)
    seen_energy_j: float | None = None
    other: bool = True
    """Whether its samples are others than those that decided; else there were too few, and only its draws are."""

    @property
    def inside(self) -> bool:
        """Whether what was seen lies in the predicted interval of CPU seconds."""
        low, high = self.predicted_cpu_s.low, self.predicted_cpu_s.high
        return low is not None and high is not None and low <= self.seen_cpu_s <= high


@dataclass(frozen=True, kw_only=True)
class Flip(Record):
    """A modelled coefficient, and where the choice would be another."""

    coefficient: str
    """``"watts per GB held"``, ``"watts of a busy CPU"``, ``"joules per GB from the device"``, ``"idle watts"``."""
    value: float
    """As used."""
    band: float
    """Its relative band."""
    at: float | None
    """The nearest value at which another plan would be chosen; None where there is none."""
    plan: str = ""
    """Which one."""

    @property
    def within(self) -> bool:
        """Whether that value lies within the coefficient's band."""
        return self.at is not None and abs(self.at - self.value) <= self.band * self.value


@dataclass(frozen=True, kw_only=True)
class Moved(Record):
    """How far a relaxation moves pixels, measured on the user's images."""

    change: str
    images: int
    mean: float
    """Mean absolute difference, in levels of 255; of float images in the same share of their range."""
    most: float
    """The largest."""
    detail: str = ""
    """What else is to be known: what to check."""


@dataclass(frozen=True, kw_only=True)
class Pace(Record):
    """Racing to idle against keeping pace, both at the demanded rate; where a counter reads."""

    threads: int
    power_w: Figure
    """Of the machine, all measured domains, idle power included."""
