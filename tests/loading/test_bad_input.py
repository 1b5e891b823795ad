"""Bad records: named, never lost, never a hang; and left out only when asked for."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.backends import registry
from greenload.backends.base import Records
from greenload.backends.chain import Chain
from greenload.backends.tables import TABLES
from greenload.errors import RecordError, SourceError
from greenload.loading import verify as verifying
from greenload.loading.record_errors import record_error
from greenload.loading.verify import verify
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.randomness import permute
from greenload.sources import Arrays, Files, ImageFolder
from greenload.sources.formats import header
from greenload.stages import Batch, CenterCrop, Decode, RandomHorizontalFlip, RandomResizedCrop, Resize, Shuffle, Stage
from greenload.text import printable

tf = pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.* have an EXIF orientation"),  # tests/loading/test_survey.py
]

BROKEN = (
    "truncated-early.jpg",
    "truncated-half.jpg",
    "truncated-late.jpg",
    "truncated-last-2-bytes.jpg",
    "truncated-header.jpg",
    "truncated-progressive.jpg",
    "empty.jpg",
    "text.jpg",
    "broken-huffman-table.jpg",
    "truncated.png",
)
UNSUPPORTED = {"tf": ("image.tif",), "dali-cpu": ("image.gif",), "pillow": ("image.tif",), "native": ("image.tif",)}
READ = (
    "grey.jpg",
    "cmyk.jpg",
    "progressive.jpg",
    "exif-rotated.jpg",
    "one-pixel.jpg",
    "trailing-garbage.jpg",
    "misnamed-png.jpg",
    "plain.png",
    "palette.png",
    "alpha.png",
    "16-bit.png",
    "16-bit-grey.png",
    "image.bmp",
    "image.webp",
)
DECODERS = ["tf", "dali-cpu", "pillow", "native"]
SMALL: tuple[Stage, ...] = (Decode(), CenterCrop(8))
AUGMENTED: tuple[Stage, ...] = (Decode(), RandomResizedCrop(8, scale=(0.01, 0.1)), RandomHorizontalFlip())


# What finds and names a bad record is one for all backends, and quickest on DALI, whose graphs are the smallest; that
# each decoder's errors reach it, `decoder` tests.
@pytest.fixture(params=["dali-cpu", pytest.param("tf", marks=pytest.mark.long)])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "dali-cpu":
        pytest.importorskip("nvidia.dali")
    return str(request.param)


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> str:
    """A backend, in tests of what it decodes. Batches come back from Pillow as they do from DALI."""
    seen = registry.get(request.param).availability()
    if not seen.usable:
        pytest.skip(f"{request.param}: {seen.detail}; {seen.remedy}")
    return str(request.param)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory, bad_images: ModuleType) -> dict[str, Path]:
    return bad_images.make_all(tmp_path_factory.mktemp("kinds"))


@pytest.fixture
def good(tmp_path: Path, bad_images: ModuleType) -> list[Path]:
    """Ten good photos."""
    paths = [tmp_path / f"good{k}.jpg" for k in range(10)]
    for k, path in enumerate(paths):
        path.write_bytes(bad_images.jpeg(30, 40, seed=k))
    return paths


def put(paths: list[Path], **bad: Path) -> Files:
    """The photos with others in some of their places: `at3=path`."""
    mixed = list(paths)
    for place, path in bad.items():
        mixed[int(place.removeprefix("at"))] = path
    return Files(mixed, labels=range(len(mixed)))


def failing(dataset: Any) -> RecordError:
    with pytest.raises(RecordError) as caught:
        for _ in dataset:
            pass
    assert "\n" not in caught.value.reason
    assert str(caught.value) == printable(f"{caught.value.path}: {caught.value.reason}")
    return caught.value


LOADED = ("truncated-half.jpg", "text.jpg")
"""What decoding refuses, and what isn't decoded at all; the others go the same two ways through a graph."""


def test_every_kind_of_bad_file_is_named(decoder: str, kinds: dict[str, Path], good: list[Path]) -> None:
    pipeline = gl.Pipeline(put(good), *SMALL, Batch(4))
    dataset = gl.load(pipeline, decoder, epochs=1)  # one graph, its file 5 changes
    said = {"empty": "empty", "text": "not an image", "image": "not read by backend", "trunc": "truncated"}
    broken = [name for name in BROKEN if decoder != "native" or not name.endswith("png")]
    with Chain(make_plan(pipeline, decoder, threads=1), 1) as chain:
        for name in (*broken, *UNSUPPORTED[decoder]):
            shutil.copy(kinds[name], good[5])
            with pytest.raises(RecordError) as caught:
                chain.run(Records([good[5].read_bytes()], np.zeros((1, 0)), [str(good[5])]))
            errors = [caught.value]
            if name in (*LOADED, *UNSUPPORTED[decoder]):
                errors.append(failing(dataset))
            for error in errors:
                assert error.path == str(good[5]), name
                wanted = next((text for start, text in said.items() if name.startswith(start)), "broken")
                assert wanted in error.reason or "can't be decoded" in error.reason, name


@pytest.mark.parametrize("name", [n for n in BROKEN if n.startswith("truncated")])
def test_a_cut_file_is_found_whatever_the_window(decoder: str, kinds: dict[str, Path], name: str) -> None:
    # 60 draws of small windows of the one file: most lie in its good part
    source = Files([kinds[name]] * 60)
    pipeline = gl.Pipeline(source, Decode(), RandomResizedCrop(8, scale=(0.001, 0.01)), Batch(60))
    numbers = DrawLayout.of(pipeline).prepare(0, 0, np.arange(60))
    with Chain(make_plan(pipeline, decoder, threads=1), 1) as chain:
        for row in range(60):
            with pytest.raises(RecordError):
                chain.run(Records([source.read(0)], numbers[row : row + 1], ["x"]))


def test_unusual_files_are_no_errors(decoder: str, kinds: dict[str, Path], good: list[Path]) -> None:
    read = [name for name in READ if header(kinds[name].read_bytes()).kind in TABLES[decoder].kinds]
    paths = [*good, *(kinds[name] for name in read)]
    source = Files(paths, labels=range(len(paths)))
    labels = [labels for _, labels in gl.load(gl.Pipeline(source, *SMALL, Batch(4)), decoder, epochs=1)]
    assert np.concatenate(labels).tolist() == list(range(len(paths)))
    assert verify(source, remember=False).bad == ()


PLACES: dict[str, tuple[dict[str, str], int, int]] = {
    "the first": ({"at0": "text.jpg"}, 4, 0),
    "the last": ({"at9": "text.jpg"}, 4, 9),
    "a last batch of one": ({"at9": "truncated-half.jpg"}, 3, 9),
    "a whole last batch": ({"at8": "truncated-half.jpg", "at9": "text.jpg"}, 4, 8),
    "two in one batch": ({"at5": "truncated-half.jpg", "at6": "text.jpg"}, 4, 5),
    "two in two batches": ({"at7": "empty.jpg", "at1": "truncated-half.jpg"}, 4, 1),
    "batches of one": ({"at4": "truncated-half.jpg"}, 1, 4),
    "one batch": ({"at4": "truncated-half.jpg"}, 100, 4),
    "all": ({f"at{k}": "text.jpg" for k in range(10)}, 4, 0),
}


SIZES = [("tf", 3), ("tf", 100), ("dali-cpu", 1), ("dali-cpu", 4), pytest.param("tf", 4, marks=pytest.mark.long)]


@pytest.mark.parametrize(("backend", "size"), SIZES)
def test_wherever_it_stands(backend: str, kinds: dict[str, Path], good: list[Path], size: int) -> None:
    if backend == "dali-cpu":
        pytest.importorskip("nvidia.dali")
    whole = [path.read_bytes() for path in good]
    dataset = gl.load(gl.Pipeline(put(good), *SMALL, Batch(size)), backend, epochs=1)  # one graph, its files change
    for name, (bad, _, first) in ((name, place) for name, place in PLACES.items() if place[1] == size):
        for k, path in enumerate(good):
            path.write_bytes(kinds[bad[f"at{k}"]].read_bytes() if f"at{k}" in bad else whole[k])
        seen: list[int] = []
        with pytest.raises(RecordError) as caught:
            for _, labels in dataset:
                seen += labels.numpy().tolist()
        assert caught.value.path in {str(good[int(place.removeprefix("at"))]) for place in bad}, name
        # batches before the bad one's come whole and in order, none after
        assert seen == list(range(first // size * size)), name


def test_without_batch(kinds: dict[str, Path], good: list[Path]) -> None:
    source = put(good, at9=kinds["truncated-half.jpg"])
    labels = []
    with pytest.raises(RecordError) as caught:
        for _, label in gl.load(gl.Pipeline(source, *SMALL), epochs=1):
            labels.append(int(label))
    assert caught.value.path == str(kinds["truncated-half.jpg"])
    assert labels == list(range(9))


@pytest.mark.slow
def test_shuffled_sharded_and_dropped(kinds: dict[str, Path], good: list[Path], backend: str) -> None:
    source = put(good, at4=kinds["truncated-half.jpg"])
    pipeline = gl.Pipeline(source, Shuffle(), *SMALL, Batch(2, drop_remainder=True), seed=5)
    place = permute(np.arange(10), 10, 5, 1).tolist().index(4)
    for count in (1, 2):
        for index in range(count):
            dataset = gl.load(
                pipeline, backend, epochs=2, start=gl.Position(1), shard=gl.Shard(index, count), threads=2
            )
            if place % count == index and place // count < (10 // count) // 2 * 2:
                assert failing(dataset).path == str(kinds["truncated-half.jpg"])
            else:
                assert len(list(dataset)) == (10 // count) // 2


def test_fit_stops_and_says_which(backend: str, kinds: dict[str, Path], good: list[Path]) -> None:
    dataset = gl.load(gl.Pipeline(put(good), *SMALL, Batch(2)), backend)
    keras = tf.keras
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for name in ("truncated-half.jpg", "empty.jpg"):
        shutil.copy(kinds[name], good[6])
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            model.fit(dataset, epochs=2, verbose=0)
        assert str(good[6]) in str(caught.value), name


def test_dali_goes_on_after_an_error(kinds: dict[str, Path], good: list[Path]) -> None:
    pytest.importorskip("nvidia.dali")
    for name in ("truncated-half.jpg", "text.jpg"):
        dataset = gl.load(gl.Pipeline(put(good, at6=kinds[name]), *SMALL, Batch(2)), "dali-cpu", epochs=1)
        assert failing(dataset).path == str(kinds[name])
        assert failing(dataset).path == str(kinds[name])
    fine = gl.Pipeline(put(good), *SMALL, Batch(2))
    assert len(list(gl.load(fine, "dali-cpu", epochs=1))) == 5


def test_a_file_deleted_after_listing(backend: str, good: list[Path]) -> None:
    dataset = gl.load(gl.Pipeline(put(good), *SMALL, Batch(4)), backend, epochs=1)
    good[7].unlink()
    error = failing(dataset)
    assert (error.path, error.reason) == (str(good[7]), "can't be read: No such file or directory")


def test_a_folder_in_a_files_place(backend: str, good: list[Path], tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    error = failing(gl.load(gl.Pipeline(put(good, at2=tmp_path / "folder.jpg"), *SMALL, Batch(4)), backend, epochs=1))
    assert (error.path, error.reason) == (str(tmp_path / "folder.jpg"), "can't be read: Is a directory")


ODD = ["quo'te\" new\nline.jpg", "br]ack[et] [3] co: lon: ünïcødé ☃.jpg", "back\\slash not-\udcff-utf8.jpg"]


def test_files_of_odd_names_are_named(backend: str, kinds: dict[str, Path], good: list[Path]) -> None:
    paths = []
    for k, name in enumerate(ODD):
        try:
            paths.append(Path(shutil.copy(good[k], good[k].parent / name)))
        except (OSError, UnicodeError):
            continue  # the file system doesn't take the name
    source = Files(paths, labels=range(len(paths)))
    dataset = gl.load(gl.Pipeline(source, *SMALL, Batch(4)), backend, epochs=1)
    assert sum(len(labels) for _, labels in dataset) == len(paths) >= 2  # good ones of odd names are read
    for path in paths:
        whole = path.read_bytes()
        shutil.copy(kinds["truncated-half.jpg"], path)
        assert failing(dataset).path == str(path)
        path.write_bytes(whole)
    for path in paths:
        shutil.copy(kinds["truncated-half.jpg"], path)
    for _ in range(2):  # the second time it is remembered
        assert [error.path for error in verify(source).bad] == [str(path) for path in paths]


def test_errors_that_are_not_about_a_record_stay_what_they_are() -> None:
    plan = gl.make_plan(gl.Pipeline(Files(["a.jpg"]), Decode()), "tf")
    assert record_error("something else went wrong", plan) is None


# on_error="skip"


def skipped(pipeline: gl.Pipeline, backend: str, **options: Any) -> tuple[Any, str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = gl.load(pipeline, backend, on_error="skip", **options)
    texts = [str(w.message) for w in caught if "left out" in str(w.message)]
    assert len(texts) <= 1
    return dataset, texts[0] if texts else ""


def test_skipping_leaves_exactly_the_bad_ones_out(decoder: str, kinds: dict[str, Path], good: list[Path]) -> None:
    bad = {"at0": "truncated-late.jpg", "at4": "text.jpg", "at5": "empty.jpg", "at9": UNSUPPORTED[decoder][0]}
    source = put(good, **{place: kinds[file] for place, file in bad.items()})
    stages = (*AUGMENTED, Batch(4))
    dataset, warning = skipped(gl.Pipeline(source, *stages, seed=3), decoder, epochs=2)
    batches = list(dataset)
    assert np.concatenate([labels for _, labels in batches]).tolist() == [1, 2, 3, 6, 7, 8] * 2
    assert len(dataset) == len(batches) == 4
    assert "left out 4 bad of 10 records" in warning
    assert all(str(kinds[file]) in warning for file in bad.values())
    # what is left is augmented as it would be among good files: draws go by a record's index in the source
    whole = np.concatenate([i for i, _ in gl.load(gl.Pipeline(put(good), *stages, seed=3), decoder, epochs=2)])
    kept = np.concatenate([images for images, _ in batches])
    assert (kept == whole[[1, 2, 3, 6, 7, 8, 11, 12, 13, 16, 17, 18]]).all()


def test_a_shuffled_order_is_one_of_the_good_records(kinds: dict[str, Path], good: list[Path]) -> None:
    source = put(good, at4=kinds["text.jpg"])
    dataset, _ = skipped(gl.Pipeline(source, Shuffle(), *SMALL, Batch(4), seed=3), "tf", epochs=2)
    labels = np.concatenate([labels for _, labels in dataset])
    left = np.array([0, 1, 2, 3, 5, 6, 7, 8, 9])
    expected = [left[permute(np.arange(9), 9, 3, epoch)] for epoch in (0, 1)]
    assert labels.tolist() == np.concatenate(expected).tolist()


def test_a_good_set_is_loaded_as_it_is(good: list[Path], backend: str) -> None:
    pipeline = gl.Pipeline(put(good), Shuffle(), *SMALL, Batch(4))
    dataset, warning = skipped(pipeline, backend, epochs=1)
    assert warning == ""
    for (a, _), (b, _) in zip(dataset, gl.load(pipeline, backend, epochs=1), strict=True):
        assert (a.numpy() == b.numpy()).all()


def test_what_was_verified_is_remembered_until_a_file_changes(
    kinds: dict[str, Path], good: list[Path], monkeypatch: pytest.MonkeyPatch, bad_images: ModuleType
) -> None:
    shutil.copy(kinds["text.jpg"], good[4])
    looked: list[int] = []
    undecodable = verifying._undecodable
    monkeypatch.setattr(verifying, "_undecodable", lambda *a: (looked.append(1), undecodable(*a))[1])
    for _ in range(3):
        assert verify(put(good)).bad_indices == (4,)
    assert len(looked) == 1
    good[4].write_bytes(bad_images.jpeg(30, 40))
    good[6].write_bytes(b"now this one is bad")
    found = verify(put(good))
    assert (found.samples, found.bad_indices, found.bad[0].path) == (10, (6,), str(good[6]))
    assert len(looked) == 2
    verify(put(good), remember=False)
    assert len(looked) == 3


def test_a_damaged_memory_is_made_anew(good: list[Path], tmp_path: Path) -> None:
    good[2].write_bytes(b"bad")
    assert verify(put(good)).bad_indices == (2,)
    (memory,) = Path(os.environ["XDG_CACHE_HOME"]).rglob("verified-*/*.json")
    assert json.loads(memory.read_text())
    for text in ("[[1]]", '[["a", "b"]]', '[[99, "out of range"]]'):
        memory.write_text(text)
        with pytest.warns(UserWarning, match="verified anew"):
            assert verify(put(good)).bad_indices == (2,), text


def test_a_memory_that_can_not_be_kept_is_a_warning(good: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    with pytest.warns(UserWarning, match="what was verified can't be kept there"):
        assert verify(put(good)).bad == ()


def test_nothing_good_left(kinds: dict[str, Path]) -> None:
    source = Files([kinds["text.jpg"], kinds["empty.jpg"]])
    with pytest.raises(SourceError, match=r"all 2 records are bad; the first: .*text.jpg") as caught:
        gl.load(gl.Pipeline(source, *SMALL, Batch(1)), on_error="skip")
    assert "\n" not in str(caught.value)


def test_progress_reaches_the_end(kinds: dict[str, Path], good: list[Path]) -> None:
    seen: list[tuple[int, int]] = []
    verify(put(good, at9=kinds["text.jpg"]), progress=lambda done, total: seen.append((done, total)), remember=False)
    assert seen[-1] == (10, 10)
    assert seen == sorted(seen)


def test_arrays_are_never_bad() -> None:
    found = verify(Arrays(np.zeros((3, 2, 2, 3), np.uint8)))
    assert (found.samples, found.bad) == (3, ())


# sources that hold nothing to load


def test_a_folder_that_can_not_be_loaded_says_so_when_it_is_loaded(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> None:
        gl.load(gl.Pipeline(ImageFolder(tmp_path), Decode(), Resize((4, 4)), Batch(2)), backend)

    with pytest.raises(SourceError, match="no class folders"):
        load()
    (tmp_path / "a").mkdir()
    with pytest.raises(SourceError, match="no images below"):
        load()
    (tmp_path / "a/1.jpg").touch()
    with pytest.raises(SourceError, match="one class only"):
        load()

    def refuse(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match="change its permissions"):
        load()


def test_stages_that_make_no_sense_never_reach_a_file(tmp_path: Path) -> None:
    with pytest.raises(gl.PipelineError, match="put Decode"):
        gl.Pipeline(Files([tmp_path / "gone.jpg"]), CenterCrop(3))
