"""Processes that keep little each: their small blocks become one, while others read them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from stores import KEY, MIB, ROOT, blob, blocks, bytes_of, command, filled, flipped, held, run, unlocked

from greenload.backends.native import library
from greenload.backends.native.cache_entries import block_info
from greenload.backends.native.store import Store

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

COUNT = 40
"""Samples."""


def keep(folder: Path, *indices: int) -> None:
    """As a process that keeps these and ends."""
    with Store(folder, KEY, COUNT) as store:
        for index in indices:
            assert store.put(index, blob(index))


def test_many_small_blocks_become_one(tmp_path: Path) -> None:
    for index in range(8):
        keep(tmp_path, index)
    assert len(blocks(tmp_path)) == 8
    keep(tmp_path, 8)
    (path,) = blocks(tmp_path)
    info = block_info(path)
    assert info is not None and info.blobs == 9
    for index in range(9, COUNT):
        keep(tmp_path, index)
        assert len(blocks(tmp_path)) <= 9
    with Store(tmp_path, KEY, COUNT) as store:
        assert held(store, COUNT) == COUNT
        assert store.state().bytes == bytes_of(COUNT, len(blocks(tmp_path))) and store.state().trouble == ""


def test_large_blocks_stay_as_they_are(tmp_path: Path) -> None:
    with Store(tmp_path, KEY, COUNT) as store:
        for index in range(30):
            store.put(index, blob(index, 300_000))
    large = {path: path.stat().st_ino for path in blocks(tmp_path) if path.stat().st_size > 4 * MIB}
    assert large
    for index in range(30, COUNT):
        keep(tmp_path, index)
    assert len(blocks(tmp_path)) < 8
    assert all(path.stat().st_ino == number for path, number in large.items())


def test_who_reads_small_blocks_reads_on_and_counts_their_bytes_once(tmp_path: Path) -> None:
    for index in range(8):
        keep(tmp_path, index)
    with Store(tmp_path, KEY, COUNT) as reader:
        parts = reader.take(range(8))
        program = "with Store(folder, KEY, 40) as store:\n    store.put(8, blob(8))"
        run(program, tmp_path)  # another process: here the reader's store would be the same
        assert len(blocks(tmp_path)) == 1
        assert [part and part.tobytes() for part in parts] == [blob(index) for index in range(8)]
        assert held(reader, COUNT) == 8
        reader.flush()
        assert held(reader, COUNT) == 9 and reader.state().kept == 9
        assert reader.state().bytes == bytes_of(9)
        assert [reader.get(index) for index in range(8)] == parts


def test_a_damaged_blob_is_left_out_and_a_second_copy_too(tmp_path: Path) -> None:
    for index in range(8):
        keep(tmp_path, index)
    first = next(path for path in blocks(tmp_path) if blob(3)[-40:] in path.read_bytes())
    shutil.copy(first, first.with_name("again.block"))
    damaged = next(path for path in blocks(tmp_path) if blob(5)[-40:] in path.read_bytes())
    flipped(damaged, damaged.read_bytes().index(blob(5)[-40:]))
    keep(tmp_path, 8)
    (path,) = blocks(tmp_path)
    info = block_info(path)
    assert info is not None and info.blobs == 8
    keep(tmp_path, 5)
    with Store(tmp_path, KEY, COUNT) as store:
        assert held(store, COUNT) == 9 and store.state().damaged == 0


def test_of_two_copies_the_sound_one_stays(tmp_path: Path) -> None:
    with Store(tmp_path, KEY, COUNT) as store:
        for index in range(25):
            assert store.put(index, blob(index))
    (first,) = blocks(tmp_path)
    with Store(tmp_path / "other", KEY, COUNT) as store:
        for index in range(20, COUNT):
            assert store.put(index, blob(index))
    (other,) = blocks(tmp_path / "other")
    second = Path(shutil.move(other, first.parent))
    flipped(first, first.read_bytes().index(blob(22)[-40:]))
    flipped(second, second.read_bytes().index(blob(23)[-40:]))
    for damaged in (22, 23):  # whichever block is read first, one of the two is found damaged
        with Store(tmp_path, KEY, COUNT) as store:
            store.get(damaged)
    with Store(tmp_path, KEY, COUNT) as store:
        assert held(store, COUNT) == COUNT


@pytest.mark.parametrize("count", [10, COUNT])
def test_what_two_processes_kept_in_step_takes_its_room_once(tmp_path: Path, count: int) -> None:
    budget = bytes_of(COUNT, 3)
    with Store(tmp_path, KEY, COUNT) as store:
        assert store.put(0, blob(0))
        # Another process, which ends first: neither sees what the other hasn't written.
        unlocked(tmp_path)
        program = "with Store(folder, KEY, 40) as store:\n    held(store, 40)"
        program += "\n    for index in range(int(sys.argv[2])):\n        store.put(index, blob(index))"
        run(program, tmp_path, count)
        for index in range(1, count - 1):
            assert store.put(index, blob(index))
    left = blocks(tmp_path)
    assert len(left) == 1
    for _ in range(2):  # now nothing is written anew
        with Store(tmp_path, KEY, COUNT, budget) as store:
            assert held(store, COUNT) == count and store.state().bytes == bytes_of(count)
        assert blocks(tmp_path) == left
    filled(tmp_path, COUNT, budget)
    with Store(tmp_path, KEY, COUNT, budget) as store:
        assert held(store, COUNT) == COUNT


def test_of_a_block_that_is_half_redundant_the_rest_stays(tmp_path: Path) -> None:
    with Store(tmp_path, KEY, COUNT) as store:
        for index in range(20):
            assert store.put(index, blob(index))
        unlocked(tmp_path)
        program = "with Store(folder, KEY, 40) as store:"
        program += "\n    for index in range(5, 30):\n        assert store.put(index, blob(index))"
        run(program, tmp_path)
    with Store(tmp_path, KEY, COUNT) as store:
        assert held(store, COUNT) == 30 and store.state().bytes == bytes_of(30, 2)


def test_a_merger_that_was_killed_before_it_removed_the_small_ones_loses_nothing(tmp_path: Path) -> None:
    for index in range(8):
        keep(tmp_path, index)
    small = {path: path.read_bytes() for path in blocks(tmp_path)}
    keep(tmp_path, 8)
    for path, data in small.items():
        path.write_bytes(data)
    with Store(tmp_path, KEY, COUNT) as store:
        assert held(store, COUNT) == 9 and store.state().kept == 9
    assert len(blocks(tmp_path)) == 1, "it merged them again"
    with Store(tmp_path, KEY, COUNT) as store:
        assert held(store, COUNT) == 9


def test_blocks_of_another_count_are_left_alone(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    for index in range(9):
        keep(tmp_path, index)
    assert len(blocks(tmp_path)) == 2
    with Store(tmp_path, KEY, 3) as store:
        assert held(store, 3) == 3


SHORT = """
for index in range(int(sys.argv[2]), 40, 4):
    with Store(folder, KEY, 40) as store:
        assert held(store, 40) == store.state().kept
        missing = [own for own in range(int(sys.argv[2]), index, 4) if store.get(own) is None]
        assert not missing, (index, missing)
        store.put(index, blob(index))
        assert store.state().trouble == "", store.state()
"""


@pytest.mark.slow
def test_processes_that_merge_at_once_lose_nothing(tmp_path: Path) -> None:
    processes = [subprocess.Popen(command(SHORT, tmp_path, first), cwd=ROOT) for first in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    with Store(tmp_path, KEY, COUNT) as store:
        assert held(store, COUNT) == COUNT and store.state().damaged == 0
    assert len(blocks(tmp_path)) <= 12
    filled(tmp_path, COUNT)
    assert len(blocks(tmp_path)) <= 8


OPENER = """
for attempt in range(3000):
    with Store(folder, KEY, 400) as store:
        lost = [index for index in range(9) if store.get(index) is None]
        assert not lost and store.state().trouble == "", (attempt, lost, store.state())
    if attempt == 0:
        print("ready", flush=True)
"""


@pytest.mark.slow
def test_who_opens_a_folder_while_blocks_are_merged_finds_them_all(tmp_path: Path) -> None:
    with Store(tmp_path, KEY, 400) as store:
        for index in range(9):
            store.put(index, blob(index))
    opener = subprocess.Popen(command(OPENER, tmp_path), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert opener.stdout is not None and opener.stdout.readline() == "ready\n"
    for index in range(9, 400):
        with Store(tmp_path, KEY, 400) as store:
            store.put(index, blob(index, 100))
    opener.communicate()
    assert opener.returncode == 0


def test_a_store_left_open_merges_as_its_process_ends(tmp_path: Path) -> None:
    for index in range(8):
        keep(tmp_path, index)
    run("store = Store(folder, KEY, 40)\nstore.put(8, blob(8))", tmp_path)
    assert len(blocks(tmp_path)) == 1
