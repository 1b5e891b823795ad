"""Datasets that functions of other datasets make, or use though they were made before: where they are found again."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from greenload.loading.dataset import Loaded
from greenload.loading.graph_clocks import made_in_datasets
from greenload.profiling.in_place.pipelines import PlanRows, rows_of_loaded
from greenload.profiling.tfdata.graph import Node, function_wrappers
from greenload.profiling.tfdata.walk import walk
from greenload.system.frameworks import tf

_TF_FUNCTION = "its dataset is made inside a tf.function"


class NestedDatasets:
    """Takes down which datasets are made, and inside which functions ``load`` makes one."""

    def __init__(self) -> None:
        self._by_variant: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._made_in: weakref.WeakKeyDictionary[Any, list[PlanRows]] = weakref.WeakKeyDictionary()

    def patch(self, dataset: Any) -> None:
        """Begin: ``dataset`` is TensorFlow's class ``DatasetV2``."""
        original, known = dataset.__init__, self._by_variant

        def noted(dataset: Any, variant_tensor: Any) -> None:
            original(dataset, variant_tensor)
            known[id(variant_tensor)] = dataset

        dataset.__init__ = noted

    def note_loaded(self, loaded: Loaded) -> None:
        """Take down what ``load`` makes, in all functions that are traced now."""
        if tf.executing_eagerly():
            return
        rows = rows_of_loaded(loaded, "" if made_in_datasets() else _TF_FUNCTION)
        graph = tf.compat.v1.get_default_graph()
        while graph is not None:
            self._made_in.setdefault(graph, []).append(rows)
            graph = getattr(graph, "outer_graph", None)

    def taken(self, node: Node) -> list[Node]:
        """The trees of datasets that the functions of a node use, though they were made outside of them."""
        captured = [tensor for one in _functions(node) for tensor in one.captured_inputs]
        found = [self._by_variant.get(id(tensor)) for tensor in captured]
        same = [
            one for one, tensor in zip(found, captured, strict=True) if getattr(one, "_variant_tensor", None) is tensor
        ]
        with tf.init_scope():
            return [_inside(node, walk(dataset)) for dataset in same]

    def made(self, node: Node) -> list[PlanRows]:
        """The rows of what ``load`` makes in the functions of a node."""
        return [rows for one in _functions(node) for rows in self._made_in.get(one.graph, ())]


def branch_inside(node: Node, branch: str = "") -> str:
    """The branch of what is inside the function of a node."""
    return " / ".join(part for part in (node.branch, node.kind, branch) if part)


def _functions(node: Node) -> Sequence[Any]:
    """The traced functions of a node, once each."""
    wrappers = {} if node.dataset is None else {id(one): one.function for one in function_wrappers(node.dataset)}
    return [one for one in wrappers.values() if hasattr(one, "captured_inputs") and hasattr(one, "graph")]


def _inside(node: Node, tree: Node) -> Node:
    inputs, looked = ([_inside(node, before) for before in nodes] for nodes in (tree.inputs, tree.looked))
    return replace(tree, branch=branch_inside(node, tree.branch), inputs=tuple(inputs), looked=tuple(looked))
