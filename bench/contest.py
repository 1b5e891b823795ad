"""Contestants that run in turns: adjacent settled windows, several builds, ratios taken pair by pair within a round."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from greenload.energy.settle import settle

MakeBatches = Callable[[], Iterator[Any]]
"""Builds a contestant: an endless iterator over batches ``[n, height, width, channels]``."""
IMAGES = 512
"""An epoch of the sample photos, so that each window works on all of them; about 0.4 s on two threads."""
SETTLE_S = 4.0
"""Seconds up to which a window waits for buffers to fill: six batches may be under way."""


@dataclass(frozen=True)
class Window:
    """What one contestant used for one window's images."""

    group: str
    """Contestants of one group run in the same rounds."""
    contestant: str
    build: int
    round: int
    """Counted through all builds; windows of one round are adjacent in time."""
    images: int
    cpu_s: float
    """User and system seconds of the whole process, its settling included."""
    wall_s: float
    """Seconds until the last batch was there."""
    settled: bool
    """Whether the process was idle before and after."""


@dataclass(frozen=True)
class Spread:
    """The median of some numbers, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one number.

        Example:
            >>> Spread.of([1.0, 2.0, 3.0])
            Spread(median=2.0, low=1.5, high=2.5)
        """
        low, high = np.quantile(values, (0.25, 0.75)).tolist()
        return cls(statistics.median(values), low, high)


@dataclass(frozen=True)
class Row:
    """One line of the table: what is measured, and whether it is within reach."""

    what: str
    unit: str
    measured: Spread
    reach: float | None = None
    """The most that it should be; ``None`` where it is for information."""
    least: float | None = None
    """The least that it should be, where more is better."""

    @property
    def met(self) -> bool | None:
        """Whether the median is within reach; ``None`` where there is none."""
        if self.reach is None and self.least is None:
            return None
        value = self.measured.median
        return (self.reach is None or value <= self.reach) and (self.least is None or value >= self.least)


def cpu_s_per_image(windows: Sequence[Window], group: str, contestant: str) -> Spread:
    """A contestant's CPU seconds an image over its settled windows."""
    return Spread.of([w.cpu_s / w.images for w in _settled(windows, group, contestant)])


def ratios(windows: Sequence[Window], group: str, ours: str, theirs: str) -> list[float]:
    """CPU seconds per image of ``ours`` over those of ``theirs``, a ratio for each round without void windows.

    Raises:
        ValueError: no round has both.
    """
    per_round = {w.round: w for w in _settled(windows, group, theirs)}
    found = [
        (w.cpu_s / w.images) / (per_round[w.round].cpu_s / per_round[w.round].images)
        for w in _settled(windows, group, ours)
        if w.round in per_round
    ]
    if not found:
        raise ValueError(f"a ratio needs a round with settled windows of {ours!r} and of {theirs!r}, but there is none")
    return found


def _settled(windows: Sequence[Window], group: str, contestant: str) -> list[Window]:
    return [w for w in windows if (w.group, w.contestant) == (group, contestant) and w.settled]


def compete(
    group: str,
    contestants: Mapping[str, MakeBatches],
    *,
    builds: int,
    rounds: int,
    images: int,
    seed: int = 0,
    note: Callable[[str], None] = lambda text: None,
) -> list[Window]:
    """Run contestants in turns.

    Each build makes every contestant anew: builds of one pipeline differ by more than windows on one of them do.
    Before its first window a contestant passes as many images as a window has. The order within a round is shuffled.

    Args:
        group: names the windows.
        contestants: how to build each, by name.
        builds: how many times all are built.
        rounds: rounds of windows on each build.
        images: images a window has at least; whole batches.
        seed: decides the order within rounds.
        note: told what runs now.
    """
    order = random.Random(seed)
    windows = []
    for build in range(builds):
        note(f"{group}: build {build + 1} of {builds}")
        running = {name: make() for name, make in contestants.items()}
        for batches in running.values():
            _pass(batches, images)
        for k in range(rounds):
            names = list(running)
            order.shuffle(names)
            windows += [_window(group, name, running[name], build, build * rounds + k, images) for name in names]
        for batches in running.values():
            with suppress(AttributeError):
                batches.close()  # a generator's; other iterators end when let go
        del running, batches
        settle()
    return windows


def _window(group: str, name: str, batches: Iterator[Any], build: int, k: int, images: int) -> Window:
    before = settle(SETTLE_S)
    cpu, wall = time.process_time(), time.perf_counter()
    passed = _pass(batches, images)
    wall = time.perf_counter() - wall
    after = settle(SETTLE_S)  # buffers are full again: what was produced is what was consumed
    return Window(group, name, build, k, passed, time.process_time() - cpu, wall, before.idle and after.idle)


def _pass(batches: Iterator[Any], images: int) -> int:
    passed = 0
    while passed < images:
        passed += len(next(batches))
    return passed


def looks(make: MakeBatches, images: int) -> dict[str, Any]:
    """What a contestant's batches are: shape and dtype of the first, mean and standard deviation over some images."""
    batches = make()
    first = np.asarray(next(batches))
    means, squares, seen = [], [], 0
    batch = first
    while True:
        values = batch.astype(np.float64)
        means.append(values.mean())
        squares.append((values**2).mean())
        seen += len(batch)
        if seen >= images:
            break
        batch = np.asarray(next(batches))
    mean = statistics.fmean(means)
    deviation = (statistics.fmean(squares) - mean**2) ** 0.5
    return {"shape": list(first.shape), "dtype": str(first.dtype), "mean": mean, "std": deviation}


def same_looks(
    group: str, found: dict[str, dict[str, Any]], images: int = 2 * IMAGES, ours: str = "greenload"
) -> dict[str, dict[str, Any]]:
    """What the contestants of a group put out, once it is plain that they do the same.

    Raises:
        ValueError: shapes or dtypes differ, or means by more than a twentieth of a standard deviation; by more where
            there are fewer images than by default, whose windows are random: a mean's error goes with 1/√images.
    """
    for name, one in found.items():
        shape = "×".join(map(str, one["shape"]))
        print(f"{group}: {name}: {one['dtype']} {shape}, mean {one['mean']:.4g}, std {one['std']:.4g}", file=sys.stderr)
    first = found[ours]
    for name, one in found.items():
        same = (one["shape"], one["dtype"]) == (first["shape"], first["dtype"])
        if not same or abs(one["mean"] - first["mean"]) > first["std"] / 20 * max(1.0, (2 * IMAGES / images) ** 0.5):
            raise ValueError(f"{group}: contestants must do the same, but {name} gives {one}, and {ours} {first}")
    return found


def table(rows: Sequence[Row]) -> str:
    """Rows as text: what, reach, measured with its quartiles, and whether it is met."""
    cells = [("what", "reach", "measured", "quartiles", "")]
    for row in rows:
        signs = (("≤", row.reach), ("≥", row.least))
        reach = " ".join(f"{sign} {value:g}" for sign, value in signs if value is not None)
        low, high = f"{row.measured.low:.3g}", f"{row.measured.high:.3g}"
        verdict = {True: "met", False: "MISSED", None: ""}[row.met]
        measured = f"{row.measured.median:.3g} {row.unit}".strip()
        cells.append((row.what, reach, measured, f"{low} – {high}", verdict))
    widths = [max(len(line[i]) for line in cells) for i in range(5)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells)
