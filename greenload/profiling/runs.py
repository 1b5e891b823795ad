"""What a window runs: batches of a dataset, or passes through a layer on the device that trains."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from greenload.errors import SourceError
from greenload.loading.tf_graph import options
from greenload.plans.plan import Plan
from greenload.system.frameworks import tf
from greenload.system.work import Work

_GROUP = 64  # samples, at least, that pass in C++ for each element that Python sees: a `next` costs 0.1 ms
_GROUP_S, _GROUP_MOST_S = 0.01, 0.05  # seconds of their work, at least, and at most, so that a window ends in time


ReadWork = Callable[[], Mapping[str, Work]]
"""Gives what steps with clocks have done so far, by their names."""


def no_clocks() -> Mapping[str, Work]:
    """Nothing: a run without clocks."""
    return {}


def _nothing() -> None:
    """Do nothing."""


class DatasetRun:
    """An endless dataset, consumed on demand: in C++, where ``shard`` gives one element of a group to Python.

    Args:
        dataset: what to run.
        samples_per_element: how many samples stand behind each of its elements.
        group: elements consumed in C++ for each that Python sees.
        told: called whenever a group has passed.
        release: gives back what the dataset calls, once it is closed.
        read_work: reads the clocks around its functions, if any.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        samples_per_element: float,
        group: int,
        told: Callable[[], None] = _nothing,
        release: Callable[[], None] = _nothing,
        read_work: ReadWork = no_clocks,
    ) -> None:
        self.read_work = read_work
        self.samples_per_next = samples_per_element * group
        """Samples that pass with each step of the iterator."""
        self._told = told
        self._release = release
        self._dataset = dataset
        self._group = group
        self._iterator = grouped_iterator(dataset, group)

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
            self._iterator = grouped_iterator(self._dataset, group)

    def run(self, samples: int) -> int:
        """Consume at least ``samples`` samples; returns how many.

        Raises:
            SourceError: the dataset has ended.
        """
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
        self._release()


def plan_run(
    dataset: tf.data.Dataset,
    samples_per_element: int,
    plan: Plan,
    *,
    release: Callable[[], None] = _nothing,
    whole: int = 0,
    read_work: ReadWork = no_clocks,
) -> DatasetRun:
    """A run of a part of a plan.

    Args:
        dataset: endless.
        samples_per_element: samples in each of its elements.
        plan: whose bounds on threads hold.
        release: gives back what the dataset calls.
        whole: samples of which a whole number of groups is made, where the first pass over them is of its own; else 0.
        read_work: reads the clocks around its functions, if any.
    """
    bounded = options(plan)
    bounded.experimental_optimization.noop_elimination = False  # an empty map must stay a map
    group = max(1, _GROUP // samples_per_element)
    if whole:
        elements = max(1, whole // samples_per_element)
        group = max(n for n in range(1, group + 1) if elements % n == 0)
    return DatasetRun(dataset.with_options(bounded), samples_per_element, group, release=release, read_work=read_work)


def grouped_iterator(dataset: tf.data.Dataset, group: int) -> Iterator[Any]:
    """The last element of each ``group`` elements; the others pass in C++."""
    return iter(dataset.shard(group, group - 1) if group > 1 else dataset)


def unchanged(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a sample or a batch, copied: what a map does that is otherwise empty."""
    copied: dict[str, Any] = tf.nest.map_structure(tf.identity, state)
    return copied


def group_size(samples_per_element: float, s_per_sample: float) -> int:
    """Elements to consume in C++ for each that Python sees, so that seeing them is cheap beside them."""
    s = max(s_per_sample, 1e-7)
    samples = min(max(_GROUP, _GROUP_S / s), _GROUP_MOST_S / s)
    return max(1, round(samples / samples_per_element))


def divisor(epoch: int, group: int) -> int:
    """A group of about the size wanted of which an epoch holds a whole number; else the size wanted."""
    largest = max(n for n in range(1, min(epoch, 2 * group) + 1) if epoch % n == 0)
    if largest >= group / 8:
        return largest
    return epoch if epoch <= 8 * group else group


class LayerRun:
    """Batches that pass through a layer on the device that trains, one call a batch, as a training step makes them.

    Args:
        batches: endless; images first where they are tuples.
        layer: a ``keras.layers.Layer``; ``None`` for none: the batches are only fetched.
        read_work: reads the clocks around what makes the batches, if any.
    """

    def __init__(
        self, batches: Iterable[Any], layer: Callable[[Any], Any] | None, read_work: ReadWork = no_clocks
    ) -> None:
        self.read_work = read_work
        self._batches: Iterator[Any] | None = iter(batches)
        self._call = tf.function(layer, autograph=False, reduce_retracing=True) if layer else None

    def run(self, samples: int) -> int:
        """Pass at least ``samples`` samples; returns how many."""
        assert self._batches is not None  # not closed
        done, out = 0, None
        while done < samples:
            batch = next(self._batches)
            images = batch[0] if isinstance(batch, tuple) else batch
            done += int(images.shape[0])
            if self._call:
                out = self._call(images)
        if out is not None:
            # A GPU works on its own time: one number back means that all before it is done.
            out[(0,) * len(out.shape)].numpy()
        return done

    def close(self) -> None:
        """Let go of the batches."""
        self._batches = None


def held_batches(dataset: tf.data.Dataset, samples: int) -> Callable[[], Iterator[Any]]:
    """The images of the first batches, kept in the host's memory; what is returned gives them over and over.

    Args:
        dataset: batches of ``(images, labels)``, endless or longer than ``samples``.
        samples: how many images to keep, at least.
    """
    kept: list[Any] = []
    count = 0
    for images, _ in dataset:
        kept.append(images)
        count += int(images.shape[0])
        if count >= samples:
            break
    return functools.partial(itertools.cycle, kept)
