"""A powercap emulator: a folder of RAPL files that count real CPU time. The fake that ships with the meters.

It needs no RAPL hardware: counters in the real layout advance with the CPU seconds of a process, so a meter can be held
against joules that are known. A subprocess writes the files about every 2 ms, so a busy interpreter doesn't delay them.

Run as a module it shows its folder to a command in place of the machine's own, in a private mount namespace (as root)::

    unshare -m python -m greenload.energy.emulator greenload doctor
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from greenload.energy import emulator_writer
from greenload.errors import MeterError, UsageError

SYSFS_CLASS = Path("/sys/class")


@dataclass(frozen=True, slots=True)
class Layout:
    """What the emulated machine looks like and draws.

    Each package draws ``idle_w`` plus its share of ``busy_core_w`` for each busy core of the watched processes; the
    work is split evenly between packages. Memory likewise.
    """

    packages: Sequence[str] = ("package-0",)
    """Names of the package zones; ``package-0-die-1`` for a multi-die one."""
    numbers: Sequence[int] | None = None
    """Their zone numbers, shown in hexadecimal; 0, 1, … if None. Gaps are allowed: ``(0, 10)`` gives ``:0``, ``:a``."""
    dram: bool = True
    """Whether each package has a nested ``dram`` zone, after a ``core`` zone."""
    psys: bool = False
    """Whether there is a ``psys`` zone with the sum of all, after the packages."""
    mmio: bool = False
    """Whether ``intel-rapl-mmio`` repeats the packages."""
    idle_w: float = 10.0
    """Watts of an idle package."""
    busy_core_w: float = 20.0
    """Watts that a busy core adds."""
    dram_idle_w: float = 2.0
    """Watts of a package's idle memory."""
    dram_busy_core_w: float = 1.0
    """Watts that a busy core adds in memory."""
    wrap_j: float = 262143.328850
    """``max_energy_range_uj`` in joules; the default is a server's."""
    start_j: float = 0.0
    """Where counters start, in joules: near ``wrap_j`` to see a wrap soon."""

    def __post_init__(self) -> None:
        numbers = self.zone_numbers
        if not self.packages or len(numbers) != len(self.packages) or len(set(numbers)) != len(numbers):
            raise UsageError(
                f"a layout needs one distinct zone number for each package, got {len(self.packages)} packages and "
                f"numbers {tuple(numbers)}: leave numbers out for 0, 1, …"
            )
        if not 0 <= self.start_j < self.wrap_j:
            raise UsageError(f"start_j must be in [0, {self.wrap_j}), got {self.start_j}: choose a smaller one")

    @property
    def zone_numbers(self) -> Sequence[int]:
        """Zone number of each package."""
        return tuple(range(len(self.packages))) if self.numbers is None else tuple(self.numbers)


@dataclass(frozen=True, slots=True)
class _Zone:
    """A folder of the tree and its power: joules = idle_w · seconds + busy_core_w · CPU seconds."""

    folder: str
    name: str
    idle_w: float
    busy_core_w: float


def _zones(layout: Layout) -> list[_Zone]:
    share = 1 / len(layout.packages)
    busy_w, dram_busy_w = layout.busy_core_w * share, layout.dram_busy_core_w * share
    zones: list[_Zone] = []
    for control in ("intel-rapl", "intel-rapl-mmio") if layout.mmio else ("intel-rapl",):
        for number, name in zip(layout.zone_numbers, layout.packages, strict=True):
            zone = f"{control}:{number:x}"
            zones.append(_Zone(f"{control}/{zone}", name, layout.idle_w, busy_w))
            zones.append(_Zone(f"{control}/{zone}/{zone}:0", "core", 0.0, busy_w))
            if layout.dram:
                zones.append(_Zone(f"{control}/{zone}/{zone}:1", "dram", layout.dram_idle_w, dram_busy_w))
    if layout.psys:
        zone = f"intel-rapl:{max(layout.zone_numbers) + 1:x}"
        count = len(layout.packages)
        idle_w = count * (layout.idle_w + (layout.dram_idle_w if layout.dram else 0.0)) + 5.0
        zones.append(_Zone(f"intel-rapl/{zone}", "psys", idle_w, layout.busy_core_w + layout.dram_busy_core_w))
    return zones


class PowercapEmulator:
    """Keeps a powercap folder whose counters advance with the CPU time of processes. A context manager.

    Args:
        root: the folder to fill, as ``/sys/class/powercap``; created if missing.
        layout: the machine.
        pids: processes whose CPU time counts; this one if None.

    Raises:
        MeterError: the writing subprocess doesn't start.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder, PowercapEmulator(Path(folder)) as machine:
        ...     machine.true_energy_j("cpu:package-0") > 0
        True
    """

    def __init__(self, root: Path, layout: Layout | None = None, pids: Iterable[int] | None = None) -> None:
        self.root = root
        self.layout = layout if layout is not None else Layout()
        self.pids = tuple(pids) if pids is not None else (os.getpid(),)
        self._zones = _zones(self.layout)
        self._origin_s = 0.0
        self._origin_cpu_s: dict[int, float] = {}
        self._writer: subprocess.Popen[bytes] | None = None

    def start(self, *, inheritable: bool = False) -> PowercapEmulator:
        """Fill the folder and start counting.

        Args:
            inheritable: keep counting when this process is replaced by another program (``exec``).
        """
        self._origin_s = time.monotonic()
        self._origin_cpu_s = {pid: emulator_writer.process_cpu_s(pid, 0.0) for pid in self.pids}
        self._make_tree()
        job = {
            "root": str(self.root),
            "zones": [asdict(zone) for zone in self._zones],
            "wrap_j": self.layout.wrap_j,
            "start_j": self.layout.start_j,
            "origin_s": self._origin_s,
            "origin_cpu_s": {str(pid): cpu_s for pid, cpu_s in self._origin_cpu_s.items()},
        }
        # The writer imports the standard library only and is run as a file: it starts in some 30 ms.
        self._writer = subprocess.Popen(
            [sys.executable, "-I", "-S", emulator_writer.__file__, json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._writer.stdin is not None and self._writer.stdout is not None
        if inheritable:
            os.set_inheritable(self._writer.stdin.fileno(), True)
        if self._writer.stdout.readline() != b"ready\n":
            raise MeterError("the emulator's writer must start, but it ended at once: see its error above")
        return self

    def _make_tree(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        for zone in self._zones:
            folder = self.root / zone.folder
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "name").write_text(f"{zone.name}\n")
            (folder / "max_energy_range_uj").write_text(f"{self.layout.wrap_j * 1e6:.0f}\n")
            (folder / "energy_uj").write_text(emulator_writer.format_uj(self.layout.start_j, self.layout.wrap_j))
            link = self.root / folder.name
            if not link.is_symlink():
                link.symlink_to(zone.folder)

    def true_energy_j(self, domain: str) -> float:
        """Joules of a domain since the start, now: what a perfect counter would show, with no wrap and no reset.

        Args:
            domain: ``cpu:package-0``, ``dram:package-0``, or ``cpu:psys``.

        Raises:
            MeterError: the layout has no such domain.
        """
        zone = self._find(domain)
        cpu_s = sum(emulator_writer.process_cpu_s(pid, start) - start for pid, start in self._origin_cpu_s.items())
        return zone.idle_w * (time.monotonic() - self._origin_s) + zone.busy_core_w * cpu_s

    def _find(self, domain: str) -> _Zone:
        kind, _, name = domain.partition(":")
        for zone in self._zones:
            if kind == "cpu" and zone.name == name:
                return zone
            if kind == "dram" and zone.name == "dram":
                parent = Path(zone.folder).parent
                if any(z.folder == str(parent) and z.name == name for z in self._zones):
                    return zone
        raise MeterError(f"no zone of the emulated machine is {domain!r}: it has {', '.join(self.layout.packages)}")

    def reset(self) -> None:
        """Set all counters to 0, as a firmware update or a driver reload does. :meth:`true_energy_j` goes on."""
        if self._writer is None or self._writer.stdin is None or self._writer.stdout is None:
            raise MeterError("an emulator can be reset only while it runs: use it in a with statement")
        self._writer.stdin.write(b"r")
        self._writer.stdin.flush()
        self._writer.stdout.readline()

    def stop(self) -> None:
        """Stop counting. The files stay as they are."""
        if self._writer is not None:
            self._writer.communicate()
            self._writer = None

    def __enter__(self) -> PowercapEmulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def mount_powercap() -> Path:
    """Cover ``/sys/class`` by a folder with the other classes linked back in, and give its empty ``powercap``.

    For a private mount namespace only (``unshare -m``): elsewhere it would hide the machine's counters from everyone.

    Raises:
        MeterError: this process shares its mounts with its parent, or may not mount.
    """
    try:
        # The parent's namespace, not the first process's: that one may be out of sight even for root.
        shared = os.readlink("/proc/self/ns/mnt") == os.readlink(f"/proc/{os.getppid()}/ns/mnt")
    except OSError as error:
        raise MeterError(
            f"covering /sys/class needs a mount namespace known to be private, and {error}: run it as root, "
            "directly under unshare -m"
        ) from error
    if shared:
        raise MeterError(
            "covering /sys/class needs a private mount namespace, and this process shares its parent's: run it as "
            "root, directly under unshare -m"
        )
    kept = Path(tempfile.mkdtemp(prefix="greenload-sys-class-"))
    _run("mount", "--bind", str(SYSFS_CLASS), str(kept))
    _run("mount", "-t", "tmpfs", "none", str(SYSFS_CLASS))
    for entry in kept.iterdir():
        if entry.name == "powercap" or not entry.is_dir():
            continue
        (SYSFS_CLASS / entry.name).mkdir()
        # Class entries are relative links (../../devices/…): they hold only at their own place.
        for link in (item for item in entry.iterdir() if item.is_symlink()):
            (SYSFS_CLASS / entry.name / link.name).symlink_to(os.readlink(link))
    _run("umount", str(kept))
    kept.rmdir()
    root = SYSFS_CLASS / "powercap"
    root.mkdir()
    return root


def _run(name: str, *arguments: str) -> None:
    program = shutil.which(name)
    if program is None:
        raise MeterError(f"covering /sys/class needs the program {name}, which isn't in PATH: install util-linux")
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise MeterError(
            f"{name} {' '.join(arguments)} failed: {done.stderr.strip()}: run as root, directly under unshare -m"
        )


def socket_names(cpu_root: Path = Path("/sys/devices/system/cpu")) -> list[str]:
    """Package zones that fit the machine's own sockets, as ``["package-0"]``: pyRAPL compares the two."""
    ids = {
        int((entry / "topology" / "physical_package_id").read_text())
        for entry in cpu_root.iterdir()
        if re.fullmatch(r"cpu\d+", entry.name) and (entry / "topology" / "physical_package_id").exists()
    }
    return [f"package-{number}" for number in sorted(ids)] or ["package-0"]


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Replace this process by a command that sees emulated counters, which count the command's CPU time."""
    if not arguments:
        print("usage: unshare -m python -m greenload.energy.emulator COMMAND [ARGUMENT ...]", file=sys.stderr)
        return 2
    try:
        emulator = PowercapEmulator(mount_powercap(), Layout(packages=socket_names()))
        emulator.start(inheritable=True)
    except MeterError as error:
        print(error, file=sys.stderr)
        return 1
    os.execvpe(arguments[0], list(arguments), dict(environ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
