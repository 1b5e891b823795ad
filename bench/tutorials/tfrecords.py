"""Records of examples: written, read from several files at once, parsed, and decoded."""

import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "name": tf.io.FixedLenFeature([], tf.string, default_value=""),
}


def bytes_feature(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def example(shard, number):
    noise = tf.random.stateless_uniform((40, 40, 3), (shard, number), maxval=256, dtype=tf.int32)
    feature = {
        "image": bytes_feature(tf.io.encode_png(tf.cast(noise, tf.uint8)).numpy()),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 5])),
        "name": bytes_feature(f"{shard}-{number}".encode()),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def parsed(record):
    return tf.io.parse_single_example(record, FEATURES)


def decoded(features):
    image = tf.io.decode_png(features["image"], channels=3)
    return tf.image.resize(tf.cast(image, tf.float32) / 255.0, (32, 32)), features["label"]


with tempfile.TemporaryDirectory() as folder:
    for shard in range(3):
        with tf.io.TFRecordWriter(os.path.join(folder, f"part-{shard}.tfrecord")) as writer:
            for number in range(20):
                writer.write(example(shard, number))

    files = tf.data.Dataset.list_files(os.path.join(folder, "*.tfrecord"), shuffle=False)
    records = files.interleave(tf.data.TFRecordDataset, cycle_length=3, num_parallel_calls=3, deterministic=True)
    for record in records.take(1):
        print("first:", tf.train.Example.FromString(record.numpy()).features.feature["name"].bytes_list.value)
    dataset = records.map(parsed).map(decoded, num_parallel_calls=2).shuffle(64, seed=3).batch(10).prefetch(1)
    for images, labels in dataset:
        print(images.shape, labels.numpy().tolist(), round(float(tf.reduce_sum(images)), 1))
