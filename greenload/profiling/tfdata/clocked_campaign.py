"""Runs the windows of a dataset whose functions have clocks: passes of the whole, and replays of what has no clock."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from greenload.energy.attribution.attribute import COUNTED_KINDS, attribute
from greenload.energy.attribution.costs import Attribution
from greenload.energy.attribution.observation import FIRST_EPOCH, IN_PLACE, WHOLE, Observation
from greenload.energy.attribution.precision import unreached
from greenload.energy.domains import Domain
from greenload.energy.settle import settle
from greenload.profiling import schedule
from greenload.profiling.runs import DatasetRun
from greenload.profiling.tfdata.campaign import LATE, DatasetCampaign
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.guard import tf_error_line
from greenload.profiling.tfdata.passes import (
    SMALLER,
    WITHIN,
    ClockedCopyOf,
    file_reader_step,
    reads_files,
    same_datasets,
    why_not,
)
from greenload.profiling.windows import closing
from greenload.system.frameworks import tf

OTHERWISE = "not in place, but by what it adds to others"
CROSSED = f"{OTHERWISE}: each call ended on another thread than it began on"
UNCALLED = f"{OTHERWISE}: its clock saw no call"
"""Why a step with a clock is replayed."""


class ClockedCampaign(DatasetCampaign):
    """Runs a dataset with clocks around its functions, by turns with one that has none.

    What has no function, as a batch, is replayed. Nothing has clocks before `watch`, nor where that finds that none can
    have one: all is then measured as in its base class.

    Args:
        given: what `DatasetCampaign` takes.
        copy_of: makes copies with clocks.
        options: what else `DatasetCampaign` takes.
    """

    without_clocks = ""
    """Why no step is measured in place, though some have functions, without its end; empty where some are."""
    reader: str | None = ""
    """The step with a clock that reads all the files, if any; None where several steps may."""
    untold: Mapping[str, str] = MappingProxyType({})
    """Steps with clocks that couldn't tell them, so that they are measured otherwise, and why, by name."""
    counted_with: Mapping[str, str] = MappingProxyType({})
    """Steps that stand in another branch too, where a step's clock counts both, and that step, by name."""
    _pass_samples = 0  # of a window of the whole

    def __init__(self, *given: Any, copy_of: ClockedCopyOf, **options: Any) -> None:
        super().__init__(*given, **options)
        self._copy_of = copy_of

    def watch(self) -> None:
        """Find which steps can have clocks."""
        self.without_clocks = why_not()
        if self.without_clocks:
            return
        try:
            copy = self.replays.clocked(self._copy_of)
        except (tf.errors.OpError, ValueError, TypeError, KeyError) as error:
            self.without_clocks = f"it can't be built again with clocks: {tf_error_line(error)}"
            return
        self.replays.forget()
        rows = {node.name for node in self.rows} - self.failed.keys()
        self.clocked = frozenset(rows.intersection(copy.names))
        if self.clocked:
            self.untold = {name: f"{OTHERWISE}: {why}" for name, why in copy.missed.items() if name in rows}
        self.counted_with = same_datasets(self.root, self.clocked)
        self.reader = file_reader_step(self._own_rows, self.clocked)
        self._clock_replays()

    def _build(self, build: int, name: str, share: float) -> None:
        if not self.clocked:
            super()._build(build, name, share)
            return
        self._late_s = self._due_s(build, 1.0, math.inf, late=LATE)
        self._passes(build, name)
        if schedule.replays_in(build, self._least_builds):
            self._first_epoch(build, name)
        if not build:
            self._settle_clocked()
        steps = self._replayed_in(build)
        part = share / (1 + len(steps))
        self._done += part
        for node in steps:
            self._tell(f"{node.name} ({name})")
            if node.name not in self.failed:
                self._measure(node, self._window_or_less_s, build)
            self._done += part
        if schedule.is_first(build):
            self._starts(build, name)

    def _replayed_in(self, build: int) -> Sequence[Node]:
        """The steps to replay on a build: all on as few as without clocks, later those that aren't known well yet."""
        if not schedule.replays_in(build, self._least_builds):
            return []
        if self._precision is None or schedule.is_first(build):
            return self.replayed
        wide = unreached(self.attributed(self.seen), self._precision)
        return [node for node in self.replayed if node.name in wide]

    def _passes(self, build: int, name: str) -> None:
        """Windows of the whole without clocks, once more without, and with them, by turns."""
        self._tell(f"the whole, with clocks and without ({name})")
        if not self._pass_samples:
            sized = self.replays.full()
            with closing({"full": sized}):
                self._fill_buffers(sized)
                self._pass_samples = self._within_epochs(self._sized(sized, 3 * self.window_s))
        copy = self.replays.clocked(self._copy_of)
        # Each kind has a run of its own, so that all are at the same place of their epochs.
        runs = {kind: self.replays.full() for kind in ("full", WHOLE)}
        runs[IN_PLACE] = self.replays.whole(copy.dataset, copy.read)
        with closing(runs):
            for run in runs.values():
                self._fill_buffers(run)
            self._pairs(runs, dict.fromkeys(runs, self._pass_samples), "", build)

    def _within_epochs(self, samples: int) -> int:
        """The size of windows so that all of a build's are inside an epoch, or else hold whole ones.

        At its end nothing is made ahead: a window that ends there, of several of another size, took too little.
        """
        epoch = self._epoch()
        room = (WITHIN * epoch - self._filling) / self._rounds
        if self.stores or not epoch or samples >= epoch or samples <= room:
            return samples
        return round(room) if room >= SMALLER * samples else self._capped_epoch(epoch)

    def _capped_epoch(self, epoch: float) -> int:
        return round(epoch) if self.bounds is None else min(round(epoch), max(1, self.bounds.pass_samples))

    @property
    def _filling(self) -> int:
        """Samples that fill a run's buffers."""
        return max(1, round(schedule.FILL_S / max(self.counts.s_per_sample, 1e-7)))

    def _fill_buffers(self, run: DatasetRun) -> None:
        """Fill a run's caches, or only the buffers that its first elements wait for."""
        if self.stores:
            self._fill(run, whole=True)
            self._regroup(run, self.counts.epoch_elements)
        else:
            run.run(self._capped(run, self._filling))
            settle(self.filled_settle_s)

    def _settle_clocked(self) -> None:
        """Leave the steps that their clocks couldn't tell in the first build to replays."""
        told = {name for window in self.seen for name, work in window.work.items() if work.timed}
        crossed = {name for window in self.seen for name, work in window.work.items() if work.crossed}
        lost = {name: CROSSED if name in crossed else UNCALLED for name in sorted(self.clocked - told)}
        self.untold = {**self.untold, **lost}
        self.clocked &= told
        self.counted_with = same_datasets(self.root, self.clocked)
        self._clock_replays()

    def _clock_replays(self) -> None:
        """Put clocks into the replays of steps that are measured in place: only their joules are of interest then."""
        if self.counted:
            self.replays.clock(self._copy_of, self.clocked)

    @property
    def measured_steps(self) -> Sequence[Node]:
        """The nodes with a row that could be measured: without those that only hand over, or that others' clocks count.

        Raises:
            UsageError: there is none.
        """
        own = self._own_rows
        return [node for node in super().measured_steps if node in own]

    @property
    def _own_rows(self) -> list[Node]:
        """The nodes with a row of their own, where others have clocks."""
        return [node for node in self.rows if not self._only_hands_over(node) and node.name not in self.counted_with]

    @property
    def counted(self) -> bool:
        """Whether a counter tells joules of CPU seconds, which only replays can share out: all steps are replayed."""
        return any(
            channel.provenance != "modelled" and Domain.parse(channel.domain).kind in COUNTED_KINDS
            for channel in self.channels.values()
        )

    def _only_hands_over(self, node: Node) -> bool:
        return bool(self.clocked) and node.kind == "prefetch"

    @property
    def replayed(self) -> list[Node]:
        """The nodes whose windows are replays or prefixes."""
        return [
            node for node in self._own_rows if self.counted or node.name not in self.clocked or self._may_read(node)
        ]

    def _may_read(self, node: Node) -> bool:
        return self.reader is None and reads_files(node)

    def _due_s(self, build: int, steps: float, parts: float = 0, late: float = 0.0) -> float:
        if not self.clocked or self.bounds is None:
            return super()._due_s(build, steps, parts, late)
        # Also where a precision is wanted: more builds narrow intervals as well as more rounds.
        each_s = self.bounds.clocked_s + self.bounds.build_s
        return self._begun_s + self.bounds.due_s(build, steps, parts) + late * each_s

    @property
    def _least_builds(self) -> int:
        return schedule.least_builds(self._precision) if self.clocked else super()._least_builds

    @property
    def terms(self) -> dict[str, Any]:
        """What windows are attributed by, as `attribute` takes it."""
        return super().terms | {"reader": self.reader or "", "passing": self._passing}

    @property
    def _passing(self) -> Collection[str]:
        """Steps whose replays without them only pass elements on: no function runs there."""
        return frozenset(
            name
            for name, method in self.methods.items()
            if method == "replay" and self._contexts.get(name, "alone") == "alone"
        )

    def attributed(self, seen: Sequence[Observation]) -> Attribution:
        """Every step's own cost whenever it runs; a cache's is that of reading it.

        Args:
            seen: windows of this campaign.
        """
        names = [step.name for step in self.measured_steps]
        return attribute(seen, steps=names, hand_over=not self.stores, **self.terms)

    def cost(self, name: str) -> float:
        """CPU seconds per sample of a step already seen, roughly.

        Raises:
            KeyError: it has no windows.
        """
        if name not in self.clocked:
            return super().cost(name)
        windows = [window for window in self.seen if window.work and window.work[name].timed]
        return sum(window.work[name].total_cpu_s or 0.0 for window in windows) / sum(w.samples for w in windows)

    def _clocked_first(self, k: int, build: int) -> None:
        if not self.clocked:
            return
        for kind, run in ((WHOLE, self._first.whole()), (IN_PLACE, self._first.clocked(self._copy_of))):
            if run is not None:
                with closing({kind: run}):
                    self._window(run, 0, FIRST_EPOCH, kind, k, build)

    def _failed(self, node: Node, why: str) -> None:
        if node.name not in self.clocked:
            super()._failed(node, why)
