"""What a stage is: frozen data, a check of what it may follow, params from draws, and a float64 reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from greenload.array_ops import NUMPY, Array, Ops
from greenload.specs import ImageSpec, LabelSpec
from greenload.stages.primitives import Primitive

Params = Mapping[str, Array]
"""What a stage does to a sample: integer windows, booleans, sizes; leading dimensions are the samples'."""


@dataclass(frozen=True)
class Stage:
    """Base of every stage. A stage is immutable, equal by value, and imports no framework.

    To write one, see "Adding a stage" in CONTRIBUTING.
    """

    draws: ClassVar[int] = 0
    """How many uniforms a sample needs; zero for a deterministic stage."""
    numbers: ClassVar[int] = 0
    """How many numbers ``prepare`` makes of them."""

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        """The spec after this stage.

        Raises:
            PipelineError: images of ``spec`` can't enter this stage.
        """
        raise NotImplementedError

    def out_label(self, spec: LabelSpec) -> LabelSpec:
        """The spec of a sample's label after this stage."""
        return spec

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        """What can be computed from the draws before an image's size is known, vectorised over samples.

        Args:
            uniforms: float64 ``[…, draws]``.
            ops: the array namespace.

        Returns:
            float64 ``[…, numbers]``.
        """
        return uniforms

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        """What this stage does to images of a size.

        Args:
            numbers: float64 ``[…, numbers]`` of ``prepare``.
            height: int64 ``[…]``, rows of each image that enters.
            width: int64 ``[…]``, its columns.
            ops: the array namespace.
        """
        return {}

    def fits(self, height: Array, width: Array, ops: Ops = NUMPY) -> Array | None:
        """Which images are large enough for this stage, a boolean each; ``None`` where all are."""
        return None

    def misfit(self) -> str:
        """Why an image that doesn't fit is refused, and what to do about it."""
        return f"{self} can't work on an image of this size"

    def out_size(self, params: Params, height: Array, width: Array, ops: Ops = NUMPY) -> tuple[Array, Array]:
        """Rows and columns of the images that leave, each int64 ``[…]``."""
        return height, width

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        """The operations on pixels that this stage comes down to, for images of ``spec``."""
        return ()

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        """The stage's formula in float64 NumPy, on one image: the oracle of the conformance suite.

        Args:
            image: ``[H, W, C]`` of its own dtype, except that float64 stands for float32.
            params: of one sample.

        Returns:
            ``[H', W', C]``, of the dtype that the stage gives, float64 for float32.
        """
        return image

    def to_dict(self) -> dict[str, Any]:
        """The stage as JSON data: its type under ``"stage"`` and its arguments."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"stage": type(self).__name__} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def __str__(self) -> str:
        shown = ", ".join(
            f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default
        )
        return f"{type(self).__name__}({shown})"
