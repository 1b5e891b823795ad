"""SPDL's pipeline of threads: over its own functions of FFmpeg, and over OpenCV's."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.by_hand import SIDE
from bench.peers import opencv
from bench.peers.roster import CACHED
from bench.peers.worker import Task
from bench.reach_peers import window_of


def own(task: Task) -> Iterator[Any]:
    """Decoded, cropped, resized and flipped by FFmpeg, a filter graph an image; antialiased in any case."""
    import spdl.io

    draws = _Draws()

    def load(path: str) -> Any:
        packets = spdl.io.demux_image(Path(path).read_bytes())
        codec = packets.codec
        draw = draws.draw
        top, left, tall, wide = window_of(codec.height, codec.width, draw)
        flip = "hflip," if draw.random() < 0.5 else ""
        filters = f"crop=w={wide}:h={tall}:x={left}:y={top}:exact=1,scale=w={SIDE}:h={SIDE}:flags=bilinear,{flip}"
        return spdl.io.decode_packets(packets, filter_desc=f"{filters}format=pix_fmts=rgb24")

    return _batches(task, list(task.work.paths), load, lambda frames: spdl.io.to_numpy(spdl.io.convert_frames(frames)))


def with_opencv(task: Task) -> Iterator[Any]:
    """OpenCV's functions in SPDL's threads."""
    finish, draws = opencv.finisher(task.group), _Draws()
    if task.group == CACHED:
        return _batches(task, opencv.pixels_of(task.work.paths), lambda image: finish(image, draws.draw), np.stack)

    def load(path: str) -> Any:
        return finish(opencv.decoded(Path(path).read_bytes()), draws.draw)

    return _batches(task, list(task.work.paths), load, np.stack)


class _Draws(threading.local):
    """A generator for each thread."""

    def __init__(self) -> None:
        self.draw = random.Random(threading.get_ident())


def _batches(
    task: Task, samples: list[Any], load: Callable[[Any], Any], stack: Callable[[list[Any]], Any]
) -> Iterator[Any]:
    from spdl.pipeline import PipelineBuilder

    work = task.work

    def endless() -> Iterator[Any]:
        order = random.Random(1)
        while True:
            for index in order.sample(range(len(samples)), len(samples)):
                yield samples[index]

    builder = PipelineBuilder().add_source(endless()).pipe(load, concurrency=work.threads)
    pipeline = builder.aggregate(work.batch).pipe(stack).add_sink(work.prefetch).build(num_threads=work.threads)
    with pipeline.auto_stop():
        yield from pipeline.get_iterator()
