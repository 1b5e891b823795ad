"""Runs the windows of a dataset's profile: each step with and without its work, the whole, and trials of changes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from greenload.energy.attribution.observation import FIRST_EPOCH, ITERATOR_START, writing_step
from greenload.energy.sampler import Sampler
from greenload.energy.settle import settle
from greenload.errors import SourceError, UsageError
from greenload.machine import processors
from greenload.profiling import schedule
from greenload.profiling.campaign import BEHIND_SHARE, Campaign
from greenload.profiling.options import Options
from greenload.profiling.page_cache import ColdFiles
from greenload.profiling.runs import DatasetRun
from greenload.profiling.schedule import AROUND_S, PREPARING_S
from greenload.profiling.tfdata.bounds import EPOCHS, REFILL_S, SHORTEST_S, Bounds
from greenload.profiling.tfdata.caches import Stores, on_disk
from greenload.profiling.tfdata.counting import Counts
from greenload.profiling.tfdata.epochs import STARTS_S, Epochs, FirstEpochs, cpu_s_of, may_start_anew, started_anew
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.guard import tf_error_line
from greenload.profiling.tfdata.rebuild import Builder
from greenload.profiling.tfdata.replays import DatasetReplays, whole_options
from greenload.profiling.tfdata.walk import walk
from greenload.profiling.windows import LEAST_ROUNDS, Further, Runnable, closing, no_further_build
from greenload.system.frameworks import tf

_BEHIND_ALL_SHARE = 0.1  # from this share of all before it, a step is measured behind it all, where that is cheap
_THREAD_SWITCH_S = 2e-4  # CPU seconds an element below which passing it from thread to thread (0.03 ms) is no trifle
_STARTS_SHARE = 0.005  # of an epoch's CPU seconds, that making its iterator takes where the start may be felt
_PROBES = 3  # epochs that are looked at before starts are measured
LATE = 0.1
"""Of a build's time, by which a step may end late and still has all its rounds."""


class DatasetCampaign(Campaign):
    """Runs a dataset's nodes, and the whole dataset, under meters.

    Args:
        root: the dataset.
        counts: what flows through it.
        scratch: a folder for what caches write.
        told: called whenever elements have passed.
        sampler: running; reads the meters.
        options: of the profile; ``threads`` stands for AUTOTUNE in the steps' windows, all processors if None.
        cold: drops files from the page cache before each window that reads them; None leaves them there.
    """

    settle_s = filled_settle_s = 5.0  # a user's buffers may be large

    def __init__(
        self,
        root: Node,
        counts: Counts,
        scratch: str,
        told: Callable[[], None],
        sampler: Sampler,
        options: Options,
        cold: ColdFiles | None = None,
    ) -> None:
        super().__init__(sampler, options, cold)
        self.root = root
        self.counts = counts
        self.rows = [node for node in root.nodes() if not node.hidden]
        """The nodes that have a row."""
        self.methods: dict[str, str] = {}
        """How each step was measured."""
        self.failed: dict[str, str] = {}
        """Steps that could not be measured, and why."""
        self.clocked: frozenset[str] = frozenset()
        """Steps that are measured in place, by the clocks around their functions."""
        self.parallel = options.threads or processors()
        """What stands for AUTOTUNE in the steps' windows."""
        self.builder = Builder(scratch, self.parallel)
        """Makes copies that run as the user wrote them, except AUTOTUNE: a number that changes while it runs moves
        work from one window to another."""
        self.stores = Stores.of(root, counts.unfilled)
        """The dataset's caches."""
        self.replays = DatasetReplays(root, counts, self.builder, options.samples, told)
        self._first = FirstEpochs(root, counts, scratch, self.parallel, self.replays, told)
        self._told = told
        self._precision = options.precision
        self._contexts: dict[str, str] = {}
        self._begun_s, self._deadline_s, self._late_s, self._tried = 0.0, math.inf, math.inf, False
        self.bounds: Bounds | None = None
        """What it keeps to."""
        self.hurried = False
        """Whether rounds were left out, so that it ends in time."""
        self.failed |= self.replays.unreached(self.rows)
        for node, flow in counts.flows.items():
            self.bytes_out[node.name] = flow.bytes_per_element * flow.elements_per_sample

    @property
    def measured_steps(self) -> Sequence[Node]:
        """The nodes with a row that could be measured.

        Raises:
            UsageError: there is none.
        """
        measured = [node for node in self.rows if node.name not in self.failed]
        if not measured:
            raise UsageError(f"no step of the dataset could be measured: {'; '.join(self.failed.values())}")
        return measured

    @property
    def isolation_bias(self) -> Mapping[str, float]:
        """By step, how far its replay may be off for running alone: nothing where it is measured by prefixes."""
        return {name: 0.0 for name, method in self.methods.items() if method == "prefix"}

    def keep_within(self, bounds: Bounds) -> None:
        """Keep to what was announced."""
        self.bounds, self._rounds, self.replays.samples = bounds, bounds.rounds, bounds.samples

    def measure(self, share: float, further: Further = no_further_build) -> None:
        """All windows of the steps and the whole.

        Args:
            share: of the progress, that this takes.
            further: how many builds are wanted beyond the first ones.
        """
        self._begun_s = time.monotonic()
        for build, name, part in self._builds(share, further):
            self._tell(f"building ({name})")
            self._build(build, name, part)
            self.replays.forget()
        self._late_s = math.inf
        ends_s = min(time.monotonic(), self._due_s(self._least_builds - 1, 1.0, math.inf, late=LATE))
        self._deadline_s = ends_s + (0.0 if self.bounds is None else self.bounds.trying_s)

    def _build(self, build: int, name: str, share: float) -> None:
        """The windows of one build."""
        full = self.replays.full()
        with closing({"full": full}):
            self._fill(full, whole=True)
            if self.stores:
                self._regroup(full, self.counts.epoch_elements)
            size = self._sized(full, 3 * self.window_s)
            self._each_step(self.rows, partial(self._step, build), (full, size), build, name, share)
        self._first_epoch(build, name)
        self._starts(build, name)

    def _step(self, build: int, node: Node) -> None:
        """Windows of one step, as long as there is time for them."""
        steps, position = len(self.rows), self.rows.index(node)
        left = (self._due_s(build, 1.0) - time.monotonic()) / (steps - position)
        self._late_s = self._due_s(build, (position + 1) / steps, late=LATE)
        if node.name not in self.failed:
            self._measure(node, self._seconds(left), build)

    def _due_s(self, build: int, steps: float, parts: float = 0, late: float = 0.0) -> float:
        """When so much of a build is due, or ``late`` by this share of a build; as in `Bounds.due_s`."""
        if self._planned or self.bounds is None:
            return math.inf
        return self._begun_s + self.bounds.due_s(build, steps, parts) + late * self.bounds.build_s

    def _first_epoch(self, build: int, name: str) -> None:
        """Windows of the epoch that fills the caches: the writing of each, then the whole."""
        for position, node in enumerate(self.stores.empty):
            if node.name in self.failed:
                continue
            self._tell(f"{node.name} filled ({name})")
            self._late_s = self._due_s(build, 1.0, position + 1, late=LATE)
            elements = self._first.writing_elements(node, self._window_or_less_s)
            for k in range(self._further_rounds):
                if k >= LEAST_ROUNDS and self._late():
                    break
                for kind in self._random.sample(("with", "without"), 2):
                    run = self._first.writing(node, elements, kind)
                    with closing({kind: run}):
                        self._window(run, 0, writing_step(node.name), kind, k, build)
        if not self.stores.empty:
            return
        self._tell(f"{FIRST_EPOCH} ({name})")
        self._late_s = self._due_s(build, 1.0, len(self.stores.empty) + 1, late=LATE)
        for k in range(self._further_rounds):
            if k >= LEAST_ROUNDS and self._late():
                return
            try:
                whole = self._first.whole()
            except tf.errors.OpError:  # of the part that is run no branch may be left
                return
            if whole is None:
                return
            with closing({"with": whole}):
                self._window(whole, 0, FIRST_EPOCH, "with", k, build)
            self._clocked_first(k, build)

    def _clocked_first(self, k: int, build: int) -> None:
        """A window of a first epoch with clocks, where there are any."""

    def _starts(self, build: int, name: str) -> None:
        """Windows of epochs by iterators of their own, and of as many without an end, where a start may be felt."""
        if not may_start_anew(self.counts, self.stores):
            return
        options = whole_options(self.root.dataset.options())
        anew, dataset, group = started_anew(self.replays.copy(self.root).with_options(options), self.counts, self._told)
        self._late_s = self._due_s(build, 1.0, math.inf, late=LATE)
        with closing({"with": anew}):
            self._tell(f"{ITERATOR_START} ({name})")
            epoch = round(self._epoch())
            if any(map(on_disk, self.stores.empty)):  # only the first one fills the caches
                anew.run(epoch)
            if not self._may_be_felt(anew, dataset, epoch):
                return
            steady = DatasetRun(dataset.repeat(), self.counts.samples_per_element, group, self._told)
            runs: Mapping[str, Runnable] = {"with": anew, "without": steady}
            with closing({"without": steady}):
                steady.run(epoch)
                samples = epoch * max(1, round(self._window_samples(anew, self._window_or_less_s) / epoch))
                self._pairs(runs, dict.fromkeys(runs, samples), ITERATOR_START, build, self._further_rounds)

    def _may_be_felt(self, anew: Epochs, dataset: tf.data.Dataset, epoch: int) -> bool:
        """Whether epochs are short enough to feel a start: in one of three, since each may be disturbed."""
        start_cpu = min(cpu_s_of(partial(iter, dataset)) for _ in range(_PROBES))
        wall = math.inf
        for _ in range(_PROBES):
            start = time.perf_counter()
            cpu = cpu_s_of(partial(anew.run, epoch))
            wall = min(wall, time.perf_counter() - start)
            # Epochs behind a cache are a start for the most part.
            if wall > 2 * STARTS_S or (not self.stores and start_cpu < _STARTS_SHARE * cpu):
                return False
            if wall <= STARTS_S:
                return True
        return False

    def _regroup(self, run: DatasetRun, epoch: int | None = None) -> None:
        """Make seeing elements in Python cheap again beside them, now that caches are filled."""
        if self.counts.bounded:  # each group draws from a generator
            return
        start = time.perf_counter()
        passed = run.run(self.one_pass())
        run.regroup((time.perf_counter() - start) / passed, epoch)

    @property
    def _further_rounds(self) -> int:
        return self._rounds if self.bounds is None else self.bounds.further_rounds

    @property
    def _window_or_less_s(self) -> float:
        """The length of a window, as it was planned for steps."""
        return self.window_s if self.bounds is None else self.bounds.window_s

    def _seconds(self, left_s: float) -> float:
        """The length of a step's windows, of what is left for it and its share of the whole's windows."""
        if math.isinf(left_s) or self.bounds is None:
            return self.window_s
        whole_s = 2 * self._rounds / max(1, len(self.rows)) * (self.bounds.whole_s + AROUND_S)
        each_s = (left_s - whole_s - PREPARING_S) / (2 * self._rounds) - AROUND_S
        return min(self.window_s, max(SHORTEST_S, each_s))

    def _late(self) -> bool:
        late = time.monotonic() > self._late_s
        self.hurried |= late
        return late

    def in_time(self) -> bool:
        """Whether there is time for another trial: always for the first."""
        return self.bounds is None or not self._tried or time.monotonic() + self.bounds.trial_s <= self._deadline_s

    def trial(self, name: str, make: Callable[[], tf.data.Dataset], share: float) -> None:
        """Adjacent windows of the whole as it is and of what ``make`` gives in its place.

        Args:
            name: of the windows.
            make: builds the changed dataset, of the same batches.
            share: of the progress, that this takes.
        """
        self._tried = True
        whole = {"with": bool(self.stores)}  # without a cache there are only buffers to fill

        def runs() -> dict[str, DatasetRun]:
            self.replays.forget()  # each build captures and fills anew
            changed = make()
            whole["without"] = bool(Stores.of(walk(changed)))
            return {"with": self.replays.full(), "without": self.replays.whole(changed)}

        def fill(kind: str, run: DatasetRun) -> None:
            self._fill(run, whole=whole[kind])

        rounds = max(self._rounds, schedule.TRIAL_ROUNDS)
        self._trial(name, runs, fill, lambda run: self._sized(run, 2 * self.window_s), rounds=rounds, share=share)
        self.replays.forget()

    def _measure(self, node: Node, seconds: float, build: int) -> None:
        try:
            pair = self.replays.pair(node, self._context(node))
            self.methods[node.name] = pair.method
            with closing(pair.runs()):
                for run in pair.runs().values():
                    self._fill(
                        run, whole=pair.method == "prefix" and any(source in self.stores for source in node.nodes())
                    )
                    if pair.method == "prefix" and self.stores:
                        self._regroup(run)
                if pair.method == "prefix":  # before a cache, samples cost far more than behind it
                    sizes = {
                        kind: self._capped(run, self._window_samples(run, seconds)) for kind, run in pair.runs().items()
                    }
                else:
                    sizes = dict.fromkeys(pair.runs(), self._window_samples(pair.present, seconds))
                self._pairs(pair.runs(), sizes, node.name, build)
        except tf.errors.OpError as error:  # alone only: as part of the whole it ran
            self._failed(node, f"does not run alone: {tf_error_line(error)}")
        except SourceError:
            self._failed(node, "gave no element when it was run alone")

    def _failed(self, node: Node, why: str) -> None:
        self.failed[node.name] = why

    def _context(self, node: Node) -> str:
        """What a step is measured behind: nothing (``"alone"``), the step before it, or all before it (``"all"``).

        Alone, steps that are large beside those before them come out wrong: where work is large some per cent too
        cheap, since nothing else disturbs the processor's caches; where it is small too dear, since threads that hand
        over single elements wake each other less in a longer chain. So such a step runs behind them in both windows,
        where that doesn't hide it in their noise.
        """
        before = self.replays.step_before(node)
        if node.kind not in ("map", "filter"):
            behind = [store for store in node.nodes() if store in self.stores and store is not node]
            filled = not any(map(on_disk, behind)) or self._epoch() * self.counts.s_per_sample <= REFILL_S
            return "all" if behind and filled and self._upstream(node) < _THREAD_SWITCH_S else "alone"
        if node.name not in self._contexts:
            pair = self.replays.pair(node)
            context = "alone"
            if pair.method == "replay":
                own = self._rough_cost(pair.runs(), self._fill, self.one_pass())
                all_s = self._upstream(node)
                per_element = all_s / max(1e-9, self.counts.flows[node].elements_per_sample)
                if per_element < _THREAD_SWITCH_S and own >= _BEHIND_ALL_SHARE * all_s:
                    context = "all"
                elif node.kind == "map" and before is not None and self._has_windows(before):
                    context = "before" if own >= BEHIND_SHARE * self.cost(before.name) else "alone"
            self._contexts[node.name] = context
        return self._contexts[node.name]

    def _upstream(self, node: Node) -> float:
        """CPU seconds per sample of the steps before a node, roughly; a cache stands for all before it."""
        before = self.replays.before(node)
        if before is None:
            return 0.0
        own = self._own_cost(before)
        if before in self.stores:
            return own
        rest = [before.looked[-1]] if before.looked else before.inputs
        return own + sum(self._upto(last) for last in rest)

    def _upto(self, node: Node) -> float:
        return self._own_cost(node) + (0.0 if node in self.stores else self._upstream(node))

    def _own_cost(self, node: Node) -> float:
        """CPU seconds per sample of a node, roughly; 0 of one without windows: free, or it didn't run alone."""
        return self.cost(node.name) if node.name in self.clocked or self._has_windows(node) else 0.0

    def _has_windows(self, node: Node) -> bool:
        """Whether a node has windows of both kinds: not one that isn't measured, or failed before it had them."""
        return {"with", "without"} <= {window.kind for window in self.seen if window.step == node.name}

    def one_pass(self) -> int:
        """Samples in one pass over what is captured."""
        return min(self.counts.samples, self.replays.samples)

    def _reads_at_most(self, step: str, kind: str) -> int:
        return 0 if self.methods.get(step) == "replay" else max(1, round(self._epoch() or self.counts.samples))

    def _fill(self, run: DatasetRun, whole: bool = False) -> None:
        """One pass over what is captured, or of the ``whole`` dataset: fills captures, caches, buffers, and settles."""
        samples = self._epoch() if whole and self._epoch() else self.one_pass()
        # Past the end, where a cache knows that it is full; but no further than a generator may be drawn from.
        run.run(self._capped(run, round(1.05 * samples) + 1))
        settle(self.filled_settle_s)

    def _capped(self, run: DatasetRun, samples: int) -> int:
        """So many samples, but no more than a pass may take from a generator without a known end."""
        if not self.counts.bounded or self.bounds is None:
            return samples
        steps = max(1, int(min(samples, self.bounds.pass_samples) / run.samples_per_next + 1e-9))
        return max(1, int(steps * run.samples_per_next))

    def _sized(self, run: DatasetRun, seconds: float) -> int:
        """Samples of a window of the whole."""
        return self._capped(run, self._whole_epochs(self._window_samples(run, seconds, self.counts.s_per_sample)))

    def _epoch(self) -> float:
        """Samples in an epoch, as far as that was counted; else 0."""
        return (self.counts.epoch_elements or 0) * self.counts.samples_per_element

    def _whole_epochs(self, samples: int) -> int:
        """The size of a window in whole epochs where one isn't far longer: epochs begin with buffers to be filled."""
        epoch = self._epoch()
        if not epoch or samples < EPOCHS * epoch:
            return samples
        return round(max(1, round(samples / epoch)) * epoch)
