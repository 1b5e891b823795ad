"""Bounds the bytes that decoding an image takes, from its header, before anything is decoded.

One rule holds for every backend, so that a record is refused by all backends or by none: for each kind it takes the
backend that needs most, beside the file's own bytes. The figures are peaks of resident memory, measured on 25
megapixels.
"""

from __future__ import annotations

from collections.abc import Mapping

from greenload.sources.formats.base import FormatError, Header

PIXEL_BYTES: Mapping[str, int] = {
    # Pillow: grey and its RGB, of four bytes; and up to 6 for the coefficients of a progressive one. Whether a file is
    # progressive stands behind its tables, which TensorFlow's graph would have to walk through in every epoch.
    "JPEG": 11,
    "partial progressive JPEG": 11,
    "CMYK JPEG": 16,  # Pillow: inks apart, and mixed; the coefficients of a progressive one are gone by then
    "PNG": 6,  # DALI
    "PNG with alpha": 8,  # Pillow
    "16-bit PNG": 13,  # TensorFlow
    "BMP": 9,  # TensorFlow
    "palette BMP": 6,  # DALI
    "WebP": 17,  # Pillow: two canvases, a frame and two images, of four bytes each
    "GIF": 9,  # TensorFlow
    "TIFF": 6,  # DALI
}
"""Bytes per pixel, by kind."""
AS_PNG_BYTES = 10
"""Bytes per pixel, at least, where one backend decodes for another and transfers a PNG: the PNG and a copy, beside the
memory for decoding the PNG."""
PNG_ALPHA = (4, 6)
"""PNG's colour types with alpha."""


def needed(data: bytes, head: Header, as_png: bool = False) -> int:
    """Bytes that decoding a file takes, at most, on any backend that reads it, beside the file's own.

    Args:
        data: the whole file.
        head: its header.
        as_png: whether it becomes a PNG for another backend, as in ``backends.readers``.
    """
    kind = head.kind
    if kind == "PNG" and data[25] in PNG_ALPHA:
        kind = "PNG with alpha"
    if head.components == 4:
        kind = "CMYK JPEG"
    pixel = max(PIXEL_BYTES[kind], AS_PNG_BYTES) if as_png else PIXEL_BYTES[kind]
    return head.height * head.width * pixel


def check_memory(data: bytes, head: Header, max_bytes: int, as_png: bool = False) -> None:
    """Refuse an image whose decoding would take more than a limit.

    Raises:
        FormatError: it would.
    """
    if (size := needed(data, head, as_png)) > max_bytes:
        raise FormatError(
            f"{head.kind} of {head.width}×{head.height} pixels takes {size:,} bytes to decode, above the limit of "
            f"{max_bytes:,}: pass Decode(max_bytes={size}) where each thread may take so much, or shrink it"
        )
