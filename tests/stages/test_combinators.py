"""Stages made of stages: which images get what, with draws of their own, and what may stand inside."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
import support_functions
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import greenload as gl
from greenload.array_ops import TENSORFLOW
from greenload.plans.params import DrawLayout
from greenload.plans.steps import steps_of
from greenload.randomness import base
from greenload.specs import ENCODED_SPEC, ImageSpec
from greenload.stages import Stage
from greenload.stages.base import keys_of
from greenload.stages.primitives import params_of

SIDE = 8
MANY = 20_000
UINT8 = ImageSpec((SIDE, SIDE, 3), "uint8", "HWC")
SOURCE = gl.Arrays(np.zeros((4, SIDE, SIDE, 3), np.uint8))
IMAGE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
JITTER, GREY, BLUR, TURN = gl.ColorJitter(0.4), gl.RandomGrayscale(1.0), gl.GaussianBlur(3), gl.RandomRotation(30)


def params(*stages: Stage, samples: int = MANY, seed: int = 7, epoch: int = 0) -> list[dict[str, Any]]:
    """The params of each stage of a pipeline, for so many samples."""
    layout = DrawLayout.of(gl.Pipeline(SOURCE, *stages, seed=seed))
    sides = np.full(samples, SIDE)
    numbers = layout.prepare(seed, epoch, np.arange(samples))
    return list(layout.params(numbers, sides, sides, range(len(stages))).values())


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


def outputs(stage: Stage, count: int = 200) -> list[np.ndarray[Any, Any]]:
    """What the reference makes of an image, for several draws."""
    drawn = params(stage, samples=count)[0]
    return [stage.reference(IMAGE, {name: values[k] for name, values in drawn.items()}) for k in range(count)]


# how likely each is


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.93, 1.0])
def test_stages_are_applied_with_their_probability(p: float) -> None:
    choices = params(gl.RandomApply(JITTER, p))[0]["choices"][:, 0]
    applied = int((choices == 0).sum())
    assert set(choices.tolist()) <= {-1, 0}
    assert stats.binomtest(applied, MANY, p).pvalue > 1e-4


@pytest.mark.parametrize("weights", [None, (1, 1, 2), (0, 0.3, 0), (5, 0, 1), (0, 2, 2)])
def test_each_alternative_is_chosen_as_often_as_it_should(weights: tuple[float, ...] | None) -> None:
    choices = params(gl.RandomChoice([JITTER, GREY, BLUR], weights))[0]["choices"][:, 0]
    counts = np.bincount(choices, minlength=3)
    shares = np.array(weights or (1, 1, 1)) / sum(weights or (1, 1, 1))
    assert (counts[shares == 0] == 0).all()
    if (shares > 0).sum() > 1:
        assert stats.chisquare(counts[shares > 0], shares[shares > 0] * MANY).pvalue > 1e-4


def test_every_order_is_equally_likely() -> None:
    choices = params(gl.RandomOrder([JITTER, GREY, BLUR]))[0]["choices"]
    orders = list(itertools.permutations(range(3)))
    counts = [int((choices == order).all(1).sum()) for order in orders]
    assert sum(counts) == MANY
    assert stats.chisquare(counts).pvalue > 1e-4


def test_what_is_chosen_says_nothing_of_what_is_drawn_inside() -> None:
    drawn = params(gl.RandomApply(gl.RandomHorizontalFlip(0.5), 0.5))[0]
    table = np.histogram2d(drawn["choices"][:, 0], drawn["0.flip"], bins=2)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_neighbours_and_epochs_get_their_own() -> None:
    one, other = (params(gl.RandomApply(JITTER), epoch=epoch)[0]["choices"][:, 0] for epoch in (0, 1))
    for x, y in ((one, other), (one[:-1], one[1:])):
        assert stats.chi2_contingency(np.histogram2d(x, y, bins=2)[0]).pvalue > 1e-4


# draws of their own

ALTERNATIVES: list[Stage] = [JITTER, gl.RandomHorizontalFlip(), BLUR, gl.RandomErasing(), TURN, gl.ColorJitter(hue=0.1)]


def inside(*stages: Stage, kind: Any, **options: Any) -> list[dict[str, Any]]:
    """The params of each stage inside a combinator, between two others."""
    _, mine, _ = params(TURN, kind(list(stages), **options), TURN, samples=50)
    return [params_of(mine, place) for place in range(len(stages))]


@pytest.mark.parametrize("kind", [gl.RandomChoice, gl.RandomOrder])
@given(st.lists(st.sampled_from(ALTERNATIVES), min_size=1, max_size=5), st.sampled_from(ALTERNATIVES))
@settings(max_examples=25, deadline=None)
def test_one_more_at_the_end_changes_none_of_the_others_inside(kind: Any, given: list[Stage], more: Stage) -> None:
    before, after = inside(*given, kind=kind), inside(*given, more, kind=kind)
    assert all(same(one, other) for one, other in zip(before, after, strict=False))


def test_one_more_stage_to_order_keeps_the_others_order() -> None:
    few, more = (params(gl.RandomOrder(s))[0]["choices"] for s in ([JITTER, GREY, BLUR], [JITTER, GREY, BLUR, TURN]))
    assert (more[more < 3].reshape(-1, 3) == few).all()


@given(
    st.lists(st.sampled_from(ALTERNATIVES), min_size=1, max_size=4),
    st.integers(0, 3),
    st.sampled_from(ALTERNATIVES),
)
@settings(max_examples=25, deadline=None)
def test_one_more_alternative_changes_no_stage_elsewhere(elsewhere: list[Stage], place: int, more: Stage) -> None:
    place = min(place, len(elsewhere))

    def around(*alternatives: Stage) -> list[dict[str, Any]]:
        choice = gl.RandomChoice(alternatives)
        drawn = params(*elsewhere[:place], choice, *elsewhere[place:], gl.RandomChoice([JITTER]), samples=30)
        return drawn[:place] + drawn[place + 1 :]

    assert all(map(same, around(JITTER, BLUR), around(JITTER, BLUR, more)))


@given(st.lists(st.sampled_from(ALTERNATIVES), min_size=2, max_size=5), st.data())
@settings(max_examples=25, deadline=None)
def test_wrapping_a_stage_changes_no_other_stages_draws(stages: list[Stage], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(stages) - 1))
    wrapped = data.draw(st.sampled_from([gl.RandomApply(stages[place]), gl.RandomOrder([stages[place]])]))
    before = params(*stages, samples=30)
    after = params(*stages[:place], wrapped, *stages[place + 1 :], samples=30)
    assert all(same(one, other) for k, (one, other) in enumerate(zip(before, after, strict=True)) if k != place)


def test_applied_stages_of_one_type_are_numbered_by_themselves() -> None:
    behind = gl.RandomApply(JITTER)
    alone, mixed = params(behind, samples=50), params(gl.RandomApply(BLUR), gl.RandomApply(GREY), behind, samples=50)
    assert same(alone[0], mixed[2])
    twice = params(behind, behind, samples=50)
    assert not same(*twice)


def test_no_two_stages_share_their_draws() -> None:
    drawn = params(
        JITTER, gl.RandomApply(JITTER), gl.RandomChoice([JITTER, JITTER]), gl.RandomOrder([JITTER]), samples=9
    )
    colors = [values for own in drawn for name, values in own.items() if name.endswith("color")]
    assert len(colors) == 5
    assert all((one != other).any((1, 2)).all() for one, other in itertools.combinations(colors, 2))


def test_keys_are_pinned() -> None:
    # They decide the augmentation of every pipeline that was ever trained with.
    keys = keys_of((gl.RandomApply(JITTER), gl.RandomChoice([JITTER, BLUR]), gl.RandomOrder([JITTER, BLUR]), JITTER))
    assert [f"{key:016x}" for key in keys] == PINNED
    assert [f"{key:016x}" for key in keys_of((JITTER, JITTER), within=keys[0])] == PINNED_INSIDE


PINNED = ["c26306a16c0ee0cc", "e92f7d78a2f63463", "47be2e3eb2c317f2", "afe39a1f68c60839"]
PINNED_INSIDE = ["7caf90b8d9dacdda", "c292c03e711feb83"]

NESTED = gl.RandomChoice(
    [gl.RandomApply([BLUR, gl.RandomOrder([JITTER, TURN])], 0.7), gl.RandomHorizontalFlip(), gl.RandomCrop(SIDE, 2)]
)


@pytest.mark.slow
def test_the_same_bits_in_tensorflow() -> None:
    tf = pytest.importorskip("tensorflow")
    stages = (gl.RandomApply(JITTER, 0.3), NESTED, gl.RandomOrder([JITTER, BLUR, TURN]))
    layout = DrawLayout.of(gl.Pipeline(SOURCE, *stages))
    index, sides = np.arange(500), np.full(500, SIDE)

    @tf.function
    def compiled(index: Any, sides: Any) -> Any:
        ops = TENSORFLOW
        numbers = layout.prepare(3, 1, index, ops)
        return numbers, layout.params(numbers, sides, sides, range(3), ops)

    numbers, found = compiled(tf.constant(index), tf.constant(sides))
    expected = layout.prepare(3, 1, index)
    assert numbers.numpy().tobytes() == expected.tobytes()
    assert expected.shape == (500, layout.count)
    for place, own in layout.params(expected, sides, sides, range(3)).items():
        assert {k: v.numpy().tobytes() for k, v in found[place].items()} == {k: v.tobytes() for k, v in own.items()}


# what becomes of an image


def test_applied_or_passed_by() -> None:
    stages = (gl.Pad(1, fill=7), gl.CenterCrop(SIDE), gl.RandomVerticalFlip(1.0))
    done = outputs(gl.RandomApply(stages, 0.5))
    flipped = [(image == IMAGE[::-1]).all() for image in done]
    kept = [(image == IMAGE).all() for image in done]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 60 < sum(flipped) < 140


def test_one_of_several() -> None:
    done = outputs(gl.RandomChoice([gl.RandomVerticalFlip(1.0), gl.RandomHorizontalFlip(1.0)], p=(1, 3)))
    down = sum((image == IMAGE[::-1]).all() for image in done)
    across = sum((image == IMAGE[:, ::-1]).all() for image in done)
    assert down + across == len(done)
    assert 25 < down < 75


def test_in_any_order() -> None:
    darker, inverted = gl.ColorJitter(brightness=(0.5, 0.5)), gl.Apply(support_functions.inverted)
    done = {image.tobytes() for image in outputs(gl.RandomOrder([darker, inverted]), 40)}
    half = darker.reference
    matrix = params(darker, samples=1)[0]["color"][0]
    expected = [255 - half(IMAGE, {"color": matrix}), half(255 - IMAGE, {"color": matrix})]
    assert done == {image.tobytes() for image in expected}


def test_combinators_stand_in_each_other() -> None:
    never = gl.RandomApply(gl.RandomVerticalFlip(1.0), 0.0)
    always = gl.RandomApply([gl.RandomChoice([never, never]), gl.RandomOrder([gl.RandomHorizontalFlip(1.0)])], 1.0)
    assert all((image == IMAGE[:, ::-1]).all() for image in outputs(always, 20))


# as data


def test_they_are_written_and_read() -> None:
    pipeline = gl.Pipeline(SOURCE, gl.RandomApply(JITTER), NESTED, gl.RandomOrder([BLUR, GREY]), seed=3)
    data = json.loads(json.dumps(pipeline.to_dict()))
    again = gl.Pipeline.from_dict(data, source=SOURCE)
    assert again == pipeline
    assert hash(again.stages) == hash(pipeline.stages)
    assert (
        DrawLayout.of(again).prepare(3, 0, np.arange(9)) == DrawLayout.of(pipeline).prepare(3, 0, np.arange(9))
    ).all()
    assert str(pipeline.stages[0]) == "RandomApply(ColorJitter(brightness=(0.6, 1.4)), p=0.5)"
    assert str(gl.RandomChoice([GREY, GREY], [1, 1])) == (
        "RandomChoice([RandomGrayscale(p=1.0), RandomGrayscale(p=1.0)], p=[1.0, 1.0])"
    )


def test_a_description_that_nests_without_end_is_refused() -> None:
    inner: dict[str, Any] = GREY.to_dict()
    for _ in range(3000):
        inner = {"stage": "RandomApply", "stages": [inner]}
    data = gl.Pipeline(SOURCE).to_dict() | {"stages": [inner]}
    with pytest.raises(gl.PipelineError, match="lists or objects nested"):
        gl.Pipeline.from_dict(data, source=SOURCE)


def test_a_plan_names_them() -> None:
    pipeline = gl.Pipeline(SOURCE, gl.RandomApply([JITTER, BLUR], 0.3), NESTED, gl.RandomOrder([GREY, TURN]))
    names = [step.name for step in steps_of(pipeline) if step.kind == "pixels"]
    assert names == [
        "RandomApply(ColorJitter, GaussianBlur, p=0.3)",
        "RandomChoice(RandomApply(GaussianBlur, RandomOrder(ColorJitter, RandomRotation), p=0.7), "
        "RandomHorizontalFlip, RandomCrop)",
        "RandomOrder(RandomGrayscale, RandomRotation)",
    ]


def test_what_comes_to_nothing_is_no_step() -> None:
    assert [s.name for s in steps_of(gl.Pipeline(SOURCE, gl.RandomApply([gl.ColorJitter(), gl.Pad(0)])))] == ["Read"]


def test_nothing_is_fused_into_them() -> None:
    half = gl.Normalize((0.5,), (0.5,))
    values = (gl.ToDtype("float32", scale=True), gl.RandomApply(half), half)
    names = [step.name for step in steps_of(gl.Pipeline(SOURCE, *values)) if step.kind == "pixels"]
    assert names == ["ToDtype", "RandomApply(Normalize, p=0.5)", "Normalize"]
    files = gl.Files(["a.jpg"])
    crops = gl.Pipeline(files, gl.Decode(), gl.CenterCrop(9), gl.RandomApply(gl.RandomCrop(9, 2)))
    assert [step.name for step in steps_of(crops)][1:3] == ["Decode + crop", "CenterCrop: pad"]


# what may stand inside

REFUSED: list[tuple[Any, str]] = [
    (lambda: gl.RandomApply([]), r"RandomApply: stages must be a stage or several, such as \[.*\], not \[\]"),
    (lambda: gl.RandomApply(gl.ColorJitter), "RandomApply: stages must be a stage or several"),
    (lambda: gl.RandomChoice(JITTER), "RandomChoice: stages must be several stages"),
    (lambda: gl.RandomOrder([JITTER, 3]), "RandomOrder: stages must be several stages"),
    (lambda: gl.RandomApply(JITTER, 1.5), "RandomApply: p must be a probability between 0 and 1, not 1.5"),
    (lambda: gl.RandomChoice([JITTER, GREY], [1]), "p must be a number from 0 for each of the 2 stages, not all 0"),
    (lambda: gl.RandomChoice([JITTER, GREY], [0, 0]), "not all 0"),
    (lambda: gl.RandomChoice([JITTER, GREY], [1, -1]), "p must be a number from 0"),
    (lambda: gl.RandomChoice([JITTER, GREY], [1, float("nan")]), "p must be a number from 0"),
    *(
        (lambda stage=stage: gl.RandomApply(stage), f"{type(stage).__name__}.* works on no pixels.*by itself")
        for stage in (gl.Cache(), gl.Shuffle(), gl.Batch(3), gl.Decode())
    ),
    (lambda: gl.RandomChoice([gl.OneHot(3)]), "OneHot.* changes labels, and can't be done to some images only"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_can_not_stand_inside_is_refused_where_it_is_made(make: Any, message: str) -> None:
    with pytest.raises(gl.PipelineError, match=message):
        make()


MISPLACED: list[tuple[Stage, ImageSpec, str]] = [
    (
        gl.RandomApply(gl.ToDtype("float32")),
        UINT8,
        r"ToDtype.* makes float32 8×8×3 HWC of uint8 8×8×3 HWC: put it into",
    ),
    (gl.RandomChoice([JITTER, gl.CenterCrop(4)]), UINT8, r"CenterCrop.* makes uint8 4×4×3 HWC of"),
    (gl.RandomOrder([gl.Resize((9, 9))]), UINT8, r"Resize.* makes uint8 9×9×3 HWC of"),
    (gl.RandomApply(GREY), ENCODED_SPEC, "here images are still encoded: put Decode"),
    (
        gl.RandomApply(gl.Pad(2)),
        ImageSpec((None, None, 3), "uint8", "HWC"),
        r"only where all images have one size.*put Resize\(\(height, width\)\) before it",
    ),
]


@pytest.mark.parametrize(("stage", "spec", "message"), MISPLACED)
def test_images_must_leave_as_they_enter(stage: Stage, spec: ImageSpec, message: str) -> None:
    with pytest.raises(gl.PipelineError, match=message):
        stage.out_spec(spec)


def test_where_they_can_stand() -> None:
    ragged = ImageSpec((None, None, 3), "uint8", "HWC")
    assert gl.RandomApply([JITTER, TURN, gl.RandomHorizontalFlip()]).out_spec(ragged) == ragged
    there_and_back = gl.RandomApply([gl.ToDtype("float32"), JITTER, gl.ToDtype("uint8")])
    assert there_and_back.out_spec(UINT8) == UINT8
    assert gl.RandomApply([gl.Pad(2), gl.CenterCrop(SIDE)]).out_spec(UINT8) == UINT8
    batched = ImageSpec((None, SIDE, SIDE, 3), "uint8", "NHWC")
    assert gl.RandomOrder([JITTER, GREY]).out_spec(batched) == batched


def test_a_cache_behind_them_is_refused() -> None:
    with pytest.raises(gl.PipelineError, match=r"Cache after RandomApply.* would freeze its draws"):
        gl.Pipeline(SOURCE, gl.RandomApply(gl.Pad(0)), gl.Cache())


def test_words_of_a_sample_are_all_that_draws_come_from() -> None:
    stage = NESTED
    words = base(7, 0, np.arange(40))
    whole = stage.draw(words, 99)
    assert whole.shape == (40, stage.numbers)
    assert (stage.draw(words[10:13], 99) == whole[10:13]).all()
