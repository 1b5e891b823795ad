"""What decoding a file takes, told inside TensorFlow's graph by the rule of ``formats.memory``."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from greenload import formats
from greenload.formats import memory


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
    """A JPEG's bytes, once it is clear that decoding it takes at most so many, by the rule of ``formats.memory``.

    Args:
        data: the file's bytes.
        shape: int32 ``[3]``, of its header.
        max_bytes: the limit.
    """
    import tensorflow as tf

    sides = tf.cast(shape[:2], tf.int64)
    # That no JPEG of these sides takes more is true of nearly all, and costs less to see than what this one takes.
    small = tf.reduce_prod(sides + memory.JPEG_PAD) <= max_bytes // memory.JPEG_MOST
    within = tf.cond(small, lambda: tf.constant(True), lambda: _jpeg_bytes()(data, sides) <= max_bytes)
    # The bare operation: tf.debugging.Assert puts it into a branch.
    found = tf.raw_ops.Assert(condition=within, data=["too large"])
    with tf.control_dependencies([found] if found is not None else []):
        return tf.identity(data)


@functools.cache
def _jpeg_bytes() -> Any:
    """``formats.memory.needed`` of a JPEG and its sides, int64 ``[2]``, as a function that isn't inlined."""
    import tensorflow as tf

    def held(raw: Any, frame: Any, scan: Any, sides: Any) -> Any:
        components = raw[frame + 9]
        factors = raw[frame + 11 : frame + 11 + 3 * components : 3]
        across, down = factors // 16, factors % 16
        units = -(-sides[1] // (8 * tf.reduce_max(across))) * -(-sides[0] // (8 * tf.reduce_max(down)))
        coefficients = 64 * units * tf.reduce_sum(across * down)
        whole = among(raw[frame + 1], memory.JPEG_WHOLE) | (raw[scan + 4] != components)
        pixels = tf.reduce_prod(sides)
        mixed = pixels * memory.PIXEL_BYTES["CMYK JPEG"]
        plain = pixels * memory.PIXEL_BYTES["JPEG"] + 2 * coefficients * tf.cast(whole, tf.int64)
        return tf.where(components == 4, mixed, plain)

    def needed(data: Any, sides: Any) -> Any:
        raw = tf.cast(tf.io.decode_raw(data, tf.uint8), tf.int64)
        size = tf.size(raw, tf.int64)

        def marker(at: Any) -> Any:
            return tf.where(raw[at] == 0xFF, raw[at + 1], 0)

        def going(count: Any, at: Any, frame: Any) -> Any:
            inside = (count < memory.JPEG_SEGMENTS) & (at + 4 <= size)
            return tf.cond(inside, lambda: (marker(at) != 0) & (marker(at) != 0xDA), lambda: False)

        def step(count: Any, at: Any, frame: Any) -> Any:
            found = marker(at)
            is_frame = (found >= 0xC0) & (found < 0xD0) & ~among(found, (0xC4, 0xC8, 0xCC))
            length = tf.where(found == 0xFF, np.int64(1), 2 + 256 * raw[at + 2] + raw[at + 3])
            return count + 1, at + length, tf.where(is_frame, at, frame)

        start = tf.constant((0, 2, 0), tf.int64)
        count, scan, frame = tf.while_loop(going, step, tuple(tf.unstack(start)))
        known = (frame > 0) & (scan + 5 <= size) & (count < memory.JPEG_SEGMENTS)
        known &= tf.cond(known, lambda: marker(scan) == 0xDA, lambda: False)
        return tf.cond(
            known,
            lambda: held(raw, frame, scan, sides),
            lambda: tf.reduce_prod(sides + memory.JPEG_PAD) * memory.JPEG_MOST,
        )

    signature = [tf.TensorSpec((), tf.string), tf.TensorSpec((2,), tf.int64)]
    return tf.function(needed, input_signature=signature, autograph=False, experimental_attributes={"_noinline": True})
