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
    if task.group == CACHED:
        source: Any = opencv.pixels_of(work.paths)
        read: Any = lambda image: image  # noqa: E731
    else:
        source, read = list(work.paths), lambda path: opencv.decoded(Path(path).read_bytes())
    samples = grain.MapDataset.source(source).seed(1).shuffle().repeat()
    samples = samples.random_map(lambda sample, draw: finish(read(sample), draw))
    options = grain.ReadOptions(num_threads=work.threads, prefetch_buffer_size=work.threads * work.prefetch)
    return iter(samples.batch(work.batch).to_iter_dataset(options))
