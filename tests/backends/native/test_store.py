"""What is kept between epochs: blobs by sample index, in RAM or in a folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import odd_jpegs
import pytest
from conformance import pixels
from stores import KEY, MIB, blob, blocks, bytes_of, filled, held, obeying_modes, run

from greenload.backends.native import library
from greenload.backends.native.abi import Form, KernelStep, Op
from greenload.backends.native.blobs import Blob
from greenload.backends.native.cache_entries import block_info
from greenload.backends.native.library import Program, transcode
from greenload.backends.native.store import BLOCKS_VERSION, Store, StoreError, folder_of

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")


def test_the_version_of_blocks_is_the_kernels(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    (block,) = blocks(tmp_path)
    assert struct.unpack_from("=8sI", block.read_bytes()) == (b"GLBLOCK\n", BLOCKS_VERSION)


def test_nobody_may_write_to_a_block(tmp_path: Path) -> None:
    """Processes are mapped to it: to make it shorter would end them."""
    filled(tmp_path, 20)
    assert [path.stat().st_mode & 0o777 for path in blocks(tmp_path)] == [0o444 & ~umask()]


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
        assert state.bytes == bytes_of(300, 0 if place is None else len(blocks(place)))
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


@pytest.mark.parametrize("small", [0, 3])
@pytest.mark.parametrize("form", [form for form in Form if form != Form.ENCODED])
def test_what_is_larger_than_the_room_left_is_not_transcoded(place: Path | None, form: Form, small: int) -> None:
    """Whatever is kept already: nothing, or only smaller ones."""
    large = odd_jpegs.jpeg(pixels(300, 400, "photo"), sampling=((2, 2), (1, 1), (1, 1)), jfif=True)
    needed = len(transcode(large, form))
    with Store(place, KEY, 20, needed * 3 // 4) as store:
        assert all(store.keep(index, jpeg(index), form) for index in range(small))

        def cpu_seconds(work: Callable[[int], object]) -> float:
            start = time.process_time()
            for index in range(small, 20):
                work(index)
            return time.process_time() - start

        assert not any(store.keep(index, large, form) for index in range(small, 20))
        spent = cpu_seconds(lambda index: store.keep(index, large, form))
        assert spent < 0.3 * cpu_seconds(lambda index: transcode(large, form))
        assert store.state().kept == small and store.state().refused == 2 * (20 - small)
        assert store.keep(19, jpeg(19), form), "what fits is kept"


def test_threads_that_keep_the_same_sample_transcode_it_once(place: Path | None) -> None:
    file = odd_jpegs.jpeg(pixels(600, 800, "photo"), sampling=((2, 2), (1, 1), (1, 1)), jfif=True)
    together = Barrier(4)
    with Store(place, KEY, 5) as store, ThreadPoolExecutor(4) as pool:

        def work(index: int) -> Blob | None:
            together.wait()
            return store.keep(index, file, Form.PLANES)

        for index in range(5):
            parts = set(pool.map(work, [index] * 4))
            assert len(parts) == 1 and None not in parts
        assert store.state().kept == 5 and store.state().refused == 0
        blobs = 5 * -(-len(transcode(file, Form.PLANES)) // 64) * 64
        assert store.state().bytes == blobs + (0 if place is None else 192 + 5 * 32)


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


def test_stores_in_memory_have_a_budget_in_common(tmp_path: Path) -> None:
    """First come, first served; one that ends, or forgets, leaves its room to the others."""
    budget, size = 64 * 100, 64 * 10
    with (
        Store(None, KEY, 20, budget, in_common=True) as first,
        Store(None, KEY[::-1], 20, budget) as alone,
        Store(None, KEY[1:] + KEY[:1], 20, budget, in_common=True) as second,
    ):
        assert sum(first.put(index, blob(index, size)) for index in range(6)) == 6
        assert sum(alone.put(index, blob(index, size)) for index in range(20)) == 10, "a budget of its own"
        assert sum(second.put(index, blob(index, size)) for index in range(20)) == 4
        assert second.state().refused == 16 and second.state().bytes == 4 * size
        first.forget()
        assert sum(second.put(index, blob(index, size)) for index in range(20)) == 6
        assert not first.put(0, blob(0, size))
        with Store(None, KEY[1:] + KEY[:1], 20, budget):  # it is given one of its own
            assert first.put(0, blob(0, size))
        second.close()
        assert sum(first.put(index, blob(index, size)) for index in range(20)) == 9
    with Store(None, KEY, 20, budget, in_common=True) as again:
        assert sum(again.put(index, blob(index, size)) for index in range(20)) == 10
    with pytest.raises(ValueError, match="a budget of"):
        Store(tmp_path, KEY, 20, budget, in_common=True)


def being_closed(folder: Path) -> Thread:
    """A thread that closes a store of a hundred samples."""
    store = Store(folder, KEY, 100)
    for index in range(100):
        assert store.put(index, blob(index, 70_000))
    closing = Thread(target=store.close)
    closing.start()
    return closing


def test_who_opens_a_folder_while_it_is_closed_waits_and_finds_all(tmp_path: Path) -> None:
    for attempt in range(12):
        folder = tmp_path / str(attempt)
        closing = being_closed(folder)
        time.sleep(0.0005 * attempt)
        with Store(folder, KEY, 100) as again:  # the same one, or what it has written
            assert sum(part is not None for part in again.take(range(100))) == 100
        closing.join()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_does_not_wait_for_a_store_that_its_parent_is_closing(tmp_path: Path) -> None:
    for attempt in range(6):
        folder = tmp_path / str(attempt)
        closing = being_closed(folder)
        time.sleep(0.001 * attempt)
        child = os.fork()
        if not child:
            signal.alarm(30)  # ends it where it waits
            with Store(folder, KEY, 100) as own:
                kept = own.state().kept
            os._exit(0 if kept in (0, 100) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        closing.join()


def test_what_is_forgotten_is_kept_anew(place: Path | None) -> None:
    with Store(place, KEY, 30) as store:
        for _ in range(3):
            for index in range(20):
                assert store.put(index, blob(index))
            store.flush()
            before = store.get(3)
            store.forget()
            assert before is not None and before.tobytes() == blob(3)  # who reads it still may
            assert held(store, 30) == 0
            assert (store.state().kept, store.state().bytes) == (0, 0)
            assert place is None or blocks(place) == []
        assert store.put(5, blob(5))
    with Store(place, KEY, 30) as store:
        assert held(store, 30) == (0 if place is None else 1)


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
    count = len(Form)
    with Store(place, KEY, count) as store:
        for form in Form:
            assert store.put(int(form), transcode(file, form))
        store.flush()
        parts = [part for part in store.take(range(count)) if part]
        batch = np.empty((count, 77, 91, 3), np.uint8)
        assert not Program([KernelStep(Op.DECODE)], 0).run(parts, np.empty((count, 0)), batch)
        assert all(np.array_equal(one, batch[0]) for one in batch)
        assert library.probe(parts, True, 1 << 30, kept=True).tolist() == [[1, 77, 91]] * count


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


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(StoreError, match="Not a directory"):
        Store(file / "below", KEY, 5)
    for key, count, budget in ((KEY[:-1], 5, None), (KEY, 0, None), (KEY, 5, 0)):
        with pytest.raises(ValueError, match="samples"):
            Store(None, key, count, budget)


def test_why_a_folder_cannot_be_made_is_told_of_those_above_it(tmp_path: Path) -> None:
    program = """
from greenload.backends.native.store import StoreError
try:
    Store(folder / "deep" / "er", KEY, 5)
except StoreError as error:
    print(error)
"""
    tmp_path.chmod(0o555)
    said = run(program, tmp_path, before=obeying_modes())
    tmp_path.chmod(0o755)
    assert said == f"{tmp_path}/deep/er: Permission denied\n"


def test_a_folder_removed_under_a_store_leaves_its_readers_alone(tmp_path: Path) -> None:
    filled(tmp_path, 60)
    with Store(tmp_path, KEY, 61) as store:
        assert store.state().kept == 0
    with Store(tmp_path, KEY, 60) as store:
        shutil.rmtree(tmp_path)
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
