"""The Pillow backend's primitives of policies, each driven by a number of an image's own: maps of levels, and
sharpening.

An image whose number leaves it as it is passes through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends import level_tables
from greenload.backends.base import TableRow
from greenload.backends.pillow.base import Apply, ImageParams, Lowering, Pixels, Values, as_array, is_array, written
from greenload.specs import ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p

Change = Callable[[Pixels, Any, Values | None], Pixels]
"""What is done to an image for its number."""


def driven(change: Change) -> Lowering:
    """A lowering that changes those images whose numbers say so."""

    def build(primitive: p.Primitive, spec: ImageSpec) -> Apply:
        name, changes = level_tables.NUMBERS[type(primitive)]

        def apply(pixels: Pixels, row: ImageParams, out: Values | None) -> Pixels:
            number = np.asarray(row[name])
            return change(pixels, number, out) if changes(number) else pixels

        return apply

    def params(primitive: p.Primitive, spec: ImageSpec, params: Params) -> Params:
        name, _ = level_tables.NUMBERS[type(primitive)]
        return {name: params[name]}

    return Lowering(build, params)


def looked_up(pixels: Pixels, table: NDArray[np.uint8], out: Values | None) -> Pixels:
    """All channels in one table: ``Image.point``; of an array, NumPy's ``take``."""
    if not is_array(pixels):
        return pixels.point(table.tobytes() * len(pixels.getbands()))
    return np.take(table, pixels, out=out, mode="clip")  # in other modes it would copy through a buffer


def brightness(pixels: Pixels, factor: Any, out: Values | None) -> Pixels:
    """By a table."""
    return looked_up(pixels, level_tables.brightness(factor).astype(np.uint8), out)


def contrast(pixels: Pixels, factor: Any, out: Values | None) -> Pixels:
    """By a table, about the mean grey."""
    array = as_array(pixels)
    height, width, channels = array.shape
    # down the columns first: along the last dimension of three alone NumPy is several times slower
    sums = array.reshape(height, -1).sum(0, np.int64).reshape(width, channels).sum(0)
    grey = level_tables.grey(sums, height * width)
    return looked_up(pixels, level_tables.contrast(factor, grey).astype(np.uint8), out)


def posterize(pixels: Pixels, bits: Any, out: Values | None) -> Pixels:
    """By a table."""
    return looked_up(pixels, _LEVELS & level_tables.kept_bits(bits), out)


def solarize(pixels: Pixels, threshold: Any, out: Values | None) -> Pixels:
    """By a table."""
    return looked_up(pixels, np.where(level_tables.first_inverted(threshold) > _LEVELS, _LEVELS, ~_LEVELS), out)


_LEVELS = np.arange(256, dtype=np.uint8)


def sharpen(pixels: Pixels, factor: Any, out: Values | None) -> Pixels:
    """Sums in whole numbers; the rest in float64, as in the reference."""
    array = as_array(pixels)
    height, width, channels = array.shape
    if height < 3 or width < 3:
        return pixels
    # 9 + 4 values are at most 3315; rows are worked on as one run of values, a pixel being `channels` apart
    rows = array.reshape(height, -1).astype(np.uint16)
    down = rows[:-2] + rows[1:-1]
    down += rows[2:]
    inner = rows[1:-1, channels:-channels]
    sums = down[:, : -2 * channels] + down[:, channels:-channels]
    sums += down[:, 2 * channels :]
    sums += 4 * inner
    values = inner * factor
    values += sums / 13.0 * (1.0 - factor)
    np.clip(values, 0.0, 255.0, out=values)
    values += 0.5
    done = written(array, out)
    done[1:-1, 1:-1] = values.reshape(height - 2, width - 2, channels)
    return done


ROWS = (
    TableRow(p.Brightness, driven(brightness), ("uint8",)),
    TableRow(p.Contrast, driven(contrast), ("uint8",)),
    TableRow(p.Posterize, driven(posterize), ("uint8",)),
    TableRow(p.Solarize, driven(solarize), ("uint8",)),
    TableRow(p.Sharpen, driven(sharpen), ("uint8",)),
)
