"""Image files by their first bytes: what they are, how large, and which backends read them.

Only headers are parsed here, in plain Python: sizes must be known before decoding, so that windows can be computed on
the host, and what a decoder can't be trusted with (sizes of gigabytes, kinds that it reads wrongly or that make it
abort) must be refused before it. What is refused here the tf backend refuses in its graph by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from greenload.formats import jpeg, others, png
from greenload.formats.base import MAX_VALUES, FormatError, Header, sniff
from greenload.formats.jpeg import orientation

__all__ = ["KINDS", "MAX_VALUES", "FormatError", "Header", "Kind", "header", "orientation", "sniff", "support"]


@dataclass(frozen=True)
class Kind:
    """One kind of image file."""

    what: str
    """Its variants that are read."""
    backends: tuple[str, ...]
    """The backends that decode it, all to the same pixels."""


_ALL = ("tf", "dali-cpu", "dali", "pillow")
_CPU = ("tf", "dali-cpu", "pillow")
KINDS: Mapping[str, Kind] = {
    "JPEG": Kind("8-bit grey, RGB, CMYK, YCCK; baseline, progressive, arithmetic-coded", _ALL),
    "PNG": Kind("1, 2, 4, 8 bits; grey, palette, RGB, each with alpha; interlaced", _ALL),
    "16-bit PNG": Kind("each channel rounded to 8 bits: v / 257", ("tf", "dali-cpu")),
    "BMP": Kind("24 and 32 bits, bottom-up and top-down", _CPU),
    "WebP": Kind("lossy, lossless, with alpha", _CPU),
    "GIF": Kind("the first frame", ("tf", "pillow")),
    "palette BMP": Kind("1, 4 and 8 bits, uncompressed", ("dali-cpu", "pillow")),
    "TIFF": Kind("8-bit grey, RGB, palette, in strips: raw, LZW, deflate, PackBits; its first image", ("dali-cpu",)),
}
"""What ``Decode`` reads, by kind. Alpha is dropped, never blended. What a GPU does with the others isn't known yet."""

_PARSERS: Mapping[str, Callable[[bytes], Header]] = {
    "JPEG": jpeg.parse,
    "PNG": png.parse,
    "BMP": others.bmp,
    "GIF": others.gif,
    "WebP": others.webp,
    "TIFF": others.tiff,
}


def support(backend: str) -> tuple[str, ...]:
    """The kinds of files that a backend reads: keys of ``KINDS``."""
    return tuple(name for name, kind in KINDS.items() if backend in kind.backends)


def header(data: bytes, backend: str | None = None) -> Header:
    """Parse an encoded image's header.

    Args:
        data: the whole file.
        backend: which is to decode it; any will do if not given.

    Raises:
        FormatError: the bytes are empty, no image, cut or broken as far as the header tells, too large, or of a format
            or kind that isn't read (by that backend: then the message names one that does).
    """
    if not data:
        raise FormatError("the file is empty")
    name = sniff(data)
    if name is None:
        raise FormatError(f"not an image: it begins with {data[:8]!r}")
    parse = _PARSERS.get(name)
    if parse is None:
        raise FormatError(f"{name} is not supported: convert it to JPEG or PNG")
    found = parse(data)
    able = KINDS[found.kind].backends
    if backend is not None and backend not in able:
        others_can = " or ".join(repr(other) for other in able)
        raise FormatError(
            f"{found.kind} is not read by backend {backend!r}: use {others_can}, or convert it to JPEG or PNG"
        )
    return found
