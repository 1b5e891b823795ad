"""Reads records from files of records: each kind of file in the way that costs least."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

import numpy as np

from greenload.errors import SourceError
from greenload.sources.formats import record_index, tfrecord
from greenload.sources.formats.record_index import RecordIndex
from greenload.system import file_input, limits
from greenload.system.frameworks import imports_of_extra
from greenload.text import one_line

GAP_BYTES = 16 << 10
"""Images with gaps of at most so many bytes are read in one call: reading 16 kB more costs less than another call."""
_RUN_BYTES = 4 << 20  # bytes of one call, at most
_OPEN_FILES = 128  # well below the usual limit of 1024 a process
_SKIP_BYTES = 1 << 20
_STREAMS = 4  # so many positions in compressed files are kept: else two iterators would begin anew in turns
_PASSED_BYTES = 8 << 20
_LOOKED_AT_BYTES = 64 << 20  # of an ArrayRecord file's records, while it is indexed


@dataclass(frozen=True)
class ByteRange:
    """The bytes that are read of one record."""

    path: str
    """The file."""
    record: int
    """Where the record's header begins; in an ArrayRecord file the record's number."""
    start: int
    """Where the range begins, in the file's (uncompressed) bytes; in an ArrayRecord file in the record's."""
    length: int
    """Bytes of the range."""


class Reader(Protocol):
    """Reads ranges of bytes of files of one format."""

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes | None]:
        """The bytes of each range; ``None`` for those that can't be read.

        Raises:
            SourceError: nothing can be read now: a limit of the process is reached.
        """


class PlainReader:
    """Reads uncompressed TFRecord files: ranges that are close to each other in one call. Safe in threads."""

    def __init__(self) -> None:
        self._open = functools.lru_cache(_OPEN_FILES)(_Descriptor)

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes | None]:
        """The bytes of each range, as ``Reader`` says."""
        out: list[bytes | None] = [None] * len(ranges)
        order = sorted(range(len(ranges)), key=lambda i: (ranges[i].path, ranges[i].start))
        begin = 0
        while begin < len(order):
            first = ranges[order[begin]]
            end, stop = begin + 1, first.start + first.length
            while end < len(order) and _near(first, stop, ranges[order[end]]):
                stop = ranges[order[end]].start + ranges[order[end]].length
                end += 1
            try:
                # Held until it is read: a file that several threads open at once, or that a later one displaces, is
                # closed by its last user.
                file = self._open(first.path)
                data = _read_at(file.number, stop - first.start, first.start)
                for index in order[begin:end]:
                    wanted = ranges[index]
                    offset = wanted.start - first.start
                    if offset + wanted.length <= len(data):
                        # Bytes cut whole are not copied.
                        out[index] = data[offset : offset + wanted.length]
            except (OSError, MemoryError) as error:
                limits.raise_if_out(first.path, error)
            begin = end
        return out


def _near(first: ByteRange, stop: int, following: ByteRange) -> bool:
    return (
        following.path == first.path
        and 0 <= following.start - stop <= GAP_BYTES
        and following.start + following.length - first.start <= _RUN_BYTES
    )


def _read_at(number: int, length: int, offset: int) -> bytes:
    if length > _RUN_BYTES:  # memory for the bytes in the file, not for those that an index claims
        length = max(0, min(length, os.fstat(number).st_size - offset))
    data = os.pread(number, length, offset)
    while data and len(data) < length:  # cut short by a signal or at 2 GB
        more = os.pread(number, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


class _Descriptor:
    """An open file that is closed when it is no longer referred to."""

    def __init__(self, path: str) -> None:
        self.number = file_input.regular(path)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if hasattr(self, "number"):
            close(self.number)  # bound above: at the interpreter's end the module may be gone


class SequentialReader:
    """Reads compressed TFRecord files forwards, and skips other bytes; a far step back begins at the file's start. Safe
    in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: list[_Stream] = []  # the last used one last

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes | None]:
        """The bytes of each range, as ``Reader`` says. Ranges in the order of the files cost least."""
        out: list[bytes | None] = []
        with self._lock:
            for wanted in ranges:
                data = None
                try:
                    data = self._next(wanted)
                except SourceError as error:
                    if limits.ran_out(error.__cause__):
                        raise
                out.append(data if data is not None and len(data) == wanted.length else None)
        return out

    def _next(self, wanted: ByteRange) -> bytes:
        fitting = [stream for stream in self._streams if stream.path == wanted.path and stream.first <= wanted.start]
        if fitting:
            stream = max(fitting, key=lambda stream: stream.at)
            self._streams.remove(stream)
        else:
            if len(self._streams) == _STREAMS:
                self._streams.pop(0).close()
            stream = _Stream(wanted.path)
        try:
            data = stream.read(wanted.start, wanted.length)
        except (OSError, EOFError, ValueError, MemoryError, zlib.error) as error:
            stream.close()
            limits.raise_if_out(wanted.path, error)
            raise SourceError(f"{wanted.path}: {error}") from None
        self._streams.append(stream)
        return data


class _Stream:
    """A compressed file that is read forwards. The last bytes passed are kept: threads ask slightly out of order."""

    def __init__(self, path: str) -> None:
        self.path, self.at = path, 0
        self._passed = bytearray()
        self._stack = contextlib.ExitStack()
        self._file: IO[bytes] = self._stack.enter_context(tfrecord.opened(path, tfrecord.packing(path)))

    @property
    def first(self) -> int:
        """The first byte that can still be read."""
        return self.at - len(self._passed)

    def read(self, start: int, length: int) -> bytes:
        """A range that begins at ``first`` or later; it is cut where the file ends."""
        while self.at < start + length:
            more = self._file.read(min(_SKIP_BYTES, start + length - self.at))
            if not more:
                break
            self.at += len(more)
            self._passed += more
            del self._passed[: max(0, min(len(self._passed) - _PASSED_BYTES, start - self.first))]
        begin = start - self.first
        return bytes(memoryview(self._passed)[begin : begin + length])

    def close(self) -> None:
        with contextlib.suppress(SourceError):
            self._stack.close()


class ArrayRecordReader:
    """Reads ArrayRecord files through the array_record package. Safe in threads."""

    def __init__(self) -> None:
        self._open = functools.lru_cache(_OPEN_FILES)(_ArrayRecord)

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes | None]:
        """The bytes of each range, as ``Reader`` says."""
        out: list[bytes | None] = [None] * len(ranges)
        indices: dict[str, list[int]] = {}
        for index, wanted in enumerate(ranges):
            indices.setdefault(wanted.path, []).append(index)
        for path, some in indices.items():
            some.sort(key=lambda i: ranges[i].record)
            for index, record in zip(some, self._records(path, [ranges[i].record for i in some]), strict=True):
                if record is not None:
                    start = ranges[index].start
                    cut = record[start : start + ranges[index].length]
                    out[index] = cut if len(cut) == ranges[index].length else None
        return out

    def _records(self, path: str, numbers: list[int]) -> Sequence[bytes | None]:
        try:
            return self._open(path).read(numbers)
        except SourceError as error:
            if limits.ran_out(error.__cause__):
                raise
            return [None] * len(numbers)
        except (RuntimeError, ValueError, IndexError):  # one damaged record makes the whole call fail
            return [None] if len(numbers) == 1 else [self._records(path, [number])[0] for number in numbers]


class _ArrayRecord:
    def __init__(self, path: str) -> None:
        self._file, self._lock = open_array_record(path), threading.Lock()

    def read(self, numbers: list[int]) -> list[bytes]:
        with self._lock:
            records: list[bytes] = self._file.read(numbers)
            return records


def open_array_record(path: str) -> Any:
    """An ``array_record_module.ArrayRecordReader`` of a file, for random access.

    Raises:
        BackendUnavailable: the array_record package is missing.
        SourceError: the file can't be read.
    """
    with imports_of_extra("tfds", f"{path}: ArrayRecord needs array_record"):
        from array_record.python import array_record_module
    try:
        os.close(file_input.regular(path))
        # Without reading ahead: random access would drop those bytes.
        file = array_record_module.ArrayRecordReader(path, "readahead_buffer_size:0,max_parallelism:0")
        if not file.ok():  # and would claim to hold no records: the index at its end is missing
            file.seek(0)  # raises where the file itself can't be opened
            raise RuntimeError("its end is missing or damaged, as of a file that was cut")
    except OSError as error:
        limits.raise_if_out(path, error)
        raise SourceError(f"{path}: the file can't be read: {error.strerror}") from None
    except (RuntimeError, ValueError, IndexError) as error:
        limits.raise_if_out(path, error)
        raise SourceError(f"{path}: this ArrayRecord file can't be opened: {one_line(error)}; copy it anew") from None
    return file


def build_array_record(path: str, image: str, label: str | None) -> RecordIndex:
    """Index an ArrayRecord file of Examples. ``records`` are numbers, ``starts`` are offsets within a record.

    Raises:
        BackendUnavailable: the array_record package is missing.
        SourceError: the file can't be read.
    """
    file = open_array_record(path)
    parts: list[RecordIndex] = []
    count = file.num_records()
    mean = max(1, os.stat(path).st_size // max(1, count))
    at_once = max(1, min(256, _LOOKED_AT_BYTES // mean))
    for begin in range(0, count, at_once):
        end = min(count, begin + at_once)
        try:
            records: list[bytes] = file.read(list(range(begin, end)))
        except (RuntimeError, ValueError, IndexError):
            records = [_one(file, number) for number in range(begin, end)]
        part = record_index.located(records, np.zeros(len(records), np.int64), image, label)
        parts.append(RecordIndex(np.arange(begin, end), part.sizes, part.starts, part.lengths, part.labels))
    return record_index.joined(parts)


def _one(file: Any, number: int) -> bytes:
    try:
        record: bytes = file.read([number])[0]
    except (RuntimeError, ValueError, IndexError):
        return b""  # is no Example: raises when it is read
    return record
