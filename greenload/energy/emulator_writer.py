"""The subprocess of the powercap emulator that writes its counters. Standard library only: it is run as a file."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import Any

PERIOD_S = 0.002


def process_cpu_s(pid: int, otherwise: float) -> float:
    """CPU seconds of any process, to the nanosecond; ``otherwise`` once it has ended.

    The clock's number is what ``clock_getcpuclockid(3)`` gives on Linux: the complement of the process id, shifted
    by three bits, with 2 (the scheduler's clock) in the lowest.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return otherwise


def format_uj(energy_j: float, wrap_j: float) -> str:
    """A counter's text in microjoules, of one length for all values: it is overwritten in place under its readers."""
    return f"{int(energy_j * 1e6):0{len(str(int(wrap_j * 1e6)))}d}\n"


def run(job: dict[str, Any]) -> None:
    """Write all counters every 2 ms until standard input ends; ``r`` on it sets them to 0."""
    # One open file each, overwritten in place: a reader that keeps its handle (pyRAPL) must see the new value.
    files = [os.open(os.path.join(job["root"], zone["folder"], "energy_uj"), os.O_WRONLY) for zone in job["zones"]]
    origin_cpu_s = {int(pid): float(cpu_s) for pid, cpu_s in job["origin_cpu_s"].items()}
    latest = dict(origin_cpu_s)
    wrap_j = float(job["wrap_j"])
    offset_j = [-float(job["start_j"])] * len(files)

    def write(*, reset: bool = False) -> None:
        elapsed_s = time.monotonic() - job["origin_s"]
        for pid in latest:
            latest[pid] = process_cpu_s(pid, latest[pid])
        cpu_s = sum(latest[pid] - origin_cpu_s[pid] for pid in latest)
        for index, (file, zone) in enumerate(zip(files, job["zones"], strict=True)):
            energy_j = zone["idle_w"] * elapsed_s + zone["busy_core_w"] * cpu_s
            if reset:
                offset_j[index] = energy_j
            os.pwrite(file, format_uj((energy_j - offset_j[index]) % wrap_j, wrap_j).encode(), 0)

    write()
    os.write(1, b"ready\n")
    while True:
        readable, _, _ = select.select([0], [], [], PERIOD_S)
        if not readable:
            write()
        elif os.read(0, 1):
            write(reset=True)
            os.write(1, b"reset\n")
        else:
            return


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
