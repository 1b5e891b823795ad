"""What caches of a dataset spare, and how well that is known."""

from __future__ import annotations

import pytest

from greenload.datasets.graph import Node
from greenload.datasets.stores import spare
from greenload.energy.attribution import Attribution, Cost, StepCost
from greenload.energy.figures import Figure


def figure(value: float, half: float) -> Figure:
    return Figure(value, value - half, value + half, "measured")


def cost(value: float, half: float) -> Cost:
    return Cost(figure(value, half), {"cpu:package-0": figure(10 * value, 10 * half)}, Figure.missing())


def chain(*kinds: str) -> list[Node]:
    nodes: list[Node] = []
    for number, kind in enumerate(kinds):
        nodes.append(Node(None, kind, tuple(nodes[-1:]), f"{kind} {number}"))
    return nodes


def spared(nodes: list[Node], costs: list[Cost], full: Cost) -> Attribution:
    steps = tuple(StepCost(node.name, "replay", one) for node, one in zip(nodes, costs, strict=True))
    return spare(Attribution(steps, full, figure(100.0, 1.0), {}, {}, full, full), nodes)


def test_a_cache_spares_what_is_before_it() -> None:
    found = spared(
        chain("tfrecords", "map", "cache", "batch"),
        [cost(2.0, 0.1), cost(8.0, 0.3), cost(1.0, 0.02), cost(0.5, 0.01)],
        cost(1.6, 0.05),
    )
    assert [step.cost.cpu_s_per_sample.value for step in found.steps] == [2.0, 8.0, pytest.approx(-9.0), 0.5]
    cache = found.steps[2].cost
    # What the floor, or being out of place, adds to one figure it adds to all: half-widths add up.
    assert cache.cpu_s_per_sample.half_width == pytest.approx(0.42)
    assert cache.energy_j_per_sample["cpu:package-0"].half_width == pytest.approx(4.2)
    rest = found.unattributed.cpu_s_per_sample
    assert (rest.value, rest.half_width) == (pytest.approx(0.1), pytest.approx(0.08))


def test_what_an_inner_cache_spares_counts_once_in_an_outer_one() -> None:
    """The inner cache's filled prefix, and the map behind it, are all that the outer one is compared with."""
    found = spared(
        chain("tfrecords", "cache", "map", "cache"),
        [cost(9.0, 3.0), cost(1.0, 0.02), cost(4.0, 0.2), cost(0.5, 0.01)],
        cost(0.6, 0.05),
    )
    _, inner, _, outer = (step.cost.cpu_s_per_sample for step in found.steps)
    assert (inner.value, inner.half_width) == (pytest.approx(-8.0), pytest.approx(3.02))
    assert (outer.value, outer.half_width) == (pytest.approx(-4.5), pytest.approx(0.23))
    assert found.unattributed.cpu_s_per_sample.value == pytest.approx(0.1)


def test_what_is_missing_stays_missing() -> None:
    nothing = Cost(Figure.missing(), {"cpu:package-0": Figure.missing()}, Figure.missing())
    found = spared(chain("map", "cache"), [nothing, cost(1.0, 0.1)], cost(1.2, 0.1))
    assert found.steps[1].cost.cpu_s_per_sample.value is None
    assert found.unattributed.cpu_s_per_sample.value == pytest.approx(0.2)
