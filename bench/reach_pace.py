"""Images per second on all threads: contestants in turns, each at full speed while the others rest."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.contest import SETTLE_S, MakeBatches
from greenload.energy.settle import settle

AHEAD = 12
"""Batches passed before the clock starts: more than are under way or held ready at any time."""


@dataclass(frozen=True)
class Pace:
    """One contestant's speed over some batches."""

    group: str
    contestant: str
    build: int
    round: int
    """Counted through all builds; those of one round are adjacent in time."""
    images: int
    wall_s: float

    @property
    def images_per_s(self) -> float:
        """Images per second."""
        return self.images / self.wall_s


def paced(
    group: str,
    contestants: Mapping[str, MakeBatches],
    *,
    builds: int,
    rounds: int,
    images: int,
    note: Callable[[str], None] = lambda text: None,
) -> list[Pace]:
    """Time contestants in turns, once the batches that were held ready are used up.

    Args:
        group: names the figures.
        contestants: how to build each, by name.
        builds: how many times all are built.
        rounds: turns on each build.
        images: images a turn has at least; whole batches.
        note: told what runs now.
    """
    order, found = random.Random(0), []
    for build in range(builds):
        note(f"{group}: images per second, build {build + 1} of {builds}")
        running = {name: make() for name, make in contestants.items()}
        for k in range(rounds):
            names = list(running)
            order.shuffle(names)
            for name in names:
                settle(SETTLE_S)
                for _ in range(AHEAD):
                    next(running[name])
                start, passed = time.perf_counter(), 0
                while passed < images:
                    passed += len(next(running[name]))
                took = time.perf_counter() - start
                found.append(Pace(group, name, build, build * rounds + k, passed, took))
        del running
        settle()
    return found


def gains(found: list[Pace], group: str, ours: str, theirs: str) -> list[float]:
    """Images per second of ``ours`` over those of ``theirs``, a ratio a round.

    Example:
        >>> gains([Pace("g", "a", 0, 0, 100, 1.0), Pace("g", "b", 0, 0, 100, 2.0)], "g", "a", "b")
        [2.0]
    """
    speeds = {(one.contestant, one.round): one.images_per_s for one in found if one.group == group}
    rounds = sorted({one.round for one in found if one.group == group})
    return [speeds[ours, k] / speeds[theirs, k] for k in rounds]
