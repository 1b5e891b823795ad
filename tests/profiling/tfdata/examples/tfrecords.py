"""Keras, "How to train a Keras model on TFRecord files": records in no order, parsed, shuffled, batched.

In our own words after https://keras.io/examples/keras_recipes/tfrecord/; read through interleave as in TensorFlow's
guide "Better performance with the tf.data API".
"""

from __future__ import annotations

import glob
import os
from typing import Any

import tensorflow as tf

SIDE = 160
FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "target": tf.io.FixedLenFeature([], tf.int64),
}


def write_data(photos: str, folder: str, shards: int = 4) -> None:
    """Write the photos of class folders as TFRecords."""
    files = sorted(glob.glob(os.path.join(photos, "*/*.jpg")))
    for shard in range(shards):
        with tf.io.TFRecordWriter(os.path.join(folder, f"train-{shard}.tfrec")) as writer:
            for index, file in enumerate(files[shard::shards]):
                with open(file, "rb") as opened:
                    image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[opened.read()]))
                target = tf.train.Feature(int64_list=tf.train.Int64List(value=[index % 2]))
                features = tf.train.Features(feature={"image": image, "target": target})
                writer.write(tf.train.Example(features=features).SerializeToString())


def decode_image(contents: Any) -> Any:
    """Pixels as floats."""
    return tf.image.resize(tf.cast(tf.image.decode_jpeg(contents, channels=3), tf.float32), [SIDE, SIDE])


def read_tfrecord(example: Any) -> Any:
    """One record's picture and target."""
    parsed = tf.io.parse_single_example(example, FEATURES)
    return decode_image(parsed["image"]), tf.cast(parsed["target"], tf.int32)


def make_dataset(data: str) -> tf.data.Dataset:
    """What the example trains on."""
    files = tf.data.Dataset.list_files(os.path.join(data, "*.tfrec"), seed=5)
    unordered = tf.data.Options()
    unordered.deterministic = False
    records = files.interleave(
        lambda file: tf.data.TFRecordDataset(file).map(read_tfrecord, num_parallel_calls=tf.data.AUTOTUNE),
        cycle_length=2,
        num_parallel_calls=tf.data.AUTOTUNE,
    ).with_options(unordered)
    return records.shuffle(256).batch(32).prefetch(tf.data.AUTOTUNE)
