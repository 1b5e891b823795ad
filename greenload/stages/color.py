"""Stages that change colours, each pixel by itself, by one 3×4 matrix an image."""

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
from greenload.stages.arguments import around, interval, need_decoded, need_filterable, probability
from greenload.stages.base import Params, Stage
from greenload.stages.primitives import Primitive
from greenload.stages.reference import recolor

# Rec. ITU-R BT.601: the share of each colour in brightness. torchvision has 0.2989 for red, whose sum is 0.9999.
GREY = (0.299, 0.587, 0.114)
# What a quarter turn in the plane of NTSC's I and Q adds to a colour: Y⁻¹ · ((0, 0, 0), (0, 0, 1), (0, −1, 0)) · Y.
# The rows of Y are `GREY`, I = (0.5959, −0.2746, −0.3213) and Q = (0.2115, −0.5227, 0.3112) (Wikipedia, "YIQ", FCC;
# DALI has them in three digits). Its sign turns red towards yellow, as a rising hue does in HSV. Written out, as a
# library's inverse may differ in the last bit from machine to machine.
_QUARTER = (
    (-0.16770324665410125, -0.32926814644870583, 0.4969713931028071),
    (0.32813081395773297, -0.03552092886859117, -0.2926098850891418),
    (-1.249732605645728, 1.0465084301230356, 0.20322417552269242),
)


def _need_rgb(stage: Stage, spec: ImageSpec) -> None:
    need_decoded(stage, spec)
    need_filterable(stage, spec)
    if spec.shape[-1] != 3:
        raise PipelineError(f"{stage} needs images of 3 channels (red, green, blue), but here they are {spec}")


@public
@dataclass(frozen=True)
class ColorJitter(Stage):
    """Brightness, contrast, saturation and hue changed by random factors (``torchvision.transforms.v2.ColorJitter``),
    as one matrix.

    For a pixel ``x`` with values in 0 … 1, in this order:

    - brightness ``b``: ``b · x``
    - contrast ``c``: ``c · x + (1 − c) / 2``
    - saturation ``s``: ``s · x + (1 − s) · grey``, with ``grey = 0.299 r + 0.587 g + 0.114 b``
    - hue ``h``: the chromaticity turned by ``h`` of a full turn in YIQ

    All four are affine in the pixel, so they are one 3×4 matrix, made on the host; the result is clipped once. No two
    libraries agree on these four, and step by step none agrees with itself on another device. Where it differs from
    torchvision: the order is fixed, not random; values are clipped at the end, not after each step; contrast pivots on
    mid-grey, not on the image's mean grey; hue keeps brightness (torchvision's turns HSV's hue, which keeps the largest
    and the smallest channel). Over 60 draws of ``ColorJitter(0.4, 0.4, 0.4, 0.1)`` on scikit-learn's two photographs a
    value lies 11 levels from torchvision's in the mean, where the jitter itself moves it by 25 and the random order by
    2. One by one: brightness and saturation agree, contrast ±0.4 lies 6.5 levels apart (its pivot), hue ±0.1 6.7.

    It may stand before ``Batch`` or after it.

    Args:
        brightness: a number from 0, for factors between ``max(0, 1 − brightness)`` and ``1 + brightness``; or
            ``(low, high)``; ``None`` for none.
        contrast: the same.
        saturation: the same.
        hue: a number between 0 and 0.5, for shares of a turn between ``−hue`` and ``hue``; or ``(low, high)`` within
            ``−0.5 … 0.5``.

    Example:
        >>> ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    """

    draws: ClassVar[int] = 4
    numbers: ClassVar[int] = 12

    brightness: float | tuple[float, float] | None = None
    contrast: float | tuple[float, float] | None = None
    saturation: float | tuple[float, float] | None = None
    hue: float | tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            self._keep(name, 1.0, 0.0, float("inf"))
        self._keep("hue", 0.0, -0.5, 0.5)

    def _keep(self, name: str, centre: float, least: float, most: float) -> None:
        value: Any = getattr(self, name)
        if value is not None:
            reach = scalars.number(value)
            if name == "hue" and reach is not None and abs(reach) > most:
                interval("ColorJitter", name, (-reach, reach), least, most)
            bounds = around("ColorJitter", name, value, centre, least, most)
            value = None if bounds == (centre, centre) else bounds
        object.__setattr__(self, name, value)

    @property
    def _idle(self) -> bool:
        return (self.brightness, self.contrast, self.saturation, self.hue) == (None,) * 4

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        _need_rgb(self, spec)
        return spec

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        unchanged = uniforms[..., 0] * 0.0 + 1.0

        def drawn(draw: int, bounds: Any, otherwise: Array) -> Array:
            return uniforms[..., draw] * (bounds[1] - bounds[0]) + bounds[0] if bounds else otherwise

        light, contrast, saturation = (
            drawn(k, bounds, unchanged) for k, bounds in enumerate((self.brightness, self.contrast, self.saturation))
        )
        sine, cosine = unchanged * 0.0, unchanged
        if isinstance(self.hue, tuple):
            low, high = self.hue
            sine, cosine = sin_cos(drawn(3, (360.0 * low, 360.0 * high), unchanged), ops)
        # With W the matrix whose rows are all `grey`, brightness and contrast are t·1, saturation s·1 + (1 − s)·W and
        # hue W + cos·(1 − W) + sin·quarter. W·W = W and W·quarter = quarter·W = 0, hence the product:
        gain = light * contrast
        vivid = gain * saturation
        plain, grey, quarter = vivid * cosine, gain - vivid * cosine, vivid * sine
        offset = (1.0 - contrast) * 0.5
        # A difference in place of a sum: TensorFlow's graph optimiser makes one of two sums, and adds in another order.
        columns = []
        for row in range(3):
            for column in range(3):
                entry = grey * GREY[column] - quarter * -_QUARTER[row][column]
                columns.append(plain + entry if row == column else entry)
            columns.append(offset)
        return ops.stack(columns, axis=-1)

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        return {"color": ops.stack([numbers[..., k : k + 4] for k in (0, 4, 8)], axis=-2)}

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return () if self._idle else (pixels.Color(),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return image if self._idle else recolor(image, np.asarray(params["color"]))


@public
@dataclass(frozen=True)
class RandomGrayscale(Stage):
    """All three channels ``0.299 r + 0.587 g + 0.114 b``, with probability ``p``
    (``torchvision.transforms.v2.RandomGrayscale``).

    Where it differs from torchvision: its red weight is 0.2989, so that white becomes 254.97, and it cuts to an integer
    where this rounds half up: at most one level. It may stand before ``Batch`` or after it.

    Args:
        p: how likely, between 0 and 1.
    """

    draws: ClassVar[int] = 1
    numbers: ClassVar[int] = 1

    p: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", probability("RandomGrayscale", self.p))

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        _need_rgb(self, spec)
        return spec

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        nothing = numbers[..., 0] * 0.0
        row = ops.stack([nothing + weight for weight in (*GREY, 0.0)], axis=-1)
        return {"apply": numbers[..., 0] < self.p, "color": ops.stack([row] * 3, axis=-2)}

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.Color(maybe=True),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return recolor(image, np.asarray(params["color"])) if bool(params["apply"]) else image
