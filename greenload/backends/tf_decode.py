"""Decoding in TensorFlow: routed by first bytes, and no more of a file than a window needs."""

from __future__ import annotations

from typing import Any

from greenload.backends.tf_lowerings import Wanted, cropped, resolve
from greenload.specs import ImageSpec
from greenload.stages import primitives as p

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"


def decode_full(data: Any) -> Any:
    """Any supported format, wholly: what decides whether a record is good."""
    import tensorflow as tf

    def jpeg() -> Any:
        return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")

    def png() -> Any:
        eight_bit = tf.strings.substr(data, 0, 8) == _PNG
        eight_bit &= tf.strings.substr(data, 24, 1) != b"\x10"
        with tf.control_dependencies([tf.debugging.Assert(eight_bit, ["neither JPEG nor 8-bit PNG"])]):
            return tf.io.decode_png(data, channels=3)

    return tf.cond(tf.strings.substr(data, 0, 3) == _JPEG, jpeg, png)


def decode(primitive: p.Primitive, before: ImageSpec, after: ImageSpec) -> Any:
    def lower(data: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        image = decode_full(data)
        image.set_shape((None, None, 3))
        return image, {}

    return lower


def decode_crop(primitive: p.Primitive, before: ImageSpec, after: ImageSpec) -> Any:
    import tensorflow as tf

    def lower(data: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        def inside() -> Any:
            shape = tf.io.extract_jpeg_shape(data)
            params = wanted(shape[0], shape[1])
            window = tf.cast(params["window"], tf.int32)
            start, size = window[:2], window[2:]
            # The decoder upsamples chroma wrongly in a window's outermost columns; one pixel more on every side, cut
            # off again, makes the window's own pixels those of a full decode.
            low = tf.maximum(start - 1, 0)
            high = tf.minimum(start + size + 1, shape[:2])
            wider = tf.io.decode_and_crop_jpeg(
                data, tf.concat([low, high - low], 0), channels=3, dct_method="INTEGER_ACCURATE"
            )
            begin = tf.concat([start - low, [0]], 0)
            return tf.slice(wider, begin, tf.concat([size, [3]], 0)), params

        def whole() -> Any:
            image = decode_full(data)
            params = resolve(wanted, image)
            return cropped(image, params["window"]), params

        # A cropped decode doesn't see a file cut behind its window: without an end marker the whole is decoded.
        length = tf.strings.length(data)
        ends = tf.strings.substr(data, tf.maximum(length - 2, 0), 2) == b"\xff\xd9"
        image, params = tf.cond(ends & (tf.strings.substr(data, 0, 3) == _JPEG), inside, whole)
        image.set_shape((None, None, 3))
        return image, params

    return lower
