"""What `greenload watch` counts: each step's work once, in one row, whatever the script joins and watches itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from watching import WATCH, run

from greenload.backends import registry
from greenload.backends.native import op

JOINED = """
import greenload as gl
import tensorflow as tf
Range, zipped = tf.data.Dataset.range, tf.data.Dataset.zip
def first(x): return x + 1
def second(x): return x * 2
def own(): return gl.watch(Range(10).map(first))
def made(): return Range(10).map(first)
w, d, n = own(), made(), Range(4).interleave(lambda x: Range(3).map(first))
one, other = made(), made()
before, behind = own(), own()
print(len(list(zipped(w, w))))
print(len(list(zipped(d, d.map(second)))))
print(len(list(zipped(n, n))))
for each in (zipped(one, Range(10)), other, one.map(second), other.map(second)): print(len(list(each)))
for each in (zipped(before, behind), before, behind): print(len(list(each)))
print(len(list(gl.watch(zipped(behind, before)))))
alone = own()
for each in (alone, alone.prefetch(1)): print(len(list(each)))
parts = [made() for _ in range(3)]
for pair in (parts[:2], parts[1:]): print(len(list(zipped(*pair))))
"""
LOADED = """
import sys
import greenload as gl
import tensorflow as tf
stages = gl.Decode(), gl.Resize((32, 32)), gl.Batch(8)
plan = gl.make_plan(gl.Pipeline(gl.ImageFolder(sys.argv[1]), *stages), "native", threads=2)
def half(images, labels): return images / 2, labels
a, b, c = (gl.load(plan, epochs=1) for _ in range(3))
print(len(list(tf.data.Dataset.zip(a, a))), len(list(a)))
print(len(list(b)), len(list(gl.watch(b))), len(list(gl.watch(b))))
print(len(list(c)), len(list(gl.watch(c.map(half)))), len(list(gl.watch(c))))
"""
ITERATED = """
import sys, threading
import greenload as gl
folder, backend = sys.argv[1:]
stages = gl.Decode(), gl.Resize((32, 32)), gl.Batch(8)
plan = gl.make_plan(gl.Pipeline(gl.ImageFolder(folder), *stages), backend, threads=2)
for epoch in range(2):
    print(sum(len(labels) for _, labels in gl.iterate(plan)))
with gl.watch(gl.iterate(plan)) as batches: print(sum(len(labels) for _, labels in batches))
del batches
print([thread.name for thread in threading.enumerate() if "greenload" not in thread.name])
print("tensorflow" in sys.modules)
"""
NESTED = """
import sys
import greenload as gl
import tensorflow as tf
stages = gl.Decode(), gl.RandomResizedCrop(32), gl.Batch(8)
plan = gl.make_plan(gl.Pipeline(gl.ImageFolder(sys.argv[1]), *stages, seed=5), sys.argv[2], threads=2)
Range = tf.data.Dataset.range
def loaded(*_): return gl.load(plan, epochs=1)
def half(images, labels): return tf.cast(images, tf.float32) / 2, labels
before, halved = loaded(), loaded().map(half)
def shown(images, labels): return float(tf.reduce_sum(tf.cast(images, tf.float32))), len(labels)
def show(dataset): print([shown(*batch) for batch in dataset])
show(Range(2).flat_map(lambda _: before))
show(Range(2).interleave(lambda _: halved, cycle_length=1))
show(Range(2).flat_map(loaded))
show(Range(3).interleave(lambda _: Range(1).flat_map(loaded).prefetch(1), cycle_length=1))
show(Range(1).flat_map(tf.function(loaded)))
"""
Seen = list[tuple[float | None, dict[str, int], list[str]]]


def watched(script: str, folder: Path, *words: str) -> tuple[str, Seen]:
    """What a script prints; of each dataset its samples, the calls of its rows, and its steps that others count."""
    (folder / "script.py").write_text(script)
    done = run(*WATCH, "--json", "watch.json", "script.py", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    datasets: list[dict[str, Any]] = json.loads((folder / "watch.json").read_text())["datasets"]
    return done.stdout, [
        (each["samples"], {step["name"]: step["calls"] for step in each["steps"]}, sorted(each["counted_in"]))
        for each in datasets
    ]


@pytest.mark.slow
def test_work_of_datasets_in_several_places_is_counted_once(tmp_path: Path) -> None:
    said, seen = watched(JOINED, tmp_path)
    assert said.split() == [*["10"] * 2, "12", *["10"] * 12]
    assert seen == [
        (None, {"first": 20}, []),  # 20 calls give 10 elements, or 20, as where one branch is longer
        (10, {"first": 20, "second": 10}, []),
        (None, {"first": 24}, []),
        (None, {"first": 40, "second": 20}, []),
        (None, {"first": 30, "first (2)": 30}, []),  # 10 elements left; the calls are of what is watched alone, too
        (None, {"first": 20}, []),
        (None, {"first": 40}, []),
        (None, {}, ["first", "first (2)"]),
    ]


@pytest.mark.slow
def test_a_pipeline_is_counted_once_however_often_it_is_watched(sample_folder: Path, tmp_path: Path) -> None:
    if not (registry.get("native").availability().usable and op.usable()):
        pytest.skip("native can't be used here")
    said, seen = watched(LOADED, tmp_path, str(sample_folder))
    assert said.split() == ["6"] * 8
    names = list(seen[0][1])
    assert {"Read", "Resize"} < set(names) and all(calls["Read"] == calls["Resize"] for _, calls, _ in seen[:3])
    assert [(samples, calls["Read"], counted) for samples, calls, counted in seen[:3]] == [
        (None, 3 * 48, []),
        (3 * 48, 3 * 48, []),
        (None, 3 * 48, []),
    ]
    assert seen[3:] == [(None, {"half": 6}, sorted(names))]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["native", "pillow"])
def test_batches_of_iterate_have_rows_in_a_process_without_tensorflow(
    sample_folder: Path, tmp_path: Path, backend: str
) -> None:
    if not registry.get(backend).availability().usable:
        pytest.skip(f"{backend} can't be used here")
    said, seen = watched(ITERATED, tmp_path, str(sample_folder), backend)
    assert said.split("\n") == [*["48"] * 3, "['MainThread']", "False", ""]
    whole = {name: sum(calls.get(name, 0) for _, calls, _ in seen) for name in seen[0][1]}
    assert {"draws", "Read", "Resize"} < set(whole) and set(whole.values()) == {3 * 48}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["native", pytest.param("tf", marks=pytest.mark.long)])
def test_pipelines_in_functions_of_datasets_have_their_rows(sample_folder: Path, tmp_path: Path, backend: str) -> None:
    if not (registry.get(backend).availability().usable and op.usable()):
        pytest.skip(f"{backend} can't be used here")
    said, seen = watched(NESTED, tmp_path, str(sample_folder), backend)
    alone = run(sys.executable, "script.py", str(sample_folder), backend, cwd=tmp_path)
    assert said == alone.stdout and len(said.splitlines()) == 5
    counted = [(samples, calls["Read"], calls.get("half")) for samples, calls, _ in seen]
    assert counted == [(96, 96, None), (96, 96, 12), (96, 96, None), (144, 144, None)]
    notes = json.loads((tmp_path / "watch.json").read_text())["notes"]
    assert any("Read" in note and note.endswith(": its dataset is made inside a tf.function") for note in notes)
