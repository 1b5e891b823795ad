"""Names the kind of a file that greenload doesn't read as an image, with a remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence

from greenload.sources.formats.base import sniff

_CONVERT = "convert it to JPEG or PNG"
_RENDER = "render it to PNG"
_REMOVE = "remove it from the data set"
_FETCH = "fetch the image anew"
_UNPACK = "unpack it"

# What a file begins with (or has at a place), what it is, and the remedy where that isn't to convert it.
_SIGNATURES: Sequence[tuple[int, bytes, str, str]] = (
    (0, b"\xff\x0a", "JPEG XL", _CONVERT),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", _CONVERT),
    (0, b"II\xbc\x01", "JPEG XR", _CONVERT),
    (0, b"\x97JB2\r\n\x1a\n", "JBIG2", _CONVERT),
    (0, b"II+\0", "BigTIFF", "convert it to PNG"),
    (0, b"MM\0+", "BigTIFF", "convert it to PNG"),
    (0, b"\0\0\1\0", "icon (.ico)", "save its largest image as PNG"),
    (0, b"\0\0\2\0", "cursor (.cur)", "save its largest image as PNG"),
    (0, b"icns", "icon (.icns)", "save its largest image as PNG"),
    (0, b"8BPS", "PSD", "export it as JPEG or PNG"),
    (0, b"gimp xcf", "XCF", "export it as JPEG or PNG"),
    (0, b"AT&TFORM", "DjVu", _RENDER),
    (0, b"%PDF", "PDF", _RENDER),
    (0, b"%!PS", "PostScript", _RENDER),
    (0, b"\xc5\xd0\xd3\xc6", "EPS", _RENDER),
    (0, b"\xd7\xcd\xc6\x9a", "WMF", _RENDER),
    (40, b" EMF", "EMF", _RENDER),
    (0, b"DDS ", "DDS", _CONVERT),
    (0, b"\xabKTX ", "KTX", _CONVERT),
    (0, b"v/1\x01", "OpenEXR", "map it to 8 bits a channel as PNG"),
    (0, b"#?RADIANCE", "Radiance HDR", "map it to 8 bits a channel as PNG"),
    (0, b"#?RGBE", "Radiance HDR", "map it to 8 bits a channel as PNG"),
    (0, b"SIMPLE  =", "FITS", "map it to 8 bits a channel as PNG"),
    (128, b"DICM", "DICOM", "map it to 8 bits a channel as PNG"),
    (0, b"PF\n", "PFM", "map it to 8 bits a channel as PNG"),
    (0, b"Pf\n", "PFM", "map it to 8 bits a channel as PNG"),
    (0, b"qoif", "QOI", _CONVERT),
    (0, b"FLIF", "FLIF", _CONVERT),
    (0, b"BPG\xfb", "BPG", _CONVERT),
    (0, b"\x8aMNG\r\n\x1a\n", "MNG", _CONVERT),
    (0, b"\x8bJNG\r\n\x1a\n", "JNG", _CONVERT),
    (0, b"\x59\xa6\x6a\x95", "Sun raster", _CONVERT),
    (0, b"\x01\xda\x01", "SGI image", _CONVERT),
    (0, b"\x01\xda\x00", "SGI image", _CONVERT),
    (0, b"\x0a\x05\x01", "PCX", _CONVERT),
    (0, b"/* XPM */", "XPM", _CONVERT),
    (0, b"IIU\0", "Panasonic raw", _CONVERT),
    (0, b"IIRO", "Olympus raw", _CONVERT),
    (0, b"IIRS", "Olympus raw", _CONVERT),
    (0, b"FUJIFILMCCD-RAW", "Fuji raw", _CONVERT),
    (8, b"AVI ", "video", "extract its frames as JPEG"),
    (8, b"WAVE", "sound", _REMOVE),
    (0, b"\x1aE\xdf\xa3", "video", "extract its frames as JPEG"),
    (0, b"\0\0\1\xba", "video", "extract its frames as JPEG"),
    (0, b"PK\3\4", "ZIP archive", _UNPACK),
    (0, b"\x1f\x8b", "gzip file", _UNPACK),
    (0, b"\xfd7zXZ\0", "xz file", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard file", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "7z archive", _UNPACK),
    (0, b"Rar!\x1a\7", "RAR archive", _UNPACK),
    (257, b"ustar", "tar archive", _UNPACK),
    (0, b"\x93NUMPY", "NumPy array", "load it with np.load and pass Arrays"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 file", "export its images as PNG"),
    (0, b"PAR1", "Parquet file", "pass it as a table"),
    (0, b"version https://git-lfs", "Git LFS pointer", "fetch the image itself: git lfs pull"),
    (0, b"Mac OS X        ", "AppleDouble file", _REMOVE),
    (0, b"\0\5\x16\7", "AppleDouble file", _REMOVE),
)
_TEXT_BYTES = 1024
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_SVG = re.compile(rb"<(\w+:)?svg\b")
_TGA_FOOTER = b"TRUEVISION-XFILE.\0"
_TGA_TYPES = {1: (8,), 2: (15, 16, 24, 32), 3: (8,), 9: (8,), 10: (15, 16, 24, 32), 11: (8,)}


def refusal(data: bytes) -> str:
    """Why a file is refused whose bytes begin as none that is parsed.

    Args:
        data: the file, not empty.

    Returns:
        What it is, and a remedy; in doubt the bytes that it begins with.
    """
    name = sniff(data)
    if name is not None:
        return f"{name} is not supported: {_CONVERT}"
    if _tga(data):  # in front of cursors, which begin as it may
        return f"TGA is not supported: {_CONVERT}"
    for at, signature, what, remedy in _SIGNATURES:
        if data.startswith(signature, at):
            return f"{what} is not supported: {remedy}"
    text = data[:_TEXT_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        page, drawing = _HTML.search(text), _SVG.search(text)
        if drawing and not (page and page.start() < drawing.start()):
            return f"SVG is not supported: {_RENDER}"
        return f"not an image, but {'an HTML page' if page else 'XML'}, as where a download failed: {_FETCH}"
    if text.startswith((b"{", b"[")) and text.isascii():
        return f"not an image, but JSON, as where a download failed: {_FETCH}"
    if not data.strip(b"\0"):
        return f"not an image: {len(data):,} zero bytes, as where a copy was interrupted; copy it anew"
    return f"not an image: it begins with {data[:8]!r}"


def _tga(data: bytes) -> bool:
    """Whether it is a TGA, which has no signature at its start: by its footer, or a header whose fields all fit."""
    if data.endswith(_TGA_FOOTER):
        return True
    if len(data) < 18 or data[1] > 1 or data[16] not in _TGA_TYPES.get(data[2], ()) or data[17] & 0xC0:
        return False
    mapped = data[1] == 1
    width, height = int.from_bytes(data[12:14], "little"), int.from_bytes(data[14:16], "little")
    fits = mapped == (data[2] in (1, 9)) and (mapped or not any(data[3:8]))
    needed = 18 + data[0] + (width * height * ((data[16] + 7) // 8) if data[2] < 9 else 1)
    return fits and width > 0 and height > 0 and len(data) >= needed
