"""The subprocess of the powercap emulator: it keeps the zones' files, the truth, and a socket for orders.

Standard library only, and run without site-packages: it starts in some 30 ms and its ticks are cheap (0.1 ms).
"""

from __future__ import annotations

import json
import math
import os
import random
import select
import shutil
import socket
import struct
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from greenload.energy.emulators.layout import EmulatedZone, Power, TruthColumns
from greenload.energy.emulators.ledger import Ledger
from greenload.errors import MeterError

TICK_S = 0.002
"""Time between ticks, in seconds."""
UNIT_J = 2.0**-14
"""A counter's smallest step: 61.04 µJ, most processors' energy status unit (Intel SDM vol. 3B, "RAPL Interfaces")."""


def process_cpu_s(pid: int, otherwise: float) -> float:
    """CPU seconds of any process; ``otherwise`` once it has ended. A running thread's are up to a kernel tick late.

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


class ZoneFile:
    """One zone's folder and its counter.

    Args:
        root: the class folder.
        zone: what it looks like.
        index: the column that it shows.
    """

    def __init__(self, root: Path, zone: EmulatedZone, index: int) -> None:
        self.zone = zone
        self.index = index
        self.folder = root / zone.folder
        self.link = root / zone.zone_id
        self.offset_j = -zone.start_j
        self.frozen = False
        self._file: int | None = None
        self._kept: list[int] = []

    @property
    def online(self) -> bool:
        """Whether the folder is there."""
        return self._file is not None

    def appear(self) -> None:
        """Make the folder, as when the driver registers the zone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "name").write_text(f"{self.zone.name}\n")
        (self.folder / "max_energy_range_uj").write_text(f"{self.zone.wrap_j * 1e6:.0f}\n")
        # One open file, overwritten in place: a reader that keeps its handle (pyRAPL) must see the new value.
        self._file = os.open(self.folder / "energy_uj", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        if not self.link.is_symlink():
            self.link.symlink_to(self.zone.folder)

    def vanish(self) -> None:
        """Remove the folder, as when the last CPU of its package goes offline."""
        if self._file is None:
            return
        # Emptied and kept open: who holds a handle reads nothing, and the file that returns has another number.
        os.ftruncate(self._file, 0)
        self._kept.append(self._file)
        self._file = None
        self.link.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, total_j: float) -> None:
        """Show a column's joules, unless the zone is frozen or gone."""
        if self._file is not None and not self.frozen:
            shown_j = (total_j - self.offset_j) // UNIT_J * UNIT_J % self.zone.wrap_j
            os.pwrite(self._file, format_uj(shown_j, self.zone.wrap_j).encode(), 0)

    def allow(self, allowed: bool) -> None:
        """Let other users than root read the counter, or not."""
        if self._file is not None:
            os.fchmod(self._file, 0o644 if allowed else 0)


class MachineWriter:
    """The emulated machine: it advances with each tick, and takes orders.

    Args:
        root: the class folder, which exists.
        zones: its zones.
        columns: what is kept, and the power model.
        pids: processes whose CPU time counts, each with the kind of what isn't in the ledger.
        ledger: where work notes what it has used.
        truth: file that the truth is appended to: nanoseconds, then each column's row of cumulative joules.
    """

    def __init__(
        self,
        root: Path,
        zones: list[EmulatedZone],
        columns: TruthColumns,
        pids: Mapping[int, str],
        ledger: Ledger,
        truth: Path,
    ) -> None:
        self.columns = columns
        self.zones = [ZoneFile(root, zone, columns.names.index(zone.column)) for zone in zones]
        self._kinds = list(columns.power.kinds)
        self._kind_of = dict(pids)
        self._origin_s = {pid: process_cpu_s(pid, 0.0) for pid in pids}
        self._cpu_s = dict(self._origin_s)
        self._unnoted_s = dict.fromkeys(pids, 0.0)
        self._ledger = ledger
        self._truth = os.open(truth, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._row = struct.Struct(f"<q{len(columns.names) * columns.width}d")
        self._joules = [0.0] * (len(columns.names) * columns.width)
        self._counted_j = [0.0] * len(columns.names)
        self._used = ([0.0] * len(self._kinds), [0.0] * len(self._kinds))
        self._cores = [0.0] * len(self._kinds)
        self._last_ns = time.monotonic_ns()
        self._shown_ns = 0
        self._random = random.Random(0)
        for zone in self.zones:
            zone.appear()
        self._used = self._read_use()
        self._keep()

    def _read_use(self) -> tuple[list[float], list[float]]:
        """CPU seconds and bytes moved so far, by kind."""
        cpu_s, moved = [0.0] * len(self._kinds), [0.0] * len(self._kinds)
        noted_s: dict[int, float] = {}
        # First the processes, then the ledger: so no CPU second is taken for nobody's because it is noted in between.
        for pid, last in self._cpu_s.items():
            self._cpu_s[pid] = process_cpu_s(pid, last)
        for pid, kind, slot_s, slot_bytes in self._ledger.read():
            index = self._kinds.index(kind)
            cpu_s[index] += slot_s
            moved[index] += slot_bytes
            noted_s[pid] = noted_s.get(pid, 0.0) + slot_s
        for pid, origin in self._origin_s.items():
            unnoted = self._cpu_s[pid] - origin - noted_s.get(pid, 0.0)
            # Never less than before: work under way is noted up to a millisecond after its process's clock shows it.
            self._unnoted_s[pid] = max(self._unnoted_s[pid], unnoted)
            cpu_s[self._kinds.index(self._kind_of[pid])] += self._unnoted_s[pid]
        return cpu_s, moved

    def tick(self, *, show: bool = False) -> None:
        """Advance to now. ``show``: write the counters even if their refresh isn't due."""
        power = self.columns.power
        now_ns = time.monotonic_ns()
        cpu_s, moved = self._read_use()
        seconds = (now_ns - self._last_ns) / 1e9
        if seconds <= 0:
            return
        share = 1.0 if power.lag_s <= 0 else -math.expm1(-seconds / power.lag_s)
        for index, (now, before) in enumerate(zip(cpu_s, self._used[0], strict=True)):
            self._cores[index] += share * ((now - before) / seconds - self._cores[index])
        moved_now = [now - before for now, before in zip(moved, self._used[1], strict=True)]
        added = self.columns.joules(seconds, self._cores, moved_now)
        self._joules = [total + joules for total, joules in zip(self._joules, added, strict=True)]
        width = self.columns.width
        for index in range(len(self._counted_j)):
            noise = max(0.0, 1 + self._random.gauss(0.0, power.noise)) if power.noise else 1.0
            self._counted_j[index] += sum(added[index * width : (index + 1) * width]) * noise
        self._used = (cpu_s, moved)
        self._last_ns = now_ns
        self._keep(show=show)

    def _keep(self, *, show: bool = False) -> None:
        os.write(self._truth, self._row.pack(self._last_ns, *self._joules))
        if show or self._last_ns - self._shown_ns >= self.columns.power.refresh_s * 1e9:
            self._shown_ns = self._last_ns
            for zone in self.zones:
                zone.write(self._counted_j[zone.index])

    def obey(self, order: Mapping[str, Any]) -> None:
        """Carry out an order of :class:`greenload.energy.emulators.control.EmulatedMachine`."""
        self.tick(show=True)
        name = order["order"]
        if name == "watch":
            pid = int(order["pid"])
            self._kind_of[pid] = order["kind"]
            self._origin_s[pid] = self._cpu_s[pid] = process_cpu_s(pid, 0.0)
            self._origin_s[pid] -= sum(slot[2] for slot in self._ledger.read() if slot[0] == pid)
            self._unnoted_s[pid] = 0.0
        elif name != "tick":
            which = order["which"]
            for zone in self.zones:
                if which in (None, zone.zone.domain, zone.zone.zone_id, zone.zone.package):
                    self._change(zone, order)
        self._keep(show=True)

    def _change(self, zone: ZoneFile, order: Mapping[str, Any]) -> None:
        match order["order"]:
            case "freeze":
                zone.frozen = bool(order["on"])
            case "allow":
                zone.allow(bool(order["on"]))
            case "offline":
                zone.vanish()
            case "online" if zone.online:
                pass
            case "jump" | "online" as name:
                zone.offset_j = self._counted_j[zone.index] - float(order["to_j"])
                if name == "online":
                    zone.appear()
            case name:
                raise KeyError(name)


def _answer(listener: socket.socket, machine: MachineWriter) -> None:
    """Take one order, and say what went wrong, or nothing."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(1.0)
        try:
            order = json.loads(connection.makefile("rb").readline())
            machine.obey(order)
            answer = ""
        except (OSError, ValueError, KeyError, MeterError) as error:
            answer = f"{type(error).__name__}: {error}"
        with suppress(OSError):  # who asked has gone: nobody waits for the answer
            connection.sendall(json.dumps(answer).encode() + b"\n")


def write_counters(job: Mapping[str, Any]) -> None:
    """Advance every 2 ms until standard input ends, or says anything."""
    state = Path(job["state"])
    power = Power(**job["power"])
    zones = [EmulatedZone(**zone) for zone in job["zones"]]
    pids = {int(pid): str(kind) for pid, kind in job["pids"].items()}
    columns = TruthColumns(power, tuple(job["columns"]))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # An abstract name: no file to clean up, and no limit on the folder's length.
    listener.bind("\0" + job["socket"])
    listener.listen(16)
    # A real counter isn't late because the machine is busy; who may not have that priority has a counter that is.
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    machine = MachineWriter(Path(job["root"]), zones, columns, pids, Ledger(state / "ledger.bin"), state / "truth.bin")
    os.write(1, b"ready\n")
    while True:
        readable, _, _ = select.select([0, listener.fileno()], [], [], TICK_S)
        if 0 in readable:
            machine.tick(show=True)
            break
        if readable:
            _answer(listener, machine)
        else:
            machine.tick()
    if not job["keep"]:
        shutil.rmtree(state, ignore_errors=True)


def main() -> None:
    """Run the job whose description is the first argument."""
    write_counters(json.loads(sys.argv[1]))


if __name__ == "__main__":
    main()
