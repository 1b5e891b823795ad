"""What lies below a folder: its folders, and its image files."""

from __future__ import annotations

import os

from greenload.errors import SourceError

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
"""File names that ``ImageFolder`` takes for images (torchvision's list, and ``.gif``): one that ``Decode`` can't read
is refused by name rather than passed over."""


def scan(folder: str) -> list[os.DirEntry[str]]:
    """A folder's entries, in no order.

    Raises:
        SourceError: it can't be read.
    """
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise SourceError(f"{folder}: the folder can't be read: {error.strerror}; change its permissions") from None


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
