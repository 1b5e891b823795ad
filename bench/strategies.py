"""CPU seconds an augmented image: greenload's policies against others' of the same name, 224×224 uint8 from memory.

    python -m bench.strategies [--peers PYTHON] [--rounds 9] [--images 2048] [--out FILE]

Each contestant lives in a process of its own and makes a window of images in turn; a ratio is taken within a round.
``PYTHON`` is an interpreter with torchvision and Albumentations; if not given, the one that ``make bench-peers`` has
made. Without it only Keras is a peer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.contest import Row, Spread, table
from bench.peers import environments
from bench.strategies_worker import CONTESTANTS
from greenload.machine import machine

FORMAT = "greenload.bench.strategies/1"
SIDE, PICTURES = 224, 256
WORKER = Path(__file__).with_name("strategies_worker.py")
REACHES: Sequence[tuple[str, tuple[str, ...], float]] = (
    ("greenload randaugment", ("keras randaugment", "keras randaugment, one draw a batch"), 0.6),
    ("greenload randaugment", ("torchvision randaugment, tensors", "torchvision randaugment, Pillow"), 0.5),
    ("greenload randaugment", ("albumentations randaugment",), 0.9),
    ("greenload trivial", ("torchvision trivial, tensors", "torchvision trivial, Pillow"), 0.5),
)
"""Whose share of the cheapest of which peers should be at most how large."""


def pictures() -> NDArray[np.uint8]:
    """Windows of scikit-learn's two photographs, uint8 ``[256, 224, 224, 3]``."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    photos = load_sample_images().images
    found = []
    for number in range(PICTURES):
        photo = photos[number % len(photos)]
        top, left = (int(random.integers(0, side - SIDE)) for side in photo.shape[:2])
        found.append(photo[top : top + SIDE, left : left + SIDE])
    return np.stack(found)


class Contestant:
    """A process that makes images on demand."""

    def __init__(self, python: str, name: str, images: Path) -> None:
        self.name = name
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "NO_ALBUMENTATIONS_UPDATE": "1"}
        environment["PYTHONPATH"] = str(WORKER.parents[1]) if name.startswith("greenload") else ""
        self._process = subprocess.Popen(
            [python, str(WORKER), name, str(images)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._line()

    def window(self, images: int) -> float:
        """CPU seconds an image over a window.

        Raises:
            RuntimeError: the process has ended.
        """
        assert self._process.stdin is not None
        print(images, file=self._process.stdin, flush=True)
        done, cpu_s = self._line().split()
        return float(cpu_s) / int(done)

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} has ended: see what it printed above")
        return line


def judged(windows: Mapping[str, Sequence[float]]) -> list[Row]:
    """The table's rows: what an image costs everyone, and greenload's share of the cheapest peer of each kind."""
    rows = [
        Row(f"{name}: CPU an image", "ms", Spread.of([1e3 * value for value in own])) for name, own in windows.items()
    ]
    for ours, peers, reach in REACHES:
        there = [name for name in peers if name in windows]
        if ours in windows and there:
            cheapest = min(there, key=lambda name: float(np.median(windows[name])))
            shares = [a / b for a, b in zip(windows[ours], windows[cheapest], strict=True)]
            rows.append(Row(f"{ours} / {cheapest}", "", Spread.of(shares), reach))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 where something is out of reach."""
    parser = argparse.ArgumentParser(prog="python -m bench.strategies", description=(__doc__ or "").splitlines()[0])
    made = None if environments.missing("torch") else str(environments.named("torch").python)
    parser.add_argument("--peers", default=made, help="an interpreter that has torchvision and albumentations")
    parser.add_argument("--only", default="", help="contestants whose names have this in them")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=2048, help="in a window")
    parser.add_argument("--out", type=Path, default=Path("bench-strategies.json"), help="the JSON file to write")
    options = parser.parse_args(arguments)
    own = ("greenload", "keras")
    names = [name for name in CONTESTANTS if (options.peers or name.startswith(own)) and options.only in name]
    windows: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        np.save(images, pictures())
        running: list[Contestant] = []
        try:
            for name in names:
                python = sys.executable if name.startswith(own) else options.peers
                running.append(Contestant(python, name, images))
            for number in range(options.rounds):
                for contestant in running[number % len(running) :] + running[: number % len(running)]:
                    windows[contestant.name].append(contestant.window(options.images))
        finally:
            for contestant in running:
                contestant.close()
    rows = judged(windows)
    print(table(rows))
    report: Mapping[str, Any] = {
        "format": FORMAT,
        "machine": asdict(machine()),
        "settings": {"rounds": options.rounds, "images": options.images, "side": SIDE},
        "rows": [asdict(row) | {"met": row.met} for row in rows],
        "cpu_s_per_image": windows,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
