"""CPU seconds an element of an epoch with ``Echo(times)``, on sample photographs, on each backend that echoes.

    python -m bench.echo [--rounds 7] [--times 1 2 4] [--backends tf native] [--photos FOLDER] [--out FILE]

Windows of one stream of epochs each, by turns, behind one that fills buffers; a share is taken within a round.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import greenload as gl
from bench.contest import Row, Spread, table
from bench.photographs import photos
from greenload.machine import machine

FORMAT = "greenload.bench.echo/1"
BATCH = 64


def pipeline(folder: str, times: int) -> gl.Pipeline:
    """Crops of 224×224, flipped by chance; without ``Echo`` where ``times`` is 0."""
    echo = (gl.Echo(times),) if times else ()
    random = (gl.RandomResizedCrop(224), gl.RandomHorizontalFlip())
    return gl.Pipeline(gl.ImageFolder(folder), gl.Shuffle(), gl.Decode(), *echo, *random, gl.Batch(BATCH), seed=1)


class Contestant:
    """A pipeline's epochs in one stream, in this process."""

    def __init__(self, folder: str, backend: str, times: int, images: int, loads: bool) -> None:
        door = "load" if loads else "iterate"
        self.name = f"{door} on {backend}, {f'Echo({times})' if times else 'without Echo'}"
        make: Any = gl.load if loads else gl.iterate
        self._batches = iter(make(pipeline(folder, times), backend=backend, epochs=1_000_000))
        self._images = images
        self.window()

    def window(self) -> float:
        """CPU seconds an element."""
        begun, done = time.process_time(), 0
        while done < self._images:
            done += int(next(self._batches)[0].shape[0])
        return (time.process_time() - begun) / done


def compared(folder: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """CPU seconds an element, by contestant."""
    windows: dict[str, list[float]] = {}
    doors = [(name, loads) for name in options.backends for loads in ([True] if name == "tf" else [True, False])]
    for backend, loads in doors:
        contestants = [Contestant(folder, backend, times, options.images, loads) for times in (0, *options.times)]
        for number in range(options.rounds):
            turn = number % len(contestants)
            for contestant in (*contestants[turn:], *contestants[:turn]):
                windows.setdefault(contestant.name, []).append(contestant.window())
    return windows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.echo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", help="a folder of photographs; 512 sample photographs if not given")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--backends", nargs="+", default=["tf", "native"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=2048, help="in a window, at least")
    parser.add_argument("--out", type=Path, default=Path("bench-echo.json"), help="the JSON file to write")
    options = parser.parse_args(arguments)
    with photos(options.photos, 512) as folder:
        windows = compared(folder, options)
    rows = []
    for name, seen in windows.items():
        shares = [a / b for a, b in zip(seen, windows[name.split(",")[0] + ", without Echo"], strict=True)]
        rows.append(Row(f"{name}: CPU an element", "ms", Spread.of([1e3 * value for value in seen])))
        rows.append(Row(f"{name}: share of that without", "", Spread.of(shares)))
    print(table(rows))
    settings = {"rounds": options.rounds, "images": options.images, "batch": BATCH}
    report = {"format": FORMAT, "machine": asdict(machine()), "settings": settings, "cpu_s_per_element": windows}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
