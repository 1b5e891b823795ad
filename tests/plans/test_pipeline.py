"""Pipelines as values: equal, hashable, described and back, and every impossible order refused."""

from __future__ import annotations

import json
import pickle
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenload.errors import PipelineError, SourceError
from greenload.plans.pipeline import Pipeline
from greenload.sources import Arrays, Files, ImageFolder
from greenload.specs import CACHE_FORMS
from greenload.stages import (
    Apply,
    Batch,
    Cache,
    CenterCrop,
    ColorJitter,
    Decode,
    GaussianBlur,
    Normalize,
    Pad,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)

FILES = Files(["a.jpg", "b.jpg"], [0, 1])
SIZE = st.integers(1, 500) | st.tuples(st.integers(1, 500), st.integers(1, 500))
UNIT = st.floats(0.01, 1.0)
BOUNDS = st.tuples(UNIT, UNIT).map(lambda pair: (min(pair), max(pair)))
LEVEL = st.integers(0, 255)
FACTOR = st.none() | st.floats(0, 1) | BOUNDS
SINGLE = st.one_of(
    st.builds(CenterCrop, SIZE),
    st.builds(Resize, st.tuples(st.integers(1, 500), st.integers(1, 500)), st.booleans()),
    st.builds(RandomResizedCrop, SIZE, BOUNDS, BOUNDS, st.booleans()),
    st.builds(RandomHorizontalFlip, st.floats(0, 1)),
    st.just(ToDtype("uint8", scale=True)),
    st.builds(RandomCrop, st.integers(9, 500), st.none() | st.tuples(*[st.integers(0, 8)] * 4), st.just(True), LEVEL),
    st.builds(RandomVerticalFlip, st.floats(0, 1)),
    st.builds(RandomRotation, st.floats(0, 360) | st.tuples(st.floats(-90, 0), st.floats(0, 90)), LEVEL),
    st.builds(
        RandomAffine,
        st.floats(0, 360),
        st.none() | st.tuples(st.floats(0, 1), st.floats(0, 1)),
        st.none() | BOUNDS,
        st.none() | st.floats(0, 89) | st.tuples(st.floats(-9, 0), st.floats(0, 9), st.floats(-9, 0), st.floats(0, 9)),
        LEVEL,
    ),
    st.builds(Pad, st.integers(0, 9) | st.tuples(st.integers(0, 9), st.integers(0, 9)), LEVEL),
    st.builds(ColorJitter, FACTOR, FACTOR, FACTOR, st.none() | st.floats(0, 0.5)),
    st.builds(RandomGrayscale, st.floats(0, 1)),
    st.builds(GaussianBlur, st.integers(0, 9).map(lambda n: 2 * n + 1), BOUNDS | UNIT),
    st.builds(RandomErasing, st.floats(0, 1), BOUNDS, BOUNDS, LEVEL | st.tuples(LEVEL, LEVEL, LEVEL)),
    st.just(Apply("support_functions:darker")),
)
VALUES = st.lists(
    st.builds(Normalize, st.tuples(*[st.floats(-9, 9)] * 3), st.tuples(*[st.floats(0.1, 9)] * 3)), max_size=2
)


FORMS = st.sampled_from(CACHE_FORMS)
CACHES = st.builds(Cache, form=FORMS, ram=st.none() | st.integers(1, 1 << 50)) | st.builds(
    Cache, st.text("ab/. ü", min_size=1), FORMS, disk=st.none() | st.integers(1, 1 << 50)
)


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    stages: list[Stage] = [
        Decode(),
        *([draw(CACHES)] if draw(st.booleans()) else []),
        *draw(st.lists(SINGLE, max_size=4)),
    ]
    if draw(st.booleans()):
        stages.insert(draw(st.integers(0, len(stages))), Shuffle())
    tail: list[Stage] = [ToDtype("float32", draw(st.booleans())), *draw(VALUES)]
    batch = [CenterCrop(8), Batch(draw(st.integers(1, 512)), draw(st.booleans()))]
    stages += [*tail, *batch] if draw(st.booleans()) else [*batch, *tail]
    return Pipeline(FILES, *stages, seed=draw(st.integers(-(2**70), 2**70)))


@pytest.mark.slow
@given(pipelines())
@settings(max_examples=150, deadline=None)
def test_a_pipeline_comes_back_from_its_description(pipeline: Pipeline) -> None:
    again = Pipeline.from_dict(json.loads(json.dumps(pipeline.to_dict())))
    assert again == pipeline
    assert hash(again) == hash(pipeline)
    assert again.keys == pipeline.keys
    assert again.specs == pipeline.specs
    assert str(again) == str(pipeline)
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline
    assert len(pipeline.specs) == len(pipeline.stages) + 1


def test_pipelines_differ_in_each_part() -> None:
    one = Pipeline(FILES, Decode(), CenterCrop(8), Batch(2), seed=1)
    others = [
        Pipeline(FILES, Decode(), CenterCrop(8), Batch(2), seed=2),
        Pipeline(FILES, Decode(), CenterCrop(9), Batch(2), seed=1),
        Pipeline(FILES, Decode(), CenterCrop(8), Batch(2, drop_remainder=True), seed=1),
        Pipeline(Files(["a.jpg"]), Decode(), CenterCrop(8), Batch(2), seed=1),
        Pipeline(FILES, Decode(), CenterCrop(8), seed=1),
    ]
    assert all(other != one for other in others)
    assert one == Pipeline(FILES, Decode(), CenterCrop((8, 8)), Batch(2), seed=1)
    with pytest.raises(AttributeError):
        one.seed = 3  # type: ignore[misc]


def test_arrays_are_given_again() -> None:
    source = Arrays(np.zeros((2, 4, 4, 3), np.uint8))
    pipeline = Pipeline(source, Batch(2))
    data = json.loads(json.dumps(pipeline.to_dict()))
    with pytest.raises(SourceError, match="source=Arrays"):
        Pipeline.from_dict(data)
    assert Pipeline.from_dict(data, source=source) == pipeline
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline


def test_another_source_is_not_listed_before_it_is_needed(tmp_path: Any) -> None:
    data = Pipeline(FILES, Decode()).to_dict()
    source = ImageFolder(tmp_path)  # nothing in it yet
    assert Pipeline.from_dict(data, source=source).source is source


WHOLE = Pipeline(FILES, Decode(), CenterCrop(8), Batch(2)).to_dict()
DAMAGED = {
    "no format": {k: v for k, v in WHOLE.items() if k != "format"},
    "other format": WHOLE | {"format": "greenload.pipeline/9"},
    "unknown stage": WHOLE | {"stages": [{"stage": "Mosaic"}]},
    "unknown argument": WHOLE | {"stages": [{"stage": "Decode", "fast": True}]},
    "missing argument": WHOLE | {"stages": [{"stage": "Decode"}, {"stage": "CenterCrop"}]},
    "bad argument": WHOLE | {"stages": [{"stage": "Decode"}, {"stage": "CenterCrop", "size": -1}]},
    "nameless stage": WHOLE | {"stages": [{"size": 3}]},
    "no stages": {k: v for k, v in WHOLE.items() if k != "stages"},
    "no seed": {k: v for k, v in WHOLE.items() if k != "seed"},
    "no source": {k: v for k, v in WHOLE.items() if k != "source"},
    "bad seed": WHOLE | {"seed": "seven"},
    "bad order": WHOLE | {"stages": [{"stage": "CenterCrop", "size": 3}]},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_description_is_one_line(name: str) -> None:
    with pytest.raises(PipelineError) as caught:
        Pipeline.from_dict(DAMAGED[name])
    assert "\n" not in str(caught.value)


PIXELS = Arrays(np.zeros((2, 9, 9, 3), np.uint8))
FLOATS = Arrays(np.zeros((2, 9, 9, 3), np.float32))
GREY = Arrays(np.zeros((2, 9, 9, 1), np.float32))
ORDERS = {
    "twice decoded": (FILES, [Decode(), Decode()], "at most one Decode"),
    "twice shuffled": (FILES, [Shuffle(), Decode(), Shuffle()], "at most one Shuffle"),
    "twice batched": (PIXELS, [Batch(2), Batch(2)], "at most one Batch"),
    "pixels decoded": (PIXELS, [Decode()], "stage 1 of 1: Decode takes encoded bytes"),
    "bytes resized": (FILES, [Resize(8)], "stage 1 of 1: Resize(size=8) works on pixels"),
    "bytes batched": (FILES, [Shuffle(), Batch(2)], "stage 2 of 2: Batch(size=2) works on pixels"),
    "sizes that differ": (FILES, [Decode(), Batch(2)], "stage 2 of 2: Batch(size=2) stacks images of one size"),
    "a shorter side": (FILES, [Decode(), Resize(8), Batch(2)], "stage 3 of 3"),
    "cropped after batch": (PIXELS, [Batch(2), CenterCrop(3)], "put it before Batch"),
    "flipped after batch": (PIXELS, [Batch(2), RandomHorizontalFlip()], "put it before Batch"),
    "cached after batch": (PIXELS, [Batch(2), Cache()], "put it before Batch"),
    "shuffled after batch": (PIXELS, [Batch(2), Shuffle()], "put it before Batch"),
    "integers normalised": (PIXELS, [Normalize((0.5,), (1,))], "put ToDtype('float32', scale=True) before it"),
    "back to integers": (FLOATS, [ToDtype("uint8"), Normalize((0.5,), (1,))], "stage 2 of 2"),
    "wrong channels": (GREY, [Normalize((1, 2, 3), (1, 1, 1))], "3 channels, but images here have 1"),
    "cached crop": (FILES, [Decode(), RandomResizedCrop(8), Cache()], "Cache after RandomResizedCrop(size=(8, 8))"),
    "turned after batch": (PIXELS, [Batch(2), RandomRotation(3)], "put it before Batch"),
    "too small": (PIXELS, [RandomCrop(10)], "at least 10×10 pixels, but this is smaller: pass pad_if_needed=True"),
    "small floats resized": (PIXELS, [ToDtype("float16"), Resize(3)], "put it before ToDtype('float16')"),
    "a folder of an earlier cache": (
        FILES,
        [Cache("kept"), Decode(), Cache()],
        "but here Cache(path='kept') stands before Cache(): move its arguments there",
    ),
    "cached erasing": (PIXELS, [RandomErasing(), Cache()], "put Cache before it"),
    "cached flip": (PIXELS, [RandomHorizontalFlip(), CenterCrop(3), Cache()], "put Cache before it"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_impossible_order_says_which_stage_and_what_to_do(name: str) -> None:
    source, stages, says = ORDERS[name]
    with pytest.raises(PipelineError) as caught:
        Pipeline(source, *stages)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_order_of_the_usual_stages_works_or_is_refused() -> None:
    usual = [Shuffle(), Decode(), RandomResizedCrop(8), RandomHorizontalFlip(), ToDtype("float32"), Batch(2)]
    accepted = 0
    for order in permutations(usual):
        names = [type(stage).__name__ for stage in order]
        place = names.index
        legal = place("Decode") < min(place(n) for n in names if n not in ("Decode", "Shuffle"))
        legal &= place("Batch") > max(place(n) for n in ("RandomResizedCrop", "RandomHorizontalFlip", "Shuffle"))
        try:
            Pipeline(FILES, *order)
            accepted += 1
            assert legal
        except PipelineError:
            assert not legal
    assert accepted > 10


BAD = [
    (lambda: Pipeline(Decode()), "begins with a source"),  # type: ignore[arg-type]
    (lambda: Pipeline("data/train"), "begins with a source"),  # type: ignore[arg-type]
    (lambda: Pipeline(FILES, Decode), "write it with its parentheses"),  # type: ignore[arg-type]
    (lambda: Pipeline(FILES, [Decode()]), "made of stages"),  # type: ignore[arg-type]
    (lambda: Pipeline(FILES, len), "made of stages"),  # type: ignore[arg-type]
    (lambda: Pipeline(FILES, seed=0.5), "seed must be an integer, not 0.5"),  # type: ignore[arg-type]
    (lambda: Pipeline(FILES, seed=True), "seed must be an integer, not True"),
    (lambda: Pipeline(FILES, seed=None), "seed must be an integer, not None"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "says"), BAD, ids=[says for _, says in BAD])
def test_what_is_no_pipeline_is_refused(make: Any, says: str) -> None:
    with pytest.raises(PipelineError) as caught:
        make()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_follow_type_and_occurrence() -> None:
    keys = Pipeline(PIXELS, RandomHorizontalFlip(), CenterCrop(3), RandomHorizontalFlip(0.1)).keys
    assert len(set(keys)) == 3
    assert Pipeline(PIXELS, RandomHorizontalFlip(0.9)).keys[0] == keys[0]
    assert Pipeline(PIXELS, ToDtype("uint8"), RandomHorizontalFlip(), RandomHorizontalFlip()).keys[1:] == (
        keys[0],
        keys[2],
    )
