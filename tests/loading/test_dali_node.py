"""DALI as the last node of tf.data, rehearsed on the CPU: graph, rows and plugin are those of a GPU."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.backends.base import Records
from greenload.backends.chain import run_plan
from greenload.backends.dali import plugin
from greenload.backends.dali.base import Target
from greenload.errors import PipelineError, RecordError, UsageError
from greenload.loading import dali_node
from greenload.loading.dali_rows import WIDEST
from greenload.loading.dataset import build_dataset
from greenload.loading.load import resolve_order
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.randomness import permute
from greenload.sources import Arrays, Files
from greenload.stages import (
    Apply,
    Batch,
    CenterCrop,
    ColorJitter,
    Decode,
    Normalize,
    OneHot,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)

COUNT, SEED = 14, 7
CPU = Target()
AUGMENTED: tuple[Stage, ...] = (RandomResizedCrop(16), ColorJitter(0.3, 0.3, 0.3, 0.1), RandomHorizontalFlip())
FLOATS = (ToDtype("float32", scale=True), Normalize((0.5, 0.4, 0.3), (0.2, 0.2, 0.2)))
NUMBERED = np.arange(COUNT, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, -1)
Pair = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@pytest.fixture(autouse=True)
def _plugin() -> None:
    found = plugin.availability()
    if not found.usable:
        pytest.skip(f"{found.detail}; {found.remedy}")


@pytest.fixture
def photos(tmp_path: Path, bad_images: ModuleType) -> Files:
    upright = [bad_images.jpeg(20 + k, 50 - k, seed=k, subsampling=k % 3) for k in range(COUNT - 1)]
    return files(tmp_path, [*upright, bad_images.build()["exif-rotated.jpg"].data])


def files(folder: Path, contents: list[bytes]) -> Files:
    paths = [folder / f"{k}.jpg" for k in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return Files(paths, np.arange(len(paths)) % 5)


def rehearse(pipeline: gl.Pipeline, backend: Any = "dali", **options: Any) -> Any:
    plan = make_plan(pipeline, backend, threads=2)
    return build_dataset(plan, *resolve_order(plan, **options), options.get("epochs"), CPU)


def flat(dataset: Any) -> Pair:
    batches = [(image.numpy(), label.numpy()) for image, label in dataset]
    return np.concatenate([image for image, _ in batches]), np.concatenate([label for _, label in batches])


def expected(pipeline: gl.Pipeline, epochs: int, shard: gl.Shard | None = None) -> Pair:
    """The stream by the backend itself, without TensorFlow."""
    source, total, part = pipeline.source, len(pipeline.source), shard or gl.Shard()
    place = np.arange(part.index, total, part.count)
    order = np.concatenate([permute(place, total, pipeline.seed, epoch) for epoch in range(epochs)])
    numbers = DrawLayout.of(pipeline).prepare(pipeline.seed, np.repeat(np.arange(epochs), len(place)), order)
    records: Any = [source.read(int(i)) for i in order]
    plan = make_plan(pipeline, "dali-cpu", threads=2)
    images = run_plan(plan, Records(records, numbers, [source.name(int(i)) for i in order]))
    return images, DrawLayout.of(pipeline).labels(source.labels[order], None)


def same(a: Pair, b: Pair) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# the stream


@pytest.mark.slow
def test_pixels_labels_order_and_batches_are_those_of_the_backend(photos: Files) -> None:
    pipeline = gl.Pipeline(photos, Shuffle(), Decode(exif=True), *AUGMENTED, *FLOATS, Batch(4), seed=SEED)
    dataset = rehearse(pipeline, epochs=2)
    sizes = [len(labels) for _, labels in dataset]
    assert sizes == [4, 4, 4, 2] * 2
    assert len(dataset) == len(sizes)
    assert same(flat(dataset), expected(pipeline, 2))  # iterated a second time, the pure form begins again
    part = rehearse(pipeline, epochs=1, start=gl.Position(0, 2), shard=gl.Shard(1, 3))
    images, labels = expected(pipeline, 1, gl.Shard(1, 3))
    assert same(flat(part), (images[2:], labels[2:]))
    assert len(part) == 1


@pytest.mark.slow
def test_alternatives_are_those_of_the_backend(photos: Files) -> None:
    choices = (
        gl.RandomApply([gl.ColorJitter(0.4), gl.RandomHorizontalFlip(1.0)], 0.6),
        gl.RandomChoice([gl.GaussianBlur(5), gl.RandomApply(gl.RandomGrayscale(0.5)), gl.RandomRotation(9)]),
        gl.RandomOrder([gl.RandomErasing(1.0), gl.RandomVerticalFlip()]),
    )
    pipeline = gl.Pipeline(photos, Shuffle(), Decode(), *AUGMENTED, *choices, *FLOATS, Batch(4), seed=SEED)
    assert same(flat(rehearse(pipeline, epochs=2)), expected(pipeline, 2))


@pytest.mark.slow
def test_fit_trains_on_three_different_augmentations(photos: Files) -> None:
    import keras

    pipeline = gl.Pipeline(photos, Shuffle(), Decode(), *AUGMENTED, *FLOATS, Batch(4), seed=SEED)
    dataset = rehearse(pipeline)
    seen: list[float] = []

    def noted(total: np.float64) -> np.int64:
        seen.append(float(total))
        return np.int64(0)

    class Sums(keras.layers.Layer):  # type: ignore[misc]
        def call(self, images: Any) -> Any:
            import tensorflow as tf

            total = tf.reduce_sum(tf.cast(images, tf.float64))
            with tf.control_dependencies([tf.numpy_function(noted, [total], tf.int64)]):
                return tf.identity(images)

    model = keras.Sequential([Sums(), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(dataset, epochs=3, verbose=0)
    images, labels = expected(pipeline, 4)
    begins = [epoch * COUNT + batch for epoch in range(3) for batch in range(0, COUNT, 4)]
    ends = [min(begin + 4, (begin // COUNT + 1) * COUNT) for begin in begins]
    sums = [images[begin:end].astype(np.float64).sum() for begin, end in zip(begins, ends, strict=True)]
    assert np.allclose(seen[-len(sums) :], sums, atol=1e-6)
    iter(dataset)  # as Keras does before each epoch: nothing is asked of it
    assert same(flat(dataset), (images[3 * COUNT :], labels[3 * COUNT :]))


@pytest.mark.slow
def test_an_epoch_of_one_batch_is_followed_by_the_next() -> None:
    pipeline = gl.Pipeline(
        Arrays(NUMBERED, np.arange(COUNT)), Shuffle(), RandomHorizontalFlip(), Batch(COUNT), seed=SEED
    )
    dataset = rehearse(pipeline)
    epochs = [permute(np.arange(COUNT), COUNT, SEED, epoch) for epoch in range(2)]
    for epoch in epochs:
        iter(dataset)
        assert (flat(dataset)[1] == epoch).all()


@pytest.mark.slow
def test_pixels_in_memory_one_hot_labels_and_half_floats() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 10, 3), np.uint8)
    stages = (Shuffle(), RandomResizedCrop(6), RandomHorizontalFlip(), ToDtype("float16", scale=True), OneHot(5))
    pipeline = gl.Pipeline(Arrays(pixels, np.arange(COUNT) % 5), *stages, Batch(5, drop_remainder=True), seed=SEED)
    images, labels = flat(rehearse(pipeline, epochs=1))
    wanted = expected(pipeline, 1)
    assert images.dtype == np.float16
    assert labels.dtype == np.float32
    assert same((images, labels), (wanted[0][:10], wanted[1][:10]))


@pytest.mark.slow
def test_tf_data_may_work_on_single_samples_before(photos: Files) -> None:
    """Images of different sizes cross as pixels."""
    stages = (Decode(), Apply(_darker), Resize(24), CenterCrop(20), Batch(4))
    pipeline = gl.Pipeline(photos, *stages, seed=SEED)
    images, _ = flat(rehearse(pipeline, {"Resize": "dali", "CenterCrop": "dali"}, epochs=1))
    there, _ = flat(gl.load(make_plan(pipeline, {"Resize": "dali-cpu", "CenterCrop": "dali-cpu"}), epochs=1))
    assert (images == there).all()


def _darker(image: Any) -> Any:
    return image // 2


@pytest.mark.slow
def test_two_datasets_at_once_and_one_given_up_halfway(photos: Files) -> None:
    pipeline = gl.Pipeline(photos, Shuffle(), Decode(), *AUGMENTED, Batch(4), seed=SEED)
    other = gl.Pipeline(photos, Shuffle(), Decode(), Resize((8, 8)), Batch(4), seed=SEED + 1)
    left, right = rehearse(pipeline, epochs=1), rehearse(other, epochs=1)
    next(iter(left))
    batches = [(a, b) for a, b in zip(left, right, strict=True)]
    assert same(_joined([a for a, _ in batches]), expected(pipeline, 1))
    assert same(_joined([b for _, b in batches]), expected(other, 1))


def _joined(batches: list[Any]) -> Pair:
    return np.concatenate([a.numpy() for a, _ in batches]), np.concatenate([b.numpy() for _, b in batches])


# memory


@pytest.mark.slow
def test_one_long_record_widens_no_row(tmp_path: Path, bad_images: ModuleType) -> None:
    sizes = [(40, 40)] * 11 + [(900, 1200)]
    source = files(tmp_path, [bad_images.jpeg(*size, seed=k) for k, size in enumerate(sizes)])
    pipeline = gl.Pipeline(source, Shuffle(), Decode(), RandomResizedCrop(16), Batch(12), seed=SEED)
    plan = make_plan(pipeline, "dali", threads=2)
    node = dali_node.DaliNode(plan, CPU)
    index = np.arange(12)
    data = [source.read(int(i)) for i in index]
    numbers = DrawLayout.of(pipeline).prepare(SEED, 0, index)
    rows = node.pack(np.array(data, object), np.zeros((0, 3), np.int32), numbers, index)
    mean = np.mean([len(image) for image in data])
    assert len(data[-1]) > WIDEST * mean  # else nothing is tested
    assert rows.nbytes < 12 * (WIDEST * mean + 200)
    assert same(flat(build_dataset(plan, *resolve_order(plan, epochs=1), 1, CPU)), expected(pipeline, 1))


def test_files_of_long_records_go(tmp_path: Path, bad_images: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    long = bad_images.jpeg(400, 500)
    values: dict[str, Any] = {"x": np.zeros((9, 1), np.int32)}
    made = dali_node.Rows(values, kept=2)
    for _ in range(5):
        made.pack(values, [b"short"] * 8 + [long])
    (folder,) = tmp_path.glob("greenload-*")
    assert len(list(folder.iterdir())) == 2
    del made
    gc.collect()
    assert not folder.exists()


FORK = """
import os, pathlib, sys, tempfile
from greenload.loading.dali_rows import Rows

tempfile.tempdir = sys.argv[1]
made = Rows({}, kept=2)
made.pack({}, [b"short"] * 8 + [b"long" * 100])
child = os.fork()
if not child:
    del made
    sys.exit()
os.waitpid(child, 0)
print(len(list(pathlib.Path(sys.argv[1]).glob("greenload-*/*"))))
"""


def test_a_fork_leaves_the_files_of_long_records(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert not list(tmp_path.iterdir())


# bad records


@pytest.mark.slow
@pytest.mark.parametrize("name", ["truncated-half.jpg", "broken-huffman-table.jpg", "missing"])
def test_a_bad_record_is_named_and_ends_the_stream(tmp_path: Path, bad_images: ModuleType, name: str) -> None:
    bad = b"" if name == "missing" else bad_images.build()[name].data
    good = [bad_images.jpeg(30 + k, 40, seed=k) for k in range(10)]
    source = files(tmp_path, [*good[:7], bad, *good[8:]])
    if name == "missing":
        (tmp_path / "7.jpg").unlink()
    pipeline = gl.Pipeline(source, Decode(), CenterCrop(24), Batch(3), seed=SEED)
    dataset = rehearse(pipeline, epochs=1)
    with pytest.raises(RecordError, match=r"7\.jpg") as caught:
        for _ in iterator_of(dataset):
            pass
    assert caught.value.path.endswith("7.jpg")
    (tmp_path / "7.jpg").write_bytes(good[7])
    assert len(flat(rehearse(pipeline, epochs=1))[1]) == 10  # the process goes on, with other datasets


def iterator_of(dataset: Any) -> Any:
    """An iterator that is asked once more after it failed: it must say the same again, not go on."""
    iterator = iter(dataset)
    while True:
        try:
            yield next(iterator)
        except StopIteration:
            return
        except RecordError as error:
            with pytest.raises(RecordError) as again:
                next(iterator)
            assert again.value is error
            raise


@pytest.mark.slow
def test_inside_a_graph_the_error_names_the_file_as_well(tmp_path: Path, bad_images: ModuleType) -> None:
    import tensorflow as tf

    good = [bad_images.jpeg(30 + k, 40, seed=k) for k in range(6)]
    source = files(tmp_path, [*good[:4], good[4][: len(good[4]) // 2], good[5]])
    dataset = rehearse(gl.Pipeline(source, Decode(), CenterCrop(24), Batch(3)), epochs=1)

    @tf.function  # type: ignore[untyped-decorator]
    def total(images: Any) -> Any:
        return images.reduce(np.int64(0), lambda so_far, pair: so_far + tf.size(pair[1], tf.int64))

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"4\.jpg: truncated JPEG"):
        total(dataset)


# what can't be loaded


def test_other_segments_before_are_refused(photos: Files) -> None:
    pipeline = gl.Pipeline(photos, Decode(), Resize((8, 8)), *FLOATS, Batch(4))
    mixed = {"Decode": "dali-cpu", "Resize": "dali", "ToDtype": "dali", "Normalize": "dali"}
    with pytest.raises(PipelineError, match="batches come from 'dali-cpu'"):
        rehearse(pipeline, mixed)


def test_a_dtype_that_dali_lacks_is_refused_for_labels(photos: Files) -> None:
    with pytest.raises(PipelineError, match="DALI has no bfloat16"):
        rehearse(gl.Pipeline(photos, Decode(), Resize((8, 8)), OneHot(5, "bfloat16"), Batch(4)))


def test_a_device_is_for_dali_only(photos: Files) -> None:
    with pytest.raises(UsageError, match="are for backend 'dali'"):
        gl.load(gl.Pipeline(photos, Decode(), Resize((8, 8)), Batch(4)), "tf", device_id=0)


# strategies

_MIRRORED = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import greenload as gl, keras
from greenload.backends.dali.base import Target
from greenload.loading.dataset import build_dataset
from greenload.loading.load import resolve_order
from greenload.planning.choose import make_plan
count = 17
pixels = np.zeros((count, 6, 6, 3), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
pipeline = gl.Pipeline(gl.Arrays(pixels, np.arange(count)), gl.Shuffle(), gl.RandomVerticalFlip(), gl.Batch(4))
strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
options = tf.distribute.InputOptions(
    experimental_fetch_to_device=False,
    experimental_place_dataset_on_device=True,
    experimental_replication_mode=tf.distribute.InputReplicationMode.PER_REPLICA,
)

def dataset(backend):
    def of_replica(context):
        shard = gl.Shard(context.input_pipeline_id, context.num_input_pipelines)
        plan = make_plan(pipeline, backend, threads=1)
        return build_dataset(plan, *resolve_order(plan, shard=shard), None, Target() if backend == "dali" else None)
    with strategy.scope():  # where a variable would become one of each replica
        return strategy.distribute_datasets_from_function(of_replica, options)

firsts = {}
for backend in ("dali", "tf"):
    made, orders = dataset(backend), []
    for epoch in range(2 if backend == "dali" else 1):
        parts = [[], []]
        for images, labels in made:
            for part, image, label in zip(parts, *map(strategy.experimental_local_results, (images, labels))):
                assert (image.numpy()[:, 0, 0, 0] == label.numpy()).all()
                part.append(label.numpy())
        parts = [np.concatenate(part) for part in parts]
        assert [len(part) for part in parts] == [-(-count // 2), count // 2], parts
        assert sorted(np.concatenate(parts)) == list(range(count)), (backend, parts)
        orders.append(np.concatenate(parts).tolist())
    assert orders[0] != orders[-1] or backend != "dali"
    firsts[backend] = orders[0]
assert firsts["dali"] == firsts["tf"]
with strategy.scope():
    model = keras.Sequential([keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(count)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
history = model.fit(dataset("dali"), verbose=0).history["loss"]
assert np.isfinite(history).all()
print("every replica got its shard")
"""


@pytest.mark.slow
def test_mirrored_replicas_get_a_shard_each() -> None:
    """Two replicas on two logical CPUs, in a process of their own, where these can still be made."""
    done = subprocess.run([sys.executable, "-c", _MIRRORED], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "every replica got its shard" in done.stdout


@pytest.mark.slow
def test_its_steps_have_one_clock(photos: Files) -> None:
    pipeline = gl.Pipeline(photos, Shuffle(), Decode(exif=True), *AUGMENTED, *FLOATS, Batch(4), seed=SEED)
    dataset = gl.watch(rehearse(pipeline, epochs=20))
    assert same(flat(dataset), expected(pipeline, 20))
    *steps, dali = dataset.watched.steps
    assert [step.name for step in steps] == ["draws", "Read", "dali: intake"]
    done = dataset.watched.read()
    assert done.samples == done.steps["Read"].calls == done.steps[dali.name].calls == 20 * COUNT
    assert done.steps[dali.name].cpu_s > 0.001
    assert "GPU" in dali.note and dali.name.startswith("Decode")
