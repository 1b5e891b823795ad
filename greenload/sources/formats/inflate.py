"""Decompresses deflate (RFC 1950) in blocks, so that a few bytes can't take gigabytes of memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

_FED, _BLOCK = 1 << 16, 1 << 20  # bytes to decompress at a time, and bytes of a block at most


def blocks(stream: Any, compressed: bytes, most: int) -> Iterator[bytes]:
    """Blocks of the decompressed bytes, until there are ``most`` bytes (or up to a block more) or no more.

    Args:
        stream: a new ``zlib.decompressobj()``; afterwards its ``eof`` says whether the end and its checksum were read.
        compressed: the bytes.
        most: bytes that are wanted.

    Raises:
        zlib.error: they can't be decompressed.
    """
    size = fed = 0
    while size < most and not stream.eof:
        part = stream.unconsumed_tail
        if not part:
            part = compressed[fed : fed + _FED]
            fed += len(part)
        block = stream.decompress(part, _BLOCK)
        if not block and not part:
            return
        size += len(block)
        yield block


def blocks_before_damage(compressed: bytes, most: int) -> Iterator[bytes]:
    """Blocks of the decompressed bytes before any damage; what follows damage can't be decompressed.

    Args:
        compressed: the bytes.
        most: bytes that are wanted.
    """
    stream, part, fed, size, limit = zlib.decompressobj(), b"", 0, 0, _BLOCK
    while size < most and limit and not stream.eof:
        if not part:
            part = compressed[fed : fed + _FED]
            fed += len(part)
        before = stream.copy()
        try:
            block = stream.decompress(part, limit)
        except zlib.error:  # the bytes of this call are lost: try again with fewer
            stream, limit = before, limit // 2
            continue
        if not block and not part:
            return
        part = stream.unconsumed_tail
        size += len(block)
        yield block
