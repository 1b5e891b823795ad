"""The native kernel alone, in one thread: CPU milliseconds an image from a photograph's bytes to 224 × 224 pixels.

    python -m bench.native [--photos FOLDER] [--rounds 7]

A window as RandomResizedCrop draws it, resized without antialias and with it, half of them mirrored; from the files,
and from the forms in which they are kept between epochs. Shown are the
median and the least of several rounds, by the process's CPU clock, and what the kernel's own clocks say of each step.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from greenload.backends.native import library
from greenload.backends.native.abi import Flag, Form, KernelStep, Op
from greenload.backends.native.library import Program

SIDE = 224
IMAGES = 512


def main(arguments: list[str] | None = None) -> int:
    """Time and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.native", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", help="a folder of JPEGs; sample photographs if not given")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    if why := library.why_missing():
        print(why)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        files = _files(Path(options.photos or _samples(folder)))
    headers = library.probe(files, True, 1 << 30)
    files = [file for file, header in zip(files, headers, strict=True) if header[0]]
    sizes = headers[headers[:, 0] == 1, 1:]
    print(f"{len(files)} photographs of {sum(map(len, files)) // len(files):,} bytes; {library.version()}")
    works, programs = _works(files, kernel_params(sizes))
    for name, spent in _timed(works, options.rounds, len(files)).items():
        print(f"{name:<32} {statistics.median(spent):7.4f} ms, least {min(spent):.4f}")
    for name, program in programs.items():
        each, share = _own_clocks(works[name], program, options.rounds)
        print(f"own clocks, {name}: {' + '.join(f'{ms:.4f}' for ms in each)} ms, {share:.1%} of the thread's CPU time")
    return 0


def _own_clocks(work: Callable[[], Any], program: Program, rounds: int) -> tuple[list[float], float]:
    """What a program's clocks count meanwhile, CPU milliseconds an image by step, and their sum's share of what this
    thread's own clock counts."""
    before, begin = program.counters(), time.thread_time_ns()
    for _ in range(rounds):
        work()
    spent, after = time.thread_time_ns() - begin, program.counters()
    steps = [now.nanoseconds - then.nanoseconds for now, then in zip(after[:-1], before[:-1], strict=True)]
    return [step / (after[-1].images - before[-1].images) / 1e6 for step in steps], sum(steps) / spent


def _samples(folder: str) -> str:
    from greenload.sources.samples import make_samples

    make_samples(Path(folder), images=IMAGES, classes=1)
    return folder


def _files(folder: Path) -> list[bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    return [path.read_bytes() for path in paths[:IMAGES]]


def kernel_params(sizes: Any) -> Any:
    """Of each image a window in the way of RandomResizedCrop, and whether it is mirrored."""
    random, rows = np.random.default_rng(0), []
    for height, width in sizes.tolist():
        area, ratio = height * width * random.uniform(0.08, 1), np.exp(random.uniform(-1, 1) * np.log(4 / 3))
        tall, wide = min(height, round((area / ratio) ** 0.5)), min(width, round((area * ratio) ** 0.5))
        top, left = random.integers(height - tall + 1), random.integers(width - wide + 1)
        rows.append((top, left, tall, wide, random.integers(2)))
    return np.array(rows, np.float64)


def _works(files: Sequence[bytes], params: Any) -> tuple[dict[str, Callable[[], Any]], dict[str, Program]]:
    """What is timed, by name, and the programs among it."""
    decode, flip = KernelStep(Op.DECODE, Flag.WINDOW, 0), KernelStep(Op.FLIP, column=4)
    scaled = KernelStep(Op.AFFINE, dtype_out="float32", numbers=(1 / 255, 0.0))
    plain = KernelStep(Op.RESIZE, height=SIDE, width=SIDE)
    antialiased = KernelStep(Op.RESIZE, Flag.ANTIALIAS, height=SIDE, width=SIDE)
    programs = {
        "no antialias": Program([decode, plain, flip], 5),
        "antialiased": Program([decode, antialiased, flip], 5),
        "antialiased, to float32": Program([decode, antialiased, flip, scaled], 5),
    }
    batches = [np.ones((len(files), SIDE, SIDE, 3), np.uint8 if i < 2 else np.float32) for i in range(3)]
    windows = [np.ones((int(row[2]), int(row[3]), 3), np.uint8) for row in params]
    window = Program([decode], 5)
    works: dict[str, Callable[[], Any]] = {"probing": lambda: library.probe(files, True, 1 << 30)}
    works["decoding the window"] = lambda: window.run(files, params, windows)
    for (name, program), batch in zip(programs.items(), batches, strict=True):
        works[name] = lambda program=program, batch=batch: program.run(files, params, batch)
    for form in (Form.TRANSCODED, Form.COEFFICIENTS, Form.PLANES, Form.PIXELS):
        kept = [library.transcode(file, form) for file in files]
        print(f"{form.name.lower()}: {sum(map(len, kept)) // len(kept):,} bytes")
        for name in ("no antialias", "antialiased"):
            program = Program([decode, plain if name == "no antialias" else antialiased, flip], 5)
            works[f"{form.name.lower()}, {name}"] = lambda program=program, kept=kept: program.run(
                kept, params, batches[0]
            )
    return works, programs


def _timed(works: dict[str, Callable[[], Any]], rounds: int, images: int) -> dict[str, list[float]]:
    """CPU milliseconds an image of each, interleaved."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):  # the first warms up
        for name, work in works.items():
            begin = time.process_time()
            work()
            spent[name].append((time.process_time() - begin) / images * 1e3)
    return {name: values[1:] for name, values in spent.items()}


if __name__ == "__main__":
    sys.exit(main())
