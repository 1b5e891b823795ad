"""Stages that reach beyond pixels: a user's own function, and labels."""

from __future__ import annotations

import functools
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support_functions

import greenload as gl
from greenload.plans.params import DrawLayout
from greenload.specs import LabelSpec

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), np.uint8)
SOURCE = gl.Arrays(IMAGES, [0, 1, 2, 3, 1])


def loaded(*stages: Any, source: Any = SOURCE, **options: Any) -> list[tuple[Any, Any]]:
    pytest.importorskip("tensorflow")
    ds = gl.load(gl.Pipeline(source, *stages), epochs=1, threads=2, **options)
    return list(ds.as_numpy_iterator())


# Apply


@pytest.mark.slow
def test_a_function_is_applied_to_each_image() -> None:
    stage = gl.Apply(support_functions.halved, dtype="float32")
    images = np.concatenate([batch for batch, _ in loaded(stage, gl.Batch(2))])
    assert images.dtype == np.float32
    assert (images == IMAGES * np.float32(0.5)).all()
    assert (np.stack([image for image, _ in loaded(stage)]) == images).all()


@pytest.mark.slow
def test_a_function_behind_batch_is_given_batches() -> None:
    stage = gl.Apply(support_functions.twice, shape=(16, 6, 3))
    shapes = [batch.shape for batch, _ in loaded(gl.Batch(2), stage)]
    assert shapes == [(2, 16, 6, 3), (2, 16, 6, 3), (1, 16, 6, 3)]
    pipeline = gl.Pipeline(SOURCE, gl.Batch(2), stage)
    assert gl.make_plan(pipeline).out_spec.shape == (None, 16, 6, 3)


def test_pythons_if_on_a_tensor_is_translated() -> None:
    bright = gl.Arrays(np.stack([np.full((4, 4, 3), 200, np.uint8), np.full((4, 4, 3), 50, np.uint8)]))
    (batch, _), *_ = loaded(gl.Apply(support_functions.darker), gl.Batch(2), source=bright)
    assert batch[:, 0, 0, 0].tolist() == [55, 50]


@pytest.mark.slow
def test_later_stages_see_what_a_function_returned() -> None:
    def cut(image: Any) -> Any:
        return image[1:, 2:]

    stages = (gl.Apply(cut, shape=(None, None, 3)), gl.CenterCrop((7, 4)), gl.Batch(5))
    ((batch, _),) = loaded(*stages)
    assert (batch == IMAGES[:, 1:, 2:]).all()


def test_the_reference_calls_the_function() -> None:
    pytest.importorskip("tensorflow")
    stage = gl.Apply(support_functions.halved, dtype="float32")
    found = stage.reference(IMAGES[0], {})
    assert found.dtype == np.float64  # stands for float32
    assert (found == IMAGES[0] / 2).all()


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (lambda: gl.Apply(support_functions.halved), "Apply(halved) returned float32, but uint8 was declared"),
        (lambda: gl.Apply(support_functions.twice), "Apply(twice) returned an image of shape (16, 6, 3)"),
        (lambda: gl.Apply(support_functions.twice, shape=(15, 6, 3)), "pass shape=(height, width, channels)"),
    ],
)
def test_what_was_not_declared_is_refused_before_anything_runs(stage: Any, says: str) -> None:
    pytest.importorskip("tensorflow")
    with pytest.raises(gl.PipelineError) as caught:
        gl.load(gl.Pipeline(SOURCE, stage(), gl.Batch(2)))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_backends_refuse_a_function_by_name() -> None:
    pipeline = gl.Pipeline(SOURCE, gl.Apply(support_functions.darker), gl.Batch(2))
    with pytest.raises(gl.PipelineError, match=r"Apply\(darker\) can't run on backend 'dali-cpu'.*use backend='tf'"):
        gl.make_plan(pipeline, "dali-cpu")


def test_a_function_is_described_by_its_name() -> None:
    stage = gl.Apply(support_functions.twice, shape=(16, None, 3), dtype="uint8")
    pipeline = gl.Pipeline(SOURCE, stage, gl.OneHot(4))
    data = json.loads(json.dumps(pipeline.to_dict()))
    assert data["stages"][0] == {
        "stage": "Apply",
        "fn": "support_functions:twice",
        "shape": [16, None, 3],
        "dtype": "uint8",
    }
    assert gl.Pipeline.from_dict(data, SOURCE) == pipeline
    assert str(stage) == "Apply(twice, shape=(16, None, 3), dtype='uint8')"
    assert gl.Apply(support_functions.twice) != gl.Apply(support_functions.halved)


def test_a_function_without_a_name_runs_but_is_not_described() -> None:
    def local(image: Any) -> Any:
        return image

    shadowed = functools.wraps(support_functions.twice)(lambda image: image)  # of that name, but not that function
    for fn in (local, lambda image: image, functools.partial(local), shadowed):
        stage = gl.Apply(fn)
        assert stage == gl.Apply(fn)
        with pytest.raises(gl.PipelineError, match="can't be imported by a name: define it with def at the top"):
            stage.to_dict()
    assert len(loaded(gl.Apply(functools.partial(local)), gl.Batch(5))) == 1


def test_a_function_that_forgets_to_return_is_named() -> None:
    with pytest.raises(gl.PipelineError, match=r"Apply\(.*\) returned nothing: end the function with return image"):
        loaded(gl.Apply(lambda image: None), gl.Batch(2))


# OneHot


def test_many_classes_cost_no_more_memory_than_their_codes() -> None:
    pipeline = gl.Pipeline(SOURCE, gl.OneHot(20_000), gl.Batch(3))
    tracemalloc.start()
    try:
        codes = DrawLayout.of(pipeline).labels(np.array([0, 19_999, 7]), None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert codes.argmax(axis=1).tolist() == [0, 19_999, 7] and codes.sum() == 3.0
    assert peak < 4e6


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "uint8", "float16", "bfloat16", "int8"])
def test_labels_are_one_hot(dtype: str) -> None:
    pipeline = gl.Pipeline(SOURCE, gl.OneHot(4, dtype), gl.Batch(3))
    assert pipeline.label == LabelSpec((4,), dtype)
    labels = [label for _, label in loaded(*pipeline.stages)]
    assert [str(label.dtype) for label in labels] == [dtype] * 2
    expected = np.eye(4)[[0, 1, 2, 3, 1]]
    assert (np.concatenate(labels).astype(float) == expected).all()
    encoded = DrawLayout.of(pipeline).labels(SOURCE.labels, None)
    assert str(encoded.dtype) == dtype
    assert (encoded.astype(float) == expected).all()
    assert DrawLayout.of(gl.Pipeline(SOURCE)).labels(SOURCE.labels, None).tolist() == [0, 1, 2, 3, 1]


def test_a_label_without_a_batch_is_one_vector() -> None:
    assert [label.tolist() for _, label in loaded(gl.OneHot(4))][3] == [0, 0, 0, 1]


@pytest.mark.slow
def test_it_may_stand_anywhere_and_is_the_same_on_every_backend() -> None:
    pytest.importorskip("nvidia.dali")
    for stages in ((gl.Batch(5), gl.OneHot(4)), (gl.OneHot(4), gl.RandomVerticalFlip(), gl.Batch(5))):
        for backend in ("tf", "dali-cpu"):
            ((_, label),) = loaded(*stages, backend=backend)
            assert label.argmax(1).tolist() == [0, 1, 2, 3, 1]


def test_a_label_that_is_no_class_is_named_before_anything_is_loaded() -> None:
    pytest.importorskip("tensorflow")
    for labels, name, found in (([0, 1, 3, 1, 4], "images[2]", 3), ([0, 1, 1, -1, 4], "images[3]", -1)):
        pipeline = gl.Pipeline(gl.Arrays(IMAGES, labels), gl.OneHot(3), gl.Batch(2))
        with pytest.raises(gl.RecordError, match=f"must be in 0 … 2 for OneHot.*, not {found}: ") as caught:
            gl.load(pipeline)
        assert caught.value.path == name
        assert "\n" not in str(caught.value)


def test_labels_are_encoded_once() -> None:
    with pytest.raises(gl.PipelineError, match=r"labels are float32 4 already: remove it"):
        gl.Pipeline(SOURCE, gl.OneHot(4), gl.OneHot(4))


def test_a_plan_shows_its_labels() -> None:
    plan = gl.make_plan(gl.Pipeline(SOURCE, gl.OneHot(4), gl.Batch(2)))
    assert "labels: float32 4 (OneHot(num_classes=4))" in str(plan)
    assert plan.to_dict()["label"] == "float32 4"
    assert plan.label == LabelSpec((4,), "float32")


# dtypes, sizes


@pytest.mark.slow
def test_arrays_of_small_floats_flow_through() -> None:
    tf = pytest.importorskip("tensorflow")
    for dtype in ("float16", "bfloat16", "int8"):
        images = (IMAGES // 2).astype(tf.as_dtype(dtype).as_numpy_dtype)
        source = gl.Arrays(images)
        assert source == gl.Arrays(images.copy())
        assert source != gl.Arrays(images[::-1])
        (batch, _), *_ = loaded(gl.RandomHorizontalFlip(1.0), gl.Batch(5), source=source)
        assert str(batch.dtype) == dtype
        assert (batch.astype(float) == images[:, :, ::-1].astype(float)).all()


@pytest.mark.slow
def test_an_image_too_small_for_a_crop_stops_loading_and_is_named(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    paths = []
    for place, side in enumerate((30, 30, 20, 30)):
        paths.append(str(tmp_path / f"{place}.png"))
        tf.io.write_file(paths[-1], tf.io.encode_png(np.zeros((side, 30, 3), np.uint8)))
    stages = (gl.Decode(), gl.RandomCrop(24), gl.Batch(2))
    with pytest.raises(gl.RecordError, match="needs images of at least 24×24 pixels") as caught:
        loaded(*stages, source=gl.Files(paths))
    assert caught.value.path == paths[2]
    assert "pass pad_if_needed=True" in caught.value.reason


@pytest.mark.slow
def test_stages_behind_batch_draw_for_each_sample() -> None:
    stages = (gl.Batch(2), gl.RandomErasing(1.0), gl.ColorJitter(0.4))
    early = np.concatenate([batch for batch, _ in loaded(*stages[1:], gl.Batch(5))]).astype(int)
    late = np.concatenate([batch for batch, _ in loaded(*stages)])
    assert np.abs(early - late).max() <= 1
