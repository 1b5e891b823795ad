"""What the backends share of the primitives that are driven by a number of an image's own: tables of 256 levels, and
which numbers leave an image as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from greenload.array_ops import NUMPY, Array, Ops
from greenload.stages import primitives as p

_LEVELS = np.arange(256.0)
_KEPT_BITS = np.array([256 - (256 >> bits) for bits in range(9)], np.uint8)

NUMBERS: Mapping[type[p.Primitive], tuple[str, Callable[[Array], Array]]] = {
    p.Brightness: ("factor", lambda factor: factor != 1.0),
    p.Contrast: ("factor", lambda factor: factor != 1.0),
    p.Posterize: ("bits", lambda bits: bits < 8),
    p.Solarize: ("threshold", lambda threshold: threshold <= 255.0),
    p.Sharpen: ("factor", lambda factor: factor != 1.0),
}
"""Of each primitive the name of its number among the params, and whether an image changes for it."""


def brightness(factor: float) -> NDArray[np.uint8]:
    """The table of ``Brightness``."""
    return _rounded(_LEVELS * factor)


def contrast(factor: float, grey: float) -> NDArray[np.uint8]:
    """The table of ``Contrast`` about a mean grey."""
    return _rounded(_LEVELS * factor + grey * (1.0 - factor))


def grey(sums: Array, pixels: Array, ops: Ops = NUMPY) -> Array:
    """The mean greys ``[…]`` of images, from the sums of their channels ``[…, 3]`` and their counts of pixels."""
    red, green, blue = (ops.f64(sums[..., channel]) for channel in range(3))
    # The greatest of it and 0 changes nothing, and keeps the three terms from being regrouped.
    return (ops.maximum(0.299 * red + 0.587 * green, 0.0) + 0.114 * blue) / pixels


def kept_bits(bits: Array, ops: Ops = NUMPY) -> Array:
    """The bits of a level that ``Posterize`` keeps, uint8 ``[…]``, for counts of them ``[…]``."""
    return ops.take(_KEPT_BITS, ops.i64(bits))


def first_inverted(threshold: Array, ops: Ops = NUMPY) -> Array:
    """The lowest level that ``Solarize`` inverts, uint8 ``[…]``, for thresholds ``[…]`` up to 255."""
    return ops.cast(ops.maximum(-ops.floor(-threshold), 0.0), "uint8")


def _rounded(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)
