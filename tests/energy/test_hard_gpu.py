"""GPUs missing, lost, partitioned, without a counter, or wrong: the right joules, or a void window that says why."""

from __future__ import annotations

import builtins
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pynvml
import pytest

from greenload.energy.emulators.nvml import NvmlEmulator
from greenload.energy.emulators.nvml_boards import Board, ManualClock, Trace
from greenload.energy.meters.base import Channel, MeterStatus
from greenload.energy.meters.discover import discover
from greenload.energy.meters.nvml import NvmlMeter, find_nvml
from greenload.energy.meters.power_check import PowerSum
from greenload.energy.meters.tracks import Counted, Edge, joules_between
from greenload.energy.sampler import Sampler, Window

pytestmark = pytest.mark.alone

STEADY = Trace([(0.0, 300.0)])
MIG = Board(STEADY, partitions=["MIG-11111111-aaaa", "MIG-22222222-bbbb"])


class Machine:
    """Emulated GPUs under a sampler, all on one clock that moves only when something waits."""

    def __init__(self, *boards: Board, environ: Mapping[str, str] | None = None, latency_s: float = 2e-4) -> None:
        self.clock = ManualClock()
        self.nvml = NvmlEmulator(boards, clock=self.clock.now_s, sleep=self.clock.sleep, latency_s=latency_s)
        meter, self.statuses = find_nvml(self.nvml, environ or {}, self.clock.now_ns)
        assert isinstance(meter, NvmlMeter)
        self.meter = meter
        # Polls come from `wait`: the sampler's own thread would read at no time of this clock.
        self.sampler = Sampler([meter], period_s=1e6, clocks=self.clock.clocks, sleep=self.clock.sleep)
        self.sampler.period_s = 1e6

    def wait(self, seconds: float, poll_s: float = 0.25) -> None:
        while seconds > 1e-9:
            step = min(poll_s, seconds)
            self.clock.sleep(step)
            self.sampler.mark()
            seconds -= step

    def window(self, seconds: float, aligned: bool = False) -> Window:
        start = self.sampler.mark(aligned=aligned)
        self.wait(seconds)
        return self.sampler.window(start, self.sampler.mark(aligned=aligned, closing=aligned))

    def __enter__(self) -> Machine:
        self.sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.sampler.stop()


def only(statuses: Sequence[MeterStatus]) -> MeterStatus:
    (status,) = statuses
    return status


def test_without_the_library_the_status_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **more: Any) -> Any:
        if name == "pynvml":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    meter, statuses = find_nvml(None, {})
    assert meter is None and not only(statuses).usable
    assert "isn't installed" in only(statuses).reason and "nvidia-ml-py" in only(statuses).remedy


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "install the NVIDIA driver"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "modprobe"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "/dev/nvidiactl"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "reboot"),
    ],
)
def test_nvml_that_does_not_start(error: int, remedy: str) -> None:
    nvml = NvmlEmulator()
    nvml.init_error = error
    meter, statuses = find_nvml(nvml, {})
    assert meter is None and not only(statuses).usable
    assert remedy in only(statuses).remedy and "doesn't start" in only(statuses).reason
    assert only(statuses).provenance == "measured"
    assert "gpu" not in {channel.domain.split(":")[0] for m in discover(nvml=nvml)[0] for channel in m.channels}


def test_no_gpu() -> None:
    nvml = NvmlEmulator([])
    meter, statuses = find_nvml(nvml, {})
    assert meter is None and "no GPU" in only(statuses).reason and nvml.users == 0


def test_a_gpu_that_gives_neither_energy_nor_power_is_unusable_and_nvml_is_given_back() -> None:
    nvml = NvmlEmulator([Board(energy_field=False, energy_call=False, power=False)])
    meter, statuses = find_nvml(nvml, {})
    assert meter is None and nvml.users == 0
    assert "Not Supported" in only(statuses).reason and "Volta" in only(statuses).remedy


@pytest.mark.parametrize("average_s", [1.0, 0.02])
def test_without_a_counter_power_is_summed_up_with_its_band(average_s: float) -> None:
    """Work of half a second in every second: what power reads is true on average, and off at edges and samples."""
    trace = Trace([(k / 2, 300.0 if k % 2 else 80.0) for k in range(80)])
    board = Board(trace, name="Tesla P100", energy_field=False, energy_call=False, average_s=average_s)
    with Machine(board) as machine:
        assert "no energy counter" in only(machine.statuses).reason and only(machine.statuses).usable
        channel = machine.sampler.channels["gpu:0"]
        assert channel.provenance == "measured" and channel.systematic == 0.05 and channel.update_s == 1.0
        machine.wait(3.0, 0.23)
        true = machine.nvml.true_energy_j(0)
        start = machine.sampler.mark()
        machine.wait(20.0, 0.23)
        window = machine.sampler.window(start, machine.sampler.mark())
        true = machine.nvml.true_energy_j(0) - true
        short = machine.window(0.9)
    off = abs(window.energy_j["gpu:0"] - true)
    assert off <= window.resolution_j["gpu:0"] < 0.2 * true
    assert "shorter than the mean power is of (1 s)" in short.void["gpu:0"]
    assert not window.aligned, "it has no refresh to align to"


def test_summed_power_that_was_not_read_for_long_is_void() -> None:
    with Machine(Board(STEADY, energy_field=False, energy_call=False)) as machine:
        assert Sampler([machine.meter]).period_s == 0.25
        start = machine.sampler.mark()
        machine.clock.sleep(5.0)
        window = machine.sampler.window(start, machine.sampler.mark())
        after = machine.window(5.0)
    assert window.energy_j == {} and "power wasn't read for 5.0 s" in window.void["gpu:0"]
    assert after.energy_j["gpu:0"] == pytest.approx(1500, rel=0.01)


def test_a_gpu_lost_at_the_start_keeps_its_place_and_the_others_are_read() -> None:
    nvml = NvmlEmulator([Board(), Board(), Board()])
    nvml.lose(1)
    meter, statuses = find_nvml(nvml, {})
    assert meter is not None and [c.domain for c in meter.channels] == ["gpu:0", "gpu:2"]
    (lost,) = [s for s in statuses if not s.usable]
    assert lost.domain == "gpu:1" and "lost" in lost.reason and "Xid" in lost.remedy


def test_all_gpus_lost_at_the_start() -> None:
    nvml = NvmlEmulator([Board()])
    nvml.lose(0)
    meter, statuses = find_nvml(nvml, {})
    assert meter is None and "lost" in only(statuses).reason and nvml.users == 0


def test_a_gpu_lost_in_a_window_voids_its_own_joules_and_the_others_go_on() -> None:
    with Machine(Board(STEADY), Board(Trace([(0.0, 100.0)]))) as machine:
        start = machine.sampler.mark()
        machine.wait(2.0)
        machine.nvml.lose(0)
        machine.wait(8.0)
        window = machine.sampler.window(start, machine.sampler.mark())
        aligned = machine.window(1.0, aligned=True)
    assert "lost" in window.void["gpu:0"] and "gpu:0" not in window.energy_j
    assert window.energy_j["gpu:1"] == pytest.approx(1000, rel=0.02)
    assert "lost" in aligned.void["gpu:0"] and aligned.aligned == {"gpu:1"}


def test_a_gpu_that_was_away_between_two_edges_loses_nothing() -> None:
    with Machine(Board(STEADY)) as machine:
        start = machine.sampler.mark()
        machine.wait(3.0)
        machine.nvml.lose(0, pynvml.NVML_ERROR_RESET_REQUIRED)
        machine.wait(3.0)
        machine.nvml.find(0)
        machine.wait(3.0)
        window = machine.sampler.window(start, machine.sampler.mark())
    assert window.energy_j["gpu:0"] == pytest.approx(2700, rel=0.02)


def test_a_counter_that_starts_anew_voids_the_window_even_if_it_grew_past_its_old_value() -> None:
    """Read at both edges only, the counter would seem to have risen by 8,000 J."""
    with Machine(Board(STEADY, start_mj=1_000_000)) as machine:
        start = machine.sampler.mark()
        machine.wait(2.0)
        machine.nvml.reset(0)
        machine.wait(30.0)
        end = machine.sampler.mark()
        window = machine.sampler.window(start, end)
        after = machine.window(10.0)
    assert window.energy_j == {} and "it doesn't wrap, so it was reset" in window.void["gpu:0"]
    assert after.energy_j["gpu:0"] == pytest.approx(3000, rel=0.02)


@pytest.mark.parametrize(("selection", "expected"), [("MIG-22222222-bbbb", 1), ("MIG-GPU-1e1a5c0d-4b7f/7/0", 1)])
def test_a_mig_partition_shows_its_whole_board_and_says_so(selection: str, expected: int) -> None:
    meter, statuses = find_nvml(NvmlEmulator([Board(), MIG]), {"CUDA_VISIBLE_DEVICES": selection})
    assert meter is not None and [c.domain for c in meter.channels] == [f"gpu:{expected}"]
    assert "all partitions" in only(statuses).reason


@pytest.mark.parametrize("selection", ["", "-1", "MIG-33333333", "GPU-ffff", "GPU-"])
def test_a_selection_of_no_gpu_is_no_zero(selection: str) -> None:
    nvml = NvmlEmulator([Board(), MIG])
    meter, statuses = find_nvml(nvml, {"CUDA_VISIBLE_DEVICES": selection})
    assert meter is None and f"CUDA_VISIBLE_DEVICES={selection}" in only(statuses).reason and nvml.users == 0


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("GPU-2e1a5c0d-4b7f-4e0a-9d53-0c6f1b2a7e82", ["gpu:2"]),
        ("GPU-2e1a,GPU-0e", ["gpu:2", "gpu:0"]),
        ("2", ["gpu:2"]),
        ("0,9,1", ["gpu:0"]),
    ],
)
def test_selected_gpus_are_metered_under_their_nvml_index(selection: str, expected: list[str]) -> None:
    meter, _ = find_nvml(NvmlEmulator([Board(), Board(), Board()]), {"CUDA_VISIBLE_DEVICES": selection})
    assert meter is not None and [c.domain for c in meter.channels] == expected


def test_a_selection_by_uuid_works_beside_a_lost_gpu() -> None:
    nvml = NvmlEmulator([Board(), Board()])
    nvml.lose(0)
    meter, _ = find_nvml(nvml, {"CUDA_VISIBLE_DEVICES": "GPU-1e1a5c0d"})
    assert meter is not None and [c.domain for c in meter.channels] == ["gpu:1"]


def test_unlike_gpus_chosen_by_number_are_pointed_out() -> None:
    nvml = NvmlEmulator([Board(name="NVIDIA H100"), Board(name="NVIDIA T4")])
    _, statuses = find_nvml(nvml, {"CUDA_VISIBLE_DEVICES": "0"})
    assert "CUDA_DEVICE_ORDER" in only(statuses).reason
    _, statuses = find_nvml(nvml, {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert "CUDA_DEVICE_ORDER" not in only(statuses).reason


def test_a_counter_that_stands_still_while_power_is_drawn_is_void() -> None:
    with Machine(Board(STEADY)) as machine:
        machine.wait(1.0)
        machine.nvml.stall(0)
        whole = machine.window(10.0)
        machine.nvml.stall(0, False)
        caught_up = machine.window(10.0)
    assert whole.energy_j == {} and "stood still" in whole.void["gpu:0"]
    assert caught_up.energy_j == {}, "the joules of before the window came in it"


def test_a_counter_that_gets_stuck_in_a_window_is_void() -> None:
    with Machine(Board(STEADY)) as machine:
        start = machine.sampler.mark()
        machine.wait(2.0)
        machine.nvml.stall(0)
        machine.wait(8.0)
        window = machine.sampler.window(start, machine.sampler.mark())
    assert window.energy_j == {} and "stood still for 8" in window.void["gpu:0"]


@pytest.mark.parametrize(("scale", "void"), [(1.0, False), (0.8, False), (0.5, True), (2.0, True)])
@pytest.mark.parametrize("busy", [False, True])
def test_a_counter_that_disagrees_with_the_power_readings_is_void(scale: float, void: bool, busy: bool) -> None:
    """Whichever of them is wrong. Work that comes and goes within seconds is no disagreement."""
    trace = Trace([(k * 0.37, 300.0 if k % 2 else 240.0) for k in range(200)]) if busy else STEADY
    with Machine(Board(trace, power_scale=scale)) as machine:
        window = machine.window(20.0)
        short = machine.window(2.0)
    assert ("gpu:0" in window.void) == void
    if void:
        assert "one of them is wrong" in window.void["gpu:0"] and "power readings" in window.void["gpu:0"]
    assert "gpu:0" in short.energy_j, "too short to tell"


def test_a_step_of_power_is_not_a_disagreement() -> None:
    """What the counter has of its last half second, a mean of a whole second has by half."""
    with Machine(Board(Trace([(0.0, 70.0), (3.5, 700.0)]))) as machine:
        machine.wait(1.0)
        start = machine.sampler.mark()
        machine.wait(3.0, 0.11)
        window = machine.sampler.window(start, machine.sampler.mark())
    assert "gpu:0" in window.energy_j


def test_a_window_shorter_than_the_refresh_is_void_and_says_so() -> None:
    with Machine(Board(STEADY)) as machine:
        window = machine.window(0.05)
    assert "shorter than the counter's refresh (0.1 s)" in window.void["gpu:0"]


@pytest.mark.parametrize("refresh_s", [(0.02, 0.02), (0.1, 0.1), (0.02, 0.1)])
def test_aligned_windows_are_exact_to_the_polling_step(refresh_s: tuple[float, float]) -> None:
    """Two unlike boards that are refreshed at different times, each with edges of its own."""
    boards = [Board(STEADY, refresh_s=refresh_s), Board(Trace([(0.0, 90.0)]), refresh_s=refresh_s)]
    with Machine(*boards) as machine:
        for _ in range(20):
            window = machine.window(1.0, aligned=True)
            assert window.aligned == {"gpu:0", "gpu:1"}
            for domain, watts in (("gpu:0", 300.0), ("gpu:1", 90.0)):
                true = watts * window.energy_wall_ns[domain] / 1e9
                assert window.energy_j[domain] == pytest.approx(true, abs=window.resolution_j[domain] + 1e-3)
                assert window.resolution_j[domain] < 0.01 * true
            assert 1.0 <= window.energy_wall_ns["gpu:0"] / 1e9 < 1.0 + 2.1 * refresh_s[1]
            assert window.wall_ns == pytest.approx(1e9, rel=0.005), "its own edges are the calls'"
        learned = machine.sampler.refresh_s("gpu:0")
        plain = machine.window(1.0)
    assert min(0.1, 1.2 * refresh_s[1]) <= learned <= min(0.101, 1.6 * refresh_s[1])
    assert plain.aligned == frozenset() and plain.energy_wall_ns == {}
    assert plain.resolution_j["gpu:0"] == pytest.approx(300 * learned, rel=0.3)


@pytest.mark.parametrize("latency_s", [0.005, 0.03])
def test_a_slow_query_widens_what_is_said_of_aligned_edges(latency_s: float) -> None:
    with Machine(Board(STEADY, refresh_s=(0.09, 0.1)), latency_s=latency_s) as machine:
        machine.sampler.mark(aligned=True)
        for _ in range(100):
            window = machine.window(0.15, aligned=True)
            true = 300 * window.energy_wall_ns["gpu:0"] / 1e9
            assert abs(window.energy_j["gpu:0"] - true) <= window.resolution_j["gpu:0"] + 1e-3


def test_samples_of_power_add_their_error_to_the_resolution() -> None:
    """100 and 300 W by turns: a mean of 40 readings is known to two standard errors, 2 · 101.3 W / √40 = 32 W."""
    power = PowerSum()
    for number in range(41):
        power = power.add(number * 250_000_000, 300.0 if number % 2 else 100.0)
    channel = Channel("gpu:0", "measured", update_s=1.0, sum_gap_s=1.0)
    nothing = PowerSum().add(0, 100.0)
    start = Edge(0, 1.0, 1.0, 0.0, 0.0, 0, "", "", nothing)
    end = Edge(10 * 10**9, 1.0, 1.0, 0.0, 2000.0, 0, "", "", power)
    counted = joules_between(channel, start, end)
    assert isinstance(counted, Counted)
    assert counted.resolution_j == pytest.approx(2000 / 9 + 320, rel=0.01)


def test_aligned_windows_in_real_time() -> None:
    """With this machine's own clock, sleeps and thread; however late its polls are, the window knows."""
    nvml = NvmlEmulator([Board(STEADY, refresh_s=(0.02, 0.06))])
    meter, _ = find_nvml(nvml, {})
    assert meter is not None
    with Sampler([meter]) as sampler:
        sampler.mark(aligned=True)
        for _ in range(3):
            start = sampler.mark(aligned=True)
            time.sleep(0.2)
            window = sampler.window(start, sampler.mark(aligned=True, closing=True))
            assert window.aligned == {"gpu:0"}
            true = 300 * window.energy_wall_ns["gpu:0"] / 1e9
            assert abs(window.energy_j["gpu:0"] - true) <= window.resolution_j["gpu:0"] + 1e-3


def test_adjacent_aligned_windows_add_up() -> None:
    with Machine(Board(Trace([(k * 0.3, 100.0 + 37 * (k % 5)) for k in range(100)]))) as machine:
        marks = [machine.sampler.mark(aligned=True)]
        for _ in range(6):
            machine.wait(0.7)
            marks.append(machine.sampler.mark(aligned=True, closing=True))
        parts = [machine.sampler.window(*pair) for pair in pairwise(marks)]
        whole = machine.sampler.window(marks[0], marks[-1])
    assert whole.energy_j["gpu:0"] == pytest.approx(sum(p.energy_j["gpu:0"] for p in parts), rel=1e-12)
    assert whole.energy_wall_ns["gpu:0"] == sum(p.energy_wall_ns["gpu:0"] for p in parts)


def test_a_counter_that_is_stuck_does_not_hold_up_an_aligned_mark() -> None:
    with Machine(Board(STEADY)) as machine:
        machine.sampler.mark(aligned=True)
        machine.nvml.stall(0)
        before = machine.clock.now_s()
        machine.sampler.mark(aligned=True)
        assert machine.clock.now_s() - before < 1.1


def test_a_board_refreshed_slower_than_any_known_is_learned() -> None:
    with Machine(Board(STEADY, refresh_s=(0.3, 0.3))) as machine:
        machine.sampler.mark(aligned=True)
        machine.sampler.mark(aligned=True)
        assert machine.sampler.refresh_s("gpu:0") >= 0.29
        assert machine.window(2.0, aligned=True).aligned == {"gpu:0"}


def test_suspend_voids_gpus_also_between_the_call_and_the_refresh() -> None:
    with Machine(Board(STEADY)) as machine:
        machine.sampler.mark(aligned=True)
        start = machine.sampler.mark()
        machine.wait(1.0)
        machine.sampler._sleep = lambda seconds: (machine.clock.sleep(seconds), machine.clock.suspend(0.5))[0]
        window = machine.sampler.window(start, machine.sampler.mark(aligned=True, closing=True))
    assert window.energy_j == {} and "suspended" in window.void["gpu:0"]


def test_an_unknown_type_of_value_voids_that_gpu_only() -> None:
    class Odd(NvmlEmulator):
        odd = False

        def nvmlDeviceGetFieldValues(self, handle: Any, fieldIds: Any) -> Any:
            values = super().nvmlDeviceGetFieldValues(handle, fieldIds)
            if self.odd and handle.index == 0:
                values[0].valueType = 99
            return values

    nvml = Odd([Board(), Board()])
    meter, _ = find_nvml(nvml, {})
    assert meter is not None
    nvml.odd = True
    reading = meter.read()
    assert set(reading.counter_j) == {"gpu:1"} and "gpu:0" in reading.failed
