"""Augmentation strategies to choose from, on any folder with one folder of images per class: 224×224 uint8 images.

To compare some of them, or to see what one costs:

    greenload compare strategies:standard strategies:trivial strategies:randaugment --data data/train --proxy
    greenload profile strategies:standard --data data/train
    greenload profile strategies:randaugment --data data/train
    greenload profile strategies:trivial --data data/train
    greenload profile strategies:autoaugment --data data/train
    greenload profile strategies:augmix --data data/train
    greenload profile strategies:three_augment --data data/train
    greenload profile strategies:mixes --data data/train
"""

from __future__ import annotations

from collections.abc import Sequence

import greenload as gl
from greenload import strategies

__all__ = ["augmix", "autoaugment", "mixes", "randaugment", "standard", "three_augment", "trivial"]


def standard(data: str, batch: int = 64, seed: int = 0) -> gl.Pipeline:
    """A random window of each image, flipped half of the time: what the others begin with.

    Args:
        data: the folder of classes, or what ``greenload pack`` made of it.
        batch: images a batch.
        seed: decides all that is drawn.
    """
    return _pipeline(data, strategies.standard(), batch, seed)


def randaugment(data: str, batch: int = 64, seed: int = 0) -> gl.Pipeline:
    """RandAugment: two operations of fourteen at magnitude 9 of 31.

    Args:
        data: the folder of classes, or what ``greenload pack`` made of it.
        batch: images a batch.
        seed: decides all that is drawn.
    """
    return _pipeline(data, strategies.randaugment(), batch, seed)


def trivial(data: str, batch: int = 64, seed: int = 0) -> gl.Pipeline:
    """TrivialAugment: one operation of fourteen at any magnitude.

    Args:
        data: the folder of classes, or what ``greenload pack`` made of it.
        batch: images a batch.
        seed: decides all that is drawn.
    """
    return _pipeline(data, strategies.trivial(), batch, seed)


def autoaugment(data: str, batch: int = 64, seed: int = 0) -> gl.Pipeline:
    """AutoAugment with the policy that was found on ImageNet.

    Args:
        data: the folder of classes, or what ``greenload pack`` made of it.
        batch: images a batch.
        seed: decides all that is drawn.
    """
    return _pipeline(data, strategies.autoaugment(), batch, seed)


def augmix(data: str, batch: int = 64, seed: int = 0) -> gl.Pipeline:
    """AugMix: three chains of one to three operations each, mixed with each other and with the image.

    Args:
        data: the folder of classes, or what ``greenload pack`` made of it.
        batch: images a batch.
        seed: decides all that is drawn.
    """
    return _pipeline(data, strategies.augmix(), batch, seed)


def three_augment(data: str, batch: int = 64, seed: int = 0) -> gl.Pipeline:
    """3-Augment: grey, solarized or blurred, and a jitter of colours.

    Args:
        data: the folder of classes, or what ``greenload pack`` made of it.
        batch: images a batch.
        seed: decides all that is drawn.
    """
    return _pipeline(data, strategies.three_augment(), batch, seed)


def mixes(data: str, batch: int = 64, seed: int = 0) -> gl.Pipeline:
    """MixUp or CutMix on whole batches; labels are one number a class.

    Args:
        data: the folder of classes, or what ``greenload pack`` made of it.
        batch: images a batch.
        seed: decides all that is drawn.
    """
    source = gl.open_folder(data)
    mixed = strategies.mixes(num_classes=int(source.labels.max()) + 1)
    return gl.Pipeline(source, gl.Shuffle(), gl.Decode(), *strategies.standard(), gl.Batch(batch), *mixed, seed=seed)


def _pipeline(data: str, stages: Sequence[gl.Stage], batch: int, seed: int) -> gl.Pipeline:
    return gl.Pipeline(gl.open_folder(data), gl.Shuffle(), gl.Decode(), *stages, gl.Batch(batch), seed=seed)
