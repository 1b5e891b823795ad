"""What a training run spent, as frozen data: a `FitReport` of what was `Spent` in all and in each epoch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenload.energy.meters.base import MeterStatus
from greenload.errors import ReportError, UsageError
from greenload.machine import Machine
from greenload.report.data import Report
from greenload.report.record import json_fields, load_record, save_json, save_page, typed_fields
from greenload.report.validation import FIT_SCHEMA, is_of, validate
from greenload.text import screen_width
from greenload.training.drift import Drift
from greenload.training.spent import Spent
from greenload.training.timeline import Timeline

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """Where the energy of a ``fit`` went. ``print(report)`` shows it as a table.

    Example:
        >>> callback.report.fit.waiting_share, callback.report.fit.loader.cpu_s.value
        (0.31, 92.4)
    """

    created: str
    """ISO 8601 date and time of the end, with its offset from UTC."""
    machine: Machine
    meters: tuple[MeterStatus, ...]
    model: str
    """The model's name."""
    profile: str
    """What the loader's costs were profiled on; empty where nobody profiled it."""
    ended: str = ""
    """What ended the fit early, ``"KeyboardInterrupt"``; empty where it went to its end."""
    fit: Spent
    """The whole time, with what ran between epochs."""
    epochs: tuple[Spent, ...]
    timeline: Timeline | None = None
    """Watts by step over the time of a fit on a watched dataset; None where none was used."""
    drift: tuple[Drift, ...] = ()
    """Steps of a watched dataset against what they cost in the profile, or in the baseline."""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON data, valid by `FIT_SCHEMA`."""
        return {"schema": FIT_SCHEMA} | json_fields(self, FitReport)

    @classmethod
    def from_dict(cls, data: Any) -> FitReport:
        """The inverse of `to_dict`.

        Raises:
            ReportError: the data isn't a fit's report of this version; names the value that breaks a rule.
        """
        validate(data, FIT_SCHEMA)
        try:
            return cls(**typed_fields(cls, data))
        except UsageError as error:
            raise ReportError(f"a fit's figures must make sense: {error}; save the report again") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FitReport:
        """Read a report that `save` wrote.

        Raises:
            ReportError: the file can't be read, isn't JSON, or isn't a fit's report of this version; names the file.
        """
        return load_record(path, cls.from_dict)

    def html(self) -> str:
        """The report as one self-contained page: where the joules went, and watts by step over time.

        Raises:
            ReportError: jinja2 is missing.
        """
        from greenload.training.fit_page import fit_html

        return fit_html(
            self.fit,
            self.epochs,
            model=self.model,
            ended=self.ended,
            machine=self.machine,
            meters=self.meters,
            timeline=self.timeline,
            drift=self.drift,
        )

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page: all of it, or the file stays as it was.

        Raises:
            ReportError: the file can't be written, or jinja2 is missing.
        """
        save_page(path, self.html())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON: all of it, or the file stays as it was.

        Raises:
            ReportError: the file can't be written.
        """
        save_json(path, self.to_dict())

    def render(self) -> RenderableType:
        """The report as a table for a rich console."""
        from greenload.training.fit_table import render_fit  # rich takes long to import

        return render_fit(
            self.fit,
            self.epochs,
            self.meters,
            model=self.model,
            profile=self.profile,
            ended=self.ended,
            drift=self.drift,
        )

    def __str__(self) -> str:
        return fit_text(self, screen_width())


def fit_text(report: FitReport, width: int = 100) -> str:
    """A report as plain text, ``width`` columns wide."""
    from greenload.report.columns import plain_text  # rich takes long to import

    return plain_text(report.render(), width)


def load_report(path: str | os.PathLike[str]) -> Report | FitReport:
    """Read a profile's report or a fit's, whichever a file holds.

    Raises:
        ReportError: the file can't be read, isn't JSON, or is neither of this version; names the file.

    Example:
        >>> load_report("fit.json").fit.waiting_share
        0.31
    """
    return load_record(path, report_of)


def report_of(data: Any) -> Report | FitReport:
    """A profile's report or a fit's, whichever JSON data are.

    Raises:
        ReportError: they are neither of this version.
    """
    return FitReport.from_dict(data) if is_of(data, FIT_SCHEMA) else Report.from_dict(data)
