"""What a user's function refers to, without calling it: closures, globals that it names, objects' attributes."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from greenload.profiling.tfdata.names import installed, nested

_MOST = 2000
"""Objects that are looked at, at most."""
_ELEMENTS = 64
"""Elements of a container that are looked at, at most."""
_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
"""Instructions that name a global."""

_FRAMEWORKS = frozenset({"tensorflow", "keras", "numpy", "greenload"})


def reachable(*starts: Any) -> Iterator[Any]:
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
        inner for name in ("python_function", "_python_function", "__wrapped__") if (inner := attribute(one, name))
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
    within = (code, *nested(code))
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


def attribute(one: Any, name: str) -> Any:
    """An attribute of anything; None where it has none, or says so by raising."""
    try:
        return getattr(one, name, None)
    except Exception:  # a property of a user's class may raise anything
        return None


def is_framework(module: str) -> bool:
    """Whether a module is Python's own, TensorFlow's, Keras's, NumPy's or greenload's."""
    name = module.partition(".")[0]
    return name in _FRAMEWORKS or name in sys.stdlib_module_names
