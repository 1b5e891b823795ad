"""A powercap emulator: a folder of RAPL files that count real CPU time. The fake that ships with the meters.

It needs no RAPL hardware: counters in the real layout advance with the CPU seconds of processes, through a power model
that no profiler knows, so a meter can be held against joules that are known. A subprocess writes the files about every
2 ms, so a busy interpreter doesn't delay them, and keeps the truth.

Run as a module it shows its folder to a command in place of the machine's own, in a private mount namespace (as root)::

    unshare -m python -m greenload.energy.emulators.powercap greenload doctor
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from greenload.energy.emulators.control import STATE_VARIABLE, EmulatedMachine
from greenload.energy.emulators.layout import OTHER, UNEVEN, Power, PowercapLayout, TruthColumns
from greenload.energy.emulators.ledger import create_ledger
from greenload.energy.emulators.mount import mount_powercap, socket_names
from greenload.errors import GreenloadError, MeterError, UsageError
from greenload.system import json_data

_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from greenload.energy.emulators.writer import main; main()"


class PowercapEmulator(EmulatedMachine):
    """Keeps a powercap folder whose counters advance with the CPU time of processes. A context manager.

    Args:
        root: the folder to fill, as ``/sys/class/powercap``; created if missing.
        layout: the machine's zones.
        power: what it draws.
        pids: processes whose CPU time counts; by process, the kind of work of what isn't in the ledger (``other`` if
            only ids are given). This process if None. Their children aren't counted unless they are watched too.
        state: folder for the truth, the ledger and the machine's description; a temporary one if None.

    Raises:
        MeterError: the writing subprocess doesn't start.
        UsageError: the power model has no such kind of work.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder, PowercapEmulator(Path(folder)) as machine:
        ...     machine.true_energy_j("cpu:package-0") > 0
        True
    """

    def __init__(
        self,
        root: Path,
        layout: PowercapLayout | None = None,
        power: Power | None = None,
        pids: Iterable[int] | Mapping[int, str] | None = None,
        *,
        state: Path | None = None,
    ) -> None:
        self.layout = layout if layout is not None else PowercapLayout()
        self.power = power if power is not None else Power()
        self.pids: dict[int, str] = dict(
            pids if isinstance(pids, Mapping) else dict.fromkeys((os.getpid(),) if pids is None else pids, OTHER)
        )
        unknown = set(self.pids.values()) - set(self.power.kinds)
        if unknown:
            raise UsageError(f"kinds of processes must be among {self.power.kinds}, got {sorted(unknown)}: weigh them")
        self._own_state = state is None
        folder = Path(tempfile.mkdtemp(prefix="greenload-emulator-")) if state is None else state
        folder.mkdir(parents=True, exist_ok=True)
        if state is None:
            self._remove = weakref.finalize(self, _remove_own, folder, os.getpid())
        (folder / "truth.bin").unlink(missing_ok=True)
        create_ledger(folder / "ledger.bin", self.power.kinds)
        job = {
            "root": str(root),
            "state": str(folder),
            "keep": True,
            "socket": f"greenload-emulator-{secrets.token_hex(8)}",
            "zones": [asdict(zone) for zone in self.layout.zones()],
            "columns": TruthColumns.of(self.layout, self.power).names,
            "power": asdict(replace(self.power, weights=dict(self.power.weights))),
            "pids": self.pids,
        }
        (folder / "machine.json").write_text(json.dumps(job))
        super().__init__(folder)
        self._writer: subprocess.Popen[bytes] | None = None
        self._pid = os.getpid()

    def start(self, *, inheritable: bool = False) -> PowercapEmulator:
        """Fill the folder and start counting.

        Args:
            inheritable: keep counting when this process is replaced by another program (``exec``). Nothing cleans up
                after that: the writer removes a temporary state folder when the program ends.
        """
        self._pid = os.getpid()
        self.root.mkdir(parents=True, exist_ok=True)
        job = {**self._job, "keep": not (inheritable and self._own_state)}
        # The writer imports the standard library and this package's own light modules only: it starts in some 30 ms.
        self._writer = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START, str(Path(__file__).parents[3]), json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._writer.stdin is not None and self._writer.stdout is not None
        if inheritable:
            os.set_inheritable(self._writer.stdin.fileno(), True)
        if self._writer.stdout.readline() != b"ready\n":
            raise MeterError("the emulator's writer must start, but it ended at once: see its error above")
        return self

    def stop(self) -> None:
        """Stop counting. The files stay as they are, and the truth can still be asked for. A forked child can't."""
        if self._writer is not None and os.getpid() == self._pid:
            # Said, not only closed: a forked child that still runs has the pipe open too.
            self._writer.communicate(b"end")
            self._writer = None

    def __enter__(self) -> PowercapEmulator:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _remove_own(folder: Path, pid: int) -> None:
    """A forked child that ends must not take its parent's folder along."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unshare -m python -m greenload.energy.emulators.powercap",
        description="Run a command that sees emulated RAPL counters, which count the command's CPU time.",
    )
    parser.add_argument("--layout", default="{}", metavar="JSON", help="the zones: fields of PowercapLayout")
    parser.add_argument("--power", default="{}", metavar="JSON", help="what it draws: fields of Power, or 'uneven'")
    parser.add_argument("--state", type=Path, help="keep the truth in this folder after the command has ended")
    parser.add_argument("command", metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT")
    return parser


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Replace this process by a command that sees emulated counters, which count the command's CPU time.

    The command finds the machine's state folder in the environment variable ``GREENLOAD_EMULATOR``: see :func:`attach`.
    """
    options = _parser().parse_args(arguments)
    try:
        layout = PowercapLayout(**{"packages": socket_names(), **json_data.parse(options.layout).plain()})
        power = UNEVEN if options.power == "uneven" else Power(**json_data.parse(options.power).plain())
    except (ValueError, TypeError) as error:
        print(f"--layout and --power are fields of PowercapLayout and Power as JSON: {error}", file=sys.stderr)
        return 2
    try:
        emulator = PowercapEmulator(mount_powercap(), layout, power, state=options.state)
        emulator.start(inheritable=True)
    except (GreenloadError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    seen = {**environ, STATE_VARIABLE: str(emulator.state)}
    os.execvpe(options.command, [options.command, *options.arguments], seen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
