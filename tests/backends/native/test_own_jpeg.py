"""The kernel's own decoder of JPEGs: libjpeg's pixels in every window; what is unusual or damaged is libjpeg's."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import odd_jpegs
import pytest
from conformance import pixels
from hypothesis import given, settings
from hypothesis import strategies as st

from greenload.backends.native import library
from greenload.backends.native.abi import Flag, KernelStep, Op
from greenload.backends.native.library import Program

Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

ROOT = Path(__file__).parents[3]
ON = not library.why_missing() and (os.environ.get("GREENLOAD_NATIVE_JPEG") == "own" or library.has_vectors())
"""Whether the kernel decodes usual files by itself; else libjpeg does, and what it gives is looked at all the same."""
Window = tuple[int, int, int, int]
SAMPLINGS = ((1, 1), (2, 1), (1, 2), (2, 2))
PROGRESSIVE = 0xC2


def whole(data: bytes) -> Any:
    """A file's pixels, by Pillow."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def decode(data: bytes, window: Window) -> Any:
    """A window's pixels, or why there are none."""
    out = np.empty((*window[2:], 3), np.uint8)
    program = Program([KernelStep(Op.DECODE, Flag.WINDOW, 0)], 4)
    failed = program.run([data], np.array([window], np.float64), [out])
    return failed[0][1] if failed else out


def windows(height: int, width: int, count: int, seed: int = 0) -> Iterator[Window]:
    """The whole, edges, and others."""
    random = np.random.default_rng([height, width, seed])
    yield 0, 0, height, width
    yield height - 1, width - 1, 1, 1
    for _ in range(count):
        top, left = int(random.integers(height)), int(random.integers(width))
        yield top, left, int(random.integers(1, height - top + 1)), int(random.integers(1, width - left + 1))


def check(data: bytes, count: int = 6, *, own: bool = True) -> None:
    """Every window is the whole's, cut out; which decoder made it."""
    expected = whole(data)
    for window in windows(*expected.shape[:2], count):
        before = library.jpegs()
        top, left, height, width = window
        result = decode(data, window)
        assert np.array_equal(result, expected[top : top + height, left : left + width]), (window, result)
        taken = tuple(np.subtract(library.jpegs(), before))
        assert taken == ((1, 0) if own and ON else (0, 1)), window


def saved(image: Any, **options: Any) -> bytes:
    """A JPEG by Pillow."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("scans", ["sequential", "progressive", "spectral"])
@pytest.mark.parametrize("luma", SAMPLINGS, ids=str)
def test_small_images_of_every_size(luma: tuple[int, int], scans: str) -> None:
    chosen: Any = {"sequential": (), "progressive": odd_jpegs.progressive(3), "spectral": odd_jpegs.spectral(3)}[scans]
    random = np.random.default_rng(sum(luma))
    sizes = [(n, int(random.integers(1, 41))) for n in range(1, 41)] + [(int(random.integers(1, 41)), 1), (17, 2)]
    for index, (height, width) in enumerate(sizes):
        data = odd_jpegs.jpeg(
            pixels(height, width, "photo", seed=index),
            sampling=(luma, (1, 1), (1, 1)),
            frame=PROGRESSIVE if chosen else 0xC0,
            scans=chosen,
            restart=index % 4,
            wide=index % 5 == 0,
            fill=index % 3 % 2,
        )
        # Fill bytes behind a scan's data are unusual.
        check(data, 3, own=not index % 3 % 2)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2, "grey"], ids=str)
def test_photographs_as_encoders_write_them(subsampling: Any, progressive: bool) -> None:
    photo = pixels(203, 155, "photo")
    photo = photo[..., 0] if subsampling == "grey" else photo
    layout = {} if subsampling == "grey" else {"subsampling": subsampling}
    for quality in (5, 50, 75, 92):
        for options in ({}, {"optimize": True}, {"restart_marker_blocks": 7}, {"restart_marker_rows": 1}):
            check(saved(photo, quality=quality, progressive=progressive, **layout, **options), 8)
    noise = pixels(120, 90, "noise")
    check(saved(noise[..., 0] if subsampling == "grey" else noise, quality=95, **layout))


def test_extreme_coefficients() -> None:
    random = np.random.default_rng(0)
    for largest in (3, 200, 2000, 32767):
        blocks = random.integers(-largest, largest + 1, (5, 6, 64)) * (random.random((5, 6, 64)) < 0.3)
        for steps in (np.ones(64, int), np.full(64, 255), random.integers(1, 65536, 64)):
            check(odd_jpegs.coded(blocks, steps))


def test_grey_images_of_any_sampling() -> None:
    for sampling in ((1, 1), (2, 2), (2, 1), (1, 4)):
        for scans in ((), odd_jpegs.progressive(1)):
            data = odd_jpegs.jpeg(
                pixels(37, 51, "photo")[..., :1],
                sampling=(sampling,),
                frame=PROGRESSIVE if scans else 0xC0,
                scans=scans,
            )
            check(data)


UNUSUAL: dict[str, dict[str, Any]] = {
    "not interleaved": {"scans": odd_jpegs.apart(3)},
    "RGB": {"adobe": 0},
    "RGB by its components": {"identifiers": (82, 71, 66)},
    "4:1:1": {"sampling": ((4, 1), (1, 1), (1, 1))},
    "luma is coarse": {"sampling": ((1, 1), (2, 2), (2, 2))},
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_what_is_unusual_is_libjpegs(kind: str) -> None:
    check(odd_jpegs.jpeg(pixels(40, 52, "photo"), **UNUSUAL[kind]), own=False)


@pytest.mark.skipif(not ON, reason="libjpeg decodes them")
def test_rows_that_restart_markers_allow_to_jump_over_are_not_decoded() -> None:
    data = bytearray(saved(pixels(200, 160, "noise"), restart_marker_rows=1, quality=95))
    expected = whole(bytes(data))
    begin = data.index(b"\xff\xd1") + 2  # the third row of MCUs
    data[begin : begin + 40] = b"\x12" * 40
    assert np.array_equal(decode(bytes(data), (100, 8, 40, 60)), expected[100:140, 8:68])
    assert isinstance(decode(bytes(data), (30, 8, 40, 60)), str)
    data[begin - 1] = 0xD3
    assert "marker" in decode(bytes(data), (100, 8, 40, 60)) or "resync" in decode(bytes(data), (100, 8, 40, 60))


NO_DC_CODE = [[(1, 0)], [(1, 0), (2, 1)]]  # of bits that begin with 1
BAD_CODES = {
    "DC": odd_jpegs.by_hand(64, 64, [[(1, 0)], [(1, 1), (2, 0)]], [("010" + "10" * 63, 0, 63, 0, 0)]),
    "DC of a progressive one": odd_jpegs.by_hand(
        64, 64, NO_DC_CODE, [("0" * 8 + "1" * 8, 0, 0, 0, 0), ("0" * 64, 1, 63, 0, 0)], PROGRESSIVE
    ),
    "DC in the last bits": odd_jpegs.by_hand(
        64, 64, NO_DC_CODE, [("0" * 57 + "1" * 7, 0, 0, 0, 0), ("0" * 64, 1, 63, 0, 0)], PROGRESSIVE
    ),
    # A run of 16 zeros, and behind it a symbol that is none: both fit into one look-up.
    "AC behind a run": odd_jpegs.by_hand(
        8,
        64,
        [[(1, 0)], [(1, 0xF0), (2, 0x10), (3, 0x01), (4, 0xE1), (5, 0)]],
        [("0" + "1101" * 62 + "0" + "10" + "0" * 300, 0, 63, 0, 0)],
    ),
}


@pytest.mark.parametrize("kind", BAD_CODES)
def test_a_code_that_is_none_is_refused(kind: str) -> None:
    height = 8 if kind == "AC behind a run" else 64
    assert isinstance(decode(BAD_CODES[kind], (0, 0, height, 64)), str)


LIBJPEG = """
import pickle, sys
sys.path.insert(0, "tests/backends/native")
from test_own_jpeg import decode
while True:
    pickle.dump(decode(*pickle.load(sys.stdin.buffer)), sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


@pytest.fixture(scope="module")
def by_libjpeg() -> Iterator[Any]:
    """`decode` in a process that has libjpeg decode everything."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    environment = {**os.environ, "GREENLOAD_NATIVE_JPEG": "libjpeg", "PYTHONPATH": paths}
    command = [sys.executable, "-c", LIBJPEG]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout

        def ask(data: bytes, window: Window) -> Any:
            pickle.dump((data, window), process.stdin)
            process.stdin.flush()
            return pickle.load(process.stdout)

        yield ask
        process.stdin.close()
        process.terminate()


def sound() -> list[bytes]:
    """Usual files of every kind, small ones."""
    photo = pixels(61, 83, "photo")
    files = [saved(photo, subsampling=s, progressive=p) for s in (0, 1, 2) for p in (False, True)]
    files += [saved(photo[..., 0], progressive=p) for p in (False, True)]
    files += [saved(photo, restart_marker_blocks=3, progressive=p) for p in (False, True)]
    scans = odd_jpegs.progressive(3)
    files += [odd_jpegs.jpeg(photo, sampling=((1, 2), (1, 1), (1, 1)), frame=PROGRESSIVE, scans=scans, restart=5)]
    return files


SOUND = sound()


@settings(max_examples=600, deadline=None)
@given(
    kind=st.integers(0, len(SOUND) - 1),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
    cut=st.one_of(st.none(), st.tuples(st.floats(0, 1), st.integers(1, 9))),
    place=st.one_of(st.just((0, 0, 1, 1)), st.tuples(*[st.floats(0, 1)] * 4)),
)
def test_damage_gives_what_libjpeg_gives(
    by_libjpeg: Any, kind: int, changes: Any, cut: Any, place: tuple[float, ...]
) -> None:
    data = bytearray(SOUND[kind])
    for at, value in changes:
        data[round(at * (len(data) - 1))] = value
    if cut:
        begin = round(cut[0] * (len(data) - 1))
        del data[begin : begin + cut[1]]
    top, left = round(place[0] * 60), round(place[1] * 82)
    window = top, left, 1 + round(place[2] * (60 - top)), 1 + round(place[3] * (82 - left))
    result, expected = decode(bytes(data), window), by_libjpeg(bytes(data), window)
    if isinstance(result, str):
        assert result == expected
    elif not isinstance(expected, str):
        assert np.array_equal(result, expected)
    else:  # only what lies outside the window
        assert window != (0, 0, 61, 83) or tuple(library.probe([bytes(data)], False, 1 << 40)[0, 1:]) != (61, 83)


def test_damage_that_a_window_reaches_is_named_as_libjpeg_names_it(by_libjpeg: Any) -> None:
    random = np.random.default_rng(5)
    named = 0
    for data in SOUND * 8:
        damaged = bytearray(data)
        at = int(random.integers(len(data) // 2, len(data) - 2))
        del damaged[at : at + int(random.integers(1, 30))]
        result, expected = (ask(bytes(damaged), (0, 0, 61, 83)) for ask in (decode, by_libjpeg))
        assert np.array_equal(result, expected)
        named += isinstance(result, str)
    assert named > len(SOUND) * 4


Sent = tuple[int, int, int, int, bytes]
"""A scan: first and last coefficient, the bit before it, the bit that it ends at, and its data."""


def bits(text: str) -> bytes:
    """Bits as a scan's data, filled with ones."""
    text = text.replace(" ", "")
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")


def by_hand(side: int, scans: list[Sent], restart: int = 0) -> bytes:
    """A progressive grey JPEG of which each bit is chosen.

    Its codes: of DC 00, a difference of 0; of the others 00 a block's end, 010 a size of 1, 011 one of 4.
    """

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    file = b"\xff\xd8" + segment(0xDB, bytes([0]) + bytes([40]) * 64)
    file += segment(PROGRESSIVE, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    file += segment(0xC4, bytes([0x00, 0, 1, *[0] * 14, 0])) + segment(0xC4, bytes([0x10, 0, 1, 2, *[0] * 13, 0, 1, 4]))
    file += segment(0xDD, struct.pack(">H", restart))
    for first, last, high, low, data in scans:
        file += segment(0xDA, bytes([1, 1, 0, first, last, high << 4 | low])) + data
    return file + b"\xff\xd9"


FLAT: Sent = (0, 0, 0, 0, bits("00"))
REFINED = bits("00 1")  # a block's end, and a correction of the only coefficient
ODD_SCANS = {
    "a band is sent again": by_hand(
        8, [FLAT, (1, 63, 0, 0, bits("010 1 00")), (1, 63, 0, 1, bits("00")), (1, 63, 1, 0, REFINED)]
    ),
    "a band of less than zero is sent again": by_hand(
        8, [FLAT, (1, 63, 0, 0, bits("010 0 00")), (1, 63, 0, 1, bits("00")), (1, 63, 1, 0, REFINED)]
    ),
    "a coefficient of 17 bits": by_hand(
        8,
        [FLAT, (1, 63, 0, 13, bits("011 1000 00"))] + [(1, 63, low + 1, low, REFINED) for low in range(12, -1, -1)],
    ),
    "a segment too many, and what is none": by_hand(
        16,
        [
            (0, 0, 0, 0, bits("00 00") + b"\xff\xd0" + bits("00 00") + b"\xff\xd1junk"),
            (1, 63, 0, 0, bits("00 00") + b"\xff\xd0" + bits("00 00")),
        ],
        restart=2,
    ),
}


@pytest.mark.parametrize("kind", ODD_SCANS)
def test_odd_scans_of_progressive_files_are_libjpegs(by_libjpeg: Any, kind: str) -> None:
    before = library.jpegs()
    result, expected = (ask(ODD_SCANS[kind], (0, 0, 8, 8)) for ask in (decode, by_libjpeg))
    assert np.array_equal(result, expected), (result, expected)
    assert tuple(np.subtract(library.jpegs(), before)) == (0, 1)


def test_damaged_sides_of_a_file_that_libjpeg_refuses_are_not_the_calls_fault(by_libjpeg: Any) -> None:
    data = bytearray(SOUND[0])
    data[data.index(b"\xff\xc0") + 6] -= 20  # rows
    data[data.index(b"\xff\xda") + 12] = 62  # the last coefficient
    result, expected = (ask(bytes(data), (0, 0, 61, 83)) for ask in (decode, by_libjpeg))
    assert result == expected and "SOS" in result
