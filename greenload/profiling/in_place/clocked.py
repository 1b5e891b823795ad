"""A traced function with a clock around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from greenload.backends.native import op
from greenload.system.frameworks import tf


def clocked(function: Any, counter: str) -> Any:
    """A function that gives what another gives, and counts its calls and what they cost.

    Args:
        function: a ``ConcreteFunction`` of tensors that gives a list of at least one, as tf.data traces them. It isn't
            called or traced again: the new one calls its graph, with what it has captured.
        counter: the name that it counts under (``op.enter``).

    Returns:
        A ``ConcreteFunction`` of the same tensors.
    """
    return clocked_call(function, function.inputs[: len(function.inputs) - len(function.captured_inputs)], counter)


def clocked_call(call: Callable[..., Any], arguments: Sequence[Any], counter: str) -> Any:
    """The same of anything that adds a call of a function to a graph.

    Args:
        call: takes tensors, and gives a list of at least one.
        arguments: tensors like those that it takes. At least one isn't a resource.
        counter: as for `clocked`.
    """

    def timed(*values: Any) -> list[Any]:
        # A resource would be copied on its way through a clock.
        passed = [index for index, value in enumerate(values) if value.dtype != tf.resource]
        given, stamp = op.enter([values[index] for index in passed], counter)
        arguments = list(values)
        for index, value in zip(passed, given, strict=True):
            arguments[index] = value
        with tf.control_dependencies([stamp]):  # for what takes none of the values
            results = list(call(*arguments))
        with tf.control_dependencies([results[0].op]):  # for what gives nothing, as an assignment to a variable
            return op.leave(stamp, results, counter)

    signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in arguments]
    return tf.function(timed, input_signature=signature, autograph=False).get_concrete_function()
