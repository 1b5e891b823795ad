"""What `EnergyCallback` costs a training, and whether its split is right.

    python -m bench.training

Its cost: fits of one model with and without it, in pairs, in CPU seconds of the process. Its split: a real profile and
a real fit on an emulated machine (root, Linux) that knows what each step and the model drew.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench import burning
from bench.contest import Row, table
from bench.truth_steps import percent
from greenload.energy.emulators.control import attach
from greenload.energy.emulators.layout import UNEVEN
from greenload.energy.meters import process

ROOT = Path(__file__).resolve().parents[1]
PAIRS = 12
COST_REACH = 0.01
"""Share of a training's CPU seconds that the callback may add."""
OUTSIDE_REACH = 0.1
"""Share of a dozen figures that may be outside: of 95 % intervals, one in 20 is on average."""
TRAINING = "training"
"""The kind of work that the model does on the emulated machine."""
UNIT_S, STEP_S, BATCH, SAMPLES, EPOCHS = 2e-3, 30e-3, 8, 128, 3
_KINDS = [step.name for step in burning.STEPS]


def overhead(pairs: int = PAIRS) -> list[Row]:
    """All rows: the callback's cost on two models, and its split on an emulated machine, if one can be had."""
    return [
        percent("EnergyCallback adds, of a training with steps of 1 ms: CPU", added(small_steps(), pairs), COST_REACH),
        percent("EnergyCallback adds, of a training on photographs: CPU", added(photographs(), pairs), COST_REACH),
        percent(
            "gl.watch, EnergyCallback, TensorBoard and Prometheus add, of a training on photographs: CPU",
            _everything(pairs),
            COST_REACH,
        ),
        *split_rows(),
    ]


Fit = Callable[[list[Any]], None]
"""Trains with the callbacks given."""


def added(fit: Fit, pairs: int, beside: Fit | None = None, **options: Any) -> list[float]:
    """CPU seconds of a fit with the callback over those of one without, less 1: one for each pair, in random order.

    Args:
        fit: without the callback.
        pairs: how many.
        beside: the fit with it; the same if left out.
        options: of the callback.
    """
    import greenload as gl

    measured, beside = gl.EnergyCallback(**options), beside or fit

    def cpu_s(fit: Fit, callbacks: list[Any]) -> float:
        start = time.process_time()
        fit(callbacks)
        return time.process_time() - start

    order = random.Random(0)
    cpu_s(fit, []), cpu_s(beside, [measured])
    shares = []
    for _ in range(pairs):
        if order.random() < 0.5:
            without, with_it = cpu_s(fit, []), cpu_s(beside, [measured])
        else:
            with_it, without = cpu_s(beside, [measured]), cpu_s(fit, [])
        shares.append(with_it / without - 1)
    measured.close()
    return shares


def _everything(pairs: int) -> list[float]:
    plain, watched = watched_photographs()
    with tempfile.TemporaryDirectory() as logs:
        return added(plain, pairs, watched, log_dir=logs, port=0)


def small_steps() -> Fit:
    """A model whose steps take below a millisecond: the most that a cost for each step could show."""
    import keras
    import tensorflow as tf

    images = np.random.default_rng(0).random((12_800, 32), np.float32)
    data = tf.data.Dataset.from_tensor_slices((images, np.zeros(len(images), np.int32))).batch(64).cache().prefetch(2)
    model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return lambda callbacks: model.fit(data, epochs=6, verbose=0, callbacks=callbacks)


def photographs() -> Fit:
    """A small convolutional network on the sample photographs."""
    import greenload as gl

    folder = _photos()
    photos = gl.Pipeline(
        gl.ImageFolder(folder), gl.Shuffle(), gl.Decode(), gl.RandomResizedCrop(96), gl.Batch(16), seed=1
    )
    return _trains(gl.load(photos, backend="tf"))


def watched_photographs() -> tuple[Fit, Fit]:
    """The same network on photographs by tf.data's own functions: as they are, and watched."""
    import tensorflow as tf

    import greenload as gl

    files = sorted(map(str, _photos().glob("*/*.jpg")))

    def decode(file: Any) -> Any:
        return tf.io.decode_jpeg(tf.io.read_file(file), channels=3)

    def crop(image: Any) -> Any:
        return tf.image.random_crop(tf.image.resize(image, (128, 128)), (96, 96, 3))

    def flip(image: Any) -> Any:
        return tf.image.random_flip_left_right(image), tf.constant(0, tf.int64)

    data = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files), seed=1)
    for function in (decode, crop, flip):
        data = data.map(function, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.batch(16).prefetch(tf.data.AUTOTUNE)
    return _trains(data), _trains(gl.watch(data))


def _photos() -> Path:
    from greenload.sources.samples import make_samples

    folder = Path(tempfile.mkdtemp(prefix="greenload-bench-"))
    make_samples(folder, images=96, classes=4)
    return folder


def _trains(data: Any) -> Fit:
    import keras

    layers = [keras.layers.Conv2D(width, 3, 2, activation="relu") for width in (16, 32, 64)]
    layers = [keras.Input((96, 96, 3)), keras.layers.Rescaling(1 / 255), *layers]
    model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return lambda callbacks: model.fit(data, epochs=2, verbose=0, callbacks=callbacks)


def split_rows() -> list[Row]:
    """How far the split is off on an emulated machine; no rows where none can be had, which is said."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("unshare") is None:
        print("left out: the split of a fit: it needs root on Linux with util-linux", file=sys.stderr)
        return []
    weights = {**UNEVEN.weights, **{step.name: UNEVEN.weights[step.kind] for step in burning.STEPS}, TRAINING: 1.7}
    power = json.dumps(asdict(replace(UNEVEN, weights=weights)))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "fit.json"
        machine = ["unshare", "-m", sys.executable, "-m", "greenload.energy.emulators.powercap", "--power", power]
        done = subprocess.run([*machine, sys.executable, "-m", "bench.training", "--emulated", str(out)], cwd=ROOT)
        if done.returncode:
            raise RuntimeError(
                f"a fit on the emulated machine ended with status {done.returncode}: see its error above"
            )
        return judged(json.loads(out.read_text()))


def judged(found: dict[str, Any]) -> list[Row]:
    """Rows of one fit and its truth. What a part may be off: interval and band, or 5 % of it, or 1 % of the total."""
    totals, loaders, ratios, lines = [], [], [], []
    for domain, truth in found["truth"].items():
        fit = found["fit"]
        total = fit["total"]["energy_j"][domain]["value"]
        totals.append(abs(total / truth["total"] - 1))
        loaders.append(abs(fit["loader"]["energy_j"][domain]["value"] / truth["loader"] - 1))
        parts = {name: fit[name]["energy_j"][domain] for name in ("loader", "model")}
        parts |= {
            kind: step["energy_j"][domain] for kind, step in zip(_KINDS, _burning(fit["steps"], found), strict=True)
        }
        floor = fit["idle"]["energy_j"][domain]["value"] + fit["waiting"]["energy_j"][domain]["value"]
        parts["floor"] = {"value": floor, "low": floor, "high": floor}
        for name, figure in parts.items():
            half = (figure["high"] - figure["low"]) / 2
            band = figure.get("systematic", 0.0) * abs(figure["value"])
            allowed = max(half + band, 0.05 * truth[name], 0.01 * truth["total"])
            ratios.append(abs(figure["value"] - truth[name]) / allowed)
            lines.append(f"  {domain} {name}: {figure['value']:.2f} ±{half:.2f} J, truth {truth[name]:.2f} J")
    print("\n".join(lines), file=sys.stderr)
    outside = sum(ratio > 1 for ratio in ratios) / len(ratios)
    return [
        percent("a fit on the emulated machine, joules in all: off by", totals, 0.01),
        percent("its loader: off by", loaders),
        percent("its loader, steps, model and floor: off by more than they may", [outside], OUTSIDE_REACH),
    ]


def _burning(steps: Sequence[dict[str, Any]], found: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for step in steps if step["name"] in found["burning"]]


def fit_on_emulated(out: Path) -> None:
    """Profile the burning pipeline, train on it, and write what was found and what was true."""
    import keras
    import tensorflow as tf

    import greenload as gl
    from bench.truth_machine import kinds_of

    machine = attach()
    # Nobody else is on the emulated machine: what the real one's other processes do draws nothing there.
    process.machine_cpu_s = process.own_cpu_s
    os.environ[burning.UNIT_VARIABLE] = str(UNIT_S)
    images = np.random.default_rng(0).integers(0, 255, (SAMPLES, 4, 4, 3), np.uint8)
    source = gl.Arrays(images, labels=np.zeros(SAMPLES, np.int64))
    steps = (gl.Apply(burning.light), gl.Apply(burning.middle), gl.Apply(burning.heavy))
    pipeline = gl.Pipeline(source, *steps, gl.Batch(BATCH))
    report = gl.profile(pipeline, "tf", name="burning")

    def work() -> Any:
        burning.burn(burning.VECTOR, STEP_S, burning.seen_ledger(), noted_as=TRAINING)
        return np.int64(0)

    class Model(keras.Sequential):  # type: ignore[misc]
        def train_step(self, data: Any) -> Any:
            tf.numpy_function(work, [], tf.int64, stateful=True)
            return super().train_step(data)

    model = Model([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    data = gl.load(pipeline, backend="tf")
    energy = gl.EnergyCallback(report)
    model.fit(data, verbose=0)  # traces
    model.fit(data, epochs=EPOCHS, verbose=0, callbacks=[energy])
    print(energy.report, file=sys.stderr)
    fit = energy.report.fit
    end_ns = fit.start_ns + round(fit.wall_s * 1e9)

    def true(domain: str) -> dict[str, float]:
        kinds = {kind: machine.true_between(fit.start_ns, end_ns, domain, kind) for kind in machine.kinds}
        other = kinds["other"]  # TensorFlow's own work, for loader and model both
        return {kind: kinds[kind] for kind in _KINDS} | {
            "total": machine.true_between(fit.start_ns, end_ns, domain),
            "loader": sum(kinds[kind] for kind in _KINDS),
            "model": kinds[TRAINING] + other,
            "floor": machine.true_between(fit.start_ns, end_ns, domain, "idle"),
        }

    found = {
        "fit": fit.to_dict(),
        "truth": {domain: true(domain) for domain in fit.total.energy_j if domain in machine.domains},
        "burning": list(kinds_of(report)),
    }
    out.write_text(json.dumps(found))


def main(arguments: list[str]) -> None:
    """Print the rows; with ``--emulated FILE``, be the fit on the emulated machine."""
    if arguments and arguments[0] == "--emulated":
        fit_on_emulated(Path(arguments[1]))
        return
    print(table(overhead()))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main(sys.argv[1:])
