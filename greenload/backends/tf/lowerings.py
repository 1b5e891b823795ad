"""The tf backend's primitives that move pixels or map values: each as TensorFlow ops on one image (or, for values, on a
batch too)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from greenload.backends import tolerances
from greenload.backends.base import FILTERED, TableRow, Tolerance
from greenload.specs import DTYPES, RANGES, ImageSpec
from greenload.stages import primitives as p
from greenload.system.frameworks import tf

Wanted = Any
"""A stage's params, or the function of an image's height and width that computes them."""
ROUNDING = (p.Resize, p.Warp, p.Color, p.Blur)
"""Primitives that round uint8 images once, and whose lowerings take the dtype that carries their results on."""


def resolve(wanted: Wanted, image: Any) -> dict[str, Any]:
    """A stage's params for an image, or for each of a batch."""
    if callable(wanted):
        shape = tf.shape(image)
        computed: dict[str, Any] = wanted(shape[-3], shape[-2])
        return computed
    known: dict[str, Any] = wanted
    return known


def by_params(change: Callable[[Any, dict[str, Any]], Any], after: ImageSpec) -> Any:
    """A lowering that changes an image by its stage's params, and states what shape it has then."""

    def lower(image: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        params = resolve(wanted, image)
        changed = change(image, params)
        changed.set_shape(after.shape)
        return changed, params

    return lower


def cropped(image: Any, window: Any) -> Any:
    """A window ``[top, left, height, width]`` of an image."""
    channels = tf.cast(tf.shape(image)[-1:], window.dtype)
    part = tf.slice(image, tf.concat([window[:2], tf.zeros(1, window.dtype)], 0), tf.concat([window[2:], channels], 0))
    part.set_shape((None, None, image.shape[-1]))
    return part


def crop(primitive: p.Primitive, before: ImageSpec, after: ImageSpec) -> Any:
    """The stage's window."""

    return by_params(lambda image, params: cropped(image, params["window"]), after)


def pad(primitive: p.Pad, before: ImageSpec, after: ImageSpec) -> Any:
    """A constant around the image; nothing is copied where nothing is added."""
    static = primitive.height is not None and primitive.width is not None

    def changed(image: Any, params: dict[str, Any]) -> Any:
        lead = tf.cast(params["pad"], tf.int32)
        size = tf.constant([primitive.height, primitive.width]) if static else tf.cast(params["size"], tf.int32)
        rest = size - tf.shape(image)[:2] - lead

        def padded() -> Any:
            sides = tf.concat([tf.stack([lead, rest], axis=1), [[0, 0]]], axis=0)
            return tf.pad(image, sides, constant_values=tf.cast(primitive.fill, image.dtype))

        return tf.cond(tf.reduce_any(lead + rest > 0), padded, lambda: image)

    return by_params(changed, after)


def levels(above: Any, carried: str) -> Any:
    """Values within 0 … 255, ½ added, as uint8's levels: rounded half up, as uint8 or carried on as float32."""
    return tf.cast(above, tf.uint8) if carried == "uint8" else tf.floor(above)


def resize(primitive: p.Resize, before: ImageSpec, after: ImageSpec, carried: str = "float32") -> Any:
    """Bilinear in float32; rounded half up where the image was uint8, and left float32 if ``carried`` says so."""

    def lower(image: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        params: dict[str, Any] = {}
        if primitive.height is not None and primitive.width is not None:
            size = tf.constant([primitive.height, primitive.width])
        else:
            params = resolve(wanted, image)
            size = tf.cast(params["size"], tf.int32)
        batch = image[tf.newaxis]
        if primitive.antialias:
            scale = tf.cast(size, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32)
            resized = tf.raw_ops.ScaleAndTranslate(
                images=batch, size=size, scale=scale, translation=tf.zeros(2), kernel_type="triangle", antialias=True
            )[0]
        else:
            resized = tf.raw_ops.ResizeBilinear(images=batch, size=size, half_pixel_centers=True)[0]
        if before.dtype == "uint8":
            resized = levels(resized + 0.5, carried)
        resized.set_shape(after.shape)
        return resized, params

    return lower


_RESIZED = {"uint8": Tolerance(1.0, 0.25), "float32": Tolerance(4e-5, 3e-6)}


def flip(primitive: p.Flip, before: ImageSpec, after: ImageSpec) -> Any:
    """Inside a ``cond``: images that stay aren't copied."""

    def changed(image: Any, params: dict[str, Any]) -> Any:
        return tf.cond(params["flip"], lambda: tf.reverse(image, [0 if primitive.vertical else 1]), lambda: image)

    return by_params(changed, after)


def look_up(primitive: p.LookUp, before: ImageSpec, after: ImageSpec) -> Any:
    """A gather from the table. On a batch where only some change, all are looked up and some taken."""

    def changed(image: Any, params: dict[str, Any]) -> Any:
        apply = params["apply"]

        def found() -> Any:
            values = tf.gather(tf.constant(list(primitive.table), tf.uint8), tf.cast(image, tf.int32))
            return tf.where(apply[:, tf.newaxis, tf.newaxis, tf.newaxis], values, image) if before.batched else values

        return tf.cond(tf.reduce_any(apply), found, lambda: image)

    return by_params(changed, after)


def fitted(table_of: Callable[[Any, Any, Any], Any]) -> Any:
    """A lowering by tables of each image's and channel's own: a gather from all of them at once.

    Args:
        table_of: from images ``[n, height, width, channels]``, each value's place among ``count`` in the tables one
            after another, int32 of the same shape, and ``count``, to the tables, ``[n · channels, 256]``.
    """

    def mapped(images: Any) -> Any:
        shape = tf.shape(images)
        own = tf.range(shape[0] * shape[3]) * 256
        places = tf.cast(images, tf.int32) + tf.reshape(own, (shape[0], 1, 1, shape[3]))
        tables = table_of(images, places, shape[0] * shape[3] * 256)
        return tf.gather(tf.reshape(tf.cast(tables, tf.uint8), [-1]), places)

    def of_batch(images: Any, apply: Any) -> Any:
        rows = tf.where(apply)
        return tf.tensor_scatter_nd_update(images, rows, mapped(tf.gather_nd(images, rows)))

    def lower(primitive: p.Primitive, before: ImageSpec, after: ImageSpec) -> Any:
        def changed(image: Any, params: dict[str, Any]) -> Any:
            apply = params["apply"]
            if before.batched:
                return tf.cond(tf.reduce_any(apply), lambda: of_batch(image, apply), lambda: image)
            return tf.cond(apply, lambda: mapped(image[tf.newaxis])[0], lambda: image)

        return by_params(changed, after)

    return lower


def autocontrast_tables(images: Any, places: Any, count: Any) -> Any:
    """From each channel's range to 0 … 255, in float64 and cut."""
    low, high = (
        tf.reshape(tf.cast(reduce(images, axis=(1, 2)), tf.float64), (-1, 1))
        for reduce in (tf.reduce_min, tf.reduce_max)
    )
    levels = tf.range(256, dtype=tf.float64)
    several = high > low
    scale = 255.0 / tf.where(several, high - low, tf.ones_like(low))
    return tf.where(several, tf.clip_by_value(levels * scale - low * scale, 0.0, 255.0), levels)


def equalize_tables(images: Any, places: Any, count: Any) -> Any:
    """By how many of each channel's values are below a level."""
    counts = tf.raw_ops.DenseBincount(
        input=tf.reshape(places, [-1]), size=count, weights=tf.zeros(0, tf.int32), binary_output=False
    )
    counts = tf.reshape(counts, (-1, 256))
    up_to = tf.cumsum(counts, axis=1)
    total = up_to[:, -1:]
    largest = tf.reduce_sum(tf.where(up_to == total, counts, tf.zeros_like(counts)), axis=1, keepdims=True)
    step = (total - largest) // 255
    tables = tf.minimum((step // 2 + up_to - counts) // tf.maximum(step, 1), 255)
    return tf.where(step > 0, tables, tf.range(256))


def mix(primitive: p.Mix, before: ImageSpec, after: ImageSpec) -> Any:
    """In float32, where sums of levels are exact; what isn't drawn isn't computed."""
    levels = before.dtype in RANGES

    def weighed(image: Any, other: Any, weight: Any) -> Any:
        first, second = tf.cast(weight, tf.float32), tf.cast(1.0 - weight, tf.float32)
        values = tf.cast(image, tf.float32) * first + tf.cast(other, tf.float32) * second
        return tf.cast(tf.floor(values + 0.5) if levels else values, image.dtype)

    def pasted(image: Any, other: Any, box: Any) -> Any:
        top, left, height, width = tf.unstack(box[:, tf.newaxis], axis=-1)
        rows, columns = (tf.range(tf.shape(image, tf.int64)[axis])[tf.newaxis] for axis in (1, 2))
        down = (rows >= top) & (rows < top + height)
        across = (columns >= left) & (columns < left + width)
        return tf.where((down[:, :, tf.newaxis] & across[:, tf.newaxis])[..., tf.newaxis], other, image)

    def changed(image: Any, params: dict[str, Any]) -> Any:
        weight, box = params["weight"][:, tf.newaxis, tf.newaxis, tf.newaxis], params["box"]
        other = tf.gather(image, params["partner"])
        image = tf.cond(tf.reduce_any(weight < 1.0), lambda: weighed(image, other, weight), lambda: image)
        return tf.cond(tf.reduce_any(box[:, 2] > 0), lambda: pasted(image, other, box), lambda: image)

    return by_params(changed, after)


def affine(primitive: p.Affine, before: ImageSpec, after: ImageSpec) -> Any:
    """In float32, whatever enters and leaves."""

    def lower(image: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        values = tf.cast(image, tf.float32)
        if any(s != 1.0 for s in primitive.scale):
            values = values * _spread(primitive.scale, after)
        if any(o != 0.0 for o in primitive.offset):
            values = values + _spread(primitive.offset, after)
        if primitive.dtype in RANGES:
            values = tf.clip_by_value(values, *RANGES[primitive.dtype])
        return tf.cast(values, primitive.dtype), {}

    return lower


def _spread(numbers: tuple[float, ...], spec: ImageSpec) -> Any:
    """Per-channel numbers as a constant that broadcasts fast: along a last dimension of three alone it is four times
    slower."""
    if len(set(numbers)) == 1:
        return tf.constant(numbers[0], tf.float32)
    vector = np.array(numbers, np.float32)
    return tf.constant(np.tile(vector, (1, spec.shape[-2] or 1, 1)))


ROWS = (
    TableRow(p.Crop, crop, DTYPES),
    TableRow(p.Pad, pad, DTYPES),
    TableRow(p.Resize, resize, FILTERED, tolerance=_RESIZED),
    TableRow(p.Flip, flip, DTYPES),
    TableRow(p.LookUp, look_up, ("uint8",)),
    TableRow(p.Autocontrast, fitted(autocontrast_tables), ("uint8",)),
    TableRow(p.Equalize, fitted(equalize_tables), ("uint8",)),
    TableRow(p.Mix, mix, DTYPES, tolerance=tolerances.MIXED),
    TableRow(p.Affine, affine, DTYPES, tolerance=tolerances.affine),
)
