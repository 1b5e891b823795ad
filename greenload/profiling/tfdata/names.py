"""Names of the functions that users pass to tf.data, and where they wrote them."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

_WRAPPERS = ("python_function", "_python_function", "__wrapped__", "__func__", "_func")
"""Where ``tf.function``, decorators, bound methods and tf.data's own wrappers keep the function they wrap."""
_LONGEST = 32
"""Characters of a lambda's text that a row shows: two lines of a name in a terminal of 80 columns."""
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
GREENLOAD = os.path.join(Path(__file__).parents[2], "")
"""Greenload's folder."""
_LIBRARIES = (os.path.join(sysconfig.get_paths()["stdlib"], ""), GREENLOAD)


def installed(file: str) -> bool:
    """Whether a file is an installed package's, Python's or greenload's: nothing that its user would edit.

    Example:
        >>> installed("/usr/lib/python3/dist-packages/keras/src/models/sequential.py"), installed("/home/me/train.py")
        (True, False)
    """
    return any(part in file for part in _PACKAGES) or file.startswith((*_LIBRARIES, "<frozen "))


def user_function(function: Any) -> Any:
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
        inner = next((wrapped for name in _WRAPPERS if callable(wrapped := getattr(function, name, None))), None)
        if inner is None:
            break
        function = inner
    return function


def function_name(function: Any) -> str:
    """``"parse"``, ``"Augment.crop"`` for a method, a Keras layer's own name, a lambda's text, a callable's class.

    Example:
        >>> function_name(functools.partial(parse, size=224))
        'parse'
    """
    plain = user_function(function)
    owner = getattr(function, "__self__", plain)
    if _is_keras(owner):
        return str(owner.name)
    if inspect.isfunction(plain) and (public := getattr(plain, "_tf_api_names", None)):
        return f"tf.{public[0]}"
    if getattr(plain, "__name__", "") == "<lambda>" and hasattr(plain, "__code__"):
        return lambda_text(plain.__code__)
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


def lambda_text(code: CodeType) -> str:
    """A lambda as it is written, in one line of 32 characters at most; ``"<lambda>"`` where its text isn't known.

    Example:
        >>> lambda_text((lambda x: x + 1).__code__)
        'lambda x: x + 1'
    """
    written = [pair for pair in _lambdas(code.co_filename) if pair[1].lineno == code.co_firstlineno]
    ran = [spot for spot in code.co_positions() if None not in spot and spot[2] != spot[3]]
    fitting = [pair for pair in written if all(_holds(pair[1].body, spot) for spot in ran)]
    if not fitting:
        return "<lambda>"
    source, shortest = min(fitting, key=lambda pair: len(ast.unparse(pair[1].body)))  # the innermost
    return trimmed(ast.get_source_segment(source, shortest) or "<lambda>")


def trimmed(text: str) -> str:
    """A text in one line, of 32 characters at most."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1].rstrip() + "…"


def _holds(node: ast.expr, spot: Any) -> bool:
    """Whether a place in the source, ``(line, end line, column, end column)``, is inside an expression."""
    line, end_line, column, end_column = spot
    begins = (node.lineno, node.col_offset) <= (line, column)
    return begins and (end_line, end_column) <= (node.end_lineno, node.end_col_offset)


def _lambdas(file: str) -> list[tuple[str, ast.Lambda]]:
    """The lambdas in a file, each with the file's text."""
    return _parsed("".join(linecache.getlines(file)))


@functools.lru_cache(maxsize=8)
def _parsed(source: str) -> list[tuple[str, ast.Lambda]]:
    try:
        return [(source, node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Lambda)]
    except (SyntaxError, ValueError):
        return []  # a notebook's cell with commands of its own


def _is_keras(owner: Any) -> bool:
    """Whether something is a Keras layer or model; imports nothing."""
    keras = sys.modules.get("keras")
    layer = getattr(getattr(keras, "layers", None), "Layer", None)
    return layer is not None and isinstance(owner, layer) and isinstance(getattr(owner, "name", None), str)


def _code(function: Any) -> CodeType | None:
    plain = user_function(function)
    if not hasattr(plain, "__code__"):
        # A Keras layer is where its call is written.
        plain = user_function(getattr(plain, "call", None) or vars(type(plain)).get("__call__"))
    code = getattr(plain, "__code__", None)
    return code if isinstance(code, CodeType) else None


def nested_codes(function: Any) -> Iterator[CodeType]:
    """The code of all functions that are written inside a function."""
    code = _code(function)
    return iter(()) if code is None else codes_inside(code)


def codes_inside(code: CodeType) -> Iterator[CodeType]:
    """The code of all functions that are written inside another one."""
    for held in code.co_consts:
        if isinstance(held, CodeType):
            yield held
            yield from codes_inside(held)


def numbered_names(names: list[str]) -> list[str]:
    """The names in order, later ones of the same name numbered: ``["map", "map (2)"]``."""
    seen: dict[str, int] = {}
    numbered = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        numbered.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return numbered
