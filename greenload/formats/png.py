"""PNG headers and structure: W3C "Portable Network Graphics (Third Edition)", sections 5 and 11."""

from __future__ import annotations

import struct
import zlib

from greenload.formats.base import FormatError, Header, check_size

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def parse(data: bytes) -> Header:
    """A PNG's header, and whether its chunks are whole: decoders differ in what damage they let pass.

    Raises:
        FormatError: it is cut, broken, or of a kind that isn't decoded.
    """
    if len(data) < 33 or data[8:16] != b"\0\0\0\rIHDR":
        raise FormatError("truncated PNG: its header is cut")
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    if depth not in _DEPTHS.get(color, ()):
        raise FormatError(f"broken PNG: its header says {depth} bits of colour type {color}")
    check_size("PNG", height, width)
    _check_chunks(data)
    return Header("PNG", height, width, kind="16-bit PNG" if depth == 16 else "PNG")


def _check_chunks(data: bytes) -> None:
    """Chunks up to the end chunk: lengths that fit, and checksums that hold where a decoder needs the chunk.

    Raises:
        FormatError: they don't.
    """
    at, view = 8, memoryview(data)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            break
        critical = not name[0] & 0x20
        if critical and name not in _CRITICAL:
            raise FormatError(f"broken PNG: unknown chunk {name!r}")
        if critical and zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise FormatError(f"broken PNG: the checksum of its {name.decode()} chunk doesn't hold")
        if name == b"IEND":
            return
        at = end
    raise FormatError("truncated PNG: it ends before its end chunk")
