"""One contestant, in an interpreter that has its library: ``python -m bench.peers.worker TASK.json``.

It answers one line of JSON a line. When it starts: ``{"ready": true, "versions": {…}}``, or ``{"error": "…"}``, and it
ends. ``look COUNT`` gives what its batches are, ``run COUNT`` what a window of so many images took. All that libraries
print goes to the standard error. Of greenload only ``greenload.energy.settle`` is imported, which needs no package.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from bench.by_hand import Workload
from bench.peers import roster
from greenload.energy.settle import settle, threads_at_work

AHEAD = 8
"""Batches that pass before the clock of wall time starts: as many as were held ready, or more."""
SETTLE_S = 15.0
"""Seconds up to which a window waits for the contestant to rest: on a busy machine queues take that long to fill."""
NICE_ERROR = 300
"""Characters of an error that are passed on."""


@dataclass(frozen=True)
class Task:
    """What a contestant has to do."""

    group: str
    """One of ``roster.GROUPS``."""
    work: Workload
    scratch: str
    """A folder for what it keeps on disk; removed afterwards."""


def cpu_s() -> float:
    """CPU seconds of this process and of its descendants, those that have ended included. Linux only."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = sum(_clock_s(child) for child in _descendants(os.getpid()))
    return time.process_time() + ended.ru_utime + ended.ru_stime + living


def at_work() -> bool:
    """Whether a thread of this process or of a descendant runs or waits for a core; the caller doesn't count."""
    return threads_at_work() or any(threads_at_work(f"/proc/{child}/task") for child in _descendants(os.getpid()))


def _clock_s(process: int) -> float:
    """Another process's CPU clock, its ended threads included, by the number that clock_getcpuclockid(3) gives."""
    try:
        return time.clock_gettime((~process << 3) | 2)
    except OSError:
        return 0.0  # it has just ended, and is in the usage of ended children


def _descendants(process: int) -> list[int]:
    found = []
    for thread in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = [int(child) for child in thread.read_text().split()]
        except OSError:
            continue  # the thread has ended
        for child in children:
            found += [child, *_descendants(child)]
    return found


def look(batches: Iterator[Any], images: int) -> dict[str, Any]:
    """Shape and dtype of batches, mean and standard deviation of their values, and how sharp they are.

    ``detail`` is the mean absolute difference of neighbours in a row: antialiasing makes it smaller.
    """
    means, squares, details, seen = [], [], [], 0
    while seen < images:
        batch = np.asarray(next(batches))
        channels_first = batch.shape[1] == 3
        shown = batch.transpose(0, 2, 3, 1) if channels_first else batch
        values = shown.astype(np.float32)
        means.append(float(values.mean(dtype=np.float64)))
        squares.append(float(np.square(values).mean(dtype=np.float64)))
        details.append(float(np.abs(np.diff(values, axis=2)).mean(dtype=np.float64)))
        seen += len(batch)
    mean = float(np.mean(means))
    return {
        "shape": list(shown.shape),
        "dtype": str(batch.dtype),
        "channels_first": channels_first,
        "mean": mean,
        "std": float(np.sqrt(np.mean(squares) - mean**2)),
        "detail": float(np.mean(details)),
    }


def window(batches: Iterator[Any], images: int) -> dict[str, Any]:
    """What passing ``images`` images takes, from rest to rest, after ``AHEAD`` batches whose CPU time counts too."""
    before = settle(SETTLE_S, cpu_s=cpu_s, at_work=at_work)
    cpu = cpu_s()
    ahead = sum(len(next(batches)) for _ in range(AHEAD))
    wall, passed = time.perf_counter(), 0
    while passed < images:
        passed += len(next(batches))
    wall = time.perf_counter() - wall
    after = settle(SETTLE_S, cpu_s=cpu_s, at_work=at_work)  # what was held ready is held ready again
    return {
        "images": ahead + passed,
        "cpu_s": cpu_s() - cpu,
        "paced_images": passed,
        "wall_s": wall,
        "settled": before.idle and after.idle,
    }


def made(contestant: roster.Contestant, task: Task) -> Iterator[Any]:
    """A contestant's batches."""
    module, _, function = contestant.batches.partition(":")
    batches: Iterator[Any] = getattr(importlib.import_module(f"bench.peers.{module}"), function)(task)
    return batches


def start(task_file: str) -> tuple[Iterator[Any], dict[str, str]]:
    """The batches that a task file asks for, and the versions of what makes them."""
    asked = json.loads(Path(task_file).read_text())
    contestant = roster.named(asked["contestant"])
    work = {key: tuple(value) if isinstance(value, list) else value for key, value in asked["work"].items()}
    batches = made(contestant, Task(asked["group"], Workload(**work), asked["scratch"]))
    for _ in range(2 * len(work["paths"]) // work["batch"]):
        next(batches)
    return batches, {name: metadata.version(name) for name in contestant.distributions}


def serve(task_file: str, questions: TextIO, answers: TextIO) -> None:
    """Answer until the questions end."""

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        batches, versions = start(task_file)
    except Exception as error:  # whatever a peer's library raises is the answer
        text = " ".join(str(error).split()) or "no message"
        say({"error": f"{type(error).__name__}: {text}"[:NICE_ERROR]})
        return
    say({"ready": True, "versions": versions})
    ask = {"look": look, "run": window}
    for line in questions:
        what, _, count = line.partition(" ")
        say(ask[what](batches, int(count)))


if __name__ == "__main__":
    # What a library prints must not stand among the answers.
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.argv[1], sys.stdin, own)
    # Workers and threads of libraries would else be waited for, some for long.
    own.flush()
    os._exit(0)
