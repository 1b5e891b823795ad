"""Decodes files of kinds that a plan's decoding backend doesn't read, by another backend.

Each file becomes a PNG of the same pixels, which every backend reads exactly. So cropping, limits and all other steps
go on as ever.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends import orientation as orienting
from greenload.backends.base import Images, Records
from greenload.backends.image_sizes import Decode, Foreign, decode_of
from greenload.backends.tables import support
from greenload.plans.plan import Plan, Segment
from greenload.sources import formats
from greenload.sources.formats import FormatError, Header
from greenload.sources.formats.strips import check_strips
from greenload.system import shutdown
from greenload.system.workers import Workers

ORDER = ("pillow", "dali-cpu", "tf")
"""Backends that may decode for another, the cheapest for single files first."""


class Readers:
    """Decodes files for a backend that doesn't read them. Safe in threads.

    Args:
        backends: the backend that decodes, by kind of file; ``None`` where none may.
        threads: files that are decoded at a time.

    Example:
        >>> readers = Readers({"TIFF": "dali-cpu"}, threads=2)
        >>> png, = readers.as_pngs([Foreign(data, header(data, support("tf", readers.backends)))])
    """

    def __init__(self, backends: Mapping[str, str] | None, threads: int) -> None:
        self.backends = backends
        self._threads = threads
        self._pool: Workers | None = None
        self._graphs: list[Any] = []
        self._lock = threading.Lock()

    @classmethod
    def of(cls, plan: Plan) -> Readers:
        """A plan's."""
        return cls(plan.readers, plan.threads)

    def files(self, images: Images, backend: str, decode: Decode) -> list[Foreign]:
        """The files of a batch that a backend doesn't read, and others do; none where it is of pixels already."""
        foreign: list[Foreign] = []
        able = support(backend, self.backends)
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

    def as_pngs(self, files: Sequence[Foreign]) -> list[bytes | FormatError]:
        """PNGs of files' pixels, turned, in order; the reason in place of one that can't be decoded wholly."""
        if len(files) < 2:
            return [self._as_png(file) for file in files]
        with self._lock:
            pool = self._pool = self._pool or Workers(self._threads, "readers")
        tasks = [pool.submit(self._as_png, file) for file in files]
        return [task.result() for task in tasks]

    def _as_png(self, file: Foreign) -> bytes | FormatError:
        try:
            if file.head.format == "TIFF":
                check_strips(file.data)
            return png(upright(self.pixels(file.data, file.head), file.turn))
        except FormatError as error:
            return error

    def pixels(self, data: bytes, head: Header) -> NDArray[np.uint8]:
        """A file's pixels as it stores them, uint8 ``[H, W, 3]``.

        Raises:
            FormatError: it can't be decoded wholly.
            MemoryError: there is too little memory to tell.
        """
        assert self.backends is not None  # a header of such a kind is refused where no other may decode
        plain = formats.plain(data, head)
        match self.backends[head.kind]:
            case "pillow":
                from greenload.backends.pillow.decode import decode

                decoded: NDArray[np.uint8] = np.asarray(decode(plain))
                return decoded
            case "tf":
                return _by_tensorflow(plain, head.kind)
        return self._by_dali(plain)

    def _by_dali(self, data: bytes) -> NDArray[np.uint8]:
        from greenload.backends.dali import runner
        from greenload.backends.dali.graph import feed, image_list

        try:
            graph = self._graphs.pop()
        except IndexError:
            graph = runner.decoding_graph()
            shutdown.close_at_end(self)
        try:
            feed(graph, image_list([data]), {})
            decoded = np.array(graph.run()[0][0])  # a copy: its memory is the graph's
        except RuntimeError as error:  # DALI calls a graph invalid after one
            if why := runner.lacking(error):
                raise MemoryError(why) from None
            raise FormatError(f"can't be decoded: {runner.brief(error)}") from None
        self._graphs.append(graph)
        return decoded

    def close(self) -> None:
        """Give back graphs and threads. Calling it twice is harmless."""
        self._graphs.clear()
        if self._pool is not None:
            self._pool.close()


class Remembered(Readers):
    """Readers that decode each file once: a replay has them where their work is left out."""

    def __init__(self, backends: Mapping[str, str] | None, threads: int) -> None:
        super().__init__(backends, threads)
        self._done: dict[Foreign, bytes | FormatError] = {}

    @classmethod
    def after(cls, plan: Plan, segment: Segment, parts: Sequence[Records]) -> Remembered:
        """A plan's, that have decoded what a segment is given of some batches."""
        made = cls(plan.readers, plan.threads)
        for part in parts:
            made.as_pngs(made.files(part.images, segment.backend, decode_of(segment.steps)))
        return made

    def as_pngs(self, files: Sequence[Foreign]) -> list[bytes | FormatError]:
        lacking = [file for file in files if file not in self._done]
        self._done |= zip(lacking, super().as_pngs(lacking), strict=True)
        return [self._done[file] for file in files]


def _by_tensorflow(data: bytes, kind: str) -> NDArray[np.uint8]:
    import tensorflow as tf

    from greenload.backends.tf.formats import decode_full

    try:
        with tf.device("/cpu:0"):
            # The header has been held against the limit of memory.
            decoded: NDArray[np.uint8] = decode_full(tf.constant(data), [kind], 1 << 62).numpy()
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError(error.message) from None
    except tf.errors.OpError:
        raise FormatError("can't be decoded: TensorFlow gives no reason") from None
    return decoded


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A stored image ``[H, W, 3]`` as it is to be seen, by its EXIF orientation; a view."""
    if orientation in orienting.TRANSPOSED:
        image = image.transpose(1, 0, 2)
    if orientation in orienting.MIRRORED:
        image = image[:, ::-1]
    return image[::-1] if orientation in orienting.OVERTURNED else image


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
