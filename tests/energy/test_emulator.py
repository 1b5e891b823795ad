"""The powercap emulator, and pyRAPL reading it unmodified at its fixed path."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mount_namespaces import private_mounts

from greenload.energy.emulators.control import attach
from greenload.energy.emulators.layout import UNEVEN, Power, PowercapLayout, TruthColumns, core_watts
from greenload.energy.emulators.ledger import Ledger, create_ledger
from greenload.energy.emulators.mount import mount_powercap
from greenload.energy.emulators.powercap import PowercapEmulator
from greenload.energy.emulators.writer import format_uj, process_cpu_s
from greenload.errors import MeterError, UsageError

pytestmark = pytest.mark.alone

Burn = Callable[[float], None]


def read_j(root: Path, zone: str) -> float:
    return int((root / zone / "energy_uj").read_text()) / 1e6


def test_the_tree_has_the_kernels_layout(tmp_path: Path) -> None:
    layout = PowercapLayout(packages=("package-0", "package-1"), numbers=(0, 10), psys=True, mmio=True)
    with PowercapEmulator(tmp_path, layout):
        names = {
            zone: (tmp_path / zone / "name").read_text().strip()
            for zone in ("intel-rapl:0", "intel-rapl:a", "intel-rapl:b", "intel-rapl-mmio:a")
        }
        assert names == {
            "intel-rapl:0": "package-0",
            "intel-rapl:a": "package-1",
            "intel-rapl:b": "psys",
            "intel-rapl-mmio:a": "package-1",
        }
        assert (tmp_path / "intel-rapl" / "intel-rapl:0" / "intel-rapl:0:1" / "name").read_text() == "dram\n"


def test_idle_and_busy_watts_are_what_the_layout_says(tmp_path: Path, burn: Burn) -> None:
    with PowercapEmulator(tmp_path, PowercapLayout(), Power(idle_w=10.0, busy_core_w=20.0)) as machine:
        for work_s in (0.0, 0.4):
            start, wall, cpu = read_j(tmp_path, "intel-rapl:0"), time.monotonic(), time.process_time()
            burn(work_s)
            time.sleep(0.4 - work_s)
            wall, cpu = time.monotonic() - wall, time.process_time() - cpu
            joules = read_j(tmp_path, "intel-rapl:0") - start
            assert joules == pytest.approx(10.0 * wall + 20.0 * cpu, rel=0.05)
        assert machine.true_energy_j("cpu:package-0") == pytest.approx(read_j(tmp_path, "intel-rapl:0"), rel=0.03)


def test_work_is_split_between_packages(tmp_path: Path) -> None:
    layout = PowercapLayout(packages=("package-0", "package-1"))
    with PowercapEmulator(tmp_path, layout, Power(idle_w=0.0)) as machine:
        start_ns = time.monotonic_ns()
        sum(range(500_000))
        end_ns = time.monotonic_ns()
        first, second = (machine.true_between(start_ns, end_ns, f"cpu:package-{n}") for n in (0, 1))
        assert first == pytest.approx(second) and first > 0


def test_wrap_and_reset(tmp_path: Path) -> None:
    with PowercapEmulator(tmp_path, PowercapLayout(wrap_j=100.0, start_j=99.8)) as machine:
        time.sleep(0.1)
        assert read_j(tmp_path, "intel-rapl:0") < 50
        machine.reset()
        assert read_j(tmp_path, "intel-rapl:0") < 1
        assert machine.true_energy_j("cpu:package-0") > 0.9


def test_it_stops_and_its_files_stay(tmp_path: Path) -> None:
    with PowercapEmulator(tmp_path):
        pass
    value = read_j(tmp_path, "intel-rapl:0")
    time.sleep(0.02)
    assert read_j(tmp_path, "intel-rapl:0") == value


def test_each_domain_has_its_own_range_and_start(tmp_path: Path) -> None:
    layout = PowercapLayout(wrap_j={"dram:package-0": 65712.999613}, start_j={"cpu:package-0": 500.0})
    with PowercapEmulator(tmp_path, layout) as machine:
        ranges = {
            zone: (tmp_path / zone / "max_energy_range_uj").read_text() for zone in ("intel-rapl:0", "intel-rapl:0:1")
        }
        assert ranges == {"intel-rapl:0": "262143328850\n", "intel-rapl:0:1": "65712999613\n"}
        machine.true_energy_j("cpu:package-0")
        assert read_j(tmp_path, "intel-rapl:0") > 500 > 400 > read_j(tmp_path, "intel-rapl:0:1")
    with pytest.raises(UsageError, match="package-7"):
        PowercapLayout(wrap_j={"cpu:package-7": 1.0})


def test_further_cores_add_less_and_heavier_work_draws_more() -> None:
    one, two, four = (sum(core_watts(UNEVEN, [cores, 0.0, 0.0, 0.0])) for cores in (1.0, 2.0, 4.0))
    assert two - one < one and (four - two) / 2 < two - one
    assert sum(core_watts(UNEVEN, [0.01, 0, 0, 0])) / 0.01 == pytest.approx(
        UNEVEN.wake_w + UNEVEN.busy_core_w, rel=0.01
    )
    parsing, vector = UNEVEN.kinds.index("parsing"), UNEVEN.kinds.index("vector")
    cores = [1.0 if index in (parsing, vector) else 0.0 for index in range(len(UNEVEN.kinds))]
    by_kind = core_watts(UNEVEN, cores)
    woken = UNEVEN.wake_w / 2
    assert by_kind[vector] - woken == pytest.approx(2 * (by_kind[parsing] - woken))


def test_psys_is_the_sum_of_the_parts_and_the_platform() -> None:
    layout = PowercapLayout(packages=("package-0", "package-1"), dram=("package-1",), psys=True)
    columns = TruthColumns.of(layout, UNEVEN)
    rows = columns.joules(2.0, [0.5, 1.0, 0.0, 0.2], [0.0, 1e9, 0.0, 0.0])
    total = {name: sum(rows[i * columns.width : (i + 1) * columns.width]) for i, name in enumerate(columns.names)}
    parts = sum(total[domain] for domain in layout.domains)
    assert total["cpu:psys"] == pytest.approx(parts + 2.0 * 5.0)
    assert total["dram:package-1"] == pytest.approx(2 * 2.0 + 1e9 * UNEVEN.dram_j_per_byte / 2)


def test_native_code_notes_work_where_the_ledger_says(tmp_path: Path) -> None:
    create_ledger(tmp_path / "ledger", ["parsing", "vector"])
    ledger = Ledger(tmp_path / "ledger")
    count = ctypes.c_uint64.from_address(ledger.address("vector"))
    assert ledger.address("vector") == ctypes.addressof(count) != ledger.address("parsing")
    count.value += 3_000_000
    found = {kind: (cpu_s, moved) for _, kind, cpu_s, moved in Ledger(tmp_path / "ledger").read()}
    assert found == {"vector": (3e-3, 0), "parsing": (0.0, 0)}


def work_in_ledger(ledger: Ledger, kind: str, cpu_s: float) -> None:
    end = time.thread_time() + cpu_s
    noted = time.thread_time()
    while noted < end:
        sum(range(5000))
        now = time.thread_time()
        ledger.add(kind, now - noted, 10_000)
        noted = now


def test_before_the_start_there_is_no_truth(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="once the machine has started"):
        PowercapEmulator(tmp_path).true_energy_j("cpu:package-0")


def test_it_ends_though_a_forked_child_lives_and_not_by_that_child(tmp_path: Path) -> None:
    machine = PowercapEmulator(tmp_path).start()
    ready, done = os.pipe()
    if (child := os.fork()) == 0:
        try:
            machine.stop()  # the parent's to stop
            os.write(done, b".")
            time.sleep(60)
        finally:
            os._exit(0)
    try:
        os.read(ready, 1)
        assert machine.true_energy_j("cpu:package-0") > 0
        machine._order("tick")
        stopping = threading.Thread(target=machine.stop, daemon=True)
        stopping.start()
        stopping.join(20)
        assert not stopping.is_alive(), "it waits for the child"
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(done)


def test_the_ledger_adds_up_over_threads_and_forks(tmp_path: Path) -> None:
    create_ledger(tmp_path / "ledger", ["parsing", "vector"])
    ledger = Ledger(tmp_path / "ledger")

    def note() -> None:
        for _ in range(2000):
            ledger.add("parsing", 1e-3, 1)

    threads = [threading.Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            note()
            os._exit(0)
        children.append(child)
    for thread in threads:
        thread.join()
    for child in children:
        os.waitpid(child, 0)
    found = Ledger(tmp_path / "ledger").read()
    assert len({pid for pid, *_ in found}) == 4
    assert sum(cpu_s for _, _, cpu_s, _ in found) == pytest.approx(7 * 2.0)
    assert sum(moved for *_, moved in found) == 7 * 2000
    with pytest.raises(UsageError, match="reading"):
        ledger.add("reading", 1.0)


def test_the_truth_tells_kinds_of_work_apart(tmp_path: Path) -> None:
    power = Power(idle_w=10.0, busy_core_w=20.0, weights={"other": 1.0, "parsing": 1.0, "vector": 3.0})
    with PowercapEmulator(tmp_path, PowercapLayout(), power) as machine:
        start_ns = time.monotonic_ns()
        work_in_ledger(machine.ledger, "parsing", 0.1)
        work_in_ledger(machine.ledger, "vector", 0.2)
        end_ns = time.monotonic_ns()
        machine.true_energy_j("cpu:package-0")
        used = {kind: cpu_s for _, kind, cpu_s, _ in machine.ledger.read()}
        by_kind = {
            kind: machine.true_between(start_ns, end_ns, "cpu:package-0", kind) for kind in ("idle", *power.kinds)
        }
    whole = machine.true_between(start_ns, end_ns, "cpu:package-0")
    assert sum(by_kind.values()) == pytest.approx(whole)
    assert by_kind["idle"] == pytest.approx(10.0 * (end_ns - start_ns) / 1e9)
    assert by_kind["parsing"] == pytest.approx(20.0 * used["parsing"], rel=0.05)
    assert by_kind["vector"] == pytest.approx(3 * 20.0 * used["vector"], rel=0.05)
    assert by_kind["other"] < 0.3
    with pytest.raises(UsageError, match="kind must be"):
        machine.true_between(start_ns, end_ns, "cpu:package-0", "reading")
    with pytest.raises(UsageError, match="the truth is known"):
        machine.true_between(start_ns, end_ns + 10**12, "cpu:package-0")


def test_power_that_lags_loses_no_joules(tmp_path: Path) -> None:
    """Once the load has ended for a while, all of it was counted."""
    with PowercapEmulator(tmp_path, PowercapLayout(), Power(lag_s=0.01)) as machine:
        work_in_ledger(machine.ledger, "other", 0.3)
        time.sleep(0.15)
        joules = machine.true_energy_j("core:package-0")
        cpu_s = sum(slot[2] for slot in machine.ledger.read())
    assert joules == pytest.approx(20.0 * cpu_s, rel=0.1)


def test_a_neighbours_work_is_of_its_own_kind(tmp_path: Path) -> None:
    power = Power(weights={"other": 1.0, "neighbour": 2.0})
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.readline()\nwhile True: pass"], stdin=subprocess.PIPE
    )
    try:
        with PowercapEmulator(tmp_path, PowercapLayout(), power, pids=()) as machine:
            machine.watch(child.pid, "neighbour")
            before_s = process_cpu_s(child.pid, 0.0)
            assert child.stdin is not None
            child.stdin.write(b"go\n")
            child.stdin.flush()
            deadline = time.monotonic() + 20
            while process_cpu_s(child.pid, 0.0) - before_s < 0.2 and time.monotonic() < deadline:
                time.sleep(0.01)
            joules = machine.true_energy_j("core:package-0", "neighbour")
            cpu_s = process_cpu_s(child.pid, 0.0) - before_s
            assert joules == pytest.approx(2 * 20.0 * cpu_s, rel=0.1)
            assert machine.true_energy_j("core:package-0") == pytest.approx(joules, rel=0.1)
    finally:
        child.kill()
        child.communicate()


def test_counters_may_be_noisy_and_slow_and_the_truth_is_neither(tmp_path: Path) -> None:
    with PowercapEmulator(tmp_path, PowercapLayout(), Power(noise=0.3, refresh_s=0.05)) as machine:
        seen = set()
        start_ns = time.monotonic_ns()
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            seen.add(read_j(tmp_path, "intel-rapl:0:1"))
            time.sleep(0.001)
        end_ns = time.monotonic_ns()
        true = machine.true_energy_j("dram:package-0", "idle")
        shown = read_j(tmp_path, "intel-rapl:0:1")
        watts = machine.true_between(start_ns, end_ns, "dram:package-0", "idle") / (end_ns - start_ns) * 1e9
    assert 2 <= len(seen) <= 12
    assert watts == pytest.approx(2.0)
    assert shown != pytest.approx(true, rel=1e-4) and shown == pytest.approx(true, rel=0.2)


def test_the_counters_obey(tmp_path: Path) -> None:
    """Each order hits the counters that it names, and no others."""
    layout = PowercapLayout(packages=("package-0", "package-1"), mmio=True, start_j=300.0)
    with PowercapEmulator(tmp_path, layout) as machine:
        machine.jump(200000.0, "cpu:package-0")
        assert read_j(tmp_path, "intel-rapl:0") > 199999 < read_j(tmp_path, "intel-rapl-mmio:0")
        machine.reset("intel-rapl:1")
        assert read_j(tmp_path, "intel-rapl:1") < 10 < 290 < read_j(tmp_path, "intel-rapl-mmio:1")
        machine.freeze("dram:package-0")
        stood = read_j(tmp_path, "intel-rapl:0:1")
        time.sleep(0.02)
        assert machine.true_energy_j("dram:package-0") > 0
        assert read_j(tmp_path, "intel-rapl:0:1") == stood
        machine.thaw()
        assert read_j(tmp_path, "intel-rapl:0:1") > stood
        machine.deny("cpu:package-1")
        assert (tmp_path / "intel-rapl:1" / "energy_uj").stat().st_mode & 0o777 == 0
        machine.allow()
        assert (tmp_path / "intel-rapl:1" / "energy_uj").stat().st_mode & 0o444 == 0o444
        held = (tmp_path / "intel-rapl:1" / "energy_uj").open()
        number = os.fstat(held.fileno()).st_ino
        machine.offline("package-1")
        assert not list(tmp_path.glob("**/*:1/energy_uj")) or list(tmp_path.glob("intel-rapl*:0:1"))
        assert not (tmp_path / "intel-rapl:1").exists() and held.read() == ""
        machine.online("package-1", start_j=7.0)
        assert 7 <= read_j(tmp_path, "intel-rapl:1") < 12
        assert (tmp_path / "intel-rapl:1" / "energy_uj").stat().st_ino != number
        held.close()
        with pytest.raises(MeterError, match="package-9"):
            machine.offline("package-9")
        with pytest.raises(UsageError, match="kind"):
            machine.watch(os.getpid(), "reading")


def test_mirrored_dies_show_one_counter(tmp_path: Path) -> None:
    layout = PowercapLayout(packages=("package-0-die-0", "package-0-die-1"), dram=False, mirrored=True)
    with PowercapEmulator(tmp_path, layout) as machine:
        start_ns = time.monotonic_ns()
        time.sleep(0.02)
        span = (start_ns, time.monotonic_ns())
        first, second = (machine.true_between(*span, f"cpu:package-0-die-{die}") for die in (0, 1))
        assert first == second > 0.1
        assert layout.domains == ("cpu:package-0-die-0",)
        machine.stop()
        assert read_j(tmp_path, "intel-rapl:0") == read_j(tmp_path, "intel-rapl:1")


def test_another_program_may_attach_and_the_truth_outlives_the_machine(tmp_path: Path) -> None:
    with PowercapEmulator(tmp_path / "powercap", state=tmp_path / "state") as machine:
        other = attach(tmp_path / "state")
        other.reset()
        assert other.domains == machine.domains == ("cpu:package-0", "core:package-0", "dram:package-0")
    assert attach(tmp_path / "state").true_energy_j("cpu:package-0") == machine.true_energy_j("cpu:package-0") > 0
    with pytest.raises(MeterError, match="only while it runs"):
        other.reset()
    with pytest.raises(MeterError, match="keeps its state"):
        attach(tmp_path)


def test_its_own_folder_goes_with_it_but_not_with_a_fork(tmp_path: Path) -> None:
    machine = PowercapEmulator(tmp_path)
    child = os.fork()
    if child == 0:
        machine._remove()
        os._exit(0)
    os.waitpid(child, 0)
    state = machine.state
    assert state.is_dir()
    del machine
    gc.collect()
    assert not state.exists()


def test_misuse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="zone number"):
        PowercapLayout(packages=("package-0",), numbers=(1, 2))
    with pytest.raises(UsageError, match="start_j"):
        PowercapLayout(wrap_j=1.0, start_j=2.0)
    machine = PowercapEmulator(tmp_path)
    with pytest.raises(MeterError, match="while it runs"):
        machine.reset()
    with pytest.raises(UsageError, match="weigh them"):
        PowercapEmulator(tmp_path, pids={os.getpid(): "vector"})
    with pytest.raises(UsageError, match="not negative"):
        Power(idle_w=-1.0)
    with pytest.raises(UsageError, match="'other'"):
        Power(weights={"parsing": 1.0})
    with pytest.raises(MeterError, match="gpu:0"):
        machine.true_energy_j("gpu:0")


def test_a_counters_text_keeps_its_length() -> None:
    assert {len(format_uj(value, 262143.3)) for value in (0.0, 1.0, 262143.2)} == {13}


def test_a_process_that_ended_has_no_clock() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert process_cpu_s(child.pid, -1.0) == -1.0
    assert process_cpu_s(os.getpid(), -1.0) == pytest.approx(time.process_time(), abs=0.01)


def test_the_real_sysfs_is_never_covered() -> None:
    with pytest.raises(MeterError, match="unshare"):
        mount_powercap()


CHECK = """
import json, logging, os, threading, time, warnings
warnings.simplefilter("error")
from greenload.energy.meters.discover import discover
from greenload.energy.sampler import Sampler

meters, statuses = discover()
rapl = meters[0]
assert not logging.getLogger().handlers, "pyRAPL's import left a log handler behind"
with Sampler(meters) as sampler:
    start = sampler.mark()
    end_s = time.perf_counter() + 0.3
    while time.perf_counter() < end_s:
        sum(range(500))
    window = sampler.window(start, sampler.mark())
    expected_j = 10.0 * window.wall_ns / 1e9 + 20.0 * window.cpu_s

    torn = []
    def hammer():
        last = 0.0
        for _ in range(300):
            now = rapl.read().counter_j["cpu:package-0"]
            if now < last:
                torn.append((last, now))
            last = now
    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()

    read_end, write_end = os.pipe()
    before = rapl._through_pyrapl._sensor
    child = os.fork()
    if child == 0:
        rapl.read()
        os.write(write_end, b"same" if rapl._through_pyrapl._sensor is before else b"rebuilt")
        os._exit(0)
    os.waitpid(child, 0)
    print(json.dumps({
        "reader": rapl.reader,
        "usable": {s.domain: s.reason for s in statuses if s.usable and s.meter == "rapl"},
        "joules": window.energy_j["cpu:package-0"], "expected": expected_j, "dram": window.energy_j["dram:package-0"],
        "torn": torn, "fork": os.read(read_end, 20).decode(),
    }))
"""


@pytest.mark.skipif(not private_mounts(), reason="needs root and a private mount namespace (unshare -m)")
def test_pyrapl_reads_the_emulator_at_its_fixed_path(tmp_path: Path) -> None:
    """pyRAPL, unmodified, under /sys/class/powercap: figures, threads, a fork, and a quiet import."""
    pytest.importorskip("pyRAPL")
    command = [
        "unshare",
        "-m",
        sys.executable,
        "-m",
        "greenload.energy.emulators.powercap",
        sys.executable,
        "-c",
        CHECK,
    ]
    root = Path(__file__).parents[2]
    # An empty bytecode cache: pyRAPL's invalid escape is warned of only when it is compiled.
    environ = {**os.environ, "PYTHONPATH": str(root), "PYTHONPYCACHEPREFIX": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environ)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["reader"] == "pyRAPL"
    assert "pyRAPL" in found["usable"]["cpu:package-0"]
    assert found["joules"] == pytest.approx(found["expected"], rel=0.05)
    assert 0 < found["dram"] < found["joules"]
    assert found["torn"] == []
    assert found["fork"] == "rebuilt"
