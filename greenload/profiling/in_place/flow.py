"""How many samples have left a dataset, from the calls of its functions, where these tell it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from greenload.profiling.tfdata.graph import BATCHING, Node
from greenload.profiling.tfdata.units import gives_batches, sample_unit
from greenload.system.work import Work

_ONE_FOR_ONE = frozenset(
    {"map", "scan", "prefetch", "options", "repeat", "take", "assert_cardinality", "shuffle", "restructure",
     "enumerate", "dense_to_ragged", "watched"}
)  # fmt: skip
"""Kinds that give as many elements as they take, as far as anyone asks for them."""
_CALLED_ONCE = frozenset({"map", "scan", "from_generator"})
"""Kinds whose function is called once for each element that they give."""
Count = Mapping[str, float]
"""What a call of each of some steps stands for."""


@dataclass(frozen=True)
class SampleCount:
    """Gives how many samples have left by what steps have done.

    Args:
        times: samples that a call of a step stands for, by the step's name.
    """

    times: Count

    def __call__(self, works: Mapping[str, Work]) -> float:
        return float(sum(times * works[name].calls for name, times in self.times.items() if name in works))


def samples_of(root: Node, steps: Mapping[Node, str]) -> SampleCount | None:
    """What gives how many samples have left a dataset by what its steps have done; None where they can't tell.

    What is held in buffers has left already.

    Args:
        root: the dataset.
        steps: the names of the steps that have a clock, by node. A clock that counts for several nodes tells nothing.
    """
    counted = _samples(root, steps) if sample_unit(root).rows else _elements(root, steps)
    return None if counted is None else SampleCount(counted)


def _elements(node: Node, steps: Mapping[Node, str]) -> Count | None:
    """What calls say of the elements that a node has given."""
    if node.kind in _CALLED_ONCE and node in steps:
        return {steps[node]: 1.0}
    if node.looked:
        return _elements(node.looked[-1], steps)
    if node.kind in BATCHING:
        before, size = _elements(node.inputs[0], steps), node.parameters.get("batch_size")
        return None if before is None or not size else {name: times / size for name, times in before.items()}
    return _through(node, steps, _elements)


def _samples(node: Node, steps: Mapping[Node, str]) -> Count | None:
    """What calls say of the samples in the batches that a node has given."""
    if not gives_batches(node):
        return _elements(node, steps)
    if node.kind in BATCHING and node.inputs:
        return _samples(node.inputs[0], steps)
    before = _through(node, steps, _samples)
    rows = _rows(node)
    if before is None and rows is not None and node.kind in _CALLED_ONCE and node in steps:
        return {steps[node]: rows}
    return before


def _through(
    node: Node, steps: Mapping[Node, str], count: Callable[[Node, Mapping[Node, str]], Count | None]
) -> Count | None:
    """As `count` says of what is before a node that passes on what it takes."""
    if node.kind in _ONE_FOR_ONE and node.inputs:
        return count(node.inputs[-1], steps)
    branches = [count(before, steps) for before in node.inputs if before.kind != "selector"]
    known = [branch for branch in branches if branch is not None]
    if node.kind == "zip":
        return known[0] if known else None
    if node.kind in ("concatenate", "choose") and len(known) == len(branches):
        return {name: sum(branch.get(name, 0.0) for branch in known) for branch in known for name in branch}
    return None


def _rows(node: Node) -> float | None:
    """How many rows an element of a node has in the mean; None where that isn't known."""
    while node.kind in _ONE_FOR_ONE and node.inputs:
        node = node.inputs[-1]
    size: int | None = node.parameters.get("batch_size")
    if node.kind not in BATCHING or not size or node.dataset is None:
        return None
    count = int(node.inputs[0].dataset.cardinality()) if node.inputs and node.inputs[0].dataset is not None else -1
    if count <= 0 or node.parameters.get("drop_remainder"):
        return float(size)
    return count / math.ceil(count / size)
