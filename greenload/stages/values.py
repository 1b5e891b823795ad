"""Stages that change pixel values and leave their places alone. They work on single images and on batches."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.errors import PipelineError
from greenload.specs import DTYPES, ImageSpec
from greenload.stages import primitives as pixels
from greenload.stages.base import Params, Stage, flag, need_decoded
from greenload.stages.primitives import Primitive

_FLOAT_TO_UINT8 = 255.0 + 1.0 - 1e-3  # torchvision's to_dtype: 1.0 becomes 255, and each level gets an equal share


@dataclass(frozen=True)
class ToDtype(Stage):
    """Another element type (``torchvision.transforms.v2.ToDtype``).

    With ``scale``, uint8 0 … 255 stands for float 0 … 1: ``x / 255`` one way, ``⌊x · 255.999⌋`` the other.
    Without, values are kept; to uint8 they are clipped to 0 … 255 and cut to an integer.

    Args:
        dtype: ``"uint8"`` or ``"float32"``.
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
        if not self.scale or dtype_in == self.dtype:
            return 1.0
        return 1.0 / 255.0 if dtype_in == "uint8" else _FLOAT_TO_UINT8

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        if spec.dtype == self.dtype:
            return ()
        return (pixels.Affine((self._factor(spec.dtype),), (0.0,), self.dtype),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        dtype_in = "uint8" if image.dtype == np.uint8 else "float32"
        if dtype_in == self.dtype:
            return image
        values = image.astype(np.float64) * self._factor(dtype_in)
        return values if self.dtype == "float32" else np.clip(values, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Normalize(Stage):
    """``(x − mean) / std`` per channel (``torchvision.transforms.v2.Normalize``), on float images.

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
                or not (values := tuple(values))
                or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values)
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
        if spec.dtype != "float32":
            raise PipelineError(
                f"{self} needs float32 images, but here they are {spec.dtype}: "
                "put ToDtype('float32', scale=True) before it"
            )
        channels = spec.shape[-1]
        if channels is not None and len(self.mean) not in (1, channels):
            raise PipelineError(f"{self} has numbers for {len(self.mean)} channels, but images here have {channels}")
        return spec

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        scale = tuple(1.0 / s for s in self.std)
        return (pixels.Affine(scale, tuple(-m * s for m, s in zip(self.mean, scale, strict=True)), "float32"),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        normalised: NDArray[np.generic] = (image.astype(np.float64) - np.array(self.mean)) / np.array(self.std)
        return normalised
