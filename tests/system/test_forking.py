"""What a child of a process finds that other threads of its parent were at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

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
