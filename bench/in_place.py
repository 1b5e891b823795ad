"""Profiles of datasets whose steps burn a known CPU time: are steps inside their intervals, how narrow, how fast?

    python -m bench.in_place [--runs 20] [--precision 0.05] [--shapes filtered,generator] [--out FILE]

Each shape is profiled so many times, in a process of its own, alone and beside a neighbour that takes a core at random
times. A step's truth is what its function burnt, and what a call of it takes that burns nothing (2 to 3
µs, or more into Python), which is part of the step: by the same clocks, in the same shape.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

from bench import burning, known_steps
from bench.contest import Row, Spread, table
from bench.known_steps import SHAPES
from greenload.machine import machine

FORMAT = "greenload.bench.in_place/1"
ALONE, BESIDE = "alone", "beside a neighbour"
HELD_REACH, NARROW_REACH, SECONDS_REACH = 0.95, 0.95, 60.0
SUM_REACH, SUM_LEAST, MEAN_REACH = 0.03, 0.95, 0.01
OF_WHOLE = 0.01
"""An interval may be as wide as this share of the whole, where the precision asked of the step is less."""


@dataclass(frozen=True)
class Found:
    """A step of one profile against its truth, in CPU milliseconds of a sample, or millijoules."""

    group: str
    shape: str
    step: str
    truth: float
    value: float | None
    low: float | None
    high: float | None
    whole: float

    @property
    def held(self) -> bool:
        """Whether the interval holds the truth."""
        return self.low is not None and self.high is not None and self.low <= self.truth <= self.high

    def narrow(self, precision: float) -> bool:
        """Whether the interval is as narrow as was asked."""
        if self.value is None or self.low is None or self.high is None:
            return False
        return (self.high - self.low) / 2 <= max(precision * self.value, OF_WHOLE * self.whole)


@dataclass(frozen=True)
class Profile:
    """One profile."""

    group: str
    shape: str
    seconds: float
    whole: float
    """CPU milliseconds of a sample, or millijoules, held out."""
    summed: float
    """Of all steps."""
    steps: tuple[Found, ...]


def profiled(shape: str, group: str, precision: float) -> Profile:
    """Profile a shape in a process of its own.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "bench.in_place", "--one", shape, "--precision", str(precision)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{shape}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    steps = tuple(Found(group=group, shape=shape, whole=found["whole"], **step) for step in found["steps"])
    return Profile(group, shape, found["seconds"], found["whole"], found["summed"], steps)


def one(shape: str, precision: float) -> dict[str, Any]:
    """Profile a shape in this process, as data."""
    import greenload as gl

    known = SHAPES[shape]()
    begin = time.monotonic()
    report = gl.profile(known.dataset, precision=precision)
    seconds = time.monotonic() - begin
    empty_s, burnt_s = known_steps.empty_s(known), known_steps.burnt_for_a_sample_s(known)
    truths = {name: burnt_s[name] + empty_s[name] for name in known.truth_s}
    rows = {step.name.partition(" (")[0]: step.cpu_s_per_sample for step in report.steps}
    missing = sorted(set(known.truth_s) - set(rows))
    if missing:
        raise RuntimeError(f"no row for {', '.join(missing)}; there are {', '.join(rows)}")
    return {
        "seconds": seconds,
        "whole": (report.full.cpu_s_per_sample.value or 0.0) * 1e3,
        "summed": sum(figure.value or 0.0 for figure in rows.values()) * 1e3,
        "steps": [
            {
                "step": name,
                "truth": truth * 1e3,
                **{key: _ms(getattr(rows[name], key)) for key in ("value", "low", "high")},
            }
            for name, truth in truths.items()
        ],
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def judged(profiles: Sequence[Profile], group: str, precision: float) -> list[Row]:
    """The table's rows of profiles alone, or beside a neighbour."""
    ours = [profile for profile in profiles if profile.group == group]
    steps = [step for profile in ours for step in profile.steps]
    errors = [profile.summed / profile.whole - 1 for profile in ours]

    def share(what: str, met: Sequence[bool], least: float) -> Row:
        return Row(f"{group}: {what}", "%", Spread.of([100 * fmean(met)]), least=100 * least)

    return [
        share("steps inside their interval", [step.held for step in steps], HELD_REACH),
        share(f"intervals within ±{precision:.0%}, or 1 % of all", [s.narrow(precision) for s in steps], NARROW_REACH),
        Row(f"{group}: longest profile", "s", Spread.of([max(p.seconds for p in ours)]), SECONDS_REACH),
        share("sums within 3 % of the whole", [abs(error) <= SUM_REACH for error in errors], SUM_LEAST),
        Row(f"{group}: mean error of the sum", "%", Spread.of([100 * abs(fmean(errors))]), 100 * MEAN_REACH),
    ]


def by_shape(profiles: Sequence[Profile], unit: str = "ms") -> str:
    """A line for each step: its truth, and the mean and the largest error of what was found."""
    lines: dict[tuple[str, str, str], list[Found]] = {}
    for step in (step for profile in profiles for step in profile.steps):
        lines.setdefault((step.group, step.shape, step.step), []).append(step)
    shown = []
    for (group, shape, name), found in lines.items():
        errors = [step.value / step.truth - 1 for step in found if step.value is not None]
        text = f"mean error {fmean(errors):+.1%}, largest {max(errors, key=abs):+.1%}" if errors else "no figure"
        held = sum(step.held for step in found)
        shown.append(f"{group}, {shape}, {name}: {found[0].truth:.3f} {unit}, {text}, held {held} of {len(found)}")
    return "\n".join(shown)


def run(
    shapes: Sequence[str], runs: int, groups: Sequence[str], profiled: Callable[[str, str], Profile]
) -> list[Profile]:
    """All shapes in turn, so many times.

    Args:
        shapes: their names.
        runs: how often each is profiled.
        groups: alone, beside a neighbour, or both.
        profiled: profiles a shape of a group.
    """
    profiles = []
    for group in groups:
        for number in range(runs):
            for shape in shapes:
                with burning.Neighbour(share=1 / 4, seed=number) if group == BESIDE else nullcontext():
                    profiles.append(profiled(shape, group))
                last = profiles[-1]
                error = last.summed / last.whole - 1
                print(f"{group}, {number + 1} of {runs}, {shape}: {last.seconds:.0f} s, sum {error:+.1%}", flush=True)
    return profiles


def chosen(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[list[str], tuple[str, ...]]:
    """The shapes and the groups that options name; ends the program where a shape is unknown."""
    shapes = options.shapes.split(",")
    if unknown := sorted(set(shapes) - set(SHAPES)):
        parser.error(f"--shapes takes {', '.join(SHAPES)}, not {', '.join(unknown)}")
    return shapes, (ALONE,) if options.alone else (ALONE, BESIDE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 where something is out of reach."""
    parser = argparse.ArgumentParser(prog="python -m bench.in_place", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="profiles of each shape, alone and beside a neighbour")
    parser.add_argument("--precision", type=float, default=0.05)
    parser.add_argument("--shapes", default=",".join(SHAPES), help="with commas between")
    parser.add_argument("--alone", action="store_true", help="leave the neighbour out")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("bench-in-place.json"), help="the JSON file to write")
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(one(options.one, options.precision)))
        return 0
    shapes, groups = chosen(parser, options)
    profiles = run(shapes, options.runs, groups, partial(profiled, precision=options.precision))
    rows = [row for group in groups for row in judged(profiles, group, options.precision)]
    print(by_shape(profiles))
    print(table(rows))
    report: Mapping[str, Any] = {
        "format": FORMAT,
        "machine": asdict(machine()),
        "settings": {"runs": options.runs, "precision": options.precision, "shapes": shapes},
        "rows": [asdict(row) | {"met": row.met} for row in rows],
        "profiles": [asdict(profile) for profile in profiles],
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
