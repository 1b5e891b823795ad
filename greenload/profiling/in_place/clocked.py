"""A traced function with a clock around it."""

from __future__ import annotations

from typing import Any

from greenload.backends.native import op
from greenload.profiling.in_place.definitions import base, called_by

_ENTER, _LEAVE = "greenload_enter", "greenload_leave"
"""Names of nodes; TensorFlow's own have no such prefix."""
_CLOCKS = ("GreenloadEnter", "GreenloadLeave")
_SWITCHES = ("Switch", "RefSwitch", "_SwitchN", "Merge", "RefMerge")


def passes_on(definition: Any) -> bool:
    """Whether a function gives back nothing but its arguments, so that tf.data doesn't call it.

    Args:
        definition: its ``FunctionDef``.
    """
    nodes = {node.name: node for node in definition.node_def}

    def source(name: str) -> str:
        node = nodes.get(base(name))
        return source(node.input[0]) if node is not None and node.op == "Identity" else base(name)

    return not definition.signature.is_stateful and all(source(name) not in nodes for name in definition.ret.values())


def has_switches(definition: Any) -> bool:
    """Whether a function has control flow as TensorFlow 1 writes it, as a frozen graph's.

    Nodes of the branch that isn't taken are dead there, and so would be a clock that waits for them.
    """
    return any(node.op in _SWITCHES for node in definition.node_def)


def add_clock(definition: Any, counter: str) -> None:
    """Put a clock around what a function does: its first nodes wait for one operation, another one waits for its last.

    Each of TensorFlow's threads goes on with what it made ready. So the first operation waits for all that is there
    before, arguments and constants, and what only hands out results waits for the last: then both, and all between them
    that is one chain, run on one thread.

    Args:
        definition: the ``FunctionDef`` to change.
        counter: the name that it counts under (``counters.named_counters``): calls as images; CPU and wall time of
            those that are timed, which began and ended on one thread.
    """
    op.operations()
    for call in [node for node in definition.node_def if called_by(node)]:
        _let_arguments_wait(definition, call)
    needed = _needed(definition)
    nodes = [node for node in definition.node_def if node.name in needed]
    before = _there_before(definition, needed)
    results = _results(definition)
    ends = {node.name for node in nodes if node.name not in results} - before
    ends -= {base(name) for node in nodes if node.name not in results for name in node.input}
    for node in nodes:
        if node.name not in before and before.issuperset(map(base, node.input)):
            node.input.append(f"^{_ENTER}")
        if node.name in results:
            node.input.append(f"^{_LEAVE}")
    enter = definition.node_def.add(name=_ENTER, op=_CLOCKS[0], input=[f"^{name}" for name in sorted(before)])
    leave = definition.node_def.add(name=_LEAVE, op=_CLOCKS[1], input=[f"^{name}" for name in sorted(ends)])
    if not ends:
        leave.input.append(f"^{_ENTER}")
    for node in (enter, leave):
        node.attr["counter"].s = counter.encode()
    definition.signature.control_output.append(_LEAVE)
    definition.control_ret[_LEAVE] = _LEAVE


def remove_clock(definition: Any) -> bool:
    """Take the clock that `add_clock` has put in out of a function again; False where it has none."""
    clocks = {node.name for node in definition.node_def if node.op in _CLOCKS}
    for index in reversed(range(len(definition.node_def) if clocks else 0)):
        node = definition.node_def[index]
        if node.name in clocks:
            del definition.node_def[index]
        else:
            node.input[:] = [name for name in node.input if base(name) not in clocks]
    for output in [output for output, name in definition.control_ret.items() if name in clocks]:
        del definition.control_ret[output]
        definition.signature.control_output.remove(output)
    return bool(clocks)


def counter_of_clock(definition: Any) -> str:
    """The name that a function counts under; empty where it has no clock."""
    return next((node.attr["counter"].s.decode() for node in definition.node_def if node.op in _CLOCKS), "")


def _needed(definition: Any) -> set[str]:
    """Nodes that what the function gives and does depends on. TensorFlow runs no others: they mustn't be tied in."""
    nodes = {node.name: node for node in definition.node_def}
    found: set[str] = set()
    left = [*map(base, definition.ret.values()), *definition.control_ret.values()]
    while left:
        name = left.pop()
        if name in nodes and name not in found:
            found.add(name)
            left += map(base, nodes[name].input)
    return found


def _there_before(definition: Any, needed: set[str]) -> set[str]:
    """Arguments and constants, which cost nothing; not those that a function which is called takes."""
    given_to_calls = {base(name) for node in definition.node_def if called_by(node) for name in node.input}
    names = {node.name for node in definition.node_def if node.op == "Const" and not node.input} & needed
    return {argument.name for argument in definition.signature.input_arg} | names - given_to_calls


def _results(definition: Any) -> set[str]:
    """Nodes that only hand out what the function gives."""
    taken = {base(name) for node in definition.node_def for name in node.input} | set(definition.control_ret.values())
    given = {base(name) for name in definition.ret.values()}
    return {node.name for node in definition.node_def if node.op == "Identity" and node.name in given - taken}


def _let_arguments_wait(definition: Any, call: Any) -> None:
    """Have the arguments of a function pass a node that waits, on their way to one that the function calls.

    Else the nodes of that one that take them wouldn't wait: its call does, which goes when TensorFlow inlines it.
    """
    types = {argument.name: argument.type for argument in definition.signature.input_arg}
    for index, name in enumerate(call.input):
        if name in types:
            node = definition.node_def.add(name=f"greenload_{call.name}_{index}", op="Identity")
            node.input.extend([name, f"^{_ENTER}"])
            node.attr["T"].type = types[name]
            call.input[index] = f"{node.name}:output:0"
