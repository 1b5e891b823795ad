"""What the system's ticks make of other processes' CPU seconds in a window, and windows without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from greenload.energy.attribution.observation import Observation

TICK_ERROR_S = 0.006
"""Standard deviation of a window's CPU seconds of other processes, which come in the kernel's ticks of 10 ms: two
edges, each spread evenly over a tick, for two counters (user and system time), ``10 ms · sqrt(4 / 12)``."""
_JIFFY_S = 0.004
"""What the kernel bills a core's time by where it doesn't read a clock (250 Hz, as most distributions build it)."""
_BY_CHANCE = 0.05  # of groups of windows beside a steady load differ by more


def tick_square(seconds: NDArray[np.float64], cores: float) -> float:
    """The sum of squares that ticks alone would make of other processes' busy cores in windows of these lengths."""
    return float((_variance(cores) / seconds**2).sum())


def with_steady_others(windows: Sequence[Observation]) -> list[Observation]:
    """The windows with other processes' CPU seconds as they probably were, less what ticks seem to make of them.

    Their joules are taken out of a counter's, so a tick of 10 ms that falls beside a window's edge would make another
    process's joules ours, or the reverse: in short windows more than a light step takes. Windows of
    one step and build are adjacent; where they differ from a steady load by no more than ticks do, they have that load,
    and where by more, as much of it as isn't the ticks' (shrinkage: W. James & C. Stein, *Proceedings of the Fourth
    Berkeley Symposium* 1, 1961). Their sum stays what it was.
    """
    adjacent: dict[tuple[str, int], list[int]] = {}
    for index, window in enumerate(windows):
        adjacent.setdefault((window.step, window.build), []).append(index)
    steady = list(windows)
    for indices in adjacent.values():
        other, own, seconds = np.array(
            [(windows[i].other_cpu_s, windows[i].cpu_s, windows[i].wall_ns / 1e9) for i in indices]
        ).T
        load = seconds * other.sum() / seconds.sum()
        square = float(((other - load) ** 2).sum())
        tick, df = _variance(float(((other + own) / seconds).mean())), len(indices) - 1
        kept = 1 - tick * df / square if df and square > tick * chdtri(df, _BY_CHANCE) else 0.0
        for index, other_s in zip(indices, (load + kept * (other - load)).tolist(), strict=True):
            steady[index] = replace(windows[index], other_cpu_s=other_s)
    return steady


def _variance(cores: float) -> float:
    return TICK_ERROR_S**2 + cores * _JIFFY_S**2 / 6  # two edges in each core, each spread evenly over a jiffy
