"""What a user's function works with, without calling it: its graph's operations, and what its Python code refers to."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.names import codes_inside, installed

_PYTHON = frozenset({"PyFunc", "EagerPyFunc", "PyFuncStateless"})
_STATE = frozenset({"AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "RngReadAndSkip"})
_RANDOM = ("Random", "Multinomial", "SampleDistortedBoundingBox", "StatefulUniform", "StatefulStandardNormal",
           "StatefulTruncatedNormal", "ParameterizedTruncatedNormal", "StatelessTruncatedNormal")  # fmt: skip
_MOST = 2000
"""Objects that are looked at, at most."""
_ELEMENTS = 64
"""Elements of a container that are looked at, at most."""
_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
"""Instructions that name a global."""
_FRAMEWORKS = frozenset({"tensorflow", "keras", "numpy", "greenload"})


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


def draws_random(node: Node) -> bool:
    """Whether a node's function draws other random numbers each time it runs, in TensorFlow.

    Stateless draws do so only where their seed is counted on in a variable, as Keras's layers do.
    """
    found = [one.op for one in operations(node)]
    if any("Dataset" not in op and not op.startswith("Stateless") and _is_drawing(op) for op in found):
        return True
    return any(op.startswith("Stateless") and _is_drawing(op) for op in found) and any(op in _STATE for op in found)


def _is_drawing(operation: str) -> bool:
    return any(word in operation for word in (*_RANDOM, "RngReadAndSkip", "NonDeterministicInts"))


def has_operation(node: Node, *names: str) -> bool:
    """Whether a node's function has an operation of one of the names."""
    return any(one.op in names for one in operations(node))


def reachable_objects(*starts: Any) -> Iterator[Any]:
    """The objects that functions refer to, themselves first; each once, 2,000 at most.

    Installed functions are given, but not looked into, nor are objects of TensorFlow, Keras, NumPy and Python.

    Example:
        >>> rng = random.Random(3)
        >>> rng in list(reachable(lambda x: x * rng.random()))
        True
    """
    found: dict[int, Any] = {}
    queue = list(starts)
    for one in queue:  # grows while it is read
        if len(found) >= _MOST:
            return
        if id(one) in found or one is None or isinstance(one, int | float | str | bytes):
            continue
        found[id(one)] = one
        yield one
        queue += _next(one)


def _next(one: Any) -> list[Any]:
    if isinstance(one, functools.partial):
        return [one.func, *one.args, *one.keywords.values()]
    if inspect.ismethod(one):
        return [one.__self__, one.__func__]
    if isinstance(one, FunctionType):
        return _of_function(one)
    if isinstance(one, Mapping):
        return list(one.values())[:_ELEMENTS] if type(one) is dict else []
    if isinstance(one, list | tuple | set | frozenset):
        return list(one)[:_ELEMENTS]
    if isinstance(one, ModuleType) or inspect.isclass(one):
        return []
    wrapped = [
        inner
        for name in ("python_function", "_python_function", "__wrapped__")
        if (inner := attribute_or_none(one, name))
    ]
    if wrapped or is_framework(type(one).__module__):
        return wrapped
    called = [vars(kind).get(name) for kind in type(one).__mro__[:-1] for name in ("__call__", "call", "__iter__")]
    return [*vars(one).values(), *called] if hasattr(one, "__dict__") else called


def _of_function(function: FunctionType) -> list[Any]:
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:
            continue  # not yet assigned
    if installed(function.__code__.co_filename):
        return cells if hasattr(function, "__wrapped__") else []
    found = [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    code = function.__code__
    within = (code, *codes_inside(code))
    names = list(dict.fromkeys(name for one in within for name in one.co_names))
    named = dict.fromkeys(name for one in within for name in _named(one, *_GLOBALS))
    given = [function.__globals__[name] for name in named if name in function.__globals__]
    given += [sys.modules[name] for one in within for name in _named(one, "IMPORT_NAME") if name in sys.modules]
    modules = [one for one in given if isinstance(one, ModuleType)]
    for module in modules:  # grows while it is read: numpy, then numpy.random
        held = [vars(module)[name] for name in names if name in vars(module)]
        modules += [one for one in held if isinstance(one, ModuleType) and one not in modules]
        given += held
    return found + given + modules


def _named(code: CodeType, *operations: str) -> list[str]:
    """The names that a function's instructions of some kinds have: of globals, or of modules that it imports."""
    return [one.argval for one in dis.get_instructions(code) if one.opname in operations]


def attribute_or_none(one: Any, name: str) -> Any:
    """An attribute of anything; None where it has none, or says so by raising."""
    try:
        return getattr(one, name, None)
    except Exception:  # a property of a user's class may raise anything
        return None


def is_framework(module: str) -> bool:
    """Whether a module is Python's own, TensorFlow's, Keras's, NumPy's or greenload's."""
    name = module.partition(".")[0]
    return name in _FRAMEWORKS or name in sys.stdlib_module_names
