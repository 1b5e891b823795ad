"""One emulated machine of the cross-checks: ``unshare -m python -m bench.crosscheck_machine TASK.json``.

Its counters are at the real path, in a private mount namespace. Every tool runs in a process of its own, told when to
begin and to end; what each says is written with the emulator's joules between the moments at which that tool read.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import crosscheck_worker
from greenload.energy.emulators.layout import PowercapLayout
from greenload.energy.emulators.mount import mount_powercap
from greenload.energy.emulators.powercap import PowercapEmulator

WATTS = 30.0
"""What the emulated machine draws while one core is busy: to place a wrap in a window, roughly is enough."""
_LARGE = bytes(1 << 20)


class Worker:
    """A tool's process."""

    def __init__(self, tool: str, python: str) -> None:
        self.tool = tool
        self._process = subprocess.Popen(
            [python, crosscheck_worker.__file__, tool],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def tell(self, line: str) -> None:
        """Say ``begin`` or ``end``."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The next line that it says; an error where it ended without."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"error": f"ended with status {self._process.wait()}"}

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()


@contextmanager
def workers(pythons: dict[str, str]) -> Iterator[list[Worker]]:
    """All tools, each in its own process."""
    started = [Worker(tool, python) for tool, python in pythons.items()]
    try:
        yield started
    finally:
        for worker in started:
            worker.stop()


def burn(seconds: float) -> None:
    """Work for some seconds: the machine's joules follow it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        hashlib.sha256(_LARGE).digest()


def burn_to_wrap(counter: Path, most_s: float) -> None:
    """Work until the counter has fallen.

    Raises:
        TimeoutError: it didn't.
    """
    before, end = -1, time.monotonic() + most_s
    while time.monotonic() < end:
        now = int(counter.read_text())
        if now < before:
            return
        before = now
        burn(0.002)
    raise TimeoutError(f"the counter was to wrap within {most_s} s, and stands at {before} µJ")


def run(task: dict[str, Any]) -> dict[str, Any]:
    """One window of a case, by tool: version, answer, and the least and most joules that it can have seen."""
    case, window_s = task["case"], task["window_s"]
    layout = PowercapLayout(
        packages=tuple(case["packages"]),
        numbers=None if case["numbers"] is None else tuple(case["numbers"]),
        psys=case["psys"],
        mmio=case["mmio"],
        mirrored=case["mirrored"],
    )
    root = mount_powercap()
    with PowercapEmulator(root, layout) as machine:
        link = root / "intel-rapl" / "subsystem"
        if not link.is_symlink():
            link.symlink_to("..")  # the kernel's link from a device to its class, where CodeCarbon looks
        domains = [domain for domain in layout.domains if domain.startswith("cpu:")]
        counter = root / "intel-rapl" / f"intel-rapl:{layout.zone_numbers[0]:x}" / "energy_uj"
        ahead_j = {"wrap": WATTS * window_s / 2, "wrap, then end": WATTS * window_s, "wrap, then begin": WATTS * 1.5}

        with workers(task["tools"]) as started:
            greetings = {worker.tool: worker.answer() for worker in started}
            ready = [worker for worker in started if "version" in greetings[worker.tool]]
            able = [worker for worker in ready if "error" not in greetings[worker.tool]]
            event = case["event"]
            if event in ahead_j:
                machine.jump(int(counter.with_name("max_energy_range_uj").read_text()) / 1e6 - ahead_j[event])
            burn(0.2)
            if event == "wrap, then begin":
                burn_to_wrap(counter, 60.0)
            begun = exchange(able, "begin")
            if event == "wrap, then end":
                burn_to_wrap(counter, 60.0)
            else:
                if event == "wrap":
                    burn_to_wrap(counter, 60.0)
                else:
                    burn(window_s / 2)
                if event == "reset":
                    machine.reset()
                burn(window_s / 2)
            ended = exchange(able, "end")
            burn(0.05)

        def truth_j(tool: str) -> list[float]:
            (a, b), (c, d) = begun[tool]["edge_ns"], ended[tool]["edge_ns"]
            return [sum(machine.true_between(*edges, domain) for domain in domains) for edges in ((b, c), (a, d))]

        found = {}
        for worker in ready:
            tool, version = worker.tool, greetings[worker.tool]["version"]
            answers = [one for one in (greetings[tool], begun.get(tool), ended.get(tool)) if one is not None]
            failed = next((one for one in answers if "error" in one), None)
            if failed is not None:
                found[tool] = {"version": version, "answer": failed, "truth_j": whole(machine, domains, begun, ended)}
            else:
                found[tool] = {"version": version, "answer": ended[tool], "truth_j": truth_j(tool)}
    return found


def exchange(able: list[Worker], line: str) -> dict[str, dict[str, Any]]:
    """Tell all tools the same, then hear what each answers."""
    for worker in able:
        worker.tell(line)
    return {worker.tool: worker.answer() for worker in able}


def whole(
    machine: PowercapEmulator, domains: list[str], begun: dict[str, dict[str, Any]], ended: dict[str, dict[str, Any]]
) -> list[float]:
    """The window's joules as the other tools could see them at most: for a tool that failed."""
    starts = [one["edge_ns"][0] for one in begun.values() if "edge_ns" in one]
    ends = [one["edge_ns"][1] for one in ended.values() if "edge_ns" in one]
    if not starts or not ends:
        return [0.0, 0.0]
    joules = sum(machine.true_between(min(starts), max(ends), domain) for domain in domains)
    return [joules, joules]


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text())
    Path(job["out"]).write_text(json.dumps(run(job)))
