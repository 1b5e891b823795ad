"""Counters that wrap, fall, jump, stutter or give nonsense, on a clock that moves only when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from greenload.energy.emulators.nvml_boards import ManualClock
from greenload.energy.meters.base import Channel, Reading
from greenload.energy.meters.rapl import find_rapl
from greenload.energy.sampler import Mark, Sampler, Window

DOMAIN = "cpu:package-0"
WRAP_J = 2000.0  # at the 1,000 W that are believed it may wrap within 2 s
LSB_J = 2**-16


class Counter:
    """A counter of ``watts`` that wraps, under a sampler, on a clock that only :meth:`wait` moves."""

    name = "counter"

    def __init__(self, watts: float = 100.0, start_j: float = 0.0, wrap_j: float | None = WRAP_J) -> None:
        self.clock = ManualClock()
        self.watts = watts
        self.offset_j = start_j
        self.wrap_j = wrap_j
        self.nonsense: float | Exception | None = None
        self.channels = (Channel(DOMAIN, "measured", resolution_j=1e-6, update_s=0.001, wrap_j=wrap_j),)
        self.sampler = Sampler([self], period_s=1e6, clocks=self.clock.clocks)
        self.sampler.period_s = 1e6

    def raw_j(self) -> float:
        joules = self.offset_j + self.watts * self.clock.now_s()
        return joules if self.wrap_j is None else joules % self.wrap_j

    def read(self) -> Reading:
        if isinstance(self.nonsense, Exception):
            raise self.nonsense
        return Reading(self.clock.now_ns(), {DOMAIN: self.raw_j() if self.nonsense is None else self.nonsense})

    def close(self) -> None:
        pass

    def wait(self, seconds: float, poll_s: float = 0.5) -> Mark:
        """Let time pass, with polls as the sampler's thread makes them, and mark."""
        while seconds > 1e-9:
            self.clock.sleep(min(poll_s, seconds))
            seconds -= min(poll_s, seconds)
            mark = self.sampler.mark()
        return mark

    def window(self, start: Mark, end: Mark) -> Window:
        return self.sampler.window(start, end)

    def __enter__(self) -> Counter:
        self.sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.sampler.stop()


def test_a_window_longer_than_several_wraps() -> None:
    with Counter(watts=700.0) as counter:
        start = counter.sampler.mark()
        window = counter.window(start, counter.wait(60.0))
    assert window.energy_j == {DOMAIN: pytest.approx(42_000)}


def test_several_windows_are_open_across_a_wrap() -> None:
    with Counter(watts=100.0, start_j=WRAP_J - 150.0) as counter:
        marks = [counter.sampler.mark()] + [counter.wait(1.0) for _ in range(4)]
    for index, start in enumerate(marks):
        for end in marks[index + 1 :]:
            seconds = (end.clocks.monotonic_ns - start.clocks.monotonic_ns) / 1e9
            assert counter.window(start, end).energy_j == {DOMAIN: pytest.approx(100 * seconds)}


@pytest.mark.parametrize("start_j", [WRAP_J - 100.0, WRAP_J - 50.0])
def test_a_wrap_exactly_at_a_read(start_j: float) -> None:
    """The counter reads exactly 0 at a poll in one case, at an edge in the other."""
    with Counter(watts=100.0, start_j=start_j) as counter:
        marks = [counter.sampler.mark(), counter.wait(0.5), counter.wait(0.5), counter.wait(0.5)]
    for pair in pairwise(marks):
        assert counter.window(*pair).energy_j == {DOMAIN: pytest.approx(50)}


def test_a_poll_that_comes_too_late_is_void_rather_than_a_wrap_missed() -> None:
    with Counter(watts=900.0) as counter:
        start = counter.sampler.mark()
        late = counter.wait(2.5, poll_s=2.5)
        after = counter.wait(1.0)
    assert counter.window(start, late).energy_j == {}
    assert "wasn't read for 2.5 s, and may wrap unseen after 2.0 s" in counter.window(start, late).void[DOMAIN]
    assert counter.window(late, after).energy_j == {DOMAIN: pytest.approx(900)}


def test_a_reset_is_seen_by_the_windows_across_it_and_not_by_the_next() -> None:
    with Counter(watts=100.0, start_j=500.0) as counter:
        first = counter.sampler.mark()
        second = counter.wait(1.0)
        counter.offset_j = -100.0 * counter.clock.now_s()
        third = counter.wait(1.0)
        fourth = counter.wait(1.0)
    for start, end in ((first, third), (second, third), (first, fourth)):
        window = counter.window(start, end)
        assert window.energy_j == {} and "reset" in window.void[DOMAIN]
    for start, end in ((first, second), (third, fourth)):
        assert counter.window(start, end).energy_j == {DOMAIN: pytest.approx(100)}


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_voids_its_edge_and_nothing_more(nonsense: float) -> None:
    with Counter() as counter:
        first = counter.sampler.mark()
        counter.nonsense = nonsense
        second = counter.wait(0.5)
        counter.nonsense = None
        third = counter.wait(0.5)
    assert f"reads {nonsense} J" in counter.window(first, second).void[DOMAIN]
    assert counter.window(first, third).energy_j == {DOMAIN: pytest.approx(100)}


def test_an_unknown_error_voids_its_edge_and_nothing_more() -> None:
    with Counter() as counter:
        first = counter.sampler.mark()
        counter.nonsense = RuntimeError("who knows")
        second = counter.wait(0.5)
        counter.nonsense = None
        third = counter.wait(0.5)
    assert counter.window(second, third).void == {DOMAIN: "counter failed: RuntimeError: who knows"}
    assert counter.window(first, third).energy_j == {DOMAIN: pytest.approx(100)}


@pytest.mark.parametrize("wrap_j", [WRAP_J, None])
def test_reads_that_overtake_each_other_are_no_reset_and_count_nothing_twice(wrap_j: float | None) -> None:
    with Counter(wrap_j=wrap_j, start_j=100.0) as counter:
        start = counter.sampler.mark()
        for _ in range(200):
            counter.wait(0.005)
            counter.offset_j -= LSB_J
            counter.sampler.mark()
            counter.offset_j += LSB_J
        window = counter.window(start, counter.wait(0.005))
    assert window.energy_j == {DOMAIN: pytest.approx(100.5, abs=1e-9)}


def test_reads_that_overtake_each_other_at_a_wrap() -> None:
    """0.3 units after the wrap, then again before it."""
    with Counter(start_j=WRAP_J - 50.0) as counter:
        start = counter.sampler.mark()
        counter.offset_j += 0.3 * LSB_J
        counter.wait(0.5)
        assert counter.raw_j() < 1e-3
        counter.offset_j -= LSB_J
        assert counter.raw_j() > WRAP_J - 1e-3
        counter.sampler.mark()
        counter.offset_j += LSB_J
        window = counter.window(start, counter.wait(0.5))
    assert window.energy_j == {DOMAIN: pytest.approx(100, abs=1e-3)}


def test_a_file_caught_empty_voids_its_edge_and_nothing_more(make_zones: Callable[..., Path]) -> None:
    root = make_zones({"intel-rapl:0": "package-0"})
    energy = (root / "intel-rapl:0").resolve() / "energy_uj"
    energy.write_text("1000000\n")
    meter, _ = find_rapl(root)
    assert meter is not None
    clock = ManualClock()
    with Sampler([meter], period_s=1e6, clocks=clock.clocks) as sampler:
        marks: list[Mark] = []
        for text in ("1000000\n", "", "2500000\n"):
            energy.write_text(text)
            clock.sleep(0.5)
            marks.append(sampler.mark())
    assert "energy_uj couldn't be read" in sampler.window(marks[0], marks[1]).void[DOMAIN]
    assert sampler.window(marks[0], marks[2]).energy_j == {DOMAIN: pytest.approx(1.5)}
