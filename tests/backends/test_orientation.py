"""The EXIF orientation of every kind of file, wherever it is stated: found, and applied alike by every backend."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import encoders as e
import numpy as np
import odd_jpegs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenload as gl
from greenload.backends import registry
from greenload.backends.base import Records
from greenload.backends.chain import run_plan
from greenload.backends.native import abi, library
from greenload.backends.tables import TABLES
from greenload.errors import RecordError
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.sources import Files, formats
from greenload.sources.formats import orientation
from greenload.specs import MAX_BYTES, TRUNCATED
from greenload.stages import Batch, CenterCrop, Decode, Pad, Stage

Pixels = np.ndarray[Any, Any]
JPEG, WEBP = e.kept("420.jpg"), e.kept("lossy.webp")
HEIGHT, WIDTH = 16, 10
PIXELS = e.pixels(HEIGHT, WIDTH)
EXIF = b"Exif\0\0"


def entry(value: int, order: str, kind: str = "H", tag: int = 0x0112, count: int = 1) -> bytes:
    """An entry of a directory; its type as `struct` calls it."""
    number = {"B": 1, "H": 3, "I": 4, "b": 6, "h": 8, "i": 9}[kind]
    return struct.pack(f"{order}HHI", tag, number, count) + struct.pack(order + kind, value).ljust(4, b"\0")


def block(*entries: bytes, order: str = "<", at: int = 8) -> bytes:
    """A block of EXIF whose directory lies at a place."""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at) + bytes(at - 8)
    return start + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)


def segment(body: bytes, marker: int = 0xE1) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body


PROFILE = segment(b"ICC_PROFILE\0\1\1" + b"z" * 64984, 0xE2)
XMP = segment(b"http://ns.adobe.com/xap/1.0/\0<x/>")


def in_jpeg(value: int, order: str, *, before: bytes = b"", behind: bytes = b"", **where: Any) -> bytes:
    """A JPEG that states it in an EXIF segment, right in front."""
    made = block(entry(value, order, where.pop("kind", "H")), order=order, **where)
    return JPEG[:2] + before + segment(EXIF + made) + behind + JPEG[2:]


def behind_tables(value: int, order: str, between: bytes = b"") -> bytes:
    scan = JPEG.index(b"\xff\xda")
    return JPEG[:scan] + between + segment(EXIF + block(entry(value, order), order=order)) + JPEG[scan:]


def between_scans(value: int, order: str) -> bytes:
    progressive = odd_jpegs.jpeg(PIXELS, frame=0xC2, scans=odd_jpegs.progressive(3))
    second = progressive.index(b"\xff\xda", progressive.index(b"\xff\xda") + 2)
    return progressive[:second] + segment(EXIF + block(entry(value, order), order=order)) + progressive[second:]


def among_many(value: int, order: str) -> bytes:
    rows = [entry(k, order, "I", 0x8000 + k) for k in range(500)]
    return JPEG[:2] + segment(EXIF + block(*rows, entry(value, order), order=order)) + JPEG[2:]


def in_png(value: int, order: str, *, late: bool = False, prefix: bytes = b"", **options: Any) -> bytes:
    """A PNG that states it before its pixels, or behind them."""
    chunk = e.chunk(b"eXIf", prefix + block(entry(value, order), order=order))
    plain = e.png(PIXELS, **options, before=b"" if late else chunk)
    return plain[:-12] + chunk + plain[-12:] if late else plain


def in_webp(value: int, order: str, *, early: bool = False, prefix: bytes = b"", flags: int = 8) -> bytes:
    """A WebP that states it behind its picture, or before it."""
    head, body = formats.header(WEBP), prefix + block(entry(value, order), order=order)
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (head.width, head.height))
    chunk = b"EXIF" + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    start = b"WEBPVP8X" + struct.pack("<II", 10, flags) + sides
    parts = start + (chunk + WEBP[12:] if early else WEBP[12:] + chunk)
    return b"RIFF" + struct.pack("<I", len(parts)) + parts


def in_tiff(value: int, order: str, **options: Any) -> bytes:
    return e.tiff(PIXELS, extra={274: [value]}, order=order, **options)


PLACES: dict[str, Callable[[int, str], bytes]] = {
    "JPEG": lambda value, order: e.with_exif(JPEG, value, order),
    "JPEG: first": in_jpeg,
    "JPEG: behind a comment": partial(in_jpeg, before=segment(b"Exif\0\0", 0xFE)),
    "JPEG: behind a long comment": partial(in_jpeg, before=segment(b"Exif\0\0II*\0" + bytes(40), 0xFE)),
    "JPEG: behind XMP": partial(in_jpeg, before=XMP),
    "JPEG: before XMP": partial(in_jpeg, behind=XMP + PROFILE),
    "JPEG: behind a profile": partial(in_jpeg, before=PROFILE * 2),
    "JPEG: behind many segments": partial(in_jpeg, before=b"".join(segment(b"xyz", 0xE0 + k) for k in range(16)) * 3),
    "JPEG: behind fill bytes": partial(in_jpeg, before=b"\xff" * 9),
    "JPEG: behind tables": behind_tables,
    "JPEG: the first of two": partial(in_jpeg, behind=segment(EXIF + b"II*\0\xff\xff\xff\xff")),
    "JPEG: among many entries": among_many,
    "JPEG: far from its header": partial(in_jpeg, at=9000),
    "JPEG: at the segment's end": partial(in_jpeg, at=65000),
    **{f"JPEG: type {kind}": partial(in_jpeg, kind=kind) for kind in "BIbhi"},
    "PNG": in_png,
    "PNG: behind the pixels": partial(in_png, late=True),
    "PNG: as JPEG has it": partial(in_png, prefix=EXIF),
    "PNG: interlaced": partial(in_png, interlaced=True),
    "WebP": in_webp,
    "WebP: before its picture": partial(in_webp, early=True),
    "WebP: as JPEG has it": partial(in_webp, prefix=EXIF),
    "WebP: not announced": partial(in_webp, flags=0),
    "TIFF": in_tiff,
    "TIFF: strips": partial(in_tiff, strips=4, compression=8),
}
NOWHERE = {
    "a JPEG": JPEG,
    "0": in_jpeg(0, "<"),
    "9": in_jpeg(9, "<"),
    "negative": in_jpeg(-6, "<", kind="i"),
    "two values": JPEG[:2] + segment(EXIF + block(entry(6, "<", count=2))) + JPEG[2:],
    "a thumbnail's": JPEG[:2] + segment(EXIF + block() + block(entry(6, "<"))) + JPEG[2:],
    "behind the end": JPEG + in_jpeg(6, "<"),
    "in a profile": JPEG[:2] + segment(segment(EXIF + block(entry(6, "<"))), 0xE2) + JPEG[2:],
    "a longer directory than its segment": JPEG[:2] + segment(EXIF + block()[:10]) + entry(6, "<") + JPEG[2:],
    "far behind the tables": behind_tables(6, "<", PROFILE),
    "between a progressive JPEG's scans": between_scans(6, "<"),
    "a PNG": e.png(PIXELS),
    "a text of a PNG": e.png(PIXELS, before=e.chunk(b"tEXt", b"eXIf\0" + block(entry(6, "<")))),
    "behind a PNG's end": e.png(PIXELS) + e.chunk(b"eXIf", block(entry(6, "<"))),
    "a WebP": WEBP,
    "behind a simple WebP": WEBP + b"EXIF" + struct.pack("<I", 26) + block(entry(6, "<")),
    "a BMP": e.bmp(PIXELS),
    "a GIF": e.kept("palette.gif"),
    "nothing": b"",
}  # fmt: skip


@cache
def stating() -> dict[tuple[str, int], bytes]:
    """A file of each place and orientation, in either byte order."""
    return {(name, value): make(value, "<>"[value % 2]) for name, make in PLACES.items() for value in range(1, 9)}


@cache
def in_graph() -> Callable[[bytes], int]:
    """The orientation as TensorFlow's graph finds it."""
    tf = pytest.importorskip("tensorflow")
    from greenload.backends.tf.orientation import orientation as ops

    traced = tf.function(ops, input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    return lambda data: int(traced(tf.constant(data)))


@pytest.mark.parametrize("name", PLACES)
def test_an_orientation_is_found_wherever_a_file_states_it(name: str) -> None:
    for order in "<>":
        for value in range(1, 9):
            data = PLACES[name](value, order)
            assert orientation(data) == value
            formats.header(data)
    for size in (0, 3, 10, 30, len(data) // 2):
        assert orientation(data[:size]) in (1, value)


@pytest.mark.parametrize("name", NOWHERE)
def test_a_file_that_states_no_orientation_has_none(name: str) -> None:
    assert orientation(NOWHERE[name]) == 1
    assert in_graph()(NOWHERE[name]) == 1


@pytest.mark.skipif(bool(library.why_missing()), reason="transcoding is the kernel's")
def test_a_transcoded_jpeg_has_its_files_orientation() -> None:
    """Transcoding writes all that applications wrote in front of the tables, where more of it counts."""
    files = {**NOWHERE, **stating()}
    plain = {name: data for name, data in files.items() if library.probe([data], False, MAX_BYTES)[0, 0]}
    assert plain.keys() > {"far behind the tables", "between a progressive JPEG's scans"}
    for name, data in plain.items():
        assert orientation(library.transcode(data, abi.Form.TRANSCODED)) == orientation(data), name


def test_pillow_finds_the_same() -> None:
    image = pytest.importorskip("PIL.Image")
    unlike = {"JPEG: type B", "JPEG: type b", "JPEG: the first of two", "WebP: not announced"}
    for (name, value), data in stating().items():
        if name not in unlike:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert image.open(io.BytesIO(data)).getexif().get(0x0112) == value, name


def test_the_graph_finds_what_python_finds() -> None:
    for (name, value), data in stating().items():
        if not name.startswith("TIFF"):
            assert in_graph()(data) == value, name


BYTE = st.sampled_from([0, 1, 3, 6, 8, 0x12, 0x2A, 0x49, 0x4D, 0xD9, 0xDA, 0xDB, 0xE0, 0xE1, 0xE2, 0xFE, 0xFF])


@pytest.mark.slow
@given(
    st.sampled_from([name for name in PLACES if not name.startswith("TIFF")]),
    st.integers(1, 8),
    st.lists(st.tuples(st.sampled_from(["set", "insert", "remove", "cut"]), st.floats(0, 1), BYTE), max_size=5),
)
@settings(max_examples=250, deadline=None)
def test_they_agree_on_damaged_files(name: str, value: int, changes: list[tuple[str, float, int]]) -> None:
    data = bytearray(stating()[name, value])
    begin = max(0, data.find(b"*\0"), data.find(b"\0*"))  # about the block, where there is most to damage
    for what, share, byte in changes:
        at = int(share * min(len(data), 120)) if byte % 2 else min(begin - 20 + int(share * 80), len(data))
        at = max(at, 3)
        if what == "cut":
            del data[at + 5 :]
        elif what == "remove":
            del data[at : at + 1]
        else:
            data[at : at + (what == "set")] = [byte]
    assert in_graph()(bytes(data)) == orientation(bytes(data))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_file_is_decoded_before_its_orientation_is_known() -> None:
    """The search for it would be cancelled where decoding fails; now and then that is raised in place of the error."""
    tf = pytest.importorskip("tensorflow")
    from greenload.backends.tf import decode
    from greenload.specs import ImageSpec
    from greenload.stages import primitives as p

    def comes_behind(op: Any, other: Any) -> bool:
        seen, left = set(), [op]
        while left and other.name not in seen:
            found = left.pop()
            before = [*(tensor.op for tensor in found.inputs), *found.control_inputs]
            left += [one for one in before if one.name not in seen]
            seen |= {one.name for one in before}
        return other.name in seen

    image, limit = ImageSpec((None, None, 3), "uint8", "HWC"), MAX_BYTES
    for truncated in TRUNCATED:
        for lower in (
            decode.decode(p.Decode(True, limit, truncated), image, image),
            decode.decode_crop(p.DecodeCrop(True, limit, truncated), image, image),
        ):
            traced = tf.function(partial(lower, wanted=lambda *_: {"window": tf.zeros(4, tf.int64)}), autograph=False)
            ops = traced.get_concrete_function(tf.TensorSpec((), tf.string)).graph.get_operations()
            search = next(op for op in ops if op.type == "StatelessCase")
            files = [one for op in ops if op.type.endswith("If") for one in op.inputs if one.dtype == tf.string]
            assert files and all(comes_behind(file.op, search) for file in files)


def test_walks_are_bounded() -> None:
    part = e.chunk(b"tEXt", b"")
    for data in (
        JPEG[:2] + b"\xff" * 1_000_000 + in_jpeg(6, "<")[2:],
        JPEG[:2] + segment(b"") * 250_000 + in_jpeg(6, "<")[2:],
        e.png(PIXELS, before=part * 80_000 + e.chunk(b"eXIf", block(entry(6, "<")))),
    ):
        assert orientation(data) == 1
        assert in_graph()(data) == 1


def decoded(backend: str, files: list[bytes], *stages: Stage) -> Pixels:
    """Files through a backend, as one batch."""
    names = [str(k) for k in range(len(files))]
    pipeline = gl.Pipeline(Files(names), *stages, Batch(len(files)))
    numbers = DrawLayout.of(pipeline).prepare(0, 0, np.arange(len(files)))
    plan = make_plan(pipeline, backend, threads=1)
    return np.stack(list(run_plan(plan, Records(files, numbers, names))))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tf", "dali-cpu", "pillow", "native"])
def test_every_backend_turns_them_upright(backend: str) -> None:
    seen = registry.get(backend).availability()
    if not seen.usable:
        pytest.skip(f"{backend}: {seen.detail}; {seen.remedy}")
    files = {key: data for key, data in stating().items() if formats.header(data).kind in TABLES[backend].kinds}
    stored: dict[str, Pixels] = {}
    for (_, value), data in files.items():
        if value == 1:
            head = formats.header(data)
            stored.setdefault(head.kind, decoded(backend, [data], Decode(), CenterCrop((head.height, head.width)))[0])
    uprights = [e.UPRIGHT[value](stored[formats.header(data).kind]) for (_, value), data in files.items()]
    size = (6, 8)
    for margin in (0, 1):  # a window decoded alone, and one of the whole image
        pad, some = ((Pad(margin),), slice(0, None, 3)) if margin else ((), slice(None))
        found = decoded(backend, list(files.values())[some], Decode(exif=True), *pad, CenterCrop(size))
        for key, upright, image in zip(list(files)[some], uprights[some], found, strict=True):
            top, left = (
                round((side + 2 * margin - least) / 2) - margin
                for side, least in zip(upright.shape, size, strict=False)
            )
            assert (image == upright[top : top + size[0], left : left + size[1]]).all(), (key, margin)


@pytest.mark.slow
@pytest.mark.parametrize("backend", [pytest.param("tf", marks=pytest.mark.long), "pillow"])
def test_what_is_too_small_is_told_by_the_upright_size(backend: str, tmp_path: Any) -> None:
    (tmp_path / "a.png").write_bytes(in_png(6, "<"))
    (image,) = decoded(backend, [in_png(6, "<")], Decode(exif=True), CenterCrop((10, 16)))
    assert (image == e.UPRIGHT[6](PIXELS)).all()
    tall = gl.Pipeline(Files([tmp_path / "a.png"]), Decode(exif=True), gl.RandomCrop((16, 10)), Batch(1))
    with pytest.raises(RecordError, match="10×16"):
        list(gl.load(tall, backend, epochs=1))
