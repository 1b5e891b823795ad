"""Sources: what is listed in which order, and every way a folder can be wrong."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenload import sources
from greenload.errors import GreenloadError, RecordError, SourceError
from greenload.sources import Arrays, Files, ImageFolder, Source, listing
from greenload.specs import ENCODED_SPEC, ImageSpec


def folder(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def one_line(caught: Any) -> str:
    message = str(caught.value)
    assert isinstance(caught.value, GreenloadError)
    assert "\n" not in message
    return message


def test_a_folder_a_class_sorted(tmp_path: Path) -> None:
    folder(tmp_path, "b/2.JPG", "b/1.jpeg", "a/z.png", "a/deep/er/y.gif", "a/notes.txt", "readme.md", "loose.jpg")
    source = ImageFolder(tmp_path)
    assert source.classes == ("a", "b")
    assert [os.path.relpath(path, tmp_path) for path in source.paths] == [
        "a/deep/er/y.gif",
        "a/z.png",
        "b/1.jpeg",
        "b/2.JPG",
    ]
    assert source.labels.tolist() == [0, 0, 1, 1]
    assert source.labels.dtype == np.int64
    assert len(source) == 4
    assert source.spec == ENCODED_SPEC
    assert source.read(1) == b"a/z.png"
    assert source.name(1) == str(tmp_path / "a/z.png")
    assert isinstance(source, Source)


def test_the_order_of_a_folder_is_the_same_whatever_the_system_lists_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, *(f"{c}/{i}.jpg" for c in "ab" for i in range(20)))
    paths = ImageFolder(tmp_path).paths
    listed = listing.scan
    monkeypatch.setattr(listing, "scan", lambda path: reversed(list(listed(path))))
    assert ImageFolder(tmp_path).paths == paths


def test_a_missing_folder_and_a_file_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        ImageFolder(tmp_path / "nowhere")
    assert one_line(caught) == f"{tmp_path}/nowhere: ImageFolder needs a folder, but this does not exist"
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match="is a file"):
        ImageFolder(tmp_path / "file")


def test_a_folder_without_anything(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no class folders") as caught:
        len(ImageFolder(tmp_path))
    assert str(tmp_path) in one_line(caught)


def test_images_without_class_folders(tmp_path: Path) -> None:
    folder(tmp_path, "1.jpg", "2.png", "3.txt")
    with pytest.raises(SourceError, match=r"2 images and no class folders.*Files") as caught:
        len(ImageFolder(tmp_path))
    one_line(caught)


def test_class_folders_without_images(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.txt", "b/2.txt")
    with pytest.raises(SourceError, match=r"no images below it .*\.jpg") as caught:
        len(ImageFolder(tmp_path))
    one_line(caught)
    folder(tmp_path, "b/2.jpg")
    with pytest.raises(SourceError, match="the class has no images") as caught:
        len(ImageFolder(tmp_path))
    assert str(tmp_path / "a") in one_line(caught)


def test_one_class_only(tmp_path: Path) -> None:
    folder(tmp_path, "cat/1.jpg")
    with pytest.raises(SourceError, match=r"one class only .'cat'.*min_classes=1") as caught:
        len(ImageFolder(tmp_path))
    one_line(caught)
    assert len(ImageFolder(tmp_path, min_classes=1)) == 1


@pytest.mark.parametrize("which", ["", "a", "a/deep"])
def test_an_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    folder(tmp_path, "a/deep/1.jpg", "b/2.jpg")
    source, locked, scandir = ImageFolder(tmp_path), str(tmp_path / which).rstrip("/"), os.scandir

    def refuse(path: Any) -> Any:
        if str(path) == locked:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match="can't be read: Permission denied; change its permissions") as caught:
        len(source)
    assert one_line(caught).startswith(locked + ":")


def test_a_folder_named_like_an_image(tmp_path: Path) -> None:
    folder(tmp_path, "a/album.jpg/1.jpg", "b.png/2.jpg")
    source = ImageFolder(tmp_path)
    assert source.classes == ("a", "b.png")
    assert [Path(path).name for path in source.paths] == ["1.jpg", "2.jpg"]


@pytest.mark.timeout(60)
def test_links_in_circles_list_each_file_once(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.jpg", "b/2.jpg")
    for name in ("here", "there"):
        (tmp_path / "a" / name).symlink_to(tmp_path / "a")
        (tmp_path / "b" / name).symlink_to("..")
    (tmp_path / "b" / "self").symlink_to("self")
    source = ImageFolder(tmp_path)
    assert [Path(path).name for path in source.paths if "/a/" in path][:1] == ["1.jpg"]
    assert source.paths.count(str(tmp_path / "a/1.jpg")) == 1
    assert len(source) <= 4


def test_links_to_other_places_are_followed(tmp_path: Path) -> None:
    folder(tmp_path, "store/1.jpg", "store/2.jpg", "set/b/3.jpg")
    (tmp_path / "set/a").symlink_to(tmp_path / "store")
    (tmp_path / "set/b/4.jpg").symlink_to(tmp_path / "store/1.jpg")
    assert len(ImageFolder(tmp_path / "set")) == 4


def test_a_link_to_nothing_is_a_bad_record_not_a_missing_one(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    source = ImageFolder(tmp_path)
    assert len(source) == 3
    with pytest.raises(RecordError, match="can't be read: No such file"):
        source.read(source.paths.index(str(tmp_path / "a/gone.jpg")))


@pytest.mark.parametrize(
    "name", ["a b.jpg", "quo'te\".jpg", "br]ack[et.jpg", "new\nline.jpg", "ünïcødé.jpg", "\udcff.jpg"]
)
def test_odd_names_are_listed_and_read(tmp_path: Path, name: str) -> None:
    folder(tmp_path, "a/1.jpg")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / name).write_bytes(b"x")
    source = ImageFolder(tmp_path)
    assert source.name(1) == str(tmp_path / "b" / name)
    assert source.read(1) == b"x"
    assert len(source.fingerprint()) == 32


def test_a_fingerprint_changes_with_any_file(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.jpg", "b/2.jpg")
    prints = [ImageFolder(tmp_path).fingerprint(), ImageFolder(tmp_path).fingerprint()]
    assert prints[0] == prints[1]
    os.utime(tmp_path / "a/1.jpg", ns=(1, 1))
    prints.append(ImageFolder(tmp_path).fingerprint())
    (tmp_path / "a/1.jpg").write_bytes(b"longer than before")
    os.utime(tmp_path / "a/1.jpg", ns=(1, 1))
    prints.append(ImageFolder(tmp_path).fingerprint())
    source = ImageFolder(tmp_path)
    assert len(source) == 2
    (tmp_path / "a/1.jpg").unlink()
    prints.append(source.fingerprint())
    folder(tmp_path, "a/1.jpg", "a/3.jpg")
    prints.append(ImageFolder(tmp_path).fingerprint())
    assert len(set(prints)) == 5


def test_files_keep_their_order_and_labels(tmp_path: Path) -> None:
    folder(tmp_path, "2.jpg", "1.jpg")
    source = Files([tmp_path / "2.jpg", str(tmp_path / "1.jpg")], labels=np.array([4, 2]))
    assert tuple(source.paths) == (str(tmp_path / "2.jpg"), str(tmp_path / "1.jpg"))
    assert source.labels.tolist() == [4, 2]
    assert Files(["x.jpg"]).labels.tolist() == [0]
    assert source.read(0) == b"2.jpg"
    assert Files([os.fsencode("x.jpg")]) == Files(["x.jpg"])  # type: ignore[list-item]


BAD_FILES = [
    (lambda: Files([]), "at least one path"),
    (lambda: Files("a.jpg"), "put it into a list"),
    (lambda: Files(Path("a.jpg")), "put it into a list"),  # type: ignore[arg-type]
    (lambda: Files(["a.jpg"], labels=[1, 2]), "1 paths and 2 labels"),
    (lambda: Files(["a.jpg"], [0], "cat"), "classes must be a list of names in the order of labels, not 'cat'"),
    (lambda: Files([7]), "path"),  # type: ignore[list-item]
    (lambda: Files(["a.jpg"], labels=[0.5]), "label"),  # type: ignore[list-item]
    (lambda: Files(["a.jpg"], labels=["cat"]), "label"),  # type: ignore[list-item]
    (lambda: Arrays(np.zeros((2, 3, 3), np.uint8)), "uint8 [2, 3, 3]"),
    (lambda: Arrays(np.zeros((2, 3, 3, 3))), "float64"),
    (lambda: Arrays(np.zeros((0, 3, 3, 3), np.uint8)), "at least one image"),
    (lambda: Arrays(np.zeros((2, 0, 3, 3), np.uint8)), "with pixels"),
    (lambda: Arrays(np.zeros((2, 3, 3, 3), np.uint8), [1]), "one integer label"),
    (lambda: Arrays(np.zeros((2, 3, 3, 3), np.uint8), [0.0, 1.0]), "one integer label"),
    (lambda: Arrays("text"), "of uint8, int8, float16"),
]


@pytest.mark.parametrize(("make", "says"), BAD_FILES, ids=[says for _, says in BAD_FILES])
def test_bad_arguments_are_refused(make: Any, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        make()
    assert says in one_line(caught)


def test_a_missing_file_is_named_when_it_is_read() -> None:
    with pytest.raises(RecordError) as caught:
        Files(["/nowhere/x.jpg"]).read(0)
    assert (caught.value.path, caught.value.reason) == ("/nowhere/x.jpg", "can't be read: No such file or directory")


def test_arrays_are_equal_by_value_and_not_copied() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 3), np.uint8)
    source = Arrays(pixels, [5, 4, 3, 2, 1])
    assert source.images is pixels
    assert source == Arrays(pixels.copy(), [5, 4, 3, 2, 1])
    assert hash(source) == hash(Arrays(pixels.copy(), [5, 4, 3, 2, 1]))
    assert source != Arrays(pixels)
    assert source != Arrays(pixels.reshape(5, 3, 4, 3), [5, 4, 3, 2, 1])
    assert source != 3
    assert source.spec == ImageSpec((4, 3, 3), "uint8", "HWC")
    assert source.name(3) == "images[3]"
    assert (source.read(3) == pixels[3]).all()
    assert (Arrays(pixels[:, ::-1]).images == pixels[:, ::-1]).all()
    assert Arrays(pixels[:, ::-1]) == Arrays(pixels[:, ::-1].copy())


def test_sources_come_back_from_their_description(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.jpg", "b/2.jpg")
    for source in (ImageFolder(tmp_path), ImageFolder(tmp_path, min_classes=1), Files(["x", "y"], [3, 4])):
        assert sources.from_dict(source.to_dict()) == source
        assert pickle.loads(pickle.dumps(source)) == source
        assert source.fingerprint() == sources.from_dict(source.to_dict()).fingerprint()
    with pytest.raises(SourceError, match=r"pass them as source=Arrays"):
        sources.from_dict(Arrays(np.zeros((1, 1, 1, 3), np.uint8)).to_dict())
    with pytest.raises(SourceError, match="must be one of"):
        sources.from_dict({"source": "Tape"})
    with pytest.raises(SourceError, match="root"):
        sources.from_dict({"source": "ImageFolder"})


def test_listing_waits_until_it_is_needed(tmp_path: Path) -> None:
    source = ImageFolder(tmp_path)
    folder(tmp_path, "a/1.jpg", "b/2.jpg")
    assert len(source) == 2
