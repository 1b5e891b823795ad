"""Paired differences and their intervals: what must hold for any scores, and how often intervals hold the truth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.special import stdtrit

from greenload.strategies.statistics import (
    Looks,
    adjusted_means,
    gaps,
    mean_figure,
    more_seeds,
    pairs,
    quantile,
    quantum,
    undominated,
)

LOOKS = Looks(3, 0.05)
ONCE = Looks(3, 0.05, repeated=False)
SIDES = st.integers(2, 5)
NUMBERS = st.integers(-1000, 1000).map(lambda whole: whole / 1000)


@st.composite
def tables(draw: st.DrawFn, gaps_too: bool = True) -> NDArray[np.float64]:
    """Scores ``[strategies, seeds]``, some of them missing."""
    shape = (draw(SIDES), draw(st.integers(1, 8)))
    values = draw(hnp.arrays(np.float64, shape, elements=NUMBERS))
    if gaps_too:
        values[draw(hnp.arrays(np.bool_, shape, elements=st.booleans()))] = np.nan
    return values


@given(tables())
def test_a_gap_is_the_same_from_both_sides(values: NDArray[np.float64]) -> None:
    found = gaps(values, LOOKS)
    np.testing.assert_array_equal(found.value, -found.value.T)
    np.testing.assert_array_equal(found.half, found.half.T)
    assert not (found.above & found.above.T).any()
    assert (found.half >= 0).all()


@given(tables(), st.permutations(range(5)))
def test_the_order_of_strategies_and_seeds_changes_nothing(values: NDArray[np.float64], order: list[int]) -> None:
    shuffled = [row for row in order if row < len(values)]
    first, second = gaps(values, LOOKS), gaps(values[shuffled][:, ::-1], LOOKS)
    index = np.ix_(shuffled, shuffled)
    np.testing.assert_allclose(first.value[index], second.value, atol=1e-12)
    np.testing.assert_allclose(first.half[index], second.half, rtol=1e-6, atol=1e-12)


@given(tables(gaps_too=False), st.lists(NUMBERS, min_size=8, max_size=8))
def test_what_a_seed_does_to_all_cancels(values: NDArray[np.float64], shifts: list[float]) -> None:
    shifted = values + np.array(shifts[: values.shape[1]])
    alone, moved = gaps(values, ONCE), gaps(shifted, ONCE)
    np.testing.assert_allclose(alone.value, moved.value, atol=1e-9)
    spreads = [found.variance[np.isfinite(found.variance)] for found in (alone, moved)]
    floors = [quantum(one) ** 2 / 6 for one in (values, shifted)]
    np.testing.assert_allclose(np.maximum(spreads[0], max(floors)), np.maximum(spreads[1], max(floors)), atol=1e-9)


def test_a_pair_with_the_plain_formula() -> None:
    """Two strategies: Student's paired interval; four: half own, half pooled variance, of twice as many degrees."""
    rng = np.random.default_rng(1)
    two = rng.normal(0, 0.01, (2, 6))
    difference = two[0] - two[1]
    half = -stdtrit(5, 0.025) * difference.std(ddof=1) / math.sqrt(6)
    assert gaps(two, Looks(6, 0.05, repeated=False)).half[0, 1] == pytest.approx(half)

    four = rng.normal(0, 0.01, (4, 6))
    of_pairs = [(four[a] - four[b]).var(ddof=1) for a in range(4) for b in range(a)]
    own, pooled = (four[0] - four[1]).var(ddof=1), float(np.mean(of_pairs))  # the mean of all pairs is twice MSE
    found = gaps(four, Looks(6, 0.05, repeated=False))
    assert found.variance[0, 1] == pytest.approx((own + pooled) / 2)
    assert found.half[0, 1] == pytest.approx(
        -stdtrit(10, 0.05 / 12) * math.sqrt((own + pooled) / 2 / 6)  # 4 · 5 · 3 / 6 degrees, six pairs
    )


@pytest.mark.parametrize(("strategies", "seeds"), [(2, 3), (3, 4), (4, 3), (6, 8)])
def test_the_degrees_of_freedom_are_those_of_the_mixed_variance(strategies: int, seeds: int) -> None:
    """A variance of ``df`` degrees has the relative variance 2 / df. Simulated, with a seeds' effect."""
    rng = np.random.default_rng((strategies, seeds))
    count = 40_000
    noise = rng.normal(0, 1, (count, strategies, seeds)) + rng.normal(0, 5, (count, 1, seeds))
    own = (noise[:, 0] - noise[:, 1]).var(axis=1, ddof=1)
    rest = noise - noise.mean(axis=2, keepdims=True) - noise.mean(axis=1, keepdims=True)
    rest += noise.mean(axis=(1, 2), keepdims=True)
    pooled = 2 * (rest**2).sum(axis=(1, 2)) / ((strategies - 1) * (seeds - 1))
    mixed = (own + pooled) / 2
    df = 4 * (seeds - 1) * (strategies - 1) / (strategies + 2)
    assert mixed.mean() == pytest.approx(2.0, rel=0.02)
    assert mixed.var() / mixed.mean() ** 2 == pytest.approx(2 / df, rel=0.06)
    assert quantile(seeds, strategies, 0.05, 1) == pytest.approx(-stdtrit(df, 0.025))


@given(st.integers(1, 20), st.integers(1, 2000))
def test_all_looks_together_take_no_more_than_the_error(first: int, seeds: int) -> None:
    looks = Looks(first, 0.05)
    taken = sum(looks.error(number) for number in range(1, seeds) if looks.is_look(number))
    assert taken <= 0.05
    assert looks.is_look(first) and not any(looks.is_look(number) for number in range(1, first))
    assert looks.error(seeds) <= looks.error(max(1, seeds - 1))
    assert replace(looks, repeated=False).error(seeds) == 0.05


def test_a_rounded_score_is_no_certain_one() -> None:
    """Accuracies on 100 images that are the same with each seed have no spread, but their last digit is uncertain."""
    same = np.array([[0.95, 0.95, 0.95], [0.96, 0.96, 0.96]])
    assert quantum(same) == pytest.approx(0.01)
    assert not gaps(same, ONCE).above.any()
    far = np.array([[0.95, 0.95, 0.95], [0.99, 0.99, 0.99], [0.96, 0.96, 0.96]])
    assert gaps(far, ONCE).above[1, 0]
    assert quantum(np.array([[0.3, 0.1 + 0.2]])) == 0.0
    assert quantum(np.full((2, 2), np.nan)) == 0.0


@given(st.floats(0.001, 1), st.floats(1e-6, 1), st.integers(2, 40), SIDES)
def test_so_many_more_seeds_part_a_pair(value: float, variance: float, seeds: int, strategies: int) -> None:
    more = more_seeds(value, variance, seeds, strategies, LOOKS)

    def half(number: int) -> float:
        width = quantile(number, strategies, LOOKS.error(number), pairs(strategies))
        return width * math.sqrt(variance / number)

    if more is None:
        assert half(seeds + 1000) >= value
    else:
        assert half(seeds + more) < value
        assert more == 0 or half(seeds + more - 1) >= value


def test_more_seeds_of_what_never_parts() -> None:
    assert more_seeds(0.0, 1.0, 3, 2, LOOKS) is None
    assert more_seeds(math.nan, math.nan, 0, 2, LOOKS) is None


@given(tables())
def test_means_as_if_all_had_the_same_seeds(values: NDArray[np.float64]) -> None:
    """Where scores are exactly strategy + seed, and seeds link all, a strategy with few seeds gets its true place."""
    strategies, seeds = values.shape
    effects = np.arange(strategies) / 7
    exact = effects[:, None] + np.arange(seeds)[None, :] ** 2
    exact[np.isnan(values)] = np.nan
    exact[0] = np.arange(seeds) ** 2  # the first ran with every seed, and links all
    means = adjusted_means(exact)
    known = np.isfinite(exact).any(axis=1)
    assert (np.isfinite(means) == known).all()
    np.testing.assert_allclose((means - means[0])[known], effects[known], atol=1e-6)


def test_a_mean_of_few() -> None:
    assert mean_figure(np.array([np.nan]), 0.05).value is None
    one = mean_figure(np.array([0.9, np.nan]), 0.05)
    assert (one.value, one.low, one.unresolved) == (0.9, 0.9, True)
    three = mean_figure(np.array([0.9, 0.92, 0.94]), 0.05)
    assert three.half_width == pytest.approx(4.302653 * 0.02 / math.sqrt(3))


@given(tables(), tables())
def test_the_pareto_set_is_never_empty_and_holds_what_is_surely_best(
    scores: NDArray[np.float64], costs: NDArray[np.float64]
) -> None:
    count = min(len(scores), len(costs))
    score, cost = gaps(scores[:count], ONCE), gaps(costs[:count], ONCE)
    kept = undominated(score, cost)
    assert kept.any()
    for row in range(count):
        others = [other for other in range(count) if other != row]
        if all(score.above[row, other] and not cost.above[row, other] for other in others):
            assert kept.sum() == 1 and kept[row]


def test_circles_keep_all() -> None:
    """a before b before c before a: each surely better in score than the next, at a cost that can't be told apart."""
    score, cost = gaps(np.zeros((3, 3)), ONCE), gaps(np.zeros((3, 3)), ONCE)
    circle = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], float)
    assert undominated(replace(score, value=circle, half=np.full((3, 3), 0.5)), cost).all()
    line = np.array([[0, 1, 2], [-1, 0, 1], [-2, -1, 0]], float)
    found = undominated(replace(score, value=line, half=np.full((3, 3), 0.5)), cost)
    assert found.tolist() == [True, False, False]
