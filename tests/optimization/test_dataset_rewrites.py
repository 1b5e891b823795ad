"""Functions played again with operations done otherwise: the same pixels, the same errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from greenload.optimization.dataset_crops import crops, crops_while_decoding
from greenload.optimization.dataset_functions import (
    Rewrite,
    cast_later,
    mapped_again,
    reversed_axis,
    reversing,
    seeds_fixed,
    shape_of_bytes,
    traced,
)
from greenload.profiling.tfdata.walk import walk

SIDES = (41, 32)


def jpeg(height: int, width: int, seed: int = 0, quality: int = 80) -> Any:
    """A JPEG of coloured noise with soft edges, its chroma at half the size."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), np.uint8)
    image = tf.cast(tf.image.resize(small, (height, width)), tf.uint8)
    return tf.io.encode_jpeg(image, quality=quality, chroma_downsampling=True)


def played(dataset: tf.data.Dataset, function: Any, rewrites: list[Rewrite]) -> tuple[list[Any], list[Any]]:
    """The elements of a map as it is, and with its function played again."""
    mapped = dataset.map(function)
    wrapper = walk(mapped).function
    again = mapped_again(dataset, [(wrapper, tuple(rewrites))])
    assert again.element_spec == mapped.element_spec
    return [[tf.nest.flatten(element) for element in given.as_numpy_iterator()] for given in (mapped, again)]  # type: ignore[return-value]


def kinds(dataset: tf.data.Dataset) -> list[str]:
    """The operations of a map's function."""
    return [operation.type for operation in traced(walk(dataset).function).graph.get_operations()]


def equal(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(
        np.array_equal(one, other) for a, b in zip(left, right, strict=True) for one, other in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("top, side", [((0, 0), 1), ((3, 5), 17), ((7, 1), 24), ((17, 8), 24)])
def test_a_crop_that_is_cut_out_while_decoding_has_the_same_pixels(top: tuple[int, int], side: int) -> None:
    contents = tf.data.Dataset.from_tensor_slices(tf.stack([jpeg(*SIDES, seed=seed) for seed in range(6)]))

    def decode(data: Any) -> Any:
        image = tf.io.decode_jpeg(data, channels=3)
        return tf.slice(image, [*top, 0], [side, side, 3]), tf.shape(image)

    function = traced(walk(contents.map(decode)).function)
    assert len(list(crops(function))) == 1
    before, after = played(contents, decode, list(crops_while_decoding(function)))
    assert equal(before, after)


def test_a_random_crop_draws_the_same_windows() -> None:
    contents = tf.data.Dataset.from_tensor_slices(tf.stack([jpeg(*SIDES, seed=seed) for seed in range(8)]))

    def decode(data: Any) -> Any:
        return tf.image.random_crop(tf.io.decode_jpeg(data, channels=3), (24, 24, 3), seed=5)

    function = traced(walk(contents.map(decode)).function)
    rewrites = list(crops_while_decoding(function))
    assert rewrites
    before, after = played(contents, decode, rewrites)
    assert equal(before, after)
    again = mapped_again(contents, [(walk(contents.map(decode)).function, tuple(rewrites))])
    library = traced(walk(again).function).graph.as_graph_def().library
    assert "DecodeAndCropJpeg" in {node.op for function in library.function for node in function.node_def}


def test_files_that_are_no_whole_jpegs_are_decoded_as_before() -> None:
    image = tf.cast(tf.reshape(tf.range(12 * 12 * 3) % 256, (12, 12, 3)), tf.uint8)
    contents = tf.data.Dataset.from_tensor_slices([tf.io.encode_png(image).numpy()])

    def decode(data: Any) -> Any:
        return tf.slice(tf.io.decode_jpeg(data, channels=3), [1, 1, 0], [8, 8, 3])

    function = traced(walk(contents.map(decode)).function)
    before, after = played(contents, decode, list(crops_while_decoding(function)))
    assert equal(before, after)
    cut = tf.data.Dataset.from_tensor_slices([jpeg(64, 64).numpy()[:-200]])
    again = mapped_again(cut, [(walk(cut.map(decode)).function, tuple(crops_while_decoding(function)))])
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(cut.map(decode))
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(again)


def test_a_window_outside_the_image_fails_as_before() -> None:
    contents = tf.data.Dataset.from_tensor_slices([jpeg(20, 20).numpy()])

    def decode(data: Any) -> Any:
        return tf.slice(tf.io.decode_jpeg(data, channels=3), [5, 5, 0], [18, 18, 3])

    function = traced(walk(contents.map(decode)).function)
    again = mapped_again(contents, [(walk(contents.map(decode)).function, tuple(crops_while_decoding(function)))])
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(again)


def test_an_image_that_is_also_used_whole_is_decoded_whole() -> None:
    contents = tf.data.Dataset.from_tensor_slices([jpeg(20, 20).numpy()])

    def decode(data: Any) -> Any:
        image = tf.io.decode_jpeg(data, channels=3)
        return tf.slice(image, [0, 0, 0], [8, 8, 3]), tf.reduce_mean(tf.cast(image, tf.float32))

    assert not list(crops(traced(walk(contents.map(decode)).function)))


@pytest.mark.parametrize("antialias", [False, True])
def test_bytes_are_resized_to_the_floats_that_their_floats_give(antialias: bool) -> None:
    images = tf.data.Dataset.from_tensor_slices(
        np.random.default_rng(1).integers(0, 256, (3, 37, 29, 3)).astype(np.uint8)
    )

    def resize(image: Any) -> Any:
        image = tf.cast(image, tf.float32)
        return tf.image.resize(image, (16, 23), antialias=antialias), tf.shape(image)

    before, after = played(images, resize, [cast_later, shape_of_bytes])
    assert equal(before, after)
    again = mapped_again(images, [(walk(images.map(resize)).function, (cast_later, shape_of_bytes))])
    if not antialias:  # with antialias, tf.image.resize casts by itself
        assert "Cast" in kinds(images.map(resize))
        assert "Cast" not in kinds(again)


def test_a_step_back_is_a_reverse() -> None:
    images = tf.data.Dataset.from_tensor_slices(np.arange(2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 4, 5, 3))

    def flip(image: Any) -> Any:
        return image[:, ::-1], image[::-1], image[1:, ::-1], image[::-2]

    operations = traced(walk(images.map(flip)).function).graph.get_operations()
    assert [reversing(one) for one in operations if one.type == "StridedSlice"] == [1, 0, None, None]
    before, after = played(images, flip, [reversed_axis])
    assert equal(before, after)


def test_draws_without_a_seed_get_the_same_one_in_every_copy() -> None:
    numbers = tf.data.Dataset.range(6)

    def draw(number: Any) -> Any:
        return tf.random.uniform(()) + tf.cast(number, tf.float32), tf.random.gamma((2,), 0.2)

    mapped = numbers.map(draw)
    wrapper = walk(mapped).function
    copies = [mapped_again(numbers, [(wrapper, (seeds_fixed,))]) for _ in range(2)]
    first, second = ([tf.nest.flatten(one) for one in copy.as_numpy_iterator()] for copy in copies)
    assert equal(first, second)
    assert not equal(first, [tf.nest.flatten(one) for one in mapped.as_numpy_iterator()])


def test_variables_are_counted_on_as_by_the_function_itself() -> None:
    count = tf.Variable(0, dtype=tf.int64)
    numbers = tf.data.Dataset.range(3)

    def counted(number: Any) -> Any:
        count.assign_add(1)
        return number

    again = mapped_again(numbers, [(walk(numbers.map(counted)).function, ())])
    assert [int(one) for one in again] == [0, 1, 2]
    assert int(count) == 3


def test_branches_and_loops_are_played_as_they_are() -> None:
    numbers = tf.data.Dataset.range(5)

    def branch(number: Any) -> Any:
        total = tf.while_loop(lambda i, _: i < number, lambda i, t: (i + 1, t + i), (tf.constant(0, tf.int64),) * 2)[1]
        return tf.cond(number > 2, lambda: number * 10, lambda: -number), total

    before, after = played(numbers, branch, [])
    assert equal(before, after)
