"""One profile on an emulated machine: the command of ``unshare -m python -m greenload.energy.emulators.powercap``.

Everything is the real path: ``gl.profile`` finds the counters under ``/sys/class/powercap``, pyRAPL included. Beside
the report it writes what the emulator knows of each window of the held-out run, which the profile never sees.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported

from bench import burning
from bench.truth_steps import IDLE, NEIGHBOUR
from greenload.energy.attribution import precision
from greenload.energy.emulators.control import EmulatedMachine, attach
from greenload.energy.sampler import Sampler, Window
from greenload.profiling import profile, windows
from greenload.report.data import Report


def watch_windows() -> list[int]:
    """When windows started, from now on, in monotonic nanoseconds: a report only tells it from its first window on."""
    starts: list[int] = []

    def seen(found: Window) -> Window:
        starts.append(found.start_ns)
        return found

    change_windows(seen)
    return starts


def change_windows(change: Callable[[Window], Window]) -> None:
    """Change every window that samplers give in this process from now on: a bench's process profiles once."""
    original = Sampler.window

    def window(self: Sampler, *marks: Any, **options: Any) -> Window:
        return change(original(self, *marks, **options))

    Sampler.window = window  # type: ignore[method-assign] # there is no other place before a report


@contextmanager
def everyone(machine: EmulatedMachine) -> Iterator[None]:
    """Let all other programs of the machine draw watts too, as neighbours: a profile sees their CPU seconds.

    New ones are looked for five times a second.
    """
    known = {str(os.getpid())}
    over = threading.Event()

    def look() -> None:
        while True:
            for entry in os.listdir("/proc"):
                if entry.isdigit() and entry not in known:
                    known.add(entry)
                    with suppress(OSError):
                        if Path("/proc", entry, "cmdline").read_bytes():  # the kernel's own threads have none
                            machine.watch(int(entry), NEIGHBOUR)
            if over.wait(0.2):
                return

    look_out = threading.Thread(target=look, name="everyone", daemon=True)
    look_out.start()
    try:
        yield
    finally:
        over.set()
        look_out.join()


def main(path: str) -> None:
    """Profile as the task says, and write report and truth."""
    task = json.loads(Path(path).read_text())
    machine = attach()
    starts = watch_windows()
    import greenload as gl

    os.environ[burning.UNIT_VARIABLE] = str(task["unit_s"])
    pipeline = burning.pipeline(samples=task["samples"], batch=task["batch"])
    beside: AbstractContextManager[Any] = burning.Neighbour() if task["neighbour"] else nullcontext()
    options = {} if task["precision"] is None else {"precision": task["precision"]}
    if task["rounds"] is not None:
        options["rounds"] = task["rounds"]
    precision.WINDOW_S = windows.WINDOW_S = task["window_s"]
    profile.TRIED = 0  # changes that might pay are no part of the figures
    with everyone(machine), beside:
        began = time.monotonic()
        report = gl.profile(pipeline, "tf", name="burning", **options)
        wall_s = time.monotonic() - began
    found = {"report": report.to_dict(), "wall_s": wall_s, "truths": truths(report, machine, starts)}
    Path(task["out"]).write_text(json.dumps(found | {"kinds": kinds_of(report)}))


def kinds_of(report: Report) -> dict[str, str]:
    """The kind of work of each step that burns: the pipeline's functions have rows in their order."""
    names = [step.name for step in report.steps if step.stages == ("Apply",)]
    return dict(zip(names, (step.name for step in burning.STEPS), strict=True))


def truths(report: Report, machine: EmulatedMachine, starts: list[int]) -> list[dict[str, Any]]:
    """What the emulator knows of each sound window, in the shape of ``bench.truth_steps.Truth``.

    Args:
        report: the profile.
        machine: the emulated machine, still running.
        starts: when the sampler's windows started, in monotonic nanoseconds, the report's first window first.
    """
    domains = [domain for domain in machine.domains if domain in report.total.energy_j_per_sample]
    known = set(starts)
    found = []
    for window in report.windows:
        if window.kind == "idle" or window.void or window.start_ns is None:
            continue
        start = starts[0] + window.start_ns
        end = start + window.wall_ns
        if start not in known:
            raise RuntimeError(f"a report's windows must be the sampler's, but none of its {len(starts)} began then")
        found.append(
            {
                "step": window.step,
                "kind": window.kind,
                "build": window.build,
                "samples": window.samples,
                "worked": window.work_ns / window.wall_ns,
                "counted_j": {domain: window.energy_j[domain] for domain in domains},
                "true_j": {
                    domain: {kind: machine.true_between(start, end, domain, kind) for kind in (IDLE, *machine.kinds)}
                    for domain in domains
                },
            }
        )
    return found


if __name__ == "__main__":
    main(sys.argv[1])
