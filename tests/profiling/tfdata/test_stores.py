"""Which caches a dataset has, which were filled before, and which steps stand in front of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from greenload.profiling.tfdata.caches import Stores, snapshot_there
from greenload.profiling.tfdata.walk import walk
from greenload.report.cost_records import CacheState

tf = pytest.importorskip("tensorflow")
Range: Any = tf.data.Dataset.range


def test_steps_in_front_of_a_cache_run_in_the_first_epoch_only() -> None:
    root = walk(Range(4).map(lambda x: x + 1).cache().batch(2))
    stores = Stores.of(root)
    assert {node.kind: stores.runs(node) for node in root.nodes()} == {
        "range": "first epoch", "map": "first epoch", "cache": "every epoch", "batch": "every epoch",
    }  # fmt: skip
    assert stores.states() == (CacheState("cache", "", False),)
    assert not Stores.of(walk(Range(4).batch(2)))


def test_steps_in_front_of_a_cache_that_is_on_disk_never_run(tmp_path: Path) -> None:
    path = str(tmp_path / "kept")
    dataset = Range(4).map(lambda x: x + 1).cache(path).map(lambda x: x * 2).cache()
    assert [one.filled for one in Stores.of(walk(dataset)).states()] == [False, False]
    for _ in dataset:
        pass
    root = walk(dataset)
    stores = Stores.of(root)
    assert stores.states() == (CacheState("cache", path, True), CacheState("cache (2)", "", False))
    assert [stores.runs(node) for node in root.nodes()] == [
        "no epoch", "no epoch", "first epoch", "first epoch", "every epoch",
    ]  # fmt: skip


def test_a_cache_inside_an_interleave_begins_anew_with_each_call(tmp_path: Path) -> None:
    assert not Stores.of(walk(Range(3).interleave(lambda x: Range(x).cache(), cycle_length=1)))
    root = walk(Range(3).snapshot(str(tmp_path)))
    assert Stores.of(root).states()[0].path == str(tmp_path) and not snapshot_there(root)
    for _ in root.dataset:
        pass
    assert [node.kind for node in root.nodes() if snapshot_there(node)] == ["snapshot"]
