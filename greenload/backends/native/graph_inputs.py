"""What the kernel needs beside a batch's images, in TensorFlow's graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from greenload.array_ops import Array, Ops
from greenload.backends.native.array_recorder import computed
from greenload.backends.native.layout import Layout
from greenload.backends.native.table import TABLE
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import reads_params
from greenload.stages import Params


@dataclass(frozen=True)
class BatchInputs:
    """The inputs of a batch, tensors."""

    rows: Any
    """Of params, float64 ``[n, columns]``."""
    choices: Any
    """Int64 ``[n, k]``."""
    enough: Any | None
    """As in ``BatchOutcome``."""


class Inputs:
    """What the kernel needs for a segment beside its images: params and choices, from prepared random values.

    Args:
        plan: that the segment belongs to.
        segment: on backend ``"native"``.
    """

    def __init__(self, plan: Plan, segment: Segment) -> None:
        self._draws = DrawLayout.of(plan.pipeline)
        self._segment = segment
        self.layout = Layout.of(TABLE, segment.steps)
        self._stages = tuple({step.stage for step in segment.steps if step.stage is not None and reads_params(step)})

    def of(self, sizes: Any, numbers: Any) -> BatchInputs:
        """Those of a batch.

        Args:
            sizes: int64 ``[n, 3]``, as ``GraphSegment`` says.
            numbers: prepared random values, float64 ``[n, count]``; ``None`` where no stage draws.
        """

        def inputs(ops: Ops, sizes: Array, *drawn: Array) -> list[Array]:
            height, width, turns = (sizes[..., k] for k in range(3))
            numbers = drawn[0] if drawn else self._no_numbers(height, ops)
            params = self._params(numbers, height, width, ops)
            rows = self.layout.rows(params, _further(height, width, turns), ops)
            choices = self.layout.choices(params)
            enough = self._draws.large_enough(
                numbers, height, width, ops, first=self._segment.first, end=self._segment.end
            )
            return [
                ops.f64(height)[..., None][..., :0] if rows is None else rows,
                ops.concat(choices, -1) if choices else height[..., None][..., :0],
                *([] if enough is None else [enough]),
            ]

        rows, choices, *enough = computed(inputs, sizes, *([] if numbers is None else [numbers]))
        return BatchInputs(rows, choices, enough[0] if enough else None)

    def sides(self, sizes: Any) -> Any:
        """Rows and columns of the images that leave, int64 ``[n, 2]``, where no stage draws."""

        def leaving(ops: Ops, sizes: Array) -> list[Array]:
            height, width, turns = (sizes[..., k] for k in range(3))
            params = self._params(self._no_numbers(height, ops), height, width, ops)
            sides = self.layout.sides(params, _further(height, width, turns), height, width)
            return [ops.stack([height * 0 + ops.i64(side) for side in sides], axis=-1)]

        return computed(leaving, sizes)[0]

    def _no_numbers(self, height: Array, ops: Ops) -> Array:
        return ops.f64(height)[..., None] * ops.f64(np.zeros(self._draws.count))

    def _params(self, numbers: Array, height: Array, width: Array, ops: Ops) -> Mapping[int, Params]:
        return self._draws.params(numbers, height, width, self._stages, ops, first=self._segment.first)


def _further(height: Array, width: Array, turns: Array) -> Params:
    return {"orientation": turns, "upright_height": height, "upright_width": width}
