"""Reads a saved result of any kind: a profile's report, a fit's, a comparison of strategies, or an optimization."""

from __future__ import annotations

import os
from typing import Any

from greenload.optimization.data import Optimization
from greenload.report.data import Report
from greenload.report.record import load_record
from greenload.report.validation import COMPARE_SCHEMA, OPTIMIZATION_SCHEMA, is_of
from greenload.strategies.data import Comparison
from greenload.training.fit_report import FitReport, report_of


def load_result(path: str | os.PathLike[str]) -> Report | FitReport | Comparison | Optimization:
    """Read whichever result a file holds.

    Raises:
        ReportError: the file can't be read, isn't JSON, or is none of this version; names the file.

    Example:
        >>> load_result("compare.json").recommended
        'trivial'
    """
    return load_record(path, _read)


def _read(data: Any) -> Report | FitReport | Comparison | Optimization:
    if is_of(data, OPTIMIZATION_SCHEMA):
        return Optimization.from_dict(data)
    return Comparison.from_dict(data) if is_of(data, COMPARE_SCHEMA) else report_of(data)
