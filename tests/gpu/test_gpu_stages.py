"""DALI's augmentations on a GPU: each primitive's stated tolerance over sizes and dtypes, branches, whole pipelines.

Runs without TensorFlow. In the end a table says what was seen of each primitive (``-s``), so that what is stated can be
tightened to it. On a machine without a GPU, ``GREENLOAD_GPU_REHEARSAL=1`` runs the same code on DALI's CPU operators.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from dali_cases import runner_of
from dali_stages import (
    AUGMENTATIONS,
    CASTS,
    HEAVY,
    LARGE,
    LEVELS,
    MOVING,
    SIZES,
    Seen,
    image,
    images,
    largest,
    outputs,
    ragged,
    references,
    see,
)

from greenload.backends import replay
from greenload.backends.base import Records
from greenload.backends.chain import run_plan
from greenload.backends.dali.backend import DaliBackend
from greenload.planning.choose import make_plan
from greenload.stages import GaussianBlur, RandomGrayscale, RandomHorizontalFlip, RandomVerticalFlip, Stage, ToDtype

REHEARSAL = os.environ.get("GREENLOAD_GPU_REHEARSAL") == "1"
BACKEND = DaliBackend("dali-cpu" if REHEARSAL else "dali")
pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def seen() -> Iterator[list[Seen]]:
    found: list[Seen] = []
    yield found
    print(f"\n\nseen on {BACKEND.availability().detail}, backend {BACKEND.name!r}\n{largest(found)}")


@pytest.fixture(autouse=True, scope="module")
def _gpu() -> None:
    found = BACKEND.availability()
    if not found.usable:
        pytest.skip(f"{found.detail}; {found.remedy}")


def beyond(found: list[Seen]) -> list[Seen]:
    return [each for each in found if not each.kept]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("stage", AUGMENTATIONS, ids=str)
def test_an_augmentation_keeps_its_tolerance(stage: Stage, dtype: str, seen: list[Seen]) -> None:
    found = see(BACKEND, stage, dtype, images(dtype, SIZES))
    found += see(BACKEND, stage, dtype, [image(*size, "noise", dtype) for size in LARGE])
    seen.extend(found)
    assert beyond(found) == []


@pytest.mark.parametrize("stage", LEVELS, ids=str)
def test_levels_by_an_images_own_number_have_the_references_bits(stage: Stage, seen: list[Seen]) -> None:
    found = see(BACKEND, stage, "uint8", images("uint8", SIZES))
    found += see(BACKEND, stage, "uint8", [image(*size, "noise", "uint8") for size in LARGE])
    seen.extend(found)
    assert max(each.max for each in found) == 0


@pytest.mark.parametrize(("dtype", "stage"), CASTS, ids=str)
def test_a_conversion_keeps_its_tolerance(dtype: str, stage: Stage, seen: list[Seen]) -> None:
    found = see(BACKEND, stage, dtype, images(dtype, SIZES))
    seen.extend(found)
    assert beyond(found) == []


@pytest.mark.parametrize("dtype", ["int8", "float16"])
@pytest.mark.parametrize("stage", [*MOVING, RandomVerticalFlip(1.0), RandomHorizontalFlip(1.0)], ids=str)
def test_pixels_of_any_dtype_are_moved_as_they_are(stage: Stage, dtype: str, seen: list[Seen]) -> None:
    if dtype == "float16" and isinstance(stage, (RandomVerticalFlip, RandomHorizontalFlip)):
        pytest.skip("DALI flips no float16 on the CPU, so neither backend supports it")
    found = see(BACKEND, stage, dtype, images(dtype, SIZES))
    seen.extend(found)
    assert beyond(found) == []
    assert max(each.max for each in found) == 0


def test_floats_of_both_signs_are_cut_toward_zero() -> None:
    values = np.array([-300, -128.7, -128, -2.5, -1, -0.75, -0.0, 0.25, 0.999, 1, 1.5, 127, 127.9, 300], np.float32)
    pipeline, records = ragged("float32", [np.repeat(values, 3).reshape(1, -1, 3)], ToDtype("int8"))
    result = outputs(make_plan(pipeline, BACKEND.name), records)[0]
    assert result[0, :, 0].tolist() == [-128, -128, -128, -2, -1, 0, 0, 0, 0, 1, 1, 127, 127, 127]


@pytest.mark.parametrize("chance", [0.0, 0.4, 1.0])
def test_recoloring_some_images_leaves_the_others_bits(chance: float) -> None:
    pixels = [image(20 + k, 30, "noise", "float32", k) * 3 - 1 for k in range(8)]
    pipeline, records = ragged("float32", pixels, RandomGrayscale(chance))
    for was, result, grey in zip(
        pixels, outputs(make_plan(pipeline, BACKEND.name), records), records.numbers[:, 0] < chance, strict=True
    ):
        assert np.ptp(result, axis=-1).max() < 1e-6 if grey else (result == was).all()


def test_a_gaussian_narrower_than_float32_can_say_leaves_the_image_as_it_is() -> None:
    pixels = [image(9, 12, "noise", "uint8")]
    for sigma in (1e-300, 1e-40, 0.1):
        pipeline, records = ragged("uint8", pixels, GaussianBlur(5, sigma))
        assert (outputs(make_plan(pipeline, BACKEND.name), records)[0] == pixels[0]).all()


def heavy() -> tuple[Any, Records]:
    pixels = [image(40 + 3 * k, 70 - 2 * k, "photo", "uint8", k) for k in range(12)]
    return ragged("uint8", pixels, *HEAVY)


def test_all_of_them_in_one_pipeline_follow_the_reference() -> None:
    pipeline, records = heavy()
    result = run_plan(make_plan(pipeline, BACKEND.name, threads=2), records)
    gap = np.abs(result - np.stack(references(pipeline, records))) * 0.225 * 255
    print(f"\nall augmentations: max {gap.max():.3g} levels, mean {gap.mean():.3g}")
    assert gap.max() < 3.1  # a level each for two warps and a recoloring; erasing and cropping are exact
    assert gap.mean() < 0.05


def test_the_same_pixels_at_any_batch_size() -> None:
    pipeline, records = heavy()
    whole = run_plan(make_plan(pipeline, BACKEND.name, threads=2), records)
    with runner_of(make_plan(pipeline, BACKEND.name), 5) as runner:
        parts = [
            runner.run(Records(records.images[at : at + 5], records.numbers[at : at + 5], records.names[at : at + 5]))
            for at in (0, 5, 10)
        ]
    assert (np.concatenate(parts) == whole).all()


def test_every_step_can_be_replayed() -> None:
    pipeline, records = heavy()
    plan = make_plan(pipeline, BACKEND.name, threads=2)
    for i, step in enumerate(plan.steps):
        if step.kind in ("pixels", "batch"):
            for each in replay.replay(plan, i, records, 4, 2):
                assert each.run(8) == 8
                each.close()
