"""Builds the part of a plan that tf.data runs: reading records, caches, steps on samples, transfers of batches.

Steps of the ``tf`` backend run in one parallel map, element by element. Its results are batched, transferred to the
other backends, and come back as pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from greenload.array_ops import TENSORFLOW
from greenload.backends.base import GraphSegment, Records
from greenload.backends.chain import Chain
from greenload.backends.clocks import StepClock, intake_name, ordered
from greenload.backends.native.cached_reader import CachedReader
from greenload.backends.registry import make_graph_segment, readers_of, step_clocks
from greenload.backends.tf import backend as tf_backend
from greenload.backends.tf.backend import Element, State
from greenload.loading.elements import (
    cached,
    compose,
    echoes,
    kept,
    looked_up,
    plain,
    sample_by_sample,
    traced_once,
    unread,
)
from greenload.loading.graph_clocks import GraphClocks
from greenload.loading.graph_segments import SIZE, on_batch, on_files, on_sample, reading
from greenload.loading.host_calls import SegmentCall, host_call
from greenload.loading.tf_reading import reader
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import Step
from greenload.sources import Arrays
from greenload.stages import primitives as p
from greenload.system.frameworks import tf


def options(plan: Plan) -> Any:
    """``tf.data.Options`` that keep a plan's stated bounds: a private pool of its threads, no autotuning."""
    chosen = tf.data.Options()
    chosen.threading.private_threadpool_size = plan.threads
    chosen.threading.max_intra_op_parallelism = 1
    chosen.autotune.enabled = False
    # A cache's table makes the map stateful, and TensorFlow 2.21 fails when it fuses a stateful map inside flat_map.
    chosen.experimental_optimization.map_and_batch_fusion = all(step.kind != "cache" for step in plan.steps)
    chosen.deterministic = True
    return chosen


@dataclass(frozen=True)
class SegmentGroup:
    """Adjacent segments that work on batches without a transfer back to tf.data: one of tf.data's own, or all
    that follow each other on other backends."""

    segments: tuple[Segment, ...]

    @property
    def crosses(self) -> bool:
        """Whether batches are transferred out of tf.data for it."""
        return self.segments[0].traits.takes_batches

    @property
    def batch_by_batch(self) -> bool:
        """Whether the call is best made for one batch at a time: there they queue up."""
        return len(self.segments) == 1 and self.segments[0].traits.queues_batches


def grouped_segments(segments: Sequence[Segment]) -> list[SegmentGroup]:
    """Segments, those that follow each other outside tf.data in one group. One that mixes batches, and has an operation
    of TensorFlow's graph, begins another: both groups stay in the graph then, if the one before it was there."""
    groups: list[SegmentGroup] = []
    for segment in segments:
        mixes = isinstance(segment.steps[0].primitive, p.Mix) and segment.traits.in_graph
        if not mixes and groups and groups[-1].crosses and segment.traits.takes_batches:
            groups[-1] = SegmentGroup((*groups[-1].segments, segment))
        else:
            groups.append(SegmentGroup((segment,)))
    return groups


class PlanGraph:
    """The functions of a plan's steps, lowered once, and how they make a dataset.

    Args:
        plan: what is lowered.
        record_group: samples whose records are adjacent in the plan's order, if it keeps such groups.
        clocks: put around its functions; none if not given.
        tables: of caches, those of another graph of the same plan; made if not given.
    """

    def __init__(
        self,
        plan: Plan,
        record_group: int | None = None,
        clocks: GraphClocks | None = None,
        tables: Sequence[Any] = (),
    ) -> None:
        plan.pipeline.check_labels()
        self.plan = plan
        self._echoes = plan.pipeline.times > 1
        self._layout = DrawLayout.of(plan.pipeline)
        self._readers = readers_of(plan)
        self._calls: list[SegmentCall] = []
        self._chains: dict[SegmentGroup, Chain] = {}
        self._has_cache = any(step.kind == "cache" for step in plan.steps)
        self._has_table = any(step.kind == "cache" and not step.keeps for step in plan.steps)
        self.reading = reader(plan.pipeline.source, threads=plan.threads, group=record_group, singly=self._has_cache)
        """How records are read; its ``sample`` is the first of ``on_samples``."""
        lead = list(itertools.takewhile(lambda segment: not segment.batched, plan.segments))
        self._lead = [step for segment in lead for step in segment.steps]  # on single samples, in tf.data
        self.segment_groups = grouped_segments(plan.segments[len(lead) :])
        """What is done to batches, in order."""
        self.tables: list[Any] = list(tables)
        """Of caches in tf.data."""
        self._clocks = clocks
        self._own_clocks: list[StepClock] = []
        self.on_samples: list[tuple[Step, Element]] = []
        """Each step that works on single samples before they are batched, with its function; reading comes first."""
        self._lower_samples()
        self.on_batches: dict[Step, Element] = {}
        """Each step that takes whole batches in tf.data, with its function."""
        self.back: dict[SegmentGroup, Element] = {}
        """Each group of tf.data's own, or with an operation of its own for TensorFlow, as one function of a batch."""
        self.by_batch: list[Element] = []
        """What whole batches of roots go through before the first group, where nothing is done to single samples: they
        are read or gathered, and files looked at. Empty where samples are worked on one by one before they are
        batched."""
        self.batch_reads: dict[Step, Element] = {}
        """The reading of such batches, and their reading by way of a cache, as functions of their own."""
        self._at_once: dict[SegmentGroup, int] = {}  # batches, of what works on images one by one
        self._operations: list[GraphSegment] = []
        self._looked_at: list[Element] = []  # files of samples, before they are batched
        self._keeper: CachedReader | None = None
        for group in self.segment_groups:
            self._lower_group(group)
        if self._gathers():
            read = next(step for step in self.plan.steps if step.kind == "read")
            self.batch_reads = {read: self.reading.batch}
            self.by_batch = [self._timed(read, self.reading.batch, self.batch_size)]
        entering = self.on_samples[-1][0].spec_out
        self.ragged = not entering.encoded and not entering.static and bool(self.segment_groups)
        """Whether images of different sizes go into one batch, to be transferred."""
        self.kept = kept(self._kept_parts(), self.ragged)
        """Keeps the part of a sample's state that goes into a batch."""
        # Both are in an epoch's graph twice: the second time where a batch that lacks a record looks for it.
        self._read_chunk = traced_once(compose([self._chunk_reading()]))
        once, each = self.samples_by_echo()
        once = once if self._keeper is None else unread
        self._once = traced_once(once)
        whole = [each] if self._echoes else [once]
        self._work = traced_once(compose([*whole, *self._looked_at, self.kept]))

    def _lower_samples(self) -> None:
        """What works on single samples: reading, tf.data's own caches, and the leading segment's steps."""
        lowered = dict(zip(self._lead, tf_backend.elements(self.plan, self._lead, self._readers), strict=True))
        tables = iter(self.tables)
        for step in self.plan.steps:
            if step.kind == "read":
                sample = self.reading.sample
                self.on_samples.append((step, sample if self.reading.in_chunks else self._timed(step, sample)))
            elif step.kind == "cache" and not step.keeps:
                table = next(tables, None)
                if table is None:
                    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.string, default_value="")
                    self.tables.append(table)
                look_up = self._timed(step, looked_up(table), note=_LOOKS_UP)
                self.on_samples.append((step, cached(self.sample(), step, table, look_up)))
            elif step in lowered:
                self.on_samples.append((step, self._timed(step, lowered[step])))

    def _timed(self, step: Step, element: Element, samples: int = 0, note: str = "") -> Element:
        """A step's function with a clock, where there are clocks."""
        if self._clocks is None:
            return element
        if step.kind == "pixels":
            return self._clocks.around(step.name, step.backend, element, samples, note or _THREADS)
        return self._clocks.around(step.name, step.kind, element, samples, note)

    @property
    def step_clocks(self) -> list[StepClock]:
        """Of its steps, in the order of the data, once a dataset is made."""
        graphs = [] if self._clocks is None else self._clocks.clocks
        chains = [clock for chain in self._chains.values() for clock in chain.clocks]
        return ordered(self.plan, [*graphs, *self._own_clocks, *chains])

    def _lower_group(self, group: SegmentGroup) -> None:
        """A group that is a function of a batch, or else the cache that stands before its calls out of tf.data."""
        if not group.crosses:
            return self._lower_own(group)
        alone = len(group.segments) == 1 and not group.segments[0].once
        operation = make_graph_segment(self.plan, group.segments[0], self._counter(group)) if alone else None
        if operation:
            self._lower_operation(group, operation)
        elif group is self.segment_groups[0] and self._has_cache and not self._has_table:
            self._keeper = CachedReader(self.plan, readers_of(self.plan))

    def _lower_own(self, group: SegmentGroup) -> None:
        """A segment of tf.data's own."""
        (segment,) = group.segments
        samples = self.batch_size if segment.batched else 0
        done = [
            self._timed(step, element, samples)
            for step, element in zip(
                segment.steps, tf_backend.elements(self.plan, segment.steps, self._readers), strict=True
            )
        ]
        # As one function, since between its steps images may differ in size, and have params and unrounded values with
        # them.
        whole = compose(done)
        if segment.batched:
            self.back[group] = whole
            self.on_batches |= dict(zip(segment.steps, done, strict=True))
        else:
            self.back[group] = sample_by_sample(whole, segment.steps[-1].spec_out)
            self._at_once[group] = self.plan.threads

    def _lower_operation(self, group: SegmentGroup, operation: GraphSegment) -> None:
        """A segment that is an operation of TensorFlow's graph."""
        (segment,) = group.segments
        encoded = segment.spec_in.encoded
        self._operations.append(operation)
        samples = self._lead or self._has_table or self._echoes
        if group is self.segment_groups[0] and self.plan.pipeline.batch and not samples:
            read, *caching = (step for step in self.plan.steps if step.kind in ("read", "cache"))
            self.batch_reads = {read: reading(operation, self.reading, recalls=False)}
            self.batch_reads |= {step: reading(operation, self.reading) for step in caching}
            note = "what a cache keeps and gives is part of it" if caching else ""
            whole = self._timed(read, self.batch_reads[[read, *caching][-1]], self.batch_size, note)
            self.by_batch = [whole, *([self._looking(segment, on_files(operation), batch=True)] if encoded else [])]
        self.back[group] = on_batch(operation, segment, self.reading.name)
        self._at_once[group] = operation.at_once
        self._looked_at += [self._looking(segment, on_sample(operation))] if encoded else []
        if self._clocks:
            self._own_clocks += step_clocks(segment, self._counter(group))

    def _gathers(self) -> bool:
        """Whether batches are taken out of arrays as they are: nothing is done to single samples, or elsewhere."""
        alone = self._lead or self._echoes or self._has_cache or self.plan.pipeline.batch is None
        elsewhere = bool(self.segment_groups) and self.segment_groups[0].crosses
        return not alone and not elsewhere and isinstance(self.plan.pipeline.source, Arrays)

    def _counter(self, group: SegmentGroup) -> str:
        """The name under which a group's operation counts, of its own; empty where there are no clocks."""
        return f"{self._clocks.name}/segment/{self.segment_groups.index(group)}" if self._clocks else ""

    def _looking(self, segment: Segment, element: Element, batch: bool = False) -> Element:
        """What looks at files before a segment, with a clock, where there are clocks."""
        if self._clocks is None:
            return element
        name, samples = intake_name(segment.backend), self.batch_size if batch else 0
        return self._clocks.around(name, segment.backend, element, samples)

    def _chunk_reading(self) -> Element:
        """What reads chunks, or only looks up what reading needs."""
        reading = self.reading
        if not reading.in_chunks or self._clocks is None:
            return reading.chunk
        step = next(step for step, _ in self.on_samples if step.kind == "read")
        return self._timed(step, reading.chunk, reading.per_call or reading.samples)

    @property
    def batch_size(self) -> int:
        """Samples of a batch; 1 without ``Batch``."""
        batch = self.plan.pipeline.batch
        return batch.size if batch else 1

    def _kept_parts(self) -> list[str]:
        """The parts of a sample's state that what is done to batches needs."""
        parts = ["position", "label", "image", SIZE]
        if any(group.crosses for group in self.segment_groups):
            return [*parts, "index", "numbers"]
        draws = self._layout.of_labels or any(tf_backend.reads_numbers(step) for step in self.on_batches)
        return [*parts, "numbers"] if draws else parts

    def empty_caches(self) -> None:
        """Forget what caches hold: the next pass fills them anew."""
        for table in self.tables:
            table.remove(table.export()[0])
        for operation in self._operations:
            operation.forget()
        if self._keeper is not None:
            self._keeper.forget()

    def tell_trouble(self) -> None:
        """Warn of what went wrong with what native caches keep, once."""
        for operation in self._operations:
            operation.tell_trouble()
        if self._keeper is not None:
            self._keeper.tell_trouble()

    def sample(self) -> Element:
        """All steps on samples as one function, which computes only what the last cache doesn't hold; with ``Echo``
        those before it."""
        return self.samples_by_echo()[0]

    def samples_by_echo(self, count: int | None = None) -> tuple[Element, Element]:
        """The steps on samples as two functions: what is done to each sample once, and what is done to each echo.

        Args:
            count: how many steps; all if not given.
        """
        steps = self.on_samples[:count]
        last_cache = max((i for i, (step, _) in enumerate(steps) if step.kind == "cache"), default=0)
        once = [element for step, element in steps[last_cache:] if step.serves > 1 or not self._echoes]
        each = [element for step, element in steps if step.serves == 1 and self._echoes]
        return compose(once), compose(each)

    def roots(self, chunks: tf.data.Dataset) -> tf.data.Dataset:
        """Single samples of chunks of them, with what reading them needs; where records are read in chunks, they are
        read here.

        Args:
            chunks: of states with position, index, label and prepared random values.
        """
        return self._read_chunks(chunks).unbatch()

    def batches(self, chunks: tf.data.Dataset, size: int, drop_remainder: bool) -> tf.data.Dataset:
        """Batches of chunks' samples, for ``by_batch``; where records are read in chunks, they are read here.

        Args:
            chunks: as ``roots`` takes them.
            size: samples of a batch.
            drop_remainder: whether a last batch of fewer is left out.
        """
        read = self._read_chunks(chunks) if self.reading.path is None else chunks  # a batch looks up its own paths
        return read.rebatch(size, drop_remainder=drop_remainder)

    def _read_chunks(self, chunks: tf.data.Dataset) -> tf.data.Dataset:
        reading = self.reading
        chunks = chunks.rebatch(reading.per_call) if reading.per_call else chunks
        return chunks.map(self._read_chunk, num_parallel_calls=reading.parallel, deterministic=True)

    def samples(self, roots: tf.data.Dataset, begin: Any = 0) -> tf.data.Dataset:
        """The samples with their images, in order, on the plan's threads; with ``Echo`` their echoes.

        Args:
            roots: as the method ``roots`` gives them.
            begin: which echo of the first sample comes first.
        """
        if self._echoes:
            once = roots.map(self._once, num_parallel_calls=self.plan.threads, deterministic=True)
            roots = echoes(once, self.plan.pipeline.times).skip(begin)
        return roots.map(self._work, num_parallel_calls=self.plan.threads, deterministic=True)

    def finish(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """``(images, labels)`` of batches of states, through every group, and before them through ``by_batch``."""
        waiting = list(self.by_batch)
        at_once: int | None = None
        for group in self.segment_groups:
            if group in self.back:
                waiting.append(self.back[group])
                at_once = max(at_once or 0, self._at_once.get(group, 0)) or None
                continue
            if waiting:
                batches = batches.map(compose(waiting), num_parallel_calls=at_once, deterministic=True)
            batches, waiting, at_once = self.crossing(batches, group, self.chain(group)), [], None
        whole = compose(waiting)

        def pair(state: State) -> tuple[Any, Any]:
            done = whole(state)
            if any(group.crosses for group in self.segment_groups):
                done["image"].set_shape(self.plan.out_spec.shape)
            return done["image"], self.labels(done)

        return batches.map(plain(pair), num_parallel_calls=at_once, deterministic=True if at_once else None)

    def labels(self, state: State) -> Any:
        """A batch's labels as the pipeline gives them."""
        return self._layout.labels(state["label"], state.get("numbers"), TENSORFLOW)

    def chain(self, group: SegmentGroup) -> Callable[[Records], Any]:
        """What runs batches of records through a group's segments; made once, and closed with this object."""
        if group not in self._chains:
            self._chains[group] = Chain(self.plan, self.batch_size, group.segments)
        return self._chains[group].run

    def crossing(self, batches: tf.data.Dataset, group: SegmentGroup, run: Callable[[Records], Any]) -> tf.data.Dataset:
        """Batches transferred out of tf.data, through ``run``, and back as images."""
        spec = group.segments[-1].spec_out
        recall = self._keeper.read if self._keeper and group is self.segment_groups[0] else None
        call = SegmentCall(run, self.plan.pipeline.source, recall, group.segments[0].once)
        self._calls.append(call)
        on_host = host_call(call, SegmentCall.run_batch, tf.as_dtype(spec.dtype))

        def transferred(state: State) -> State:
            done = on_host(state)
            done.set_shape((None, *spec.image_shape))
            return {key: value for key, value in state.items() if key != "sides"} | {"image": done}

        ready = batches.prefetch(1)
        return ready.map(plain(transferred), num_parallel_calls=None if group.batch_by_batch else _IN_FLIGHT)


_THREADS = "what TensorFlow has other threads do, as for a resize, isn't seen: it looks like waiting"
_LOOKS_UP = "its clock sees the table looked up, but not images made of what it keeps, or what is kept being stored"
_IN_FLIGHT = 2  # batches in other backends at a time: while the last images of one are worked on or transferred,
# another keeps the threads busy
