"""A primitive's lowering to Pillow: a function of one image, Pillow's or an array, whichever the last step left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.specs import ImageSpec
from greenload.stages import Params

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


NUMPY_DTYPES = ("uint8", "int8", "float16", "float32")
"""Without ml_dtypes NumPy has no bfloat16."""
MODES = {1: "L", 3: "RGB", 4: "CMYK"}
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
    mode = MODES[channels]
    return Image.frombuffer(mode, (width, height), np.ascontiguousarray(pixels), "raw", mode, 0, 1)


def written(pixels: Pixels, out: Values | None) -> Values:
    """A copy of an image, in ``out`` or an array of its own."""
    array = as_array(pixels)
    if out is None:
        return array.copy()
    if out is not array:
        out[...] = array
    return out
