"""The inverse DCT: libjpeg's samples of whatever coefficients, by the portable loops and by AVX2's."""

from __future__ import annotations

import ctypes
import io
from typing import Any

import numpy as np
import odd_jpegs
import pytest

from greenload.backends.native import library
from greenload.backends.native.abi import Flag, Form, KernelStep, Op
from greenload.backends.native.library import Program

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

ZIGZAG = sorted(range(64), key=lambda n: (s := n // 8 + n % 8, n // 8 if s % 2 else n % 8))
STEPS = {
    "ones": np.ones(64, int),
    "usual": np.arange(64) * 2 + 3,
    "coarse": np.arange(64) * 1000 + 1,
}
LARGEST = {"few": 3, "pixels": 100, "large": 1500, "all bits": 32767}
ROWS, COLUMNS = 12, 64


def blocks(largest: int, random: np.random.Generator) -> Any:
    """`[ROWS, COLUMNS, 64]` in zigzag order: of every last coefficient, dense and sparse, of one row or column."""
    values = random.integers(-largest, largest + 1, (ROWS, COLUMNS, 64))
    values[random.random(values.shape) < random.choice([0, 0.3, 0.8], (ROWS, COLUMNS, 1))] = 0
    values[3:5] = np.sign(values[3:5]) * largest
    values[5:7, :, [index for index in range(64) if ZIGZAG[index] >= 8]] = 0
    values[7:9, :, [index for index in range(64) if ZIGZAG[index] % 8]] = 0
    last = random.integers(0, 12, (ROWS, COLUMNS, 1))
    last[::3] = np.arange(COLUMNS)[:, None]
    return np.where(np.arange(64) <= last, values, 0)


def samples(block: Any, steps: Any, last: int, portable: bool) -> Any:
    """One block's, by the kernel; nothing else is written."""
    natural = np.zeros(64, np.int16), np.zeros(64, np.uint16)
    for array, values in zip(natural, (block, steps), strict=True):
        array[ZIGZAG] = values
    guard = np.full(128, 0xA5, np.uint8)
    function = library.loaded().gl_inverse_dct
    pointer = ctypes.c_void_p
    function.argtypes, function.restype = [pointer, pointer, ctypes.c_int32, ctypes.c_int32, pointer], None
    coefficients, quant = (array.ctypes.data for array in natural)
    function(coefficients, quant, last, portable, guard.ctypes.data)
    assert (guard[64:] == 0xA5).all(), "it wrote behind the block"
    return guard[:64].reshape(8, 8)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("largest", LARGEST)
def test_blocks_have_libjpegs_samples(largest: str, steps: str) -> None:
    image = pytest.importorskip("PIL.Image")
    given = blocks(LARGEST[largest], np.random.default_rng(0))
    whole = np.asarray(image.open(io.BytesIO(odd_jpegs.coded(given, STEPS[steps]))))
    expected = whole.reshape(ROWS, 8, COLUMNS, 8).swapaxes(1, 2)
    for y, x in np.ndindex(ROWS, COLUMNS):
        last = int(np.flatnonzero(given[y, x])[-1:].sum())
        for portable in (False, True):
            for bound in {last, max(last, 9), 63}:  # it need not be the very last
                result = samples(given[y, x], STEPS[steps], bound, portable)
                assert np.array_equal(result, expected[y, x]), (y, x, bound, portable, given[y, x])


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("largest", LARGEST)
def test_kept_coefficients_of_any_size_have_libjpegs_samples(largest: str, steps: str) -> None:
    image = pytest.importorskip("PIL.Image")
    file = odd_jpegs.coded(blocks(LARGEST[largest], np.random.default_rng(1)), STEPS[steps])
    expected = np.asarray(image.open(io.BytesIO(file)))
    kept = library.transcode(file, Form.COEFFICIENTS)
    for window in ((0, 0, 8 * ROWS, 8 * COLUMNS), (13, 21, 40, 300)):
        top, left, height, width = window
        out = np.empty((height, width, 3), np.uint8)
        program = Program([KernelStep(Op.DECODE, Flag.WINDOW, 0)], 4)
        assert not program.run([kept], np.array([window], np.float64), [out])
        assert np.array_equal(out[..., 1], expected[top : top + height, left : left + width])
