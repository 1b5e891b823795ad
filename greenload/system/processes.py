"""Tells a process from another that has its number later."""

from __future__ import annotations

import os
from pathlib import Path

from greenload.system.kernel_files import kernel_text

_START = 19
"""Place of the start time in ``/proc/PID/stat`` behind the name: field 22 of proc(5)."""


def identity(pid: int, root: str | os.PathLike[str] = "/proc") -> str:
    """What a process has that no other of its number has: when it started. Empty where no such process runs.

    Args:
        pid: its number.
        root: where the system lists processes.

    Example:
        >>> identity(os.getpid()) == identity(os.getpid()), identity(2**22 + 1)
        (True, '')
    """
    if not os.path.isdir(root):
        return _by_psutil(pid)
    _, _, fields = kernel_text(Path(root) / str(pid) / "stat").rpartition(")")
    words = fields.split()
    # A zombie has ended: only its parent hasn't asked for its status yet.
    return words[_START] if len(words) > _START and words[0] not in "ZX" else ""


def _by_psutil(pid: int) -> str:
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""
