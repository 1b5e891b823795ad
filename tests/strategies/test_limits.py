"""Limits: what is one, and what figures say to it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from greenload.energy.figures import Figure
from greenload.errors import UsageError
from greenload.report.checks import Check
from greenload.strategies.limits import Measured, judge, parse_limit
from greenload.strategies.records import BROKEN, BROKEN_ONCE, CPU_SECONDS, JOULES, KEPT_ONCE, Card, LimitCheck

NAMES = ("plain", "rand augment", "2x")


@pytest.mark.parametrize(
    ("rule", "quantity", "operator", "factor", "reference"),
    [
        ("energy<=1.2*plain", "energy", "<=", 1.2, "plain"),
        (" score >= .92 ", "score", ">=", 0.92, ""),
        ("images_per_s>2e3", "images_per_s", ">", 2000.0, ""),
        ("cpu_s < rand augment", "cpu_s", "<", 1.0, "rand augment"),
        ("score>=-.5", "score", ">=", -0.5, ""),
        ("score>=-2*plain", "score", ">=", -2.0, "plain"),
        ("seconds<=2×2x", "seconds", "<=", 2.0, "2x"),
        ("energy<=2x", "energy", "<=", 1.0, "2x"),
    ],
)
def test_a_limit(rule: str, quantity: str, operator: str, factor: float, reference: str) -> None:
    limit = parse_limit(rule, NAMES)
    assert (limit.quantity, limit.operator, limit.factor, limit.reference) == (quantity, operator, factor, reference)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("energy", "a limit is a quantity"),
        ("energy<=", "a limit is a quantity"),
        ("joules<=3", "a limit is of score, energy"),
        ("energy<=1.2*plane", "a multiple of plain, rand augment, 2x, found 'energy<=1.2*plane'"),
        ("energy<=plane", "a multiple of plain"),
        ("energy<=1e999", "one that can be kept"),
        ("energy<=1e999*plain", "one that can be kept"),
        ("energy<=-1.2*plain", "energy is never below 0"),
        ("images_per_s>=-5", "images_per_s is never below 0"),
        ("energy==3", "a limit is"),
        (3, "a limit is"),
    ],
)
def test_what_is_no_limit(rule: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        parse_limit(rule, NAMES)


def exact(value: float, half: float = 0.0) -> Figure:
    return Figure(value, value - half, value + half, "measured")


def card(name: str, images_per_s: float, half: float) -> Card:
    joules = {"cpu:package-0": exact(0.2, 0.01), "dram:package-0": exact(0.1, 0.01)}
    return Card(
        strategy=name,
        pipeline={},
        images_per_s=exact(images_per_s, half),
        cpu_s_per_sample=exact(1 / images_per_s),
        energy_j_per_sample=joules if name == "plain" else {},
    )


def measured(energy: Sequence[Sequence[float]], unit: str = JOULES) -> Measured:
    table = np.array(energy, float)
    cards = {"plain": card("plain", 1000, 50), "rand augment": card("rand augment", 500, 50)}
    names = ("plain", "rand augment")
    return Measured(names, dict.fromkeys(("score", "energy", "cpu_s", "seconds"), table), cards, unit)


def verdict(rule: str, strategy: str, given: Measured) -> Check:
    return judge(parse_limit(rule, given.names), strategy, given, lambda seeds: 0.05)


def test_costs_are_held_against_the_other_strategys_seed_by_seed() -> None:
    """Seeds differ by far more than the strategies do, yet 1.1 times as much is known for certain."""
    plain = np.array([100.0, 300.0, 900.0, 500.0])
    noise = np.array([1.001, 0.999, 1.0, 1.001])
    given = measured([plain, 1.1 * plain * noise])
    assert verdict("energy<=1.2*plain", "rand augment", given).outcome == "met"
    assert verdict("energy<=1.05*plain", "rand augment", given).outcome == "exceeded"
    assert verdict("energy<=1.2*plain", "plain", given).outcome == "met"
    check = verdict("energy<=1.1*plain", "rand augment", given)
    assert check.outcome == "undecided" and check.limit == pytest.approx(1.1 * plain.mean())
    assert verdict("energy<=400", "plain", given).outcome == "undecided"
    assert verdict("energy<=5000", "plain", given).outcome == "met"


def test_a_single_run_decides_nothing() -> None:
    check = verdict("energy<=400", "plain", measured([[300.0], [np.nan]]))
    assert check.outcome == "undecided" and check.detail == KEPT_ONCE
    assert verdict("energy<=400", "rand augment", measured([[300.0], [np.nan]])).outcome == "missing"
    assert verdict("energy<=200", "plain", measured([[300.0], [np.nan]])).detail == BROKEN_ONCE
    both = measured([[300.0], [310.0]])
    assert verdict("energy<=1.2*plain", "rand augment", both).outcome == "undecided"
    assert verdict("energy<=1.2*plain", "plain", both).outcome == "met", "known of itself"
    assert verdict("energy<=0.9*plain", "plain", both).outcome == "exceeded"
    several = verdict("energy<=400", "plain", measured([[300.0, 600.0], [1.0, 1.0]]))
    assert several.detail == BROKEN
    assert all(LimitCheck(strategy="plain", check=one).kept == kept for one, kept in ((check, True), (several, False)))


def test_joules_that_no_counter_reads_are_missing() -> None:
    given = measured([[1.0, 2.0], [3.0, 4.0]], CPU_SECONDS)
    check = verdict("energy<=400", "plain", given)
    assert check.outcome == "missing" and "multiple of a strategy" in check.detail
    assert verdict("energy<=10*plain", "plain", given).outcome != "missing"


def test_loaders_are_judged_by_their_profiles() -> None:
    given = measured([[1.0], [1.0]])
    assert verdict("images_per_s>=900", "plain", given).outcome == "met"
    assert verdict("images_per_s>=900", "rand augment", given).outcome == "exceeded"
    assert verdict("images_per_s>=0.55*plain", "rand augment", given).outcome == "undecided"
    assert verdict("images_per_s>=0.9*plain", "plain", given).outcome == "met"  # its own error is common
    assert verdict("energy_j_per_sample<=0.33", "plain", given).outcome == "met"
    assert verdict("energy_j_per_sample<=0.33", "rand augment", given).outcome == "missing"
