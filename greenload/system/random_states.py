"""Generators of random numbers that belong to the program: what draws from them here is put back."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

Restore = Callable[[], object]
"""Puts one state back."""


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Put the program's own generators of random numbers back: Python's, NumPy's, TensorFlow's and Keras's global ones.

    Example:
        >>> with random_states_kept():
        ...     random.random()
    """
    with put_back(_global_states()):
        yield


@contextmanager
def put_back(restores: list[Restore]) -> Iterator[None]:
    """Restore all at the end, also behind an error; one that can't be restored is left."""
    try:
        yield
    finally:
        for restore in restores:
            try:
                restore()
            except Exception:  # deleted meanwhile by what ran; the others are put back all the same
                continue


def python_states(objects: Iterable[Any]) -> list[tuple[str, Callable[[], Any], Restore]]:
    """Generators of random numbers in Python: Python's and NumPy's global ones, and those among ``objects``.

    Returns:
        For each whose it is (``"Python's random"``), what reads its state, and what puts back the present one.
    """
    found: list[tuple[str, Callable[[], Any], Restore]] = []
    drawn: dict[int, Any] = {id(one): one for one in (random.random.__self__, np.random.mtrand._rand, *objects)}  # type: ignore[attr-defined]
    for one in drawn.values():
        if isinstance(one, random.Random) and not isinstance(one, random.SystemRandom):
            state = one.getstate()
            found.append(("Python's random", one.getstate, _bound(one.setstate, state)))
        elif isinstance(one, np.random.RandomState):
            legacy = one.get_state(legacy=False)
            found.append(("NumPy's random", _bound(_text_of, one), _bound(one.set_state, legacy)))
        elif isinstance(one, np.random.Generator):
            bits = one.bit_generator
            found.append(("NumPy's random", _bound(_text_of, bits), _bound(setattr, bits, "state", bits.state)))
    return found


def _text_of(generator: Any) -> str:
    """The state of a NumPy generator, to compare."""
    state = generator.state if hasattr(generator, "state") else generator.get_state(legacy=False)
    with np.printoptions(threshold=sys.maxsize):
        return str(state)


def _bound(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: function(*arguments)


def _global_states() -> list[Restore]:
    found = [restore for _, _, restore in python_states(())]
    if "tensorflow" not in sys.modules:
        return found
    from tensorflow.python.eager import context
    from tensorflow.python.ops import stateful_random_ops

    if (rng := getattr(context.context(), "_rng", None)) is not None:
        found.append(_bound(rng.setstate, rng.getstate()))
    generator = stateful_random_ops.global_generator
    if generator is None:  # made anew when it is first asked for
        found.append(_bound(setattr, stateful_random_ops, "global_generator", None))
    else:
        found += variable_state(generator.state.handle, generator.state.dtype)
    if (state := sys.modules.get("keras.src.backend.common.global_state")) is not None:
        seeds = state.get_global_attribute("global_seed_generator")
        value = getattr(getattr(seeds, "state", None), "value", None)
        found += [] if value is None else variable_state(value.handle, value.dtype)
    return found


def variable_state(handle: Any, dtype: Any) -> list[Restore]:
    """What puts a variable of TensorFlow's back, by its handle; none where it has no value yet."""
    import tensorflow as tf

    try:
        value = tf.identity(tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype))
    except (tf.errors.OpError, ValueError):
        return []  # has no value yet, or is no variable
    return [lambda: tf.raw_ops.AssignVariableOp(resource=handle, value=value)]
