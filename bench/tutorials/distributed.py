"""Two replicas on two logical processors: Keras' fit, a loop over a distributed dataset, and one from a function."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
print("replicas:", strategy.num_replicas_in_sync)

rows = np.random.default_rng(0).normal(size=(128, 6)).astype("float32")


def scaled(row):
    return row / 10.0, tf.reduce_sum(row, keepdims=True)


def made(batch_size):
    return tf.data.Dataset.from_tensor_slices(rows).map(scaled, num_parallel_calls=2).batch(batch_size)


with strategy.scope():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
print("epochs:", len(model.fit(made(16), epochs=2, verbose=0).history["loss"]))


@tf.function
def total(batch):
    replicas = strategy.run(lambda inputs: tf.reduce_sum(inputs[0]), (batch,))
    return strategy.reduce("SUM", replicas, axis=None)


print("sums:", [round(float(total(batch)), 2) for batch in strategy.experimental_distribute_dataset(made(32))])


def from_context(context):
    return made(context.get_per_replica_batch_size(32)).map(lambda x, y: (x * 2, y)).take(4)


distributed = strategy.distribute_datasets_from_function(from_context)
print("doubled:", [round(float(total(batch)), 2) for batch in distributed])
