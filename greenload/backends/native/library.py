"""Loads the kernel, a library in C++ (``kernel/abi.h``), and calls it with NumPy's arrays.

Calls release the interpreter's lock. Pointers are only handed over for the length of a call.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import weakref
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.native.abi import ABI, DTYPES, REASON_BYTES, Counter, Form, KernelStep, Op, Status
from greenload.backends.native.blobs import Blob
from greenload.backends.native.pointers import addresses_of, bytes_of, contiguous, sizes_of
from greenload.errors import BackendUnavailable

FOLDER = Path(__file__).parent
_EXIF, _KEPT = 1, 2
"""``gl_kinds``."""


class _Step(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("op", "flags", "column", "height", "width")),
        *((name, ctypes.c_int32) for name in ("dtype_in", "dtype_out", "count")),
        ("numbers", ctypes.POINTER(ctypes.c_double)),
        ("table", ctypes.c_char_p),
    )


INSTALL = (
    "make setup, or pip install --force-reinstall --no-deps --no-cache-dir . (or what else greenload was installed "
    "from), where there are a C++ compiler and libjpeg's headers (Debian: g++, libjpeg-dev)"
)
"""What builds the kernel. pip keeps the wheels that it builds, and installs one without the kernel again."""


def why_missing() -> str:
    """Why the kernel can't be used; empty where it can."""
    try:
        program = Program([KernelStep(Op.DECODE)], 0)
    except BackendUnavailable as error:
        return str(error)
    ((status, reason),) = program.run([b"no image"], np.empty((1, 0)), [np.empty(3, np.uint8)]).values()
    if status is Status.BAD_FILE:
        return ""
    # A libjpeg of another ABI refuses to start.
    return (
        f"the kernel can't work: {reason}; start Python without the libjpeg that takes the place of the system's "
        f"(LD_PRELOAD, LD_LIBRARY_PATH), or {INSTALL}"
    )


def version() -> str:
    """What it was built with and runs on: ``"libjpeg-turbo 2.1.5; avx2"``.

    Raises:
        BackendUnavailable: it can't be loaded.
    """
    text: bytes = loaded().gl_version()
    return text.decode()


def has_vectors() -> bool:
    """Whether it has AVX2 to work with.

    Raises:
        BackendUnavailable: it can't be loaded.
    """
    return version().endswith("avx2")


@functools.cache
def fingerprint() -> str:
    """A digest of what was built: other sources or another compiler give another; empty where nothing was built."""
    built = sorted(FOLDER.glob("*.native.so"))
    return hashlib.blake2b(b"".join(file.read_bytes() for file in built), digest_size=8).hexdigest() if built else ""


def path() -> Path:
    """The library's file.

    Raises:
        BackendUnavailable: it wasn't built.
    """
    file = FOLDER / "_kernel.native.so"
    if file.exists():
        return file
    raise BackendUnavailable(f"the kernel isn't built; {INSTALL}")


def probe(files: Sequence[bytes | Blob], exif: bool, max_bytes: int, kept: bool = False) -> NDArray[np.int32]:
    """Look at files' headers.

    Args:
        files: whole files.
        exif: whether a file that states an orientation other than 1 isn't plain.
        max_bytes: the most bytes that decoding one may take, as in ``Decode``.
        kept: whether what ``transcode`` makes is plain, in every form; planes, coefficients and PPM of any size.

    Returns:
        int32 ``[n, 3]``: 1 for a plain JPEG, which the kernel decodes itself, and its height and width as stored; zeros
        for others.
    """
    headers = np.empty((len(files), 3), np.int32)
    lengths = np.fromiter(map(len, files), np.int64, len(files))
    pointers = _file_pointers(files)
    kinds = _EXIF * exif | _KEPT * kept
    loaded().gl_probe(len(files), pointers, lengths.ctypes, kinds, min(max_bytes, 2**63 - 1), headers.ctypes)
    return headers


def jpegs() -> tuple[int, int]:
    """How many JPEGs this process has begun to decode, by the kernel itself and by libjpeg: unusual or damaged ones."""
    counts = np.zeros(2, np.int64)
    loaded().gl_jpegs(counts.ctypes)
    return int(counts[0]), int(counts[1])


def transcode(file: bytes, form: Form) -> bytes:
    """A plain JPEG in another form; ``Form.PIXELS`` also of planes, coefficients and binary PPM.

    Raises:
        BackendUnavailable: the kernel can't be loaded.
        ValueError: the form would not give the file's pixels; the message says why.
    """
    reason, needed = ctypes.create_string_buffer(REASON_BYTES), ctypes.c_int64()
    likely = {Form.ENCODED: len(file), Form.TRANSCODED: len(file) + len(file) // 8, Form.COEFFICIENTS: 3 * len(file)}
    room = likely[form] + (1 << 16) if form in likely else 0
    while True:
        out = np.empty(room, np.uint8)
        written = loaded().gl_transcode(file, len(file), int(form), out.ctypes, room, ctypes.byref(needed), reason)
        if written < 0:
            raise ValueError(reason.value.decode(errors="replace"))
        if written:
            return out[:written].tobytes()
        room = needed.value


_ITEM_BYTES = {"uint8": 1, "int8": 1, "float16": 2, "bfloat16": 2, "float32": 4}


class Program:
    """A segment's steps, ready to run in any number of threads.

    Args:
        steps: at least one.
        columns: how many params each image has.

    Raises:
        BackendUnavailable: the kernel can't be loaded.
        ValueError: a step is out of range; the message says which.

    Example:
        >>> program = Program([KernelStep(Op.DECODE), KernelStep(Op.RESIZE, Flag.ANTIALIAS, height=32, width=32)], 0)
        >>> program.run([data], np.empty((1, 0)), [out])
        {}
    """

    def __init__(self, steps: Sequence[KernelStep], columns: int) -> None:
        library, reason = loaded(), ctypes.create_string_buffer(REASON_BYTES)
        self._steps, self._columns = len(steps), columns
        self._encoded = bool(steps) and steps[0].op == Op.DECODE
        self._dtype_in = steps[0].dtype_in if steps else ""
        given = (_Step * len(steps))(*map(_given, steps))
        self._handle = library.gl_program_new(given, len(steps), columns, reason)
        if not self._handle:
            raise ValueError(reason.value.decode(errors="replace"))
        # At the interpreter's end other threads may still be inside.
        weakref.finalize(self, library.gl_program_free, self._handle).atexit = False

    def run(
        self,
        images: Sequence[bytes | Blob] | Sequence[NDArray[Any]] | NDArray[Any],
        params: NDArray[np.float64],
        outs: Sequence[NDArray[Any]] | NDArray[Any],
    ) -> dict[int, tuple[Status, str]]:
        """Run images through it, one after another, in this thread.

        Args:
            images: files' bytes where the first step decodes, else pixels ``[height, width, channels]``: a list of
                them, or a batch.
            params: float64 ``[n, columns]``.
            outs: where each result goes: an array an image, of its size and dtype, C-contiguous; or a batch of them.

        Returns:
            By index the images that failed, and why.
        """
        count = len(images)
        if len(outs) != count or params.shape != (count, self._columns):
            raise ValueError(f"{count} images, {len(outs)} results, params of shape {params.shape}")
        params = np.ascontiguousarray(params, np.float64)
        status = np.zeros(count, np.int32)
        reasons = np.empty((count, REASON_BYTES), np.uint8)
        if self._encoded:
            pointers: Any = _file_pointers(images)
            sizes = np.fromiter(map(len, images), np.int64, count)
        else:
            images = contiguous(images)
            own = {images.dtype} if isinstance(images, np.ndarray) else {image.dtype for image in images}
            if {dtype.itemsize for dtype in own} - {_ITEM_BYTES[self._dtype_in]}:  # it reads as many as it expects
                raise ValueError(f"images of {', '.join(map(str, own))} for a program of {self._dtype_in}")
            pointers = addresses_of(images).ctypes
            sizes = sizes_of(images)
        places, room = addresses_of(outs), bytes_of(outs)
        failed = loaded().gl_run(
            self._handle,
            count,
            pointers,
            sizes.ctypes,
            params.ctypes,
            places.ctypes,
            room.ctypes,
            status.ctypes,
            reasons.ctypes,
        )
        if not failed:
            return {}
        texts = {int(i): reasons[i].tobytes().partition(b"\0")[0] for i in np.flatnonzero(status)}
        return {i: (Status(int(status[i])), text.decode(errors="replace")) for i, text in texts.items()}

    def counters(self) -> list[Counter]:
        """What each step has done, and last what whole images took, by the threads' own clocks."""
        numbers = np.zeros((self._steps + 1, len(fields(Counter))), np.int64)
        loaded().gl_counters(self._handle, numbers.ctypes)
        return [Counter(*map(int, row)) for row in numbers]

    @property
    def handle(self) -> int:
        """The ``gl_program``: valid for as long as this is."""
        return int(self._handle)


@functools.cache
def loaded() -> Any:
    """The library, with its functions' types.

    Raises:
        BackendUnavailable: it can't be loaded.
    """
    try:
        library = ctypes.CDLL(str(path()))
    except OSError as error:
        raise BackendUnavailable(f"the kernel can't be loaded: {error}; {INSTALL}") from None
    try:
        if library.gl_abi() == ABI:
            return _declared(library)
    except AttributeError:  # it lacks a function
        pass
    raise BackendUnavailable(f"the kernel at {path()} was built from other sources; {INSTALL}")


def _declared(library: Any) -> Any:
    """The library, once its functions have their types."""
    pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    library.gl_version.restype = ctypes.c_char_p
    library.gl_program_new.argtypes, library.gl_program_new.restype = [pointer, i32, i32, pointer], pointer
    library.gl_program_free.argtypes, library.gl_program_free.restype = [pointer], None
    library.gl_probe.argtypes, library.gl_probe.restype = [i64, pointer, pointer, i32, i64, pointer], None
    library.gl_run.argtypes, library.gl_run.restype = [pointer, i64, *[pointer] * 7], i64
    library.gl_transcode.argtypes = [ctypes.c_char_p, i64, i32, pointer, i64, pointer, pointer]
    library.gl_transcode.restype = i64
    store: dict[str, tuple[list[Any], Any]] = {
        "open": ([ctypes.c_char_p, ctypes.c_char_p, i64, i64, pointer], pointer),
        "get": ([pointer, i64, pointer], pointer),
        "put": ([pointer, i64, ctypes.c_char_p, i64], i32),
        "keep": ([pointer, i64, ctypes.c_char_p, i64, i32, pointer, pointer], pointer),
        "flush": ([pointer], None),
        "finish": ([pointer], None),
        "forget": ([pointer], None),
        "close": ([pointer], None),
        "state": ([pointer, pointer], None),
    }
    for name, (takes, gives) in store.items():
        function = getattr(library, f"gl_store_{name}")
        function.argtypes, function.restype = takes, gives
    library.gl_block_check.argtypes, library.gl_block_check.restype = [ctypes.c_char_p, *[pointer] * 3], i32
    library.gl_jpegs.argtypes, library.gl_jpegs.restype = [pointer], None
    library.gl_counters.argtypes, library.gl_counters.restype = [pointer, pointer], None
    return library


def _given(step: KernelStep) -> _Step:
    numbers = (ctypes.c_double * len(step.numbers))(*step.numbers) if step.numbers else None
    dtypes = DTYPES[step.dtype_in], DTYPES[step.dtype_out]
    flags = int(step.flags)
    if step.table and len(step.table) != 256:
        raise ValueError(f"a table of {len(step.table)} levels")
    table = step.table or None
    return _Step(int(step.op), flags, step.column, step.height, step.width, *dtypes, len(step.numbers), numbers, table)


def _file_pointers(files: Any) -> Any:
    addresses: list[Any] = [file.address if isinstance(file, Blob) else file for file in files]
    return (ctypes.c_char_p * len(files))(*addresses)
