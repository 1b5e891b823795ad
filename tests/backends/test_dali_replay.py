"""Replays of single steps on DALI, and which backends' segments it runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dali_cases import photo, pipeline_of, png, records_of, runner_of

from greenload.backends.base import Records
from greenload.backends.replay import replay
from greenload.errors import UsageError
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.sources import ImageFolder
from greenload.stages import Batch, Decode, RandomHorizontalFlip, RandomResizedCrop, Shuffle, ToDtype

pytest.importorskip("nvidia.dali")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in range(2):
        (tmp_path / f"class-{label}").mkdir()
        for i in range(7):
            (tmp_path / f"class-{label}" / f"{i}.png").write_bytes(png(photo(30 + i, 40 - label, 7 * label + i)))
    return tmp_path


def usual(folder: Path, size: int = 4) -> Pipeline:
    stages = [Shuffle(), Decode(), RandomResizedCrop(16), RandomHorizontalFlip(), Batch(size)]
    return Pipeline(ImageFolder(folder), *stages, seed=3)


def test_only_dalis_own_segments_are_run(folder: Path) -> None:
    with pytest.raises(UsageError, match="not of 'tf'"):
        runner_of(make_plan(usual(folder), "tf"), 1)


def replayed(folder: Path) -> tuple[Plan, Records]:
    pipeline = usual(folder, 7)
    source, order = pipeline.source, range(14)
    numbers = DrawLayout.of(pipeline).prepare(3, 0, np.arange(14))
    return make_plan(pipeline, "dali-cpu", threads=2), Records([source.read(i) for i in order], numbers, ["?"] * 14)


def test_every_dali_step_can_be_replayed(folder: Path) -> None:
    plan, records = replayed(folder)
    for place, step in enumerate(plan.steps):
        if step.kind == "read":
            with pytest.raises(UsageError, match="only pixel and batch steps"):
                replay(plan, place, records, 7, 1)
            continue
        for one in replay(plan, place, records, 7, 2):
            assert one.run(20) == 21
            assert one.run(7) == 7
            one.close()
    with pytest.raises(UsageError, match="one batch of 15"):
        replay(plan, 1, records, 15, 1)


@pytest.mark.slow
def test_replays_of_all_steps_cost_about_what_the_pipeline_costs() -> None:
    images = [png(photo(300, 400, seed)) for seed in range(16)]
    pipeline = pipeline_of(RandomResizedCrop(224), RandomHorizontalFlip(), ToDtype("float32", True), count=16)
    plan, records = make_plan(pipeline, "dali-cpu", threads=2), records_of(pipeline, images)

    def cost(work: Any) -> float:
        work()
        costs = []
        for _ in range(9):
            begin = time.process_time()
            work()
            costs.append(time.process_time() - begin)
        return min(costs)  # whatever runs beside the tests only adds

    total = 0.0
    for place, step in enumerate(plan.steps):
        if step.kind != "read":
            with_run, without_run = replay(plan, place, records, 16, 2)
            total += cost(lambda: with_run.run(16)) - cost(lambda: without_run.run(16))  # noqa: B023
    with runner_of(plan, 16) as runner:
        assert 0.75 < total / cost(lambda: runner.run(records)) < 1.25
