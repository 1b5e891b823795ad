"""Stages that resize an image, or mirror it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.array_ops import NUMPY, Array, Ops
from greenload.public import public
from greenload.specs import HWC, ImageSpec
from greenload.stages import primitives as pixels
from greenload.stages.arguments import flag, need_filterable, need_single, pair, probability
from greenload.stages.base import Params, Stage
from greenload.stages.primitives import Primitive
from greenload.stages.reference import resize


@public
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
        short_side = scalars.several(self.size) is None
        object.__setattr__(self, "size", height if short_side else (height, width))
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


@public
@dataclass(frozen=True)
class RandomHorizontalFlip(_RandomFlip):
    """Left and right exchanged with probability ``p`` (``torchvision.transforms.v2.RandomHorizontalFlip``).

    Args:
        p: how likely, between 0 and 1.
    """

    vertical: ClassVar[bool] = False


@public
@dataclass(frozen=True)
class RandomVerticalFlip(_RandomFlip):
    """Top and bottom exchanged with probability ``p`` (``torchvision.transforms.v2.RandomVerticalFlip``).

    Args:
        p: how likely, between 0 and 1.
    """

    vertical: ClassVar[bool] = True
