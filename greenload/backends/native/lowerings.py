"""The native backend's primitives: each as steps of the kernel, and the params that these read for each image.

Params are computed by ``Ops``, in NumPy and in TensorFlow alike, and laid out as float64 for the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from greenload.array_ops import Array, Ops
from greenload.backends import orientation, tolerances
from greenload.backends.base import ENCODED, FILTERED, TableRow, Tolerance
from greenload.backends.native.kernel_step import Flag, KernelStep, Op
from greenload.specs import DTYPES, ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p

Sides = tuple[Array, Array]
"""Rows and columns of images."""


@dataclass(frozen=True)
class Lowering:
    """A primitive as steps of the kernel."""

    steps: Callable[[Any, ImageSpec, ImageSpec], Sequence[KernelStep]]
    """From the primitive and the specs of what enters and leaves; without their columns."""
    params: Callable[[Any, Params, Ops], Sequence[Array]]
    """What those steps read, in their order: parts of a row, float64 ``[…, k]``, from the primitive and its stage's
    params. For decoding there are also ``orientation``, ``upright_height`` and ``upright_width``, where the EXIF
    orientation is applied."""
    sides: Callable[[Any, Params, Array, Array], Sides] = lambda primitive, params, height, width: (height, width)
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


def _decode_steps(primitive: p.Decoding, before: ImageSpec, after: ImageSpec) -> Sequence[KernelStep]:
    window = isinstance(primitive, p.DecodeCrop)
    step = KernelStep(Op.DECODE, Flag.WINDOW if window else Flag.NONE, 4 if window else 0)
    return (step, KernelStep(Op.TURN, count=1)) if primitive.exif else (step,)


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


def _crop_steps(primitive: p.Crop, before: ImageSpec, after: ImageSpec) -> Sequence[KernelStep]:
    return (KernelStep(Op.CROP, count=4, dtypes=_dtypes(before, after), sides=_sides(after)),)


def _pad_steps(primitive: p.Pad, before: ImageSpec, after: ImageSpec) -> Sequence[KernelStep]:
    count = 2 if _static(primitive) else 4
    given = (primitive.height or 0, primitive.width or 0) if _static(primitive) else (0, 0)
    return (KernelStep(Op.PAD, Flag.NONE, count, _dtypes(before, after), given, (primitive.fill,)),)


def _pad_params(primitive: p.Pad, params: Params, ops: Ops) -> Sequence[Array]:
    return _of("pad")(primitive, params, ops) if _static(primitive) else _of("pad", "size")(primitive, params, ops)


def _flip_steps(primitive: p.Flip, before: ImageSpec, after: ImageSpec) -> Sequence[KernelStep]:
    flags = Flag.VERTICAL if primitive.vertical else Flag.NONE
    return (KernelStep(Op.FLIP, flags, 1, _dtypes(before, after), _sides(after)),)


def _erase_steps(primitive: p.Erase, before: ImageSpec, after: ImageSpec) -> Sequence[KernelStep]:
    return (KernelStep(Op.ERASE, Flag.NONE, 4, _dtypes(before, after), _sides(after), primitive.value),)


# new values from several pixels


def _resize_steps(primitive: p.Resize, before: ImageSpec, after: ImageSpec) -> Sequence[KernelStep]:
    flags = Flag.ANTIALIAS if primitive.antialias else Flag.NONE
    given = (primitive.height or 0, primitive.width or 0) if _static(primitive) else (0, 0)
    return (KernelStep(Op.RESIZE, flags, 0 if _static(primitive) else 2, _dtypes(before, after), given),)


def _size_params(primitive: p.Resize, params: Params, ops: Ops) -> Sequence[Array]:
    return () if _static(primitive) else _of("size")(primitive, params, ops)


def _size(primitive: p.Pad | p.Resize, params: Params, height: Array, width: Array) -> Sides:
    if _static(primitive):
        return height * 0 + primitive.height, width * 0 + primitive.width
    return params["size"][..., 0], params["size"][..., 1]


def _warp_steps(primitive: p.Warp, before: ImageSpec, after: ImageSpec) -> Sequence[KernelStep]:
    return (KernelStep(Op.WARP, Flag.NONE, 6, _dtypes(before, after), _sides(after), (primitive.fill,)),)


def _warp_params(primitive: p.Warp, params: Params, ops: Ops) -> Sequence[Array]:
    return _rows(params["matrix"], 2, ops)


def _blur_steps(primitive: p.Blur, before: ImageSpec, after: ImageSpec) -> Sequence[KernelStep]:
    return (KernelStep(Op.BLUR, Flag.NONE, 1, _dtypes(before, after), (primitive.height, primitive.width)),)


# new values from one pixel


def _color_steps(primitive: p.Color, before: ImageSpec, after: ImageSpec) -> Sequence[KernelStep]:
    flags = Flag.MAYBE if primitive.maybe else Flag.NONE
    return (KernelStep(Op.COLOR, flags, 13 if primitive.maybe else 12, _dtypes(before, after), _sides(after)),)


def _color_params(primitive: p.Color, params: Params, ops: Ops) -> Sequence[Array]:
    maybe = _scalar("apply")(primitive, params, ops) if primitive.maybe else ()
    return [*_rows(params["color"], 3, ops), *maybe]


def _look_up_steps(primitive: p.LookUp, before: ImageSpec, after: ImageSpec) -> Sequence[KernelStep]:
    return (KernelStep(Op.LOOKUP, Flag.NONE, 1, _dtypes(before, after), _sides(after), table=primitive.table),)


def _affine_steps(primitive: p.Affine, before: ImageSpec, after: ImageSpec) -> Sequence[KernelStep]:
    count = max(len(primitive.scale), len(primitive.offset))
    spread = [values * (count // len(values)) for values in (primitive.scale, primitive.offset)]
    numbers = (*spread[0], *spread[1])
    return (KernelStep(Op.AFFINE, Flag.NONE, 0, _dtypes(before, after), _sides(after), numbers),)


def _rows(matrix: Array, count: int, ops: Ops) -> list[Array]:
    """A matrix's rows one after another."""
    return [ops.f64(matrix[..., row, :]) for row in range(count)]


def _dtypes(before: ImageSpec, after: ImageSpec) -> tuple[str, str]:
    return before.dtype, after.dtype


def _sides(spec: ImageSpec) -> tuple[int, int]:
    """Rows and columns where all images have the same; else zeros."""
    height, width, _ = spec.image_shape
    return (0, 0) if height is None or width is None else (height, width)


def _static(primitive: p.Pad | p.Resize) -> bool:
    """Whether the size after it is one for all images."""
    return primitive.height is not None and primitive.width is not None


# Rounded half up from float32 sums, or from weights of 14 bits.
_RESIZED = {"uint8": Tolerance(1.0, 0.01), "float32": Tolerance(1e-6, 1e-7)}
_FILTERED = {"uint8": Tolerance(1.0, 0.01), "float32": Tolerance(3e-6, 3e-7)}

ROWS = (
    TableRow(p.Decode, Lowering(_decode_steps, _decode_params), ENCODED),
    TableRow(p.DecodeCrop, Lowering(_decode_steps, _decode_crop_params, _window), ENCODED),
    TableRow(p.Crop, Lowering(_crop_steps, _of("window"), _window), DTYPES),
    TableRow(p.Pad, Lowering(_pad_steps, _pad_params, _size), DTYPES),
    TableRow(p.Flip, Lowering(_flip_steps, _scalar("flip")), DTYPES),
    TableRow(p.Erase, Lowering(_erase_steps, _of("erase")), DTYPES),
    TableRow(p.Resize, Lowering(_resize_steps, _size_params, _size), FILTERED, tolerance=_RESIZED),
    TableRow(p.Warp, Lowering(_warp_steps, _warp_params), FILTERED, tolerance=_FILTERED),
    TableRow(p.Blur, Lowering(_blur_steps, _scalar("sigma")), FILTERED, tolerance=_FILTERED),
    TableRow(p.Color, Lowering(_color_steps, _color_params), FILTERED, tolerance=_FILTERED),
    TableRow(p.LookUp, Lowering(_look_up_steps, _scalar("apply")), ("uint8",)),
    TableRow(p.Affine, Lowering(_affine_steps, _nothing), DTYPES, to=DTYPES, tolerance=tolerances.affine),
)
