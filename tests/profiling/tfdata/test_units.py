"""What one sample of a dataset is: read from the graph, ruled out by shapes, or as the user says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.backends.dali import plugin
from greenload.profiling.tfdata.counting import count_elements
from greenload.profiling.tfdata.rebuild import Builder
from greenload.profiling.tfdata.units import ranks, sample_unit
from greenload.profiling.tfdata.walk import walk

tf = pytest.importorskip("tensorflow")

Dataset = tf.data.Dataset
Range = tf.data.Dataset.range
PIXELS, LABELS = np.zeros((20, 4, 4, 3), np.uint8), np.arange(20)
Make = Callable[[], Any]


def sequences() -> Any:
    """64 sequences of 3 to 22 numbers, each with its label."""
    return Range(64).map(lambda n: (tf.ones([3 + n % 20]), n))


def length(sequence: Any, label: Any) -> Any:
    return tf.shape(sequence)[0]


def thirds(x: Any) -> Any:
    return x % 3


def by_thirds(reduce: Callable[[Any, Any], Any]) -> Any:
    return Range(64).group_by_window(thirds, reduce, window_size=8)


def made() -> Iterator[Any]:
    for size in (2, 3, 1):
        yield np.ones((size, 4), np.float32)


# By samples in an element, on average.
ROWS: dict[str, tuple[Make, float]] = {
    "bucket_by_sequence_length": (
        lambda: sequences().bucket_by_sequence_length(length, [10, 30], [4, 4, 4]).map(lambda x, y: (x[:, :1], y)),
        64 / 17,
    ),
    "buckets without padding": (
        lambda: sequences().bucket_by_sequence_length(length, list(range(4, 24)), [4] * 21, no_padding=True),
        3.2,
    ),
    "group_by_window of batches": (lambda: by_thirds(lambda key, window: window.batch(8)), 64 / 9),
    "group_by_window of zipped batches": (
        lambda: by_thirds(lambda key, window: Dataset.zip((window.batch(8).prefetch(1), window.batch(8)))),
        64 / 9,
    ),
    "group_by_window, batched behind": (lambda: by_thirds(lambda key, window: window).batch(4), 4),
    "group_by_window of what were batches": (
        lambda: Range(64).batch(4).group_by_window(lambda x: tf.constant(0, tf.int64), lambda k, w: w, window_size=8),
        4,
    ),
    "rebatch": (lambda: Range(64).batch(8).rebatch(3), 64 / 22),
    "rebatch of arrays": (lambda: Dataset.from_tensors(np.arange(64)).rebatch(8), 8),
    "ragged_batch": (lambda: sequences().ragged_batch(8), 8),
    "sparse tensors": (lambda: Range(8).map(lambda i: tf.sparse.from_dense([i, 0])).batch(4), 4),
    "enumerate": (lambda: Range(64).batch(8).enumerate(), 8),
    "zip, its second branch": (lambda: Dataset.zip((Range(8), Range(64).batch(8))), 8),
    "interleave of zipped batches": (
        lambda: Range(4).interleave(lambda i: Dataset.zip((Range(6), Range(6))).batch(3)),
        3,
    ),
    "gl.load": (lambda: gl.load(gl.Pipeline(gl.Arrays(PIXELS, LABELS), gl.Batch(8)), "tf", epochs=1), 20 / 3),
    "concatenate": (lambda: Range(64).batch(8).concatenate(Range(8).batch(3)), 72 / 11),
}
ELEMENTS: dict[str, Make] = {
    "numbers": lambda: Range(9),
    "a number of each batch": lambda: Range(9).batch(3).map(tf.reduce_sum),
    "unbatch": lambda: Range(9).batch(3).unbatch(),
    "windows": lambda: Range(9).window(3),
    "group_by_window": lambda: by_thirds(lambda key, window: window),
    "group_by_window, one of each window": lambda: by_thirds(lambda key, window: window.batch(8).map(tf.reduce_sum)),
    "an image and its label": lambda: Range(9).map(lambda i: (tf.ones([8, 8, 3]), i)),
    "an image and a vector": lambda: Range(9).map(lambda i: (tf.ones([8, 8, 3]), tf.one_hot(i, 10))),
}
UNKNOWN: dict[str, Make] = {
    "batches of an element's parts": lambda: Range(4).flat_map(
        lambda i: Dataset.from_tensor_slices(tf.range(6)).batch(3)
    ),
    "batches of a function": lambda: Range(9).map(lambda i: (tf.ones([32, 4]), tf.ones([32]))),
    "batches of a generator": lambda: Dataset.from_generator(made, output_signature=tf.TensorSpec((None, 4))),
    "no shapes": lambda: Dataset.from_generator(made, tf.float32),
    "sequences of windows": lambda: Range(9).window(3).flat_map(lambda window: window.batch(3)),
    "images alone": lambda: Range(9).map(lambda i: tf.ones([8, 8, 3])),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_rows_of_batches_are_counted_in_the_elements_seen(name: str, tmp_path: Path) -> None:
    make, per_element = ROWS[name]
    counts = count_elements(walk(make()), Builder(str(tmp_path)), 16, lambda: None)
    assert counts.unit.rows and counts.unit.known
    assert counts.samples_per_element == pytest.approx(per_element)


@pytest.mark.parametrize(("size", "shape"), [(4, (4, 3)), (1, (3,))])
def test_dali_gives_batches_unless_they_are_of_one(size: int, shape: tuple[int, ...]) -> None:
    found = plugin.availability()
    if not found.usable:
        pytest.skip(f"{found.detail}; {found.remedy}")
    from nvidia.dali import Pipeline, fn  # type: ignore[import-untyped]
    from nvidia.dali.plugin.tf import DALIDataset  # type: ignore[import-untyped]

    with Pipeline(batch_size=size, num_threads=1, device_id=None) as pipeline:
        pipeline.set_outputs(fn.random.uniform(range=(0, 1), shape=[3]))
    data = DALIDataset(
        pipeline,
        batch_size=size,
        num_threads=1,
        device_id=None,
        output_shapes=(shape,),
        output_dtypes=(tf.float32,),
    )
    assert sample_unit(walk(data.take(2))).rows == (size > 1)


def test_elements_that_are_no_batches_are_samples() -> None:
    assert {name for name, make in ELEMENTS.items() if sample_unit(walk(make())).rows} == set()
    assert {name for name, make in ELEMENTS.items() if not sample_unit(walk(make())).known} == set()


def test_where_it_can_not_be_known_elements_are_taken_and_that_is_said() -> None:
    for name, make in UNKNOWN.items():
        found = sample_unit(walk(make()))
        assert not found.rows and not found.known, name
        assert "samples_per_element=" in found.text, name


@pytest.mark.slow
def test_what_the_user_says_is_taken(tmp_path: Path) -> None:
    def counted(make: Make, given: float | str) -> tuple[float, int]:
        root = walk(make())
        counts = count_elements(root, Builder(str(tmp_path)), 16, lambda: None, sample_unit(root, given))
        assert counts.unit.known
        return counts.samples_per_element, counts.samples

    assert counted(UNKNOWN["batches of a function"], 32.0) == (32, 9 * 32)
    assert counted(UNKNOWN["batches of a generator"], "rows") == (2, 6)
    assert counted(UNKNOWN["no shapes"], "rows") == (2, 6)
    assert counted(ROWS["rebatch of arrays"][0], 1.0) == (1, 8)
    assert counted(ELEMENTS["numbers"], 0.5) == (0.5, 4)
    with pytest.raises(gl.UsageError, match="have none"):
        sample_unit(walk(Range(3)), "rows")


def test_axes_of_the_tensors_of_an_element() -> None:
    assert ranks(sequences().ragged_batch(8).element_spec) == [2, 1]
    assert ranks({"a": tf.TensorSpec(None), "b": tf.TensorSpec(())}) == [None, 0]
