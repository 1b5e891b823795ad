"""DALI without TensorFlow: streams from files, and replays of single steps."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dali_cases import photo, pipeline_of, png, records_of

from greenload import backends
from greenload.backends.base import Records
from greenload.backends.dali import backend
from greenload.errors import PipelineError, RecordError, UsageError
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.sources import Files, ImageFolder
from greenload.stages import (
    Batch,
    CenterCrop,
    Decode,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Shuffle,
    ToDtype,
)

pytest.importorskip("nvidia.dali")


def run(pipeline: Pipeline, records: Records) -> np.ndarray[Any, Any]:
    return backends.run(make_plan(pipeline, "dali-cpu", threads=2), records)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in range(2):
        (tmp_path / f"class-{label}").mkdir()
        for i in range(7):
            (tmp_path / f"class-{label}" / f"{i}.png").write_bytes(png(photo(30 + i, 40 - label, 7 * label + i)))
    return tmp_path


def streamed(pipeline: Pipeline, **options: Any) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    batches = backend.stream(make_plan(pipeline, "dali-cpu", threads=2), **options)
    return [(np.asarray(images.as_tensor()), labels) for images, labels in batches]


def usual(folder: Path, *, size: int = 4, drop: bool = False) -> Pipeline:
    stages = [Shuffle(), Decode(), RandomResizedCrop(16), RandomHorizontalFlip(), Batch(size, drop)]
    return Pipeline(ImageFolder(folder), *stages, seed=3)


def test_a_stream_is_the_permutation_through_a_runner(folder: Path) -> None:
    from greenload.randomness import permute

    pipeline = usual(folder)
    got = streamed(pipeline, epochs=2)
    source, numbers = pipeline.source, DrawLayout.of(pipeline)
    for epoch in range(2):
        order = permute(np.arange(14), 14, 3, epoch)
        records = Records(
            [source.read(i) for i in order], numbers.prepare(3, epoch, order), [source.name(i) for i in order]
        )
        batches = got[4 * epoch : 4 * epoch + 4]
        assert [len(labels) for _, labels in batches] == [4, 4, 4, 2]
        assert (np.concatenate([images for images, _ in batches]) == run(pipeline, records)).all()
        assert (np.concatenate([labels for _, labels in batches]) == source.labels[order]).all()
    assert not (got[0][0] == got[4][0]).all()


def test_a_stream_resumes_shards_and_reads_ahead_without_changing_a_bit(folder: Path) -> None:
    pipeline = usual(folder)
    whole = streamed(pipeline, epochs=2)
    for options in ({"readers": 1, "in_flight": 1}, {"readers": 7, "in_flight": 5}):
        again = streamed(pipeline, epochs=2, **options)
        assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(whole, again, strict=True))
    rest = streamed(pipeline, epochs=2, start=(1, 8))
    assert all((a[0] == b[0]).all() for a, b in zip(whole[6:], rest, strict=True))
    flat = np.concatenate([images for images, _ in whole[:4]])
    for shard in range(3):
        mine = np.concatenate([images for images, _ in streamed(pipeline, epochs=1, shard=(shard, 3))])
        assert (mine == flat[shard::3]).all()
    assert [len(labels) for _, labels in streamed(usual(folder, size=5, drop=True), epochs=1)] == [5, 5]


def test_a_stream_names_a_bad_file(folder: Path) -> None:
    bad = folder / "class-1" / "3.png"
    for data, reason in ((b"no image", "not an image"), (bad.read_bytes()[:200], "truncated PNG")):
        bad.write_bytes(data)
        with pytest.raises(RecordError, match=reason) as caught:
            streamed(usual(folder), epochs=1)
        assert caught.value.path == str(bad)
    bad.unlink()
    pipeline = Pipeline(Files([bad, bad]), Decode(), CenterCrop(8), Batch(2))
    with pytest.raises(RecordError, match=r"3\.png: can't be read"):
        streamed(pipeline, epochs=1)


def test_an_abandoned_stream_leaves_no_threads(folder: Path) -> None:
    batches = backend.stream(make_plan(usual(folder), "dali-cpu", threads=1), epochs=50)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("greenload-read")]


@pytest.mark.parametrize(
    "options", [{"epochs": -1}, {"epochs": 1, "shard": (2, 2)}, {"epochs": 1, "readers": 0}], ids=str
)
def test_a_stream_refuses_wrong_arguments_at_once(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        backend.stream(make_plan(usual(folder), "dali-cpu"), **options)


def test_devices_are_for_the_gpu_backend_only(folder: Path) -> None:
    with pytest.raises(UsageError, match="device_id"):
        backend.stream(make_plan(usual(folder), "dali-cpu"), epochs=1, device_id=0)
    with pytest.raises(UsageError, match="not of 'tf'"):
        backend.DaliRunner(make_plan(usual(folder), "tf"), batch_size=1, threads=1)
    with pytest.raises(PipelineError, match="Batch"):
        make_plan(Pipeline(ImageFolder(folder), Decode(), CenterCrop(8)), "dali-cpu")


def test_tensorflow_is_never_imported(folder: Path) -> None:
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "pyRAPL"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from greenload.backends.dali import backend as dali
from greenload.plans.pipeline import Pipeline
from greenload.planning.choose import make_plan
from greenload.sources import ImageFolder
from greenload.stages import Batch, Decode, RandomResizedCrop
pipeline = Pipeline(ImageFolder({str(folder)!r}), Decode(), RandomResizedCrop(8), Batch(4))
assert sum(len(labels) for _, labels in dali.stream(make_plan(pipeline, "dali-cpu"), epochs=1)) == 14
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def replayed(folder: Path) -> tuple[Plan, Records]:
    pipeline = usual(folder, size=7)
    source, order = pipeline.source, range(14)
    numbers = DrawLayout.of(pipeline).prepare(3, 0, np.arange(14))
    return make_plan(pipeline, "dali-cpu", threads=2), Records([source.read(i) for i in order], numbers, ["?"] * 14)


def test_every_dali_step_can_be_replayed(folder: Path) -> None:
    plan, records = replayed(folder)
    for place, step in enumerate(plan.steps):
        if step.kind == "read":
            with pytest.raises(UsageError, match="only pixel and batch steps"):
                backend.replay(plan, place, records, 7, 1)
            continue
        for one in backend.replay(plan, place, records, 7, 2):
            assert one.run(20) == 21
            assert one.run(7) == 7
            one.close()
    with pytest.raises(UsageError, match="one batch of 15"):
        backend.replay(plan, 1, records, 15, 1)


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
            with_run, without_run = backend.replay(plan, place, records, 16, 2)
            total += cost(lambda: with_run.run(16)) - cost(lambda: without_run.run(16))  # noqa: B023
    with backend.DaliRunner(plan, batch_size=16, threads=2) as runner:
        assert 0.75 < total / cost(lambda: runner.run(records)) < 1.25
