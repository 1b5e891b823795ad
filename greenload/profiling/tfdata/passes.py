"""Copies of a dataset with clocks around its functions, and which steps these tell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from greenload.backends.native import op
from greenload.backends.native.library import loaded
from greenload.errors import BackendUnavailable
from greenload.profiling.runs import ReadWork
from greenload.profiling.tfdata.functions import calls_python, has_operation
from greenload.profiling.tfdata.graph import FILE_READERS, Node
from greenload.profiling.tfdata.rebuild import Functions

CLOCKED_SAMPLES = 128
"""Different samples that steps without clocks work on, at most: what they pass on hardly depends on what it is."""
WITHIN = 0.9
"""Share of an epoch in which a build's windows of one kind may be."""
SMALLER = 0.6
"""How much smaller windows may become for that."""


@dataclass(frozen=True)
class ClockedCopy:
    """A copy of a dataset with clocks."""

    dataset: Any
    names: tuple[str, ...]
    """Of the steps that have one."""
    read: ReadWork
    missed: Mapping[str, str] = field(default_factory=dict)
    """What a clock would miss of other steps' functions, by their names, as sentences without their end."""


ClockedCopyOf = Callable[[Node, Callable[[Functions], Any]], ClockedCopy]
"""Makes a copy of a dataset with clocks around its functions, by what builds it with functions that it is given."""


def why_not() -> str:
    """Why no dataset can run with clocks, as a sentence without its end; empty where they can."""
    try:
        loaded()
        op.operations()
    except BackendUnavailable as error:
        return str(error)
    return ""


def same_datasets(root: Node, clocked: Collection[str]) -> dict[str, str]:
    """Steps that a step with a clock counts as well, and that step, by name: one dataset stands in several branches.

    Args:
        root: the dataset.
        clocked: the names of steps with clocks.
    """
    first: dict[int, Node] = {}
    same: dict[str, str] = {}
    for node in root.nodes():
        counting = node if node.inner is not None else first.setdefault(id(node.dataset), node)
        pairs = zip((counting, *counting.looked), (node, *node.looked), strict=False)
        same |= {twin.name: step.name for step, twin in pairs if step.name in clocked and twin.name not in clocked}
    return same


def reads_files(node: Node) -> bool:
    """Whether a node may read files, as far as can be seen."""
    return (
        node.kind in FILE_READERS
        or node.kind == "from_generator"
        or has_operation(node, "ReadFile")
        or calls_python(node)
    )


def file_reader_step(nodes: Sequence[Node], clocked: Collection[str]) -> str | None:
    """The step with a clock that reads all the files; empty if none does, None where several nodes may.

    What a window reads can't be told apart by clocks: it is that step's.

    Args:
        nodes: those with a row.
        clocked: the names of steps with clocks.
    """
    reading = [node for node in nodes if node.kind in FILE_READERS or has_operation(node, "ReadFile")]
    if not reading:
        reading = [node for node in nodes if node.kind == "from_generator" or calls_python(node)]
    inside = [node.name for node in reading if node.name in clocked]
    if not inside:
        return ""
    return inside[0] if len(reading) == 1 else None
