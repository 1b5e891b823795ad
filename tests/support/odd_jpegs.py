"""A JPEG writer for what no encoder's options reach: any sampling, scans in any order, partial ones, odd headers.

It is written from ITU-T T.81; its Huffman tables hold every symbol, so that any scan can use them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Pixels = np.ndarray[Any, Any]
Scan = tuple[tuple[int, ...], int, int, int, int]
"""Components, first and last coefficient, the bit before it (0 for none) and the bit that it ends at."""

_ZIGZAG = sorted(range(64), key=lambda n: (s := n // 8 + n % 8, n // 8 if s % 2 else n % 8))
_COSINES = np.array(
    [[(0.5 if k else 0.125**0.5) * np.cos((2 * n + 1) * k * np.pi / 16) for n in range(8)] for k in range(8)]
)
_STEPS = np.clip(np.add.outer(np.arange(8), np.arange(8)) * 4 + 3, 1, 255).reshape(64)
_DC_TABLE = bytes([0, 0, 0, 0, 16, *[0] * 11, *range(16)])  # 16 codes of 5 bits
_AC_TABLE = bytes([*[0] * 7, 128, 128, *[0] * 7, *range(256)])  # 128 codes of 8 bits and as many of 9


@dataclass
class _Component:
    identifier: int
    across: int
    down: int
    blocks: Pixels
    """Quantised coefficients in zigzag order, `[rows, columns, 64]`, as many as whole MCUs have."""
    rows: int
    columns: int
    """Blocks that the image covers."""


def interleaved(count: int) -> list[Scan]:
    """One scan of a sequential image."""
    return [(tuple(range(count)), 0, 63, 0, 0)]


def apart(count: int) -> list[Scan]:
    """A scan for each component of a sequential image."""
    return [((index,), 0, 63, 0, 0) for index in range(count)]


def progressive(count: int) -> list[Scan]:
    """Scans of a progressive image, by selection and by approximation."""
    everything, colours = tuple(range(count)), range(1, count)
    return [
        (everything, 0, 0, 0, 1),
        ((0,), 1, 5, 0, 2),
        *(((index,), 1, 63, 0, 1) for index in colours),
        ((0,), 6, 63, 0, 2),
        ((0,), 1, 63, 2, 1),
        (everything, 0, 0, 1, 0),
        *(((index,), 1, 63, 1, 0) for index in colours),
        ((0,), 1, 63, 1, 0),
    ]


def spectral(count: int) -> list[Scan]:
    """Scans of a progressive image, by selection alone."""
    return [
        (tuple(range(count)), 0, 0, 0, 0),
        *(((index,), first, last, 0, 0) for first, last in ((1, 3), (4, 63)) for index in range(count)),
    ]


def jpeg(
    planes: Pixels,
    *,
    sampling: Sequence[tuple[int, int]] = (),
    identifiers: Sequence[int] = (1, 2, 3, 4),
    frame: int = 0xC0,
    scans: Sequence[Scan] = (),
    restart: int = 0,
    adobe: int | None = None,
    jfif: bool = False,
    wide: bool = False,
    before: bytes = b"",
    fill: int = 0,
) -> bytes:
    """A JPEG.

    Args:
        planes: the components as they are stored, `[H, W, n]`, 0 … 255.
        sampling: across and down, of each component; 1 if not given.
        identifiers: of the components.
        frame: the marker of the frame header.
        scans: what is sent; one scan of everything if not given.
        restart: MCUs between restart markers.
        adobe: the transform of an Adobe segment; no such segment if not given.
        jfif: whether there is a JFIF segment.
        wide: quantisation tables of 16 bits, with large steps in them.
        before: segments in front of the tables.
        fill: fill bytes in front of each marker.
    """
    height, width, count = planes.shape
    steps = np.minimum(_STEPS * 40, 9000) if wide else _STEPS
    steps = np.where(np.arange(64) < 10, _STEPS, steps)
    sampling = sampling or [(1, 1)] * count
    components = _components(planes, sampling, identifiers, steps[_ZIGZAG])
    file = bytearray(b"\xff\xd8")

    def segment(marker: int, body: bytes) -> None:
        file.extend(b"\xff" * fill + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body)

    if jfif:
        segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
    if adobe is not None:
        segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([adobe]))
    file += before
    table = steps[_ZIGZAG]
    segment(0xDB, (b"\x10" + table.astype(">u2").tobytes()) if wide else b"\0" + table.astype(np.uint8).tobytes())
    described = b"".join(bytes([part.identifier, part.across << 4 | part.down, 0]) for part in components)
    segment(frame, struct.pack(">BHHB", 8, height, width, count) + described)
    segment(0xC4, b"\0" + _DC_TABLE)
    segment(0xC4, b"\x10" + _AC_TABLE)
    if restart:
        segment(0xDD, struct.pack(">H", restart))
    for scan in scans or interleaved(count):
        indices, first, last, high, low = scan
        chosen = b"".join(bytes([components[index].identifier, 0]) for index in indices)
        segment(0xDA, bytes([len(indices)]) + chosen + bytes([first, last, high << 4 | low]))
        file += _Entropy(components, scan, restart).data()
    return bytes(file) + b"\xff" * fill + b"\xff\xd9"


def coded(blocks: Pixels, steps: Pixels) -> bytes:
    """A grey JPEG of coefficients as they are in a file, `[rows, columns, 64]`, and steps `[64]`, in zigzag order."""
    rows, columns = blocks.shape[:2]
    component = _Component(1, 1, 1, blocks, rows, columns)
    segments = (
        (0xDB, b"\x10" + steps.astype(">u2").tobytes()),
        (0xC0, struct.pack(">BHHB", 8, 8 * rows, 8 * columns, 1) + b"\1\x11\0"),
        (0xC4, b"\0" + _DC_TABLE),
        (0xC4, b"\x10" + _AC_TABLE),
        (0xDD, b"\0\1"),  # each block's first coefficient is sent whole
        (0xDA, b"\1\1\0\0\x3f\0"),
    )
    file = b"".join(map(_segment, segments))
    return b"\xff\xd8" + file + _Entropy([component], ((0,), 0, 63, 0, 0), 1).data() + b"\xff\xd9"


def by_hand(
    height: int,
    width: int,
    codes: Sequence[Sequence[tuple[int, int]]],
    scans: Sequence[tuple[str, int, int, int, int]],
    frame: int = 0xC0,
) -> bytes:
    """A grey JPEG whose codes and bits are given as they are, right or wrong.

    Args:
        height: rows.
        width: columns.
        codes: for DC and for AC, each code's length and symbol, in the order of their lengths.
        scans: the bits of each as ``"0"`` and ``"1"``, filled up with ones; then as in `Scan`, without its components.
        frame: the marker of the frame header.
    """
    segments = [(0xDB, b"\0" + b"\1" * 64), (frame, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")]
    for kind, table in enumerate(codes):
        lengths = bytes(sum(length == wanted for length, _ in table) for wanted in range(1, 17))
        segments.append((0xC4, bytes([kind << 4]) + lengths + bytes(symbol for _, symbol in table)))
    file = b"\xff\xd8" + b"".join(map(_segment, segments))
    for bits, first, last, high, low in scans:
        whole = bits + "1" * (-len(bits) % 8)
        data = int(whole, 2).to_bytes(len(whole) // 8, "big").replace(b"\xff", b"\xff\0")
        file += _segment((0xDA, b"\1\1\0" + bytes([first, last, high << 4 | low]))) + data
    return file + b"\xff\xd9"


def _segment(one: tuple[int, bytes]) -> bytes:
    return bytes([0xFF, one[0]]) + struct.pack(">H", len(one[1]) + 2) + one[1]


def _components(
    planes: Pixels, sampling: Sequence[tuple[int, int]], identifiers: Sequence[int], steps: Pixels
) -> list[_Component]:
    height, width, count = planes.shape
    most_across, most_down = (max(pair[axis] for pair in sampling) for axis in (0, 1))
    found = []
    for index in range(count):
        across, down = sampling[index]
        columns, rows = -(-width * across // most_across), -(-height * down // most_down)
        plane = planes[np.arange(rows) * most_down // down % height][
            :, np.arange(columns) * most_across // across % width
        ]
        wide, tall = -(-width // (8 * most_across)) * across, -(-height // (8 * most_down)) * down
        padded = np.pad(plane[..., index], ((0, tall * 8 - rows), (0, wide * 8 - columns)), mode="edge") - 128.0
        blocks = padded.reshape(tall, 8, wide, 8).swapaxes(1, 2)
        spectrum = (_COSINES @ blocks @ _COSINES.T).reshape(tall, wide, 64)[..., _ZIGZAG]
        levels = np.rint(spectrum / steps).astype(int)
        found.append(_Component(identifiers[index], across, down, levels, -(-rows // 8), -(-columns // 8)))
    return found


class _Entropy:
    """Writes one scan's data."""

    def __init__(self, components: Sequence[_Component], scan: Scan, restart: int) -> None:
        self._components = [components[index] for index in scan[0]]
        self._first, self._last, self._high, self._low = scan[1:]
        self._restart = restart
        self._bits: list[str] = []
        self._out = bytearray()

    def data(self) -> bytes:
        last = [0] * len(self._components)
        for number, mcu in enumerate(self._mcus()):
            if self._restart and number and number % self._restart == 0:
                self._flush()
                self._out += bytes([0xFF, 0xD0 + (number // self._restart - 1) % 8])
                last = [0] * len(self._components)
            for index, block in mcu:
                last[index] = self._block(block, last[index])
        self._flush()
        return bytes(self._out)

    def _mcus(self) -> Iterator[list[tuple[int, list[int]]]]:
        if len(self._components) == 1:
            part = self._components[0]
            yield from ([(0, part.blocks[y, x].tolist())] for y in range(part.rows) for x in range(part.columns))
            return
        first = self._components[0]
        for top in range(first.blocks.shape[0] // first.down):
            for left in range(first.blocks.shape[1] // first.across):
                yield [
                    (index, part.blocks[top * part.down + y, left * part.across + x].tolist())
                    for index, part in enumerate(self._components)
                    for y in range(part.down)
                    for x in range(part.across)
                ]

    def _flush(self) -> None:
        text = "".join(self._bits)
        text += "1" * (-len(text) % 8)
        data = int(text or "0", 2).to_bytes(len(text) // 8, "big")
        self._out += data.replace(b"\xff", b"\xff\0")
        self._bits = []

    def _number(self, value: int, size: int) -> None:
        if size:
            self._bits.append(format(value if value > 0 else value + (1 << size) - 1, f"0{size}b"))

    def _symbol(self, symbol: int) -> None:
        self._bits.append(format(symbol, "08b") if symbol < 128 else format(symbol + 128, "09b"))

    def _block(self, block: list[int], last: int) -> int:
        dc = block[0] >> self._low
        if self._first == 0:
            if self._high:
                self._bits.append(str(dc & 1))
            else:
                size = abs(dc - last).bit_length()
                self._bits.append(format(size, "05b"))
                self._number(dc - last, size)
        if self._last:
            (self._refined if self._high else self._fresh)(block)
        return dc

    def _fresh(self, block: list[int]) -> None:
        run = 0
        for value in block[max(self._first, 1) : self._last + 1]:
            value = (abs(value) >> self._low) * (1 if value > 0 else -1)
            if not value:
                run += 1
                continue
            while run > 15:
                self._symbol(0xF0)
                run -= 16
            size = abs(value).bit_length()
            self._symbol(run << 4 | size)
            self._number(value, size)
            run = 0
        if run:
            self._symbol(0)

    def _refined(self, block: list[int]) -> None:
        levels = [abs(value) >> self._low for value in block]
        end = max((k for k in range(self._first, self._last + 1) if levels[k] == 1), default=0)
        run, later = 0, ""
        for k in range(self._first, self._last + 1):
            if not levels[k]:
                run += 1
                continue
            while run > 15 and k <= end:
                self._symbol(0xF0)
                self._bits.append(later)
                run, later = run - 16, ""
            if levels[k] > 1:
                later += str(levels[k] & 1)
                continue
            self._symbol(run << 4 | 1)
            self._bits.append(("1" if block[k] > 0 else "0") + later)
            run, later = 0, ""
        if run or later:
            self._symbol(0)
            self._bits.append(later)
