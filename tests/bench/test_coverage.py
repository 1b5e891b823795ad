"""The bench of intervals: it counts what misses the truth, and shows every kind of profile."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bench.coverage import PARTS, cell, held, line, profile, rows
from bench.simulator import typical_scenario


def test_intervals_that_miss_are_counted() -> None:
    rng = np.random.default_rng(0)
    scenario = typical_scenario(rng, noise=0.01)
    windows, found, builds = profile(scenario, rng)
    assert builds == 2
    shown = held(scenario, windows, found)
    assert set(shown) == {(quantity, part) for quantity in ("CPU s", "joules") for part in PARTS}
    assert np.mean([one for values in shown.values() for one in values]) > 0.8
    dearer = dataclasses.replace(
        scenario, steps=tuple(dataclasses.replace(s, cpu_s=2 * s.cpu_s) for s in scenario.steps)
    )
    wrong = held(dearer, windows, found)
    assert not any(wrong["CPU s", "steps"] + wrong["CPU s", "whole"] + wrong["joules", "whole"])


@pytest.mark.slow
def test_a_row_holds_what_is_claimed_to_the_claim() -> None:
    one = cell("alone", "", 0.01, 6)
    table = {row.what: row for row in rows([one])}
    assert len(table) == 7
    row = table["95 % intervals that miss the truth: CPU s of steps, alone"]
    assert row.reach == pytest.approx(7)
    assert row.measured.median == pytest.approx(100 * (1 - one.held["CPU s", "steps"]))
    half = dataclasses.replace(one, held=dict.fromkeys(one.held, 0.5))
    assert not any(row.met for row in rows([half]))
    assert line(one).startswith("alone ") and "2.0 builds" in line(one)
    assert all(row.reach is None for row in rows([cell("bent", "varying", 0.03, 3, concavity=0.85)]))


def test_a_profile_to_a_precision_takes_more_builds() -> None:
    assert cell("alone", "", 0.08, 3, precision=0.05).builds == 8
