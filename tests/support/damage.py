"""Damaged image files from a seed: what disks, networks and people do to data sets, and what attackers would.

`damaged(seed, index)` is a pure function. Every kind of file in `whole()` meets every kind of damage in `KINDS`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import encoders as e
import numpy as np

Random = np.random.Generator


@cache
def whole() -> dict[str, bytes]:
    """Undamaged files by name, of every format and kind, those that no backend reads included."""
    kept = {path.name: path.read_bytes() for path in sorted(e.IMAGES.iterdir()) if path.suffix[1:] in _SUFFIXES}
    rgb, rgba, grey = e.pixels(40, 50), e.pixels(33, 41, 4), e.pixels(35, 47, 1)
    sixteen, colours = e.pixels(30, 37, 3, levels=65536), e.palette(256)
    made = {
        "exif.jpg": e.with_exif(kept["420.jpg"], 6),
        "rgb.png": e.png(rgb),
        "interlaced.png": e.png(rgb, interlaced=True),
        "grey.png": e.png(grey),
        "grey-1.png": e.png(e.pixels(40, 51, 1, levels=2), 1),
        "grey-alpha.png": e.png(e.pixels(30, 40, 2)),
        "rgba.png": e.png(rgba),
        "palette.png": e.png(e.pixels(40, 50, 1), colours=colours),
        "palette-4-alpha.png": e.png(e.pixels(40, 51, 1, levels=16), 4, colours=colours[:16], alpha=bytes(range(16))),
        "rgb-16.png": e.png(sixteen, 16),
        "grey-16.png": e.png(sixteen[..., :1], 16),
        "rgb.bmp": e.bmp(rgb[:, :47]),
        "top-down.bmp": e.bmp(rgb, top_down=True),
        "rgba.bmp": e.bmp(rgba, 32, header=124),
        "palette.bmp": e.bmp(grey, 8, colours=colours),
        "made.gif": e.gif(e.pixels(30, 40, 1), colours),
        "rgb.tif": e.tiff(rgb),
        "deflate.tif": e.tiff(rgb, compression=8, strips=4, order=">"),
        "palette.tif": e.tiff(grey, colours=colours, compression=32773),
    }
    return kept | made


_SUFFIXES = ("jpg", "gif", "webp")


@dataclass(frozen=True)
class Damaged:
    """One damaged file."""

    name: str
    """The whole file it was made of."""
    damage: str
    """What was done, a key of `KINDS`."""
    data: bytes


def damaged(seed: int, index: int) -> Damaged:
    """The file of an index; the same at any number of files."""
    random = np.random.default_rng([seed, index])
    names = sorted(whole())
    kind = list(KINDS)[index % len(KINDS)]
    # JPEGs are what people have: half of all.
    jpegs = [name for name in names if name.endswith(".jpg")]
    name = str(random.choice(jpegs if random.random() < 0.5 else names))
    return Damaged(name, kind, KINDS[kind](whole()[name], random))


def _other(random: Random) -> bytes:
    return whole()[str(random.choice(sorted(whole())))]


def _at(data: bytes, random: Random) -> int:
    """A place: half of the time anywhere, half among the first 200 bytes, where headers are."""
    return int(random.integers(len(data) if random.random() < 0.5 else min(len(data), 200)))


def _noise(random: Random, most: int) -> bytes:
    return random.bytes(int(random.integers(1, most + 1)))


def _flip(data: bytes, random: Random, count: int) -> bytes:
    changed = bytearray(data)
    for _ in range(count):
        changed[_at(data, random)] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _overwrite(data: bytes, random: Random, patch: bytes) -> bytes:
    at = _at(data, random)
    return (data[:at] + patch + data[at + len(patch) :])[: len(data)]


def _remove(data: bytes, random: Random) -> bytes:
    at = _at(data, random)
    return data[:at] + data[at + int(random.integers(1, 65)) :]


def _insert(data: bytes, random: Random) -> bytes:
    at = _at(data, random)
    return data[:at] + _noise(random, 64) + data[at:]


def _repeat(data: bytes, random: Random) -> bytes:
    at, size = _at(data, random), int(random.integers(1, 257))
    return data[: at + size] + data[at:]


def _graft(data: bytes, random: Random) -> bytes:
    other = _other(random)
    return data[: int(random.integers(1, len(data)))] + other[int(random.integers(len(other))) :]


def _swap_header(data: bytes, random: Random) -> bytes:
    size = int(random.choice([4, 8, 12, 16, 33, 64]))
    return _other(random)[:size] + data[size:]


def _wrong_type(data: bytes, random: Random) -> bytes:
    start = data[: int(random.choice([0, 3, 8, 16]))]
    filler = [b"<!DOCTYPE html><title>404 Not Found</title>\n" * 20, bytes(600), random.bytes(600), b"{}\n"]
    return start + filler[int(random.integers(len(filler)))]


def _lie(data: bytes, random: Random) -> bytes:
    """Other sizes where the formats keep them, plausible and absurd; PNG's checksum made to fit."""
    width, height = (int(random.choice([0, 1, 7, 63, 300, 5000, 65535])) for _ in range(2))
    try:
        if data.startswith(b"\xff\xd8"):
            return e.with_jpeg_size(data, height, width)
        if data.startswith(b"\x89PNG"):
            return data[:8] + e.chunk(b"IHDR", struct.pack(">II", width, height) + data[24:29]) + data[33:]
        if data.startswith(b"BM"):
            return data[:18] + struct.pack("<ii", width, height) + data[26:]
        if data.startswith(b"GIF"):
            at = 13 + 768 if data[10] & 7 == 7 else 13 + (3 << ((data[10] & 7) + 1))
            return data[: at + 5] + struct.pack("<HH", width, height) + data[at + 9 :]
    except StopIteration:
        pass
    return _flip(data, random, 3)


KINDS: dict[str, Callable[[bytes, Random], bytes]] = {
    "one bit flipped": lambda data, random: _flip(data, random, 1),
    "bits flipped": lambda data, random: _flip(data, random, int(random.integers(2, 51))),
    "noise over it": lambda data, random: _overwrite(data, random, _noise(random, 512)),
    "zeros over it": lambda data, random: _overwrite(data, random, bytes(int(random.integers(1, 513)))),
    "zeros to the end": lambda data, random: data[: (at := _at(data, random))] + bytes(len(data) - at),
    "cut": lambda data, random: data[: _at(data, random)],
    "last bytes cut": lambda data, random: data[: -int(random.integers(1, 65))],
    "part removed": _remove,
    "part inserted": _insert,
    "part repeated": _repeat,
    "noise behind it": lambda data, random: data + _noise(random, 2000),
    "another behind it": lambda data, random: data + _other(random),
    "grafted": _graft,
    "header of another": _swap_header,
    "wrong type": _wrong_type,
    "sizes that lie": _lie,
}
"""What is done to a file, by name."""


def describe(value: Any) -> str:
    """A damaged file's name in a table or a test's id."""
    return f"{value.name}: {value.damage}"
