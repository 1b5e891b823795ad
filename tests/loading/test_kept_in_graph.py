"""What ``load`` keeps between epochs on backend "native", inside TensorFlow's graph: the same pixels in every form,
each record read once, in the store that ``iterate`` uses too."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import odd_images
import pytest
import record_files

import greenload as gl
from greenload.backends.base import Records
from greenload.backends.chain import Chain
from greenload.backends.native import graph, library, op
from greenload.backends.native.cached_reader import CachedReader
from greenload.backends.native.store import State, Store
from greenload.loading import host_calls, tf_graph, tf_reading
from greenload.planning.choose import helpers, make_plan, readers_for
from greenload.plans.plan import Plan
from greenload.sources import Files, TFRecords
from greenload.specs import CACHE_FORMS
from greenload.stages import (
    Batch,
    Cache,
    CenterCrop,
    Decode,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    Shuffle,
    Stage,
)

tf = pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.* have an EXIF orientation"),  # tests/loading/test_survey.py
    pytest.mark.filterwarnings("ignore:.* are 16-bit PNGs"),
    pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "it is there"),
]
EPOCHS, BATCH, COUNT = 3, 4, 11
RANDOM: tuple[Stage, ...] = (RandomResizedCrop(16), RandomHorizontalFlip())
FORMS = [form for form in CACHE_FORMS if form not in ("resized", "auto")]
PAIRS = [(form, form == "transcoded") for form in FORMS if form != "planes"]
"""Forms, and whether orientations are read: where they are, graphs take three times as long to start."""


@pytest.fixture(autouse=True)
def in_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch goes through Python."""

    def refused(*_: Any) -> None:
        raise AssertionError("a batch would leave TensorFlow's graph")

    monkeypatch.setattr(tf_graph, "host_call", refused)


@pytest.fixture
def photos(tmp_path: Path, bad_images: ModuleType) -> Files:
    """JPEGs of sizes that differ; some lie on their side, one is grey, one progressive. Of other kinds, whose graphs
    take ten times as long to start, there is one test."""
    paths = bad_images.make_photos(tmp_path / "photos", COUNT)
    return Files(paths, np.arange(COUNT) % 5)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file is read by batches."""
    counted: Counter[str] = Counter()
    read = graph.read

    def count(paths: Any) -> Any:
        counted.update(path.decode() for path in paths)
        return paths

    def counting(paths: Any, helpers: int) -> Any:
        return read(tf.ensure_shape(tf.numpy_function(count, [paths], tf.string), [None]), helpers)

    monkeypatch.setattr(graph, "read", counting)
    return counted


def once(source: Files) -> Counter[str]:
    return Counter(source.paths)


def planned(source: Any, *stages: Stage, seed: int = 5, helped: bool = False) -> Plan:
    plan = make_plan(gl.Pipeline(source, *stages, Batch(BATCH), seed=seed), "native", threads=2)
    return replace(plan, readers=readers_for("native", helpers())) if helped else plan


def collected(dataset: Any) -> list[Any]:
    return [(np.asarray(images), np.asarray(labels)) for images, labels in dataset]


def batches(plan: Plan, epochs: int = EPOCHS, **options: Any) -> list[Any]:
    return collected(gl.load(plan, epochs=epochs, **options))


def streamed(plan: Plan, epochs: int = EPOCHS, **options: Any) -> list[Any]:
    """The same from ``iterate``."""
    return [(np.array(images), labels) for images, labels in gl.iterate(plan, epochs=epochs, **options)]


def same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) > 0 and all(
        np.array_equal(a, b) and np.array_equal(x, y) and a.dtype == b.dtype
        for (a, x), (b, y) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(
    ("form", "exif"),
    [
        ("planes", False),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS),
        *(pytest.param(form, not exif, marks=pytest.mark.long) for form, exif in (("planes", False), *PAIRS)),
    ],
)
def test_photographs_in_every_form_each_read_once(
    photos: Files, reads: Counter[str], form: Any, exif: bool, tmp_path: Path
) -> None:
    plain = streamed(planned(photos, Shuffle(), Decode(exif=exif), *RANDOM))
    plan = planned(photos, Shuffle(), Decode(exif=exif), Cache(form=form), *RANDOM)
    assert same(plain, batches(plan))
    assert reads == once(photos)
    plan = planned(photos, Shuffle(), Cache(str(tmp_path / "kept"), form=form), Decode(exif=exif), *RANDOM)
    reads.clear()
    assert same(plain, batches(plan))
    assert reads == once(photos)
    gc.collect()
    again = planned(photos, Shuffle(), Cache(str(tmp_path / "kept"), form=form), Decode(exif=exif), *RANDOM)
    reads.clear()
    assert same(plain, batches(again))  # from the folder
    assert not reads


@pytest.mark.slow
@pytest.mark.parametrize(
    "form", ["planes", *(pytest.param(form, marks=pytest.mark.long) for form in ("encoded", "pixels"))]
)
def test_odd_pictures_of_every_kind(form: Any, tmp_path: Path, reads: Counter[str]) -> None:
    """Those that TensorFlow's own operations decode."""
    alone = planned(Files(["a.jpg"]), Decode(), CenterCrop(8))
    good = []
    with Chain(replace(alone, readers=readers_for("native", ("tf",))), 1) as chain:
        for number, data in enumerate(odd_images.pictures().values()):
            if number % 11:
                continue
            try:
                chain.run(Records([data], np.zeros((1, 0)), [str(number)]))
            except gl.RecordError:
                continue
            good.append(tmp_path / str(number))
            good[-1].write_bytes(data)
    source, stages = Files(good), (CenterCrop(12), RandomHorizontalFlip())
    plain = streamed(planned(source, Shuffle(), Decode(exif=True), *stages, helped=True))
    assert same(plain, batches(planned(source, Shuffle(), Cache(form=form), Decode(exif=True), *stages, helped=True)))
    assert reads == once(source)


RESIZED: dict[str, tuple[Sequence[Stage], Sequence[Stage]]] = {
    "one size": ((Resize((20, 24)),), (RandomCrop(16), RandomHorizontalFlip())),
    "several sizes": ((Resize(20, antialias=True),), RANDOM),
    "resized again": ((CenterCrop(30), Resize((17, 19))), (RandomResizedCrop(16),)),
}


@pytest.mark.parametrize(
    ("name", "exif"),
    [
        ("several sizes", False),
        pytest.param("one size", True, marks=pytest.mark.slow),
        pytest.param("resized again", False, marks=pytest.mark.slow),
    ],
)
def test_what_stands_between_decoding_and_the_cache_is_done_once(
    photos: Files, reads: Counter[str], name: str, exif: bool
) -> None:
    before, behind = RESIZED[name]
    stages = (Shuffle(), Decode(exif=exif), *before)
    plain = streamed(planned(photos, *stages, *behind))
    assert same(plain, batches(planned(photos, *stages, Cache(), *behind)))
    assert reads == once(photos)


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [(Shuffle(),), (Shuffle(block=3),)], ids=["shuffled", "by blocks"])
def test_records(shuffle: tuple[Stage, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = record_files.photos()
    source = TFRecords(record_files.write(tmp_path / "a.tfrecord", record_files.labelled(images)))
    plain = streamed(planned(source, *shuffle, Decode(), *RANDOM))
    counted: Counter[int] = Counter()
    read_chunk = tf_reading._read_chunk

    def counting(source: Any, index: Any) -> Any:
        counted.update(index.tolist())
        return read_chunk(source, index)

    monkeypatch.setattr(tf_reading, "_read_chunk", counting)
    plan = planned(source, *shuffle, Decode(), Cache(), *RANDOM)
    assert same(plain, batches(plan))
    assert counted == Counter(range(len(source)))
    assert same(plain[-4:], batches(plan, start=gl.Position(2, 4)))
    assert counted == Counter(range(len(source)))


@pytest.mark.slow
def test_positions_forms_of_datasets_and_what_is_left_out(photos: Files, reads: Counter[str]) -> None:
    stages = (Shuffle(), Decode(), Cache(), *RANDOM)
    plan = planned(photos, *stages)
    plain = streamed(planned(photos, *stages[:2], *RANDOM))
    assert same(plain[4:], batches(plan, start=gl.Position(1, 4)))
    advancing = gl.load(plan)
    assert same(plain, [batch for _ in range(EPOCHS) for batch in collected(advancing)])
    assert reads == once(photos)
    Path(photos.name(2)).write_bytes(b"no image")
    changed = Files(photos.paths, photos.labels)
    with pytest.warns(UserWarning, match="left out 1 bad"):
        labels = np.concatenate([labels for _, labels in batches(planned(changed, *stages), 2, on_error="skip")])
    assert len(labels) == 2 * (COUNT - 1)


@pytest.mark.slow
def test_what_keeps_the_same_shares_it(photos: Files, reads: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = streamed(planned(photos, Decode(), CenterCrop(9), seed=2), 2)
    plan = planned(photos, Shuffle(), Decode(), Cache(), *RANDOM)
    other = planned(photos, Decode(), Cache(), CenterCrop(9), seed=2)
    one, two = iter(gl.load(plan, epochs=1)), gl.load(other, epochs=2)
    for _ in one:
        pass
    assert same(collected(two), plain)
    assert reads == once(photos)

    def filled(_: CachedReader, source: Any, indices: Sequence[int]) -> dict[int, Any]:
        assert not indices
        return {}

    monkeypatch.setattr(CachedReader, "_filled", filled)
    assert same(streamed(other, 2), plain)


@pytest.mark.slow
def test_an_iterator_goes_on_when_all_else_is_gone(photos: Files) -> None:
    stages = (Shuffle(), Decode(), Cache(form="planes"), *RANDOM)
    plain = streamed(planned(photos, *stages[:2], *RANDOM), 6)
    iterator = iter(gl.load(planned(photos, *stages), epochs=6))
    first = [next(iterator) for _ in range(4)]
    gc.collect()
    assert same(plain, collected([*first, *iterator]))


@pytest.mark.slow
def test_half_a_budget_keeps_half_and_never_lets_it_go(photos: Files, reads: Counter[str]) -> None:
    plain = streamed(planned(photos, Shuffle(), Decode(), *RANDOM), 4)
    whole = planned(photos, Shuffle(), Decode(), Cache(form="pixels"), *RANDOM).steps[1].keeps
    assert whole is not None and whole.set_bytes is not None
    half = Cache(form="pixels", ram=round(whole.set_bytes / 2))
    assert same(plain, batches(planned(photos, Shuffle(), Decode(), half, *RANDOM), 4))
    kept = [path for path in reads if reads[path] == 1]
    assert 3 <= len(kept) <= 8
    assert sorted(set(reads.values())) == [1, 4]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_bad_records_are_named_in_every_epoch(photos: Files, form: Any, tmp_path: Path) -> None:
    broken, notes, empty = tmp_path / "broken.jpg", tmp_path / "notes.jpg", tmp_path / "empty.jpg"
    broken.write_bytes(photos.read(4)[: len(photos.read(4)) * 2 // 3])
    notes.write_text("not an image")
    empty.write_bytes(b"")
    own = tmp_path / "own.ppm"
    own.write_bytes(b"P6\n30 30\n255\n" + bytes(2700))  # as the kernel reads it where greenload has made it
    for bad in (notes, own, empty) if form == "planes" else (broken,):
        source = Files([*photos.paths[:6], bad])
        with pytest.raises(gl.RecordError) as wanted:
            streamed(planned(source, Decode(), *RANDOM), 1)
        plan = planned(source, Decode(), Cache(form=form), *RANDOM)
        dataset = gl.load(plan)
        for _ in range(2):
            with pytest.raises(gl.RecordError) as caught:
                collected(dataset)
            assert str(caught.value) == str(wanted.value)


@pytest.mark.slow
def test_too_small_an_image_is_named(photos: Files) -> None:
    for stages in ((Cache(), RandomCrop(50)), (Resize(20), Cache(), RandomCrop(50))):
        with pytest.raises(gl.RecordError, match="at least 50×50"):
            batches(planned(photos, Decode(), *stages, *RANDOM), 1)


@pytest.mark.slow
def test_without_the_operations_batches_go_through_python(
    photos: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tf_graph, "host_call", host_calls.host_call)
    monkeypatch.setattr(op, "operations", op.operations.__wrapped__)
    monkeypatch.setattr(op, "FILE", tmp_path / "none.so")
    counted: Counter[int] = Counter()
    read = Files.read

    def counting(source: Files, index: int) -> bytes:
        counted[index] += 1
        return read(source, index)

    plain = streamed(planned(photos, Shuffle(), Decode(), *RANDOM))
    plan = planned(photos, Shuffle(), Decode(), Cache(), *RANDOM)
    dataset = gl.load(plan, epochs=EPOCHS)
    monkeypatch.setattr(Files, "read", counting)
    assert same(collected(dataset), plain)
    assert counted == Counter(range(COUNT))


def test_trouble_is_said_once(photos: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = Store.state

    def full(store: Store) -> State:
        return replace(state(store), trouble="the disk is full", full=True)

    monkeypatch.setattr(Store, "state", full)
    dataset = gl.load(planned(photos, Decode(), Cache(str(tmp_path / "kept")), *RANDOM))
    with pytest.warns(UserWarning, match="the disk is full") as caught:
        for _ in range(2):
            collected(dataset)
    assert len([warning for warning in caught if "full" in str(warning.message)]) == 1
