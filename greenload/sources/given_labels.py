"""Checks the labels that a user passes: one whole number per sample."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.errors import SourceError


def integer_labels(rule: str, labels: Any, samples: int, each: str) -> NDArray[np.int64]:
    """Labels as int64 ``[n]``.

    Args:
        rule: the rule for the message: ``"Files needs one integer label a path"``.
        labels: integers or truth values, ``[n]`` or ``[n, 1]`` (as ``keras.datasets`` has them): a list, an array, a
            tensor, a pandas column.
        samples: how many there must be.
        each: what has one label each, in the plural: ``"paths"``.

    Raises:
        SourceError: they are of another number, shape or kind; says what helps.
    """
    if isinstance(labels, (set, frozenset, Mapping)):
        raise SourceError(f"{rule}, in the order of the {each}, but {type(labels).__name__} has none: pass a list")
    try:
        array = np.asarray(labels if hasattr(labels, "__array__") else list(labels))
    except (TypeError, ValueError, RuntimeError) as error:
        raise SourceError(f"{rule}, but they are no array: {' '.join(str(error).split())}") from None
    if array.ndim == 0 or len(array) != samples:
        count = f"the one value {array[()]!r}" if array.ndim == 0 else f"{len(array)} labels"
        raise SourceError(f"{rule}, but there are {samples} {each} and {count}")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    kind = f"{array.dtype} {list(array.shape)}"
    if array.ndim > 1:
        raise SourceError(f"{rule}, but for {samples} {each} labels are {kind}: {_one_of_many(array)}")
    if array.dtype == object:
        array = _unwrapped(array)
    if array.dtype.kind in "biu":
        if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
            raise SourceError(f"{rule} below 2^63, but the largest is {array.max()}: number the classes from 0")
        return array.astype(np.int64)
    raise SourceError(f"{rule}, but for {samples} {each} labels are {kind}: {_remedy(array)}")


def _unwrapped(array: NDArray[Any]) -> NDArray[Any]:
    """Python objects as int64, if all are integers."""
    try:
        return np.array([operator.index(value) for value in array], np.int64)
    except (TypeError, OverflowError):
        return array


def _one_of_many(array: NDArray[Any]) -> str:
    if (
        array.ndim == 2
        and array.dtype.kind in "biuf"
        and ((array == 0) | (array == 1)).all()
        and (array.sum(axis=1) == 1).all()
    ):
        return f"pass labels.argmax(1), and put OneHot({array.shape[1]}) into the pipeline to have them so again"
    return "pass one column of them, or load several targets with a tf.data.Dataset of your own"


def _remedy(array: NDArray[Any]) -> str:
    if array.dtype.kind == "f" or "float" in array.dtype.name:
        if np.isfinite(array).all() and (array == np.floor(array)).all():
            return "pass labels.astype('int64')"
        return "pass the numbers of classes, as from np.digitize(labels, bounds)"
    values = array.tolist()
    if all(isinstance(value, (str, bytes)) for value in values):
        return "pass integers, as from names, labels = np.unique(labels, return_inverse=True)"
    odd = next((value for value in values if not _fits(value)), values[0])
    return f"{odd!r} among them is no whole number below 2^63: correct it, or leave its sample out"


def _fits(value: Any) -> bool:
    try:
        return -(1 << 63) <= operator.index(value) < 1 << 63
    except TypeError:
        return False
