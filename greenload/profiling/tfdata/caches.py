"""Caches of a dataset: which were filled already, and what runs in the epoch that fills the others."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from greenload.profiling.tfdata.graph import STORES, Node
from greenload.profiling.tfdata.rebuild import finished_on_disk
from greenload.report.cost_records import CacheState


@dataclass(frozen=True)
class Stores:
    """A dataset's caches, and which of its nodes stand in front of one."""

    filled: tuple[Node, ...]
    """Those that are on disk already: every epoch reads them."""
    empty: tuple[Node, ...]
    """Those that the first epoch fills."""

    @classmethod
    def of(cls, root: Node, unfilled: Collection[Node] = ()) -> Stores:
        """The caches of a dataset.

        Not those inside an interleave's function, which each call begins anew, nor those that no epoch fills.

        Args:
            root: the dataset.
            unfilled: caches whose input no epoch takes to its end, such as that of ``cache().take(9)``.
        """
        stores = [node for node in root.nodes() if node.kind in STORES and node.inner is None]
        filled = tuple(node for node in stores if node.kind == "cache" and finished_on_disk(store_path(node)))
        return cls(filled, tuple(node for node in stores if node not in filled and node not in unfilled))

    def __bool__(self) -> bool:
        return bool(self.filled or self.empty)

    def __contains__(self, node: Node) -> bool:
        return node in self.filled or node in self.empty

    def runs(self, node: Node) -> str:
        """When a node runs, as in a report's ``Step.runs``."""
        if node in _before(self.filled):
            return "no epoch"
        return "first epoch" if node in _before(self.empty) else "every epoch"

    def states(self) -> tuple[CacheState, ...]:
        """The caches as a report shows them."""
        return tuple(
            CacheState(node.row, store_path(node), node in self.filled) for node in (*self.filled, *self.empty)
        )


def on_disk(node: Node) -> bool:
    """Whether a cache writes files."""
    return bool(store_path(node))


def store_path(node: Node) -> str:
    """The file or folder that a cache writes; empty for one in memory."""
    return str(node.parameters.get("filename") or node.parameters.get("path") or "")


def _before(stores: Sequence[Node]) -> set[Node]:
    return {node for store in stores for node in store.nodes() if node is not store}


def snapshot_there(node: Node) -> bool:
    """Whether a snapshot's folder holds a finished one, of whichever dataset."""
    path = store_path(node)
    try:
        runs: Collection[str] = os.listdir(path) if node.kind == "snapshot" and path else ()
    except OSError:
        return False
    return any(os.path.exists(os.path.join(path, run, "snapshot.metadata")) for run in runs)
