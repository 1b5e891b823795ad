"""Restores the program's own generators of random numbers after work that draws from them."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from greenload.system.frameworks import tf

Restore = Callable[[], object]
"""Restores the state of one generator."""


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Restore the global generators of random numbers of Python, NumPy, TensorFlow and Keras at the end.

    Example:
        >>> with random_states_kept():
        ...     random.random()
    """
    with put_back(_global_states()):
        yield


@contextmanager
def put_back(restores: list[Restore]) -> Iterator[None]:
    """Restore states at the end, also after an error; one that can't be restored is left as it is."""
    try:
        yield
    finally:
        for restore in restores:
            try:
                restore()
            except Exception:  # what ran has deleted it; the others are restored
                continue


def python_states(objects: Iterable[Any]) -> list[tuple[str, Callable[[], Any], Restore]]:
    """Generators of random numbers in Python: Python's and NumPy's global ones, and those among ``objects``.

    Returns:
        For each generator its library (``"Python's random"``), a function that reads its state, and one that restores
        the present state.
    """
    states: list[tuple[str, Callable[[], Any], Restore]] = []
    candidates = (random.random.__self__, np.random.mtrand._rand, *objects)  # type: ignore[attr-defined]
    for generator in {id(candidate): candidate for candidate in candidates}.values():
        if isinstance(generator, random.Random) and not isinstance(generator, random.SystemRandom):
            state = generator.getstate()
            states.append(("Python's random", generator.getstate, partial(generator.setstate, state)))
        elif isinstance(generator, np.random.RandomState):
            legacy = generator.get_state(legacy=False)
            states.append(("NumPy's random", partial(_text_of, generator), partial(generator.set_state, legacy)))
        elif isinstance(generator, np.random.Generator):
            bits = generator.bit_generator
            states.append(("NumPy's random", partial(_text_of, bits), partial(setattr, bits, "state", bits.state)))
    return states


def _text_of(generator: Any) -> str:
    """The state of a NumPy generator as a text, to compare."""
    state = generator.state if hasattr(generator, "state") else generator.get_state(legacy=False)
    with np.printoptions(threshold=sys.maxsize):
        return str(state)


def _global_states() -> list[Restore]:
    restores = [restore for _, _, restore in python_states(())]
    if "tensorflow" not in sys.modules:
        return restores
    from tensorflow.python.eager import context
    from tensorflow.python.ops import stateful_random_ops

    if (rng := getattr(context.context(), "_rng", None)) is not None:
        restores.append(partial(rng.setstate, rng.getstate()))
    generator = stateful_random_ops.global_generator
    if generator is None:  # made anew when it is first asked for
        restores.append(partial(setattr, stateful_random_ops, "global_generator", None))
    else:
        restores += variable_state(generator.state.handle, generator.state.dtype)
    if (state := sys.modules.get("keras.src.backend.common.global_state")) is not None:
        seeds = state.get_global_attribute("global_seed_generator")
        value = getattr(getattr(seeds, "state", None), "value", None)
        restores += [] if value is None else variable_state(value.handle, value.dtype)
    return restores


def variable_state(handle: Any, dtype: Any) -> list[Restore]:
    """What restores a variable of TensorFlow's, by its handle; empty where it has no value yet."""
    try:
        value = tf.identity(tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype))
    except (tf.errors.OpError, ValueError):
        return []  # has no value yet, or is no variable
    return [lambda: tf.raw_ops.AssignVariableOp(resource=handle, value=value)]
