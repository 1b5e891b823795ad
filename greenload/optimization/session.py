"""A search from its first build to what users get: what is drawn, told, run held out and put together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

import greenload
from greenload.energy.domains import Domain
from greenload.energy.figures import Figure, scale
from greenload.energy.meters.base import Channel, MeterStatus
from greenload.energy.meters.storage import data_location
from greenload.energy.sampler import Sampler
from greenload.errors import PipelineError
from greenload.machine import Machine, available_memory, machine, usable_cpus
from greenload.optimization.builds import Build, Drawn
from greenload.optimization.coefficients import Coefficients, in_use
from greenload.optimization.data import Optimization
from greenload.optimization.flips import flips
from greenload.optimization.held_out import inside, other_samples, run_each, run_held_out
from greenload.optimization.pace import better, paced, samples_of
from greenload.optimization.race import Differences
from greenload.optimization.records import Candidate, HeldOut, Moved, Pace
from greenload.optimization.relaxations import moved
from greenload.optimization.search import Judged, Option, Search, on_threads
from greenload.optimization.search_file import Kept, keep, key_of
from greenload.optimization.training import Objective, Settings, Training
from greenload.optimization.trials import Trials
from greenload.optimization.verdict import Verdict, breaks
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.profiling.chosen_samples import choose_samples
from greenload.profiling.options import Options
from greenload.profiling.page_cache import first_files
from greenload.sources import Arrays, RecordSource
from greenload.text import bytes_text

Progress = Callable[[float, str], None]
"""Called with the share of the time that has passed, and what runs now, with the time that is left."""
EPOCH_SHARE = 1 / 120
"""Of the time, that an epoch of the drawn samples takes at most: fewer samples are drawn where they are slow."""
_SIZES = 128
"""Records whose sizes tell how much records differ."""


def silent(share: float, text: str) -> None:
    """Progress that nobody follows."""


class Teller:
    """Tells how far a search is.

    Args:
        progress: told.
        seconds: that it takes.
        began_s: when it began, on the monotonic clock.
    """

    def __init__(self, progress: Progress, seconds: float, began_s: float) -> None:
        self._progress, self._seconds, self._began_s = progress, seconds, began_s

    def __call__(self, text: str) -> None:
        """Tell what runs now."""
        used_s = time.monotonic() - self._began_s
        left_s = max(0.0, self._seconds - used_s)
        self._progress(min(0.99, used_s / self._seconds), f"{text}; {left_s:.0f} s left at most")

    def of_windows(self, share: float, text: str) -> None:
        """Tell what windows run now; the share is the time's."""
        self(text)

    def done(self) -> None:
        """Tell that it has ended."""
        self._progress(1.0, "done")


def _today(options: Sequence[Option]) -> Option:
    """The plan of the pipeline as it was given; the first where that isn't among the candidates."""
    return next((option for option in options if option.candidate.today), options[0])


def drawn_indices(
    options: Sequence[Option], settings: Settings, before: Kept | None, sampler: Sampler, tell: Teller
) -> tuple[NDArray[np.int64], float]:
    """The samples to work on: as many as asked for, fewer where an epoch of them takes too long; and the CPU seconds
    until the first batch of this process."""
    if not options:
        raise PipelineError("no plan of this pipeline can run here: greenload doctor says which backends can")
    plan = _today(options).plan
    batch = plan.pipeline.batch
    least = batch.size if batch and batch.drop_remainder else 1  # of fewer all would be dropped: nothing would run

    def drawn(count: int) -> NDArray[np.int64]:
        return choose_samples(plan, Options(samples=count, seed=settings.seed), least)[0]

    indices = drawn(before.samples if before and before.samples else settings.records)
    trials = Trials(indices, len(plan.pipeline.source), sampler, settings.seed, tell.of_windows)
    limit_s = EPOCH_SHARE * settings.seconds
    took_s, first_s = trials.first_build(plan, 2 * limit_s)
    if (before and before.samples) or took_s <= limit_s:
        return indices, first_s
    size = batch.size if batch else 1
    fewer = max(size, int(len(indices) * limit_s / took_s) // size * size)
    return (indices if fewer >= len(indices) else drawn(fewer)), first_s


class Session:
    """A search of checked arguments, from the first build to what users get."""

    def __init__(
        self,
        pipeline: Pipeline,
        training: Training,
        settings: Settings,
        options: Sequence[Option],
        indices: NDArray[np.int64],
        sampler: Sampler,
        tell: Teller,
        began_s: float,
    ) -> None:
        self.pipeline, self.training, self.settings = pipeline, training, settings
        self.options, self.indices, self.sampler, self.tell = options, indices, sampler, tell
        self.drawn = _drawn(pipeline, indices, training)
        self.trials = self._trials(indices)
        self.began_s = began_s
        self.first_batch_cpu_s = 0.0
        """CPU seconds until the first batch of the process's first pipeline."""
        self._facts = machine()

    def _trials(self, indices: NDArray[np.int64]) -> Trials:
        of = len(self.pipeline.source)
        return Trials(indices, of, self.sampler, self.settings.seed, self.tell.of_windows)

    def carried_out(
        self,
        statuses: Sequence[MeterStatus],
        same: Mapping[str, Any],
        before: Kept | None,
        out: str | os.PathLike[str] | None,
    ) -> Optimization:
        """Race, judge, run held out, and put it together.

        Args:
            statuses: of the meters.
            same: the search's identity.
            before: what an earlier one measured.
            out: the file that keeps it.
        """
        earlier = before.builds if before else ()
        self.trials.resume(before.idle if before else ())

        def kept(builds: Sequence[Build]) -> None:
            idle = tuple(self.trials.idle_windows)
            keep(out, Kept(same=same, samples=len(self.indices), builds=tuple(builds), idle=idle))

        search = Search(
            self.options, self.training, self.settings, self.trials, self.drawn, self._coefficients,
            available_bytes=available_memory(), builds=earlier, keep=kept, began_s=self.began_s,
        )  # fmt: skip
        verdict = search.run(self.first_batch_cpu_s)
        paces = self._paces(search, verdict)
        if (chosen := better(paces)) and verdict.winner:
            self._exclude(search, verdict, chosen)
            verdict = search.verdict()
        name = verdict.winner or verdict.nearest
        if not name:
            failed = (build.failed for build in search.builds if build.failed)
            why = next(failed, None) or next((one.lost for one in verdict.candidates if one.lost), "there was no time")
            raise PipelineError(f"no plan of this pipeline could be run: {why}")
        judged = search.judged()
        held_out, failed_runs = self._held_out(search, judged, verdict, name)
        changes = self._moved(search, verdict)
        self.tell.done()
        return _put_together(
            search, verdict, judged, name,
            statuses=statuses, facts=self._facts, held_out=held_out, moved=changes, paces=paces, key=key_of(same),
            notes=(*self._notes(search, verdict, held_out), *failed_runs),
        )  # fmt: skip

    def _coefficients(self, idle_power_w: Mapping[str, Figure]) -> Coefficients:
        files = [*first_files(self.pipeline.source), *([self.training.folder] if self.training.folder else [])]
        return in_use(
            telling_channels(self.trials.channels.values(), idle_power_w),
            cpus=usable_cpus(),
            location=data_location(files),
            idle_power_w=idle_power_w,
            memory_bytes=self._facts.memory_bytes,
        )

    def _held_out(
        self, search: Search, judged: Judged, verdict: Verdict, name: str
    ) -> tuple[tuple[HeldOut, ...], tuple[str, ...]]:
        others = other_samples(self.indices, len(self.pipeline.source), self.settings.seed)
        trials = self._trials(others)
        by_name = {candidate.name: candidate for candidate in judged.candidates}
        best = dict.fromkeys(filter(None, (name, verdict.runner_up)))
        return run_each(best, lambda one: run_held_out(search, judged, trials, search.plan(one), by_name[one]))

    def _paces(self, search: Search, verdict: Verdict) -> tuple[Pace, ...]:
        """The winner on as few threads as it has, and on as many as it may, where a counter and a demand are."""
        demand = self.training.demand
        if demand is None or not verdict.winner or not search.counted:
            return ()
        option = next(option for option in search.options if option.candidate.name == verdict.winner)
        if option.candidate.threads >= self.training.threads:
            return ()
        self.tell("racing to idle, and keeping pace")
        most = on_threads(option, self.training.threads)
        plans = {option.candidate.threads: option.plan, self.training.threads: most.plan}

        def made(plan: Plan) -> Callable[[ExitStack], Generator[int, None, None]]:
            return lambda stack: samples_of(self.trials.dataset(plan, stack), plan.pipeline.batch is not None)

        runs = {threads: made(plan) for threads, plan in plans.items()}
        return paced(runs, self.sampler, demand, self.settings.seed, self.drawn.samples)

    def _exclude(self, search: Search, verdict: Verdict, chosen: Pace) -> None:
        """Leave out the plan on the other number of threads, where a counter says that it draws more."""
        option = next(option for option in search.options if option.candidate.name == verdict.winner)
        if chosen.threads == option.candidate.threads:
            return
        why = f"on {chosen.threads} threads, racing to idle, the machine draws less at the demanded rate"
        for one in search.options:
            same_plan = replace(one.plan, threads=option.plan.threads) == option.plan
            if same_plan and one.candidate.threads < chosen.threads:
                search.excluded[one.candidate.name] = why

    def _moved(self, search: Search, verdict: Verdict) -> tuple[Moved, ...]:
        """How far pixels move by each allowed change that the best plan with it makes."""
        before = _today(search.options).plan
        found = []
        for change in self.training.allow:
            having = [one.name for one in verdict.candidates if change in one.changes and one.outlay is not None]
            alone = [name for name in having if _named(verdict, name).changes == (change,)]
            for name in (alone or having)[:1]:
                found.append(moved(before, search.plan(name), change))
        return tuple(found)

    def _notes(self, search: Search, verdict: Verdict, held_out: Sequence[HeldOut]) -> tuple[str, ...]:
        notes = list(search.notes)
        if self.drawn.share < 1:
            notes.append(
                f"Measured on {len(self.indices):,} of {len(self.pipeline.source):,} samples; what is kept is as large "
                "a part of them as fits of the set."
            )
        if not search.counted:
            notes.append(
                "No counter reads joules here, so they are modelled from CPU seconds, bytes and time; whether racing "
                "to idle or keeping pace draws less can't be told. greenload doctor says what helps."
            )
        notes.append(_on_keeping(self.pipeline, self.training, verdict.candidates))
        return tuple(filter(None, [*notes, inside(held_out)]))


def _on_keeping(pipeline: Pipeline, training: Training, candidates: Sequence[Candidate]) -> str:
    """Why no plan keeps anything; empty where one does."""
    if any(one.kept and not one.today for one in candidates):
        return ""
    if isinstance(pipeline.source, Arrays):
        return "Arrays are in memory already: nothing else is kept between epochs."
    if training.epochs == 1:
        return "One epoch reads nothing a second time: nothing is kept, and plans stream."
    if not training.ram and not training.disk:
        return "Nothing may be kept between epochs: plans stream. ram= lets them keep images."
    given = f"{bytes_text(training.ram)} of memory and {bytes_text(training.disk)} of disk"
    return f"Nothing that could be kept fits in {given}: plans stream."


def telling_channels(channels: Iterable[Channel], idle_power_w: Mapping[str, Figure]) -> list[Channel]:
    """The channels whose joules trials tell; a model has those of others.

    A counter's own joules aren't known without its idle power: where that of one domain isn't, its whole kind is left
    to the model. And drawn records lie in the page cache after their first epoch, so a device's counter sees nothing of
    what a training reads from it.

    Args:
        channels: of the meters.
        idle_power_w: where it is known, by domain.
    """
    given = list(channels)
    unknown = {
        Domain.parse(channel.domain).kind
        for channel in given
        if channel.provenance == "measured" and channel.domain not in idle_power_w
    }
    return [one for one in given if Domain.parse(one.domain).kind not in unknown | {"storage"}]


def _named(verdict: Verdict, name: str) -> Candidate:
    return next(candidate for candidate in verdict.candidates if candidate.name == name)


def _drawn(pipeline: Pipeline, indices: NDArray[np.int64], training: Training) -> Drawn:
    """What was drawn, and how records differ in size."""
    source = pipeline.source
    samples, of = len(indices) * pipeline.times, training.samples
    if isinstance(source, Arrays):
        return Drawn(samples=samples, of=of)
    some = indices[:_SIZES]
    if not (isinstance(source, RecordSource) and source.sequential) and len(indices) > _SIZES:
        some = indices[np.linspace(0, len(indices) - 1, _SIZES).astype(np.int64)]
    sizes = np.array([len(source.read(int(index))) for index in some], dtype=np.float64)
    mean = float(sizes.mean())
    return Drawn(
        samples=samples,
        of=of,
        variation=float(sizes.std()) / mean if mean else 0.0,
        file_bytes=mean / pipeline.times,
        page_cache_bytes=float(available_memory()),
    )


def _put_together(search: Search, verdict: Verdict, judged: Judged, name: str, **parts: Any) -> Optimization:
    """What users get.

    Args:
        search: that has ended.
        verdict: its end.
        judged: all its builds.
        name: of the chosen plan, or of the nearest.
        parts: statuses, facts, held_out, moved, paces, key, notes.
    """
    facts: Machine = parts["facts"]
    candidates = sorted(verdict.candidates, key=lambda candidate: candidate.name != name)
    winner, training = candidates[0], search.training
    today = next((candidate for candidate in candidates if candidate.today), None)
    return Optimization(
        created=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        greenload=greenload.__version__,
        machine=facts,
        meters=tuple(parts["statuses"]),
        training=training,
        settings=search.settings,
        planned=search.plan(name),
        candidates=tuple(candidates),
        winner=name,
        runner_up=verdict.runner_up or None,
        ties=verdict.ties,
        pareto=verdict.pareto,
        unmet="" if verdict.winner else verdict.limit or winner.lost,
        saves_j=_saved(judged, "energy", today, winner),
        saves_cpu_s=_saved(judged, "cpu", today, winner),
        coefficients=judged.coefficients,
        flips=flips(_choosable(search, candidates, name), name, training, judged.coefficients, verdict.ties),
        held_out=parts["held_out"],
        moved=parts["moved"],
        pace=parts["paces"],
        notes=parts["notes"],
        key=parts["key"],
    )


def _choosable(search: Search, candidates: Sequence[Candidate], name: str) -> list[Candidate]:
    """The measured plans that keep to the bounds, and the chosen one: only these can take its place."""
    return [
        one
        for one in candidates
        if one.outlay and (one.name == name or not (breaks(one, search.training) or one.name in search.excluded))
    ]


def _saved(judged: Judged, objective: Objective, today: Candidate | None, winner: Candidate) -> Figure:
    """What the winner spends less than today's plan on the whole training, by the rounds that both were built in."""
    if today is None or winner.outlay is None:
        return Figure.missing()
    spent = winner.outlay.energy_j if objective == "energy" else winner.outlay.cpu_s
    if today.name == winner.name:
        return Figure(0.0, 0.0, 0.0, spent.provenance, spent.systematic)
    more = Differences(judged.by_objective[objective]).figure(today.name, winner.name)
    if more.value is None or spent.value is None:
        return Figure.missing(spent.provenance, spent.systematic)
    saved = scale(more, spent.value)
    return replace(saved, provenance=spent.provenance, systematic=spent.systematic)
