"""Batches for NumPy, JAX and PyTorch: the stream that load gives, without TensorFlow and without a copy."""

from __future__ import annotations

import gc
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from dali_cases import photo, png

import greenload as gl
from greenload.backends.base import Records
from greenload.backends.chain import run_plan
from greenload.loading import iterate, read_ahead
from greenload.loading.arrays import converted
from greenload.plans.params import DrawLayout
from greenload.randomness import permute

COUNT = 14
MIXED = {"Decode + crop": "dali-cpu", "RandomResizedCrop: resize": "pillow", "RandomHorizontalFlip": "pillow"}
DALI_LAST = {name: "dali-cpu" if backend == "pillow" else "pillow" for name, backend in MIXED.items()}
BACKENDS = {"dali-cpu": "dali-cpu", "pillow": "pillow", "mixed": MIXED, "dali-last": DALI_LAST, "tf": "tf"}


@pytest.fixture(autouse=True, scope="module")
def _backends() -> None:
    pytest.importorskip("nvidia.dali")
    pytest.importorskip("PIL")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in range(2):
        (tmp_path / f"class-{label}").mkdir()
        for i in range(COUNT // 2):
            (tmp_path / f"class-{label}" / f"{i}.png").write_bytes(png(photo(30 + i, 40 - label, 7 * label + i)))
    return tmp_path


def usual(folder: Path, size: int = 4, *stages: gl.Cache, drop: bool = False) -> gl.Pipeline:
    random = (gl.RandomResizedCrop(16), gl.RandomHorizontalFlip())
    return gl.Pipeline(
        gl.ImageFolder(folder), gl.Shuffle(), *stages, gl.Decode(), *random, gl.Batch(size, drop), seed=3
    )


def arrays(batches: Any) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    return [(np.asarray(images), np.asarray(labels)) for images, labels in batches]


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True))


@pytest.fixture
def threads() -> Callable[[], list[str]]:
    """Which threads have been started in this test and still run."""
    before = set(threading.enumerate())

    def running() -> list[str]:
        gc.collect()
        return [thread.name for thread in set(threading.enumerate()) - before]

    return running


# the same stream


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["mixed", "dali-last", "tf"])
def test_it_is_what_load_gives(folder: Path, backend: str) -> None:
    pytest.importorskip("tensorflow")
    plan = gl.make_plan(usual(folder), BACKENDS[backend], threads=2)
    options: Any = {"epochs": 2, "start": gl.Position(0, 4), "shard": gl.Shard(1, 2)}
    loaded = gl.load(plan, **options)
    batches = gl.iterate(plan, **options)
    assert len(batches) == len(loaded) == 3
    got = arrays(batches)
    assert same(got, [(images.numpy(), labels.numpy()) for images, labels in loaded])
    assert [len(labels) for _, labels in got] == [3, 4, 3]
    assert all(images.dtype == np.uint8 and labels.dtype == np.int64 for images, labels in got)


def test_it_goes_on_where_it_was(folder: Path) -> None:
    pipeline = usual(folder)
    whole = arrays(gl.iterate(pipeline, backend="dali-cpu", epochs=2))
    batches = gl.iterate(pipeline, backend="dali-cpu", epochs=2)
    positions = [batches.position]
    for _ in batches:
        positions.append(batches.position)
    assert [(each.epoch, each.sample) for each in positions] == [
        *((0, sample) for sample in (0, 4, 8, 12)),
        *((1, sample) for sample in (0, 4, 8, 12)),
        (2, 0),
    ]
    assert len(batches) == 8
    for done in (3, 5):
        rest = arrays(gl.iterate(pipeline, backend="dali-cpu", epochs=2, start=positions[done]))
        assert same(rest, whole[done:])
    dropping = gl.iterate(usual(folder, 5, drop=True), backend="dali-cpu")
    assert [len(labels) for _, labels in dropping] == [5, 5]
    assert dropping.position == gl.Position(1)


def test_it_is_the_permutation_through_the_backend(folder: Path) -> None:
    pipeline = usual(folder)
    source, layout = pipeline.source, DrawLayout.of(pipeline)
    got = arrays(gl.iterate(pipeline, backend="dali-cpu", epochs=2))
    for epoch in range(2):
        order = permute(np.arange(COUNT), COUNT, 3, epoch)
        names = [source.name(i) for i in order]
        records = Records([source.read(i) for i in order], layout.prepare(3, epoch, order), names)
        batches = got[4 * epoch : 4 * epoch + 4]
        assert [len(labels) for _, labels in batches] == [4, 4, 4, 2]
        expected = run_plan(gl.make_plan(pipeline, "dali-cpu", threads=2), records)
        assert (np.concatenate([images for images, _ in batches]) == expected).all()
        assert (np.concatenate([labels for _, labels in batches]) == source.labels[order]).all()
    assert not (got[0][0] == got[4][0]).all()


def test_depth_and_shards_change_no_bit(folder: Path) -> None:
    pipeline = usual(folder)
    whole = arrays(gl.iterate(pipeline, backend="dali-cpu", epochs=2))
    for prefetch in (1, 5):
        assert same(arrays(gl.iterate(pipeline, backend="dali-cpu", epochs=2, prefetch=prefetch)), whole)
    flat = np.concatenate([images for images, _ in whole[:4]])
    for index in range(3):
        shard = arrays(gl.iterate(pipeline, backend="dali-cpu", shard=gl.Shard(index, 3)))
        assert (np.concatenate([images for images, _ in shard]) == flat[index::3]).all()


def test_a_cache_reads_records_once(folder: Path) -> None:
    batches = gl.iterate(usual(folder, 4, gl.Cache()), backend="dali-cpu", epochs=2)
    uncached = gl.iterate(usual(folder), backend="dali-cpu", epochs=4)
    first = [next(batches) for _ in range(4)]
    assert sum(len(labels) for _, labels in first) == COUNT
    expected = arrays(gl.iterate(usual(folder), backend="dali-cpu", epochs=2))[4:]
    for path in folder.rglob("*.png"):
        path.unlink()
    assert same(arrays(batches), expected)
    with pytest.raises(gl.RecordError, match="can't be read"):
        list(uncached)


def test_auto_needs_no_tensorflow_where_another_backend_can(folder: Path) -> None:
    batches = gl.iterate(usual(folder))
    assert isinstance(batches._source, read_ahead.ReadAhead)
    assert sum(len(labels) for _, labels in batches) == COUNT


@pytest.mark.slow
def test_tensorflow_is_never_imported(folder: Path) -> None:
    code = f"""
import sys
sys.modules["tensorflow"] = None
import greenload as gl
random = (gl.RandomResizedCrop(8), gl.RandomHorizontalFlip())
pipeline = gl.Pipeline(gl.ImageFolder({str(folder)!r}), gl.Shuffle(), gl.Decode(), *random, gl.Batch(4))
for backend in ("dali-cpu", "pillow", "auto"):
    for to in ("numpy", "jax"):
        assert sum(len(labels) for _, labels in gl.iterate(pipeline, to, backend=backend)) == {COUNT}
try:
    gl.iterate(pipeline, backend="tf")
except gl.BackendUnavailable as error:
    assert "pip install 'greenload[tf]'" in str(error), error
else:
    raise AssertionError("TensorFlow was found")
"""
    pytest.importorskip("jax")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# frameworks


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each batch's images were before they became a framework's."""
    seen: list[Any] = []
    hand = converted

    def spy(images: Any, labels: Any, to: Any) -> Any:
        seen.append(images)
        return hand(images, labels, to)

    monkeypatch.setattr(iterate, "converted", spy)
    return seen


def pointer(value: Any) -> int:
    """Where an array's memory begins, whoever made it."""
    if hasattr(value, "as_tensor"):
        return int(value.as_tensor().data_ptr())
    if hasattr(value, "unsafe_buffer_pointer"):
        return int(value.unsafe_buffer_pointer())
    if hasattr(value, "data_ptr"):
        return int(value.data_ptr())
    if isinstance(value, np.ndarray):
        return int(value.__array_interface__["data"][0])
    return int(np.from_dlpack(value).__array_interface__["data"][0])  # TensorFlow's


@pytest.mark.parametrize("backend", ["dali-cpu", "pillow", "mixed"])
@pytest.mark.parametrize("to", ["numpy", "jax", "torch"])
def test_nothing_is_copied(folder: Path, handed: list[Any], backend: str, to: Any) -> None:
    pytest.importorskip(to)
    got = list(gl.iterate(usual(folder), to, backend=BACKENDS[backend]))
    assert [pointer(images) for images, _ in got] == [pointer(images) for images in handed]
    assert len({pointer(images) for images, _ in got}) == len(got) == 4
    assert to != "numpy" or all(images.flags.writeable for images, _ in got)
    expected = arrays(gl.iterate(usual(folder), backend=BACKENDS[backend]))
    assert same(arrays(got), expected)  # kept, none was written to later


@pytest.mark.slow
def test_nothing_is_copied_from_tensorflow(folder: Path, handed: list[Any]) -> None:
    pytest.importorskip("tensorflow")
    got = list(gl.iterate(usual(folder), backend="tf"))
    assert [pointer(images) for images, _ in got] == [pointer(images) for images in handed]
    assert not any(images.flags.writeable for images, _ in got)
    for to in ("jax", "torch"):
        if _installed(to):
            images, labels = converted(handed[0], got[0][1].copy(), to)  # type: ignore[arg-type]
            assert pointer(images) == pointer(handed[0])
            assert same([(np.asarray(images), np.asarray(labels))], got[:1])


def test_batches_are_the_frameworks_own(folder: Path) -> None:
    jax = pytest.importorskip("jax")
    images, labels = next(gl.iterate(usual(folder), "jax", backend="dali-cpu"))
    assert isinstance(images, jax.Array) and isinstance(labels, jax.Array)
    assert (images.shape, str(images.dtype), str(labels.dtype)) == ((4, 16, 16, 3), "uint8", "int32")
    assert labels.device == images.device


def test_bfloat16_and_one_hot_labels_come_through() -> None:
    pixels = np.arange(6 * 5 * 4 * 3).reshape(6, 5, 4, 3).astype(ml_dtypes.bfloat16)
    pipeline = gl.Pipeline(gl.Arrays(pixels, np.arange(6) % 3), gl.OneHot(3), gl.Batch(3))
    for to in ("numpy", *(name for name in ("jax", "torch") if name in sys.modules or _installed(name))):
        first, second = gl.iterate(pipeline, to)  # type: ignore[arg-type]
        assert str(first[0].dtype).removeprefix("torch.") == "bfloat16"
        images = [each.float() if to == "torch" else each for each, _ in (first, second)]
        both = np.concatenate([np.asarray(each) for each in images])
        assert (both.astype(np.float32) == pixels.astype(np.float32)).all()
        assert (np.asarray(second[1]) == np.eye(3)).all()


@pytest.mark.slow
def test_bfloat16_comes_from_tensorflow() -> None:
    pytest.importorskip("tensorflow")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)
    pipeline = gl.Pipeline(gl.Arrays(pixels), gl.ToDtype("bfloat16", scale=True), gl.Batch(4))
    ((images, _),) = gl.iterate(pipeline, backend="tf")
    assert images.dtype == ml_dtypes.bfloat16
    assert np.abs(images.astype(np.float32) - pixels / 255).max() < 2.0**-8
    pytest.importorskip("jax")
    ((again, _),) = gl.iterate(pipeline, "jax", backend="tf")
    assert (np.asarray(again) == images).all()


def _installed(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("to", ["jax", "torch"])
def test_a_missing_framework_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, to: Any) -> None:
    monkeypatch.setitem(sys.modules, to, None)
    with pytest.raises(gl.BackendUnavailable, match=f"{to} can't be imported.*pip install {to}"):
        gl.iterate(usual(folder), to, backend="dali-cpu")


# errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"to": "tensorflow"}, gl.UsageError, "'numpy', 'jax' or 'torch'"),
        ({"epochs": 0}, gl.UsageError, "positive integer"),
        ({"start": gl.Position(0, 14)}, gl.UsageError, "beyond the epoch's 14 samples"),
        ({"start": gl.Position(1)}, gl.UsageError, "not among the 1 epochs"),
        ({"start": (0, 4)}, gl.UsageError, "must be a Position"),
        ({"shard": gl.Shard(20, 21)}, gl.SourceError, "is empty"),
        ({"on_error": "ignore"}, gl.UsageError, "'raise' or 'skip'"),
        ({"device_id": 0}, gl.UsageError, "device_id and hw_decoder_load are for backend 'dali'"),
        ({"prefetch": 0}, gl.PipelineError, "prefetch must be a positive integer"),
        ({"backend": "mali"}, gl.PipelineError, "backend must be one of"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_refused_at_once(
    folder: Path, threads: Callable[[], list[str]], options: dict[str, Any], error: Any, text: str
) -> None:
    with pytest.raises(error, match=text):
        gl.iterate(usual(folder), **{"backend": "dali-cpu", **options})
    assert threads() == []


def test_what_has_no_batch_is_refused(folder: Path) -> None:
    pipeline = gl.Pipeline(gl.ImageFolder(folder), gl.Decode(), gl.CenterCrop(8))
    with pytest.raises(gl.PipelineError, match=r"no Batch: add Batch\(32\)"):
        gl.iterate(pipeline)


def undecodable() -> bytes:
    """A PNG whose chunks are fine, but whose compressed pixels aren't."""
    data = png(photo(20, 30))
    (length,) = struct.unpack(">I", data[33:37])
    pixels = b"IDAT" + data[41:61] + bytes(length - 20)
    return data[:37] + pixels + struct.pack(">I", zlib.crc32(pixels)) + data[45 + length :]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["dali-cpu", "pillow", "mixed", "dali-last"])
@pytest.mark.parametrize("damage", ["header", "pixels"])
def test_a_bad_record_is_named_when_it_is_reached(
    folder: Path, threads: Callable[[], list[str]], backend: str, damage: str
) -> None:
    source = gl.ImageFolder(folder)
    pipeline = gl.Pipeline(source, gl.Decode(), *usual(folder).stages[2:], seed=3)
    bad = Path(source.name(9))
    bad.write_bytes(b"no image" if damage == "header" else undecodable())
    batches = gl.iterate(pipeline, backend=BACKENDS[backend], epochs=2, prefetch=3)
    assert [len(next(batches)[1]) for _ in range(2)] == [4, 4]
    for _ in range(2):
        with pytest.raises(gl.RecordError) as caught:
            next(batches)
        assert caught.value.path == str(bad)
    assert batches.position == gl.Position(0, 8)
    del caught
    assert threads() == []


@pytest.mark.parametrize(("damage", "reason"), [("cut", "truncated PNG"), ("gone", "can't be read")])
def test_a_bad_file_says_why(folder: Path, damage: str, reason: str) -> None:
    bad = folder / "class-1" / "3.png"
    pipeline = usual(folder)
    assert len(pipeline.source) == COUNT  # listed
    bad.write_bytes(bad.read_bytes()[:200])
    if damage == "gone":
        bad.unlink()
    with pytest.raises(gl.RecordError, match=rf"3\.png: .*{reason}") as caught:
        list(gl.iterate(pipeline, backend="dali-cpu"))
    assert caught.value.path == str(bad)


def test_a_label_outside_the_classes_is_refused_at_once(threads: Callable[[], list[str]]) -> None:
    source = gl.Arrays(np.zeros((5, 6, 6, 3), np.uint8), np.array([0, 2, 1, 2, 0]))
    with pytest.raises(gl.RecordError, match="label"):
        gl.iterate(gl.Pipeline(source, gl.OneHot(2), gl.Batch(4)), backend="dali-cpu")
    assert threads() == []


def test_an_interrupt_ends_it_and_it_can_be_resumed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, threads: Callable[[], list[str]]
) -> None:
    pipeline = usual(folder)
    whole = arrays(gl.iterate(pipeline, backend="pillow"))
    batches = gl.iterate(pipeline, backend="pillow")
    next(batches)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(read_ahead.ChainEngine, "collect", lambda *_: signal.raise_signal(signal.SIGINT))
        next(batches)
    with pytest.raises(gl.UsageError, match=r"interrupted .* start=batches\.position"):
        next(batches)
    assert threads() == []
    assert same(arrays(gl.iterate(pipeline, backend="pillow", start=batches.position)), whole[1:])


# what it holds


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["dali-cpu", "pillow", "dali-last"])
def test_threads_end_with_it(folder: Path, threads: Callable[[], list[str]], backend: str) -> None:
    pipeline, where = usual(folder), BACKENDS[backend]
    batches = gl.iterate(pipeline, backend=where, epochs=50)
    next(batches)
    assert threads()
    del batches  # given up
    assert threads() == []
    with pytest.raises(ZeroDivisionError), gl.iterate(pipeline, backend=where, epochs=50) as batches:
        for _ in batches:
            _ = 1 / 0
    assert threads() == []
    assert list(batches) == []  # closed
    batches.close()
    batches = gl.iterate(pipeline, backend=where)
    assert len(list(batches)) == 4
    assert threads() == []  # at its end
    assert list(batches) == []


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["dali-cpu", "pillow"])
@pytest.mark.parametrize("prefetch", [1, 3])
def test_only_so_many_batches_are_held(
    folder: Path, monkeypatch: pytest.MonkeyPatch, backend: str, prefetch: int
) -> None:
    read: list[int] = []
    pipeline = usual(folder, 2)

    def spy(source: Any, indices: list[int]) -> list[Any]:
        if source is pipeline.source:  # another test's batches may still be read ahead
            read.append(len(indices))
        return [source.read(index) for index in indices]

    monkeypatch.setattr(read_ahead, "read_many", spy)
    with gl.iterate(pipeline, backend=backend, epochs=9, prefetch=prefetch) as batches:
        for given in range(1, 4):
            next(batches)
            deadline = time.monotonic() + 10
            while len(read) < given + read_ahead.READERS and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.1)
            assert given + read_ahead.READERS <= len(read) <= given + prefetch + read_ahead.READERS
