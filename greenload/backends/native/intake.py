"""A batch as the kernel takes it: files that it decodes, pixels, and the sizes of images.

The kernel decodes plain JPEGs. Of what else the backend reads (inks, files that were cut off and filled, whatever the
kernel finds odd) another backend makes pixels, or says why it can't: so every backend accepts and refuses the same
files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends import orientation as orienting
from greenload.backends.base import Images, Records
from greenload.backends.image_sizes import decode_of
from greenload.backends.native.blobs import Blob, Own
from greenload.backends.native.library import probe
from greenload.backends.readers import Foreign, Readers, ppm
from greenload.errors import RecordError
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan, Segment
from greenload.sources import formats
from greenload.sources.formats import FormatError
from greenload.stages import primitives as p


@dataclass(frozen=True)
class Taken:
    """The images of a batch, and what their params follow from."""

    images: Images
    height: NDArray[np.int64]
    """Rows as they enter; of files those of the upright image."""
    width: NDArray[np.int64]
    orientation: NDArray[np.int64] | None = None
    """The EXIF orientations, where they are applied."""

    def further(self) -> dict[str, NDArray[np.int64]]:
        """What decoding needs beside its stage's params."""
        if self.orientation is None:
            return {}
        return {"orientation": self.orientation, "upright_height": self.height, "upright_width": self.width}

    def upright(self, files: Sequence[tuple[int, bytes]]) -> Taken:
        """The same with files of upright pixels in some positions."""
        images: list[Any] = list(self.images)
        turns = None if self.orientation is None else self.orientation.copy()
        for position, file in files:
            images[position] = file
            if turns is not None:
                turns[position] = 1
        return replace(self, images=images, orientation=turns)


@dataclass(frozen=True)
class Intake:
    """Looks at a segment's batches before the kernel works on them."""

    backend: str
    decode: p.Decoding
    encoded: bool
    numbers: DrawLayout
    first: int
    end: int
    readers: Readers

    @classmethod
    def of(cls, plan: Plan, segment: Segment, readers: Readers) -> Intake:
        """A segment's; ``readers`` are the plan's."""
        return cls(
            segment.backend,
            decode_of(segment.steps),
            segment.spec_in.encoded,
            DrawLayout.of(plan.pipeline),
            segment.first,
            segment.end,
            readers,
        )

    def take(self, records: Records) -> Taken:
        """A batch, all of whose images the kernel can begin with.

        Raises:
            RecordError: a file can't be decoded, or an image is too small for a stage; names the first.
        """
        taken = self._files(records) if self.encoded else _pixels(records.images)
        too_small = self.numbers.first_too_small(taken.height, taken.width, self.first, self.end)
        if too_small is not None:
            raise RecordError(records.names[too_small[0]], too_small[1])
        return taken

    def foreign(self, records: Records) -> list[tuple[int, Foreign]]:
        """The files of a batch that another backend decodes, by their positions; none of them if they are pixels.

        Raises:
            RecordError: a header shows that a file can't be decoded; names the first.
        """
        return list(self._foreign(records, self._look(records.images).odd)) if self.encoded else []

    def again(self, records: Records, taken: Taken, positions: Sequence[int]) -> Taken:
        """A batch, some of whose files the kernel couldn't decode, with the pixels that another backend makes of them.

        Raises:
            RecordError: it can't either; names the first.
        """
        return taken.upright(self._decoded(records, list(self._foreign(records, positions))))

    def _files(self, records: Records) -> Taken:
        looked = self._look(records.images)
        others = list(self._foreign(records, looked.odd))
        height, width, turns = looked.height, looked.width, looked.turns
        for position, file in others:
            head = file.head
            height[position], width[position] = orienting.upright_size(head.height, head.width, np.int64(file.turn))
        taken = Taken(records.images, height, width, turns if self.decode.exif else None)
        return taken.upright(self._decoded(records, others)) if others else taken

    def _look(self, images: Any) -> _Looked:
        """What the kernel sees of a batch of files."""
        headers = probe(images, self.decode.exif, self.decode.max_bytes)
        turns = np.ones(len(images), np.int64)
        odd = np.flatnonzero(headers[:, 0] == 0).tolist()
        if own := [position for position in odd if _is_own(images[position])]:
            headers[own] = probe([images[position] for position in own], False, self.decode.max_bytes, kept=True)
        odd = np.flatnonzero(headers[:, 0] == 0).tolist() if self.decode.exif else []
        if odd:  # those that are to be turned are among them
            headers[odd] = probe([images[position] for position in odd], False, self.decode.max_bytes)
            turns[odd] = [formats.orientation(_file(images[i])) if headers[i, 0] else 1 for i in odd]
        height, width = headers[:, 1:].astype(np.int64).T
        odd = np.flatnonzero(headers[:, 0] == 0).tolist()
        return _Looked(odd, *orienting.upright_size(height, width, turns), turns)

    def _foreign(self, records: Records, positions: Sequence[int]) -> Iterator[tuple[int, Foreign]]:
        for position in positions:
            try:
                yield position, self.readers.foreign(_file(records.images[position]), self.backend, self.decode)
            except FormatError as error:
                raise RecordError(records.names[position], str(error)) from None

    def _decoded(self, records: Records, files: Sequence[tuple[int, Foreign]]) -> list[tuple[int, bytes]]:
        results = self.readers.as_files([file for _, file in files], ppm)
        done = []
        for (position, _), result in zip(files, results, strict=True):
            if isinstance(result, FormatError):
                raise RecordError(records.names[position], str(result))
            done.append((position, result))
        return done


@dataclass(frozen=True)
class _Looked:
    """What the kernel sees of a batch of files."""

    odd: Sequence[int]
    """The positions of those that it doesn't decode."""
    height: NDArray[np.int64]
    """Rows of the upright images; of odd files not yet."""
    width: NDArray[np.int64]
    turns: NDArray[np.int64]
    """EXIF orientations, where they are applied; else 1."""


def _is_own(image: Any) -> bool:
    """Whether an image is in a form that only the kernel reads."""
    return isinstance(image, Own) or (isinstance(image, Blob) and not image.is_jpeg)


def _file(image: Any) -> Any:
    """A file's bytes, also of one that a store keeps."""
    return image.tobytes() if isinstance(image, Blob) else image


def _pixels(images: Images) -> Taken:
    if isinstance(images, np.ndarray):
        count, height, width = images.shape[:3]
        return Taken(images, np.full(count, height), np.full(count, width))
    sides = np.array([np.shape(image)[:2] for image in images], np.int64).reshape(-1, 2)
    return Taken(images, sides[:, 0], sides[:, 1])
