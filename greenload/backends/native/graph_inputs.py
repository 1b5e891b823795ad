"""What the kernel needs beside a batch's images, in TensorFlow's graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from greenload.array_ops import TENSORFLOW
from greenload.backends.native.layout import Layout
from greenload.backends.native.table import TABLE
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import reads_params
from greenload.stages import Params
from greenload.system.frameworks import tf


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
        height, width = sizes[:, 0], sizes[:, 1]
        if numbers is None:
            numbers = tf.zeros([tf.size(height), self._draws.count], tf.float64)
        first, end = self._segment.first, self._segment.end
        enough = self._draws.large_enough(numbers, height, width, TENSORFLOW, first=first, end=end)
        params = self._draws.params(numbers, height, width, self._stages, TENSORFLOW, first=first)
        return BatchInputs(self.layout, height, width, sizes[:, 2], enough, params)


@dataclass(frozen=True)
class BatchInputs:
    """The inputs of a batch, tensors."""

    layout: Layout
    height: Any
    """Rows of each image as it is to be seen, int64 ``[n]``."""
    width: Any
    turns: Any
    """The EXIF orientation that is to be applied to each, int64 ``[n]``."""
    enough: Any | None
    """As in ``BatchOutcome``."""
    params: Mapping[int, Params]
    """Of stages, by their indices."""

    def rows(self, upright: bool = False) -> Any:
        """Rows of params, float64 ``[n, columns]``; ``upright`` for images that were turned already."""
        made = self.layout.rows(self.params, self._further(upright), TENSORFLOW)
        return tf.zeros([tf.size(self.height), 0], tf.float64) if made is None else made

    def choices(self) -> Any:
        """Int64 ``[n, k]``."""
        drawn = self.layout.choices(self.params)
        return TENSORFLOW.concat(drawn, -1) if drawn else tf.zeros([tf.size(self.height), 0], tf.int64)

    def sides(self) -> Any:
        """Rows and columns of the images that leave, int64 ``[n, 2]``."""
        sides = self.layout.sides(self.params, self._further(False), self.height, self.width)
        return tf.stack([tf.cast(side, tf.int64) + tf.zeros_like(self.height) for side in sides], 1)

    def _further(self, upright: bool) -> Params:
        turns = tf.ones_like(self.turns) if upright else self.turns
        return {"orientation": turns, "upright_height": self.height, "upright_width": self.width}
