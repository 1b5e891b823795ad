"""What the tests of DALI on the CPU and on a GPU share: images, records, and the float64 reference of a pipeline."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

from greenload.backends.base import Records, Tolerance
from greenload.backends.dali.runner import DaliRunner
from greenload.backends.registry import readers_of
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.sources import Files
from greenload.stages import Batch, Decode, Stage

SIZES = ((1, 1), (1, 7), (9, 1), (2, 3), (33, 57), (64, 48), (97, 300), (240, 181), (200, 13))
"""Heights and widths: odd ones, sides of one pixel, above and below the sizes that stages ask for."""


def photo(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Waves and noise, uint8 ``[height, width, 3]``."""
    rows, columns = np.mgrid[:height, :width]
    waves = np.stack([127 + 90 * np.sin(columns / 7 + k) * np.cos(rows / 9 - k) for k in range(3)], -1)
    noise = np.random.default_rng(seed).normal(0, 20, (height, width, 3))
    return np.clip(waves + noise, 0, 255).astype(np.uint8)


def png(image: np.ndarray[Any, Any]) -> bytes:
    """A PNG of uint8 pixels, written by hand: its decoding is exact, and it needs no library."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    compressed = zlib.compress(rows, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


def photos(sizes: tuple[tuple[int, int], ...] = SIZES) -> list[np.ndarray[Any, Any]]:
    """One photo a size."""
    return [photo(height, width, seed) for seed, (height, width) in enumerate(sizes)]


def pipeline_of(*stages: Stage, count: int = len(SIZES), seed: int = 7) -> Pipeline:
    """A pipeline over files that are never read: records are made by hand."""
    batched = () if any(isinstance(stage, Batch) for stage in stages) else (Batch(count),)
    return Pipeline(Files([f"{i}.png" for i in range(count)]), Decode(), *stages, *batched, seed=seed)


def records_of(pipeline: Pipeline, encoded: list[bytes], epoch: int = 0) -> Records:
    """Records with the numbers that an epoch draws for them."""
    index = np.arange(len(encoded))
    numbers = DrawLayout.of(pipeline).prepare(pipeline.seed, epoch, index)
    return Records(encoded, numbers, [f"{i}.png" for i in index])


def runner_of(plan: Plan, batch_size: int, threads: int = 2, **device: Any) -> DaliRunner:
    """A runner of a plan's only segment."""
    (segment,) = plan.segments
    return DaliRunner(plan, segment, batch_size=batch_size, threads=threads, readers=readers_of(plan), **device)


def reference(pipeline: Pipeline, images: list[np.ndarray[Any, Any]], numbers: np.ndarray[Any, Any]) -> Any:
    """Decoded images through every stage's float64 reference, stacked."""
    layout = DrawLayout.of(pipeline)
    done = []
    for row, pixels in enumerate(images):
        image: Any = pixels
        for place, stage in enumerate(pipeline.stages):
            share = layout.of_stage(numbers[row : row + 1], place)
            params = stage.params(share, np.array([image.shape[0]]), np.array([image.shape[1]]))
            image = stage.reference(image, {name: values[0] for name, values in params.items()})
        done.append(image)
    return np.stack(done)


def compare(result: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], tolerance: Tolerance) -> None:
    """Assert that a batch lies within a tolerance of what was expected."""
    assert result.shape == expected.shape
    difference = np.abs(result.astype(np.float64) - expected.astype(np.float64))
    inside = difference if tolerance.rim is None else difference[:, 1:-1, 1:-1]
    if inside.size:
        assert inside.max() <= tolerance.max
        assert inside.mean() <= tolerance.mean
    if tolerance.rim is not None:
        assert difference.max() <= tolerance.rim
