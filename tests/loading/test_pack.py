"""Packing: what is written, what is refused, and that nothing half-made is left behind."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import record_files

from greenload.backends import registry
from greenload.backends.native import library
from greenload.cli import main
from greenload.errors import BackendUnavailable, RecordError, SourceError, UsageError
from greenload.loading import pack as packing
from greenload.loading import pack_description
from greenload.loading.pack import pack
from greenload.loading.verify import CHECKSUM, verify
from greenload.sources import TFDS, Arrays, Files, ImageFolder, TFRecords, open_all, open_folder
from greenload.sources.formats import tfrecord

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.slow

IMAGES: list[bytes] = []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not IMAGES:
        IMAGES.extend(record_files.photos())
    return record_files.class_folder(tmp_path / "photos", IMAGES)


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


def test_a_pack_is_mixed_whole_and_split_into_files(folder: Path, tmp_path: Path) -> None:
    packed = pack(ImageFolder(folder), tmp_path / "out", shard_mb=0.003, threads=2)
    source = TFRecords(tmp_path / "out")
    names = left(tmp_path / "out")
    shards = [name for name in names if name.startswith("packed-train.tfrecord-") and not name.endswith(".index")]
    assert packed.samples == len(source) == 17
    assert packed.shards == len(shards) > 2
    assert packed.bytes == sum((tmp_path / "out" / name).stat().st_size for name in shards)
    assert packed.skipped == ()
    assert shards[0] == f"packed-train.tfrecord-00000-of-{len(shards):05}"
    assert set(names) - set(shards) == {f"{name}.index" for name in shards} | {
        "dataset_info.json",
        "features.json",
        "label.labels.txt",
    }
    found = [source.read(i) for i in range(17)]
    assert sorted(found) == sorted(IMAGES)
    assert found != sorted(found)
    assert source.labels.tolist() == [IMAGES.index(image) % 3 for image in found]
    assert source.classes == record_files.CLASSES
    assert source.damaged(range(17)) == []
    assert left(tmp_path) == ["out", "photos"]
    again = pack(ImageFolder(folder), tmp_path / "again", shard_mb=0.003)
    assert again.shards == packed.shards
    for name in shards:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    pack(ImageFolder(folder), tmp_path / "other", seed=1)
    other = TFRecords(tmp_path / "other")
    assert [other.read(i) for i in range(17)] != found
    assert oct((tmp_path / "out").stat().st_mode & 0o777) == oct((tmp_path / "photos").stat().st_mode & 0o777)


@pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "it is there")
def test_transcoded_records_have_the_same_pixels_for_every_reader(
    bad_images: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["grey.jpg", "cmyk.jpg", "exif-rotated.jpg", "trailing-garbage.jpg", "palette.png", "image.gif"]
    kinds = bad_images.make_all(tmp_path / "kinds")
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(bad_images.jpeg(90, 130, progressive=True))
    files = Files([*(kinds[name] for name in names), photo], range(7))
    plain = pack(files, tmp_path / "plain", threads=2)
    packed = pack(files, tmp_path / "transcoded", threads=2, transcode=True)
    assert packed.samples == plain.samples == 7
    one, other = TFRecords(tmp_path / "plain"), TFRecords(tmp_path / "transcoded")
    changed = 0
    for index, label in enumerate(one.labels):
        before, after = one.read(index), other.read(index)
        assert other.labels[index] == label
        changed += before != after
        if before == after:
            continue
        assert after[2:4] == b"\xff\xe9"  # an index of its segments, right behind SOI
        for backend in ("tf", "pillow"):
            pixels = [registry.get(backend).decoder().pixels(data, "JPEG") for data in (before, after)]
            np.testing.assert_array_equal(*pixels)
    assert changed == 4  # plain JPEGs: not that with inks, nor other kinds
    monkeypatch.setattr(library, "why_missing", lambda: "it isn't built; make setup")
    with pytest.raises(BackendUnavailable, match="make setup"):
        pack(files, tmp_path / "refused", transcode=True)
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize("format", ["tfrecord", "arrayrecord"])
def test_tensorflow_datasets_reads_it(folder: Path, tmp_path: Path, format: Any) -> None:
    tfds = pytest.importorskip("tensorflow_datasets")
    pack(ImageFolder(folder), tmp_path / "out", format=format, shard_mb=0.003)
    source = TFDS(tmp_path / "out")
    builder = tfds.builder_from_directory(tmp_path / "out")
    assert builder.info.features["label"].names == list(record_files.CLASSES)
    assert builder.info.splits["train"].num_examples == 17
    undecoded = {"image": tfds.decode.SkipDecoding()}
    if format == "tfrecord":
        config = tfds.ReadConfig(interleave_cycle_length=1)
        rows = builder.as_dataset(split="train", decoders=undecoded, read_config=config).as_numpy_iterator()
    else:
        rows = builder.as_data_source(split="train", decoders=undecoded)
    pairs = [(row["image"], int(row["label"])) for row in rows]
    assert pairs == [(source.read(i), int(source.labels[i])) for i in range(17)]
    part = TFDS(tmp_path / "out", split="train[3:9]")
    assert [part.read(i) for i in range(len(part))] == [image for image, _ in pairs[3:9]]


def test_a_packed_folder_stands_in_for_the_folder(folder: Path, tmp_path: Path) -> None:
    assert open_folder(folder) == ImageFolder(folder)
    pack(ImageFolder(folder), tmp_path / "out")
    assert open_folder(tmp_path / "out") == TFDS(tmp_path / "out")
    assert sorted(open_folder(tmp_path / "out").labels) == sorted(ImageFolder(folder).labels)
    assert open_folder(str(tmp_path / "out" / "*-of-00001")) == TFRecords(tmp_path / "out" / "*-of-00001")
    (tmp_path / "list.csv").write_text("path,label\nphotos/ant/000.jpg,4\n")
    assert open_folder(tmp_path / "list.csv").labels.tolist() == [4]
    with pytest.raises(SourceError, match="does not exist"):
        open_folder(tmp_path / "nowhere")


def test_compressed_records_are_made_plain(tmp_path: Path) -> None:
    images = record_files.photos()
    source = record_files.SOURCES["TFRecords, gzip"](tmp_path, images)
    pack(source, tmp_path / "out")
    found = TFRecords(tmp_path / "out")
    assert sorted(found.read(i) for i in range(17)) == sorted(images)
    assert found.labels.tolist() == [images.index(found.read(i)) % 3 for i in range(17)]
    assert not any("spool" in name for name in left(tmp_path / "out"))


def test_bad_images_stop_it_or_are_left_out(folder: Path, tmp_path: Path) -> None:
    (folder / "bee" / "001.jpg").write_bytes(IMAGES[1][:200])
    source = ImageFolder(folder)
    with pytest.raises(RecordError, match=r"001\.jpg"):
        pack(source, tmp_path / "out")
    assert left(tmp_path) == ["photos"]
    packed = pack(source, tmp_path / "out", on_error="skip")
    assert packed.samples == 16
    assert [error.path for error in packed.skipped] == [str(folder / "bee" / "001.jpg")]
    assert len(TFRecords(tmp_path / "out")) == 16


def test_what_cannot_be_packed_is_refused_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    source = ImageFolder(folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for out, options, says in (
        ("full", {}, "holds files already"),
        ("full/file", {}, "is a file"),
        ("out", {"format": "zip"}, "format must be"),
        ("out", {"shard_mb": 0}, "shard_mb must be"),
        ("out", {"shard_mb": float("nan")}, "shard_mb must be"),
        ("out", {"on_error": "hope"}, "on_error must be"),
        ("out", {"threads": 0}, "threads must be a positive whole number"),
        ("out", {"seed": "a"}, "seed must be a whole number"),
    ):
        with pytest.raises(UsageError, match=says):
            pack(source, tmp_path / out, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="name is empty"):
        pack(source, "")
    with pytest.raises(UsageError, match="pixels"):
        pack(Arrays(np.zeros((2, 3, 3, 3), np.uint8)), tmp_path / "out")
    assert left(tmp_path) == ["full", "photos"]
    (tmp_path / "empty").mkdir()
    assert pack(source, tmp_path / "empty").samples == 17


def test_a_failure_half_way_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    framed = tfrecord.framed
    monkeypatch.setattr(tfrecord, "framed", lambda records: framed(records)[:-40])
    with pytest.raises(SourceError):
        pack(ImageFolder(folder), tmp_path / "out")
    assert left(tmp_path) == ["photos"]
    monkeypatch.setattr(tfrecord, "framed", lambda records: framed(records[:-1]))
    with pytest.raises(SourceError, match="differs from its source"):
        pack(ImageFolder(folder), tmp_path / "out")
    monkeypatch.setattr(tfrecord, "framed", lambda _: os.read(-1, 1))
    with pytest.raises(OSError, match="Bad file descriptor"):
        pack(ImageFolder(folder), tmp_path / "out")
    assert left(tmp_path) == ["photos"]


def test_array_record_missing_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "array_record.python", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'greenload\[tfds\]'"):
        pack(ImageFolder(folder), tmp_path / "out", format="arrayrecord")


def test_labels_that_are_no_classes_are_kept(folder: Path, tmp_path: Path) -> None:
    files = Files([folder / "ant/000.jpg", folder / "bee/001.jpg"], [-5, 1 << 40])
    pack(files, tmp_path / "out")
    for source in (TFRecords(tmp_path / "out"), TFDS(tmp_path / "out")):
        assert sorted(source.labels.tolist()) == [-5, 1 << 40]
        assert source.classes == ()


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = str(tmp_path / "out"), str(tmp_path / "report.json")
    assert main(["pack", str(folder), out, "--shard-mb", "0.005", "--json", report]) == 0
    said = capsys.readouterr().out
    data = json.loads(Path(report).read_text())
    assert said.startswith(f"17 images in {data['shards']} files below {out}: ")
    assert (data["samples"], data["format"], data["skipped"]) == (17, "tfrecord", [])
    assert main(["pack", str(folder), out]) == 2
    assert main(["pack", str(folder), f"{out}-transcoded", "--transcode"]) == 0
    assert TFRecords(f"{out}-transcoded").read(0)[2:4] == b"\xff\xe9"
    assert "holds files already" in capsys.readouterr().err
    (folder / "ant" / "000.jpg").write_bytes(b"\xff\xd8")
    assert main(["pack", str(folder), str(tmp_path / "b")]) == 1
    assert "000.jpg" in capsys.readouterr().err
    assert main(["pack", str(folder), str(tmp_path / "b"), "--on-error", "skip"]) == 0
    assert "left out: " in capsys.readouterr().out


def test_a_damaged_record_is_found_by_verifying(folder: Path, tmp_path: Path) -> None:
    pack(ImageFolder(folder), tmp_path / "out")
    source = TFRecords(tmp_path / "out")
    path, place = source.files[0], int(source.table.index.starts[3])
    data = bytearray(Path(path).read_bytes())
    data[place + int(source.table.index.lengths[3]) // 2] ^= 2
    Path(path).write_bytes(data)
    os.utime(path, ns=(1, 1))
    found = verify(TFRecords(tmp_path / "out"), remember=False)
    assert found.bad_indices == (3,)
    assert found.bad[0].path == f"{path}[3]"
    assert found.bad[0].reason == CHECKSUM or "JPEG" in found.bad[0].reason


def test_the_names_of_a_folder_keep_to_their_line(folder: Path) -> None:
    assert [pack_description._odd(name) for name in ("cat", "two words", "new\nline", " led", "\udcff")] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_a_link_is_followed_and_what_comes_there_meanwhile_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    pack(ImageFolder(folder), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(TFDS(tmp_path / "real")) == 17
    described = pack_description.describe

    def late(*given: Any) -> None:
        described(*given)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()

    monkeypatch.setattr(packing, "describe", late)
    with pytest.raises(UsageError, match="meanwhile something else came there"):
        pack(ImageFolder(folder), tmp_path / "out")
    assert left(tmp_path / "out") == ["theirs"]
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "disk")
    with pytest.raises(UsageError, match="name a folder in it"):
        pack(ImageFolder(folder), tmp_path / "disk")
    assert left(tmp_path) == ["link", "out", "photos", "real"]


@pytest.mark.parametrize("format", ["tfrecord", "arrayrecord"])
def test_a_file_that_was_cut_is_refused_and_loses_no_record_in_silence(
    folder: Path, tmp_path: Path, format: Any
) -> None:
    pack(ImageFolder(folder), tmp_path / "out", format=format, shard_mb=0.003)
    path = Path(TFDS(tmp_path / "out").parts()[1].path)
    whole = path.read_bytes()
    cuts = [whole[: len(whole) // 2], whole[:-1]]
    if format == "tfrecord":
        last = int(TFRecords(path).table.index.records[-1])
        cuts += [whole[:last], b""]  # at a record's end, which the file itself doesn't show
    for cut in cuts:
        path.write_bytes(cut)
        with pytest.raises(SourceError, match=re.escape(path.name)):
            len(TFDS(tmp_path / "out"))


def test_check_takes_whatever_holds_images(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(ImageFolder(folder), tmp_path / "out")
    (folder / "loose.jpg").write_bytes(IMAGES[0])
    path = next((tmp_path / "out").glob("*-of-00001"))
    for data, count in ((folder, 18), (tmp_path / "out", 17), (path, 17)):
        assert main(["check", str(data)]) == 0
        assert f"{count} of {count} images decode" in capsys.readouterr().out
    (tmp_path / "list.csv").write_text("path,label\nphotos/ant/000.jpg,4\nphotos/none.jpg,4\n")
    assert main(["check", str(tmp_path / "list.csv")]) == 1
    assert "none.jpg" in capsys.readouterr().out


def test_check_looks_at_every_split(tmp_path: Path) -> None:
    root = record_files.tfds_folder(tmp_path, record_files.photos(), "tfrecord")
    assert len(open_all(root / "tiny" / "1.2.0")) == 17 + 5
    assert len(open_folder(root / "tiny" / "1.2.0")) == 17


def test_the_names_of_shards_tell_records(tmp_path: Path) -> None:
    record_files.write(tmp_path / "train-00000-of-00001", record_files.labelled(record_files.photos(3)))
    assert open_folder(tmp_path) == TFRecords(tmp_path)
    (tmp_path / "notes.tfrecord.index").touch()
    assert len(open_folder(tmp_path)) == 3


def test_what_changes_while_it_is_verified_is_verified_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, path = ImageFolder(folder), folder / "ant" / "000.jpg"
    assert verify(source, progress=lambda *_: path.write_bytes(b"no image") and None).bad == ()
    assert verify(source).bad_indices == (0,)


def test_a_pack_does_not_go_into_its_own_source(tmp_path: Path) -> None:
    folder = record_files.class_folder(tmp_path / "set", record_files.photos(3))
    with pytest.raises(UsageError, match="name a folder outside it"):
        pack(ImageFolder(folder), folder / "packed")
    assert not (folder / "packed").exists()
    pack(ImageFolder(folder), tmp_path / "set-packed")


@pytest.mark.parametrize("way", ["name", "template", "absolute", "folder link"])
def test_a_datasets_files_stay_in_its_folder(folder: Path, tmp_path: Path, way: str) -> None:
    root, foreign = tmp_path / "set" / "packed", tmp_path / "foreign"
    pack(ImageFolder(folder), root)
    shard = "packed-train.tfrecord-00000-of-00001"
    foreign.mkdir()
    (root / shard).rename(foreign / shard)
    (root / f"{shard}.index").unlink()
    info = json.loads((root / "dataset_info.json").read_text())
    (split,) = info["splits"]
    match way:
        case "name":
            info["name"] = "../../foreign/packed"
        case "template":
            split["filepathTemplate"] = "../../foreign/" + shard
        case "absolute":
            split["filepathTemplate"] = str(foreign / shard)
        case _:
            (root / "inner").symlink_to(foreign)
            split["filepathTemplate"] = "inner/" + shard
    (root / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(SourceError, match="must lie in its folder"):
        len(TFDS(root, "train"))
    assert [one.name for one in foreign.iterdir()] == [shard]


def test_a_datasets_file_may_be_a_link_and_in_a_folder_of_its_own(folder: Path, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "packed", tmp_path / "elsewhere"
    pack(ImageFolder(folder), root)
    shard = "packed-train.tfrecord-00000-of-00001"
    elsewhere.mkdir()
    (root / shard).rename(elsewhere / "held")
    (root / f"{shard}.index").unlink()
    (root / "inner").mkdir()
    (root / "inner" / shard).symlink_to(elsewhere / "held")
    info = json.loads((root / "dataset_info.json").read_text())
    info["splits"][0]["filepathTemplate"] = "inner/" + shard
    (root / "dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "link").symlink_to(root)
    assert len(TFDS(tmp_path / "link", "train")) == 17
    assert [one.name for one in elsewhere.iterdir()] == ["held"]  # the index lies beside the link


def test_what_a_killed_pack_left_goes_with_the_next_one(folder: Path, tmp_path: Path) -> None:
    dead, other = tmp_path / f".out.partial-{'0' * 16}", tmp_path / ".out.partial-mine"
    for half in (dead, other):
        half.mkdir()
        (half / "0").write_bytes(b"half")
    pack(ImageFolder(folder), tmp_path / "out")
    assert left(tmp_path) == [other.name, "out", "photos"]
    before = os.umask(0o027)
    try:
        pack(ImageFolder(folder), tmp_path / "narrow")
    finally:
        os.umask(before)
    assert (tmp_path / "narrow").stat().st_mode & 0o777 == 0o750
