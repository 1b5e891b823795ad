"""`Optimization`: the plan that a search found, and what was measured on the way, as frozen data."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from greenload.energy.figures import Figure
from greenload.energy.meters.base import MeterStatus
from greenload.errors import ReportError, UsageError
from greenload.machine import Machine
from greenload.optimization.coefficients import Coefficients
from greenload.optimization.records import Candidate, Flip, HeldOut, Moved, Pace
from greenload.optimization.training import Settings, Training
from greenload.plans.plan import Plan
from greenload.public import public
from greenload.report.record import json_fields, load_record, save_json, typed_fields
from greenload.report.validation import OPTIMIZATION_SCHEMA, validate
from greenload.system import file_output
from greenload.text import screen_width

if TYPE_CHECKING:
    from rich.console import RenderableType

_PLANNED = "planned"


@public
@dataclass(frozen=True, kw_only=True)
class Optimization:
    """The plan that spends least on a whole training, and how it was found. ``print(found)`` shows a table.

    ``gl.load``, ``gl.iterate`` and ``gl.profile`` take it in place of its ``plan``.

    Example:
        >>> found = Optimization.load("plan.json")
        >>> found.winner, found.best.threads
        ('native, planes in memory, 2 threads', 2)
    """

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
    finished: bool = True
    """Whether the search ended by itself; else it was stopped, and goes on from its file."""

    def __post_init__(self) -> None:
        names = [candidate.name for candidate in self.candidates]
        if len(set(names)) < len(names):
            raise UsageError(f"plans have a name each, found {names}: leave repeated ones out")
        named = [self.winner, self.runner_up, *self.ties, *self.pareto, *(run.name for run in self.held_out)]
        stranger = next((name for name in named if name is not None and name not in names), None)
        if stranger is not None:
            raise UsageError(f"a search names its own plans, found {stranger!r}, which is no candidate: search again")

    @functools.cached_property
    def plan(self) -> Plan:
        """The winner's plan, as ``gl.load`` takes it. Of an optimization that was read from a file it is made anew.

        Raises:
            ReportError: the plan can't be made here: it is of another version, or of arrays (see ``gl.load_plan``).
            SourceError: the files that it reads are gone.
            BackendUnavailable: a backend that it names can't run here.
        """
        if isinstance(self.planned, Plan):
            return self.planned
        from greenload.planning.saved import plan_of

        return plan_of(self.planned)

    @property
    def planned_data(self) -> Mapping[str, Any]:
        """The winner's plan as JSON data, as a plan's file has it."""
        if not isinstance(self.planned, Plan):
            return self.planned
        from greenload.planning.saved import plan_data

        return plan_data(self.planned)

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

    def to_dict(self) -> dict[str, Any]:
        """The optimization as JSON data, valid by `OPTIMIZATION_SCHEMA`."""
        data = json_fields(replace(self, planned={}), Optimization)
        del data[_PLANNED]
        return {"schema": OPTIMIZATION_SCHEMA} | data | {"plan": dict(self.planned_data)}

    @classmethod
    def from_dict(cls, data: Any) -> Optimization:
        """The inverse of `to_dict`. The plan is made when it is asked for: what it reads need not be here.

        Raises:
            ReportError: the data isn't an optimization of this version; names the value that breaks a rule.
        """
        validate(data, OPTIMIZATION_SCHEMA)
        meters = [{"remedy": "", "meter": ""} | meter for meter in data.get("meters", [])]
        try:
            return cls(**typed_fields(cls, {**data, "meters": meters}), planned=data["plan"])
        except UsageError as error:
            raise ReportError(f"an optimization's figures must make sense: {error}; search again") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the optimization as JSON: all of it, or the file stays as it was. ``gl.load_plan`` reads its plan.

        Raises:
            ReportError: the file can't be written.
        """
        save_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Optimization:
        """Read an optimization that `save` wrote.

        Raises:
            ReportError: the file can't be read, isn't JSON, or isn't an optimization of this version; names the file.
        """
        return load_record(path, cls.from_dict)

    def html(self) -> str:
        """The optimization as one self-contained page: what to use, joules against memory held, every plan.

        Raises:
            ReportError: jinja2 is missing.
        """
        from greenload.optimization.page import optimization_html  # rarely needed, and imports the report's pages

        return optimization_html(self)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page: all of it, or the file stays as it was.

        Raises:
            ReportError: the file can't be written, or jinja2 is missing.
        """
        try:
            file_output.write(path, self.html())
        except OSError as error:
            raise ReportError(f"{path}: the page can't be written: {file_output.why(error)}") from None

    def render(self) -> RenderableType:
        """The optimization as tables for a rich console."""
        from greenload.optimization.table import render_optimization  # rich takes long to import

        return render_optimization(self)

    def __str__(self) -> str:
        from greenload.report.columns import plain_text  # rich takes long to import

        return plain_text(self.render(), screen_width())
