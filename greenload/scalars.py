"""Turns users' arguments into Python's numbers, so that they compare, hash and are written as JSON."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from greenload.errors import GreenloadError


def whole(value: Any) -> int | None:
    """A Python or NumPy integer as a Python one; ``None`` for anything else, also for truth values.

    Example:
        >>> whole(np.int64(224)), whole(True), whole(2.0)
        (224, None, None)
    """
    if isinstance(value, (bool, np.bool_)) or str(getattr(value, "dtype", "")).endswith("bool"):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def number(value: Any) -> float | None:
    """A finite Python or NumPy number as a Python float; ``None`` for anything else, also for truth values.

    Example:
        >>> number(np.float32(0.5)), number(3), number("3"), number(math.inf)
        (0.5, 3.0, None, None)
    """
    array = isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuf"
    if isinstance(value, bool) or not (array or isinstance(value, numbers.Real)):
        return None
    try:
        result = float(value)
    except OverflowError:  # an integer of 400 digits
        return None
    return result if math.isfinite(result) else None


def several(value: Any) -> tuple[Any, ...] | None:
    """The elements of a tuple, a list or an array of one dimension; ``None`` for anything else."""
    if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return tuple(value)
    return None


def positive(error: type[GreenloadError], name: str, value: Any, otherwise: str = "") -> int:
    """An argument that must be a whole number from 1, as an integer.

    Args:
        error: what is raised.
        name: the argument's name.
        value: what was given.
        otherwise: what else may be given, for the message: ``" or None"``.

    Raises:
        GreenloadError: ``error``, where it is another value.
    """
    integer = whole(value)
    if integer is None or integer < 1:
        raise error(f"{name} must be a positive integer{otherwise}, not {value!r}")
    return integer


def one_of(error: type[GreenloadError], name: str, value: Any, choices: Sequence[str]) -> None:
    """Make sure that a value is one of some texts.

    Args:
        error: what is raised.
        name: the argument's name.
        value: what was given.
        choices: what may be given.

    Raises:
        GreenloadError: ``error``, where it is another value.
    """
    if not isinstance(value, str) or value not in choices:
        *others, last = map(repr, choices)
        raise error(f"{name} must be {' or '.join(filter(None, (', '.join(others), last)))}, not {value!r}")
