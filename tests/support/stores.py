"""Stores whose every byte is known, and programs that other processes run on them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenload.backends.native.store import BLOCKS, LOCK, Store, folder_of

ROOT = Path(__file__).parents[2]
KEY = hashlib.sha256(b"a source").digest()
MIB = 1 << 20
PROGRAM = """
import os, resource, sys, threading, time
sys.path.insert(0, "tests/support")
from pathlib import Path
from stores import KEY, MIB, Store, blob, blocks, filled, held
folder = Path(sys.argv[1])
"""
"""How programs of other processes begin."""
WRITER = """
first, stop = map(int, sys.argv[2:4])
budget = int(sys.argv[4]) if len(sys.argv) > 4 else None
with Store(folder, KEY, 2000, budget) as store:
    print("ready", flush=True)
    for index in range(first, stop):
        store.put(index, blob(index))
    print("done", flush=True)
"""


def blob(index: int, size: int = 0) -> bytes:
    """A sample's bytes: any can be told from any other."""
    random = np.random.default_rng(index)
    return random.bytes(size or int(random.integers(1, 200_000)))


def held(store: Store, count: int) -> int:
    """How many samples are there; each is what was put."""
    found = 0
    for index in range(count):
        part = store.get(index)
        if part is not None:
            assert part.tobytes() == blob(index), index
            assert part.address % 64 == 0
            found += 1
    return found


def bytes_of(count: int, blocks: int = 1) -> int:
    """What a store counts for that many samples in so many files of a folder; 0: in RAM."""
    blobs = sum(-(-len(blob(index)) // 64) * 64 for index in range(count))
    return blobs + (192 * blocks + 32 * count if blocks else 0)  # each with a head, and a table


def unlocked(folder: Path) -> None:
    """Make processes that fill a folder know nothing of each other from here on, as where there are no locks."""
    (folder_of(folder, KEY) / LOCK).unlink()


def blocks(folder: Path) -> list[Path]:
    """The files of blocks."""
    return sorted(folder_of(folder, KEY).glob(BLOCKS))


def filled(folder: Path, count: int, budget: int | None = None, first: int = 0) -> None:
    """Keep samples in a folder, as a process that ends then."""
    with Store(folder, KEY, count, budget) as store:
        for index in range(first, count):
            store.put(index, blob(index))


def kept_anew(folder: Path, count: int, lost: int) -> None:
    """What is lost can be kept again, and is there for the next process, which has nothing to complain of."""
    with Store(folder, KEY, count) as store:
        assert held(store, count) == count - lost
        assert sum(store.put(index, blob(index)) for index in range(count)) == lost
        assert held(store, count) == count
    with Store(folder, KEY, count) as store:
        assert held(store, count) == count


def flipped(path: Path, at: int) -> None:
    """Change a bit of a file that nobody is to write to."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def command(program: str, folder: Path, *arguments: object) -> list[str]:
    """What runs a program in another process, from the checkout's folder."""
    return [sys.executable, "-c", PROGRAM + program, str(folder), *map(str, arguments)]


def run(program: str, folder: Path, *arguments: object, before: tuple[str, ...] = ()) -> str:
    """Run a program to its end; what it printed."""
    result = subprocess.run(
        [*before, *command(program, folder, *arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, ""), (result.returncode, result.stderr, result.stdout)
    return result.stdout


def obeying_modes() -> tuple[str, ...]:
    """What is to stand before a program so that files' modes hold for it, as they don't for root; else the test is
    skipped."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("modes of files don't hold for root, and there is no setpriv")
    return "setpriv", "--bounding-set=-dac_override,-dac_read_search"


def writer(folder: Path, first: int, stop: int, budget: int | str = "") -> subprocess.Popen[str]:
    """A process that keeps samples in a folder; prints ready and done."""
    arguments = [first, stop] + ([budget] if budget else [])
    options: dict[str, Any] = {"cwd": ROOT, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command(WRITER, folder, *arguments), **options)
