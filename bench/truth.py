"""How far the joules can be trusted: every claim about energy, asked and reached, against emulated machines.

    python -m bench.truth [--quick] [--only profiles,coverage] [--out FILE]

No machine needs a counter for it. Profiles run, by the real path, on an emulated machine (root, Linux) whose power
model is not greenload's; statistics come from simulated readings; other tools read beside greenload. What can't run
here is left out by name.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import burning, crosscheck, gpu_windows, truth_steps
from bench.contest import Row, Spread, table
from bench.truth_steps import Judged, Truth
from greenload.energy.attribution.precision import WINDOW_S
from greenload.energy.emulators.layout import Power
from greenload.report.data import Report
from greenload.system import file_output

ROOT = Path(__file__).resolve().parents[1]
FORMAT = "greenload.bench.truth/1"
PARTS = ("profiles", "precision", "coverage", "alignment", "training", "crosscheck")
QUICK_PARTS = ("profiles", "coverage", "alignment", "crosscheck")


@dataclass(frozen=True)
class Size:
    """How much is run."""

    runs: int
    """Profiles alone, and as many beside a neighbour."""
    rounds: int | None
    """Of a profile; as the command has it if None."""
    samples: int
    """Different samples, in batches of `BATCH`."""
    unit_s: float
    """CPU seconds that the lightest step burns for a sample."""
    window_s: float
    """Wall seconds that a window of a profile aims at."""
    simulated: int
    """Profiles that are simulated for each scenario."""
    precision: float
    quick: bool = False


BATCH = 8
ALIGNED_REACH = 0.05
"""The most that joules of one second on a slow counter may be off, in 95 % of windows."""
ALONE, BESIDE = "alone", "beside a neighbour"
FULL = Size(runs=6, rounds=None, samples=128, unit_s=2e-3, window_s=WINDOW_S, simulated=2000, precision=0.05)
QUICK = Size(runs=1, rounds=2, samples=16, unit_s=0.5e-3, window_s=0.05, simulated=50, precision=0.2, quick=True)


@dataclass
class Found:
    """What a part found: rows for the table, and raw data for the JSON."""

    rows: list[Row] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)


class NotHere(Exception):
    """A part can't run on this machine, or isn't there; says why and what helps."""


class ProfileFailed(Exception):
    """A profile on an emulated machine ended with an error; says its last lines."""


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def emulator_command(power: Power, layout: Mapping[str, Any] | None = None) -> list[str]:
    """What is put before a command so that it sees the counters of an emulated machine.

    Args:
        power: what it draws.
        layout: fields of its `PowercapLayout`.

    Raises:
        NotHere: no private mount namespace can be had.
    """
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("unshare") is None:
        raise NotHere("an emulated machine needs a private mount namespace: run as root on Linux with util-linux")
    model = json.dumps(asdict(replace(power, weights=dict(power.weights))))
    emulator = ["unshare", "-m", sys.executable, "-m", "greenload.energy.emulators.powercap"]
    return [*emulator, "--power", model, "--layout", json.dumps(dict(layout or {}))]


def emulated(task: Mapping[str, Any]) -> dict[str, Any]:
    """Run one profile on an emulated machine, in a process of its own.

    Args:
        task: what ``bench.truth_machine`` reads; ``out`` is filled in.

    Raises:
        NotHere: no private mount namespace can be had.
        ProfileFailed: the profile failed.
    """
    machine = emulator_command(burning.POWER)
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "task.json", Path(folder) / "out.json"
        path.write_text(json.dumps({**task, "out": str(out)}))
        done = subprocess.run(
            [*machine, sys.executable, "-m", "bench.truth_machine", str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if done.returncode or not out.exists():
            tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise ProfileFailed(f"a profile on the emulated machine ended with status {done.returncode}: {tail}")
        found: dict[str, Any] = json.loads(out.read_text())
    return found


def _task(size: Size, *, neighbour: bool, precision: float | None = None) -> dict[str, Any]:
    return {
        "neighbour": neighbour,
        "samples": size.samples,
        "batch": BATCH,
        "unit_s": size.unit_s,
        "rounds": size.rounds,
        "window_s": size.window_s,
        "precision": precision,
    }


def profiles(size: Size, groups: Sequence[str] = (ALONE, BESIDE)) -> Found:
    """Real profiles of the burning pipeline, alone and beside a neighbour, judged figure by figure."""
    found = Found()
    for group in groups:
        judged: list[Judged] = []
        counters: list[float] = []
        sums: list[bool] = []
        for k in range(size.runs):
            _note(f"profile on the emulated machine, {group}: {k + 1} of {size.runs}")
            one = emulated(_task(size, neighbour=group == BESIDE))
            report = Report.from_dict(one["report"])
            truths = [Truth(**truth) for truth in one["truths"]]
            judged += truth_steps.judge(f"{group} {k + 1}", report, truths, one["kinds"])
            counters += truth_steps.counters_off(truths)
            sums += truth_steps.predicted(report).values()
            found.raw.setdefault("windows", {})[f"{group} {k + 1}"] = windows(report)
        found.rows += truth_steps.rows(judged, counters, sums, group)
        found.raw.setdefault("judged", []).extend(_raw(one) for one in judged)
    return found


def _raw(one: Judged) -> dict[str, Any]:
    return asdict(one) | {"error": one.error, "held": one.held, "kept": one.kept}


def windows(report: Report) -> list[str]:
    """A report's windows as lines of comma-separated values, the first with their names."""
    domains = sorted({domain for window in report.windows for domain in window.energy_j})
    lines = [
        ",".join(["step", "kind", "build", "round", "samples", "wall_s", "cpu_s", "other_cpu_s", *domains, "void"])
    ]
    for w in report.windows:
        joules = [f"{w.energy_j[domain]:.4f}" if domain in w.energy_j else "" for domain in domains]
        measured = [f"{w.wall_ns / 1e9:.4f}", f"{w.cpu_s:.4f}", f"{w.other_cpu_s:.2f}", *joules]
        lines.append(
            ",".join([w.step, w.kind, str(w.build), str(w.round), str(w.samples), *measured, str(len(w.void))])
        )
    return lines


def precision(size: Size, groups: Sequence[str] = (ALONE, BESIDE)) -> Found:
    """Profiles to ``--precision``: how narrow the intervals became, how long that took, whether the joules hold."""
    found = Found()
    for group in groups:
        _note(f"profile to ±{size.precision:.0%} on the emulated machine, {group}")
        one = emulated(_task(size, neighbour=group == BESIDE, precision=size.precision))
        report = Report.from_dict(one["report"])
        reached = report.precision
        if reached is None or reached.found is None:
            raise ProfileFailed("a profile with a precision reports what it reached, but this report doesn't")
        what = f"--precision {size.precision:.0%}, {group}"
        judged = truth_steps.judge(group, report, [Truth(**truth) for truth in one["truths"]], one["kinds"])
        found.rows += [
            truth_steps.percent(f"{what}: the widest interval", [reached.found], reached.wanted),
            Row(f"{what}: seconds taken; at most announced", "s", Spread.of([reached.took_s]), reached.planned_s),
            Row(f"{what}: builds", "", Spread.of([float(reached.builds)])),
            truth_steps.unkept(f"{what}: figures neither right nor the truth in their interval", judged),
        ]
        found.raw[group] = {"precision": asdict(reached), "judged": [_raw(one) for one in judged]}
    return found


def coverage(size: Size) -> Found:
    """How often 95 % intervals hold the truth, over simulated profiles."""
    return Found(list(_part("bench.coverage", "coverage")(profiles=size.simulated)))


def alignment(size: Size) -> Found:
    """How far windows on a GPU's slow counter are off, with edges aligned to its refreshes and as they come."""
    lines = gpu_windows.rows(windows=20 if size.quick else 200)
    rows = [
        truth_steps.percent(
            f"GPU, windows of 1 s, edges {line['edges']}: 95 % are off by less than",
            [float(line["total_95"])],
            ALIGNED_REACH if str(line["edges"]).startswith("aligned") else None,
        )
        for line in lines
        if line["seconds"] == 1.0
    ]
    return Found(rows, {"windows": lines})


def training(size: Size) -> Found:
    """What ``EnergyCallback`` adds to a training's CPU seconds, and whether its split is right."""
    return Found(list(_part("bench.training", "overhead")(pairs=2 if size.quick else 12)))


def crosschecked(size: Size) -> Found:
    """greenload beside Zeus, CodeCarbon and pyRAPL, over wraps, resets and odd layouts."""
    if why := crosscheck.left_out():
        raise NotHere(why)
    cases = crosscheck.CASES[:2] if size.quick else crosscheck.CASES
    readings = crosscheck.crosscheck(cases, window_s=crosscheck.QUICK_WINDOW_S if size.quick else crosscheck.WINDOW_S)
    print(crosscheck.table(readings))
    return Found(crosscheck.rows(readings), {"readings": [asdict(one) | {"verdict": one.verdict} for one in readings]})


MEASURES: dict[str, Callable[[Size], Found]] = {
    "profiles": profiles,
    "precision": precision,
    "coverage": coverage,
    "alignment": alignment,
    "training": training,
    "crosscheck": crosschecked,
}


def _part(module: str, function: str) -> Callable[..., Sequence[Row]]:
    """A function of another benchmark, imported when it runs: some need TensorFlow."""
    found: Callable[..., Sequence[Row]] = getattr(importlib.import_module(module), function)
    return found


def run(parts: Sequence[str], size: Size) -> tuple[list[Row], dict[str, Any], dict[str, str]]:
    """Parts, one after the other.

    Returns:
        Rows, raw data by part, and why parts were left out.
    """
    rows: list[Row] = []
    raw: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for part in parts:
        start = time.monotonic()
        try:
            found = MEASURES[part](size)
        except NotHere as error:
            left_out[part] = str(error)
            _note(f"left out: {part}: {error}")
            continue
        except (ProfileFailed, crosscheck.MachineFailed) as error:  # hours of other parts are not lost for it
            left_out[part] = str(error)
            _note(f"failed: {part}: {error}")
            rows.append(Row(f"{part}: failed", "", Spread.of([1.0]), 0.0))
            continue
        rows += found.rows
        raw[part] = {"wall_s": time.monotonic() - start, **found.raw}
    return rows, raw, left_out


def main(argv: list[str] | None = None) -> int:
    """Run it; 1 where something is out of reach."""
    parser = argparse.ArgumentParser(prog="python -m bench.truth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four parts, short: shows that they work, proves little")
    parser.add_argument("--only", help=f"parts to run, with commas between: {', '.join(PARTS)}")
    parser.add_argument("--runs", type=int, help="profiles alone, and as many beside a neighbour")
    parser.add_argument("--out", type=Path, default=Path("bench-truth.json"), help="the JSON file to write")
    options = parser.parse_args(argv)
    default = QUICK_PARTS if options.quick else PARTS
    parts = [part.strip() for part in options.only.split(",")] if options.only else list(default)
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"--only takes parts of {', '.join(PARTS)}, not {', '.join(unknown)}")
    size = QUICK if options.quick else FULL
    size = replace(size, runs=options.runs or size.runs)
    rows, raw, left_out = run(parts, size)
    print(table(rows))
    from greenload.machine import machine

    data = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine()),
        "settings": asdict(size) | {"parts": parts},
        "rows": [asdict(row) | {"met": row.met} for row in rows],
        "left_out": left_out,
        "parts": raw,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    file_output.write(options.out, json.dumps(data, indent=1) + "\n")
    print(f"{options.out}: every figure")
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
