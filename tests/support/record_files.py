"""Files of records made by TensorFlow and TFDS themselves: what our own reading is held against."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenload.loading.pack import pack
from greenload.sources import TFDS, Arrays, Files, ImageFolder, Source, TFRecords
from greenload.sources.formats import tfrecord

CLASSES = ("ant", "bee", "cat")
COUNT = 17


def photos(count: int = COUNT, side: int = 24) -> list[bytes]:
    """JPEGs, each another."""
    import tensorflow as tf

    random = np.random.default_rng(5)
    tiles = random.integers(0, 256, (count, 3, 3, 3)).astype(np.float32)
    pixels = tf.cast(tf.clip_by_value(tf.image.resize(tiles, (side, side), "bicubic"), 0, 255), tf.uint8)
    return [bytes(tf.io.encode_jpeg(image).numpy()) for image in pixels]


def example(features: Mapping[str, Any]) -> bytes:
    """A serialized ``tf.train.Example``, by TensorFlow."""
    import tensorflow as tf

    def feature(value: Any) -> Any:
        values = value if isinstance(value, list) else [value]
        if values and isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if values and isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    made = tf.train.Example(features=tf.train.Features(feature={key: feature(v) for key, v in features.items()}))
    return bytes(made.SerializeToString())


def write(path: Path, records: Sequence[bytes], compression: str = "") -> Path:
    """A TFRecord file, by TensorFlow."""
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression or None) as file:
        for record in records:
            file.write(record)
    return path


def labelled(images: Sequence[bytes]) -> list[bytes]:
    """Records of images as TensorFlow's ImageNet scripts write them; image ``i`` has label ``i % 3``."""
    return [
        example(
            {
                "image/encoded": image,
                "image/class/label": i % len(CLASSES),
                "image/filename": f"{i}.jpg".encode(),
                "image/object/bbox/xmin": [0.25, 0.5],
            }
        )
        for i, image in enumerate(images)
    ]


def class_folder(root: Path, images: Sequence[bytes]) -> Path:
    """The images in class folders, so that ``ImageFolder`` lists them in their order of label, then number."""
    for i, image in enumerate(images):
        place = root / CLASSES[i % len(CLASSES)]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:03}.jpg").write_bytes(image)
    return root


def tfds_folder(root: Path, images: Sequence[bytes], file_format: str) -> Path:
    """A dataset that TFDS prepares; returns its ``data_dir``."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc,name-defined,call-arg]
        VERSION = tfds.core.Version("1.2.0")

        def _info(self) -> Any:
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=list(CLASSES)),
                "id": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
            )

        def _split_generators(self, _: Any) -> Any:
            return {"train": self._examples(0, len(images)), "test": self._examples(0, 5)}

        def _generate_examples(self, *_: Any) -> Any:
            raise NotImplementedError

        def _examples(self, begin: int, end: int) -> Any:
            for i in range(begin, end):
                place = root / "made" / f"{i}.jpg"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(images[i])
                yield i, {"image": str(place), "label": i % len(CLASSES), "id": str(i)}

    config = tfds.download.DownloadConfig(num_shards=3)
    Tiny(data_dir=root / file_format, file_format=file_format).download_and_prepare(download_config=config)
    return root / file_format


def _files(root: Path, images: Sequence[bytes]) -> Source:
    folder = class_folder(root, images)
    return Files(
        [folder / CLASSES[i % 3] / f"{i:03}.jpg" for i in range(len(images))], [i % 3 for i in range(len(images))]
    )


def _csv(root: Path, images: Sequence[bytes]) -> Source:
    class_folder(root, images)
    with open(root / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "label"), *((f"{CLASSES[i % 3]}/{i:03}.jpg", CLASSES[i % 3]) for i in range(len(images)))]
        )
    return Files.from_csv(root / "list.csv")


def _parquet(root: Path, images: Sequence[bytes]) -> Source:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    class_folder(root, images)
    rows = range(len(images))
    columns = {"file": [f"{CLASSES[i % 3]}/{i:03}.jpg" for i in rows], "class": [i % 3 for i in rows]}
    parquet.write_table(pyarrow.table(columns), root / "list.parquet")
    return Files.from_parquet(root / "list.parquet", image="file", label="class")


def _records(root: Path, images: Sequence[bytes]) -> Source:
    records = labelled(images)
    write(root / "part-00000-of-00003", records[:6])
    write(root / "part-00001-of-00003", [])
    write(root / "part-00002-of-00003", records[6:])
    return TFRecords(root)


def _compressed(root: Path, images: Sequence[bytes]) -> Source:
    path = root / "all.tfrecord.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(tfrecord.framed(labelled(images))))
    return TFRecords(path)


def _deflated(root: Path, images: Sequence[bytes]) -> Source:
    path = root / "all.tfrecord"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zlib.compress(tfrecord.framed(labelled(images))))
    return TFRecords([path])


def _tfds(file_format: str) -> Callable[[Path, Sequence[bytes]], Source]:
    return lambda root, images: TFDS("tiny", data_dir=tfds_folder(root, images, file_format))


def _packed(format: Any) -> Callable[[Path, Sequence[bytes]], Source]:
    def made(root: Path, images: Sequence[bytes]) -> Source:
        if format == "arrayrecord" and importlib.util.find_spec("array_record") is None:
            pytest.skip("array_record is not installed")
        folder = class_folder(root / "folder", images)
        pack(ImageFolder(folder), root / "packed", format=format, shard_mb=0.003, threads=2)
        return TFDS(root / "packed") if format == "arrayrecord" else TFRecords(root / "packed")

    return made


def _arrays(root: Path, images: Sequence[bytes]) -> Source:
    import tensorflow as tf

    pixels = np.stack([tf.io.decode_jpeg(image, dct_method="INTEGER_ACCURATE").numpy() for image in images])
    return Arrays(pixels, np.arange(len(images)) % 3)


SOURCES: dict[str, Callable[[Path, Sequence[bytes]], Source]] = {
    "ImageFolder": lambda root, images: ImageFolder(class_folder(root, images)),
    "Files": _files,
    "csv": _csv,
    "parquet": _parquet,
    "Arrays": _arrays,
    "TFRecords": _records,
    "TFRecords, gzip": _compressed,
    "TFRecords, zlib": _deflated,
    "TFDS, tfrecord": _tfds("tfrecord"),
    "TFDS, array_record": _tfds("array_record"),
    "packed, tfrecord": _packed("tfrecord"),
    "packed, arrayrecord": _packed("arrayrecord"),
}
"""Every kind of source, made below a folder from the same images; labels are ``i % 3`` of image ``i``."""
