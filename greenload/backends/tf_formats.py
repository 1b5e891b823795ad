"""Every format that TensorFlow decodes, as ops on one file's bytes; what ``formats.header`` refuses is refused here.

TensorFlow's own decoders are not enough: of an animated WebP they corrupt the heap, a GIF's frames they allocate by
whatever sizes it claims, a palette's indices they take for grey.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

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
    """The decoder of everything but JPEG, as few ops as possible: an epoch begins with a pass over all of them, and a
    branch that isn't taken costs a visit to each of its ops, unless it is a function that isn't inlined."""
    import tensorflow as tf

    branches: dict[str, Callable[[Any], Any]] = {
        "PNG": lambda data: tf.io.decode_png(data, channels=3),
        "16-bit PNG": _sixteen,
        "BMP": _bmp,
        "WebP": lambda data: tf.io.decode_webp(data)[0, ..., :3],
        "GIF": _gif,
    }
    chosen = [kind for kind in branches if kind in kinds]

    def decode(data: Any) -> Any:
        known = _kinds(data)
        # Nothing decodes as nothing: that is how the rest is refused.
        which = tf.argmax(tf.stack([tf.constant(False), *(known[kind] for kind in chosen)]))
        refuse = functools.partial(tf.io.decode_png, tf.strings.substr(data, 0, 0), channels=3)
        return tf.switch_case(
            tf.cast(which, tf.int32), [refuse, *(functools.partial(branches[kind], data) for kind in chosen)]
        )

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


_HEAD = 56
# Where numbers lie in the first bytes: name, place, size, whether its most significant byte comes first.
_FIELDS = (
    ("png width", 16, 4, True),
    ("png height", 20, 4, True),
    ("png depth", 24, 1, True),
    ("bmp offset", 10, 4, False),
    ("bmp header", 14, 4, False),
    ("bmp width", 18, 4, False),
    ("bmp height", 22, 4, False),
    ("bmp planes", 26, 2, False),
    ("bmp bits", 28, 2, False),
    ("bmp compression", 30, 4, False),
    ("riff size", 4, 4, False),
    ("extended flags", 20, 1, False),
    ("extended width", 24, 3, False),
    ("extended height", 27, 3, False),
    ("lossless sides", 21, 4, False),
    ("lossy width", 26, 2, False),
    ("lossy height", 28, 2, False),
)


def _fields(data: Any) -> dict[str, Any]:
    """Numbers of the first bytes by name, int64; of bytes that are not there, zeros count."""
    import tensorflow as tf

    weights = np.zeros((len(_FIELDS), _HEAD), np.int64)
    for row, (_, place, size, big) in enumerate(_FIELDS):
        powers = [256**k for k in range(size)]
        weights[row, place : place + size] = powers[::-1] if big else powers
    head = tf.io.decode_raw(tf.strings.substr(data, 0, _HEAD), tf.uint8, fixed_length=_HEAD)
    values = tf.unstack(tf.linalg.matvec(tf.constant(weights), tf.cast(head, tf.int64)), num=len(_FIELDS))
    return {field[0]: value for field, value in zip(_FIELDS, values, strict=True)}


def _kinds(data: Any) -> dict[str, Any]:
    """Whether a file is of each kind, and as ``formats.header`` wants it; a GIF is looked at when it is decoded."""
    import tensorflow as tf

    number, size = _fields(data), tf.cast(tf.strings.length(data), tf.int64)
    start, first = tf.strings.substr(data, 0, 8), tf.strings.substr(data, 12, 4)
    png = (start == b"\x89PNG\r\n\x1a\n") & _fits(number["png height"], number["png width"])
    deep = number["png depth"] == 16
    bmp = (tf.strings.substr(data, 0, 2) == b"BM") & (size >= 54) & (number["bmp compression"] == 0)
    bmp &= _among(number["bmp header"], others.BMP_HEADERS) & _among(number["bmp bits"], others.BMP_DEPTHS)
    bmp &= (number["bmp planes"] == 1) & _fits(tf.abs(_signed(number["bmp height"])), number["bmp width"])
    bmp &= (number["bmp offset"] >= 14 + number["bmp header"]) & (_bmp_bytes(number) <= size)
    extended, lossless = first == b"VP8X", first == b"VP8L"
    sides = number["lossless sides"]
    width = tf.where(lossless, sides % 16384 + 1, number["lossy width"] % 16384)
    height = tf.where(lossless, sides // 16384 % 16384 + 1, number["lossy height"] % 16384)
    width = tf.where(extended, number["extended width"] + 1, width)
    height = tf.where(extended, number["extended height"] + 1, height)
    webp = (tf.strings.substr(data, 0, 4) == b"RIFF") & (tf.strings.substr(data, 8, 4) == b"WEBP") & (size >= 30)
    webp &= (extended | lossless | (first == b"VP8 ")) & (number["riff size"] + 8 <= size) & _fits(height, width)
    webp &= ~(extended & (number["extended flags"] // others.WEBP_ANIMATED % 2 == 1))
    gif = tf.strings.substr(data, 0, 6)
    return {
        "PNG": png & ~deep,
        "16-bit PNG": png & deep,
        "BMP": bmp,
        "WebP": webp,
        "GIF": (gif == b"GIF87a") | (gif == b"GIF89a"),
    }


def _fits(height: Any, width: Any) -> Any:
    # Sides of 2**31 and more would overflow as a product.
    sides = (height > 0) & (width > 0) & (height < 1 << 31) & (width < 1 << 31)
    return sides & (height * width < -(-formats.MAX_VALUES // 3))


def _among(value: Any, numbers: tuple[int, ...]) -> Any:
    import tensorflow as tf

    return tf.reduce_any(value == tf.constant(numbers, tf.int64))


def _signed(value: Any) -> Any:
    import tensorflow as tf

    return tf.where(value < 1 << 31, value, value - (1 << 32))


def _bmp_bytes(number: Mapping[str, Any]) -> Any:
    """How long a BMP must be."""
    import tensorflow as tf

    stride = (number["bmp width"] * number["bmp bits"] + 31) // 32 * 4
    return number["bmp offset"] + tf.abs(_signed(number["bmp height"])) * stride


def _sixteen(data: Any) -> Any:
    """The nearest of 256 levels, v / 257 rounded, in integers: exact for all 65,536."""
    import tensorflow as tf

    values = tf.cast(tf.io.decode_png(data, channels=3, dtype=tf.uint16), tf.int32)
    return tf.cast((values * 255 + 32895) // 65536, tf.uint8)


def _bmp(data: Any) -> Any:
    import tensorflow as tf

    # TensorFlow refuses bytes appended. 32-bit pixels end in alpha, or in nothing.
    return tf.io.decode_bmp(tf.strings.substr(data, tf.constant(0, tf.int64), _bmp_bytes(_fields(data))))[..., :3]


def _checked(value: Any, condition: Any) -> Any:
    """``value``, once a condition holds."""
    import tensorflow as tf

    with tf.control_dependencies([tf.debugging.Assert(condition, ["not an image that is read"])]):
        return tf.identity(value)


def _gif(data: Any) -> Any:
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
