"""Keras, "Image classification from scratch": a folder of classes, augmentation as a map, prefetch.

In our own words after https://keras.io/examples/vision/image_classification_from_scratch/.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

AUGMENTATIONS = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]


def data_augmentation(images: Any) -> Any:
    """Every augmentation, one after the other, on a batch."""
    for layer in AUGMENTATIONS:
        images = layer(images)
    return images


def make_dataset(data: str) -> tf.data.Dataset:
    """What the example trains on."""
    train = keras.utils.image_dataset_from_directory(
        data, validation_split=0.2, subset="training", seed=1337, image_size=(180, 180), batch_size=32
    )
    train = train.map(lambda images, labels: (data_augmentation(images), labels), num_parallel_calls=tf.data.AUTOTUNE)
    return train.prefetch(tf.data.AUTOTUNE)
