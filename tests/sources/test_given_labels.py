"""Labels as users have them: columns of tables, and arrays of many kinds. Taken, told, or refused with what helps."""

from __future__ import annotations

import datetime
import decimal
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenload as gl
from greenload.errors import SourceError
from greenload.sources import class_order
from greenload.sources.table_labels import labels_of

parquet = pytest.importorskip("pyarrow.parquet")
pyarrow = pytest.importorskip("pyarrow")


def in_csv(folder: Path, labels: Sequence[Any], **options: Any) -> gl.Files:
    rows = [f'{i}.jpg,"{label}"' for i, label in enumerate(labels)]
    (folder / "t.csv").write_text("path,label\n" + "\n".join(rows) + "\n", "utf-8")
    return gl.Files.from_csv(folder / "t.csv", **options)


def in_parquet(folder: Path, labels: Sequence[Any], **options: Any) -> gl.Files:
    columns = {"path": [f"{i}.jpg" for i in range(len(labels))], "label": list(labels)}
    parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    return gl.Files.from_parquet(folder / "t.parquet", **options)


BOTH = pytest.mark.parametrize("read", [in_csv, in_parquet])
Read = Callable[..., gl.Files]

NUMBERS: list[tuple[list[Any], list[int]]] = [
    (["0.0", "2.0", "10.0"], [0, 2, 10]),
    ([0.0, 2.0, 10.0], [0, 2, 10]),
    (["7", "007", "+7", "-1", "2.", "1e3", "1E+1"], [7, 7, 7, -1, 2, 1000, 10]),
    ([3, 4, -(2**63), 2**63 - 1], [3, 4, -(2**63), 2**63 - 1]),
    ([" 3", "4 ", "\u00a05\ufeff"], [3, 4, 5]),
    ([np.float32(3), np.float32(4)], [3, 4]),
    ([decimal.Decimal("2.00"), decimal.Decimal("10.00")], [2, 10]),
]
NAMES: list[tuple[list[Any], list[int], tuple[str, ...]]] = [
    (["dog", " dog", "cat ", "dog\t", "\ufeffdog", "\u200bcat"], [1, 1, 0, 1, 1, 0], ("cat", "dog")),
    (["caf\u00e9", "cafe\u0301", "bar"], [1, 1, 0], ("bar", "caf\u00e9")),
    ([True, False, True], [1, 0, 1], ("False", "True")),
    (["true", "true"], [1, 1], ("False", "True")),
    (["FALSE", "TRUE"], [0, 1], ("False", "True")),
    (["/a/abbey", "Pepper,_bell___Spot", "Pepper,_bell___healthy", "T-shirt/top"], [0, 1, 2, 3], ()),
    (["Smith, John", "Smith, Jane", "Doe, Ann"], [2, 1, 0], ()),
    (["Apple, green", "Apple, red", "Pear, green"], [0, 1, 2], ()),
    (["4/3", "3/4"], [1, 0], ()),
    (["1,2-dichloroethane", "benzene", "$5,000"], [1, 2, 0], ()),
    (["polar bear", "tench, Tinca tinca", "goldfish, Carassius auratus"], [1, 2, 0], ()),
    (["AC/DC", "rock & roll", "C++", "[other]", "(none)", "1_000", "none", "NA"], [2, 7, 3, 5, 0, 1, 6, 4], ()),
]


@BOTH
@pytest.mark.parametrize(("labels", "expected"), NUMBERS)
def test_whole_numbers_are_labels_as_they_are(
    tmp_path: Path, read: Read, labels: list[Any], expected: list[int]
) -> None:
    source = read(tmp_path, labels)
    assert source.labels.tolist() == expected
    assert source.classes == ()


@BOTH
@pytest.mark.parametrize(("labels", "expected", "classes"), NAMES)
def test_names_are_numbered(
    tmp_path: Path, read: Read, labels: list[Any], expected: list[int], classes: tuple[str, ...]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = read(tmp_path, labels)
    assert source.classes == (classes or tuple(sorted(labels)))
    assert [source.classes[label] for label in source.labels] == [source.classes[place] for place in expected]


@BOTH
def test_given_classes_overrule_what_names_look_like(tmp_path: Path, read: Read) -> None:
    for labels in (["B/A", "A/B"], ["Paris", "Washington,DC"], ["cat|dog", "null"]):
        source = read(tmp_path, labels, classes=labels)
        assert (source.labels.tolist(), source.classes) == ([0, 1], tuple(labels))
    assert read(tmp_path, ["2.0", "1", "2"], classes=["1", "2"]).labels.tolist() == [1, 0, 1]
    with pytest.raises(SourceError, match="differ in blanks alone"):
        read(tmp_path, ["a"], classes=["a", " a"])
    with pytest.raises(SourceError, match=r"among classes, but 'cat\|dog' is not"):
        read(tmp_path, ["cat|dog"], classes=["cat", "dog"])


def test_labels_without_an_order_are_refused() -> None:
    for labels in ({0, 1}, {0: 1, 1: 0}):
        with pytest.raises(SourceError, match="has none: pass a list"):
            gl.Files(["a.jpg", "b.jpg"], labels)
    with pytest.raises(SourceError, match="classes must be a list of names"):
        gl.Files(["a.jpg", "b.jpg"], [0, 1], {"cat", "dog"})  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="no whole number"):
        gl.Files(["a.jpg", "b.jpg"], np.array([1, 2], "datetime64[ns]"))


REFUSED: list[tuple[list[Any], str]] = [
    (["1,000", "2,000"], "labels that are numbers are written without commas, but here is '1,000': write 1000"),
    (["1,5", "2,5"], "written without commas"),
    (["cat|dog", "dog|cat"], "row 1: a sample has one label, but 'cat|dog' looks like several: keep one of them"),
    (["bird", "cat;dog"], "row 2: a sample has one label, but 'cat;dog'"),
    (["bird", "cat,dog"], "'cat,dog' looks like several"),
    (["cat\tdog"], "looks like several"),
    (["cat|", "dog"], "looks like several"),
    (["['cat', 'dog']", "['cat']"], "looks like several"),
    (["[1, 2]"], "looks like several"),
    (["[0 1 0]"], "looks like several"),
    (["0 1 0", "1 0 0"], "looks like several"),
    (["(1, 2)"], "looks like several"),
    (["{'cat'}"], "looks like several"),
    (["cat, dog", "dog, bird", "bird, cat"], "looks like several"),
    (["cat", "dog", "cat, dog"], "looks like several"),
    (["cat, dog", "dog, cat"], "hold the same tags"),
    (["cat+dog", "dog + cat"], "'cat+dog' and 'dog + cat' hold the same tags"),
    (["cat/dog", "dog/cat"], "hold the same tags"),
    (["0.5", "1"], "row 1: labels must be whole numbers or class names, not 0.5: round them"),
    ([0.5, 1.0], "must be whole numbers or class names, not 0.5"),
    (["1e300", "1"], "must be below 2^63"),
    ([str(2**63), "1"], "must be below 2^63"),
    ([float("inf"), 1.0], "must be below 2^63"),
    ([2.0**53, 1.0], "with a decimal point below 2^53"),
    (["1" * 5000, "1"], "must be below 2^63"),
    (["cat", "nan"], "row 2: there is no label but 'nan': fill it or remove the row"),
    ([1.0, float("nan")], "row 2: there is no label but 'nan'"),
    (["cat", "N/A"], "there is no label"),
    (["cat", "<NA>"], "there is no label"),
    (["1", "2", "NA"], "row 3: there is no label but 'NA'"),
    (["1", "2", "?"], "row 3: there is no label but '?'"),
]


@BOTH
@pytest.mark.parametrize(("labels", "says"), REFUSED)
def test_what_is_no_label_is_refused(tmp_path: Path, read: Read, labels: list[Any], says: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(tmp_path, labels)
    assert says in str(caught.value)
    assert "column 'label'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_kinds_of_parquet_alone(tmp_path: Path) -> None:
    for labels, says in (
        ([["cat", "dog"], ["cat"]], "a sample has one label, but here is list"),
        ([{"a": 1}, {"a": 2}], "a sample has one label, but here is dict"),
        ([datetime.date(2020, 1, 2)], "must be whole numbers or class names, not date"),
        ([b"\xff"], "must be whole numbers or class names, not bytes"),
        (["cat", None], "row 2 has no 'label'"),
    ):
        with pytest.raises(SourceError, match=says):
            in_parquet(tmp_path, labels)
    with pytest.raises(SourceError, match="below 2\\^63"):
        in_parquet(tmp_path, np.array([2**63, 1], np.uint64))
    assert in_parquet(tmp_path, [b"cat", b"ant"]).classes == ("ant", "cat")
    categories = pyarrow.array(["b", "a", "b"]).dictionary_encode()
    assert in_parquet(tmp_path, categories).labels.tolist() == [1, 0, 1]


def test_blank_cells_and_names_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('path, label\na.jpg, cat\nb.jpg," "\n')
    with pytest.raises(SourceError, match="line 3 has no 'label'"):
        gl.Files.from_csv(path)
    path.write_text("path, label\na.jpg, cat\nb.jpg,cat\n")
    assert gl.Files.from_csv(path).classes == ("cat",)
    path.write_text("path,label, label\na.jpg,cat,dog\n")
    assert gl.Files.from_csv(path).classes == ("cat",)
    parquet.write_table(pyarrow.table({"path ": ["a"], " label": ["x"]}), tmp_path / "t.parquet")
    assert gl.Files.from_parquet(tmp_path / "t.parquet").classes == ("x",)


@BOTH
def test_what_deserves_attention_is_told(tmp_path: Path, read: Read) -> None:
    def told(labels: list[str], **options: Any) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read(tmp_path, labels, **options)
        assert all(one.filename == __file__ for one in caught)
        return [str(one.message).partition("column 'label': ")[2] for one in caught]

    (numbers_and_names,) = told(["1", "2", "cat", "dog", "cat"])
    assert numbers_and_names.startswith("holds numbers (as '1') and names (as 'cat', 3 of 5 rows), so all are taken")
    (as_text,) = told(["class_2", "class_10"])
    assert "class 'class_10' has label 0, not 1: pass order='natural'" in as_text
    (alike,) = told(["\ufb01sh", "fish", "x"])
    assert alike.startswith("'fish' and '\\ufb01sh' look alike, but are two classes")
    assert told(["class_2", "class_10"], order="natural") == []
    assert told(["class_2", "class_10"], classes=["class_2", "class_10"]) == []
    assert told(["0", "1", "10", "2"]) == []
    assert told(["a", "b"]) == []


@BOTH
def test_classes_and_order_of_a_table(tmp_path: Path, read: Read) -> None:
    source = read(tmp_path, ["class_2", "class_10", "class_2"], order="natural")
    assert (source.classes, source.labels.tolist()) == (("class_2", "class_10"), [0, 1, 0])
    source = read(tmp_path, ["dog", " cat"], classes=["horse", "dog", "cat"])
    assert (source.classes, source.labels.tolist()) == (("horse", "dog", "cat"), [1, 2])
    assert read(tmp_path, [2, 0], classes=["0", "1", "2"]).labels.tolist() == [2, 0]
    with pytest.raises(SourceError, match=r"row 2: labels must be among classes, but 'cow' is not: add it, or correct"):
        read(tmp_path, ["dog", "cow"], classes=["dog", "cat"])
    with pytest.raises(SourceError, match="order must be"):
        read(tmp_path, ["dog"], order="size")


def test_images_with_several_labels_are_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na.jpg,cat\na.jpg,dog\nb.jpg,cat\nb.jpg,cat\n")
    with pytest.warns(
        UserWarning, match=r"1 rows list an image again with another label \(first 'a\.jpg': 'cat', then"
    ):
        assert len(gl.Files.from_csv(tmp_path / "t.csv")) == 4


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(max_size=6) | st.integers().map(str) | st.floats().map(str), min_size=1, max_size=5))
def test_any_column_gives_labels_or_an_error(values: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            labels, classes = labels_of("t", values, "natural")
        except SourceError as error:
            assert str(error).startswith("t, row ")
            return
    same = {(a, b) for a, x in zip(values, labels, strict=True) for b, y in zip(values, labels, strict=True) if x == y}
    for a, b in same:  # a label is one name, or one number
        assert class_order.stripped(a) == class_order.stripped(b) or classes in ((), ("False", "True"))
    assert all(0 <= label < len(classes) for label in labels) or not classes


# Arrays and lists

PIXELS = np.zeros((3, 4, 5, 3), np.uint8)
LABELS: dict[str, Callable[[], Any]] = {
    "[n, 1]": lambda: np.array([[2], [0], [1]], np.uint8),
    "list": lambda: [2, 0, 1],
    "list of [1]": lambda: [[2], [0], [1]],
    "generator": lambda: (label for label in (2, 0, 1)),
    "range": lambda: [*range(2, 3), 0, 1],
    "NumPy integers": lambda: [np.int64(2), np.uint8(0), 1],
    "objects": lambda: np.array([2, 0, 1], object),
    "uint64": lambda: np.array([2, 0, 1], np.uint64),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_taken_from_what_holds_them(kind: str) -> None:
    for source in (gl.Arrays(PIXELS, LABELS[kind]()), gl.Files(["a", "b", "c"], LABELS[kind]())):
        assert source.labels.tolist() == [2, 0, 1]
        assert source.labels.dtype == np.int64


def test_truth_values_are_labels() -> None:
    for labels in ([True, False, True], np.array([1, 0, 1], bool), np.array([[1], [0], [1]], bool)):
        assert gl.Arrays(PIXELS, labels).labels.tolist() == [1, 0, 1]
        assert gl.Files(["a", "b", "c"], labels).labels.tolist() == [1, 0, 1]  # type: ignore[arg-type]


NO_LABELS: list[tuple[Any, str]] = [
    ([0.0, 1.0, 2.0], "pass labels.astype('int64')"),
    ([0.5, 1.0, 2.0], "np.digitize"),
    ([0.0, np.nan, 2.0], "np.digitize"),
    (["cat", "dog", "cat"], "np.unique(labels, return_inverse=True)"),
    ([1, None, 2], "None among them is no whole number"),
    ([1, 2, 2**70], "among them"),
    (np.array([1, 2, 2**63], np.uint64), "below 2^63, but the largest is 9223372036854775808"),
    (np.eye(3), "pass labels.argmax(1), and put OneHot(3) into the pipeline"),
    (np.eye(3, dtype=bool), "labels.argmax(1)"),
    (np.ones((3, 2), int), "pass one column of them"),
    (np.zeros((3, 4, 5)), "pass one column of them"),
    ([[1], [2, 3], [4]], "they are no array"),
    (7, "they are no array"),
    (np.array(7), "the one value"),
    ([1, 2], "2 labels"),
    (np.zeros((1, 3), int), "1 labels"),
]


@pytest.mark.parametrize(("labels", "says"), NO_LABELS)
def test_other_labels_are_refused_with_what_helps(labels: Any, says: str) -> None:
    for make in (lambda: gl.Arrays(PIXELS, labels), lambda: gl.Files(["a", "b", "c"], labels)):
        with pytest.raises(SourceError, match="one integer label") as caught:
            make()
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


def test_grey_images_have_one_channel() -> None:
    grey = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
    source = gl.Arrays(grey, [0, 1, 2])  # keras.datasets.mnist
    assert source.spec.shape == (28, 28, 1)
    assert source == gl.Arrays(grey[..., None], [0, 1, 2])
    assert np.shares_memory(source.images, grey)
    images, _ = next(iter(gl.iterate(gl.Pipeline(source, gl.Batch(3)), backend="pillow")))
    assert (images[..., 0] == grey).all()
    for ambiguous, labels in ((grey, None), (PIXELS[0], [1] * 4)):
        with pytest.raises(SourceError, match=r"pass images\[\.\.\., None\] if they are grey, or images\[None\]"):
            gl.Arrays(ambiguous, labels)


def test_other_images_are_refused_with_what_helps() -> None:
    for images, says in (
        (PIXELS.astype(float), "images.astype('float32')"),
        (PIXELS.astype(int), "images.astype('uint8')"),
        (PIXELS[..., 0].astype(float), "images[..., None] if they are grey"),
        ([np.zeros((2, 2, 3)), np.zeros((3, 2, 3))], "of one size"),
    ):
        with pytest.raises(SourceError) as caught:
            gl.Arrays(images)
        assert says in str(caught.value)


@pytest.mark.slow
def test_tensors() -> None:
    tf = pytest.importorskip("tensorflow")
    source = gl.Arrays(tf.constant(PIXELS), tf.constant([[2], [0], [1]]))
    assert source == gl.Arrays(PIXELS, [2, 0, 1])
    assert gl.Files(["a", "b", "c"], tf.constant([2, 0, 1])).labels.tolist() == [2, 0, 1]
