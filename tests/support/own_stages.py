"""Stages as users write them, outside the package, importable by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import greenload as gl
from greenload.array_ops import NUMPY, Array, Ops
from greenload.specs import ImageSpec, LabelSpec
from greenload.stages import Params
from greenload.stages.base import partners


def negative_in_tensorflow(primitive: Negative, image: Any, params: Params) -> Any:
    """A pixel's levels above the threshold inverted."""
    import tensorflow as tf

    threshold = params["threshold"]
    threshold = threshold[:, None, None, None] if image.shape.rank == 4 else threshold
    return tf.where(tf.cast(image, tf.float64) < threshold, image, primitive.most - image)


def negative_in_numpy(primitive: Negative, image: Any, params: Params) -> Any:
    """The same."""
    return np.where(image < params["threshold"], image, primitive.most - image)


@dataclass(frozen=True)
class Negative(gl.Primitive):
    """Levels from ``params["threshold"]`` on inverted."""

    lowerings: ClassVar = {"tf": negative_in_tensorflow, "pillow": negative_in_numpy}

    most: int = 255


@dataclass(frozen=True)
class RandomNegative(gl.Stage):
    """Inverts the levels from a random threshold on."""

    draws: ClassVar[int] = 1
    numbers: ClassVar[int] = 1

    low: float = 0.0
    high: float = 256.0

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        if spec.dtype != "uint8":
            raise gl.PipelineError(
                f"{self} works on uint8 images, but here they are {spec.dtype}: put it before ToDtype"
            )
        return spec

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        return {"threshold": numbers[..., 0] * (self.high - self.low) + self.low}

    def primitives(self, spec: ImageSpec) -> tuple[gl.Primitive, ...]:
        return (Negative(),)

    def reference(self, image: Any, params: Params) -> Any:
        return np.where(image < params["threshold"], image, 255 - image)


def mix_in_tensorflow(primitive: Mixed, images: Any, params: Params) -> Any:
    """Each image and its partner, by their weights."""
    import tensorflow as tf

    weight = tf.cast(params["weight"], tf.float32)[:, None, None, None]
    return images * weight + tf.gather(images, params["partner"]) * (1.0 - weight)


@dataclass(frozen=True)
class Mixed(gl.Primitive):
    """An image and ``params["partner"]`` of its batch, by ``params["weight"]``."""

    lowerings: ClassVar = {"tf": mix_in_tensorflow}


@dataclass(frozen=True)
class Mix(gl.Stage):
    """What MixUp needs of the stage model: a second sample of the batch, and its label."""

    draws: ClassVar[int] = 2
    numbers: ClassVar[int] = 2
    mixes: ClassVar[bool] = True

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        return spec

    def out_label(self, spec: LabelSpec) -> LabelSpec:
        return LabelSpec(spec.shape, "float32")

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        return {"partner": partners(numbers[..., 0], ops), "weight": numbers[..., 1]}

    def primitives(self, spec: ImageSpec) -> tuple[gl.Primitive, ...]:
        return (Mixed(),)

    def change_labels(self, labels: Array, params: Params, ops: Ops = NUMPY) -> Array:
        weight = ops.cast(params["weight"], "float32")[..., None]
        return labels * weight + ops.take(labels, params["partner"]) * (1.0 - weight)

    def reference(self, image: Any, params: Params) -> Any:
        weight = np.asarray(params["weight"])[:, None, None, None]
        return image * weight + image[params["partner"]] * (1.0 - weight)


@dataclass(frozen=True)
class Smooth(gl.Stage):
    """A random share of each label given to all classes alike."""

    draws: ClassVar[int] = 1
    numbers: ClassVar[int] = 1

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        return spec

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        return {"share": numbers[..., 0]}

    def change_labels(self, labels: Array, params: Params, ops: Ops = NUMPY) -> Array:
        share = ops.cast(params["share"], "float32")[..., None]
        return labels * (1.0 - share) + share / labels.shape[-1]
