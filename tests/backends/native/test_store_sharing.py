"""Processes that fill one folder at the same time: each sample is kept once, and the folder's budget is that of all."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from stores import KEY, MIB, ROOT, blob, blocks, bytes_of, command, filled, held, run, writer

from greenload.backends.native import library
from greenload.backends.native.abi import Form
from greenload.backends.native.cache_entries import block_info, clear
from greenload.backends.native.store import LOCK, Store, folder_of

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")


@pytest.mark.slow
def test_two_writers_at_once_share_a_folder(tmp_path: Path) -> None:
    both = [writer(tmp_path, 0, 300), writer(tmp_path, 150, 450)]
    for process in both:
        assert process.communicate()[0].split() == ["ready", "done"] and process.returncode == 0
    with Store(tmp_path, KEY, 2000) as store:
        assert held(store, 2000) == 450
        assert store.state().damaged == 0
        assert store.state().bytes == bytes_of(450, len(blocks(tmp_path))), "none is kept twice"


STEP = """
budget = int(sys.argv[2]) or None
with Store(folder, KEY, 700, budget) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for epoch in range(2):
        order = np.random.default_rng(epoch).permutation(700)
        for index in map(int, order):
            part = store.get(index) or store.keep(index, blob(index), Form.ENCODED)
            assert part is None or part.tobytes() == blob(index), index
        store.flush()
    assert budget or held(store, 700) == store.state().kept
    assert store.state().damaged == 0
"""


def in_step(folder: Path, budget: int = 0) -> list[subprocess.Popen[str]]:
    """Two processes that keep the same samples in the same order, and begin together."""
    program = "import numpy as np\nfrom greenload.backends.native.abi import Form\n" + STEP
    pipes: dict[str, Any] = {"cwd": ROOT, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command(program, folder, budget), **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return both


def indices_in(path: Path) -> NDArray[np.int64]:
    """The samples in a block."""
    info = block_info(path)
    assert info is not None
    rows: NDArray[np.int64] = np.frombuffer(path.read_bytes()[info.table :], np.int64).reshape(-1, 4)
    return rows[:, 0]


def copies(folder: Path) -> dict[int, int]:
    """How often each sample is in a folder's blocks."""
    tables = (indices_in(path) for path in blocks(folder))
    return Counter(index for table in tables for index in table.tolist())


@pytest.mark.slow
@pytest.mark.parametrize("budget", [0, 40 * MIB])
def test_two_processes_in_step_keep_each_sample_once_and_no_more_than_the_budget(tmp_path: Path, budget: int) -> None:
    both = in_step(tmp_path, budget)
    largest = 0
    while any(process.poll() is None for process in both):
        largest = max(largest, on_disk(tmp_path))
    assert [process.returncode for process in both] == [0, 0]
    times = copies(tmp_path)
    assert set(times.values()) == {1}
    if budget:
        assert budget - 9 * MIB < on_disk(tmp_path) <= largest <= budget
    else:
        assert len(times) == 700
    with Store(tmp_path, KEY, 700) as store:
        assert held(store, 700) == len(times) and store.state().damaged == 0


@pytest.mark.slow
def test_of_two_processes_in_step_one_is_killed_and_the_other_keeps_the_rest(tmp_path: Path) -> None:
    first, second = in_step(tmp_path)
    while len(blocks(tmp_path)) < 3:
        time.sleep(0.001)
    first.kill()
    first.communicate()
    second.communicate()
    assert second.returncode == 0
    times = copies(tmp_path)
    assert len(times) == 700, "in its second epoch it keeps what the other one had claimed"
    assert sum(times.values()) - 700 <= 8 * MIB // 100_000, "about a block"
    assert not list(folder_of(tmp_path, KEY).glob("*.part"))
    with Store(tmp_path, KEY, 700) as store:
        assert held(store, 700) == 700 and store.state().damaged == 0


def on_disk(folder: Path) -> int:
    """Bytes of all files that hold samples, whole or not."""
    total = 0
    for path in [*blocks(folder), *folder_of(folder, KEY).glob("*.part")]:
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


IDLE = """
import time
with Store(folder, KEY, 20) as store:
    assert store.put(3, blob(3)) and store.put(4, blob(4))
    print("ready", flush=True)
    while not (folder / "done").exists():
        store.get(3)
        time.sleep(0.05)
"""


def test_what_an_idle_process_keeps_is_written_for_others(tmp_path: Path) -> None:
    pipes: dict[str, Any] = {"cwd": ROOT, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    idle = subprocess.Popen(command(IDLE, tmp_path), **pipes)
    assert idle.stdout is not None and idle.stdout.readline() == "ready\n"
    with Store(tmp_path, KEY, 20) as store:
        assert not store.put(3, blob(3)) and store.state().refused == 0, "the other one is about to keep it"
        assert store.keep(4, blob(4), Form.ENCODED) is None and store.put(5, blob(5))
        end = time.monotonic() + 30
        while not (part := store.keep(4, blob(4), Form.ENCODED)) and time.monotonic() < end:
            time.sleep(0.05)
        assert part is not None and held(store, 20) == 3
        assert {3, 4} <= set(copies(tmp_path))
    (tmp_path / "done").touch()
    idle.communicate()
    assert idle.returncode == 0 and copies(tmp_path) == {3: 1, 4: 1, 5: 1}


def test_what_is_kept_wholly_is_written_at_once(tmp_path: Path) -> None:
    with Store(tmp_path, KEY, 20) as store:
        for index in range(20):
            assert not blocks(tmp_path) and store.put(index, blob(index))
        assert len(copies(tmp_path)) == 20 and held(store, 20) == 20


@pytest.mark.slow
def test_the_budget_of_a_folder_is_that_of_all_processes(tmp_path: Path) -> None:
    budget = 24 * MIB
    both = [writer(tmp_path, 0, 400, budget), writer(tmp_path, 400, 800, budget)]
    for process in both:
        assert process.communicate()[0].split() == ["ready", "done"] and process.returncode == 0
    # What the second one has filled in, and may not write, is a block that the first one might have used.
    assert budget - 9 * MIB < sum(path.stat().st_size for path in blocks(tmp_path)) <= budget
    with Store(tmp_path, KEY, 2000, budget) as store:
        kept = held(store, 2000)
        assert 0 < kept < 800


def test_what_another_process_has_written_counts_before_a_block_is(tmp_path: Path) -> None:
    with Store(tmp_path, KEY, 100, 9 * MIB) as store:
        assert all(store.put(index, blob(index)) for index in range(50))
        run("with Store(folder, KEY, 100, 9 * MIB) as store:\n    store.put(99, blob(99, 6 * MIB))", tmp_path)
        store.flush()
        state = store.state()
        assert state.full and f"the budget of {9 * MIB} bytes is used up" in state.trouble
        assert not store.put(60, b"another") and held(store, 50) == 50
        assert len(blocks(tmp_path)) == 1
    assert len(blocks(tmp_path)) == 1


NOBODYS_TURN = """
with Store(folder, KEY, 20) as store:
    assert store.put(15, blob(15))
    store.flush()
    state = store.state()
    assert state.full and "another process holds the folder's lock for too long" in state.trouble, state
    assert held(store, 20) == 1 and not blocks(folder)
    os._exit(0)  # else it waits once more
"""


@pytest.mark.slow
def test_where_another_process_never_ends_its_turn_nothing_is_written_and_it_is_said(tmp_path: Path) -> None:
    filled(tmp_path, 10)
    (path,) = blocks(tmp_path)
    path.unlink()
    with (folder_of(tmp_path, KEY) / LOCK).open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 1)
        run(NOBODYS_TURN, tmp_path)
    assert not blocks(tmp_path)


CLEARED = """
with Store(folder, KEY, 20) as store:
    assert store.put(1, blob(1))
    print("ready", flush=True)
    sys.stdin.readline()
    assert store.put(2, blob(2))
"""


def test_a_folder_that_is_cleared_meanwhile_is_filled_on(tmp_path: Path) -> None:
    pipes: dict[str, Any] = {"cwd": ROOT, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(CLEARED, tmp_path), **pipes)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    clear(tmp_path)
    assert not folder_of(tmp_path, KEY).exists()
    with Store(tmp_path, KEY, 20) as store:
        assert store.put(3, blob(3))
        process.communicate("\n")
        assert process.returncode == 0
        assert store.keep(2, blob(2), Form.ENCODED) and held(store, 20) == 3
    assert copies(tmp_path) == {1: 1, 2: 1, 3: 1}
