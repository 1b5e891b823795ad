"""greenload against pipelines written by hand, side by side: CPU seconds per image, memory, and its own promises, how
far its joules can be trusted (``bench.truth``) and what its native path reaches (``bench.reach``) among them.

    python -m bench [--quick] [--photos FOLDER] [--out bench-results.json] [--only float32,uint8,memory]

Contestants of a group run in adjacent settled windows in shuffled order, built anew several times; ratios are taken
pair by pair within a round, and shown as their median and quartiles. The JSON holds every window.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported, which else reports what it lacks

from bench import choice, exits, interrupts, joins, odd_pictures, optimize, optimize_datasets, processes, reach, truth
from bench.contest import IMAGES, Row, Spread, Window, compete, cpu_s_per_image, looks, ratios, same_looks, table
from bench.photographs import photos, workload
from bench.processes import Import, Memory, Profile
from bench.subjects import DALI, FLOAT, GREENLOAD, UINT8, groups
from greenload.backends.native import library
from greenload.backends.registry import get
from greenload.system import file_output

FORMAT = "greenload.bench/1"
CHOICES = (choice.PHOTOS, choice.EVALUATION, choice.CIFAR)
LONG = ("profile", "truth", "exits", "interrupts", "pictures", "joins", "datasets", "reach", "optimize")
"""The parts that ``--quick`` leaves out."""
PARTS = (FLOAT, UINT8, DALI, *CHOICES, "memory", "import", *LONG)
REACH = {
    (FLOAT, "textbook"): 0.65,
    (UINT8, "hand-tuned, exact decoding"): 1.05,
    (UINT8, "hand-tuned, inexact decoding"): 1.10,
    (DALI, "hand-written"): 1.05,
}
"""The most that greenload's CPU seconds per image should be, as a share of a contestant's."""
MEMORY_REACH, IMPORT_REACH_S, PROFILE_REACH_S, SUM_REACH = 1.1, 0.3, 90.0, 0.10
TUNED = "hand-tuned, exact decoding"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-results.json"), help="the JSON file to write")
    parser.add_argument("--photos", help="a folder of class folders with JPEGs; sample photographs if not given")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, with commas between")
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer windows, none of the long parts")
    parser.add_argument("--builds", type=int, help="how often every contestant is built")
    parser.add_argument("--rounds", type=int, help="rounds of windows on each build")
    parser.add_argument("--images", type=int, default=IMAGES, help="images a window, and sample photographs")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-batches", type=int, default=200, help="batches until the peak of memory is read")
    options = parser.parse_args(argv)
    options.only = [part.strip() for part in options.only.split(",")]
    if unknown := sorted(set(options.only) - set(PARTS)):
        parser.error(f"--only takes parts of {', '.join(PARTS)}, not {', '.join(unknown)}")
    if options.quick:
        options.only = [part for part in options.only if part not in LONG]
        options.memory_batches = min(options.memory_batches, 100)
    options.builds = options.builds or (2 if options.quick else 3)
    options.rounds = options.rounds or (3 if options.quick else 4)
    return options


def ratio_rows(windows: list[Window]) -> list[Row]:
    """greenload against each of the others, and what an image costs each."""
    rows = []
    names = dict.fromkeys((w.group, w.contestant) for w in windows)
    for group, name in names:
        if name != GREENLOAD:
            spread = Spread.of(ratios(windows, group, GREENLOAD, name))
            rows.append(Row(f"{group}: CPU, greenload over {name}", "×", spread, REACH.get((group, name))))
    for group, name in names:
        cost = cpu_s_per_image(windows, group, name)
        rows.append(Row(f"{group}: {name}", "ms/image", Spread(cost.median * 1e3, cost.low * 1e3, cost.high * 1e3)))
    return rows


def memory_rows(found: list[Memory]) -> list[Row]:
    """greenload's peak over hand-tuned tf.data's, run by run, and the peaks."""
    peaks = {name: [m.peak_bytes for m in found if m.contestant == name] for name in (GREENLOAD, TUNED)}
    pairs = [ours / theirs for ours, theirs in zip(peaks[GREENLOAD], peaks[TUNED], strict=True)]
    row = Row("peak memory, greenload over hand-tuned tf.data", "×", Spread.of(pairs), MEMORY_REACH)
    return [row, *(Row(f"peak memory: {n}", "MB", Spread.of([p / 1e6 for p in ps])) for n, ps in peaks.items())]


def _count(what: str, bad: list[bool]) -> Row:
    return Row(f"{what}, of {len(bad)}", "", Spread.of([float(sum(bad))]), 0.0)


def import_rows(found: list[Import]) -> list[Row]:
    """The time, and how many heavy packages it loads."""
    heavy = [float(len(one.heavy)) for one in found]
    return [
        Row("import greenload", "s", Spread.of([one.wall_s for one in found]), IMPORT_REACH_S),
        Row("all its public names", "s", Spread.of([one.names_wall_s for one in found])),
        Row("import greenload: frameworks loaded", "", Spread.of(heavy), 0.0),
    ]


def profile_rows(found: list[Profile]) -> list[Row]:
    """The time, and how far the steps' sum is off the full run."""
    return [
        Row("greenload profile, wall time", "s", Spread.of([one.wall_s for one in found]), PROFILE_REACH_S),
        Row(
            "steps' sum against the held-out run, off by",
            "",
            Spread.of([abs(one.share - 1) for one in found]),
            SUM_REACH,
        ),
        *(
            Row("steps' sum over the held-out run (95 % interval)", "×", Spread(one.share, *one.interval))
            for one in found
        ),
    ]


def run(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Everything that was asked for, as JSON data."""
    from greenload.machine import machine

    work = workload(folder, options.batch, options.threads)
    result: dict[str, Any] = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine()),
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()},
        "photos": {
            "images": len(work.paths),
            "mean_bytes": sum(os.path.getsize(path) for path in work.paths) / len(work.paths),
        },
        "looks": {},
        "load_average_before": os.getloadavg(),
    }
    rows: list[Row] = []
    windows: list[Window] = []
    dali = importlib.util.find_spec("nvidia.dali") is not None if importlib.util.find_spec("nvidia") else False
    if not dali and DALI in options.only:
        _note(f"left out: {DALI}: DALI is not installed; pip install 'greenload[dali]'")
    for group, contestants in groups(work, dali).items():
        if group not in options.only:
            continue
        found = {name: looks(make, 2 * options.images) for name, make in contestants.items()}
        result["looks"][group] = same_looks(group, found, 2 * options.images, ours=GREENLOAD)
        windows += compete(
            group, contestants, builds=options.builds, rounds=options.rounds, images=options.images, note=_note
        )
    rows += ratio_rows(windows)
    chosen, choices = choice.groups(work, [part for part in CHOICES if part in options.only])
    for group, contestants in chosen.items():
        images = options.images if group != choice.CIFAR else 8 * options.images
        found = {name: looks(make, 2 * images) for name, make in contestants.items()}
        result["looks"][group] = same_looks(group, found, 2 * images, ours=choice.AUTO)
        windows += compete(group, contestants, builds=options.builds, rounds=options.rounds, images=images, note=_note)
    rows += choice.rows(windows, choices)
    result["choices"] = {one.group: one.to_dict() for one in choices}
    result["windows"] = [asdict(window) for window in windows]
    if "memory" in options.only:
        _note("peak memory")
        memory = [
            processes.peak_memory(work, UINT8, name, options.memory_batches)
            for _ in range(1 if options.quick else 2)
            for name in (GREENLOAD, TUNED)
        ]
        rows += memory_rows(memory)
        result["memory"] = [asdict(one) for one in memory]
    if "import" in options.only:
        _note("import")
        imports = [processes.import_time() for _ in range(5 if options.quick else 11)]
        rows += import_rows(imports)
        result["imports"] = [asdict(one) for one in imports]
    if "profile" in options.only:
        _note("greenload profile")
        profiles = [processes.profile(folder)]
        rows += profile_rows(profiles)
        result["profiles"] = [asdict(one) for one in profiles]
    if "truth" in options.only:
        found, raw, left_out = truth.run(truth.PARTS, truth.FULL)
        rows += found
        result["truth"] = {"parts": raw, "left_out": left_out}
    if "exits" in options.only:
        _note("how processes end")
        ended = exits.run(folder, exits.BACKENDS, tuple(exits.FORMS), tries=3)
        rows += [_count("processes that don't end as they have to", [bool(one.faults) for one in ended])]
        result["exits"] = [asdict(one) for one in ended]
    if "interrupts" in options.only:
        _note("how commands end on Ctrl-C")
        stopped = [one for name in interrupts.COMMANDS for one in interrupts.sweep(name, Path(folder), 8, 30.0)]
        rows += [_count("commands that don't end well on Ctrl-C", [bool(one.fault) for one in stopped])]
        result["interrupts"] = [asdict(one) for one in stopped]
    if "pictures" in options.only:
        _note("odd pictures")
        seen = odd_pictures.look(odd_pictures.pictures())
        _note(odd_pictures.summary(seen))
        rows += [_count("odd pictures that backends don't read alike", [bool(one.faults) for one in seen])]
        result["pictures"] = [asdict(one) for one in seen]
    if "joins" in options.only:
        _note("profiles of joined datasets")
        profiled = list(joins.run())
        late = [one.over > joins.OVER_REACH for one in profiled]
        rows += [
            _count(f"profiles that take over {joins.OVER_REACH}× of what they announced", late),
            _count("profiles whose total isn't what the dataset costs alone", [not one.held for one in profiled]),
        ]
        result["joins"] = [asdict(one) for one in profiled]
    if "datasets" in options.only:
        _note("datasets of published examples, improved")
        improved = list(optimize_datasets.run(folder, optimize_datasets.Settings()))
        saved = Spread.of([100 * (1 - one.ratio) for one in improved])
        least = 100 * optimize_datasets.REACH
        rows += [Row("CPU that optimize saves on published datasets, same elements", "%", saved, least=least)]
        result["datasets"] = [asdict(one) | {"ratio": one.ratio} for one in improved]
    if "reach" in options.only:
        if why := library.why_missing():
            _note(f"left out: reach: {why}")
        else:
            found, result["reach"] = reach.run(folder, reach.Settings(batch=options.batch, threads=options.threads))
            rows += found
    if "optimize" in options.only:
        settings = optimize.Settings(images=options.images, batch=options.batch, threads=options.threads)
        found, result["optimize"] = optimize.run(folder, settings)
        rows += found
    result["rows"] = [asdict(row) | {"met": row.met} for row in rows]
    result["load_average_after"] = os.getloadavg()
    print(table(rows))
    result["gpu"] = on_a_gpu()
    print(result["gpu"])
    return result


def on_a_gpu() -> str:
    """What of the figures on a GPU this run says: nothing, since ``bench.gpu`` measures them, where there is one."""
    found = get("dali").availability()
    what = "images per second and joules against hand-written DALI on a GPU (reach: within 3 %)"
    return f"{what}: not run here: {'' if found.usable else f'{found.detail}; '}python -m bench.gpu runs them"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run it; 1 where something is out of reach."""
    options = arguments(argv)
    start = time.perf_counter()
    with photos(options.photos, options.images) as folder:
        result = run(options, folder)
    result["wall_s"] = time.perf_counter() - start
    options.out.parent.mkdir(parents=True, exist_ok=True)
    file_output.write(options.out, json.dumps(result, indent=1) + "\n")
    print(f"{options.out}: every window, in {result['wall_s']:.0f} s")
    return 0 if all(row["met"] is not False for row in result["rows"]) else 1


if __name__ == "__main__":
    sys.exit(main())
