"""How records come out of files of records: each kind of file in the way that costs it least."""

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

from greenload.errors import BackendUnavailable, SourceError
from greenload.sources.formats import tfrecord
from greenload.sources.formats.tfrecord import Index
from greenload.system import file_input, limits
from greenload.text import one_line

GAP_BYTES = 16 << 10
"""Images at most so far apart in a file are read in one call: skipping 16 kB costs less than another call."""
_RUN_BYTES = 4 << 20  # bytes of one call, at most
_OPEN_FILES = 128  # well below the usual limit of 1024 a process
_SKIP_BYTES = 1 << 20
_STREAMS = 4  # so many places of compressed files are read on from: two iterators would else begin anew in turns
_PASSED_BYTES = 8 << 20
_LOOKED_AT_BYTES = 64 << 20  # of an ArrayRecord file's records, while it is indexed


@dataclass(frozen=True)
class Span:
    """What is read of one record."""

    path: str
    """The file."""
    record: int
    """Where its header begins, or its number, in a file of another format."""
    start: int
    """Where what is wanted begins, in the file's (uncompressed) bytes; in ArrayRecord files in the record's."""
    length: int
    """Bytes wanted."""


class Reader(Protocol):
    """Reads stretches of files of one format."""

    def read(self, spans: Sequence[Span]) -> list[bytes | None]:
        """The bytes of each stretch; ``None`` for what can't be read.

        Raises:
            SourceError: nothing can be read now: a limit of the process is reached.
        """
        ...


class PlainReader:
    """Uncompressed TFRecord files: stretches that lie close together are read in one call. Safe in threads."""

    def __init__(self) -> None:
        self._open = functools.lru_cache(_OPEN_FILES)(_Descriptor)

    def read(self, spans: Sequence[Span]) -> list[bytes | None]:
        """As in ``Reader``."""
        out: list[bytes | None] = [None] * len(spans)
        order = sorted(range(len(spans)), key=lambda i: (spans[i].path, spans[i].start))
        begin = 0
        while begin < len(order):
            first = spans[order[begin]]
            end, stop = begin + 1, first.start + first.length
            while end < len(order) and _near(first, stop, spans[order[end]]):
                stop = spans[order[end]].start + spans[order[end]].length
                end += 1
            try:
                # Held until it is read: what several threads open at once, or a later file displaces, is closed with
                # its last user.
                file = self._open(first.path)
                data = _read_at(file.number, stop - first.start, first.start)
                for place in order[begin:end]:
                    span = spans[place]
                    offset = span.start - first.start
                    if offset + span.length <= len(data):
                        # Bytes cut whole are not copied.
                        out[place] = data[offset : offset + span.length]
            except (OSError, MemoryError) as error:
                if why := limits.ran_out(error):
                    raise limits.unreadable(first.path, why) from None
            begin = end
        return out


def _near(first: Span, stop: int, following: Span) -> bool:
    return (
        following.path == first.path
        and 0 <= following.start - stop <= GAP_BYTES
        and following.start + following.length - first.start <= _RUN_BYTES
    )


def _read_at(number: int, length: int, offset: int) -> bytes:
    if length > _RUN_BYTES:  # memory for what is there, not for what an index claims
        length = max(0, min(length, os.fstat(number).st_size - offset))
    data = os.pread(number, length, offset)
    while data and len(data) < length:  # cut short by a signal or at 2 GB
        more = os.pread(number, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


class _Descriptor:
    """An open file that is closed with its last user."""

    def __init__(self, path: str) -> None:
        self.number = file_input.regular(path)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if hasattr(self, "number"):
            close(self.number)  # bound above: at the interpreter's end the module may be gone


class SequentialReader:
    """Compressed TFRecord files: read forwards, skipping what isn't wanted; a far step back begins anew. Safe in
    threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: list[_Stream] = []  # the last used one last

    def read(self, spans: Sequence[Span]) -> list[bytes | None]:
        """As in ``Reader``. Stretches that come in the order of the files cost least."""
        out: list[bytes | None] = []
        with self._lock:
            for span in spans:
                data = None
                try:
                    data = self._next(span)
                except SourceError as error:
                    if limits.ran_out(error.__cause__):
                        raise
                out.append(data if data is not None and len(data) == span.length else None)
        return out

    def _next(self, span: Span) -> bytes:
        fitting = [stream for stream in self._streams if stream.path == span.path and stream.first <= span.start]
        if fitting:
            stream = max(fitting, key=lambda one: one.at)
            self._streams.remove(stream)
        else:
            if len(self._streams) == _STREAMS:
                self._streams.pop(0).close()
            stream = _Stream(span.path)
        try:
            data = stream.read(span.start, span.length)
        except (OSError, EOFError, ValueError, MemoryError, zlib.error) as error:
            stream.close()
            if why := limits.ran_out(error):
                raise limits.unreadable(span.path, why) from error
            raise SourceError(f"{span.path}: {error}") from None
        self._streams.append(stream)
        return data


class _Stream:
    """A compressed file on its way forwards. The last of what it passed is kept: threads don't ask quite in order."""

    def __init__(self, path: str) -> None:
        self.path, self.at = path, 0
        self._passed = bytearray()
        self._stack = contextlib.ExitStack()
        self._file: IO[bytes] = self._stack.enter_context(tfrecord.opened(path, tfrecord.packing(path)))

    @property
    def first(self) -> int:
        """The first byte that can still be had."""
        return self.at - len(self._passed)

    def read(self, start: int, length: int) -> bytes:
        """A stretch that begins at ``first`` or later; less of it where the file ends."""
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
    """ArrayRecord files, through the array_record package. Safe in threads."""

    def __init__(self) -> None:
        self._open = functools.lru_cache(_OPEN_FILES)(_ArrayRecord)

    def read(self, spans: Sequence[Span]) -> list[bytes | None]:
        """As in ``Reader``."""
        out: list[bytes | None] = [None] * len(spans)
        places: dict[str, list[int]] = {}
        for place, span in enumerate(spans):
            places.setdefault(span.path, []).append(place)
        for path, some in places.items():
            some.sort(key=lambda i: spans[i].record)
            for place, record in zip(some, self._records(path, [spans[i].record for i in some]), strict=True):
                if record is not None:
                    start = spans[place].start
                    cut = record[start : start + spans[place].length]
                    out[place] = cut if len(cut) == spans[place].length else None
        return out

    def _records(self, path: str, numbers: list[int]) -> Sequence[bytes | None]:
        try:
            return self._open(path).read(numbers)
        except SourceError as error:
            if limits.ran_out(error.__cause__):
                raise
            return [None] * len(numbers)
        except (RuntimeError, ValueError, IndexError):  # one that is damaged takes the others along
            return [None] if len(numbers) == 1 else [self._records(path, [number])[0] for number in numbers]


class _ArrayRecord:
    def __init__(self, path: str) -> None:
        self._file, self._lock = open_array_record(path), threading.Lock()

    def read(self, numbers: list[int]) -> list[bytes]:
        with self._lock:
            found: list[bytes] = self._file.read(numbers)
            return found


def open_array_record(path: str) -> Any:
    """An ``array_record_module.ArrayRecordReader`` of a file, for random access.

    Raises:
        BackendUnavailable: the array_record package is missing.
        SourceError: the file can't be read.
    """
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise BackendUnavailable(
            f"{path}: ArrayRecord needs array_record ({error}): pip install 'greenload[tfds]'"
        ) from None
    try:
        os.close(file_input.regular(path))
        # Without reading ahead, which random access would throw away.
        file = array_record_module.ArrayRecordReader(path, "readahead_buffer_size:0,max_parallelism:0")
        if not file.ok():  # and would claim to hold no records: what it lacks is the index at its end
            file.seek(0)  # raises where the file itself can't be opened
            raise RuntimeError("its end is missing or damaged, as of a file that was cut")
    except OSError as error:
        if why := limits.ran_out(error):
            raise limits.unreadable(path, why) from error
        raise SourceError(f"{path}: the file can't be read: {error.strerror}") from None
    except (RuntimeError, ValueError, IndexError) as error:
        if why := limits.ran_out(error):
            raise limits.unreadable(path, why) from error
        raise SourceError(f"{path}: this ArrayRecord file can't be opened: {one_line(error)}; copy it anew") from None
    return file


def build_array_record(path: str, image: str, label: str | None) -> Index:
    """Look through an ArrayRecord file of Examples. ``records`` are numbers, ``starts`` places within a record.

    Raises:
        BackendUnavailable: the array_record package is missing.
        SourceError: the file can't be read.
    """
    file = open_array_record(path)
    parts: list[Index] = []
    count = file.num_records()
    mean = max(1, os.stat(path).st_size // max(1, count))
    at_once = max(1, min(256, _LOOKED_AT_BYTES // mean))
    for begin in range(0, count, at_once):
        end = min(count, begin + at_once)
        try:
            some: list[bytes] = file.read(list(range(begin, end)))
        except (RuntimeError, ValueError, IndexError):
            some = [_one(file, number) for number in range(begin, end)]
        found = tfrecord.located(some, np.zeros(len(some), np.int64), image, label)
        parts.append(Index(np.arange(begin, end), found.sizes, found.starts, found.lengths, found.labels))
    return tfrecord.joined(parts)


def _one(file: Any, number: int) -> bytes:
    try:
        found: bytes = file.read([number])[0]
    except (RuntimeError, ValueError, IndexError):
        return b""  # is no Example: found when it is read
    return found
