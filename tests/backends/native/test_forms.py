"""The forms in which files are kept between epochs: always the pixels of the file, in every window; hostile bytes."""

from __future__ import annotations

import functools
import io
import struct
from pathlib import Path
from typing import Any

import encoders
import numpy as np
import odd_jpegs
import pytest
import simd
from conformance import pixels
from damage import KINDS, damaged, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from subsampled import LUMA, odd

from greenload.backends.native import library
from greenload.backends.native.abi import Flag, Form, KernelStep, Op, Status
from greenload.backends.native.library import Program, transcode
from greenload.sources import formats

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

ROOT = Path(__file__).parents[3]
NONE = np.empty((1, 0))
KEPT = (Form.TRANSCODED, Form.PLANES, Form.PIXELS, Form.COEFFICIENTS)
PACKED = (Form.PLANES, Form.COEFFICIENTS)
SIZES = (
    (1, 1),
    (1, 40),
    (40, 1),
    (2, 2),
    (3, 4),
    (5, 5),
    (8, 6),
    (16, 16),
    (17, 33),
    (20, 36),
    (101, 75),
    (64, 256),
    (130, 203),
)


@functools.cache
def kept(data: bytes, form: Form) -> bytes:
    return transcode(data, form)


def decoded(data: bytes) -> Any:
    """All of a file's pixels."""
    height, width = library.probe([data], False, 1 << 40, kept=True)[0, 1:]
    out = np.empty((height, width, 3), np.uint8)
    assert not Program([KernelStep(Op.DECODE)], 0).run([data], NONE, [out])
    return out


def cut(data: bytes, window: tuple[int, int, int, int]) -> Any:
    """A window, and nothing written behind it."""
    guard = np.full(window[2] * window[3] * 3 + 64, 0xA5, np.uint8)
    out = guard[:-64].reshape(window[2], window[3], 3)
    step = KernelStep(Op.DECODE, Flag.WINDOW, 0)
    failed = Program([step], 4).run([data], np.array([window], np.float64), [out])
    assert not failed, failed
    assert (guard[-64:] == 0xA5).all(), "it wrote behind the result"
    return out


def by_pillow(data: bytes) -> Any:
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(io.BytesIO(data)).convert("RGB"))


def windows(height: int, width: int, random: np.random.Generator, count: int) -> list[tuple[int, int, int, int]]:
    """Corners, borders, one pixel, everything, and random ones."""
    chosen = [(0, 0, height, width), (0, 0, 1, 1), (height - 1, width - 1, 1, 1), (0, width - 1, height, 1)]
    chosen += [(height - 1, 0, 1, width), (height // 2, width // 2, 1, 1)]
    for _ in range(count):
        top, left = int(random.integers(height)), int(random.integers(width))
        chosen.append((top, left, int(random.integers(1, height - top + 1)), int(random.integers(1, width - left + 1))))
    return chosen


@pytest.mark.parametrize("form", KEPT, ids=lambda form: form.name)
@pytest.mark.parametrize("kind", [*LUMA, "grey"])
def test_every_window_of_every_form_has_the_files_pixels(kind: str, form: Form) -> None:
    random = np.random.default_rng(0)
    for height, width in SIZES:
        for progressive in (False, True):
            data = odd(kind, height, width, progressive)
            expected, blob = decoded(data), kept(data, form)
            assert library.probe([blob], True, 1 << 40, kept=True).tolist() == [[1, height, width]]
            assert np.array_equal(decoded(blob), expected)
            for window in windows(height, width, random, 25):
                top, left, rows, columns = window
                part = cut(blob, window)
                assert np.array_equal(part, expected[top : top + rows, left : left + columns]), (height, width, window)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=300, deadline=None)
def test_any_window_of_any_form_has_the_files_pixels(data: st.DataObject) -> None:
    file = odd(data.draw(st.sampled_from(sorted(LUMA))), *data.draw(st.sampled_from(SIZES)))
    expected = decoded(file)
    top = data.draw(st.integers(0, expected.shape[0] - 1))
    left = data.draw(st.integers(0, expected.shape[1] - 1))
    rows = data.draw(st.integers(1, expected.shape[0] - top))
    columns = data.draw(st.integers(1, expected.shape[1] - left))
    for form in KEPT:
        part = cut(kept(file, form), (top, left, rows, columns))
        assert np.array_equal(part, expected[top : top + rows, left : left + columns])


def test_whole_programs_give_the_same_from_every_form() -> None:
    random = np.random.default_rng(2)
    for kind in LUMA:
        data = odd(kind, 130, 203)
        for flag in (Flag.NONE, Flag.ANTIALIAS):
            steps = [
                KernelStep(Op.DECODE, Flag.WINDOW, 0),
                KernelStep(Op.RESIZE, flag, height=48, width=56),
                KernelStep(Op.CROP, column=5),
                KernelStep(Op.FLIP, column=4),
                KernelStep(Op.AFFINE, dtype_out="float32", numbers=(0.02, -1.5)),
            ]
            program = Program(steps, 9)
            for window in windows(130, 203, random, 15):
                params = np.array([[*window, random.integers(2), 3, 5, 40, 32]], np.float64)
                results = np.empty((len(Form), 1, 40, 32, 3), np.float32)
                for form, out in zip(Form, results, strict=True):
                    assert not program.run([kept(data, form)], params, out)
                assert all(np.array_equal(result, results[0]) for result in results[1:]), window


def test_planes_have_every_colour_that_libjpeg_makes() -> None:
    blue, red = (plane.astype(np.uint8) for plane in np.meshgrid(np.arange(256), np.arange(256)))
    b, r = blue.astype(np.int64) - 128, red.astype(np.int64) - 128
    fix = lambda number: int(number * 65536 + 0.5)  # noqa: E731
    for level in range(0, 256, 5):
        luma = np.full_like(blue, level)
        header = struct.pack("<4sBBBBII16x", b"GLYC", 1, 3, 1, 1, 256, 256)
        made = decoded(header + luma.tobytes() + blue.tobytes() + red.tobytes() + bytes(64))
        expected = [
            level + (fix(1.402) * r + 32768 >> 16),
            level + (-fix(0.34414) * b - fix(0.71414) * r + 32768 >> 16),
            level + (fix(1.772) * b + 32768 >> 16),
        ]
        assert np.array_equal(made, np.clip(np.stack(expected, -1), 0, 255))


def test_a_transcoded_file_is_a_plain_jpeg_to_others() -> None:
    for kind in [*LUMA, "grey"]:
        for progressive in (False, True):
            data = odd(kind, 130, 203, progressive)
            blob = kept(data, Form.TRANSCODED)
            assert blob[:4] == b"\xff\xd8\xff\xe9" and blob[6:12] == b"GLIDX1"
            assert library.probe([blob], True, 1 << 30).tolist() == [[1, 130, 203]]
            head = formats.header(blob)
            assert (head.height, head.width, head.kind) == (130, 203, "JPEG")
            assert np.array_equal(by_pillow(blob), by_pillow(data))
            assert transcode(blob, Form.TRANSCODED) == blob, "again"


def test_the_interval_divides_a_row_into_about_eight_segments() -> None:
    for width, per_row in ((1024, 8), (1008, 9), (16 * 31, 1), (16 * 24, 8), (16 * 11, 11), (9, 1)):
        blob = kept(odd("4:2:0", 40, width), Form.TRANSCODED)
        interval, across, rows = struct.unpack("<HHH", blob[18:24])
        assert (across, rows) == (per_row, 3)
        assert interval * across == -(-width // 16)


def test_transcoding_keeps_what_applications_wrote() -> None:
    data = encoders.with_exif(odd("4:2:0", 101, 75), 6)
    blob = transcode(data, Form.TRANSCODED)
    assert formats.orientation(blob) == 6
    assert library.probe([blob], True, 1 << 30)[0, 0] == 0
    assert library.probe([blob], False, 1 << 30)[0, 0] == 1
    window = (30, 20, 40, 33)
    assert np.array_equal(cut(blob, window), decoded(data)[30:70, 20:53])


def test_what_planes_and_coefficients_cannot_hold_is_refused_with_a_reason() -> None:
    image = pixels(40, 50, "noise")
    cases = {
        "YCbCr": odd_jpegs.jpeg(image, adobe=0),
        "sampled": odd_jpegs.jpeg(image, sampling=((4, 1), (1, 1), (1, 1)), jfif=True),
        "plain": encoders.kept("cmyk.jpg"),
        "plain JPEG": encoders.png(image),
    }
    for reason, data in cases.items():
        for form in PACKED:
            with pytest.raises(ValueError, match=reason):
                transcode(data, form)
    for data in (b"", b"\xff\xd8\xff", odd("4:4:4", 16, 16)[:-2], b"GLYC", b"GLDC"):
        for form in KEPT if data else Form:
            with pytest.raises(ValueError, match=r"plain|planes|coefficients|empty"):
                transcode(data, form)
    other = cases["YCbCr"]
    for form in (Form.TRANSCODED, Form.PIXELS):
        assert np.array_equal(decoded(transcode(other, form)), decoded(other))
    with pytest.raises(ValueError, match="baseline"):
        transcode(odd_jpegs.jpeg(image, wide=True, jfif=True), Form.TRANSCODED)


def test_what_is_kept_is_plain_only_where_it_was_asked_for() -> None:
    data = odd("4:2:0", 40, 50)
    for form in (*PACKED, Form.PIXELS):
        blob = kept(data, form)
        assert library.probe([blob], True, 1 << 30)[0, 0] == 0
        assert library.probe([blob], True, 1, kept=True)[0, 0] == 1  # it was small enough when it was kept
        assert library.probe([data], True, 40 * 50 * 11, kept=True)[0, 0] == 1
        assert library.probe([data], True, 40 * 50 * 11 - 1, kept=True)[0, 0] == 0


def test_damaged_forms_never_crash_and_what_is_not_whole_is_refused() -> None:
    random, program = np.random.default_rng(5), Program([KernelStep(Op.DECODE, Flag.WINDOW, 0)], 4)
    data = odd("4:2:0", 101, 75)
    expected, refused = decoded(data)[20:80, 10:60], 0
    for form in KEPT:
        blob = kept(data, form)
        for index in range(400):
            harm = list(KINDS)[index % len(KINDS)]
            bad = KINDS[harm](blob, random)
            out = np.empty((60, 50, 3), np.uint8)
            failed = program.run([bad], np.array([[20.0, 10, 60, 50]]), [out])
            refused += bool(failed)
            assert not failed or failed[0][1], (form, harm)
            if form in PACKED and len(bad) != len(blob):
                assert failed
    assert refused > 300
    for form in PACKED:
        blob = kept(data, form)
        for size in (0, 3, 31, 32, 450, len(blob) - 1):
            assert program.run([blob[:size]], np.array([[0.0, 0, 1, 1]]), [out])[0][0] == Status.BAD_FILE
    assert np.array_equal(cut(kept(data, Form.TRANSCODED), (20, 10, 60, 50)), expected)


def test_rows_of_coefficients_that_end_early_are_refused() -> None:
    blob, program = kept(odd("4:2:0", 101, 75), Form.COEFFICIENTS), Program([KernelStep(Op.DECODE)], 0)
    index, rows = 32 + 3 * 128, 13 + 2 * 7
    begins = struct.unpack_from(f"<{rows + 1}I", blob, index)
    assert begins[-1] == len(blob) - 192
    for row in range(rows):  # is left without a block: it ends where it begins, or the last begins where it ends
        for each in (0, 2) if row + 1 < rows else (0,):  # bytes that are left of each block
            moved = list(begins)
            kept_bytes = each * (10 if row < 13 else 5)
            moved[min(row + 1, rows - 1)] = begins[row] + kept_bytes if row + 1 < rows else begins[rows]
            bad = blob[:index] + struct.pack(f"<{rows + 1}I", *moved) + blob[index + 4 * (rows + 1) :]
            ((status, reason),) = program.run([bad], NONE, [np.empty((101, 75, 3), np.uint8)]).values()
            assert status == Status.BAD_FILE and "aren't whole" in reason, row


def test_an_index_that_does_not_belong_to_its_jpeg_is_not_used() -> None:
    data, other = odd("4:2:0", 130, 203), odd("4:2:0", 130, 203, True)
    blob, later = kept(data, Form.TRANSCODED), kept(odd("4:2:2", 130, 203), Form.TRANSCODED)
    index = 4 + struct.unpack(">H", blob[4:6])[0]
    assert other != data
    window = (50, 60, 30, 40)
    expected = decoded(data)[50:80, 60:100]
    for at in range(12, index):  # any bit of it: the file is read as a plain JPEG
        bad = bytearray(blob)
        bad[at] ^= 1 << at % 8
        assert np.array_equal(cut(bytes(bad), window), expected)
    swapped = later[: 4 + struct.unpack(">H", later[4:6])[0]] + blob[index:]
    assert np.array_equal(cut(swapped, window), expected)


def segments_of(blob: bytes) -> tuple[int, list[int], list[bytes]]:
    """Where a transcoded file's index of lengths begins, the lengths, and the segments."""
    count = len(range(26, 4 + struct.unpack(">H", blob[4:6])[0], 2))
    lengths = list(struct.unpack_from(f"<{count}H", blob, 26))
    at = len(blob) - sum(lengths) - 2 * count
    parts = []
    for length in lengths:
        parts.append(blob[at : at + length])
        at += length + 2
    return 26, lengths, parts


def joined(blob: bytes, parts: list[bytes]) -> bytes:
    """A transcoded file with other segments, its index as it was."""
    start = len(blob) - sum(len(part) + 2 for part in parts)
    ends = [bytes([0xFF, 0xD0 + index % 8]) for index in range(len(parts) - 1)] + [b"\xff\xd9"]
    return blob[:start] + b"".join(part + end for part, end in zip(parts, ends, strict=True))


def test_an_index_of_segments_that_were_moved_is_not_used() -> None:
    blob = kept(odd("4:2:0", 130, 256), Form.TRANSCODED)
    _, lengths, parts = segments_of(blob)
    assert len(set(lengths)) > 8 and joined(blob, parts) == blob
    candidates = ((0, 1), (1, 2), (2, 3), (17, 19), (9, 30), (17, 60), (0, len(parts) - 1))
    pairs = [(i, j) for i, j in candidates if lengths[i] != lengths[j]]
    assert len(pairs) > 4
    for first, second in pairs:
        moved = parts.copy()
        moved[first], moved[second] = parts[second], parts[first]
        other = joined(blob, moved)
        assert other != blob and len(other) == len(blob)
        expected = decoded(other)
        for window in windows(130, 256, np.random.default_rng(first), 30):
            top, left, rows, columns = window
            assert np.array_equal(cut(other, window), expected[top : top + rows, left : left + columns])


def test_an_index_that_takes_eight_segments_for_one_is_not_used() -> None:
    """Its restart markers have the right numbers: its checksum doesn't hold."""
    blob = kept(odd("4:2:0", 130, 256), Form.TRANSCODED)
    at, lengths, _ = segments_of(blob)
    merged = [sum(lengths[:9]) + 16, *lengths[9:]]
    merged[-1:] = [1] * 8 + [lengths[-1] - 8 * 3]
    assert len(merged) == len(lengths) and sum(merged) == sum(lengths)
    bad = blob[:at] + struct.pack(f"<{len(merged)}H", *merged) + blob[at + 2 * len(merged) :]
    window = (20, 3, 20, 70)
    assert np.array_equal(cut(bad, window), decoded(blob)[20:40, 3:73])


@pytest.mark.slow
def test_damaged_files_in_every_form_are_refused_or_give_their_pixels() -> None:
    made = 0
    for index in range(400):
        data = damaged(11, index).data
        if not library.probe([data], False, 1 << 28)[0, 0]:
            continue
        for form in KEPT:
            try:
                blob = transcode(data, form)
            except ValueError as error:
                assert str(error)
                continue
            assert np.array_equal(decoded(blob), decoded(data))
            made += 1
    assert made > 30


@pytest.mark.slow
def test_every_kept_file_of_the_suite_has_its_pixels_in_every_form() -> None:
    for name, data in whole().items():
        if library.probe([data], False, 1 << 28)[0, 0]:
            for form in KEPT:
                assert np.array_equal(decoded(transcode(data, form)), decoded(data)), (name, form)


@pytest.mark.slow
def test_the_portable_loops_and_avx2s_give_the_same_bits() -> None:
    simd.check_same_bits("""
import odd_jpegs
program = Program([KernelStep(Op.DECODE, Flag.WINDOW, 0)], 4)
for luma in ((1, 1), (2, 1), (1, 2), (2, 2)):
    for height, width in ((40, 70), (9, 5), (77, 131)):
        planes = random.integers(0, 256, (height, width, 3), np.uint8)
        file = odd_jpegs.jpeg(planes, sampling=(luma, (1, 1), (1, 1)), jfif=True)
        for form in Form:
            blob = transcode(file, form)
            digest.update(blob)
            for _ in range(20):
                top, left = int(random.integers(height)), int(random.integers(width))
                rows, columns = int(random.integers(1, height - top + 1)), int(random.integers(1, width - left + 1))
                out = np.empty((rows, columns, 3), np.uint8)
                assert not program.run([blob], np.array([[top, left, rows, columns]], np.float64), [out])
                digest.update(out.tobytes())
""")
