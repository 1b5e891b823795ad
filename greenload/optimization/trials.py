"""Runs plans on drawn samples under meters: several at a time, each as ``load`` runs it, their windows by turns."""

from __future__ import annotations

import gc
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenload.backends.native.cache import open_store, planned_cache
from greenload.backends.native.store import Store
from greenload.energy.attribution.observation import Observation
from greenload.energy.attribution.precision import least_window_s
from greenload.energy.sampler import Sampler
from greenload.energy.settle import settle
from greenload.errors import GreenloadError, SourceError
from greenload.loading.dataset import DatasetBuilder
from greenload.loading.record_errors import record_error
from greenload.optimization.builds import Build
from greenload.optimization.epochs import Epochs, Starting, Stream
from greenload.plans.order import Order, Position
from greenload.plans.plan import Plan
from greenload.profiling.separate_cache import separate_cache
from greenload.profiling.tfdata.guard import Pulse, clear_frames, patiently, tf_error_line
from greenload.profiling.windows import Progress, Windows
from greenload.system.frameworks import tf
from greenload.system.random_states import random_states_kept
from greenload.text import error_line, one_line

WINDOW_S = 0.25
"""Wall seconds of a window of later epochs, at least."""
ROUNDS = 2
"""Windows of later epochs on each build: what differs between builds is most of the scatter."""
BEGINNINGS = 4
"""Epochs of hardly any samples by which it is measured what beginning one takes."""
IDLE_EVERY_S = 25.0
"""Seconds after which windows of the idle machine are run again, where a counter contains its power."""
STUCK_AFTER_S = 90.0
"""Seconds without a batch after which a plan counts as stuck."""
STARTING, FILLING = "starting", "filling"
"""What follows a plan's name in the step of its windows: building and the first epoch, and that epoch once more."""


@dataclass
class _Alive:
    """A plan that is built, while its windows are run."""

    plan: Plan
    builder: DatasetBuilder
    epochs: Epochs
    later: Epochs | Stream
    """What later epochs are run by."""
    build: Build
    store: Store | None


class Trials(Windows):
    """Builds plans, runs them in settled windows under meters, and keeps what was seen.

    Args:
        indices: the samples, int64; of the whole set.
        of: samples of the whole set. What may be kept is scaled by the share that was drawn, so that as large a part
            of them fits as would of the set.
        sampler: running; reads the meters.
        seed: of the windows' order.
        progress: told what runs.
    """

    settle_s = 4.0
    """Between backends six batches may be under way, beside those held ready."""

    def __init__(
        self, indices: NDArray[np.int64], of: int, sampler: Sampler, seed: int = 0, progress: Progress | None = None
    ) -> None:
        super().__init__(sampler, ROUNDS, seed, progress or (lambda share, text: None), WINDOW_S)
        self.indices = indices
        self.running = ""
        """The name of the plan that was run last."""
        self._all = len(indices) == of
        self._share = len(indices) / of
        self._pulse = Pulse()
        self._epochs: dict[str, int] = {}  # of a window, by plan
        self._beginnings: dict[str, float] = {}
        self._idle_s = -math.inf  # when idle windows were run last

    @property
    def idle_windows(self) -> list[Observation]:
        """Those of the idle machine."""
        return [window for window in self.seen if window.kind == "idle"]

    def resume(self, idle: Sequence[Observation]) -> None:
        """Go on from an earlier search's windows of the idle machine."""
        self.seen += idle

    def lot(self, plans: Mapping[str, Plan], number: int, until_s: float = math.inf) -> list[Build]:
        """Build plans, and run their windows by turns; one that fails is said to have failed.

        Args:
            plans: by name; all are built at the same time.
            number: of the race's round.
            until_s: when no further plan is built, but for the first, and each gets one window of later epochs; on
                the monotonic clock.

        Returns:
            One for each plan that was built; where one is stuck, for that one alone.
        """
        pulse = self._pulse = Pulse()
        self.running = ""
        try:
            with random_states_kept():
                builds = patiently(lambda: self._lot(plans, number, until_s), pulse, STUCK_AFTER_S)
            gc.collect()  # traced functions refer to each other: what they keep would stay for long
            return builds
        except SourceError as error:
            if time.monotonic() - pulse.last_s < STUCK_AFTER_S:
                raise
            name = self.running or next(iter(plans))
            return [Build(name=name, round=number, failed=one_line(error).replace("the dataset", "it"))]

    def first_build(self, plan: Plan, limit_s: float) -> tuple[float, float]:
        """Wall seconds of an epoch of the drawn samples, from as many as pass in a time, and CPU seconds until the
        first batch came, building included. Makes TensorFlow ready too.

        Args:
            plan: what runs.
            limit_s: wall seconds after which no further batch is asked for.
        """

        def timed() -> tuple[float, float]:
            began_cpu_s, first_s = time.process_time(), 0.0
            with separate_cache(self._scaled(plan)) as apart:
                builder = DatasetBuilder(apart, self._order(apart))
                batches, begun = 0, 0.0
                for _ in builder.advancing(Position()):
                    self._pulse()
                    begun = begun or time.perf_counter()  # the first batch comes when all is built
                    first_s = first_s or time.process_time() - began_cpu_s
                    batches += 1
                    if time.perf_counter() - begun > limit_s:
                        break
                of_all = builder.order.batches_in_epoch(0)
                # What is held ready came with the first: it isn't timed, and so isn't counted.
                counted = max(1, batches - 1 - apart.prefetch)
                return (time.perf_counter() - begun) / counted * of_all, first_s

        self._pulse = Pulse()
        self._tell("the first epoch of today's plan")
        with random_states_kept(), _unwarned():
            return patiently(timed, self._pulse, STUCK_AFTER_S)

    def once(self, name: str, plan: Plan, epochs: int, first: int) -> Build:
        """Build a plan anew, and run some epochs in one window; what ran is in ``start``.

        Args:
            name: the plan's.
            plan: what runs.
            epochs: how many.
            first: the epoch whose order and draws come first.
        """

        def run() -> Build:
            with ExitStack() as stack, _unwarned():
                apart = stack.enter_context(separate_cache(self._scaled(plan)))
                starting = Starting(lambda: self._built(apart, first)[1])
                stack.callback(starting.close)
                self._window(starting, epochs * self._pass(plan), f"{name}, held out", "with", 0, first)
                return Build(name=name, round=first, samples=self._pass(plan), start=self.seen.pop())

        self._pulse = Pulse()
        self._tell(f"held out: {name}")
        with random_states_kept():
            return patiently(run, self._pulse, STUCK_AFTER_S)

    def dataset(self, plan: Plan, stack: ExitStack) -> tf.data.Dataset:
        """A plan's dataset, as ``load`` gives it, of the drawn samples; what it keeps is kept apart.

        Args:
            plan: what runs.
            stack: closes it.
        """
        apart = stack.enter_context(separate_cache(self._scaled(plan)))
        return DatasetBuilder(apart, self._order(apart)).advancing(Position())

    def _lot(self, plans: Mapping[str, Plan], number: int, until_s: float) -> list[Build]:
        self._look_at_idle_machine()
        builds: dict[str, Build] = {}
        alive: dict[str, _Alive] = {}
        with ExitStack() as stack, _unwarned():
            for name in self._random.sample(list(plans), len(plans)):
                if builds and time.monotonic() > until_s:
                    break
                self._tell(f"building {name}")
                with self._timed(builds, name, number, plans[name]):
                    alive[name] = self._started(name, plans[name], number, stack)
                    builds[name] = alive[name].build
            for k in range(self._rounds):
                if k and time.monotonic() > until_s:
                    break
                for name in self._random.sample(list(alive), len(alive)):
                    if not builds[name].failed:
                        self._tell(f"{name} (build {number + 1})")
                        with self._timed(builds, name, number, plans[name]):
                            builds[name] = self._with_window(name, alive[name], builds[name], k)
        return list(builds.values())

    @contextmanager
    def _timed(self, builds: dict[str, Build], name: str, number: int, plan: Plan) -> Iterator[None]:
        """Add what work on a plan takes to its build's seconds; where it raises, the build has failed."""
        self.running = name
        begun = time.perf_counter()
        before = builds[name].seconds if name in builds else 0.0
        try:
            yield
        except Exception as error:  # whatever a backend, TensorFlow or a user's stage raises
            clear_frames(error)
            builds[name] = Build(name=name, round=number, samples=self._pass(plan), failed=_why(error, plan))
        builds[name] = replace(builds[name], seconds=before + time.perf_counter() - begun)

    def _started(self, name: str, plan: Plan, number: int, stack: ExitStack) -> _Alive:
        """A plan, built; its first epoch has run, twice where that fills something."""
        apart = stack.enter_context(separate_cache(self._scaled(plan)))
        made: list[tuple[DatasetBuilder, Epochs]] = []

        def make() -> Epochs:
            made.append(self._built(apart, 0))
            return made[0][1]

        starting = Starting(make)
        stack.callback(made.clear)
        stack.callback(starting.close)
        samples = self._pass(plan)
        start = self._ran(starting, samples, f"{name}, {STARTING}", number)
        builder, epochs = made[0]
        first_s = starting.first_batch_cpu_s
        build = Build(name=name, round=number, samples=samples, start=start, first_batch_cpu_s=first_s)
        store = open_store(apart) if planned_cache(apart) is not None else None
        if store is not None:
            stack.callback(store.close)
        if any(step.kind == "cache" for step in apart.steps):
            builder.stream.empty_caches()
            build = replace(build, filling=self._ran(epochs, samples, f"{name}, {FILLING}", number))
        build = _with_state(replace(build, begins=self._all), store)
        later: Epochs | Stream = epochs
        if not self._all and not build.failed:
            batches = builder.order.batches_in_epoch(0)
            later = Stream(builder.advancing(Position()), samples, batches, self._pulse)
            stack.callback(later.close)
        alive = _Alive(apart, builder, epochs, later, build, store)
        if not build.failed:
            self._size(name, alive, samples)
        return alive

    def _size(self, name: str, alive: _Alive, samples: int) -> None:
        """How many epochs fill a window, and what beginning one takes, once for each plan."""
        if not self._all:
            alive.later.run(samples)  # the iterator begins
        begun = time.perf_counter()
        alive.later.run(samples)
        settled = settle(self.settle_s)
        took = time.perf_counter() - begun - settled.quiet_s
        if name not in self._epochs:
            wanted = max(self.window_s, least_window_s(self.channels))
            self._epochs[name] = max(1, math.ceil(wanted / max(took, 1e-3)))
        if not self._all and name not in self._beginnings:
            self._beginnings[name] = self._beginning(alive)

    def _beginning(self, alive: _Alive) -> float:
        """CPU seconds that beginning an epoch takes: epochs of one batch, less its samples' own."""
        batch = alive.builder.batch if alive.builder.drop_remainder else 1
        few = self.indices[:batch]
        builder = DatasetBuilder(
            alive.plan, replace(alive.builder.order, valid=few), tables=alive.builder.stream.tables
        )
        short = Epochs(builder.advancing(Position()), len(few), self._pulse)
        short.run(1)
        settle(self.settle_s)
        begun = time.process_time()
        short.run(BEGINNINGS * len(few))
        settle(self.settle_s)
        took = (time.process_time() - begun) / BEGINNINGS
        begun = time.process_time()
        alive.later.run(1)
        settle(self.settle_s)
        return max(0.0, took - (time.process_time() - begun) * len(few) / len(self.indices))

    def _with_window(self, name: str, alive: _Alive, build: Build, k: int) -> Build:
        """The build with one more window of later epochs."""
        samples = self._epochs[name] * self._pass(alive.plan)
        self._window(alive.later, samples, name, "full", k, build.round)
        later = (*build.later, self.seen.pop())
        return replace(_with_state(build, alive.store), later=later, begin_cpu_s=self._beginnings.get(name, 0.0))

    def _ran(self, run: Any, samples: int, step: str, number: int) -> Observation:
        self._window(run, samples, step, "with", 0, number)
        return self.seen.pop()

    def _built(self, apart: Plan, first: int) -> tuple[DatasetBuilder, Epochs]:
        """The dataset that ``load`` returns, of the drawn samples."""
        builder = DatasetBuilder(apart, self._order(apart))
        return builder, Epochs(builder.advancing(Position(first)), self._pass(apart), self._pulse)

    def _order(self, plan: Plan) -> Order:
        return Order(plan.pipeline, None if self._all else self.indices)

    def _pass(self, plan: Plan) -> int:
        """Samples of an epoch."""
        return len(self.indices) * plan.pipeline.times

    def _scaled(self, plan: Plan) -> Plan:
        """The plan with room for as large a part of the drawn samples as it has of the set."""

        def scaled(step: Any) -> Any:
            if step.keeps is None or step.keeps.budget is None:
                return step
            return replace(step, keeps=replace(step.keeps, budget=max(1, int(step.keeps.budget * self._share))))

        return replace(plan, steps=tuple(scaled(step) for step in plan.steps))

    def _look_at_idle_machine(self) -> None:
        """Windows of the idle machine, where a counter contains its power and none were run for a while."""
        if time.monotonic() - self._idle_s > IDLE_EVERY_S:
            self._idle_s = time.monotonic()
            self._idle()


def _with_state(build: Build, store: Store | None) -> Build:
    """The build with what its cache holds; it has failed where that couldn't be written."""
    if store is None:
        return build
    state = store.state()
    failed = f"what it keeps can't be written: {state.trouble}" if state.full else ""
    return replace(build, kept_bytes=float(state.bytes), kept_samples=state.kept, failed=one_line(failed))


def _why(error: BaseException, plan: Plan) -> str:
    """An error in one line."""
    if isinstance(error, tf.errors.OpError):
        return one_line(record_error(str(error.message), plan) or tf_error_line(error))
    return one_line(error) if isinstance(error, GreenloadError) else error_line(error)


@contextmanager
def _unwarned() -> Iterator[None]:
    """What caches warn of is part of a build: nobody else need hear of what a trial's couldn't keep."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
