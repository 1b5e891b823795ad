"""What a source is."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from greenload.specs import ImageSpec

UNREADABLE = "can't be read"
"""How the reason of a record begins that the system didn't hand out: it may do so later."""


@runtime_checkable
class Source(Protocol):
    """Samples with random access: a length, labels, and one record an index."""

    def __len__(self) -> int:
        """How many samples there are, at least 1."""
        ...

    @property
    def spec(self) -> ImageSpec:
        """What a record's image is: encoded bytes, or pixels."""
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """One label a sample, int64 ``[n]``."""
        ...

    def name(self, index: int) -> str:
        """What names a sample to its owner: its path, or its place in an array or a file of records."""
        ...

    def read(self, index: int) -> bytes | NDArray[np.generic]:
        """One record's image: a file's bytes, or pixels ``[H, W, C]``.

        Raises:
            RecordError: it can't be read.
            SourceError: nothing can be read now, for no fault of the record: a limit of the process is reached.
        """
        ...

    def fingerprint(self) -> str:
        """A digest that changes when the samples do."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The source as JSON data."""
        ...


def is_source(value: object) -> bool:
    """Whether a value is a ``Source``, told without reading its members: ``isinstance`` would, and so list a folder."""
    members = ("__len__", "spec", "labels", "name", "read", "fingerprint", "to_dict")
    return all(hasattr(type(value), member) or member in getattr(value, "__dict__", ()) for member in members)
