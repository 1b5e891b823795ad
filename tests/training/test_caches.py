"""`EnergyCallback` on datasets with caches: which epoch fills them, and what that one costs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from known_fits import caching, fit, small_model, value

import greenload as gl
from greenload.report.cost_records import CacheState
from greenload.training.fit_report import fit_text
from greenload.training.spent import WatchedPart

if TYPE_CHECKING:
    import tensorflow as tf

FIRST_S, LATER_S, SAMPLES = 2e-6, 1e-7, 12


def kinds(energy: gl.EnergyCallback) -> list[str]:
    """By which costs each epoch was charged."""
    found = []
    for spent in energy.epochs:
        cpu_s, samples = spent.loader.cpu_s, spent.passed.samples
        if cpu_s is None or cpu_s.value is None:
            assert any("isn't known whether an epoch filled the cache" in note for note in spent.notes)
            found.append("unknown")
            continue
        assert samples
        a_sample = cpu_s.value / samples
        found.append({FIRST_S: "first", LATER_S: "later"}[min((FIRST_S, LATER_S), key=lambda s: abs(s - a_sample))])
        assert a_sample == pytest.approx(FIRST_S if found[-1] == "first" else LATER_S)
    return found


def samples() -> tf.data.Dataset:
    import tensorflow as tf

    images = np.random.default_rng(0).random((SAMPLES, 8), np.float32)
    return tf.data.Dataset.from_tensor_slices(images).map(lambda image: (image, tf.reduce_sum(image)))


def not_tuned(data: tf.data.Dataset) -> tf.data.Dataset:
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


CASES: dict[str, tuple[Callable[[Path], tf.data.Dataset], dict[str, Any], list[str]]] = {
    "in memory": (lambda _: samples().cache().batch(4), {}, ["first", "later", "later"]),
    "behind a shuffle that takes all": (
        lambda _: samples().shuffle(20, reshuffle_each_iteration=False).cache().shuffle(20).batch(4).prefetch(2),
        {},
        ["first", "later", "later"],
    ),
    "where asking would move a seeded shuffle on": (
        lambda _: samples().shuffle(20, seed=1).cache().shuffle(20).batch(4),
        {},
        ["unknown", "later", "later"],
    ),
    "where it is seen in the first batch": (
        lambda _: samples().shuffle(20, seed=1).cache().shuffle(3).batch(4),
        {},
        ["first", "later", "later"],
    ),
    "without tuning": (lambda _: not_tuned(samples().cache().batch(4)), {}, ["first", "later", "later"]),
    "of an unknown length": (
        lambda _: samples().filter(lambda image, label: label > 0).cache().batch(4),
        {},
        ["first", "later", "later"],
    ),
    "on disk": (
        lambda folder: samples().filter(lambda image, label: label > 0).cache(str(folder / "kept")).batch(4),
        {},
        ["first", "later", "later"],
    ),
    "a snapshot": (
        lambda folder: samples().snapshot(str(folder / "kept")).batch(4),
        {},
        ["first", "later", "later"],
    ),
    "a part of an epoch": (
        lambda _: samples().cache().batch(4).prefetch(1),
        {"steps_per_epoch": 2},
        ["unknown", "unknown", "later"],
    ),
    "several epochs in one": (
        lambda _: samples().cache().repeat().batch(4),
        {"steps_per_epoch": 4},
        ["unknown", "later", "later"],
    ),
    "on disk, behind a shuffle that takes all": (
        lambda folder: (
            samples().filter(lambda image, label: label > 0).cache(str(folder / "kept")).shuffle(20).batch(4)
        ),
        {},
        ["first", "later", "later"],
    ),
    "no cache at all": (lambda _: samples().batch(4), {}, ["unknown", "unknown", "unknown"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:.*Your input ran out of data")
def test_which_epoch_fills_the_cache_is_seen(case: str, tmp_path: Path) -> None:
    make, options, expected = CASES[case]
    energy = gl.EnergyCallback(caching(FIRST_S, LATER_S))
    history = fit(small_model(), make(tmp_path), energy, epochs=3, **options).history
    assert kinds(energy) == expected
    assert [len(history[name]) for name in ("loader_j", "loader_cpu_s", "model_j") if name in history] in ([3] * 3, [3])
    whole, parts = energy.report.fit, [spent.loader.cpu_s for spent in energy.epochs]
    if "unknown" in expected:
        assert whole.loader.cpu_s is not None and whole.loader.cpu_s.value is None
        assert len([note for note in whole.notes if "filled the cache" in note]) == 1
    else:
        assert value(whole.loader.cpu_s) == pytest.approx(sum(map(value, parts)))
        assert [step.name for step in whole.steps] == ["parse", "in no step"]
        assert value(whole.steps[0].cpu_s) == pytest.approx(value(whole.loader.cpu_s))


def test_functions_that_a_filled_cache_spares_took_nothing() -> None:
    energy = gl.EnergyCallback(idle_s=0)
    fit(small_model(), gl.watch(samples().cache().batch(4)), energy, epochs=2)
    first, later = energy.epochs
    steps = [step for step in later.steps if isinstance(step, WatchedPart)]
    assert [(step.name, step.calls) for step in steps] == [(step.name, 0) for step in first.steps]
    assert value(first.loader.cpu_s) > 0 == value(later.loader.cpu_s) and later.is_watched
    assert value(later.model.cpu_s) == value(later.work.cpu_s)
    assert not any("nobody profiled or watched" in note for note in later.notes)
    for spent in (first, later):
        (said,) = (note for note in spent.notes if note.startswith("without a clock"))
        assert ": from_tensor_slices, cache, batch (" in said


@pytest.mark.parametrize("profiled", [True, False])
def test_a_watched_fit_tells_what_is_known_of_such_an_epoch(profiled: bool) -> None:
    """Its functions, by their clocks; what is missing is the profile's hand-over, where that has any."""
    profile = caching(FIRST_S, LATER_S)
    if profiled:
        assert profile.first_epoch is not None
        more = replace(profile.steps[0], name="hand-over")
        first = replace(profile.first_epoch, steps=(*profile.first_epoch.steps, more))
        profile = replace(profile, steps=(*profile.steps, more), first_epoch=first)
    energy = gl.EnergyCallback(profile, idle_s=0)
    data = gl.watch(samples().cache().batch(4))
    history = fit(small_model(), data, energy, epochs=2, steps_per_epoch=2).history
    for spent in (*energy.epochs, energy.report.fit):
        assert spent.is_watched and spent.hand_over is None and value(spent.loader.cpu_s) >= 0
        said = [note for note in spent.notes if "filled the cache" in note]
        assert len(said) == profiled and not any("one figure" in note for note in spent.notes)
        for one in said:
            assert "the loader is its functions alone, and tf.data's hand-over is in the model's part" in one
            assert one.endswith("train on whole epochs")
    assert all(map(math.isfinite, history["loader_j"])) and all(map(math.isfinite, history["model_j"]))
    assert "loader, its functions" in fit_text(energy.report)


def test_a_cache_that_another_fit_or_loop_filled_is_only_read(tmp_path: Path) -> None:
    data, energy = samples().cache().shuffle(20).batch(4), gl.EnergyCallback(caching(FIRST_S, LATER_S))
    model = small_model()
    fit(model, data, energy, epochs=1)
    assert kinds(energy) == ["first"]
    fit(model, data, energy, epochs=1)
    assert kinds(energy) == ["later"]
    looped = samples().cache()
    list(looped)
    fit(model, looped.batch(4), energy, epochs=1)
    assert kinds(energy) == ["later"]
    for place in ("once", "again"):
        list(samples().cache(str(tmp_path / "kept")))
        fit(model, samples().cache(str(tmp_path / "kept")).batch(4), energy, epochs=1)
        assert kinds(energy) == ["later"], place


@pytest.mark.slow
def test_two_caches_and_one_that_was_on_disk_when_profiled(tmp_path: Path) -> None:
    kept = str(tmp_path / "kept")
    states = (CacheState("cache", kept, filled=True), CacheState("cache 2"))
    energy = gl.EnergyCallback(caching(FIRST_S, LATER_S, *states))
    fit(small_model(), samples().cache(kept).cache().batch(4), energy, epochs=2)
    assert kinds(energy)[0] == "unknown", "it fills both"
    list(samples().cache(kept))
    fit(small_model(), samples().cache(kept).cache().batch(4), energy, epochs=2)
    assert kinds(energy) == ["first", "later"]
    both = gl.EnergyCallback(caching(FIRST_S, LATER_S, CacheState("cache"), CacheState("cache 2")))
    fit(small_model(), samples().cache().map(lambda *one: one).cache().batch(4), both, epochs=2)
    assert kinds(both) == ["first", "later"]


@pytest.mark.slow
@pytest.mark.parametrize("cache", [gl.Cache(), gl.Cache(ram=50_000), gl.Cache("kept")])
def test_the_native_backends_cache(
    sample_folder: Path, cache: gl.Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.chdir(tmp_path)
    stages = [cache, gl.Shuffle(), gl.Decode(), gl.Resize((8, 8)), gl.Batch(20)]
    photos = gl.Pipeline(gl.ImageFolder(sample_folder), *stages, seed=1)
    energy = gl.EnergyCallback(caching(FIRST_S, LATER_S, CacheState("Cache")))
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    fit(model, gl.load(photos, backend="native"), energy, epochs=3)
    assert kinds(energy) == ["first", "later", "later"]
    fit(model, gl.load(photos, backend="native"), energy, epochs=1)
    assert kinds(energy) == ["later"], "it is kept already"


@pytest.mark.slow
def test_the_stage_cache(sample_folder: Path) -> None:
    import keras

    stages = [gl.Cache(), gl.Shuffle(), gl.Decode(), gl.Resize((8, 8)), gl.Batch(20)]
    photos = gl.Pipeline(gl.ImageFolder(sample_folder), *stages, seed=1)
    energy = gl.EnergyCallback(caching(FIRST_S, LATER_S, CacheState("Cache")))
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    fit(model, gl.load(photos, backend="tf"), energy, epochs=2)
    assert kinds(energy) == ["first", "later"]
    fit(model, gl.load(photos, backend="tf", epochs=2), energy)
    assert kinds(energy) == ["unknown"], "two epochs in one"


@pytest.mark.alone
@pytest.mark.long
def test_a_real_fit_is_charged_for_filling_the_cache() -> None:
    import tensorflow as tf

    def slow(index: Any) -> Any:
        made = tf.linalg.matmul(tf.random.stateless_uniform((250, 250), [1, 2]), tf.ones((250, 250)))
        return tf.zeros(8) + 0.0 * tf.reduce_sum(made), 0.0

    data = tf.data.Dataset.range(96).map(slow).cache().batch(8)
    report = gl.profile(data, samples=64, rounds=2)
    assert report.first_epoch is not None
    start = time.process_time()
    list(tf.data.Dataset.range(96).map(slow).cache().batch(8))
    true_s = time.process_time() - start
    energy = gl.EnergyCallback(report)
    fit(small_model(), data, energy, epochs=2)
    first, later = (value(spent.loader.cpu_s) for spent in energy.epochs)
    assert true_s / 2 < first < 2 * true_s and later < first / 4
    assert value(energy.report.fit.loader.cpu_s) == pytest.approx(first + later)
    assert "cpu_s" not in fit_text(energy.report)
