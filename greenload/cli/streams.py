"""Opens standard input, output and error where a command was started with one of them closed."""

from __future__ import annotations

import os
import sys


def open_closed_streams() -> None:
    """Put the null device where the process was started with one closed: the next file would take its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
