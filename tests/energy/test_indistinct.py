"""Steps that can't be told apart are reported together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from greenload.energy.attribution.attribute import attribute
from greenload.energy.attribution.costs import Indistinct
from greenload.energy.attribution.observation import Observation


def window(step: str, kind: str, round_: int, build: int, cpu_s: float, **more: object) -> Observation:
    fields = {"samples": 100, "wall_ns": 10**9, **more}
    return Observation(step, kind, round_, build, cpu_s=cpu_s, **fields)  # type: ignore[arg-type]


def chain(parts: tuple[tuple[str, str, float], ...], noise: float, seed: int = 0) -> list[Observation]:
    """Windows of steps (name, method, milliseconds), and of the whole, each off by ``noise`` milliseconds."""
    rng = np.random.default_rng(seed)
    windows = []
    for build in range(2):
        for round_ in range(5):

            def add(step: str, kind: str, ms: float, build: int = build, round_: int = round_) -> None:
                seen = ms + noise * rng.standard_normal()
                windows.append(window(step, kind, round_, build, seen, samples=1000))

            upto = 0.0
            for name, method, ms in parts:
                upto += ms
                if method == "prefix":
                    add(name, "prefix", upto)
                else:
                    add(name, "with", ms + 1)
                    add(name, "without", 1.0)
            add("", "full", upto)
    return windows


def test_adjacent_steps_that_are_both_unresolved_are_reported_together() -> None:
    parts = (("read", "prefix", 5.0), ("flip", "replay", 0.02), ("crop", "replay", 0.03), ("decode", "replay", 5.0))
    found = attribute(chain(parts, noise=0.5), steps=[name for name, *_ in parts], domains={})
    assert [step.cost.cpu_s_per_sample.unresolved for step in found.steps] == [False, True, True, False]
    (group,) = found.indistinct
    assert (group.steps, group.quantity) == (("flip", "crop"), "cpu_s")
    assert group.figure.value == pytest.approx(sum(step.cost.cpu_s_per_sample.value or 0 for step in found.steps[1:3]))
    assert Indistinct.from_dict(group.to_dict()) == group


def test_prefixes_that_trade_cost_are_reported_together() -> None:
    """The prefix up to b is far noisier than that up to c, so a + b and c are unsure, and their sum is not."""
    parts = (("a", "prefix", 4.0), ("b", "prefix", 3.0), ("c", "prefix", 3.0))
    rng = np.random.default_rng(0)
    windows = [
        dataclasses.replace(one, cpu_s=one.cpu_s + 2 * rng.standard_normal()) if one.step == "b" else one
        for one in chain(parts, noise=0.02)
    ]
    found = attribute(windows, steps=["a", "b", "c"], domains={})
    (group,) = found.indistinct
    assert group.steps == ("b", "c")
    assert group.figure.value == pytest.approx(6e-3, rel=0.02)
    narrow, apart = group.figure.half_width, [step.cost.cpu_s_per_sample.half_width for step in found.steps[1:]]
    assert narrow is not None and all(half is not None and half > 5 * narrow for half in apart)
    rest = found.unattributed.cpu_s_per_sample
    assert rest.half_width is not None and rest.half_width < 1e-4, "prefixes telescope: b's noise is not in the sum"


def test_steps_that_are_told_apart_are_not_grouped() -> None:
    parts = (("read", "prefix", 5.0), ("flip", "replay", 0.5), ("decode", "replay", 5.0))
    assert attribute(chain(parts, noise=0.02), steps=[name for name, *_ in parts], domains={}).indistinct == ()
