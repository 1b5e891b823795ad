"""Where samples come from: folders of images, lists of files, arrays."""

from __future__ import annotations

import functools
import hashlib
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from greenload import listing
from greenload.errors import RecordError, SourceError
from greenload.specs import DTYPES, ENCODED_SPEC, HWC, ImageSpec

UNREADABLE = "can't be read"
"""How the reason of a record begins that the system didn't hand out: it may do so later."""


@runtime_checkable
class Source(Protocol):
    """Samples with random access: a length, labels, and one record an index."""

    def __len__(self) -> int:
        """How many samples there are, at least 1."""
        ...

    @property
    def spec(self) -> ImageSpec:
        """What a record's image is: encoded bytes, or pixels."""
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """One label a sample, int64 ``[n]``."""
        ...

    def name(self, index: int) -> str:
        """What names a sample to its owner: its path, or its place in an array."""
        ...

    def read(self, index: int) -> bytes | NDArray[np.generic]:
        """One record's image: a file's bytes, or pixels ``[H, W, C]``.

        Raises:
            RecordError: it can't be read.
        """
        ...

    def fingerprint(self) -> str:
        """A digest that changes when the samples do."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The source as JSON data."""
        ...


def is_source(value: object) -> bool:
    """Whether a value is a ``Source``, told without reading its members: ``isinstance`` would, and so list a folder."""
    members = ("__len__", "spec", "labels", "name", "read", "fingerprint", "to_dict")
    return all(hasattr(type(value), member) or member in getattr(value, "__dict__", ()) for member in members)


@dataclass(frozen=True)
class FileSource:
    """What sources of encoded files share: everything but how their paths and labels are found."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, in the source's order."""
        raise NotImplementedError

    @property
    def labels(self) -> NDArray[np.int64]:
        """One label a file, int64 ``[n]``."""
        raise NotImplementedError

    @property
    def spec(self) -> ImageSpec:
        """Encoded bytes."""
        return ENCODED_SPEC

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The file's path."""
        return self.paths[index]

    def read(self, index: int) -> bytes:
        """The file's bytes.

        Raises:
            RecordError: it can't be read.
        """
        path = self.paths[index]
        try:
            with open(path, "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise RecordError(path, f"{UNREADABLE}: {error.strerror}") from None

    def fingerprint(self) -> str:
        """A digest of every file's path, size and time of change. A missing file counts as such."""
        digest = hashlib.blake2b(digest_size=16)
        for path, label in zip(self.paths, self.labels, strict=True):
            try:
                state = os.stat(path)
                stamp = f"{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}"
            except OSError as error:
                stamp = f"{error.errno}"
            digest.update(f"{path}\0{label}\0{stamp}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


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
    def _listing(self) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.int64]]:
        folders = (entry.name for entry in listing.scan(self.root) if listing.is_folder(entry))
        classes = tuple(sorted(name for name in folders if not name.startswith(".")))  # .ipynb_checkpoints and the like
        if not classes:
            loose = sum(1 for entry in listing.scan(self.root) if entry.name.lower().endswith(listing.EXTENSIONS))
            found = f"{loose} images and no class folders" if loose else "no class folders"
            raise SourceError(
                f"{self.root}: ImageFolder needs one folder of images per class, but this holds {found}: "
                "sort the images into folders, or list them with Files([...], labels=[...])"
            )
        per_class = [sorted(listing.images_below(os.path.join(self.root, name))) for name in classes]
        if not any(per_class):
            raise SourceError(f"{self.root}: no images below it (looked for {', '.join(listing.EXTENSIONS)})")
        for name, files in zip(classes, per_class, strict=True):
            if not files:
                raise SourceError(
                    f"{os.path.join(self.root, name)}: the class has no images: remove the folder or fill it"
                )
        if len(classes) < self.min_classes:
            raise SourceError(
                f"{self.root}: holds one class only ({classes[0]!r}), and a classifier needs two: "
                "name the folder above it, or pass min_classes=1 if one is meant"
            )
        labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(files) for files in per_class])
        return classes, tuple(path for files in per_class for path in files), labels

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names; a label is a place in it."""
        return self._listing[0]

    @property
    def paths(self) -> tuple[str, ...]:
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


@dataclass(frozen=True)
class Files(FileSource):
    """A list of encoded image files.

    Args:
        paths: the files, in order.
        labels: one integer a file; all 0 if not given.

    Raises:
        SourceError: there are no files, or labels of another number. A missing file is found when it is read.

    Example:
        >>> Files(["a.jpg", "b.png"], labels=[0, 1])
    """

    files: tuple[str, ...]
    integers: tuple[int, ...] = field(repr=False)

    def __init__(self, paths: Sequence[str | os.PathLike[str]], labels: Sequence[int] | None = None) -> None:
        if isinstance(paths, (str, Path)):
            raise SourceError(f"Files takes a list of paths, not the one path {str(paths)!r}: put it into a list")
        try:
            files = tuple(os.fsdecode(path) for path in paths)
        except TypeError as error:
            raise SourceError(f"Files takes a list of paths, but {error}") from None
        try:
            integers = (0,) * len(files) if labels is None else tuple(operator.index(label) for label in labels)
        except TypeError as error:
            raise SourceError(f"Files needs an integer label a path, but {error}") from None
        if not files:
            raise SourceError("Files needs at least one path, but the list is empty")
        if len(integers) != len(files):
            raise SourceError(
                f"Files needs one label a path, but there are {len(files)} paths and {len(integers)} labels"
            )
        object.__setattr__(self, "files", files)
        object.__setattr__(self, "integers", integers)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, as given."""
        return self.files

    @functools.cached_property
    def labels(self) -> NDArray[np.int64]:
        """The labels, as given, int64 ``[n]``."""
        return np.array(self.integers, np.int64)

    def to_dict(self) -> dict[str, Any]:
        """``paths`` and ``labels``."""
        return {"source": "Files", "paths": list(self.files), "labels": list(self.integers)}

    def __str__(self) -> str:
        return f"Files({len(self)} paths)"


@dataclass(frozen=True, eq=False)
class Arrays:
    """Images that are pixels in memory already. Don't change them afterwards. TensorFlow loads from a copy of its own.

    Args:
        images: uint8 or float32 ``[n, height, width, channels]``.
        labels: ``[n]`` integers; all 0 if not given.

    Raises:
        SourceError: shapes or dtypes are others.

    Example:
        >>> Arrays(np.zeros((10, 32, 32, 3), np.uint8), np.arange(10))
    """

    images: NDArray[np.generic]
    labels: NDArray[np.int64]

    def __init__(self, images: ArrayLike, labels: ArrayLike | None = None) -> None:
        pixels = np.asarray(images)
        if pixels.ndim != 4 or str(pixels.dtype) not in DTYPES:
            raise SourceError(
                f"Arrays needs images [n, height, width, channels] of {' or '.join(DTYPES)}, "
                f"not {pixels.dtype} {list(pixels.shape)}"
            )
        if 0 in pixels.shape:
            raise SourceError(f"Arrays needs at least one image with pixels, but its shape is {list(pixels.shape)}")
        marks = np.zeros(len(pixels), np.int64) if labels is None else np.asarray(labels)
        if marks.shape != (len(pixels),) or not np.issubdtype(marks.dtype, np.integer):
            raise SourceError(
                f"Arrays needs one integer label an image, but for {len(pixels)} images labels are "
                f"{marks.dtype} {list(marks.shape)}"
            )
        object.__setattr__(self, "images", pixels)
        object.__setattr__(self, "labels", marks.astype(np.int64))

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

    @functools.cached_property
    def _digest(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        digest.update(np.ascontiguousarray(self.images).data)
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


def from_dict(data: Mapping[str, Any]) -> Source:
    """The source that ``to_dict`` described.

    Raises:
        SourceError: the kind is unknown, an argument is lacking, or it is ``Arrays``, whose pixels aren't in it.
    """
    try:
        return _from_dict(data)
    except KeyError as error:
        raise SourceError(f"the description of a source of kind {data.get('source')!r} lacks {error}") from None


def _from_dict(data: Mapping[str, Any]) -> Source:
    match data.get("source"):
        case "ImageFolder":
            return ImageFolder(data["root"], data["min_classes"])
        case "Files":
            return Files(data["paths"], data["labels"])
        case "Arrays":
            raise SourceError("the description of an Arrays source holds no pixels: pass them as source=Arrays(...)")
        case kind:
            raise SourceError(f"source must be one of ImageFolder, Files, Arrays, not {kind!r}")
