"""Datasets whose steps burn a known CPU time, in shapes that people write, for judging what a profile finds.

Burning is an operation of its own (``known_steps.cc``, built when it is first needed): it spins until its thread's CPU
clock has moved on by what was asked, whatever else the machine does, and counts what it burnt.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

KERNEL = Path(__file__).parents[1] / "greenload" / "backends" / "native" / "kernel"
ELEMENTS = 2048
BATCH = 32
US, MS = 1_000, 1_000_000


@dataclass(frozen=True)
class Known:
    """A dataset, and what its steps burn."""

    dataset: Any
    truth_s: Mapping[str, float]
    """CPU seconds that are burnt for a sample that leaves the dataset, by the name of a step's function. A step's place
    is the number under which it is counted."""


@functools.cache
def library() -> tuple[Any, Any]:
    """The operation's module, and its library for Python.

    Raises:
        subprocess.CalledProcessError: no C++ compiler builds it.
    """
    import tensorflow as tf

    folder = tempfile.mkdtemp(prefix="known-steps-")
    file = f"{folder}/known_steps.so"
    compiler = (sysconfig.get_config_var("CXX") or "g++").split()[0]
    source = str(Path(__file__).with_suffix(".cc"))
    subprocess.run([compiler, "-O2", "-std=c++17", "-fPIC", "-shared", f"-I{KERNEL}", source, "-o", file], check=True)
    operations, loaded = tf.load_op_library(file), ctypes.CDLL(file)
    loaded.bench_burn.argtypes = [ctypes.c_int64, ctypes.c_int64]
    loaded.bench_burnt.argtypes, loaded.bench_burnt.restype = [ctypes.c_int64], ctypes.c_int64
    loaded.bench_count_in.argtypes = [ctypes.c_int64, ctypes.c_void_p]
    loaded.bench_empty.argtypes = [ctypes.c_int64, ctypes.c_int64]
    return operations, loaded


def burn(step: int, value: Any, nanoseconds: Any) -> Any:
    """Numbers as they are, once their thread has burnt so much CPU time.

    Args:
        step: under which it is counted.
        value: passed on.
        nanoseconds: int64; the sum of what it holds is burnt.
    """
    import tensorflow as tf

    nothing = library()[0].bench_burn(nanoseconds=nanoseconds, behind=value, step=step)
    return value + tf.cast(nothing, value.dtype)  # or tf.data would leave the step out


def burnt_s(step: int) -> float:
    """CPU seconds that were burnt under a step so far."""
    return float(library()[1].bench_burnt(step)) / 1e9


def count_in(step: int, address: int | None) -> None:
    """Count what a step burns in nanoseconds in 8 aligned bytes from now on, about every 0.1 ms.

    Args:
        step: which.
        address: of a number that nothing else writes, as `Ledger.address` gives it; None counts it here again.
    """
    library()[1].bench_count_in(step, address)


@contextmanager
def burning_nothing(step: int) -> Iterator[None]:
    """Calls of a step take what they take without what they burn."""
    library()[1].bench_empty(step, 1)
    try:
        yield
    finally:
        library()[1].bench_empty(step, 0)


def empty_s(known: Known) -> dict[str, float]:
    """CPU seconds that the calls of each step take for a sample beside what they burn, by the steps' names.

    The others burn meanwhile: beside idle ones a call finds what it needs in the processor's caches, and takes less.
    """
    return {name: _empty_s(known, step, name) for step, name in enumerate(known.truth_s)}


def _empty_s(known: Known, step: int, name: str) -> float:
    import greenload as gl

    watched = gl.watch(known.dataset)
    before = watched.watched.read().steps[name].total_cpu_s or 0.0
    with burning_nothing(step):
        samples = sum(len(batch) for batch in watched)
    return float((watched.watched.read().steps[name].total_cpu_s or 0.0) - before) / samples


def burnt_for_a_sample_s(known: Known) -> dict[str, float]:
    """CPU seconds that each step really burns for a sample, a little more than it was asked to, by the steps' names."""
    before = [burnt_s(step) for step in range(len(known.truth_s))]
    samples = sum(len(batch) for batch in known.dataset)
    return {name: (burnt_s(step) - before[step]) / samples for step, name in enumerate(known.truth_s)}


def burnt_in_python(step: int, value: Any, nanoseconds: int) -> Any:
    """The same by a call into Python, which burns without the interpreter's lock."""
    import tensorflow as tf

    def work(array: Any) -> Any:
        library()[1].bench_burn(step, nanoseconds)
        return array

    done = tf.numpy_function(work, [value], value.dtype, stateful=True)
    done.set_shape(value.shape)
    return done


def _step(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of its own name and place, as a user writes it; a profile calls its row so."""
    function.__name__ = function.__qualname__ = name
    return function


def burner(name: str, step: int, nanoseconds: int) -> Callable[[Any], Any]:
    """A function for ``map`` of that name, which burns so much a call and counts it under a step."""

    def work(value: Any) -> Any:
        return burn(step, value, nanoseconds)

    return _step(name, work)


def _numbers(elements: int = ELEMENTS) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(elements)


def parallel_maps(calls: Any = -1) -> Known:
    """Three maps of 0.3, 0.7 and 1.0 ms, in parallel."""
    costs = {"first": 300 * US, "second": 700 * US, "third": 1000 * US}
    dataset = _numbers()
    for number, (name, cost) in enumerate(costs.items()):
        dataset = dataset.map(burner(name, number, cost), num_parallel_calls=calls)
    return Known(dataset.batch(BATCH).prefetch(2), {name: cost / 1e9 for name, cost in costs.items()})


def sequential_maps() -> Known:
    """The same maps, one call after another."""
    return parallel_maps(None)


def light_steps() -> Known:
    """Four maps of 5, 10, 20 and 50 µs, in parallel."""
    costs = {"five": 5 * US, "ten": 10 * US, "twenty": 20 * US, "fifty": 50 * US}
    dataset = _numbers(16 * ELEMENTS)
    for number, (name, cost) in enumerate(costs.items()):
        dataset = dataset.map(burner(name, number, cost), num_parallel_calls=-1)
    return Known(dataset.batch(BATCH).prefetch(2), {name: cost / 1e9 for name, cost in costs.items()})


def heavy_tailed() -> Known:
    """A map whose cost is Pareto distributed (of shape 2.5, at least 0.3 ms), beside one of 0.5 ms."""
    import tensorflow as tf

    costs = (300 * US * (1 + np.random.default_rng(0).pareto(2.5, 512))).astype(np.int64)

    def varied(nanoseconds: Any) -> Any:
        return burn(0, nanoseconds, nanoseconds)

    dataset = tf.data.Dataset.from_tensor_slices(costs).map(varied, num_parallel_calls=-1)
    dataset = dataset.map(burner("constant", 1, 500 * US), num_parallel_calls=-1)
    return Known(dataset.batch(BATCH).prefetch(2), {"varied": float(costs.mean()) / 1e9, "constant": 0.5e-3})


def filtered() -> Known:
    """A filter of 0.3 ms that drops every other element, and a map of 0.8 ms behind it."""

    def even(number: Any) -> Any:
        return burn(0, number, 300 * US) % 2 == 0

    dataset = _numbers().filter(even).map(burner("kept", 1, 800 * US), num_parallel_calls=-1)
    return Known(dataset.batch(BATCH).prefetch(2), {"even": 0.6e-3, "kept": 0.8e-3})


def interleaved() -> Known:
    """A map of 0.4 ms inside an interleave, and one of 0.6 ms behind it."""
    import tensorflow as tf

    inner = burner("inner", 0, 400 * US)

    def shard(number: Any) -> Any:
        return tf.data.Dataset.range(64).map(inner).map(lambda value: value + number)

    dataset = _numbers(ELEMENTS // 64).interleave(shard, cycle_length=4, num_parallel_calls=2)
    dataset = dataset.map(burner("outer", 1, 600 * US), num_parallel_calls=-1)
    return Known(dataset.batch(BATCH).prefetch(2), {"inner": 0.4e-3, "outer": 0.6e-3})


def batched_functions() -> Known:
    """A map of 0.2 ms on elements, and one of 16 ms on batches of 32."""
    dataset = _numbers().map(burner("element", 0, 200 * US), num_parallel_calls=-1).batch(BATCH)
    dataset = dataset.map(burner("whole_batch", 1, 16 * MS), num_parallel_calls=-1)
    return Known(dataset.prefetch(2), {"element": 0.2e-3, "whole_batch": 16e-3 / BATCH})


def python_functions() -> Known:
    """Calls into Python of 0.5 and 1.0 ms."""
    costs = {"half": 500 * US, "one": 1000 * US}

    dataset = _numbers()
    for number, (name, cost) in enumerate(costs.items()):

        def work(value: Any, number: int = number, cost: int = cost) -> Any:
            return burnt_in_python(number, value, cost)

        dataset = dataset.map(_step(name, work), num_parallel_calls=-1)
    return Known(dataset.batch(BATCH).prefetch(2), {name: cost / 1e9 for name, cost in costs.items()})


def generator() -> Known:
    """A Python generator that burns 0.4 ms an element, and a map of 0.6 ms."""
    import tensorflow as tf

    def source() -> Iterator[int]:
        for number in range(ELEMENTS):
            library()[1].bench_burn(0, 400 * US)
            yield number

    dataset = tf.data.Dataset.from_generator(source, output_signature=tf.TensorSpec((), tf.int64))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(ELEMENTS))
    dataset = dataset.map(burner("mapped", 1, 600 * US), num_parallel_calls=-1)
    return Known(dataset.batch(BATCH).prefetch(2), {"source": 0.4e-3, "mapped": 0.6e-3})


SHAPES: Mapping[str, Callable[[], Known]] = {
    shape.__name__: shape
    for shape in (
        parallel_maps,
        sequential_maps,
        light_steps,
        heavy_tailed,
        filtered,
        interleaved,
        batched_functions,
        python_functions,
        generator,
    )
}
"""By name."""
