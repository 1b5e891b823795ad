"""The Pillow backend's primitives, each a function of one image.

An image on its way is a Pillow image (uint8 of 1, 3 or 4 channels) or an array ``[H, W, C]``, as the last step left it;
a step turns it into the other only where it needs to. Pillow resamples and recolours; pixels are moved, and values
mapped, by whichever of the two has them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends import orientation
from greenload.backends.pillow import decode as pillow_decode
from greenload.specs import RANGES, ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p

Pixels = Any
"""A file's bytes, a ``PIL.Image.Image``, or an array ``[H, W, C]``."""
Values = NDArray[Any]
ImageParams = Mapping[str, Any]
"""What a step does to one image: numbers, booleans, and lists of them."""
Apply = Callable[[Pixels, ImageParams, Values | None], Pixels]
"""A step on one image. The array, if there is one, is where the result is wanted: a step that makes an array makes it
there, others needn't."""


def _no_params(primitive: Any, spec: ImageSpec, params: Params) -> Params:
    """Nothing of its stage's params is needed."""
    return {}


@dataclass(frozen=True)
class Lowering:
    """A primitive as a function of an image."""

    build: Callable[[Any, ImageSpec], Apply]
    """From the primitive and the spec of what enters."""
    params: Callable[[Any, ImageSpec, Params], Params] = _no_params
    """What the function needs of its stage's params, for all images of a batch."""


_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
"""Pillow's mode for a number of channels, as long as nobody asks what they mean."""


def is_array(pixels: Pixels) -> bool:
    """Whether an image is an array, not Pillow's."""
    return isinstance(pixels, np.ndarray)


def as_array(pixels: Pixels) -> Values:
    """An image as an array ``[H, W, C]``, which may be read-only."""
    if is_array(pixels):
        array: Values = pixels
        return array
    from PIL import Image

    width, height = pixels.size
    mode = pixels.mode
    channels = len(pixels.getbands())
    # One call for all rows; Image.tobytes collects them in pieces of 64 kB.
    encoder = Image.core.raw_encoder(mode, mode, 0, 1)
    encoder.setimage(pixels.im, (0, 0, width, height))  # from Pillow 13 on the extents are required
    _, status, packed = encoder.encode(height * width * channels)
    assert status == 1, status
    return np.frombuffer(packed, np.uint8).reshape(height, width, channels)


def as_image(pixels: Pixels) -> Any:
    """An image of 1, 3 or 4 channels of uint8 as Pillow's."""
    if not is_array(pixels):
        return pixels
    from PIL import Image

    height, width, channels = pixels.shape
    mode = _MODES[channels]
    return Image.frombuffer(mode, (width, height), np.ascontiguousarray(pixels), "raw", mode, 0, 1)


def written(pixels: Pixels, out: Values | None) -> Values:
    """A copy of an image, in ``out`` or an array of its own."""
    array = as_array(pixels)
    if out is None:
        return array.copy()
    if out is not array:
        out[...] = array
    return out


def decode(primitive: p.Decode | p.DecodeCrop, spec: ImageSpec) -> Apply:
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
        return crop_params(primitive, spec, params)
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


def crop_params(primitive: p.Primitive, spec: ImageSpec, params: Params) -> Params:
    """The windows."""
    return {"window": params["window"]}


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


def flip_params(primitive: p.Flip, spec: ImageSpec, params: Params) -> Params:
    """Which images are mirrored."""
    return {"flip": params["flip"]}


def resize(primitive: p.Resize, spec: ImageSpec) -> Apply:
    """``Image.resize``, which antialiases; floats and odd numbers of channels plane by plane."""
    from PIL import Image

    bilinear = Image.Resampling.BILINEAR
    planar = spec.dtype != "uint8" or spec.shape[-1] not in _MODES

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


def erase_params(primitive: p.Erase, spec: ImageSpec, params: Params) -> Params:
    """The windows that are erased."""
    return {"erase": params["erase"]}


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
