"""Budgets, baselines and second comparisons of strategies: what is met, what got worse, what can't be said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from known_comparisons import card, comparison, dearer, figure, unscored

from greenload.errors import UsageError
from greenload.strategies.changes import OTHER_EVALUATION, changes, changes_html
from greenload.strategies.checks import judge_comparison, parse_strategy_budget, since
from greenload.strategies.data import Comparison


@pytest.mark.parametrize(
    ("rule", "outcome", "detail"),
    [
        ("score>=0.92", "met", "of trivial"),
        ("score>=0.94", "exceeded", "of trivial"),
        ("score>=0.93", "undecided", "more seeds narrow"),
        ("energy<=1200", "met", "of trivial"),
        ("cpu_s<=200", "met", "of trivial"),
        ("seconds<=10", "exceeded", "of trivial"),
        ("samples_per_s>=1000", "met", "of trivial"),
        ("images_per_s>=1000", "met", "of trivial"),
        ("cpu_s_per_sample<=1e-3", "met", "of trivial"),
        ("energy_j_per_sample.cpu<=0.02", "met", "modelled"),
        ("energy_j_per_sample.gpu:0<=0.02", "missing", "nothing meters gpu:0"),
        ('strategies."randaugment".energy<=1200', "exceeded", "of randaugment"),
        ("strategies.randaugment.score>=0.9", "met", "of randaugment"),
        ("strategies.gone.score>=0.9", "missing", "only plain, trivial, randaugment, mixup"),
    ],
)
def test_a_budget_is_of_the_recommended_strategy_or_of_a_named_one(rule: str, outcome: str, detail: str) -> None:
    (check,) = judge_comparison(comparison(), [parse_strategy_budget(rule)], None).checks
    assert (check.rule, check.outcome) == (rule, outcome) and detail in check.detail, check


def test_a_budget_that_nothing_can_be_said_of_is_missing() -> None:
    for rule, why in (("score>=0.9", "no strategy is recommended"), ("strategies.plain.energy<=1", "no counter reads")):
        (check,) = judge_comparison(unscored(), [parse_strategy_budget(rule)], None).checks
        assert check.outcome == "missing" and why in check.detail


@pytest.mark.parametrize("rule", ["score", "joy<=3", "energy_j_per_sample<=3", "strategies.plain<=3", "energy.cpu<=3"])
def test_what_is_no_budget_is_refused(rule: str) -> None:
    with pytest.raises(UsageError, match=r"budget|only joules"):
        parse_strategy_budget(rule)


def outcomes(baseline: Comparison, made: Comparison, **more: Any) -> dict[str, str]:
    return {check.rule: check.outcome for check in since(baseline, made, **more)}


def test_nothing_changed() -> None:
    assert outcomes(comparison(), comparison()) == {"baseline": "met"}


def test_what_costs_more_or_less_is_named() -> None:
    grown = outcomes(comparison(), dearer(comparison(), 1.5, "mixup"))
    assert grown == {
        "baseline": "exceeded",
        'strategies."mixup".energy<=baseline': "exceeded",
        'strategies."mixup".cpu_s_per_sample<=baseline': "exceeded",
    }
    fallen = outcomes(dearer(comparison(), 1.5, "mixup"), comparison())
    assert fallen["baseline"] == "met" and set(fallen.values()) == {"met"} and len(fallen) == 3
    assert outcomes(comparison(), dearer(comparison(), 1.5, "mixup"), tolerance=1.0)["baseline"] == "met"
    (_, first, _) = since(comparison(), dearer(comparison(), 1.5, "mixup"))
    assert "mixup costs more, × 1.50" in first.detail and "the baseline says 1300" in first.detail


def edited(made: Comparison, evaluate: str) -> Comparison:
    return replace(made, settings={**made.settings, "same": {"evaluate": evaluate}})


def scored(name: str, score: float) -> Comparison:
    cards = tuple(
        replace(each, score=figure(score, 0.004)) if each.strategy == name else each for each in comparison().cards
    )
    return comparison(cards=cards)


def test_a_score_may_not_fall() -> None:
    checks = since(comparison(), scored("plain", 0.8))
    assert [check.outcome for check in checks] == ["exceeded", "exceeded"]
    assert checks[1].rule == 'strategies."plain".score>=baseline' and "plain scores less" in checks[1].detail
    assert checks[1].value == pytest.approx(0.8) and checks[1].limit == pytest.approx(0.9)
    assert checks[1].low == pytest.approx(0.796) and "the baseline says 0.9 (0.896 to 0.904)" in checks[1].detail
    better = since(comparison(), scored("plain", 0.99))
    assert [check.outcome for check in better] == ["met", "met"] and "scores more" in better[1].detail
    slightly = since(comparison(), scored("plain", 0.899))
    assert [check.outcome for check in slightly] == ["met"]


def test_what_need_not_be_the_strategies_own_is_undecided() -> None:
    worse = dearer(comparison(), 1.5, "mixup")
    other = replace(worse, machine=replace(worse.machine, cpu_model="Another CPU"))
    assert set(outcomes(comparison(), other).values()) == {"undecided"}
    assert "ANOTHER PROCESSOR" in since(comparison(), other)[0].detail
    assert OTHER_EVALUATION in since(comparison(), edited(worse, "accuracy 2"))[0].detail
    fewer = comparison(cards=(*comparison().cards[:3], card("mixup", strategy="new")), runs=(), limits=(), pictures={})
    found = outcomes(comparison(), fewer)
    assert found["strategies.mixup"] == found["strategies.new"] == found["baseline"] == "undecided"
    chosen = since(comparison(), replace(comparison(), recommended="plain"))[0]
    assert "recommended: trivial → plain" in chosen.detail
    with pytest.raises(UsageError, match="tolerance"):
        since(comparison(), comparison(), tolerance=2)


def test_two_comparisons_are_held_against_each_other() -> None:
    changed = changes(comparison(), dearer(comparison(), 2.0, "mixup"))
    mixup = changed.strategies[3]
    assert (mixup.strategy, mixup.only) == ("mixup", "")
    rows = {change.name: change for change in mixup.changes}
    assert list(rows) == ["score", "a training", "full speed", "CPU time", "cpu joules"]
    cost, score = rows["a training"], rows["score"]
    assert cost.ratio is not None and cost.ratio.value == pytest.approx(2.0)
    assert cost.difference is not None and cost.difference.value == pytest.approx(1300)
    assert score.ratio is None and score.difference is not None and score.difference.value == 0
    text = str(changed.to_dict())
    assert "Two separate runs" in text and OTHER_EVALUATION not in text
    assert "2.00" in changes_html(changed) and "unclear" in changes_html(changed)


def test_a_comparison_of_something_else_is_said_to_be() -> None:
    other = comparison(
        key="other", unit="CPU s", cards=(*comparison().cards[:3],), settings={"seeds": 5}, recommended="plain",
        runs=(), limits=(), pictures={},
    )  # fmt: skip
    changed = changes(comparison(), other)
    assert [each.only for each in changed.strategies] == ["", "", "", "A"]
    names = {difference.name for difference in changed.settings}
    assert names == {"seeds", "recommended", "confidence", "evaluate", "backend", "pipeline or source of mixup",
                     "pipeline or source of plain"}  # fmt: skip
    assert changed.strategies[0].changes[1].unit == "CPU s"
    page = changes_html(changed)
    assert OTHER_EVALUATION in page and "mixup (only in A)" in page and "told in CPU seconds" in page
