"""Parses the headers and chunks of PNG files (W3C "Portable Network Graphics (Third Edition)", sections 5 and 11)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from greenload.sources.formats.base import FormatError, Header, Truncated, check_size

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHUNK, _CHECKSUM = struct.Struct(">I4s"), struct.Struct(">I")
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")

CHUNKS, CHUNK_BYTES = 4096, 128
"""A PNG may have so many chunks, and another for each so many bytes of its own; encoders fill chunks of 8 kB."""
COMPRESSED, MOST_COMPRESSED = (b"zTXt", b"iTXt"), 64
"""Chunks whose texts may be compressed, and how many of them a PNG may have: decoders decompress each, up to eight
megabytes of as many kilobytes, in 30 ms."""
_ANIMATION = b"acTL"

END = b"\0\0\0\0IEND\xaeB`\x82"
"""The end chunk."""
HEAD, HEAD_BYTES = b"\0\0\0\rIHDR", 33
"""What a PNG's header begins with, and how long it is with the signature in front."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Left, top, and steps across and down of each pass: W3C "Portable Network Graphics (Third Edition)", section 8.1.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def parse(data: bytes) -> Header:
    """A PNG's header; its chunks must be whole, as decoders differ in the damage that they accept.

    Raises:
        FormatError: it is cut, broken, or of a kind that isn't decoded.
    """
    if data[12:16] == b"CgBI":
        raise FormatError(
            "Apple's own PNG (with a CgBI chunk) is not supported: convert it with pngcrush "
            "-revert-iphone-optimizations, or on a Mac to PNG"
        )
    if len(data) < HEAD_BYTES or data[8:16] != HEAD:
        raise Truncated("truncated PNG: its header is cut")
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
    raise Truncated("truncated PNG: it ends before its end chunk")


def alone(data: bytes) -> bytes:
    """A PNG of its critical chunks alone, and its pixels in one of them: nothing else decides what the pixels are.

    Args:
        data: the file, whose header ``parse`` has passed.
    """
    return made(data, *pixels(data))


def made(data: bytes, head: bytes, body: bytes) -> bytes:
    """A PNG from its parts.

    Args:
        data: a file that begins as a PNG does.
        head: the chunks in front of its pixels.
        body: its pixels as they are compressed.
    """
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


def row_lengths(data: bytes) -> list[tuple[int, int]]:
    """Of each pass over a PNG's pixels that has some, the bytes of a row, its filter's among them, and how many rows.

    Args:
        data: the file, or its first ``HEAD_BYTES``.
    """
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    passes, bits = [], depth * _CHANNELS[color]
    for left, top, across, down in _ADAM7 if data[28] else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            passes.append((1 + -(-columns * bits // 8), rows))
    return passes


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
