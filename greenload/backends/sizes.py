"""What a batch's images are before anything is decoded: their sizes, which stages' params follow from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload import formats
from greenload.backends import orienting
from greenload.backends.base import Images
from greenload.errors import RecordError
from greenload.formats import MAX_BYTES, FormatError, Header, Truncation, opened, orientation
from greenload.stages import primitives as p
from greenload.steps import Step


@dataclass(frozen=True)
class Sizes:
    """Rows and columns of each image of a batch as it enters, int64 ``[n]``, and which may be cut."""

    height: NDArray[np.int64]
    width: NDArray[np.int64]
    heads: tuple[tuple[int, Header], ...] = ()
    """The position and header of each file that a decoder must not see as it is."""
    stripped: tuple[int, ...] = ()
    """Positions of TIFFs: a window's decode reads only the strips that it needs, so it misses damage in others."""
    filled: tuple[tuple[int, bytes], ...] = ()
    """The position of each file that is cut off, and how it was made whole."""
    orientation: NDArray[np.int64] | None = None
    """The EXIF orientations, where they are applied: then the sizes are those of upright images."""

    def params(self) -> dict[str, NDArray[np.int64]]:
        """What turning images upright needs, as further params."""
        if self.orientation is None:
            return {}
        return {"orientation": self.orientation, "upright_height": self.height, "upright_width": self.width}


def sizes_of(
    images: Images,
    names: Sequence[str],
    backend: str,
    exif: bool = False,
    max_bytes: int = MAX_BYTES,
    truncated: Truncation = "error",
) -> Sizes:
    """The sizes of a batch's images, from their headers or shapes.

    Args:
        images: files' bytes, or pixels.
        names: what names each in an error.
        backend: the backend that is to decode them.
        exif: whether EXIF orientation is applied.
        max_bytes: the most bytes that decoding one may take.
        truncated: what is done about files that are cut off.

    Raises:
        RecordError: a header can't be read, the backend doesn't read such files, or decoding one would take too much;
            names the record.
    """
    sides = np.empty((2, len(images)), np.int64)
    turns = np.ones(len(images), np.int64) if exif else None
    heads, stripped, filled = [], [], []
    image: Any  # mypy takes what isn't bytes for a collection
    for position, image in enumerate(images):
        if isinstance(image, bytes):
            try:
                file, head = opened(image, backend, max_bytes, truncated)
            except FormatError as error:
                raise RecordError(names[position], str(error)) from None
            if file is not image:
                filled.append((position, file))
            sides[0, position] = head.height
            sides[1, position] = head.width
            if head.exif is not None or head.picture is not None or head.burdened or head.components == 4:
                heads.append((position, head))
            if head.format == "TIFF":
                stripped.append(position)
            if turns is not None:
                turns[position] = orientation(image)
        else:
            sides[:, position] = image.shape[:2]
    height, width = sides if turns is None else orienting.upright_size(sides[0], sides[1], turns)
    return Sizes(height, width, tuple(heads), tuple(stripped), tuple(filled), turns)


def plain(images: Images, sizes: Sizes) -> Images:
    """The images as decoders are to see them: files as ``formats.plain`` gives them, and whole."""
    if not sizes.heads and not sizes.filled:
        return images
    shown: list[Any] = list(images)
    for position, file in sizes.filled:
        shown[position] = file
    for position, head in sizes.heads:
        shown[position] = formats.plain(shown[position], head)
    return shown


def sides_of(data: bytes, head: Header, exif: bool) -> tuple[int, int]:
    """Rows and columns of a file's image as it is decoded.

    Args:
        data: the file.
        head: its header.
        exif: whether EXIF orientation is applied.
    """
    turned = exif and orientation(data) in orienting.TRANSPOSED
    return (head.width, head.height) if turned else (head.height, head.width)


def applies_exif(steps: Sequence[Step]) -> bool:
    """Whether one of some steps decodes with EXIF orientation applied."""
    return any(isinstance(s.primitive, (p.Decode, p.DecodeCrop)) and s.primitive.exif for s in steps)


def limit_of(steps: Sequence[Step]) -> int:
    """The most bytes that decoding one image may take in some steps."""
    limits = (s.primitive.max_bytes for s in steps if isinstance(s.primitive, (p.Decode, p.DecodeCrop)))
    return next(limits, MAX_BYTES)


def truncated_of(steps: Sequence[Step]) -> Truncation:
    """What some steps do about files that are cut off."""
    found = (s.primitive.truncated for s in steps if isinstance(s.primitive, (p.Decode, p.DecodeCrop)))
    return next(found, "error")
