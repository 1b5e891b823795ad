"""How many batches an epoch, or a stream of epochs, has."""

from __future__ import annotations

import numpy as np
import pytest

from greenload.plans.order import Order, Position, Shard
from greenload.plans.pipeline import Pipeline
from greenload.sources import Arrays
from greenload.stages import Batch

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
