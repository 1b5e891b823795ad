"""greenload, Zeus, CodeCarbon and pyRAPL beside each other over the same windows of emulated RAPL counters.

    python -m bench.crosscheck [--install] [--quick] [--only plain,reset] [--out FILE]

Each case is a machine in a private mount namespace (root, Linux), whose counters every tool finds where it looks for
real ones. What a tool says is held against the emulator's joules between the moments at which the tool itself read; a
reading may be anything that fits those moments. ``--install`` makes ``.venv-crosscheck`` with the other tools: they are
no dependencies, and bring packages that greenload's environment must not have.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.contest import Row, Spread

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv-crosscheck"
REQUIREMENTS = Path(__file__).with_name("crosscheck.txt")
INSTALL = "python -m bench.crosscheck --install"
FORMAT = "greenload.bench.crosscheck/1"
OURS = "greenload"
OTHERS = ("Zeus", "CodeCarbon", "pyRAPL")
REACH = 0.01
"""The most that a reading may be off the emulator's joules, as a share."""
GOOD = ("right", "says why")
"""Verdicts on readings that mislead nobody."""
WINDOW_S, QUICK_WINDOW_S = 4.0, 2.0


@dataclass(frozen=True)
class Case:
    """A machine, and what happens to its counters."""

    name: str
    what: str
    event: str = ""
    """``"wrap"``, ``"wrap, then end"`` or ``"wrap, then begin"``, ``"reset"``; nothing if empty."""
    packages: tuple[str, ...] = ("package-0",)
    numbers: tuple[int, ...] | None = None
    psys: bool = False
    mmio: bool = False
    mirrored: bool = False


CASES = (
    Case("plain", "one package with core and dram"),
    Case("wrap", "the counter wraps in the middle of the window", event="wrap"),
    Case("wrap, then end", "the window ends within milliseconds after a wrap", event="wrap, then end"),
    Case("wrap, then begin", "the window begins within milliseconds after a wrap", event="wrap, then begin"),
    Case("reset", "all counters start again from 0 in the middle of the window", event="reset"),
    Case("psys", "psys contains the package, and mmio repeats it", psys=True, mmio=True),
    Case("hex", "the package's zone is intel-rapl:a", numbers=(10,)),
    Case(
        "mirrored dies",
        "two dies show one counter, as on the first AMD Zens",
        packages=("package-0-die-0", "package-0-die-1"),
        mirrored=True,
    ),
)


@dataclass(frozen=True)
class Reading:
    """What one tool said of one window."""

    case: str
    tool: str
    version: str
    joules: float | None
    """Of the packages, all that the tool lists; None where it gives none."""
    parts: dict[str, float | None]
    """By what the tool calls them, memory included."""
    said: str
    """Its reason, or its error."""
    failed: bool
    """Whether it raised an error."""
    true_low_j: float
    """The packages' joules from the last moment at which it can have begun to the first at which it can have ended."""
    true_high_j: float
    """Likewise, the longest."""

    @property
    def off(self) -> float | None:
        """Signed distance from what the truth allows, as a share of it; None where there is no figure."""
        if self.joules is None:
            return None
        nearest = min(max(self.joules, self.true_low_j), self.true_high_j)
        return (self.joules - nearest) / self.true_high_j

    @property
    def verdict(self) -> str:
        """``right`` or ``wrong``; without a figure ``says why``, ``silent`` (no reason), or ``fails`` (an error)."""
        if self.failed:
            return "fails"
        if self.off is None:
            return "says why" if self.said else "silent"
        return "right" if abs(self.off) <= REACH else "wrong"


def judge(case: str, tool: str, version: str, answer: dict[str, Any], truth: tuple[float, float]) -> Reading:
    """A reading from a worker's answer: the sum of the CPUs that the tool lists, as a user would add them up."""
    parts: dict[str, float | None] = answer.get("joules") or {}
    listed = [value for name, value in parts.items() if name.startswith("cpu")]
    known = [value for value in listed if value is not None]
    joules = sum(known) if known and len(known) == len(listed) else None
    said = answer.get("error") or answer.get("said") or ""
    return Reading(case, tool, version, joules, parts, said, "error" in answer, *truth)


def table(readings: Sequence[Reading]) -> str:
    """Readings as text, a line each, cases together."""
    cells = [("case", "tool", "truth", "reads", "off", "")]
    for one in readings:
        truth = f"{one.true_low_j:.1f} – {one.true_high_j:.1f} J"
        reads = "none" if one.joules is None else f"{one.joules:.1f} J"
        off = "" if one.off is None else f"{one.off:+.1%}" if abs(one.off) < 10 else f"{one.off:+.0f} ×"
        said = f"{one.verdict}{': ' + one.said if one.said else ''}"
        cells.append((one.case, f"{one.tool} {one.version}", truth, reads, off, said[:110]))
    widths = [max(len(line[i]) for line in cells) for i in range(6)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def rows(readings: Sequence[Reading]) -> list[Row]:
    """greenload's errors, and in how many cases each tool was wrong or silent."""
    found = []
    offs = [abs(one.off) for one in readings if one.tool == OURS and one.off is not None]
    if offs:
        found.append(Row("cross-check: greenload off the emulator's joules", "", Spread.of(offs), None))
    for tool in dict.fromkeys(one.tool for one in readings):
        verdicts = [one.verdict for one in readings if one.tool == tool]
        bad = float(sum(verdict not in GOOD for verdict in verdicts))
        what = f"cross-check: {tool}, windows neither right nor void with a reason, of {len(verdicts)}"
        found.append(Row(what, "", Spread.of([bad]), 0.0 if tool == OURS else None))
    return found


def interpreter(tool: str) -> Path:
    """Which Python has the tool: this one for greenload, the other environment's else."""
    return Path(sys.executable) if tool == OURS else ENVIRONMENT / "bin" / "python"


def left_out() -> str:
    """Why there is nothing to compare with, or no way to; empty where there is."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("unshare") is None:
        return "cross-checks need a private mount namespace: run as root on Linux with util-linux"
    return "" if interpreter(OTHERS[0]).exists() else f"{', '.join(OTHERS)} left out, not installed: {INSTALL}"


def install() -> None:
    """Make the environment of the other tools.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    venv.EnvBuilder(with_pip=True, clear=True).create(ENVIRONMENT)
    subprocess.run([ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS], check=True)


class MachineFailed(Exception):
    """An emulated machine ended with an error; says its last lines."""


def run_case(case: Case, tools: Sequence[str], window_s: float) -> list[Reading]:
    """One case, every tool on the same window.

    Raises:
        MachineFailed: the machine could not be had.
    """
    with tempfile.TemporaryDirectory() as folder:
        task, out = Path(folder) / "task.json", Path(folder) / "out.json"
        task.write_text(
            json.dumps(
                {
                    "case": asdict(case),
                    "tools": {tool: str(interpreter(tool)) for tool in tools},
                    "window_s": window_s,
                    "out": str(out),
                }
            )
        )
        done = subprocess.run(
            ["unshare", "-m", sys.executable, "-m", "bench.crosscheck_machine", str(task)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if done.returncode or not out.exists():
            tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise MachineFailed(f"{case.name}: ended with status {done.returncode}: {tail}")
        found = json.loads(out.read_text())
    return [
        judge(case.name, tool, one["version"], one["answer"], tuple(one["truth_j"]))
        for tool, one in found.items()
        if not one.get("missing")
    ]


def crosscheck(
    cases: Sequence[Case] = CASES, tools: Sequence[str] = (OURS, *OTHERS), window_s: float = WINDOW_S
) -> list[Reading]:
    """All cases, one after the other; tools that aren't installed are left out, which is said on standard error.

    Raises:
        MachineFailed: a machine could not be had.
    """
    if why := left_out():
        print(why, file=sys.stderr, flush=True)
    present = [tool for tool in tools if interpreter(tool).exists()]
    readings: list[Reading] = []
    for case in cases:
        print(f"cross-check: {case.name}: {case.what}", file=sys.stderr, flush=True)
        readings += run_case(case, present, window_s)
    return readings


def main(argv: list[str] | None = None) -> int:
    """Run it; 1 where greenload is neither right nor says why it has no figure."""
    parser = argparse.ArgumentParser(prog="python -m bench.crosscheck", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--install", action="store_true", help=f"make {ENVIRONMENT.name} with the other tools first")
    parser.add_argument("--quick", action="store_true", help="shorter windows")
    parser.add_argument("--only", default=",".join(case.name.replace(", ", " ") for case in CASES), help="cases")
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    options = parser.parse_args(argv)
    wanted = {name.strip() for name in options.only.split(",")}
    if unknown := sorted(wanted - {case.name.replace(", ", " ") for case in CASES}):
        parser.error(f"--only takes cases of {parser.get_default('only')}, not {', '.join(unknown)}")
    if options.install:
        install()
    readings = crosscheck(
        [case for case in CASES if case.name.replace(", ", " ") in wanted],
        window_s=QUICK_WINDOW_S if options.quick else WINDOW_S,
    )
    print(table(readings))
    if options.out:
        from greenload.machine import machine
        from greenload.system import file_output

        data = {
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": asdict(machine()),
            "cases": [asdict(case) for case in CASES],
            "readings": [asdict(one) | {"off": one.off, "verdict": one.verdict} for one in readings],
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        file_output.write(options.out, json.dumps(data, indent=1) + "\n")
    return 0 if all(one.verdict in GOOD for one in readings if one.tool == OURS) else 1


if __name__ == "__main__":
    sys.exit(main())
