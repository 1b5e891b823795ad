"""Steps whose cache keeps files: what moves behind it, what fills it, and what leaves the pipeline all the same."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenload.plans.cache_steps import CACHE_BACKEND, cache_steps
from greenload.plans.pipeline import Pipeline
from greenload.plans.steps import Step, steps_of
from greenload.sources import Arrays, Files
from greenload.stages import (
    Apply,
    Batch,
    Cache,
    CenterCrop,
    ColorJitter,
    Decode,
    Normalize,
    Pad,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)
from greenload.stages import primitives as p

FILES = Files(["a.jpg", "b.jpg"])
PIXELS = Arrays(np.zeros((4, 9, 7, 3), np.uint8))
SIDE = st.integers(1, 99)
SIDES = SIDE | st.tuples(SIDE, SIDE)
FIXED = st.one_of(
    st.builds(Resize, SIDES, st.booleans()),
    st.builds(CenterCrop, SIDES),
    st.builds(Pad, st.integers(0, 9)),
    st.just(ToDtype("float32")),
    st.just(ToDtype("uint8")),
    st.just(Apply("support_functions:darker")),
)
DRAWN = st.one_of(
    st.builds(RandomCrop, SIDES, pad_if_needed=st.just(True)),
    st.builds(RandomResizedCrop, SIDES),
    st.just(RandomHorizontalFlip()),
    st.builds(ColorJitter, st.floats(0, 1)),
    st.just(RandomErasing()),
)


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    """With a cache or two in front of anything random."""
    stages: list[Stage] = [Decode(exif=draw(st.booleans())), *draw(st.lists(FIXED, max_size=3))]
    for _ in range(draw(st.integers(1, 2))):
        stages.insert(draw(st.integers(0, len(stages))), Cache())
    stages += [*draw(st.lists(DRAWN | FIXED, max_size=3)), CenterCrop(8)]
    stages.insert(draw(st.integers(0, len(stages))), Shuffle())
    tail = [Normalize((0.5,), (0.5,))] if Pipeline(FILES, *stages).specs[-1].dtype == "float32" else []
    return Pipeline(FILES, *stages, Batch(4, draw(st.booleans())), *tail)


def stages_of(steps: Any) -> list[str]:
    return [name for step in steps for name in step.stages]


@pytest.mark.slow
@given(pipelines())
@settings(max_examples=300, deadline=None)
def test_what_leaves_is_what_leaves_the_pipeline(pipeline: Pipeline) -> None:
    plain, steps = steps_of(pipeline), cache_steps(pipeline)
    caches = [place for place, stage in enumerate(pipeline.stages) if isinstance(stage, Cache)]
    before = pipeline.specs[caches[-1]]
    if steps is None:
        assert before.dtype == "float32"  # only that can't be kept here
        return
    read, cache, decode, *_ = steps
    assert (read.kind, cache.kind, cache.backend) == ("read", "cache", CACHE_BACKEND)
    assert isinstance(decode.primitive, p.Decoding)
    assert [step.kind for step in steps].count("cache") == 1
    assert steps[-1].spec_out == pipeline.specs[-1] == plain[-1].spec_out
    for one, other in itertools.pairwise(steps):
        assert one.spec_out == other.spec_in
    assert cache.keeps is not None
    filling = cache.keeps.filling
    for one, other in itertools.pairwise(filling):
        assert one.spec_out == other.spec_in
    if filling:
        assert filling[0].spec_in.encoded
        assert filling[-1].spec_out == before
        assert decode.primitive.exif is False
    done = stages_of(step for step in steps if step.kind == "pixels")
    assert {*stages_of(filling), *done} == set(stages_of(step for step in plain if step.kind == "pixels"))


def keeps(*stages: Stage, source: Any = FILES) -> list[Step] | None:
    return cache_steps(Pipeline(source, *stages, Batch(2)))


def test_decoding_moves_behind_the_cache_and_is_fused_with_a_crop() -> None:
    steps = keeps(Shuffle(), Decode(exif=True), Cache(), RandomResizedCrop(8))
    assert steps == keeps(Shuffle(), Cache(), Decode(exif=True), RandomResizedCrop(8))
    assert steps is not None
    assert [step.name for step in steps] == ["Read", "Cache", "Decode + crop", "RandomResizedCrop: resize", "Batch"]
    assert steps[1].spec_in == steps[1].spec_out == FILES.spec


def test_what_else_stands_before_it_fills_it_and_its_result_is_decoded() -> None:
    steps = keeps(Decode(exif=True, max_bytes=99), Resize((9, 7)), Pad(1), Cache(), RandomHorizontalFlip())
    assert steps is not None
    cache, decode = steps[1:3]
    assert cache.keeps is not None
    assert cache.stages == ("Decode", "Resize", "Pad", "Cache")
    assert [step.name for step in cache.keeps.filling] == ["Decode", "Resize", "Pad"]
    assert cache.keeps.filling[0].primitive == p.Decode(exif=True, max_bytes=99)
    assert decode.spec_out.shape == (11, 9, 3)
    assert isinstance(decode.primitive, p.Decode)
    assert not decode.primitive.exif  # what is kept is upright
    assert decode.primitive.max_bytes > 1 << 60
    assert decode.stage == 3  # sizes are followed from there on


def test_the_last_of_several_caches_keeps() -> None:
    steps = keeps(Cache(), Decode(), Cache("b", form="pixels"), CenterCrop(8))
    assert steps is not None
    assert [step.keeps and (step.keeps.path, step.keeps.form) for step in steps if step.kind == "cache"] == [
        ("b", "pixels")
    ]


def test_arrays_are_in_memory_already() -> None:
    steps = keeps(Cache(), CenterCrop(4), source=PIXELS)
    assert steps is not None
    assert [step.name for step in steps] == ["Read", "CenterCrop", "Batch"]
    assert keeps(Resize((4, 4)), Cache(), source=PIXELS) is None


def test_what_cannot_be_kept_as_files() -> None:
    assert keeps(Decode(), CenterCrop(8)) is None
    assert keeps(Decode(), ToDtype("float32"), Cache(), CenterCrop(8)) is None
    assert cache_steps(Pipeline(FILES, Shuffle(), Cache())) is None
