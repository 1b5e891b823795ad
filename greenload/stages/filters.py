"""Stages that work on a neighbourhood or a patch of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.array_ops import NUMPY, Array, Ops
from greenload.errors import PipelineError
from greenload.public import public
from greenload.specs import ImageSpec
from greenload.stages import primitives as pixels
from greenload.stages.arguments import (
    interval,
    is_number,
    need_decoded,
    need_filterable,
    need_level,
    need_levels,
    need_single,
    probability,
)
from greenload.stages.base import Params, Stage
from greenload.stages.cropping import ATTEMPTS, attempted_sides
from greenload.stages.primitives import Primitive
from greenload.stages.reference import blur, constant, sharpen


@public
@dataclass(frozen=True)
class GaussianBlur(Stage):
    """Blurred by a Gaussian of random width (``torchvision.transforms.v2.GaussianBlur``).

    The weights are ``exp(−(i / sigma)² / 2)`` at whole places ``i``, normalised. Beyond its border the image is
    mirrored about its outermost pixels, again and again where it is smaller than the kernel (torchvision refuses such
    an image). uint8 is rounded half up, in torchvision half to even.

    Args:
        kernel_size: an odd number of taps, or ``(width, height)``, in torchvision's order.
        sigma: bounds of the standard deviation in pixels, above 0; or one number.

    Example:
        >>> GaussianBlur(23, sigma=(0.1, 2.0))
    """

    draws: ClassVar[int] = 1
    numbers: ClassVar[int] = 1

    kernel_size: int | tuple[int, int]
    sigma: float | tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        given: Any = self.kernel_size
        taps = [scalars.whole(n) for n in scalars.several(given) or (given, given)]
        if len(taps) != 2 or not all(n is not None and n >= 1 and n % 2 for n in taps):
            raise PipelineError(
                "GaussianBlur: kernel_size must be an odd positive integer or two of them (width, height), "
                f"not {self.kernel_size!r}"
            )
        sigma: Any = (self.sigma, self.sigma) if is_number(self.sigma) else self.sigma
        object.__setattr__(self, "kernel_size", (taps[0], taps[1]))
        object.__setattr__(self, "sigma", interval("GaussianBlur", "sigma", sigma, 0.0, strict=True))

    @property
    def _taps(self) -> tuple[int, int]:
        """Rows, columns."""
        assert isinstance(self.kernel_size, tuple)  # __post_init__ made it so
        return self.kernel_size[1], self.kernel_size[0]

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_single(self, spec)
        need_filterable(self, spec)
        return spec

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        assert isinstance(self.sigma, tuple)  # __post_init__ made it so
        low, high = self.sigma
        return {"sigma": numbers[..., 0] * (high - low) + low}

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return () if self._taps == (1, 1) else (pixels.Blur(*self._taps),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return blur(image, float(params["sigma"]), *self._taps)


@public
@dataclass(frozen=True)
class RandomAdjustSharpness(Stage):
    """Sharper, or blurred, with probability ``p`` (``torchvision.transforms.v2.RandomAdjustSharpness``), in uint8
    images of any number of channels.

    Each value ``v`` becomes ``v · f + s · (1 − f)``, clipped and rounded half up, with ``f = sharpness_factor`` and
    ``s = (4 v + the sum of the 3 × 3 values around and at it) / 13``, Pillow's smoothing kernel. The outermost pixels
    stay as they are, and so does an image of fewer than 3 rows or columns. An image that wasn't drawn costs nothing. It
    may stand before ``Batch`` or after it. "Sharpness" of AutoAugment (Cubuk et al. 2019, arXiv 1805.09501).

    torchvision and Pillow's ``ImageEnhance.Sharpness`` round ``s`` to a level first, and cut the result: up to a level
    apart from this for factors from 0 to 2. torchvision takes floats too. ``keras.layers.RandomSharpness`` gives
    floats, draws half the factor from an interval, and counts 0 beyond the border.

    Args:
        sharpness_factor: 0 for ``s`` alone, 1 for the image as it is, 2 for twice its sharpness; any number from 0.
        p: how likely, between 0 and 1.

    Raises:
        PipelineError: an argument is out of range; or, in a pipeline, images are not of uint8.

    Example:
        >>> Decode(), RandomResizedCrop(224), RandomAdjustSharpness(2, p=0.2)
    """

    draws: ClassVar[int] = 1
    numbers: ClassVar[int] = 1

    sharpness_factor: float
    p: float = 0.5

    def __post_init__(self) -> None:
        factor = scalars.number(self.sharpness_factor)
        if factor is None or factor < 0:
            raise PipelineError(
                f"RandomAdjustSharpness: sharpness_factor must be a number from 0, not {self.sharpness_factor!r}"
            )
        object.__setattr__(self, "sharpness_factor", factor)
        object.__setattr__(self, "p", probability("RandomAdjustSharpness", self.p))

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_levels(self, spec)
        return spec

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        unit = numbers[..., 0] * 0.0 + 1.0
        return {"factor": ops.where(numbers[..., 0] < self.p, unit * self.sharpness_factor, unit)}

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return () if self.sharpness_factor == 1.0 else (pixels.Sharpen(),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return sharpen(image, float(params["factor"]))


@public
@dataclass(frozen=True)
class RandomErasing(Stage):
    """A random rectangle set to ``value``, with probability ``p`` (``torchvision.transforms.v2.RandomErasing``).

    Ten attempts: area a uniform share of the image's, aspect ratio log-uniform, sides rounded half up (torchvision
    rounds halves to even); the first that is smaller than the image in both directions is placed uniformly. If none is,
    nothing happens. It may stand before ``Batch`` or after it. Where it differs from torchvision: ``value="random"`` is
    not offered.

    Args:
        p: how likely, between 0 and 1.
        scale: bounds of the rectangle's share of the image's area.
        ratio: bounds of the rectangle's height over width, as in torchvision.
        value: one number, or one a channel, in the images' own range of values where the stage stands.

    Example:
        >>> ToDtype("float32", scale=True), Normalize(mean, std), RandomErasing(0.25)
    """

    draws: ClassVar[int] = 2 * ATTEMPTS + 3
    numbers: ClassVar[int] = 2 * ATTEMPTS + 3

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        given: Any = self.value
        value = (given,) if is_number(given) else scalars.several(given)
        if not value or not all(map(is_number, value)):
            raise PipelineError(
                f"RandomErasing: value must be one finite number, or one a channel, not {self.value!r}"
                + ("; value='random' is not offered" if isinstance(given, str) and given == "random" else "")
            )
        object.__setattr__(self, "value", float(value[0]) if len(value) == 1 else tuple(map(float, value)))
        object.__setattr__(self, "p", probability("RandomErasing", self.p))
        object.__setattr__(self, "scale", interval("RandomErasing", "scale", self.scale, 0.0, 1.0))
        object.__setattr__(self, "ratio", interval("RandomErasing", "ratio", self.ratio, 0.0, strict=True))

    @property
    def _values(self) -> tuple[float, ...]:
        return self.value if isinstance(self.value, tuple) else (self.value,)

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_decoded(self, spec)
        need_level(self, "value", self._values, spec)
        channels = spec.shape[-1]
        if channels is not None and len(self._values) not in (1, channels):
            raise PipelineError(
                f"{self} has values for {len(self._values)} channels, but images here have {channels}: "
                "give one number, or one a channel"
            )
        return spec

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        rows, columns = attempted_sides(uniforms, self.scale, self.ratio, ops)
        return ops.concat([rows, columns, uniforms[..., -3:]], axis=-1)

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        tall, wide = ops.f64(height), ops.f64(width)
        root = ops.sqrt(tall * wide)
        rows = ops.floor(root[..., None] * numbers[..., :ATTEMPTS] + 0.5)
        columns = ops.floor(root[..., None] * numbers[..., ATTEMPTS : 2 * ATTEMPTS] + 0.5)
        smaller = (rows < tall[..., None]) & (columns < wide[..., None])
        first = ops.argmax(smaller, axis=-1)
        h, w = ops.pick(rows, first), ops.pick(columns, first)
        happens = (numbers[..., -3] < self.p) & ops.any(smaller, axis=-1) & (h >= 1.0) & (w >= 1.0)
        top = ops.floor(numbers[..., -2] * (tall - h + 1.0))
        left = ops.floor(numbers[..., -1] * (wide - w + 1.0))
        return {"erase": ops.i64(ops.stack([ops.where(happens, n, n * 0.0) for n in (top, left, h, w)], axis=-1))}

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.Erase(self._values),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        top, left, height, width = (int(n) for n in params["erase"])
        out = image.copy()
        out[top : top + height, left : left + width] = constant(self._values, image)
        return out
