"""Defines what a source of samples is."""

from __future__ import annotations

import os
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from greenload.specs import ImageSpec

UNREADABLE = "can't be read"
"""How the reason begins for a record that the system couldn't read: it may be readable later."""


@runtime_checkable
class Source(Protocol):
    """Samples with random access: a length, labels, and one record per index."""

    def __len__(self) -> int:
        """How many samples there are, at least 1."""

    @property
    def spec(self) -> ImageSpec:
        """What a record's image is: encoded bytes, or pixels."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """One label per sample, int64 ``[n]``."""

    def name(self, index: int) -> str:
        """The name of a sample for messages: its path, or its index in an array or a file of records."""

    def read(self, index: int) -> bytes | NDArray[np.generic]:
        """One record's image: a file's bytes, or pixels ``[H, W, C]``.

        Raises:
            RecordError: it can't be read.
            SourceError: nothing can be read now: a limit of the process is reached. The record isn't at fault.
        """

    def fingerprint(self) -> str:
        """A digest that changes when the samples do."""

    def to_dict(self) -> dict[str, Any]:
        """The source as JSON data."""


def is_source(value: object) -> bool:
    """Whether a value is a ``Source``. Reads none of its members: ``isinstance`` would, and so would list a folder."""
    members = ("__len__", "spec", "labels", "name", "read", "fingerprint", "to_dict")
    return all(hasattr(type(value), member) or member in getattr(value, "__dict__", ()) for member in members)


def file_stamp(path: str) -> str:
    """A text that differs once a file's size or times of change do; for a missing file the error's number."""
    try:
        state = os.stat(path)
    except OSError as error:
        return f"{error.errno}"
    return f"{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}"
