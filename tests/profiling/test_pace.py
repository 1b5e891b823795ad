"""How many builds a profile makes for a wanted precision."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from greenload.energy.attribution.attribute import attribute
from greenload.energy.attribution.costs import Attribution
from greenload.energy.attribution.observation import Observation
from greenload.energy.attribution.precision import idle_windows_s, plan_length
from greenload.energy.meters.base import Channel
from greenload.energy.sampler import Sampler
from greenload.profiling import schedule
from greenload.profiling.pace import Pace
from greenload.profiling.tfdata.campaign import DatasetCampaign
from greenload.profiling.windows import Windows


class Simulated(Windows):
    """Makes a build's windows up: a step of 1 ms and the whole of it, with some noise."""

    def __init__(self, sampler: Sampler, noise: float) -> None:
        super().__init__(sampler, 2, 0, lambda share, text: None)
        self.noise = noise
        self.numbers = np.random.default_rng(0)

    def measure(self, pace: Pace) -> int:
        builds = 0
        for build, _, _ in self._builds(1.0, pace.further):
            builds += 1
            for k in range(self._rounds):
                for kind, step, ms in (("with", "a", 2.0), ("without", "a", 1.0), ("full", "", 1.0)):
                    cpu_s = ms * (1 + self.noise * self.numbers.standard_normal())
                    self.seen.append(Observation(step, kind, k, build, 1000, 10**9, cpu_s))
        return builds


def attributed(seen: Sequence[Observation]) -> Attribution:
    return attribute(seen, steps=["a"], domains={})


def builds(wanted: float | None, noise: float) -> tuple[int, Pace, list[str]]:
    said: list[str] = []
    pace = Pace(wanted, attributed, said.append)
    with Sampler([]) as sampler:
        windows = Simulated(sampler, noise)
        pace.plan(windows, 1, 5)
        made = windows.measure(pace)
        found = pace.reached(attributed(windows.seen), windows.seen)
    assert (found is None) == (wanted is None)
    if found is not None:
        assert found.builds == made and found.rounds == 5 and found.wanted == wanted
        assert found.widest == "a, cpu_s"
        assert found.reached or made == 8
        assert found.took_s <= found.planned_s
    return made, pace, said


def test_builds_end_as_soon_as_the_precision_is_reached() -> None:
    made, _, said = builds(0.05, 0.001)
    assert made == 2
    assert said[0].startswith("planned: 2–8 builds of 5 rounds") and said[0].endswith("for ±5 %")


def test_builds_are_added_where_windows_scatter() -> None:
    made, _, _ = builds(0.05, 0.05)
    assert 2 < made <= 8


def test_there_are_eight_builds_at_most() -> None:
    assert builds(0.02, 0.5)[0] == 8


def test_what_is_out_of_reach_is_said_after_the_first_builds_with_what_can_be_had() -> None:
    _, _, said = builds(0.02, 0.5)
    assert len(said) == 2 and said[1].startswith("±2 % is out of reach: about ±") and said[1].endswith("more builds")
    assert len(builds(0.05, 0.001)[2]) == len(builds(0.05, 0.05)[2]) == 1, "these are reached"


def test_without_a_wanted_precision_there_are_two_and_nothing_is_said() -> None:
    made, _, said = builds(None, 0.5)
    assert made == 2 and said == []


def test_what_has_no_figure_is_not_within_the_precision() -> None:
    """All windows were void: nothing is said of how narrow its interval is, and nothing infinite gets into JSON."""

    def void(seen: Sequence[Observation]) -> Attribution:
        return attributed([replace(window, void={"cpu_s": "the process was not idle"}) for window in seen])

    pace = Pace(0.05, void)
    with Sampler([]) as sampler:
        windows = Simulated(sampler, 0.01)
        pace.plan(windows, 1, 5)
        windows.measure(pace)
    found = pace.reached(void(windows.seen), windows.seen)
    assert found is not None and found.found is None and not found.reached
    assert found.widest == "the whole, cpu_s" and found.builds == 2


@pytest.mark.parametrize("wanted", [0.0, -1.0, 0.001, 2.0, float("nan")])
def test_a_precision_that_cannot_be_had_is_refused(wanted: float) -> None:
    with pytest.raises(Exception, match="precision"):
        builds(wanted, 0.1)


def test_a_number_of_rounds_is_for_fewer_on_more_builds_in_place() -> None:
    assert [schedule.clocked_rounds(rounds) for rounds in (2, 5, 10, 20)] == [2, 2, 4, 8]
    assert schedule.least_builds(None) == 5 and schedule.least_builds(0.05) == 3
    assert [schedule.most_builds(wanted) for wanted in (None, 1.0, 0.05, 0.02)] == [5, 8, 8, 30]
    assert [build for build in range(6) if schedule.replays_in(build, 3)] == [0, 1, 3, 4, 5]


def test_windows_in_place_are_short_unless_a_counter_reads() -> None:
    modelled = {"cpu": Channel("cpu", "modelled")}
    gpu = {"gpu:0": Channel("gpu:0", "measured", update_s=1.0, sum_gap_s=1.0)}
    for channels, window_s in (({}, 0.1), (modelled, 0.1), (gpu, plan_length(gpu, steps=1).window_s)):
        assert schedule.window_s(plan_length(channels, steps=1), channels) == window_s
    assert idle_windows_s(modelled) == 0.0 < idle_windows_s(gpu)


def test_the_first_trial_always_has_time() -> None:
    campaign = object.__new__(DatasetCampaign)
    campaign.bounds, campaign._deadline_s, campaign._tried = SimpleNamespace(trial_s=30.0), time.monotonic(), False  # type: ignore[assignment]
    assert campaign.in_time()
    campaign._tried = True
    assert not campaign.in_time()
