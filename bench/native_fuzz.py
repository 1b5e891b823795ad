"""The native kernel under AddressSanitizer and UBSan: damaged files, and random programs on random pixels.

``python -m bench.native_fuzz --count 10000`` builds a sanitised copy of the kernel with a driver
(``bench/native_fuzz.cpp``) in a temporary folder, and gives it damaged files from a seed (``tests/support/damage.py``).
A file that ends the driver is looked for, named, and kept. It takes a C++ compiler with its sanitisers.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
KERNEL = ROOT / "greenload" / "backends" / "native" / "kernel"
FLAGS = ("-std=c++17", "-O1", "-g", "-ffp-contract=off", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
PART = 500
"""Files that one driver looks at."""
SECONDS_PER_FILE = 4.0
"""Beyond them a driver hangs: under the sanitisers, on a busy machine."""
SEED_STEP = 1_000_003
"""Between the seeds of parts, so that no two draw alike."""


def main(arguments: list[str] | None = None) -> int:
    """Run all parts; 1 if one ended by a sanitiser, a signal or the clock."""
    parser = argparse.ArgumentParser(prog="python -m bench.native_fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="how many damaged files (default: 10,000)")
    parser.add_argument("--programs", type=int, default=10_000, help="how many random programs (default: 10,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="compilers, and drivers, at a time")
    options = parser.parse_args(arguments)
    begin, failures = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        driver = build(Path(folder), options.jobs)
        print(f"built in {time.perf_counter() - begin:.0f} s", flush=True)
        parts = [range(at, min(at + PART, options.count)) for at in range(0, options.count, PART)]
        programs = -(-options.programs // max(len(parts), 1))
        for said, failure in pool.map(lambda part: run(driver, options.seed, part, programs), parts):
            print(said, flush=True)
            failures += [failure] if failure else []
    for failure in failures:
        print(failure)
    print(f"{len(failures)} failures in {time.perf_counter() - begin:.0f} s; seed {options.seed}")
    return 1 if failures else 0


def build(folder: Path, jobs: int, flags: Sequence[str] = FLAGS) -> Path:
    """The driver, compiled in a folder with the kernel's sources."""
    sources = [*sorted(KERNEL.glob("*.cpp")), ROOT / "bench" / "native_fuzz.cpp"]

    def compiled(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        subprocess.run(["c++", *flags, "-I", str(KERNEL), "-c", str(source), "-o", str(target)], check=True)
        return target

    with ThreadPoolExecutor(jobs) as pool:
        objects = list(pool.map(compiled, sources))
    driver = folder / "driver"
    # Of the shared libjpeg: a program may print errors.
    subprocess.run(["c++", *flags, *map(str, objects), "-o", str(driver), "-ljpeg"], check=True)
    return driver


def run(driver: Path, seed: int, part: range, programs: int) -> tuple[str, str]:
    """What a driver says of a part of the files; and of a failure what it was, with the file that did it."""
    files = [_damaged(seed, index) for index in part]
    said, error = _drive(driver, seed + part.start * SEED_STEP, files, programs)
    if not error:
        return said, ""
    for index, file in zip(part, files, strict=True):
        # A file draws by its place among the others.
        if _drive(driver, seed + part.start * SEED_STEP + index - part.start, [file], 0)[1]:
            kept = Path(tempfile.gettempdir()) / f"native-fuzz-{seed}-{index}.bin"
            kept.write_bytes(file)
            return said, f"file {index}, kept as {kept}: {error}"
    return said, f"programs of the part from file {part.start} on: {error}"


def _damaged(seed: int, index: int) -> bytes:
    """A damaged file; every third is what the kernel keeps of one between epochs, damaged; every fifth a JPEG of random
    bits in a random Huffman code."""
    from damage import KINDS, damaged

    random = np.random.default_rng([seed, index])
    if index % 5 == 4:
        return _random_bits(random)
    if index % 3 or not _kept():
        return damaged(seed, index).data
    blob = _kept()[int(random.integers(len(_kept())))]
    return KINDS[list(KINDS)[int(random.integers(len(KINDS)))]](blob, random)


def _random_bits(random: np.random.Generator) -> bytes:
    """A grey JPEG, sequential or progressive, whose codes are shorter than any encoder's: many fit into one look-up."""
    from odd_jpegs import by_hand

    def code(symbols: Sequence[int]) -> list[tuple[int, int]]:
        lengths, left = [], 1.0
        while len(lengths) < 40 and left > 2.0**-16:
            length = int(random.integers(1, 17))
            if 2.0**-length < left:  # no code is all ones
                lengths.append(length)
                left -= 2.0**-length
        # Each symbol has a code if there are enough: runs, ends, and what is no symbol at all.
        chosen = [*random.permutation(symbols), *random.choice(symbols, 40)]
        return [(length, int(symbol)) for length, symbol in zip(sorted(lengths), chosen, strict=False)]

    def bits() -> str:
        return "".join(random.choice(["0", "1"], int(random.integers(1, 4000)), p=[chance, 1 - chance]))

    chance = float(random.uniform(0.3, 0.95))
    usual = [0, 0x01, 0x10, 0x11, 0xE1, 0xF0]
    codes = [code(range(12)), code(usual if random.random() < 0.5 else [*usual, *random.integers(0, 256, 8).tolist()])]
    height, width = (int(side) for side in random.integers(1, 100, 2))
    if random.random() < 0.5:
        return by_hand(height, width, codes, [(bits(), 0, 63, 0, 0)])
    scans = [(bits(), 0, 0, 0, 1), (bits(), 1, 63, 0, 1), (bits(), 0, 0, 1, 0), (bits(), 1, 63, 1, 0)]
    return by_hand(height, width, codes, scans, 0xC2)


@functools.cache
def _kept() -> list[bytes]:
    """Plain JPEGs in every form; none where the kernel isn't built."""
    from damage import whole

    from greenload.backends.native import abi, library

    blobs: list[bytes] = []
    for data in [] if library.why_missing() else whole().values():
        for form in sorted(set(abi.Form) - {abi.Form.ENCODED}):
            with contextlib.suppress(ValueError):
                blobs.append(library.transcode(data, form))
    return blobs


def _drive(driver: Path, seed: int, files: Sequence[bytes], programs: int) -> tuple[str, str]:
    """What the driver printed, and its last words where it failed."""
    fed = b"".join(struct.pack("<Q", len(file)) + file for file in files)
    environment = {**os.environ, "ASAN_OPTIONS": "allocator_may_return_null=1:max_allocation_size_mb=4096"}
    limit = 60 + SECONDS_PER_FILE * len(files) + programs
    try:
        done = subprocess.run(
            [str(driver), str(seed), str(programs)], input=fed, capture_output=True, timeout=limit, env=environment
        )
    except subprocess.TimeoutExpired:
        return "", f"no end within {limit:.0f} s"
    if done.returncode:
        return "", f"exit status {done.returncode}\n{done.stderr.decode(errors='replace')[-3000:]}"
    return done.stdout.decode().strip(), ""


sys.path.insert(0, str(ROOT / "tests/support"))

if __name__ == "__main__":
    sys.exit(main())
