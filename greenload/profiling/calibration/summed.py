"""A stage that nobody needs but calibration: what a weighted sum of images costs, its alternatives being known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenload.array_ops import NUMPY, Array, Ops
from greenload.specs import ImageSpec
from greenload.stages import Params, Stage, reference
from greenload.stages import primitives as p

TERMS = 3
"""Chains of ``AugMix`` by default."""


@dataclass(frozen=True)
class Summed(Stage):
    """A quarter of an image, and of each of three of it with a black box, which cost little beside their sum."""

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        return spec

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        nothing = ops.f64(height * 0)[..., None]
        sides = [ops.i64(ops.f64(side) * share) for share in (0.25, 0.5) for side in (height, width)]
        boxes = {f"{number}.erase": ops.stack(sides, axis=-1) for number in range(TERMS)}
        return {
            "choices": ops.i64(nothing + np.arange(TERMS)),
            "weights": nothing + np.full(1 + TERMS, 1 / (1 + TERMS)),
            **boxes,
        }

    def primitives(self, spec: ImageSpec) -> tuple[p.Primitive, ...]:
        chains = tuple((p.Part(number, p.Erase((0.0,)), spec, spec),) for number in range(TERMS))
        return (p.WeightedSum(chains, (1.0,) * TERMS, TERMS),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        height, width = (side / 4 for side in image.shape[:2])
        boxed = image.astype(np.float64)
        boxed[int(height) :, int(width) :][: int(2 * height), : int(2 * width)] = 0.0
        total = image.astype(np.float64) + TERMS * boxed
        return reference.as_dtype(np.floor(total / (1 + TERMS) + 0.5), "uint8")
