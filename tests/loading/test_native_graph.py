"""Segments on backend "native" inside TensorFlow's graph: the pixels and errors of the same segments elsewhere, and
nothing that needs the interpreter."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import encoders as e
import numpy as np
import odd_jpegs as oj
import pytest

import greenload as gl
from greenload.backends import registry
from greenload.backends.native import library, op
from greenload.backends.native.layout import ChosenStep
from greenload.loading import tf_graph
from greenload.loading.tf_graph import PlanGraph
from greenload.planning.choose import make_plan, readers_for
from greenload.plans.plan import Plan
from greenload.sources import Arrays, Files, Source
from greenload.stages import (
    Apply,
    Batch,
    Cache,
    CenterCrop,
    ColorJitter,
    Decode,
    GaussianBlur,
    Normalize,
    OneHot,
    Pad,
    RandomApply,
    RandomAutocontrast,
    RandomChoice,
    RandomCrop,
    RandomEqualize,
    RandomErasing,
    RandomHorizontalFlip,
    RandomInvert,
    RandomOrder,
    RandomPosterize,
    RandomResizedCrop,
    RandomRotation,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)

tf = pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.* have an EXIF orientation"),  # tests/loading/test_survey.py
    pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "it is there"),
]
SEED, BATCH = 7, 4
USUAL: tuple[Stage, ...] = (Decode(), RandomResizedCrop(16), RandomHorizontalFlip())


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, bad_images: ModuleType) -> Files:
    """Eleven JPEGs of sizes that differ; some lie on their side, one is grey, one progressive."""
    paths = bad_images.make_photos(tmp_path_factory.mktemp("photos"), 11)
    return Files(paths, np.arange(len(paths)) % 5)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, bad_images: ModuleType) -> Files:
    """Files of every kind that some backend reads."""
    kinds = bad_images.make_all(tmp_path_factory.mktemp("odd"))
    names = ("grey.jpg", "cmyk.jpg", "exif-rotated.jpg", "trailing-garbage.jpg", "misnamed-png.jpg", "16-bit.png")
    more = ("palette.png", "alpha.png", "image.gif", "image.bmp", "image.webp")
    colours = kinds["grey.jpg"].with_name("palette.bmp")  # which TensorFlow doesn't read
    colours.write_bytes(e.bmp(e.pixels(20, 30, 1, levels=16), 8, colours=e.palette(16)))
    return Files([*(kinds[name] for name in (*names, *more)), colours])


def planned(source: Source, stages: Sequence[Stage], helped: bool = False) -> Plan:
    batch = () if any(isinstance(stage, Batch) for stage in stages) else (Batch(BATCH),)
    plan = make_plan(gl.Pipeline(source, *stages, *batch, seed=SEED), "native", threads=2)
    return replace(plan, readers=readers_for("native", ("pillow", "tf"))) if helped else plan


def collected(dataset: Any) -> list[tuple[Any, Any]]:
    return [(np.asarray(images), np.asarray(labels)) for images, labels in dataset]


def same(one: Sequence[tuple[Any, Any]], other: Sequence[tuple[Any, Any]]) -> bool:
    return len(one) == len(other) > 0 and all(
        (a == b).all() and (x == y).all() and a.dtype == b.dtype and a.shape == b.shape
        for (a, x), (b, y) in zip(one, other, strict=True)
    )


@pytest.fixture
def in_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call into Python is part of a graph."""

    def refused(*_: Any) -> None:
        raise AssertionError("a batch would leave TensorFlow's graph")

    monkeypatch.setattr(tf_graph, "host_call", refused)


LEVELS = Arrays(np.random.default_rng(1).integers(0, 256, (11, 33, 40, 3), np.uint8), np.arange(11))
FLOATS = Arrays(np.random.default_rng(0).random((11, 20, 30, 1), np.float32), np.arange(11) * 2)
Erased = RandomErasing(1)
CASES: dict[str, tuple[Stage, ...]] = {
    "usual": USUAL,
    "shuffled": (Shuffle(), *USUAL),
    "upright": (Decode(exif=True), *USUAL[1:]),
    "upright, whole": (Decode(exif=True), Resize((20, 24))),
    "no params": (Decode(), Resize((20, 24), antialias=False)),
    "evaluation": (Decode(), Resize(24), CenterCrop(16), ToDtype("float32", scale=True), Normalize((0.5,), (0.2,))),
    "many": (
        *USUAL,
        RandomRotation(20),
        ColorJitter(0.3, 0.3),
        GaussianBlur(3),
        RandomErasing(1.0),
        ToDtype("float16"),
    ),
    "padded": (Decode(), Pad(3), RandomCrop(30), OneHot(5)),
    "choices": (
        *USUAL,
        RandomApply(GaussianBlur(3), 0.5),
        RandomOrder([ColorJitter(0.3), RandomApply(RandomInvert(1.0), 0.5), RandomChoice([RandomRotation(9), Erased])]),
    ),
    "levels": (*USUAL, RandomPosterize(4), RandomAutocontrast(0.6), RandomApply(RandomEqualize(1.0), 0.5)),
    "bfloat16": (*USUAL, ToDtype("bfloat16", scale=True)),
}


PARTS = ("shuffled", "upright", "no params")
"""Cases of which other tests have all there is."""
MARKS = {"usual": (), **dict.fromkeys(PARTS, pytest.mark.long)}


@pytest.mark.parametrize("name", [pytest.param(n, marks=MARKS.get(n, pytest.mark.slow)) for n in CASES])
def test_pixels_are_those_of_batches_on_the_host(photos: Files, name: str, in_graph: None) -> None:
    plan = planned(photos, CASES[name])
    assert same(collected(gl.load(plan, epochs=2)), collected(gl.iterate(plan, epochs=2)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "stages"),
    [
        (LEVELS, (RandomCrop(16), RandomHorizontalFlip(), ToDtype("float32", scale=True))),
        (FLOATS, (RandomApply(RandomErasing(1), 0.5),)),  # half of the images go through no step
    ],
    ids=["levels", "floats"],
)
def test_pixels_that_come_in_stay_in_the_graph(source: Arrays, stages: tuple[Stage, ...], in_graph: None) -> None:
    plan = planned(source, stages)
    assert same(collected(gl.load(plan, epochs=2)), collected(gl.iterate(plan, epochs=2)))


@pytest.mark.slow
def test_files_of_other_kinds_are_pixels_by_tensorflow(odd: Files, in_graph: None) -> None:
    plan = planned(odd, (Decode(exif=True), *USUAL[1:]), helped=True)
    assert same(collected(gl.load(plan, epochs=1)), collected(gl.iterate(plan, epochs=1)))


@pytest.mark.slow
def test_a_mixed_plan_goes_on_in_tensorflow(photos: Files, in_graph: None) -> None:
    stages = (*USUAL, Apply(lambda image: image[..., ::-1], shape=(16, 16, 3)), ToDtype("float32", scale=True))
    plan = planned(photos, USUAL)
    batch = make_plan(gl.Pipeline(photos, *stages, Batch(BATCH), seed=SEED), {"Apply": "tf"}, threads=2)
    assert {segment.backend for segment in batch.segments} == {"tf"}
    behind = {step.name: "tf" if step.name in ("Apply", "ToDtype") else "native" for step in batch.steps}
    mixed = make_plan(batch.pipeline, {k: v for k, v in behind.items() if k not in ("Read", "Batch")}, threads=2)
    for (images, _), (levels, _) in zip(gl.load(mixed, epochs=1), gl.load(plan, epochs=1), strict=True):
        assert np.allclose(images.numpy() * 255, levels.numpy()[..., ::-1], atol=1e-4)


@pytest.mark.slow
def test_behind_a_cache_of_pixels_of_several_sizes(photos: Files, in_graph: None) -> None:
    cached = make_plan(
        gl.Pipeline(photos, Decode(), Cache(), *USUAL[1:], Batch(BATCH), seed=SEED),
        {"Decode": "tf", "RandomResizedCrop: crop": "native", "RandomResizedCrop: resize": "native"}
        | {"RandomHorizontalFlip": "native"},
        threads=2,
    )
    assert PlanGraph(cached).ragged
    assert same(collected(gl.load(cached, epochs=2)), collected(gl.load(planned(photos, USUAL), epochs=2)))


@pytest.mark.slow
def test_positions_shards_and_repeats(photos: Files, in_graph: None) -> None:
    plan = planned(photos, (Shuffle(), *USUAL))
    whole = collected(gl.load(plan, epochs=2))
    assert same(collected(gl.load(plan, epochs=2, start=gl.Position(0, 4))), collected(gl.iterate(plan, epochs=2))[1:])
    parts = [collected(gl.load(plan, epochs=1, shard=gl.Shard(k, 2))) for k in range(2)]
    assert sum(len(labels) for part in parts for _, labels in part) == 11
    pure = gl.load(plan, epochs=2)
    assert same(collected(pure.repeat(2)), [*whole, *whole])
    advancing = gl.load(plan)
    assert same([*collected(advancing), *collected(advancing)], whole)


@pytest.mark.slow
def test_a_file_that_only_the_kernel_refuses_is_decoded_by_tensorflow(
    photos: Files, tmp_path: Path, bad_images: ModuleType, in_graph: None
) -> None:
    """As on every backend: a JPEG with bytes between its segments of data, of which libjpeg warns."""
    data = bad_images.jpeg(40, 60, restart_marker_blocks=4)
    middle = data.index(b"\xff\xd1")
    odd = data[:middle] + b"\xff\xff" + data[middle:]
    path = tmp_path / "odd.jpg"
    path.write_bytes(odd)
    source = Files([*[photos.name(k) for k in range(6)], str(path)])
    tf_plan = make_plan(gl.Pipeline(source, *USUAL, Batch(BATCH), seed=SEED), "tf", threads=2)
    assert outcome(gl.load(planned(source, USUAL), epochs=1)) == outcome(gl.load(tf_plan, epochs=1))


def test_both_roads_read_partial_progressive_jpegs_as_tensorflow_does(tmp_path: Path, in_graph: None) -> None:
    image = e.pixels(90, 120)
    files = [oj.jpeg(image, frame=0xC2, scans=oj.progressive(3)[:count], jfif=True) for count in (2, 4)]
    files += [e.with_exif(files[0], 6), e.kept("420.jpg"), oj.jpeg(image, frame=0xC2, scans=oj.progressive(3))]
    for number, data in enumerate(files):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    source = Files([tmp_path / f"{number}.jpg" for number in range(len(files))])
    pipeline = gl.Pipeline(source, Decode(exif=True), RandomCrop(40), Batch(BATCH), seed=SEED)
    expected = collected(gl.load(pipeline, "tf", epochs=1))
    assert same(collected(gl.load(pipeline, "native", epochs=1)), expected)
    assert same(collected(gl.iterate(pipeline, backend="native", epochs=1)), expected)


def outcome(dataset: Any) -> str:
    """How many samples a dataset has, or why a record is bad."""
    try:
        return str(sum(len(labels) for _, labels in dataset))
    except gl.RecordError as error:
        return str(error)


def bad_files(folder: Path, bad_images: ModuleType) -> dict[str, Path]:
    """Files that can't be decoded, or are too small."""
    kinds = bad_images.make_all(folder)
    whole = bad_images.jpeg(200, 300)
    scan = whole.index(b"\xff\xda") + 14
    broken = {
        "zeros.jpg": whole[: scan + 2000] + bytes(500) + whole[scan + 2500 :],
        "small.jpg": bad_images.jpeg(20, 20),
    }
    for name, data in broken.items():
        kinds[name] = folder / name
        kinds[name].write_bytes(data)
    return {name: kinds[name] for name in ("truncated-half.jpg", "empty.jpg", *broken)}


@pytest.mark.slow
def test_bad_files_are_named_as_on_other_backends(tmp_path: Path, bad_images: ModuleType, in_graph: None) -> None:
    pytest.importorskip("nvidia.dali")
    good = tmp_path / "good.jpg"
    good.write_bytes(bad_images.jpeg(120, 100))
    bad = tmp_path / "bad.jpg"
    source = Files([good] * 5 + [bad] + [good] * 4)
    bad.write_bytes(good.read_bytes())
    pipeline = gl.Pipeline(source, Decode(), RandomCrop(32), RandomHorizontalFlip(), Batch(BATCH))
    dataset = gl.load(pipeline, "native", epochs=1)  # one graph, its file 5 changes
    assert len(collected(dataset)) == 3
    for name, path in bad_files(tmp_path / "kinds", bad_images).items():
        bad.write_bytes(path.read_bytes())
        said = outcome(dataset)
        assert said == outcome(gl.iterate(pipeline, backend="dali-cpu", epochs=1)), name
        assert name == "zeros.jpg" or said.startswith(f"{bad}: "), name


@pytest.mark.slow
def test_what_the_kernel_cannot_do_is_no_record_s_fault(photos: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    serialized = op.serialized

    def smaller(steps: Sequence[ChosenStep], columns: int) -> bytes:  # images of other sides than the batch has
        return serialized([replace(s, step=replace(s.step, height=s.step.height and 8)) for s in steps], columns)

    monkeypatch.setattr(op, "serialized", smaller)
    with pytest.raises(gl.BackendUnavailable, match=r"the kernel of backend native failed on .*\.jpg: "):
        collected(gl.load(planned(photos, (Decode(), Resize((16, 16)))), epochs=1))


@pytest.mark.slow
def test_without_the_operations_batches_go_through_python(
    photos: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = planned(photos, USUAL)
    whole, calls, host_call = collected(gl.load(plan, epochs=1)), [], tf_graph.host_call

    def called(*arguments: Any) -> Any:
        calls.append(arguments)
        return host_call(*arguments)

    monkeypatch.setattr(tf_graph, "host_call", called)
    monkeypatch.setattr(op, "operations", op.operations.__wrapped__)
    monkeypatch.setattr(op, "FILE", tmp_path / "none.so")
    assert "without operations" in registry.get("native").availability().detail
    assert same(collected(gl.load(plan, epochs=1)), whole)
    assert len(calls) == 1


def test_skipping_bad_records(tmp_path: Path, photos: Files, bad_images: ModuleType, in_graph: None) -> None:
    bad = bad_images.make_all(tmp_path)["truncated-half.jpg"]
    source = Files([photos.name(0), str(bad), *[photos.name(k) for k in range(1, 6)]], labels=range(7))
    with pytest.warns(UserWarning, match="left out 1 bad of 7"):
        dataset = gl.load(gl.Pipeline(source, *USUAL, Batch(BATCH)), "native", epochs=1, on_error="skip")
    assert np.concatenate([labels for _, labels in collected(dataset)]).tolist() == [0, 2, 3, 4, 5, 6]


def script(code: str, *arguments: str, limit_s: float = 240) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=limit_s,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


DISPATCHER = """
import tensorflow as tf
dispatcher = tf.data.experimental.service.DispatchServer()
print(dispatcher.target, flush=True)
dispatcher.join()
"""
WORKER = """
import sys
import greenload as gl, tensorflow as tf
if "register" in sys.argv:
    gl.register_operations()
worker = tf.data.experimental.service.WorkerServer(
    tf.data.experimental.service.WorkerConfig(dispatcher_address=sys.argv[1].split("://")[1])
)
print("ready", flush=True)
worker.join()
"""


@contextlib.contextmanager
def server(code: str, *arguments: str) -> Iterator[str]:
    """A process that serves while this is entered, and the first line that it prints."""
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_other_processes_do_the_work(photos: Files) -> None:
    """Through tf.data service, whose processes hold nothing of this one's Python."""
    service = tf.data.experimental.service
    plan = planned(photos, (Shuffle(), *USUAL))

    def served(target: str) -> Any:
        distribute = service.distribute(service.ShardingPolicy.OFF, target, max_outstanding_requests=1)
        return gl.load(plan, epochs=2).apply(distribute)

    with server(DISPATCHER) as target, server(WORKER, target, "register"):
        assert same(collected(served(target)), collected(gl.load(plan, epochs=2)))
    unknown = pytest.raises(tf.errors.OpError, match="not registered 'Greenload")
    with server(DISPATCHER) as target, server(WORKER, target), unknown:
        collected(served(target))
