"""The native path beside its peers: CPU time, images per second and memory, all interleaved in one run.

    python -m bench.reach [--quick] [--photos FOLDER] [--out FILE.json] [--only GROUPS]

For photographs of about 500 × 375. Contestants of a group run in adjacent settled windows in shuffled order, built anew
several times; ratios are taken pair by pair within a round, and shown as their median and quartiles, beside what is
aimed at. The JSON holds every window. Run it on a machine that does nothing else: images per second are wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported, which else reports what it lacks

from bench import choice, reach_kernel, reach_memory, reach_peers, reach_rows
from bench.contest import IMAGES, MakeBatches, Row, Window, compete, looks, same_looks, table
from bench.photographs import photos, workload
from bench.reach_pace import Pace, paced
from bench.reach_rows import Preparation
from bench.reach_subjects import (
    ANTIALIASED,
    CACHED,
    CACHED_FLOAT,
    CACHED_UINT8,
    COPY,
    FLOAT,
    GREENLOAD,
    GROUPS,
    PLAIN,
    SMALL,
    STREAMING,
    TUNED,
    Ground,
    first_epoch,
    groups,
    planes_bytes,
)
from greenload.backends.native import library
from greenload.machine import machine
from greenload.system import file_output

FORMAT = "greenload.bench.reach/1"
PACE, MEMORY, KERNEL = "pace", "memory", "kernel"
PARTS = (*GROUPS, PACE, MEMORY, KERNEL)
EPOCHS_A_WINDOW = {CACHED: 4, FLOAT: 2, SMALL: 4}
"""Windows of groups whose images take little are of several epochs, so that they are long beside the clock's steps."""
UNLIKE = (COPY, CACHED_UINT8)
"""Contestants that don't put out what the others of their group do."""


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(prog="python -m bench.reach", description=(__doc__ or "").splitlines()[0])
    results = Path(f"bench/results/reach-{os.cpu_count()}-cores.json")
    parser.add_argument("--out", type=Path, default=results, help=f"the JSON file to write ({results} if not given)")
    parser.add_argument("--photos", help="a folder of class folders with JPEGs; sample photographs if not given")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts to run: {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="a few minutes: one build and few rounds")
    parser.add_argument("--builds", type=int, help="how often every contestant is built")
    parser.add_argument("--rounds", type=int, help="rounds of windows on each build")
    parser.add_argument("--images", type=int, default=IMAGES, help="photographs in the set, at most")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(argv)
    options.only = tuple(part.strip() for part in options.only.split(","))
    if unknown := sorted(set(options.only) - set(PARTS)):
        parser.error(f"--only takes parts of {', '.join(PARTS)}, not {', '.join(unknown)}")
    return options


@dataclass(frozen=True)
class Settings:
    """What runs, and how often."""

    only: tuple[str, ...] = PARTS
    quick: bool = False
    builds: int | None = None
    """How often every contestant is built; by ``quick`` if not given, and so are the rounds."""
    rounds: int | None = None
    images: int = IMAGES
    """Photographs in the set, at most."""
    batch: int = 64
    threads: int = 2


def run(folder: str, options: Settings) -> tuple[list[Row], dict[str, Any]]:
    """Everything that was asked for: the rows, and raw figures as JSON data.

    Args:
        folder: of class folders with JPEGs.
        options: what runs.
    """
    builds, rounds = options.builds or (1 if options.quick else 3), options.rounds or (2 if options.quick else 5)
    work = workload(folder, options.batch, options.threads, options.images)
    left_out = [f"contestants that need {name}, which make bench installs" for name in reach_peers.missing()]
    rows: list[Row] = []
    sizes = [os.path.getsize(path) for path in work.paths]
    raw: dict[str, Any] = {"images": len(sizes), "mean_bytes": sum(sizes) / len(sizes)}
    with tempfile.TemporaryDirectory() as scratch:
        ground = Ground(work, Path(scratch), planes_bytes(work.paths))
        raw["planes_bytes"] = ground.set_bytes
        windows, raw["looks"] = _windows(ground, options.only, builds, rounds)
        found, lacking = reach_rows.compared(windows)
        left_out += lacking
        turns = builds if FLOAT in options.only else 0
        preparations = [_prepared(ground, name, k) for k in range(turns) for name in _PREPARED]
        paces = _paces(ground, builds, 1 if options.quick else 3) if PACE in options.only else []
    rows += found + reach_rows.in_all(windows, preparations) + reach_rows.speeds(paces)
    if MEMORY in options.only:
        _note("peak memory")
        batches = 3 * -(-len(work.paths) // work.batch) if options.quick else 200
        peaks = reach_memory.peaks(work, batches, 1 if options.quick else 3)
        rows += reach_memory.rows(peaks, raw["planes_bytes"])
        raw["memory"] = [asdict(one) for one in peaks]
    if KERNEL in options.only:
        _note("the kernel: building it, and its own clocks")
        made, turns = reach_kernel.run(work.paths, 6 if options.quick else 40)
        rows += reach_kernel.rows(made, turns)
        raw["kernel"] = {"builds": [asdict(one) for one in made], "turns": [asdict(one) for one in turns]}
    rows += reach_rows.costs(windows)
    raw |= {"curve": reach_rows.curve(windows), "left_out": left_out}
    raw |= {"windows": [asdict(one) for one in windows], "paces": [asdict(one) for one in paces]}
    return rows, raw | {"preparations": [asdict(one) for one in preparations]}


_PREPARED = {CACHED_FLOAT: "float32", CACHED_UINT8: "uint8"}


def _windows(ground: Ground, only: Sequence[str], builds: int, rounds: int) -> tuple[list[Window], dict[str, Any]]:
    """Every wanted group's windows, once its contestants were seen to do the same; and what they put out."""
    windows, seen = [], {}
    for group, contestants in groups(ground, only).items():
        epoch = choice.ARRAYS if group == SMALL else len(ground.work.paths)
        alike = {name: make for name, make in contestants.items() if name not in UNLIKE}
        shown = {name: looks(make, 2 * epoch) for name, make in alike.items()}
        seen[group] = same_looks(group, shown, 2 * epoch, ours=STREAMING if group == CACHED else GREENLOAD)
        images = EPOCHS_A_WINDOW.get(group, 1) * epoch
        windows += compete(group, contestants, builds=builds, rounds=rounds, images=images, note=_note)
    return windows, seen


def _prepared(ground: Ground, contestant: str, turn: int) -> Preparation:
    images, spent = first_epoch(ground.work, _PREPARED[contestant], 2 * turn + (contestant == CACHED_FLOAT))
    return Preparation(contestant, turn, images, **spent)


def _paces(ground: Ground, builds: int, rounds: int) -> list[Pace]:
    found = []
    for group, contestants in groups(ground, (PLAIN, ANTIALIASED)).items():
        both: Mapping[str, MakeBatches] = {name: contestants[name] for name in (GREENLOAD, TUNED)}
        images = 4 * len(ground.work.paths)
        found += paced(group, both, builds=builds, rounds=rounds, images=images, note=_note)
    return found


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run it; 1 where something is out of reach."""
    options = arguments(argv)
    if why := library.why_missing():
        print(why)
        return 1
    names = [field.name for field in fields(Settings)]
    settings = Settings(**{name: getattr(options, name) for name in names})
    start, load = time.perf_counter(), os.getloadavg()
    with photos(options.photos, options.images) as folder:
        rows, raw = run(folder, settings)
    result = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine()),
        "kernel_version": library.version(),
        "settings": asdict(settings),
        "how": reach_rows.HOW,
        "load_average": {"before": load, "after": os.getloadavg()},
        "wall_s": time.perf_counter() - start,
        "rows": [asdict(row) | {"met": row.met} for row in rows],
        **raw,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    file_output.write(options.out, json.dumps(result, indent=1) + "\n")
    print(table(rows), *raw["curve"], *reach_rows.HOW, sep="\n")
    for text in raw["left_out"]:
        print(f"not measured: {text}")
    print(f"{options.out}: every window, in {result['wall_s']:.0f} s")
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
