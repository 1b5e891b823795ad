"""The orientation that a file states, wherever its format keeps it: CIPA DC-008 (Exif 2.32), sections 4.5 and 4.6.4.

A block of EXIF is a TIFF's directory: in an APP1 segment of a JPEG, in a PNG's ``eXIf`` chunk (W3C "Portable Network
Graphics (Third Edition)", section 11.3.4.5), in a WebP's ``EXIF`` chunk (RFC 9649, section 2.7.1.5), or the TIFF's own.
Only directory 0 is read, and no pointer of it followed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from greenload.formats import png, tiff
from greenload.formats.base import sniff
from greenload.formats.jpeg import EXIF, FILL, MOST_SEGMENTS, ORIENTATION
from greenload.formats.others import WEBP_CHUNKS

_ENTRIES = 64  # that state an orientation: there should be one


def stated_orientation(data: bytes) -> int:
    """The orientation that a file states: 1 … 8, and 1 where it says nothing that makes sense.

    Args:
        data: the file, or as much of it as there is.
    """
    find = _BLOCKS.get(sniff(data) or "")
    return _orientation(find(data)) if find else 1


def _orientation(block: bytes) -> int:
    """The first that makes sense of the entries that state one."""
    found = tiff.entries(block)
    rows = found[(found["tag"] == ORIENTATION) & (found["count"] == 1)]
    first_half = 16 if tiff.byte_order(block) == ">" else 0  # where a SHORT lies in its four bytes
    for kind, value in rows[["type", "value"]][:_ENTRIES].tolist():
        stated = {3: value >> first_half & 0xFFFF, 4: value}.get(kind, 0)  # SHORT, LONG
        if 1 <= stated <= 8:
            return int(stated)
    return 1


def _in_jpeg(data: bytes) -> bytes:
    at = 2
    for _ in range(MOST_SEGMENTS):
        fill = FILL.match(data, at)
        at = fill.end() - 1 if fill else len(data)
        if at + 4 > len(data) or data[at + 1] in (0xD9, 0xDA):
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xE1 and data.startswith(EXIF, at + 4):
            return data[at + 4 + len(EXIF) : end]
        at = end
    return b""


def _in_png(data: bytes) -> bytes:
    return next((data[at + 8 : end - 4] for name, at, end in png.chunks(data) if name == b"eXIf"), b"")


def _in_webp(data: bytes) -> bytes:
    at = 12
    for _ in range(WEBP_CHUNKS):
        if at + 8 > len(data):
            break
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            return data[at + 8 : at + 8 + length].removeprefix(EXIF)
        at += 8 + length + length % 2
    return b""


_BLOCKS: Mapping[str, Callable[[bytes], bytes]] = {
    "JPEG": _in_jpeg,
    "PNG": _in_png,
    "WebP": _in_webp,
    "TIFF": lambda data: data,
}
