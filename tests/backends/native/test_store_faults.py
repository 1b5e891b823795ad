"""What is kept between epochs: never another byte than was put, whatever happens to writers and disks."""

from __future__ import annotations

import fcntl
import shutil
import signal
import time
from pathlib import Path

import pytest
from mount_namespaces import private_mounts
from stores import KEY, blocks, bytes_of, filled, held, kept_anew, run, writer

from greenload.backends.native import library
from greenload.backends.native.store import LOCK, Store, folder_of

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

MOUNTS = ("unshare", "-m")
"""In front of a program that mounts: nothing of it is seen outside, or stays."""


# ---- writers


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_what_it_had_written(tmp_path: Path) -> None:
    counts = []
    for moment in range(6):
        process = writer(tmp_path, 0, 2000)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        wanted, end = len(blocks(tmp_path)) + 1, time.monotonic() + 60
        while len(blocks(tmp_path)) < wanted and time.monotonic() < end and process.poll() is None:
            time.sleep(0.001)
        time.sleep(0.004 * moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with Store(tmp_path, KEY, 2000) as store:
            parts = folder_of(tmp_path, KEY).glob("*.part")
            assert not any(path.stat().st_size for path in parts), "what was half done is gone"
            state = store.state()
            assert (state.damaged, state.trouble) == (0, "")
            counts.append(held(store, 2000))
            assert state.kept == counts[-1]
    assert counts[0] > 0 and counts == sorted(counts) and counts[-1] > counts[0]


@pytest.mark.slow
def test_a_writer_that_is_killed_in_the_middle_of_a_block_leaves_no_half_of_it(tmp_path: Path) -> None:
    halves = 0
    for attempt in range(30):
        folder = tmp_path / str(attempt)
        own = folder_of(folder, KEY)
        process = writer(folder, 0, 2000)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        while not list(own.glob("*.part")) and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
        halves += any(path.stat().st_size for path in own.glob("*.part"))
        with Store(folder, KEY, 2000) as store:  # an empty one may be another's that is about to lock it
            assert not any(path.stat().st_size for path in own.glob("*.part"))
            assert held(store, 2000) == store.state().kept
            assert (store.state().damaged, store.state().trouble) == (0, "")
        shutil.rmtree(folder)
        if halves == 3:
            return
    pytest.fail(f"of 30 writers {halves} were killed in the middle of a block: try more")


def test_what_a_writer_that_was_killed_left_half_done_goes_once_no_other_writes(tmp_path: Path) -> None:
    filled(tmp_path, 10)
    own = folder_of(tmp_path, KEY)
    left = own / "0123456789abcdef.block-1.part"
    left.write_bytes(blocks(tmp_path)[0].read_bytes()[:5000])
    with (own / LOCK).open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 1)  # as a process that writes a block
        run("with Store(folder, KEY, 10) as store:\n    assert held(store, 10) == 10", tmp_path)
        assert left.exists()
    with Store(tmp_path, KEY, 10) as store:
        assert held(store, 10) == 10 and not left.exists()


STOLEN = """
stolen, done = 0, False
def steal():  # as one that clears the folder
    global stolen
    while not done and stolen < 3:
        for path in folder.glob("*/*.part"):
            try:
                path.unlink()
                stolen += 1
            except FileNotFoundError:
                pass
thief = threading.Thread(target=steal)
with Store(folder, KEY, 300) as store:
    thief.start()
    kept = sum(store.put(index, blob(index)) for index in range(300))
    done = True
    thief.join()
    state = store.state()
    assert stolen and not state.full and state.trouble == "" and kept == 300, (stolen, state)
"""


@pytest.mark.slow
def test_a_writer_whose_file_is_removed_writes_another(tmp_path: Path) -> None:
    run(STOLEN, tmp_path)
    kept_anew(tmp_path, 300, 0)


@pytest.mark.slow
def test_threads_that_flush_while_others_write_take_in_nothing_twice(tmp_path: Path) -> None:
    program = """
from concurrent.futures import ThreadPoolExecutor
count, done = 600, False
def flush():
    while not done:
        store.flush()
with Store(folder, KEY, count) as store, ThreadPoolExecutor(6) as pool:
    flushing = [pool.submit(flush) for _ in range(2)]
    assert all(pool.map(lambda index: store.put(index, blob(index)), range(count)))
    done = True
    [one.result() for one in flushing]
    store.flush()
    maps = Path("/proc/self/maps").read_text()
    assert held(store, count) == store.state().kept == count
    assert store.state().bytes == int(sys.argv[2]) + 192 * len(blocks(folder)), store.state()
    twice = [path.name for path in blocks(folder) if maps.count(path.name) != 1]
    assert not twice, (len(twice), len(blocks(folder)))
"""
    run(program, tmp_path, bytes_of(600) - 192)


NO_MORE_MAPS = """
import mmap
with Store(folder, KEY, 21) as store:
    assert all(store.put(index, blob(index)) for index in range(20))
    parts = store.take(range(20))
    maps = []
    try:
        while True:  # protections that alternate: neighbours don't become one
            maps.append(mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE * (len(maps) % 2)))
    except OSError:
        pass
    store.flush()
    del maps
    assert [part.tobytes() for part in parts] == [blob(index) for index in range(20)]
    assert blocks(folder) and ".block" not in Path("/proc/self/maps").read_text(), "no map was to be had"
    assert held(store, 20) == 20 and store.state().trouble == ""
"""


@pytest.mark.slow
def test_where_no_more_can_be_mapped_what_was_written_stays_in_memory(tmp_path: Path) -> None:
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    if limit > 300_000:
        pytest.skip(f"a process may have {limit} maps, which takes long to reach")
    run(NO_MORE_MAPS, tmp_path)
    kept_anew(tmp_path, 21, 1)


# ---- disks


LIMITED = """
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
store = Store(folder, KEY, 400)
kept = [store.put(index, blob(index)) for index in range(400)]
state = store.state()
assert state.full and state.trouble.endswith(
    ": File too large; no more samples are kept: allow larger files (ulimit -f), or name another folder"
), state
assert 0 < sum(kept) < 400 and state.kept == sum(kept) and state.refused == 400 - sum(kept)
assert held(store, 400) == sum(kept)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.flush()
assert not store.state().full
assert all(store.put(index, blob(index)) for index in range(400) if not kept[index])
assert held(store, 400) == 400
store.close()
"""


@pytest.mark.slow
def test_a_block_that_cannot_be_written_stays_in_memory_and_no_more_are_kept(tmp_path: Path) -> None:
    run(LIMITED, tmp_path)
    assert not list(folder_of(tmp_path, KEY).glob("*.part"))
    kept_anew(tmp_path, 400, 0)


FULL_DISK = """
import subprocess
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], check=True)
full = "No space left on device; no more samples are kept: make room on the disk, or name another folder"
budget, trouble = (None, "the disk is nearly full") if sys.argv[2] == "reserve" else (100 * MIB, full)
with Store(folder, KEY, 400, budget) as store:
    kept = sum(store.put(index, blob(index)) for index in range(400))
    state = store.state()
    assert state.full and trouble in state.trouble, state
    assert 0 < kept < 400 and held(store, 400) == kept
    disk = os.statvfs(folder)
    assert (disk.f_bavail >= 0.05 * disk.f_blocks) or budget
with Store(folder, KEY, 400, budget) as store:
    again = held(store, 400)
    assert 0 < again <= kept and store.state().damaged == 0
    assert not list(folder.glob("*/*.part"))
    (folder / "filler").write_bytes(b"")
    subprocess.run(["mount", "-o", "remount,size=200m", folder], check=True)  # there is room again
    store.flush()
    assert all(store.put(index, blob(index)) for index in range(400) if store.get(index) is None)
with Store(folder, KEY, 400, budget) as store:
    assert held(store, 400) == 400
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["reserve", "budget"])
def test_a_full_disk(tmp_path: Path, limit: str) -> None:
    if not private_mounts():
        pytest.skip("a small disk can't be mounted here")
    run(FULL_DISK, tmp_path, limit, before=MOUNTS)


READ_ONLY = """
import subprocess
from greenload.backends.native.store import StoreError
filled(folder, 40)
subprocess.run(["mount", "--bind", folder, folder], check=True)
subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
with Store(folder, KEY, 60) as store:  # the sub-folder is there; its block is of another count
    assert store.state().kept == 0
with Store(folder, KEY, 40) as store:
    assert held(store, 40) == 40 and store.state().trouble == "", store.state()
(path,) = blocks(folder)
with Store(folder, KEY, 60) as store:
    assert all(store.put(index, blob(index)) for index in range(50))
    store.flush()
    state = store.state()
    assert state.full and "can't write" in state.trouble and "Read-only file system" in state.trouble, state
    assert not store.put(55, blob(55)) and held(store, 60) == 50
try:
    Store(folder, KEY[::-1], 40)
    raise SystemExit("it must be refused")
except StoreError as error:
    assert str(error) == f"{folder}: Read-only file system"
"""


@pytest.mark.slow
def test_a_read_only_folder_is_read_and_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    if not private_mounts():
        pytest.skip("a folder can't be mounted here")
    run(READ_ONLY, tmp_path, before=MOUNTS)
    with Store(tmp_path, KEY, 40) as store:
        assert held(store, 40) == 40


# ---- ends


LEFT_OPEN = """
store = Store(folder, KEY, 20)
for index in range(10):
    store.put(index, blob(index))

def read():
    while True:
        assert store.get(3).tobytes() == blob(3)

threading.Thread(target=read, daemon=True).start()
"""


@pytest.mark.slow
def test_a_store_left_open_is_written_at_the_end_while_threads_read(tmp_path: Path) -> None:
    for index in range(3):
        run(LEFT_OPEN, tmp_path / str(index))
        with Store(tmp_path / str(index), KEY, 20) as store:
            assert held(store, 20) == 10
