"""Reads files that hold one encoded image each."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.errors import RecordError, SourceError
from greenload.public import public
from greenload.sources import csv_parquet, listing
from greenload.sources.base import UNREADABLE, file_stamp
from greenload.sources.class_order import ClassOrder, check_order, class_names
from greenload.sources.given_labels import integer_labels
from greenload.sources.listing import Paths
from greenload.specs import ENCODED_SPEC, ImageSpec
from greenload.system import file_input, forking, limits

_LARGEST = (1 << 31) - 1  # bytes of an image's file
_FEW = 32  # files of one folder that are looked at one by one rather than by listing it
_MANY = 8  # times as many files as are looked for: so large a folder isn't listed to its end


class FileSource:
    """A source of encoded files. Its subclasses give the paths and the labels."""

    @property
    def paths(self) -> Paths:
        """The files, in the source's order."""
        raise NotImplementedError

    @property
    def labels(self) -> NDArray[np.int64]:
        """One label per file, int64 ``[n]``."""
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
            SourceError: no file can be read now: this process has too many open files, or no more memory.
        """
        path = self.paths[index]
        try:
            return file_input.read(path, _LARGEST)
        except (OSError, MemoryError) as error:
            limits.raise_if_out(path, error)
            raise RecordError(path, f"{UNREADABLE}: {getattr(error, 'strerror', error)}") from None

    @forking.cached_property
    def special(self) -> frozenset[int]:
        """The indices of paths that are a pipe, a device or a socket. Looked up once."""
        return frozenset(_special(self.paths))

    def fingerprint(self) -> str:
        """A digest of every file's path, size and time of change. A missing file has an entry of its own."""
        digest = hashlib.blake2b(digest_size=16)
        for path, label in zip(self.paths, self.labels, strict=True):
            digest.update(f"{path}\0{label}\0{file_stamp(path)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def files_fingerprint(self) -> str:
        """The same without labels: a digest of what decides about images."""
        digest = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            digest.update(f"{path}\0{file_stamp(path)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


@public
@dataclass(frozen=True, eq=False)
class Files(FileSource):
    """A list of encoded image files.

    All paths are used, also those of hidden files; a warning counts files with extensions of kinds that nothing here
    reads (``.heic``, ``.ppm``, …).

    Args:
        paths: the files, in order.
        labels: one integer per file, ``[n]`` or ``[n, 1]``; all 0 if not given.
        classes: the classes' names, where labels are indices into them.

    Raises:
        SourceError: there are no files, labels of another number or kind, or a path is an address (``https://…``).
            A file that is missing, or is a pipe or a device, raises when it is read.

    Example:
        >>> Files(["a.jpg", "b.png"], labels=[0, 1])
        >>> Files.from_csv("train.csv", image="file", label="species")
    """

    files: Paths
    integers: NDArray[np.int64] = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        labels: Sequence[int] | NDArray[np.integer[Any]] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        if isinstance(paths, (str, Path)):
            raise SourceError(f"Files takes a list of paths, not the one path {str(paths)!r}: put it into a list")
        try:
            files = paths if isinstance(paths, Paths) else Paths(paths)
        except TypeError as error:
            raise SourceError(f"Files takes a list of paths, but {error}") from None
        if files is not paths:
            listing.warn_of_unread_names("Files", files)
        if not files:
            raise SourceError("Files needs at least one path, but the list is empty")
        listing.need_all_local(files)
        integers = (
            np.zeros(len(files), np.int64)
            if labels is None
            else integer_labels("Files needs one integer label a path", labels, len(files), "paths")
        )
        object.__setattr__(self, "files", files)
        object.__setattr__(self, "integers", integers)
        object.__setattr__(self, "classes", class_names(classes))

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        image: str = "path",
        label: str | None = "label",
        root: str | os.PathLike[str] | None = None,
        *,
        classes: Sequence[str] | None = None,
        order: ClassOrder = "alphabetical",
    ) -> Files:
        """The files that a CSV table with a line of column names lists.

        Args:
            path: the table, UTF-8, comma-separated.
            image: the column of paths.
            label: the column of labels; ``None`` for labels all 0. Whole numbers (``7``, ``007``, ``2.0``, ``1e3``)
                are labels as they are, ``True`` and ``False`` 1 and 0. Else they are class names, which are sorted and
                numbered from 0 (``classes`` keeps them); blanks at a name's ends don't count, nor does whether an
                accent is a character of its own.
            root: the folder that relative paths start from; the table's own if not given. Absolute ones stand as they
                are.
            classes: the class names in the order of their labels, so that several tables number them alike; the table
                may hold no others.
            order: how class names are sorted: ``"alphabetical"`` as text, ``"natural"`` with numbers in them by value.

        Warns where numbers in class names are sorted as text, numbers and names are mixed, names look alike, and an
        image has several labels.

        Raises:
            SourceError: the table can't be read, lacks a column, has no rows, or a row or a value that doesn't fit. No
                label may be missing (``NaN`` too), be a fraction where all are numbers, or look like several
                (``cat|dog``, ``['cat', 'dog']``).

        Example:
            >>> Files.from_csv("data/train.csv", image="file", label="species")
            >>> Files.from_csv("data/test.csv", classes=["cat", "dog", "horse"])
        """
        return cls._from_table(csv_parquet.read_csv, path, image, label, root, classes, order)

    @classmethod
    def from_parquet(
        cls,
        path: str | os.PathLike[str],
        image: str = "path",
        label: str | None = "label",
        root: str | os.PathLike[str] | None = None,
        *,
        classes: Sequence[str] | None = None,
        order: ClassOrder = "alphabetical",
    ) -> Files:
        """The files that a Parquet table lists. Needs pyarrow. Arguments and errors are those of ``from_csv``.

        Example:
            >>> Files.from_parquet("data/train.parquet", image="file", label="species")
        """
        return cls._from_table(csv_parquet.read_parquet, path, image, label, root, classes, order)

    @classmethod
    def _from_table(
        cls,
        read: Callable[[str, str, str | None, csv_parquet.Naming], csv_parquet.LabelledPaths],
        path: str | os.PathLike[str],
        image: str,
        label: str | None,
        root: str | os.PathLike[str] | None,
        classes: Sequence[str] | None,
        order: ClassOrder,
    ) -> Files:
        name = listing.need_local(os.fspath(path))
        base = os.path.dirname(name) if root is None else listing.need_local(os.fspath(root))
        table = read(name, image, label, csv_parquet.Naming(check_order(classes, order), order))
        listing.need_all_local(table.images)
        files = Paths(os.path.join(base, path) for path in table.images)
        listing.warn_of_unread_names(name, files)
        return cls(files, table.labels, table.classes)

    @property
    def paths(self) -> Paths:
        """The files, as given."""
        return self.files

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels, as given, int64 ``[n]``."""
        return self.integers

    def to_dict(self) -> dict[str, Any]:
        """``paths``, ``labels`` and ``classes``."""
        data = {"source": "Files", "paths": list(self.files), "labels": self.integers.tolist()}
        return data | ({"classes": list(self.classes)} if self.classes else {})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Files):
            return NotImplemented
        return (
            self.files == other.files
            and np.array_equal(self.integers, other.integers)
            and self.classes == other.classes
        )

    def __hash__(self) -> int:
        return hash((self.files, self.integers.tobytes(), self.classes))

    def __str__(self) -> str:
        return f"Files({len(self)} paths)"


def _special(paths: Paths) -> Iterator[int]:
    """The indices of pipes, devices and sockets. Listing a folder finds them without a look at each file."""
    blob, begins = paths.blob, paths.offsets.tolist()
    names = [max(begin, blob.rfind(b"/", begin, end) + 1) for begin, end in itertools.pairwise(begins)]
    counts = Counter(blob[begin:name] for begin, name in zip(begins, names, strict=False))
    odd = {folder: _odd_names(folder, count) for folder, count in counts.items()}
    if not any(others is None or others for others in odd.values()):
        return
    for index, (begin, name, end) in enumerate(zip(begins, names, begins[1:], strict=False)):
        others = odd[blob[begin:name]]
        if others is None or blob[name:end] in others:
            try:
                if file_input.special(os.stat(blob[begin:end]).st_mode):
                    yield index
            except (OSError, ValueError):
                pass  # missing: raises when it is read


def _odd_names(folder: bytes, count: int) -> frozenset[bytes] | None:
    """The names in a folder that aren't regular files; ``None`` where the folder isn't listed."""
    if count < _FEW:
        return None
    names = []
    try:
        with os.scandir(folder or b".") as entries:
            for seen, entry in enumerate(entries):
                if seen > _MANY * count:
                    return None
                if not entry.is_file(follow_symlinks=False):
                    names.append(entry.name)
    except (OSError, ValueError):
        return None
    return frozenset(names)
