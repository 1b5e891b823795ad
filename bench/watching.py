"""What `watch` costs, and whether a watched dataset is the same dataset.

    python -m bench.watching [--json FILE] [--photos FOLDER] [--rounds 60]

Passes over a dataset and over the same one watched take turns. Load of other processes adds CPU time to some passes:
of each the least, the quarter and the middle are compared. Elements are compared bit by bit over two epochs, with one
thread and in order: where operations draw random numbers one after the other, a dataset isn't even equal to itself.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

from bench.datasets import makers, photos_at

FORMAT = "greenload.bench.watching/1"
REACH = {"photographs": 0.01, "arrays": 0.05}
"""The share of CPU time that clocks may add."""
EPOCHS = 2


@dataclass(frozen=True)
class Cost:
    """CPU microseconds of a sample in each pass."""

    name: str
    plain: Sequence[float]
    again: Sequence[float]
    """Of another dataset without clocks: how far apart two figures of the same are."""
    watched: Sequence[float]

    def ratios(self, other: Sequence[float]) -> tuple[float, float, float]:
        """Of the least passes, of their lower quarters, and the median of the ratios of neighbours."""
        pairs = [one / two for one, two in zip(other, self.plain, strict=True)]
        return min(other) / min(self.plain), quantiles(other)[0] / quantiles(self.plain)[0], median(pairs)


def photographs(folder: str) -> Any:
    """Photographs, read, decoded, resized, augmented and scaled in two functions."""
    import tensorflow as tf

    def read(file: Any) -> Any:
        return tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(file), 3), (96, 96))

    def augmented(image: Any) -> Any:
        return tf.image.random_flip_left_right(image, seed=1) / 255.0

    files = sorted(str(path) for path in Path(folder).rglob("*.jp*g"))
    dataset = tf.data.Dataset.from_tensor_slices(files)
    return dataset.map(read, tf.data.AUTOTUNE).map(augmented, tf.data.AUTOTUNE).batch(32).prefetch(2)


def arrays(_: str) -> Any:
    """4,096 arrays of 32 × 32 pixels, and four functions that take some microseconds each."""
    import numpy as np
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(
        (np.random.default_rng(1).integers(0, 255, (4096, 32, 32, 3), np.uint8), np.arange(4096))
    )
    dataset = dataset.map(lambda x, y: (tf.image.random_flip_left_right(x, seed=3), y), tf.data.AUTOTUNE)
    dataset = dataset.map(lambda x, y: (tf.cast(x, tf.float32) / 255.0, y), tf.data.AUTOTUNE)
    dataset = dataset.map(
        lambda x, y: (tf.image.random_crop(tf.pad(x, [[4, 4], [4, 4], [0, 0]]), [32, 32, 3], seed=4), y),
        tf.data.AUTOTUNE,
    )
    return dataset.map(lambda x, y: ((x - 0.5) / 0.25, y), tf.data.AUTOTUNE).batch(128).prefetch(2)


def cost(make: Callable[[str], Any], folder: str, rounds: int) -> Cost:
    """Passes over a dataset, over another like it, and over one that is watched, in turns."""
    import greenload as gl

    given = make(folder)
    datasets = {"plain": given, "again": make(folder), "watched": gl.watch(given)}
    samples = sum(1 for _ in given.unbatch())
    passes: dict[str, list[float]] = {name: [] for name in datasets}
    names = list(datasets)
    for number in range(-1, rounds):
        for name in names[number % 3 :] + names[: number % 3]:
            begin = time.process_time()
            for _ in datasets[name]:
                pass
            if number >= 0:  # the first ones warm up
                passes[name].append((time.process_time() - begin) / samples * 1e6)
    return Cost(make.__name__, **passes)


def ordered(dataset: Any) -> Any:
    """The dataset with one thread, in order."""
    import tensorflow as tf

    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.deterministic = True
    return dataset.with_options(options)


def digest(element: Any) -> str:
    """Of all bits of an element."""
    import numpy as np
    import tensorflow as tf

    found = hashlib.sha256()
    for part in tf.nest.flatten(element, expand_composites=True):
        array = np.asarray(part)
        found.update(repr((array.shape, array.dtype, array.tolist() if array.dtype == object else "")).encode())
        found.update(b"" if array.dtype == object else array.tobytes())
    return found.hexdigest()


def iterated(dataset: Any) -> list[str]:
    """By a loop."""
    return [digest(element) for _ in range(EPOCHS) for element in dataset]


def in_numpy(dataset: Any) -> list[str]:
    """By ``as_numpy_iterator``, repeated."""
    import tensorflow as tf

    specs = tf.nest.flatten(dataset.element_spec)
    if not all(isinstance(spec, tf.TensorSpec) for spec in specs):
        return []
    return [digest(element) for element in dataset.repeat(EPOCHS).as_numpy_iterator()]


def fitted(dataset: Any) -> list[str]:
    """What a model's training step sees in Keras's ``fit``."""
    import keras
    import tensorflow as tf

    seen: list[str] = []

    class Recorder(keras.Model):  # type: ignore[misc]
        """Notes each batch."""

        def train_step(self, data: Any) -> dict[str, Any]:
            """Note a batch."""
            parts = tf.nest.flatten(data, expand_composites=True)
            with tf.control_dependencies([tf.py_function(lambda *values: seen.append(digest(values)), parts, [])]):
                return {"loss": tf.constant(0.0)}

    model = Recorder()
    model.built = True
    model.compile()
    model.fit(dataset, epochs=EPOCHS, verbose=0)
    return seen


def mirrored(dataset: Any) -> list[str]:
    """The parts that a strategy gives to two logical processors."""
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    distributed = strategy.experimental_distribute_dataset(dataset)
    return [
        digest([strategy.experimental_local_results(part) for part in tf.nest.flatten(element)])
        for _ in range(EPOCHS)
        for element in distributed
    ]


WAYS = (iterated, in_numpy, fitted, mirrored)


def same(photos: str) -> dict[str, dict[str, str]]:
    """Whether watched datasets are equal to the examples', by example and by the way they are read."""
    import tensorflow as tf

    import greenload as gl

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    table: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in makers(photos, folder).items():

            def read(way: Callable[[Any], list[str]], change: Callable[[Any], Any], make: Any = make) -> list[str]:
                tf.keras.utils.set_random_seed(5)
                with contextlib.redirect_stdout(io.StringIO()):
                    dataset = change(ordered(make()))
                tf.keras.utils.set_random_seed(6)
                return way(dataset)

            table[name] = {"specs": "equal" if _specs_equal(make, gl.watch) else "differ"}
            for way in WAYS:
                plain = read(way, lambda dataset: dataset)
                verdict = "equal"
                if read(way, gl.watch) != plain:
                    verdict = "differ" if read(way, lambda dataset: dataset) == plain else "not even itself"
                table[name][way.__name__] = f"{verdict}, {len(plain)}" if plain else "—"
            print(f"{name:28}", table[name], file=sys.stderr, flush=True)
    return table


def _specs_equal(make: Callable[[], Any], watch: Callable[[Any], Any]) -> bool:
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = make()
    watched = watch(dataset)
    return bool(
        watched.element_spec == dataset.element_spec
        and watched.options() == dataset.options()
        and int(watched.cardinality()) == int(dataset.cardinality())
        and isinstance(watched, type(dataset).__mro__[-2])
    )


def part(name: str, photos: str, rounds: int) -> Any:
    """One part of the bench, in a process of its own: its result as data."""
    command = [sys.executable, "-m", "bench.watching", "--part", name, "--photos", photos, "--rounds", str(rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(costs: Sequence[Cost], table: Mapping[str, Mapping[str, str]]) -> None:
    """Print both tables."""
    print(
        f"{'dataset':14} {'µs/sample':>10}  ratio of least, lower quarter, median: watched; of another without clocks"
    )
    for one in costs:
        watched, again = (
            ", ".join(f"{ratio:.3f}" for ratio in one.ratios(other)) for other in (one.watched, one.again)
        )
        print(f"{one.name:14} {min(one.plain):10.1f}  {watched}; {again}; asked ≤ {1 + REACH[one.name]:.2f}")
    for name, row in table.items():
        print(f"{name:28}", "; ".join(f"{way}: {verdict}" for way, verdict in row.items()))


def main(argv: list[str] | None = None) -> int:
    """Measure, print the tables, and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.watching", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="the JSON file to write")
    parser.add_argument("--photos", help="a folder of class folders with JPEGs; sample photographs if not given")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--part", choices=["photographs", "arrays", "same"], help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    with photos_at(options.photos) as photos:
        if options.part == "same":
            print(json.dumps(same(photos)))
            return 0
        if options.part:
            make = {"photographs": photographs, "arrays": arrays}[options.part]
            print(json.dumps(asdict(cost(make, photos, options.rounds))))
            return 0
        costs = [Cost(**part(name, photos, options.rounds)) for name in REACH]
        table = part("same", photos, options.rounds)
    show(costs, table)
    if options.json:
        from greenload.machine import machine
        from greenload.system import file_output

        data = {
            "format": FORMAT,
            "machine": asdict(machine()),
            "ratios": {one.name: one.ratios(one.watched) for one in costs},
            "costs": [asdict(one) for one in costs],
            "same": table,
        }
        file_output.write(options.json, json.dumps(data, indent=1) + "\n")
    return 0 if all("differ" not in verdict for row in table.values() for verdict in row.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
