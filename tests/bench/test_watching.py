"""The bench of `watch`: what it compares."""

from __future__ import annotations

import pytest

tf = pytest.importorskip("tensorflow")

from bench.watching import Cost, digest, in_numpy, iterated, ordered  # noqa: E402


def test_ratios_are_of_the_least_the_lower_quarter_and_neighbours() -> None:
    cost = Cost("arrays", plain=[10, 20, 10, 40], again=[10, 20, 10, 40], watched=[11, 22, 11, 44])
    assert cost.ratios(cost.watched) == pytest.approx((1.1, 1.1, 1.1))
    assert cost.ratios(cost.again) == pytest.approx((1.0, 1.0, 1.0))


def test_a_digest_tells_elements_apart_by_bits_types_and_structure() -> None:
    elements = [
        tf.constant([1.0, 2.0]),
        tf.constant([1.0, 2.0000002]),
        tf.constant([1, 2]),
        tf.constant([[1.0, 2.0]]),
        tf.constant(["a"]),
        tf.constant(["b"]),
        tf.ragged.constant([[1], [2, 3]]),
        tf.ragged.constant([[1, 2], [3]]),
    ]
    assert len({digest(element) for element in elements}) == len(elements)
    assert digest(elements[0]) == digest(tf.constant([1.0, 2.0]))


def test_datasets_are_read_for_two_epochs() -> None:
    dataset = ordered(tf.data.Dataset.range(3))
    assert len(iterated(dataset)) == len(in_numpy(dataset)) == 6
