"""``Echo``: each sample is read and decoded once, and gives several elements, each with draws of its own."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.backends.base import Records, echoes_of
from greenload.backends.chain import run_plan
from greenload.plans.order import Order
from greenload.plans.params import DrawLayout

COUNT = 14
RANDOM = (gl.RandomResizedCrop(16), gl.RandomHorizontalFlip())
Pairs = list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]


@pytest.fixture(scope="module")
def folder(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 photographs of the samples, in their classes."""
    made = tmp_path_factory.mktemp("few")
    for path in sorted(sample_folder.rglob("*.jpg"))[:: 48 // COUNT][:COUNT]:
        (made / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, made / path.parent.name / path.name)
    assert len(gl.ImageFolder(made)) == COUNT
    return made


def pipeline(folder: Path, *stages: gl.Stage, before: tuple[gl.Stage, ...] = (gl.Shuffle(),)) -> gl.Pipeline:
    return gl.Pipeline(gl.ImageFolder(folder), *before, gl.Decode(), *stages, seed=3)


def arrays(batches: Any) -> Pairs:
    return [(np.asarray(images), np.asarray(labels)) for images, labels in batches]


def flat(batches: Pairs) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def same(one: Pairs, other: Pairs) -> bool:
    pairs = itertools.chain(*(zip(a, b, strict=True) for a, b in zip(one, other, strict=True)))
    return all(np.array_equal(a, b) for a, b in pairs)


def one_by_one(echoing: gl.Pipeline, backend: str, epoch: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """An epoch as it must be: each position's sample is decoded anew, with that echo's values, without ``Echo``."""
    order, layout = Order(echoing, None), DrawLayout.of(echoing)
    positions = np.arange(order.samples)
    index = order.indices(epoch, positions)
    numbers = layout.prepare(echoing.seed, epoch, index, echoes=order.echoes(positions))
    stages = [stage for stage in echoing.stages if not isinstance(stage, gl.Echo)]
    plan = gl.make_plan(gl.Pipeline(echoing.source, *stages, seed=echoing.seed), backend)
    images = [echoing.source.read(i) for i in index]
    return run_plan(plan, Records(images, numbers, [str(i) for i in index])), echoing.source.labels[index]


SETS: dict[str, tuple[gl.Stage, ...]] = {
    "behind Decode": (gl.Echo(3), *RANDOM, gl.Batch(6)),
    "two batches share a sample": (gl.Echo(3), *RANDOM, gl.Batch(4)),
    "more echoes than a batch has images": (gl.Echo(5), *RANDOM, gl.Batch(2)),
    "behind a resize": (gl.Resize((24, 24)), gl.Echo(2), gl.RandomCrop(16), gl.RandomHorizontalFlip(), gl.Batch(4)),
    "between draws": (gl.RandomResizedCrop(20), gl.Echo(2), gl.RandomCrop(16), gl.Batch(4)),
    "before Batch": (*RANDOM, gl.Echo(2), gl.Batch(8)),
    "to float": (gl.Echo(2), *RANDOM, gl.ToDtype("float32", scale=True), gl.Batch(4, drop_remainder=True)),
}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tf", "native", "pillow"])
@pytest.mark.parametrize("stages", SETS.values(), ids=SETS)
def test_it_gives_what_decoding_anew_would_give(folder: Path, stages: tuple[gl.Stage, ...], backend: str) -> None:
    echoing = pipeline(folder, *stages)
    dataset = gl.load(echoing, backend, epochs=2)
    loaded = arrays(dataset)
    assert len(dataset) == len(loaded)
    per_epoch = len(loaded) // 2
    for epoch in range(2):
        images, labels = flat(loaded[epoch * per_epoch : (epoch + 1) * per_epoch])
        expected = one_by_one(echoing, backend, epoch)
        count = len(labels)
        assert count == (len(expected[1]) if not echoing.batch.drop_remainder else len(expected[1]) // 4 * 4)
        assert np.array_equal(labels, expected[1][:count])
        assert np.array_equal(images, expected[0][:count])
    assert same(arrays(gl.iterate(echoing, backend=backend, epochs=2)), loaded)


def test_echo_0_is_the_sample_without_echo(folder: Path) -> None:
    times = 3
    images, labels = flat(arrays(gl.iterate(pipeline(folder, gl.Echo(times), *RANDOM, gl.Batch(6)), backend="native")))
    alone, once = flat(arrays(gl.iterate(pipeline(folder, *RANDOM, gl.Batch(6)), backend="native")))
    assert np.array_equal(images[::times], alone)
    assert np.array_equal(labels, np.repeat(once, times))
    others = images.reshape(COUNT, times, *images.shape[1:])
    assert all(not np.array_equal(a, b) for sample in others for a, b in itertools.combinations(sample, 2))
    just_one = gl.iterate(pipeline(folder, gl.Echo(1), *RANDOM, gl.Batch(6)), backend="native")
    assert np.array_equal(flat(arrays(just_one))[0], alone)


def test_what_stands_before_draws_once(folder: Path) -> None:
    echoing = pipeline(folder, gl.RandomResizedCrop(16), gl.Echo(2), gl.RandomHorizontalFlip(1.0), gl.Batch(4))
    images, _ = flat(arrays(gl.iterate(echoing, backend="native")))
    assert np.array_equal(images[::2], images[1::2])
    without = pipeline(folder, gl.RandomResizedCrop(16), gl.RandomHorizontalFlip(1.0), gl.Batch(4))
    assert np.array_equal(images[::2], flat(arrays(gl.iterate(without, backend="native")))[0])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tf", "native"])
def test_it_goes_on_where_it_was(folder: Path, backend: str) -> None:
    echoing = pipeline(folder, gl.Echo(3), *RANDOM, gl.Batch(4))
    batches = gl.iterate(echoing, backend=backend, epochs=2)
    assert len(batches) == 2 * 11
    positions, whole = [batches.position], []
    for pair in arrays(batches):
        whole.append(pair)
        positions.append(batches.position)
    for done in (1, 2, 9, 14):  # the second batch begins in the midst of a sample
        start = gl.Position(done // 11, done % 11 * 4)
        assert same(arrays(gl.iterate(echoing, backend=backend, epochs=2, start=start)), whole[done:])
        assert same(arrays(gl.load(echoing, backend, epochs=2, start=start)), whole[done:])
    with pytest.raises(gl.UsageError, match="sample 42 is beyond the epoch's 42 samples"):
        gl.load(echoing, backend, epochs=1, start=gl.Position(0, 42))


def test_its_positions_count_echoes(folder: Path) -> None:
    batches = gl.iterate(pipeline(folder, gl.Echo(3), *RANDOM, gl.Batch(20)), backend="native", epochs=2)
    seen = [batches.position, *(batches.position for _ in batches)]
    assert [(at.epoch, at.sample) for at in seen] == [(0, 0), (0, 20), (0, 40), (1, 0), (1, 20), (1, 40), (2, 0)]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tf", "native"])
def test_shards_have_whole_samples_and_are_the_epoch_together(folder: Path, backend: str) -> None:
    echoing = pipeline(folder, gl.Echo(2), *RANDOM, gl.Batch(4))
    images, labels = flat(arrays(gl.load(echoing, backend, epochs=1)))
    images, labels = images.reshape(COUNT, 2, 16, 16, 3), labels.reshape(COUNT, 2)
    for index in range(3):
        for make in (gl.load, gl.iterate):
            part = make(echoing, backend=backend, epochs=1, shard=gl.Shard(index, 3))
            own = flat(arrays(part))
            assert np.array_equal(own[0].reshape(-1, 2, 16, 16, 3), images[index::3])
            assert np.array_equal(own[1].reshape(-1, 2), labels[index::3])


@pytest.mark.slow
def test_the_advancing_form_and_single_samples(folder: Path) -> None:
    echoing = pipeline(folder, gl.Echo(2), gl.RandomHorizontalFlip())
    dataset = gl.load(echoing, "tf")
    assert int(dataset.cardinality()) == 2 * COUNT
    epochs = [[np.asarray(image) for image, _ in dataset] for _ in range(2)]
    for epoch, images in enumerate(epochs):
        order = Order(echoing, None).indices(epoch, np.arange(2 * COUNT))
        assert len(images) == 2 * COUNT
        for place in range(0, 2 * COUNT, 2):
            assert order[place] == order[place + 1] and images[place].shape == images[place + 1].shape
            turned = [images[place + 1], images[place + 1][:, ::-1]]
            assert any(np.array_equal(images[place], one) for one in turned)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tf", "native", "pillow"])
def test_each_file_is_decoded_once(folder: Path, backend: str) -> None:
    """By the clocks around what is done: reading and decoding for each sample, the rest for each echo."""
    times = 4
    echoing = pipeline(folder, gl.Echo(times), *RANDOM, gl.Batch(8))
    batches = gl.iterate(echoing, backend=backend)
    clocks = batches.step_clocks()
    before = {clock.name: clock.read().calls for clock in clocks}
    assert len(list(batches)) == 7
    calls = {clock.name: clock.read().calls - before[clock.name] for clock in clocks}
    assert calls["Decode"] == COUNT
    assert calls["RandomHorizontalFlip"] == times * COUNT
    if backend != "tf":  # tf.data reads in batches of its own, whose last may lack some
        assert calls["Read"] == COUNT


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tf", "native", "pillow"])
def test_a_bad_record_is_named_and_can_be_left_out(folder: Path, tmp_path: Path, backend: str) -> None:
    shutil.copytree(folder, tmp_path / "some")
    bad = sorted((tmp_path / "some").rglob("*.jpg"))[5]
    bad.write_bytes(bad.read_bytes()[:200])
    echoing = pipeline(tmp_path / "some", gl.Echo(3), *RANDOM, gl.Batch(4), before=())
    for make in (gl.load, gl.iterate):
        batches = iter(make(echoing, backend=backend, epochs=1))
        good = [next(batches) for _ in range(3)]
        assert len(good) == 3
        with pytest.raises(gl.RecordError, match=bad.name):
            list(batches)
        start = make(echoing, backend=backend, epochs=1, start=gl.Position(0, 16))  # its own second echo
        with pytest.raises(gl.RecordError, match=bad.name):
            next(iter(start))
    with pytest.warns(UserWarning, match=bad.name):
        left = flat(arrays(gl.load(echoing, backend, epochs=1, on_error="skip")))
    assert len(left[1]) == 3 * (COUNT - 1)
    assert np.array_equal(left[1], np.repeat(np.delete(echoing.source.labels, 5), 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "cache"), [("tf", gl.Cache()), ("native", gl.Cache()), ("native", gl.Cache(form="encoded"))], ids=str
)
@pytest.mark.parametrize("place", ["before Decode", "behind Decode", "behind a resize"])
def test_a_cache_stands_before_it(folder: Path, backend: str, cache: gl.Cache, place: str) -> None:
    source, rest = gl.ImageFolder(folder), (gl.Echo(2), gl.RandomCrop(16), gl.RandomHorizontalFlip(), gl.Batch(4))
    resize = gl.Resize((24, 24))
    if place == "before Decode":
        stages = (cache, gl.Decode(), resize, *rest)
    elif place == "behind Decode":
        stages = (gl.Decode(), cache if backend == "native" else gl.Cache(), resize, *rest)
    else:
        stages = (gl.Decode(), resize, gl.Cache(), *rest)
    kept = gl.Pipeline(source, gl.Shuffle(), *stages, seed=3)
    plain = gl.Pipeline(source, gl.Shuffle(), gl.Decode(), resize, *rest, seed=3)
    expected = arrays(gl.load(plain, backend, epochs=2))
    assert same(arrays(gl.load(kept, backend, epochs=2)), expected)
    assert same(arrays(gl.iterate(kept, backend=backend, epochs=2)), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "placed",
    [
        {"Decode": "tf", "RandomResizedCrop": "native", "RandomHorizontalFlip": "native"},
        {"Decode": "native", "RandomResizedCrop": "tf", "RandomHorizontalFlip": "tf"},
        {"Decode": "native", "RandomResizedCrop": "pillow", "RandomHorizontalFlip": "native"},
        {"Decode": "pillow", "RandomResizedCrop": "dali-cpu", "RandomHorizontalFlip": "dali-cpu"},
    ],
    ids=lambda placed: "→".join(placed.values()),
)
def test_steps_may_be_on_several_backends(folder: Path, placed: Mapping[str, str]) -> None:
    echoing = pipeline(folder, gl.Echo(3), *RANDOM, gl.Batch(4))
    if placed["RandomResizedCrop"] == "tf":  # tf.data has batches then, of one size
        echoing = pipeline(folder, gl.Resize((24, 24)), gl.Echo(3), *RANDOM, gl.Batch(4))
        placed = {**placed, "Resize": "native"}
    plan = gl.make_plan(echoing, placed)
    images, labels = flat(arrays(gl.load(plan, epochs=1)))
    expected = one_by_one(echoing, placed["RandomResizedCrop"], 0)
    assert np.array_equal(labels, expected[1])
    if "Resize" in placed:  # whose values may be one level from tf's
        assert np.abs(images.astype(int) - expected[0]).max() <= 2
        plain = pipeline(folder, gl.Resize((24, 24)), *RANDOM, gl.Batch(4))
        assert np.array_equal(images[::3], flat(arrays(gl.load(gl.make_plan(plain, placed), epochs=1)))[0])
    else:
        assert np.array_equal(images, expected[0])
    assert np.array_equal(flat(arrays(gl.iterate(plan)))[0], images)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tf", "native"])
def test_mixes_see_echoes_as_samples(folder: Path, backend: str) -> None:
    echoing = pipeline(folder, gl.Echo(2), *RANDOM, gl.Batch(6), gl.CutMix(num_classes=4))
    loaded = arrays(gl.load(echoing, backend, epochs=1))
    assert same(arrays(gl.iterate(echoing, backend=backend)), loaded)
    plain = arrays(gl.load(pipeline(folder, gl.Echo(2), *RANDOM, gl.Batch(6)), backend, epochs=1))
    assert [labels.shape for _, labels in loaded] == [(6, 4)] * 4 + [(4, 4)]
    changed = [not np.array_equal(a, b) for (a, _), (b, _) in zip(loaded, plain, strict=True)]
    assert any(changed)
    for (mixed, _), (images, _) in zip(loaded, plain, strict=True):
        assert ((mixed == images).all(-1) | (mixed == np.roll(images, 1, 0)).all(-1)).all()


def test_arrays_are_echoed(folder: Path) -> None:
    source = gl.Arrays(np.random.default_rng(0).integers(0, 256, (10, 20, 20, 3), np.uint8), np.arange(10))
    stages = (gl.Echo(2), gl.RandomCrop(16), gl.RandomHorizontalFlip(), gl.Batch(4))
    echoing = gl.Pipeline(source, gl.Shuffle(), *stages, seed=3)
    expected = one_by_one(echoing, "native", 0)
    for backend in ("native", "tf"):
        for make in (gl.load, gl.iterate):
            images, labels = flat(arrays(make(echoing, backend=backend, epochs=1)))
            assert np.array_equal(images, expected[0]) and np.array_equal(labels, expected[1])


@pytest.mark.parametrize("backend", ["dali-cpu", "dali"])
def test_backends_that_cant_refuse_it(folder: Path, backend: str) -> None:
    echoing = pipeline(folder, gl.Echo(2), *RANDOM, gl.Batch(4))
    with pytest.raises(
        gl.PipelineError, match=rf"'Decode' stands before Echo\(times=2\).* backend '{backend}' can't do"
    ):
        gl.make_plan(echoing, backend)
    with pytest.raises(gl.PipelineError, match="in which each image stands several times: put both on 'native'"):
        gl.make_plan(
            pipeline(folder, gl.Resize((20, 20)), gl.RandomCrop(18), gl.Echo(2), *RANDOM, gl.Batch(4)),
            {"Decode": "native", "Resize": "native"},
        )


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        ((gl.Echo(2), gl.Decode()), "Echo.*put Decode.* before it"),
        ((gl.Decode(), gl.Resize((8, 8)), gl.Batch(2), gl.Echo(2)), "put it before Batch"),
        ((gl.Decode(), gl.Echo(2), gl.Echo(3)), "at most one Echo, but this has 2"),
        ((gl.Decode(), gl.Echo(2), gl.Cache()), "Cache keeps samples, but behind Echo"),
        ((gl.Decode(), gl.Echo(2), gl.Shuffle()), r"Shuffle\(\) orders samples, not their echoes"),
    ],
)
def test_where_it_cant_stand(folder: Path, stages: tuple[gl.Stage, ...], why: str) -> None:
    with pytest.raises(gl.PipelineError, match=why):
        gl.Pipeline(gl.ImageFolder(folder), *stages)


def test_it_is_described(folder: Path) -> None:
    echoing = pipeline(folder, gl.Echo(3), *RANDOM, gl.Batch(4))
    assert gl.Pipeline.from_dict(echoing.to_dict()) == echoing
    plan = gl.make_plan(echoing, "native")
    assert "Echo(times=3): Read, Decode once for 3 images" in plan.describe()
    assert [(step.name, step.serves) for step in plan.steps][:3] == [
        ("Read", 3),
        ("Decode", 3),
        ("RandomResizedCrop: crop", 1),
    ]
    assert [step.get("serves", 1) for step in plan.to_dict()["steps"]] == [3, 3, *[1] * (len(plan.steps) - 2)]


def test_echoes_of_a_batch() -> None:
    own, image_of = echoes_of(np.array([5, 5, 0, 0, 0, 7]))
    assert own.tolist() == [5, 0, 7] and image_of.tolist() == [0, 0, 1, 1, 1, 2]
    records = Records([b"a", b"b", b"c"], np.arange(6.0)[:, None], list("112223"), image_of)
    seen: list[Records] = []

    def run(given: Records) -> Any:
        seen.append(given)
        return [image * 2 for image in given.images]

    once = records.through(run, once=True)
    assert (seen[0].images, seen[0].numbers[:, 0].tolist(), seen[0].names) == (
        [b"a", b"b", b"c"],
        [0, 2, 5],
        list("123"),
    )
    each = once.through(run, once=False)
    assert seen[1].images == [b"aa", b"aa", b"bb", b"bb", b"bb", b"cc"] and len(seen[1].numbers) == 6
    assert each.image_of is None and each.images[-1] == b"cccc"
    assert replace(records, image_of=None, images=[b"a"] * 6).each().images == [b"a"] * 6
