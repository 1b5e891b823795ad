"""Stages that choose which part of an image is seen, and at what size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from greenload import randomness as draws
from greenload import scalars
from greenload.errors import PipelineError
from greenload.randomness import NUMPY, Array, Ops
from greenload.specs import HWC, ImageSpec
from greenload.stages import primitives as pixels
from greenload.stages.arguments import interval
from greenload.stages.base import Params, Stage, flag, need_filterable, need_single, pair, probability
from greenload.stages.primitives import Primitive
from greenload.stages.reference import place, resize


def cropped(image: NDArray[np.generic], window: Array) -> NDArray[np.generic]:
    """The part of an image in a window ``[top, left, height, width]``."""
    top, left, height, width = (int(n) for n in window)
    return image[top : top + height, left : left + width]


@dataclass(frozen=True)
class Resize(Stage):
    """Bilinear resampling (``torchvision.transforms.v2.Resize``).

    Args:
        size: ``(height, width)``, or one integer: the shorter side's length, the other in proportion and cut to an
            integer.
        antialias: low-pass filter when shrinking. Without it a shrunk image aliases, and costs less.

    Example:
        >>> Resize(256)                 # shorter side 256
        >>> Resize((224, 224))
    """

    size: int | tuple[int, int]
    antialias: bool = True

    def __post_init__(self) -> None:
        height, width = pair("Resize", "size", self.size)
        one = scalars.several(self.size) is None
        object.__setattr__(self, "size", height if one else (height, width))
        object.__setattr__(self, "antialias", flag("Resize", "antialias", self.antialias))

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_single(self, spec)
        need_filterable(self, spec)
        height, width, channels = spec.shape
        if isinstance(self.size, tuple):
            return ImageSpec((*self.size, channels), spec.dtype, HWC)
        if height is None or width is None:
            return ImageSpec((None, None, channels), spec.dtype, HWC)
        rows, columns = self._target(np.int64(height), np.int64(width), NUMPY)
        return ImageSpec((int(rows), int(columns), channels), spec.dtype, HWC)

    def _target(self, height: Array, width: Array, ops: Ops) -> tuple[Array, Array]:
        if isinstance(self.size, tuple):
            return height * 0 + self.size[0], width * 0 + self.size[1]
        # int(size · long / short) of torchvision, in exact integer arithmetic
        shorter = ops.minimum(height, width)
        return self.size * height // shorter, self.size * width // shorter

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        return {"size": ops.stack(list(self._target(height, width, ops)), axis=-1)}

    def out_size(self, params: Params, height: Array, width: Array, ops: Ops = NUMPY) -> tuple[Array, Array]:
        return params["size"][..., 0], params["size"][..., 1]

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        out = self.out_spec(spec)
        if out.static:
            return (pixels.Resize(self.antialias, out.shape[0], out.shape[1]),)
        return (pixels.Resize(self.antialias),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return resize(image, int(params["size"][0]), int(params["size"][1]), self.antialias)


@dataclass(frozen=True)
class CenterCrop(Stage):
    """The middle ``size`` of an image; where the image is smaller, zeros around it
    (``torchvision.transforms.v2.CenterCrop``).

    Args:
        size: one side of a square, or ``(height, width)``.
    """

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", pair("CenterCrop", "size", self.size))

    @property
    def _sides(self) -> tuple[int, int]:
        assert isinstance(self.size, tuple)  # __post_init__ made it so
        return self.size

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

    def out_size(self, params: Params, height: Array, width: Array, ops: Ops = NUMPY) -> tuple[Array, Array]:
        return height * 0 + self._sides[0], width * 0 + self._sides[1]

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        height, width, _ = spec.shape
        rows, columns = self._sides
        if height is not None and width is not None and height >= rows and width >= columns:
            return (pixels.Crop(),)
        return (pixels.Crop(), pixels.Pad(rows, columns))

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return place(cropped(image, params["window"]), params["pad"], *self._sides, fill=0)


_ATTEMPTS = 10  # torchvision's RandomResizedCrop.get_params


@dataclass(frozen=True)
class RandomResizedCrop(Stage):
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

    draws: ClassVar[int] = 2 * _ATTEMPTS + 2
    numbers: ClassVar[int] = 2 * _ATTEMPTS + 2

    size: int | tuple[int, int]
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

    @property
    def _sides(self) -> tuple[int, int]:
        assert isinstance(self.size, tuple)  # __post_init__ made it so
        return self.size

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_single(self, spec)
        need_filterable(self, spec)
        return ImageSpec((*self._sides, spec.shape[2]), spec.dtype, HWC)

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        # √(share · ratio) and √(share / ratio): window sides for an image of unit area
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        share = uniforms[..., :_ATTEMPTS] * (self.scale[1] - self.scale[0]) + self.scale[0]
        ratio = draws.exp(uniforms[..., _ATTEMPTS : 2 * _ATTEMPTS] * (high - low) + low, ops)
        columns, rows = ops.sqrt(share * ratio), ops.sqrt(share / ratio)
        return ops.concat([columns, rows, uniforms[..., -2:]], axis=-1)

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        tall, wide = ops.f64(height), ops.f64(width)
        root = ops.sqrt(tall * wide)
        columns = ops.floor(root[..., None] * numbers[..., :_ATTEMPTS] + 0.5)
        rows = ops.floor(root[..., None] * numbers[..., _ATTEMPTS : 2 * _ATTEMPTS] + 0.5)
        fits = (columns >= 1.0) & (columns <= wide[..., None]) & (rows >= 1.0) & (rows <= tall[..., None])
        first = ops.argmax(fits, axis=-1)
        found = ops.any(fits, axis=-1)
        fallback_w, fallback_h = self._fallback(tall, wide, ops)
        w = ops.where(found, ops.pick(columns, first), fallback_w)
        h = ops.where(found, ops.pick(rows, first), fallback_h)
        top = ops.floor(ops.where(found, numbers[..., -2] * (tall - h + 1.0), (tall - h) * 0.5))
        left = ops.floor(ops.where(found, numbers[..., -1] * (wide - w + 1.0), (wide - w) * 0.5))
        return {"window": ops.i64(ops.stack([top, left, h, w], axis=-1))}

    def _fallback(self, tall: Array, wide: Array, ops: Ops) -> tuple[Array, Array]:
        low, high = self.ratio
        one = tall * 0.0 + 1.0
        aspect = wide / tall
        w = ops.where(aspect > high, ops.floor(tall * high + 0.5), wide)
        h = ops.where(aspect < low, ops.floor(wide / low + 0.5), tall)
        return ops.minimum(ops.maximum(w, one), wide), ops.minimum(ops.maximum(h, one), tall)

    def out_size(self, params: Params, height: Array, width: Array, ops: Ops = NUMPY) -> tuple[Array, Array]:
        return height * 0 + self._sides[0], width * 0 + self._sides[1]

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.Crop(), pixels.Resize(self.antialias, *self._sides))

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return resize(cropped(image, params["window"]), *self._sides, self.antialias)


@dataclass(frozen=True)
class _RandomFlip(Stage):
    draws: ClassVar[int] = 1
    numbers: ClassVar[int] = 1
    vertical: ClassVar[bool]

    p: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", probability(type(self).__name__, self.p))

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_single(self, spec)
        return spec

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        return {"flip": numbers[..., 0] < self.p}

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.Flip(self.vertical),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        if not bool(params["flip"]):
            return image
        return image[::-1] if self.vertical else image[:, ::-1]


@dataclass(frozen=True)
class RandomHorizontalFlip(_RandomFlip):
    """Left and right exchanged with probability ``p`` (``torchvision.transforms.v2.RandomHorizontalFlip``).

    Args:
        p: how likely, between 0 and 1.
    """

    vertical: ClassVar[bool] = False


@dataclass(frozen=True)
class RandomVerticalFlip(_RandomFlip):
    """Top and bottom exchanged with probability ``p`` (``torchvision.transforms.v2.RandomVerticalFlip``).

    Args:
        p: how likely, between 0 and 1.
    """

    vertical: ClassVar[bool] = True
