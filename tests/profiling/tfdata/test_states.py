"""What running a dataset changes is put back: variables, tables, generators; also behind an error or an interrupt."""

from __future__ import annotations

import functools
import random
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import greenload as gl  # noqa: E402
from greenload.profiling.tfdata.states import states_kept  # noqa: E402
from greenload.profiling.tfdata.walk import walk  # noqa: E402
from greenload.system.random_states import random_states_kept  # noqa: E402

Range = tf.data.Dataset.range
dice = random.Random(5)


def as_found() -> tuple[Any, ...]:
    """The states of Python's, NumPy's and TensorFlow's own generators."""
    from tensorflow.python.eager import context

    legacy = np.random.get_state()
    assert isinstance(legacy, tuple)
    seeds = getattr(context.context(), "_rng", None)  # before TensorFlow's first operation it has none
    return (
        random.getstate(),
        (legacy[1].tolist(), *legacy[2:]),
        tf.random.get_global_generator().state.numpy().tolist(),
        None if seeds is None else seeds.getstate(),
    )


@pytest.mark.slow
def test_tables_and_variables_are_put_back() -> None:
    import keras

    mutable = tf.lookup.experimental.MutableHashTable(tf.int64, tf.string, "")
    dense = tf.lookup.experimental.DenseHashTable(tf.int64, tf.int64, -1, empty_key=-1, deleted_key=-2)
    called, by_python, sizes = tf.Variable(0), tf.Variable(0), tf.Variable([0, 0, 0])
    seeds = keras.random.SeedGenerator(3)
    mutable.insert(tf.constant([77], tf.int64), tf.constant(["mine"]))
    dense.insert(tf.constant([77, 78], tf.int64), tf.constant([1, 2], tf.int64))

    def fill(x: Any) -> Any:
        mutable.insert(x, tf.strings.as_string(x))
        dense.insert(x, x)
        dense.remove(tf.constant([77], tf.int64))
        called.assign_add(1)
        return x + tf.cast(keras.random.uniform([], seed=seeds) * 0, tf.int64)

    def in_python(x: Any) -> Any:
        by_python.assign_add(1)
        return x

    def nested(x: Any) -> Any:
        return inside

    inside = Range(3).map(lambda x: tf.cast(sizes.assign_add([1, 1, 1])[0], tf.int64) + x)
    filled = Range(9).map(fill).map(lambda x: tf.py_function(in_python, [x], tf.int64)).flat_map(nested)
    seed = seeds.state.value.numpy().tolist()
    with states_kept(walk(filled)):
        assert len(list(filled)) == 27
        assert (mutable.size(), dense.size(), called.numpy(), by_python.numpy()) == (10, 10, 9, 9)
        assert sizes.numpy().tolist() == [27] * 3
    assert mutable.export()[0].numpy().tolist() == [77] and mutable.lookup(tf.constant([77], tf.int64)) == [b"mine"]
    assert dense.lookup(tf.constant([77, 78, 3], tf.int64)).numpy().tolist() == [1, 2, -1] and dense.size() == 2
    assert (called.numpy(), by_python.numpy(), sizes.numpy().tolist()) == (0, 0, [0] * 3)
    assert seeds.state.value.numpy().tolist() == seed


@pytest.mark.slow
def test_tables_that_only_a_group_fills_are_put_back() -> None:
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, 0)
    seen = tf.Variable(0)

    def key(x: Any) -> Any:
        table.insert(x, x)
        return x % 2

    def size(k: Any) -> Any:
        seen.assign_add(1)
        return tf.constant(2, tf.int64)

    grouped = Range(8).group_by_window(key, lambda k, part: part.batch(2), window_size_func=size)
    with states_kept(walk(grouped)):
        assert len(list(grouped)) == 4 and table.size() == 8 and seen.numpy() > 0
    assert table.size() == 0 and seen.numpy() == 0


def drawn(x: Any) -> Any:
    """Draws from a generator of the module's."""
    return np.float32(dice.random())


class Noise:
    """Has a generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)
        self.old = np.random.RandomState(4)

    def __call__(self) -> Any:
        yield from (np.float32(self.rng.random() + self.old.rand()) for _ in range(4))


def test_generators_of_random_numbers_are_put_back() -> None:
    noise = Noise()
    made = tf.data.Dataset.from_generator(noise, output_signature=tf.TensorSpec((), tf.float32))
    made = made.map(functools.partial(lambda f, x: tf.numpy_function(f, [x], tf.float32), drawn))
    before = dice.getstate(), noise.rng.bit_generator.state, noise.old.get_state()[2]
    with states_kept(walk(made)):
        list(made)
        assert dice.getstate() != before[0] and noise.rng.bit_generator.state != before[1]
    assert (dice.getstate(), noise.rng.bit_generator.state, noise.old.get_state()[2]) == before
    tf.random.set_seed(4)
    states = as_found()
    with random_states_kept():
        random.random(), np.random.rand(), tf.random.get_global_generator().normal([]), tf.random.uniform([])
        assert all(one != other for one, other in zip(as_found(), states, strict=True))
    assert as_found() == states


@pytest.mark.usefixtures("short_windows")
def test_a_profile_that_fails_leaves_everything_as_it_was() -> None:
    seen = tf.Variable(0, dtype=tf.int64)

    def count(x: Any) -> Any:
        seen.assign_add(1)
        y = tf.reduce_sum(tf.random.stateless_uniform([20_000], seed=(1, 2))) + tf.cast(x, tf.float32)
        return tf.debugging.check_numerics(tf.where(x == 190, float("nan"), y), "bad record")

    def add(x: Any) -> Any:
        return x + np.random.uniform() + random.random()

    dataset = Range(200).map(count).map(add).batch(8)
    states = as_found()
    with pytest.raises(gl.SourceError, match="bad record"):
        gl.profile(dataset, rounds=2, samples=64)
    assert seen.numpy() == 0 and as_found() == states


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
def test_an_interrupted_profile_leaves_everything_as_it_was() -> None:
    seen = tf.Variable(0, dtype=tf.int64)
    running = threading.Event()

    def shown(share: float, text: str) -> None:
        if "the whole" in text and not running.is_set():
            running.set()
            signal.raise_signal(signal.SIGINT)

    def count(x: Any) -> Any:
        y = tf.reduce_sum(tf.random.stateless_uniform([20_000], seed=(1, 2)))
        return tf.numpy_function(rolled, [y], tf.float32) + tf.cast(seen.assign_add(1), tf.float32)

    def rolled(y: Any) -> Any:
        random.random()
        return y

    dataset = Range(400).map(count, num_parallel_calls=2).batch(8).prefetch(2)
    states = as_found()
    with pytest.raises(KeyboardInterrupt):
        gl.profile(dataset, rounds=2, samples=64, progress=shown)
    assert running.is_set() and seen.numpy() == 0 and as_found() == states
    time.sleep(0.2)
    assert seen.numpy() == 0 and as_found() == states  # nothing runs on
