"""Keras, "MixUp augmentation for image classification": two shuffles of one set, zipped, mixed batch by batch.

In our own words after https://keras.io/examples/vision/mixup/; the photographs stand for Fashion-MNIST as arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

BATCH = 64


def arrays(samples: int = 1024) -> Any:
    """Small grey pictures as floats, and their classes one-hot."""
    random = np.random.default_rng(0)
    images = random.random((samples, 28, 28, 1), np.float32)
    return images, np.eye(10, dtype=np.float32)[random.integers(0, 10, samples)]


def sample_beta_distribution(size: int, alpha: float = 0.2) -> Any:
    """Draws from Beta(alpha, alpha), as a quotient of two gammas."""
    one = tf.random.gamma(shape=[size], alpha=alpha)
    other = tf.random.gamma(shape=[size], alpha=alpha)
    return one / (one + other)


def mix_up(one: Any, other: Any, alpha: float = 0.2) -> Any:
    """Two batches, blended."""
    (images_one, labels_one), (images_two, labels_two) = one, other
    size = tf.shape(images_one)[0]
    shares = sample_beta_distribution(size, alpha)
    wide, flat = tf.reshape(shares, (size, 1, 1, 1)), tf.reshape(shares, (size, 1))
    return images_one * wide + images_two * (1 - wide), labels_one * flat + labels_two * (1 - flat)


def make_dataset() -> tf.data.Dataset:
    """What the example trains on."""
    one, two = (
        tf.data.Dataset.from_tensor_slices(arrays()).shuffle(BATCH * 100, seed=seed).batch(BATCH) for seed in (1, 2)
    )
    zipped = tf.data.Dataset.zip((one, two))
    return zipped.map(lambda one, two: mix_up(one, two, alpha=0.2), num_parallel_calls=tf.data.AUTOTUNE)
