"""Runs a changed dataset and the one before it in adjacent windows, on several builds of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from greenload.energy.attribution.attribute import trial_cost
from greenload.energy.attribution.costs import Cost
from greenload.energy.attribution.observation import Metering, Observation
from greenload.energy.figures import Figure
from greenload.energy.sampler import Sampler
from greenload.energy.settle import settle
from greenload.profiling.runs import DatasetRun, divisor, group_size
from greenload.profiling.tfdata.counting import Counts
from greenload.profiling.tfdata.replays import whole_options
from greenload.profiling.windows import Progress, Windows, closing

WINDOW_S, QUICK_S = 0.25, 0.1
"""Wall seconds of a window: where a saving is measured, and where changes are put in order."""
ROUNDS, QUICK_ROUNDS, BUILDS = 3, 2, 2
_SETTLE_S = 5.0

Built = Callable[[], Any]
"""Builds a dataset anew."""


@dataclass(frozen=True)
class Seen:
    """What the windows of two datasets showed."""

    saved: Cost
    """What the second spends less than the first, a sample."""
    before_cpu_s: float
    """CPU seconds a sample of the first, and of the second."""
    after_cpu_s: float
    before_per_s: float
    """Samples a second at full speed."""
    after_per_s: float

    @property
    def share(self) -> float:
        """The share of the first one's CPU seconds that the second saves."""
        return 1 - self.after_cpu_s / self.before_cpu_s if self.before_cpu_s else 0.0

    @property
    def figures(self) -> tuple[Figure, Figure]:
        """CPU seconds a sample of both, with the half-width of their difference."""
        width = self.saved.cpu_s_per_sample.half_width or 0.0
        now, later = (
            Figure(value, max(0.0, value - width), value + width, "measured")
            for value in (self.before_cpu_s, self.after_cpu_s)
        )
        return now, later


class DatasetTrials(Windows):
    """Runs pairs of datasets under meters.

    Args:
        sampler: running; reads the meters.
        counts: what flows through the dataset.
        epoch: elements in an epoch, as it is run; None where it has no end.
        options: the user's ``tf.data.Options``.
        seed: of the windows' order.
        told: called whenever elements have passed.
        progress: told what runs.
    """

    settle_s = _SETTLE_S

    def __init__(
        self,
        sampler: Sampler,
        counts: Counts,
        epoch: int | None,
        options: Any,
        seed: int,
        told: Callable[[], None],
        progress: Progress,
    ) -> None:
        super().__init__(sampler, ROUNDS, seed, progress, WINDOW_S)
        self.epoch = epoch
        """Elements in an epoch, as it is run."""
        self._counts, self._told = counts, told
        self._options = options

    @property
    def domains(self) -> dict[str, Metering]:
        """How each energy domain is measured, by its name."""
        return {
            name: Metering(channel.provenance, channel.systematic) for name, channel in self._sampler.channels.items()
        }

    def pair(self, name: str, before: Built, after: Built, quick: bool = False, builds: int = BUILDS) -> Seen:
        """Adjacent windows of two datasets of the same elements.

        Args:
            name: of the windows, unique.
            before: builds the one.
            after: builds the other.
            quick: one build and short windows, to put changes in order.
            builds: independent builds of both, else.
        """
        seconds, rounds = (QUICK_S, QUICK_ROUNDS) if quick else (WINDOW_S, ROUNDS)
        for build in range(1 if quick else builds):
            runs = {"with": self._run(before()), "without": self._run(after())}
            with closing(runs):
                sizes = {}
                for kind, run in runs.items():
                    self._fill(run)
                    sizes[kind] = self._window_samples(run, seconds)
                self._pairs(runs, sizes, name, build, rounds)
        return seen(self.seen, name, self.domains)

    def first_epoch(self, built: Built) -> float | None:
        """CPU seconds a sample of a dataset's first epoch, with all that begins with it; None where it has no end."""
        if self.epoch is None:
            return None
        dataset = built()
        settle(self.settle_s)
        start, elements = time.process_time(), 0
        run = DatasetRun(dataset.with_options(whole_options(self._options)), self._counts.samples_per_element, 1)
        with closing({"": run}):
            while elements < self.epoch:
                elements += 1
                run.run(1)
                self._told()
        settle(self.settle_s)
        return (time.process_time() - start) / (self.epoch * self._counts.samples_per_element)

    def _run(self, dataset: Any) -> DatasetRun:
        per_element = self._counts.samples_per_element
        group = group_size(per_element, self._counts.s_per_sample)
        if self.epoch is not None:
            group = divisor(self.epoch, group)
        return DatasetRun(dataset.repeat().with_options(whole_options(self._options)), per_element, group, self._told)

    def _fill(self, run: DatasetRun) -> None:
        """One pass: fills caches and buffers; then cheap groups where a cache makes elements cheap."""
        samples = (self.epoch or 0) * self._counts.samples_per_element
        run.run(round(1.05 * samples) + 1)
        settle(self.settle_s)
        start = time.perf_counter()
        passed = run.run(1)
        run.regroup((time.perf_counter() - start) / passed, self.epoch)
        run.run(1)
        settle(self.settle_s)


def seen(windows: list[Observation], name: str, domains: Mapping[str, Metering]) -> Seen:
    """What the windows of a name showed.

    Args:
        windows: all of a run.
        name: of the pair.
        domains: how each energy domain is measured.
    """
    kinds = {}
    for kind in ("with", "without"):
        all_windows = [one for one in windows if one.step == name and one.kind == kind]
        kinds[kind] = [one for one in all_windows if "cpu_s" not in one.void] or all_windows
    cpu = {kind: sum(one.cpu_s for one in part) / sum(one.samples for one in part) for kind, part in kinds.items()}
    speed = {
        kind: sum(one.samples for one in part) / max(1e-9, sum(one.wall_ns - one.idle_ns for one in part) / 1e9)
        for kind, part in kinds.items()
    }
    saved = trial_cost(windows, step=name, domains=domains)
    return Seen(saved, cpu["with"], cpu["without"], speed["with"], speed["without"])
