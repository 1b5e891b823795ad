"""Describes a packed folder as TFDS does: the names of its shards, its features and its classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from greenload.sources import Source

Format = Literal["tfrecord", "arrayrecord"]
NAME, SPLIT = "packed", "train"
"""What the dataset and its one split are called in the folder's TFDS description."""
_FEATURES = "tensorflow_datasets.core.features"


def shard_names(format: Format, count: int) -> list[str]:
    """The names of all shards, by TFDS's template."""
    return [f"{NAME}-{SPLIT}.{_file_format(format)}-{number:05}-of-{count:05}" for number in range(count)]


def _file_format(format: Format) -> str:
    return "tfrecord" if format == "tfrecord" else "array_record"


def describe(
    folder: Path, source: Source, order: NDArray[np.int64], shards: Sequence[int], format: Format, seed: int
) -> None:
    """Write the files that TFDS writes beside a dataset's shards.

    Args:
        folder: of the shards, which have their names.
        source: that the records are from.
        order: the index in the source of each record, int64 ``[n]``.
        shards: how many records each shard has.
        format: of the shards.
        seed: that decided the order, for the description.
    """
    labels = source.labels[order]
    classes: tuple[str, ...] = getattr(source, "classes", ())
    written = [folder / name for name in shard_names(format, len(shards))]
    image = {
        "pythonClassName": f"{_FEATURES}.image_feature.Image",
        "image": {"dtype": "uint8", "shape": {"dimensions": ["-1", "-1", "3"]}},
    }
    label: dict[str, Any] = {
        "pythonClassName": f"{_FEATURES}.class_label_feature.ClassLabel",
        "classLabel": {"numClasses": str(max(len(classes), int(labels.max()) + 1))},
    }
    if labels.min() < 0:  # which no class of TFDS's can be
        label = {
            "pythonClassName": f"{_FEATURES}.tensor_feature.Tensor",
            "tensor": {"shape": {}, "dtype": "int64", "encoding": "none"},
        }
    features = {
        "pythonClassName": f"{_FEATURES}.features_dict.FeaturesDict",
        "featuresDict": {"features": {"image": image, "label": label}},
    }
    info = {
        "name": NAME,
        "version": "1.0.0",
        "description": f"Packed by greenload from {source}, in random order of seed {seed}.",
        "fileFormat": _file_format(format),
        "splits": [
            {
                "name": SPLIT,
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "shardLengths": [str(count) for count in shards],
                "numBytes": str(sum(file.stat().st_size for file in written)),
            }
        ],
        "supervisedKeys": {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}},
    }
    if classes:
        names = "".join(f"{name.encode('unicode_escape').decode() if _odd(name) else name}\n" for name in classes)
        (folder / "label.labels.txt").write_text(names, "utf-8")
    (folder / "features.json").write_text(json.dumps(features, indent=1) + "\n", "utf-8")
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=1) + "\n", "utf-8")


def _odd(name: str) -> bool:
    """Whether a name can't be a line of a UTF-8 file."""
    return not name.isprintable() or name != name.strip()
