"""What every source must do: one suite over all of them."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import record_files
from record_files import CLASSES, COUNT, SOURCES

from greenload import sources
from greenload.errors import PipelineError, RecordError
from greenload.loading.load import load
from greenload.plans.order import Position, Shard
from greenload.plans.pipeline import Pipeline
from greenload.sources import Arrays, Source, is_source, read_many
from greenload.stages import Batch, CenterCrop, Decode, RandomHorizontalFlip, Shuffle

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.slow

IMAGES: list[bytes] = []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Source]]:
    """Sources by kind; made when first asked for, shared: files must not be changed."""
    if not IMAGES:
        IMAGES.extend(record_files.photos())

    class Made(dict[str, Source]):
        def __missing__(self, kind: str) -> Source:
            self[kind] = SOURCES[kind](tmp_path_factory.mktemp("source"), IMAGES)
            return self[kind]

    yield Made()


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, made: dict[str, Source]) -> Source:
    return made[request.param]


def numbers(source: Source) -> list[int]:
    """Which image each sample is."""
    if isinstance(source, Arrays):
        return list(range(len(source)))
    return [IMAGES.index(source.read(i)) for i in range(len(source))]  # type: ignore[arg-type]


def test_it_holds_every_image_once_with_its_label(source: Source) -> None:
    assert is_source(source)
    assert isinstance(source, Source)
    assert len(source) == COUNT
    order = numbers(source)
    assert sorted(order) == list(range(COUNT))
    assert source.labels.tolist() == [i % 3 for i in order]
    assert source.labels.dtype == np.int64
    classes = getattr(source, "classes", ())
    assert classes in ((), CLASSES)


def test_names_are_told_apart_and_in_range(source: Source) -> None:
    names = [source.name(i) for i in range(COUNT)]
    assert max(Counter(names).values()) == 1
    assert all("\n" not in name for name in names)
    with pytest.raises(IndexError):
        source.read(COUNT)


def test_it_comes_back_from_its_description_and_a_pickle(source: Source) -> None:
    again = pickle.loads(pickle.dumps(source))
    assert again == source
    assert hash(again) == hash(source)
    assert again.fingerprint() == source.fingerprint()
    if not isinstance(source, Arrays):
        assert again.read(3) == source.read(3)
        other = sources.from_dict(source.to_dict())
        assert other == source
        assert other.fingerprint() == source.fingerprint()
        assert other.labels.tolist() == source.labels.tolist()
    assert "\n" not in str(source)
    assert len(repr(source)) < 500


def test_many_are_read_as_one_by_one(source: Source) -> None:
    for order in (range(COUNT), [5, 5, 16, 0, 1], [3]):
        for i, record in zip(order, read_many(source, order), strict=True):
            assert np.array_equal(record, source.read(i)) if isinstance(source, Arrays) else record == source.read(i)


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "Arrays"])
def test_a_fingerprint_changes_with_any_file(kind: str, tmp_path: Path, made: dict[str, Source]) -> None:
    _ = made
    source = SOURCES[kind](tmp_path, IMAGES)
    file = source.name(COUNT - 1).rpartition("[")[0] or source.name(COUNT - 1)
    seen = {source.fingerprint(), source.fingerprint()}
    assert len(seen) == 1
    os.utime(file, ns=(7, 7))
    seen.add(source.fingerprint())
    with open(file, "ab") as more:
        more.write(b"more")
    os.utime(file, ns=(7, 7))
    seen.add(source.fingerprint())
    os.unlink(file)
    seen.add(source.fingerprint())
    assert len(seen) == 4


def loaded(source: Source, *order: Shuffle, **how: Any) -> list[tuple[int, int]]:
    """Which images come, and their labels. Without decoding, whose graph takes most of the time to build."""
    pairs = load(Pipeline(source, *order, seed=3), threads=2, **how).as_numpy_iterator()
    return [(IMAGES.index(image), int(label)) for image, label in pairs]


@pytest.mark.parametrize("kind", ["TFRecords", "TFRecords, gzip"])
def test_records_load_in_every_order_resumed_and_sharded(kind: str, made: dict[str, Source]) -> None:
    source = made[kind]
    orders: list[tuple[Shuffle, ...]] = [(Shuffle(block=2),)]
    if source.sequential:  # type: ignore[attr-defined]
        with pytest.raises(PipelineError, match=r"can only be read in order.*greenload pack"):
            Pipeline(source, Shuffle())
        orders = [()]
    own = list(zip(numbers(source), source.labels.tolist(), strict=True))
    for order in orders:
        whole = loaded(source, *order, epochs=2)
        assert sorted(whole[:COUNT]) == sorted(whole[COUNT:]) == sorted(own)
        assert (whole[:COUNT] == own) == (not order)
        assert (whole[:COUNT] == whole[COUNT:]) == (not order)
        assert loaded(source, *order, epochs=2, start=Position(1, 7)) == whole[COUNT + 7 :]
        assert loaded(source, *order, epochs=1, shard=Shard(1, 3)) == whole[1:COUNT:3]


@pytest.mark.parametrize("kind", ["csv", "TFRecords, zlib", "TFDS, array_record", "packed, arrayrecord"])
def test_every_source_loads_what_it_reads(kind: str, made: dict[str, Source]) -> None:
    source = made[kind]
    order = () if getattr(source, "sequential", False) else (Shuffle(block=3),)
    assert sorted(loaded(source, *order, epochs=1)) == sorted(zip(numbers(source), source.labels.tolist(), strict=True))


@pytest.mark.parametrize("kind", ["packed, tfrecord", "packed, arrayrecord"])
def test_packed_pixels_are_the_folders_bit_for_bit_in_every_epoch(kind: str, made: dict[str, Source]) -> None:
    folder, packed = made["ImageFolder"], made[kind]
    stages = (Decode(), CenterCrop(24), Batch(COUNT))
    there = numbers(packed)
    place = {number: i for i, number in enumerate(numbers(folder))}
    match = [place[number] for number in there]
    one = [x.numpy() for x, _ in load(Pipeline(folder, *stages), epochs=2)]
    two = [(x.numpy(), y.numpy()) for x, y in load(Pipeline(packed, *stages), epochs=2)]
    for (x, y), z in zip(two, one, strict=True):
        assert (x == z[match]).all()
        assert (y == folder.labels[match]).all()


@pytest.mark.parametrize("kind", ["packed, tfrecord"])
def test_dali_sees_the_same_pixels(kind: str, made: dict[str, Source]) -> None:
    pytest.importorskip("nvidia.dali")
    from greenload.loading.iterate import iterate

    source = made[kind]
    order = () if getattr(source, "sequential", False) else (Shuffle(block=3),)
    pipeline = Pipeline(source, *order, Decode(), CenterCrop(24), RandomHorizontalFlip(), Batch(5), seed=9)
    tf_batches = [(x.numpy(), y.numpy()) for x, y in load(pipeline, "tf", epochs=1, threads=2)]
    dali_batches = [(x.numpy(), y.numpy()) for x, y in load(pipeline, "dali-cpu", epochs=1, threads=2)]
    for batches in (dali_batches, list(iterate(pipeline, backend="dali-cpu", threads=2))):
        for (x, y), (u, v) in zip(tf_batches, batches, strict=True):
            assert (x == u).all()
            assert (y == v).all()


def test_a_missing_file_is_named_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\nhere/gone.jpg,1\n")
    source = sources.Files.from_csv(tmp_path / "list.csv")
    with pytest.raises(RecordError, match="No such file") as caught:
        source.read(0)
    assert caught.value.path == str(tmp_path / "here/gone.jpg")
