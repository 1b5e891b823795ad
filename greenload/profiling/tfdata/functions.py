"""What a user's function works with, without calling it: its graph's operations, and what its Python code refers to."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.names import codes_inside, installed

_PYTHON = frozenset({"PyFunc", "EagerPyFunc", "PyFuncStateless"})
_STATE = frozenset({"AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "RngReadAndSkip"})
_RANDOM = ("Random", "Multinomial", "SampleDistortedBoundingBox", "StatefulUniform", "StatefulStandardNormal",
           "StatefulTruncatedNormal", "ParameterizedTruncatedNormal", "StatelessTruncatedNormal")  # fmt: skip
_OUTSIDE = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "Timestamp"})
_MOST = 2000
"""Objects that are looked at, at most."""
_ELEMENTS = 64
"""Elements of a container that are looked at, at most."""
_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
"""Instructions that name a global."""
_FRAMEWORKS = frozenset({"tensorflow", "keras", "numpy", "greenload"})


def operations(node: Node) -> Iterator[Any]:
    """``NodeDef`` of every operation in a node's function, and in the functions that it calls."""
    if node.inner is None:
        yield from operations_of(getattr(node.function, "function", None))
        return
    attributes = node.inner.operation.node_def.attr
    names = [attributes[attribute].func.name for attribute in ("f", "predicate") if attribute in attributes]
    yield from _library(node.inner.operation.graph.as_graph_def(), names)


def operations_of(function: Any) -> Iterator[Any]:
    """``NodeDef`` of every operation in a traced function, and in the functions that it calls."""
    if getattr(function, "graph", None) is None:
        return
    graph = function.graph.as_graph_def()
    yield from graph.node
    yield from _library(graph, [name for operation in graph.node for name in _called(operation)])


def _library(graph: Any, names: list[str]) -> Iterator[Any]:
    """What is in the functions of a graph that have one of the names, and in those that they call."""
    library = {function.signature.name: function for function in graph.library.function}
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name in library and name not in seen:
            seen.add(name)
            for operation in library[name].node_def:
                yield operation
                names += _called(operation)


def _called(operation: Any) -> list[str]:
    names = [value.func.name for value in operation.attr.values() if value.HasField("func")]
    return names + [function.name for value in operation.attr.values() for function in value.list.func]


def calls_python(node: Node) -> bool:
    """Whether a node's function calls Python: TensorFlow can't say what that does."""
    return node.kind != "from_generator" and any(operation.op in _PYTHON for operation in operations(node))


def repeatable(node: Node) -> bool:
    """Whether a node gives the same each time: no random numbers, no state, no Python in its function."""
    return repeatable_operations(operations(node))


def repeatable_operations(definitions: Iterable[Any]) -> bool:
    """Whether operations, of which these are the definitions, give the same each time."""
    return not any(
        operation.op in _PYTHON or operation.op in _STATE or any(word in operation.op for word in _RANDOM)
        for operation in definitions
    )


def reads_outside(definitions: Iterable[Any]) -> bool:
    """Whether operations read what a program may change between two epochs: a variable, or the time."""
    return any(operation.op in _OUTSIDE for operation in definitions)


def draws_random(node: Node) -> bool:
    """Whether a node's function draws other random numbers each time it runs, in TensorFlow.

    Stateless draws do so only where their seed is counted on in a variable, as Keras's layers do.
    """
    kinds = [operation.op for operation in operations(node)]
    if any("Dataset" not in op and not op.startswith("Stateless") and _is_drawing(op) for op in kinds):
        return True
    return any(op.startswith("Stateless") and _is_drawing(op) for op in kinds) and any(op in _STATE for op in kinds)


def _is_drawing(operation: str) -> bool:
    return any(word in operation for word in (*_RANDOM, "RngReadAndSkip", "NonDeterministicInts"))


def has_operation(node: Node, *names: str) -> bool:
    """Whether a node's function has an operation of one of the names."""
    return any(operation.op in names for operation in operations(node))


def reachable_objects(*starts: Any) -> Iterator[Any]:
    """The objects that functions refer to, themselves first; each once, 2,000 at most.

    Installed functions are given, but not looked into, nor are objects of TensorFlow, Keras, NumPy and Python.

    Example:
        >>> rng = random.Random(3)
        >>> rng in list(reachable(lambda x: x * rng.random()))
        True
    """
    seen: dict[int, Any] = {}
    queue = list(starts)
    for value in queue:  # grows while it is read
        if len(seen) >= _MOST:
            return
        if id(value) in seen or value is None or isinstance(value, int | float | str | bytes):
            continue
        seen[id(value)] = value
        yield value
        queue += _next(value)


def _next(value: Any) -> list[Any]:
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if inspect.ismethod(value):
        return [value.__self__, value.__func__]
    if isinstance(value, FunctionType):
        return _of_function(value)
    if isinstance(value, Mapping):
        return list(value.values())[:_ELEMENTS] if type(value) is dict else []
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)[:_ELEMENTS]
    if isinstance(value, ModuleType) or inspect.isclass(value):
        return []
    wrapped = [
        inner
        for name in ("python_function", "_python_function", "__wrapped__")
        if (inner := attribute_or_none(value, name))
    ]
    if wrapped or is_framework(type(value).__module__):
        return wrapped
    called = [vars(kind).get(name) for kind in type(value).__mro__[:-1] for name in ("__call__", "call", "__iter__")]
    return [*vars(value).values(), *called] if hasattr(value, "__dict__") else called


def _of_function(function: FunctionType) -> list[Any]:
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:
            continue  # not yet assigned
    if installed(function.__code__.co_filename):
        return cells if hasattr(function, "__wrapped__") else []
    values = [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    code = function.__code__
    codes = (code, *codes_inside(code))
    names = list(dict.fromkeys(name for code in codes for name in code.co_names))
    named = dict.fromkeys(name for code in codes for name in _named(code, *_GLOBALS))
    given = [function.__globals__[name] for name in named if name in function.__globals__]
    given += [sys.modules[name] for code in codes for name in _named(code, "IMPORT_NAME") if name in sys.modules]
    modules = [value for value in given if isinstance(value, ModuleType)]
    for module in modules:  # grows while it is read: numpy, then numpy.random
        held = [vars(module)[name] for name in names if name in vars(module)]
        modules += [value for value in held if isinstance(value, ModuleType) and value not in modules]
        given += held
    return values + given + modules


def _named(code: CodeType, *operations: str) -> list[str]:
    """The names that a function's instructions of some kinds have: of globals, or of modules that it imports."""
    return [instruction.argval for instruction in dis.get_instructions(code) if instruction.opname in operations]


def attribute_or_none(value: Any, name: str) -> Any:
    """An attribute of anything; None where it has none, or says so by raising."""
    try:
        return getattr(value, name, None)
    except Exception:  # a property of a user's class may raise anything
        return None


def is_framework(module: str) -> bool:
    """Whether a module is Python's own, TensorFlow's, Keras's, NumPy's or greenload's."""
    name = module.partition(".")[0]
    return name in _FRAMEWORKS or name in sys.stdlib_module_names
