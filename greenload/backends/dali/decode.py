"""Decodes images in DALI, and turns them upright by operators after its decoder.

The decoder's own handling of EXIF orientation isn't used: it would give JPEGs that have one to another library, and
reads EXIF in its own way.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from greenload.backends import orientation
from greenload.backends.base import ENCODED, EXACT, TableRow, Tolerance
from greenload.backends.dali.base import WINDOW, Argument, Lowering, Node, Target, merge, split
from greenload.specs import ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p
from greenload.system.frameworks import fn

_TURNS = (
    Argument("turned", "bool", lambda params: params["orientation"] > 1, 0),
    Argument("transposed", "bool", lambda params: orientation.is_one_of(_turned(params), orientation.TRANSPOSED), 0),
    Argument("mirrored", "int32", lambda params: orientation.is_one_of(_turned(params), orientation.MIRRORED), 0),
    Argument("overturned", "int32", lambda params: orientation.is_one_of(_turned(params), orientation.OVERTURNED), 0),
)


def _turned(params: Params) -> NDArray[np.int64]:
    orientations: NDArray[np.int64] = params["orientation"]
    return orientations


def _stored_window(params: Params) -> NDArray[np.int64]:
    window: NDArray[np.int64] = orientation.stored_window(
        params["window"], params["upright_height"], params["upright_width"], params["orientation"]
    )
    return window


_STORED_WINDOW = (
    Argument("start", "int32", lambda params: _stored_window(params)[:, :2]),
    Argument("shape", "int32", lambda params: _stored_window(params)[:, 2:]),
)


def decode_arguments(primitive: p.Decode, spec: ImageSpec) -> tuple[Argument, ...]:
    """What decoding is fed."""
    return _TURNS if primitive.exif else ()


def decode(primitive: p.Decode, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """The whole image."""
    pixels = fn.decoders.image(image, **target.decoding())
    return _upright(pixels, fed, target) if primitive.exif else pixels


def decode_crop_arguments(primitive: p.DecodeCrop, spec: ImageSpec) -> tuple[Argument, ...]:
    """What decoding a window is fed."""
    return _STORED_WINDOW + _TURNS if primitive.exif else WINDOW


def decode_crop(primitive: p.DecodeCrop, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """A window, decoded alone."""
    pixels = fn.decoders.image_slice(image, start=fed["start"], shape=fed["shape"], axes=(0, 1), **target.decoding())
    return _upright(pixels, fed, target) if primitive.exif else pixels


def _upright(image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """Stored images as they are to be seen. Those that are upright already pass by untouched."""

    def of_turned(node: Node) -> Node:
        return split(node, fed["turned"])[0]

    _, upright = split(image, fed["turned"])
    transposed = of_turned(fed["transposed"])
    across, along = split(of_turned(image), transposed)
    across = fn.transpose(across, perm=[1, 0, 2], transpose_layout=False, device=target.device)
    turned = merge(across, along, transposed)
    mirror = {"horizontal": of_turned(fed["mirrored"]), "vertical": of_turned(fed["overturned"])}
    turned = fn.flip(turned, **mirror, device=target.device)
    return merge(turned, upright, fed["turned"])


# Measured on an H100: at most 3 levels, 0.08 in the mean; but up to 28 in images a few pixels wide whose chroma is
# subsampled.
_DECODED_ON_GPU = Tolerance(3.0, 0.1)


def rows(gpu: bool) -> tuple[TableRow, ...]:
    """These primitives in the backend's table."""
    decoded = _DECODED_ON_GPU if gpu else EXACT
    return (
        TableRow(p.Decode, Lowering(decode_arguments, decode), ENCODED, tolerance=decoded),
        TableRow(p.DecodeCrop, Lowering(decode_crop_arguments, decode_crop), ENCODED, tolerance=decoded),
    )
