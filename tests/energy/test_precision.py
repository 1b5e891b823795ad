"""How long a profile is: windows by the meters' refreshes, builds by the precision that is wanted."""

from __future__ import annotations

import math

import pytest

from greenload.energy.attribution.costs import HAND_OVER, Attribution, Cost, StepCost
from greenload.energy.attribution.precision import Length, Reached, further, plan_length, reached, unreached
from greenload.energy.figures import Figure
from greenload.energy.meters.base import Channel
from greenload.errors import UsageError


def figure(value: float, half: float, provenance: str = "measured", unresolved: bool = False) -> Figure:
    return Figure(value, value - half, value + half, provenance, unresolved=unresolved)


def cost(cpu: Figure, energy: dict[str, Figure] | None = None) -> Cost:
    return Cost(cpu, energy or {}, Figure.missing())


def attribution(steps: dict[str, Cost], full: Cost) -> Attribution:
    rows = tuple(StepCost(name, "replay", one) for name, one in steps.items())
    return Attribution(rows, full, figure(100.0, 1.0), {}, {}, full, full)


WHOLE = cost(figure(10.0, 0.1))


def test_the_worst_step_decides() -> None:
    found = reached(attribution({"a": cost(figure(8.0, 0.2)), "b": cost(figure(2.0, 0.15))}, WHOLE), 0.05)
    assert found == Reached(False, "b", "cpu_s", pytest.approx(1.5))
    assert reached(attribution({"a": cost(figure(8.0, 0.2)), "b": cost(figure(2.0, 0.15))}, WHOLE), 0.08).ok


def test_steps_that_are_not_known_well_enough_are_named() -> None:
    costs = {"a": cost(figure(8.0, 0.2)), "b": cost(figure(2.0, 0.15)), "c": cost(Figure.missing())}
    assert unreached(attribution(costs, WHOLE), 0.05) == {"b", "c"}
    assert unreached(attribution(costs, WHOLE), 0.08) == {"c"}


def test_a_small_step_is_judged_by_a_fifth_of_the_whole() -> None:
    """To ±1 % of the whole at 5 %, whatever share of itself that is."""
    assert reached(attribution({"flip": cost(figure(0.01, 0.09))}, WHOLE), 0.05).ratio == pytest.approx(0.9)


def test_the_hand_over_is_judged_by_the_whole() -> None:
    found = reached(attribution({HAND_OVER: cost(figure(1.0, 0.4))}, WHOLE), 0.05)
    assert found.ratio == pytest.approx(0.8)


def test_measured_joules_are_judged_and_an_idle_gpus_noise_and_models_are_not() -> None:
    energy = {
        "cpu:package-0": figure(100.0, 1.0),
        "gpu:0": figure(0.1, 3.0, unresolved=True),
        "dram": figure(9.0, 0.1, "modelled"),
    }
    wide = {"cpu:package-0": figure(50.0, 5.0), "gpu:0": figure(0.0, 3.0), "dram": figure(5.0, 4.0, "modelled")}
    found = reached(attribution({"a": cost(figure(8.0, 0.1), wide)}, cost(figure(10.0, 0.1), energy)), 0.05)
    assert found == Reached(False, "a", "cpu:package-0", pytest.approx(2.0))


@pytest.mark.parametrize("domain", ["cpu:package-0", "dram:package-0"])
def test_hopeless_joules_of_a_busy_machine_are_judged(domain: str) -> None:
    """Another process that is always on leaves a package's whole unresolved, which no one asked to have."""
    found = attribution(
        {"a": cost(figure(10.0, 0.1), {domain: figure(5.0, 8.0)})},
        cost(figure(10.0, 0.1), {domain: figure(10.0, 12.0, unresolved=True)}),
    )
    assert reached(found, 0.05) == Reached(False, "a", domain, pytest.approx(32.0))
    assert further(found, 0.05, builds=2) == 6


def test_what_is_missing_is_not_reached_and_asks_for_no_more() -> None:
    """Its windows are void, and so would those be that came."""
    nothing = attribution({"a": cost(Figure.missing())}, cost(Figure.missing()))
    assert reached(nothing, 0.05) == Reached(False, "", "cpu_s", math.inf)
    assert further(nothing, 0.05, builds=2) == 0
    good, lost = figure(10.0, 0.1), Figure.missing()
    for step, whole, name in ((lost, good, "a"), (lost, lost, ""), (good, lost, "")):
        found = attribution({"a": cost(good, {"gpu:0": step})}, cost(good, {"gpu:0": whole}))
        assert reached(found, 0.05) == Reached(False, name, "gpu:0", math.inf)
    wide = attribution({"a": cost(figure(10.0, 3.0), {"gpu:0": lost})}, cost(good, {"gpu:0": good}))
    assert reached(wide, 0.05).quantity == "gpu:0" and further(wide, 0.05, builds=2) == 6, "others go on"
    assert not reached(attribution({}, WHOLE), 0.05).ok, "nothing was judged"


def test_builds_are_asked_for_until_the_precision_is_reached() -> None:
    def wanted(half: float, builds: int = 2) -> int:
        return further(attribution({"a": cost(figure(10.0, half))}, WHOLE), 0.05, builds=builds)

    assert wanted(0.5) == 0
    needs = [wanted(half) for half in (0.51, 0.8, 1.0, 1.4, 3.0)]
    assert needs[0] == 1 and needs == sorted(needs) and needs[-1] == 6, "eight at most"
    assert wanted(3.0, builds=7) == 1 and wanted(3.0, builds=8) == 0
    # Twice as wide as wanted takes less than four times the builds: Student's t shrinks too.
    assert wanted(1.0) + 2 < 8


def test_windows_are_long_beside_a_counters_refreshes() -> None:
    package = Channel("cpu:package-0", "measured", update_s=0.001)
    slow = Channel("gpu:0", "measured", update_s=0.1)
    quick = Channel("dram:package-0", "measured", update_s=0.009)
    summed = Channel("gpu:0", "measured", update_s=1.0, sum_gap_s=1.0)
    model = Channel("dram", "modelled", update_s=10.0)

    def window_s(precision: float | None, *channels: Channel) -> float:
        return plan_length({one.domain: one for one in channels}, precision, steps=4).window_s

    assert window_s(None, slow) == window_s(0.05, package, model) == window_s(0.05) == 0.25
    assert window_s(0.05, slow) == 0.25, "the sampler waits for its updates: 2 ms is little"
    assert window_s(0.02, slow) == pytest.approx(math.sqrt(2) * 0.002 / 0.01)
    assert window_s(0.02, quick, slow) == pytest.approx(math.sqrt(2 / 12) * 0.009 / 0.01), "it isn't waited for"
    assert window_s(0.05, summed) == 0.25, "power is waited for, too"


def test_the_length_is_told_before_it_starts() -> None:
    length = plan_length({"cpu:package-0": Channel("cpu:package-0", "measured", update_s=0.001)}, 0.05, steps=5)
    assert (length.builds, length.most_builds, length.rounds) == (2, 8, 5)
    assert length.most_seconds == pytest.approx(4 * length.seconds)
    # Ten windows of each of five steps and of the whole, settling, preparing five steps, the idle machine: twice.
    assert length.seconds == pytest.approx(2 * (10 * (5 * 0.31 + 0.81) + 5 + 2))
    assert length.line(0.05) == "planned: 2–8 builds of 5 rounds, 61–245 s, for ±5 %"
    fixed = plan_length({}, steps=5)
    assert fixed.builds == fixed.most_builds == 2
    assert fixed.line() == "planned: 2 builds of 5 rounds, 57 s"
    assert Length(0.25, 3, 2, 6, 20.0, 60.0).line(0.025).endswith("±2.5 %")


@pytest.mark.parametrize("precision", [0.0, 0.001, 0.019, 5.0, math.nan])
def test_a_precision_that_can_not_be_is_refused(precision: float) -> None:
    with pytest.raises(UsageError, match="2 to 100 %"):
        plan_length({}, precision, steps=1)
    with pytest.raises(UsageError, match="precision"):
        reached(attribution({}, WHOLE), precision)
