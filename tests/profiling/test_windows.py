"""Windows of a profile: joules of slow counters, idle windows, as many builds as are wanted, cold files."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from greenload.energy.attribution.observation import Observation, counted_ns
from greenload.energy.emulators.nvml import NvmlEmulator
from greenload.energy.emulators.nvml_boards import Board, Trace
from greenload.energy.emulators.replay_meter import ReplayMeter
from greenload.energy.meters.base import Channel
from greenload.energy.meters.nvml import find_nvml
from greenload.energy.sampler import Sampler
from greenload.energy.settle import Settled
from greenload.profiling import windows as windowing
from greenload.profiling.page_cache import ColdFiles
from greenload.profiling.windows import BUILDS, Windows

pytestmark = pytest.mark.alone


class Busy:
    """Uses one core for a given time a sample."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked: list[int] = []

    def run(self, samples: int) -> int:
        self.asked.append(samples)
        until = time.process_time() + self.seconds * samples
        while time.process_time() < until:
            pass
        return samples

    def close(self) -> None:
        pass


class Builds(Windows):
    """Passes of nothing, and what was told meanwhile."""

    def __init__(self, sampler: Sampler) -> None:
        self.told: list[tuple[float, str]] = []
        super().__init__(sampler, 2, 0, lambda share, text: self.told.append((share, text)))

    def passes(self, answers: Sequence[int]) -> list[int]:
        left = iter(answers)
        done = []
        for build, name, share in self._builds(0.8, lambda seen: next(left)):
            self._tell(name)
            self._done += share
            done.append(build)
        assert next(left, None) is None  # was asked as often as there were answers
        return done

    def window(self, run: Busy, samples: int, step: str = "a") -> Observation:
        self._window(run, samples, step, "with", 0, 0)
        return self.seen[-1]


class Reading(Builds):
    """Windows of a step that reads at most 3 samples without reading one twice."""

    def __init__(self, sampler: Sampler, cold: ColdFiles) -> None:
        Windows.__init__(self, sampler, 2, 0, lambda share, text: None, cold=cold)

    def _reads_at_most(self, step: str, kind: str) -> int:
        return 3 if step == "read" else 0


def counting() -> ReplayMeter:
    """A counter that moves at each read."""
    return ReplayMeter([Channel("cpu:package-0", "measured")], [{"cpu:package-0": float(i)} for i in range(1000)])


def test_two_builds_are_made_and_then_as_many_as_are_wanted() -> None:
    with Sampler([]) as sampler:
        windows = Builds(sampler)
        assert windows.passes([2, 1, 0]) == [0, 1, 2, 3, 4]
    assert [text for _, text in windows.told] == [
        "build 1 of 2",
        "build 2 of 2",
        "build 3 of 4",
        "build 4 of 4",
        "build 5 of 5",
    ]
    shares = [share for share, _ in windows.told]
    assert shares == pytest.approx([0.0, 0.4, 0.4, 0.6, 0.64])  # more builds than known of take their share of the rest
    assert windows._done == pytest.approx(0.8)


def test_by_default_no_further_build_is_made() -> None:
    with Sampler([]) as sampler:
        assert [build for build, *_ in Builds(sampler)._builds(1.0, windowing.no_further_build)] == list(range(BUILDS))


def test_the_floor_is_measured_before_each_build_where_a_counter_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowing, "idle_window_s", lambda channels: 0.01)
    with Sampler([]) as sampler:
        modelled = Builds(sampler)
        modelled.passes([0])
        assert modelled.seen == []
    with Sampler([counting()]) as sampler:
        windows = Builds(sampler)
        windows.passes([1, 0])
    assert [window.kind for window in windows.seen] == ["idle"] * 12
    assert [window.round for window in windows.seen] == list(range(12)), "each is a value of its own"


def test_idle_windows_are_void_where_the_process_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is judged by itself: what a floor would be too high by shows in no interval."""
    answers = iter([True, False, True, False])
    monkeypatch.setattr(windowing, "idle_window_s", lambda channels: 0.01)
    monkeypatch.setattr(windowing, "settle", lambda max_s: Settled(next(answers), 0.0))
    with Sampler([counting()]) as sampler:
        windows = Builds(sampler)
        windows._idle()
    doubt = "the process was not idle before it"
    assert [window.void.get("cpu:package-0") for window in windows.seen] == [None, doubt, None, doubt]


def test_joules_of_a_slow_counter_are_those_of_their_own_time() -> None:
    """Windows of some 50 ms on a counter refreshed every 50–100 ms: unaligned, half of the joules could be missing."""
    with NvmlEmulator([Board(Trace([(0.0, 250.0)]), refresh_s=(0.05, 0.1))]) as nvml:
        meter, _ = find_nvml(nvml, {})
        assert meter is not None
        with Sampler([meter]) as sampler:
            windows = Builds(sampler)
            for _ in range(4):
                window = windows.window(Busy(0.01), 5)
                counted_s = counted_ns(window, "gpu:0") / 1e9
                assert window.energy_j["gpu:0"] == pytest.approx(250.0 * counted_s, rel=0.1)
                assert counted_s >= window.wall_ns / 1e9 - 0.02, "up to a refresh of idling is counted behind the work"
            assert any(window.energy_wall_ns for window in windows.seen)


def test_how_long_the_work_took_is_known_without_the_settling() -> None:
    with Sampler([]) as sampler:
        windows = Builds(sampler)
        for _ in range(4):
            window = windows.window(Busy(0.05), 2)
            assert window.idle_ns / 1e9 >= 0.010, "three polls of 4 ms at least"
            assert window.work_ns == window.wall_ns - window.idle_ns
            assert window.work_ns / 1e9 >= 0.09, "a tenth of a second of work"


def test_files_are_dropped_before_each_window_that_reads_and_none_is_read_twice(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(bytes(100_000))
    with Sampler([]) as sampler:
        windows = Reading(sampler, ColdFiles([file]))
        run = Busy(0.001)
        for step, samples in (("read", 9), ("flip", 9), ("read", 2)):
            windows.window(run, samples, step)
    assert run.asked == [3, 9, 2]
    assert len(windows.dropped) == 2
    assert all(one.files == 1 and one.bytes == 100_000 for one in windows.dropped)


def test_windows_follow_one_another() -> None:
    with Sampler([counting()]) as sampler:
        windows = Builds(sampler)
        for _ in range(4):
            windows.window(Busy(0.002), 2)
    starts = [window.start_ns for window in windows.seen]
    assert starts[0] == 0
    for (begin, window), after in itertools.pairwise(zip(starts, windows.seen, strict=True)):
        assert begin is not None and after[0] is not None and begin + window.wall_ns <= after[0]
