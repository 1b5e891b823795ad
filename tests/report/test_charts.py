"""Axes and bars: where things lie, whatever the figures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenload.energy.attribution.observation import FIRST_EPOCH
from greenload.energy.figures import Figure
from greenload.report.charts import Axis, BarPart, axis_of, bar, timeline
from greenload.report.data import Report

VALUES = st.lists(st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6), max_size=6)


@settings(deadline=None)
@given(VALUES, st.integers(2, 8))
def test_an_axis_holds_zero_and_every_value_in_few_even_steps(values: list[float], steps: int) -> None:
    axis = Axis.around(values, steps)
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low - slack <= min([0.0, *values]) and max([0.0, *values]) <= axis.high + slack
    assert 1 <= len(axis.ticks) - 1 <= steps + 2
    assert axis.ticks[0] == pytest.approx(axis.low) and axis.ticks[-1] == pytest.approx(axis.high)
    assert any(tick == 0 for tick in axis.ticks)
    assert axis.percent(axis.low) == 0 and axis.percent(axis.high) == 100


@pytest.mark.parametrize(
    ("values", "low", "high", "step"),
    [
        ((1.3,), 0, 1.5, 0.5),
        ((0.0,), 0, 1, 1.0),
        ((-0.7, 1.9), -1, 2, 1.0),
        ((8.0,), 0, 8, 2.0),
        ((41.0,), 0, 60, 20.0),
    ],
)
def test_axes_end_at_round_numbers(values: tuple[float, ...], low: float, high: float, step: float) -> None:
    axis = Axis.around(values)
    assert (axis.low, axis.high, axis.step) == pytest.approx((low, high, step))


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=4), st.booleans())
def test_parts_stack_from_zero_without_a_gap(values: list[float], common: bool) -> None:
    parts = [BarPart(f"p{k}", "cpu", Figure(value, value - 1, value + 1, "measured")) for k, value in enumerate(values)]
    axis = axis_of([[part.figure for part in parts]], common=common)
    made = bar("step", parts, axis, "ms", common=common)
    zero = axis.percent(0.0)
    above = sum(value for value in values if value > 0)
    below = sum(value for value in values if value < 0)
    assert max([zero, *(span.left + span.width for span in made.spans)]) == pytest.approx(axis.percent(above), abs=0.02)
    assert min([zero, *(span.left for span in made.spans)]) == pytest.approx(axis.percent(below), abs=0.02)
    assert all(span.left >= -0.01 and span.left + span.width <= 100.01 for span in made.spans)
    assert made.whisker is not None
    half = len(values) ** (1.0 if common else 0.5)
    assert made.whisker.left == pytest.approx(axis.percent(sum(values) - half), abs=0.02)
    assert made.whisker.left + made.whisker.width == pytest.approx(axis.percent(sum(values) + half), abs=0.02)


def test_a_missing_figure_has_no_bar_and_says_so() -> None:
    made = bar("step", [BarPart("cpu", "cpu", Figure.missing())], Axis.around([1.0]), "ms")
    assert made.spans == () and made.whisker is None and made.text == "–"
    assert "unknown: no meter could say" in made.tip


def test_windows_with_clocks_are_those_of_the_whole(measured: Report) -> None:
    full = next(window for window in measured.windows if window.kind == "full")
    kinds = [replace(full, kind=kind) for kind in ("whole", "in place")]
    kinds.append(replace(full, step=FIRST_EPOCH, kind="in place"))
    line = timeline(replace(measured, windows=(full, *kinds)))
    assert line is not None
    texts = [text.splitlines()[0] for *_, text in line.tips]
    assert texts[0] == "the whole pipeline, held out" and texts[1] == "the whole pipeline, without clocks"
    assert texts[2] == "the whole pipeline, with clocks around its functions"
    assert texts[3] == "the first epoch, the whole pipeline, with clocks around its functions"
    assert ("full", "the whole pipeline, with clocks and without") in line.legend
