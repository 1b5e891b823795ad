"""The powercap emulator, and pyRAPL reading it unmodified at its fixed path."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from greenload.energy.emulator import Layout, PowercapEmulator, mount_powercap
from greenload.energy.emulator_writer import format_uj, process_cpu_s
from greenload.errors import MeterError, UsageError

Burn = Callable[[float], None]


def read_j(root: Path, zone: str) -> float:
    return int((root / zone / "energy_uj").read_text()) / 1e6


def test_the_tree_has_the_kernels_layout(tmp_path: Path) -> None:
    layout = Layout(packages=("package-0", "package-1"), numbers=(0, 10), psys=True, mmio=True)
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
    with PowercapEmulator(tmp_path, Layout(idle_w=10.0, busy_core_w=20.0)) as machine:
        for work_s in (0.0, 0.4):
            start, wall, cpu = read_j(tmp_path, "intel-rapl:0"), time.monotonic(), time.process_time()
            burn(work_s)
            time.sleep(0.4 - work_s)
            wall, cpu = time.monotonic() - wall, time.process_time() - cpu
            joules = read_j(tmp_path, "intel-rapl:0") - start
            assert joules == pytest.approx(10.0 * wall + 20.0 * cpu, rel=0.05)
        assert machine.true_energy_j("cpu:package-0") == pytest.approx(read_j(tmp_path, "intel-rapl:0"), rel=0.03)


def test_work_is_split_between_packages(tmp_path: Path) -> None:
    layout = Layout(packages=("package-0", "package-1"), idle_w=0.0)
    with PowercapEmulator(tmp_path, layout) as machine:
        sum(range(500_000))
        first, second = (machine.true_energy_j(f"cpu:package-{n}") for n in (0, 1))
        assert first == pytest.approx(second, rel=0.05)


def test_wrap_and_reset(tmp_path: Path) -> None:
    with PowercapEmulator(tmp_path, Layout(wrap_j=100.0, start_j=99.8)) as machine:
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


def test_misuse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="zone number"):
        Layout(packages=("package-0",), numbers=(1, 2))
    with pytest.raises(UsageError, match="start_j"):
        Layout(wrap_j=1.0, start_j=2.0)
    machine = PowercapEmulator(tmp_path)
    with pytest.raises(MeterError, match="while it runs"):
        machine.reset()
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


def private_mounts() -> bool:
    """Whether a private mount namespace can be had: root, and the unshare and mount programs."""
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None or shutil.which("mount") is None:
        return False
    program = [unshare, "-m", "mount", "-t", "tmpfs", "none", "/sys/class"]
    return subprocess.run(program, capture_output=True).returncode == 0


CHECK = """
import json, logging, os, threading, time, warnings
warnings.simplefilter("error")
from greenload.energy.discover import discover
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
    command = ["unshare", "-m", sys.executable, "-m", "greenload.energy.emulator", sys.executable, "-c", CHECK]
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
