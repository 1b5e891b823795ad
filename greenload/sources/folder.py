"""Folders of images, a folder a class."""

from __future__ import annotations

import functools
import itertools
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload import listing
from greenload.errors import SourceError
from greenload.listing import Paths
from greenload.sources.files import Files, FileSource


@dataclass(frozen=True)
class ImageFolder(FileSource):
    """A folder with one folder of images per class (``keras.utils.image_dataset_from_directory``'s layout).

    Classes are the folders' names, sorted, hidden ones left out; labels count them from 0. Images are the files below
    with an image's extension, sorted; other files are passed over. The listing is made once, when first needed.

    Args:
        root: the folder.
        min_classes: the fewest classes that aren't a mistake.

    Raises:
        SourceError: the folder is missing or unreadable; at first use also: no class folders, fewer classes than
            ``min_classes``, or a class without images.

    Example:
        >>> ImageFolder("data/train")          # data/train/cat/1.jpg, data/train/dog/2.jpg, …
    """

    root: str
    min_classes: int = 2

    def __init__(self, root: str | os.PathLike[str], min_classes: int = 2) -> None:
        object.__setattr__(self, "root", os.fspath(root))
        object.__setattr__(self, "min_classes", min_classes)
        if not os.path.isdir(self.root):
            found = "is a file" if os.path.exists(self.root) else "does not exist"
            raise SourceError(f"{self.root}: ImageFolder needs a folder, but this {found}")

    @functools.cached_property
    def _listing(self) -> tuple[tuple[str, ...], Paths, NDArray[np.int64]]:
        folders = (entry.name for entry in listing.scan(self.root) if listing.is_folder(entry))
        classes = tuple(sorted(name for name in folders if not name.startswith(".")))  # .ipynb_checkpoints and the like
        if not classes:
            loose = sum(1 for entry in listing.scan(self.root) if entry.name.lower().endswith(listing.EXTENSIONS))
            found = f"{loose} images and no class folders" if loose else "no class folders"
            raise SourceError(
                f"{self.root}: ImageFolder needs one folder of images per class, but this holds {found}: "
                "sort the images into folders, or list them with Files([...], labels=[...])"
            )
        counts: list[int] = []

        def below(name: str) -> list[str]:
            files = sorted(listing.images_below(os.path.join(self.root, name)))
            counts.append(len(files))
            return files

        paths = Paths(itertools.chain.from_iterable(map(below, classes)))  # one class at a time is held as text
        if not paths:
            raise SourceError(f"{self.root}: no images below it (looked for {', '.join(listing.EXTENSIONS)})")
        for name, count in zip(classes, counts, strict=True):
            if not count:
                raise SourceError(
                    f"{os.path.join(self.root, name)}: the class has no images: remove the folder or fill it"
                )
        if len(classes) < self.min_classes:
            raise SourceError(
                f"{self.root}: holds one class only ({classes[0]!r}), and a classifier needs two: "
                "name the folder above it, or pass min_classes=1 if one is meant"
            )
        return classes, paths, np.repeat(np.arange(len(classes), dtype=np.int64), counts)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names; a label is a place in it."""
        return self._listing[0]

    @property
    def paths(self) -> Paths:
        """The files, class by class, sorted within each."""
        return self._listing[1]

    @property
    def labels(self) -> NDArray[np.int64]:
        """The place of each file's class in ``classes``, int64 ``[n]``."""
        return self._listing[2]

    def to_dict(self) -> dict[str, Any]:
        """``root`` and ``min_classes``."""
        return {"source": "ImageFolder", "root": self.root, "min_classes": self.min_classes}

    def __str__(self) -> str:
        return f"ImageFolder({self.root!r})"


def any_images(root: str | os.PathLike[str]) -> Files:
    """All images below a folder, in class folders or not, with labels all 0: for looking at the files themselves.

    Raises:
        SourceError: the folder is missing or unreadable, or has no images below it.
    """
    folder = os.fspath(root)
    found = sorted(listing.images_below(folder))
    if not found:
        raise SourceError(f"{folder}: no images below it (looked for {', '.join(listing.EXTENSIONS)})")
    return Files(found)
