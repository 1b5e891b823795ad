"""Stages that draw for each image which operations it goes through, and how strong: the published policies.

A policy's numbers are, turn by turn, the operation's position among its names and its value. It comes down to a choice
among kinds of operations at each turn, so that an operation that an image didn't get costs nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.array_ops import NUMPY, Array, Ops
from greenload.errors import PipelineError
from greenload.public import public
from greenload.specs import ImageSpec
from greenload.stages.arguments import finite, flag, need_single
from greenload.stages.base import Params, Stage
from greenload.stages.operations import OPERATIONS, Turn, evenly, joined, one_of, values_of
from greenload.stages.primitives import Choice, Part, Primitive, params_of

Magnitudes = Mapping[str, tuple[float, ...]]
"""The values of each operation at the magnitudes 0, 1, …: for a signed one without the sign."""

_AUTOAUGMENT_SHIFT = 150 / 331
"""The largest shift of AutoAugment, 150 pixels, as a share of the 331 pixels that its authors trained with."""
_WIDE_SHIFT = 32 / 224
"""The largest shift of TrivialAugment, 32 pixels, as a share of the 224 pixels of its authors' ImageNet."""


def magnitudes(
    bins: int,
    *,
    slope: float = 0.3,
    shift: float = _AUTOAUGMENT_SHIFT,
    degrees: float = 30.0,
    change: float = 0.9,
    bits: int = 4,
) -> Magnitudes:
    """The values of all operations, from the one that changes least to the strongest; AutoAugment's if not given.

    Args:
        bins: how many magnitudes.
        slope: the largest shear.
        shift: the largest translation, as a share of the side.
        degrees: the largest turn.
        change: the most that is added to or taken from the factor 1 of brightness, colour, contrast and sharpness.
        bits: the fewest that posterizing keeps.
    """
    rising = np.arange(bins) / (bins - 1)
    most = dict.fromkeys(("ShearX", "ShearY"), slope) | dict.fromkeys(("TranslateX", "TranslateY"), shift)
    most |= {"Rotate": degrees} | dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), change)
    values = {name: tuple((rising * largest).tolist()) for name, largest in most.items()}
    values["Posterize"] = tuple((8.0 - np.rint(np.arange(bins) / ((bins - 1) / (8 - bits)))).tolist())
    values["Solarize"] = tuple((255.0 * (1.0 - rising)).tolist())
    return values | {name: (0.0,) * bins for name in OPERATIONS if name not in values}


class Policy(Stage):
    """What policies share: a subclass says which operations there are, what they are worth, and how they are drawn."""

    fill: float

    @property
    def _turns(self) -> int:
        return 1

    @property
    def _names(self) -> tuple[str, ...]:
        """The operations that are drawn from."""
        raise NotImplementedError

    @property
    def _shares(self) -> tuple[float, ...]:
        return evenly(self._names)

    @property
    def _one_warp(self) -> bool:
        """Whether neighbouring affine maps are one."""
        return False

    @property
    def _turn(self) -> Turn:
        return Turn(self._names, self._shares, self.fill)

    @property
    def numbers(self) -> int:  # type: ignore[override]  # it depends on the turns
        """How many numbers a sample carries: two a turn."""
        return 2 * self._turns

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_single(self, spec)
        if spec.dtype != "uint8":
            raise PipelineError(
                f"{self} works on uint8 images, but here they are {spec.dtype}: put it before ToDtype({spec.dtype!r})"
            )
        if spec.shape[-1] != 3:
            raise PipelineError(
                f"{self} works on images of 3 channels (red, green, blue), but here they are {spec}: remove it, or "
                "have the source give three channels"
            )
        return spec

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        turn = self._turn
        turns = [
            turn.params(ops.i64(numbers[..., 2 * k]), numbers[..., 2 * k + 1], height, width, ops)
            for k in range(self._turns)
        ]
        if self._one_warp and "affine" in turn.kinds:
            number = turn.kinds.index("affine")
            for k in range(1, self._turns):
                turns[k - 1], turns[k] = joined(turns[k - 1], turns[k], number, ops)
        params: dict[str, Array] = {"choices": ops.i64(numbers[..., :1] * 0.0)}
        for k, own in enumerate(turns):
            params |= {f"{k}.{name}": values for name, values in own.items()}
        return params

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        choice = self._turn.choice(spec)
        if not choice.alternatives:
            return ()
        return (Choice((tuple(Part(k, choice, spec, spec) for k in range(self._turns)),), (1.0,)),)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        for k in range(self._turns):
            image = self._turn.reference(image, params_of(params, k))
        return image

    def way_without(self, primitive: Primitive) -> str:
        """What to do about a primitive that a backend doesn't have, in words; empty where no argument helps."""
        return ""

    def _check_fill(self) -> None:
        fill = finite(type(self).__name__, "fill", self.fill)
        if not 0 <= fill <= 255 or fill != int(fill):
            raise PipelineError(f"{type(self).__name__}: fill must be a whole number from 0 to 255, not {self.fill!r}")
        object.__setattr__(self, "fill", fill)


class _Drawing(Policy):
    """Policies that draw any of some operations, at a magnitude: each turn by three uniforms, whether it needs them or
    not, so that no argument changes the draws of another."""

    only: Any
    num_magnitude_bins: int

    ALL: ClassVar[tuple[str, ...]] = tuple(name for name in OPERATIONS if name != "Invert")

    @property
    def draws(self) -> int:  # type: ignore[override]  # it depends on the turns
        """How many uniforms a sample needs."""
        return 3 * self._turns

    @property
    def _names(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.only or self.ALL
        return names

    @property
    def _magnitudes(self) -> Magnitudes:
        raise NotImplementedError

    def _drawn_bin(self, uniform: Array, ops: Ops) -> Array:
        """The magnitude, int64 from 0."""
        raise NotImplementedError

    def way_without(self, primitive: Primitive) -> str:
        names = self._turn.names_of(primitive)
        return f"leave out {', '.join(names)} by only=[…]" if set(names) < set(self._names) else ""

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        names = self._names
        table = np.array([self._magnitudes[name] for name in names])
        numbers = []
        for k in range(self._turns):
            which, how_strong, side = (uniforms[..., 3 * k + i] for i in range(3))
            operation = one_of(len(names), which, ops)
            value = values_of(names, table, operation, self._drawn_bin(how_strong, ops), side, ops)
            numbers += [ops.f64(operation), value]
        return ops.stack(numbers, axis=-1)

    def _check_operations(self) -> None:
        name = type(self).__name__
        self._check_fill()
        bins = scalars.whole(self.num_magnitude_bins)
        if bins is None or bins < 2:
            raise PipelineError(
                f"{name}: num_magnitude_bins must be a whole number from 2, not {self.num_magnitude_bins!r}"
            )
        object.__setattr__(self, "num_magnitude_bins", bins)
        if self.only is None:
            return
        names = (self.only,) if isinstance(self.only, str) else tuple(scalars.several(self.only) or ())
        wrong = [one for one in names if not isinstance(one, str) or one not in OPERATIONS]
        if wrong or not names or len(set(names)) < len(names):
            raise PipelineError(
                f"{name}: only must be a list of names, each once, of {', '.join(OPERATIONS)}, not {self.only!r}"
            )
        object.__setattr__(self, "only", names)


@public
@dataclass(frozen=True)
class RandAugment(_Drawing):
    """Operations one after another, each drawn from fourteen, all at one magnitude
    (``torchvision.transforms.v2.RandAugment``; Cubuk et al. 2019, arXiv 1909.13719).

    The operations, at magnitude ``m`` of ``num_magnitude_bins`` (``t = m / (num_magnitude_bins − 1)``):

    - ``Identity``
    - ``ShearX``, ``ShearY``: slope ``0.3 t`` about the upper left corner
    - ``TranslateX``, ``TranslateY``: ``150/331 t`` of the side, cut to whole pixels
    - ``Rotate``: ``30 t`` degrees about the centre
    - ``Brightness``, ``Color``, ``Contrast``, ``Sharpness``: the factor ``1 + 0.9 t``
    - ``Posterize``: ``8 − round(4 t)`` bits
    - ``Solarize``: from level ``255 (1 − t)`` up
    - ``AutoContrast``, ``Equalize``

    Shears, shifts, turns and the four factors have either sign, drawn each time: a factor becomes ``1 − 0.9 t`` as
    often. These are torchvision's ranges. The paper's own code (``autoaugment.py`` of TensorFlow's TPU repository) has
    the four factors rise from 0.1 to 1.9, so that half the magnitudes do least in the middle, and posterizes and
    solarizes the less the larger the magnitude. timm keeps that as its default, and mends it where ``increasing`` is
    asked for. ``keras.layers.RandAugment`` takes ``num_ops`` and ``factor``, and draws the magnitude too.

    Where it differs from torchvision: affine maps are bilinear (there the default is nearest); factors round half up
    (there they cut); contrast pivots on the exact mean grey (there each pixel's grey is cut to an integer).

    It runs on backends ``"native"`` and ``"tf"``. By ``only`` it runs on DALI's without "Equalize", and on Pillow
    without affine maps: they have none with these pixels. On ``"tf"`` an affine map may be one level off, and an
    operation behind it may enlarge that.

    Args:
        num_ops: how many operations an image goes through, from 0.
        magnitude: from 0 to below ``num_magnitude_bins``.
        num_magnitude_bins: how many magnitudes there are, from 2.
        only: names of the operations that are drawn from; all fourteen if not given. Also "Invert".
        fuse_affine: whether affine maps that an image gets one right after another are one map: one interpolation in
            place of several, and what the first map moves out of the image comes back with the second. Pixels are
            others then, and nearer to the image.
        fill: what lies outside the image, 0 … 255.

    Raises:
        PipelineError: an argument is out of range; or, in a pipeline, images are not uint8 of three channels.

    Example:
        >>> Decode(), RandomResizedCrop(224), RandomHorizontalFlip(), RandAugment(num_ops=2, magnitude=9)
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    only: Sequence[str] | None = None
    fuse_affine: bool = False
    fill: float = 0.0

    def __post_init__(self) -> None:
        self._check_operations()
        num_ops, magnitude = scalars.whole(self.num_ops), scalars.whole(self.magnitude)
        if num_ops is None or num_ops < 0:
            raise PipelineError(f"RandAugment: num_ops must be a whole number from 0, not {self.num_ops!r}")
        if magnitude is None or not 0 <= magnitude < self.num_magnitude_bins:
            raise PipelineError(
                f"RandAugment: magnitude must be a whole number from 0 to {self.num_magnitude_bins - 1}, below "
                f"num_magnitude_bins, not {self.magnitude!r}"
            )
        object.__setattr__(self, "num_ops", num_ops)
        object.__setattr__(self, "magnitude", magnitude)
        object.__setattr__(self, "fuse_affine", flag("RandAugment", "fuse_affine", self.fuse_affine))

    @property
    def _turns(self) -> int:
        return self.num_ops

    @property
    def _one_warp(self) -> bool:
        return self.fuse_affine

    @property
    def _magnitudes(self) -> Magnitudes:
        return magnitudes(self.num_magnitude_bins)

    def _drawn_bin(self, uniform: Array, ops: Ops) -> Array:
        return ops.i64(uniform * 0.0) + self.magnitude

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return super().primitives(spec) if self.num_ops else ()


@public
@dataclass(frozen=True)
class TrivialAugmentWide(_Drawing):
    """One operation drawn from fourteen, at a magnitude drawn for each image
    (``torchvision.transforms.v2.TrivialAugmentWide``; Müller and Hutter 2021, arXiv 2103.10158, the wide space).

    The operations are those of ``RandAugment``, with wider ranges: slopes to 0.99, shifts to ``32/224`` of the side,
    turns to 135 degrees, factors from 0.01 to 1.99, bits down to 2.

    Where it differs from torchvision, beside what ``RandAugment`` says: there and in the authors' code shifts reach 32
    pixels whatever the image's size, which moves an image of 32 × 32 out of sight. Here they are the same share of the
    side as 32 pixels are of the 224 that the paper's ImageNet has.

    Args:
        num_magnitude_bins: how many magnitudes there are, from 2.
        only: names of the operations that are drawn from; all fourteen if not given. Also "Invert".
        fill: what lies outside the image, 0 … 255.

    Raises:
        PipelineError: an argument is out of range; or, in a pipeline, images are not uint8 of three channels.

    Example:
        >>> Decode(), RandomResizedCrop(224), RandomHorizontalFlip(), TrivialAugmentWide()
    """

    num_magnitude_bins: int = 31
    only: Sequence[str] | None = None
    fill: float = 0.0

    def __post_init__(self) -> None:
        self._check_operations()

    @property
    def _magnitudes(self) -> Magnitudes:
        return magnitudes(self.num_magnitude_bins, slope=0.99, shift=_WIDE_SHIFT, degrees=135.0, change=0.99, bits=2)

    def _drawn_bin(self, uniform: Array, ops: Ops) -> Array:
        return one_of(self.num_magnitude_bins, uniform, ops)
