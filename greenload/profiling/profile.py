"""What each step of a pipeline costs: paired replays, prefixes and held-out runs of the whole, under meters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from greenload import scalars
from greenload.backends.tables import in_tf_data
from greenload.energy.attribution.costs import Attribution
from greenload.energy.attribution.quantity import NEGLIGIBLE
from greenload.energy.meters.discover import discover
from greenload.energy.sampler import Sampler
from greenload.errors import PipelineError, UsageError
from greenload.loading.load import require
from greenload.loading.record_errors import record_error
from greenload.loading.survey import warn_of_losses
from greenload.planning.choose import make_plan
from greenload.planning.device_split import Split
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Plan, Planned, plan_in
from greenload.profiling.advice import alternatives, most_saving, placed_by_auto, trial_advice
from greenload.profiling.chosen_samples import choose_samples, decoded_bytes
from greenload.profiling.in_place.clocked_copy import clocked_copy
from greenload.profiling.options import ROUNDS, SAMPLES, Announce, Options, Watch, silent, unwatched
from greenload.profiling.pace import Pace
from greenload.profiling.page_cache import ColdFiles, files_of, first_files
from greenload.profiling.pipeline_campaign import PipelineCampaign
from greenload.profiling.report_rows import make_report, pipeline_rows
from greenload.profiling.separate_cache import separate_cache
from greenload.profiling.tfdata.files import some_files
from greenload.profiling.tfdata.profile import is_dataset, profile_dataset
from greenload.profiling.windows import Progress
from greenload.public import public
from greenload.report.data import Advice, Report
from greenload.stages import Stage
from greenload.system.frameworks import tf

TRIED = 3
"""Changes that are tried, at most: each takes some ten seconds."""


@public
def profile(
    pipeline: Pipeline | Plan | Planned | Split | tf.data.Dataset,
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
    step with a clock is measured in place, while the whole pipeline runs: reading, and steps on pixels of ``native``
    and ``pillow``, and of ``dali`` where it does one alone. Other steps are measured by paired replay: their captured
    input runs in adjacent windows with and without them. The last row, ``hand-over``, is what the whole takes beside
    them. The whole pipeline runs once more, held out: what it costs beyond the rows' sum is reported as unattributed.
    Where it has a cache, all is measured by replay, and by prefixes of the pipeline. The report's figures are then
    those of later epochs, which read the cache, and ``first_epoch`` holds those of the epoch that fills it.

    Last, changes that may be worth making (a cache, the end moved to the model, resizing without a filter, steps on
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
        pipeline: what to profile, a plan of it, what ``gl.optimize`` found, or a dataset. Of what ``split_for_device``
            gives both sides are shown: the last step is the layer on the device that Keras uses, and the whole runs
            through it.
        backend: as in ``load``; not for a dataset.
        threads: as in ``load``; for a dataset, what stands for ``AUTOTUNE``; all processors if not given.
        samples: different samples to work on, at most; fewer where the source is smaller or they would fill the memory,
            or where a dataset takes too long for them, which ``skipped`` says. No pass takes more of a dataset whose
            Python generator has no known length (``take`` or ``assert_cardinality`` tells it): its epoch isn't counted.
        rounds: rounds of windows on each build, at least 2; two fifths of them, but at least 2, where steps are
            measured in place, on more and shorter builds. More make intervals narrower.
        seed: decides which samples are drawn, and the order of windows.
        name: a name for the report's ``pipeline``.
        on_error: ``"raise"``, or ``"skip"`` to leave bad records out, which the report lists; not for a dataset.
        precision: how narrow intervals are to be: 0.05 for ±5 % of each step, or ±1 % of the whole where that is more,
            in CPU seconds and in measured joules. Independent builds are then measured one after another until that
            is reached, at most 8 (in place 3 to 30); without it there are two (in place five). 0.02 is the least.
            ``report.precision`` says what was reached.
        cold: drop the files' pages from the page cache before each window that reads them, so that reading comes from
            the device; ``report.cold`` says what could not be dropped. Of a dataset those files that its graph names.
        samples_per_element: samples in an element of a dataset, on average, or ``"rows"`` to count the rows of each:
            where its graph can't tell. Left out, rows are counted of the batches that ``batch`` and its kin,
            ``rebatch``, ``bucket_by_sequence_length`` and ``group_by_window`` make, and otherwise elements.
        progress: called with the share done and what runs now.
        announce: told how long it will take, where a precision is wanted, and after the first builds if that looks out
            of reach; of a dataset always, with the number of its passes and the samples in each.
        watch: called with the sampler and what is known of its meters; what it gives is entered while they run, to show
            their counters meanwhile.

    Returns:
        Figures per sample, each with its 95 % interval and provenance: CPU seconds, joules by domain, bytes read.

    Raises:
        PipelineError: the backend can't hold the pipeline, or it has ``Echo`` behind a ``Cache`` on backend
            ``"native"``, which isn't measured.
        SourceError: the source can't be opened; ``RecordError`` where a drawn record is bad. A dataset raised, or gave
            no element for a minute.
        BackendUnavailable: the backend can't run here.
        UsageError: an argument is out of range, or a dataset is empty.

    Example:
        >>> report = profile(train)
        >>> report.steps[1].name, report.steps[1].cpu_s_per_sample.value
        ('Decode + crop', 0.00079)
    """
    options = Options(
        backend=backend,
        threads=threads,
        samples=samples,
        rounds=rounds,
        seed=seed,
        name=name,
        on_error=on_error,
        precision=precision,
        cold=cold,
        samples_per_element=samples_per_element,
        progress=progress or silent,
        announce=announce,
        watch=watch or unwatched,
    )
    given = plan_in(pipeline)
    if isinstance(given, Pipeline | Plan | Split):
        return profile_pipeline(given, options)
    return _of_dataset(given, options)


def _check_cache(plan: Plan) -> None:
    """A cache that keeps files is measured inside TensorFlow's graph, where no backend echoes images."""
    kept = next((step for step in plan.steps if step.keeps), None)
    if kept is not None and kept.serves > 1:
        raise PipelineError(
            f"profile doesn't measure a Cache on backend {kept.backend!r} with Echo(times={kept.serves}) behind it: "
            "profile the pipeline without Echo, or without Cache"
        )


def profile_pipeline(given: Pipeline | Plan | Split, options: Options) -> Report:
    """As `profile`, of a pipeline and with options that are checked."""
    device_split = given if isinstance(given, Split) else None
    pipeline = given.pipeline if isinstance(given, Split) else given
    if isinstance(pipeline, Pipeline) and device_split is not None and pipeline.batch is None:
        raise PipelineError("a model takes batches, but the pipeline that was split has no Batch: add Batch(32)")
    if options.samples_per_element is not None:
        raise UsageError("samples_per_element is for a tf.data.Dataset, a Pipeline's samples are images: leave it out")
    plan = pipeline if isinstance(pipeline, Plan) else make_plan(pipeline, options.backend, threads=options.threads)
    require(plan)
    _check_cache(plan)
    warn_of_losses(plan, skipped=options.on_error == "skip")
    meters, statuses = discover(data=first_files(plan.pipeline.source))
    options.progress(0.0, "choosing samples")
    indices, skipped = choose_samples(plan, options)
    cold = ColdFiles(files_of(plan.pipeline.source, indices)) if options.cold else None
    with separate_cache(plan) as apart, Sampler(meters) as sampler, options.watch(sampler, statuses):
        campaign = PipelineCampaign(apart, indices, sampler, options, device_split, cold)
        pace = Pace(options.precision, campaign.attributed, options.announce)
        pace.plan(campaign, len(campaign.steps), options.rounds, partial(campaign.bounded, options))
        try:
            campaign.measure(pace.further)
        except Exception as error:  # TensorFlow's own classes, whose text may name a record that went bad since
            raise record_error(str(error), plan) or error from None
        attribution = campaign.attributed(campaign.seen)
        reached = pace.reached(attribution, campaign.seen)
        advice = () if device_split or not options.advise else _advice(campaign, attribution)
        shown, rows = pipeline_rows(campaign, attribution)
    options.progress(1.0, "done")
    return make_report(
        shown,
        campaign.dropped,
        meters=tuple(statuses),
        pipeline=_described(plan.pipeline) | ({"name": options.name} if options.name else {}),
        plan=plan.to_dict() | {"steps": [step.to_dict() for step in (*plan.steps, *campaign.steps[len(plan.steps) :])]},
        samples=len(indices),
        **rows,
        skipped=skipped,
        advice=advice,
        precision=reached,
        windows=tuple(campaign.seen),
    )


def _of_dataset(dataset: tf.data.Dataset, options: Options) -> Report:
    if not is_dataset(dataset):
        raise UsageError(f"profile takes a Pipeline, a Plan or a tf.data.Dataset, not {type(dataset).__name__}")
    if (options.backend != "auto" and not in_tf_data(options.backend)) or options.on_error != "raise":
        raise UsageError(
            "a tf.data.Dataset runs on TensorFlow and raises what it raises: leave backend and on_error out"
        )
    if options.threads is not None:
        options = replace(options, threads=scalars.positive(UsageError, "threads", options.threads))
    meters, statuses = discover(data=some_files(dataset))
    with Sampler(meters) as sampler, options.watch(sampler, statuses):
        return profile_dataset(dataset, sampler, statuses, options, clocked_copy)


def _advice(campaign: PipelineCampaign, attribution: Attribution) -> tuple[Advice, ...]:
    """Try the changes that promise most beside the pipeline as it is."""
    import psutil

    plan = campaign.plan
    full_s = attribution.full.cpu_s_per_sample.value or 0.0
    costs = {step.name: step.cost.cpu_s_per_sample.value or 0.0 for step in attribution.steps}
    free_bytes = float(psutil.virtual_memory().available)
    image_bytes = decoded_bytes(plan, campaign.indices)
    changes = alternatives(plan, costs, decoded_bytes=image_bytes, free_bytes=free_bytes)
    changes += [placed] if (placed := placed_by_auto(plan, costs)) else []
    changes.sort(key=lambda change: change.expected_s, reverse=True)
    worth = [change for change in changes if change.expected_s > NEGLIGIBLE * full_s and not change.plan.on_gpu]
    tried = worth[:TRIED]
    for change in tried:
        campaign.trial(change.title, change.plan)
    saved = (trial_advice(change.title, change.detail, campaign.seen, campaign.domains) for change in tried)
    return most_saving(saved, full_s)


def _described(pipeline: Pipeline) -> dict[str, Any]:
    """The pipeline's ``to_dict()``; a stage that can't be described, as a function without a name, as it is shown."""

    def described(stage: Stage) -> dict[str, Any]:
        try:
            return stage.to_dict()
        except PipelineError:
            return {"stage": str(stage)}

    empty = Pipeline(pipeline.source, seed=pipeline.seed).to_dict()
    return empty | {"stages": [described(stage) for stage in pipeline.stages]}
