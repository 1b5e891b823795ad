"""Datasets of every kind that tf.data makes, and their elements as text."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

Range = tf.data.Dataset.range


def plus(x: Any, k: int) -> Any:
    """Adds."""
    return x + k


def numbers() -> Any:
    """Gives five."""
    yield from range(5)


def lines(folder: Path) -> str:
    """A file of three lines."""
    file = folder / "lines.txt"
    file.write_text("one\ntwo\n\n")
    return str(file)


def records(folder: Path) -> list[str]:
    """Three files of five records."""
    files = [str(folder / f"{n}.rec") for n in range(3)]
    for file in files:
        with tf.io.TFRecordWriter(file) as writer:
            for n in range(5):
                writer.write(f"{file[-5]}:{n}".encode())
    return files


def growing() -> Any:
    """Elements of growing length."""
    return Range(7).map(tf.range)


CASES: dict[str, Callable[[Path], Any]] = {
    "map": lambda _: Range(9).map(functools.partial(plus, k=3), num_parallel_calls=2, deterministic=True),
    "filter": lambda _: Range(9).filter(lambda x: x % 2 == 0),
    "shuffle": lambda _: Range(9).shuffle(4, seed=1).repeat(2).prefetch(1),
    "shuffle, the same each time": lambda _: Range(9).shuffle(4, seed=1, reshuffle_each_iteration=False),
    "batches": lambda _: Range(9).batch(4, num_parallel_calls=2).unbatch().batch(2, drop_remainder=True).rebatch(3),
    "padded": lambda _: growing().padded_batch(3, padding_values=tf.constant(-1, tf.int64)),
    "ragged": lambda _: growing().ragged_batch(2),
    "sparse": lambda _: growing().apply(tf.data.experimental.dense_to_sparse_batch(3, [8])),
    "buckets": lambda _: growing().bucket_by_sequence_length(lambda x: tf.shape(x)[0], [3, 5], [2, 2, 2]),
    "zip": lambda _: tf.data.Dataset.zip((Range(5), {"a": Range(9).skip(2)})).enumerate(),
    "one branch twice": lambda _: tf.data.Dataset.zip((Range(5).shuffle(5, seed=2),) * 2),
    "choose": lambda _: tf.data.Dataset.choose_from_datasets([Range(5), Range(3)], Range(2).repeat(4)),
    "sample": lambda _: tf.data.Dataset.sample_from_datasets([Range(5), Range(9).skip(1)], [0.3, 0.7], seed=3),
    "concatenate": lambda _: Range(5).concatenate(Range(3)).cache().take(7).shard(2, 1),
    "windows": lambda _: Range(9).window(3, shift=2).flat_map(lambda w: w.batch(3)),
    "scan": lambda _: Range(9).scan(tf.constant(0, tf.int64), lambda s, x: (s + x, s + x)).take_while(lambda x: x < 20),
    "dicts": lambda _: tf.data.Dataset.from_tensor_slices({"a": [1, 2], "b": ([1.0, 2.0],)}).map(lambda d: d).batch(2),
    "generator": lambda _: tf.data.Dataset.from_generator(numbers, output_signature=tf.TensorSpec((), tf.int32)),
    "records": lambda f: tf.data.TFRecordDataset(records(f)).map(tf.strings.length),
    "records, in parallel": lambda f: (
        tf.data.TFRecordDataset(records(f), num_parallel_reads=2).ignore_errors().unique()
    ),
    "lines": lambda f: tf.data.TextLineDataset(lines(f)).filter(lambda line: tf.strings.length(line) > 0),
    "interleave": lambda f: Range(3).interleave(lambda n: Range(n, 9), cycle_length=2, block_length=2),
    "interleave, parallel": lambda f: Range(3).interleave(
        lambda n: Range(n, 9), cycle_length=2, num_parallel_calls=2, deterministic=True
    ),
    "random": lambda _: tf.data.Dataset.random(seed=4, rerandomize_each_iteration=True).take(4),
    "snapshot": lambda f: Range(5).map(lambda x: x + 1).snapshot(str(f / "never written")),
    "file cache": lambda f: Range(5).cache(str(f / "never written")),
    "options": lambda _: Range(8).batch(2).with_options(tf.data.Options()),
    "cardinality": lambda _: Range(8).apply(tf.data.experimental.assert_cardinality(8)),
}


def elements(dataset: Any) -> list[str]:
    """All elements, as text."""
    return [
        str([np.asarray(part).tolist() for part in tf.nest.flatten(one, expand_composites=True)]) for one in dataset
    ]
