"""The command cache: what is kept in a folder is listed, verified and cleared, and nothing else is touched."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from stores import KEY, blob, blocks, filled, flipped

from greenload.backends.native import cache_entries, library
from greenload.backends.native.store import Store, describe, folder_of
from greenload.cli import main
from greenload.cli.output import FAILED, OK, USAGE
from greenload.errors import BackendUnavailable

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

OTHER = KEY[::-1]
FACTS = {"source": "photos/train", "stages": ["Decode", "Resize(256)"], "form": "planes", "when": "2026-01-02T03:04:05"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two keys: one whole, which says what it is of; and one with 3 of 30 samples. And files of others."""
    folder = tmp_path / "kept"
    filled(folder, 20)
    describe(folder, KEY, FACTS)
    with Store(folder, OTHER, 30) as store:
        for index in (4, 8, 9):
            store.put(index, blob(index))
    (folder / "notes").mkdir()
    (folder / "notes" / "a.block").write_text("mine")
    (folder / "b.block").write_text("mine too")
    return folder


def short(key: bytes) -> str:
    return key.hex()[:12]


def result(file: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(file.read_text())
    return loaded


def test_list_says_what_is_kept(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "list", str(folder), "--json", str(tmp_path / "r.json")]) == OK
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert {"all 20", "planes", "photos/train", "Decode, Resize(256)", "2026-01-02T03:04:05"} <= {
        cell.strip() for cell in lines[short(KEY)].split("  ")
    }
    assert "3 of 30" in lines[short(OTHER)]
    assert len(lines) == 3
    listed = result(tmp_path / "r.json")["kept"]
    assert isinstance(listed, list)
    whole = next(each for each in listed if each["key"] == KEY.hex())
    size = sum(path.stat().st_size for path in blocks(folder))
    assert (whole["samples"], whole["count"], whole["whole"], whole["bytes"]) == (20, 20, True, size)
    assert (whole["blocks"], whole["unusable"], whole["source"]) == (1, [], "photos/train")


def test_a_sample_that_is_kept_twice_counts_once(folder: Path) -> None:
    (path,) = blocks(folder)
    shutil.copy(path, path.with_name("again.block"))
    (each,) = (each for each in cache_entries.entries_below(folder) if each.key == KEY.hex())
    assert (each.samples, each.blocks, each.whole) == (20, 2, True)


def test_what_says_what_it_is_of_may_be_damaged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = folder_of(folder, KEY) / "about.json"
    for content in (b"", b"[1]", b"{\xff", b'{"source": {"a": 1}, "stages": "x", "form": "\\u001b[2J"}'):
        about.write_bytes(content)
        assert main(["cache", "list", str(folder)]) == OK
        assert "all 20" in (shown := capsys.readouterr().out) and "\x1b" not in shown


@pytest.mark.parametrize("at", [0, 8, 20, 60, 70])
def test_a_damaged_head_is_listed_as_not_used(folder: Path, at: int, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = blocks(folder)
    flipped(path, at)
    assert main(["cache", "list", str(folder)]) == OK
    shown = capsys.readouterr().out
    assert f"{short(KEY)}: not used, being damaged or of another version: {path.name}" in shown
    assert "0 of 0" in shown


def test_verify_finds_what_is_damaged_and_removes_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["cache", "verify", str(folder), "--json", str(tmp_path / "r.json")]
    assert main(command) == OK
    assert capsys.readouterr().out.splitlines() == sorted(
        [f"{short(KEY)}: 20 blobs are sound", f"{short(OTHER)}: 3 blobs are sound"]
    )
    (path,) = blocks(folder)
    flipped(path, path.read_bytes().index(blob(7)[-40:]))
    assert main(command) == FAILED
    assert f"{short(KEY)}: 19 blobs are sound, 1 damaged" in capsys.readouterr().out
    flipped(path, 60)
    (other,) = folder_of(folder, OTHER).glob("*.block")
    flipped(other, 8)
    assert main(command) == FAILED
    shown = capsys.readouterr().out
    assert f"{short(KEY)}: {path.name}: it is damaged" in shown
    assert f"{short(OTHER)}: {other.name}: it is of another version" in shown
    assert path.exists() and other.exists()
    verified = result(tmp_path / "r.json")["verified"]
    assert isinstance(verified, list) and {each["sound"] for each in verified} == {0}


@pytest.mark.parametrize("action", ["list", "verify", "clear"])
def test_an_error_of_the_system_has_rule_and_remedy(
    action: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, *_: object) -> object:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    for where, method in ((Path, "is_dir"), (os, "scandir")):
        with monkeypatch.context() as patched:
            patched.setattr(where, method, refused)
            assert main(["cache", action, str(folder)]) not in (OK, None)
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{action} needs a folder that it may " in line and "Permission denied; choose another path" in line


def test_clear_removes_what_is_kept_and_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = folder_of(folder, OTHER) / "mine.txt"
    mine.write_text("mine")
    (folder_of(folder, KEY) / "0123456789abcdef.block-1.part").write_text("half")
    (path,) = blocks(folder)
    path.chmod(0o644)
    flipped(path, 0)  # it is known by its name
    shutil.copy(next(folder_of(folder, OTHER).glob("*.block")), folder_of(folder, OTHER) / "copy.block")
    assert main(["cache", "clear", str(folder)]) == OK
    shown = capsys.readouterr().out
    assert f"removed {short(KEY)}: 0 samples, " in shown and f"removed {short(OTHER)}: 3 samples, " in shown
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert left == ["b.block", f"{OTHER.hex()}/mine.txt", "notes/a.block"]
    assert not folder_of(folder, KEY).exists()
    mine.unlink()
    assert main(["cache", "list", str(folder)]) == OK


def test_clear_leaves_what_others_have_put_below_a_key_and_follows_no_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, elsewhere = folder_of(tmp_path / "kept", KEY), tmp_path / "elsewhere"
    own.mkdir(parents=True)
    elsewhere.mkdir()
    names = ("about.json", "film.block", "film.mkv.part", "lock", "film.block-1.part")
    for name in names:
        (own / name).write_text('"something else"')
    shutil.copytree(own, elsewhere, dirs_exist_ok=True)
    folder_of(tmp_path / "kept", OTHER).symlink_to(elsewhere)
    filled(tmp_path / "kept", 5)
    (path,) = blocks(tmp_path / "kept")[:1]
    path.rename(elsewhere / path.name)
    path.symlink_to(elsewhere / path.name)
    assert main(["cache", "clear", str(tmp_path / "kept")]) == OK
    assert f"{short(KEY)}: left, being no block: {path.name}, film.block" in capsys.readouterr().out
    assert {*names, path.name} == {file.name for file in own.iterdir()} == {file.name for file in elsewhere.iterdir()}


@pytest.mark.parametrize("odd", ["loop", "folder", "pipe", "socket"])
def test_what_is_no_file_is_named_and_stops_nothing(
    odd: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder_of(folder, KEY) / "odd.block"
    if odd == "loop":
        place.symlink_to(place.name)
    elif odd == "folder":
        place.mkdir()
    elif odd == "pipe":
        os.mkfifo(place)
    else:
        monkeypatch.chdir(place.parent)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(place.name)
        monkeypatch.undo()
    assert main(["cache", "list", str(folder)]) == OK
    shown = capsys.readouterr().out
    assert "all 20" in shown and "3 of 30" in shown and "another version: odd.block" in shown
    assert main(["cache", "verify", str(folder)]) == FAILED
    shown = capsys.readouterr().out
    assert f"{short(KEY)}: odd.block: " in shown and f"{short(KEY)}: 20 blobs are sound" in shown
    assert main(["cache", "clear", str(folder)]) == OK
    shown = capsys.readouterr().out
    assert f"{short(KEY)}: left, being no block: odd.block" in shown and f"removed {short(KEY)}: 20 samples" in shown
    assert [path.name for path in folder_of(folder, KEY).iterdir()] == ["odd.block"]
    assert not folder_of(folder, OTHER).exists()


def test_clear_keeps_the_keys_that_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "clear", str(folder), "--keep", "abc"]) == USAGE
    assert "no key begins so" in capsys.readouterr().err
    assert len(cache_entries.entries_below(folder)) == 2, "nothing is removed for a key that was misspelt"
    assert main(["cache", "clear", str(folder), "--keep", short(KEY)]) == OK
    assert [each.key for each in cache_entries.entries_below(folder)] == [KEY.hex()]
    assert main(["cache", "clear", str(folder), "--keep", short(KEY)]) == OK
    assert "nothing was removed" in capsys.readouterr().out


def test_a_process_that_uses_what_is_cleared_reads_on_and_writes_anew(folder: Path) -> None:
    with Store(folder, OTHER, 30) as store:
        assert main(["cache", "clear", str(folder)]) == OK
        part = store.get(8)
        assert part is not None and part.tobytes() == blob(8)
        assert store.put(5, blob(5))
        store.flush()
        assert store.state().trouble == ""
    (each,) = cache_entries.entries_below(folder)
    assert (each.key, each.samples) == (OTHER.hex(), 1)


def test_the_folder_is_that_where_one_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["cache", "list"]) == OK
    assert "all 20" in capsys.readouterr().out
    empty = folder / "notes"
    for action in ("list", "verify"):
        assert main(["cache", action, str(empty)]) == OK
        assert capsys.readouterr().out == f"{empty}: nothing is kept there\n"


def test_wrong_usage_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (
        (["list", str(folder / "b.block")], "must be a folder"),
        (["list", str(folder / "missing")], "must be a folder"),
        (["verify", str(folder), "--keep", "12"], "--keep is for clear"),
        (["shrink", str(folder)], "invalid choice"),
        ([], "required"),
    ):
        assert main(["cache", *arguments]) == USAGE
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert text in line


def test_verify_says_where_there_is_no_kernel(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> None:
        raise BackendUnavailable("the kernel isn't built; make setup")

    monkeypatch.setattr(library, "loaded", missing)
    assert main(["cache", "verify", str(folder)]) == FAILED
    assert "the kernel isn't built; make setup" in capsys.readouterr().err
    assert main(["cache", "list", str(folder)]) == OK


def test_a_pipe_in_the_folder_is_no_block(folder: Path) -> None:
    os.mkfifo(folder_of(folder, KEY) / "pipe.block")
    assert {each.samples for each in cache_entries.entries_below(folder)} == {3, 20}
    assert sum(each.sound for each in cache_entries.verify(folder)) == 23
    with Store(folder, KEY, 20) as store:
        assert store.state().kept == 20 and "pipe.block can't be read now" in store.state().trouble
