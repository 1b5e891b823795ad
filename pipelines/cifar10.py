"""CIFAR-10 from tensorflow-datasets, augmented as by He et al. ("Deep residual learning for image recognition", CVPR
2016, section 4.2): four pixels of padding, a random 32×32 window, flips.

Works on any small-image set that tensorflow-datasets has prepared (``tfds build cifar10``), as TFRecord or ArrayRecord
files. Decoded pixels are cached: 32×32 images are hardly larger than their PNG files (154 MB for 50,000), and decoding
would be most of every epoch's cost. Cropping and flipping then work on cached pixels; raw data isn't touched again.

    greenload profile cifar10:train --data ~/tensorflow_datasets/cifar10
    greenload profile cifar10:evaluate --data ~/tensorflow_datasets/cifar10
"""

from __future__ import annotations

import greenload as gl

__all__ = ["evaluate", "train"]


def train(data: str, batch: int = 128, seed: int = 0) -> gl.Pipeline:
    """The split ``train``: 32×32 windows of the padded images, flipped half of the time; another order each epoch.

    Args:
        data: the folder of the prepared dataset, or its name in ``~/tensorflow_datasets``.
        batch: images a batch.
        seed: decides order, windows and flips.
    """
    return gl.Pipeline(
        gl.TFDS(data, split="train"),
        gl.Shuffle(),
        gl.Decode(),
        gl.Cache(),
        gl.RandomCrop(32, padding=4),
        gl.RandomHorizontalFlip(),
        gl.Batch(batch),
        seed=seed,
    )


def evaluate(data: str, batch: int = 256) -> gl.Pipeline:
    """The split ``test``, as it is, in the files' order.

    Args:
        data: the folder of the prepared dataset, or its name in ``~/tensorflow_datasets``.
        batch: images a batch.
    """
    return gl.Pipeline(
        gl.TFDS(data, split="test"),
        gl.Decode(),
        gl.CenterCrop(32),
        gl.Batch(batch),
    )
