"""Datasets as they were without clocks: for what leaves the process, as to workers of a service or into a saved model.

Another process may know nothing of the clocks' operations.
"""

from __future__ import annotations

from typing import Any

from greenload.profiling.in_place.clocked import remove_clock
from greenload.system.frameworks import tf

_SUFFIX = "_without_clock"


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
    if not any([remove_clock(function) for function in graph.library.function]):
        return serialized
    _rename(graph)  # the process has other functions of the same names
    return bytes(graph.SerializeToString())


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
