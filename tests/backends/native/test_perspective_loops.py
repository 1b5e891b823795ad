"""Perspective maps in the kernel: the reference's bits, whatever part of an image is seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import simd
from conformance import pixels

from greenload.backends.native import library
from greenload.backends.native.abi import Flag, KernelStep, Op
from greenload.backends.native.library import Program
from greenload.stages import reference
from greenload.stages.perspective import RandomPerspective

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

FILL = 7.0
SEEN = KernelStep(Op.PERSPECTIVE, column=0, numbers=(FILL,))
SIZES = ((1, 1), (1, 40), (40, 1), (2, 2), (2, 9), (3, 3), (9, 2), (7, 8), (33, 57), (40, 300), (64, 513))
"""Rows and columns: below and above a vector, and more than a line."""


def seen(image: Any, matrix: Any) -> Any:
    """An image through a map, between bytes that must stay."""
    guard = np.full(image.size + 128, 0xA5, np.uint8)
    out = guard[64:-64].reshape(image.shape)
    assert not Program([SEEN], 10).run([image], np.append(matrix, 1.0)[None], [out])
    assert (guard[:64] == 0xA5).all() and (guard[-64:] == 0xA5).all()
    return out


def maps(random: np.random.Generator, height: int, width: int) -> list[Any]:
    """Mild and wild ones: of the stage, near the identity, of whole pixels, turned about, and with a horizon inside."""
    stage = RandomPerspective(1.0, p=1.0)
    drawn = stage.params(random.random((4, 9)), np.full(4, height), np.full(4, width))["matrix"]
    near = [np.eye(3) + random.normal(0, size, (3, 3)) for size in (1e-9, 1e-3, 0.1, 1.0) for _ in range(3)]
    moved = [np.array([[1.0, 0, x], [0, 1.0, y], [0, 0, 1.0]]) for x, y in random.integers(-9, 9, (3, 2))]
    horizon = np.array([[1.0, 0, 0], [0, 1.0, 0], [1.0, 0.3, -0.4 * width]])
    return [*drawn, *near, *moved, horizon, -horizon, np.eye(3), np.zeros((3, 3)), np.eye(3) * 1e200]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noise", "photo", "steps"])
def test_they_give_the_references_bits(kind: str) -> None:
    random = np.random.default_rng(3)
    for height, width in SIZES:
        image = pixels(height, width, kind)
        for matrix in maps(random, height, width):
            expected = reference.perspective(image, matrix, FILL)
            assert np.array_equal(seen(image, matrix), expected), (height, width, matrix)


def test_what_is_a_view_of_a_larger_image_is_seen_as_it_is() -> None:
    random, image = np.random.default_rng(4), pixels(50, 90, "noise")
    window = np.array([3, 5, 41, 64])
    part = image[3:44, 5:69][::-1]
    steps = [
        KernelStep(Op.CROP, column=0),
        KernelStep(Op.FLIP, Flag.VERTICAL, column=4),
        KernelStep(Op.PERSPECTIVE, column=5, numbers=(FILL,)),
    ]
    for matrix in maps(random, 41, 64):
        out = np.empty((41, 64, 3), np.uint8)
        row = np.concatenate([window, [1.0], matrix.ravel(), [1.0]])
        assert not Program(steps, 15).run([image], row[None], [out])
        assert np.array_equal(out, reference.perspective(np.ascontiguousarray(part), matrix, FILL))


def test_what_is_no_number_lies_nowhere() -> None:
    image = pixels(9, 20, "noise")
    for broken in (np.nan, np.inf, -np.inf):
        matrix = np.eye(3)
        matrix[0, 0] = broken
        assert (seen(image, matrix) == FILL).all()


@pytest.mark.slow
def test_they_give_the_same_bits_with_avx2_and_without() -> None:
    simd.check_same_bits("""
for index in range(300):
    height, width = (int(n) for n in random.integers(1, 90, 2))
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    matrix = np.eye(3) + random.normal(0, 10.0 ** -random.integers(0, 6), (3, 3))
    out = np.empty_like(image)
    assert not Program([KernelStep(Op.PERSPECTIVE, column=0, numbers=(9.0,))], 10).run(
        [image], np.append(matrix, 1.0)[None], [out])
    digest.update(out.tobytes())
""")
