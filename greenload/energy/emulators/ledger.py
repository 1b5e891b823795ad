"""The ledger of an emulated machine: a small shared file in which work notes the CPU seconds and bytes it has used.

From outside, a process's CPU seconds say nothing of what they did. Work that wants its own watts notes them, in slices
of about a millisecond so that the emulator sees them in time. Standard library only: the emulator's writer reads it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import struct
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

from greenload.errors import MeterError, UsageError

_MAGIC = 0x6C6564676572
_HEADER = 4096
_SLOTS = 4096
_SLOT = 32
_SIZE = _HEADER + _SLOTS * _SLOT

_lock = threading.Lock()


def _renew_lock() -> None:
    """A fork may have copied the lock while another thread held it."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def create_ledger(path: Path, kinds: Sequence[str]) -> None:
    """Make an empty ledger for some kinds of work."""
    text = json.dumps(list(kinds)).encode()
    content = struct.pack("<QQQ", _MAGIC, 0, len(text)) + text
    path.write_bytes(content.ljust(_SIZE, b"\0"))


class Ledger:
    """A ledger opened for reading and writing. Safe in threads, and in forked children, which get slots of their own.

    Each process has one slot per kind, and each number in it is 8 aligned bytes that only this process writes.

    Args:
        path: the file, as from :func:`create_ledger`.

    Raises:
        MeterError: there is no ledger.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     create_ledger(Path(folder, "ledger"), ["parsing"])
        ...     ledger = Ledger(Path(folder, "ledger"))
        ...     ledger.add("parsing", cpu_s=0.001, moved_bytes=4096)
        ...     ledger.read()
        [(…, 'parsing', 0.001, 4096)]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._file)
            self._map = mmap.mmap(self._file, _SIZE)
        except (OSError, ValueError) as error:
            raise MeterError(
                f"a ledger is made by the emulator, and {path} isn't one: {error}: start it first"
            ) from error
        magic, _, length = struct.unpack_from("<QQQ", self._map, 0)
        if magic != _MAGIC:
            raise MeterError(f"a ledger is made by the emulator, and {path} isn't one: start it first")
        self.kinds: tuple[str, ...] = tuple(json.loads(self._map[24 : 24 + length]))
        """Kinds of work that may be noted."""
        self._words = memoryview(self._map).cast("Q")
        self._slots: dict[tuple[int, str], int] = {}

    def add(self, kind: str, cpu_s: float, moved_bytes: int = 0) -> None:
        """Note work that this process has just done.

        Args:
            kind: one of ``kinds``.
            cpu_s: its CPU seconds, as of ``time.thread_time``.
            moved_bytes: bytes that it moved from or to memory.
        """
        with _lock:
            slot = self._slot(kind)
            self._words[slot + 2] += round(cpu_s * 1e9)
            self._words[slot + 3] += moved_bytes

    def address(self, kind: str) -> int:
        """Where this process's CPU time of a kind is counted: 8 aligned bytes, in nanoseconds, for native code.

        That adds to them in place of `add`, not beside it, and as long as this object lives.
        """
        with _lock:
            slot = self._slot(kind)
        return ctypes.addressof(ctypes.c_char.from_buffer(self._map)) + 8 * (slot + 2)

    def _slot(self, kind: str) -> int:
        key = (os.getpid(), kind)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = self._take(*key)
        return slot

    def _take(self, pid: int, kind: str) -> int:
        if kind not in self.kinds:
            raise UsageError(f"the emulator knows work of the kinds {self.kinds}, got {kind!r}: name it in its weights")
        # A record lock excludes other processes, the parent of a fork too; the module's lock excludes threads.
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            used = self._words[1]
            if used == _SLOTS:
                raise MeterError(
                    f"a ledger has {_SLOTS} slots, one a process and kind, and all are taken: make another"
                )
            slot = (_HEADER + used * _SLOT) // 8
            self._words[slot], self._words[slot + 1] = pid, self.kinds.index(kind)
            self._words[1] = used + 1
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        return slot

    def read(self) -> list[tuple[int, str, float, int]]:
        """What has been noted so far: process id, kind, CPU seconds and bytes moved of each slot."""
        first, used = _HEADER // 8, self._words[1]
        words = self._words[first : first + 4 * used].tolist()
        return [(words[i], self.kinds[words[i + 1]], words[i + 2] / 1e9, words[i + 3]) for i in range(0, len(words), 4)]
