"""CPU seconds, memory and bytes of this process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from greenload.energy.meters.proc_files import ProcFile
from greenload.energy.meters.process import Clocks, ProcessMeter, read_clocks, suspended_s

pytestmark = pytest.mark.alone


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


def test_figures_are_those_that_psutil_reads() -> None:
    import psutil

    meter, process = ProcessMeter(), psutil.Process()
    if meter.bytes_source != "process":
        pytest.skip("this process's /proc/self/io can't be read here")
    found, counters, times = meter.read(), process.io_counters(), psutil.cpu_times()
    assert found.device_read_bytes == counters.read_bytes and found.device_written_bytes == counters.write_bytes
    assert found.reads is not None and 0 <= counters.read_count - found.reads < 50
    assert found.rss_bytes == pytest.approx(process.memory_info().rss, abs=8 << 20)
    machine_cpu_s = times.user + times.nice + times.system + times.irq + times.softirq
    assert found.machine_cpu_s == pytest.approx(machine_cpu_s, abs=1.0)


def test_a_file_of_proc_is_read_though_its_number_was_taken(tmp_path: Path) -> None:
    """As after ``os.closerange``, which programs that become daemons call."""
    other = tmp_path / "other"
    other.write_text("something else")
    file = ProcFile("/proc/self/io", b"rchar:")
    assert file.read().startswith(b"rchar:")
    number = file._opened[1]
    os.close(number)
    with other.open() as taken:
        assert taken.fileno() == number
        assert file.read().startswith(b"rchar:") and file._opened[1] != number
    os.close(file._opened[1])
    assert file.read().startswith(b"rchar:")


def test_a_forked_child_reads_itself() -> None:
    meter = ProcessMeter()
    meter.read()  # it has its files open
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        found = meter.read()
        os.write(write_end, f"{found.cpu_s} {found.reads}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    cpu_s, reads = os.read(read_end, 100).split()
    assert float(cpu_s) < 1.0 + meter.read().cpu_s
    assert reads == b"None" or int(reads) < 100


def test_suspend_is_seen_only_where_it_is_certain() -> None:
    awake = Clocks(0, 100, 120)
    assert suspended_s(awake, Clocks(10**9, 90, 5_000_000)) == 0.0
    assert suspended_s(awake, Clocks(10**9, 2 * 10**9, 2 * 10**9)) == pytest.approx(2.0, rel=1e-6)
    clocks = read_clocks()
    assert 0 <= clocks.suspended_high_ns - clocks.suspended_low_ns < 10**9
