"""Windows under meters: settled, in random order, and what was seen in each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from greenload.energy.attribution.observation import Observation
from greenload.energy.attribution.precision import IDLE_WINDOWS, WINDOW_S, Length, idle_window_s
from greenload.energy.meters.base import Channel
from greenload.energy.sampler import Mark, Sampler
from greenload.energy.settle import settle
from greenload.profiling.page_cache import ColdFiles, Dropped
from greenload.profiling.runs import ReadWork, no_clocks

BUILDS = 2
"""Independent builds, at least: two of one pipeline have been seen 13 % apart, which windows on one never show."""

LEAST_ROUNDS = 2
"""Rounds without which there is no interval."""

Progress = Callable[[float, str], None]
"""Called with the share done, 0 … 1, and what runs now."""
Further = Callable[[Sequence[Observation]], int]
"""Asked after the first builds, and after each lot that it wanted, with all windows so far: how many more builds."""


def no_further_build(seen: Sequence[Observation]) -> int:
    """No further build."""
    return 0


class Runnable(Protocol):
    """What a window runs."""

    def run(self, samples: int) -> int:
        """Pass at least ``samples`` samples; returns how many passed."""

    def close(self) -> None:
        """Give back what it holds."""


class Windows:
    """Runs things in settled windows under meters, and keeps what was seen.

    Args:
        sampler: running; reads the meters.
        rounds: rounds of adjacent windows on each build.
        seed: of the windows' order.
        progress: told what runs.
        window_s: wall seconds that a window aims at; `WINDOW_S` if None. The full pipeline's are three times as long,
            so that settling is small beside them.
        cold: drops files from the page cache before each window that reads them; None leaves them there.
    """

    settle_s = 1.0
    """Seconds up to which a window waits for buffers to fill and threads to stop."""

    def __init__(
        self,
        sampler: Sampler,
        rounds: int,
        seed: int,
        progress: Progress,
        window_s: float | None = None,
        cold: ColdFiles | None = None,
    ) -> None:
        self.bytes_out: dict[str, float] = {}
        """Mean bytes of a sample that leave a step, where they were counted."""
        self.seen: list[Observation] = []
        """Every window so far."""
        self.window_s = WINDOW_S if window_s is None else window_s
        """Wall seconds that a window aims at."""
        self.dropped: list[Dropped] = []
        """What became of the files' pages, each time they were dropped."""
        self._cold = cold
        self._planned = False  # whether windows must be as long as planned, however long that takes
        self._sampler = sampler
        self._rounds = rounds
        self._random = random.Random(seed)
        self._progress = progress
        self._done = 0.0
        self._first_ns = 0  # when the first window started

    @property
    def channels(self) -> Mapping[str, Channel]:
        """What the meters have, by domain."""
        return self._sampler.channels

    def keep_to(self, length: Length) -> None:
        """Make windows as long, and as many, as planned."""
        self.window_s, self._rounds = length.window_s, length.rounds
        self._planned = True

    @property
    def _least_builds(self) -> int:
        return BUILDS

    def _tell(self, text: str) -> None:
        self._progress(min(self._done, 1.0), text)

    def _builds(self, share: float, further: Further) -> Iterator[tuple[int, str, float]]:
        """Number, name, and share of the progress of each build: the least of them, then as many as are wanted.

        Args:
            share: of the progress, of all of them.
            further: how many more.
        """
        build, wanted, begun = 0, self._least_builds, self._done
        end = begun + share
        while wanted:
            self._done = begun + share * build / (build + wanted)  # falls back where more are wanted than were known of
            for left in range(wanted, 0, -1):
                name = f"build {build + 1} of {build + left}"
                self._idle(name)
                yield build, name, (end - self._done) / left
                build += 1
            wanted = further(self.seen)

    def _idle(self, build: str = "") -> None:
        """Windows of the idle machine; only where a counter contains its power."""
        if all(channel.provenance != "measured" for channel in self._sampler.channels.values()):
            return
        self._tell(f"the idle machine{build and f' ({build})'}")
        before = sum(window.kind == "idle" for window in self.seen)
        for k in range(IDLE_WINDOWS):
            doubt = "" if settle(self.settle_s).idle else "the process was not idle before it"
            start = self._start()
            time.sleep(idle_window_s(self.channels))
            self._note("", "idle", before + k, 0, 0, start, doubt)

    def _pairs(
        self, runs: Mapping[str, Runnable], sizes: Mapping[str, int], step: str, build: int, rounds: int | None = None
    ) -> None:
        """Rounds of adjacent windows of runs and of so many samples, by kind, in random order; as many as in a build
        if not given."""
        for k in range(self._rounds if rounds is None else rounds):
            if k >= LEAST_ROUNDS and self._late():
                break
            for kind in self._random.sample(list(runs), len(runs)):
                self._window(runs[kind], sizes[kind], step, kind, k, build)

    def _window_samples(self, run: Runnable, seconds: float, s_per_sample: float = 0.0) -> int:
        """How many samples fill a window. Tries whole, settled windows: a short try would only drain the buffers.

        Args:
            run: what fills it.
            seconds: wall seconds of the window.
            s_per_sample: wall seconds that a sample takes, roughly, for a first try that suffices; 0 if not known.
        """
        samples = max(1, int(seconds / 2 / s_per_sample)) if s_per_sample else 1
        while True:
            start = time.perf_counter()
            passed = run.run(samples)
            worked = time.perf_counter() - start
            settled = settle(self.settle_s)
            took = max(worked, time.perf_counter() - start - settled.quiet_s)
            if took >= seconds / 3:
                return max(1, round(passed * seconds / took))
            samples = passed * max(2, min(8, int(seconds / 2 / max(took, 1e-4))))

    def _late(self) -> bool:
        """Whether so much time has passed that there are no further rounds than two."""
        return False

    def _reads_at_most(self, step: str, kind: str) -> int:
        """How many samples a window may pass so that none is read twice; 0 for windows that read no files."""
        return 0

    def _window(self, run: Runnable, samples: int, step: str, kind: str, k: int, build: int) -> None:
        if self._cold is not None and (most := self._reads_at_most(step, kind)):
            samples = min(samples, most)
            self.dropped.append(self._cold.drop())
        doubt = "" if settle(self.settle_s).idle else "the process was not idle before it"
        read_work: ReadWork = getattr(run, "read_work", no_clocks)
        worked, start = read_work(), self._start()
        passed = run.run(samples)
        waiting_s = time.thread_time()
        settled = settle(self.settle_s)
        waiting_s = time.thread_time() - waiting_s
        doubt = doubt or ("" if settled.idle else "the process did not become idle after it")
        self._note(step, kind, k, build, passed, start, doubt, settled.quiet_s, waiting_s)
        if worked:
            work = {name: after - worked[name] for name, after in read_work().items()}
            self.seen[-1] = replace(self.seen[-1], work=work)

    def _start(self) -> Mark:
        return self._sampler.mark(aligned=True)

    def _note(
        self,
        step: str,
        kind: str,
        k: int,
        build: int,
        passed: int,
        start: Mark,
        doubt: str = "",
        idle_s: float = 0.0,
        waiting_s: float = 0.0,
    ) -> None:
        # Joules of slow counters go on until their next refresh, in which the process idles: no time of its work.
        window = self._sampler.window(start, self._sampler.mark(aligned=True, closing=True))
        if not self.seen:
            self._first_ns = window.start_ns
        void = dict(window.void)
        if doubt:  # what it did and what the meters saw are not the same
            void |= dict.fromkeys(("cpu_s", "work_ns", "device_bytes", "reads", *self._sampler.channels), doubt)
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
                cpu_s=max(0.0, window.cpu_s - waiting_s),  # without what waiting for its end took
                other_cpu_s=window.other_cpu_s,
                device_bytes=float(window.device_read_bytes or 0),
                reads=window.reads,
                start_ns=window.start_ns - self._first_ns,
                energy_j=dict(window.energy_j),
                void=void,
                energy_wall_ns=dict(window.energy_wall_ns),
                idle_ns=min(round(idle_s * 1e9), window.wall_ns - 1),
            )
        )


@contextmanager
def closing(runs: Mapping[str, Runnable]) -> Iterator[None]:
    """Close the runs at the end, whatever happens."""
    try:
        yield
    finally:
        for run in runs.values():
            run.close()
