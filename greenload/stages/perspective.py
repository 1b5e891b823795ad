"""The stage that shows an image as if seen from aside: its corners go to other places, straight lines stay straight.

The corners and the map are torchvision's, from ``RandomPerspective`` of its ``v2/_geometry.py`` and
``_get_perspective_coeffs`` of its ``functional.py``. There eight equations are solved; here the map from a square to
four corners is inverted in closed form (Heckbert 1989, "Fundamentals of Texture Mapping and Image Warping", section
2.2.3).
"""

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
from greenload.stages import reference
from greenload.stages.arguments import finite, need_filterable, need_level, need_single, probability
from greenload.stages.base import Params, Stage
from greenload.stages.primitives import Primitive

Point = tuple[Array, Array]
"""Columns and rows of a corner in each image."""


@public
@dataclass(frozen=True)
class RandomPerspective(Stage):
    """Seen from aside, with probability ``p`` (``torchvision.transforms.v2.RandomPerspective``).

    The four corners move inwards, each by whole pixels, uniform in ``0 … ⌊distortion_scale · ⌊side / 2⌋⌋`` along each
    axis. The image is the one whose corner pixels ``(0, 0) … (width − 1, height − 1)`` lie there, bilinear, at its own
    size. An image that wasn't drawn costs nothing. Where three of the corners lie on a line, which happens for a
    ``distortion_scale`` near 1 and for images of one row or column, no map leads there, and the image stays.

    Where it differs from torchvision: bilinear only, and one ``fill`` for all channels. A pixel that lies partly
    outside mixes image and ``fill`` by their shares; torchvision's tensors count the image's share twice there. It
    rounds the map's coefficients to float32. uint8 is rounded half up, there half to even.

    Args:
        distortion_scale: how far corners may move, as a share of half a side, between 0 and 1.
        p: how likely, between 0 and 1.
        fill: what lies outside the image, in the images' own range.

    Raises:
        PipelineError: an argument is out of range; or, in a pipeline, images are batched, or not of uint8 or float32.

    Example:
        >>> RandomPerspective(0.3, p=0.2)
    """

    draws: ClassVar[int] = 9
    numbers: ClassVar[int] = 9

    distortion_scale: float = 0.5
    p: float = 0.5
    fill: float = 0.0

    def __post_init__(self) -> None:
        scale = scalars.number(self.distortion_scale)
        if scale is None or not 0.0 <= scale <= 1.0:
            raise PipelineError(
                f"RandomPerspective: distortion_scale must be a number between 0 and 1, not {self.distortion_scale!r}"
            )
        object.__setattr__(self, "distortion_scale", scale)
        object.__setattr__(self, "p", probability("RandomPerspective", self.p))
        object.__setattr__(self, "fill", finite("RandomPerspective", "fill", self.fill))

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_single(self, spec)
        need_filterable(self, spec)
        need_level(self, "fill", (self.fill,), spec)
        return spec

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        tall, wide = ops.f64(height), ops.f64(width)
        corners = self._corners(numbers, tall, wide, ops)
        proper = _no_three_on_a_line(corners)
        matrix = _matrix(corners, wide - 1.0, tall - 1.0, proper, ops)
        return {"matrix": matrix, "apply": (numbers[..., 8] < self.p) & proper}

    def _corners(self, numbers: Array, tall: Array, wide: Array, ops: Ops) -> list[Point]:
        """Where the corners go: the left and the right of the top, then the right and the left of the bottom."""
        # torchvision's bounds; the draws are in its order
        reach_x = ops.floor(ops.floor(wide * 0.5) * self.distortion_scale) + 1.0
        reach_y = ops.floor(ops.floor(tall * 0.5) * self.distortion_scale) + 1.0
        inwards = [ops.floor(numbers[..., k] * (reach_y if k % 2 else reach_x)) for k in range(8)]
        left, right, top, bottom = wide * 0.0, wide - reach_x, tall * 0.0, tall - reach_y
        begins = (left, top, right, top, right, bottom, left, bottom)
        places = [begin + moved for begin, moved in zip(begins, inwards, strict=True)]
        return list(zip(places[::2], places[1::2], strict=True))

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.Perspective(self.fill, self.distortion_scale),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        if not bool(params["apply"]):
            return image
        return reference.perspective(image, np.asarray(params["matrix"]), self.fill)


def _no_three_on_a_line(corners: list[Point]) -> Array:
    """Whether each three of four corners span a triangle: of whole numbers, hence without rounding."""
    proper: Any = True
    for left_out in range(4):
        (ax, ay), (bx, by), (cx, cy) = (corner for k, corner in enumerate(corners) if k != left_out)
        proper = proper & ((bx - ax) * (cy - ay) != (by - ay) * (cx - ax))
    return proper


def _matrix(corners: list[Point], right: Array, bottom: Array, proper: Array, ops: Ops) -> Array:
    """The map ``[…, 3, 3]`` from four corners to ``(0, 0)``, ``(right, 0)``, ``(right, bottom)``, ``(0, bottom)``;
    identity where there is none.

    No sum has more than two terms that were rounded, so that none can be regrouped.
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
    along_x, along_y = x1 - x2, y1 - y2
    down_x, down_y = x3 - x2, y3 - y2
    apart_x, apart_y = (x0 - x1) + (x2 - x3), (y0 - y1) + (y2 - y3)
    # the map from the unit square: [[a, b, x0], [d, e, y0], [g, h, 1]]
    area = along_x * down_y - along_y * down_x
    area = ops.where(proper, area, area * 0.0 + 1.0)
    g = (apart_x * down_y - apart_y * down_x) / area
    h = (along_x * apart_y - along_y * apart_x) / area
    a, b = x1 * (g + 1.0) - x0, x3 * (h + 1.0) - x0
    d, e = y1 * (g + 1.0) - y0, y3 * (h + 1.0) - y0
    one = area * 0.0 + 1.0
    # its inverse but for a factor, which a perspective map may have, and from the unit square to the image
    rows = [
        [(e - y0 * h) * right, (x0 * h - b) * right, (b * y0 - x0 * e) * right],
        [(y0 * g - d) * bottom, (a - x0 * g) * bottom, (x0 * d - a * y0) * bottom],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ]
    kept = [
        [ops.where(proper, entry, one if row == column else one * 0.0) for column, entry in enumerate(entries)]
        for row, entries in enumerate(rows)
    ]
    return ops.stack([ops.stack(entries, axis=-1) for entries in kept], axis=-2)
