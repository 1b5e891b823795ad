"""Makes the runs of a plan's steps in tf.data: prefixes, and single steps with and without their work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends import replay
from greenload.backends.base import Records, echoes_of
from greenload.backends.interface import Replay
from greenload.backends.native.cache import planned_cache
from greenload.backends.native.cached_reader import CachedReader
from greenload.backends.registry import readers_of
from greenload.backends.tf import backend as tf_backend
from greenload.backends.tf.backend import Element
from greenload.loading.elements import compose, echoes, plain, sample_by_sample
from greenload.loading.tf_graph import PlanGraph, SegmentGroup
from greenload.plans.plan import Segment
from greenload.plans.steps import Step
from greenload.profiling.runs import DatasetRun, plan_run, unchanged
from greenload.system.frameworks import tf


class PipelineReplays:
    """Makes the runs of one plan's steps, over one fixed set of samples.

    Args:
        stream: the plan's lowered steps.
        roots: endless roots of the samples (position, index, label, prepared random values), over and over.
        samples: how many different samples ``roots`` has.
        batches: the same in batches, where the plan's first group takes them (``PlanGraph.by_batch``).
    """

    def __init__(
        self,
        stream: PlanGraph,
        roots: Callable[[], tf.data.Dataset],
        samples: int,
        batches: Callable[[], tf.data.Dataset],
    ) -> None:
        self.stream = stream
        self.samples = samples
        self._plan = stream.plan
        self._roots = roots
        self._root_batches = batches
        self._captured: dict[Segment, list[Records]] = {}
        self._keeper: CachedReader | None = None

    def prefix(self, step: Step, whole: int = 0) -> DatasetRun:
        """The pipeline from its source up to and including a step on samples, at full speed.

        Args:
            step: the last one.
            whole: samples of which a whole number of groups is made; else 0.
        """
        if self.stream.by_batch:
            read = self._mapped(self._root_batches(), self.stream.batch_reads[step])
            return plan_run(read, self._batch_size, self._plan, whole=whole)
        chain = self._mapped(self._roots(), self.stream.samples_by_echo(self._index(step) + 1)[0])
        return plan_run(chain, step.serves, self._plan, whole=whole)

    def captured(self, step: Step) -> tf.data.Dataset:
        """The samples as they reach a step, held in memory, over and over. Filled by its first pass."""
        index = len(self.stream.on_samples) if step.kind == "batch" else self._index(step)
        return self._reaching(index, echoed=step.serves == 1).cache().repeat()

    def _reaching(self, count: int, *, echoed: bool) -> tf.data.Dataset:
        """All samples once, through the first steps on samples; ``echoed``: their echoes, where there are any."""
        roots = self._roots().take(self.samples)
        once, each = self.stream.samples_by_echo(count)
        samples = self._mapped(roots, once) if count else roots
        times = self._plan.pipeline.times
        return self._mapped(echoes(samples, times), each) if echoed and times > 1 else samples

    def on_samples(self, step: Step) -> bool:
        """Whether a step works on single samples in tf.data."""
        return any(s is step for s, _ in self.stream.on_samples)

    def alone(self, step: Step) -> tuple[DatasetRun, DatasetRun]:
        """A step on samples with and without its work: on captured samples, in a map that is otherwise empty."""
        captured = self.captured(step)
        return self._pair(captured, [], step)

    def behind(self, previous: Step, step: Step) -> tuple[DatasetRun, DatasetRun]:
        """A step on samples with and without its work, behind the step before it, as in the pipeline."""
        return self._pair(self.captured(previous), [self._element(previous)], step)

    def batching(self, step: Step) -> tuple[DatasetRun, DatasetRun]:
        """Stacking captured samples, with the transfer of batches to other backends and back, or only passing them on.

        A batch is passed on in place of its samples one by one, as in the pipeline. The prefix that reads includes
        passing samples on; that is saved by batching, whose cost may therefore come out below zero. Where records are
        read in batches, only the transfer is left.
        """
        if self.stream.by_batch:
            size = min(self._batch_size, self.samples)
            captured = self._batches(0).cache().repeat()
            return self._transferred(captured, size), plan_run(captured.map(unchanged), size, self._plan)
        before = self.before(step)
        # Images of different sizes are large, and held until the batch is full: whatever makes them finds no memory
        # that is still in the processor's caches. That is the batch's doing, so they are made anew here.
        # Not what is made once for several echoes: most of them find it there.
        anew = self.stream.ragged and before.kind == "pixels" and before.serves == 1
        context = [self._element(before)] if anew else []
        captured = self.captured(before if context else step)
        if not context and before.spec_out.encoded:
            context = [_anew]
        # In the pipeline, too, batching becomes one with the map before it.
        work = compose([*context, self.stream.kept])
        batches = self._mapped(captured, work).batch(self._batch_size).ignore_errors()
        without = plan_run(self._mapped(captured, compose([*context, unchanged])), 1, self._plan)
        return self._transferred(batches, self._batch_size), without

    def _transferred(self, batches: tf.data.Dataset, size: int) -> DatasetRun:
        """Batches of a size through all groups, without their work on pixels."""
        idle = []
        if not self.stream.segment_groups:
            batches = batches.map(unchanged)  # as what it is held against
        for group in self.stream.segment_groups:
            if group.crosses and group in self.stream.back:
                batches = batches.map(unchanged)  # an operation of the graph takes a batch as it is
            elif group.crosses:
                idle.append(
                    replay.IdleSegments(self._plan, group.segments, self.entering(group.segments[0]), self._batch_size)
                )
                batches = self.stream.crossing(batches, group, idle[-1].run)
            else:
                batches = batches.map(compose([_standing_in(group.segments[0], self._batch_size)]))

        def release() -> None:
            for run in idle:
                run.close()

        return plan_run(batches, size, self._plan, release=release)

    def on_batches(self, step: Step) -> tuple[Replay, Replay] | tuple[DatasetRun, DatasetRun]:
        """A step with and without its work, on captured batches as they reach it.

        What tf.data does to the samples of a batch one by one is replayed on samples: taking batches apart, and
        stacking them again, belongs to the transfer.
        """
        group = next(
            group for group in self.stream.segment_groups if any(step in segment.steps for segment in group.segments)
        )
        segment = next(segment for segment in group.segments if step in segment.steps)
        if group.crosses:
            return replay.pair(self._plan, segment, step, self.entering(segment))
        index = segment.steps.index(step)
        batches = self._batches(self.stream.segment_groups.index(group))
        if not segment.batched:
            *before, element = tf_backend.elements(self._plan, segment.steps, readers_of(self._plan))[: index + 1]
            return self._runs(self._mapped(batches.unbatch(), compose(before)).cache().repeat(), [], element, 1)
        earlier = compose([self.stream.on_batches[s] for s in segment.steps[:index]])
        captured = batches.map(earlier).cache().repeat()
        full, empty = (captured.map(compose([e])) for e in (self.stream.on_batches[step], unchanged))
        size = min(self._batch_size, self.samples)
        return plan_run(full, size, self._plan), plan_run(empty, size, self._plan)

    def entering(self, segment: Segment) -> list[Records]:
        """Captured batches as they enter a segment on another backend."""
        group = next(group for group in self.stream.segment_groups if segment in group.segments)
        index = group.segments.index(segment)
        if segment not in self._captured:
            before = group.segments[index - 1]
            self._captured[segment] = (
                replay.through(self._plan, before, self.entering(before)) if index else self._entering(group)
            )
        return self._captured[segment]

    def _entering(self, group: SegmentGroup) -> list[Records]:
        """Captured batches as they leave tf.data."""
        if planned_cache(self._plan) and group is self.stream.segment_groups[0]:
            return self._recalled()
        batches: list[Records] = []
        spec = group.segments[-1].spec_out

        def take(records: Records) -> NDArray[Any]:
            images: list[Any] = [i if isinstance(i, bytes) else i.copy() for i in records.images]
            batches.append(replace(records, images=images, numbers=records.numbers.copy()))
            return np.zeros((len(records.numbers), *(n or 0 for n in spec.image_shape)), spec.dtype)

        for _ in self.stream.crossing(self._batches(self.stream.segment_groups.index(group)), group, take):
            pass
        return batches

    def _recalled(self) -> list[Records]:
        """Captured batches as a cache keeps them for the steps behind it."""
        source = self._plan.pipeline.source
        self._keeper = self._keeper or CachedReader(self._plan, readers_of(self._plan))
        batches = []
        for state in self._root_samples().batch(self._batch_size).as_numpy_iterator():
            indices = state["index"].tolist()
            numbers = state.get("numbers", np.zeros((len(indices), 0)))
            own, image_of = echoes_of(state["index"]) if self._plan.pipeline.times > 1 else (state["index"], None)
            images = self._keeper.read(source, own.tolist())
            batches.append(Records(images, numbers, [source.name(index) for index in indices], image_of))
        return batches

    def _root_samples(self) -> tf.data.Dataset:
        keys = ("index", "numbers")
        samples = self._reaching(0, echoed=True)
        return samples.map(plain(lambda state: {key: state[key] for key in keys if key in state}))

    def _batches(self, count: int) -> tf.data.Dataset:
        """The samples in batches, through the first ``count`` groups."""
        # Files as they were read: whatever a backend does with them in TensorFlow's graph, it is replayed from Python.
        samples = self._mapped(self._reaching(len(self.stream.on_samples), echoed=True), self.stream.kept)
        batches = samples.batch(self._batch_size)
        for group in self.stream.segment_groups[:count]:
            if group.crosses:
                batches = self.stream.crossing(batches, group, self.stream.chain(group))
            else:
                batches = batches.map(compose([self.stream.back[group]]))
        return batches

    @property
    def _batch_size(self) -> int:
        batch = self._plan.pipeline.batch
        assert batch is not None  # there is a step for it
        return batch.size

    def before(self, step: Step) -> Step:
        """The step on samples in tf.data that a step on samples, or the batching, comes after."""
        return self.stream.on_samples[-1 if step.kind == "batch" else self._index(step) - 1][0]

    def bytes_in(self, step: Step) -> float:
        """Mean bytes of the images that enter a step on samples, or a batch."""

        def size(state: dict[str, Any]) -> Any:
            image = state["image"]
            if image.dtype == tf.string:
                return tf.cast(tf.strings.length(image), tf.int64)
            return tf.size(image, tf.int64) * image.dtype.size

        return float(np.mean(list(self.captured(step).take(self.samples).map(plain(size)).as_numpy_iterator())))

    def _pair(self, captured: tf.data.Dataset, context: Sequence[Element], step: Step) -> tuple[DatasetRun, DatasetRun]:
        return self._runs(captured, context, self._element(step), step.serves)

    def _runs(
        self, captured: tf.data.Dataset, context: Sequence[Element], element: Element, serves: int
    ) -> tuple[DatasetRun, DatasetRun]:
        full, empty = (self._mapped(captured, compose([*context, last])) for last in (element, unchanged))
        return plan_run(full, serves, self._plan), plan_run(empty, serves, self._plan)

    def _mapped(self, dataset: tf.data.Dataset, element: Element) -> tf.data.Dataset:
        return dataset.map(compose([element]), num_parallel_calls=self._plan.threads, deterministic=True)

    def _index(self, step: Step) -> int:
        return next(i for i, (s, _) in enumerate(self.stream.on_samples) if s is step)

    def _element(self, step: Step) -> Element:
        return self.stream.on_samples[self._index(step)][1]


def _anew(state: dict[str, Any]) -> dict[str, Any]:
    """Files' bytes in memory of their own, as reading leaves them: those that are captured can't be moved into a batch,
    but are copied, which the pipeline doesn't do."""
    return state | {"image": tf.strings.substr(state["image"], 0, tf.strings.length(state["image"]))}


def _standing_in(segment: Segment, batch_size: int) -> Element:
    """What is left of a segment of tf.data's behind a crossing without its work on pixels: images of its results' size,
    one by one where they are worked on one by one."""
    spec = segment.spec_out
    if segment.batched:
        whole = tf.zeros([batch_size, *spec.image_shape], spec.dtype)
        return lambda state: state | {"image": whole[: tf.shape(state["image"])[0]]}
    blank = tf.zeros(spec.shape, spec.dtype)
    return sample_by_sample(lambda state: {"image": blank}, spec)
