"""A Keras fit under meters: the windows of its epochs and of validation, and what was spent in them."""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, TypeVar

from greenload.energy.sharing import SharedSampler, Use
from greenload.machine import machine
from greenload.profiling.in_place import publishing
from greenload.profiling.in_place.model import Buffer, read_buffers
from greenload.profiling.in_place.watched import Watched
from greenload.report.data import Report
from greenload.report.views import of_first_epoch
from greenload.system.frameworks import tf
from greenload.training.buffers import mean_buffers
from greenload.training.caches import CacheWatch, EpochKind
from greenload.training.drift import drifts
from greenload.training.fit_report import FitReport
from greenload.training.idle import find_idle_power
from greenload.training.instants import Instant, Recorder, Span, joined, spaced, span
from greenload.training.joules import SplitBasis
from greenload.training.live_steps import hand_over, samples_in, spread, unwatched, watched_in, watched_parts
from greenload.training.loader_costs import samples_of
from greenload.training.spent import Passed, Spent
from greenload.training.split import WatchedSteps, split_window
from greenload.training.timeline import SpanSpent, Timeline, timeline
from greenload.training.train_step import Steps, Waits

INTERRUPTED = "an interruption"
"""``FitReport.ended`` of a fit whose end Keras told nobody."""
_Number = TypeVar("_Number", int, float)


class Fit:
    """A fit under meters, from its first callback to its last.

    Args:
        model: the Keras model, ready to train: its ``train_function`` is replaced until `end`.
        shared: gives the sampler.
        profile: what the loader costs by step, if anyone profiled it.
        idle_s: seconds in which the idle power is measured first; more where the meters need longer windows.
        log_dir: TensorBoard's folder, if any.
        failed: called with what the training step raised. The model holds it while the fit runs.
        only: the watched datasets that the model trains on; any that work if left out.
        baseline: what steps cost before: a profile, or a fit.
        told: called with what had been counted, at each edge and every now and then, by a thread.
    """

    def __init__(
        self,
        model: Any,
        shared: SharedSampler,
        *,
        profile: Report | None,
        idle_s: float,
        log_dir: str | None,
        failed: Callable[[Fit, BaseException], None],
        only: Sequence[Watched] = (),
        baseline: Report | Spent | None = None,
        told: Callable[[Instant], None] = lambda instant: None,
    ) -> None:
        self.epochs: list[Spent] = []
        """Those that have ended."""
        self._model = model
        self._profile = profile
        self._shared = shared
        self.use: Use = shared.acquire()
        """The meters."""
        self._sampler = self.use.sampler
        self._steps: Steps | None = None
        self._watch = CacheWatch(profile)
        self._writer: Any = None
        self._only, self._all_count, self._baseline = only, not only, baseline
        self._recorder = Recorder(self._sampler, self._waits, self._buffers, told)
        try:
            idle_power, notes = find_idle_power(self._sampler, profile, idle_s)
            self._basis = SplitBasis(self._sampler.channels, idle_power, profile, notes)
            publishing.tell_idle_power({domain: idle.watts.value for domain, idle in idle_power.items()})
            if log_dir is not None:
                self._writer = tf.summary.create_file_writer(log_dir)
            if model.train_function is not None:
                self._steps = Steps(model.train_function, model, lambda error: failed(self, error), self._watch)
                model.train_function = self._steps
            self._start = self._recorder.take()
            if self._start.moments:
                self._recorder.start()
        except BaseException:
            self._put_back()
            self._release()
            raise
        self._epoch: tuple[int, Instant] | None = None
        self._passed: list[tuple[EpochKind, Passed]] = []
        self._testing: Instant | None = None
        self._validation: list[Span] = []
        self._validated: list[Span] = []

    def begin_epoch(self, epoch: int) -> None:
        """Start an epoch's window."""
        if self._steps is not None:
            self._steps.reset()
        self._validation = []
        self._epoch = (epoch, self._recorder.take())

    def begin_validation(self) -> None:
        """Start a window of validation."""
        self._testing = self._recorder.take(testing=True)

    def end_validation(self) -> None:
        """End a window of validation, if one was started."""
        if self._testing is not None:
            self._validation.append(span(self._sampler, self._testing, self._recorder.take()))
            self._testing = None

    def end_epoch(self, steps: int | None = None) -> Spent:
        """End the epoch's window, and say what was spent.

        Args:
            steps: batches of an epoch, where Keras knows them.
        """
        assert self._epoch is not None
        epoch, start = self._epoch
        self._epoch = None
        self._see_what_feeds()
        kind, passed = self._count(steps)
        self._passed.append((kind, passed))
        self._validated += self._validation
        end = self._recorder.take()
        self.epochs.append(self._split(f"epoch {epoch + 1}", (start, end), self._validation, [(kind, passed)]))
        self._last = (start, end)
        return self.epochs[-1]

    def _see_what_feeds(self) -> None:
        """Count only the watched datasets that batches come from, where that can be seen: one of a fit before may still
        fill its buffers. Of batches from elsewhere, as under a strategy, all that work count."""
        if self._all_count and self._steps is not None:
            fed = watched_in(getattr(self._steps.iterator(), "_dataset", None))
            self._only = tuple(dict.fromkeys((*self._only, *fed)))

    def end(self, ended: str) -> FitReport | None:
        """Stop, give everything back, and say what was spent; None in a fork of the process that began it."""
        try:
            if self.use.pid != os.getpid():
                return None
            if ended == INTERRUPTED:
                late = "nothing said when the fit was interrupted: its figures go on up to what closed it"
                self._basis = replace(self._basis, notes=(*self._basis.notes, late))
            self.end_validation()
            if self._epoch is not None:
                self.end_epoch()
            return self._report(self._recorder.take(), ended)
        finally:
            self._put_back()
            self._release()

    def abandon(self) -> None:
        """Give everything back where nothing is left that could ask for the report. Safe in a garbage collection."""
        self._put_back()
        if self.use.pid == os.getpid():
            # Collections run in any thread, whatever locks it holds: the sampler's own, which can't wait for its end.
            # threading.Thread takes a lock itself.
            _thread.start_new_thread(self._release, ())

    def _put_back(self) -> None:
        steps, self._steps = self._steps, None  # the two hold each other, and the model
        if steps is not None and self._model.train_function is steps:
            self._model.train_function = steps.function

    def _release(self) -> None:
        try:
            self._recorder.close()
            if self._writer is not None:
                self._writer.close()
        finally:
            self._shared.release(self.use)

    def write(self, epoch: int, spent: Spent) -> None:
        """Scalars for TensorBoard."""
        if self._writer is None:
            return
        # What tf.summary.scalar writes, which in itself needs the package tensorboard.
        kind = tf.compat.v1.SummaryMetadata(data_class="DATA_CLASS_SCALAR")
        kind.plugin_data.plugin_name = "scalars"
        with self._writer.as_default(step=epoch):
            for name, value in scalars(spent):
                tag = f"energy/{'total_j' if name == 'energy_j' else name}"
                tf.summary.write(tag, tf.constant(value, tf.float32), metadata=kind)
            for name, at_ms, watts in self._watts_over_time():
                tf.summary.write(f"energy/watts/{name}", tf.constant(watts, tf.float32), step=at_ms, metadata=kind)
        self._writer.flush()

    def _watts_over_time(self) -> Iterator[tuple[str, int, float]]:
        """Of the last epoch: what drew, up to which millisecond of the fit, and how many watts."""
        spent = self.epochs[-1]
        seen = self._timeline(*self._last, spent) if spent.is_watched else None
        if seen is None:
            return
        ends_ms: list[int] = []
        for end_s in seen.end_s:  # two spans may end in the same millisecond
            ends_ms.append(max(round(end_s * 1000), ends_ms[-1] + 1 if ends_ms else 0))
        for row in seen.rows:
            spans = zip(ends_ms, row.watts, strict=True)
            yield from ((row.name, end_ms, watts) for end_ms, watts in spans if watts is not None)

    def _count(self, steps: int | None) -> tuple[EpochKind, Passed]:
        if self._steps is None:
            return "unknown", Passed(None, None, None, ("what passed isn't known: only model.fit shows its batches",))
        passed = self._steps.passed(steps)
        if self._model.train_function is not self._steps:
            why = "what passed isn't known: during the fit the model was compiled anew, or got another EnergyCallback"
            return "unknown", Passed(None, None, None, (why,))
        kind, why = self._watch.end(passed, ended=self._steps.ended)
        return kind, replace(passed, unknown_kind=(why,)) if why else passed

    def _report(self, end: Instant, ended: str) -> FitReport:
        profile = self._profile
        whole = self._split("fit", (self._start, end), self._validated, self._passed)
        return FitReport(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine(),
            meters=self.use.statuses,
            model=str(getattr(self._model, "name", "") or type(self._model).__name__),
            profile="" if profile is None else f"{profile.pipeline.get('name') or 'a pipeline'}, {profile.created}",
            fit=whole,
            epochs=tuple(self.epochs),
            ended=ended,
            timeline=self._timeline(self._start, end, whole),
            drift=drifts(whole, self._baseline if self._baseline is not None else profile),
        )

    def _split(
        self,
        name: str,
        ends: tuple[Instant, Instant],
        validation: Sequence[Span],
        epochs: Sequence[tuple[EpochKind, Passed]],
    ) -> Spent:
        instants = self._recorder.between(*ends)
        whole = span(self._sampler, *ends)
        passed = _joined_epochs([passed for _, passed in epochs])
        watched = self._watched(whole, validation, instants)
        fed = self._fed(epochs)
        samples = None if self._profile is None else samples_of(self._profile, passed)[0]
        return split_window(
            name,
            whole.window,
            [inner.window for inner in validation],
            passed,
            self._basis,
            fed=fed,
            watched=replace(watched, hand_over=tuple(hand_over(self._by_kind(fed, passed))), samples=samples),
        )

    def _watched(self, whole: Span, validation: Sequence[Span], instants: Sequence[Instant]) -> WatchedSteps:
        """What clocks saw between the first and the last of some instants."""
        used = whole.without(validation)
        training = [(start, end) for start, end in pairwise(instants) if not start.testing]
        apart = [span(self._sampler, *pair).used for pair in training]
        return WatchedSteps(
            steps=tuple(watched_parts(used, apart, self._only, self._profile)),
            in_validation=tuple(watched_parts(joined(validation), [inner.used for inner in validation])),
            buffers=mean_buffers(instant.buffers for instant in instants if not instant.testing),
            unwatched=unwatched(used, self._only),
        )

    def _timeline(self, start: Instant, end: Instant, whole: Spent) -> Timeline | None:
        """Power over time between two instants, of which all is known; None where nothing was watched."""
        if not (whole.is_watched or whole.validation_steps):
            return None
        pairs = list(pairwise(spaced(self._recorder.between(start, end))))
        done = [span(self._sampler, *pair) for pair in pairs]
        samples = [
            0.0 if begin.testing else samples_in(one.used, self._only)
            for (begin, _), one in zip(pairs, done, strict=True)
        ]
        # A span alone is too short to be held against the profile: that was done for the whole.
        basis = replace(self._basis, profile=None)
        profile = None if whole.does_not_fit else self._profile
        spans = [
            self._span(pair, one, WatchedSteps(tuple(watched_parts(one.used, (), self._only, profile)), beside), basis)
            for pair, one, beside in zip(pairs, done, spread(whole.hand_over, samples), strict=True)
        ]
        return timeline(spans, whole.total)

    def _span(self, ends: tuple[Instant, Instant], done: Span, seen: WatchedSteps, basis: SplitBasis) -> SpanSpent:
        start, end = ends
        waited_s = None
        if start.waits is not None and end.waits is not None and not end.waits.blind:
            waited_s = end.waits.seconds - start.waits.seconds
        seen = replace(seen, buffers=end.buffers)
        spent = split_window("", done.window, [], Passed(None, None, waited_s), basis, fed=[], watched=seen)
        since_s = (done.window.start_ns - self._start.mark.clocks.monotonic_ns) / 1e9
        return SpanSpent(since_s, start.testing, spent)

    def _waits(self) -> Waits | None:
        steps = self._steps
        return None if steps is None else steps.waits()

    def _buffers(self) -> tuple[Buffer, ...]:
        steps = self._steps
        return () if steps is None or steps.ended else read_buffers(steps.iterator())

    def _fed(self, epochs: Sequence[tuple[EpochKind, Passed]]) -> list[tuple[Report, Passed]] | None:
        """What passed, by what a sample costs: empty where unknown of an epoch, None where all cost the same."""
        profile, kinds = self._profile, {kind for kind, _ in epochs}
        if profile is None or kinds <= {"later"}:
            return None
        if "unknown" in kinds:
            return []
        by_kind = {kind: _joined_epochs([passed for of, passed in epochs if of == kind]) for kind in ("first", "later")}
        first = [(of_first_epoch(profile), by_kind["first"])]
        return first + ([(profile, by_kind["later"])] if "later" in kinds else [])

    def _by_kind(
        self, fed: Sequence[tuple[Report, Passed]] | None, passed: Passed
    ) -> list[tuple[Report, float | None]]:
        """What `_fed` gives, with the profile's samples that passed."""
        if fed is None:
            fed = [] if self._profile is None else [(self._profile, passed)]
        return [(profile, samples_of(profile, of_kind)[0]) for profile, of_kind in fed]


def _sum(values: Iterable[_Number | None]) -> _Number | None:
    numbers = list(values)
    return None if None in numbers else sum(number for number in numbers if number is not None)


def _joined_epochs(parts: list[Passed]) -> Passed:
    return Passed(
        batches=_sum(part.batches for part in parts),
        samples=_sum(part.samples for part in parts),
        waiting_s=_sum(part.waiting_s for part in parts),
        unknown=tuple(dict.fromkeys(why for part in parts for why in part.unknown)),
        unknown_kind=tuple(dict.fromkeys(why for part in parts for why in part.unknown_kind)),
        ranks=parts[0].ranks if len({part.ranks for part in parts}) == 1 else (),
    )


def scalars(spent: Spent) -> Iterator[tuple[str, float]]:
    """What is known of an epoch: names and numbers, for logs."""
    named = [
        ("energy_j", spent.total),
        ("loader_j", spent.loader),
        ("waiting_j", spent.waiting),
        ("model_j", spent.model),
    ]
    named += [(f"loader/{step.name}_j", step) for step in spent.steps]
    named += [(f"validation/{step.name}_j", step) for step in spent.validation_steps]
    for name, part in named:
        if part.energy_j and (value := part.total_j.value) is not None:
            yield name, value
    if spent.passed.waiting_s is not None:
        yield "waiting_s", spent.passed.waiting_s
    if spent.loader.cpu_s is not None and spent.loader.cpu_s.value is not None:
        yield "loader_cpu_s", spent.loader.cpu_s.value
    if spent.buffered_bytes is not None and spent.is_watched:
        yield "loader/buffered_bytes", spent.buffered_bytes
