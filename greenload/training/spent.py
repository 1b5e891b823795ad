"""What a training run, or one of its epochs, spent, by the `EnergyPart` it went into: frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from greenload.energy.attribution.costs import HAND_OVER
from greenload.energy.figures import Figure, sum_figures
from greenload.profiling.in_place.model import BALANCED, SATURATED, STARVED, Buffer, pace_of
from greenload.report.record import Record, typed_fields

WAITED = 0.1
"""Share of the training's time from which a training is called starved: so much a quicker loader could save at most."""


@dataclass(frozen=True, slots=True)
class EnergyPart(Record):
    """The energy of one share of a training run."""

    name: str
    """``"loader"``, ``"waiting"``, ``"model"``, ``"validation"``, ``"others"``, ``"idle"``, ``"total"``, or a step."""
    energy_j: Mapping[str, Figure]
    """Joules by domain. A figure that can't be had is missing, never zero."""
    cpu_s: Figure | None = None
    """CPU seconds; None where a part has none of its own (waiting, idle)."""

    @property
    def total_j(self) -> Figure:
        """Joules of all domains together, of the weakest provenance among them; missing where a counter's are."""
        return sum_figures(self.energy_j.values(), common=True) if self.energy_j else Figure.missing()


@dataclass(frozen=True, slots=True)
class WatchedPart(EnergyPart):
    """What a step of a watched dataset took while the model trained: its function, without tf.data's hand-over."""

    step: str = ""
    """The step's own name, without its dataset's."""
    dataset: str = ""
    """The name of the watched dataset, as ``"train.py:12"``."""
    where: str = ""
    """Where the user wrote the step, as ``"train.py:31"``."""
    calls: int = 0
    """How often its function was called."""
    samples: float | None = None
    """Samples that left the dataset meanwhile; None where that can't be seen."""
    sample_unit: str = "element"
    """What a sample is: a row of a batch, or an element of the dataset."""
    waiting_s: float | None = None
    """Seconds in which its calls had no processor (reads, locks, the interpreter, other processes), summed over calls
    that ran beside each other; None where none was timed."""
    cpu_s_per_call: Figure = field(default_factory=Figure.missing)
    """CPU seconds of a call, with the interval by which its mean varied from second to second."""
    note: str = ""
    """What its clock can't see; empty where it sees all."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What the training step was fed in a window."""

    batches: int | None
    """Batches trained on; None where they can't be counted."""
    samples: int | None
    """Samples in them; None where they can't be counted."""
    waiting_s: float | None
    """Seconds that the step waited for batches, the host's time; None where that can't be seen."""
    unknown: tuple[str, ...] = ()
    """Why something is None, and what helps."""
    ranks: tuple[int | None, ...] = ()
    """How many axes each tensor of a batch has; empty where that isn't known, or differed."""
    unknown_kind: tuple[str, ...] = ()
    """Why it isn't known whether an epoch filled the caches of the profile, or read them, and what helps."""


@dataclass(frozen=True, slots=True)
class Spent:
    """The energy of a fit, or of one of its epochs, by what it went into."""

    name: str
    """``"fit"``, or ``"epoch 3"``."""
    start_ns: int
    """When it began, on the monotonic clock."""
    wall_s: float
    """Seconds from begin to end, validation and callbacks included."""
    validation_s: float
    """Seconds of them in validation."""
    passed: Passed
    total: EnergyPart
    """All joules of the time; CPU seconds of this process."""
    loader: EnergyPart
    """Preparing the samples trained on. Missing without a profile."""
    steps: tuple[EnergyPart, ...]
    """The loader's part by step of the profile."""
    waiting: EnergyPart
    """Joules of the idle power while the step waited for a batch: the loader's doing, but none of its work."""
    model: EnergyPart
    """The remainder: forward, backward, update, callbacks, compilation in the first epoch."""
    work: EnergyPart
    """The sum of loader and model, which needs no profile."""
    validation: EnergyPart
    """All work of validation, its own loading included. Empty where there was none."""
    others: EnergyPart
    """What the rest of the machine drew beyond what it did while the idle power was measured; of counters alone."""
    idle: EnergyPart
    """Joules of the idle power in the rest of the time."""
    void: Mapping[str, str] = field(default_factory=dict)
    """Domains without a figure, and why."""
    notes: tuple[str, ...] = ()
    """What to know before trusting the figures."""
    validation_steps: tuple[WatchedPart, ...] = ()
    """What watched steps took of the validation's part."""
    buffers: tuple[Buffer, ...] = ()
    """What the runtime told of the dataset that was trained on, the last step first; empty where it tells nothing."""
    does_not_fit: str = ""
    """Why the profile's costs can't be those of this time's samples, where they come to more than was used: loader and
    model are then one figure; of a watched dataset the loader is its functions alone. Empty where they may be."""

    @property
    def waiting_share(self) -> float | None:
        """Share of the training's time, validation apart, in which the step waited for a batch; None where unknown."""
        training_s = self.wall_s - self.validation_s
        waiting_s = self.passed.waiting_s
        return None if waiting_s is None or training_s <= 0 else waiting_s / training_s

    @property
    def is_watched(self) -> bool:
        """Whether the loader's part was seen by the clocks of a watched dataset."""
        return any(isinstance(step, WatchedPart) for step in self.steps)

    @property
    def hand_over(self) -> EnergyPart | None:
        """tf.data's own work beside watched steps, where a profile tells it; else it is in ``model``."""
        return next((step for step in self.steps if step.name == HAND_OVER), None) if self.is_watched else None

    @property
    def buffered_bytes(self) -> float | None:
        """RAM in the loader's buffers, on average; None where the runtime tells nothing, or counts one wrongly."""
        known = [buffer.bytes for buffer in self.buffers if buffer.bytes is not None]
        return sum(known) if self.buffers and len(known) == len(self.buffers) else None

    @property
    def pace(self) -> str:
        """Who waits for whom: ``"starved"``: the training waited for the loader; ``"saturated"``: the loader waited for
        the training, behind full buffers; ``"balanced"``: neither much; empty where that isn't known."""
        share = self.waiting_share
        full = next((buffer.full for buffer in self.buffers if buffer.full is not None), None)
        if share is not None and share >= WAITED:
            return STARVED
        told = "" if full is None else pace_of(full)
        if share is None or told == SATURATED:
            return told
        return BALANCED

    @property
    def parts(self) -> tuple[EnergyPart, ...]:
        """Those that add up to ``total``; loader and model as one where they can't be told apart."""
        is_known = self.loader.cpu_s is not None and self.loader.cpu_s.value is not None
        work = (self.loader, self.waiting, self.model) if is_known else (self.work, self.waiting)
        return (*work, *((self.validation,) if self.validation_s else ()), self.others, self.idle)

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON data."""
        return {
            "name": self.name,
            "start_ns": self.start_ns,
            "wall_s": self.wall_s,
            "validation_s": self.validation_s,
            "batches": self.passed.batches,
            "samples": self.passed.samples,
            "waiting_s": self.passed.waiting_s,
            **{
                name: getattr(self, name).to_dict()
                for name in ("total", "loader", "waiting", "model", "work", "validation", "others", "idle")
            },
            "steps": [step.to_dict() for step in self.steps],
            "validation_steps": [step.to_dict() for step in self.validation_steps],
            "buffers": [buffer.to_dict() for buffer in self.buffers],
            "pace": self.pace,
            "void": dict(self.void),
            "notes": [*([self.does_not_fit] if self.does_not_fit else []), *self.notes],
            "does_not_fit": self.does_not_fit,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Spent:
        """The inverse of `to_dict`."""
        given = typed_fields(cls, data)
        said = given.get("does_not_fit", "")
        passed = {name: data[name] for name in ("batches", "samples", "waiting_s")}
        return cls(
            **given
            | {
                "passed": Passed(**passed),
                "steps": tuple(map(_part, data["steps"])),
                "notes": tuple(note for note in data["notes"] if note != said),
            }
        )


def _part(data: Mapping[str, Any]) -> EnergyPart:
    kind = WatchedPart if "calls" in data else EnergyPart
    return kind.from_dict(data)
