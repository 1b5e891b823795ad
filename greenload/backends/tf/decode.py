"""Decodes files in TensorFlow, each by the format of its first bytes, and no more of it than a window needs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from greenload.array_ops import TENSORFLOW
from greenload.backends import orientation as orienting
from greenload.backends.base import ENCODED, TableRow
from greenload.backends.tf.formats import ToReadable, as_it_is, decode_full, ends_as_jpeg
from greenload.backends.tf.lowerings import Wanted, cropped, resolve
from greenload.backends.tf.memory import jpeg_within
from greenload.backends.tf.orientation import orientation
from greenload.backends.tf.truncation import decode_whole, filled
from greenload.specs import ImageSpec
from greenload.stages import primitives as p
from greenload.system.frameworks import tf


def decode(
    primitive: p.Decode,
    before: ImageSpec,
    after: ImageSpec,
    to_readable: ToReadable = as_it_is,
    kinds: Collection[str] | None = None,
) -> Any:
    """The whole image; ``to_readable`` is of ``tf_readers``, ``kinds`` as ``decode_whole`` takes them."""

    def lower(data: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        turn, data = _oriented(data) if primitive.exif else (None, data)
        image = decode_whole(data, kinds, primitive.max_bytes, primitive.truncated, to_readable)
        if turn is not None:
            image = _upright(image, turn)
        image.set_shape((None, None, 3))
        return image, {}

    return lower


def decode_crop(
    primitive: p.DecodeCrop, before: ImageSpec, after: ImageSpec, to_readable: ToReadable = as_it_is
) -> Any:
    """A window: of JPEG no more is decoded than it needs; ``to_readable`` is of ``tf_readers``."""

    def lower(data: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        turn, data = _oriented(data) if primitive.exif else (None, data)

        def inside() -> Any:
            shape = tf.io.extract_jpeg_shape(data)
            fitting = jpeg_within(data, shape, primitive.max_bytes)
            if turn is None:
                params = wanted(shape[0], shape[1])
                return window_of(fitting, shape, tf.cast(params["window"], tf.int32)), params
            ops = TENSORFLOW
            height, width = orienting.upright_size(ops.i64(shape[0]), ops.i64(shape[1]), turn, ops)
            params = wanted(height, width)
            window = orienting.stored_window(params["window"], height, width, turn, ops)
            return _upright(window_of(fitting, shape, tf.cast(window, tf.int32)), turn), params

        def whole() -> Any:
            file = data if primitive.truncated == "error" else filled(data, primitive.max_bytes)
            image = decode_full(file, None, primitive.max_bytes, to_readable)
            if turn is not None:
                image = _upright(image, turn)
            params = resolve(wanted, image)
            return cropped(image, params["window"]), params

        # A cropped decode doesn't see a file cut behind its window: without an end marker the whole is decoded.
        image, params = tf.cond(ends_as_jpeg(data), inside, whole)
        image.set_shape((None, None, 3))
        return image, params

    return lower


def _oriented(data: Any) -> tuple[Any, Any]:
    """The orientation that a file states, and the file, once that is known.

    Where an op fails while a function is called beside it, such as a walk to the orientation, the call is cancelled,
    and now and then that is what is raised, in place of the error: it isn't taken for one of the file's.
    """
    turn = orientation(data)
    with tf.control_dependencies([turn]):
        return turn, tf.identity(data)


def window_of(data: Any, shape: Any, window: Any) -> Any:
    """A window, int32 ``[4]``, of a JPEG of a shape."""
    start, size = window[:2], window[2:]
    # The decoder upsamples chroma wrongly in a window's outermost columns; one pixel more on every side, cut off again,
    # makes the window's own pixels those of a full decode.
    margin = tf.where(is_baseline(data, shape), 1, _SMOOTHED + 1)
    low = tf.maximum(start - margin, 0)
    high = tf.minimum(start + size + margin, shape[:2])
    wider = tf.io.decode_and_crop_jpeg(data, tf.concat([low, high - low], 0), channels=3, dct_method="INTEGER_ACCURATE")
    begin = tf.concat([start - low, [0]], 0)
    return tf.slice(wider, begin, tf.concat([size, [3]], 0))


_SMOOTHED = 64
"""So far from a pixel lie others that decide it where a progressive JPEG is partial: two blocks of 8×8, where they are
spread over as many as four times the pixels. What a window begins with the decoder takes for the image's border."""
_FRAME_WITHIN, _FRAME_SHARE = 4096, 8
"""In so many first bytes the frame header is looked for, or in this part of the file where that is more: in front of it
stand tables, and in large files a thumbnail."""


def is_baseline(data: Any, shape: Any) -> Any:
    """Whether it is plain that a JPEG of a shape is baseline: by a frame header that states its sides."""
    front = tf.strings.substr(data, 0, tf.maximum(tf.strings.length(data) // _FRAME_SHARE, _FRAME_WITHIN))
    frames = tf.raw_ops.StringSplitV2(input=[front], sep=b"\xff\xc0").values
    # Behind the marker stand the segment's length in two bytes, 8 bits, rows and columns in two each, and channels.
    stated = tf.io.decode_raw(frames, tf.int64, little_endian=False, fixed_length=8)
    length, rows, columns, channels = 1 << 48, 1 << 24, 1 << 8, 1
    weights = tf.constant([rows, columns, 3 * length + channels], tf.int64)
    expected = tf.reduce_sum(tf.cast(shape, tf.int64) * weights) + (8 * length + (8 << 40))
    return tf.reduce_any(stated == expected)


def _upright(image: Any, turn: Any) -> Any:
    """A stored image as its orientation, an int64 scalar, says that it is to be seen."""

    def turned(value: int) -> Any:
        axes = [0] if value in orienting.OVERTURNED else []
        axes += [1] if value in orienting.MIRRORED else []
        done = tf.transpose(image, (1, 0, 2)) if value in orienting.TRANSPOSED else image
        return tf.reverse(done, axes) if axes else tf.identity(done)

    branches = [lambda value=value: turned(value) for value in range(1, 9)]
    return tf.switch_case(tf.cast(turn, tf.int32) - 1, branches)


ROWS = (TableRow(p.Decode, decode, ENCODED), TableRow(p.DecodeCrop, decode_crop, ENCODED))
