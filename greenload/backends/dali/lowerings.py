"""The DALI backends' primitives, each as operators of a graph, on the CPU or on a GPU, and what these are fed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.dali.base import WINDOW, Argument, Node, Target
from greenload.backends.dali.choice import merge, split
from greenload.specs import ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p

# Makes rounding to nearest cut, whichever way halves go: 3.0 stays 3, as 2**-15 is above a float32 step at 255.
_STEP = 2.0**-15
_ROUND_TO_CUT = _STEP - 0.5
# Makes halves round up, which GPUs round to even; above the error of float32 in a sum of four products.
_HALVES_UP = 2.0**-14
# Taps further than 5.5 sigma hold less than a float32 step of a Gaussian's weight. As denormal numbers they would cost
# DALI's CPU operator twenty times what the others do.
_REACH = 5.5


def no_arguments(primitive: p.Primitive, spec: ImageSpec) -> tuple[Argument, ...]:
    """Nothing: what it does is the same for all images."""
    return ()


def crop_arguments(primitive: p.Crop, spec: ImageSpec) -> tuple[Argument, ...]:
    """The windows."""
    return WINDOW


def crop(primitive: p.Crop, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """A window."""
    from nvidia.dali import fn

    return fn.slice(image, start=fed["start"], shape=fed["shape"], axes=(0, 1), device=target.device)


def pad_arguments(primitive: p.Pad, spec: ImageSpec) -> tuple[Argument, ...]:
    """Where the images begin in the padded ones, and the sizes of these where they differ."""
    start = Argument("start", "int32", lambda params: -params["pad"])
    return (start,) if _static(primitive) else (start, Argument("shape", "int32", lambda params: params["size"]))


def pad(primitive: p.Pad, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """A slice that reaches beyond the image."""
    from nvidia.dali import fn

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
    from nvidia.dali import fn, types

    return fn.resize(
        image,
        size=fed.get("size", [primitive.height, primitive.width]),
        interp_type=types.INTERP_LINEAR,
        antialias=primitive.antialias,
        device=target.device,
    )


def flip_arguments(primitive: p.Primitive, spec: ImageSpec) -> tuple[Argument, ...]:
    """Which images are mirrored."""
    return (Argument("flip", "int32", lambda params: params["flip"], 0),)


def flip(primitive: p.Flip, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """Mirrored where the params say so."""
    from nvidia.dali import fn

    if primitive.vertical:
        return fn.flip(image, horizontal=0, vertical=fed["flip"], device=target.device)
    return fn.flip(image, horizontal=fed["flip"], device=target.device)


def warp_arguments(primitive: p.Warp, spec: ImageSpec) -> tuple[Argument, ...]:
    """The maps."""
    return (Argument("matrix", "float32", lambda params: params["matrix"], 2),)


def warp(primitive: p.Warp, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """``warp_affine``, whose ``matrix`` is the primitive's: output to input, 0 the corner of the first pixel."""
    from nvidia.dali import fn, types

    return fn.warp_affine(
        image,
        matrix=fed["matrix"],
        fill_value=primitive.fill,
        interp_type=types.INTERP_LINEAR,
        device=target.device,
    )


def color(primitive: p.Color, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """``coord_transform``. Where it happens to some images only, the others take a way around it."""
    if not primitive.maybe:
        return _recolored(image, fed["color"], spec, target)
    chosen, others = split(image, fed["apply"])
    matrices, _ = split(fed["color"], fed["apply"])
    return merge(_recolored(chosen, matrices, spec, target), others, fed["apply"])


def _recolored(image: Node, matrices: Node, spec: ImageSpec, target: Target) -> Node:
    from nvidia.dali import fn, math, types

    if spec.dtype == "uint8":
        return fn.coord_transform(image, MT=matrices, dtype=types.UINT8, device=target.device)
    return math.clamp(fn.coord_transform(image, MT=matrices, device=target.device), 0.0, 1.0)


def color_arguments(primitive: p.Color, spec: ImageSpec) -> tuple[Argument, ...]:
    """The matrices, and which images are changed where not all are."""

    def matrices(params: Params) -> NDArray[np.float64]:
        found = np.array(params["color"], np.float64)
        if spec.dtype == "uint8":
            found[..., 3] = found[..., 3] * 255.0 + _HALVES_UP
        return found

    applied = (Argument("apply", "bool", lambda params: params["apply"], 0),) if primitive.maybe else ()
    return (Argument("color", "float32", matrices, 2), *applied)


def blur(primitive: p.Blur, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """The separable Gaussian."""
    from nvidia.dali import fn

    return fn.gaussian_blur(image, sigma=fed["sigma"], window_size=fed["taps"], device=target.device)


def blur_arguments(primitive: p.Blur, spec: ImageSpec) -> tuple[Argument, ...]:
    """The widths of the Gaussians, and over how many pixels they are taken."""

    def taps(params: Params) -> NDArray[np.int64]:
        enough = 2.0 * np.floor(_REACH * np.asarray(params["sigma"])[:, None]) + 1.0
        return np.minimum([primitive.height, primitive.width], enough).astype(np.int64)

    return Argument("sigma", "float32", lambda params: params["sigma"], 0), Argument("taps", "int32", taps)


def erase_arguments(primitive: p.Erase, spec: ImageSpec) -> tuple[Argument, ...]:
    """The windows that are erased."""
    anchor = Argument("anchor", "float32", lambda params: params["erase"][:, :2])
    return anchor, Argument("shape", "float32", lambda params: params["erase"][:, 2:])


def erase(primitive: p.Erase, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """One region; of no size where nothing is erased. On a GPU DALI erases no float16: its bits are erased as int16."""
    from nvidia.dali import fn, types

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


def affine(primitive: p.Affine, spec: ImageSpec, image: Node, fed: Mapping[str, Node], target: Target) -> Node:
    """``crop_mirror_normalize``: a tenth of what arithmetic operators cost, and closer to the reference."""
    from nvidia.dali import fn, math, types

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
