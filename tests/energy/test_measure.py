"""``measure`` around any code."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from greenload.energy.emulators.powercap import PowercapEmulator
from greenload.energy.emulators.replay_meter import ReplayMeter
from greenload.energy.measure import Measurement, measure
from greenload.energy.meters.base import Channel, MeterStatus
from greenload.energy.meters.discover import discover
from greenload.energy.sharing import DEFAULT, SharedSampler
from greenload.errors import MeterError, UsageError

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def nothing_lingers() -> Iterator[None]:
    """Without a sampler that another test left running for the next measurement."""
    DEFAULT.stop_now()
    yield
    DEFAULT.stop_now()


def test_measured_joules_with_provenance_and_interval(tmp_path: Path, burn: Callable[[float], None]) -> None:
    with PowercapEmulator(tmp_path) as machine, measure(powercap_root=tmp_path) as window:
        true = machine.true_energy_j("cpu:package-0")
        burn(0.3)
        true = machine.true_energy_j("cpu:package-0") - true
    figure = window.energy_j["cpu:package-0"]
    assert figure.value == pytest.approx(true, rel=0.1)
    assert figure.provenance == window.provenance["cpu:package-0"] == "measured"
    assert figure.value is not None and figure.low is not None and figure.high is not None
    assert 0 < figure.low < figure.value < figure.high
    assert window.wall_s >= 0.3 and 0.3 <= window.cpu_s < 1.0
    assert "cpu:package-0" in repr(window)


def test_modelled_joules_carry_their_band(tmp_path: Path) -> None:
    with measure(powercap_root=tmp_path / "none") as window:
        sum(range(100_000))
    figure = window.energy_j["cpu"]
    assert figure.provenance == "modelled" and figure.systematic >= 0.4
    assert figure.value == pytest.approx(2.76 * window.cpu_s)
    assert figure.low == figure.value == figure.high


def test_figures_are_there_when_the_block_raised_and_meters_are_closed() -> None:
    meter = ReplayMeter([Channel("gpu:0", "measured")], [{"gpu:0": value} for value in (1.0, 2.0, 5.0)])
    with pytest.raises(ValueError, match="mine"), measure((([meter]), [])) as window:
        raise ValueError("mine")
    assert window.energy_j["gpu:0"].value == 3.0
    assert meter.closed


def test_reading_too_soon_is_refused() -> None:
    with measure(([], [])) as window, pytest.raises(MeterError, match="after the with"):
        _ = window.cpu_s
    assert window.cpu_s >= 0


def test_a_missing_figure_says_why() -> None:
    meter = ReplayMeter([Channel("gpu:0", "measured")], [{"gpu:0": "the GPU is lost"}])
    with measure(([meter], [])) as window:
        pass
    assert window.void == {"gpu:0": "the GPU is lost"}
    with pytest.raises(MeterError, match="the GPU is lost"):
        _ = window.energy_j["gpu:0"]
    with pytest.raises(MeterError, match="no meter for 'cpu'"):
        _ = window.energy_j["cpu"]


def samplers() -> int:
    """Sampler threads of this process now."""
    return sum(thread.name == "greenload-sampler" for thread in threading.enumerate())


def test_nested_and_concurrent_measures_share_one_sampler() -> None:
    before = samplers()
    gate = threading.Barrier(8)
    seen: list[int] = []

    def work() -> None:
        with measure() as window:
            gate.wait(30)
            seen.append(samplers())
            gate.wait(30)
        assert window.wall_s > 0

    with measure() as outer:
        with measure() as inner:
            assert samplers() == before + 1
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _: work(), range(8)))
        assert samplers() == before + 1, "the outer one still runs"
    assert seen == [before + 1] * 8

    @measure
    def decorated() -> int:
        return samplers()

    with measure():
        assert decorated() == before + 1
    assert samplers() == before + 1, "there for the next"
    DEFAULT.stop_now()
    assert samplers() == before
    assert inner.wall_s <= outer.wall_s and inner.cpu_s <= outer.cpu_s


def test_nested_windows_each_have_all_joules_of_their_time(tmp_path: Path, burn: Callable[[float], None]) -> None:
    with PowercapEmulator(tmp_path) as machine:
        shared = SharedSampler(lambda: discover(powercap_root=tmp_path))
        with Measurement(shared, 1, once=False) as outer:
            burn(0.2)
            with Measurement(shared, 1, once=False) as inner:
                burn(0.2)
        begun_ns = inner.window.start_ns
        true = machine.true_between(begun_ns, begun_ns + inner.window.wall_ns, "cpu:package-0")
    joules = [window.energy_j["cpu:package-0"].value or 0.0 for window in (outer, inner)]
    assert joules[1] == pytest.approx(true, rel=0.1)
    assert joules[0] > 1.5 * joules[1]


def test_given_meters_and_places_have_their_own_sampler(tmp_path: Path) -> None:
    before = samplers()
    with measure(), measure(([], [])), measure(powercap_root=tmp_path), measure(period_s=0.1):
        assert samplers() == before + 4
    assert samplers() == before + 1, "only the common one lingers"
    DEFAULT.stop_now()
    assert samplers() == before


def test_one_measurement_is_of_one_block_at_a_time() -> None:
    again = measure()
    with again as first, pytest.raises(UsageError, match="one block at a time"), again:
        pass
    with again as second:
        pass
    assert first is not second and second.wall_s >= 0
    once = measure(([], []))
    with once:
        pass
    with pytest.raises(UsageError, match="closed after the first"), once:
        pass


def test_a_decorated_function_keeps_a_window_of_each_call(burn: Callable[[float], None]) -> None:
    @measure(keep=3)
    def work(cpu_s: float) -> float:
        """Works."""
        burn(cpu_s)
        return cpu_s

    assert [work(n / 20) for n in range(5)] == [0.0, 0.05, 0.1, 0.15, 0.2]
    assert work.__doc__ == "Works." and len(work.windows) == 3
    for window, cpu_s in zip(work.windows, (0.1, 0.15, 0.2), strict=True):
        assert window.thread_cpu_s == pytest.approx(cpu_s, abs=0.02)
    assert work.windows[-1] is work.windows[1:][-1]
    work.windows.clear()
    assert not work.windows


def test_recursion_and_exceptions_in_a_decorated_function() -> None:
    @measure
    def fall(depth: int) -> None:
        if depth == 0:
            raise KeyError("the bottom")
        fall(depth - 1)

    with pytest.raises(KeyError, match="bottom"):
        fall(3)
    walls = [window.wall_s for window in fall.windows]
    assert len(walls) == 4 and walls == sorted(walls), "the innermost call ends first"
    DEFAULT.stop_now()
    assert samplers() == 0


def test_decorated_methods_are_bound() -> None:
    class Loader:
        def __init__(self) -> None:
            self.size = 3

        @measure
        def load(self, n: int) -> int:
            return self.size * n

        @staticmethod
        @measure
        def twice(n: int) -> int:
            return 2 * n

    assert Loader().load(2) == 6 and Loader.twice(2) == 4
    assert len(Loader.load.windows) == 1


def test_calls_from_eight_threads_tell_their_own_cpu_seconds(burn: Callable[[float], None]) -> None:
    @measure
    def work(cpu_s: float) -> None:
        burn(cpu_s)

    with measure() as whole, ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [0.02 * (n + 1) for n in range(8)]))
    found = sorted(window.thread_cpu_s or 0.0 for window in work.windows)
    assert found == pytest.approx([0.02 * (n + 1) for n in range(8)], abs=0.015)
    assert sum(found) <= whole.cpu_s < sum(window.cpu_s for window in work.windows), "each has the whole process"


def test_overlapping_tasks_share_the_machine_and_the_thread() -> None:
    @measure
    async def wait(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def both() -> list[float]:
        with measure() as whole:
            found = await asyncio.gather(wait(0.1), wait(0.05))
        assert whole.wall_s < sum(window.wall_s for window in wait.windows)
        return found

    assert asyncio.run(both()) == [0.1, 0.05]
    short, long = wait.windows
    assert 0.05 <= short.wall_s < long.wall_s


def test_a_cancelled_task_has_a_window() -> None:
    @measure
    async def forever() -> None:
        await asyncio.sleep(3600)

    async def cancel() -> None:
        task = asyncio.create_task(forever())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert len(forever.windows) == 1 and forever.windows[0].wall_s < 60


def test_what_cannot_be_decorated_is_refused() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(UsageError, match=r"numbers is a generator.*measure the loop"):
        measure()(numbers)
    with pytest.raises(UsageError, match="given meters"):
        measure(([], []))(len)
    with pytest.raises(UsageError, match="decorates functions"):
        measure()(property(lambda self: 1))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"below @property.*@staticmethod"):
        measure()(staticmethod(len))
    with pytest.raises(UsageError, match=r"are a pair.*@classmethod"):
        measure(classmethod(lambda cls: 1))  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="keep must be 1"):
        measure(keep=0)
    with pytest.raises(UsageError, match="period_s must be positive"):
        measure(period_s=0)


def test_an_object_with_an_async_call_is_measured_until_it_ends() -> None:
    class Waits:
        async def __call__(self) -> None:
            await asyncio.sleep(0.05)

    waits = measure(Waits())
    asyncio.run(waits())
    assert waits.windows[0].wall_s >= 0.05


def test_another_thread_may_close_a_window() -> None:
    measurement = measure()
    window = measurement.__enter__()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(measurement.__exit__, None, None, None).result(30)
    assert window.thread_cpu_s is None and window.cpu_s > 0


FORKED = """
import os, sys, threading
from greenload.energy.sharing import DEFAULT, SharedSampler
from greenload.errors import MeterError
from greenload.energy.measure import measure

with measure():
    pass  # its sampler lingers as the process forks

def check(window):
    assert window.wall_s >= 0 and window.cpu_s >= 0 and window.energy_j

held = threading.Event()
def other():  # a thread that keeps measuring while the main one forks
    while not held.is_set():
        with measure():
            pass
thread = threading.Thread(target=other, daemon=True)
thread.start()
shared = SharedSampler()
kept = shared.acquire()
pid = os.fork()
if pid == 0:
    shared.release(kept)  # the parent's, so this gives nothing back
    with shared.use() as mine:
        with shared.use() as again:
            assert again.sampler is mine.sampler is not kept.sampler
        mine.sampler.mark()
        os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
kept.sampler.mark()
shared.release(kept)

for _ in range(20):
    with measure() as outer:
        pid = os.fork()
        if pid == 0:
            with measure() as mine:
                sum(range(10_000))
            check(mine)
            DEFAULT.stop_now()
            names = [t.name for t in threading.enumerate()]
            assert "greenload-sampler" not in names, names
    if pid == 0:
        try:
            outer.cpu_s
        except MeterError as error:
            assert "ended in its fork" in str(error), error
            os._exit(0)
        os._exit(3)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    check(outer)
held.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_measures_with_a_sampler_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


class Found:
    """Meters that count how often they were looked for and closed."""

    def __init__(self) -> None:
        self.found = 0
        self.closed = 0

    def __call__(self) -> tuple[list[ReplayMeter], list[MeterStatus]]:
        self.found += 1
        found = self

        class Meter(ReplayMeter):
            def close(self) -> None:
                found.closed += 1

        return [Meter([Channel("gpu:0", "measured", can_rest=True)], [{"gpu:0": 1.0}])], []


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def test_calls_that_follow_each_other_find_the_meters_once() -> None:
    found = Found()
    shared = SharedSampler(found, linger_s=60)
    for _ in range(20):
        with shared.use() as use:
            use.sampler.mark()
    assert (found.found, found.closed) == (1, 0)
    with shared.use():
        shared.stop_now()
        assert found.closed == 0, "it has a user"
    shared.stop_now()
    shared.stop_now()
    assert (found.found, found.closed, samplers()) == (1, 1, 0)
    until(lambda: not any(thread.name == "greenload-linger" for thread in threading.enumerate()))
    with shared.use():
        assert found.found == 2
    shared.stop_now()


def test_a_decorated_function_finds_meters_of_its_own_once() -> None:
    found = Found()
    shared = SharedSampler(found)
    work = Measurement(shared, 9, once=False)(lambda: None)
    for _ in range(5):
        work()
    assert (found.found, found.closed, len(work.windows)) == (1, 0, 5)
    shared.stop_now()
    assert found.closed == 1


def test_a_sampler_that_lingers_stops_by_itself() -> None:
    found = Found()
    shared = SharedSampler(found, linger_s=0.05)
    with shared.use():
        time.sleep(0.1)
        assert samplers() == 1, "not while it has a user"
    until(lambda: found.closed == 1 and samplers() == 0)


def test_meters_are_closed_once_however_calls_and_the_end_of_the_time_meet() -> None:
    found = Found()
    shared = SharedSampler(found, linger_s=0.002)

    def work(pause_s: float) -> None:
        for _ in range(40):
            with shared.use() as use:
                use.sampler.mark()
            time.sleep(pause_s)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, [0.0, 0.001, 0.002, 0.004]))
    until(lambda: found.closed == found.found and samplers() == 0)
    assert found.found > 1


LINGERS = """
from greenload.energy.emulators.replay_meter import ReplayMeter
from greenload.energy.meters.base import Channel
from greenload.energy.sharing import SharedSampler

class Meter(ReplayMeter):
    def close(self):
        print("closed", flush=True)

shared = SharedSampler(lambda: ([Meter([Channel("gpu:0", "measured")], [{"gpu:0": 1.0}])], []), linger_s=1000)
with shared.use():
    pass
"""


def test_a_sampler_that_lingers_ends_with_the_interpreter() -> None:
    done = subprocess.run([sys.executable, "-c", LINGERS], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("closed\n", "", 0)


def test_meters_are_closed_when_the_sampler_cannot_start() -> None:
    channel = Channel("gpu:0", "measured")
    meters = [ReplayMeter([channel], [{"gpu:0": 1.0}]) for _ in range(2)]
    with pytest.raises(MeterError, match="one meter only"), measure((meters, [])):
        pass
    assert all(meter.closed for meter in meters)


def test_what_measuring_takes_is_left_out_and_said(burn: Callable[[float], None]) -> None:
    used = 0.0
    with measure() as outer:
        for _ in range(100):
            with measure() as inner:
                began = time.process_time()
                burn(0.002)
                used += time.process_time() - began
            used -= inner.cpu_s
    # What reading the meters takes, 100 times both edges, would be 5 ms and more.
    assert abs(used) < 0.002
    assert outer.sampler_cpu_s > 50 * inner.sampler_cpu_s >= 0
    assert outer.sampler_cpu_s > 0.001
