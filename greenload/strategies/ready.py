"""Augmentation strategies as published, as lists of stages: what stands between ``Decode`` and ``Batch``, and for
``mixes`` what stands behind ``Batch``.

    >>> import greenload as gl
    >>> from greenload import strategies
    >>> stages = (gl.Shuffle(), gl.Decode(), *strategies.trivial(224), gl.Batch(64), *strategies.mixes(1000))
"""

from __future__ import annotations

from greenload.stages import (
    AugMix,
    AutoAugment,
    ColorJitter,
    CutMix,
    GaussianBlur,
    MixUp,
    RandAugment,
    RandomChoice,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomSolarize,
    Stage,
    TrivialAugmentWide,
)

Stages = tuple[Stage, ...]


def standard(size: int | tuple[int, int] = 224) -> Stages:
    """A random window of 8 to 100 % of each image, flipped half of the time (He et al. 2016, "Deep residual learning
    for image recognition", as in torchvision's references).

    Args:
        size: rows and columns of the images that leave; a number for both.
    """
    return (RandomResizedCrop(size), RandomHorizontalFlip())


def randaugment(size: int | tuple[int, int] = 224, num_ops: int = 2, magnitude: int = 9) -> Stages:
    """``standard``, then ``RandAugment`` (Cubuk et al. 2019, arXiv 1909.13719; 2 operations at magnitude 9 are what it
    gives for ResNet-50).

    Args:
        size: rows and columns of the images that leave; a number for both.
        num_ops: operations an image goes through.
        magnitude: of 31, from 0.
    """
    return (*standard(size), RandAugment(num_ops, magnitude))


def trivial(size: int | tuple[int, int] = 224) -> Stages:
    """``standard``, then ``TrivialAugmentWide`` (Müller and Hutter 2021, arXiv 2103.10158): nothing to tune.

    Args:
        size: rows and columns of the images that leave; a number for both.
    """
    return (*standard(size), TrivialAugmentWide())


def autoaugment(size: int | tuple[int, int] = 224, policy: str = "imagenet") -> Stages:
    """``standard``, then ``AutoAugment`` (Cubuk et al. 2018, arXiv 1805.09501).

    Args:
        size: rows and columns of the images that leave; a number for both.
        policy: "imagenet", "cifar10" or "svhn".
    """
    return (*standard(size), AutoAugment(policy))


def augmix(size: int | tuple[int, int] = 224, severity: int = 3) -> Stages:
    """``standard``, then ``AugMix`` with torchvision's defaults (Hendrycks et al. 2020, arXiv 1912.02781).

    Args:
        size: rows and columns of the images that leave; a number for both.
        severity: how many of ten magnitudes are drawn from.
    """
    return (*standard(size), AugMix(severity))


def three_augment(size: int | tuple[int, int] = 224) -> Stages:
    """``standard``, then one of grey, solarized or blurred, then a jitter of colours by 0.3 (Touvron et al. 2022,
    "DeiT III: Revenge of the ViT", arXiv 2204.07118, section 3.3, and ``augment.py`` of its code).

    The blur's deviation is drawn from 0.1 to 2 pixels, as there; it has 17 taps, four deviations to either side.

    Args:
        size: rows and columns of the images that leave; a number for both.
    """
    one = RandomChoice([RandomGrayscale(1.0), RandomSolarize(128, 1.0), GaussianBlur(17, (0.1, 2.0))])
    return (*standard(size), one, ColorJitter(0.3, 0.3, 0.3))


def mixes(num_classes: int | None = None, mixup_alpha: float = 0.2, cutmix_alpha: float = 1.0) -> Stages:
    """``MixUp`` or ``CutMix``, drawn for each batch, as torchvision's references have it (Zhang et al. 2018, arXiv
    1710.09412; Yun et al. 2019, arXiv 1905.04899). It stands behind ``Batch``, and makes labels one number a class.

    Args:
        num_classes: of the labels; ``None`` where ``OneHot`` stands before.
        mixup_alpha: of MixUp's distribution.
        cutmix_alpha: of CutMix's.
    """
    return (RandomChoice([MixUp(mixup_alpha, num_classes=num_classes), CutMix(cutmix_alpha, num_classes=num_classes)]),)
