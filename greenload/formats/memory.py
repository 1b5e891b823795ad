"""How many bytes decoding an image takes, told from its header before anything is decoded.

One rule for every backend, so that a record is refused by all of them or by none: of each kind what the backend takes
that takes most, beside the file's own bytes. The figures are peaks of resident memory, measured on 25 megapixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from greenload.formats.base import FormatError, Header

MAX_BYTES = 1 << 30
"""The limit if none is given: 1 GiB. It leaves 8-bit JPEG and PNG of 3 channels what ``MAX_VALUES`` leaves them, save
progressive JPEG beyond 97 megapixels (134 where chroma is subsampled)."""

PIXEL_BYTES: Mapping[str, int] = {
    "JPEG": 5,  # Pillow: grey and its RGB, of four bytes
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
"""Bytes a pixel, by kind."""
JPEG_MOST, JPEG_PAD = 17, 63
"""No JPEG takes more bytes a pixel, counted on sides so much longer: its blocks reach beyond its edges."""
JPEG_SEGMENTS = 1024
"""So many segments are looked at for a JPEG's frame and first scan; one that has them later counts as ``JPEG_MOST``."""
PNG_ALPHA = (4, 6)
"""PNG's colour types with alpha."""
JPEG_WHOLE = (0xC2, 0xCA)
"""The markers of progressive frames: all coefficients are held before the first pixel is made."""


@dataclass(frozen=True)
class _Frame:
    """What of a JPEG decides the bytes that decoding takes."""

    components: int
    coefficients: int
    """How many are held at once: all, where components or bands come in several scans; else 0."""


def needed(data: bytes, head: Header) -> int:
    """Bytes that decoding a file takes, at most, on any backend that reads it, beside the file's own.

    Args:
        data: the whole file.
        head: its header.
    """
    pixels = head.height * head.width
    if head.kind == "PNG":
        return pixels * PIXEL_BYTES["PNG with alpha" if data[25] in PNG_ALPHA else "PNG"]
    if head.kind != "JPEG":
        return pixels * PIXEL_BYTES[head.kind]
    frame = _jpeg_frame(data)
    if frame is None:
        return _most(head)
    if frame.components == 4:
        return pixels * PIXEL_BYTES["CMYK JPEG"]
    return pixels * PIXEL_BYTES["JPEG"] + 2 * frame.coefficients


def check_memory(data: bytes, head: Header, max_bytes: int) -> None:
    """Refuse an image whose decoding would take more than a limit.

    Raises:
        FormatError: it would.
    """
    if _most(head) <= max_bytes or (found := needed(data, head)) <= max_bytes:
        return
    raise FormatError(
        f"{head.kind} of {head.width}×{head.height} pixels takes {found:,} bytes to decode, above the limit of "
        f"{max_bytes:,}: pass Decode(max_bytes={found}) where each thread may take so much, or shrink it"
    )


def _most(head: Header) -> int:
    """What no file of a kind and size takes more than."""
    if head.format == "JPEG":
        return (head.height + JPEG_PAD) * (head.width + JPEG_PAD) * JPEG_MOST
    return head.height * head.width * max(PIXEL_BYTES.values())


def _jpeg_frame(data: bytes) -> _Frame | None:
    """The frame and first scan of a JPEG, as far as they are among its first segments."""
    at, frame = 2, 0
    for _ in range(JPEG_SEGMENTS):
        if at + 4 > len(data) or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _FRAMES:
            frame = at
        if marker == 0xDA:
            return _held(data, frame, at) if frame else None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _held(data: bytes, frame: int, scan: int) -> _Frame | None:
    components = data[frame + 9]
    if frame + 10 + 3 * components > len(data) or scan + 5 > len(data):
        return None
    if data[frame + 1] not in JPEG_WHOLE and data[scan + 4] == components:
        return _Frame(components, 0)
    height, width = (int.from_bytes(data[frame + k : frame + k + 2], "big") for k in (5, 7))
    factors = [data[frame + 11 + 3 * k] for k in range(components)]
    across, down = max(f >> 4 for f in factors), max(f & 15 for f in factors)
    if not across or not down:
        return None
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    return _Frame(components, 64 * units * sum((f >> 4) * (f & 15) for f in factors))
