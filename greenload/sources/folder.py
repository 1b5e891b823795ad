"""Lists folders of images that have one folder per class."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.errors import SourceError
from greenload.public import public
from greenload.sources import class_order, listing
from greenload.sources.class_order import ClassOrder
from greenload.sources.files import Files, FileSource
from greenload.sources.listing import Paths
from greenload.system import forking


@public
@dataclass(frozen=True)
class ImageFolder(FileSource):
    """A folder with one folder of images per class (``keras.utils.image_dataset_from_directory``'s layout).

    Classes are the folders' names, sorted as text, as Keras does (``"10"`` before ``"2"``: a warning says so); labels
    count them from 0. Images are the files below with the extension of a kind that ``Decode`` reads (``.jpg``,
    ``.jpeg``, ``.jpe``, ``.jfif``, ``.png``, ``.bmp``, ``.gif``, ``.tif``, ``.tiff``, ``.webp``, and rarer names of
    the same kinds), sorted; their first bytes decide their kind. Files of other kinds of images (``.heic``,
    ``.avif``, ``.ppm``, …) are left out with a warning that counts them, and files that are no images are passed over.

    Hidden files and folders, and what systems leave behind, are left out at every depth: names that begin with a dot
    (``._1.jpg``, ``.ipynb_checkpoints``), ``__MACOSX``, ``@eaDir``, ``lost+found``, ``$RECYCLE.BIN``, ``Thumbs.db`` and
    the like (``greenload.sources.listing.is_litter`` has them all). The listing is made once, when first needed.

    Args:
        root: the folder.
        min_classes: fewer classes than this are a mistake.
        classes: the folders' names in the order of their labels, each once.
        order: ``"natural"`` sorts numbers in names by value (``"2"`` before ``"10"``); ``"alphabetical"`` as text.

    Raises:
        SourceError: the folder is missing, unreadable or an address (``s3://…``), or an argument is wrong; at first use
            also: no class folders, fewer classes than ``min_classes``, a class without images, or folders that aren't
            those in ``classes``.

    Example:
        >>> ImageFolder("data/train")          # data/train/cat/1.jpg, data/train/dog/2.jpg, …
        >>> ImageFolder("data/digits", order="natural")          # 0, 1, 2, …, 10, 11
        >>> ImageFolder("data/train", classes=["dog", "cat"])    # dog is label 0
    """

    root: str
    min_classes: int = 2
    label_names: tuple[str, ...] = ()
    """``classes`` as given; empty if not."""
    order: ClassOrder = "alphabetical"

    def __init__(
        self,
        root: str | os.PathLike[str],
        min_classes: int = 2,
        *,
        classes: Sequence[str] | None = None,
        order: ClassOrder = "alphabetical",
    ) -> None:
        object.__setattr__(self, "root", listing.need_local(os.fspath(root)))
        least = scalars.whole(min_classes)
        if least is None or least < 0:
            raise SourceError(f"min_classes must be a whole number from 0, not {min_classes!r}")
        object.__setattr__(self, "min_classes", least)
        object.__setattr__(self, "label_names", class_order.check_order(classes, order))
        object.__setattr__(self, "order", order)
        if not os.path.isdir(self.root):
            state = "is a file" if os.path.exists(self.root) else "does not exist"
            raise SourceError(f"{self.root}: ImageFolder needs a folder, but this {state}")

    @forking.cached_property
    def _listing(self) -> tuple[tuple[str, ...], Paths, NDArray[np.int64]]:
        classes = self._folders()
        counts: list[int] = []
        unread: Counter[str] = Counter()

        def below(name: str) -> list[str]:
            images = listing.images_below(os.path.join(self.root, name))
            counts.append(len(images.paths))
            unread.update(images.unread)
            if not images.paths and images.unread:
                empty[name] = f" (it has {listing.shown_unread(images.unread)}, which nothing here reads)"
            return sorted(images.paths)

        empty: dict[str, str] = {}
        paths = Paths(itertools.chain.from_iterable(map(below, classes)))  # one class at a time is held as text
        if not paths:
            raise _no_images(self.root, unread)
        for name, count in zip(classes, counts, strict=True):
            if not count:
                raise SourceError(
                    f"{os.path.join(self.root, name)}: the class has no images{empty.get(name, '')}: "
                    "remove the folder or fill it"
                )
        if len(classes) < self.min_classes:
            raise SourceError(
                f"{self.root}: holds one class only ({classes[0]!r}), and a classifier needs two: "
                "name the folder above it, or pass min_classes=1 if one is meant"
            )
        listing.warn_of_unread(self.root, unread)
        return classes, paths, np.repeat(np.arange(len(classes), dtype=np.int64), counts)

    def _folders(self) -> tuple[str, ...]:
        """The classes' folders, in the order of their labels."""
        folders = {entry.name for entry in listing.scan(self.root) if listing.is_folder(entry)}
        names = {name for name in folders if not listing.is_litter(name)}
        if self.label_names:
            if lacking := [name for name in self.label_names if name not in folders]:
                raise SourceError(
                    f"{self.root}: classes must be its folders, but there is no folder {lacking[0]!r}; "
                    f"its folders: {_some(names)}"
                )
            if others := names.difference(self.label_names):
                raise SourceError(
                    f"{self.root}: classes must be all its folders, but {_some(others)} is not among them: "
                    "add it, or move the folder away"
                )
            return self.label_names
        if not names:
            loose = sum(
                1
                for entry in listing.scan(self.root)
                if entry.name.lower().endswith(listing.EXTENSIONS) and not listing.is_litter(entry.name)
            )
            content = f"{loose} images and no class folders" if loose else "no class folders"
            raise SourceError(
                f"{self.root}: ImageFolder needs one folder of images per class, but this holds {content}: "
                "sort the images into folders, or list them with Files([...], labels=[...])"
            )
        class_order.warn_of_alike(self.root, sorted(names))
        return class_order.numbered(self.root, names, self.order)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names; a label is an index into it."""
        return self._listing[0]

    @property
    def paths(self) -> Paths:
        """The files, class by class, sorted within each."""
        return self._listing[1]

    @property
    def labels(self) -> NDArray[np.int64]:
        """The index of each file's class in ``classes``, int64 ``[n]``."""
        return self._listing[2]

    def to_dict(self) -> dict[str, Any]:
        """``root`` and ``min_classes``; ``classes`` and ``order`` where they were given."""
        data = {"source": "ImageFolder", "root": self.root, "min_classes": self.min_classes}
        given = {"classes": list(self.label_names)} if self.label_names else {}
        return data | given | ({"order": self.order} if self.order != "alphabetical" else {})

    def __str__(self) -> str:
        return f"ImageFolder({self.root!r})"


def any_images(root: str | os.PathLike[str]) -> Files:
    """All images below a folder, in class folders or not, with labels all 0: for work that needs no labels.

    Raises:
        SourceError: the folder is missing or unreadable, or has no images below it.
    """
    folder = listing.need_local(os.fspath(root))
    images = listing.images_below(folder)
    if not images.paths:
        raise _no_images(folder, images.unread)
    listing.warn_of_unread(folder, images.unread)
    return Files(sorted(images.paths))


def _no_images(folder: str, unread: Mapping[str, int]) -> SourceError:
    if unread:
        return SourceError(
            f"{folder}: no images below it but of kinds that nothing here reads ({listing.shown_unread(unread)}): "
            f"{listing.CONVERT}"
        )
    return SourceError(f"{folder}: no images below it (looked for {', '.join(listing.EXTENSIONS)})")


def _some(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(map(repr, shown[:5])) + (f", … ({len(shown)} in all)" if len(shown) > 5 else "")
