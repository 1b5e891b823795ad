"""Grain's reading threads over functions of OpenCV; the samples of a batch are stacked by Grain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.peers import opencv
from bench.peers.roster import CACHED
from bench.peers.worker import Task


def batches(task: Task) -> Iterator[Any]:
    """Each reading thread makes whole batches."""
    import grain

    work, finish = task.work, opencv.finisher(task.group)
    cached = task.group == CACHED
    samples = grain.MapDataset.source(opencv.pixels_of(work.paths) if cached else list(work.paths))

    def changed(sample: Any, draw: Any) -> Any:
        return finish(sample if cached else opencv.decoded(Path(sample).read_bytes()), draw)

    samples = samples.seed(1).shuffle().repeat().random_map(changed)
    options = grain.ReadOptions(num_threads=work.threads, prefetch_buffer_size=work.threads * work.prefetch)
    return iter(samples.batch(work.batch).to_iter_dataset(options))
