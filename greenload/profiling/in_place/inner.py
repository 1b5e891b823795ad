"""Clocks around the functions of datasets that a function makes, as an ``interleave``'s: its graph made anew."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from greenload.profiling.in_place.clocked import clocked
from greenload.profiling.in_place.copies import copied
from greenload.system.frameworks import tf

_ATTRIBUTES = ("f", "predicate", "next_func", "scan_func")
"""Of operations on datasets, that hold functions called for each element."""
CounterOf = Callable[[Any], str]
"""Gives the name that an operation's function counts under; empty for one that gets no clock."""


def clocked_inside(function: Any, counter_of: CounterOf) -> Any:
    """A function that makes the datasets that another makes, with clocks around their functions.

    Args:
        function: a ``ConcreteFunction`` as tf.data traces them. It isn't called or traced again: its graph is copied.
        counter_of: gives names to the operations of its graph that make datasets.

    Returns:
        A ``ConcreteFunction`` of the same tensors; the same one where no operation got a clock.
    """
    replaced = {}
    for operation in function.graph.get_operations():
        for attribute in _ATTRIBUTES:
            called = _called(function.graph, operation, attribute)
            if called is None:
                continue
            made = _made_anew(called, operation, attribute, counter_of)
            if made is not called:
                replaced[operation.name, attribute] = made
    return copied(function, functools.partial(_with, replaced)) if replaced else function


def _with(replaced: dict[tuple[str, str], Any], part: Any) -> str:
    """Have operations of a graph call other functions."""
    for definition in part.node:
        for (name, attribute), made in replaced.items():
            if definition.name == name:
                made.add_to_graph(tf.compat.v1.get_default_graph())
                definition.attr[attribute].func.name = made.name
    return ""


def _called(graph: Any, operation: Any, attribute: str) -> Any:
    """The function in an operation's attribute; None where it has none, or its graph isn't known."""
    values = operation.node_def.attr
    if "Dataset" not in operation.type or attribute not in values or not values[attribute].HasField("func"):
        return None
    return graph._functions.get(values[attribute].func.name)


def _made_anew(called: Any, operation: Any, attribute: str, counter_of: CounterOf) -> Any:
    if any(result.dtype == tf.variant for result in called.graph.outputs):  # it makes datasets in turn
        return clocked_inside(called, counter_of)
    counter = counter_of(operation)
    return clocked(called, counter) if counter else called


def called_functions(operation: Any) -> list[Any]:
    """The functions that an operation on datasets calls for each element; those of datasets that they make in turn."""
    found = [_called(operation.graph, operation, attribute) for attribute in _ATTRIBUTES]
    return [called for called in found if called is not None]
