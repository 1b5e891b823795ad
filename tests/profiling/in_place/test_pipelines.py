"""Greenload's own pipelines, watched: rows by the steps of their plans, on every backend that is here."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.backends import registry
from greenload.backends.clocks import DRAWS, intake_name
from greenload.backends.native import op
from greenload.profiling.in_place.watched import Moment, Watched, all_watched

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.filterwarnings("ignore:.* have an EXIF orientation")
BACKENDS = ("tf", "native", "pillow", "dali-cpu")
EPOCHS = 10
LEAST = {"tf": 0.3, "native": 0.4, "pillow": 0.6, "dali-cpu": 0.6}
"""Share of the process's CPU time that the steps' clocks see at least, on small sets of photographs. On tf much is the
library's own work in other threads, which they don't see; the kernel is so quick that tf.data's work shows."""


@pytest.fixture(autouse=True)
def with_operations() -> None:
    """Clocks in a graph are the kernel's operations."""
    if not op.usable():
        pytest.skip("the kernel's operations aren't built here")


def usable(backend: str) -> None:
    found = registry.get(backend).availability()
    if not found.usable:
        pytest.skip(f"backend {backend}: {found.detail}")


def planned(folder: Path, backend: Any, **changes: Any) -> gl.Plan:
    stages = [
        gl.Shuffle(),
        gl.Decode(),
        gl.RandomResizedCrop(64),
        gl.RandomHorizontalFlip(),
        gl.ToDtype("float32", scale=True),
        gl.Batch(8),
    ]
    return gl.make_plan(gl.Pipeline(gl.ImageFolder(folder), *stages, seed=5), backend, threads=2, **changes)


def arrays(batches: Any) -> list[tuple[Any, Any]]:
    return [(np.asarray(images), np.asarray(labels)) for images, labels in batches]


def same(some: Any, others: Any) -> bool:
    pairs = zip(some, others, strict=True)
    return all(np.array_equal(a, b) and np.array_equal(k, n) for (a, k), (b, n) in pairs)


def rows(watched: Watched) -> list[str]:
    """Names of rows of the plan's steps."""
    extra = {DRAWS, *map(intake_name, registry.BACKENDS)}
    return [step.name for step in watched.steps if step.name not in extra]


def expected(plan: gl.Plan) -> list[str]:
    """The plan's steps that have a clock; DALI's as one."""
    names = [step.name for step in plan.steps if step.kind == "read"]
    for segment in plan.segments:
        own = [step.name for step in segment.steps]
        names += [" + ".join(own)] if segment.backend == "dali-cpu" else own
    return names


def cpu_s(moment: Moment) -> float:
    return sum(work.total_cpu_s or 0.0 for work in moment.steps.values())


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("way", ["load", "iterate"])
def test_rows_are_the_plans_steps_and_elements_stay(sample_folder: Path, way: str, backend: str) -> None:
    usable(backend)
    plan = planned(sample_folder, backend)
    made = {"load": gl.load, "iterate": gl.iterate}[way]
    batches: Any = gl.watch(made(plan, epochs=EPOCHS))
    watched = batches.watched
    assert rows(watched) == expected(plan) and watched.sample_unit == "row"
    assert set(watched.unwatched) == {step.name for step in plan.steps if step.kind == "batch"}
    begin, given, began = watched.read(), [], None
    for batch in batches:
        given.append(batch)
        began = began or watched.read()
    end = watched.read()
    assert same(arrays(given), arrays(made(plan, epochs=EPOCHS)))
    images = sum(len(labels) for _, labels in given)
    whole, warm = end - begin, end - began
    assert whole.samples == images
    for name in expected(plan):
        assert whole.steps[name].calls == images, name
        assert whole.steps[name].timed > 0, name
    assert warm.cpu_s * LEAST[backend] <= cpu_s(warm) <= warm.cpu_s * 1.05


@pytest.mark.slow
def test_rows_of_a_plan_on_several_backends(sample_folder: Path) -> None:
    for backend in ("pillow", "native"):
        usable(backend)
    names = [step.name for step in planned(sample_folder, "tf").steps if step.kind == "pixels"]
    for placed in (
        (["pillow"] * 2 + ["native"] * len(names))[: len(names)],
        ["pillow"] * 2 + ["tf"] * (len(names) - 2),
    ):
        plan = planned(sample_folder, dict(zip(names, placed, strict=True)))
        dataset = gl.watch(gl.load(plan, epochs=2))
        watched = dataset.watched
        assert rows(watched) == expected(plan)
        assert {step.kind for step in watched.steps} >= {"draws", "read", *placed}
        begin, given = watched.read(), arrays(dataset)
        done = (watched.read() - begin).steps
        assert same(given, arrays(gl.load(plan, epochs=2)))
        calls = {name: done[name].calls for name in expected(plan)}
        assert set(calls.values()) == {2 * 48}, calls


def test_it_goes_on_where_the_dataset_stands(sample_folder: Path) -> None:
    plan = planned(sample_folder, "tf")
    plain, dataset = gl.load(plan), gl.load(plan)
    first, second = arrays(plain), arrays(plain)
    assert same(arrays(dataset), first)
    watched = gl.watch(dataset)
    assert same(arrays(watched), second), "the same counter of epochs"
    assert same(arrays(dataset), arrays(plain))
    assert len(watched) == len(dataset) and watched.element_spec == dataset.element_spec


@pytest.mark.parametrize("backend", ["tf", "native"])
def test_caches_are_shared_and_seen(sample_folder: Path, backend: str) -> None:
    usable(backend)
    pipeline = gl.Pipeline(gl.ImageFolder(sample_folder), gl.Cache(), gl.Decode(), gl.Resize((32, 32)), gl.Batch(8))
    plan = gl.make_plan(pipeline, backend, threads=2)
    dataset = gl.load(plan)
    plain = arrays(dataset)
    watched = gl.watch(dataset)
    assert same(arrays(watched), plain)
    done = watched.watched.read().steps
    if backend == "tf":
        assert done["Read"].calls == 0, "the original dataset has filled it"
        assert done["Cache"].calls == 48
    else:
        assert done["Read"].calls == 48
        assert "part of the row of reading" in watched.watched.unwatched["Cache"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_errors_name_the_record(sample_folder: Path, tmp_path: Path, backend: str) -> None:
    usable(backend)
    folder = tmp_path / "images"
    shutil.copytree(sample_folder, folder)
    bad = sorted(folder.rglob("*.jpg"))[7]
    bad.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    for made in (gl.load, gl.iterate):
        with pytest.raises(gl.RecordError, match=f"{bad.name}: truncated JPEG"):
            list(gl.watch(made(planned(folder, backend), epochs=1)))


def test_records_in_shards_are_read_by_chunk(sample_folder: Path, tmp_path: Path) -> None:
    gl.pack(gl.ImageFolder(sample_folder), tmp_path / "packed")
    pipeline = gl.Pipeline(gl.open_folder(tmp_path / "packed"), gl.Decode(), gl.Resize((32, 32)), gl.Batch(8))
    plan = gl.make_plan(pipeline, "tf", threads=2)
    dataset = gl.watch(gl.load(plan, epochs=2))
    assert same(arrays(dataset), arrays(gl.load(plan, epochs=2)))
    done = dataset.watched.read()
    assert done.steps["Read"].calls >= 2 * 48 and done.samples == 2 * 48


def test_a_dataset_behind_a_pipeline_has_rows_of_both(sample_folder: Path) -> None:
    plan = planned(sample_folder, "pillow")

    def brighter(images: Any, labels: Any) -> Any:
        return images * 1.5, labels

    plain = gl.load(plan, epochs=1).map(brighter).prefetch(1)
    dataset = gl.watch(gl.load(plan, epochs=1).map(brighter).prefetch(1))
    assert same(arrays(dataset), arrays(plain))
    watched = dataset.watched
    assert rows(watched) == [*expected(plan), "brighter"]
    done = watched.read()
    assert done.samples == 48 and done.steps["brighter"].calls == 6
    assert [one for one in all_watched() if one.number >= watched.number] == [watched], "its part isn't told apart"
    again = gl.watch(gl.watch(gl.load(plan, epochs=1)).map(brighter))
    assert rows(again.watched) == [*expected(plan), "brighter"] and gl.watch(again) is again


def test_a_pipeline_in_a_watched_part_keeps_its_clocks(sample_folder: Path) -> None:
    usable("native")
    loaded = gl.load(planned(sample_folder, "native"), epochs=1)
    part = gl.watch(loaded.map(lambda images, labels: (images / 2, labels), name="half"))
    before = {one.number for one in all_watched()}
    dataset = gl.watch(gl.watch(part.prefetch(1)).map(lambda images, labels: (images * 2, labels), name="twice"))
    assert len(list(dataset)) == 6
    for watched in (part.watched, dataset.watched):
        done = watched.read()
        assert (done.steps["Read"].calls, done.steps["half"].calls, done.samples) == (48, 6, 48)
    assert [one for one in all_watched() if one.number not in before] == [dataset.watched]


def test_each_step_has_a_name_of_its_own(sample_folder: Path) -> None:
    usable("native")
    plan = planned(sample_folder, "native")
    first, second = gl.load(plan, epochs=1).take(4), gl.load(plan, epochs=1)
    both = first.concatenate(second).map(lambda images, labels: (images / 2, labels), name="Read")
    dataset = gl.watch(both)
    assert len(list(dataset)) == 10
    done = dataset.watched.read()
    assert len(done.steps) == len(dataset.watched.steps)
    assert 32 <= done.steps["Read"].calls <= 48 and done.steps["Read (2)"].calls == 48
    assert done.steps["Read (3)"].calls == 10


def test_two_alike_have_rows_of_their_own(sample_folder: Path) -> None:
    usable("native")
    plan = planned(sample_folder, "native")
    one, other = gl.watch(gl.load(plan, epochs=1)), gl.watch(gl.load(plan, epochs=1))
    arrays(one)
    assert one.watched.read().samples == 48 and other.watched.read().samples == 0


def test_without_operations_other_rows_stay(sample_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usable("pillow")

    def missing() -> None:
        raise gl.BackendUnavailable("the kernel's operations for TensorFlow aren't built: build them")

    plan = planned(sample_folder, "pillow")
    monkeypatch.setattr(op, "operations", missing)
    dataset = gl.watch(gl.load(plan, epochs=1))
    assert sum(len(labels) for _, labels in dataset) == 48
    watched = dataset.watched
    assert rows(watched) == [step.name for step in plan.steps if step.kind == "pixels"]
    assert watched.unwatched["Read"] == "the kernel's operations for TensorFlow aren't built: build them"
    assert watched.read().samples == 48


def test_batches_of_tf_data_are_watched_before_the_first(sample_folder: Path) -> None:
    batches = gl.iterate(planned(sample_folder, "tf"), epochs=1)
    next(batches)
    watched = gl.watch(batches).watched
    assert watched.steps == () and "watch batches before the first" in watched.unwatched["Read"]
    assert len(list(batches)) == 5


@pytest.fixture
def threads() -> Iterator[int]:
    before = threading.active_count()
    yield before
    assert threading.active_count() <= before + 8


def test_clocks_live_on_behind_the_end(sample_folder: Path, threads: int) -> None:
    usable("dali-cpu")
    plan = planned(sample_folder, "dali-cpu")
    batches = gl.watch(gl.iterate(plan, epochs=1))
    watched = batches.watched
    assert len(list(batches)) == 6
    dali = expected(plan)[-1]
    spent = watched.read().steps[dali]
    assert spent.calls == 48 and spent.cpu_s > 0.005
    batches.close()
    assert watched.read().steps[dali].cpu_s >= spent.cpu_s, "DALI's threads have ended"


BEHIND: dict[str, tuple[Callable[[Any], Any], int, float | None]] = {
    "prefetch": (lambda x: x.prefetch(2), 48, 48),
    "repeat": (lambda x: x.repeat(2), 96, 96),
    "options": (lambda x: x.with_options(tf.data.Options()), 48, 48),
    "unbatch": (lambda x: x.unbatch().batch(4), 48, 48),
    "twice": (lambda x: tf.data.Dataset.zip(x, x), 96, None),
    "cached": (lambda x: x.cache(), 48, 48),
}


@pytest.mark.parametrize("behind", BEHIND)
def test_steps_are_counted_whatever_is_behind_a_pipeline(sample_folder: Path, behind: str) -> None:
    usable("native")
    made, images, samples = BEHIND[behind]
    plan = planned(sample_folder, "native")
    dataset = gl.watch(made(gl.load(plan, epochs=1)))
    for found, wanted in zip(dataset, made(gl.load(plan, epochs=1)), strict=True):
        assert all(map(np.array_equal, tf.nest.flatten(found), tf.nest.flatten(wanted)))
    done = dataset.watched.read()
    assert (done.steps["Read"].calls, done.samples) == (images, samples)


def test_steps_that_cannot_be_watched_in_a_dataset_say_why(sample_folder: Path) -> None:
    from tensorflow.python.data.ops.dataset_ops import UnaryUnchangedStructureDataset

    class Unheard(UnaryUnchangedStructureDataset):  # type: ignore[misc]
        def __init__(self, source: Any) -> None:
            super().__init__(source, source._variant_tensor)

    usable("native")
    loaded = gl.load(planned(sample_folder, "native"), epochs=1)
    watched = gl.watch(Unheard(loaded).map(lambda images, labels: images / 2, name="half")).watched
    assert rows(watched) == ["half"]
    assert watched.unwatched["Read"] == "the Unheard behind it can't be built again"
    watched = gl.watch(tf.data.Dataset.range(2).flat_map(lambda _: loaded)).watched
    (why,) = (why for name, why in watched.unwatched.items() if name != "range")
    assert why == "its function gives a dataset that was made outside of it: watch that one itself"
