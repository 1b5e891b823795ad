"""Cuts what windows need out of transcoded JPEGs, for decoders of other backends: they would read all segments."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.native.library import loaded


@dataclass(frozen=True)
class CutOut:
    """A smaller JPEG: whole segments of a transcoded one."""

    file: bytes
    top: int
    """Row of the transcoded image where the smaller one begins."""
    left: int
    """Column of the transcoded image where the smaller one begins."""


def is_transcoded(file: bytes) -> bool:
    """Whether a file begins as JPEGs in ``Form.TRANSCODED`` do."""
    return file.startswith(b"\xff\xd8\xff\xe9") and file.startswith(b"GLIDX1", 6)


def cut_outs(files: Sequence[bytes], windows: NDArray[Any]) -> dict[int, CutOut]:
    """Of transcoded JPEGs those segments that windows need. A window has the same pixels in both files.

    Args:
        files: whole files.
        windows: int ``[n, 4]``: top, left, height, width in the stored images.

    Returns:
        By index. Files that are left out stay whole: of another form, damaged in the header or between segments, needed
        as a whole, or smaller than their window.

    Raises:
        BackendUnavailable: the kernel can't be loaded.
    """
    library = _library()
    lengths = np.fromiter(map(len, files), np.int64, len(files))
    memory = np.empty(lengths.sum(), np.uint8)
    parts = np.empty((len(files), 3), np.int64)
    windows = np.ascontiguousarray(windows, np.int64)
    pointers = (ctypes.c_char_p * len(files))(*files)
    library.gl_cut(len(files), pointers, lengths.ctypes, windows.ctypes, memory.ctypes, len(memory), parts.ctypes)
    made, begin = {}, 0
    for index, (length, top, left) in enumerate(parts.tolist()):
        if length:
            made[index] = CutOut(memory[begin : begin + length].tobytes(), top, left)
            begin += length
    return made


@functools.cache
def _library() -> Any:
    """The kernel, with the types of the function that is called here."""
    library, pointer, i64 = loaded(), ctypes.c_void_p, ctypes.c_int64
    library.gl_cut.argtypes, library.gl_cut.restype = [i64, *[pointer] * 4, i64, pointer], None
    return library
