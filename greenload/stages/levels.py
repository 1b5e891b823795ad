"""Stages that map the 256 levels of uint8 images: each is one look-up in a table, fixed or made from the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.array_ops import NUMPY, Array, Ops
from greenload.errors import PipelineError
from greenload.public import public
from greenload.specs import ImageSpec
from greenload.stages import primitives as pixels
from greenload.stages import reference
from greenload.stages.arguments import finite, need_levels, probability
from greenload.stages.base import Params, Stage
from greenload.stages.primitives import Primitive

_LEVELS = range(256)


class _LevelMap(Stage):
    """What these stages share: of uint8 images those that are drawn are mapped."""

    draws: ClassVar[int] = 1
    numbers: ClassVar[int] = 1

    p: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", probability(type(self).__name__, self.p))

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_levels(self, spec)
        return spec

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        return {"apply": numbers[..., 0] < self.p}

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        return self._mapped(image) if bool(params["apply"]) else image

    def _mapped(self, image: NDArray[Any]) -> NDArray[Any]:
        """An image ``[H, W, C]`` that was drawn, by the stage's formula."""
        raise NotImplementedError


@public
@dataclass(frozen=True)
class RandomInvert(_LevelMap):
    """Every value becomes 255 less itself, with probability ``p`` (``torchvision.transforms.v2.RandomInvert``), in
    uint8 images of any number of channels.

    It is one look-up in a table of 256 levels, before ``Batch`` or after it. "Invert" of AutoAugment (Cubuk et al.
    2019, arXiv 1805.09501). Pillow's ``ImageOps.invert`` and torchvision give the same values; torchvision
    takes floats too. ``keras.layers.RandomInvert`` gives floats, and takes the probability itself from an interval.

    Args:
        p: how likely, between 0 and 1.

    Raises:
        PipelineError: ``p`` is no probability; or, in a pipeline, images are not of uint8.

    Example:
        >>> Decode(), RandomResizedCrop(224), RandomInvert(p=0.2)
    """

    p: float = 0.5

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.LookUp(pixels.INVERTED),)

    def _mapped(self, image: NDArray[Any]) -> NDArray[Any]:
        return (255.0 - image.astype(np.float64)).astype(np.uint8)


@public
@dataclass(frozen=True)
class RandomSolarize(_LevelMap):
    """Every value from ``threshold`` up becomes 255 less itself, with probability ``p``
    (``torchvision.transforms.v2.RandomSolarize``), in uint8 images of any number of channels.

    It is one look-up in a table of 256 levels, before ``Batch`` or after it. "Solarize" of AutoAugment (Cubuk et al.
    2019, arXiv 1805.09501), which inverts what is above a threshold. Pillow's ``ImageOps.solarize`` and torchvision
    invert the threshold's own level too, and so does this. torchvision takes floats too, and has no
    default for ``threshold``. ``keras.layers.Solarization`` does it to every image, gives floats, draws the threshold
    as a share of the range from an interval, and can add a constant first.

    Args:
        threshold: a number from 0 to 255.
        p: how likely, between 0 and 1.

    Raises:
        PipelineError: an argument is out of range; or, in a pipeline, images are not of uint8.

    Example:
        >>> Decode(), RandomResizedCrop(224), RandomSolarize(threshold=128, p=0.2)
    """

    threshold: float = 128
    p: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        threshold = finite("RandomSolarize", "threshold", self.threshold)
        if not 0 <= threshold <= 255:
            raise PipelineError(f"RandomSolarize: threshold must be a number from 0 to 255, not {self.threshold!r}")
        object.__setattr__(self, "threshold", threshold)

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.LookUp(bytes(level if level < self.threshold else 255 - level for level in _LEVELS)),)

    def _mapped(self, image: NDArray[Any]) -> NDArray[Any]:
        return reference.solarize(image, self.threshold)


@public
@dataclass(frozen=True)
class RandomPosterize(_LevelMap):
    """Of every value the ``bits`` highest bits are kept, the others become 0, with probability ``p``
    (``torchvision.transforms.v2.RandomPosterize``), in uint8 images of any number of channels.

    It is one look-up in a table of 256 levels, before ``Batch`` or after it; with 8 bits it does nothing. "Posterize"
    of AutoAugment (Cubuk et al. 2019, arXiv 1805.09501), which draws 4 to 8 bits. Pillow's
    ``ImageOps.posterize`` and torchvision give the same values. torchvision takes floats too, and 0 bits, which make
    every image black and are refused here. ``keras.layers.RandomPosterization`` does it to every image, draws the
    bits of each from 1 to below its ``factor``, and gives floats.

    Args:
        bits: how many are kept, from 1 to 8.
        p: how likely, between 0 and 1.

    Raises:
        PipelineError: an argument is out of range; or, in a pipeline, images are not of uint8.

    Example:
        >>> Decode(), RandomResizedCrop(224), RandomPosterize(bits=4, p=0.2)
    """

    bits: int
    p: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        bits = scalars.whole(self.bits)
        if bits is None or not 1 <= bits <= 8:
            raise PipelineError(f"RandomPosterize: bits must be a whole number from 1 to 8, not {self.bits!r}")
        object.__setattr__(self, "bits", bits)

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        mask = 256 - (1 << (8 - self.bits))
        return () if self.bits == 8 else (pixels.LookUp(bytes(level & mask for level in _LEVELS)),)

    def _mapped(self, image: NDArray[Any]) -> NDArray[Any]:
        return reference.posterize(image, self.bits)


@public
@dataclass(frozen=True)
class RandomAutocontrast(_LevelMap):
    """Each channel's values stretched so that its least becomes 0 and its largest 255, with probability ``p``
    (``torchvision.transforms.v2.RandomAutocontrast``), in uint8 images of any number of channels.

    With ``low`` and ``high`` of a channel, ``v`` becomes ``(v − low) · 255 / (high − low)``, cut to an integer; a
    channel of one value stays as it is. It is one look-up in a table of each channel's own (arithmetic on DALI), before
    ``Batch`` or after it. "AutoContrast" of AutoAugment (Cubuk et al. 2019, arXiv 1805.09501).

    Libraries disagree about a value's last level, as they round the formula's terms before they cut. This has the bits
    of Pillow's ``ImageOps.autocontrast``, which computes ``v · s − low · s`` in double precision. Over all pairs of
    ``low`` and ``high`` 0.4 % of the values lie one level below the exact formula's; in 15 % of the pairs the largest
    value becomes 254. torchvision divides ``v − low`` in single precision, and takes floats too.
    ``keras.layers.AutoContrast`` does it to every image, in single precision, and gives floats that aren't cut.

    Args:
        p: how likely, between 0 and 1.

    Raises:
        PipelineError: ``p`` is no probability; or, in a pipeline, images are not of uint8.

    Example:
        >>> Decode(), RandomResizedCrop(224), RandomAutocontrast(p=0.2)
    """

    p: float = 0.5

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.Autocontrast(),)

    def _mapped(self, image: NDArray[Any]) -> NDArray[Any]:
        return reference.autocontrast(image)


@public
@dataclass(frozen=True)
class RandomEqualize(_LevelMap):
    """The histogram of each channel made even, with probability ``p``
    (``torchvision.transforms.v2.RandomEqualize``), in uint8 images of any number of channels.

    As Pillow's ``ImageOps.equalize`` does it, to the bit: ``step`` is the count of a channel's values that are below
    its largest, divided by 255 and cut to an integer; ``v`` becomes ``(⌊step / 2⌋ + how many are below v) / step``, cut
    to an integer and at 255. Where ``step = 0`` (a channel of one value, or fewer than 255 values below its largest)
    the channel stays as it is. It is one look-up in a table of each channel's own, before ``Batch`` or after it.
    "Equalize" of AutoAugment (Cubuk et al. 2019, arXiv 1805.09501).

    torchvision has the same formula for uint8, and takes floats by way of uint8. ``keras.layers.Equalization`` does it
    to every image, by another formula: ``(cdf(v) − cdf_min) · 255 / (n − cdf_min)``, rounded. OpenCV and DALI have yet
    another, so the DALI backends refuse this stage.

    Args:
        p: how likely, between 0 and 1.

    Raises:
        PipelineError: ``p`` is no probability; or, in a pipeline, images are not of uint8.

    Example:
        >>> Decode(), RandomResizedCrop(224), RandomEqualize(p=0.2)
    """

    p: float = 0.5

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.Equalize(),)

    def _mapped(self, image: NDArray[Any]) -> NDArray[Any]:
        return reference.equalize(image)
