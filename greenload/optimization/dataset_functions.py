"""Plays the traced functions of a dataset again, operation by operation, with some of them done otherwise.

The user's Python is never called. Each rewrite gives the same numbers: what is done otherwise is a copy that nobody
reads, a flip, or the part of a JPEG that a crop throws away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from greenload.system.frameworks import tf

_FUNCTION_ATTRIBUTES = frozenset({"_class", "_output_shapes"})
_PASSING = frozenset({"ExpandDims", "Identity", "EnsureShape", "Squeeze", "Reshape"})
_RESIZES = frozenset({"ResizeBilinear", "ResizeBicubic", "ResizeArea", "ScaleAndTranslate"})
"""Resizes that read any number and give float32: of uint8 the same as of the same numbers in float32."""
Outputs = Sequence[Any]
Rewrite = Callable[["Replay", Any], "Outputs | None"]
"""Gives other tensors for an operation's outputs; None leaves the operation as it is."""


@dataclass
class Replay:
    """A function's graph, copied on demand into the graph that is being traced.

    Args:
        function: as TensorFlow traced it.
        given: tensors for its arguments and what it captured, in their order.
        rewrites: asked in turn for each operation.
    """

    function: Any
    given: Sequence[Any]
    rewrites: Sequence[Rewrite] = ()
    _tensors: dict[str, Any] = field(default_factory=dict)
    _copied: dict[str, Any] = field(default_factory=dict)

    def outputs(self) -> list[Any]:
        """The function's flat outputs. Operations that change a state run too, and in their order."""
        graph = self.function.graph
        named = (tensor.name for tensor in graph.inputs)
        self._tensors |= dict(zip(named, self.given, strict=True))
        wanted = _needed(graph)
        for operation in graph.get_operations():
            if operation.name in wanted and _has_effect(operation):
                self._copy(operation)
        return [self.tensor(tensor) for tensor in graph.outputs]

    def tensor(self, tensor: Any) -> Any:
        """The copy of one of the graph's tensors."""
        if tensor.name not in self._tensors:
            self._copy(tensor.op)
        return self._tensors[tensor.name]

    def again(self, operation: Any, inputs: Sequence[Any], **attributes: Any) -> list[Any]:
        """An operation's copy on other inputs, with some attributes changed: ``T=tf.uint8``, ``seed=3``."""
        from tensorflow.core.framework import attr_value_pb2

        kept = {name: value for name, value in operation.node_def.attr.items() if name not in _FUNCTION_ATTRIBUTES}
        for name, value in attributes.items():
            kept[name] = (
                attr_value_pb2.AttrValue(i=value)
                if isinstance(value, int)
                else attr_value_pb2.AttrValue(type=value.as_datatype_enum)
            )
        if any(value.HasField("func") or value.list.func for value in kept.values()):
            return self._imported(operation, inputs)
        made = tf.compat.v1.get_default_graph().create_op(operation.type, list(inputs), attrs=kept)
        for output, before in zip(made.outputs, operation.outputs, strict=True):
            if not attributes:
                output.set_shape(before.shape)
        self._copied[operation.name] = made
        return list(made.outputs)

    def _imported(self, operation: Any, inputs: Sequence[Any]) -> list[Any]:
        """A copy of an operation that calls functions, which are copied with it."""
        whole = operation.graph.as_graph_def()
        part = type(whole)(versions=whole.versions, library=whole.library)
        mapped = {}
        for index, tensor in enumerate(inputs):
            holder = part.node.add(name=f"given_{index}", op="Placeholder")
            holder.attr["dtype"].type = tensor.dtype.as_datatype_enum
            mapped[f"given_{index}:0"] = tensor
        kept = part.node.add()
        kept.CopyFrom(operation.node_def)
        del kept.input[:]
        kept.input.extend(mapped)
        names = [f"{operation.name}:{index}" for index in range(len(operation.outputs))] or [operation.name]
        made = tf.graph_util.import_graph_def(part, input_map=mapped, return_elements=names, name="again")
        if not operation.outputs:
            self._copied[operation.name] = made[0]
            return []
        for output, before in zip(made, operation.outputs, strict=True):
            output.set_shape(before.shape)
        self._copied[operation.name] = made[0].op
        return list(made)

    def _copy(self, operation: Any) -> None:
        if operation.name in self._copied or (operation.outputs and operation.outputs[0].name in self._tensors):
            return
        for rewrite in self.rewrites:
            if (made := rewrite(self, operation)) is not None:
                break
        else:
            before = [self._copied[control.name] for control in operation.control_inputs if self._control(control)]
            inputs = [self.tensor(tensor) for tensor in operation.inputs]
            with tf.control_dependencies(before):
                made = self.again(operation, inputs)
        for tensor, output in zip(operation.outputs, made, strict=True):
            self._tensors[tensor.name] = output

    def _control(self, operation: Any) -> bool:
        if operation.type in ("Placeholder", "NoOp", "Const"):
            return False
        self._copy(operation)
        return operation.name in self._copied


def _needed(graph: Any) -> set[str]:
    """The names of the operations that a function's run reaches: from its outputs and from what changes a state."""
    queue = [tensor.op for tensor in graph.outputs] + list(getattr(graph, "control_outputs", ()))
    names = {operation.name for operation in queue}
    for operation in queue:  # grows while it is read
        for before in (*(tensor.op for tensor in operation.inputs), *operation.control_inputs):
            if before.name not in names:
                names.add(before.name)
                queue.append(before)
    return names


def _has_effect(operation: Any) -> bool:
    """Whether an operation has a state of its own, or checks something: it runs even if nothing reads it."""
    definition = operation.op_def
    return definition is not None and definition.is_stateful and operation.type != "Placeholder"


Played = tuple[Any, tuple[Rewrite, ...]]
"""tf.data's wrapper of a function, and the rewrites that it is played with."""


def rewritable(function: Any) -> bool:
    """Whether a function can be played again: it has a graph that TensorFlow still holds."""
    return getattr(getattr(function, "graph", None), "get_operations", None) is not None


def traced(wrapper: Any) -> Any:
    """The function that tf.data's wrapper holds, as TensorFlow traced it; without greenload's clock, if it has one."""
    function = getattr(wrapper, "function", None)
    return getattr(function, "without_clock", function)


def mapped_again(
    dataset: Any, functions: Sequence[Played], rewrites: tuple[Rewrite, ...] = (), **arguments: Any
) -> tf.data.Dataset:
    """A map over a dataset that runs traced functions one after the other.

    Args:
        dataset: what they take.
        functions: the first one's first.
        rewrites: of all of them, beside their own.
        **arguments: of ``Dataset.map``.
    """

    def run(*element: Any) -> Any:
        value = element if type(dataset.element_spec) is tuple else element[0]
        for wrapper, own in functions:
            value = _called(wrapper, value, own + rewrites)
        return value

    return dataset.map(tf.autograph.experimental.do_not_convert(run), **arguments)


def _called(wrapper: Any, value: Any, rewrites: Sequence[Rewrite]) -> Any:
    """What a traced function gives for an element, inside a function that is being traced."""
    from tensorflow.python.data.util import structure

    function = traced(wrapper)
    given = [*structure.to_tensor_list(wrapper._input_structure, value), *function.captured_inputs]
    flat = Replay(function, given, rewrites).outputs()
    return structure.from_compatible_tensor_list(wrapper.output_structure, flat)


def seeds_fixed(replay: Replay, operation: Any) -> Outputs | None:
    """Give operations that draw anew in every process a seed of their own: their name's."""
    attributes = operation.node_def.attr
    if "seed" not in attributes or "seed2" not in attributes or attributes["seed"].i or attributes["seed2"].i:
        return None
    seed = int.from_bytes(hashlib.sha256(operation.name.encode()).digest()[:4], "little") % (1 << 30) + 1
    return replay.again(operation, [replay.tensor(tensor) for tensor in operation.inputs], seed=seed, seed2=7)


def cast_later(replay: Replay, operation: Any) -> Outputs | None:
    """Resize the bytes themselves where they are turned into floats only to be resized: the resize does it."""
    if operation.type not in _RESIZES:
        return None
    cast = _bytes_cast(operation)
    if cast is None:
        return None
    image = _uncast(replay, operation.inputs[0])
    others = [replay.tensor(tensor) for tensor in operation.inputs[1:]]
    made = replay.again(operation, [image, *others], T=tf.uint8)
    made[0].set_shape(operation.outputs[0].shape)
    return made


def casts_before_resizing(operation: Any) -> bool:
    """Whether an operation resizes bytes that were turned into floats for it."""
    return operation.type in _RESIZES and _bytes_cast(operation) is not None


def shape_of_bytes(replay: Replay, operation: Any) -> Outputs | None:
    """Take the shape of an image from its bytes, not from its copy in floats."""
    if operation.type != "Shape" or not _is_bytes_cast(operation.inputs[0].op):
        return None
    return replay.again(operation, [replay.tensor(operation.inputs[0].op.inputs[0])], T=tf.uint8)


def _bytes_cast(resize: Any) -> Any:
    """The cast from uint8 to float32 whose result is resized; None where there is no such."""
    operation = resize.inputs[0].op
    while operation.type in _PASSING:
        operation = operation.inputs[0].op
    return operation if _is_bytes_cast(operation) else None


def _is_bytes_cast(operation: Any) -> bool:
    return operation.type == "Cast" and (operation.inputs[0].dtype, operation.outputs[0].dtype) == (
        tf.uint8,
        tf.float32,
    )


def _uncast(replay: Replay, tensor: Any) -> Any:
    operation = tensor.op
    if operation.type == "Cast":
        return replay.tensor(operation.inputs[0])
    others = [replay.tensor(given) for given in operation.inputs[1:]]
    image = replay.again(operation, [_uncast(replay, operation.inputs[0]), *others], T=tf.uint8)[0]
    image.set_shape(tensor.shape)
    return image


def reversed_axis(replay: Replay, operation: Any) -> Outputs | None:
    """``tf.reverse`` in place of a slice with a step of −1: the same numbers by a loop over whole rows."""
    axis = reversing(operation)
    if axis is None:
        return None
    made = tf.reverse(replay.tensor(operation.inputs[0]), [axis])
    made.set_shape(operation.outputs[0].shape)
    return [made]


def reversing(operation: Any) -> int | None:
    """The axis that a strided slice only turns round; None for any other operation."""
    if operation.type != "StridedSlice" or operation.inputs[0].dtype in (tf.string, tf.variant):
        return None
    strides = tf.get_static_value(operation.inputs[3])
    mask = {name: operation.get_attr(name) for name in ("begin_mask", "end_mask")}
    if strides is None or any(
        operation.get_attr(name) for name in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    ):
        return None
    whole = (1 << len(strides)) - 1
    turned = [axis for axis, stride in enumerate(strides) if stride == -1]
    others = all(stride in (1, -1) for stride in strides)
    if len(turned) != 1 or not others or mask["begin_mask"] != whole or mask["end_mask"] != whole:
        return None
    return turned[0]
