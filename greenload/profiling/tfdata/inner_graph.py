"""The chain of datasets inside an ``interleave``'s or ``flat_map``'s function, read from its traced graph.

The function itself is never called: parts of its graph are copied into functions of greenload's own.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from greenload.profiling.tfdata.calls import UserCall, traced_call
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.names import lambda_text, nested_codes, trimmed
from greenload.system.frameworks import tf

_KINDS: Mapping[str, str] = {
    "MapDataset": "map",
    "ParallelMapDatasetV2": "map",
    "FilterDataset": "filter",
    "BatchDatasetV2": "batch",
    "ParallelBatchDataset": "batch",
    "PaddedBatchDatasetV2": "padded_batch",
    "ShuffleDatasetV3": "shuffle",
    "PrefetchDataset": "prefetch",
    "CacheDatasetV2": "cache",
    "TakeDataset": "take",
    "SkipDataset": "skip",
    "RepeatDataset": "repeat",
    "ShardDataset": "shard",
    "UnbatchDataset": "unbatch",
    "IgnoreErrorsDataset": "ignore_errors",
    "TFRecordDataset": "tfrecords",
    "TFRecordDatasetV2": "tfrecords",
    "TextLineDataset": "text_lines",
    "FixedLengthRecordDatasetV2": "fixed_length_records",
    "CSVDatasetV2": "csv",
    "TensorSliceDataset": "from_tensor_slices",
    "TensorDataset": "from_tensors",
    "RangeDataset": "range",
    "FlatMapDataset": "flat_map",
    "InterleaveDataset": "interleave",
    "ParallelInterleaveDatasetV4": "interleave",
}
_READERS = ("TFRecordDataset", "TextLineDataset", "FixedLengthRecordDataset")
_PASSIVE = frozenset({"take", "skip", "repeat", "shard"})
_TRACED = re.compile(r"__inference_Dataset_(?:map|filter|flat_map|interleave)_(.+?)_\d+(?:_greenload_\d+)?$")


@dataclass(frozen=True, eq=False)
class Inner:
    """One operation on datasets inside a function, and how to run it outside.

    Args:
        outer: the interleave's or flat_map's dataset object.
        operation: the graph's operation that gives the dataset.
        source: the operation that gives the dataset it works on; None for a source.
        element_spec: the structure of its elements, flat where it is not the chain's last.
    """

    outer: Any
    operation: Any
    source: Any
    element_spec: Any

    def prefix(self, inputs: tf.data.Dataset) -> tf.data.Dataset:
        """The interleave over ``inputs``, ending inside its function with this operation."""
        from tensorflow.python.data.util import structure

        spec = inputs.element_spec
        traced = self.outer._map_func.function

        def shortened(*element: Any) -> tf.data.Dataset:
            value = element if type(spec) is tuple else element[0]
            given = [*structure.to_tensor_list(spec, value), *traced.captured_inputs]
            mapped = dict(zip((tensor.name for tensor in traced.graph.inputs), given, strict=True))
            return tf.data.experimental.from_variant(self._imported(mapped), self.element_spec)

        return _nested(self.outer, inputs, tf.autograph.experimental.do_not_convert(shortened))

    def on(self, node: Node, inputs: Sequence[tf.data.Dataset]) -> tf.data.Dataset:
        """The operation on another input, inside a function as it was.

        Raises:
            ValueError: it is a source, or needs more of the function's arguments than its input.
        """
        if self.source is None:
            raise ValueError("a source needs its function's argument")
        traced = self.outer._map_func.function
        arguments = len(traced.graph.inputs) - len(traced.captured_inputs)
        captured = dict(zip((t.name for t in traced.graph.inputs[arguments:]), traced.captured_inputs, strict=True))
        variant = inputs[0]._variant_tensor

        def alone(_: Any) -> tf.data.Dataset:
            mapped = {**captured, self.source.outputs[0].name: variant}
            return tf.data.experimental.from_variant(self._imported(mapped), self.element_spec)

        return tf.data.Dataset.from_tensors(0).flat_map(tf.autograph.experimental.do_not_convert(alone))

    def _imported(self, mapped: Mapping[str, Any]) -> Any:
        """The operation's dataset, copied into the function that is being traced, with ``mapped`` for named tensors."""
        graph = self.operation.graph
        wanted, queue = {self.operation.name}, [self.operation]
        for operation in queue:  # grows while it is read
            for tensor in operation.inputs:
                if tensor.name in mapped:
                    continue
                if tensor.op.type == "Placeholder":
                    raise ValueError(f"{self.operation.name} needs the argument {tensor.name}")
                if tensor.op.name not in wanted:
                    wanted.add(tensor.op.name)
                    queue.append(tensor.op)
        whole = graph.as_graph_def()
        part = type(whole)(versions=whole.versions, library=whole.library)
        for definition in whole.node:
            if definition.name in wanted:
                kept = part.node.add()
                kept.CopyFrom(definition)
                del kept.input[:]
                kept.input.extend(name for name in definition.input if not name.startswith("^"))
        used = {tensor.name for operation in queue for tensor in operation.inputs}
        inputs = {name: tf.identity(value) for name, value in mapped.items() if name in used}  # as the graph's own
        output = f"{self.operation.name}:0"
        return tf.graph_util.import_graph_def(part, input_map=inputs, return_elements=[output], name="inner")[0]


def look_inside(node: Node) -> tuple[Node, ...]:
    """The chain inside a node's function, its source first; empty where it isn't one line of known datasets.

    Nodes that only pass elements on are left out: they are part of the next.
    """
    function = node.function.function
    if getattr(function, "graph", None) is None or not function.graph.outputs:
        return ()
    operations = _chain(function.graph.outputs[0].op)
    if not operations or operations[0] is None:
        return ()
    branch = " / ".join(part for part in (node.branch, node.kind) if part)
    chain: list[Node] = []
    source = None
    for operation in operations:
        kind = _KINDS[operation.type]
        reading = _reads(operation)
        if reading:  # a reader is a flat_map over the names of files
            kind, source, chain = reading, None, []
        last = operation is operations[-1]
        if kind in _PASSIVE and not last:
            continue
        spec = node.element_spec if last else _spec(operation)
        call = traced_call(operation)
        where, file = ("", "") if call is None else (call.where, call.file)
        named = kind in ("map", "filter", "flat_map", "interleave")
        made = call.made(kind) if named and call is not None else ""
        name = _name(operation, node.function._func, call) if named else kind
        inner = Inner(node.dataset, operation, source, spec)
        chain.append(Node(None, kind, (), name, where, file, made, branch, _parameters(operation, kind), inner=inner))
        source = operation
    return tuple(chain)


def _parameters(operation: Any, kind: str) -> dict[str, Any]:
    """A shuffle's size, where it is a constant, and whether it shuffles anew."""
    if kind != "shuffle":
        return {}
    size = tf.get_static_value(operation.inputs[1])
    parameters = {"reshuffle_each_iteration": bool(operation.get_attr("reshuffle_each_iteration"))}
    return parameters if size is None else {"buffer_size": int(size), **parameters}


def _nested(outer: Any, inputs: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
    kind = type(outer).__name__
    if kind == "_FlatMapDataset":
        return inputs.flat_map(function)
    if kind == "_InterleaveDataset":
        return inputs.interleave(function, outer._cycle_length, outer._block_length)
    deterministic = {"true": True, "false": False}.get(getattr(outer, "_deterministic", "default"))
    calls = getattr(outer, "_num_parallel_calls", outer._cycle_length)
    return inputs.interleave(function, outer._cycle_length, outer._block_length, calls, deterministic)


def _chain(operation: Any) -> list[Any]:
    """Operations on datasets from the source to the one given; ``[None]`` where they aren't one known line."""
    chain: list[Any] = []
    while True:
        if operation.type == "Identity":
            operation = operation.inputs[0].op
            continue
        if operation.type not in _KINDS:
            return [None]
        chain.append(operation)
        before = [tensor.op for tensor in operation.inputs if tensor.dtype.name == "variant"]
        if len(before) > 1:
            return [None]
        if not before:
            return chain[::-1]
        operation = before[0]


def _reads(operation: Any) -> str:
    """The kind of reader, where the operation is a reader's own flat_map; else empty."""
    if operation.type not in ("FlatMapDataset", "ParallelInterleaveDatasetV4", "LegacyParallelInterleaveDatasetV2"):
        return ""
    name = operation.get_attr("f").name
    if "read_one_file" not in name:
        return ""
    for function in operation.graph.as_graph_def().library.function:
        if function.signature.name == name:
            for node in function.node_def:
                if node.op.startswith(_READERS):
                    return _KINDS.get(node.op, "read")
    return ""


def _spec(operation: Any) -> Any:
    shapes = [tf.TensorShape(shape) for shape in operation.get_attr("output_shapes")]
    attributes = operation.node_def.attr
    types = operation.get_attr(next(n for n in ("output_types", "Toutput_types", "output_type") if n in attributes))
    specs = tuple(tf.TensorSpec(shape, dtype) for shape, dtype in zip(shapes, types, strict=True))
    return specs if len(specs) > 1 else specs[0]


def _name(operation: Any, outer: Any, call: UserCall | None) -> str:
    """What the user named it, the call that made a library's function do it, its function's name or text."""
    from tensorflow.core.framework import dataset_metadata_pb2

    if given := dataset_metadata_pb2.Metadata.FromString(operation.get_attr("metadata")).name:
        return str(given.decode())  # bytes
    if call is not None and call.inside(_KINDS[operation.type]):
        return call.name
    attribute = "predicate" if operation.type == "FilterDataset" else "f"
    traced = _TRACED.match(operation.get_attr(attribute).name)
    if traced is not None and traced[1] != "lambda":
        return traced[1]
    return "<lambda>" if call is None else _lambda(outer, call)


def _lambda(outer: Any, call: UserCall) -> str:
    """The text of a lambda inside a function: the only one on the call's line, else that line from its first one on."""
    inside = [code for code in nested_codes(outer) if code.co_name == "<lambda>" and code.co_firstlineno == call.line]
    text = lambda_text(inside[0]) if len(inside) == 1 else "<lambda>"
    written = re.search(r"\blambda\b[^'\"]*:.*", linecache.getline(call.file, call.line))
    return trimmed(written[0]) if text == "<lambda>" and written else text
