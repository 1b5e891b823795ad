"""Training on a watched dataset: the same batches through fit and a distribution strategy."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")

from greenload.backends.native import library, op

pytestmark = pytest.mark.skipif(not op.usable(), reason=library.why_missing() or "there are operations")

PROGRAM = """
import keras
import numpy as np
import tensorflow as tf

import greenload as gl

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def make():
    tf.keras.utils.set_random_seed(5)
    x, y = np.random.rand(64, 4).astype("float32"), np.random.rand(64, 1).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).map(lambda x, y: (x * 2, y), num_parallel_calls=2)
    dataset = dataset.cache().shuffle(64, seed=3)
    return dataset.map(lambda x, y: (x + tf.random.stateless_uniform((4,), [1, 2]), y), num_parallel_calls=2).batch(8)


def fitted(dataset, **options):
    tf.keras.utils.set_random_seed(9)
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile("sgd", "mse", **options)
    history = model.fit(dataset, epochs=2, verbose=0, validation_data=dataset)
    return history.history, model.predict(dataset.map(lambda x, y: x), verbose=0).tolist()


watched = gl.watch(make())
assert fitted(make()) == fitted(watched)
assert watched.watched.read().samples % 64 == 0
print({step.name: step.read().calls for step in watched.watched.steps})


def replicas(dataset):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        dataset = strategy.experimental_distribute_dataset(dataset)
    return [
        [part.numpy().tolist() for value in batch for part in strategy.experimental_local_results(value)]
        for _ in range(2)
        for batch in dataset
    ]


plain = replicas(make())
assert len(plain) == 16 and len(plain[0]) == 4
assert replicas(gl.watch(make())) == plain
print("same")
"""


@pytest.mark.slow
def test_fit_and_a_mirrored_strategy_see_the_same_batches() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.endswith("same\n")
