"""Frozen random numbers are said, and nothing is advised that would freeze them; rows belong to the user's lines."""

from __future__ import annotations

import random
import secrets
import time
from os import urandom
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from scipy import stats

tf = pytest.importorskip("tensorflow")

from greenload.profiling.tfdata.remarks import drawn_while_traced, remarks  # noqa: E402
from greenload.profiling.tfdata.walk import walk  # noqa: E402

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


def fresh(x: Any) -> Any:
    """Draws while it is traced, from a generator of its own."""
    return x + np.random.default_rng().integers(0, 9)


def fresh_state(x: Any) -> Any:
    """Draws while it is traced, from an older generator of its own."""
    return x + np.random.RandomState().randint(9)


def fresh_python(x: Any) -> Any:
    """Draws while it is traced, from a generator of its own in Python."""
    return x + random.Random().randint(0, 9)


def fresh_seed(x: Any) -> Any:
    """The same number whenever it is traced."""
    return x + np.random.default_rng(3).integers(0, 9) + random.Random(3).randint(0, 9)


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_draws_while_tracing_from_generators_made_there_are_said() -> None:
    cases = {
        "NumPy's random": [fresh, fresh_state],
        "Python's random": [fresh_python],
        "Python's secrets": [lambda x: x + secrets.randbelow(99)],
        "os.urandom": [lambda x: x + urandom(1)[0]],
        "Python's uuid": [lambda x: x + uuid4().int % 99],
        "the clock": [lambda x: x + time.time_ns()],
    }
    for whose, functions in cases.items():
        for function in functions:
            ((_, detail),) = said(Range(9).map(function))
            assert f"draws from {whose} while TensorFlow traces it" in detail
    for innocent in (fresh_seed, lambda x: tf.numpy_function(fresh, [x], tf.int64), lambda x: x + len(time.__name__)):
        assert said(Range(9).map(innocent)) == []


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_generator_with_a_seed_is_not_said_to_draw() -> None:
    seeded, sure = (
        Range(4).map(lambda x, f=function: tf.numpy_function(f, [x], tf.int64)).cache()
        for function in (lambda x: x + np.random.default_rng(0).integers(9), lambda x: x + np.random.randint(9))
    )
    ((_, detail),) = said(seeded)
    assert "may draw random numbers in front of .cache(), which would freeze them" in detail
    ((_, detail),) = said(sure)
    assert "draws random numbers in front of .cache(), which freezes them" in detail


def test_a_shuffle_that_the_user_never_wrote_is_its_call_s(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)
    listed = tf.data.Dataset.list_files(f"{tmp_path}/*")
    ((_, detail),) = said(listed.map(tf.io.read_file).cache())
    assert detail.startswith("list_files shuffles in front of .cache()")
    assert "pass it shuffle=False, and write .shuffle(3) behind .cache()" in detail
    assert said(tf.data.Dataset.list_files(f"{tmp_path}/*", shuffle=False).cache()) == []
    inside = Range(3).interleave(lambda x: Range(9).shuffle(5).map(lambda y: x + y))
    ((_, detail),) = said(inside.cache())
    assert detail.startswith("shuffle(5) at test_remarks.py:")


def test_a_shuffle_in_front_of_a_cache_is_said() -> None:
    ((title, detail),) = said(Range(9).shuffle(4).cache().batch(3))
    assert title == "Shuffle behind the cache" and "shuffle(4) stands in front of .cache()" in detail
    assert said(Range(9).shuffle(4).cache().shuffle(4)) == []
    assert said(Range(9).shuffle(4, reshuffle_each_iteration=False).cache()) == []
