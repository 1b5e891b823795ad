"""The standard ImageNet recipe (He et al., "Deep residual learning for image recognition", CVPR 2016, as in
torchvision's references).

Works on any folder with one folder of images per class. Pixels leave as uint8: they are a quarter of float32's bytes to
batch and to move, and the model normalises them on its own device in no measurable time, for instance with
``keras.layers.Normalization`` or ``keras.layers.Rescaling``.

    greenload profile imagenet:train --data data/train
    greenload profile imagenet:evaluate --data data/val
"""

from __future__ import annotations

import greenload as gl

__all__ = ["evaluate", "train"]


def train(data: str, batch: int = 256, seed: int = 0) -> gl.Pipeline:
    """A random window of 8 to 100 % of each photo at 224×224, flipped half of the time; another order each epoch.

    Args:
        data: the folder of classes, or what ``greenload pack`` made of it.
        batch: images a batch.
        seed: decides order, windows and flips.
    """
    return gl.Pipeline(
        gl.open_folder(data),
        gl.Shuffle(),
        gl.Decode(),
        gl.RandomResizedCrop(224),
        gl.RandomHorizontalFlip(),
        gl.Batch(batch),
        seed=seed,
    )


def evaluate(data: str, batch: int = 256) -> gl.Pipeline:
    """The central 224×224 of each photo, its shorter side at 256; in the folder's order.

    Args:
        data: the folder of classes, or what ``greenload pack`` made of it.
        batch: images a batch.
    """
    return gl.Pipeline(
        gl.open_folder(data),
        gl.Decode(),
        gl.Resize(256),
        gl.CenterCrop(224),
        gl.Batch(batch),
    )
