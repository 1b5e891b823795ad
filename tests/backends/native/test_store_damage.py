"""What is kept between epochs: whatever happens to its files, never another byte than was put."""

from __future__ import annotations

import errno
import os
import platform
from pathlib import Path

import numpy as np
import pytest
from stores import KEY, blob, blocks, bytes_of, filled, flipped, held, kept_anew, obeying_modes, run

from greenload.backends.native import library
from greenload.backends.native.cache_entries import block_info
from greenload.backends.native.store import Store, folder_of

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")


def test_a_block_of_another_version_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path, 20)
    (path,) = blocks(tmp_path)
    flipped(path, 8)
    assert block_info(path) is None
    with Store(tmp_path, KEY, 20) as store:
        assert (store.state().kept, store.state().damaged) == (0, 0)
        assert store.state().trouble == f"{tmp_path}: {path.name} is of another version, and isn't used"
    kept_anew(tmp_path, 20, 20)
    assert path.exists()


def test_a_damaged_blob_is_noticed_and_put_anew(tmp_path: Path) -> None:
    filled(tmp_path, 30)
    (path,) = blocks(tmp_path)
    flipped(path, path.read_bytes().index(blob(7)[-40:]))
    with Store(tmp_path, KEY, 30) as store:
        assert store.state().trouble == ""
        assert store.get(7) is None and store.get(7) is None
        assert store.state().damaged == 1 and store.state().kept == 29
        assert store.state().trouble == f"{tmp_path}: a sample in {path.name} is damaged; it is read and kept anew"
        assert held(store, 30) == 29
        assert store.put(7, blob(7)) and store.state().kept == 30
        assert held(store, 30) == 30
    assert len(blocks(tmp_path)) == 2 and not path.exists(), "it was written anew without the damaged one"
    for _ in range(3):  # nothing is found damaged, or written, again
        with Store(tmp_path, KEY, 30) as store:
            assert held(store, 30) == 30 and store.state().damaged == 0
            assert not store.put(7, blob(7))
        assert len(blocks(tmp_path)) == 2


def test_of_a_block_in_which_all_is_damaged_nothing_stays(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    (path,) = blocks(tmp_path)
    for index in range(3):
        flipped(path, path.read_bytes().index(blob(index)[-1000:]))
    with Store(tmp_path, KEY, 3, bytes_of(3, 2)) as store:
        assert held(store, 3) == 0 and store.state().damaged == 3
        assert not store.put(0, blob(0)), "what is damaged takes its room until the process ends"
    assert not blocks(tmp_path)
    kept_anew(tmp_path, 3, 3)


@pytest.mark.parametrize("at", [0, 12, 20, 50, 60, 79, -40, -24, -1])
def test_a_damaged_head_or_table_is_noticed_and_the_block_is_made_anew(tmp_path: Path, at: int) -> None:
    filled(tmp_path, 20)
    (path,) = blocks(tmp_path)
    flipped(path, at)
    with Store(tmp_path, KEY, 20) as store:
        state = store.state()
        assert (state.kept, state.damaged, path.exists()) == (0, 1, False)
        assert f"{path.name} is damaged, and was removed" in state.trouble
    kept_anew(tmp_path, 20, 20)


@pytest.mark.slow
def test_any_byte_of_a_block_may_be_damaged(tmp_path: Path) -> None:
    count = 12
    with Store(tmp_path, KEY, count) as store:
        for index in range(count):
            store.put(index, blob(index, 300))
    (path,) = blocks(tmp_path)
    path.chmod(0o600)
    data, random, lost = path.read_bytes(), np.random.default_rng(0), 0
    heads, tables = range(200), range(len(data) - count * 40, len(data))
    for at in [*heads, *tables, *map(int, random.integers(0, len(data), 300))]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << int(random.integers(8))]) + data[at + 1 :])
        with Store(tmp_path, KEY, count) as store:
            for index in range(count):
                part = store.get(index)
                assert part is None or part.tobytes() == blob(index, 300), at
                lost += part is None
        for other in set(blocks(tmp_path)) - {path}:  # what is sound was written anew
            other.unlink()
    assert lost > 1000


@pytest.mark.parametrize("size", [0, 1, 100, 191, 5000, -1, -33])
def test_a_truncated_block_is_noticed_and_made_anew(tmp_path: Path, size: int) -> None:
    filled(tmp_path, 30)
    (path,) = blocks(tmp_path)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:size])
    with Store(tmp_path, KEY, 30) as store:
        state = store.state()
        assert state.kept == 0 and state.damaged == 1 and "damaged, and was removed" in state.trouble
        assert not path.exists()
    kept_anew(tmp_path, 30, 30)


CUT_BEFORE_USE = """
filled(folder, 30)
(path,) = blocks(folder)
with Store(folder, KEY, 30) as store:
    store.get(0)  # from here on a second goes by before it looks at all files
    path.chmod(0o600)
    os.truncate(path, path.stat().st_size // 2)  # what lies behind it would end a process that reads it
    assert held(store, 30) == 1
    state = store.state()
    assert (state.kept, state.damaged, path.exists()) == (0, 1, False) and "was made shorter" in state.trouble, state
    assert all(store.put(index, blob(index)) for index in range(30))
    assert held(store, 30) == 30
"""


def test_a_block_that_is_cut_after_it_was_opened_is_noticed_before_it_is_read(tmp_path: Path) -> None:
    run(CUT_BEFORE_USE, tmp_path)
    kept_anew(tmp_path, 30, 0)


CUT_AFTER_USE = """
own = sys.argv[2] == "own"
if not own:
    filled(folder, 30)
with Store(folder, KEY, 30) as store:
    if own:
        for index in range(30):
            store.put(index, blob(index))
        store.flush()
    assert held(store, 30) == 30
    (path,) = blocks(folder)
    time.sleep(1.1)
    path.chmod(0o600)
    os.truncate(path, 5000)
    assert held(store, 30) == 0  # all of the file's are left, as none is known to be whole
    state = store.state()
    assert state.damaged == 1 and f"{path.name} was made shorter" in state.trouble, state
    assert not path.exists()
    assert all(store.put(index, blob(index)) for index in range(30))
    assert held(store, 30) == 30
"""


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["own", "another's"])
def test_a_block_that_is_cut_after_it_was_read_is_noticed_within_a_second(tmp_path: Path, whose: str) -> None:
    run(CUT_AFTER_USE, tmp_path, whose)
    kept_anew(tmp_path, 30, 0)


CUT_UNDER_A_CHILD = """
with Store(folder, KEY, 30) as store:
    for index in range(30):
        store.put(index, blob(index))
    store.flush()
    assert held(store, 30) == 30
    (path,) = blocks(folder)
    ready, go = os.pipe()
    child = os.fork()
    if not child:
        assert os.read(ready, 1)
        lost = held(store, 30) == 0  # to read them would end it
        os._exit(0 if lost and store.keep(0, blob(0), Form.ENCODED) is None else 1)
    path.chmod(0o600)
    os.truncate(path, 5000)
    time.sleep(1.1)
    if sys.argv[2] == "parent":
        assert held(store, 30) == 0 and not path.exists()
    os.write(go, b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.exists() == (sys.argv[2] == "child")  # what is the parent's a child leaves alone
    assert held(store, 30) == 0
    assert all(store.put(index, blob(index)) for index in range(30))
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["parent", "child"])
def test_a_child_process_notices_a_block_that_is_cut(tmp_path: Path, first: str) -> None:
    if first == "parent" and tuple(map(int, platform.release().split(".")[:2])) < (5, 14):
        pytest.skip("this kernel can't say whether what is mapped of a removed file can be read")
    run("from greenload.backends.native.abi import Form\n" + CUT_UNDER_A_CHILD, tmp_path, first)
    kept_anew(tmp_path, 30, 0)


def test_what_cannot_be_read_now_is_no_damage_and_not_forgotten(tmp_path: Path) -> None:
    filled(tmp_path, 20)
    (path,) = blocks(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.mkdir()  # reading it fails, as of a disk that is failing
    with Store(tmp_path, KEY, 20) as store:
        state = store.state()
        assert (state.kept, state.damaged) == (0, 0)
        assert state.trouble == f"{tmp_path}: {path.name} can't be read now: {os.strerror(errno.EISDIR)}"
        assert path.exists()
        path.rmdir()
        elsewhere.rename(path)
        store.flush()
        assert held(store, 20) == 20


def test_files_of_others_are_not_removed(tmp_path: Path) -> None:
    filled(tmp_path, 20)
    own = folder_of(tmp_path, KEY)
    others = [own / "film.block", own / "film.mkv.part", own / "0123456789abcdef.part"]
    for path in others:
        path.write_bytes(b"something else")
    with Store(tmp_path, KEY, 20) as store:
        assert store.state().kept == 20 and store.state().damaged == 0
        assert store.state().trouble == f"{tmp_path}: film.block is no block, and isn't used"
    assert all(path.exists() for path in others)


UNREMOVABLE = """
(path,) = blocks(folder)
with Store(folder, KEY, 20) as store:
    if store.state().kept:
        os.truncate(path, 5000)
        time.sleep(1.1)
        assert store.get(0) is None
    print(store.state().trouble)
"""


@pytest.mark.parametrize("fault", ["is damaged", "was made shorter"])
def test_of_a_block_that_cannot_be_removed_it_is_not_said_that_it_was(tmp_path: Path, fault: str) -> None:
    filled(tmp_path, 20)
    (path,) = blocks(tmp_path)
    path.chmod(0o644)
    if fault == "is damaged":
        flipped(path, 0)
    path.parent.chmod(0o555)
    said = run(UNREMOVABLE, tmp_path, before=obeying_modes())
    path.parent.chmod(0o755)
    assert said == (
        f"{tmp_path}: {path.name} {fault}, and can't be removed: Permission denied; its samples are read anew: allow "
        "that, or remove it\n"
    )
    assert path.exists()


FEW_FILES = """
filled(folder, 20)
used = len(os.listdir("/proc/self/fd"))
with Store(folder / "another", KEY, 20):  # what is loaded with the first store is
    pass
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (used - 1, hard))
with Store(folder, KEY, 20) as store:
    state = store.state()
    assert state.kept == 0 and state.damaged == 0 and "can't be read now: Too many open files" in state.trouble, state
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    store.flush()
    assert held(store, 20) == 20
"""


def test_where_open_files_have_run_out_nothing_is_taken_for_damaged(tmp_path: Path) -> None:
    run(FEW_FILES, tmp_path)
