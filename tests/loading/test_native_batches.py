"""Whole batches through backend "native", read by an operation of the kernel: what samples one by one give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import encoders as e
import numpy as np
import pytest
import record_files

import greenload as gl
from greenload.backends import registry
from greenload.backends.native import graph, library, op
from greenload.loading import dataset as datasets
from greenload.loading.tf_graph import PlanGraph
from greenload.planning.choose import make_plan, readers_for
from greenload.plans.plan import Plan
from greenload.sources import Arrays, Files, Source, TFRecords
from greenload.stages import (
    Batch,
    Cache,
    CenterCrop,
    Decode,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Shuffle,
    Stage,
)

tf = pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.* have an EXIF orientation"),  # tests/loading/test_survey.py
    pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "it is there"),
]
USUAL: tuple[Stage, ...] = (Decode(), RandomResizedCrop(16), RandomHorizontalFlip())


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, bad_images: ModuleType) -> Files:
    """JPEGs, of which graphs start in a tenth of the time."""
    paths = bad_images.make_photos(tmp_path_factory.mktemp("photos"), 17)
    return Files(paths, np.arange(len(paths)) % 5)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, bad_images: ModuleType) -> Files:
    """Plain JPEGs, some of which state an orientation, between PNGs and other kinds."""
    folder = tmp_path_factory.mktemp("mixed")
    kinds = bad_images.make_all(folder)
    paths = [kinds[name] for name in ("alpha.png", "16-bit.png", "cmyk.jpg", "palette.png", "grey.jpg", "image.bmp")]
    for k in range(11):
        data = bad_images.jpeg(40 + 3 * k, 75 - 2 * k, seed=k)
        paths.insert(2 * k % 9, folder / f"{k}.jpg")
        paths[2 * k % 9].write_bytes(e.with_exif(data, 1 + k % 8) if k % 2 else data)
    return Files(paths, np.arange(len(paths)) % 5)


def planned(source: Source, stages: Sequence[Stage], batch: Batch | None = None, helped: bool = False) -> Plan:
    plan = make_plan(gl.Pipeline(source, *stages, batch or Batch(4), seed=7), "native", threads=2)
    return replace(plan, readers=readers_for("native", ("tf",))) if helped else plan


def collected(dataset: Any) -> list[tuple[Any, Any]]:
    return [(np.asarray(images), np.asarray(labels)) for images, labels in dataset]


def same(one: Sequence[tuple[Any, Any]], other: Sequence[tuple[Any, Any]]) -> bool:
    return len(one) == len(other) > 0 and all(
        np.array_equal(a, b) and np.array_equal(x, y) for (a, x), (b, y) in zip(one, other, strict=True)
    )


def one_by_one(monkeypatch: pytest.MonkeyPatch, plan: Plan, **arguments: Any) -> list[tuple[Any, Any]]:
    """The batches of a dataset whose samples are read and looked at one by one."""

    class OneByOne(PlanGraph):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.by_batch = []

    with monkeypatch.context() as patched:
        patched.setattr(datasets, "PlanGraph", OneByOne)
        return collected(gl.load(plan, **arguments))


def test_files_are_read_whole_or_not_at_all(tmp_path: Path) -> None:
    texts = {"short": b"abc", "longest short": b"s" * 22, "shortest long": b"l" * 23, "long": os.urandom(300_000)}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("long")
    (tmp_path / "nowhere").symlink_to("none")
    unreadable = ["empty", "folder", "pipe", "nowhere", "none", "short/none", "l" * 5000]
    paths = [*map(str, map(tmp_path.joinpath, [*texts, "link", *unreadable])), ""]
    read = op.read(tf.constant(paths)).numpy().tolist()
    assert read == [*texts.values(), texts["long"], *[b""] * (len(unreadable) + 1)]
    assert op.read(tf.constant(paths[:4], shape=(2, 2))).numpy()[1, 1] == texts["long"]
    assert op.read(tf.zeros([0], tf.string)).shape == (0,)


def test_which_plans_work_on_whole_batches(mixed: Files) -> None:
    levels = Arrays(np.zeros((3, 8, 8, 3), np.uint8), np.arange(3))
    assert PlanGraph(planned(mixed, USUAL, helped=True)).by_batch
    assert PlanGraph(planned(levels, (RandomCrop(4),))).by_batch
    pipeline = gl.Pipeline(mixed, *USUAL, Batch(4))
    assert not PlanGraph(make_plan(pipeline, "tf")).by_batch
    placed = {"Decode + crop": "tf", "RandomResizedCrop: resize": "native", "RandomHorizontalFlip": "native"}
    assert not PlanGraph(make_plan(pipeline, placed)).by_batch
    cached = gl.Pipeline(mixed, Decode(), Cache(), *USUAL[1:], Batch(4))
    behind = {"Decode": "tf", "RandomResizedCrop": "native", "RandomHorizontalFlip": "native"}
    assert not PlanGraph(make_plan(cached, behind)).by_batch


@pytest.mark.slow
@pytest.mark.parametrize("exif", [False, pytest.param(True, marks=pytest.mark.long)])
def test_files_of_all_kinds(mixed: Files, exif: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(mixed, (Shuffle(), Decode(exif=exif), *USUAL[1:]), helped=True)
    assert same(collected(gl.load(plan, epochs=2)), one_by_one(monkeypatch, plan, epochs=2))


@pytest.mark.slow
def test_positions_shards_and_remainders(photos: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    further: dict[str, Any] = {"epochs": 3, "start": gl.Position(1, 3), "shard": gl.Shard(1, 2)}
    for batch, arguments in (
        (Batch(4), further),
        (Batch(4, drop_remainder=True), further),
        (Batch(300), {"epochs": 2}),
    ):
        plan = planned(photos, (Shuffle(), *USUAL), batch)
        batches = gl.load(plan, **arguments)
        assert same(collected(batches), one_by_one(monkeypatch, plan, **arguments))
        assert [part.shape[0] for part in batches.element_spec] == [4 if batch.drop_remainder else None] * 2


@pytest.mark.slow
def test_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = np.random.default_rng(1).integers(0, 256, (600, 9, 11, 3), np.uint8)
    plan = planned(Arrays(levels, np.arange(600)), (Shuffle(), RandomCrop(8)), Batch(128))
    assert same(collected(gl.load(plan, epochs=2)), one_by_one(monkeypatch, plan, epochs=2))


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [(), (Shuffle(block=3),)], ids=["in order", "by blocks"])
def test_records(shuffle: tuple[Stage, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = record_files.photos()
    source = TFRecords(record_files.write(tmp_path / "a.tfrecord", record_files.labelled(images)))
    plan = planned(source, (*shuffle, Decode(), CenterCrop(16)))
    assert PlanGraph(plan).by_batch
    arguments: dict[str, Any] = {"epochs": 2, "start": gl.Position(0, 4)}
    assert same(collected(gl.load(plan, **arguments)), one_by_one(monkeypatch, plan, **arguments))


def told(dataset: Any) -> tuple[int, str]:
    """How many batches come before an error, and its text."""
    seen = 0
    try:
        for _ in dataset:
            seen += 1
    except gl.RecordError as error:
        return seen, str(error)
    return seen, ""


@pytest.mark.slow
def test_the_first_bad_record_of_a_batch_is_named(mixed: Files, tmp_path: Path, bad_images: ModuleType) -> None:
    kinds = bad_images.make_all(tmp_path)
    png, cut = (kinds[name].read_bytes() for name in ("alpha.png", "truncated-half.jpg"))
    bad = [png[: len(png) // 2], cut, b"", bad_images.jpeg(8, 8), None]  # the last is a file that is gone
    good = [Path(mixed.name(k)) for k in range(len(mixed)) if mixed.name(k).endswith("jpg")][:6]
    last = [tmp_path / f"last{k}" for k in range(len(bad))]
    for path in last:
        path.write_bytes(good[0].read_bytes())
    dataset = gl.load(
        planned(Files([*good, *last]), (Decode(), RandomCrop(16)), helped=True), epochs=1
    )  # one graph, files change
    for turn in (0, 1, 4):  # of the others, tests/loading/test_native_graph.py
        for path, data in zip(last, bad[turn:] + bad[:turn], strict=True):
            path.unlink(missing_ok=True)
            if data is not None:
                path.write_bytes(data)
        seen, text = told(dataset)
        assert seen == 1, text
        assert text.startswith(f"{last[0]}: "), text


@pytest.mark.slow
def test_a_bad_record_of_a_shard_is_named(tmp_path: Path) -> None:
    images = record_files.photos()
    images[9] = images[9][: len(images[9]) // 2]
    source = TFRecords(record_files.write(tmp_path / "a.tfrecord", record_files.labelled(images)))
    seen, text = told(gl.load(planned(source, (Decode(), CenterCrop(16))), epochs=1))
    pytest.importorskip("nvidia.dali")
    pipeline = gl.Pipeline(source, Decode(), CenterCrop(16), Batch(4))
    assert (seen, text) == told(gl.load(pipeline, "dali-cpu", epochs=1))
    assert seen == 2
    assert source.name(9) in text


@pytest.mark.slow
def test_large_batches_are_few_and_worked_on_by_several_threads(photos: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(threads: int) -> tuple[Plan, tuple[int, int]]:
        plan = replace(planned(photos, USUAL, Batch(9)), threads=threads)
        operation = registry.make_graph_segment(plan, plan.segments[0])
        assert operation is not None
        return plan, (operation.at_once, threads - operation.at_once)

    assert made(6)[1] == (6, 0)  # small ones: one for each thread
    monkeypatch.setattr(graph, "_AT_ONCE_BYTES", 3 * 9 * 16 * 16 * 3)
    assert made(6)[1] == (3, 3)
    assert made(1)[1] == (1, 0)
    monkeypatch.setattr(graph, "_AT_ONCE_BYTES", 1)
    plan, at_once = made(6)
    assert at_once == (2, 4)
    one, several = (collected(gl.load(p, epochs=2)) for p in (made(1)[0], plan))
    names = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    assert names.count("greenload-help") == 4
    for (images, labels), (others, their) in zip(one, several, strict=True):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(labels, their)
