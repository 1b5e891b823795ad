"""DALI on the CPU, by hand."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench import by_hand, reach_peers
from bench.by_hand import ATTEMPTS, RATIO, SCALE, SIDE, Workload
from bench.peers.roster import ANTIALIASED, CACHED
from bench.peers.worker import Task


def batches(task: Task) -> Iterator[Any]:
    """With DALI's defaults; from memory by its external source, since its own cache is for GPUs."""
    if task.group == CACHED:
        return _from_memory(task.work)
    return by_hand.dali_batches(task.work, antialias=task.group == ANTIALIASED)


def _from_memory(work: Workload) -> Iterator[Any]:
    from nvidia.dali import Pipeline, fn, types

    pixels = reach_peers.pixels_of(work.paths)
    order = random.Random(1)
    indices = (index for _ in itertools.count() for index in order.sample(range(len(pixels)), len(pixels)))
    graph = Pipeline(
        batch_size=work.batch, num_threads=work.threads, device_id=None, prefetch_queue_depth=work.prefetch, seed=1
    )
    with graph:
        images = fn.external_source(
            source=lambda: [pixels[next(indices)] for _ in range(work.batch)], layout="HWC", no_copy=True
        )
        images = fn.random_resized_crop(
            images,
            size=[SIDE, SIDE],
            random_area=list(SCALE),
            random_aspect_ratio=list(RATIO),
            num_attempts=ATTEMPTS,
            interp_type=types.INTERP_LINEAR,
            antialias=False,
        )
        graph.set_outputs(fn.flip(images, horizontal=fn.random.coin_flip()))
    graph.build()
    while True:
        (made,) = graph.run()
        yield np.asarray(made.as_tensor())
