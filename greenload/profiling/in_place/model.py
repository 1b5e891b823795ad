"""What tf.data's own model says of iterators: elements, buffers, and the parallelism that autotune chose."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from greenload.system.frameworks import tf


@dataclass(frozen=True)
class ModelNode:
    """A node of the graph as TensorFlow optimised it, as ``MapAndBatch`` for a map and a batch: of all iterators."""

    name: str
    """Numbered where there are several of a kind: ``"ParallelMapV2"``, ``"ParallelMapV2 (2)"``, the last one first."""
    elements: int = 0
    """That it gave."""
    buffered_elements: int = 0
    """That it holds now."""
    buffered_bytes: int = 0
    """Of them; 0 where TensorFlow doesn't know."""
    wall_s: float = 0.0
    """Seconds it worked by the clock on the wall, with waiting for a processor or the interpreter."""
    parallelism: int | None = None
    """Calls at a time, as autotune chose them last; None where there is no such thing."""
    autotuned: bool = False
    """Whether `parallelism` is autotune's to choose."""

    def __add__(self, other: ModelNode) -> ModelNode:
        """Of two iterators; a parallelism is that of the one with more elements."""
        busy = max(self, other, key=lambda one: one.elements)
        return ModelNode(
            self.name,
            self.elements + other.elements,
            self.buffered_elements + other.buffered_elements,
            self.buffered_bytes + other.buffered_bytes,
            self.wall_s + other.wall_s,
            busy.parallelism,
            busy.autotuned,
        )


def model_of(iterators: Iterable[Any]) -> Mapping[str, ModelNode]:
    """What the model says of the iterators that are alive, together, by the names of nodes; the last node first.

    Keras makes more than one an epoch, and those that ended are gone: so these aren't sums of all that was done. Empty
    where there is none, or its dataset's options switch autotune off.

    Args:
        iterators: as `Watched.iterators`.
    """
    found: dict[str, ModelNode] = {}
    for iterator in list(iterators):
        for node in _nodes(iterator):
            found[node.name] = found[node.name] + node if node.name in found else node
    return found


def buffered_bytes(nodes: Mapping[str, ModelNode]) -> int:
    """Bytes that all nodes hold, as far as TensorFlow knows."""
    return sum(node.buffered_bytes for node in nodes.values())


def _nodes(iterator: Any) -> list[ModelNode]:
    try:
        text = tf.raw_ops.IteratorGetModelProto(iterator=iterator._iterator_resource).numpy()
    except (tf.errors.OpError, AttributeError):
        return []  # autotune is off, the iterator is gone, or it is none of tf.data's own
    nodes, counts, order = _proto().FromString(text).nodes, dict[str, int](), []
    queue = [key for key in (1,) if key in nodes] or sorted(nodes)[:1]
    for key in queue:  # grows while it is read
        node = nodes[key]
        queue += [below for below in node.inputs if below in nodes]
        if node.name == "Root":
            continue
        counts[node.name] = counts.get(node.name, 0) + 1
        name = node.name if counts[node.name] == 1 else f"{node.name} ({counts[node.name]})"
        order.append(_node(name, node))
    return order


def _node(name: str, node: Any) -> ModelNode:
    parallel = next((one for one in node.parameters if one.name in ("parallelism", "num_parallel_calls")), None)
    return ModelNode(
        name,
        node.num_elements,
        node.buffered_elements,
        node.buffered_bytes,
        node.processing_time / 1e9,
        None if parallel is None else int(parallel.value),
        parallel is not None and parallel.tunable,
    )


@functools.cache
def _proto() -> Any:
    from tensorflow.core.framework import model_pb2

    return model_pb2.ModelProto
