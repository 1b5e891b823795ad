"""Intervals of costs seen in few rounds of few builds."""

from __future__ import annotations

import math

import pytest

from greenload.energy.attribution.intervals import Pool, Variance, half_width


def test_an_interval_never_excludes_a_builds_own_mean() -> None:
    found = Pool([]).estimate({0: [1.0, 1.001, 0.999] * 3, 1: [1.3, 1.301, 1.299] * 3})
    assert found is not None and found.value == pytest.approx(1.15)
    assert half_width([found.variance]) >= 0.15 - 1e-9


def test_builds_that_differ_widen_the_interval_and_rounds_alone_would_not() -> None:
    like, unlike = [1.0, 1.1, 0.9, 1.05, 0.95], [1.5, 1.6, 1.4, 1.55, 1.45]
    same, apart = Pool([]).estimate({0: like, 1: like}), Pool([]).estimate({0: like, 1: unlike})
    assert same is not None and apart is not None
    assert apart.variance.value > 10 * same.variance.value


def test_other_costs_tell_how_much_builds_differ() -> None:
    """Where all others' builds differ, a step whose two builds agree by chance isn't taken at its word."""
    agreeing = {0: [1.0, 1.1, 0.9, 1.05, 0.95], 1: [1.01, 1.1, 0.9, 1.05, 0.95]}
    steady = [{0: [c, 1.1 * c, 0.9 * c, c], 1: [c, 1.1 * c, 0.9 * c, c]} for c in (1.0, 2.0, 5.0, 7.0)]
    moving = [{0: [c, 1.1 * c, 0.9 * c, c], 1: [2 * c, 2.1 * c, 1.9 * c, 2 * c]} for c in (1.0, 2.0, 5.0, 7.0)]
    widths = []
    for others in (steady, moving):
        found = Pool([agreeing, *others]).estimate(agreeing, without={0})
        assert found is not None and found.value == pytest.approx(1.001)
        widths.append(half_width([found.variance]))
    assert widths[1] > 3 * widths[0]


def test_half_widths_are_students_and_add_in_quadrature() -> None:
    assert half_width([Variance(4.0, math.inf)]) == pytest.approx(2 * 1.959964, rel=1e-5)
    assert half_width([Variance(1.0, 3.0)]) == pytest.approx(3.182446, rel=1e-5)
    # Welch and Satterthwaite: two like variances of 3 degrees of freedom are one of 6.
    assert half_width([Variance(1.0, 3.0), Variance(1.0, 3.0)]) == pytest.approx(math.sqrt(2) * 2.446912, rel=1e-5)
    assert half_width([]) == half_width([Variance(0.0, 1.0)]) == 0.0


def test_the_mean_weighs_builds_alike_whatever_rounds_were_lost() -> None:
    found = Pool([]).estimate({0: [1.0, 1.0, 1.0, 1.0], 1: [2.0]})
    assert found is not None and found.value == pytest.approx(1.5)


def test_one_value_has_no_interval() -> None:
    assert Pool([]).estimate({0: [1.0]}) is None
    assert Pool([]).estimate({}) is None
