"""The cache folder's rule: damage, other versions, partial files, writers at the same time, folders that refuse."""

from __future__ import annotations

import json
import os
import resource
import stat
import sys
import threading
import warnings
from pathlib import Path

import pytest

from greenload.system import cache_folder, json_data

VERSION = 2


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "greenload"


def parse(content: bytes) -> list[int] | None:
    document = json_data.parse(content)
    if document.field("version").integer() != VERSION:
        return None
    return [value.integer() for value in document.field("numbers").list()]


def stored(*numbers: int, version: int = VERSION) -> str:
    return json.dumps({"version": version, "numbers": numbers})


def recalled(path: Path) -> list[int] | None:
    return cache_folder.recall(path, parse, "this list", "count anew")


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_what_is_remembered_is_recalled(folder: Path) -> None:
    path = cache_folder.locate("some", "a.json")
    assert path == folder / "some" / "a.json"
    assert recalled(path) is None
    for numbers in ([1, 2], [3]):
        assert cache_folder.remember(path, stored(*numbers), "this list")
        assert recalled(path) == numbers
    assert names(path.parent) == ["a.json"]  # nothing half-written stays


@pytest.mark.parametrize("content", [b"", b"{", b"\x00\xff", b"[" * 100_000, b'{"version": 2, "numbers": [1.5]}'])
def test_what_is_damaged_is_passed_over_with_one_warning_and_rewritten(content: bytes) -> None:
    path = cache_folder.locate("a.json")
    cache_folder.keep(path, content)
    with pytest.warns(UserWarning) as caught:
        assert recalled(path) is None
    (said,) = (str(warning.message) for warning in caught)
    assert said.startswith(f"{path}: this list is damaged and not used (") and said.endswith("): count anew")
    assert "\n" not in said
    assert cache_folder.remember(path, stored(7), "this list")
    assert recalled(path) == [7]


def test_what_another_version_wrote_is_passed_over_in_silence() -> None:
    path = cache_folder.locate("a.json")
    cache_folder.keep(path, stored(1, version=VERSION - 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert recalled(path) is None


def test_what_cant_be_read_is_passed_over_and_rewritten() -> None:
    path = cache_folder.locate("a.json")
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.warns(UserWarning, match=r"this list can't be read and is not used \(it is a pipe.*: count anew"):
        assert recalled(path) is None
    assert cache_folder.remember(path, stored(7), "this list")
    assert recalled(path) == [7]
    with pytest.warns(UserWarning, match=r"this list can't be read .*more than the 0 MB"):
        assert cache_folder.recall(path, parse, "this list", "count anew", limit=3) is None


def test_a_folder_that_cant_be_written_is_said_once_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning) as caught:
        for name in ("a.json", "b.json"):
            path = cache_folder.locate(name)
            assert not cache_folder.remember(path, stored(1), "this list")
            assert recalled(path) is None
    (said,) = (str(warning.message) for warning in caught)
    assert said == (f"{path.parent}: this list can't be kept there, and is made anew each time: Not a directory")
    with pytest.raises(NotADirectoryError):
        cache_folder.keep(path, stored(1))


def test_a_full_disk_leaves_what_was_there() -> None:
    path = cache_folder.locate("a.json")
    cache_folder.keep(path, stored(2))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            cache_folder.keep(path, stored(*range(100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert recalled(path) == [2] and names(path.parent) == ["a.json"]


def test_the_folder_is_the_users_alone_and_no_link_is_followed(tmp_path: Path) -> None:
    path, foreign = cache_folder.locate("some", "a.json"), tmp_path / "foreign"
    cache_folder.keep(path, "1")
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path.parent.parent, path.parent)] == [0o700, 0o700]
    foreign.write_text("mine")
    path.unlink()
    path.symlink_to(foreign)
    former = path.with_name("a.partial-17")
    former.touch()
    os.utime(former, (1, 1))
    cache_folder.keep(path, "2")
    assert (foreign.read_text(), path.read_text(), path.is_symlink()) == ("mine", "2", False)
    assert names(path.parent) == ["a.json"]


@pytest.mark.slow
def test_writers_at_the_same_time_do_not_mix() -> None:
    path = cache_folder.locate("a.json")
    cache_folder.keep(path, stored())
    seen: list[list[int] | None] = []

    def work(number: int) -> None:
        for _ in range(15):
            cache_folder.remember(path, stored(*[number] * 10_000), "this list")
            seen.append(recalled(path))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 60
    assert all(numbers is not None and len(numbers) == 10_000 and len(set(numbers)) == 1 for numbers in seen)
    assert names(path.parent) == ["a.json"]


def test_it_is_the_same_folder_without_platformdirs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("Linux's folder is meant")
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert cache_folder.locate("a") == folder / "a"
    monkeypatch.delenv("XDG_CACHE_HOME")
    without = cache_folder.locate("a")
    monkeypatch.undo()
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder.locate("a") == without
