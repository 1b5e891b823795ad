"""The Pareto chart's positions: where points, intervals, the front and the names lie."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_comparisons import card, comparison, figure, unscored

from greenload.report.scatter import close_axis
from greenload.strategies.chart import pareto_chart, tied_with_best


def test_points_lie_where_scores_and_costs_say() -> None:
    chart = pareto_chart(comparison())
    assert chart is not None and chart.unit == "joules of a training"
    points = {point.name: point for point in chart.points}
    assert chart.x.low <= 980 and chart.x.high >= 1520 and chart.y.low <= 0.896 and chart.y.high >= 0.936
    assert chart.x.low > 0 and chart.y.low > 0.85, "close around the points"
    trivial = points["trivial"]
    value = chart.x.low + (chart.x.high - chart.x.low) * trivial.left / 100
    assert value == pytest.approx(1100, abs=0.1)
    assert trivial.across.left < trivial.left < trivial.across.left + trivial.across.width
    assert trivial.along.left < trivial.bottom < trivial.along.left + trivial.along.width
    high = chart.y.low + (chart.y.high - chart.y.low) * (trivial.along.left + trivial.along.width) / 100
    assert high == pytest.approx(0.934, abs=1e-5)


def test_the_pareto_set_is_joined_and_the_rest_marked() -> None:
    chart = pareto_chart(comparison())
    assert chart is not None
    points = {point.name: point for point in chart.points}
    plain, trivial = points["plain"], points["trivial"]
    expected = f"M{plain.left:g} {100 - plain.bottom:g} L{trivial.left:g} {100 - trivial.bottom:g}"
    assert chart.front == expected
    assert {name: point.classes for name, point in points.items()} == {
        "plain": "good",
        "trivial": "good chosen",
        "randaugment": "",
        "mixup": "",
    }
    assert [name for name, point in points.items() if point.tag != point.name] == ["trivial"], (
        "not the best mean itself"
    )
    assert "tied with trivial" in points["randaugment"].tip and "1,500 ±20 J" in points["randaugment"].tip
    assert chart.has_choice and chart.has_ties


def test_without_scores_there_is_no_chart_and_one_point_has_no_front() -> None:
    assert pareto_chart(unscored()) is None and tied_with_best(unscored()) == ()
    some = [card("plain"), *unscored().cards[1:]]
    chart = pareto_chart(comparison(cards=tuple(some), pareto=("plain",), recommended=None, ties=(), unit="CPU s"))
    assert chart is not None and len(chart.points) == 1
    assert chart.front == "" and not chart.has_choice and not chart.has_ties
    assert chart.unit == "CPU seconds of a training"


def test_names_do_not_stand_on_each_other() -> None:
    near = [replace(card("plain"), strategy=f"s{k}", score=figure(0.9 + 1e-5 * k, 0.01)) for k in range(6)]
    chart = pareto_chart(
        comparison(
            cards=tuple(near), runs=(), pareto=(), steps_up=(), ties=(), recommended=None, limits=(), pictures={}
        )
    )
    assert chart is not None
    heights = sorted(point.bottom * 3.4 + point.lift for point in chart.points)
    assert all(after - before > 17 for before, after in itertools.pairwise(heights))


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=8))
def test_an_axis_holds_all_its_values(values: list[float]) -> None:
    axis = close_axis(values)
    assert f"{axis.step:.0e}"[0] in "125" and abs(float(f"{axis.step:.0e}") / axis.step - 1) < 1e-6
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low - slack <= min(values) and max(values) <= axis.high + slack
    assert 2 <= len(axis.ticks) <= 12
