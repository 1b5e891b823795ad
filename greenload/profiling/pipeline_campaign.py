"""Runs the windows of a pipeline's profile: decides what runs, how often, and in what order."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.native import op
from greenload.backends.tables import in_tf_data
from greenload.energy.attribution.attribute import COUNTED_KINDS
from greenload.energy.attribution.observation import FIRST_EPOCH, IN_PLACE, WHOLE, Observation, writing_step
from greenload.energy.attribution.precision import Length, idle_windows_s, least_window_s
from greenload.energy.attribution.quantity import ISOLATION_BIAS_ON_BATCHES
from greenload.energy.domains import Domain
from greenload.energy.sampler import Sampler
from greenload.energy.settle import settle
from greenload.loading.dataset import DatasetBuilder
from greenload.loading.graph_clocks import GraphClocks
from greenload.loading.tf_graph import options
from greenload.planning.device_split import Split
from greenload.plans.order import Order
from greenload.plans.plan import Plan
from greenload.plans.steps import Step
from greenload.profiling import schedule
from greenload.profiling.campaign import BEHIND_SHARE, Campaign
from greenload.profiling.options import Options
from greenload.profiling.page_cache import ColdFiles
from greenload.profiling.replays import PipelineReplays
from greenload.profiling.runs import LayerRun, ReadWork, held_batches, no_clocks, plan_run
from greenload.profiling.schedule import AROUND_S, PREPARING_S, TRACING_S
from greenload.profiling.windows import Further, Runnable, closing, no_further_build
from greenload.system.frameworks import tf
from greenload.system.random_states import random_states_kept


class PipelineCampaign(Campaign):
    """Runs a plan's steps, and the whole plan, under meters, on a fixed set of samples.

    Args:
        plan: what to measure.
        indices: the samples, int64.
        sampler: running; reads the meters.
        options: of the profile.
        device_split: the plan's other half, where the pipeline was split for a device.
        cold: drops files from the page cache before each window that reads them; None leaves them there.
    """

    settle_s = 4.0
    """Between backends six batches may be under way, beside those held ready."""

    def __init__(
        self,
        plan: Plan,
        indices: NDArray[np.int64],
        sampler: Sampler,
        options: Options,
        device_split: Split | None = None,
        cold: ColdFiles | None = None,
    ) -> None:
        super().__init__(sampler, options, cold)
        self.plan = plan
        self.device_split = device_split
        self.steps = plan.steps + ((device_split.step,) if device_split else ())
        """What has a row: the plan's steps, and the layer on the device."""
        self.indices = indices
        self._pass = len(indices) * plan.pipeline.times  # what one pass over them gives
        self._behind: dict[str, bool] = {}
        self._can_have_clocks = not any(step.kind == "cache" for step in plan.steps) and op.usable()
        self.clocked: frozenset[str] = frozenset()
        """Steps that are measured in place, by name: known after the first windows with clocks."""
        self._precision = options.precision
        self._s_per_sample = 0.0  # wall seconds of the whole, once they are known
        self._pass_samples = 0  # in a window of the whole

    @property
    def measured_steps(self) -> Sequence[Step]:
        """The plan's steps, and the layer on the device."""
        return self.steps

    @random_states_kept()
    def measure(self, further: Further = no_further_build) -> list[Observation]:
        """All windows of the profile. The full pipeline's are spread over the steps', so that a drift meets both.

        Args:
            further: how many builds are wanted beyond the first ones.
        """
        for build, name, share in self._builds(1.0, further):
            self._tell(f"building ({name})")
            made = DatasetBuilder(self.plan, self._order)
            replays = self._replays(made)
            if self._can_have_clocks:
                self._in_place(made, replays, build, name, share)
                continue
            full = self._full(made)
            with closing({"full": full}):
                self._fill(full)
                size = self._window_samples(full, 3 * self.window_s)
                measure = partial(self._step, replays, made, build)
                self._each_step(self.steps, measure, (full, size), build, name, share)
            self._first_epoch(made, replays, build, name)
        return self.seen

    def _in_place(self, made: DatasetBuilder, replays: PipelineReplays, build: int, name: str, share: float) -> None:
        """Windows of the whole with clocks and without, then those of the steps that have none."""
        self._passes(made, build, name)
        if not build:
            told = {name for window in self.seen for name, work in window.work.items() if work.timed}
            self.clocked = frozenset(told.intersection(step.name for step in self.steps if _sees_all(step)))
            for step in self.steps:
                self._count_bytes(replays, step)
        steps = [step for step in self.steps if self.counted or step.name not in self.clocked]
        part = share / (1 + len(steps))
        self._done += part
        for step in steps:
            self._tell(f"{step.name} ({name})")
            self._step(replays, made, build, step)
            self._done += part

    def _passes(self, made: DatasetBuilder, build: int, name: str) -> None:
        """Windows of the whole, held out, once more without clocks, and with them, by turns."""
        self._tell(f"the whole, with clocks and without ({name})")
        # Each kind has a run of its own, so that all are at the same place of their epochs.
        unclocked = made.endless()  # tracing it takes as long as a window
        runs = {kind: self._run(made, unclocked) for kind in ("full", WHOLE)}
        clocked = made.clocked(GraphClocks())
        names = {step.name for step in self.steps if _sees_all(step)}
        runs[IN_PLACE] = self._run(clocked, clocked.endless(), _reading(clocked, names))
        with closing(runs):
            for run in runs.values():
                self._fill_buffers(run)
            if not self._pass_samples:
                seconds = 3 * self.window_s
                self._pass_samples = self._window_samples(runs["full"], seconds)
                self._s_per_sample = seconds / self._pass_samples
            self._pairs(runs, dict.fromkeys(runs, self._pass_samples), "", build)

    def _fill_buffers(self, run: Runnable) -> None:
        """Fill the buffers that a run's first batches wait for; it has no caches."""
        few = round(schedule.FILL_S / self._s_per_sample) if self._s_per_sample else len(self.indices)
        run.run(max(1, min(few, len(self.indices))))
        settle(self.filled_settle_s)

    @property
    def _least_builds(self) -> int:
        return schedule.least_builds(self._precision) if self._can_have_clocks else super()._least_builds

    def bounded(self, options: Options, length: Length) -> tuple[Length, str]:
        """The length that is kept to, and nothing more to announce: many short builds where steps have clocks.

        Args:
            options: of the profile.
            length: as planned.
        """
        if not self._can_have_clocks:
            return length, ""
        self._rounds = schedule.clocked_rounds(options.rounds)
        self.window_s = window_s = schedule.window_s(length, self.channels)
        replayed = sum(self.counted or not _may_have_clock(step) for step in self.steps)
        around_s = AROUND_S + least_window_s(self.channels)
        whole_s = 3 * self._rounds * (3 * window_s + around_s)
        each_s = TRACING_S + whole_s + replayed * (PREPARING_S + 2 * self._rounds * (window_s + around_s))
        each_s += idle_windows_s(self.channels)
        least, most = schedule.least_builds(options.precision), schedule.most_builds(options.precision)
        return Length(window_s, self._rounds, least, most, least * each_s, most * each_s), ""

    @property
    def counted(self) -> bool:
        """Whether a counter tells joules of CPU seconds, which only replays can share out: all steps are replayed."""
        return any(
            channel.provenance != "modelled" and Domain.parse(channel.domain).kind in COUNTED_KINDS
            for channel in self.channels.values()
        )

    @property
    def terms(self) -> dict[str, Any]:
        """What windows are attributed by, as `attribute` takes it."""
        reader = next(step.name for step in self.steps if step.kind == "read")
        return super().terms | {"reader": reader if reader in self.clocked else ""}

    def cost(self, name: str) -> float:
        """CPU seconds per sample of a step already seen, roughly.

        Raises:
            KeyError: it has no windows.
        """
        if name not in self.clocked:
            return super().cost(name)
        windows = [window for window in self.seen if window.work]
        return sum(window.work[name].total_cpu_s or 0.0 for window in windows) / sum(w.samples for w in windows)

    def _first_epoch(self, made: DatasetBuilder, replays: PipelineReplays, build: int, name: str) -> None:
        """Windows of the pass that fills the caches: the writing of each, and the whole; they are emptied before."""
        caches = [step for step in self.plan.steps if step.kind == "cache"]
        samples = self._pass
        rounds = self._rounds if self._planned else 2  # each is a pass over all samples
        for step in caches:
            self._tell(f"{step.name} filled ({name})")
            passing = self.plan.steps[self.plan.steps.index(step) - 1]
            runs: dict[str, Runnable] = {
                kind: replays.prefix(last, samples) for kind, last in (("with", step), ("without", passing))
            }
            with closing(runs):
                for run in runs.values():
                    self._fill(run)
                for k in range(rounds):
                    for kind in self._random.sample(list(runs), 2):
                        made.stream.empty_caches()
                        self._window(runs[kind], samples, writing_step(step.name), kind, k, build)
        if not caches:
            return
        self._tell(f"{FIRST_EPOCH} ({name})")
        whole = self._full(made, samples)
        with closing({"with": whole}):
            self._fill(whole)
            for k in range(rounds):
                made.stream.empty_caches()
                self._window(whole, samples, FIRST_EPOCH, "with", k, build)

    def _replays(self, made: DatasetBuilder) -> PipelineReplays:
        return PipelineReplays(made.stream, made.endless_roots, len(self.indices), made.endless_batches)

    @property
    def isolation_bias(self) -> Mapping[str, float]:
        """By step, how far its replay may be off for running alone: that of steps on batches of other backends."""
        crossing = any(segment.traits.takes_batches for segment in self.plan.segments)
        return {
            step.name: ISOLATION_BIAS_ON_BATCHES
            for step in self.steps
            if (step.kind == "pixels" and step.traits.takes_batches) or (step.kind == "batch" and crossing)
        }

    @random_states_kept()
    def trial(self, name: str, changed: Plan) -> None:
        """Adjacent windows of the pipeline as it is ("with") and of a changed one ("without").

        On several builds of both, as builds of one pipeline differ too; the rounds are shared among them.
        """
        order = replace(self._order, pipeline=changed.pipeline)

        def make() -> dict[str, Runnable]:
            return {
                "with": self._full(DatasetBuilder(self.plan, self._order)),
                "without": self._full(DatasetBuilder(changed, order)),
            }

        def fill(kind: str, run: Runnable) -> None:
            self._fill_caches(run)

        def size(run: Runnable) -> int:
            return self._window_samples(run, max(self.window_s, schedule.TRIAL_WINDOW_S), self._s_per_sample)

        self._trial(name, make, fill, size, rounds=schedule.TRIAL_ROUNDS)

    @property
    def _order(self) -> Order:
        return Order(self.plan.pipeline, self.indices, endless=True)

    def _full(self, made: DatasetBuilder, whole: int = 0) -> Runnable:
        return self._run(made, made.endless(), whole=whole)

    def _run(
        self, made: DatasetBuilder, dataset: tf.data.Dataset, read: ReadWork = no_clocks, whole: int = 0
    ) -> Runnable:
        batch = made.plan.pipeline.batch
        if self.device_split:
            return LayerRun(dataset.with_options(options(made.plan)), self.device_split.layer, read)
        return plan_run(dataset, batch.size if batch else 1, made.plan, whole=whole, read_work=read)

    def _device_pair(self, made: DatasetBuilder) -> tuple[Runnable, Runnable]:
        """Held batches with the layer, their transfer to its device included, and without."""
        assert self.device_split is not None
        batches = held_batches(made.endless().with_options(options(self.plan)), len(self.indices))
        return LayerRun(batches(), self.device_split.layer), LayerRun(batches(), None)

    def _step(self, replays: PipelineReplays, made: DatasetBuilder, build: int, step: Step) -> None:
        if step.kind == "device":
            self._replay(step, self._device_pair(made), build)
        elif step.kind in ("read", "cache"):
            self._prefixes(replays, step, build)
        else:
            self._replay(step, self._pair(replays, step), build)

    def _prefixes(self, replays: PipelineReplays, step: Step, build: int) -> None:
        """Windows of the pipeline up to a step; for a cache also up to the step before, in adjacent windows."""
        index = self.plan.steps.index(step)
        wanted = [self.plan.steps[index - 1], step] if step.kind == "cache" else [step]
        runs: dict[str, Runnable] = {last.name: replays.prefix(last) for last in wanted}
        with closing(runs):
            sizes = {}
            for name, run in runs.items():
                self._fill_caches(run)
                sizes[name] = self._window_samples(run, self.window_s)
            for k in range(self._rounds):
                for name in self._random.sample(list(runs), len(runs)):
                    self._window(runs[name], sizes[name], name, "prefix", k, build)

    def _replay(self, step: Step, pair: tuple[Runnable, Runnable], build: int) -> None:
        runs = dict(zip(("with", "without"), pair, strict=True))
        with closing(runs):
            for run in pair:
                self._fill(run)
            size = self._window_samples(runs["with"], self.window_s)
            self._pairs(runs, dict.fromkeys(runs, size), step.name, build)

    def _pair(self, replays: PipelineReplays, step: Step) -> tuple[Runnable, Runnable]:
        """A step's runs with and without it."""
        self._count_bytes(replays, step)
        if step.kind == "pixels" and not replays.on_samples(step):
            return replays.on_batches(step)
        before = replays.before(step)
        if step.kind == "batch":
            return replays.batching(step)
        if before.kind != "cache" and before.serves == step.serves and self._goes_behind(replays, before, step):
            return replays.behind(before, step)
        return replays.alone(step)

    def _count_bytes(self, replays: PipelineReplays, step: Step) -> None:
        """The bytes that leave the step before one, once."""
        if step.kind == "pixels" and not replays.on_samples(step):
            self._count_crossing(replays, step)
        elif step.kind in ("pixels", "batch"):
            before = replays.before(step)
            if before.name not in self.bytes_out:
                self.bytes_out[before.name] = replays.bytes_in(step)

    def _count_crossing(self, replays: PipelineReplays, step: Step) -> None:
        """The bytes that leave the step before one, where both are on backends that take batches, but not the same."""
        for before, segment in itertools.pairwise(self.plan.segments):
            if step is segment.steps[0] and segment.traits.takes_batches and before.batched:
                images = [image for part in replays.entering(segment) for image in part.images]
                self.bytes_out[before.steps[-1].name] = float(np.mean([np.asarray(image).nbytes for image in images]))

    def _goes_behind(self, replays: PipelineReplays, before: Step, step: Step) -> bool:
        """Whether a step is so large beside the one before it that both can run without hiding it in their noise."""
        if step.name not in self._behind:
            runs = dict(zip(("with", "without"), replays.alone(step), strict=True))
            own_s = self._rough_cost(runs, self._fill, len(self.indices))
            self._behind[step.name] = own_s >= BEHIND_SHARE * self.cost(before.name)
        return self._behind[step.name]

    def _reads_at_most(self, step: str, kind: str) -> int:
        # By kind, as a step on pixels before a cache has a prefix, which reads, beside its replay, which doesn't.
        reads = kind in ("full", WHOLE, IN_PLACE, "prefix") or step not in {row.name for row in self.steps}
        return len(self.indices) if reads else 0

    def _fill(self, run: Runnable) -> None:
        """One pass over the samples: fills captures and buffers, and settles."""
        run.run(self._pass)
        settle(self.filled_settle_s)

    def _fill_caches(self, run: Runnable) -> None:
        """A pass that fills its caches, and one that reads them: it is measured warm."""
        self._fill(run)
        self._fill(run)


def _sees_all(step: Step) -> bool:
    """Whether a clock of the step sees all that it does: TensorFlow has other threads do parts of steps on pixels."""
    return step.kind != "pixels" or not in_tf_data(step.backend)


def _may_have_clock(step: Step) -> bool:
    """Whether a step is probably measured in place: not where batches queue up for several steps at once."""
    traits = step.traits
    return step.kind == "read" or (step.kind == "pixels" and traits.takes_batches and not traits.queues_batches)


def _reading(made: DatasetBuilder, names: Collection[str]) -> ReadWork:
    """Reads the clocks of steps of a dataset that was made with clocks.

    Args:
        made: what made it.
        names: of the steps. What several do together isn't any of these.
    """
    clocks = [clock for clock in made.stream.step_clocks if clock.name in names]
    return lambda: {clock.name: clock.read() for clock in clocks}
