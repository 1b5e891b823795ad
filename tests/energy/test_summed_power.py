"""A profile beside a GPU without an energy counter: its power is summed up, a mean of the last second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from greenload.energy.attribution.attribute import attribute
from greenload.energy.attribution.observation import Metering
from greenload.energy.attribution.precision import IDLE_WINDOW_S, idle_window_s, least_window_s, plan_length
from greenload.energy.emulators.nvml import NvmlEmulator
from greenload.energy.emulators.nvml_boards import Board, ManualClock
from greenload.energy.meters.base import Channel
from greenload.energy.meters.nvml import find_nvml
from greenload.energy.sampler import Sampler
from greenload.energy.settle import Settled
from greenload.profiling import windows as windowing
from greenload.profiling.windows import Windows

GPU = "gpu:0"
IDLE_W, WORK_W, ALONE_W = 70.0, 250.0, 120.0
STEP_S, REPLAY_S = 1e-3, 1e-4  # a sample takes, with the step and without


class Drawn:
    """Power that is decided while time goes by."""

    present_only = False
    start_w = IDLE_W

    def __init__(self) -> None:
        self.changes = [(0.0, 0.0, IDLE_W)]

    def draw(self, at_s: float, watts: float) -> None:
        """From now on, so many watts."""
        self.changes.append((at_s, self.energy_j(at_s), watts))

    def energy_j(self, at_s: float) -> float:
        since_s, joules, watts = next((one for one in reversed(self.changes) if one[0] <= at_s), self.changes[0])
        return joules + (at_s - since_s) * watts


class Work:
    """Draws power for a while a sample."""

    def __init__(self, load: Drawn, clock: ManualClock, wait: Callable[[float], None], watts: float, s: float) -> None:
        self.load, self.clock, self.wait, self.watts, self.s = load, clock, wait, watts, s

    def run(self, samples: int) -> int:
        self.load.draw(self.clock.now_s(), self.watts)
        self.wait(samples * self.s)
        self.load.draw(self.clock.now_s(), IDLE_W)
        return samples

    def close(self) -> None:
        pass


def test_steps_have_joules_beside_a_gpu_without_a_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step draws 250 W for 0.9 ms a sample, less the 70 W of the idle board: and what runs around it is less."""
    clock, load = ManualClock(), Drawn()
    board = Board(load, energy_field=False, energy_call=False)
    nvml = NvmlEmulator([board], clock=clock.now_s, sleep=clock.sleep)
    meter, _ = find_nvml(nvml, {}, clock.now_ns)
    assert meter is not None

    def wait(seconds: float) -> None:
        """Time passes, and the sampler polls meanwhile, as its thread would."""
        polls = math.ceil(seconds / 0.1)
        for _ in range(polls):
            clock.sleep(seconds / polls)
            with sampler._lock:
                sampler._read(sampler._polled)

    def settled(max_s: float) -> Settled:
        wait(0.015)
        return Settled(True, 0.012)

    monkeypatch.setattr(windowing, "settle", settled)
    monkeypatch.setattr(
        windowing, "time", SimpleNamespace(sleep=wait, perf_counter=clock.now_s, thread_time=time.thread_time)
    )
    sampler = Sampler([meter], period_s=1e6, clocks=clock.clocks, sleep=wait)
    with sampler:
        windows = Windows(sampler, 5, 0, lambda share, text: None)
        runs = {
            "with": Work(load, clock, wait, WORK_W, STEP_S),
            "without": Work(load, clock, wait, ALONE_W, REPLAY_S),
        }
        for build, _, _ in windows._builds(1.0, windowing.no_further_build):
            windows._pairs(runs, dict.fromkeys(runs, 250), "a", build)
            for k in range(5):
                windows._window(runs["with"], round(windows.window_s / STEP_S), "", "full", k, build)
    assert not any(window.void.get(GPU) for window in windows.seen)
    found = attribute(windows.seen, steps=["a"], domains={GPU: Metering("measured")})
    idle, full = found.idle_power_w[GPU].value, found.full.energy_j_per_sample[GPU].value
    step = found.steps[0].cost.energy_j_per_sample[GPU].value
    assert idle == pytest.approx(IDLE_W, rel=0.01)
    assert full == pytest.approx((WORK_W - IDLE_W) * STEP_S, rel=0.05)
    assert step == pytest.approx((WORK_W - IDLE_W) * STEP_S - (ALONE_W - IDLE_W) * REPLAY_S, rel=0.05)


def test_idle_windows_are_long_and_waiting_is_planned_for_summed_power() -> None:
    summed = {GPU: Channel(GPU, "measured", update_s=1.0, sum_gap_s=1.0)}
    counted = {GPU: Channel(GPU, "measured", update_s=0.1)}
    assert least_window_s(summed) == idle_window_s(summed) == 2.0
    assert least_window_s(counted) == least_window_s({}) == 0.0 and idle_window_s(counted) == IDLE_WINDOW_S
    longer_s = plan_length(summed, steps=4).seconds - plan_length(counted, steps=4).seconds
    assert longer_s == pytest.approx(2 * (10 * 5 * 2.0 + 4 * 3.5)), "2 s around each window; idle ones of 2 s, not 0.5"
