"""The order by blocks: a bijection, the same in NumPy and TensorFlow, whose samples lie together; and loading by it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import record_files
from hypothesis import given, settings
from hypothesis import strategies as st

from greenload.array_ops import TENSORFLOW
from greenload.errors import PipelineError, RecordError
from greenload.loading.load import load
from greenload.plans.pipeline import Pipeline
from greenload.randomness import Blocks, permute
from greenload.sources import Files, TFRecords
from greenload.stages import Batch, Cache, CenterCrop, Decode, Shuffle


@pytest.mark.slow
@given(
    size=st.integers(1, 3000),
    block=st.integers(1, 400),
    seed=st.integers(-(2**70), 2**70),
    epoch=st.integers(0, 2**40),
)
@settings(max_examples=120, deadline=None)
def test_every_sample_comes_once(size: int, block: int, seed: int, epoch: int) -> None:
    order = permute(np.arange(size), size, seed, epoch, block=block)
    assert sorted(order.tolist()) == list(range(size))
    part = permute(np.arange(size // 3, size // 2), size, seed, epoch, block=block)
    assert part.tolist() == order[size // 3 : size // 2].tolist()


@given(size=st.integers(1, 10**7), block=st.integers(1, 10**4))
def test_blocks_are_about_as_long_as_asked(size: int, block: int) -> None:
    blocks = Blocks.of(size, block)
    padding = blocks.group * blocks.groups - size
    assert 0 <= padding < blocks.per_group * blocks.groups
    if size >= 4 * block:
        assert 0.6 * block <= blocks.length <= 1.7 * block + 1


@pytest.mark.parametrize(("size", "block"), [(10_000, 256), (10_000, 64), (4096, 128)])
def test_a_group_has_few_blocks_and_an_epoch_all_of_them(size: int, block: int) -> None:
    blocks = Blocks.of(size, block)
    first, second = (permute(np.arange(size), size, seed=1, epoch=epoch, block=block) for epoch in (0, 1))
    seen = []
    for begin in range(0, size, blocks.group):
        group = first[begin : begin + blocks.group]
        of_blocks = np.bincount(group // blocks.length, minlength=blocks.groups * blocks.per_group)
        whole = np.sort(of_blocks)[-blocks.per_group :]
        assert whole.sum() >= len(group) - blocks.groups * blocks.per_group  # all but what fills up the last block
        seen.append(frozenset(np.argsort(of_blocks)[-blocks.per_group :].tolist()))
        assert (np.diff(group) == 1).mean() < 0.05  # and is mixed
        assert not (group[1:] > group[:-1]).all()
    assert len(set(seen)) == len(seen)
    assert (first != second).mean() > 0.99
    # Which blocks come together is drawn anew.
    again = {
        frozenset(np.unique(second[at : at + blocks.group] // blocks.length).tolist())
        for at in range(0, size, blocks.group)
    }
    assert not again & set(seen)


def test_tensorflow_gives_the_same_bits() -> None:
    pytest.importorskip("tensorflow")
    for size, block in ((1000, 64), (257, 3), (2, 5), (1, 1)):
        numbers = permute(np.arange(size), size, 7, 3, block=block)
        assert permute(np.arange(size), size, 7, 3, TENSORFLOW, block).numpy().tolist() == numbers.tolist()


@pytest.mark.slow
def test_orders_of_one_small_set_are_even() -> None:
    from scipy import stats

    counts = np.zeros((12, 12))
    for seed in range(600):
        counts[np.arange(12), permute(np.arange(12), 12, seed, 0, block=2)] += 1
    assert stats.chisquare(counts.ravel()).pvalue > 1e-4


@pytest.mark.parametrize("block", [0, -1, 2.0, True, "8"])
def test_a_bad_block_is_refused(block: object) -> None:
    with pytest.raises(PipelineError, match="block must be a positive integer or None"):
        Shuffle(block)  # type: ignore[arg-type]


def test_it_is_part_of_the_description() -> None:
    pipeline = Pipeline(Files(["a"]), Shuffle(block=8))
    assert Pipeline.from_dict(pipeline.to_dict()) == pipeline
    assert str(Shuffle(block=8)) == "Shuffle(block=8)"
    old = pipeline.to_dict() | {"stages": [{"stage": "Shuffle"}]}
    assert Pipeline.from_dict(old) == Pipeline(Files(["a"]), Shuffle())


@pytest.mark.slow
def test_bad_records_are_named_or_left_out(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    images = record_files.photos()
    records = [record_files.example({"image": image, "label": i}) for i, image in enumerate(images)]
    records[5] = record_files.example({"label": 5})
    records[11] = record_files.example({"image": images[11][:99], "label": 11})
    path = record_files.write(tmp_path / "a.tfrecord", records)
    source = TFRecords(path)
    pipeline = Pipeline(source, Decode(), CenterCrop(24), Batch(4))
    seen = []
    with pytest.raises(RecordError) as caught:
        for _, labels in load(pipeline, epochs=1, threads=2):
            seen += labels.numpy().tolist()
    assert (caught.value.path, caught.value.reason) == (f"{path}[5]", "has no 'image'; its keys: 'label'")
    assert seen == [0, 1, 2, 3]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        dataset = load(Pipeline(source, Shuffle(block=2)), epochs=1, on_error="skip")
    assert f"{path}[5]: has no 'image'" in str(warned[0].message)
    left = [int(label) for _, label in dataset]
    assert sorted(left) == [i for i in range(17) if i not in (5, 11)]


@pytest.mark.slow
def test_a_cache_keeps_records_and_reads_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow")
    images = record_files.photos()
    source = TFRecords(record_files.write(tmp_path / "a.tfrecord", record_files.labelled(images)))
    read: list[int] = []
    many = TFRecords.read_many

    def spied(self: TFRecords, some: Any) -> Any:
        if self is source:  # another test's dataset may still be reading ahead
            read.extend(int(i) for i in some)
        return many(self, some)

    monkeypatch.setattr(TFRecords, "read_many", spied)
    dataset = load(Pipeline(source, Shuffle(), Cache()), epochs=3, threads=2)
    read.clear()  # planning looks at a few
    pairs = list(dataset.as_numpy_iterator())
    assert sorted(read) == list(range(17))
    assert sorted(image for image, _ in pairs) == sorted(images * 3)
