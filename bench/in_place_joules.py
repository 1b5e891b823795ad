"""Profiles of datasets whose steps draw known, unlike watts on an emulated machine: are their joules right, how fast?

    python -m bench.in_place_joules [--runs 5] [--precision 0.05] [--shapes filtered,generator] [--out FILE]

Each profile runs by the real path in a process of its own, which sees emulated RAPL counters (as root on Linux, in a
private mount namespace). Steps burn CPU time and note it in the emulator's ledger while they do, so the counter gets
each step's watts for what it really burnt. A step's truth is what the emulator counted for it while the dataset ran
once more, and the joules of what its calls take beside what they burn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

from bench import known_steps
from bench.contest import Row, Spread, table
from bench.in_place import HELD_REACH, OF_WHOLE, SUM_LEAST, SUM_REACH, Found, Profile, by_shape, chosen, run
from bench.known_steps import SHAPES, Known
from bench.truth import ROOT, NotHere, emulator_command
from bench.truth_machine import change_windows, everyone
from bench.truth_steps import NEIGHBOUR
from greenload.energy.emulators.control import EmulatedMachine, attach
from greenload.energy.emulators.layout import OTHER, Power
from greenload.machine import machine

FORMAT = "greenload.bench.in_place_joules/1"
WITHIN_REACH, OF_STEP = 0.95, 0.05
"""Figures that may be off by this share of the step, or `OF_WHOLE` of the whole, have to be so many."""
DOMAIN = "cpu:package-0"
LAYOUT = {"dram": False, "core": False}
WATTS = {OTHER: 10.0, NEIGHBOUR: 15.0, "step 0": 10.0, "step 1": 25.0, "step 2": 5.0, "step 3": 40.0}
"""Of a busy core, by what it does: what no step burns, other processes, and the steps in their order."""
POWER = Power(idle_w=10.0, busy_core_w=1.0, weights=WATTS)


@dataclass(frozen=True)
class Judged:
    """A step's joules against their truth."""

    found: Found

    @property
    def within(self) -> bool:
        """Whether they are as right as asked."""
        found = self.found
        return found.value is not None and abs(found.value - found.truth) <= self.allowed

    @property
    def allowed(self) -> float:
        """The most that they may be off, in millijoules."""
        return max(OF_STEP * self.found.truth, OF_WHOLE * self.found.whole)


def truths_j(known: Known, machine: EmulatedMachine) -> dict[str, float]:
    """True joules for a sample, by step: of what is burnt, and of what calls take beside it.

    Args:
        known: a dataset whose steps are counted in the machine's ledger.
        machine: the emulated machine, running.
    """
    kinds = {name: f"step {number}" for number, name in enumerate(known.truth_s)}
    before = {name: machine.true_energy_j(DOMAIN, kind) for name, kind in kinds.items()}
    samples = sum(len(batch) for batch in known.dataset)
    burnt = {name: (machine.true_energy_j(DOMAIN, kind) - before[name]) / samples for name, kind in kinds.items()}
    empty_s = known_steps.empty_s(known)
    return {name: joules + WATTS[OTHER] * empty_s[name] for name, joules in burnt.items()}


def hide_others() -> None:
    """Hide other processes' CPU seconds, which draw nothing then, from profiles: as on a machine without any."""
    change_windows(lambda window: replace(window, other_cpu_s=0.0))


def one(shape: str, precision: float | None, shared: bool) -> dict[str, Any]:
    """Profile a shape in this process, which sees an emulated machine, as data.

    Args:
        shape: its name.
        precision: asked of the profile; None for none.
        shared: whether other processes of the machine draw nothing, and aren't seen.
    """
    import greenload as gl

    seen = attach()
    known = SHAPES[shape]()
    for number in range(len(known.truth_s)):
        known_steps.count_in(number, seen.ledger.address(f"step {number}"))
    if shared:
        hide_others()
    with nullcontext() if shared else everyone(seen):
        truths = truths_j(known, seen)
        begin = time.monotonic()
        report = gl.profile(known.dataset, precision=precision)
        seconds = time.monotonic() - begin
    rows = {step.name.partition(" (")[0]: step.energy_j_per_sample[DOMAIN] for step in report.steps}
    missing = sorted(set(truths) - set(rows))
    if missing:
        raise RuntimeError(f"no row for {', '.join(missing)}; there are {', '.join(rows)}")
    return {
        "seconds": seconds,
        "whole": (report.full.energy_j_per_sample[DOMAIN].value or 0.0) * 1e3,
        "summed": sum(figure.value or 0.0 for figure in rows.values()) * 1e3,
        "steps": [
            {
                "step": name,
                "truth": truth * 1e3,
                **{key: _mj(getattr(rows[name], key)) for key in ("value", "low", "high")},
            }
            for name, truth in truths.items()
        ],
        "report": report.to_dict(),
    }


def _mj(joules: float | None) -> float | None:
    return None if joules is None else joules * 1e3


def profiled(
    shape: str, group: str, precision: float | None, shared: bool = False, reports: Path | None = None
) -> Profile:
    """Profile a shape in a process of its own that sees an emulated machine.

    Args:
        shape: its name.
        group: alone or beside a neighbour; for the record.
        precision: asked of the profile; None for none.
        shared: whether other processes of the machine draw nothing, and aren't seen.
        reports: a folder for the whole reports; None keeps none.

    Raises:
        NotHere: no emulated machine can be had.
        RuntimeError: the profile failed.
    """
    command = [*emulator_command(POWER, LAYOUT), sys.executable, "-m", "bench.in_place_joules", "--one", shape]
    command += ["--precision", str(precision or 0), *(["--shared"] if shared else [])]
    begun_s = time.time()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{shape}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if reports is not None:
        reports.mkdir(parents=True, exist_ok=True)
        (reports / f"{shape}-{begun_s:.0f}.json").write_text(json.dumps(found))
    steps = tuple(Found(group=group, shape=shape, whole=found["whole"], **step) for step in found["steps"])
    return Profile(group, shape, found["seconds"], found["whole"], found["summed"], steps)


def judged(profiles: Sequence[Profile], group: str) -> list[Row]:
    """The table's rows of profiles alone, or beside a neighbour."""
    ours = [profile for profile in profiles if profile.group == group]
    steps = [Judged(step) for profile in ours for step in profile.steps]
    errors = [profile.summed / profile.whole - 1 for profile in ours]

    def share(what: str, met: Sequence[bool], least: float) -> Row:
        return Row(f"{group}: {what}, of {len(met)}", "%", Spread.of([100 * fmean(met)]), least=100 * least)

    return [
        share("steps' joules within 5 %, or 1 % of all", [step.within for step in steps], WITHIN_REACH),
        share("steps' joules inside their interval", [step.found.held for step in steps], HELD_REACH),
        share("sums within 3 % of the whole", [abs(error) <= SUM_REACH for error in errors], SUM_LEAST),
        Row(f"{group}: mean error of the sum", "%", Spread.of([100 * abs(fmean(errors))])),
        Row(f"{group}: a profile", "s", Spread.of([profile.seconds for profile in ours])),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 where something is out of reach, 2 where there can be no emulated machine."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.in_place_joules", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--runs", type=int, default=5, help="profiles of each shape, alone and beside a neighbour")
    parser.add_argument("--precision", type=float, default=0.05, help="asked of the profiles; 0 asks for none")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="with commas between")
    parser.add_argument("--alone", action="store_true", help="leave the neighbour out")
    parser.add_argument(
        "--shared", action="store_true", help="other processes draw nothing and aren't seen: for a shared machine"
    )
    parser.add_argument("--reports", type=Path, help="a folder for the whole reports")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("bench-in-place-joules.json"), help="the JSON file to write")
    options = parser.parse_args(arguments)
    precision = options.precision or None
    if options.one:
        print(json.dumps(one(options.one, precision, options.shared)))
        return 0
    shapes, groups = chosen(parser, options)
    profile = partial(profiled, precision=precision, shared=options.shared, reports=options.reports)
    try:
        profiles = run(shapes, options.runs, groups, profile)
    except NotHere as error:
        print(error, file=sys.stderr)
        return 2
    rows = [row for group in groups for row in judged(profiles, group)]
    print(by_shape(profiles, "mJ"))
    print(table(rows))
    report: Mapping[str, Any] = {
        "format": FORMAT,
        "machine": asdict(machine()),
        "load_average": os.getloadavg(),
        "shared": options.shared,
        "watts": WATTS,
        "settings": {"runs": options.runs, "precision": precision, "shapes": shapes},
        "rows": [asdict(row) | {"met": row.met} for row in rows],
        "profiles": [asdict(profile) for profile in profiles],
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
