"""Windows under meters: settled, in random order, and what was seen in each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from greenload.energy.sampler import SLOW_UPDATE_S, Mark, Sampler, Window
from greenload.energy.settle import settle
from greenload.energy.windows import Observation

BUILDS = 2
"""Independent builds, at least: two of one pipeline have been seen 13 % apart, which windows on one never show."""
WINDOW_S = 0.25
"""Wall seconds that a window aims at; the full pipeline's are three times as long, so that settling is small beside
them."""
_SETTLING_S = 0.015  # what settling takes where nothing is left to do
_IDLE_WINDOWS, _IDLE_S = 4, 0.5

Progress = Callable[[float, str], None]
"""Called with the share done, 0 … 1, and what runs now."""
Further = Callable[[Sequence[Observation]], int]
"""Asked after a build, from the second on, with all windows so far: how many more builds are wanted, 0 for none."""


def enough(seen: Sequence[Observation]) -> int:
    """No further build."""
    return 0


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
        window_s: wall seconds that a window aims at; `WINDOW_S` if None.
    """

    settle_s = 1.0
    """Seconds up to which a window waits for buffers to fill and threads to stop."""

    def __init__(
        self, sampler: Sampler, rounds: int, seed: int, progress: Progress, window_s: float | None = None
    ) -> None:
        self.bytes_out: dict[str, float] = {}
        """Mean bytes of a sample that leave a step, where they were counted."""
        self.seen: list[Observation] = []
        """Every window so far."""
        self.window_s = WINDOW_S if window_s is None else window_s
        """Wall seconds that a window aims at."""
        self._sampler = sampler
        self._slow = {name for name, channel in sampler.channels.items() if channel.update_s >= SLOW_UPDATE_S}
        self._rounds = rounds
        self._random = random.Random(seed)
        self._progress = progress
        self._done = 0.0
        self._first_ns = 0  # when the first window started

    def _tell(self, text: str) -> None:
        self._progress(min(self._done, 1.0), text)

    def _builds(self, share: float, further: Further) -> Iterator[tuple[int, str, float]]:
        """Number, name, and share of the progress of each build: `BUILDS` of them, then as many as are wanted.

        Args:
            share: of the progress, of all of them.
            further: how many more.
        """
        build, wanted, end = 0, BUILDS, self._done + share
        while wanted:
            name = f"build {build + 1} of {build + wanted}"
            self._idle(name)
            yield build, name, (end - self._done) / wanted
            build += 1
            wanted = wanted - 1 if build < BUILDS else further(self.seen)

    def _idle(self, build: str = "") -> None:
        """The machine's floor; only where a counter contains it."""
        if all(channel.provenance == "modelled" for channel in self._sampler.channels.values()):
            return
        self._tell(f"the idle machine{build and f' ({build})'}")
        settle(self.settle_s)
        before = sum(window.kind == "idle" for window in self.seen)
        for k in range(_IDLE_WINDOWS):
            start = self._start()
            time.sleep(_IDLE_S)
            self._note("", "idle", before + k, 0, 0, start)

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
        start = self._start()
        passed = run.run(samples)
        doubt = doubt or ("" if settle(self.settle_s) else "the process did not become idle after it")
        self._note(step, kind, k, build, passed, start, doubt)

    def _start(self) -> Mark:
        return self._sampler.mark(aligned=bool(self._slow))

    def _end(self, start: Mark) -> tuple[Window, dict[str, int]]:
        """The window from ``start`` until now. Joules of slow counters are those until their next refresh, and how
        long that took is told: the process idles meanwhile, which is no time of its work."""
        window = self._sampler.window(start, self._sampler.mark())
        if not self._slow:
            return window, {}
        longer = self._sampler.window(start, self._sampler.mark(aligned=True))
        energy_j = {**window.energy_j, **{name: longer.energy_j[name] for name in self._slow & set(longer.energy_j)}}
        void = {name: why for name, why in window.void.items() if name not in self._slow}
        void |= {name: longer.void[name] for name in self._slow & set(longer.void)}
        counted_ns = {name: longer.wall_ns for name in self._slow & set(longer.energy_j)}
        return replace(window, energy_j=energy_j, void=void), counted_ns

    def _note(self, step: str, kind: str, k: int, build: int, passed: int, start: Mark, doubt: str = "") -> None:
        window, counted_ns = self._end(start)
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
                energy_wall_ns=counted_ns,
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
