"""Pictures of augmented samples: the same sources and draws in all strategies, as people see them, as valid PNG."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import greenload as gl
from greenload.strategies.augmented import LARGEST, augmented, data_uri, thumbnail, visible

SAMPLES = 40
PIXELS = np.random.default_rng(3).integers(0, 256, (SAMPLES, 24, 32, 3), np.uint8)


def pipeline(*stages: Any, pixels: NDArray[np.uint8] = PIXELS, batch: int = 16, seed: int = 0) -> gl.Pipeline:
    labels = np.arange(len(pixels)) % 4
    inner = [stage for stage in stages if not isinstance(stage, gl.MixUp)]
    mixing = [stage for stage in stages if isinstance(stage, gl.MixUp)]
    return gl.Pipeline(gl.Arrays(pixels, labels), gl.Shuffle(), *inner, gl.Batch(batch), *mixing, seed=seed)


def pixels_of(uri: str) -> NDArray[np.uint8]:
    """A data URI's pixels, by Pillow."""
    image = pytest.importorskip("PIL.Image")
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(image.open(io.BytesIO(base64.b64decode(body))))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 3), (24, 32, 3), (17, 5, 1), (96, 96, 3)])
def test_a_picture_has_the_pixels_that_it_was_made_of(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    assert np.array_equal(pixels_of(data_uri(image)).reshape(shape), image)


def test_every_strategy_shows_the_same_samples() -> None:
    shown = augmented(
        {"plain": pipeline(), "flip": pipeline(gl.RandomHorizontalFlip(1.0), batch=7, seed=99)}, seed=5, count=6
    )
    plain, flip = ([pixels_of(uri) for uri in shown[name]] for name in ("plain", "flip"))
    assert len(plain) == len(flip) == 6
    for image, flipped in zip(plain, flip, strict=True):
        assert np.array_equal(image[:, ::-1], flipped)
    first = next(gl.iterate(pipeline(seed=5)))[0][:6]
    assert np.array_equal(np.stack(plain), first), "those that an epoch with this seed begins with"
    again = augmented({"plain": pipeline()}, seed=6, count=6)
    assert not np.array_equal(pixels_of(again["plain"][0]), plain[0]), "another seed shows others"


def test_draws_are_those_of_the_seed() -> None:
    jitter = gl.ColorJitter(brightness=0.5)
    shown = [augmented({"one": pipeline(jitter)}, seed=seed)["one"] for seed in (5, 5, 6)]
    assert shown[0] == shown[1] != shown[2]


def test_images_of_a_mixing_strategy_mix_with_those_that_are_shown() -> None:
    shown = augmented({"plain": pipeline(), "mixup": pipeline(gl.MixUp(1.0, num_classes=4))}, seed=2, count=4)
    plain, mixed = (np.stack([pixels_of(uri) for uri in shown[name]]).astype(float) for name in ("plain", "mixup"))
    partner = np.roll(plain, 1, axis=0)
    weights = [
        np.sum((mix - other) * (own - other)) / np.sum((own - other) ** 2)
        for mix, own, other in zip(mixed, plain, partner, strict=True)
    ]
    assert np.ptp(weights) < 0.01 and 0 <= weights[0] <= 1
    assert np.abs(mixed - weights[0] * plain - (1 - weights[0]) * partner).max() < 2


def test_normalised_floats_look_as_the_pixels_do() -> None:
    floats = (
        gl.ToDtype("float32", scale=True),
        gl.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        gl.RandomErasing(1.0),
    )
    several = {
        "uint8": pipeline(),
        "unit": pipeline(gl.ToDtype("float32", scale=True)),
        "wide": pipeline(gl.ToDtype("float32")),
        "half": pipeline(gl.ToDtype("float16", scale=True), gl.Normalize((0.5,), (0.5,))),
        "normalised": pipeline(*floats[:2]),
    }
    shown = {name: [pixels_of(uri) for uri in uris] for name, uris in augmented(several, seed=1).items()}
    for name, images in shown.items():
        for image, plain in zip(images, shown["uint8"], strict=True):
            assert np.abs(image.astype(int) - plain.astype(int)).max() <= 1, name


def test_other_ranges_are_stretched() -> None:
    values = np.linspace(-7.0, 900.0, 4 * 4 * 1, dtype=np.float32).reshape(1, 4, 4, 1)
    stretched = visible(values, pipeline())
    assert stretched.min() == 0 and stretched.max() == 255 and stretched.dtype == np.uint8
    flat = visible(np.full((1, 2, 2, 3), 400.0, np.float32), pipeline())
    assert flat.shape == (1, 2, 2, 3)
    assert visible(np.full((1, 2, 2, 5), 0.5, np.float32), pipeline()).shape == (1, 2, 2, 3)
    assert visible(np.array([[[[-128], [127]]]], np.int8), pipeline()).ravel().tolist() == [0, 255]
    assert visible(np.array([[[[0], [127]]]], np.int8), pipeline()).ravel().tolist() == [0, 255]
    assert visible(np.array([[[[np.nan], [1.0]]]], np.float32), pipeline()).ravel().tolist() == [0, 255]


@pytest.mark.parametrize("shape", [(200, 100), (97, 3), (1, 500), (96, 96), (96, 40), (333, 334)])
def test_a_thumbnail_averages(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(2).integers(0, 256, (*shape, 3), np.uint8)
    small = thumbnail(image)
    assert max(small.shape[:2]) == min(LARGEST, max(shape)) and min(small.shape[:2]) >= 1
    kept = [max(1, round(size * min(1.0, LARGEST / max(shape)))) for size in shape]
    assert list(small.shape) == [*kept, 3], "its shape is kept"
    assert np.array_equal(small, image) == (max(shape) <= LARGEST)
    assert np.abs(small.mean() - image.mean()) < 1.5
    constant = np.full((*shape, 3), 77, np.uint8)
    assert (thumbnail(constant) == 77).all()


def test_a_small_set_gives_what_it_has_and_caches_stay_empty(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    cached = pipeline(gl.Cache(str(folder)), pixels=PIXELS[:3])
    assert len(augmented({"few": cached}, seed=0)["few"]) == 3
    assert not folder.exists()


def test_grey_images_and_pipelines_without_a_batch() -> None:
    grey = gl.Pipeline(gl.Arrays(PIXELS[..., :1], np.arange(SAMPLES)), gl.Shuffle())
    shown = augmented({"grey": grey}, seed=0)["grey"]
    assert len(shown) == 6 and pixels_of(shown[0]).shape == (24, 32)


def test_a_pipeline_that_fails_has_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    bad = gl.Pipeline(gl.Files([str(tmp_path / "a.jpg")]), gl.Decode(), gl.Resize((8, 8)), gl.Batch(2))
    raising = pipeline(gl.Apply(failing))
    shown = augmented({"bad": bad, "raising": raising, "plain": pipeline()}, seed=0)
    assert shown["bad"] == shown["raising"] == () and len(shown["plain"]) == 6


def failing(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    raise ZeroDivisionError
