"""Prepared tensorflow-datasets folders, opened without building, downloading, or (for whole splits) importing TFDS."""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greenload import listing, tfrecord
from greenload.errors import BackendUnavailable, SourceError
from greenload.sources.records import Kind, Part, RecordSource, class_names

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"  # TFDS's core/naming.py
_VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True)
class TFDS(RecordSource):
    """A dataset that tensorflow-datasets has prepared, as TFRecord or ArrayRecord files.

    Nothing is downloaded or built. Images flow as the bytes that TFDS stored, undecoded, in the files' order.
    ArrayRecord files are indexed by reading them once; what holds for ``TFRecords``' indices holds here. Whole splits
    and sums of them (``"train+test"``) need no TFDS; parts of them (``"train[:10%]"``) are worked out by it.

    Args:
        data: the folder of a dataset, or of its version; or a name, ``"mnist"``, ``"name/config:1.0.0"``. The newest
            version where none is named.
        split: which split, or TFDS's notation for parts of splits.
        data_dir: where a name is looked for; ``$TFDS_DATA_DIR`` or ``~/tensorflow_datasets`` if not given.
        image: the feature that is the image; the only one of kind ``Image`` if not given.
        label: the feature that is the label; the only ``ClassLabel``, or the supervised one, if not given; ``None`` for
            labels all 0.

    Raises:
        SourceError: there is no prepared dataset, no such split or feature, its files are of another kind or
            incomplete, or a path is an address (``gs://…``).
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

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the dataset's version."""
        if self.data_dir is None and os.path.isdir(self.data):
            place, version = Path(self.data), ""
        else:
            name, _, version = self.data.partition(":")
            root = self.data_dir or os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")
            root = listing.need_local(root)
            place = Path(root) / name
        if (place / "dataset_info.json").is_file():
            return place
        if place.is_dir():
            versions = [
                p for p in place.iterdir() if _VERSION.fullmatch(p.name) and (p / "dataset_info.json").is_file()
            ]
            found = [p for p in versions if version in ("", p.name)]
            if found:
                return max(found, key=lambda p: tuple(map(int, p.name.split("."))))
        raise SourceError(
            f"{place}: no prepared dataset{f' of version {version}' if version else ''} (no dataset_info.json): run "
            f"tfds build, or tfds.builder({self.data!r}, data_dir=...).download_and_prepare()"
        )

    @functools.cached_property
    def _info(self) -> dict[str, Any]:
        return read_json(self.folder / "dataset_info.json")

    @functools.cached_property
    def _features(self) -> dict[str, Any]:
        if not (self.folder / "features.json").is_file():
            raise SourceError(
                f"{self.folder}: has no features.json, which TFDS writes since version 4.3: prepare the dataset anew"
            )
        found = read_json(self.folder / "features.json").get("featuresDict", {}).get("features", {})
        if not isinstance(found, dict) or not found:
            raise SourceError(f"{self.folder}: features.json names no features: prepare the dataset anew")
        return found

    @functools.cached_property
    def _parts(self) -> tuple[Part, ...]:
        kind = self._info.get("fileFormat") or "tfrecord"
        if kind not in ("tfrecord", "array_record"):
            raise SourceError(
                f"{self.folder}: files must be of format tfrecord or array_record, not {kind!r}: prepare the dataset "
                "with file_format='array_record'"
            )
        whole = self.split.split("+")
        known = all(split in self._splits for split in whole)
        stretches = [stretch for split in whole for stretch in self._whole(split)] if known else self._sliced()
        missing = [path for path, *_ in stretches if not os.path.exists(path)]
        if missing:
            raise SourceError(
                f"{missing[0]}: {len(missing)} of the split's files are missing: copy them, or prepare anew"
            )
        return tuple(
            Part(path, _kind(path, kind), skip, None if take < 0 else take, held)
            for path, skip, take, held in stretches
        )

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the dataset's splits."""
        return tuple(self._splits)

    @property
    def _splits(self) -> dict[str, Any]:
        return {split["name"]: split for split in self._info.get("splits", [])}

    def _whole(self, name: str) -> list[tuple[str, int, int, int]]:
        split = self._splits[name]
        lengths = split.get("shardLengths") or []
        template = split.get("filepathTemplate") or _TEMPLATE
        digits = max(5, len(str(len(lengths))))
        found = []
        for place, length in enumerate(lengths):
            index, count = f"{place:0{digits}}", f"{len(lengths):0{digits}}"
            try:
                file = template.format(
                    DATASET=self._info.get("name", ""),
                    SPLIT=name,
                    FILEFORMAT=self._info.get("fileFormat") or "tfrecord",
                    SHARD_INDEX=index,
                    NUM_SHARDS=count,
                    SHARD_X_OF_Y=f"{index}-of-{count}",
                )
            except (KeyError, ValueError, IndexError):
                raise SourceError(f"{self.folder}: files are named by {template!r}, which can't be filled in") from None
            found.append((str(self.folder / file), 0, -1, int(length)))
        return found

    def _sliced(self) -> list[tuple[str, int, int, int]]:
        base = re.split(r"[\[+]", self.split)[0]
        if self._splits and base not in self._splits:
            raise SourceError(f"{self.folder}: has no split {base!r}; its splits: {', '.join(self._splits) or 'none'}")
        try:
            import tensorflow_datasets as tfds
        except ImportError as error:
            raise BackendUnavailable(
                f"parts of splits ({self.split!r}) need tensorflow-datasets ({error}): pip install 'greenload[tfds]'"
            ) from None
        try:
            found = tfds.builder_from_directory(str(self.folder)).info.splits[self.split].file_instructions
        except (ValueError, KeyError, AssertionError) as error:
            text = " ".join(str(error).split())
            raise SourceError(f"{self.folder}: split {self.split!r} can't be read: {text[:200]}") from None
        return [
            (os.fspath(part.filename), int(part.skip), int(part.take), int(part.examples_in_shard)) for part in found
        ]

    @functools.cached_property
    def _keys(self) -> tuple[str, str | None]:
        image = self._feature("image", self.image, "Image", ())
        if self.label is None:
            return image, None
        items = self._info.get("supervisedKeys", {}).get("tuple", {}).get("items", [])
        supervised = tuple(item["featureKey"] for item in items if "featureKey" in item)
        return image, self._feature("label", self.label, "ClassLabel", supervised)

    def _feature(self, argument: str, given: str, kind: str, preferred: tuple[str, ...]) -> str:
        kinds = {name: str(spec.get("pythonClassName", "")).rpartition(".")[2] for name, spec in self._features.items()}
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

    def parts(self) -> tuple[Part, ...]:
        """The split's stretches of files."""
        return self._parts

    def keys(self) -> tuple[str, str | None]:
        """The features that are image and label."""
        return self._keys

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes' names; empty where the dataset names none."""
        label = self.keys()[1]
        return () if label is None else class_names(self.folder, label)

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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        SourceError: it can't be read, or is none.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SourceError(f"{path}: can't be read: {error.strerror}") from None
    except ValueError as error:
        raise SourceError(f"{path}: is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise SourceError(f"{path}: must hold a JSON object, not {type(found).__name__}")
    return found
