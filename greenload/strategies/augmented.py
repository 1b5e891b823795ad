"""What strategies do to images: the same samples, with the same seed, through each pipeline, as small PNG pictures."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from greenload.loading.iterate import iterate
from greenload.plans.pipeline import Pipeline
from greenload.stages import Batch, Cache, Normalize

SHOWN = 6
"""Images of each strategy."""
LARGEST = 96
"""Pixels of a picture's longer side; larger images are averaged down to it, smaller ones stay as they are."""
_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
"""Ranges that images of floats usually have, the first that fits is taken."""
_WITHIN = 0.99
"""Share of values that a range must hold: jitter and interpolation leave it a little."""


def augmented(pipelines: Mapping[str, Pipeline], seed: int, *, count: int = SHOWN) -> dict[str, tuple[str, ...]]:
    """The first images of an epoch as each strategy makes them.

    All see the same samples: the order and the draws follow from the seed. Batches hold only what is shown, so a stage
    that mixes a batch mixes these images with each other. ``Normalize`` is undone, and floats are shown in the range
    that holds 99 % of their values: 0 to 1, -1 to 1 or 0 to 255, else from the lowest to the highest.

    Args:
        pipelines: by the strategies' names.
        seed: of all pipelines.
        count: images of each; fewer where the source has fewer.

    Returns:
        By name, each image as a data URI of a PNG, at most `LARGEST` pixels high and wide. A strategy whose pipeline
        fails here has none: pictures are no reason to lose a comparison.

    Example:
        >>> augmented({"plain": train}, seed=0)["plain"][0][:22]
        'data:image/png;base64,'
    """
    return {name: _pictures(pipeline, seed, count) for name, pipeline in pipelines.items()}


def _pictures(pipeline: Pipeline, seed: int, count: int) -> tuple[str, ...]:
    try:
        with iterate(_brief(pipeline, seed, count), prefetch=1) as batches:
            images = next(batches)[0]
    except Exception:  # a user's own function may raise anything; its profile, which follows, says so
        return ()
    return tuple(map(data_uri, map(thumbnail, visible(images, pipeline))))


def _brief(pipeline: Pipeline, seed: int, count: int) -> Pipeline:
    """The pipeline in batches of what is shown. A cache would be filled for nothing, and changes no pixel."""
    size = min(count, len(pipeline.source))
    stages = [stage for stage in pipeline.stages if not isinstance(stage, Cache)]
    stages = [replace(stage, size=size) if isinstance(stage, Batch) else stage for stage in stages]
    if pipeline.batch is None:
        stages.append(Batch(size))
    return Pipeline(pipeline.source, *stages, seed=seed)


def visible(images: NDArray[np.generic], pipeline: Pipeline) -> NDArray[np.uint8]:
    """A pipeline's images as people see them.

    Args:
        images: ``[n, height, width, channels]`` of any dtype that images may have.
        pipeline: that made them; its ``Normalize`` stages are undone.

    Returns:
        uint8 ``[n, height, width, 1 or 3]``; further channels are left out.
    """
    if images.dtype == np.uint8:
        return _shown_channels(np.asarray(images, np.uint8))
    values = images.astype(np.float64)
    if images.dtype == np.int8:
        low, high = (0.0, 127.0) if values.min(initial=0.0) >= 0 else (-128.0, 127.0)
    else:
        for stage in reversed(pipeline.stages):
            if isinstance(stage, Normalize):
                values = values * np.array(stage.std) + np.array(stage.mean)
        values = np.nan_to_num(values)
        low, high = _range(values)
    levels = np.rint((values - low) * (255.0 / (high - low)))
    return _shown_channels(np.clip(levels, 0, 255).astype(np.uint8))


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    for low, high in _RANGES:
        slack = 0.02 * (high - low)
        if np.mean((values >= low - slack) & (values <= high + slack)) >= _WITHIN:
            return low, high
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1.0


def _shown_channels(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return images[..., :3] if images.shape[-1] >= 3 else images[..., :1]


def thumbnail(image: NDArray[np.uint8], largest: int = LARGEST) -> NDArray[np.uint8]:
    """An image of at most so many pixels a side, each the mean of the pixels in its place.

    Args:
        image: uint8 ``[height, width, channels]``.
        largest: pixels of the longer side.
    """
    height, width, _ = image.shape
    scale = largest / max(height, width)
    if scale >= 1:
        return image
    sums = image.astype(np.float64)
    for axis, size in enumerate((height, width)):
        edges = np.linspace(0, size, max(1, round(size * scale)) + 1).astype(np.int64)
        shape = [-1 if axis == k else 1 for k in range(3)]
        sums = np.add.reduceat(sums, edges[:-1], axis=axis) / np.diff(edges).reshape(shape)
    return np.rint(sums).astype(np.uint8)


def data_uri(image: NDArray[np.uint8]) -> str:
    """An image as a PNG inside a URI.

    Args:
        image: uint8 ``[height, width, 1 or 3]``.
    """
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"


def png(image: NDArray[np.uint8]) -> bytes:
    """An image as PNG (ISO/IEC 15948), each row filtered by its left neighbours.

    Args:
        image: uint8 ``[height, width, 1 or 3]``.
    """
    height, width, channels = image.shape
    differences = np.diff(image, axis=1, prepend=np.uint8(0)).reshape(height, -1)  # modulo 256
    rows = np.concatenate([np.ones((height, 1), np.uint8), differences], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    body = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)
