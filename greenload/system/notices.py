"""Warnings that show the user's own line."""

from __future__ import annotations

import sys
import warnings

from greenload.text import printable

_PASSED = ("greenload", "functools")


def notify(message: str) -> None:
    """Warn, as from the line outside greenload that led here: Python shows one text once for each such line.

    What can't be shown, as in names of files, is escaped.
    """
    frame, level = sys._getframe(1), 2
    # Between ours there is functools, whose cached properties list folders.
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED:
        frame, level = frame.f_back, level + 1
    warnings.warn(printable(message), stacklevel=level)
