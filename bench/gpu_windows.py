"""How far a GPU's joules are off in short windows, with edges aligned to NVML's refreshes and without. Needs no GPU.

The library's own sampler and meter read emulated boards in simulated time: the board idles, works for a window at a
power that varies, and idles again, as between the windows of a profile; its counter is refreshed every 20–100 ms.

    python -m bench.gpu_windows
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from greenload.energy.emulators.nvml import NvmlEmulator
from greenload.energy.emulators.nvml_boards import Board, ManualClock
from greenload.energy.meters.nvml import find_nvml
from greenload.energy.sampler import Sampler

IDLE_W = 70.0
WORK_W = (250.0, 350.0)
"""The work's power, drawn evenly anew every 50 ms."""
PAUSE_S = (0.2, 0.5)
"""Idle time between windows."""
LATENCY_S = 2e-4
"""How long one query of NVML takes here: a choice, as no board was at hand to time it."""


LATE_S = 0.02
"""How late polls come on a busy machine: two of the kernel's time slices."""


@dataclass(frozen=True)
class WindowErrors:
    """Relative errors of windows: what the sampler gave, against what the emulated board drew."""

    total: np.ndarray
    """Of the joules, against the truth over the time that they are said to be of: float64, one a window."""
    net: np.ndarray
    """Of the joules less the idle power times that time, against the work's own: float64, one a window."""
    within: np.ndarray
    """Whether the joules are within ``resolution_j`` of the truth: bool, one a window."""
    resolution: np.ndarray
    """``resolution_j`` relative to the joules: float64, one a window."""
    wait_s: np.ndarray
    """Seconds that both marks waited."""


def window_errors(
    aligned: bool,
    *,
    seconds: float = 1.0,
    windows: int = 200,
    refresh_s: tuple[float, float] = (0.02, 0.1),
    late_s: float = 0.0,
    seed: int = 0,
) -> WindowErrors:
    """Errors of many windows of work on an emulated GPU.

    Args:
        aligned: whether their edges are refreshes of the counter.
        seconds: their length.
        windows: how many.
        refresh_s: shortest and longest time between refreshes.
        late_s: each poll comes up to so much late, as on a busy machine; drawn evenly.
        seed: of the work's power and the refreshes.
    """
    rng = random.Random(seed)
    clock = ManualClock()
    load = _Load()
    nvml = NvmlEmulator(
        [Board(load, refresh_s=refresh_s)], clock=clock.now_s, sleep=clock.sleep, latency_s=LATENCY_S, seed=seed
    )
    meter, _ = find_nvml(nvml, {}, clock.now_ns)
    assert meter is not None
    rows: list[tuple[float, float, float, float, float]] = []
    with Sampler(
        [meter], period_s=1e6, clocks=clock.clocks, sleep=lambda s: clock.sleep(s + rng.uniform(0, late_s))
    ) as sampler:
        sampler.mark(aligned=aligned)
        for _ in range(windows):
            clock.sleep(rng.uniform(*PAUSE_S))
            before_s = clock.now_s()
            start = sampler.mark(aligned=aligned)
            wait_s, work_s = clock.now_s() - before_s, clock.now_s()
            for _ in range(round(seconds / 0.05)):
                load.draw(clock.now_s(), rng.uniform(*WORK_W))
                clock.sleep(0.05)
            load.draw(clock.now_s(), IDLE_W)
            end_s = clock.now_s()
            work_j = nvml.true_energy_j(0, end_s) - nvml.true_energy_j(0, work_s) - IDLE_W * (end_s - work_s)
            end = sampler.mark(aligned=aligned, closing=aligned)
            wait_s += clock.now_s() - end_s
            window = sampler.window(start, end)
            joules, off_j = window.energy_j["gpu:0"], window.resolution_j["gpu:0"]
            first_s, last_s = (edge.edges["gpu:0"].time_ns / 1e9 for edge in (start, end))
            true_j = nvml.true_energy_j(0, last_s) - nvml.true_energy_j(0, first_s)
            net_j = joules - IDLE_W * window.energy_wall_ns.get("gpu:0", window.wall_ns) / 1e9
            rows.append((joules / true_j - 1, net_j / work_j - 1, abs(joules - true_j) - off_j, off_j / joules, wait_s))
    total, net, beyond, resolution, waits = np.array(rows).T
    return WindowErrors(total, net, beyond <= 1e-3, resolution, waits)


class _Load:
    """Power that is decided while time goes by."""

    present_only = False
    start_w = IDLE_W

    def __init__(self) -> None:
        self._times, self._joules, self._watts = [0.0], [0.0], [IDLE_W]

    def draw(self, at_s: float, watts: float) -> None:
        """From now on, draw so many watts."""
        self._joules.append(self.energy_j(at_s))
        self._times.append(at_s)
        self._watts.append(watts)

    def energy_j(self, at_s: float) -> float:
        last = max(0, bisect_right(self._times, at_s) - 1)
        return self._joules[last] + (at_s - self._times[last]) * self._watts[last]


def spread(errors: np.ndarray) -> float:
    """What 95 % of the errors stay below, in absolute value."""
    return float(np.quantile(np.abs(errors), 0.95))


def rows(windows: int = 200, seconds: Sequence[float] = (0.25, 1.0, 10.0)) -> list[dict[str, float | str]]:
    """One row for each length and kind of edges: 95 % of errors, and how often ``resolution_j`` holds the truth."""
    found: list[dict[str, float | str]] = []
    for length in seconds:
        for edges, aligned, late_s in (
            ("as they come", False, 0.0),
            ("aligned", True, 0.0),
            (f"aligned, polled up to {LATE_S * 1e3:.0f} ms late", True, LATE_S),
        ):
            errors = window_errors(aligned, seconds=length, windows=windows, late_s=late_s)
            found.append(
                {
                    "seconds": length,
                    "edges": edges,
                    "windows": windows,
                    "total_95": spread(errors.total),
                    "net_95": spread(errors.net),
                    "within": float(errors.within.mean()),
                    "resolution": float(errors.resolution.mean()),
                    "wait_s": float(errors.wait_s.mean()),
                }
            )
    return found


def main() -> None:
    """Print the table."""
    print("GPU windows, counter refreshed every 20–100 ms (emulated): 95 % of windows are off by less than")
    print(f"window   {'edges':32s} joules   work's own   resolution says   truth within it   waited")
    for row in rows():
        print(
            f"{row['seconds']:5.2f} s  {row['edges']:32s} {row['total_95']:6.2%} {row['net_95']:12.2%}"
            f" {row['resolution']:16.2%} {row['within']:17.0%} {row['wait_s'] * 1e3:6.0f} ms"
        )


if __name__ == "__main__":
    main()
