"""Smaller JPEGs of what windows need of transcoded ones: any decoder finds the windows' pixels in them."""

from __future__ import annotations

import io
import struct

import encoders
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subsampled import LUMA, odd, transcoded, unindexed

from greenload.backends.native import library
from greenload.backends.native.cut_outs import cut_outs, is_transcoded
from greenload.sources import formats

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

HEIGHT, WIDTH = 130, 203
KINDS = (*LUMA, "grey")


def by_pillow(data: bytes) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(io.BytesIO(data)).convert("RGB"))


@given(st.sampled_from(KINDS), st.data())
@settings(max_examples=150, deadline=None)
def test_another_decoder_finds_the_window_in_what_is_cut_out(kind: str, data: st.DataObject) -> None:
    file = transcoded(kind, HEIGHT, WIDTH)
    top, left = data.draw(st.integers(0, HEIGHT - 1)), data.draw(st.integers(0, WIDTH - 1))
    height, width = data.draw(st.integers(1, HEIGHT - top)), data.draw(st.integers(1, WIDTH - left))
    made = cut_outs([file], np.array([[top, left, height, width]]))
    if not made:  # all of it is needed
        return
    (part,) = made.values()
    head = formats.header(part.file)
    assert len(part.file) < len(file) and (head.height, head.width) != (HEIGHT, WIDTH)
    assert part.top + head.height <= HEIGHT and part.left + head.width <= WIDTH
    assert not is_transcoded(part.file)
    begin = top - part.top, left - part.left
    found = by_pillow(part.file)[begin[0] : begin[0] + height, begin[1] : begin[1] + width]
    assert np.array_equal(found, by_pillow(file)[top : top + height, left : left + width])


def test_a_batch_is_cut_file_by_file() -> None:
    files = [transcoded(kind, HEIGHT, WIDTH) for kind in KINDS]
    windows = np.array([(8 * i, 20 * i, 30, 40) for i in range(len(files))], np.int32)
    together = cut_outs(files, windows)
    assert sorted(together) == list(range(len(files)))
    for index, file in enumerate(files):
        assert cut_outs([file], windows[index : index + 1])[0] == together[index]
    assert cut_outs([], np.empty((0, 4), np.int64)) == {}


def test_no_part_is_so_small_that_its_chroma_is_upsampled_otherwise() -> None:
    """Images that end just behind the last MCU."""
    for kind in LUMA:
        for height, width in ((35, 200), (200, 35), (33, 49)):
            file = transcoded(kind, height, width)
            for window in ((height - 1, 5, 1, 1), (5, width - 1, 1, 1), (height - 1, width - 1, 1, 1)):
                (part,) = cut_outs([file], np.array([window])).values()
                head = formats.header(part.file)
                assert head.height >= 8 and head.width >= 8, (kind, height, width, window)


def test_files_that_cannot_be_cut_stay_whole() -> None:
    file, window = transcoded("4:2:0", HEIGHT, WIDTH), (50, 60, 30, 40)
    assert 0 in cut_outs([file], np.array([window]))
    scan = file.index(b"\xff\xda")
    flipped = bytearray(file)
    flipped[scan - 5] ^= 1  # a Huffman table
    moved = bytearray(file)
    struct.pack_into("<H", moved, 26, struct.unpack_from("<H", moved, 26)[0] - 1)
    whole = {
        "not transcoded": odd("4:2:0", HEIGHT, WIDTH),
        "without an index": unindexed(file),
        "no JPEG": encoders.png(encoders.pixels(40, 50)),
        "nothing": b"",
        "cut off": file[:-1],
        "another header": bytes(flipped),
        "another index": bytes(moved),
    }
    for name, data in whole.items():
        assert cut_outs([data], np.array([window])) == {}, name
    outside = ((0, 0, HEIGHT, WIDTH), (-1, 0, 5, 5), (0, 0, 0, 5), (120, 0, 20, 5), (0, 200, 5, 5), (1 << 40, 0, 5, 5))
    for other in outside:
        assert cut_outs([file], np.array([other])) == {}, other
    mixed = cut_outs([whole["cut off"], file, b"", file], np.array([window] * 3 + [outside[0]]))
    assert list(mixed) == [1]


def test_a_marker_that_is_not_where_the_index_says_keeps_the_file_whole() -> None:
    file = bytearray(transcoded("4:2:0", HEIGHT, WIDTH))
    marker = file.index(b"\xff\xd0", file.index(b"\xff\xda"))
    file[marker + 1] = 0  # a byte of the data now
    assert cut_outs([bytes(file)], np.array([(0, 0, 10, 10)])) == {}
    assert 0 in cut_outs([bytes(file)], np.array([(60, 60, 30, 40)])), "what it ends isn't needed"
