"""How much a profile of a dataset draws and how long it takes: planned from what was counted, and kept to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
PASSES_S = 30.0
"""Wall seconds in which buffers, captures and caches are filled: where a pass is long, it is over fewer samples."""
MOST_S = 100.0
"""Wall seconds of all windows and passes above which there are fewer rounds."""
SHORTEST_S, AROUND_S = 0.03, 0.08
"""Wall seconds of the shortest window, and of settling around each."""
PREPARING_S = 0.5
"""Wall seconds of building a step's runs."""
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

    def seconds(self, builds: int = BUILDS) -> float:
        """Wall seconds of the whole profile."""
        return self.counting_s + builds * self.build_s + self.trying_s + _AFTER_S

    def due_s(self, build: int, steps: float, parts: float = 0) -> float:
        """Wall seconds from the first window on, at which a share of a build's ``steps`` is due.

        Args:
            build: which.
            steps: the share; 1 for all.
            parts: how many of what follows them are due, too.
        """
        behind_s = sum(one for place, one in enumerate(self.parts_s) if place >= parts)
        return (build + 1) * self.build_s - behind_s - (1 - steps) * (self.build_s - sum(self.parts_s))

    @property
    def trying_s(self) -> float:
        """Wall seconds for all trials."""
        return max(TRYING_S, self.trial_s)

    def to_dict(self) -> dict[str, int | float]:
        """As data, for a plan."""
        return {
            "samples": self.samples,
            "rounds": self.rounds,
            "pass_samples": self.pass_samples,
            "passes": BUILDS * self.passes,
            "announced_s": round(self.seconds(), 1),
        }


def plan_bounds(
    counts: Counts,
    rows: Sequence[Node],
    stores: Stores,
    samples: int,
    rounds: int,
    window_s: float,
    counting_s: float,
    *,
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
    s, least_s = counts.s_per_sample, counts.s_per_sample * counts.samples_per_element
    wanted = min(samples, counts.samples)
    behind = [node for node in rows if node.kind not in REPLAYED]
    prefixes = len(behind)
    fills = 3 + len(rows) + prefixes
    work = min(wanted, max(_LEAST_SAMPLES, counts.samples_per_element, int(PASSES_S / (BUILDS * fills * s))))
    work = int(work)
    epoch = (counts.epoch_elements or 0) * counts.samples_per_element
    files = [node for node in stores.empty if on_disk(node)]
    refilled = sum(any(one in files for one in node.nodes()) for node in rows) if epoch * s <= REFILL_S else 0
    nodes = sum(1 for node in rows[-1].nodes()) if rows else 1
    # A run's iterator takes as long to start as it has nodes, and each step has two.
    starts_s = counts.first_s * (1 + sum(2 * _size(node) / nodes for node in rows))
    filling_s = fills * work * s + (1.05 + len(files) + 2 * refilled) * epoch * s + starts_s
    most = max(work, int(SHORTEST_S / s)) if counts.bounded else 0

    def whole_s(seconds: float) -> float:
        """Wall seconds of a window of the whole that aims at so many."""
        epoch_s = epoch * s
        if epoch and seconds >= EPOCHS * epoch_s:
            return max(1, round(seconds / epoch_s)) * epoch_s
        return max(least_s, min(seconds, most * s) if most else seconds)

    def build(rounds: int, further: int) -> tuple[float, float]:
        """Wall seconds of a step's window and of a build."""
        fixed_s = (
            filling_s
            + sum(_parts_s(counts, stores, further, window_s))
            + len(rows) * PREPARING_S
            + 2 * whole_s(window_s)
            + 2 * rounds * (whole_s(3 * window_s) + AROUND_S)
        )
        each = 2 * rounds + 2  # two are tries
        windows = each * max(1, len(rows))
        left_s = (MEASURING_S / BUILDS - fixed_s) / windows - AROUND_S
        shown_s = window_s if planned else min(window_s, max(SHORTEST_S, left_s))
        steps_s = len(rows) * shown_s + prefixes * max(0.0, least_s - shown_s)
        return shown_s, fixed_s + each * (steps_s + len(rows) * AROUND_S)

    kept = further = rounds
    if not planned and BUILDS * build(rounds, rounds)[1] > MOST_S:
        further = min(rounds, LEAST_ROUNDS)
    while not planned and kept > LEAST_ROUNDS and BUILDS * build(kept, further)[1] > MOST_S:
        kept -= 1
    shown_s, build_s = build(kept, further)
    trial_s = 2 * (1.05 * epoch or work) * s + 2 * counts.first_s * (not epoch)
    trial_s = BUILDS * (trial_s + 2 * PREPARING_S + (2 * kept + 2) * (whole_s(2 * window_s) + AROUND_S))
    reasons = {}
    if work < wanted:
        reasons["samples"] = f"{work} are worked on, not {wanted}: a pass over those takes {wanted * s:,.0f} s"
    if kept < rounds:
        reasons["rounds"] = (
            f"{kept} on each build, not {rounds}: with those measuring the steps would take "
            f"{BUILDS * build(rounds, rounds)[1]:,.0f} s, not {BUILDS * build_s:,.0f}"
        )
    return Bounds(
        samples=work,
        rounds=kept,
        further_rounds=further,
        window_s=shown_s,
        pass_samples=most or max(work, round(1.05 * epoch), round(whole_s(3 * window_s) / s)),
        passes=1 + 2 * kept + 4 + len(rows) + prefixes * (2 * kept + 8) + _further_passes(counts, stores, further),
        counting_s=counting_s,
        build_s=build_s,
        parts_s=_parts_s(counts, stores, further, window_s),
        whole_s=whole_s(3 * window_s),
        trial_s=trial_s,
        reasons=reasons,
    )


def _parts_s(counts: Counts, stores: Stores, rounds: int, window_s: float) -> tuple[float, ...]:
    """Wall seconds of the writing of each cache, of first epochs, and of starting iterators; in each build."""
    each_s, first_s = AROUND_S + PREPARING_S / 2, first_samples(counts) * counts.s_per_sample
    epoch_s = counts.samples * counts.s_per_sample
    writing = [2 * rounds * (each_s + (window_s if on_disk(one) else first_s)) for one in stores.empty]
    writing = [one + (3 * window_s if on_disk(node) else 0.0) for one, node in zip(writing, stores.empty, strict=True)]
    firsts_s = (rounds + 1) * (each_s + first_s) if stores.empty else 0.0
    starts_s = 0.0
    if may_start_anew(counts, stores):
        later_s = window_s if stores else epoch_s  # how much reading a cache takes isn't known yet
        starts_s = 2 * later_s + any(map(on_disk, stores.empty)) * epoch_s
        starts_s += (2 * rounds + 2) * (AROUND_S + max(window_s, later_s))
    return (*writing, firsts_s, starts_s)


def _further_passes(counts: Counts, stores: Stores, rounds: int) -> int:
    """How many passes of each build those take."""
    written = sum(2 * rounds + 2 * on_disk(one) for one in stores.empty)
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
