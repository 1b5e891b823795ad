"""Plans: the steps that stages become, what is fused, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from greenload.errors import PipelineError
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.sources import Arrays, Files
from greenload.stages import (
    Apply,
    Batch,
    Cache,
    CenterCrop,
    ColorJitter,
    Decode,
    GaussianBlur,
    Normalize,
    OneHot,
    Pad,
    RandomCrop,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomVerticalFlip,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)
from greenload.stages import primitives as p

FILES = Files(["a.jpg", "b.jpg"])
PIXELS = Arrays(np.zeros((4, 9, 7, 3), np.uint8))
FLOATS = Arrays(np.zeros((4, 9, 7, 3), np.float32))
IMAGENET = (
    Shuffle(),
    Decode(),
    RandomResizedCrop(32),
    RandomHorizontalFlip(),
    ToDtype("float32", scale=True),
    Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.5)),
    Batch(8),
)


def planned(source: Any, *stages: Stage, backend: str = "tf", **options: Any) -> Plan:
    return make_plan(Pipeline(source, *stages), backend, **options)


def names(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps]


def test_the_usual_pipeline_is_fused() -> None:
    plan = planned(FILES, *IMAGENET)
    assert names(plan) == [
        "Read",
        "Decode + crop",
        "RandomResizedCrop: resize",
        "RandomHorizontalFlip",
        "ToDtype + Normalize",
        "Batch",
    ]
    assert plan.steps[1].stages == ("Decode", "RandomResizedCrop")
    assert {step.backend for step in plan.steps if step.kind == "pixels"} == {"tf"}
    for before, after in zip(plan.steps[:-1], plan.steps[1:], strict=True):
        assert after.spec_in == before.spec_out
    affine = plan.steps[4].primitive
    assert isinstance(affine, p.Affine)
    np.testing.assert_allclose(affine.scale, [1 / 255 / s for s in (0.2, 0.25, 0.5)])
    np.testing.assert_allclose(affine.offset, [-2.5, -1.6, -0.6])
    assert plan.out_spec == plan.pipeline.specs[-1]


def test_dali_does_its_steps_in_one_run_and_no_stage_is_lost() -> None:
    plan = planned(FILES, *IMAGENET, backend="dali-cpu")
    pixels = [step for step in plan.steps if step.kind == "pixels"]
    assert {step.backend for step in pixels} == {"dali-cpu"}
    told = {name for step in plan.steps for name in step.stages}
    assert told >= {type(stage).__name__ for stage in IMAGENET}
    for before, after in zip(plan.steps[:-1], plan.steps[1:], strict=True):
        assert after.spec_in == before.spec_out
    assert plan.out_spec == plan.pipeline.specs[-1]


def test_a_centre_crop_is_fused_with_decoding_and_padded_after() -> None:
    assert names(planned(FILES, Decode(), CenterCrop(8), Batch(2))) == [
        "Read",
        "Decode + crop",
        "CenterCrop: pad",
        "Batch",
    ]


def test_what_stands_between_keeps_steps_apart() -> None:
    assert names(planned(FILES, Decode(), Cache(), CenterCrop(8)))[:4] == [
        "Read",
        "Decode",
        "Cache",
        "CenterCrop: crop",
    ]
    assert names(planned(FILES, Decode(), RandomHorizontalFlip(), CenterCrop(8)))[1:4] == [
        "Decode",
        "RandomHorizontalFlip",
        "CenterCrop: crop",
    ]
    apart = planned(PIXELS, ToDtype("float32"), Batch(2), Normalize((0.5,), (1,)))
    assert names(apart) == ["Read", "ToDtype", "Batch", "Normalize"]


def test_maps_through_uint8_are_not_joined_over_its_rounding() -> None:
    plan = planned(FLOATS, ToDtype("uint8", scale=True), ToDtype("float32", scale=True))
    assert names(plan) == ["Read", "ToDtype (1)", "ToDtype (2)"]


def test_joined_maps_are_the_maps_one_after_the_other() -> None:
    plan = planned(PIXELS, ToDtype("float32"), Normalize((100,), (50,)), Normalize((1, 2, 3), (2, 4, 8)))
    assert len(plan.steps) == 2
    joined = plan.steps[1].primitive
    assert isinstance(joined, p.Affine)
    x = np.array([7.0, 8.0, 9.0])
    wanted = ((x - 100) / 50 - np.array([1, 2, 3])) / np.array([2, 4, 8])
    np.testing.assert_allclose(x * joined.scale + joined.offset, wanted)


def test_a_stage_that_does_nothing_makes_no_step() -> None:
    assert names(planned(PIXELS, ToDtype("uint8", scale=True), Batch(2))) == ["Read", "Batch"]
    assert "pad" not in " ".join(names(planned(PIXELS, CenterCrop(7))))


def test_a_random_crop_is_one_window_inside_the_decoder_and_a_border() -> None:
    stages = (Decode(), RandomCrop(32, padding=4, fill=7), Batch(2))
    plan = planned(FILES, *stages)
    assert names(plan) == ["Read", "Decode + crop", "RandomCrop: pad", "Batch"]
    assert plan.steps[2].primitive == p.Pad(32, 32, 7.0)
    assert names(planned(FILES, Decode(), RandomCrop(32), Batch(2))) == ["Read", "Decode + crop", "Batch"]
    assert names(planned(PIXELS, RandomCrop(7, pad_if_needed=True))) == ["Read", "RandomCrop"]
    assert planned(FILES, Decode(), Pad(2)).steps[2].primitive == p.Pad(None, None, 0.0)
    assert planned(PIXELS, Pad((1, 2))).steps[1].primitive == p.Pad(13, 9, 0.0)


def test_what_rounds_or_clips_is_not_joined() -> None:
    assert len(planned(PIXELS, ColorJitter(0.1), ColorJitter(0.2), RandomGrayscale()).steps) == 4
    small = planned(PIXELS, ToDtype("float16", scale=True), Normalize((0.5,), (0.5,)))
    assert names(small) == ["Read", "ToDtype", "Normalize"]
    once = planned(PIXELS, ToDtype("float32", scale=True), Normalize((0.5,), (0.5,)), ToDtype("bfloat16"))
    assert names(once) == ["Read", "ToDtype + Normalize + ToDtype"]
    assert once.out_spec.dtype == "bfloat16"
    assert isinstance(once.steps[1].primitive, p.Affine)
    assert once.steps[1].primitive.dtype == "bfloat16"


def test_only_a_horizontal_flip_is_one_with_the_map_behind_it() -> None:
    for stage, steps in ((RandomHorizontalFlip(), 3), (RandomVerticalFlip(), 4)):
        assert len(planned(PIXELS, stage, ToDtype("float32"), Batch(2), backend="dali-cpu").steps) == steps


def test_stages_that_do_nothing_make_no_step() -> None:
    assert names(planned(PIXELS, ColorJitter(), Pad(0), GaussianBlur(1), OneHot(3), Batch(2))) == ["Read", "Batch"]


def test_names_are_told_apart() -> None:
    plan = planned(PIXELS, RandomHorizontalFlip(), RandomHorizontalFlip(), Resize((3, 3)), Resize((4, 4)))
    assert len(set(names(plan))) == len(plan.steps)


REFUSED = [
    (
        lambda: planned(PIXELS, backend="gpu"),
        "backend must be one of auto, tf, dali-cpu, dali, pillow, native, not 'gpu'",
    ),
    (lambda: planned(PIXELS, threads=0), "threads must be a positive integer, not 0"),
    (lambda: planned(PIXELS, threads=True), "threads must be"),
    (lambda: planned(PIXELS, threads=2.0), "threads must be"),
    (lambda: planned(PIXELS, prefetch=-1), "prefetch must be a positive integer, not -1"),
    (lambda: planned(PIXELS, RandomHorizontalFlip(), backend="dali-cpu"), "add Batch(32)"),
    (lambda: planned(FILES, Decode(), Cache(), CenterCrop(8), Batch(2), backend="dali-cpu"), "Cache must stand before"),
    (
        lambda: planned(PIXELS, ToDtype("bfloat16"), Batch(2), backend="dali-cpu"),
        "ToDtype(dtype='bfloat16') can't run on backend 'dali-cpu' to tolerance, for images that are uint8 9×7×3 HWC: "
        "use backend='tf'",
    ),
    (
        lambda: planned(PIXELS, Apply(abs), Batch(2), backend="dali"),
        "Apply(abs) can't run on backend 'dali': arbitrary code is the explicit stage Apply(fn), for the backends that "
        "can run it: use backend='tf'",
    ),
    (lambda: make_plan(FILES), "Pipeline"),  # type: ignore[arg-type]
    (lambda: make_plan("imagenet:train"), "Pipeline"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_can_not_be_planned_is_refused(make: Any, says: str) -> None:
    with pytest.raises(PipelineError) as caught:
        make()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plan_can_be_read_before_it_runs() -> None:
    plan = planned(FILES, *IMAGENET, threads=3, prefetch=5)
    text = str(plan)
    assert all(name in text for name in names(plan))
    assert "3 threads, 5 results held ready" in text
    assert "float32 ?×32×32×3 NHWC" in text
    data = json.loads(json.dumps(plan.to_dict()))
    assert [step["name"] for step in data["steps"]] == names(plan)
    assert plan == planned(FILES, *IMAGENET, threads=3, prefetch=5)


def test_a_sample_carries_each_stages_numbers() -> None:
    layout = DrawLayout.of(Pipeline(FILES, *IMAGENET, seed=7))
    numbers = layout.prepare(7, 0, np.arange(5))
    assert numbers.shape == (5, layout.count) == (5, 23)
    assert layout.of_stage(numbers, 2).shape == (5, 22)
    assert (layout.of_stage(numbers, 3)[:, 0] == numbers[:, 22]).all()
    assert layout.of_stage(numbers, 1).shape == (5, 0)
    assert DrawLayout.of(Pipeline(PIXELS, Batch(2))).prepare(7, 0, np.arange(5)).shape == (5, 0)


def test_sizes_are_followed_from_stage_to_stage() -> None:
    pipeline = Pipeline(FILES, Decode(), Resize(20), CenterCrop((30, 10)), RandomHorizontalFlip(), seed=1)
    layout = DrawLayout.of(pipeline)
    numbers = layout.prepare(1, 0, np.arange(2))
    found = layout.params(numbers, np.array([40, 30]), np.array([20, 90]), [1, 2])
    assert found[1]["size"].tolist() == [[40, 20], [20, 60]]
    assert found[2]["window"].tolist() == [[5, 5, 30, 10], [0, 25, 20, 10]]
    assert found[2]["pad"].tolist() == [[0, 0], [5, 0]]
    assert layout.params(numbers, np.array([40, 30]), np.array([20, 90]), []) == {}


def test_behind_a_users_function_no_image_is_called_too_small() -> None:
    def doubled(image: Any) -> Any:
        return image

    stages = (Decode(), Apply(doubled, shape=(None, None, 3)), RandomCrop(64), Batch(2))
    sides = np.array([40]), np.array([40])
    assert DrawLayout.of(Pipeline(FILES, *stages)).first_too_small(*sides) is None
    assert DrawLayout.of(Pipeline(FILES, stages[0], *stages[2:])).first_too_small(*sides) is not None
