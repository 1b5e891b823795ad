"""The stages' formulas against torchvision's algorithms in plain Python and other libraries, and what must stay."""

from __future__ import annotations

import colorsys
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.randomness import base, stage_key, uniforms
from greenload.sources import Arrays
from greenload.stages import (
    Batch,
    ColorJitter,
    GaussianBlur,
    Normalize,
    Pad,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Stage,
    ToDtype,
)
from greenload.stages.color import _QUARTER, GREY

Pixels = np.ndarray[Any, Any]


def drawn(stage: Stage, samples: int) -> Pixels:
    return uniforms(base(5, 0, np.arange(samples)), stage_key(type(stage).__name__, 0), stage.draws)


def params(stage: Stage, height: int, width: int, draw: Pixels) -> list[dict[str, Any]]:
    """The params of one sample for each row of draws."""
    found = stage.params(stage.prepare(draw), np.full(len(draw), height), np.full(len(draw), width))
    return [{name: values[row] for name, values in found.items()} for row in range(len(draw))]


def outputs(stage: Stage, image: Pixels, samples: int = 20) -> list[Pixels]:
    """What a stage's reference makes of an image, for several draws."""
    return [stage.reference(image, p) for p in params(stage, *image.shape[:2], drawn(stage, samples))]


def noise(height: int, width: int, channels: int = 3) -> Pixels:
    return np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, channels), np.uint8)


# RandomCrop, Pad


def published_random_crop(image: Pixels, stage: RandomCrop, draw: Pixels) -> Pixels:
    """torchvision's RandomCrop: pad, pad again where the image is still too small, cut."""
    (rows, columns), fill = stage.size, stage.fill  # type: ignore[misc]  # a pair by now
    left, top, right, bottom = stage.padding or (0, 0, 0, 0)  # type: ignore[misc]
    padded = np.pad(image, ((top, bottom), (left, right), (0, 0)), constant_values=fill)
    if stage.pad_if_needed:
        more = max(rows - padded.shape[0], 0), max(columns - padded.shape[1], 0)
        padded = np.pad(padded, ((more[0],) * 2, (more[1],) * 2, (0, 0)), constant_values=fill)
    y = math.floor(draw[0] * (padded.shape[0] - rows + 1))
    x = math.floor(draw[1] * (padded.shape[1] - columns + 1))
    return padded[y : y + rows, x : x + columns]


@pytest.mark.parametrize(
    "stage",
    [
        RandomCrop(5),
        RandomCrop((7, 3), padding=2, fill=7),
        RandomCrop((6, 6), padding=(1, 5), fill=1),
        RandomCrop((6, 9), padding=(8, 0, 3, 5)),
        RandomCrop(20, pad_if_needed=True, fill=200),
        RandomCrop((20, 3), padding=(1, 2, 2, 4), pad_if_needed=True),
    ],
    ids=str,
)
def test_a_random_crop_is_torchvisions(stage: RandomCrop) -> None:
    for height, width in ((7, 9), (8, 8), (30, 40), (6, 12)):
        image = noise(height, width)
        draw = drawn(stage, 60)
        for row, p in zip(draw, params(stage, height, width, draw), strict=True):
            assert (stage.reference(image, p) == published_random_crop(image, stage, row)).all()
            assert (p["window"][2:] >= 1).all()  # the window meets the image


def test_every_place_of_a_random_crop_comes_equally_often() -> None:
    found = [
        tuple(p["window"][:2] - p["pad"]) for p in params(RandomCrop(4, padding=1), 5, 4, drawn(RandomCrop(4), 9000))
    ]
    places, counts = np.unique(found, axis=0, return_counts=True)
    assert places.tolist() == [[y, x] for y in range(-1, 3) for x in range(-1, 2)]
    assert stats.chisquare(counts).pvalue > 1e-4


def test_an_image_too_small_for_a_random_crop_is_noticed() -> None:
    stage = RandomCrop((20, 30), padding=(1, 2, 3, 4))
    height, width = np.array([14, 13, 40, 14]), np.array([26, 40, 25, 26])
    fits = stage.large_enough(height, width)
    assert fits is not None
    assert fits.tolist() == [True, False, False, True]
    assert RandomCrop(9, pad_if_needed=True).large_enough(height, width) is None
    layout = DrawLayout.of(Pipeline(Arrays(np.zeros((1, 40, 40, 3), np.uint8)), stage, RandomHorizontalFlip()))
    assert layout.first_too_small(height[3:], width[3:]) is None
    place, why = layout.first_too_small(height, width) or (None, "")
    assert place == 1
    assert "at least 20×30 pixels" in why
    assert "13×40" in why


def test_pad_is_numpys() -> None:
    image = noise(4, 5)
    for stage, around in (
        (Pad(2, fill=9), ((2, 2), (2, 2), (0, 0))),
        (Pad((1, 3)), ((3, 3), (1, 1), (0, 0))),
        (Pad((1, 2, 3, 4), fill=255), ((2, 4), (1, 3), (0, 0))),
    ):
        (out,) = outputs(stage, image, 1)
        assert (out == np.pad(image, around, constant_values=stage.fill)).all()


def test_constants_are_the_dtypes_own() -> None:
    image = np.zeros((2, 2, 3))  # stands for float32
    for stage in (Pad(1, fill=0.1), RandomErasing(1.0, scale=(0.1, 0.3), value=0.1)):
        assert set(np.unique(outputs(stage, image, 3))) <= {0.0, float(np.float32(0.1))}


# rotation, affine maps


def published_matrix(
    degrees: float, translate: tuple[float, float], scale: float, shear: tuple[float, float], height: int, width: int
) -> Pixels:
    """The inverse of T · C · R · S · SHy · SHx · C⁻¹, multiplied out; R turns clockwise as y points down."""
    a, sx, sy = (math.radians(x) for x in (degrees, *shear))
    turn = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    shear_y = np.array([[1, 0, 0], [-math.tan(sy), 1, 0], [0, 0, 1]])
    shear_x = np.array([[1, -math.tan(sx), 0], [0, 1, 0], [0, 0, 1]])
    centre = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1]])
    shift = np.array([[1, 0, translate[0]], [0, 1, translate[1]], [0, 0, 1]])
    whole = shift @ centre @ turn @ np.diag([scale, scale, 1]) @ shear_y @ shear_x @ np.linalg.inv(centre)
    inverse: Pixels = np.linalg.inv(whole)[:2]
    return inverse


@pytest.mark.slow
@given(
    degrees=st.floats(-720, 720),
    translate=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    scale=st.floats(0.1, 5),
    shear=st.tuples(st.floats(-60, 60), st.floats(-60, 60)),
    uniform=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    size=st.tuples(st.integers(1, 500), st.integers(1, 500)),
)
@settings(max_examples=150, deadline=None)
def test_the_matrix_is_torchvisions(
    degrees: float, translate: Any, scale: float, shear: Any, uniform: Any, size: tuple[int, int]
) -> None:
    (sx, sy), (height, width) = shear, size
    stage = RandomAffine((degrees, degrees), translate, (scale, scale), (sx, sx, sy, sy))
    draw = np.array([[0.3, *uniform, 0.3, 0.3, 0.3]])
    (found,) = params(stage, height, width, draw)
    shares = [t * (2 * u - 1) for t, u in zip(translate, uniform, strict=True)]
    if min(abs(s * n % 1 - 0.5) for s, n in zip(shares, (width, height), strict=True)) < 1e-9:
        return  # a shift on the boundary of two pixels
    shift = (round(shares[0] * width), round(shares[1] * height))
    expected = published_matrix(degrees, shift, scale, (sx, sy), height, width)
    np.testing.assert_allclose(found["matrix"], expected, rtol=1e-9, atol=1e-9 * max(height, width) / scale)


def test_a_rotation_is_an_affine_map_the_other_way_round() -> None:
    draw = np.array([[0.25, 0.5, 0.5, 0.5, 0.5, 0.5]])
    (turned,) = params(RandomRotation((-40, 80)), 30, 50, draw[:, :1])
    (mapped,) = params(RandomAffine((-80, 40)), 30, 50, 1 - draw)
    np.testing.assert_allclose(turned["matrix"], mapped["matrix"], atol=1e-12)


@pytest.mark.parametrize("quarters", [-4, -1, 0, 1, 2, 3, 5])
def test_quarter_turns_of_a_square_are_exact(quarters: int) -> None:
    for side in (1, 2, 7, 32):
        image = noise(side, side)
        for out in outputs(RandomRotation((90 * quarters,) * 2, fill=77), image, 1):  # type: ignore[arg-type]
            assert (out == np.rot90(image, quarters)).all()


def test_a_half_turn_of_any_image_is_two_flips() -> None:
    image = noise(5, 8)
    assert (outputs(RandomRotation((180, 180)), image, 1)[0] == image[::-1, ::-1]).all()


def test_a_shift_moves_whole_pixels() -> None:
    image = noise(10, 20)
    stage = RandomAffine(0, translate=(0.25, 0.3), fill=9)
    for out, p in zip(outputs(stage, image), params(stage, 10, 20, drawn(stage, 20)), strict=True):
        x, y = (int(-n) for n in p["matrix"][:, 2])
        assert abs(x) <= 5
        assert abs(y) <= 3
        wide = np.pad(image, ((10, 10), (20, 20), (0, 0)), constant_values=9)
        assert (out == wide[10 - y : 20 - y, 20 - x : 40 - x]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (8, 5), (30, 31)])
def test_warping_is_scipys(shape: tuple[int, int]) -> None:
    image = noise(*shape) / 255.0
    stage = RandomAffine(180, (0.2, 0.2), (0.5, 2.0), (-30, 30, -30, 30), fill=0.5)
    for out, p in zip(outputs(stage, image), params(stage, *shape, drawn(stage, 20)), strict=True):
        m = p["matrix"]
        swapped = m[::-1, 1::-1]  # rows and columns in place of x and y
        offset = m[::-1, 2] + swapped @ [0.5, 0.5] - 0.5
        planes = [
            ndimage.affine_transform(image[..., k], swapped, offset, order=1, mode="grid-constant", cval=0.5)
            for k in range(3)
        ]
        np.testing.assert_allclose(out, np.stack(planes, -1), atol=1e-9)


# colour


def test_the_colour_matrix_is_the_steps_one_after_the_other() -> None:
    luma = np.array([GREY] * 3)
    yiq = np.array([GREY, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
    np.testing.assert_allclose(
        np.linalg.inv(yiq) @ [[0, 0, 0], [0, 0, 1], [0, -1, 0]] @ yiq, np.array(_QUARTER), atol=1e-12
    )
    stage = ColorJitter(0.5, 0.6, 0.7, 0.4)
    draw = drawn(stage, 40)
    for u, p in zip(draw, params(stage, 1, 1, draw), strict=True):
        b, c, s = (1 - w + 2 * w * x for w, x in zip((0.5, 0.6, 0.7), u, strict=False))
        angle = 2 * math.pi * (u[3] * 0.8 - 0.4)
        turn = np.array([[1, 0, 0], [0, math.cos(angle), math.sin(angle)], [0, -math.sin(angle), math.cos(angle)]])
        pixel = np.random.default_rng(1).random(3)
        step = c * (b * pixel) + (1 - c) / 2
        step = s * step + (1 - s) * luma @ step
        step = np.linalg.inv(yiq) @ turn @ yiq @ step
        np.testing.assert_allclose(p["color"] @ [*pixel, 1], step, atol=1e-12)


def test_hue_turns_colours_the_way_torchvisions_does() -> None:
    for hue in (0.02, -0.02, 0.15, -0.15):
        (p,) = params(ColorJitter(hue=(hue, hue)), 1, 1, np.full((1, 4), 0.5))
        for color in ((0.8, 0.3, 0.3), (0.3, 0.8, 0.3), (0.3, 0.3, 0.8), (0.7, 0.7, 0.3)):
            before, after = (colorsys.rgb_to_hsv(*c)[0] for c in (color, p["color"] @ [*color, 1]))
            moved = (after - before + 0.5) % 1 - 0.5
            assert np.sign(moved) == np.sign(hue)
            assert abs(moved - hue) < 0.06
        np.testing.assert_allclose(p["color"] @ [0.4, 0.4, 0.4, 1], [0.4] * 3, atol=1e-12)  # grey stays grey


def test_grey_is_grey_and_comes_with_its_probability() -> None:
    image = noise(6, 7)
    out = outputs(RandomGrayscale(1.0), image, 1)[0]
    assert (out == out[..., :1]).all()
    assert np.abs(out[..., 0] - image @ [0.299, 0.587, 0.114]).max() <= 0.5
    assert (outputs(RandomGrayscale(1.0), np.full((2, 2, 3), 255, np.uint8), 1)[0] == 255).all()
    applied = [p["apply"] for p in params(RandomGrayscale(0.3), 1, 1, drawn(RandomGrayscale(), 5000))]
    assert np.mean(applied) == pytest.approx(0.3, abs=0.03)


def test_colours_are_clipped() -> None:
    bright = ColorJitter(brightness=(3, 3))
    assert outputs(bright, np.full((1, 1, 3), 100, np.uint8), 1)[0].max() == 255
    assert outputs(bright, np.full((1, 1, 3), 0.5), 1)[0].max() == 1.0
    assert outputs(ColorJitter(contrast=(3, 3)), np.zeros((1, 1, 3), np.uint8), 1)[0].max() == 0


# blur, erasing


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (8, 5), (30, 31)])
@pytest.mark.parametrize("taps", [(1, 3), (5, 5), (23, 9)])
def test_blurring_is_scipys(shape: tuple[int, int], taps: tuple[int, int]) -> None:
    image = noise(*shape) / 255.0
    stage = GaussianBlur(taps, sigma=(0.1, 4.0))
    for out, p in zip(outputs(stage, image, 5), params(stage, *shape, drawn(stage, 5)), strict=True):
        expected = image
        for axis, length in ((0, taps[1]), (1, taps[0])):  # torchvision's kernel_size is (width, height)
            weights = stats.norm.pdf(np.arange(length) - length // 2, scale=p["sigma"])
            expected = ndimage.correlate1d(expected, weights / weights.sum(), axis, mode="mirror")
        np.testing.assert_allclose(out, expected, atol=1e-12)


def test_a_narrow_blur_changes_nothing() -> None:
    image = noise(9, 9)
    for sigma in (1e-3, 1e-200):
        assert (outputs(GaussianBlur(5, sigma=sigma), image, 1)[0] == image).all()


def published_erasing(draw: Pixels, height: int, width: int, stage: RandomErasing) -> tuple[int, int, int, int]:
    """torchvision's RandomErasing.make_params in plain Python; sides rounded half up."""
    if draw[-3] >= stage.p:
        return 0, 0, 0, 0
    low, high = (math.log(r) for r in stage.ratio)
    for attempt in range(10):
        area = height * width * (stage.scale[0] + draw[attempt] * (stage.scale[1] - stage.scale[0]))
        aspect = math.exp(low + draw[10 + attempt] * (high - low))
        h, w = math.floor(math.sqrt(area * aspect) + 0.5), math.floor(math.sqrt(area / aspect) + 0.5)
        if h < height and w < width:
            if not h or not w:
                return 0, 0, 0, 0
            return math.floor(draw[-2] * (height - h + 1)), math.floor(draw[-1] * (width - w + 1)), h, w
    return 0, 0, 0, 0


@pytest.mark.parametrize("stage", [RandomErasing(), RandomErasing(0.9, (0.0, 1.0), (0.05, 9.0))], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 200), (37, 41), (300, 500)])
def test_erased_windows_are_torchvisions(stage: RandomErasing, shape: tuple[int, int]) -> None:
    draw = drawn(stage, 300)
    found = [tuple(p["erase"].tolist()) for p in params(stage, *shape, draw)]
    assert found == [published_erasing(row, *shape, stage) for row in draw]


@given(height=st.integers(1, 400), width=st.integers(1, 400), seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_erased_windows_lie_inside_the_image(height: int, width: int, seed: int) -> None:
    stage = RandomErasing(1.0, (0.0, 1.0), (0.01, 50.0))
    draw = uniforms(base(seed, 0, np.arange(20)), 3, stage.draws)
    top, left, h, w = np.array([p["erase"] for p in params(stage, height, width, draw)]).T
    assert (np.minimum.reduce([top, left, h, w]) >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()


def test_erasing_leaves_the_rest_and_the_input_alone() -> None:
    image = noise(20, 30)
    kept = image.copy()
    stage = RandomErasing(1.0, value=(1, 2, 3))
    for out, p in zip(outputs(stage, image), params(stage, 20, 30, drawn(stage, 20)), strict=True):
        top, left, h, w = p["erase"]
        assert (out[top : top + h, left : left + w] == [1, 2, 3]).all()
        assert (out != image).any(-1).sum() <= h * w
    assert (image == kept).all()


# what must stay the same


IDLE = [
    RandomRotation(0),
    RandomAffine(0),
    RandomAffine(0, translate=(0, 0), scale=(1, 1), shear=0),
    ColorJitter(),
    ColorJitter(hue=(0, 0), brightness=0),
    RandomGrayscale(0),
    RandomErasing(0),
    RandomVerticalFlip(0),
    RandomHorizontalFlip(0),
    GaussianBlur(1),
    Pad(0),
]


@pytest.mark.parametrize("stage", IDLE, ids=str)
def test_identity_params_give_the_same_pixels(stage: Stage) -> None:
    for shape in ((1, 1), (1, 8), (9, 6)):
        image = noise(*shape)
        for out in outputs(stage, image, 5):
            assert (out == image).all()
        for out in outputs(stage, image / 255.0, 5):
            assert (out == image / 255.0).all()


def test_the_whole_image_can_be_a_random_crop() -> None:
    image = noise(9, 6)
    assert all((out == image).all() for out in outputs(RandomCrop((9, 6)), image))


@pytest.mark.parametrize("stage", [RandomHorizontalFlip(1.0), RandomVerticalFlip(1.0)], ids=str)
def test_a_flip_twice_is_none(stage: Stage) -> None:
    image = noise(5, 4)
    (once,) = outputs(stage, image, 1)
    assert (once == (image[::-1] if isinstance(stage, RandomVerticalFlip) else image[:, ::-1])).all()
    assert (outputs(stage, once, 1)[0] == image).all()


def test_a_stage_more_changes_no_other_stages_draws() -> None:
    source = Arrays(np.zeros((50, 20, 20, 3), np.uint8))
    few: list[Stage] = [RandomCrop(16, padding=2), RandomErasing(), Batch(2)]
    more: list[Stage] = [
        RandomRotation(10),
        few[0],
        ColorJitter(0.1, 0.1, 0.1, 0.1),
        GaussianBlur(3),
        RandomVerticalFlip(),
        few[1],
        RandomGrayscale(),
        RandomAffine(3),
        RandomErasing(),
        Batch(2),
    ]
    index = np.arange(50)
    short, long = (DrawLayout.of(Pipeline(source, *stages, seed=3)) for stages in (few, more))
    for before, after in ((0, 1), (1, 5)):
        ours = short.of_stage(short.prepare(3, 2, index), before)
        theirs = long.of_stage(long.prepare(3, 2, index), after)
        assert (ours == theirs).all()
    again = long.of_stage(long.prepare(3, 2, index), 8)  # a second stage of a type has draws of its own
    assert (again != ours).any(-1).all()


def test_draws_of_two_stages_are_independent() -> None:
    horizontal, vertical = (drawn(stage, 4000)[:, 0] for stage in (RandomHorizontalFlip(), RandomVerticalFlip()))
    assert abs(np.corrcoef(horizontal, vertical)[0, 1]) < 0.06
    sides = drawn(RandomResizedCrop(8), 4000)
    assert abs(np.corrcoef(sides[:, 20], drawn(RandomCrop(8), 4000)[:, 0])[0, 1]) < 0.06


# dtypes


def published_to_dtype(image: Pixels, dtype: str) -> Pixels:
    """torchvision's to_dtype with scale, for values in range."""
    bits, largest = {"uint8": 8, "int8": 7}, {"uint8": 255, "int8": 127}
    given = "float32" if image.dtype == np.float64 else str(image.dtype)
    if given == dtype:
        return image
    if given in bits and dtype in bits:
        wider, narrow = bits[dtype], bits[given]
        return (image >> (narrow - wider) if narrow > wider else image.astype(int) << (wider - narrow)).astype(dtype)
    if given in bits:
        return image / largest[given]
    return (image * (largest[dtype] + 1.0 - 1e-3)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
@pytest.mark.parametrize("given_dtype", ["uint8", "int8", "float32"])
def test_scaled_dtypes_are_torchvisions(given_dtype: str, dtype: str) -> None:
    image: Pixels = np.arange(256 if given_dtype == "uint8" else 128).reshape(1, -1, 1).astype(given_dtype)
    if given_dtype == "float32":
        image = np.linspace(0, 1, 1000).reshape(1, -1, 1)
    found = ToDtype(dtype, scale=True).reference(image, {})
    assert found.dtype == (np.float64 if dtype == "float32" else np.dtype(dtype))
    np.testing.assert_allclose(found, published_to_dtype(image, dtype), rtol=1e-15)


def test_integers_are_clipped_and_cut_toward_zero() -> None:
    values = np.array([[[-300.0], [-5.9], [-0.5], [3.99], [127.5], [300.0]]])
    assert ToDtype("uint8").reference(values, {}).ravel().tolist() == [0, 0, 0, 3, 127, 255]
    assert ToDtype("int8").reference(values, {}).ravel().tolist() == [-128, -5, 0, 3, 127, 127]
    levels = np.array([[[0], [127], [128], [255]]], np.uint8)
    assert ToDtype("int8").reference(levels, {}).ravel().tolist() == [0, 127, 127, 127]
    assert ToDtype("int8", scale=True).reference(levels, {}).ravel().tolist() == [0, 63, 64, 127]
    signed = np.array([[[-128], [-1], [0], [127]]], np.int8)
    assert ToDtype("uint8").reference(signed, {}).ravel().tolist() == [0, 0, 0, 127]
    assert ToDtype("uint8", scale=True).reference(signed, {}).ravel().tolist() == [0, 0, 0, 254]


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 10), ("bfloat16", 7)])
def test_small_floats_are_rounded_to_nearest_even(dtype: str, bits: int) -> None:
    step = 2.0**-bits
    values = np.array([[[1 + 0.5 * step], [1 + 1.5 * step], [1 + 0.51 * step], [1 + 0.49 * step], [-1 - 0.5 * step]]])
    found = ToDtype(dtype).reference(values, {})
    assert str(found.dtype) == dtype
    assert found.astype(float).ravel().tolist() == [1, 1 + 2 * step, 1 + step, 1, -1]
    again = Normalize((0.5,), (0.5,)).reference(found, {})
    assert str(again.dtype) == dtype
    assert ToDtype("float32").reference(found, {}).dtype == np.float64


def test_every_level_survives_small_floats_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    for scale in (True, False):
        there = ToDtype("float16", scale).reference(levels, {})
        assert (ToDtype("uint8", scale).reference(there, {}) == levels).all()
    coarse = ToDtype("bfloat16").reference(levels, {})  # eight bits hold every integer up to 256
    assert (ToDtype("uint8").reference(coarse, {}) == levels).all()
