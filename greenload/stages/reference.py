"""The formulas of the stages in float64 NumPy: the oracle that every backend is tested against.

An image is an array ``[H, W, C]`` of its own dtype, except that float64 stands for float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.specs import RANGES

Image = NDArray[np.generic]


def dtype_of(image: Image) -> str:
    """The dtype that an image of a reference stands for."""
    return "float32" if image.dtype == np.float64 else str(image.dtype)


def as_dtype(values: NDArray[np.float64], dtype: str) -> Image:
    """Exact values as a dtype has them: integers clipped and cut, floats rounded to nearest even; float32 stays
    float64."""
    if dtype in RANGES:
        return np.clip(values, *RANGES[dtype]).astype(dtype)
    with np.errstate(over="ignore"):  # beyond a float16's range is infinity, as everywhere
        if dtype == "float16":
            return values.astype(np.float16)
        if dtype == "bfloat16":
            import ml_dtypes

            return values.astype(ml_dtypes.bfloat16)
    return values


def rounded(values: NDArray[np.float64], image: Image) -> Image:
    """Filtered values as the image they come from has them: uint8 rounded half up, else as they are."""
    if image.dtype == np.uint8:
        return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)
    return values


def constant(value: Any, image: Image) -> NDArray[np.generic]:
    """A stage's constant as an image's dtype has it, so that nobody is off by a float32's rounding."""
    if image.dtype == np.float64:
        return np.asarray(value, np.float32).astype(np.float64)
    return np.asarray(value).astype(image.dtype)


def place(image: Image, pad: Any, height: int, width: int, fill: float) -> Image:
    """An image at ``pad``, ``[top, left]``, of a larger one that is ``fill`` elsewhere."""
    top, left = (int(n) for n in pad)
    out = np.full((height, width, image.shape[2]), constant(fill, image))
    out[top : top + image.shape[0], left : left + image.shape[1]] = image
    return out


def warp(image: Image, matrix: NDArray[np.float64], fill: float) -> Image:
    """Bilinear between the four pixels around the place that ``matrix`` takes each output pixel's centre to.

    Args:
        image: ``[H, W, C]``.
        matrix: ``[2, 3]``, from ``(x, y, 1)`` of the output to ``(x, y)`` of the input; pixel centres at half-integers.
        fill: what counts outside the image.
    """
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    x, y = (m[0] * columns + m[1] * rows + m[2] - 0.5 for m in matrix)
    return _between(image, x, y, fill)


def perspective(image: Image, matrix: NDArray[np.float64], fill: float) -> Image:
    """Bilinear as ``warp``, at the places of a perspective map.

    Args:
        image: ``[H, W, C]``.
        matrix: ``[3, 3]``, from ``(x, y, 1)`` of the output to ``(x · w, y · w, w)`` of the input; pixel centres at
            half-integers. Where ``w`` is 0, there is no place in the image.
        fill: what counts outside the image.
    """
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    x, y, w = (m[0] * columns + m[1] * rows + m[2] for m in matrix)
    nowhere = w == 0.0
    x, y = (np.where(nowhere, -1.0, n / np.where(nowhere, 1.0, w) - 0.5) for n in (x, y))
    # beyond these places all is fill; far beyond them numbers have no fraction
    return _between(image, np.clip(x, -2.0, image.shape[1] + 1.0), np.clip(y, -2.0, image.shape[0] + 1.0), fill)


def _between(image: Image, x: NDArray[np.float64], y: NDArray[np.float64], fill: float) -> Image:
    """Bilinear at places ``[H, W]``, counted from the centre of the first pixel."""
    height, width = image.shape[:2]
    left, top = np.floor(x), np.floor(y)
    total, outside = np.zeros(image.shape, np.float64), float(constant(fill, image))
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (1.0 - np.abs(x - (left + dx))) * (1.0 - np.abs(y - (top + dy)))
            inside = (left + dx >= 0) & (left + dx < width) & (top + dy >= 0) & (top + dy < height)
            r = np.clip(top + dy, 0, height - 1).astype(int)
            c = np.clip(left + dx, 0, width - 1).astype(int)
            total += weight[..., None] * np.where(inside[..., None], image[r, c].astype(np.float64), outside)
    return rounded(total, image)


def recolor(image: Image, matrix: NDArray[np.float64]) -> Image:
    """``matrix`` ``[3, 4]`` on ``(r, g, b, 1)``, its last column 255-fold for uint8; clipped to the range of values."""
    largest = 255.0 if image.dtype == np.uint8 else 1.0
    values = image.astype(np.float64) @ matrix[:, :3].T + matrix[:, 3] * largest
    return rounded(np.clip(values, 0.0, largest), image)


def autocontrast(image: Image) -> Image:
    """Each channel of a uint8 image from its own range to 0 … 255: Pillow's ``ImageOps.autocontrast``, whose float64
    products are rounded one by one."""
    values = image.astype(np.float64)
    low, high = values.min((0, 1)), values.max((0, 1))
    several = high > low
    scale = 255.0 / np.where(several, high - low, 1.0)
    return np.where(several, values * scale + -low * scale, values).astype(np.uint8)


def equalize(image: Image) -> Image:
    """Each channel of a uint8 image by its own histogram: Pillow's ``ImageOps.equalize``."""
    done = image.copy()
    for channel in range(image.shape[2]):
        values = np.sort(image[..., channel], axis=None)
        step = int(np.searchsorted(values, values[-1])) // 255
        if step:
            below = np.searchsorted(values, image[..., channel])
            done[..., channel] = np.minimum((step // 2 + below) // step, 255)
    return done


def look_up(image: Image, table: bytes) -> Image:
    """``table`` of 256 levels at each value of a uint8 image."""
    done: Image = np.frombuffer(table, np.uint8)[image]
    return done


def brightness(image: Image, factor: float) -> Image:
    """Every value of a uint8 image times ``factor``."""
    return rounded(image.astype(np.float64) * factor, image)


def contrast(image: Image, factor: float) -> Image:
    """Every value of a uint8 RGB image farther from the image's mean grey by ``factor``."""
    sums = image.astype(np.int64).sum((0, 1)).astype(np.float64)
    grey = (0.299 * sums[0] + 0.587 * sums[1] + 0.114 * sums[2]) / (image.shape[0] * image.shape[1])
    return rounded(image.astype(np.float64) * factor + grey * (1.0 - factor), image)


def posterize(image: Image, bits: int) -> Image:
    """The highest ``bits`` of every value of a uint8 image."""
    width = 2.0 ** (8 - bits)
    return (np.floor(image.astype(np.float64) / width) * width).astype(np.uint8)


def solarize(image: Image, threshold: float) -> Image:
    """255 less every value of a uint8 image from ``threshold`` up."""
    values = image.astype(np.float64)
    return np.where(values < threshold, values, 255.0 - values).astype(np.uint8)


def sharpen(image: Image, factor: float) -> Image:
    """Every value of a uint8 image farther from the mean of those around it by ``factor``; borders stay."""
    height, width = image.shape[:2]
    if height < 3 or width < 3:
        return image
    values = image.astype(np.float64)
    around = sum(values[y : y + height - 2, x : x + width - 2] for y in range(3) for x in range(3))
    inner = values[1:-1, 1:-1]
    done = image.copy()
    done[1:-1, 1:-1] = rounded(inner * factor + (4.0 * inner + around) / 13.0 * (1.0 - factor), image)
    return done


def gaussian(sigma: float, taps: int) -> NDArray[np.float64]:
    """``exp(−(i / sigma)² / 2)`` at the ``taps`` whole places around 0, normalised to sum 1."""
    with np.errstate(over="ignore"):  # what lies beyond any number's range has the weight 0
        weights = np.exp(-0.5 * ((np.arange(taps) - taps // 2) / sigma) ** 2)
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised


def blur(image: Image, sigma: float, height: int, width: int) -> Image:
    """A Gaussian of ``height × width`` taps; beyond the border the image is mirrored about its outermost pixels."""
    rows, columns = height // 2, width // 2
    padded = np.pad(image.astype(np.float64), ((rows, rows), (columns, columns), (0, 0)), "reflect")
    down = sum(w * padded[i : i + image.shape[0]] for i, w in enumerate(gaussian(sigma, height)))
    total = sum(w * down[:, i : i + image.shape[1]] for i, w in enumerate(gaussian(sigma, width)))
    return rounded(np.asarray(total), image)


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
    return rounded(resampled, image)
