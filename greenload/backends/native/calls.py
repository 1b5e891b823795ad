"""Calls into the kernel's library, with its C types: headers of files, and programs."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.native.kernel_step import KernelStep
from greenload.backends.native.library import load
from greenload.errors import BackendUnavailable
from greenload.specs import DTYPES

REASON = 256
"""Bytes of a reason, its terminating zero among them."""
_DTYPES = {name: number for number, name in enumerate(DTYPES)}


class _Step(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_int32),
        ("flags", ctypes.c_int32),
        ("column", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("dtype_in", ctypes.c_int32),
        ("dtype_out", ctypes.c_int32),
        ("count", ctypes.c_int32),
        ("numbers", ctypes.POINTER(ctypes.c_double)),
        ("table", ctypes.POINTER(ctypes.c_uint8)),
    )


_HEADER = np.dtype([("plain", np.int32), ("height", np.int32), ("width", np.int32)])


def probe(
    files: Sequence[bytes], exif: bool, max_bytes: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Which files the kernel decodes, and the rows and columns that these state, each ``[n]``.

    Args:
        files: whole ones, of any kind.
        exif: whether a file that states an orientation isn't decoded.
        max_bytes: the most that decoding one may take.
    """
    headers = np.zeros(len(files), _HEADER)
    addresses, lengths = addresses_of(files), lengths_of(files)
    load().gl_probe(len(files), addresses.ctypes.data, lengths.ctypes.data, int(exif), max_bytes, headers.ctypes.data)
    return headers["plain"] != 0, headers["height"].astype(np.int64), headers["width"].astype(np.int64)


def addresses_of(files: Sequence[bytes]) -> NDArray[np.uint64]:
    """Where the bytes of each file lie; valid while the files are."""
    pointers: Any = (ctypes.c_char_p * len(files))(*files)
    return np.frombuffer(pointers, np.uint64) if len(files) else np.empty(0, np.uint64)


def lengths_of(files: Sequence[bytes]) -> NDArray[np.int64]:
    """Bytes of each file."""
    return np.fromiter(map(len, files), np.int64, len(files))


def reason_of(row: NDArray[np.uint8]) -> str:
    """A reason that the kernel has written, uint8 ``[REASON]``."""
    return row.tobytes().partition(b"\0")[0].decode(errors="replace")


class Compiled:
    """Steps made ready by the kernel, for any number of threads. Freed when it is no longer referred to.

    Args:
        steps: with their columns; at least one.
        columns: of a row of params.

    Raises:
        BackendUnavailable: the kernel doesn't take them.
    """

    def __init__(self, steps: Sequence[KernelStep], columns: int) -> None:
        library = load()
        reason = ctypes.create_string_buffer(REASON)
        array = (_Step * len(steps))(*map(_step, steps))
        program = library.gl_program_new(array, len(steps), columns, reason)
        if not program:
            raise BackendUnavailable(
                f"the kernel of backend 'native' doesn't take these steps: {reason.value.decode(errors='replace')}"
            )
        self._program = ctypes.c_void_p(program)
        self._run = library.gl_run
        weakref.finalize(self, library.gl_program_free, self._program)

    def run(self, count: int, *addresses: int) -> None:
        """Images one after another; the arguments are those of ``gl_run`` in ``kernel/abi.h``."""
        self._run(self._program, count, *addresses)


def _step(step: KernelStep) -> Any:
    before, after = (_DTYPES[dtype] for dtype in step.dtypes)
    numbers = (ctypes.c_double * len(step.numbers))(*step.numbers)
    table = (ctypes.c_uint8 * len(step.table))(*step.table) if step.table else None
    return _Step(step.op, step.flags, step.column, *step.sides, before, after, len(step.numbers), numbers, table)
