"""A sample's prepared random values, and every stage's params and labels from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload import randomness
from greenload.array_ops import NUMPY, Array, Ops
from greenload.plans.pipeline import Pipeline
from greenload.specs import ImageSpec
from greenload.stages import Apply, Params, Stage


@dataclass(frozen=True)
class DrawLayout:
    """Where each stage's prepared random values lie in the one vector that a sample carries."""

    stages: tuple[Stage, ...]
    keys: tuple[int, ...]
    starts: tuple[int, ...]
    count: int
    """How many prepared random values a sample carries."""
    specs: tuple[ImageSpec, ...]
    """Of the images that enter each stage."""
    echo: int | None = None
    """The place of ``Echo``, if there is one: stages before it draw once for a sample."""

    @classmethod
    def of(cls, pipeline: Pipeline) -> DrawLayout:
        """The layout for a pipeline."""
        counts = [stage.numbers for stage in pipeline.stages]
        starts = tuple(int(n) for n in np.cumsum([0, *counts])[:-1])
        return cls(pipeline.stages, pipeline.keys, starts, sum(counts), pipeline.specs[:-1], pipeline.echo)

    def prepare(self, seed: int, epoch: Array, index: Array, ops: Ops = NUMPY, *, echoes: Array | None = None) -> Array:
        """All stages' prepared random values, for samples of an epoch.

        Args:
            seed: the pipeline's.
            epoch: integer scalar, or the shape of ``index``.
            index: int64 ``[n]``.
            ops: the array namespace.
            echoes: which echo of its sample each is, int64 ``[n]``; if not given, the first of each.

        Returns:
            float64 ``[n, count]``. Those of stages before ``Echo`` are the same for all echoes of a sample.
        """
        first = each = randomness.base(seed, epoch, index, ops=ops)
        if echoes is not None and self.echo is not None:
            each = randomness.base(seed, epoch, index, echoes, ops)
        drawing = enumerate(zip(self.stages, self.keys, strict=True))
        parts = [
            stage.draw(first if self.echo is None or place < self.echo else each, key, ops)
            for place, (stage, key) in drawing
            if stage.draws
        ]
        if not parts:
            return ops.f64(index)[..., None][..., :0]
        return parts[0] if len(parts) == 1 else ops.concat(parts, axis=-1)

    def of_stage(self, numbers: Array, index: int) -> Array:
        """One stage's share ``[…, k]`` of the prepared random values ``[…, count]``."""
        start = self.starts[index]
        return numbers[..., start : start + self.stages[index].numbers]

    def first_too_small(
        self, height: NDArray[np.int64], width: NDArray[np.int64], first: int = 0, end: int | None = None
    ) -> tuple[int, str] | None:
        """The first image that is too small for a stage, and why; ``None`` if none is.

        Args:
            height: int64 ``[n]``, rows of the images as they enter the stage of index ``first``.
            width: int64 ``[n]``, their columns.
            first: where to begin; 0 is where images are decoded.
            end: the index before which to stop; all stages are looked at if not given.
        """
        # Sizes behind a random stage don't depend on its draws.
        drawn = np.zeros((len(height), self.count))
        for index, stage in list(enumerate(self.stages))[first : self._last_limited(first, end) + 1]:
            enough = stage.large_enough(height, width)
            if enough is not None and not enough.all():
                wrong = int(np.argmin(enough))
                return wrong, f"{stage.why_too_small()}; it is {height[wrong]}×{width[wrong]} there"
            if isinstance(stage, Apply):
                return None  # what size a user's function gives, or what it refuses, isn't known
            params = stage.params(self.of_stage(drawn, index), height, width)
            height, width = stage.out_size(params, height, width)
        return None

    def _last_limited(self, first: int, end: int | None) -> int:
        """The index of the last stage, of some, that needs a size of its images; −1 where none does."""
        stages = list(enumerate(self.stages))[first:end]
        return max((i for i, stage in stages if type(stage).large_enough is not Stage.large_enough), default=-1)

    def large_enough(
        self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY, *, first: int = 0, end: int | None = None
    ) -> Array | None:
        """Whether each image is large enough for some stages, boolean ``[n]``; ``None`` where none needs a size.

        Args:
            numbers: float64 ``[n, count]``.
            height: int64 ``[n]``, rows of the images as they enter the stage of index ``first``.
            width: int64 ``[n]``, their columns.
            ops: the array namespace.
            first: where to begin; 0 is where images are decoded.
            end: the index before which to stop; all stages are looked at if not given.
        """
        enough = None
        for index, stage in list(enumerate(self.stages))[first : self._last_limited(first, end) + 1]:
            own = stage.large_enough(height, width, ops)
            if own is not None:
                enough = own if enough is None else enough & own
            params = stage.params(self.of_stage(numbers, index), height, width, ops)
            height, width = stage.out_size(params, height, width, ops)
        return enough

    def params(
        self,
        numbers: Array,
        height: Array,
        width: Array,
        indices: Sequence[int],
        ops: Ops = NUMPY,
        *,
        first: int = 0,
    ) -> dict[int, Any]:
        """The params of some stages, the images' sizes followed from stage to stage.

        Args:
            numbers: float64 ``[n, count]``.
            height: int64 ``[n]``, rows of the images as they enter the stage of index ``first``.
            width: int64 ``[n]``, their columns.
            indices: of the stages whose params are wanted; sizes are followed through all stages from ``first`` on.
            ops: the array namespace.
            first: where to begin; 0 is where images are decoded.
        """
        wanted: dict[int, Any] = {}
        for index, stage in list(enumerate(self.stages))[first : max(indices, default=-1) + 1]:
            params = stage.params(self.of_stage(numbers, index), height, width, ops)
            if index in indices:
                wanted[index] = params
            height, width = stage.out_size(params, height, width, ops)
        return wanted

    @property
    def of_labels(self) -> bool:
        """Whether what becomes of labels depends on their samples' numbers."""
        return any(stage.changes_labels and stage.numbers for stage in self.stages)

    def labels(self, labels: Array, numbers: Array, ops: Ops = NUMPY) -> Array:
        """The labels of a batch as the pipeline gives them.

        Args:
            labels: int64 ``[n]`` from the source, found good by ``Pipeline.check_labels``.
            numbers: float64 ``[n, count]``; not looked at unless ``of_labels``.
            ops: the array namespace.

        Returns:
            ``[n, …]`` of the pipeline's label.
        """
        for index, stage in enumerate(self.stages):
            if not stage.changes_labels:
                continue
            params: Params = {}
            if stage.numbers:
                own = self.of_stage(numbers, index)
                height, width, _ = self.specs[index].image_shape  # known behind Batch
                nothing = ops.i64(own[..., 0] * 0.0)
                params = stage.params(own, nothing + height, nothing + width, ops)
            labels = stage.change_labels(labels, params, ops)
        return labels
