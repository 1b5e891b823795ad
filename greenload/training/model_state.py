"""Leaves a Keras model as it was: weights, optimiser, metrics, random seeds, and what ``fit`` notes in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from greenload.errors import UsageError
from greenload.system.random_states import Restore, put_back, random_states_kept

_ABSENT = object()


@contextmanager
def model_kept(model: Any) -> Iterator[None]:
    """Put a model back at the end, also after an error, and the global generators of random numbers.

    The optimiser's variables are made first where they don't exist yet, as ``fit`` would make them.

    Raises:
        UsageError: weights were made meanwhile: they weren't there to be put back.
    """
    with random_states_kept():
        _build_optimizer(model)
        held = [*model.variables, *_variables(model.optimizer), *model.metrics_variables, *_of_tensorflow(model)]
        known = {id(variable) for variable in model.variables}
        restores: list[Restore] = [model.reset_metrics]  # those that are made meanwhile, too
        restores += [partial(variable.assign, np.array(variable.numpy())) for variable in held]
        restores += [partial(_set, model, name, getattr(model, name, _ABSENT)) for name in ("history", "stop_training")]
        with put_back(restores):
            yield
    made = sum(id(variable) not in known for variable in model.variables)
    if made:
        raise UsageError(
            f"a model's weights are to be there before it is measured, but {made} were made by training: "
            "call the model on a batch first"
        )


def _build_optimizer(model: Any) -> None:
    optimizer = model.optimizer
    if optimizer is None or optimizer.built:
        return
    strategy = getattr(model, "distribute_strategy", None)
    with nullcontext() if strategy is None else strategy.scope():
        optimizer.build(model.trainable_variables)


def _variables(owner: Any) -> list[Any]:
    return [] if owner is None else list(owner.variables)


def _of_tensorflow(model: Any) -> list[Any]:
    """TensorFlow's own variables that are attributes of a model or its layers: Keras doesn't list them."""
    import keras

    if keras.config.backend() != "tensorflow":
        return []
    import tensorflow as tf

    flat = getattr(model, "_flatten_layers", None)
    layers = [model] if flat is None else list(flat())
    return [value for layer in layers for value in vars(layer).values() if isinstance(value, tf.Variable)]


def _set(owner: Any, name: str, value: Any) -> None:
    if value is not _ABSENT:
        setattr(owner, name, value)
    elif hasattr(owner, name):
        delattr(owner, name)
