"""How many batches an epoch, or a stream of epochs, has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from greenload.array_ops import NUMPY, TENSORFLOW
from greenload.plans.order import Order, Position, Shard
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.sources import Arrays
from greenload.stages import Batch, Echo, RandomHorizontalFlip, Shuffle

SOURCE = Arrays(np.zeros((14, 4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("stages", "begin", "batches"),
    [
        ((), 0, 14),
        ((), 5, 9),
        ((Batch(4),), 0, 4),
        ((Batch(4),), 8, 2),
        ((Batch(4, drop_remainder=True),), 0, 3),
        ((Batch(4, drop_remainder=True),), 4, 2),
        ((Batch(4, drop_remainder=True),), 12, 0),
    ],
)
def test_an_epochs_batches_are_counted_from_where_it_begins(
    stages: tuple[Batch, ...], begin: int, batches: int
) -> None:
    assert Order(Pipeline(SOURCE, *stages), None).batches_in_epoch(begin) == batches


def test_only_the_first_epoch_is_cut() -> None:
    order = Order(Pipeline(SOURCE, Batch(4)), None)
    assert order.batches(Position(0, 8), 1) == 2
    assert order.batches(Position(1, 8), 4) == 2 + 4 + 4
    assert Order(Pipeline(SOURCE, Batch(4)), np.arange(10), Shard(1, 3)).batches(Position(), 2) == 1 + 1


def test_an_echo_takes_a_position_of_its_own() -> None:
    echoing = Order(Pipeline(SOURCE, Shuffle(), Echo(3), Batch(4), seed=5), None)
    plain = Order(Pipeline(SOURCE, Shuffle(), Batch(4), seed=5), None)
    assert (echoing.total, echoing.different, echoing.samples) == (14, 14, 42)
    assert echoing.batches_in_epoch(0) == 11 and echoing.batches(Position(0, 40), 2) == 1 + 11
    positions = np.arange(42)
    for epoch in range(2):
        expected = np.repeat(plain.indices(epoch, np.arange(14)), 3)
        assert np.array_equal(echoing.indices(epoch, positions), expected)
        parts = [replace(echoing, shard=Shard(index, 4)) for index in range(4)]
        assert [part.samples for part in parts] == [12, 12, 9, 9]
        shards = [part.indices(epoch, np.arange(part.samples)).reshape(-1, 3) for part in parts]
        assert all(np.array_equal(shard, expected.reshape(-1, 3)[i::4]) for i, shard in enumerate(shards))
    echoes = echoing.echoes(positions)
    assert echoes is not None and echoes.tolist() == [0, 1, 2] * 14
    assert plain.echoes(positions) is None
    endless = replace(echoing, endless=True)
    assert np.array_equal(endless.indices(0, positions + 42), echoing.indices(0, positions))


def test_stages_before_echo_draw_once_and_echo_0_as_without() -> None:
    flips = RandomHorizontalFlip(), RandomHorizontalFlip()
    echoing = DrawLayout.of(Pipeline(SOURCE, flips[0], Echo(3), flips[1], Batch(4)))
    plain = DrawLayout.of(Pipeline(SOURCE, *flips, Batch(4)))
    index = np.arange(14)
    without = plain.prepare(7, 2, index)
    for ops in (NUMPY, TENSORFLOW):
        drawn = [np.asarray(echoing.prepare(7, 2, index, ops, echoes=np.full(14, echo))) for echo in range(3)]
        assert np.array_equal(drawn[0], without)
        assert np.array_equal(np.asarray(echoing.prepare(7, 2, index, ops)), without)
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert np.array_equal(drawn[one][:, 0], drawn[other][:, 0])
            assert not (drawn[one][:, 1] == drawn[other][:, 1]).any()
        mixed = np.arange(14) % 3
        rows = np.asarray(echoing.prepare(7, 2, index, ops, echoes=mixed))
        assert np.array_equal(rows, np.stack([drawn[echo][i] for i, echo in enumerate(mixed)]))
