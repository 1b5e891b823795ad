"""Input pipelines of published Keras and TensorFlow examples, profiled as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import greenload as gl
from greenload.profiling.tfdata import counting
from greenload.profiling.tfdata.units import gives_batches
from greenload.profiling.tfdata.walk import walk
from greenload.report.validation import validate

tf = pytest.importorskip("tensorflow")

NAMED: dict[str, Sequence[tuple[str, str, str]]] = {
    "classification_from_scratch": [
        ("image_dataset_from_directory", "image_dataset_from_directory", ""),
        ("lambda images, labels: (data_au…", "map", ""),
    ],
    "load_images": [("process_path", "map", ""), ("cache", "cache", "")],
    "tfrecords": [("tfrecords", "tfrecords", "interleave"), ("read_tfrecord", "map", "interleave")],
    "mixup": [
        ("from_tensor_slices", "from_tensor_slices", "zip 1"),
        ("from_tensor_slices (2)", "from_tensor_slices", "zip 2"),
        ("lambda one, two: mix_up(one, tw…", "map", ""),
    ],
    "text": [
        ("labeler", "map", "concatenate 1 / concatenate 1"),
        ("labeler (3)", "map", "concatenate 2"),
        ("tokenize", "map", ""),
        ("to_numbers", "map", ""),
        ("padded_batch", "padded_batch", ""),
    ],
    "forecasting": [
        ("series", "map", ""),
        ("window", "window", ""),
        ("to_sequence", "flat_map", ""),
        ("split", "map", ""),
    ],
}
"""Rows that each example's report has: name, kind, branch."""
FEW = ("load_images", "mixup", "text")
"""Those that `make test` profiles; the others are long."""
SAMPLES = {"classification_from_scratch": 39, "load_images": 39, "tfrecords": 48, "mixup": 1024, "text": 1800}


@pytest.fixture
def made(example: Callable[[str], ModuleType], sample_folder: Path, tmp_path: Path) -> Callable[[str], Any]:
    """An example's dataset, its data written first."""

    def make(name: str) -> Any:
        module = example(name)
        if name in ("classification_from_scratch", "load_images"):
            return module.make_dataset(str(sample_folder))
        if hasattr(module, "write_data"):
            module.write_data(*([str(sample_folder)] if name == "tfrecords" else []), str(tmp_path))
            return module.make_dataset(str(tmp_path))
        return module.make_dataset()

    return make


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FEW else pytest.mark.long) for name in NAMED])
def test_a_published_example_is_profiled_as_it_is(
    name: str, made: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "COUNT_S", 60.0)  # a whole epoch, on a busy machine too
    dataset = made(name)
    report = gl.profile(dataset, rounds=2, samples=32, name=name)
    validate(report.to_dict())
    rows = [(step.name, step.stages[0], step.branch) for step in report.steps]
    assert [row for row in rows if row in NAMED[name]] == list(NAMED[name])
    for step in report.steps:
        if step.stages[0] in ("map", "flat_map"):
            assert step.where.startswith(f"{name}.py:"), step
    assert report.samples == SAMPLES.get(name, report.samples)
    # How large the rest is, the benchmark prints: windows of 10 ms can't tell.
    assert report.full.cpu_s_per_sample.value and report.unattributed.cpu_s_per_sample.value is not None
    assert all(one.saves_cpu_s_per_sample.value for one in report.advice) and len(report.advice) <= 3


@pytest.mark.parametrize("name", NAMED)
def test_an_example_is_walked_without_running(name: str, made: Callable[[str], Any]) -> None:
    root = walk(made(name))
    assert gives_batches(root)
    names = [node.name for node in root.nodes() if not node.hidden]
    assert len(names) == len(set(names))
    assert [node for node in NAMED[name] if node[0] not in names] == []
