"""Rows of arrays in memory, fetched a batch at a time by their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from greenload.optimization.dataset_changes import Change, Facts, again, at
from greenload.optimization.dataset_moves import BETWEEN, batch_of, text_of
from greenload.optimization.dataset_nodes import Made, TreeBuilder, lines, made_node
from greenload.profiling.tfdata.graph import Node
from greenload.system.frameworks import tf


def rows_of_arrays(root: Node, facts: Facts) -> Iterator[Change]:
    """Arrays in memory: shuffle the numbers of their rows, and fetch those of a batch at once."""
    found: list[tuple[str, Node]] = []
    for line in lines(root):
        source = line[0]
        if source.kind != "from_tensor_slices" or source.dataset is None or source.name in facts.shared:
            continue
        batch = next((node for node in line[1:] if node.kind not in BETWEEN), None)
        if batch is None or batch.kind != "batch" or batch.name in facts.shared or batch_of(batch) is None:
            continue
        tensors = source.dataset._tensors
        if any(tensor.dtype in (tf.variant, tf.resource) for tensor in tensors) or not tensors[0].shape[0]:
            continue
        between = line[1 : line.index(batch)]
        if any(again(node) is None for node in between):
            continue
        found.append((batch.name, source))
    if not found:
        return
    names = " and ".join(source.row or source.name for _, source in found)

    def apply(tree: Node) -> Node | None:
        changed: Node | None = tree
        for name, source in found:
            changed = None if changed is None else at(name, partial(_fetched, source=source.name))(changed)
        return changed

    yield Change(
        f"rows: {names}",
        f"Fetch the rows of {names} a batch at a time",
        "write tf.data.Dataset.range(len(x)) for from_tensor_slices(x), shuffle and batch that, then"
        " .map(lambda rows: tf.gather(x, rows)) behind the batch, x a tensor: rows in memory are then copied once",
        apply,
    )


def _fetched(batch: Node, source: str) -> Node | None:
    """A batch of rows that are fetched by their numbers."""
    line = lines(batch)[0]
    arrays = line[0]
    make_batch = batch_of(batch)
    if arrays.name != source or make_batch is None:
        return None
    tensors, count = arrays.dataset._tensors, int(arrays.dataset._tensors[0].shape[0])
    numbers = tf.TensorSpec((), tf.int64)
    made = Made(lambda _, __: tf.data.Dataset.range(count), numbers, f"tf.data.Dataset.range({count})", "row numbers")
    top = made_node("range", arrays.name, (), made, arrays)
    for node in line[1:-1]:
        make = again(node)
        if make is None:
            return None
        top = made_node(node.kind, node.name, [top], Made(make, numbers, text_of(node), again=True), node)
    top = made_node("batch", f"{batch.name} of row numbers", [top], Made(make_batch, numbers, text_of(batch)), batch)
    element = arrays.dataset.element_spec

    def fetch(_: TreeBuilder, inputs: Sequence[Any]) -> Any:
        def rows(numbers: Any) -> Any:
            from tensorflow.python.data.util import structure

            spec = tf.nest.map_structure(lambda one: one._batch(None), element)
            return structure.from_compatible_tensor_list(spec, [tf.gather(tensor, numbers) for tensor in tensors])

        return inputs[0].map(tf.autograph.experimental.do_not_convert(rows), synchronous=True)

    text = "map(lambda rows: tf.nest.map_structure(lambda array: tf.gather(array, rows), x), synchronous=True)"
    made = Made(fetch, batch.element_spec, text, "x: the arrays")
    return made_node("fetch", batch.name, [top], made, batch)
