"""Which samples an epoch is made of, in which order, and where in it to begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload import randomness, scalars
from greenload.array_ops import NUMPY, Ops
from greenload.errors import UsageError
from greenload.plans.pipeline import Pipeline
from greenload.public import public

_ENDLESS = 1 << 40


@public
@dataclass(frozen=True)
class Position:
    """A place in the endless stream of a pipeline: where to start or to resume. It costs nothing to reach.

    Keep a batch boundary: a stream begun at ``sample`` cuts its batches from there.
    """

    epoch: int = 0
    """Which epoch, from 0."""
    sample: int = 0
    """How many samples of that epoch (and of this shard) to leave out; behind ``Echo`` each counts as often as it is
    echoed."""

    def __post_init__(self) -> None:
        for name in ("epoch", "sample"):
            value = scalars.whole(getattr(self, name))
            if value is None or value < 0:
                raise UsageError(f"Position: {name} must be a whole number from 0, not {getattr(self, name)!r}")
            object.__setattr__(self, name, value)


@public
@dataclass(frozen=True)
class Shard:
    """One of ``count`` equal parts of every epoch: the positions that leave ``index`` over when divided by ``count``.

    All shards together are the unsharded epoch; each sample's augmentation is the same in whichever shard it falls.
    With ``Echo`` whole samples are divided: all echoes of a sample are in one shard.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        for name in ("index", "count"):
            value = scalars.whole(getattr(self, name))
            if value is None:
                raise UsageError(f"Shard: {name} must be an integer, not {getattr(self, name)!r}")
            object.__setattr__(self, name, value)
        if not 0 <= self.index < self.count:
            raise UsageError(f"Shard: index must be in 0 … count − 1, not {self.index} of {self.count}")

    def size(self, samples: int) -> int:
        """How many of ``samples`` positions are this shard's."""
        return (samples - self.index + self.count - 1) // self.count


@dataclass(frozen=True)
class Order:
    """Which sample stands at which position of an epoch, and the numbers it brings along."""

    pipeline: Pipeline
    valid: NDArray[np.int64] | None
    """The indices of good records, where bad ones are left out; ``None`` for all."""
    shard: Shard = Shard()
    endless: bool = False
    """Whether an epoch starts over, with the same order and draws, instead of ending: for measuring."""

    @property
    def total(self) -> int:
        """Samples in an epoch of all shards."""
        return len(self.pipeline.source) if self.valid is None else len(self.valid)

    @property
    def times(self) -> int:
        """Positions that a sample takes, one after another; 1 without ``Echo``."""
        return self.pipeline.times

    @property
    def different(self) -> int:
        """Samples in an epoch of this shard, each counted once."""
        return _ENDLESS if self.endless else self.shard.size(self.total)

    @property
    def samples(self) -> int:
        """Samples in an epoch of this shard, each counted as often as it is echoed: how many positions there are."""
        return self.different * self.times

    def batches_in_epoch(self, begin: int) -> int:
        """How many batches an epoch has from a position on; without a ``Batch`` each sample is one."""
        batch, samples = self.pipeline.batch, self.samples - begin
        if batch is None:
            return samples
        return samples // batch.size if batch.drop_remainder else -(-samples // batch.size)

    def batches(self, begin: Position, epochs: int) -> int:
        """How many batches there are from a position on, before epoch ``epochs``."""
        return self.batches_in_epoch(begin.sample) + (epochs - begin.epoch - 1) * self.batches_in_epoch(0)

    @property
    def group(self) -> int | None:
        """How many different samples of this shard, from the first on, lie together; ``None`` if none do."""
        shuffle = self.pipeline.shuffle
        if shuffle is None or shuffle.block is None:
            return None
        return -(-randomness.Blocks.of(self.total, shuffle.block).group // self.shard.count)

    def indices(self, epoch: Any, position: Any, ops: Ops = NUMPY, valid: Any = None) -> Any:
        """The samples at positions of this shard's epoch: int64 of the shape of ``position``, which has a dimension.

        ``valid`` is the order's own as ``ops`` has it, where it shall not become part of a graph.
        """
        number = ops.i64(position) // self.times if self.times > 1 else ops.i64(position)
        index = number * self.shard.count + self.shard.index
        if self.endless:
            index = index % self.total
        if self.pipeline.shuffle:
            index = randomness.permute(index, self.total, self.pipeline.seed, epoch, ops, self.pipeline.shuffle.block)
        return index if self.valid is None else ops.take(ops.i64(self.valid if valid is None else valid), index)

    def echoes(self, position: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Which echo of its sample stands at each position, from 0; ``None`` without ``Echo``."""
        return position % self.times if self.times > 1 else None
