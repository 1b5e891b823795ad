"""A search's file: gone on from by the same search alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenload import Arrays, Batch, Pipeline, RandomHorizontalFlip
from greenload.errors import ReportError
from greenload.optimization.arguments import checked_settings, checked_training
from greenload.optimization.builds import Build
from greenload.optimization.search_file import Kept, identity, keep, key_of, resume


def same(*stages: Any, images: int = 24, **changed: Any) -> dict[str, Any]:
    pipeline = Pipeline(Arrays(np.zeros((images, 8, 8, 3), np.uint8), np.arange(images)), *stages, Batch(8))
    training = checked_training(pipeline, **{"epochs": 3, "ram": 0} | changed.pop("training", {}))
    return identity(pipeline, training, checked_settings(**changed))


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    kept = Kept(same=same(), samples=24, builds=(Build(name="a", round=1, failed="why"),))
    keep(tmp_path / "out", kept)
    assert resume(tmp_path / "out", same()) == kept
    assert resume(tmp_path / "none", same()) is None
    assert resume(None, same()) is None


def test_more_time_goes_on_with_the_same_search(tmp_path: Path) -> None:
    keep(tmp_path / "out", Kept(same=same(seconds=20), samples=24))
    assert resume(tmp_path / "out", same(seconds=200)) is not None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (same(images=16), "of another pipeline, or its files have changed"),
        (same(RandomHorizontalFlip()), "of another pipeline"),
        (same(training={"epochs": 4}), "of another training"),
        (same(training={"ram": 5}), "of another training"),
        (same(seed=1), "with another seed"),
        (same(records=8), "on another number of records"),
        (same() | {"machine": "a supercomputer"}, "on another machine"),
    ],
)
def test_another_search_is_refused_in_one_line(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    keep(tmp_path / "out", Kept(same=changed, samples=24))
    with pytest.raises(ReportError, match=said) as error:
        resume(tmp_path / "out", same())
    assert "\n" not in str(error.value) and "name another file" in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema": "greenload.report/1"}', '{"schema": "greenload.search/1", "samples": 3, "builds": 7}'],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "out").write_text(text)
    with pytest.raises(ReportError, match=str(tmp_path / "out")) as error:
        resume(tmp_path / "out", same())
    assert "\n" not in str(error.value)


def test_the_file_of_a_search_that_has_ended_begins_anew(tmp_path: Path) -> None:
    result = {"schema": "greenload.optimization/1", "key": key_of(same())}
    (tmp_path / "out").write_text(json.dumps(result))
    assert resume(tmp_path / "out", same()) is None
    (tmp_path / "out").write_text(json.dumps(result | {"key": "another"}))
    with pytest.raises(ReportError, match="another search found"):
        resume(tmp_path / "out", same())


def test_a_folder_that_cant_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="can't be written"):
        keep(tmp_path / "missing" / "out", replace(Kept(samples=0), same=same()))
