"""A traced function with a clock around it."""

from __future__ import annotations

from typing import Any

from greenload.backends.native import op
from greenload.profiling.in_place.copies import copied

_ENTER, _LEAVE = "greenload_enter", "greenload_leave"
"""Names of nodes; TensorFlow's own have no such prefix."""


def clocked(function: Any, counter: str) -> Any:
    """A function that gives what another gives, and counts its calls and what they cost.

    Args:
        function: as tf.data traces them (`copied`). One without arguments gets no clock.
        counter: the name that it counts under (``counters.named_counters``): calls as images; CPU and wall time of
            those that are timed, which began and ended on one thread.

    Returns:
        A ``ConcreteFunction`` of the same tensors.
    """
    graph = function.graph
    if not graph.inputs:
        return function
    op.operations()
    arguments = {tensor.op.name: tensor for tensor in graph.inputs}

    def around(part: Any) -> str:
        # An edge of control isn't enough for a function's call: of its nodes, those with inputs wouldn't wait for it.
        for call in [node for node in part.node if _is_call(part, node)]:
            for place, name in enumerate(call.input):
                if name.partition(":")[0] in arguments:
                    call.input[place] = _passed_on(part, call.name, place, arguments[name.partition(":")[0]])
        ends = [node.name for node in part.node]
        for node in part.node:
            taken = {name.lstrip("^").partition(":")[0] for name in node.input}
            if not taken or taken & arguments.keys():
                node.input.append(f"^{_ENTER}")
        taken = {name.lstrip("^").partition(":")[0] for node in part.node for name in node.input}
        first = graph.inputs[0]
        enter = part.node.add(name=_ENTER, op="GreenloadEnter", input=[first.op.name])
        enter.attr["T"].type = first.dtype.as_datatype_enum
        leave = part.node.add(name=_LEAVE, op="GreenloadLeave", input=[_ENTER])
        leave.input.extend(f"^{name}" for name in ends if name not in taken)
        for node in (enter, leave):
            node.attr["counter"].s = counter.encode()
        return _LEAVE

    return copied(function, around)


def _is_call(part: Any, node: Any) -> bool:
    return node.op in ("PartitionedCall", "StatefulPartitionedCall") or any(
        node.op == known.signature.name for known in part.library.function
    )


def _passed_on(part: Any, call: str, place: int, argument: Any) -> str:
    """The name of a node that passes an argument on, once the clock runs."""
    node = part.node.add(name=f"{call}/greenload_{place}", op="Identity", input=[argument.op.name])
    node.attr["T"].type = argument.dtype.as_datatype_enum
    return str(node.name)
