"""The plans that a search may choose: within their bounds, cheapest first, each with the pixels of the pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from encoders import png
from numpy.typing import NDArray

import greenload as gl
from greenload.backends.native.cache import planned_cache
from greenload.optimization.candidates import MOST, Option, candidates
from greenload.optimization.relaxations import moved
from greenload.optimization.training import RELAXATIONS, Training
from greenload.planning import cost_table
from greenload.planning.choose import make_plan
from greenload.planning.cost_table import Costs
from greenload.planning.saved import plan_data, plan_of
from greenload.plans.pipeline import Pipeline
from greenload.sources import Arrays, ImageFolder, Source
from greenload.stages import (
    Batch,
    Cache,
    CenterCrop,
    ColorJitter,
    Decode,
    Echo,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)

STD = (0.2, 0.25, 0.5)
FLOATS: tuple[Stage, ...] = (ToDtype("float32", scale=True), Normalize((0.5, 0.4, 0.3), STD))
TRAIN = (Shuffle(), Decode(), RandomResizedCrop(24), RandomHorizontalFlip(), *FLOATS, Batch(4))
EVALUATE = (Decode(), Resize(32), CenterCrop(24), *FLOATS, Batch(4))
COUNT, HEIGHT, WIDTH = 8, 72, 96
PIXEL_BYTES = COUNT * HEIGHT * WIDTH * 3
KNOWN = Costs(cost_table.reference())
LEVEL = 1 / 255 / min(STD)
"""What a level of 255 comes to behind Normalize, at most."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, bad_images: ModuleType) -> ImageFolder:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(COUNT):
        path = folder / f"class {index % 2}" / f"{index}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bad_images.jpeg(HEIGHT, WIDTH, seed=index, quality=80))
    return ImageFolder(folder)


def of(source: Source, stages: Sequence[Stage] = TRAIN, **bounds: Any) -> list[Option]:
    training = Training(**{"samples": len(source), "epochs": 10, "ram": 0, "threads": 2, **bounds})
    return candidates(Pipeline(source, *stages, seed=5), training, KNOWN)


def today(options: Sequence[Option]) -> Option:
    (found,) = [option for option in options if option.candidate.today]
    return found


def kept(options: Sequence[Option]) -> set[str]:
    return {option.candidate.kept for option in options}


def test_they_come_cheapest_first_with_names_of_their_own(photos: ImageFolder, tmp_path: Path) -> None:
    options = of(photos, ram=1 << 30, disk=1 << 30, folder=str(tmp_path), allow=RELAXATIONS)
    prices = [option.candidate.expected_cpu_s or 0.0 for option in options]
    names = [option.candidate.name for option in options]
    assert prices == sorted(prices) and prices[0] > 0
    assert len(set(names)) == len(names) == MOST
    assert any(name == "native, planes in memory, 2 threads" for name in names)
    assert any(name == "native, images shrunk to 27 in memory, no antialias, float16, 2 threads" for name in names)
    assert {option.plan.threads for option in options} == {option.candidate.threads for option in options} == {2}
    assert today(options).candidate.backends == "native"


def test_nothing_is_kept_where_nothing_may_be_or_it_cannot_pay(photos: ImageFolder, tmp_path: Path) -> None:
    assert kept(of(photos)) == {""}
    assert kept(of(photos, ram=1 << 30, disk=1 << 30, folder=str(tmp_path), epochs=1)) == {""}
    assert len({option.candidate.backends for option in of(photos)}) >= 3  # tf, native, and others that are here


def test_arrays_are_only_placed() -> None:
    source = Arrays(np.zeros((6, 32, 32, 3), np.uint8))
    options = of(source, (Shuffle(), RandomCrop(32, padding=4), ColorJitter(0.2), *FLOATS, Batch(2)), ram=1 << 30)
    assert kept(options) == {""} and len(options) >= 2 and today(options)


@pytest.mark.parametrize("ram", [0, 3_000, 20_000, 70_000, PIXEL_BYTES // 2, 10 * PIXEL_BYTES])
@pytest.mark.parametrize("disk", [0, 30_000])
def test_bounds_are_kept(ram: int, disk: int, photos: ImageFolder, tmp_path: Path) -> None:
    options = of(photos, EVALUATE, ram=ram, disk=disk, folder=str(tmp_path) if disk else None)
    for option in options:
        candidate, keeps = option.candidate, planned_cache(option.plan)
        assert candidate.ram_bytes <= ram and candidate.disk_bytes <= disk
        assert bool(candidate.kept) == (candidate.ram_bytes + candidate.disk_bytes > 0)
        if keeps is not None:
            assert (keeps.budget, keeps.path) == ((disk, str(tmp_path)) if keeps.path else (ram, None))
            assert candidate.share == keeps.share == pytest.approx(min(1.0, keeps.budget / (keeps.set_bytes or 0)))
        elif candidate.kept:  # tf.data keeps all
            assert candidate.share == 1.0
    assert any(not option.candidate.kept for option in options)


def test_more_room_never_leaves_worse_plans(photos: ImageFolder) -> None:
    best = [
        min(option.candidate.expected_cpu_s or 0.0 for option in of(photos, ram=ram))
        for ram in (0, 5_000, 30_000, 60_000, 120_000, 10 * PIXEL_BYTES)
    ]
    assert best == sorted(best, reverse=True) and best[-1] < 0.7 * best[0]


def test_tf_data_keeps_only_what_fits_as_a_whole(photos: ImageFolder) -> None:
    whole = "pixels in memory (tf.data)"
    assert whole in kept(of(photos, ram=PIXEL_BYTES)) and whole not in kept(of(photos, ram=PIXEL_BYTES - 1))
    for option in of(photos, ram=PIXEL_BYTES):
        assert option.candidate.kept != whole or option.candidate.ram_bytes == PIXEL_BYTES


def test_a_budget_for_less_than_an_image_warns_nobody(photos: ImageFolder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kept(of(photos, ram=50)) == {""}


def test_today_is_the_pipeline_as_it_was_given(photos: ImageFolder) -> None:
    cached = (Shuffle(), Cache(form="pixels", ram=9 * PIXEL_BYTES), *TRAIN[1:])
    options = of(photos, cached, ram=50)
    given = today(options)
    plan = make_plan(Pipeline(photos, *cached, seed=5), "auto", threads=2)
    assert given.plan.steps == plan.steps and given.plan.pipeline == plan.pipeline
    assert given.candidate.kept == "pixels in memory" and given.candidate.ram_bytes > 50  # it breaks the bound
    assert kept([option for option in options if option is not given]) == {""}
    within = of(photos, cached, ram=9 * PIXEL_BYTES)
    assert [option.candidate.name for option in within if "pixels in memory, 2" in option.candidate.name] == [
        "native, pixels in memory, 2 threads"
    ]
    assert today(within).candidate.name == "native, pixels in memory, 2 threads"  # one plan, not two


def test_the_plan_of_today_is_among_those_that_stream(photos: ImageFolder) -> None:
    options = of(photos)
    assert today(options).plan.pipeline.stages == TRAIN and len([o for o in options if o.plan.backend == "native"]) == 1


def test_without_batches_tf_data_does_everything(photos: ImageFolder) -> None:
    options = of(photos, TRAIN[:-1], ram=1 << 30)
    assert {option.plan.backend for option in options} == {"tf"}
    assert kept(options) == {"", "files in memory (tf.data)", "pixels in memory (tf.data)"}


def test_pixels_change_only_where_it_is_allowed(photos: ImageFolder) -> None:
    assert {option.candidate.changes for option in of(photos, ram=1 << 30)} == {()}
    for change in RELAXATIONS:
        named = {option.candidate.changes for option in of(photos, ram=1 << 30, allow=(change,))}
        assert named == {(), (change,)}


def test_a_plan_that_keeps_the_same_within_other_bounds_has_a_name_of_its_own(photos: ImageFolder) -> None:
    options = of(photos, (Shuffle(), Cache(form="planes"), *TRAIN[1:]), ram=1 << 30)
    planes = {o.candidate.name: o.candidate.today for o in options if o.candidate.kept == "planes in memory"}
    assert planes == {
        "native, planes in memory, 2 threads": False,
        "native, planes in memory, as given, 2 threads": True,
    }


def test_files_that_are_no_jpegs_are_kept_as_files_or_pixels(tmp_path: Path) -> None:
    for index in range(4):
        (tmp_path / "ab"[index % 2]).mkdir(exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        (tmp_path / "ab"[index % 2] / f"{index}.png").write_bytes(png(pixels))
    names = kept(of(ImageFolder(tmp_path), ram=1 << 30))
    assert names == {"", *(f"{what} in memory{by}" for what in ("files", "pixels") for by in ("", " (tf.data)"))}


def batches(plan: gl.Plan, epochs: int = 2) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    if plan.uses_tf_data:
        return [(images.numpy(), labels.numpy()) for images, labels in gl.load(plan, epochs=epochs)]
    return [(np.array(images), np.array(labels)) for images, labels in gl.iterate(plan, epochs=epochs)]


def check_pixels(options: Sequence[Option], source: Source) -> None:
    """Every plan, written to JSON and read again, gives the pixels of today's, each within a level of the formula, and
    the same labels; to the bit those of the plan on the same backends that keeps nothing."""
    expected = batches(today(options).plan)
    exactly: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {}
    for option in sorted(options, key=lambda option: bool(option.candidate.kept)):
        name, plan = option.candidate.name, plan_of(plan_data(option.plan), source)
        assert plan == option.plan, name
        given = batches(plan)
        for (images, labels), (right, right_labels) in zip(given, expected, strict=True):
            assert (labels == right_labels).all(), name
            np.testing.assert_allclose(images, right, atol=2.01 * LEVEL, rtol=0, err_msg=name)
            assert np.abs(images - right).mean() < 0.2 * LEVEL, name
        same = exactly.setdefault(option.candidate.backends, given)
        if planned_cache(plan) is not None:
            for (images, _), (right, _) in zip(given, same, strict=True):
                assert (images == right).all(), name


@pytest.mark.slow
def test_all_plans_give_the_same_pixels(photos: ImageFolder, tmp_path: Path) -> None:
    train = of(photos, ram=PIXEL_BYTES, disk=40_000, folder=str(tmp_path / "kept"))
    assert len(train) > 15
    check_pixels(train, photos)


@pytest.mark.slow
def test_all_plans_of_an_evaluation_give_the_same_pixels(photos: ImageFolder) -> None:
    evaluate = of(photos, EVALUATE, ram=10 * PIXEL_BYTES)
    assert "finished images in memory (tf.data)" in kept(evaluate)
    check_pixels(evaluate, photos)


@pytest.mark.slow
def test_all_plans_of_arrays_and_records_give_the_same_pixels(photos: ImageFolder, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    arrays = Arrays(pixels, np.arange(10))
    stages = (Shuffle(), RandomCrop(32, padding=4), RandomHorizontalFlip(), *FLOATS, Batch(4))
    check_pixels(of(arrays, stages, ram=1 << 30), arrays)
    gl.pack(photos, tmp_path / "packed")
    records = gl.open_folder(tmp_path / "packed")
    check_pixels(of(records, (*TRAIN[:2], Echo(2), *TRAIN[2:]), ram=20_000), records)


@pytest.mark.slow
def test_allowed_changes_move_pixels_as_far_as_they_may(photos: ImageFolder) -> None:
    options = of(photos, ram=10 * PIXEL_BYTES, allow=RELAXATIONS)
    plain = today(options).plan
    cheapest: dict[str, Option] = {}
    for option in options:
        if len(option.candidate.changes) == 1:
            cheapest.setdefault(option.candidate.changes[0], option)
    seen = {change: moved(plain, option.plan, change).mean for change, option in cheapest.items()}
    assert 0 < seen["float16"] < 0.1 < seen["antialias"] < 40 and 0.1 < seen["shrunk-cache"] < 40
