"""Fits under `EnergyCallback` that end early, and what they leave behind."""

from __future__ import annotations

import gc
import time
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from known_fits import Stopped, dataset, fit, small_model

import greenload as gl
from greenload.energy.sharing import SharedSampler
from greenload.training.fit import Fit
from greenload.training.train_step import Steps


@pytest.mark.slow
@pytest.mark.parametrize("where", ["step", "data", "callback"])
def test_a_fit_that_ends_early_is_reported_and_gives_everything_back(where: str) -> None:
    import keras
    import tensorflow as tf

    left = [6]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise ValueError("a bad image")

    class Raises(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if where == "callback" and batch == 2:
                raise Stopped

    data = dataset(count if where == "data" else lambda: None, samples=20, batch=2)
    model = small_model(run_eagerly=where == "step")
    if where == "step":
        whole = model.train_step

        def train_step(given: Any) -> Any:
            count()
            return whole(given)

        model.train_step = train_step
    energy = gl.EnergyCallback()
    raised = (ValueError, tf.errors.InvalidArgumentError, tf.errors.UnknownError, Stopped)
    with pytest.raises(raised):
        model.fit(data, callbacks=[energy, Raises()], verbose=0)
    if where == "callback":  # Keras tells nobody
        assert not energy.reports
        energy.close()
    report = energy.report
    assert report.ended in ("ValueError", "InvalidArgumentError", "UnknownError", "an interruption")
    assert len(report.epochs) == 1 and 0 < report.fit.passed.batches < 10
    assert report.fit.passed.samples == 2 * report.fit.passed.batches and report.fit.passed.waiting_s is not None
    assert any("up to what closed it" in note for note in report.fit.notes) == (where == "callback")
    assert report.ended in str(report)
    assert "Steps" not in type(model.train_function).__name__
    left[0] = 1000
    fit(model, data, energy)
    assert energy.report.ended == "" and energy.report.fit.passed.samples == 20


def test_a_fit_after_an_interrupted_one_and_two_callbacks_in_one() -> None:
    import keras

    class Raises(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise Stopped

    data, model = dataset(lambda: None, samples=20), small_model()
    first, second, third = gl.EnergyCallback(), gl.EnergyCallback(), gl.EnergyCallback()
    with pytest.raises(Stopped):
        model.fit(data, callbacks=[first, Raises()], verbose=0)
    fit(model, data, second)  # a new callback, as when a notebook's cell is run again, while the first is still open
    first.close()
    assert second.report.fit.passed.samples == 20 and first.report.fit.passed.samples is None
    model.fit(data, callbacks=[second, third], verbose=0)
    assert third.report.fit.passed.samples == 20
    assert second.report.fit.passed.samples is None
    assert any("another EnergyCallback" in note for note in second.report.fit.notes)
    assert second.report.fit.passed.batches is None and "an unknown number of batches" in str(second.report)
    assert "Steps" not in type(model.train_function).__name__


def interrupted(model: Any, data: Any, energy: gl.EnergyCallback) -> None:
    """A fit that ends between two steps, of which Keras tells nobody."""
    import keras

    class Raises(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise Stopped

    with pytest.raises(Stopped):
        model.fit(data, callbacks=[energy, Raises()], verbose=0)


@pytest.mark.slow
def test_the_model_trains_on_other_data_after_an_interrupted_fit() -> None:
    model, energy = small_model(), gl.EnergyCallback()
    interrupted(model, dataset(lambda: None, samples=20), energy)
    assert isinstance(model.train_function, Steps)
    model.train_on_batch(np.ones((3, 8), np.float32), np.ones(3, np.float32))
    model.fit(np.ones((6, 8), np.float32), np.ones(6, np.float32), sample_weight=np.ones(6), verbose=0)
    model.fit(dataset(lambda: None, samples=20, drop_remainder=True), verbose=0)
    energy.close()
    assert not isinstance(model.train_function, Steps)


@pytest.mark.slow
def test_a_callback_that_is_gone_stops_its_meters(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SharedSampler(lambda: ([], []))
    monkeypatch.setattr("greenload.training.callback.DEFAULT", shared)
    model, energy = small_model(), gl.EnergyCallback()
    interrupted(model, dataset(lambda: None, samples=20), energy)
    assert shared._now is not None
    thread, gone = shared._now.sampler._thread, weakref.ref(energy)
    assert thread is not None and thread.is_alive()
    del energy
    gc.collect()
    assert gone() is None and not isinstance(model.train_function, Steps)
    deadline = time.monotonic() + 20
    while thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not thread.is_alive() and shared._now is None


def test_what_is_left_behind_is_given_back_whatever_locks_are_held() -> None:
    """Garbage is collected in any thread, whatever locks it holds."""
    shared = SharedSampler(lambda: ([], []))
    run = Fit(
        SimpleNamespace(train_function=None),
        shared,
        profile=None,
        idle_s=0,
        log_dir=None,
        failed=lambda fit, error: None,
    )
    thread = run.use.sampler._thread
    assert thread is not None
    with shared._lock:
        run.abandon()
        assert thread.is_alive()
    thread.join(20)
    assert not thread.is_alive()
