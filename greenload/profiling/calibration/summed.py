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
BITS = 4


@dataclass(frozen=True)
class Summed(Stage):
    """A quarter of an image, and three of it in few levels, which costs little beside their sum."""

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        return spec

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        nothing = ops.f64(height * 0)[..., None]
        bits = {f"{number}.bits": ops.i64(height * 0 + BITS) for number in range(TERMS)}
        return {
            "choices": ops.i64(nothing + np.arange(TERMS)),
            "weights": nothing + np.full(1 + TERMS, 1 / (1 + TERMS)),
            **bits,
        }

    def primitives(self, spec: ImageSpec) -> tuple[p.Primitive, ...]:
        chains = tuple((p.Part(number, p.Posterize(), spec, spec),) for number in range(TERMS))
        return (p.WeightedSum(chains, (1.0,) * TERMS, TERMS),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        total = image.astype(np.float64) + TERMS * reference.posterize(image, BITS).astype(np.float64)
        return reference.as_dtype(np.floor(total / (1 + TERMS) + 0.5), "uint8")
