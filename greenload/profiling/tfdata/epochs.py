"""Runs of single epochs: one that fills a dataset's caches, the writing of one cache, and epochs started anew."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from greenload.profiling.runs import ReadWork, divisor, group_size, grouped_iterator, no_clocks
from greenload.profiling.tfdata.caches import Stores, on_disk
from greenload.profiling.tfdata.counting import Counts, counted, element_counter, epoch_repeats
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.passes import ClockedCopyOf
from greenload.profiling.tfdata.rebuild import Builder, Functions
from greenload.profiling.tfdata.replays import DatasetReplays, whole_options
from greenload.system.frameworks import tf

FIRST_S = 0.75
"""Wall seconds that a first epoch may take, roughly: of a longer one a part is run."""
STARTS_S = 2.0
"""Wall seconds of the longest epoch whose start can be felt."""
WRITTEN_BYTES = 1 << 28
"""Bytes that a window writes into a cache on disk, at most."""
_MOST_TIMES = 4  # the elements that a first epoch may give beyond those expected, before it is cut off
_IN_STEP = frozenset({"zip", "enumerate"})


class Once:
    """One pass over a dataset, whose iterator is made beforehand.

    Args:
        dataset: what passes, to its end.
        samples: how many that is.
        group: elements consumed in C++ for each that Python sees.
        told: called whenever a group has passed.
        folder: what it writes; removed when it is closed.
        read_work: reads the clocks around its functions, if any.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        samples: int,
        group: int,
        told: Callable[[], None],
        folder: str = "",
        read_work: ReadWork = no_clocks,
    ) -> None:
        self.read_work = read_work
        self.samples = samples
        self._told = told
        self._folder = folder
        self._iterator = grouped_iterator(dataset, group)

    def run(self, samples: int) -> int:
        """The whole pass; returns how many samples that were."""
        for _ in self._iterator:
            self._told()
        return self.samples

    def close(self) -> None:
        """Let go of the iterator, and remove what was written."""
        del self._iterator
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


class Epochs:
    """Whole epochs of a dataset, each by an iterator of its own.

    Args:
        dataset: of one epoch, its caches filled.
        samples: in an epoch.
        group: elements consumed in C++ for each that Python sees; divides the epoch.
        told: called whenever a group has passed.
    """

    def __init__(self, dataset: tf.data.Dataset, samples: float, group: int, told: Callable[[], None]) -> None:
        self._dataset = dataset.shard(group, group - 1) if group > 1 else dataset
        self._samples = samples
        self._told = told

    def run(self, samples: int) -> int:
        """As many epochs as hold ``samples`` samples, at least one; returns how many samples that were."""
        epochs = max(1, round(samples / self._samples))
        for _ in range(epochs):
            for _ in self._dataset:
                self._told()
        return max(1, round(epochs * self._samples))

    def close(self) -> None:
        """Let go of the dataset."""
        del self._dataset


class FirstEpochs:
    """Makes runs that fill a dataset's caches.

    Args:
        root: the dataset.
        counts: what flows through it.
        scratch: a folder for what caches write.
        parallel: what stands for AUTOTUNE.
        replays: has captured what enters a cache.
        told: called whenever elements have passed.
    """

    def __init__(
        self, root: Node, counts: Counts, scratch: str, parallel: int, replays: DatasetReplays, told: Callable[[], None]
    ) -> None:
        self._root = root
        self._counts = counts
        self._scratch = scratch
        self._parallel = parallel
        self._replays = replays
        self._told = told
        self._stores = Stores.of(root, counts.unfilled)
        self._options = whole_options(root.dataset.options())
        self._repeats = epoch_repeats(root)
        self._passed = 0

    def whole(self) -> Once | None:
        """A first epoch of the whole dataset, or of its first part where one takes long; None where neither ends."""
        joined = any(len(node.inputs) > 1 and node.kind not in _IN_STEP for node in self._root.nodes())
        if joined and part_samples(self._counts) is not None:
            return None  # the parts would not be of the branches' sizes
        if not self._passed:
            counter = element_counter()
            folder = self._folder()
            dataset = counted(self._built(folder), counter, self._counts.unit.rows).take(self._most)
            run = Once(dataset, 0, self._group, self._told, folder)
            run.run(0)
            run.close()
            elements, passed, _ = (int(number) for number in counter.numpy())
            self._passed = round(passed * self._counts.unit.per_element) if elements < self._most else 0
        if not self._passed:
            return None
        folder = self._folder()
        return self._once_over(self._built(folder), folder)

    def clocked(self, copy_of: ClockedCopyOf) -> Once | None:
        """As `whole` gives, with clocks around the functions."""
        if not self._passed:
            return None
        folder = self._folder()
        copy = copy_of(self._root, lambda functions: self._built(folder, functions))
        return self._once_over(copy.dataset, folder, copy.read)

    def _once_over(self, dataset: tf.data.Dataset, folder: str, read_work: ReadWork = no_clocks) -> Once:
        return Once(dataset.with_options(self._options), self._passed, self._group, self._told, folder, read_work)

    def _folder(self) -> str:
        return tempfile.mkdtemp(dir=self._scratch)

    @property
    def _most(self) -> int:
        samples = first_samples(self._counts)
        return math.ceil(_MOST_TIMES * samples / self._counts.samples_per_element) + 1

    @property
    def _group(self) -> int:
        return group_size(self._counts.samples_per_element, self._counts.s_per_sample)

    def _built(self, folder: str, functions: Functions | None = None) -> Any:
        builder, part = Builder(folder, self._parallel, functions), part_samples(self._counts)

        def alter(node: Node, inputs: Sequence[Any]) -> Any:
            if part is not None and node in self._stores.empty:
                elements = max(1, round(part * self._counts.flows[node].elements_per_sample))
                return builder.on(node, [inputs[0].take(elements)])
            return self._once(node, inputs)

        return builder.build(self._root, alter)

    def _once(self, node: Node, inputs: Sequence[Any]) -> Any:
        return inputs[0] if node in self._repeats else None

    def writing(self, node: Node, elements: int, kind: str) -> Once:
        """Elements written into an empty cache ("with"), or only passing ("without"): the kinds of their windows.

        What a cache on disk is given is captured. What one in memory keeps is memory that nothing has used before,
        which is most of its cost: so what is before it runs, too.
        """
        before = self._replays.before(node)
        assert before is not None
        flow = self._counts.flows[before]
        samples = max(1, round(elements / max(1e-12, flow.elements_per_sample)))
        group = group_size(1 / max(1e-12, flow.elements_per_sample), self._counts.s_per_sample)
        folder = self._folder()
        builder = Builder(folder, self._parallel)
        given = self._replays.captured(before) if on_disk(node) else builder.build(before, self._once)
        passing = given.take(elements)
        run = builder.on(node, [passing]) if kind == "with" else passing
        return Once(run.with_options(self._replays.options), samples, group, self._told, folder)

    def writing_elements(self, node: Node, seconds: float) -> int:
        """How many elements fill a window in which a cache is written: no more than an epoch has of one in memory."""
        before = self._replays.before(node)
        assert before is not None
        flow = self._counts.flows[before]
        if not on_disk(node):
            return max(1, round(first_samples(self._counts) * flow.elements_per_sample))
        most = max(1, int(WRITTEN_BYTES / max(1.0, flow.bytes_per_element)))
        elements = min(most, 64)
        while True:
            for kind in ("without", "with"):  # the first one captures
                run = self.writing(node, elements, kind)
                start = time.perf_counter()
                run.run(0)
                took = time.perf_counter() - start
                run.close()
            if took >= seconds / 3 or elements >= most:
                return max(1, min(most, round(elements * seconds / max(took, 1e-4))))
            elements = min(most, elements * max(2, min(8, int(seconds / 2 / max(took, 1e-4)))))


def part_samples(counts: Counts) -> float | None:
    """How many samples of a first epoch are run; None for all."""
    whole = None if counts.cut or counts.epoch_elements is None else counts.samples
    wanted = max(float(counts.samples_per_element), FIRST_S / max(counts.s_per_sample, 1e-9))
    if counts.bounded_first:
        wanted = min(wanted, float(counts.samples))
    return None if whole is not None and whole <= 2 * wanted else wanted


def first_samples(counts: Counts) -> float:
    """How many samples of a first epoch are run."""
    return part_samples(counts) or float(counts.samples)


def may_start_anew(counts: Counts, stores: Stores) -> bool:
    """Whether epochs can be started anew, and may be so short that the start is felt."""
    if counts.endless or counts.cut or counts.epoch_elements is None:
        return False
    return bool(stores) or counts.samples * counts.s_per_sample <= 2 * STARTS_S  # counting slows an epoch down


def started_anew(
    dataset: tf.data.Dataset, counts: Counts, told: Callable[[], None]
) -> tuple[Epochs, tf.data.Dataset, int]:
    """Epochs of a dataset by iterators of their own, the same dataset for one without an end, and their group."""
    assert counts.epoch_elements is not None
    samples = counts.epoch_elements * counts.samples_per_element
    group = divisor(counts.epoch_elements, group_size(counts.samples_per_element, counts.s_per_sample))
    return Epochs(dataset, samples, group, told), dataset, group


def cpu_s_of(work: Callable[[], object]) -> float:
    """CPU seconds that this process takes while something runs."""
    start = time.process_time()
    work()
    return time.process_time() - start
