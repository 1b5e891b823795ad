"""Kept coefficients: bytes that no one wrote are refused, and files of which they would give other pixels."""

from __future__ import annotations

import os
import platform
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import odd_jpegs
import pytest
import simd

from greenload.backends.native import library
from greenload.backends.native.abi import Form

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

ROOT = Path(__file__).parents[3]
HEADER = 32 + 128
"""Bytes of a grey file's, with its quantisation table."""


def test_more_blocks_than_there_are_bytes_for_are_refused() -> None:
    blob = library.transcode(odd_jpegs.coded(np.ones((1, 1, 64), int), np.ones(64, int)), Form.COEFFICIENTS)
    rows = -(-23000 // 8)
    begin = HEADER + 4 * (rows + 1)
    large = blob[:8] + struct.pack("<II", 23000, 23000) + blob[16:HEADER]
    for behind in (0, rows):  # all rows are empty; only the last isn't
        index = [begin] * rows + [begin + 2 * behind]
        bad = large + struct.pack(f"<{rows + 1}I", *index) + bytes(2 * behind + 192)
        assert library.probe([bad], True, 1 << 40, kept=True)[0, 0] == 0


BLOCK = """
import struct
import odd_jpegs
def decode(first, masks, values, out):
    blob = transcode(odd_jpegs.coded(np.ones((1, 1, 64), int), np.full(64, 60)), Form.COEFFICIENTS)
    block = struct.pack("<H", first << 4 | len(masks)) + bytes(masks + values)
    begin = 32 + 128 + 8
    blob = blob[: begin - 8] + struct.pack("<2I", begin, begin + len(block)) + block + bytes(192)
    return Program([KernelStep(Op.DECODE)], 0).run([blob], np.empty((1, 0)), [out])
out = np.empty((8, 8, 3), np.uint8)
"""
ZEROS = """
for masks, values in (([2, 1], [100, 0]), ([2, 0], [100]), ([2, 0, 0, 0, 128], [100, 0])):
    assert not decode(2000, masks, values, out)
    digest.update(out.tobytes())
"""
TWICE = """
failed = decode(20, [0b11], [77, 5], out)
assert "aren't whole" in failed[0][1], failed
"""


def test_a_block_that_has_its_first_coefficient_twice_is_refused() -> None:
    """By the portable loops and by AVX2's: each would make other samples of it."""
    simd.check_same_bits(BLOCK + TWICE)


def test_zeros_that_are_said_to_be_none_give_the_same_samples_everywhere() -> None:
    """Of a first row alone libjpeg's shortcut wraps large values: both forms of the loops must agree on which it is."""
    simd.check_same_bits(BLOCK + ZEROS)


ALONE = """
import numpy as np
import odd_jpegs
from conformance import pixels
from greenload.backends.native.abi import Form
from greenload.backends.native.library import transcode
blocks = np.full((2, 2, 64), 30000) * np.random.default_rng(0).choice([-1, 1], (2, 2, 64))
extreme, photo = odd_jpegs.coded(blocks, np.full(64, 255)), pixels(80, 80, "photo")
for again in range(2):
    for planes in (photo[..., :1], photo):
        transcode(odd_jpegs.jpeg(planes, jfif=True), Form.COEFFICIENTS)
    try:
        transcode(extreme, Form.COEFFICIENTS)
    except ValueError as error:
        assert "doesn't give the pixels" in str(error), error
    else:
        raise AssertionError("it was kept")
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors' vectors can't be turned off")
def test_a_small_file_of_which_they_give_other_pixels_is_refused_alone() -> None:
    """Without vectors libjpeg makes other samples of what no encoder writes: idct.h."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    environment = {**os.environ, "JSIMD_FORCENONE": "1", "PYTHONPATH": paths}
    result = subprocess.run([sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
