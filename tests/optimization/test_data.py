"""An optimization as JSON: read back it is what it was, damage is one line, and its plan is made when asked for."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import mutations
import pytest
from known_optimizations import PLANES, STREAMING, TODAY, optimization
from mutations import faults

from greenload.energy.figures import Figure
from greenload.errors import ReportError, UsageError
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


def test_only_its_own_plans_are_named() -> None:
    found = optimization()
    with pytest.raises(UsageError, match="'nobody', which is no candidate"):
        replace(found, runner_up="nobody")
    with pytest.raises(UsageError, match="a name each"):
        replace(found, candidates=(*found.candidates, found.candidates[0]))
    with pytest.raises(UsageError, match=r"found 'nobody': name one of native, planes in memory, 2 threads; "):
        found.candidate("nobody")
