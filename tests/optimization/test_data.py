"""An optimization as JSON: read back it is what it was, damage is one line, and its plan is made when asked for."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import pytest
from known_optimizations import PLANES, STREAMING, TODAY, optimization
from mutations import faults

import greenload as gl
from greenload.energy.figures import Figure
from greenload.errors import ReportError, SourceError, UsageError
from greenload.optimization.data import Optimization
from greenload.optimization.records import Candidate, Flip, HeldOut, Moved, Outlay, Pace, Rates
from greenload.optimization.training import Settings, Training
from greenload.report.validation import OPTIMIZATION_SCHEMA, schema


@pytest.mark.parametrize("counted", [False, True])
def test_read_back_it_is_what_it_was(counted: bool, tmp_path: Path) -> None:
    found = optimization(counted=counted, saves_j=Figure(1.0, 0.5, 1.5, "modelled", 0.4))
    again = Optimization.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert again == found and again.to_dict() == found.to_dict()
    found.save(tmp_path / "found.json")
    assert Optimization.load(tmp_path / "found.json") == found
    assert json.loads((tmp_path / "found.json").read_text())["plan"] == found.planned


def test_the_known_one_is_as_it_is_described() -> None:
    found = optimization()
    assert found.winner == PLANES == found.best.name == found.candidates[0].name
    assert found.today is not None and found.today.name == TODAY and found.candidate(STREAMING).kept == ""
    assert found.pareto[-1] == PLANES and found.unmet == ""
    assert optimization(demand=20_000.0).unmet.startswith("it gives ")


def test_the_schema_is_one_and_types_what_is_written() -> None:
    from jsonschema import Draft202012Validator

    whole = schema(OPTIMIZATION_SCHEMA)
    Draft202012Validator.check_schema(whole)
    data = optimization(counted=True).to_dict()
    Draft202012Validator(whole).validate(data)
    assert set(whole["properties"]) == set(data)
    records = {
        "candidate": Candidate,
        "rates": Rates,
        "outlay": Outlay,
        "held_out": HeldOut,
        "flip": Flip,
        "moved": Moved,
        "pace": Pace,
        "training": Training,
        "settings": Settings,
    }
    for name, record in records.items():
        assert set(whole["$defs"][name]["properties"]) == {fact.name for fact in fields(record)}, name


def test_a_damaged_one_is_refused_or_is_shown() -> None:
    def use(found: Optimization) -> None:
        assert str(found)
        again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert Optimization.from_dict(again).to_dict() == again

    data = json.loads(json.dumps(optimization(counted=True).to_dict()))
    cases = mutations.some(data, 300, 11)
    refused = faults(cases, lambda case: Optimization.from_dict(case.data), use, (ReportError,))
    assert not refused, refused[:5]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "greenload.optimization/2"}, "this greenload reads greenload.optimization/1"),
        ({"schema": "greenload.report/1"}, "give a file that gl.optimize wrote"),
        ({"winner": "nobody"}, "'nobody', which is no candidate; search again"),
        ({"pareto": ["nobody"]}, "'nobody', which is no candidate; search again"),
        ({"candidates": []}, "search again"),
        ({"training": {"samples": 0, "epochs": 1, "ram": 0, "threads": 1}}, "search again"),
        ({"plan": 3}, "search again"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    file.write_text(json.dumps({**optimization().to_dict(), **change}))
    with pytest.raises(ReportError) as error:
        Optimization.load(file)
    said = str(error.value)
    assert (
        said.startswith(f"{file}: ") and says in said.replace(": search again", "; search again") and "\n" not in said
    )


def test_its_plan_is_made_when_it_is_asked_for_and_stands_for_it(sample_folder: Path, tmp_path: Path) -> None:
    stages = [gl.Shuffle(), gl.Decode(), gl.RandomResizedCrop(32), gl.Batch(8)]
    plan = gl.make_plan(gl.Pipeline(gl.ImageFolder(sample_folder), *stages, seed=3), "native", threads=1)
    found = optimization(planned=plan)
    assert found.plan is plan
    found.save(tmp_path / "found.json")
    again = Optimization.load(tmp_path / "found.json")
    assert again.plan == plan and again.plan is again.plan and again.to_dict() == found.to_dict()
    for given in (again, gl.load_plan(tmp_path / "found.json")):
        images = [batch[0] for batch in gl.iterate(given, epochs=1)]
        expected = [batch[0] for batch in gl.iterate(plan, epochs=1)]
        assert len(images) == 6 and all(np.array_equal(a, b) for a, b in zip(images, expected, strict=True))


def test_without_what_it_reads_it_is_shown_all_the_same(tmp_path: Path) -> None:
    arrays = gl.Arrays(np.zeros((8, 8, 8, 3), np.uint8), np.arange(8))
    found = optimization(planned=gl.make_plan(gl.Pipeline(arrays, gl.Batch(4)), "native"))
    found.save(tmp_path / "found.json")
    again = Optimization.load(tmp_path / "found.json")
    assert str(again) == str(found) and again.html() == found.html()
    with pytest.raises(SourceError, match="Arrays"):
        _ = again.plan


def test_only_its_own_plans_are_named() -> None:
    found = optimization()
    with pytest.raises(UsageError, match="'nobody', which is no candidate"):
        replace(found, runner_up="nobody")
    with pytest.raises(UsageError, match="a name each"):
        replace(found, candidates=(*found.candidates, found.candidates[0]))
    with pytest.raises(UsageError, match=r"found 'nobody': name one of native, planes in memory, 2 threads; "):
        found.candidate("nobody")
