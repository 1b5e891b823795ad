"""`EnergyCallback` in real fits: on emulated counters whose truth is known, and on real photographs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from known_fits import (
    BATCH,
    BATCHES,
    DRAM,
    LOADING,
    PACKAGE,
    SAMPLE_S,
    STEP_S,
    TRAINING,
    dataset,
    fit,
    known,
    small_model,
    value,
    work,
)

import greenload as gl
from greenload.energy.emulators.layout import Power
from greenload.energy.emulators.powercap import PowercapEmulator
from greenload.energy.emulators.replay_meter import ReplayMeter
from greenload.energy.meters.base import Channel
from greenload.energy.meters.process import own_cpu_s
from greenload.energy.settle import Settled
from greenload.energy.sharing import SharedSampler
from greenload.training.fit import Fit

alone = pytest.mark.alone
"""For each test that judges times, idleness or the threads of this process."""


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No one else on the machine: the emulated one counts this process only, so other processes draw nothing there."""
    monkeypatch.setattr("greenload.energy.meters.process.machine_cpu_s", own_cpu_s)


@pytest.fixture
def emulated(tmp_path: Path) -> Iterator[PowercapEmulator]:
    """A package where training draws twice the watts of loading, per CPU second."""
    power = Power(weights={LOADING: 1.0, TRAINING: 2.0, "other": 1.0})
    with PowercapEmulator(tmp_path / "powercap", power=power) as machine:
        yield machine


@alone
def test_loader_model_waiting_and_idle_power_against_an_emulated_machine(emulated: PowercapEmulator) -> None:
    model = small_model(lambda: work(emulated, TRAINING, STEP_S))
    data = dataset(lambda: work(emulated, LOADING, SAMPLE_S))
    energy = gl.EnergyCallback(known(), powercap_root=emulated.root)
    fit(model, data, energy, epochs=2)

    spent = energy.epochs[1]  # the first also traces the model
    end_ns = spent.start_ns + round(spent.wall_s * 1e9)
    for domain in (PACKAGE, DRAM):

        def true(kind: str | None = None, domain: str = domain) -> float:
            return float(emulated.true_between(spent.start_ns, end_ns, domain, kind))

        total = spent.total.energy_j[domain]
        assert total.value == pytest.approx(true(), rel=0.01, abs=0.05)
        idle = value(spent.waiting.energy_j[domain]) + value(spent.idle.energy_j[domain])
        assert idle == pytest.approx(true("idle"), rel=0.04), "this process's own idling is in it"
        assert value(spent.loader.energy_j[domain]) == pytest.approx(true(LOADING), rel=0.05)
        # What TensorFlow does for both is "other" in truth and in the remainder.
        assert value(spent.model.energy_j[domain]) == pytest.approx(true(TRAINING) + true("other"), rel=0.08)
        parts = sum(value(part.energy_j[domain]) for part in spent.parts)
        assert parts == pytest.approx(total.value)
        assert total.provenance == "measured"
    assert spent.passed.samples == BATCH * BATCHES and spent.passed.batches == BATCHES
    assert energy.report.fit.passed.samples == 2 * BATCH * BATCHES
    assert [step.name for step in spent.steps] == ["parse", "in no step"]
    assert value(spent.loader.cpu_s) == pytest.approx(BATCH * BATCHES * SAMPLE_S)
    assert value(spent.loader.cpu_s) + value(spent.model.cpu_s) == pytest.approx(value(spent.total.cpu_s))


@alone
def test_a_starved_model_waits_and_a_slow_one_does_not() -> None:
    slow_data = dataset(lambda: time.sleep(0.04), samples=20)
    energy = gl.EnergyCallback()
    fit(small_model(), slow_data, energy, epochs=2)
    starved = energy.epochs[1]
    assert starved.passed.waiting_s is not None
    # 160 ms a batch, of which a step of a millisecond or so hides next to nothing even on a busy machine
    assert 0.4 < starved.passed.waiting_s < starved.wall_s
    assert (starved.waiting_share or 0) > 0.5
    assert value(starved.waiting.energy_j["cpu"]) > 0

    ready = dataset(lambda: None, samples=40).cache()
    for _ in ready:
        pass
    slow = gl.EnergyCallback()
    fit(small_model(lambda: time.sleep(0.04)), ready, slow, epochs=2)
    assert (slow.epochs[1].waiting_share or 0) < 0.2
    assert slow.epochs[1].wall_s >= 0.4


@pytest.mark.slow
def test_the_training_is_the_same_with_and_without() -> None:
    import keras
    import tensorflow as tf

    images = np.random.default_rng(0).integers(0, 256, (48, 30, 40, 3), np.uint8)
    source = gl.Arrays(images, np.arange(48) % 4)
    pipeline = gl.Pipeline(source, gl.Shuffle(), gl.RandomResizedCrop(16), gl.Batch(20), seed=1)
    traced: list[None] = []

    class Model(keras.Sequential):  # type: ignore[misc]
        def train_step(self, data: Any) -> Any:
            traced.append(None)
            return super().train_step(data)

    def train(callbacks: list[Any]) -> tuple[Any, int, Any]:
        traced.clear()
        keras.utils.set_random_seed(3)
        model = Model([keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(4)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        history = model.fit(gl.load(pipeline, backend="tf"), epochs=2, verbose=0, callbacks=callbacks)
        return model.get_weights(), len(traced), history

    energy = gl.EnergyCallback()
    plain, traces, before = train([])
    weights, traces_measured, after = train([energy])
    assert all(np.array_equal(one, other) for one, other in zip(plain, weights, strict=True))
    assert traces_measured == traces, "the last batch is smaller, which may cost no trace of its own"
    assert after.history["loss"] == before.history["loss"]
    assert [spent.passed.samples for spent in energy.epochs] == [48, 48]
    assert [spent.passed.batches for spent in energy.epochs] == [3, 3]
    assert {"energy_j", "waiting_j", "waiting_s"} <= set(after.history) and "model_j" not in after.history
    assert all(isinstance(joules, float) and joules > 0 for joules in after.history["energy_j"])
    assert tf.executing_eagerly()


@alone
def test_validation_is_apart_and_evaluate_alone_is_not_counted() -> None:
    data = dataset(lambda: work(None, "", 0.001), samples=20)
    model, energy = small_model(), gl.EnergyCallback(known())
    fit(model, data, energy, epochs=2, validation_data=dataset(lambda: work(None, "", 0.01), samples=20))
    for spent in energy.epochs:
        assert spent.passed.samples == 20, "validation's are not counted"
        assert value(spent.validation.cpu_s) >= 0.2 and spent.validation_s >= 0.1
    assert value(energy.report.fit.validation.cpu_s) == pytest.approx(
        sum(value(spent.validation.cpu_s) for spent in energy.epochs)
    )
    model.evaluate(data, callbacks=[energy], verbose=0)
    model.predict(np.ones((4, 8), np.float32), callbacks=[energy], verbose=0)
    assert len(energy.reports) == 1


@alone
def test_an_epoch_with_a_reset_has_no_joules_and_moves_no_other(tmp_path: Path, emulated: PowercapEmulator) -> None:
    import keras

    class Resets(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if (self.epoch, batch) == (1, 0):
                emulated.reset(PACKAGE)

    energy = gl.EnergyCallback(known(), powercap_root=tmp_path / "powercap")
    data = dataset(lambda: work(emulated, LOADING, SAMPLE_S), samples=16)
    kept = small_model().fit(data, epochs=3, callbacks=[energy, Resets()], verbose=0).history
    assert [name for name in kept if len(kept[name]) != 3] == []
    assert [bool(np.isnan(joules)) for joules in kept["energy_j"]] == [False, True, False]
    assert PACKAGE in energy.report.fit.void and PACKAGE in str(energy.report)
    energy.report.save(tmp_path / "fit.json")


@alone
def test_it_leaves_keras_free_to_run_callbacks_aside() -> None:
    import keras

    energy = gl.EnergyCallback()
    assert isinstance(energy, keras.callbacks.Callback) and isinstance(energy, gl.EnergyCallback)
    # One callback with a hook for batches makes Keras run all of them in the training thread.
    assert keras.src.utils.is_default(energy.on_train_batch_end) and keras.src.utils.is_default(
        energy.on_test_batch_end
    )

    class Mine(gl.EnergyCallback):
        pass

    assert type(Mine()).__mro__[1] is Mine


class Sleeps:
    """Stands for the module time: notes what is waited for, and doesn't."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


@alone
@pytest.mark.parametrize("sum_gap_s", [None, 1.0])
def test_idle_windows_are_as_long_as_the_meters_need(sum_gap_s: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel("gpu:0", "measured", update_s=0.001 if sum_gap_s is None else 0.05, sum_gap_s=sum_gap_s)
    shared = SharedSampler(lambda: ([ReplayMeter([channel], [{"gpu:0": 1.0}])], []))
    clock = Sleeps()
    monkeypatch.setattr("greenload.training.idle.time", clock)
    monkeypatch.setattr("greenload.training.idle.settle", lambda: Settled(True, 0.0))
    model = SimpleNamespace(train_function=None)
    run = Fit(model, shared, profile=None, idle_s=0.1, log_dir=None, failed=lambda fit, error: None)
    run.end("")
    assert clock.seconds == [0.025 if sum_gap_s is None else 0.1] * 4, "a mean of 50 ms tells of no shorter window"
