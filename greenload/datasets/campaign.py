"""The windows of a dataset's profile: steps with and without, the whole in between, and trials of changes to it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from greenload.cold import Cold
from greenload.datasets.counting import Counts
from greenload.datasets.epochs import FIRST_S, FirstEpochs, started_anew
from greenload.datasets.graph import STORES, Node
from greenload.datasets.rebuild import Builder
from greenload.datasets.replays import Pair, Replays
from greenload.datasets.running import said
from greenload.datasets.runs import Run, whole_options
from greenload.datasets.stores import Stores
from greenload.energy.epochs import FIRST_EPOCH, ITERATOR_START, writing
from greenload.energy.sampler import Sampler
from greenload.energy.settle import settle
from greenload.windowing import BUILDS, Further, Progress, Runnable, Windows, closing, enough

if TYPE_CHECKING:
    import tensorflow as tf

MEASURING_S = 50.0
"""Wall seconds that all windows but the trials' aim at, where no precision is wanted: with many steps, or on a busy
machine, each is shorter."""
TRYING_S = 15.0
"""Wall seconds after `MEASURING_S` until which another trial may begin."""
_SHORTEST_S, _AROUND_S = 0.03, 0.06  # the shortest window, and what settling takes around each
_PREPARING_S = 1.0  # what building a step's runs and filling them takes
_CONTEXT = 0.25  # from this share of the step before it, a step is replayed behind that one
_CONTEXT_CHEAP = 0.1  # from this share of all before it, a step is measured behind it all, where that is cheap
_HANDOVER_S = 2e-4  # CPU seconds an element below which handing it from thread to thread (0.03 ms) is no trifle
_STARTS_S = 2.0  # wall seconds of the longest epoch whose start can be felt
_STARTS_SHARE = 0.005  # of an epoch's CPU seconds, that making its iterator takes where the start may be felt
_EPOCHS = 0.3  # epochs in a window from which it is made to hold whole ones


class DatasetCampaign(Windows):
    """Runs a dataset's nodes and the whole of it under meters.

    Args:
        root: the dataset.
        counts: what flows through it.
        scratch: a folder for what caches write.
        parallel: what stands for AUTOTUNE in the steps' windows.
        samples: different samples to capture, at most.
        told: called whenever elements have passed.
        sampler: as for `Windows`, like the others.
    """

    settle_s = 5.0  # a user's buffers may be large

    def __init__(
        self,
        root: Node,
        counts: Counts,
        scratch: str,
        parallel: int,
        samples: int,
        told: Callable[[], None],
        sampler: Sampler,
        rounds: int,
        seed: int,
        progress: Progress,
        cold: Cold | None = None,
    ) -> None:
        super().__init__(sampler, rounds, seed, progress, cold=cold)
        self.root = root
        self.counts = counts
        self.rows = [node for node in root.nodes() if not node.hidden]
        """The nodes that have a row."""
        self.methods: dict[str, str] = {}
        """How each step was measured."""
        self.failed: dict[str, str] = {}
        """Steps that could not be measured, and why."""
        self.builder = Builder(scratch, parallel)
        """Makes copies that run as the user wrote them, but for AUTOTUNE: a number that changes while it runs moves
        work from one window to another."""
        self.replays = Replays(root, counts, self.builder, samples, told)
        self.stores = Stores.of(root)
        """The dataset's caches."""
        self._first = FirstEpochs(root, counts, scratch, parallel, self.replays, told)
        self._told = told
        self._contexts: dict[str, str] = {}
        self._deadline_s = math.inf
        for node, flow in counts.flows.items():
            self.bytes_out[node.name] = flow.bytes_per_element * flow.elements_per_sample

    def measure(self, share: float, further: Further = enough) -> None:
        """All windows of the steps and the whole.

        Args:
            share: of the progress, that this takes.
            further: how many builds are wanted beyond the first ones.
        """
        more = 1 + len(self.stores.empty) + bool(self.stores.empty)  # what a start takes, writing, and first epochs
        places, begun = max(1, len(self.rows)), time.monotonic()
        for build, name, part in self._builds(share, further):
            deadline = math.inf if self._planned else time.monotonic() + MEASURING_S / BUILDS
            self._tell(f"building ({name})")
            full = self.replays.full()
            with closing({"full": full}):
                self._fill(full, whole=True)
                if self.stores:
                    self._regroup(full, self.counts.epoch_elements)
                size = self._whole_epochs(self._window_samples(full, 3 * self.window_s))
                for position, node in enumerate(self.rows):
                    self._tell(f"{node.name} ({name})")
                    left = (deadline - time.monotonic()) / (places + more - position)
                    if node.name not in self.failed:
                        self._step(node, self._seconds(left), build)
                    self._tell(f"the whole ({name})")
                    before, due = (place * 2 * self._rounds // places for place in (position, position + 1))
                    for k in range(before, due):
                        self._window(full, size, "", "full", k, build)
                    self._done += part / places
            self._first_epoch(build, name, deadline)
            self._starts(build, name)
            self.replays.forget()
        self._deadline_s = max(begun + MEASURING_S, time.monotonic()) + TRYING_S

    def _first_epoch(self, build: int, name: str, deadline: float) -> None:
        """Windows of the epoch that fills the caches: the writing of each, then the whole."""
        import tensorflow as tf

        for position, node in enumerate(self.stores.empty):
            if node.name in self.failed:
                continue
            self._tell(f"{node.name} filled ({name})")
            left = (deadline - time.monotonic()) / (1 + len(self.stores.empty) - position)
            elements = self._first.writing_elements(node, self._seconds(left))
            for k in range(self._rounds):
                for kind in self._random.sample(("with", "without"), 2):
                    runs = self._first.writing(node, elements)
                    with closing(runs):
                        self._window(runs[kind], 0, writing(node.name), kind, k, build)
        if not self.stores.empty:
            return
        self._tell(f"{FIRST_EPOCH} ({name})")
        rounds = self._rounds if self._planned else int((deadline - time.monotonic()) / (FIRST_S + _PREPARING_S))
        for k in range(max(2, min(self._rounds, rounds))):
            try:
                run = self._first.whole()
            except tf.errors.OpError:  # of the part that is run no branch may be left
                return
            if run is None:
                return
            with closing({"with": run}):
                self._window(run, 0, FIRST_EPOCH, "with", k, build)

    def _starts(self, build: int, name: str) -> None:
        """Windows of epochs by iterators of their own, and of as many without an end, where a start may be felt."""
        found = started_anew(
            self.root, self.counts, self.builder, whole_options(self.root.dataset.options()), self._told
        )
        if found is None:
            return
        anew, dataset, group = found
        with closing({"with": anew}):
            self._tell(f"{ITERATOR_START} ({name})")
            epoch, wall = round(self._epoch()), time.perf_counter()
            anew.run(epoch)
            if self.stores:  # only the first one filled the caches
                wall = time.perf_counter()
                anew.run(epoch)
            wall, cpu = time.perf_counter() - wall, time.process_time()
            iter(dataset)
            cpu = time.process_time() - cpu
            if wall > _STARTS_S or cpu < _STARTS_SHARE * wall:
                return
            steady = Run(dataset.repeat(), self.counts.samples_per_element, group, self._told)
            runs: Mapping[str, Runnable] = {"with": anew, "without": steady}
            with closing({"without": steady}):
                steady.run(epoch)
                samples = epoch * max(1, round(self._window_samples(anew, self.window_s) / epoch))
                self._pairs(runs, dict.fromkeys(runs, samples), ITERATOR_START, build)

    def _regroup(self, run: Run, epoch: int | None = None) -> None:
        """Make seeing elements in Python cheap again beside them, now that caches are filled."""
        start = time.perf_counter()
        passed = run.run(self.one_pass())
        run.regroup((time.perf_counter() - start) / passed, epoch)

    def _seconds(self, left_s: float) -> float:
        """The length of a step's windows, of what is left for it and its share of the whole's windows."""
        whole = 2 * self._rounds / max(1, len(self.rows)) * (3 * self.window_s + _AROUND_S)
        each = (left_s - whole - _PREPARING_S) / (2 * self._rounds) - _AROUND_S
        return min(self.window_s, max(_SHORTEST_S, each))

    def in_time(self) -> bool:
        """Whether there is time for another trial."""
        return time.monotonic() < self._deadline_s

    def trial(self, name: str, make: Callable[[], tf.data.Dataset], share: float) -> None:
        """Adjacent windows of the whole as it is and of what ``make`` gives in its place.

        Args:
            name: of the windows.
            make: builds the changed dataset, of the same batches.
            share: of the progress, that this takes.
        """
        for build in range(BUILDS):
            self._tell(f"trying: {name} (build {build + 1} of {BUILDS})")
            runs: Mapping[str, Run] = {"with": self.replays.full(), "without": self.replays.whole(make())}
            with closing(runs):
                for run in runs.values():
                    self._fill(run, whole=True)
                sizes = {
                    kind: self._whole_epochs(self._window_samples(run, 2 * self.window_s)) for kind, run in runs.items()
                }
                self._pairs(runs, sizes, name, build)
            self._done += share / BUILDS

    def cost(self, name: str) -> float:
        """CPU seconds per sample of a step already seen, roughly."""
        mean = {}
        for kind in ("with", "without"):
            windows = [one for one in self.seen if one.step == name and one.kind == kind]
            mean[kind] = sum(one.cpu_s for one in windows) / max(1, sum(one.samples for one in windows))
        return mean["with"] - mean["without"]

    def _step(self, node: Node, seconds: float, build: int) -> None:
        import tensorflow as tf

        try:
            pair = self.replays.pair(node, self._context(node))
            self.methods[node.name] = pair.method
            with closing(pair.runs()):
                for run in pair.runs().values():
                    self._fill(run, whole=node.kind in STORES)
                    if pair.method == "prefix" and self.stores:
                        self._regroup(run)
                sizes = dict.fromkeys(pair.runs(), self._window_samples(pair.present, seconds))
                if pair.method == "prefix":  # before a cache, samples cost far more than behind it
                    sizes["without"] = self._window_samples(pair.absent, seconds)
                self._pairs(pair.runs(), sizes, node.name, build)
        except tf.errors.OpError as error:  # alone only: as part of the whole it ran
            self.failed[node.name] = f"does not run alone: {said(error)}"

    def _context(self, node: Node) -> str:
        """What a step is measured behind: nothing (``"alone"``), the step before it, or all before it (``"all"``).

        Alone, steps that are large beside those before them come out wrong: where work is large some per cent too
        cheap, since nothing else disturbs the processor's caches; where it is small too dear, since threads that hand
        over single elements wake each other less in a longer chain. So such a step runs behind them in both windows,
        where that doesn't hide it in their noise.
        """
        before = self.replays.step_before(node)
        if node.kind not in ("map", "filter"):
            behind = any(one.kind in STORES for one in node.nodes() if one is not node)
            return "all" if behind and self._upstream(node) < _HANDOVER_S else "alone"
        if node.name not in self._contexts:
            pair = self.replays.pair(node)
            found = "alone"
            if pair.method == "replay":
                own, all_s = self._roughly(pair), self._upstream(node)
                per_element = all_s / max(1e-9, self.counts.flows[node].elements_per_sample)
                if per_element < _HANDOVER_S and own >= _CONTEXT_CHEAP * all_s:
                    found = "all"
                elif node.kind == "map" and before is not None and before.name in self.methods:
                    found = "before" if own >= _CONTEXT * self.cost(before.name) else "alone"
            self._contexts[node.name] = found
        return self._contexts[node.name]

    def _upstream(self, node: Node) -> float:
        """CPU seconds per sample of the steps before a node, roughly; a cache stands for all before it."""
        before = self.replays.before(node)
        if before is None:
            return 0.0
        own = self.cost(before.name) if before.name in self.methods else 0.0
        if before.kind in STORES:
            return own
        rest = [before.looked[-1]] if before.looked else before.inputs
        return own + sum(self._upto(one) for one in rest)

    def _upto(self, node: Node) -> float:
        return (self.cost(node.name) if node.name in self.methods else 0.0) + (
            0.0 if node.kind in STORES else self._upstream(node)
        )

    def _roughly(self, pair: Pair) -> float:
        """CPU seconds per sample, from one pass with and one without."""
        cost: dict[str, float] = {}
        with closing(pair.runs()):
            for kind, run in pair.runs().items():
                self._fill(run)
                start = time.process_time()
                passed = run.run(self.one_pass())
                settle(self.settle_s)
                cost[kind] = (time.process_time() - start) / passed
        return cost["with"] - cost["without"]

    def one_pass(self) -> int:
        """Samples in one pass over what is captured."""
        return min(self.counts.samples, self.replays.samples)

    def _reads_at_most(self, step: str, kind: str) -> int:
        if self.methods.get(step) == "replay":
            return 0
        return max(1, round(self._epoch() or self.counts.samples))

    def _fill(self, run: Run, whole: bool = False) -> None:
        """One pass over what is captured, or of the ``whole`` dataset: fills captures, caches, buffers, and settles."""
        samples = self._epoch() if whole and self._epoch() else self.one_pass()
        run.run(round(1.05 * samples) + 1)  # past the end, where a cache knows that it is full
        settle(self.settle_s)

    def _epoch(self) -> float:
        """Samples in an epoch, as far as that was counted; else 0."""
        return (self.counts.epoch_elements or 0) * self.counts.samples_per_element

    def _whole_epochs(self, samples: int) -> int:
        """The size of a window in whole epochs where one isn't far longer: epochs begin with buffers to be filled."""
        epoch = self._epoch()
        if not epoch or samples < _EPOCHS * epoch:
            return samples
        return round(max(1, round(samples / epoch)) * epoch)
