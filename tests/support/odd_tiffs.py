"""Odd TIFFs: byte orders, depths, colours, compressions, strips and tiles, planes, several images, BigTIFF."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import encoders as e
import numpy as np

_LETTERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


def tiff(
    image: Any,
    *,
    order: str = "<",
    bits: int = 8,
    colour: int | None = None,
    colours: Any = None,
    compression: int = 1,
    strips: int = 1,
    tile: int = 0,
    planes: bool = False,
    predictor: bool = False,
    big: bool = False,
    alpha: int | None = None,
    more: Mapping[int, Sequence[int]] | None = None,
    then: int = 0,
) -> bytes:
    """A TIFF of one image; `then` images follow it, each with the same pixels, darker."""
    height, width, channels = image.shape
    parts = [image[..., k : k + 1] for k in range(channels)] if planes else [image]
    rows = -(-height // strips)
    chunks = [_coded(part, order, bits, compression, rows, tile, predictor) for part in parts]
    data = [chunk for part in chunks for chunk in part]
    tags: dict[int, tuple[int, Sequence[int]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * channels),
        259: (3, [compression]),
        262: (3, [colour if colour is not None else 3 if colours is not None else 1 if channels < 3 else 2]),
        277: (3, [channels]),
        284: (3, [2 if planes else 1]),
    }
    if tile:
        tags |= {322: (4, [tile]), 323: (4, [tile]), 324: (4, [0] * len(data)), 325: (4, [len(one) for one in data])}
    else:
        tags |= {273: (4, [0] * len(data)), 278: (4, [rows]), 279: (4, [len(one) for one in data])}
    if predictor:
        tags[317] = (3, [2])
    if alpha is not None:
        tags[338] = (3, [alpha])
    if colours is not None:
        tags[320] = (3, (colours.T.ravel() * 257).tolist())
    tags |= {tag: (3, values) for tag, values in (more or {}).items()}
    start = 16 if big else 8
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    head += struct.pack(f"{order}HHQ", 8, 0, start) if big else struct.pack(f"{order}I", start)
    file = bytearray(head)
    for number in range(then + 1):
        last = number == then
        dark = [bytes(byte // (number + 1) for byte in one) for one in data] if compression == 1 else data
        file += _directory(tags, dark, order, big, len(file), last)
    return bytes(file)


def _directory(
    tags: Mapping[int, tuple[int, Sequence[int]]], data: Sequence[bytes], order: str, big: bool, at: int, last: bool
) -> bytes:
    offset, count = ("Q", "Q") if big else ("I", "H")
    field = 8 if big else 4
    size = struct.calcsize(f"<{count}") + len(tags) * (20 if big else 12) + field

    def packed(tag: int) -> bytes:
        kind, values = tags[tag]
        return struct.pack(f"{order}{len(values)}{_LETTERS[kind]}", *values)

    beyond = {tag: len(packed(tag)) for tag in sorted(tags) if len(packed(tag)) > field}
    first = at + size + sum(length + length % 2 for length in beyond.values())
    places = list(itertools.accumulate((len(one) + len(one) % 2 for one in data), initial=first))
    tags = {tag: (kind, places[:-1] if tag in (273, 324) else values) for tag, (kind, values) in tags.items()}
    entries, behind = struct.pack(f"{order}{count}", len(tags)), b""
    for tag in sorted(tags):
        value = packed(tag)
        entries += struct.pack(f"{order}HH{offset}", tag, tags[tag][0], len(tags[tag][1]))
        if len(value) > field:
            entries += struct.pack(f"{order}{offset}", at + size + len(behind))
            behind += value + b"\0" * (len(value) % 2)
        else:
            entries += value.ljust(field, b"\0")
    entries += struct.pack(f"{order}{offset}", 0 if last else places[-1])
    return entries + behind + b"".join(one + b"\0" * (len(one) % 2) for one in data)


def _coded(part: Any, order: str, bits: int, compression: int, rows: int, tile: int, predictor: bool) -> list[bytes]:
    height, width = part.shape[:2]
    if tile:
        padded = np.pad(part, ((0, -height % tile), (0, -width % tile), (0, 0)))
        pieces = [
            padded[top : top + tile, left : left + tile]
            for top in range(0, height, tile)
            for left in range(0, width, tile)
        ]
    else:
        pieces = [part[top : top + rows] for top in range(0, height, rows)]
    found = []
    for piece in pieces:
        if predictor:
            piece = np.diff(piece, axis=1, prepend=np.zeros_like(piece[:, :1])) % (1 << bits)
        if bits >= 8:
            lines = [row.astype(f"{order}u{bits // 8}").tobytes() for row in piece]
        else:
            lines = [e._packed(row, bits) for row in piece]
        found.append(_compressed(lines, compression))
    return found


def _compressed(lines: Sequence[bytes], compression: int) -> bytes:
    raw = b"".join(lines)
    if compression in (8, 32946):
        return zlib.compress(raw)
    if compression == 32773:
        runs = (line[at : at + 128] for line in lines for at in range(0, len(line), 128))
        return b"".join(bytes([len(run) - 1]) + run for run in runs)
    if compression == 5:  # cleared before its codes would grow
        codes = [code for at in range(0, len(raw), 200) for code in (256, *raw[at : at + 200])] + [257]
        text = "".join(format(code, "09b") for code in codes)
        text += "0" * (-len(text) % 8)
        return int(text, 2).to_bytes(len(text) // 8, "big")
    return raw


def tiffs() -> Iterator[tuple[str, bytes]]:
    """TIFF of every kind."""
    colours = e.palette(256)
    kinds: dict[str, tuple[int, dict[str, Any]]] = {
        "grey": (1, {}),
        "white is zero": (1, {"colour": 0}),
        "RGB": (3, {}),
        "palette": (1, {"colours": colours}),
        "RGBA": (4, {"alpha": 2}),
        "RGB and more": (4, {"alpha": 0}),
        "grey and alpha": (2, {"alpha": 1}),
        "CMYK": (4, {"colour": 5}),
        "YCbCr": (3, {"colour": 6}),
        "Lab": (3, {"colour": 8}),
    }
    for (name, (channels, options)), order in itertools.product(kinds.items(), "<>"):
        for compression in (1, 5, 8, 32946, 32773):
            data = tiff(e.pixels(23, 33, channels), order=order, compression=compression, **options)
            yield f"TIFF {name} {order} compression {compression}", data
        for layout, more in {
            "strips": {"strips": 5},
            "tiles": {"tile": 16},
            "planes": {"planes": True},
            "predictor": {"predictor": True, "compression": 8},
            "big": {"big": True},
        }.items():
            yield f"TIFF {name} {order} {layout}", tiff(e.pixels(23, 33, channels), order=order, **options, **more)
    for bits, order in itertools.product((1, 2, 4, 16, 32), "<>"):
        levels = 1 << min(bits, 16)
        yield f"TIFF grey of {bits} bits {order}", tiff(e.pixels(23, 33, 1, levels=levels), bits=bits, order=order)
        if bits < 8:
            few = e.pixels(23, 33, 1, levels=levels)
            yield f"TIFF palette of {bits} bits {order}", tiff(few, bits=bits, order=order, colours=e.palette(levels))
    for order in "<>":
        yield f"TIFF RGB of 16 bits {order}", tiff(e.pixels(23, 33, levels=65536), bits=16, order=order)
        yield f"TIFF several images {order}", tiff(e.pixels(23, 33), order=order, then=2)
        yield f"TIFF turned {order}", tiff(e.pixels(23, 33), order=order, more={274: [6]})
        yield f"TIFF floats {order}", tiff(e.pixels(23, 33, 1), order=order, bits=32, more={339: [3]})
        yield f"TIFF a JPEG {order}", tiff(e.pixels(23, 33), order=order, more={259: [7]})
        yield f"TIFF a fax {order}", tiff(e.pixels(23, 33, 1, levels=2), bits=1, order=order, more={259: [4]})
        yield f"TIFF low bit first {order}", tiff(e.pixels(23, 33), order=order, more={266: [2]})
    for height, width in ((1, 1), (1, 17), (50, 70)):
        yield f"TIFF RGB {height}x{width}", tiff(e.pixels(height, width))
    yield "TIFF bytes behind it", tiff(e.pixels(23, 33)) + b"behind it"
