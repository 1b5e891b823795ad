"""Waiting for idleness."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from greenload.energy.settle import POLL_S, Settled, settle, threads_at_work

pytestmark = pytest.mark.alone


def test_an_idle_process_settles_soon() -> None:
    start = time.perf_counter()
    assert settle(5.0).idle
    assert time.perf_counter() - start < 2.0


def test_a_busy_thread_keeps_it_from_settling_until_it_ends(burn: Callable[[float], None]) -> None:
    thread = threading.Thread(target=burn, args=(0.6,))
    thread.start()
    try:
        assert not settle(0.05).idle
        assert settle(10.0).idle
        assert not thread.is_alive()
    finally:
        thread.join()


class Clock:
    """Wall and CPU seconds that pass only in ``sleep``, at a scripted load."""

    def __init__(self, loads: list[float]) -> None:
        self.wall = self.cpu = 0.0
        self.loads = loads
        self.works: list[bool] = []
        self.slept = 0

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.cpu += seconds * self.loads[min(self.slept, len(self.loads) - 1)]
        self.slept += 1

    def run(self, max_s: float = 1.0) -> Settled:
        return settle(
            max_s,
            cpu_s=lambda: self.cpu,
            wall_s=lambda: self.wall,
            sleep=self.sleep,
            at_work=lambda: self.works.pop(0) if self.works else False,
        )


def test_three_idle_polls_in_a_row_are_needed() -> None:
    clock = Clock([1.0, 0.0, 0.0, 0.5, 0.0, 0.05, 0.09])
    assert clock.run().idle
    assert clock.slept == 7


def test_ten_percent_is_busy() -> None:
    assert not Clock([0.11]).run(max_s=0.1).idle
    assert Clock([0.09]).run().idle


@pytest.mark.parametrize(
    ("loads", "polls"), [([0.0], 3.0), ([1.0, 0.0], 3.5), ([1.0, 0.0, 1.0, 0.0], 3.5), ([0.2, 0.0], 3.5)]
)
def test_it_says_for_how_long_it_has_been_quiet(loads: list[float], polls: float) -> None:
    """Work ended somewhere in the last busy poll: half of that is quiet on average."""
    assert Clock(loads).run().quiet_s == pytest.approx(polls * POLL_S)


def test_a_thread_that_waits_for_a_device_is_not_idle() -> None:
    clock = Clock([0.0])
    clock.works = [True, True, False]
    found = clock.run()
    assert found.idle and clock.slept == 9
    assert found.quiet_s == pytest.approx(3 * POLL_S), "what came before the thread was seen at work isn't quiet"
    clock.works = [True] * 1000
    assert clock.run(max_s=0.1) == Settled(False, 0.0)


@pytest.mark.parametrize(("states", "found"), [("SSI", False), ("SD", True), ("SR", True), ("", False), ("t", False)])
def test_the_state_of_every_other_thread_counts(tmp_path: Path, states: str, found: bool) -> None:
    for number, state in enumerate(states):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "stat").write_text(f"{number} (R) D (x) {state} 1 2 3")
    (tmp_path / "ended").mkdir()
    assert threads_at_work(str(tmp_path)) is found
    own = tmp_path / str(threading.get_native_id())
    own.mkdir()
    (own / "stat").write_text("1 (self) R 1")
    assert threads_at_work(str(tmp_path)) is found, "the one that asks runs"


def test_a_thread_at_work_is_seen_while_it_works(burn: Callable[[float], None]) -> None:
    thread = threading.Thread(target=burn, args=(0.3,))
    thread.start()
    seen = False
    while thread.is_alive():
        seen = seen or threads_at_work()
    assert seen
    assert not threads_at_work("/nowhere")
