"""What a child of a process finds that other threads of its parent were at."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import greenload as gl
from greenload.backends.native import library
from greenload.system import forking


class Listed:
    """Something that is looked up once."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    @forking.cached_property
    def names(self) -> int:
        """Waits."""
        self.begun.set()
        self.go_on.wait()
        return 7


def test_a_child_does_not_wait_for_a_property_that_a_thread_of_its_parent_computes() -> None:
    one, another = Listed(), Listed()
    another.go_on.set()
    thread = threading.Thread(target=lambda: one.names)
    thread.start()
    one.begun.wait()
    child = os.fork()
    if not child:
        signal.alarm(10)
        os._exit(another.names)
    one.go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert (one.names, another.names) == (7, 7)


def in_child(work: Callable[[], int]) -> int:
    """Run a function in a child of this process; what it gives is the child's status."""
    child = os.fork()
    if not child:
        signal.alarm(60)
        status = 255
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def freed(held: list[Any]) -> int:
    """Drop objects; how many of them were freed."""
    seen = [weakref.ref(value) for value in held]
    held.clear()
    gc.collect()
    return sum(value() is None for value in seen)


def test_a_child_frees_nothing_of_tensorflow(sample_folder: Path) -> None:
    """To free a tensor takes a lock that a thread of the parent may have held: then the child waits for ever."""
    tf = pytest.importorskip("tensorflow")
    pipeline = gl.Pipeline(gl.ImageFolder(sample_folder), gl.Decode(), gl.CenterCrop(32), gl.Batch(4))
    dataset = gl.load(pipeline, "tf").repeat()
    batches = gl.iterate(pipeline, backend="tf")
    double = tf.function(lambda number: 2 * number).get_concrete_function(tf.TensorSpec((), tf.int64))
    held = [dataset, iter(dataset), next(iter(dataset))[0], *next(batches), batches._source, double, tf.constant([1])]
    del dataset, batches, double

    assert len(held) == 8
    assert in_child(lambda: freed(held)) == 0
    assert len(held) == 8


def test_a_child_frees_no_iterator_that_reads_ahead(sample_folder: Path) -> None:
    pytest.importorskip("PIL")
    pipeline = gl.Pipeline(gl.ImageFolder(sample_folder), gl.Decode(), gl.CenterCrop(32), gl.Batch(4))
    batches = gl.iterate(pipeline, backend="pillow")
    held = [*next(batches), batches._source]
    del batches

    assert in_child(lambda: freed(held)) == 0


@pytest.mark.parametrize("collects", [True, False])
def test_a_fork_leaves_the_collection_of_garbage_as_it_was(collects: bool) -> None:
    before = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        assert in_child(lambda: int(gc.isenabled())) == int(collects)
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()


LATE = """
import sys
import greenload as gl
from greenload.specs import CACHE_FORMS
def run(*caches):
    stages = gl.Shuffle(), gl.Decode(), *caches, gl.RandomResizedCrop(8), gl.Batch(2)
    assert len(list(gl.iterate(gl.Pipeline(gl.Files(sys.argv[2:]), *stages), backend="native", epochs=2))) == 2
run()
before = set(sys.modules)
for form in CACHE_FORMS:
    if form != "resized":
        run(gl.Cache(form=form))
        run(gl.Cache(sys.argv[1], form=form))
print(sorted(set(sys.modules) - before))
"""


@pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "it is there")
def test_a_cache_imports_nothing_late(tmp_path: Path, bad_images: ModuleType) -> None:
    """A child that is forked meanwhile would wait for ever where it needs the same module."""
    files = [tmp_path / "0.jpg", tmp_path / "1.jpg"]
    for file in files:
        file.write_bytes(bad_images.jpeg(30, 40))
    command = [sys.executable, "-c", LATE, str(tmp_path / "kept"), *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr
