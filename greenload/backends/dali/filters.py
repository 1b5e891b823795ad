"""The DALI backends' primitives that compute new values from colours or neighbouring pixels, or fill a patch."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import FILTERED, TableRow, Tolerance
from greenload.backends.dali.base import APPLY, MOVED, Argument, Lowering, Node, Target, always, merge, split
from greenload.backends.dali.lowerings import TIES, constants
from greenload.specs import ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p
from greenload.system.frameworks import fn, types

# Makes halves round up, which GPUs round to even; above the error of float32 in a sum of four products.
_HALVES_UP = 2.0**-14
# Taps further than 5.5 sigma hold less than a float32 step of a Gaussian's weight. As denormal numbers they would cost
# DALI's CPU operator twenty times what the others do.
_REACH = 5.5

# DALI's CPU operator steps along a row by adding the map's slope to a float32 position, whose error grows with each
# step by up to half a float32 step of the position: 5.7e-8 of a pixel times width and longer side was the most of 400
# random maps for each of 8 sides from 32 to 4,000; over noise a sixth of it in the mean. A GPU multiplies per pixel.
_DRIFT_PX = 7e-8
# Perspective maps in float32: 2.5e-7 of the range times the longer side was the most of 30 random maps for each of 3
# sides from 57 to 900, over noise a fifteenth in the mean; corners moved by up to half of half a side. Farther ones
# can lie nearly on a line, and then 5e-6 times the side was seen.
_SEEN_PX = 8e-7
_MILD = 0.5
# The side that is reckoned with where a spec names none.
_LARGE = 1000

# CPU: the most seen was a level for uint8, where a float32 sum falls to the other side of a half; for floats, of values
# in 0 … 1, 4e-7 for Color and 3e-7 for Blur. GPU: not yet measured; from analysis, the same float32 formula in another
# order. The means leave room for one pixel of a few hundred, in the smallest images.
_FILTERED = Tolerance(1.0, 5e-3)
_RECOLORED_FLOATS, _BLURRED_FLOATS = Tolerance(2e-6, 5e-7), Tolerance(1e-6, 3e-7)
_FLOATS_ON_GPU = Tolerance(5e-6, 1e-6)

_GPU_WEIGHTS = 1024  # DALI's GPU operator has room for so many of a blur's weights, times channels


_MATRIX = Argument("matrix", "float32", lambda params: params["matrix"], 2)


def warp(primitive: p.Warp, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """``warp_affine``, whose ``matrix`` is the primitive's: output to input, 0 the corner of the first pixel."""
    return fn.warp_affine(
        image,
        matrix=fed["matrix"],
        fill_value=primitive.fill,
        interp_type=types.INTERP_LINEAR,
        device=target.device,
    )


def perspective(
    primitive: p.Perspective, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target
) -> Node:
    """``warp_perspective``, whose ``matrix`` is the primitive's, for the images that are changed."""
    chosen, others = split(image, fed["apply"])
    matrices, _ = split(fed["matrix"], fed["apply"])
    seen = fn.experimental.warp_perspective(
        chosen,
        matrix=matrices,
        fill_value=primitive.fill,
        interp_type=types.INTERP_LINEAR,
        device=target.device,
    )
    return merge(seen, others, fed["apply"])


def color(primitive: p.Color, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """``coord_transform``. Where it happens to some images only, the others take a way around it."""
    if not primitive.maybe:
        return _recolored(image, fed["color"], spec, target)
    chosen, others = split(image, fed["apply"])
    matrices, _ = split(fed["color"], fed["apply"])
    return merge(_recolored(chosen, matrices, spec, target), others, fed["apply"])


def _recolored(image: Node, matrices: Node, spec: ImageSpec, target: Target) -> Node:
    from nvidia.dali import math

    if spec.dtype == "uint8":
        return fn.coord_transform(image, MT=matrices, dtype=types.UINT8, device=target.device)
    return math.clamp(fn.coord_transform(image, MT=matrices, device=target.device), 0.0, 1.0)


def color_arguments(primitive: p.Color, spec: ImageSpec) -> tuple[Argument, ...]:
    """The matrices, and which images are changed where not all are."""

    def matrices(params: Params) -> NDArray[np.float64]:
        scaled = np.array(params["color"], np.float64)
        if spec.dtype == "uint8":
            scaled[..., 3] = scaled[..., 3] * 255.0 + _HALVES_UP
        return scaled

    return (Argument("color", "float32", matrices, 2), *([APPLY] if primitive.maybe else []))


def blur(primitive: p.Blur, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """The separable Gaussian."""
    return fn.gaussian_blur(image, sigma=fed["sigma"], window_size=fed["taps"], device=target.device)


def blur_arguments(primitive: p.Blur, spec: ImageSpec) -> tuple[Argument, ...]:
    """The widths of the Gaussians, and over how many pixels they are taken."""

    def taps(params: Params) -> NDArray[np.int64]:
        enough = 2.0 * np.floor(_REACH * np.asarray(params["sigma"])[:, None]) + 1.0
        return np.minimum([primitive.height, primitive.width], enough).astype(np.int64)

    return Argument("sigma", "float32", lambda params: params["sigma"], 0), Argument("taps", "int32", taps)


_RECTANGLE = (
    Argument("anchor", "float32", lambda params: params["erase"][:, :2]),
    Argument("shape", "float32", lambda params: params["erase"][:, 2:]),
)


def erase(primitive: p.Erase, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """One region; of no size where nothing is erased. On a GPU DALI erases no float16: its bits are erased as int16."""
    values = list(primitive.value)
    bits = spec.dtype == "float16"
    if bits:
        image = fn.reinterpret(image, dtype=types.INT16, device=target.device)
        values = [float(value) for value in np.array(values, np.float16).view(np.int16)]
    erased = fn.erase(
        image,
        anchor=fed["anchor"],
        shape=fed["shape"],
        axis_names="HW",
        fill_value=values,
        device=target.device,
    )
    return fn.reinterpret(erased, dtype=types.FLOAT16, device=target.device) if bits else erased


def _warped(primitive: p.Warp, spec: ImageSpec, gpu: bool) -> Tolerance:
    height, width, _ = (n or _LARGE for n in spec.image_shape)
    longer = max(height, width)
    # Between neighbours a value changes by at most its range, along both axes.
    error = 2e-6 + (4e-7 * longer if gpu else _DRIFT_PX * width * longer)
    if spec.dtype == "uint8":
        # Two values less than a level apart are rounded to one level or to neighbours.
        return Tolerance(float(np.ceil(255.0 * error)), TIES + 255.0 * error / 6.0)
    return Tolerance(error, error / 6.0)


def _seen(primitive: p.Perspective, spec: ImageSpec) -> Tolerance:
    error = 2e-6 + _SEEN_PX * max(n or _LARGE for n in spec.image_shape[:2])
    if spec.dtype == "uint8":
        return Tolerance(float(np.ceil(255.0 * error)), TIES + 255.0 * error / 6.0)
    return Tolerance(error, error / 6.0)


def _is_mild(primitive: p.Perspective, spec: ImageSpec) -> bool:
    return primitive.distortion <= _MILD


def _erased(primitive: p.Erase, spec: ImageSpec) -> Tolerance:
    return constants(primitive.value, spec)


def _within_weights(primitive: p.Blur, spec: ImageSpec) -> bool:
    return max(primitive.height, primitive.width) * (spec.shape[-1] or 3) < _GPU_WEIGHTS


def rows(gpu: bool) -> tuple[TableRow, ...]:
    """These primitives in the backend's table."""
    warped = functools.partial(_warped, gpu=gpu)
    recolored = {"uint8": _FILTERED, "float32": _FLOATS_ON_GPU if gpu else _RECOLORED_FLOATS}
    blurred = {"uint8": _FILTERED, "float32": _FLOATS_ON_GPU if gpu else _BLURRED_FLOATS}
    condition = _within_weights if gpu else None
    through = Lowering(always(_MATRIX, APPLY), perspective)
    seen = TableRow(p.Perspective, through, FILTERED, tolerance=_seen, condition=_is_mild)
    return (
        TableRow(p.Warp, Lowering(always(_MATRIX), warp), FILTERED, tolerance=warped),
        TableRow(p.Color, Lowering(color_arguments, color), FILTERED, tolerance=recolored),
        TableRow(p.Blur, Lowering(blur_arguments, blur), FILTERED, tolerance=blurred, condition=condition),
        TableRow(p.Erase, Lowering(always(*_RECTANGLE), erase), MOVED, tolerance=_erased),
        *(() if gpu else (seen,)),  # what a GPU's operator gives isn't known yet
    )
