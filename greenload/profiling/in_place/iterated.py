"""The datasets that a process iterates, as what is watched: their steps with the clocks that their functions have."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from greenload.errors import UsageError
from greenload.profiling.in_place.all_functions import AllFunctions, ClockedFunction
from greenload.profiling.in_place.definitions import definition_of
from greenload.profiling.in_place.flow import samples_of
from greenload.profiling.in_place.inner import called_functions
from greenload.profiling.in_place.pipelines import PlanRows, rows_in_process
from greenload.profiling.in_place.publishing import publish
from greenload.profiling.in_place.unclocked import stripped, without_clocks
from greenload.profiling.in_place.watched import Watched, WatchedStep, new_number
from greenload.profiling.tfdata.graph import DALI_NODE, Node, function_wrappers
from greenload.profiling.tfdata.names import GREENLOAD, installed, numbered_names
from greenload.profiling.tfdata.units import sample_unit
from greenload.profiling.tfdata.walk import walk
from greenload.system.frameworks import tf
from greenload.system.work import Work
from greenload.text import error_line

_ELSEWHERE: Mapping[str, str] = {
    "data_service": "what is before it runs in the workers of tf.data's service",
    DALI_NODE: "its operators run inside DALI's node",
}
"""Kinds of nodes whose work is done where no clock of this process is, and why."""
_SERVICE = "data_service_ops.py"
"""Where TensorFlow has a dataset registered with a service."""
_TENSORFLOW = f"{os.sep}tensorflow{os.sep}"
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

Step = tuple[str, str, str, str]
"""A step's name, kind, place and branch."""


@dataclass
class _Kind:
    """Datasets of one structure that were iterated at one place in the program."""

    place: str
    caller: str
    """The line that called the function in which they were iterated; empty for none."""
    steps: dict[Step, list[ClockedFunction]]
    """The functions of all of them: one that comes later adds its own."""
    unwatched: dict[str, str]
    samples: Callable[[Mapping[str, Work]], float | None] | None = None
    sample_unit: str = "element"
    datasets: int = 0
    iterations: int = 0
    number: int = field(default_factory=new_number)
    """That others follow it by."""

    def functions(self) -> set[ClockedFunction]:
        return {function for functions in self.steps.values() for function in functions}


@dataclass(frozen=True)
class _Load:
    """A dataset of ``load``, or part of one that is iterated."""

    rows: PlanRows
    functions: Sequence[ClockedFunction]
    """Of its rows."""

    @classmethod
    def of(cls, rows: PlanRows) -> _Load:
        return cls(rows, [ClockedFunction(step, step.name, "", "", step.note) for step in rows.steps])


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
        self._kinds: dict[Any, _Kind] = {}
        self._of_dataset: weakref.WeakKeyDictionary[Any, _Kind] = weakref.WeakKeyDictionary()
        self._loads: weakref.WeakKeyDictionary[Any, _Load] = weakref.WeakKeyDictionary()
        self._own: dict[int, Watched] = {}
        """Of datasets that the script watches itself."""
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
                    self._note(dataset)
            except Exception as error:  # the script doesn't depend on it
                self.failures.setdefault(_place(), f"its steps can't be named: {error_line(error)}")
            return original(dataset)

        def as_serialized_graph(*args: Any, **kwargs: Any) -> Any:
            graph = serialized(*args, **kwargs)
            return tf.constant(stripped(graph.numpy())) if hasattr(graph, "numpy") else graph

        dataset._apply_debug_options, dataset._as_serialized_graph = noted, as_serialized_graph

    def watched(self) -> Sequence[Watched]:
        """What was iterated so far, in its order; datasets that have functions in common are one.

        The last are functions that were called though nobody saw their datasets iterated.
        """
        with self._lock:
            parts = {part for own in self._own.values() for part in own.includes}
            found = [*self._groups(final=True), *(own for own in self._own.values() if own not in parts)]
            seen = {function for kind in self._kinds.values() for function in kind.functions()}
        others = [one for one in self.functions.all() if one not in seen and _TENSORFLOW not in one.file]
        called = {(one.name, "function", one.where, ""): [one] for one in others if one.counter.read().calls}
        return [*found, Watched(_OTHERS, _steps([called]))] if called else found

    def unwatched(self) -> Mapping[str, str]:
        """What of the datasets has no clock, and why, by the dataset's place or the step's name."""
        with self._lock:
            found = {name: why for kind in self._kinds.values() for name, why in kind.unwatched.items()}
            return found | self.failures

    def _note(self, dataset: Any) -> None:
        with self._lock:
            own = getattr(dataset, "watched", None)
            if isinstance(own, Watched):
                self._own[own.number] = own
                publish()
                return
            kind = self._of_dataset.get(dataset)
            if kind is None:
                kind = self._of_dataset[dataset] = self._kind(dataset)
            kind.iterations += 1

    def _kind(self, dataset: Any) -> _Kind:
        place, caller, *_ = [*itertools.islice(_user_lines(), 2), "", ""]
        place = place or _INSTALLED
        steps: dict[Step, list[ClockedFunction]] = {}
        unwatched: dict[str, str] = {}
        root, loads = self._root(dataset, place, unwatched), dict[Node, _Load]()
        counted: tuple[Any, ...] = ()
        if root is not None:
            root, loads = self._with_loads(root)
            kinds = {node.kind: node for node in root.nodes()}
            if any(_DEVICE in kind for kind in kinds):  # a strategy's, on what a dataset that is known gives
                return _Kind(place, "", {}, {})
            found = _steps_of(root, self.functions, loads)
            steps = {step: functions for _, step, functions in found}
            counted = _counted(root, found, loads)
            unwatched = {name: why for load in loads.values() for name, why in load.rows.unwatched.items()}
            unwatched |= {node.name: _ELSEWHERE[kind] for kind, node in kinds.items() if kind in _ELSEWHERE}
            if not steps and not unwatched:
                unwatched[place] = _SYMBOLIC if "VariantDataset" in kinds else _NO_FUNCTION
        structure = (place, () if root is None else _structure(root, loads))
        new = structure not in self._kinds
        kind = self._kinds.setdefault(
            structure, _Kind(place, caller, {step: [] for step in steps}, unwatched, *counted)
        )
        kind.datasets += 1
        for step, functions in steps.items():
            known = kind.steps.setdefault(step, [])
            known += [function for function in functions if function not in known]
        if new and kind.steps:
            self._kept = self._groups()
            publish()
        return kind

    def _with_loads(self, root: Node) -> tuple[Node, dict[Node, _Load]]:
        """A tree whose datasets of ``load`` are a node each, and these."""
        loads: dict[Node, _Load] = {}

        def changed(node: Node) -> Node:
            loaded = None if node.inner is not None else getattr(node.dataset, "greenload_loaded", None)
            if loaded is None:
                return replace(node, inputs=tuple(map(changed, node.inputs)))
            one = replace(node, kind=_LOAD, inputs=(), looked=(), hidden=True)
            loads[one] = self._loads.get(node.dataset) or _Load.of(rows_in_process(loaded))
            self._loads[node.dataset] = loads[one]
            return one

        return changed(root), loads

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

    def _groups(self, final: bool = False) -> list[Watched]:
        """The datasets with steps. Finally, with how many there were, and of steps that TensorFlow adds only those that
        were called."""
        groups = _groups([kind for kind in self._kinds.values() if kind.steps])
        groups = [[_without_idle(kind) for kind in kinds] if final else kinds for kinds in groups]
        places = Counter(_places(kinds) for kinds in groups)
        return [_watched(kinds, places[_places(kinds)] > 1, final) for kinds in groups]


def _structure(root: Node, loads: Mapping[Node, _Load]) -> tuple[Any, ...]:
    """What datasets have in common whose figures are added up."""
    nodes = tuple((node.kind, node.name, node.where, node.parameters.get("batch_size")) for node in root.nodes())
    return nodes, *((step.name, step.kind) for load in loads.values() for step in load.rows.steps)


def _steps_of(
    root: Node, functions: AllFunctions, loads: Mapping[Node, _Load]
) -> list[tuple[Node, Step, list[ClockedFunction]]]:
    """What has clocks in a dataset, as steps, each with its functions."""
    found, steps = _functions_of(root, functions), []
    for node in root.nodes():
        if node in loads:
            load = loads[node]
            for row, function in zip(load.rows.steps, load.functions, strict=True):
                steps.append((node, (row.name, row.kind, row.where, node.branch), [function]))
        elif node in found:
            own = list(dict.fromkeys(found[node]))
            steps.append((node, (node.name, node.kind, node.where, node.branch), own))
    names = numbered_names([step[0] for _, step, _ in steps])
    return [(node, (name, *step[1:]), own) for name, (node, step, own) in zip(names, steps, strict=True)]


def _counted(
    root: Node, steps: Sequence[tuple[Node, Step, list[ClockedFunction]]], loads: Mapping[Node, _Load]
) -> tuple[Callable[[Mapping[str, Work]], float | None] | None, str]:
    """What counts the samples of a dataset, and what a sample is."""
    if len(loads) != 1:
        return samples_of(root, {node: name for node, (name, *_), _ in steps}), sample_unit(root).name
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


def _without_idle(kind: _Kind) -> _Kind:
    """Without steps that TensorFlow itself added, and never ran."""
    steps = {
        step: functions
        for step, functions in kind.steps.items()
        if any(_TENSORFLOW not in one.file or one.counter.read().calls for one in functions)
    }
    return replace(kind, steps=steps)


def _groups(kinds: Sequence[_Kind]) -> list[list[_Kind]]:
    """Those that have functions in common together, in the order of the first."""
    groups: list[tuple[set[ClockedFunction], list[_Kind]]] = []
    for kind in kinds:
        functions, together = kind.functions(), [kind]
        for group in [group for group in groups if group[0] & functions]:
            groups.remove(group)
            functions, together = functions | group[0], [*group[1], *together]
        groups.append((functions, together))
    return [together for _, together in groups]


def _places(kinds: Sequence[_Kind]) -> str:
    return ", ".join(dict.fromkeys(kind.place for kind in kinds))


def _watched(kinds: Sequence[_Kind], called_from: bool, counts: bool) -> Watched:
    datasets, iterations = sum(kind.datasets for kind in kinds), sum(kind.iterations for kind in kinds)
    name = _places(kinds)
    if called_from and (callers := dict.fromkeys(kind.caller for kind in kinds if kind.caller)):
        name += f" from {', '.join(callers)}"
    counted = [(datasets, "datasets"), (iterations, "iterators")]
    told = ", ".join(f"{count} {what}" for count, what in counted if counts and count > 1)
    name += f" ({told})" if told else ""
    unwatched = {name: reason for kind in kinds for name, reason in kind.unwatched.items()}
    # Else some leave one dataset, some another.
    samples = kinds[0].samples if len({kind.samples for kind in kinds}) == 1 else None
    steps, number = _steps([kind.steps for kind in kinds]), min(kind.number for kind in kinds)
    return Watched(name, steps, unwatched, samples, kinds[0].sample_unit, number=number)


def _steps(parts: Iterable[Mapping[Step, list[ClockedFunction]]]) -> tuple[WatchedStep, ...]:
    """Steps of datasets that may have functions in common, which then are one step."""
    lists: dict[Step, list[list[ClockedFunction]]] = {}
    taken: dict[ClockedFunction, Step] = {}
    for part in parts:
        for step, functions in part.items():
            same = next((taken[function] for function in functions if function in taken), step)
            lists.setdefault(same, []).append(functions)
            taken |= dict.fromkeys(functions, same)
    names = numbered_names([name for name, *_ in lists])
    return tuple(
        WatchedStep(name, kind, _reader(functions), where, branch, _note(functions))
        for name, ((_, kind, where, branch), functions) in zip(names, lists.items(), strict=True)
    )


def _reader(parts: Sequence[list[ClockedFunction]]) -> Callable[[], Work]:
    def read() -> Work:
        functions = {function for part in parts for function in list(part)}
        return sum((function.counter.read() for function in functions), Work())

    return read


def _note(parts: Sequence[list[ClockedFunction]]) -> str:
    return next((function.note for part in parts for function in part if function.note), "")


def _place() -> str:
    """``"train.py:31"``: the innermost line that runs now and isn't an installed package's."""
    return next(_user_lines(), _INSTALLED)


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
