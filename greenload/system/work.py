"""What a step of a pipeline has done so far, and the clock of one that runs in Python."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

CROSSED_FROM = 0.05
"""Share of a step's calls that may end on another thread than they began on before that is said."""


@dataclass(frozen=True)
class Work:
    """Calls of a step, and what those of them that were timed took. Subtract one from a later one for what was done in
    between.

    Example:
        >>> (Work(300, 200, cpu_s=0.2, wall_s=0.3) - Work(100, 100, cpu_s=0.1, wall_s=0.1)).cpu_s_per_call
        0.001
    """

    calls: int = 0
    timed: int = 0
    """Calls that the times are of. Those that weren't chosen to be timed are estimated by the others, and count here;
    `crossed` ones don't."""
    cpu_s: float = 0.0
    """Seconds of their threads' CPU time."""
    wall_s: float = 0.0
    """Seconds from begin to end, one call beside another counted twice."""
    crossed: int = 0
    """Calls that ended on another thread than they began on, so that they weren't timed."""

    def __add__(self, other: Work) -> Work:
        return Work(*(mine + others for mine, others in zip(_numbers(self), _numbers(other), strict=True)))

    def __sub__(self, other: Work) -> Work:
        return Work(*(mine - others for mine, others in zip(_numbers(self), _numbers(other), strict=True)))

    @property
    def cpu_s_per_call(self) -> float | None:
        """CPU seconds of a call; None where none was timed."""
        return self.cpu_s / self.timed if self.timed > 0 else None

    @property
    def waiting_s_per_call(self) -> float | None:
        """Seconds of a call in which its thread had no processor: reads, locks, the interpreter, other processes."""
        return max(0.0, self.wall_s - self.cpu_s) / self.timed if self.timed > 0 else None

    @property
    def total_cpu_s(self) -> float | None:
        """CPU seconds of all calls, those that weren't timed like the others; None where none was timed."""
        if not self.calls:
            return 0.0
        each = self.cpu_s_per_call
        return None if each is None else each * self.calls


def _numbers(work: Work) -> tuple[Any, ...]:
    return tuple(getattr(work, field.name) for field in fields(work))


class WorkClock:
    """Times what runs in Python, on the thread that runs it. Safe in threads.

    Example:
        >>> clock = WorkClock()
        >>> with clock.timing(calls=32):
        ...     augment(batch)
        >>> clock.read().calls
        32
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work = Work()

    @contextmanager
    def timing(self, calls: int = 1) -> Iterator[None]:
        """Time the block as so many calls; not one that raises."""
        wall, cpu = time.monotonic(), time.thread_time()
        yield
        work = Work(calls, calls, time.thread_time() - cpu, time.monotonic() - wall)
        with self._lock:
            self._work += work

    def read(self) -> Work:
        """All work so far."""
        with self._lock:
            return self._work
