"""Finds out the kind and size of an image file from its header, and refuses what decoders can't be trusted with.

Only headers are parsed here, in plain Python. Sizes must be known before decoding, so that windows can be computed on
the host; sizes of gigabytes, and kinds that a decoder reads wrongly or that make it abort, must be refused before it.
The tf backend refuses the same files in its graph by the same rules, except for what costs too much to look for there:
damage between a JPEG's segments, numbers of a PNG's chunks, codes of a GIF.

Work and memory are bounded by a file's length, whatever its header claims.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from greenload.sources.formats import foreign, jpeg, others, png, strips, tiff, truncation
from greenload.sources.formats.base import MAX_VALUES, FormatError, Header, Truncated, beginnings, sniff
from greenload.sources.formats.exif import orientation
from greenload.sources.formats.memory import check_memory
from greenload.specs import MAX_BYTES, Truncation

__all__ = [
    "KINDS",
    "MAX_VALUES",
    "FormatError",
    "Header",
    "Support",
    "header",
    "opened",
    "orientation",
    "plain",
    "sniff",
    "starts",
    "verify",
]


KINDS: Mapping[str, str] = {
    "JPEG": "8-bit grey, RGB, CMYK, YCCK; baseline, progressive, arithmetic-coded",
    jpeg.PARTIAL: "its scans leave out bits of its coefficients",
    "PNG": "1, 2, 4, 8 bits; grey, palette, RGB, each with alpha; interlaced",
    "16-bit PNG": "each channel rounded to 8 bits: v / 257",
    "BMP": "24 and 32 bits, bottom-up and top-down",
    "WebP": "lossy, lossless, with alpha",
    "GIF": "the first frame, on its canvas",
    "palette BMP": "1, 4 and 8 bits, uncompressed",
    "TIFF": "8-bit grey, RGB, palette, in strips: raw, LZW, deflate, PackBits; its first image",
}
"""What ``Decode`` reads: of each kind of file the variants. Alpha is dropped, never blended; the pixels are the same
whatever reads it."""

_PARSERS: Mapping[str, Callable[[bytes], Header]] = {
    "JPEG": jpeg.parse,
    "PNG": png.parse,
    "BMP": others.bmp,
    "GIF": others.gif,
    "WebP": others.webp,
    "TIFF": tiff.parse,
}
_OF_FORMAT: Mapping[str, tuple[str, ...]] = {
    name: tuple(kind for kind in KINDS if kind.endswith(name)) for name in _PARSERS
}
"""The kinds of each format."""


FILL_ARGUMENT = 'Decode(truncated="fill")'
"""What asks ``Decode`` to fill cut-off files."""


@dataclass(frozen=True)
class Support:
    """Which kinds of files may be decoded, and by which backends."""

    backend: str
    """The backend that is to decode: its name, for errors."""
    kinds: Collection[str]
    """The kinds that it reads, keys of ``KINDS``."""
    readers: Collection[str] | None
    """The kinds that other backends decode for it; ``None`` where a user named it, so that no other may."""
    reading: Callable[[str], Sequence[str]]
    """The names of all backends that read a kind, for errors."""
    fillers: Collection[str]
    """The backends that decode a JPEG which was cut off and has been filled."""


def starts(kinds: Collection[str]) -> tuple[bytes, ...]:
    """The first bytes of files of some kinds."""
    return beginnings([name for name, own in _OF_FORMAT.items() if set(own) & set(kinds)])


def header(
    data: bytes,
    support: Support | None = None,
    max_bytes: int | None = None,
) -> Header:
    """Parse an encoded image's header.

    Args:
        data: the whole file.
        support: the kinds that may be decoded; all of ``KINDS`` if not given.
        max_bytes: the most bytes that decoding it may take, as in ``Decode``; no limit if not given.

    Raises:
        FormatError: the bytes are empty, no image, cut, broken in the header, too large, or of a format or kind that
            isn't read (by that backend: then the message names one that reads it).
    """
    if not data:
        raise FormatError("the file is empty")
    name = sniff(data)
    parse = None if name is None else _PARSERS.get(name)
    if name is None or parse is None:
        raise FormatError(foreign.refusal(data))
    if len(_OF_FORMAT[name]) == 1:  # its first bytes decide, so that a kind that isn't read needn't be parsed
        _check_read(name, support)
    head = parse(data)
    _check_read(head.kind, support)
    if max_bytes is not None:
        readers = () if support is None else support.readers or ()
        check_memory(data, head, max_bytes, as_png=head.kind in readers)
    return head


def opened(
    data: bytes,
    support: Support | None = None,
    max_bytes: int = MAX_BYTES,
    truncated: Truncation = "error",
) -> tuple[bytes, Header]:
    """A file as it is to be decoded, and its header: with ``"fill"`` a file that is cut off is filled first.

    Args:
        data: the whole file.
        support: the kinds that may be decoded, and by which backends; all of ``KINDS`` if not given.
        max_bytes: the most bytes that decoding it may take, as in ``Decode``.
        truncated: what is done about a file that is cut off, as in ``Decode``.

    Raises:
        FormatError: ``header`` refuses the file; or the file is cut off, and can't be filled (for that backend).
    """
    unfilled = support is not None and support.backend not in support.fillers
    try:
        return data, header(data, support, max_bytes)
    except FormatError as error:
        name = sniff(data)
        if truncated == "error":
            if not isinstance(error, Truncated) or name not in truncation.FILLED or (name == "JPEG" and unfilled):
                raise
            remedy = f"fetch it anew, or pass {FILL_ARGUMENT} for what is there of it"
            raise Truncated(f"{error}: {remedy}") from None
        whole = truncation.filled(data, max_bytes)
        if whole is None:
            if not isinstance(error, Truncated):
                raise
            why = "finds no pixels in it" if name in truncation.FILLED else f"fills JPEG, PNG and BMP, not {name}"
            raise FormatError(f"{error}; {FILL_ARGUMENT} {why}: remove it") from None
    head = header(whole, support, max_bytes)
    if support is not None and unfilled and head.format == "JPEG":
        *others_fill, last = map(repr, support.fillers)
        where = f"{', '.join(others_fill)} and {last}, not on {support.backend!r}"
        raise FormatError(f"truncated JPEG: {FILL_ARGUMENT} fills it on {where}")
    return whole, head


def plain(data: bytes, head: Header) -> bytes:
    """A file without the parts that decoders treat differently and that no pixel depends on.

    Args:
        data: the file.
        head: its header.
    """
    if head.picture is not None:
        return others.webp_alone(data, head.picture)
    if head.burdened:
        return png.alone(data)
    if head.exif is not None:  # DALI refuses a JPEG for a block that it can't read, Pillow warns of it
        data = b"".join((data[: head.exif], b"hidden", data[head.exif + len(jpeg.EXIF) :]))
    return jpeg.of_light(data) if head.components == 4 else data


def verify(data: bytes, head: Header) -> None:
    """Verify a file's content besides its header, which would cost too much each time that the file is loaded.

    Args:
        data: the file.
        head: its header.

    Raises:
        FormatError: decoders would give different pixels, or leave a part of the image black.
    """
    if head.format == "TIFF":
        strips.check_strips(data)
    if head.format == "GIF" and not others.gif_codes(data):
        raise FormatError("broken GIF: its pixels are compressed with a code that can't be there")


def _check_read(kind: str, support: Support | None) -> None:
    if support is None or kind in support.kinds or kind in (support.readers or ()):
        return
    others_can = " or ".join(map(repr, support.reading(kind)))
    anew = "save it anew as JPEG or PNG" if kind.endswith("JPEG") else "convert it to JPEG or PNG"
    anew = "convert it to JPEG" if kind == "PNG" else anew
    if support.readers is None:
        raise FormatError(f"{kind} is not read by backend {support.backend!r}: use {others_can}, or {anew}")
    raise FormatError(
        f"{kind} is not supported by the backends that can run here: install what {others_can} needs (greenload doctor "
        f"says what), or {anew}"
    )
