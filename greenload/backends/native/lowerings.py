"""The native backend's primitives: each as steps of the kernel, and the params that these read for each image.

Params are computed by ``Ops``, in NumPy and in TensorFlow alike, and laid out as float64 for the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from greenload.array_ops import Array, Ops
from greenload.backends import orientation, tolerances
from greenload.backends.base import ENCODED, EXACT, FILTERED, TableRow, Tolerance
from greenload.backends.native.abi import Flag, KernelStep, Op
from greenload.specs import DTYPES, ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p

Sides = tuple[Array, Array]
"""Rows and columns of images."""


Steps = Sequence[tuple[KernelStep, int]]
"""Steps of the kernel, without their columns, each with how many params it reads."""


def _unchanged(primitive: Any, params: Params, height: Array, width: Array) -> Sides:
    """Rows and columns as they are."""
    return height, width


@dataclass(frozen=True)
class Lowering:
    """A primitive as steps of the kernel."""

    steps: Callable[[Any, ImageSpec, ImageSpec], Steps]
    """From the primitive and the specs of what enters and leaves."""
    params: Callable[[Any, Params, Ops], Sequence[Array]]
    """What those steps read, in their order: parts of a row, float64 ``[…, k]``, from the primitive and its stage's
    params. For decoding there are also ``orientation``, ``upright_height`` and ``upright_width``, where the EXIF
    orientation is applied."""
    sides: Callable[[Any, Params, Array, Array], Sides] = _unchanged
    """Rows and columns of the images that leave, from the same and those of the images that enter. An encoded image
    enters upright."""


def _nothing(primitive: p.Primitive, params: Params, ops: Ops) -> Sequence[Array]:
    return ()


def _of(*names: str) -> Callable[[Any, Params, Ops], Sequence[Array]]:
    """Vectors ``[…, k]`` among the params, by name."""
    return lambda primitive, params, ops: [ops.f64(params[name]) for name in names]


def _scalar(name: str) -> Callable[[Any, Params, Ops], Sequence[Array]]:
    """One number an image."""
    return lambda primitive, params, ops: [ops.f64(params[name])[..., None]]


def _window(primitive: p.Primitive, params: Params, height: Array, width: Array) -> Sides:
    return params["window"][..., 2], params["window"][..., 3]


# decoding


def _decode_steps(primitive: p.Decoding, before: ImageSpec, after: ImageSpec) -> Steps:
    window = isinstance(primitive, p.DecodeCrop)
    decode = (KernelStep(Op.DECODE, Flag.WINDOW), 4) if window else (KernelStep(Op.DECODE), 0)
    return (decode, (KernelStep(Op.TURN), 1)) if primitive.exif else (decode,)


def _decode_params(primitive: p.Decode, params: Params, ops: Ops) -> Sequence[Array]:
    return _scalar("orientation")(primitive, params, ops) if primitive.exif else ()


def _decode_crop_params(primitive: p.DecodeCrop, params: Params, ops: Ops) -> Sequence[Array]:
    """The windows in the stored images, and the orientations."""
    if not primitive.exif:
        return _of("window")(primitive, params, ops)
    turns = params["orientation"]
    window = orientation.stored_window(params["window"], params["upright_height"], params["upright_width"], turns, ops)
    return [ops.f64(window), *_scalar("orientation")(primitive, params, ops)]


# pixels to other places


def _crop_steps(primitive: p.Crop, before: ImageSpec, after: ImageSpec) -> Steps:
    return ((_step(Op.CROP, before, after), 4),)


def _pad_steps(primitive: p.Pad, before: ImageSpec, after: ImageSpec) -> Steps:
    return ((_sized(Op.PAD, primitive, before, after, numbers=(primitive.fill,)), 2 if _static(primitive) else 4),)


def _pad_params(primitive: p.Pad, params: Params, ops: Ops) -> Sequence[Array]:
    return _of("pad")(primitive, params, ops) if _static(primitive) else _of("pad", "size")(primitive, params, ops)


def _flip_steps(primitive: p.Flip, before: ImageSpec, after: ImageSpec) -> Steps:
    return ((_step(Op.FLIP, before, after, Flag.VERTICAL if primitive.vertical else Flag.NONE), 1),)


def _erase_steps(primitive: p.Erase, before: ImageSpec, after: ImageSpec) -> Steps:
    return ((_step(Op.ERASE, before, after, numbers=primitive.value), 4),)


# two images of a batch as one


def _mix_steps(primitive: p.Mix, before: ImageSpec, after: ImageSpec) -> Steps:
    return ((_step(Op.MIX, before, after), 6),)


def _mix_params(primitive: p.Mix, params: Params, ops: Ops) -> Sequence[Array]:
    """The kernel counts partners from the image itself."""
    partner = params["partner"]
    offset = ops.f64(partner - ops.positions(partner))
    return [offset[..., None], ops.f64(params["weight"])[..., None], ops.f64(params["box"])]


# new values from several pixels


def _resize_steps(primitive: p.Resize, before: ImageSpec, after: ImageSpec) -> Steps:
    flags = Flag.ANTIALIAS if primitive.antialias else Flag.NONE
    return ((_sized(Op.RESIZE, primitive, before, after, flags), 0 if _static(primitive) else 2),)


def _size_params(primitive: p.Resize, params: Params, ops: Ops) -> Sequence[Array]:
    return () if _static(primitive) else _of("size")(primitive, params, ops)


def _size(primitive: p.Pad | p.Resize, params: Params, height: Array, width: Array) -> Sides:
    if _static(primitive):
        return height * 0 + primitive.height, width * 0 + primitive.width
    return params["size"][..., 0], params["size"][..., 1]


def _warp_steps(primitive: p.Warp, before: ImageSpec, after: ImageSpec) -> Steps:
    return ((_step(Op.WARP, before, after, numbers=(primitive.fill,)), 6),)


def _warp_params(primitive: p.Warp, params: Params, ops: Ops) -> Sequence[Array]:
    return _rows(params["matrix"], 2, ops)


def _perspective_steps(primitive: p.Perspective, before: ImageSpec, after: ImageSpec) -> Steps:
    return ((_step(Op.PERSPECTIVE, before, after, numbers=(primitive.fill,)), 10),)


def _perspective_params(primitive: p.Perspective, params: Params, ops: Ops) -> Sequence[Array]:
    return [*_rows(params["matrix"], 3, ops), *_scalar("apply")(primitive, params, ops)]


def _blur_steps(primitive: p.Blur, before: ImageSpec, after: ImageSpec) -> Steps:
    taps = replace(_step(Op.BLUR, before, after), height=primitive.height, width=primitive.width)
    return ((taps, 1),)


# new values from one pixel


def _color_steps(primitive: p.Color, before: ImageSpec, after: ImageSpec) -> Steps:
    if primitive.maybe:
        return ((_step(Op.COLOR, before, after, Flag.MAYBE), 13),)
    return ((_step(Op.COLOR, before, after), 12),)


def _color_params(primitive: p.Color, params: Params, ops: Ops) -> Sequence[Array]:
    maybe = _scalar("apply")(primitive, params, ops) if primitive.maybe else ()
    return [*_rows(params["color"], 3, ops), *maybe]


def _look_up_steps(primitive: p.LookUp, before: ImageSpec, after: ImageSpec) -> Steps:
    return ((_step(Op.LOOKUP, before, after, table=primitive.table), 1),)


def _one_number(op: Op) -> Callable[[p.Primitive, ImageSpec, ImageSpec], Steps]:
    """A step that reads one number an image."""
    return lambda primitive, before, after: ((_step(op, before, after), 1),)


def _affine_steps(primitive: p.Affine, before: ImageSpec, after: ImageSpec) -> Steps:
    count = max(len(primitive.scale), len(primitive.offset))
    scales, offsets = (values * (count // len(values)) for values in (primitive.scale, primitive.offset))
    return ((_step(Op.AFFINE, before, after, numbers=(*scales, *offsets)), 0),)


def _rows(matrix: Array, count: int, ops: Ops) -> list[Array]:
    """A matrix's rows one after another."""
    return [ops.f64(matrix[..., row, :]) for row in range(count)]


def _step(
    op: Op,
    before: ImageSpec,
    after: ImageSpec,
    flags: Flag = Flag.NONE,
    numbers: tuple[float, ...] = (),
    table: bytes = b"",
) -> KernelStep:
    """A step, with the rows and columns behind it where all images have the same."""
    height, width, _ = after.image_shape
    sides = (0, 0) if height is None or width is None else (height, width)
    return KernelStep(op, flags, -1, *sides, before.dtype, after.dtype, numbers, table)


def _sized(
    op: Op,
    primitive: p.Pad | p.Resize,
    before: ImageSpec,
    after: ImageSpec,
    flags: Flag = Flag.NONE,
    numbers: tuple[float, ...] = (),
) -> KernelStep:
    """A step that has rows and columns of its own, or reads them among its params."""
    sides = (primitive.height or 0, primitive.width or 0) if _static(primitive) else (0, 0)
    return KernelStep(op, flags, -1, *sides, before.dtype, after.dtype, numbers)


def _static(primitive: p.Pad | p.Resize) -> bool:
    """Whether the size after it is one for all images."""
    return primitive.height is not None and primitive.width is not None


# Weights of 14 bits that sum to 1: a value near a rounding boundary may fall to either side. Over photographs and noise
# of 1 to 400 pixels a side, 0.07 was the most of any image's mean difference. A pattern of hard edges repeats few
# values: 0.29 was seen, and 1 where it is a few pixels wide; a blur of many taps, 0.37.
_RESIZED = Tolerance(1.0, 0.35)
_NARROW_PX = 10
_RESIZED_NARROW = Tolerance(1.0, 1.0)
_BLURRED = Tolerance(1.0, 0.4)
# float32 sums: up to 2e-3 of an image's values were seen on the other side of a half, 1.4e-2 in one of a few hundred.
_RECOLORED = Tolerance(1.0, 0.02)
# All of them sum floats in double precision: the most seen was the rounding of the result.
_FLOATS = Tolerance(6e-8, 3e-8)


def _resized(primitive: p.Resize, spec: ImageSpec) -> Tolerance:
    if spec.dtype != "uint8":
        return _FLOATS
    narrow = any(side is not None and side < _NARROW_PX for side in (primitive.height, primitive.width))
    return _RESIZED_NARROW if narrow else _RESIZED


def _filtered(levels: Tolerance) -> dict[str, Tolerance]:
    return {"uint8": levels, "float32": _FLOATS}


ROWS = (
    TableRow(p.Decode, Lowering(_decode_steps, _decode_params), ENCODED),
    TableRow(p.DecodeCrop, Lowering(_decode_steps, _decode_crop_params, _window), ENCODED),
    TableRow(p.Crop, Lowering(_crop_steps, _of("window"), _window), DTYPES),
    TableRow(p.Pad, Lowering(_pad_steps, _pad_params, _size), DTYPES),
    TableRow(p.Flip, Lowering(_flip_steps, _scalar("flip")), DTYPES),
    TableRow(p.Erase, Lowering(_erase_steps, _of("erase")), DTYPES),
    TableRow(p.Mix, Lowering(_mix_steps, _mix_params), DTYPES, tolerance=tolerances.MIXED),
    TableRow(p.Resize, Lowering(_resize_steps, _size_params, _size), FILTERED, tolerance=_resized),
    TableRow(p.Warp, Lowering(_warp_steps, _warp_params), FILTERED, tolerance=_filtered(EXACT)),
    TableRow(p.Perspective, Lowering(_perspective_steps, _perspective_params), FILTERED, tolerance=_filtered(EXACT)),
    TableRow(p.Blur, Lowering(_blur_steps, _scalar("sigma")), FILTERED, tolerance=_filtered(_BLURRED)),
    TableRow(p.Color, Lowering(_color_steps, _color_params), FILTERED, tolerance=_filtered(_RECOLORED)),
    TableRow(p.LookUp, Lowering(_look_up_steps, _scalar("apply")), ("uint8",)),
    TableRow(p.Autocontrast, Lowering(_one_number(Op.AUTOCONTRAST), _scalar("apply")), ("uint8",)),
    TableRow(p.Equalize, Lowering(_one_number(Op.EQUALIZE), _scalar("apply")), ("uint8",)),
    TableRow(p.Brightness, Lowering(_one_number(Op.BRIGHTNESS), _scalar("factor")), ("uint8",)),
    TableRow(p.Contrast, Lowering(_one_number(Op.CONTRAST), _scalar("factor")), ("uint8",)),
    TableRow(p.Posterize, Lowering(_one_number(Op.POSTERIZE), _scalar("bits")), ("uint8",)),
    TableRow(p.Solarize, Lowering(_one_number(Op.SOLARIZE), _scalar("threshold")), ("uint8",)),
    TableRow(p.Sharpen, Lowering(_one_number(Op.SHARPEN), _scalar("factor")), ("uint8",)),
    TableRow(p.Affine, Lowering(_affine_steps, _nothing), DTYPES, to=DTYPES, tolerance=tolerances.affine),
)
