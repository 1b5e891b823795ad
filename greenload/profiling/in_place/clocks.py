"""A dataset built again with clocks around its functions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from greenload.backends.native import op
from greenload.backends.native.counters import NamedCounter
from greenload.profiling.in_place.definitions import definition_of
from greenload.profiling.in_place.inner import clocked, makes_datasets
from greenload.profiling.in_place.states import has_state, state_of
from greenload.profiling.in_place.threads import note_of
from greenload.profiling.in_place.watched import WatchedStep
from greenload.profiling.tfdata.graph import DALI_NODE, FILE_READERS, Node, file_reader
from greenload.profiling.tfdata.rebuild import Builder, Functions, traced_function
from greenload.system.work import Work

_PER_ELEMENT = ("_map_func", "_predicate", "_scan_func", "_key_func", "_reduce_func")
"""Attributes that hold functions which are called for each element, or each group of them."""
_NUMBERS = itertools.count()
"""Of datasets with clocks, in this process: their counters' names."""
_NO_FUNCTION = "no function: its work is in the hand-over"
_REASONS: Mapping[str, str] = {
    "data_service": "tf.data service runs it in other processes",
    DALI_NODE: "DALI runs it on threads of its own",
    "selector": "TensorFlow's own functions choose, which have no clock",
}


class Clocks:
    """A dataset with clocks, of the same elements, and what they count.

    Only what calls a function, and what is behind that, is built again: the rest is the given dataset's own.

    Args:
        root: the dataset's tree.
        build: builds a copy with a state of its own, with the functions that it is given; None: what is built again
            shares the state of the given dataset's shuffles and caches.
    """

    def __init__(self, root: Node, build: Callable[[Functions], Any] | None = None) -> None:
        op.operations()
        self._root = root
        self._number = next(_NUMBERS)
        self._counters: dict[Node, list[NamedCounter]] = {}
        self._notes: dict[Node, str] = {}
        self._functions: list[Any] = []
        self._states: dict[int, Any] = {}
        self._reasons: dict[Node, str] = {}
        self._nodes: dict[int, Node] = {}
        for node in root.nodes():
            for dataset in _datasets(node):
                self._nodes.setdefault(id(dataset), node)
        self.dataset = (build or self._sharing)(self._function)
        """With clocks."""
        before = {mine: step for node in watched_before(root) for mine, step in steps_before(node)}
        steps = {node: self._step(node) or before.get(node) for node in root.nodes()}
        self.steps: Mapping[Node, WatchedStep] = {node: step for node, step in steps.items() if step is not None}
        """Those that have a clock, in the order of the data."""
        self.includes = tuple(node.dataset.watched for node in watched_before(root))
        """What was watched in it already."""
        shown = [node for node in root.nodes() if not node.hidden and node not in self.steps]
        self.unwatched: Mapping[str, str] = {node.name: self._reason(node) for node in shown}
        """What has no clock, and why, by name."""

    def _sharing(self, functions: Functions) -> Any:
        builder = Builder(None, functions=functions, state=lambda dataset: self._states[id(dataset)])
        return builder.build(self._to_build(self._root))

    def _to_build(self, node: Node) -> Node:
        """The part of a tree that has to be built again; the rest stands in it as it is."""
        whole = node.kind == "watched" or not (node.known or node.kind == "selector")
        if whole or not any(map(_calls, node.nodes())):
            return replace(node, kind="as it is", inputs=(), known=False)
        if has_state(node):
            try:
                self._states[id(node.dataset)] = state_of(node)
            except ValueError as error:
                reason = f"the {node.kind} behind it can't be built again: {error}"
                self._reasons |= dict.fromkeys(node.nodes(), reason)
                return replace(node, kind="as it is", inputs=(), known=False)
        return replace(node, inputs=tuple(map(self._to_build, node.inputs)))

    def _function(self, dataset: Any, attribute: str) -> Any:
        function, node = traced_function(dataset, attribute), self._nodes[id(dataset)]
        if attribute not in _PER_ELEMENT or (node.hidden and not makes_datasets(definition_of(function))):
            return function
        inner = {one.inner.operation.name: one for one in node.looked}

        def counter_of(operation: Any, definition: Any) -> str:
            return self._counter(node if operation is None else inner.get(operation.name, node), definition)

        self._functions.append(clocked(function, counter_of))  # which lives as long as the dataset
        return self._functions[-1]

    def _counter(self, node: Node, definition: Any) -> str:
        self._notes[node] = self._notes.get(node) or note_of(definition)
        name = f"watch/{self._number}/{sum(map(len, self._counters.values()))}"
        self._counters.setdefault(node, []).append(NamedCounter(name))
        return name

    def _step(self, node: Node) -> WatchedStep | None:
        counters = self._counters.get(node)
        if not counters:
            return None
        return WatchedStep(node.name, node.kind, _reader(counters), node.where, node.branch, self._notes[node])

    def _reason(self, node: Node) -> str:
        twin = self._nodes.get(id(node.dataset), node)
        if twin is not node and twin in self.steps:
            return f"it is the same dataset as {twin.name}, which counts for both"
        if node.kind in _REASONS or node in self._reasons:
            return _REASONS.get(node.kind) or self._reasons[node]
        if not node.known:
            return f"a {type(node.dataset).__name__}, which greenload can't build again"
        if _calls(node):
            return "its function gives its arguments back, so tf.data doesn't call it"
        return _NO_FUNCTION


def _datasets(node: Node) -> list[Any]:
    """TensorFlow's objects that hold the functions of a node."""
    held = [node.dataset, file_reader(node.dataset), getattr(node.dataset, "_mapped_dataset", None)]
    return [dataset for dataset in held if dataset is not None]


def _calls(node: Node) -> bool:
    """Whether a node calls a function of the user's for its elements."""
    if node.inner is not None or node.kind in FILE_READERS:
        return False
    return any(hasattr(dataset, attribute) for dataset in _datasets(node) for attribute in _PER_ELEMENT)


def _reader(counters: Sequence[NamedCounter]) -> Callable[[], Work]:
    def read() -> Work:
        return sum((counter.read() for counter in counters), Work())

    return read


def watched_before(root: Node) -> list[Node]:
    """The nodes of datasets that were watched already."""
    return [node for node in root.nodes() if node.kind == "watched"]


def steps_before(watched: Node) -> list[tuple[Node, WatchedStep]]:
    """The steps of a dataset that was watched already, by the nodes of this tree, and as these are called."""
    clocks = watched.dataset.clocks
    pairs = zip(watched.inputs[0].nodes(), clocks._root.nodes(), strict=True)  # two walks of one dataset
    return [
        (mine, replace(clocks.steps[theirs], name=mine.name, branch=mine.branch))
        for mine, theirs in pairs
        if theirs in clocks.steps
    ]
