"""Image files of every kind, without an image library: written by hand, or kept in the folder `images` beside this.

Only what a test asks for is unusual; the rest is as plain as the format allows.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Pixels = np.ndarray[Any, Any]
IMAGES = Path(__file__).parent / "images"
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}

UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}
"""What makes a stored image upright, by its EXIF orientation (CIPA DC-008, tag 274)."""


def kept(name: str) -> bytes:
    """A file of the folder `images`."""
    return (IMAGES / name).read_bytes()


def pixels(height: int, width: int, channels: int = 3, seed: int = 0, levels: int = 256) -> Pixels:
    """A gradient with noise, `[height, width, channels]`, 0 … levels − 1, int64."""
    rows, columns = np.mgrid[:height, :width]
    planes = [rows / height, columns / width, (rows + columns) % 37 / 37, (rows * columns) % 7 / 7]
    noise = np.random.default_rng(seed).uniform(-0.05, 0.05, (height, width, channels))
    return np.clip((np.stack(planes[:channels], -1) + noise) * levels, 0, levels - 1).astype(np.int64)


def palette(colours: int, seed: int = 0) -> Pixels:
    """Random colours, `[colours, 3]`."""
    return np.random.default_rng(seed).integers(0, 256, (colours, 3))


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    image: Pixels,
    depth: int = 8,
    *,
    colours: Pixels | None = None,
    alpha: bytes | None = None,
    interlaced: bool = False,
    before: bytes = b"",
) -> bytes:
    """A PNG of `[H, W, 1 … 4]`, or of a palette's indices; `alpha` is a tRNS chunk, `before` comes before the data."""
    height, width, channels = image.shape

    def rows(part: Pixels) -> bytes:
        return b"".join(b"\0" + _packed(row, depth) for row in part)

    parts = [image[top::down, left::right] for left, top, right, down in _ADAM7] if interlaced else [image]
    body = b"".join(rows(part) for part in parts if part.size)
    colour = _COLOURS[channels] if colours is None else 3
    data = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    )
    data += before
    data += b"" if colours is None else chunk(b"PLTE", colours.astype(np.uint8).tobytes())
    data += b"" if alpha is None else chunk(b"tRNS", alpha)
    return data + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def _packed(row: Pixels, depth: int) -> bytes:
    if depth >= 8:
        return row.astype(">u2" if depth == 16 else np.uint8).tobytes()
    bits = (row.reshape(-1, 1) >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8).ravel()).tobytes()


def bmp(
    image: Pixels, bits: int = 24, *, colours: Pixels | None = None, top_down: bool = False, header: int = 40
) -> bytes:
    """A BMP of RGB, RGBA, or a palette's indices."""
    height, width, channels = image.shape
    stored = image if top_down else image[::-1]
    if channels > 1:
        stored = stored[..., [2, 1, 0, 3][:channels]]
    stride = (width * bits + 31) // 32 * 4
    body = b"".join(_packed(row, min(bits, 8)).ljust(stride, b"\0") for row in stored)
    table = b"" if colours is None else np.pad(colours[:, ::-1], ((0, 0), (0, 1))).astype(np.uint8).tobytes()
    offset = 14 + header + len(table)
    size = -height if top_down else height
    used = 0 if colours is None else len(colours)
    info = struct.pack("<IiiHHIIiiII", header, width, size, 1, bits, 0, len(body), 2835, 2835, used, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + info.ljust(header, b"\0") + table + body


def gif(
    indices: Pixels, colours: Pixels, *, place: tuple[int, int] = (0, 0), canvas: tuple[int, int] = (0, 0)
) -> bytes:
    """A GIF of one frame of 256 colours, whose LZW table is cleared before it would grow a code's length."""
    height, width = indices.shape[:2]
    codes: list[int] = []
    for start in range(0, indices.size, 200):
        codes += [256, *indices.ravel()[start : start + 200].tolist()]
    bits = "".join(format(code, "09b")[::-1] for code in [*codes, 257])
    data = int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")
    blocks = b"".join(bytes([len(data[at : at + 255])]) + data[at : at + 255] for at in range(0, len(data), 255))
    rows, columns = (max(side, least) for side, least in zip(canvas, (height, width), strict=True))
    screen = b"GIF89a" + struct.pack("<HHBBB", columns, rows, 0xF7, 0, 0) + colours.astype(np.uint8).tobytes()
    frame = b"," + struct.pack("<HHHHB", place[1], place[0], width, height, 0)
    return screen + frame + b"\x08" + blocks + b"\0;"


def tiff(
    image: Pixels,
    *,
    colours: Pixels | None = None,
    order: str = "<",
    compression: int = 1,
    bits: int = 8,
    strips: int = 1,
    extra: Mapping[int, Sequence[int]] | None = None,
) -> bytes:
    """A TIFF of grey, RGB or a palette's indices; compression 1 (none), 5 (LZW), 8 (deflate) or 32773 (PackBits)."""
    height, width, channels = image.shape
    photometric = 3 if colours is not None else {1: 1}.get(channels, 2)
    per_strip = -(-height // strips)
    parts = [
        _compressed(image[top : top + per_strip].astype(f"{order}u{bits // 8}"), compression)
        for top in range(0, height, per_strip)
    ]
    tags: dict[int, Sequence[int]] = {
        256: [width],
        257: [height],
        258: [bits] * channels,
        259: [compression],
        262: [photometric],
        273: [0] * len(parts),
        277: [channels],
        278: [per_strip],
        279: [len(part) for part in parts],
    }
    if colours is not None:
        tags[320] = (colours.T.ravel() * 257).tolist()
    tags |= dict(extra or {})
    longs = (256, 257, 273, 278, 279)
    directory = 8 + 2 + 12 * len(tags) + 4
    sizes = {tag: len(values) * (4 if tag in longs else 2) for tag, values in tags.items()}
    first = directory + sum(size for size in sizes.values() if size > 4)
    tags[273] = [first + sum(map(len, parts[:k])) for k in range(len(parts))]
    entries, values_after = b"", b""
    for tag, values in sorted(tags.items()):
        letter = "I" if tag in longs else "H"
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        field = packed.ljust(4, b"\0")
        if len(packed) > 4:
            field = struct.pack(f"{order}I", directory + len(values_after))
            values_after += packed
        entries += struct.pack(f"{order}HHI", tag, 4 if letter == "I" else 3, len(values)) + field
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return start + entries + bytes(4) + values_after + b"".join(parts)


def _compressed(rows: Pixels, compression: int) -> bytes:
    if compression == 8:
        return zlib.compress(rows.tobytes())
    if compression == 5:
        return lzw(rows.tobytes())
    if compression == 32773:  # literal runs only, none longer than a row
        runs = (line.tobytes()[at : at + 128] for line in rows for at in range(0, line.nbytes, 128))
        return b"".join(bytes([len(run) - 1]) + run for run in runs)
    return rows.tobytes()


def lzw(data: bytes) -> bytes:
    """As TIFF has it, with a table that is cleared once it is full."""
    bits, table, run = [format(256, "09b")], {}, b""

    def put(code: int) -> None:
        bits.append(format(code, f"0{min(12, max(9, (len(table) + 258).bit_length()))}b"))

    def code_of(run: bytes) -> int:
        return run[0] if len(run) == 1 else table[run]

    for value in data:
        longer = run + bytes([value])
        if len(longer) == 1 or longer in table:
            run = longer
            continue
        put(code_of(run))
        table[longer] = 258 + len(table)
        if len(table) == 4095 - 258:
            put(256)
            table.clear()
        run = longer[-1:]
    put(code_of(run))
    table[b""] = 0  # the decoder's table grows with every code
    put(257)
    text = "".join(bits)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


def with_exif(jpeg: bytes, orientation: int, order: str = "<", *, entries: int = 3, app0: bool = True) -> bytes:
    """A JPEG with an EXIF segment that holds an orientation, among some entries."""
    mark = b"II" if order == "<" else b"MM"
    rows = [struct.pack(f"{order}HHII", 0x0100 + k, 4, 1, k) for k in range(entries - 1)]
    rows.append(struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0))
    block = mark + struct.pack(f"{order}HIH", 42, 8, len(rows)) + b"".join(rows) + bytes(4)
    return with_exif_block(jpeg, b"Exif\0\0" + block, app0=app0)


def with_exif_block(jpeg: bytes, block: bytes, *, app0: bool = True) -> bytes:
    """A JPEG with an APP1 segment, behind its APP0 segment or before it."""
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    at = 2 + (2 + int.from_bytes(jpeg[4:6], "big") if app0 and jpeg[2:4] == b"\xff\xe0" else 0)
    return jpeg[:at] + segment + jpeg[at:]


def with_jpeg_size(jpeg: bytes, height: int, width: int, *, precision: int = 8, frame: int | None = None) -> bytes:
    """A JPEG whose frame header says something else."""
    at = next(i for i in range(2, len(jpeg)) if jpeg[i] == 0xFF and jpeg[i + 1] in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
    marker = jpeg[at + 1] if frame is None else frame
    return (
        jpeg[: at + 1]
        + bytes([marker])
        + jpeg[at + 2 : at + 4]
        + struct.pack(">BHH", precision, height, width)
        + jpeg[at + 9 :]
    )
