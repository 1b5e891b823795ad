"""Damaged images through every backend: each accepted by all alike or refused by all, without a crash or a hang.

``python -m bench.corrupted --count 10000 --json FILE`` makes the files from a seed (``tests/support/damage.py``), gives
them in parts to worker processes, and prints what became of them by kind of damage. A worker that dies or hangs is
started again on each half of its part, until the file that did it is alone.

Each file is looked at in these ways, for ``tf``, ``dali-cpu``, ``pillow`` and, where it is built, ``native``:
``verify`` (for that backend), a full decode in a batch with good files, a crop within decoding in such a batch, and
``load(on_error="skip")`` of all that were accepted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from greenload.backends.native.library import why_missing

ROOT = Path(__file__).parents[1]
PART = 250
"""Files that one worker process looks at."""
SECONDS_PER_FILE, SECONDS_TO_START = 2.0, 120.0
"""Beyond these a worker hangs."""
BACKENDS = ("tf", "dali-cpu", "pillow", *(("native",) if not why_missing() else ()))
OUTCOMES = {
    "accepted": "by verify, full decode, cropped decode and load on every backend, with the same pixels",
    "refused": "by all of them",
    "by kind": "accepted on the backends that read its kind, refused by name on the others",
    "tf passes": "refused by verify and by the others, but tf's decoder of JPEG or GIF passes over its damage",
    "disagreed": "anything else: a defect",
    "pixels differ": "accepted, but not the same bits on all backends: a defect",
    "crashed": "the process died: a defect",
    "hung": "the process didn't come back: a defect",
}
"""What can become of a file."""
DEFECTS = ("disagreed", "pixels differ", "crashed", "hung")


def main(arguments: list[str] | None = None) -> int:
    """Run all parts and print the table; 1 if anything but agreement was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.corrupted", description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="how many files (default: 10,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="index of the first file")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time")
    parser.add_argument("--json", help="write every file's outcome here")
    parser.add_argument("--worker", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        print(json.dumps(look_at(options.seed, *options.worker)))
        return 0
    begin = time.perf_counter()
    found = run(options.seed, options.first, options.count, options.workers)
    print(table(found))
    print("\n".join(f"{name}: {what}" for name, what in OUTCOMES.items()))
    print(f"{len(found)} files in {time.perf_counter() - begin:.0f} s; seed {options.seed}")
    wrong = [one for one in found if one["outcome"] in DEFECTS]
    for one in wrong[:40]:
        print(json.dumps(one))
    if options.json:
        from greenload.system import file_output

        file_output.write(options.json, json.dumps({"seed": options.seed, "files": found}, indent=0) + "\n")
    return 1 if wrong else 0


def run(seed: int, first: int, count: int, workers: int = 1) -> list[dict[str, Any]]:
    """What became of files ``first`` to ``first + count − 1``, in worker processes."""
    from concurrent.futures import ThreadPoolExecutor

    parts = [(at, min(PART, first + count - at)) for at in range(first, first + count, PART)]
    with ThreadPoolExecutor(workers) as pool:
        return [one for part in pool.map(lambda part: _part(seed, *part), parts) for one in part]


def _part(seed: int, first: int, count: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "bench.corrupted", "--seed", str(seed), "--worker", str(first), str(count)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_START + count * SECONDS_PER_FILE,
        )
        if done.returncode == 0:
            results: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
            return results
        if done.returncode > 0:
            raise RuntimeError(f"the worker for files {first} … {first + count - 1} failed: {done.stderr[-3000:]}")
        outcome, why = "crashed", done.stderr[-500:]
    except subprocess.TimeoutExpired:
        outcome, why = "hung", ""
    if count > 1:
        half = count // 2
        return _part(seed, first, half) + _part(seed, first + half, count - half)
    from damage import damaged

    file = damaged(seed, first)
    return [{"index": first, "file": file.name, "damage": file.damage, "outcome": outcome, "why": why}]


def table(found: list[dict[str, Any]]) -> str:
    """Outcomes by kind of damage."""
    counts = Counter((one["damage"], one["outcome"]) for one in found)
    rows = [("damage", *OUTCOMES)]
    for damage in dict.fromkeys(one["damage"] for one in found):
        rows.append((damage, *(str(counts[damage, outcome]) for outcome in OUTCOMES)))
    rows.append(("all", *(str(sum(n for (_, o), n in counts.items() if o == outcome)) for outcome in OUTCOMES)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )


# In a worker


def look_at(seed: int, first: int, count: int) -> list[dict[str, Any]]:
    """What becomes of each of some files."""
    from damage import damaged

    files = [damaged(seed, index) for index in range(first, first + count)]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        paths = []
        for index, file in enumerate(files):
            paths.append(Path(folder) / f"{index:05d}.bin")
            paths[-1].write_bytes(file.data)
        verified = {name: _verified(paths, name) for name in BACKENDS}
        full = {name: _decoded([file.data for file in files], name, crop=False) for name in BACKENDS}
        cropped = {name: _decoded([file.data for file in files], name, crop=True) for name in BACKENDS}
        for name in BACKENDS:
            _load(paths, name, [i for i in range(count) if not verified[name][i]])
    results = []
    for index, file in enumerate(files):
        found = {
            "index": first + index,
            "file": file.name,
            "damage": file.damage,
            "verified": {name: verified[name][index] for name in BACKENDS},
            "full": {name: full[name][index][1] for name in BACKENDS},
            "crop": {name: cropped[name][index][1] for name in BACKENDS},
        }
        pixels = [[way[name][index][0] for name in BACKENDS] for way in (full, cropped)]
        results.append(found | {"outcome": _outcome(file.data, found, *pixels)})
    return results


def _outcome(data: bytes, found: dict[str, Any], full: list[Any], crops: list[Any]) -> str:
    from greenload.backends.tables import reading
    from greenload.sources import formats

    able: tuple[str, ...] = BACKENDS
    with contextlib.suppress(formats.FormatError):
        able = reading(formats.header(data).kind)
    good = [name for name in BACKENDS if found["verified"][name] == ""]
    if good != [name for name in BACKENDS if name in able] and good:
        return "disagreed"
    decoded = {name: [found[way][name] == "" for way in ("full", "crop")] for name in BACKENDS}
    if not all(all(decoded[name]) for name in good):
        return "disagreed"
    passed = [name for name in BACKENDS if name not in good and any(decoded[name])]
    if passed:
        return "tf passes" if passed == ["tf"] and formats.sniff(data) in ("JPEG", "GIF") else "disagreed"
    for images in (full, crops):
        there = [image for image in images if image is not None]
        if any(image.shape != there[0].shape or (image != there[0]).any() for image in there):
            return "pixels differ"
    if not good:
        return "refused"
    return "accepted" if len(good) == len(BACKENDS) else "by kind"


def _verified(paths: list[Path], backend: str) -> list[str]:
    """Why each file is bad for a backend; empty for good ones."""
    from greenload.loading.verify import verify
    from greenload.sources import Files

    found = verify(Files(paths), remember=False, backend=backend)
    bad = dict(zip(found.bad_indices, found.bad, strict=True))
    return [bad[i].reason if i in bad else "" for i in range(len(paths))]


def _plan(backend: str, count: int, crop: bool) -> tuple[Any, Any]:
    import numpy as np

    from greenload import Batch, CenterCrop, Decode, Pad, Pipeline
    from greenload.planning.choose import make_plan
    from greenload.plans.params import DrawLayout
    from greenload.sources import Files

    # With a border between them decoding and cropping don't become one.
    stages = _cropping() if crop else (Decode(exif=True), Pad(1), CenterCrop((64, 64)))
    pipeline = Pipeline(Files([str(i) for i in range(count)]), *stages, Batch(16), seed=5)
    return make_plan(pipeline, backend, threads=1), DrawLayout.of(pipeline).prepare(5, 0, np.arange(count))


def _cropping() -> tuple[Any, ...]:
    """Stages that every backend does to the same bits, and that decode no more than a window."""
    from greenload import Decode, RandomCrop

    return Decode(), RandomCrop((16, 20), pad_if_needed=True)


def _decoded(files: list[bytes], backend: str, crop: bool) -> list[tuple[Any, str]]:
    """Each file's pixels and ``""``, or ``None`` and why it is bad, from batches that hold good and bad ones."""
    plan, numbers = _plan(backend, len(files), crop)
    return (through_tf if backend == "tf" else in_batches)(plan, files, numbers)


def through_tf(plan: Any, files: list[bytes], numbers: Any) -> list[tuple[Any, str]]:
    """Each file's pixels and ``""``, or ``None`` and that it is bad, from a plan on tf."""
    import tensorflow as tf

    from greenload.backends.registry import readers_of
    from greenload.backends.tf import backend as backend
    from greenload.loading.elements import compose

    steps = [step for step in plan.steps if step.kind == "pixels"]
    work = compose(backend.elements(plan, steps, readers_of(plan)))
    states = {"image": files, "numbers": numbers, "index": list(range(len(files)))}
    samples = tf.data.Dataset.from_tensor_slices(states).map(work, num_parallel_calls=1).ignore_errors()
    results: list[tuple[Any, str]] = [(None, "not decoded")] * len(files)
    for state in samples.as_numpy_iterator():
        results[int(state["index"])] = (state["image"], "")
    return results


def in_batches(plan: Any, files: list[bytes], numbers: Any) -> list[tuple[Any, str]]:
    """Each file's pixels and ``""``, or ``None`` and why it is bad, from a plan on another backend."""
    from greenload.backends.base import Records
    from greenload.backends.chain import Chain
    from greenload.errors import RecordError

    results: list[tuple[Any, str]] = [(None, "not decoded")] * len(files)
    with Chain(plan, 16) as runner:
        for start in range(0, len(files), 16):
            left = list(range(start, min(start + 16, len(files))))
            while left:
                records = Records([files[i] for i in left], numbers[left], [str(i) for i in left])
                try:
                    for i, image in zip(left, runner.run(records), strict=True):
                        results[i] = (image.copy(), "")
                    break
                except RecordError as error:
                    results[int(error.path)] = (None, error.reason)
                    left.remove(int(error.path))
    return results


def _load(paths: list[Path], backend: str, good: list[int]) -> None:
    """All files, through ``load``: it must give the good ones."""
    if not good:
        return
    import warnings

    from greenload import Batch, Pipeline, load
    from greenload.sources import Files

    pipeline = Pipeline(Files(paths, labels=range(len(paths))), *_cropping(), Batch(16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels = [int(n) for _, batch in load(pipeline, backend, epochs=1, on_error="skip") for n in batch]
    if labels != good:
        raise AssertionError(f"{backend}: loaded {labels}, not {good}")


sys.path.insert(0, str(ROOT / "tests/support"))

if __name__ == "__main__":
    sys.exit(main())
