"""The tf backend's primitives that compute new values from colours or neighbouring pixels, and a user's own function.

uint8 images are worked on in float32 and rounded once; ``carried`` says whether the result becomes uint8 again or stays
float32, where the next step takes the same whole numbers as they are.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from greenload.backends import tolerances
from greenload.backends.base import FILTERED, UNKNOWN, TableRow, Tolerance
from greenload.backends.tf.lowerings import Wanted, by_params, levels
from greenload.errors import PipelineError
from greenload.specs import DTYPES, ImageSpec
from greenload.stages import primitives as p
from greenload.system.frameworks import tf


def warp(primitive: p.Warp, before: ImageSpec, after: ImageSpec, carried: str = "float32") -> Any:
    """One operation, that interpolates in float32."""

    def changed(image: Any, params: dict[str, Any]) -> Any:
        (a, b, c), (d, e, f) = (tf.unstack(row) for row in tf.unstack(params["matrix"]))
        # The operation counts pixel centres from 0, the params from ½: both ends of the map are shifted by it.
        shifted = tf.stack([a, b, c + 0.5 * (a + b - 1.0), d, e, f + 0.5 * (d + e - 1.0), a * 0.0, a * 0.0])
        warped = tf.raw_ops.ImageProjectiveTransformV3(
            images=tf.cast(image, tf.float32)[tf.newaxis],
            transforms=tf.cast(shifted, tf.float32)[tf.newaxis],
            output_shape=tf.shape(image)[:2],
            fill_value=primitive.fill,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )[0]
        return levels(warped + 0.5, carried) if before.dtype == "uint8" else warped

    return by_params(changed, after)


# Warping counts positions in float32: over noise, values were off by up to 3e-7 of their range times the longer side
# (8e-7 where a map enlarges tenfold), by a sixth of it in the mean; sides from 32 to 3,000.
_PER_SIDE = 1e-6
_UNKNOWN_SIDE = 1000


def _warped(primitive: p.Warp, spec: ImageSpec) -> Tolerance:
    largest = tolerances.largest(spec.dtype)
    reach = max(largest, abs(primitive.fill), abs(largest - primitive.fill))
    error = reach * (2e-6 + _PER_SIDE * max(side or _UNKNOWN_SIDE for side in spec.image_shape[:2]))
    if spec.dtype == "uint8":
        return Tolerance(float(np.ceil(error)), 5e-3 + error / 5)
    return Tolerance(error, error / 5)


def perspective(primitive: p.Perspective, before: ImageSpec, after: ImageSpec) -> Any:
    """Places in float64, values gathered at them and mixed in float32."""

    def seen(image: Any, matrix: Any) -> Any:
        shape = tf.shape(image)
        height, width = shape[0], shape[1]
        rows = (tf.range(height, dtype=tf.float64) + 0.5)[:, tf.newaxis]
        columns = (tf.range(width, dtype=tf.float64) + 0.5)[tf.newaxis]
        x, y, w = (m[0] * columns + m[1] * rows + m[2] for m in tf.unstack(matrix))
        nowhere = tf.equal(w, 0.0)
        whole, shares = [], []
        for n, side in ((y, height), (x, width)):
            place = tf.where(nowhere, tf.constant(-1.0, tf.float64), n / w - 0.5)
            place = tf.clip_by_value(place, -2.0, tf.cast(side, tf.float64) + 1.0)  # beyond it all is fill
            floor = tf.floor(place)
            whole.append(tf.cast(floor, tf.int32))
            shares.append(tf.cast(place - floor, tf.float32)[..., tf.newaxis])
        around = tf.pad(image, [[2, 3], [2, 3], [0, 0]], constant_values=tf.cast(primitive.fill, image.dtype))
        stride = width + 5
        pixels = tf.reshape(around, [-1, shape[2]])
        first = (whole[0] + 2) * stride + whole[1] + 2
        four = [tf.cast(tf.gather(pixels, first + step), tf.float32) for step in (0, 1, stride, stride + 1)]
        down, across = shares
        upper = four[0] + (four[1] - four[0]) * across
        lower = four[2] + (four[3] - four[2]) * across
        mixed = upper + (lower - upper) * down
        return tf.cast(mixed + 0.5, tf.uint8) if before.dtype == "uint8" else mixed

    def changed(image: Any, params: dict[str, Any]) -> Any:
        return tf.cond(params["apply"], lambda: seen(image, params["matrix"]), lambda: image)

    return by_params(changed, after)


def color(primitive: p.Color, before: ImageSpec, after: ImageSpec, carried: str = "float32") -> Any:
    """One product with a matrix per image. On a batch where only some change, all are computed and some taken."""
    whole = before.dtype == "uint8"

    def changed(image: Any, params: dict[str, Any]) -> Any:
        matrix = tf.cast(params["color"], tf.float32)
        kept = tf.cast(image, carried) if whole else image

        def recolored() -> Any:
            values = tf.cast(image, tf.float32)
            turned = tf.linalg.matrix_transpose(matrix[..., :3])
            offset = matrix[..., 3] * 255.0 + 0.5 if whole else matrix[..., 3]
            if before.batched:
                rows = tf.reshape(values, [tf.shape(values)[0], -1, 3])
                values = tf.reshape(tf.matmul(rows, turned) + offset[:, tf.newaxis], tf.shape(values))
            else:
                # a convolution of one tap: a quarter below the matrix product's time
                taps = turned[tf.newaxis, tf.newaxis]
                values = tf.nn.bias_add(tf.nn.conv2d(values[tf.newaxis], taps, 1, "VALID"), offset)[0]
            if whole:
                return levels(tf.clip_by_value(values, 0.0, 255.5), carried)
            return tf.clip_by_value(values, 0.0, 1.0)

        if not primitive.maybe:
            return recolored()
        if before.batched:
            some = tf.reduce_any(params["apply"])
            chosen = params["apply"][:, tf.newaxis, tf.newaxis, tf.newaxis]
            return tf.cond(some, lambda: tf.where(chosen, recolored(), kept), lambda: kept)
        return tf.cond(params["apply"], recolored, lambda: kept)

    return by_params(changed, after)


def blur(primitive: p.Blur, before: ImageSpec, after: ImageSpec, carried: str = "float32") -> Any:
    """Two passes, down the columns and along the rows."""
    rows, columns = primitive.height // 2, primitive.width // 2

    def weights(sigma: Any, taps: int) -> Any:
        bell = tf.exp(-0.5 * (tf.constant(np.arange(taps) - taps // 2, tf.float64) / sigma) ** 2)
        return tf.cast(bell / tf.reduce_sum(bell), tf.float32)

    def mirrored(image: Any) -> Any:
        """The image with its border, also where that is longer than the image, which ``tf.pad`` refuses."""
        for axis, reach in ((0, rows), (1, columns)):
            side = tf.shape(image)[axis]
            period = tf.maximum(2 * side - 2, 1)
            position = tf.range(-reach, side + reach) % period
            image = tf.gather(image, tf.minimum(position, period - position), axis=axis)
        return image

    def changed(image: Any, params: dict[str, Any]) -> Any:
        values = tf.cast(image, tf.float32)
        large = tf.reduce_all(tf.shape(values)[:2] > [rows, columns])
        border = [[rows, rows], [columns, columns], [0, 0]]
        padded = tf.cond(large, lambda: tf.pad(values, border, "REFLECT"), lambda: mirrored(values))
        down = weights(params["sigma"], primitive.height)
        across = weights(params["sigma"], primitive.width)
        shape = tf.shape(padded)
        # Down the columns, whole rows count as channels: for many taps an eighth below the time of three channels.
        flat = tf.reshape(padded, [1, shape[0], 1, -1])
        filters = tf.tile(down[:, None, None, None], [1, 1, tf.shape(flat)[3], 1])
        flat = tf.nn.depthwise_conv2d(flat, filters, [1, 1, 1, 1], "VALID")
        result = tf.reshape(flat, [1, -1, shape[1], shape[2]])
        filters = tf.tile(across[None, :, None, None], [1, 1, shape[2], 1])
        result = tf.nn.depthwise_conv2d(result, filters, [1, 1, 1, 1], "VALID")[0]
        return levels(result + 0.5, carried) if before.dtype == "uint8" else result

    return by_params(changed, after)


# float32 weights put a value that lies on a rounding boundary to either side; in an image of few levels that resizing
# shrinks by a whole factor a sixth of all values do. Colours and filters have such ties rarely: up to 7e-4 of an
# image's values were seen, and one of a few hundred makes 5e-3. float32: the most seen was 2.5e-7.
_FILTERED = {"uint8": Tolerance(1.0, 5e-3), "float32": Tolerance(1e-6, 2e-7)}


def erase(primitive: p.Erase, before: ImageSpec, after: ImageSpec) -> Any:
    """A rectangle of one image by putting parts together, of a batch by a mask."""

    def changed(image: Any, params: dict[str, Any]) -> Any:
        window = tf.cast(params["erase"], tf.int32)
        shape = tf.shape(image)
        value = tf.cast(tf.constant(primitive.value), image.dtype)

        def masked() -> Any:
            inside = []
            for axis, size in ((0, shape[-3]), (1, shape[-2])):
                start, extent = window[..., axis, tf.newaxis], window[..., axis + 2, tf.newaxis]
                position = tf.range(size)
                inside.append((position >= start) & (position < start + extent))
            mask = inside[0][..., :, tf.newaxis] & inside[1][..., tf.newaxis, :]
            return tf.where(mask[..., tf.newaxis], value, image)

        def patched() -> Any:
            """Five parts put together: an eighth of what a mask costs."""
            top, left, height, width = tf.unstack(window)
            rows = image[top : top + height]
            patch = tf.broadcast_to(value, tf.stack([height, width, shape[-1]]))
            band = tf.concat([rows[:, :left], patch, rows[:, left + width :]], axis=1)
            return tf.concat([image[:top], band, image[top + height :]], axis=0)

        filled = masked if before.batched else patched
        return tf.cond(tf.reduce_any(window[..., 2] > 0), filled, lambda: image)

    return by_params(changed, after)


def call(primitive: p.Call, before: ImageSpec, after: ImageSpec) -> Any:
    """A user's function, traced with its Python control flow; what it returns is held to what was declared."""
    name = f"Apply({getattr(primitive.function, '__qualname__', type(primitive.function).__name__)})"
    traced = tf.function(primitive.function, autograph=True)

    def lower(image: Any, wanted: Wanted) -> tuple[Any, dict[str, Any]]:
        return _declared(name, traced(image), after, "pass dtype={0!r}", "pass shape=(height, width, channels)"), {}

    return lower


def own(primitive: p.Primitive, before: ImageSpec, after: ImageSpec) -> Any:
    """A user's own primitive: its function, as ``call`` has it."""
    name = type(primitive).__name__
    traced = tf.function(functools.partial(primitive.lowerings["tf"], primitive), autograph=True)

    def changed(image: Any, params: dict[str, Any]) -> Any:
        result = traced(image, params)
        return _declared(name, result, after, "return that in out_spec", "return its shape in out_spec")

    return by_params(changed, after)


def _declared(name: str, given: Any, after: ImageSpec, dtype_remedy: str, shape_remedy: str) -> Any:
    """What a user's function returned, if it is what was declared.

    Raises:
        PipelineError: it isn't.
    """
    if given is None:
        raise PipelineError(f"{name} returned nothing: end the function with return image")
    result = tf.convert_to_tensor(given)
    if result.dtype.name != after.dtype:
        raise PipelineError(
            f"{name} returned {result.dtype.name}, but {after.dtype} was declared: "
            f"{dtype_remedy.format(result.dtype.name)}, or cast inside the function"
        )
    if not result.shape.is_compatible_with(after.shape):
        raise PipelineError(
            f"{name} returned an image of shape {result.shape}, but {after} was declared: {shape_remedy}"
        )
    return tf.ensure_shape(result, after.shape)


def _perspective(primitive: p.Perspective, spec: ImageSpec) -> Tolerance:
    """Sums of float32 shares, as filters have them, in the range that the fill widens."""
    if spec.dtype == "uint8":
        return _FILTERED["uint8"]
    reach = max(1.0, abs(primitive.fill), abs(1.0 - primitive.fill))
    stated = _FILTERED["float32"]
    return Tolerance(stated.max * reach, stated.mean * reach)


ROWS = (
    TableRow(p.Warp, warp, FILTERED, tolerance=_warped),
    TableRow(p.Perspective, perspective, FILTERED, tolerance=_perspective),
    TableRow(p.Color, color, FILTERED, tolerance=_FILTERED),
    TableRow(p.Blur, blur, FILTERED, tolerance=_FILTERED),
    TableRow(p.Erase, erase, DTYPES),
    TableRow(p.Call, call, DTYPES),
    TableRow(p.Primitive, own, DTYPES, tolerance=UNKNOWN),
)
