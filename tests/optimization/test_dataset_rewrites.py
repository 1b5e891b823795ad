"""Functions played again with operations done otherwise: the same pixels, the same errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from greenload.profiling.tfdata.functions import operations_of
from greenload.profiling.tfdata.walk import walk

SIDES = (45, 56)


def jpeg(height: int, width: int, seed: int = 0) -> Any:
    """A JPEG of noise in colour, its chroma at half the size."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return tf.io.encode_jpeg(image, quality=95, chroma_downsampling=True)


def jpegs(count: int = 6) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(tf.stack([jpeg(*SIDES, seed=seed) for seed in range(count)]))


def played(
    dataset: tf.data.Dataset, function: Any, rewrites: Callable[[Any], Sequence[Rewrite]]
) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """A map as it is, and with its function played again."""
    mapped = dataset.map(function)
    wrapper = walk(mapped).function
    again = mapped_again(dataset, [(wrapper, tuple(rewrites(traced(wrapper))))])
    assert again.element_spec == mapped.element_spec
    return mapped, again


def elements(dataset: tf.data.Dataset) -> list[list[Any]]:
    return [tf.nest.flatten(element) for element in dataset.as_numpy_iterator()]


def same(datasets: tuple[tf.data.Dataset, tf.data.Dataset]) -> bool:
    """Whether two datasets give the same elements, bit for bit."""
    left, right = map(elements, datasets)
    return len(left) == len(right) and all(
        np.array_equal(one, other) for a, b in zip(left, right, strict=True) for one, other in zip(a, b, strict=True)
    )


def operations(dataset: tf.data.Dataset) -> set[str]:
    """The operations of a map's function and of those that it calls."""
    return {one.op for one in operations_of(traced(walk(dataset).function))}


@pytest.mark.parametrize("top, side", [((0, 0), 1), ((3, 5), 17), ((7, 1), 24), ((21, 32), 24), ((16, 16), 16)])
def test_a_crop_that_is_cut_out_while_decoding_has_the_same_pixels(top: tuple[int, int], side: int) -> None:
    def decode(data: Any) -> Any:
        image = tf.io.decode_jpeg(data, channels=3)
        return tf.slice(image, [*top, 0], [side, side, 3]), tf.shape(image)

    both = played(jpegs(), decode, crops_while_decoding)
    assert same(both)
    assert "DecodeAndCropJpeg" in operations(both[1])
    assert "DecodeAndCropJpeg" not in operations(both[0])


def test_the_pixel_more_on_each_side_is_needed() -> None:
    """Else the chroma at the window's edges is another one: the images here show it."""

    def decode(data: Any) -> Any:
        return tf.slice(tf.io.decode_jpeg(data, channels=3), [16, 16, 0], [16, 16, 3])

    def naive(data: Any) -> Any:
        return tf.io.decode_and_crop_jpeg(data, [16, 16, 16, 16], channels=3)

    assert not same((jpegs().map(decode), jpegs().map(naive)))


def test_a_random_crop_draws_the_same_windows() -> None:
    def decode(data: Any) -> Any:
        return tf.image.random_crop(tf.io.decode_jpeg(data, channels=3), (24, 24, 3), seed=5)

    both = played(jpegs(8), decode, crops_while_decoding)
    assert same(both)
    assert "DecodeAndCropJpeg" in operations(both[1])


def test_a_crop_of_an_image_with_one_more_axis_is_cut_out_too() -> None:
    def decode(data: Any) -> Any:
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        image.set_shape((None, None, 3))
        return tf.image.crop_to_bounding_box(image, 5, 3, 20, 22)

    both = played(jpegs(), decode, crops_while_decoding)
    assert same(both)


def test_files_that_are_no_whole_jpegs_are_decoded_as_before() -> None:
    image = tf.cast(tf.reshape(tf.range(12 * 12 * 3) % 256, (12, 12, 3)), tf.uint8)

    def decode(data: Any) -> Any:
        return tf.slice(tf.io.decode_jpeg(data, channels=3), [1, 1, 0], [8, 8, 3])

    png = tf.data.Dataset.from_tensor_slices([tf.io.encode_png(image).numpy()])
    assert same(played(png, decode, crops_while_decoding))
    cut = tf.data.Dataset.from_tensor_slices([jpeg(64, 64).numpy()[:-200]])
    for dataset in played(cut, decode, crops_while_decoding):
        with pytest.raises(tf.errors.InvalidArgumentError):
            list(dataset)


def test_a_window_outside_the_image_fails_as_before() -> None:
    def decode(data: Any) -> Any:
        return tf.slice(tf.io.decode_jpeg(data, channels=3), [5, 5, 0], [18, 18, 3])

    for dataset in played(tf.data.Dataset.from_tensor_slices([jpeg(20, 20).numpy()]), decode, crops_while_decoding):
        with pytest.raises(tf.errors.InvalidArgumentError):
            list(dataset)


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

    both = played(images, resize, lambda _: (cast_later, shape_of_bytes))
    assert same(both)
    assert "Cast" in operations(both[0])
    if not antialias:  # with antialias, tf.image.resize casts for other reasons too
        assert "Cast" not in operations(both[1])


def test_a_step_back_is_a_reverse() -> None:
    images = tf.data.Dataset.from_tensor_slices(np.arange(2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 4, 5, 3))

    def flip(image: Any) -> Any:
        return image[:, ::-1], image[::-1], image[1:, ::-1], image[::-2]

    graph = traced(walk(images.map(flip)).function).graph
    assert [reversing(one) for one in graph.get_operations() if one.type == "StridedSlice"] == [1, 0, None, None]
    both = played(images, flip, lambda _: (reversed_axis,))
    assert same(both)
    assert "ReverseV2" in operations(both[1])


def test_draws_without_a_seed_get_the_same_one_in_every_copy() -> None:
    numbers = tf.data.Dataset.range(6)

    def draw(number: Any) -> Any:
        return tf.random.uniform(()) + tf.cast(number, tf.float32), tf.random.gamma((2,), 0.2)

    mapped = numbers.map(draw)
    wrapper = walk(mapped).function
    first, second = (mapped_again(numbers, [(wrapper, (seeds_fixed,))]) for _ in range(2))
    assert same((first, second))
    assert not same((first, mapped))


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

    assert same(played(numbers, branch, lambda _: ()))
