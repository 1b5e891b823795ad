"""TIFFs of which a strip is broken: DALI's decoder leaves the rest of it black without a word, so each is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import encoders as e
import numpy as np
import pytest

import greenload as gl
from greenload.backends.base import Records
from greenload.backends.chain import run_plan
from greenload.backends.readers import Foreign
from greenload.backends.registry import make_readers
from greenload.errors import RecordError
from greenload.loading.verify import verify
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.sources import Files, formats
from greenload.sources.formats import FormatError, tiff
from greenload.sources.formats.strips import check_strips
from greenload.stages import Batch, CenterCrop, Decode, Resize, Stage

RAW, LZW, DEFLATE, PACK_BITS = 1, 5, 8, 32773
COMPRESSED = (LZW, DEFLATE, PACK_BITS)


def picture(kind: str, height: int = 60, width: int = 50, channels: int = 3) -> np.ndarray[Any, Any]:
    random = e.pixels(height, width, channels).astype(np.int64)
    rows = np.arange(height)[:, None, None] + np.arange(width)[None, :, None] + np.zeros(channels, np.int64)
    return {"random": random, "few levels": random // 86 * 80, "smooth": rows, "black": random * 0}[kind]


def strip_of(data: bytes, number: int) -> tuple[int, int]:
    """Where it begins, and its bytes."""
    found = tiff.layout(data)
    return found.starts[number], found.counts[number]


def cut(data: bytes, number: int) -> bytes:
    """With zeros for the second half of a strip."""
    start, count = strip_of(data, number)
    half = start + count // 2
    return data[:half] + bytes(start + count - half) + data[start + count :]


def shortened(data: bytes, number: int, count: int) -> bytes:
    """A file of several strips whose directory says that one has fewer bytes."""
    entries = tiff.entries(data)
    (at,) = entries["value"][entries["tag"] == 279]
    file = bytearray(data)
    struct.pack_into("<I", file, int(at) + 4 * number, count)
    return bytes(file)


@pytest.mark.parametrize("compression", [RAW, *COMPRESSED])
def test_whole_files_pass_and_a_strip_that_lacks_a_byte_doesnt(compression: int) -> None:
    for kind in ("random", "few levels", "smooth", "black"):
        for height, width, channels in ((60, 50, 3), (1, 1, 1), (200, 90, 1)):
            for strips in (1, 3):
                data = e.tiff(picture(kind, height, width, channels), compression=compression, strips=strips)
                formats.header(data)
                check_strips(data)
        data = e.tiff(picture(kind), compression=compression, strips=3)
        _, count = strip_of(data, 1)
        # Behind the pixels comes a code that ends them in LZW.
        with pytest.raises(FormatError, match=r"broken TIFF: strip 1 doesn't hold its 20 rows of 150 bytes"):
            check_strips(shortened(data, 1, count - (3 if compression == LZW else 1)))
        with pytest.raises(FormatError, match="broken TIFF: its strips hold 57 of 60 rows"):
            check_strips(data.replace(struct.pack("<HHII", 278, 4, 1, 20), struct.pack("<HHII", 278, 4, 1, 19)))


def test_a_strip_without_compression_needs_no_length_where_it_is_the_only_one() -> None:
    data = e.tiff(picture("random"))
    _, count = strip_of(data, 0)
    check_strips(data.replace(struct.pack("<HHII", 279, 4, 1, count), struct.pack("<HHII", 279, 4, 1, 5)))


@pytest.mark.parametrize("compression", [RAW, *COMPRESSED])
def test_the_last_strip_may_be_filled_up_to_the_rows_of_the_others(compression: int) -> None:
    data = e.tiff(picture("random"), compression=compression, strips=3)
    check_strips(data.replace(struct.pack("<HHII", 257, 4, 1, 60), struct.pack("<HHII", 257, 4, 1, 41)))


def test_any_flipped_bit_of_a_deflated_strip_is_seen() -> None:
    data = e.tiff(picture("few levels"), compression=DEFLATE, strips=2)
    start, count = strip_of(data, 1)
    for place in range(start, start + count, 7):
        file = bytearray(data)
        file[place] ^= 4
        if place != start + 1:  # how much it was tried to compress it, in part
            with pytest.raises(FormatError, match="broken TIFF: strip 1"):
                check_strips(bytes(file))


def test_checking_is_bounded_by_the_file_and_what_its_header_promises() -> None:
    bomb = e.tiff(np.zeros((3000, 3000, 1), np.uint8), compression=DEFLATE)
    small = bytearray(bomb)
    for tag, value in ((256, 10), (257, 10), (278, 10)):
        at = bytes(small).index(struct.pack("<HHI", tag, 4, 1)) + 8
        struct.pack_into("<I", small, at, value)
    with pytest.raises(FormatError, match="broken TIFF: strip 0"):
        check_strips(bytes(small))  # inflates 200 bytes of 9 million
    clears = e.tiff(picture("black", 99, 99, 1), compression=LZW)
    start, _ = strip_of(clears, 0)
    cleared = int("100000000" * 8, 2).to_bytes(9, "big") * 30_000
    entries = struct.pack("<HHII", 279, 4, 1, len(cleared))
    old = struct.pack("<HHII", 279, 4, 1, strip_of(clears, 0)[1])
    check_strips(clears[:start].replace(old, entries) + cleared)  # not looked at wholly


SHAPES: tuple[tuple[Stage, ...], ...] = ((Decode(), CenterCrop(8)), (Decode(), Resize((8, 8))))


def test_a_broken_strip_is_refused_by_name_on_dali() -> None:
    pytest.importorskip("nvidia.dali")
    from greenload.backends.dali.decoder import DaliDecoder

    image = picture("few levels")
    for compression in COMPRESSED:
        good = e.tiff(image, compression=compression, strips=3)
        decoder = DaliDecoder()
        np.testing.assert_array_equal(decoder.pixels(good, "TIFF"), image)
        broken = cut(good, 2)
        assert (decoder.pixels(broken, "TIFF") != image).any()  # why it must be checked
        for stages in SHAPES:
            plan = make_plan(gl.Pipeline(Files(["a", "b"]), *stages, Batch(2)), "dali-cpu", threads=1)
            numbers = DrawLayout.of(plan.pipeline).prepare(0, 0, np.arange(2))
            run_plan(plan, Records([good, good], numbers, ["a", "b"]))
            with pytest.raises(RecordError, match=r"b: broken TIFF: strip 2 doesn't hold its 20 rows"):
                run_plan(plan, Records([good, broken], numbers, ["a", "b"]))


@pytest.mark.slow
def test_a_broken_strip_is_named_by_verification_and_where_dali_decodes_for_others(tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")
    pytest.importorskip("tensorflow")
    for compression in COMPRESSED:
        good = e.tiff(picture("few levels"), compression=compression, strips=3)
        (tmp_path / f"{compression}.tif").write_bytes(cut(good, 2))
    (tmp_path / "good.tif").write_bytes(good)
    source = Files(sorted(tmp_path.iterdir()))
    bad = verify(source, readers={"TIFF": "dali-cpu"}, remember=False)
    assert bad.bad_indices == (0, 1, 2)
    assert all("broken TIFF: strip 2" in error.reason for error in bad.bad)
    files = [Foreign(data, formats.header(data)) for data in map(source.read, range(4)) if isinstance(data, bytes)]
    made = make_readers({"TIFF": "dali-cpu"}, 1).as_pngs(files)
    assert [isinstance(one, FormatError) for one in made] == [True, True, True, False]
