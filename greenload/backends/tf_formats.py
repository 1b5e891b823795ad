"""Every format that TensorFlow decodes, as ops on one file's bytes; what ``formats.header`` refuses is refused here.

TensorFlow's own decoders are not enough: of an animated WebP they corrupt the heap, a GIF's frames they allocate by
whatever sizes it claims, a palette's indices they take for grey.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

from greenload import formats
from greenload.formats import jpeg as exif
from greenload.formats import others


def decode_full(data: Any, kinds: Collection[str] | None = None) -> Any:
    """A whole file to uint8 ``[H, W, 3]``: what decides whether a record is good.

    Args:
        data: a file's bytes, a scalar string tensor.
        kinds: the kinds of files to accept, of ``formats.support("tf")``; all of these if not given.
    """
    import tensorflow as tf

    def jpeg() -> Any:
        return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")

    accepted = formats.support("tf") if kinds is None else tuple(kinds)
    return tf.cond(is_jpeg(data), jpeg, lambda: _others(accepted)(data))


@functools.cache
def _others(kinds: tuple[str, ...]) -> Any:
    """The decoder of everything but JPEG. It isn't inlined: a branch that is not taken still costs a visit to each of
    its ops, and these hundreds would take as long as decoding a photograph."""
    import tensorflow as tf

    starts = [("PNG", b"\x89PNG\r\n\x1a\n", _png), ("BMP", b"BM", _bmp), ("WebP", b"RIFF", _webp)]
    starts += [("GIF", b"GIF87a", _gif), ("GIF", b"GIF89a", _gif)]

    def decode(data: Any) -> Any:
        cases = [
            (tf.strings.substr(data, 0, len(start)) == start, lambda one=one: one(data, kinds))
            for kind, start, one in starts
            if kind in kinds
        ]
        return tf.case(cases, default=lambda: _checked(tf.zeros((1, 1, 3), tf.uint8), tf.constant(False)))

    return tf.function(
        decode,
        input_signature=[tf.TensorSpec((), tf.string)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )


def is_jpeg(data: Any) -> Any:
    """Whether bytes begin as a JPEG does."""
    import tensorflow as tf

    return tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff"


def _checked(value: Any, condition: Any) -> Any:
    """``value``, once a condition holds."""
    import tensorflow as tf

    with tf.control_dependencies([tf.debugging.Assert(condition, ["not an image that is read"])]):
        return tf.identity(value)


def _bytes(data: Any, start: Any, count: int) -> Any:
    """``count`` bytes as int64. Where there are fewer, what uses them fails."""
    import tensorflow as tf

    return tf.cast(tf.io.decode_raw(tf.strings.substr(data, start, count), tf.uint8), tf.int64)


def _number(values: Any, big: bool = False) -> Any:
    """Bytes ``[k]`` as one unsigned number."""
    import tensorflow as tf

    weights = [256**k for k in range(values.shape[0])]
    return tf.reduce_sum(values * tf.constant(weights[::-1] if big else weights, tf.int64))


def _fields(data: Any, count: int) -> Any:
    """A function that gives a number of some of the first ``count`` bytes, which must be there."""
    import tensorflow as tf

    head = tf.ensure_shape(_bytes(data, 0, count), (count,))

    def field(at: int, size: int, big: bool = False) -> Any:
        return _number(head[at : at + size], big)

    return field


def _fits(height: Any, width: Any) -> Any:
    return (height > 0) & (width > 0) & (height * width * 3 < formats.MAX_VALUES)


def _png(data: Any, kinds: Collection[str]) -> Any:
    import tensorflow as tf

    field = _fields(data, 33)
    width, height, depth = field(16, 4, True), field(20, 4, True), field(24, 1)
    # Sides of 2**31 and more would overflow as a product.
    small = (width < 1 << 31) & (height < 1 << 31)
    accepted = (depth < 16) | ("16-bit PNG" in kinds)
    good = _checked(data, small & _fits(height, width) & accepted)

    def sixteen() -> Any:
        # The nearest of 256 levels, v / 257 rounded, in integers: exact for all 65,536.
        values = tf.cast(tf.io.decode_png(good, channels=3, dtype=tf.uint16), tf.int32)
        return tf.cast(tf.bitwise.right_shift(values * 255 + 32895, 16), tf.uint8)

    return tf.cond(depth == 16, sixteen, lambda: tf.io.decode_png(good, channels=3))


def _bmp(data: Any, kinds: Collection[str]) -> Any:
    import tensorflow as tf

    field = _fields(data, 54)

    def signed(at: int) -> Any:
        value = field(at, 4)
        return tf.where(value < 1 << 31, value, value - (1 << 32))

    offset, size, bits, width, height = field(10, 4), field(14, 4), field(28, 2), signed(18), tf.abs(signed(22))
    kind = (
        _among(size, others.BMP_HEADERS) & _among(bits, others.BMP_DEPTHS) & (field(26, 2) == 1) & (field(30, 4) == 0)
    )
    needed = offset + height * ((width * bits + 31) // 32 * 4)
    whole = (offset >= 14 + size) & (needed <= tf.cast(tf.strings.length(data), tf.int64))
    good = _checked(data, kind & _fits(height, width) & whole)
    # TensorFlow refuses bytes appended. 32-bit pixels end in alpha, or in nothing.
    return tf.io.decode_bmp(tf.strings.substr(good, tf.constant(0, needed.dtype), needed))[..., :3]


def _webp(data: Any, kinds: Collection[str]) -> Any:
    import tensorflow as tf

    field, first = _fields(data, 30), tf.strings.substr(data, 12, 4)
    extended, lossless = first == b"VP8X", first == b"VP8L"
    bits = field(21, 4)
    width = tf.where(extended, field(24, 3) + 1, tf.where(lossless, bits % (1 << 14) + 1, field(26, 2) % (1 << 14)))
    height = tf.where(
        extended, field(27, 3) + 1, tf.where(lossless, (bits // (1 << 14)) % (1 << 14) + 1, field(28, 2) % (1 << 14))
    )
    named = (tf.strings.substr(data, 8, 4) == b"WEBP") & (extended | lossless | (first == b"VP8 "))
    still = ~(extended & ((field(20, 1) & others.WEBP_ANIMATED) > 0))
    whole = field(4, 4) + 8 <= tf.cast(tf.strings.length(data), tf.int64)
    good = _checked(data, named & still & whole & _fits(height, width))
    return tf.io.decode_webp(good)[0, ..., :3]


def _gif(data: Any, kinds: Collection[str]) -> Any:
    """The first frame alone, at the origin: a GIF is cut behind it, as TensorFlow would decode all."""
    import tensorflow as tf

    raw = tf.cast(tf.io.decode_raw(data, tf.uint8), tf.int32)

    def colours(flags: Any) -> Any:
        return tf.where(flags & 0x80 > 0, tf.bitwise.left_shift(3, (flags & 7) + 1), 0)

    def blocks(at: Any) -> Any:
        (end,) = tf.while_loop(lambda at: raw[at] > 0, lambda at: (at + raw[at] + 1,), (at,))
        return end + 1

    (frame,) = tf.while_loop(lambda at: raw[at] == 0x21, lambda at: (blocks(at + 2),), (13 + colours(raw[10]),))
    width, height = (tf.cast(raw[frame + k] + 256 * raw[frame + k + 1], tf.int64) for k in (5, 7))
    good = _checked(data, (raw[frame] == 0x2C) & _fits(height, width))
    end = blocks(frame + 11 + colours(raw[frame + 9]))
    alone = [
        tf.strings.substr(good, 0, frame + 1),
        tf.constant(b"\0\0\0\0"),
        tf.strings.substr(good, frame + 5, end - frame - 5),
        tf.constant(b";"),
    ]
    return tf.io.decode_gif(tf.strings.join(alone))[0]


def _among(value: Any, numbers: tuple[int, ...]) -> Any:
    import tensorflow as tf

    return tf.reduce_any(value == tf.constant(numbers, tf.int64))


def orientation(data: Any) -> Any:
    """``formats.orientation`` as ops: int64, 1 … 8."""
    import tensorflow as tf

    parts = tf.strings.split(tf.strings.substr(data, 0, exif.EXIF_WITHIN), sep=exif.EXIF, maxsplit=1)
    at = tf.strings.length(parts[0])
    app1 = tf.strings.substr(parts[0], tf.maximum(at - 4, 0), 2) == b"\xff\xe1"

    def read() -> Any:
        block = tf.io.decode_raw(tf.strings.substr(data, at, exif.EXIF_BYTES), tf.uint8, fixed_length=exif.EXIF_BYTES)
        block = tf.ensure_shape(tf.cast(block, tf.int64), (exif.EXIF_BYTES,))
        order = tf.strings.substr(data, at + 6, 2)
        big = order == b"MM"

        def number(values: Any) -> Any:
            """Bytes ``[…, k]`` in the file's order."""
            weights = tf.constant([256**k for k in range(values.shape[-1])], tf.int64)
            return tf.reduce_sum(values * tf.where(big, weights[::-1], weights), -1)

        size = 12 * exif.EXIF_ENTRIES
        directory = number(block[10:14])
        sane = (big | (order == b"II")) & (directory <= exif.EXIF_BYTES - 8 - size)
        start = tf.where(sane, directory, 0) + 6
        count = number(tf.ensure_shape(block[start : start + 2], (2,)))
        entries = tf.reshape(block[start + 2 : start + 2 + size], (exif.EXIF_ENTRIES, 12))
        tags = (number(entries[:, :2]) == exif.ORIENTATION) & (number(entries[:, 2:4]) == 3)
        tags &= (number(entries[:, 4:8]) == 1) & (tf.range(exif.EXIF_ENTRIES, dtype=tf.int64) < count)
        value = number(tf.gather(entries[:, 8:10], tf.argmax(tags)))
        return tf.where(sane & tf.reduce_any(tags) & (value >= 1) & (value <= 8), value, 1)

    found = (tf.size(parts) > 1) & (at >= 4) & app1 & is_jpeg(data)
    return tf.cond(found, read, lambda: tf.constant(1, tf.int64))
