"""Waiting for idleness."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from greenload.energy.settle import settle


def test_an_idle_process_settles_soon() -> None:
    start = time.perf_counter()
    assert settle(5.0)
    assert time.perf_counter() - start < 2.0


def test_a_busy_thread_keeps_it_from_settling_until_it_ends(burn: Callable[[float], None]) -> None:
    thread = threading.Thread(target=burn, args=(0.6,))
    thread.start()
    try:
        assert not settle(0.05)
        assert settle(10.0)
        assert not thread.is_alive()
    finally:
        thread.join()


class Clock:
    """Wall and CPU seconds that pass only in ``sleep``, at a scripted load."""

    def __init__(self, loads: list[float]) -> None:
        self.wall = self.cpu = 0.0
        self.loads = loads
        self.slept = 0

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.cpu += seconds * self.loads[min(self.slept, len(self.loads) - 1)]
        self.slept += 1

    def run(self, max_s: float = 1.0) -> bool:
        return settle(max_s, cpu_s=lambda: self.cpu, wall_s=lambda: self.wall, sleep=self.sleep)


def test_three_idle_polls_in_a_row_are_needed() -> None:
    clock = Clock([1.0, 0.0, 0.0, 0.5, 0.0, 0.05, 0.09])
    assert clock.run()
    assert clock.slept == 7


def test_ten_percent_is_busy() -> None:
    assert not Clock([0.11]).run(max_s=0.1)
    assert Clock([0.09]).run()
