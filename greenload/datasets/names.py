"""Names of the functions that users hand to tf.data, and where they wrote them."""

from __future__ import annotations

import functools
import inspect
import os
from types import CodeType
from typing import Any

_WRAPPERS = ("python_function", "_python_function", "__wrapped__", "__func__", "_func")
"""Where ``tf.function``, decorators, bound methods and tf.data's own wrappers keep the function they wrap."""


def unwrap(function: Any) -> Any:
    """The function that a user wrote, below ``functools.partial``, ``tf.function``, bound methods and decorators."""
    for _ in range(16):
        if isinstance(function, functools.partial):
            function = function.func
            continue
        if inspect.isfunction(function) and hasattr(function, "__wrapped__"):
            function = function.__wrapped__
            continue
        if inspect.isfunction(function):
            break
        inner = next((found for name in _WRAPPERS if callable(found := getattr(function, name, None))), None)
        if inner is None:
            break
        function = inner
    return function


def function_name(function: Any) -> str:
    """``"parse"``, ``"Augment.crop"`` for a method, ``"RandomFlip"`` for a Keras layer or another callable.

    Example:
        >>> function_name(functools.partial(parse, size=224))
        'parse'
    """
    plain = unwrap(function)
    if inspect.isfunction(plain) or inspect.isbuiltin(plain):
        name: str = plain.__qualname__ if inspect.ismethod(function) else plain.__name__
        return name.replace("<locals>.", "").rpartition("<locals>.")[2]
    if inspect.isclass(plain):
        return plain.__name__
    return str(getattr(plain, "__name__", None) or type(plain).__name__)


def function_place(function: Any) -> str:
    """``"train.py:31"``, the file and first line of a function; empty for one that is not written in Python."""
    code = _code(function)
    return "" if code is None else f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"


def function_file(function: Any) -> str:
    """The whole path of the file that holds a function; empty where that isn't known."""
    code = _code(function)
    return "" if code is None else code.co_filename


def _code(function: Any) -> CodeType | None:
    plain = unwrap(function)
    if not hasattr(plain, "__code__"):
        # A Keras layer is where its call is written.
        plain = unwrap(getattr(plain, "call", None) or vars(type(plain)).get("__call__"))
    code = getattr(plain, "__code__", None)
    return code if isinstance(code, CodeType) else None


def unique(names: list[str]) -> list[str]:
    """The names in order, later ones of the same name numbered: ``["map", "map (2)"]``."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found
