"""Whether an epoch of a fit fills its dataset's caches or reads them, which costs the loader differently.

tf.data keeps a model of each iterator to tune it by: a tree in which a cache that is being filled has the steps before
it below it, and one that is read has none. Behind a shuffle the tree grows with the first batch, and what a shuffle has
swallowed whole is in it no more: a cache in memory is then asked by an iterator of its own, from which no element is
taken, unless making one moves a seeded shuffle on. Greenload's own `Cache` keeps its samples in a table, or in a store
of the native backend, which tell their number.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from greenload.backends.native.op import opened, stores_in
from greenload.backends.native.store import Store
from greenload.errors import GreenloadError
from greenload.profiling.tfdata.caches import on_disk, store_path
from greenload.profiling.tfdata.graph import JOINS, NESTING, STORES, Node
from greenload.profiling.tfdata.rebuild import finished_on_disk
from greenload.profiling.tfdata.walk import walk
from greenload.report.data import Report
from greenload.system.frameworks import tf
from greenload.training.spent import Passed

EpochKind = Literal["first", "later", "unknown"]
"""Kind of an epoch: ``"first"`` fills the caches, ``"later"`` reads them."""

_FILLED: weakref.WeakSet[Any] = weakref.WeakSet()
"""Datasets whose cache in memory was seen filled: it stays so as long as they live."""
_NOT_SHOWN = "tf.data's iterator can't be looked into here, as under tf.distribute"
_NONE_THERE = "the fit's dataset shows no cache: profile the dataset that is trained on"
_HIDDEN = "a shuffle took all of the cache with the first batch"
_PART = "it was a part of an epoch, or several: train on whole epochs"
_OTHERWISE = "the fit's dataset fills other caches than it did in the profile: profile the dataset that is trained on"


_Counts = Counter[str]
"""How many caches an iterator is ``"writing"``, and how many ``"reading"``. Caches behind which nothing runs are in
neither."""


class CacheWatch:
    """Looks at the iterators of a fit, epoch by epoch.

    Args:
        profile: what the loader costs; one of a pipeline without a cache leaves nothing to look for.
    """

    def __init__(self, profile: Report | None) -> None:
        self._profile = profile if profile is not None and (profile.first_epoch or profile.caches) else None
        self.reset()

    def reset(self) -> None:
        """Forget the iterators: a new epoch."""
        self._iterator: Any = None
        self._root: Node | None = None
        self._stores: tuple[Node, ...] = ()
        self._tables: list[tuple[_Table | _Store, int]] = []
        self._counts = _Counts()
        self._iterators = 0

    def before(self, iterator: Any) -> None:
        """Look at an iterator before its first batch of the epoch."""
        if self._profile is None:
            return
        self._iterators += 1
        self._root = _root(iterator)
        if self._root is None:
            return
        self._iterator = iterator
        self._stores = tuple(_outermost(self._root))
        self._tables = [(table, table.entries()) for table in _tables(self._root)]
        if not self._stores:
            return
        counts = _seen(iterator) or _Counts()
        if counts.total() < len(self._stores):
            counts = _asked_together(self._stores) or _Counts()
        self._counts = counts

    def after(self) -> None:
        """Look at the iterator again after its first batch, where it showed nothing before."""
        if not self._stores or self._counts:
            return
        counts = _seen(self._iterator)
        if counts is None:
            return
        if counts.total() >= len(self._stores):
            self._counts = counts
        elif not counts and not any(node.kind in JOINS | NESTING for node in _behind(self._root)):
            # What is before the shuffle has ended: the cache was filled, by this iterator or before.
            _FILLED.update(store.dataset for store in self._stores if _in_memory(store))

    def end(self, passed: Passed, *, ended: bool) -> tuple[EpochKind, str]:
        """What kind of epoch it was, and why that isn't known; empty where it is.

        Args:
            passed: what passed in it.
            ended: whether its iterator had no more batches.
        """
        if self._profile is None or not self._iterators:
            return "later", ""
        if self._root is None:
            return "unknown", _NOT_SHOWN
        if self._iterators > 1:
            return "unknown", _PART
        if not self._counts and not self._tables:
            return "unknown", _HIDDEN if self._stores else _NONE_THERE
        kinds = {self._of_stores()} if self._stores else set()
        kinds |= {self._of_table(table, before, passed) for table, before in self._tables}
        if kinds == {"later"}:
            return "later", ""
        if kinds != {"first"} or self._profile.first_epoch is None:
            return "unknown", _OTHERWISE if "unknown" not in kinds or self._stores else _PART
        if not self._is_whole(passed, ended):
            return "unknown", _PART
        return "first", ""

    def _of_stores(self) -> EpochKind:
        assert self._profile is not None
        filled = sum(cache.filled for cache in self._profile.caches)
        if not self._counts["writing"]:
            _FILLED.update(store.dataset for store in self._stores if _in_memory(store))
            return "later"
        fits = self._counts["writing"] == len(self._profile.caches) - filled and self._counts["reading"] <= filled
        return "first" if fits else "unknown"

    def _of_table(self, table: _Table | _Store, before: int, passed: Passed) -> EpochKind:
        after = table.entries()
        if before:
            return "later" if after == before else "unknown"
        return "first" if passed.samples is not None and (after >= passed.samples or table.full()) else "unknown"

    def _is_whole(self, passed: Passed, ended: bool) -> bool:
        """Whether each of the dataset's batches passed, and each of its caches' elements once."""
        if any(node.kind == "repeat" and node.parameters.get("count") != 1 for node in _behind(self._root)):
            return False
        assert self._root is not None
        batches = int(self._root.dataset.cardinality())
        return passed.batches == batches if batches >= 0 else ended


def _root(iterator: Any) -> Node | None:
    """The dataset of an iterator; None where it can't be had, as under a strategy."""
    dataset = getattr(iterator, "_dataset", None)
    if dataset is None or not hasattr(iterator, "_iterator_resource"):
        return None
    try:
        return walk(dataset)
    except GreenloadError:
        return None


def _outermost(node: Node) -> Iterator[Node]:
    """The caches behind which stands no other. A cache inside an interleave's function isn't one of them."""
    if node.kind in STORES:
        yield node
        return
    for before in node.inputs:
        yield from _outermost(before)


def _behind(node: Node | None) -> Iterator[Node]:
    """The nodes that run in every epoch: those in front of no cache."""
    if node is None or node.kind in STORES:
        return
    yield node
    for before in node.inputs:
        yield from _behind(before)


def _in_memory(store: Node) -> bool:
    return store.kind == "cache" and not on_disk(store)


def _asked(store: Node) -> _Counts | None:
    """Whether an iterator that is made now fills or reads a cache, and those before it; None if that can't be asked."""
    if store.kind != "cache":
        return None
    if store.dataset in _FILLED or finished_on_disk(store_path(store)):
        return _Counts(["reading"])
    if on_disk(store):
        inside = _asked_together(cache for node in store.inputs for cache in _outermost(node))
        return None if inside is None else inside + _Counts(["writing"])
    before = (node for node in store.nodes() if node is not store and node.inner is None)
    return _seen(iter(store.dataset)) if all(map(_is_quiet, before)) else None


def _asked_together(stores: Iterable[Node]) -> _Counts | None:
    """Of caches in front of one iterator; ``None`` where one of them can't be asked."""
    counts = [_asked(store) for store in stores]
    return None if None in counts else sum(filter(None, counts), _Counts())


def _is_quiet(node: Node) -> bool:
    """Whether making an iterator leaves a dataset as it was: it moves seeded shuffles on."""
    if node.kind == "shuffle":
        seeds = [int(getattr(node.dataset, name, 1)) for name in ("_seed", "_seed2")]
        return not any(seeds) or node.parameters.get("reshuffle_each_iteration") is False
    return node.known and node.kind not in ("random", "selector", "choose")


def _seen(iterator: Any) -> _Counts | None:
    """What tf.data's model of an iterator shows; None where it keeps none, as without autotuning."""
    from tensorflow.core.framework.model_pb2 import ModelProto

    if iterator._dataset.options().autotune.enabled is False:
        return None
    try:
        proto = tf.raw_ops.IteratorGetModelProto(iterator=iterator._iterator_resource)
    except tf.errors.OpError:
        return None
    model = ModelProto.FromString(proto.numpy())
    return _count(model.nodes, model.output)


def _count(nodes: Any, number: int) -> _Counts:
    node = nodes[number]
    name, inputs = node.name, [before for before in node.inputs if before in nodes]
    if name in ("MemoryCache", "FileCache", "Snapshot"):
        if not inputs:
            return _Counts()
        inside = nodes[inputs[0]]
        if not inside.inputs or inside.name == "SnapshotReader":
            return _Counts(["reading"])
        return sum((_count(nodes, before) for before in inside.inputs if before in nodes), _Counts(["writing"]))
    if "Interleave" in name or "FlatMap" in name:
        inputs = inputs[:1]  # the others are inside its function
    return sum((_count(nodes, before) for before in inputs), _Counts())


@dataclass(frozen=True)
class _Table:
    """A table of tf.data's."""

    handle: Any

    def entries(self) -> int:
        """How many samples it keeps; −1 of what is no table."""
        try:
            return int(tf.raw_ops.LookupTableSizeV2(table_handle=self.handle))
        except tf.errors.OpError:
            return -1

    def full(self) -> bool:
        """Whether it has no room for more."""
        return False


@dataclass(frozen=True)
class _Store:
    """A store of the native backend's."""

    store: Store

    def entries(self) -> int:
        """How many samples it keeps."""
        return self.store.state().kept

    def full(self) -> bool:
        """Whether it had no room for some."""
        state = self.store.state()
        return state.kept > 0 and (state.full or state.refused > 0)


def _tables(root: Node) -> list[_Table | _Store]:
    """What greenload's own pipelines keep samples in."""
    functions = [node.function for node in root.nodes() if node.dataset is not None]
    own = [wrapped.function for wrapped in functions if wrapped is not None and _is_own(wrapped._func)]
    handles = [handle for function in own for handle in function.captured_inputs if handle.dtype == tf.resource]
    tables = [_Table(handle) for handle in handles if not _is_variable(handle)]
    stores = {attribute for function in own for attribute in stores_in(function.graph.as_graph_def())}
    return [*(table for table in tables if table.entries() >= 0), *(_Store(opened(store)) for store in sorted(stores))]


def _is_own(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).startswith("greenload.")


def _is_variable(handle: Any) -> bool:
    data = getattr(handle, "_handle_data", None)
    return data is not None and len(data.shape_and_type) == 1
