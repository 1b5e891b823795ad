"""What each step of a pipeline costs: paired replays, prefixes and held-out full runs, under meters."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from greenload import formats
from greenload.backends.base import Records
from greenload.energy.attribution import Attribution, Domain, Observation, attribute
from greenload.energy.discover import discover
from greenload.energy.sampler import Sampler
from greenload.energy.settle import settle
from greenload.errors import UsageError
from greenload.loading import Build, Order, require
from greenload.machine import machine
from greenload.pipeline import Pipeline
from greenload.plan import Numbers, Plan, Step, make_plan
from greenload.report.data import FullRun, Idle, Report, Skipped
from greenload.report.data import Step as StepRow
from greenload.verifying import verify

if TYPE_CHECKING:
    from greenload.backends.tf_replay import Replays

SAMPLES = 512
"""Different samples that a profile works on, at most."""
CAPTURED_BYTES = 1 << 30
"""Bytes of captured samples held in memory at once, at most: fewer samples are taken where they are large."""
BUILDS = 2
"""Independent builds: two of one pipeline have been seen 13 % apart, which no number of windows on one of them
shows."""
ROUNDS = 5
"""Rounds of adjacent windows on each build."""
WINDOW_S = 0.25
"""Wall seconds that a window aims at; the full pipeline's are three times as long, to make settling small beside them."""

_SETTLING_S = 0.015  # what settling takes where nothing is left to do

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


def profile(
    pipeline: Pipeline | Plan,
    backend: str = "auto",
    *,
    threads: int | None = None,
    samples: int = SAMPLES,
    rounds: int = ROUNDS,
    seed: int = 0,
    name: str | None = None,
    on_error: str = "raise",
    progress: Progress | None = None,
) -> Report:
    """Measure what each step of a pipeline costs, and check the sum against the whole.

    A fixed set of samples is drawn from the source and verified; all windows work on it, with the draws of epoch 0. A
    step on pixels is measured by paired replay: its captured input runs in adjacent windows with and without it.
    Reading, and caches, are measured by prefixes of the pipeline. The full pipeline runs in between, held out: what
    it costs beyond the steps' sum is reported as unattributed.

    Args:
        pipeline: what to profile, or a plan of it.
        backend: as in ``load``.
        threads: as in ``load``.
        samples: different samples to work on, at most; fewer where the source is smaller or they would fill the memory.
        rounds: rounds of windows on each of two builds, at least 2. More make intervals narrower.
        seed: decides which samples are drawn, and the order of windows.
        name: a name for the report's ``pipeline``.
        on_error: ``"raise"``, or ``"skip"`` to leave bad records out; the report lists them.
        progress: called with the share done and what runs now.

    Returns:
        Figures per sample: CPU seconds, joules by domain, bytes read from devices; each with its 95 % interval and
        provenance.

    Raises:
        PipelineError: the backend can't hold the pipeline.
        SourceError: the source can't be opened; ``RecordError`` where a drawn record is bad.
        BackendUnavailable: the backend can't run here.
        UsageError: an argument is out of range.

    Example:
        >>> report = profile(train)
        >>> report.steps[1].name, report.steps[1].cpu_s_per_sample.value
        ('Decode + crop', 0.00079)
    """
    plan = pipeline if isinstance(pipeline, Plan) else make_plan(pipeline, backend, threads=threads)
    if samples < 1 or rounds < 2:
        raise UsageError(f"samples must be at least 1 and rounds at least 2, not {samples} and {rounds}")
    if on_error not in ("raise", "skip"):
        raise UsageError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
    require(plan)
    meters, statuses = discover()
    with Sampler(meters) as sampler:
        run = _Profile(plan, sampler, samples, rounds, seed, progress or (lambda share, text: None), on_error)
        observations = run.measure()
        domains = {
            domain: Domain(channel.provenance, channel.systematic) for domain, channel in sampler.channels.items()
        }
        attribution = attribute(
            observations, steps=[step.name for step in plan.steps], domains=domains, idle_power_w=sampler.idle_power_w
        )
    described = plan.pipeline.to_dict() | ({"name": name} if name else {})
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        meters=tuple(statuses),
        pipeline=described,
        plan=plan.to_dict(),
        samples=len(run.indices),
        steps=tuple(_rows(plan, attribution, run.bytes_out)),
        full=FullRun(
            cpu_s_per_sample=attribution.full.cpu_s_per_sample,
            energy_j_per_sample=attribution.full.energy_j_per_sample,
            device_bytes_per_sample=attribution.full.device_bytes_per_sample,
            samples_per_s=attribution.samples_per_s,
        ),
        idle=Idle(attribution.idle_power_w, attribution.idle_energy_j_per_sample),
        unattributed=attribution.unattributed,
        total=attribution.total,
        skipped=tuple(run.skipped),
        windows=tuple(observations),
    )


def _rows(plan: Plan, attribution: Attribution, bytes_out: dict[str, float]) -> Iterator[StepRow]:
    for step, found in zip(plan.steps, attribution.steps, strict=True):
        yield StepRow(
            name=step.name,
            stages=step.stages,
            backend=step.backend,
            method=found.method,
            cpu_s_per_sample=found.cost.cpu_s_per_sample,
            energy_j_per_sample=found.cost.energy_j_per_sample,
            device_bytes_per_sample=found.cost.device_bytes_per_sample,
            bytes_out_per_sample=bytes_out.get(step.name, step.spec_out.image_bytes()),
        )


@dataclass
class _Pair:
    """The two runs of a step's replay."""

    step: str
    runs: dict[str, Runnable]


class _Profile:
    """One profile in progress: what is run, in what order, and what was seen."""

    def __init__(
        self, plan: Plan, sampler: Sampler, samples: int, rounds: int, seed: int, progress: Progress, on_error: str
    ) -> None:
        self.plan = plan
        self.sampler = sampler
        self.rounds = rounds
        self.random = random.Random(seed)
        self.progress = progress
        self.skipped: list[Skipped] = []
        self.bytes_out: dict[str, float] = {}
        self.seen: list[Observation] = []
        progress(0.0, "choosing samples")
        self.indices = self._choose(samples, seed, on_error)
        self._units = 0.0
        self._total = 1.0

    def _choose(self, samples: int, seed: int, on_error: str) -> NDArray[np.int64]:
        """Which samples to work on: drawn at random, bounded in bytes, a whole number of batches where there are
        enough."""
        source = self.plan.pipeline.source
        if on_error == "skip":
            found = verify(source, self.plan.threads)
            self.skipped = [Skipped(error.path, error.reason) for error in found.bad]
            good = np.setdiff1d(np.arange(len(source)), np.array(found.bad_indices, np.int64))
        else:
            good = np.arange(len(source))
        drawn = np.random.default_rng(seed).permutation(good)[:samples]
        drawn = drawn[: max(1, int(CAPTURED_BYTES / self._image_bytes(drawn)))]
        batch = self.plan.pipeline.batch
        if batch and len(drawn) > batch.size:
            drawn = drawn[: len(drawn) // batch.size * batch.size]
        return np.sort(drawn).astype(np.int64)

    def _image_bytes(self, drawn: NDArray[np.int64]) -> float:
        """Bytes of a captured image, the most that any step may hold: decoded pixels, or the pipeline's widest spec."""
        source = self.plan.pipeline.source
        widest = max((step.spec_out.image_bytes() or 1 for step in self.plan.steps), default=1)
        decoded = []
        for index in drawn[:32]:
            record = source.read(int(index))
            if isinstance(record, bytes):
                try:
                    header = formats.header(record)
                except formats.FormatError:
                    continue  # the run names it
                decoded.append(header.height * header.width * 3)
        return max(float(widest), float(np.mean(decoded or [1])))

    def measure(self) -> list[Observation]:
        order = Order(self.plan.pipeline, self.indices, endless=True)
        self.progress(0.0, "building")
        tasks = len(self.plan.steps)
        self._total = BUILDS * (tasks + 1) + 1.0
        self._idle()
        for build in range(BUILDS):
            made = Build(self.plan, order)
            full = self._full(made)
            self._warm(full)
            size = self._window_samples(full, 3 * WINDOW_S)
            windows = 0
            for position, step in enumerate(self.plan.steps):
                self.progress(self._units / self._total, f"{step.name} (build {build + 1} of {BUILDS})")
                self._step(made, step, build)
                # The full pipeline's windows are spread over the build, so that a drift of the machine
                # meets both alike.
                due = (position + 1) * 2 * self.rounds // tasks
                for k in range(windows, due):
                    self.progress(self._units / self._total, f"full pipeline (build {build + 1} of {BUILDS})")
                    self._window(full, size, "", "full", k, build)
                windows = due
                self._units += 1.0 + 1.0 / tasks
            full.close()
        self.progress(1.0, "done")
        return self.seen

    def _idle(self) -> None:
        """The machine's floor, before anything runs; only where a counter contains it."""
        if all(channel.provenance == "modelled" for channel in self.sampler.channels.values()):
            self._units += 1
            return
        self.progress(0.0, "idle machine")
        settle()
        for k in range(4):
            start = self.sampler.mark(aligned=True)
            time.sleep(0.5)
            self._note("", "idle", k, 0, 0, start)
        self._units += 1

    def _full(self, made: Build) -> Runnable:
        from greenload.backends.tf_replay import DatasetRun

        batch = self.plan.pipeline.batch
        return DatasetRun(made.endless(), batch.size if batch else 1, self.plan.threads)

    def _step(self, made: Build, step: Step, build: int) -> None:
        from greenload.backends.tf_replay import Replays

        replays = Replays(made.stream, made.endless_roots, len(self.indices))
        if step.kind in ("read", "cache"):
            self._prefixes(replays, step, build)
            return
        for pair in self._pairs(made, replays, step):
            with _closing(pair.runs):
                for run in pair.runs.values():
                    self._warm(run)
                size = self._window_samples(pair.runs["with"], WINDOW_S)
                for k in range(self.rounds):
                    kinds = ["with", "without"]
                    self.random.shuffle(kinds)
                    for kind in kinds:
                        self._window(pair.runs[kind], size, pair.step, kind, k, build)

    def _prefixes(self, replays: Replays, step: Step, build: int) -> None:
        """Windows of the pipeline up to a step; for a cache also up to the step before, in adjacent windows."""
        place = self.plan.steps.index(step)
        wanted = [self.plan.steps[place - 1], step] if step.kind == "cache" else [step]
        runs: dict[str, Runnable] = {s.name: replays.prefix(s) for s in wanted}
        with _closing(runs):
            sizes = {}
            for named, run in runs.items():
                if named == step.name:
                    run.run(len(self.indices))  # a cache is measured warm
                self._warm(run)
                sizes[named] = self._window_samples(run, WINDOW_S)
            for k in range(self.rounds):
                names = list(runs)
                self.random.shuffle(names)
                for named in names:
                    self._window(runs[named], sizes[named], named, "prefix", k, build)

    def _pairs(self, made: Build, replays: Replays, step: Step) -> Iterator[_Pair]:
        if step.kind == "pixels" and step.backend != "tf":
            yield self._dali_pair(step)
        elif step.kind == "pixels" and step.spec_out.batched:
            yield _Pair(step.name, {k: replays.on_batches(step, full=k == "with") for k in ("with", "without")})
        else:
            captured = replays.captured(step)
            before = self.plan.steps[self.plan.steps.index(step) - 1]
            self.bytes_out[before.name] = replays.bytes_out(captured)
            if step.kind == "pixels":
                runs = {k: replays.on_samples(step, captured, full=k == "with") for k in ("with", "without")}
            else:
                runs = {k: replays.batching(captured, full=k == "with") for k in ("with", "without")}
            yield _Pair(step.name, dict(runs))

    def _dali_pair(self, step: Step) -> _Pair:
        from greenload.backends import dali

        pipeline = self.plan.pipeline
        assert pipeline.batch is not None  # make_plan sees to it
        numbers = Numbers.of(pipeline).prepare(pipeline.seed, 0, self.indices)
        records = Records(
            [pipeline.source.read(int(i)) for i in self.indices],  # type: ignore[arg-type]  # all bytes, or all arrays
            numbers,
            [pipeline.source.name(int(i)) for i in self.indices],
        )
        size = min(pipeline.batch.size, len(self.indices))
        with_run, without_run = dali.replay(self.plan, self.plan.steps.index(step), records, size, self.plan.threads)
        return _Pair(step.name, {"with": with_run, "without": without_run})

    def _warm(self, run: Runnable) -> None:
        """One pass over the samples: fills captures, caches and buffers, and settles."""
        run.run(len(self.indices))
        settle()

    def _window_samples(self, run: Runnable, seconds: float) -> int:
        """How many samples fill a window. Tries whole, settled windows: a short try would only drain the buffers."""
        samples = 1
        while True:
            start = time.perf_counter()
            passed = run.run(samples)
            worked = time.perf_counter() - start
            settle()
            took = max(worked, time.perf_counter() - start - _SETTLING_S)
            if took >= seconds / 3:
                return max(1, round(passed * seconds / took))
            samples = passed * max(2, min(8, int(seconds / 2 / max(took, 1e-4))))

    def _window(self, run: Runnable, samples: int, step: str, kind: str, k: int, build: int) -> None:
        start = self.sampler.mark()
        passed = run.run(samples)
        settled = settle()
        self._note(step, kind, k, build, passed, start, "" if settled else "the process never became idle after it")

    def _note(self, step: str, kind: str, k: int, build: int, passed: int, start: Any, doubt: str = "") -> None:
        window = self.sampler.window(start, self.sampler.mark(aligned=kind == "idle"))
        void = dict(window.void) | ({"cpu_s": doubt} if doubt else {})
        if window.device_read_bytes is None:
            void["device_bytes"] = "the system doesn't tell"
        self.seen.append(
            Observation(
                step,
                kind,
                k,
                build,
                passed,
                window.wall_ns,
                window.cpu_s,
                window.other_cpu_s,
                float(window.device_read_bytes or 0),
                dict(window.energy_j),
                void,
            )
        )


@contextmanager
def _closing(runs: dict[str, Runnable]) -> Iterator[None]:
    try:
        yield
    finally:
        for run in runs.values():
            run.close()
