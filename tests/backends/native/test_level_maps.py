"""The kernel's maps of levels and its filters of policies, bit for bit against the float64 reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import simd
from conformance import pixels

from greenload.backends.native import library
from greenload.backends.native.abi import KernelStep, Op, Status
from greenload.backends.native.library import Program
from greenload.stages import reference

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

SIZES = ((1, 1), (1, 40), (40, 1), (2, 2), (3, 3), (7, 5), (33, 57), (101, 203))
TABLE = bytes(np.random.default_rng(9).integers(0, 256, 256, np.uint8))
FACTORS = (0.0, 0.1, 0.27, 0.5, 0.73, 0.999, 1.27, 1.5, 1.9, 7.3, 1e4, 1e300)
THRESHOLDS = (-1.0, 0.0, 0.5, 17.0, 128.0, 199.999, 255.0)


References = dict[Op, tuple[tuple[float, ...], Callable[[Any, float], Any]]]
MAPS: References = {
    Op.LOOKUP: ((1.0,), lambda image, _: np.frombuffer(TABLE, np.uint8)[image]),
    Op.AUTOCONTRAST: ((1.0,), lambda image, _: reference.autocontrast(image)),
    Op.EQUALIZE: ((1.0,), lambda image, _: reference.equalize(image)),
    Op.BRIGHTNESS: (FACTORS, reference.brightness),
    Op.CONTRAST: (FACTORS[:-1], reference.contrast),
    Op.POSTERIZE: (tuple(map(float, range(1, 8))), lambda image, bits: reference.posterize(image, int(bits))),
    Op.SOLARIZE: (THRESHOLDS, reference.solarize),
}
IDLE = {
    **dict.fromkeys((Op.LOOKUP, Op.AUTOCONTRAST, Op.EQUALIZE), 0.0),
    **dict.fromkeys((Op.BRIGHTNESS, Op.CONTRAST, Op.SHARPEN), 1.0),
    Op.POSTERIZE: 8.0,
    Op.SOLARIZE: 255.5,
}


def step(op: Op, column: int = 0) -> KernelStep:
    numbers = (7.0,) if op == Op.WARP else ()
    return KernelStep(op, column=column, table=TABLE if op == Op.LOOKUP else b"", numbers=numbers)


def run(steps: list[KernelStep], image: Any, row: Any) -> Any:
    """One image through steps, twice by one program, whose result mustn't differ nor pass its end."""
    params = np.asarray(row, np.float64).reshape(1, -1)
    guard = np.full(image.size + 64, 0xA5, np.uint8)
    out = guard[:-64].reshape(image.shape)
    program = Program(steps, params.shape[1])
    for _ in range(2):
        failed = program.run([image], params, [out])
        assert not failed, failed
        assert (guard[-64:] == 0xA5).all(), "it wrote behind the result"
    return out


def image_of(random: np.random.Generator, height: int, width: int, channels: int) -> Any:
    """Levels of a range of its own in each channel, more of them low than high."""
    low, span = random.integers(0, 200, channels), random.integers(1, 57, channels)
    if random.integers(2):
        low, span = low * 0, span * 0 + 256
    return (low + random.random((height, width, channels)) ** 3 * span).astype(np.uint8)


@pytest.mark.parametrize("op", MAPS)
def test_a_map_of_levels_is_the_references(op: Op) -> None:
    numbers, expected = MAPS[op]
    random = np.random.default_rng(2)
    for channels in (3,) if op == Op.CONTRAST else (1, 2, 3, 4, 49):
        for size in SIZES:
            image = image_of(random, *size, channels)
            for number in numbers:
                assert np.array_equal(run([step(op)], image, [number]), expected(image, number)), (size, number)
            program, out = Program([step(op)], 1), np.empty_like(image)
            assert not program.run([image], np.full((1, 1), IDLE[op]), [out])
            assert np.array_equal(out, image)
            assert program.counters()[0].images == 0  # it costs nothing


@pytest.mark.slow
def test_maps_one_behind_another_are_as_they_are_one_by_one() -> None:
    random = np.random.default_rng(3)
    for turn in range(400):
        channels = int(random.choice([1, 3, 3, 3, 4]))
        height, width = (int(n) for n in random.integers(1, 60, 2))
        image = image_of(random, height, width, channels)
        usual = [op for op in MAPS if channels == 3 or op != Op.CONTRAST]
        ops = [usual[k] for k in random.integers(0, len(usual), random.integers(2, 7))]
        row = [float(random.choice(MAPS[op][0])) if random.random() < 0.8 else IDLE[op] for op in ops]
        expected = image
        for op, number in zip(ops, row, strict=True):
            expected = expected if number == IDLE[op] else MAPS[op][1](expected, number)
        steps = [step(op, column) for column, op in enumerate(ops)]
        assert np.array_equal(run(steps, image, row), expected), (turn, ops, row)
        # What stands between them and does nothing doesn't part them; a flip does.
        flip = KernelStep(Op.FLIP, column=len(row))
        for drawn in (0.0, 1.0):
            result = run([*steps[:1], flip, *steps[1:]], image, [*row, drawn])
            assert np.array_equal(result, expected[:, ::-1] if drawn else expected), (turn, ops, row)


def test_a_map_that_does_nothing_has_no_part_of_the_time() -> None:
    ops = (Op.FLIP, Op.BRIGHTNESS, Op.POSTERIZE, Op.EQUALIZE, Op.SOLARIZE)
    program = Program([step(op, column) for column, op in enumerate(ops)], len(ops))
    batch = np.stack([pixels(64, 64, "photo")] * 20)
    rows = np.array([[1.0, 1.3, 8.0, 1.0, 99.0]] * 20)
    assert not program.run(batch, rows, np.empty_like(batch))
    flip, brightness, posterize, equalize, solarize, _ = program.counters()
    assert posterize.images == posterize.nanoseconds == 0  # of 8 bits it does nothing
    assert flip.images == brightness.images == equalize.images == solarize.images == 20
    assert all(each.nanoseconds > 0 for each in (flip, brightness, equalize, solarize))


def kinds_of(height: int, width: int, channels: int) -> list[Any]:
    """Noise, soft and hard edges, and few levels, so that many sums lie on a rounding boundary."""
    shape = height, width, channels
    several = [np.resize(pixels(height, width, kind), shape) for kind in ("noise", "photo", "steps")]
    return [*several, several[0] // 128 * 13, np.full(shape, 77, np.uint8)]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_sharpening_is_the_references(channels: int) -> None:
    for size in SIZES:
        for image in kinds_of(*size, channels):
            for factor in (*FACTORS, *(1 + 0.09 * k for k in range(-9, 10) if k)):
                result = run([step(Op.SHARPEN)], image, [factor])
                assert np.array_equal(result, reference.sharpen(image, factor)), (size, factor)
    program, out = Program([step(Op.SHARPEN)], 1), np.empty_like(image)
    assert not program.run([image], np.ones((1, 1)), [out])
    assert np.array_equal(out, image) and program.counters()[0].images == 0


def test_a_part_of_an_image_is_worked_on_as_an_image_of_its_own() -> None:
    image = pixels(60, 80, "noise")
    crop, row = KernelStep(Op.CROP, column=0), (7, 9, 41, 53)
    part = np.ascontiguousarray(image[7:48, 9:62])
    matrix = np.array([[0.8, 0.3, 1.7], [-0.2, 1.1, 0.4]])
    for op, numbers, expected in (
        (Op.SHARPEN, [1.7], reference.sharpen(part, 1.7)),
        (Op.WARP, matrix.ravel(), reference.warp(part, matrix, 7.0)),
        (Op.EQUALIZE, [1.0], reference.equalize(part)),
        (Op.AUTOCONTRAST, [1.0], reference.autocontrast(part)),
        (Op.CONTRAST, [1.7], reference.contrast(part, 1.7)),
    ):
        out = np.empty_like(part)
        program = Program([crop, step(op, 4)], 4 + len(numbers))
        assert not program.run([image], np.array([[*row, *numbers]], np.float64), [out])
        assert np.array_equal(out, expected), op


def turned(degrees: float, height: int, width: int) -> Any:
    """About the image's centre."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    x, y = width / 2, height / 2
    return np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])


def maps_of(height: int, width: int) -> list[Any]:
    """Matrices of rotations, shears, moves by whole, half and other parts of pixels, and of what is far away."""
    half = np.tan(np.radians(11.5))
    made = [turned(degrees, height, width) for degrees in (1e-9, 7.3, 30, 45, 90, 180, 270, -133)]
    shears = [[[1, s, -s * height / 2], [0, 1, 0]] for s in (0.3, 0.99, -0.25, half)]
    shears += [[[1, 0, 0], [s, 1, -s * width / 2]] for s in (0.3, -0.5, half)]
    moves = [(0, 0), (3, 0), (0, -2), (-5, 4), (0.5, 0.5), (0.1, 0), (0, 2.7), (width, 0), (1e5, 0), (1e30, 0)]
    odd = [[[2, 0, 0], [0, 3, 0]], [[0.1, 0, 1], [0, 0.1, 1]], [[0, 0, 1.5], [0, 0, 1.5]], [[-1, 0, width], [0, 1, 0]]]
    odd += [[[np.nan, 0, 0], [0, 1, 0]], [[1, 0, np.inf], [0, 1, 0]], [[1e200, 0, 0], [0, 1e-200, 0]]]
    return [np.array(m, np.float64) for m in (*made, *shears, *([[1, 0, x], [0, 1, y]] for x, y in moves), *odd)]


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_warping_is_the_references(channels: int) -> None:
    for height, width in (*SIZES, (9, 255), (3, 257), (5, 700)):
        for image in kinds_of(height, width, channels):
            for matrix in maps_of(height, width):
                # Of places that float64 doesn't tell from their neighbours the reference makes no sense.
                near = np.abs(matrix).max() < 1e9
                expected = reference.warp(image, matrix, 7.0) if near else np.full_like(image, 7)
                result = run([step(Op.WARP)], image, matrix.ravel())
                assert np.array_equal(result, expected), (height, width, matrix.tolist())


@pytest.mark.parametrize(
    ("op", "numbers"),
    [
        *((op, (-0.1, np.nan, np.inf, -np.inf)) for op in (Op.BRIGHTNESS, Op.CONTRAST, Op.SHARPEN)),
        (Op.POSTERIZE, (0.0, 9.0, 2.5, -1.0, np.nan, np.inf, 1e300)),
        (Op.SOLARIZE, (np.nan,)),
    ],
)
def test_numbers_out_of_range_are_refused(op: Op, numbers: tuple[float, ...]) -> None:
    image = pixels(10, 12, "noise")
    for number in numbers:
        failed = Program([step(op)], 1).run([image], np.full((1, 1), number), [np.empty_like(image)])
        assert failed[0][0] == Status.BAD_CALL and failed[0][1], number


def test_contrast_is_of_rgb_and_all_of_them_of_uint8() -> None:
    grey = pixels(10, 12, "noise")[..., :1].copy()
    failed = Program([step(Op.CONTRAST)], 1).run([grey], np.full((1, 1), 0.5), [np.empty_like(grey)])
    assert failed[0] == (Status.BAD_CALL, "contrast of 1 channels")
    for op in (Op.BRIGHTNESS, Op.CONTRAST, Op.POSTERIZE, Op.SOLARIZE, Op.SHARPEN):
        with pytest.raises(ValueError, match="takes no dtype"):
            Program([KernelStep(op, column=0, dtype_in="float32", dtype_out="float32")], 1)
        with pytest.raises(ValueError, match="reads 1 params"):
            Program([KernelStep(op, column=1)], 1)


@pytest.mark.slow
def test_they_give_the_same_bits_with_avx2_and_without() -> None:
    simd.check_same_bits(
        """
for index in range(200):
    height, width = (int(n) for n in random.integers(1, 90, 2))
    channels = int(random.choice([1, 3, 3, 4]))
    image = random.integers(0, 256, (height, width, channels), np.uint8)
    numbers = {Op.WARP: 6, Op.BRIGHTNESS: 1, Op.EQUALIZE: 1, Op.SHARPEN: 1, Op.SOLARIZE: 1}
    ops = list(random.permutation(list(numbers)))
    if channels == 3:
        ops.append(Op.CONTRAST)
    steps, row = [], []
    for op in ops:
        steps.append(KernelStep(Op(op), column=len(row), numbers=(7.0,) if op == Op.WARP else ()))
        if op == Op.WARP:
            row += list(random.normal(0, 0.4, 6) + [1, 0, 0, 0, 1, 0])
        else:
            row.append({Op.EQUALIZE: 1.0, Op.SOLARIZE: 99.0}.get(op, 0.3 + 0.1 * random.integers(17)))
    out = np.empty_like(image)
    assert not Program(steps, len(row)).run([image], np.array([row]), [out])
    digest.update(out.tobytes())
""",
        kinds=("", "avx2", "scalar"),
    )
