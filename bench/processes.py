"""What is measured in processes of its own: peak memory, the time of an import, a whole profile."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.by_hand import Workload

_ROOT = Path(__file__).resolve().parents[1]  # where `bench` and `greenload` are importable

HEAVY = ("tensorflow", "nvidia.dali", "keras")
"""What importing greenload must not load."""


@dataclass(frozen=True)
class Memory:
    """A contestant's peak of resident memory."""

    contestant: str
    group: str
    batches: int
    peak_bytes: int
    before_bytes: int
    """The peak once frameworks were imported, before anything was built."""


@dataclass(frozen=True)
class Import:
    """One import of greenload in a fresh interpreter."""

    wall_s: float
    """Of the import statement alone."""
    names_wall_s: float
    """Of resolving all public names, after it."""
    heavy: tuple[str, ...]
    """Which of ``HEAVY`` were loaded then."""


@dataclass(frozen=True)
class Profile:
    """One run of ``greenload profile`` over the photos."""

    wall_s: float
    """Of the whole process, imports included."""
    steps_cpu_s: float
    """Sum of the steps' CPU seconds per sample."""
    full_cpu_s: float
    """The held-out full run's."""
    unattributed_cpu_s: tuple[float, float]
    """The 95 % interval of what the full run costs beyond the steps."""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of ``share``, by the report itself."""
        low, high = self.unattributed_cpu_s
        return 1 - high / self.full_cpu_s, 1 - low / self.full_cpu_s

    @property
    def share(self) -> float:
        """The steps' sum over the full run."""
        return self.steps_cpu_s / self.full_cpu_s


class ProcessFailed(Exception):
    """A measured process ended with an error; says its last lines."""


def output_of(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """What a command prints, run where ``bench`` and ``greenload`` can be imported.

    Raises:
        ProcessFailed: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_ROOT, env=env)
    if done.returncode:
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise ProcessFailed(f"{' '.join(command[:4])} … ended with status {done.returncode}: {tail}")
    return done.stdout


def peak_memory(work: Workload, group: str, contestant: str, batches: int) -> Memory:
    """Run a contestant for some batches in a process of its own.

    Raises:
        ProcessFailed: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.json"
        task.write_text(
            json.dumps({"work": asdict(work), "group": group, "contestant": contestant, "batches": batches})
        )
        output = output_of([sys.executable, "-m", "bench.worker", str(task)])
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return Memory(contestant, group, batches, found["peak_bytes"], found["before_bytes"])


_IMPORT = f"""
import sys, time
start = time.perf_counter()
import greenload
took = time.perf_counter() - start
for name in greenload.__all__:
    getattr(greenload, name)
print(took, time.perf_counter() - start - took, *(name for name in {HEAVY!r} if name in sys.modules))
"""


def import_time() -> Import:
    """Import greenload in a fresh interpreter.

    Raises:
        ProcessFailed: it can't be imported.
    """
    took, names, *heavy = output_of([sys.executable, "-c", _IMPORT]).split()
    return Import(float(took), float(names), tuple(heavy))


def profile(folder: str) -> Profile:
    """The command on class folders of photos (an absolute path), as a user gives it.

    Raises:
        ProcessFailed: it failed.
    """
    with tempfile.TemporaryDirectory() as target:
        report = Path(target) / "report.json"
        start = time.perf_counter()
        command = str(Path(sys.executable).with_name("greenload"))
        output_of([command, "profile", "imagenet:train", "--data", folder, "--json", str(report)])
        wall_s = time.perf_counter() - start
        found = json.loads(report.read_text())
    return Profile(
        wall_s,
        sum(step["cpu_s_per_sample"]["value"] for step in found["steps"]),
        found["full"]["cpu_s_per_sample"]["value"],
        (found["unattributed"]["cpu_s_per_sample"]["low"], found["unattributed"]["cpu_s_per_sample"]["high"]),
    )
