"""Programs whose steps are drawn, as TensorFlow's operation runs them from an attribute that may be anybody's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from greenload.backends.native import library, op
from greenload.backends.native.abi import KernelStep, Op, Status
from greenload.backends.native.layout import ChosenStep

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

DRAWN, SIDE = ((0, 1),), 20


@pytest.fixture(scope="module", autouse=True)
def tensorflow() -> Any:
    tf = pytest.importorskip("tensorflow")
    if not op.usable():
        pytest.skip("the operations for TensorFlow aren't built")
    return tf


def outcome(steps: list[ChosenStep], images: Any, dtype: str, choice: int) -> tuple[Any, int, str]:
    """The result, its status and its reason of one image that an alternative was drawn for."""
    result = op.operations().greenload_run(
        images=images,
        sizes=[[SIDE, SIDE, 3]],
        params=np.array([[0.0, 0, SIDE, SIDE]]),
        choices=np.array([[choice]]),
        dtype=dtype,
        program=op.serialized(steps, 4),
        height=SIDE,
        width=SIDE,
        channels=3,
    )
    return result[0].numpy(), int(result[1][0]), result[2].numpy()[0].decode()


def crop(dtype: str) -> ChosenStep:
    return ChosenStep(KernelStep(Op.CROP, column=0, dtype_in=dtype, dtype_out=dtype))


def scale(before: str, after: str) -> ChosenStep:
    return ChosenStep(KernelStep(Op.AFFINE, dtype_in=before, dtype_out=after, numbers=(2.0, 1.0)), DRAWN)


def test_drawn_steps_may_change_the_dtype_on_their_way() -> None:
    image = np.random.default_rng(0).integers(0, 60, (1, SIDE, SIDE, 3)).astype(np.uint8)
    steps = [scale("uint8", "float32"), scale("float32", "uint8"), crop("uint8")]
    pixels, status, reason = outcome(steps, image, "uint8", 1)
    assert (status, reason) == (Status.OK, "")
    assert np.array_equal(pixels, (image * 2 + 1) * 2 + 1)
    assert np.array_equal(outcome(steps, image, "uint8", 0)[0], image)


@pytest.mark.parametrize("choice", [0, 1])
def test_a_graph_whose_drawn_steps_do_not_fit_the_images_is_refused(choice: int) -> None:
    """Else the kernel would read, or write, four bytes where there is one."""
    image = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    begins, ends = [scale("uint8", "float32"), crop("float32")], [crop("uint8"), scale("uint8", "float32")]
    for steps in (begins, ends):
        pixels, status, reason = outcome(steps, image, "float32", choice)
        fits = choice == 1
        assert status == (Status.OK if fits else Status.BAD_CALL)
        assert fits or "another type" in reason
        assert (pixels == (1 if fits else 0)).all()


@pytest.mark.parametrize("choice", [0, 1])
def test_a_step_that_decodes_is_not_drawn(choice: int) -> None:
    """A file has one size, where an image has three."""
    decode = ChosenStep(KernelStep(Op.DECODE), DRAWN)
    images = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    status, reason = outcome([decode, crop("uint8")], images, "uint8", choice)[1:]
    assert (status, "another type" in reason) == ((Status.BAD_CALL, True) if choice else (Status.OK, False))
