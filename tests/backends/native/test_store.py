"""What is kept between epochs: never another byte than was put, whatever happens to writers, disks and files."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import odd_jpegs
import pytest
from conformance import pixels

from greenload.backends.native import library
from greenload.backends.native.library import Form, KernelStep, Op, Program, transcode
from greenload.backends.native.store import BLOCKS, Store, StoreError, block_info, folder_of

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

ROOT = Path(__file__).parents[3]
KEY = hashlib.sha256(b"a source").digest()
MIB = 1 << 20


def blob(index: int, size: int = 0) -> bytes:
    """A sample's bytes: any can be told from any other."""
    random = np.random.default_rng(index)
    return random.bytes(size or int(random.integers(1, 200_000)))


def held(store: Store, count: int) -> int:
    """How many samples are there; each is what was put."""
    found = 0
    for index in range(count):
        part = store.get(index)
        if part is not None:
            assert part.tobytes() == blob(index), index
            assert part.address % 64 == 0
            found += 1
    return found


def blocks(folder: Path) -> list[Path]:
    return sorted(folder_of(folder, KEY).glob(BLOCKS))


def filled(folder: Path, count: int, budget: int | None = None) -> None:
    with Store(folder, KEY, count, budget) as store:
        for index in range(count):
            store.put(index, blob(index))


@pytest.fixture(params=["RAM", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "RAM" else tmp_path / "deep" / "er"


def test_what_was_put_is_got_and_stays_where_it_is(place: Path | None) -> None:
    with Store(place, KEY, 300) as store:
        assert store.get(0) is None and store.state().kept == 0
        order = np.random.default_rng(0).permutation(300)
        first: dict[int, Any] = {}
        for index in map(int, order):
            assert store.put(index, blob(index))
            assert not store.put(index, b"another")
            first[index] = store.get(index)
        assert held(store, 300) == 300
        state = store.state()
        assert (state.kept, state.damaged, state.refused, state.full, state.trouble) == (300, 0, 0, False, "")
        assert state.bytes == sum(-(-len(blob(index)) // 64) * 64 for index in range(300))
        store.flush()
        assert [store.get(index) for index in range(300)] == [first[index] for index in range(300)]
        assert held(store, 300) == 300
        assert store.get(-1) is None and store.get(300) is None
        assert not store.put(-1, b"x") and not store.put(300, b"x") and not store.put(0, b"")
    with pytest.raises(ValueError, match="closed"):
        store.get(0)


def test_a_blob_larger_than_a_block_is_kept(place: Path | None) -> None:
    large = np.random.default_rng(1).bytes(20 * MIB + 3)
    with Store(place, KEY, 3) as store:
        assert store.put(0, b"small") and store.put(1, large) and store.put(2, b"small too")
        part = store.get(1)
        assert part is not None and part.tobytes() == large
    if place is not None:
        with Store(place, KEY, 3) as store:
            again = store.get(1)
            assert again is not None and again.tobytes() == large and store.state().kept == 3


def test_the_budget_is_kept_to_and_what_came_first_stays(place: Path | None) -> None:
    size, budget = 50_000, 3 * MIB
    with Store(place, KEY, 100, budget) as store:
        taken = [store.put(index, blob(index, size)) for index in range(100)]
        room = budget // (-(-size // 64) * 64)
        assert taken == [True] * room + [False] * (100 - room)
        state = store.state()
        assert state.kept == room and state.refused == 100 - room and state.bytes <= budget and not state.full
        assert store.put(99, b"a small one")


def jpeg(index: int) -> bytes:
    return odd_jpegs.jpeg(pixels(40 + index, 60, "photo"), sampling=((2, 2), (1, 1), (1, 1)), jfif=True)


@pytest.mark.parametrize("form", Form)
def test_a_file_is_kept_in_its_form_once(place: Path | None, form: Form) -> None:
    with Store(place, KEY, 5) as store:
        part = store.keep(2, jpeg(2), form)
        assert part is not None and part.tobytes() == transcode(jpeg(2), form)
        assert store.keep(2, b"", form) == part == store.get(2), "what is kept isn't looked at again"
        png = b"\x89PNG and more"
        odd = store.keep(3, png, form)
        assert odd is not None and odd.tobytes() == png, "what can't be in the form is kept as it is"
        assert store.keep(4, b"", form) is None and store.keep(5, jpeg(1), form) is None
        assert store.state().kept == 2 and store.state().refused == 0


def test_without_room_nothing_is_transcoded(place: Path | None) -> None:
    """Half of the samples fit; keeping the others again and again costs next to nothing."""
    files = [jpeg(index) for index in range(40)]
    sizes = [len(transcode(file, Form.PLANES)) + 64 for file in files]
    with Store(place, KEY, 40, sum(sizes) // 2) as store:
        kept = [store.keep(index, file, Form.PLANES) is not None for index, file in enumerate(files)]
        assert 12 < sum(kept) < 28 and store.state().bytes <= sum(sizes) // 2
        assert store.state().refused == 40 - sum(kept)

        def cpu_seconds(work: Callable[[int], object]) -> float:
            start = time.process_time()
            for _ in range(5):
                for index in range(40):
                    if not kept[index]:
                        work(index)
            return time.process_time() - start

        assert cpu_seconds(lambda index: store.keep(index, files[index], Form.PLANES)) < 0.3 * cpu_seconds(
            lambda index: transcode(files[index], Form.PLANES)
        )


def test_threads_that_keep_the_same_sample_transcode_it_once(place: Path | None) -> None:
    with Store(place, KEY, 8) as store, ThreadPoolExecutor(6) as pool:
        for index in range(8):
            parts = set(pool.map(lambda _, index=index: store.keep(index, jpeg(index), Form.PLANES), range(12)))
            assert len(parts) == 1 and None not in parts
        assert store.state().kept == 8 and store.state().refused == 0


def test_a_process_has_one_store_of_a_folder_and_key(place: Path | None, tmp_path: Path) -> None:
    first, second = Store(place, KEY, 20), Store(place, KEY, 20, 2000)
    assert first.put(3, blob(3, 1000)) and second.get(3) == first.get(3)
    assert not first.put(4, blob(4, 1000)), "the budget given last holds"
    with Store(place, KEY, 21) as other, Store(tmp_path / "another", KEY, 20) as elsewhere:
        assert other.get(3) is None and elsewhere.get(3) is None
    first.close()
    part = second.get(3)
    assert part is not None and part.tobytes() == blob(3, 1000)
    second.close()
    with Store(place, KEY, 20) as third:
        assert third.state().kept == (0 if place is None else 1)


@pytest.mark.slow
def test_threads_put_and_get_at_once(place: Path | None) -> None:
    count = 400
    with Store(place, KEY, count) as store:

        def work(seed: int) -> int:
            kept = 0
            for index in map(int, np.random.default_rng(seed).permutation(count)):
                kept += store.put(index, blob(index))
                part = store.get(index)
                assert part is None or part.tobytes() == blob(index)
            return kept

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(work, range(6))) == count
        assert held(store, count) == count


def test_the_kernel_decodes_blobs_where_they_lie(place: Path | None) -> None:
    image = pixels(77, 91, "photo")
    file = odd_jpegs.jpeg(image, sampling=((2, 2), (1, 1), (1, 1)), jfif=True)
    with Store(place, KEY, 4) as store:
        for form in Form:
            assert store.put(int(form), transcode(file, form))
        store.flush()
        parts = [part for part in store.take(range(4)) if part]
        batch = np.empty((4, 77, 91, 3), np.uint8)
        assert not Program([KernelStep(Op.DECODE)], 0).run(parts, np.empty((4, 0)), batch)
        assert all(np.array_equal(one, batch[0]) for one in batch)
        assert library.probe(parts, True, 1 << 30, kept=True).tolist() == [[1, 77, 91]] * 4


def test_a_folder_is_found_again_by_its_key_alone(tmp_path: Path) -> None:
    filled(tmp_path, 150)
    with Store(tmp_path, KEY, 150) as store:
        assert held(store, 150) == 150 and store.state().trouble == ""
    other = hashlib.sha256(b"another source").digest()
    with Store(tmp_path, other, 150) as store:
        assert store.state().kept == 0
    with Store(tmp_path, KEY, 151) as store:
        assert store.state().kept == 0 and store.state().damaged == 0
    info = [block_info(path) for path in blocks(tmp_path)]
    assert sum(one.blobs for one in info if one) == 150
    assert {(one.key, one.count) for one in info if one} == {(KEY, 150)}
    assert [one.size for one in info if one] == [path.stat().st_size for path in blocks(tmp_path)]
    # A block of another key that was put into the folder is left alone.
    stray = folder_of(tmp_path, other) / blocks(tmp_path)[0].name
    stray.write_bytes(blocks(tmp_path)[0].read_bytes())
    with Store(tmp_path, other, 150) as store:
        assert store.state().kept == 0 and store.state().damaged == 0
    assert stray.exists()


def test_a_block_of_another_version_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path, 20)
    (path,) = blocks(tmp_path)
    data = bytearray(path.read_bytes())
    data[8] += 1
    path.write_bytes(data)
    assert block_info(path) is None
    with Store(tmp_path, KEY, 20) as store:
        assert store.state().kept == 0 and store.state().damaged == 0
        assert all(store.put(index, blob(index)) for index in range(20))
    assert path.exists()
    with Store(tmp_path, KEY, 20) as store:
        assert held(store, 20) == 20


def test_a_damaged_blob_is_noticed_and_put_anew(tmp_path: Path) -> None:
    filled(tmp_path, 30)
    (path,) = blocks(tmp_path)
    data = path.read_bytes()
    at = data.index(blob(7)[-40:])
    path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    with Store(tmp_path, KEY, 30) as store:
        assert store.get(7) is None and store.get(7) is None
        assert store.state().damaged == 1 and store.state().kept == 29
        assert held(store, 30) == 29
        assert store.put(7, blob(7)) and store.state().kept == 30
        assert held(store, 30) == 30
    for _ in range(3):  # whichever of the two blocks is found first, nothing is written again
        with Store(tmp_path, KEY, 30) as store:
            assert held(store, 30) == 30
            assert not store.put(7, blob(7))
        assert len(blocks(tmp_path)) == 2


@pytest.mark.slow
def test_any_byte_of_a_block_may_be_damaged(tmp_path: Path) -> None:
    count = 12
    with Store(tmp_path, KEY, count) as store:
        for index in range(count):
            store.put(index, blob(index, 300))
    (path,) = blocks(tmp_path)
    data, random, lost = path.read_bytes(), np.random.default_rng(0), 0
    heads, tables = range(200), range(len(data) - count * 40, len(data))
    for at in [*heads, *tables, *map(int, random.integers(0, len(data), 300))]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << int(random.integers(8))]) + data[at + 1 :])
        with Store(tmp_path, KEY, count) as store:
            for index in range(count):
                part = store.get(index)
                assert part is None or part.tobytes() == blob(index, 300), at
                lost += part is None
        if not path.exists():
            assert store is not None
    assert lost > 1000


@pytest.mark.parametrize("size", [0, 1, 100, 191, 5000, -1, -33])
def test_a_truncated_block_is_noticed_and_made_anew(tmp_path: Path, size: int) -> None:
    filled(tmp_path, 30)
    (path,) = blocks(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:size])
    with Store(tmp_path, KEY, 30) as store:
        state = store.state()
        assert state.kept == 0 and state.damaged == 1 and "damaged" in state.trouble
        assert not path.exists()
        assert all(store.put(index, blob(index)) for index in range(30))
    with Store(tmp_path, KEY, 30) as store:
        assert held(store, 30) == 30 and store.state().damaged == 0


WRITER = """
import sys
sys.path[:0] = ["tests/backends/native", "tests/support"]
from pathlib import Path
from test_store import KEY, Store, blob
folder, first, stop = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with Store(folder, KEY, 2000) as store:
    print("ready", flush=True)
    for index in range(first, stop):
        store.put(index, blob(index))
    print("done", flush=True)
"""


def writer(folder: Path, first: int, stop: int, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(first), str(stop)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)


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
            assert not list(folder_of(tmp_path, KEY).glob("*.part")), "what was half done is gone"
            state = store.state()
            assert (state.damaged, state.trouble) == (0, "")
            counts.append(held(store, 2000))
            assert state.kept == counts[-1]
    assert counts[0] > 0 and counts == sorted(counts) and counts[-1] > counts[0]


def test_a_writer_killed_while_it_writes_a_block_leaves_nothing_half_done(tmp_path: Path) -> None:
    """Its file is a name that nobody has locked: the next one removes it, and not one that somebody writes."""
    import fcntl

    filled(tmp_path, 10)
    own = folder_of(tmp_path, KEY)
    left, live = own / "left.part", own / "live.part"
    left.write_bytes(blocks(tmp_path)[0].read_bytes()[:5000])
    with live.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with Store(tmp_path, KEY, 10) as store:
            assert held(store, 10) == 10
        assert not left.exists() and live.exists()


@pytest.mark.slow
def test_two_writers_at_once_share_a_folder(tmp_path: Path) -> None:
    both = [writer(tmp_path, 0, 300), writer(tmp_path, 150, 450)]
    for process in both:
        assert process.communicate()[0].split() == ["ready", "done"] and process.returncode == 0
    with Store(tmp_path, KEY, 2000) as store:
        assert held(store, 2000) == 450
        assert store.state().damaged == 0
        # Blobs that both have kept count twice against a budget.
        assert store.state().bytes >= sum(-(-len(blob(index)) // 64) * 64 for index in range(450))


@pytest.mark.slow
def test_a_reader_sees_what_a_writer_has_written_while_it_fills(tmp_path: Path) -> None:
    with Store(tmp_path, KEY, 2000) as reader:
        process = writer(tmp_path, 0, 500)
        seen = [0]
        while process.poll() is None:
            reader.flush()
            seen.append(held(reader, 500))
            time.sleep(0.05)
        process.communicate()
        reader.flush()
        assert held(reader, 500) == 500
        assert seen == sorted(seen) and any(0 < count < 500 for count in seen)


LIMITED = """
import resource, sys
sys.path[:0] = ["tests/backends/native", "tests/support"]
from pathlib import Path
from test_store import KEY, Store, blob, held
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
store = Store(Path(sys.argv[1]), KEY, 400)
kept = [store.put(index, blob(index)) for index in range(400)]
state = store.state()
assert state.full and "File too large" in state.trouble, state
assert 0 < sum(kept) < 400 and state.kept == sum(kept) and state.refused == 400 - sum(kept)
assert held(store, 400) == sum(kept)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.flush()
assert not store.state().full
assert all(store.put(index, blob(index)) for index in range(400) if not kept[index])
assert held(store, 400) == 400
store.close()
print("done")
"""


@pytest.mark.slow
def test_a_block_that_cannot_be_written_stays_in_memory_and_no_more_are_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout == "done\n", result.stderr
    assert not list(folder_of(tmp_path, KEY).glob("*.part"))
    with Store(tmp_path, KEY, 400) as store:
        assert held(store, 400) == 400


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can't be mounted here")
    try:
        with Store(disk, KEY, 400) as store:
            kept = sum(store.put(index, blob(index)) for index in range(400))
            state = store.state()
            assert state.full and os.strerror(errno.ENOSPC) in state.trouble
            assert 0 < kept < 400 and held(store, 400) == kept
        with Store(disk, KEY, 400) as store:
            assert 0 < held(store, 400) <= kept and store.state().damaged == 0
            assert not list(folder_of(disk, KEY).glob("*.part"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


LEFT_OPEN = """
import sys, threading
sys.path[:0] = ["tests/backends/native", "tests/support"]
from pathlib import Path
from test_store import KEY, Store, blob
store = Store(Path(sys.argv[1]), KEY, 20)
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
        command = [sys.executable, "-c", LEFT_OPEN, str(tmp_path / str(index))]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (0, "")
        with Store(tmp_path / str(index), KEY, 20) as store:
            assert held(store, 20) == 10


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(StoreError, match="Not a directory"):
        Store(file / "below", KEY, 5)
    for key, count, budget in ((KEY[:-1], 5, None), (KEY, 0, None), (KEY, 5, 0)):
        with pytest.raises(ValueError, match="samples"):
            Store(None, key, count, budget)


def test_a_folder_removed_under_a_store_leaves_its_readers_alone(tmp_path: Path) -> None:
    filled(tmp_path, 60)
    with Store(tmp_path, KEY, 61) as store:
        assert store.state().kept == 0
    with Store(tmp_path, KEY, 60) as store:
        for path in blocks(tmp_path):
            path.unlink()
        folder_of(tmp_path, KEY).rmdir()
        assert held(store, 60) == 60


def test_a_child_process_reads_on_and_adds_nothing(tmp_path: Path) -> None:
    with Store(tmp_path, KEY, 20) as store:
        for index in range(10):
            assert store.put(index, blob(index))
        child = os.fork()
        if not child:
            good = held(store, 20) == 10 and not store.put(15, blob(15))
            good = good and store.keep(15, blob(15), Form.ENCODED) is None
            store.flush()
            with Store(tmp_path, KEY, 20) as own:  # not its parent's, which hasn't been written
                good = good and held(own, 20) == 0
            store.close()
            os._exit(0 if good and not blocks(tmp_path) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.put(15, blob(15)) and held(store, 20) == 11
    with Store(tmp_path, KEY, 20) as store:
        assert held(store, 20) == 11
