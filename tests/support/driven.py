"""A stage around a primitive that is driven by a number of each image's own, as policies have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from greenload.array_ops import NUMPY, Array, Ops
from greenload.backends.level_tables import NUMBERS
from greenload.specs import ImageSpec
from greenload.stages import Params, Stage, reference
from greenload.stages import primitives as p
from greenload.stages.arguments import need_levels

REFERENCES: Mapping[type[p.Primitive], Callable[[Any, Any], Any]] = {
    p.Brightness: reference.brightness,
    p.Contrast: reference.contrast,
    p.Posterize: reference.posterize,
    p.Solarize: reference.solarize,
    p.Sharpen: reference.sharpen,
}


@dataclass(frozen=True)
class Driven(Stage):
    """``primitive`` with one of ``values``, drawn for each image."""

    draws: ClassVar[int] = 1
    numbers: ClassVar[int] = 1

    primitive: p.Primitive
    values: tuple[float, ...]

    @property
    def _name(self) -> str:
        return NUMBERS[type(self.primitive)][0]

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_levels(self, spec)
        return spec

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        index = ops.i64(ops.floor(numbers[..., 0] * len(self.values)))
        value = ops.take(np.array(self.values, np.float64), index)
        return {self._name: ops.i64(value) if self._name == "bits" else value}

    def primitives(self, spec: ImageSpec) -> tuple[p.Primitive, ...]:
        return (self.primitive,)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        found: NDArray[np.generic] = REFERENCES[type(self.primitive)](image, params[self._name].item())
        return found

    def __str__(self) -> str:
        return f"{type(self.primitive).__name__}{self.values}"
