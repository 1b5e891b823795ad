"""PyTorch's DataLoader with two worker processes: over Pillow's images, torchvision's tensors, and Albumentations.

What is kept in memory is made before the workers are forked, and so is held once. Samples are drawn by an endless
sampler: a set as small as the sample photographs would else empty the workers' queues at the end of each epoch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.by_hand import RATIO, SCALE, SIDE, Workload
from bench.peers.roster import ANTIALIASED, CACHED
from bench.peers.worker import Task


def pillow(task: Task) -> Iterator[Any]:
    """torchvision's transforms of Pillow's images, which always antialias; channels last, as Pillow has them."""
    import torch
    from PIL import Image
    from torchvision.transforms import InterpolationMode, v2

    change = v2.Compose(
        [
            v2.RandomResizedCrop(SIDE, SCALE, RATIO, InterpolationMode.BILINEAR),
            v2.RandomHorizontalFlip(),
        ]
    )

    def read(path: str) -> Any:
        with Image.open(path) as file:
            return file.convert("RGB")

    return _batches(task, read, lambda image: torch.from_numpy(np.array(change(image))))


def tensors(task: Task) -> Iterator[Any]:
    """torchvision's decoder and its transforms of uint8 tensors; channels first, as it has them."""
    import torch
    from torchvision import io
    from torchvision.transforms import InterpolationMode, v2

    antialias = task.group == ANTIALIASED
    change = v2.Compose(
        [
            v2.RandomResizedCrop(SIDE, SCALE, RATIO, InterpolationMode.BILINEAR, antialias=antialias),
            v2.RandomHorizontalFlip(),
        ]
    )
    torch.set_num_threads(1)
    return _batches(task, lambda path: io.decode_jpeg(io.read_file(path), io.ImageReadMode.RGB), change)


def albumentations(task: Task) -> Iterator[Any]:
    """Decoded, resized and flipped by OpenCV, through Albumentations' transforms."""
    import albumentations as a
    import cv2
    import torch

    from bench.peers import opencv

    cv2.setNumThreads(0)
    interpolation = cv2.INTER_AREA if task.group == ANTIALIASED else cv2.INTER_LINEAR
    change = a.Compose(
        [
            a.RandomResizedCrop((SIDE, SIDE), SCALE, RATIO, interpolation=interpolation, p=1.0),
            a.HorizontalFlip(p=0.5),
        ]
    )

    def finish(image: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(change(image=image)["image"]))

    return _batches(task, lambda path: opencv.decoded(Path(path).read_bytes()), finish)


def _batches(task: Task, read: Callable[[str], Any], finish: Callable[[Any], Any]) -> Iterator[Any]:
    from torch.utils.data import DataLoader, Dataset

    work = task.work
    kept = [read(path) for path in work.paths] if task.group == CACHED else None

    class Photographs(Dataset[Any]):
        def __len__(self) -> int:
            return len(work.paths)

        def __getitem__(self, index: int) -> Any:
            return finish(read(work.paths[index]) if kept is None else kept[index])

    return iter(
        DataLoader(
            Photographs(),
            batch_sampler=_Endless(work),
            num_workers=work.threads,
            prefetch_factor=work.prefetch,
            multiprocessing_context="fork",
        )
    )


class _Endless:
    """Batches of indices, epoch after epoch, each shuffled anew."""

    def __init__(self, work: Workload) -> None:
        self._work = work

    def __iter__(self) -> Iterator[list[int]]:
        order, waiting = random.Random(1), []
        while True:
            while len(waiting) < self._work.batch:
                waiting += order.sample(range(len(self._work.paths)), len(self._work.paths))
            yield waiting[: self._work.batch]
            waiting = waiting[self._work.batch :]
