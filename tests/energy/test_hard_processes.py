"""Clocks, threads, forks and spawned processes: the right joules, or a void window or an error that says why."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from greenload.energy.emulators.nvml import NvmlEmulator
from greenload.energy.emulators.nvml_boards import Board, ManualClock, Trace
from greenload.energy.meters.base import Channel, Reading
from greenload.energy.meters.model import ModelMeter
from greenload.energy.meters.nvml import find_nvml
from greenload.energy.meters.process import ProcessMeter
from greenload.energy.meters.rapl import RaplMeter, find_rapl
from greenload.energy.sampler import Mark, Sampler, Window
from greenload.errors import MeterError, UsageError

pytestmark = pytest.mark.alone

DEADLINE_S = 60.0


class Ramp:
    """A counter of constant power on a real clock: whatever is read, joules over time are ``watts``."""

    name = "ramp"

    def __init__(self, watts: float = 50.0, wrap_j: float | None = None, domain: str = "cpu:package-0") -> None:
        self.watts = watts
        self.wrap_j = wrap_j
        self.closed = False
        self.channels = (Channel(domain, "measured", wrap_j=wrap_j, resolution_j=1e-6),)

    def read(self) -> Reading:
        now_ns = time.monotonic_ns()
        joules = self.watts * now_ns / 1e9
        return Reading(now_ns, {self.channels[0].domain: joules if self.wrap_j is None else joules % self.wrap_j})

    def close(self) -> None:
        self.closed = True


def in_a_fork(work: Callable[[], str]) -> str:
    """What ``work`` returns in a forked child, or its error; the child is ended if it hangs."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = work()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(write_end, answer.encode())
        os._exit(0)
    os.close(write_end)
    deadline = time.monotonic() + DEADLINE_S
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hung")
        time.sleep(0.002)
    with os.fdopen(read_end) as pipe:
        return pipe.read()


def about(window: Window, domain: str = "cpu:package-0", watts: float = 50.0) -> bool:
    """Whether a ramp's joules are right, to how far apart its reads and the window's edges are."""
    off_j = abs(window.energy_j[domain] - watts * window.wall_ns / 1e9)
    return off_j <= window.resolution_j[domain] + 0.005 * watts


# Clocks.


def test_a_suspend_voids_the_windows_that_it_lies_in_and_no_others() -> None:
    clock = ManualClock()
    with Sampler([ModelMeter(["cpu"], cpus=1, disks={})], clocks=clock.clocks) as sampler:
        marks: list[Mark] = []
        for asleep_s in (0.0, 7.0, 0.0, 0.0):
            marks.append(sampler.mark())
            clock.sleep(1.0)
            clock.suspend(asleep_s)
        marks.append(sampler.mark())
    voids = [sampler.window(*pair).void for pair in pairwise(marks)]
    assert [bool(void) for void in voids] == [False, True, False, False]
    assert "suspended for 7.000 s" in voids[1]["cpu"]
    assert sampler.window(marks[0], marks[-1]).void and not sampler.window(marks[2], marks[-1]).void


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_a_step_of_the_wall_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    """The wall clock is set in the midst of a window, as by NTP. NVML's own timestamps are of it, and jump too."""
    real, real_ns, moved_s = time.time, time.time_ns, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + moved_s)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(moved_s * 1e9))
    clock = ManualClock()
    nvml = NvmlEmulator([Board(Trace([(0.0, 300.0)]))], clock=clock.now_s, sleep=clock.sleep)
    meter, _ = find_nvml(nvml, {}, clock.now_ns)
    assert meter is not None
    with (
        Sampler([meter], period_s=1e6, clocks=clock.clocks, sleep=clock.sleep) as emulated,
        Sampler([Ramp()]) as sampler,
    ):
        first, start = emulated.mark(aligned=True), sampler.mark()
        moved_s = step_s
        assert abs(time.time() - real()) > 3000
        clock.sleep(2.0)
        last, end = emulated.mark(aligned=True, closing=True), sampler.mark()
    window, gpu = sampler.window(start, end), emulated.window(first, last)
    assert 0 <= window.wall_ns < DEADLINE_S * 1e9 and about(window)
    assert gpu.energy_j["gpu:0"] == pytest.approx(600, abs=40) and 2.0 <= gpu.energy_wall_ns["gpu:0"] / 1e9 < 2.11
    assert gpu.wall_ns == 2 * 10**9


def test_no_time_between_two_reads_is_void_and_no_error() -> None:
    clock = ManualClock()
    with Sampler([Ramp()], clocks=clock.clocks) as sampler:
        start = sampler.mark()
        window = sampler.window(start, sampler.mark())
    assert window.wall_ns == 0 and window.energy_j == {}
    assert window.void["cpu:package-0"]


# Errors in a window.


def test_an_error_in_a_window_leaves_its_figures_and_closes_the_meters() -> None:
    meter = Ramp()
    marks: list[Mark] = []
    sampler = Sampler([meter])
    with pytest.raises(ZeroDivisionError), sampler:
        marks.append(sampler.mark())
        try:
            time.sleep(0.02)
            _ = 1 / 0
        finally:
            marks.append(sampler.mark())
    assert about(sampler.window(*marks)) and meter.closed
    assert sampler._thread is not None and not sampler._thread.is_alive()


def test_polling_goes_on_where_memory_cannot_be_read() -> None:
    """As when the process has no file handle left."""
    failures: list[int] = []

    class Failing(ProcessMeter):
        def rss_bytes(self) -> int:
            if threading.current_thread() is not threading.main_thread():
                failures.append(1)
                raise OSError(24, "Too many open files")
            return super().rss_bytes()

    with Sampler([Ramp(wrap_j=1e5)], Failing(), period_s=0.001) as sampler:
        start = sampler.mark()
        deadline = time.monotonic() + DEADLINE_S
        while len(failures) < 5 and time.monotonic() < deadline:
            time.sleep(0.002)
        window = sampler.window(start, sampler.mark())
    assert len(failures) >= 5 and about(window) and window.rss_bytes > 0


# Threads.


def test_eight_threads_mark_at_once_and_adjacent_windows_add_up() -> None:
    """With wraps every 2 s of 50 W, and the sampler's own thread polling between."""
    with Sampler([Ramp(wrap_j=100.0)], period_s=0.001) as sampler:
        barrier = threading.Barrier(8)
        marks: dict[int, list[Mark]] = {}

        def work(number: int) -> None:
            barrier.wait()
            marks[number] = []
            for _ in range(60):
                marks[number].append(sampler.mark())
                time.sleep(0.002)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for own in marks.values():
        parts = [sampler.window(*pair) for pair in pairwise(own)]
        whole = sampler.window(own[0], own[-1])
        if any("wasn't read for" in window.void.get("cpu:package-0", "") for window in (whole, *parts)):
            pytest.skip("this machine is too busy to poll a counter that may wrap within 0.1 s")
        assert about(whole) and whole.void == {}
        assert whole.energy_j["cpu:package-0"] == pytest.approx(sum(p.energy_j["cpu:package-0"] for p in parts))
        assert all(p.energy_j["cpu:package-0"] > 0 for p in parts)
        assert whole.wall_ns == sum(p.wall_ns for p in parts)
        assert whole.cpu_s == pytest.approx(sum(p.cpu_s for p in parts), abs=1e-4)  # one below 0 is 0
    merged = sorted((mark for own in marks.values() for mark in own), key=lambda mark: mark.clocks.monotonic_ns)
    totals = [mark.edges["cpu:package-0"].total_j for mark in merged]
    assert totals == sorted(totals)


def test_threads_may_align_at_once() -> None:
    nvml = NvmlEmulator([Board(Trace([(0.0, 200.0)]), refresh_s=(0.02, 0.05))])
    meter, _ = find_nvml(nvml, {})
    assert meter is not None
    with Sampler([meter]) as sampler:
        sampler.mark(aligned=True)
        windows: list[Window] = []

        def work() -> None:
            start = sampler.mark(aligned=True)
            time.sleep(0.1)
            windows.append(sampler.window(start, sampler.mark(aligned=True, closing=True)))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(windows) == 4
    for window in windows:
        true = 200 * window.energy_wall_ns["gpu:0"] / 1e9
        assert abs(window.energy_j["gpu:0"] - true) <= window.resolution_j["gpu:0"] + 1e-3


# Forks and other processes.


def test_a_fork_is_refused_its_parents_sampler_and_may_start_its_own() -> None:
    with Sampler([Ramp()]) as sampler:
        start = sampler.mark()
        refused = in_a_fork(lambda: str(sampler.mark()))

        def own() -> str:
            with Sampler([Ramp()]) as another:
                first = another.mark()
                time.sleep(0.02)
                window = another.window(first, another.mark())
                try:
                    another.window(start, first)
                except UsageError as error:
                    return f"{about(window)} {error}"
            return "a mark of the parent was taken"

        answer = in_a_fork(own)
        time.sleep(0.01)
        window = sampler.window(start, sampler.mark())
    assert refused.startswith("MeterError: a sampler works only in the process that started it")
    assert str(os.getpid()) in refused and "start another there" in refused
    assert answer.startswith("True a window needs two marks of the sampler that cuts it")
    assert about(window) and window.void == {}, "the parent goes on"


def test_a_fork_that_leaves_its_parents_with_statement_does_no_harm() -> None:
    meter = Ramp()
    with Sampler([meter]) as sampler:
        start = sampler.mark()

        def leave() -> str:
            sampler.stop()
            return "left"

        assert in_a_fork(leave) == "left"
        time.sleep(0.01)
        assert about(sampler.window(start, sampler.mark())) and not meter.closed


def test_forks_at_any_moment_of_a_poll_do_not_hang() -> None:
    with Sampler([Ramp()], period_s=0.0005) as sampler:

        def own() -> str:
            with Sampler([Ramp()]) as another:
                another.mark()
            return "done"

        assert [in_a_fork(own) for _ in range(25)] == ["done"] * 25
        start = sampler.mark()
        time.sleep(0.01)
        assert about(sampler.window(start, sampler.mark()))


def test_nvml_of_the_parent_is_not_read_in_a_fork() -> None:
    nvml = NvmlEmulator(clock=ManualClock().now_s)  # its counter stays at 0, however long a fork takes
    meter, _ = find_nvml(nvml, {})
    assert meter is not None

    def read() -> str:
        reading = meter.read()
        meter.close()
        return f"{reading.counter_j} {reading.failed['gpu:0']} users={nvml.users}"

    answer = in_a_fork(read)
    assert answer.startswith("{} NVML was started by process") and answer.endswith("users=1")
    assert meter.read().counter_j == {"gpu:0": 0.0}


def test_a_sampler_cannot_be_sent_to_another_process() -> None:
    with pytest.raises(MeterError, match="start another there"):
        pickle.dumps(Sampler([]))


_WORKER = """
import multiprocessing, sys, time
from greenload.energy.meters.discover import discover
from greenload.energy.sampler import Sampler

def work(queue, root):
    meters, _ = discover(root, environ={"CUDA_VISIBLE_DEVICES": ""})
    with Sampler(meters) as sampler:
        start = sampler.mark()
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        window = sampler.window(start, sampler.mark())
    queue.put((multiprocessing.current_process().daemon, window.cpu_s, dict(window.energy_j), dict(window.void)))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.SimpleQueue()
    meters, _ = discover(sys.argv[2], environ={"CUDA_VISIBLE_DEVICES": ""})
    with Sampler(meters) as sampler:
        start = sampler.mark()
        worker = context.Process(target=work, args=(queue, sys.argv[2]), daemon=True)
        worker.start()
        daemon, cpu_s, energy_j, void = queue.get()
        worker.join()
        own = sampler.window(start, sampler.mark())
    assert daemon and cpu_s >= 0.05 and not void, (daemon, cpu_s, void)
    assert energy_j["cpu"] > 0.1 and energy_j["dram"] > 0, energy_j
    assert not own.void
    assert own.cpu_s >= cpu_s or sys.argv[1] == "forkserver", "a child that was waited for counts"
    print("good")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_daemonic_workers_measure_themselves(tmp_path: Path, method: str) -> None:
    """Daemonic processes may have no children, so a sampler must need none. A fork server's workers aren't children."""
    script = tmp_path / "worker.py"
    script.write_text(_WORKER)
    done = subprocess.run(
        [sys.executable, str(script), method, str(tmp_path / "none")],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout == "good\n", done.stderr


# Permission, lost and given back.


def test_permission_lost_and_given_back(make_zones: Callable[..., Path]) -> None:
    """Only windows with an edge in the time without permission are void; the counter went on meanwhile."""
    root = make_zones({"intel-rapl:0": "package-0"})
    energy = (root / "intel-rapl:0").resolve() / "energy_uj"
    denied = False

    def read(path: Path) -> str:
        if denied and path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return path.read_text()

    energy.write_text("1000000\n")
    meter, _ = find_rapl(root, read)
    assert isinstance(meter, RaplMeter)
    marks: list[Mark] = []
    with Sampler([meter], period_s=0.005) as sampler:
        for joules, deny in ((1.0, False), (3.0, False), (6.0, True), (10.0, False), (15.0, False)):
            energy.write_text(f"{joules * 1e6:.0f}\n")
            denied = deny
            time.sleep(0.03)
            marks.append(sampler.mark())
    windows = [sampler.window(*pair) for pair in pairwise(marks)]
    assert [w.energy_j.get("cpu:package-0") for w in windows] == [pytest.approx(2), None, None, pytest.approx(5)]
    for window in windows[1:3]:
        assert "Permission denied" in window.void["cpu:package-0"] and str(root) in window.void["cpu:package-0"]
    assert sampler.window(marks[1], marks[3]).energy_j["cpu:package-0"] == pytest.approx(7)
