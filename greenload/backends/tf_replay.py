"""Parts of a plan as something that can be run for a while: what the profiler measures on tf.data.

Each run consumes its dataset in C++ (``shard`` hands one element in many to Python), starts settled and ends settled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from greenload.backends.tf import Element
from greenload.backends.tf_stream import Stream, compose, options
from greenload.plan import Plan
from greenload.steps import Step

if TYPE_CHECKING:
    import tensorflow as tf

_GROUP = 64  # samples consumed in C++ for each that Python sees: a `next` costs 0.1 ms


class DatasetRun:
    """An endless dataset, consumed on demand.

    Args:
        dataset: what to run.
        samples_per_element: how many samples each of its elements holds.
        plan: whose bounds on threads hold.
    """

    def __init__(self, dataset: tf.data.Dataset, samples_per_element: int, plan: Plan) -> None:
        bounded = options(plan)
        bounded.experimental_optimization.noop_elimination = False  # an empty map must stay a map
        group = max(1, _GROUP // samples_per_element)
        self.samples_per_element = samples_per_element * group
        """Samples that pass with each step of the iterator."""
        self._iterator = iter(dataset.shard(group, group - 1).with_options(bounded))

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
        self._plan = stream.plan
        self._roots = roots

    def prefix(self, step: Step) -> DatasetRun:
        """The pipeline from its source up to and including a step on samples, at full speed."""
        return DatasetRun(self._mapped(self._roots(), self._chain(self._place(step) + 1)), 1, self._plan)

    def captured(self, step: Step) -> tf.data.Dataset:
        """The samples as they reach a step, held in memory, over and over. Filled by its first pass."""
        roots = self._roots().take(self.samples)
        if step.kind == "batch":
            return self.stream.samples(roots).cache().repeat()
        place = self._place(step)
        before = self._mapped(roots, self._chain(place)) if place else roots
        return before.cache().repeat()

    def alone(self, step: Step) -> tuple[DatasetRun, DatasetRun]:
        """A step on samples with and without its work: on captured samples, in a map that is otherwise empty."""
        captured = self.captured(step)
        return self._pair(captured, [], self._element(step))

    def behind(self, previous: Step, step: Step) -> tuple[DatasetRun, DatasetRun]:
        """A step on samples with and without its work, behind the step before it, as in the pipeline."""
        return self._pair(self.captured(previous), [self._element(previous)], self._element(step))

    def batching(self, step: Step) -> tuple[DatasetRun, DatasetRun]:
        """Stacking captured samples (and handing the batch to another backend and back), or only passing them on."""
        batch = self._plan.pipeline.batch
        assert batch is not None  # there is a step for it
        # In the pipeline, too, batching becomes one with the map before it.
        mapped = self._mapped(self.captured(step), _identity)
        batches = mapped.batch(batch.size).ignore_errors()
        for leg in self.stream.legs:
            if leg.crosses:
                from greenload.backends import dali

                run = dali.hand_over(self._plan, batch.size, self._plan.threads)
                batches = self.stream.crossing(batches, leg, run)
        return DatasetRun(batches, batch.size, self._plan), DatasetRun(mapped, 1, self._plan)

    def on_batches(self, step: Step) -> tuple[DatasetRun, DatasetRun]:
        """A step on captured batches, or an empty map of them."""
        batch = self._plan.pipeline.batch
        assert batch is not None
        steps = list(self.stream.on_batches)
        earlier = compose([self.stream.on_batches[s] for s in steps[: steps.index(step)]])
        batches = self.stream.samples(self._roots().take(self.samples)).batch(batch.size)
        captured = batches.map(earlier).cache().repeat()
        full, empty = (captured.map(compose([e])) for e in (self.stream.on_batches[step], _identity))
        return DatasetRun(full, batch.size, self._plan), DatasetRun(empty, batch.size, self._plan)

    def before(self, step: Step) -> Step:
        """The step on samples in tf.data that a step on samples, or the batching, comes after."""
        return self.stream.on_samples[-1 if step.kind == "batch" else self._place(step) - 1][0]

    def bytes_in(self, step: Step) -> float:
        """Mean bytes of the images that enter a step on samples, or a batch."""
        import numpy as np
        import tensorflow as tf

        def size(state: dict[str, Any]) -> Any:
            image = state["image"]
            if image.dtype == tf.string:
                return tf.cast(tf.strings.length(image), tf.int64)
            return tf.size(image, tf.int64) * image.dtype.size

        return float(np.mean(list(self.captured(step).take(self.samples).map(size).as_numpy_iterator())))

    def _pair(
        self, captured: tf.data.Dataset, context: Sequence[Element], element: Element
    ) -> tuple[DatasetRun, DatasetRun]:
        full, empty = compose([*context, element]), compose([*context, _identity])
        return (
            DatasetRun(self._mapped(captured, full), 1, self._plan),
            DatasetRun(self._mapped(captured, empty), 1, self._plan),
        )

    def _mapped(self, dataset: tf.data.Dataset, element: Element) -> tf.data.Dataset:
        return dataset.map(compose([element]), num_parallel_calls=self._plan.threads, deterministic=True)

    def _place(self, step: Step) -> int:
        return next(i for i, (s, _) in enumerate(self.stream.on_samples) if s is step)

    def _element(self, step: Step) -> Element:
        return self.stream.on_samples[self._place(step)][1]

    def _chain(self, count: int) -> Element:
        """The first ``count`` steps as one function; a cache stands for all before it."""
        steps = self.stream.on_samples[:count]
        start = max((i for i, (s, _) in enumerate(steps) if s.kind == "cache"), default=0)
        return compose([element for _, element in steps[start:]])
