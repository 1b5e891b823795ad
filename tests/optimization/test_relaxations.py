"""How far pixels move: against differences that are known."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from greenload.errors import UsageError
from greenload.optimization.relaxations import moved
from greenload.planning.choose import make_plan
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.sources import Arrays, Files, Source
from greenload.stages import (
    Batch,
    Cache,
    Decode,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)

PIXELS = np.random.default_rng(3).integers(0, 240, (20, 12, 10, 3), dtype=np.uint8)
FLOATS: tuple[Stage, ...] = (ToDtype("float32", scale=True), Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.5)))


def planned(source: Source, *stages: Stage) -> Plan:
    return make_plan(Pipeline(source, Shuffle(), *stages, seed=2), "native", threads=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, bad_images: ModuleType) -> Files:
    folder: Path = tmp_path_factory.mktemp("photos")
    for index in range(6):
        (folder / f"{index}.jpg").write_bytes(bad_images.jpeg(90, 120, seed=index, quality=80))
    return Files(sorted(map(str, folder.iterdir())))


@pytest.mark.parametrize("stages", [(), FLOATS], ids=["uint8", "normalized"])
def test_two_levels_are_two_levels_in_every_dtype(stages: tuple[Stage, ...]) -> None:
    """Of 20 images 13 are looked at, then all, in which one value is five levels off, the others two."""
    other = PIXELS + 2
    before = planned(Arrays(PIXELS), RandomHorizontalFlip(), *stages, Batch(4))
    after = planned(Arrays(other), RandomHorizontalFlip(), *stages, Batch(4))
    seen = moved(before, after, "float16", images=13)
    assert seen.images == 13 and seen.change == "float16"
    assert (seen.mean, seen.most) == (pytest.approx(2, abs=1e-4), pytest.approx(2, abs=1e-4))
    other[:, 0, 0, 1] = PIXELS[:, 0, 0, 1] + 5
    most = moved(before, planned(Arrays(other), RandomHorizontalFlip(), *stages, Batch(4)), "float16")
    assert most.images == 20 and most.most == pytest.approx(5, abs=1e-4)
    assert most.mean == pytest.approx(2 + 3 / (12 * 10 * 3), abs=1e-4)


def test_the_same_plan_moves_nothing() -> None:
    plan = planned(Arrays(PIXELS), RandomCrop(8), *FLOATS, Batch(4))
    seen = moved(plan, plan, "antialias")
    assert (seen.images, seen.mean, seen.most) == (20, 0.0, 0.0)


def test_float16_moves_by_its_rounding() -> None:
    """Values below 4 have 9 bits behind the point: half of 1/512 times std · 255 levels, at most."""
    before = planned(Arrays(PIXELS), *FLOATS, Batch(4))
    seen = moved(before, planned(Arrays(PIXELS), *FLOATS, ToDtype("float16"), Batch(4)), "float16")
    assert 0 < seen.mean < seen.most <= 0.5 / 512 * 0.5 * 255 and "float16" in seen.detail


def test_resizing_moves_pixels_and_the_cache_of_shrunk_images_leaves_no_trace(photos: Files) -> None:
    stages = (RandomResizedCrop(24), RandomHorizontalFlip(), Batch(4))
    before = planned(photos, Decode(), *stages)
    aliased = planned(photos, Decode(), RandomResizedCrop(24, antialias=False), *stages[1:])
    shrunk = planned(photos, Decode(), Resize(32), Cache(ram=1 << 20), *stages)
    for plan, change in ((aliased, "antialias"), (shrunk, "shrunk-cache")):
        seen = moved(before, plan, change)
        assert seen.images == 6 and 0.2 < seen.mean < 60 and seen.mean < seen.most <= 255
        assert "check the accuracy" in seen.detail


def test_images_of_another_size_are_no_change_of_pixels() -> None:
    before = planned(Arrays(PIXELS), RandomCrop(8), Batch(4))
    with pytest.raises(UsageError, match=r"leaves images as large as they were, but made \[4, 8, 8, 3\]"):
        moved(before, planned(Arrays(PIXELS), RandomCrop(6), Batch(4)), "shrunk-cache")


@pytest.mark.slow
def test_images_that_are_not_batched_are_loaded_one_by_one() -> None:
    before, after = (make_plan(Pipeline(Arrays(pixels), *FLOATS), "tf") for pixels in (PIXELS, PIXELS + 1))
    seen = moved(before, after, "float16", images=3)
    assert seen.images == 3 and seen.most == pytest.approx(1, abs=1e-4)
