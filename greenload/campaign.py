"""The windows of a profile: what runs, how often, in what order, and what the meters saw."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from greenload.backends.keras_replay import LayerRun, held
from greenload.backends.tf_replay import DatasetRun, Replays
from greenload.backends.tf_stream import options
from greenload.energy.sampler import Mark, Sampler
from greenload.energy.settle import settle
from greenload.energy.windows import Observation
from greenload.loading import Build, Order
from greenload.plan import Plan
from greenload.splitting import Split
from greenload.steps import Step

BUILDS = 2
"""Independent builds: two of one pipeline have been seen 13 % apart, which windows on one of them never show."""
WINDOW_S = 0.25
"""Wall seconds that a window aims at; the full pipeline's are three times as long, so that settling is small beside
them."""
_CONTEXT = 0.25  # from this share of the step before it, a step is replayed behind that one
_SETTLING_S = 0.015  # what settling takes where nothing is left to do
_IDLE_WINDOWS, _IDLE_S = 4, 0.5

Progress = Callable[[float, str], None]
"""Called with the share done, 0 … 1, and what runs now."""


class Runnable(Protocol):
    """What a window runs."""

    def run(self, samples: int) -> int:
        """Pass at least ``samples`` samples; returns how many passed."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class Windows:
    """Runs things in settled windows under meters, and keeps what was seen.

    Args:
        sampler: running; reads the meters.
        rounds: rounds of adjacent windows on each build.
        seed: of the windows' order.
        progress: told what runs.
    """

    settle_s = 1.0
    """Seconds up to which a window waits for buffers to fill and threads to stop."""

    def __init__(self, sampler: Sampler, rounds: int, seed: int, progress: Progress) -> None:
        self.bytes_out: dict[str, float] = {}
        """Mean bytes of a sample that leave a step, where they were counted."""
        self.seen: list[Observation] = []
        """Every window so far."""
        self._sampler = sampler
        self._rounds = rounds
        self._random = random.Random(seed)
        self._progress = progress
        self._done = 0.0
        self._first_ns = 0  # when the first window started

    def _tell(self, text: str) -> None:
        self._progress(min(self._done, 1.0), text)

    def _idle(self) -> None:
        """The machine's floor, before anything runs; only where a counter contains it."""
        if all(channel.provenance == "modelled" for channel in self._sampler.channels.values()):
            return
        self._tell("the idle machine")
        settle()
        for k in range(_IDLE_WINDOWS):
            start = self._sampler.mark(aligned=True)
            time.sleep(_IDLE_S)
            self._note("", "idle", k, 0, 0, start)

    def _pairs(self, runs: Mapping[str, Runnable], sizes: Mapping[str, int], step: str, build: int) -> None:
        """Rounds of adjacent windows of runs and of so many samples, by kind, in random order."""
        for k in range(self._rounds):
            for kind in self._random.sample(list(runs), len(runs)):
                self._window(runs[kind], sizes[kind], step, kind, k, build)

    def _window_samples(self, run: Runnable, seconds: float) -> int:
        """How many samples fill a window. Tries whole, settled windows: a short try would only drain the buffers."""
        samples = 1
        while True:
            start = time.perf_counter()
            passed = run.run(samples)
            worked = time.perf_counter() - start
            settle(self.settle_s)
            took = max(worked, time.perf_counter() - start - _SETTLING_S)
            if took >= seconds / 3:
                return max(1, round(passed * seconds / took))
            samples = passed * max(2, min(8, int(seconds / 2 / max(took, 1e-4))))

    def _window(self, run: Runnable, samples: int, step: str, kind: str, k: int, build: int) -> None:
        doubt = "" if settle(self.settle_s) else "the process was not idle before it"
        start = self._sampler.mark()
        passed = run.run(samples)
        doubt = doubt or ("" if settle(self.settle_s) else "the process did not become idle after it")
        self._note(step, kind, k, build, passed, start, doubt)

    def _note(self, step: str, kind: str, k: int, build: int, passed: int, start: Mark, doubt: str = "") -> None:
        window = self._sampler.window(start, self._sampler.mark(aligned=kind == "idle"))
        if not self.seen:
            self._first_ns = window.start_ns
        void = dict(window.void)
        if doubt:  # what it did and what the meters saw are not the same
            void |= dict.fromkeys(("cpu_s", "wall_ns", "device_bytes", "reads", *self._sampler.channels), doubt)
        if window.device_read_bytes is None:
            void["device_bytes"] = "the system doesn't tell"
        if window.reads is None:
            void["reads"] = "the system doesn't tell"
        self.seen.append(
            Observation(
                step=step,
                kind=kind,
                round=k,
                build=build,
                samples=passed,
                wall_ns=window.wall_ns,
                cpu_s=window.cpu_s,
                other_cpu_s=window.other_cpu_s,
                device_bytes=float(window.device_read_bytes or 0),
                reads=window.reads,
                start_ns=window.start_ns - self._first_ns,
                energy_j=dict(window.energy_j),
                void=void,
            )
        )


class Campaign(Windows):
    """Runs a plan's steps and the whole of it under meters, on a fixed set of samples.

    Args:
        plan: what to measure.
        indices: the samples, int64.
        sampler: as for `Windows`, like the others.
        split: the plan's other half, where the pipeline was split for a device.
    """

    settle_s = 4.0
    """Between backends six batches may be under way, beside those held ready."""

    def __init__(
        self,
        plan: Plan,
        indices: NDArray[np.int64],
        sampler: Sampler,
        rounds: int,
        seed: int,
        progress: Progress,
        split: Split | None = None,
    ) -> None:
        super().__init__(sampler, rounds, seed, progress)
        self.plan = plan
        self.split = split
        self.steps = plan.steps + ((split.step,) if split else ())
        """What has a row: the plan's steps, and the layer on the device."""
        self.indices = indices
        self._behind: dict[str, bool] = {}

    def measure(self) -> list[Observation]:
        """All windows of the profile. The full pipeline's are spread over the steps', so that a drift meets both."""
        steps = len(self.steps)
        self._idle()
        for build in range(BUILDS):
            self._tell(f"building ({build + 1} of {BUILDS})")
            made = Build(self.plan, self._order)
            full = self._full(made)
            replays = Replays(made.stream, made.endless_roots, len(self.indices))
            with closing({"full": full}):
                self._warm(full)
                size = self._window_samples(full, 3 * WINDOW_S)
                for position, step in enumerate(self.steps):
                    self._tell(f"{step.name} (build {build + 1} of {BUILDS})")
                    if step.kind == "device":
                        self._replay(step, self._device_pair(made), build)
                    else:
                        self._step(replays, step, build)
                    self._tell(f"the whole (build {build + 1} of {BUILDS})")
                    before, due = (place * 2 * self._rounds // steps for place in (position, position + 1))
                    for k in range(before, due):
                        self._window(full, size, "", "full", k, build)
                    self._done += 1 / (BUILDS * steps)
        return self.seen

    def trial(self, name: str, changed: Plan) -> None:
        """Adjacent windows of the pipeline as it is ("with") and of a changed one ("without"), each on one build."""
        self._tell(f"trying: {name}")
        order = replace(self._order, pipeline=changed.pipeline)
        runs = {"with": self._full(Build(self.plan, self._order)), "without": self._full(Build(changed, order))}
        with closing(runs):
            for run in runs.values():
                self._warm(run)  # which also fills a cache: it is measured warm
                self._warm(run)
            sizes = {kind: self._window_samples(run, WINDOW_S) for kind, run in runs.items()}
            self._pairs(runs, sizes, name, build=0)

    @property
    def _order(self) -> Order:
        return Order(self.plan.pipeline, self.indices, endless=True)

    def _full(self, made: Build) -> Runnable:
        batch = made.plan.pipeline.batch
        if self.split:
            return LayerRun(made.endless().with_options(options(made.plan)), self.split.layer)
        return DatasetRun(made.endless(), batch.size if batch else 1, made.plan)

    def _device_pair(self, made: Build) -> tuple[Runnable, Runnable]:
        """Held batches with the layer, handing them to its device included, and without."""
        assert self.split is not None
        batches = held(made.endless().with_options(options(self.plan)), len(self.indices))
        return LayerRun(batches(), self.split.layer), LayerRun(batches(), None)

    def _step(self, replays: Replays, step: Step, build: int) -> None:
        if step.kind in ("read", "cache"):
            self._prefixes(replays, step, build)
        else:
            self._replay(step, self._pair(replays, step), build)

    def _prefixes(self, replays: Replays, step: Step, build: int) -> None:
        """Windows of the pipeline up to a step; for a cache also up to the step before, in adjacent windows."""
        place = self.plan.steps.index(step)
        wanted = [self.plan.steps[place - 1], step] if step.kind == "cache" else [step]
        runs: dict[str, Runnable] = {s.name: replays.prefix(s) for s in wanted}
        with closing(runs):
            sizes = {}
            for name, run in runs.items():
                self._warm(run)  # which also fills a cache: it is measured warm
                self._warm(run)
                sizes[name] = self._window_samples(run, WINDOW_S)
            for k in range(self._rounds):
                for name in self._random.sample(list(runs), len(runs)):
                    self._window(runs[name], sizes[name], name, "prefix", k, build)

    def _replay(self, step: Step, pair: tuple[Runnable, Runnable], build: int) -> None:
        runs = dict(zip(("with", "without"), pair, strict=True))
        with closing(runs):
            for run in pair:
                self._warm(run)
            size = self._window_samples(runs["with"], WINDOW_S)
            self._pairs(runs, dict.fromkeys(runs, size), step.name, build)

    def _pair(self, replays: Replays, step: Step) -> tuple[Runnable, Runnable]:
        """A step's runs with and without it."""
        if step.kind == "pixels" and not replays.on_samples(step):
            self._count_crossing(replays, step)
            return replays.on_batches(step)
        before = replays.before(step)
        if before.name not in self.bytes_out:
            self.bytes_out[before.name] = replays.bytes_in(step)
        if step.kind == "batch":
            return replays.batching(step)
        if before.kind != "cache" and self._goes_behind(replays, before, step):
            return replays.behind(before, step)
        return replays.alone(step)

    def _count_crossing(self, replays: Replays, step: Step) -> None:
        """The bytes that leave the step before one, where both are on backends that take batches, but not the same."""
        for before, segment in itertools.pairwise(self.plan.segments):
            if step is segment.steps[0] and segment.backend != "tf" and before.batched:
                images = [image for part in replays.entering(segment) for image in part.images]
                self.bytes_out[before.steps[-1].name] = float(np.mean([np.asarray(image).nbytes for image in images]))

    def _goes_behind(self, replays: Replays, before: Step, step: Step) -> bool:
        """Whether a step is so large beside the one before it that both can run without hiding it in their noise.

        Alone, large steps come out some 5 % too cheap, since nothing else disturbs the processor's caches.
        """
        if step.name not in self._behind:
            runs = dict(zip(("with", "without"), replays.alone(step), strict=True))
            with closing(runs):
                cost = {}
                for kind, run in runs.items():
                    self._warm(run)
                    start = time.process_time()
                    passed = run.run(len(self.indices))
                    settle()
                    cost[kind] = (time.process_time() - start) / passed
            self._behind[step.name] = cost["with"] - cost["without"] >= _CONTEXT * self._cost(before)
        return self._behind[step.name]

    def _cost(self, step: Step) -> float:
        """CPU seconds a sample of a step already seen, roughly."""
        mean = {
            kind: sum(w.cpu_s for w in windows) / sum(w.samples for w in windows)
            for kind in ("prefix", "with", "without")
            if (windows := [w for w in self.seen if w.step == step.name and w.kind == kind])
        }
        return mean["with"] - mean["without"] if "with" in mean else mean["prefix"]

    def _warm(self, run: Runnable) -> None:
        """One pass over the samples: fills captures, caches and buffers, and settles."""
        run.run(len(self.indices))
        settle()


@contextmanager
def closing(runs: Mapping[str, Runnable]) -> Iterator[None]:
    """Close the runs at the end, whatever happens."""
    try:
        yield
    finally:
        for run in runs.values():
            run.close()
