"""The text between TensorFlow's errors and the record they are about. Whole sets are verified in test_bad_input.py."""

from __future__ import annotations

import numpy as np
import pytest

import greenload as gl
from greenload.loading.bad_records import REFUSED
from greenload.loading.record_errors import MARK, REMEDY, record_error
from greenload.loading.verdicts import Judge
from greenload.planning.choose import make_plan
from greenload.plans.pipeline import Pipeline
from greenload.sources import Files
from greenload.specs import MAX_BYTES
from greenload.stages import Decode
from greenload.system import heap

NAMES = ["a.jpg", "br] [0] [1].jpg", "co: lon: x.jpg", "new\nline.jpg", "\udcff.jpg"]
SOURCE = Files([f"/nowhere/{name}" for name in NAMES])
PLAN = make_plan(Pipeline(SOURCE, Decode()), "tf")


@pytest.mark.parametrize("index", range(len(NAMES)))
def test_a_missing_record_is_found_by_its_index_whatever_its_name(index: int) -> None:
    text = f"assertion failed: [{MARK}] [{SOURCE.name(index)}] [{index}] [{REMEDY}]\n\t [[{{{{node Assert}}}}]]"
    error = record_error(text, PLAN)
    assert error is not None
    assert (error.path, error.reason) == (SOURCE.name(index), "can't be read: No such file or directory")


@pytest.mark.parametrize("index", range(len(NAMES)))
def test_a_refused_record_keeps_its_reason(index: int) -> None:
    shown = SOURCE.name(index).encode(errors="backslashreplace").decode()
    error = record_error(f"ValueError: {REFUSED} [{index}] {shown}: is cut: early\n\nTraceback", PLAN)
    assert error is not None
    assert (error.path, error.reason) == (SOURCE.name(index), "is cut: early")


def test_other_errors_are_about_no_record() -> None:
    assert record_error("OOM when allocating a tensor [3] RecordError: a: b", PLAN) is None


def test_a_missing_file_has_its_reason() -> None:
    assert Judge("tf", MAX_BYTES, "error", None).reason(SOURCE, 0) == "can't be read: No such file or directory"


def test_gives_back_memory_after_the_first_iterator_and_after_its_first_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(heap, "give_back", lambda: given_back.append(len(seen)))
    seen: list[int] = []
    dataset = gl.load(gl.Pipeline(gl.Arrays(np.zeros((4, 2, 2, 3), np.uint8), np.arange(4)), gl.Batch(1)), "tf")
    for _ in range(2):
        for _, labels in dataset:
            seen += labels.numpy().tolist()
            assert given_back == [0, 0]
    assert len(seen) == 8
