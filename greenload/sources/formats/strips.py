"""Checks that a TIFF's strips hold the pixels that its header promises.

For a broken strip a decoder may leave pixels black without an error. Damage that only changes values isn't found,
except in deflate, which has a checksum. Adobe, "TIFF Revision 6.0": PackBits in section 9, LZW in section 13; deflate
is RFC 1950.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from greenload.sources.formats.base import FormatError
from greenload.sources.formats.inflate import blocks
from greenload.sources.formats.tiff import DEFLATE, LZW, PACK_BITS, RAW, StripLayout, layout

_CLEAR, _FIRST = 256, 258  # codes of LZW: below are values, and the end between them; these and above stand for runs
# Codes become longer when the table has 511, 1023 and 2047 entries; decoders go on for 1,024 beyond the last.
_WIDTHS = np.repeat([9, 10, 11, 12], [254, 512, 1024, 2048 + 1024])
_ENDS = np.cumsum(_WIDTHS)
_MASKS = ((1 << _WIDTHS) - 1).astype(np.uint32)
# Of a table that begins at each bit of a byte: the byte that a code begins in, and what lies behind the code in three.
_BYTES = [(_ENDS - _WIDTHS + bit) >> 3 for bit in range(8)]
_SHIFTS = [(24 - (_ENDS + bit - 8 * _BYTES[bit])).astype(np.uint32) for bit in range(8)]
_REACH = len(_WIDTHS) * 12 // 8 + 1  # bytes that a table's codes take, at most
_BLOCK = 1 << 16
_TABLE_BYTES = 128
"""LZW fills a table before it clears it, which takes some 5,000 bytes. Where tables are cleared after fewer than so
many on average, and thousands of times, a strip isn't checked: that would take too long."""


def check_strips(data: bytes) -> None:
    """Refuse a TIFF of which a strip holds less than its rows.

    Args:
        data: a file whose header has been parsed.

    Raises:
        FormatError: one does; names the first.
    """
    strips = layout(data)
    holds = _HOLDS[strips.compression]
    for number, (start, count) in enumerate(zip(strips.starts, strips.counts, strict=True)):
        rows = min(strips.rows, strips.height - number * strips.rows)
        if rows <= 0:
            return
        if len(strips.starts) == 1 and strips.compression == RAW:
            count = len(data)  # decoders don't need it
        if not holds(data[start : start + count], rows, strips):
            raise FormatError(
                f"broken TIFF: strip {number} doesn't hold its {rows:,} rows of {strips.row_bytes:,} bytes"
            )
    if len(strips.starts) * strips.rows < strips.height:
        raise FormatError(
            f"broken TIFF: its strips hold {len(strips.starts) * strips.rows:,} of {strips.height:,} rows"
        )


def _raw(strip: bytes, rows: int, held: StripLayout) -> bool:
    return len(strip) >= rows * held.row_bytes


def _deflate(strip: bytes, rows: int, held: StripLayout) -> bool:
    stream = zlib.decompressobj()
    try:
        # Up to its end, where the checksum is. Some writers fill the last strip up to the rows of the others.
        size = sum(map(len, blocks(stream, strip, held.rows * held.row_bytes + 1)))
    except zlib.error:
        return False
    return stream.eof and size >= rows * held.row_bytes


def _pack_bits(strip: bytes, rows: int, held: StripLayout) -> bool:
    at, end = 0, len(strip)
    for _ in range(rows):
        lacking = held.row_bytes
        while lacking > 0:
            if at >= end:
                return False
            head = strip[at]
            at += 1
            if head < 128:  # so many values, and one more
                taken = min(head + 1, lacking)
                if at + taken > end:
                    return False
                at += taken
                lacking -= taken
            elif head > 128:
                if at >= end:
                    return False
                at += 1
                lacking -= 257 - head
    return True


def _lzw(strip: bytes, rows: int, held: StripLayout) -> bool:
    if strip[:1] == b"\0" and strip[1:2] and strip[1] & 1:
        return True  # an older order of bits, in which decoders read it
    lacking, at = rows * held.row_bytes, 0
    for _ in range(1024 + len(strip) // _TABLE_BYTES):
        count = int(np.searchsorted(_ENDS, 8 * len(strip) - at, "right"))
        begin, bit = at >> 3, at & 7
        values = np.frombuffer(strip[begin : begin + _REACH] + bytes(3), np.uint8).astype(np.uint32)
        three = values[:-2] << 16 | values[1:-1] << 8 | values[2:]
        codes = (three[_BYTES[bit][:count]] >> _SHIFTS[bit][:count] & _MASKS[:count]).astype(np.int64)
        ends = np.flatnonzero(codes >> 1 == _CLEAR >> 1)
        before = codes[: ends[0] if len(ends) else count] - _FIRST  # the entry of the table that a code stands for
        unknown = np.flatnonzero(before >= np.arange(len(before)))
        lacking -= _length(before[: unknown[0]] if len(unknown) else before)
        if lacking <= 0:
            return True
        if len(unknown) or not len(ends) or codes[ends[0]] != _CLEAR:
            return False
        at += int(_ENDS[ends[0]])
    return True


def _length(entries: NDArray[np.int64]) -> int:
    """How many values codes stand for: each entry is as long as what the code of its number stands for, and one more;
    a negative one is a single value."""
    before = np.append(np.maximum(entries, -1), -1)
    lengths = np.ones(len(before), np.int64)
    lengths[-1] = 0  # where the way back ends
    while (before >= 0).any():
        lengths += lengths[before]
        before = before[before]
    return int(lengths.sum())


_HOLDS: Mapping[int, Callable[[bytes, int, StripLayout], bool]] = {
    RAW: _raw,
    LZW: _lzw,
    PACK_BITS: _pack_bits,
    **dict.fromkeys(DEFLATE, _deflate),
}
