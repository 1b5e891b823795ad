"""Packs a batch into one matrix of bytes, a row per sample: the only input of a DALI graph, which unpacks it.

A row holds the inputs of the sample's operators and its label, then its image: a file's bytes, or pixels. Rows are as
wide as the batch's longest image needs, so a few long images among many would multiply a batch's memory: images of more
than ``WIDEST`` times the mean length are written to files meanwhile, and their rows hold the files' names.
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
from greenload.backends.dali.base import Node, merge, split
from greenload.backends.dali.graph import dtypes
from greenload.system.frameworks import fn
from greenload.system.scratch import ScratchFolder

WIDEST = 4
"""No row is wider than this many times the batch's mean image."""
_COUNT, _IN_FILE = "count", "in file"


@dataclass(frozen=True)
class RowField:
    """What every row holds at one offset."""

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
    """Packs batches into rows, and unpacks them in a graph.

    Args:
        like: what every row holds beside its image, for any one sample: ``[1, …]`` each, by name.
        kept: batches that may be in flight at a time: so long their files are kept.
    """

    def __init__(self, like: Mapping[str, NDArray[np.generic]], kept: int) -> None:
        own = {_COUNT: np.zeros((1, 1), np.int32), _IN_FILE: np.zeros(1, bool)}
        fields, at = [], 0
        for name, values in (own | dict(like)).items():
            fields.append(RowField(name, str(values.dtype), values.shape[1:], at))
            at += fields[-1].bytes
        self.fields = tuple(fields)
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
            values: ``[n, …]`` of every field, by name.
            images: bytes, or pixels.
        """
        flat = [_flat(image) for image in images]
        in_file = np.array([len(image) for image in flat]) > WIDEST * np.mean([len(image) for image in flat])
        long = np.flatnonzero(in_file).tolist()
        for i, path in zip(long, self._written([flat[i] for i in long]), strict=True):
            flat[i] = np.frombuffer(os.fsencode(path), np.uint8)
        count = np.array([[len(image)] for image in flat], np.int32)
        width = self.begin + int(count.max())
        rows = empty((len(flat), width), "uint8")  # aligned as TensorFlow takes memory over without a copy
        for field in self.fields:
            value = {_COUNT: count, _IN_FILE: in_file}.get(field.name, values.get(field.name))
            column = np.ascontiguousarray(value, field.dtype).reshape(len(flat), -1)
            rows[:, field.at : field.at + field.bytes] = column.view(np.uint8)
        for row, image in zip(rows, flat, strict=True):
            row[self.begin : self.begin + len(image)] = image
        return rows

    def unpacked(self, rows: Node) -> tuple[dict[str, Node], Node]:
        """Every field by name, and the image's bytes, as nodes of a graph that has rows."""
        kinds, nodes = dtypes(), {}
        for field in self.fields:
            piece = fn.slice(rows, start=[field.at], shape=[field.bytes], axes=[0])
            piece = fn.reinterpret(piece, dtype=kinds[field.dtype], shape=list(field.shape or (1,)))
            nodes[field.name] = piece if field.shape else fn.squeeze(piece, axes=[0])
        image = fn.slice(rows, start=[self.begin], shape=nodes[_COUNT], axes=[0])
        name, inside = split(image, nodes[_IN_FILE])
        return nodes, merge(fn.io.file.read(name), inside, nodes[_IN_FILE])

    def _written(self, images: Sequence[NDArray[np.uint8]]) -> list[str]:
        """Write a batch's long images to files; remove those of batches that are no longer in flight."""
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
