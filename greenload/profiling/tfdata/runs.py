"""Datasets as something that can be run for a while, in C++, to the sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenload.errors import SourceError

if TYPE_CHECKING:
    import tensorflow as tf

_GROUP_S = 0.01  # work for each element that Python sees: a `next` costs 0.1 ms
_GROUP = 64  # samples, at least, for each element that Python sees
_GROUP_MOST_S = 0.05  # but no more work than this, so that a window ends in time


class Run:
    """An endless dataset, consumed on demand.

    Args:
        dataset: what to run.
        samples_per_element: how many samples of the profiled dataset stand behind each element.
        group: elements consumed in C++ for each that Python sees.
        told: called whenever a group has passed.
    """

    def __init__(
        self, dataset: tf.data.Dataset, samples_per_element: float, group: int, told: Callable[[], None]
    ) -> None:
        self.samples_per_next = samples_per_element * group
        """Samples that pass with each step of the iterator."""
        self._told = told
        self._dataset = dataset
        self._group = group
        self._iterator = iter(dataset.shard(group, group - 1) if group > 1 else dataset)

    def regroup(self, s_per_sample: float, epoch: int | None = None) -> None:
        """Let more elements pass for each that Python sees, where a filled cache makes them far cheaper.

        A new iterator of the same dataset reads what the one before it filled.

        Args:
            s_per_sample: wall seconds that a sample takes by now.
            epoch: elements in an epoch, where groups are to hold whole ones or divide one.
        """
        per_element = self.samples_per_next / self._group
        group = group_size(per_element, s_per_sample)
        if epoch is not None:
            group = divisor(epoch, group) if group < epoch else round(group / epoch) * epoch
        if group >= 2 * self._group:
            self._group, self.samples_per_next = group, per_element * group
            self._iterator = iter(self._dataset.shard(group, group - 1))

    def run(self, samples: int) -> int:
        """Consume at least ``samples`` samples; returns how many."""
        steps = max(1, math.ceil(samples / self.samples_per_next - 1e-9))
        for _ in range(steps):
            try:
                next(self._iterator)
            except StopIteration:
                raise SourceError(
                    "a dataset to profile gives elements each time that it is iterated over, this one gave none the"
                    " second time: make it start anew, for example with a generator function"
                ) from None
            self._told()
        return max(1, round(steps * self.samples_per_next))

    def close(self) -> None:
        """Let go of the iterator, its threads and buffers."""
        del self._iterator, self._dataset


def group_size(samples_per_element: float, s_per_sample: float) -> int:
    """Elements to consume in C++ for each that Python sees, so that seeing them is cheap beside them."""
    s = max(s_per_sample, 1e-7)
    samples = min(max(_GROUP, _GROUP_S / s), _GROUP_MOST_S / s)
    return max(1, round(samples / samples_per_element))


def divisor(epoch: int, group: int) -> int:
    """A group of about the size wanted of which an epoch holds a whole number; else the size wanted."""
    found = max(n for n in range(1, min(epoch, 2 * group) + 1) if epoch % n == 0)
    if found >= group / 8:
        return found
    return epoch if epoch <= 8 * group else group


def whole_options(given: Any) -> Any:
    """The user's ``tf.data.Options``, but no buffer that TensorFlow adds and lets grow from window to window."""
    import tensorflow as tf

    fixed = tf.data.Options()
    fixed._from_proto(given._to_proto())  # a copy: the user's can't be changed any more
    fixed.experimental_optimization.inject_prefetch = False
    return fixed


def step_options(given: Any) -> Any:
    """The same, but maps that do nothing stay."""
    fixed = whole_options(given)
    fixed.experimental_optimization.noop_elimination = False
    return fixed


def emptied(dataset: tf.data.Dataset, calls: Any = None, deterministic: bool | None = None) -> tf.data.Dataset:
    """The dataset behind a map that does nothing, of the same parallelism as a step's map."""
    import tensorflow as tf

    spec = dataset.element_spec

    def same(*element: Any) -> Any:
        return element if type(spec) is tuple else element[0]

    function = tf.autograph.experimental.do_not_convert(same)
    return dataset.map(function, num_parallel_calls=calls, deterministic=deterministic)
