"""Loading: one stream whatever the threads, batches, shards, resumes; epochs that differ; Keras; bounds that hold."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenload as gl
from greenload.errors import PipelineError, SourceError, UsageError
from greenload.planning.choose import make_plan
from greenload.randomness import permute
from greenload.sources import Arrays, Files, Source
from greenload.stages import (
    Batch,
    Cache,
    CenterCrop,
    Decode,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)

pytestmark = pytest.mark.slow  # hundreds of datasets are built and iterated


tf = pytest.importorskip("tensorflow")

COUNT = 23
BACKENDS = ["tf", "dali-cpu"]
PIXELS = Arrays(np.random.default_rng(0).integers(0, 256, (COUNT, 12, 10, 3), np.uint8), np.arange(COUNT) * 3)
LABELLED = Arrays(PIXELS.images, np.arange(COUNT) % 5)
NUMBERED = Arrays(np.arange(COUNT, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, -1), np.arange(COUNT))
"""Each image is its own index."""
RANDOM: tuple[Stage, ...] = (RandomResizedCrop(6), RandomHorizontalFlip())
CHEAP: tuple[Stage, ...] = (CenterCrop(6), RandomHorizontalFlip())


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, bad_images: Any) -> Files:
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{k}.jpg" for k in range(COUNT)]
    for k, path in enumerate(paths):
        path.write_bytes(bad_images.jpeg(20 + k, 50 - k, seed=k, subsampling=k % 3))
    return Files(paths, np.arange(COUNT) % 5)


# What may differ between backends is tested on each: one stream, epochs, life, threads. More of DALI's is `long`.
@pytest.fixture(params=["tf", pytest.param("dali-cpu", marks=pytest.mark.long)])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "dali-cpu":
        pytest.importorskip("nvidia.dali")
    return str(request.param)


@pytest.fixture(params=BACKENDS)
def each_backend(request: pytest.FixtureRequest) -> str:
    if request.param == "dali-cpu":
        pytest.importorskip("nvidia.dali")
    return str(request.param)


def collect(dataset: Any) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    return [(image.numpy(), label.numpy()) for image, label in dataset]


def flat(dataset: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return flat_of(collect(dataset))


def flat_of(batches: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.concatenate([image for image, _ in batches]), np.concatenate([label for _, label in batches])


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def pixels(size: int = 4, stages: tuple[Stage, ...] = RANDOM, **options: Any) -> gl.Pipeline:
    return gl.Pipeline(PIXELS, Shuffle(), *stages, Batch(size, **options), seed=7)


def files(source: Files, size: int = 4) -> gl.Pipeline:
    return gl.Pipeline(source, Shuffle(), Decode(), *RANDOM, Batch(size), seed=7)


def light(source: Arrays = PIXELS, size: int = 4) -> gl.Pipeline:
    """Where only order, epochs and life matter: graphs of a third of the size."""
    return gl.Pipeline(source, Shuffle(), *CHEAP, Batch(size), seed=7)


Batches = list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]
KEPT: dict[tuple[str, str], Batches] = {}
"""Streams that several tests compare with, made once: by pipeline and backend."""


def kept(make: Callable[[Any], gl.Pipeline], source: Source, backend: str, epochs: int) -> Batches:
    """The batches of some epochs, on one thread."""
    key = make.__name__, backend
    if key not in KEPT:
        KEPT[key] = collect(gl.load(make(source), backend, epochs=3, threads=1))
    return KEPT[key][: len(KEPT[key]) // 3 * epochs]


# one stream


def test_the_stream_is_the_same_at_any_thread_count_and_batch_size(photos: Files, each_backend: str) -> None:
    whole = flat_of(kept(files, photos, each_backend, 2))
    assert len(whole[1]) == 2 * COUNT
    for threads, size in ((2, 100), (4, 7)):
        found = flat(gl.load(files(photos, size), each_backend, epochs=2, threads=threads))
        assert same(found, whole), (threads, size)


def test_both_backends_give_one_stream(photos: Files) -> None:
    pytest.importorskip("nvidia.dali")
    images, labels = flat_of(kept(files, photos, "tf", 2))
    others, other_labels = flat_of(kept(files, photos, "dali-cpu", 2))
    assert (labels == other_labels).all()
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert np.abs(images[inner].astype(int) - others[inner]).max() <= 1
    assert np.abs(images[inner].astype(int) - others[inner]).mean() <= 0.05


def test_iterating_the_pure_form_again_gives_the_same(backend: str) -> None:
    dataset = gl.load(pixels(), backend, epochs=2)
    assert same(flat(dataset), flat(dataset))


def test_the_stream_is_what_backend_and_draws_say(photos: Files) -> None:
    from greenload.backends.base import Records
    from greenload.backends.chain import run_plan
    from greenload.plans.params import DrawLayout

    pipeline = files(photos)
    epoch = 3
    index = permute(np.arange(COUNT), COUNT, 7, epoch)
    numbers = DrawLayout.of(pipeline).prepare(7, epoch, index)
    records = Records([photos.read(int(i)) for i in index], numbers, [photos.name(int(i)) for i in index])
    expected = run_plan(make_plan(pipeline, "tf"), records)
    images, labels = flat(gl.load(pipeline, "tf", epochs=epoch + 1, start=gl.Position(epoch)))
    assert (images == expected).all()
    assert (labels == photos.labels[index]).all()


WHOLE: dict[str, Any] = {}


@pytest.mark.slow
@given(
    epoch=st.integers(0, 2),
    sample=st.integers(0, COUNT - 1),
    size=st.integers(1, 9),
    parts=st.integers(1, 2),
    part=st.integers(0, 1),
)
@settings(max_examples=4, deadline=None, derandomize=True)
def test_resuming_gives_the_tail_of_the_stream(epoch: int, sample: int, size: int, parts: int, part: int) -> None:
    shard = gl.Shard(part % parts, parts)
    mine = shard.size(COUNT)
    sample %= mine
    key = str(shard)
    if key not in WHOLE:
        WHOLE[key] = flat(gl.load(pixels(5, CHEAP), "tf", epochs=3, shard=shard))
    dataset = gl.load(pixels(size, CHEAP), "tf", epochs=3, start=gl.Position(epoch, sample), shard=shard)
    batches = collect(dataset)
    tail = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    cut = epoch * mine + sample
    assert same(tail, tuple(part[cut:] for part in WHOLE[key]))
    assert len(dataset) == len(batches)


@pytest.mark.slow
def test_resuming_at_a_batch_boundary_gives_the_tail_of_the_batches(backend: str) -> None:
    images, labels = flat_of(kept(light, PIXELS, backend, 2))
    cuts = [*range(10, COUNT, 5), *range(COUNT, 2 * COUNT, 5), 2 * COUNT]
    whole = [(images[a:b], labels[a:b]) for a, b in itertools.pairwise(cuts)]
    tail = collect(gl.load(light(size=5), backend, epochs=2, start=gl.Position(epoch=0, sample=10)))
    assert len(tail) == 3 + 5  # the rest of the epoch, and the next one whole
    assert all(same(a, b) for a, b in zip(whole, tail, strict=True))


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.long), 3])
def test_shards_are_disjoint_and_together_the_epoch(count: int) -> None:
    whole_images, whole_labels = flat_of(kept(light, PIXELS, "tf", 1))
    parts = [flat(gl.load(light(), "tf", epochs=1, shard=gl.Shard(i, count))) for i in range(count)]
    for i, (images, labels) in enumerate(parts):
        assert (labels == whole_labels[i::count]).all()
        assert (images == whole_images[i::count]).all()  # the same augmentation, whichever shard
    assert sorted(np.concatenate([labels for _, labels in parts])) == sorted(PIXELS.labels)


# order, labels, epochs


def test_every_sample_comes_once_an_epoch_with_its_label() -> None:
    images, labels = flat(gl.load(gl.Pipeline(NUMBERED, Shuffle(), Batch(4), seed=3), epochs=3))
    assert (images[:, 0, 0, 0] == labels).all()
    orders = labels.reshape(3, COUNT)
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert tuple(orders[0]) == tuple(permute(np.arange(COUNT), COUNT, 3, 0))


def test_without_shuffle_the_sources_order_is_kept() -> None:
    labels = flat(gl.load(gl.Pipeline(NUMBERED, Batch(4)), epochs=2))[1]
    assert labels.tolist() == [*range(COUNT), *range(COUNT)]


@pytest.mark.slow
def test_epochs_have_their_own_augmentation() -> None:
    images = flat(gl.load(gl.Pipeline(PIXELS, *RANDOM, Batch(4), seed=1), epochs=3))[0].reshape(3, COUNT, -1)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (images[a] != images[b]).any(axis=1).mean() > 0.9


@pytest.mark.slow
def test_seeds_have_their_own_order_and_augmentation() -> None:
    images, labels = flat_of(kept(light, PIXELS, "tf", 1))
    others, their_labels = flat(gl.load(gl.Pipeline(PIXELS, *light().stages, seed=1), "tf", epochs=1))
    assert (labels != their_labels).any()
    assert (images[np.argsort(labels)] != others[np.argsort(their_labels)]).any()


def test_the_advancing_form_gives_the_next_epoch_each_time(each_backend: str) -> None:
    whole = flat_of(kept(light, PIXELS, each_backend, 3))
    dataset = gl.load(light(), each_backend)
    for epoch in range(2):
        part = slice(epoch * COUNT, (epoch + 1) * COUNT)
        assert same(flat(dataset), (whole[0][part], whole[1][part]))
    later = gl.load(light(), each_backend, start=gl.Position(epoch=2))
    assert same(flat(later), (whole[0][-COUNT:], whole[1][-COUNT:]))


def test_two_datasets_of_one_pipeline_advance_on_their_own() -> None:
    pipeline = light()
    one, other = gl.load(pipeline), gl.load(pipeline)
    first = flat(one)
    assert not same(flat(one), first)
    assert same(flat(other), first)


@pytest.mark.slow
def test_two_iterators_at_a_time(each_backend: str) -> None:
    whole = kept(light, PIXELS, each_backend, 2)
    pure = gl.load(light(), each_backend, epochs=2)
    for left, right, wanted in zip(pure, pure, whole, strict=True):
        assert (left[0].numpy() == wanted[0]).all()
        assert (right[0].numpy() == wanted[0]).all()
    # the advancing form's counter is shared: each iterator is an epoch of its own
    advancing = gl.load(light(), each_backend)
    pairs = list(zip(advancing, advancing, strict=True))
    epochs = len(whole) // 2
    for k, (left, right) in enumerate(pairs):
        found = {left[0].numpy().tobytes(), right[0].numpy().tobytes()}
        assert found == {whole[k][0].tobytes(), whole[epochs + k][0].tobytes()}


def test_a_dataset_lives_as_long_as_its_iterator(photos: Files, each_backend: str) -> None:
    stages = (Shuffle(), Cache(), Decode(), *CHEAP, Batch(4))
    iterator = iter(gl.load(gl.Pipeline(photos, *stages, seed=7), each_backend))
    gc.collect()
    assert len(list(iterator)) == 6


@pytest.mark.slow
def test_an_abandoned_iterator_does_no_harm(backend: str) -> None:
    dataset = gl.load(light(), backend, epochs=1)
    whole = flat(dataset)
    for _ in range(2):
        next(iter(dataset))
    assert same(flat(dataset), whole)


# what a dataset says about itself


@pytest.mark.parametrize(("size", "drop"), [(4, False), (4, True), (23, True), (50, False)])
def test_the_number_of_batches_and_shapes_are_known(backend: str, size: int, drop: bool) -> None:
    batches = COUNT // size if drop else -(-COUNT // size)
    for epochs in (None, 2) if size == 4 else (2,):
        dataset = gl.load(gl.Pipeline(PIXELS, CenterCrop(6), Batch(size, drop)), backend, epochs=epochs)
        found = collect(dataset)
        assert len(dataset) == len(found) == batches * (epochs or 1)
        image, label = dataset.element_spec
        assert image.shape.as_list() == [size if drop else None, 6, 6, 3]
        assert image.dtype == tf.uint8
        assert label.shape.as_list() == [size if drop else None]
        assert label.dtype == tf.int64
        if drop:
            assert {len(label) for _, label in found} == {size}
        else:
            assert sum(len(label) for _, label in found) == COUNT * (epochs or 1)


@pytest.mark.slow
def test_dropping_the_remainder_keeps_the_rest_as_it_is() -> None:
    whole = flat_of(kept(light, PIXELS, "tf", 1))
    dropped = flat(gl.load(pixels(5, CHEAP, drop_remainder=True), "tf", epochs=1))
    assert same(dropped, tuple(part[:20] for part in whole))


@pytest.mark.slow
def test_without_batch_samples_come_one_by_one(photos: Files) -> None:
    pipeline = gl.Pipeline(photos, Shuffle(), Decode(), *RANDOM, seed=7)
    dataset = gl.load(pipeline, epochs=1)
    singles = collect(dataset)
    assert len(dataset) == len(singles) == COUNT
    assert dataset.element_spec[0].shape.as_list() == [6, 6, 3]
    assert dataset.element_spec[1].shape.as_list() == []
    whole = flat_of(kept(files, photos, "tf", 1))
    assert same((np.stack([i for i, _ in singles]), np.stack([n for _, n in singles])), whole)


def test_images_of_sizes_that_differ_come_one_by_one(photos: Files) -> None:
    found = collect(gl.load(gl.Pipeline(photos, Decode()), epochs=1))
    assert [image.shape for image, _ in found] == [(20 + k, 50 - k, 3) for k in range(COUNT)]


def test_encoded_bytes_come_as_they_are(photos: Files) -> None:
    found = collect(gl.load(gl.Pipeline(photos), epochs=1))
    assert [image for image, _ in found] == [photos.read(k) for k in range(COUNT)]


def test_pixels_that_only_need_stacking(backend: str) -> None:
    images, labels = flat(gl.load(gl.Pipeline(PIXELS, ToDtype("uint8"), Batch(4)), backend, epochs=1))
    assert (images == PIXELS.images).all()
    assert (labels == PIXELS.labels).all()


VALUES = (ToDtype("float32", scale=True), Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))


@pytest.mark.slow
def test_values_may_change_before_or_after_batch(backend: str) -> None:
    start = (CenterCrop(10), Resize((6, 6)), RandomHorizontalFlip())
    before = flat(gl.load(gl.Pipeline(PIXELS, *start, *VALUES, Batch(4)), backend, epochs=1))
    after = flat(gl.load(gl.Pipeline(PIXELS, *start, Batch(4), *VALUES), backend, epochs=1))
    between = flat(gl.load(gl.Pipeline(PIXELS, *start, VALUES[0], Batch(4), VALUES[1]), backend, epochs=1))
    assert before[0].dtype == after[0].dtype == np.float32
    np.testing.assert_allclose(before[0], after[0], atol=1e-5)
    np.testing.assert_allclose(before[0], between[0], atol=1e-5)
    raw = flat(gl.load(gl.Pipeline(PIXELS, *start, Batch(4)), backend, epochs=1))[0]
    wanted = (raw / 255.0 - np.array(VALUES[1].mean)) / np.array(VALUES[1].std)  # type: ignore[attr-defined]
    np.testing.assert_allclose(after[0], wanted, atol=2e-6)


def test_float_arrays(backend: str) -> None:
    source = Arrays((PIXELS.images / 255.0).astype(np.float32))
    pipeline = gl.Pipeline(source, RandomHorizontalFlip(), Normalize((0.5,), (0.25,)), Batch(4), seed=2)
    images = flat(gl.load(pipeline, backend, epochs=1))[0]
    straight = (source.images - 0.5) / 0.25
    flipped = np.array(
        [np.allclose(image, wanted[:, ::-1], atol=1e-5) for image, wanted in zip(images, straight, strict=True)]
    )
    kept = np.array([np.allclose(image, wanted, atol=1e-5) for image, wanted in zip(images, straight, strict=True)])
    assert (flipped ^ kept).all()
    assert 3 < flipped.sum() < COUNT - 3


# caches


def copied(photos: Files, folder: Path) -> Files:
    folder.mkdir()
    paths = []
    for path in photos.paths:
        paths.append(folder / Path(path).name)
        paths[-1].write_bytes(Path(path).read_bytes())
    return Files(paths, photos.labels.tolist())


UNCACHED: dict[Any, Any] = {}
"""What pipelines without a cache give, by stages and backend."""
CACHES: dict[str, tuple[tuple[Stage, ...], str]] = {
    "bytes": ((Cache(), Decode(), *CHEAP, Batch(4)), "tf"),
    "bytes to dali": ((Cache(), Decode(), *RANDOM, Batch(4)), "dali-cpu"),
    "pixels": ((Decode(), Cache(), *RANDOM, Batch(4)), "tf"),
    "both": ((Cache(), Decode(), Cache(), *CHEAP, Batch(4)), "tf"),
    "resized": ((Decode(), Resize((9, 9)), Cache(), *CHEAP, Batch(4)), "tf"),
    "resized, then float": ((Decode(), Resize((9, 9)), Cache(), *VALUES, Batch(4)), "tf"),
    "float": ((Decode(), CenterCrop(30), *VALUES, Cache(), *CHEAP, Batch(4)), "tf"),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name in ("bytes", "resized") else ())  # as parts of others
        for name in CACHES
    ],
)
def test_a_cache_gives_the_same_pixels_and_needs_no_file_twice(photos: Files, tmp_path: Path, name: str) -> None:
    stages, backend = CACHES[name]
    if backend == "dali-cpu":
        pytest.importorskip("nvidia.dali")
    source = copied(photos, tmp_path / "copies")
    plain = tuple(stage for stage in stages if not isinstance(stage, Cache))
    if plain == (Decode(), *RANDOM, Batch(4)):
        UNCACHED[plain, backend] = kept(files, photos, backend, 2)
    elif (plain, backend) not in UNCACHED:
        UNCACHED[plain, backend] = collect(gl.load(gl.Pipeline(photos, Shuffle(), *plain, seed=7), backend, epochs=2))
    cached = gl.load(gl.Pipeline(source, Shuffle(), *stages, seed=7), backend)
    found = collect(cached)
    for path in source.paths:
        Path(path).unlink()
    found += collect(cached)
    assert all(same(a, b) for a, b in zip(found, UNCACHED[plain, backend], strict=True))


def test_what_is_decoded_once_is_not_decoded_again(photos: Files, tmp_path: Path) -> None:
    # Files are broken, not removed: reading them again would go unnoticed, decoding would not.
    source = copied(photos, tmp_path / "copies")
    pipeline = gl.Pipeline(source, Decode(), Cache(), *RANDOM, Batch(4), seed=7)
    cached = gl.load(pipeline, "tf", epochs=3)
    iterator = iter(cached)
    first = [next(iterator) for _ in range(6)]
    time.sleep(0.2)
    for path in source.paths:
        Path(path).write_bytes(b"no longer an image")
    assert len([*first, *iterator]) == 18


def test_arrays_can_be_cached_after_a_resize() -> None:
    pipeline = gl.Pipeline(PIXELS, Resize((5, 5)), Cache(), RandomHorizontalFlip(), Batch(4), seed=3)
    plain = gl.Pipeline(PIXELS, Resize((5, 5)), RandomHorizontalFlip(), Batch(4), seed=3)
    assert same(flat(gl.load(pipeline, "tf", epochs=3)), flat(gl.load(plain, "tf", epochs=3)))


# Keras


class Sums(tf.keras.layers.Layer):  # type: ignore[misc,name-defined]
    """Notes the sum of every image that reaches the model."""

    seen: ClassVar[list[list[float]]] = []

    def call(self, images: Any) -> Any:
        noted = tf.py_function(self._note, [tf.reduce_sum(tf.cast(images, tf.float32), [1, 2, 3])], tf.float32)
        noted.set_shape([])
        return tf.cast(images, tf.float32) + 0.0 * noted

    @staticmethod
    def _note(sums: Any) -> float:
        Sums.seen.append(sums.numpy().tolist())
        return 0.0


def model(side: int = 6, noting: bool = True) -> Any:
    keras = tf.keras
    layers = [
        keras.Input((side, side, 3)),
        *([Sums()] if noting else []),
        keras.layers.Flatten(),
        keras.layers.Dense(5),
    ]
    made = keras.Sequential(layers)
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


@pytest.mark.parametrize("backend", [pytest.param("tf", marks=pytest.mark.long), "dali-cpu"])
def test_fit_sees_another_augmentation_each_epoch(photos: Files, backend: str) -> None:
    train = gl.load(files(photos), backend)
    check = gl.load(gl.Pipeline(LABELLED, CenterCrop(6), ToDtype("float32"), Batch(4)), backend, epochs=1)
    made = model()
    Sums.seen = []
    history = made.fit(train, epochs=3, verbose=0)
    assert len(history.history["loss"]) == 3
    sums = np.concatenate(Sums.seen)
    wanted = flat_of(kept(files, photos, backend, 3))[0].astype(np.float64).sum((1, 2, 3))
    assert len(sums) == 3 * COUNT
    # Keras may look at an epoch's first batch to build a model: epochs that come one later would be lost.
    assert np.allclose(sums, wanted, rtol=1e-5), "fit didn't see epochs 0, 1, 2"
    noted = made.fit(train, epochs=2, verbose=0, validation_data=check)
    assert len(noted.history["val_loss"]) == 2
    assert made.evaluate(check, verbose=0) == pytest.approx(noted.history["val_loss"][-1])
    assert made.predict(check, verbose=0).shape == (COUNT, 5)


@pytest.mark.slow
def test_fit_of_a_model_that_is_not_built_yet() -> None:
    keras = tf.keras
    made = keras.Sequential([keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(70)])
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert len(made.fit(gl.load(pixels()), epochs=2, verbose=0).history["loss"]) == 2


def test_tf_data_goes_on_from_a_loaded_dataset() -> None:
    dataset = gl.load(pixels(), epochs=1)
    doubled = dataset.map(lambda image, label: (tf.cast(image, tf.float32) * 2, label)).take(2).repeat(2)
    assert len(list(doubled)) == 4
    whole = flat(dataset)

    @tf.function
    def total() -> Any:
        count = tf.constant(0.0)
        for image, _ in dataset:
            count += tf.reduce_sum(tf.cast(image, tf.float32))
        return count

    assert float(total()) == whole[0].astype(np.float64).sum()


# bounds


def decoding(photos: Files) -> gl.Pipeline:
    """Where a backend's threads matter: some are there only for files."""
    return gl.Pipeline(photos, Decode(), CenterCrop(6), Batch(4))


@pytest.mark.slow
def test_threads_are_bounded(photos: Files) -> None:
    many = Files(list(photos.paths) * 10)
    most = {}
    list(gl.load(decoding(photos), "tf", epochs=1, threads=1))
    for threads in (1, 4):
        gc.collect()
        time.sleep(0.3)
        before = psutil.Process().num_threads()
        peak = before
        for _ in gl.load(decoding(many), "tf", epochs=1, threads=threads):
            peak = max(peak, psutil.Process().num_threads())
        most[threads] = peak - before
    assert most[1] <= 1 + 6
    assert most[4] <= 4 + 6


def test_dali_threads_are_bounded(photos: Files) -> None:
    """Files are decoded, since DALI's decoder has threads of its own."""
    pytest.importorskip("nvidia.dali")
    iterator = iter(gl.load(decoding(photos), "dali-cpu", epochs=1, threads=1))
    next(iterator)
    before = psutil.Process().num_threads()
    other = iter(gl.load(decoding(photos), "dali-cpu", epochs=1, threads=4))
    next(other)
    assert psutil.Process().num_threads() - before <= 4 + 4 + 14  # tf.data's, DALI's, DALI's executor


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_dataset_that_is_given_up_leaves_no_threads(photos: Files, backend: str) -> None:
    if backend == "dali-cpu":
        pytest.importorskip("nvidia.dali")
    counts = []
    for _ in range(3):
        iterator = iter(gl.load(decoding(photos), backend, epochs=1, threads=2))
        next(iterator)
        del iterator
        gc.collect()
        time.sleep(0.2)
        counts.append(psutil.Process().num_threads())
    assert counts[2] <= counts[0] + 2


@pytest.mark.slow
def test_memory_stays_flat_over_a_long_stream(photos: Files, each_backend: str) -> None:
    many = Files(list(photos.paths) * 200)  # 4600 records an epoch
    process = psutil.Process()
    iterator = iter(gl.load(gl.Pipeline(many, Decode(), *CHEAP, Batch(32)), each_backend, epochs=3, threads=2))
    for _ in range(100):
        next(iterator)
    gc.collect()
    start = process.memory_info().rss
    for _ in iterator:
        pass
    gc.collect()
    assert process.memory_info().rss - start < 30e6


def test_a_large_set_opens_at_once() -> None:
    source = Files([f"{k}.jpg" for k in range(300_000)])
    start = time.perf_counter()
    dataset = gl.load(files(source, 64), "tf")
    assert len(dataset) == -(-300_000 // 64)
    assert time.perf_counter() - start < 20


# what is refused

REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: gl.load(pixels(), epochs=0), UsageError, "epochs must be a positive integer or None, not 0"),
    (lambda: gl.load(pixels(), epochs=1.5), UsageError, "epochs must be"),  # type: ignore[arg-type]
    (lambda: gl.load(pixels(), epochs=True), UsageError, "epochs must be"),
    (lambda: gl.load(pixels(), on_error="ignore"), UsageError, "on_error must be 'raise' or 'skip'"),  # type: ignore[arg-type]
    (lambda: gl.load(pixels(), start=gl.Position(0, 4)), UsageError, "pass epochs= to begin within one"),
    (lambda: gl.load(pixels(), epochs=2, start=gl.Position(2)), UsageError, "epoch 2 is not among the 2 epochs"),
    (
        lambda: gl.load(pixels(), epochs=2, start=gl.Position(0, COUNT)),
        UsageError,
        f"beyond the epoch's {COUNT} samples",
    ),
    (lambda: gl.load(pixels(), start=3), UsageError, "start must be a Position"),  # type: ignore[arg-type]
    (lambda: gl.load(pixels(), shard=(0, 2)), UsageError, "shard must be a Shard"),  # type: ignore[arg-type]
    (lambda: gl.Position(-1), UsageError, "epoch must be a whole number from 0, not -1"),
    (lambda: gl.Position(0, 1.5), UsageError, "sample must be a whole number"),  # type: ignore[arg-type]
    (lambda: gl.Shard(2, 2), UsageError, "index must be in 0 … count − 1, not 2 of 2"),
    (lambda: gl.Shard(-1, 2), UsageError, "index must be in"),
    (lambda: gl.Shard(0, 0), UsageError, "index must be in"),
    (lambda: gl.Shard(True, 2), UsageError, "index must be an integer"),
    (lambda: gl.load(pixels(), epochs=1, shard=gl.Shard(30, 31)), SourceError, "use fewer shards"),
    (lambda: gl.load(pixels(24, drop_remainder=True)), PipelineError, f"a size of at most {COUNT}"),
    (lambda: gl.load(pixels(12, drop_remainder=True), shard=gl.Shard(1, 2)), PipelineError, "a size of at most 11"),
    (lambda: gl.load(pixels(), "torch"), PipelineError, "backend must be one of"),
    (lambda: gl.load(pixels(), threads=0), PipelineError, "threads must be a positive integer"),
    (lambda: gl.load("data/train"), PipelineError, "must be a Pipeline"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "kind", "says"), REFUSED, ids=[says for _, _, says in REFUSED])
def test_wrong_arguments_are_refused_before_anything_runs(make: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind) as caught:
        make()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plan_is_loaded_as_it_says(backend: str) -> None:
    pipeline = gl.Pipeline(PIXELS, RandomHorizontalFlip(), Batch(4), seed=7)
    plan = make_plan(pipeline, backend, threads=1, prefetch=1)
    assert same(flat(gl.load(plan, epochs=1)), flat(gl.load(pipeline, backend, epochs=1)))


@pytest.mark.slow
def test_no_thread_of_python_is_left_behind(photos: Files, each_backend: str) -> None:
    list(gl.load(decoding(photos), each_backend, epochs=1))
    before = {thread.name for thread in threading.enumerate()}
    list(gl.load(decoding(photos), each_backend, epochs=1))
    assert {thread.name for thread in threading.enumerate()} <= before
