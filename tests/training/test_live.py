"""`EnergyCallback` on watched datasets: what their clocks saw in real fits, without a profile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_fits import DRAM, PACKAGE, Stopped, caching, fit, known, small_model, value, work

import greenload as gl
from greenload.energy.emulators.layout import Power
from greenload.energy.emulators.powercap import PowercapEmulator
from greenload.energy.figures import Figure
from greenload.energy.meters.process import own_cpu_s
from greenload.training.fit_report import FitReport, fit_text
from greenload.training.live_steps import _joules
from greenload.training.spent import WatchedPart

alone = pytest.mark.alone
KINDS = ("decode", "crop", "model", "other")
DECODE_S, CROP_S, STEP_S, BATCH = 0.003, 0.001, 0.004, 4


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No one else on the machine: the emulated one counts this process only, so other processes draw nothing there."""
    monkeypatch.setattr("greenload.energy.meters.process.machine_cpu_s", own_cpu_s)


@pytest.fixture
def emulated(tmp_path: Path) -> Iterator[PowercapEmulator]:
    with PowercapEmulator(tmp_path / "powercap", power=Power(weights=dict.fromkeys(KINDS, 1.0))) as machine:
        yield machine


def burning(
    machine: PowercapEmulator | None = None, samples: int = 200, decode: Callable[[], None] | None = None
) -> Any:
    """A dataset of two functions of known CPU time, ``decode`` and ``crop``."""
    import tensorflow as tf

    def function(name: str, task: Callable[[], None]) -> Any:
        def run(array: Any) -> Any:
            task()
            return array

        def mapped(image: Any) -> Any:
            made = tf.numpy_function(run, [image], tf.float32, stateful=True)
            made.set_shape(image.shape)
            return made

        mapped.__name__ = name
        return mapped

    images = np.random.default_rng(0).random((samples, 8), np.float32)
    decoded = tf.data.Dataset.from_tensor_slices(images).map(
        function("decode", decode or (lambda: work(machine, "decode", DECODE_S))), num_parallel_calls=2
    )
    cropped = decoded.map(function("crop", lambda: work(machine, "crop", CROP_S)), num_parallel_calls=2)
    return cropped.map(labelled).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def labelled(image: Any) -> Any:
    return image, image[:1]


def named(steps: Any) -> dict[str, WatchedPart]:
    return {step.name: step for step in steps if isinstance(step, WatchedPart)}


@alone
def test_what_steps_take_is_seen_in_the_fit_itself(emulated: PowercapEmulator, tmp_path: Path) -> None:
    model = small_model(lambda: work(emulated, "model", STEP_S))
    energy = gl.EnergyCallback(powercap_root=emulated.root, idle_s=0.4)
    data, validation = gl.watch(burning(emulated)), gl.watch(burning(emulated, samples=40))
    history = fit(model, data, energy, epochs=2, validation_data=validation).history

    assert energy.profile is None and {"loader_j", "model_j", "loader_cpu_s"} <= set(history)
    for spent in energy.epochs:
        steps, tested = named(spent.steps), named(spent.validation_steps)
        assert steps["decode"].calls == steps["crop"].calls == 200 and tested["decode"].calls == 40
        assert value(steps["decode"].cpu_s) == pytest.approx(200 * DECODE_S, rel=0.15)
        assert value(tested["decode"].cpu_s) == pytest.approx(40 * DECODE_S, rel=0.15)
        assert value(spent.loader.cpu_s) == pytest.approx(sum(value(step.cpu_s) for step in spent.steps))
        assert value(spent.model.cpu_s) >= 50 * STEP_S
        for domain in (PACKAGE, DRAM):
            end_ns = spent.start_ns + round(spent.wall_s * 1e9)
            true = emulated.true_between(spent.start_ns, end_ns, domain, "decode")
            here = value(steps["decode"].energy_j[domain]) + value(tested["decode"].energy_j[domain])
            assert here == pytest.approx(true, rel=0.15)
            parts = sum(value(part.energy_j[domain]) for part in spent.parts)
            assert parts == pytest.approx(value(spent.total.energy_j[domain]))
            assert steps["decode"].energy_j[domain].provenance == "modelled", "a share, not a counter's"
    report = energy.report
    both = sum(value(named(spent.steps)["decode"].cpu_s) for spent in energy.epochs)
    assert value(named(report.fit.steps)["decode"].cpu_s) == pytest.approx(both, rel=0.02)
    assert report.fit.buffers and report.fit.buffered_bytes is not None
    told = fit_text(report)
    for words in (
        "loader, its functions",
        "  decode",
        "model and hand-over",
        "validation: crop",
        "in the loader's buf",
    ):
        assert words in told, told
    report.save(tmp_path / "fit.json")
    assert FitReport.load(tmp_path / "fit.json").to_dict() == report.to_dict()


@alone
def test_watts_over_time_add_up(emulated: PowercapEmulator, tmp_path: Path) -> None:
    energy = gl.EnergyCallback(powercap_root=emulated.root, idle_s=0.4, log_dir=tmp_path / "logs")
    model = small_model(lambda: work(emulated, "model", STEP_S))
    fit(model, gl.watch(burning(emulated, samples=400)), energy, epochs=2, validation_data=burning(emulated, 100))
    found = energy.report.timeline
    assert found is not None and found.provenance == "measured"
    seconds = [end - start for start, end in zip(found.start_s, found.end_s, strict=True)]
    assert min(seconds) > 0 and sum(seconds) == pytest.approx(energy.report.fit.wall_s, abs=0.01)
    whole = sum((found.watts(k) or 0.0) * span_s for k, span_s in enumerate(seconds))
    assert whole == pytest.approx(value(energy.report.fit.total.total_j), rel=0.05)
    rows = {row.name: row for row in found.rows}
    assert list(rows)[:3] == ["idle", "decode", "crop"] and {"model", "validation"} <= set(rows)
    decode = sum((watts or 0.0) * span_s for watts, span_s in zip(rows["decode"].watts, seconds, strict=True))
    assert decode == pytest.approx(value(named(energy.report.fit.steps)["decode"].total_j), rel=0.1)
    for k, testing in enumerate(found.testing):
        assert bool(rows["validation"].watts[k]) == testing and (found.waiting[k] is None or not testing)
    assert scalars(tmp_path / "logs") >= {"energy/loader/decode_j", "energy/watts/decode", "energy/watts/model"}
    page = energy.report.html()
    assert "Watts by step, over time" in page and "decode" in page and "http" not in page.replace("http-equiv", "")


@alone
def test_tensorboard_has_the_watts_of_each_span_once(tmp_path: Path) -> None:
    energy = gl.EnergyCallback(idle_s=0, log_dir=tmp_path / "logs")
    validation = gl.watch(burning(samples=40))
    fit(small_model(), gl.watch(burning(samples=80)), energy, epochs=3, validation_data=validation)
    written = [step for tag, step in _written(tmp_path / "logs") if tag == "energy/watts/idle"]
    tested = [step for tag, step in _written(tmp_path / "logs") if tag == "energy/watts/validation"]
    found = energy.report.timeline
    assert found is not None and sum(found.testing) >= 3
    assert len(written) == len(set(written)) and len(tested) == len(set(tested))
    ends = [round(end_s * 1000) for end_s, testing in zip(found.end_s, found.testing, strict=True) if testing]
    assert all(any(abs(step - end) <= 2 for step in tested) for end in ends), (tested, ends)


def scalars(folder: Path) -> set[str]:
    return {tag for tag, _ in _written(folder)}


def _written(folder: Path) -> list[tuple[str, int]]:
    """Tags and steps of scalars."""
    import tensorflow as tf

    events = (
        tf.compat.v1.Event.FromString(record.numpy())
        for file in folder.glob("events.out.tfevents.*")
        for record in tf.data.TFRecordDataset(str(file))
    )
    return [(one.tag, event.step) for event in events for one in event.summary.value]


@alone
def test_who_waits_for_whom() -> None:
    starved = gl.EnergyCallback()
    fit(small_model(), gl.watch(burning(samples=80, decode=lambda: time.sleep(0.02))), starved, epochs=2)
    assert starved.epochs[1].pace == "starved"
    assert "the training waits for the loader" in fit_text(starved.report)
    slept = named(starved.epochs[1].steps)["decode"]
    assert slept.waiting_s is not None and slept.waiting_s > 80 * 0.015 > 5 * value(slept.cpu_s)

    saturated = gl.EnergyCallback()
    slow = small_model(lambda: time.sleep(0.15))
    fit(slow, gl.watch(burning(samples=120, decode=lambda: None)), saturated, epochs=2)
    assert saturated.epochs[1].pace == "saturated", (saturated.epochs[1].buffers, saturated.epochs[1].waiting_share)


@alone
def test_several_datasets_a_part_of_an_epoch_and_one_that_is_derived() -> None:
    import tensorflow as tf

    one, other = gl.watch(burning(samples=40)), gl.watch(burning(samples=40))
    both = tf.data.Dataset.zip((one, other)).map(lambda first, second: first).repeat()
    energy = gl.EnergyCallback()
    fit(small_model(), both, energy, epochs=2, steps_per_epoch=5)
    names = [step.name for step in energy.report.fit.steps]
    assert len(set(names)) == 6 and all(": " in name for name in names), names
    assert energy.report.fit.passed.samples == 2 * 5 * BATCH
    only = gl.EnergyCallback(one.prefetch(1))
    fit(small_model(), both, only, steps_per_epoch=5)
    assert [step.name for step in only.report.fit.steps] == ["decode", "crop", "labelled"] and only.profile is None
    again = gl.EnergyCallback(one)
    fit(small_model(), gl.watch(one.map(lambda image, label: (image * 2.0, label))), again)
    assert len(again.report.fit.steps) == 4, "what is watched again, as a part of more, counts once"


@alone
def test_an_interrupted_fit_keeps_what_was_measured() -> None:
    import keras

    class Raises(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 10:
                raise Stopped

    energy = gl.EnergyCallback()
    with pytest.raises(Stopped):
        small_model().fit(gl.watch(burning()), callbacks=[energy, Raises()], verbose=0)
    energy.close()
    steps = named(energy.report.fit.steps)
    assert 40 <= steps["decode"].calls < 200 and energy.report.ended == "an interruption"
    assert energy.report.timeline is not None


@alone
def test_a_step_that_costs_more_than_it_did_has_drifted(tmp_path: Path) -> None:
    data = gl.watch(burning(samples=120))
    before = gl.EnergyCallback()
    fit(small_model(), data, before, epochs=6)  # of some seconds: in shorter ones it isn't seen how much costs vary
    before.report.save(tmp_path / "before.json")
    same = gl.EnergyCallback(baseline=before.report)
    fit(small_model(), data, same, epochs=2)
    dearer = gl.EnergyCallback(baseline=tmp_path / "before.json")
    costly = gl.watch(burning(samples=120, decode=lambda: work(None, "", 1.6 * DECODE_S)))
    fit(small_model(), costly, dearer, epochs=6)
    drift = {one.name: one for one in dearer.report.drift}
    assert drift["decode"].drifted and value(drift["decode"].ratio) == pytest.approx(1.6, rel=0.15)
    assert "drift: decode costs 1.6 of what it did" in fit_text(dearer.report, 1000)
    assert {one.name for one in same.report.drift} == {"decode", "crop", "labelled"}
    with pytest.raises(gl.UsageError, match="a baseline is a Report"):
        gl.EnergyCallback(baseline=3)  # type: ignore[arg-type]


def test_a_watched_dataset_that_gives_the_fit_nothing_does_not_count() -> None:
    """As one of a fit before, which still fills its buffers when the next begins."""
    import keras

    elsewhere = iter(gl.watch(burning(samples=40)).repeat())

    class Beside(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            next(elsewhere)

    energy = gl.EnergyCallback()
    small_model().fit(gl.watch(burning(samples=40)), epochs=2, verbose=0, callbacks=[energy, Beside()])
    assert [step.name for step in energy.report.fit.steps] == ["decode", "crop", "labelled"]


@alone
def test_a_profile_beside_a_watched_dataset_gives_joules_of_a_cpu_second_and_the_hand_over() -> None:
    profile = known(cpu_s=DECODE_S)
    (step,) = profile.steps
    steps = tuple(replace(step, name=name) for name in ("decode", "crop", "labelled", "hand-over"))
    energy = gl.EnergyCallback(replace(profile, steps=steps))
    fit(small_model(), gl.watch(burning(samples=80)), energy)
    spent = energy.report.fit
    drift = {one.name: one for one in energy.report.drift}
    assert not drift["decode"].drifted and drift["crop"].drifted
    assert value(named(spent.steps)["decode"].cpu_s) == pytest.approx(80 * DECODE_S, rel=0.15)
    assert [one.name for one in spent.steps][-1] == "hand-over" and not spent.does_not_fit
    assert value(spent.steps[-1].cpu_s) == pytest.approx(80 * DECODE_S)
    assert value(spent.loader.cpu_s) == pytest.approx(sum(value(one.cpu_s) for one in spent.steps))
    told, page, found = fit_text(energy.report, 1000), energy.report.html(), energy.report.timeline
    assert "model (the rest)" in told and "model and hand-over" not in told + page
    assert "and so in the hand-over: " in told and "in the model's part" not in told
    assert "hand-over is what the profile says" in page and found is not None
    row = next(row for row in found.rows if row.name == "hand-over")
    seconds = [end - start for start, end in zip(found.start_s, found.end_s, strict=True)]
    layer_s = sum(busy * span_s for busy, span_s in zip(row.cpus, seconds, strict=True))
    assert layer_s == pytest.approx(value(spent.steps[-1].cpu_s), rel=0.1)


def test_joules_of_a_cpu_second_are_the_profiles() -> None:
    power, profile = Power(), known(cpu_s=DECODE_S)
    found = _joules(profile, "parse", Figure(0.5, 0.5, 0.5, "measured"))
    assert value(found[PACKAGE]) == pytest.approx(0.5 * power.busy_core_w)
    assert _joules(profile, "another", Figure.missing()) == {} == _joules(None, "parse", Figure.missing())


@alone
def test_an_epoch_that_fills_a_cache_is_charged_the_hand_over_of_a_first_one() -> None:
    profile = caching(4 * CROP_S, CROP_S)
    assert profile.first_epoch is not None
    later = (*profile.steps, replace(profile.steps[0], name="hand-over"))
    of_first = profile.first_epoch.steps[0]
    first = replace(profile.first_epoch, steps=(of_first, replace(of_first, name="hand-over")))
    energy = gl.EnergyCallback(replace(profile, steps=later, first_epoch=first))
    cached = burning(samples=80, decode=lambda: None).unbatch().cache()
    data = cached.map(lambda image, label: (image * 2.0, label)).batch(BATCH)
    fit(small_model(lambda: work(None, "", 5 * STEP_S)), gl.watch(data), energy, epochs=2)
    charged = [value(spent.steps[-1].cpu_s) for spent in (*energy.epochs, energy.report.fit)]
    assert charged == pytest.approx([80 * 4 * CROP_S, 80 * CROP_S, 80 * 5 * CROP_S])
    assert {spent.steps[-1].name for spent in energy.epochs} == {"hand-over"}
