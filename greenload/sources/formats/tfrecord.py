"""Reads and frames the records of TFRecord files.

A record is its length (uint64, little-endian), the masked CRC-32C of those eight bytes, its bytes, and their masked
CRC-32C (tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from greenload.errors import SourceError
from greenload.sources.formats.crc32c import crc32c_of, masked
from greenload.system import file_input, limits

HEADER, FOOTER = 12, 4
"""Bytes before and behind a record's own."""
Packing = Literal["plain", "gzip", "zlib"]
_LARGEST = 1 << 31  # bytes of a record: protocol buffers can't be longer
_LARGEST_PACKED = 1 << 28  # of one in a compressed file, where a thousandth of its bytes may be there: it is held whole
_BLOCK = 1 << 20  # bytes that are read together of what a header promises
LENGTH = struct.Struct("<Q")
"""How a record's length is stored."""
_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")


def packing(path: str) -> Packing:
    """Whether and how a file of records is compressed, by its first bytes.

    Raises:
        SourceError: it can't be read, or holds no TFRecords.
    """
    try:
        with open(path, "rb", opener=file_input.regular) as file:
            head = file.read(HEADER)
    except OSError as error:
        limits.raise_if_out(path, error)
        raise SourceError(f"{path}: the file can't be read: {error.strerror}") from None
    if not head or (len(head) == HEADER and bad_header(np.frombuffer(head, np.uint8), np.zeros(1, np.int64)) is None):
        return "plain"
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    if len(head) > 1 and head[0] & 0x0F == 8 and (head[0] << 8 | head[1]) % 31 == 0:
        return "zlib"
    raise SourceError(f"{path}: this is no TFRecord file: the length at byte 0 doesn't fit its checksum")


def first_record(path: str) -> bytes | None:
    """The first record of a file, or ``None`` if it is empty.

    Raises:
        SourceError: it holds no TFRecords.
    """
    with opened(path, packing(path)) as file:
        return next((record for _, record in records(file, path)), None)


@contextlib.contextmanager
def opened(path: str, kind: Packing) -> Iterator[IO[bytes]]:
    """A file of records to be read from its beginning.

    Raises:
        SourceError: it can't be read, or what is compressed in it is damaged.
    """
    try:
        with open(path, "rb", opener=file_input.regular) as plain:
            if kind == "gzip":
                with gzip.open(plain) as file:
                    yield file  # type: ignore[misc]  # which reads bytes, as asked
            else:
                yield plain if kind == "plain" else _Inflated(plain)  # type: ignore[misc]
    except (OSError, EOFError, MemoryError, zlib.error) as error:
        limits.raise_if_out(path, error)
        raise SourceError(f"{path}: the file can't be read: {getattr(error, 'strerror', None) or error}") from None


class _Inflated:
    """The content of a zlib stream, as a file to read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._inflate, self._ready = file, zlib.decompressobj(), bytearray()

    def read(self, size: int) -> bytes:
        while len(self._ready) < size and not self._inflate.eof:
            compressed = self._inflate.unconsumed_tail or self._file.read(1 << 16)
            block = self._inflate.decompress(compressed, _BLOCK)  # without input: what was held back
            if not compressed and not block and not self._inflate.eof:
                raise EOFError("the compressed data ends too early")
            self._ready += block
        out = bytes(self._ready[:size])
        del self._ready[:size]
        return out


def records(file: IO[bytes], path: str) -> Iterator[tuple[int, bytes]]:
    """The records of an open file, each with the byte where its header begins.

    A record is read in blocks: a length beyond the file's end takes no more memory than the bytes that are there.

    Raises:
        SourceError: a length is damaged, a record of a compressed file is above 256 MiB, or the file ends within a
            record; names the byte.
    """
    largest = _LARGEST if isinstance(file, io.BufferedReader) else _LARGEST_PACKED
    at = 0
    while head := file.read(HEADER):
        if len(head) == HEADER and bad_header(np.frombuffer(head, np.uint8), np.zeros(1, np.int64)) is not None:
            raise damaged_error(path, at)
        size = LENGTH.unpack_from(head)[0] if len(head) == HEADER else 0
        if size > largest:
            kind, remedy = ("", "") if largest == _LARGEST else (" in a compressed file", "write it uncompressed, or ")
            raise SourceError(
                f"{path}: a record{kind} may have {largest:,} bytes, but that at byte {at} claims {size:,}: {remedy}"
                "copy the file anew"
            )
        body = _read(file, size + FOOTER) if len(head) == HEADER else b""
        if len(body) < size + FOOTER:
            raise cut_error(path, at, len(head) + len(body))
        yield at, body[:size]
        at += HEADER + size + FOOTER


def _read(file: IO[bytes], size: int) -> bytes:
    """``size`` bytes, or fewer where the file ends."""
    if size <= _BLOCK:
        return file.read(size)
    data = bytearray()
    while len(data) < size and (block := file.read(min(_BLOCK, size - len(data)))):
        data += block
    return bytes(data)


def bad_header(data: NDArray[np.uint8], starts: NDArray[np.int64]) -> int | None:
    """The first of some records whose length doesn't fit its checksum."""
    crc = masked(crc32c_of(data, starts, np.full(len(starts), 8, np.int64)))
    stored = np.ascontiguousarray(data[starts[:, None] + np.arange(8, HEADER)]).view("<u4")[:, 0]
    differs = np.flatnonzero(crc != stored)
    return int(differs[0]) if len(differs) else None


def damaged_error(path: str, at: int) -> SourceError:
    """The error for a record whose length doesn't fit its checksum."""
    return SourceError(f"{path}: the length at byte {at} doesn't fit its checksum: the file is damaged; copy it anew")


def cut_error(path: str, at: int, left: int) -> SourceError:
    """The error for a record of which only some bytes are left."""
    return SourceError(f"{path}: the record at byte {at} is cut: only {left} of its bytes are left; copy the file anew")


def intact(bodies: list[bytes]) -> list[bool]:
    """Which of some records fit their checksums.

    Args:
        bodies: the bytes of each record, with the checksum behind them.
    """
    ends = np.cumsum([len(body) for body in bodies], dtype=np.int64)
    sizes = np.diff(ends, prepend=0) - FOOTER
    data = np.frombuffer(b"".join(bodies), np.uint8)
    whole = sizes >= 0
    fits = np.zeros(len(bodies), bool)
    stored = np.ascontiguousarray(data[ends[whole][:, None] + np.arange(-FOOTER, 0)]).view("<u4").reshape(-1)
    fits[whole] = masked(crc32c_of(data, ends[whole] - FOOTER - sizes[whole], sizes[whole])) == stored
    return [bool(good) for good in fits]


def framed(some: list[bytes]) -> bytes:
    """Records as the bytes of a file."""
    sizes = np.array([len(record) for record in some], np.int64)
    heads = np.frombuffer(sizes.astype("<u8").tobytes(), np.uint8)
    starts = np.arange(len(some), dtype=np.int64) * LENGTH.size
    head_crcs = masked(crc32c_of(heads, starts, np.full(len(some), LENGTH.size, np.int64)))
    bodies = np.frombuffer(b"".join(some), np.uint8)
    crcs = masked(crc32c_of(bodies, np.cumsum(sizes) - sizes, sizes))
    parts = zip(sizes.tolist(), head_crcs.tolist(), some, crcs.tolist(), strict=True)
    return b"".join(
        part for size, head, record, crc in parts for part in (_HEADER.pack(size, head), record, _FOOTER.pack(crc))
    )
