"""A dataset built again with clocks around its functions."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from greenload.backends.native import op
from greenload.backends.native.counters import NamedCounter
from greenload.profiling.in_place.definitions import definition_of
from greenload.profiling.in_place.inner import called_for_elements, clocked, makes_datasets, refusal
from greenload.profiling.in_place.states import has_state, state_of
from greenload.profiling.in_place.threads import note_of
from greenload.profiling.in_place.watched import Watched, WatchedStep
from greenload.profiling.tfdata.graph import DALI_NODE, FILE_READERS, Node, file_reader
from greenload.profiling.tfdata.rebuild import Builder, Functions, traced_function
from greenload.system.frameworks import tf
from greenload.system.work import Work

_PER_ELEMENT = ("_map_func", "_predicate", "_scan_func", "_key_func", "_reduce_func")
"""Attributes that hold functions which are called for each element, or each group of them."""
_NUMBERS = itertools.count()
"""Of datasets with clocks, in this process: their counters' names."""
_NO_FUNCTION = "no function: its work is in the hand-over"
_SNAPSHOT = "the snapshot behind it knows its files by the functions before it, which a clock would change"
_BEHIND = "it is part of what greenload can't build again"
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
        self.root = root
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
        before = _first_of_each([pair for node in watched_before(root) for pair in steps_before(node)])
        steps = {node: self._step(node) or before.get(node) for node in root.nodes()}
        self.steps: Mapping[Node, WatchedStep] = {node: step for node, step in steps.items() if step is not None}
        """Those that have a clock, in the order of the data."""
        self.includes = tuple(node.dataset.watched for node in watched_before(root))
        """What was watched in it already."""
        shown = [node for node in root.nodes() if not node.hidden and node not in self.steps]
        self.unwatched: Mapping[str, str] = {node.name: self._reason(node) for node in shown}
        """What has no clock, and why, by name."""

    def telling(self) -> Mapping[Node, WatchedStep]:
        """The steps whose calls are those of one node: not of a dataset that stands in several places."""
        places = Counter(id(node.dataset) for node in self.root.nodes() if node.inner is None)
        held = {node: node.dataset if node.inner is None else node.inner.outer for node in self.steps}
        return {node: step for node, step in self.steps.items() if places[id(held[node])] == 1}

    def left_out(self, pipeline: Node) -> str:
        """Why a pipeline's dataset with clocks isn't part of this one, which has the given one instead; else empty."""
        return self._reasons.get(pipeline, "")

    def _sharing(self, functions: Functions) -> Any:
        builder = Builder(None, functions=functions, state=lambda dataset: self._states[id(dataset)])
        return builder.build(self._to_build(self.root))

    def _to_build(self, node: Node) -> Node:
        """The part of a tree that has to be built again; the rest stands in it as it is."""
        as_it_is = replace(node, kind="as it is", inputs=(), known=False)
        if node.kind == "watched" or is_pipeline(node):
            return as_it_is
        if not (node.known or node.kind == "selector"):
            reason = f"the {node.kind} behind it can't be built again"
            self._reasons |= {before: reason for before in node.nodes() if is_pipeline(before)}
            return as_it_is
        if not any(_calls(before) or is_pipeline(before) for before in node.nodes()):
            return as_it_is
        if node.kind == "snapshot":
            self._reasons |= {one: _SNAPSHOT for one in node.nodes() if is_pipeline(one) or _functions(one)}
            return as_it_is
        if has_state(node):
            try:
                self._states[id(node.dataset)] = state_of(node)
            except ValueError as error:
                reason = f"the {node.kind} behind it can't be built again: {error}"
                self._reasons |= dict.fromkeys(node.nodes(), reason)
                return as_it_is
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

    def _first(self, node: Node) -> Node:
        """The first node of the dataset of a node, which may stand in several places."""
        if node.inner is None:
            return self._nodes.get(id(node.dataset), node)
        inside = self._nodes[id(node.inner.outer)].looked
        return next(one for one in inside if one.inner.operation.name == node.inner.operation.name)

    def _reason(self, node: Node) -> str:
        twin = self._first(node)
        if twin is not node and twin in self.steps:
            return f"it is the same dataset as {twin.name}, which counts for both"
        if node.kind in _REASONS or node in self._reasons:
            return _REASONS.get(node.kind) or self._reasons[node]
        if not node.known:
            return f"a {type(node.dataset).__name__}, which greenload can't build again"
        functions = _functions(node)
        refused = [reason for function in functions if (reason := refusal(function))]
        if functions and _takes_dataset(node):
            return "its function gives a dataset that was made outside of it: watch that one itself"
        return (refused or ([_BEHIND] if functions else [_NO_FUNCTION]))[0]


def is_pipeline(node: Node) -> bool:
    """Whether it stands for a dataset of ``load`` that has clocks of its own."""
    own = node.kind != "watched" and node.inner is None
    return own and isinstance(getattr(node.dataset, "watched", None), Watched)


def _datasets(node: Node) -> list[Any]:
    """TensorFlow's objects that hold the functions of a node."""
    held = [node.dataset, file_reader(node.dataset), getattr(node.dataset, "_mapped_dataset", None)]
    return [dataset for dataset in held if dataset is not None]


def _calls(node: Node) -> bool:
    """Whether a node calls a function of the user's for its elements."""
    if node.inner is not None or node.kind in FILE_READERS:
        return False
    return any(hasattr(dataset, attribute) for dataset in _datasets(node) for attribute in _PER_ELEMENT)


def _functions(node: Node) -> list[Any]:
    """The ``FunctionDef`` of each function of the user's that a node calls for its elements."""
    if node.inner is not None:
        return called_for_elements(node.inner.operation.node_def)
    held = [
        (dataset, attribute)
        for dataset in (_datasets(node) if _calls(node) else ())
        for attribute in _PER_ELEMENT
        if hasattr(dataset, attribute)
    ]
    return [definition_of(traced_function(dataset, attribute)) for dataset, attribute in held]


def _takes_dataset(node: Node) -> bool:
    """Whether the function of a node uses a dataset that was made outside of it."""
    function = node.function if node.inner is None else None
    return function is not None and any(tensor.dtype == tf.variant for tensor in function.function.captured_inputs)


def _reader(counters: Sequence[NamedCounter]) -> Callable[[], Work]:
    def read() -> Work:
        return sum((counter.read() for counter in counters), Work())

    return read


def watched_before(root: Node) -> list[Node]:
    """The nodes of datasets that were watched already."""
    return [node for node in root.nodes() if node.kind == "watched"]


def _first_of_each(pairs: Sequence[tuple[Node, WatchedStep]]) -> dict[Node, WatchedStep]:
    """Steps by node, each counter's by the first node alone: the same dataset may stand in several places."""
    firsts: dict[frozenset[int], Node] = {}
    return {node: step for node, step in pairs if firsts.setdefault(step.clocks, node) is node}


def steps_before(watched: Node) -> list[tuple[Node, WatchedStep]]:
    """The steps of a dataset that was watched already, by the nodes of this tree, and as these are called."""
    clocks = watched.dataset.clocks
    pairs = zip(watched.inputs[0].nodes(), clocks.root.nodes(), strict=True)  # two walks of one dataset
    return [
        (mine, replace(clocks.steps[theirs], name=mine.name, branch=mine.branch))
        for mine, theirs in pairs
        if theirs in clocks.steps
    ]
