"""The datasets that a process iterates, as what is watched: their steps with the clocks that their functions have."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from greenload.errors import UsageError
from greenload.loading.dataset import tell_loaded
from greenload.loading.iterate import Batches
from greenload.profiling.in_place.all_functions import AllFunctions, ClockedFunction
from greenload.profiling.in_place.clocks import steps_before, watched_before
from greenload.profiling.in_place.definitions import definition_of
from greenload.profiling.in_place.flow import SampleCount, samples_of
from greenload.profiling.in_place.inner import called_functions
from greenload.profiling.in_place.kinds import TENSORFLOW, Kind, Step, own_clocks, steps_together, watched_kinds
from greenload.profiling.in_place.nested import NestedDatasets, branch_inside
from greenload.profiling.in_place.pipelines import PlanRows, rows_of_batches, rows_of_loaded
from greenload.profiling.in_place.publishing import publish
from greenload.profiling.in_place.unclocked import stripped, without_clocks
from greenload.profiling.in_place.watched import Watched, WatchedStep
from greenload.profiling.tfdata.graph import DALI_NODE, Node, function_wrappers
from greenload.profiling.tfdata.names import GREENLOAD, installed, numbered_names
from greenload.profiling.tfdata.units import sample_unit
from greenload.profiling.tfdata.walk import walk
from greenload.system.frameworks import tf
from greenload.text import error_line

_ELSEWHERE: Mapping[str, str] = {
    "data_service": "what is before it runs in the workers of tf.data's service",
    DALI_NODE: "its operators run inside DALI's node",
}
"""Kinds of nodes whose work is done where no clock of this process is, and why."""
_SERVICE = "data_service_ops.py"
"""Where TensorFlow has a dataset registered with a service."""
_NO_FUNCTION = "it calls no function: what it costs is in the rest"
_SYMBOLIC = "a tf.function got or made it, so that its steps, if they have clocks, are among those of other datasets"
_DEVICE = "PerDeviceGenerator"
"""In the kind of what a strategy makes for each device."""
_CONVERTED = "__autograph_generated_file"
"""Files of what AutoGraph makes of a user's function; the user's line is further out."""
_INSTALLED = "an installed program"
_OTHERS = "other datasets"
_LOADING = os.path.join(GREENLOAD, "loading", "")
"""Where ``load`` is."""
_LOAD = "greenload"
"""The kind of a node that stands for a dataset of ``load``."""


@dataclass(frozen=True)
class _Load:
    """A dataset of ``load``, or part of one that is iterated."""

    rows: PlanRows
    functions: Sequence[ClockedFunction]
    """Of its rows."""


@dataclass
class Iterated:
    """Takes down which datasets are iterated, and where.

    Args:
        functions: knows the clocks of their functions.
    """

    functions: AllFunctions
    failures: dict[str, str] = field(default_factory=dict)
    """Datasets that couldn't be looked into, by place, and why."""

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._nested = NestedDatasets()
        self._kinds: dict[Any, Kind] = {}
        self._of_dataset: weakref.WeakKeyDictionary[Any, Kind] = weakref.WeakKeyDictionary()
        self._loads: weakref.WeakKeyDictionary[Any, _Load] = weakref.WeakKeyDictionary()
        self._own_functions: dict[frozenset[int], ClockedFunction] = {}
        """What stands for steps with clocks of their own, by these: watched by the script, or of ``load``."""
        self._own: dict[int, Watched] = {}
        """Of datasets that the script watches itself."""
        self._first_kind: dict[ClockedFunction, Kind] = {}
        """Where a function was seen first."""
        self._kept: Sequence[Watched] = ()
        """Holds what others may follow, while the process runs."""

    def patch(self, dataset: Any) -> None:
        """Begin: ``dataset`` is TensorFlow's class ``DatasetV2``.

        Whatever consumes a dataset, as an iterator, ``reduce``, or a strategy, has TensorFlow's debug options applied
        to it first. What goes to other processes has no clocks.
        """
        original, serialized = dataset._apply_debug_options, dataset._as_serialized_graph

        def noted(dataset: Any) -> Any:
            try:
                if sys._getframe(1).f_code.co_filename.endswith(_SERVICE):
                    dataset = without_clocks(dataset)
                else:
                    self._note(dataset, sys._getframe(1).f_locals.get("self"))
            except Exception as error:  # the script doesn't depend on it
                self.failures.setdefault(_place(), f"its steps can't be named: {error_line(error)}")
            return original(dataset)

        def as_serialized_graph(*args: Any, **kwargs: Any) -> Any:
            graph = serialized(*args, **kwargs)
            return tf.constant(stripped(graph.numpy())) if hasattr(graph, "numpy") else graph

        dataset._apply_debug_options, dataset._as_serialized_graph = noted, as_serialized_graph
        self._nested.patch(dataset)
        tell_loaded(self._nested.note_loaded)

    def watched(self) -> Sequence[Watched]:
        """What was iterated so far, in its order; datasets that have functions in common are one.

        The last are functions that were called though nobody saw their datasets iterated.
        """
        with self._lock:
            own = self._own.values()
            groups = watched_kinds(list(self._kinds.values()), own, final=True)
            parts = {part for one in (*groups, *own) for part in one.includes}
            found = [*groups, *(one for one in own if one not in parts)]
            seen = {function for kind in self._kinds.values() for function in kind.functions()}
        others = [one for one in self.functions.all() if one not in seen and TENSORFLOW not in one.file]
        called = {(one.name, "function", one.where, ""): [one] for one in others if one.counter.read().calls}
        return [*found, Watched(_OTHERS, steps_together([called]))] if called else found

    def unwatched(self) -> Mapping[str, str]:
        """What of the datasets has no clock, and why, by the dataset's place or the step's name."""
        with self._lock:
            found = {name: why for kind in self._kinds.values() for name, why in kind.unwatched.items()}
            return found | self.failures

    def _note(self, dataset: Any, consumer: Any) -> None:
        """Take down that a dataset is consumed, where it is an iterator's that runs eagerly with it."""
        iterators = [consumer] if hasattr(consumer, "_next_internal") and tf.executing_eagerly() else []
        with self._lock:
            own, kind = getattr(dataset, "watched", None), self._of_dataset.get(dataset)
            if kind is None and isinstance(own, Watched):
                own.iterators.update(iterators)
                if own.number not in self._own:
                    self._own[own.number] = own
                    self._publish()
                return
            if kind is None:
                kind = self._of_dataset[dataset] = self._kind(dataset)
            elif isinstance(own, Watched) and own not in kind.includes:  # since it was iterated first
                kind.includes = (*kind.includes, own)
                self._publish()
            kind.iterations += 1
            kind.iterators.update(iterators)

    def _kind(self, dataset: Any) -> Kind:
        place, caller = _place_and_caller()
        steps: dict[Step, list[ClockedFunction]] = {}
        unwatched: dict[str, str] = {}
        root, loads = self._root(dataset, place, unwatched), dict[Node, _Load]()
        counted: tuple[Any, ...] = ()
        if root is not None:
            root, loads = self._with_loads(root)
            kinds = {node.kind: node for node in root.nodes()}
            if any(_DEVICE in kind for kind in kinds):  # a strategy's, on what a dataset that is known gives
                return Kind(place, "", {}, {})
            self._note_own(root)
            found = _steps_of(root, self.functions, loads, self._own_functions)
            steps = {step: functions for _, step, functions in found}
            counted = _counted(root, found, loads)
            unwatched = {name: why for load in loads.values() for name, why in load.rows.unwatched.items()}
            unwatched |= {node.name: _ELSEWHERE[kind] for kind, node in kinds.items() if kind in _ELSEWHERE}
            if not steps and not unwatched:
                unwatched[place] = _SYMBOLIC if "VariantDataset" in kinds else _NO_FUNCTION
        structure = (place, () if root is None else _structure(root, loads))
        own = [] if root is None else _own_in(root)
        return self._known(structure, Kind(place, caller, {}, unwatched, *counted), steps, own)

    def note_batches(self, batches: Batches) -> None:
        """Take down batches of ``iterate``; those of tf.data are seen as its dataset is."""
        try:
            if batches.loaded is None:
                with self._lock:
                    self._note_batches(batches)
        except Exception as error:  # the script doesn't depend on it
            self.failures.setdefault(_place(), f"its steps can't be named: {error_line(error)}")

    def _note_batches(self, batches: Batches) -> None:
        place, caller = _place_and_caller()
        load = self._load(rows_of_batches(batches))
        steps = {
            (one.name, one.kind, one.where, ""): [own] for one, own in zip(load.rows.steps, load.functions, strict=True)
        }
        kind = Kind(place, caller, {}, dict(load.rows.unwatched), load.rows.samples, "row")
        self._known((place, *steps), kind, steps, []).iterations += 1

    def _known(
        self, structure: Any, kind: Kind, steps: Mapping[Step, list[ClockedFunction]], own: Sequence[Watched]
    ) -> Kind:
        """The kind of a dataset that is seen for the first time: one that is known has its functions, too.

        Args:
            structure: what all datasets of the kind have in common.
            kind: as it is if it is new, without steps.
            steps: of the dataset.
            own: what the script itself watches in it.
        """
        new = structure not in self._kinds
        kind = self._kinds.setdefault(structure, kind)
        kind.datasets += 1
        kind.includes = tuple(dict.fromkeys([*kind.includes, *own]))
        shared = False
        for step, functions in steps.items():
            known = kind.steps.setdefault(step, [])
            known += (added := [function for function in functions if function not in known])
            shared |= bool(own_clocks(added)) or any(
                self._first_kind.setdefault(one, kind) is not kind for one in added
            )
        if (new or shared) and kind.steps:
            self._publish()
        return kind

    def _publish(self) -> None:
        """Tell what there is by now, each function's work in one row."""
        self._kept = watched_kinds(list(self._kinds.values()), self._own.values())
        publish()

    def _with_loads(self, root: Node) -> tuple[Node, dict[Node, _Load]]:
        """A tree whose datasets of ``load`` are a node each, and these."""
        loads: dict[Node, _Load] = {}

        def changed(node: Node) -> Node:
            loaded = None if node.inner is not None else getattr(node.dataset, "greenload_loaded", None)
            if loaded is None:
                inside = [] if node.inner is not None else self._nested.taken(node)
                made = self._nested.made(node)
                leaves = [Node(None, _LOAD, hidden=True, branch=branch_inside(node)) for _ in made]
                loads.update(zip(leaves, map(self._load, made), strict=True))
                return replace(node, inputs=(*map(changed, [*node.inputs, *inside]), *leaves))
            one = replace(node, kind=_LOAD, inputs=(), looked=(), hidden=True)
            loads[one] = self._loads.get(node.dataset) or self._load(rows_of_loaded(node.dataset.greenload_loaded))
            self._loads[node.dataset] = loads[one]
            return one

        return changed(root), loads

    def _load(self, rows: PlanRows) -> _Load:
        return _Load(rows, [self._function_of(step) for step in rows.steps])

    def _function_of(self, step: WatchedStep) -> ClockedFunction:
        """A step with clocks of its own in place of a function: one, wherever it is met."""
        function = ClockedFunction(step, step.name, step.where, "", step.note)
        return self._own_functions.setdefault(step.clocks, function)

    def _note_own(self, root: Node) -> None:
        """Take down the steps of what the script itself watches in a dataset."""
        for node in watched_before(root):
            for _, step in steps_before(node):
                self._function_of(step)

    def _root(self, dataset: Any, place: str, unwatched: dict[str, str]) -> Node | None:
        # A loop in a tf.function puts its own nodes behind the user's dataset.
        while tf.is_symbolic_tensor(dataset._variant_tensor) and len(dataset._inputs()) == 1:
            dataset = dataset._inputs()[0]
        if tf.is_symbolic_tensor(dataset._variant_tensor):
            if not _is_load():
                unwatched[place] = _SYMBOLIC
            return None
        try:
            with tf.init_scope():  # nothing is added to the graph of a function that iterates it
                return walk(dataset)
        except UsageError as error:
            unwatched[place] = f"its steps can't be named: {error}"
        return None


def _structure(root: Node, loads: Mapping[Node, _Load]) -> tuple[Any, ...]:
    """What datasets have in common whose figures are added up."""
    nodes = tuple((node.kind, node.name, node.where, node.parameters.get("batch_size")) for node in root.nodes())
    return nodes, *((step.name, step.kind) for load in loads.values() for step in load.rows.steps)


def _own_in(root: Node) -> list[Watched]:
    """What the script itself watches in a dataset."""
    found = [getattr(node.dataset, "watched", None) for node in root.nodes() if node.kind in ("watched", _LOAD)]
    return [own for own in found if isinstance(own, Watched)]


def _steps_of(
    root: Node, functions: AllFunctions, loads: Mapping[Node, _Load], own: Mapping[frozenset[int], ClockedFunction]
) -> list[tuple[Node, Step, list[ClockedFunction]]]:
    """What has clocks in a dataset, as steps, each with its functions."""
    found, steps = _functions_of(root, functions), []
    for watched in watched_before(root):  # whose functions have its clocks
        found = {node: called for node, called in found.items() if node not in set(watched.nodes())}
        found |= {node: [own[step.clocks]] for node, step in steps_before(watched)}
    for node in root.nodes():
        if node in loads:
            load = loads[node]
            for row, function in zip(load.rows.steps, load.functions, strict=True):
                steps.append((node, (row.name, row.kind, row.where, node.branch), [function]))
        elif node in found:
            called = list(dict.fromkeys(found[node]))
            steps.append((node, (node.name, node.kind, node.where, node.branch), called))
    names = numbered_names([step[0] for _, step, _ in steps])
    return [(node, (name, *step[1:]), called) for name, (node, step, called) in zip(names, steps, strict=True)]


def _counted(
    root: Node, steps: Sequence[tuple[Node, Step, list[ClockedFunction]]], loads: Mapping[Node, _Load]
) -> tuple[SampleCount | None, str]:
    """What counts the samples of a dataset, and what a sample is."""
    if len(loads) != 1:
        places = Counter(id(node.dataset) for node in root.nodes() if node.inner is None)
        held = {node: node.dataset if node.inner is None else node.inner.outer for node, _, _ in steps}
        telling = {node: name for node, (name, *_), _ in steps if places[id(held[node])] == 1}
        return samples_of(root, telling), sample_unit(root).name
    [(node, load)] = loads.items()
    unchanged = [name for one, (name, *_), _ in steps if one is node] == [step.name for step in load.rows.steps]
    return (load.rows.samples if unchanged else None), "row"


def _functions_of(root: Node, functions: AllFunctions) -> dict[Node, list[ClockedFunction]]:
    """The nodes of a dataset whose functions have clocks, with these functions."""
    found: dict[Node, list[ClockedFunction]] = {}
    seen: set[int] = set()
    for node in root.nodes():
        if node.dataset is None or node.kind == _LOAD or id(node.dataset) in seen:
            continue
        seen.add(id(node.dataset))
        names = {inner.inner.operation.name: inner for inner in node.looked}
        for wrapper in function_wrappers(node.dataset):
            for called, operation in _clocked_functions(definition_of(wrapper.function), functions):
                found.setdefault(names.get(operation, node), []).append(called)
    return found


def _clocked_functions(definition: Any, functions: AllFunctions) -> Iterator[tuple[ClockedFunction, str]]:
    """The functions with clocks that a function is, or has called; and by which of its operations."""
    if (known := functions.of(definition)) is not None:
        yield known, ""
        return
    for operation, called in called_functions(definition):
        for known, _ in _clocked_functions(called, functions):
            yield known, operation


def _place() -> str:
    """``"train.py:31"``: the innermost line that runs now and isn't an installed package's."""
    return next(_user_lines(), _INSTALLED)


def _place_and_caller() -> tuple[str, str]:
    """That line, and the one that called its function; empty for none."""
    place, caller, *_ = [*itertools.islice(_user_lines(), 2), "", ""]
    return place or _INSTALLED, caller


def _is_load() -> bool:
    """Whether what runs now is part of a dataset of ``load``, as DALI's node takes what is before it."""
    frame: Any = sys._getframe(1)
    while frame is not None and installed(frame.f_code.co_filename):
        if frame.f_code.co_filename.startswith(_LOADING):
            return True
        frame = frame.f_back
    return False


def _user_lines() -> Iterator[str]:
    """The lines of the user's program that run now, the innermost first."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not installed(file) and not os.path.basename(file).startswith(_CONVERTED):
            yield f"{os.path.basename(file)}:{frame.f_lineno}"
        frame = frame.f_back
