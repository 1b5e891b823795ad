"""`split_for_device`: two halves that give the numbers of the whole."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import greenload as gl

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIXELS = np.random.default_rng(3).integers(0, 256, (7, 12, 10, 3), np.uint8)
TO_FLOAT = (gl.ToDtype("float32", scale=True), gl.Normalize(MEAN, STD))


def whole(*stages: gl.stages.Stage, images: np.ndarray = PIXELS) -> gl.Pipeline:
    return gl.Pipeline(gl.Arrays(images, np.arange(len(images))), *stages, seed=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stages",
    [
        (*TO_FLOAT, gl.Batch(3)),
        (gl.Batch(3), *TO_FLOAT),
        (gl.ToDtype("float32"), gl.Batch(3), gl.Normalize((120.0,), (60.0,))),
        (gl.RandomHorizontalFlip(), gl.ToDtype("float32", scale=True), gl.Batch(3)),
        (gl.Shuffle(), gl.RandomHorizontalFlip(), *TO_FLOAT, gl.Normalize((0.1,), (3.0,)), gl.Batch(3)),
        TO_FLOAT,
        (*TO_FLOAT, gl.OneHot(7), gl.Shuffle(), gl.Batch(3)),
    ],
    ids=lambda stages: " ".join(type(stage).__name__ for stage in stages),
)
def test_both_halves_give_the_numbers_of_the_whole(stages: tuple[gl.stages.Stage, ...]) -> None:
    pipeline = whole(*stages)
    host, layer = gl.split_for_device(pipeline)
    assert host.specs[-1].dtype == "uint8"
    for (expected, label), (image, same_label) in zip(
        gl.load(pipeline, epochs=2), gl.load(host, epochs=2), strict=True
    ):
        found = layer(image)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * float(np.abs(expected).max()))
        np.testing.assert_array_equal(label, same_label)


def test_channels_are_last_whatever_keras_is_set_to() -> None:
    host, _ = gl.split_for_device(whole(*TO_FLOAT, gl.Batch(3)))
    (image, _), *_ = gl.load(host, epochs=1)
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first")
        found = gl.split_for_device(whole(*TO_FLOAT, gl.Batch(3))).layer(image)
    finally:
        keras.config.set_image_data_format(before)
    np.testing.assert_allclose(found, (image.numpy() / 255.0 - MEAN) / STD, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_half_precision_end_is_rounded_once(dtype: str) -> None:
    pipeline = whole(*TO_FLOAT, gl.ToDtype(dtype), gl.Batch(3))
    host, layer = gl.split_for_device(pipeline)
    for (expected, _), (image, _) in zip(gl.load(pipeline, epochs=1), gl.load(host, epochs=1), strict=True):
        found = layer(image)
        assert found.dtype == expected.dtype == tf.as_dtype(dtype)
        np.testing.assert_array_equal(tf.cast(found, tf.float32), tf.cast(expected, tf.float32))


def test_only_what_stands_behind_the_last_integer_moves() -> None:
    pipeline = whole(gl.ToDtype("float32"), gl.ToDtype("uint8"), gl.ToDtype("float32", scale=True), gl.Batch(2))
    split = gl.split_for_device(pipeline)
    assert split.stages == (gl.ToDtype("float32", scale=True),)
    assert split.pipeline == whole(gl.ToDtype("float32"), gl.ToDtype("uint8"), gl.Batch(2))


@pytest.mark.parametrize(
    "stages",
    [(gl.Batch(2),), (*TO_FLOAT, gl.RandomHorizontalFlip(), gl.Batch(2)), (gl.ToDtype("uint8"), gl.Batch(2)), ()],
)
def test_nothing_to_move_is_said(stages: tuple[gl.stages.Stage, ...]) -> None:
    with pytest.raises(gl.PipelineError, match="nothing to move"):
        gl.split_for_device(whole(*stages))


def test_what_is_no_pipeline_is_refused() -> None:
    with pytest.raises(gl.PipelineError, match="must be a Pipeline, not int"):
        gl.split_for_device(3)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_model_with_the_layer_trains_and_is_saved_and_loaded(tmp_path: object) -> None:
    host, layer = gl.split_for_device(whole(gl.Shuffle(), *TO_FLOAT, gl.Batch(4)))
    model = keras.Sequential([layer, keras.layers.Flatten(), keras.layers.Dense(7, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(gl.load(host), epochs=2, verbose=0)
    model.save(f"{tmp_path}/model.keras")
    again = keras.models.load_model(f"{tmp_path}/model.keras")
    np.testing.assert_array_equal(again(PIXELS), model(PIXELS))
