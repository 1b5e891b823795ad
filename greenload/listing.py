"""What lies below a folder: its folders, and its image files; and lists of paths that may hold millions."""

from __future__ import annotations

import itertools
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from greenload.errors import SourceError

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
"""File names that ``ImageFolder`` takes for images (torchvision's list, and ``.gif``): one that ``Decode`` can't read
is refused by name rather than passed over."""


class Paths(Sequence[str]):
    """An immutable sequence of paths, held as one block of bytes: 60 bytes a path where a ``str`` takes 110.

    Args:
        paths: ``str``, ``bytes`` or path objects, in order.

    Raises:
        TypeError: one is neither.

    Example:
        >>> list(Paths(["a.jpg", "b.png"]))
        ['a.jpg', 'b.png']
    """

    __slots__ = ("blob", "offsets")

    blob: bytes
    """All paths in the file system's encoding, one behind the other."""
    offsets: NDArray[np.int64]
    """Where each begins, and the end: int64 ``[n + 1]``."""

    def __init__(self, paths: Iterable[str | bytes | os.PathLike[str]]) -> None:
        blob, ends = bytearray(), array("q", [0])
        for path in paths:
            blob += os.fsencode(path)
            ends.append(len(blob))
        self.blob = bytes(blob)
        self.offsets = np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Paths: ...
    def __getitem__(self, index: int | slice) -> str | Paths:
        if isinstance(index, slice):
            return Paths(self[i] for i in range(*index.indices(len(self))))
        place = range(len(self))[index]
        return os.fsdecode(self.blob[self.offsets[place] : self.offsets[place + 1]])

    def __iter__(self) -> Iterator[str]:
        for begin, end in itertools.pairwise(self.offsets.tolist()):
            yield os.fsdecode(self.blob[begin:end])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Paths):
            return NotImplemented
        return self.blob == other.blob and np.array_equal(self.offsets, other.offsets)

    def __hash__(self) -> int:
        return hash((self.blob, len(self)))

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, itertools.islice(self, 3)))
        return f"Paths([{shown}, …], {len(self)} in all)" if len(self) > 3 else f"Paths([{shown}])"

    def printable(self) -> bool:
        """Whether all are text that can be shown."""
        return os.fsdecode(self.blob).isprintable()


def scan(folder: str) -> Iterator[os.DirEntry[str]]:
    """A folder's entries, in no order, one at a time: a list of a million would take a third of a gigabyte.

    Raises:
        SourceError: it can't be read.
    """
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        remedy = "change its permissions" if isinstance(error, PermissionError) else "name another"
        raise SourceError(f"{folder}: the folder can't be read: {error.strerror}; {remedy}") from None


def images_below(folder: str) -> list[str]:
    """The paths of all files below a folder that have an image's extension, in no order.

    Follows links, but not in circles.

    Raises:
        SourceError: a folder can't be read.
    """
    found, pending = [], [(folder, frozenset[str]())]
    while pending:
        below, above = pending.pop()
        real = os.path.realpath(below)
        if real in above:
            continue  # a link back to a folder that it lies in
        for entry in scan(below):
            if is_folder(entry):
                pending.append((entry.path, above | {real}))
            elif entry.name.lower().endswith(EXTENSIONS):
                found.append(entry.path)
    return found


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself
