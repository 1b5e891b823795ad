"""A Python generator and Python functions inside a dataset: from_generator, py_function, ragged batches."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf


def series(stop):
    random = np.random.default_rng(42)
    for index in range(stop):
        yield index, random.normal(size=int(random.integers(1, 10))).astype("float32")


def turned(image):
    return np.rot90(image, axes=(0, 1)).copy()


def turned_by_python(image, label):
    shape = image.shape
    [image] = tf.py_function(lambda value: turned(value.numpy()), [image], [tf.float32])
    image.set_shape(shape)
    return image, label


def drawn(seed):
    return tf.random.stateless_normal((16, 16, 1), (seed, 1)), seed % 4


signature = (tf.TensorSpec((), tf.int32), tf.TensorSpec((None,), tf.float32))
numbers = tf.data.Dataset.from_generator(series, args=[30], output_signature=signature)
padded = numbers.filter(lambda index, values: index % 3 > 0).shuffle(20, seed=1).padded_batch(5)
for index, values in padded:
    print(index.numpy().tolist(), values.shape, round(float(tf.reduce_sum(values)), 2))

ragged = numbers.map(lambda index, values: values).ragged_batch(10)
print("ragged:", [int(batch.flat_values.shape[0]) for batch in ragged])

images = tf.data.Dataset.range(40).map(lambda seed: drawn(tf.cast(seed, tf.int32))).map(turned_by_python).batch(8)
print("turned:", round(sum(float(tf.reduce_sum(batch)) for batch, _ in images), 2))
