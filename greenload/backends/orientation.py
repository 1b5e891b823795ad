"""The geometry of EXIF orientation: an upright image's size, and where its windows lie in the stored image.

CIPA DC-008 (Exif 2.32), section 4.6.4, tag 274, and the TIFF 6.0 specification it takes its eight values from.
"""

from __future__ import annotations

from greenload.array_ops import NUMPY, Array, Ops

TRANSPOSED = (5, 6, 7, 8)
"""Orientations whose upright image is the stored one with rows and columns exchanged, then mirrored as follows."""
MIRRORED = (2, 3, 6, 7)
"""Left and right exchanged, after any transposition."""
OVERTURNED = (3, 4, 7, 8)
"""Top and bottom exchanged, after any transposition."""


def is_one_of(orientation: Array, which: tuple[int, ...]) -> Array:
    """Whether each orientation is among some; booleans of its shape."""
    first, *others = which
    matches = orientation == first
    for value in others:
        matches = matches | (orientation == value)
    return matches


def upright_size(height: Array, width: Array, orientation: Array, ops: Ops = NUMPY) -> tuple[Array, Array]:
    """Rows and columns of upright images, from those of the stored ones; all int64 ``[…]``."""
    turned = is_one_of(orientation, TRANSPOSED)
    return ops.where(turned, width, height), ops.where(turned, height, width)


def stored_window(window: Array, height: Array, width: Array, orientation: Array, ops: Ops = NUMPY) -> Array:
    """The window of the stored image that is a window of the upright one.

    Args:
        window: int64 ``[…, 4]``: top, left, height, width in the upright image.
        height: int64 ``[…]``, rows of the upright image.
        width: its columns.
        orientation: int64 ``[…]``, 1 … 8.
        ops: the array namespace.

    Returns:
        int64 ``[…, 4]``.
    """
    top, left, rows, columns = (window[..., i] for i in range(4))
    top = ops.where(is_one_of(orientation, OVERTURNED), height - top - rows, top)
    left = ops.where(is_one_of(orientation, MIRRORED), width - left - columns, left)
    turned = is_one_of(orientation, TRANSPOSED)
    return ops.stack(
        [
            ops.where(turned, left, top),
            ops.where(turned, top, left),
            ops.where(turned, columns, rows),
            ops.where(turned, rows, columns),
        ],
        axis=-1,
    )
