"""Image files by their first bytes: what they are, how large, and whether greenload reads them.

Only headers are parsed here, in plain Python: sizes must be known before decoding, so that windows can be computed on
the host. JPEG: ITU-T T.81, annex B. PNG: W3C "Portable Network Graphics", section 11.2.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 … SOF15 without DHT, JPG and DAC
SUPPORTED = ("JPEG", "PNG")
"""The formats that ``Decode`` reads."""


@dataclass(frozen=True)
class Header:
    """What a file's first bytes say."""

    format: str
    height: int
    width: int
    complete: bool
    """For JPEG, whether the file ends in an end-of-image marker. Where it doesn't, only a full decode can tell a cut
    file from one with bytes appended."""


class FormatError(ValueError):
    """Why the bytes are no image that greenload reads; the message names no file."""


def sniff(data: bytes) -> str | None:
    """The format by the first bytes, or ``None`` if they are no image's."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        return "AVIF or HEIF"
    return None


def header(data: bytes) -> Header:
    """Parse an encoded image's header.

    Args:
        data: the whole file.

    Raises:
        FormatError: the bytes are empty, no image, of a format or kind that isn't read, or cut within the header.
    """
    if not data:
        raise FormatError("the file is empty")
    name = sniff(data)
    if name is None:
        raise FormatError(f"not an image: it begins with {data[:8]!r}")
    if name not in SUPPORTED:
        raise FormatError(f"{name} is not supported: convert it to JPEG or PNG")
    return _png(data) if name == "PNG" else _jpeg(data)


def _png(data: bytes) -> Header:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise FormatError("truncated PNG: its header is cut")
    width, height, depth = struct.unpack_from(">IIB", data, 16)
    if depth == 16:
        raise FormatError("16-bit PNG is not supported: convert it to 8 bits a channel")
    if not width or not height:
        raise FormatError(f"broken PNG: its header says {width}×{height} pixels")
    return Header("PNG", height, width, complete=True)


def _jpeg(data: bytes) -> Header:
    at, end = 2, len(data)
    while at + 4 <= end:
        if data[at] != 0xFF:
            raise FormatError(f"broken JPEG: no marker at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # markers without a segment
            at += 2
            continue
        if marker in (0xD9, 0xDA):
            raise FormatError("broken JPEG: its image data begins before its size is given")
        if marker in _FRAMES:
            if at + 9 > end:
                break
            precision, height, width = struct.unpack_from(">BHH", data, at + 4)
            if precision != 8:
                raise FormatError(f"{precision}-bit JPEG is not supported: convert it to 8 bits a channel")
            if not width or not height:
                raise FormatError(f"broken JPEG: its header says {width}×{height} pixels")
            return Header("JPEG", height, width, complete=data.endswith(b"\xff\xd9"))
        at += 2 + ((data[at + 2] << 8) | data[at + 3])
    raise FormatError("truncated JPEG: its header is cut")
