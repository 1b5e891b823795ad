"""TensorFlow, "Load and preprocess images": a list of files, split with skip, cached, shuffled, batched.

In our own words after https://www.tensorflow.org/tutorials/load_data/images.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import tensorflow as tf

SIDE, BATCH = 180, 32


def get_label(path: Any) -> Any:
    """The class is the folder's name."""
    return tf.strings.split(path, os.sep)[-2]


def decode_img(contents: Any) -> Any:
    """A picture of the size that the model takes."""
    return tf.image.resize(tf.io.decode_jpeg(contents, channels=3), [SIDE, SIDE])


def process_path(path: Any) -> Any:
    """A file's picture and label."""
    label = get_label(path)
    return decode_img(tf.io.read_file(path)), label


def make_dataset(data: str, cached: bool = True) -> tf.data.Dataset:
    """What the tutorial trains on."""
    count = len(list(pathlib.Path(data).glob("*/*.jpg")))
    files = tf.data.Dataset.list_files(os.path.join(data, "*/*"), shuffle=False)
    files = files.shuffle(count, reshuffle_each_iteration=False).skip(int(count * 0.2))
    train = files.map(process_path, num_parallel_calls=tf.data.AUTOTUNE)
    if cached:
        train = train.cache()
    return train.shuffle(buffer_size=1000).batch(BATCH).prefetch(buffer_size=tf.data.AUTOTUNE)
