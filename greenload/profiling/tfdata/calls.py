"""Which call in the user's program made a node of a dataset, and the rows that follow.

TensorFlow keeps the stack of every function that it traced.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.names import installed, numbered_names
from greenload.system.frameworks import tf

_PASSING = frozenset({"apply", "new_func", "wrapper", "error_handler", "op_dispatch_handler", "converted_call"})
"""Functions of TensorFlow and Keras that only call what the user meant."""
_TRACING = "structured_function.py"
"""From here on the stack is that of tracing."""
_VERSION = re.compile(r"_?[vV]\d$")
"""``make_csv_dataset`` is ``make_csv_dataset_v2`` in TensorFlow's source."""
_FRAMEWORKS = ("/tensorflow/", "/keras/", "/greenload/")
_SOURCES = frozenset({"counter"})
"""Methods of ``Dataset`` that make a dataset of several nodes from nothing."""
_FROM_DIRECTORY = "_dataset_from_directory"
"""End of the names of Keras's functions that mark what they give with ``class_names``."""
_TAILS: Mapping[str, tuple[str, ...]] = {
    "timeseries_dataset_from_array": ("prefetch", "shuffle", "batch"),
    "make_csv_dataset": ("prefetch",),
    "make_batched_features_dataset": ("prefetch",),
    "ragged_batch": ("batch",),
    "load": ("prefetch",),  # of TensorFlow Datasets, as the next
    "as_dataset": ("prefetch",),
}
"""What library functions put behind the last node that TensorFlow keeps a stack of."""
_MOST_FILES = 1_000_000
"""Names of files up to which a source is looked into."""


@dataclass(frozen=True)
class UserCall:
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


def call_of(function: Any) -> UserCall | None:
    """The call that led to a function's tracing: the innermost line of the user's, and what it called.

    Args:
        function: tf.data's wrapper of the function; None gives None.
    """
    graph = getattr(getattr(function, "function", None), "graph", None)
    operations = () if graph is None else graph.get_operations()
    return traced_call(operations[0]) if operations else None


def traced_call(operation: Any) -> UserCall | None:
    """The call that led to an operation of a graph."""
    frames = list(operation.traceback or ())
    index = _last(frames, lambda file: not installed(file))
    if index is None:  # a program that is itself installed
        index = _last(frames, lambda file: not any(part in file for part in _FRAMEWORKS))
    if index is None:
        return None
    behind = itertools.takewhile(lambda frame: not frame.filename.endswith(_TRACING), frames[index + 1 :])
    public = (frame.name for frame in behind if frame.name.isidentifier() and frame.name[0] != "_")
    name = _VERSION.sub("", next((name for name in public if name not in _PASSING), ""))
    frame = frames[index]
    return UserCall(name, f"{os.path.basename(frame.filename)}:{frame.lineno}", frame.filename, frame.lineno)


def _last(frames: Sequence[Any], wanted: Any) -> int | None:
    return next((index for index in reversed(range(len(frames))) if wanted(frames[index].filename)), None)


def made_inside(call: str) -> bool:
    """Whether a call is of a library's function that isn't a method of ``Dataset``: nothing can stand in it.

    Args:
        call: as `Node.call`.
    """
    return bool(call) and not callable(getattr(tf.data.Dataset, call.partition(" ")[0], None))


def calls_of_nodes(root: Node) -> dict[Node, str]:
    """The call that each node belongs to, as `Node.call`, where that isn't a method of its own kind.

    TensorFlow keeps a stack of the functions that it traced only. So the nodes between two of one call are that
    call's, as are those before a call that makes a dataset from nothing; for those behind its last function there are
    rules for each library function.
    """
    line = list(root.nodes())
    behind = {before: node for node in line for before in node.inputs}
    calls = {node: node.call for node in line if node.call}
    for node in line:
        call = node.inputs[0].call if node.kind == "choose" else ""
        if call.startswith("rejection_resample ") and node.inputs[1].inputs:
            given = {id(above.dataset) for above in node.inputs[1].inputs[0].nodes()}
            calls |= {
                above: call for above in node.nodes() if above.dataset is not None and id(above.dataset) not in given
            }
    for number, node in enumerate(line, 1):
        before = node.inputs[0] if len(node.inputs) == 1 else node
        if before.kind == "snapshot" and node.call == f"snapshot {before.where}":  # what it reads is mapped
            calls |= dict.fromkeys((before, node), f"{node.call} {number}")
    for call in dict.fromkeys(calls.values()):
        ends = [node for node in line if calls.get(node) == call]
        calls |= dict.fromkeys(_before(ends, call, calls), call)
        calls |= dict.fromkeys(_tail(ends[-1], call, behind), call)
    for number, node in enumerate(line, 1):
        if _lists_files(node):
            files = int(node.dataset.cardinality())
            shuffle = behind.get(node)
            own = shuffle is not None and shuffle.kind == "shuffle" and node not in calls
            if own and shuffle is not None and shuffle.parameters.get("buffer_size") == max(1, files):
                calls.setdefault(shuffle, f"list_files {number}")
            calls.setdefault(node, f"list_files {number}")
    return calls


def _before(ends: Sequence[Node], call: str, calls: Mapping[Node, str]) -> Iterable[Node]:
    """The nodes between those of a call, and all before them where it makes a dataset from nothing."""
    name = call.partition(" ")[0]
    ours = set(ends)
    for end in ends:
        above = [node for node in end.nodes() if node not in ours]
        foreign = [node for node in above if _is_users(node) or calls.get(node, call) != call]
        if not foreign and (name in _SOURCES or made_inside(call)):
            yield from above
            continue
        between = [node for node in above if not ours.isdisjoint(node.nodes())]
        if not any(node in foreign for node in between):
            yield from between


def _is_users(node: Node) -> bool:
    """Whether the user wrote a node's function, or called the method that made it."""
    return node.inner is None and bool(node.where) and not node.call and not installed(node.file)


def _tail(end: Node, call: str, behind: Mapping[Node, Node]) -> list[Node]:
    """The nodes of a call behind the last one that TensorFlow keeps a stack of."""
    after: list[Node] = []
    node: Node | None = end
    while node is not None and (node := behind.get(node)) is not None:
        after.append(node)
    name = call.partition(" ")[0]
    if name.endswith(_FROM_DIRECTORY):
        marked = [index for index, later in enumerate([end, *after]) if hasattr(later.dataset, "class_names")]
        return after[: marked[0]] if marked else []
    kinds, taken = list(_TAILS.get(name, ())), 0
    for later in after:
        if later.kind == "zip" and kinds == list(_TAILS.get(name, ())):
            taken += bool(kinds)  # the targets of a time series
        elif later.kind in kinds and not (later.kind == "shuffle" and not _shuffles_batches(later, behind.get(later))):
            kinds, taken = kinds[kinds.index(later.kind) + 1 :], taken + 1
        else:
            break
    return after[:taken]


def _shuffles_batches(shuffle: Node, batch: Node | None) -> bool:
    """Whether a shuffle is the one that Keras puts before its own batch: eight of them."""
    size = None if batch is None else batch.parameters.get("batch_size")
    return isinstance(size, int) and shuffle.parameters.get("buffer_size") == 8 * size


def _lists_files(node: Node) -> bool:
    """Whether a source is what ``list_files`` makes, which says so to TensorFlow only."""
    if node.kind != "from_tensor_slices" or node.hidden or node.element_spec != tf.TensorSpec((), tf.string):
        return False
    if not 0 <= int(node.dataset.cardinality()) <= _MOST_FILES:
        return False
    graph = tf.compat.v1.GraphDef.FromString(node.dataset._as_serialized_graph().numpy())
    return any(operation.op == "TensorSliceDataset" and operation.attr["is_files"].b for operation in graph.node)


def call_places(root: Node, calls: Mapping[Node, str]) -> dict[Node, str]:
    """Where the user wrote the calls of nodes that have no place of their own."""
    known = {call: node.where for node, call in calls.items() if node.where}
    return {node: node.where or known.get(calls.get(node, ""), "") for node in root.nodes()}


def names_and_rows(root: Node, calls: Mapping[Node, str]) -> dict[Node, tuple[str, str]]:
    """Each node's own name, and its row's: those of one call have one row, named as the call.

    Rows of the same name are numbered. Nodes without a row have their own name for both.

    Args:
        root: the dataset.
        calls: as `owners` gives.
    """
    line = list(root.nodes())
    shown = [node for node in line if not node.hidden]
    parts: dict[Any, list[Node]] = {}
    for node in shown:
        parts.setdefault(calls.get(node, node), []).append(node)
    last = {nodes[-1]: (key, nodes) for key, nodes in parts.items()}
    order = [node for node in shown if node in last]
    wanted = [key.partition(" ")[0] if isinstance(key := last[node][0], str) else node.name for node in order]
    named = dict(zip(order, numbered_names(wanted), strict=True))
    names = {node: (node.name, node.name) for node in line if node.hidden}
    for end, row in named.items():
        *others, _ = last[end][1]
        names |= {
            node: (name, row)
            for node, name in zip(others, numbered_names([f"{row}: {node.kind}" for node in others]), strict=True)
        }
        names[end] = row, row
    return names
