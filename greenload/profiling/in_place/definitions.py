"""Traced functions with changed definitions. Nothing of the user's is called or traced again."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

_NUMBERS = itertools.count()


class ChangedFunction:
    """A function that operations on datasets may call, for as long as anything holds it.

    Args:
        definition: a ``FunctionDef``, whose name is made unique.
        captured_inputs: the values of its last arguments.
        parts: functions that it calls and that nothing else holds.
    """

    def __init__(self, definition: Any, captured_inputs: Sequence[Any], parts: Sequence[ChangedFunction] = ()) -> None:
        self.captured_inputs = captured_inputs
        self.definition = type(definition)()
        self.definition.CopyFrom(definition)
        self.definition.signature.name = self.name = f"{definition.signature.name}_greenload_{next(_NUMBERS)}"
        self.parts = parts
        _runtime().add_function_def(self.definition)
        weakref.finalize(self, _runtime().remove_function, self.name).atexit = False


def definition_of(function: Any) -> Any:
    """The ``FunctionDef`` of a function as tf.data traces it."""
    return function.function_def if hasattr(function, "function_def") else function.definition


def definition_named(name: str) -> Any:
    """The ``FunctionDef`` of a function that a graph calls; None for an operation."""
    return _runtime().get_function_def(name) if _runtime().has_function(name) else None


def changed(function: Any, change: Callable[[Any], Any]) -> ChangedFunction:
    """A function like another one, with another definition.

    Args:
        function: as tf.data traces it.
        change: changes the ``FunctionDef`` that it is given.
    """
    definition = type(definition_of(function))()
    definition.CopyFrom(definition_of(function))
    change(definition)
    return ChangedFunction(definition, function.captured_inputs)


def base(name: str) -> str:
    """The node or argument of an input: ``"add"`` for ``"add:z:0"`` and ``"^add"``."""
    return name.removeprefix("^").partition(":")[0]


def called_by(node: Any) -> list[str]:
    """Names of the functions that a node calls."""
    functions = [value.func.name for value in node.attr.values() if value.HasField("func")]
    functions += [function.name for value in node.attr.values() for function in value.list.func]
    return functions if functions or not _runtime().has_function(node.op) else [node.op]


def _runtime() -> Any:
    from tensorflow.python.eager import context

    return context.context()
