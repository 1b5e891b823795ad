"""Stages: torchvision's algorithms, the same params in NumPy and TensorFlow, and checks that say what to do."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import greenload as gl
from greenload.array_ops import TENSORFLOW
from greenload.backends.native import op
from greenload.backends.native.array_recorder import computed
from greenload.errors import PipelineError
from greenload.plans.pipeline import _stage
from greenload.randomness import base, stage_key, uniforms
from greenload.specs import DTYPES, ENCODED_SPEC, ImageSpec, LabelSpec
from greenload.stages import (
    Apply,
    AugMix,
    AutoAugment,
    Batch,
    Cache,
    CenterCrop,
    ColorJitter,
    CutMix,
    Decode,
    Echo,
    GaussianBlur,
    MixUp,
    Normalize,
    OneHot,
    Pad,
    RandAugment,
    RandomAdjustSharpness,
    RandomAffine,
    RandomApply,
    RandomAutocontrast,
    RandomChoice,
    RandomCrop,
    RandomEqualize,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomInvert,
    RandomOrder,
    RandomPerspective,
    RandomPosterize,
    RandomResizedCrop,
    RandomRotation,
    RandomSolarize,
    RandomVerticalFlip,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
    TrivialAugmentWide,
)
from greenload.stages.reference import resize, resize_weights
from greenload.stages.registry import STAGES
from greenload.system.json_data import Value

SIDE = st.integers(1, 5000)
UINT8 = ImageSpec((None, None, 3), "uint8", "HWC")


def prepared(stage: Stage, samples: int, seed: int = 0) -> np.ndarray[Any, Any]:
    words = base(seed, 0, np.arange(samples))
    return stage.prepare(uniforms(words, stage_key(type(stage).__name__, 0), stage.draws))


def windows(stage: Stage, height: int, width: int, samples: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return stage.params(prepared(stage, samples, seed), np.full(samples, height), np.full(samples, width))["window"]


# RandomResizedCrop, as torchvision publishes it


def published_crop(
    draw: np.ndarray[Any, Any], height: int, width: int, scale: Any, ratio: Any
) -> tuple[int, int, int, int]:
    """torchvision's RandomResizedCrop.get_params in plain Python, its random numbers given; sides rounded half up."""
    area = height * width
    for attempt in range(10):
        target = area * (scale[0] + draw[attempt] * (scale[1] - scale[0]))
        low, high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(low + draw[10 + attempt] * (high - low))
        w = math.floor(math.sqrt(target * aspect) + 0.5)
        h = math.floor(math.sqrt(target / aspect) + 0.5)
        if 0 < w <= width and 0 < h <= height:
            return math.floor(draw[20] * (height - h + 1)), math.floor(draw[21] * (width - w + 1)), h, w
    aspect = width / height
    if aspect < min(ratio):
        w, h = width, math.floor(width / min(ratio) + 0.5)
    elif aspect > max(ratio):
        h, w = height, math.floor(height * max(ratio) + 0.5)
    else:
        w, h = width, height
    w, h = max(w, 1), max(h, 1)
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 2), (2, 1), (3, 500), (500, 3), (1, 5000), (37, 41), (375, 500), (4000, 3000)]
)
@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.9, 1.0), (0.2, 0.3)), ((0.5, 0.5), (2.0, 2.0))]
)
def test_windows_are_torchvisions(height: int, width: int, scale: Any, ratio: Any) -> None:
    stage = RandomResizedCrop(8, scale=scale, ratio=ratio)
    draw = uniforms(base(0, 0, np.arange(300)), stage_key("RandomResizedCrop", 0), stage.draws)
    found = windows(stage, height, width, 300)
    expected = [published_crop(row, height, width, stage.scale, stage.ratio) for row in draw]
    assert found.tolist() == [list(window) for window in expected]


def test_an_attempt_that_does_not_fit_is_followed_by_the_next() -> None:
    stage = RandomResizedCrop(8)
    draw = np.full((1, 22), 0.5)
    draw[0, :9], draw[0, 10:19] = 0.999, 0.999  # too wide, nine times; the tenth fits
    window = stage.params(stage.prepare(draw), np.array([300]), np.array([300]))["window"][0]
    assert window.tolist() == list(published_crop(draw[0], 300, 300, stage.scale, stage.ratio))
    assert window[2] * window[3] == pytest.approx(0.54 * 300 * 300, rel=0.01)
    draw[0, 9], draw[0, 19] = 0.999, 0.999  # none fits: the whole image, whose ratio is within bounds
    window = stage.params(stage.prepare(draw), np.array([300]), np.array([300]))["window"][0]
    assert window.tolist() == [0, 0, 300, 300]


def test_windows_have_the_published_distribution() -> None:
    count, side = 40_000, 1000
    found = windows(RandomResizedCrop(8), side, side, count)
    top, left, h, w = (found[:, k].astype(float) for k in range(4))
    draw = np.random.default_rng(5).random((count, 22))  # other random numbers, through the loop
    expected = np.array([published_crop(row, side, side, (0.08, 1.0), (3 / 4, 4 / 3)) for row in draw], float)
    for ours, theirs in (
        (h * w, expected[:, 2] * expected[:, 3]),
        (w / h, expected[:, 3] / expected[:, 2]),
        (top, expected[:, 0]),
        (left, expected[:, 1]),
    ):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-4
    inner = (h * w / side**2 > 0.08) & (h * w / side**2 < 0.5)  # there the first attempt always fits
    assert stats.kstest((h * w)[inner] / side**2, "uniform", (0.08, 0.42)).pvalue > 1e-4
    spare = side - h + 1
    assert stats.kstest(((top + 0.5) / spare)[spare > 100], "uniform").pvalue > 1e-4


@pytest.mark.slow
@given(
    height=SIDE,
    width=SIDE,
    seed=st.integers(0, 2**32),
    low=st.floats(0.001, 1),
    tall=st.floats(0.01, 10),
    wider=st.floats(1, 10),
)
@settings(max_examples=300, deadline=None)
def test_windows_lie_inside_the_image(
    height: int, width: int, seed: int, low: float, tall: float, wider: float
) -> None:
    for stage in (
        RandomResizedCrop(8, scale=(low, 1.0), ratio=(tall, tall * wider)),
        RandomResizedCrop(8),
        CenterCrop((height // 2 + 1, width * 2)),
        RandomCrop((height // 2 + 1, width * 2), pad_if_needed=True),
        RandomCrop(7, padding=(0, 6, 1, 2), pad_if_needed=True),
    ):
        top, left, h, w = windows(stage, height, width, 20, seed).T
        assert (h >= 1).all()
        assert (w >= 1).all()
        assert (top >= 0).all()
        assert (left >= 0).all()
        assert (top + h <= height).all()
        assert (left + w <= width).all()


def test_the_last_row_can_be_reached() -> None:
    found = windows(RandomResizedCrop(8, scale=(0.25, 0.25), ratio=(1, 1)), 4, 4, 300)
    assert {tuple(window) for window in found.tolist()} == {(y, x, 2, 2) for y in range(3) for x in range(3)}


# CenterCrop and Resize(int)


def published_center(height: int, width: int, rows: int, columns: int) -> tuple[list[int], list[int]]:
    """torchvision's center_crop: pad what is too small, then crop; the image's window and its place."""
    before = [max(rows - height, 0) // 2, max(columns - width, 0) // 2]
    padded = [max(height, rows), max(width, columns)]
    start = [round((padded[0] - rows) / 2.0), round((padded[1] - columns) / 2.0)]
    return [*start, min(height, rows), min(width, columns)], before


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, (3, 8), (8, 3)])
def test_the_centre_is_torchvisions(size: Any) -> None:
    stage = CenterCrop(size)
    rows, columns = stage.size  # type: ignore[misc]  # a pair by now
    for height in range(1, 13):
        for width in range(1, 13):
            params = stage.params(np.zeros((1, 0)), np.array([height]), np.array([width]))
            window, pad = published_center(height, width, rows, columns)
            assert params["window"][0].tolist() == window
            assert params["pad"][0].tolist() == pad


def test_the_centre_is_rounded_half_to_even() -> None:
    tops = [
        int(CenterCrop(4).params(np.zeros((1, 0)), np.array([n]), np.array([9]))["window"][0, 0]) for n in range(4, 12)
    ]
    assert tops == [0, 0, 1, 2, 2, 2, 3, 4]  # of 0, ½, 1, 1½, 2, 2½, 3, 3½


def test_a_crop_larger_than_the_image_has_zeros_around_it() -> None:
    image = np.full((2, 5, 3), 9, np.uint8)
    params = CenterCrop((5, 4)).params(np.zeros((1, 0)), np.array([2]), np.array([5]))
    out = CenterCrop((5, 4)).reference(image, {k: v[0] for k, v in params.items()})
    assert out[..., 0].tolist() == [[0] * 4, [9] * 4, [9] * 4, [0] * 4, [0] * 4]


@given(height=SIDE, width=SIDE, size=st.integers(1, 2000))
@settings(max_examples=300, deadline=None)
def test_the_shorter_side_gets_the_size(height: int, width: int, size: int) -> None:
    rows, columns = Resize(size).params(np.zeros(0), np.int64(height), np.int64(width))["size"].tolist()
    short, long = min(height, width), max(height, width)
    other = int(size * long / short)  # torchvision's expression
    assert (rows, columns) == ((other, size) if width <= height else (size, other))
    spec = Resize(size).out_spec(ImageSpec((height, width, 3), "uint8", "HWC"))
    assert spec.shape == (rows, columns, 3)


def test_flips_come_with_their_probability() -> None:
    for p in (0.0, 0.25, 0.5, 1.0):
        stage = RandomHorizontalFlip(p)
        flips = stage.params(prepared(stage, 20_000), np.full(20_000, 4), np.full(20_000, 4))["flip"]
        assert flips.mean() == pytest.approx(p, abs=0.015)
    assert not RandomHorizontalFlip(0.0).params(np.zeros((1, 1)), np.array([4]), np.array([4]))["flip"].any()


# NumPy and TensorFlow

PARAMS = [
    RandomResizedCrop(224),
    RandomResizedCrop((7, 9), scale=(0.001, 1.0), ratio=(0.1, 10.0)),
    RandomResizedCrop(9, scale=(0.9, 1.0), ratio=(0.01, 0.02)),
    CenterCrop(224),
    CenterCrop((31, 400)),
    Resize(256),
    Resize((3, 5)),
    RandomHorizontalFlip(),
    RandomVerticalFlip(0.3),
    RandomCrop(5000, padding=(1, 2, 3, 4), pad_if_needed=True),
    RandomCrop(1),
    Pad((1, 2, 3, 4)),
    RandomRotation(400),
    RandomAffine((-720, 360), (0.3, 0.7), (0.1, 5.0), (-40, 50, -60, 70)),
    RandomAffine(0),
    RandomPerspective(),
    RandomPerspective(1.0, 0.7),
    ColorJitter(0.4, 0.5, 0.6, 0.5),
    ColorJitter(contrast=0.5),
    RandomGrayscale(0.5),
    RandomSolarize(100, 0.3),
    RandomInvert(),
    RandomPosterize(3),
    RandomAutocontrast(0.3),
    RandomEqualize(0.7),
    RandomAdjustSharpness(1.7, 0.3),
    AugMix(),
    AugMix(10, 5, 2, 0.3, all_ops=False),
    RandAugment(3, 20, fuse_affine=True),
    TrivialAugmentWide(),
    AutoAugment("svhn"),
    GaussianBlur(5),
    RandomErasing(0.7),
    pytest.param(RandomErasing(1.0, scale=(0.0, 1.0), ratio=(0.01, 30.0)), marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize("stage", PARAMS, ids=str)
def test_params_are_bit_equal_in_tensorflow_and_as_one_operation(stage: Stage) -> None:
    tf = pytest.importorskip("tensorflow")
    ops = TENSORFLOW
    random = np.random.default_rng(1)
    count = 5000
    height, width = np.floor(np.exp(random.uniform(0, np.log(5001), (2, count)))).astype(np.int64)
    draw = uniforms(base(3, 1, np.arange(count)), 5, stage.draws)
    numbers = stage.prepare(draw)
    plain = stage.params(numbers, height, width)
    prepared = tf.function(lambda uniform: stage.prepare(uniform, ops))  # a graph, whose optimiser must change no bit
    assert numbers.tobytes() == prepared(tf.constant(draw)).numpy().tobytes()

    whole = tf.function(lambda n, h, w: dict(stage.params(n, h, w, ops)))
    single = tf.function(
        lambda n, h, w: tf.map_fn(
            lambda x: dict(stage.params(*x, ops)),
            (n, h, w),
            fn_output_signature={name: tf.as_dtype(values.dtype) for name, values in plain.items()},
        )
    )
    for name, found in whole(tf.constant(numbers), tf.constant(height), tf.constant(width)).items():
        assert found.numpy().dtype == plain[name].dtype
        assert found.numpy().tobytes() == plain[name].tobytes()
    few = slice(0, 500)
    for name, found in single(tf.constant(numbers[few]), tf.constant(height[few]), tf.constant(width[few])).items():
        assert found.numpy().tobytes() == plain[name][few].tobytes()
    rows, columns = stage.out_size(plain, height, width)
    assert rows.shape == columns.shape == (count,)
    if not op.usable():
        return
    drawn = computed(lambda ops, uniform: [stage.prepare(uniform, ops)], tf.constant(draw))
    assert drawn[0].numpy().tobytes() == numbers.tobytes()
    params = computed(
        lambda ops, n, h, w: list(stage.params(n, h, w, ops).values()), *map(tf.constant, (numbers, height, width))
    )
    for name, found in zip(plain, params, strict=True):
        assert found.numpy().tobytes() == plain[name].tobytes(), name


# the float64 reference itself


def triangle(size_in: int, size_out: int, antialias: bool) -> list[list[float]]:
    """Bilinear weights in plain Python loops, as PIL's precompute_coeffs has them (without antialias: OpenCV's)."""
    scale = size_in / size_out
    rows = []
    for i in range(size_out):
        centre = (i + 0.5) * scale
        weights = [0.0] * size_in
        if antialias:
            support = max(scale, 1.0)
            for j in range(size_in):
                weights[j] = max(0.0, 1.0 - abs((j + 0.5 - centre) / support))
        else:
            x = min(max(centre - 0.5, 0.0), size_in - 1.0)
            j = int(x)
            weights[j] += 1 - (x - j)
            weights[min(j + 1, size_in - 1)] += x - j
        rows.append([w / sum(weights) for w in weights])
    return rows


@given(size_in=st.integers(1, 60), size_out=st.integers(1, 60), antialias=st.booleans())
@settings(max_examples=200, deadline=None)
def test_weights_are_the_published_ones(size_in: int, size_out: int, antialias: bool) -> None:
    found = resize_weights(size_in, size_out, antialias)
    np.testing.assert_allclose(found, triangle(size_in, size_out, antialias), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)


def test_the_reference_resize_is_pillows_within_its_eight_bits() -> None:
    image_module = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).integers(0, 256, (57, 83, 3), np.uint8)
    for rows, columns in ((20, 31), (90, 100), (1, 1), (57, 40)):
        theirs = np.asarray(image_module.fromarray(image).resize((columns, rows), image_module.BILINEAR)).astype(int)
        assert np.abs(theirs - resize(image, rows, columns, True)).max() <= 1


def test_a_size_that_stays_keeps_every_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    for antialias in (True, False):
        assert (resize(image, 9, 7, antialias) == image).all()


def test_resizing_rounds_half_up() -> None:
    assert resize(np.array([[[0], [1]]], np.uint8), 1, 1, True).item() == 1
    assert resize(np.array([[[2], [3]]], np.uint8), 1, 1, False).item() == 3


def test_levels_survive_the_way_to_float_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    there = ToDtype("float32", scale=True).reference(levels, {})
    assert there.max() == 1.0
    assert (ToDtype("uint8", scale=True).reference(there, {}) == levels).all()
    assert (ToDtype("uint8").reference(levels.astype(np.float64), {}) == levels).all()
    out = ToDtype("uint8").reference(np.array([[[-5.0], [3.99], [300.0]]]), {})
    assert out.ravel().tolist() == [0, 3, 255]


def test_normalize_is_per_channel() -> None:
    out = Normalize((1, 2, 3), (2, 4, 8)).reference(np.full((1, 1, 3), 5.0), {})
    assert out.ravel().tolist() == [2.0, 0.75, 0.25]


# argument checks and specs

BAD = {
    "Resize(0)": lambda: Resize(0),
    "Resize(-3)": lambda: Resize(-3),
    "Resize(2.5)": lambda: Resize(2.5),  # type: ignore[arg-type]
    "Resize(True)": lambda: Resize(True),
    "Resize('224')": lambda: Resize("224"),  # type: ignore[arg-type]
    "Resize(3 sides)": lambda: Resize((1, 2, 3)),  # type: ignore[arg-type]
    "Resize((0, 5))": lambda: Resize((0, 5)),
    "Resize(None)": lambda: Resize(None),  # type: ignore[arg-type]
    "Resize antialias": lambda: Resize(3, antialias="no"),  # type: ignore[arg-type]
    "CenterCrop(0)": lambda: CenterCrop(0),
    "CenterCrop((3,))": lambda: CenterCrop((3,)),  # type: ignore[arg-type]
    "RRC size": lambda: RandomResizedCrop((True, 2)),
    "RRC scale 0": lambda: RandomResizedCrop(8, scale=(0.0, 1.0)),
    "RRC scale above 1": lambda: RandomResizedCrop(8, scale=(0.5, 1.5)),
    "RRC scale turned": lambda: RandomResizedCrop(8, scale=(1.0, 0.5)),
    "RRC scale one": lambda: RandomResizedCrop(8, scale=0.5),  # type: ignore[arg-type]
    "RRC scale nan": lambda: RandomResizedCrop(8, scale=(math.nan, 1.0)),
    "RRC ratio negative": lambda: RandomResizedCrop(8, ratio=(-1.0, 1.0)),
    "RRC ratio inf": lambda: RandomResizedCrop(8, ratio=(1.0, math.inf)),
    "RRC ratio text": lambda: RandomResizedCrop(8, ratio=("a", "b")),  # type: ignore[arg-type]
    "RRC antialias": lambda: RandomResizedCrop(8, antialias=1),  # type: ignore[arg-type]
    "flip above 1": lambda: RandomHorizontalFlip(1.1),
    "flip nan": lambda: RandomHorizontalFlip(math.nan),
    "flip True": lambda: RandomHorizontalFlip(True),
    "flip text": lambda: RandomHorizontalFlip("half"),  # type: ignore[arg-type]
    "Normalize lengths": lambda: Normalize((0.5, 0.5), (1.0,)),
    "Normalize std 0": lambda: Normalize((0.5,), (0.0,)),
    "Normalize std negative": lambda: Normalize((0.5,), (-1.0,)),
    "Normalize nan": lambda: Normalize((math.nan,), (1.0,)),
    "Normalize empty": lambda: Normalize((), ()),
    "Normalize scalar": lambda: Normalize(0.5, 0.5),  # type: ignore[arg-type]
    "Normalize text": lambda: Normalize("abc", "abc"),  # type: ignore[arg-type]
    "ToDtype int16": lambda: ToDtype("int16"),
    "ToDtype float64": lambda: ToDtype("float64"),
    "ToDtype class": lambda: ToDtype(np.float32),  # type: ignore[arg-type]
    "ToDtype scale": lambda: ToDtype("uint8", scale="yes"),  # type: ignore[arg-type]
    "RandomCrop size": lambda: RandomCrop(0),
    "RandomCrop padding negative": lambda: RandomCrop(8, padding=-1),
    "RandomCrop padding text": lambda: RandomCrop(8, padding="4"),  # type: ignore[arg-type]
    "RandomCrop padding three": lambda: RandomCrop(8, padding=(1, 2, 3)),
    "RandomCrop padding True": lambda: RandomCrop(8, padding=True),
    "RandomCrop padding as wide as the crop": lambda: RandomCrop(8, padding=8),
    "RandomCrop padding higher than the crop": lambda: RandomCrop((4, 9), padding=(5, 0, 0, 4)),
    "RandomCrop pad_if_needed": lambda: RandomCrop(8, pad_if_needed=1),  # type: ignore[arg-type]
    "RandomCrop fill": lambda: RandomCrop(8, fill=(1, 2, 3)),  # type: ignore[arg-type]
    "Pad float": lambda: Pad(1.5),  # type: ignore[arg-type]
    "Pad negative": lambda: Pad((1, -1)),
    "Pad fill": lambda: Pad(1, fill="reflect"),  # type: ignore[arg-type]
    "vertical flip": lambda: RandomVerticalFlip(2),
    "grayscale": lambda: RandomGrayscale(-0.1),
    "solarize": lambda: RandomSolarize(256),
    "solarize below 0": lambda: RandomSolarize(-1),
    "solarize p": lambda: RandomSolarize(3, p=1.5),
    "invert": lambda: RandomInvert(2),
    "posterize to nothing": lambda: RandomPosterize(0),
    "posterize to 9 bits": lambda: RandomPosterize(9),
    "posterize to a half": lambda: RandomPosterize(3.5),  # type: ignore[arg-type]
    "posterize True": lambda: RandomPosterize(True),
    "posterize p": lambda: RandomPosterize(3, p=-0.1),
    "autocontrast": lambda: RandomAutocontrast(math.nan),
    "equalize": lambda: RandomEqualize("1"),  # type: ignore[arg-type]
    "sharpness negative": lambda: RandomAdjustSharpness(-0.1),
    "sharpness text": lambda: RandomAdjustSharpness("2"),  # type: ignore[arg-type]
    "sharpness inf": lambda: RandomAdjustSharpness(math.inf),
    "sharpness p": lambda: RandomAdjustSharpness(2, p=1.5),
    "perspective scale": lambda: RandomPerspective(1.1),
    "perspective scale negative": lambda: RandomPerspective(-0.1),
    "perspective scale pair": lambda: RandomPerspective((0.1, 0.5)),  # type: ignore[arg-type]
    "augmix severity": lambda: AugMix(0),
    "augmix severity above 10": lambda: AugMix(11),
    "augmix width": lambda: AugMix(mixture_width=0),
    "augmix depth": lambda: AugMix(chain_depth=0),
    "augmix depth below -1": lambda: AugMix(chain_depth=-2),
    "augmix alpha": lambda: AugMix(alpha=0),
    "augmix all_ops": lambda: AugMix(all_ops="no"),  # type: ignore[arg-type]
    "augmix fill": lambda: AugMix(fill=float("nan")),
    "augmix fill to a half": lambda: AugMix(fill=0.5),
    "perspective p": lambda: RandomPerspective(p=-1),
    "perspective fill": lambda: RandomPerspective(fill=(1, 2, 3)),  # type: ignore[arg-type]
    "rotation negative": lambda: RandomRotation(-30),
    "rotation turned": lambda: RandomRotation((30, -30)),
    "rotation nan": lambda: RandomRotation(math.nan),
    "rotation fill": lambda: RandomRotation(3, fill=math.inf),
    "affine degrees": lambda: RandomAffine((1, 2, 3)),  # type: ignore[arg-type]
    "affine translate": lambda: RandomAffine(3, translate=(0.1, 1.5)),
    "affine translate one": lambda: RandomAffine(3, translate=0.1),  # type: ignore[arg-type]
    "affine scale": lambda: RandomAffine(3, scale=(0.0, 1.0)),
    "affine shear": lambda: RandomAffine(3, shear=90),
    "affine shear three": lambda: RandomAffine(3, shear=(1, 2, 3)),
    "affine shear y": lambda: RandomAffine(3, shear=(1, 2, -90, 3)),
    "jitter negative": lambda: ColorJitter(brightness=-0.1),
    "jitter low": lambda: ColorJitter(contrast=(-0.1, 1.0)),
    "jitter text": lambda: ColorJitter(saturation="high"),  # type: ignore[arg-type]
    "jitter hue": lambda: ColorJitter(hue=0.6),
    "jitter hue pair": lambda: ColorJitter(hue=(-0.6, 0.1)),
    "jitter inf": lambda: ColorJitter(brightness=math.inf),
    "blur even": lambda: GaussianBlur(4),
    "blur zero": lambda: GaussianBlur((3, 0)),
    "blur sigma": lambda: GaussianBlur(3, sigma=0),
    "blur sigma turned": lambda: GaussianBlur(3, sigma=(2.0, 1.0)),
    "erasing p": lambda: RandomErasing(1.5),
    "erasing scale": lambda: RandomErasing(scale=(0.1, 1.2)),
    "erasing ratio": lambda: RandomErasing(ratio=(0.0, 1.0)),
    "erasing random": lambda: RandomErasing(value="random"),  # type: ignore[arg-type]
    "erasing nothing": lambda: RandomErasing(value=()),
    "Apply number": lambda: Apply(3),  # type: ignore[arg-type]
    "Apply name": lambda: Apply("no_module:no_function"),  # type: ignore[arg-type]
    "Apply path": lambda: Apply("../evil.py:f"),  # type: ignore[arg-type]
    "Apply shape": lambda: Apply(abs, shape=(1, 2)),  # type: ignore[arg-type]
    "Apply shape zero": lambda: Apply(abs, shape=(0, 2, 3)),
    "Apply dtype": lambda: Apply(abs, dtype="float64"),
    "OneHot 0": lambda: OneHot(0),
    "OneHot True": lambda: OneHot(True),
    "OneHot dtype": lambda: OneHot(3, dtype="int64"),
    "Cache(7)": lambda: Cache(7),  # type: ignore[arg-type]
    "Cache('')": lambda: Cache(""),
    "Cache of bytes": lambda: Cache(b"kept"),  # type: ignore[arg-type]
    "Cache far away": lambda: Cache("s3://bucket/kept"),
    "Cache at home": lambda: Cache("~/kept"),
    "Cache form": lambda: Cache(form="jpeg"),  # type: ignore[arg-type]
    "Cache ram": lambda: Cache(ram=0),
    "Cache ram beyond 64 bits": lambda: Cache(ram=1 << 70),
    "Cache disk beyond its kernel's": lambda: Cache("kept", disk=1 << 62),
    "Cache ram 1.5": lambda: Cache(ram=1.5),  # type: ignore[arg-type]
    "Cache disk": lambda: Cache("kept", disk=True),
    "Cache ram and path": lambda: Cache("kept", ram=9),
    "Cache disk without path": lambda: Cache(disk=9),
    "Batch(0)": lambda: Batch(0),
    "Batch(1.0)": lambda: Batch(1.0),  # type: ignore[arg-type]
    "Batch(True)": lambda: Batch(True),
    "Echo(0)": lambda: Echo(0),
    "Echo(1.0)": lambda: Echo(1.0),  # type: ignore[arg-type]
    "Batch drop": lambda: Batch(2, drop_remainder="yes"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_is_one_line_with_stage_rule_and_value(name: str) -> None:
    with pytest.raises(PipelineError) as caught:
        BAD[name]()
    message = str(caught.value)
    assert "\n" not in message
    assert message.split(":")[0] in STAGES
    assert "must be" in message or "is a share" in message
    assert ", not " in message


@pytest.mark.parametrize("name", [name for name in BAD if name.startswith("Cache")])
def test_what_a_cache_refuses_has_a_remedy(name: str) -> None:
    with pytest.raises(PipelineError, match=r": (name|use|leave|add) |'encoded'"):
        BAD[name]()


ENCODED = ENCODED_SPEC
FLOAT = ImageSpec((None, None, 3), "float32", "HWC")
FIXED = ImageSpec((8, 6, 3), "uint8", "HWC")
BATCHED = ImageSpec((None, 8, 6, 3), "uint8", "NHWC")
REFUSED = [
    (Decode(), UINT8, "remove it"),
    (Decode(), BATCHED, "remove it"),
    (Resize(8), ENCODED, "put Decode() before it"),
    (Resize(8), BATCHED, "put it before Batch"),
    (CenterCrop(8), ENCODED, "put Decode() before it"),
    (CenterCrop(8), BATCHED, "put it before Batch"),
    (RandomResizedCrop(8), ENCODED, "put Decode() before it"),
    (RandomResizedCrop(8), BATCHED, "put it before Batch"),
    (RandomHorizontalFlip(), ENCODED, "put Decode() before it"),
    (RandomHorizontalFlip(), BATCHED, "put it before Batch"),
    (Normalize((0.5,), (1,)), ENCODED, "put Decode() before it"),
    (Normalize((0.5,), (1,)), UINT8, "put ToDtype"),
    (Resize(8), ImageSpec((4, 4, 3), "float16", "HWC"), "put it before ToDtype('float16')"),
    (RandomResizedCrop(8), ImageSpec((4, 4, 3), "int8", "HWC"), "put it before ToDtype('int8')"),
    (RandomRotation(8), ImageSpec((4, 4, 3), "bfloat16", "HWC"), "put it before ToDtype('bfloat16')"),
    (GaussianBlur(3), ImageSpec((4, 4, 3), "int8", "HWC"), "put it before ToDtype('int8')"),
    (ColorJitter(0.1), ImageSpec((4, 4, 3), "int8", "HWC"), "put it before ToDtype('int8')"),
    (ColorJitter(0.1), ImageSpec((4, 4, 1), "uint8", "HWC"), "3 channels"),
    (RandomGrayscale(), ImageSpec((4, 4, 4), "uint8", "HWC"), "3 channels"),
    (RandomSolarize(9), FLOAT, "works on uint8 images, but here they are float32: put it before ToDtype('float32')"),
    (RandomInvert(), ENCODED, "put Decode() before it"),
    *((stage, FLOAT, "on uint8 images") for stage in (RandomPosterize(8), RandomAutocontrast(), RandomEqualize())),
    *((stage, ENCODED, "put Decode()") for stage in (RandomPosterize(3), RandomAutocontrast(), RandomEqualize())),
    (RandomEqualize(), ImageSpec((4, 4, 3), "int8", "HWC"), "put it before ToDtype('int8')"),
    (RandomAdjustSharpness(2), FLOAT, "works on uint8 images, but here they are float32"),
    (RandomAdjustSharpness(1), ENCODED, "put Decode() before it"),
    (RandomPerspective(), ENCODED, "put Decode() before it"),
    (RandomPerspective(), BATCHED, "put it before Batch"),
    (RandomPerspective(), ImageSpec((4, 4, 3), "float16", "HWC"), "put it before ToDtype('float16')"),
    (RandomPerspective(fill=0.5), FIXED, "whole number from 0 to 255"),
    (AugMix(), ENCODED, "put Decode() before it"),
    (AugMix(), BATCHED, "put it before Batch"),
    (AugMix(), FLOAT, "put it before ToDtype"),
    (AugMix(), ImageSpec((4, 4, 1), "uint8", "HWC"), "have the source give three channels"),
    (RandomCrop(9), FIXED, "pass pad_if_needed=True"),
    (RandomCrop((8, 10), padding=(0, 0, 3, 0)), FIXED, "pass pad_if_needed=True"),
    (RandomCrop(4, fill=0.5), FIXED, "whole number from 0 to 255"),
    (Pad(1, fill=256), FIXED, "whole number from 0 to 255"),
    (Pad(1, fill=-129), ImageSpec((4, 4, 3), "int8", "HWC"), "from -128 to 127"),
    (RandomErasing(value=300), FIXED, "whole number from 0 to 255"),
    (RandomErasing(value=(1, 2)), FIXED, "one a channel"),
    (RandomRotation(3, fill=-1), FIXED, "whole number from 0 to 255"),
    *((stage, BATCHED, "put it before Batch") for stage in (RandomCrop(3), Pad(1), RandomVerticalFlip())),
    *((stage, BATCHED, "put it before Batch") for stage in (RandomRotation(3), RandomAffine(3), GaussianBlur(3))),
    *((stage, ENCODED, "put Decode() before it") for stage in (RandomCrop(3), Pad(1), RandomVerticalFlip())),
    *((stage, ENCODED, "put Decode() before it") for stage in (RandomRotation(3), RandomAffine(3), GaussianBlur(3))),
    *((stage, ENCODED, "put Decode() before it") for stage in (ColorJitter(), RandomGrayscale(), RandomErasing())),
    (Apply(abs), ENCODED, "put Decode() before it"),
    (Normalize((0.5, 0.5), (1, 1)), FLOAT, "2 channels"),
    (ToDtype("float32"), ENCODED, "put Decode() before it"),
    (Batch(2), ENCODED, "put Decode() before it"),
    (Batch(2), UINT8, "Resize((height, width))"),
    (Batch(2), BATCHED, "remove one Batch"),
    (Cache(), BATCHED, "put it before Batch"),
    (Shuffle(), BATCHED, "put it before Batch"),
]


@pytest.mark.parametrize(("stage", "spec", "remedy"), REFUSED, ids=lambda x: str(x)[:40])
def test_what_can_not_enter_is_refused_with_the_remedy(stage: Stage, spec: ImageSpec, remedy: str) -> None:
    with pytest.raises(PipelineError) as caught:
        stage.out_spec(spec)
    assert remedy in str(caught.value)
    assert str(stage) in str(caught.value) or type(stage).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)


SPECS = [
    (Shuffle(), ENCODED, ENCODED),
    (Cache(), ENCODED, ENCODED),
    (Cache(), FIXED, FIXED),
    (Decode(), ENCODED, UINT8),
    (Resize(4), FIXED, ImageSpec((5, 4, 3), "uint8", "HWC")),
    (Resize(4), UINT8, UINT8),
    (Resize((4, 5)), FLOAT, ImageSpec((4, 5, 3), "float32", "HWC")),
    (CenterCrop(4), UINT8, ImageSpec((4, 4, 3), "uint8", "HWC")),
    (RandomResizedCrop((4, 5)), FLOAT, ImageSpec((4, 5, 3), "float32", "HWC")),
    (RandomHorizontalFlip(), FIXED, FIXED),
    (ToDtype("float32"), BATCHED, ImageSpec((None, 8, 6, 3), "float32", "NHWC")),
    (ToDtype("uint8"), UINT8, UINT8),
    (ToDtype("bfloat16"), BATCHED, ImageSpec((None, 8, 6, 3), "bfloat16", "NHWC")),
    (Normalize((0.5,), (1,)), *[ImageSpec((4, 4, 3), "float16", "HWC")] * 2),
    (RandomCrop((4, 5)), UINT8, ImageSpec((4, 5, 3), "uint8", "HWC")),
    (RandomCrop(9, pad_if_needed=True), FIXED, ImageSpec((9, 9, 3), "uint8", "HWC")),
    (RandomCrop((9, 6), padding=(0, 1, 0, 0)), FIXED, ImageSpec((9, 6, 3), "uint8", "HWC")),
    (Pad((1, 2, 3, 4)), FIXED, ImageSpec((14, 10, 3), "uint8", "HWC")),
    (Pad(1), UINT8, UINT8),
    (Apply(abs, shape=(2, None, 1), dtype="int8"), FIXED, ImageSpec((2, None, 1), "int8", "HWC")),
    (Apply(abs, shape=(2, 3, 1)), BATCHED, ImageSpec((None, 2, 3, 1), "uint8", "NHWC")),
    *((stage, FIXED, FIXED) for stage in (RandomVerticalFlip(), RandomRotation(3), RandomAffine(3), GaussianBlur(3))),
    (RandomPerspective(), FIXED, FIXED),
    (AugMix(), UINT8, UINT8),
    *((RandomAdjustSharpness(2), spec, spec) for spec in (FIXED, BATCHED)),
    *(
        (stage, spec, spec)
        for stage in (ColorJitter(0.1), RandomGrayscale(), RandomErasing(), RandomPosterize(4), RandomEqualize())
        for spec in (FIXED, BATCHED)
    ),
    (OneHot(3), ENCODED, ENCODED),
    (Normalize((0.5,), (1,)), FLOAT, FLOAT),
    (Batch(2), FIXED, BATCHED),
    (Batch(2, drop_remainder=True), FIXED, ImageSpec((2, 8, 6, 3), "uint8", "NHWC")),
]


@pytest.mark.parametrize(("stage", "before", "after"), SPECS, ids=lambda x: str(x)[:40])
def test_specs_are_known_before_anything_runs(stage: Stage, before: ImageSpec, after: ImageSpec) -> None:
    assert stage.out_spec(before) == after


def test_solarizing_inverts_levels_from_its_threshold_up() -> None:
    # torchvision.transforms.v2.functional.solarize: where(image >= threshold, invert(image), image)
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    drawn = {"apply": np.array(True)}
    expected = [level if level < 100 else 255 - level for level in range(256)]
    assert RandomSolarize(100).reference(levels, drawn).ravel().tolist() == expected
    assert RandomSolarize(99.5).reference(levels, drawn).ravel().tolist() == expected
    assert RandomInvert().reference(levels, drawn).ravel().tolist() == list(range(255, -1, -1))
    assert RandomSolarize(0) != RandomInvert()
    assert RandomSolarize(0).primitives(UINT8) == RandomInvert().primitives(UINT8)
    for stage in (RandomSolarize(100, 0.3), RandomInvert(0.3)):
        assert (stage.reference(levels, {"apply": np.array(False)}) == levels).all()
        numbers = np.random.default_rng(0).random((4000, 1))
        assert np.mean(stage.params(numbers, 1, 1)["apply"]) == pytest.approx(0.3, abs=0.03)


def test_a_description_finds_every_stage_that_users_can_name() -> None:
    public = {name: getattr(gl, name) for name in gl.__all__}
    kinds = {name for name, value in public.items() if isinstance(value, type) and issubclass(value, gl.Stage)}
    assert kinds - {"Stage"} == set(STAGES)


def test_every_stage_is_listed_equal_by_value_and_hashable() -> None:
    made: list[Stage] = [
        Shuffle(),
        Decode(),
        Resize((3, 4)),
        CenterCrop(3),
        RandomCrop(8, padding=2, fill=1),
        RandomResizedCrop(3),
        RandomHorizontalFlip(),
        RandomVerticalFlip(0.25),
        RandomRotation(30),
        RandomAffine(10, (0.1, 0.2), (0.5, 2), (-3, 4, 5, 6), fill=9),
        RandomPerspective(0.3, 0.2, fill=9),
        RandomAdjustSharpness(1.5, 0.25),
        Pad((1, 2), fill=3),
        ColorJitter(0.4, (0.5, 1.5), None, 0.1),
        RandomGrayscale(),
        RandomSolarize(100.5, 0.25),
        RandomInvert(0.25),
        RandomPosterize(5, 0.25),
        RandomAutocontrast(0.25),
        RandomEqualize(0.25),
        RandAugment(1, 3, 11, ("Rotate", "Color"), True, 7),
        TrivialAugmentWide(5),
        AutoAugment("svhn"),
        GaussianBlur((3, 5)),
        RandomErasing(0.3, value=(1, 2, 3)),
        Normalize([0.5], [1]),  # type: ignore[arg-type]
        ToDtype("float32"),
        Apply("support_functions:halved", dtype="float32"),  # type: ignore[arg-type]
        RandomApply(GaussianBlur(3), 0.1),
        RandomChoice([RandomHorizontalFlip(), GaussianBlur(3)], [1, 2]),
        RandomOrder((RandomHorizontalFlip(), RandomApply([GaussianBlur(3), RandomVerticalFlip()]))),
        OneHot(10),
        Cache(),
        Cache(form="planes", ram=1 << 30),
        Cache("/scratch/kept", disk=1 << 40),
        Echo(2),
        Batch(2),
        MixUp(0.2, num_classes=10),
        CutMix(0.5),
        AugMix(4, 2, 3, 0.5, all_ops=False, fill=9),
    ]
    assert {type(stage).__name__ for stage in made} == set(STAGES)
    assert len(set(made)) == len(made)
    for stage in made:
        again = _stage(Value(json.loads(json.dumps(stage.to_dict()))))
        assert again == stage
        assert hash(again) == hash(stage)
        assert str(stage).startswith(type(stage).__name__ + "(")
        assert "\n" not in str(stage)
    assert Cache().to_dict() == {"stage": "Cache"}  # as older versions read it
    assert Cache(Path("kept")) == Cache("kept")  # type: ignore[arg-type]
    assert CenterCrop(3) == CenterCrop((3, 3))
    assert Resize([3, 4]) == Resize((3, 4))  # type: ignore[arg-type]
    assert RandomRotation(30) == RandomRotation((-30.0, 30.0))
    assert RandomCrop(8, padding=0) == RandomCrop(8)
    assert ColorJitter(brightness=0.4) == ColorJitter(brightness=(0.6, 1.4), contrast=0, hue=(0.0, 0.0))
    assert GaussianBlur(3, sigma=1.5) == GaussianBlur((3, 3), sigma=(1.5, 1.5))


BAD_SPECS = [((3, 3), "uint8", "HWC"), ((), "uint8", "NHWC"), ((3, 3, 3), "int16", "HWC"), ((3, 3, 3), "uint8", "CHW")]


@pytest.mark.parametrize("arguments", BAD_SPECS)
def test_an_impossible_spec_is_refused(arguments: Any) -> None:
    with pytest.raises(PipelineError, match=r"layout|dtype"):
        ImageSpec(*arguments)


def test_specs_tell_sizes() -> None:
    assert FIXED.image_bytes() == 8 * 6 * 3
    assert ImageSpec((4, 8, 6, 3), "float32", "NHWC").image_bytes() == 4 * 8 * 6 * 3
    assert UINT8.image_bytes() is None
    assert [ImageSpec((2, 3, 3), dtype, "HWC").image_bytes() for dtype in DTYPES] == [18, 18, 36, 36, 72]
    assert [str(LabelSpec()), str(LabelSpec((10,), "float16"))] == ["int64 scalar", "float16 10"]
    assert str(BATCHED) == "uint8 ?×8×6×3 NHWC"
