from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from greenload.errors import UsageError
from greenload.sources import ImageFolder, samples
from greenload.sources.samples import MARKER, SampleSummary, make_samples

pytestmark = pytest.mark.slow  # encodes hundreds of photographs


pytest.importorskip("sklearn", reason="samples are cut from scikit-learn's photographs")
Image = pytest.importorskip("PIL.Image", reason="reads the samples back")


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleSummary]:
    folder = tmp_path_factory.mktemp("many")
    return folder, make_samples(folder, images=256)


def test_layout_is_class_folders_with_images_in_turn(many: tuple[Path, SampleSummary]) -> None:
    folder, summary = many
    names = list(files(folder))
    assert len(names) == summary.images == 256
    assert sorted({name.split("/")[0] for name in names}) == [f"class-{n}" for n in range(8)]
    assert "class-3/000011.jpg" in names
    assert summary.total_bytes == sum(map(len, files(folder).values()))
    assert summary.mean_bytes == summary.total_bytes / 256


def test_sizes_are_spread_about_500_by_375(many: tuple[Path, SampleSummary]) -> None:
    folder, summary = many
    sizes = np.array([Image.open(path).size for path in sorted(folder.rglob("*.jpg"))])
    assert summary.mean_width == sizes[:, 0].mean() and summary.mean_height == sizes[:, 1].mean()
    assert 450 < summary.mean_width < 550 and 340 < summary.mean_height < 410
    assert len(np.unique(sizes, axis=0)) > 150
    assert sizes.max() > 900 and sizes.min() < 200
    assert 0.05 < np.mean(sizes[:, 1] > sizes[:, 0]) < 0.25


def test_encodings_are_mixed(many: tuple[Path, SampleSummary]) -> None:
    images = [Image.open(path) for path in sorted(many[0].rglob("*.jpg"))]
    assert {image.mode for image in images} == {"RGB", "L"}
    assert {bool(image.info.get("progressive")) for image in images} == {True, False}
    # The first component's sampling factors: 1 x 1 keeps chroma whole, 2 x 2 halves it.
    assert {image.layer[0][1:3] for image in images if image.mode == "RGB"} == {(1, 1), (2, 2)}
    # The luminance table scales with quality: 60 to 96 give many different ones.
    assert len({image.quantization[0][0] for image in images}) > 6


def test_images_have_the_texture_of_photographs(many: tuple[Path, SampleSummary]) -> None:
    grey = [np.asarray(Image.open(path).convert("L"), np.float64) for path in sorted(many[0].rglob("*.jpg"))]
    for axis in (0, 1):
        spread = [image.std(axis).mean() for image in grey]
        assert np.quantile(spread, 0.02) > 5 and np.median(spread) > 20, f"flat along axis {axis}"


def test_one_seed_gives_the_same_files_and_another_gives_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_samples(tmp_path / name, images=8, classes=2, seed=seed)
    first, again, other = (files(tmp_path / name) for name in "abc")
    assert first == again
    assert all(first[name] != other[name] for name in first)
    assert len(set(first.values())) == 8


def test_an_image_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    make_samples(tmp_path / "few", images=6, classes=2)
    make_samples(tmp_path / "more", images=12, classes=2)
    more = files(tmp_path / "more")
    assert all(more[name] == data for name, data in files(tmp_path / "few").items())


def test_making_them_again_replaces_all_of_them(tmp_path: Path) -> None:
    make_samples(tmp_path, images=12, classes=4)
    make_samples(tmp_path, images=4, classes=2, seed=5)
    assert list(files(tmp_path)) == [f"class-{n % 2}/{n:06d}.jpg" for n in (0, 2, 1, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [MARKER, "class-0", "class-1"]


def test_the_label_of_an_image_is_its_class_however_many_there_are(tmp_path: Path) -> None:
    make_samples(tmp_path, images=12, classes=12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = ImageFolder(tmp_path)
        assert [int(Path(name).stem) for name in source.paths] == source.labels.tolist() == list(range(12))


def test_an_interrupted_run_is_marked_and_can_be_repeated(tmp_path: Path) -> None:
    def interrupt(done: int, images: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_samples(tmp_path, images=8, classes=2, progress=interrupt)
    assert json.loads((tmp_path / MARKER).read_text())["complete"] is False
    make_samples(tmp_path, images=8, classes=2)
    # make profile looks for exactly this text.
    assert '"complete": true' in (tmp_path / MARKER).read_text()


def test_progress_counts_to_the_number_of_images(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    make_samples(tmp_path, images=4, classes=2, progress=lambda done, images: calls.append((done, images)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_folder_of_the_users_own_is_left_alone(tmp_path: Path) -> None:
    photo = tmp_path / "class-0" / "holiday.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"holiday\.jpg; name another folder"):
        make_samples(tmp_path, images=4, classes=2)
    assert photo.read_bytes() == b"mine"
    photo.unlink()
    make_samples(tmp_path, images=4, classes=2)
    photo.write_bytes(b"mine, added later")
    before = files(tmp_path)
    with pytest.raises(UsageError, match=r"holiday\.jpg"):
        make_samples(tmp_path, images=4, classes=2)
    assert files(tmp_path) == before


def test_a_look_alike_without_the_marker_is_left_alone(tmp_path: Path) -> None:
    make_samples(tmp_path, images=4, classes=2)
    (tmp_path / MARKER).unlink()
    with pytest.raises(UsageError, match="empty folder"):
        make_samples(tmp_path, images=4, classes=2)
    assert len(files(tmp_path)) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 3, "classes": 4}, "images=3 for classes=4"),
        ({"images": 0, "classes": 0}, "got 0 and 0"),
        ({"seed": -1}, "got 8 and -1"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_samples(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "sample").write_text("a file")
    with pytest.raises(UsageError, match=r"sample: samples can't be written: .*; name a writable folder"):
        make_samples(tmp_path / "sample")


def test_a_missing_library_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples.importlib.util, "find_spec", lambda name: None if name == "sklearn" else name)
    with pytest.raises(UsageError, match="pip install scikit-learn"):
        make_samples(tmp_path / "new")
    monkeypatch.setattr(samples.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install pillow-simd"):
        make_samples(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_without_pillow_tensorflow_makes_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow")
    make_samples(tmp_path / "pillow", images=24, classes=2)
    real = samples.importlib.util.find_spec
    monkeypatch.setattr(samples.importlib.util, "find_spec", lambda name: None if name == "PIL" else real(name))
    summary = make_samples(tmp_path / "tensorflow", images=24, classes=2)
    assert summary.encoder == "tensorflow"
    for name in files(tmp_path / "pillow"):
        one, other = (Image.open(tmp_path / encoder / name) for encoder in ("pillow", "tensorflow"))
        assert (one.size, one.mode, one.info.get("progressive")) == (
            other.size,
            other.mode,
            other.info.get("progressive"),
        )
        difference = np.asarray(one, np.int16) - np.asarray(other, np.int16)
        # Two encoders of one picture differ by their rounding of grey and of coefficients.
        assert np.abs(difference).mean() < 2


def test_the_shared_fixture_is_a_sample_folder(sample_folder: Path, tmp_path: Path) -> None:
    assert len(files(sample_folder)) == 48
    shutil.copytree(sample_folder, tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / MARKER).read_text())["classes"] == 4
