"""Drops a set's files from the page cache before the windows of a cold run, and counts what stays.

posix_fadvise(2) with ``POSIX_FADV_DONTNEED`` drops clean pages that nobody has mapped or locked; dirty ones go after an
fsync(2). Whether they are gone is asked of cachestat(2) (Linux 6.5), else of mincore(2). Neither is told to a process
that may not write the file and doesn't own it. What lies below the machine isn't reached: the host of a virtual
machine, a file server, and a drive keep memories of their own.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from greenload.energy.meters.storage import data_location
from greenload.errors import UsageError
from greenload.sources import Arrays, FileSource, RecordSource, Source
from greenload.system import file_input
from greenload.text import bytes_text

_CACHESTAT = 451  # the system call's number on every architecture but Alpha
_PAGE = mmap.PAGESIZE

Resident = Callable[[int, int, int], int | None]
"""Bytes in memory of a file descriptor's stretch, from and how many; None where the system doesn't tell."""


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of a file."""

    path: str
    start: int = 0
    length: int | None = None
    """None up to the file's end."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What became of the pages.

    Example:
        >>> Dropped(files=512, bytes=44_000_000, resident_bytes=0).problem
        ''
    """

    files: int
    bytes: int
    """How many bytes were to leave memory."""
    resident_bytes: int | None
    """How many are still there; None where the system doesn't tell."""
    problem: str = ""
    """Why some stayed, or why that isn't known; empty where all are gone for sure."""


def files_of(source: Source, indices: Sequence[int] | NDArray[np.int64] | None = None) -> tuple[Extent, ...]:
    """Which stretches of which files some samples are read from, or all.

    Args:
        source: files, or files of records: of plain ones the records' own stretches, of compressed ones whole files.
        indices: the samples; all if None.

    Raises:
        UsageError: the source's samples are in memory.
    """
    if isinstance(source, Arrays):
        raise UsageError("a cold run reads from a device, but Arrays are in memory: leave cold out")
    chosen = np.arange(len(source)) if indices is None else np.asarray(indices, np.int64)
    if isinstance(source, FileSource):
        return tuple(Extent(source.paths[int(index)]) for index in chosen)
    if not isinstance(source, RecordSource):
        raise UsageError(
            f"a cold run needs to know the files, which {type(source).__name__} doesn't tell: leave cold out"
        )
    if any(part.kind != "plain" for part in source.parts()):
        return tuple(Extent(path) for path in dict.fromkeys(source.table.paths))
    index = source.table.index
    good = chosen[index.lengths[chosen] >= 0]
    columns = (source.table.file(good), index.starts[good], index.lengths[good])
    rows = sorted(zip(*(column.tolist() for column in columns), strict=True))
    return tuple(_merged((source.table.paths[file], start, start + length) for file, start, length in rows))


def first_files(source: Source) -> tuple[str, ...]:
    """A file that the source's first sample is read from, to find the device by; none for samples in memory."""
    return () if isinstance(source, Arrays) else tuple(extent.path for extent in files_of(source, [0]))


def _merged(stretches: Iterable[tuple[str, int, int]]) -> Iterable[Extent]:
    """Sorted stretches widened to whole pages, those that touch made one."""
    path, begin, end = "", 0, 0
    for next_path, start, stop in stretches:
        start, stop = start // _PAGE * _PAGE, -(-stop // _PAGE) * _PAGE
        if next_path == path and start <= end:
            end = max(end, stop)
            continue
        if end > begin:
            yield Extent(path, begin, end - begin)
        path, begin, end = next_path, start, stop
    if end > begin:
        yield Extent(path, begin, end - begin)


class ColdFiles:
    """Drops files from the page cache, as often as it is asked: before each window that reads.

    Args:
        extents: what to drop, such as what `files_of` gives; a path stands for the whole file.
        resident: counts what is in memory; the system is asked if None.

    Example:
        >>> ColdFiles(files_of(source)).drop()      # doctest: +SKIP
        Dropped(files=512, bytes=43684608, resident_bytes=0, problem='')
    """

    def __init__(self, extents: Iterable[Extent | str | os.PathLike[str]], *, resident: Resident | None = None) -> None:
        self.extents = tuple(extent if isinstance(extent, Extent) else Extent(os.fspath(extent)) for extent in extents)
        """What is dropped."""
        self._resident = resident or resident_bytes
        if not self.extents:
            raise UsageError("a cold run drops at least one file from memory, found none: name the set's files")

    def drop(self) -> Dropped:
        """Drop them now, and count what stays: in some 20 µs of CPU time a file of 85 kB."""
        total = resident = 0
        unknown = False
        held: list[str] = []
        failed: list[str] = []
        for extent in self.extents:
            try:
                size, stays = self._drop(extent)
            except OSError as error:
                failed.append(f"{extent.path} can't be dropped: {error.strerror}")
                continue
            total += size
            if stays is None:
                unknown = True
            elif stays:
                resident += min(stays, size)  # the last page is counted whole
                held.append(extent.path)
        reasons = failed[:1]
        if len(failed) > 1:
            reasons = [f"{failed[0]}, nor can {len(failed) - 1} more"]
        if held:
            reasons.append(f"{bytes_text(resident)} of {bytes_text(total)} stay in memory: {why_held(held[0])}")
        elif unknown:
            reasons.append(
                "whether the files left memory can't be told: it needs Linux 6.5 and files that the process may write"
            )
        files = len({extent.path for extent in self.extents})
        return Dropped(files, total, None if unknown or failed else resident, "; ".join(reasons))

    def _drop(self, extent: Extent) -> tuple[int, int | None]:
        """Bytes of a stretch, and how many of them stay."""
        handle = file_input.regular(extent.path)
        try:
            end = os.fstat(handle).st_size
            size = max(0, min(end - extent.start, end if extent.length is None else extent.length))
            if not size:
                return 0, 0
            # Small stretches first; then what holds them up: pages to be written, and pages larger than a stretch.
            steps = ((extent.start, size, False), (extent.start, size, True), (0, 0, True))
            stays: int | None = 0
            for start, length, write in steps:
                if write:
                    os.fsync(handle)
                os.posix_fadvise(handle, start, length and -(-length // _PAGE) * _PAGE, os.POSIX_FADV_DONTNEED)
                stays = self._resident(handle, extent.start, size)
                if stays == 0:
                    break
            return size, stays
        finally:
            os.close(handle)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _CacheStat(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recently"))


def resident_bytes(handle: int, start: int, length: int) -> int | None:
    """Bytes of a file's stretch that are in the page cache, in whole pages; None where the system doesn't tell."""
    cached = cached_by_cachestat(handle, start, length)
    return cached_by_mincore(handle, start, length) if cached is None else cached


def cached_by_cachestat(handle: int, start: int, length: int) -> int | None:
    """Bytes of a file's stretch in the page cache, by cachestat(2); None where the kernel lacks it, or refuses."""
    stretch, stat, libc = _Range(start, length), _CacheStat(), _libc()
    if not hasattr(libc, "syscall") or libc.syscall(_CACHESTAT, handle, ctypes.byref(stretch), ctypes.byref(stat), 0):
        return None
    return int(stat.cached) * _PAGE


def cached_by_mincore(handle: int, start: int, length: int) -> int | None:
    """Bytes of a file's stretch in the page cache, by mincore(2) on a map of it; None where it tells nothing.

    To a process that doesn't own the file and can't write it, it calls all pages resident (Linux 5.2).
    """
    state = os.fstat(handle)
    if os.geteuid() not in (0, state.st_uid) and not os.access(f"/proc/self/fd/{handle}", os.W_OK, effective_ids=True):
        return None
    libc = _libc()
    if not hasattr(libc, "mincore"):
        return None
    begin = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    try:
        with mmap.mmap(handle, start + length - begin, prot=mmap.PROT_READ, offset=begin) as mapped:
            view = np.frombuffer(mapped, np.uint8)
            pages = np.zeros(-(-len(view) // _PAGE), np.uint8)
            arguments = (
                ctypes.c_void_p(view.ctypes.data),
                ctypes.c_size_t(len(view)),
                ctypes.c_void_p(pages.ctypes.data),
            )
            failed = libc.mincore(*arguments)
            del view  # the map can't be closed while it is seen
    except (OSError, ValueError):
        return None
    return None if failed else int((pages & 1).sum()) * _PAGE


def why_held(path: str) -> str:
    """Why a file's pages stay in memory, as far as that can be seen from here."""
    location = data_location([path])
    if location.known and not location.disks:
        return location.why
    try:
        inode, path = os.stat(path).st_ino, os.path.realpath(path)  # maps name the file itself, not links to it
    except OSError as error:
        return f"{path} can't be found any more: {error.strerror}"
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda process: process.name != str(os.getpid())):
        try:
            with open(folder / "maps", encoding="utf-8", errors="replace") as lines:
                if any(_maps(line, path, inode) for line in lines):
                    who = "this process" if folder.name == str(os.getpid()) else f"process {folder.name}"
                    return f"{path} is mapped by {who}"
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM):
                raise
    return f"another process may have {path} mapped, locked, or be reading it"


def _maps(line: str, path: str, inode: int) -> bool:
    fields = line.split(maxsplit=5)
    return (
        len(fields) == 6 and fields[4] == str(inode) and os.path.basename(fields[5].strip()) == os.path.basename(path)
    )
