"""DALI's augmentations on the CPU: each primitive's tolerance over sizes and dtypes, branches, refusals, replays."""

from __future__ import annotations

import subprocess
import sys
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
    MOVING,
    SIZES,
    Ragged,
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
from greenload.backends.base import EXACT, Records
from greenload.backends.chain import run_plan
from greenload.backends.dali.backend import DaliBackend
from greenload.backends.dali.graph import arguments_of, feeds_of
from greenload.backends.image_sizes import sizes_of
from greenload.backends.registry import make_readers
from greenload.errors import PipelineError, RecordError
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.sources import Arrays
from greenload.specs import ImageSpec
from greenload.stages import (
    Apply,
    Batch,
    ColorJitter,
    GaussianBlur,
    OneHot,
    RandomCrop,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomPerspective,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
    Stage,
    ToDtype,
)
from greenload.stages import primitives as p

pytest.importorskip("nvidia.dali")

CPU, GPU = DaliBackend("dali-cpu"), DaliBackend("dali")


@pytest.fixture(scope="module")
def seen() -> Iterator[list[Seen]]:
    """Collects what was seen, and prints it in the end (``-s``)."""
    found: list[Seen] = []
    yield found
    print(f"\n{largest(found)}")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("stage", AUGMENTATIONS, ids=str)
def test_an_augmentation_keeps_its_tolerance(stage: Stage, dtype: str, seen: list[Seen]) -> None:
    found = see(CPU, stage, dtype, images(dtype, SIZES, repeats=1))
    seen.extend(found)
    assert [each for each in found if not each.kept] == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("stage", AUGMENTATIONS, ids=str)
def test_an_augmentation_keeps_its_tolerance_on_large_images(stage: Stage, dtype: str, seen: list[Seen]) -> None:
    found = see(CPU, stage, dtype, [image(*size, "noise", dtype) for size in LARGE])
    seen.extend(found)
    assert [each for each in found if not each.kept] == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_perspective_map_keeps_its_tolerance(dtype: str, seen: list[Seen]) -> None:
    stage = RandomPerspective(p=0.9, fill=1)  # not on a GPU, hence none of the augmentations above
    found = see(CPU, stage, dtype, images(dtype, SIZES, repeats=3))
    found += see(CPU, stage, dtype, [image(*size, "noise", dtype) for size in LARGE])
    seen.extend(found)
    assert [each for each in found if not each.kept] == []


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "stage"), CASTS, ids=str)
def test_a_conversion_keeps_its_tolerance(dtype: str, stage: Stage, seen: list[Seen]) -> None:
    found = see(CPU, stage, dtype, images(dtype, SIZES[-4:], repeats=1))
    seen.extend(found)
    assert [each for each in found if not each.kept] == []


@pytest.mark.parametrize("dtype", ["int8", "float16"])
@pytest.mark.parametrize("stage", MOVING, ids=str)
def test_pixels_of_any_dtype_are_moved_as_they_are(stage: Stage, dtype: str) -> None:
    found = see(CPU, stage, dtype, images(dtype, SIZES, repeats=1))
    assert all(each.max == 0 for each in found)


def test_int8_is_flipped_as_it_is() -> None:
    for stage in (RandomVerticalFlip(1.0), RandomHorizontalFlip(1.0)):
        assert all(each.max == 0 for each in see(CPU, stage, "int8", images("int8", SIZES, repeats=1)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_floats_of_both_signs_are_cut_toward_zero(dtype: str) -> None:
    values = np.array([-300, -128.7, -128, -2.5, -1, -0.75, -0.0, 0.25, 0.999, 1, 1.5, 127, 127.9, 300], dtype)
    pixels = [np.repeat(values, 3).reshape(1, -1, 3)]
    pipeline, records = ragged(dtype, pixels, ToDtype("int8"))
    result = outputs(make_plan(pipeline, "dali-cpu"), records)[0]
    assert result[0, :, 0].tolist() == [-128, -128, -128, -2, -1, 0, 0, 0, 0, 1, 1, 127, 127, 127]


def test_a_flip_before_a_conversion_is_one_step_whatever_the_dtype() -> None:
    for after in ("int8", "float16", "uint8"):
        pixels = images("float32", SIZES[-4:])
        pipeline, records = ragged("float32", pixels, RandomHorizontalFlip(), ToDtype(after, scale=True))
        plan = make_plan(pipeline, "dali-cpu")
        assert isinstance(plan.steps[1].primitive, p.FlipAffine)
        for result, wanted in zip(outputs(plan, records), references(pipeline, records), strict=True):
            assert np.abs(result.astype(np.float64) - wanted).max() <= (1 if after != "float16" else 5e-4)


@pytest.mark.parametrize("chance", [0.0, 0.4, 1.0])
def test_recoloring_some_images_leaves_the_others_bits(chance: float) -> None:
    # Beyond 0 … 1, to which recoloring clips.
    pixels = [image(20 + k, 30, "noise", "float32", k) * 3 - 1 for k in range(8)]
    pipeline, records = ragged("float32", pixels, RandomGrayscale(chance), RandomVerticalFlip())
    results = outputs(make_plan(pipeline, "dali-cpu"), records)
    grey = records.numbers[:, 0] < chance
    assert grey.sum() == {0.0: 0, 1.0: 8}.get(chance, grey.sum()) and (chance != 0.4 or 0 < grey.sum() < 8)
    for was, result, flip, turned in zip(pixels, results, records.numbers[:, 1] < 0.5, grey, strict=True):
        as_it_was = result[::-1] if flip else result
        if turned:
            assert np.ptp(as_it_was, axis=-1).max() < 1e-6
            assert as_it_was.min() >= 0 and as_it_was.max() <= 1
        else:
            assert (as_it_was == was).all()


def fed(stage: Stage, pixels: list[np.ndarray[Any, Any]], name: str) -> np.ndarray[Any, Any]:
    pipeline, records = ragged("uint8", pixels, stage)
    feeds = feeds_of([step for step in make_plan(pipeline, "dali-cpu").steps if step.primitive is not None])
    numbers = DrawLayout.of(pipeline)
    sizes = sizes_of(records.images, records.names, "dali-cpu", make_readers(None, threads=1))
    arguments = arguments_of(numbers, feeds, records.numbers, sizes)
    (found,) = (values for key, values in arguments.items() if key.startswith(name))
    return found


def test_taps_without_weight_are_left_out() -> None:
    # As denormal numbers they would cost twenty times what the others do.
    pixels = [image(9, 9, "noise", "uint8")] * 40
    sigma, taps = (fed(GaussianBlur((23, 5), (0.05, 2.0)), pixels, name) for name in ("sigma", "taps"))
    assert taps.dtype == np.int32
    assert (taps % 2 == 1).all()
    assert taps[:, 0].max() <= 5 and 5 < taps[:, 1].max() <= 23 and taps[:, 1].min() < 5
    reach = taps[:, 1] // 2 + 1  # the first that is left out
    left_out = np.exp(-(reach**2) / (2.0 * sigma.astype(np.float64) ** 2))
    assert left_out[taps[:, 1] < 23].max() < 2**-21
    assert np.log(np.exp(-((taps[:, 1] // 2) ** 2) / (2.0 * sigma.astype(np.float64) ** 2))).min() > np.log(1e-38)


def test_a_gaussian_narrower_than_float32_can_say_leaves_the_image_as_it_is() -> None:
    pixels = [image(9, 12, "noise", "uint8")]
    for sigma in (1e-300, 1e-40, 0.1):
        pipeline, records = ragged("uint8", pixels, GaussianBlur(5, sigma))
        assert (outputs(make_plan(pipeline, "dali-cpu"), records)[0] == pixels[0]).all()


def test_all_of_them_in_one_pipeline_follow_the_reference() -> None:
    pixels = [image(40 + 3 * k, 70 - 2 * k, "photo", "uint8", k) for k in range(12)]
    pipeline, records = ragged("uint8", pixels, *HEAVY)
    plan = make_plan(pipeline, "dali-cpu", threads=2)
    result = run_plan(plan, records)
    gap = np.abs(result - np.stack(references(pipeline, records))) * 0.225 * 255
    assert gap.max() < 3.1  # a level each for two warps and a recoloring; erasing and cropping are exact
    assert gap.mean() < 0.05


def test_the_same_pixels_at_any_thread_count_and_batch_size() -> None:
    pixels = [image(40 + 3 * k, 70 - 2 * k, "photo", "uint8", k) for k in range(10)]
    pipeline, records = ragged("uint8", pixels, *HEAVY)
    whole = run_plan(make_plan(pipeline, "dali-cpu", threads=1), records)
    with runner_of(make_plan(pipeline, "dali-cpu"), 4) as runner:
        parts = [
            runner.run(Records(records.images[at : at + 4], records.numbers[at : at + 4], records.names[at : at + 4]))
            for at in (0, 4, 8)
        ]
    assert (np.concatenate(parts) == whole).all()


@pytest.mark.slow
def test_every_step_can_be_replayed() -> None:
    pixels = [image(40 + 3 * k, 70 - 2 * k, "photo", "uint8", k) for k in range(8)]
    pipeline, records = ragged("uint8", pixels, *HEAVY)
    plan = make_plan(pipeline, "dali-cpu", threads=1)
    pixel_work = [i for i, step in enumerate(plan.steps) if step.kind in ("pixels", "batch")]
    assert len(pixel_work) >= 10
    for i in pixel_work:
        with_step, without = replay.replay(plan, i, records, 4, 1)
        for each in (with_step, without):
            assert each.run(8) == 8
            each.close()


@pytest.mark.parametrize(
    ("before", "stages", "name"),
    [
        ("uint8", (ToDtype("bfloat16"),), "ToDtype"),
        ("uint8", (Apply(lambda pixels: pixels),), "Apply"),
        ("uint8", (ToDtype("float16", True), RandomVerticalFlip()), "RandomVerticalFlip"),
        ("bfloat16", (RandomCrop(2, pad_if_needed=True),), "RandomCrop"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(type(stage).__name__ for stage in value),
)
def test_what_dali_has_no_operator_for_is_refused_when_planned(
    before: str, stages: tuple[Stage, ...], name: str
) -> None:
    pipeline = Pipeline(Ragged(1, before), *stages, RandomCrop((1, 1)), Batch(1))
    for backend in ("dali-cpu", "dali"):
        with pytest.raises(PipelineError, match=f"{name}.*backend '{backend}'.*use backend='tf'"):
            make_plan(pipeline, backend)
    assert make_plan(pipeline, "tf").steps


def test_what_is_claimed_is_stated_and_what_is_not_is_none() -> None:
    for backend in (CPU, GPU):
        for dtype in ("uint8", "int8", "float16", "bfloat16", "float32"):
            spec = ImageSpec((20, 30, 3), dtype, "HWC")
            moved = backend.table.tolerance(p.Crop(), spec)
            assert moved == (None if dtype == "bfloat16" else EXACT)
            for primitive in (p.Warp(), p.Color(), p.Blur(3, 3), p.Resize(True, 3, 3)):
                assert (backend.table.tolerance(primitive, spec) is None) == (dtype not in ("uint8", "float32"))
        floats = ImageSpec((20, 30, 3), "float32", "HWC")
        assert backend.table.tolerance(p.Affine((1.0,), (0.0,), "bfloat16"), floats) is None
        assert backend.table.tolerance(p.Call(abs), floats) is None
        assert backend.table.tolerance(p.Erase((0.5,)), floats) == EXACT
        erased = backend.table.tolerance(p.Erase((0.485,)), floats)
        assert erased is not None and 0 < erased.max < 3e-8  # float32 has no 0.485


def test_a_warp_of_a_large_image_is_stated_to_be_coarser_on_the_cpu() -> None:
    def stated(backend: DaliBackend, side: int | None) -> float:
        tolerance = backend.table.tolerance(p.Warp(), ImageSpec((side, side, 3), "float32", "HWC"))
        assert tolerance is not None
        return tolerance.max

    assert stated(CPU, 224) < 4e-3 < stated(CPU, 500) < stated(CPU, 1000)
    assert stated(CPU, None) == stated(CPU, 1000)
    assert stated(GPU, 1000) < 1e-3


def test_an_image_too_small_for_a_crop_is_named() -> None:
    pixels = [image(30, 40, "photo", "uint8"), image(20, 19, "photo", "uint8"), image(30, 40, "photo", "uint8")]
    pipeline, records = ragged("uint8", pixels, RandomCrop(20))
    with (
        runner_of(make_plan(pipeline, "dali-cpu"), 3, threads=1) as runner,
        pytest.raises(RecordError, match=r"images\[1\].*20×19"),
    ):
        runner.run(records)


@pytest.mark.slow
def test_load_and_iterate_give_the_same_pixels_and_labels() -> None:
    pytest.importorskip("tensorflow")
    from greenload.loading.iterate import iterate
    from greenload.loading.load import load

    pixels, labels = np.stack([image(40, 44, "photo", "uint8", k) for k in range(5)]), np.array([0, 2, 1, 2, 0])
    stages = (
        Resize((40, 40)),
        RandomRotation(10),
        ColorJitter(0.2),
        RandomErasing(),
        ToDtype("float16", True),
        OneHot(3),
    )
    pipeline = Pipeline(Arrays(pixels, labels), *stages, Batch(4))
    plan = make_plan(pipeline, "dali-cpu", threads=1)
    for (expected, codes), (batch, marks) in zip(iterate(plan), load(plan, epochs=1), strict=True):
        assert codes.shape[1] == 3
        assert batch.dtype.name == "float16"
        assert (batch.numpy() == expected).all()
        assert (marks.numpy() == codes).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modules", "others"),
    [
        ("greenload.sources.samples, greenload.sources, greenload.backends.dali.backend", ""),
        ("greenload.loading.iterate", "psutil"),
    ],
    ids=["backend", "iterate"],
)
def test_dali_needs_no_more_than_numpy(modules: str, others: str) -> None:
    """What a GPU machine without TensorFlow or a network has."""
    code = f"""
import importlib.abc, sys
allowed = {{"numpy", "nvidia", "greenload", {others!r}, *sys.stdlib_module_names}}
class Only(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] not in allowed:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Only())
import {modules}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
