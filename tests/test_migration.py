"""`docs/migration.md`: each item runs both of its lines on the same images and compares pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import greenload as gl

PAGE = Path(__file__).parent.parent / "docs" / "migration.md"
ITEM = re.compile(r"- `([^`]+)`.*<br>\n  → `([^`]+)` \((.+)\)\n")
COUNT, HEIGHT, WIDTH = 6, 80, 100
SAMPLED = ("a window of the same", "one of the same two", "the same set", "where it erases")
"""What stands in brackets where both sides are drawn at random."""


def rows() -> list[tuple[str, str, str]]:
    """Each item's two sides, and by how much they may differ."""
    items = PAGE.read_text(encoding="utf-8").split("<!-- migration -->\n")[1].split("<!-- end -->")[0]
    assert not ITEM.sub("", items), "an item isn't written like the others"
    return [(left, right, difference) for left, right, difference in ITEM.findall(items)]


def halved(image: Any) -> Any:
    return image // 2


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    from sklearn.datasets import load_sample_images

    photo = load_sample_images().images[0]
    return np.stack([photo[30 * i : 30 * i + HEIGHT, 50 * i : 50 * i + WIDTH] for i in range(COUNT)])


@pytest.fixture(scope="module")
def files(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("jpegs")
    for name in ("cat", "dog"):
        (folder / name).mkdir()
    paths = [str(folder / ("cat" if i < 3 else "dog") / f"{i}.jpg") for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Path(path).write_bytes(tf.io.encode_jpeg(image, quality=92).numpy())
    return paths


def parse(record: Any) -> Any:
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
    example = tf.io.parse_single_example(record, features)
    return tf.io.decode_jpeg(example["image"], dct_method="INTEGER_ACCURATE"), example["label"]


def data(files: list[str]) -> dict[str, Any]:
    """What rows that read files call them: their folder, and the same as records."""
    folder = Path(files[0]).parent.parent
    records = str(folder / "all.tfrecord")
    if not Path(records).exists():
        with tf.io.TFRecordWriter(records) as writer:
            for label, path in enumerate(files):
                image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[Path(path).read_bytes()]))
                number = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
                features = tf.train.Features(feature={"image": image, "label": number})
                writer.write(tf.train.Example(features=features).SerializeToString())
    return {"folder": str(folder), "records": records}


def theirs(code: str, images: np.ndarray, files: list[str]) -> Iterator[np.ndarray]:
    """The left side: a dataset, or what it does to a file's bytes or an image."""
    names: dict[str, Any] = {"tf": tf, "keras": keras, "halved": halved, "parse": parse}
    if re.match(r"ds\b|tf\.data|keras\.utils", code):
        ds = tf.data.Dataset.from_tensor_slices((images, np.arange(len(images))))
        for element in eval(code, names | data(files) | {"ds": ds}).as_numpy_iterator():
            yield element if "one_hot" not in code else element[1]
        return
    for image, path in zip(images, files, strict=True):
        yield np.asarray(eval(code, names | {"image": tf.constant(image), "data": tf.io.read_file(path)}))


def ours(code: str, images: np.ndarray, files: list[str]) -> list[Any]:
    """The right side: stages, on the same images."""
    public = {name: getattr(gl, name) for name in gl.__all__}
    first, *rest = stages = eval(f"({code},)", public | data(files) | {"halved": halved})
    labels = np.arange(len(images))
    source = gl.Files(files, labels) if "Decode" in code else gl.Arrays(images, labels)
    if not isinstance(first, gl.stages.Stage):
        source, stages = first, rest
    return list(gl.load(gl.Pipeline(source, *stages, seed=2), epochs=1).as_numpy_iterator())


def test_the_page_has_its_items() -> None:
    assert len(rows()) >= 20
    assert all(difference in SAMPLED or float(difference) >= 0 for _, _, difference in rows())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left", "right", "difference"), [row for row in rows() if row[2] not in SAMPLED], ids=lambda text: text[:40]
)
def test_both_sides_of_a_row_give_the_same_pixels(
    left: str, right: str, difference: str, images: np.ndarray, files: list[str]
) -> None:
    expected = list(theirs(left, images, files))
    found = ours(right, images, files)
    assert len(found) == len(expected) > 0
    for element, other in zip(found, expected, strict=True):
        image = element[1] if "OneHot" in right else element[0]
        other = other[0] if isinstance(other, tuple) else other
        assert image.shape == other.shape
        assert image.dtype == other.dtype or "keras" in left  # whose layers give float32
        gap = np.abs(image.astype(np.float64) - other.astype(np.float64))
        if "Rotation" in left:  # beyond the image Keras fades to zero, as greenload does; compare inside
            gap = gap[20:-20, 30:-30]
        assert gap.max() <= float(difference), gap.max()


@pytest.mark.slow
def test_random_rows_draw_from_the_same_results(images: np.ndarray, files: list[str]) -> None:
    sampled = {right: left for left, right, difference in rows() if difference in SAMPLED}
    assert sorted(sampled) == ["RandomCrop(32, padding=4)", "RandomErasing()", "RandomHorizontalFlip()", "Shuffle()"]
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))

    def both(right: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """What each side makes of each image; the images are in order on both."""
        return list(zip([i for i, _ in ours(right, images, files)], theirs(sampled[right], images, files), strict=True))

    for pair, image in zip(both("RandomCrop(32, padding=4)"), padded, strict=True):
        places = np.lib.stride_tricks.sliding_window_view(image, (32, 32, 3))[:, :, 0]
        assert all((places == window).all(axis=(-3, -2, -1)).any() for window in pair)
    for pair, image in zip(both("RandomHorizontalFlip()"), images, strict=True):
        assert all((flipped == image).all() or (flipped == image[:, ::-1]).all() for flipped in pair)
    for pair, image in zip(both("RandomErasing()"), images, strict=True):
        assert all(((erased == image) | (erased == 0)).all() for erased in pair)
    expected = sorted(image.tobytes() for image in images)
    assert sorted(image.tobytes() for image, _ in ours("Shuffle()", images, files)) == expected
    assert sorted(element[0].tobytes() for element in theirs(sampled["Shuffle()"], images, files)) == expected
