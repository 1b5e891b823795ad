"""Which changes to a pipeline are worth trying: a pure function of the plan and its costs."""

from __future__ import annotations

from typing import Any

import numpy as np

import greenload as gl
from greenload.alternatives import alternatives
from greenload.stages import Stage

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILES = gl.Files(["a.jpg"] * 1000)


def found(*stages: Stage, backend: str = "tf", free: float = 4e9, source: Any = FILES) -> dict[str, gl.Pipeline]:
    plan = gl.make_plan(gl.Pipeline(source, *stages, seed=3), backend)
    costs = {step.name: 1e-3 for step in plan.steps}
    return {one.title: one.pipeline for one in alternatives(plan, costs, decoded_bytes=1e6, free_bytes=free)}


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
