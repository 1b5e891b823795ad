"""Headers: sizes as the decoder finds them, and a reason for every file that isn't read."""

from __future__ import annotations

import io
import struct
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenload.formats import FormatError, header, sniff

SEGMENT = b"\xff\xe0\x00\x04ab"
FRAME = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 60, 80, 1) + b"\x01\x11\x00"
WHOLE = b"\xff\xd8" + SEGMENT + FRAME + b"\xff\xd9"


def png(width: int = 80, height: int = 60, depth: int = 8) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", width, height, depth, 2, 0, 0, 0, 0)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}, {"subsampling": 2}])
def test_jpeg_sizes_are_the_decoders(bad_images: ModuleType, options: dict[str, Any]) -> None:
    image_module = pytest.importorskip("PIL.Image")
    for height, width in ((1, 1), (60, 80), (301, 7)):
        data = bad_images.jpeg(height, width, **options)
        found = header(data)
        assert (found.width, found.height) == image_module.open(io.BytesIO(data)).size
        assert (found.format, found.complete) == ("JPEG", True)
        assert not header(data[:-2]).complete
        assert not header(data + b"\0").complete


def test_fill_bytes_and_markers_without_a_segment_are_passed_over() -> None:
    for prefix in (b"", b"\xff\xff\xff", b"\xff\x01", b"\xff\xd0\xff\xd7"):
        found = header(b"\xff\xd8" + prefix + SEGMENT + FRAME + b"\xff\xd9")
        assert (found.height, found.width) == (60, 80)


def test_a_thumbnails_size_is_not_taken_for_the_images() -> None:
    exif = b"\xff\xd8" + b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 1, 2, 1) + b"\x01\x11\x00"
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert header(b"\xff\xd8" + segment + FRAME).height == 60


def test_tables_before_the_frame_are_passed_over() -> None:
    for marker in (b"\xff\xc4", b"\xff\xcc", b"\xff\xdb", b"\xff\xfe"):
        table = marker + struct.pack(">H", 19) + bytes([8, 0, 1, 0, 1] * 4)[:17]
        assert header(b"\xff\xd8" + table + FRAME).height == 60


def test_png_sizes() -> None:
    found = header(png(80, 60))
    assert (found.format, found.height, found.width, found.complete) == ("PNG", 60, 80, True)
    assert header(png(depth=1)).width == 80


REASONS = {
    b"": "the file is empty",
    b"hello world": "not an image: it begins with b'hello wo'",
    b"\xff\xd8": "not an image",
    b"GIF89a" + bytes(40): "GIF is not supported: convert it to JPEG or PNG",
    b"BM" + bytes(40): "BMP is not supported",
    b"II*\x00" + bytes(40): "TIFF is not supported",
    b"RIFF\x00\x00\x00\x00WEBPVP8 ": "WebP is not supported",
    b"\x00\x00\x00\x1cftypavif": "AVIF or HEIF is not supported",
    png(depth=16): "16-bit PNG is not supported: convert it to 8 bits a channel",
    png(width=0): "broken PNG: its header says 0×60 pixels",
    png()[:20]: "truncated PNG: its header is cut",
    b"\xff\xd8\xff": "truncated JPEG: its header is cut",
    WHOLE[:14]: "truncated JPEG: its header is cut",
    b"\xff\xd8\xff\xe0\x00\x04ab\x00\x00\x00\x00": "broken JPEG: no marker at byte 8",
    b"\xff\xd8\xff\xda\x00\x04abcdef": "its image data begins before its size is given",
    WHOLE.replace(b"\x08\x00<\x00P", b"\x0c\x00<\x00P"): "12-bit JPEG is not supported",
    WHOLE.replace(b"\x08\x00<\x00P", b"\x08\x00<\x00\x00"): "broken JPEG: its header says 0×60 pixels",
}


@pytest.mark.parametrize("data", REASONS, ids=list(REASONS.values()))
def test_every_refusal_has_its_reason(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        header(data)
    assert REASONS[data] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_formats_are_told_by_their_bytes_not_their_names(bad_images: ModuleType) -> None:
    cases = bad_images.build()
    assert sniff(cases["misnamed-png.jpg"].data) == "PNG"
    assert {name: sniff(cases[name].data) for name in ("image.gif", "image.bmp", "image.webp")} == {
        "image.gif": "GIF",
        "image.bmp": "BMP",
        "image.webp": "WebP",
    }


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", WHOLE[:12], png()[:14], b"\xff\xd8" + SEGMENT]))
@settings(max_examples=500, deadline=None)
def test_any_bytes_give_a_header_or_a_reason(data: bytes, prefix: bytes) -> None:
    try:
        found = header(prefix + data)
    except FormatError:
        return
    assert found.height > 0
    assert found.width > 0
