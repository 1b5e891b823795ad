"""RandomPerspective: torchvision's corners and coefficients, and the pixels of Pillow's and torchvision's own maps."""

from __future__ import annotations

import math
from typing import Any

import conformance as suite
import numpy as np
import pytest

from greenload.errors import PipelineError
from greenload.planning.choose import make_plan
from greenload.randomness import base, stage_key, uniforms
from greenload.sources import Arrays
from greenload.stages import RandomPerspective
from greenload.stages.reference import perspective, warp

Pixels = np.ndarray[Any, Any]
Corners = list[list[int]]


def drawn(stage: RandomPerspective, count: int) -> Pixels:
    return uniforms(base(0, 0, np.arange(count)), stage_key("RandomPerspective", 0), stage.draws)


def published_corners(draw: Pixels, height: int, width: int, scale: float) -> tuple[Corners, Corners]:
    """torchvision's RandomPerspective.make_params in plain Python, its random numbers given: starts and ends."""

    def randint(low: int, high: int) -> int:
        return low + math.floor(next(numbers) * (high - low))

    numbers = iter(draw.tolist())
    bound_height = int(scale * (height // 2)) + 1
    bound_width = int(scale * (width // 2)) + 1
    topleft = [randint(0, bound_width), randint(0, bound_height)]
    topright = [randint(width - bound_width, width), randint(0, bound_height)]
    botright = [randint(width - bound_width, width), randint(height - bound_height, height)]
    botleft = [randint(0, bound_width), randint(height - bound_height, height)]
    starts = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    return starts, [topleft, topright, botright, botleft]


def published_coefficients(starts: Corners, ends: Corners) -> Pixels:
    """torchvision's _get_perspective_coeffs: its eight equations, as a matrix whose last entry is 1."""
    equations, values = [], []
    for (x, y), (u, v) in zip(ends, starts, strict=True):
        equations += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    found = np.linalg.lstsq(np.array(equations, float), np.array(values, float), rcond=None)[0]
    return np.append(found, 1.0).reshape(3, 3)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 2), (32, 32), (224, 224), (375, 500), (1, 90), (90, 1)])
@pytest.mark.parametrize("scale", [0.0, 0.2, 0.5, 1.0])
def test_the_map_is_torchvisions(height: int, width: int, scale: float) -> None:
    stage = RandomPerspective(scale, p=0.7)
    draw = drawn(stage, 200)
    params = stage.params(draw, np.full(200, height), np.full(200, width))
    impossible = 0
    for row, matrix, apply in zip(draw, params["matrix"], params["apply"], strict=True):
        starts, ends = published_corners(row, height, width, scale)
        solvable = all(
            np.linalg.det(np.c_[np.delete(np.array(ends, float), left_out, 0), np.ones(3)]).round() != 0
            for left_out in range(4)
        )
        assert apply == (row[8] < 0.7 and solvable)
        if not solvable:
            impossible += 1
            assert (matrix == np.eye(3)).all()
            continue
        moved = np.c_[ends, np.ones(4)] @ matrix.T
        np.testing.assert_allclose(moved[:, :2] / moved[:, 2:], starts, atol=1e-9)
        if scale <= 0.5:  # where the equations are solved well
            expected = published_coefficients(starts, ends)
            np.testing.assert_allclose(matrix / matrix[2, 2], expected, rtol=1e-9, atol=1e-9)
    if min(height, width) == 1:
        assert impossible == 200
    elif scale <= 0.5:
        assert impossible == 0


def test_corners_are_uniform_and_images_drawn_with_their_probability() -> None:
    stage = RandomPerspective(0.5, p=0.3)
    assert stage.draws == stage.numbers == 9
    count = 20_000
    draw = drawn(stage, count)
    params = stage.params(draw, np.full(count, 16), np.full(count, 40))
    assert params["apply"].mean() == pytest.approx(0.3, abs=0.015)
    ends = np.array([published_corners(row, 16, 40, 0.5)[1] for row in draw[:5000]])
    for corner, axis, values in (
        (0, 0, range(11)),
        (1, 0, range(29, 40)),
        (2, 1, range(11, 16)),
        (3, 1, range(11, 16)),
    ):
        found, counts = np.unique(ends[:, corner, axis], return_counts=True)
        assert found.tolist() == list(values)
        np.testing.assert_allclose(counts / 5000, 1 / len(values), atol=0.03)


def test_an_affine_map_is_a_perspective_one() -> None:
    image = suite.pixels(33, 57, "photo")
    matrix = np.array([[0.9, -0.2, 4.0], [0.1, 1.2, -3.0]])
    expected = warp(image, matrix, 7.0)
    for factor in (1.0, -4.0):  # a factor of the whole matrix changes nothing
        assert (perspective(image, factor * np.vstack((matrix, [0.0, 0.0, 1.0])), 7.0) == expected).all()
    tripled = perspective(image, 3.0 * np.vstack((matrix, [0.0, 0.0, 1.0])), 7.0)  # is rounded: ties fall either way
    assert (tripled != expected).mean() < 0.01


def test_what_has_no_place_in_the_image_is_fill() -> None:
    image = np.full((4, 6, 3), 9, np.uint8)
    nowhere = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, -2.5]])  # w = 0 in the third column
    out = perspective(image, nowhere, 200.0)
    assert (out[:, 2] == 200).all()
    assert (perspective(image, np.zeros((3, 3)), 200.0) == 200).all()
    assert (perspective(image, np.array([[1e200, 0, 0], [0, 1e200, 0], [0, 0, 1e-100]]), 200.0) == 200).all()


def inside(matrix: Pixels, height: int, width: int) -> Pixels:
    """Which output pixels lie between four of the image."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    x, y, w = (m[0] * columns + m[1] * rows + m[2] for m in matrix)
    x, y = x / w - 0.5, y / w - 0.5
    result: Pixels = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return result


def test_pillow_gives_the_same_pixels_inside() -> None:
    # Beside its border Pillow repeats the outermost pixel, and it cuts: hence one level.
    image_module = pytest.importorskip("PIL.Image")
    image = suite.pixels(101, 203, "noise")
    stage = RandomPerspective(0.5, p=1.0)
    params = stage.params(drawn(stage, 20), np.full(20, 101), np.full(20, 203))
    for matrix in params["matrix"]:
        coefficients = (matrix / matrix[2, 2]).ravel()[:8].tolist()
        theirs = np.asarray(
            image_module.fromarray(image).transform(
                (203, 101), image_module.Transform.PERSPECTIVE, coefficients, image_module.Resampling.BILINEAR
            )
        )
        ours = stage.reference(image, {"matrix": matrix, "apply": np.array(True)})
        within = inside(matrix, 101, 203)
        assert within.mean() > 0.3
        assert np.abs(ours.astype(int) - theirs)[within].max() <= 1


def test_torchvision_gives_the_same_pixels_inside() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    image = suite.pixels(101, 203, "photo")
    stage = RandomPerspective(0.5, p=1.0)
    draw = drawn(stage, 20)
    params = stage.params(draw, np.full(20, 101), np.full(20, 203))
    for row, matrix in zip(draw, params["matrix"], strict=True):
        starts, ends = published_corners(row, 101, 203, 0.5)
        theirs = functional.perspective(torch.from_numpy(image.copy()).permute(2, 0, 1), starts, ends)
        ours = stage.reference(image, {"matrix": matrix, "apply": np.array(True)})
        gap = np.abs(ours.astype(int) - theirs.permute(1, 2, 0).numpy())[inside(matrix, 101, 203)]
        assert gap.max() <= 1


def test_backends_without_it_refuse_and_name_another() -> None:
    mild, strong = (
        suite.pipeline_of(Arrays(np.zeros((2, 8, 8, 3), np.uint8)), (RandomPerspective(scale),)) for scale in (0.5, 0.6)
    )
    for name in ("tf", "native", "dali-cpu"):
        assert make_plan(mild, name)
    for pipeline, name in ((mild, "pillow"), (mild, "dali"), (strong, "dali-cpu")):
        refused = rf"^RandomPerspective\(.*\) can't run on backend '{name}'.*backend='\w+'$"
        with pytest.raises(PipelineError, match=refused):
            make_plan(pipeline, name)
