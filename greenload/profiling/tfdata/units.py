"""What one sample of a dataset is: a row of its batches, or an element; read from the graph, or as the user says.

Where nothing in the graph puts elements together, an element may still be a batch: a function, a generator or a file
may give one. The elements' shapes alone can rule that out (a label without an axis belongs to one sample); where they
don't, it is said that it can't be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from greenload.errors import UsageError
from greenload.profiling.tfdata.graph import BATCHING, DALI_NODE, JOINS, NESTING, Node
from greenload.system.frameworks import tf

_BATCHES = frozenset({*BATCHING, "MapAndBatchDataset"})
"""Kinds whose elements are batches of what is before them."""
_PARTS = frozenset({"Placeholder", "TensorDataset", "TensorSliceDataset"})
"""Operations that give the parts of one element, a window's or a tensor's: batches of these are sequences."""
_TENSOR_BATCHES = ("BatchDataset", "PaddedBatchDataset", "ParallelBatchDataset", "DenseToSparseBatchDataset",
                   "MapAndBatchDataset")  # fmt: skip


@dataclass(frozen=True)
class SampleUnit:
    """What is counted as one sample."""

    rows: bool
    """Whether the rows of each element are counted; else elements."""
    text: str
    """In words."""
    known: bool = True
    """Whether the graph, the shapes or the user say so; else an element was taken for one sample."""
    per_element: float = 1.0
    """Samples in an element, where elements are counted."""

    @property
    def name(self) -> str:
        """``"row"`` or ``"element"``."""
        return "row" if self.rows else "element"


def sample_unit(root: Node, given: float | str | None = None) -> SampleUnit:
    """What is counted as one sample of a dataset.

    Args:
        root: the dataset.
        given: samples in an element, or ``"rows"``, where the user says so.

    Raises:
        UsageError: rows are to be counted, and elements have none.
    """
    if isinstance(given, str):
        if all(rank == 0 for rank in ranks(root.element_spec)):
            raise UsageError(
                "samples_per_element='rows' counts the rows of elements, and those of this dataset have none: pass a "
                f"number, or leave it out; they are {root.element_spec}"
            )
        return SampleUnit(True, "one row of an element, as samples_per_element='rows' says: rows were counted")
    if given is not None:
        return SampleUnit(False, f"as samples_per_element says: {given:g} in each element of the dataset", True, given)
    if gives_batches(root):
        return SampleUnit(True, "one row of a batch: elements are batches, whose rows were counted")
    if _one_sample(_shapes(root.element_spec)):
        return SampleUnit(False, "one element of the dataset, which has no batches")
    return SampleUnit(
        False,
        "one element of the dataset, in which no batches were found; if each holds several samples, as where a "
        "function makes batches, say how many by samples_per_element=, or 'rows'",
        known=False,
    )


def gives_batches(node: Node) -> bool:
    """Whether elements of a node are batches of samples: more batching than unbatching on the way there.

    A chain inside an interleave counts, and what ``group_by_window`` makes of its windows, but not inside a
    ``flat_map`` of windows, whose batches are sequences.
    """
    return _depth(node) > 0 and any(shape.rank != 0 for shape in _shapes(node.element_spec))


def ranks(spec: Any) -> list[int | None]:
    """How many axes each tensor of an element has; None where that isn't known.

    Example:
        >>> ranks((tf.TensorSpec((None, 8)), tf.TensorSpec((None,))))
        [2, 1]
    """
    return [shape.rank for shape in _shapes(spec)]


def row_count(value: Any) -> Any:
    """How many rows a batch has, an int64 tensor: of its first tensor that has an axis."""
    for leaf in tf.nest.flatten(value):
        if isinstance(leaf, tf.RaggedTensor):
            return tf.cast(leaf.nrows(), tf.int64)
        if isinstance(leaf, tf.SparseTensor):
            return leaf.dense_shape[0]
        if isinstance(leaf, tf.Tensor) and leaf.dtype != tf.variant and leaf.shape.rank != 0:
            # A tensor of unknown rank may turn out to have no axis: it then is one row.
            return tf.concat([tf.shape(leaf, tf.int64), tf.ones(1, tf.int64)], 0)[0]
    return tf.constant(1, tf.int64)


def _depth(node: Node) -> int:
    """How often elements were put together: 0 for samples, 1 for batches."""
    depth = max((_depth(source) for source in _data(node)), default=0)
    if node.kind in _BATCHES:
        depth += 1
    elif node.kind == DALI_NODE:  # its batches of one need not have an axis for it
        depth = int(getattr(node.dataset, "_batch_size", 1) != 1) or depth
    elif node.kind == "rebatch":  # takes batches, and gives batches
        depth = max(depth, 1)
    elif node.kind == "unbatch":
        depth -= 1
    elif node.kind == "group_by_window":
        depth += _inside(node)[0]
    elif node.kind in NESTING:
        inside, sources = _inside(node)
        depth += inside if sources.isdisjoint(_PARTS) else 0
    return max(depth, 0)


def _data(node: Node) -> Sequence[Node]:
    """The inputs whose elements a node passes on: not what chooses between them, nor what counts them."""
    if node.kind in ("choose", "enumerate"):
        return node.inputs[1:]
    return node.inputs if node.kind in JOINS else node.inputs[:1]


def _inside(node: Node) -> tuple[int, set[str]]:
    """How often the function of a node puts elements together, and the types of the operations these come from."""
    function: Any = getattr(node.function, "function", None)
    if getattr(function, "graph", None) is None or not function.graph.outputs:
        return 0, set()
    return _of_operation(function.graph.outputs[0].op)


def _of_operation(operation: Any) -> tuple[int, set[str]]:
    before = [_of_operation(tensor.op) for tensor in operation.inputs if tensor.dtype.name == "variant"]
    if not before:
        return 0, {operation.type}
    depth = max(count for count, _ in before)
    sources = set[str]().union(*(types for count, types in before if count == depth))
    if operation.type.startswith("RebatchDataset"):  # takes batches, and gives batches
        return max(depth, 1), sources
    own = -1 if operation.type == "UnbatchDataset" else int(operation.type.startswith(_TENSOR_BATCHES))
    return max(depth + own, 0), sources


def _shapes(spec: Any) -> list[Any]:
    """The shapes of an element's tensors; one without an axis for what has no shape, as a dataset in an element."""

    def one(leaf: Any) -> Any:
        replicas = type(leaf).__name__ == "PerReplicaSpec"  # a tensor on each of a tf.distribute strategy's
        return tf.nest.flatten(leaf._component_specs)[0] if replicas else leaf

    return [tf.TensorShape(getattr(one(leaf), "shape", ())) for leaf in tf.nest.flatten(spec)]


def _one_sample(shapes: Sequence[Any]) -> bool:
    """Whether shapes rule out that an element holds several samples: not all share a first axis."""
    if any(shape.rank == 0 for shape in shapes):
        return True
    firsts = {shape[0] for shape in shapes if shape.rank is not None} - {None}
    return len(firsts) > 1 or not shapes
