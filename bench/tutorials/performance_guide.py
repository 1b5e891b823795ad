"""The naive pipeline and the tuned one: prefetching, interleaving, parallel maps, caching, vectorized maps."""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf


class Recordings(tf.data.Dataset):
    """Opens a slow file, and reads slow records."""

    def _records(count):
        time.sleep(0.005)
        for index in range(count):
            time.sleep(0.001)
            yield (index,)

    def __new__(cls, count=8):
        signature = tf.TensorSpec(shape=(1,), dtype=tf.int64)
        return tf.data.Dataset.from_generator(cls._records, output_signature=signature, args=(count,))


def slow(x):
    return tf.py_function(lambda value: (time.sleep(0.001), value + 1)[1], [x], tf.int64)


def increased(x):
    return x + 1


def benchmark(name, dataset, epochs=2):
    total = 0
    for _ in range(epochs):
        for sample in dataset:
            total += int(tf.reduce_sum(sample))
    print(name, total)


benchmark("naive", Recordings())
benchmark("prefetched", Recordings().prefetch(tf.data.AUTOTUNE))
benchmark("interleaved", tf.data.Dataset.range(2).interleave(lambda _: Recordings(), num_parallel_calls=2))
benchmark("mapped", Recordings().map(slow))
benchmark("mapped in parallel", Recordings().map(slow, num_parallel_calls=tf.data.AUTOTUNE))
benchmark("cached", Recordings().map(slow).cache())
benchmark("scalar map", tf.data.Dataset.range(1000).map(increased).batch(100))
benchmark("vectorized map", tf.data.Dataset.range(1000).batch(100).map(increased))
