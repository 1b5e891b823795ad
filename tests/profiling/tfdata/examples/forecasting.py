"""TensorFlow, "Time series forecasting" and the tf.data guide's windows: overlapping windows of a series, in batches.

In our own words after https://www.tensorflow.org/guide/data#time_series_windowing.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

LENGTH = 24


def to_sequence(window: tf.data.Dataset) -> tf.data.Dataset:
    """A window as one tensor."""
    return window.batch(LENGTH + 1, drop_remainder=True)


def split(sequence: Any) -> Any:
    """What is known, and what is to be foretold."""
    return sequence[:-1], sequence[-1]


def make_dataset(steps: int = 4000) -> tf.data.Dataset:
    """What the guide trains on."""
    series = tf.data.Dataset.range(steps).map(lambda t: tf.sin(tf.cast(t, tf.float32) / 9), name="series")
    windows = series.window(LENGTH + 1, shift=4, drop_remainder=True).flat_map(to_sequence)
    return windows.map(split).filter(lambda past, _: past[0] > -0.9).shuffle(100).batch(32)
