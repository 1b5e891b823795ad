"""The Pillow backend's primitives, each a function of one image.

An image on its way is a Pillow image (uint8 of 1, 3 or 4 channels) or an array ``[H, W, C]``, as the last step left it;
a step turns it into the other only where it needs to. Pillow resamples and recolours; pixels are moved, and values
mapped, by whichever of the two has them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from greenload.backends import orientation, tolerances
from greenload.backends.base import ENCODED, FILTERED, TableRow, Tolerance
from greenload.backends.pillow import decode as pillow_decode
from greenload.backends.pillow.base import (
    MODES,
    NUMPY_DTYPES,
    Apply,
    ImageParams,
    Lowering,
    Pixels,
    Values,
    as_array,
    as_image,
    given,
    is_array,
    written,
)
from greenload.specs import RANGES, ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p


def decode(primitive: p.Decoding, spec: ImageSpec) -> Apply:
    """A file's pixels, or those of a window: Pillow decodes the whole file either way."""

    def apply(pixels: Pixels, row: ImageParams, out: Values | None) -> Pixels:
        return pillow_decode.decode(pixels, row.get("window"), row.get("orientation", 1))

    return apply


def decode_params(primitive: p.Decode, spec: ImageSpec, params: Params) -> Params:
    """The orientations, where they are applied."""
    return {"orientation": params["orientation"]} if primitive.exif else {}


def decode_crop_params(primitive: p.DecodeCrop, spec: ImageSpec, params: Params) -> Params:
    """The windows in the stored images, and their orientations where they are applied."""
    if not primitive.exif:
        return {"window": params["window"]}
    turns = params["orientation"]
    window = orientation.stored_window(params["window"], params["upright_height"], params["upright_width"], turns)
    return {"window": window, "orientation": turns}


def crop(primitive: p.Crop, spec: ImageSpec) -> Apply:
    """A window; of an array, a view."""

    def apply(pixels: Pixels, row: ImageParams, out: Values | None) -> Pixels:
        if not is_array(pixels):
            return pillow_decode.crop(pixels, row["window"])
        top, left, height, width = row["window"]
        return pixels[top : top + height, left : left + width]

    return apply


def pad(primitive: p.Pad, spec: ImageSpec) -> Apply:
    """A constant around the image, which is copied only where something is added."""
    fill = np.asarray(primitive.fill).astype(spec.dtype)

    def apply(pixels: Pixels, row: ImageParams, out: Values | None) -> Pixels:
        top, left = row["pad"]
        height, width = _size(primitive, row)
        array = as_array(pixels)
        rows, columns, channels = array.shape
        if (height, width) == (rows, columns):
            return pixels
        done = np.empty((height, width, channels), array.dtype) if out is None else out
        done[:top] = fill
        done[top + rows :] = fill
        done[top : top + rows, :left] = fill
        done[top : top + rows, left + columns :] = fill
        done[top : top + rows, left : left + columns] = array
        return done

    return apply


def pad_params(primitive: p.Pad, spec: ImageSpec, params: Params) -> Params:
    """How much is added above and on the left, and the sizes after it."""
    return {"pad": params["pad"], **size_params(primitive, spec, params)}


def _size(primitive: p.Pad | p.Resize, row: ImageParams) -> tuple[int, int]:
    """The size after a step: one for all images, or an image's own."""
    if primitive.height is not None and primitive.width is not None:
        return primitive.height, primitive.width
    height, width = row["size"]
    return height, width


def size_params(primitive: p.Pad | p.Resize, spec: ImageSpec, params: Params) -> Params:
    """The sizes after it; nothing where all images get one size."""
    static = primitive.height is not None and primitive.width is not None
    return {} if static else {"size": params["size"]}


def flip(primitive: p.Flip, spec: ImageSpec) -> Apply:
    """Mirrored where the params say so."""
    from PIL.Image import Transpose

    method = Transpose.FLIP_TOP_BOTTOM if primitive.vertical else Transpose.FLIP_LEFT_RIGHT

    def apply(pixels: Pixels, row: ImageParams, out: Values | None) -> Pixels:
        if not row["flip"]:
            return pixels
        if not is_array(pixels):
            return pixels.transpose(method)
        if primitive.vertical:
            return pixels[::-1]
        done = np.empty(pixels.shape, pixels.dtype) if out is None else out
        # A pixel as one opaque value: half of what copying its channels one by one costs.
        pixel = np.dtype((np.void, pixels.shape[2] * pixels.itemsize))
        whole = pixels if pixels.strides[2] == pixels.itemsize else np.ascontiguousarray(pixels)  # BGR[..., ::-1] isn't
        done.view(pixel)[...] = whole.view(pixel)[:, ::-1]
        return done

    return apply


def resize(primitive: p.Resize, spec: ImageSpec) -> Apply:
    """``Image.resize``, which antialiases; floats and odd numbers of channels plane by plane."""
    from PIL import Image

    bilinear = Image.Resampling.BILINEAR
    planar = spec.dtype != "uint8" or spec.shape[-1] not in MODES

    def apply(pixels: Pixels, row: ImageParams, out: Values | None) -> Pixels:
        height, width = _size(primitive, row)
        if not planar:
            return as_image(pixels).resize((width, height), bilinear)
        done = np.empty((height, width, pixels.shape[2]), pixels.dtype) if out is None else out
        for channel in range(pixels.shape[2]):
            plane = Image.fromarray(np.ascontiguousarray(pixels[..., channel]))
            done[..., channel] = plane.resize((width, height), bilinear)
        return done

    return apply


# Pillow rounds to levels after each axis, so a value may be a whole level off. Over photographs and noise, with sides
# from 1 to 1,000 pixels, 0.3 was the most of any image's mean difference, and 0.1 is usual. A pattern of hard edges
# repeats few values: 0.45 was seen, and 0.96 where it is a few pixels wide.
_RESIZED = Tolerance(1.0, 0.5)
_NARROW_PX = 10
_RESIZED_NARROW = Tolerance(1.0, 1.0)
# It sums floats in double precision: the most seen was the rounding of the result, 6e-8 of values in 0 … 1.
_RESIZED_FLOATS = Tolerance(1e-7, 3e-8)


def _resized(primitive: p.Resize, spec: ImageSpec) -> Tolerance:
    if spec.dtype != "uint8":
        return _RESIZED_FLOATS
    narrow = any(side is not None and side < _NARROW_PX for side in (primitive.height, primitive.width))
    return _RESIZED_NARROW if narrow else _RESIZED


def _antialiased(primitive: p.Resize, spec: ImageSpec) -> bool:
    return primitive.antialias


def color(primitive: p.Color, spec: ImageSpec) -> Apply:
    """``Image.convert`` with a matrix, in float32 and rounded half up; floats plane by plane."""

    def apply(pixels: Pixels, row: ImageParams, out: Values | None) -> Pixels:
        if not row.get("apply", True):
            return pixels
        if spec.dtype == "uint8":
            return as_image(pixels).convert("RGB", row["color"])
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        done = np.empty(pixels.shape, pixels.dtype) if out is None else out
        for channel in range(3):
            *factors, offset = (np.float32(number) for number in row["color"][4 * channel : 4 * channel + 4])
            total = planes[0] * factors[0]
            total += planes[1] * factors[1]
            total += planes[2] * factors[2]
            total += offset
            done[..., channel] = np.clip(total, 0.0, 1.0, out=total)
        return done

    return apply


def color_params(primitive: p.Color, spec: ImageSpec, params: Params) -> Params:
    """The matrices, in the images' own range; and which images are changed, where not all are."""
    matrices = np.array(params["color"], np.float64)
    if spec.dtype == "uint8":
        matrices[..., 3] *= 255.0
    return {"color": matrices.reshape(-1, 12)} | ({"apply": params["apply"]} if primitive.maybe else {})


# A float32 sum that falls to the other side of a half: up to 3e-3 of an image's values were seen, 4e-3 in one of a few
# hundred. Floats: the most seen was 2.4e-6, from a matrix of factors up to 27, as three strong jitters make.
_RECOLORED = {"uint8": Tolerance(1.0, 5e-3), "float32": Tolerance(3e-6, 2e-7)}


def erase(primitive: p.Erase, spec: ImageSpec) -> Apply:
    """One window set to constants, in a copy of the image."""
    value = np.asarray(primitive.value).astype(spec.dtype)

    def apply(pixels: Pixels, row: ImageParams, out: Values | None) -> Pixels:
        top, left, height, width = row["erase"]
        if not height:
            return pixels
        done = written(pixels, out)
        done[top : top + height, left : left + width] = value
        return done

    return apply


def look_up(primitive: p.LookUp, spec: ImageSpec) -> Apply:
    """``Image.point``; of an array, NumPy's ``take``."""
    table = np.frombuffer(primitive.table, np.uint8)

    def apply(pixels: Pixels, row: ImageParams, out: Values | None) -> Pixels:
        if not row["apply"]:
            return pixels
        if not is_array(pixels):
            return pixels.point(list(primitive.table) * len(pixels.getbands()))
        return np.take(table, pixels, out=out, mode="clip")  # in other modes it would copy through a buffer

    return apply


def image_ops(name: str) -> Callable[[p.Primitive, ImageSpec], Apply]:
    """A function of ``PIL.ImageOps``; channel by channel where there are other than 1 or 3."""

    def build(primitive: p.Primitive, spec: ImageSpec) -> Apply:
        from PIL import Image, ImageOps

        change = getattr(ImageOps, name)

        def apply(pixels: Pixels, row: ImageParams, out: Values | None) -> Pixels:
            if not row["apply"]:
                return pixels
            if spec.shape[-1] in (1, 3):
                return change(as_image(pixels))
            array = as_array(pixels)
            done = np.empty(array.shape, np.uint8) if out is None else out
            for channel in range(array.shape[2]):
                done[..., channel] = change(Image.fromarray(np.ascontiguousarray(array[..., channel])))
            return done

        return apply

    return build


def affine(primitive: p.Affine, spec: ImageSpec) -> Apply:
    """In float32; from integers to integers by a table of all 256 results."""
    if spec.dtype in RANGES and primitive.dtype in RANGES:
        return _tabled(primitive, spec)
    scales = _spread(primitive.scale)
    offsets = _spread(primitive.offset)

    def apply(pixels: Pixels, row: ImageParams, out: Values | None) -> Pixels:
        array = as_array(pixels)
        height, width, channels = array.shape
        done = np.empty(array.shape, primitive.dtype) if out is None else out
        values = done if done.dtype == np.float32 else np.empty(array.shape, np.float32)
        values[...] = array
        rows = values.reshape(height, width * channels)
        if any(s != 1.0 for s in primitive.scale):
            rows *= scales(width)
        if any(o != 0.0 for o in primitive.offset):
            rows += offsets(width)
        if values is not done:
            if primitive.dtype in RANGES:
                np.clip(values, *RANGES[primitive.dtype], out=values)
            with np.errstate(over="ignore"):  # beyond a float16's range is infinity, as everywhere
                done[...] = values
        return done

    return apply


def _spread(numbers: tuple[float, ...]) -> Callable[[int], Any]:
    """Per-channel numbers as a whole row of them: along a last dimension of three alone NumPy is five times slower."""
    if len(set(numbers)) == 1:
        return lambda width: np.float32(numbers[0])
    return functools.lru_cache(16)(lambda width: np.tile(np.array(numbers, np.float32), width))


def _tabled(primitive: p.Affine, spec: ImageSpec) -> Apply:
    levels = np.arange(256, dtype=np.uint8).view(spec.dtype).astype(np.float64)
    exact = levels[:, None] * np.asarray(primitive.scale) + np.asarray(primitive.offset)
    table = np.clip(exact, *RANGES[primitive.dtype]).astype(primitive.dtype)

    def apply(pixels: Pixels, row: ImageParams, out: Values | None) -> Pixels:
        array = as_array(pixels).view(np.uint8)
        done = np.empty(array.shape, primitive.dtype) if out is None else out
        for channel in range(array.shape[2]):
            done[..., channel] = table[:, channel % table.shape[1]][array[..., channel]]
        return done

    return apply


# Pillow has no unbiased resize without antialiasing, and no warp or blur that is the formula's.
ROWS = (
    TableRow(p.Decode, Lowering(decode, decode_params), ENCODED),
    TableRow(p.DecodeCrop, Lowering(decode, decode_crop_params), ENCODED),
    TableRow(p.Crop, Lowering(crop, given("window")), NUMPY_DTYPES),
    TableRow(p.Pad, Lowering(pad, pad_params), NUMPY_DTYPES),
    TableRow(p.Flip, Lowering(flip, given("flip")), NUMPY_DTYPES),
    TableRow(p.Resize, Lowering(resize, size_params), FILTERED, tolerance=_resized, condition=_antialiased),
    TableRow(p.Color, Lowering(color, color_params), FILTERED, tolerance=_RECOLORED),
    TableRow(p.Erase, Lowering(erase, given("erase")), NUMPY_DTYPES),
    TableRow(p.LookUp, Lowering(look_up, given("apply")), ("uint8",)),
    TableRow(p.Autocontrast, Lowering(image_ops("autocontrast"), given("apply")), ("uint8",)),
    TableRow(p.Equalize, Lowering(image_ops("equalize"), given("apply")), ("uint8",)),
    TableRow(p.Affine, Lowering(affine), NUMPY_DTYPES, to=NUMPY_DTYPES, tolerance=tolerances.affine),
)
