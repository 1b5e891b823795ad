"""Stages on labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.array_ops import NUMPY, Array, Ops
from greenload.errors import PipelineError
from greenload.public import public
from greenload.specs import DTYPES, ImageSpec, LabelSpec
from greenload.stages.base import Params, Stage


@public
@dataclass(frozen=True)
class OneHot(Stage):
    """The label as ``num_classes`` numbers: 1 at its place, 0 elsewhere (``torch.nn.functional.one_hot``,
    ``tf.one_hot``).

    Images are left alone, and wherever it stands the label is encoded when its batch is handed over. A label outside
    ``0 … num_classes − 1`` is an error that names the sample, raised before anything is loaded.

    Args:
        num_classes: how many classes there are.
        dtype: of the numbers: ``"float32"``, or another of the images' dtypes.

    Example:
        >>> Pipeline(source, Decode(), Resize((64, 64)), OneHot(10), Batch(32))
    """

    num_classes: int
    dtype: str = "float32"

    def __post_init__(self) -> None:
        classes = scalars.positive(PipelineError, "OneHot: num_classes", self.num_classes)
        object.__setattr__(self, "num_classes", classes)
        if self.dtype not in DTYPES:
            raise PipelineError(f"OneHot: dtype must be one of {', '.join(map(repr, DTYPES))}, not {self.dtype!r}")

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        return spec

    def out_label(self, spec: LabelSpec) -> LabelSpec:
        if spec.shape:
            raise PipelineError(f"{self} takes a class's number, but here labels are {spec} already: remove it")
        return LabelSpec((self.num_classes,), self.dtype)

    def change_labels(self, labels: Array, params: Params, ops: Ops = NUMPY) -> Array:
        return encoded(labels, self.num_classes, self.dtype, ops)

    def wrong_label(self, labels: NDArray[np.int64]) -> tuple[int, str] | None:
        return outside(str(self), self.num_classes, labels)


def encoded(labels: Array, num_classes: int, dtype: str, ops: Ops = NUMPY) -> Array:
    """Classes' numbers, int64 ``[n]``, as 1 at each one's place and 0 elsewhere, ``[n, num_classes]``."""
    return ops.cast(labels[..., None] == ops.i64(np.arange(num_classes)), dtype)


def outside(stage: str, num_classes: int, labels: NDArray[np.int64]) -> tuple[int, str] | None:
    """The index of the first label that is no class's number, and why a stage can't take it; ``None`` if all are."""
    wrong = (labels < 0) | (labels >= num_classes)
    if not wrong.any():
        return None
    index = int(np.argmax(wrong))
    label = labels[index]
    raised = f"pass num_classes={label + 1} or more, or " if label >= 0 else ""
    return index, f"its label must be in 0 … {num_classes - 1} for {stage}, not {label}: {raised}correct the label"
