"""`optimize`: the plan that spends least on a whole training, found by measuring."""

from __future__ import annotations

import os
import time
from typing import Any, overload

from greenload.energy.meters.discover import discover
from greenload.energy.sampler import Sampler
from greenload.errors import UsageError
from greenload.loading.load import check_batch
from greenload.optimization.arguments import (
    checked_bytes,
    checked_dataset,
    checked_demand,
    checked_settings,
    checked_threads,
    checked_training,
)
from greenload.optimization.candidates import candidates
from greenload.optimization.data import Optimization
from greenload.optimization.dataset_improvement import Improvement
from greenload.optimization.datasets import improve
from greenload.optimization.search_file import Kept, identity, keep, resume
from greenload.optimization.session import Progress, Session, Teller, drawn_indices, silent
from greenload.plans.pipeline import Pipeline
from greenload.profiling.page_cache import first_files
from greenload.public import public
from greenload.scalars import positive
from greenload.system.frameworks import tf


@overload
def optimize(
    pipeline: Pipeline,
    *,
    epochs: int,
    ram: int | str,
    disk: int | str | None = None,
    folder: str | os.PathLike[str] | None = None,
    demand: Any = None,
    allow: Any = (),
    objective: str = "energy",
    threads: int | None = None,
    seconds: float = 180.0,
    records: int = 512,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Optimization: ...


@overload
def optimize(
    pipeline: tf.data.Dataset,
    *,
    epochs: int,
    ram: int | str,
    demand: Any = None,
    threads: int | None = None,
    seconds: float = 180.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Improvement: ...


@public
def optimize(
    pipeline: Pipeline | tf.data.Dataset,
    *,
    epochs: int,
    ram: int | str,
    disk: int | str | None = None,
    folder: str | os.PathLike[str] | None = None,
    demand: Any = None,
    allow: Any = (),
    objective: str = "energy",
    threads: int | None = None,
    seconds: float = 180.0,
    records: int = 512,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Optimization | Improvement:
    """Find the plan that spends least on a whole training, by running the plans that promise most.

    A plan says which backend does each step, what is kept between epochs, in which form and where, and how many threads
    there are. The table of costs prices the candidates; the promising ones are built and run on drawn samples as
    ``gl.load`` runs them, by turns, and leave a race once others are certainly cheaper (`greenload.optimization.race`
    has the statistics). What counts is what the whole training would spend: starting once, the first epoch, which
    fills what is kept, and all later ones; joules of processors and memory by counters where they read, bytes from and
    to the device, memory held, and the machine's idle power while the trainer waits for the loader
    (`greenload.optimization.outlay` has the formulas). Where no counter reads, joules are modelled, and ``flips`` says
    at which coefficient another plan would be chosen.

    The winner and the runner-up are built once more and run for three epochs, on samples that nothing was decided by
    where there are enough, else with other draws. ``held_out`` has what was predicted of that run beside what it took.
    All intervals of a plan's figures are for one further run, builds' scatter included. Loading TensorFlow itself isn't
    counted: any plan does that once.

    Pixels never change, unless ``allow`` names how.

    Of a ``tf.data.Dataset`` what can change without changing elements is tried beside it, and comes back as a function
    of the dataset.

    Args:
        pipeline: what is loaded. Its ``Cache`` stages are today's plan; others are tried with and without. Or a
            ``tf.data.Dataset``, which ``disk``, ``folder``, ``allow``, ``objective``, ``records`` and ``out`` aren't
            for.
        epochs: of the training.
        ram: bytes that may be held in memory between epochs, ``"8GiB"``; 0 for nothing.
        disk: bytes that may be kept in ``folder``; None for nothing.
        folder: where they are kept; created if missing.
        demand: samples a second that the trainer takes, ``"2000/s"`` or what ``gl.demand`` measured. Plans that give
            fewer aren't chosen, and none gets more threads than it needs. None: the trainer takes what it gets.
        allow: changes of pixels that are allowed, of ``"antialias"`` (resize without a low-pass filter),
            ``"float16"`` (batches of float16 in place of float32) and ``"shrunk-cache"`` (keep images made smaller,
            though larger than what is cut out of them).
        objective: ``"energy"`` for joules of the training, ``"cpu"`` for CPU seconds of this process.
        threads: that a plan may use, at most; all processors of this process if not given.
        seconds: wall seconds that the search takes, about.
        records: different samples that it works on, at most; fewer where they are slow, and a batch at least
            where remainders are dropped.
        seed: decides which samples are drawn, and the order of windows.
        out: a file that keeps all that is measured as it comes: a search that was stopped goes on from it.
        progress: called with the share of the time that has passed, and what runs now.

    Returns:
        The plan, every plan that was considered with what it would spend and why it wasn't chosen, and notes. Of a
        dataset what makes it cheaper, callable on the dataset, with the text of the function.

    Raises:
        UsageError: an argument is out of range.
        PipelineError: no plan of the pipeline runs here, or the set has no whole batch and remainders are dropped.
        SourceError: the source can't be opened; ``RecordError`` where a drawn record is bad.
        ReportError: ``out`` is damaged, is of another search, or can't be written.

    Example:
        >>> found = optimize(train, epochs=90, ram="8GiB", demand="2000/s")
        >>> found.winner
        'native, planes in memory, 1 thread'
        >>> dataset = gl.load(found)
    """
    began_s = time.monotonic()
    if not isinstance(pipeline, Pipeline):
        beside = {
            "disk": disk, "folder": folder, "allow": allow or None, "out": out,
            "objective": None if objective == "energy" else objective, "records": None if records == 512 else records,
        }  # fmt: skip
        checked_dataset(pipeline, beside)
        asked = checked_settings(seconds=seconds, seed=seed)
        return improve(
            pipeline,
            epochs=positive(UsageError, "epochs", epochs),
            ram=checked_bytes("ram", ram),
            demand=checked_demand(demand),
            threads=checked_threads(threads),
            seconds=asked.seconds,
            seed=asked.seed,
            progress=progress,
        )
    settings = checked_settings(seconds=seconds, records=records, seed=seed)
    training = checked_training(
        pipeline, epochs=epochs, ram=ram, disk=disk, folder=folder, demand=demand, allow=allow, objective=objective,
        threads=threads,
    )  # fmt: skip
    check_batch(pipeline, training.samples)  # else trials would run, and ``load`` refuse what they found
    same = identity(pipeline, training, settings)
    before = resume(out, same)
    keep(out, before or Kept(same=same, samples=0))  # says now, not after minutes, if the file can't be written
    tell = Teller(progress or silent, settings.seconds, began_s)
    tell("pricing plans")
    options = candidates(pipeline, training)
    meters, statuses = discover(data=first_files(pipeline.source))
    with Sampler(meters) as sampler:
        indices, first_s = drawn_indices(options, settings, before, sampler, tell)
        run = Session(pipeline, training, settings, options, indices, sampler, tell, began_s)
        run.first_batch_cpu_s = first_s
        return run.carried_out(statuses, same, before, out)
