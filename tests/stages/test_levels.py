"""The stages that map levels, on every backend, against their published definitions and Pillow's ImageOps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import conformance as suite
import numpy as np
import pytest

import greenload as gl
from greenload.backends import registry
from greenload.backends.tables import TABLES
from greenload.errors import PipelineError
from greenload.planning.choose import make_plan
from greenload.plans.pipeline import Pipeline
from greenload.randomness import base, stage_key, uniforms
from greenload.sources import Arrays
from greenload.specs import ImageSpec
from greenload.stages import (
    Batch,
    RandomAutocontrast,
    RandomEqualize,
    RandomHorizontalFlip,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
    Resize,
    Stage,
    reference,
)
from greenload.stages import primitives as p

Pixels = np.ndarray[Any, Any]
LEVELS = range(256)
UINT8 = ImageSpec((None, None, 3), "uint8", "HWC")
BACKENDS = ("tf", "dali-cpu", "pillow", "native")
DRAWN = {"apply": np.array(True)}
OPERATIONS: dict[str, tuple[Stage, Callable[[Any, Any], Any]]] = {
    "invert": (RandomInvert(1.0), lambda ops, image: ops.invert(image)),
    "solarize": (RandomSolarize(77, 1.0), lambda ops, image: ops.solarize(image, 77)),
    "posterize": (RandomPosterize(3, 1.0), lambda ops, image: ops.posterize(image, 3)),
    "autocontrast": (RandomAutocontrast(1.0), lambda ops, image: ops.autocontrast(image)),
    "equalize": (RandomEqualize(1.0), lambda ops, image: ops.equalize(image)),
}
"""By their names in ImageOps."""


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    found = registry.get(request.param).availability()
    if not found.usable:
        pytest.skip(f"{request.param}: {found.detail}; {found.remedy}")
    return str(request.param)


def table_of(stage: Stage) -> list[int]:
    """The table that a stage looks levels up in."""
    (primitive,) = stage.primitives(UINT8)
    assert isinstance(primitive, p.LookUp)
    return list(primitive.table)


def by_pillow(name: str, image: Pixels) -> Pixels:
    """An image through ImageOps, channel by channel, as it takes no other number of them than 1 and 3."""
    image_module, image_ops = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageOps")
    planes = [image_module.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(image, 2, 0)]
    return np.stack([np.asarray(OPERATIONS[name][1](image_ops, plane)) for plane in planes], axis=-1)


def through(backend: str, stage: Stage, images: Pixels) -> Pixels:
    """A batch through a stage on a backend."""
    pipeline = suite.pipeline_of(Arrays(images), (stage,))
    return suite.run(backend, pipeline, suite.records_of(pipeline, images))


def supports(backend: str, stage: Stage) -> bool:
    return all(TABLES[backend].supports(primitive, UINT8) for primitive in stage.primitives(UINT8))


def need(backend: str, stage: Stage) -> None:
    """Skips a test of a stage that a backend lacks."""
    if not supports(backend, stage):
        pytest.skip(f"{backend} has no {type(stage).__name__}")


# tables: all 256 values


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterizing_keeps_the_highest_bits(bits: int) -> None:
    # AutoAugment: "reduce the number of bits for each pixel to magnitude bits"; torchvision: image & mask
    stage = RandomPosterize(bits)
    kept = [int(f"{level:08b}"[:bits] + "0" * (8 - bits), 2) for level in LEVELS]
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert stage.reference(levels, DRAWN).ravel().tolist() == kept
    if bits < 8:
        assert table_of(stage) == kept
        assert len(set(kept)) == 2**bits
    else:
        assert stage.primitives(UINT8) == ()  # nothing is looked up


@pytest.mark.parametrize("threshold", [0, 0.5, 1, 77, 127.5, 128, 254, 255])
def test_solarizing_inverts_from_the_threshold_up(threshold: float) -> None:
    assert table_of(RandomSolarize(threshold)) == [v if v < threshold else 255 - v for v in LEVELS]


def test_inverting_is_its_own_inverse() -> None:
    table = table_of(RandomInvert())
    assert table == [255 - v for v in LEVELS]
    assert [table[table[v]] for v in LEVELS] == list(LEVELS)


def test_every_range_is_stretched_with_pillows_bits_on_every_backend(backend: str) -> None:
    # A channel for each pair of a least and a largest value, which holds all levels between them.
    low, high = np.triu_indices(256, 1)
    image = np.clip(np.arange(256).reshape(16, 16, 1), low, high).astype(np.uint8)
    expected = reference.autocontrast(image)
    assert np.array_equal(through(backend, RandomAutocontrast(1.0), image[np.newaxis])[0], expected)
    # What the docstring says of it.
    exact = (image.astype(np.int64) - low) * 255 // (high - low)
    below = exact - expected
    values = np.arange(256).reshape(16, 16, 1)
    inside = (values >= low) & (values <= high)
    assert set(np.unique(below)) == {0, 1}
    assert below[inside].mean() == pytest.approx(0.004, abs=0.0005)
    assert (expected.max((0, 1)) == 254).mean() == pytest.approx(0.15, abs=0.005)


# pixels


def photographs() -> list[Pixels]:
    """scikit-learn's two photographs, whole and of 32×32 pixels."""
    datasets = pytest.importorskip("sklearn.datasets", reason="the photographs are scikit-learn's")
    image_module = pytest.importorskip("PIL.Image")
    whole = [np.asarray(image) for image in datasets.load_sample_images().images]
    return [*whole, *(np.asarray(image_module.fromarray(image).resize((32, 32))) for image in whole)]


@pytest.mark.parametrize("name", OPERATIONS)
def test_photographs_have_pillows_pixels(backend: str, name: str) -> None:
    stage, _ = OPERATIONS[name]
    need(backend, stage)
    for photograph in photographs():
        image = photograph if name != "autocontrast" else photograph // 3 + 40  # its range isn't full by itself
        expected = by_pillow(name, image)
        assert np.array_equal(stage.reference(image, DRAWN), expected)
        assert np.array_equal(through(backend, stage, image[np.newaxis])[0], expected)
        assert not np.array_equal(expected, image)


def hard_histograms() -> list[Pixels]:
    """One row each, whose histograms lie at the edges of the formulas."""
    rows = [np.full(1, level) for level in (0, 7, 255)]  # one pixel
    rows += [np.full(600, level) for level in (0, 128, 255)]  # one value
    # So many values below the largest: none a step, one a step, up to levels beyond 255, two a step.
    rows += [np.append(np.arange(below) % 200, [200] * 3) for below in (1, 254, 255, 256, 509, 510, 511)]
    rows += [np.append(np.zeros(900, int), 255), np.append(np.full(900, 255), 0)]  # an outlier
    return [row.astype(np.uint8).reshape(1, -1, 1) for row in rows]


@pytest.mark.parametrize("name", OPERATIONS)
def test_edges_of_histograms_have_pillows_pixels(backend: str, name: str) -> None:
    stage, _ = OPERATIONS[name]
    need(backend, stage)
    for row in hard_histograms():
        expected = by_pillow(name, row)
        assert np.array_equal(stage.reference(row, DRAWN), expected)
        assert np.array_equal(through(backend, stage, row[np.newaxis])[0], expected)


@pytest.mark.parametrize("stage", [RandomAutocontrast(1.0), RandomEqualize(1.0)], ids=str)
def test_an_image_of_one_value_a_channel_stays(backend: str, stage: Stage) -> None:
    need(backend, stage)
    for shape in ((1, 1), (32, 32)):
        images = np.broadcast_to(np.array([0, 9, 255], np.uint8), (2, *shape, 3)).copy()
        assert np.array_equal(through(backend, stage, images), images)


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_each_channel_has_a_table_of_its_own(backend: str, channels: int) -> None:
    random = np.random.default_rng(channels)
    steepness = random.uniform(0.3, 3.0, channels)
    images = (random.random((2, 20, 30, channels)) ** steepness * 90 + 9 * np.arange(channels)).astype(np.uint8)
    for name in ("posterize", "autocontrast", "equalize"):
        stage, _ = OPERATIONS[name]
        if supports(backend, stage):
            expected = np.stack([by_pillow(name, image) for image in images])
            assert np.array_equal(through(backend, stage, images), expected), name


# draws, plans, descriptions


@pytest.mark.parametrize("stage", [RandomPosterize(2, 0.3), RandomAutocontrast(0.3), RandomEqualize(0.3)], ids=str)
def test_the_same_images_are_drawn_on_every_backend(backend: str, stage: Stage) -> None:
    need(backend, stage)
    images = np.stack([suite.pixels(19, 21, "photo", seed) // 2 for seed in range(40)])
    changed = (through(backend, stage, images) != images).any((1, 2, 3))
    words = base(7, 0, np.arange(40))  # `pipeline_of` has the seed 7
    drawn = uniforms(words, stage_key(type(stage).__name__, 0), 1)[:, 0] < 0.3
    assert changed.tolist() == drawn.tolist()
    assert 0 < drawn.sum() < 40


@pytest.mark.slow
@pytest.mark.parametrize("batch_first", [False, True])
def test_loaded_in_tensorflows_graph_they_have_the_references_pixels(backend: str, batch_first: bool) -> None:
    pytest.importorskip("tensorflow")
    maps = [RandomPosterize(6), RandomAutocontrast(), RandomEqualize(), RandomSolarize(120)]
    maps = [stage for stage in maps if supports(backend, stage)]
    images = np.stack([suite.pixels(40, 33, "photo", seed) // 2 + 20 for seed in range(12)])
    stages = (Batch(12), *maps) if batch_first else (*maps, Batch(12))
    pipeline = Pipeline(Arrays(images), *stages, seed=7)
    expected = suite.reference(pipeline, images, suite.records_of(pipeline, images).numbers)
    ((found, _),) = gl.load(pipeline, epochs=1, backend=backend).as_numpy_iterator()
    assert np.array_equal(found, expected)
    assert (expected != images).any((1, 2, 3)).sum() > 6


def test_a_backend_without_the_formula_refuses_and_names_another() -> None:
    pipeline = suite.pipeline_of(Arrays(np.zeros((2, 8, 8, 3), np.uint8)), (RandomEqualize(),))
    for name in ("dali-cpu", "dali"):
        with pytest.raises(PipelineError, match=rf"^RandomEqualize\(\) can't run on backend '{name}'.* backend='tf'$"):
            make_plan(pipeline, name)


def test_a_pipeline_of_them_is_described_and_read_again() -> None:
    stages = [stage for stage, _ in OPERATIONS.values()]
    pipeline = Pipeline(Arrays(np.zeros((2, 8, 8, 3), np.uint8)), Resize((8, 8)), *stages, RandomHorizontalFlip())
    described = json.loads(json.dumps(pipeline.to_dict()))
    names = [type(stage).__name__ for stage in stages]
    assert [stage["stage"] for stage in described["stages"]][1:-1] == names
    assert Pipeline.from_dict(described, pipeline.source) == pipeline
    assert described["stages"][3] == {"stage": "RandomPosterize", "bits": 3, "p": 1.0}
