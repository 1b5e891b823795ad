"""Profiles of datasets that are joined or regrouped: whether each ends in time, and tells what the dataset costs.

    python -m bench.joins [--json FILE] [--only NAME,...] [--rounds 2] [--samples 64]

Nine ways in which tf.data joins or regroups datasets, each with a branch that is finite, endless, empty, and longer
than is counted. Each gives a profile, or one line that says why not. A profile's wall seconds are held against what it
announced, and its total against the same dataset run alone.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported, which else reports what it lacks

FORMAT = "greenload.bench.joins/1"
OVER_REACH = 1.3
"""The most that a profile may take, over what it announced."""
SHAPES = ("finite", "endless", "empty", "long")
WAYS = ("zip", "concatenate", "choose", "sample", "interleave", "flat_map", "window", "group", "resample")
_LENGTH, _LONG = 300, 10**7
_ALONE_S, _SEEN = 1.5, 16


@dataclass(frozen=True)
class Result:
    """What became of one profile."""

    name: str
    seconds: float
    announced_s: float | None
    """None where there was no profile."""
    said: str
    """The error's line, or what was left out."""
    total_us: tuple[float, float, float] | None = None
    """CPU microseconds per sample: value, low, high."""
    alone_us: tuple[float, ...] = ()
    """The same of the dataset run alone, several times."""

    @property
    def over(self) -> float:
        """Wall seconds over those announced; 0 where there was no profile."""
        return self.seconds / self.announced_s if self.announced_s else 0.0

    @property
    def held(self) -> bool:
        """Whether the total's interval holds what the dataset costs alone, as far as that is known itself."""
        if self.total_us is None:
            return True
        _, low, high = self.total_us
        return low <= max(self.alone_us) and min(self.alone_us) <= high


def work(x: Any) -> Any:
    """Some 0.1 ms of CPU time."""
    import tensorflow as tf

    return tf.reduce_sum(tf.random.stateless_uniform([10_000], seed=(1, 2))) + tf.cast(x, tf.float32)


def double_work(x: Any) -> Any:
    """Twice as much."""
    import tensorflow as tf

    return tf.reduce_sum(tf.random.stateless_uniform([20_000], seed=(1, 2))) + tf.cast(x, tf.float32)


def branch(shape: str) -> Any:
    """A dataset of numbers of one of the shapes, still without any work."""
    import tensorflow as tf

    numbers = tf.data.Dataset.range
    return {
        "finite": lambda: numbers(_LENGTH),
        "endless": lambda: numbers(_LENGTH).repeat(),
        "empty": lambda: numbers(_LENGTH).filter(lambda x: x < 0),
        "long": lambda: numbers(_LONG),
    }[shape]()


def joined(way: str, shape: str) -> Any:
    """A dataset joined or regrouped in one of the ways, with a branch of one of the shapes."""
    import tensorflow as tf

    data = tf.data.Dataset
    one, other = branch(shape).map(work), data.range(_LENGTH).map(double_work)

    def inner(i: Any) -> Any:
        if shape == "empty":  # every other one
            return data.range(20 * (i % 2)).map(work)
        return branch(shape).map(work)

    outer = data.range(6 if shape in ("finite", "empty") else 4)
    labelled = branch(shape).map(lambda x: (work(x), tf.cast(x % 6 == 0, tf.int64)))
    made: Mapping[str, Callable[[], Any]] = {
        "zip": lambda: data.zip((one, other)).batch(8),
        "concatenate": lambda: one.concatenate(other).batch(8),
        "choose": lambda: data.choose_from_datasets([one, other], data.range(2).repeat()).batch(8),
        "sample": lambda: data.sample_from_datasets([one, other], [0.7, 0.3], 1, stop_on_empty_dataset=False).batch(8),
        "interleave": lambda: outer.interleave(inner, cycle_length=2).batch(8),
        "flat_map": lambda: outer.flat_map(inner).batch(8),
        "window": lambda: one.window(5, shift=5).flat_map(lambda w: w.batch(5)),
        "group": lambda: one.group_by_window(lambda x: tf.cast(x, tf.int64) % 3, lambda _, d: d.batch(4), 4),
        "resample": lambda: (
            labelled.rejection_resample(lambda _, y: y, [0.5, 0.5], seed=5).map(lambda _, xy: xy).batch(8)
        ),
    }
    return made[way]()


def alone(dataset: Any, elements: int | None, times: int = 3) -> Iterator[float]:
    """CPU seconds per element of a dataset run by itself, several times.

    Args:
        dataset: what to run.
        elements: of an epoch, or of the part that was counted.
        times: how often.
    """
    import tensorflow as tf

    part = dataset.take(elements) if elements else dataset
    start = time.process_time()
    passed = int(part.reduce(tf.constant(0, tf.int64), lambda n, *_: n + 1))
    turns = max(1, round(_ALONE_S / max(1e-3, time.process_time() - start)))
    group = max(1, passed * turns // _SEEN)  # a function for each element, or Python, would cost as much as the rest
    for _ in range(times):
        start = time.process_time()
        groups = sum(1 for _ in part.repeat(turns).shard(group, group - 1))
        yield (time.process_time() - start) / (group * groups)


def measured(name: str, make: Callable[[], Any], rounds: int, samples: int, check: bool = True) -> Result:
    """One dataset's profile, timed and held against the dataset run alone.

    Args:
        name: of the result.
        make: makes the dataset.
        rounds: as for ``greenload.profile``, like ``samples``.
        check: whether it is run alone as well.
    """
    import greenload as gl

    said: list[str] = []
    dataset = make()
    start = time.perf_counter()
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            report = gl.profile(dataset, rounds=rounds, samples=samples, name=name, announce=said.append)
    except gl.GreenloadError as error:
        return Result(name, time.perf_counter() - start, None, f"{type(error).__name__}: {error}")
    seconds = time.perf_counter() - start
    announced = re.search(r"([\d,]+) s\b", said[0])
    assert announced is not None, said
    figure = report.total.cpu_s_per_sample
    assert figure.value is not None and figure.low is not None and figure.high is not None
    per_sample = 1e6 / report.plan["samples_per_element"]
    elements = report.plan["epoch_elements"] or max(1, round(report.samples / report.plan["samples_per_element"]))
    return Result(
        name,
        seconds,
        float(announced[1].replace(",", "")),
        "; ".join(f"{one.name}: {one.reason}" for one in report.skipped),
        (figure.value * 1e6, figure.low * 1e6, figure.high * 1e6),
        tuple(s * per_sample for s in alone(dataset, elements)) if check else (),
    )


def run(wanted: set[str] | None = None, rounds: int = 2, samples: int = 64) -> Iterator[Result]:
    """What becomes of each combination.

    Args:
        wanted: ways, shapes, or ``way:shape``; all if None.
        rounds: as for ``greenload.profile``, like ``samples``.
    """
    for way, shape in itertools.product(WAYS, SHAPES):
        name = f"{way}:{shape}"
        if wanted is None or wanted & {way, shape, name}:
            yield measured(name, functools.partial(joined, way, shape), rounds, samples)


def main(argv: list[str] | None = None) -> int:
    """Profile every combination, print a line for each, and write the JSON; 1 where one is beyond its reach."""
    parser = argparse.ArgumentParser(prog="python -m bench.joins", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="the JSON file to write")
    parser.add_argument("--only", help="ways, shapes or way:shape, with commas between")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=64)
    options = parser.parse_args(argv)
    wanted = set(options.only.split(",")) if options.only else None
    print(f"{'dataset':22} {'s':>6} {'announced':>9} {'ratio':>6} {'total µs':>24} {'alone µs':>18}")
    results = []
    for result in run(wanted, options.rounds, options.samples):
        results.append(result)
        print(_line(result), flush=True)
    wrong = [one.name for one in results if one.over > OVER_REACH or not one.held]
    profiles = [one for one in results if one.total_us is not None]
    print(
        f"{len(results)} datasets, {len(profiles)} profiles; wall over announced at most"
        f" {max((one.over for one in results), default=0):.2f}; beyond their reach: {', '.join(wrong) or 'none'}"
    )
    if options.json:
        from greenload.machine import machine
        from greenload.system import file_output

        data = {"format": FORMAT, "machine": asdict(machine()), "results": [asdict(result) for result in results]}
        file_output.write(options.json, json.dumps(data, indent=1) + "\n")
    return int(bool(wrong))


def _line(result: Result) -> str:
    if result.total_us is None:
        return f"{result.name:22} {result.seconds:6.1f} {'':>9} {'':>6} {result.said}"
    value, low, high = result.total_us
    alone_us = f"{min(result.alone_us):.1f}–{max(result.alone_us):.1f}" if result.alone_us else ""
    marks = ("" if result.over <= OVER_REACH else " ← late") + ("" if result.held else " ← total off")
    total = f"{value:.1f} [{low:.1f}, {high:.1f}]"
    times = f"{result.seconds:6.1f} {result.announced_s:9.0f} {result.over:6.2f}"
    return f"{result.name:22} {times} {total:>24} {alone_us:>18}{marks} {result.said}"


if __name__ == "__main__":
    raise SystemExit(main())
