"""TensorFlow, "Load text": lines of several files, labelled, joined, shuffled, made numbers, padded into batches.

In our own words after https://www.tensorflow.org/tutorials/load_data/text.
"""

from __future__ import annotations

import functools
import os
import random
from typing import Any

import tensorflow as tf

AUTHORS = ("cowper", "derby", "butler")
WORDS = ("sing", "goddess", "the", "anger", "of", "peleus", "son", "achilles", "and", "its", "devastation")


def write_data(folder: str, lines: int = 600) -> None:
    """Write a file of lines for each author."""
    drawn = random.Random(0)
    for author in AUTHORS:
        with open(os.path.join(folder, f"{author}.txt"), "w", encoding="utf-8") as file:
            file.writelines(" ".join(drawn.choices(WORDS, k=drawn.randint(3, 14))) + "\n" for _ in range(lines))


def labeler(line: Any, label: Any) -> Any:
    """A line and who translated it."""
    return line, tf.cast(label, tf.int64)


def tokenize(line: Any, label: Any) -> Any:
    """A line's words, in small letters."""
    return tf.strings.split(tf.strings.lower(line)), label


def to_numbers(tokens: Any, label: Any, vocabulary: Any) -> Any:
    """Each word as its place in the vocabulary."""
    return vocabulary.lookup(tokens), label


def make_dataset(data: str) -> tf.data.Dataset:
    """What the tutorial trains on."""
    keys, values = tf.constant(WORDS), tf.range(2, len(WORDS) + 2, dtype=tf.int64)
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default_value=1)
    labelled = [
        tf.data.TextLineDataset(os.path.join(data, f"{author}.txt")).map(functools.partial(labeler, label=label))
        for label, author in enumerate(AUTHORS)
    ]
    lines = functools.reduce(lambda one, other: one.concatenate(other), labelled)
    lines = lines.shuffle(1000, reshuffle_each_iteration=False)
    numbers = lines.map(tokenize).map(functools.partial(to_numbers, vocabulary=table))
    return numbers.padded_batch(64).prefetch(tf.data.AUTOTUNE)
