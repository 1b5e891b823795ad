"""A comparison as JSON: read back it is what it was; damage is one line; what it shows names what must be known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import mutations
import numpy as np
import pytest
from mutations import faults

from bench.compare_truth import evaluation, typical
from greenload.energy.figures import Figure
from greenload.errors import ReportError, UsageError
from greenload.machine import Machine
from greenload.report.validation import COMPARE_SCHEMA, schema
from greenload.strategies.conclusion import Asked, conclude
from greenload.strategies.data import Comparison
from greenload.strategies.limits import parse_limit
from greenload.strategies.race import Race, run_race
from greenload.strategies.records import Card, Run, StepCard
from greenload.strategies.statistics import Looks
from greenload.strategies.verdict import Rules


def exact(value: float, provenance: str = "measured") -> Figure:
    return Figure(value, 0.9 * value, 1.1 * value, provenance, 0.4 if provenance == "modelled" else 0.0)


def card(name: str) -> Card:
    return Card(
        strategy=name,
        pipeline={"stages": []},
        images_per_s=exact(900.0),
        cpu_s_per_sample=exact(1e-3),
        energy_j_per_sample={"cpu:package-0": exact(0.02), "dram:package-0": exact(0.002)},
        steps=(StepCard(name="Decode", backend="tf", cpu_s_per_sample=exact(5e-4)),),
        seconds=12.0,
    )


def joules(run: Run) -> Run:
    """A run as on a machine with counters, and a GPU's beside a modelled package."""
    return replace(run, energy_j={"cpu": 30 * run.cpu_s, "gpu:0": 50.0}, modelled=("cpu",), loader_cpu_s=run.cpu_s / 3)


def comparison(kind: str = "alike spreads", seed: int = 3, with_joules: bool = True) -> Comparison:
    """A simulated comparison, one of whose runs failed."""
    truth = typical(np.random.default_rng(seed), kind)
    rules = Rules(truth.names, Looks(3, 0.05), (parse_limit("energy<=1.05*strategy 0", truth.names),))
    simulated = evaluation(truth, np.random.default_rng(seed))

    def run(strategy: str, number: int) -> Run:
        if (strategy, number) == ("strategy 1", 1):
            return Run(strategy=strategy, seed=1, score=None, failed="ValueError: no", seconds=1.0, cpu_s=1.0)
        found = simulated(strategy, number)
        return joules(found) if with_joules else found

    end = run_race(Race(rules, 3, budget_s=50.0), run)
    asked = Asked(
        strategies={},
        rules=rules,
        seeds=3,
        first_seed=0,
        budget_s=50.0,
        demand=1500.0,
        evaluates=True,
        settings={"seeds": 3},
        same={"backend": "tf"},
        out=None,
        progress=lambda share, text: None,
    )
    return conclude(asked, end.runs, {name: card(name) for name in truth.names}, (), end)


@pytest.mark.parametrize("with_joules", [True, False])
def test_read_back_it_is_what_it_was(with_joules: bool, tmp_path: Any) -> None:
    choice = comparison(with_joules=with_joules)
    assert Comparison.from_dict(json.loads(json.dumps(choice.to_dict(), allow_nan=False))) == choice
    choice.save(tmp_path / "choice.json")
    assert Comparison.load(tmp_path / "choice.json") == choice
    assert choice.unit == ("J" if with_joules else "CPU s")
    first = choice.cards[0]
    runs = [run for run in choice.runs if run.strategy == first.strategy and run.score is not None]
    values = [run.total_j if with_joules else run.cpu_s for run in runs]
    assert first.cost.value == pytest.approx(np.mean(values)) and first.runs == len(runs)
    assert first.cost.provenance == ("modelled" if with_joules else "measured")
    assert set(first.training_energy_j) == ({"cpu", "gpu:0"} if with_joules else set())


def test_the_schema_is_one_and_types_what_is_written() -> None:
    from jsonschema import Draft202012Validator

    whole = schema(COMPARE_SCHEMA)
    Draft202012Validator.check_schema(whole)
    Draft202012Validator(whole).validate(comparison().to_dict())
    data = comparison().to_dict()
    properties = {"cards": "card", "runs": "run", "ties": "tie", "limits": None}
    assert set(whole["properties"]) == set(data)
    for name, of in properties.items():
        items = whole["properties"][name]["items"] if of is None else whole["$defs"][of]
        assert set(items["properties"]) == set(data[name][0]), name


def test_a_damaged_comparison_is_refused_or_is_shown() -> None:
    def use(choice: Comparison) -> None:
        assert str(choice)
        again = json.loads(json.dumps(choice.to_dict(), allow_nan=False))
        assert Comparison.from_dict(again).to_dict() == again

    small = comparison("some equal", 5)
    few = replace(small, runs=small.runs[:6])
    data = json.loads(json.dumps(few.to_dict()))
    cases = mutations.some(data, 250, 7)
    refused = faults(cases, lambda case: Comparison.from_dict(case.data), use, (ReportError,))
    assert not refused, refused[:5]


def test_only_its_own_strategies_are_named() -> None:
    choice = comparison()
    with pytest.raises(UsageError, match="'nobody' without a card"):
        replace(choice, recommended="nobody")
    with pytest.raises(UsageError, match="a card each"):
        replace(choice, cards=(*choice.cards, choice.cards[0]))
    with pytest.raises(UsageError, match="name one of strategy 0"):
        choice.card("nobody")
    assert choice.card("strategy 1").failed == 1
    tie = choice.ties[0]
    assert tie.b in choice.tied_with(tie.a) and tie.a in choice.tied_with(tie.b)


def test_the_table_says_what_must_be_known() -> None:
    choice = comparison()
    text = str(choice)
    assert text.splitlines()[0].startswith(f"recommended: {choice.recommended} ")
    for card_ in choice.cards:
        assert card_.strategy in text
    assert "training\n" not in text and "\n" in text and " J  " in text and "starves" in text
    assert "strategy 1 failed (seed 1): ValueError: no" in text
    assert "costs are joules of the whole machine while a run trained" in text and "cpu modelled" in text
    assert "more seed" in text and "1 failed" in text
    for tie in choice.ties:
        parted = {(a, b) for a in choice.pareto for b in choice.pareto if a != b} - {(tie.a, tie.b), (tie.b, tie.a)}
        assert all((step.lower, step.upper) in parted for step in choice.steps_up)
    narrow = "\n".join(line for line in str_width(choice, 60).splitlines())
    assert max(map(len, narrow.splitlines())) <= 60


def str_width(choice: Comparison, width: int) -> str:
    from greenload.report.columns import plain_text

    return plain_text(choice.render(), width)


def test_names_cant_steer_a_terminal() -> None:
    hostile = json.loads(json.dumps(comparison().to_dict()).replace("strategy 0", "\\u001b[2J"))
    assert "\x1b" not in str(Comparison.from_dict(hostile))


def test_an_empty_comparison_is_shown() -> None:
    figure = Figure.missing()
    cards = tuple(Card(strategy=name, pipeline={}, images_per_s=figure, cpu_s_per_sample=figure) for name in "ab")
    choice = Comparison(
        created="2026-01-01T00:00:00+00:00",
        greenload="0",
        machine=Machine("x", 2, 3, "Linux", "3.11", {}),
        meters=(),
        key="",
        settings={},
        unit="CPU s",
        cards=cards,
    )
    assert "not finished" in str(choice) and Comparison.from_dict(choice.to_dict()) == choice
