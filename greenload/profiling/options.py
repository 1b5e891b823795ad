"""How a profile is taken: what ``greenload.profile`` was asked for, checked once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from greenload import scalars
from greenload.energy.attribution.precision import check_precision
from greenload.energy.meters.base import MeterStatus
from greenload.energy.sampler import Sampler
from greenload.errors import UsageError
from greenload.profiling.windows import Progress

Announce = Callable[[str], None]
"""Told, before anything is measured, how long a profile is planned to be, and later if a precision is out of reach."""
Watch = Callable[[Sampler, Sequence[MeterStatus]], AbstractContextManager[object]]
"""Makes what is entered while a profile's meters run."""
SAMPLES = 512
"""Different samples that a profile works on, at most."""
ROUNDS = 5
"""Rounds of adjacent windows on each of two builds, or for as many on more and shorter ones."""
COUNT_ROWS = "rows"
"""What ``samples_per_element`` may be where elements are batches of different sizes."""


def silent(share: float, text: str) -> None:
    """Progress that nobody follows."""


def unwatched(sampler: Sampler, statuses: Sequence[MeterStatus]) -> AbstractContextManager[object]:
    """Nothing that is entered while the meters run."""
    return nullcontext()


@dataclass(frozen=True, kw_only=True)
class Options:
    """What ``greenload.profile`` was asked for beside the pipeline. Its arguments are explained there.

    NumPy's numbers become Python's.

    Raises:
        UsageError: an argument is out of range.
    """

    backend: str | Mapping[str, str] = "auto"
    threads: int | None = None
    samples: int = SAMPLES
    rounds: int = ROUNDS
    seed: int = 0
    name: str | None = None
    on_error: str = "raise"
    precision: float | None = None
    cold: bool = False
    samples_per_element: float | str | None = None
    progress: Progress = silent
    announce: Announce | None = None
    watch: Watch = unwatched
    advise: bool = True
    """Whether changes that may be worth making are tried, last."""

    def __post_init__(self) -> None:
        samples, rounds, seed = map(scalars.whole, (self.samples, self.rounds, self.seed))
        if samples is None or rounds is None or samples < 1 or rounds < 2:
            raise UsageError(
                f"samples must be at least 1 and rounds at least 2, not {self.samples!r} and {self.rounds!r}"
            )
        if seed is None or seed < 0:
            raise UsageError(f"seed must be a whole number from 0, not {self.seed!r}")
        scalars.one_of(UsageError, "on_error", self.on_error, ("raise", "skip"))
        checked: dict[str, Any] = {"samples": samples, "rounds": rounds, "seed": seed}
        if self.precision is not None:
            checked["precision"] = check_precision(scalars.number(self.precision) or self.precision)
        checked["samples_per_element"] = checked_samples_per_element(self.samples_per_element)
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def checked_samples_per_element(given: Any) -> float | str | None:
    """Samples in an element as a user says it: a positive number, ``"rows"``, or None.

    Raises:
        UsageError: it is anything else.
    """
    if given is None or (isinstance(given, str) and given == COUNT_ROWS):
        return given
    number = scalars.number(given)
    if number is None or number <= 0:
        raise UsageError(
            f"samples_per_element must be a positive number, or 'rows' where each element is a batch, not {given!r}"
        )
    return number
