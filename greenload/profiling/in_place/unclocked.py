"""Datasets as they were without clocks: for what leaves the process, as to workers of a service or into a saved model.

Another process may know nothing of the clocks' operations.
"""

from __future__ import annotations

from typing import Any

from greenload.system.frameworks import tf

_SUFFIX = "_without_clock"
_CLOCKS = ("GreenloadEnter", "GreenloadLeave")


def without_clocks(dataset: Any) -> Any:
    """A dataset of the same elements, made by operations of TensorFlow's alone.

    Args:
        dataset: made eagerly. It can be written as a graph.
    """
    from tensorflow.python.eager import wrap_function

    graph = tf.compat.v1.GraphDef.FromString(stripped(dataset._as_serialized_graph().numpy()))
    [output] = [node.input[0] for node in graph.node if node.op == "_Retval"]
    made = wrap_function.function_from_graph_def(graph, [], f"{output}:0")
    return tf.data.experimental.from_variant(made(), dataset.element_spec)


def stripped(serialized: bytes) -> bytes:
    """A dataset's graph without clocks; the same bytes where it has none."""
    graph = tf.compat.v1.GraphDef.FromString(serialized)
    if not any([_strip(function) for function in graph.library.function]):
        return serialized
    _rename(graph)  # the process has other functions of the same names
    return bytes(graph.SerializeToString())


def _strip(function: Any) -> bool:
    """Take the clock out of a function; False where it has none. What the clock waited for, the function's end does."""
    clocks = {node.name: list(node.input) for node in function.node_def if node.op in _CLOCKS}
    if not clocks:
        return False
    for index in reversed(range(len(function.node_def))):
        node = function.node_def[index]
        if node.name in clocks:
            del function.node_def[index]
            continue
        kept = [name for name in node.input if name.lstrip("^").partition(":")[0] not in clocks]
        node.input[:] = kept
    waited = [name.removeprefix("^") for inputs in clocks.values() for name in inputs if name.startswith("^")]
    last = [output for output, node in function.control_ret.items() if node not in clocks]
    ends = dict.fromkeys([*(function.control_ret[output] for output in last), *waited])
    function.control_ret.clear()
    function.signature.control_output[:] = []
    for name in ends:
        if name not in clocks:
            function.control_ret[name] = name
            function.signature.control_output.append(name)
    return True


def _rename(graph: Any) -> None:
    functions = graph.library.function
    names = {function.signature.name for function in functions}
    for function in functions:
        function.signature.name += _SUFFIX
    for node in [*graph.node, *(node for function in functions for node in function.node_def)]:
        if node.op in names:
            node.op += _SUFFIX
        for value in node.attr.values():
            for called in [*([value.func] if value.HasField("func") else []), *value.list.func]:
                if called.name in names:
                    called.name += _SUFFIX
