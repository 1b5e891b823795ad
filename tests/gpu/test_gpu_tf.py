"""DALI as the last node of tf.data on a GPU: outputs on the device, pixels, fit, replicas, errors that name the record.

Needs TensorFlow that sees the GPU, and DALI's plugin for it. ``GREENLOAD_GPU_REHEARSAL=1`` runs the same on the CPU.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dali_cases import compare, photo, png

import greenload as gl
from greenload.backends.base import Records, Tolerance
from greenload.backends.chain import run_plan
from greenload.backends.dali import plugin
from greenload.backends.dali.backend import DaliBackend
from greenload.backends.dali.base import Target
from greenload.errors import RecordError
from greenload.loading.dataset import build_dataset
from greenload.loading.load import device_of, resolve_order
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.randomness import permute
from greenload.sources import Files
from greenload.stages import Batch, Decode, RandomHorizontalFlip, RandomResizedCrop, Shuffle, ToDtype

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

REHEARSAL = os.environ.get("GREENLOAD_GPU_REHEARSAL") == "1"
BACKEND = DaliBackend("dali-cpu" if REHEARSAL else "dali")
COUNT, SEED = 21, 5
STAGES = (Shuffle(), Decode(), RandomResizedCrop(32), RandomHorizontalFlip(), ToDtype("float32", scale=True))
pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True, scope="module")
def _gpu() -> None:
    for found in (BACKEND.availability(), plugin.availability()):
        if not found.usable:
            pytest.skip(f"{found.detail}; {found.remedy}")
    seen = tf.config.list_physical_devices("GPU")
    if not seen and not REHEARSAL:
        pytest.skip("TensorFlow sees no GPU")
    for device in seen:  # else TensorFlow leaves DALI no memory
        tf.config.experimental.set_memory_growth(device, True)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("png")
    paths = [folder / f"{k}.png" for k in range(COUNT)]
    for k, path in enumerate(paths):
        path.write_bytes(png(photo(40 + k, 70 - k, k)))  # whose decoding is exact everywhere
    return Files(paths, np.arange(COUNT) % 3)


def loaded(pipeline: gl.Pipeline, gpu: int = 0, **options: Any) -> Any:
    plan = make_plan(pipeline, "dali", threads=2)
    target = Target() if REHEARSAL else device_of(plan, gpu, None)
    return build_dataset(plan, *resolve_order(plan, **options), options.get("epochs"), target)


def device(gpu: int) -> str:
    return f"CPU:{gpu}" if REHEARSAL else f"GPU:{gpu}"


def test_batches_are_on_the_device_and_those_of_the_runner(source: Files) -> None:
    pipeline = gl.Pipeline(source, *STAGES, Batch(8), seed=SEED)
    dataset = loaded(pipeline, epochs=2)
    pairs = list(dataset)
    assert [len(labels) for _, labels in pairs] == [8, 8, 5] * 2
    for images, labels in pairs:
        assert images.device.endswith(device(0))
        assert images.backing_device.endswith(device(0))
        assert labels.backing_device.endswith(device(0))
    order = np.concatenate([permute(np.arange(COUNT), COUNT, SEED, epoch) for epoch in range(2)])
    numbers = DrawLayout.of(pipeline).prepare(SEED, np.repeat(np.arange(2), COUNT), order)
    records = Records([source.read(int(i)) for i in order], numbers, [source.name(int(i)) for i in order])
    expected = run_plan(make_plan(pipeline, BACKEND.name, threads=2), records)
    compare(np.concatenate([images.numpy() for images, _ in pairs]), expected, Tolerance(1e-6, 1e-7))
    assert (np.concatenate([labels.numpy() for _, labels in pairs]) == source.labels[order]).all()


def test_fit_takes_it_and_each_epoch_is_the_next(source: Files) -> None:
    import keras

    dataset = loaded(gl.Pipeline(source, *STAGES, Batch(8), seed=SEED))
    model = keras.Sequential([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(model.fit(dataset, epochs=2, verbose=0).history["loss"]).all()
    third = np.concatenate([labels.numpy() for _, labels in dataset])
    assert (third == source.labels[permute(np.arange(COUNT), COUNT, SEED, 2)]).all()


def test_a_bad_record_is_named_and_the_next_dataset_works(source: Files, tmp_path: Path) -> None:
    contents = [source.read(i) for i in range(6)]
    damaged = bytearray(contents[4])
    damaged[len(damaged) // 2] ^= 0xFF  # within the compressed pixels, which a header doesn't show
    for broken in (True, False):
        paths = [tmp_path / f"{broken}-{k}.png" for k in range(6)]
        for k, path in enumerate(paths):
            path.write_bytes(bytes(damaged) if broken and k == 4 else contents[k])
        dataset = loaded(gl.Pipeline(Files(paths, np.arange(6)), *STAGES[1:], Batch(3)), epochs=1)
        if broken:
            with pytest.raises(RecordError, match=r"4\.png"):
                list(dataset)
        else:
            assert sum(len(labels) for _, labels in dataset) == 6


def test_one_long_record_among_short_ones(tmp_path: Path) -> None:
    paths = [tmp_path / f"{k}.png" for k in range(12)]
    for k, path in enumerate(paths):
        path.write_bytes(png(photo(700, 900, k) if k == 5 else photo(40, 40, k)))
    dataset = loaded(gl.Pipeline(Files(paths, np.arange(12)), *STAGES[1:], Batch(12)), epochs=1)
    assert [len(labels) for _, labels in dataset] == [12]


def test_every_replica_gets_its_shard_on_its_device(source: Files) -> None:
    count = 1 if REHEARSAL else len(tf.config.list_logical_devices("GPU"))
    strategy = tf.distribute.MirroredStrategy([f"/{'cpu' if REHEARSAL else 'gpu'}:{i}" for i in range(count)])
    options = tf.distribute.InputOptions(
        experimental_fetch_to_device=False,
        experimental_place_dataset_on_device=True,
        experimental_replication_mode=tf.distribute.InputReplicationMode.PER_REPLICA,
    )
    pipeline = gl.Pipeline(source, *STAGES, Batch(4), seed=SEED)

    def of_replica(context: Any) -> Any:
        number = context.input_pipeline_id
        return loaded(pipeline, number, shard=gl.Shard(number, context.num_input_pipelines))

    with strategy.scope():
        dataset = strategy.distribute_datasets_from_function(of_replica, options)
    seen = []
    for images, labels in dataset:
        for replica, (image, label) in enumerate(
            zip(*map(strategy.experimental_local_results, (images, labels)), strict=True)
        ):
            assert image.backing_device.endswith(device(replica))
            seen.append(label.numpy())
    assert sorted(np.concatenate(seen)) == sorted(source.labels)
