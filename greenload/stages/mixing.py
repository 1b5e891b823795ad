"""Stages that mix the images of a batch with each other, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.array_ops import NUMPY, Array, Ops
from greenload.errors import PipelineError
from greenload.public import public
from greenload.randomness import beta
from greenload.specs import RANGES, ImageSpec, LabelSpec
from greenload.stages import primitives as pixels
from greenload.stages.arguments import need_decoded
from greenload.stages.base import Params, Stage
from greenload.stages.labels import encoded, outside
from greenload.stages.primitives import Primitive
from greenload.stages.reference import as_dtype, dtype_of

ALPHAS = (1e-3, 1e3)
"""The smallest and the largest parameter of Beta(alpha, alpha)."""


def alpha_of(stage: str, value: Any) -> float:
    """The parameter of Beta(alpha, alpha).

    Raises:
        PipelineError: it is out of range.
    """
    alpha = scalars.number(value)
    if alpha is None or not ALPHAS[0] <= alpha <= ALPHAS[1]:
        raise PipelineError(f"{stage}: alpha must be a number from {ALPHAS[0]:g} to {ALPHAS[1]:g}, not {value!r}")
    return alpha


@dataclass(frozen=True)
class Mixing(Stage):
    """What ``MixUp`` and ``CutMix`` share. Params, with a row for each image of a batch:

    - ``partner``: int64, the position of the other image: the one before it, and the last for the first.
    - ``weight``: float64, how much of the image is left, outside the box.
    - ``box``: int64 ``[top, left, height, width]``, where the other image alone is seen.
    - ``share``: float64, how much of the image's label is left.

    All are drawn by the batch's first sample. A batch of one image is left as it is.
    """

    mixes: ClassVar[bool] = True

    alpha: float = 1.0
    num_classes: int | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        object.__setattr__(self, "alpha", alpha_of(name, self.alpha))
        if self.num_classes is not None:
            classes = scalars.positive(PipelineError, f"{name}: num_classes", self.num_classes, " or None")
            object.__setattr__(self, "num_classes", classes)

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_decoded(self, spec)
        return spec

    def out_label(self, spec: LabelSpec) -> LabelSpec:
        classes = self.num_classes
        if not spec.shape and spec.dtype != "int64":
            raise PipelineError(
                f"{self} mixes labels of classes, but here they are {spec}: remove it, or give each sample a class's "
                "number"
            )
        if not spec.shape and classes is None:
            raise PipelineError(
                f"{self} mixes one number for each class, but here labels are classes' numbers: pass num_classes, or "
                "put OneHot(num_classes) before it"
            )
        if len(spec.shape) > 1:
            raise PipelineError(
                f"{self} mixes one number for each class, but here labels are {spec}: remove it, or what makes such "
                "labels"
            )
        if spec.shape and classes not in (None, *spec.shape):
            raise PipelineError(
                f"{self}: num_classes must be {spec.shape[0]}, as labels here are {spec} already, not {classes}: leave "
                "it out"
            )
        return LabelSpec(spec.shape or (classes or 0,), "float32")

    def wrong_label(self, labels: NDArray[np.int64]) -> tuple[int, str] | None:
        return None if self.num_classes is None else outside(str(self), self.num_classes, labels)

    def change_labels(self, labels: Array, params: Params, ops: Ops = NUMPY) -> Array:
        if len(labels.shape) == 1:
            assert self.num_classes is not None  # out_label sees to it
            labels = encoded(labels, self.num_classes, "float32", ops)
        labels = ops.cast(labels, "float32")
        share = ops.cast(params["share"], "float32")[..., None]
        return labels * share + ops.take(labels, params["partner"]) * (1.0 - share)

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.Mix(),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        weight = np.asarray(params["weight"])[:, None, None, None]
        other = image[np.asarray(params["partner"])]
        mixed = image.astype(np.float64) * weight + other.astype(np.float64) * (1.0 - weight)
        dtype = dtype_of(image)
        done = as_dtype(np.floor(mixed + 0.5) if dtype in RANGES else mixed, dtype)
        for row, (top, left, height, width) in enumerate(np.asarray(params["box"]).tolist()):
            inside = np.s_[row, top : top + height, left : left + width]
            done[inside] = other[inside]
        return done


def _others(height: Array, ops: Ops) -> tuple[Array, Array, Array]:
    """Of the images of a batch, of which each has a height: their positions, those of their others, int64 ``[n]``, and
    whether each is alone, boolean ``[n]``."""
    index = ops.positions(height)
    partner = ops.concat([index[-1:], index[:-1]], axis=0)
    return index, partner, partner == index


@public
@dataclass(frozen=True)
class MixUp(Mixing):
    """Each image of a batch mixed with the one before it, and their labels alike (Zhang et al., "mixup: Beyond
    Empirical Risk Minimization", ICLR 2018, arXiv 1710.09412; ``torchvision.transforms.v2.MixUp``).

    ``λ · image + (1 − λ) · other``, where ``λ`` is drawn from Beta(alpha, alpha), **once for each batch**; the first
    image's other is the batch's last. Labels become ``λ · label + (1 − λ) · other's label``: float32 ``[n, classes]``,
    for ``CategoricalCrossentropy``. Images keep their dtype: uint8 and int8 are rounded half up, floats are computed in
    float32, and float16 and bfloat16 rounded to nearest even then. A batch of one image is left as it is.

    It stands behind ``Batch``. ``λ`` is a multiple of 1 / 4096, the nearest to what the distribution's inverse gives,
    so that every backend mixes alike. It is a function of the pipeline's seed, the epoch and the batch's first sample:
    the same at any number of threads and when resumed, another with another batch size. Neighbours are mixed, so put
    ``Shuffle`` into the pipeline; else classes that lie together are mixed with themselves. Backends ``"native"`` and
    ``"tf"`` run it.

    Where others differ, and what is followed:

    ==================  ==================================================================================
    the paper           its experiments: alpha 0.1 … 0.4 for ImageNet, 1 for CIFAR; ``λ`` for each batch,
                        others by a random permutation of the batch
    torchvision v2      ``λ`` for each batch, the image before it, alpha 1: **followed**. It computes in the
                        images' dtype, and so needs floats
    Keras               ``λ`` for each sample, others by a random permutation, alpha 0.2; images become floats
    timm                ``λ`` for each batch unless asked otherwise, others by the batch reversed, which needs
                        an even batch; smooths labels by 0.1; alpha 1
    ==================  ==================================================================================

    Args:
        alpha: of the distribution, from 0.001 to 1000: the smaller, the less is mixed in most batches; 1 is uniform.
        num_classes: how many classes there are, where labels are classes' numbers; may be left out behind ``OneHot``,
            another ``MixUp`` or ``CutMix``.

    Raises:
        PipelineError: an argument is out of range, or labels can't be mixed: numbers of classes without
            ``num_classes``, or labels that aren't one number for each class.

    Example:
        >>> Pipeline(source, Shuffle(), Decode(), RandomResizedCrop(224), Batch(64), MixUp(0.2, num_classes=1000))
    """

    draws: ClassVar[int] = 1
    numbers: ClassVar[int] = 1

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        index, partner, alone = _others(height, ops)
        everything = ops.f64(index) * 0.0 + 1.0
        weight = ops.where(alone, everything, everything * beta(numbers[:1, 0], self.alpha, ops))
        nothing = index[..., None] * ops.i64(np.zeros(4))
        return {"partner": partner, "weight": weight, "box": nothing, "share": weight}


@public
@dataclass(frozen=True)
class CutMix(Mixing):
    """A box of each image of a batch replaced by that of the image before it, and their labels mixed by its area (Yun
    et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019, arXiv
    1905.04899; ``torchvision.transforms.v2.CutMix``).

    ``λ`` is drawn from Beta(alpha, alpha), and the box's centre uniformly from all pixels, **once for each batch**; the
    first image's other is the batch's last. The box reaches ``⌊√(1 − λ) · height / 2⌋`` rows above and below its centre
    and ``⌊√(1 − λ) · width / 2⌋`` columns to both sides, and is cut off where the image ends. ``λ`` then becomes what
    is left of the image: ``1 − box's area / image's area``. Labels become ``λ · label + (1 − λ) · other's label``:
    float32 ``[n, classes]``, for ``CategoricalCrossentropy``. Pixels keep their values, of any dtype. A batch of one
    image is left as it is.

    It stands behind ``Batch``. ``λ`` is drawn as in ``MixUp``, whose notes on draws, ``Shuffle`` and backends hold here
    too.

    Where others differ, and what is followed:

    ==================  ==================================================================================
    the paper           alpha 1; others by a random permutation; its code corrects ``λ`` to the area, and applies it
                        to each batch with a probability
    torchvision v2      a box for each batch, the image before it, ``λ`` corrected: **followed**
    Keras               a box for each sample, wholly inside the image, others by a random permutation; its ``factor``
                        is the range that alpha is drawn from; images become floats
    timm                the same box for each batch unless asked otherwise, others by the batch reversed, ``λ``
                        corrected; smooths labels by 0.1
    ==================  ==================================================================================

    Args:
        alpha: of the distribution, from 0.001 to 1000; 1 is uniform.
        num_classes: how many classes there are, where labels are classes' numbers; may be left out behind ``OneHot``,
            another ``CutMix`` or ``MixUp``.

    Raises:
        PipelineError: an argument is out of range, or labels can't be mixed: numbers of classes without
            ``num_classes``, or labels that aren't one number for each class.

    Example:
        >>> mixed = RandomChoice([MixUp(0.2, num_classes=1000), CutMix(num_classes=1000)])  # one for each batch
        >>> Pipeline(source, Shuffle(), Decode(), RandomResizedCrop(224), Batch(64), mixed)
    """

    draws: ClassVar[int] = 3
    numbers: ClassVar[int] = 3

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        index, partner, alone = _others(height, ops)
        half = ops.sqrt(1.0 - beta(numbers[:1, 0], self.alpha, ops)) * 0.5
        edges = []
        for column, side in ((1, height), (2, width)):
            pixels_along = ops.f64(side[:1])
            centre, reach = ops.floor(numbers[:1, column] * pixels_along), ops.floor(half * pixels_along)
            first = ops.maximum(centre - reach, centre * 0.0)
            edges.append((first, ops.minimum(centre + reach, pixels_along) - first))
        (top, rows), (left, columns) = edges
        box = ops.i64(ops.stack([top, left, rows, columns], axis=-1))
        empty = alone[..., None] | (box[..., 2:3] * box[..., 3:] == 0)
        box = ops.where(empty, index[..., None] * 0, box)
        area = height * width
        share = ops.f64(area - box[..., 2] * box[..., 3]) / ops.f64(area)
        return {"partner": partner, "weight": share * 0.0 + 1.0, "box": box, "share": share}
