"""Opens prepared tensorflow-datasets folders without building or downloading; whole splits need no TFDS."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from greenload.errors import SourceError
from greenload.public import public
from greenload.sources import listing
from greenload.sources.formats import tfrecord
from greenload.sources.records import FilePart, Kind, RecordSource, read_class_names
from greenload.system import forking, json_data
from greenload.system.frameworks import imports_of_extra
from greenload.system.json_data import DataError, Value
from greenload.text import one_line

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"  # TFDS's core/naming.py
_FIELD = re.compile(r"\{([^{}]*)\}")
_Read = TypeVar("_Read")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


@public
@dataclass(frozen=True)
class TFDS(RecordSource):
    """A dataset that tensorflow-datasets has prepared, as TFRecord or ArrayRecord files.

    Nothing is downloaded or built. Images are read as the bytes that TFDS stored, undecoded, in the files' order.
    ArrayRecord files are read once to index them; indices are kept as ``TFRecords`` keeps them. Whole splits and sums
    of them (``"train+test"``) need no TFDS; for parts of splits (``"train[:10%]"``) it is imported.

    Args:
        data: the folder of a dataset, or of its version; or a name, ``"mnist"``, ``"name/config:1.0.0"``. Without a
            version it is the newest.
        split: which split, or TFDS's notation for parts of splits.
        data_dir: the folder that a name is in; ``$TFDS_DATA_DIR`` or ``~/tensorflow_datasets`` if not given.
        image: the feature of the image; the only feature of kind ``Image`` if not given.
        label: the feature of the label; the only ``ClassLabel``, or the supervised one, if not given; ``None`` for
            labels all 0.

    Raises:
        SourceError: there is no prepared dataset, no such split or feature, its files are of another kind,
            incomplete or outside its folder, or a path is an address (``gs://…``).
        BackendUnavailable: at first use: TFDS or array_record is needed and missing.

    Example:
        >>> TFDS("cifar10", split="train")
        >>> TFDS("data/my_dataset/1.0.0", split="train[:10%]")
    """

    data: str
    split: str
    data_dir: str | None
    image: str
    label: str | None

    def __init__(
        self,
        data: str | os.PathLike[str],
        split: str = "train",
        data_dir: str | os.PathLike[str] | None = None,
        image: str = "",
        label: str | None = "",
    ) -> None:
        object.__setattr__(self, "data", listing.need_local(os.fspath(data)))
        object.__setattr__(self, "split", split)
        object.__setattr__(self, "data_dir", None if data_dir is None else listing.need_local(os.fspath(data_dir)))
        object.__setattr__(self, "image", image)
        object.__setattr__(self, "label", label)
        _ = self.folder

    @forking.cached_property
    def folder(self) -> Path:
        """The folder of the dataset's version."""
        if self.data_dir is None and os.path.isdir(self.data):
            folder, version = Path(self.data), ""
        else:
            name, _, version = self.data.partition(":")
            root = self.data_dir or os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")
            root = listing.need_local(root)
            folder = Path(root) / name
        if (folder / "dataset_info.json").is_file():
            return folder
        if folder.is_dir():
            versions = [
                p for p in folder.iterdir() if _VERSION.fullmatch(p.name) and (p / "dataset_info.json").is_file()
            ]
            fitting = [p for p in versions if version in ("", p.name)]
            if fitting:
                return max(fitting, key=lambda p: tuple(map(int, p.name.split("."))))
        raise SourceError(
            f"{folder}: no prepared dataset{f' of version {version}' if version else ''} (no dataset_info.json): run "
            f"tfds build, or tfds.builder({self.data!r}, data_dir=...).download_and_prepare()"
        )

    @forking.cached_property
    def _info(self) -> _Info:
        return _read(self.folder / "dataset_info.json", _info_of)

    @forking.cached_property
    def _features(self) -> dict[str, str]:
        """The features' kinds by name."""
        if not (self.folder / "features.json").is_file():
            raise SourceError(
                f"{self.folder}: has no features.json, which TFDS writes since version 4.3: prepare the dataset anew"
            )
        return _read(self.folder / "features.json", _features_of)

    @forking.cached_property
    def _parts(self) -> tuple[FilePart, ...]:
        kind = self._info.file_format
        if kind not in ("tfrecord", "array_record"):
            raise SourceError(
                f"{self.folder}: files must be of format tfrecord or array_record, not {kind!r}: prepare the dataset "
                "with file_format='array_record'"
            )
        whole = self.split.split("+")
        known = all(split in self._splits for split in whole)
        ranges = [part for split in whole for part in self._whole(split)] if known else self._sliced()
        for folder in {os.path.dirname(path) for path, *_ in ranges}:
            self._check_inside(folder)
        missing = [path for path, *_ in ranges if not os.path.exists(path)]
        if missing:
            raise SourceError(
                f"{missing[0]}: {len(missing)} of the split's files are missing: copy them, or prepare anew"
            )
        return tuple(
            FilePart(path, _kind(path, kind), skip, None if take < 0 else take, held)
            for path, skip, take, held in ranges
        )

    def _check_inside(self, folder: str) -> None:
        """Refuse files in another folder, into which indices would be written. A file may itself be a link."""
        real, root = os.path.realpath(folder), os.path.realpath(self.folder)
        if os.path.commonpath([real, root]) != root:
            raise SourceError(
                f"{self.folder}: a dataset's files must lie in its folder, but dataset_info.json names some in {real}"
                ": copy them into it, or name them with TFRecords"
            )

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the dataset's splits."""
        return tuple(self._splits)

    @property
    def _splits(self) -> Mapping[str, _Split]:
        return self._info.splits

    def _whole(self, name: str) -> list[tuple[str, int, int, int]]:
        lengths, template = self._splits[name].lengths, self._splits[name].template
        digits = max(5, len(str(len(lengths))))
        ranges = []
        for number, length in enumerate(lengths):
            index, count = f"{number:0{digits}}", f"{len(lengths):0{digits}}"
            try:
                file = _filled(
                    template,
                    DATASET=self._info.name,
                    SPLIT=name,
                    FILEFORMAT=self._info.file_format,
                    SHARD_INDEX=index,
                    NUM_SHARDS=count,
                    SHARD_X_OF_Y=f"{index}-of-{count}",
                )
            except KeyError:
                raise SourceError(f"{self.folder}: files are named by {template!r}, which can't be filled in") from None
            ranges.append((str(self.folder / file), 0, -1, length))
        return ranges

    def _sliced(self) -> list[tuple[str, int, int, int]]:
        base = re.split(r"[\[+]", self.split)[0]
        if self._splits and base not in self._splits:
            raise SourceError(f"{self.folder}: has no split {base!r}; its splits: {', '.join(self._splits) or 'none'}")
        with imports_of_extra("tfds", f"parts of splits ({self.split!r}) need tensorflow-datasets"):
            import tensorflow_datasets as tfds
        try:
            instructions = tfds.builder_from_directory(str(self.folder)).info.splits[self.split].file_instructions
        except Exception as error:  # its own parser's, of whatever kind: the file is foreign to it too
            raise SourceError(f"{self.folder}: split {self.split!r} can't be read: {one_line(error)}") from None
        return [
            (os.fspath(part.filename), int(part.skip), int(part.take), int(part.examples_in_shard))
            for part in instructions
        ]

    @forking.cached_property
    def _keys(self) -> tuple[str, str | None]:
        image = self._feature("image", self.image, "Image", ())
        if self.label is None:
            return image, None
        return image, self._feature("label", self.label, "ClassLabel", self._info.supervised)

    def _feature(self, argument: str, given: str, kind: str, preferred: tuple[str, ...]) -> str:
        kinds = self._features
        shown = ", ".join(f"{name!r} ({what})" for name, what in kinds.items())
        if given:
            if given not in kinds:
                raise SourceError(f"{self.folder}: has no feature {given!r}; its features: {shown}: name one of them")
            return given
        fitting = [name for name, what in kinds.items() if what == kind]
        fitting = [name for name in fitting if name in preferred] or fitting
        if not fitting and kind == "ClassLabel":  # labels that are plain numbers
            fitting = [name for name in preferred if kinds.get(name) in ("Tensor", "Scalar")]
        if len(fitting) != 1:
            remedy = f"name one with {argument}=" + (", or pass label=None for labels all 0" if kind != "Image" else "")
            raise SourceError(
                f"{self.folder}: has {len(fitting)} features of kind {kind}; its features: {shown}: {remedy}"
            )
        return fitting[0]

    def parts(self) -> tuple[FilePart, ...]:
        """The split's ranges of files."""
        return self._parts

    def keys(self) -> tuple[str, str | None]:
        """The features that are image and label."""
        return self._keys

    @forking.cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes' names; empty where the dataset names none."""
        label = self.keys()[1]
        return () if label is None else read_class_names(self.folder, label)

    def to_dict(self) -> dict[str, Any]:
        """The arguments."""
        return {
            "source": "TFDS",
            "data": self.data,
            "split": self.split,
            "data_dir": self.data_dir,
            "image": self.image,
            "label": self.label,
        }

    def __str__(self) -> str:
        return f"TFDS({self.data!r}, split={self.split!r})"


def _kind(path: str, kind: str) -> Kind:
    return "array_record" if kind == "array_record" else tfrecord.packing(path)


def _filled(template: str, **values: str) -> str:
    """A template with its fields filled in. No ``str.format``: a foreign template could ask for gigabytes of blanks."""
    return _FIELD.sub(lambda field: values[field[1]], template)


@dataclass(frozen=True)
class _Split:
    """One split of a dataset's description."""

    lengths: tuple[int, ...]
    """Records of each file."""
    template: str
    """How files are named."""


@dataclass(frozen=True)
class _Info:
    """The fields of ``dataset_info.json`` that are used."""

    name: str
    file_format: str
    splits: Mapping[str, _Split]
    supervised: tuple[str, ...]
    """The features that the dataset's authors declare as input and label."""


def _info_of(value: Value) -> _Info:
    name, kind = value.given("name"), value.given("fileFormat")
    splits = [(split.field("name").name(), _split_of(split)) for split in _listed(value, "splits")]
    if len(dict(splits)) < len(splits):
        raise DataError("splits must have different names")
    return _Info(
        name.name() if name and name.data else "",
        kind.name() if kind and kind.data else "tfrecord",
        dict(splits),
        tuple(key.name() for key in _supervised(value)),
    )


def _split_of(split: Value) -> _Split:
    template = split.given("filepathTemplate")
    lengths = tuple(_count(length) for length in _listed(split, "shardLengths"))
    return _Split(lengths, template.name() if template and template.data else _TEMPLATE)


def _count(length: Value) -> int:
    """A number of records: TFDS writes them as text, since protocol buffers' JSON has no integers of 64 bits."""
    text = length.data
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 20:
        return Value(int(text), length.place).integer(0)
    return length.integer(0)


def _supervised(value: Value) -> list[Value]:
    keys = value.given("supervisedKeys")
    pair = keys.given("tuple") if keys else None
    given = [item.given("featureKey") for item in _listed(pair, "items")] if pair else []
    return [key for key in given if key is not None]


def _listed(value: Value, name: str) -> list[Value]:
    listed = value.given(name)
    return listed.list() if listed else []


def _features_of(value: Value) -> dict[str, str]:
    features = value.field("featuresDict").field("features")
    kinds: dict[str, str] = {}
    for name, spec in features.mapping().items():
        kind = spec.given("pythonClassName")
        kinds[Value(name, f"a name in {features.place}").name()] = kind.name().rpartition(".")[2] if kind else ""
    if not kinds:
        features.refuse("an object that names features")
    return kinds


def _read(path: Path, take: Callable[[Value], _Read]) -> _Read:
    """A description that TFDS wrote, parsed.

    Raises:
        SourceError: it can't be read, or isn't what TFDS writes.
    """
    try:
        return take(json_data.load(path))
    except OSError as error:
        raise SourceError(f"{path}: can't be read: {error.strerror}") from None
    except DataError as error:
        raise SourceError(f"{path}: is no description by TFDS: {error}; prepare the dataset anew") from None
