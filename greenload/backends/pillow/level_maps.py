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
from greenload.backends.pillow.base import Apply, ImageParams, Lowering, Pixels, Values, as_array, is_array
from greenload.specs import ImageSpec
from greenload.stages import Params
from greenload.stages import primitives as p

Change = Callable[[Pixels, Any, Values | None], Pixels]
"""What is done to an image for its number."""

_LEVELS = np.arange(256, dtype=np.uint8)
_ROWS = 32
"""How many are sharpened at once: so much stays in the processor's cache, at a third of the time of whole images."""


def driven(change: Change) -> Lowering:
    """A lowering that changes those images whose numbers say so."""

    def build(primitive: p.Primitive, spec: ImageSpec) -> Apply:
        name, changes = level_tables.NUMBERS[type(primitive)]

        def apply(pixels: Pixels, row: ImageParams, out: Values | None) -> Pixels:
            return change(pixels, row[name], out) if changes(row[name]) else pixels

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


def brightness(pixels: Pixels, factor: float, out: Values | None) -> Pixels:
    """By a table."""
    return looked_up(pixels, level_tables.brightness(factor), out)


def contrast(pixels: Pixels, factor: float, out: Values | None) -> Pixels:
    """By a table, about the mean grey."""
    array = as_array(pixels)
    height, width, channels = array.shape
    # down the columns first: along the last dimension of three alone NumPy is several times slower
    sums = array.reshape(height, -1).sum(0, np.int64).reshape(width, channels).sum(0)
    grey = float(level_tables.grey(sums, height * width))
    return looked_up(pixels, level_tables.contrast(factor, grey), out)


def posterize(pixels: Pixels, bits: int, out: Values | None) -> Pixels:
    """By a table."""
    return looked_up(pixels, _LEVELS & level_tables.kept_bits(np.asarray(bits)), out)


def solarize(pixels: Pixels, threshold: float, out: Values | None) -> Pixels:
    """By a table."""
    return looked_up(
        pixels, np.where(level_tables.first_inverted(np.float64(threshold)) > _LEVELS, _LEVELS, ~_LEVELS), out
    )


def sharpen(pixels: Pixels, factor: float, out: Values | None) -> Pixels:
    """Some rows after others."""
    array = as_array(pixels)
    height, width, channels = array.shape
    if height < 3 or width < 3:
        return pixels
    # a row as one run of values: a pixel's neighbours are `channels` apart
    given = array.reshape(height, -1)
    done = np.empty(array.shape, np.uint8) if out is None else out
    rows = done.reshape(height, -1)
    for first in range(1, height - 1, _ROWS):
        end = min(first + _ROWS, height - 1)
        rows[first:end, channels:-channels] = _sharpened(given[first - 1 : end + 1], factor, channels)
    done[[0, -1]] = array[[0, -1]]
    done[:, [0, -1]] = array[:, [0, -1]]
    return done


def _sharpened(rows: Values, factor: float, channels: int) -> Values:
    """All but the outermost pixels, as float64 to be cut: sums in whole numbers, the rest as in the reference."""
    rows = rows.astype(np.uint16)  # sums are at most 13 · 255
    down = rows[:-2] + rows[1:-1]
    down += rows[2:]
    inner = rows[1:-1, channels:-channels]
    sums = down[:, : -2 * channels] + down[:, channels:-channels]
    sums += down[:, 2 * channels :]
    sums += inner << 2
    smooth: Values = sums / 13.0
    smooth *= 1.0 - factor
    smooth += inner * factor
    np.clip(smooth, 0.0, 255.0, out=smooth)
    smooth += 0.5
    return smooth


ROWS = (
    TableRow(p.Brightness, driven(brightness), ("uint8",)),
    TableRow(p.Contrast, driven(contrast), ("uint8",)),
    TableRow(p.Posterize, driven(posterize), ("uint8",)),
    TableRow(p.Solarize, driven(solarize), ("uint8",)),
    TableRow(p.Sharpen, driven(sharpen), ("uint8",)),
)
