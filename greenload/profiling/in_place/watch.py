"""The same dataset with a clock around each function that it calls."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from greenload.backends.native.counters import NamedCounter
from greenload.profiling.in_place.clocked import clocked
from greenload.profiling.in_place.inner import clocked_inside
from greenload.profiling.tfdata.graph import NESTING, Node, file_reader
from greenload.profiling.tfdata.rebuild import Builder, traced_function
from greenload.profiling.tfdata.walk import walk
from greenload.system.frameworks import tf

_PER_ELEMENT = frozenset({"_map_func", "_predicate", "_scan_func", "_key_func", "_reduce_func"})
"""Attributes that hold functions which are called for each element, or each group of them."""
_NUMBERS = itertools.count()
"""Of watched datasets, in this process."""


@dataclass(frozen=True)
class ClockedFunction:
    """A function with a clock around it."""

    name: str
    """Of its row, as a profile of the dataset calls it."""
    where: str
    """``"train.py:31"``."""
    counter: str
    """The name that it counts under."""


class Watching:
    """Puts clocks around a dataset's functions.

    Args:
        root: the dataset's tree.
    """

    def __init__(self, root: Node) -> None:
        self._nodes: dict[int, Node] = {}
        for node in root.nodes():
            for dataset in (node.dataset, file_reader(node.dataset), getattr(node.dataset, "_mapped_dataset", None)):
                if dataset is not None:
                    self._nodes.setdefault(id(dataset), node)
        self._number = next(_NUMBERS)
        self.functions: list[ClockedFunction] = []
        """Those that have a clock."""
        self.held: list[NamedCounter] = []
        """Their counters, which are there for as long as these."""
        self.variant = Builder(None, functions=self._function).build(root)._variant_tensor

    def _function(self, dataset: Any, attribute: str) -> Any:
        function, node = traced_function(dataset, attribute), self._nodes[id(dataset)]
        if attribute not in _PER_ELEMENT:
            return function
        if node.kind in NESTING or node.kind == "from_generator":
            names = {inner.inner.operation.name: inner for inner in node.looked}
            return clocked_inside(function, lambda operation: self._inner(names, node, operation))
        return clocked(function, self._counter(node.name, node.where))

    def _inner(self, names: Mapping[str, Node], outer: Node, operation: Any) -> str:
        inner = names.get(operation.name, outer)
        return self._counter(inner.name, inner.where)

    def _counter(self, name: str, where: str) -> str:
        counter = f"watch/{self._number}/{len(self.functions)}"
        self.functions.append(ClockedFunction(name, where, counter))
        self.held.append(NamedCounter(counter))
        return counter


def watch(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same dataset with a clock around each function that it calls."""
    watching = Watching(walk(dataset))
    from tensorflow.python.data.ops.dataset_ops import UnaryUnchangedStructureDataset

    class WatchedDataset(UnaryUnchangedStructureDataset):  # type: ignore[misc]
        watched = watching

    return WatchedDataset(dataset, watching.variant)
