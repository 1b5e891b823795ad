"""What datasets keep between their iterators, shared with one built anew: a shuffle's seeds, a cache's elements."""

from __future__ import annotations

from typing import Any

from greenload.profiling.tfdata.graph import Node, file_reader
from greenload.system.frameworks import tf

_STATEFUL = ("_ShuffleDataset", "CacheDataset")
_MOST_BYTES = 512 << 20
"""Of tensors in front of a dataset up to which it is asked: TensorFlow copies them then, and can't beyond 2 GiB."""


def has_state(node: Node) -> bool:
    """Whether a node keeps something between its iterators, which one built anew has to share."""
    return type(node.dataset).__name__ in _STATEFUL


def state_of(node: Node) -> Any:
    """The handle of a shuffle's seeds or of a cache's elements, as its serialised graph tells it.

    Raises:
        ValueError: it can't be had.
    """
    from tensorflow.python.data.ops.options import ExternalStatePolicy

    if not _small_enough(node):
        raise ValueError(f"more than {_MOST_BYTES >> 20} MiB of tensors are before it")
    try:
        text = node.dataset._as_serialized_graph(external_state_policy=ExternalStatePolicy.IGNORE).numpy()
    except tf.errors.OpError as error:
        raise ValueError(f"TensorFlow can't write its graph: {error}") from None
    graph = tf.compat.v1.GraphDef.FromString(text)
    nodes = {node.name: node for node in graph.node}
    last = next(node for node in graph.node if node.op == "_Retval")
    for name in nodes[last.input[0].partition(":")[0]].input:
        value = nodes[name.partition(":")[0]].attr["value"].tensor
        if value.dtype == tf.resource.as_datatype_enum:
            return tf.io.parse_tensor(value.SerializeToString(), tf.resource)
    raise ValueError("its graph doesn't name what it keeps")


def _small_enough(node: Node) -> bool:
    """Whether what stands in front of a node may be copied."""
    tensors = [tensor for above in node.nodes() for tensor in getattr(file_reader(above.dataset), "_tensors", ())]
    return sum(_size(tensor) for tensor in tensors) <= _MOST_BYTES


def _size(tensor: Any) -> int:
    return int(tf.size(tensor, tf.int64)) * int(tensor.dtype.size or 1)
