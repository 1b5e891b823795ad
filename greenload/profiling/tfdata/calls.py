"""Which call in the user's program made a dataset: TensorFlow keeps the stack of every function that it traced."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from greenload.profiling.tfdata.names import installed

_PASSING = frozenset({"apply", "new_func", "wrapper", "error_handler", "op_dispatch_handler", "converted_call"})
"""Functions of TensorFlow and Keras that only call what the user meant."""
_TRACING = "structured_function.py"
"""From here on the stack is that of tracing."""
_VERSION = re.compile(r"_?[vV]\d$")
"""``make_csv_dataset`` is ``make_csv_dataset_v2`` in TensorFlow's source."""
_FRAMEWORKS = ("/tensorflow/", "/keras/", "/greenload/")


@dataclass(frozen=True)
class Call:
    """A call in the user's program."""

    name: str
    """Of what was called: ``"rejection_resample"``; empty where the stack doesn't say."""
    where: str
    """``"train.py:12"``."""
    file: str
    """Whole path of that file."""
    line: int

    def inside(self, kind: str) -> bool:
        """Whether it is more than the method of ``Dataset`` that makes nodes of a kind."""
        return bool(self.name) and not self.name.startswith(kind)

    def made(self, kind: str) -> str:
        """What a node of a kind belongs to, ``"rejection_resample train.py:12"``; empty for one the user made."""
        return f"{self.name} {self.where}" if self.inside(kind) else ""


def call_of(function: Any) -> Call | None:
    """The call that led to a function's tracing: the innermost line of the user's, and what it called.

    Args:
        function: tf.data's wrapper of it; None gives None.
    """
    graph = getattr(getattr(function, "function", None), "graph", None)
    operations = () if graph is None else graph.get_operations()
    return traced_call(operations[0]) if operations else None


def traced_call(operation: Any) -> Call | None:
    """The call that led to an operation of a graph."""
    frames = list(operation.traceback or ())
    place = _last(frames, lambda file: not installed(file))
    if place is None:  # a program that is itself installed
        place = _last(frames, lambda file: not any(part in file for part in _FRAMEWORKS))
    if place is None:
        return None
    behind = itertools.takewhile(lambda frame: not frame.filename.endswith(_TRACING), frames[place + 1 :])
    public = (one.name for one in behind if one.name.isidentifier() and one.name[0] != "_")
    name = _VERSION.sub("", next((name for name in public if name not in _PASSING), ""))
    frame = frames[place]
    return Call(name, f"{os.path.basename(frame.filename)}:{frame.lineno}", frame.filename, frame.lineno)


def _last(frames: Sequence[Any], wanted: Any) -> int | None:
    return next((place for place in reversed(range(len(frames))) if wanted(frames[place].filename)), None)
