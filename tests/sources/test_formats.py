"""Headers: sizes as the decoder finds them, and a reason for every file that isn't read."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import encoders as e
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenload.backends.tables import TABLES, reading, support
from greenload.sources import formats
from greenload.sources.formats import KINDS, FormatError, header, orientation, plain, sniff, verify

SEGMENT = b"\xff\xe0\x00\x04ab"
FRAME = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 60, 80, 1) + b"\x01\x11\x00"
SCAN = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x00\x3f\x00"
END = SCAN + b"data\xff\x00\xff\xd3data\xff\xd9"
WHOLE = b"\xff\xd8" + SEGMENT + FRAME + END
PROGRESSIVE = b"\xff\xd8" + FRAME.replace(b"\xc0", b"\xc2") + b"\xff\xda"


def png(width: int = 80, height: int = 60, depth: int = 8, colour: int = 2) -> bytes:
    size = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + e.chunk(b"IHDR", size) + e.chunk(b"IDAT", zlib.compress(b"")) + e.chunk(b"IEND", b"")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}, {"subsampling": 2}])
def test_jpeg_sizes_are_the_decoders(bad_images: ModuleType, options: dict[str, Any]) -> None:
    image_module = pytest.importorskip("PIL.Image")
    for height, width in ((1, 1), (60, 80), (301, 7)):
        data = bad_images.jpeg(height, width, **options)
        found = header(data)
        assert (found.width, found.height) == image_module.open(io.BytesIO(data)).size
        assert (found.format, found.kind, found.exif) == ("JPEG", "JPEG", None)
        assert header(data + b"left behind by a camera") == found
        with pytest.raises(FormatError, match="truncated JPEG: it ends before its end marker"):
            header(data[:-2])


def test_fill_bytes_are_passed_over() -> None:
    for prefix in (b"", b"\xff", b"\xff\xff\xff"):
        found = header(b"\xff\xd8" + prefix + SEGMENT + prefix + FRAME + SCAN + b"data" + prefix + b"\xff\xd9")
        assert (found.height, found.width) == (60, 80)


def test_a_thumbnails_size_is_not_taken_for_the_images() -> None:
    exif = b"\xff\xd8" + b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 1, 2, 1) + b"\x01\x11\x00"
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert header(b"\xff\xd8" + segment + FRAME + END).height == 60


def test_tables_before_the_frame_are_passed_over() -> None:
    for marker in (b"\xff\xc4", b"\xff\xcc", b"\xff\xdb", b"\xff\xfe"):
        table = marker + struct.pack(">H", 19) + bytes([8, 0, 1, 0, 1] * 4)[:17]
        assert header(b"\xff\xd8" + table + FRAME + END).height == 60


def test_png_sizes() -> None:
    found = header(png(80, 60))
    assert (found.format, found.height, found.width, found.kind) == ("PNG", 60, 80, "PNG")
    assert header(png(depth=1, colour=0)).width == 80
    assert header(png(depth=16)).kind == "16-bit PNG"


BMP = e.bmp(e.pixels(5, 7))
GIF = e.gif(e.pixels(5, 7, 1), e.palette(256))
TIFF = e.tiff(e.pixels(5, 7))
WEBP = e.kept("lossy.webp")
PALETTE_BMP = e.bmp(e.pixels(5, 7, 1), 8, colours=e.palette(256))
LARGE = "is too large: at most 178,956,970 are decoded"


def patched(data: bytes, at: int, patch: bytes) -> bytes:
    return data[:at] + patch + data[at + len(patch) :]


def extended(chunks: bytes, canvas: tuple[int, int] = (45, 63)) -> bytes:
    """A WebP of an extended header, and chunks."""
    sides = b"".join((side - 1).to_bytes(3, "little") for side in canvas[::-1])
    body = b"WEBPVP8X" + struct.pack("<II", 10, 0) + sides + chunks
    return b"RIFF" + struct.pack("<I", len(body)) + body


REASONS = {
    b"": "the file is empty",
    b"hello world": "not an image: it begins with b'hello wo'",
    b"\xff\xd8": "not an image",
    b"GIF88a" + bytes(40): "not an image",
    b"\x00\x00\x00\x1cftypavif": "AVIF is not supported: convert it to JPEG or PNG",
    b"\x00\x00\x00\x18ftypheic\0\0\0\0mif1heic": "HEIC is not supported: convert it to JPEG or PNG",
    b"\x00\x00\x00\x1cftypmif1\0\0\0\0mif1isomheic": "HEIC is not supported",
    b"\x00\x00\x00\x1cftypmif1\0\0\0\0mif1miafavif": "AVIF is not supported",
    b"\x00\x00\x00\x14ftypmsf1\0\0\0\0mif1avif": "AVIF or HEIF is not supported",  # what lies behind the brands
    b"\x00\x00\x00\x18ftypmp42\0\0\0\0isommp42": "video is not supported",
    b"P6\n2 2\n255\n" + bytes(12): "PNM is not supported: convert it to JPEG or PNG",
    b"\x00\x00\x00\x0cJXL \r\n": "JPEG XL is not supported",
    png(width=0): "broken PNG: its header says 0×60 pixels",
    png(width=100_000, height=100_000): LARGE,
    png(depth=3): "broken PNG: its header says 3 bits of colour type 2",
    png()[:20]: "truncated PNG: its header is cut",
    png()[:-1]: "truncated PNG: it ends before its end chunk",
    png()[:-12]: "truncated PNG: it ends before its end chunk",
    patched(png(), 43, b"x"): "broken PNG: the checksum of its IDAT chunk doesn't hold",
    png()[:33] + e.chunk(b"ABCD", b"") + png()[33:]: "broken PNG: unknown chunk b'ABCD'",
    png()[:33] + e.chunk(b"zTXt", b"a\0\0") * 65 + png()[33:]: "PNG with more than 64 compressed texts",
    png()[:33] + e.chunk(b"tEXt", b"") * 5000 + png()[33:]: "broken PNG: more than 4,565 chunks in 60,065 bytes",
    b"\xff\xd8\xff": "truncated JPEG: it ends before its size is given",
    WHOLE[:14]: "truncated JPEG: it ends before its size is given",
    WHOLE[:-2]: "truncated JPEG: it ends before its end marker",
    b"\xff\xd8\xff\xe0\x00\x04ab\x00\x00\x00\x00": "broken JPEG: no marker at byte 8",
    b"\xff\xd8\xff\xda\x00\x04abcdef": "its image data begins before its size is given",
    b"\xff\xd8\xff\xd0" + WHOLE[2:]: "broken JPEG: marker D0 out of place at byte 2",
    b"\xff\xd8" + FRAME + FRAME + END: "broken JPEG: a second frame at byte 15",
    WHOLE[:-2] + SCAN + b"\xff\xd9": "broken JPEG: another scan",
    WHOLE[:-2] + b"\xff\x02" + b"\xff\xd9": "broken JPEG: marker 02 out of place",
    b"\xff\xd8" + FRAME.replace(b"\xc0", b"\xc2") + SCAN * 101 + b"\xff\xd9": "broken JPEG: another scan",
    PROGRESSIVE + b"\0\2\xff\xd8\0\2": "broken JPEG: marker D8 out of place",
    WHOLE.replace(b"\x08\x00<\x00P", b"\x0c\x00<\x00P"): "12-bit JPEG is not supported",
    WHOLE.replace(b"\x08\x00<\x00P", b"\x08\x00<\x00\x00"): "broken JPEG: its header says 0×60 pixels",
    WHOLE.replace(b"\x00P\x01", b"\x00P\x02"): "JPEG of 2 components is not supported",
    WHOLE.replace(b"\xff\xc0", b"\xff\xc3"): "lossless JPEG is not supported",
    WHOLE.replace(b"\xff\xc0", b"\xff\xc5"): "hierarchical JPEG is not supported",
    e.with_jpeg_size(e.kept("420.jpg"), 65535, 65535): LARGE,
    BMP[:-1]: "truncated BMP: 173 bytes, but its header promises 174",
    BMP[:40]: "truncated BMP: its header is cut",
    patched(BMP, 28, b"\x10"): "16-bit BMP is not supported",
    patched(BMP, 30, b"\x03"): "bit-field BMP is not supported: convert it to PNG",
    patched(PALETTE_BMP, 30, b"\x01"): "run-length encoded BMP is not supported: convert it to PNG",
    patched(BMP, 30, b"\x09"): "BMP of compression 9 is not supported: convert it to PNG",
    patched(BMP, 14, b"\x0c"): "OS/2 BMP, with a header of 12 bytes, is not supported: convert it to PNG",
    b"BM" + struct.pack("<IHHIIHHHH", 30, 0, 0, 26, 12, 1, 1, 1, 24) + bytes(4): "OS/2 BMP, with a header of 12 bytes",
    patched(BMP, 14, b"\x0d"): "BMP with a header of 13 bytes is not supported",
    patched(BMP, 26, b"\0"): "broken BMP: its header says 0 planes, where there is one",
    patched(BMP, 10, b"\x00"): "broken BMP: its header says that pixels begin at byte 0",
    patched(BMP, 18, b"\xff\xff\xff\xff"): "broken BMP: its header says -1×5 pixels",
    patched(BMP, 18, b"\xff\xff\xff\x7f"): LARGE,
    GIF[:-3]: "truncated GIF: it ends before its first frame does",
    GIF[:13]: "truncated GIF: it ends before its first frame does",
    patched(GIF, 781, b"?"): "broken GIF: no frame at byte 781",
    patched(GIF, 786, bytes(4)): "broken GIF: its header says 0×0 pixels",
    patched(GIF, 786, b"\xff" * 4): LARGE,
    WEBP[:20]: "truncated WebP: its header is cut",
    WEBP[:-1]: "truncated WebP: 559 bytes, but its header promises 560",
    patched(WEBP, 12, b"ABCD"): "broken WebP: its first chunk is b'ABCD'",
    patched(WEBP, 23, b"no!"): "broken WebP: its image has no start code",
    e.kept("animated.webp"): "animated WebP is not supported: save its first frame as JPEG or PNG",
    extended(WEBP[12:], canvas=(45, 64)): "broken WebP: its picture of 63×45 pixels doesn't fill its canvas",
    extended(b"EXIF\2\0\0\0ab"): "broken WebP: there is no picture in it",
    extended(b"ABCD\0\0\0\0" * 64 + WEBP[12:]): "broken WebP: there is no picture in it",
    patched(WEBP, 16, b"\xff\xff"): "broken WebP: its picture ends at byte 65555, but its header promises 560",
    patched(PALETTE_BMP, 10, b"\x36\0"): "broken BMP: its header says that pixels begin at byte 54",
    patched(PALETTE_BMP, 46, b"\1\1"): "broken BMP: its header says 257 colours of 8 bits",
    GIF[:10] + b"\0" + GIF[11:13] + GIF[781:]: "broken GIF: its first frame has no colours",
    patched(GIF, 791, b"\x09"): "broken GIF: its first frame has codes of 9 bits",
    e.tiff(e.pixels(5, 7), extra={256: [7, 7]}): "broken TIFF: 2 values of tag 256, where there is one",
    e.tiff(e.pixels(5, 7), extra={273: [8], 279: [1, 1]}): "broken TIFF: 1 strips begin, but 2 have a length",
    e.tiff(e.pixels(5, 7), strips=5).replace(bytes([21, 0, 0, 0]), b"\xf0\0\0\0"): "TIFF: ",
    TIFF[:9]: "truncated TIFF: its directory is cut",
    TIFF[:-1]: "truncated TIFF:",
    e.tiff(e.pixels(5, 7), bits=16): "TIFF other than 8-bit grey, RGB or palette without alpha",
    e.tiff(e.pixels(5, 7, 4)): "TIFF other than 8-bit grey, RGB or palette without alpha",
    e.tiff(e.pixels(5, 7), extra={259: [7]}): "TIFF of compression 7 is not supported",
    e.tiff(e.pixels(5, 7), extra={257: [1 << 30]}): LARGE,
    e.tiff(e.pixels(5, 7), extra={266: [2]}): "TIFF whose bytes begin with their lowest bit is not supported",
    png()[:8] + e.chunk(b"CgBI", bytes(4)) + png()[8:]: "Apple's own PNG (with a CgBI chunk) is not supported: convert",
    b"P1 # by hand\n2 1\n1 0\n": "PNM is not supported: convert it to JPEG or PNG",
    b"P4#c\n2 1\n\x80": "PNM is not supported",
    b"P7\nWIDTH 1\n": "PNM is not supported",
    b"P1 is the first part": "not an image: it begins with b'P1 is th'",
    b"Pf\n1 1\n-1.0\n" + bytes(4): "PFM is not supported: map it to 8 bits a channel as PNG",
    b"\xff\x0a\xfa\x1f": "JPEG XL is not supported: convert it to JPEG or PNG",
    b"\xff\x4f\xff\x51\0\x29": "JPEG 2000 is not supported: convert it to JPEG or PNG",
    b"\0\0\1\0\1\0\x10\x10": "icon (.ico) is not supported: save its largest image as PNG",
    b"8BPS\0\1": "PSD is not supported: export it as JPEG or PNG",
    b"%PDF-1.7\n": "PDF is not supported: render it to PNG",
    b"%!PS-Adobe-3.0 EPSF-3.0\n": "PostScript is not supported: render it to PNG",
    b"\xc5\xd0\xd3\xc6" + bytes(26): "EPS is not supported: render it to PNG",
    b"DDS |\0\0\0": "DDS is not supported: convert it to JPEG or PNG",
    b"<?xml version='1.0'?>\n<!-- made by -->\n<svg:svg xmlns": "SVG is not supported: render it to PNG",
    b"\xef\xbb\xbf\n<svg>": "SVG is not supported: render it to PNG",
    b"<!DOCTYPE html>\n<html><svg>": "not an image, but an HTML page",
    b"\n<!doctype HTML>\n<p>404": "not an image, but an HTML page, as where a download failed: fetch the image anew",
    b"<?xml version='1.0'?><Error><Code>AccessDenied": "not an image, but XML, as where a download failed",
    b'{"error": "not found"}': "not an image, but JSON, as where a download failed",
    b"version https://git-lfs.github.com/spec/v1\n": "Git LFS pointer is not supported: fetch the image itself: git",
    b"\0\0\2\0\1\0" + bytes(20): "cursor (.cur) is not supported",
    b"\0" * 40: "not an image: 40 zero bytes, as where a copy was interrupted; copy it anew",
    bytes([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 24, 32]) + b"bgr" * 2: "TGA is not supported: convert it",
    bytes([3, 0, 10]) + bytes(9) + bytes([2, 0, 1, 0, 24, 0]) + b"abc\x81bgr": "TGA is not supported",
    b"x" * 40 + b"TRUEVISION-XFILE.\0": "TGA is not supported",
    b"II+\0\x08\0\0\0": "BigTIFF is not supported: convert it to PNG",
    b"PK\3\4\x14\0": "ZIP archive is not supported: unpack it",
}


@pytest.mark.parametrize("data", REASONS, ids=[f"{i} {why}" for i, why in enumerate(REASONS.values())])
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


def test_sizes_of_the_other_formats() -> None:
    for data in (BMP, GIF, TIFF, e.bmp(e.pixels(5, 7), top_down=True)):
        found = header(data)
        assert (found.height, found.width) == (5, 7)
        assert header(data + b"behind it") == found
    sizes = {"lossy.webp": (45, 63), "lossless.webp": (30, 40), "alpha.webp": (40, 48), "animated.gif": (30, 40)}
    for name, size in sizes.items():
        found = header(e.kept(name))
        assert (found.height, found.width) == size


def test_a_backend_that_does_not_read_a_kind_is_named_with_one_that_does() -> None:
    assert header(GIF, support("tf")).kind == "GIF"
    with pytest.raises(FormatError, match="GIF is not read by backend 'dali-cpu': use 'tf' or 'pillow', or convert it"):
        header(GIF, support("dali-cpu"))
    with pytest.raises(FormatError, match="TIFF is not read by backend 'tf': use 'dali-cpu', or convert"):
        header(TIFF, support("tf"))
    assert {*TABLES["tf"].kinds, *TABLES["dali-cpu"].kinds} == set(KINDS)
    assert TABLES["dali"].kinds == ("JPEG", "PNG")


def test_decode_says_what_each_backend_reads() -> None:
    from greenload.stages import Decode

    rows = [" ".join(line.split()) for line in (Decode.__doc__ or "").splitlines()]
    for name in KINDS:
        assert any(row.startswith(name) and row.endswith(" " + ", ".join(reading(name))) for row in rows), name


def test_decoders_see_the_picture_of_a_webp_alone() -> None:
    chunks = b"ABCD\3\0\0\0xyz\0" + WEBP[12:] + b"EXIF\1\0\0\0x\0"
    for data in (WEBP, WEBP + b"behind it", extended(chunks), extended(chunks) + b"behind it"):
        head = header(data)
        assert (head.height, head.width) == (45, 63)
        assert plain(data, head) == WEBP
    assert plain(BMP, header(BMP)) == BMP


def test_codes_that_cannot_be_there_are_found_by_verifying() -> None:
    for data in (GIF, e.kept("palette.gif"), e.kept("interlaced.gif"), e.kept("animated.gif")):
        verify(data, header(data))
    # 9 bits: clear, colour 1, then a code that isn't there before the third
    codes = (256 | 1 << 9 | 300 << 18).to_bytes(4, "little")
    broken = GIF[:791] + b"\x08\4" + codes + b"\0;"
    with pytest.raises(FormatError, match="compressed with a code that can't be there"):
        verify(broken, header(broken))


def test_a_kind_that_is_not_read_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(data: bytes) -> formats.Header:
        raise AssertionError("parsed")

    monkeypatch.setattr(formats, "_PARSERS", dict.fromkeys(formats._PARSERS, parse))
    for data, backend in ((TIFF, "tf"), (TIFF, "pillow"), (GIF, "dali-cpu"), (WEBP, "dali")):
        with pytest.raises(FormatError, match=f"is not read by backend '{backend}'"):
            header(data, support(backend))


BOMB = 1_000_000


def tiff_of(entries: list[tuple[int, int, int, int]], size: int = BOMB) -> bytes:
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + bytes(4)).ljust(size, b"\0")


SMALL_TIFF = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 9000), (279, 4, 1, 64)]
BOMBS: dict[str, Callable[[], bytes]] = {
    "TIFF: tags that overlap": lambda: tiff_of(SMALL_TIFF + [(1000 + k, 1, BOMB - 9, 8) for k in range(1000)]),
    "TIFF: a tag of the whole file": lambda: tiff_of([*SMALL_TIFF, (258, 1, BOMB - 100, 8)]),
    "TIFF: strips that overlap": lambda: tiff_of(
        [(256, 4, 1, 8), (257, 4, 1, 60000), *SMALL_TIFF[2:4], (273, 3, 60000, 200), (279, 3, 60000, 200)]
    ),
    "TIFF: a tag over and over": lambda: tiff_of([(256, 4, 1, 8)] * 65535),
    "JPEG: markers behind the end": lambda: WHOLE + b"\xff\xd9" * (BOMB // 2),
    "JPEG: stuffed bytes": lambda: WHOLE[:-2] + b"\xff\0" * (BOMB // 2) + b"\xff\xd9",
    "JPEG: restart markers": lambda: WHOLE[:-2] + b"\xff\xd3" * (BOMB // 2) + b"\xff\xd9",
    "JPEG: fill bytes": lambda: b"\xff\xd8" + b"\xff" * BOMB + WHOLE[2:],
    "JPEG: fill bytes in a scan": lambda: WHOLE[:-2] + b"\xff" * BOMB + b"\0\xff\xd9",
    "JPEG: segments": lambda: b"\xff\xd8" + b"\xff\xe1\0\x08Exif\0\0" * (BOMB // 10) + WHOLE[2:],
    "PNG: chunks": lambda: png()[:33] + e.chunk(b"tEXt", b"") * 4000 + png()[33:],
    "PNG: chunks of pixels": lambda: png()[:33] + e.chunk(b"IDAT", b"") * 4000 + png()[33:],
    "PNG: more chunks": lambda: png()[:33] + e.chunk(b"tEXt", b"") * (BOMB // 12) + png()[33:],
    "PNG: zeros compressed": lambda: (
        png()[:33] + e.chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 24))) + png()[33:]
    ),
    "GIF: blocks of a byte": lambda: GIF[:781] + b"!\xfe" + b"\1a" * (BOMB // 2) + b"\0" + GIF[781:],
    "GIF: extensions": lambda: GIF[:781] + b"!\xfe\0" * (BOMB // 3) + GIF[781:],
    "GIF: pixels in blocks of a byte": lambda: GIF[:792] + b"\1a" * (BOMB // 2) + b"\0;",
    "WebP: chunks": lambda: extended(b"ABCD\0\0\0\0" * (BOMB // 8) + WEBP[12:]),
    "EXIF: entries": lambda: e.png(
        e.pixels(4, 4), before=e.chunk(b"eXIf", tiff_of([(0x0112, 3, 1, 0)] * 65535))
    ),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", BOMBS)
def test_parsing_costs_what_a_file_holds_not_what_it_claims(name: str) -> None:
    data = BOMBS[name]()
    for parse in (header, orientation):
        tracemalloc.start()
        try:
            parse(data)
        except FormatError as error:
            assert "\n" not in str(error)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 3 * len(data) + 100_000, parse  # of overlapping tags it was 7,700 times


def test_walking_is_bounded_by_counted_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(bytes):
        read = 0

        def __getitem__(self, key: Any) -> Any:
            Counted.read += 1
            return super().__getitem__(key)

    for name in ("GIF: blocks of a byte", "GIF: extensions", "GIF: pixels in blocks of a byte", "WebP: chunks"):
        Counted.read = 0
        with pytest.raises(FormatError, match="broken"):
            header(Counted(BOMBS[name]()))
        assert Counted.read < 60_000


@pytest.mark.slow
@given(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"",
            b"\xff\xd8\xff",
            PROGRESSIVE,
            WHOLE[:12],
            png()[:14],
            b"\xff\xd8" + SEGMENT,
            BMP[:30],
            GIF[:790],
            WEBP[:20],
            TIFF[:20],
        ]
    ),
)
@settings(max_examples=500, deadline=None)
def test_any_bytes_give_a_header_or_a_reason(data: bytes, prefix: bytes) -> None:
    try:
        found = header(prefix + data)
    except FormatError:
        return
    assert found.height > 0
    assert found.width > 0
