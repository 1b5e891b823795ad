"""What each step of a pipeline costs: paired replays, prefixes and held-out full runs, under meters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.backends.tables import in_tf_data
from greenload.energy.attribution.attribute import attribute
from greenload.energy.attribution.costs import Attribution
from greenload.energy.attribution.observation import Metering, Observation
from greenload.energy.attribution.precision import check_precision
from greenload.energy.attribution.quantity import NEGLIGIBLE
from greenload.energy.meters.base import MeterStatus
from greenload.energy.meters.discover import discover
from greenload.energy.sampler import Sampler
from greenload.errors import PipelineError, SourceError, UsageError
from greenload.loading.load import require
from greenload.loading.record_errors import record_error
from greenload.loading.survey import warn_of_losses
from greenload.loading.tf_reading import CHUNK
from greenload.loading.verify import verify
from greenload.machine import machine
from greenload.planning.choose import make_plan
from greenload.planning.split import Split
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan
from greenload.profiling.advice import alternatives, automatic
from greenload.profiling.campaign import Campaign
from greenload.profiling.pace import Announce, Pace
from greenload.profiling.page_cache import ColdFiles, Dropped, files_of, some_of
from greenload.profiling.step_rows import by_epoch
from greenload.profiling.tfdata import units
from greenload.profiling.tfdata.advice import best, measured
from greenload.profiling.tfdata.files import some_files
from greenload.profiling.tfdata.profile import is_dataset, profile_dataset
from greenload.profiling.windows import Progress
from greenload.public import public
from greenload.report.costs import whole_costs
from greenload.report.data import Advice, ColdRun, Report, Skipped
from greenload.sources import Arrays, RecordSource, formats
from greenload.stages import Stage

if TYPE_CHECKING:
    import tensorflow as tf

Watch = Callable[[Sampler, Sequence[MeterStatus]], AbstractContextManager[object]]
"""Makes what is entered while a profile's meters run."""
SAMPLES = 512
"""Different samples that a profile works on, at most."""
CAPTURED_BYTES = 1 << 30
"""Bytes of captured samples held in memory at once, at most: fewer samples are taken where they are large."""
ROUNDS = 5
"""Rounds of adjacent windows on each of two builds."""
TRIED = 3
"""Changes that are tried, at most: each takes some ten seconds."""


@public
def profile(
    pipeline: Pipeline | Plan | Split | tf.data.Dataset,
    backend: str | Mapping[str, str] = "auto",
    *,
    threads: int | None = None,
    samples: int = SAMPLES,
    rounds: int = ROUNDS,
    seed: int = 0,
    name: str | None = None,
    on_error: str = "raise",
    precision: float | None = None,
    cold: bool = False,
    samples_per_element: float | str | None = None,
    progress: Progress | None = None,
    announce: Announce | None = None,
    watch: Watch | None = None,
) -> Report:
    """Measure what each step of a pipeline, or of any ``tf.data.Dataset``, costs, and check the sum against the whole.

    A fixed set of samples is drawn from the source and verified; all windows work on it, with the draws of epoch 0. A
    step on pixels is measured by paired replay: its captured input runs in adjacent windows with and without it.
    Reading, and caches, are measured by prefixes of the pipeline. The full pipeline runs in between, held out: what
    it costs beyond the steps' sum is reported as unattributed. Where it has a cache, the report's figures are those of
    later epochs, which read it, and ``first_epoch`` holds those of the epoch that fills it.

    Last, changes that may be worth making (a cache, the end handed to the model, resizing without a filter, steps on
    the backends that ``"auto"`` would choose) are tried beside it in adjacent windows: ``advice``.

    A ``tf.data.Dataset`` is taken apart into its chain: each transformation that does work has a row, named by the
    user's function (a lambda's text, a Keras layer's name), ``name=``, or the user's call of a library, and its place;
    ``Step.branch`` tells side branches (``zip``, …) and the inside of an ``interleave``. It is built again from
    TensorFlow's own operations with the functions as they are traced, and run over and over; elements are counted at
    every node, so that figures are per sample that leaves it: a row of a batch, or an element where no step makes
    batches (``plan["sample"]`` says which). Sources, caches, interleaves and steps that are cheap and large beside all
    before them are measured by prefixes, the rest by replay. ``skipped`` lists what can't be seen, what gave no element
    while elements were counted (a branch of a join that is empty, or comes too late), and what filters throw away.
    ``advice`` names frozen random numbers, then up to three changes that save most; functions may be traced again.

    The dataset gives the same elements afterwards as if never profiled, also after an error or Ctrl-C: shuffles' and
    caches' state is the copies' own; variables, tables and generators of random numbers that its functions use, and
    the global ones, are put back; what a generator used up, or a function wrote to files, is not. Where ``AUTOTUNE``
    would choose, numbers are fixed, since a change moves work from window to window: as many calls as ``threads``, 2
    elements held by prefetch (``plan["autotune"]``). Its options are kept.

    Args:
        pipeline: what to profile, a plan of it, or a dataset. Of what ``split_for_device`` gives both sides are shown:
            the last row is the layer on the device that Keras uses, and the whole runs through it.
        backend: as in ``load``; not for a dataset.
        threads: as in ``load``; for a dataset, what stands for ``AUTOTUNE``; all processors if not given.
        samples: different samples to work on, at most; fewer where the source is smaller or they would fill the memory,
            or where a dataset takes too long for them, which ``skipped`` says. No pass takes more of a dataset whose
            Python generator has no known length (``take`` or ``assert_cardinality`` tells it): its epoch isn't counted.
        rounds: rounds of windows on each build, at least 2. More make intervals narrower.
        seed: decides which samples are drawn, and the order of windows.
        name: a name for the report's ``pipeline``.
        on_error: ``"raise"``, or ``"skip"`` to leave bad records out, which the report lists; not for a dataset.
        precision: how narrow intervals are to be: 0.05 for ±5 % of each step, or ±1 % of the whole where that is more,
            in CPU seconds and in measured joules. Independent builds are then measured one after another until that
            is reached, at most 8; without it there are two. 0.02 is the least. ``report.precision`` says what was
            reached.
        cold: drop the files' pages from the page cache before each window that reads them, so that reading comes from
            the device; ``report.cold`` says what could not be dropped. Of a dataset those files that its graph names.
        samples_per_element: samples in an element of a dataset, on average, or ``"rows"`` to count the rows of each:
            where its graph can't tell. Left out, rows are counted of the batches that ``batch`` and its kin,
            ``rebatch``, ``bucket_by_sequence_length`` and ``group_by_window`` make, and otherwise elements.
        progress: called with the share done and what runs now.
        announce: told how long it will take, where a precision is wanted; of a dataset always, with the number of its
            passes and the samples in each.
        watch: called with the sampler and what is known of its meters; what it gives is entered while they run, to show
            their counters meanwhile.

    Returns:
        Figures per sample, each with its 95 % interval and provenance: CPU seconds, joules by domain, bytes read.

    Raises:
        PipelineError: the backend can't hold the pipeline.
        SourceError: the source can't be opened; ``RecordError`` where a drawn record is bad. A dataset raised, or gave
            no element for a minute.
        BackendUnavailable: the backend can't run here.
        UsageError: an argument is out of range, or a dataset is empty.

    Example:
        >>> report = profile(train)
        >>> report.steps[1].name, report.steps[1].cpu_s_per_sample.value
        ('Decode + crop', 0.00079)
    """
    count, turns, key = map(scalars.whole, (samples, rounds, seed))
    if count is None or turns is None or count < 1 or turns < 2:
        raise UsageError(f"samples must be at least 1 and rounds at least 2, not {samples!r} and {rounds!r}")
    if key is None or key < 0:
        raise UsageError(f"seed must be a whole number from 0, not {seed!r}")
    samples, rounds, seed = count, turns, key
    if on_error not in ("raise", "skip"):
        raise UsageError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
    if precision is not None:
        precision = check_precision(scalars.number(precision) or precision)
    split = pipeline if isinstance(pipeline, Split) else None
    if isinstance(pipeline, Split):
        pipeline = pipeline.pipeline
        if pipeline.batch is None:
            raise PipelineError("a model takes batches, but the pipeline that was split has no Batch: add Batch(32)")
    per_element = units.check(samples_per_element)
    if not isinstance(pipeline, Pipeline | Plan):
        if not is_dataset(pipeline):
            raise UsageError(f"profile takes a Pipeline, a Plan or a tf.data.Dataset, not {type(pipeline).__name__}")
        if (backend != "auto" and not in_tf_data(backend)) or on_error != "raise":
            raise UsageError(
                "a tf.data.Dataset runs on TensorFlow and raises what it raises: leave backend and on_error out"
            )
        threads = None if threads is None else scalars.positive(UsageError, "threads", threads)
        return _of_dataset(
            pipeline, name, watch, threads=threads, samples=samples, rounds=rounds, seed=seed, precision=precision,
            cold=cold, samples_per_element=per_element, told=progress or _silent, announce=announce,
        )  # fmt: skip
    if per_element is not None:
        raise UsageError("samples_per_element is for a tf.data.Dataset, a Pipeline's samples are images: leave it out")
    plan = pipeline if isinstance(pipeline, Plan) else make_plan(pipeline, backend, threads=threads)
    require(plan)
    warn_of_losses(plan, skipped=on_error == "skip")
    meters, statuses = discover(data=some_of(plan.pipeline.source))
    told = progress or _silent
    told(0.0, "choosing samples")
    indices, skipped = _choose(plan, samples, seed, on_error, told)
    files = ColdFiles(files_of(plan.pipeline.source, indices)) if cold else None
    with Sampler(meters) as sampler, (watch or _unwatched)(sampler, statuses):
        campaign = Campaign(plan, indices, sampler, rounds, seed, told, split, files)

        def given() -> dict[str, Any]:
            return {
                "domains": _domains(sampler),
                "idle_power_w": sampler.idle_power_w,
                "isolation_bias": campaign.out_of_place,
            }

        def attributed(seen: Sequence[Observation]) -> Attribution:
            return attribute(seen, steps=[step.name for step in campaign.steps], **given())

        pace = Pace(precision, attributed, announce)
        pace.plan(campaign, len(campaign.steps), rounds)
        try:
            campaign.measure(pace.further)
        except Exception as error:  # TensorFlow's own classes, whose text may name a record that went bad since
            raise record_error(str(error), plan.pipeline.source, plan) or error from None
        attribution = attributed(campaign.seen)
        reached = pace.found(attribution, campaign.seen)
        advice = () if split else _advice(campaign, attribution, _domains(sampler), _decoded_bytes(plan, indices))
        shown, rows = by_epoch(campaign, attribution, given())
    told(1.0, "done")
    described = _described(plan.pipeline) | ({"name": name} if name else {})
    return _report(
        shown,
        meters=tuple(statuses),
        pipeline=described,
        plan=plan.to_dict() | {"steps": [step.to_dict() for step in campaign.steps]},
        samples=len(indices),
        **rows,
        skipped=skipped,
        advice=advice,
        precision=reached,
        cold=_cold(campaign.dropped),
        windows=tuple(campaign.seen),
    )


def _advice(
    campaign: Campaign, attribution: Attribution, domains: Mapping[str, Metering], decoded_bytes: float
) -> tuple[Advice, ...]:
    """Try the changes that promise most beside the pipeline as it is."""
    import psutil

    plan = campaign.plan
    full_s = attribution.full.cpu_s_per_sample.value or 0.0
    costs = {step.name: step.cost.cpu_s_per_sample.value or 0.0 for step in attribution.steps}
    free_bytes = float(psutil.virtual_memory().available)
    found = alternatives(plan, costs, decoded_bytes=decoded_bytes, free_bytes=free_bytes)
    found += [other] if (other := automatic(plan, costs)) else []
    found.sort(key=lambda one: one.expected_s, reverse=True)
    tried = [one for one in found if one.expected_s > NEGLIGIBLE * full_s and not one.plan.on_gpu][:TRIED]
    for one in tried:
        campaign.trial(one.title, one.plan)
    return best((measured(one.title, one.detail, campaign.seen, domains) for one in tried), full_s)


def _of_dataset(dataset: tf.data.Dataset, name: str | None, watch: Watch | None, **options: Any) -> Report:
    """The report of a dataset; ``options`` as for `profile_dataset`."""
    meters, statuses = discover(data=some_files(dataset))
    with Sampler(meters) as sampler, (watch or _unwatched)(sampler, statuses):
        found = profile_dataset(dataset, sampler, _domains(sampler), **options)
    return _report(
        found.attribution,
        meters=tuple(statuses),
        pipeline=dict(found.pipeline) | {"name": name or "tf.data.Dataset"},
        plan=found.plan,
        samples=found.samples,
        steps=found.steps,
        first_epoch=found.first_epoch,
        caches=found.caches,
        iterator_start=found.iterator_start,
        skipped=found.skipped,
        advice=found.advice,
        precision=found.precision,
        cold=_cold(found.dropped),
        windows=found.windows,
    )


def _silent(share: float, text: str) -> None:
    """Progress that nobody follows."""


def _unwatched(*_: object) -> AbstractContextManager[object]:
    return nullcontext()


def _cold(dropped: Sequence[Dropped]) -> ColdRun | None:
    """What a report says of dropping files, at its worst; None where none were to be."""
    if not dropped:
        return None
    stayed = [one.resident_bytes for one in dropped]
    most = None if None in stayed else max(one or 0 for one in stayed)
    problem = next((one.problem for one in dropped if one.problem), "")
    return ColdRun(dropped[0].files, dropped[0].bytes, most, problem)


def _domains(sampler: Sampler) -> dict[str, Metering]:
    return {name: Metering(channel.provenance, channel.systematic) for name, channel in sampler.channels.items()}


def _report(attribution: Attribution, **found: Any) -> Report:
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        **whole_costs(attribution),
        **found,
    )


def _described(pipeline: Pipeline) -> dict[str, Any]:
    """The pipeline's ``to_dict()``; a stage that can't be described, as a function without a name, as it is shown."""

    def described(stage: Stage) -> dict[str, Any]:
        try:
            return stage.to_dict()
        except PipelineError:
            return {"stage": str(stage)}

    empty = Pipeline(pipeline.source, seed=pipeline.seed).to_dict()
    return empty | {"stages": [described(stage) for stage in pipeline.stages]}


def _choose(
    plan: Plan, samples: int, seed: int, on_error: str, told: Progress
) -> tuple[NDArray[np.int64], tuple[Skipped, ...]]:
    """Which samples to work on, ascending, and which were left out as bad.

    Drawn at random; fewer where they would fill the memory; a whole number of batches where there are enough.
    """
    source = plan.pipeline.source
    skipped: tuple[Skipped, ...] = ()
    good = np.arange(len(source))
    check = partial(
        verify, source, plan.threads, backend=plan.decoder, max_bytes=plan.pipeline.max_bytes,
        truncated=plan.pipeline.truncated, readers=plan.readers,
    )  # fmt: skip
    if on_error == "skip":
        found = check(lambda done, total: told(0.0, f"checking every image: {done} of {total}"))
        skipped = tuple(Skipped(error.path, error.reason) for error in found.bad)
        good = np.setdiff1d(good, np.array(found.bad_indices, np.int64))
        if not len(good):
            raise SourceError(f"all {found.samples} records are bad; the first: {found.bad[0]}")
    drawn = _drawn(plan.pipeline, good, np.random.default_rng(seed))[:samples]
    drawn = drawn[: max(1, int(CAPTURED_BYTES / _image_bytes(plan, drawn)))]
    batch = plan.pipeline.batch
    if batch and len(drawn) > batch.size:
        drawn = drawn[: len(drawn) // batch.size * batch.size]
    chosen = np.sort(drawn).astype(np.int64)
    if on_error == "raise" and not isinstance(source, Arrays):
        # The samples run over and over without an end: a bad one would have to be found again in each turn.
        bad = check(indices=chosen).bad
        if bad:
            raise bad[0]
    return chosen, skipped


def _drawn(pipeline: Pipeline, good: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """Good samples in random order; where the pipeline reads neighbours together, in blocks of neighbours."""
    if not isinstance(pipeline.source, RecordSource) or (pipeline.shuffle and pipeline.shuffle.block is None):
        return random.permutation(good)
    if pipeline.source.sequential:
        return good  # whatever lies before the last one would be decompressed as well
    block = pipeline.shuffle.block if pipeline.shuffle and pipeline.shuffle.block else CHUNK
    parts = [good[begin : begin + block] for begin in range(0, len(good), block)]
    return np.concatenate([parts[i] for i in random.permutation(len(parts))])


def _image_bytes(plan: Plan, drawn: NDArray[np.int64]) -> float:
    """Bytes of a captured image, the most that any step may hold: decoded pixels, or the pipeline's widest spec."""
    # Four bytes a value: resized pixels on their way to float are carried as float.
    widest = max((4 * (step.spec_out.image_bytes() or 1) for step in plan.steps), default=1)
    return max(float(widest), _decoded_bytes(plan, drawn))


def _decoded_bytes(plan: Plan, drawn: NDArray[np.int64]) -> float:
    """Mean bytes of a decoded image, by the headers of a few; 1 where records aren't encoded."""
    decoded = []
    for index in drawn[:32]:
        record = plan.pipeline.source.read(int(index))
        if isinstance(record, bytes):
            try:
                header = formats.opened(record, truncated=plan.pipeline.truncated)[1]
            except formats.FormatError:
                continue  # the run names it
            decoded.append(header.height * header.width * 3)
    return float(np.mean(decoded or [1]))
