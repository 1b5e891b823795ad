"""Decodes files with Pillow to the same pixels as the other backends do.

Of PNG and GIF Pillow's readers get only what the pixels need. What else such files hold (transparency, text,
animation) would change the pixels, warn, or take memory.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from greenload.backends import orientation as orienting
from greenload.sources.formats import FormatError, png, sniff
from greenload.sources.formats.inflate import blocks
from greenload.sources.formats.others import (
    bmp_colours,
    gif_background,
    gif_canvas,
    gif_colours,
    gif_frame,
    webp,
    webp_alone,
)
from greenload.text import one_line

Image = Any
"""A ``PIL.Image.Image``."""
Window = tuple[int, int, int, int]
"""Top, left, height, width."""
NO_WEBP = "this Pillow is built without libwebp"


def decode(data: bytes, window: Window | None = None, orientation: int = 1) -> Image:
    """A file's pixels, or a window of them.

    Args:
        data: the whole file, whose header ``formats.header`` has passed.
        window: in the image as the file stores it; the whole image if not given.
        orientation: 1 … 8, how the result is to be turned upright.

    Returns:
        A Pillow image of mode ``"RGB"``.

    Raises:
        FormatError: it can't be decoded wholly.
    """
    image = _read(data)
    if window is not None:
        image = crop(image, window)
    return upright(_rgb(image), orientation)


def crop(image: Image, window: Window) -> Image:
    """A window of a Pillow image."""
    top, left, height, width = window
    if (width, height) == image.size:
        return image
    # Image.crop would hold the window against Pillow's own limit of pixels, and warn.
    return image._new(image.im.crop((left, top, left + width, top + height)))


def upright(image: Image, orientation: int) -> Image:
    """A stored image as it is to be seen, by its EXIF orientation."""
    from PIL.Image import Transpose

    if orientation in orienting.TRANSPOSED:
        image = image.transpose(Transpose.TRANSPOSE)
    if orientation in orienting.MIRRORED:
        image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
    if orientation in orienting.OVERTURNED:
        image = image.transpose(Transpose.FLIP_TOP_BOTTOM)
    return image


def _read(data: bytes) -> Image:
    """A file as a Pillow image of the mode that suits it, decoded."""
    from PIL import ImageFile

    name = sniff(data)
    assert name is not None  # the header was parsed
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise FormatError(
            "can't be decoded: PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so that Pillow would pass over damage; "
            "set it to False"
        )
    try:
        image = _READERS[name](data)
        image.load()
    except (FormatError, MemoryError):
        raise
    except Exception as error:  # whatever a reader makes of damaged bytes is the reason
        raise FormatError(f"can't be decoded: {one_line(error) or type(error).__name__}") from None
    return image


def _rgb(image: Image) -> Image:
    if image.mode == "RGB":
        return image
    return _mixed(image) if image.mode == "CMYK" else image.convert("RGB")


def _mixed(image: Image) -> Image:
    """A CMYK JPEG as libjpeg's other users mix it: each ink's light times black's, by 255, cut. Pillow would round."""
    from PIL import ImageChops
    from PIL.Image import merge

    # Pillow inverts every one, since such files hold light, not ink, whether Adobe's or not.
    *inks, black = ImageChops.invert(image).split()
    return merge("RGB", [ImageChops.multiply(ink, black) for ink in inks])


def _jpeg(data: bytes) -> Image:
    from PIL.JpegImagePlugin import JpegImageFile

    return JpegImageFile(io.BytesIO(data))


def _png(data: bytes) -> Image:
    """Of its critical chunks alone, and its pixels in one: each chunk costs Pillow as much as a thousand pixels."""
    from PIL.PngImagePlugin import PngImageFile

    _check_rows(data, png.pixels(data)[1])
    return PngImageFile(io.BytesIO(png.alone(data)))


def _check_rows(data: bytes, pixels: bytes) -> None:
    """Pillow takes rows that the compressed pixels lack for black: make sure that all are there.

    Raises:
        FormatError: they aren't, or can't be decompressed.
    """
    expected = sum(length * rows for length, rows in png.row_lengths(data))
    available = sum(map(len, blocks(zlib.decompressobj(), pixels, expected)))
    if available < expected:
        raise FormatError(f"truncated PNG: {available} bytes of rows, where its header promises {expected}")


def _bmp(data: bytes) -> Image:
    """With all colours that a pixel's bits can name: what Pillow makes of a shorter palette depends on its colours."""
    from PIL.BmpImagePlugin import BmpImageFile

    colours = bmp_colours(data)
    if colours:
        begin, size = struct.unpack_from("<II", data, 10)
        (bits,) = struct.unpack_from("<H", data, 28)
        start, most = 14 + size, 1 << bits
        head = data[:10] + struct.pack("<I", start + 4 * most) + data[14:46] + bytes(4) + data[50:start]
        data = head + data[start : start + 4 * colours].ljust(4 * most, b"\0") + data[begin:]
    return BmpImageFile(io.BytesIO(data))


def _webp(data: bytes) -> Image:
    from PIL import features
    from PIL.WebPImagePlugin import WebPImageFile

    if not features.check_module("webp"):  # the part of Pillow that needs libwebp
        raise FormatError(
            f"{NO_WEBP}, so it reads no WebP: install libwebp's headers and build it anew, use backend 'tf', or "
            "convert it to JPEG or PNG"
        )

    picture = webp(data).picture
    assert picture is not None  # its header was parsed before
    return WebPImageFile(io.BytesIO(webp_alone(data, picture)))


def _gif(data: bytes) -> Image:
    """Of the first frame alone, then put onto the canvas."""
    from PIL import Image as pil
    from PIL.GifImagePlugin import GifImageFile

    at, end = gif_frame(data)
    colours = data[10 : 13 + gif_colours(data[10])]
    image = GifImageFile(
        io.BytesIO(b"".join((data[:6], data[at + 5 : at + 9], colours, b",\0\0\0\0", data[at + 5 : end], b";")))
    )
    image.load()
    _check_colours("GIF", image, (gif_colours(data[at + 9]) or gif_colours(data[10])) // 3)
    rows, columns = gif_canvas(data, at)
    if image.size == (columns, rows):
        return image
    canvas = pil.new("RGB", (columns, rows), gif_background(data, at))
    canvas.paste(_rgb(image), struct.unpack_from("<HH", data, at + 1))
    return canvas


def _check_colours(name: str, image: Image, colours: int) -> None:
    """Pillow takes colours that a palette lacks for shades of grey: make sure that none is used.

    Raises:
        FormatError: one is.
    """
    most = image.getextrema()[1]
    if most >= colours:
        raise FormatError(f"broken {name}: a pixel has colour {most}, but its palette ends at {colours - 1}")


_READERS: Mapping[str, Callable[[bytes], Image]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "BMP": _bmp,
    "WebP": _webp,
    "GIF": _gif,
}
