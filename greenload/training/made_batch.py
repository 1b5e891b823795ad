"""A batch that a Keras model can train on, made from what the model says of its inputs, outputs and losses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.errors import UsageError

GIVE_ONE = "give a batch as fit takes it, as gl.demand(model, (images, labels))"
"""The remedy wherever no batch can be made."""


def made_batch(model: Any, rows: int, seed: int = 0) -> tuple[Any, ...]:
    """Inputs, and targets where the model was compiled with losses, as ``fit`` takes them.

    Inputs of real numbers are uniform in 0 … 1, those of integers and booleans 0, which is an index of any table.
    Targets are one of an output's last axis, as a class is: its index where the loss takes that (its name has
    ``sparse``), else 1 there and 0 elsewhere; where that axis is 1 long, 0 or 1.

    Args:
        model: compiled, with inputs of known shapes.
        rows: samples.
        seed: decides the numbers.

    Returns:
        ``(inputs,)`` or ``(inputs, targets)``, in the structures of the model's own: arrays ``[rows, …]``.

    Raises:
        UsageError: a shape isn't known, an input is of text, or the model takes batches of another size.
    """
    import keras

    random = np.random.default_rng(seed)
    inputs = keras.tree.map_structure(
        lambda tensor: _input(tensor, _shape(tensor, rows, "input"), random), _structure(model, "input")
    )
    if model.loss is None:  # its losses are its own: of its layers, or of its training step
        return (inputs,)
    outputs = _structure(model, "output")
    flat = keras.tree.flatten(outputs)
    sparse = [_is_sparse(loss) for loss in _losses(model, outputs, flat)]
    targets = [
        _target(_shape(tensor, rows, "output"), takes_index, random)
        for tensor, takes_index in zip(flat, sparse, strict=True)
    ]
    return inputs, keras.tree.pack_sequence_as(outputs, targets)


def _structure(model: Any, name: str) -> Any:
    """A model's inputs or outputs, symbolic, as it was made of them."""
    found: Any = None
    for attribute in (name, f"{name}s"):  # a functional model's structure; a sequential one's list
        with suppress(AttributeError, ValueError):  # Keras, of a model without them
            found = found if found is not None else getattr(model, attribute)
    if isinstance(found, list) and len(found) == 1:
        (found,) = found
    if found is None:
        raise UsageError(
            f"a batch is made from the {name}s that a model was made of, but {type(model).__name__} "
            f"{model.name!r} has none: {GIVE_ONE}"
        )
    return found


def _shape(tensor: Any, rows: int, what: str) -> tuple[int, ...]:
    first, *rest = tensor.shape
    if first is not None and first != rows:
        raise UsageError(f"{what} {tensor.name!r} has batches of {first}, but batch is {rows}: pass {first}")
    if None in rest:
        raise UsageError(
            f"a batch is made where shapes are known, but {what} {tensor.name!r} has {tuple(tensor.shape)}: {GIVE_ONE}"
        )
    return (rows, *rest)


def _input(tensor: Any, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[Any]:
    dtype = str(tensor.dtype)
    if dtype == "string":
        raise UsageError(f"a batch is made of numbers, but input {tensor.name!r} is of text: {GIVE_ONE}")
    if "float" in dtype:
        return random.random(shape, np.float32)  # Keras casts to the layer's own
    return np.zeros(shape, dtype)


def _losses(model: Any, outputs: Any, flat: Sequence[Any]) -> list[Any]:
    """The loss of each output, in their order; None where it has none."""
    given = model.loss
    if isinstance(given, dict):
        names = list(outputs) if isinstance(outputs, dict) else list(model.output_names)
        return [given.get(name) for name in names] if len(names) == len(flat) else [None] * len(flat)
    if isinstance(given, list | tuple):
        return [*given, *[None] * len(flat)][: len(flat)]
    return [given] * len(flat)


def _is_sparse(loss: Any) -> bool:
    name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
    return "sparse" in f"{name} {type(loss).__name__}".lower()


def _target(shape: tuple[int, ...], takes_index: bool, random: np.random.Generator) -> NDArray[Any]:
    *most, classes = shape
    if takes_index:
        return random.integers(0, classes, most, dtype=np.int32)
    if len(shape) == 1 or classes == 1:
        return random.integers(0, 2, shape).astype(np.float32)
    target = np.zeros(shape, np.float32)
    np.put_along_axis(target, random.integers(0, classes, (*most, 1)), 1.0, axis=-1)
    return target
