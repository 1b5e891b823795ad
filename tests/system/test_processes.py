"""Several pipelines at once, threads, fork and spawn, the interpreter's end, and what an error says that a part is
missing.

What is about processes runs in processes of its own, each for several things, since importing TensorFlow takes
seconds.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dali_cases import photo, png

import greenload as gl
from greenload.backends import registry

COUNT = 22
MIXED = {"RandomResizedCrop: crop": "dali-cpu", "RandomResizedCrop: resize": "pillow"}


@pytest.fixture(autouse=True, scope="module")
def _backends() -> None:
    pytest.importorskip("nvidia.dali")
    pytest.importorskip("PIL")


@pytest.fixture(scope="module")
def source() -> gl.Arrays:
    return gl.Arrays(np.random.default_rng(0).integers(0, 256, (COUNT, 30, 40, 3), np.uint8), np.arange(COUNT))


def usable(backend: str) -> None:
    """Skips a test of a backend that can't run here."""
    seen = registry.get(backend).availability()
    if not seen.usable:
        pytest.skip(f"{backend}: {seen.detail}; {seen.remedy}")


def usual(source: Any, seed: int = 0) -> gl.Pipeline:
    decode = () if isinstance(source, gl.Arrays) else (gl.Decode(),)
    return gl.Pipeline(source, gl.Shuffle(), *decode, gl.RandomResizedCrop(16), gl.Batch(4), seed=seed)


def arrays(batches: Any) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    return [(np.asarray(images), np.asarray(labels)) for images, labels in batches]


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True))


def at_once(works: list[Callable[[], Any]]) -> list[Any]:
    """What each gives, all begun together in threads of their own."""
    barrier = threading.Barrier(len(works))

    def begin(work: Callable[[], Any]) -> Any:
        barrier.wait(30)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(begin, works))


# in one process


@pytest.mark.slow
def test_pipelines_of_all_backends_run_at_once() -> None:
    pytest.importorskip("tensorflow")
    # Large enough for Pillow's threads: small images are worked on by whoever asks.
    source = gl.Arrays(np.random.default_rng(0).integers(0, 256, (22, 300, 320, 3), np.uint8))

    def begin(loaded: list[Any]) -> list[Any]:
        own = [gl.iterate(usual(source, 3 + place), backend=where) for place, where in enumerate(("pillow", MIXED))]
        return [*loaded, *own]

    def running() -> int:
        gc.collect()
        return sum(thread.name.startswith("greenload-") for thread in threading.enumerate() if thread not in others)

    others = threading.enumerate()  # of tests before
    places: tuple[Any, ...] = ("tf", "dali-cpu", MIXED)
    loaded = [gl.load(usual(source, seed), where, epochs=1) for seed, where in enumerate(places)]
    alone = [arrays(batches) for batches in begin(loaded)]
    turns = [arrays(batches) for batches in zip(*begin(loaded), strict=True)]
    for place, batches in enumerate(alone):
        assert same([turn[place] for turn in turns], batches)
    # Threads, too, and several of one dataset: each from its beginning.
    works = [lambda one=one: arrays(one) for one in [*begin(loaded), loaded[2]]]
    assert all(same(got, batches) for got, batches in zip(at_once(works), [*alone, alone[2]], strict=True))
    assert running()
    del loaded, works
    assert not running()


def test_eight_threads_iterate_their_own(source: gl.Arrays) -> None:
    def work(seed: int) -> Any:
        return arrays(gl.iterate(usual(source, seed), backend=("dali-cpu", "pillow")[seed % 2], epochs=3))

    together = at_once([lambda seed=seed: work(seed) for seed in range(8)])  # type: ignore[misc]
    assert all(same(got, work(seed)) for seed, got in enumerate(together))
    assert not same(together[0], together[2])


@pytest.mark.parametrize("backend", ["dali-cpu", "pillow", "native"])
def test_threads_share_an_iterator_out(source: gl.Arrays, backend: str) -> None:
    usable(backend)
    whole = arrays(gl.iterate(usual(source), backend=backend, epochs=5))
    shared = gl.iterate(usual(source), backend=backend, epochs=5)
    parts = at_once([lambda: arrays(shared)] * 4)
    key = [labels.tobytes() + images.tobytes() for images, labels in whole]
    assert sorted(labels.tobytes() + images.tobytes() for part in parts for images, labels in part) == sorted(key)
    assert shared.position == gl.Position(5)


@pytest.mark.parametrize("backend", ["dali-cpu", "pillow"])
def test_one_bad_image_harms_no_other_pipeline(tmp_path: Path, source: gl.Arrays, backend: str) -> None:
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(png(photo(30, 40, i)))
    good = gl.Files([tmp_path / f"{i}.png" for i in range(7)])
    broken = tmp_path / "7.png"
    data = broken.read_bytes()
    broken.write_bytes(data[:41] + data[41:61] + bytes(len(data) - 61))
    expected = arrays(gl.iterate(usual(good), backend=backend, epochs=2))
    other = gl.iterate(usual(source), backend=backend, epochs=2)
    seen = [next(other)]
    beside = gl.iterate(usual(good), backend=backend, epochs=2)
    begun = arrays([next(beside)])
    with pytest.raises(gl.RecordError) as caught:
        list(gl.iterate(usual(gl.Files([*good.paths, broken])), backend=backend))
    assert caught.value.path == str(broken)
    assert same(begun + arrays(beside), expected)
    assert same([*seen, *other], arrays(gl.iterate(usual(source), backend=backend, epochs=2)))
    assert same(arrays(gl.iterate(usual(good), backend=backend, epochs=2)), expected)


# in several


BEGIN = """
import os, signal, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import multiprocessing
import numpy as np
import greenload as gl

source = gl.Arrays(np.random.default_rng(0).integers(0, 256, (22, 12, 10, 3), np.uint8), np.arange(22))
pipeline = gl.Pipeline(source, gl.Shuffle(), gl.RandomResizedCrop(6), gl.Batch(4))

def total(batches):
    return sum(len(labels) for _, labels in batches)

def refusal(work):
    try:
        work()
    except gl.GreenloadError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"
"""


def ran(tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    """A script's run; one that hangs fails."""
    script = tmp_path / "script.py"
    script.write_text(BEGIN + textwrap.dedent(code))
    return subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)


@pytest.mark.slow
def test_a_fork_makes_its_own_and_the_interpreter_ends_quietly(tmp_path: Path) -> None:
    done = ran(
        tmp_path,
        """
        backends = ("dali-cpu", "pillow")
        live = [gl.iterate(pipeline, backend=backend, epochs=50) for backend in backends]
        done = [gl.iterate(pipeline, backend=backend) for backend in backends]
        assert [total(each) for each in done] == [22, 22]
        assert [len(next(each)[1]) for each in live] == [4, 4]
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            for each in live:
                print("child:", refusal(lambda: next(each)))
            for backend in backends:
                print("child:", backend, total(gl.iterate(pipeline, backend=backend)), flush=True)
            live[0].close()
            del each, live[0], done  # what is freed must not crash the child, nor what lives to its end
            sys.exit(7)
        print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print("parent:", [len(next(each)[1]) for each in live], flush=True)
        sys.exit(3)  # with iterators alive
        """,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    for line in lines[:2]:
        assert line.startswith("child: UsageError: an iterator of batches works only in the process that made it")
        assert line.endswith("make another in this process")
    assert lines[2:] == ["child: dali-cpu 22", "child: pillow 22", "status 7", "parent: [4, 4]"]
    assert done.returncode == 3


@pytest.mark.slow
def test_tensorflow_is_refused_in_a_fork_and_works_when_spawned(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    done = ran(
        tmp_path,
        """
        def forked(dataset):
            signal.alarm(60)
            print("fork:", refusal(lambda: next(iter(dataset))))
            print("fork:", refusal(lambda: gl.load(pipeline, "dali-cpu")))
            print("fork:", refusal(lambda: gl.iterate(pipeline, backend="tf")))
            print("fork:", total(gl.iterate(pipeline, backend="pillow")), flush=True)

        def spawned(plan):
            print("spawn:", total(gl.load(plan, epochs=1)), total(gl.iterate(plan)), flush=True)

        def run(method, target, *args):
            process = multiprocessing.get_context(method).Process(target=target, args=args, daemon=True)
            process.start()
            process.join()
            print(method, process.exitcode, flush=True)

        if __name__ == "__main__":
            dataset = gl.load(pipeline, "dali-cpu", epochs=1)
            run("fork", forked, dataset)
            run("spawn", spawned, gl.make_plan(pipeline, "pillow", threads=1))
            print("parent:", total(dataset), flush=True)
            live = iter(dataset)
            next(live)
        """,
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("fork: UsageError: a dataset works only in the process that made it")
    stuck = "TensorFlow was in use when this process"
    assert lines[1].startswith(f"fork: BackendUnavailable: backend 'tf': {stuck}")
    assert lines[2].startswith(f"fork: BackendUnavailable: backend 'tf': {stuck}")
    assert lines[1].endswith("start processes with the method 'spawn', or fork before anything uses TensorFlow")
    assert lines[3:] == ["fork: 22", "fork 0", "spawn: 22 22", "spawn 0", "parent: 22"]
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_is_missing_is_said_as_doctor_says_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    done = ran(
        tmp_path,
        """
        from greenload.cli.doctor import examine
        from greenload.backends.registry import BACKENDS

        def compare(missing, *works):
            found = next(f for f in examine() if f.kind == "backend" and f.name == missing)
            assert not found.usable and found.detail and found.remedy, found
            for work in works:
                error = refusal(lambda: work(missing))
                assert error == f"BackendUnavailable: backend {missing!r}: {found.detail}; {found.remedy}", error
            print(f"{found.name}: {found.detail}; {found.remedy}")

        def load(backend):
            return gl.load(pipeline, backend)

        def iterate(backend):
            return gl.iterate(pipeline, backend=backend)

        for module in ("nvidia.dali", "PIL"):
            sys.modules[module] = None
        for backend in ("dali-cpu", "dali", "pillow"):
            compare(backend, load, iterate)
        sys.modules["tensorflow"] = None
        compare("tf", load, iterate)
        """,
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert said["dali-cpu"] == said["dali"]
    assert "pip install nvidia-dali" in said["dali"]
    assert "pip install 'greenload[pillow]'" in said["pillow"]
    assert "pip install 'greenload[tf]'" in said["tf"]


def test_a_missing_gpu_is_said_as_doctor_says_it(source: gl.Arrays) -> None:
    from greenload.backends import registry
    from greenload.cli.doctor import examine

    found = registry.get("dali").availability()
    if found.usable:
        pytest.skip("there is a GPU")
    with pytest.raises(gl.BackendUnavailable) as caught:
        gl.iterate(usual(source), backend="dali")
    assert str(caught.value) == f"backend 'dali': {found.detail}; {found.remedy}"
    (told,) = (each for each in examine() if each.kind == "backend" and each.name == "dali")
    assert (told.detail, told.remedy) == (found.detail, found.remedy)
    assert found.remedy
