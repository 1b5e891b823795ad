"""What a training run spent, as frozen data: a `FitReport` of what was `Spent` in all and in each epoch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from greenload.energy.meters.base import MeterStatus
from greenload.errors import ReportError
from greenload.machine import Machine
from greenload.report.record import json_fields, load_json, save_json, typed_fields
from greenload.system import file_output
from greenload.text import error_line, screen_width
from greenload.training.drift import Drift
from greenload.training.spent import Spent
from greenload.training.timeline import Timeline

FIT_SCHEMA = "greenload.fit/1"
"""The version of the format that `FitReport.save` writes."""


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
        """The report as JSON data."""
        return {"schema": FIT_SCHEMA} | json_fields(self, FitReport)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FitReport:
        """The inverse of `to_dict`."""
        return cls(**typed_fields(cls, data))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FitReport:
        """Read a report that `save` wrote.

        Raises:
            ReportError: the file can't be read, or isn't a fit's report.
        """
        data = load_json(path)
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema != FIT_SCHEMA:
            raise ReportError(
                f"{path}: a fit's report has the schema {FIT_SCHEMA!r}, found {schema!r}: give a file that "
                "EnergyCallback's report was saved in"
            )
        try:
            return cls.from_dict(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReportError(f"{path}: isn't a whole report of a fit ({error_line(error)}): save it again") from None

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
        try:
            file_output.write(path, self.html())
        except OSError as error:
            raise ReportError(f"{path}: the page can't be written: {file_output.why(error)}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON: all of it, or the file stays as it was.

        Raises:
            ReportError: the file can't be written.
        """
        save_json(path, self.to_dict())

    def __str__(self) -> str:
        return fit_text(self, screen_width())


def fit_text(report: FitReport, width: int = 100) -> str:
    """A report as plain text, ``width`` columns wide."""
    from greenload.report.columns import plain_text  # rich takes long to import
    from greenload.training.fit_table import render_fit

    shown = render_fit(
        report.fit,
        report.epochs,
        report.meters,
        model=report.model,
        profile=report.profile,
        ended=report.ended,
        drift=report.drift,
    )
    return plain_text(shown, width)
