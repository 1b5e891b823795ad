"""The tf backend's primitives of policies, each driven by a number of an image's own: maps of levels, and sharpening.

An image whose number leaves it as it is takes a way around. Of a batch the rows that change are taken out and put back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from greenload.array_ops import TENSORFLOW
from greenload.backends import level_tables
from greenload.backends.base import TableRow
from greenload.backends.tf.lowerings import by_params
from greenload.specs import ImageSpec
from greenload.stages import primitives as p
from greenload.system.frameworks import tf

Mapped = Callable[[Any, Any], Any]
"""From images ``[n, height, width, channels]`` and their numbers ``[n]`` to the images changed."""


def driven(mapped: Mapped, least: int = 1) -> Any:
    """A lowering that changes those images whose numbers say so, if they have at least so many rows and columns."""

    def lower(primitive: p.Primitive, before: ImageSpec, after: ImageSpec) -> Any:
        name, changes = level_tables.NUMBERS[type(primitive)]

        def wanted(image: Any, number: Any) -> Any:
            if least == 1:
                return changes(number)
            return changes(number) & tf.reduce_all(tf.shape(image)[-3:-1] >= least)

        def of_batch(images: Any, number: Any) -> Any:
            rows = tf.where(wanted(images, number))

            def changed() -> Any:
                done = mapped(tf.gather_nd(images, rows), tf.gather_nd(number, rows))
                return tf.tensor_scatter_nd_update(images, rows, done)

            return tf.cond(tf.size(rows) > 0, changed, lambda: images)

        def changed(image: Any, params: dict[str, Any]) -> Any:
            number = params[name]
            if before.batched:
                return of_batch(image, number)
            return tf.cond(
                wanted(image, number), lambda: mapped(image[tf.newaxis], number[tf.newaxis])[0], lambda: image
            )

        return by_params(changed, after)

    return lower


def _each(numbers: Any) -> Any:
    """Numbers ``[n]`` beside images."""
    return numbers[:, tf.newaxis, tf.newaxis, tf.newaxis]


def _rounded(values: Any) -> Any:
    """float64 as levels: a third of what look-ups in tables of the images' own cost, with the same bits. Clipped first,
    since a sum of three terms could be regrouped."""
    return tf.cast(tf.clip_by_value(values, 0.0, 255.0) + 0.5, tf.uint8)


def divisor(number: Any, factors: Any) -> Any:
    """A number ``[n]`` to divide by. TensorFlow's graph optimiser may not know it: it makes a division by a constant a
    product with its inverse, which rounds twice."""
    return tf.where(factors >= 0.0, tf.cast(number, tf.float64), tf.zeros_like(factors))


def brightness(images: Any, factors: Any) -> Any:
    """A product."""
    return _rounded(tf.cast(images, tf.float64) * _each(factors))


def contrast(images: Any, factors: Any) -> Any:
    """About each image's mean grey."""
    shape = tf.shape(images)
    sums = tf.reduce_sum(tf.cast(images, tf.int64), axis=(1, 2))
    grey = level_tables.grey(sums, divisor(shape[1] * shape[2], factors), TENSORFLOW)
    return _rounded(tf.cast(images, tf.float64) * _each(factors) + _each(grey * (1.0 - factors)))


def posterize(images: Any, bits: Any) -> Any:
    """The lower bits masked away."""
    return tf.bitwise.bitwise_and(images, _each(level_tables.kept_bits(bits, TENSORFLOW)))


def solarize(images: Any, thresholds: Any) -> Any:
    """All bits turned where they are to be: a quarter of what a choice between two images costs."""
    kept = tf.cast(images < _each(level_tables.first_inverted(thresholds, TENSORFLOW)), tf.uint8)
    return tf.bitwise.bitwise_xor(images, kept - 1)


_AROUND = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32)


def sharpen(images: Any, factors: Any) -> Any:
    """Sums by a convolution, whole numbers that float32 holds; the rest in float64, as in the reference."""
    channels = tf.shape(images)[3]
    taps = tf.tile(tf.constant(_AROUND)[:, :, tf.newaxis, tf.newaxis], [1, 1, channels, 1])
    sums = tf.nn.depthwise_conv2d(tf.cast(images, tf.float32), taps, [1, 1, 1, 1], "VALID")
    factor = _each(factors)
    smooth = tf.cast(sums, tf.float64) / _each(divisor(13.0, factors))
    done = _rounded(tf.cast(images[:, 1:-1, 1:-1], tf.float64) * factor + smooth * (1.0 - factor))
    middle = tf.concat([images[:, 1:-1, :1], done, images[:, 1:-1, -1:]], axis=2)
    return tf.concat([images[:, :1], middle, images[:, -1:]], axis=1)


ROWS = (
    TableRow(p.Brightness, driven(brightness), ("uint8",)),
    TableRow(p.Contrast, driven(contrast), ("uint8",)),
    TableRow(p.Posterize, driven(posterize), ("uint8",)),
    TableRow(p.Solarize, driven(solarize), ("uint8",)),
    TableRow(p.Sharpen, driven(sharpen, least=3), ("uint8",)),
)
