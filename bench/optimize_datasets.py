"""What `greenload.optimize` saves on published examples' input pipelines, elements unchanged.

    python -m bench.optimize_datasets [--json FILE] [--photos FOLDER] [--only NAME ...] [--rounds 5] [--seconds 180]
        [--epochs 20] [--ram 8e9]

The examples are those of bench.datasets. Each is improved; then the dataset as its code makes it and the improved one
run in turn: CPU seconds of whole later epochs, repeated without an end, consumed in C++ but for one element an epoch.
The elements were compared bit for bit before.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported, which else reports what it lacks

from bench.datasets import makers, photos_at

FORMAT = "greenload.bench.optimize_datasets/1"
REACH = 0.25
"""The median share of CPU seconds that is to be saved, at least."""
_SETTLE_S = 20.0  # until buffers are full, at most
_WINDOW_S = 2.0  # CPU seconds of a round of either, roughly


@dataclass(frozen=True)
class Settings:
    """How it is run."""

    only: Sequence[str] = ()
    """Names of examples; empty for all."""
    rounds: int = 5
    seconds: float = 180.0
    """That a search may take."""
    epochs: int = 20
    ram: float = 8e9
    """Bytes that may be held between epochs."""
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """One example."""

    name: str
    seconds: float
    """Wall seconds of the search."""
    rounds: Sequence[tuple[float, float]]
    """CPU milliseconds an element, as it is and improved: of later epochs, run in turn."""
    first_epoch: tuple[float | None, float | None]
    """CPU seconds a sample of the first epoch, as it is and improved."""
    compared: Mapping[str, Any]
    taken: Sequence[str]
    not_taken: Mapping[str, str]
    training_share: float

    @property
    def ratio(self) -> float:
        """Improved over original, the median of rounds."""
        return statistics.median(after / before for before, after in self.rounds)


class Epochs:
    """A dataset that repeats itself, run by whole epochs.

    Args:
        dataset: what to run.
        elements: in an epoch.
    """

    def __init__(self, dataset: Any, elements: int) -> None:
        self._iterator = iter(dataset.repeat().shard(elements, elements - 1))
        self._elements = elements

    def cpu_s(self, epochs: int) -> float:
        """CPU seconds an element of so many epochs, buffers filled before and after."""
        from greenload.energy.settle import settle

        settle(_SETTLE_S)
        start = time.process_time()
        for _ in range(epochs):
            next(self._iterator)
        settle(_SETTLE_S)
        return (time.process_time() - start) / (epochs * self._elements)


def run(photos: str, settings: Settings) -> Iterator[Result]:
    """Improve examples one after the other.

    Args:
        photos: class folders of photographs.
        settings: how.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = makers(photos, folder)
        for name in settings.only or found:
            yield measured(name, found[name], settings)


def measured(name: str, make: Any, settings: Settings) -> Result:
    """One example, improved, then both run in turn."""
    from greenload.optimization.datasets import improve

    with contextlib.redirect_stdout(io.StringIO()):
        dataset = make()
    start = time.perf_counter()
    found = improve(
        dataset, epochs=settings.epochs, ram=settings.ram, seconds=settings.seconds, name=name, seed=settings.seed
    )
    seconds = time.perf_counter() - start
    elements = sum(1 for _ in dataset)
    both = [Epochs(one, elements) for one in (dataset, found(dataset))]
    for one in both:
        one.cpu_s(1)  # fills caches
    times = [max(1, round(_WINDOW_S / max(one.cpu_s(1) * elements, 1e-4))) for one in both]
    order = random.Random(settings.seed)
    pairs = []
    for _ in range(settings.rounds):
        cost = [0.0, 0.0]
        for index in order.sample((0, 1), 2):
            cost[index] = both[index].cpu_s(times[index]) * 1e3
        pairs.append((cost[0], cost[1]))
    return Result(
        name=name,
        seconds=seconds,
        rounds=pairs,
        first_epoch=found.first_epoch_cpu_s_per_sample,
        compared=found.compared.to_dict(),
        taken=[change.title for change in found.changes if change.taken],
        not_taken={change.title: change.lost for change in found.changes if not change.taken},
        training_share=found.training_share,
    )


def main(argv: list[str] | None = None) -> int:
    """Improve every example, print a line for each, and write the JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.optimize_datasets", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", type=Path, help="the JSON file to write")
    parser.add_argument("--photos", help="a folder of class folders with JPEGs; sample photographs if not given")
    parser.add_argument("--only", action="append", help="a name; may be given several times")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--ram", type=float, default=8e9)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    results: list[Result] = []
    settings = Settings(options.only or (), options.rounds, options.seconds, options.epochs, options.ram, options.seed)
    with photos_at(options.photos) as photos:
        print(f"{'example':28} {'search s':>8} {'ms/element':>11} {'improved':>11} {'saves':>6} {'equal':>14}")
        for result in run(photos, settings):
            results.append(result)
            before, after = (statistics.median(pair[index] for pair in result.rounds) for index in (0, 1))
            same = f"{result.compared['elements']} ({result.compared['order']})" if result.taken else "as it was"
            costs = f"{before:11.4f} {after:11.4f} {1 - result.ratio:6.0%}"
            print(f"{result.name:28} {result.seconds:8.1f} {costs} {same:>14}", flush=True)
            for title in result.taken:
                print(f"    {title}", flush=True)
            _write(options.json, results)
    median = statistics.median(1 - result.ratio for result in results)
    print(f"median saving {median:.0%}: {'reached' if median >= REACH else 'not reached'} ({REACH:.0%} asked)")
    return 0


def _write(path: Path | None, results: Sequence[Result]) -> None:
    """Write what there is so far, if a file is wanted."""
    if path is None:
        return
    from greenload.machine import machine
    from greenload.system import file_output

    rows = [asdict(result) | {"ratio": result.ratio} for result in results]
    data = {"format": FORMAT, "machine": asdict(machine()), "results": rows}
    file_output.write(path, json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
