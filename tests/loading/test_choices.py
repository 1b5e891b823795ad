"""Combinators through `load` and `iterate`, on every backend of the CPU: the references' pixels in any batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import conformance as suite
import numpy as np
import pytest
import support_functions

import greenload as gl
from greenload.backends import registry
from greenload.plans.params import DrawLayout

tf = pytest.importorskip("tensorflow")

COUNT = 15
IMAGES = np.random.default_rng(3).integers(0, 256, (COUNT, 24, 20, 3), np.uint8)
SOURCE = gl.Arrays(IMAGES, np.arange(COUNT))
STAGES = (
    gl.RandomApply([gl.RandomCrop((24, 20), padding=3, fill=9), gl.RandomHorizontalFlip()], 0.5),
    gl.RandomChoice(
        [gl.RandomErasing(1.0), gl.RandomVerticalFlip(1.0), gl.RandomApply(gl.RandomErasing(1.0, value=7))], [1, 2, 1]
    ),
    gl.RandomOrder([gl.RandomVerticalFlip(), gl.RandomErasing(0.9, value=(1, 2, 3))]),
)
"""They move pixels: every backend gives the reference's bits."""


BACKENDS = ("tf", "dali-cpu", "pillow", "native")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    usable(request.param)
    return str(request.param)


def usable(*names: str) -> None:
    for name in names:
        found = registry.get(name).availability()
        if not found.usable:
            pytest.skip(f"{name}: {found.detail}; {found.remedy}")


def pipeline_of(size: int, *more: gl.Stage) -> gl.Pipeline:
    return gl.Pipeline(SOURCE, gl.Shuffle(), *STAGES, gl.Batch(size), *more, seed=11)


def expected(pipeline: gl.Pipeline, epoch: int) -> Any:
    """An epoch's images in the source's order, by the references."""
    numbers = DrawLayout.of(pipeline).prepare(pipeline.seed, epoch, np.arange(COUNT))
    return suite.reference(pipeline, IMAGES, numbers)


def epochs_of(loaded: Any, count: int) -> Any:
    """Images of so many epochs, each in the source's order, ``[epoch, sample, …]``."""
    pairs = [(np.asarray(images), np.asarray(labels)) for images, labels in loaded]
    images, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
    images, labels = (part.reshape(count, COUNT, *part.shape[1:]) for part in (images, labels))
    return np.stack([own[np.argsort(order)] for own, order in zip(images, labels, strict=True)])


SIZES = [("tf", 1), *((name, 7) for name in BACKENDS[1:])]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "size"),
    [*SIZES, *(pytest.param(name, 8 - size, marks=pytest.mark.long) for name, size in SIZES)],
)
def test_each_epoch_has_the_references_pixels(backend: str, size: int) -> None:
    usable(backend)
    pipeline = pipeline_of(size)
    found = epochs_of(gl.load(pipeline, backend, epochs=2, threads=2), 2)
    assert (found == np.stack([expected(pipeline, epoch) for epoch in range(2)])).all()
    assert (found[0] != found[1]).any(axis=(1, 2, 3)).mean() > 0.8
    assert len({image.tobytes() for image in found[0]}) == COUNT


@pytest.mark.slow
def test_iterate_gives_the_same(backend: str) -> None:
    pipeline = pipeline_of(4)
    assert (epochs_of(gl.iterate(pipeline, backend=backend, epochs=2), 2)[1] == expected(pipeline, 1)).all()


@pytest.mark.slow
def test_behind_batch_and_in_the_last_smaller_one(backend: str) -> None:
    batched = (gl.Batch(7), gl.RandomApply(gl.RandomErasing(1.0, value=5)), gl.RandomChoice(STAGES[1].inside[:1]))
    pipeline = gl.Pipeline(SOURCE, gl.Shuffle(), *batched, seed=2)
    assert (epochs_of(gl.load(pipeline, backend, epochs=1, threads=2), 1)[0] == expected(pipeline, 0)).all()
    if backend in ("tf", "native"):  # those that see a batch's shape in a graph
        dropping = gl.Pipeline(SOURCE, gl.Batch(7, drop_remainder=True), *batched[1:], seed=2)
        images = np.concatenate([np.asarray(images) for images, _ in gl.load(dropping, backend, epochs=1, threads=2)])
        assert (images == expected(dropping, 0)[:14]).all()


def test_a_function_is_called_with_the_images_that_it_is_drawn_for() -> None:
    stages = (gl.Batch(7, drop_remainder=True), gl.RandomApply(gl.Apply(support_functions.inverted), 0.5))
    pipeline = gl.Pipeline(SOURCE, *stages, seed=2)
    images = np.concatenate([np.asarray(images) for images, _ in gl.load(pipeline, "tf", epochs=1, threads=2)])
    assert (images == expected(pipeline, 0)[:14]).all()


PLACED: list[Mapping[str, str]] = [
    {"RandomApply": "dali-cpu", "RandomChoice": "tf", "RandomOrder": "pillow"},
    {"RandomApply": "native", "RandomChoice": "pillow", "RandomOrder": "native"},
    {"RandomApply": "tf", "RandomChoice": "dali-cpu", "RandomOrder": "tf"},
    {"RandomApply": "pillow", "RandomOrder": "dali-cpu", "RandomChoice": "pillow"},
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "placed",
    [*PLACED[:2], *(pytest.param(placed, marks=pytest.mark.long) for placed in PLACED[2:])],
    ids=lambda placed: " ".join(placed.values()),
)
def test_each_on_a_backend_of_its_own(placed: Mapping[str, str]) -> None:
    usable(*placed.values())
    pipeline = pipeline_of(4)
    plan = gl.make_plan(pipeline, placed, threads=2)
    assert set(plan.backends) == set(placed.values())
    assert (epochs_of(gl.load(plan, epochs=1), 1)[0] == expected(pipeline, 0)).all()


def test_the_plan_and_auto_show_them() -> None:
    plan = gl.make_plan(gl.Pipeline(SOURCE, gl.RandomApply(gl.ColorJitter(0.4), p=0.3), gl.Batch(4)))
    assert "RandomApply(ColorJitter, p=0.3)" in plan.describe()
    assert plan.expected is not None
    assert "isn't in the cost table" not in plan.describe()
    refused = gl.Pipeline(SOURCE, gl.RandomChoice([gl.RandomGrayscale(), gl.GaussianBlur(3)]), gl.Batch(4))
    with pytest.raises(gl.PipelineError) as caught:
        gl.make_plan(refused, "pillow")
    assert str(caught.value) == (
        "GaussianBlur(kernel_size=(3, 3)) inside RandomChoice(RandomGrayscale, GaussianBlur) can't run on backend "
        "'pillow' to tolerance, for images that are uint8 24×20×3 HWC: use backend='tf'"
    )
    assert "pillow" not in gl.make_plan(refused).backends


def cost(*stages: gl.Stage) -> float:
    plan = gl.make_plan(gl.Pipeline(SOURCE, gl.RandomHorizontalFlip(), *stages, gl.Batch(32)), "auto")
    assert plan.expected is not None
    return plan.expected.cost


def test_a_price_is_that_of_what_is_expected_to_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    from greenload.planning import choose

    monkeypatch.setattr(choose, "usable", lambda known, gpu=False: ("tf",))
    jitter, blur = gl.ColorJitter(0.4), gl.GaussianBlur(9)
    nothing, one, other = cost(), cost(jitter), cost(blur)
    assert cost(gl.RandomApply(jitter, 0.25)) == pytest.approx(nothing + 0.25 * (one - nothing))
    choice = gl.RandomChoice([jitter, blur], [1, 3])
    assert cost(choice) == pytest.approx(nothing + 0.25 * (one - nothing) + 0.75 * (other - nothing))
    assert cost(gl.RandomOrder([jitter, blur])) == pytest.approx(one + other - nothing)
    assert cost(gl.RandomApply(choice, 0.5)) == pytest.approx((nothing + cost(choice)) / 2)


class Failing(gl.Primitive):
    lowerings: ClassVar = {
        "tf": support_functions.failing_in_tensorflow,
        "pillow": support_functions.failing_in_numpy,
    }


class Fails(gl.Stage):
    """Fails on every image that it is applied to."""

    def out_spec(self, spec: Any) -> Any:
        return spec

    def primitives(self, spec: Any) -> tuple[gl.Primitive, ...]:
        return (Failing(),)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "behind"), [("tf", False), ("tf", True), ("pillow", True)])
def test_what_is_not_drawn_is_not_worked_on(name: str, behind: bool) -> None:
    usable(name)

    def run(*stages: gl.Stage) -> Any:
        placed = (gl.Batch(4), *stages) if behind else (*stages, gl.Batch(4))
        loaded = gl.load(gl.Pipeline(SOURCE, *placed), name, epochs=1, threads=2)
        return np.concatenate([np.asarray(images) for images, _ in loaded])

    never = (gl.RandomApply(Fails(), 0.0), gl.RandomChoice([gl.RandomErasing(0.0), Fails()], [1, 0]))
    assert (run(*never) == IMAGES).all()
    with pytest.raises(Exception, match=r"was worked on|couldn't be read or decoded, but can be now"):
        run(gl.RandomApply(Fails(), 0.7))
