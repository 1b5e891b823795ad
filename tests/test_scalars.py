"""Arguments that are NumPy's numbers: taken wherever a number is, and kept as Python's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload import scalars
from greenload.errors import GreenloadError, UsageError
from greenload.sources.samples import make_samples
from greenload.stages import Stage
from greenload.stages.registry import STAGES

INTEGERS = (np.int8, np.uint8, np.int32, np.int64, np.uint64, np.array)
FLOATS = (np.float16, np.float32, np.float64, np.array)

# Each with whole numbers, or numbers that float16 holds.
OF_INTEGERS: dict[str, Callable[[Any], Stage]] = {
    "Apply": lambda n: gl.Apply(abs, shape=(n(3), None, n(1))),
    "AugMix": lambda n: gl.AugMix(n(4), n(2), n(3), n(1), np.bool_(False), n(9)),
    "Batch": lambda n: gl.Batch(n(7), np.bool_(True)),
    "CenterCrop": lambda n: gl.CenterCrop((n(5), n(6))),
    "CutMix": lambda n: gl.CutMix(n(1), n(10)),
    "Echo": lambda n: gl.Echo(n(2)),
    "GaussianBlur": lambda n: gl.GaussianBlur(n(3), sigma=n(2)),
    "MixUp": lambda n: gl.MixUp(n(1), n(10)),
    "OneHot": lambda n: gl.OneHot(n(10)),
    "Pad": lambda n: gl.Pad([n(1), n(2)], fill=n(3)),
    "RandomAdjustSharpness": lambda n: gl.RandomAdjustSharpness(n(2), n(1)),
    "AutoAugment": lambda n: gl.AutoAugment(fill=n(9)),
    "RandAugment": lambda n: gl.RandAugment(n(3), n(5), n(11), None, np.bool_(True), n(9)),
    "RandomCrop": lambda n: gl.RandomCrop(n(32), padding=n(4), pad_if_needed=np.bool_(True)),
    "RandomErasing": lambda n: gl.RandomErasing(n(1), value=(n(1), n(2), n(3))),
    "RandomPerspective": lambda n: gl.RandomPerspective(n(1), n(1), n(7)),
    "RandomPosterize": lambda n: gl.RandomPosterize(n(4)),
    "RandomResizedCrop": lambda n: gl.RandomResizedCrop(n(64), antialias=np.bool_(False)),
    "Resize": lambda n: gl.Resize(n(64), np.bool_(False)),
    "RandomRotation": lambda n: gl.RandomRotation(n(15)),
    "Shuffle": lambda n: gl.Shuffle(block=n(9)),
}
OF_FLOATS: dict[str, Callable[[Any], Stage]] = {
    "AugMix": lambda x: gl.AugMix(alpha=x(0.5), fill=x(7.0)),
    "ColorJitter": lambda x: gl.ColorJitter(x(0.5), (x(0.25), x(2.0)), hue=x(0.125)),
    "CutMix": lambda x: gl.CutMix(x(0.5)),
    "GaussianBlur": lambda x: gl.GaussianBlur(3, (x(0.5), x(2.0))),
    "MixUp": lambda x: gl.MixUp(x(0.5)),
    "Normalize": lambda x: gl.Normalize([x(0.5)], (x(0.25),)),
    "RandomAdjustSharpness": lambda x: gl.RandomAdjustSharpness(x(1.5), x(0.25)),
    "RandomAffine": lambda x: gl.RandomAffine(x(7.5), (x(0.5), x(0.25)), (x(0.5), x(1.5)), x(3.5), x(0.5)),
    "RandomApply": lambda x: gl.RandomApply(gl.RandomVerticalFlip(x(0.25)), x(0.5)),
    "RandomAutocontrast": lambda x: gl.RandomAutocontrast(x(0.25)),
    "RandomChoice": lambda x: gl.RandomChoice([gl.RandomGrayscale(x(0.25))] * 2, [x(0.5), x(0.25)]),
    "RandomEqualize": lambda x: gl.RandomEqualize(x(0.25)),
    "RandomErasing": lambda x: gl.RandomErasing(x(0.25), (x(0.25), x(0.5)), (x(0.5), x(2.0)), x(0.5)),
    "RandomGrayscale": lambda x: gl.RandomGrayscale(x(0.25)),
    "RandomHorizontalFlip": lambda x: gl.RandomHorizontalFlip(x(0.25)),
    "RandomInvert": lambda x: gl.RandomInvert(x(0.25)),
    "RandomPerspective": lambda x: gl.RandomPerspective(x(0.25), x(0.5), x(0.5)),
    "RandomPosterize": lambda x: gl.RandomPosterize(4, x(0.25)),
    "RandomResizedCrop": lambda x: gl.RandomResizedCrop(64, (x(0.25), x(1.0)), (x(0.5), x(2.0))),
    "RandomSolarize": lambda x: gl.RandomSolarize(x(100.5), x(0.25)),
    "RandomVerticalFlip": lambda x: gl.RandomVerticalFlip(x(0.25)),
    "TrivialAugmentWide": lambda x: gl.TrivialAugmentWide(fill=x(9.0)),
}


@pytest.mark.parametrize("name", sorted(set(OF_INTEGERS) | set(OF_FLOATS)))
def test_stages_keep_numbers_of_numpy_as_pythons(name: str) -> None:
    cases = [(OF_INTEGERS, int, INTEGERS), (OF_FLOATS, float, FLOATS)]
    for stages, plain, kinds in cases:
        for kind in kinds if name in stages else ():
            made, expected = stages[name](kind), stages[name](plain)
            assert made == expected
            assert hash(made) == hash(expected)
            assert json.dumps(made.to_dict() | {"fn": ""}) == json.dumps(expected.to_dict() | {"fn": ""})
            assert "np." not in repr(made)


def test_every_stage_with_numbers_is_tried() -> None:
    assert set(STAGES) - set(OF_INTEGERS) - set(OF_FLOATS) == {"Cache", "Decode", "RandomOrder", "ToDtype"}


def test_arrays_stand_for_pairs() -> None:
    assert gl.Resize(np.array([5, 6])) == gl.Resize((5, 6))
    assert gl.RandomAffine(0, scale=np.array([0.5, 2.0])) == gl.RandomAffine(0, scale=(0.5, 2.0))  # type: ignore[arg-type]
    assert gl.Normalize(np.array([0.5], np.float32), np.ones(1)) == gl.Normalize((0.5,), (1.0,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), np.array(True), 2.0, np.float32(2), "2", None, np.array([2, 3, 4])]
)
def test_what_is_no_whole_number_is_refused(value: Any) -> None:
    assert scalars.whole(value) is None
    for make in (
        lambda: gl.Resize(value),
        lambda: gl.Batch(value),
        lambda: gl.Position(value),
        lambda: gl.Shard(0, value),
        lambda: gl.OneHot(value),
        lambda: gl.RandomCrop(9, padding=value) if value is not None else gl.Batch(value),
    ):
        with pytest.raises(GreenloadError, match="not "):
            make()


@pytest.mark.parametrize("value", [True, np.bool_(True), np.nan, np.float32("inf"), 10**400, "0.5", np.array([0.5])])
def test_what_is_no_number_is_refused(value: Any) -> None:
    assert scalars.number(value) is None
    for make in (
        lambda: gl.RandomHorizontalFlip(value),
        lambda: gl.Normalize((value,), (1.0,)),
        lambda: gl.Pad(1, fill=value),
        lambda: gl.ColorJitter(value),
    ):
        with pytest.raises(GreenloadError, match="not "):
            make()


@pytest.mark.slow
def test_functions_take_numbers_of_numpy(tmp_path: Path) -> None:
    whole, number = np.int32, np.float32
    made = make_samples(tmp_path / "photos", whole(6), whole(1), whole(2))
    assert (made.images, made.classes) == (6, 2)
    source = gl.ImageFolder(tmp_path / "photos", min_classes=np.int64(2))  # type: ignore[arg-type]
    assert json.dumps(source.to_dict())
    stages = gl.Decode(), gl.CenterCrop(whole(8)), gl.Batch(whole(2))
    pipeline = gl.Pipeline(source, *stages, seed=np.uint64(2**63))  # type: ignore[arg-type]
    assert pipeline == gl.Pipeline(source, *stages, seed=2**63)
    assert gl.Pipeline.from_dict(json.loads(json.dumps(pipeline.to_dict()))) == pipeline
    plan = gl.make_plan(pipeline, "pillow", threads=whole(1), prefetch=whole(1))
    assert json.dumps(plan.to_dict())
    options: dict[str, Any] = {"start": gl.Position(whole(1), whole(2)), "shard": gl.Shard(whole(1), whole(2))}
    assert json.dumps([options["start"].sample, options["shard"].count]) == "[2, 2]"
    batches = [labels.tolist() for _, labels in gl.iterate(plan, epochs=whole(2), **options)]
    assert batches == [[1]]
    packed = gl.pack(source, tmp_path / "packed", shard_mb=number(1), seed=whole(3), threads=whole(2))  # type: ignore[arg-type]
    assert packed.samples == 6
    assert gl.verify(source, whole(1)).bad == ()
    with pytest.raises(UsageError, match="threads must be a positive integer, not True"):
        gl.verify(source, True)
    kept = gl.measure(period_s=number(0.5), keep=whole(1))(len)
    assert [kept("a"), kept("bc"), len(kept.windows)] == [1, 2, 1]
