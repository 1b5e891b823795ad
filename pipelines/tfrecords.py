"""Photos in TFRecord files, such as ``greenload pack`` writes, or TensorFlow's ImageNet scripts.

Few large files instead of many small ones: no file is opened per image, and with ``Shuffle(block=…)`` neighbouring
records are read in one go. Records that were shuffled once when they were written, as ``greenload pack`` does, lose
nothing by it.

    greenload pack data/train data/packed
    greenload profile tfrecords:train --data data/packed
    greenload profile tfrecords:evaluate --data data/packed
"""

from __future__ import annotations

import greenload as gl

__all__ = ["evaluate", "train"]


def train(data: str, batch: int = 256, block: int = 64, seed: int = 0) -> gl.Pipeline:
    """``imagenet:train`` from records: a random window at 224×224, flipped half of the time; another order each epoch.

    Args:
        data: the folder of TFRecord files.
        batch: images a batch.
        block: neighbouring records that are read together.
        seed: decides order, windows and flips.
    """
    return gl.Pipeline(
        gl.open_folder(data),
        gl.Shuffle(block=block),
        gl.Decode(),
        gl.RandomResizedCrop(224),
        gl.RandomHorizontalFlip(),
        gl.Batch(batch),
        seed=seed,
    )


def evaluate(data: str, batch: int = 256) -> gl.Pipeline:
    """``imagenet:evaluate`` from records: the central 224×224, the shorter side at 256; in the files' order.

    Args:
        data: the folder of TFRecord files.
        batch: images a batch.
    """
    return gl.Pipeline(
        gl.open_folder(data),
        gl.Decode(),
        gl.Resize(256),
        gl.CenterCrop(224),
        gl.Batch(batch),
    )
