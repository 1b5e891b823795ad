"""Only regular files are read: nothing waits for a pipe, reads a device, or takes more than a file holds.

Each case is tried under an alarm, since what fails here would wait for ever.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import record_files

import greenload as gl
from greenload import cli
from greenload.errors import RecordError, SourceError
from greenload.loading.pack import pack
from greenload.loading.verify import verify
from greenload.planning import cost_table
from greenload.profiling.page_cache import ColdFiles
from greenload.sources import TFDS, Files, ImageFolder, TFRecords, open_folder
from greenload.sources import files as sources_files
from greenload.system import file_input

tf = pytest.importorskip("tensorflow")
REFUSED = "it is {}, and only regular files are read"
SPECIAL = {"pipe": "a pipe (FIFO)", "device": "a character device", "socket": "a socket"}


@pytest.fixture(autouse=True)
def _alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def wake(*_: Any) -> None:
        raise TimeoutError("waits for ever")

    before = signal.signal(signal.SIGALRM, wake)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make(kind: str, place: Path) -> Path:
    """Put a special file, or a link to one, at a place."""
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as made:  # its path may be 100 bytes at most
            before = os.getcwd()
            os.chdir(place.parent)
            made.bind(place.name)
            os.chdir(before)
    return place


@pytest.fixture(params=SPECIAL)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_special_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    place = make(kind, tmp_path / "a")
    for reading in (lambda: file_input.read(place, 100), lambda: file_input.regular(place)):
        with pytest.raises(OSError) as caught:
            reading()
        assert caught.value.strerror == REFUSED.format(SPECIAL[kind])
        assert caught.value.filename == str(place)


def test_a_regular_file_is_read_as_far_as_its_size_says(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert file_input.read(file, 3) == b"abc"
    with pytest.raises(OSError, match="it holds more than the 0 MB that are read"):
        file_input.read(file, 2)
    with pytest.raises(IsADirectoryError):
        file_input.read(tmp_path, 100)
    if os.path.isfile("/proc/self/maps"):
        assert file_input.read("/proc/self/maps", 100) == b""  # has no size: made up as it is read


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    folder = record_files.class_folder(tmp_path / "set", record_files.photos(4))
    return sorted(folder.rglob("*.jpg"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "many"), [("dali-cpu", False), ("pillow", True), pytest.param("tf", False, marks=pytest.mark.long)]
)
def test_a_special_image_is_a_bad_record(
    images: list[Path], backend: str, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:  # so that folders are listed rather than files looked at one by one
        monkeypatch.setattr(sources_files, "_FEW", 1)
    for name, kind in (("a.jpg", "pipe"), ("b.jpg", "device"), ("c.jpg", "socket")):
        make(kind, images[0].parent / name)
    gone = images[0].with_name("gone.jpg")
    gone.symlink_to("nowhere")
    source = ImageFolder(images[0].parents[1])
    bad = {source.name(i): i for i in range(len(source)) if source.name(i) not in map(str, images)}
    assert len(bad) == 4 and source.special == set(bad.values()) - {bad[str(gone)]}
    stages = (gl.Decode(), gl.Resize((8, 8)), gl.Batch(1))
    with pytest.warns(UserWarning, match="left out 4 bad of 8 records"):
        good = list(gl.load(gl.Pipeline(source, *stages), backend, on_error="skip"))
    assert len(good) == 4
    pipe = str(images[0].with_name("a.jpg"))
    files = gl.Pipeline(Files([images[0], pipe]), *stages)
    with pytest.raises(RecordError) as caught:
        list(gl.load(files, backend))
    assert (caught.value.path, caught.value.reason) == (pipe, "can't be read: " + REFUSED.format("a pipe (FIFO)"))
    for native in ("pillow", "dali-cpu") if backend == "pillow" else ():
        with pytest.raises(RecordError, match="a pipe"):
            list(gl.iterate(files, backend=native))


def test_special_files_are_told_by_listing_or_one_by_one(images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = make("pipe", images[0].parent / "a.jpg")
    monkeypatch.chdir(pipe.parent)
    for few in (1, 100):
        monkeypatch.setattr(sources_files, "_FEW", few)
        for many in (0, 8):
            monkeypatch.setattr(sources_files, "_MANY", many)
            found = Files([*images, "a.jpg", "none.jpg", "/dev/zero", pipe]).special
            assert found == {len(images), len(images) + 2, len(images) + 3}, (few, many)


@pytest.mark.slow
def test_records_tables_and_descriptions_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    refused = REFUSED.format(SPECIAL[kind]).replace("(", r"\(").replace(")", r"\)")
    tried: list[Callable[[Path], Any]] = [
        lambda place: len(TFRecords(place)),
        lambda place: len(TFRecords([place])),
        lambda place: Files.from_csv(place),
        lambda place: Files.from_parquet(place),
    ]
    place = make(kind, tmp_path / "a")
    for reading in tried:
        with pytest.raises(SourceError, match=refused):
            reading(place)
    root = tmp_path / "packed"
    pack(
        ImageFolder(record_files.class_folder(tmp_path / "images", record_files.photos(4))), root, format="arrayrecord"
    )
    for name in ("features.json", "dataset_info.json"):
        whole = (root / name).read_bytes()
        (root / name).unlink()
        make(kind, root / name)
        with pytest.raises(SourceError):
            len(TFDS(root))
        (root / name).unlink()
        (root / name).write_bytes(whole)
    shard = root / "packed-train.array_record-00000-of-00001"
    shard.unlink()
    make(kind, shard)
    with pytest.raises(SourceError, match=refused):
        len(TFDS(root))
    assert ColdFiles([place]).drop().problem.startswith(f"{place} can't be dropped: it is")


@pytest.mark.slow
def test_a_special_index_cost_table_or_memory_is_passed_over(
    tmp_path: Path, images: list[Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tfrecord"
    record_files.write(path, record_files.labelled(record_files.photos(3)))
    make(kind, path.with_name("a.tfrecord.index"))
    assert len(TFRecords(path)) == 3
    (cached,) = (tmp_path / "cache").rglob("*.index")
    cached.unlink()
    make(kind, cached)
    with pytest.warns(UserWarning, match="this index of records can't be read and is not used"):
        assert len(TFRecords(path)) == 3
    assert cached.is_file() and not cached.is_symlink()  # made anew in its place

    machine = cost_table.facts(1)
    make(kind, cost_table.table_path(machine))
    with pytest.warns(UserWarning, match="this table of costs can't be read"):
        assert cost_table.recall_table(machine) is None
    cost_table.remember_table(cost_table.CostTable(cost_table.OWN, "", machine, ()))
    assert cost_table.recall_table(machine) is not None

    source = Files(images)
    assert verify(source).bad == ()
    (memory,) = (tmp_path / "cache").rglob("*-tf-*.json")
    memory.unlink()
    make(kind, memory)
    with pytest.warns(UserWarning, match="what was verified can't be read and is not used .*: it is verified anew"):
        assert verify(source).bad == ()
    assert memory.read_text() == "[]"


def test_data_that_is_a_pipe_is_refused(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "a.csv", "a.tfrecord"):
        place = make(kind, tmp_path / name)
        with pytest.raises(SourceError):
            open_folder(place)
        assert cli.main(["check", str(place)]) == 1
        assert capsys.readouterr().err.startswith("greenload: error: ")
