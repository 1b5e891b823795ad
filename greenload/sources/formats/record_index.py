"""Indexes files of records, so that their images can be read at random: an index is built once, and kept.

Building it reads lengths and the few bytes around each image, but neither the images nor the checksums of the records'
bytes: ``greenload check`` tests those.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import stat
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.errors import SourceError
from greenload.sources.formats import tf_example
from greenload.sources.formats.tfrecord import (
    FOOTER,
    HEADER,
    LENGTH,
    Packing,
    bad_header,
    cut_error,
    damaged_error,
    opened,
    records,
)
from greenload.system import cache_folder, file_input, file_output, json_data
from greenload.system.json_data import DataError, Value

_NAME, _VERSION = "greenload index", 2
_MAGIC = f'{{"{_NAME}": '.encode()  # what every index begins with
_LONGEST_HEAD = 1 << 16  # bytes of an index's first line
_LARGEST = 1 << 40  # bytes of an index: of more than 10^10 records
_WHAT = "this index of records"
_AT_ONCE = 1 << 20  # records that are looked at together
_HEADERS = 1 << 16  # headers whose checksums are compared together
_READ_AHEAD = 16 << 20  # bytes of a compressed file that are looked at together
_FAR = 1 << 16  # bytes between lengths from which reading ahead would fetch what isn't looked at


@dataclass(frozen=True)
class RecordIndex:
    """Where a file's records and their images are. All int64 ``[n]``; offsets count uncompressed bytes."""

    records: NDArray[np.int64]
    """Where each record's header begins."""
    sizes: NDArray[np.int64]
    """Bytes of each record without header and footer."""
    starts: NDArray[np.int64]
    """Where each image begins."""
    lengths: NDArray[np.int64]
    """Bytes of each image; −1 where the record lacks it or its label."""
    labels: NDArray[np.int64]


_COLUMNS = len(fields(RecordIndex))


def build(path: str, kind: Packing, image: str, label: str | None) -> RecordIndex:
    """Index a TFRecord file of Examples.

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
        begins = _walk(view, data, size, path)
        sizes = np.diff(begins, append=size) - (HEADER + FOOTER)
        parts = []
        for begin in range(0, len(begins), _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            images = tf_example.columns(data, begins[part] + HEADER, sizes[part], image, label)
            parts.append(RecordIndex(begins[part], sizes[part], images.starts, images.lengths, images.labels))
        return joined(parts)
    except OSError as error:
        raise SourceError(f"{path}: the file can't be read: {error.strerror}") from None


def _walk(view: mmap.mmap, data: NDArray[np.uint8], size: int, path: str) -> NDArray[np.int64]:
    """Where each record begins. The checksums of lengths are compared many at a time, but so often that bytes that
    aren't records, such as the zeros of a file that was never filled, take no memory."""
    begins, at, unpack, checked = array("q"), 0, LENGTH.unpack_from, 0
    last = size - (HEADER + FOOTER)
    if size >= HEADER and unpack(view, 0)[0] > _FAR and hasattr(mmap, "MADV_RANDOM"):
        view.madvise(mmap.MADV_RANDOM)  # no reading ahead: of a large image only the pages with its ends are needed
    while at <= last:
        begins.append(at)
        at += unpack(view, at)[0] + (HEADER + FOOTER)
        if len(begins) - checked == _HEADERS:
            checked = _check_headers(path, data, begins, checked)
    _check_headers(path, data, begins, checked)
    starts = np.array(begins, np.int64)
    if at != size:
        begin = int(starts[-1]) if at > size else at
        raise cut_error(path, begin, size - begin)
    return starts


def _check_headers(path: str, data: NDArray[np.uint8], begins: array[int], first: int) -> int:
    """Check the headers from number ``first`` on; returns how many have been checked in all.

    Raises:
        SourceError: a length doesn't fit its checksum; names the byte.
    """
    starts = np.array(begins[first:], np.int64)
    bad = bad_header(data, starts)
    if bad is not None:
        raise damaged_error(path, int(starts[bad]))
    return len(begins)


def _build_compressed(path: str, kind: Packing, image: str, label: str | None) -> RecordIndex:
    parts: list[RecordIndex] = []
    with opened(path, kind) as file:
        begins: list[int] = []
        some: list[bytes] = []
        for at, record in records(file, path):
            begins.append(at)
            some.append(record)
            if at + len(record) - begins[0] >= _READ_AHEAD:
                parts.append(located(some, np.array(begins, np.int64) + HEADER, image, label, HEADER))
                begins, some = [], []
        if some:
            parts.append(located(some, np.array(begins, np.int64) + HEADER, image, label, HEADER))
    return joined(parts)


def located(
    some: list[bytes], begins: NDArray[np.int64], image: str, label: str | None, header: int = 0
) -> RecordIndex:
    """An index of records in memory.

    Args:
        some: the records.
        begins: where the bytes of each begin in their file, int64 ``[n]``.
        image: the key of the images.
        label: the key of the labels; ``None`` for all 0.
        header: bytes of a header before each record.
    """
    sizes = np.array([len(record) for record in some], np.int64)
    starts = np.cumsum(sizes) - sizes
    images = tf_example.columns(np.frombuffer(b"".join(some), np.uint8), starts, sizes, image, label)
    return RecordIndex(begins - header, sizes, images.starts - starts + begins, images.lengths, images.labels)


def joined(parts: list[RecordIndex]) -> RecordIndex:
    """The indices of several files, or of parts of one, joined."""
    empty = np.zeros(0, np.int64)
    names = [field.name for field in fields(RecordIndex)]
    return RecordIndex(*(np.concatenate([empty, *(getattr(part, name) for part in parts)]) for name in names))


def stamp(path: str, kind: str, image: str, label: str | None) -> dict[str, Any]:
    """What an index is valid for: a file as it is now, and keys.

    Raises:
        SourceError: the file can't be read.
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


def paths_of(path: str) -> tuple[Path, Path]:
    """Where a file's index may lie: beside it as ``NAME.index``, or in the user's cache folder."""
    whole = os.path.abspath(path)
    digest = hashlib.blake2b(os.fsencode(whole), digest_size=16).hexdigest()
    return Path(f"{whole}.index"), cache_folder.locate("index", f"{digest}.index")


def recall(path: str, wanted: dict[str, Any]) -> RecordIndex | None:
    """The stored index of a file, or ``None`` if there is none that is whole and of this file as it is now.

    Args:
        path: the file.
        wanted: its ``stamp``.
    """

    def parse(content: bytes) -> RecordIndex | None:
        return _parse(content, wanted)

    beside, cached = paths_of(path)
    for stored in (beside, cached) if _is_ours(beside) else (cached,):
        if _is_stale(stored, wanted):
            continue
        index = cache_folder.recall(stored, parse, _WHAT, "it is built anew", _LARGEST)
        if index is not None:
            return index
    return None


def _is_stale(stored: Path, wanted: dict[str, Any]) -> bool:
    """Whether a stored index is another version's, or of a file that has changed since, by its first line alone: the
    columns behind it may be many megabytes. ``recall`` reads and judges an index without a first line as a whole."""
    try:
        with open(stored, "rb", opener=file_input.regular) as file:
            head = json_data.parse(file.readline(_LONGEST_HEAD)).mapping()
    except (OSError, DataError):
        return False
    return _differs(head, wanted)


def _differs(head: Mapping[str, Value], wanted: dict[str, Any]) -> bool:
    return any(key not in head or head[key].data != value for key, value in wanted.items())


def _parse(content: bytes, wanted: dict[str, Any]) -> RecordIndex | None:
    """An index as it is stored; ``None`` if it is another version's, or of a file that has changed since.

    Raises:
        DataError: it is damaged.
    """
    end = content.find(b"\n", 0, _LONGEST_HEAD)
    stored, body = json_data.parse(content[: max(end, 0)]).mapping(), memoryview(content)[end + 1 :]
    if _differs(stored, wanted):
        return None
    digest = stored["digest"].text() if "digest" in stored else ""
    if len(body) % (_COLUMNS * 8) or digest != hashlib.blake2b(body, digest_size=16).hexdigest():
        raise DataError("its bytes don't fit their checksum")
    index = RecordIndex(*np.frombuffer(body, "<i8").reshape(_COLUMNS, -1).astype(np.int64))
    if not _lies_within(index, wanted["kind"], wanted["size"]):
        raise DataError("it points outside its file")
    return index


def _lies_within(index: RecordIndex, kind: str, size: int) -> bool:
    """Whether an index points nowhere outside a file of ``size`` bytes, nor outside its records."""
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


def remember(path: str, wanted: dict[str, Any], index: RecordIndex) -> Path | None:
    """Store an index beside its file. Where that can't be written, or where another file has the index's name, it is
    stored in the user's cache folder; where that can't be written either it isn't kept, and a warning says so.

    Args:
        path: the file.
        wanted: its ``stamp`` from before the index was built.
        index: of the file.

    Returns:
        Where it is kept; ``None`` if it isn't.
    """
    columns = [getattr(index, field.name) for field in fields(RecordIndex)]
    body = np.stack(columns).astype("<i8").tobytes()
    head = wanted | {"digest": hashlib.blake2b(body, digest_size=16).hexdigest()}
    content = json.dumps(head).encode() + b"\n" + body
    beside, cached = paths_of(path)
    if _is_ours(beside, or_missing=True):
        with contextlib.suppress(OSError):
            file_output.replace(str(beside), content)
            return beside
    return cached if cache_folder.remember(cached, content, _WHAT) else None


def _is_ours(path: Path, *, or_missing: bool = False) -> bool:
    """Whether a file can be read, and is an index or empty; or, with ``or_missing``, isn't there."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        with open(path, "rb", opener=file_input.regular) as file:
            return file.read(len(_MAGIC)) in (b"", _MAGIC)
    except FileNotFoundError:
        return or_missing
    except OSError:
        return False
