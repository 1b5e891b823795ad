"""FFCV, by its own loader: from a file of JPEGs, or from memory a file of pixels in the page cache.

The JPEGs are kept as they are; FFCV's writer would else encode them again, and so write other images.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.by_hand import RATIO, SCALE, SIDE, Workload
from bench.peers.roster import CACHED
from bench.peers.worker import Task

EPOCHS = 64
"""How often each photograph is in an epoch of FFCV's, which else would end every few batches and empty its queue."""


def batches(task: Task) -> Iterator[Any]:
    """``RandomResizedCropRGBImageDecoder`` and ``RandomHorizontalFlip``, which are FFCV's own, compiled by Numba."""
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import RandomHorizontalFlip, ToTensor

    work = task.work
    loader = Loader(
        _written(task),
        batch_size=work.batch,
        num_workers=work.threads,
        os_cache=True,
        order=OrderOption.RANDOM,
        seed=1,
        indices=np.tile(np.arange(len(work.paths), dtype=np.uint64), EPOCHS),
        pipelines={
            "image": [RandomResizedCropRGBImageDecoder((SIDE, SIDE), SCALE, RATIO), RandomHorizontalFlip(), ToTensor()]
        },
        batches_ahead=work.prefetch,
    )
    while True:
        for (images,) in loader:
            yield images


def _written(task: Task) -> str:
    """The photographs in FFCV's format; gives the file's name."""
    from ffcv.fields import RGBImageField
    from ffcv.writer import DatasetWriter
    from PIL import Image

    name = str(Path(task.scratch) / f"{task.group}.beton")
    keep = task.group == CACHED
    field = RGBImageField(write_mode="raw")
    if not keep:
        field.encode = _as_it_is
    writer = DatasetWriter(name, {"image": field}, num_workers=1)
    writer.from_indexed_dataset(_Photographs(task.work, keep, Image))
    return name


def _as_it_is(destination: Any, image: tuple[str, int, int], malloc: Any) -> None:
    """``RGBImageField.encode`` for a JPEG that isn't encoded again."""
    from ffcv.fields.rgb_image import IMAGE_MODES

    path, width, height = image
    data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    destination["mode"] = IMAGE_MODES["jpg"]
    destination["height"], destination["width"] = height, width
    destination["data_ptr"], storage = malloc(data.nbytes)
    storage[:] = data


class _Photographs:
    """Samples as FFCV's writer takes them."""

    def __init__(self, work: Workload, pixels: bool, image: Any) -> None:
        self._work, self._pixels, self._image = work, pixels, image

    def __len__(self) -> int:
        return len(self._work.paths)

    def __getitem__(self, index: int) -> tuple[Any]:
        path = self._work.paths[index]
        with self._image.open(path) as file:
            return (file.convert("RGB") if self._pixels else (path, *file.size),)
