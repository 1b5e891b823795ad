"""What the profiles of a pipeline and of a dataset share: windows of the whole, trials of changes, rough costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from greenload.energy.attribution.attribute import attribute
from greenload.energy.attribution.costs import Attribution
from greenload.energy.attribution.observation import Metering, Observation
from greenload.energy.sampler import Sampler
from greenload.energy.settle import settle
from greenload.profiling.options import Options
from greenload.profiling.page_cache import ColdFiles
from greenload.profiling.windows import BUILDS, LEAST_ROUNDS, Runnable, Windows, closing

BEHIND_SHARE = 0.25
"""From this share of the step before it, a step is replayed behind that one: alone, large steps come out some 5 % too
cheap, since nothing else disturbs the processor's caches."""


class Named(Protocol):
    """A step of a pipeline, or a node of a dataset."""

    @property
    def name(self) -> str:
        """Of its windows, and of its row."""


AnyStep = TypeVar("AnyStep", bound=Named)
AnyRun = TypeVar("AnyRun", bound=Runnable)


class Campaign(Windows):
    """Runs steps, and the whole that they make up, under meters.

    Args:
        sampler: running; reads the meters.
        options: of the profile.
        cold: drops files from the page cache before each window that reads them; None leaves them there.
    """

    filled_settle_s = 1.0
    """Seconds up to which a pass that fills buffers waits for the threads to stop."""

    def __init__(self, sampler: Sampler, options: Options, cold: ColdFiles | None = None) -> None:
        super().__init__(sampler, options.rounds, options.seed, options.progress, cold=cold)

    @property
    def domains(self) -> dict[str, Metering]:
        """How each energy domain is measured, by its name."""
        return {
            name: Metering(channel.provenance, channel.systematic) for name, channel in self._sampler.channels.items()
        }

    @property
    def measured_steps(self) -> Sequence[Named]:
        """The steps that have windows, in order."""
        raise NotImplementedError

    @property
    def isolation_bias(self) -> Mapping[str, float]:
        """By step, how far its replay may be off for running alone; as `attribute` takes it."""
        raise NotImplementedError

    @property
    def terms(self) -> dict[str, Any]:
        """What windows are attributed by, as `attribute` takes it."""
        return {
            "domains": self.domains,
            "idle_power_w": self._sampler.idle_power_w,
            "isolation_bias": self.isolation_bias,
        }

    def attributed(self, seen: Sequence[Observation]) -> Attribution:
        """Every step's own cost whenever it runs; a cache's is that of reading it.

        Args:
            seen: windows of this campaign.
        """
        return attribute(seen, steps=[step.name for step in self.measured_steps], **self.terms)

    def cost(self, name: str) -> float:
        """CPU seconds per sample of a step already seen, roughly.

        Raises:
            KeyError: it has no windows.
        """
        mean = {
            kind: sum(window.cpu_s for window in windows) / sum(window.samples for window in windows)
            for kind in ("prefix", "with", "without")
            if (windows := [window for window in self.seen if window.step == name and window.kind == kind])
        }
        return mean["with"] - mean["without"] if "with" in mean else mean["prefix"]

    def _each_step(
        self,
        steps: Sequence[AnyStep],
        measure: Callable[[AnyStep], None],
        whole: tuple[Runnable, int],
        build: int,
        name: str,
        share: float,
    ) -> None:
        """Windows of each step, and those of the whole spread over them, so that a drift meets both.

        Args:
            steps: what to measure.
            measure: makes the windows of one.
            whole: its run, and the samples of its windows.
            build: number of the build.
            name: of the build.
            share: of the progress, that this takes.
        """
        run, samples = whole
        for position, step in enumerate(steps):
            self._tell(f"{step.name} ({name})")
            measure(step)
            self._tell(f"the whole ({name})")
            begin, end = (count * 2 * self._rounds // len(steps) for count in (position, position + 1))
            for k in range(begin, end):
                if k >= 2 * LEAST_ROUNDS and self._late():
                    break
                self._window(run, samples, "", "full", k, build)
            self._done += share / len(steps)

    def _trial(
        self,
        name: str,
        make: Callable[[], Mapping[str, AnyRun]],
        fill: Callable[[str, AnyRun], None],
        size: Callable[[AnyRun], int],
        *,
        rounds: int,
        share: float = 0.0,
    ) -> None:
        """Adjacent windows of the whole as it is ("with") and of a changed one ("without").

        On several builds of both, as builds of one pipeline differ too.

        Args:
            name: of the windows.
            make: builds both runs.
            fill: fills the buffers and caches of a kind's run.
            size: the samples of a run's windows.
            rounds: on each build.
            share: of the progress, that this takes.
        """
        for build in range(BUILDS):
            self._tell(f"trying: {name} (build {build + 1} of {BUILDS})")
            runs = make()
            with closing(runs):
                for kind, run in runs.items():
                    fill(kind, run)
                sizes = {kind: size(run) for kind, run in runs.items()}
                self._pairs(runs, sizes, name, build, rounds)
            self._done += share / BUILDS

    def _rough_cost(self, runs: Mapping[str, AnyRun], fill: Callable[[AnyRun], None], samples: int) -> float:
        """CPU seconds per sample, from one pass of what runs "with" and one "without"; closes both.

        Args:
            runs: by kind.
            fill: fills a run's buffers.
            samples: in the pass.
        """
        cost = {}
        with closing(runs):
            for kind, run in runs.items():
                fill(run)
                start = time.process_time()
                passed = run.run(samples)
                settle(self.filled_settle_s)
                cost[kind] = (time.process_time() - start) / passed
        return cost["with"] - cost["without"]
