"""How many elements a profile of a dataset draws and how long it takes, planned from what was counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from greenload.profiling import schedule
from greenload.profiling.schedule import AROUND_S, PREPARING_S, TRIAL_ROUNDS
from greenload.profiling.tfdata.caches import Stores, on_disk
from greenload.profiling.tfdata.counting import Counts
from greenload.profiling.tfdata.epochs import first_samples, may_start_anew
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.replays import REPLAYED
from greenload.profiling.windows import BUILDS, LEAST_ROUNDS

MEASURING_S = 50.0
"""Wall seconds that all windows but the trials' aim at, where no precision is wanted: with many steps, or on a busy
machine, each is shorter."""
TRYING_S = 15.0
"""Wall seconds for trials of changes; more where a single one takes longer."""
CLOCKED_TRYING_S = 8.0
"""The same where functions have clocks: the rest takes half a minute then."""
PASSES_S = 30.0
"""Wall seconds in which buffers, captures and caches are filled: where a pass is long, it is over fewer samples."""
MOST_S = 100.0
"""Wall seconds of all windows and passes above which there are fewer rounds."""
SHORTEST_S = 0.03
"""Wall seconds of the shortest window."""
REFILL_S = 0.5
"""Wall seconds of an epoch up to which steps behind a cache on disk run behind it, in copies that fill it anew."""
EPOCHS = 0.3
"""Epochs in a window from which it is made to hold whole ones."""
_AFTER_S = 1.0  # working out the figures
_LEAST_SAMPLES = 8
_LARGE = 2.0  # elements for each sample from which that is told


@dataclass(frozen=True)
class Bounds:
    """What a profile keeps to."""

    samples: int
    """Different samples to work on."""
    rounds: int
    """Of windows, in each build."""
    further_rounds: int
    """Of those behind the steps: of first epochs, and of starting iterators."""
    window_s: float
    """Wall seconds of a step's window."""
    pass_samples: int
    """Samples in a pass over the dataset, at most: windows of the whole and of its parts are passes, too."""
    passes: int
    """In each build, at most."""
    counting_s: float
    """Wall seconds that counting took."""
    build_s: float
    """Wall seconds of a build."""
    parts_s: tuple[float, ...]
    """Of them behind the steps: the writing of each cache, first epochs, and starting iterators."""
    whole_s: float
    """Wall seconds of a window of the whole."""
    trial_s: float
    """Wall seconds of a trial."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """What was cut, and why."""
    least_builds: int = BUILDS
    """How many builds there are at least."""
    clocked_s: float = 0.0
    """Wall seconds of the windows of the whole with clocks and without, in each build; 0 where there are no clocks.
    ``build_s`` is then for the other steps alone, which not each build measures."""

    def seconds(self, builds: int = BUILDS) -> float:
        """Wall seconds of the whole profile."""
        return self.counting_s + self._builds_s(builds) + self.trying_s + _AFTER_S

    def _builds_s(self, builds: int) -> float:
        replaying = (
            sum(schedule.replays_in(build, self.least_builds) for build in range(builds)) if self.clocked_s else builds
        )
        return builds * self.clocked_s + replaying * self.build_s

    def due_s(self, build: int, steps: float, parts: float = 0) -> float:
        """Wall seconds from the first window on, at which a share of a build's ``steps`` is due.

        Args:
            build: which.
            steps: the share; 1 for all.
            parts: how many of what follows them are due, too.
        """
        behind_s = sum(seconds for part, seconds in enumerate(self.parts_s) if part >= parts)
        return self._builds_s(build + 1) - behind_s - (1 - steps) * (self.build_s - sum(self.parts_s))

    @property
    def trying_s(self) -> float:
        """Wall seconds for all trials."""
        return max(CLOCKED_TRYING_S if self.clocked_s else TRYING_S, self.trial_s)

    def to_dict(self) -> dict[str, int | float]:
        """As data, for a plan."""
        return {
            "samples": self.samples,
            "rounds": self.rounds,
            "pass_samples": self.pass_samples,
            "passes": self.least_builds * self.passes,
            "announced_s": round(self.seconds(self.least_builds), 1),
        }


def plan_bounds(
    counts: Counts,
    rows: Sequence[Node],
    stores: Stores,
    *,
    samples: int,
    rounds: int,
    window_s: float,
    counting_s: float,
    planned: bool,
) -> Bounds:
    """How much and how long, so that a profile ends in time.

    Where passes over the dataset are long, they are over fewer samples; where its windows are, there are fewer rounds.

    Args:
        counts: what flows through it, and how fast.
        rows: the nodes that are measured.
        stores: its caches.
        samples: different samples to work on, at most.
        rounds: of windows, at most.
        window_s: wall seconds of a step's window, at most.
        counting_s: wall seconds that counting took.
        planned: whether windows and rounds must stay as they are, however long that takes.
    """
    work = _Work(counts, rows, stores, samples, window_s, planned)
    kept = further = rounds
    if not planned and BUILDS * work.build(rounds, rounds)[1] > MOST_S:
        further = min(rounds, LEAST_ROUNDS)
    while not planned and kept > LEAST_ROUNDS and BUILDS * work.build(kept, further)[1] > MOST_S:
        kept -= 1
    shown_s, build_s = work.build(kept, further)
    reasons = {}
    if work.samples < work.wanted:
        wanted_s = work.wanted * counts.s_per_sample
        reasons["samples"] = (
            f"{work.samples} are worked on, not {work.wanted}: a pass over those takes {wanted_s:,.0f} s"
        )
    if kept < rounds:
        reasons["rounds"] = (
            f"{kept} on each build, not {rounds}: with those measuring the steps would take "
            f"{BUILDS * work.build(rounds, rounds)[1]:,.0f} s, not {BUILDS * build_s:,.0f}"
        )
    return Bounds(
        samples=work.samples,
        rounds=kept,
        further_rounds=further,
        window_s=shown_s,
        pass_samples=work.pass_samples,
        passes=work.passes(kept, further),
        counting_s=counting_s,
        build_s=build_s,
        parts_s=_parts_s(counts, stores, further, window_s),
        whole_s=work.whole_s(3 * window_s),
        trial_s=work.trial_s(kept),
        reasons=reasons,
    )


def plan_clocked_bounds(
    counts: Counts,
    replayed: Sequence[Node],
    stores: Stores,
    *,
    samples: int,
    rounds: int,
    window_s: float,
    counting_s: float,
    least_builds: int,
) -> Bounds:
    """How much and how long where functions have clocks.

    Args:
        counts: what flows through the dataset, and how fast.
        replayed: the nodes that are measured otherwise.
        stores: its caches.
        samples: different samples to work on, at most.
        rounds: of windows, at most.
        window_s: wall seconds of a step's window.
        counting_s: wall seconds that counting took.
        least_builds: how many there are at least.
    """
    work = _Work(counts, replayed, stores, samples, window_s, True)

    def clocked_s(kept: int) -> float:
        fill_s = 2 * (1.05 * work.epoch * counts.s_per_sample if stores else schedule.FILL_S) + 2 * counts.first_s
        return 2 * PREPARING_S + fill_s + 3 * kept * (work.whole_s(3 * window_s) + AROUND_S)

    def replays_s(kept: int) -> float:
        whole_s = 2 * kept * (work.whole_s(3 * window_s) + AROUND_S) + 2 * work.whole_s(window_s)
        firsts_s = (
            2 * kept * (AROUND_S + PREPARING_S + first_samples(counts) * counts.s_per_sample) if stores.empty else 0
        )
        return max(0.0, work.build(kept, kept)[1] - whole_s) + firsts_s

    def bounds(kept: int) -> Bounds:
        reasons = {}
        if kept < rounds:
            reasons["rounds"] = (
                f"{kept} on each build, not {rounds}: with those measuring the steps would take more than {MOST_S:g} s"
            )
        return Bounds(
            reasons=reasons,
            samples=work.samples,
            rounds=kept,
            further_rounds=kept,
            window_s=window_s,
            pass_samples=work.pass_samples,
            passes=work.passes(kept, kept) + kept * (3 + 2 * bool(stores.empty)) + 1,
            counting_s=counting_s,
            build_s=replays_s(kept),
            parts_s=_parts_s(counts, stores, kept, window_s),
            whole_s=work.whole_s(3 * window_s),
            trial_s=work.trial_s(kept),
            least_builds=least_builds,
            clocked_s=clocked_s(kept),
        )

    planned = [bounds(kept) for kept in range(rounds, LEAST_ROUNDS - 1, -1)]
    return next((short for short in planned if short.seconds(least_builds) <= MOST_S), planned[-1])


@dataclass(frozen=True)
class _Work:
    """What each build of a profile runs, and how many wall seconds that takes."""

    counts: Counts
    rows: Sequence[Node]
    stores: Stores
    wanted_samples: int
    window_s: float
    planned: bool

    @property
    def wanted(self) -> int:
        """Samples to work on, as far as there are as many."""
        return min(self.wanted_samples, self.counts.samples)

    @property
    def prefixes(self) -> int:
        """How many nodes are measured by prefixes."""
        return sum(node.kind not in REPLAYED for node in self.rows)

    @property
    def fills(self) -> int:
        """Passes that fill buffers, captures and caches."""
        return 3 + len(self.rows) + self.prefixes

    @property
    def samples(self) -> int:
        """Samples to work on: fewer where passes over them are long."""
        least = max(_LEAST_SAMPLES, self.counts.samples_per_element)
        return int(min(self.wanted, max(least, int(PASSES_S / (BUILDS * self.fills * self.counts.s_per_sample)))))

    @property
    def epoch(self) -> float:
        """Samples in an epoch; 0 where that isn't known."""
        return (self.counts.epoch_elements or 0) * self.counts.samples_per_element

    @property
    def most(self) -> int:
        """Samples that a pass may draw from a generator without a known end; 0 where there is none."""
        return max(self.samples, int(SHORTEST_S / self.counts.s_per_sample)) if self.counts.bounded else 0

    @property
    def pass_samples(self) -> int:
        """Samples in a pass over the dataset, at most."""
        whole = round(self.whole_s(3 * self.window_s) / self.counts.s_per_sample)
        return self.most or max(self.samples, round(1.05 * self.epoch), whole)

    def passes(self, rounds: int, further: int) -> int:
        """Passes over the dataset in each build, at most."""
        parts = _further_passes(self.counts, self.stores, further)
        return 1 + 2 * rounds + 4 + len(self.rows) + self.prefixes * (2 * rounds + 8) + parts

    @property
    def filling_s(self) -> float:
        """Wall seconds in which buffers, captures and caches are filled, and iterators start."""
        s, files = self.counts.s_per_sample, [node for node in self.stores.empty if on_disk(node)]
        refilled = 0
        if self.epoch * s <= REFILL_S:
            refilled = sum(any(source in files for source in node.nodes()) for node in self.rows)
        nodes = sum(1 for node in self.rows[-1].nodes()) if self.rows else 1
        # A run's iterator takes as long to start as it has nodes, and each step has two.
        starts_s = self.counts.first_s * (1 + sum(2 * _size(node) / nodes for node in self.rows))
        return self.fills * self.samples * s + (1.05 + len(files) + 2 * refilled) * self.epoch * s + starts_s

    def whole_s(self, seconds: float) -> float:
        """Wall seconds of a window of the whole that aims at so many."""
        s, epoch_s = self.counts.s_per_sample, self.epoch * self.counts.s_per_sample
        if self.epoch and seconds >= EPOCHS * epoch_s:
            return max(1, round(seconds / epoch_s)) * epoch_s
        return max(s * self.counts.samples_per_element, min(seconds, self.most * s) if self.most else seconds)

    def build(self, rounds: int, further: int) -> tuple[float, float]:
        """Wall seconds of a step's window and of a build."""
        rows = len(self.rows)
        fixed_s = (
            self.filling_s
            + sum(_parts_s(self.counts, self.stores, further, self.window_s))
            + rows * PREPARING_S
            + 2 * self.whole_s(self.window_s)
            + 2 * rounds * (self.whole_s(3 * self.window_s) + AROUND_S)
        )
        each = 2 * rounds + 2  # two are tries
        left_s = (MEASURING_S / BUILDS - fixed_s) / (each * max(1, rows)) - AROUND_S
        shown_s = self.window_s if self.planned else min(self.window_s, max(SHORTEST_S, left_s))
        least_s = self.counts.s_per_sample * self.counts.samples_per_element
        steps_s = rows * shown_s + self.prefixes * max(0.0, least_s - shown_s)
        return shown_s, fixed_s + each * (steps_s + rows * AROUND_S)

    def trial_s(self, rounds: int) -> float:
        """Wall seconds of a trial."""
        # Without a cache only a change that makes one fills it.
        fill_s = (1 + bool(self.stores)) * (1.05 * self.epoch or self.samples) * self.counts.s_per_sample
        fill_s += 2 * self.counts.first_s * (not self.epoch)
        windows_s = (2 * max(rounds, TRIAL_ROUNDS) + 2) * (self.whole_s(2 * self.window_s) + AROUND_S)
        return BUILDS * (fill_s + 2 * PREPARING_S + windows_s)


def _parts_s(counts: Counts, stores: Stores, rounds: int, window_s: float) -> tuple[float, ...]:
    """Wall seconds of the writing of each cache, of first epochs, and of starting iterators; in each build."""
    each_s, first_s = AROUND_S + PREPARING_S / 2, first_samples(counts) * counts.s_per_sample
    epoch_s = counts.samples * counts.s_per_sample
    writing = [2 * rounds * (each_s + (window_s if on_disk(store) else first_s)) for store in stores.empty]
    writing = [
        seconds + (3 * window_s if on_disk(node) else 0.0) for seconds, node in zip(writing, stores.empty, strict=True)
    ]
    firsts_s = (rounds + 1) * (each_s + first_s) if stores.empty else 0.0
    starts_s = 0.0
    if may_start_anew(counts, stores):
        later_s = window_s if stores else epoch_s  # how much reading a cache takes isn't known yet
        starts_s = 2 * later_s + any(map(on_disk, stores.empty)) * epoch_s
        starts_s += (2 * rounds + 2) * (AROUND_S + max(window_s, later_s))
    return (*writing, firsts_s, starts_s)


def _further_passes(counts: Counts, stores: Stores, rounds: int) -> int:
    """How many passes of each build those take."""
    written = sum(2 * rounds + 2 * on_disk(store) for store in stores.empty)
    return written + (rounds + 1 if stores.empty else 0) + (2 * rounds + 6 if may_start_anew(counts, stores) else 0)


def _size(node: Node) -> int:
    """How many nodes run up to one; inside an interleave as many as it has."""
    return sum(1 for _ in node.nodes())


def passes_text(counts: Counts, rows: Sequence[Node], bounds: Bounds, builds: str) -> str:
    """What is going to be drawn, in words; ``builds`` as they are announced."""
    text = f"{builds} times {bounds.passes} passes over at most {bounds.pass_samples:,} samples"
    sources = [node for node in rows if not node.inputs and node.inner is None]
    widest = max(sources, key=lambda node: counts.flows[node].elements_per_sample, default=None)
    if widest is not None and counts.flows[widest].elements_per_sample >= _LARGE:
        text += f", each of which takes {counts.flows[widest].elements_per_sample:.1f} elements of {widest.row}"
    return text
