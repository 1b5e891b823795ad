"""Opens sources of samples: folders of images, lists of files, files of records, arrays."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from typing import Any

from greenload.errors import SourceError
from greenload.public import public
from greenload.sources import listing
from greenload.sources.arrays import Arrays
from greenload.sources.base import UNREADABLE, Source, is_source
from greenload.sources.class_order import ClassOrder
from greenload.sources.files import Files, FileSource
from greenload.sources.folder import ImageFolder, any_images
from greenload.sources.record_files import record_files
from greenload.sources.records import RecordSource, TFRecords
from greenload.sources.tfds import TFDS
from greenload.system.json_data import DataError, Value

__all__ = [
    "TFDS",
    "UNREADABLE",
    "Arrays",
    "FileSource",
    "Files",
    "ImageFolder",
    "RecordSource",
    "Source",
    "TFRecords",
    "any_images",
    "from_dict",
    "is_source",
    "open_all",
    "open_folder",
    "read_many",
]


@public
def open_folder(
    folder: str | os.PathLike[str],
    split: str = "train",
    *,
    classes: Sequence[str] | None = None,
    order: ClassOrder = "alphabetical",
) -> Source:
    """The source of a folder, by its content.

    It is ``TFDS`` where there is a ``dataset_info.json`` (as ``greenload pack`` writes it), ``TFRecords`` where there
    are such files, else ``ImageFolder``. So a pipeline can be given a packed set in place of the folder. The argument
    may also be a table (``.csv``, ``.parquet``, with columns ``path`` and ``label``), or a pattern or file of
    TFRecords.

    Args:
        folder: the folder, table, file or pattern.
        split: which split of a TFDS folder.
        classes: the class names in the order of their labels, for class folders and tables.
        order: ``"natural"`` sorts numbers in the names of class folders, or in a table's, by value; ``"alphabetical"``
            as text.

    Raises:
        SourceError: the folder is missing, isn't what it looks like, or is an address (``s3://…``); or ``classes`` or
            ``order`` are given for records, which hold their labels.

    Example:
        >>> open_folder("data/train")
    """
    name = listing.need_local(os.fspath(folder))
    if name.lower().endswith(".csv"):
        return Files.from_csv(name, classes=classes, order=order)
    if name.lower().endswith(".parquet"):
        return Files.from_parquet(name, classes=classes, order=order)
    records = _records(name, split)
    if records is None:
        return ImageFolder(name, classes=classes, order=order)
    if classes is not None or order != "alphabetical":
        raise SourceError(
            f"{name}: classes and order number class folders and tables, but these records hold their labels: leave "
            "them out"
        )
    return records


def _records(name: str, split: str) -> Source | None:
    """The records of a folder, file or pattern; ``None`` if there are none."""
    if not os.path.isdir(name):
        return TFRecords(name) if glob.has_magic(name) or os.path.isfile(name) else None
    names = [entry.name for entry in listing.scan(name)]
    if "dataset_info.json" in names:
        return TFDS(name, split)
    return TFRecords(name) if record_files(names) else None


def open_all(data: str | os.PathLike[str]) -> Source:
    """All images of a folder, of whatever layout: every split, and files outside class folders too.

    Raises:
        SourceError: ``open_folder`` refuses the folder, or there are no images.
    """
    name = listing.need_local(os.fspath(data))
    if not os.path.exists(name) and not glob.has_magic(name):
        return any_images(name)
    source = open_folder(name)
    if isinstance(source, TFDS):
        return TFDS(name, "+".join(source.splits) or "train")
    return any_images(name) if isinstance(source, ImageFolder) else source


def read_many(source: Source, indices: Sequence[int]) -> list[Any]:
    """Several records' images, with as few reads as the source allows.

    Raises:
        RecordError: one can't be read; names the first.
    """
    if not isinstance(source, RecordSource):
        return [source.read(index) for index in indices]
    images = source.read_many(indices)
    # A record that failed is read once more by itself, which raises the reason.
    return [source.read(index) if data is None else data for index, data in zip(indices, images, strict=True)]


def from_dict(data: Mapping[str, Any]) -> Source:
    """The source that ``to_dict`` described.

    Raises:
        SourceError: the kind is unknown, an argument is lacking or of another type, or it is ``Arrays``, whose pixels
            aren't in it.
    """
    try:
        return _from_value(Value(data))
    except DataError as error:
        raise SourceError(f"a source's description can't be used: {error}") from None


def _from_value(value: Value) -> Source:
    match value.field("source").text(among=("ImageFolder", "Files", "TFRecords", "TFDS", "Arrays")):
        case "ImageFolder":
            classes, order = value.given("classes"), value.get("order")
            natural = order is not None and order.text(among=("alphabetical", "natural")) == "natural"
            return ImageFolder(
                value.field("root").path(),
                value.field("min_classes").integer(),
                classes=[name.text() for name in classes.list()] if classes else None,
                order="natural" if natural else "alphabetical",
            )
        case "Files":
            paths = [path.path() for path in value.field("paths").list()]
            labels = [label.integer() for label in value.field("labels").list()]
            classes = value.get("classes")
            return Files(paths, labels, [name.text() for name in classes.list()] if classes else ())
        case "TFRecords":
            data = value.field("data")
            files = [path.path() for path in data.list()] if isinstance(data.data, (list, tuple)) else data.path()
            return TFRecords(files, *_keys(value))
        case "TFDS":
            name, split, folder = value.field("data").path(), value.field("split").text(), value.given("data_dir")
            return TFDS(name, split, folder.path() if folder else None, *_keys(value))
        case _:
            raise SourceError("the description of an Arrays source holds no pixels: pass them as source=Arrays(...)")


def _keys(value: Value) -> tuple[str, str | None]:
    """The keys of image and label; null for labels all 0."""
    label = value.field("label")
    return value.field("image").text(), None if label.data is None else label.text()
