"""What is kept of files, in memory: as the kernel is given it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

JPEG = b"\xff\xd8"
"""How a JPEG begins."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Where bytes lie that a store keeps: what reads them must keep the store."""

    address: int
    length: int

    def __len__(self) -> int:
        return self.length

    @property
    def is_jpeg(self) -> bool:
        """Whether it begins as a JPEG does."""
        return self.length > 1 and ctypes.string_at(self.address, 2) == JPEG

    def tobytes(self) -> bytes:
        """A copy."""
        return ctypes.string_at(self.address, self.length)


class Own(bytes):
    """A file in one of the forms that greenload makes and only the kernel reads, and not a user's: such as a binary
    PPM."""
