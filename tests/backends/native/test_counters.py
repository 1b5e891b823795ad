"""Own clocks: rows that the whole process shares, and what runs by either door counts in them."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.backends import registry
from greenload.backends.native import counters, library
from greenload.backends.native.abi import Counter, Flag, KernelStep, Op
from greenload.backends.native.counters import NamedCounter, OwnClocks, counted_as, named_counters
from greenload.backends.native.layout import Layout
from greenload.backends.native.library import Program
from greenload.backends.native.table import TABLE
from greenload.planning.choose import make_plan
from greenload.plans.plan import Plan

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

CHOSEN = gl.RandomChoice([gl.RandomVerticalFlip(1.0), gl.RandomInvert(1.0), gl.RandomErasing(1.0)])
FLIPPED = KernelStep(Op.FLIP, column=0, counter=0)
SCALED = KernelStep(Op.AFFINE, dtype_out="float32", numbers=(2.0, 0.0), counter=1)


def own_clocks(plan: Plan) -> list[Any]:
    """The clocks of a plan's segments on backends that have their own."""
    clocks = (registry.get(segment.backend).own_clocks(segment) for segment in plan.segments)
    return [one for one in clocks if one is not None]


def test_a_row_is_shared_by_all_that_give_its_name_and_goes_with_the_last() -> None:
    one, other = NamedCounter("test/shared"), NamedCounter("test/shared")
    one.add(images=3, nanoseconds=5, bytes_in=7, bytes_out=11)
    other.add(images=1)
    assert named_counters()["test/shared"] == Counter(4, 5, 7, 11)
    del one
    assert named_counters()["test/shared"] == Counter(4, 5, 7, 11)
    del other
    assert "test/shared" not in named_counters()
    again = NamedCounter("test/shared")
    assert named_counters()["test/shared"] == Counter(0, 0, 0, 0)
    del again


def test_no_count_is_lost_between_threads_that_open_add_and_read() -> None:
    held = NamedCounter("test/threads")

    def work() -> None:
        for k in range(500):
            NamedCounter("test/threads").add(images=1, nanoseconds=2)
            NamedCounter(f"test/threads/{k % 7}").add(images=1)
            if k % 50 == 0:
                named_counters()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert named_counters()["test/threads"] == Counter(2000, 4000, 0, 0)
    assert not [name for name in named_counters() if name.startswith("test/threads/")]
    del held


@pytest.mark.parametrize("name", ["", "x" * counters.NAME_BYTES, "é" * (counters.NAME_BYTES // 2)])
def test_a_name_that_a_row_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a counter's name has 1 to 95 bytes"):
        NamedCounter(name)


def test_the_longest_name_is_kept_whole() -> None:
    name = "é" * ((counters.NAME_BYTES - 1) // 2)
    row = NamedCounter(name)
    assert name in named_counters()
    del row


def ran(program: Program, images: int, flips: int) -> None:
    """So many images of 4 × 4 pixels, some of them mirrored."""
    params = (np.arange(images) < flips).astype(float).reshape(images, 1)
    out = np.empty((images, 4, 4, 3), np.float32)
    assert not program.run(np.zeros((images, 4, 4, 3), np.uint8), params, out)


def test_programs_of_one_name_are_counted_together() -> None:
    both, alone, private = Program([FLIPPED, SCALED], 1), Program([SCALED], 1), Program([FLIPPED, SCALED], 1)
    counters.count(both, "test/programs", [FLIPPED, SCALED])
    counters.count(alone, "test/programs", [SCALED])
    ran(both, 5, flips=2)
    ran(alone, 3, flips=0)
    ran(private, 7, flips=7)
    rows = named_counters()
    assert rows["test/programs"].images == 8
    assert (rows["test/programs"].bytes_in, rows["test/programs"].bytes_out) == (8 * 48, 8 * 192)
    assert (rows["test/programs/0"].images, rows["test/programs/0"].bytes_in) == (2, 2 * 48)
    assert (rows["test/programs/1"].images, rows["test/programs/1"].bytes_out) == (8, 8 * 192)
    assert [step.images for step in alone.counters()] == [8, 8]
    assert [step.images for step in private.counters()] == [7, 7, 7]


def test_a_step_of_no_number_is_counted_apart() -> None:
    step = KernelStep(Op.FLIP, column=0, counter=-1)
    program = Program([step], 1)
    counters.count(program, "test/apart", [step])
    out = np.empty((2, 4, 4, 3), np.uint8)
    program.run(np.zeros((2, 4, 4, 3), np.uint8), np.ones((2, 1)), out)
    assert [name for name in named_counters() if name.startswith("test/apart")] == ["test/apart"]
    assert [one.images for one in program.counters()] == [2, 2]


def test_what_another_step_does_as_well_takes_no_time() -> None:
    steps = [KernelStep(Op.RESIZE, Flag.ANTIALIAS, height=24, width=32), KernelStep(Op.FLIP, column=0)]
    program, out = Program(steps, 1), np.empty((20, 24, 32, 3), np.uint8)
    program.run(np.zeros((20, 80, 90, 3), np.uint8), np.ones((20, 1)), out)
    resize, flip, whole = program.counters()
    assert (flip.images, flip.nanoseconds) == (20, 0)
    assert 0 < resize.nanoseconds <= whole.nanoseconds


def test_maps_that_are_one_look_up_share_its_time() -> None:
    tables = [bytes(255 - level for level in range(256)), bytes(level // 2 for level in range(256))]
    steps = [KernelStep(Op.LOOKUP, column=column, table=table) for column, table in enumerate(tables)]
    program, out = Program(steps, 2), np.empty((200, 224, 224, 3), np.uint8)
    assert not program.run(np.zeros(out.shape, np.uint8), np.ones((200, 2)), out)
    first, second, whole = program.counters()
    assert first.images == second.images == 200
    assert 0.8 < first.nanoseconds / second.nanoseconds < 1.25
    assert first.nanoseconds + second.nanoseconds <= whole.nanoseconds


@pytest.mark.parametrize("side", [320, 400, 480, 640])
@pytest.mark.parametrize("images", [55, 71])
def test_the_steps_have_all_of_what_the_whole_takes(images: int, side: int) -> None:
    """Also what the last images of a batch take, none of which may be timed."""
    steps = [KernelStep(Op.RESIZE, Flag.ANTIALIAS, height=32, width=32)]
    program, out = Program(steps, 1), np.empty((images, 32, 32, 3), np.uint8)
    given = np.zeros((images, side, side, 3), np.uint8)
    for _ in range(20):
        program.run(given, np.ones((images, 1)), out)
    resize, whole = program.counters()
    assert whole.nanoseconds > 0
    assert 0.97 * whole.nanoseconds <= resize.nanoseconds <= whole.nanoseconds


@pytest.mark.parametrize("side", [160, 240, 480])
@pytest.mark.parametrize("sizes", [(32, 7), (16, 4), (5, 5, 40)])
def test_batches_of_which_no_image_is_timed_take_it_for_what_others_do(sizes: tuple[int, ...], side: int) -> None:
    program = Program([KernelStep(Op.RESIZE, Flag.ANTIALIAS, height=32, width=32)], 1)
    for images in 40 * sizes:
        given, out = np.zeros((images, side, side, 3), np.uint8), np.empty((images, 32, 32, 3), np.uint8)
        program.run(given, np.ones((images, 1)), out)
    resize, whole = program.counters()
    assert 0.93 * whole.nanoseconds <= resize.nanoseconds <= whole.nanoseconds


def test_a_child_counts_whatever_the_threads_of_its_parent_held() -> None:
    over = threading.Event()
    many = [NamedCounter(f"test/fork/{k}") for k in range(2000)]  # so that the table is locked most of the time

    def work() -> None:
        while not over.is_set():
            counters.named_counters()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if not child:
                row = NamedCounter("test/child")
                row.add(images=2)
                os._exit(0 if named_counters()["test/child"].images == 2 else 1)
            assert ended(child) == 0
    finally:
        over.set()
        thread.join()
    del many


def ended(child: int) -> int:
    """How a child process ended; it is killed where it hangs."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def planned(source: gl.sources.Source, *stages: Any) -> Plan:
    return make_plan(gl.Pipeline(source, *stages, gl.Batch(4), seed=3), "native", threads=2)


def passed(plan: Plan, way: str) -> int:
    """All images of an epoch through a plan; how many there were."""
    batches = gl.load(plan, epochs=1) if way == "load" else gl.iterate(plan, epochs=1)
    return sum(len(images) for images, _ in batches)


@pytest.mark.parametrize("way", ["load", "iterate"])
@pytest.mark.filterwarnings("ignore:.* have an EXIF orientation")
def test_files_are_counted_to_the_byte_by_the_plans_steps(sample_folder: Path, way: str) -> None:
    plan = planned(gl.ImageFolder(sample_folder), gl.Decode(exif=True), gl.RandomResizedCrop(32), gl.ToDtype("float32"))
    (segment,), (clocks,) = plan.segments, own_clocks(plan)
    name = counted_as(Layout.of(TABLE, segment.steps))
    before = {row: counter for row, counter in named_counters().items() if row.startswith(name)}
    assert set(before) == {name, *(f"{name}/{number}" for number in range(4))}, "a row for each step of the kernel"
    whole = NamedCounter(name)
    used = time.process_time()
    images = passed(plan, way)
    used = time.process_time() - used
    after = named_counters()
    files = sum(path.stat().st_size for path in sample_folder.rglob("*.jpg"))
    assert after[name].images == images > 0
    assert after[name].bytes_in == after[f"{name}/0"].bytes_in == files
    assert after[name].bytes_out == images * 32 * 32 * 3 * 4
    assert after[f"{name}/2"].bytes_out == images * 32 * 32 * 3
    works = clocks.read()
    seconds = {step: work.cpu_s for step, work in works.items()}
    assert {(work.calls, work.timed) for work in works.values()} == {(images, images)}
    assert [clock.read() for clock in clocks.clocks()] == list(works.values())
    assert list(seconds) == ["Decode + crop", "RandomResizedCrop: resize", "ToDtype"]
    assert all(value > 0 for value in seconds.values())
    assert sum(seconds.values()) <= after[name].nanoseconds / 1e9 * 1.01 <= used * 1.02
    del whole


@pytest.mark.parametrize("way", ["load", "iterate"])
def test_the_programs_of_a_choice_are_counted_together(way: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (22, 24, 24, 3), np.uint8)
    plan = planned(gl.Arrays(images), gl.RandomCrop(16), CHOSEN)
    layout = Layout.of(TABLE, plan.segments[0].steps)
    (clocks,), name = own_clocks(plan), counted_as(layout)
    whole = NamedCounter(name)
    assert passed(plan, way) == 22
    rows = named_counters()
    crop, alternatives = layout.counters()
    assert rows[name].images == rows[f"{name}/{crop[0]}"].images == 22
    assert len(alternatives) == 3 and sum(rows[f"{name}/{number}"].images for number in alternatives) == 22
    assert list(clocks.read()) == [step.name for step in plan.segments[0].steps]
    del whole


def test_both_ways_of_one_pipeline_count_in_the_same_rows() -> None:
    images = np.random.default_rng(1).integers(0, 256, (12, 24, 24, 3), np.uint8)
    plan = planned(gl.Arrays(images), gl.RandomCrop(20), gl.RandomHorizontalFlip())
    name = counted_as(Layout.of(TABLE, plan.segments[0].steps))
    whole = NamedCounter(name)
    passed(plan, "load")
    passed(plan, "iterate")
    assert named_counters()[name].images == 24
    other = planned(gl.Arrays(images), gl.RandomCrop(19), gl.RandomHorizontalFlip())
    assert counted_as(Layout.of(TABLE, other.segments[0].steps)) != name
    del whole


def test_only_backends_with_clocks_have_any(sample_folder: Path) -> None:
    pipeline = gl.Pipeline(gl.ImageFolder(sample_folder), gl.Decode(), gl.Resize((16, 16)), gl.Batch(4))
    assert own_clocks(make_plan(pipeline, "tf")) == []
    (clocks,) = own_clocks(make_plan(pipeline, "native"))
    assert isinstance(clocks, OwnClocks)
