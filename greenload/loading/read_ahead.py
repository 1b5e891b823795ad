"""Reads and runs the batches of a plan ahead of their use, without tf.data, and gives them in order.

A few threads read files and do what needs no other batch; the thread that asks for a batch only starts others and waits
for its own. How many batches are held is bounded.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from greenload.backends.base import Records, echoes_of
from greenload.backends.chain import Chain
from greenload.backends.clocks import DRAWS, StepClock, ordered
from greenload.backends.dali.runner import DaliRunner, Job
from greenload.backends.native.cached_reader import CachedReader
from greenload.backends.registry import readers_of
from greenload.errors import UsageError
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan
from greenload.sources import Source, read_many
from greenload.system import forking, shutdown
from greenload.system.work import WorkClock
from greenload.system.workers import Workers

READERS = 4
"""Threads that read files; each holds one batch of encoded bytes."""

Wanted = tuple[int, NDArray[np.int64], NDArray[np.int64] | None]
"""A batch to come: its epoch, its samples' indices, and which echo of its sample each is, ``None`` without ``Echo``."""


class Engine(Protocol):
    """Runs batches through a plan's steps on pixels, several at a time."""

    @property
    def clocks(self) -> Sequence[StepClock]:
        """Of its steps, in the order of the data."""

    def prepare(self, records: Records) -> Any:
        """What needs no other batch. Any thread may do it.

        Raises:
            RecordError: a record is bad; names it.
        """

    def submit(self, job: Any) -> None:
        """Start what ``prepare`` gave."""

    def collect(self, job: Any) -> Any:
        """Wait for the oldest batch that was started.

        Raises:
            RecordError: a record is bad; names it.
        """

    def close(self) -> None:
        """Give back threads and buffers."""


@dataclass
class _ChainJob:
    records: Records
    done: Future[NDArray[Any]] | None = None


class ChainEngine:
    """Runs ``depth`` batches at a time through a chain of segments. Gives arrays ``[n, height, width, channels]``."""

    def __init__(self, chain: Chain, depth: int) -> None:
        self._chain = chain
        self._pool = Workers(depth, "batch")
        self.clocks = chain.clocks

    def prepare(self, records: Records) -> _ChainJob:
        """A job of a batch, which does nothing yet."""
        return _ChainJob(records)

    def submit(self, job: _ChainJob) -> None:
        """Run a batch in one of the chain's threads."""
        job.done = self._pool.submit(self._chain.run, job.records)

    def collect(self, job: _ChainJob) -> NDArray[Any]:
        """Wait for a batch's images."""
        assert job.done is not None  # what is collected was started
        return job.done.result()

    def close(self) -> None:
        """Give back the threads and the chain."""
        self._pool.close(cancel=True)
        self._chain.close()


class DaliEngine:
    """Runs batches of a plan whose last segment is DALI's, all in one graph. Gives DALI's tensor lists.

    Args:
        runner: of the last segment.
        before: the segments before it.
    """

    def __init__(self, runner: DaliRunner, before: Chain | None = None) -> None:
        self._runner = runner
        self._before = before
        self.clocks: Sequence[StepClock] = [*(before.clocks if before else ()), *runner.clocks]

    def prepare(self, records: Records) -> Job:
        """Run the earlier segments on a batch, and make the inputs of DALI's graph."""
        if self._before is not None:
            records = replace(records, images=self._before.images(records), image_of=None)
        return self._runner.prepare(records.each())

    def submit(self, job: Job) -> None:
        """Start a batch in DALI's graph."""
        self._runner.submit(job)

    def collect(self, job: Job) -> Any:
        """Wait for the oldest batch's tensor list."""
        return self._runner.collect(job)

    def close(self) -> None:
        """Give back DALI's graph and the earlier segments."""
        self._runner.close()
        if self._before is not None:
            self._before.close()


class RecordCache:
    """Records as they were read, by index, for a plan that has a cache. Safe in threads."""

    def __init__(self) -> None:
        self._kept: dict[int, Any] = {}

    def read(self, source: Source, indices: Sequence[int]) -> list[Any]:
        """Several records' images; only those that aren't held are read."""
        lacking = [index for index in indices if index not in self._kept]
        if lacking:
            self._kept.update(zip(lacking, read_many(source, lacking), strict=True))
        return [self._kept[index] for index in indices]

    def tell_trouble(self) -> None:
        """There is none."""

    def close(self) -> None:
        """Nothing has to be given back."""


def _cache(plan: Plan) -> RecordCache | CachedReader | None:
    """What a plan's cache keeps records in, if it has one."""
    caches = [step for step in plan.steps if step.kind == "cache"]
    if any(step.keeps for step in caches):
        return CachedReader(plan, readers_of(plan))
    return RecordCache() if caches else None


@dataclass(frozen=True)
class _Reader:
    """Reads a wanted batch, so that it can be started. Holds no reference to ``ReadAhead``, which can end before it."""

    plan: Plan
    engine: Engine
    layout: DrawLayout
    cache: RecordCache | CachedReader | None
    clock: WorkClock = field(default_factory=WorkClock)
    """Of reading."""
    draws: WorkClock = field(default_factory=WorkClock)

    def __call__(self, epoch: int, index: NDArray[np.int64], echoes: NDArray[np.int64] | None = None) -> _Read:
        pipeline, order = self.plan.pipeline, index.tolist()
        own, image_of = (index, None) if echoes is None else echoes_of(index)
        read = self.cache.read if self.cache else read_many
        with self.clock.timing(len(own)):
            images: Any = read(pipeline.source, own.tolist())
        with self.draws.timing(len(order)):
            numbers = self.layout.prepare(pipeline.seed, epoch, index, echoes=echoes)
            records = Records(images, numbers, [pipeline.source.name(i) for i in order], image_of)
            labels = self.layout.labels(pipeline.source.labels[index], numbers)
        return _Read(self.engine.prepare(records), labels)


@dataclass(frozen=True)
class _Read:
    job: Any
    labels: NDArray[np.generic]


@dataclass
class _Held:
    """The batches that are being read, are being worked on, or were just given."""

    reading: deque[Future[_Read]] = field(default_factory=deque)
    working: deque[_Read] = field(default_factory=deque)
    # A GPU may still copy from a batch's bytes just after its output is there: each batch outlives the next one's.
    given: deque[_Read] = field(default_factory=lambda: deque(maxlen=2))


class ReadAhead(Iterator[tuple[Any, NDArray[np.generic]]]):
    """Batches of a plan in order: what an engine gives, and labels ``[n, …]``. No later call writes to either.

    Several threads may ask for batches: each is given to one of them. An iterator that is no longer referred to, or
    still open at the interpreter's end, gives back its threads. After an error every call raises that error again;
    after an interrupt every call raises a ``UsageError``.

    Args:
        plan: whose ``prefetch`` is how many batches are worked on or ready, at most.
        engine: runs its steps on pixels; closed with the iterator.
        wanted: the batches, in order.
    """

    def __init__(self, plan: Plan, engine: Engine, wanted: Iterator[Wanted]) -> None:
        self._depth = plan.prefetch
        self._engine = engine
        self._wanted = wanted
        try:
            self._cache = _cache(plan)
        except BaseException:
            engine.close()
            raise
        self._read = _Reader(plan, engine, DrawLayout.of(plan.pipeline), self._cache)
        (step,) = (step for step in plan.steps if step.kind == "read")
        note = "what a cache keeps and gives is part of it" if self._cache is not None else ""
        reading = StepClock(step.name, step.kind, self._read.clock.read, note)
        self.clocks = ordered(plan, [StepClock(DRAWS, DRAWS, self._read.draws.read), reading, *engine.clocks])
        """Of its steps, in the order of the data."""
        self._pool = Workers(READERS, "read")
        self._held = _Held()
        self._lock = threading.Lock()
        self._epoch = -1
        self._stopped_by: BaseException | None = None
        self._made_in = os.getpid()
        self._end = forking.close_when_dropped(self, functools.partial(_close, self._pool, engine, self._cache))
        forking.in_child(self, forking.leak)  # as what it holds may have its memory of DALI
        shutdown.close_at_end(self)

    def __next__(self) -> tuple[Any, NDArray[np.generic]]:
        forking.check(self._made_in, "an iterator of batches")
        with self._lock:
            if self._stopped_by is not None:
                raise self._stopped_by
            if not self._end.alive:
                raise StopIteration
            try:
                return self._next()
            except StopIteration:
                self._end()
                raise
            except BaseException as error:  # the batches behind it would be out of order
                self._stopped_by = error if isinstance(error, Exception) else UsageError(_INTERRUPTED)
                self._end()
                raise

    def _next(self) -> tuple[Any, NDArray[np.generic]]:
        held = self._held
        self._go_on(wait=not held.working)
        if not held.working:
            raise StopIteration
        batch = held.working.popleft()
        held.given.append(batch)
        images = self._engine.collect(batch.job)
        try:
            self._go_on(wait=False)
        except Exception as error:  # of a later batch: this one comes first
            self._stopped_by = error
            self._end()
        return images, batch.labels

    def _go_on(self, *, wait: bool) -> None:
        """Start to read and to work on as many batches as may be held; ``wait`` for the first that was to be read."""
        held = self._held
        self._read_on()
        while held.reading and len(held.working) < self._depth and (wait or held.reading[0].done()):
            if not wait and held.reading[0].exception():
                break  # what was read before the bad record comes first
            ready = held.reading.popleft().result()
            self._engine.submit(ready.job)
            held.working.append(ready)
            wait = False
            self._read_on()

    def _read_on(self) -> None:
        while len(self._held.reading) < READERS and (wanted := next(self._wanted, None)) is not None:
            if wanted[0] != self._epoch:
                if self._cache is not None:
                    self._cache.tell_trouble()
                self._epoch = wanted[0]
            self._held.reading.append(self._pool.submit(self._read, *wanted))

    def close(self) -> None:
        """End it: wait for what is being worked on, give back threads and buffers. Calling it twice is harmless."""
        if os.getpid() == self._made_in:
            with self._lock:
                self._end()


_INTERRUPTED = (
    "an iterator of batches that was interrupted while it waited for one can't go on: make another, of iterate with "
    "start=batches.position"
)


def _close(pool: Workers, engine: Engine, cache: RecordCache | CachedReader | None) -> None:
    pool.close(cancel=True)
    engine.close()
    if cache is not None:  # last: what it keeps may have been in use
        cache.close()
