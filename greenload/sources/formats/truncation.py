"""Completes cut-off files with a stated fill for the missing part, so that every decoder gives the same pixels.

A file that a broken transfer or a full disk has cut off is completed in its bytes, and then decoded like any other:

- JPEG: its data end where the file does, and an end marker follows; decoders take what is missing for mid-grey (128;
  64 where inks are stored), or for the values of the scans so far. Behind the scans of a progressive JPEG empty scans
  are added that bring every coefficient to full precision without changing it: decoders differ in how they smooth
  imprecise coefficients.
- PNG: its complete rows up to the first damaged one, then black rows (of colour 0 where there is a palette). In an
  interlaced PNG each pass covers the whole picture, so it is completed only where no row is missing.
- BMP: zeros for the missing bytes, so black, or colour 0. Usually its bottom row comes first.

A file that is broken otherwise, or has an end, isn't filled, so that decoders which look at its end alone agree.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping

from greenload.sources.formats import jpeg, others, png
from greenload.sources.formats.base import FormatError, Header, Truncated, sniff
from greenload.sources.formats.inflate import blocks_before_damage
from greenload.sources.formats.memory import check_memory

ZEROS = 512
"""So many zeros or more at a file's end were never written: a transfer reserved them. It is a sector of a disk. So are
fewer ones, where the file is broken with them and cut off without them, as a PNG is by its checksums."""

_EOI, _NO_RESTARTS = b"\xff\xd9", b"\xff\xdd\0\4\0\0"
_SOS = 0xDA
# A code of one bit, 0, for: a DC difference of 0; a run of 2**14 blocks, and so many more as its next 14 bits say, that
# keep their AC coefficients.
_UNCHANGED = {0x00: b"\0", 0x10: b"\xe0"}
_ALL_ZERO = bytes(2)  # what begins with these codes; where data end, zeros follow
_COEFFICIENTS = 64
_NO_FILTER = re.compile(rb"[^\0-\4]")  # what no row of a PNG begins with


def filled(data: bytes, max_bytes: int) -> bytes | None:
    """A cut-off JPEG, PNG or BMP as a whole file; ``None`` where it isn't cut off, holds no pixels, or can't be filled.

    Work and memory are bounded by the file's length and ``max_bytes``.

    Args:
        data: the file, which ``formats.header`` has refused.
        max_bytes: the most bytes that decoding it may take, as in ``Decode``.

    Raises:
        FormatError: decoding would take more; or why it can't be filled.
    """
    name = sniff(data) or ""
    if name not in _FILLS:
        return None
    parse, fill = _FILLS[name]
    for there in (data,) if name == "BMP" else _without_zeros(data):
        try:
            parse(there)
            return None
        except Truncated:
            whole = fill(there, max_bytes)
            if whole and there.endswith(_ENDS.get(name, ())):
                raise FormatError(f"broken {name}: it has an end, but a part's length reaches past it") from None
            return whole
        except FormatError:
            pass
    return None


def _without_zeros(data: bytes) -> tuple[bytes, ...]:
    """A file without the zeros that a transfer left at its end: many; or few, in case it is broken with them."""
    there = data.rstrip(b"\0")
    return (there,) if len(data) - len(there) >= ZEROS else (data, there)


def _jpeg(data: bytes, max_bytes: int) -> bytes | None:
    at, kept, frame, scans = 2, 0, b"", []
    for _ in range(jpeg.MOST_SEGMENTS):
        fill = jpeg.FILL_BYTES.match(data, at)
        if fill is None and at < len(data):
            return None
        at = fill.end() - 1 if fill else at
        if data[at + 1 : at + 2] == _EOI[1:]:
            return None
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        stop = at + 2 + length
        if at + 4 > len(data) or stop > len(data):
            break
        if data[at + 1] in jpeg.FRAMES:
            frame = data[at:stop]
        if data[at + 1] != _SOS:
            at = stop
            continue
        if length < 8 or length != 6 + 2 * data[at + 4]:
            return None
        marker = jpeg.ENDS_SCAN.search(data, stop)
        end = marker.start() if marker else len(data.rstrip(b"\xff"))  # what is left of a marker, or of a stuffed byte
        if end > stop:
            kept = end
            scans.append(data[at:stop])
        if not marker:
            break
        at = end
    if not kept or len(frame) < 10:
        return None
    if frame[1] in jpeg.ARITHMETIC:
        raise FormatError("truncated arithmetic-coded JPEG can't be filled: where its data end no decoder can tell")
    completed = _completed(frame, scans) if frame[1] in jpeg.PROGRESSIVE else b""
    return data[:kept] + completed + _EOI


def _completed(frame: bytes, scans: list[bytes]) -> bytes:
    """Scans without data, behind those of a progressive JPEG, that bring every coefficient to its last bit.

    Args:
        frame: the frame's segment.
        scans: the scans' headers.
    """
    # By component, how many bits each coefficient still lacks; None where no scan holds the coefficient.
    lacking: dict[int, list[int | None]] = {
        component: [None] * _COEFFICIENTS for component in frame[10 : 10 + 3 * frame[9] : 3]
    }
    for scan in scans:
        count = scan[4]
        first, last, bits = scan[5 + 2 * count : 8 + 2 * count]
        for component in scan[5 : 5 + 2 * count : 2]:
            for index in range(first, min(last, _COEFFICIENTS - 1) + 1):
                lacking.get(component, [None] * _COEFFICIENTS)[index] = bits & 15
    added = bytearray(_NO_RESTARTS)
    for kind, symbol in _UNCHANGED.items():
        added += _segment(0xC4, bytes([kind, 1, *bytes(15)]) + symbol)
    for component, bits_of in lacking.items():
        for first, last, bits_left in _alike(bits_of):
            steps = [(0, 0)] if bits_left is None else [(bit, bit - 1) for bit in range(bits_left, 0, -1)]
            for high, low in steps:
                added += _segment(_SOS, bytes([1, component, 0, first, last, high << 4 | low])) + _ALL_ZERO
    return bytes(added)


def _alike(bits_of: list[int | None]) -> Iterator[tuple[int, int, int | None]]:
    """First and last of the coefficients that lack as many bits; the DC coefficient is always alone."""
    begin = 0
    for end in range(1, _COEFFICIENTS + 1):
        if begin == 0 or end == _COEFFICIENTS or bits_of[end] != bits_of[begin]:
            yield begin, end - 1, bits_of[begin]
            begin = end


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (2 + len(body)).to_bytes(2, "big") + body


def _png(data: bytes, max_bytes: int) -> bytes | None:
    if len(data) < png.HEAD_BYTES or data[8:16] != png.HEAD:
        return None
    width, height, depth = struct.unpack_from(">IIB", data, 16)
    check_memory(data, Header("PNG", height, width, kind="16-bit PNG" if depth == 16 else "PNG"), max_bytes)
    lengths = png.row_lengths(data)
    expected, unit = sum(length * rows for length, rows in lengths), 1 if data[28] else lengths[0][0]
    deflater, body, rest, size = zlib.compressobj(1), bytearray(), b"", 0
    for block in blocks_before_damage(_png_pixels(data), expected):
        rest += block
        whole = min(len(rest) // unit * unit, expected - size)
        unknown = None if data[28] else _NO_FILTER.search(rest[:whole:unit])
        whole = unknown.start() * unit if unknown else whole
        body += deflater.compress(rest[:whole])
        rest, size = rest[whole:], size + whole
        if unknown:
            break
    if not size:
        return None
    if size < expected and data[28]:
        raise FormatError("truncated interlaced PNG can't be filled: of every part of the picture pixels are missing")
    zeros = bytes(1 << 20)
    while size < expected:
        body += deflater.compress(zeros[: expected - size])
        size = min(size + len(zeros), expected)
    return png.made(data, png.pixels(data)[0], bytes(body + deflater.flush()))


def _png_pixels(data: bytes) -> bytes:
    """The compressed pixels of a cut-off PNG, those of the chunk that is cut among them."""
    whole = list(png.chunks(data))
    names, end = [name for name, _, _ in whole], whole[-1][2]
    body = png.pixels(data)[1]
    if data[end + 4 : end + 8] == b"IDAT" and (names[-1] == b"IDAT" or b"IDAT" not in names):
        body += data[end + 8 : end + 8 + int.from_bytes(data[end : end + 4], "big")]
    return body


def _bmp(data: bytes, max_bytes: int) -> bytes | None:
    if len(data) < 54:
        return None
    offset, _, width, height, _, bits, _ = struct.unpack_from("<IIiiHHI", data, 10)
    needed = offset + abs(height) * ((width * bits + 31) // 32 * 4)
    # A decoded pixel takes more than a stored one, so what is too large here is refused as it is.
    return data.ljust(needed, b"\0") if offset < len(data) < needed <= max_bytes else None


_FILLS: Mapping[str, tuple[Callable[[bytes], Header], Callable[[bytes, int], bytes | None]]] = {
    "JPEG": (jpeg.parse, _jpeg),
    "PNG": (png.parse, _png),
    "BMP": (others.bmp, _bmp),
}
_ENDS = {"JPEG": _EOI, "PNG": png.END}
FILLED = tuple(_FILLS)
"""The formats of which cut-off files can be filled."""
