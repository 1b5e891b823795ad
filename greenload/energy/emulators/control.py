"""What a program may do with a running emulated machine: read the truth, note work, and make the counters misbehave."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.energy.emulators.layout import IDLE, OTHER
from greenload.energy.emulators.ledger import Ledger
from greenload.errors import MeterError, UsageError

STATE_VARIABLE = "GREENLOAD_EMULATOR"
"""Environment variable with the state folder of the machine that a command sees."""


class Truth:
    """The log of an emulated machine's joules: what perfect counters would have shown, by kind of work.

    Args:
        path: the file, which may be growing.
        columns: domains, in the log's order.
        kinds: kinds of work, in the log's order.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], kinds: tuple[str, ...]) -> None:
        self._path = path
        self._columns = columns
        self._kinds = (IDLE, *kinds)
        self._row = np.dtype([("time_ns", "<i8"), ("joules", "<f8", (len(columns), len(self._kinds)))])
        self._rows: NDArray[Any] = np.zeros(0, self._row)

    def rows(self) -> NDArray[Any]:
        """All rows written so far: ``time_ns`` int64 (CLOCK_MONOTONIC), ``joules`` float64 [domain, idle and kinds]."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(len(self._rows) * self._row.itemsize)
                content = file.read()
            whole = len(content) // self._row.itemsize * self._row.itemsize
            self._rows = np.concatenate([self._rows, np.frombuffer(content[:whole], self._row)])
        return self._rows

    def span(self) -> tuple[int, int]:
        """First and last time of the log, in nanoseconds of CLOCK_MONOTONIC.

        Raises:
            MeterError: the machine hasn't started.
        """
        rows = self.rows()
        if not len(rows):
            raise MeterError(f"the truth is known once the machine has started, and {self._path} is empty: start it")
        return int(rows["time_ns"][0]), int(rows["time_ns"][-1])

    def between(self, start_ns: int, end_ns: int, domain: str, kind: str | None = None) -> float:
        """Joules of a domain between two times of CLOCK_MONOTONIC, linear between ticks.

        Args:
            start_ns: from when; not before the machine started.
            end_ns: to when; not after the last tick.
            domain: one of the log's.
            kind: a kind of work, or ``idle``; all together if None.

        Raises:
            MeterError: the machine hasn't started.
            UsageError: a time outside of the log, or an unknown kind.
        """
        first, last = self.span()
        rows = self._rows
        if not first <= start_ns <= end_ns <= last:
            raise UsageError(
                f"the truth is known from {first} to {last} ns, got {start_ns} to {end_ns}: use time.monotonic_ns(), "
                "start before end, while the machine runs"
            )
        if kind is not None and kind not in self._kinds:
            raise UsageError(f"kind must be one of {self._kinds}, got {kind!r}: use one of them, or None for all")
        low = int(np.searchsorted(rows["time_ns"], start_ns, "right")) - 1
        high = int(np.searchsorted(rows["time_ns"], end_ns, "left")) + 1
        joules = rows["joules"][low:high, self._columns.index(domain)]
        curve = joules.sum(axis=1) if kind is None else joules[:, self._kinds.index(kind)]
        # Relative to the first time: nanoseconds since boot lose digits as floating-point numbers.
        times = (rows["time_ns"][low:high] - first).astype(np.float64)
        before, after = np.interp([start_ns - first, end_ns - first], times, curve)
        return float(after - before)


class EmulatedMachine:
    """A handle of a machine that runs, or ran, elsewhere: the truth, the ledger, and orders.

    Args:
        state: its state folder.

    Raises:
        MeterError: no machine has started with that folder.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        try:
            job: Mapping[str, Any] = json.loads((state / "machine.json").read_text())
        except (OSError, ValueError) as error:
            raise MeterError(f"an emulated machine keeps its state in a folder, and not in {state}: {error}") from error
        self._job = job
        self._columns = {zone["domain"]: zone["column"] for zone in job["zones"]}
        self.root = Path(job["root"])
        """The class folder that meters read."""
        self.domains: tuple[str, ...] = tuple(self._columns)
        """Domains of the truth; ``core`` is a part of its package, ``psys`` holds them all."""
        self.kinds: tuple[str, ...] = tuple(job["power"]["weights"])
        """Kinds of work."""
        self.ledger = Ledger(state / "ledger.bin")
        """Where work notes what it used."""
        self.truth = Truth(state / "truth.bin", tuple(job["columns"]), self.kinds)
        """The log of true joules."""

    def true_energy_j(self, domain: str, kind: str | None = None) -> float:
        """Joules of a domain since the start, now: what a perfect counter would show, with no wrap and no reset.

        The counters have just been refreshed when it returns. After the end, joules until then.

        Args:
            domain: ``cpu:package-0``, ``dram:package-0``, ``core:package-0`` or ``cpu:psys``.
            kind: a kind of work, or ``idle``; all together if None.

        Raises:
            MeterError: the layout has no such domain, or the machine hasn't started.
        """
        column = self._column(domain)
        self._refresh()
        return self.truth.between(*self.truth.span(), column, kind)

    def true_between(self, start_ns: int, end_ns: int, domain: str, kind: str | None = None) -> float:
        """Joules of a domain between two times of CLOCK_MONOTONIC (``time.monotonic_ns()``), linear between ticks.

        Raises:
            MeterError: the layout has no such domain.
            UsageError: a time before the start, in the future, or after the end; an unknown kind.
        """
        column = self._column(domain)
        self._refresh()
        return self.truth.between(start_ns, end_ns, column, kind)

    def _column(self, domain: str) -> str:
        if domain not in self._columns:
            raise MeterError(f"no zone of the emulated machine is {domain!r}: it has {', '.join(self.domains)}")
        return str(self._columns[domain])

    def _refresh(self) -> None:
        """Advance the log to now, unless the machine has ended: then it is complete."""
        with suppress(MeterError):
            self._order("tick")

    def watch(self, pid: int, kind: str = OTHER) -> None:
        """Count another process's CPU time too, from now on; what it doesn't note in the ledger is of this kind."""
        if kind not in self.kinds:
            raise UsageError(f"kind must be one of {self.kinds}, got {kind!r}: name it in the power model's weights")
        self._order("watch", pid=pid, kind=kind)

    def reset(self, which: str | None = None) -> None:
        """Set counters to 0, as a firmware update or a driver reload does. The truth goes on.

        Args:
            which: a domain, a zone's id, or a package's name; all counters if None. It means the same below.
        """
        self.jump(0.0, which)

    def jump(self, to_j: float, which: str | None = None) -> None:
        """Set counters to a value in joules, as near the end of their range. The truth doesn't count it."""
        self._order("jump", which, to_j=to_j)

    def freeze(self, which: str | None = None) -> None:
        """Let counters stand still."""
        self._order("freeze", which, on=True)

    def thaw(self, which: str | None = None) -> None:
        """Let them show the present joules again."""
        self._order("freeze", which, on=False)

    def deny(self, which: str | None = None) -> None:
        """Take away everybody's right to open counters (which a process of root's has all the same)."""
        self._order("allow", which, on=False)

    def allow(self, which: str | None = None) -> None:
        """Let everybody open counters again."""
        self._order("allow", which, on=True)

    def offline(self, package: str) -> None:
        """Remove a package's zones, as when its last CPU goes offline. The truth goes on."""
        self._order("offline", package)

    def online(self, package: str, start_j: float = 0.0) -> None:
        """Bring a package's zones back, as new ones that start elsewhere."""
        self._order("online", package, to_j=start_j)

    def _order(self, order: str, which: str | None = None, **values: object) -> None:
        names = {zone[key] for zone in self._job["zones"] for key in ("domain", "zone_id", "package")}
        if which is not None and which not in names:
            raise MeterError(f"no zone of the emulated machine is {which!r}: it has {', '.join(sorted(names))}")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(10.0)
                connection.connect("\0" + self._job["socket"])
                connection.sendall(json.dumps({"order": order, "which": which, **values}).encode() + b"\n")
                answer = json.loads(connection.makefile("rb").readline())
        except (OSError, ValueError) as error:
            raise MeterError(
                f"an emulator takes orders only while it runs, and it doesn't: {error}: start it"
            ) from error
        if answer:
            raise MeterError(f"the emulator couldn't {order} {which or 'all'}: {answer}")


def attach(state: Path | None = None) -> EmulatedMachine:
    """The machine that this process sees, or whose state is kept in a folder.

    Args:
        state: its folder; the one in the environment variable ``GREENLOAD_EMULATOR`` if None.

    Raises:
        MeterError: there is none.
    """
    if state is None:
        if STATE_VARIABLE not in os.environ:
            raise MeterError(
                f"the variable {STATE_VARIABLE} names the emulated machine's folder, and it isn't set: run under "
                "python -m greenload.energy.emulators.powercap"
            )
        state = Path(os.environ[STATE_VARIABLE])
    return EmulatedMachine(state)
