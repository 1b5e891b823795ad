"""Clocks around the functions of datasets that a function makes, as an ``interleave``'s: its definition made anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenload.profiling.in_place.clocked import add_clock, has_switches, passes_on, remove_clock
from greenload.profiling.in_place.definitions import ChangedFunction, base, called_by, definition_named, definition_of
from greenload.system.frameworks import tf

_ATTRIBUTES = ("f", "predicate", "next_func", "scan_func", "key_func", "reduce_func")
"""Of operations on datasets, that hold functions called for each element, or each group of them."""
_NO_DATASETS = ("DatasetTo", "DatasetCardinality", "ReduceDataset")
"""Begins of operations on datasets that give no dataset."""
_PASSES_ON = "its function gives its arguments back, so tf.data doesn't call it"
_SWITCHES = "its function has control flow of TensorFlow 1, around which there can be no clock"
_MAKES = "its function only makes datasets, which call no function that can have a clock"
CounterOf = Callable[[Any, Any], str]
"""Gives the name that the function of an operation counts under, by ``NodeDef`` and ``FunctionDef``; empty for none."""


def clocked(function: Any, counter_of: CounterOf) -> Any:
    """A function that gives what another gives, and counts its calls and what they cost.

    Args:
        function: as tf.data traces them. It isn't called or traced again.
        counter_of: gives the names to count under: asked for None it gives that of the function itself. For one that
            makes datasets it is asked for the operations that call functions; one inside another, for the outer.

    Returns:
        What operations on datasets may call instead; the same function where no clock was put in.
    """
    changed = _changed(definition_of(function), None, counter_of)
    return function if changed is None else ChangedFunction(changed[0], function.captured_inputs, changed[1])


def makes_datasets(definition: Any) -> bool:
    """Whether a function makes datasets that it gives: ragged and sparse tensors are variants, too."""
    nodes = {node.name: node for node in definition.node_def}

    def makes(name: str) -> bool:
        node = nodes.get(base(name))
        if node is None:
            return False
        if node.op == "Identity":
            return makes(node.input[0])
        called = [definition_named(function) for function in called_by(node)] if "Dataset" not in node.op else []
        made = "Dataset" in node.op and not node.op.startswith(_NO_DATASETS)
        return made or any(makes_datasets(function) for function in called if function is not None)

    results = definition.signature.output_arg
    return any(makes(definition.ret[one.name]) for one in results if one.type == tf.variant.as_datatype_enum)


def refusal(definition: Any) -> str:
    """Why a function can have no clock; empty where it can, or functions of datasets that it makes."""
    if makes_datasets(definition):
        made = [function for _, function in called_functions(definition)]
        return "" if any(not refusal(function) for function in made) else _MAKES
    if has_switches(definition):
        return _SWITCHES
    return _PASSES_ON if passes_on(definition) else ""


def _changed(definition: Any, operation: Any, counter_of: CounterOf) -> tuple[Any, list[ChangedFunction]] | None:
    """A definition with clocks, and the functions that were made for it; None where there are none."""
    fresh = type(definition)()
    fresh.CopyFrom(definition)
    if makes_datasets(definition):
        below = counter_of if operation is None else lambda _, inside: counter_of(operation, inside)
        parts = _clock_operations(fresh, below)
        return (fresh, parts) if parts else None
    if refusal(definition) or not (counter := counter_of(operation, definition)):
        return None
    remove_clock(fresh)  # as of a process whose functions have clocks all
    add_clock(fresh, counter)
    return fresh, []


def _clock_operations(definition: Any, counter_of: CounterOf) -> list[ChangedFunction]:
    """Have operations that make datasets call functions with clocks."""
    made = []
    for node in definition.node_def:
        if "Dataset" not in node.op:
            continue
        for attribute in _ATTRIBUTES:
            called = definition_named(node.attr[attribute].func.name) if attribute in node.attr else None
            changed = None if called is None else _changed(called, node, counter_of)
            if changed is not None:
                made.append(ChangedFunction(changed[0], (), changed[1]))
                node.attr[attribute].func.name = made[-1].name
    return made


def called_functions(definition: Any) -> list[tuple[str, Any]]:
    """The definitions of functions that operations on datasets call for each element, with the operations' names.

    Args:
        definition: of a function that makes datasets.
    """
    return [(node.name, called) for node in definition.node_def for called in called_for_elements(node)]


def called_for_elements(node: Any) -> list[Any]:
    """The definitions of functions that an operation on datasets calls for each element."""
    held = [attribute for attribute in _ATTRIBUTES if attribute in node.attr] if "Dataset" in node.op else []
    called = [definition_named(node.attr[attribute].func.name) for attribute in held]
    return [function for function in called if function is not None]
