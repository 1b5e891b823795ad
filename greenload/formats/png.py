"""PNG headers and structure: W3C "Portable Network Graphics (Third Edition)", sections 5 and 11."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from greenload.formats.base import FormatError, Header, check_size

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHUNK, _CHECKSUM = struct.Struct(">I4s"), struct.Struct(">I")
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")

CHUNKS, CHUNK_BYTES = 4096, 128
"""A PNG may have so many chunks, and another for each so many bytes of its own; encoders fill chunks of 8 kB."""
COMPRESSED, MOST_COMPRESSED = (b"zTXt", b"iTXt"), 64
"""Chunks whose texts may be compressed, and how many of them a PNG may have: decoders decompress each, up to eight
megabytes of as many kilobytes, in 30 ms."""
_ANIMATION = b"acTL"


def parse(data: bytes) -> Header:
    """A PNG's header, and whether its chunks are whole: decoders differ in what damage they let pass.

    Raises:
        FormatError: it is cut, broken, or of a kind that isn't decoded.
    """
    if data[12:16] == b"CgBI":
        raise FormatError(
            "Apple's own PNG (with a CgBI chunk) is not supported: convert it with pngcrush "
            "-revert-iphone-optimizations, or on a Mac to PNG"
        )
    if len(data) < 33 or data[8:16] != b"\0\0\0\rIHDR":
        raise FormatError("truncated PNG: its header is cut")
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    if depth not in _DEPTHS.get(color, ()):
        raise FormatError(f"broken PNG: its header says {depth} bits of colour type {color}")
    check_size("PNG", height, width)
    burdened = _check_chunks(data)
    return Header("PNG", height, width, kind="16-bit PNG" if depth == 16 else "PNG", burdened=burdened)


def _check_chunks(data: bytes) -> bool:
    """Chunks up to the end chunk: lengths that fit, and checksums that hold where a decoder needs the chunk.

    Returns:
        Whether there are texts to decompress, or animation.

    Raises:
        FormatError: they don't.
    """
    view, texts, animated = memoryview(data), 0, False
    left = CHUNKS + len(data) // CHUNK_BYTES
    for name, at, end in chunks(data):
        left -= 1
        if left < 0:
            raise FormatError(
                f"broken PNG: more than {CHUNKS + len(data) // CHUNK_BYTES:,} chunks in {len(data):,} bytes"
            )
        if name[0] & 0x20:  # not critical
            texts += name in COMPRESSED
            animated |= name == _ANIMATION
            if texts > MOST_COMPRESSED:
                raise FormatError(
                    f"PNG with more than {MOST_COMPRESSED} compressed texts is not supported: remove them"
                )
            continue
        if name not in _CRITICAL:
            raise FormatError(f"broken PNG: unknown chunk {name!r}")
        (checksum,) = _CHECKSUM.unpack_from(data, end - 4)
        if zlib.crc32(view[at + 4 : end - 4]) != checksum:
            raise FormatError(f"broken PNG: the checksum of its {name.decode()} chunk doesn't hold")
        if name == b"IEND":
            return texts > 0 or animated
    raise FormatError("truncated PNG: it ends before its end chunk")


def alone(data: bytes) -> bytes:
    """A PNG of its critical chunks alone, and its pixels in one of them: nothing else decides what the pixels are.

    Args:
        data: the file, whose header ``parse`` has passed.
    """
    head, body = pixels(data)
    file = bytearray(data[:8] + head)
    for name, content in ((b"IDAT", body), (b"IEND", b"")):
        file += len(content).to_bytes(4, "big") + name
        file += content
        file += zlib.crc32(content, zlib.crc32(name)).to_bytes(4, "big")
    return bytes(file)


def pixels(data: bytes) -> tuple[bytes, bytes]:
    """The critical chunks in front of a PNG's pixels, and the pixels as they are compressed.

    They end where another chunk follows, as libpng has it.
    """
    view, head, body, begun = memoryview(data), bytearray(), bytearray(), False
    for name, at, end in chunks(data):
        if name == b"IDAT":
            begun = True
            body += view[at + 8 : end - 4]
        elif begun:
            break
        elif not name[0] & 0x20:
            head += view[at:end]
    return bytes(head), bytes(body)


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The name of each whole chunk of a PNG, where it begins, and where it ends behind its checksum."""
    at, size = 8, len(data)
    while at + 12 <= size:
        length, name = _CHUNK.unpack_from(data, at)
        end = at + 12 + length
        if end > size:
            return
        yield name, at, end
        at = end
