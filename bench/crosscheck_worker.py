"""One tool that reads energy counters, in a process of its own: ``python crosscheck_worker.py TOOL``.

Run as a file by the interpreter that has the tool, so it imports the standard library and that tool only. It answers
each line on standard input (``begin``, ``end``) by one line of JSON with the monotonic nanoseconds around its reading.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any, Protocol

J_PER_KWH = 3.6e6


class Tool(Protocol):
    """Opens a window and closes it."""

    def begin(self) -> None:
        """Start a window."""
        ...

    def end(self) -> tuple[dict[str, float | None], str]:
        """Joules of the window by what the tool calls its part, None where it gives none; and what it says of it."""
        ...


class Zeus:
    """``ZeusMonitor`` on every CPU it finds, as its documentation shows. A window before the first starts its tracker
    of wraps, which is a process that takes about a second."""

    def __init__(self) -> None:
        from zeus.monitor import ZeusMonitor

        self._monitor = ZeusMonitor(gpu_indices=[])
        self._monitor.begin_window("first")
        time.sleep(3.0)
        self._monitor.end_window("first")

    def begin(self) -> None:
        self._monitor.begin_window("window")

    def end(self) -> tuple[dict[str, float | None], str]:
        found = self._monitor.end_window("window")
        joules: dict[str, float | None] = {f"cpu {key}": value for key, value in (found.cpu_energy or {}).items()}
        joules |= {f"dram {key}": value for key, value in (found.dram_energy or {}).items()}
        return joules, ""


class CodeCarbon:
    """``OfflineEmissionsTracker``, measuring every second, writing nothing. One tracker has one window."""

    def __init__(self) -> None:
        from codecarbon import OfflineEmissionsTracker

        self.read_ns: list[int] | None = None
        self._make = lambda: OfflineEmissionsTracker(
            country_iso_code="FRA",
            measure_power_secs=1,
            save_to_file=False,
            allow_multiple_runs=True,
            log_level="error",
        )
        self._tracker = self._ready()

    def _ready(self) -> Any:
        tracker = self._make()
        # Looks for the hardware, which otherwise start() does, some seconds inside the window.
        getattr(tracker, "_ensure_hardware_ready", lambda: None)()
        for part in tracker._hardware:
            if hasattr(part, "_intel_interface"):
                self._time(part._intel_interface)
        return tracker

    def _time(self, interface: Any) -> None:
        """Note when counters are read: stop() reads them first, then works for up to seconds."""
        read = interface.get_cpu_details

        def timed(*arguments: Any) -> Any:
            before = time.monotonic_ns()
            found = read(*arguments)
            self.read_ns = [before, time.monotonic_ns()]
            return found

        interface.get_cpu_details = timed

    def begin(self) -> None:
        self._tracker.start()
        self.read_ns = None  # those of start() are within its own time

    def end(self) -> tuple[dict[str, float | None], str]:
        self._tracker.stop()
        found = self._tracker.final_emissions_data
        mode = next((getattr(part, "_mode", "") for part in self._tracker._hardware if hasattr(part, "_mode")), "")
        self._tracker = self._ready()
        said = "" if mode == "intel_rapl" else f"no counter read: mode {mode}"
        return {"cpu": found.cpu_energy * J_PER_KWH if mode == "intel_rapl" else None}, said


class PyRAPL:
    """``pyRAPL.Measurement``, whose results are microjoules."""

    def __init__(self) -> None:
        import pyRAPL

        try:
            pyRAPL.setup()
        except pyRAPL.PyRAPLCantRecordEnergyConsumption:
            pyRAPL.setup(devices=[pyRAPL.Device.PKG])
        self._measurement = pyRAPL.Measurement("window")

    def begin(self) -> None:
        self._measurement.begin()

    def end(self) -> tuple[dict[str, float | None], str]:
        self._measurement.end()
        found = self._measurement.result
        joules: dict[str, float | None] = {}
        for kind, values in (("cpu", found.pkg), ("dram", found.dram)):
            if values is None:
                joules[kind] = None
            else:
                joules |= {f"{kind} {socket}": value / 1e6 for socket, value in enumerate(values)}
        return joules, ""


class Greenload:
    """``gl.measure`` with the meters that it finds."""

    def __init__(self) -> None:
        import greenload as gl

        self._measure = gl.measure
        with gl.measure():  # imports what it needs
            pass
        self._open: Any = None

    def begin(self) -> None:
        self._open = self._measure()
        self._window = self._open.__enter__()

    def end(self) -> tuple[dict[str, float | None], str]:
        self._open.__exit__(None, None, None)
        window = self._window
        joules: dict[str, float | None] = {
            name: figure.value for name, figure in window.energy_j.items() if figure.provenance == "measured"
        }
        void = {name: why for name, why in window.void.items() if window.provenance.get(name) == "measured"}
        return joules | dict.fromkeys(void), "; ".join(f"{name} void: {why}" for name, why in void.items())


TOOLS: dict[str, tuple[str, Callable[[], Tool]]] = {
    "greenload": ("greenload", Greenload),
    "Zeus": ("zeus", Zeus),
    "CodeCarbon": ("codecarbon", CodeCarbon),
    "pyRAPL": ("pyRAPL", PyRAPL),
}
"""By name: its distribution, and how to make it."""


def _answer(data: dict[str, Any]) -> None:
    os.write(_OUT, (json.dumps(data) + "\n").encode())


def main(name: str) -> None:
    """Serve one tool until standard input ends."""
    package, make = TOOLS[name]
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    try:
        version = metadata.version(package)
        tool = make()
    except metadata.PackageNotFoundError:
        _answer({"missing": True})
        return
    except Exception as error:  # whatever a tool raises is its answer
        _answer({"version": version, "error": _said(error)})
        return
    _answer({"version": version})
    for line in sys.stdin:
        edge_ns = [time.monotonic_ns()] * 2
        found: dict[str, Any] = {}
        try:
            if line.strip() == "begin":
                tool.begin()
                edge_ns[1] = time.monotonic_ns()
            else:
                found["joules"], found["said"] = tool.end()
                edge_ns = getattr(tool, "read_ns", None) or [edge_ns[0], time.monotonic_ns()]
        except Exception as error:  # what a tool raises while it reads is an answer as well
            found["error"] = _said(error)
        _answer({"edge_ns": edge_ns, **found})


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


if __name__ == "__main__":
    # What a tool prints goes elsewhere: standard output carries the answers. Zeus starts a process that imports this
    # file again, so nothing runs outside this block.
    _OUT = os.dup(1)
    os.dup2(2, 1)
    main(sys.argv[1])
