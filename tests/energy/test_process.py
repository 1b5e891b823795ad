"""CPU seconds, memory and bytes of this process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from greenload.energy.process import Clocks, ProcessMeter, read_clocks, suspended_s


def test_busy_threads_and_ended_children_count(burn: Callable[[float], None]) -> None:
    meter = ProcessMeter()
    before, own = meter.read(), time.process_time()
    burn(0.1)
    own = time.process_time() - own
    between = meter.read()
    assert between.cpu_s - before.cpu_s == pytest.approx(own, abs=0.01)
    work = "import time\nwhile time.process_time() < 0.15: sum(range(100))"
    subprocess.run([sys.executable, "-I", "-S", "-c", work], check=True)
    assert meter.read().cpu_s - between.cpu_s > 0.14


def test_the_machine_is_at_least_as_busy_as_this_process(burn: Callable[[float], None]) -> None:
    meter = ProcessMeter()
    before = meter.read()
    burn(0.3)
    after = meter.read()
    assert after.machine_cpu_s - before.machine_cpu_s > after.cpu_s - before.cpu_s - 0.05


def test_resident_memory_sees_an_allocation() -> None:
    meter = ProcessMeter()
    before = meter.rss_bytes()
    block = bytearray(os.urandom(1 << 20)) * 64
    assert meter.rss_bytes() - before > 60 << 20
    del block


def test_written_bytes_reach_the_device(tmp_path: Path) -> None:
    meter = ProcessMeter()
    if meter.bytes_source != "process":
        pytest.skip("this process's /proc/self/io can't be read here")
    before = meter.read().device_written_bytes
    path = tmp_path / "block"
    with path.open("wb") as file:
        file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    after = meter.read().device_written_bytes
    assert before is not None and after is not None
    if after == before:
        pytest.skip("the temporary folder lies on no device (a memory file system)")
    assert after - before >= 1 << 20


def test_a_forked_child_reads_itself() -> None:
    meter = ProcessMeter()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write_end, f"{meter.read().cpu_s}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert float(os.read(read_end, 100)) < 1.0 + meter.read().cpu_s


def test_suspend_is_seen_only_where_it_is_certain() -> None:
    awake = Clocks(0, 100, 120)
    assert suspended_s(awake, Clocks(10**9, 90, 5_000_000)) == 0.0
    assert suspended_s(awake, Clocks(10**9, 2 * 10**9, 2 * 10**9)) == pytest.approx(2.0, rel=1e-6)
    clocks = read_clocks()
    assert 0 <= clocks.suspended_high_ns - clocks.suspended_low_ns < 10**9
