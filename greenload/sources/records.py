"""Reads files of records, many images in each, at random through an index."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from greenload.errors import RecordError, SourceError
from greenload.public import public
from greenload.sources import listing, record_readers
from greenload.sources.base import UNREADABLE, file_stamp
from greenload.sources.formats import record_index, tf_example, tfrecord
from greenload.sources.formats.record_index import RecordIndex
from greenload.sources.record_files import files_in, files_of_pattern
from greenload.sources.record_readers import ByteRange
from greenload.specs import ENCODED_SPEC, ImageSpec
from greenload.system import file_input, forking

Kind = Literal["plain", "gzip", "zlib", "array_record"]
IMAGE_KEYS = ("image/encoded", "image")
"""The keys that images are looked for under, unless one is named: TensorFlow's ImageNet scripts', and TFDS's."""
LABEL_KEYS = ("image/class/label", "label")
"""The keys that labels are looked for under, unless one is named."""


@dataclass(frozen=True)
class FilePart:
    """A range of one file's records."""

    path: str
    kind: Kind
    skip: int = 0
    take: int | None = None
    """How many records; ``None`` for all that follow."""
    held: int | None = None
    """How many records the whole file must hold; ``None`` where that is unknown."""


@dataclass(frozen=True)
class RecordTable:
    """Where each sample of a set is."""

    paths: tuple[str, ...]
    bounds: NDArray[np.int64]
    """The first sample of each file, and the end: int64 ``[files + 1]``."""
    numbers: NDArray[np.int64]
    """The number of each file's first sample among its records, int64 ``[files]``."""
    index: RecordIndex

    def file(self, index: Any) -> Any:
        """Which file a sample, or each of several, lies in."""
        return np.searchsorted(self.bounds, index, "right") - 1


class RecordSource:
    """A source of files of ``tf.train.Example`` records. Its subclasses give the files and the keys."""

    def parts(self) -> tuple[FilePart, ...]:
        """The ranges of files that make up the set, in order."""
        raise NotImplementedError

    def keys(self) -> tuple[str, str | None]:
        """The keys of image and label in each record; ``None`` for labels all 0."""
        raise NotImplementedError

    @property
    def sequential(self) -> bool:
        """Whether records can only be read in order, since their files are compressed."""
        return any(part.kind in ("gzip", "zlib") for part in self.parts())

    @forking.cached_property
    def table(self) -> RecordTable:
        """Where each sample is. Read from the files' indices, or built, when first needed.

        Raises:
            SourceError: a file is damaged, a key is missing, or there are no records.
        """
        parts, (image, label) = self.parts(), self.keys()
        indices = [_part_index(part, image, label) for part in parts]
        counts = [len(index.records) for index in indices]
        if not sum(counts):
            raise SourceError(f"{self}: there are no records in {len(parts)} files: name others")
        bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        numbers = np.array([part.skip for part in parts], np.int64)
        return RecordTable(tuple(part.path for part in parts), bounds, numbers, record_index.joined(indices))

    @forking.cached_property
    def _reader(self) -> record_readers.Reader:
        kinds = {part.kind for part in self.parts()}
        if "array_record" in kinds:
            return record_readers.ArrayRecordReader()
        return record_readers.PlainReader() if kinds == {"plain"} else record_readers.SequentialReader()

    @property
    def spec(self) -> ImageSpec:
        """Encoded bytes."""
        return ENCODED_SPEC

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels in the records, int64 ``[n]``; 0 in a record without one, which can't be read either."""
        return self.table.index.labels

    @property
    def mean_bytes(self) -> float:
        """Mean bytes of an image."""
        return float(np.maximum(self.table.index.lengths, 0).mean())

    def __len__(self) -> int:
        return len(self.table.index.records)

    def name(self, index: int) -> str:
        """The file's path and the record's number in it: ``"train-00001.tfrecord[17]"``."""
        table = self.table
        number = range(len(self))[index]
        file = int(table.file(number))
        return f"{table.paths[file]}[{number - int(table.bounds[file]) + int(table.numbers[file])}]"

    def read(self, index: int) -> bytes:
        """One record's image.

        Raises:
            RecordError: it can't be read, or the record lacks an image or a label.
        """
        number = range(len(self))[index]
        image = self.read_many([number])[0]
        if image is None:
            raise RecordError(self.name(number), self._reason(number))
        return image

    def read_many(self, indices: Sequence[int] | NDArray[np.int64]) -> list[bytes | None]:
        """Several records' images, with as few reads as possible; ``None`` for those that can't be read."""
        numbers = np.asarray(indices, np.int64)
        good = np.flatnonzero(self.table.index.lengths[numbers] >= 0)
        ranges = self._ranges(numbers[good], self.table.index.starts, self.table.index.lengths)
        images: list[bytes | None] = [None] * len(numbers)
        for position, data in zip(good.tolist(), self._reader.read(ranges), strict=True):
            images[position] = data
        return images

    def damaged(self, indices: Sequence[int] | NDArray[np.int64]) -> list[int]:
        """The records, among some, whose bytes don't fit their checksum. ArrayRecord files are checked on reading."""
        numbers = np.asarray(indices, np.int64)
        if isinstance(self._reader, record_readers.ArrayRecordReader):
            return []
        index = self.table.index
        wanted = self._ranges(numbers, index.records + tfrecord.HEADER, index.sizes + tfrecord.FOOTER)
        bodies = self._reader.read(wanted)
        intact = tfrecord.intact([data or b"" for data in bodies])
        return [i for i, good in zip(numbers.tolist(), intact, strict=True) if not good]

    def _ranges(
        self, numbers: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> list[ByteRange]:
        table = self.table
        columns = (table.file(numbers), table.index.records[numbers], starts[numbers], lengths[numbers])
        return [
            ByteRange(table.paths[file], record, start, length)
            for file, record, start, length in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def _reason(self, index: int) -> str:
        """Why a record has no image."""
        record = np.array([index])
        table = self.table
        in_array = isinstance(self._reader, record_readers.ArrayRecordReader)
        starts = np.zeros_like(table.index.records) if in_array else table.index.records + tfrecord.HEADER
        message = self._reader.read(self._ranges(record, starts, table.index.sizes))[0]
        if message is None:
            return f"{UNREADABLE}: the file has changed, or is damaged there"
        try:
            tf_example.locate(message, *self.keys())
        except tf_example.ExampleError as error:
            return str(error)
        return f"{UNREADABLE}: the file has changed since it was indexed"

    def fingerprint(self) -> str:
        """A digest of the files' paths, sizes and times of change, and of what is read of them."""
        digest = hashlib.blake2b(repr(self.keys()).encode(), digest_size=16)
        for part in self.parts():
            text = f"{part.path}\0{part.skip}\0{part.take}\0{file_stamp(part.path)}\n"
            digest.update(text.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        # Its arguments alone: open files can't be pickled, and an index is stored with its file.
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


def _part_index(part: FilePart, image: str, label: str | None) -> RecordIndex:
    wanted = record_index.stamp(part.path, part.kind, image, label)
    index = record_index.recall(part.path, wanted)
    if index is None:
        if part.kind == "array_record":
            index = record_readers.build_array_record(part.path, image, label)
        else:
            index = record_index.build(part.path, part.kind, image, label)
        record_index.remember(part.path, wanted, index)
    if part.held not in (None, len(index.records)):
        raise SourceError(
            f"{part.path}: holds {len(index.records)} records, but its dataset's description says {part.held}: "
            "copy the file anew, or prepare the dataset anew"
        )
    if not part.skip and part.take is None:
        return index
    cut = slice(part.skip, None if part.take is None else part.skip + part.take)
    return RecordIndex(*(getattr(index, field.name)[cut] for field in fields(RecordIndex)))


@public
@dataclass(frozen=True)
class TFRecords(RecordSource):
    """TFRecord files of ``tf.train.Example`` messages, each with one encoded image and one integer label.

    Plain files get an index of where their images are, built once (from 0.8 GB/s for images of 1 kB; more for larger
    ones) and kept beside each file as ``NAME.index``, or, where that can't be written or is no index, in the user's
    cache folder; it is built anew when the file's size or time of change, or the keys, are others. With it records have
    random access: any order, shards, and resuming cost nothing. The checksums of lengths are tested when the index is
    built, those of the records' bytes by ``greenload check`` and ``verify``.

    Files compressed as a whole with gzip or zlib can only be read in order: ``Shuffle`` is refused, and shards and
    resuming decompress what they skip. ``greenload pack`` makes plain files of them.

    Args:
        data: a folder, a glob pattern, one file, or a list of files in order. Of a folder and a pattern hidden files
            and folders are left out, and what systems leave behind (``__MACOSX``, …), as by ``ImageFolder``.
        image: the key of the image; ``"image/encoded"`` or ``"image"``, whichever the first record has, if not given.
        label: the key of the label; ``"image/class/label"`` or ``"label"`` if not given; ``None`` for labels all 0.

    Raises:
        SourceError: nothing is there, or it is an address (``gs://…``); at first use also: a file holds no TFRecords,
            is cut or damaged (names the file and the byte), or a key is in no record (names those found).

    Example:
        >>> TFRecords("data/train-*.tfrecord")
        >>> TFRecords("data/packed", image="png", label="digit")
    """

    data: str | tuple[str, ...]
    image: str
    label: str | None

    def __init__(
        self, data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], image: str = "", label: str | None = ""
    ) -> None:
        try:
            given = os.fspath(data) if isinstance(data, (str, os.PathLike)) else tuple(os.fspath(path) for path in data)
        except TypeError as error:
            raise SourceError(f"TFRecords takes a folder, a pattern, a file or a list of files, but {error}") from None
        for path in (given,) if isinstance(given, str) else given:
            listing.need_local(path)
        object.__setattr__(self, "data", given)
        object.__setattr__(self, "image", image)
        object.__setattr__(self, "label", label)
        if not given:
            raise SourceError("TFRecords needs at least one file, but the list is empty")
        if isinstance(given, str) and not os.path.exists(given) and not glob.has_magic(given):
            raise SourceError(f"{given}: TFRecords needs a folder, files or a pattern, but this does not exist")

    @forking.cached_property
    def files(self) -> tuple[str, ...]:
        """The files, in order.

        Raises:
            SourceError: there are none, or those of a folder are not one whole set.
        """
        if isinstance(self.data, tuple):
            return self.data
        if os.path.isdir(self.data):
            return files_in(self.data)
        if os.path.exists(self.data):
            return (self.data,)
        files = files_of_pattern(self.data)
        if not files:
            raise SourceError(f"{self.data}: no file is of this pattern: correct it")
        return files

    @forking.cached_property
    def _parts(self) -> tuple[FilePart, ...]:
        return tuple(FilePart(path, tfrecord.packing(path)) for path in self.files)

    @forking.cached_property
    def _keys(self) -> tuple[str, str | None]:
        first = next((record for path in self.files if (record := tfrecord.first_record(path)) is not None), None)
        if first is None:
            raise SourceError(f"{self}: there are no records in {len(self.files)} files: name others")
        try:
            kinds = tf_example.keys(first)
        except tf_example.ExampleError as error:
            raise SourceError(
                f"{self.files[0]}: records must be tf.train.Example messages, but the first {error}"
            ) from None
        image = _chosen(self.files[0], "image", self.image, IMAGE_KEYS, "bytes", kinds)
        if self.label is None:
            return image, None
        return image, _chosen(self.files[0], "label", self.label, LABEL_KEYS, "int64", kinds)

    def parts(self) -> tuple[FilePart, ...]:
        """Every file, whole."""
        return self._parts

    def keys(self) -> tuple[str, str | None]:
        """The keys as given, or as found in the first record."""
        return self._keys

    @forking.cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes' names, where ``KEY.labels.txt`` lies beside the files, as TFDS and ``greenload pack`` write it;
        else empty."""
        label = self.keys()[1]
        return () if label is None else read_class_names(Path(self.files[0]).parent, label)

    def to_dict(self) -> dict[str, Any]:
        """``data``, ``image`` and ``label``."""
        data = list(self.data) if isinstance(self.data, tuple) else self.data
        return {"source": "TFRecords", "data": data, "image": self.image, "label": self.label}

    def __str__(self) -> str:
        return f"TFRecords({self.data!r})" if isinstance(self.data, str) else f"TFRecords({len(self.data)} files)"


_LARGEST = 64 << 20  # bytes of a list of names


def read_class_names(folder: Path, label: str) -> tuple[str, ...]:
    """The names in ``LABEL.labels.txt``, a line each; empty if there is no such file.

    Raises:
        SourceError: it is not UTF-8 text.
    """
    path = folder / f"{label.replace('/', '.')}.labels.txt"
    try:
        return tuple(file_input.read(path, _LARGEST).decode().splitlines())
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: class names are UTF-8 text, but byte {error.start} is not: copy it anew") from None
    except (OSError, ValueError):
        return ()  # none there, or no name that a file can have


def _chosen(path: str, argument: str, given: str, usual: tuple[str, ...], kind: str, kinds: dict[str, str]) -> str:
    key = given or next((key for key in usual if key in kinds), "")
    shown = ", ".join(f"{name!r} ({values or 'empty'})" for name, values in kinds.items()) or "none"
    if key not in kinds:
        wanted = repr(key) if key else " or ".join(map(repr, usual))
        remedy = f"name one with {argument}=" + (", or pass label=None for labels all 0" if argument == "label" else "")
        raise SourceError(f"{path}: the first record has no {wanted}; its keys: {shown}: {remedy}")
    if kinds[key] != kind:
        raise SourceError(
            f"{path}: {argument} must be one value of {kind}, but {key!r} holds {kinds[key] or 'nothing'}; "
            f"the first record's keys: {shown}"
        )
    return key
