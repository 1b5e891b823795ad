"""Batches as matrices of bytes, a row a sample: what a DALI graph is given as its only input, and takes apart.

A row holds what the sample's operators are fed and its label, then its image: a file's bytes, or pixels. Rows are as
wide as the batch's longest image needs, so a few long ones among many would multiply a batch's memory: those more than
``WIDEST`` times the mean lie in files meanwhile, and their rows hold the files' names.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import empty
from greenload.backends.dali.base import Node
from greenload.backends.dali.graph import dtypes
from greenload.system.scratch import ScratchFolder

WIDEST = 4
"""No row is wider than this many times the batch's mean image."""
_COUNT, _APART = "count", "apart"


@dataclass(frozen=True)
class Part:
    """What every row holds at one place."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    at: int
    """Where it begins in a row."""

    @property
    def bytes(self) -> int:
        """How long it is."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class Rows:
    """Packs batches into rows, and takes them apart in a graph.

    Args:
        like: what every row shall hold beside its image, for any one sample: ``[1, …]`` each, by name.
        kept: batches that may be under way at once: so long their files are kept.
    """

    def __init__(self, like: Mapping[str, NDArray[np.generic]], kept: int) -> None:
        own = {_COUNT: np.zeros((1, 1), np.int32), _APART: np.zeros(1, bool)}
        parts, at = [], 0
        for name, values in (own | dict(like)).items():
            parts.append(Part(name, str(values.dtype), values.shape[1:], at))
            at += parts[-1].bytes
        self.parts = tuple(parts)
        """In order."""
        self.begin = at
        """Where the image begins in a row."""
        self._files: deque[list[str]] = deque()
        self._kept = kept
        self._folder: ScratchFolder | None = None
        self._names = itertools.count()
        self._lock = threading.Lock()

    def pack(self, values: Mapping[str, NDArray[np.generic]], images: Sequence[Any]) -> NDArray[np.uint8]:
        """A batch's rows, uint8 ``[n, width]``. What lies behind the end of an image has no meaning.

        Args:
            values: ``[n, …]`` of every part, by name.
            images: bytes, or pixels.
        """
        flat = [_flat(image) for image in images]
        apart = np.array([len(image) for image in flat]) > WIDEST * np.mean([len(image) for image in flat])
        long = np.flatnonzero(apart).tolist()
        for i, path in zip(long, self._written([flat[i] for i in long]), strict=True):
            flat[i] = np.frombuffer(os.fsencode(path), np.uint8)
        count = np.array([[len(image)] for image in flat], np.int32)
        width = self.begin + int(count.max())
        rows = empty((len(flat), width), "uint8")  # aligned as TensorFlow takes memory over without a copy
        for part in self.parts:
            value = {_COUNT: count, _APART: apart}.get(part.name, values.get(part.name))
            there = np.ascontiguousarray(value, part.dtype).reshape(len(flat), -1)
            rows[:, part.at : part.at + part.bytes] = there.view(np.uint8)
        for row, image in zip(rows, flat, strict=True):
            row[self.begin : self.begin + len(image)] = image
        return rows

    def taken(self, rows: Node) -> tuple[dict[str, Node], Node]:
        """Every part by name, and the image's bytes, as nodes of a graph that has rows."""
        from nvidia.dali import fn

        kinds, found = dtypes(), {}
        for part in self.parts:
            piece = fn.slice(rows, start=[part.at], shape=[part.bytes], axes=[0])
            piece = fn.reinterpret(piece, dtype=kinds[part.dtype], shape=list(part.shape or (1,)))
            found[part.name] = piece if part.shape else fn.squeeze(piece, axes=[0])
        image = fn.slice(rows, start=[self.begin], shape=found[_COUNT], axes=[0])
        branch: Any = fn  # its stubs leave these operators out
        name, inside = branch._conditional.split(image, predicate=found[_APART], _if_stmt=True)
        return found, branch._conditional.merge(branch.io.file.read(name), inside, predicate=found[_APART])

    def _written(self, images: Sequence[NDArray[np.uint8]]) -> list[str]:
        """A batch's long images as files, while those of batches that are long done go."""
        with self._lock:
            if images and self._folder is None:
                self._folder = ScratchFolder()
            paths = [os.path.join(self._folder.path, str(next(self._names))) for _ in images] if self._folder else []
            self._files.append(paths)
            done = [self._files.popleft() for _ in range(len(self._files) - self._kept)]
        for path, image in zip(paths, images, strict=True):
            image.tofile(path)
        for path in itertools.chain(*done):
            with contextlib.suppress(OSError):
                os.remove(path)
        return paths


def _flat(image: Any) -> NDArray[np.uint8]:
    """The bytes of a file, or of pixels."""
    if isinstance(image, bytes):
        return np.frombuffer(image, np.uint8)
    flat: NDArray[np.uint8] = np.ascontiguousarray(image).reshape(-1).view(np.uint8)
    return flat
