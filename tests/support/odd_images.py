"""Odd pictures of every kind, whole and by the book: what cameras, scanners, old programs and editors write.

`pictures()` is a pure function. Some of them no backend reads; what two backends read has the same pixels.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import encoders as e
import numpy as np
import odd_jpegs as oj
import odd_tiffs as ot

Named = Iterator[tuple[str, bytes]]
_SIZES = ((1, 1), (1, 17), (9, 8), (23, 33), (50, 70))


@cache
def pictures() -> dict[str, bytes]:
    """Files by name; the part of a name before its first blank is the format."""
    found: dict[str, bytes] = {}
    for name, data in itertools.chain(jpegs(), pngs(), gifs(), bmps(), webps(), ot.tiffs()):
        assert name not in found, name
        found[name] = data
    return found


SAMPLINGS = {
    "4:4:4": ((1, 1), (1, 1), (1, 1)),
    "4:2:2": ((2, 1), (1, 1), (1, 1)),
    "4:2:0": ((2, 2), (1, 1), (1, 1)),
    "4:4:0": ((1, 2), (1, 1), (1, 1)),
    "4:1:1": ((4, 1), (1, 1), (1, 1)),
    "4:1:0": ((4, 2), (1, 1), (1, 1)),
    "1 by 4": ((1, 4), (1, 1), (1, 1)),
    "2 by 1 throughout": ((2, 1), (2, 1), (2, 1)),
    "uneven colours": ((2, 2), (2, 1), (1, 2)),
    "3 by 1": ((3, 1), (1, 1), (1, 1)),
    "large colours": ((1, 1), (2, 2), (1, 1)),
}


def jpegs() -> Named:
    """JPEG: samplings, scans, colours, headers."""
    modes: dict[str, dict[str, Any]] = {
        "baseline": {},
        "extended": {"frame": 0xC1},
        "apart": {"scans": oj.apart(3)},
        "progressive": {"frame": 0xC2, "scans": oj.progressive(3)},
        "spectral": {"frame": 0xC2, "scans": oj.spectral(3)},
        "restarts": {"restart": 2},
    }
    for (name, sampling), (mode, options) in itertools.product(SAMPLINGS.items(), modes.items()):
        for height, width in _SIZES if mode in ("baseline", "progressive") else _SIZES[3:4]:
            image = e.pixels(height, width, seed=height)
            yield f"JPEG {name} {mode} {height}x{width}", oj.jpeg(image, sampling=sampling, jfif=True, **options)
    for name, scans in (("progressive", oj.progressive(3)), ("spectral", oj.spectral(3))):
        for sampling, count in itertools.product(("4:4:4", "4:2:0", "4:1:1", "1 by 4"), range(1, len(scans))):
            data = oj.jpeg(e.pixels(90, 120), sampling=SAMPLINGS[sampling], frame=0xC2, scans=scans[:count])
            yield f"JPEG partial {name} {sampling} {count} scans", data
    colour, grey, inks = e.pixels(37, 43), e.pixels(37, 43, 1), e.pixels(37, 43, 4)
    yield "JPEG grey", oj.jpeg(grey)
    yield "JPEG grey 2 by 2", oj.jpeg(grey, sampling=[(2, 2)])
    yield "JPEG grey progressive", oj.jpeg(grey, frame=0xC2, scans=oj.progressive(1))
    yield "JPEG grey partial", oj.jpeg(grey, frame=0xC2, scans=oj.progressive(1)[:2])
    yield "JPEG grey Adobe", oj.jpeg(grey, adobe=0)
    for first, adobe, jfif in itertools.product(
        ((1, 2, 3), (0, 1, 2), b"RGB", b"rgb", (34, 35, 36), (7, 9, 4)), (None, 0, 1, 2), (False, True)
    ):
        yield (
            f"JPEG ids {tuple(first)} Adobe {adobe} JFIF {jfif}",
            oj.jpeg(colour, identifiers=tuple(first), adobe=adobe, jfif=jfif),
        )
    yield "JPEG two components", oj.jpeg(e.pixels(37, 43, 2))
    for adobe, sampling, mode in itertools.product(
        (None, 0, 1, 2), ("4:4:4", "4:2:0"), ("baseline", "progressive", "partial")
    ):
        scans = {"baseline": (), "progressive": oj.progressive(4), "partial": oj.progressive(4)[:4]}[mode]
        four = (*SAMPLINGS[sampling], SAMPLINGS[sampling][0])
        data = oj.jpeg(inks, sampling=four, adobe=adobe, scans=scans, frame=0xC2 if scans else 0xC0)
        yield f"JPEG inks Adobe {adobe} {sampling} {mode}", data
    yield "JPEG inks JFIF", oj.jpeg(inks, jfif=True)
    yield "JPEG inks ids CMYK", oj.jpeg(inks, identifiers=b"CMYK")
    for wide, fill in ((True, 0), (False, 3)):
        yield f"JPEG wide tables {wide} fill bytes {fill}", oj.jpeg(colour, wide=wide, fill=fill)
    yield "JPEG wide tables extended", oj.jpeg(colour, wide=True, frame=0xC1)
    profile = b"\xff\xe2" + struct.pack(">H", 2 + 14 + 60000) + b"ICC_PROFILE\0\1\1" + bytes(60000)
    for name, before in {
        "comment": b"\xff\xfe\0\x08hello!",
        "120 kB of profile": profile * 2,
        "EXIF": e.with_exif(b"", 6, app0=False),
        "thumbnail": b"\xff\xe1"
        + struct.pack(">H", 2 + 20 + len(thumbnail := oj.jpeg(e.pixels(8, 8))))
        + b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"
        + thumbnail,
    }.items():
        yield f"JPEG behind {name}", oj.jpeg(colour, before=before)
        yield (
            f"JPEG partial behind {name}",
            oj.jpeg(e.pixels(90, 120), before=before, frame=0xC2, scans=oj.progressive(3)[:3]),
        )
    yield "JPEG bytes behind it", oj.jpeg(colour) + oj.jpeg(grey)
    for name in ("12-bit", "lossless", "no lines"):
        changed = {"12-bit": {"precision": 12}, "lossless": {"frame": 0xC3}, "no lines": {}}[name]
        yield f"JPEG {name}", e.with_jpeg_size(oj.jpeg(colour), 0 if name == "no lines" else 37, 43, **changed)
    for name in ("arithmetic.jpg", "arithmetic-progressive.jpg"):
        data = e.kept(name)
        yield f"JPEG {name}", data
        starts = [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)]
        for count, at in enumerate(starts[1:], 1):
            yield f"JPEG {name} {count} scans", data[:at] + b"\xff\xd9"


def pngs() -> Named:
    """PNG: colours, depths, transparency, what else they hold."""
    depths = {1: (1, 2, 4, 8, 16), 2: (8, 16), 3: (8, 16), 4: (8, 16)}
    for channels, interlaced in itertools.product(depths, (False, True)):
        for depth, (height, width) in itertools.product(depths[channels], _SIZES):
            image = e.pixels(height, width, channels, levels=1 << depth)
            yield (
                f"PNG {channels} of {depth} bits {height}x{width} {interlaced}",
                e.png(image, depth, interlaced=interlaced),
            )
    for depth, interlaced, alpha in itertools.product((1, 2, 4, 8), (False, True), (0, 1, 2)):
        image, colours = e.pixels(23, 33, 1, levels=1 << depth), e.palette(1 << depth)
        share = bytes(255 - 7 * k % 256 for k in range((1 << depth) * alpha // 2)) or None
        yield (
            f"PNG palette of {depth} bits {interlaced} alpha {alpha}",
            e.png(image, depth, colours=colours, alpha=share, interlaced=interlaced),
        )
    for depth, channels in itertools.product((1, 2, 4, 8, 16), (1, 3)):
        if depth >= 8 or channels == 1:
            image = e.pixels(23, 33, channels, levels=1 << depth)
            alpha = b"".join(int(value).to_bytes(2, "big") for value in image[3, 4])
            yield f"PNG {channels} of {depth} bits a transparent colour", e.png(image, depth, alpha=alpha)
    short = e.png(e.pixels(23, 33, 1, levels=3), 8, colours=e.palette(3))
    yield "PNG short palette", short
    rgb = e.pixels(23, 33)
    for name, chunks in _png_chunks().items():
        yield f"PNG with {name}", e.png(rgb, before=chunks)
        yield f"PNG grey with {name}", e.png(e.pixels(23, 33, 1), before=chunks)
    for kind, channels in (("grey", 1), ("RGB", 3), ("RGBA", 4)):
        for shown, idat in itertools.product((1, 2), (True, False)):
            yield f"PNG animated {kind} {shown} frames, IDAT among them {idat}", animated_png(channels, shown, idat)
    for filters in range(5):
        yield f"PNG filter {filters}", _filtered(rgb.astype(np.uint8), filters)
    data = e.png(rgb)
    yield "PNG bytes behind it", data + data
    yield "PNG pixels in many chunks", _split(data)
    yield "PNG of Apple's", data[:8] + e.chunk(b"CgBI", bytes(4)) + data[8:]


def _png_chunks() -> dict[str, bytes]:
    turned = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    return {
        "gamma": e.chunk(b"gAMA", struct.pack(">I", 100_000)),
        "dark gamma": e.chunk(b"gAMA", struct.pack(">I", 45455)) + e.chunk(b"sRGB", b"\0"),
        "primaries": e.chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        "profile": e.chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200))),
        "significant bits": e.chunk(b"sBIT", b"\5\6\5"),
        "background": e.chunk(b"bKGD", b"\0\7\0\7\0\7"),
        "sizes": e.chunk(b"pHYs", struct.pack(">IIB", 100, 300, 1)) + e.chunk(b"tIME", bytes(7)),
        "texts": e.chunk(b"tEXt", b"Title\0x") + e.chunk(b"zTXt", b"a\0\0" + zlib.compress(b"hello")),
        "EXIF": e.chunk(b"eXIf", turned),
        "histogram": e.chunk(b"hIST", bytes(6)),
        "suggested palette": e.chunk(b"sPLT", b"a\0\x08" + bytes(6)),
        "private": e.chunk(b"prVt", b"abc"),
    }


def animated_png(channels: int, frames: int, idat: bool) -> bytes:
    """An animation of one colour a frame, whose first image is part of it or not."""
    height, width = 20, 31

    def control(number: int) -> bytes:
        return e.chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 10, 0, 0))

    def rows(value: int) -> bytes:
        return zlib.compress((b"\0" + bytes([value] * channels) * width) * height)

    kind = {1: 0, 3: 2, 4: 6}[channels]
    data = b"\x89PNG\r\n\x1a\n" + e.chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    data += e.chunk(b"acTL", struct.pack(">II", frames, 0)) + (control(0) if idat else b"") + e.chunk(b"IDAT", rows(40))
    number = int(idat)
    for frame in range(frames - idat):
        data += control(number) + e.chunk(b"fdAT", struct.pack(">I", number + 1) + rows(200 - frame))
        number += 2
    return data + e.chunk(b"IEND", b"")


def _filtered(image: Any, kind: int) -> bytes:
    height, width, channels = image.shape
    flat = image.reshape(height, -1).astype(int)
    left = np.pad(flat, ((0, 0), (channels, 0)))[:, : flat.shape[1]]
    up, corner = np.pad(flat, ((1, 0), (0, 0)))[:-1], np.pad(left, ((1, 0), (0, 0)))[:-1]
    guess = left + up - corner
    near = np.stack([abs(guess - part) for part in (left, up, corner)]).argmin(0)
    paeth = np.choose(near, [left, up, corner])
    rest = flat - (np.zeros_like(flat), left, up, (left + up) // 2, paeth)[kind]
    rows = b"".join(bytes([kind]) + row.astype(np.uint8).tobytes() for row in rest % 256)
    head = e.chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + e.chunk(b"IDAT", zlib.compress(rows)) + e.chunk(b"IEND", b"")


def _split(data: bytes) -> bytes:
    at = data.index(b"IDAT") - 4
    body = data[at + 8 : at + 8 + int.from_bytes(data[at : at + 4], "big")]
    parts = b"".join(e.chunk(b"IDAT", body[k : k + 40]) for k in range(0, len(body), 40))
    return data[:at] + parts + e.chunk(b"IEND", b"")


def gif_frame(
    indices: Any,
    *,
    place: tuple[int, int] = (0, 0),
    colours: Any = None,
    transparent: int | None = None,
    interlaced: bool = False,
    bits: int = 8,
    disposal: int = 0,
) -> bytes:
    """A frame of a GIF, with a growing table of codes."""
    height, width = indices.shape
    rows = (
        [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]
        if interlaced
        else range(height)
    )
    values = indices[list(rows)].ravel().tolist()
    clear = 1 << bits
    size, text = bits + 1, []
    text.append(format(clear, f"0{size}b")[::-1])
    last = values[:1]
    names: dict[tuple[int, ...], int] = {(k,): k for k in range(clear)}
    count = clear + 2
    for value in values[1:]:
        if (*last, value) in names:
            last = [*last, value]
            continue
        text.append(format(names[tuple(last)], f"0{size}b")[::-1])
        if count < 4096:
            names[(*last, value)] = count
            count += 1
            if count - 1 == 1 << size and size < 12:
                size += 1
        last = [value]
    text.append(format(names[tuple(last)], f"0{size}b")[::-1])
    if count == 1 << size and size < 12:
        size += 1
    text.append(format(clear + 1, f"0{size}b")[::-1])
    stream = "".join(text)
    data = int(stream[::-1], 2).to_bytes((len(stream) + 7) // 8, "little")
    blocks = b"".join(bytes([len(part := data[at : at + 255])]) + part for at in range(0, len(data), 255))
    control = b""
    if transparent is not None or disposal:
        control = b"!\xf9\4" + bytes([disposal << 2 | (transparent is not None), 5, 0, transparent or 0, 0])
    flags = 0x40 * interlaced | (0 if colours is None else 0x80 | (len(colours).bit_length() - 2))
    table = b"" if colours is None else colours.astype(np.uint8).tobytes()
    return (
        control
        + b","
        + struct.pack("<HHHHB", place[1], place[0], width, height, flags)
        + table
        + bytes([bits])
        + blocks
        + b"\0"
    )


def gif(
    frames: Sequence[bytes],
    canvas: tuple[int, int],
    colours: Any = None,
    *,
    background: int = 0,
    version: bytes = b"89a",
    before: bytes = b"",
) -> bytes:
    """A GIF of frames on a canvas."""
    flags = 0x70 | (0 if colours is None else 0x80 | (len(colours).bit_length() - 2))
    table = b"" if colours is None else colours.astype(np.uint8).tobytes()
    return (
        b"GIF"
        + version
        + struct.pack("<HHBBB", canvas[1], canvas[0], flags, background, 0)
        + table
        + before
        + b"".join(frames)
        + b";"
    )


def gifs() -> Named:
    """GIF: palettes, transparency, frames that don't fill their canvas."""
    loop = b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0"
    comment = b"!\xfe\5hello\0"
    for bits, local, transparent, interlaced in itertools.product(
        (1, 2, 4, 8), (False, True), (None, 0, 1), (False, True)
    ):
        indices, colours = e.pixels(23, 33, 1, levels=1 << bits)[..., 0], e.palette(1 << bits, 3)
        frame = gif_frame(
            indices,
            bits=max(bits, 2),
            transparent=transparent,
            interlaced=interlaced,
            colours=colours if local else None,
        )
        table = None if local and bits % 2 else e.palette(16, 5) if local else colours
        yield (
            f"GIF {bits} bits local {local} transparent {transparent} interlaced {interlaced}",
            gif([frame], (23, 33), table),
        )
    indices, colours, other = e.pixels(23, 33, 1, levels=16)[..., 0], e.palette(16, 1), e.palette(16, 2)
    for canvas, place in (
        ((40, 50), (0, 0)),
        ((40, 50), (7, 9)),
        ((23, 50), (0, 3)),
        ((20, 30), (0, 0)),
        ((20, 60), (5, 40)),
        ((0, 0), (0, 0)),
    ):
        for transparent, local, background in itertools.product((None, 0, 5, 200), (False, True), (0, 3)):
            frame = gif_frame(indices, place=place, transparent=transparent, colours=other if local else None, bits=4)
            name = f"GIF canvas {canvas} place {place} transparent {transparent} local {local} background {background}"
            yield name, gif([frame], canvas, colours, background=background)
    grey = np.repeat(np.arange(16)[:, None], 3, 1)
    yield "GIF canvas of grey", gif([gif_frame(indices, place=(2, 2), bits=4)], (40, 50), grey)
    yield (
        "GIF canvas of grey, transparent",
        gif([gif_frame(indices, place=(2, 2), bits=4, transparent=7)], (40, 50), grey),
    )
    for frames, disposal in itertools.product((2, 5), (0, 1, 2, 3)):
        first = gif_frame(indices, bits=4, disposal=disposal, place=(3, 4))
        rest = [gif_frame((indices + k) % 16, bits=4, transparent=k, colours=other) for k in range(1, frames)]
        yield f"GIF {frames} frames, disposal {disposal}", gif([first, *rest], (30, 40), colours, before=loop)
    large = e.pixels(120, 150, 1)[..., 0]
    yield "GIF full table", gif([gif_frame(large)], (120, 150), e.palette(256))
    yield "GIF one pixel", gif([gif_frame(indices[:1, :1], bits=4)], (1, 1), colours)
    yield "GIF 87a", gif([gif_frame(indices, bits=4)], (23, 33), colours, version=b"87a")
    yield "GIF comments", gif([gif_frame(indices, bits=4)], (23, 33), colours, before=comment + loop + comment)
    control = b"!\xf9\4\1\0\0\2\0"
    yield "GIF two controls", gif([gif_frame(indices, bits=4, disposal=1)], (40, 40), colours, before=control + comment)
    yield (
        "GIF a control without a colour",
        gif([gif_frame(indices, bits=4)], (40, 40), colours, before=b"!\xf9\3\1\0\0\0"),
    )
    yield "GIF small palette, large codes", gif([gif_frame(indices % 4, bits=8)], (23, 33), colours[:4])


def bmp(
    image: Any,
    bits: int,
    *,
    header: int = 40,
    colours: Any = None,
    compression: int = 0,
    masks: Sequence[int] = (),
    top_down: bool = False,
    body: bytes | None = None,
    planes: int = 1,
    gap: int = 0,
    used: int | None = None,
) -> bytes:
    """A BMP as programs write them, old and new."""
    height, width = image.shape[:2]
    stored = image if top_down else image[::-1]
    if body is None:
        stride = (width * bits + 31) // 32 * 4
        if bits == 16:
            red, green, blue = (stored[..., k] >> 3 for k in range(3))
            lines = [row.astype("<u2").tobytes() for row in red << 10 | green << 5 | blue]
        elif bits > 16:
            lines = [row.astype(np.uint8).tobytes() for row in stored[..., [2, 1, 0, 3][: bits // 8]]]
        else:
            lines = [e._packed(row, bits) for row in stored]
        body = b"".join(line.ljust(stride, b"\0") for line in lines)
    entry = 3 if header == 12 else 4
    table = b"" if colours is None else b"".join(bytes(row[::-1].tolist()).ljust(entry, b"\0") for row in colours)
    extra = b"".join(struct.pack("<I", mask) for mask in masks)
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, planes, bits)
    else:
        count = used if used is not None else 0 if colours is None else len(colours)
        info = struct.pack(
            "<IiiHHIIiiII",
            header,
            width,
            -height if top_down else height,
            planes,
            bits,
            compression,
            len(body),
            2835,
            2835,
            count,
            0,
        )
        info = info[:header] if header < 40 else (info + (extra if header > 40 else b"")).ljust(header, b"\0")
    info += extra if header == 40 else b""
    offset = 14 + len(info) + len(table) + gap
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + info + table + bytes(max(gap, 0)) + body


def bmps() -> Named:
    """BMP: depths, headers, directions, compressions."""
    rgb, rgba = e.pixels(23, 33), e.pixels(23, 33, 4)
    for header, top_down, (height, width) in itertools.product(
        (40, 52, 56, 108, 124), (False, True), ((1, 1), (5, 6), (23, 33))
    ):
        yield (
            f"BMP 24 bits header {header} top-down {top_down} {height}x{width}",
            bmp(rgb[:height, :width], 24, header=header, top_down=top_down),
        )
        yield (
            f"BMP 32 bits header {header} top-down {top_down} {height}x{width}",
            bmp(rgba[:height, :width], 32, header=header, top_down=top_down),
        )
    for bits, top_down, part in itertools.product((1, 2, 4, 8), (False, True), (1.0, 0.6)):
        count = max(2, int((1 << bits) * part))
        image = e.pixels(23, 33, 1, levels=count)
        yield (
            f"BMP palette {bits} bits top-down {top_down} {part}",
            bmp(image, bits, colours=e.palette(count), top_down=top_down),
        )
    full = e.pixels(23, 33, 1)
    grey = np.repeat(np.arange(256)[:, None], 3, 1)
    yield "BMP palette of grey", bmp(full, 8, colours=grey)
    yield "BMP palette of two greys", bmp(e.pixels(23, 33, 1, levels=2), 1, colours=grey[::-255])
    yield "BMP palette, no count", bmp(full, 8, colours=e.palette(256), used=0)
    yield "BMP palette, a gap", bmp(full, 8, colours=e.palette(256), gap=10)
    yield "BMP palette, pixels in it", bmp(full, 8, colours=e.palette(256), gap=-40)
    yield "BMP palette and 24 bits", bmp(rgb, 24, colours=e.palette(16))
    yield "BMP gap", bmp(rgb, 24, gap=7)
    yield "BMP 16 bits", bmp(rgb, 16)
    yield "BMP no planes", bmp(rgb, 24, planes=0)
    for header in (40, 56, 108, 124):
        yield (
            f"BMP fields 16 bits header {header}",
            bmp(rgb, 16, header=header, compression=3, masks=(0x7C00, 0x3E0, 0x1F)),
        )
        yield (
            f"BMP fields 32 bits header {header}",
            bmp(rgba, 32, header=header, compression=3, masks=(0xFF0000, 0xFF00, 0xFF)),
        )
        yield (
            f"BMP odd fields 32 bits header {header}",
            bmp(rgba, 32, header=header, compression=3, masks=(0xFF000000, 0xFF0000, 0xFF00)),
        )
    for bits, count in ((1, 2), (4, 16), (8, 256)):
        yield f"BMP OS/2 {bits} bits", bmp(e.pixels(23, 33, 1, levels=count), bits, header=12, colours=e.palette(count))
    yield "BMP OS/2 24 bits", bmp(rgb, 24, header=12)
    for header in (16, 64):
        yield f"BMP OS/2 header {header}", bmp(rgb, 24, header=header)
    runs = b"".join(bytes([1, value]) for value in full[0, :, 0].tolist()) + b"\0\0"
    yield "BMP runs of 8 bits", bmp(full, 8, colours=e.palette(256), compression=1, body=runs * 23 + b"\0\1")
    yield "BMP runs of 4 bits", bmp(full, 4, colours=e.palette(16), compression=2, body=b"\x21\x12\0\0" * 23 + b"\0\1")
    yield "BMP a JPEG in it", bmp(full, 0, compression=4, body=oj.jpeg(full))


def webp(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A WebP of chunks."""
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webps() -> Named:
    """WebP: kept ones, the same among other chunks, animations, and Pillow's where there is one."""
    files = {
        name: e.kept(name)
        for name in ("lossy.webp", "lossless.webp", "alpha.webp", "alpha-lossless.webp", "animated.webp")
    }
    files |= dict(_pillows())
    turned = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    for name, data in files.items():
        yield f"WebP {name}", data
        if data[12:16] == b"VP8X":
            continue
        size = int.from_bytes(data[16:20], "little")
        picture = (data[12:16], data[20 : 20 + size])
        if data[12:16] == b"VP8L":
            packed = int.from_bytes(data[21:25], "little")
            sides = ((packed & 0x3FFF), (packed >> 14 & 0x3FFF))
        else:
            sides = tuple(value - 1 for value in struct.unpack_from("<HH", data, 26))
        place = b"".join(side.to_bytes(3, "little") for side in sides)
        larger = b"".join((side + 7).to_bytes(3, "little") for side in sides)
        still = (b"VP8X", bytes([0x3C, 0, 0, 0]) + place)
        exif, profile, notes = (b"EXIF", turned), (b"ICCP", bytes(120)), (b"XMP ", b"<x/>")
        yield f"WebP {name} with EXIF", webp([still, picture, exif])
        yield f"WebP {name} with JPEG's EXIF", webp([still, picture, (b"EXIF", b"Exif\0\0" + turned)])
        yield f"WebP {name} with all", webp([still, profile, picture, exif, notes])
        yield f"WebP {name} bytes behind it", data + data
        yield f"WebP {name} on a canvas", webp([(b"VP8X", bytes(4) + larger), picture])
        frame = picture[0] + struct.pack("<I", size) + picture[1] + b"\0" * (size % 2)
        shown = (b"ANMF", bytes(6) + place + bytes([100, 0, 0, 0]) + frame)
        start = [(b"VP8X", bytes([2, 0, 0, 0]) + larger), (b"ANIM", bytes(6))]
        yield f"WebP {name} animated", webp([*start, shown, shown])


def _pillows() -> Named:
    try:
        from PIL import Image, features
    except ImportError:
        return
    if not features.check("webp"):
        return
    for mode, lossless, (height, width) in itertools.product(("RGB", "RGBA"), (False, True), _SIZES):
        file = io.BytesIO()
        image = Image.fromarray(e.pixels(height, width, len(mode)).astype(np.uint8))
        image.save(file, "WEBP", lossless=lossless, quality=70, exact=True)
        yield f"made {mode} {lossless} {height}x{width}", file.getvalue()
