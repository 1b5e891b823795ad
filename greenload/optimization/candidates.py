"""Which plans there are of a pipeline, for a training: those that a search may choose among."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from greenload.backends.native import library
from greenload.backends.native.cache import planned_cache
from greenload.backends.tables import TABLES
from greenload.errors import PipelineError
from greenload.machine import processors
from greenload.optimization.records import Candidate
from greenload.optimization.training import Training
from greenload.optimization.variants import WORDS, Variant, keeping, keeping_in_tf_data, relaxed, shrunk, streaming
from greenload.planning import cost_table
from greenload.planning.cache_form import sized_steps
from greenload.planning.choose import PRICED_BATCH, Placement, choose, placed, possible_placements, unit_of, usable
from greenload.planning.cost_table import Costs
from greenload.planning.prices import Price, price, work_of
from greenload.planning.sizes import SizedSteps
from greenload.plans.pipeline import Pipeline
from greenload.plans.plan import Expected, Plan, image_bytes
from greenload.sources import Arrays

MOST = 60
"""Options, at most."""
MIXED, MIXED_KEEPING = 3, 1
"""Placements on several backends, at most, of a pipeline that keeps nothing, and of one that keeps something."""
MIXED_COSTS, MIXED_KEEPING_COSTS = 1.15, 1.0
"""What these may be expected to cost, at most, against the best placement on a single backend."""
LEAST_SHARE = 0.01
"""Of the set, that must be expected to fit where something is kept: less can't be told from nothing."""
SHRINKS = 0.8
"""How many of the pixels shrunk images have at most: a cache of more saves next to nothing."""
PREFETCH = 2


@dataclass(frozen=True)
class Option:
    """A plan that may be chosen."""

    plan: Plan
    """Ready for ``gl.load``."""
    candidate: Candidate
    """What is known of it before it runs."""


def candidates(pipeline: Pipeline, training: Training, known: Costs | None = None) -> list[Option]:
    """The plans of a pipeline that may feed a training, the cheapest expected first.

    Today's plan is always there, as it is, whatever bounds it breaks: the pipeline as it was given, with
    ``backend="auto"``. The others keep to the bounds of memory and disk. They are

    - the pipeline without its caches, on each backend that does all of it, and on several where that is expected to
      cost hardly more;
    - the same with the native backend's cache in each of its forms, in memory and in the folder, for as much of the set
      as fits; not for ``Arrays``, which are in memory already, nor for one epoch, which reads nothing a second time;
    - the same with tf.data's own caches, where the whole set fits in memory: they have no budget;
    - where allowed, the same with other pixels: see `greenload.optimization.training.RELAXATIONS`.

    All give the pixels that the pipeline gives, those with other pixels aside: ``candidate.changes`` names how.

    Args:
        pipeline: as it was given.
        training: what is to be fed, and the bounds.
        known: the costs to go by; this machine's, else the shipped ones, if not given.

    Returns:
        At most `MOST`. ``expected_cpu_s`` is of later epochs.

    Raises:
        PipelineError: no backend here does the pipeline.
    """
    costs = known or cost_table.in_use(processors())
    able = usable(costs)
    made = [_today(pipeline, training, costs, able)]
    for variant in _variants(pipeline, training):
        made += _options(variant, training, costs, able)
    return _named(_cut(_distinct(made)))


def _variants(pipeline: Pipeline, training: Training) -> Iterator[Variant]:
    """The pipelines that are planned, without today's."""
    for variant in relaxed(streaming(pipeline), training.allow):
        yield variant
        if training.epochs == 1 or isinstance(pipeline.source, Arrays):
            continue
        yield from keeping(variant, ram=training.ram, disk=training.disk, folder=training.folder)
        if training.ram:
            yield from keeping_in_tf_data(variant)
        if "shrunk-cache" in training.allow:
            yield from shrunk(variant, ram=training.ram, disk=training.disk, folder=training.folder)


def _options(variant: Variant, training: Training, costs: Costs, able: Sequence[str]) -> Iterator[Option]:
    """The plans of one pipeline that keep to the bounds, on the placements that are expected to cost least."""
    names = [name for name in able if not (variant.by_tf_data and TABLES[name].traits.keeps_files)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of budgets that hold hardly any image: such plans are left out
        try:
            sizes = sized_steps(variant.pipeline, names)
        except PipelineError:
            return
    if variant.form is not None and not _worth_keeping(variant, sizes):
        return
    possible = possible_placements(variant.pipeline, sizes, costs, names)
    unit = unit_of(possible)
    mixed, most = (MIXED_KEEPING, MIXED_KEEPING_COSTS) if variant.what else (MIXED, MIXED_COSTS)
    for placement in _best(possible, unit, mixed, most):
        plan = placed(variant.pipeline, sizes, placement.steps, threads=training.threads, prefetch=PREFETCH)
        expected = Expected(unit, placement.cost(unit), (), costs.table.label, placement.price.unknown)
        plan = replace(plan, expected=expected)
        candidate = _candidate(plan, placement.label, variant.kept, placement.price.cpu_s)
        if candidate.ram_bytes <= training.ram and candidate.disk_bytes <= training.disk:
            yield Option(plan, replace(candidate, changes=variant.changes))


def _worth_keeping(variant: Variant, sizes: SizedSteps) -> bool:
    """Whether the native backend keeps what a pipeline says, and that isn't the same as another form."""
    keeps = next((step.keeps for step in sizes.steps if step.keeps), None)
    if keeps is None or (keeps.share is not None and keeps.share < LEAST_SHARE):
        return False
    if "shrunk-cache" in variant.changes:
        whole = sized_steps(streaming(variant.pipeline), ()).decoded
        return sizes.decoded <= SHRINKS * whole
    if variant.form in ("transcoded", "coefficients", "planes") and not sizes.kinds.get("JPEG"):
        return False  # of other files the pixels are kept, or the files
    return variant.form != "coefficients" or library.has_vectors()  # without them it saves nothing


def _best(possible: Sequence[Placement], unit: str, mixed: int, most: float) -> list[Placement]:
    """Of placements, the cheapest first: the best on each single backend, and the best few on several.

    Args:
        possible: the placements.
        unit: what they are compared in.
        mixed: how many on several backends.
        most: what these may cost against the best on a single backend.
    """
    kinds: dict[tuple[tuple[str, ...], int], Placement] = {}
    for placement in possible:
        kinds.setdefault((placement.backends, placement.segments), placement)
    single = [placement for placement in kinds.values() if placement.segments == 1]
    limit = min((most * placement.cost(unit) for placement in single), default=float("inf"))
    several = [p for p in kinds.values() if p.segments > 1 and p.cost(unit) <= limit]
    return [*single, *several[:mixed]]


def _today(pipeline: Pipeline, training: Training, costs: Costs, able: Sequence[str]) -> Option:
    """The plan of the pipeline as it was given."""
    sizes = sized_steps(pipeline, able)
    plan = choose(pipeline, sizes, costs, able, threads=training.threads, prefetch=PREFETCH)
    cost = price(work_of(plan.steps, PRICED_BATCH if pipeline.batch else None, sizes.kinds), costs)
    label = Placement(plan.steps, plan.backends or (plan.backend,), len(plan.segments), cost or _UNPRICED).label
    keeps = planned_cache(plan)
    kept = ""
    if keeps is not None:
        kept = f"{WORDS.get(keeps.form, keeps.form)} {'on disk' if keeps.path else 'in memory'}"
    elif any(step.kind == "cache" for step in plan.steps):
        last = next(step for step in reversed(plan.steps) if step.kind == "cache")
        kept = f"{'files' if last.spec_in.encoded else 'images'} in memory (tf.data)"
    candidate = _candidate(plan, label, kept, None if cost is None else cost.cpu_s)
    return Option(plan, replace(candidate, today=True))


_UNPRICED = Price(0.0, None, ())


def _candidate(plan: Plan, backends: str, kept: str, cpu_s: float | None) -> Candidate:
    """What is known of a plan before it runs."""
    keeps, count = planned_cache(plan), len(plan.pipeline.source)
    ram = disk = 0.0
    share = 1.0
    if keeps is None:  # tf.data's own caches keep everything
        held = [image_bytes(step.spec_in, step.size_in) for step in plan.steps if step.kind == "cache"]
        ram = count * sum(size if size is not None else float("inf") for size in held)
    else:
        budget = float("inf") if keeps.budget is None else float(keeps.budget)
        holds = budget if keeps.set_bytes is None else min(budget, keeps.set_bytes)
        share = 1.0 if keeps.share is None else keeps.share
        ram, disk = (0.0, holds) if keeps.path else (holds, 0.0)
    return Candidate(
        name="",
        backends=backends,
        kept=kept,
        share=share,
        threads=plan.threads,
        prefetch=plan.prefetch,
        ram_bytes=ram,
        disk_bytes=disk,
        expected_cpu_s=cpu_s,
    )


def _distinct(options: Sequence[Option]) -> list[Option]:
    """Each plan once. Where today's plan is one of the others, that is today's."""
    distinct: list[Option] = []
    for option in options:
        if not any(_same(option.plan, other.plan) for other in distinct):
            distinct.append(option)
    return distinct


def _same(plan: Plan, other: Plan) -> bool:
    """Whether two plans of one source do the same. A user's stages need not be hashable."""
    return plan.steps == other.steps and plan.pipeline.stages == other.pipeline.stages


def _cut(options: Sequence[Option]) -> list[Option]:
    """The options that are expected to cost least, with today's and the best that keeps nothing, in that order."""

    def expected(option: Option) -> tuple[float, float, int]:
        candidate = option.candidate
        cost = float("inf") if candidate.expected_cpu_s is None else candidate.expected_cpu_s
        return cost, candidate.ram_bytes + candidate.disk_bytes, len(option.plan.backends)

    ordered = sorted(options, key=expected)
    plain = next((one for one in ordered if not one.candidate.kept and not one.candidate.changes), None)
    stays = [one for one in ordered if one.candidate.today or one is plain]
    chosen = [*stays, *(one for one in ordered if one not in stays)][:MOST]
    return sorted(chosen, key=expected)


_SAID = {"antialias": "no antialias", "float16": "float16", "shrunk-cache": ""}


def _named(options: Sequence[Option]) -> list[Option]:
    """The options, each with a name of its own: today's plan says so where another has the same."""
    counts = Counter(_name(option.candidate) for option in options)
    seen: Counter[str] = Counter()
    named = []
    for option in options:
        candidate = option.candidate
        name = _name(candidate)
        if counts[name] > 1 and candidate.today:
            name = _name(candidate, "as given")
        else:
            seen[name] += 1
            name = _name(candidate, f"plan {seen[name]}") if seen[name] > 1 else name
        named.append(replace(option, candidate=replace(candidate, name=name)))
    return named


def _name(candidate: Candidate, which: str = "") -> str:
    said = [_SAID[change] for change in candidate.changes]
    threads = f"{candidate.threads} thread{'s' if candidate.threads > 1 else ''}"
    return ", ".join(part for part in (candidate.backends, candidate.kept, *said, which, threads) if part)
