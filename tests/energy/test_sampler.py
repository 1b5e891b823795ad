"""Windows between marks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from greenload.energy.emulators.layout import Power, PowercapLayout
from greenload.energy.emulators.powercap import PowercapEmulator
from greenload.energy.emulators.replay_meter import ReplayMeter
from greenload.energy.meters.base import Channel
from greenload.energy.meters.model import ModelMeter
from greenload.energy.meters.process import Clocks, ProcessMeter, read_clocks
from greenload.energy.meters.rapl import RaplMeter, find_rapl
from greenload.energy.sampler import Sampler
from greenload.errors import MeterError, UsageError

pytestmark = pytest.mark.alone

PACKAGE = Channel("cpu:package-0", "measured", update_s=0.001, wrap_j=262143.0)
Burn = Callable[[float], None]


def replayed(*values: float | str) -> Sampler:
    """A sampler over a replayed package. The first value is read at the start, each further one by a mark."""
    meter = ReplayMeter([PACKAGE], [{"cpu:package-0": value} for value in values])
    return Sampler([meter], period_s=100.0)


def emulated(machine: PowercapEmulator) -> RaplMeter:
    meter, _ = find_rapl(machine.root)
    assert meter is not None
    return meter


def pause() -> None:
    """Longer than a refresh."""
    time.sleep(0.005)


def test_a_window_is_the_counters_difference() -> None:
    with replayed(5.0, 6.0, 9.5) as sampler:
        start = sampler.mark()
        pause()
        window = sampler.window(start, sampler.mark())
    assert window.energy_j == {"cpu:package-0": 3.5}
    assert window.void == {}
    assert window.wall_ns > 5e6 and window.rss_bytes > 0


def test_a_window_knows_when_it_started_and_what_was_read() -> None:
    with replayed(5.0, 6.0, 9.5, 11.0) as sampler:
        before = time.monotonic_ns()
        first = sampler.mark()
        with open("/dev/zero", "rb", buffering=0) as file:
            for _ in range(500):
                file.read(1)
        second = sampler.mark()
        pause()
        window, later = sampler.window(first, second), sampler.window(second, sampler.mark())
    assert before <= window.start_ns < later.start_ns and later.start_ns == window.start_ns + window.wall_ns
    if window.reads is None or later.reads is None:
        pytest.skip("this system doesn't tell read calls")
    assert 500 <= window.reads < 560, "the sampler's own are few"
    assert later.reads < 60


def test_reads_are_unknown_where_only_the_machine_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    process = ProcessMeter()
    monkeypatch.setattr(process, "bytes_source", "machine")
    with Sampler([], process) as sampler:
        start = sampler.mark()
        assert sampler.window(start, sampler.mark()).reads is None


def test_a_wrap_inside_a_window() -> None:
    with replayed(262140.0, 262141.0, 2.0) as sampler:
        start = sampler.mark()
        pause()
        window = sampler.window(start, sampler.mark())
    assert window.energy_j == {"cpu:package-0": pytest.approx(4.0)}


def test_a_reset_voids_the_windows_across_it_and_no_others() -> None:
    with replayed(5.0, 200000.0, 200001.0, 3.0, 4.0) as sampler:
        marks = []
        for _ in range(4):
            marks.append(sampler.mark())
            pause()
    before, across, after = (sampler.window(*pair) for pair in pairwise(marks))
    assert before.energy_j == {"cpu:package-0": 1.0}
    assert across.energy_j == {} and "reset" in across.void["cpu:package-0"]
    assert after.energy_j == {"cpu:package-0": 1.0}


def test_a_failed_edge_voids_but_a_failed_poll_between_loses_nothing() -> None:
    with replayed(1.0, 2.0, "denied", 4.0) as sampler:
        marks = []
        for _ in range(3):
            marks.append(sampler.mark())
            pause()
    assert sampler.window(marks[0], marks[1]).void == {"cpu:package-0": "denied"}
    assert sampler.window(marks[1], marks[2]).void == {"cpu:package-0": "denied"}
    assert sampler.window(marks[0], marks[2]).energy_j == {"cpu:package-0": 2.0}


def test_a_counter_that_stands_still_is_void_not_zero() -> None:
    with replayed(7.0) as sampler:
        start = sampler.mark()
        pause()
        window = sampler.window(start, sampler.mark())
    assert "stood still" in window.void["cpu:package-0"]


def test_a_window_shorter_than_the_refresh_is_void() -> None:
    slow = Channel("gpu:0", "measured", update_s=0.1)
    with Sampler([ReplayMeter([slow], [{"gpu:0": 1.0}, {"gpu:0": 2.0}, {"gpu:0": 3.0}])]) as sampler:
        window = sampler.window(sampler.mark(), sampler.mark())
    assert "shorter" in window.void["gpu:0"]


def test_suspend_voids_every_domain() -> None:
    asleep_ns = 0

    def clocks() -> Clocks:
        now = read_clocks()
        return Clocks(now.monotonic_ns, asleep_ns, asleep_ns)

    meter = ReplayMeter([PACKAGE], [{"cpu:package-0": value} for value in (1.0, 2.0, 3.0)])
    model = ModelMeter(["dram"], cpus=1, disks={})
    with Sampler([meter, model], clocks=clocks) as sampler:
        start = sampler.mark()
        asleep_ns = 3 * 10**9
        window = sampler.window(start, sampler.mark())
    assert window.energy_j == {}
    assert set(window.void) == {"cpu:package-0", "dram"}
    assert "suspended for 3.000 s" in window.void["dram"]


def test_modelled_joules_are_the_models_of_this_windows_figures() -> None:
    with Sampler([ModelMeter(["cpu", "dram"], cpus=4, disks={})]) as sampler:
        start = sampler.mark()
        sum(range(300_000))
        window = sampler.window(start, sampler.mark())
        assert sampler.idle_power_w == {"cpu": pytest.approx(4 * 0.74)}
    assert window.energy_j["cpu"] == pytest.approx(2.76 * window.cpu_s)
    assert window.energy_j["dram"] == pytest.approx(0.392e-9 * window.rss_bytes * window.wall_ns / 1e9, rel=1e-3)
    assert window.resolution_j == {}


@pytest.mark.parametrize("work_s", [0.0, 0.3])
def test_counted_joules_agree_with_the_emulated_machine_to_one_percent(
    tmp_path: Path, burn: Burn, work_s: float
) -> None:
    """The best of up to five windows: a busy machine may delay the emulator's writer, a wrong meter is wrong always."""
    with PowercapEmulator(tmp_path) as machine, Sampler([emulated(machine)]) as sampler:
        worst: list[float] = []
        while len(worst) < 5 and min(worst, default=1.0) > 0.01:
            start = sampler.mark()
            burn(work_s)
            time.sleep(0.3 - work_s)
            window = sampler.window(start, sampler.mark())
            end_ns = window.start_ns + window.wall_ns
            errors = [
                window.energy_j[domain] / machine.true_between(window.start_ns, end_ns, domain) - 1
                for domain in sampler.channels
            ]
            worst.append(max(map(abs, errors)))
    assert min(worst) <= 0.01


def test_many_wraps_are_counted_through(tmp_path: Path, burn: Burn) -> None:
    """A counter of 200 J at some 300 W wraps in under a second, twice here: the sampler has to poll by itself."""
    layout, power = PowercapLayout(wrap_j=200.0, start_j=198.0), Power(busy_core_w=300.0)
    with PowercapEmulator(tmp_path, layout, power) as machine, Sampler([emulated(machine)]) as sampler:
        assert sampler.period_s == pytest.approx(0.05)
        true, start = machine.true_energy_j("cpu:package-0"), sampler.mark()
        burn(0.75)
        window = sampler.window(start, sampler.mark())
        true = machine.true_energy_j("cpu:package-0") - true
    assert true > 200.0
    if "may wrap unseen" in window.void.get("cpu:package-0", ""):
        pytest.skip("this machine is too busy to poll a counter that may wrap within 0.2 s")
    assert window.energy_j["cpu:package-0"] == pytest.approx(true, rel=0.05), window.void


def test_a_reset_of_the_emulated_machine_is_found(tmp_path: Path) -> None:
    with PowercapEmulator(tmp_path, PowercapLayout(start_j=9000.0)) as machine, Sampler([emulated(machine)]) as sampler:
        start = sampler.mark()
        machine.reset()
        time.sleep(0.02)
        between = sampler.mark()
        time.sleep(0.05)
        end = sampler.mark()
    assert "reset" in sampler.window(start, end).void["cpu:package-0"]
    assert 0 < sampler.window(between, end).energy_j["cpu:package-0"] < 5


def test_two_windows_open_at_once_add_up(tmp_path: Path, burn: Burn) -> None:
    with PowercapEmulator(tmp_path) as machine, Sampler([emulated(machine)]) as sampler:
        first = sampler.mark()
        burn(0.05)
        second = sampler.mark()
        burn(0.05)
        third = sampler.mark()
        burn(0.05)
        fourth = sampler.mark()
    outer, left, right = (sampler.window(*pair) for pair in ((first, fourth), (first, third), (third, fourth)))
    overlap = sampler.window(second, fourth)
    for domain, joules in outer.energy_j.items():
        assert joules == pytest.approx(left.energy_j[domain] + right.energy_j[domain])
        assert overlap.energy_j[domain] < joules
    assert outer.cpu_s == pytest.approx(left.cpu_s + right.cpu_s)


def test_marks_from_many_threads_never_go_backwards(tmp_path: Path) -> None:
    with PowercapEmulator(tmp_path) as machine, Sampler([emulated(machine)], period_s=0.002) as sampler:
        negative: list[float] = []

        def mark() -> None:
            last = sampler.mark()
            for _ in range(100):
                now = sampler.mark()
                window = sampler.window(last, now)
                negative.extend(j for j in (*window.energy_j.values(), window.cpu_s, window.other_cpu_s) if j < 0)
                last = now

        whole = sampler.mark()
        threads = [threading.Thread(target=mark) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        window = sampler.window(whole, sampler.mark())
    assert negative == []
    assert window.void == {}


def test_a_fork_must_start_its_own_sampler() -> None:
    with replayed(1.0, 2.0) as sampler:
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                sampler.mark()
                os.write(write_end, b"no error")
            except MeterError as error:
                os.write(write_end, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert b"only in the process that started it" in os.read(read_end, 1000)


def test_a_meter_that_raises_voids_its_own_domains_only() -> None:
    class Broken(ReplayMeter):
        def read(self) -> None:  # type: ignore[override]
            raise ZeroDivisionError("a bug")

    good = ReplayMeter([PACKAGE], [{"cpu:package-0": value} for value in (1.0, 2.0, 3.0)])
    broken = Broken([Channel("gpu:0", "measured")], [{}])
    with Sampler([broken, good]) as sampler:
        start = sampler.mark()
        pause()
        window = sampler.window(start, sampler.mark())
    assert window.energy_j == {"cpu:package-0": 1.0}
    assert "ZeroDivisionError" in window.void["gpu:0"]
    assert good.closed and broken.closed


def test_misuse_is_refused() -> None:
    with pytest.raises(UsageError, match="period_s"):
        Sampler([], period_s=0.0)
    with pytest.raises(MeterError, match="two"):
        Sampler([ReplayMeter([PACKAGE], [{}]), ReplayMeter([PACKAGE], [{}])])
    sampler = Sampler([])
    with pytest.raises(MeterError, match="while it runs"):
        sampler.mark()
    with sampler:
        first, second = sampler.mark(), sampler.mark()
        with pytest.raises(UsageError, match="swap"):
            sampler.window(second, first)
        with Sampler([]) as other, pytest.raises(UsageError, match="another"):
            sampler.window(first, other.mark())
    with pytest.raises(MeterError, match="while it runs"):
        sampler.mark()
    with pytest.raises(MeterError, match="once"):
        sampler.start()


def test_other_processes_are_told_apart(burn: Burn) -> None:
    """A child still running is not this process's, and shows as other CPU time."""
    child = os.fork()
    if child == 0:
        burn(0.6)
        os._exit(0)
    try:
        with Sampler([]) as sampler:
            start = sampler.mark()
            time.sleep(0.4)
            window = sampler.window(start, sampler.mark())
    finally:
        os.waitpid(child, 0)
    assert window.other_cpu_s > 0.15
    assert window.cpu_s < 0.1


def test_polling_costs_next_to_nothing(tmp_path: Path) -> None:
    """The limit is 0.2 % of a core; the sampler's own thread is what is timed, so other processes don't matter."""
    with PowercapEmulator(tmp_path) as machine, Sampler([emulated(machine)], period_s=0.05) as sampler:
        assert sampler._thread is not None and sampler._thread.ident is not None
        clock = time.pthread_getcpuclockid(sampler._thread.ident)
        before = time.clock_gettime(clock)
        time.sleep(1.0)
        per_poll_s = (time.clock_gettime(clock) - before) / 20
    assert per_poll_s / Sampler([]).period_s < 0.002
