"""Files out of the page cache: gone by the kernel's own count, and read from the device again; what stays is said."""

from __future__ import annotations

import gzip
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from greenload.energy.meters.process import ProcessMeter
from greenload.energy.meters.storage import data_location
from greenload.errors import UsageError
from greenload.profiling import page_cache
from greenload.profiling.page_cache import (
    ColdFiles,
    Extent,
    cached_by_cachestat,
    cached_by_mincore,
    files_of,
    first_files,
)
from greenload.sources import Arrays, Files, ImageFolder, TFRecords
from greenload.sources.formats.tf_example import serialize
from greenload.sources.formats.tfrecord import framed

PAGE = mmap.PAGESIZE


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., list[str]]:
    """Files of noise, in memory and on the device."""
    if not data_location([tmp_path]).disks:
        pytest.skip(f"needs a folder on a disk: {data_location([tmp_path]).why}")

    def made(*sizes: int) -> list[str]:
        paths = [str(tmp_path / f"{number}.bin") for number in range(len(sizes))]
        for path, size in zip(paths, sizes, strict=True):
            with open(path, "wb") as file:
                file.write(os.urandom(size))
                os.fsync(file.fileno())
        return paths

    return made


def cached(path: str, start: int = 0, length: int | None = None) -> int:
    with open(path, "rb") as file:
        found = page_cache.resident_bytes(file.fileno(), start, os.path.getsize(path) if length is None else length)
    assert found is not None
    return found


def read(paths: list[str]) -> tuple[int, int]:
    """Bytes read, and bytes of those that came from the device."""
    meter = ProcessMeter()
    before = meter.read().device_read_bytes
    size = sum(len(Path(path).read_bytes()) for path in paths)
    after = meter.read().device_read_bytes
    assert meter.bytes_source == "process" and before is not None and after is not None
    return size, after - before


def test_what_was_dropped_is_read_from_the_device_byte_for_byte(make: Callable[..., list[str]]) -> None:
    paths = make(*range(1, 200_000, 9_973))
    whole_pages = sum(-(-os.path.getsize(path) // PAGE) * PAGE for path in paths)
    for _ in range(2):
        dropped = ColdFiles(paths).drop()
        assert (dropped.files, dropped.resident_bytes, dropped.problem) == (len(paths), 0, "")
        size, device = read(paths)
        assert size == dropped.bytes and device == whole_pages
        assert read(paths) == (size, 0), "in memory now"


def test_pages_not_written_yet_are_written_first(make: Callable[..., list[str]]) -> None:
    (path,) = make(PAGE)
    Path(path).write_bytes(bytes(range(256)) * 4096)
    assert ColdFiles([path]).drop().problem == ""
    assert cached(path) == 0 and Path(path).read_bytes() == bytes(range(256)) * 4096


def test_only_the_stretch_leaves(make: Callable[..., list[str]]) -> None:
    (path,) = make(64 * PAGE)
    read([path])
    dropped = ColdFiles([Extent(path, 8 * PAGE, 16 * PAGE)]).drop()
    assert (dropped.files, dropped.bytes, dropped.resident_bytes) == (1, 16 * PAGE, 0)
    assert cached(path, 8 * PAGE, 16 * PAGE) == 0
    assert cached(path, 0, 8 * PAGE) in (0, 8 * PAGE), "all or, where pages are larger, none"
    assert ColdFiles([Extent(path, 63 * PAGE, None), Extent(path, 99 * PAGE, None)]).drop().bytes == PAGE


def test_what_this_process_has_mapped_stays_and_is_said(make: Callable[..., list[str]]) -> None:
    (path,) = make(100_000)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[::PAGE]) >= 0
        dropped = ColdFiles([path]).drop()
    assert dropped.resident_bytes == 100_000
    assert dropped.problem == f"100 kB of 100 kB stay in memory: {path} is mapped by this process"
    assert ColdFiles([path]).drop().problem == ""


def test_what_is_held_is_found_by_a_link_and_may_be_gone(make: Callable[..., list[str]]) -> None:
    (path,) = make(100_000)
    link = f"{path}.link"
    os.symlink(path, link)
    with open(link, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[::PAGE]) >= 0
        assert ColdFiles([link]).drop().problem.endswith(f"{path} is mapped by this process")

    def removed(*_: int) -> int:
        Path(path).unlink(missing_ok=True)
        return PAGE

    assert "can't be found any more: No such file" in ColdFiles([link], resident=removed).drop().problem


def test_what_another_process_has_mapped_stays_and_it_is_named(make: Callable[..., list[str]]) -> None:
    (path,) = make(100_000)
    code = (
        "import mmap, sys; file = open(sys.argv[1], 'rb'); held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ);"
        "sum(held[::4096]); print('mapped', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"mapped\n"
        dropped = ColdFiles([path]).drop()
        assert dropped.resident_bytes and dropped.problem.endswith(f"is mapped by process {other.pid}")
        other.communicate()
    assert ColdFiles([path]).drop().problem == ""


def test_a_file_in_shared_memory_has_no_device() -> None:
    if not data_location(["/dev/shm"]).why:
        pytest.skip("no /dev/shm")
    path = Path(f"/dev/shm/greenload-test-{os.getpid()}")
    try:
        path.write_bytes(bytes(3 * PAGE))
        dropped = ColdFiles([path]).drop()
    finally:
        path.unlink(missing_ok=True)
    assert dropped.resident_bytes == 3 * PAGE and dropped.problem.endswith("is in memory (tmpfs)")


def test_what_cannot_be_opened_or_told_is_said(make: Callable[..., list[str]]) -> None:
    (path,) = make(100)
    missing = ColdFiles([path, f"{path}.none"]).drop()
    assert missing.problem == f"{path}.none can't be dropped: No such file or directory"
    assert missing.resident_bytes is None and missing.bytes == 100
    assert ColdFiles([f"{path}.none"] * 3).drop().problem.endswith("No such file or directory, nor can 2 more")
    untold = ColdFiles([path], resident=lambda *_: None).drop()
    assert untold.resident_bytes is None and "can't be told" in untold.problem
    with pytest.raises(UsageError, match="at least one file"):
        ColdFiles([])


def test_both_ways_of_counting_agree(make: Callable[..., list[str]]) -> None:
    (path,) = make(40 * PAGE + 5)
    ColdFiles([path]).drop()
    with open(path, "rb") as file:
        handle = file.fileno()
        if cached_by_cachestat(handle, 0, 1) is None:
            pytest.skip("this kernel has no cachestat")
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead
        os.pread(handle, 1, 7 * PAGE)
        os.pread(handle, 1, 40 * PAGE)
        for start, length, pages in ((0, 40 * PAGE + 5, 2), (7 * PAGE, PAGE, 1), (8 * PAGE, 5, 0), (40 * PAGE, 5, 1)):
            counts = (cached_by_cachestat(handle, start, length), cached_by_mincore(handle, start, length))
            assert counts == (pages * PAGE, pages * PAGE), (start, length)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_who_may_not_write_the_file_is_not_told_and_says_so(make: Callable[..., list[str]]) -> None:
    (path,) = make(100)
    with open(path, "rb") as file:
        os.seteuid(65534)
        try:
            assert cached_by_mincore(file.fileno(), 0, 100) is None, "it would call every page resident"
        finally:
            os.seteuid(0)


def test_the_files_of_sources(sample_folder: Path) -> None:
    folder = ImageFolder(sample_folder)
    assert files_of(folder) == tuple(Extent(path) for path in folder.paths)
    assert files_of(folder, np.array([2, 0])) == (Extent(folder.paths[2]), Extent(folder.paths[0]))
    assert files_of(Files(["b.jpg", "a.jpg"]), [1]) == (Extent("a.jpg"),)
    assert first_files(folder) == (folder.paths[0],)
    arrays = Arrays(np.zeros((1, 2, 2, 3), np.uint8))
    assert first_files(arrays) == ()
    with pytest.raises(UsageError, match="Arrays are in memory"):
        files_of(arrays)


def test_records_leave_by_stretches_of_whole_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = framed([serialize(os.urandom(5 * PAGE), 1) for _ in range(8)])
    (tmp_path / "plain.tfrecord").write_bytes(data)
    source = TFRecords(tmp_path / "plain.tfrecord")
    (whole,) = files_of(source)
    assert whole.start == 0 and whole.length is not None and whole.length >= len(data) - PAGE
    first, last = files_of(source, [7, 0, 1])
    starts, lengths = source.table.index.starts, source.table.index.lengths
    assert (first.start, first.length) == (0, -(-(starts[1] + lengths[1]) // PAGE) * PAGE)
    assert last.start == starts[7] // PAGE * PAGE and last.length is not None
    assert last.start + last.length >= starts[7] + lengths[7]

    (tmp_path / "packed.tfrecord.gz").write_bytes(gzip.compress(data))
    packed = TFRecords(tmp_path / "packed.tfrecord.gz")
    assert files_of(packed, [3]) == (Extent(str(tmp_path / "packed.tfrecord.gz")),)
