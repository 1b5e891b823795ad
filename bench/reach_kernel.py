"""The native kernel by itself: how long building it takes, what its own clocks see, and what they cost.

It is built twice in a scratch folder, as ``make setup`` does: as it is, and with a clock that stands still and costs
nothing to read. Both run the same images in turns, in one thread.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.contest import Row, Spread
from bench.native import SIDE, kernel_params
from bench.processes import output_of
from greenload.backends.native import library
from greenload.backends.native.abi import Flag, KernelStep, Op
from greenload.backends.native.library import Program

BUILD_REACH_S, SUM_LEAST, OVERHEAD_REACH = 30.0, 0.97, 0.01
IMAGES = 256
STANDING_CLOCK = """
#include <time.h>
static inline int standing_clock(clockid_t, timespec* time) { time->tv_sec = time->tv_nsec = 0; return 0; }
#define clock_gettime standing_clock
"""


@dataclass(frozen=True)
class Build:
    """The kernel built once, whole."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Turn:
    """The same images through the kernel with its clocks, then or before with standing ones."""

    clocks_cpu_s: float
    standing_cpu_s: float
    thread_cpu_s: float
    """Of the thread, around the run with clocks, by its own CPU clock."""
    steps_cpu_s: float
    """The sum of what the kernel's clocks saw of its steps meanwhile."""


def built(folder: Path, standing: bool) -> Build:
    """Build the kernel into a folder.

    Raises:
        ProcessFailed: it can't be built.
    """
    folder.mkdir(parents=True)
    environment = os.environ | {"GREENLOAD_KERNEL": "required"}
    if standing:
        header = folder / "standing_clock.h"
        header.write_text(STANDING_CLOCK)
        environment["CPPFLAGS"] = f"-include {header}"
    places = ["--build-lib", str(folder), "--build-temp", str(folder / "objects")]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output_of([sys.executable, "setup.py", "-q", "build_ext", *places], environment)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Build(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


@contextmanager
def _kernel_of(folder: Path) -> Iterator[None]:
    """Uses the kernel in a folder instead of the package's."""
    own_folder, own_loaded = library.FOLDER, library.loaded
    found = folder / "greenload" / "backends" / "native"
    try:
        library.FOLDER = found
        loaded = own_loaded.__wrapped__()
        library.loaded = lambda: loaded
        yield
    finally:
        library.FOLDER, library.loaded = own_folder, own_loaded


def run(paths: Sequence[str], rounds: int) -> tuple[list[Build], list[Turn]]:
    """Build both, and run them in turns.

    Raises:
        ProcessFailed: it can't be built here.
    """
    files = [Path(path).read_bytes() for path in paths[:IMAGES]]
    headers = library.probe(files, True, 1 << 30)
    files = [file for file, header in zip(files, headers, strict=True) if header[0]]
    params = kernel_params(headers[headers[:, 0] == 1, 1:])
    with tempfile.TemporaryDirectory() as scratch:
        own, standing = Path(scratch) / "own", Path(scratch) / "standing"
        builds = [built(own, standing=False)]
        built(standing, standing=True)
        return builds, _turns(own, standing, files, params, rounds)


def _turns(own: Path, standing: Path, files: list[bytes], params: Any, rounds: int) -> list[Turn]:
    steps = [
        KernelStep(Op.DECODE, Flag.WINDOW, 0),
        KernelStep(Op.RESIZE, height=SIDE, width=SIDE),
        KernelStep(Op.FLIP, column=4),
    ]
    batch = np.ones((len(files), SIDE, SIDE, 3), np.uint8)
    programs = {}
    for folder in (own, standing):
        with _kernel_of(folder):
            programs[folder] = Program(steps, params.shape[1])
            programs[folder].run(files, params, batch)

    def spent(folder: Path) -> tuple[float, float, float]:
        with _kernel_of(folder):
            before = sum(step.nanoseconds for step in programs[folder].counters()[:-1])
            thread, cpu = time.thread_time(), time.process_time()
            programs[folder].run(files, params, batch)
            thread, cpu = time.thread_time() - thread, time.process_time() - cpu
            seen = sum(step.nanoseconds for step in programs[folder].counters()[:-1]) - before
        return cpu, thread, seen / 1e9

    turns = []
    for k in range(rounds):
        order = (own, standing) if k % 2 else (standing, own)
        found = {folder: spent(folder) for folder in order}
        turns.append(Turn(found[own][0], found[standing][0], *found[own][1:]))
    return turns


def rows(builds: Sequence[Build], turns: Sequence[Turn]) -> list[Row]:
    """What was asked of the kernel, and what was measured."""
    shares = [turn.steps_cpu_s / turn.thread_cpu_s for turn in turns]
    overheads = [turn.clocks_cpu_s / turn.standing_cpu_s - 1 for turn in turns]
    return [
        Row("own clocks: sum of steps over the thread's CPU time", "×", Spread.of(shares), least=SUM_LEAST),
        Row("own clocks: CPU time added, against clocks that stand still", "", Spread.of(overheads), OVERHEAD_REACH),
        Row("make setup: longer by", "s", Spread.of([build.wall_s for build in builds]), BUILD_REACH_S),
        Row("make setup: CPU time of it", "s", Spread.of([build.cpu_s for build in builds])),
    ]
