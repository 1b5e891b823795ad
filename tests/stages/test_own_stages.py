"""Stages of users' own, outside the package: as the documentation says, and as a batch and its labels are mixed."""

from __future__ import annotations

import doctest
import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import own_stages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenload as gl
from greenload.array_ops import TENSORFLOW
from greenload.backends import registry
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan
from greenload.stages.base import partners

COUNT = 11
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 9, 7, 3), np.uint8)
SOURCE = gl.Arrays(IMAGES, np.arange(COUNT) % 4)
OWN = own_stages.RandomNegative()


def usable(name: str) -> None:
    found = registry.get(name).availability()
    if not found.usable:
        pytest.skip(f"{name}: {found.detail}; {found.remedy}")


def loaded(pipeline: gl.Pipeline | Plan, backend: str = "tf", **options: Any) -> tuple[Any, Any]:
    """All images and labels of a pipeline's epochs."""
    pytest.importorskip("tensorflow")
    whole = list(gl.load(pipeline, backend, threads=2, **({"epochs": 1} | options)).as_numpy_iterator())
    return np.concatenate([images for images, _ in whole]), np.concatenate([labels for _, labels in whole])


def expected(stage: gl.Stage, epoch: int = 0) -> Any:
    """What the reference makes of all images of a pipeline of this stage first, with seed 3."""
    layout = DrawLayout.of(gl.Pipeline(SOURCE, stage, seed=3))
    sides = np.full(COUNT, 9), np.full(COUNT, 7)
    params = layout.params(layout.prepare(3, epoch, np.arange(COUNT)), *sides, (0,))[0]
    rows = [{name: values[k] for name, values in params.items()} for k in range(COUNT)]
    return np.stack([stage.reference(image, row) for image, row in zip(IMAGES, rows, strict=True)])


@pytest.mark.slow
def test_the_documented_example_runs() -> None:
    parsed = doctest.DocTestParser().get_doctest(gl.Stage.__doc__ or "", {"__name__": __name__}, "Stage", None, 0)
    assert len(parsed.examples) >= 5
    names: dict[str, Any] = parsed.globs
    assert doctest.DocTestRunner().run(parsed, clear_globs=False).failed == 0
    for backend in ("tf", "pillow"):
        usable(backend)
        images, _ = loaded(gl.Pipeline(SOURCE, names["Invert"](), *names["stages"]), backend)
        kept = [(got == 255 - image).all() for got, image in zip(images, IMAGES, strict=True)]
        twice = [(got == image).all() for got, image in zip(images, IMAGES, strict=True)]
        assert all(a != b for a, b in zip(kept, twice, strict=True))
        assert 0 < sum(kept) < COUNT


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tf", "pillow"])
@pytest.mark.parametrize("stage", [OWN, gl.RandomApply(OWN, 0.5), gl.RandomChoice([OWN, gl.RandomVerticalFlip(1.0)])])
def test_its_pixels_are_its_references(backend: str, stage: gl.Stage) -> None:
    usable(backend)
    images, _ = loaded(gl.Pipeline(SOURCE, stage, gl.Batch(4), seed=3), backend)
    assert (images == expected(stage)).all()


@pytest.mark.slow
def test_it_may_stand_behind_batch() -> None:
    before, _ = loaded(gl.Pipeline(SOURCE, OWN, gl.Batch(4), seed=3))
    behind, _ = loaded(gl.Pipeline(SOURCE, gl.Batch(4), OWN, seed=3))
    assert (before == behind).all()


@pytest.mark.parametrize(("stage", "where"), [(OWN, "RandomNegative()"), (gl.RandomApply(OWN), "RandomNegative()")])
def test_backends_without_a_lowering_refuse_it_by_name(stage: gl.Stage, where: str) -> None:
    with pytest.raises(gl.PipelineError) as caught:
        gl.make_plan(gl.Pipeline(SOURCE, stage, gl.Batch(4)), "dali-cpu")
    assert str(caught.value).startswith(where)
    assert "can't run on backend 'dali-cpu': it has lowerings for tf, pillow alone: use backend='tf'" in str(
        caught.value
    )


def test_a_lowering_for_what_takes_none_is_refused() -> None:
    @dataclass(frozen=True)
    class Strange(gl.Primitive):
        lowerings: ClassVar = {"tf": print, "dali-cpu": print}

    @dataclass(frozen=True)
    class Stranger(own_stages.RandomNegative):
        def primitives(self, spec: Any) -> tuple[gl.Primitive, ...]:
            return (Strange(),)

    with pytest.raises(gl.PipelineError, match="Strange: lowerings are for 'tf' or 'pillow', not 'dali-cpu'"):
        gl.make_plan(gl.Pipeline(SOURCE, Stranger(), gl.Batch(4)), "tf")


def test_the_price_of_its_nearest_relative_counts() -> None:
    pytest.importorskip("tensorflow")
    plan = gl.make_plan(gl.Pipeline(SOURCE, OWN, gl.Batch(4)))
    assert plan.expected is not None
    assert "RandomNegative isn't in the cost table: priced as" in plan.describe()


def test_it_is_written_by_its_importable_name() -> None:
    pipeline = gl.Pipeline(SOURCE, gl.RandomApply([own_stages.RandomNegative(10.0), gl.GaussianBlur(3)]), gl.Batch(2))
    data = json.loads(json.dumps(pipeline.to_dict()))
    assert data["stages"][0]["stages"][0] == {"stage": "own_stages:RandomNegative", "low": 10.0, "high": 256.0}
    assert gl.Pipeline.from_dict(data, source=SOURCE) == pipeline


def test_one_that_can_not_be_imported_is_not_written() -> None:
    class Local(own_stages.RandomNegative):
        pass

    with pytest.raises(gl.PipelineError, match="its class can't be imported by a name: define it with class"):
        gl.Pipeline(SOURCE, Local()).to_dict()


@pytest.mark.parametrize("name", ["own_stages:IMAGES", "own_stages:Negative", "os:system", "no_such:Stage", "Nothing"])
def test_a_name_of_no_stage_is_refused(name: str) -> None:
    data = gl.Pipeline(SOURCE).to_dict() | {"stages": [{"stage": name}]}
    with pytest.raises(gl.PipelineError, match=r"stages\[0\].stage must be one of 'Apply', 'AugMix', "):
        gl.Pipeline.from_dict(data, source=SOURCE)


@pytest.mark.parametrize("backend", ["tf", "pillow"])
def test_what_it_returns_is_held_to_what_it_declares(backend: str) -> None:
    usable(backend)

    @dataclass(frozen=True)
    class Cut(gl.Primitive):
        lowerings: ClassVar = {name: lambda primitive, image, params: image[:3] for name in ("tf", "pillow")}

    @dataclass(frozen=True)
    class Cutting(gl.Stage):
        def out_spec(self, spec: Any) -> Any:
            return spec

        def primitives(self, spec: Any) -> tuple[gl.Primitive, ...]:
            return (Cut(),)

    with pytest.raises(gl.PipelineError, match=r"Cut returned an image of shape .*3, 7, 3.* but .* was declared"):
        list(gl.iterate(gl.Pipeline(SOURCE, Cutting(), gl.Batch(4)), backend=backend))


# a second sample of the batch, and its label

MIX = (gl.ToDtype("float32", scale=True), gl.OneHot(4), gl.Batch(4), own_stages.Mix())


def mixed(pipeline: gl.Pipeline, size: int, epoch: int = 0) -> tuple[Any, Any]:
    """Images and labels of an epoch by the references."""
    layout = DrawLayout.of(pipeline)
    place = pipeline.stages.index(own_stages.Mix())
    images, labels = [], []
    for first in range(0, COUNT, size):
        index = np.arange(first, min(first + size, COUNT))
        numbers = layout.of_stage(layout.prepare(pipeline.seed, epoch, index), place)
        params = own_stages.Mix().params(numbers, np.full(len(index), 9), np.full(len(index), 7))
        assert sorted(params["partner"].tolist()) == list(range(len(index)))
        images.append(own_stages.Mix().reference(IMAGES[index] / 255.0, params))
        weight = params["weight"][:, None]
        codes = np.eye(4)[SOURCE.labels[index]]
        labels.append(codes * weight + codes[params["partner"]] * (1 - weight))
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 4, COUNT])
def test_images_and_labels_are_mixed_alike(size: int) -> None:
    pipeline = gl.Pipeline(SOURCE, *MIX[:2], gl.Batch(size), *MIX[3:], seed=5)
    assert str(pipeline.label) == "float32 4"
    for epoch in range(2):
        images, labels = loaded(pipeline, epochs=epoch + 1, start=gl.Position(epoch))
        wanted = mixed(pipeline, size, epoch)
        np.testing.assert_allclose(images, wanted[0], atol=1e-6)
        np.testing.assert_allclose(labels, wanted[1], atol=1e-6)
    assert size == 1 or not np.allclose(labels, mixed(pipeline, size, 0)[1])


@pytest.mark.slow
def test_mixed_batches_come_from_other_backends_too() -> None:
    usable("pillow")
    pipeline = gl.Pipeline(SOURCE, gl.RandomHorizontalFlip(0.0), *MIX, seed=5)
    plan = gl.make_plan(pipeline, {"RandomHorizontalFlip": "pillow"}, threads=2)
    assert plan.backends == ("pillow", "tf")
    images, labels = loaded(plan)
    wanted = mixed(pipeline, 4)
    np.testing.assert_allclose(images, wanted[0], atol=1e-6)
    np.testing.assert_allclose(labels, wanted[1], atol=1e-6)


@pytest.mark.slow
def test_in_numpy_labels_are_mixed_to_the_bits_of_the_graphs() -> None:
    pipeline = gl.Pipeline(SOURCE, *MIX, seed=5)
    _, labels = loaded(pipeline)
    layout = DrawLayout.of(pipeline)
    assert layout.of_labels
    for first in range(0, COUNT, 4):
        index = np.arange(first, min(first + 4, COUNT))
        own = layout.labels(SOURCE.labels[index], layout.prepare(5, 0, index))
        assert own.dtype == labels.dtype
        np.testing.assert_allclose(own, labels[index], atol=1e-7)


@pytest.mark.slow
def test_labels_that_are_drawn_are_the_same_without_tensorflow() -> None:
    usable("pillow")
    pipeline = gl.Pipeline(SOURCE, gl.Shuffle(), gl.OneHot(4), gl.Batch(4), own_stages.Smooth(), seed=5)
    assert gl.make_plan(pipeline).describe().count("labels: float32 4 (OneHot(num_classes=4), Smooth())") == 1
    _, labels = loaded(pipeline)
    alone = np.concatenate([labels for _, labels in gl.iterate(pipeline, backend="pillow")])
    assert alone.dtype == labels.dtype
    np.testing.assert_allclose(alone, labels, atol=1e-7)
    assert len(np.unique(labels.max(1))) == COUNT
    with pytest.raises(gl.PipelineError, match=r"Smooth\(\) changes labels by draws, so it works on batches: put it"):
        gl.Pipeline(SOURCE, gl.OneHot(4), own_stages.Smooth(), gl.Batch(4))


def test_what_mixes_says_where_it_can_stand() -> None:
    floats = MIX[:2]
    with pytest.raises(gl.PipelineError, match=r"Mix\(\) works on batches, but here images are single: put it behind"):
        gl.Pipeline(SOURCE, *floats, own_stages.Mix(), gl.Batch(4))
    with pytest.raises(gl.PipelineError, match=r"RandomApply: Mix\(\) mixes a batch, and can't be done to some images"):
        gl.RandomApply(own_stages.Mix())
    with pytest.raises(gl.PipelineError, match=r"Mix\(\) mixes a batch, and backend 'pillow' works on its images one"):
        gl.make_plan(gl.Pipeline(SOURCE, *MIX), "pillow")


@given(st.integers(1, 50), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_partners_are_one_circle(count: int, seed: int) -> None:
    uniforms = np.random.default_rng(seed).random(count)
    partner = partners(uniforms)
    seen, at = [], 0
    for _ in range(count):
        seen.append(at)
        at = int(partner[at])
    assert sorted(seen) == list(range(count))
    assert at == 0


def test_partners_have_the_same_bits_in_tensorflow() -> None:
    tf = pytest.importorskip("tensorflow")
    for count in (1, 2, 7, 256):
        uniforms = np.random.default_rng(count).random(count)
        assert (partners(tf.constant(uniforms), TENSORFLOW).numpy() == partners(uniforms)).all()
