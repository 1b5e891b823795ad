"""The primitives of policies on every backend: all levels, Pillow's ImageEnhance, and images that stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import conformance as suite
import numpy as np
import pytest
from driven import REFERENCES, Driven

from greenload.array_ops import TENSORFLOW
from greenload.backends import level_tables, registry
from greenload.backends.pillow.level_maps import ROWS as PILLOW_ROWS
from greenload.backends.tables import TABLES
from greenload.sources import Arrays
from greenload.specs import ImageSpec
from greenload.stages import Batch, RandomAdjustSharpness, Stage, reference
from greenload.stages import primitives as p

Pixels = np.ndarray[Any, Any]
BACKENDS = ("tf", "dali-cpu", "pillow", "native")
UINT8 = ImageSpec((None, None, 3), "uint8", "HWC")
FACTORS = (0.0, 1e-9, 0.1, 0.5, 0.73, 1.0 - 0.27, 1.0, 1.27, 1.0 + 0.9 * 9 / 30, 1.9, 2.0, 3.3, 254.9, 1e9)
"""Of policies, and beyond them; some make products that lie between two levels."""
THRESHOLDS = (-3.0, 0.0, 0.5, 1.0, 127.5, 128.0, 254.0, 254.5, 255.0, 255.5, 256.0, 1e9)
STAY: dict[type[p.Primitive], float] = {
    p.Brightness: 1.0,
    p.Contrast: 1.0,
    p.Posterize: 8,
    p.Solarize: 256.0,
    p.Sharpen: 1.0,
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    found = registry.get(request.param).availability()
    if not found.usable:
        pytest.skip(f"{request.param}: {found.detail}; {found.remedy}")
    return str(request.param)


def need(backend: str, primitive: p.Primitive) -> None:
    """Skips a test of a primitive that a backend lacks."""
    if not TABLES[backend].supports(primitive, UINT8):
        pytest.skip(f"{backend} has no {type(primitive).__name__}")


def check(backend: str, stages: tuple[Stage, ...], images: Pixels) -> None:
    """That images have the reference's pixels; where a backend states a tolerance, within it."""
    pipeline = suite.pipeline_of(Arrays(images), stages)
    records = suite.records_of(pipeline, images)
    found = suite.run(backend, pipeline, records)
    expected = suite.reference(pipeline, images, records.numbers)
    (primitive,) = {primitive for stage in stages for primitive in stage.primitives(UINT8)}
    stated = TABLES[backend].tolerance(primitive, UINT8)
    assert stated is not None
    assert suite.Difference.of(found, expected).within(stated)


def all_levels(channels: int = 3) -> Pixels:
    """An image with all levels in each channel, each in another order."""
    random = np.random.default_rng(channels)
    return np.stack([random.permutation(256).reshape(16, 16) for _ in range(channels)], -1).astype(np.uint8)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("kind", STAY)
def test_every_level_has_the_references_value(backend: str, kind: type[p.Primitive], batched: bool) -> None:
    need(backend, kind())
    numbers = {p.Posterize: tuple(range(1, 9)), p.Solarize: THRESHOLDS}.get(kind, FACTORS)
    count = 8 * len(numbers)  # each is drawn several times
    images = np.repeat(all_levels()[np.newaxis], count, 0)
    stage = Driven(kind(), numbers)
    check(backend, (Batch(count), stage) if batched else (stage,), images)


@pytest.mark.parametrize("channels", [1, 4, 5])
@pytest.mark.parametrize("kind", [p.Brightness, p.Posterize, p.Solarize, p.Sharpen])
def test_any_number_of_channels(backend: str, kind: type[p.Primitive], channels: int) -> None:
    need(backend, kind())
    number = {p.Posterize: 3, p.Solarize: 77.0}.get(kind, 1.7)
    check(backend, (Driven(kind(), (number,)),), all_levels(channels)[np.newaxis])


@pytest.mark.parametrize("kind", STAY)
def test_a_number_that_changes_nothing_leaves_an_image_alone(backend: str, kind: type[p.Primitive]) -> None:
    need(backend, kind())
    image = suite.pixels(33, 57, "noise")
    stay = STAY[kind]
    assert np.array_equal(REFERENCES[kind](image, stay), image)
    _, changes = level_tables.NUMBERS[kind]
    assert not changes(np.float64(stay))
    pipeline = suite.pipeline_of(Arrays(image[np.newaxis]), (Driven(kind(), (stay,)),))
    found = suite.run(backend, pipeline, suite.records_of(pipeline, [image]))
    assert np.array_equal(found[0], image)


@pytest.mark.parametrize("kind", STAY)
def test_in_pillow_an_image_that_stays_is_passed_on_itself(kind: type[p.Primitive]) -> None:
    (row,) = (row for row in PILLOW_ROWS if row.primitive is kind)
    name, _ = level_tables.NUMBERS[kind]
    image = suite.pixels(33, 57, "noise")
    assert row.lowering.build(kind(), UINT8)(image, {name: STAY[kind]}, None) is image
    assert row.lowering.build(kind(), UINT8)(image, {name: 2 if kind is p.Posterize else 2.0}, None) is not image


def test_in_tensorflow_an_image_that_stays_is_not_worked_on() -> None:
    tf = pytest.importorskip("tensorflow")
    from greenload.backends.tf.level_maps import driven

    worked = tf.Variable(0)

    def counted(images: Any, numbers: Any) -> Any:
        worked.assign_add(tf.shape(images)[0])
        return images

    one = driven(counted)(p.Brightness(), UINT8, UINT8)
    several = ImageSpec((None, 4, 5, 3), "uint8", "NHWC")
    batch = driven(counted)(p.Brightness(), several, several)
    for lower, image, factors, expected in (
        (one, tf.zeros((4, 5, 3), tf.uint8), tf.constant(1.0, tf.float64), 0),
        (one, tf.zeros((4, 5, 3), tf.uint8), tf.constant(1.5, tf.float64), 1),
        (batch, tf.zeros((3, 4, 5, 3), tf.uint8), tf.constant([1.0, 1.0, 1.0], tf.float64), 0),
        (batch, tf.zeros((3, 4, 5, 3), tf.uint8), tf.constant([1.0, 1.5, 0.0], tf.float64), 2),
    ):
        worked.assign(0)
        tf.function(lambda x, f, lower=lower: lower(x, {"factor": f})[0])(image, factors)
        assert worked.numpy() == expected


def test_mean_greys_have_the_same_bits_in_tensorflow() -> None:
    tf = pytest.importorskip("tensorflow")
    sums = np.random.default_rng(0).integers(0, 255 * 224 * 224, (1000, 3))
    grey = tf.function(lambda sums, pixels: level_tables.grey(sums, pixels, TENSORFLOW))
    found = grey(tf.constant(sums), tf.constant(224.0 * 224.0, tf.float64))
    assert found.numpy().tobytes() == level_tables.grey(sums, 224.0 * 224.0).tobytes()


def test_in_tensorflow_constants_are_divided_by() -> None:
    # As a product with their inverse, a third of the quotients by 13 would have other bits.
    tf = pytest.importorskip("tensorflow")
    from greenload.backends.tf.level_maps import divisor

    numbers = np.arange(3316.0)
    for constant in (13.0, 224.0 * 224.0):
        divided = tf.function(lambda x, f, constant=constant: x / divisor(constant, f))
        found = divided(tf.constant(numbers), tf.constant(np.full(3316, 0.3)))
        assert found.numpy().tobytes() == (numbers / constant).tobytes()


ENHANCED: dict[type[p.Primitive], Callable[[Any], Any]] = {
    p.Brightness: lambda enhance: enhance.Brightness,
    p.Contrast: lambda enhance: enhance.Contrast,
    p.Sharpen: lambda enhance: enhance.Sharpness,
}


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.37, 0.73, 1.0, 1.27, 1.9, 2.0])
@pytest.mark.parametrize("kind", ENHANCED)
def test_pillows_enhancers_are_within_a_level(kind: type[p.Primitive], factor: float) -> None:
    # They round the image that is mixed in (black, the grey mean, the smoothed image) to levels, which is half a level
    # times |1 − factor|; and they cut the result where this rounds it.
    image_module, enhance = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageEnhance")
    for seed in range(3):
        image = suite.pixels(101, 203, "photo", seed)
        theirs = np.asarray(ENHANCED[kind](enhance)(image_module.fromarray(image)).enhance(factor))
        gap = REFERENCES[kind](image, factor).astype(int) - theirs
        assert np.abs(gap).max() <= 1
        assert factor == 1.0 or kind is p.Contrast or set(np.unique(gap)) <= {0, 1}  # cut, so never above


@pytest.mark.parametrize("number", range(1, 9))
def test_pillows_ops_are_the_same(number: int) -> None:
    image_module, image_ops = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageOps")
    image = suite.pixels(33, 57, "noise")
    whole = image_module.fromarray(image)
    assert np.array_equal(reference.posterize(image, number), np.asarray(image_ops.posterize(whole, number)))
    threshold = 31.5 * number
    assert np.array_equal(reference.solarize(image, threshold), np.asarray(image_ops.solarize(whole, threshold)))


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2), (3, 3), (3, 9)])
def test_borders_and_small_images_stay_sharp(backend: str, size: tuple[int, int]) -> None:
    need(backend, p.Sharpen())
    images = np.stack([suite.pixels(*size, "noise", seed) for seed in range(4)])
    check(backend, (RandomAdjustSharpness(3, p=1.0),), images)
    for image in images:
        done = reference.sharpen(image, 3.0)
        changed = (done != image).any(-1)
        assert not changed[[0, -1]].any()
        assert not changed[:, [0, -1]].any()
        assert changed.any() == (min(size) >= 3)


def test_sharpness_is_drawn_with_its_probability() -> None:
    stage = RandomAdjustSharpness(2, p=0.3)
    numbers = np.random.default_rng(0).random((4000, 1))
    factors = stage.params(numbers, np.int64(9), np.int64(9))["factor"]
    assert set(factors) == {1.0, 2.0}
    assert np.mean(factors == 2.0) == pytest.approx(0.3, abs=0.03)
    assert RandomAdjustSharpness(1).primitives(UINT8) == ()


def test_torchvision_is_within_what_its_rounding_makes() -> None:
    # It rounds the smoothed image to levels first, and cuts: up to ½ |1 − factor| and a level.
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    image = suite.pixels(101, 203, "photo")
    planes = torch.from_numpy(image.copy()).permute(2, 0, 1)
    for kind, theirs in (
        (p.Brightness, functional.adjust_brightness),
        (p.Contrast, functional.adjust_contrast),
        (p.Sharpen, functional.adjust_sharpness),
    ):
        for factor in (0.1, 0.73, 1.27, 1.9):
            gap = REFERENCES[kind](image, factor).astype(int) - theirs(planes, factor).permute(1, 2, 0).numpy()
            assert np.abs(gap).max() <= 1
    assert np.array_equal(reference.posterize(image, 3), functional.posterize(planes, 3).permute(1, 2, 0).numpy())
    assert np.array_equal(reference.solarize(image, 77), functional.solarize(planes, 77).permute(1, 2, 0).numpy())
