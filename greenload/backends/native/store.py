"""What is kept of a source's files between epochs: a store of blobs by sample index, in RAM or in a folder.

The kernel does the work (``kernel/store.h``). A blob is whatever ``Op.DECODE`` reads: ``library.transcode`` makes it.
"""

from __future__ import annotations

import ctypes
import json
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from greenload.backends.native import abi, library
from greenload.backends.native.abi import Form
from greenload.backends.native.blobs import Blob
from greenload.system import file_output

KEY_BYTES = 32
BLOCKS_VERSION = 1
"""Of what blocks hold, as the kernel's ``block.cpp`` writes it."""
BLOCKS = "*.block"
"""A folder of a key has such files."""
FACTS = "about.json"
"""The file beside them that says what they are of."""
LOCK = "lock"
"""The file beside them by which processes agree on who keeps what, as the kernel's ``folder_locks.cpp`` calls it."""


@dataclass(frozen=True)
class State:
    """What a store holds."""

    kept: int
    """Samples."""
    bytes: int
    """In RAM of blobs, each rounded up to 64; in a folder of files, those of all processes as far as they were taken
    in."""
    damaged: int
    """Blobs and blocks that were found damaged."""
    refused: int
    """Blobs that were not kept for want of room."""
    full: bool
    """A block could not be written: it stays in memory, and no more are kept."""
    trouble: str
    """What went wrong last, with the folder; empty if nothing did."""


class StoreError(OSError):
    """A store can't be opened; the message says why."""


class _State(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("kept", "bytes", "damaged", "refused")),
        ("full", ctypes.c_int32),
        ("trouble", ctypes.c_char * abi.REASON_BYTES),
    )


class Store:
    """Blobs by sample index: each is put once, and stays. Safe in threads; a folder is shared by processes.

    In a process there is one store of a folder (or of RAM), key and count: opened again it is the same one, with the
    budget given last. A child process reads on what its parent's store held, and adds nothing: let it open its own.

    Args:
        folder: where blocks of blobs become files, in a sub-folder named by the key; RAM if not given.
        key: 32 bytes, the fingerprint of source, stages, form and versions.
        count: how many samples there are.
        budget: the most bytes of blobs in RAM, each rounded up to 64, or of files in the folder, those of all processes
            together; no limit if not given.
        in_common: in RAM, the budget is that of all stores of this process together of which this is true.

    Raises:
        StoreError: the folder can't be used.
        ValueError: a key of another length, or no samples.
        BackendUnavailable: the kernel can't be loaded.
    """

    def __init__(
        self, folder: Path | None, key: bytes, count: int, budget: int | None = None, in_common: bool = False
    ) -> None:
        if len(key) != KEY_BYTES or count < 1 or (budget is not None and budget < 1) or (in_common and folder):
            raise ValueError(f"a key of {len(key)} bytes, {count} samples, a budget of {budget}")
        self.key = key
        self._folder = folder
        self._library, reason = library.loaded(), ctypes.create_string_buffer(abi.REASON_BYTES)
        path = None if folder is None else os.fsencode(folder.absolute())
        bound = -(budget or 0) if in_common else budget or 0
        self._handle: int | None = self._library.gl_store_open(path, key, count, bound, reason)
        if not self._handle:
            raise StoreError(f"{folder}: {reason.value.decode(errors='replace')}")
        self._closing = weakref.finalize(self, self._library.gl_store_close, self._handle)
        # When the interpreter ends, threads of others may still read blobs: what isn't written is, and no more.
        self._closing.atexit = False
        self._finishing = weakref.finalize(self, self._library.gl_store_finish, self._handle)

    def get(self, index: int) -> Blob | None:
        """A sample's blob; None where it isn't kept, or was found damaged: then it may be put anew."""
        length = ctypes.c_int64()
        address = self._library.gl_store_get(self._open(), index, ctypes.byref(length))
        return Blob(address, length.value) if address else None

    def take(self, indices: Sequence[int]) -> list[Blob | None]:
        """Several."""
        return [self.get(int(index)) for index in indices]

    def put(self, index: int, blob: bytes) -> bool:
        """Keep a copy; False where it wasn't: it is kept already, here or by another process, or there is no room."""
        return bool(self._library.gl_store_put(self._open(), index, blob, len(blob)))

    def keep(self, index: int, file: bytes, form: Form) -> Blob | None:
        """What is kept of a sample; where nothing is, keep its file in a form first.

        Args:
            index: of the sample.
            file: its whole file; not looked at where something is kept.
            form: one that can't be had of the file (of another kind, damaged, …) leaves it as it is.

        Returns:
            The blob; None where nothing is kept: there is no room, or another process is about to keep it (then nothing
            was transcoded), the file is empty, or this is a child of the process that opened the store.
        """
        length, reason = ctypes.c_int64(), ctypes.create_string_buffer(abi.REASON_BYTES)
        address = self._library.gl_store_keep(
            self._open(), index, file, len(file), int(form), ctypes.byref(length), reason
        )
        return Blob(address, length.value) if address else None

    def flush(self) -> None:
        """Write what isn't written, and take in what other processes have written since."""
        self._library.gl_store_flush(self._open())

    def forget(self) -> None:
        """Forget what is kept, and remove its blocks, so that all is kept anew: for measuring. A blob that was given
        stays where it is until this is called once more."""
        self._library.gl_store_forget(self._open())

    def state(self) -> State:
        """What it holds."""
        state = _State()
        self._library.gl_store_state(self._open(), ctypes.byref(state))
        counts = state.kept, state.bytes, state.damaged, state.refused
        trouble = state.trouble.decode(errors="replace")
        return State(*counts, bool(state.full), f"{self._folder}: {trouble}" if trouble and self._folder else trouble)

    def close(self) -> None:
        """Give it back. The last of those that share it writes the rest and frees its memory: no blob may be in use."""
        self._handle = None
        self._finishing.detach()
        self._closing()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("the store is closed")
        return self._handle


def folder_of(folder: Path, key: bytes) -> Path:
    """Where a key's blocks are."""
    return folder / key.hex()


def describe(folder: Path, key: bytes, facts: Mapping[str, object]) -> None:
    """Write beside a key's blocks what they are of, for people.

    Args:
        folder: of the store.
        key: its key.
        facts: ``source`` and ``form``, texts; ``stages``, their names; ``when``, a time in ISO 8601.

    Raises:
        OSError: it can't be written.
    """
    own = folder_of(folder, key)
    own.mkdir(parents=True, exist_ok=True)
    file_output.write(own / FACTS, json.dumps(facts, indent=1) + "\n")
