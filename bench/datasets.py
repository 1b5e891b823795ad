"""Profiles of published examples' input pipelines: how long each takes, and whether its steps explain the whole.

    python -m bench.datasets [--json FILE] [--photos FOLDER] [--only NAME,...] [--rounds 5] [--samples 512]

The examples stand in tests/profiling/tfdata/examples, in our own words; their data is made for the run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported, which else reports what it lacks

FORMAT = "greenload.bench.datasets/1"
EXAMPLES = Path(__file__).resolve().parent.parent / "tests" / "profiling" / "tfdata" / "examples"
SECONDS_REACH, SUM_REACH = 120.0, 0.10
"""The most seconds that a profile may take, and the most that the steps' sum may be off the held-out full run."""


@dataclass(frozen=True)
class Result:
    """One example's profile."""

    name: str
    seconds: float
    full_cpu_ms_per_sample: float
    steps_over_full: float
    unattributed_ms: tuple[float, float, float]
    """Value, low, high: CPU milliseconds per sample."""
    steps: Mapping[str, float]
    """CPU milliseconds per sample."""
    advice: Mapping[str, float]
    """Share of the full run that each change saves."""
    windows_void: float
    """Share of windows that could not be trusted."""


def example(name: str) -> ModuleType:
    """An example's module."""
    spec = importlib.util.spec_from_file_location(f"_example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # AutoGraph looks its functions up there
    spec.loader.exec_module(module)
    return module


def makers(photos: str, folder: str) -> Mapping[str, Callable[[], Any]]:
    """What gives each example's dataset, by name.

    Args:
        photos: class folders of photographs.
        folder: an empty folder, for data that is made.
    """

    def written(name: str, *given: str) -> Callable[[], Any]:
        def make() -> Any:
            module, place = example(name), os.path.join(folder, name)
            os.makedirs(place, exist_ok=True)
            module.write_data(*given, place)
            return module.make_dataset(place)

        return make

    return {
        "classification_from_scratch": lambda: example("classification_from_scratch").make_dataset(photos),
        "load_images": lambda: example("load_images").make_dataset(photos),
        "load_images, no cache": lambda: example("load_images").make_dataset(photos, cached=False),
        "tfrecords": written("tfrecords", photos),
        "mixup": lambda: example("mixup").make_dataset(),
        "text": written("text"),
        "forecasting": lambda: example("forecasting").make_dataset(),
    }


def measured(name: str, make: Callable[[], Any], rounds: int, samples: int) -> Result:
    """One example's profile, timed."""
    import greenload as gl

    with contextlib.redirect_stdout(io.StringIO()):
        dataset = make()
    start = time.perf_counter()
    report = gl.profile(dataset, rounds=rounds, samples=samples, name=name)
    seconds = time.perf_counter() - start
    full, rest = report.full.cpu_s_per_sample, report.unattributed.cpu_s_per_sample
    assert full.value and rest.value is not None and rest.low is not None and rest.high is not None
    return Result(
        name=name,
        seconds=seconds,
        full_cpu_ms_per_sample=full.value * 1e3,
        steps_over_full=1 - rest.value / full.value,
        unattributed_ms=(rest.value * 1e3, rest.low * 1e3, rest.high * 1e3),
        steps={step.name: (step.cpu_s_per_sample.value or 0.0) * 1e3 for step in report.steps},
        advice={one.title: (one.saves_cpu_s_per_sample.value or 0.0) / full.value for one in report.advice},
        windows_void=sum("cpu_s" in window.void for window in report.windows) / len(report.windows),
    )


@contextmanager
def photos_at(given: str | None) -> Iterator[str]:
    """The folder of photos; 512 sample photographs in a folder that is removed afterwards, if none is given."""
    if given is not None:
        yield os.path.abspath(given)
        return
    from greenload.sources.samples import make_samples

    with tempfile.TemporaryDirectory() as folder:
        make_samples(os.path.join(folder, "photos"))
        yield os.path.join(folder, "photos")


def main(argv: list[str] | None = None) -> int:
    """Profile every example, print a line for each, and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.datasets", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="the JSON file to write")
    parser.add_argument("--photos", help="a folder of class folders with JPEGs; sample photographs if not given")
    parser.add_argument("--only", help="names, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=512)
    options = parser.parse_args(argv)
    results = []
    with photos_at(options.photos) as photos, tempfile.TemporaryDirectory() as folder:
        found = makers(photos, folder)
        wanted = options.only.split(",") if options.only else list(found)
        print(f"{'example':28} {'seconds':>8} {'ms/sample':>10} {'sum/full':>9} {'unattributed ms':>24}")
        for name in wanted:
            result = measured(name, found[name], options.rounds, options.samples)
            rest, low, high = result.unattributed_ms
            kept = result.seconds <= SECONDS_REACH and abs(1 - result.steps_over_full) <= SUM_REACH
            print(
                f"{name:28} {result.seconds:8.1f} {result.full_cpu_ms_per_sample:10.4f} {result.steps_over_full:9.3f} "
                f"{rest:8.4f} [{low:.4f}, {high:.4f}] {'' if kept else '← beyond the reach'}",
                flush=True,
            )
            for title, share in result.advice.items():
                print(f"    {title}: saves {share:.0%}", flush=True)
            results.append(result)
    if options.json:
        from greenload.machine import machine
        from greenload.system import file_output

        data = {"format": FORMAT, "machine": asdict(machine()), "results": [asdict(result) for result in results]}
        file_output.write(options.json, json.dumps(data, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
