"""Bounds the memory that decoding a file takes, inside TensorFlow's graph: the rule of ``formats.memory`` as ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from greenload.sources import formats
from greenload.sources.formats import jpeg, memory


def area_of(height: Any, width: Any) -> Any:
    """Pixels; of sides that can't be, more than any limit."""
    import tensorflow as tf

    # Sides of 2**31 and more would overflow as a product.
    sane = (height > 0) & (width > 0) & (height < 1 << 31) & (width < 1 << 31)
    return tf.where(sane, height * width, np.int64(1) << 62)


def most_pixels(kind: str, max_bytes: int) -> int:
    """How many pixels of a kind may be decoded in so many bytes."""
    return min((formats.MAX_VALUES - 1) // 3, max_bytes // memory.PIXEL_BYTES[kind])


def among(value: Any, numbers: tuple[int, ...]) -> Any:
    """Whether an int64 is one of some numbers."""
    import tensorflow as tf

    return tf.reduce_any(value == tf.constant(numbers, tf.int64))


def jpeg_within(data: Any, shape: Any, max_bytes: int) -> Any:
    """A JPEG's bytes as ``formats.plain`` gives them, once it is clear that decoding it takes at most so many.

    Args:
        data: the file's bytes.
        shape: int32 ``[3]``, of its header.
        max_bytes: the limit.
    """
    import tensorflow as tf

    most = [most_pixels("CMYK JPEG" if channels == 4 else "JPEG", max_bytes) for channels in range(5)]
    area = tf.reduce_prod(tf.cast(shape[:2], tf.int64))  # sides of 16 bits
    within = area <= tf.gather(tf.constant(most, tf.int64), shape[2])
    # The bare operation: tf.debugging.Assert puts it into a branch.
    assertion = tf.raw_ops.Assert(condition=within, data=["too large"])
    with tf.control_dependencies([assertion] if assertion is not None else []):
        checked = tf.identity(data)

    def of_light() -> Any:
        return tf.strings.join([tf.strings.substr(checked, 0, 2), jpeg.ADOBE, tf.strings.substr(checked, 2, -1)])

    return tf.cond(shape[2] == 4, of_light, lambda: checked)
