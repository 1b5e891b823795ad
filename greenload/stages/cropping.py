"""Stages that cut a window out of an image, and the border around it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from greenload.array_ops import NUMPY, Array, Ops, exp
from greenload.errors import PipelineError
from greenload.public import public
from greenload.specs import HWC, ImageSpec
from greenload.stages import primitives as pixels
from greenload.stages.arguments import finite, flag, interval, need_filterable, need_level, need_single, pair, sides
from greenload.stages.base import Params, Stage
from greenload.stages.primitives import Primitive
from greenload.stages.reference import place, resize


def cropped(image: NDArray[np.generic], window: Array) -> NDArray[np.generic]:
    """The part of an image in a window ``[top, left, height, width]``."""
    top, left, height, width = (int(n) for n in window)
    return image[top : top + height, left : left + width]


@dataclass(frozen=True)
class _OfOneSize(Stage):
    """What the three crops share: all images leave in one size."""

    size: int | tuple[int, int]

    @property
    def _sides(self) -> tuple[int, int]:
        assert isinstance(self.size, tuple)  # __post_init__ made it so
        return self.size

    def out_size(self, params: Params, height: Array, width: Array, ops: Ops = NUMPY) -> tuple[Array, Array]:
        return height * 0 + self._sides[0], width * 0 + self._sides[1]


@public
@dataclass(frozen=True)
class CenterCrop(_OfOneSize):
    """The middle ``size`` of an image; where the image is smaller, zeros around it
    (``torchvision.transforms.v2.CenterCrop``).

    Args:
        size: one side of a square, or ``(height, width)``.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", pair("CenterCrop", "size", self.size))

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_single(self, spec)
        return ImageSpec((*self._sides, spec.shape[2]), spec.dtype, HWC)

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        starts, sides, pads = [], [], []
        for have, want in zip((height, width), self._sides, strict=True):
            spare = have - want
            # torchvision: int(round((have − want) / 2)) rounds half to even; the padding before is (want − have) // 2
            start = ops.i64(ops.rint(ops.f64(ops.maximum(spare, spare * 0)) / 2.0))
            starts.append(start)
            sides.append(ops.minimum(have, spare * 0 + want))
            pads.append(ops.maximum(-spare, spare * 0) // 2)
        return {"window": ops.stack(starts + sides, axis=-1), "pad": ops.stack(pads, axis=-1)}

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        height, width, _ = spec.shape
        rows, columns = self._sides
        if height is not None and width is not None and height >= rows and width >= columns:
            return (pixels.Crop(),)
        return (pixels.Crop(), pixels.Pad(rows, columns))

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return place(cropped(image, params["window"]), params["pad"], *self._sides, fill=0)


@public
@dataclass(frozen=True)
class RandomCrop(_OfOneSize):
    """A random window of a given size (``torchvision.transforms.v2.RandomCrop``).

    It is computed as one window inside the image and ``fill`` around it, so that padding costs no copy of its own and
    cropping goes on inside the decoder. Where it differs from torchvision: only constant padding, and one ``fill`` for
    all channels; a ``padding`` as wide as the crop, whose window could miss the image altogether, is refused.

    Args:
        size: one side of a square, or ``(height, width)``.
        padding: what is put around first: one number for all sides, two (left and right, top and bottom), or four
            (left, top, right, bottom).
        pad_if_needed: widen the padding where the image with it is smaller than the crop, by what lacks on *each* of
            the two sides, as torchvision does. Without it such an image is an error that names it.
        fill: the padding's value, in the images' own range.

    Example:
        >>> RandomCrop(32, padding=4)               # the usual augmentation of CIFAR-10
    """

    draws: ClassVar[int] = 2
    numbers: ClassVar[int] = 2

    padding: int | tuple[int, ...] | None = None
    pad_if_needed: bool = False
    fill: float = 0.0

    def __post_init__(self) -> None:
        rows, columns = pair("RandomCrop", "size", self.size)
        object.__setattr__(self, "size", (rows, columns))
        object.__setattr__(self, "pad_if_needed", flag("RandomCrop", "pad_if_needed", self.pad_if_needed))
        object.__setattr__(self, "fill", finite("RandomCrop", "fill", self.fill))
        if self.padding is None:
            return
        left, top, right, bottom = sides("RandomCrop", "padding", self.padding)
        if max(left, right) >= columns or max(top, bottom) >= rows:
            raise PipelineError(
                f"RandomCrop: padding must be narrower than the crop of {rows}×{columns}, which could miss the image "
                f"otherwise, not {self.padding!r}"
            )
        object.__setattr__(self, "padding", (left, top, right, bottom) if left + top + right + bottom else None)

    @property
    def _around(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows before and after, columns before and after."""
        left, top, right, bottom = self.padding if isinstance(self.padding, tuple) else (0, 0, 0, 0)
        return (top, bottom), (left, right)

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_single(self, spec)
        need_level(self, "fill", (self.fill,), spec)
        lacks = [
            have is not None and have + sum(pads) < want
            for have, want, pads in zip(spec.shape[:2], self._sides, self._around, strict=True)
        ]
        if any(lacks) and not self.pad_if_needed:
            raise PipelineError(f"{self.why_too_small()}; here images are {spec}")
        return ImageSpec((*self._sides, spec.shape[2]), spec.dtype, HWC)

    def large_enough(self, height: Array, width: Array, ops: Ops = NUMPY) -> Array | None:
        if self.pad_if_needed:
            return None
        (rows, columns), (tall, wide) = self._sides, self._around
        return (height + sum(tall) >= rows) & (width + sum(wide) >= columns)

    def why_too_small(self) -> str:
        (rows, columns), padded = self._sides, " with its padding" if self.padding else ""
        return (
            f"RandomCrop needs images of at least {rows}×{columns} pixels{padded}, but this is smaller: "
            "pass pad_if_needed=True, or put Resize before it"
        )

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        starts, extents, pads = [], [], []
        for axis, (have, want, (before, after)) in enumerate(
            zip((height, width), self._sides, self._around, strict=True)
        ):
            nothing = have * 0
            total = have + (before + after)
            short = ops.maximum(want - total, nothing)  # where the image doesn't fit, it is refused before
            spare = ops.f64(ops.maximum(total + 2 * short - want, nothing))
            # Where the window begins, counted from the image's own first pixel: below 0 within the padding.
            start = ops.i64(ops.floor(numbers[..., axis] * (spare + 1.0))) - (short + before)
            first = ops.maximum(start, nothing)
            starts.append(first)
            extents.append(ops.minimum(start + want, have) - first)
            pads.append(first - start)
        return {"window": ops.stack(starts + extents, axis=-1), "pad": ops.stack(pads, axis=-1)}

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        large = all(have is not None and have >= want for have, want in zip(spec.shape[:2], self._sides, strict=True))
        if self.padding is None and (large or not self.pad_if_needed):
            return (pixels.Crop(),)
        return (pixels.Crop(), pixels.Pad(*self._sides, self.fill))

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return place(cropped(image, params["window"]), params["pad"], *self._sides, fill=self.fill)


ATTEMPTS = 10
"""So often a window is drawn: torchvision's RandomResizedCrop.get_params and RandomErasing.make_params."""


def attempted_sides(
    uniforms: Array, scale: tuple[float, float], ratio: tuple[float, float], ops: Ops
) -> tuple[Array, Array]:
    """Sides of windows in an image of unit area: ``√(share · ratio)`` and ``√(share / ratio)``.

    Args:
        uniforms: float64 ``[…, 2 · ATTEMPTS]`` or more.
        scale: bounds of the share of the image's area.
        ratio: bounds of the first side over the second.
        ops: the array namespace.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    share = uniforms[..., :ATTEMPTS] * (scale[1] - scale[0]) + scale[0]
    drawn = exp(uniforms[..., ATTEMPTS : 2 * ATTEMPTS] * (high - low) + low, ops)
    return ops.sqrt(share * drawn), ops.sqrt(share / drawn)


@public
@dataclass(frozen=True)
class RandomResizedCrop(_OfOneSize):
    """A random window, resized (``torchvision.transforms.v2.RandomResizedCrop``, its distribution included).

    Ten attempts: area a uniform share of the image's, aspect ratio log-uniform, sides rounded half up; the first that
    fits is placed uniformly. If none fits, the largest central window whose ratio is within bounds. Crop first, then
    resize: no pixel outside the window is read.

    Args:
        size: one side of a square, or ``(height, width)``.
        scale: bounds of the window's share of the image's area.
        ratio: bounds of the window's width over height.
        antialias: low-pass filter when shrinking.

    Example:
        >>> RandomResizedCrop(224)
        >>> RandomResizedCrop((192, 256), scale=(0.25, 1.0), antialias=False)
    """

    draws: ClassVar[int] = 2 * ATTEMPTS + 2
    numbers: ClassVar[int] = 2 * ATTEMPTS + 2

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3.0 / 4.0, 4.0 / 3.0)
    antialias: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", pair("RandomResizedCrop", "size", self.size))
        object.__setattr__(self, "antialias", flag("RandomResizedCrop", "antialias", self.antialias))
        for name in ("scale", "ratio"):
            bounds = interval("RandomResizedCrop", name, getattr(self, name), 0.0, strict=True)
            object.__setattr__(self, name, bounds)
        if self.scale[1] > 1:
            raise PipelineError(
                f"RandomResizedCrop: scale is a share of the image's area, at most 1, not {self.scale!r}"
            )

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_single(self, spec)
        need_filterable(self, spec)
        return ImageSpec((*self._sides, spec.shape[2]), spec.dtype, HWC)

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        columns, rows = attempted_sides(uniforms, self.scale, self.ratio, ops)
        return ops.concat([columns, rows, uniforms[..., -2:]], axis=-1)

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        tall, wide = ops.f64(height), ops.f64(width)
        root = ops.sqrt(tall * wide)
        columns = ops.floor(root[..., None] * numbers[..., :ATTEMPTS] + 0.5)
        rows = ops.floor(root[..., None] * numbers[..., ATTEMPTS : 2 * ATTEMPTS] + 0.5)
        fits = (columns >= 1.0) & (columns <= wide[..., None]) & (rows >= 1.0) & (rows <= tall[..., None])
        first = ops.argmax(fits, axis=-1)
        fitting = ops.any(fits, axis=-1)
        fallback_w, fallback_h = self._fallback(tall, wide, ops)
        w = ops.where(fitting, ops.pick(columns, first), fallback_w)
        h = ops.where(fitting, ops.pick(rows, first), fallback_h)
        top = ops.floor(ops.where(fitting, numbers[..., -2] * (tall - h + 1.0), (tall - h) * 0.5))
        left = ops.floor(ops.where(fitting, numbers[..., -1] * (wide - w + 1.0), (wide - w) * 0.5))
        return {"window": ops.i64(ops.stack([top, left, h, w], axis=-1))}

    def _fallback(self, tall: Array, wide: Array, ops: Ops) -> tuple[Array, Array]:
        low, high = self.ratio
        pixel = tall * 0.0 + 1.0
        aspect = wide / tall
        w = ops.where(aspect > high, ops.floor(tall * high + 0.5), wide)
        h = ops.where(aspect < low, ops.floor(wide / low + 0.5), tall)
        return ops.minimum(ops.maximum(w, pixel), wide), ops.minimum(ops.maximum(h, pixel), tall)

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.Crop(), pixels.Resize(self.antialias, *self._sides))

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return resize(cropped(image, params["window"]), *self._sides, self.antialias)


@public
@dataclass(frozen=True)
class Pad(Stage):
    """``fill`` around the image (``torchvision.transforms.v2.Pad``).

    Where it differs from torchvision: only constant padding (no ``padding_mode``), one ``fill`` for all channels, and
    no negative padding.

    Args:
        padding: one number for all sides, two (left and right, top and bottom), or four (left, top, right, bottom).
        fill: its value, in the images' own range.

    Example:
        >>> Pad((0, 8), fill=127)                   # 8 grey rows above and below
    """

    padding: int | tuple[int, ...]
    fill: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", sides("Pad", "padding", self.padding))
        object.__setattr__(self, "fill", finite("Pad", "fill", self.fill))

    @property
    def _sides(self) -> tuple[int, int, int, int]:
        assert isinstance(self.padding, tuple)  # __post_init__ made it so
        left, top, right, bottom = self.padding
        return left, top, right, bottom

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_single(self, spec)
        need_level(self, "fill", (self.fill,), spec)
        left, top, right, bottom = self._sides
        height, width, channels = spec.shape
        rows = None if height is None else height + top + bottom
        columns = None if width is None else width + left + right
        return ImageSpec((rows, columns, channels), spec.dtype, HWC)

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        left, top, right, bottom = self._sides
        size = ops.stack([height + (top + bottom), width + (left + right)], axis=-1)
        return {"pad": ops.stack([height * 0 + top, width * 0 + left], axis=-1), "size": size}

    def out_size(self, params: Params, height: Array, width: Array, ops: Ops = NUMPY) -> tuple[Array, Array]:
        return params["size"][..., 0], params["size"][..., 1]

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        if not any(self._sides):
            return ()
        height, width, _ = self.out_spec(spec).shape
        static = height is not None and width is not None
        return (pixels.Pad(height, width, self.fill) if static else pixels.Pad(None, None, self.fill),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return place(image, params["pad"], int(params["size"][0]), int(params["size"][1]), self.fill)
