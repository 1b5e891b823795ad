"""Clocks around the functions of datasets that a function makes, as an ``interleave``'s: its graph made anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenload.profiling.in_place.clocked import clocked_call
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
    return _copied(function, replaced) if replaced else function


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
    return clocked_call(called.call_flat, called.graph.inputs, counter) if counter else called


def _copied(function: Any, replaced: dict[tuple[str, str], Any]) -> Any:
    """A function with a graph like another's, some of whose operations have other functions."""
    graph = function.graph
    captured = getattr(function, "captured_inputs", [])
    count = len(graph.inputs) - len(captured)
    signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in graph.inputs[:count]]
    results = [tensor.name for tensor in graph.outputs]
    last = [operation.name for operation in graph.control_outputs]

    def copy(*values: Any) -> list[Any]:
        whole = graph.as_graph_def()
        part = type(whole)(versions=whole.versions, library=whole.library)
        for definition in whole.node:
            if definition.op != "Placeholder":
                part.node.add().CopyFrom(definition)
        for definition in part.node:
            for (name, attribute), made in replaced.items():
                if definition.name == name:
                    made.add_to_graph(tf.compat.v1.get_default_graph())
                    definition.attr[attribute].func.name = made.name
        inputs = [*values, *map(tf.identity, captured)]  # which makes them part of this graph
        given = dict(zip((tensor.name for tensor in graph.inputs), inputs, strict=True))
        found = tf.graph_util.import_graph_def(part, input_map=given, return_elements=results + last, name="clocked")
        with tf.control_dependencies(found[len(results) :]):
            return [tf.identity(tensor) for tensor in found[: len(results)]]

    return tf.function(copy, input_signature=signature, autograph=False).get_concrete_function()
