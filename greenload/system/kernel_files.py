"""Reads text and numbers from the files in which the kernel describes the machine: sysfs and proc."""

from __future__ import annotations

from pathlib import Path

from greenload.system.json_data import shown

LARGEST_COUNT = 2**64 - 1
"""The largest of the kernel's counters (u64)."""


def kernel_count(text: str) -> int:
    """A counter's value.

    Raises:
        ValueError: it is no whole number from 0 to `LARGEST_COUNT`; says what it is, in one line.

    Example:
        >>> kernel_count("262143328850\\n")
        262143328850
    """
    digits = text.strip()
    value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= len(str(LARGEST_COUNT)) else -1
    if not 0 <= value <= LARGEST_COUNT:
        raise ValueError(f"a counter is a whole number below 2^64, and reads {shown(digits)}")
    return value


def kernel_text(path: Path) -> str:
    """A file's text; empty where it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
