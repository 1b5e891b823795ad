"""What the parsers of headers share: their result, their error, and how the format of a file is told."""

from __future__ import annotations

from dataclasses import dataclass

MAX_VALUES = 1 << 29
"""Rows × columns × channels of an image must stay below this: 178 million RGB pixels. It is what TensorFlow's decoders
hold themselves to (``tensorflow/core/lib/jpeg/jpeg_mem.cc``), and what Pillow calls a decompression bomb."""

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


@dataclass(frozen=True)
class Header:
    """What a file's first bytes say."""

    format: str
    height: int
    """Rows, as the file stores them: orientation is not applied."""
    width: int
    """Columns."""
    kind: str = ""
    """The kind within the format, a key of ``formats.KINDS``."""
    exif: int | None = None
    """Where a JPEG's EXIF block begins, if it has one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.kind or self.format)


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
