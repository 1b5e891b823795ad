"""What a training run spent, as frozen data: a `FitReport` of what was `Spent` in all and in each epoch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from greenload.energy.meters.base import MeterStatus
from greenload.machine import Machine
from greenload.report.record import json_fields, save_json
from greenload.text import screen_width
from greenload.training.spent import Spent

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

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON data."""
        return {"schema": FIT_SCHEMA} | json_fields(self, FitReport)

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
        report.fit, report.epochs, report.meters, model=report.model, profile=report.profile, ended=report.ended
    )
    return plain_text(shown, width)
