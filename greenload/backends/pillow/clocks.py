"""The thread time of Pillow's steps, of some images."""

from __future__ import annotations

import functools
import itertools
import math
import random
import threading
import time

from greenload.system.work import Work

SHARE = 1 / 200
"""The part of an image's CPU time that reading the clocks may take, unless ``RAREST`` is reached."""
RAREST = 64
"""One image in so many is timed at least."""
_FIRST = 32
"""So many images are timed before any is left out."""


class LapClock:
    """Times steps that follow one another on the same thread. Safe in threads, each with its own `laps`.

    A thread's CPU clock is a system call, of 0.3 to 13 µs by kernel and sandbox. So of images that take little more
    than that only a part is timed, chosen at random; the others are estimated by those.

    Args:
        steps: how many there are.
    """

    def __init__(self, steps: int) -> None:
        self._lock = threading.Lock()
        self._calls = self._timed = 0
        self._cpu, self._wall = [0.0] * steps, [0.0] * steps
        self._random = random.Random(steps)  # of its own: the user's sequence stays as it is

    def laps(self) -> Laps:
        """For one thread, and some images."""
        return Laps(len(self._cpu), self._one_in(), self._random)

    def add(self, laps: Laps) -> None:
        """Count what a thread has done."""
        with self._lock:
            self._calls += laps.calls
            self._timed += laps.timed
            for index, (cpu, wall) in enumerate(zip(laps.cpu, laps.wall, strict=True)):
                self._cpu[index] += cpu
                self._wall[index] += wall

    def read(self, step: int) -> Work:
        """What a step has done so far."""
        with self._lock:
            return Work(self._calls, self._timed, self._cpu[step], self._wall[step])

    def _one_in(self) -> int:
        """How many images one that is timed stands for."""
        if self._timed < _FIRST:
            return 1
        mean, readings = max(sum(self._cpu) / self._timed, 1e-9), len(self._cpu) + 1
        return max(1, min(RAREST, math.ceil(readings * _reading_s() / (SHARE * mean))))


class Laps:
    """What one thread has timed of some images. Made by ``LapClock.laps``."""

    def __init__(self, steps: int, one_in: int, chance: random.Random) -> None:
        self.calls = self.timed = 0
        self.cpu, self.wall = [0.0] * steps, [0.0] * steps
        self._one_in, self._random = one_in, chance
        self._times: list[tuple[float, float]] | None = None

    def begin(self) -> bool:
        """Begin an image; whether it is timed, so that `lap` is to be called behind each step."""
        timed = self._one_in == 1 or self._random.random() * self._one_in < 1.0
        self._times = [(time.thread_time(), time.monotonic())] if timed else None
        return timed

    def lap(self) -> None:
        """A step has ended, and the next begins."""
        assert self._times is not None  # `begin` said so
        self._times.append((time.thread_time(), time.monotonic()))

    def end(self) -> None:
        """The image has ended: it counts."""
        self.calls += 1
        if self._times is None:
            return
        self.timed += 1
        nothing = _reading_s()
        for index, (begin, end) in enumerate(itertools.pairwise(self._times)):
            self.cpu[index] += max(0.0, end[0] - begin[0] - nothing)
            self.wall[index] += max(0.0, end[1] - begin[1] - nothing)


@functools.cache
def _reading_s() -> float:
    """CPU seconds of reading both clocks: the least of several."""
    times = [(time.thread_time(), time.monotonic())[0] for _ in range(64)]
    return max(0.0, min(end - begin for begin, end in itertools.pairwise(times)))
