"""Which samples a proxy holds out, and how they are loaded to be judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenload as gl
from greenload.specs import ImageSpec
from greenload.strategies.held_out import SHARE, divide, without_chance


@given(st.lists(st.integers(5, 60), min_size=2, max_size=6), st.integers(0, 9), st.floats(0.5, 1.0))
def test_each_class_gives_its_share(sizes: list[int], seed: int, part: float) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    samples = round(part * len(labels))
    division = divide(labels, seed, samples, hold_out=True)
    used = np.concatenate([division.trained, division.held_out])
    assert len(np.unique(used)) == len(used) == samples, "no sample is in both"
    assert len(division.held_out) == round(SHARE * samples)
    for label, size in enumerate(sizes):
        used_of_class, held_out_of_class = (np.sum(labels[part] == label) for part in (used, division.held_out))
        assert abs(used_of_class - size * samples / len(labels)) <= 1
        assert abs(held_out_of_class - SHARE * used_of_class) <= 1


def test_a_seed_gives_one_division_and_another_seed_another() -> None:
    labels = np.arange(200) % 4
    first, again, other = (divide(labels, seed, 100, hold_out=True) for seed in (1, 1, 2))
    assert np.array_equal(first.trained, again.trained) and np.array_equal(first.held_out, again.held_out)
    assert len(np.intersect1d(first.held_out, other.held_out)) < 12, "20 of 200 meet 2 by chance"
    assert np.array_equal(first.trained, np.sort(first.trained))
    whole = divide(labels, 1, None, hold_out=False)
    assert np.array_equal(whole.trained, np.arange(200)) and not len(whole.held_out)


def test_the_chance_of_a_sample_is_its_share() -> None:
    """Over seeds every sample is held out about as often as any other."""
    labels = np.arange(50) % 2
    times = sum(np.isin(np.arange(50), divide(labels, seed, None, hold_out=True).held_out) for seed in range(400))
    # Binomial with 400 trials and p = 0.2 has a standard deviation of 8.
    assert times.min() > 80 - 4.5 * 8 and times.max() < 80 + 4.5 * 8


@pytest.mark.parametrize(
    ("labels", "samples", "said"),
    [
        (np.arange(10), None, "class . has no sample left"),
        (np.array([0, 0, 1, 1]), 2, "of 2 samples none is held out"),
        (np.array([0] * 99 + [1]), 3, "samples=3 leaves one"),
    ],
)
def test_too_few_samples_are_named(labels: Any, samples: int | None, said: str) -> None:
    with pytest.raises(gl.SourceError, match=said):
        divide(labels, 3, samples, hold_out=True)


SOURCE = gl.Files(["a.jpg", "b.jpg"], [0, 1])


@pytest.mark.parametrize(
    ("stages", "kept"),
    [
        (
            (gl.Shuffle(), gl.Cache(), gl.Decode(), gl.RandomResizedCrop((20, 24), antialias=False), gl.Batch(2)),
            (gl.Decode(), gl.Resize((20, 24), antialias=False)),
        ),
        (
            (gl.Decode(), gl.Resize((32, 32)), gl.RandomCrop(32, padding=4), gl.RandomHorizontalFlip()),
            (gl.Decode(), gl.Resize((32, 32))),
        ),
        ((gl.Decode(), gl.Resize((40, 40)), gl.RandomCrop(32)), (gl.Decode(), gl.Resize((40, 40)), gl.CenterCrop(32))),
        (
            (gl.Decode(), gl.Resize((8, 8)), gl.RandomApply([gl.RandomRotation(9)], 0.5), gl.ToDtype("float32")),
            (gl.Decode(), gl.Resize((8, 8)), gl.ToDtype("float32")),
        ),
        ((gl.Decode(), gl.Resize((8, 8)), gl.OneHot(2), gl.Batch(2), gl.MixUp()), (gl.Decode(), gl.Resize((8, 8)))),
    ],
)
def test_what_is_judged_is_loaded_without_chance(stages: Any, kept: Any) -> None:
    pipeline = gl.Pipeline(SOURCE, *stages, seed=4)
    judged = without_chance(pipeline, 16)
    assert judged == gl.Pipeline(SOURCE, *kept, gl.Batch(16), seed=4)
    assert judged.specs[-1].image_shape == pipeline.specs[-1].image_shape


@dataclass(frozen=True)
class Half(gl.Stage):
    """A stage of a user's own: half of the rows, drawn."""

    draws: ClassVar[int] = 1
    numbers: ClassVar[int] = 1

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        rows, columns, channels = spec.shape
        return ImageSpec((rows // 2 if rows else None, columns, channels), spec.dtype, spec.layout)


def test_a_stage_that_nothing_stands_for_is_named() -> None:
    with pytest.raises(gl.PipelineError, match=r"without Half.*give it a pipeline as validation"):
        without_chance(gl.Pipeline(SOURCE, gl.Decode(), gl.Resize((16, 16)), Half()), 8)
