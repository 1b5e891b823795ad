"""How far the changes of pixels that are allowed move them, measured on the user's own images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from greenload.errors import UsageError
from greenload.loading.iterate import iterate
from greenload.loading.load import load
from greenload.optimization.records import Moved
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.profiling.separate_cache import separate_cache
from greenload.specs import RANGES
from greenload.stages import primitives as p

LEVELS = 255.0
"""Of a uint8 image, between black and white."""
DETAILS = {
    "antialias": "what is made smaller aliases: train and evaluate alike, and check the accuracy",
    "float16": "values are rounded to 11 significant bits: check that the model takes float16",
    "shrunk-cache": "crops are cut out of fewer pixels, and are blurred where they are small: check the accuracy",
}
"""What is to be checked of each change."""


def moved(before: Plan, after: Plan, change: str, images: int = 64) -> Moved:
    """How far a plan's pixels are from another's, on the first images of epoch 0, of the same draws.

    A difference of float images counts in levels of 255: by the scales of the pipeline's ``ToDtype`` and ``Normalize``,
    which say what a level comes to in each channel.

    Args:
        before: a plan without the change.
        after: the same with it.
        change: its name.
        images: how many are looked at, at most.

    Raises:
        UsageError: the plans give images of other shapes.

    Example:
        >>> moved(gl.make_plan(train), found.plan, "antialias").mean
        1.8
    """
    level = _level(before.pipeline)
    total, most, values, seen = 0.0, 0.0, 0, 0
    with closing(_images(before, images)) as old, closing(_images(after, images)) as new:
        for first, second in zip(old, new, strict=True):
            if first.shape != second.shape:
                raise UsageError(
                    f"{change} leaves images as large as they were, but made {list(first.shape)} "
                    f"{list(second.shape)}: compare plans of the same images"
                )
            apart = np.abs(first.astype(np.float64) - second.astype(np.float64)) / level
            total, most = total + float(apart.sum()), max(most, float(apart.max(initial=0.0)))
            values, seen = values + apart.size, seen + len(apart)
    mean = total / values if values else 0.0
    return Moved(change=change, images=seen, mean=mean, most=most, detail=DETAILS.get(change, ""))


def _images(plan: Plan, count: int) -> Generator[NDArray[np.generic], None, None]:
    """The first images of a plan's epoch 0, batch by batch. Nothing is left in what the plan keeps."""
    with separate_cache(plan) as apart:
        batch = apart.pipeline.batch
        if batch is None:
            for image, _ in load(apart, epochs=1).take(count):
                yield image.numpy()[None]
            return
        with iterate(apart, epochs=1) as batches:
            left = count
            for images, _ in itertools.islice(batches, math.ceil(count / batch.size)):
                yield np.asarray(images)[:left]
                left -= len(images)


def _level(pipeline: Pipeline) -> NDArray[np.float64]:
    """What a level of 255 comes to in each channel of what leaves a pipeline: 1 in uint8, 1/255 in floats up to 1, that
    over ``std`` behind ``Normalize``."""
    spec = pipeline.source.spec
    low, high = (0, 255) if spec.encoded else RANGES.get(spec.dtype, (0, 1))
    level = np.array([(high - low) / LEVELS])
    for stage, entering in zip(pipeline.stages, pipeline.specs, strict=False):
        for primitive in stage.primitives(entering):
            if type(primitive) is p.Affine:
                level = level * np.array(primitive.scale)
    return level
