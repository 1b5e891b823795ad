"""Defines the result and the error of the parsers of headers, and recognises a file's format."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

MAX_VALUES = 1 << 29
"""Rows × columns × channels of an image must stay below this: 178 million RGB pixels. It is the limit of TensorFlow's
decoders (``tensorflow/core/lib/jpeg/jpeg_mem.cc``), and what Pillow calls a decompression bomb."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
)

_BRANDS = (
    dict.fromkeys((b"avif", b"avis"), "AVIF")
    | dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC")
    | {b"crx ": "Canon CR3", b"jxl ": "JPEG XL", b"jp2 ": "JPEG 2000"}
)
_PNM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+\d|P7\n")
_UNSUPPORTED = " is not supported"  # with which every error begins that is about the kind of a file, behind its name
_VIDEO = (b"isom", b"iso2", b"mp41", b"mp42", b"M4V ", b"qt  ", b"3gp4", b"3gp5", b"avc1")


@dataclass(frozen=True)
class Header:
    """What a file's header says."""

    format: str
    height: int
    """Rows, as the file stores them: orientation is not applied."""
    width: int
    """Columns."""
    kind: str = ""
    """The kind within the format, a key of ``formats.KINDS``."""
    components: int = 3
    """Of a JPEG: 1 for grey, 3 for colour, 4 for inks."""
    exif: int | None = None
    """Where a JPEG's EXIF block begins, if it has one."""
    picture: tuple[int, int] | None = None
    """Where the part of a WebP begins and ends that holds its picture."""
    burdened: bool = False
    """Whether a PNG has compressed texts, or animation."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.kind or self.format)


class FormatError(ValueError):
    """The bytes are no image that greenload reads; the message says why, and names no file."""

    @property
    def unsupported(self) -> str:
        """The kind of file, where it is a kind that isn't read; empty where the file is broken."""
        kind, separator, _ = str(self).partition(_UNSUPPORTED)
        return kind if separator else ""


def beginnings(formats: Collection[str]) -> tuple[bytes, ...]:
    """The first bytes of files of some formats; for WebP those of any RIFF file."""
    return tuple(start for start, name in (*_SIGNATURES, (b"RIFF", "WebP")) if name in formats)


class Truncated(FormatError):
    """The file ends before its picture does."""


def sniff(data: bytes) -> str | None:
    """The format by the first bytes, or ``None`` if they are no image's."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if _PNM.match(data):
        return "PNM"  # .ppm, .pgm and their kin
    return _of_brands(data) if data[4:8] == b"ftyp" else None


def _of_brands(data: bytes) -> str:
    """The format within ISO media files (ISO/IEC 14496-12, 4.3): by the major brand, or the compatible ones."""
    end = min(max(int.from_bytes(data[:4], "big"), 16), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(end, len(data)) - 3, 4))]
    otherwise = "video" if any(brand in _VIDEO for brand in brands) else "AVIF or HEIF"
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), otherwise)


def check_size(name: str, height: int, width: int, channels: int = 3) -> None:
    """Refuse images without pixels, and ones that would take gigabytes once decoded.

    Raises:
        FormatError: a side is not positive, or there are ``MAX_VALUES`` values or more.
    """
    if height < 1 or width < 1:
        raise FormatError(f"broken {name}: its header says {width}×{height} pixels")
    if height * width * channels >= MAX_VALUES:
        raise FormatError(
            f"{name} of {width}×{height} pixels is too large: at most {(MAX_VALUES - 1) // channels:,} are decoded; "
            "shrink it, or remove it if its header is broken"
        )
