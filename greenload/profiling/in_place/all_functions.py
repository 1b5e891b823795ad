"""Clocks around the functions of every dataset that the process makes, from the moment when tf.data traces them.

tf.data wraps each function of a dataset once, where the dataset is made. There its traced graph gets a clock, and all
that is done with the dataset later, by loops, Keras, or a strategy, is as ever: the dataset is the user's own.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from greenload.backends.native.counters import NamedCounter
from greenload.loading.graph_clocks import made_in_datasets
from greenload.profiling.in_place.clocked import add_clock, counter_of_clock, has_switches, passes_on
from greenload.profiling.in_place.definitions import changed
from greenload.profiling.tfdata.names import GREENLOAD, function_file, function_name, function_place, installed
from greenload.system.frameworks import tf
from greenload.system.work import Work
from greenload.text import error_line

_HELD = "_greenload_functions"
_PASSES_ON = "it gives its arguments back, so that tf.data doesn't call it"
_LOOPS = "dataset_autograph.py"
"""Where TensorFlow makes functions of the bodies of loops over datasets: they are the consumer, not a step."""
_REDUCE = "reduce()"
"""What TensorFlow calls ``Dataset.reduce``, whose function is the consumer, too."""


class Counter(Protocol):
    """Counts what a function does."""

    @property
    def read(self) -> Callable[[], Work]:
        """Gives what has been counted so far."""


@dataclass(frozen=True, eq=False)
class ClockedFunction:
    """A function of a dataset, or a step of a plan, with a clock around it."""

    counter: Counter
    name: str
    """As a profile calls it."""
    where: str
    """``"train.py:31"``, where it was written; empty where that isn't known."""
    file: str
    note: str = ""
    """What its clock can't see, as a sentence."""


class AllFunctions:
    """Puts clocks around functions. Nothing is done before ``patch``.

    It stands in for the attribute ``_function`` of tf.data's wrapper of functions. So none of its frames is below the
    user's functions while they are traced.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clocked: dict[str, ClockedFunction] = {}
        self.failures: dict[str, str] = {}
        """Functions that couldn't get a clock, by name, and why."""

    def patch(self, wrapper: Any) -> None:
        """Begin: ``wrapper`` is TensorFlow's class ``StructuredFunctionWrapper``."""
        wrapper._function = self
        self._made = wrapper.__init__.__code__

    def all(self) -> list[ClockedFunction]:
        """All functions that have a clock."""
        with self._lock:
            return list(self._clocked.values())

    def of(self, definition: Any) -> ClockedFunction | None:
        """What is known of a function by its ``FunctionDef``; None where it has no clock of these."""
        return self._clocked.get(counter_of_clock(definition))

    def __get__(self, wrapper: Any, _owner: Any) -> Any:
        if wrapper is None:
            return self
        try:
            return vars(wrapper)["_function"]
        except KeyError:
            raise AttributeError("_function") from None

    def __set__(self, wrapper: Any, function: Any) -> None:
        vars(wrapper)["_function"] = function
        try:
            maker = sys._getframe(1)
            transformation = maker.f_locals.get("transformation_name") if maker.f_code is self._made else ""
            if (reason := self._refusal(wrapper, function, transformation)) is None:
                vars(wrapper)["_function"] = self._with_clock(wrapper, function)
            elif reason and not installed(function_file(wrapper._func)):
                self.failures.setdefault(function_name(wrapper._func), reason)
        except Exception as error:  # the script doesn't depend on it
            self.failures.setdefault(function_name(wrapper._func), f"it can't get a clock: {error_line(error)}")

    def _refusal(self, wrapper: Any, function: Any, transformation: Any) -> str | None:
        """Why a function gets no clock, empty for one that is no step; None for one that gets one."""
        from tensorflow.python.data.ops.dataset_ops import DatasetSpec
        from tensorflow.python.data.util import nest
        from tensorflow.python.eager import context

        if not hasattr(function, "captured_inputs") or not hasattr(function, "graph"):
            return "it is traced as TensorFlow 1 did"
        if (
            os.path.basename(function_file(wrapper._func)) == _LOOPS
            or transformation == _REDUCE
            or not function.graph.inputs
            or function_file(wrapper._func).startswith(GREENLOAD)  # those of load have the clocks of its plan's steps
        ):
            return ""
        if any(isinstance(spec, DatasetSpec) for spec in nest.flatten(wrapper.output_structure)):
            return ""  # the functions of the datasets that it makes have clocks
        if context.context()._server_def is not None:
            return "its dataset may be sent to other processes of a cluster"
        if not made_in_datasets(finished=1):
            return "its dataset is made inside a tf.function"  # which may be saved, and loaded without greenload
        if has_switches(function.function_def):
            return "it has control flow of TensorFlow 1, around which there can be no clock"
        return _PASSES_ON if passes_on(function.function_def) else None

    def _with_clock(self, wrapper: Any, function: Any) -> Any:
        with self._lock:
            name = f"process/{len(self._clocked)}"
            called = wrapper._func
            self._clocked[name] = ClockedFunction(
                NamedCounter(name), function_name(called), function_place(called), function_file(called)
            )
        return _FunctionWithClock(function, name)


class _FunctionWithClock:
    """A traced function in another one's place: operations on datasets call it, its graph is as the user wrote it."""

    def __init__(self, function: Any, counter: str) -> None:
        self.without_clock = function
        self._changed = changed(function, lambda definition: add_clock(definition, counter))
        self.name = self._changed.name
        self.function_def = self._changed.definition

    def add_to_graph(self, graph: Any, *args: Any, **kwargs: Any) -> None:
        self.without_clock.add_to_graph(graph, *args, **kwargs)  # and what it calls
        library = tf.compat.v1.GraphDef()
        library.library.function.append(self.function_def)
        with graph.as_default():
            tf.graph_util.import_graph_def(library)
        # It is called for as long as the graph is there, longer than by its dataset.
        setattr(graph, _HELD, [*getattr(graph, _HELD, ()), self._changed])

    @property
    def _as_name_attr_list(self) -> Any:
        """How operations name it in a graph."""
        return tf.compat.v1.NameAttrList(name=self.name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.without_clock, name)
