"""Fits on two replicas, each a logical device of the processor: a process of its own, as devices can't be split later.

``python mirrored_fits.py`` prints what `EnergyCallback` saw of each, as JSON.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

import greenload as gl


def main() -> None:
    import tensorflow as tf

    whole = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(whole, [tf.config.LogicalDeviceConfiguration()] * 2)
    import keras

    def model(strategy: Any, **compiled: Any) -> Any:
        with strategy.scope():
            keras.utils.set_random_seed(0)
            found = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
            found.compile("sgd", "mse", **({"jit_compile": False} | compiled))
        return found

    images = np.random.default_rng(0).random((9, 8), np.float32)
    # Batches of 4, 4 and 1: the last has no sample for the second replica.
    data = tf.data.Dataset.from_tensor_slices((images, images[:, :1])).batch(4)
    two, one = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), tf.distribute.OneDeviceStrategy("CPU:0")
    fits = {
        "two": (two, {}),
        "eager": (two, {"run_eagerly": True}),
        "one": (one, {}),
    }
    found = {}
    for name, (strategy, compiled) in fits.items():
        energy, seen = gl.EnergyCallback(), model(strategy, **compiled)
        seen.fit(data, epochs=2, verbose=0, shuffle=False, callbacks=[energy])
        found[name] = {
            "samples": [spent.passed.samples for spent in energy.epochs],
            "batches": [spent.passed.batches for spent in energy.epochs],
            "unknown": list(energy.report.fit.passed.unknown),
            "weights": seen.get_weights()[0].tolist(),
        }
    watched, energy = gl.watch(data.map(lambda image, label: (image * 1.0, label))), gl.EnergyCallback()
    seen = model(two)
    seen.fit(watched, epochs=2, verbose=0, shuffle=False, callbacks=[energy])
    found["watched"] = {
        "calls": [step.calls for spent in energy.epochs for step in spent.steps],
        "samples": [spent.passed.samples for spent in energy.epochs],
        "weights": seen.get_weights()[0].tolist(),
    }
    plain = model(two)
    plain.fit(data, epochs=2, verbose=0, shuffle=False)
    found["without"] = {"weights": plain.get_weights()[0].tolist()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
