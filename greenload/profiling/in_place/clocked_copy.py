"""Copies of a dataset with clocks around its functions, for a profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from greenload.profiling.in_place.clocks import Clocks
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.passes import ClockedCopy
from greenload.profiling.tfdata.rebuild import Functions
from greenload.system.work import Work


def clocked_copy(root: Node, build: Callable[[Functions], Any]) -> ClockedCopy:
    """A copy of a dataset with a clock around each function. Those that see only a part of it aren't read.

    Args:
        root: the dataset.
        build: makes the copy, with the functions that it is given.
    """
    clocks = Clocks(root, build)
    whole = [step for step in clocks.steps.values() if not step.note]

    def read() -> Mapping[str, Work]:
        return {step.name: step.read() for step in whole}

    missed = {step.name: step.note.partition(":")[0] for step in clocks.steps.values() if step.note}
    return ClockedCopy(clocks.dataset, tuple(step.name for step in whole), read, missed)
