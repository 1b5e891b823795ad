"""How far results may lie from the float64 reference, where one rule holds for several backends."""

from __future__ import annotations

import numpy as np

from greenload.backends.base import EXACT, Tolerance
from greenload.specs import RANGES, ImageSpec
from greenload.stages import primitives as p

CUT = Tolerance(1.0, 1e-3)
"""Of floats that become integers: a value within a float32 step of an integer is cut to either side."""
# The distance between neighbours around 1: of float32 two steps, of the small types one, where a value lies on a
# rounding boundary.
_STEPS = {"float32": 2 * float(np.finfo(np.float32).eps), "float16": 2.0**-10, "bfloat16": 2.0**-7}


# Two products and a sum in float32, each rounded; the small types are rounded once more.
MIXED = {
    **dict.fromkeys(RANGES, EXACT),
    **{dtype: Tolerance(steps, steps if dtype == "float32" else steps / 100) for dtype, steps in _STEPS.items()},
}
"""Of two images of a batch as one."""


def largest(dtype: str) -> float:
    """The largest absolute value of a dtype's own range: 1 for floats."""
    return float(max(map(abs, RANGES.get(dtype, (0, 1)))))


def reach(primitive: p.Affine, spec: ImageSpec) -> float:
    """The largest absolute value that an affine map may give."""
    return max(map(abs, primitive.scale)) * largest(spec.dtype) + max(map(abs, primitive.offset))


def affine(primitive: p.Affine, spec: ImageSpec) -> Tolerance:
    """Computed in float32, then rounded once."""
    if primitive.dtype not in _STEPS:
        return CUT
    steps = _STEPS[primitive.dtype] * reach(primitive, spec)
    return Tolerance(steps, steps if primitive.dtype == "float32" else steps / 100)
