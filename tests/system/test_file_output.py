"""Files are written whole or not at all, in real folders, on a disk that is full and under limits that bite."""

from __future__ import annotations

import errno
import os
import re
import resource
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from greenload.system import file_output
from greenload.system.file_output import write

LONG = "new" * 100_000


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: what is larger can't be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True)
    if made.returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_what_is_written_is_there_with_the_umasks_permissions(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    before = os.umask(0o027)
    try:
        write(file, "é\n")
    finally:
        os.umask(before)
    assert file.read_bytes() == "é\n".encode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert names(tmp_path) == ["a.json"]


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")
    file.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(file, 1234, 4321)
    owner = (file.stat().st_uid, file.stat().st_gid)
    write(file, b"new")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o604)
    assert (file.stat().st_uid, file.stat().st_gid) == owner


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link, dangling = tmp_path / "there" / "a", tmp_path / "link", tmp_path / "dangling"
    target.write_text("old")
    link.symlink_to("there/a")
    dangling.symlink_to("there/b")
    write(link, "new")
    write(dangling, "fresh")
    assert link.is_symlink() and dangling.is_symlink()
    assert (target.read_text(), (tmp_path / "there" / "b").read_text()) == ("new", "fresh")
    assert names(tmp_path / "there") == ["a", "b"]


def test_a_full_disk_leaves_the_old_file(small_disk: Path) -> None:
    file = small_disk / "a.json"
    file.write_text("old")
    with pytest.raises(OSError) as caught:
        write(file, LONG)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(file))
    assert file_output.why(caught.value) == "No space left on device; free some space, or choose another path"
    assert file.read_text() == "old" and names(small_disk) == ["a.json"]


def test_whatever_stops_it_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")
    with files_of_at_most(1000), pytest.raises(OSError, match="File too large"):
        write(file, LONG)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def interrupt(number: int) -> None:
            raise KeyboardInterrupt

        patch.setattr(os, "fsync", interrupt)
        write(file, LONG)
    assert file.read_text() == "old" and names(tmp_path) == ["a.json"]


def test_what_cant_be_written_is_said(tmp_path: Path) -> None:
    for path, kind, remedy in (
        (tmp_path, IsADirectoryError, "Is a directory; name a file in it"),
        (tmp_path / "none" / "a", FileNotFoundError, "No such file or directory; make its folder, or choose another"),
        (tmp_path / ("a" * 300), OSError, "File name too long; choose another path"),
    ):
        with pytest.raises(kind) as caught:
            write(path, "new")
        assert file_output.why(caught.value).startswith(remedy) and caught.value.filename == str(path)
    assert names(tmp_path) == []


def test_pipes_devices_and_standard_output_are_written_in_place(tmp_path: Path) -> None:
    pipe, heard = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    reader.start()
    write(pipe, LONG)
    reader.join(30)
    assert heard == [LONG] and stat.S_ISFIFO(pipe.stat().st_mode)
    write(os.devnull, "new")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    code = "from greenload.system.file_output import write; print('a', flush=True); "
    code += "write('/dev/stdout', 'b\\n'); print('c')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "a\nb\nc\n"
    with open(tmp_path / "out", "w") as out:  # a file, where two openings would overwrite each other
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "a\nb\nc\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file, or acts as another user")
def test_a_file_that_takes_no_new_names_is_written_in_place_if_there_is_room(tmp_path: Path, small_disk: Path) -> None:
    inner, file = small_disk / "a", tmp_path / "a"
    inner.write_text("old, and longer than new")
    file.touch()
    subprocess.run(["mount", "--bind", inner, file], check=True)  # as containers are given a file
    try:
        write(file, "new")
        assert inner.read_text() == "new"
        with pytest.raises(OSError, match="No space left"):
            write(file, LONG)
        assert inner.read_text() == "new" and names(tmp_path) == ["a", "disk"]
    finally:
        subprocess.run(["umount", file], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")
def test_a_file_that_may_not_be_written_isnt_replaced() -> None:
    with tempfile.TemporaryDirectory() as folder:  # which another user can reach
        file = Path(folder) / "a"
        file.write_text("old")
        file.chmod(0o444)
        os.chown(folder, 1234, 1234)
        os.chown(file, 1234, 1234)
        code = f"""
import os, sys
sys.path.insert(0, {str(Path(file_output.__file__).parents[1])!r})
from greenload.system import file_output
os.setuid(1234)
try:
    file_output.write({str(file)!r}, "new")
except PermissionError as error:
    print(file_output.why(error))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "Permission denied; choose another path\n", done.stderr
        assert file.read_text() == "old" and names(Path(folder)) == ["a"]


def test_what_a_killed_writer_left_goes_when_it_is_old(tmp_path: Path) -> None:
    old, young, other = (tmp_path / f".greenload-{k * 16}.partial" for k in ("0", "1", "x"))
    for file in (old, young, other):
        file.touch()
    long_ago = time.time() - 7200
    for file in (old, other):
        os.utime(file, (long_ago, long_ago))
    write(tmp_path / "a", "new")
    assert names(tmp_path) == sorted([young.name, other.name, "a"])


def test_those_who_write_at_the_same_time_dont_mix(tmp_path: Path) -> None:
    seen: list[bool] = []
    whole = re.compile(rb"(a{100000}|b{100000}|c{100000})")
    file = tmp_path / "a"
    write(file, "a" * 100_000)

    def work(letter: str) -> None:
        for _ in range(10):
            write(file, letter * 100_000)
            seen.append(whole.fullmatch(file.read_bytes()) is not None)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 30 and names(tmp_path) == ["a"]
