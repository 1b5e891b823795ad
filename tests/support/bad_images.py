"""Image files that a loader must read right or refuse by name: broken, misnamed, and unusual ones.

Tests get this module through the fixture `bad_images`, and `import bad_images` works too.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import encoders as e
import numpy as np

Kind = Literal["jpeg", "broken", "other"]
SIDE = (60, 80)
"""Height and width of every image here that does not say otherwise."""


@dataclass(frozen=True)
class Case:
    """One file."""

    name: str
    """File name, with its extension."""
    kind: Kind
    """`jpeg`: a whole JPEG; `broken`: no decoder may accept it; `other`: a whole image of another format."""
    data: bytes

    def write(self, folder: Path) -> Path:
        """Writes the file into a folder, made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.name
        path.write_bytes(self.data)
        return path


BROKEN = (
    "truncated-early.jpg",
    "truncated-half.jpg",
    "truncated-late.jpg",
    "truncated-last-2-bytes.jpg",
    "truncated-header.jpg",
    "truncated-progressive.jpg",
    "empty.jpg",
    "text.jpg",
    "broken-huffman-table.jpg",
    "truncated.png",
)
"""No decoder may accept these."""

UNUSUAL = ("grey.jpg", "cmyk.jpg", "progressive.jpg", "exif-rotated.jpg", "one-pixel.jpg", "trailing-garbage.jpg")
"""Whole JPEGs that go wrong in careless code."""

OTHER = (
    "misnamed-png.jpg",
    "plain.png",
    "16-bit.png",
    "16-bit-grey.png",
    "palette.png",
    "alpha.png",
    "image.gif",
    "image.bmp",
    "image.webp",
    "image.tif",
)
"""Whole images of other formats; which of them are read is the decoder's to say."""


def make_all(folder: Path) -> dict[str, Path]:
    """Writes every case into a folder and gives the paths by name."""
    return {name: case.write(folder) for name, case in build().items()}


def make_photos(folder: Path, count: int) -> list[Path]:
    """Writes JPEGs of sizes that differ; some lie on their side, one is grey, one progressive."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{k}.jpg" for k in range(count)]
    for k, path in enumerate(paths):
        options = {"mode": "L"} if k == 3 else {"subsampling": k % 3, "progressive": k == 5}
        data = jpeg(40 + 3 * k, 75 - 2 * k, seed=k, **options)
        path.write_bytes(e.with_exif(data, 1 + k % 8) if k % 2 else data)
    return paths


def pixels(height: int = SIDE[0], width: int = SIDE[1], seed: int = 0) -> np.ndarray[Any, Any]:
    """A smooth gradient with noise, H x W x 3 uint8: it compresses as a photograph does."""
    rows, columns = np.mgrid[:height, :width]
    planes = [rows * 255 // max(height - 1, 1), columns * 255 // max(width - 1, 1), (rows + columns) % 256]
    noise = np.random.default_rng(seed).integers(-20, 20, (height, width, 3))
    return np.clip(np.stack(planes, -1) + noise, 0, 255).astype(np.uint8)


def jpeg(height: int = SIDE[0], width: int = SIDE[1], *, mode: str = "RGB", seed: int = 0, **options: Any) -> bytes:
    """A whole JPEG; options are Pillow's."""
    return _save(pixels(height, width, seed), "JPEG", mode, **{"quality": 90, **options})


def build() -> dict[str, Case]:
    """Every case by name. Needs Pillow."""
    whole = jpeg()
    scan = _segment(whole, 0xDA)
    progressive = jpeg(progressive=True)
    png = _save(pixels(), "PNG")
    sixteen = np.tile(np.arange(SIDE[1], dtype=np.uint16) * 800, (SIDE[0], 1))
    broken = {
        "truncated-early.jpg": whole[: scan + 40],
        "truncated-half.jpg": whole[: (scan + len(whole)) // 2],
        "truncated-late.jpg": whole[:-40],
        "truncated-last-2-bytes.jpg": whole[:-2],
        "truncated-header.jpg": whole[: scan - 30],
        "truncated-progressive.jpg": progressive[: len(progressive) // 2],
        "empty.jpg": b"",
        "text.jpg": b"This is not a photograph, whatever its name says.\n" * 8,
        "broken-huffman-table.jpg": _break_huffman_table(whole),
        "truncated.png": png[: len(png) // 2],
    }
    unusual = {
        "grey.jpg": jpeg(mode="L"),
        "cmyk.jpg": jpeg(mode="CMYK"),
        "progressive.jpg": progressive,
        "exif-rotated.jpg": jpeg(exif=_rotated()),
        "one-pixel.jpg": jpeg(1, 1),
        "trailing-garbage.jpg": whole + b"left behind by a camera" * 3,
    }
    other = {
        "misnamed-png.jpg": png,
        "plain.png": png,
        "16-bit.png": _png_16_bit(np.stack([sixteen] * 3, -1)),
        "16-bit-grey.png": _png_16_bit(sixteen[..., None]),
        "palette.png": _save(pixels(), "PNG", "P"),
        "alpha.png": _save(pixels(), "PNG", "RGBA"),
        "image.gif": _save(pixels(), "GIF", "P"),
        "image.bmp": _save(pixels(), "BMP"),
        "image.webp": _save(pixels(), "WEBP"),
        "image.tif": _save(pixels(), "TIFF"),
    }
    kinds: list[tuple[Kind, dict[str, bytes]]] = [("broken", broken), ("jpeg", unusual), ("other", other)]
    return {name: Case(name, kind, data) for kind, cases in kinds for name, data in cases.items()}


def _save(array: np.ndarray[Any, Any], format: str, mode: str = "RGB", **options: Any) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(array).convert(mode).save(file, format, **options)
    return file.getvalue()


def _rotated() -> bytes:
    """EXIF that asks viewers to turn the image by a quarter."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def _png_16_bit(array: np.ndarray[Any, Any]) -> bytes:
    """A 16-bit PNG, H x W x 1 or 3, written by hand: Pillow has no 16-bit RGB."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = array.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _segment(data: bytes, marker: int) -> int:
    """Where a JPEG's first segment with this marker starts."""
    position = 2
    while data[position + 1] != marker:
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return position


def _break_huffman_table(data: bytes) -> bytes:
    """More codes of each length than there can be: decoders refuse the table itself."""
    counts = _segment(data, 0xC4) + 5
    return data[:counts] + b"\xff" * 16 + data[counts + 16 :]
