"""CSV and Parquet listings, TFDS folders that are not as they should be, and paths held compactly."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenload.errors import BackendUnavailable, GreenloadError, SourceError
from greenload.sources import TFDS, Files
from greenload.sources.listing import Paths


def one_line(caught: Any) -> str:
    assert isinstance(caught.value, GreenloadError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_table_gives_paths_from_its_own_folder_and_labels(tmp_path: Path) -> None:
    path = table(tmp_path, 'path,label,split\na.jpg,3,x\n"b, c.jpg",4,y\n/abs/d.jpg,-1,z\n\n')
    source = Files.from_csv(path)
    assert list(source.paths) == [str(tmp_path / "a.jpg"), str(tmp_path / "b, c.jpg"), "/abs/d.jpg"]
    assert source.labels.tolist() == [3, 4, -1]
    assert source.classes == ()
    assert Files.from_csv(path, root="/photos").paths[0] == "/photos/a.jpg"
    assert Files.from_csv(path, label=None).labels.tolist() == [0, 0, 0]
    assert Files.from_csv(path, image="split", label="path").classes == ("/abs/d.jpg", "a.jpg", "b, c.jpg")


def test_names_of_classes_are_sorted_and_numbered(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeffpath,label\r\n1,dog\r\n2,cat\r\n3,dog\r\n4,7\r\n")
    with pytest.warns(UserWarning, match="holds numbers .as '7'. and names .as 'dog', 3 of 4 rows"):
        source = Files.from_csv(path)
    assert source.classes == ("7", "cat", "dog")
    assert source.labels.tolist() == [2, 1, 2, 0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column 'path'; its columns: none"),
        ("file,class\na,1\n", "no column 'path'; its columns: 'file', 'class'"),
        ("path,path,label\na,b,1\n", "2 columns 'path'"),
        ("path,label\n", "no rows"),
        ("path,label\na,1\nb\n", "line 3 has 1 values, but there are 2 columns"),
        ("path,label\na,1,2\n", "line 2 has 3 values"),
        ("path,label\n,1\n", "line 2 has no 'path'"),
        ("path,label\na,1\nb,\n", "line 3 has no 'label'"),
        ('path,label\n"a,1\n', "line 2 is no CSV"),
        (b"path,label\n\xff\xfe,1\n", "UTF-8"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        Files.from_csv(table(tmp_path, text))
    assert says in one_line(caught)
    assert "list.csv" in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    for read in (Files.from_csv, Files.from_parquet):
        with pytest.raises(SourceError, match="can't be read: No such file") as caught:
            read(tmp_path / "nowhere")
        one_line(caught)


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "list.parquet"

    def written(**columns: list[Any]) -> Path:
        parquet.write_table(pyarrow.table(columns), path)
        return path

    source = Files.from_parquet(written(path=["a", "b"], label=["y", "x"], more=[1.0, 2.0]))
    assert list(source.paths) == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert (source.labels.tolist(), source.classes) == ([1, 0], ("x", "y"))
    for columns, says in (
        ({"file": ["a"]}, "no column 'path'; its columns: 'file'"),
        ({"path": [], "label": []}, "no rows"),
        ({"path": ["a", None], "label": [1, 2]}, "row 2 has no 'path'"),
        ({"path": [1], "label": [1]}, "must hold text"),
        ({"path": ["a"], "label": [0.5]}, "must be whole numbers or class names, not 0.5"),
    ):
        with pytest.raises(SourceError) as caught:
            Files.from_parquet(written(**columns))
        assert says in one_line(caught)
    path.write_bytes(b"not a table")
    with pytest.raises(SourceError, match="no Parquet table") as caught:
        Files.from_parquet(path)
    one_line(caught)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"needs pyarrow.*greenload\[tfds\]"):
        Files.from_parquet(path)


def described(tmp_path: Path, info: dict[str, Any], features: dict[str, Any] | None = None) -> Path:
    folder = tmp_path / "set" / "1.0.0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_info.json").write_text(json.dumps({"name": "set", "fileFormat": "tfrecord"} | info))
    if features is not None:
        kinds = {name: {"pythonClassName": f"tensorflow_datasets.{kind}"} for name, kind in features.items()}
        (folder / "features.json").write_text(json.dumps({"featuresDict": {"features": kinds}}))
    return folder


TRAIN = {"splits": [{"name": "train", "shardLengths": ["1"]}]}


def test_a_folder_that_is_not_prepared_has_its_remedy(tmp_path: Path) -> None:
    for data, options in ((tmp_path, {}), ("mnist", {"data_dir": tmp_path}), (tmp_path / "nowhere", {})):
        with pytest.raises(SourceError, match=r"no prepared dataset.*tfds build.*download_and_prepare") as caught:
            TFDS(data, **options)  # type: ignore[arg-type]
        one_line(caught)
    described(tmp_path, TRAIN)
    assert TFDS("set", data_dir=tmp_path).folder == tmp_path / "set" / "1.0.0"
    assert TFDS("set:1.0.0", data_dir=tmp_path).folder == TFDS(tmp_path / "set").folder
    with pytest.raises(SourceError, match=r"of version 2\.0\.0"):
        TFDS("set:2.0.0", data_dir=tmp_path)
    newer = tmp_path / "set" / "1.10.0"
    newer.mkdir()
    (newer / "dataset_info.json").write_text("{}")
    assert TFDS("set", data_dir=tmp_path).folder == newer


def test_a_dataset_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = {"image": "Image", "label": "ClassLabel"}
    for info, features, options, says in (
        (TRAIN, usual, {}, "1 of the split's files are missing"),
        (TRAIN, usual, {"split": "test"}, "no split 'test'; its splits: train"),
        (TRAIN | {"fileFormat": "parquet"}, usual, {}, "not 'parquet'"),
    ):
        with pytest.raises(SourceError) as caught:
            TFDS(described(tmp_path, info, features), **options).parts()  # type: ignore[arg-type]
        assert says in one_line(caught)
    for features, options, says in (
        (None, {}, "no features.json"),
        ({"label": "ClassLabel"}, {}, "0 features of kind Image; its features: 'label' (ClassLabel)"),
        ({"a": "Image", "b": "Image"}, {}, "2 features of kind Image"),
        ({"a": "Image", "b": "Image"}, {"image": "c"}, "no feature 'c'"),
        ({"a": "Image"}, {}, "0 features of kind ClassLabel"),
    ):
        if features is None:
            (tmp_path / "set/1.0.0/features.json").unlink()
        with pytest.raises(SourceError) as caught:
            TFDS(described(tmp_path, TRAIN, features), **options).keys()  # type: ignore[arg-type]
        assert says in one_line(caught)
    assert TFDS(described(tmp_path, TRAIN, {"a": "Image"}), label=None).keys() == ("a", None)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(BackendUnavailable, match=r"greenload\[tfds\]"):
        TFDS(described(tmp_path, TRAIN, usual), split="train[:10%]").parts()
    (tmp_path / "set/1.0.0/dataset_info.json").write_text("not json")
    with pytest.raises(SourceError, match="is no JSON"):
        TFDS(tmp_path / "set").parts()


NAMES = st.lists(st.text(st.characters(exclude_characters="\0"), max_size=9).filter(lambda s: _encodes(s)), max_size=9)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.slow
@given(NAMES, st.slices(9))
@settings(deadline=None)
def test_compact_paths_are_the_sequence_they_were_made_from(names: list[str], part: slice) -> None:
    paths = Paths(names)
    assert (list(paths), len(paths)) == (names, len(names))
    assert [paths[i] for i in range(-len(names), len(names))] == names * 2
    assert list(paths[part]) == names[part]
    assert paths == Paths(iter(names))
    assert hash(paths) == hash(Paths(names))
    assert (paths == Paths([*names, "more"])) is False
    assert paths.printable() == all(name.isprintable() for name in names)
    with pytest.raises(IndexError):
        _ = paths[len(names)]


def test_a_long_list_shows_short() -> None:
    assert len(repr(Files([f"/some/folder/{i}.jpg" for i in range(10_000)]))) < 200
