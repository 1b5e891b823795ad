"""greenload's own pipeline, through its public ``load``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench import reach_subjects
from bench.peers.roster import ANTIALIASED, CACHED
from bench.peers.worker import Task


def batches(task: Task) -> Iterator[Any]:
    """uint8 on ``backend="auto"``; what is cached is what ``Cache()`` keeps where the whole set fits in memory."""
    import greenload as gl

    cache = gl.Cache() if task.group == CACHED else None
    pipeline = reach_subjects.pipeline(task.work, cache=cache, antialias=task.group == ANTIALIASED)
    return reach_subjects.images_of(pipeline, task.work)
