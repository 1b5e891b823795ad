"""Gives free memory of the C library's heap back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give back what is free in the heap, where the C library can: glibc, on Linux.

    glibc keeps what a thread frees for threads that share its part of the heap. What building a graph frees is thus no
    use to the threads that work on batches, which take as much again.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
