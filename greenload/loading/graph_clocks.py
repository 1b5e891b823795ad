"""Clocks around the functions of one dataset's graph, as operations of that graph."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

from greenload.backends.clocks import StepClock
from greenload.backends.native import op
from greenload.backends.native.counters import NamedCounter
from greenload.backends.tf.backend import Element, State
from greenload.errors import BackendUnavailable
from greenload.system.frameworks import tf
from greenload.system.work import Work

_NUMBERS = itertools.count()
"""Of datasets with clocks, in this process: their counters' names."""
_process = {"watched": False}


def clock_all() -> None:
    """Have all datasets made from now on with clocks, in a process all of whose datasets are watched."""
    _process["watched"] = True


def clocks_of_new() -> GraphClocks | None:
    """The clocks of a dataset that is made now; None where not all are watched, or it may leave the process."""
    from tensorflow.python.eager import context

    if not _process["watched"] or context.context()._server_def is not None:
        return None
    if not (tf.executing_eagerly() or made_in_datasets()):  # a tf.function may be saved, and loaded elsewhere
        return None
    try:
        return GraphClocks()
    except BackendUnavailable:
        return None


def made_in_datasets(finished: int = 0) -> bool:
    """Whether all graphs that are being traced are those of functions of datasets.

    Args:
        finished: how many of these functions are traced already, innermost first.
    """
    from tensorflow.python.data.ops import structured_function
    from tensorflow.python.framework import ops

    made = structured_function.StructuredFunctionWrapper.__init__.__code__
    graph, graphs = ops.get_default_graph(), 0
    while getattr(graph, "outer_graph", None) is not None and graph.building_function:
        graph, graphs = graph.outer_graph, graphs + 1
    frame: Any = sys._getframe(1)
    while frame is not None:
        graphs -= frame.f_code is made
        frame = frame.f_back
    return graphs == -finished


class GraphClocks:
    """Puts clocks around functions of a state, sees that they run one after another, and reads what they count.

    Raises:
        BackendUnavailable: the kernel's operations aren't built, or TensorFlow can't load them.
    """

    def __init__(self) -> None:
        op.operations()
        self.name = f"load/{next(_NUMBERS)}"
        """What begins the names of its counters."""
        self.clocks: list[StepClock] = []
        """All that were put around something."""

    def around(self, name: str, kind: str, element: Element, samples: int = 0, note: str = "") -> Element:
        """A function with a clock.

        Args:
            name: of the row.
            kind: as a ``StepClock`` has it.
            element: the function.
            samples: of a call, at most, where it takes several; 0 where it takes one.
            note: as a ``StepClock`` has it.
        """
        counter = f"{self.name}/graph/{len(self.clocks)}"
        read = _reading(NamedCounter(counter), max(1, samples))
        self.clocks.append(StepClock(name, kind, read, note, exact=not samples, estimates=True))

        def timed(state: State) -> State:
            with tf.control_dependencies(tf.nest.flatten(state, expand_composites=True)):
                begin = op.operations().greenload_enter(counter=counter)
            with tf.control_dependencies([begin]):
                # A function that is called waits for its arguments only.
                given = state | ({"image": _identity(state["image"])} if "image" in state else {})
                done = element(given)
            made = {key: value for key, value in done.items() if given.get(key) is not value}
            made = made or {"image": done["image"]}  # of a step that has nothing to do
            with tf.control_dependencies(tf.nest.flatten(made, expand_composites=True)):
                end = op.operations().greenload_leave(counter=counter)
            with tf.control_dependencies([end]):
                return done | {key: _identity(value) for key, value in made.items()}

        return timed


def _identity(value: Any) -> Any:
    return tf.nest.map_structure(tf.identity, value, expand_composites=True)


def _reading(counter: NamedCounter, samples: int) -> Callable[[], Work]:
    def read() -> Work:
        work = counter.read()
        return Work(work.calls * samples, work.timed * samples, work.cpu_s, work.wall_s, work.crossed * samples)

    return read
