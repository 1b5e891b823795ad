"""Traced functions made anew: their graphs copied, with changes. Nothing of the user's is called or traced again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from greenload.system.frameworks import tf

Change = Callable[[Any], str]
"""Changes a ``GraphDef``; gives the name of a node that has to run, behind all others. Empty if there is none."""


def copied(function: Any, change: Change) -> Any:
    """A function with a graph like another's.

    Args:
        function: of tensors; a ``ConcreteFunction``, or a function of another function's graph. What it has captured is
            captured again.
        change: changes the copy's nodes, without those of its arguments, which keep their names.

    Returns:
        A ``ConcreteFunction`` of the same tensors.
    """
    graph = function.graph
    captured = getattr(function, "captured_inputs", [])
    count = len(graph.inputs) - len(captured)
    signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in graph.inputs[:count]]

    def copy(*values: Any) -> list[Any]:
        part = _without_arguments(graph)
        last = change(part) or _behind(part, [operation.name for operation in graph.control_outputs])
        inputs = [*values, *map(tf.identity, captured)]  # which makes them part of this graph
        given = dict(zip((tensor.name for tensor in graph.inputs), inputs, strict=True))
        made = [tensor.name for tensor in graph.outputs if tensor.name not in given]
        used = {name if ":" in name else f"{name}:0" for node in part.node for name in node.input}
        found = tf.graph_util.import_graph_def(
            part,
            input_map={name: tensor for name, tensor in given.items() if name in used},
            return_elements=[*made, last],
            name="",  # errors name an operation
        )
        tf.compat.v1.get_default_graph().control_outputs.append(found.pop())
        here = given | dict(zip(made, found, strict=True))
        return [here[tensor.name] for tensor in graph.outputs]

    return tf.function(copy, input_signature=signature, autograph=False).get_concrete_function()


def _behind(part: Any, names: Sequence[str]) -> str:
    return str(part.node.add(name="greenload_last", op="NoOp", input=[f"^{name}" for name in names]).name)


def _without_arguments(graph: Any) -> Any:
    whole = graph.as_graph_def()
    part = type(whole)(versions=whole.versions, library=whole.library)
    for definition in whole.node:
        if definition.op != "Placeholder":
            part.node.add().CopyFrom(definition)
    here = {definition.name for definition in part.node}
    for definition in part.node:  # an argument can't tell where a node has to be
        kept = [name for name in definition.attr["_class"].list.s if name.decode().removeprefix("loc:@") in here]
        definition.attr["_class"].list.s[:] = kept
        if not kept:
            del definition.attr["_class"]
    return part
