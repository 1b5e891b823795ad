"""Stages that turn, shift, scale and shear an image: one affine map, bilinear, at the image's own size.

The matrix is torchvision's, from ``_get_inverse_affine_matrix`` of its ``functional/_geometry.py``: the inverse of
``T · C · R(a) · S(s) · SHy(sy) · SHx(sx) · C⁻¹``, with ``C`` the image's centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.array_ops import NUMPY, Array, Ops, sin_cos
from greenload.errors import PipelineError
from greenload.public import public
from greenload.specs import ImageSpec
from greenload.stages import primitives as pixels
from greenload.stages.arguments import around, finite, interval, is_number, need_filterable, need_level, need_single
from greenload.stages.base import Params, Stage
from greenload.stages.primitives import Primitive
from greenload.stages.reference import warp


@dataclass(frozen=True)
class _Warping(Stage):
    """What both stages share: numbers are the linear part row by row, then the shift as shares of width and height."""

    numbers: ClassVar[int] = 6

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_single(self, spec)
        need_filterable(self, spec)
        need_level(self, "fill", (self._fill,), spec)
        return spec

    @property
    def _fill(self) -> float:
        fill: float = self.fill  # type: ignore[attr-defined]  # a field of both, the last in each
        return fill

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        a, b, c, d = (numbers[..., k] for k in range(4))
        wide, tall = ops.f64(width), ops.f64(height)
        x, y = wide * 0.5, tall * 0.5
        to_x, to_y = x + ops.rint(numbers[..., 4] * wide), y + ops.rint(numbers[..., 5] * tall)
        rows = [
            ops.stack([a, b, x - a * to_x - b * to_y], axis=-1),
            ops.stack([c, d, y - c * to_x - d * to_y], axis=-1),
        ]
        return {"matrix": ops.stack(rows, axis=-2)}

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.Warp(self._fill),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return warp(image, np.asarray(params["matrix"]), self._fill)


@public
@dataclass(frozen=True)
class RandomRotation(_Warping):
    """Turned about its centre by a random angle, counter-clockwise (``torchvision.transforms.v2.RandomRotation``).

    Where it differs from torchvision: bilinear only (there the default is nearest, whose ties fall differently from
    one library to another, so no two backends would give the same pixels), at the image's own size (no ``expand``),
    about its centre, one ``fill`` for all channels. A pixel that lies partly outside mixes image and ``fill`` by their
    shares; torchvision's tensors count the image's share twice there. uint8 is rounded half up, there half to even.

    Args:
        degrees: a number from 0, for angles between ``−degrees`` and ``degrees``; or ``(low, high)``.
        fill: what lies outside the image, in the images' own range.

    Example:
        >>> RandomRotation(15)
    """

    draws: ClassVar[int] = 1

    degrees: float | tuple[float, float]
    fill: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "degrees", around("RandomRotation", "degrees", self.degrees, 0.0))
        object.__setattr__(self, "fill", finite("RandomRotation", "fill", self.fill))

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        sine, cosine = sin_cos(_between(uniforms[..., 0], self.degrees), ops)
        nothing = sine * 0.0
        return ops.stack([cosine, -sine, sine, cosine, nothing, nothing], axis=-1)


@public
@dataclass(frozen=True)
class RandomAffine(_Warping):
    """Turned (clockwise, as in torchvision), sheared, scaled about its centre, and shifted by whole pixels: all drawn
    at random (``torchvision.transforms.v2.RandomAffine``).

    It differs from torchvision as ``RandomRotation`` does: bilinear only, about the centre, one ``fill`` for all
    channels.

    Args:
        degrees: a number from 0, for angles between ``−degrees`` and ``degrees``; or ``(low, high)``.
        translate: the largest shift as shares of width and height, each between 0 and 1.
        scale: bounds of the factor, above 0.
        shear: degrees of shear: a number for an interval around 0 along x, ``(low, high)`` along x, or four numbers,
            along x then y. Between −90 and 90.
        fill: what lies outside the image, in the images' own range.

    Example:
        >>> RandomAffine(10, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=5)
    """

    draws: ClassVar[int] = 6

    degrees: float | tuple[float, float]
    translate: tuple[float, float] | None = None
    scale: tuple[float, float] | None = None
    shear: float | tuple[float, ...] | None = None
    fill: float = 0.0

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "degrees": around("RandomAffine", "degrees", self.degrees, 0.0),
            "fill": finite("RandomAffine", "fill", self.fill),
        }
        if self.translate is not None:
            shares = scalars.several(self.translate) or ()
            if len(shares) != 2 or not all(is_number(share) and 0 <= share <= 1 for share in shares):
                raise PipelineError(
                    f"RandomAffine: translate must be two shares (of width, of height) between 0 and 1, "
                    f"not {self.translate!r}"
                )
            checked["translate"] = (float(shares[0]), float(shares[1]))
        if self.scale is not None:
            checked["scale"] = interval("RandomAffine", "scale", self.scale, 0.0, strict=True)
        if self.shear is not None:
            checked["shear"] = _shear(self.shear)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        angle = _between(uniforms[..., 0], self.degrees)
        none = angle * 0.0
        sine, cosine = sin_cos(angle, ops)
        a, b, c, d = cosine, -sine, sine, cosine
        if isinstance(self.shear, tuple):
            sin_x, cos_x = sin_cos(_between(uniforms[..., 4], self.shear[:2]), ops)
            slope = sin_x / cos_x
            if len(self.shear) == 4:
                shear_y = _between(uniforms[..., 5], self.shear[2:])
                sin_both, cos_both = sin_cos(angle - shear_y, ops)
                cos_y = sin_cos(shear_y, ops)[1]
                a, c = cos_both / cos_y, sin_both / cos_y
            b, d = -(a * slope + sine), cosine - c * slope
        factor = _between(uniforms[..., 3], self.scale) if self.scale else none + 1.0
        shares = self.translate or (0.0, 0.0)
        shift_x, shift_y = (_between(uniforms[..., 1 + k], (-shares[k], shares[k])) for k in range(2))
        return ops.stack([d / factor, -b / factor, -c / factor, a / factor, shift_x, shift_y], axis=-1)


def _between(uniform: Array, bounds: Any) -> Array:
    return uniform * (bounds[1] - bounds[0]) + bounds[0]


def _shear(value: Any) -> tuple[float, ...]:
    bounds = scalars.several(value)
    if bounds is not None and len(bounds) == 4:
        along_x, along_y = (
            interval("RandomAffine", "shear", bounds[k : k + 2], -90.0, 90.0, strict=True) for k in (0, 2)
        )
        return (*along_x, *along_y)
    low, high = around("RandomAffine", "shear", value, 0.0)
    return interval("RandomAffine", "shear", (low, high), -90.0, 90.0, strict=True)
