"""Which files a dataset reads: found in its graph wherever they are named, refused where they aren't."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from greenload.errors import UsageError
from greenload.profiling import profile
from greenload.profiling.tfdata.files import files_of_dataset, some_files

tf = pytest.importorskip("tensorflow")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three files of one record each."""
    paths = [str(tmp_path / f"{number}.tfrecord") for number in range(3)]
    for path in paths:
        with tf.io.TFRecordWriter(path) as writer:
            writer.write(b"record")
    return paths


def _mapped(files: list[str]) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(files).map(tf.io.read_file).batch(2).prefetch(1)


def _listed(files: list[str]) -> tf.data.Dataset:
    return tf.data.Dataset.list_files(str(Path(files[0]).parent / "*.tfrecord")).map(tf.io.read_file)


def _interleaved(files: list[str]) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(files).interleave(tf.data.TFRecordDataset)


def _captured(files: list[str]) -> tf.data.Dataset:
    names = tf.constant(files)
    return tf.data.Dataset.range(3).map(lambda index: tf.io.read_file(names[index]))


def _stateful(files: list[str]) -> tf.data.Dataset:
    scale = tf.Variable(2)
    return tf.data.Dataset.from_tensor_slices(files).map(lambda path: (tf.io.read_file(path), scale + 1))


def _pattern_inside(files: list[str]) -> tf.data.Dataset:
    pattern = str(Path(files[0]).parent / "*.tfrecord")
    return tf.data.Dataset.from_tensors(pattern).flat_map(lambda one: tf.data.Dataset.list_files(one, shuffle=False))


@pytest.mark.parametrize(
    "make", [tf.data.TFRecordDataset, _mapped, _listed, _interleaved, _captured, _stateful, _pattern_inside]
)
def test_files_are_found_wherever_they_are_named(
    make: Callable[[list[str]], tf.data.Dataset], files: list[str]
) -> None:
    assert sorted(files_of_dataset(make(files))) == files


def test_a_scheme_is_no_part_of_the_path(files: list[str]) -> None:
    assert files_of_dataset(tf.data.TFRecordDataset([f"file://{files[0]}"])) == (files[0],)


def test_one_file_is_named_once(files: list[str]) -> None:
    assert files_of_dataset(tf.data.Dataset.from_tensor_slices([files[0]] * 5).map(tf.io.read_file)) == (files[0],)


def test_names_put_together_later_and_generators_are_refused(files: list[str]) -> None:
    def generate() -> Iterator[bytes]:
        yield from (Path(path).read_bytes() for path in files)

    names = tf.data.Dataset.from_tensor_slices([Path(path).name for path in files])
    folder = str(Path(files[0]).parent)
    for dataset in (
        names.map(lambda name: tf.io.read_file(tf.strings.join([folder, name], separator="/"))),
        tf.data.Dataset.from_generator(generate, output_signature=tf.TensorSpec((), tf.string)),
        tf.data.Dataset.range(3),
    ):
        with pytest.raises(UsageError, match="names none that exists"):
            files_of_dataset(dataset)


@pytest.mark.parametrize("make", [tf.data.TFRecordDataset, _mapped, _listed, _interleaved, _stateful])
def test_one_file_of_each_folder_is_enough_to_find_the_device(
    make: Callable[[list[str]], tf.data.Dataset], files: list[str]
) -> None:
    (found,) = some_files(make(files))
    assert found in files


def test_folders_are_told_apart_and_other_texts_are_no_files(files: list[str], tmp_path: Path) -> None:
    other = tmp_path / "other" / "3.tfrecord"
    other.parent.mkdir()
    other.touch()
    zipped = tf.data.Dataset.zip((tf.data.TFRecordDataset(files), tf.data.TextLineDataset(f"file://{other}")))
    assert some_files(zipped) == (files[0], str(other))
    texts = tf.data.Dataset.from_tensor_slices((["what?", "", "*", "a\0b", str(tmp_path)], [1, 2, 3, 4, 5]))
    assert some_files(texts) == some_files(tf.data.Dataset.range(3)) == ()
    assert (
        some_files(tf.data.Dataset.from_generator(lambda: iter(files), output_signature=tf.TensorSpec((), tf.string)))
        == ()
    )


def test_a_profile_looks_for_the_device_that_holds_the_files(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the storage model's range is that of all the machine's disks."""
    asked = []

    def discover(*, data: tuple[str, ...]) -> None:
        asked.append(data)
        raise UsageError("that is all")

    monkeypatch.setattr(profile, "discover", discover)
    with pytest.raises(UsageError, match="that is all"):
        profile.profile(tf.data.TFRecordDataset(files))
    assert asked == [(files[0],)]
