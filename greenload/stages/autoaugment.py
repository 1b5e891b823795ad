"""AutoAugment: one of 25 published pairs of operations for each image.

Its policies are those of Cubuk et al. 2018, arXiv 1805.09501, tables 7 (CIFAR-10), 8 (SVHN) and 9 (ImageNet). Each line
has two operations with their probability in tenths and their magnitude of 0 … 9; one that has none has "-".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from greenload.array_ops import NUMPY, Array, Ops
from greenload.errors import PipelineError
from greenload.public import public
from greenload.stages.operations import SIGNED, one_of
from greenload.stages.policies import Policy, magnitudes

_BINS = 10
"""Magnitudes: 0 … 9."""


class Drawn(NamedTuple):
    """An operation of a pair."""

    name: str
    probability: float
    magnitude: int
    """0 where the operation has none."""


Pair = tuple[Drawn, Drawn]

_IMAGENET = """
Posterize 4 8  Rotate 6 9
Solarize 6 5  AutoContrast 6 -
Equalize 8 -  Equalize 6 -
Posterize 6 7  Posterize 6 6
Equalize 4 -  Solarize 2 4
Equalize 4 -  Rotate 8 8
Solarize 6 3  Equalize 6 -
Posterize 8 5  Equalize 10 -
Rotate 2 3  Solarize 6 8
Equalize 6 -  Posterize 4 6
Rotate 8 8  Color 4 0
Rotate 4 9  Equalize 6 -
Equalize 0 -  Equalize 8 -
Invert 6 -  Equalize 10 -
Color 6 4  Contrast 10 8
Rotate 8 8  Color 10 2
Color 8 8  Solarize 8 7
Sharpness 4 7  Invert 6 -
ShearX 6 5  Equalize 10 -
Color 4 0  Equalize 6 -
Equalize 4 -  Solarize 2 4
Solarize 6 5  AutoContrast 6 -
Invert 6 -  Equalize 10 -
Color 6 4  Contrast 10 8
Equalize 8 -  Equalize 6 -
"""
_CIFAR10 = """
Invert 1 -  Contrast 2 6
Rotate 7 2  TranslateX 3 9
Sharpness 8 1  Sharpness 9 3
ShearY 5 8  TranslateY 7 9
AutoContrast 5 -  Equalize 9 -
ShearY 2 7  Posterize 3 7
Color 4 3  Brightness 6 7
Sharpness 3 9  Brightness 7 9
Equalize 6 -  Equalize 5 -
Contrast 6 7  Sharpness 6 5
Color 7 7  TranslateX 5 8
Equalize 3 -  AutoContrast 4 -
TranslateY 4 3  Sharpness 2 6
Brightness 9 6  Color 2 8
Solarize 5 2  Invert 0 -
Equalize 2 -  AutoContrast 6 -
Equalize 2 -  Equalize 6 -
Color 9 9  Equalize 6 -
AutoContrast 8 -  Solarize 2 8
Brightness 1 3  Color 7 0
Solarize 4 5  AutoContrast 9 -
TranslateY 9 9  TranslateY 7 9
AutoContrast 9 -  Solarize 8 3
Equalize 8 -  Invert 1 -
TranslateY 7 9  AutoContrast 9 -
"""
_SVHN = """
ShearX 9 4  Invert 2 -
ShearY 9 8  Invert 7 -
Equalize 6 -  Solarize 6 6
Invert 9 -  Equalize 6 -
Equalize 6 -  Rotate 9 3
ShearX 9 4  AutoContrast 8 -
ShearY 9 8  Invert 4 -
ShearY 9 5  Solarize 2 6
Invert 9 -  AutoContrast 8 -
Equalize 6 -  Rotate 9 3
ShearX 9 4  Solarize 3 3
ShearY 8 8  Invert 7 -
Equalize 9 -  TranslateY 6 6
Invert 9 -  Equalize 6 -
Contrast 3 3  Rotate 8 4
Invert 8 -  TranslateY 0 2
ShearY 7 6  Solarize 4 8
Invert 6 -  Rotate 8 4
ShearY 3 7  TranslateX 9 3
ShearX 1 6  Invert 6 -
Solarize 7 2  TranslateY 6 7
ShearY 8 4  Invert 8 -
ShearX 7 9  TranslateY 8 3
ShearY 8 5  AutoContrast 7 -
ShearX 7 2  Invert 1 -
"""


def _pairs(lines: str) -> tuple[Pair, ...]:
    pairs = []
    for line in lines.split("\n")[1:-1]:
        name, tenths, magnitude, other, other_tenths, other_magnitude = line.split()
        pairs.append((_drawn(name, tenths, magnitude), _drawn(other, other_tenths, other_magnitude)))
    return tuple(pairs)


def _drawn(name: str, tenths: str, magnitude: str) -> Drawn:
    return Drawn(name, int(tenths) / 10, 0 if magnitude == "-" else int(magnitude))


POLICIES: Mapping[str, tuple[Pair, ...]] = {
    "imagenet": _pairs(_IMAGENET),
    "cifar10": _pairs(_CIFAR10),
    "svhn": _pairs(_SVHN),
}
"""The pairs of each policy, by the data that it was found on."""


@public
@dataclass(frozen=True)
class AutoAugment(Policy):
    """One of 25 pairs of operations, drawn for each image, each operation with a probability and a magnitude of its own
    (``torchvision.transforms.v2.AutoAugment``; Cubuk et al. 2018, arXiv 1805.09501, its tables 7 to 9).

    Operations and their ranges are those of ``RandAugment`` with ten magnitudes, and ``Invert``; so are torchvision's.
    Where magnitudes and signs differ among libraries, ``RandAugment`` says which are followed.

    Args:
        policy: "imagenet", "cifar10" or "svhn": the data that it was found on.
        fill: what lies outside the image, 0 … 255.

    Raises:
        PipelineError: an argument is out of range; or, in a pipeline, images are not uint8 of three channels.

    Example:
        >>> Decode(), RandomResizedCrop(224), RandomHorizontalFlip(), AutoAugment("imagenet")
    """

    draws: ClassVar[int] = 5

    policy: str = "imagenet"
    fill: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.policy, str) or self.policy not in POLICIES:
            raise PipelineError(
                f"AutoAugment: policy must be one of {', '.join(map(repr, POLICIES))}, not {self.policy!r}"
            )
        self._check_fill()

    @property
    def _turns(self) -> int:
        return 2

    @property
    def _pairs(self) -> tuple[Pair, ...]:
        return POLICIES[self.policy]

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(["Identity", *(one.name for pair in self._pairs for one in pair)]))

    @property
    def _shares(self) -> tuple[float, ...]:
        applied = dict.fromkeys(self._names, 0.0)
        for one in (one for pair in self._pairs for one in pair):
            applied[one.name] += one.probability / (2 * len(self._pairs))
        applied["Identity"] = 1.0 - sum(applied.values())
        return tuple(applied.values())

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        names, pairs = self._names, self._pairs
        worth = magnitudes(_BINS)
        pair = one_of(len(pairs), uniforms[..., 0], ops)
        numbers = []
        for k in range(2):
            own = [of_both[k] for of_both in pairs]
            table = np.array(
                [
                    (names.index(one.name), one.probability, worth[one.name][one.magnitude], one.name in SIGNED)
                    for one in own
                ]
            )
            number, probability, value, signed = (ops.take(table[:, column], pair) for column in range(4))
            applied = uniforms[..., 1 + 2 * k] < probability
            negative = (uniforms[..., 2 + 2 * k] < 0.5) & (signed > 0.0)
            value = ops.where(negative, -value, value)
            numbers += [ops.where(applied, number, number * 0.0), ops.where(applied, value, value * 0.0)]
        return ops.stack(numbers, axis=-1)
