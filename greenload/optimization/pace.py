"""Racing to idle against keeping pace: power of the machine while a plan feeds a demand, on few threads and on many."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

from scipy.special import stdtrit

from greenload.energy.figures import Figure
from greenload.energy.sampler import Sampler
from greenload.energy.settle import settle
from greenload.optimization.records import Pace

ROUNDS, WINDOW_S = 4, 1.0
"""Windows of each number of threads, by turns, and the wall seconds of one."""


def paced(
    runs: Mapping[int, Callable[[ExitStack], Generator[int, None, None]]],
    sampler: Sampler,
    demand: float,
    seed: int,
    samples: int = 0,
) -> tuple[Pace, ...]:
    """The machine's power while each of some runs gives so many samples a second, and waits for the rest.

    Args:
        runs: by threads; each builds a plan, and gives the samples of its batches, without an end.
        sampler: running; a counter must read.
        demand: samples a second that a trainer takes.
        seed: of the windows' order.
        samples: that pass before, at full speed: the first epoch fills what is kept, which no later one does.
    """
    order = random.Random(seed)
    measured = {name for name, channel in sampler.channels.items() if channel.provenance == "measured"}
    watts: dict[int, list[float]] = {threads: [] for threads in runs}
    with ExitStack() as stack:
        # Closed before what they read from is.
        alive = {threads: stack.enter_context(closing(make(stack))) for threads, make in runs.items()}
        for batches in alive.values():
            passed = 0
            while passed < samples:
                passed += next(batches)
            _feed(batches, demand, WINDOW_S / 2)  # what is first is slow
        for _ in range(ROUNDS):
            for threads in order.sample(list(alive), len(alive)):
                settle()
                start = sampler.mark(aligned=True)
                _feed(alive[threads], demand, WINDOW_S)
                window = sampler.window(start, sampler.mark(aligned=True))
                if measured <= window.energy_j.keys():  # a sum without one domain can't stand beside others with it
                    powers = (
                        window.energy_j[domain] * 1e9 / window.energy_wall_ns.get(domain, window.wall_ns)
                        for domain in measured
                    )
                    watts[threads].append(math.fsum(powers))
    return tuple(Pace(threads=threads, power_w=_mean(each)) for threads, each in sorted(watts.items()))


def better(paces: Sequence[Pace]) -> Pace | None:
    """The one that draws less for certain; None where nothing tells."""
    if len(paces) < 2:
        return None
    least, *others = sorted(paces, key=lambda pace: math.inf if pace.power_w.value is None else pace.power_w.value)
    high = least.power_w.high
    if high is None or any(other.power_w.low is None or other.power_w.low <= high for other in others):
        return None
    return least


def _feed(batches: Iterator[int], demand: float, seconds: float) -> None:
    """Take batches as a trainer of a demand does, for so long."""
    began, taken = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        taken += next(batches)
        ahead_s = taken / demand - (time.perf_counter() - began)
        if ahead_s > 0:
            time.sleep(min(ahead_s, seconds))


def _mean(values: Sequence[float]) -> Figure:
    """The mean of windows with its 95 % interval, studentised."""
    if len(values) < 2:
        return Figure.missing()
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = float(stdtrit(len(values) - 1, 0.975)) * math.sqrt(variance / len(values))
    return Figure(mean, mean - half, mean + half, "measured")


def samples_of(dataset: Any, batched: bool) -> Generator[int, None, None]:
    """The samples of each batch of a dataset, epoch after epoch.

    Args:
        dataset: of ``(images, labels)``.
        batched: whether its elements are batches.
    """
    while True:
        for images, _ in dataset:
            yield int(images.shape[0]) if batched else 1
