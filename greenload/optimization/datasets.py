"""Finds what makes someone's ``tf.data.Dataset`` cheaper without changing its elements, by running it."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from greenload.energy.figures import Figure
from greenload.energy.meters.discover import discover
from greenload.energy.sampler import Sampler
from greenload.errors import GreenloadError
from greenload.machine import processors
from greenload.optimization.dataset_arrays import rows_of_arrays
from greenload.optimization.dataset_changes import (
    Change,
    Facts,
    bounded_threads,
    fused_maps,
    one_prefetch,
    rewritten,
    synchronous,
)
from greenload.optimization.dataset_compare import EPOCHS, Comparer, Comparison
from greenload.optimization.dataset_improvement import Improvement, TriedChange, apply_all
from greenload.optimization.dataset_moves import caches, in_chunks, on_batches
from greenload.optimization.dataset_nodes import TreeBuilder, promises_no_order, shared_nodes
from greenload.optimization.dataset_source import source_text
from greenload.optimization.dataset_trials import BUILDS, DatasetTrials, Seen
from greenload.profiling.tfdata.counting import Counts, count_elements
from greenload.profiling.tfdata.files import some_files
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.guard import Pulse, patiently, tf_error_line
from greenload.profiling.tfdata.rebuild import Builder
from greenload.profiling.tfdata.remarks import drawn_while_traced
from greenload.profiling.tfdata.states import states_kept
from greenload.profiling.tfdata.units import sample_unit
from greenload.profiling.tfdata.walk import walk
from greenload.profiling.windows import Progress
from greenload.system.frameworks import tf
from greenload.system.random_states import random_states_kept
from greenload.system.scratch import ScratchFolder
from greenload.text import percent

FINDERS = (
    rows_of_arrays,
    on_batches,
    in_chunks,
    rewritten,
    fused_maps,
    bounded_threads,
    synchronous,
    one_prefetch,
)
"""What is looked for behind the caches, which come first."""
LEAST_SHARE = 0.01
"""Share of the CPU seconds that a change must save to be taken."""
SLOWER = 0.9
"""Share of the speed that is left at least, where no demand says how much is needed."""
PASS_SHARE = 0.1
"""Share of the seconds in which the elements of an epoch are counted once more, where the first time had no end."""
COMPARED, COMPARING_S, WHOLE_S = 24, 4.0, 20.0
"""Elements of each of two epochs by which a change is first compared; seconds of that; of the last comparison."""
RUN_SAMPLES = 512
"""Samples that an epoch is cut to, where it is too long to be run whole."""
_LAST_SHARE = 0.3  # of the seconds, that is kept for the last windows and the last comparison


def improve(
    dataset: tf.data.Dataset,
    *,
    epochs: int,
    ram: float,
    demand: float | None = None,
    threads: int | None = None,
    seconds: float = 180,
    seed: int = 0,
    progress: Progress | None = None,
    name: str = "tf.data.Dataset",
) -> Improvement:
    """Find what makes a dataset cheaper without changing its elements.

    Changes are tried one by one beside the dataset as it is, then together, the one that saves most first. Each one's
    elements are compared bit for bit, in two epochs, with seeds where the user gave none.

    Args:
        dataset: what to improve. Nothing that belongs to it is consumed.
        epochs: that the training has; with one, nothing is cached.
        ram: bytes that may be held in memory between epochs.
        demand: samples a second that the trainer takes: what would be slower isn't taken. None: what would be a tenth
            slower than now isn't.
        threads: processors that it may use; None for all of this process.
        seconds: wall seconds that it may take, roughly.
        seed: of the windows' order.
        progress: called with the share done and what runs now.
        name: how it is called in what is shown.

    Raises:
        SourceError: the dataset raised, or no element came for a minute.
        UsageError: it is empty, or has more than 300 nodes.
    """
    root = walk(dataset)
    pulse = Pulse()

    def told(share: float, text: str) -> None:
        pulse()
        if progress is not None:
            progress(min(1.0, share), text)

    meters, _ = discover(data=some_files(dataset))
    with Sampler(meters) as sampler, random_states_kept(), states_kept(root), ScratchFolder() as scratch:
        search = _Search(
            root=root,
            sampler=sampler,
            scratch=scratch,
            epochs=epochs,
            ram=ram,
            demand=demand,
            threads=threads or processors(),
            seconds=seconds,
            seed=seed,
            progress=told,
            pulse=pulse,
            name=name,
        )
        return patiently(search.run, pulse)


@dataclass
class _Search:
    """One search: what it may use, and what it has found so far."""

    root: Node
    sampler: Sampler
    scratch: str
    epochs: int
    ram: float
    demand: float | None
    threads: int
    seconds: float
    seed: int
    progress: Progress
    pulse: Pulse
    name: str
    begun_s: float = field(default_factory=time.monotonic)
    taken: list[Change] = field(default_factory=list)
    rows: dict[str, TriedChange] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def run(self) -> Improvement:
        """Search, and measure what was found once more."""
        self.progress(0.0, "counting elements")
        drawn = drawn_while_traced(self.root)
        unit = sample_unit(self.root)
        self.counts = self._counted(count_elements(self.root, Builder(self.scratch), RUN_SAMPLES, self.pulse, unit))
        self.cut, epoch = self._cut()
        self.facts = self._facts(frozenset(node.name for node in drawn))
        options = self.root.dataset.options()
        self.trials = DatasetTrials(
            self.sampler, self.counts, epoch, options, self.seed, self.pulse, lambda share, text: None
        )
        folder = partial(tempfile.mkdtemp, dir=self.scratch)
        most = 2 * (epoch or COMPARED) if self.counts.endless else None
        self.comparer = Comparer(self.root, self.cut, COMPARING_S, self.facts.free_order, self.pulse, folder, most)
        tree = self._greedy()
        return self._held_out(tree)

    def _counted(self, counts: Counts) -> Counts:
        """The same with the elements of an epoch, where a plain pass, without counters, comes to its end."""
        if counts.epoch_elements is not None or counts.endless or counts.bounded:
            return counts
        until, elements = time.monotonic() + PASS_SHARE * self.seconds, 0
        for _ in TreeBuilder(self.scratch).build(self.root):
            elements += 1
            self.pulse()
            if time.monotonic() > until:
                return counts
        return replace(counts, epoch_elements=elements)

    def _facts(self, drawn: frozenset[str]) -> Facts:
        flows = {node.name: flow for node, flow in self.counts.flows.items()}
        samples: float | None = None
        if self.counts.epoch_elements is not None:
            samples = self.counts.epoch_elements * self.counts.samples_per_element
        elif (elements := int(self.root.dataset.cardinality())) > 0:
            samples = elements * self.counts.samples_per_element
        return Facts(
            root=self.root,
            flows=flows,
            epoch_samples=samples,
            epochs=self.epochs,
            ram=self.ram,
            threads=self.threads,
            drawn=drawn,
            shared=shared_nodes(self.root),
            free_order=promises_no_order(self.root),
        )

    def _cut(self) -> tuple[dict[str, int], int | None]:
        """How many elements sources are cut to where an epoch is long, and the elements of an epoch as it is run."""
        if self.counts.epoch_elements is not None:
            return {}, self.counts.epoch_elements
        elements = int(self.root.dataset.cardinality())
        whole = elements * self.counts.samples_per_element
        if elements <= 0 or whole <= RUN_SAMPLES or len([n for n in self.root.nodes() if not n.inputs]) != 1:
            return {}, None
        source = next(node for node in self.root.nodes() if not node.inputs)
        if (size := int(source.dataset.cardinality())) <= 1:
            return {}, None
        share = RUN_SAMPLES / whole
        cut = {source.name: max(1, math.ceil(size * share))}
        count = int(TreeBuilder(self.scratch, cut=cut).build(self.root).cardinality())
        if count:  # none are left behind a skip
            self.notes.append(f"an epoch is long: a part of {percent(share)} of its samples was run")
        return (cut, count if count > 0 else None) if count else ({}, None)

    def _build(self, tree: Node) -> Callable[[], Any]:
        return lambda: TreeBuilder(tempfile.mkdtemp(dir=self.scratch), cut=self.cut).build(tree)

    def _left(self) -> float:
        return self.seconds * (1 - _LAST_SHARE) - (time.monotonic() - self.begun_s)

    def _greedy(self) -> Node:
        """A cache first; then each change alone, in short windows, and together, the best first."""
        tree, tried = self.root, set[str]()
        for finders in ((caches,), FINDERS, FINDERS):  # changes may make room for others
            found = [change for finder in finders for change in finder(tree, self.facts)]
            new = [change for change in found if change.key not in tried]
            tried |= {change.key for change in new}
            for change in self._ordered(tree, new) if len(new) > 1 else new:
                tree = self._tried(tree, change)
        return tree

    def _ordered(self, tree: Node, changes: list[Change]) -> list[Change]:
        """Those that build, give equal elements and seem to save, the one that saves most first."""
        shares: list[tuple[float, Change]] = []
        for change in changes:
            self.progress(self._share(), f"trying: {change.title}")
            if self._left() <= 0:
                self._lose(change, "there was no time left to try it")
                continue
            changed = self._equal(tree, change)
            if changed is None:
                continue
            seen = self._windows(f"quick: {change.key}", tree, changed, change, quick=True)
            if seen is None:
                continue
            if seen.share > 0:
                shares.append((seen.share, change))
            else:
                self._lose(change, f"two short windows of it show no saving: {_both(seen)}")
        return [change for _, change in sorted(shares, key=lambda pair: pair[0], reverse=True)]

    def _tried(self, tree: Node, change: Change) -> Node:
        """The tree with a change, where it saves on top of those taken."""
        taken = bool(change.instead) and any(change.instead == other.instead for other in self.taken)
        if taken or self._left() <= 0:
            self._lose(change, "another way to do the same was taken" if taken else "there was no time left to try it")
            return tree
        self.progress(self._share(), f"measuring: {change.title}")
        changed = self._equal(tree, change)
        if changed is None:
            return tree
        seen = self._windows(change.key, tree, changed, change)
        if seen is not None and seen.share > LEAST_SHARE and (seen.saved.cpu_s_per_sample.low or 0.0) <= 0:
            seen = self._windows(change.key, tree, changed, change, builds=2 * BUILDS)  # more tell what two can't
        if seen is None:
            return tree
        saved = seen.saved.cpu_s_per_sample
        row = replace(self.rows[change.key], saves_cpu_s_per_sample=saved, share=seen.share)
        lost = self._why_not(seen, saved)
        self.rows[change.key] = replace(row, taken=not lost, lost=lost)
        if lost:
            return tree
        self.taken.append(change)
        return changed

    def _why_not(self, seen: Seen, saved: Figure) -> str:
        """Why a change isn't taken, by what its windows showed; empty where it is."""
        if saved.value is None or saved.low is None:
            return "its windows could not be read"
        if saved.low <= 0 < seen.share:
            return f"its windows can't tell what it saves from nothing: {_both(seen)}"
        if seen.share < LEAST_SHARE:
            return f"its windows show no saving: {_both(seen)}"
        enough = self.demand is not None and seen.after_per_s >= self.demand
        if not enough and seen.after_per_s < SLOWER * seen.before_per_s:
            needed = f"of {self.demand:,.0f} demanded" if self.demand else f"instead of {seen.before_per_s:,.0f}"
            return f"it gives {seen.after_per_s:,.0f} samples a second {needed}"
        return ""

    def _equal(self, tree: Node, change: Change) -> Node | None:
        """The changed tree where its elements are the dataset's own; else None, and the reason is kept."""
        row = self.rows.setdefault(
            change.key,
            TriedChange(title=change.title, detail=change.detail, taken=False, ram_bytes=change.ram_bytes),
        )
        try:
            changed = change.apply(tree)
            if changed is None:
                self._lose(change, "a change taken before it leaves it no place")
                return None
            short = (self.trials.epoch or math.inf) <= 4 * COMPARED  # whole epochs fill caches
            compared = self.comparer.compare(changed, None if short else COMPARED)
        except (tf.errors.OpError, GreenloadError, ValueError, TypeError, NotImplementedError) as error:
            self._lose(change, f"it does not run: {tf_error_line(error)}")
            return None
        self.rows[change.key] = replace(row, compared=compared)
        if not compared.equal:
            self._lose(change, f"its elements are others: {compared.differs or 'none came'}")
            return None
        return changed

    def _windows(
        self, name: str, before: Node, after: Node, change: Change, quick: bool = False, builds: int = BUILDS
    ) -> Seen | None:
        name = f"{name} {len(self.trials.seen)}"
        try:
            return self.trials.pair(name, self._build(before), self._build(after), quick, builds)
        except (tf.errors.OpError, GreenloadError, ValueError, TypeError) as error:
            self._lose(change, f"it does not run: {tf_error_line(error)}")
            return None

    def _lose(self, change: Change, why: str) -> None:
        row = self.rows.get(change.key) or TriedChange(
            title=change.title, detail=change.detail, taken=False, ram_bytes=change.ram_bytes
        )
        self.rows[change.key] = replace(row, taken=False, lost=why)

    def _share(self) -> float:
        return (time.monotonic() - self.begun_s) / max(1e-9, self.seconds)

    def _held_out(self, tree: Node) -> Improvement:
        """Fresh builds of the dataset and of the improved one, and all of two epochs compared."""
        import greenload

        self.progress(1 - _LAST_SHARE, "measuring the dataset with all changes")
        seen = self.trials.pair("held out", self._build(self.root), self._build(tree))
        first = tuple(self.trials.first_epoch(self._build(one)) for one in (self.root, tree))
        compared = Comparison(elements=0, epochs=0, order="same")
        if self.taken:
            self.progress(1 - _LAST_SHARE / 2, "comparing elements")
            compared = replace(self.comparer, seconds=WHOLE_S).compare(tree)
            if not compared.equal:
                return self._none(seen, first, compared)
            if compared.epochs < EPOCHS and any(change.ram_bytes for change in self.taken):
                self.notes.append("two epochs take too long to be compared: what a cache gives later was not")
        now, later = seen.figures
        rows = sorted(self.rows.items(), key=lambda item: (not item[1].taken, self._position(item[0])))
        self.progress(1.0, "done")
        return Improvement(
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            greenload=greenload.__version__,
            name=self.name,
            epochs=self.epochs,
            ram_bytes=self.ram,
            threads=self.threads,
            demand=self.demand,
            now_cpu_s_per_sample=now,
            improved_cpu_s_per_sample=later,
            saves_cpu_s_per_sample=seen.saved.cpu_s_per_sample,
            first_epoch_cpu_s_per_sample=(first[0], first[1]),
            samples_per_s=(seen.before_per_s, seen.after_per_s),
            changes=tuple(row for _, row in rows),
            compared=compared,
            sample=self.counts.unit.text,
            notes=tuple(self.notes),
            source=self._source(tree, compared) if self.taken else "",
            recipe=tuple(self.taken),
            nodes=tuple((node.kind, node.name) for node in self.root.nodes()),
        )

    def _none(self, seen: Seen, first: Any, compared: Comparison) -> Improvement:
        """No improvement: all changes together gave other elements than the dataset."""
        for change in self.taken:
            self._lose(change, f"together with the others its elements are others: {compared.differs}")
        self.taken.clear()
        return self._held_out(self.root)

    def _position(self, key: str) -> int:
        keys = [change.key for change in self.taken]
        return keys.index(key) if key in keys else len(keys)

    def _source(self, tree: Node, compared: Comparison) -> str:
        order = "the same order" if compared.order == "same" else "any order: the dataset promises none"
        heading = [
            "The same elements at less cost, as greenload.optimize found.",
            f"{compared.elements} elements of {compared.epochs} epochs were equal bit for bit, in {order}.",
            "",
            *(f"- {change.title}: {change.detail}." for change in self.taken),
        ]
        return source_text(self.root, apply_all(self.root, tuple(self.taken)), heading)


def _both(seen: Seen) -> str:
    return f"{seen.before_cpu_s * 1e3:.4g} CPU ms a sample without it, {seen.after_cpu_s * 1e3:.4g} with it"
