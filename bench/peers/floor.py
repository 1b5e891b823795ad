"""No framework: simplejpeg and OpenCV in two threads of Python; from memory OpenCV alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench import reach_peers
from bench.peers.roster import ANTIALIASED, CACHED
from bench.peers.worker import Task


def batches(task: Task) -> Iterator[Any]:
    """Windows resized into a batch buffer; antialiased where asked by averaging areas."""
    if task.group == CACHED:
        return reach_peers.opencv_from_ram(task.work, reach_peers.pixels_of(task.work.paths))
    return reach_peers.floor_of_libraries(task.work, area=task.group == ANTIALIASED)
