"""`EnergyCallback` in real fits: on emulated counters whose truth is known, and on real photographs."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import greenload as gl
from greenload.energy.attribution import Cost
from greenload.energy.emulator import Power, PowercapEmulator
from greenload.energy.figures import Figure
from greenload.energy.process import own_cpu_s
from greenload.report.data import FullRun, Idle, Machine, Report, Step
from greenload.training_table import text

if TYPE_CHECKING:
    import tensorflow as tf

PACKAGE, DRAM = "cpu:package-0", "dram:package-0"
SAMPLE_S, STEP_S, BATCH, BATCHES = 0.002, 0.010, 4, 25
LOADING, TRAINING = "parsing", "vector"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No one else on the machine: the emulated one counts this process only, so neighbours there draw nothing."""
    monkeypatch.setattr("greenload.energy.process.machine_cpu_s", own_cpu_s)


@pytest.fixture
def emulated(tmp_path: Path) -> Iterator[PowercapEmulator]:
    """A package where training draws twice the watts of loading, per CPU second."""
    power = Power(weights={LOADING: 1.0, TRAINING: 2.0, "other": 1.0})
    with PowercapEmulator(tmp_path / "powercap", power=power) as machine:
        yield machine


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
        steps=(Step(**cost(1.0), name="parse", stages=(), backend="tf", method="replay"),),
        full=FullRun(**cost(1.0), samples_per_s=exact(200.0)),
        idle=Idle(),
        unattributed=Cost(**cost(0.0)),
        total=Cost(**cost(1.0)),
    )


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
    """A linear model of 8 numbers, whose training step also does a task."""
    import keras
    import tensorflow as tf

    class Model(keras.Model):  # type: ignore[misc]
        def train_step(self, data: Any) -> Any:
            if task is not None:

                def run() -> Any:
                    task()
                    return np.int64(0)

                tf.numpy_function(run, [], tf.int64, stateful=True)
            return super().train_step(data)

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    model = Model(inputs, keras.layers.Dense(1)(inputs), name="small")
    model.compile("sgd", "mse", **({"jit_compile": False} | compiled))
    return model


def fit(model: Any, data: Any, callback: Any, **options: Any) -> Any:
    return model.fit(data, callbacks=[callback], verbose=0, **options)


def value(figure: Figure | None) -> float:
    assert figure is not None and figure.value is not None
    return figure.value


def test_loader_model_waiting_and_floor_against_an_emulated_machine(emulated: PowercapEmulator) -> None:
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
        floor = value(spent.waiting.energy_j[domain]) + value(spent.idle.energy_j[domain])
        assert floor == pytest.approx(true("idle"), rel=0.04), "this process's own idling is in the floor"
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
def test_the_training_is_the_same_with_and_without(sample_folder: Path) -> None:
    import keras
    import tensorflow as tf

    photos = gl.Pipeline(
        gl.ImageFolder(sample_folder), gl.Shuffle(), gl.Decode(), gl.RandomResizedCrop(16), gl.Batch(20), seed=1
    )
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
        history = model.fit(gl.load(photos, backend="tf"), epochs=2, verbose=0, callbacks=callbacks)
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


@pytest.mark.parametrize("compiled", [{"jit_compile": True}, {"run_eagerly": True}], ids=["jit", "eager"])
def test_other_ways_to_run_a_step(compiled: dict[str, Any]) -> None:
    energy = gl.EnergyCallback(known())
    fit(small_model(**compiled), dataset(lambda: None, samples=12), energy)
    assert energy.report.fit.passed.samples == 12 and energy.report.fit.passed.waiting_s is not None


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


class Stopped(BaseException):
    """What a user's Ctrl-C is to a fit."""


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
    assert "Steps" not in type(model.train_function).__name__


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


def test_scalars_for_tensorboard(tmp_path: Path) -> None:
    import tensorflow as tf

    energy = gl.EnergyCallback(known(), log_dir=tmp_path)
    fit(small_model(), dataset(lambda: None, samples=8), energy, epochs=2)
    written: dict[str, dict[int, float]] = {}
    for file in tmp_path.glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for one in event.summary.value:
                assert one.metadata.plugin_data.plugin_name == "scalars"
                written.setdefault(one.tag, {})[event.step] = float(tf.make_ndarray(one.tensor))
    assert {"energy/total_j", "energy/waiting_j", "energy/waiting_s", "energy/loader_cpu_s"} <= set(written)
    for epoch, spent in enumerate(energy.epochs):
        assert written["energy/total_j"][epoch] == pytest.approx(value(spent.total.total_j))
        assert written["energy/waiting_j"][epoch] == pytest.approx(value(spent.waiting.total_j))


def test_the_report_is_json_and_a_table(tmp_path: Path, emulated: PowercapEmulator) -> None:
    energy = gl.EnergyCallback(known(), powercap_root=emulated.root, idle_s=0.2)
    with pytest.raises(gl.UsageError, match="once a fit has ended"):
        _ = energy.report
    fit(small_model(), dataset(lambda: None, samples=8), energy, epochs=2)
    energy.report.save(tmp_path / "fit.json")
    data = json.loads((tmp_path / "fit.json").read_text())
    assert data["schema"] == "greenload.fit/1" and data["fit"]["samples"] == 16 and len(data["epochs"]) == 2
    assert data["fit"]["loader"]["energy_j"][PACKAGE]["provenance"] == "measured"
    told = text(energy.report)
    for words in (
        "fit of small: 2 epochs, 4 batches, 16 samples",
        "  parse",
        "waiting for data",
        "epoch 2",
        "measured",
    ):
        assert words in told, told
    assert max(map(len, told.splitlines())) <= 100
    with pytest.raises(gl.ReportError, match="choose another path"):
        energy.report.save(tmp_path)


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


def test_figures_for_prometheus() -> None:
    energy = gl.EnergyCallback(known(), port=0)
    fit(small_model(), dataset(lambda: None, samples=8), energy, epochs=2)
    assert energy._server is not None
    with urllib.request.urlopen(energy._server.url, timeout=30) as answer:
        served = answer.read().decode()
    assert "greenload_training_epochs_total 2.0" in served and "greenload_training_samples_total 16.0" in served
    assert 'greenload_training_epoch_energy_joules{domain="cpu",part="total",provenance="modelled"}' in served
    energy.close()


def test_a_saved_profile_and_wrong_arguments(tmp_path: Path) -> None:
    known().save(tmp_path / "profile.json")
    assert gl.EnergyCallback(tmp_path / "profile.json").profile == known()
    with pytest.raises(gl.ReportError, match="can't be read"):
        gl.EnergyCallback(str(tmp_path / "none.json"))
    with pytest.raises(gl.UsageError, match="idle_s must be 0 or more"):
        gl.EnergyCallback(idle_s=-1)
    with pytest.raises(TypeError, match="powercap"):
        gl.EnergyCallback(powercap="/sys")
    with pytest.raises(gl.UsageError, match="profile takes"):
        gl.EnergyCallback(3)  # type: ignore[arg-type]
