"""Bilinear resampling in float64 NumPy: the oracle that every backend is tested against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resize_weights(size_in: int, size_out: int, antialias: bool) -> NDArray[np.float64]:
    """The matrix that resamples one axis.

    Pixel centres are at half-integers. The kernel is the triangle ``max(0, 1 − |t|)``; with ``antialias`` it is
    stretched by the scale where the image shrinks, and weights that fall outside are dropped and the rest
    renormalised (Pillow's and torchvision's ``antialias=True``). Without it, the outermost pixels are repeated
    (OpenCV's ``INTER_LINEAR``).

    Args:
        size_in: pixels along the axis before.
        size_out: pixels along the axis after.
        antialias: whether to stretch the kernel when shrinking.

    Returns:
        float64 ``[size_out, size_in]``; each row sums to 1.
    """
    scale = size_in / size_out
    centres = (np.arange(size_out) + 0.5) * scale
    if not antialias:
        weights = np.zeros((size_out, size_in))
        left = np.floor(centres - 0.5)
        fraction = centres - 0.5 - left
        rows = np.arange(size_out)
        np.add.at(weights, (rows, np.clip(left, 0, size_in - 1).astype(int)), 1.0 - fraction)
        np.add.at(weights, (rows, np.clip(left + 1, 0, size_in - 1).astype(int)), fraction)
        return weights
    support = max(scale, 1.0)
    distance = (np.arange(size_in)[None, :] + 0.5 - centres[:, None]) / support
    weights = np.maximum(0.0, 1.0 - np.abs(distance))
    normalised: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def resize(image: NDArray[np.generic], height: int, width: int, antialias: bool) -> NDArray[np.generic]:
    """Resample an image in float64.

    Args:
        image: ``[H, W, C]``, uint8 or floating.
        height: rows after.
        width: columns after.
        antialias: see ``resize_weights``.

    Returns:
        ``[height, width, C]``: uint8 rounded half up for uint8, else float64.
    """
    rows = resize_weights(image.shape[0], height, antialias)
    columns = resize_weights(image.shape[1], width, antialias)
    resampled: NDArray[np.float64] = np.einsum("yh,hwc,xw->yxc", rows, image.astype(np.float64), columns, optimize=True)
    if image.dtype == np.uint8:
        return np.clip(np.floor(resampled + 0.5), 0, 255).astype(np.uint8)
    return resampled
