"""The DALI backends' primitives that move pixels or map values: each as operators of a graph, and what it is fed."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from greenload.backends.base import EXACT, FILTERED, TableRow, Tolerance
from greenload.backends.dali.base import APPLY, MOVED, WINDOW, Argument, Lowering, Node, Target, always, merge, split
from greenload.backends.tolerances import CUT, reach
from greenload.specs import ImageSpec
from greenload.stages import primitives as p
from greenload.system.frameworks import fn, types

# Makes rounding to nearest cut, whichever way halves go: 3.0 stays 3, as 2**-15 is above a float32 step at 255.
_STEP = 2.0**-15
_ROUND_TO_CUT = _STEP - 0.5
_FLOAT_STEPS = 8 * float(np.finfo(np.float32).eps)

# DALI repeats the border where the reference renormalises. Shrinking, at most 1/8 of an antialiasing kernel's weight
# lies outside along an axis, hence 1 − (7/8)² in a corner; on photographs 17 levels were seen.
_RIM = 1.0 - (7.0 / 8.0) ** 2

# DALI's weights are float32, so halves fall to either side, where the reference rounds them up. Halves are frequent at
# simple scales: half of all pixels are, where one axis is halved, and half of those fall down.
TIES = 0.25

_FLIP = Argument("flip", "int32", lambda params: params["flip"], 0)
_FLIPPED = ("uint8", "int8", "float32")
"""DALI flips no float16 on the CPU."""


def crop(primitive: p.Crop, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """A window."""
    return fn.slice(image, start=fed["start"], shape=fed["shape"], axes=(0, 1), device=target.device)


def pad_arguments(primitive: p.Pad, spec: ImageSpec) -> tuple[Argument, ...]:
    """Where the images begin in the padded ones, and the sizes of these where they differ."""
    start = Argument("start", "int32", lambda params: -params["pad"])
    return (start,) if _static(primitive) else (start, Argument("shape", "int32", lambda params: params["size"]))


def pad(primitive: p.Pad, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """A slice that reaches beyond the image."""
    return fn.slice(
        image,
        start=fed["start"],
        shape=fed.get("shape", [primitive.height, primitive.width]),
        axes=(0, 1),
        out_of_bounds_policy="pad",
        fill_values=[primitive.fill],
        device=target.device,
    )


def resize_arguments(primitive: p.Resize, spec: ImageSpec) -> tuple[Argument, ...]:
    """The sizes, where they differ."""
    return () if _static(primitive) else (Argument("size", "float32", lambda params: params["size"]),)


def resize(primitive: p.Resize, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """Bilinear resampling."""
    return fn.resize(
        image,
        size=fed.get("size", [primitive.height, primitive.width]),
        interp_type=types.INTERP_LINEAR,
        antialias=primitive.antialias,
        device=target.device,
    )


def flip(primitive: p.Flip, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """Mirrored where the params say so."""
    if primitive.vertical:
        return fn.flip(image, horizontal=0, vertical=fed["flip"], device=target.device)
    return fn.flip(image, horizontal=fed["flip"], device=target.device)


def look_up(primitive: p.LookUp, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """``lookup_table`` for the images that are changed; the others take a way around it, which copies nothing."""
    chosen, others = split(image, fed["apply"])
    changed = fn.lookup_table(
        chosen, keys=list(range(256)), values=list(primitive.table), dtype=types.UINT8, device=target.device
    )
    return merge(changed, others, fed["apply"])


def autocontrast(
    primitive: p.Autocontrast, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target
) -> Node:
    """Each value by arithmetic in float64, as a table can't differ from image to image in DALI; for the images that are
    changed."""
    from nvidia.dali import math

    chosen, others = split(image, fed["apply"])
    low = fn.reductions.min(chosen, axes=[0, 1], keep_dims=True, device=target.device)
    high = fn.reductions.max(chosen, axes=[0, 1], keep_dims=True, device=target.device)
    several = fn.cast(high > low, dtype=types.FLOAT64, device=target.device)
    flat = 1.0 - several  # a channel of one value: (v − 0) · 1
    scale = (several * 255.0 + flat) / (fn.cast(high - low, dtype=types.FLOAT64, device=target.device) + flat)
    values = math.floor(chosen * scale - low * scale * several)
    return merge(fn.cast(values, dtype=types.UINT8, device=target.device), others, fed["apply"])


def affine(primitive: p.Affine, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """``crop_mirror_normalize``: a tenth of what arithmetic operators cost, and closer to the reference."""
    from nvidia.dali import math

    mirror = {"mirror": fed["flip"]} if isinstance(primitive, p.FlipAffine) else {}
    count = max(len(primitive.scale), len(primitive.offset))
    scales = np.broadcast_to(primitive.scale, count)
    offsets = np.broadcast_to(primitive.offset, count)
    if spec.dtype == "int8":
        image = fn.cast(image, dtype=types.FLOAT, device=target.device)  # crop_mirror_normalize takes no int8

    def mapped(dtype: Any, shift: float = 0.0) -> Node:
        return fn.crop_mirror_normalize(
            image,
            mean=(-offsets / scales).tolist(),
            std=(1.0 / scales).tolist(),
            shift=shift,
            **mirror,
            dtype=dtype,
            output_layout="HWC",
            device=target.device,
        )

    match primitive.dtype:
        case "uint8":
            return mapped(types.UINT8, _ROUND_TO_CUT)
        case "int8" if spec.dtype == "uint8" and scales.min() > 0 and offsets.min() >= 0:
            return mapped(types.INT8, _ROUND_TO_CUT)  # nothing below 0, where cutting is no longer rounding down
        case "int8":
            values = mapped(types.FLOAT)
            cut = math.floor(math.max(values, 0.0) + _STEP) + math.ceil(math.min(values, 0.0) - _STEP)
            return fn.cast(cut, dtype=types.INT8, device=target.device)
    return mapped(types.FLOAT16 if primitive.dtype == "float16" else types.FLOAT)


def _static(primitive: p.Pad | p.Resize) -> bool:
    """Whether the size after it is one for all images."""
    return primitive.height is not None and primitive.width is not None


def _resized(primitive: p.Resize, spec: ImageSpec, gpu: bool) -> Tolerance:
    if spec.dtype == "uint8":
        return Tolerance(1.0, TIES, rim=255.0 * _RIM if primitive.antialias else None)
    # Measured 2e-5 of the range: positions are float32 in DALI.
    return Tolerance(2e-4 if gpu else 5e-5, 5e-6, rim=_RIM if primitive.antialias else None)


def _padded(primitive: p.Pad, spec: ImageSpec) -> Tolerance:
    return constants((primitive.fill,), spec)


def constants(values: tuple[float, ...], spec: ImageSpec) -> Tolerance:
    """Of constants in an image: exact, except that float32 images take the float32 nearest to each value."""
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


def rows(gpu: bool) -> tuple[TableRow, ...]:
    """These primitives in the backend's table."""
    resized = functools.partial(_resized, gpu=gpu)
    return (
        TableRow(p.Crop, Lowering(always(*WINDOW), crop), MOVED),
        TableRow(p.Pad, Lowering(pad_arguments, pad), MOVED, tolerance=_padded),
        TableRow(p.Resize, Lowering(resize_arguments, resize), FILTERED, tolerance=resized),
        TableRow(p.Flip, Lowering(always(_FLIP), flip), _FLIPPED),
        TableRow(p.LookUp, Lowering(always(APPLY), look_up), ("uint8",)),
        TableRow(p.Autocontrast, Lowering(always(APPLY), autocontrast), ("uint8",)),
        TableRow(p.Affine, Lowering(always(), affine), MOVED, to=MOVED, tolerance=_affine),
        TableRow(p.FlipAffine, Lowering(always(_FLIP), affine), _FLIPPED, to=MOVED, tolerance=_affine),
    )
