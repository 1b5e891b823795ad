"""Small files of ``/proc`` that are read again and again: opened once in a process, and read in one call."""

from __future__ import annotations

import os
import threading

_LENGTH = 4096
"""More bytes than what is wanted of any of them takes."""


class ProcFile:
    """A file of ``/proc`` whose first bytes are read many times. Safe in threads.

    psutil opens, reads and closes a file for every figure, which takes six times as long as reading one that is open.
    What ``/proc/self`` names is settled when a file is opened, so a forked child opens its own.

    Args:
        path: the file.
        prefix: what its content begins with, so that a number of an open file that was closed and given to another
            file, as when a program closes all it doesn't know, isn't read for it.

    Example:
        >>> ProcFile("/proc/self/io", b"rchar:").read()[:6]
        b'rchar:'
    """

    def __init__(self, path: str, prefix: bytes = b"") -> None:
        self._path = path
        self._prefix = prefix
        self._lock = threading.Lock()
        self._opened = (0, -1)

    def read(self) -> bytes:
        """Its first 4,096 bytes, as they are now.

        Raises:
            OSError: it can't be opened or read.
        """
        data = self._read_open()
        if data is not None:
            return data
        with self._lock:
            data = self._read_open()
            return self._read_anew() if data is None else data

    def _read_open(self) -> bytes | None:
        """From the file that is open; ``None`` where there is none, or it is no longer this file."""
        pid, number = self._opened
        if pid != os.getpid():
            return None
        try:
            data = os.pread(number, _LENGTH, 0)
        except OSError:
            return None
        return data if data and data.startswith(self._prefix) else None

    def _read_anew(self) -> bytes:
        """Open it and keep it open. The number it had isn't closed: it is another file's now, or the parent's."""
        number = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(number, _LENGTH, 0)
        except OSError:
            os.close(number)
            raise
        self._opened = os.getpid(), number
        return data
