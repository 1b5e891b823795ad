"""Parts of a plan as something that can be run for a while: what the profiler measures on tf.data.

Each run consumes its dataset in C++ (``shard`` hands one element in many to Python), starts settled and ends settled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenload.backends.tf import Element
from greenload.backends.tf_stream import Stream, compose
from greenload.plan import Step

if TYPE_CHECKING:
    import tensorflow as tf

_GROUP = 64  # samples consumed in C++ for each that Python sees: a `next` costs 0.1 ms


class DatasetRun:
    """An endless dataset, consumed on demand."""

    def __init__(self, dataset: tf.data.Dataset, samples_per_element: int, threads: int) -> None:
        import tensorflow as tf

        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        options.threading.max_intra_op_parallelism = 1
        options.autotune.enabled = False
        options.deterministic = True
        options.experimental_optimization.apply_default_optimizations = False  # an empty map must stay a map
        group = max(1, _GROUP // samples_per_element)
        self.samples_per_element = samples_per_element * group
        """Samples that pass with each step of the iterator."""
        self._iterator = iter(dataset.shard(group, group - 1).with_options(options))

    def run(self, samples: int) -> int:
        """Consume at least ``samples`` samples; returns how many."""
        done = 0
        while done < samples:
            next(self._iterator)
            done += self.samples_per_element
        return done

    def close(self) -> None:
        """Let go of the iterator, its threads and buffers."""
        del self._iterator


def _identity(state: dict[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    copied: dict[str, Any] = tf.nest.map_structure(tf.identity, state)
    return copied


class Replays:
    """Makes the runs of one plan's steps, over one fixed set of samples.

    Args:
        stream: the plan's lowered steps.
        roots: endless roots of the samples (position, index, label, numbers), over and over.
        samples: how many different samples ``roots`` has.
    """

    def __init__(self, stream: Stream, roots: Callable[[], tf.data.Dataset], samples: int) -> None:
        self.stream = stream
        self.samples = samples
        self._roots = roots
        self._threads = stream.plan.threads

    def prefix(self, step: Step) -> DatasetRun:
        """The pipeline from its source up to and including a step on samples, at full speed."""
        return DatasetRun(self._mapped(self._roots(), self._upto(step)), 1, self._threads)

    def captured(self, step: Step) -> tf.data.Dataset:
        """The samples as they reach a step, held in memory, over and over. Filled by its first pass."""
        if step.kind == "batch":
            entering = self.stream.samples(self._roots().take(self.samples))
            return entering.cache().repeat()
        place = self._place(step)
        roots = self._roots().take(self.samples)
        before = self._mapped(roots, self._chain(place)) if place else roots
        return before.cache().repeat()

    def on_samples(self, step: Step, captured: tf.data.Dataset, *, full: bool) -> DatasetRun:
        """A step on samples in a parallel map of its own, or that map with nothing in it."""
        element = self.stream.on_samples[self._place(step)][1] if full else _identity
        return DatasetRun(self._mapped(captured, element), 1, self._threads)

    def batching(self, captured: tf.data.Dataset, *, full: bool) -> DatasetRun:
        """Stacking captured samples (and handing the batch to another backend and back), or only passing them on."""
        plan = self.stream.plan
        batch = plan.pipeline.batch
        assert batch is not None  # there is a step for it
        if not full:
            return DatasetRun(captured, 1, self._threads)
        batches = captured.ignore_errors().batch(batch.size)
        if plan.backend != "tf":
            from greenload.backends import dali

            batches = self.stream.crossing(batches, dali.hand_over(plan, batch.size, plan.threads))
        return DatasetRun(batches, batch.size, self._threads)

    def on_batches(self, step: Step, *, full: bool) -> DatasetRun:
        """A step on captured batches, or an empty map of them."""
        batch = self.stream.plan.pipeline.batch
        assert batch is not None
        place = next(i for i, (s, _) in enumerate(self.stream.on_batches) if s is step)
        earlier = compose([element for _, element in self.stream.on_batches[:place]])
        element = self.stream.on_batches[place][1] if full else _identity
        batches = self.stream.samples(self._roots().take(self.samples)).batch(batch.size, drop_remainder=True)
        return DatasetRun(batches.map(earlier).cache().repeat().map(compose([element])), batch.size, self._threads)

    def bytes_out(self, captured: tf.data.Dataset) -> float:
        """Mean bytes of the captured images. Runs through them once."""
        import numpy as np
        import tensorflow as tf

        def size(state: dict[str, Any]) -> Any:
            image = state["image"]
            if image.dtype == tf.string:
                return tf.cast(tf.strings.length(image), tf.int64)
            return tf.size(image, tf.int64) * image.dtype.size

        return float(np.mean(list(captured.take(self.samples).map(size).as_numpy_iterator())))

    def _mapped(self, dataset: tf.data.Dataset, element: Element) -> tf.data.Dataset:
        return dataset.map(compose([element]), num_parallel_calls=self._threads, deterministic=True)

    def _place(self, step: Step) -> int:
        return next(i for i, (s, _) in enumerate(self.stream.on_samples) if s is step)

    def _upto(self, step: Step) -> Element:
        return self._chain(self._place(step) + 1)

    def _chain(self, count: int) -> Element:
        """The first ``count`` steps as one function; a cache stands for all before it."""
        steps = self.stream.on_samples[:count]
        start = max((i for i, (s, _) in enumerate(steps) if s.kind == "cache"), default=0)
        return compose([element for _, element in steps[start:]])
