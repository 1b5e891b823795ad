"""Every kind of file through every backend that reads it: the pixels that it holds, or a refusal that names it."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import encoders as e
import numpy as np
import pytest

import greenload as gl
from greenload import cli
from greenload.backends import registry
from greenload.backends.base import Records
from greenload.backends.chain import run_plan
from greenload.backends.tables import TABLES
from greenload.errors import PipelineError, RecordError
from greenload.planning.choose import make_plan, readers_for
from greenload.plans.params import DrawLayout
from greenload.sources import Files, formats
from greenload.stages import Batch, CenterCrop, Decode, RandomResizedCrop, Stage

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.slow
Pixels = np.ndarray[Any, Any]
BACKENDS = ("tf", "dali-cpu", "pillow", "native")
OF_PNG = BACKENDS[:3]
"""Those that read PNG and WebP themselves."""


def decoded(backend: str, data: bytes, *stages: Stage, seed: int = 0, helped: bool = False) -> Pixels:
    """One file through a backend; where it may be ``helped``, others decode what it doesn't read."""
    usable(backend)
    pipeline = gl.Pipeline(Files(["the file"]), *stages, Batch(1), seed=seed)
    numbers = DrawLayout.of(pipeline).prepare(seed, 0, np.arange(1))
    plan = make_plan(pipeline, backend, threads=1)
    plan = replace(plan, readers=readers_for(backend, ["pillow", "tf"])) if helped else plan
    image: Pixels = run_plan(plan, Records([data], numbers, ["the file"]))[0]
    return image


def usable(backend: str) -> None:
    """Skips a test of a backend that can't run here."""
    seen = registry.get(backend).availability()
    if not seen.usable:
        pytest.skip(f"{backend}: {seen.detail}; {seen.remedy}")


def whole(backend: str, data: bytes, *, exif: bool = False) -> Pixels:
    """A file's pixels. The crop that asks for all of it also runs a cropped decode."""
    head = formats.header(data)
    turned = exif and formats.orientation(data) > 4
    return decoded(
        backend, data, Decode(exif), CenterCrop((head.width, head.height) if turned else (head.height, head.width))
    )


def rgb(image: Pixels) -> Pixels:
    """Grey, alpha and all to RGB, as uint8."""
    colour = image[..., :3] if image.shape[-1] > 2 else np.repeat(image[..., :1], 3, -1)
    return colour.astype(np.uint8)


@cache
def kinds() -> dict[str, tuple[bytes, Pixels]]:
    """Files made by hand, and the pixels that they hold."""
    image, grey, palette = e.pixels(37, 43), e.pixels(37, 43, 1), e.palette(256)
    rgba, grey_alpha = e.pixels(37, 43, 4), e.pixels(37, 43, 2)
    found: dict[str, tuple[bytes, Pixels]] = {}
    for interlaced in (False, True):
        tail = "-interlaced" if interlaced else ""

        def png(image: Pixels, depth: int = 8, interlaced: bool = interlaced, **more: Any) -> bytes:
            return e.png(image, depth, interlaced=interlaced, **more)

        for depth in (1, 2, 4, 8):
            levels = e.pixels(37, 43, 1, levels=1 << depth)
            found[f"grey-{depth}{tail}.png"] = png(levels, depth), rgb(levels * 255 // ((1 << depth) - 1))
            colours = palette[: 1 << depth]
            seen = rgb(colours[levels[..., 0]])
            found[f"palette-{depth}{tail}.png"] = png(levels, depth, colours=colours), seen
            alpha = bytes(range(1 << depth))
            found[f"palette-alpha-{depth}{tail}.png"] = png(levels, depth, colours=colours, alpha=alpha), seen
        found[f"rgb{tail}.png"] = png(image), rgb(image)
        found[f"rgba{tail}.png"] = png(rgba), rgb(rgba)
        found[f"grey-alpha{tail}.png"] = png(grey_alpha), rgb(grey_alpha)
        for channels in (1, 2, 3, 4):
            deep = np.random.default_rng(channels).integers(0, 65536, (37, 43, channels))
            nearest = np.floor(deep / 257 + 0.5).astype(int)
            found[f"16-bit-{channels}{tail}.png"] = png(deep, 16), rgb(nearest)
    ramp = np.arange(65536).reshape(256, 256, 1)
    found["16-bit-all-values.png"] = e.png(ramp, 16), rgb(np.floor(ramp / 257 + 0.5).astype(int))
    gamma = e.chunk(b"gAMA", (100_000).to_bytes(4, "big")) + e.chunk(b"sBIT", b"\5\5\5")
    found["gamma.png"] = e.png(image, before=gamma), rgb(image)
    for top_down in (False, True):
        tail = "-top-down" if top_down else ""
        found[f"rgb{tail}.bmp"] = e.bmp(image, top_down=top_down), rgb(image)
        found[f"rgba{tail}.bmp"] = e.bmp(rgba, 32, top_down=top_down), rgb(rgba)
    for header in (52, 56, 108, 124):
        found[f"header-{header}.bmp"] = e.bmp(image, header=header), rgb(image)
    found["padded.bmp"] = e.bmp(image) + bytes(2), rgb(image)
    for bits in (1, 4, 8):
        levels = e.pixels(37, 43, 1, levels=1 << bits)
        colours = palette[: 1 << bits]
        found[f"palette-{bits}.bmp"] = e.bmp(levels, bits, colours=colours), rgb(colours[levels[..., 0]])
    frame = rgb(palette[grey[..., 0]])
    found["frame.gif"] = e.gif(grey, palette), frame
    canvas = np.full((80, 90, 3), palette[0], np.uint8)
    canvas[3:40, 5:48] = frame
    found["frame-on-a-canvas.gif"] = e.gif(grey, palette, place=(3, 5), canvas=(80, 90)), canvas
    for order in ("<", ">"):
        found[f"rgb{order}.tif"] = e.tiff(image, order=order), rgb(image)
    for compression in (8, 32773):
        found[f"strips-{compression}.tif"] = e.tiff(image, compression=compression, strips=5), rgb(image)
    found["grey.tif"] = e.tiff(grey), rgb(grey)
    found["palette.tif"] = e.tiff(grey, colours=palette), frame
    found["oriented.tif"] = e.tiff(image, extra={274: [6]}), rgb(image)
    return found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("format", ["png", "bmp", "gif", "tif"])
def test_a_file_decodes_to_the_pixels_it_was_made_of(backend: str, format: str) -> None:
    for name, (data, expected) in kinds().items():
        if not name.endswith(format):
            continue
        kind = formats.header(data).kind
        if kind in TABLES[backend].kinds:
            assert (whole(backend, data) == expected).all(), name
            window = decoded(backend, data, Decode(), CenterCrop((11, 8)))
            assert (window == decoded(backend, e.png(expected.astype(int)), Decode(), CenterCrop((11, 8)))).all(), name
        else:
            with pytest.raises(RecordError, match=f"the file: {kind} is not read by backend '{backend}': use '"):
                whole(backend, data)


@pytest.mark.parametrize("backend", BACKENDS)
def test_jpeg_webp_and_gif_decode_as_pillow_decodes_them(backend: str) -> None:
    for name, digest in json.loads((e.IMAGES / "pixels.json").read_text()).items():
        data = e.kept(name)
        if name == "animated.webp":
            with pytest.raises(RecordError, match="animated WebP is not supported"):
                decoded(backend, data, Decode(), CenterCrop(3), helped=True)
        elif formats.header(data).kind in TABLES[backend].kinds:
            assert hashlib.sha256(whole(backend, data).tobytes()).hexdigest() == digest, name
            assert (whole(backend, data + b"something behind it") == whole(backend, data)).all(), name


@pytest.mark.parametrize("backend", OF_PNG)
def test_what_surrounds_a_webps_picture_decides_nothing(backend: str) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)

    for name in ("lossy.webp", "lossless.webp"):
        data = e.kept(name)
        head = formats.header(data)
        sides = b"".join((side - 1).to_bytes(3, "little") for side in (head.width, head.height))
        # flags that announce a profile, alpha and EXIF, some of which is missing, cut or twice there
        start = chunk(b"VP8X", b"\x38\0\0\0" + sides)
        for chunks in (
            start + data[12:] + chunk(b"EXIF", b"no exif"),
            start + chunk(b"ICCP", b"no profile") + data[12:] + data[12:],
            start + chunk(b"ALPH", b"no alpha") + data[12:] + b"EXIF\xff\xff\xff\xff",
            data[12:] + b"\xff" * 9,
        ):
            found = whole(backend, b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks)
            assert (found == whole(backend, data)).all()


@pytest.mark.parametrize("backend", OF_PNG)
def test_a_pngs_texts_and_animation_decide_nothing(backend: str) -> None:
    text = e.chunk(b"zTXt", b"a\0\0" + zlib.compress(b"text" * 99))
    animation = e.chunk(b"acTL", bytes([0, 0, 0, 1, 0, 0, 0, 0]))
    frame = e.chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 4, 4, 0, 0, 1, 1, 0, 0))
    frame += e.chunk(b"fdAT", bytes(4) + zlib.compress(b"\0" * 4 * 13))
    colours = e.palette(256)
    for options in ({}, {"interlaced": True}, {"colours": colours, "alpha": b"\1\2"}):
        image = e.pixels(37, 43, 1 if "colours" in options else 3)
        expected = whole(backend, e.png(image, **options))
        parts = e.png(image, **options, before=text + e.chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"x")))
        for data in (
            parts,
            parts[:-12] + text + parts[-12:],
            e.png(image, **options, before=animation)[:-12] + frame + parts[-12:],
        ):
            assert (whole(backend, data) == expected).all()
    if backend != "pillow":
        deep = np.random.default_rng(0).integers(0, 65536, (9, 9, 3))
        assert (whole(backend, e.png(deep, 16, before=text)) == whole(backend, e.png(deep, 16))).all()
    image = e.pixels(9, 9)
    body, plain = zlib.compress(b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in image)), e.png(image)
    start, end = plain[:33], plain[-12:]
    pixels, rest = e.chunk(b"IDAT", body), e.chunk(b"IDAT", b"more")
    assert (whole(backend, start + pixels + text + rest + end) == image).all()
    halves = e.chunk(b"IDAT", body[:50]) + text + e.chunk(b"IDAT", body[50:])
    for broken in (start + halves + end, parts[:-12], parts[:-14] + parts[-12:], start + text * 65 + pixels + end):
        with pytest.raises(RecordError, match=r"the file: .*(broken|truncated|PNG|decoded)"):
            decoded(backend, broken, Decode(), CenterCrop(4))


@pytest.mark.parametrize("backend", ["tf", "pillow"])
def test_a_gifs_pixels_are_the_colours_that_it_names(backend: str) -> None:
    indices, colours = e.pixels(30, 40, 1), e.palette(256)
    data = e.gif(indices, colours)
    control = b"!\xf9\4\1\0\0" + bytes([int(indices[3, 4, 0])]) + b"\0"  # this colour is transparent
    for made in (data[:781] + control + data[781:], data[:781] + b"!\xfe\5hello\0" + control + data[781:]):
        assert (whole(backend, made) == rgb(colours[indices[..., 0]])).all()
    body, end = data[:792], data[792:-2]
    cut = body + end[:256] + b"\0;"  # the first block of its pixels
    few = data[:10] + b"\xf0" + data[11:19] + data[781:]  # two colours
    for broken in (cut, few):
        assert formats.header(broken).kind == "GIF"
        with pytest.raises(RecordError, match=r"the file: .*(GIF|decoded)"):
            whole(backend, broken)
    tiny = body + b"\1a" * 300_000 + b"\0;"
    with pytest.raises(RecordError, match="more than 8,789 blocks in 600,794 bytes"):
        decoded(backend, tiny, Decode(), CenterCrop(8))


def test_the_graph_walks_through_few_blocks() -> None:
    import tensorflow as tf

    from greenload.backends.tf.formats import decode_full

    data = e.gif(e.pixels(30, 40, 1), e.palette(256))
    start = time.process_time()
    for chain in (b"!\xfe" + b"\1a" * 500_000 + b"\0", b"!\xfe\0" * 300_000):
        with pytest.raises(tf.errors.InvalidArgumentError, match="not an image that is read"):
            decode_full(tf.constant(data[:781] + chain + data[781:]))
    assert time.process_time() - start < 8  # not hundreds of thousands of steps


@pytest.mark.parametrize("backend", ["dali-cpu", "pillow"])
def test_a_bmps_palette_may_be_short_and_of_any_colours(backend: str) -> None:
    for bits, count in ((1, 1), (1, 2), (4, 2), (4, 9), (8, 1), (8, 2), (8, 200)):
        indices = e.pixels(31, 43, 1, levels=1 << bits)
        for colours in (e.palette(count), np.repeat(np.linspace(0, 255, count).astype(int)[:, None], 3, 1)):
            black = np.zeros((1 << bits, 3), int)
            black[:count] = colours
            found = whole(backend, e.bmp(indices, bits, colours=colours))
            assert (found == rgb(black[indices[..., 0]])).all(), (bits, count)
    data = e.bmp(e.pixels(31, 43, 1), 8, colours=e.palette(256))
    with pytest.raises(RecordError, match="the file: broken BMP: its header says that pixels begin at byte 1074"):
        decoded(backend, data[:10] + struct.pack("<I", 1074) + data[14:], Decode(), CenterCrop(8))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_exif_orientation(backend: str, orientation: int) -> None:
    for name in ("422-odd.jpg", "progressive.jpg" if orientation in (3, 6) else "420.jpg"):
        stored = whole(backend, e.kept(name))
        data = e.with_exif(e.kept(name), orientation, ">" if orientation % 2 else "<")
        assert (whole(backend, data) == stored).all()  # the default
        upright = e.UPRIGHT[orientation](stored)
        assert (whole(backend, data, exif=True) == upright).all()
        png = e.png(upright.astype(int))
        random = RandomResizedCrop((9, 12), scale=(0.05, 0.6))
        for stage, seed in ((CenterCrop((13, 8)), 0), (random, 0), (random, 1)):
            expected = decoded(backend, png, Decode(), stage, seed=seed, helped=True)
            assert (decoded(backend, data, Decode(exif=True), stage, seed=seed) == expected).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_exif_that_makes_no_sense_is_no_orientation(backend: str) -> None:
    plain = e.kept("420.jpg")
    blocks = [
        b"Exif\0\0",
        b"Exif\0\0II",
        b"Exif\0\0XX*\0\x08\0\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*" + bytes(300),
    ]
    pngs = [e.png(e.pixels(20, 30))] if backend in OF_PNG else []
    for data in [plain, *(e.with_exif_block(plain, block) for block in blocks), *pngs]:
        assert (whole(backend, data, exif=True) == whole(backend, data)).all()


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_exif_in_batches_that_are_loaded(backend: str, tmp_path: Path) -> None:
    usable(backend)
    paths = []
    for k in range(12):
        paths.append(tmp_path / f"{k}.jpg")
        plain = e.kept("420.jpg")
        paths[-1].write_bytes(e.with_exif(plain, k % 9) if k % 4 else plain)
    # What each resizes as tf does: DALI's antialiasing differs at the rim, and Pillow has nothing else.
    resize = RandomResizedCrop((9, 12), antialias=backend == "pillow")
    pipeline = gl.Pipeline(Files(paths), Decode(exif=True), resize, Batch(5))
    pair = ("dali-cpu" if backend == "native" else "tf", backend)
    loaded = [np.concatenate([images for images, _ in gl.load(pipeline, name, epochs=2)]) for name in pair]
    assert np.abs(loaded[0].astype(int) - loaded[1]).max() <= 1
    assert gl.Pipeline.from_dict(pipeline.to_dict()) == pipeline
    with pytest.raises(PipelineError, match="exif must be True or False"):
        Decode(exif="yes")  # type: ignore[arg-type]


DANGEROUS = """
import sys
sys.path[:0] = [{support!r}]
import encoders as e
import numpy as np
from greenload import Batch, CenterCrop, Decode, Pipeline
from greenload.backends.chain import run_plan
from greenload.backends.base import Records
from greenload.errors import RecordError
from greenload.planning.choose import make_plan, readers_for
from greenload.plans.params import DrawLayout
from greenload.sources import Files
image = e.pixels(5, 7)
png, gif = e.png(image), e.gif(image[..., :1], e.palette(256))
animated = e.kept("animated.webp")
files = {{
    "animated.webp": animated,
    "animated-cut.webp": animated[: len(animated) // 2],
    "zero.png": e.png(image[:0]),
    "huge.jpg": e.with_jpeg_size(e.kept("420.jpg"), 65535, 65535),
    "huge.png": png[:8] + e.chunk(b"IHDR", b"\\0\\1\\0\\0" * 2 + png[24:29]) + png[33:],
    "bomb.png": png[:8] + e.chunk(b"IHDR", b"\\x7f\\xff\\xff\\xff" * 2 + png[24:29]) + png[33:],
    "huge.bmp": e.bmp(image)[:18] + b"\\xff\\xff\\xff\\x7f" * 2 + e.bmp(image)[26:],
    "huge.gif": gif[:786] + b"\\xff" * 4 + gif[790:],
    "huge.webp": animated[:20] + b"\\0\\0\\0\\0" + b"\\xff" * 6 + animated[30:],
    "huge.tif": e.tiff(image, extra={{256: [1 << 31], 257: [1 << 31]}}),
    "12-bit.jpg": e.with_jpeg_size(e.kept("420.jpg"), 48, 64, precision=12),
    "lossless.jpg": e.with_jpeg_size(e.kept("420.jpg"), 48, 64, frame=0xC3),
}}
for name, data in files.items():
    for stages in ((Decode(), CenterCrop(3)), (Decode(exif=True), CenterCrop(3))):
        pipeline = Pipeline(Files([name]), *stages, Batch(1))
        numbers = DrawLayout.of(pipeline).prepare(0, 0, np.arange(1))
        try:
            run_plan(make_plan(pipeline, {backend!r}, threads=1), Records([data], numbers, [name]))
        except RecordError as error:
            print("refused", error)
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_aborts_the_process(backend: str) -> None:
    usable(backend)
    code = DANGEROUS.format(support=str(e.IMAGES.parent), backend=backend)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("refused") == 2 * 12, done.stdout
    unread = 1 if backend in OF_PNG else 5  # of those that are too large, too
    assert done.stdout.count("too large") == 2 * (6 if backend in OF_PNG else 4), done.stdout
    assert done.stdout.count("is not read by backend") == 2 * unread, done.stdout


def test_check_names_every_file_that_is_not_read_and_the_backend_that_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, data in {
        "good.jpg": e.kept("420.jpg"),
        "good.png": e.png(e.pixels(5, 7), 8),
        "good.gif": e.kept("animated.gif"),
        "good.webp": e.kept("alpha.webp"),
        "good.bmp": e.bmp(e.pixels(5, 7)),
        "bad.tif": e.tiff(e.pixels(5, 7)),
        "bad.bmp": e.bmp(e.pixels(5, 7, 1), 8, colours=e.palette(256)),
        "bad.webp": e.kept("animated.webp"),
        "bad.jpg": e.kept("420.jpg")[:-9],
    }.items():
        (tmp_path / name).write_bytes(data)
    assert cli.main(["check", str(tmp_path), "--backend", "tf"]) == 1
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if "bad." in line]
    assert len(lines) == 4
    reasons = (
        "palette BMP is not read by backend 'tf': use 'dali-cpu'",
        "truncated JPEG: it ends before its end marker",
    )
    reasons += ("TIFF is not read by backend 'tf': use 'dali-cpu'", "animated WebP is not supported")
    for line, name, reason in zip(lines, ("bmp", "jpg", "tif", "webp"), reasons, strict=True):
        assert line.startswith(f"{tmp_path}/bad.{name}: {reason}")
    assert "5 of 9 images decode, 4 do not" in printed


def test_what_is_left_out_goes_by_the_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nvidia.dali")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = [e.kept("420.jpg"), e.kept("palette.gif"), e.tiff(e.pixels(9, 9)), e.png(e.pixels(9, 9)), b"no image"]
    paths = [tmp_path / f"{k}.jpg" for k in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    pipeline = gl.Pipeline(Files(paths, labels=range(5)), Decode(), CenterCrop(4), Batch(2))
    for backend, expected in (("tf", [0, 1, 3]), ("dali-cpu", [0, 2, 3]), ("pillow", [0, 1, 3])):
        with pytest.warns(UserWarning, match="left out 2 bad of 5 records"):
            dataset = gl.load(pipeline, backend, epochs=1, on_error="skip")
        assert [int(label) for _, labels in dataset for label in labels] == expected
