"""The pipelines that a search considers: where caches may stand, and which pixels may change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from greenload.optimization.variants import Variant, keeping, keeping_in_tf_data, relaxed, shrunk, streaming
from greenload.plans.pipeline import Pipeline
from greenload.sources import Arrays, Files
from greenload.stages import (
    Batch,
    Cache,
    CenterCrop,
    ColorJitter,
    Decode,
    Echo,
    MixUp,
    Normalize,
    OneHot,
    RandomApply,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Shuffle,
    Stage,
    ToDtype,
)

FILES = Files(["a.jpg", "b.jpg"])
TO_FLOAT: tuple[Stage, ...] = (ToDtype("float32", scale=True), Normalize((0.5,), (0.2,)))
TRAIN = (Shuffle(), Decode(), RandomResizedCrop(224), RandomHorizontalFlip(), *TO_FLOAT, Batch(8))
EVALUATE = (Decode(), Resize(256), CenterCrop(224), *TO_FLOAT, Batch(8))


def of(*stages: Stage) -> Variant:
    return Variant(Pipeline(FILES, *stages, seed=9))


def before(variant: Variant) -> tuple[str, ...]:
    """The stages in front of a variant's cache."""
    names = [type(stage).__name__ for stage in variant.pipeline.stages]
    return tuple(names[: names.index("Cache")])


def test_streaming_takes_every_cache_out_and_nothing_else() -> None:
    cached = Pipeline(FILES, Shuffle(), Cache(), Decode(), Cache(ram=5), *TRAIN[2:], seed=9)
    assert streaming(cached) == Pipeline(FILES, *TRAIN, seed=9)


def test_native_caches_stand_before_decoding_with_the_budgets() -> None:
    kept = list(keeping(of(*TRAIN), ram=1000, disk=2000, folder="kept"))
    assert [one.kept for one in kept] == [
        "planes in memory",
        "pixels in memory",
        "coefficients in memory",
        "transcoded files in memory",
        "files in memory",
        "planes on disk",
        "pixels on disk",
        "coefficients on disk",
        "transcoded files on disk",
    ]
    assert {before(one) for one in kept} == {("Shuffle",)}
    caches = [stage for one in kept for stage in one.pipeline.stages if isinstance(stage, Cache)]
    assert {(cache.ram, cache.disk, cache.path) for cache in caches} == {(1000, None, None), (None, 2000, "kept")}
    assert [one.form for one in kept] == [cache.form for cache in caches]
    assert {one.pipeline.seed for one in kept} == {9} and not any(one.by_tf_data for one in kept)


def test_nothing_is_kept_without_a_budget() -> None:
    assert list(keeping(of(*TRAIN), ram=0, disk=0, folder=None)) == []
    assert {one.on_disk for one in keeping(of(*TRAIN), ram=0, disk=1, folder="kept")} == {True}


def test_what_deterministic_stages_give_is_kept_while_it_is_uint8() -> None:
    resized = [one for one in keeping(of(*EVALUATE), ram=9, disk=0, folder=None) if one.form == "resized"]
    assert [before(one) for one in resized] == [("Decode", "Resize", "CenterCrop")]
    assert resized[0].kept == "resized images in memory"


def test_no_cache_stands_behind_a_random_stage_or_an_echo() -> None:
    random = of(Decode(), RandomHorizontalFlip(), Resize((9, 9)), Batch(2))
    echoed = of(Decode(), Echo(2), Resize((9, 9)), Batch(2))
    for variant, places in ((random, {(), ("Decode",)}), (echoed, {(), ("Decode",)})):
        kept = [*keeping(variant, ram=9, disk=9, folder="kept"), *keeping_in_tf_data(variant)]
        assert {before(one) for one in kept} == places


def test_tf_data_keeps_files_pixels_and_what_comes_of_them() -> None:
    kept = {one.kept: before(one) for one in keeping_in_tf_data(of(*EVALUATE))}
    assert kept == {
        "files in memory (tf.data)": (),
        "pixels in memory (tf.data)": ("Decode",),
        "resized images in memory (tf.data)": ("Decode", "Resize", "CenterCrop"),
        "finished images in memory (tf.data)": ("Decode", "Resize", "CenterCrop", "ToDtype", "Normalize"),
    }
    assert [one.what for one in keeping_in_tf_data(of(*TRAIN))] == ["files", "pixels"]
    assert all(one.by_tf_data and one.form is None for one in keeping_in_tf_data(of(*EVALUATE)))


def test_arrays_have_nothing_to_keep() -> None:
    pixels = Variant(Pipeline(Arrays(np.zeros((2, 8, 8, 3), np.uint8)), RandomCrop(4), Batch(2)))
    assert not [*keeping(pixels, ram=9, disk=9, folder="k"), *keeping_in_tf_data(pixels)]
    assert not list(shrunk(pixels, ram=9, disk=0, folder=None))


def test_pixels_change_only_where_it_is_allowed() -> None:
    pipeline = of(*TRAIN).pipeline
    assert [one.changes for one in relaxed(pipeline, ())] == [()]
    assert [one.pipeline for one in relaxed(pipeline, ("shrunk-cache",))] == [pipeline]
    every = list(relaxed(pipeline, ("antialias", "float16")))
    assert [one.changes for one in every] == [(), ("antialias",), ("float16",), ("antialias", "float16")]
    assert every[1].pipeline.stages[2] == RandomResizedCrop(224, antialias=False)
    assert every[2].pipeline.stages[4:] == (*TO_FLOAT, ToDtype("float16"), Batch(8))
    assert [one.pipeline.specs[-1].dtype for one in every] == ["float32", "float32", "float16", "float16"]


def test_resizes_inside_of_others_are_unfiltered_too() -> None:
    stages = (Decode(), Resize((64, 64)), RandomApply(RandomResizedCrop(64), p=0.5), Batch(2))
    (_, aliased) = relaxed(of(*stages).pipeline, ("antialias",))
    assert aliased.pipeline.stages[1:3] == (
        Resize((64, 64), antialias=False),
        RandomApply(RandomResizedCrop(64, antialias=False), p=0.5),
    )
    assert aliased.pipeline.keys == of(*stages).pipeline.keys  # the same draws


@pytest.mark.parametrize(
    "stages",
    [
        (Decode(), Resize((8, 8), antialias=False), ColorJitter(0.2), Batch(2)),  # ends in uint8
        (Decode(), Resize((8, 8), antialias=False), ToDtype("float16", scale=True), Batch(2)),
        (Decode(), Resize((8, 8), antialias=False), *TO_FLOAT, OneHot(3), Batch(2), MixUp()),  # mixed in float32
    ],
)
def test_what_there_is_nothing_to_relax_of_stays(stages: Any) -> None:
    assert [one.changes for one in relaxed(of(*stages).pipeline, ("antialias", "float16"))] == [()]


def test_shrunk_images_are_larger_than_what_is_cut_out() -> None:
    kept = list(shrunk(of(*TRAIN), ram=9, disk=0, folder=None))
    assert [one.kept for one in kept] == ["images shrunk to 256 in memory", "images shrunk to 336 in memory"]
    assert [one.pipeline.stages[:4] for one in kept] == [
        (Shuffle(), Decode(), Resize(side), Cache(form="resized", ram=9)) for side in (256, 336)
    ]
    assert {one.changes for one in kept} == {("shrunk-cache",)}
    behind = kept[0].pipeline.keys[4:]
    assert behind == of(*TRAIN).pipeline.keys[2:]  # the same draws
    wide = list(shrunk(of(Decode(), RandomCrop((96, 224)), Batch(2)), ram=9, disk=0, folder=None))
    assert wide[0].pipeline.stages[1] == Resize(256)


def test_images_that_are_resized_already_are_not_shrunk() -> None:
    assert not list(shrunk(of(Decode(), Resize(256), RandomCrop(224), Batch(2)), ram=9, disk=0, folder=None))
    assert not list(shrunk(of(*EVALUATE), ram=9, disk=0, folder=None))
