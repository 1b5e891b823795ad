"""What sources cost: listing, indexing, starting an epoch, reading one by one or packed, and memory over a long run.

    python -m bench.sources [--quick] [--json bench-sources.json] [--folder SCRATCH]

Makes its data below a scratch folder: a million hard links to small photos, and packs of sample photographs; all of it
is removed afterwards. Each part runs in a process of its own, with the page cache warm.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import greenload as gl
from greenload.machine import machine
from greenload.sources.formats import record_index
from greenload.sources.samples import make_samples
from greenload.system import file_output

FORMAT = "greenload.bench.sources/1"
LISTING_REACH_S, LISTING_REACH_MB, INDEX_REACH_MB_S, START_REACH, SLOPE_REACH = 10.0, 400.0, 500.0, 2.0, 4.0
"""What is aimed at. ``START_REACH``: the largest set's epoch start over the smallest's; ``SLOPE_REACH``: megabytes of
resident memory that a million samples may add."""
A_CLASS = 1000  # files in a class folder of the large set
SMALL = 32  # pixels a side of the small photos


def small_photos(folder: Path, count: int) -> None:
    """JPEGs of 32×32 pixels, each another, in 10 class folders."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    for i in range(count):
        tile = random.integers(0, 256, (4, 4, 3)).astype(np.float32)
        pixels = tf.cast(tf.clip_by_value(tf.image.resize(tile, (SMALL, SMALL), "bicubic"), 0, 255), tf.uint8)
        place = folder / f"class-{i % 10}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:06}.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())


def linked(folder: Path, files: list[Path], count: int) -> None:
    """``count`` names for a few files, in class folders. A file has 65,000 names at most on ext4: a copy a class."""
    for begin in range(0, count, A_CLASS):
        place = folder / f"class-{begin // A_CLASS:04}"
        place.mkdir(parents=True)
        first = place / "photo-000000.jpg"
        shutil.copy(files[begin // A_CLASS % len(files)], first)
        for i in range(1, min(A_CLASS, count - begin)):
            os.link(first, place / f"photo-{i:06}.jpg")


def memory_mb() -> tuple[float, float]:
    """Resident memory now and at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return int(kilobytes["VmRSS"]) / 1e3, int(kilobytes["VmHWM"]) / 1e3


def listing(folder: str) -> dict[str, Any]:
    """Opening a folder of class folders."""
    before, _ = memory_mb()
    source = gl.ImageFolder(folder)
    start = time.perf_counter()
    count = len(source)
    seconds = time.perf_counter() - start
    return {"files": count, "seconds": seconds, "peak_mb": memory_mb()[1] - before}


def epoch_start(folder: str) -> dict[str, Any]:
    """From ``iter`` to the first batch; the median of five epochs, the first left out, which also builds the graph."""
    source = gl.ImageFolder(folder, min_classes=1)
    pipeline = gl.Pipeline(source, gl.Shuffle(), gl.Decode(), gl.CenterCrop(SMALL), gl.Batch(32))
    start = time.perf_counter()
    dataset = gl.load(pipeline)
    loaded = time.perf_counter() - start
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        next(iter(dataset))
        seconds.append(time.perf_counter() - start)
    return {"samples": len(source), "load_s": loaded, "first_s": seconds[0], "start_s": statistics.median(seconds[1:])}


def index(files: list[str]) -> dict[str, Any]:
    """Building files' indices, their pages in memory; the best of three."""
    size = sum(os.path.getsize(path) for path in files)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        records = sum(len(record_index.build(path, "plain", "image", "label").records) for path in files)
        seconds.append(time.perf_counter() - start)
    return {"records": records, "megabytes": size / 1e6, "mb_per_s": size / 1e6 / min(seconds[1:])}


def reads(folder: str, packed: str, rounds: int) -> dict[str, Any]:
    """Reads, bytes and CPU of reading alone, an image; medians of adjacent windows.

    Without the parallel map that reading shares with decoding: waking its threads for so little work costs as much as
    the work, and differs with the machine's load.
    """
    from greenload.energy.settle import settle
    from greenload.loading.dataset import DatasetBuilder
    from greenload.plans.order import Order
    from greenload.profiling.runs import DatasetRun, plan_run

    files, records = gl.ImageFolder(folder), gl.TFRecords(packed)
    pipelines = {
        "folder": gl.Pipeline(files, gl.Shuffle()),
        "packed": gl.Pipeline(records, gl.Shuffle()),
        "packed, block=64": gl.Pipeline(records, gl.Shuffle(block=64)),
        "packed, block=256": gl.Pipeline(records, gl.Shuffle(block=256)),
        "packed, in order": gl.Pipeline(records),
    }
    runs: dict[str, DatasetRun] = {}
    for name, pipeline in pipelines.items():
        plan = gl.make_plan(pipeline, "tf", threads=2)
        build = DatasetBuilder(plan, Order(pipeline, None, endless=True))
        runs[name] = plan_run(build.endless_roots().map(build.stream.reading.sample), 1, plan)
        runs[name].run(len(files))
        settle()
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            before, cpu = _io(), time.process_time()
            passed = run.run(2 * len(files))
            settle()
            after = _io()
            seen[name].append(
                (
                    (time.process_time() - cpu) / passed,
                    (after["syscr"] - before["syscr"]) / passed,
                    (after["rchar"] - before["rchar"]) / passed,
                )
            )
    return {
        name: {
            "cpu_s_per_image": statistics.median(cpu for cpu, _, _ in windows),
            "lowest_cpu_s_per_image": min(cpu for cpu, _, _ in windows),
            "reads_per_image": statistics.median(calls for _, calls, _ in windows),
            "bytes_per_image": statistics.median(size for _, _, size in windows),
        }
        for name, windows in seen.items()
    }


def _io() -> Mapping[str, int]:
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def long_run(packed: str, samples: int, every: int) -> dict[str, Any]:
    """Resident memory while many samples pass, several epochs of a packed set; and its slope over the last two
    thirds."""
    source = gl.TFRecords(packed)
    pipeline = gl.Pipeline(
        source,
        gl.Shuffle(block=256),
        gl.Decode(),
        gl.RandomResizedCrop(SMALL),
        gl.RandomHorizontalFlip(),
        gl.Batch(256),
    )
    epochs = -(-samples // len(source))
    passed, due, curve = 0, every, [(0, memory_mb()[0])]
    start = time.perf_counter()
    for images, _ in gl.load(pipeline, epochs=epochs, threads=2):
        passed += len(images)
        if passed >= due:
            gc.collect()
            curve.append((passed, memory_mb()[0]))
            due += every
        if passed >= samples:
            break
    last = np.array(curve[len(curve) // 3 :])
    slope = float(np.polyfit(last[:, 0] / 1e6, last[:, 1], 1)[0])
    return {
        "samples": passed,
        "epochs": passed / len(source),
        "seconds": time.perf_counter() - start,
        "curve": [{"samples": int(at), "resident_mb": resident} for at, resident in curve],
        "slope_mb_per_million": slope,
        "spread_mb": float(last[:, 1].max() - last[:, 1].min()),
    }


_PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "listing": listing,
    "epoch_start": epoch_start,
    "index": index,
    "reads": reads,
    "long_run": long_run,
}


def apart(part: str, *given: Any) -> dict[str, Any]:
    """A part in a process of its own."""
    command = [sys.executable, "-m", "bench.sources", "--part", json.dumps([part, *given])]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        raise RuntimeError(f"{part} ended with status {done.returncode}: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(scratch: Path, quick: bool) -> dict[str, Any]:
    """All parts."""
    large, samples = (20_000, 40_000) if quick else (1_000_000, 1_000_000)
    found: dict[str, Any] = {}
    print("making data …", flush=True)
    small_photos(scratch / "small", 500 if quick else 20_000)
    photos = sorted((scratch / "small").rglob("*.jpg"))
    linked(scratch / "large", photos, large)
    sizes = sorted({1_000, large // 10, large})
    for size in sizes[:-1]:
        part = scratch / f"first-{size}"
        part.mkdir()
        for name in sorted(os.listdir(scratch / "large"))[: max(1, size // A_CLASS)]:
            (part / name).symlink_to(scratch / "large" / name)
    make_samples(scratch / "photos", images=512)
    many = scratch / "many"
    for k in range(2 if quick else 8):  # copies: files that share their bytes would stay in the processor's cache
        shutil.copytree(scratch / "photos", many / f"copy-{k}")
    gl.pack(gl.ImageFolder(many), scratch / "packed")
    gl.pack(gl.ImageFolder(scratch / "small"), scratch / "packed-small")

    found["listing"] = apart("listing", str(scratch / "large"))
    shown = found["listing"]
    print(f"listing {shown['files']} files: {shown['seconds']:.2f} s, {shown['peak_mb']:.0f} MB", flush=True)
    found["epoch_start"] = [
        apart("epoch_start", str(scratch / (f"first-{size}" if size != large else "large"))) for size in sizes
    ]
    for shown in found["epoch_start"]:
        print(f"epoch start, {shown['samples']} samples: {shown['start_s'] * 1e3:.0f} ms", flush=True)
    found["index"] = {
        name: apart("index", [str(path) for path in sorted((scratch / name).glob("*.tfrecord-*-of-?????"))])
        for name in ("packed", "packed-small")
    }
    for name, shown in found["index"].items():
        mean = shown["megabytes"] / shown["records"] * 1e3
        print(f"index of {name} ({mean:.1f} kB a record): {shown['mb_per_s']:.0f} MB/s", flush=True)
    found["reads"] = apart("reads", str(many), str(scratch / "packed"), 3 if quick else 9)
    for name, shown in found["reads"].items():
        print(
            f"{name}: {shown['reads_per_image']:.3f} reads, {shown['cpu_s_per_image'] * 1e6:.0f} µs of CPU, "
            f"{shown['bytes_per_image'] / 1e3:.1f} kB an image",
            flush=True,
        )
    found["long_run"] = apart("long_run", str(scratch / "packed-small"), samples, samples // 50)
    shown = found["long_run"]
    print(
        f"{shown['samples']} samples in {shown['seconds']:.0f} s: memory grows by "
        f"{shown['slope_mb_per_million']:.2f} MB a million samples, spread {shown['spread_mb']:.1f} MB",
        flush=True,
    )
    return found


def verdicts(found: Mapping[str, Any]) -> dict[str, bool]:
    """What was aimed at, and whether it holds."""
    starts = [part["start_s"] for part in found["epoch_start"]]
    return {
        f"listing within {LISTING_REACH_S:.0f} s": found["listing"]["seconds"] <= LISTING_REACH_S,
        f"listing within {LISTING_REACH_MB:.0f} MB": found["listing"]["peak_mb"] <= LISTING_REACH_MB,
        f"index at {INDEX_REACH_MB_S:.0f} MB/s": all(
            part["mb_per_s"] >= INDEX_REACH_MB_S for part in found["index"].values()
        ),
        f"epoch start within {START_REACH:.0f} times the smallest set's": starts[-1] <= START_REACH * starts[0],
        f"memory grows by at most {SLOPE_REACH:.0f} MB a million samples": found["long_run"]["slope_mb_per_million"]
        <= SLOPE_REACH,
    }


def main(argv: list[str] | None = None) -> int:
    """Run it; exit status 1 if something aimed at isn't reached."""
    parser = argparse.ArgumentParser(prog="python -m bench.sources", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, default=Path("bench-sources.json"), help="the JSON file to write")
    parser.add_argument("--folder", help="where scratch data goes (default: the system's temporary folder)")
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the size, to see that it runs")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        name, *given = json.loads(options.part)
        print(json.dumps(_PARTS[name](*given)))
        return 0
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        found = measure(Path(scratch), options.quick)
    held = verdicts(found)
    for what, holds in held.items():
        print(f"{'yes' if holds else 'NO '}  {what}")
    document = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": options.quick,
        "seconds": time.perf_counter() - start,
        "machine": asdict(machine()),
        **found,
        "reached": held,
    }
    file_output.write(options.json, json.dumps(document, indent=1) + "\n")
    print(f"written: {options.json}, after {document['seconds']:.0f} s")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
