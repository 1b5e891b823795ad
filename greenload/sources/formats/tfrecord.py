"""TFRecord files: how records are framed, and an index that gives random access to them.

A record is its length (uint64, little-endian), the masked CRC-32C of those eight bytes, its bytes, and their masked
CRC-32C (tensorflow/core/lib/io/record_writer.h). Building an index reads lengths and the few bytes around an image;
the images themselves stay untouched, and so do the CRCs of the records' bytes: ``greenload check`` tests those.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import mmap
import os
import stat
import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from greenload.errors import SourceError
from greenload.sources.formats import tf_example
from greenload.sources.formats.crc32c import crc32c_of, masked
from greenload.system import cache_folder, file_input, file_output, json_data, limits
from greenload.system.json_data import DataError

HEADER, FOOTER = 12, 4
"""Bytes before and behind a record's own."""
Packing = Literal["plain", "gzip", "zlib"]
_NAME, _VERSION = "greenload index", 2
_MAGIC = f'{{"{_NAME}": '.encode()  # what every index begins with
_READ_AHEAD = 16 << 20  # bytes of a compressed file that are looked at together
_LARGEST = 1 << 31  # bytes of a record: protocol buffers can't be longer
_LARGEST_PACKED = 1 << 28  # of one in a compressed file, where a thousandth of its bytes may be there: it is held whole
_AT_ONCE = 1 << 20  # records that are looked at together
_HEADERS = 1 << 16  # headers whose checksums are compared together
_BLOCK = 1 << 20  # bytes that are read together of what a header promises
_FAR = 1 << 16  # bytes between lengths from which reading ahead would fetch what isn't looked at
_LENGTH, _HEADER, _FOOTER = struct.Struct("<Q"), struct.Struct("<QI"), struct.Struct("<I")


@dataclass(frozen=True)
class Index:
    """Where a file's records and their images are. All int64 ``[n]``; places count uncompressed bytes."""

    records: NDArray[np.int64]
    """Where each record's header begins."""
    sizes: NDArray[np.int64]
    """Bytes of each record without header and footer."""
    starts: NDArray[np.int64]
    """Where each image begins."""
    lengths: NDArray[np.int64]
    """Bytes of each image; −1 where the record lacks it or its label."""
    labels: NDArray[np.int64]


def packing(path: str) -> Packing:
    """Whether a file of records is compressed, told by its first bytes.

    Raises:
        SourceError: it can't be read, or holds no TFRecords.
    """
    try:
        with open(path, "rb", opener=file_input.regular) as file:
            head = file.read(HEADER)
    except OSError as error:
        if why := limits.ran_out(error):
            raise limits.unreadable(path, why) from error
        raise SourceError(f"{path}: the file can't be read: {error.strerror}") from None
    if not head or (len(head) == HEADER and _bad_header(np.frombuffer(head, np.uint8), np.zeros(1, np.int64)) is None):
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
        if why := limits.ran_out(error):
            raise limits.unreadable(path, why) from error
        raise SourceError(f"{path}: the file can't be read: {getattr(error, 'strerror', None) or error}") from None


class _Inflated:
    """The content of a zlib stream, as a file to read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._inflate, self._ready = file, zlib.decompressobj(), bytearray()

    def read(self, size: int) -> bytes:
        while len(self._ready) < size and not self._inflate.eof:
            more = self._inflate.unconsumed_tail or self._file.read(1 << 16)
            found = self._inflate.decompress(more, _BLOCK)  # of no more input, what was held back
            if not more and not found and not self._inflate.eof:
                raise EOFError("the compressed data ends too early")
            self._ready += found
        out = bytes(self._ready[:size])
        del self._ready[:size]
        return out


def records(file: IO[bytes], path: str) -> Iterator[tuple[int, bytes]]:
    """The records of an open file with where each one's header begins.

    A record is read in blocks: a length that the file doesn't hold takes no more memory than what it does hold.

    Raises:
        SourceError: a length is damaged, a record of a compressed file is above 256 MiB, or the file ends within a
            record; names the byte.
    """
    largest = _LARGEST if isinstance(file, io.BufferedReader) else _LARGEST_PACKED
    at = 0
    while head := file.read(HEADER):
        if len(head) == HEADER and _bad_header(np.frombuffer(head, np.uint8), np.zeros(1, np.int64)) is not None:
            raise _damaged(path, at)
        size = _LENGTH.unpack_from(head)[0] if len(head) == HEADER else 0
        if size > largest:
            kind, remedy = ("", "") if largest == _LARGEST else (" in a compressed file", "write it uncompressed, or ")
            raise SourceError(
                f"{path}: a record{kind} may have {largest:,} bytes, but that at byte {at} claims {size:,}: {remedy}"
                "copy the file anew"
            )
        body = _read(file, size + FOOTER) if len(head) == HEADER else b""
        if len(body) < size + FOOTER:
            raise _cut(path, at, len(head) + len(body))
        yield at, body[:size]
        at += HEADER + size + FOOTER


def _read(file: IO[bytes], size: int) -> bytes:
    """So many bytes, or fewer where the file ends."""
    if size <= _BLOCK:
        return file.read(size)
    found = bytearray()
    while len(found) < size and (more := file.read(min(_BLOCK, size - len(found)))):
        found += more
    return bytes(found)


def build(path: str, kind: Packing, image: str, label: str | None) -> Index:
    """Look through a file of Examples.

    Args:
        path: the file.
        kind: whether it is compressed.
        image: the key of the images.
        label: the key of the labels; ``None`` for all 0.

    Raises:
        SourceError: it can't be read, a length is damaged, or it ends within a record; names the byte.
    """
    if kind != "plain":
        return _build_compressed(path, kind, image, label)
    try:
        with open(path, "rb", opener=file_input.regular) as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                return joined([])
            # Not closed by hand: it ends with the last array over it, which an error's traceback may hold.
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = np.frombuffer(view, np.uint8)
        places = _walk(view, data, size, path)
        sizes = np.diff(places, append=size) - (HEADER + FOOTER)
        parts = []
        for begin in range(0, len(places), _AT_ONCE):
            some = slice(begin, begin + _AT_ONCE)
            found = tf_example.columns(data, places[some] + HEADER, sizes[some], image, label)
            parts.append(Index(places[some], sizes[some], found.starts, found.lengths, found.labels))
        return joined(parts)
    except OSError as error:
        raise SourceError(f"{path}: the file can't be read: {error.strerror}") from None


def _walk(view: mmap.mmap, data: NDArray[np.uint8], size: int, path: str) -> NDArray[np.int64]:
    """Where each record begins. Their lengths' checksums are compared many at once: soon enough for what isn't records,
    such as the zeros behind a file that was never filled, to take no memory."""
    places, at, unpack, checked = array("q"), 0, _LENGTH.unpack_from, 0
    last = size - (HEADER + FOOTER)
    if size >= HEADER and unpack(view, 0)[0] > _FAR and hasattr(mmap, "MADV_RANDOM"):
        view.madvise(mmap.MADV_RANDOM)  # no reading ahead: of a large image only the pages with its ends are needed
    while at <= last:
        places.append(at)
        at += unpack(view, at)[0] + (HEADER + FOOTER)
        if len(places) - checked == _HEADERS:
            checked = _check_headers(path, data, places, checked)
    _check_headers(path, data, places, checked)
    starts = np.array(places, np.int64)
    if at != size:
        begin = int(starts[-1]) if at > size else at
        raise _cut(path, begin, size - begin)
    return starts


def _check_headers(path: str, data: NDArray[np.uint8], places: array[int], first: int) -> int:
    """How many headers are good now: those before ``first``, and the others if they are.

    Raises:
        SourceError: one isn't; names the byte.
    """
    starts = np.array(places[first:], np.int64)
    bad = _bad_header(data, starts)
    if bad is not None:
        raise _damaged(path, int(starts[bad]))
    return len(places)


def _bad_header(data: NDArray[np.uint8], starts: NDArray[np.int64]) -> int | None:
    """The first of some records whose length doesn't fit its checksum."""
    crc = masked(crc32c_of(data, starts, np.full(len(starts), 8, np.int64)))
    stored = np.ascontiguousarray(data[starts[:, None] + np.arange(8, HEADER)]).view("<u4")[:, 0]
    differs = np.flatnonzero(crc != stored)
    return int(differs[0]) if len(differs) else None


def _build_compressed(path: str, kind: Packing, image: str, label: str | None) -> Index:
    parts: list[Index] = []
    with opened(path, kind) as file:
        places: list[int] = []
        some: list[bytes] = []
        for at, record in records(file, path):
            places.append(at)
            some.append(record)
            if at + len(record) - places[0] >= _READ_AHEAD:
                parts.append(located(some, np.array(places, np.int64) + HEADER, image, label, HEADER))
                places, some = [], []
        if some:
            parts.append(located(some, np.array(places, np.int64) + HEADER, image, label, HEADER))
    return joined(parts)


def located(some: list[bytes], begins: NDArray[np.int64], image: str, label: str | None, header: int = 0) -> Index:
    """An index of records in memory, which stand at ``begins`` of their file."""
    sizes = np.array([len(record) for record in some], np.int64)
    starts = np.cumsum(sizes) - sizes
    found = tf_example.columns(np.frombuffer(b"".join(some), np.uint8), starts, sizes, image, label)
    return Index(begins - header, sizes, found.starts - starts + begins, found.lengths, found.labels)


def joined(parts: list[Index]) -> Index:
    """Several indices as one, as they stand."""
    empty = np.zeros(0, np.int64)
    fields = ("records", "sizes", "starts", "lengths", "labels")
    return Index(*(np.concatenate([empty, *(getattr(part, name) for part in parts)]) for name in fields))


def _damaged(path: str, at: int) -> SourceError:
    return SourceError(f"{path}: the length at byte {at} doesn't fit its checksum: the file is damaged; copy it anew")


def _cut(path: str, at: int, left: int) -> SourceError:
    return SourceError(f"{path}: the record at byte {at} is cut: only {left} of its bytes are left; copy the file anew")


def stamp(path: str, kind: str, image: str, label: str | None) -> dict[str, Any]:
    """What an index is valid for.

    Raises:
        SourceError: the file can't be looked at.
    """
    try:
        state = os.stat(path)
    except OSError as error:
        raise SourceError(f"{path}: the file can't be read: {error.strerror}") from None
    return {
        _NAME: _VERSION,  # first: an index is known by it
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "kind": kind,
        "image": image,
        "label": label,
    }


def places_of(path: str) -> tuple[Path, Path]:
    """Where a file's index may lie: beside it as ``NAME.index``, or in the user's cache folder."""
    whole = os.path.abspath(path)
    digest = hashlib.blake2b(os.fsencode(whole), digest_size=16).hexdigest()
    return Path(f"{whole}.index"), cache_folder.place("index", f"{digest}.index")


def recall(path: str, wanted: dict[str, Any]) -> Index | None:
    """The stored index of a file, or ``None`` if there is none that is whole and of this file as it is now."""
    for place in places_of(path):
        with contextlib.suppress(OSError, DataError), open(place, "rb", opener=file_input.regular) as file:
            head = json_data.parse(file.readline(1 << 16)).mapping()
            if any(key not in head or head[key].data != value for key, value in wanted.items()):
                continue
            digest, body = head["digest"].text() if "digest" in head else "", file.read()
            if len(body) % 40 or digest != hashlib.blake2b(body, digest_size=16).hexdigest():
                continue
            index = Index(*np.frombuffer(body, "<i8").reshape(5, -1).astype(np.int64))
            if _lies_within(index, wanted["kind"], wanted["size"]):
                return index
    return None


def _lies_within(index: Index, kind: str, size: int) -> bool:
    """Whether an index tells of nothing outside a file of so many bytes, nor outside its records."""
    most = size if kind == "plain" else 1 << 48  # so many bytes may be compressed in a file
    image = index.lengths >= 0
    begins = np.zeros_like(index.records) if kind == "array_record" else index.records + HEADER
    columns = (index.records, index.sizes, index.starts[image], index.lengths[image])
    if not all(bool(((column >= 0) & (column <= most)).all()) for column in columns) or bool(
        (index.lengths < -1).any()
    ):
        return False
    offsets = (index.starts - begins)[image]
    inside = (offsets >= 0) & (offsets + index.lengths[image] <= index.sizes[image])
    return bool(inside.all()) and (kind != "plain" or bool((begins + index.sizes + FOOTER <= size).all()))


def remember(path: str, wanted: dict[str, Any], index: Index) -> Path | None:
    """Store an index beside its file; in the user's cache folder where that can't be written, or where what bears the
    index's name there is no index; where neither can be written it isn't kept.

    It is written under another name and then renamed, so that those who build it at the same time don't mix.
    """
    body = np.stack([index.records, index.sizes, index.starts, index.lengths, index.labels]).astype("<i8").tobytes()
    head = wanted | {"digest": hashlib.blake2b(body, digest_size=16).hexdigest()}
    content = json.dumps(head).encode() + b"\n" + body
    beside, cached = places_of(path)
    with contextlib.suppress(OSError):
        if _is_ours(beside):
            file_output.replace(str(beside), content)
            return beside
    with contextlib.suppress(OSError):
        cache_folder.remember(cached, content)
        return cached
    return None


def _is_ours(place: Path) -> bool:
    """Whether an index may be written at a place: nothing is there, or no more than an empty file or an index."""
    try:
        if not stat.S_ISREG(os.lstat(place).st_mode):
            return False
    except FileNotFoundError:
        return True
    with open(place, "rb", opener=file_input.regular) as file:
        return file.read(len(_MAGIC)) in (b"", _MAGIC)


def intact(bodies: list[bytes]) -> list[bool]:
    """Whether some records' bytes, each with the checksum behind them, fit it."""
    ends = np.cumsum([len(body) for body in bodies], dtype=np.int64)
    sizes = np.diff(ends, prepend=0) - FOOTER
    data = np.frombuffer(b"".join(bodies), np.uint8)
    whole = sizes >= 0
    fits = np.zeros(len(bodies), bool)
    stored = np.ascontiguousarray(data[ends[whole][:, None] + np.arange(-FOOTER, 0)]).view("<u4").reshape(-1)
    fits[whole] = masked(crc32c_of(data, ends[whole] - FOOTER - sizes[whole], sizes[whole])) == stored
    return [bool(good) for good in fits]


def framed(some: list[bytes]) -> bytes:
    """Records as they stand in a file."""
    sizes = np.array([len(record) for record in some], np.int64)
    heads = np.frombuffer(sizes.astype("<u8").tobytes(), np.uint8)
    places = np.arange(len(some), dtype=np.int64) * _LENGTH.size
    head_crcs = masked(crc32c_of(heads, places, np.full(len(some), _LENGTH.size, np.int64)))
    bodies = np.frombuffer(b"".join(some), np.uint8)
    crcs = masked(crc32c_of(bodies, np.cumsum(sizes) - sizes, sizes))
    parts = zip(sizes.tolist(), head_crcs.tolist(), some, crcs.tolist(), strict=True)
    return b"".join(
        part for size, head, record, crc in parts for part in (_HEADER.pack(size, head), record, _FOOTER.pack(crc))
    )
