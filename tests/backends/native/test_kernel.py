"""The kernel alone: each step against the float64 reference, decoding against Pillow, hostile files, counters."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import encoders
import numpy as np
import odd_jpegs
import pytest
import simd
from conformance import pixels
from damage import damaged

from greenload.backends.native import abi, library
from greenload.backends.native.abi import Flag, KernelStep, Op, Status
from greenload.backends.native.library import Program
from greenload.sources import formats
from greenload.stages import reference

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

ROOT = Path(__file__).parents[3]
SIZES = ((1, 1), (1, 40), (40, 1), (2, 2), (7, 5), (33, 57), (101, 203), (240, 320))
NONE = np.empty((1, 0))


def run(steps: list[KernelStep], image: Any, shape: tuple[int, int, int], params: Any = ()) -> Any:
    """One image through steps; uint16 stands for bfloat16."""
    row = np.asarray(params, np.float64).reshape(1, -1)
    dtype = {"bfloat16": "uint16"}.get(steps[-1].dtype_out, steps[-1].dtype_out)
    guard = np.full(np.dtype(dtype).itemsize * int(np.prod(shape)) + 64, 0xA5, np.uint8)
    out = guard[:-64].view(dtype).reshape(shape)
    program = Program(steps, row.shape[1])
    for _ in range(2):  # what a thread keeps from image to image makes no difference
        failed = program.run([image], row, [out])
        assert not failed, failed
        assert (guard[-64:] == 0xA5).all(), "it wrote behind the result"
    return out


def levels(result: Any, expected: Any) -> tuple[float, float]:
    """The largest and the mean difference."""
    difference = np.abs(np.asarray(result, np.float64) - np.asarray(expected, np.float64))
    return float(difference.max()), float(difference.mean())


def floats(height: int, width: int, channels: int = 3) -> Any:
    return np.random.default_rng(height * width).random((height, width, channels)).astype(np.float32)


def decoded(data: bytes) -> Any:
    """A file's pixels, by Pillow."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def jpeg(image: Any, **options: Any) -> bytes:
    """A JPEG of an image, by Pillow."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def jpegs() -> dict[str, bytes]:
    """Plain JPEGs of every kind of subsampling, baseline and progressive, grey, with restart markers."""
    pytest.importorskip("PIL")
    photo, small = pixels(203, 155, "photo"), pixels(9, 17, "noise")
    made = {f"{s} {p}": jpeg(photo, subsampling=s, progressive=p, quality=90) for s in (0, 1, 2) for p in (False, True)}
    made |= {f"small {s}": jpeg(small, subsampling=s) for s in (0, 1, 2)}
    made["grey"] = jpeg(photo[..., 0])
    made["restarts"] = jpeg(photo, subsampling=2, restart_marker_blocks=3)
    made["4:4:0"] = jpeg(photo, subsampling="4:4:0") if _has_440() else made["grey"]
    return made


def _has_440() -> bool:
    try:
        jpeg(pixels(8, 8, "noise"), subsampling="4:4:0")
    except (ValueError, KeyError, TypeError):
        return False
    return True


def test_decoding_gives_pillows_pixels_whole_and_in_windows(jpegs: dict[str, bytes]) -> None:
    random = np.random.default_rng(1)
    for name, data in jpegs.items():
        whole = decoded(data)
        height, width = whole.shape[:2]
        assert np.array_equal(run([KernelStep(Op.DECODE)], data, whole.shape), whole), name
        windows = [(0, 0, height, width), (height - 1, width - 1, 1, 1), (0, 0, 1, 1), (height // 2, 0, 1, width)]
        for _ in range(40):
            top, left = int(random.integers(height)), int(random.integers(width))
            rows, columns = int(random.integers(1, height - top + 1)), int(random.integers(1, width - left + 1))
            windows.append((top, left, rows, columns))
        for top, left, rows, columns in windows:
            step = KernelStep(Op.DECODE, Flag.WINDOW, 0)
            result = run([step], data, (rows, columns, 3), (top, left, rows, columns))
            assert np.array_equal(result, whole[top : top + rows, left : left + columns]), (name, top, left)


@pytest.mark.parametrize("kind", ["plain", "window"])
def test_binary_ppm_is_read(kind: str) -> None:
    image = pixels(11, 7, "noise")
    file = b"P6\n7 11\n255\n" + image.tobytes()
    if kind == "plain":
        assert np.array_equal(run([KernelStep(Op.DECODE)], file, image.shape), image)
    else:
        result = run([KernelStep(Op.DECODE, Flag.WINDOW, 0)], file, (4, 3, 3), (2, 1, 4, 3))
        assert np.array_equal(result, image[2:6, 1:4])
    for broken in (file[:-1], b"P6\n7 11\n65535\n", b"P6\n0 11\n255\n", b"P6 7 11 255", b"P6\n99999999999 1\n255\n"):
        out = np.empty((11, 7, 3), np.uint8)
        failed = Program([KernelStep(Op.DECODE)], 0).run([broken], NONE, [out])
        assert failed[0][0] == Status.BAD_FILE and "PPM" in failed[0][1]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("antialias", [False, True])
def test_resize_of_levels_keeps_within_one_of_the_reference(size: tuple[int, int], antialias: bool) -> None:
    flag = Flag.ANTIALIAS if antialias else Flag.NONE
    for kind in ("noise", "photo", "steps"):
        image = pixels(*size, kind)
        for height, width in ((24, 24), (77, 13), (1, 1), (130, 260), (5, 301)):
            expected = reference.resize(image, height, width, antialias)
            for dtype in (image, image[..., :1], np.concatenate([image, image[..., :2]], -1)):
                channels = dtype.shape[-1]
                result = run([KernelStep(Op.RESIZE, flag, 0)], dtype, (height, width, channels), (height, width))
                most, mean = levels(result[..., 0], expected[..., 0])
                # Of few different values, or hard edges, many may lie on a rounding boundary.
                usual = kind != "steps" and min(*size, height, width) > 2
                assert most <= 1 and mean <= (0.05 if usual else 1.0), (kind, height, width, channels)
        same = run([KernelStep(Op.RESIZE, flag, height=size[0], width=size[1])], image, image.shape)
        assert np.array_equal(same, image)


@pytest.mark.slow
def test_resize_that_shrinks_a_lot_keeps_within_one_level_too() -> None:
    for kind in ("noise", "steps"):
        image = pixels(700, 900, kind)
        for height, width in ((3, 4), (40, 5), (5, 500), (21, 27)):
            expected = reference.resize(image, height, width, True)
            result = run([KernelStep(Op.RESIZE, Flag.ANTIALIAS, 0)], image, expected.shape, (height, width))
            assert levels(result, expected)[0] <= 1


@pytest.mark.parametrize("antialias", [False, True])
def test_resize_of_floats_is_that_of_the_reference(antialias: bool) -> None:
    flag = Flag.ANTIALIAS if antialias else Flag.NONE
    for size in SIZES:
        image = floats(*size)
        for height, width in ((24, 24), (77, 13), (1, 1), (130, 260)):
            step = KernelStep(Op.RESIZE, flag, 0, dtype_in="float32", dtype_out="float32")
            expected = reference.resize(image, height, width, antialias)
            assert levels(run([step], image, expected.shape, (height, width)), expected)[0] <= 6e-8


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_flip_beside_a_resize_is_done_by_it(dtype: str) -> None:
    image = pixels(50, 70, "noise") if dtype == "uint8" else floats(50, 70)
    size = KernelStep(Op.RESIZE, Flag.ANTIALIAS, height=24, width=31, dtype_in=dtype, dtype_out=dtype)
    plain = run([size], image, (24, 31, 3))
    flips = [KernelStep(Op.FLIP, column=i, dtype_in=dtype, dtype_out=dtype) for i in range(3)]
    for steps in ([flips[0], size, flips[1]], [flips[0], flips[2], size, flips[1]], [size, flips[0], flips[1]]):
        for row in np.ndindex(2, 2, 2):
            used = [step.column for step in steps if step.op == Op.FLIP]
            mirrored = sum(row[column] for column in used) % 2
            result = run(steps, image, (24, 31, 3), row)
            assert np.array_equal(result, plain[:, ::-1] if mirrored else plain), (steps, row)


@pytest.mark.slow
@pytest.mark.parametrize("antialias", [False, True])
def test_a_crop_behind_a_resize_leaves_out_what_it_cuts_off_and_changes_no_pixel(
    antialias: bool, jpegs: dict[str, bytes]
) -> None:
    random = np.random.default_rng(6)
    for data in (*jpegs.values(), b"P6 155 203 255\n" + pixels(203, 155, "noise").tobytes()):
        tall, wide = (203, 155) if data.startswith(b"P6") else plain(data)[1:]
        for _ in range(12):
            height, width = (int(n) for n in random.integers(1, 260, 2))
            rows, columns = int(random.integers(1, height + 1)), int(random.integers(1, width + 1))
            top, left = int(random.integers(height - rows + 1)), int(random.integers(width - columns + 1))
            size = KernelStep(Op.RESIZE, Flag.ANTIALIAS if antialias else Flag.NONE, height=height, width=width)
            outer = (tall // 3, wide // 4, tall - tall // 2, wide - wide // 3)
            steps = [KernelStep(Op.DECODE), KernelStep(Op.FLIP, column=4), size, KernelStep(Op.FLIP, column=5)]
            steps += [KernelStep(Op.CROP, column=0), KernelStep(Op.FLIP, column=6)]
            if random.integers(2):
                steps[0] = KernelStep(Op.DECODE, Flag.WINDOW, 7)
            flips = random.integers(0, 2, 3)
            resized = run(steps[:4], data, (height, width, 3), [0, 0, 0, 0, *flips, *outer])
            expected = resized[top : top + rows, left : left + columns]
            expected = expected[:, ::-1] if flips[2] else expected
            result = run(steps, data, (rows, columns, 3), [top, left, rows, columns, *flips, *outer])
            assert np.array_equal(result, expected), (tall, wide, height, width, top, left, rows, columns)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_pixels_are_moved_bit_for_bit(dtype: str, channels: int) -> None:
    numpy = {"bfloat16": "uint16"}.get(dtype, dtype)
    image = np.random.default_rng(0).integers(0, 100, (13, 18, channels)).astype(numpy)
    kind: dict[str, Any] = {"dtype_in": dtype, "dtype_out": dtype}

    def check(steps: list[KernelStep], expected: Any, params: Any) -> None:
        assert np.array_equal(run(steps, image, expected.shape, params), expected), steps

    check([KernelStep(Op.CROP, column=0, **kind)], image[2:9, 3:14], (2, 3, 7, 11))
    check([KernelStep(Op.FLIP, column=0, **kind)], image[:, ::-1], (1,))
    check([KernelStep(Op.FLIP, Flag.VERTICAL, 0, **kind)], image[::-1], (1,))
    check([KernelStep(Op.FLIP, column=0, **kind)], image, (0,))
    flips = [KernelStep(Op.FLIP, column=0, **kind), KernelStep(Op.FLIP, Flag.VERTICAL, 0, **kind)]
    crop = KernelStep(Op.CROP, column=1, **kind)
    check([crop, *flips, *flips, flips[0]], image[2:9, 3:14][:, ::-1], (1, 2, 3, 7, 11))
    fill = 1.0 if "float" in dtype else 9.0
    value = np.array(fill).astype(numpy) if dtype != "bfloat16" else np.uint16(0x3F80)
    padded = np.full((20, 25, channels), value)
    padded[4:17, 5:23] = image
    check([KernelStep(Op.PAD, column=0, height=20, width=25, numbers=(fill,), **kind)], padded, (4, 5))
    check([KernelStep(Op.PAD, column=0, numbers=(fill,), **kind)], padded, (4, 5, 20, 25))
    erased = image.copy()
    erased[1:4, 2:9] = value
    for numbers in ((fill,), (fill,) * channels):
        check([KernelStep(Op.ERASE, column=0, numbers=numbers, **kind)], erased, (1, 2, 3, 7))
        check([KernelStep(Op.ERASE, column=0, numbers=numbers, **kind)], image, (0, 0, 0, 0))
    for orientation in range(1, 9):
        turned = image.swapaxes(0, 1) if orientation >= 5 else image
        turned = turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned
        turned = turned[::-1] if orientation in (3, 4, 7, 8) else turned
        check([KernelStep(Op.TURN, column=0, **kind)], turned, (orientation,))


def test_colours_and_tables() -> None:
    random = np.random.default_rng(2)
    table = bytes(random.integers(0, 256, 256, np.uint8))
    for size in SIZES:
        image = pixels(*size, "noise")
        matrix = random.normal(0, 0.7, (3, 4))
        expected = reference.recolor(image, matrix)
        most, mean = levels(run([KernelStep(Op.COLOR, column=0)], image, image.shape, matrix), expected)
        assert most <= 1 and mean <= 5e-3
        kept = KernelStep(Op.COLOR, Flag.MAYBE, 0)
        assert np.array_equal(run([kept], image, image.shape, [*matrix.ravel(), 0]), image)
        looked_up = np.frombuffer(table, np.uint8)[image]
        assert np.array_equal(run([KernelStep(Op.LOOKUP, column=0, table=table)], image, image.shape, [1]), looked_up)
        values = floats(*size)
        step = KernelStep(Op.COLOR, column=0, dtype_in="float32", dtype_out="float32")
        assert levels(run([step], values, values.shape, matrix), reference.recolor(values, matrix))[0] <= 2e-7


@pytest.mark.parametrize("op", [Op.AUTOCONTRAST, Op.EQUALIZE])
def test_tables_of_an_image_are_pillows(op: Op) -> None:
    image_module, image_ops = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageOps")
    change = {Op.AUTOCONTRAST: image_ops.autocontrast, Op.EQUALIZE: image_ops.equalize}[op]
    random = np.random.default_rng(5)
    for channels in (1, 2, 3, 4, 5, 49):
        for height, width in (*SIZES, (1, 1), (1, 15), (3, 16), (2, 17), (1, 510)):
            # Each channel in a range of its own: extremes lie anywhere, in vectors and behind them.
            low = random.integers(0, 200, channels)
            span = random.integers(1, 56, channels)
            image = (low + random.random((height, width, channels)) ** 3 * span).astype(np.uint8)
            planes = [image_module.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(image, 2, 0)]
            mapped = np.stack([np.asarray(change(plane)) for plane in planes], axis=-1)
            program = Program([KernelStep(op, column=0), KernelStep(Op.FLIP, column=0)], 1)
            for drawn, expected in ((1, mapped[:, ::-1]), (0, image)):
                out = np.empty_like(image)
                assert not program.run([image], np.full((1, 1), float(drawn)), [out])
                assert np.array_equal(out, expected), (channels, height, width)
            assert program.counters()[0].images == 1  # the image that wasn't drawn cost nothing


@pytest.mark.parametrize("before", abi.DTYPES)
@pytest.mark.parametrize("after", abi.DTYPES)
@pytest.mark.parametrize("numbers", [(1.0, 0.0), (1 / 255, 0.0), (127 / 255, -3.5), (300.0, 7.0), (1, 2, 3, 4, 5, 6.5)])
def test_affine_rounds_as_the_reference(before: str, after: str, numbers: tuple[float, ...]) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    numpy = {"bfloat16": ml_dtypes.bfloat16}
    random = np.random.default_rng(3)
    bits = random.integers(0, 256, (31, 17, 3 * np.dtype(numpy.get(before, before)).itemsize), np.uint8)
    image = bits.view(numpy.get(before, before))
    if "float" in before:
        image = (random.normal(0, 1.5, image.shape) * random.choice([1e-6, 1e-3, 1, 100], image.shape)).astype(
            image.dtype
        )
    half = len(numbers) // 2
    exact = image.astype(np.float64) * np.array(numbers[:half]) + np.array(numbers[half:])
    expected = reference.as_dtype(exact, after)
    step = KernelStep(Op.AFFINE, dtype_in=before, dtype_out=after, numbers=numbers)
    given = image.view(np.uint16) if before == "bfloat16" else image
    result = run([step], given, image.shape)
    if after == "float32":
        assert (np.abs(result - expected) <= 3e-7 * (np.abs(image.astype(float)) * max(numbers) + 7)).all()
    elif after == "bfloat16":
        assert np.array_equal(result, expected.view(np.uint16))
    else:
        assert np.array_equal(result, expected)


def test_every_value_of_the_small_floats_is_read_and_written_as_numpy_does() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    every = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256, 1)
    for name, dtype in (("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)):
        step = KernelStep(Op.AFFINE, dtype_in=name, dtype_out="float32", numbers=(1.0, 0.0))
        result = run([step], every if name == "bfloat16" else every.view(np.float16), every.shape)
        assert np.array_equal(result, every.view(dtype).astype(np.float32), equal_nan=True)
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    between = (halves[:-1] + halves[1:]) / 2
    near = [halves, between, np.nextafter(between, np.float32(0)), np.nextafter(between, np.float32(1e9))]
    floats32 = np.concatenate([*near, -between, [1e-9, 65519.99, 65520, 65536, -1e30]]).astype(np.float32)
    step = KernelStep(Op.AFFINE, dtype_in="float32", dtype_out="float16", numbers=(1.0, 0.0))
    given = floats32.reshape(-1, 1, 1)
    with np.errstate(over="ignore"):
        assert np.array_equal(run([step], given, given.shape), given.astype(np.float16))
    floats32 = np.random.default_rng(0).integers(0, 1 << 32, (512, 512, 1), np.uint32).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for name, dtype in (("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)):
            step = KernelStep(Op.AFFINE, dtype_in="float32", dtype_out=name, numbers=(1.0, 0.0))
            result = run([step], floats32, floats32.shape).view(dtype).astype(np.float32)
            assert np.array_equal(result, floats32.astype(dtype).astype(np.float32), equal_nan=True)


BLURS = ((5, 5, 1.0), (23, 9, 3.0), (1, 3, 0.1), (7, 1, 1e-300), (41, 33, 9.0), (3, 3, 1e9))


@pytest.mark.slow
def test_warps_and_blurs() -> None:
    random = np.random.default_rng(4)
    for size in SIZES:
        image, values = pixels(*size, "noise"), floats(*size)
        for _ in range(4):
            matrix = random.normal(0, 1, (2, 3)) + np.array([[1, 0, size[1] * 0.1], [0, 1, size[0] * 0.1]])
            step = KernelStep(Op.WARP, column=0, numbers=(7.0,))
            most, mean = levels(run([step], image, image.shape, matrix), reference.warp(image, matrix, 7.0))
            assert most <= 1 and mean <= 1e-3
            step = KernelStep(Op.WARP, column=0, numbers=(0.3,), dtype_in="float32", dtype_out="float32")
            assert levels(run([step], values, values.shape, matrix), reference.warp(values, matrix, 0.3))[0] <= 2e-7
        for rows, columns, sigma in (
            (5, 5, 1.0),
            (23, 9, 3.0),
            (1, 3, 0.1),
            (7, 1, 1e-300),
            (41, 33, 9.0),
            (3, 3, 1e9),
        ):
            step = KernelStep(Op.BLUR, column=0, height=rows, width=columns)
            expected = reference.blur(image, sigma, rows, columns)
            most, mean = levels(run([step], image, image.shape, [sigma]), expected)
            assert most <= 1 and mean <= 0.03, (size, rows, columns, sigma)
            step = KernelStep(Op.BLUR, column=0, height=rows, width=columns, dtype_in="float32", dtype_out="float32")
            expected = reference.blur(values, sigma, rows, columns)
            assert levels(run([step], values, values.shape, [sigma]), expected)[0] <= 2e-7


SAMPLINGS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2), (2, 4), (3, 1), (1, 3))


@pytest.mark.parametrize("luma", SAMPLINGS, ids=str)
def test_every_sampling_gives_pillows_pixels_in_windows(luma: tuple[int, int]) -> None:
    pytest.importorskip("PIL")
    random, count = np.random.default_rng(0), 0
    for chroma in ((1, 1), (2, 1), (1, 2), (2, 2)):
        for scans in ((), odd_jpegs.progressive(3)):
            planes = pixels(75, 91, "photo", seed=count)
            frame = 0xC2 if scans else 0xC0
            data = odd_jpegs.jpeg(planes, sampling=(luma, (1, 1), chroma), frame=frame, scans=scans, jfif=True)
            if not library.probe([data], True, 1 << 30)[0, 0]:
                continue
            try:
                whole = decoded(data)
            except OSError:  # libjpeg refuses more blocks than an MCU may have, and factors that don't divide
                failed = Program([KernelStep(Op.DECODE)], 0).run([data], NONE, [np.empty((75, 91, 3), np.uint8)])
                assert failed[0][0] == Status.BAD_FILE
                continue
            assert np.array_equal(run([KernelStep(Op.DECODE)], data, whole.shape), whole)
            for _ in range(25):
                top, left = int(random.integers(75)), int(random.integers(91))
                rows, columns = int(random.integers(1, 76 - top)), int(random.integers(1, 92 - left))
                step = KernelStep(Op.DECODE, Flag.WINDOW, 0)
                result = run([step], data, (rows, columns, 3), (top, left, rows, columns))
                expected = whole[top : top + rows, left : left + columns]
                assert np.array_equal(result, expected), (luma, chroma, bool(scans), top, left, rows, columns)
            count += 1
    assert count or 3 in luma or set(luma) == {2, 4}


def plain(data: bytes, exif: bool = True, max_bytes: int = 1 << 30) -> tuple[int, int, int]:
    """What the kernel says of a file."""
    is_plain, height, width = library.probe([data], exif, max_bytes)[0]
    return int(is_plain), int(height), int(width)


def test_a_plain_jpeg_is_one_and_other_files_are_not(jpegs: dict[str, bytes]) -> None:
    for name, data in jpegs.items():
        head = formats.header(data)
        assert plain(data) == (1, head.height, head.width), name
        assert plain(data + b"behind it") == (1, head.height, head.width)
        assert plain(data[:-2]) == (0, 0, 0), "it has no end marker"
    photo = jpegs["2 False"]
    for name in ("cmyk.jpg", "ycck.jpg", "arithmetic.jpg", "arithmetic-progressive.jpg", "lossy.webp", "palette.gif"):
        assert plain(encoders.kept(name)) == (0, 0, 0), name
    for name in ("420.jpg", "422-odd.jpg", "444.jpg", "grey.jpg", "progressive.jpg", "restarts.jpg"):
        head = formats.header(encoders.kept(name))
        assert plain(encoders.kept(name)) == (1, head.height, head.width), name
    for data in (b"", b"\xff", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", bytes(100), photo[:-1], photo[1:]):
        assert plain(data) == (0, 0, 0)
    needed = 203 * 155 * 11
    assert plain(photo, max_bytes=needed)[0] == 1 and plain(photo, max_bytes=needed - 1)[0] == 0


def test_a_progressive_jpeg_is_plain_once_its_scans_have_sent_every_bit() -> None:
    scans = odd_jpegs.progressive(3)
    for count in range(1, len(scans) + 1):
        data = odd_jpegs.jpeg(pixels(20, 30, "photo"), frame=0xC2, scans=scans[:count], jfif=True)
        assert plain(data)[0] == (formats.header(data).kind == "JPEG") == (count == len(scans))
    lavish = [*scans, *[scans[-1]] * 100]
    data = odd_jpegs.jpeg(pixels(20, 30, "photo"), frame=0xC2, scans=lavish, jfif=True)
    assert plain(data) == (0, 0, 0), "each scan costs a pass over the whole image"


def test_a_file_that_states_an_orientation_is_not_plain_where_it_counts(jpegs: dict[str, bytes]) -> None:
    for orientation in range(1, 9):
        data = encoders.with_exif(jpegs["2 False"], orientation)
        assert formats.orientation(data) == orientation
        assert plain(data)[0] == (orientation == 1)
        assert plain(data, exif=False)[0] == 1


DAMAGED = 600


def test_what_is_plain_is_accepted_by_the_parsers_of_headers_with_the_same_size() -> None:
    count = 0
    for index in range(DAMAGED):
        data = damaged(7, index).data
        is_plain, height, width = plain(data)
        if is_plain:
            head = formats.header(data, max_bytes=1 << 30)
            assert (head.height, head.width, head.kind) == (height, width, "JPEG"), index
            assert formats.orientation(data) == 1
            count += 1
    assert count > 50


def test_damaged_files_never_crash_and_are_refused_with_a_reason() -> None:
    pytest.importorskip("PIL")
    whole = Program([KernelStep(Op.DECODE), KernelStep(Op.RESIZE, Flag.ANTIALIAS, height=32, width=32)], 0)
    part = Program([KernelStep(Op.DECODE, Flag.WINDOW, 0)], 4)
    refused = same = 0
    for index in range(DAMAGED):
        file = damaged(8, index)
        out = np.empty((32, 32, 3), np.uint8)
        failed = whole.run([file.data], NONE, [out])
        assert not failed or failed[0][1], index
        refused += bool(failed)
        is_plain, height, width = plain(file.data)
        window = np.array([[height // 3, width // 3, max(height // 4, 1), max(width // 4, 1)]], np.float64)
        top, left, rows, columns = (int(n) for n in window[0])
        out = np.empty((rows, columns, 3), np.uint8)
        failed = part.run([file.data], window, [out])
        if is_plain and not failed:
            try:
                expected = decoded(file.data)
            except OSError:
                continue
            assert np.array_equal(out, expected[top : top + rows, left : left + columns]), index
            same += 1
    assert refused > DAMAGED // 4 and same > 50


def test_damage_is_named_in_every_window_that_reaches_it(jpegs: dict[str, bytes]) -> None:
    data = jpegs["2 False"]
    middle = len(data) // 2
    broken = data[:middle] + data[-2:]
    assert plain(broken) == plain(data), "its header shows nothing"
    program = Program([KernelStep(Op.DECODE, Flag.WINDOW, 0)], 4)
    out = np.empty((10, 10, 3), np.uint8)
    failed = program.run([broken], np.array([[190.0, 5, 10, 10]]), [out])
    assert failed[0][0] == Status.BAD_FILE and "JPEG" in failed[0][1]
    assert not program.run([broken], np.array([[0.0, 5, 10, 10]]), [out])
    cut = Program([KernelStep(Op.DECODE)], 0).run([data[:middle]], NONE, [np.empty((203, 155, 3), np.uint8)])
    assert cut[0][0] == Status.BAD_FILE and "end of" in cut[0][1]


def test_a_bad_image_leaves_the_others_alone(jpegs: dict[str, bytes]) -> None:
    data = jpegs["2 False"]
    program = Program([KernelStep(Op.DECODE), KernelStep(Op.RESIZE, height=20, width=20)], 0)
    batch = np.zeros((4, 20, 20, 3), np.uint8)
    failed = program.run([data, data[:900], b"", data], np.empty((4, 0)), batch)
    assert sorted(failed) == [1, 2] and all(status == Status.BAD_FILE for status, _ in failed.values())
    assert np.array_equal(batch[0], batch[3]) and batch[0].any() and not batch[1:3].any()


@pytest.mark.parametrize(
    "row",
    [(-1, 0, 5, 5), (0, 0, 11, 5), (0, 8, 5, 5), (0, 0, 0, 5), (np.nan, 0, 5, 5), (0, 0, np.inf, 5), (0.5, 0, 5, 5)],
    ids=str,
)
def test_a_window_that_does_not_lie_inside_is_refused(row: tuple[float, ...]) -> None:
    image = pixels(10, 12, "noise")
    for steps in ([KernelStep(Op.CROP, column=0)], [KernelStep(Op.ERASE, column=0, numbers=(1.0,))]):
        if steps[0].op == Op.ERASE and row[2] == 0:
            continue
        failed = Program(steps, 4).run([image], np.array([row], np.float64), [np.empty((5, 5, 3), np.uint8)])
        assert failed[0][0] == Status.BAD_CALL


def test_a_result_that_does_not_fit_its_place_is_refused() -> None:
    image = pixels(10, 12, "noise")
    for steps in ([KernelStep(Op.FLIP, column=0)], [KernelStep(Op.RESIZE, height=9, width=9)]):
        failed = Program(steps, 1).run([image], np.ones((1, 1)), [np.empty((5, 5, 3), np.uint8)])
        assert failed[0][0] == Status.BAD_CALL and "bytes" in failed[0][1]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float16", "float32"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (33, 20, 4)])
def test_images_of_a_batch_are_mixed(dtype: str, shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(0)
    batch = random.integers(-100, 100, (6, *shape)).astype(np.int8).astype(dtype)
    height, width = shape[0] // 2, (shape[1] + 1) // 2
    partner, weight = np.array([5, 0, 0, 3, 2, 1]), np.array([0, 1, 4095, 2048, 777, 4096]) / 4096
    box = np.array([[0, 0, 0, 0], [shape[0] - height, 0, height, width], *[[0, shape[1] - width, height, width]] * 4])
    rows = np.column_stack([partner - np.arange(6), weight, box]).astype(np.float64)
    program = Program([KernelStep(Op.MIX, column=0, dtype_in=dtype, dtype_out=dtype)], 6)
    out = np.empty_like(batch)
    assert not program.run(batch, rows, out)
    parts = np.empty_like(batch)
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):  # what a call doesn't name is read as well
        assert not program.run(batch[part], rows[part], parts[part])
    expected = batch * weight[:, None, None, None] + batch[partner] * (1 - weight)[:, None, None, None].astype(
        np.float64
    )
    expected = np.floor(expected + 0.5) if "int" in dtype else expected
    for row, (top, left, rows_, columns) in enumerate(box):
        inside = np.s_[row, top : top + rows_, left : left + columns]
        expected[inside] = batch[partner][inside]
    assert (out == parts).all()
    if "int" in dtype:
        assert (out == expected).all()
    else:
        np.testing.assert_allclose(out.astype(np.float64), expected, atol=200 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize(
    "row",
    [
        (0.5, 0.5, 0, 0, 0, 0),
        (np.nan, 0.5, 0, 0, 0, 0),
        (1e300, 0.5, 0, 0, 0, 0),
        (0, 1.5, 0, 0, 0, 0),
        (0, -0.5, 0, 0, 0, 0),
        (0, np.nan, 0, 0, 0, 0),
        (0, 2.0**-13, 0, 0, 0, 0),
        (0, 0.5, 0, 0, 11, 1),
        (0, 0.5, 0, 8, 1, 5),
    ],
    ids=str,
)
def test_a_mix_out_of_range_is_refused(row: tuple[float, ...]) -> None:
    batch = pixels(10, 12, "noise")[None]
    failed = Program([KernelStep(Op.MIX, column=0)], 6).run(batch, np.array([row], np.float64), np.empty_like(batch))
    assert failed[0][0] == Status.BAD_CALL


def test_only_the_first_step_mixes_and_dtypes_stay() -> None:
    with pytest.raises(ValueError, match="only the first step mixes"):
        Program([KernelStep(Op.FLIP, column=0), KernelStep(Op.MIX, column=0)], 6)
    with pytest.raises(ValueError, match="takes no dtype"):
        Program([KernelStep(Op.MIX, column=0, dtype_out="float32")], 6)
    with pytest.raises(ValueError, match="reads 6 params"):
        Program([KernelStep(Op.MIX, column=0)], 5)


@pytest.mark.slow
def test_mixing_gives_the_same_bits_with_avx2_and_without() -> None:
    simd.check_same_bits("""
for index in range(100):
    height, width = (int(n) for n in random.integers(1, 40, 2))
    batch = random.integers(0, 256, (2, height, width, 3), np.uint8)
    rows = np.array([[1.0, weight / 4096, 0, 0, 0, 0] for weight in random.integers(0, 4097, 2)])
    rows[1, 0] = -1
    out = np.empty_like(batch)
    assert not Program([KernelStep(Op.MIX, column=0)], 6).run(batch, rows, out)
    digest.update(out.tobytes())
""")


BAD_STEPS = (
    [],
    [KernelStep(Op.RESIZE, height=5, width=0)],
    [KernelStep(Op.RESIZE, column=0)],
    [KernelStep(Op.CROP, column=-1)],
    [KernelStep(Op.FLIP, column=0), KernelStep(Op.DECODE)],
    [KernelStep(Op.BLUR, column=0, height=4, width=3)],
    [KernelStep(Op.WARP, column=0, dtype_in="int8", dtype_out="int8", numbers=(0.0,))],
    [KernelStep(Op.PERSPECTIVE, column=0, numbers=(0.0,))],  # of ten params there is one
    [KernelStep(Op.PERSPECTIVE, column=-9)],
    [KernelStep(Op.AFFINE, numbers=(1.0,))],
    [KernelStep(Op.LOOKUP, column=0)],
    [KernelStep(Op.AUTOCONTRAST, column=-1)],
    [KernelStep(Op.AUTOCONTRAST, column=0, dtype_in="int8", dtype_out="int8")],
    [KernelStep(Op.EQUALIZE, column=0, dtype_in="float32", dtype_out="float32")],
    [KernelStep(Op.FLIP, column=0), KernelStep(Op.FLIP, column=0, dtype_in="float32", dtype_out="float32")],
)


@pytest.mark.parametrize("steps", BAD_STEPS, ids=range(len(BAD_STEPS)))
def test_steps_out_of_range_are_refused(steps: list[KernelStep]) -> None:
    with pytest.raises(ValueError):
        Program(steps, 1)


def test_counters_tell_images_bytes_and_time(jpegs: dict[str, bytes]) -> None:
    data = jpegs["2 False"]
    steps = [
        KernelStep(Op.DECODE),
        KernelStep(Op.RESIZE, Flag.ANTIALIAS, height=64, width=48),
        KernelStep(Op.FLIP, column=0),
        KernelStep(Op.AFFINE, dtype_out="float32", numbers=(1.0, 0.0)),
    ]
    program = Program(steps, 1)
    batch = np.empty((40, 64, 48, 3), np.float32)
    program.run([data] * 40, np.arange(40.0).reshape(40, 1) % 2, batch)
    decode, resize, flip, affine, whole = program.counters()
    assert (decode.images, resize.images, flip.images, affine.images, whole.images) == (40, 40, 20, 40, 40)
    assert decode.bytes_in == whole.bytes_in == 40 * len(data)
    assert decode.bytes_out == resize.bytes_in == 40 * 203 * 155 * 3
    assert affine.bytes_out == whole.bytes_out == batch.nbytes
    assert all(step.nanoseconds > 0 for step in (decode, resize, affine))


@pytest.mark.alone
@pytest.mark.parametrize("images", [1, 32, 400])
def test_counters_of_quick_images_add_up_however_few_a_call(images: int) -> None:
    """However busy the processor: time in which the thread waits for it isn't counted."""
    steps = [KernelStep(Op.FLIP, column=0), KernelStep(Op.AFFINE, dtype_out="float32", numbers=(1.0, 0.0))]
    program, batch = Program(steps, 1), np.zeros((images, 32, 32, 3), np.uint8)
    out = np.empty(batch.shape, np.float32)
    start = time.thread_time_ns()
    for _ in range(1600 // images):
        assert not program.run(batch, np.ones((images, 1)), out)
    used = time.thread_time_ns() - start
    flip, affine, whole = program.counters()
    assert flip.images == affine.images == whole.images == 1600
    assert 0 < whole.nanoseconds <= used
    assert 0.8 <= (flip.nanoseconds + affine.nanoseconds) / whole.nanoseconds <= 1.01


@pytest.mark.slow
def test_the_portable_loops_and_avx2s_give_the_same_bits() -> None:
    simd.check_same_bits("""
for index in range(150):
    height, width = (int(n) for n in random.integers(1, 90, 2))
    image = random.integers(0, 256, (height, width, int(random.choice([1, 3, 4]))), np.uint8)
    rows, columns = (int(n) for n in random.integers(1, 90, 2))
    steps = [
        KernelStep(Op.RESIZE, Flag(2 * (index % 2)), height=rows, width=columns),
        KernelStep(Op.BLUR, column=0, height=2 * (index % 7) + 1, width=2 * (index % 5) + 1),
        KernelStep(Op.AFFINE, dtype_out="float32", numbers=(0.017, -3.1)),
    ]
    if image.shape[-1] == 3:
        steps.insert(1, KernelStep(Op.COLOR, column=1))
        steps.insert(1, KernelStep(Op.WARP, column=13, numbers=(0.0,)))
    params = np.concatenate([[1.3], random.normal(0, 0.5, 12), random.normal(1, 1, 6)]).reshape(1, -1)
    out = np.empty((rows, columns, image.shape[-1]), np.float32)
    assert not Program(steps, 19).run([image], params, [out])
    digest.update(out.tobytes())
""")


def test_one_program_runs_in_many_threads(jpegs: dict[str, bytes]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    files = [data for data in jpegs.values() if plain(data)[1] == 203] * 3
    steps = [KernelStep(Op.DECODE), KernelStep(Op.RESIZE, Flag.ANTIALIAS, height=32, width=32)]
    program = Program(steps, 0)
    expected = np.empty((len(files), 32, 32, 3), np.uint8)
    assert not program.run(files, np.empty((len(files), 0)), expected)

    def work(_: int) -> bool:
        batch = np.empty_like(expected)
        return not program.run(files, np.empty((len(files), 0)), batch) and np.array_equal(batch, expected)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(12)))
