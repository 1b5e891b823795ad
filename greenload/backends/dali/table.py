"""What the DALI backends do: each primitive as operators of a graph, and how exactly. One list serves the CPU and the
GPU: the device is the only difference.

Tolerances on the CPU were measured against the float64 references over photographs and noise, with sides from 1 to
1,000 pixels. ``nvJPEG`` is not bit-equal to libjpeg, and its kernels round on their own: on a GPU they are wider.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from greenload.backends.base import ENCODED, EXACT, FILTERED, BackendTable, TableRow, Tolerance, rows
from greenload.backends.dali import choice, decode, lowerings
from greenload.backends.dali.base import Lowering
from greenload.backends.tolerances import CUT, reach
from greenload.plans.steps import BackendTraits
from greenload.specs import ImageSpec
from greenload.stages import primitives as p

_FLOAT_STEPS = 8 * float(np.finfo(np.float32).eps)

# DALI repeats the border where the reference renormalises. Shrinking, at most 1/8 of an antialiasing kernel's weight
# lies outside along an axis, hence 1 − (7/8)² in a corner; on photographs 17 levels were seen.
_RIM = 1.0 - (7.0 / 8.0) ** 2

# DALI's weights are float32, so halves fall to either side, where the reference rounds them up. Halves are frequent at
# simple scales: half of all pixels are, where one axis is halved, and half of those fall down.
_TIES = 0.25

# DALI's CPU operator steps along a row by adding the map's slope to a float32 position, whose error grows with each
# step by up to half a float32 step of the position: 5.7e-8 of a pixel times width and longer side was the most of 400
# random maps for each of 8 sides from 32 to 4,000; over noise a sixth of it in the mean. A GPU multiplies per pixel.
_DRIFT_PX = 7e-8
# The side that is reckoned with where a spec names none.
_LARGE = 1000

# Measured on an H100: at most 3 levels, 0.08 in the mean; but up to 28 in images a few pixels wide whose chroma is
# subsampled.
_DECODED_ON_GPU = Tolerance(3.0, 0.1)

# CPU: the most seen was a level for uint8, where a float32 sum falls to the other side of a half; for floats, of values
# in 0 … 1, 4e-7 for Color and 3e-7 for Blur. GPU: not yet measured; from analysis, the same float32 formula in another
# order. The means leave room for one pixel of a few hundred, in the smallest images.
_FILTERED = Tolerance(1.0, 5e-3)
_RECOLORED_FLOATS, _BLURRED_FLOATS = Tolerance(2e-6, 5e-7), Tolerance(1e-6, 3e-7)
_FLOATS_ON_GPU = Tolerance(5e-6, 1e-6)

_GPU_WEIGHTS = 1024  # DALI's GPU operator has room for so many of a blur's weights, times channels

# DALI has no bfloat16, and flips no float16 on the CPU.
_MOVED = ("uint8", "int8", "float16", "float32")
_FLIPPED = ("uint8", "int8", "float32")


def _resized(primitive: p.Resize, spec: ImageSpec, gpu: bool) -> Tolerance:
    if spec.dtype == "uint8":
        return Tolerance(1.0, _TIES, rim=255.0 * _RIM if primitive.antialias else None)
    # Measured 2e-5 of the range: positions are float32 in DALI.
    return Tolerance(2e-4 if gpu else 5e-5, 5e-6, rim=_RIM if primitive.antialias else None)


def _warped(primitive: p.Warp, spec: ImageSpec, gpu: bool) -> Tolerance:
    height, width, _ = (n or _LARGE for n in spec.image_shape)
    longer = max(height, width)
    # Between neighbours a value changes by at most its range, along both axes.
    error = 2e-6 + (4e-7 * longer if gpu else _DRIFT_PX * width * longer)
    if spec.dtype == "uint8":
        # Two values less than a level apart are rounded to one level or to neighbours.
        return Tolerance(float(np.ceil(255.0 * error)), _TIES + 255.0 * error / 6.0)
    return Tolerance(error, error / 6.0)


def _filtered(primitive: p.Primitive, spec: ImageSpec, floats: Tolerance) -> Tolerance:
    return _FILTERED if spec.dtype == "uint8" else floats


def _padded(primitive: p.Pad, spec: ImageSpec) -> Tolerance:
    return _constants((primitive.fill,), spec)


def _erased(primitive: p.Erase, spec: ImageSpec) -> Tolerance:
    return _constants(primitive.value, spec)


def _constants(values: tuple[float, ...], spec: ImageSpec) -> Tolerance:
    """Exact, but that float32 images take the float32 nearest to each value."""
    if spec.dtype != "float32":
        return EXACT
    gap = float(max(abs(value - float(np.float32(value))) for value in values))
    return Tolerance(gap, gap)


def _affine(primitive: p.Affine, spec: ImageSpec) -> Tolerance:
    if primitive.dtype in ("uint8", "int8"):
        return CUT
    step = _FLOAT_STEPS + (float(np.finfo(np.float16).eps) / 2.0 if primitive.dtype == "float16" else 0.0)
    error = step * reach(primitive, spec)
    return Tolerance(error, error)


def _within_weights(primitive: p.Blur, spec: ImageSpec) -> bool:
    return max(primitive.height, primitive.width) * (spec.shape[-1] or 3) < _GPU_WEIGHTS


def _rows(gpu: bool) -> Mapping[type[p.Primitive], TableRow]:
    decoded = _DECODED_ON_GPU if gpu else EXACT
    recolored = functools.partial(_filtered, floats=_FLOATS_ON_GPU if gpu else _RECOLORED_FLOATS)
    blurred = functools.partial(_filtered, floats=_FLOATS_ON_GPU if gpu else _BLURRED_FLOATS)
    resized, warped = functools.partial(_resized, gpu=gpu), functools.partial(_warped, gpu=gpu)
    decode_crop = Lowering(decode.decode_crop_arguments, decode.decode_crop)
    affine = Lowering(lowerings.no_arguments, lowerings.affine)
    flip_affine = Lowering(lowerings.flip_arguments, lowerings.affine)
    blur = Lowering(lowerings.blur_arguments, lowerings.blur)
    return rows(
        TableRow(p.Decode, Lowering(decode.decode_arguments, decode.decode), ENCODED, tolerance=decoded),
        TableRow(p.DecodeCrop, decode_crop, ENCODED, tolerance=decoded),
        TableRow(p.Crop, Lowering(lowerings.crop_arguments, lowerings.crop), _MOVED),
        TableRow(p.Pad, Lowering(lowerings.pad_arguments, lowerings.pad), _MOVED, tolerance=_padded),
        TableRow(p.Flip, Lowering(lowerings.flip_arguments, lowerings.flip), _FLIPPED),
        TableRow(p.Erase, Lowering(lowerings.erase_arguments, lowerings.erase), _MOVED, tolerance=_erased),
        TableRow(p.Resize, Lowering(lowerings.resize_arguments, lowerings.resize), FILTERED, tolerance=resized),
        TableRow(p.Warp, Lowering(lowerings.warp_arguments, lowerings.warp), FILTERED, tolerance=warped),
        TableRow(p.Color, Lowering(lowerings.color_arguments, lowerings.color), FILTERED, tolerance=recolored),
        TableRow(p.Blur, blur, FILTERED, tolerance=blurred, condition=_within_weights if gpu else None),
        TableRow(p.Affine, affine, _MOVED, to=_MOVED, tolerance=_affine),
        TableRow(p.FlipAffine, flip_affine, _FLIPPED, to=_MOVED, tolerance=_affine),
        TableRow(p.Choice, Lowering(choice.choice_arguments, choice.choice), _MOVED),
    )


CPU_TABLE = BackendTable(
    "dali-cpu",
    _rows(gpu=False),
    kinds=("JPEG", "PNG", "16-bit PNG", "BMP", "WebP", "palette BMP", "TIFF"),
    traits=BackendTraits(takes_batches=True, queues_batches=True, fuses_flip=True),
)
GPU_TABLE = BackendTable(
    "dali",
    _rows(gpu=True),
    kinds=("JPEG", "PNG"),  # what a GPU does with the others isn't known yet
    traits=BackendTraits(takes_batches=True, on_gpu=True, queues_batches=True, fuses_flip=True),
    fills_jpeg=False,
)


def measured_on_gpu(primitive: p.Primitive, spec: ImageSpec) -> bool:
    """Whether what ``"dali"`` states for a primitive on images of ``spec`` was measured on a GPU (an H100); the rest
    comes from analysis."""
    match primitive:
        case p.Decode() | p.DecodeCrop():
            return True
        case p.Crop() | p.Pad() | p.Resize() | p.Flip(vertical=False):
            return spec.dtype == "uint8"
        case p.Affine():
            return spec.dtype == "uint8" and primitive.dtype == "float32"
    return False
