"""`Outcome`: what a search found, without the ways to show and to save it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from greenload.energy.figures import Figure
from greenload.energy.meters.base import MeterStatus
from greenload.errors import UsageError
from greenload.machine import Machine
from greenload.optimization.coefficients import Coefficients
from greenload.optimization.records import Candidate, Flip, HeldOut, Moved, Pace
from greenload.optimization.training import Settings, Training
from greenload.plans.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The fields of a `greenload.optimization.data.Optimization`, which adds its plan, its file, its table and page."""

    created: str
    """ISO 8601 date and time of the last measurement, with its offset from UTC."""
    greenload: str
    """The version that searched."""
    machine: Machine
    meters: tuple[MeterStatus, ...] = ()
    training: Training
    settings: Settings
    planned: Plan | Mapping[str, Any] = field(compare=False, repr=False)
    """The winner's plan: as the search made it, or as a file describes it, in JSON under ``"plan"``. See `plan`."""
    candidates: tuple[Candidate, ...]
    """Every plan that was considered: the winner first, then by what they cost, those that were only priced last."""
    winner: str
    """Its name among ``candidates``. Where no plan meets the demand, the one that comes nearest."""
    runner_up: str | None = None
    """The next best plan that was measured."""
    ties: tuple[str, ...] = ()
    """Plans whose cost can't be told from the winner's."""
    pareto: tuple[str, ...] = ()
    """Plans that no other beats both in joules and in memory held, those that hold least first."""
    unmet: str = ""
    """Where no plan meets the demand: what limits the nearest one, in one sentence. Empty where the winner meets it."""
    saves_j: Figure = field(default_factory=Figure.missing)
    """Joules of the whole training that the winner spends less than today's plan, from paired windows."""
    saves_cpu_s: Figure = field(default_factory=Figure.missing)
    """The same in CPU seconds."""
    coefficients: Coefficients = field(default_factory=Coefficients)
    """What turned use into joules where no counter reads."""
    flips: tuple[Flip, ...] = ()
    held_out: tuple[HeldOut, ...] = ()
    """The winner, and the runner-up, run once more."""
    moved: tuple[Moved, ...] = ()
    """How far pixels move by the changes that were allowed."""
    pace: tuple[Pace, ...] = ()
    notes: tuple[str, ...] = ()
    key: str = ""
    """Fingerprint of what was searched: a search goes on from a file of the same one alone."""

    def __post_init__(self) -> None:
        names = [candidate.name for candidate in self.candidates]
        if len(set(names)) < len(names):
            raise UsageError(f"plans have a name each, found {names}: leave repeated ones out")
        named = [self.winner, self.runner_up, *self.ties, *self.pareto, *(run.name for run in self.held_out)]
        stranger = next((name for name in named if name is not None and name not in names), None)
        if stranger is not None:
            raise UsageError(f"a search names its own plans, found {stranger!r}, which is no candidate: search again")

    @property
    def best(self) -> Candidate:
        """The winner."""
        return self.candidate(self.winner)

    @property
    def today(self) -> Candidate | None:
        """The plan of the pipeline as it was given; None where it wasn't among the candidates."""
        return next((candidate for candidate in self.candidates if candidate.today), None)

    def candidate(self, name: str) -> Candidate:
        """The candidate of a name.

        Raises:
            UsageError: there is none of this name.
        """
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        names = "; ".join(candidate.name for candidate in self.candidates)
        raise UsageError(f"a plan is one that was considered, found {name!r}: name one of {names}")
