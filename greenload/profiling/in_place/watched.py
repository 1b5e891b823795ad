"""What is watched in this process: steps with clocks, and what they have done so far."""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from greenload.profiling.tfdata.names import numbered_names
from greenload.system.work import Work

_new_clock = itertools.count(1).__next__


@dataclass(frozen=True)
class WatchedStep:
    """A step with a clock around it."""

    name: str
    """As a profile calls it."""
    kind: str
    """``"map"``, ``"filter"``, ``"from_generator"`` …; for a pipeline of greenload's the backend."""
    read: Callable[[], Work]
    """Gives what it has done so far, in all iterators together."""
    where: str = ""
    """``"train.py:31"``, where the user wrote its function."""
    branch: str = ""
    """As a profile's."""
    note: str = ""
    """What its clock can't see, as a sentence; empty where it sees all."""
    estimates: bool = True
    """Whether its clock may time a part of the calls only: then as many timed as called doesn't say that all were, as
    one that is timed stands for others, chosen at random."""
    clocks: frozenset[int] = field(default_factory=lambda: frozenset({_new_clock()}), compare=False)
    """Those of this process that it adds up: work that several watched datasets have is counted once by them."""


@dataclass(frozen=True)
class Moment:
    """What has been done up to a moment. The difference of two is what was done in between."""

    time_s: float
    """By ``time.monotonic``."""
    cpu_s: float
    """Of the process, all threads."""
    steps: Mapping[str, Work]
    """By the names of the steps."""
    samples: float | None = None
    """That left the dataset; None where that can't be seen."""

    def __add__(self, other: Moment) -> Moment:
        known = self.samples is not None and other.samples is not None
        return Moment(
            self.time_s + other.time_s,
            self.cpu_s + other.cpu_s,
            {name: self.steps.get(name, Work()) + work for name, work in other.steps.items()},
            self.samples + other.samples if known else None,  # type: ignore[operator]
        )

    def __sub__(self, other: Moment) -> Moment:
        known = self.samples is not None and other.samples is not None
        return Moment(
            self.time_s - other.time_s,
            self.cpu_s - other.cpu_s,
            {name: work - other.steps.get(name, Work()) for name, work in self.steps.items()},
            self.samples - other.samples if known else None,  # type: ignore[operator]
        )


new_number = itertools.count(1).__next__
"""Gives the number of what is watched next in this process."""


@dataclass(frozen=True, eq=False)
class Watched:
    """A dataset, or batches, whose steps have clocks.

    Args:
        name: ``"train.py:12"``, where ``watch`` was called.
        steps: in the order of the data; names are unique.
        unwatched: what has no clock, and why, by name.
        samples: gives how many samples have left by what the steps did, or None where that can't be seen.
        sample_unit: what a sample is: a row of a batch, or an element of the dataset.
    """

    name: str
    steps: tuple[WatchedStep, ...]
    unwatched: Mapping[str, str] = field(default_factory=dict)
    samples: Callable[[Mapping[str, Work]], float | None] | None = None
    sample_unit: str = "element"
    iterators: Any = field(default_factory=weakref.WeakSet)
    """Those of tf.data that are alive, for what its own model says of them."""
    includes: tuple[Watched, ...] = ()
    """What was watched before in a part of it, whose steps it has too."""
    number: int = field(default_factory=new_number)
    """Of what is watched in this process."""

    def __post_init__(self) -> None:
        with _lock:
            _all.add(self)

    @property
    def telling(self) -> Collection[str]:
        """The steps whose calls tell how many samples left, by name; empty where that isn't known."""
        return tuple(getattr(self.samples, "times", ()))

    def read(self) -> Moment:
        """What has been done up to now."""
        steps = {step.name: step.read() for step in self.steps}
        samples = None if self.samples is None else self.samples(steps)
        return Moment(time.monotonic(), time.process_time(), steps, samples)


def numbered(steps: Sequence[WatchedStep]) -> tuple[WatchedStep, ...]:
    """Steps by names of their own: a later one of the same name has a number."""
    names = [step.name for step in steps]
    while len(set(names)) < len(names):
        names = numbered_names(names)
    return tuple(replace(step, name=name) for step, name in zip(steps, names, strict=True))


def all_watched() -> Sequence[Watched]:
    """All that is watched in this process and still in use, oldest first. Not what is part of another."""
    with _lock:
        found = set(_all)
    parts = {part for one in found for part in one.includes}
    return sorted(found - parts, key=lambda one: one.number)


def _after_fork() -> None:
    """A child watches nothing yet: the threads that work on what its parent watches aren't there."""
    global _lock
    _lock = threading.Lock()
    _all.clear()


_lock = threading.Lock()
_all: weakref.WeakSet[Watched] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
