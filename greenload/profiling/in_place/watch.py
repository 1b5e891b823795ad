"""`watch`: the same dataset with a clock around each function that it calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from greenload.backends.native.counters import NamedCounter
from greenload.profiling.in_place.clocked import clocked
from greenload.profiling.in_place.inner import clocked_inside
from greenload.profiling.in_place.watched import Watched, WatchedStep
from greenload.profiling.tfdata.graph import NESTING, Node, file_reader
from greenload.profiling.tfdata.rebuild import Builder, Functions, traced_function
from greenload.profiling.tfdata.walk import walk
from greenload.public import public
from greenload.system.frameworks import tf
from greenload.system.work import Work

_PER_ELEMENT = frozenset({"_map_func", "_predicate", "_scan_func", "_key_func", "_reduce_func"})
"""Attributes that hold functions which are called for each element, or each group of them."""
_NUMBERS = itertools.count()
"""Of datasets with clocks, in this process: their counters' names."""


@public
def watch(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same dataset with a clock around each function that it calls.

    Args:
        dataset: any ``tf.data.Dataset``.

    Returns:
        A dataset of the same elements, in the same order, with the same options. Its ``watched`` tells what its steps
        have done so far, in all iterators together.
    """
    clocks = Clocks(walk(dataset))
    return _watched_class()(dataset, clocks)


class Clocks:
    """A dataset built again with clocks around its functions.

    Args:
        root: the dataset's tree.
        build: builds the dataset, with the functions that it is given; the dataset as the user wrote it if None.
    """

    def __init__(self, root: Node, build: Callable[[Functions], Any] | None = None) -> None:
        self._nodes: dict[int, Node] = {}
        for node in root.nodes():
            for dataset in (node.dataset, file_reader(node.dataset), getattr(node.dataset, "_mapped_dataset", None)):
                if dataset is not None:
                    self._nodes.setdefault(id(dataset), node)
        self._number = next(_NUMBERS)
        self._counted: list[tuple[Node, NamedCounter]] = []
        made = build or (lambda functions: Builder(None, functions=functions).build(root))
        self.dataset = made(self._function)
        """With clocks."""

    @property
    def steps(self) -> tuple[WatchedStep, ...]:
        """Those that have a clock."""
        of_node: dict[Node, list[NamedCounter]] = {}
        for node, counter in self._counted:
            of_node.setdefault(node, []).append(counter)
        return tuple(
            WatchedStep(node.name, node.kind, _reader(counters), node.where, node.branch)
            for node, counters in of_node.items()
        )

    def _function(self, dataset: Any, attribute: str) -> Any:
        function, node = traced_function(dataset, attribute), self._nodes[id(dataset)]
        if attribute not in _PER_ELEMENT:
            return function
        if node.kind in NESTING or node.kind == "from_generator":
            names = {inner.inner.operation.name: inner for inner in node.looked}
            return clocked_inside(function, lambda operation: self._inner(names, node, operation))
        return clocked(function, self._counter(node))

    def _inner(self, names: Mapping[str, Node], outer: Node, operation: Any) -> str:
        return self._counter(names.get(operation.name, outer))

    def _counter(self, node: Node) -> str:
        name = f"watch/{self._number}/{len(self._counted)}"
        self._counted.append((node, NamedCounter(name)))
        return name


def _reader(counters: list[NamedCounter]) -> Callable[[], Work]:
    def read() -> Work:
        return sum((counter.read() for counter in counters), Work())

    return read


def _watched_class() -> Any:
    from tensorflow.python.data.ops.dataset_ops import UnaryUnchangedStructureDataset

    class WatchedDataset(UnaryUnchangedStructureDataset):  # type: ignore[misc]
        """A dataset with clocks."""

        def __init__(self, dataset: Any, clocks: Clocks) -> None:
            self.watched = Watched("", clocks.steps)
            super().__init__(dataset, clocks.dataset._variant_tensor)

        def __iter__(self) -> Any:
            iterator = super().__iter__()
            self.watched.iterators.add(iterator)
            return iterator

    return WatchedDataset
