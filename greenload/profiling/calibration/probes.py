"""What calibration runs: single steps, and short sequences of steps, on images in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import Records, Runner
from greenload.backends.registry import make_runner, readers_of
from greenload.backends.tables import in_tf_data
from greenload.backends.tf import backend as tf_backend
from greenload.loading.elements import compose, plain, sample_by_sample
from greenload.loading.tf_graph import PlanGraph
from greenload.planning.choose import on_backend, supports
from greenload.planning.placement import place
from greenload.planning.prices import Work, work_of, work_of_segment, work_of_step
from greenload.planning.sizes import SizedSteps, estimate
from greenload.plans.params import DrawLayout
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan, Segment
from greenload.plans.steps import TF_DATA, Step, mirrored, reads_params, steps_of
from greenload.profiling.runs import plan_run, unchanged
from greenload.profiling.windows import Runnable
from greenload.sources import Arrays
from greenload.stages import Batch, Stage
from greenload.system.frameworks import tf

BATCH = 32
"""Images in a batch, where nothing else is said."""
SMALL_BATCH = 8
"""Of a few probes, which tell what a call costs from what an image costs."""


@dataclass(frozen=True)
class Probe:
    """Something that is run, and its work."""

    name: str
    works: tuple[Work, ...]
    make: Callable[[], Runnable]
    without: bool = False
    """Whether the group's run without any work is to be subtracted."""
    weight: float = 1.0
    """How much it counts, beside others."""


@dataclass(frozen=True)
class ProbeGroup:
    """Probes whose windows lie close together."""

    name: str
    probes: tuple[Probe, ...]
    without: Callable[[], Runnable] | None = None
    """What runs what they run on, and nothing else."""


class RunnerRun:
    """Batches of records through a runner, over and over."""

    def __init__(self, runner: Runner, batches: Sequence[Records]) -> None:
        self._runner = runner
        self._batches = batches

    def run(self, samples: int) -> int:
        """At least so many samples; returns how many."""
        done = 0
        while done < samples:
            for batch in self._batches:
                self._runner.run(batch)
                done += len(batch.images)
        return done

    def close(self) -> None:
        """Close the runner."""
        self._runner.close()


@dataclass(frozen=True)
class SizedPipeline:
    """A pipeline over images in memory, with its steps and their sizes."""

    pipeline: Pipeline
    sizes: SizedSteps

    @classmethod
    def out(
        cls, source: Any, stages: Sequence[Stage], batch: int = BATCH, behind: Sequence[Stage] = ()
    ) -> SizedPipeline:
        """Of stages before, and ``behind``, a ``Batch``."""
        return cls.of(Pipeline(source, *stages, Batch(min(batch, len(source))), *behind))

    @classmethod
    def of(cls, pipeline: Pipeline) -> SizedPipeline:
        """Of a whole pipeline, all of whose records count for the sizes."""
        return cls(pipeline, estimate(pipeline, steps_of(pipeline), len(pipeline.source)))

    def plan(self, backend: str, threads: int) -> Plan:
        """All steps on pixels on one backend."""
        return self.placed([on_backend(step, backend) for step in self.sizes.steps], threads)

    def placed(self, steps: Sequence[Step], threads: int) -> Plan:
        """Steps whose backends are given, as a plan."""
        return place(self.pipeline, steps, threads=threads, prefetch=2)

    @property
    def batch(self) -> int:
        """The batch size, as far as there are records for it."""
        return min(self.pipeline.batch.size, len(self.pipeline.source)) if self.pipeline.batch else 1

    def numbers(self) -> NDArray[np.float64]:
        """The prepared random values of all samples, epoch 0."""
        index = np.arange(len(self.pipeline.source))
        drawn: NDArray[np.float64] = DrawLayout.of(self.pipeline).prepare(self.pipeline.seed, 0, index)
        return drawn

    def records(self) -> Records:
        """All samples."""
        source = self.pipeline.source
        images: Any = [source.read(i) for i in range(len(source))]
        return Records(images, self.numbers(), [source.name(i) for i in range(len(source))])


def segment_run(laid: SizedPipeline, part: Segment, plan: Plan, records: Records) -> Runnable:
    """A segment on its backend, over records in batches of the pipeline's size."""
    return RunnerRun(make_runner(plan, part, laid.batch), list(records.batches(laid.batch)))


def on_batches(name: str, laid: SizedPipeline, backend: str, threads: int, first: int | None = None) -> Probe:
    """All steps of a pipeline, or the ``first`` ones, as one segment of a backend that takes batches."""
    plan = laid.plan(backend, threads)
    (whole,) = plan.segments
    part = replace(whole, steps=whole.steps[:first])
    work = tuple(work_of_segment(part.steps, 1 / laid.batch, laid.sizes.kinds))
    return Probe(name, work, lambda: segment_run(laid, part, plan, laid.records()))


class Samples:
    """A pipeline's samples in memory as tf.data gives them to its steps, over and over."""

    def __init__(self, laid: SizedPipeline, plan: Plan) -> None:
        self.laid = laid
        self.plan = plan

    def dataset(self) -> tf.data.Dataset:
        """States of single samples, as they enter the first step on pixels."""
        source = self.laid.pipeline.source
        images = source.images if isinstance(source, Arrays) else [source.read(i) for i in range(len(source))]
        index = np.arange(len(source))
        state = {"position": index, "index": index, "label": source.labels, "image": images}
        numbers = self.laid.numbers()
        return tf.data.Dataset.from_tensor_slices(state | ({"numbers": numbers} if numbers.size else {})).repeat()

    def mapped(self, element: Callable[[Any], Any]) -> tf.data.Dataset:
        """The samples through a function, on the plan's threads."""
        return self.dataset().map(compose([element]), num_parallel_calls=self.plan.threads, deterministic=True)

    def alone(self) -> Runnable:
        """The samples, in a map that does nothing."""
        return plan_run(self.mapped(unchanged), 1, self.plan)

    def elements(self) -> list[Callable[[Any], Any]]:
        """The functions of the steps on single samples, in order."""
        (part, *_) = self.plan.segments
        return tf_backend.elements(self.plan, part.steps, readers_of(self.plan))

    def through(self, count: int) -> Runnable:
        """The samples through the first steps."""
        return plan_run(self.mapped(compose(self.elements()[:count])), 1, self.plan)

    def batched(self) -> Runnable:
        """The samples in batches."""
        stream = PlanGraph(self.plan)
        return self._of_batches(self.mapped(stream.kept).batch(self.laid.batch).ignore_errors())

    def on_whole_batches(self, one_by_one: bool) -> Runnable:
        """Ready batches through the steps; image by image if ``one_by_one``, as behind another backend."""
        (part,) = self.plan.segments
        whole = compose(tf_backend.elements(self.plan, part.steps, readers_of(self.plan)))
        work = sample_by_sample(whole, part.spec_out) if one_by_one else whole
        ready = self.dataset().take(len(self.laid.pipeline.source)).batch(self.laid.batch, drop_remainder=True)
        batches = ready.cache().repeat()
        return self._of_batches(batches.map(compose([work]), num_parallel_calls=self.plan.threads))

    def transferred(self) -> Runnable:
        """The samples in batches to another backend that does nothing, and images of its result's size back."""
        stream = PlanGraph(self.plan)
        (group,) = stream.segment_groups
        spec = group.segments[-1].spec_out
        result = np.zeros((self.laid.batch, *(n or 0 for n in spec.image_shape)), spec.dtype)
        lead = self.elements() if not self.plan.segments[0].traits.takes_batches else []
        batches = self.mapped(compose([*lead, stream.kept])).batch(self.laid.batch).ignore_errors()
        crossed = stream.crossing(batches, group, lambda records: result[: len(records.images)])
        return self._of_batches(crossed.map(plain(lambda state: (state["image"], state["label"]))))

    def _of_batches(self, batches: tf.data.Dataset) -> Runnable:
        return plan_run(batches, self.laid.batch, self.plan)


def on_samples(name: str, laid: SizedPipeline, threads: int, weight: float = 1.0) -> Iterator[Probe]:
    """The steps of a pipeline on single samples in tf.data: a probe for the first, one for the first two, and so on."""
    samples = Samples(laid, laid.plan("tf", threads))
    parts = [part for part in samples.plan.segments[:1] if not part.batched]
    steps = parts[0].steps if parts else ()
    for count in range(1, len(steps) + 1):
        done = tuple(work for step in steps[:count] for work in work_of_step(step, laid.sizes.kinds))
        yield Probe(f"{name} {count}", done, partial(samples.through, count), without=True, weight=weight)


def batching(name: str, laid: SizedPipeline, threads: int) -> Probe:
    """Stacking samples in tf.data."""
    samples = Samples(laid, laid.plan("tf", threads))
    return Probe(name, tuple(work_of(samples.plan.steps, laid.batch, laid.sizes.kinds)), samples.batched, without=True)


def whole_batches(name: str, laid: SizedPipeline, threads: int, one_by_one: bool) -> Probe:
    """Steps on batches in tf.data."""
    samples = Samples(laid, laid.plan("tf", threads))
    steps = samples.plan.segments[0].steps
    done = [work for step in steps for work in work_of_step(step, {})]
    if one_by_one:
        done += [work for work in work_of([_elsewhere(steps[0]), *steps], laid.batch, {}) if work.what == "one by one"]
    return Probe(name, tuple(done), lambda: samples.on_whole_batches(one_by_one))


def _elsewhere(step: Step) -> Step:
    """A step of another backend before a given one, so that tf.data works on the batch's samples one by one."""
    return replace(on_backend(step, "pillow"), spec_out=step.spec_in, size_out=step.size_in)


def transfers(name: str, laid: SizedPipeline, plan: Plan) -> ProbeGroup:
    """Transfers of batches from tf.data to another backend, and back; images keep the sizes that decoding gave."""
    samples = Samples(laid, plan)
    terms = [work for work in work_of(plan.steps, laid.batch, laid.sizes.kinds) if work.what.startswith("hand over")]
    lead = plan.segments[0].steps if not plan.segments[0].traits.takes_batches else ()
    without = partial(samples.through, len(lead)) if lead else samples.alone
    return ProbeGroup(name, (Probe(name, tuple(terms), samples.transferred, without=True),), without)


def of_pipeline(laid: SizedPipeline, names: Sequence[str], threads: int, weight: float) -> Iterator[ProbeGroup]:
    """A pipeline's own steps before ``Batch``, on every backend that does them and reads the kinds of files, in runs
    as long as it does."""
    pixels = [s for s in laid.plan("tf", threads).steps if s.kind == "pixels" and not s.spec_in.batched]
    whole = all(supports("tf", step, laid.sizes.kinds) for step in pixels)
    for backend in names:
        if in_tf_data(backend):
            if not whole:
                continue
            samples = Samples(laid, laid.plan("tf", threads))
            yield ProbeGroup("yours on tf", tuple(on_samples("yours on tf", laid, threads, weight)), samples.alone)
            continue
        begin = 0
        while begin < len(pixels):
            end = begin
            while end < len(pixels) and supports(backend, pixels[end], laid.sizes.kinds):
                end += 1
            if end > begin and (whole or not begin):  # what is before it runs on tf
                name = f"yours on {backend} from {begin + 1}"
                yield ProbeGroup(name, tuple(_prefixes(name, laid, pixels, (begin, end), backend, threads, weight)))
            begin = end + 1


def _prefixes(
    name: str,
    laid: SizedPipeline,
    pixels: Sequence[Step],
    bounds: tuple[int, int],
    backend: str,
    threads: int,
    weight: float,
) -> Iterator[Probe]:
    """The first step of a run, the first two, and so on, each as one segment."""
    begin, end = bounds
    while begin < end and begin and pixels[begin].stage == pixels[begin - 1].stage and reads_params(pixels[begin]):
        begin += 1  # a stage's params follow from the images that enter it
    if begin == end:
        return
    whole = laid.plan("tf", threads)
    steps = [on_backend(step, backend) if step in pixels[begin:] else step for step in whole.steps]
    plan = replace(whole, backend=backend, steps=tuple(steps))
    first = min((step.stage for step in pixels[begin:end] if step.stage is not None), default=0)
    if begin and pixels[begin - 1].stage == first:
        first += 1
    records = laid.records()
    if begin:
        before = Segment(TF_DATA, tuple(pixels[:begin]), 0, first)
        records = replace(records, images=make_runner(plan, before, laid.batch).run(records))
    for count in range(begin + 1, end + 1):
        chosen = tuple(mirrored([on_backend(step, backend) for step in pixels[begin:count]]))
        last = max((step.stage for step in chosen if step.stage is not None), default=first)
        part = Segment(backend, chosen, first if begin else 0, last + 1)
        work = tuple(work_of_segment(chosen, 1 / laid.batch, laid.sizes.kinds))
        yield Probe(f"{name} to {count}", work, partial(segment_run, laid, part, plan, records), weight=weight)
