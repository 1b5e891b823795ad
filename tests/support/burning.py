"""Processes that watch what burns a known CPU time, and publish it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

BURNING = """
import os, sys, time
from greenload.profiling.in_place import publishing
from greenload.profiling.in_place.watched import Watched, WatchedStep
from greenload.system.work import WorkClock

def burn(clock, seconds):
    with clock.timing():
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

first, second, count = WorkClock(), WorkClock(), 0
watched = Watched(
    "train.py:12",
    (WatchedStep("decode", "map", first.read, "train.py:31"), WatchedStep({name!r}, "filter", second.read)),
    samples=lambda work: float(work["decode"].calls),
    sample_unit="image",
)
publishing.PERIOD_S, publishing.SHARE = 0.1, 1.0
{before}
publishing.publish()
print("ready", flush=True)
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    burn(first, 0.003)
    burn(second, 0.001)
    time.sleep(0.01)
    {during}
{after}
"""
"""Three parts of four are the first step's."""


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Of a process that publishes to a folder, and sees what others publish there alone."""
    return os.environ | {"GREENLOAD_STATUS": str(folder)} | more


@contextmanager
def burning(
    folder: Path,
    seconds: float = 60.0,
    *,
    name: str = "augment",
    before: str = "",
    during: str = "",
    after: str = "",
    **more: str,
) -> Iterator[subprocess.Popen[str]]:
    """A process that burns, from its first status on; killed at the end of the block."""
    code = BURNING.format(name=name, seconds=seconds, before=before, during=during, after=after)
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--epochs", "3"],
        env=environment(folder, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n", process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(met: Callable[[], object]) -> None:
    """Wait until something is so; for a minute at most."""
    end = time.monotonic() + 60
    while not met():
        assert time.monotonic() < end
        time.sleep(0.02)
