"""Takes images that are pixels in memory already."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from greenload.errors import SourceError
from greenload.public import public
from greenload.sources.given_labels import integer_labels
from greenload.specs import DTYPES, HWC, ImageSpec
from greenload.system import forking
from greenload.text import one_line

_MOST_CHANNELS = 4  # red, green, blue and alpha


@public
@dataclass(frozen=True, eq=False)
class Arrays:
    """Images that are pixels in memory already. Don't change them afterwards. TensorFlow loads from a copy of its own.

    Images and labels may be lists, NumPy arrays, tensors or pandas columns.

    Args:
        images: uint8, int8, float16, bfloat16 or float32 ``[n, height, width, channels]``; with labels grey images may
            be ``[n, height, width]`` (as MNIST is), and have one channel then.
        labels: integers or truth values ``[n]`` or ``[n, 1]``; all 0 if not given.

    Raises:
        SourceError: shapes or dtypes are others; says what helps.

    Example:
        >>> Arrays(np.zeros((10, 32, 32, 3), np.uint8), np.arange(10))
        >>> (images, labels), _ = keras.datasets.cifar10.load_data()
        >>> Arrays(images, labels)
    """

    images: NDArray[np.generic]
    labels: NDArray[np.int64]

    def __init__(self, images: ArrayLike, labels: ArrayLike | None = None) -> None:
        pixels = _pixels(images, labels is not None)
        if 0 in pixels.shape:
            raise SourceError(f"Arrays needs at least one image with pixels, but its shape is {list(pixels.shape)}")
        marks = (
            np.zeros(len(pixels), np.int64)
            if labels is None
            else integer_labels("Arrays needs one integer label an image", labels, len(pixels), "images")
        )
        object.__setattr__(self, "images", pixels)
        object.__setattr__(self, "labels", marks)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def spec(self) -> ImageSpec:
        """Pixels of one, known shape."""
        return ImageSpec(self.images.shape[1:], str(self.images.dtype), HWC)

    def name(self, index: int) -> str:
        """``"images[index]"``."""
        return f"images[{index}]"

    def read(self, index: int) -> NDArray[np.generic]:
        """One image's pixels."""
        image: NDArray[np.generic] = self.images[index]
        return image

    @forking.cached_property
    def _digest(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        digest.update(np.ascontiguousarray(self.images).view(np.uint8).data)  # a bfloat16 has no buffer of its own
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """A digest of the pixels and labels."""
        return self._digest

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Arrays):
            return NotImplemented
        return self is other or (self.spec == other.spec and self._digest == other._digest)

    def __hash__(self) -> int:
        return hash(self._digest)

    def to_dict(self) -> dict[str, Any]:
        """Shape, dtype and digest: the arrays themselves aren't stored (see ``from_dict``)."""
        shape = list(self.images.shape)
        return {"source": "Arrays", "shape": shape, "dtype": str(self.images.dtype), "digest": self._digest}

    def __repr__(self) -> str:
        return f"Arrays({self.images.dtype} {list(self.images.shape)})"

    __str__ = __repr__


def _pixels(images: ArrayLike, labelled: bool) -> NDArray[np.generic]:
    try:
        pixels = np.asarray(images)
    except (TypeError, ValueError) as error:  # a list of images of several sizes
        raise SourceError(
            "Arrays needs images [n, height, width, channels] of one size, but they are no array "
            f"({one_line(error)}): resize them, or save them as files"
        ) from None
    # Three dimensions may be one image with its channels; where there are labels the first one counts images.
    if labelled and pixels.ndim == 3 and pixels.shape[-1] > _MOST_CHANNELS:
        pixels = pixels[..., None]
    if pixels.ndim == 4 and str(pixels.dtype) in DTYPES:
        return pixels
    remedies = []
    if pixels.ndim == 3:
        remedies.append("pass images[..., None] if they are grey, or images[None] if it is one image")
    if pixels.dtype.kind in "biuf" and str(pixels.dtype) not in DTYPES:
        remedies.append(
            "make them float32 (images.astype('float32')), or uint8 if they are 0 … 255 (images.astype('uint8'))"
        )
    raise SourceError(
        f"Arrays needs images [n, height, width, channels] of {', '.join(DTYPES)}, "
        f"not {pixels.dtype} {list(pixels.shape)}" + "".join(f": {remedy}" for remedy in remedies)
    )
