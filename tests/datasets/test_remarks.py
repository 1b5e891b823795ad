"""Frozen random numbers are said, and nothing is advised that would freeze them; rows belong to the user's lines."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from scipy import stats

tf = pytest.importorskip("tensorflow")

from greenload.datasets.graph import walk  # noqa: E402
from greenload.datasets.remarks import drawn_while_traced, remarks  # noqa: E402

Range = tf.data.Dataset.range
rng = np.random.default_rng(1)


def by_python(x: Any) -> Any:
    """Draws while it is traced."""
    return x + 1 if random.random() < 0.5 else x - 1


def by_numpy(x: Any) -> Any:
    """Draws while it is traced, from two."""
    return tf.cast(x, tf.float64) * np.random.uniform(0.8, 1.2) + rng.random()


@tf.function  # type: ignore[untyped-decorator]
def decorated(x: Any) -> Any:
    """Draws while it is traced, which a tf.function is once."""
    return by_python(x)


def imports_it(x: Any) -> Any:
    """Draws while it is traced, by a module that it imports itself."""
    from random import random as roll

    return tf.cast(x, tf.float32) * roll()


def of_a_package(x: Any) -> Any:
    """Draws while it is traced, by a package's hand."""
    return tf.cast(x, tf.float64) * stats.norm.rvs()


def named_only(x: Any) -> Any:
    """Refers to a generator, and draws from none."""
    return x + len(random.__name__)


def rolled(x: Any) -> Any:
    """Draws each time it runs, in Python."""
    return np.float32(random.random())


def in_python(x: Any) -> Any:
    """Draws in Python, for each element."""
    return tf.numpy_function(rolled, [x], tf.float32)


def noisy(x: Any) -> Any:
    """Draws in TensorFlow."""
    return tf.random.uniform([]) + tf.cast(x, tf.float32)


def seeded(x: Any) -> Any:
    """The same draw for the same element, each time."""
    return tf.random.stateless_uniform([], seed=(1, x))


def pictures(count: int = 4) -> Any:
    """Small ones."""
    return Range(count).map(lambda x: tf.zeros([8, 8, 3]))


def said(dataset: Any) -> list[tuple[str, str]]:
    """Title and detail of each remark."""
    root = walk(dataset)
    return [(one.title, one.detail) for one in remarks(root, drawn_while_traced(root))]


def place(function: Any) -> str:
    """Where a function begins."""
    return f"test_remarks.py:{function.__code__.co_firstlineno}"


def test_draws_while_tracing_are_said() -> None:
    traced = Range(9).map(by_python).map(by_numpy).batch(3)
    states = random.getstate(), np.random.get_state()[2], rng.bit_generator.state
    found = said(traced)
    assert (random.getstate(), np.random.get_state()[2], rng.bit_generator.state) == states
    assert [title for title, _ in found] == [
        f"Draw the random numbers of {one} in TensorFlow" for one in ("by_python", "by_numpy")
    ]
    assert f"map(by_python) at {place(by_python)} draws from Python's random while" in found[0][1]
    assert f"map(by_numpy) at {place(by_numpy)} draws from NumPy's random while" in found[1][1]
    inside = said(Range(3).interleave(lambda n: Range(3).map(by_python), cycle_length=2))
    assert len(inside) == 1 and "interleave(lambda n: Range(3).map(" in inside[0][1]
    assert len(said(Range(3).map(decorated))) == len(said(Range(3).map(lambda x: decorated(x) + 1))) == 1
    assert len(said(Range(3).map(imports_it))) == len(said(Range(3).map(of_a_package))) == 1
    for innocent in (named_only, in_python, noisy, seeded):
        assert said(Range(3).map(innocent)) == []


def test_random_numbers_in_front_of_a_cache_are_said() -> None:
    import keras

    flip = keras.layers.RandomFlip(name="flip")
    augment = keras.Sequential([keras.layers.RandomRotation(0.1), keras.layers.Rescaling(2.0)], name="augment")
    generator = tf.random.Generator.from_seed(3)
    cases = {
        "noisy": Range(4).map(noisy),
        "in_python": Range(4).map(in_python),
        "flip": pictures().map(flip),
        "augment": pictures().map(augment),
        "lambda x: augment(x, training=T…": pictures().map(lambda x: augment(x, training=True)),
        "lambda x: generator.uniform([])": Range(4).map(lambda x: generator.uniform([])),
        "lambda x: tf.image.random_crop(x, [4, 4, 3])"[:31] + "…": pictures().map(
            lambda x: tf.image.random_crop(x, [4, 4, 3])
        ),
    }

    def rolling() -> Any:
        yield from (np.float32(random.random()) for _ in range(3))

    generated = tf.data.Dataset.from_generator(rolling, output_signature=tf.TensorSpec((), tf.float32))
    assert [title for title, _ in said(generated.cache())] == ["Leave out the cache behind rolling"]
    for name, dataset in cases.items():
        ((title, detail),) = said(dataset.map(lambda x: x).cache().batch(2))
        assert title == f"Move {name} behind the cache"
        assert f"map({name}) at test_remarks.py:" in detail and "freezes" in detail
        assert said(dataset.batch(2)) == []
    for steady in (Range(4).map(seeded), pictures().map(keras.layers.Rescaling(2.0))):
        assert said(steady.cache().shuffle(4).batch(2)) == []
    assert said(pictures().cache().map(flip)) == []
    assert [title for title, _ in said(Range(9).map(noisy).snapshot("never written"))] == [
        "Move noisy behind the snapshot"
    ]


def test_a_shuffle_in_front_of_a_cache_is_said() -> None:
    ((title, detail),) = said(Range(9).shuffle(4).cache().batch(3))
    assert title == "Shuffle behind the cache" and "shuffle(4) stands in front of .cache()" in detail
    assert said(Range(9).shuffle(4).cache().shuffle(4)) == []
    assert said(Range(9).shuffle(4, reshuffle_each_iteration=False).cache()) == []
