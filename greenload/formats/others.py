"""Headers of BMP, GIF, WebP and TIFF, as far as greenload reads them.

BMP: Microsoft, "Bitmap Storage" (BITMAPINFOHEADER and its later versions). GIF: CompuServe, "Graphics Interchange
Format, Version 89a". WebP: RFC 9649. TIFF: Adobe, "TIFF Revision 6.0", part 1.
"""

from __future__ import annotations

import struct

from greenload.formats.base import FormatError, Header, check_size

BMP_HEADERS = (40, 52, 56, 108, 124)
"""Sizes of the information header, version 1 to 5."""
BMP_DEPTHS = (24, 32)
"""Bits a pixel without a palette."""
_BMP_PALETTES = (1, 4, 8)

WEBP_ANIMATED = 0x02
"""The animation flag in the flags of a ``VP8X`` chunk."""

_TIFF_SIZES = {1: 1, 3: 2, 4: 4}  # BYTE, SHORT, LONG
_TIFF_COMPRESSIONS = (1, 5, 8, 32773, 32946)  # none, LZW, deflate twice, PackBits
_TIFF_CHANNELS = {1: 1, 2: 3, 3: 1}  # photometric interpretation: grey, RGB, palette


def bmp(data: bytes) -> Header:
    """A BMP's header.

    Raises:
        FormatError: it is cut, broken, or of a kind that isn't decoded.
    """
    if len(data) < 54:
        raise FormatError("truncated BMP: its header is cut")
    offset, size, width, height, planes, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if size not in BMP_HEADERS or planes != 1:
        raise FormatError(f"BMP with a header of {size} bytes and {planes} planes is not supported: convert it to PNG")
    if compression:
        raise FormatError("compressed or bit-field BMP is not supported: convert it to PNG")
    if bits not in BMP_DEPTHS + _BMP_PALETTES:
        raise FormatError(f"{bits}-bit BMP is not supported: convert it to PNG")
    check_size("BMP", abs(height), width)
    needed = offset + abs(height) * ((width * bits + 31) // 32 * 4)
    if offset < 14 + size or offset > len(data):
        raise FormatError(f"broken BMP: its header says that pixels begin at byte {offset}")
    if needed > len(data):
        raise FormatError(f"truncated BMP: {len(data)} bytes, but its header promises {needed}")
    return Header("BMP", abs(height), width, kind="BMP" if bits in BMP_DEPTHS else "palette BMP")


def gif(data: bytes) -> Header:
    """The header of a GIF's first frame, whose data must be whole; what follows it is not looked at.

    Raises:
        FormatError: it is cut or broken.
    """
    at, _ = gif_frame(data)
    width, height = struct.unpack_from("<HH", data, at + 5)
    check_size("GIF", height, width)
    return Header("GIF", height, width)


def gif_frame(data: bytes) -> tuple[int, int]:
    """Where a GIF's first frame begins and ends.

    Raises:
        FormatError: there is none, or it is cut.
    """
    try:
        at = 13 + gif_colours(data[10])
        while data[at] == 0x21:
            at = _gif_blocks(data, at + 2)
        if data[at] != 0x2C:
            raise FormatError(f"broken GIF: no frame at byte {at}")
        return at, _gif_blocks(data, at + 11 + gif_colours(data[at + 9]))
    except IndexError:
        raise FormatError("truncated GIF: it ends before its first frame does") from None


def gif_colours(flags: int) -> int:
    """Bytes of a colour table, from the flags that announce it."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_blocks(data: bytes, at: int) -> int:
    """Where a chain of sub-blocks ends that begins at a place."""
    while data[at]:
        at += data[at] + 1
    return at + 1


def webp(data: bytes) -> Header:
    """A WebP's header.

    Raises:
        FormatError: it is cut, broken or animated.
    """
    if len(data) < 30:
        raise FormatError("truncated WebP: its header is cut")
    size, first = struct.unpack_from("<I", data, 4)[0], data[12:16]
    if first == b"VP8X":
        if data[20] & WEBP_ANIMATED:
            raise FormatError("animated WebP is not supported: save its first frame as JPEG or PNG")
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    elif first == b"VP8L":
        if data[20] != 0x2F:
            raise FormatError("broken WebP: its lossless image has no signature")
        bits = int.from_bytes(data[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif first == b"VP8 ":
        if data[23:26] != b"\x9d\x01\x2a":
            raise FormatError("broken WebP: its image has no start code")
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    else:
        raise FormatError(f"broken WebP: its first chunk is {first!r}")
    check_size("WebP", height, width)
    if size + 8 > len(data):
        raise FormatError(f"truncated WebP: {len(data)} bytes, but its header promises {size + 8}")
    return Header("WebP", height, width)


def tiff(data: bytes) -> Header:
    """The header of a TIFF's first image: 8 bits a channel, grey, RGB or palette, without alpha, in strips.

    Raises:
        FormatError: it is cut, broken, or of a kind that isn't decoded.
    """
    order = "<" if data[:2] == b"II" else ">"
    try:
        tags = _tiff_tags(data, order)
    except struct.error:
        raise FormatError("truncated TIFF: its directory is cut") from None
    missing = [tag for tag in (256, 257, 262, 273, 279) if not tags.get(tag)]
    if missing:
        raise FormatError(f"TIFF without tag {missing[0]} is not supported: convert it to PNG")
    (width, *_), (height, *_), (colour, *_) = tags[256], tags[257], tags[262]
    channels, compression = tags.get(277, [1])[0], tags.get(259, [1])[0]
    if _TIFF_CHANNELS.get(colour) != channels or set(tags.get(258, [1])) != {8} or tags.get(284, [1])[0] != 1:
        raise FormatError(
            "TIFF other than 8-bit grey, RGB or palette without alpha is not supported: convert it to PNG"
        )
    if compression not in _TIFF_COMPRESSIONS:
        raise FormatError(f"TIFF of compression {compression} is not supported: convert it to PNG")
    check_size("TIFF", height, width)
    ends = [start + count for start, count in zip(tags[273], tags[279], strict=False)]
    if len(tags[273]) != len(tags[279]) or max(ends) > len(data):
        raise FormatError(f"truncated TIFF: {len(data)} bytes, but its strips end at {max(ends)}")
    return Header("TIFF", height, width)


def _tiff_tags(data: bytes, order: str) -> dict[int, list[int]]:
    """The numbers of each tag of the first directory that holds whole, unsigned ones."""
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    tags = {}
    for entry in range(count):
        place = at + 2 + 12 * entry
        tag, kind, values = struct.unpack_from(f"{order}HHI", data, place)
        size = _TIFF_SIZES.get(kind)
        if size is None or not 0 < values * size <= len(data):
            continue
        start = place + 8 if values * size <= 4 else struct.unpack_from(f"{order}I", data, place + 8)[0]
        tags[tag] = list(struct.unpack_from(f"{order}{values}{'BHI'[size // 2]}", data, start))
    return tags
