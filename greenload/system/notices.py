"""Warns with the line of the user's code that led here."""

from __future__ import annotations

import sys
import warnings

from greenload.text import printable

_PASSED = ("greenload", "functools", "weakref")


def notify(message: str) -> None:
    """Warn as if from the line outside greenload that called it: Python shows a text once per such line.

    Characters that can't be shown, as in names of files, are escaped.
    """
    frame, level = sys._getframe(1), 2
    # Between greenload's frames there are those of functools, whose cached properties list folders, and of weakref,
    # which closes iterators.
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED:
        frame, level = frame.f_back, level + 1
    warnings.warn(printable(message), stacklevel=level)
