"""What operations a user's function holds, nested functions included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from greenload.profiling.tfdata.graph import Node

_PYTHON = frozenset({"PyFunc", "EagerPyFunc", "PyFuncStateless"})
_STATE = frozenset({"AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "RngReadAndSkip"})
_RANDOM = ("Random", "Multinomial", "SampleDistortedBoundingBox", "StatefulUniform", "StatefulStandardNormal",
           "StatefulTruncatedNormal", "ParameterizedTruncatedNormal", "StatelessTruncatedNormal")  # fmt: skip


def operations(node: Node) -> Iterator[Any]:
    """``NodeDef`` of every operation in a node's function, and in the functions that it calls."""
    if node.inner is not None:
        graph = node.inner.operation.graph.as_graph_def()
        attributes = node.inner.operation.node_def.attr
        names = [attributes[one].func.name for one in ("f", "predicate") if one in attributes]
    else:
        yield from operations_of(getattr(node.function, "function", None))
        return
    yield from _library(graph, names)


def operations_of(function: Any) -> Iterator[Any]:
    """``NodeDef`` of every operation in a traced function, and in the functions that it calls."""
    if getattr(function, "graph", None) is None:
        return
    graph = function.graph.as_graph_def()
    yield from graph.node
    yield from _library(graph, [name for one in graph.node for name in _called(one)])


def _library(graph: Any, names: list[str]) -> Iterator[Any]:
    """What is in the functions of a graph that have one of the names, and in those that they call."""
    library = {one.signature.name: one for one in graph.library.function}
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name in library and name not in seen:
            seen.add(name)
            for one in library[name].node_def:
                yield one
                names += _called(one)


def _called(operation: Any) -> list[str]:
    found = [value.func.name for value in operation.attr.values() if value.HasField("func")]
    return found + [one.name for value in operation.attr.values() for one in value.list.func]


def calls_python(node: Node) -> bool:
    """Whether a node's function calls Python: TensorFlow can't say what that does."""
    return node.kind != "from_generator" and any(one.op in _PYTHON for one in operations(node))


def repeatable(node: Node) -> bool:
    """Whether a node gives the same each time: no random numbers, no state, no Python in its function."""
    return not any(
        one.op in _PYTHON or one.op in _STATE or any(word in one.op for word in _RANDOM) for one in operations(node)
    )


def draws(node: Node) -> bool:
    """Whether a node's function draws other random numbers each time it runs, in TensorFlow.

    Stateless draws do so only where their seed is counted on in a variable, as Keras's layers do.
    """
    found = [one.op for one in operations(node)]
    if any("Dataset" not in op and not op.startswith("Stateless") and _is_drawing(op) for op in found):
        return True
    return any(op.startswith("Stateless") and _is_drawing(op) for op in found) and any(op in _STATE for op in found)


def _is_drawing(operation: str) -> bool:
    return any(word in operation for word in (*_RANDOM, "RngReadAndSkip", "NonDeterministicInts"))


def holds(node: Node, *names: str) -> bool:
    """Whether a node's function has an operation of one of the names."""
    return any(one.op in names for one in operations(node))
