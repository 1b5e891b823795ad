"""The CPU time of DALI's threads, by their own clocks, which any thread of the process can read."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from greenload.system.work import Work, WorkClock

_TASKS = "/proc/self/task"
_EVERY_S = 0.25
"""Between two looks for new threads, at most: one takes some 15 µs a thread of the process. Those that start and end in
between aren't seen."""
_SHARE = 1 / 8
"""The first looks come when so much more time has passed: a graph may run for a moment only."""


class DaliClock:
    """Sums the CPU time of the threads of one DALI graph, and of the threads that feed it. Safe in threads.

    Threads that end take their time along: what they had spent is kept, from ``closing`` on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: dict[int, float | None] = {}  # by thread; None of one that has no name of DALI's yet
        self._ended_s = 0.0
        self._begun_s = self._due_s = 0.0
        self.calling = WorkClock()
        """Of the calls into DALI; an image that is collected is a call."""
        _clocks.add(self)

    @contextmanager
    def building(self) -> Iterator[None]:
        """Build a graph in the block: the threads that DALI starts there are its own."""
        with _building:  # or another's threads would be among them
            before = _threads()
            yield
            own = _threads() - before
            with self._lock:
                self._spent |= dict.fromkeys(own)

    def follow(self) -> None:
        """Note what its threads have spent; now and then also take for its own all of DALI's threads that no other
        clock has, those of graphs that DALI builds itself. To be called with each batch: threads that end take along
        what they spent since."""
        with self._lock:
            self._looked()
        now = time.monotonic()
        if now < self._due_s:
            return
        self._begun_s = self._begun_s or now
        self._due_s = now + min(_EVERY_S, _SHARE * (now - self._begun_s))
        with _building:
            others = {thread for clock in list(_clocks) if clock is not self for thread in list(clock._spent)}
            own = set(filter(_is_dali, _threads())) - others
            with self._lock:
                ended = self._spent.keys() - own
                self._ended_s += sum(self._spent.pop(thread) or 0.0 for thread in ended)
                self._spent = dict.fromkeys(own) | self._spent
                self._looked()

    def closing(self) -> None:
        """The graph is about to end, and its threads with it."""
        with self._lock:
            self._ended_s += self._looked()
            self._spent.clear()

    def read(self) -> Work:
        """What has been done so far; how long it waited isn't known."""
        with self._lock:
            threads_s = self._ended_s + self._looked()
        calls = self.calling.read()
        return Work(calls.calls, calls.timed, calls.cpu_s + threads_s)

    def _looked(self) -> float:
        """CPU seconds of the graph's threads; of one that has ended what was seen last."""
        for thread, spent in self._spent.items():
            if spent is not None or _is_dali(thread):  # which gives its threads their names once they run
                with suppress(OSError):
                    now_s = time.clock_gettime((~thread << 3) | 6)  # Linux: a thread's CPU clock
                    self._spent[thread] = max(now_s, spent or 0.0)  # its number may be another thread's by now
        return sum(spent or 0.0 for spent in self._spent.values())


def _threads() -> set[int]:
    """The threads of this process, by the kernel's numbers; none where the kernel doesn't tell."""
    try:
        return {int(thread) for thread in os.listdir(_TASKS)}
    except OSError:
        return set()


def _is_dali(thread: int) -> bool:
    try:
        with open(f"{_TASKS}/{thread}/comm") as file:
            return file.read().startswith("[DALI]")
    except OSError:
        return False


def _after_fork() -> None:
    global _building
    _building = threading.Lock()  # another thread of the parent may hold it


_building: Any = threading.Lock()
_clocks: weakref.WeakSet[DaliClock] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
