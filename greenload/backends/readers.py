"""Decodes files of kinds that a plan's decoding backend doesn't read, by another backend.

Each file becomes a PNG of the same pixels, which every backend reads exactly, or a binary PPM where that is what the
backend reads. So cropping, limits and all other steps go on as ever.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from greenload.backends import orientation as orienting
from greenload.backends.base import Images, Records
from greenload.errors import BackendUnavailable
from greenload.sources import formats
from greenload.sources.formats import FormatError, Header, Support
from greenload.sources.formats.strips import check_strips
from greenload.stages import primitives as p
from greenload.system import shutdown
from greenload.system.workers import Workers

ORDER = ("pillow", "dali-cpu", "tf")
"""Backends that may decode for another, the cheapest for single files first."""
PACKAGES = ("tensorflow", "nvidia-dali-cuda130", "nvidia-dali-cuda120", "pillow-simd", "pillow")
"""What they are of, as package registries name them."""


@dataclass(frozen=True)
class Foreign:
    """A file that its own backend doesn't read, and another decodes."""

    data: bytes
    head: Header
    turn: int = 1
    """The EXIF orientation that is to be applied."""


Encode = Callable[[NDArray[np.uint8]], bytes]
"""Writes an image, uint8 ``[H, W, 3]``, as a file."""


class Decoder(Protocol):
    """Decodes single files on the CPU. Safe in threads."""

    def pixels(self, data: bytes, kind: str) -> NDArray[np.uint8]:
        """A file's pixels as it stores them, uint8 ``[H, W, 3]``.

        Args:
            data: the whole file, as ``formats.plain`` gives it.
            kind: of the file, a key of ``formats.KINDS``.

        Raises:
            FormatError: it can't be decoded wholly.
            MemoryError: there is too little memory to tell.
        """

    def close(self) -> None:
        """Give back what it holds. Calling it twice is harmless."""


class Readers:
    """Decodes files for a backend that doesn't read them. Safe in threads.

    ``make_readers`` in ``backends.registry`` makes them.

    Args:
        backends: the backend that decodes, by kind of file; ``None`` where none may.
        threads: files that are decoded at a time.
        make_decoder: makes a backend's decoder.
        support_of: as ``tables.support``.

    Example:
        >>> readers = make_readers({"TIFF": "dali-cpu"}, threads=2)
        >>> png, = readers.as_pngs([Foreign(data, header(data, readers.support("tf")))])
    """

    def __init__(
        self,
        backends: Mapping[str, str] | None,
        threads: int,
        make_decoder: Callable[[str], Decoder],
        support_of: Callable[[str, Iterable[str] | None], Support],
    ) -> None:
        self.backends = backends
        self._threads = threads
        self._make_decoder = make_decoder
        self._support_of = support_of
        self._pool: Workers | None = None
        self._decoders: dict[str, Decoder] = {}
        self._lock = threading.Lock()

    def support(self, backend: str) -> Support:
        """What ``formats.header`` must know where a backend decodes, and these for it."""
        return self._support_of(backend, self.backends)

    def files(self, images: Images, backend: str, decode: p.Decoding) -> list[Foreign]:
        """The files of a batch that a backend doesn't read, and others do; none where it is of pixels already."""
        foreign: list[Foreign] = []
        able = self.support(backend)
        image: Any  # mypy takes what isn't bytes for a collection
        for image in images if self.backends else ():
            if not isinstance(image, bytes):
                continue
            try:
                file, head = formats.opened(image, able, decode.max_bytes, decode.truncated)
            except FormatError:
                continue  # the run names it
            if head.kind in (able.readers or ()):
                foreign.append(Foreign(file, head, formats.orientation(image) if decode.exif else 1))
        return foreign

    def foreign(self, data: bytes, backend: str, decode: p.Decoding) -> Foreign:
        """A file that a backend doesn't decode, as another is to.

        Raises:
            FormatError: its header shows that it can't be decoded.
        """
        file, head = formats.opened(data, self.support(backend), decode.max_bytes, decode.truncated)
        return Foreign(file, head, formats.orientation(data) if decode.exif else 1)

    def as_pngs(self, files: Sequence[Foreign]) -> list[bytes | FormatError]:
        """PNGs of files' pixels, turned, in order; the reason in place of one that can't be decoded wholly."""
        return self.as_files(files, png)

    def as_files(self, files: Sequence[Foreign], encode: Encode) -> list[bytes | FormatError]:
        """The same, each as ``encode`` writes it: ``png`` or ``ppm``."""
        if len(files) < 2:
            return [self._as_file(file, encode) for file in files]
        with self._lock:
            pool = self._pool = self._pool or Workers(self._threads, "readers")
        tasks = [pool.submit(self._as_file, file, encode) for file in files]
        return [task.result() for task in tasks]

    def _as_file(self, file: Foreign, encode: Encode) -> bytes | FormatError:
        try:
            if file.head.format == "TIFF":
                check_strips(file.data)
            return encode(upright(self.pixels(file.data, file.head), file.turn))
        except FormatError as error:
            return error

    def pixels(self, data: bytes, head: Header) -> NDArray[np.uint8]:
        """A file's pixels as it stores them, uint8 ``[H, W, 3]``.

        Of a kind that the plan names no other backend for, its own reads most files, and the first that can run here
        and reads that kind decodes the others.

        Raises:
            FormatError: it can't be decoded wholly, or no backend that reads it can run here.
            MemoryError: there is too little memory to tell.
        """
        named = (self.backends or {}).get(head.kind)
        decoder = self._first_decoder(head.kind) if named is None else self._decoder(named)
        return decoder.pixels(formats.plain(data, head), head.kind)

    def _first_decoder(self, kind: str) -> Decoder:
        able = [name for name in ORDER if kind in self._support_of(name, None).kinds]
        for name in able:
            with contextlib.suppress(BackendUnavailable):
                return self._decoder(name)
        needed = " or ".join(map(repr, able))
        raise FormatError(
            f"this {kind} needs backend {needed} beside, and none of them can run here: greenload doctor says why"
        )

    def _decoder(self, backend: str) -> Decoder:
        with self._lock:
            if backend not in self._decoders:
                self._decoders[backend] = self._make_decoder(backend)
                # Behind the decoder, which has imported DALI: its graphs must be gone before its own end.
                shutdown.close_at_end(self)
            return self._decoders[backend]

    def close(self) -> None:
        """Give back what decoders hold, and threads, once no file is on its way. The next file brings them back."""
        with self._lock:
            pool, self._pool = self._pool, None
            decoders = tuple(self._decoders.values())
        if pool is not None:
            pool.close()
        for decoder in decoders:
            decoder.close()


class Remembered(Readers):
    """Readers that decode each file once: a replay has them where their work is left out."""

    def __init__(self, readers: Readers) -> None:
        super().__init__(readers.backends, readers._threads, readers._make_decoder, readers._support_of)
        self._done: dict[Foreign, bytes | FormatError] = {}

    @classmethod
    def after(cls, readers: Readers, backend: str, decode: p.Decoding, parts: Sequence[Records]) -> Remembered:
        """The same as other readers, that have decoded what a backend doesn't read of some batches.

        Args:
            readers: the others.
            backend: that is given the batches.
            decode: how it decodes them.
            parts: the batches.
        """
        made = cls(readers)
        for part in parts:
            made.as_pngs(made.files(part.images, backend, decode))
        return made

    def as_files(self, files: Sequence[Foreign], encode: Encode) -> list[bytes | FormatError]:
        lacking = [file for file in files if file not in self._done]
        self._done |= zip(lacking, super().as_files(lacking, encode), strict=True)
        return [self._done[file] for file in files]


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A stored image ``[H, W, 3]`` as it is to be seen, by its EXIF orientation; a view."""
    if orientation in orienting.TRANSPOSED:
        image = image.transpose(1, 0, 2)
    if orientation in orienting.MIRRORED:
        image = image[:, ::-1]
    return image[::-1] if orientation in orienting.OVERTURNED else image


def ppm(image: NDArray[np.uint8]) -> bytes:
    """A binary PPM of an image, uint8 ``[H, W, 3]``."""
    height, width, _ = image.shape
    return b"P6\n%d %d\n255\n" % (width, height) + image.tobytes()


def png(image: NDArray[np.uint8]) -> bytes:
    """A PNG (W3C "Portable Network Graphics (Third Edition)") of an image, uint8 ``[H, W, 3]``, not compressed."""
    height, width, _ = image.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # a byte in front of each row names its filter: none
    rows[:, 1:].reshape(height, width, 3)[:] = image
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    stored = zlib.compress(rows.data, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(b"IHDR", head) + _chunk(b"IDAT", stored) + _chunk(b"IEND", b""))


def _chunk(name: bytes, content: bytes) -> tuple[bytes, ...]:
    return struct.pack(">I", len(content)), name, content, struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))
