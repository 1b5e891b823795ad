"""The tutorial classic: resize to 224×224, flip at random, batches of 32, floats from 0 to 1.

What most first tf.data and Keras tutorials build, hence a good first pipeline to profile: try it beside
``imagenet:train`` to see what resizing whole photos, and floats, cost.

    greenload profile resize_flip:train --data data/train
    greenload profile resize_flip:evaluate --data data/val
"""

from __future__ import annotations

import greenload as gl

__all__ = ["evaluate", "train"]


def train(data: str, batch: int = 32, seed: int = 0) -> gl.Pipeline:
    """Each photo as a whole at 224×224, flipped half of the time, float32 in 0 … 1; another order each epoch.

    Args:
        data: the folder of classes, or what ``greenload pack`` made of it.
        batch: images a batch.
        seed: decides order and flips.
    """
    return gl.Pipeline(
        gl.open_folder(data),
        gl.Shuffle(),
        gl.Decode(),
        gl.Resize((224, 224)),
        gl.RandomHorizontalFlip(),
        gl.ToDtype("float32", scale=True),
        gl.Batch(batch),
        seed=seed,
    )


def evaluate(data: str, batch: int = 32) -> gl.Pipeline:
    """Each photo as a whole at 224×224, float32 in 0 … 1; in the folder's order.

    Args:
        data: the folder of classes, or what ``greenload pack`` made of it.
        batch: images a batch.
    """
    return gl.Pipeline(
        gl.open_folder(data),
        gl.Decode(),
        gl.Resize((224, 224)),
        gl.ToDtype("float32", scale=True),
        gl.Batch(batch),
    )
