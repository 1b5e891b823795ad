"""Reads the orientation that an image file states (CIPA DC-008, Exif 2.32, sections 4.5 and 4.6.4).

A block of EXIF is a TIFF's directory: in an APP1 segment of a JPEG, in a PNG's ``eXIf`` chunk (W3C "Portable Network
Graphics (Third Edition)", section 11.3.4.5), in a WebP's ``EXIF`` chunk (RFC 9649, section 2.7.1.5), or the TIFF's own.
Only directory 0 is read, and none of its pointers is followed. ``backends.tf.orientation`` has the same rule as ops.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Mapping

from greenload.sources.formats import png, tiff
from greenload.sources.formats.base import sniff
from greenload.sources.formats.jpeg import EXIF
from greenload.sources.formats.others import WEBP_CHUNKS

ORIENTATION = 0x0112
"""The tag of the orientation, one number."""
TYPES: Mapping[int, str] = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""The types that it may have, as ``struct`` calls them. Writers should take SHORT, 3; readers take any integer."""
JPEG_STEPS = 4096
"""A JPEG's EXIF segment must be among so many segments, where each fill byte in front of a marker counts as one."""
JPEG_FRONT = (0xE0, 0xEF, 0xFE)
"""A JPEG begins with segments of APP0 … APP15 and comments, among which EXIF belongs; then its tables follow."""
JPEG_BEHIND = 8192
"""EXIF that comes after the tables have begun must end its first ten bytes within so many."""
PNG_NAME = b"eXIf"
"""The chunk of a PNG that holds EXIF."""


def orientation(data: bytes) -> int:
    """The orientation that a file states: 1 … 8, and 1 where it states none.

    Args:
        data: the file, or as much of it as there is.
    """
    find = _BLOCKS.get(sniff(data) or "")
    return _stated(find(data)) if find else 1


def png_steps(size: int) -> int:
    """The ``eXIf`` chunk of a PNG of so many bytes must be among so many chunks: as many as it may have."""
    return png.CHUNKS + size // png.CHUNK_BYTES


def _stated(block: bytes) -> int:
    """The first of directory 0's entries for the orientation that holds one."""
    order = tiff.byte_order(block)
    if order is None or len(block) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    if start + 2 > len(block):
        return 1
    (promised,) = struct.unpack_from(f"{order}H", block, start)
    end = start + 2 + 12 * min(promised, (len(block) - start - 2) // 12)
    for tag, kind, count, value in struct.iter_unpack(f"{order}HHI4s", memoryview(block)[start + 2 : end]):
        if tag == ORIENTATION and count == 1 and kind in TYPES:
            (stated,) = struct.unpack_from(order + TYPES[kind], value)
            if 1 <= stated <= 8:
                return int(stated)
    return 1


def _in_jpeg(data: bytes) -> bytes:
    at, limit = 2, len(data)
    first, last, comment = JPEG_FRONT
    for _ in range(JPEG_STEPS):
        if at + 10 > limit or data[at] != 0xFF or data[at + 1] in (0xD9, 0xDA):
            break
        kind = data[at + 1]
        if kind == 0xFF:
            at += 1
            continue
        if limit == len(data) and not (first <= kind <= last or kind == comment):
            limit = min(limit, at + JPEG_BEHIND)
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == 0xE1 and data.startswith(EXIF, at + 4) and end >= at + 10:
            return data[at + 10 : end]
        at = end
    return b""


def _in_png(data: bytes) -> bytes:
    if PNG_NAME not in data:  # found far sooner than by going from chunk to chunk
        return b""
    for name, at, end in itertools.islice(png.chunks(data), png_steps(len(data))):
        if name == PNG_NAME:
            return data[at + 8 : end - 4].removeprefix(EXIF)
        if name == b"IEND":
            break
    return b""


def _in_webp(data: bytes) -> bytes:
    if data[12:16] != b"VP8X":
        return b""
    at, end = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    for _ in range(WEBP_CHUNKS):
        if at + 8 > end:
            break
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            return data[at + 8 : min(at + 8 + length, end)].removeprefix(EXIF)
        at += 8 + length + length % 2
    return b""


_BLOCKS: Mapping[str, Callable[[bytes], bytes]] = {
    "JPEG": _in_jpeg,
    "PNG": _in_png,
    "WebP": _in_webp,
    "TIFF": lambda data: data,
}
