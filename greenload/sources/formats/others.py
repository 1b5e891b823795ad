"""Parses the headers of BMP, GIF and WebP files.

BMP: Microsoft, "Bitmap Storage" (BITMAPINFOHEADER and its later versions). GIF: CompuServe, "Graphics Interchange
Format, Version 89a". WebP: RFC 9649.
"""

from __future__ import annotations

import struct

from greenload.sources.formats.base import FormatError, Header, Truncated, check_size

BMP_HEADERS = (40, 52, 56, 108, 124)
"""Sizes of the information header, version 1 to 5."""
BMP_DEPTHS = (24, 32)
"""Bits a pixel without a palette."""
_BMP_PALETTES = (1, 4, 8)
_BMP_OS2 = (12, 16, 64)
_BMP_COMPRESSIONS = {
    1: "run-length encoded BMP",
    2: "run-length encoded BMP",
    3: "bit-field BMP",
    4: "JPEG in a BMP",
    5: "PNG in a BMP",
    6: "bit-field BMP",
}

GIF_BLOCKS, GIF_BLOCK_BYTES = 4096, 128
"""A GIF may have so many blocks in front of and in its first frame, and another for each so many bytes of its own.
Encoders fill blocks of 255 bytes; blocks of a single byte would cost more to walk through than to decode."""
GIF_CONTROL = 0xF9
"""The label of the extension that names a frame's transparent colour."""
GIF_CODE_BITS = (1, 8)
"""The least and the greatest size of a code with which a frame's data begin."""
_GIF_CODES = 4096  # of 12 bits
GIF_WITNESS = b",\0\0\0\0\1\0\1\0\x80\0\0\0\0\0\0\2\2\x44\1\0"
"""A frame of one pixel."""

WEBP_ANIMATED = 0x02
"""The animation flag in the flags of a ``VP8X`` chunk."""
WEBP_CHUNKS = 64
"""The picture must be among so many chunks: there are six kinds of them."""


def bmp(data: bytes) -> Header:
    """A BMP's header.

    Raises:
        FormatError: it is cut, broken, or of a kind that isn't decoded.
    """
    size = int.from_bytes(data[14:18], "little")
    if size in _BMP_OS2:
        raise FormatError(f"OS/2 BMP, with a header of {size} bytes, is not supported: convert it to PNG")
    if len(data) < 54:
        raise Truncated("truncated BMP: its header is cut")
    offset, _, width, height, planes, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if size not in BMP_HEADERS:
        raise FormatError(f"BMP with a header of {size} bytes is not supported: convert it to PNG")
    if compression:
        how = _BMP_COMPRESSIONS.get(compression, f"BMP of compression {compression}")
        raise FormatError(f"{how} is not supported: convert it to PNG")
    if bits not in BMP_DEPTHS + _BMP_PALETTES:
        raise FormatError(f"{bits}-bit BMP is not supported: convert it to PNG")
    if planes != 1:
        raise FormatError(f"broken BMP: its header says {planes} planes, where there is one")
    check_size("BMP", abs(height), width)
    needed = offset + abs(height) * ((width * bits + 31) // 32 * 4)
    colours = bmp_colours(data)
    if colours > 1 << min(bits, 8):
        raise FormatError(f"broken BMP: its header says {colours:,} colours of {bits} bits")
    if offset < 14 + size + 4 * colours or offset > len(data):
        raise FormatError(f"broken BMP: its header says that pixels begin at byte {offset}")
    if needed > len(data):
        raise Truncated(f"truncated BMP: {len(data)} bytes, but its header promises {needed}")
    return Header("BMP", abs(height), width, kind="BMP" if bits in BMP_DEPTHS else "palette BMP")


def bmp_colours(data: bytes) -> int:
    """How many colours the palette of a BMP has; 0 without one."""
    (bits,) = struct.unpack_from("<H", data, 28)
    if bits not in _BMP_PALETTES:
        return 0
    used: int = struct.unpack_from("<I", data, 46)[0]
    return used or 1 << bits


def gif(data: bytes) -> Header:
    """The header of a GIF: its canvas, and its first frame, whose data must be whole; what follows is not looked at.

    Raises:
        FormatError: it is cut or broken.
    """
    at, _ = gif_frame(data)
    width, height = struct.unpack_from("<HH", data, at + 5)
    check_size("GIF", height, width)
    height, width = gif_canvas(data, at)
    check_size("GIF", height, width)
    return Header("GIF", height, width)


def gif_canvas(data: bytes, frame: int) -> tuple[int, int]:
    """Rows and columns of a GIF's canvas, which grows with its first frame.

    Args:
        data: the file.
        frame: where its first frame begins.
    """
    columns, rows = struct.unpack_from("<HH", data, 6)
    left, top, width, height = struct.unpack_from("<HHHH", data, frame + 1)
    return max(rows, top + height), max(columns, left + width)


def gif_background(data: bytes, frame: int) -> tuple[int, int, int]:
    """The colour of a GIF's canvas around its first frame: the transparent one, or the first where none is; black where
    the palette hasn't got it.

    Args:
        data: the file, whose header ``gif`` has passed.
        frame: where its first frame begins.
    """
    at, index = 13 + gif_colours(data[10]), 0
    while at < frame:
        if data[at + 1] == GIF_CONTROL and data[at + 2] >= 4 and data[at + 3] & 1:
            index = data[at + 6]
        at, _ = _gif_blocks(data, at + 2, len(data))
    start, flags = (frame + 10, data[frame + 9]) if data[frame + 9] & 0x80 else (13, data[10])
    if 3 * index >= gif_colours(flags):
        return 0, 0, 0
    red, green, blue = data[start + 3 * index : start + 3 * index + 3]
    return red, green, blue


def gif_frame(data: bytes) -> tuple[int, int]:
    """Where a GIF's first frame begins and ends.

    Raises:
        FormatError: there is none, or it is cut or broken.
    """
    left = GIF_BLOCKS + len(data) // GIF_BLOCK_BYTES
    try:
        at = 13 + gif_colours(data[10])
        while data[at] == 0x21:
            at, left = _gif_blocks(data, at + 2, left - 1)
        if data[at] != 0x2C:
            raise FormatError(f"broken GIF: no frame at byte {at}")
        body = at + 10 + gif_colours(data[at + 9])
        if not (data[10] | data[at + 9]) & 0x80:
            raise FormatError("broken GIF: its first frame has no colours")
        least, greatest = GIF_CODE_BITS
        if not least <= data[body] <= greatest:
            raise FormatError(f"broken GIF: its first frame has codes of {data[body]} bits")
        return at, _gif_blocks(data, body + 1, left)[0]
    except IndexError:
        raise Truncated("truncated GIF: it ends before its first frame does") from None


def gif_codes(data: bytes) -> bool:
    """Whether each code of a GIF's first frame is valid, up to its last pixel. Decoders differ in the pixels that they
    give for invalid codes. The check takes 0.3 s a megabyte, so only verifying does it.

    Args:
        data: the file, whose header ``gif`` has passed.
    """
    frame, end = gif_frame(data)
    width, height = struct.unpack_from("<HH", data, frame + 5)
    at = frame + 10 + gif_colours(data[frame + 9])
    clear, left = 1 << data[at], width * height
    pixels = [1] * (clear + 2)  # that each code stands for
    last, number, bits, code_bits, at = 0, 0, 0, data[at] + 1, at + 1
    while at < end - 1:
        for byte in data[at + 1 : at + 1 + data[at]]:
            number |= byte << bits
            bits += 8
            while bits >= code_bits:
                code = number & (1 << code_bits) - 1
                number >>= code_bits
                bits -= code_bits
                if code == clear:
                    del pixels[clear + 2 :]
                    last, code_bits = 0, clear.bit_length()
                    continue
                if code == clear + 1:
                    return True
                if last and len(pixels) < _GIF_CODES:
                    pixels.append(last + 1)
                if code >= len(pixels) or (not last and code > clear):
                    return False
                last = pixels[code]
                left -= last
                if left <= 0:
                    return True
                if len(pixels) >> code_bits and code_bits < 12:
                    code_bits += 1
        at += data[at] + 1
    return True


def gif_colours(flags: int) -> int:
    """Bytes of a colour table, from the flags that announce it."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_blocks(data: bytes, at: int, left: int) -> tuple[int, int]:
    """Where a chain of sub-blocks ends that begins at a byte, and how many more blocks there may be.

    Raises:
        FormatError: there are more.
    """
    while data[at] and left > 0:
        at += data[at] + 1
        left -= 1
    if left <= 0:
        raise FormatError(
            f"broken GIF: more than {GIF_BLOCKS + len(data) // GIF_BLOCK_BYTES:,} blocks in {len(data):,} bytes"
        )
    return at + 1, left


def webp(data: bytes) -> Header:
    """A WebP's header: its picture's, which must be whole; what lies behind it is not looked at.

    Raises:
        FormatError: it is cut, broken or animated.
    """
    if len(data) < 30:
        raise Truncated("truncated WebP: its header is cut")
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    first = data[12:16]
    if first not in (b"VP8X", b"VP8L", b"VP8 "):
        raise FormatError(f"broken WebP: its first chunk is {first!r}")
    canvas = None
    if first == b"VP8X":
        if data[20] & WEBP_ANIMATED:
            raise FormatError("animated WebP is not supported: save its first frame as JPEG or PNG")
        canvas = (1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little"))
        check_size("WebP", *canvas)
    at = _webp_picture(data, min(end, len(data)))
    if at is None:
        if end > len(data):
            raise Truncated(f"truncated WebP: {len(data)} bytes, but its header promises {end}")
        raise FormatError("broken WebP: there is no picture in it")
    height, width = _webp_size(data, at)
    check_size("WebP", height, width)
    if end > len(data):
        raise Truncated(f"truncated WebP: {len(data)} bytes, but its header promises {end}")
    length = struct.unpack_from("<I", data, at + 4)[0]
    if at + 8 + length > end:
        raise FormatError(f"broken WebP: its picture ends at byte {at + 8 + length}, but its header promises {end}")
    if canvas not in (None, (height, width)):
        raise FormatError(f"broken WebP: its picture of {width}×{height} pixels doesn't fill its canvas")
    return Header("WebP", height, width, picture=(at, at + 8 + length))


def _webp_picture(data: bytes, end: int) -> int | None:
    """Where the chunk begins that holds the picture; ``None`` without one."""
    at = 12
    for _ in range(WEBP_CHUNKS):
        if at + 18 > end:
            return None
        if data[at : at + 4] in (b"VP8L", b"VP8 "):
            return at
        length: int = struct.unpack_from("<I", data, at + 4)[0]
        at += 8 + length + length % 2
    return None


def _webp_size(data: bytes, at: int) -> tuple[int, int]:
    """Rows and columns by the chunk that holds the picture.

    Raises:
        FormatError: it doesn't begin as one.
    """
    if data[at + 3] == ord("L"):
        if data[at + 8] != 0x2F:
            raise FormatError("broken WebP: its lossless image has no signature")
        bits = int.from_bytes(data[at + 9 : at + 13], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    if data[at + 11 : at + 14] != b"\x9d\x01\x2a":
        raise FormatError("broken WebP: its image has no start code")
    width, height = struct.unpack_from("<HH", data, at + 14)
    return height & 0x3FFF, width & 0x3FFF


def webp_alone(data: bytes, picture: tuple[int, int]) -> bytes:
    """A WebP of its picture alone: decoders treat other chunks differently.

    Args:
        data: the file.
        picture: where the chunk that holds it begins and ends.
    """
    begin, end = picture
    body = data[begin:end] + b"\0" * (end - begin & 1)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
