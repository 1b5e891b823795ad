"""The kernel's sums of several results of one image, bit for bit, and which programs and params it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import simd
from conformance import pixels

from greenload.backends.native import library
from greenload.backends.native.abi import Flag, KernelStep, Op, Status
from greenload.backends.native.library import Program

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

SIZES = ((1, 1), (1, 40), (40, 1), (2, 2), (7, 5), (33, 57), (101, 203))
INVERTED = bytes(255 - level for level in range(256))
HALVED = bytes(level // 2 for level in range(256))
FORK = KernelStep(Op.FORK)


class Steps:
    """Steps with their params, put together one after another."""

    def __init__(self) -> None:
        self.steps: list[KernelStep] = []
        self.row: list[float] = []

    def then(self, op: Op, *params: float, **others: Any) -> Steps:
        self.steps.append(KernelStep(op, column=len(self.row) if params else -1, **others))
        self.row += params
        return self

    def run(self, images: Any, shape: tuple[int, ...] | None = None) -> list[Any]:
        """Images through the steps, twice by one program, whose results mustn't differ."""
        program = Program(self.steps, len(self.row))
        params = np.tile(np.array(self.row), (len(images), 1))
        for _ in range(2):
            outs = [np.empty(shape or image.shape, np.uint8) for image in images]
            failed = program.run(images, params, outs)
            assert not failed, failed
        return outs


def weighed(*terms: tuple[Any, float]) -> Any:
    """By the definition."""
    return np.floor(sum(image.astype(np.float64) * weight for image, weight in terms) + 0.5).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_chains_begin_with_the_image_and_are_summed(size: tuple[int, int]) -> None:
    images = [pixels(*size, "noise", seed) for seed in range(3)]
    steps = Steps().then(Op.FORK).then(Op.FLIP, 1.0).then(Op.LOOKUP, 1.0, table=HALVED).then(Op.ADD, 0.375)
    steps.then(Op.FLIP, 1.0, flags=Flag.VERTICAL).then(Op.ADD, 12345 / 65536)
    steps.then(Op.POSTERIZE, 3.0).then(Op.FLIP, 1.0).then(Op.FLIP, 1.0, flags=Flag.VERTICAL).then(Op.ADD, 0.25)
    steps.then(Op.SUM, 1 - 0.625 - 12345 / 65536)
    for image, found in zip(images, steps.run(images), strict=True):
        chains = (image[:, ::-1] // 2, 0.375), (image[::-1], 12345 / 65536), ((image & 0xE0)[::-1, ::-1], 0.25)
        assert np.array_equal(found, weighed(*chains, (image, 1 - 0.625 - 12345 / 65536)))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_weights_are_exact_to_the_last_bit(channels: int) -> None:
    """Sums that fall on a half, and beside it."""
    image = np.random.default_rng(channels).integers(0, 256, (16, 33, channels), np.uint8)
    for weight in (0.5, 1 / 65536, 65535 / 65536, 21845 / 65536, 43691 / 65536, 0.0, 1.0):
        steps = Steps().then(Op.FORK).then(Op.LOOKUP, 1.0, table=INVERTED).then(Op.ADD, weight).then(Op.SUM, 1 - weight)
        (found,) = steps.run([image])
        assert np.array_equal(found, weighed((255 - image, weight), (image, 1 - weight))), weight


def test_chains_that_change_nothing_count_for_the_image() -> None:
    image = pixels(33, 57, "noise")
    steps = Steps().then(Op.FORK).then(Op.FLIP, 0.0).then(Op.ADD, 0.5).then(Op.ADD, 0.25)
    assert np.array_equal(steps.then(Op.SUM, 0.25).run([image])[0], image)
    steps = Steps().then(Op.FORK).then(Op.POSTERIZE, 8.0).then(Op.ADD, 0.5).then(Op.FLIP, 1.0).then(Op.ADD, 0.25)
    assert np.array_equal(steps.then(Op.SUM, 0.25).run([image])[0], weighed((image, 0.75), (image[:, ::-1], 0.25)))
    assert np.array_equal(Steps().then(Op.FORK).then(Op.SUM, 1.0).run([image])[0], image)


def test_steps_around_a_sum_and_several_sums() -> None:
    """A crop before it is a view with gaps between its rows; what comes behind works in place in the batch."""
    images = [pixels(50, 70, "noise", seed) for seed in range(4)]
    steps = Steps().then(Op.FLIP, 1.0).then(Op.CROP, 3.0, 5.0, 33.0, 41.0)
    steps.then(Op.FORK).then(Op.LOOKUP, 1.0, table=INVERTED).then(Op.ADD, 0.75).then(Op.SUM, 0.25)
    steps.then(Op.LOOKUP, 1.0, table=HALVED)
    steps.then(Op.FORK).then(Op.FLIP, 1.0, flags=Flag.VERTICAL).then(Op.ADD, 0.5).then(Op.FLIP, 1.0).then(Op.ADD, 0.5)
    steps.then(Op.SUM, 0.0).then(Op.LOOKUP, 1.0, table=INVERTED)
    for image, found in zip(images, steps.run(images, (33, 41, 3)), strict=True):
        part = image[:, ::-1][3:36, 5:46]
        first = weighed((255 - part, 0.75), (part, 0.25)) // 2
        assert np.array_equal(found, 255 - weighed((first[::-1], 0.5), (first[:, ::-1], 0.5)))


def test_a_chain_may_move_the_image_and_come_back_to_its_size() -> None:
    image = pixels(40, 60, "noise")
    steps = Steps().then(Op.FORK).then(Op.CROP, 2.0, 4.0, 30.0, 50.0)
    steps.then(Op.PAD, 5.0, 3.0, height=40, width=60, numbers=(9.0,)).then(Op.ADD, 0.5).then(Op.SUM, 0.5)
    padded = np.full_like(image, 9)
    padded[5:35, 3:53] = image[2:32, 4:54]
    assert np.array_equal(steps.run([image])[0], weighed((padded, 0.5), (image, 0.5)))


def test_of_a_file_the_chains_begin_with_what_was_decoded(bad_images: Any) -> None:
    data = bad_images.jpeg(40, 60)
    whole, found = np.empty((40, 60, 3), np.uint8), np.empty((40, 60, 3), np.uint8)
    assert not Program([KernelStep(Op.DECODE)], 0).run([data], np.empty((1, 0)), [whole])
    steps = Steps().then(Op.DECODE).then(Op.FORK).then(Op.FLIP, 1.0).then(Op.ADD, 0.5).then(Op.SUM, 0.5)
    assert not Program(steps.steps, 3).run([data], np.array([steps.row]), [found])
    assert np.array_equal(found, weighed((whole[:, ::-1], 0.5), (whole, 0.5)))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ((0.5, 0.25), "weights of a sum that are 0.75 together"),
        ((0.75, 0.75), "weights of a sum that are 1.5 together"),
        ((2.0, -1.0), "2 is no weight from 0 to 1 of 16 bits"),
        ((1 / 3, 2 / 3), "is no weight from 0 to 1 of 16 bits"),
        ((float("nan"), 1.0), "nan is no weight"),
        ((0.0, float("inf")), "inf is no weight"),
    ],
)
def test_weights_that_do_not_sum_to_one_are_refused(weights: tuple[float, float], said: str) -> None:
    steps = Steps().then(Op.FORK).then(Op.FLIP, 1.0).then(Op.ADD, weights[0]).then(Op.SUM, weights[1])
    image = pixels(7, 5, "noise")
    program = Program(steps.steps, len(steps.row))
    ((status, reason),) = program.run([image], np.array([steps.row]), [np.empty_like(image)]).values()
    assert status is Status.BAD_CALL and said in reason
    steps.row[1:] = 0.5, 0.5  # the same threads' memory serves the next image
    out = np.empty_like(image)
    assert not program.run([image], np.array([steps.row]), [out])
    assert np.array_equal(out, weighed((image[:, ::-1], 0.5), (image, 0.5)))


def test_images_of_other_sizes_are_not_summed() -> None:
    steps = Steps().then(Op.FORK).then(Op.CROP, 0.0, 0.0, 3.0, 3.0).then(Op.ADD, 0.5).then(Op.SUM, 0.5)
    image = pixels(7, 5, "noise")
    out = np.empty_like(image)
    ((status, reason),) = Program(steps.steps, 6).run([image], np.array([steps.row]), [out]).values()
    assert (status, reason) == (Status.BAD_CALL, "a sum of images of 7 × 5 and 3 × 3 pixels")
    steps = Steps().then(Op.FORK).then(Op.CROP, 0.0, 0.0, 3.0, 3.0).then(Op.SUM, 1.0)  # what no step adds is gone
    assert np.array_equal(steps.run([image])[0], image)


def test_steps_that_are_no_sum_are_refused() -> None:
    add, total = KernelStep(Op.ADD, column=0), KernelStep(Op.SUM, column=0)
    for steps, said in (
        ([add], "step 0 is of a sum that no step forks"),
        ([FORK, total, add], "step 2 is of a sum that no step forks"),
        ([FORK, FORK, total], "step 1 forks within a sum"),
        ([FORK, add], "a step forks, and none sums"),
    ):
        with pytest.raises(ValueError, match=said):
            Program(steps, 1)
    with pytest.raises(ValueError, match="op 42 reads 1 params from column -1"):
        Program([FORK, KernelStep(Op.SUM)], 1)
    floats = KernelStep(Op.FORK, dtype_in="float32", dtype_out="float32")
    with pytest.raises(ValueError, match="op 40 takes no dtype"):
        Program([floats, KernelStep(Op.SUM, column=0, dtype_in="float32", dtype_out="float32")], 1)


@pytest.mark.slow
def test_every_processor_has_the_same_bits() -> None:
    simd.check_same_bits("""
for index in range(200):
    height, width = (int(n) for n in random.integers(1, 90, 2))
    image = random.integers(0, 256, (height, width, int(random.choice([1, 3, 4]))), np.uint8)
    cuts = np.sort(random.integers(0, 65537, 3))
    weights = np.diff([0, *cuts, 65536]) / 65536
    row, steps = [1.0, *weights], [KernelStep(Op.FORK)]
    for k, op in enumerate((Op.EQUALIZE, Op.FLIP, Op.AUTOCONTRAST)):
        steps += [KernelStep(op, column=0), KernelStep(Op.ADD, column=1 + k)]
    steps.append(KernelStep(Op.SUM, column=4))
    out = np.empty_like(image)
    assert not Program(steps, 5).run([image], np.array([row]), [out])
    digest.update(out.tobytes())
""")
