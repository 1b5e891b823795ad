"""What `EnergyCallback` sees pass: batches, samples, and the wait for them, however a model is trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mirrored_fits
import numpy as np
import pytest
from known_fits import SAMPLE_S, dataset, fit, known, small_model, value

import greenload as gl
from greenload.training.train_step import _rows


@pytest.mark.parametrize("compiled", [{"jit_compile": True}, {"run_eagerly": True}], ids=["jit", "eager"])
def test_other_ways_to_run_a_step(compiled: dict[str, Any]) -> None:
    energy = gl.EnergyCallback(known())
    fit(small_model(**compiled), dataset(lambda: None, samples=12), energy)
    assert energy.report.fit.passed.samples == 12 and energy.report.fit.passed.waiting_s is not None


@pytest.mark.slow
def test_arrays_dictionaries_and_steps_per_epoch() -> None:
    import keras

    inputs = {"a": keras.Input((8,), name="a")}
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs["a"]))
    model.compile("sgd", "mse")
    images = np.ones((10, 8), np.float32)
    energy = gl.EnergyCallback()
    fit(model, {"a": images}, energy, y=images[:, :1], batch_size=4, sample_weight=np.ones(10))
    assert energy.report.fit.passed.samples == 10 and energy.report.fit.passed.batches == 3

    endless = dataset(lambda: None, samples=12).repeat()
    fit(small_model(), endless, energy, epochs=3, steps_per_epoch=2)
    assert [spent.passed.samples for spent in energy.epochs] == [8, 8, 8]
    assert energy.report.fit.passed.samples == 24 and len(energy.reports) == 2


def test_a_dataset_of_unknown_length() -> None:
    data = dataset(lambda: None, samples=12).filter(lambda image, label: True)
    energy = gl.EnergyCallback()
    with pytest.warns(UserWarning, match="ran out of data"):
        fit(small_model(), data, energy, epochs=2)
    assert [spent.passed.samples for spent in energy.epochs] == [12, 12]
    assert energy.report.ended == ""


@pytest.mark.slow
def test_several_steps_in_one_call_leave_waiting_unknown_with_a_reason() -> None:
    energy = gl.EnergyCallback(known())
    data = dataset(lambda: None, samples=20)
    fit(small_model(steps_per_execution=3), data, energy)
    passed = energy.report.fit.passed
    assert passed.waiting_s is None and passed.batches == 5 and passed.samples is None
    assert "steps_per_execution=1" in passed.unknown[0] and "drop_remainder" in passed.unknown[1]
    assert energy.report.fit.loader.cpu_s is not None and energy.report.fit.loader.cpu_s.value is None
    assert "unknown" in str(energy.report)

    even = dataset(lambda: None, samples=20, drop_remainder=True)
    fit(small_model(steps_per_execution=3), even, energy)
    assert energy.report.fit.passed.samples == 20 and energy.report.fit.passed.batches == 5
    assert value(energy.report.fit.loader.cpu_s) == pytest.approx(20 * SAMPLE_S)


def test_a_training_step_of_one_s_own_is_left_alone() -> None:
    model = small_model()
    seen = []

    class Own(type(model)):  # type: ignore[misc]
        def make_train_function(self, force: bool = False) -> None:
            super().make_train_function(force)
            inner = self.train_function

            def outer(iterator: Any) -> Any:
                seen.append(type(iterator).__name__)
                return inner(iterator)

            self.train_function = outer

    model.__class__ = Own
    energy = gl.EnergyCallback()
    fit(model, dataset(lambda: None, samples=8), energy)
    assert seen == ["OwnedIterator"] * 2
    assert energy.report.fit.passed.waiting_s is None and "own make_train_function" in energy.report.fit.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True], ids=["keras", "own"])
def test_batches_that_never_came_are_not_counted(own: bool) -> None:
    energy = gl.EnergyCallback(known())
    model = small_model((lambda: None) if own else None, steps_per_execution=3)
    short = dataset(lambda: None, samples=20, drop_remainder=True)
    with pytest.warns(UserWarning, match="ran out of data"):
        fit(model, short, energy, steps_per_epoch=8)
    passed = energy.report.fit.passed
    if own:  # which may update its weights once in two batches
        assert passed.batches is None and passed.samples is None
        assert "an unknown number of batches" in str(energy.report)
        assert energy.report.to_dict()["fit"]["batches"] is None
        fit(model, short.repeat(), energy, steps_per_epoch=8)
        assert energy.report.fit.passed.samples == 36, "three calls of three, whatever was asked for"
        fit(model, short, energy)
        assert energy.report.fit.passed.samples == 20, "as many updates as the dataset has batches"
    else:
        assert passed.batches == 5 and passed.samples == 20


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [{"gradient_accumulation_steps": 2}, {"loss_scale_factor": 2.0}])
def test_updates_that_are_not_batches_are_not_taken_for_them(compiled: dict[str, Any]) -> None:
    import keras

    model = small_model()
    model.compile(keras.optimizers.SGD(**compiled), "mse", steps_per_execution=3, jit_compile=False)
    energy = gl.EnergyCallback()
    fit(model, dataset(lambda: None, samples=20, drop_remainder=True), energy)
    assert energy.report.fit.passed.batches == (None if "gradient_accumulation_steps" in compiled else 5)


def test_batches_of_another_callback_leave_their_epoch_unknown_and_no_other() -> None:
    import keras

    class Trains(keras.callbacks.Callback):  # type: ignore[misc]
        epoch = 0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if (self.epoch, batch) == (1, 1):
                self.model.train_on_batch(np.ones((3, 8), np.float32), np.ones((3, 1), np.float32))

    energy = gl.EnergyCallback()
    small_model().fit(dataset(lambda: None, samples=20), epochs=3, callbacks=[energy, Trains()], verbose=0)
    passed = [spent.passed for spent in energy.epochs]
    assert [one.samples for one in passed] == [20, None, 20] and [one.batches for one in passed] == [5, 6, 5]
    assert [one.waiting_s is None for one in passed] == [False, True, False]
    assert "train_on_batch" in passed[1].unknown[0]


def test_elements_that_begin_with_none() -> None:
    import keras

    class Model(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, given: Any) -> Any:
            return self.dense(given["b"])

    def batches() -> Iterator[Any]:
        for _ in range(3):
            yield {"a": None, "b": np.ones((2, 8), np.float32)}, np.ones((2, 1), np.float32)

    model, energy = Model(), gl.EnergyCallback()
    model.compile("sgd", "mse", jit_compile=False)
    fit(model, batches(), energy, steps_per_epoch=3)
    assert energy.report.fit.passed.samples == 6 and energy.report.fit.passed.waiting_s is not None
    assert _rows([]) is None and _rows([None]) is None


@pytest.mark.slow
def test_samples_on_replicas_are_counted_and_an_empty_one_has_none() -> None:
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(Path(gl.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, mirrored_fits.__file__], capture_output=True, text=True, timeout=200, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name in ("two", "eager", "one"):
        assert found[name]["samples"] == [9, 9] and found[name]["batches"] == [3, 3], name
        assert len(found[name]["unknown"]) == 1 and "waited" in found[name]["unknown"][0], name
    assert found["watched"]["samples"] == [9, 9]
    assert found["watched"]["calls"] == [3, 3], "of the function on each whole batch"
    for name in ("two", "eager", "watched"):
        assert np.allclose(found[name]["weights"], found["without"]["weights"], atol=1e-6), (
            "trained as without the callback"
        )
