"""`Optimization`: the plan that a search found, and what was measured on the way, as frozen data."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from greenload.errors import ReportError, UsageError
from greenload.optimization.outcome import Outcome
from greenload.plans.plan import Plan
from greenload.public import public
from greenload.report.record import json_fields, load_record, save_json, save_page, typed_fields
from greenload.report.validation import OPTIMIZATION_SCHEMA, validate
from greenload.text import screen_width

if TYPE_CHECKING:
    from rich.console import RenderableType

_PLANNED = "planned"


@public
@dataclass(frozen=True, kw_only=True)
class Optimization(Outcome):
    """The plan that spends least on a whole training, and how it was found. ``print(found)`` shows a table.

    ``gl.load``, ``gl.iterate`` and ``gl.profile`` take it in place of its ``plan``.

    Example:
        >>> found = Optimization.load("plan.json")
        >>> found.winner, found.best.threads
        ('native, planes in memory, 2 threads', 2)
    """

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
        save_page(path, self.html())

    def render(self) -> RenderableType:
        """The optimization as tables for a rich console."""
        from greenload.optimization.table import render_optimization  # rich takes long to import

        return render_optimization(self)

    def __str__(self) -> str:
        from greenload.report.columns import plain_text  # rich takes long to import

        return plain_text(self.render(), screen_width())
