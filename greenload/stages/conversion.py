"""Stages that change pixel values and leave their places alone. They work on single images and on batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.errors import PipelineError
from greenload.public import public
from greenload.specs import DTYPES, RANGES, ImageSpec
from greenload.stages import primitives as pixels
from greenload.stages.arguments import flag, need_decoded
from greenload.stages.base import Params, Stage
from greenload.stages.primitives import Primitive
from greenload.stages.reference import as_dtype, dtype_of

_EPSILON = 1e-3  # torchvision's to_dtype: 1.0 becomes the largest integer, and each level gets an equal share


@public
@dataclass(frozen=True)
class ToDtype(Stage):
    """Another element type (``torchvision.transforms.v2.ToDtype``).

    With ``scale``, an integer's ``0 … m`` (255 for uint8, 127 for int8) stands for a float's ``0 … 1``: ``x / m`` from
    integers to floats, ``x · (m + 0.999)`` cut to an integer from floats to integers, ``x / 2`` cut from uint8 to int8
    and ``2 · x`` from int8 to uint8. Without, values are kept. To integers they are clipped to the range, then cut
    toward zero. Floats are computed in float32; float16 and bfloat16 are then rounded to nearest even.

    Where it differs from torchvision: values outside an integer's range are clipped, where they wrap around there
    (uint8 200 to int8, negative int8 to uint8) or are undefined (floats); and from float16 or bfloat16 to integers
    the product is made in float32, not in the small type.

    Args:
        dtype: ``"uint8"``, ``"int8"``, ``"float16"``, ``"bfloat16"`` or ``"float32"``.
        scale: whether to change the range of values along.
    """

    dtype: str
    scale: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise PipelineError(f"ToDtype: dtype must be one of {', '.join(map(repr, DTYPES))}, not {self.dtype!r}")
        object.__setattr__(self, "scale", flag("ToDtype", "scale", self.scale))

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_decoded(self, spec)
        return ImageSpec(spec.shape, self.dtype, spec.layout)

    def _factor(self, dtype_in: str) -> float:
        before, after = _largest(dtype_in), _largest(self.dtype)
        if not self.scale or before == after:
            return 1.0
        if before and after:
            return 0.5 if before > after else 2.0
        return 1.0 / before if before else (after or 0) + 1.0 - _EPSILON

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        if spec.dtype == self.dtype:
            return ()
        return (pixels.Affine((self._factor(spec.dtype),), (0.0,), self.dtype),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        before = dtype_of(image)
        if before == self.dtype:
            return image
        return as_dtype(image.astype(np.float64) * self._factor(before), self.dtype)


def _largest(dtype: str) -> int | None:
    """The value that stands for a float's 1; ``None`` for floats."""
    return RANGES[dtype][1] if dtype in RANGES else None


@public
@dataclass(frozen=True)
class Normalize(Stage):
    """``(x − mean) / std`` per channel (``torchvision.transforms.v2.Normalize``), on float images.

    float16 and bfloat16 images are computed in float32, and rounded to nearest even at the end: ``ToDtype("float32",
    scale=True), Normalize(…), ToDtype("float16")`` rounds once, ``ToDtype("float16", scale=True), Normalize(…)`` twice.

    Args:
        mean: one number a channel, in the images' own range of values.
        std: one number above zero a channel.

    Example:
        >>> ToDtype("float32", scale=True), Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values: Any = getattr(self, name)
            if (
                isinstance(values, str)
                or not isinstance(values, Iterable)
                or getattr(values, "ndim", 1) != 1
                or not (values := tuple(values))
                or not all(scalars.number(v) is not None for v in values)
            ):
                raise PipelineError(f"Normalize: {name} must be one finite number a channel, not {values!r}")
            object.__setattr__(self, name, tuple(float(v) for v in values))
        if len(self.mean) != len(self.std):
            raise PipelineError(
                f"Normalize: mean and std must be equally long, not {len(self.mean)} and {len(self.std)} numbers"
            )
        if min(self.std) <= 0:
            raise PipelineError(f"Normalize: std must be above zero, not {self.std!r}")

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_decoded(self, spec)
        if "float" not in spec.dtype:
            raise PipelineError(
                f"{self} needs images of floats, but here they are {spec.dtype}: "
                "put ToDtype('float32', scale=True) before it"
            )
        channels = spec.shape[-1]
        if channels is not None and len(self.mean) not in (1, channels):
            raise PipelineError(f"{self} has numbers for {len(self.mean)} channels, but images here have {channels}")
        return spec

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        scale = tuple(1.0 / s for s in self.std)
        return (pixels.Affine(scale, tuple(-m * s for m, s in zip(self.mean, scale, strict=True)), spec.dtype),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return as_dtype((image.astype(np.float64) - np.array(self.mean)) / np.array(self.std), dtype_of(image))
