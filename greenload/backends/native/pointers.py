"""Where arrays lie and how large they are, as the kernel is told it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def contiguous(images: Any) -> Sequence[NDArray[Any]] | NDArray[Any]:
    """Images without gaps."""
    if isinstance(images, np.ndarray):
        return np.ascontiguousarray(images)
    return [np.ascontiguousarray(image) for image in images]


def sizes_of(images: Sequence[NDArray[Any]] | NDArray[Any]) -> NDArray[np.int64]:
    """Of each image height, width and channels, int64 ``[n, 3]``."""
    if isinstance(images, np.ndarray):
        return np.tile(np.array(images.shape[1:], np.int64), (len(images), 1))
    return np.array([image.shape for image in images], np.int64).reshape(len(images), 3)


def bytes_of(outs: Sequence[NDArray[Any]] | NDArray[Any]) -> NDArray[np.int64]:
    """Bytes of each array."""
    if isinstance(outs, np.ndarray):
        return np.full(len(outs), outs.nbytes // max(len(outs), 1), np.int64)
    return np.fromiter((out.nbytes for out in outs), np.int64, len(outs))


def addresses_of(arrays: Sequence[NDArray[Any]] | NDArray[Any]) -> NDArray[np.uintp]:
    """The address of each array's first byte.

    Raises:
        ValueError: one has gaps between its rows.
    """
    if isinstance(arrays, np.ndarray):
        if not arrays.flags.c_contiguous:
            raise ValueError("a batch with gaps in it")
        step = arrays.nbytes // max(len(arrays), 1)
        return np.uintp(arrays.ctypes.data) + np.arange(len(arrays), dtype=np.uintp) * np.uintp(step)
    if not all(array.flags.c_contiguous for array in arrays):
        raise ValueError("an array with gaps in it")
    return np.fromiter((array.__array_interface__["data"][0] for array in arrays), np.uintp, len(arrays))
