"""Which changes to a pipeline are worth trying: a pure function of the plan and its costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.plans.plan import Plan
from greenload.profiling.advice import Alternative, alternatives, placed_by_auto
from greenload.stages import Stage

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILES = gl.Files(["a.jpg"] * 1000)


def found(*stages: Stage, backend: str = "tf", free: float = 4e9, source: Any = FILES) -> dict[str, gl.Pipeline]:
    plan = gl.make_plan(gl.Pipeline(source, *stages, seed=3), backend)
    costs = {step.name: 1e-3 for step in plan.steps}
    return {one.title: one.plan.pipeline for one in alternatives(plan, costs, decoded_bytes=1e6, free_bytes=free)}


def test_a_cache_goes_behind_the_last_stage_that_gives_the_same_each_time() -> None:
    stages = (gl.Shuffle(), gl.Decode(), gl.Resize((64, 64)), gl.RandomHorizontalFlip(), gl.Batch(8))
    changed = found(*stages)["Put Cache() behind Resize"]
    assert changed.stages == (*stages[:3], gl.Cache(), *stages[3:])
    assert changed.seed == 3 and changed.source == FILES
    assert "Put Cache() behind Decode" in found(gl.Decode(), gl.RandomResizedCrop(64), gl.Batch(8))


def test_a_cache_stands_before_what_makes_images_larger() -> None:
    title = next(iter(found(gl.Decode(), gl.CenterCrop(64), gl.Batch(8))))
    assert title == "Put Cache() behind CenterCrop"
    assert "Put Cache() behind Decode" in found(gl.Decode(), gl.CenterCrop(2000), gl.Batch(8))


def test_no_cache_where_it_has_no_place() -> None:
    stages = (gl.Decode(), gl.RandomResizedCrop(64), gl.Batch(8))
    assert not any("Cache" in title for title in found(*stages, free=1.9e9))  # 1 GB is more than half of it
    assert any("Cache" in title for title in found(*stages, free=2.1e9))
    assert not any("Cache" in title for title in found(gl.Decode(), gl.Cache(), *stages[1:]))
    assert not any("Cache" in title for title in found(*stages, backend="dali-cpu"))
    pixels = gl.Arrays(np.zeros((4, 9, 9, 3), np.uint8))
    assert found(gl.RandomHorizontalFlip(), gl.Batch(2), source=pixels) == {}


def test_native_decodes_behind_its_own_cache() -> None:
    stages = (gl.Shuffle(), gl.Decode(), gl.RandomResizedCrop(64), gl.Batch(8))
    pipeline = gl.Pipeline(FILES, *stages)
    one = of_plan(gl.make_plan(pipeline, "native"))["Put Cache() behind Decode"]
    assert one.plan.pipeline.stages == (*stages[:2], gl.Cache(), *stages[2:])
    assert one.plan.backend == "native"
    (keeps,) = [step.keeps for step in one.plan.steps if step.kind == "cache"]
    assert keeps is not None and keeps.form == "planes"
    assert "later epochs begin from planes in memory: 281 MB for 1000 samples" in one.detail
    assert one.expected_s == pytest.approx(3e-3 * 0.72)  # to go on from planes costs something, too
    resized = found(*stages[:2], gl.Resize((64, 64)), gl.RandomHorizontalFlip(), gl.Batch(8), backend="native")
    assert "Put Cache() behind Resize" in resized


def test_the_end_is_handed_to_the_model() -> None:
    end = (gl.ToDtype("float32", scale=True), gl.Normalize(MEAN, STD))
    changed = found(gl.Decode(), gl.RandomResizedCrop(8), gl.Batch(8), *end)["Hand ToDtype and Normalize to the model"]
    assert changed.stages == (gl.Decode(), gl.RandomResizedCrop(8), gl.Batch(8))
    assert not any("Hand" in title for title in found(gl.Decode(), gl.RandomResizedCrop(8), gl.Batch(8)))


def test_a_resize_may_go_without_its_filter() -> None:
    changed = found(gl.Decode(), gl.RandomResizedCrop(8, scale=(0.2, 1.0)), gl.Batch(8))
    assert changed["RandomResizedCrop(antialias=False)"].stages[1] == gl.RandomResizedCrop(
        8, scale=(0.2, 1.0), antialias=False
    )
    assert not any(
        "antialias" in title for title in found(gl.Decode(), gl.Resize((8, 8), antialias=False), gl.Batch(8))
    )


PHOTOS = gl.Pipeline(FILES, gl.Decode(), gl.RandomResizedCrop(64), gl.RandomHorizontalFlip(), gl.Batch(8), seed=3)


@pytest.fixture(autouse=True)
def reference_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's own may be."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def placed(plan: Plan) -> dict[str, str]:
    return {step.name: step.backend for step in plan.steps if step.kind == "pixels"}


def of_plan(plan: Plan) -> dict[str, Alternative]:
    costs = {step.name: 1e-3 for step in plan.steps}
    return {one.title: one for one in alternatives(plan, costs, decoded_bytes=1e6, free_bytes=4e9)}


def test_steps_stay_on_their_backends() -> None:
    plan = gl.make_plan(PHOTOS, {"RandomResizedCrop: resize": "pillow"}, threads=3, prefetch=5)
    changed = of_plan(plan)["Put Cache() behind Decode"].plan
    assert placed(changed) == {
        "Decode": "tf",
        "RandomResizedCrop: crop": "tf",
        "RandomResizedCrop: resize": "pillow",
        "RandomHorizontalFlip": "tf",
    }
    assert (changed.threads, changed.prefetch, changed.backend) == (3, 5, "mixed")
    stages = (*PHOTOS.stages, gl.ToDtype("float32"))
    plan = gl.make_plan(gl.Pipeline(FILES, *stages), {"Decode + crop": "dali-cpu", "RandomResizedCrop": "dali-cpu"})
    assert set(of_plan(plan)) == {"Hand ToDtype to the model", "RandomResizedCrop(antialias=False)"}
    for one in of_plan(plan).values():
        assert placed(one.plan) == {k: v for k, v in placed(plan).items() if k in placed(one.plan)}


def test_a_step_that_its_backend_holds_no_more_is_placed_anew_where_that_may_pay() -> None:
    """Pillow has no resize without a filter."""
    pytest.importorskip("nvidia.dali")
    one = of_plan(gl.make_plan(PHOTOS, "pillow"))["RandomResizedCrop(antialias=False)"]
    assert one.plan == gl.make_plan(one.plan.pipeline, "auto")
    assert placed(one.plan)["RandomResizedCrop: resize"] != "pillow"
    assert f"RandomHorizontalFlip on {placed(one.plan)['RandomHorizontalFlip']}" in one.detail


@pytest.mark.parametrize("backend", ["tf", "dali-cpu"])
def test_what_auto_would_choose_is_tried_where_it_differs(backend: str) -> None:
    pytest.importorskip("nvidia.dali")
    pytest.importorskip("PIL")
    auto = gl.make_plan(PHOTOS, "auto")
    plan = gl.make_plan(PHOTOS, backend)
    costs = {step.name: 1e-3 for step in plan.steps}
    assert auto.expected is not None and auto.steps != plan.steps  # antialiased photos: Pillow resizes for less
    one = placed_by_auto(plan, costs)
    assert one is not None and one.title == 'backend="auto"'
    assert one.plan == auto and auto.expected.costs in one.detail
    for segment in auto.segments:
        assert f"{segment.steps[-1].name} on {segment.backend}" in one.detail
    assert 0.05 * 4e-3 <= one.expected_s < 4e-3
    assert placed_by_auto(auto, costs) is None
    assert placed_by_auto(gl.make_plan(PHOTOS, placed(auto)), costs) is None
