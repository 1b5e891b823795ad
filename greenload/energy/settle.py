"""Wait until this process is idle, so that a window neither inherits work nor leaves any behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

POLL_S = 0.004
"""Length of a poll, in seconds."""
POLLS = 3
"""How many in a row must be idle."""
IDLE_FRACTION = 0.10
"""CPU seconds per second of wall time below which a poll is idle."""


@dataclass(frozen=True, slots=True)
class Settled:
    """How a process came to rest."""

    idle: bool
    """Whether it did; False means that it was still busy when time was up."""
    quiet_s: float
    """Seconds for which it had been idle when this was found, to half a poll; 0 where it wasn't."""


def threads_at_work(tasks: str = "/proc/self/task") -> bool:
    """Whether a thread of this process, other than the caller, runs, waits for a core, or waits for a device.

    By its state in ``/proc/self/task/*/stat`` (proc_pid_stat(5)): R or D. False where the system doesn't tell. Takes
    0.35 ms of CPU time with some eighty threads.
    """
    own = str(threading.get_native_id())
    try:
        threads = os.listdir(tasks)
    except OSError:
        return False
    for thread in threads:
        if thread == own:
            continue
        try:
            with open(f"{tasks}/{thread}/stat", "rb") as file:
                text = file.read()
        except OSError:
            continue  # it has ended
        if text[text.rfind(b")") + 2 :][:1] in (b"R", b"D"):
            return True
    return False


def settle(
    max_s: float = 1.0,
    *,
    cpu_s: Callable[[], float] = time.process_time,
    wall_s: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    at_work: Callable[[], bool] = threads_at_work,
) -> Settled:
    """Wait for three polls of 4 ms in a row in which this process used less than 10 % of one core.

    Buffers that fill after a pipeline starts, and threads that finish after it stops, would otherwise be billed to the
    wrong window. Threads that wait for a device, or that other processes keep off every core, use no CPU time either:
    so at the end none may be running or waiting for those. Takes 12–25 ms where the process is already idle.

    Args:
        max_s: give up after this many seconds.
        cpu_s: clock of the process's CPU seconds.
        wall_s: clock of wall seconds.
        sleep: waits that many seconds.
        at_work: whether a thread still has something to do.

    Returns:
        Whether it did, and since when.
    """
    deadline = wall_s() + max_s
    quiet = 0
    last_wall, last_cpu = wall_s(), cpu_s()
    since = last_wall
    while quiet < POLLS:
        if last_wall >= deadline:
            return Settled(False, 0.0)
        sleep(POLL_S)
        now_wall, now_cpu = wall_s(), cpu_s()
        busy = now_cpu - last_cpu >= IDLE_FRACTION * (now_wall - last_wall)
        quiet = 0 if busy else quiet + 1
        if quiet == POLLS and at_work():
            quiet, since = 0, now_wall
        elif busy:
            since = (last_wall + now_wall) / 2  # it ended somewhere in this poll, if no other is busy
        last_wall, last_cpu = now_wall, now_cpu
    return Settled(True, last_wall - since)
