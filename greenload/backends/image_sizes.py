"""Reads the sizes of a batch's images from their headers: stages' params are computed from sizes, before decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends import orientation as orienting
from greenload.backends.base import Images
from greenload.backends.readers import Foreign, Readers
from greenload.errors import RecordError
from greenload.plans.steps import Step
from greenload.sources import formats
from greenload.sources.formats import FormatError, Header, opened, orientation
from greenload.sources.formats.strips import check_strips
from greenload.stages import primitives as p

_BY_DEFAULT = p.Decode()


@dataclass(frozen=True)
class BatchSizes:
    """Rows and columns of each image of a batch as it enters, int64 ``[n]``, and which may be cut."""

    height: NDArray[np.int64]
    width: NDArray[np.int64]
    heads: tuple[tuple[int, Header], ...] = ()
    """The position and header of each file that a decoder must not see as it is."""
    filled: tuple[tuple[int, bytes], ...] = ()
    """The position of each file that is cut off, and how it was made whole."""
    as_png: tuple[tuple[int, bytes], ...] = ()
    """The position and PNG of each file that another backend has decoded."""
    orientation: NDArray[np.int64] | None = None
    """The EXIF orientations, where they are applied: then the sizes are those of upright images."""

    def params(self) -> dict[str, NDArray[np.int64]]:
        """What turning images upright needs, as further params."""
        if self.orientation is None:
            return {}
        return {"orientation": self.orientation, "upright_height": self.height, "upright_width": self.width}


def sizes_of(
    images: Images, names: Sequence[str], backend: str, readers: Readers, decode: p.Decoding = _BY_DEFAULT
) -> BatchSizes:
    """The sizes of a batch's images, from their headers or shapes.

    Args:
        images: files' bytes, or pixels.
        names: what names each in an error.
        backend: the backend that is to decode them.
        readers: decode what that backend doesn't read.
        decode: how.

    Raises:
        RecordError: a header can't be read, the backend doesn't read such files, or decoding one would take too much;
            names the record.
    """
    sides = np.empty((2, len(images)), np.int64)
    turns = np.ones(len(images), np.int64) if decode.exif else None
    heads, filled, others = [], [], []
    able = readers.support(backend)
    image: Any  # mypy takes what isn't bytes for a collection
    for position, image in enumerate(images):
        if not isinstance(image, bytes):
            sides[:, position] = image.shape[:2]
            continue
        try:
            file, head = opened(image, able, decode.max_bytes, decode.truncated)
            own = head.kind not in (able.readers or ())
            if own and head.format == "TIFF":
                check_strips(file)
        except FormatError as error:
            raise RecordError(names[position], str(error)) from None
        turn = orientation(image) if decode.exif else 1
        sides[:, position] = head.height, head.width
        if not own:
            others.append((position, Foreign(file, head, turn)))
            sides[:, position] = orienting.upright_size(head.height, head.width, turn)
            continue
        if file is not image:
            filled.append((position, file))
        if head.exif is not None or head.picture is not None or head.burdened or head.components == 4:
            heads.append((position, head))
        if turns is not None:
            turns[position] = turn
    height, width = sides if turns is None else orienting.upright_size(sides[0], sides[1], turns)
    return BatchSizes(height, width, tuple(heads), tuple(filled), _as_pngs(readers, others, names), turns)


def _as_pngs(
    readers: Readers, others: Sequence[tuple[int, Foreign]], names: Sequence[str]
) -> tuple[tuple[int, bytes], ...]:
    """What other backends make of some files, by their positions.

    Raises:
        RecordError: one can't be decoded; names the first.
    """
    results = readers.as_pngs([file for _, file in others])
    done = []
    for (position, _), result in zip(others, results, strict=True):
        if isinstance(result, FormatError):
            raise RecordError(names[position], str(result))
        done.append((position, result))
    return tuple(done)


def plain(images: Images, sizes: BatchSizes) -> Images:
    """The images as decoders are to see them: files as ``formats.plain`` gives them, and whole."""
    if not sizes.heads and not sizes.filled and not sizes.as_png:
        return images
    shown: list[Any] = list(images)
    for position, file in (*sizes.filled, *sizes.as_png):
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


def decode_of(steps: Sequence[Step]) -> p.Decoding:
    """How files are decoded in some steps; as by default where none does."""
    decoding = (step.primitive for step in steps if isinstance(step.primitive, p.Decoding))
    return next(decoding, _BY_DEFAULT)
