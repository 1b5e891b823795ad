"""Fits whose cost is known, for tests of `EnergyCallback`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from greenload.energy.attribution.costs import Cost
from greenload.energy.emulators.layout import Power
from greenload.energy.emulators.powercap import PowercapEmulator
from greenload.energy.figures import Figure
from greenload.machine import Machine
from greenload.report.cost_records import CacheState, FirstEpoch, FullRun, IdleCost, ReportStep
from greenload.report.data import Report

if TYPE_CHECKING:
    import tensorflow as tf

PACKAGE, DRAM = "cpu:package-0", "dram:package-0"
SAMPLE_S, STEP_S, BATCH, BATCHES = 0.002, 0.010, 4, 25
LOADING, TRAINING = "parsing", "vector"


class Stopped(BaseException):
    """What a user's Ctrl-C is to a fit."""


def exact(value: float) -> Figure:
    return Figure(value, value, value, "measured")


def known(power: Power | None = None, cpu_s: float = SAMPLE_S) -> Report:
    """A profile of a loader with one step whose cost is known."""
    power = power or Power()

    def cost(share: float) -> dict[str, Any]:
        joules = {PACKAGE: power.busy_core_w * cpu_s, DRAM: power.dram_busy_core_w * cpu_s}
        return {
            "cpu_s_per_sample": exact(share * cpu_s),
            "energy_j_per_sample": {name: exact(share * one) for name, one in joules.items()},
            "device_bytes_per_sample": exact(0.0),
        }

    return Report(
        created="2026-03-01T12:00:00+00:00",
        machine=Machine("a processor", 2, 8_000_000_000, "Linux 6.1", "3.11.2", {}),
        meters=(),
        pipeline={"name": "burning"},
        plan={},
        samples=64,
        steps=(ReportStep(**cost(1.0), name="parse", stages=(), backend="tf", method="replay"),),
        full=FullRun(**cost(1.0), samples_per_s=exact(200.0)),
        idle=IdleCost(),
        unattributed=Cost(**cost(0.0)),
        total=Cost(**cost(1.0)),
    )


def caching(first_s: float, later_s: float, *caches: CacheState) -> Report:
    """A profile of a loader with a cache: what a sample costs in the epoch that fills it, and in later ones."""
    of_first, of_later = known(cpu_s=first_s), known(cpu_s=later_s)
    first = FirstEpoch(of_first.steps, of_first.full, of_first.idle, of_first.unattributed, of_first.total)
    return replace(of_later, first_epoch=first, caches=caches or (CacheState("cache"),))


def work(machine: PowercapEmulator | None, kind: str, cpu_s: float) -> None:
    """Use this thread's CPU time, and note it in the machine's ledger."""
    start, block = time.thread_time(), bytes(1 << 15)
    while (used := time.thread_time() - start) < cpu_s:
        hashlib.sha256(block).digest()
    if machine is not None:
        machine.ledger.add(kind, used)


def dataset(
    task: Callable[[], None], samples: int = BATCH * BATCHES, batch: int = BATCH, *, drop_remainder: bool = False
) -> tf.data.Dataset:
    """Samples of 8 numbers that each need a task; batches made ahead, two at a time."""
    import tensorflow as tf

    def parse(image: Any) -> Any:
        def run(array: Any) -> Any:
            task()
            return array

        made = tf.numpy_function(run, [image], tf.float32, stateful=True)
        made.set_shape(image.shape)
        return made, tf.reduce_sum(made)

    images = np.random.default_rng(0).random((samples, 8), np.float32)
    parsed = tf.data.Dataset.from_tensor_slices(images).map(parse, num_parallel_calls=1)
    return parsed.batch(batch, drop_remainder=drop_remainder).prefetch(2)


def small_model(task: Callable[[], None] | None = None, **compiled: Any) -> Any:
    """A linear model of 8 numbers; with a task, which its training step then does too, it has a step of its own."""
    import keras
    import tensorflow as tf

    class Model(keras.Model):  # type: ignore[misc]
        def train_step(self, data: Any) -> Any:
            assert task is not None

            def run() -> Any:
                task()
                return np.int64(0)

            tf.numpy_function(run, [], tf.int64, stateful=True)
            return super().train_step(data)

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    made = keras.Model if task is None else Model
    model = made(inputs, keras.layers.Dense(1)(inputs), name="small")
    model.compile("sgd", "mse", **({"jit_compile": False} | compiled))
    return model


def fit(model: Any, data: Any, callback: Any, **options: Any) -> Any:
    return model.fit(data, callbacks=[callback], verbose=0, **options)


def value(figure: Figure | None) -> float:
    assert figure is not None and figure.value is not None
    return figure.value
