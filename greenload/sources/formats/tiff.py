"""Parses the headers of TIFF files (Adobe, "TIFF Revision 6.0", part 1).

A directory's entries say where their values are, and how many there are. Several entries may refer to the same bytes,
so that a small file would cost gigabytes, here and in a decoder that reads all of them; every entry is compared with
the file's length before anything is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.sources.formats.base import FormatError, Header, Truncated, check_size

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOUR, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STARTS, _CHANNELS, _ROWS, _COUNTS, _PLANAR = 273, 277, 278, 279, 284
_NEEDED = (_WIDTH, _HEIGHT, _COLOUR, _STARTS, _COUNTS)
_SINGLE = (_WIDTH, _HEIGHT, _COMPRESSION, _COLOUR, _FILL_ORDER, _CHANNELS, _PLANAR)
RAW, LZW, PACK_BITS = 1, 5, 32773
DEFLATE = (8, 32946)
_COMPRESSIONS = (RAW, LZW, PACK_BITS, *DEFLATE)
_OF_COLOUR = {1: 1, 2: 3, 3: 1}  # channels by photometric interpretation: grey, RGB, palette

_NUMBERS = {3: "u2", 4: "u4"}  # SHORT, LONG
_BYTES = np.zeros(65536, np.int64)  # of one value, by type; of unknown types no decoder reads any
_BYTES[1:14] = [1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4]
_BYTES[16:19] = 8

Entries = NDArray[np.void]
"""Entries of a directory: ``tag``, ``type``, ``count``, ``value``."""
Numbers = NDArray[np.unsignedinteger[Any]]
"""The values of a tag."""


def parse(data: bytes) -> Header:
    """The header of a TIFF's first image: 8 bits a channel, grey, RGB or palette, without alpha, in strips.

    Raises:
        FormatError: it is cut, broken, or of a kind that isn't decoded.
    """
    directory = entries(data)
    if not len(directory) or len(directory) < _promised(data):
        raise Truncated("truncated TIFF: its directory is cut")
    claimed = int((directory["count"].astype(np.int64) * _BYTES[directory["type"]]).sum())
    if claimed > len(data):
        raise FormatError(f"broken TIFF: its tags claim {claimed:,} bytes of values, but the file has {len(data):,}")
    tags = {tag: _values(data, directory, tag) for tag in (*_SINGLE, _BITS, _STARTS, _COUNTS)}
    missing = [tag for tag in _NEEDED if not len(tags[tag])]
    if missing:
        raise FormatError(f"TIFF without tag {missing[0]} is not supported: convert it to PNG")
    for tag in _SINGLE:
        if len(tags[tag]) > 1:
            raise FormatError(f"broken TIFF: {len(tags[tag]):,} values of tag {tag}, where there is one")
    width, height, colour = (int(tags[tag][0]) for tag in (_WIDTH, _HEIGHT, _COLOUR))
    channels, compression, planar = (int((*tags[tag], 1)[0]) for tag in (_CHANNELS, _COMPRESSION, _PLANAR))
    if _OF_COLOUR.get(colour) != channels or not _all_eight(tags[_BITS]) or planar != 1:
        raise FormatError(
            "TIFF other than 8-bit grey, RGB or palette without alpha is not supported: convert it to PNG"
        )
    if set(tags[_FILL_ORDER].tolist()) - {1}:
        raise FormatError("TIFF whose bytes begin with their lowest bit is not supported: convert it to PNG")
    if compression not in _COMPRESSIONS:
        raise FormatError(f"TIFF of compression {compression} is not supported: convert it to PNG")
    check_size("TIFF", height, width)
    _check_strips(len(data), height, tags[_STARTS], tags[_COUNTS])
    return Header("TIFF", height, width)


@dataclass(frozen=True)
class StripLayout:
    """Where the strips of a TIFF's first image are, and how they are compressed."""

    compression: int
    height: int
    rows: int
    """Rows of each strip except the last, which may have fewer."""
    row_bytes: int
    """Bytes of a row, once decompressed."""
    starts: list[int]
    """Where each strip begins."""
    counts: list[int]
    """Bytes of each strip in the file."""


def layout(data: bytes) -> StripLayout:
    """Where the strips of a TIFF's first image are, and how they are compressed.

    Args:
        data: a file that ``parse`` reads.

    Raises:
        FormatError: the rows of a strip are no number.
    """
    directory = entries(data)
    rows, starts, counts = (_values(data, directory, tag) for tag in (_ROWS, _STARTS, _COUNTS))
    height, width = (int(_values(data, directory, tag)[0]) for tag in (_HEIGHT, _WIDTH))
    compression, channels = (int((*_values(data, directory, tag), 1)[0]) for tag in (_COMPRESSION, _CHANNELS))
    per_strip = min(int(rows[0]), height) if len(rows) and rows[0] else height
    return StripLayout(compression, height, per_strip, width * channels, starts.tolist(), counts.tolist())


def entries(data: bytes) -> Entries:
    """The entries of directory 0, as many as there are of them; none where the bytes are no TIFF's."""
    order = byte_order(data) or "<"
    fields = [("tag", f"{order}u2"), ("type", f"{order}u2"), ("count", f"{order}u4"), ("value", f"{order}u4")]
    start = _directory(data)
    there = max(0, min(_promised(data), (len(data) - start - 2) // 12))
    return np.frombuffer(data, np.dtype(fields), there, start + 2 if there else 0)


def _directory(data: bytes) -> int:
    """Where directory 0 begins; the end of bytes that are no TIFF's."""
    order = byte_order(data)
    return len(data) if order is None or len(data) < 8 else int(np.frombuffer(data, f"{order}u4", 1, 4)[0])


def _promised(data: bytes) -> int:
    """How many entries directory 0 is said to have."""
    start = _directory(data)
    return int(np.frombuffer(data, f"{byte_order(data)}u2", 1, start)[0]) if start + 2 <= len(data) else 0


def byte_order(data: bytes) -> str | None:
    """``"<"`` or ``">"``, by the first bytes; ``None`` if they are no TIFF's."""
    return {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])


def _values(data: bytes, directory: Entries, tag: int) -> Numbers:
    """The values of a tag, whole and unsigned; none where it is missing.

    Raises:
        FormatError: it is there twice, of another type, or its values lie beyond the file.
    """
    rows = directory[directory["tag"] == tag]
    if not len(rows):
        return np.zeros(0, np.uint8)
    if len(rows) > 1:
        raise FormatError(f"broken TIFF: tag {tag} is there {len(rows):,} times")
    kind, count = int(rows["type"][0]), int(rows["count"][0])
    if kind not in _NUMBERS or not count:
        raise FormatError(f"broken TIFF: tag {tag} holds {count:,} values of type {kind}")
    dtype = np.dtype(f"{byte_order(data)}{_NUMBERS[kind]}")
    if dtype.itemsize * count <= 4:
        return np.frombuffer(rows["value"].tobytes(), dtype, count)
    start = int(rows["value"][0])
    if start + dtype.itemsize * count > len(data):
        raise Truncated(f"truncated TIFF: {len(data):,} bytes, but tag {tag} lies behind byte {start:,}")
    return np.frombuffer(data, dtype, count, start)


def _all_eight(bits: Numbers) -> bool:
    """Whether every channel has 8 bits; where nothing is said, it has one."""
    return 1 <= len(bits) <= max(_OF_COLOUR.values()) and set(bits.tolist()) == {8}


def _check_strips(size: int, height: int, starts: Numbers, counts: Numbers) -> None:
    """Make sure that strips lie within the file and don't overlap: a decoder reads every strip.

    Raises:
        FormatError: they don't.
    """
    if len(starts) != len(counts):
        raise FormatError(f"broken TIFF: {len(starts):,} strips begin, but {len(counts):,} have a length")
    if len(starts) > height:
        raise FormatError(f"broken TIFF: {len(starts):,} strips for {height:,} rows")
    end = int(np.add(starts, counts, dtype=np.int64).max())
    if end > size:
        raise Truncated(f"truncated TIFF: {size:,} bytes, but its strips end at {end:,}")
    held = int(counts.sum(dtype=np.int64))
    if held > size:
        raise FormatError(f"broken TIFF: its strips claim {held:,} bytes, but the file has {size:,}")
