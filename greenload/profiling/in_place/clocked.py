"""A traced function with a clock around it."""

from __future__ import annotations

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
    count = len(function.inputs) - len(function.captured_inputs)
    signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in function.inputs[:count]]

    def timed(*values: Any) -> list[Any]:
        passed, stamp = op.enter(values, counter)
        with tf.control_dependencies([stamp]):  # for what takes none of the values
            results = list(function(*passed))
        with tf.control_dependencies([results[0].op]):  # for what gives nothing, as an assignment to a variable
            return op.leave(stamp, results, counter)

    return tf.function(timed, input_signature=signature, autograph=False).get_concrete_function()
