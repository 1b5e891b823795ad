"""What a folder's listing takes, leaves out and tells: litter, kinds nothing reads, numbered classes, addresses."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import greenload as gl
from greenload import cli, sources
from greenload.errors import GreenloadError, SourceError
from greenload.sources import ImageFolder, listing, open_all, open_folder
from greenload.sources.formats import tfrecord
from greenload.sources.listing import Paths, is_litter

LITTER = [
    *(
        ".ipynb_checkpoints",
        ".thumbnails",
        ".git",
        "__MACOSX",
        "__macosx",
        "@eaDir",
        "@__thumb",
        "@Recycle",
        "#recycle",
    ),
    *("#snapshot", "lost+found", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "__pycache__"),
    *("Network Trash Folder", "Temporary Items", ".Trash-1000", "Thumbs.db", ".DS_Store", "desktop.ini", "Icon\r"),
]


def fill(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def below(source: Any, root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in source.paths]


def test_litter_is_left_out_at_every_depth(tmp_path: Path) -> None:
    good = ["cat/1.jpg", "cat/deep/2.jpg", "dog/3.jpg"]
    bad = [f"{at}{name}/x.jpg" for at in ("", "cat/", "cat/deep/") for name in LITTER]
    hidden = ["cat/._1.jpg", "cat/deep/._2.jpg", "cat/.x.png", "cat/3.jpg@SynoEAStream"]
    source = ImageFolder(fill(tmp_path, *good, *bad, *hidden))
    assert source.classes == ("cat", "dog")
    assert below(source, tmp_path) == good
    assert source.labels.tolist() == [0, 0, 1]
    assert below(open_all(tmp_path), tmp_path) == good
    assert below(open_folder(tmp_path), tmp_path) == good


def test_what_looks_like_litter_and_is_none_is_taken(tmp_path: Path) -> None:
    names = ["_", "__mac", "recycled", "macosx", "thumbs", "a.b", "cache", "~", "eaDir"]
    assert not any(map(is_litter, names))
    assert ImageFolder(fill(tmp_path, *(f"{name}/1.jpg" for name in names))).classes == tuple(sorted(names))


def test_what_a_user_names_is_taken(tmp_path: Path) -> None:
    fill(tmp_path, ".a/.x.jpg", ".a/1.jpg", "__MACOSX/2.jpg")
    assert gl.Files([tmp_path / ".a/.x.jpg"]).read(0) == b".a/.x.jpg"
    (tmp_path / "t.csv").write_text("path,label\n.a/.x.jpg,0\n__MACOSX/2.jpg,1\n")
    assert below(gl.Files.from_csv(tmp_path / "t.csv"), tmp_path) == [".a/.x.jpg", "__MACOSX/2.jpg"]
    assert below(open_all(tmp_path / "__MACOSX"), tmp_path) == ["__MACOSX/2.jpg"]
    assert len(ImageFolder(tmp_path, classes=["__MACOSX", ".a"])) == 2


def test_records_of_folders_and_patterns_leave_litter_out(tmp_path: Path) -> None:
    good = ["a-00000-of-00001.tfrecord", "more/b.tfrecord"]
    bad = ["._a-00000-of-00001.tfrecord", "__MACOSX/b.tfrecord", "@eaDir/b.tfrecord", ".c/b.tfrecord"]
    fill(tmp_path, *good, *bad, "a-00000-of-00001.tfrecord@SynoEAStream")

    def files(pattern: str) -> list[str]:
        return [os.path.relpath(path, tmp_path) for path in gl.TFRecords(str(tmp_path / pattern)).files]

    assert files("**/*.tfrecord") == good
    assert files("*/*.tfrecord") == good[1:]
    assert files("a-*") == good[:1]
    assert files("") == good[:1]
    assert files("__MACOSX/*.tfrecord") == ["__MACOSX/b.tfrecord"]  # spelled out
    assert files(".c/*.tfrecord") == [".c/b.tfrecord"]
    assert files("._a-*.tfrecord") == ["._a-00000-of-00001.tfrecord"]
    with pytest.raises(SourceError, match="no file is of this pattern"):
        files("*/nothing-*")


def test_names_of_jpeg_are_taken_and_kinds_that_nothing_reads_are_counted(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jfif", "a/2.JPE", "a/3.pjpeg", "b/4.jpg", "a/n.txt", "a/.5.heic", "__MACOSX/6.heic")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert below(ImageFolder(tmp_path), tmp_path) == ["a/1.jfif", "a/2.JPE", "a/3.pjpeg", "b/4.jpg"]
    fill(tmp_path, "a/1.heic", "a/2.HEIC", "b/3.avif", "b/c/4.ppm")
    expected = (
        f"{tmp_path}: left out 4 files of kinds that nothing here reads (2 .heic, 1 .avif, 1 .ppm): "
        "convert them to JPEG or PNG"
    )
    source = ImageFolder(tmp_path)
    for use in (lambda: len(source), lambda: open_all(tmp_path)):
        with pytest.warns(UserWarning) as told:
            use()
        assert [str(one.message) for one in told] == [expected]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(source) == 4  # told once
    fill(tmp_path, "c/1.heic")
    with pytest.raises(SourceError, match=r"/c: the class has no images \(it has 1 \.heic, which nothing here reads\)"):
        len(ImageFolder(tmp_path))
    with pytest.raises(SourceError, match=r"no images below it but of kinds .*\(1 \.heic\): convert them to JPEG"):
        open_all(tmp_path / "c")


def test_named_files_of_kinds_that_nothing_reads_are_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na.jpg,0\nb.heic,1\nc.PGM,1\n")
    for make in (
        lambda: gl.Files(["a.jpg", "b.heic", "c.PGM"]),
        lambda: gl.Files.from_csv(tmp_path / "t.csv"),
    ):
        with pytest.warns(
            UserWarning, match=r"2 of 3 files have names of kinds .*\(1 \.heic, 1 \.pgm\).*convert"
        ) as told:
            assert len(make()) == 3
        assert told[0].filename == __file__


def test_kinds_that_decode_and_those_that_nothing_reads_share_no_name() -> None:
    assert not set(listing.EXTENSIONS) & set(listing.UNREAD)
    assert all(name == name.lower() and name.startswith(".") for name in listing.EXTENSIONS + listing.UNREAD)


# Numbered classes


def numbered(root: Path, names: list[str]) -> Path:
    return fill(root, *(f"{name}/{name}.jpg" for name in names))


def test_numbered_folders_are_sorted_as_text_and_it_is_told(tmp_path: Path) -> None:
    numbered(tmp_path, [str(i) for i in range(12)])
    source = ImageFolder(tmp_path)
    with pytest.warns(UserWarning) as told:
        assert source.classes == ("0", "1", "10", "11", *map(str, range(2, 10)))
    assert [str(one.message) for one in told] == [
        f"{tmp_path}: names of classes are sorted as text, as Keras sorts them, so class '10' has label 2, not 10: "
        "pass order='natural' to sort numbers by value, or classes=[...] in the order of labels"
    ]
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        natural = ImageFolder(tmp_path, order="natural")
        assert natural.classes == tuple(map(str, range(12)))
        assert [os.path.basename(path) for path in natural.paths] == [f"{i}.jpg" for i in range(12)]
        given = ImageFolder(tmp_path, classes=[str(i) for i in range(11, -1, -1)])
        assert given.classes[0] == "11"
        assert given.labels.tolist() == list(range(12))
        assert given.read(0) == b"11/11.jpg"
        assert open_folder(tmp_path, order="natural") == natural
        assert open_folder(tmp_path, classes=given.classes) == given
    assert len({source.fingerprint(), natural.fingerprint(), given.fingerprint()}) == 3
    assert len({source, natural, given}) == 3
    for one in (natural, given):
        assert sources.from_dict(json.loads(json.dumps(one.to_dict()))) == one
        assert pickle.loads(pickle.dumps(one)) == one
    assert source.to_dict() == {"source": "ImageFolder", "root": str(tmp_path), "min_classes": 2}


@pytest.mark.parametrize(
    ("names", "natural", "told"),
    [
        (["class_2", "class_10"], ("class_2", "class_10"), True),
        (["1.5", "1.10", "1.9"], ("1.5", "1.9", "1.10"), True),
        (["-1", "-2", "0", "+3"], ("-2", "-1", "0", "+3"), True),
        (["00", "01", "10"], ("00", "01", "10"), False),
        (["n01440764", "n02102040"], ("n01440764", "n02102040"), False),
        (["(other)", "1", "2", "-", "a9", "a"], ("(other)", "-", "1", "2", "a", "a9"), False),
        (["3f2a", "12bc"], ("3f2a", "12bc"), False),  # no numbers, but names with digits
        (["B", "a", "C"], ("B", "C", "a"), False),
    ],
)
def test_numbers_in_names(
    tmp_path: Path, names: list[str], natural: tuple[str, ...], told: bool, recwarn: pytest.WarningsRecorder
) -> None:
    assert ImageFolder(numbered(tmp_path, names), order="natural").classes == natural
    assert not recwarn
    assert ImageFolder(tmp_path).classes == tuple(sorted(names))
    assert [("sorted as text" in str(one.message)) for one in recwarn] == [True] * told


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"order": "by size"}, "order must be 'alphabetical' or 'natural', not 'by size'"),
        ({"classes": "cat"}, "classes must be a list of names in the order of labels, not 'cat'"),
        ({"classes": []}, "classes must be a list of names in the order of labels, not []"),
        ({"classes": ["cat", 7]}, "not int 7 in it"),
        ({"classes": ["cat", "dog", "cat"]}, "'cat' is there twice"),
        ({"classes": ["cat", "dog"], "order": "natural"}, "leave one out"),
        ({"classes": ["cat", "cow"]}, "there is no folder 'cow'; its folders: 'cat', 'dog'"),
        ({"classes": ["cat"]}, "'dog' is not among them: add it, or move the folder away"),
        ({"classes": {"cat", "dog"}}, "classes must be a list of names in the order of labels, not {"),
        ({"classes": {"cat": 1, "dog": 0}}, "classes must be a list of names in the order of labels, not {"),
        ({"min_classes": -1}, "min_classes must be a whole number from 0, not -1"),
        ({"min_classes": True}, "min_classes must be a whole number from 0, not True"),
    ],
)
def test_classes_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    fill(tmp_path, "cat/1.jpg", "dog/2.jpg")
    with pytest.raises(SourceError) as caught:
        len(ImageFolder(tmp_path, **options))
    assert says in str(caught.value)


def test_folders_that_look_alike_are_told(tmp_path: Path) -> None:
    fill(tmp_path, "caf\u00e9/1.jpg", "cafe\u0301/2.jpg")
    with pytest.warns(UserWarning, match=r"'cafe\\u0301' and 'caf\\xe9' look alike, but are two classes"):
        assert len(ImageFolder(tmp_path).classes) == 2


def test_records_hold_their_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(tfrecord.framed([b""]))
    for options in ({"order": "natural"}, {"classes": ["a"]}):
        with pytest.raises(SourceError, match="these records hold their labels: leave them out"):
            open_folder(path, **options)  # type: ignore[arg-type]


# Addresses

ADDRESSES = {
    "s3://bucket/train": "mount it (for example with rclone mount)",
    "S3://bucket/train": "rclone",
    "gs://bucket/*.tfrecord": "gcsfuse",
    "https://example.org/a.jpg": "download it first",
    "http://example.org/t.csv": "download it first",
    "hdfs://node/t.parquet": "copy it",
    "abfss://c@a.dfs.core.windows.net/x": "copy it",
    "file:///data/train": "write the path alone: /data/train",
    str(Path("s3://bucket/train")): "rclone",  # one slash is lost
}
TAKERS: list[Callable[[str], Any]] = [
    ImageFolder,
    lambda path: gl.Files([path]),
    lambda path: gl.Files(Paths(["a.jpg", path])),
    gl.Files.from_csv,
    gl.Files.from_parquet,
    gl.TFRecords,
    lambda path: gl.TFRecords(["a.tfrecord", path]),
    gl.TFDS,
    lambda path: gl.TFDS("mnist", data_dir=path),
    open_folder,
    open_all,
]


@pytest.mark.parametrize("take", TAKERS)
def test_an_address_is_refused_with_what_helps(take: Callable[[str], Any]) -> None:
    for address, remedy in ADDRESSES.items():
        with pytest.raises(GreenloadError) as caught:
            take(address)
        assert str(caught.value).startswith(f"{address}: samples are read from files of this machine, but this is an")
        assert remedy in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_addresses_in_tables_variables_and_commands_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text("path,label\na.jpg,0\nhttps://example.org/b.jpg,1\n")
    with pytest.raises(SourceError, match=r"^https://example\.org/b\.jpg: .*download it first"):
        gl.Files.from_csv(tmp_path / "t.csv")
    with pytest.raises(SourceError, match=r"^s3://bucket: "):
        gl.Files.from_csv(tmp_path / "t.csv", root="s3://bucket")
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://bucket/sets")
    with pytest.raises(SourceError, match=r"^gs://bucket/sets: "):
        gl.TFDS("mnist")
    for command in (
        ["check", "s3://bucket/train"],
        ["pack", "gs://bucket/train", str(tmp_path / "out")],
        ["profile", "imagenet:train", "--data", "s3://bucket/train"],
    ):
        assert cli.main(command) == 1
        assert "is an address" in capsys.readouterr().err
    fill(tmp_path, "set/a/1.jpg", "set/b/2.jpg")
    assert cli.main(["pack", str(tmp_path / "set"), "s3://bucket/out"]) == 2
    assert "copy the pack there" in capsys.readouterr().err


def test_paths_with_colons_are_no_addresses(tmp_path: Path) -> None:
    source = ImageFolder(fill(tmp_path / "s3:", "a:/1.jpg", "b:c/2:3.jpg"))
    assert len(source) == 2
    assert gl.Files(["C:/x.jpg", "x:y.jpg", "folder:/a.jpg"]).paths[0] == "C:/x.jpg"


@pytest.mark.slow
def test_the_command_packs_classes_in_the_order_asked_for(
    sample_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [path.read_bytes() for path in sorted(sample_folder.rglob("*.jpg"))[:3]]
    for name, photo in zip(("2", "9", "10"), photos, strict=True):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.jfif").write_bytes(photo)  # told by its bytes
    (tmp_path / "set" / "2" / "._1.jpg").write_bytes(b"no image")
    (tmp_path / "set" / "__MACOSX").mkdir()
    assert cli.main(["pack", str(tmp_path / "set"), str(tmp_path / "text")]) == 0
    assert "class '10' has label 0, not 2" in capsys.readouterr().err
    assert cli.main(["pack", str(tmp_path / "set"), str(tmp_path / "natural"), "--order", "natural"]) == 0
    assert "warning" not in capsys.readouterr().err
    text, natural = gl.TFDS(tmp_path / "text"), gl.TFDS(tmp_path / "natural")
    assert (text.classes, natural.classes) == (("10", "2", "9"), ("2", "9", "10"))
    assert {photos.index(natural.read(i)): int(natural.labels[i]) for i in range(3)} == {0: 0, 1: 1, 2: 2}
    (tmp_path / "set" / "9" / "2.heic").write_bytes(b"")
    assert cli.main(["check", str(tmp_path / "set")]) == 0
    told = capsys.readouterr()
    assert "3 of 3 images decode" in told.out
    assert "left out 1 file of a kind that nothing here reads (1 .heic)" in told.err
